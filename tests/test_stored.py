"""Stored tiles: the channels of a tile are brought by one flight, and still each for itself."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterable
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

import gputiles
from gputiles import stored, style
from gputiles.cache import Hold
from gputiles.errors import Damaged, OutOfMemory, Overloaded
from gputiles.geometry import Rect
from gputiles.rasters import FLYING, Work
from gputiles.reading_room import ReadingRoom
from gputiles.request import TileRequest, View
from gputiles.sources import athand
from gputiles.sources.bytesource import Span
from gputiles.sources.tiff import TiffSource
from gputiles.stored import joined
from gputiles.trace import Trace
from tests.test_engine import engine, noise, reference, write
from tests.test_passing import needs_nowait
from tests.waiting import until

CHANNELS, SIDE = 6, 128


@pytest.fixture
def channels(tmp_path: Path) -> Path:
    data = noise(CHANNELS, 2 * SIDE, 2 * SIDE)
    return write(tmp_path / "channels.ome.tif", data, tile=(SIDE, SIDE), metadata={"axes": "CYX"})


def tile_of(frames: Iterable[int], z: int = 1, x: int = 1) -> TileRequest:
    bands = [{"frame": frame, "min": 0, "max": 4000, "palette": "#fff"} for frame in frames]
    return TileRequest(z, x, 0, View(style=style.parse({"bands": bands})))


def counted(monkeypatch: pytest.MonkeyPatch, broken: int = -1) -> Callable[[], list[int]]:
    """Note the frame of each read that succeeds from now on; frame ``broken`` cannot be read."""
    frames: list[int] = []
    read = TiffSource.read

    def noting(self: TiffSource, frame: int, z: int, unit: Rect) -> Any:
        if frame == broken:
            raise Damaged(f"frame {frame} is broken")
        job = read(self, frame, z, unit)
        frames.append(frame)
        return job

    monkeypatch.setattr(TiffSource, "read", noting)
    return lambda: sorted(frames)


async def test_channels_of_a_cold_tile_are_one_flight(
    channels: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    frames, queued = counted(monkeypatch), []
    with tifffile.TiffFile(channels) as tiff:
        planes = tiff.asarray()
    async with engine(workers=1) as running:
        image = await running.image(reference(channels))
        enqueue = running.batcher.enqueue

        def noting(verb: str, *rest: Any, **how: Any) -> Any:
            queued.append(verb)
            return enqueue(verb, *rest, **how)

        monkeypatch.setattr(running.batcher, "enqueue", noting)
        await running.renderer.tile(image, tile_of(range(CHANNELS)), Trace())
        assert frames() == list(range(CHANNELS))
        assert queued == ["decode"] * CHANNELS + ["render"]
        for frame in range(CHANNELS):
            tile = await running.renderer.raster(image, frame, image.info.levels - 1, 1, 0)
            assert np.array_equal(tile[..., 0], planes[frame, :SIDE, SIDE:])
        assert frames() == list(range(CHANNELS))


async def test_of_many_channels_some_fly_together(tmp_path: Path) -> None:
    count = 2 * FLYING + 1
    data = noise(count, SIDE, SIDE)
    path = write(tmp_path / "many.ome.tif", data, tile=(SIDE, SIDE), metadata={"axes": "CYX"})
    async with engine() as running:
        image, shelf = await running.image(reference(path)), running.renderer.rasters.shelf
        flights: list[int] = []
        once_each = shelf.once_each

        def noting(keys: Any, make: Any) -> Any:
            flights.append(len(keys))
            return once_each(keys, make)

        shelf.once_each = noting  # type: ignore[method-assign]
        await running.renderer.tile(image, tile_of(range(count), 0, 0), Trace())
        assert flights == [FLYING, FLYING, 1]


async def test_who_asks_for_one_channel_of_a_flight_waits_for_it(
    channels: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    frames = counted(monkeypatch)
    async with engine() as running:
        image = await running.image(reference(channels))
        every = running.renderer.tile(image, tile_of(range(CHANNELS)), Trace())
        two = running.renderer.tile(image, tile_of((2, 4)), Trace())
        one = running.renderer.raster(image, 3, image.info.levels - 1, 1, 0)
        await asyncio.gather(every, two, one)
        assert frames() == list(range(CHANNELS))


async def test_a_channel_that_cannot_be_read_fails_alone(
    channels: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    counted(monkeypatch, broken=1)
    async with engine() as running:
        image = await running.image(reference(channels))
        every = asyncio.create_task(running.renderer.tile(image, tile_of(range(CHANNELS)), Trace()))
        await asyncio.sleep(0)
        others = asyncio.create_task(running.renderer.tile(image, tile_of((0, 2)), Trace()))
        with pytest.raises(Damaged, match="frame 1 is broken"):
            await every
        assert (await others).data
        assert running.renderer.rasters.shelf.reserved == running.renderer.rasters.shelf.flights == 0


async def test_a_tile_that_lacks_some_of_its_channels_reads_those_alone(
    channels: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with engine() as running:
        image, shelf = await running.image(reference(channels)), running.renderer.rasters.shelf
        whole = await running.renderer.tile(image, tile_of(range(CHANNELS)), Trace())
        running.clear()
        image = await running.image(reference(channels))
        await running.renderer.tile(image, tile_of((1, 4)), Trace())
        frames, trace, hits = counted(monkeypatch), Trace(), shelf.hits
        again = await running.renderer.tile(image, tile_of(range(CHANNELS)), trace)
        assert again.data == whole.data
        assert frames() == [0, 2, 3, 5]
        assert trace.cache == "miss"
        assert shelf.hits == hits + 2
        assert shelf.pinned == shelf.flights == running.renderer.tiles.flights == 0


async def test_who_leaves_while_channels_are_read_calls_that_off_and_nothing_stays_pinned(
    channels: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with engine(workers=1) as running:
        image, shelf = await running.image(reference(channels)), running.renderer.rasters.shelf
        await running.renderer.tile(image, tile_of((1, 4)), Trace())
        gate, began, decode = threading.Event(), threading.Event(), running.backend.decode

        def slow(jobs: Any) -> Any:
            began.set()
            assert gate.wait(30)
            return decode(jobs)

        monkeypatch.setattr(running.backend, "decode", slow)
        leaves = asyncio.create_task(running.renderer.tile(image, tile_of(range(CHANNELS)), Trace()))
        stays = asyncio.create_task(running.renderer.tile(image, tile_of((1, 4), x=0), Trace()))
        await asyncio.to_thread(until, began.is_set)
        assert shelf.pinned
        leaves.cancel()
        with pytest.raises(asyncio.CancelledError):
            await leaves
        await asyncio.to_thread(until, lambda: running.renderer.tiles.flights == 1)
        gate.set()
        assert (await stays).data
        await asyncio.to_thread(until, lambda: running.batcher.idle)
        assert shelf.pinned == shelf.flights == running.renderer.tiles.flights == 0
        assert (await running.renderer.tile(image, tile_of(range(CHANNELS)), Trace())).data


async def test_a_tile_whose_channel_is_on_its_way_for_another_waits_for_that(
    channels: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    frames = counted(monkeypatch)
    async with engine() as running:
        image = await running.image(reference(channels))
        tiles = [running.renderer.tile(image, tile_of(range(n)), Trace()) for n in range(1, CHANNELS + 1)]
        assert len({tile.data for tile in await asyncio.gather(*tiles)}) == CHANNELS
        assert frames() == list(range(CHANNELS))
        assert running.renderer.rasters.shelf.pinned == running.renderer.tiles.flights == 0


@pytest.mark.parametrize("times", [1, 2])
async def test_a_tile_gets_another_try_where_memory_was_short_for_its_channels(
    channels: Path, monkeypatch: pytest.MonkeyPatch, times: int
) -> None:
    async with engine() as running:
        image, decode, tries = await running.image(reference(channels)), running.backend.decode, count()

        def refusing(jobs: Any) -> Any:
            return [OutOfMemory("none left")] * len(jobs) if next(tries) < times else decode(jobs)

        monkeypatch.setattr(running.backend, "decode", refusing)
        assert (await running.renderer.tile(image, tile_of(range(CHANNELS)), Trace())).data
        assert running.renderer.rasters.shelf.pinned == running.renderer.tiles.flights == 0


def replaced_at_the_first_read(monkeypatch: pytest.MonkeyPatch, path: Path, by: Path) -> None:
    """Have another file moved to ``path`` as soon as any is read."""
    read = TiffSource.read

    def replaced(self: TiffSource, frame: int, z: int, unit: Rect) -> Any:
        if by.exists():
            by.rename(path)
        return read(self, frame, z, unit)

    monkeypatch.setattr(TiffSource, "read", replaced)


@pytest.fixture
def others(tmp_path: Path) -> Path:
    """A file as that of ``channels``, of other pixels."""
    data = noise(CHANNELS, 2 * SIDE, 2 * SIDE, seed=2)
    return write(tmp_path / "others.ome.tif", data, tile=(SIDE, SIDE), metadata={"axes": "CYX"})


async def test_a_file_that_is_replaced_while_channels_are_read_shows_as_it_is_then(
    channels: Path, others: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with engine() as running:
        other = await running.image(reference(others))
        expected = await running.renderer.tile(other, tile_of(range(CHANNELS)), Trace())
        image = await running.image(reference(channels))
        replaced_at_the_first_read(monkeypatch, channels, others)
        tile = await running.renderer.tile(image, tile_of(range(CHANNELS)), Trace())
        assert tile.data == expected.data
        assert running.renderer.rasters.shelf.pinned == running.renderer.tiles.flights == 0


def test_so_it_does_in_a_program(channels: Path, others: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    style = {"bands": [{"frame": frame, "min": 0, "max": 4000} for frame in range(CHANNELS)]}
    with gputiles.open(others) as image:
        expected = image.tile(1, 1, 0, style=style)
    with gputiles.open(channels) as image:
        replaced_at_the_first_read(monkeypatch, channels, others)
        assert image.tile(1, 1, 0, style=style) == expected


@needs_nowait
async def test_channels_at_hand_are_read_by_who_asks_before_any_is_decoded(
    channels: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log: list[str] = []
    read = TiffSource.read

    def noting(self: TiffSource, frame: int, z: int, unit: Rect) -> Any:
        log.append(f"read {frame} {threading.current_thread() is threading.main_thread()}")
        return read(self, frame, z, unit)

    monkeypatch.setattr(TiffSource, "read", noting)
    async with engine(workers=2) as running:
        image = await running.image(reference(channels))
        give = running.batcher._crew.give

        def giving(batch: Any) -> None:
            log.append(f"{batch[0].verb} {len(batch)}")
            give(batch)

        monkeypatch.setattr(running.batcher._crew, "give", giving)
        await running.renderer.tile(image, tile_of(range(CHANNELS)), Trace())
    reads = [f"read {frame} True" for frame in range(CHANNELS)]
    assert log == [*reads, f"decode {CHANNELS}", "render 1"]  # which the kernels' own threads share


@pytest.mark.parametrize("known", [0, 4])
async def test_channels_that_are_not_at_hand_are_read_by_readers(
    channels: Path, monkeypatch: pytest.MonkeyPatch, known: int
) -> None:
    async with engine() as running:
        image = await running.image(reference(channels))
        whole = await running.renderer.tile(image, tile_of(range(CHANNELS)), Trace())
        running.clear()
        image = await running.image(reference(channels))
        read = TiffSource.read

        def noting(self: TiffSource, frame: int, z: int, unit: Rect) -> Any:
            if not athand.may_wait() and frame >= known:
                raise athand.NotAtHand
            readers.append((frame, "reader" in threading.current_thread().name))
            return read(self, frame, z, unit)

        readers: list[tuple[int, bool]] = []
        monkeypatch.setattr(TiffSource, "read", noting)
        again = await running.renderer.tile(image, tile_of(range(CHANNELS)), Trace())
        assert again.data == whole.data
        assert sorted(readers) == [(frame, frame >= known) for frame in range(CHANNELS)]


async def test_no_more_is_read_by_who_asks_than_takes_a_moment(
    channels: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stored, "MOST", 3 * SIDE * SIDE * 2)  # of the file, whose tiles are of noise
    threads: list[bool] = []
    read = TiffSource.read

    def noting(self: TiffSource, frame: int, z: int, unit: Rect) -> Any:
        job = read(self, frame, z, unit)
        threads.append("reader" in threading.current_thread().name)
        return job

    monkeypatch.setattr(TiffSource, "read", noting)
    async with engine() as running:
        image = await running.image(reference(channels))
        await running.renderer.tile(image, tile_of(range(CHANNELS)), Trace())
    assert len(threads) == CHANNELS
    assert 3 <= threads.count(True) < CHANNELS


class Slow:
    """A raster whose download takes as long as the gate is closed."""

    def __init__(self) -> None:
        self.gate = threading.Event()

    @property
    def pixels(self) -> Any:
        assert self.gate.wait(30)
        return np.zeros(1)


@needs_nowait
@pytest.mark.parametrize("busy", [False, True])
async def test_what_nobody_waits_for_is_read_at_once_where_workers_have_nothing_to_do(
    channels: Path, monkeypatch: pytest.MonkeyPatch, busy: bool
) -> None:
    threads: list[str] = []
    read, slow = TiffSource.read, Slow()

    def noting(self: TiffSource, frame: int, z: int, unit: Rect) -> Any:
        threads.append(threading.current_thread().name)
        return read(self, frame, z, unit)

    monkeypatch.setattr(TiffSource, "read", noting)
    async with engine(workers=1) as running:
        image, rasters = await running.image(reference(channels)), running.renderer.rasters
        before = asyncio.create_task(running.batcher.submit("download", slow, Trace())) if busy else None
        await asyncio.sleep(0)
        assert running.batcher.idle != busy
        with Hold(rasters.shelf) as hold:
            work = Work(image, Trace(), background=True)
            taken = asyncio.create_task(rasters.take(work, (0,), 1, Rect(0, 0, 1, 1), hold))
            while not threads:
                await asyncio.sleep(0)
            slow.gate.set()
            await taken
        if before is not None:
            await before
    assert ["reader" in name for name in threads] == [busy]


@needs_nowait
async def test_channels_that_are_left_to_workers_do_not_add_up(
    large: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stored, "MOST", 3 * LARGE * LARGE)  # bytes: a channel and a half
    left: list[bool] = []
    read = TiffSource.read

    def noting(self: TiffSource, frame: int, z: int, unit: Rect) -> Any:
        job = read(self, frame, z, unit)
        left.append(job.left)
        return job

    monkeypatch.setattr(TiffSource, "read", noting)
    async with engine() as running:
        image = await running.image(reference(large))
        await running.renderer.tile(image, tile_of(range(CHANNELS), 0, 0), Trace())
    assert left == [True] * CHANNELS


async def test_a_file_that_changes_while_it_is_read_at_hand_is_opened_anew(
    channels: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read, other = TiffSource.read, noise(CHANNELS, 2 * SIDE, 2 * SIDE) // 2

    def replacing(self: TiffSource, frame: int, z: int, unit: Rect) -> Any:
        job = read(self, frame, z, unit)
        if frame == 3 and not replaced:
            replaced.append(frame)
            write(channels, other, tile=(SIDE, SIDE), metadata={"axes": "CYX"})
        return job

    replaced: list[int] = []
    monkeypatch.setattr(TiffSource, "read", replacing)
    async with engine() as running:
        image = await running.image(reference(channels))
        await running.renderer.tile(image, tile_of(range(CHANNELS)), Trace())
        assert replaced
        image = await running.image(reference(channels))
        tile = await running.renderer.raster(image, 0, image.info.levels - 1, 1, 0)
        assert np.array_equal(tile[..., 0], other[0, :SIDE, SIDE:])
        assert running.renderer.rasters.shelf.reserved == running.renderer.rasters.shelf.flights == 0


LARGE = 256  # pixels on a side of chunks that take longer to copy than to look at
READINGS: dict[str, Callable[[Span], Any]] = {"read": Span.read, "at": Span.at.fget}  # type: ignore[attr-defined]
"""How what was left in the file is read by who decodes it: its bytes, or where a kernel finds them."""


@pytest.fixture
def large(tmp_path: Path) -> Path:
    data = noise(CHANNELS, LARGE, LARGE)
    return write(tmp_path / "large.ome.tif", data, tile=(LARGE, LARGE), metadata={"axes": "CYX"})


@needs_nowait
@pytest.mark.parametrize("compression", [None, "zlib", "zstd", "lzw"])
async def test_large_chunks_at_hand_are_read_by_the_workers_that_decode_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, compression: str | None
) -> None:
    data = noise(CHANNELS, LARGE, LARGE)
    tiles = {"tile": (LARGE, LARGE), "metadata": {"axes": "CYX"}, "compression": compression}
    path = write(tmp_path / "large.ome.tif", data, **tiles)
    threads: list[str] = []
    for name, find in READINGS.items():

        def noting(self: Span, find: Callable[[Span], Any] = find) -> Any:
            threads.append(threading.current_thread().name.rstrip("0123456789"))
            return find(self)

        monkeypatch.setattr(Span, name, property(noting) if name == "at" else noting)
    async with engine(workers=2) as running:
        image = await running.image(reference(path))
        await running.renderer.tile(image, tile_of(range(CHANNELS), 0, 0), Trace())
        assert threads == ["gputiles-worker-"] * CHANNELS
        for frame in range(CHANNELS):
            tile = await running.renderer.raster(image, frame, 0, 0, 0)
            assert np.array_equal(tile[..., 0], data[frame])


@needs_nowait
async def test_a_file_that_changes_before_a_worker_has_read_it_is_opened_anew(
    large: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other, replaced = noise(CHANNELS, LARGE, LARGE) // 2, threading.Lock()
    for name, find in READINGS.items():

        def replacing(self: Span, find: Callable[[Span], Any] = find) -> Any:
            if replaced.acquire(blocking=False):
                write(large, other, tile=(LARGE, LARGE), metadata={"axes": "CYX"})
            return find(self)

        monkeypatch.setattr(Span, name, property(replacing) if name == "at" else replacing)
    async with engine() as running:
        image = await running.image(reference(large))
        await running.renderer.tile(image, tile_of(range(CHANNELS), 0, 0), Trace())
        assert replaced.locked()
        image = await running.image(reference(large))
        for frame in range(CHANNELS):
            tile = await running.renderer.raster(image, frame, 0, 0, 0)
            assert np.array_equal(tile[..., 0], other[frame])
        assert running.renderer.rasters.shelf.reserved == running.renderer.rasters.shelf.flights == 0


async def test_who_leaves_calls_the_reads_off_that_have_not_begun(
    channels: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    frames, gate = counted(monkeypatch), threading.Event()
    monkeypatch.setattr(stored, "MOST", 0)
    async with engine(readers=1) as running:
        image = await running.image(reference(channels))
        held = asyncio.create_task(running.reading_room.run(gate.wait, 10))
        asked = asyncio.create_task(running.renderer.tile(image, tile_of(range(CHANNELS)), Trace()))
        while running.reading_room.pending < 2:
            await asyncio.sleep(0)
        asked.cancel()
        await asyncio.gather(asked, return_exceptions=True)
        gate.set()
        assert await held
        await running.reading_room.run(int)
        assert frames() == []
        assert running.reading_room.pending == running.renderer.rasters.shelf.reserved == 0


async def test_calls_side_by_side_answer_in_order_or_with_the_first_failure() -> None:
    room, later = ReadingRoom(1, 3), []
    try:
        assert await room.run_all([lambda: 1, lambda: 2, lambda: 3]) == [1, 2, 3]
        with pytest.raises(ZeroDivisionError):
            await room.run_all([lambda: 1 // 0, lambda: later.append(1)])
        await room.run(int)
        with pytest.raises(Overloaded, match="at most 3 may"):
            await room.run_all([lambda: 1] * 4)
        await room.run(int)
        assert room.pending == 0
    finally:
        room.close()


@pytest.mark.parametrize(
    ("units", "runs"),
    [
        ([(0, 0, 1, 1), (1, 0, 1, 1), (2, 0, 1, 1)], [(0, 0, 3, 1)]),
        ([(2, 0, 1, 1), (0, 0, 1, 1)], [(0, 0, 1, 1), (2, 0, 1, 1)]),  # a gap
        ([(0, 0, 2, 2), (2, 0, 2, 1)], [(0, 0, 2, 2), (2, 0, 2, 1)]),  # of other heights
        ([(0, 1, 1, 1), (0, 0, 1, 1)], [(0, 0, 1, 1), (0, 1, 1, 1)]),  # below one another
    ],
)
def test_neighbours_in_a_row_are_joined(units: list[Any], runs: list[Any]) -> None:
    assert joined([Rect(*unit) for unit in units]) == [Rect(*run) for run in runs]
