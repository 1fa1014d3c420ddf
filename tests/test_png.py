"""PNG files: read back the same by other decoders, and no larger than libpng's."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO

import imagecodecs
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from isal import isal_zlib
from numpy.typing import NDArray
from PIL import Image

from gputiles import png
from gputiles.arrays import file_of
from gputiles.backends import RenderJob
from gputiles.backends.host import HostBackend
from gputiles.backends.paste import raster_of
from gputiles.encoded import Encoding, Format
from gputiles.recipe import Recipe

BACKEND = HostBackend(1)


def cells(seed: int, size: int = 512) -> NDArray[np.float64]:
    """Return bright spots with the noise of a camera, 0 … about 1.5: like fluorescence."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0:size, 0:size]
    picture = np.zeros((size, size))
    for _ in range(60):
        left, top, width = rng.uniform(0, size), rng.uniform(0, size), rng.uniform(3, 14)
        picture += np.exp(-((x - left) ** 2 + (y - top) ** 2) / (2 * width * width))
    return picture + rng.poisson(6, picture.shape) / 100


def picture(samples: int) -> NDArray[np.uint8]:
    planes = [np.clip(255 * cells(seed), 0, 255) for seed in range(samples)]
    return np.ascontiguousarray(np.dstack(planes).astype(np.uint8))


def encoded(pixels: NDArray[np.uint8]) -> bytes:
    rows, columns, _ = pixels.shape
    job = RenderJob(Recipe((0,)), (raster_of(pixels.copy()),), columns, rows, Encoding(Format.PNG))
    (result,) = BACKEND.render([job])
    assert isinstance(result, bytes)
    return result


@pytest.mark.parametrize("samples", [1, 2, 3, 4])
@pytest.mark.parametrize("size", [(1, 1), (1, 7), (5, 1), (33, 240), (4, 1025)])
def test_pillow_and_libpng_read_the_same_pixels_back(samples: int, size: tuple[int, int]) -> None:
    rng = np.random.default_rng(samples)
    pixels = rng.integers(0, 256, (*size, samples)).astype(np.uint8)
    data = encoded(pixels)
    opened = Image.open(BytesIO(data))
    assert opened.mode == {1: "L", 2: "LA", 3: "RGB", 4: "RGBA"}[samples]
    assert np.array_equal(np.asarray(opened).reshape(pixels.shape), pixels)
    assert np.array_equal(imagecodecs.png_decode(data).reshape(pixels.shape), pixels)


@pytest.mark.parametrize("samples", [1, 3, 4])
def test_files_are_at_most_a_tenth_larger_than_those_of_libpng(samples: int) -> None:
    pixels = picture(samples)
    theirs = imagecodecs.png_encode(pixels[..., 0] if samples == 1 else pixels, level=2)
    assert len(encoded(pixels)) <= 1.1 * len(theirs)


def test_an_empty_tile_takes_less_than_a_thousandth_of_its_pixels() -> None:
    assert len(encoded(np.zeros((512, 512, 4), np.uint8))) < 5000


def test_every_chunk_carries_its_checksum() -> None:
    data = png.frame([zlib.compress(b"\0abc")], 1, 1, 3)
    assert data[:8] == b"\x89PNG\r\n\x1a\n"
    at, kinds = 8, []
    while at < len(data):
        length, kind = int.from_bytes(data[at : at + 4], "big"), data[at + 4 : at + 8]
        stored = int.from_bytes(data[at + 8 + length : at + 12 + length], "big")
        assert stored == zlib.crc32(data[at + 4 : at + 8 + length])
        kinds.append(kind)
        at += 12 + length
    assert kinds == [b"IHDR", b"IDAT", b"IEND"]


@given(st.lists(st.binary(max_size=300)))
def test_the_checksum_of_parts_is_that_of_the_whole(parts: list[bytes]) -> None:
    parts = [part * 300 for part in parts]  # sums go beyond the base
    assert png.adler32((zlib.adler32(part), len(part)) for part in parts) == zlib.adler32(b"".join(parts))


def png16(data: bytes) -> bytes:
    return file_of(np.frombuffer(data, np.uint8).reshape(1, -1, 1), Format.PNG)


@pytest.mark.parametrize("make", [png.searched, png16])
def test_bytes_do_not_depend_on_where_in_memory_they_are_compressed(make: Callable[[bytes], bytes]) -> None:
    """ISA-L alone makes one in 3000 of these another stream elsewhere."""
    rng = np.random.default_rng(1)
    starts = [rng.integers(0, 256, 24, np.uint8).tobytes() for _ in range(40_000)]
    rows = [start * 2 + bytes(40) + start * 8 + bytes(200) for start in starts]
    here = [make(each) for each in rows]

    def elsewhere() -> list[bytes]:
        beside = isal_zlib.compressobj()  # lies where another may have been before
        return [make(each) for each in rows] if beside else []

    with ThreadPoolExecutor(1) as pool:
        there = pool.submit(elsewhere).result()
    assert sum(one != other for one, other in zip(here, there, strict=True)) == 0


@given(st.binary(max_size=2 * png.LEAD), st.binary(max_size=900), st.integers(0, 9))
def test_compressed_parts_follow_each_other(first: bytes, other: bytes, times: int) -> None:
    parts = [first, other * times, first * times, other]
    stream = b"".join(png.searched(part, last=False) for part in parts) + png.searched(first)
    inflated = zlib.decompressobj(-15)
    assert inflated.decompress(stream) == b"".join((*parts, first))
    assert (inflated.eof, inflated.unused_data) == (True, b"")


@pytest.mark.parametrize("place", ["IHDR", "IDAT", "adler", "IEND", "end", "nothing"])
def test_a_wrong_checksum_is_found_wherever_it_stands(place: str) -> None:
    file = bytearray(png.frame([zlib.compress(b"\0abcabcabc")], 3, 1, 3))
    png.check(bytes(file))
    if place == "adler":  # the chunk itself is right
        stream = bytearray(zlib.compress(b"\0abcabcabc"))
        stream[-1] ^= 1
        file = bytearray(png.frame([bytes(stream)], 3, 1, 3))
    elif place == "nothing":
        file = file[: file.index(b"IDAT") - 4]
    elif place == "end":
        file = file[:-1]
    else:
        file[file.index(place.encode()) + 4 - (place == "IEND")] ^= 1
    with pytest.raises(ValueError, match="PNG: "):
        png.check(bytes(file))


@pytest.mark.parametrize("samples", [1, 3])
def test_workers_that_share_a_picture_write_the_same_bytes(samples: int) -> None:
    shared = HostBackend(4)
    rng = np.random.default_rng(3)
    for shape in ((1000, 700), (263, 1030), (3, 200_000)):
        pixels = rng.integers(0, 9, (*shape, samples)).cumsum(axis=0).astype(np.uint8)
        rows, columns, _ = pixels.shape
        job = RenderJob(Recipe((0,)), (raster_of(pixels),), columns, rows, Encoding(Format.PNG))
        (ours,), (theirs,) = BACKEND.render([job]), shared.render([job])
        assert isinstance(ours, bytes)
        assert ours == theirs
        assert np.array_equal(np.asarray(Image.open(BytesIO(ours))).reshape(pixels.shape), pixels)
