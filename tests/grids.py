"""A server over some files, and every tile that a grid's description promises of them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from aiohttp import ClientResponse
from aiohttp.test_utils import TestClient, TestServer
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image as Pillow

from gputiles.app import create_app
from gputiles.config import Config
from gputiles.geometry import Grid, Rect
from gputiles.image import ImageInfo
from tests.conftest import shared

Client = TestClient[Any, Any]

# Shapes that break arithmetic of tiles: a side of one pixel, of one more than tiles, tiles that
# are no squares, levels that are odd, rounded down or far apart; and the slides of the field.
FILES = [
    "cases/one_pixel.tif", "cases/one_row.tif", "cases/tiles_240x512.tif",
    "cases/levels_1_and_16_only.tif", "cases/ome_subifd_odd_floor.ome.tif",
    "cases/tile_larger_than_image.tif", "cases/planar_separate_rgb.tif",
    "data/openslide-python__small.svs", "data/libvips__CMU-1-Small-Region.svs",
    "data/openslide-python__boxes.tiff", "data/pathml__small_vectra.qptiff",
]  # fmt: skip


@asynccontextmanager
async def serving(*files: Path) -> AsyncIterator[Client]:
    """Serve files (or folders) on a real server; yields its client."""
    config = Config(roots=files, tile_cache=1 << 24, raw_cache=1 << 26, workers=2)
    async with TestClient(TestServer(create_app(config))) as client:
        yield client


@asynccontextmanager
async def serving_shared(name: str) -> AsyncIterator[tuple[Client, str]]:
    """Serve one shared file; yields the client and the item's id."""
    async with serving(shared(*name.split("/"))) as client:
        (item,) = await (await client.get("/item")).json()
        yield client, item["id"]


async def pixels(client: Client, path: str) -> NDArray[np.uint8]:
    """Return the picture at a path as it comes: (rows, columns[, samples])."""
    answer = await client.get(path)
    assert answer.status == 200, (path, await answer.text())
    return np.asarray(Pillow.open(BytesIO(await answer.read())))


def corners(columns: int, rows: int) -> Iterator[tuple[int, int]]:
    """Yield the tiles at the rim where arithmetic fails: the corners, each once."""
    return iter({(x, y) for x in (0, columns - 1) for y in (0, rows - 1)})


async def assert_refused(answer: ClientResponse, status: int, reason: str) -> None:
    """Hold that a server refuses with ``status`` and says why."""
    assert answer.status == status, await answer.text()
    assert reason in (await answer.json())["message"]


@st.composite
def shown_tiles(draw: st.DrawFn) -> tuple[ImageInfo, tuple[int, int, int], Rect]:
    """Draw an image, the z, x and y of a tile of it, and the region that the tile shows."""
    width, height = draw(st.integers(1, 3000)), draw(st.integers(1, 3000))
    info = ImageInfo(Grid(width, height, 64, 96), (True,) * 30, np.dtype(np.uint8))
    up = min(draw(st.integers(0, 12)), info.levels - 1)
    z, scale = info.levels - 1 - up, 1 << up
    columns, rows = info.grid.tiles(z)
    x, y = draw(st.integers(0, columns - 1)), draw(st.integers(0, rows - 1))
    place = info.grid.rect(z, x, y)
    full = Rect(place.x * scale, place.y * scale, place.width * scale, place.height * scale)
    region = full.intersect(Rect(0, 0, width, height))
    assert region is not None
    return info, (z, x, y), region
