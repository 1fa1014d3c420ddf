"""Stored tiles: what a file holds of them, read side by side in the reading room."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from functools import partial
from itertools import chain, pairwise
from typing import NamedTuple

from gputiles.backends import DecodeJob, Outcome
from gputiles.errors import GputilesError
from gputiles.geometry import Rect
from gputiles.images import Image, Images, read_checked
from gputiles.reading_room import ReadingRoom
from gputiles.sources import Source
from gputiles.trace import Trace


class Run(NamedTuple):
    """Neighbouring units of tiles of a stored level of a frame."""

    frame: int
    z: int
    units: Rect


class Stored:
    """Reads runs of tiles; ``seconds`` is the time that all of them together took."""

    def __init__(self, room: ReadingRoom, images: Images) -> None:
        self.seconds = 0.0
        self._room = room
        self._images = images

    async def read(self, image: Image, runs: Sequence[Run], trace: Trace) -> list[Outcome[DecodeJob]]:
        """Return what is to be decoded of each run, or its error.

        The runs of a frame are read in one go, and those of several where there are more than readers.
        """
        async with self._images.handle(image) as source:
            started = time.perf_counter()
            shares = _shares(runs, self._room.readers)
            reads = [partial(read_checked, image, partial(_read, source, share)) for share in shares]
            jobs = await self._room.run_all(reads)
            spent = time.perf_counter() - started
        trace.add("read", spent)
        self.seconds += spent
        return list(chain.from_iterable(jobs))


def _shares(runs: Sequence[Run], readers: int) -> list[Sequence[Run]]:
    """Divide runs among readers, in order: at most one for each frame."""
    count = min(len({run.frame for run in runs}), readers)
    cuts = [len(runs) * at // count for at in range(count + 1)]
    return [runs[begin:end] for begin, end in pairwise(cuts)]


def _read(source: Source, runs: Sequence[Run]) -> list[Outcome[DecodeJob]]:
    return [_outcome(source, run) for run in runs]


def _outcome(source: Source, run: Run) -> Outcome[DecodeJob]:
    try:
        return source.read(*run)
    except GputilesError as error:
        return error


def joined(units: Iterable[Rect]) -> list[Rect]:
    """Join units of tiles that lie side by side: their chunks mostly do in the file, too."""
    runs: list[Rect] = []
    for unit in sorted(units, key=lambda unit: (unit.y, unit.x)):
        last = runs[-1] if runs else None
        if last and (last.y, last.height, last.right) == (unit.y, unit.height, unit.x):
            runs[-1] = Rect(last.x, last.y, last.width + unit.width, last.height)
        else:
            runs.append(unit)
    return runs


def stored_bytes(job: DecodeJob) -> int:
    """Return the bytes of a job's chunks as they are stored."""
    return sum(len(chunk.data) for chunk in job.chunks if isinstance(chunk.data, bytes))
