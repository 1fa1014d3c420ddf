"""Sheets of frames: where each frame lies and what it shows; and the plans of viewers' textures."""

from __future__ import annotations

import json
import math
from collections.abc import AsyncIterator
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from aiohttp.test_utils import TestClient
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image as Pillow

from gputiles import frames
from gputiles.errors import BadRequest, LimitExceeded, NotFound
from gputiles.frames import Fill, lay_out, parse_fill
from gputiles.geometry import Grid, Rect
from gputiles.image import Frame, ImageInfo
from gputiles.quads import NAMES, QuadQuery, quad_info
from gputiles.regions import RegionQuery
from tests.grids import assert_refused, serving, serving_shared
from tests.test_http import find

Client = TestClient[Any, Any]
RNG = np.random.default_rng(5)
STACK = RNG.integers(0, 255, (7, 300, 400)).astype(np.uint8)
DEEP = RNG.integers(0, 4000, (2, 3, 200, 260)).astype(np.uint16)
BLACK = Fill((0, 0, 0, 255), corner=True)


def info_of(
    width: int = 1000, height: int = 600, axes: tuple[tuple[str, int], ...] = (("C", 7),)
) -> ImageInfo:
    grid = Grid(width, height, 256, 256)
    count = math.prod(length for _, length in axes)
    return ImageInfo(grid, (True,) * grid.levels, np.dtype(np.uint8), frames=(Frame(),) * count, axes=axes)


# -- layouts

SHEETS = [
    # asked, frames, across, fill, (across, cell, sheet)
    ({}, [0], None, None, (1, (1000, 600), (1000, 600))),
    ({"width": 100}, None, None, None, (3, (100, 60), (300, 180))),
    ({"width": 100, "height": 100}, None, None, None, (3, (100, 60), (300, 180))),
    ({"width": 100, "height": 100}, None, None, BLACK, (3, (100, 100), (300, 300))),
    ({"width": 100}, None, None, BLACK, (3, (100, 60), (300, 180))),
    ({"width": 100}, [6, 1], None, None, (2, (100, 60), (200, 60))),
    ({"width": 100}, [6, 1, 1, 1], 3, None, (3, (100, 60), (300, 120))),
    ({"width": 100}, [6, 1], 50, None, (2, (100, 60), (200, 60))),
    ({"right": 10, "bottom": 20}, [1, 2, 3], 1, None, (1, (10, 20), (10, 60))),
]  # fmt: skip


@pytest.mark.parametrize(("asked", "chosen", "across", "fill", "found"), SHEETS)
def test_frames_lie_in_a_grid(
    asked: dict[str, Any], chosen: list[int] | None, across: int | None, fill: Fill | None, found: Any
) -> None:
    sheet = lay_out(RegionQuery(**asked), info_of(), chosen, across, fill)
    assert (sheet.across, sheet.cell, (sheet.width, sheet.height)) == found
    assert sheet.frames == tuple(range(7) if chosen is None else chosen)


@given(
    st.integers(1, 40), st.none() | st.integers(1, 50), st.integers(1, 90), st.integers(1, 90), st.booleans()
)
def test_no_frame_covers_another_and_all_lie_in_the_sheet(
    count: int, across: int | None, width: int, height: int, corner: bool
) -> None:
    image = info_of(axes=(("Z", count),))
    sheet = lay_out(
        RegionQuery(width=width, height=height), image, None, across, replace(BLACK, corner=corner)
    )
    rects = [sheet.rect(at) for at in range(count)]
    whole = Rect(0, 0, sheet.width, sheet.height)
    assert all(rect.intersect(whole) == rect for rect in rects)
    assert not any(one.intersect(other) for at, one in enumerate(rects) for other in rects[:at])
    assert sheet.height // height * sheet.across - count < sheet.across  # no row is empty


@pytest.mark.parametrize(
    ("text", "fill"),
    [
        ("", None), ("none", None), ("black", Fill((0, 0, 0, 255))), ("#f008", Fill((255, 0, 0, 136))),
        ("corner:white", Fill((255, 255, 255, 255), corner=True)),
        ("Corner:#00f", Fill((0, 0, 255, 255), corner=True)),
    ],
)  # fmt: skip
def test_fills_are_colours_and_may_start_at_a_corner(text: str, fill: Fill | None) -> None:
    assert parse_fill(text) == fill


def test_sheets_that_cannot_be_are_refused() -> None:
    with pytest.raises(BadRequest, match="fill: expected a colour"):
        parse_fill("corner:colour")
    with pytest.raises(NotFound, match=r"^Frame does not exist$"):
        lay_out(RegionQuery(), info_of(), [0, 7], None, None)
    with pytest.raises(LimitExceeded, match="make 30000 x 18000"):
        lay_out(RegionQuery(width=10_000), info_of(), None, None, None)


def test_a_sheet_has_the_colours_and_the_alpha_of_any_of_its_frames() -> None:
    request = lay_out(RegionQuery(right=2, bottom=1), info_of(), [0, 1, 2], 2, None)
    grey = np.full((1, 2, 1), 9, np.uint8)
    misty = np.array([[[1, 128], [2, 0]]], np.uint8)
    red = np.array([[[255, 0, 0], [254, 0, 0]]], np.uint8)
    assert frames.picture(request, [grey] * 3).shape == (2, 4, 1)
    assert frames.picture(request, [grey, grey, red])[:, :2].tolist() == [
        [[9] * 3] * 2,
        [[255, 0, 0], [254, 0, 0]],
    ]
    sheet = frames.picture(request, [grey, misty, red])
    assert sheet[0].tolist() == [[9, 9, 9, 255]] * 2 + [[1, 1, 1, 128], [2, 2, 2, 0]]
    assert sheet[1].tolist() == [[255, 0, 0, 255], [254, 0, 0, 255], [0] * 4, [0] * 4]
    filled = replace(request, fill=Fill((0, 0, 255, 255)))
    assert frames.picture(filled, [grey] * 3)[1, 3].tolist() == [0, 0, 255]


# -- sheets over HTTP


@pytest.fixture
async def client(tmp_path: Path) -> AsyncIterator[Client]:
    options: dict[str, Any] = {"tile": (128, 128), "photometric": "minisblack"}
    tifffile.imwrite(tmp_path / "stack.ome.tif", STACK, metadata={"axes": "CYX"}, **options)
    tifffile.imwrite(tmp_path / "deep.ome.tif", DEEP, metadata={"axes": "ZCYX"}, **options)
    async with serving(tmp_path) as client:
        yield client


async def fetch(client: Client, name: str, route: str, **query: Any) -> NDArray[Any]:
    item = await find(client, name)
    answer = await client.get(f"/item/{item}/tiles/{route}", params={"encoding": "PNG", **query})
    data = await answer.read()
    assert answer.status == 200, data
    return (
        np.load(BytesIO(data)) if query.get("encoding") == "NPY" else np.asarray(Pillow.open(BytesIO(data)))
    )


async def test_a_sheet_shows_all_frames_row_by_row(client: Client) -> None:
    sheet = await fetch(client, "stack.ome.tif", "tile_frames", left=30, top=50, right=100, bottom=110)
    assert sheet.shape == (3 * 60, 3 * 70)
    for at in range(7):
        row, column = divmod(at, 3)
        cell = sheet[row * 60 : row * 60 + 60, column * 70 : column * 70 + 70]
        assert np.array_equal(cell, STACK[at, 50:110, 30:100])
    assert not sheet[120:, 70:].any()


STYLES: dict[str, Any] = {
    "default": None,
    "one band": {"min": 100, "max": 3000, "palette": ["#000", "#f0f"]},
    "another frame": {"bands": [{"framedelta": 1, "min": 0, "max": 4000, "palette": "#0f0"}]},
    "automatic": {"bands": [{"min": "auto", "max": "max:0.01"}]},
}


@pytest.mark.parametrize("look", STYLES)
@pytest.mark.parametrize("encoding", ["PNG", "JPEG"])
async def test_each_frame_looks_as_it_does_alone(client: Client, look: str, encoding: str) -> None:
    query = {"width": 104, "height": 80, "encoding": encoding}  # cells of whole blocks of a JPEG
    if STYLES[look] is not None:
        query["style"] = json.dumps(STYLES[look])
    sheet = await fetch(client, "deep.ome.tif", "tile_frames", frameList="4,0,1", framesAcross=2, **query)
    assert sheet.shape[:2] == (160, 208)
    for at, frame in enumerate((4, 0, 1)):
        row, column = divmod(at, 2)
        alone = await fetch(client, "deep.ome.tif", "region", frame=frame, **query)
        assert alone.shape[:2] == (80, 104)
        cell = sheet[row * 80 : row * 80 + 80, column * 104 : column * 104 + 104]
        assert np.array_equal(cell, alone)


async def test_without_a_style_arrays_hold_the_stored_values(client: Client) -> None:
    sheet = await fetch(
        client, "deep.ome.tif", "tile_frames", encoding="NPY", frameList="[5,2]", framesAcross=1
    )
    assert np.array_equal(sheet[..., 0], np.concatenate([DEEP[1, 2], DEEP[0, 2]]))
    shown = await fetch(
        client, "deep.ome.tif", "tile_frames", encoding="NPY", frameList="5", style='{"min":0,"max":4000}'
    )
    assert shown.dtype == np.uint8


@pytest.mark.parametrize(("fill", "top"), [("corner:#0f0", 0), ("#0f0", 12)])
async def test_a_fill_makes_cells_as_large_as_asked_for(client: Client, fill: str, top: int) -> None:
    query = {"width": 100, "height": 100}
    sheet = await fetch(client, "stack.ome.tif", "tile_frames", fill=fill, framesAcross=4, **query)
    alone = await fetch(client, "stack.ome.tif", "region", frame=5, **query)
    assert (sheet.shape, alone.shape) == ((200, 400, 3), (75, 100))
    cell = sheet[100:, 100:200]
    assert np.array_equal(cell[top : top + 75], np.repeat(alone[..., None], 3, axis=2))
    around = np.concatenate([cell[:top], cell[top + 75 :], sheet[100:, 300:].reshape(-1, 100, 3)])
    assert (around == (0, 255, 0)).all()


@pytest.mark.parametrize(
    ("query", "options"),
    [
        ({"width": 100, "height": 100}, {}),
        ({"width": 100, "height": 100, "fill": "corner:black"}, {"fill": "corner:black"}),
        ({"width": 100, "height": 100, "fill": "red", "framesAcross": 2}, {"fill": "red", "framesAcross": 2}),
        ({"width": 1000, "frameList": "0,3,5"}, {"frameList": [0, 3, 5]}),
        ({"frameList": "6"}, {"frameList": [6]}),
    ],
)
async def test_sheets_have_the_size_that_large_image_gives_them(
    client: Client, tmp_path: Path, query: dict[str, Any], options: dict[str, Any]
) -> None:
    oracle = pytest.importorskip("large_image_source_ometiff", reason="needs the extra 'conformance'")
    output = {f"max{side.title()}": query[side] for side in ("width", "height") if side in query}
    theirs, _ = oracle.open(str(tmp_path / "stack.ome.tif")).tileFrames(
        encoding="PNG", output=output, **options
    )
    ours = await fetch(client, "stack.ome.tif", "tile_frames", **query)
    assert ours.shape[:2] == np.asarray(Pillow.open(BytesIO(theirs))).shape[:2]


async def test_sheets_are_kept_and_known_by_their_tags(client: Client) -> None:
    path = f"/item/{await find(client, 'stack.ome.tif')}/tiles/tile_frames?width=50"
    first, second = await client.get(path), await client.get(path)
    assert (second.headers["X-Cache"], await second.read()) == ("encoded-hit", await first.read())
    tag = first.headers["ETag"]
    assert (await client.get(path, headers={"If-None-Match": tag})).status == 304
    others = ["&framesAcross=2", "&frameList=0,1", "&encoding=PNG", "&frameList=0,0", "&left=200"]
    others += [f"&height=50&fill={fill}" for fill in ("red", "blue", "corner:red")]
    answers = [first, *[await client.get(path + other) for other in others]]
    assert [answer.status for answer in answers] == [200] * len(answers)
    assert len({answer.headers["ETag"] for answer in answers}) == len(answers)
    assert len({await answer.read() for answer in answers}) == len(answers)


@pytest.mark.parametrize(
    ("query", "status", "reason"),
    [
        ("frameList=0,9", 404, "Frame does not exist"),
        ("frameList=-1", 404, "Frame does not exist"),
        ("frameList=a", 400, "frameList: expected"),
        ("framesAcross=0", 400, "framesAcross: expected"),
        ("fill=nothing", 400, "fill: expected a colour"),
        ("width=100000", 413, "width and height: at most"),
        ("left=500", 400, "nothing of the image is in it"),
        ("style=[", 400, "Style is not a valid json object"),
        ('style={"bands":[{"framedelta":3}]}', 404, "Frame does not exist"),
    ],
)
async def test_sheets_that_cannot_be_say_why(client: Client, query: str, status: int, reason: str) -> None:
    answer = await client.get(f"/item/{await find(client, 'stack.ome.tif')}/tiles/tile_frames?{query}")
    await assert_refused(answer, status, reason)


async def test_stored_values_of_more_bytes_than_a_region_may_have_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "samples.tif"
    tifffile.imwrite(path, np.zeros((64, 64, 18), np.uint8), photometric="minisblack", planarconfig="contig")
    async with serving(path) as client:
        base = f"/item/{await find(client, 'samples.tif')}/tiles/tile_frames?width=8192"
        answer = await client.get(f"{base}&encoding=NPY")
        assert (answer.status, "are 1207959552 bytes" in await answer.text()) == (413, True)


# -- plans of textures

AXES = (("C", 4), ("Z", 6))


def cells_of(plan: dict[str, Any]) -> list[list[Rect]]:
    """Return the quads' places in their textures, y downwards, by what a texture's sheet says."""
    count = [plan["quadsToIdx"].count(texture) for texture in range(len(plan["src"]))]
    places: list[list[Rect]] = [[] for _ in plan["src"]]
    for texture, quad in zip(plan["quadsToIdx"], plan["quads"], strict=True):
        source, crop = plan["src"][texture], quad["crop"]
        height = math.ceil(count[texture] / source["framesAcross"]) * source["height"]
        size = crop["right"] - crop["left"], crop["bottom"] - crop["top"]
        places[texture].append(Rect(crop["left"], height - crop["bottom"], *size))
    return places


QUERIES = st.builds(
    QuadQuery,
    base=st.integers(0, 3),
    stride=st.integers(1, 5) | st.sampled_from(["c", "z", "t"]),
    group=st.integers(1, 6) | st.sampled_from(["c", "z", "xy"]),
    group_factor=st.floats(0.5, 8),
    group_stride=st.integers(1, 5) | st.just("auto"),
    texture_size=st.integers(64, 20_000),
    textures=st.integers(1, 9),
    total_pixels=st.integers(1 << 14, 1 << 30),
    alignment=st.sampled_from([1, 2, 8, 16, 32]),
    frame_size=st.none() | st.integers(32, 3000),
)


@given(QUERIES, st.integers(1, 40_000), st.integers(1, 40_000), st.integers(1, 60))
def test_every_frame_is_in_one_texture_at_the_place_that_its_quad_says(
    query: QuadQuery, width: int, height: int, count: int
) -> None:
    image = info_of(width, height, (("C", 4), ("Z", count)))
    try:
        plan = quad_info(query, image)
    except LimitExceeded:
        cells = (min(query.texture_size, math.isqrt(query.total_pixels), 8192) // query.alignment) ** 2
        assert cells < 4 * count
        return
    stride = plan["options"]["frameStride"]
    assert sorted(plan["frames"]) == list(range(query.base, 4 * count, stride))  # type: ignore[arg-type]
    assert plan["framesToIdx"] == {str(frame): at for at, frame in enumerate(plan["frames"])}
    assert len(plan["quads"]) == len(plan["frames"]) == len(plan["quadsToIdx"])
    assert len(plan["src"]) <= query.textures
    area, pixels = 0, 0
    for texture, places in enumerate(cells_of(plan)):
        source = plan["src"][texture]
        mine = [f for f, at in zip(plan["frames"], plan["quadsToIdx"], strict=True) if at == texture]
        assert source.get("frameList", list(range(4 * count))) == mine
        asked = RegionQuery(width=source["width"], height=source["height"])
        sheet = lay_out(asked, image, mine, source["framesAcross"], parse_fill(source["fill"]))
        assert [sheet.rect(at) for at in range(len(mine))] == places
        assert max(sheet.width, sheet.height) <= min(query.texture_size, 8192)
        assert source["width"] % query.alignment == source["height"] % query.alignment == 0
        assert query.frame_size is None or max(source["width"], source["height"]) <= query.frame_size
        area, pixels = area + len(places), pixels + sheet.width * sheet.height
    assert (area, pixels <= query.total_pixels) == (len(plan["frames"]), True)
    level = image.grid.size(plan["minLevel"])
    shown = places[0]
    assert plan["minLevel"] == 0 or (level[0] <= shown.width and level[1] <= shown.height)
    if plan["minLevel"] < image.levels - 1:
        finer = image.grid.size(plan["minLevel"] + 1)
        assert finer[0] > shown.width or finer[1] > shown.height


OPTIONS: list[dict[str, Any]] = [
    {},
    {"frameStride": 4},
    {"frameStride": "c"},
    {"frameBase": 1, "frameStride": 2},
    {"maxTextures": 4, "maxTextureSize": 1024},
    {"maxFrameSize": 250},
    {"frameGroup": 4, "maxTextures": 6, "frameGroupStride": 4},
    {"frameGroup": 5, "maxTextures": 4},
    {"frameGroup": "c", "maxTextures": 4, "frameGroupStride": "auto", "frameStride": 2},
    {"frameStride": "t"},
    {"alignment": 8, "maxTextureSize": 1000},
    {"format": {"encoding": "PNG"}, "query": {"style": "{}"}},
    {"maxTotalTexturePixels": 1 << 20, "maxTextures": 3},
    {"frameBase": "c", "frameStride": "c"},
]
OURS = {theirs: ours for ours, theirs in NAMES.items()}


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("size", [(10_000, 7000), (400, 300), (30_000, 1000), (900, 5000)])
def test_plans_say_what_large_images_say_and_show_frames_no_smaller(
    options: dict[str, Any], size: tuple[int, int]
) -> None:
    utilities = pytest.importorskip(
        "large_image.tilesource.utilities", reason="needs the extra 'conformance'"
    )
    image = info_of(*size, AXES)
    ours = quad_info(QuadQuery(**{OURS[name]: value for name, value in options.items()}), image)
    theirs = utilities.getTileFramesQuadInfo(ours["metadata"], dict(options))
    assert ours.keys() == theirs.keys()
    assert ours["options"].keys() == theirs["options"].keys()
    for one, other in zip(ours["src"], theirs["src"], strict=False):
        assert one.keys() | {"frameList"} == other.keys() | {"frameList"}
        assert {key: one[key] for key in ("fill", "exact", "encoding")} == {
            key: other[key] for key in ("fill", "exact", "encoding")
        }
        assert one["width"] * one["height"] >= other["width"] * other["height"] * 0.9
    if "quads" in theirs:
        assert sorted(ours["frames"]) == sorted(theirs["frames"])
        assert ours["quads"][0].keys() == theirs["quads"][0].keys()
        assert (ours["quads"][0]["ul"], ours["quads"][0]["lr"]) == (
            theirs["quads"][0]["ul"],
            theirs["quads"][0]["lr"],
        )
        assert shown_area(ours) >= shown_area(theirs)
        grouped = len(ours["src"]) > 1 and len(theirs["src"]) > 1
        assert ours["frames"] == theirs["frames"] or not grouped


def shown_area(plan: dict[str, Any]) -> int:
    crop = plan["quads"][0]["crop"]
    return int((crop["right"] - crop["left"]) * (crop["bottom"] - crop["top"]))


@given(QUERIES, st.integers(2, 40))
def test_textures_hold_whole_groups_unless_that_makes_frames_too_small(query: QuadQuery, depth: int) -> None:
    query = replace(query, texture_size=4096, total_pixels=1 << 30, base=0, stride=1)
    image = info_of(5000, 4000, (("C", 4), ("Z", depth)))
    plan = quad_info(query, image)
    group = plan["options"]["frameGroup"]
    sizes = [plan["quadsToIdx"].count(texture) for texture in range(len(plan["src"]))]
    if any(size % group for size in sizes[:-1]):
        alone = quad_info(replace(query, group=1), image)
        assert shown_area(plan) == shown_area(alone)
        kept = quad_info(replace(query, group_factor=1e9), image)
        assert cell_area(plan) > query.group_factor * cell_area(kept)
    if group > 1 and len(sizes) > 1:
        step = plan["options"]["frameGroupStride"]
        assert plan["frames"] == sorted(plan["frames"], key=lambda frame: (frame % step, frame))


def cell_area(plan: dict[str, Any]) -> int:
    return int(plan["src"][0]["width"] * plan["src"][0]["height"])


def test_frames_that_the_file_lacks_are_in_no_texture() -> None:
    plan = quad_info(QuadQuery(), replace(info_of(), missing=frozenset({2, 6})))
    assert plan["frames"] == plan["src"][0]["frameList"] == [0, 1, 3, 4, 5]
    assert plan["metadata"]["missing"] == [2, 6]


@pytest.mark.parametrize(
    ("query", "reason"),
    [
        ({"base": 7}, "frameBase: expected a frame that is there, below 7; got 7"),
        ({"stride": 0}, "frameStride: expected at least 1, or one of c, z, t, xy; got 0"),
        ({"stride": "q"}, "frameStride: expected a number or one of c, z, t, xy; got 'q'"),
        ({"group": -2}, "frameGroup: expected at least 1"),
        ({"base": "auto"}, "frameBase: expected a number"),
        ({"alignment": 9000}, "alignment: expected 1 to 8192"),
        ({"frame_size": 8}, "maxFrameSize: expected at least the alignment, 16; got 8"),
    ],
)
def test_plans_that_cannot_be_are_refused(query: dict[str, Any], reason: str) -> None:
    with pytest.raises(BadRequest, match=reason):
        quad_info(QuadQuery(**query), info_of())


def test_more_frames_than_textures_have_room_for_are_refused() -> None:
    with pytest.raises(LimitExceeded, match="400 frames do not fit into 1 x 256 x 256 pixels"):
        quad_info(QuadQuery(texture_size=256), info_of(axes=(("Z", 400),)))


@pytest.mark.parametrize(
    ("name", "query"),
    [
        ("cases/ome_40ch_subifd.ome.tif", {"maxTextures": "3", "maxTextureSize": "1024", "frameGroup": "7"}),
        ("data/libvips__multi-channel-z-series.ome.tif", {"frameGroup": "c", "maxTextureSize": "1000"}),
        ("data/viv__multi-channel.ome.tif", {"frameStride": "2", "maxFrameSize": "200"}),
    ],
)
async def test_what_quads_cut_out_of_the_textures_is_each_frame(name: str, query: dict[str, str]) -> None:
    async with serving_shared(name) as (client, item):
        base = f"/item/{item}/tiles"
        asked = {**query, "format": '{"encoding": "PNG"}'}
        answer = await client.get(f"{base}/tile_frames/quad_info", params=asked)
        assert answer.status == 200, await answer.text()
        plan = await answer.json()
        textures = []
        for source in plan["src"]:
            sent = {key: str(value).lower().replace(" ", "") for key, value in source.items()}
            texture = await client.get(f"{base}/tile_frames", params=sent)
            assert texture.status == 200, await texture.text()
            textures.append(np.asarray(Pillow.open(BytesIO(await texture.read()))))
        for at, frame in enumerate(plan["frames"]):
            texture, crop = textures[plan["quadsToIdx"][at]], plan["quads"][at]["crop"]
            rows = len(texture) - crop["bottom"], len(texture) - crop["top"]
            cut = texture[rows[0] : rows[1], crop["left"] : crop["right"]]
            size = {"width": plan["src"][0]["width"], "height": plan["src"][0]["height"]}
            alone = await client.get(f"{base}/region", params={"frame": frame, "encoding": "PNG", **size})
            assert np.array_equal(cut, np.asarray(Pillow.open(BytesIO(await alone.read()))))


@pytest.mark.parametrize(
    ("query", "status", "reason"),
    [
        ({"format": "[]"}, 400, "format: expected a JSON object"),
        ({"query": "{"}, 400, "query: expected a JSON object"),
        ({"maxTextures": "0"}, 400, "maxTextures: expected an integer"),
        ({"frameStride": "half"}, 400, "frameStride: expected a number or one of"),
        ({"frameGroupFactor": "x"}, 400, "frameGroupFactor: expected a number"),
        ({"maxTextureSize": "16"}, 413, "do not fit"),
    ],
)
async def test_plans_are_refused_over_http_with_a_reason(
    client: Client, query: dict[str, str], status: int, reason: str
) -> None:
    item = await find(client, "stack.ome.tif")
    answer = await client.get(f"/item/{item}/tiles/tile_frames/quad_info", params=query)
    await assert_refused(answer, status, reason)
