"""On a real card: the host's bits, the cache under pressure, and minutes of full load.

``make test-gpu`` runs these, and fails where there is no card (``GPUTILES_NEEDS_CARD``). ``GPUTILES_SOAK``
are the seconds of the soak (240). Those with "short" in their names are what ``make sanitize-gpu`` runs
under compute-sanitizer.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

from gputiles.api import Image as Lent
from gputiles.backends import tables
from gputiles.backends.cuda import MOST, CudaBackend
from gputiles.backends.load import find_codecs, find_cupy
from gputiles.backends.nvencode import Writer
from gputiles.backends.nvimage import TOLERANCE
from gputiles.background import Background
from gputiles.cardtest import CARD_TESTS, bandwidth, shown
from gputiles.config import Config
from gputiles.encoded import Encoding, Format
from gputiles.engine import Engine
from gputiles.errors import Unsupported
from gputiles.images import Image
from gputiles.request import TileRequest, View
from gputiles.selftest import TESTS
from gputiles.style import parse
from gputiles.trace import Trace
from gputiles.walk import FileRef
from tests import parity
from tests.conftest import ROOT
from tests.standin import StandIn
from tests.test_cuda_decode import FILES, difference, jobs_of, pixels, stream_in, subsampled
from tests.test_cuda_memory import U16, tile_job
from tests.test_cuda_overlap import check_side_by_side
from tests.test_cuda_png import KINDS, SIZES, check, encoded
from tests.test_cuda_unpack import PACK, codec_of, every_packing, expect_the_hosts, job_of

pytestmark = pytest.mark.gpu

MIB = 1 << 20
TYPES = [np.dtype(name) for name in tables.TYPES]
SOAK = float(os.environ.get("GPUTILES_SOAK", "240"))
TILES = int(os.environ.get("GPUTILES_TILES", "2000"))


@contextmanager
def opened(library: Any) -> Iterator[CudaBackend]:
    """Open the first card. Where there is none tests skip, but for those that are there to test a card."""
    try:
        backend = CudaBackend(find_cupy(), 0, 4, 256 * MIB, library, 64 * MIB)
    except Unsupported as error:
        if os.environ.get("GPUTILES_NEEDS_CARD"):
            raise
        pytest.skip(f"needs a CUDA card: {error}")
    yield backend
    backend.close()


@pytest.fixture(scope="module")
def backend() -> Iterator[CudaBackend]:
    with opened(find_codecs()) as backend:
        yield backend


@pytest.mark.parametrize("dtype", TYPES, ids=str)
@pytest.mark.parametrize("seed", range(4))
def test_pictures_of_a_batch_are_the_hosts(backend: CudaBackend, dtype: np.dtype[Any], seed: int) -> None:
    parity.check_renders(backend, parity.random_jobs(seed, dtype))


@pytest.mark.parametrize("dtype", TYPES, ids=str)
def test_every_way_to_join_bands_is_the_hosts(backend: CudaBackend, dtype: np.dtype[Any]) -> None:
    jobs = [*parity.every_composite(dtype), *parity.every_unstyled(dtype)]
    for at in range(0, len(jobs), MOST):
        parity.check_renders(backend, jobs[at : at + MOST])


def test_pictures_in_converted_colours_are_the_hosts(backend: CudaBackend) -> None:
    parity.check_conversions(backend)


@pytest.mark.parametrize("dtype", TYPES, ids=str)
def test_made_tiles_and_measures_are_the_hosts(backend: CudaBackend, dtype: np.dtype[Any]) -> None:
    parity.check_downsamples(backend, parity.random_downsamples(dtype))
    parity.check_resamples(backend, parity.random_resamples(dtype))
    parity.check_measures(backend, parity.random_measures(dtype))
    downsamples, resamples = parity.every_made(dtype)
    parity.check_downsamples(backend, downsamples)
    parity.check_resamples(backend, resamples)


@pytest.mark.parametrize("name", [*TESTS, *CARD_TESTS])
def test_the_doctors_tests_pass(backend: CudaBackend, name: str) -> None:
    assert {**TESTS, **CARD_TESTS}[name](backend)


@pytest.mark.parametrize("dtype", TYPES, ids=str)
def test_packed_samples_are_the_hosts(backend: CudaBackend, dtype: np.dtype[Any]) -> None:
    expect_every_packing(backend, dtype)


def expect_every_packing(backend: CudaBackend, dtype: np.dtype[Any]) -> None:
    jobs = every_packing(dtype)
    for job, outcome in zip(jobs, backend.decode(jobs), strict=True):
        expect_the_hosts(backend, outcome, job)


@pytest.mark.parametrize("compression", PACK)
def test_every_compression_of_packed_samples_is_the_hosts(backend: CudaBackend, compression: int) -> None:
    jobs = [job_of(U16, codec_of(U16, 1, order, 2, compression), 1) for order in "<>"]
    for job, outcome in zip(jobs, backend.decode(jobs), strict=True):
        expect_the_hosts(backend, outcome, job)


@pytest.mark.parametrize("compression", [33003, 33005, 34712])
@pytest.mark.parametrize("spread", [(1, 1), (2, 1), (2, 2)])
def test_jpeg_2000_is_decoded_as_the_host_decodes_it(
    backend: CudaBackend, compression: int, spread: tuple[int, int]
) -> None:
    """By whomever: chroma that is subsampled only by a card whose trial came out right."""
    jobs = [stream_in(subsampled(*spread), compression)] * 3
    for job, outcome in zip(jobs, backend.decode(jobs), strict=True):
        assert difference(backend, outcome, job) <= TOLERANCE, backend.decoders


def test_more_than_two_trays_hold_are_the_hosts(backend: CudaBackend) -> None:
    jobs = [tile_job(seed, 1024) for seed in range(4)] * 16  # 128 MiB
    for job, outcome in zip(jobs, backend.decode(jobs), strict=True):
        expect_the_hosts(backend, outcome, job)


def test_batches_side_by_side_are_the_hosts(backend: CudaBackend) -> None:
    check_side_by_side(backend)


@pytest.fixture
def bare() -> Iterator[CudaBackend]:
    """A card of our kernels alone: what a library does is not ours to put right."""
    with opened(None) as backend:
        yield backend


def test_short_batches_of_every_kernel(bare: CudaBackend) -> None:
    dtype = np.dtype(np.uint16)
    parity.check_renders(bare, parity.random_jobs(1, dtype, widths=(3, 70)))
    parity.check_conversions(bare)
    parity.check_downsamples(bare, parity.random_downsamples(dtype)[:4])
    parity.check_resamples(bare, parity.random_resamples(dtype)[:6])
    parity.check_measures(bare, parity.random_measures(dtype)[:4])
    expect_every_packing(bare, np.dtype(np.float32))


def test_short_batches_side_by_side_are_the_hosts(bare: CudaBackend) -> None:
    check_side_by_side(bare, rounds=4)


@pytest.mark.usefixtures("bare")
@pytest.mark.parametrize("tool", ["memcheck --report-api-errors no", "racecheck", "synccheck"])
def test_kernels_are_clean_under_compute_sanitizer(tool: str) -> None:
    """As ``make sanitize-gpu`` says: a refused call of the runtime is no error of a kernel."""
    if shutil.which("compute-sanitizer") is None:
        pytest.skip("needs compute-sanitizer, of NVIDIA's CUDA toolkit")
    watched = ["compute-sanitizer", "--error-exitcode", "9", "--tool", *tool.split()]
    short = [sys.executable, "-m", "pytest", "-m", "gpu", "tests/gpu", "-k", "short"]
    done = subprocess.run([*watched, *short], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-4000:]


def test_the_card_makes_both_formats_itself(backend: CudaBackend) -> None:
    assert backend.habits.own == {Format.JPEG, Format.PNG}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("samples", [1, 2, 3, 4])
def test_png_files_are_those_of_the_stand_in(backend: CudaBackend, kind: str, samples: int) -> None:
    rng = np.random.default_rng(samples)
    pictures = [KINDS[kind](rng, (*size, samples)).astype(np.uint8) for size in SIZES]
    files = encoded(backend, pictures)
    for file, made in zip(files, pictures, strict=True):
        check(file, made)
    stand_in = CudaBackend(StandIn(), 0, 1)
    assert encoded(stand_in, pictures) == files
    stand_in.close()


def test_nvimagecodec_encodes_what_it_is_trusted_with_like_libjpeg(backend: CudaBackend) -> None:
    library = find_codecs()
    if library is None:
        pytest.skip("needs nvidia.nvimgcodec")

    def kinds() -> frozenset[tuple[int, int]]:
        writer = Writer(library, 0, backend.card.device.stream, 4)
        writer.prove(backend.card)
        return writer.kinds

    assert backend.on_card(kinds) >= {(1, 0), (3, 0)}  # how it shrinks chroma is its own affair


def test_copies_inside_the_card_are_faster_than_any_host(backend: CudaBackend) -> None:
    assert bandwidth(backend) > 50e9


@pytest.mark.parametrize("name", FILES)
def test_chunks_are_decoded_as_the_host_decodes_them(backend: CudaBackend, tmp_path: Path, name: str) -> None:
    path = tmp_path / f"{name}.tif"
    tifffile.imwrite(path, pixels(name), tile=(128, 128), **FILES[name])
    jobs = jobs_of(path)
    for job, outcome in zip(jobs, backend.decode(jobs), strict=True):
        assert difference(backend, outcome, job) <= TOLERANCE, backend.decoders


@pytest.mark.usefixtures("backend")
def test_lent_tiles_are_arrays_of_cupy(image: Path) -> None:
    cupy, running = find_cupy(), Background(Config(device="cuda", raw_cache=64 * MIB))
    with Lent(running, FileRef(image, image.parent)) as opened:
        z = opened.info.levels - 1
        expected = opened.raster(z, 1, 2, frame=3)
        for array_of in (cupy.asarray, cupy.from_dlpack):
            with opened.raster(z, 1, 2, frame=3, device=True) as view:
                assert np.array_equal(cupy.asnumpy(array_of(view)), expected)
    running.call(running.engine.close())


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight channels of 2048 × 2048 uint16, without a pyramid: 64 MiB."""
    data = np.random.default_rng(3).integers(0, 4096, (8, 2048, 2048)).astype(np.uint16)
    path = tmp_path_factory.mktemp("gpu") / "image.ome.tif"
    tifffile.imwrite(path, data, tile=(256, 256), metadata={"axes": "CYX"})
    return path


async def tiles(engine: Engine, image: Image, wanted: list[list[int]], frames: int) -> list[bytes]:
    """Return styled tiles of (level, x, y, window, encoding), 64 asked for at a time."""
    gate = asyncio.Semaphore(64)

    async def one(z: int, x: int, y: int, window: int, encoding: int) -> bytes:
        bands = [
            {"frame": frame, "min": 10 * window, "max": 4000, "palette": "#fa8"} for frame in range(frames)
        ]
        form = (Encoding(), Encoding(Format.PNG), Encoding(Format.JPEG, 70, 2))[encoding]
        view = View(style=parse({"bands": bands}), encoding=form)
        async with gate:
            return (await engine.renderer.tile(image, TileRequest(z, x, y, view), Trace())).data

    return await asyncio.gather(*(one(*each) for each in wanted))


def random_tiles(rng: np.random.Generator, image: Image, count: int) -> list[list[int]]:
    wanted = []
    for z in rng.integers(0, image.info.levels, count).tolist():
        x, y = (int(rng.integers(0, across)) for across in image.info.grid.tiles(z))
        wanted.append([z, x, y, int(rng.integers(3)), int(rng.integers(3))])
    return wanted


async def compared(path: Path, raw_cache: int, seconds: float, most: int, frames: int = 8) -> None:
    """Ask a card for random tiles until the time, or their number, is over; compare with the host's."""
    config: dict[str, Any] = {"tile_cache": 0, "raw_cache": raw_cache, "workers": 4}
    rng, asked = np.random.default_rng(5), 0
    known: dict[tuple[int, ...], Any] = {}
    async with (
        Engine(Config(device="cuda", **config)) as card,
        Engine(Config(device="cpu", **config)) as host,
    ):
        reference = FileRef(path, path.parent)
        ours, theirs = await card.image(reference), await host.image(reference)
        end, free = time.monotonic() + seconds, 0
        while time.monotonic() < end and asked < most:
            wanted = random_tiles(rng, ours, 200)
            found = await tiles(card, ours, wanted, frames)
            new = [each for each in wanted if tuple(each) not in known]
            files = [shown(file) for file in await tiles(host, theirs, new, frames)]
            known |= dict(zip(map(tuple, new), files, strict=True))
            assert [shown(file) for file in found] == [known[tuple(each)] for each in wanted]
            asked += len(wanted)
            device = card.backend.card.device  # type: ignore[attr-defined]
            left = card.backend.on_card(device.memory)[0]  # type: ignore[attr-defined]
            assert asked < 4000 or left > free - 512 * MIB, "the card's memory shrinks"
            free = left if asked < 4000 else free
        assert card.renderer.rasters.shelf.pinned == 0


@pytest.mark.usefixtures("backend")
@pytest.mark.parametrize("raw_cache", [16 * MIB, 1 << 30])
async def test_tiles_are_the_hosts_whatever_the_cache_holds(image: Path, raw_cache: int) -> None:
    await compared(image, raw_cache, seconds=60, most=TILES)


@pytest.mark.usefixtures("backend")
async def test_minutes_of_full_load_leave_tiles_right_and_memory_as_it_was(image: Path) -> None:
    await compared(image, 32 * MIB, seconds=SOAK, most=10_000_000)
