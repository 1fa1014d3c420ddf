"""PNG files that a card makes: other libraries read the same pixels back, whatever the order of threads."""

from __future__ import annotations

import json
import subprocess
import sys
import zlib
from collections.abc import Callable, Iterator, Sequence
from io import BytesIO
from typing import Any, NamedTuple

import imagecodecs
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

import gputiles
from gputiles.backends import RenderJob, deflating, tables
from gputiles.backends.card import Sizes
from gputiles.backends.cuda import CudaBackend
from gputiles.backends.deflating import SEGMENT, adler
from gputiles.backends.paste import raster_of
from gputiles.backends.proving import colours_of, rgba
from gputiles.encoded import Encoding, Format
from gputiles.recipe import Recipe
from tests import parity
from tests.conftest import ROOT, SHARED
from tests.forgotten import BARRIERS, NONE, ORDERS
from tests.standin import StandIn
from tests.test_cuda_memory import MIB, grey, opened, tile
from tests.test_png import cells

Pixels = NDArray[np.uint8]
PNG = Encoding(Format.PNG)


@pytest.fixture(scope="module")
def backends() -> Iterator[list[CudaBackend]]:
    """Cards that resume a block's threads in several orders."""
    made = [CudaBackend(StandIn(order=order), 0, 1) for order in ORDERS]
    yield made
    for backend in made:
        backend.close()


@pytest.fixture(scope="module")
def backend(backends: list[CudaBackend]) -> CudaBackend:
    return backends[-1]


def encoded(backend: CudaBackend, pictures: Sequence[Pixels], encoding: Encoding = PNG) -> list[bytes]:
    """Return files of pictures (rows, columns, samples), made as one batch."""
    rasters = parity.up(backend, [raster_of(np.ascontiguousarray(pixels)) for pixels in pictures])
    jobs = [RenderJob(Recipe((0,)), (r,), r.shape[1], r.shape[0], encoding) for r in rasters]
    files = backend.render(jobs)
    assert all(isinstance(file, bytes) for file in files), files
    return files  # type: ignore[return-value]


class Chunks(NamedTuple):
    """What a strict reader finds: kinds of chunks, the header, filtered rows."""

    kinds: list[bytes]
    header: bytes
    rows: bytes


def chunks(file: bytes) -> Chunks:
    """Read a file whose checksums are all right, or fail."""
    assert file[:8] == b"\x89PNG\r\n\x1a\n"
    at, kinds, header, stream = 8, [], b"", b""
    while at < len(file):
        length, kind = int.from_bytes(file[at : at + 4], "big"), file[at + 4 : at + 8]
        data = file[at + 8 : at + 8 + length]
        assert zlib.crc32(kind + data) == int.from_bytes(file[at + 8 + length : at + 12 + length], "big"), (
            kind
        )
        kinds.append(kind)
        header = data if kind == b"IHDR" else header
        stream += data if kind == b"IDAT" else b""
        at += 12 + length
    inflater = zlib.decompressobj()  # fails where Adler-32 is wrong
    rows = inflater.decompress(stream)
    assert inflater.eof
    assert not inflater.unused_data
    return Chunks(kinds, header, rows)


def check(file: bytes, pixels: Pixels) -> None:
    """Compare a file with its picture: two libraries', and ours that looks at every checksum."""
    expected = rgba(pixels)
    found = chunks(file)
    assert found.kinds[0] == b"IHDR"
    assert found.kinds[-1] == b"IEND"
    assert set(found.kinds[1:-1]) == {b"IDAT"}
    assert np.array_equal(colours_of(file), expected)
    with Image.open(BytesIO(file)) as opened_:
        assert np.array_equal(np.asarray(opened_.convert("RGBA")), expected)


KINDS: dict[str, Callable[[np.random.Generator, tuple[int, ...]], NDArray[Any]]] = {
    "noise": lambda rng, shape: rng.integers(0, 256, shape),
    "flat": lambda rng, shape: np.full(shape, rng.integers(256)),
    "few": lambda rng, shape: rng.integers(0, 3, shape),
    "ramp": lambda rng, shape: np.arange(np.prod(shape)).reshape(shape) // 7,
    "grey": lambda rng, shape: np.repeat(rng.integers(0, 99, (*shape[:2], 1)), shape[2], axis=2),
    "sparse": lambda rng, shape: rng.integers(0, 256, shape) * (rng.random(shape) < 0.01),
    "steep": lambda rng, shape: (2 ** rng.exponential(1, shape)).clip(0, 255),  # codes longer than 15 bits
}
SIZES = [
    (1, 1), (1, 7), (7, 1), (5, 3), (33, 240), (130, 257), (700, 2),
    (1, SEGMENT - 2), (2, SEGMENT - 1), (1, SEGMENT), (2, 2 * SEGMENT + 5),
]  # fmt: skip


@pytest.mark.parametrize("samples", [1, 2, 3, 4])
@pytest.mark.parametrize("kind", KINDS)
def test_pictures_of_every_shape_come_back_and_do_not_depend_on_the_order_of_threads(
    backends: list[CudaBackend], kind: str, samples: int
) -> None:
    rng = np.random.default_rng(samples)
    pictures = [KINDS[kind](rng, (*size, samples)).astype(np.uint8) for size in SIZES]
    first, *others = (encoded(backend, pictures) for backend in backends)
    for file, pixels in zip(first, pictures, strict=True):
        check(file, pixels)
    assert all(files == first for files in others)


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_pictures_of_any_bytes_come_back(backend: CudaBackend, data: st.DataObject) -> None:
    rows, columns, samples = (data.draw(st.integers(1, most)) for most in (40, 60, 4))
    levels, repeats = data.draw(st.integers(1, 256)), data.draw(st.integers(1, 400))
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    values = np.repeat(rng.integers(0, levels, rows * columns * samples), repeats)
    pixels = values[: rows * columns * samples].reshape(rows, columns, samples).astype(np.uint8)
    pixels[..., -1] |= data.draw(st.sampled_from([0, 255]))
    (file,) = encoded(backend, [pixels])
    check(file, pixels)


# -- sizes


def bound(pixels: Pixels) -> int:
    """Return the bytes that no file may exceed: rows as they are, chunks, and 64 bytes around them."""
    rows, columns, samples = pixels.shape
    form = deflating.PngStreams((rows, columns, samples), looks=False)
    return rows * form.line + 17 * form.counts(range(form.units)).checks + 64


@pytest.mark.parametrize("size", SIZES)
def test_noise_is_stored_and_takes_little_more_than_its_pixels(
    backend: CudaBackend, size: tuple[int, int]
) -> None:
    pixels = np.random.default_rng(5).integers(0, 256, (*size, 3)).astype(np.uint8)
    (file,) = encoded(backend, [pixels])
    assert len(file) <= bound(pixels)


def test_one_colour_takes_less_than_a_three_hundredth_of_its_pixels(backend: CudaBackend) -> None:
    pictures = [np.full((512, 512, 4), value, np.uint8) for value in (77, (1, 2, 3, 4))]
    for file, pixels in zip(encoded(backend, pictures), pictures, strict=True):
        check(file, pixels)
        assert len(file) < pixels.nbytes / 300


def compared(file: bytes) -> float:
    """Return how many times as large a file is as libpng's, of level 2, of the same samples."""
    return len(file) / len(imagecodecs.png_encode(imagecodecs.png_decode(file), level=2))


@pytest.mark.parametrize("samples", [1, 3, 4])
def test_cells_take_at_most_a_tenth_more_than_with_libpng(backend: CudaBackend, samples: int) -> None:
    planes = [np.clip(255 * cells(seed), 0, 255) for seed in range(samples)]
    (file,) = encoded(backend, [np.dstack(planes).astype(np.uint8)])
    assert compared(file) <= 1.1


REAL = (
    "exampletiffs__multi-channel-time-series.ome.tif", "ndev-sampledata__neocortex-3Ch.tiff",
    "ndev-sampledata__neuron-4Ch.tiff", "pathml__small_vectra.qptiff", "exampletiffs__spring.tif",
    "minerva-author__2048x2048_ome6_tiled.ome.tif", "libvips__multi-channel-z-series.ome.tif",
    "libvips__CMU-1-Small-Region.svs", "qupath__cells-2c.ome.tif", "rio-tiler__cog_int16.tif",
)  # fmt: skip


@pytest.mark.parametrize("name", REAL)
def test_tiles_of_real_files_take_at_most_a_tenth_more_than_with_libpng(
    backend: CudaBackend, name: str
) -> None:
    path = SHARED / "data" / name
    if not path.is_file():
        pytest.skip(f"needs {path}")
    with gputiles.open(path) as image:
        z = image.info.levels - 1
        across, down = image.info.grid.tiles(z)
        places = {(across // 2, down // 2), (0, 0)}
        tiles = [imagecodecs.png_decode(image.tile(z, *place, encoding="PNG")) for place in places]
    pictures = [pixels.reshape(*pixels.shape[:2], -1) for pixels in tiles]
    for file, pixels in zip(encoded(backend, pictures), pictures, strict=True):
        check(file, pixels)
        assert compared(file) <= 1.1


# -- samples that tell nothing


@pytest.mark.parametrize(
    ("samples", "coloured", "translucent", "colour_type"),
    [
        (1, False, False, 0), (2, False, False, 0), (2, False, True, 4), (3, False, False, 0),
        (3, True, False, 2), (4, False, False, 0), (4, True, False, 2), (4, False, True, 4),
        (4, True, True, 6),
    ],
)  # fmt: skip
def test_a_file_has_the_samples_that_tell_something(
    backend: CudaBackend, samples: int, coloured: bool, translucent: bool, colour_type: int
) -> None:
    pixels = np.repeat(np.random.default_rng(1).integers(0, 250, (90, 70, 1)), samples, axis=2).astype(
        np.uint8
    )
    if samples % 2 == 0:
        pixels[..., -1] = 255
        pixels[89, 69, -1] -= translucent  # one pixel is enough
    pixels[50, 3, 1 if samples > 2 else 0] += coloured
    (file,) = encoded(backend, [pixels])
    check(file, pixels)
    assert chunks(file).header[8:10] == bytes((8, colour_type))
    (whole,) = encoded(backend, [pixels], Encoding(Format.PNG, embed=True))  # of a profile of all samples
    check(whole, pixels)
    assert chunks(whole).header[9] == (0, 4, 2, 6)[samples - 1]


def test_a_picture_that_does_not_fit_at_once_has_all_samples_and_the_right_checksums() -> None:
    backend = opened(StandIn(), Sizes(32 * MIB, scratch=2 * MIB, returns=MIB, room=MIB // 4, slab=MIB))
    rng = np.random.default_rng(2)
    pictures = [
        np.repeat(rng.integers(0, 9, (rows, columns, 1)), 3, axis=2).astype(np.uint8)
        for rows, columns in ((900, 700), (40, 50), (3, 70_000), (5, 7))
    ]
    files = encoded(backend, pictures)
    for file, pixels in zip(files, pictures, strict=True):
        check(file, pixels)
    assert [chunks(file).header[9] for file in files] == [2, 0, 2, 0]
    assert backend.card.device.counts["png_deflate"] > 2
    backend.close()


def test_checksums_of_segments_add_up_to_that_of_all() -> None:
    rng = np.random.default_rng(7)
    parts = [rng.integers(0, 256, count).astype(np.uint8) for count in (1, SEGMENT, 5, 20_000)]
    checks = [
        (int(part.sum()) % 65_521, int((part * np.arange(len(part), 0, -1)).sum()) % 65_521, len(part))
        for part in parts
    ]
    table = np.array(checks, tables.PNG_CHECK)
    assert adler(table) == zlib.adler32(b"".join(part.tobytes() for part in parts))
    assert adler(table[2:], adler(table[:2])) == adler(table)


# -- batches


def test_64_different_png_requests_are_one_launch_of_each_kernel_and_one_copy_each_way(
    backend: CudaBackend,
) -> None:
    rasters = [tile(backend, seed, 16 + seed) for seed in range(64)]
    jobs = [grey(raster, low) for low, raster in enumerate(rasters)]
    backend.render(jobs)  # learns how large these files are
    counts = backend.card.device.counts
    counts.clear()
    files = backend.render(jobs)
    assert len({*files}) == 64
    stages = (
        "composite",
        "png_look",
        "png_reduce",
        "png_filter",
        "png_deflate",
        "png_tail",
        "follow",
        "pack",
    )
    assert counts == {"uploads": 1, "downloads": 1, **dict.fromkeys(stages, 1)}


def test_files_of_both_formats_share_what_brings_them_together(backend: CudaBackend) -> None:
    rasters = [tile(backend, seed, 40) for seed in range(6)]
    jobs = [
        grey(raster, 1, PNG if at % 2 else Encoding(Format.JPEG, 80)) for at, raster in enumerate(rasters)
    ]
    alone = [backend.render([job])[0] for job in jobs]
    counts = backend.card.device.counts
    counts.clear()
    assert backend.render(jobs) == alone
    assert (counts["jpeg"], counts["png_deflate"], counts["follow"], counts["pack"]) == (1, 1, 1, 1)


# -- what shows if a kernel is wrong


@pytest.fixture(scope="module")
def forgotten() -> dict[str, str]:
    """Return what comes of it if one barrier is passed by, for each, or none."""
    command = [sys.executable, "-m", "tests.forgotten"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    found: dict[str, str] = json.loads(done.stdout)
    return found


def test_files_do_not_depend_on_the_order_of_threads(forgotten: dict[str, str]) -> None:
    assert len(forgotten) == 1 + len(BARRIERS)
    assert len(forgotten[NONE].split()) == 1


@pytest.mark.parametrize("barrier", BARRIERS)
def test_a_forgotten_barrier_shows(forgotten: dict[str, str], barrier: str) -> None:
    assert forgotten[barrier] != forgotten[NONE]
