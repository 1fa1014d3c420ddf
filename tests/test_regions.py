"""Regions: what their bounds mean, and that their pixels are the image's."""

from __future__ import annotations

from collections.abc import AsyncIterator
from io import BytesIO
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import imagecodecs
import numpy as np
import pytest
import tifffile
from aiohttp.test_utils import TestClient, TestServer
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image as Pillow

from gputiles.app import create_app
from gputiles.arrays import file_of
from gputiles.config import Config
from gputiles.encoded import Format
from gputiles.errors import BadRequest
from gputiles.geometry import Grid, Rect
from gputiles.image import ImageInfo
from gputiles.regions import RegionQuery, resolve
from tests.grids import assert_refused
from tests.test_http import find

Client = TestClient[Any, Any]
INFO = ImageInfo(
    Grid(1000, 600, 256, 256), (True,) * 3, np.dtype(np.uint8), mm_x=0.0005, mm_y=0.00025, magnification=20
)

RESOLVED = [
    # query, region, size
    ({}, (0, 0, 1000, 600), (1000, 600)),
    ({"left": 10, "top": 20, "right": 110, "bottom": 70}, (10, 20, 100, 50), (100, 50)),
    ({"left": 10, "region_width": 100}, (10, 0, 100, 600), (100, 600)),
    ({"right": 100, "region_width": 40}, (60, 0, 40, 600), (40, 600)),
    ({"left": 10, "right": 900, "region_width": 100}, (10, 0, 100, 600), (100, 600)),
    ({"left": -100, "top": -50}, (900, 550, 100, 50), (100, 50)),
    ({"left": 950, "region_width": 100}, (950, 0, 50, 600), (50, 600)),
    ({"left": -2000, "right": 10}, (0, 0, 10, 600), (10, 600)),
    ({"left": 10.5, "right": 11.5}, (10, 0, 2, 600), (2, 600)),
    ({"left": 0.1, "right": 0.2, "units": "fraction"}, (100, 0, 100, 600), (100, 600)),
    ({"left": 0.05, "right": 0.1, "units": "mm"}, (100, 0, 100, 600), (100, 600)),
    ({"top": 50, "bottom": 100, "units": "um"}, (0, 200, 1000, 200), (1000, 200)),
    ({"width": 500}, (0, 0, 1000, 600), (500, 300)),
    ({"height": 100}, (0, 0, 1000, 600), (166, 100)),
    ({"width": 100, "height": 100}, (0, 0, 1000, 600), (100, 60)),
    ({"right": 10, "bottom": 10, "width": 100}, (0, 0, 10, 10), (100, 100)),
    ({"magnification": 10}, (0, 0, 1000, 600), (500, 300)),
    ({"magnification": 10, "right": 50, "bottom": 30, "units": "pixels"}, (0, 0, 100, 60), (50, 30)),
    ({"mm_x": 0.001}, (0, 0, 1000, 600), (500, 150)),
    ({"left": 0.5, "units": "fraction", "region_width": 100, "size_units": "base_pixels"},
     (500, 0, 100, 600), (100, 600)),
    ({"magnification": 10, "exact": True}, (0, 0, 1000, 600), (500, 300)),
]  # fmt: skip


@pytest.mark.parametrize(("query", "region", "size"), RESOLVED, ids=[str(case[0]) for case in RESOLVED])
def test_bounds_are_resolved(
    query: dict[str, Any], region: tuple[int, int, int, int], size: tuple[int, int]
) -> None:
    found = resolve(RegionQuery(**query), INFO)
    assert (found.region, (found.width, found.height)) == (Rect(*region), size)


@pytest.mark.parametrize(
    ("query", "reason"),
    [
        ({"left": 1000}, "nothing of the image is in it"),
        ({"left": 20, "right": 10}, "nothing of the image is in it"),
        ({"region_width": 0}, "nothing of the image is in it"),
        ({"magnification": 15, "exact": True}, "no level of the image has this scale"),
    ],
)
def test_impossible_regions_are_refused_with_a_reason(query: dict[str, Any], reason: str) -> None:
    with pytest.raises(BadRequest, match=reason):
        resolve(RegionQuery(**query), INFO)


def test_units_that_need_what_the_image_does_not_say_are_refused() -> None:
    bare = ImageInfo(Grid(10, 10, 256, 256), (True,), np.dtype(np.uint8))
    for query, reason in (
        ({"left": 1, "units": "mm"}, "physical size"),
        ({"magnification": 5}, "does not say"),
    ):
        with pytest.raises(BadRequest, match=reason):
            resolve(RegionQuery(**query), bare)  # type: ignore[arg-type]


@given(*(st.one_of(st.none(), st.floats(-3000, 3000)) for _ in range(6)), st.integers(1, 3000))
def test_resolved_regions_lie_inside_the_image(
    left: float | None, top: float | None, right: float | None, bottom: float | None,
    width: float | None, height: float | None, most: int,
) -> None:  # fmt: skip
    query = RegionQuery(left, top, right, bottom, width, height, width=most)
    try:
        found = resolve(query, INFO)
    except BadRequest:
        return
    assert found.region.intersect(Rect(0, 0, 1000, 600)) == found.region
    assert 1 <= found.width <= most
    assert found.height >= 1


@pytest.mark.parametrize("value", [5e-324, 1e-200, 1e-14, 1e11, 1e200, 1.7e308])
@pytest.mark.parametrize("names", [("magnification",), ("mm_x",), ("mm_x", "mm_y")])
@pytest.mark.parametrize("units", ["base_pixels", "pixels"])
def test_scales_beyond_all_reason_are_refused(value: float, names: tuple[str, ...], units: str) -> None:
    info = ImageInfo(
        Grid(900, 700, 128, 128), (True,) * 4, np.dtype(np.uint8), magnification=20.0, mm_x=5e-4, mm_y=5e-4
    )
    query = RegionQuery(left=0, region_width=1e98, units=units, **dict.fromkeys(names, value))
    with pytest.raises(BadRequest, match="expected pixels of at least"):
        resolve(query, info)


# -- over HTTP

FULL = np.random.default_rng(8).integers(0, 60_000, (2, 700, 900)).astype(np.uint16)


@pytest.fixture
async def client(tmp_path: Path) -> AsyncIterator[Client]:
    metadata = {"axes": "CYX", "PhysicalSizeX": 0.5, "PhysicalSizeY": 0.5}
    tifffile.imwrite(tmp_path / "image.ome.tif", FULL, tile=(128, 128), compression="zlib", metadata=metadata)
    config = Config(roots=(tmp_path,), tile_cache=1 << 22, raw_cache=1 << 24, workers=2)
    async with TestClient(TestServer(create_app(config))) as client:
        yield client


async def region(client: Client, query: str) -> tuple[int, bytes]:
    item = await find(client, "image.ome.tif")
    answer = await client.get(f"/item/{item}/tiles/region?{query}")
    return answer.status, await answer.read()


@pytest.mark.parametrize("encoding", ["NPY", "TIFF"])
@pytest.mark.parametrize(
    "bounds", [(0, 0, 900, 700), (100, 50, 356, 178), (127, 129, 130, 131), (899, 699, 900, 700)]
)
async def test_values_are_the_stored_ones_at_full_resolution(
    client: Client, encoding: str, bounds: tuple[int, int, int, int]
) -> None:
    left, top, right, bottom = bounds
    for frame in (0, 1):
        status, data = await region(
            client, f"left={left}&top={top}&right={right}&bottom={bottom}&frame={frame}&encoding={encoding}"
        )
        assert status == 200
        array = np.load(BytesIO(data)) if encoding == "NPY" else tifffile.imread(BytesIO(data))
        assert array.dtype == np.uint16
        assert np.array_equal(array.reshape(bottom - top, right - left), FULL[frame, top:bottom, left:right])


async def test_a_styled_region_is_the_same_in_every_encoding(client: Client) -> None:
    query = 'left=10&top=20&right=310&bottom=220&style={"min":0,"max":60000,"palette":"%2300ff80"}&encoding='
    pictures = []
    for encoding in ("PNG", "TIFF", "NPY"):
        status, data = await region(client, query + encoding)
        assert status == 200
        opened = np.load(BytesIO(data)) if encoding == "NPY" else np.asarray(Pillow.open(BytesIO(data)))
        pictures.append(opened[..., :3])
    assert pictures[0].shape == (200, 300, 3)
    assert all(np.array_equal(pictures[0], other) for other in pictures[1:])


async def test_a_halved_region_is_the_mean_of_its_blocks(client: Client) -> None:
    status, data = await region(
        client, "left=100&top=200&right=356&bottom=328&width=128&encoding=NPY&frame=0"
    )
    assert status == 200
    blocks = FULL[0, 200:328, 100:356].astype(float).reshape(64, 2, 128, 2).mean(axis=(1, 3))
    assert np.array_equal(np.load(BytesIO(data))[..., 0], np.rint(blocks))


async def test_a_region_larger_than_allowed_is_refused(client: Client) -> None:
    status, data = await region(client, "width=12000&encoding=NPY")
    assert status == 413
    assert b"at most 67108864 pixels; got 12000 x 9333" in data


@pytest.mark.parametrize(
    ("query", "reason"),
    [
        ("units=parsecs", "units: expected one of"),
        ("left=abc", "left: expected a number"),
        ("width=0", "width: expected an integer, at least 1"),
        ("left=900", "nothing of the image is in it"),
        ("magnification=-1", "above 0"),
        ("encoding=GIF", "Invalid encoding"),
        ("width=90&height=90&fill=nothing", "fill: expected a colour"),
    ],
)
async def test_bad_regions_are_refused(client: Client, query: str, reason: str) -> None:
    status, data = await region(client, query)
    assert (status, reason in data.decode()) == (400, True), data


async def test_regions_have_entity_tags_and_are_kept(client: Client) -> None:
    item = await find(client, "image.ome.tif")
    path = f"/item/{item}/tiles/region?right=50&bottom=50"
    first = await client.get(path)
    again = await client.get(path)
    held = await client.get(path, headers={"If-None-Match": first.headers["ETag"]})
    assert (first.status, again.headers["X-Cache"], held.status) == (200, "encoded-hit", 304)


async def test_frames_that_take_too_much_together_are_refused(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gputiles.renderer.MOST_BYTES", 900 * 700 * 2)
    both = '&style={"bands":[{"frame":0},{"frame":1}]}'
    status, data = await region(client, "encoding=PNG" + both)
    assert (status, b"of 2 frames are 2520000 bytes; at most 1260000" in data) == (413, True)
    assert (await region(client, "encoding=PNG&width=450" + both))[0] == 200
    assert (await region(client, "encoding=NPY"))[0] == 200


@pytest.mark.parametrize("path", ["region", "thumbnail"])
@pytest.mark.parametrize(("fill", "top"), [("corner:%230f0", 0), ("%230f0", 10), ("none", None), ("", None)])
async def test_a_fill_makes_a_picture_exactly_as_large_as_asked_for(
    client: Client, path: str, fill: str, top: int | None
) -> None:
    """The image is 900 × 700: within 90 × 90 it is 90 × 70."""
    base = f"/item/{await find(client, 'image.ome.tif')}/tiles/{path}?width=90&height=90&encoding=PNG&frame=1"
    whole = await _picture(client, base)
    filled = await _picture(client, f"{base}&fill={fill}")
    if top is None:
        assert np.array_equal(filled, whole)
        return
    assert (whole.shape, filled.shape) == ((70, 90), (90, 90, 3))
    assert np.array_equal(filled[top : top + 70], np.repeat(whole[..., None], 3, axis=2))
    assert (np.delete(filled, np.s_[top : top + 70], axis=0) == (0, 255, 0)).all()
    one_side = await _picture(client, base.replace("&height=90", "") + f"&fill={fill}")
    assert one_side.shape == whole.shape


async def _picture(client: Client, url: str) -> NDArray[np.uint8]:
    answer = await client.get(url)
    assert answer.status == 200, await answer.text()
    return np.asarray(Pillow.open(BytesIO(await answer.read())))


@pytest.mark.parametrize("fill", ["red", "corner:#00f", "#0000"])
async def test_filled_regions_lie_where_large_image_puts_them(
    client: Client, tmp_path: Path, fill: str
) -> None:
    oracle = pytest.importorskip("large_image_source_ometiff", reason="needs the extra 'conformance'")
    source = oracle.open(str(tmp_path / "image.ome.tif"))
    bounds = {"left": 100, "top": 40, "right": 300, "bottom": 640}
    theirs, _ = source.getRegion(
        region=bounds, output={"maxWidth": 200, "maxHeight": 700}, fill=fill, encoding="PNG", frame=0
    )
    query = {
        **bounds,
        "width": 200,
        "height": 700,
        "fill": fill,
        "frame": 0,
        "encoding": "PNG",
        "style": "{}",
    }
    url = f"/item/{await find(client, 'image.ome.tif')}/tiles/region?{urlencode(query)}"
    answer = await client.get(url)
    ours, other = (
        np.asarray(Pillow.open(BytesIO(data)).convert("RGBA")).astype(int)
        for data in (await answer.read(), theirs)
    )
    assert np.abs(ours - other).max() <= 1


@pytest.mark.parametrize("samples", [1, 2, 3, 4])
@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
@pytest.mark.parametrize("size", [(1, 1), (1, 40), (30, 1), (33, 47)])
def test_a_png_of_values_is_exact(size: tuple[int, int], dtype: str, samples: int) -> None:
    values = np.random.default_rng(samples).integers(0, np.iinfo(dtype).max, (*size, samples), dtype)
    decoded = imagecodecs.apng_decode(file_of(values, Format.PNG))
    assert decoded.dtype == dtype
    assert np.array_equal(decoded.reshape(values.shape), values)


@pytest.mark.parametrize("path", ["zxy/3/1/2", "region?left=128&top=256&right=256&bottom=384"])
async def test_png16_holds_the_stored_values(client: Client, path: str) -> None:
    item = await find(client, "image.ome.tif")
    url = f"/item/{item}/tiles/{path}{'&' if '?' in path else '?'}frame=1&encoding="
    answer = await client.get(f"{url}PNG16")
    assert (answer.status, answer.content_type) == (200, "image/png")
    assert np.array_equal(imagecodecs.apng_decode(await answer.read()), FULL[1, 256:384, 128:256])
    colours = await client.get(f"{url}PNG")
    assert imagecodecs.apng_decode(await colours.read()).dtype == np.uint8
    assert colours.headers["ETag"] != answer.headers["ETag"]
    await assert_refused(await client.get(f"{url}PNG16&style={{}}"), 400, "PNG16 holds the stored values")


async def test_a_thumbnail_as_png16_holds_the_values_of_the_resized_image(client: Client) -> None:
    item = await find(client, "image.ome.tif")
    for size in ((900, 700), (225, 175)):
        url = f"/item/{item}/tiles/thumbnail?frame=1&width={size[0]}&height={size[1]}&encoding="
        values, stored = [await (await client.get(url + name)).read() for name in ("PNG16", "NPY")]
        found = imagecodecs.apng_decode(values)
        assert found.dtype == np.uint16
        assert np.array_equal(found, np.load(BytesIO(stored))[..., 0])
        assert size != (900, 700) or np.array_equal(found, FULL[1])


async def test_png16_of_other_types_is_refused(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "float.tif", np.zeros((20, 30), np.float32))
    async with TestClient(TestServer(create_app(Config(roots=(tmp_path,), workers=1)))) as client:
        item = await find(client, "float.tif")
        answer = await client.get(f"/item/{item}/tiles/region?encoding=PNG16")
        await assert_refused(answer, 400, "uint8 or uint16 of 1 to 4 samples; the values are float32 of 1")
