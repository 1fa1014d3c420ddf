"""Measuring: statistics of frames, for automatic and percentile windows."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from gputiles import ranges
from gputiles.backends import MeasureJob, Measurement
from gputiles.batcher import Batcher
from gputiles.cache import Hold, Shelf
from gputiles.geometry import Rect
from gputiles.ranges import Statistics
from gputiles.rasters import Plane, Rasters, Work
from gputiles.recipe import Conversion
from gputiles.tasks import together

ABREAST = 4  # tiles of a frame that are measured side by side

Edges = tuple[float, float, int]
Colours = tuple[str, Conversion] | None
"""The colours that values are measured in: as stored, or those of a conversion and its name."""


class Measuring:
    """The shelf of statistics, and how they are taken: once per content version and frame."""

    def __init__(self, rasters: Rasters, batcher: Batcher) -> None:
        self.shelf: Shelf[tuple[Statistics, ...]] = Shelf("ranges", 100_000)
        self._rasters = rasters
        self._batcher = batcher

    async def statistics(
        self, work: Work, frames: Sequence[int], colours: Colours = None
    ) -> dict[int, tuple[Statistics, ...]]:
        """Return, for each of ``frames``, one Statistics per sample, of values in ``colours``."""
        calls = [partial(self._of_frame, work, frame, colours) for frame in frames]
        return dict(zip(frames, await together(calls), strict=True))

    async def _of_frame(self, work: Work, frame: int, colours: Colours) -> tuple[Statistics, ...]:
        key = (work.image.identity, frame, colours and colours[0])
        entry = self.shelf.get(key)
        if entry is not None:
            return entry.value
        async with self.shelf.once(key, partial(self._measure, key, work, frame, colours)) as statistics:
            return statistics

    async def _measure(
        self, key: object, work: Work, frame: int, colours: Colours, _: Hold[tuple[Statistics, ...]]
    ) -> tuple[Statistics, ...]:
        info = work.image.info
        plan, icc = ranges.plan(info), colours and colours[1]
        direct = ranges.direct_edges(info.dtype)
        edges: list[Edges | None] = [direct] * info.samples
        found = await self._scan(work, frame, plan, edges, icc)
        if direct is None:
            edges = [ranges.second_edges(extremes, info.dtype) for extremes in found]
            if any(edges):
                counts = await self._scan(work, frame, plan, edges, icc)
                found = [[*first, *second] for first, second in zip(found, counts, strict=True)]
        statistics = tuple(
            ranges.combine(measurements, edge, info.dtype, plan.how)
            for measurements, edge in zip(found, edges, strict=True)
        )
        self.shelf.put(key, statistics, 1, work.image.reference)
        return statistics

    async def _scan(
        self, work: Work, frame: int, plan: ranges.Plan, edges: list[Edges | None], icc: Conversion | None
    ) -> list[list[Measurement]]:
        """Measure every tile of ``plan``; return the measurements sample by sample."""
        plane = Plane(frame, plan.z)
        calls = [partial(self._tile, work, plane, cell, edges, icc) for cell in plan.cells]
        tiles = await together(calls, ABREAST)
        return [list(measurements) for measurements in zip(*tiles, strict=True)]

    async def _tile(
        self,
        work: Work,
        plane: Plane,
        cell: tuple[int, int],
        edges: list[Edges | None],
        icc: Conversion | None,
    ) -> list[Measurement]:
        with Hold(self._rasters.shelf) as hold:
            (cells,) = await self._rasters.take(work, (plane.frame,), plane.z, Rect(*cell, 1, 1), hold)
            jobs = [
                MeasureJob(cells[cell], sample, edge, work.image.info.nodata, icc)
                for sample, edge in enumerate(edges)
            ]
            return [await self._batcher.submit("measure", job, work.trace) for job in jobs]
