"""Deep Zoom and XYZ: the grids, and that their pixels are the image's."""

from __future__ import annotations

from collections.abc import AsyncIterator
from io import BytesIO
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
import tifffile
from aiohttp.test_utils import TestClient, TestServer
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image as Pillow

from gputiles.app import create_app
from gputiles.config import Config
from gputiles.deepzoom import Pyramid
from gputiles.geometry import Rect
from tests.test_http import find

Client = TestClient[Any, Any]
PICTURE = np.random.default_rng(5).integers(0, 255, (300, 517, 3)).astype(np.uint8)


@given(st.integers(1, 5000), st.integers(1, 5000), st.integers(4, 10), st.integers(0, 15))
def test_tiles_without_their_overlap_cover_each_level_once(
    width: int, height: int, power: int, overlap: int
) -> None:
    pyramid = Pyramid(width, height, 1 << power, overlap)
    assert pyramid.size(0) == (1, 1)
    assert pyramid.size(pyramid.top) == (width, height)
    for level in range(pyramid.top + 1):
        columns, rows = (-(-side // (1 << power)) for side in pyramid.size(level))
        across = sum(pyramid.tile(level, x, 0)[1] for x in range(columns))
        down = sum(pyramid.tile(level, 0, y)[2] for y in range(rows))
        seams = [sum(min(overlap, side - at * (1 << power)) for at in range(1, count))
                 for side, count in zip(pyramid.size(level), (columns, rows), strict=True)]  # fmt: skip
        assert across == pyramid.size(level)[0] + seams[0] + overlap * (columns - 1)
        assert down == pyramid.size(level)[1] + seams[1] + overlap * (rows - 1)
        for x in range(columns):
            region, _, _ = pyramid.tile(level, x, rows - 1)
            assert region.intersect(Rect(0, 0, width, height)) == region


@pytest.fixture
async def client(tmp_path: Path) -> AsyncIterator[Client]:
    tifffile.imwrite(tmp_path / "rgb.tif", PICTURE, photometric="rgb", tile=(128, 128), compression="zlib")
    config = Config(roots=(tmp_path,), tile_cache=1 << 22, raw_cache=1 << 24, workers=2)
    async with TestClient(TestServer(create_app(config))) as client:
        yield client


async def pixels(client: Client, path: str) -> NDArray[np.uint8]:
    answer = await client.get(path)
    assert answer.status == 200, await answer.text()
    return np.asarray(Pillow.open(BytesIO(await answer.read())))


async def test_the_descriptor_is_what_deep_zoom_viewers_read(client: Client) -> None:
    item = await find(client, "rgb.tif")
    answer = await client.get(f"/item/{item}/tiles/dzi.dzi?overlap=1&tilesize=128&encoding=PNG")
    root = ElementTree.fromstring(await answer.read())
    space = "{http://schemas.microsoft.com/deepzoom/2008}"
    assert answer.content_type == "text/xml"
    assert (root.tag, root.attrib) == (f"{space}Image", {"Format": "png", "Overlap": "1", "TileSize": "128"})
    assert root[0].attrib == {"Width": "517", "Height": "300"}


@pytest.mark.parametrize("overlap", [0, 3])
async def test_stitched_tiles_of_a_level_are_the_image(client: Client, overlap: int) -> None:
    item = await find(client, "rgb.tif")
    half = PICTURE[:, :516].astype(float).reshape(150, 2, 258, 2, 3).mean(axis=(1, 3))
    for level, expected in ((10, PICTURE), (9, np.rint(half))):
        rows, columns = expected.shape[:2]
        for y in range(-(-rows // 128)):
            for x in range(-(-columns // 128)):
                tile = await pixels(
                    client, f"/item/{item}/tiles/dzi_files/{level}/{x}_{y}.png?tilesize=128&overlap={overlap}"
                )
                left, top = max(0, x * 128 - overlap), max(0, y * 128 - overlap)
                part = expected[top : y * 128 + 128 + overlap, left : x * 128 + 128 + overlap]
                assert np.array_equal(tile[: part.shape[0], : part.shape[1]], part), (level, x, y)


async def test_every_level_down_to_one_pixel_is_there(client: Client) -> None:
    item = await find(client, "rgb.tif")
    pyramid = Pyramid(517, 300)
    for level in range(pyramid.top + 1):
        tile = await pixels(client, f"/item/{item}/tiles/dzi_files/{level}/0_0.jpg")
        assert tile.shape[1::-1] == tuple(min(256, side) for side in pyramid.size(level))


@pytest.mark.parametrize(
    ("path", "status", "reason"),
    [
        ("dzi.dzi?tilesize=100", 400, "a power of 2"),
        ("dzi.dzi?overlap=256", 400, "overlap: expected 0 to 255"),
        ("dzi.dzi?encoding=GIF", 400, "expected JPEG or PNG"),
        ("dzi_files/11/0_0.png", 404, "level: expected 0 to 10"),
        ("dzi_files/10/9_0.png", 404, "tile: expected 0 to 2"),
        ("dzi_files/10/x_0.png", 400, "x: expected an integer"),
        ("dzi_files/10/0_0.gif", 400, "suffix: expected one of"),
    ],
)
async def test_what_deep_zoom_has_not_is_refused(client: Client, path: str, status: int, reason: str) -> None:
    item = await find(client, "rgb.tif")
    answer = await client.get(f"/item/{item}/tiles/{path}")
    assert (answer.status, reason in (await answer.json())["message"]) == (status, True)


async def test_xyz_tiles_are_the_tiles_and_tilejson_leads_to_them(client: Client) -> None:
    item = await find(client, "rgb.tif")
    style = '{"min":10,"max":200}'
    answer = await client.get(f"/xyz/{item}/tilejson.json", params={"style": style, "format": "png"})
    facts = await answer.json()
    assert (facts["tilejson"], facts["minzoom"], facts["maxzoom"]) == ("3.0.0", 0, 3)
    url = facts["tiles"][0].format(z=3, x=1, y=1)
    assert url.startswith(str(client.make_url("/xyz/")))
    tile = await client.get(url.removeprefix(str(client.make_url("")).rstrip("/")))
    same = await client.get(f"/item/{item}/tiles/zxy/3/1/1", params={"style": style, "encoding": "PNG"})
    assert tile.status == 200
    assert await tile.read() == await same.read()
    values = np.load(BytesIO(await (await client.get(f"/xyz/{item}/3/1/1.npy")).read()))
    assert np.array_equal(values, PICTURE[128:256, 128:256])


async def test_xyz_refuses_what_is_not_there(client: Client) -> None:
    item = await find(client, "rgb.tif")
    for path, status in (("9/0/0.png", 404), ("0/5/0.png", 404), ("0/0/0.bmp", 400), ("0/0/a.png", 400)):
        assert (await client.get(f"/xyz/{item}/{path}")).status == status, path
    assert (await client.get(f"/xyz/{item}/tilejson.json?style=[")).status == 400
