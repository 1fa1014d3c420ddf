"""Stored tiles: what a file holds of them, read and decoded."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from itertools import chain
from typing import NamedTuple

from gputiles.backends import DecodeJob, Outcome, Tiles
from gputiles.batcher import Batcher
from gputiles.errors import GputilesError
from gputiles.geometry import Rect, shares
from gputiles.images import Image, Images, check_version, read_checked
from gputiles.reading_room import ReadingRoom
from gputiles.sources import Source
from gputiles.sources.athand import NotAtHand, waiting_for_nothing
from gputiles.trace import Trace

MOST = 4 * 1024**2  # stored bytes of a flight that the event loop reads: it takes less than a millisecond
MOST_LEFT = 64 * 1024**2  # and of those that it leaves to the workers: so does to look for them


class Run(NamedTuple):
    """Neighbouring units of tiles of a stored level of a frame."""

    frame: int
    z: int
    units: Rect


class Stored:
    """Reads and decodes runs of tiles; ``seconds`` is the time that all their reads took."""

    def __init__(self, room: ReadingRoom, images: Images, batcher: Batcher) -> None:
        self.seconds = 0.0
        self._room = room
        self._images = images
        self._batcher = batcher

    async def decode(
        self, image: Image, runs: Sequence[Run], trace: Trace, *, background: bool
    ) -> list[Outcome[Tiles]]:
        """Return the tiles of each run, or the error of its own that it came to.

        Where somebody waits for them, or the workers have nothing to do, those at hand are read here, or left
        to the workers. No worker begins before all are read: the thread that reads would have to take turns
        with it, and be put on its core for as long as it works.
        """
        async with self._images.handle(image) as source:
            hurried = not background or self._batcher.idle
            read = self._at_hand(source, runs, trace) if hurried else []
            at_hand = len(read)
            read += await self._read(source, image, runs[at_hand:], trace)
            decode = partial(self._decoded, read, trace, background=background)
            left = any(isinstance(job, DecodeJob) and job.left for job in read)
            decoded = await decode() if left else None  # while the file is open
            if at_hand:
                check_version(image)
        return await decode() if decoded is None else decoded

    async def _decoded(
        self, read: Sequence[Outcome[DecodeJob]], trace: Trace, *, background: bool
    ) -> list[Outcome[Tiles]]:
        """Return the tiles of what was read, and the errors in between."""
        jobs = [(job, _stored_bytes(job)) for job in read if isinstance(job, DecodeJob)]
        tiles = iter(await self._batcher.submit_all("decode", jobs, trace, background=background))
        return [next(tiles) if isinstance(job, DecodeJob) else job for job in read]

    def _at_hand(self, source: Source, runs: Sequence[Run], trace: Trace) -> list[Outcome[DecodeJob]]:
        """Return what is to be decoded of the first of the runs, as far as they are at hand."""
        started = time.perf_counter()
        read: list[Outcome[DecodeJob]] = []
        with waiting_for_nothing(MOST, MOST_LEFT), suppress(NotAtHand):
            for run in runs:
                read.append(_outcome(source, run))
        self._spent(trace, started)
        return read

    async def _read(
        self, source: Source, image: Image, runs: Sequence[Run], trace: Trace
    ) -> list[Outcome[DecodeJob]]:
        """Return what is to be decoded of each run, or its error, read in the reading room.

        The runs of a frame are read in one go, and those of several where there are more than readers.
        """
        if not runs:
            return []
        started = time.perf_counter()
        reads = [
            partial(read_checked, image, partial(_read, source, share))
            for share in _shares(runs, self._room.readers)
        ]
        jobs = await self._room.run_all(reads)
        self._spent(trace, started)
        return list(chain.from_iterable(jobs))

    def _spent(self, trace: Trace, started: float) -> None:
        spent = time.perf_counter() - started
        trace.add("read", spent)
        self.seconds += spent


def _shares(runs: Sequence[Run], readers: int) -> list[Sequence[Run]]:
    """Divide runs among readers, in order: at most one for each frame."""
    count = min(len({run.frame for run in runs}), readers)
    return [runs[share.start : share.stop] for share in shares(len(runs), count)]


def _read(source: Source, runs: Sequence[Run]) -> list[Outcome[DecodeJob]]:
    return [_outcome(source, run) for run in runs]


def _outcome(source: Source, run: Run) -> Outcome[DecodeJob]:
    try:
        return source.read(*run)
    except GputilesError as error:
        return error


def joined(units: Sequence[Rect]) -> Sequence[Rect]:
    """Join units of tiles that lie side by side: their chunks mostly do in the file, too."""
    if len(units) < 2:
        return units
    runs: list[Rect] = []
    for unit in sorted(units, key=lambda unit: (unit.y, unit.x)):
        last = runs[-1] if runs else None
        if last and (last.y, last.height, last.right) == (unit.y, unit.height, unit.x):
            runs[-1] = Rect(last.x, last.y, last.width + unit.width, last.height)
        else:
            runs.append(unit)
    return runs


def _stored_bytes(job: DecodeJob) -> int:
    """Return the bytes of a job's chunks as they are stored."""
    return sum(chunk.stored for chunk in job.chunks)
