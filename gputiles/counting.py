"""Counting: histograms and moments of regions, tile by tile, so that any region fits into memory."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from gputiles import histograms
from gputiles.backends import MeasureJob, Measurement, Raster
from gputiles.cache import Hold
from gputiles.encoded import EncodedTile
from gputiles.errors import LimitExceeded
from gputiles.geometry import Rect
from gputiles.histograms import Count, CountRequest, HistogramQuery, Moments
from gputiles.image import ImageInfo
from gputiles.images import Image
from gputiles.ranges import Edges, direct_edges
from gputiles.rasters import Work
from gputiles.regions import cells_of, level_region
from gputiles.renderer import Renderer
from gputiles.renderjobs import resample_job
from gputiles.request import RegionRequest
from gputiles.tasks import together
from gputiles.trace import Trace
from gputiles.transfers import downloaded

ABREAST = 4  # units of tiles that are counted side by side

Visit = Callable[[Raster], Awaitable[None]]


async def count(renderer: Renderer, image: Image, request: CountRequest, trace: Trace) -> EncodedTile:
    """Return the counts, or moments, as JSON.

    A region at the size that it has on a level is counted in that level's own values, however
    many there are up to the limit of synthesis; at any other size it is resized first. Raises
    LimitExceeded where that is too large.
    """
    return await renderer.answered(image, request, trace, partial(_render, renderer))


async def _render(renderer: Renderer, work: Work, request: CountRequest) -> bytes:
    found: dict[tuple[int, int], Count] = {}
    for frame in dict.fromkeys(frame for frame, _ in request.places):
        samples = tuple(dict.fromkeys(sample for at, sample in request.places if at == frame))
        scan = Scan(renderer, Work(work.image, work.trace, background=True), frame, request.region)
        counts = await _of_frame(scan, samples, request.query)
        found |= {(frame, sample): entry for sample, entry in zip(samples, counts, strict=True)}
    return await renderer.room.run(histograms.answer, request, [found[place] for place in request.places])


async def _of_frame(scan: Scan, samples: Sequence[int], query: HistogramQuery | None) -> list[Count]:
    """Return what is found of each sample: in one pass where values are counted one by one."""
    info, run = scan.work.image.info, scan.renderer.room.run
    direct = direct_edges(info.dtype)
    if direct is not None:
        singles = await _histograms(scan, samples, [direct] * len(samples))
        return [await run(_rebinned, counts, int(direct[0]), query, info) for counts in singles]
    moments = await _moments(scan, samples)
    if query is None:
        return [Count(entry) for entry in moments]
    edges = [histograms.edges_for(query, entry, info.dtype) for entry in moments]
    counted = await _histograms(scan, samples, edges)
    return [Count(*entry) for entry in zip(moments, counted, edges, strict=True)]


def _rebinned(singles: Any, first: int, query: HistogramQuery | None, info: ImageInfo) -> Count:
    moments = histograms.moments_of_counts(singles, first)
    if query is None:
        return Count(moments)
    edges = histograms.edges_for(query, moments, info.dtype)
    return Count(moments, histograms.rebinned(singles, first, edges), edges)


async def _histograms(scan: Scan, samples: Sequence[int], edges: Sequence[Edges]) -> list[Any]:
    """Return each sample's counts between its edges."""
    totals: dict[int, Any] = {}

    async def visit(raster: Raster) -> None:
        for at, sample in enumerate(samples):
            job = MeasureJob(raster, sample, edges[at], scan.work.image.info.nodata)
            found: Measurement = await scan.submit("measure", job)
            totals[at] = found.histogram if at not in totals else totals[at] + found.histogram

    await scan.each(visit)
    return [totals[at] for at in range(len(samples))]


async def _moments(scan: Scan, samples: Sequence[int]) -> list[Moments]:
    """Return each sample's moments; those of tiles are joined in the order in which they come."""
    totals = [Moments()] * len(samples)
    run, nodata = scan.renderer.room.run, scan.work.image.info.nodata

    async def visit(raster: Raster) -> None:
        values, valid = await downloaded(scan.renderer.batcher, raster, scan.work.trace)
        for at, sample in enumerate(samples):
            found = await run(histograms.moments_of, values[..., sample], valid, nodata)
            totals[at] = totals[at].joined(found)

    await scan.each(visit)
    return totals


@dataclass(frozen=True, slots=True)
class Scan:
    """The rasters of a region of one frame, to be gone over as often as needed."""

    renderer: Renderer
    work: Work
    frame: int
    region: RegionRequest

    async def submit(self, verb: str, job: Any) -> Any:
        """Run a job of the backend, after those that are nearer to a picture."""
        return await self.renderer.batcher.submit(verb, job, self.work.trace, background=True)

    async def each(self, visit: Visit) -> None:
        """Have every raster visited: the tiles of a level, or the one that the region is resized to."""
        info = self.work.image.info
        z, rect = level_region(info, self.region)
        if (rect.width, rect.height) != (self.region.width, self.region.height):
            (raster,) = await self.renderer.regions(self.work, (self.frame,), self.region)
            await visit(raster)
            return
        most = self.renderer.rasters.limit
        if rect.width * rect.height > most:
            raise LimitExceeded(
                f"{rect.width} x {rect.height} values are not counted one by one, at most {most} are:"
                " ask for a smaller region, width or height"
            )
        units = _units(info, z, cells_of(info, rect))

        async def draw() -> None:
            for unit in units:
                await self._visit(z, unit, rect, visit)

        await together([draw] * ABREAST)

    async def _visit(self, z: int, unit: Rect, rect: Rect, visit: Visit) -> None:
        """Visit the tiles of a unit, those at the rim of ``rect`` cut to it."""
        renderer, info = self.renderer, self.work.image.info
        with Hold(renderer.rasters.shelf) as hold:
            (tiles,) = await renderer.rasters.take(self.work, (self.frame,), z, unit, hold)
            for cell, raster in tiles.items():
                place = info.grid.rect(z, *cell)
                part = place.intersect(rect) or place
                if part != place:
                    job = resample_job(info, part, {cell: raster}, part.width, part.height)
                    raster = await self.submit("resample", job)
                await visit(raster)


def _units(info: ImageInfo, z: int, cells: Rect) -> Iterator[Rect]:
    """Yield the parts of ``cells`` that are read or made together."""
    y = cells.y
    while y < cells.bottom:
        x = cells.x
        while x < cells.right:
            unit = info.unit(z, x, y)
            yield unit.intersect(cells) or unit
            x = unit.right
        y = info.unit(z, cells.x, y).bottom
