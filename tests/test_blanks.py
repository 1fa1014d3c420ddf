"""Memory for tiles is made ready while there is nothing else to do, and no more of it than was wanted."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from itertools import repeat
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

from gputiles.backends.blanks import LARGEST, SMALLEST, Blanks
from gputiles.backends.host import HostBackend
from gputiles.engine import Engine
from gputiles.trace import Trace
from tests.test_engine import engine, noise, reference, write
from tests.test_stored import CHANNELS, tile_of


def test_as_many_are_made_ready_as_were_taken() -> None:
    blanks = Blanks()
    assert not blanks.wanted
    sizes = [SMALLEST, SMALLEST, LARGEST]
    taken = [blanks.take(size) for size in sizes]
    assert [blank.nbytes for blank in taken] == sizes
    assert blanks.wanted
    assert blanks.nbytes == 0
    blanks.prepare(lambda: True)
    assert not blanks.wanted
    assert blanks.nbytes == sum(sizes)
    again = [blanks.take(size) for size in [*sizes, SMALLEST]]
    assert blanks.nbytes == 0
    addresses = {blank.ctypes.data for blank in [*taken, *again]}
    assert len(addresses) == len(taken) + len(again)  # each is its taker's own


@pytest.mark.parametrize("size", [0, 1, SMALLEST - 1, LARGEST + 1])
def test_for_other_sizes_nothing_is_made_ready(size: int) -> None:
    blanks = Blanks()
    assert blanks.take(size).nbytes == size
    assert not blanks.wanted
    blanks.prepare(lambda: True)
    assert blanks.nbytes == 0


def test_no_more_lies_ready_than_is_allowed() -> None:
    blanks = Blanks(10 * SMALLEST)
    for _ in range(99):
        blanks.take(SMALLEST)
    blanks.prepare(lambda: True)
    assert blanks.nbytes == 10 * SMALLEST
    assert not blanks.wanted  # else it would be tried again and again


def test_sizes_that_nobody_asks_for_any_more_give_way() -> None:
    blanks = Blanks(10 * SMALLEST)
    for size in (*repeat(SMALLEST, 8), *repeat(2 * SMALLEST, 4)):
        blanks.take(size)
        if size == SMALLEST:
            blanks.prepare(lambda: True)
    assert blanks.nbytes == SMALLEST
    blanks.prepare(lambda: True)
    assert blanks.nbytes == SMALLEST + 8 * SMALLEST
    for _ in range(5):
        blanks.take(2 * SMALLEST)
    blanks.prepare(lambda: True)
    assert blanks.nbytes == 10 * SMALLEST
    blanks.take(SMALLEST)
    assert blanks.nbytes == 10 * SMALLEST  # all of them are of the other size


def test_it_ends_when_it_is_told_to_and_goes_on_later() -> None:
    blanks, answers = Blanks(), iter([True, True, False])
    for _ in range(5):
        blanks.take(SMALLEST)
    blanks.prepare(lambda: next(answers))
    assert blanks.nbytes == 2 * SMALLEST
    assert blanks.wanted
    blanks.prepare(lambda: True)
    assert blanks.nbytes == 5 * SMALLEST


FAULTS = """
import resource
from gputiles.backends.blanks import Blanks
held, blanks, size = [], Blanks(), 1 << 20
for _ in range(2):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(8):
        held.append(blanks.take(size))
        held[-1][:] = 1
    print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
    blanks.prepare(lambda: True)
"""


def test_the_pages_of_a_blank_are_there() -> None:
    told = subprocess.run([sys.executable, "-c", FAULTS], check=True, capture_output=True, text=True).stdout
    fresh, ready = map(int, told.split())
    assert fresh > 8 * (1 << 20) // 4096 // 2  # else this shows nothing
    assert ready < fresh / 10


async def _prepared(running: Engine) -> int:
    """Return the bytes of blanks when the engine has done with them."""
    backend = running.backend
    assert isinstance(backend, HostBackend)
    async with asyncio.timeout(60):
        while backend.unprepared:
            await asyncio.sleep(0.01)
        await running.reading_room.run(int)
    return backend._blanks.nbytes


async def test_an_idle_engine_replaces_what_tiles_took(tmp_path: Path) -> None:
    side = 256
    data = noise(CHANNELS, side, 3 * side)
    path = write(
        tmp_path / "six.ome.tif", data, tile=(side, side), metadata={"axes": "CYX"}, compression="zlib"
    )
    async with engine(readers=1) as running:
        image = await running.image(reference(path))
        z = image.info.levels - 1
        taken = CHANNELS * side * side * data.itemsize
        for x in range(3):
            await running.renderer.tile(image, tile_of(range(CHANNELS), z, x), Trace())
            assert await _prepared(running) == taken
        with tifffile.TiffFile(path) as file:
            planes = file.asarray()
        for x in range(3):
            for frame in range(CHANNELS):
                tile = await running.renderer.raster(image, frame, z, x, 0)
                assert np.array_equal(tile[..., 0], planes[frame, :, x * side : (x + 1) * side])


async def test_a_pause_for_that_begins_behind_a_tile_and_not_on_its_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    side = 256
    path = write(
        tmp_path / "six.ome.tif", noise(CHANNELS, side, side), tile=(side, side), metadata={"axes": "CYX"}
    )
    async with engine() as running:
        begun: list[dict[str, int]] = []
        loop, batcher = asyncio.get_running_loop(), running.batcher
        later = loop.call_later

        def noting(delay: float, callback: Any, *rest: Any, **how: Any) -> asyncio.TimerHandle:
            if callback == batcher._pause:
                begun.append(dict(batcher.jobs))
            return later(delay, callback, *rest, **how)

        monkeypatch.setattr(loop, "call_later", noting)
        image = await running.image(reference(path))
        z = image.info.levels - 1
        await running.renderer.tile(image, tile_of(range(CHANNELS), z, 0), Trace())
        assert begun == [{"decode": CHANNELS, "render": 1}]
        assert await _prepared(running) == CHANNELS * side * side * 2


async def test_a_busy_engine_prepares_nothing() -> None:
    backend = HostBackend(1)
    try:
        backend._blanks.take(SMALLEST)
        with backend._counted(1):
            backend.prepare()
        assert backend.unprepared
        backend.prepare()
        assert backend._blanks.nbytes == SMALLEST
    finally:
        backend.close()
