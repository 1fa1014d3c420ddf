"""Packed samples on a card: inflated by the host, made tiles of by one kernel, the host's pixels."""

from __future__ import annotations

import lzma
import zlib
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import pytest

from gputiles.backends import Chunk, DecodeJob, Raster, packing, tables
from gputiles.backends.card import Sizes
from gputiles.backends.cuda import CudaBackend
from gputiles.backends.paste import decode_tiles
from gputiles.cardtest import packed
from gputiles.errors import Damaged, GputilesError, OutOfMemory
from gputiles.geometry import Rect
from gputiles.sources.bytecodec import ByteCodec
from tests.conftest import shared
from tests.standin import StandIn
from tests.test_cuda_decode import jobs_of
from tests.test_cuda_encoders import Changed, changed
from tests.test_cuda_memory import MIB, U16, opened, replaced, tile_job

LEVEL = (100, 40)
CHUNK = (64, 32)
TILES = (
    Rect(0, 0, 64, 32), Rect(10, 5, 81, 33), Rect(64, 32, 36, 8), Rect(0, 0, 100, 40), Rect(99, 39, 1, 1),
)  # fmt: skip
PACK: dict[int, Any] = {
    1: bytes,
    5: imagecodecs.lzw_encode,
    8: zlib.compress,
    32773: imagecodecs.packbits_encode,
    34925: lzma.compress,
    50000: imagecodecs.zstd_encode,
}
REAL = (
    "Pillow__hopper.Lab.tif", "Pillow__tiff_tiled_planar_16bit_RGBa.tiff", "cogeotiff__be_cog.tiff",
    "cantaloupe__tif-rgb-3res-64x56x16-tiled-uncompressed.tif", "exampletiffs__shapes_lzw_predictor3.tif",
    "exampletiffs__multi-channel-time-series.ome.tif", "image-tiff__BigTIFFMotorola.tif",
    "image-tiff__tiled-rect-rgb-u8.tif",
    "imagecodecs__rgba.separate.tiled.u1.tif", "imageio-ext__emptyTiles.tif", "imageio-ext__zstd_p3.tif",
    "large_image__yb10kx5k.zstd.tiff", "libtiff__deflate-last-strip-extra-data.tiff",
)  # fmt: skip
LARGE = Sizes(64 * MIB, scratch=2 * MIB, returns=MIB, room=4 * MIB, slab=MIB)


@pytest.fixture(params=[-1, 2], ids=["backwards", "shuffled"])
def backend(request: pytest.FixtureRequest) -> Iterator[CudaBackend]:
    backend = CudaBackend(StandIn(1 << 28, order=request.param), 0, 2)
    yield backend
    backend.close()


def job_of(
    dtype: np.dtype[Any], codec: ByteCodec, samples: int, seed: int = 1, tiles: tuple[Rect, ...] = TILES
) -> DecodeJob:
    """Return a job over all chunks of a level; planar where they have fewer samples than a pixel."""
    rng = np.random.default_rng(seed)
    width, height = CHUNK
    chunks = []
    for sample in range(0, samples, codec.samples):
        for y in range(0, LEVEL[1], height):
            for x in range(0, LEVEL[0], width):
                values = rng.integers(0, 256, (height, width, codec.samples * dtype.itemsize)).astype(
                    np.uint8
                )
                data = bytes(PACK[codec.compression](packed(values.view(dtype), codec)))
                chunks.append(Chunk(codec, data, Rect(x, y, width, height), sample))
    return DecodeJob(tuple(chunks), tiles, LEVEL, samples, dtype)


def codec_of(
    dtype: np.dtype[Any], samples: int, order: Any = "<", predictor: int = 1, compression: int = 1
) -> ByteCodec:
    return ByteCodec(compression, samples, 8 * dtype.itemsize, dtype.kind, order, predictor)


def every_packing(dtype: np.dtype[Any]) -> list[DecodeJob]:
    """Return jobs in both byte orders, with the predictors of a type, interleaved and planar."""
    return [
        job_of(dtype, codec_of(dtype, own, order, predictor), samples, seed)
        for seed, (own, samples) in enumerate([(1, 1), (3, 3), (1, 3), (2, 2)])
        for order in "<>"
        for predictor in (1, 2, 3)
        if predictor < 3 or dtype.kind == "f"
    ]


def check(backend: CudaBackend, jobs: list[DecodeJob]) -> None:
    """Decode jobs as one batch: one launch, and the host's pixels."""
    counts = backend.card.device.counts
    counts.clear()
    outcomes = backend.decode(jobs)
    assert counts == {"uploads": 2, "unpack": 1}
    for job, outcome in zip(jobs, outcomes, strict=True):
        expect_the_hosts(backend, outcome, job)


def expect_the_hosts(backend: CudaBackend, outcome: Any, job: DecodeJob) -> None:
    """Compare all tiles of a job with the host's, bit by bit, and what is said of those that failed."""
    assert isinstance(outcome, tuple), outcome
    for ours, theirs in zip(outcome, decode_tiles(job), strict=True):
        if isinstance(theirs, GputilesError):
            assert (type(ours), str(ours)) == (type(theirs), str(theirs))
            continue
        assert isinstance(ours, Raster), ours
        (found,) = backend.download([ours])
        assert isinstance(found, np.ndarray)
        assert (found.shape, found.dtype) == (theirs.shape, theirs.dtype)
        assert found.tobytes() == theirs.pixels.tobytes(), "unpacked otherwise than by the host"


@pytest.mark.parametrize("dtype", tables.TYPES, ids=str)
def test_samples_of_every_type_are_the_hosts(backend: CudaBackend, dtype: np.dtype[Any]) -> None:
    check(backend, every_packing(dtype))


@pytest.mark.parametrize("compression", PACK)
def test_every_compression_is_undone_into_pinned_memory(backend: CudaBackend, compression: int) -> None:
    check(backend, [job_of(U16, codec_of(U16, 1, ">", 2, compression), 1)])


def test_what_is_no_whole_sample_or_not_all_there_is_the_hosts_work() -> None:
    job = job_of(U16, codec_of(U16, 1), 1)
    first, *others = job.chunks
    assert packing.sizes(job) == [64 * 32 * 2] * 4
    for other in (
        replace(job, chunks=(replace(first, data=None), *others)),
        replace(job, chunks=(replace(first, data=Damaged("a read failed")), *others)),
        replace(job, chunks=tuple(others)),
        replace(job, chunks=job.chunks, samples=2),
        replace(job, tiles=(Rect(90, 0, 20, 10),)),
        replace(job, mask=(first,)),
        replace(job, dtype=np.dtype(np.float32)),
        replace(job, chunks=(replace(first, codec=replace(codec_of(U16, 1), lsb_first=True)), *others)),
        replace(job, chunks=(replace(first, codec=ByteCodec(1, 1, 12, "u", "<")), *others)),
        replace(job, chunks=(replace(first, codec=ByteCodec(4, 1, 1, "u", "<")), *others)),
        replace(job, chunks=(replace(first, sample=1), *others)),
    ):
        assert packing.sizes(other) == [], other


@pytest.mark.parametrize(
    ("dtype", "predictor"), [(np.uint16, 34892), (np.uint16, 34893), (np.float32, 34894), (np.float32, 34895)]
)
def test_predictors_that_the_kernel_does_not_know_are_the_hosts_work(dtype: Any, predictor: int) -> None:
    """Those of DNG, which look further to the left."""
    job = job_of(np.dtype(dtype), codec_of(np.dtype(dtype), 1), 1)
    chunks = tuple(replace(chunk, codec=replace(chunk.codec, predictor=predictor)) for chunk in job.chunks)  # type: ignore[type-var]
    job = replace(job, chunks=chunks)
    assert packing.sizes(job) == []
    backend = opened(StandIn(), LARGE)
    (outcome,) = backend.decode([job])
    assert backend.card.device.counts["unpack"] == 0
    expect_the_hosts(backend, outcome, job)
    backend.close()


def test_a_damaged_chunk_fails_the_tiles_above_it_alone(backend: CudaBackend) -> None:
    dtype = np.dtype(np.uint8)
    whole = job_of(dtype, codec_of(dtype, 1, compression=8), 1)
    first, *others = whole.chunks
    for data in (b"no stream", zlib.compress(bytes(100)), b""):
        broken = replace(whole, chunks=(replace(first, data=data), *others))
        good, outcome = backend.decode([whole, broken])
        expect_the_hosts(backend, good, whole)
        expect_the_hosts(backend, outcome, broken)
        assert isinstance(outcome, tuple)
        assert [isinstance(tile, Damaged) for tile in outcome] == [True, True, False, True, False]


def test_a_batch_of_more_than_a_tray_goes_in_several(backend: CudaBackend) -> None:
    card = backend.card.device.cupy
    replaced(backend, card, LARGE._replace(room=1 << 16))
    jobs = [job_of(U16, codec_of(U16, 1, compression=8), 1, seed) for seed in range(7)]
    assert sum(packing.sizes(jobs[0])) == 1 << 14
    counts = backend.card.device.counts
    counts.clear()
    outcomes = backend.decode(jobs)
    assert counts == {"uploads": 8, "unpack": 4}  # two in a tray
    for job, outcome in zip(jobs, outcomes, strict=True):
        expect_the_hosts(backend, outcome, job)


def test_a_job_that_finds_no_room_leaves_no_trace_in_others_tiles() -> None:
    """Its first tiles find room, its last does not: what they had is the next job's."""
    card = StandIn()
    backend = opened(card, LARGE._replace(rasters=4 * MIB))
    side = 512  # half a MiB a tile
    wide = tile_job(1, side)
    greedy = replace(wide, tiles=(*wide.tiles * 9,))
    outcomes = backend.decode([greedy, tile_job(2, side), greedy, tile_job(3, side)])
    assert [type(outcome) for outcome in outcomes] == [OutOfMemory, tuple, OutOfMemory, tuple]
    for seed, outcome in ((2, outcomes[1]), (3, outcomes[3])):
        expect_the_hosts(backend, outcome, tile_job(seed, side))
    backend.close()


def test_a_chunk_larger_than_a_tray_is_decoded_by_the_host() -> None:
    backend = opened(StandIn(), LARGE._replace(room=4096))
    jobs = [tile_job(seed, side) for seed, side in ((1, 20), (2, 64), (3, 22))]
    counts = backend.card.device.counts
    counts.clear()
    outcomes = backend.decode(jobs)
    assert counts["unpack"] == 1
    for job, outcome in zip(jobs, outcomes, strict=True):
        assert isinstance(outcome, tuple)
        assert isinstance(outcome[0], Raster)
        expect_the_hosts(backend, outcome, job)
    backend.close()


MUTANTS = [
    ("if (!job.swapped) return value;", "return value;"),
    ("(u64)value >> (8 * i) & 255", "(u64)value >> (8 * i) & 127"),
    ("for (int i = 0; i < lane; ++i) sum", "for (int i = 0; i <= lane; ++i) sum"),
    ("from += (i64)job.left * job.samples;", ""),
    ("(i64)(i / job.samples) * job.stride", "(i64)(i / job.samples) * job.samples"),
    ("share_of(job.left + job.columns, lane)", "share_of(job.columns, lane)"),
    ("if (x >= job.left)", "if (x > job.left)"),
    ("(i64)(x - job.left) * job.stride + s", "(i64)(x - job.left) * job.stride"),
    ("share_of(job.width * job.size, lane)", "share_of(job.width * job.size - 1, lane)"),
    ("byte = job.size - 1 - k / job.width", "byte = k / job.width"),
    ("x = k % job.width - job.left", "x = k % job.width"),
    ("if (job.predictor == 2)", "if (job.predictor == 4)"),
    ("// What all threads", "// What all threads"),  # as it is
]


@pytest.mark.parametrize(("before", "after"), MUTANTS)
def test_a_changed_operator_shows(tmp_path: Path, before: str, after: str) -> None:
    card = StandIn()
    backend = CudaBackend(card, 0, 2)
    card.library = Changed(changed(tmp_path, "unpack.cu", before, after), "unpack.cu")  # type: ignore[assignment]
    replaced(backend, card, LARGE)
    jobs = [job for name in ("uint16", "float32") for job in every_packing(np.dtype(name))]
    with nullcontext() if before == after else pytest.raises(AssertionError, match="unpacked otherwise"):
        for job, outcome in zip(jobs, backend.decode(jobs), strict=True):
            expect_the_hosts(backend, outcome, job)
    backend.close()


@pytest.mark.parametrize("name", REAL)
def test_chunks_of_real_files_are_the_hosts(name: str) -> None:
    """The first of each file's full resolution, and the one at its rim."""
    jobs = jobs_of(shared("data", name))
    backend = CudaBackend(StandIn(), 0, 2)
    chosen = [*jobs[:3], jobs[-1]]
    for job, outcome in zip(chosen, backend.decode(chosen), strict=True):
        expect_the_hosts(backend, outcome, job)
    backend.close()
