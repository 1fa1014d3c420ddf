"""Small files that promise much: nothing is allocated for what a stream or a tag claims."""

from __future__ import annotations

import io
import struct
import tracemalloc
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import pytest
from PIL import Image as Pillow

from gputiles.app import create_app
from gputiles.config import Config
from gputiles.errors import Damaged, GputilesError, LimitExceeded
from gputiles.sources.open import open_source
from tests.grids import TestClient, TestServer, assert_refused
from tests.reading import read_tile
from tests.tiffs import Written, tiff

MOST = 32 << 20  # bytes of Python's memory that a refusal may take
BLANK = np.zeros((64, 64), np.uint8)


def tile(compression: int, data: bytes, samples: int = 1, side: int = 64) -> io.BytesIO:
    """Return a file of one tile of ``side`` x ``side`` 8-bit samples."""
    tags = {
        256: (4, side), 257: (4, side), 258: (3, 8), 259: (3, compression), 262: (3, 1), 277: (3, samples),
        284: (3, 1), 322: (4, side), 323: (4, side),
    }  # fmt: skip
    return tiff(Written(tags, [data]))


def jpeg_2000(components: int) -> bytes:
    """Return a stream whose header names so many components of 64 x 64."""
    stream = bytes(imagecodecs.jpeg2k_encode(BLANK, level=0, codecformat="j2k"))
    end = 4 + int.from_bytes(stream[4:6], "big")
    size, one = stream[6:40], stream[42:45]
    head = stream[:4] + struct.pack(">H", 38 + 3 * components) + size + struct.pack(">H", components)
    return head + one * components + stream[end:]


def lerc(blobs: int, depth: int = 1, side: int = 64) -> bytes:
    blob = bytearray(imagecodecs.lerc_encode(np.zeros((side, side), np.uint8)))
    struct.pack_into("<i", blob, 22, depth)
    return bytes(blob) * blobs


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(*more: bytes, side: int = 64, rows: int = 64) -> bytes:
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0))
    data = chunk(b"IDAT", zlib.compress(bytes((side + 1) * rows)))
    return b"\x89PNG\r\n\x1a\n" + head + b"".join(more) + data + chunk(b"IEND", b"")


def frames(*sizes: int) -> bytes:
    """Return a JPEG with a frame header for each of the sizes."""
    stream = bytes(imagecodecs.jpeg8_encode(BLANK))
    at = stream.index(b"\xff\xc0")
    end = at + 2 + int.from_bytes(stream[at + 2 : at + 4], "big")
    headers = [stream[at : at + 5] + struct.pack(">HH", side, side) + stream[at + 9 : end] for side in sizes]
    return stream[:at] + b"".join(headers) + stream[end:]


BIG = struct.pack(">IIBBBBB", 1 << 15, 1 << 15, 8, 2, 0, 0, 0)
WIDE = np.zeros((999, 999, 3), np.uint8)
BLOWN = zlib.compress(bytes(40_000_000))
BOMBS: dict[str, Callable[[], io.BytesIO]] = {
    "JPEG 2000 of 2 components": lambda: tile(34712, jpeg_2000(2)),
    "JPEG 2000 of 16384 components": lambda: tile(34712, jpeg_2000(16384)),
    "Aperio's JPEG 2000 of 16384 components": lambda: tile(33003, jpeg_2000(16384)),
    "LERC of 2000 blobs": lambda: tile(34887, lerc(2000)),
    "LERC of 1000 blobs of a large tile": lambda: tile(34887, lerc(1000, side=1024), side=1024),
    "LERC of depth 100000": lambda: tile(34887, lerc(1, 100_000)),
    "PNG with a second header": lambda: tile(34933, png(chunk(b"IHDR", BIG))),
    "JPEG with a second, larger frame": lambda: tile(7, frames(64, 60_000)),
    "JPEG with a first, larger frame": lambda: tile(7, frames(60_000, 64)),
    "JPEG of a larger frame": lambda: tile(7, frames(60_000)),
    "WebP that is larger": lambda: tile(50001, bytes(imagecodecs.webp_encode(WIDE)), 3),
    "packed bytes of 40 MB": lambda: tile(8, BLOWN),
    "packed bytes of 40 MB behind PNG": lambda: tile(34933, png(rows=200_000)),
}  # fmt: skip


@pytest.mark.parametrize("name", BOMBS)
def test_a_stream_that_claims_more_than_its_chunk_costs_nothing(name: str) -> None:
    source = open_source(BOMBS[name]())
    tracemalloc.start()
    try:
        found = read_tile(source, 0, 0, 0, 0)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < MOST
    assert isinstance(found, Damaged) or found.shape == (64, 64, 1)


@pytest.mark.parametrize(("blobs", "samples"), [(1, 1), (3, 3), (1, 4)])
def test_lerc_of_as_many_samples_as_the_chunk_has_is_decoded(blobs: int, samples: int) -> None:
    array = np.zeros((64, 64, samples), np.uint8)
    stream = lerc(blobs) if blobs > 1 else bytes(imagecodecs.lerc_encode(array, planar=False))
    found = read_tile(open_source(tile(34887, stream, samples)), 0, 0, 0, 0)
    assert isinstance(found, GputilesError) or found.shape == array.shape
    if blobs == 1:
        np.testing.assert_array_equal(found, array)


@pytest.mark.parametrize("tags", [
    {277: (3, 65535)}, {277: (3, 4097)}, {322: (4, 1 << 30), 323: (4, 1 << 30)}, {256: (4, 0xFFFFFFFF)},
    {257: (4, 0x80000000)}, {322: (4, 1 << 20), 323: (4, 1 << 11)},
    {258: (3, 64), 322: (4, 1 << 14), 323: (4, 1 << 14)}, {277: (3, 3000), 322: (4, 1024), 323: (4, 1024)},
])  # fmt: skip
def test_absurd_sizes_are_refused_when_the_file_is_opened(tags: dict[int, Any]) -> None:
    tracemalloc.start()
    try:
        with pytest.raises(LimitExceeded, match="most"):
            open_source(absurd(tags))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < MOST


def absurd(tags: dict[int, Any]) -> io.BytesIO:
    plain = {
        256: (4, 64), 257: (4, 64), 258: (3, 8), 259: (3, 1), 262: (3, 1), 277: (3, 1), 322: (4, 64),
        323: (4, 64), 324: (4, 8), 325: (4, 1),
    }  # fmt: skip
    return tiff(Written({**plain, **tags}))


async def test_more_values_than_a_limit_are_not_counted_one_by_one(tmp_path: Path) -> None:
    side, across = 1 << 20, 1 << 14
    cells = (side // across) ** 2
    tags = {322: (4, across), 323: (4, across), 324: (4, [0] * cells), 325: (4, [0] * cells)}
    path = tmp_path / "sparse.tif"
    path.write_bytes(absurd({256: (4, side), 257: (4, side), **tags}).getvalue())
    config = Config(roots=(tmp_path,), workers=1, tile_cache=1 << 22, raw_cache=1 << 26)
    async with TestClient(TestServer(create_app(config))) as client:
        (item,) = await (await client.get("/item")).json()
        base = f"/item/{item['id']}/tiles"
        await assert_refused(await client.get(f"{base}/histogram"), 413, "one by one")
        small = await client.get(f"{base}/histogram?left=0&top=0&regionWidth=64&regionHeight=64")
        assert small.status == 200


def scans(number: int) -> bytes:
    """Return a progressive JPEG of 64 x 64 whose last scan is there so many times."""
    file = io.BytesIO()
    Pillow.fromarray(BLANK).save(file, "JPEG", progressive=True)
    stream = file.getvalue()
    start = stream.rindex(b"\xff\xda")
    return stream[:start] + stream[start:-2] * number + stream[-2:]


@pytest.mark.parametrize(("number", "served"), [(1, True), (80, True), (200, False), (20_000, False)])
@pytest.mark.parametrize("still", [False, True])
def test_scans_that_ask_for_nothing_but_time_are_not_followed(number: int, served: bool, still: bool) -> None:
    if still:
        source = open_source(io.BytesIO(scans(number)))
    else:
        source = open_source(tile(7, scans(number)[:200_000] + b"\xff\xd9"))
    found = read_tile(source, 0, 0, 0, 0)
    assert isinstance(found, Damaged) is not served
    if not served:
        assert "scans" in str(found) or "end" in str(found) or "stored bytes" in str(found)
