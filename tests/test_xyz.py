"""XYZ and TileJSON: that what is described is there, and where addresses lead."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from hypothesis import given
from hypothesis import strategies as st

from gputiles import xyz
from gputiles.geometry import Grid, Rect
from gputiles.image import ImageInfo
from gputiles.request import RegionRequest
from tests.grids import FILES, Client, assert_refused, corners, pixels, serving, serving_shared, shown_tiles
from tests.test_http import find

PICTURE = np.random.default_rng(5).integers(0, 255, (300, 517, 3)).astype(np.uint8)


@pytest.fixture
async def client(tmp_path: Path) -> AsyncIterator[Client]:
    tifffile.imwrite(tmp_path / "rgb.tif", PICTURE, photometric="rgb", tile=(128, 128), compression="zlib")
    async with serving(tmp_path) as client:
        yield client


def local(client: Client, address: str) -> str:
    """Return the path of an address on the client's server."""
    origin = str(client.make_url("")).rstrip("/")
    assert address.startswith(f"{origin}/")
    return address.removeprefix(origin)


def on_the_map(longitude: float, latitude: float) -> tuple[float, float]:
    """Return the place in web Mercator's square (0 … 1), as viewers of maps compute it."""
    angle = math.radians(latitude)
    return (longitude + 180) / 360, (1 - math.asinh(math.tan(angle)) / math.pi) / 2


@given(
    st.integers(1, 200_000), st.integers(1, 200_000), st.sampled_from([(256, 256), (240, 512), (1024, 256)])
)
def test_a_viewer_of_maps_finds_the_tiles_that_exist_inside_of_the_bounds(
    width: int, height: int, tile: tuple[int, int]
) -> None:
    info = ImageInfo(Grid(width, height, *tile), (True,) * 30, np.dtype(np.uint8))
    west, south, east, north = xyz.describe(info, "")["bounds"]
    assert on_the_map(west, north) == pytest.approx((0, 0), abs=1e-9)
    right, bottom = on_the_map(east, south)
    for z in range(info.levels):
        columns, rows = info.grid.tiles(z)
        assert math.ceil(right * 2**z - 1e-6) == columns
        assert math.ceil(bottom * 2**z - 1e-6) == rows


@given(shown_tiles())
def test_a_region_that_a_tile_shows_is_that_tile(
    drawn: tuple[ImageInfo, tuple[int, int, int], Rect],
) -> None:
    info, (z, x, y), region = drawn
    place = info.grid.rect(z, x, y)
    size = place.width, place.height
    found = xyz.tile_of(RegionRequest(region, *size), info)
    assert found is not None
    assert (info.grid.rect(found.z, found.x, found.y).width, found.edge.crop) == (place.width, True)
    if min(size) > 1:  # narrower ones are the same at several levels
        assert (found.z, found.x, found.y) == (z, x, y)
    assert xyz.tile_of(RegionRequest(region, size[0] + 1, size[1]), info) is None
    beside = Rect(region.x + 1, region.y, region.width, region.height)
    assert xyz.tile_of(RegionRequest(beside, *size), info) is None


async def test_a_deep_zoom_or_iiif_tile_that_the_file_stores_is_sent_as_stored(tmp_path: Path) -> None:
    options: dict[str, Any] = {"photometric": "ycbcr", "compression": "jpeg", "tile": (128, 128)}
    tifffile.imwrite(tmp_path / "stored.tif", PICTURE, subsampling=(1, 1), **options)
    async with serving(tmp_path) as client:
        item = await find(client, "stored.tif")
        stored = await client.get(f"/item/{item}/tiles/zxy/3/1/1?edge=crop")
        own = await stored.read()
        assert stored.headers["X-Cache"] == "passthrough"
        for path in (
            f"/item/{item}/tiles/dzi_files/10/1_1.jpg?tilesize=128",
            f"/iiif/3/{item}/128,128,128,128/max/0/default.jpg",
            f"/iiif/2/{item}/128,128,128,128/128,/0/default.jpg",
            f"/xyz/{item}/3/1/1.jpg?edge=crop",
        ):
            answer = await client.get(path)
            assert (answer.headers["X-Cache"], await answer.read()) == ("encoded-hit", own), path
        turned = await client.get(f"/iiif/3/{item}/128,128,128,128/max/90/default.jpg")
        assert turned.headers["X-Cache"] == "miss"


@pytest.mark.parametrize("name", FILES)
async def test_every_level_that_tilejson_promises_is_there_up_to_its_last_tile(name: str) -> None:
    async with serving_shared(name) as (client, item):
        facts = await (await client.get(f"/xyz/{item}/tilejson.json?format=npy")).json()
        metadata = await (await client.get(f"/item/{item}/tiles")).json()
        assert (facts["width"], facts["height"]) == (metadata["sizeX"], metadata["sizeY"])
        template, full = local(client, facts["tiles"][0]), (facts["tileHeight"], facts["tileWidth"])
        assert facts["minzoom"] == 0
        for z in range(facts["maxzoom"] + 1):
            scale = 1 << (facts["maxzoom"] - z)
            columns, rows = (-(-facts[side] // (facts[tile] * scale)) for side, tile in
                             (("width", "tileWidth"), ("height", "tileHeight")))  # fmt: skip
            for x, y in corners(columns, rows):
                answer = await client.get(template.format(z=z, x=x, y=y))
                assert answer.status == 200, (z, x, y, await answer.text())
                assert np.load(BytesIO(await answer.read())).shape[:2] == full
            for x, y in ((columns, 0), (0, rows)):
                assert (await client.get(template.format(z=z, x=x, y=y))).status == 404
        beyond = template.format(z=facts["maxzoom"] + 1, x=0, y=0)
        assert (await client.get(beyond)).status == 404


async def test_tiles_are_those_of_the_item_and_the_query_goes_on_to_them(client: Client) -> None:
    item = await find(client, "rgb.tif")
    style = '{"min":10,"max":200,"palette":"#0f0"}'
    query = {"style": style, "format": "png", "edge": "crop"}
    facts = await (await client.get(f"/xyz/{item}/tilejson.json", params=query)).json()
    assert (facts["tilejson"], facts["scheme"], facts["minzoom"], facts["maxzoom"]) == ("3.0.0", "xyz", 0, 3)
    path = local(client, facts["tiles"][0].format(z=3, x=4, y=2))
    tile, same = (
        await client.get(path),
        await client.get(
            f"/item/{item}/tiles/zxy/3/4/2", params={"style": style, "encoding": "PNG", "edge": "crop"}
        ),
    )
    assert (tile.status, tile.headers["ETag"]) == (200, same.headers["ETag"])
    assert await tile.read() == await same.read()
    assert (await pixels(client, path)).shape[:2] == (300 - 256, 517 - 512)


async def test_each_suffix_is_an_encoding(client: Client) -> None:
    item = await find(client, "rgb.tif")
    expected = PICTURE[128:256, 128:256]
    kinds = {"jpg": "jpeg", "jpeg": "jpeg", "png": "png", "tif": "tiff", "tiff": "tiff", "PNG": "png"}
    for suffix, kind in kinds.items():
        answer = await client.get(f"/xyz/{item}/3/1/1.{suffix}")
        assert answer.content_type == f"image/{kind}"
        if kind != "jpeg":
            assert np.array_equal(await pixels(client, f"/xyz/{item}/3/1/1.{suffix}"), expected)
    values = np.load(BytesIO(await (await client.get(f"/xyz/{item}/3/1/1.npy")).read()))
    assert np.array_equal(values, expected)


async def test_a_tile_asked_for_again_is_answered_from_memory(client: Client) -> None:
    item = await find(client, "rgb.tif")
    path = f"/xyz/{item}/3/1/1.png?style=%7B%22min%22:0,%22max%22:99%7D"
    first, again = await client.get(path), await client.get(path)
    assert again.headers["X-Cache"] == "encoded-hit"
    assert again.headers["ETag"] == first.headers["ETag"]
    held = await client.get(path, headers={"If-None-Match": first.headers["ETag"]})
    assert held.status == 304


@pytest.mark.parametrize(
    ("path", "status", "reason"),
    [
        ("9/0/0.png", 404, "z layer"),
        ("0/5/0.png", 404, "x is outside"),
        ("0/0/7.png", 404, "y is outside"),
        ("0/0/0.gif", 400, "suffix: expected one of jpg, jpeg, png, webp, npy, tif, tiff; got 'gif'"),
        ("0/0/a.png", 400, "y: expected an integer"),
        ("0/-1/0.png", 400, "x: expected an integer from 0 on"),
        ("0/0/0.png?frame=9", 404, "Frame"),
        ("tilejson.json?frame=9", 404, "Frame"),
        ("tilejson.json?style=[", 400, "Style"),
        ("tilejson.json?format=gif", 400, "format: expected one of"),
        ("tilejson.json?edge=shiny", 400, "edge"),
    ],
)
async def test_what_is_not_there_is_refused_in_the_description_too(
    client: Client, path: str, status: int, reason: str
) -> None:
    item = await find(client, "rgb.tif")
    answer = await client.get(f"/xyz/{item}/{path}")
    await assert_refused(answer, status, reason)


PROXIED: list[tuple[dict[str, str], str]] = [
    ({}, "{origin}"),
    ({"X-Forwarded-Proto": "https"}, "https://{authority}"),
    ({"X-Forwarded-Host": "tiles.example.org"}, "http://tiles.example.org"),
    (
        {"X-Forwarded-Proto": "https", "X-Forwarded-Host": "a.example:8443, inner:80",
         "X-Forwarded-Prefix": "/slides/v1/"},
        "https://a.example:8443/slides/v1",
    ),
    ({"X-Forwarded-Host": "[2001:db8::1]:80", "X-Forwarded-Prefix": "/"}, "http://[2001:db8::1]:80"),
]  # fmt: skip


@pytest.mark.parametrize(("headers", "base"), PROXIED)
async def test_addresses_are_those_that_a_proxy_was_asked_at(
    client: Client, headers: dict[str, str], base: str
) -> None:
    item = await find(client, "rgb.tif")
    url = client.make_url("")
    base = base.format(origin=url.origin(), authority=url.authority)
    answer = await client.get(f"/xyz/{item}/tilejson.json", headers=headers)
    assert (await answer.json())["tiles"] == [f"{base}/xyz/{item}/{{z}}/{{x}}/{{y}}.jpg"]
    assert {"X-Forwarded-Proto", "X-Forwarded-Host", "X-Forwarded-Prefix"} <= {
        *answer.headers["Vary"].split(", ")
    }
    moved = await client.get(f"/iiif/3/{item}", headers=headers, allow_redirects=False)
    assert moved.headers["Location"] == f"{base}/iiif/3/{item}/info.json"
    facts = await (await client.get(f"/iiif/3/{item}/info.json", headers=headers)).json()
    assert facts["id"] == f"{base}/iiif/3/{item}"
    picture = await client.get(f"/iiif/3/{item}/full/10,10/0/color.png", headers=headers)
    assert f'<{base}/iiif/3/{item}/full/10,10/0/default.png>;rel="canonical"' in picture.headers["Link"]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("X-Forwarded-Proto", "javascript"),
        ("X-Forwarded-Host", "a.example/evil"),
        ("X-Forwarded-Host", "a@b.example"),
        ("X-Forwarded-Host", "[E08be]"),
        ("X-Forwarded-Host", "a.example:65536"),
        ("X-Forwarded-Prefix", "//evil.example"),
        ("X-Forwarded-Prefix", "/a/../b?c"),
    ],
)
async def test_what_is_no_part_of_an_address_is_refused(client: Client, name: str, value: str) -> None:
    item = await find(client, "rgb.tif")
    answer = await client.get(f"/xyz/{item}/tilejson.json", headers={name: value})
    assert (answer.status, (await answer.json())["message"].startswith(f"{name}: expected")) == (400, True)


async def test_the_test_pattern_is_described_with_its_query(client: Client) -> None:
    query: dict[str, Any] = {"sizeX": "1000", "sizeY": "700", "frames": "c=2", "frame": "1", "format": "png"}
    facts = await (await client.get("/xyz/test/tilejson.json", params=query)).json()
    assert (facts["width"], facts["height"]) == (1000, 700)
    tile = await pixels(client, local(client, facts["tiles"][0].format(z=0, x=0, y=0)))
    assert tile.shape[:2] == (facts["tileHeight"], facts["tileWidth"])
