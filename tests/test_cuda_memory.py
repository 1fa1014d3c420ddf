"""A card's memory and what goes wrong on it: pressure, eviction in use, damage, bugs that must show."""

from __future__ import annotations

import asyncio
import gc
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import cupy
import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray

from gputiles.backends import Chunk, DecodeJob, DownsampleJob, Raster, RenderJob, load, modules, tables
from gputiles.backends.attic import Attic
from gputiles.backends.card import Card, Sizes, sizes
from gputiles.backends.cuda import CudaBackend
from gputiles.backends.device import Device
from gputiles.backends.memory import SLAB, Freed, Memory, slot_size
from gputiles.backends.paste import raster_of
from gputiles.batcher import Batcher
from gputiles.cardtest import shown
from gputiles.config import Config
from gputiles.encoded import Encoding, Format, Turn
from gputiles.engine import Engine
from gputiles.errors import BadStyle, Damaged, DeviceLost, LimitExceeded, OutOfMemory, Unsupported
from gputiles.geometry import Rect
from gputiles.image import Reduction
from gputiles.recipe import BandRecipe, Recipe
from gputiles.request import TileRequest, View
from gputiles.sources.bytecodec import ByteCodec
from gputiles.trace import Trace
from gputiles.walk import FileRef
from tests import parity
from tests.standin import CUDARuntimeError, StandIn, WrongThread, plugged_in

MIB = 1 << 20
U16 = np.dtype(np.uint16)
PNG = Encoding(Format.PNG)
CODEC = ByteCodec(1, 1, 16, "u", "<")


def opened(card: StandIn, shares: Sizes | None = None, wanted: int | None = None) -> CudaBackend:
    """Return a backend over the stand-in; with memory shared out as told."""
    backend = CudaBackend(card, 0, 1, wanted)
    if shares is not None:
        replaced(backend, card, shares)
    return backend


def replaced(backend: Any, card: StandIn, shares: Sizes) -> None:
    """Give a backend a card whose memory is shared out as told."""

    def reopen() -> None:
        backend.card.close()
        device = Device(card, 0, backend._thread)
        backend._attic = Attic(device, backend._attic.memory.budget)
        backend.card = Card(device, shares)
        lanes = [backend._lane(each, None) for each in (backend.card, Card(device, shares, backend.card))]
        backend.lanes[:] = lanes
        backend._free = SimpleQueue()
        for lane in lanes:
            backend._free.put(lane)

    backend.on_card(reopen)


@pytest.fixture
def card() -> StandIn:
    return StandIn()


@pytest.fixture
def backend(card: StandIn) -> Iterator[CudaBackend]:
    backend = opened(card)
    yield backend
    backend.close()


def tile_job(seed: int = 1, side: int = 64, data: bytes | None = None) -> DecodeJob:
    place = Rect(0, 0, side, side)
    pixels = np.random.default_rng(seed).integers(0, 4000, (side, side)).astype("<u2")
    return DecodeJob(
        (Chunk(CODEC, pixels.tobytes() if data is None else data, place),), (place,), (side, side), 1, U16
    )


def tile(backend: CudaBackend, seed: int = 1, side: int = 64) -> Raster:
    (tiles,) = backend.decode([tile_job(seed, side)])
    assert isinstance(tiles, tuple)
    (raster,) = tiles
    assert isinstance(raster, Raster), raster
    return raster


def grey(raster: Raster, low: float = 0.0, encoding: Encoding = PNG) -> RenderJob:
    stops = np.array([[0, 0, 0, 255], [255, 255, 255, 255]], np.float32)
    recipe = Recipe((0,), (BandRecipe(0, 0, low, 4000, stops),))
    return RenderJob(recipe, (raster,), raster.shape[1], raster.shape[0], encoding)


# -- batches


def test_64_different_requests_are_one_composite_one_encode_and_one_copy_each_way(
    backend: CudaBackend,
) -> None:
    rasters = [tile(backend, seed, 16 + seed) for seed in range(64)]
    jobs = [grey(raster, low, Encoding(Format.JPEG, 30 + low, low % 3)) for low, raster in enumerate(rasters)]
    backend.render(jobs)  # learns how large these files are
    counts = backend.card.device.counts
    counts.clear()
    files = backend.render(jobs)
    assert len({*files}) == 64
    assert counts == {"uploads": 1, "downloads": 1, "composite": 1, "jpeg": 1, "follow": 1, "pack": 1}


@pytest.mark.parametrize("least", [1, 7, 8, 65])
def test_few_jpegs_are_encoded_by_the_host_to_the_same_bytes(backend: CudaBackend, least: int) -> None:
    """Seven are in the batch, one of them turned: what is no JPEG does not count, and is made as ever."""
    rasters = [tile(backend, seed, 16 + seed) for seed in range(9)]
    forms = [Encoding(Format.JPEG, 30 + at, at % 3) for at in range(6)]
    forms += [Encoding(Format.JPEG, 80, 2, turn=Turn(1)), Encoding(Format.NPY, shown=True), PNG]
    jobs = [
        grey(raster, float(at), encoding)
        for at, (raster, encoding) in enumerate(zip(rasters, forms, strict=True))
    ]
    expected = backend.render(jobs)
    backend.habits.card_jpegs = least
    counts = backend.card.device.counts
    counts.clear()
    assert backend.render(jobs)[:8] == expected[:8]
    assert counts["jpeg"] == (least <= 7)
    assert counts["composite"] == 1


def test_what_no_jpeg_can_hold_is_refused_by_the_host_too(backend: CudaBackend) -> None:
    backend.habits.card_jpegs = 65
    job = RenderJob(Recipe((0,)), (tile(backend),), 65_501, 1, Encoding())
    fine, refused = backend.render([grey(tile(backend, 2), encoding=Encoding()), job])
    assert isinstance(fine, bytes)
    assert isinstance(refused, LimitExceeded)


def test_the_setting_reaches_the_card(card: StandIn, monkeypatch: pytest.MonkeyPatch) -> None:
    plugged_in(monkeypatch, card)
    backend = load.load_backend("cuda", 1, 1 << 24, 1 << 20, 17)
    assert isinstance(backend, CudaBackend)
    assert (backend.habits.card_jpegs, backend.spare) == (17, 7 << 17)
    backend.close()


def test_made_tiles_and_measures_are_one_launch_and_one_copy_each_way(backend: CudaBackend) -> None:
    counts = backend.card.device.counts
    for verb, jobs, kernel in (
        (parity.check_downsamples, parity.random_downsamples(U16), "downsample"),
        (parity.check_resamples, parity.random_resamples(U16), "resample"),
        (parity.check_measures, parity.random_measures(U16), "histogram"),
    ):
        counts.clear()
        verb(backend, jobs)  # type: ignore[operator]
        assert counts[kernel] == 1


def test_64_tiles_come_home_in_one_copy_or_in_as_many_as_they_need(card: StandIn) -> None:
    backend = opened(card, Sizes(32 * MIB, scratch=2 * MIB, returns=MIB, room=MIB // 4, slab=MIB))
    rasters = [tile(backend, seed, 16 + seed) for seed in range(64)]
    counts = backend.card.device.counts
    for some, copies in (
        (rasters, {"uploads": 1, "paste": 1, "downloads": 1}),
        (rasters * 4, {"downloads": 256}),
    ):
        counts.clear()
        found = backend.download(some)
        assert counts == copies
        for at, pixels in enumerate(found):
            data = tile_job(at % 64, 16 + at % 64).chunks[0].data
            assert pixels.tobytes() == data  # type: ignore[union-attr]
    assert backend.download([]) == []
    backend.close()


def test_a_whole_batch_of_made_tiles_is_decided_by_one_copy(backend: CudaBackend) -> None:
    rng = np.random.default_rng(1)
    children = parity.up(backend, [parity.raster(rng, U16, (8, 8, 1), masked=True) for _ in range(40)])
    jobs = [DownsampleJob((child, None, None, None), (8, 8), 4, 4, Reduction.MEAN) for child in children]
    counts = backend.card.device.counts
    counts.clear()
    backend.downsample(jobs)
    assert counts == {"uploads": 1, "downloads": 1, "downsample": 1, "histogram": 1}


@pytest.mark.parametrize("encoding", parity.ENCODINGS, ids=str)
def test_a_picture_beyond_the_scratch_memory_is_made_in_several_groups(
    card: StandIn, encoding: Encoding
) -> None:
    shares = Sizes(32 * MIB, scratch=2 * MIB, returns=MIB, room=MIB // 4, slab=MIB)
    backend = opened(card, shares)
    rng = np.random.default_rng(2)
    sources = [raster_of(rng.integers(0, 256, (side, 700, 3)).astype(np.uint8)) for side in (900, 5, 331)]
    jobs = [
        RenderJob(Recipe((0,)), (each,), 701, each.shape[0], encoding, background=(1, 2, 3))
        for each in sources
    ]
    launches = backend.card.device.counts
    parity.check_renders(backend, jobs)
    assert launches["unstyled"] > 1
    backend.close()


def test_a_bad_job_of_a_batch_fails_alone(backend: CudaBackend) -> None:
    fine, rasters = [tile(backend, seed) for seed in range(3)], []
    (bad,) = [tile(backend, 9)]
    stops = np.zeros((2, 4), np.float32)
    wrong = RenderJob(Recipe((0,), (BandRecipe(0, 5, 0, 1, stops),)), (bad,), 64, 64, Encoding())
    long = RenderJob(Recipe((0,)), (bad,), 65_501, 1, Encoding())
    rasters = backend.render([grey(fine[0]), wrong, grey(fine[1]), long, grey(fine[2])])
    assert [type(each) for each in rasters] == [bytes, BadStyle, bytes, LimitExceeded, bytes]


def test_a_bad_tile_of_a_batch_fails_alone(backend: CudaBackend) -> None:
    good, bad, other = backend.decode([tile_job(1), tile_job(2, data=b"short"), tile_job(3)])
    assert isinstance(bad, tuple)
    assert isinstance(bad[0], Damaged)
    for seed, outcome in ((1, good), (3, other)):
        assert isinstance(outcome, tuple)
        (pixels,) = backend.download([outcome[0]])  # type: ignore[list-item]
        expected = np.random.default_rng(seed).integers(0, 4000, (64, 64)).astype("<u2")
        assert np.array_equal(pixels[..., 0], expected)  # type: ignore[index,call-overload]


def test_rasters_larger_than_the_pinned_memory_travel_in_parts(card: StandIn) -> None:
    backend = opened(card, Sizes(32 * MIB, 2 * MIB, MIB, room=5000, slab=MIB))
    rng = np.random.default_rng(5)
    jobs = [parity.raster(rng, U16, (90, 80, 2), masked=True) for _ in range(3)]
    for host, raster in zip(jobs, parity.up(backend, jobs), strict=True):
        pixels, valid = parity.down(backend, raster)
        assert np.array_equal(pixels, host.pixels)
        assert np.array_equal(valid, host.valid)  # type: ignore[arg-type]
    backend.close()


def test_tables_larger_than_a_box_travel_in_several(backend: CudaBackend) -> None:
    rng = np.random.default_rng(5)
    source = raster_of(rng.integers(0, 4000, (8, 8, 1)).astype(np.uint16))
    palettes = [rng.integers(0, 256, (65_536, 4)).astype(np.float32) for _ in range(9)]  # 1 MiB each
    jobs = [
        RenderJob(Recipe((0,), (BandRecipe(0, 0, 0, 4000, each),)), (source,), 8, 8, Encoding(Format.PNG))
        for each in palettes
    ]
    parity.check_renders(backend, jobs)
    assert backend.card.device.counts["uploads"] > 2


# -- slots


@pytest.mark.parametrize("size", [1, 512, 513, 65_536, 65_537, 131_072, 500_000, 3 * SLAB + 1])
def test_a_slot_wastes_at_most_an_eighth(size: int) -> None:
    assert size <= slot_size(size) <= max(512, size + size // 8 + 256)
    assert slot_size(size) % 256 == 0
    assert slot_size(slot_size(size)) == slot_size(size)


def memory_of(card: StandIn, budget: int, slab: int = MIB) -> tuple[Memory, Device]:
    device = Device(card)  # this thread is the card's
    return Memory(device, budget, slab), device


def test_slots_never_overlap_and_their_places_are_used_again(card: StandIn) -> None:
    memory, _ = memory_of(card, 8 * MIB)
    rng = np.random.default_rng(3)
    held: list[Any] = []
    for size in rng.integers(1, 300_000, 400).tolist():
        try:
            held.append(memory.take(size))
        except OutOfMemory:
            del held[: len(held) // 2]
        begins = sorted((slot.address, slot.size) for slot in held)
        ends = [begin + size for begin, size in begins]
        assert all(end <= begin for end, (begin, _) in zip(ends, begins[1:], strict=False))
        assert memory.allocated <= 8 * MIB
    held.clear()
    assert memory.take(200_000).address
    assert card.used == memory.allocated


def test_memory_that_one_size_leaves_serves_another(card: StandIn) -> None:
    memory, _ = memory_of(card, 4 * MIB)
    small = [memory.take(1000) for _ in range(4 * MIB // 1024)]
    with pytest.raises(OutOfMemory, match="at most 4194304 are for tiles"):
        memory.take(100_000)
    small.clear()
    assert len([memory.take(100_000) for _ in range(4 * 9)]) == 36
    large = memory.take(3 * MIB)  # a block of its own, for which empty slabs are given up
    assert memory.allocated <= 4 * MIB
    large.give_back()


def test_a_small_slot_takes_a_large_place_where_no_slab_is_left(card: StandIn) -> None:
    memory, _ = memory_of(card, 2 * MIB)
    held = [memory.take(200_000) for _ in range(7)]
    small = memory.take(700)
    assert small.size == slot_size(200_000)
    held.append(small)
    with pytest.raises(OutOfMemory):
        memory.take(700)


def test_a_card_with_less_than_the_budget_gives_what_it_has(card: StandIn) -> None:
    memory, _ = memory_of(StandIn(3 * MIB), 64 * MIB)
    held = [memory.take(250_000) for _ in range(12)]
    with pytest.raises(OutOfMemory, match="cudaErrorMemoryAllocation"):
        memory.take(250_000)
    assert memory.allocated == 3 * MIB
    held.clear()
    assert memory.take(250_000).live
    assert memory.take(2 * MIB).live  # other slabs make room for it


def test_a_slot_that_was_given_back_must_not_be_used(backend: CudaBackend) -> None:
    raster = tile(backend)
    raster.pixels.give_back()
    with pytest.raises(Freed, match="was given back"):
        backend.render([grey(raster)])
    with pytest.raises(Freed):
        backend.download([raster])


def test_a_slot_is_free_when_nobody_holds_it(backend: CudaBackend) -> None:
    first = tile(backend, side=100)
    address = first.address
    assert tile(backend, side=100).address != address
    del first
    gc.collect()
    assert tile(backend, side=100).address == address


def test_a_place_is_not_given_away_while_a_batch_reads_it(backend: CudaBackend, card: StandIn) -> None:
    """The last holder of a raster is its batch; only after it another tile may have the place."""
    job = grey(tile(backend, 7))
    address = job.rasters[0].address
    (expected,) = backend.render([job])

    def interrupted() -> None:
        """A moment in which the batch is on the stream: others take memory."""
        places.append(backend.on_card(lambda: backend.card.memory.take(64 * 64 * 2).address))

    places: list[int] = []
    card.waiting = interrupted
    jobs = [job]
    del job
    (found,) = backend.render(jobs)
    card.waiting = lambda: None
    assert found == expected
    assert places
    assert address not in places
    jobs.clear()
    gc.collect()
    assert tile(backend, 8).address in {address, *places}


# -- threads and kernels


def test_the_card_is_touched_by_its_own_thread_only(backend: CudaBackend) -> None:
    with pytest.raises(WrongThread, match="MainThread"):
        backend.card.memory.take(100_000)
    with pytest.raises(WrongThread):
        backend.card.device.mark()
    assert tile(backend).weight == 8192


def test_a_kernel_takes_tables_of_its_own_jobs_only(card: StandIn) -> None:
    device = Device(card)
    for table, error in (
        (np.zeros(1, tables.JPEG), TypeError),
        (np.zeros(0, tables.COMPOSITE), ValueError),
        (np.zeros((2, 2), tables.COMPOSITE), ValueError),
    ):
        with pytest.raises(error, match="composite: expected"):
            modules.kernels()["composite"].grid(table)
    with pytest.raises(TypeError, match="composite: expected"):
        device.launch("composite", np.zeros(3, tables.PASTE), 0)
    device.close()


def test_every_kernel_is_known_with_its_jobs() -> None:
    assert {name: kernel.kind for name, kernel in modules.kernels().items()} == {
        **dict.fromkeys(
            ("composite", "unstyled", "downsample", "resample", "extremes", "jpeg", "icc", "turn", "ycc"),
            "PIXEL",
        ),
        **dict.fromkeys(("png_filter", "png_look", "png_reduce", "png_tail", "png_dense"), "PIXEL"),
        **dict.fromkeys(("paste", "follow", "pack"), "PIXEL"),
        "histogram": "COUNT",
        "png_deflate": "BLOCK",
        "unpack": "BLOCK",
    }


def test_a_table_of_more_jobs_than_a_grid_has_rows_is_launched_in_parts(backend: CudaBackend) -> None:
    count = modules.MOST_JOBS + 5
    source = np.arange(256, dtype=np.uint8)

    def paste() -> tuple[NDArray[Any], int]:
        card = backend.card
        card.begin()
        out, at = card.temporary(count), card.parcel.add(source)
        for number in range(count):
            card.paste(at + number % 256, out + number, (1, 1), (1, 1))
        card.go()
        card.device.fence()
        made = np.empty(count, np.uint8)
        card.courier.down([(out, made)])
        return made, card.device.counts["paste"]

    made, launches = backend.on_card(paste)
    assert launches == 2
    assert np.array_equal(made, np.arange(count) % 256)


@pytest.mark.parametrize(("file", "constant", "kernel"), [
    ("unpack.cu", "UNPACKERS", "unpack"), ("segment.h", "LANES", "png_deflate"),
])  # fmt: skip
def test_blocks_have_the_threads_that_their_kernel_shares_its_work_among(
    file: str, constant: str, kernel: str
) -> None:
    found = re.search(rf"constexpr int {constant} = (\d+);", (modules.folder() / file).read_text())
    assert found is not None
    assert int(found[1]) == modules.THREADS[kernel]


def test_the_compilers_options_change_with_every_source(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a.cu").write_text("1")
    (tmp_path / "b.h").write_text("2")
    monkeypatch.setattr(modules, "folder", lambda: tmp_path)
    seen = set()
    for text in ("2", "3"):
        (tmp_path / "b.h").write_text(text)
        modules.digest.cache_clear()
        seen.add(modules.options())
    modules.digest.cache_clear()
    assert len(seen) == 2
    assert all("--fmad=false" in options for options in seen)


def test_cupy_itself_without_a_driver_is_a_clear_error() -> None:
    if load.has_driver():
        pytest.skip("this machine has a CUDA driver")
    with pytest.raises(Unsupported, match="cuda:0 cannot be used: there is no driver that knows CuPy's CUDA"):
        Device(cupy)
    with pytest.raises(Unsupported, match="CuPy finds no CUDA card"):
        load.load_backend("cuda", 1)


@pytest.mark.parametrize(
    "name",
    [
        "RawModule", "cuda.Device", "cuda.Stream", "cuda.Event", "cuda.memory.Memory",
        "cuda.alloc_pinned_memory", "cuda.get_elapsed_time", "cuda.is_available",
        "cuda.compiler.CompileException", "cuda.driver.CUDADriverError",
        "cuda.runtime.CUDARuntimeError", "cuda.runtime.memcpyAsync",
        "cuda.runtime.memsetAsync", "cuda.runtime.memGetInfo", "cuda.runtime.getDeviceProperties",
        "cuda.runtime.driverGetVersion", "cuda.runtime.deviceSynchronize", "cuda.runtime.runtimeGetVersion",
    ],
)  # fmt: skip
def test_what_the_stand_in_offers_cupy_has(name: str) -> None:
    ours, theirs = StandIn(), cupy
    for part in name.split("."):
        assert hasattr(theirs, part), f"CuPy has no {name}"
        ours, theirs = getattr(ours, part), getattr(theirs, part)


def test_cupys_streams_and_events_have_the_stand_ins_methods() -> None:
    card = StandIn()
    Device(card).close()
    for ours, theirs, names in (
        (card.cuda.Stream(non_blocking=True), cupy.cuda.Stream, ("use", "wait_event", "ptr")),
        (card.cuda.Event(), cupy.cuda.Event, ("record", "synchronize")),
    ):
        assert all(hasattr(ours, name) and (name == "ptr" or hasattr(theirs, name)) for name in names)


# -- pressure


def test_memory_is_shared_out_within_what_is_free() -> None:
    for free in (64 * MIB, 1 << 30, 80 << 30):
        for wanted in (None, 0, 16 * MIB, free * 2):
            shares = sizes(free, wanted)
            assert 0 < shares.rasters <= free - shares.scratch - shares.returns
            assert shares.slab <= shares.rasters


@pytest.mark.parametrize(("side", "count"), [(200, 100), (512, 24)], ids=["slabs", "alone"])
def test_memory_that_no_tile_needs_is_given_up_for_whatever_else_does(
    backend: CudaBackend, card: StandIn, side: int, count: int
) -> None:
    held = [tile(backend, seed, side) for seed in range(count)]
    card.total = card.used  # somebody else has taken the rest
    device, size = backend.card.device, 5 * MIB
    with pytest.raises(OutOfMemory, match="cudaErrorMemoryAllocation"):
        backend.on_card(lambda: device.allocate(size))
    allocated = backend.card.memory.allocated
    held.clear()
    gc.collect()
    block = backend.on_card(lambda: device.allocate(size))
    assert block.size == size
    assert backend.card.memory.allocated <= allocated - size
    backend.on_card(lambda: device.free(block))


async def test_a_batch_whose_tables_find_no_room_is_tried_again_when_the_shelf_has_given_some(
    backend: CudaBackend, card: StandIn
) -> None:
    rng = np.random.default_rng(5)
    shelf = [tile(backend, seed, 512) for seed in range(64)]
    palettes = [rng.integers(0, 256, (65_536, 4)).astype(np.float32) for _ in range(6)]  # 1 MiB each
    raster = tile(backend)
    bands = tuple(BandRecipe(0, 0, 0, 4000, each) for each in palettes)
    job = RenderJob(Recipe((0,), bands), (raster,), 64, 64, PNG)
    batcher = Batcher(backend, items=100, weight=1 << 30)
    total, card.total = card.total, card.used  # somebody else has taken the rest
    with pytest.raises(OutOfMemory, match="cudaErrorMemoryAllocation"):
        await batcher.submit("render", job, Trace())
    shares: list[float] = []

    def relieve(share: float) -> None:
        shares.append(share)
        del shelf[: int(share * 64)]

    batcher.relieve = relieve
    found = await batcher.submit("render", job, Trace())
    batcher.close()
    assert shares == [0.25]
    card.total = total
    assert backend.render([job]) == [found]


def test_tiles_under_way_find_room_beside_a_small_shelf() -> None:
    """However small: as many as 64 requests of 8 channels and what those are made of."""
    assert sizes(80 << 30, 0).rasters >= 1 << 30
    assert sizes(80 << 30, 40 << 30).rasters == 45 << 30


def test_a_shelf_that_the_card_has_no_room_for_is_as_large_as_the_card_allows(
    card: StandIn, caplog: pytest.LogCaptureFixture
) -> None:
    """Else each eviction would be one for want of memory, which gives up a quarter of all."""
    most = opened(card)
    assert "raw-cache" not in caplog.text
    most.close()
    for wanted, told in ((1 << 40, True), (most.capacity + 1, True), (most.capacity, False), (MIB, False)):
        caplog.clear()
        backend = opened(card, wanted=wanted)
        assert backend.capacity == min(wanted, most.capacity)
        assert backend.capacity <= backend.card.memory.budget
        assert (f"raw-cache: {wanted} bytes are more than the card has room for" in caplog.text) is told
        backend.close()


def test_out_of_memory_is_that_of_the_jobs_that_find_no_room(card: StandIn) -> None:
    backend = opened(card, Sizes(4 * MIB, 2 * MIB, MIB, MIB, slab=MIB))
    held = [outcome for outcome in backend.decode([tile_job(1, 512)] * 12) if isinstance(outcome, tuple)]
    assert 0 < len(held) < 12
    failed = backend.decode([tile_job(2, 512)])
    assert [type(outcome) for outcome in failed] == [OutOfMemory]
    held.pop()
    gc.collect()
    assert isinstance(backend.decode([tile_job(2, 512)])[0], tuple)
    backend.close()


async def test_a_batch_without_room_is_tried_once_more_when_the_shelf_has_given_some(
    card: StandIn,
) -> None:
    backend = opened(card, Sizes(4 * MIB, 2 * MIB, MIB, MIB, slab=MIB))
    batcher = Batcher(backend, items=100, weight=1 << 30)
    shelf = [tiles for tiles in backend.decode([tile_job(1, 512)] * 12) if isinstance(tiles, tuple)]
    calls: list[float] = []

    def relieve(share: float) -> None:
        calls.append(share)
        del shelf[:2]

    with pytest.raises(OutOfMemory):
        await batcher.submit("decode", tile_job(3, 512), Trace())
    batcher.relieve = relieve
    (found,) = await batcher.submit("decode", tile_job(3, 512), Trace())
    assert isinstance(found, Raster)
    assert calls == [0.25]
    shelf += [found] * 2
    shelf.clear()
    batcher.close()
    backend.close()


@pytest.mark.parametrize("shelf", [2 * MIB, 64 * MIB], ids=["shelf", "card"])
async def test_tiles_are_right_under_memory_pressure(
    card: StandIn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shelf: int
) -> None:
    """The image is larger than the shelf, or than the card, which then makes the shelf give."""
    data = np.random.default_rng(3).integers(0, 4096, (4, 700, 900)).astype(np.uint16)
    path = tmp_path / "a.ome.tif"
    tifffile.imwrite(path, data, tile=(128, 128), metadata={"axes": "CYX"})
    plugged_in(monkeypatch, card)
    places = np.random.default_rng(1).integers(0, (4, 8, 6), (300, 3)).tolist()
    async with Engine(Config(device="cuda", raw_cache=shelf, tile_cache=0, workers=2)) as engine:
        replaced(engine.backend, card, Sizes(3 * MIB, 2 * MIB, MIB, MIB, slab=MIB // 4))
        ours = await asked(engine, path, places)
        rasters = engine.renderer.rasters.shelf
        assert rasters.evictions > 20
        assert rasters.pinned == 0
    async with Engine(Config(device="cpu", workers=2)) as engine:
        theirs = await asked(engine, path, places)
    assert [shown(file) for file in ours] == [shown(file) for file in theirs]


async def asked(engine: Engine, path: Path, places: list[list[int]]) -> list[bytes]:
    """Return tiles of (frame, x, y), asked for twenty at a time."""
    image = await engine.image(FileRef(path, path.parent))
    gate = asyncio.Semaphore(20)

    async def ask(frame: int, x: int, y: int) -> bytes:
        async with gate:
            view = View(frame=frame, encoding=Encoding(Format.PNG))
            return (await engine.renderer.tile(image, TileRequest(3, x, y, view), Trace())).data

    return await asyncio.gather(*(ask(*place) for place in places))


def test_a_lost_card_fails_all_that_comes_and_ends_without_an_error(
    backend: CudaBackend, card: StandIn
) -> None:
    job = grey(tile(backend))
    card.fail = CUDARuntimeError(700, "cudaErrorIllegalAddress")
    lost = [backend.render([job]), backend.decode([tile_job()]), backend.download([job.rasters[0]])]
    card.fail = None
    lost.append(backend.render([job, job]))
    assert all(isinstance(outcome, DeviceLost) for outcomes in lost for outcome in outcomes)
    assert backend.lost is not None


def test_a_bug_reaches_the_caller_and_not_the_thread(backend: CudaBackend) -> None:
    job = grey(tile(backend))
    with pytest.raises(AttributeError):
        backend.render([replace(job, rasters=(None,))])  # type: ignore[arg-type]
    assert isinstance(backend.render([job])[0], bytes)
