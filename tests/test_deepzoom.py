"""Deep Zoom: the pyramid, and that its pixels are the image's."""

from __future__ import annotations

import json
import math
from collections.abc import AsyncIterator
from io import BytesIO
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
import tifffile
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image as Pillow

from gputiles.deepzoom import Pyramid
from gputiles.geometry import Rect
from tests.grids import FILES, Client, assert_refused, corners, pixels, serving, serving_shared
from tests.test_http import find

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
    async with serving(tmp_path) as client:
        yield client


async def test_the_descriptor_is_what_deep_zoom_viewers_read(client: Client) -> None:
    item = await find(client, "rgb.tif")
    answer = await client.get(f"/item/{item}/tiles/dzi.dzi?overlap=1&tilesize=128&encoding=PNG")
    root = ElementTree.fromstring(await answer.read())
    space = "{http://schemas.microsoft.com/deepzoom/2008}"
    assert answer.content_type == "text/xml"
    assert (root.tag, root.attrib) == (f"{space}Image", {"Format": "png", "Overlap": "1", "TileSize": "128"})
    assert root[0].attrib == {"Width": "517", "Height": "300"}


def halved(picture: NDArray[Any]) -> NDArray[Any]:
    """Return the mean of each 2 x 2 pixels, rounded half to even; at the rim of those there are."""
    rows, columns, samples = picture.shape
    even = np.pad(picture.astype(float), ((0, rows % 2), (0, columns % 2), (0, 0)), mode="edge")
    return np.rint(even.reshape(-(-rows // 2), 2, -(-columns // 2), 2, samples).mean(axis=(1, 3)))


@pytest.mark.parametrize("overlap", [0, 3])
async def test_stitched_tiles_of_a_level_are_the_image(client: Client, overlap: int) -> None:
    item = await find(client, "rgb.tif")
    expected: NDArray[Any] = PICTURE
    for level in (10, 9, 8, 7):  # of those below, more than one tile of the image's makes a tile
        rows, columns = expected.shape[:2]
        for y, x in np.ndindex(-(-rows // 128), -(-columns // 128)):
            path = f"/item/{item}/tiles/dzi_files/{level}/{x}_{y}.png?tilesize=128&overlap={overlap}"
            left, top = max(0, x * 128 - overlap), max(0, y * 128 - overlap)
            part = expected[top : y * 128 + 128 + overlap, left : x * 128 + 128 + overlap]
            assert np.array_equal(await pixels(client, path), part), (level, x, y)
        expected = halved(expected)


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
        ("dzi.dzi?encoding=TIFF", 400, "expected JPEG or PNG"),
        ("dzi.dzi?tilesize=256.5", 400, "tilesize: expected an integer"),
        ("dzi.dzi?overlap=-1", 400, "overlap: expected an integer"),
        ("dzi.dzi?style=[", 400, "Style"),
        ("dzi.dzi?frame=9", 404, "Frame"),
        ("dzi_files/10/0_0.png?frame=9", 404, "Frame"),
        ("dzi_files/10/0_0.png?encoding=NPY", 400, "expected JPEG or PNG"),
        ("dzi_files/10/0_0.npy", 400, "suffix: expected one of jpg, jpeg, png"),
        ("dzi_files/10/-1_0.png", 400, "x: expected an integer from 0 on"),
        ("dzi_files/0/0_1.png", 404, "tile: expected 0 to 0"),
        ("dzi_files/11/0_0.png", 404, "level: expected 0 to 10"),
        ("dzi_files/10/9_0.png", 404, "tile: expected 0 to 2"),
        ("dzi_files/10/x_0.png", 400, "x: expected an integer"),
        ("dzi_files/10/0_0.gif", 400, "suffix: expected one of"),
    ],
)
async def test_what_deep_zoom_has_not_is_refused(client: Client, path: str, status: int, reason: str) -> None:
    item = await find(client, "rgb.tif")
    answer = await client.get(f"/item/{item}/tiles/{path}")
    await assert_refused(answer, status, reason)


async def test_encoding_counts_more_than_the_suffix_and_settings_go_through(client: Client) -> None:
    item = await find(client, "rgb.tif")
    base = f"/item/{item}/tiles/dzi_files/10/1_0"
    assert (await client.get(f"{base}.jpg?encoding=PNG")).content_type == "image/png"
    assert (await client.get(f"{base}.png?encoding=JPEG")).content_type == "image/jpeg"
    coarse, fine = [
        len(await (await client.get(f"{base}.jpeg?jpegQuality={quality}")).read()) for quality in (20, 95)
    ]
    assert coarse * 2 < fine
    style = json.dumps({"bands": [{"band": 2, "min": 0, "max": 255, "palette": "#00f"}]})
    styled = await client.get(f"{base}.png", params={"style": style})
    shown = np.asarray(Pillow.open(BytesIO(await styled.read())))
    assert np.array_equal(shown[..., 2], PICTURE[:256, 256:512, 1])
    assert not shown[..., :2].any()


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("query", ["", "&tilesize=64&overlap=1"])
async def test_every_level_that_the_descriptor_promises_is_there_up_to_its_last_tile(
    name: str, query: str
) -> None:
    async with serving_shared(name) as (client, item):
        base = f"/item/{item}/tiles"
        text = await (await client.get(f"{base}/dzi.dzi?encoding=PNG{query}")).read()
        root = ElementTree.fromstring(text)
        size, overlap = int(root.attrib["TileSize"]), int(root.attrib["Overlap"])
        width, height = (int(root[0].attrib[side]) for side in ("Width", "Height"))
        metadata = await (await client.get(base)).json()
        assert (width, height) == (metadata["sizeX"], metadata["sizeY"])
        top = math.ceil(math.log2(max(width, height)))
        for level in range(top + 1):
            sides = [math.ceil(side / 2 ** (top - level)) for side in (width, height)]
            for at in corners(*(math.ceil(side / size) for side in sides)):
                tile = await pixels(client, f"{base}/dzi_files/{level}/{at[0]}_{at[1]}.png?{query}")
                assert tile.shape[1::-1] == tuple(
                    min((place + 1) * size + overlap, side) - max(place * size - overlap, 0)
                    for place, side in zip(at, sides, strict=True)
                ), (level, at)
        beyond = await client.get(f"{base}/dzi_files/{top + 1}/0_0.png?{query}")
        assert beyond.status == 404
