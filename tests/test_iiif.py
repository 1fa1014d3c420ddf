"""The IIIF Image API: the public validator's verdict, and each part of a path."""

from __future__ import annotations

import asyncio
import json
import math
import os
from collections.abc import AsyncIterator
from importlib import resources
from io import BytesIO
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
import pytest
import tifffile
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image as Pillow
from yarl import URL

from gputiles import style
from gputiles.errors import BadRequest
from gputiles.geometry import Grid, Rect
from gputiles.iiif import (
    Limits,
    Parts,
    canonical,
    level_sizes,
    limits,
    parse,
    parse_identifier,
    parse_region,
    parse_rotation,
    parse_size,
)
from gputiles.image import Frame, ImageInfo
from gputiles.request import View
from tests.grids import FILES, Client, corners, pixels, serving, serving_shared, shown_tiles
from tests.test_http import find

INFO = ImageInfo(Grid(1000, 600, 256, 256), (True,) * 3, np.dtype(np.uint8))
PICTURE = np.random.default_rng(6).integers(0, 255, (200, 300, 3)).astype(np.uint8)
CHANNELS = np.random.default_rng(7).integers(0, 4096, (3, 200, 300)).astype(np.uint16)
MOST = Limits(1 << 26)


@pytest.mark.parametrize(
    ("text", "region"),
    [
        ("full", Rect(0, 0, 1000, 600)),
        ("square", Rect(200, 0, 600, 600)),
        ("10,20,30,40", Rect(10, 20, 30, 40)),
        ("990,590,30,40", Rect(990, 590, 10, 10)),
        ("pct:10,50,10,50", Rect(100, 300, 100, 300)),
        ("pct:0.05,0,50,50", Rect(0, 0, 500, 300)),
    ],
)
def test_regions(text: str, region: Rect) -> None:
    assert parse_region(text, INFO) == region


@pytest.mark.parametrize(
    "text", ["", "1,2,3", "1,2,3,x", "1,2,0,5", "1000,0,1,1", "-1,0,5,5", "pct:1,2,3", "1.5,0,5,5"]
)
def test_regions_that_are_none(text: str) -> None:
    with pytest.raises(BadRequest, match="region"):
        parse_region(text, INFO)


@pytest.mark.parametrize(
    ("text", "version", "size"),
    [
        ("max", 3, (400, 200)), ("full", 2, (400, 200)), ("200,", 3, (200, 100)), (",50", 3, (100, 50)),
        ("pct:25", 3, (100, 50)), ("100,100", 3, (100, 100)), ("!100,100", 3, (100, 50)),
        ("^800,", 3, (800, 400)), ("800,", 2, (800, 400)), ("^!800,800", 3, (800, 400)),
        ("^pct:200", 3, (800, 400)), ("!400,900", 3, (400, 200)), ("!800,800", 2, (800, 400)),
        ("3,", 3, (3, 2)), ("1,", 3, (1, 1)), ("^max", 3, (400, 200)), ("max", 2, (400, 200)),
        ("^10,10", 3, (10, 10)),
    ],
)  # fmt: skip
def test_sizes(text: str, version: int, size: tuple[int, int]) -> None:
    assert parse_size(text, Rect(0, 0, 400, 200), INFO, version, MOST) == size


@pytest.mark.parametrize(
    "text",
    [
        "", ",", "0,", ",0", "5,0", "800,", ",300", "800,100", "full", "!1,", "!,1", "!800,800", "!0,5",
        "pct:0", "pct:200", "pct:", "pct:x", "x,", "1,2,3", "-5,", "^^5,", "^full", "^9999999999999,",
    ],
)  # fmt: skip
def test_sizes_that_are_none(text: str) -> None:
    with pytest.raises(BadRequest, match="size"):
        parse_size(text, Rect(0, 0, 400, 200), INFO, 3, MOST)


def test_the_width_of_a_tile_at_the_rim_gives_the_height_of_its_pixels_there() -> None:
    info = ImageInfo(Grid(2609, 3424, 256, 256), (True,) * 5, np.dtype(np.uint8))
    rim = Rect(2048, 0, 561, 2048)  # 70.1 pixels wide at an eighth: the aspect of 71 makes 259
    assert parse_size("71,", rim, info, 2, MOST) == (71, 256)
    assert parse_size(",256", rim, info, 3, MOST) == (71, 256)
    whole = Rect(0, 0, 2609, 3424)
    assert [parse_size(f"{width},", whole, info, 2, MOST) for width in (164, 327)] == [(164, 214), (327, 428)]
    column = Rect(2048, 0, 1, 512)  # a tile at a half, as wide as at full resolution
    narrow = ImageInfo(Grid(2049, 3424, 256, 256), (True,) * 5, np.dtype(np.uint8))
    assert parse_size("1,", column, narrow, 2, MOST) == (1, 256)
    assert parse_size("1,", Rect(2048, 0, 1, 256), narrow, 2, MOST) == (1, 256)
    beside = Rect(2047, 0, 561, 2048)  # of no level's whole pixels
    assert parse_size("71,", beside, info, 2, MOST) == (71, 259)


def test_max_keeps_within_the_limits_and_enlarges_nothing() -> None:
    region = Rect(0, 0, 400, 200)
    assert parse_size("max", region, INFO, 3, Limits(20_000)) == (200, 100)
    assert parse_size("^max", region, INFO, 3, Limits(320_000)) == (400, 200)
    assert parse_size("max", region, INFO, 3, Limits(320_000, side=100)) == (100, 50)
    assert parse_size("^!9999,9999", region, INFO, 3, Limits(320_000, side=600)) == (600, 300)
    with pytest.raises(BadRequest, match="at most 600 pixels on a side and 320000 in all"):
        parse_size("^601,", region, INFO, 3, Limits(320_000, side=600))


@given(st.integers(1, 1 << 31), st.integers(1, 1 << 31), st.integers(1, 1 << 26), st.integers(1, 70_000))
def test_the_largest_size_is_allowed_and_the_next_of_its_aspect_is_not(
    width: int, height: int, area: int, side: int
) -> None:
    most = Limits(area, side)
    across, down = most.fit(width, height)
    assert most.allow(across, down)
    assert most.fit(height, width) == (down, across)
    longer, shorter = max(width, height), min(width, height)
    more = max(across, down) + 1
    assert not most.allow(more, -(-more * shorter // longer))


@pytest.mark.parametrize(
    ("dtype", "frames", "style_", "area"),
    [
        ("u1", 1, None, 1 << 26),
        ("u2", 40, None, 1 << 26),  # the default look has four
        ("f8", 40, None, 1 << 25),
        ("u2", 40, {"bands": [{"frame": frame} for frame in range(40)]}, (1 << 30) // 80),
        ("u2", 40, {"bands": [{"frame": 3}] * 40}, 1 << 26),
        ("u1", 40, {"bands": []}, 1 << 26),
    ],
)
def test_the_largest_area_is_what_the_values_of_all_frames_have_room_for(
    dtype: str, frames: int, style_: object, area: int
) -> None:
    info = ImageInfo(
        Grid(1000, 600, 256, 256), (True,) * 3, np.dtype(dtype), frames=(Frame(),) * frames,
        axes=(("C", frames),),
    )  # fmt: skip
    view = View(style=None if style_ is None else style.parse(style_))
    assert limits(info, view, 1 << 26, 1 << 30).area == area


# What a path says, spoken in words of its grammar: regions and sizes that need not exist.
NUMBERS = st.integers(0, 1300)
REGIONS = st.one_of(
    st.sampled_from(["full", "square", "pct:10,20,30.5,40", "512,0,256,512", "768,512,232,88"]),
    st.tuples(NUMBERS, NUMBERS, NUMBERS, NUMBERS).map(lambda numbers: ",".join(map(str, numbers))),
)
SIZES = st.one_of(
    st.sampled_from(["max", "^max", "full", "pct:33.3", "^pct:150", "29,"]),
    st.tuples(st.sampled_from(["", "^", "!", "^!"]), NUMBERS, NUMBERS).map(lambda s: f"{s[0]}{s[1]},{s[2]}"),
    st.tuples(st.sampled_from(["", "^"]), NUMBERS).map(lambda s: f"{s[0]}{s[1]},"),
    st.tuples(st.sampled_from(["", "^"]), NUMBERS).map(lambda s: f"{s[0]},{s[1]}"),
)


@given(
    REGIONS,
    SIZES,
    st.sampled_from(["0", "90", "!180", "360", "270.0"]),
    st.sampled_from(["default", "color", "gray", "bitonal"]),
    st.sampled_from([2, 3]),
    st.sampled_from([Limits(1 << 26), Limits(90_000, 400)]),
)
def test_a_canonical_path_means_the_same_and_is_its_own(
    region: str, size: str, rotation: str, quality: str, version: int, most: Limits
) -> None:
    parts = Parts(region, size, rotation, quality, "jpg")
    try:
        wanted = parse(parts, INFO, View(), version, most)
    except BadRequest:
        return  # such paths have no canonical one; what they are is tested above
    assert most.allow(wanted.width, wanted.height)
    path = canonical(wanted, INFO, parts, version, most)
    *words, last = path.split("/")
    again = Parts(*words, *last.split("."))
    assert parse(again, INFO, View(), version, most) == wanted
    assert canonical(wanted, INFO, again, version, most) == path


@given(shown_tiles())
def test_tiles_consist_of_whole_pixels_of_their_level_and_of_the_finer_ones(
    drawn: tuple[ImageInfo, tuple[int, int, int], Rect],
) -> None:
    info, (z, x, y), region = drawn
    place = info.grid.rect(z, x, y)
    assert level_sizes(region, info)[info.levels - 1 - z] == (place.width, place.height)


@pytest.mark.parametrize(
    ("text", "item", "given_"),
    [
        ("abc", "abc", {}),
        ("abc;frame=2", "abc", {"frame": "2"}),
        ("abc;style=@1f;frame=2", "abc", {"style": "@1f", "frame": "2"}),
        ('abc;style={"channel":"a;b=c"};frame=2', "abc", {"style": '{"channel":"a;b=c"}', "frame": "2"}),
        ("abc;style=", "abc", {"style": ""}),
    ],
)
def test_identifiers_carry_a_style_and_a_frame(text: str, item: str, given_: dict[str, str]) -> None:
    assert parse_identifier(text) == (item, given_)


@pytest.mark.parametrize("text", ["abc;", "abc;colour=red", "abc;frame=1;frame=2", ";;frame=1", "abc;style"])
def test_identifiers_that_are_none(text: str) -> None:
    with pytest.raises(BadRequest, match="identifier: expected an id"):
        parse_identifier(text)


@pytest.mark.parametrize("text", ["", "45", "x", "-90", "!!90", "450", "1e2"])
def test_rotations_that_are_none(text: str) -> None:
    with pytest.raises(BadRequest, match="rotation"):
        parse_rotation(text)


# -- over HTTP


@pytest.fixture
async def client(tmp_path: Path) -> AsyncIterator[Client]:
    tifffile.imwrite(tmp_path / "rgb.tif", PICTURE, photometric="rgb", tile=(128, 128), compression="zlib")
    names = {"axes": "CYX", "Channel": {"Name": ["DAPI", "a/b;c%d", "CD8"]}}
    tifffile.imwrite(tmp_path / "multi.ome.tif", CHANNELS, tile=(128, 128), metadata=names)
    tifffile.imwrite(tmp_path / "wide.tif", np.zeros((2, 70_000), np.uint8), rowsperstrip=2)
    async with serving(tmp_path) as client:
        yield client


@pytest.mark.parametrize(
    ("rotation", "turn"),
    [
        ("0", lambda a: a),
        ("90", lambda a: np.rot90(a, -1)),
        ("180", lambda a: a[::-1, ::-1]),
        ("270", lambda a: np.rot90(a, 1)),
        ("!0", lambda a: a[:, ::-1]),
        ("!90", lambda a: np.rot90(a[:, ::-1], -1)),
    ],
)
async def test_pictures_are_turned(client: Client, rotation: str, turn: Any) -> None:
    item = await find(client, "rgb.tif")
    for format in ("png", "tif"):
        found = await pixels(client, f"/iiif/3/{item}/10,20,100,50/max/{rotation}/default.{format}")
        assert np.array_equal(found, turn(PICTURE[20:70, 10:110]))


async def test_qualities_take_the_colour_away(client: Client) -> None:
    item = await find(client, "rgb.tif")
    grey = await pixels(client, f"/iiif/3/{item}/full/max/0/gray.png")
    luma = (PICTURE.astype(int) @ [19595, 38470, 7471] + 32768) >> 16
    assert np.array_equal(grey, luma)
    assert np.array_equal(
        await pixels(client, f"/iiif/2/{item}/full/full/0/bitonal.png"), (luma >= 128) * 255
    )
    assert (await pixels(client, f"/iiif/3/{item}/full/max/0/gray.jpg")).ndim == 2


async def test_an_identifier_may_carry_a_style(client: Client) -> None:
    item = await find(client, "rgb.tif")
    style = json.dumps({"bands": [{"band": 2, "min": 0, "max": 255, "palette": "#00f"}]})
    found = await pixels(client, f"/iiif/3/{quote(f'{item};style={style}', safe='')}/full/max/0/default.png")
    assert np.array_equal(found[..., 2], PICTURE[..., 1])
    posted = await (await client.post("/styles", data=style)).json()
    again = await pixels(client, f"/iiif/3/{item};style=@{posted['id']};frame=0/full/max/0/default.png")
    assert np.array_equal(found, again)
    assert (await client.get(f"/iiif/3/{item};colour=red/info.json")).status == 400


async def test_links_lead_to_the_same_picture_by_its_canonical_path(client: Client) -> None:
    item = await find(client, "rgb.tif")
    for version, size in ((2, "150,"), (3, "150,100")):
        path = f"/iiif/{version}/{item}/pct:0,0,100,100/!150,150/0/color.png"
        answer = await client.get(path)
        canonical = str(client.make_url(f"/iiif/{version}/{item}/full/{size}/0/default.png"))
        assert f'<{canonical}>;rel="canonical"' in answer.headers["Link"]
        assert await (
            await client.get(canonical.removeprefix(str(client.make_url("")).rstrip("/")))
        ).read() == (await answer.read())
        held = await client.get(path, headers={"If-None-Match": answer.headers["ETag"]})
        assert held.status == 304


async def test_the_base_leads_to_the_information(client: Client) -> None:
    item = await find(client, "rgb.tif")
    answer = await client.get(f"/iiif/3/{item};frame=0", allow_redirects=False)
    there = str(client.make_url(f"/iiif/3/{item};frame=0/info.json"))
    assert (answer.status, answer.headers["Location"]) == (303, there)
    facts = await (await client.get(f"/iiif/3/{item};frame=0")).json()
    assert facts["id"] == there.removesuffix("/info.json")


@pytest.mark.parametrize("version", [2, 3])
async def test_information_is_json_that_names_its_context_or_json_ld(client: Client, version: int) -> None:
    path = f"/iiif/{version}/{await find(client, 'rgb.tif')}/info.json"
    context = f"http://iiif.io/api/image/{version}/context.json"
    plain = await client.get(path)
    assert plain.headers["Content-Type"] == "application/json"
    assert f'<{context}>;rel="http://www.w3.org/ns/json-ld#context"' in plain.headers["Link"]
    linked = await client.get(path, headers={"Accept": "application/ld+json"})
    assert linked.headers["Content-Type"] == f'application/ld+json;profile="{context}"'
    assert "json-ld#context" not in linked.headers["Link"]
    for answer in (plain, linked):
        assert f'<http://iiif.io/api/image/{version}/level2.json>;rel="profile"' in answer.headers["Link"]
        assert answer.headers["Access-Control-Allow-Origin"] == "*"
        assert "Accept" in answer.headers["Vary"].split(", ")
    assert await plain.json() == await linked.json(content_type=None)


async def test_information_says_what_the_image_is_and_how_large_its_pictures_may_be(client: Client) -> None:
    item = await find(client, "rgb.tif")
    base = str(client.make_url(f"/iiif/3/{item}"))
    third = await (await client.get(f"/iiif/3/{item}/info.json")).json()
    assert {name: third[name] for name in ("@context", "id", "type", "protocol", "profile")} == {
        "@context": "http://iiif.io/api/image/3/context.json",
        "id": base,
        "type": "ImageService3",
        "protocol": "http://iiif.io/api/image",
        "profile": "level2",
    }
    second = await (await client.get(f"/iiif/2/{item}/info.json")).json()
    level, more = second["profile"]
    assert (second["@id"], level) == (
        base.replace("/3/", "/2/"),
        "http://iiif.io/api/image/2/level2.json",
    )
    for facts, largest in ((third, third), (second, more)):
        assert (facts["width"], facts["height"]) == (300, 200)
        assert [(size["width"], size["height"]) for size in facts["sizes"]] == [
            (75, 50),
            (150, 100),
            (300, 200),
        ]
        assert facts["tiles"] == [{"width": 128, "height": 128, "scaleFactors": [1, 2, 4]}]
        assert (largest["maxWidth"], largest["maxHeight"], largest["maxArea"]) == (65500, 65500, 1 << 26)


async def test_max_is_what_a_jpeg_can_be_of_images_that_are_wider(client: Client) -> None:
    item = await find(client, "wide.tif")
    facts = await (await client.get(f"/iiif/3/{item}/info.json")).json()
    assert {"width": 70_000, "height": 2} not in facts["sizes"]
    for version, size in ((2, "full"), (3, "max")):
        picture = await pixels(client, f"/iiif/{version}/{item}/full/{size}/0/default.jpg")
        assert picture.shape == (1, 65_500)
    refused = await client.get(f"/iiif/3/{item}/full/70000,/0/default.jpg")
    assert (refused.status, "at most 65500 pixels" in (await refused.json())["message"]) == (400, True)


@pytest.mark.parametrize("rotation", ["0", "90", "!0"])
async def test_a_tif_shows_what_a_png_does_and_not_the_stored_values(client: Client, rotation: str) -> None:
    for name in ("multi.ome.tif", "rgb.tif"):
        item = await find(client, name)
        shown, same = [
            await pixels(client, f"/iiif/3/{item}/full/max/{rotation}/default.{format}")
            for format in ("png", "tif")
        ]
        assert same.dtype == np.uint8
        assert np.array_equal(shown, same)
    region = await client.get(f"/item/{item}/tiles/region?encoding=TIFF")
    assert np.array_equal(tifffile.imread(BytesIO(await region.read())), PICTURE)


async def test_a_style_in_an_identifier_may_hold_what_paths_and_identifiers_are_parted_by(
    client: Client,
) -> None:
    item = await find(client, "multi.ome.tif")
    style = json.dumps({"channel": "a/b;c%d", "min": 0, "max": 4095, "palette": "#fff"})
    identifier = quote(f"{item};style={style}", safe="")
    shown = await pixels(client, f"/iiif/3/{identifier}/full/max/0/default.png")
    wanted = await client.get(f"/item/{item}/tiles/region", params={"style": style, "encoding": "PNG"})
    assert np.array_equal(shown, np.asarray(Pillow.open(BytesIO(await wanted.read()))))
    facts = await (await client.get(f"/iiif/3/{identifier}/info.json")).json()
    again = f"{URL(facts['id'], encoded=True).raw_path}/full/max/0/default.png"
    assert np.array_equal(await pixels(client, again), shown)


@pytest.mark.parametrize(
    ("sent", "named"),
    [
        (b'abc;style={"min":0}', "abc;style=%7B%22min%22:0%7D"),
        (b"abc>;style=<", "abc%3E;style=%3C"),
    ],
)
async def test_what_a_client_left_raw_is_encoded_in_addresses(
    client: Client, sent: bytes, named: str
) -> None:
    url = client.make_url("")
    reader, writer = await asyncio.open_connection(url.host, url.port)
    writer.write(b"GET /iiif/3/" + sent + b" HTTP/1.1\r\nHost: a.example\r\nConnection: close\r\n\r\n")
    head = (await reader.read()).decode()
    writer.close()
    await writer.wait_closed()
    assert head.startswith("HTTP/1.1 303 ")
    assert f"Location: http://a.example/iiif/3/{named}/info.json\r\n" in head


async def test_a_frame_in_an_identifier_is_shown_alone(client: Client) -> None:
    item = await find(client, "multi.ome.tif")
    shown = await pixels(client, f"/iiif/3/{item};frame=2/full/max/0/default.png")
    low, high = (np.percentile(CHANNELS[2], share) for share in (0.1, 99.9))
    grey = np.clip((CHANNELS[2] - low) / (high - low), 0, 1) * 255
    assert shown.ndim == 2
    assert np.abs(shown - grey).max() <= 2


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("{item};frame=3/info.json", 404),
        ("{item};frame=3/full/max/0/default.jpg", 404),
        ("{item};frame=x/info.json", 400),
        ('{item};style={{"channel":"CD4"}}/info.json', 400),
        ('{item};style={{"channel":"CD4"}}/full/max/0/default.jpg', 400),
        ("{item};style=@0123/info.json", 400),
        ("{item};colour=red/info.json", 400),
        ("0123456789abcdef01234567/info.json", 404),
        ("0123456789abcdef01234567/full/max/0/default.jpg", 404),
        ("{item}/full/max/0/default.gif", 400),
        ("{item}/full/max/0/grey.jpg", 400),
        ("{item}/full/max/45/default.jpg", 400),
        ("{item}/full/full/0/default.jpg", 400),
        ("{item}/300,0,5,5/max/0/default.jpg", 400),
        ("{item}/full/max/0/default", 404),
        ("{item}/full/max/default.jpg", 404),
    ],
)
async def test_what_is_no_image_request_is_refused(client: Client, path: str, status: int) -> None:
    path = quote(path.format(item=await find(client, "multi.ome.tif")), safe="/;=,@")
    answer = await client.get(f"/iiif/3/{path}")
    assert (answer.status, "message" in await answer.json()) == (status, True)


async def test_the_test_pattern_is_an_image_too(client: Client) -> None:
    facts = await (await client.get("/iiif/3/test/info.json")).json()
    picture = await pixels(client, "/iiif/3/test/full/300,/0/default.png")
    assert picture.shape[1] == 300
    assert facts["sizes"]


@pytest.mark.parametrize("name", FILES)
async def test_every_size_and_tile_that_information_promises_is_there_to_the_pixel(name: str) -> None:
    async with serving_shared(name) as (client, item):
        facts = await (await client.get(f"/iiif/3/{item}/info.json")).json()
        metadata = await (await client.get(f"/item/{item}/tiles")).json()
        width, height = facts["width"], facts["height"]
        assert (width, height) == (metadata["sizeX"], metadata["sizeY"])
        for size in facts["sizes"]:
            sides = size["width"], size["height"]
            for version, wanted in ((3, "{0},{1}"), (2, "{0},"), (2, "{0},{1}")):
                path = f"/iiif/{version}/{item}/full/{wanted.format(*sides)}/0/default.png"
                assert (await pixels(client, path)).shape[1::-1] == sides
        (tile,) = facts["tiles"]
        assert len(tile["scaleFactors"]) == metadata["levels"]
        for factor in tile["scaleFactors"]:
            z = metadata["levels"] - 1 - int(math.log2(factor))
            steps = tile["width"] * factor, tile["height"] * factor
            for x, y in corners(
                *(math.ceil(side / step) for side, step in zip((width, height), steps, strict=True))
            ):
                left, top = x * steps[0], y * steps[1]
                sides = min(steps[0], width - left), min(steps[1], height - top)
                small = [math.ceil(side / factor) for side in sides]
                region = f"{left},{top},{sides[0]},{sides[1]}"
                same = await pixels(client, f"/item/{item}/tiles/zxy/{z}/{x}/{y}?encoding=PNG&edge=crop")
                for version, size in ((3, f"{small[0]},{small[1]}"), (2, f"{small[0]},")):
                    found = await pixels(client, f"/iiif/{version}/{item}/{region}/{size}/0/default.png")
                    assert np.array_equal(found, same), (version, factor, x, y)


@pytest.mark.parametrize("version", ["V2", "V3"])
async def test_the_public_validator_finds_nothing_wrong(tmp_path: Path, version: str) -> None:
    if not os.environ.get("CI"):  # there nothing is skipped
        pytest.importorskip(
            "iiif_validator.tests.test", reason="needs iiif-validator-ng and pyvips", exc_type=ImportError
        )
    from iiif_validator.tests import test as validator

    picture = np.asarray(
        Pillow.open(BytesIO(resources.files("iiif_validator").joinpath("validation_image.png").read_bytes()))
    )
    tifffile.imwrite(tmp_path / "validation.tif", picture[..., :3], photometric="rgb", tile=(256, 256))
    async with serving(tmp_path) as client:
        item = await find(client, "validation.tif")
        number = {"V2": 2, "V3": 3}[version]
        server = validator.TargetServer(
            str(client.make_url(f"/iiif/{number}")),
            validation_id=item,
            version=validator.IIIFVersion[version],
        )
        verdicts = await asyncio.to_thread(verdicts_of, validator, server)
    assert len(verdicts) > 30
    assert [verdict for verdict in verdicts if "Failure" in verdict] == []


def verdicts_of(validator: Any, server: Any) -> list[str]:
    """Run the validator's tests of level 2, and of what the server says it can beyond."""
    features = server.feature_set()
    extra = {*features.extra_features, *features.extra_formats, *features.extra_qualities}
    verdicts = []
    for test in validator.get_tests(server.version):
        level = test.compliance_level
        level = level[server.version] if isinstance(level, dict) else level
        names = test.extra_name or []
        names = [names] if isinstance(names, str) else names
        if level > features.compliance_level and not extra & {*names}:
            continue
        found = test.run(server)
        verdicts += [f"{test.__name__}: {each}" for each in (found if isinstance(found, list) else [found])]
    return verdicts
