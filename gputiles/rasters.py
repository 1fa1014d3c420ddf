"""Unstyled tiles: found on the shelf, read and decoded, made from the finer level or of a stack."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, NamedTuple

from gputiles.backends import DownsampleJob, Raster
from gputiles.backends.fold import FOLDED, Fold
from gputiles.batcher import Batcher
from gputiles.cache import Entry, Hold, Shelf
from gputiles.config import Config
from gputiles.errors import GputilesError, LimitExceeded, NotFound
from gputiles.geometry import Rect
from gputiles.image import Alpha, ImageInfo
from gputiles.images import Image, Images, read_checked
from gputiles.projections import Stack
from gputiles.reading_room import ReadingRoom
from gputiles.trace import Trace
from gputiles.transfers import downloaded, uploaded

Cell = tuple[int, int]
Cells = dict[Cell, "Entry[Raster] | GputilesError"]

ABREAST = 4  # planes of a stack that are read side by side


@dataclass(frozen=True, slots=True)
class Work:
    """What a piece of work is for: an image, whose request, and whether somebody waits for it."""

    image: Image
    trace: Trace
    background: bool = False


class Plane(NamedTuple):
    """One level of a frame, or of a stack; a tuple, because it is hashed for every tile of every frame."""

    frame: int | Stack
    z: int


Way = Callable[[Work, Plane, Rect, Hold[Raster]], Awaitable[Cells]]


class Rasters:
    """The shelf of unstyled tiles, and the ways to fill it."""

    def __init__(self, config: Config, room: ReadingRoom, images: Images, batcher: Batcher) -> None:
        self.shelf: Shelf[Raster] = Shelf(
            "rasters", batcher.backend.capacity, active_seconds=config.active_seconds
        )
        self.reads = 0
        self._room = room
        self._images = images
        self._batcher = batcher
        self._limit = config.synthesis_limit
        backend = batcher.backend
        # subtrees that synthesis may still open
        self._forks = 2 * backend.workers * backend.batch_size("downsample", 16)

    async def take(
        self, work: Work, frames: Iterable[int | Stack], z: int, cells: Rect, hold: Hold[Raster]
    ) -> list[dict[Cell, Raster]]:
        """Return the rasters of ``cells`` of level ``z``, pinned by ``hold``, frame by frame."""
        planes = [Plane(frame, z) for frame in frames]
        found = [self._on_shelf(work, plane, cells, hold) for plane in planes]
        missing = [at for at, rasters in enumerate(found) if rasters is None]
        if not missing:
            return [rasters for rasters in found if rasters is not None]
        work.trace.cache = "miss"
        for at in missing:
            self._check(work.image.info, planes[at], cells)
        await together(
            [partial(self._fetch, work, planes[at], cells, hold) for at in missing], found, missing
        )
        return [rasters for rasters in found if rasters is not None]

    def resident(
        self, image: Image, frames: Iterable[int], z: int, cell: Cell, hold: Hold[Raster]
    ) -> list[Raster] | None:
        """Pin one tile of each frame if the shelf has them all, else none; nothing is waited for."""
        return self.shelf.pin_all([(image.identity, Plane(frame, z), cell) for frame in frames], hold)

    def _on_shelf(
        self, work: Work, plane: Plane, cells: Rect, hold: Hold[Raster]
    ) -> dict[Cell, Raster] | None:
        """Pin all of ``cells`` if the shelf has them, else none."""
        look = self.shelf.peek if work.background else self.shelf.get
        entries = {}
        for cell in cells.cells():
            entry = look((work.image.identity, plane, cell))
            if entry is None:
                return None
            entries[cell] = entry
        return {cell: hold.pin(entry).value for cell, entry in entries.items()}

    def _check(self, info: ImageInfo, plane: Plane, cells: Rect) -> None:
        if plane.frame in info.missing:
            raise NotFound(f"frame {plane.frame}: the metadata promises this plane but the file lacks it")
        stored = next(z for z in range(plane.z, info.levels) if info.stored[z])
        pixels = cells.width * cells.height * info.tile_width * info.tile_height << 2 * (stored - plane.z)
        pixels = min(pixels, info.width * info.height)
        if isinstance(plane.frame, Stack):
            pixels *= len(plane.frame.frames)
            why = f"the projection of {len(plane.frame.frames)} planes"
        elif stored > plane.z:
            why = f"level {plane.z} is not in the file, and making it"
        else:
            return
        if pixels > self._limit:
            raise LimitExceeded(f"{why} takes {pixels} pixels; at most {self._limit} are allowed")

    async def _fetch(self, work: Work, plane: Plane, cells: Rect, hold: Hold[Raster]) -> dict[Cell, Raster]:
        """Pin ``cells``, made or read unit by unit."""
        units: dict[Rect, list[Cell]] = {}
        for cell in cells.cells():
            units.setdefault(work.image.info.unit(plane.z, *cell), []).append(cell)
        parts: list[Any] = [None] * len(units)
        calls = [partial(self._fetch_unit, work, plane, unit, wanted, hold) for unit, wanted in units.items()]
        await self._forked(calls, parts)
        return {cell: raster for part in parts for cell, raster in part.items()}

    async def _fetch_unit(
        self, work: Work, plane: Plane, unit: Rect, wanted: list[Cell], hold: Hold[Raster]
    ) -> dict[Cell, Raster]:
        entries = [self.shelf.peek((work.image.identity, plane, cell)) for cell in wanted]
        if all(entry is not None for entry in entries):
            return {
                cell: hold.pin(entry).value
                for cell, entry in zip(wanted, entries, strict=True)
                if entry is not None
            }
        make = self._way(work.image.info, plane)
        flight = (work.image.identity, plane, unit)
        async with self.shelf.once(flight, partial(make, work, plane, unit)) as made:
            return {cell: hold.pin(_entry(made[cell])).value for cell in wanted}

    def _way(self, info: ImageInfo, plane: Plane) -> Way:
        """Return how the tiles of a plane come about."""
        if isinstance(plane.frame, Stack):
            return self._project
        return self._decode if info.stored[plane.z] else self._reduce

    def relieve(self, share: float) -> None:
        """Give up a share of what is stored: the device had no room for more."""
        self.shelf.shed(self.shelf.stored * share)

    # -- stored levels

    async def _decode(self, work: Work, plane: Plane, unit: Rect, hold: Hold[Raster]) -> Cells:
        assert not isinstance(plane.frame, Stack)
        image = work.image
        with self.shelf.reserve(_weight(image.info, plane.z, unit)):
            async with self._images.handle(image) as source:
                started = time.perf_counter()
                job = await self._room.run(
                    read_checked, image, partial(source.read, plane.frame, plane.z, unit)
                )
                work.trace.add("read", time.perf_counter() - started)
                self.reads += 1
            weight = sum(len(chunk.data) for chunk in job.chunks if isinstance(chunk.data, bytes))
            outcomes = await self._batcher.submit(
                "decode", job, work.trace, weight=weight, background=work.background
            )
        return {
            cell: outcome
            if isinstance(outcome, GputilesError)
            else hold.pin(self._put(work, plane, cell, outcome, cold=work.background))
            for cell, outcome in zip(unit.cells(), outcomes, strict=True)
        }

    def _put(self, work: Work, plane: Plane, cell: Cell, raster: Raster, *, cold: bool) -> Entry[Raster]:
        key = (work.image.identity, plane, cell)
        return self.shelf.put(key, raster, raster.weight, work.image.reference, cold=cold)

    # -- missing levels

    async def _reduce(self, work: Work, plane: Plane, unit: Rect, hold: Hold[Raster]) -> Cells:
        """Make the tiles of ``unit`` from the next finer level: depth first, children pinned."""
        info, quiet = work.image.info, replace(work, background=True)
        finer = Plane(plane.frame, plane.z + 1)
        columns, rows = info.grid.tiles(finer.z)
        doubled = Rect(2 * unit.x, 2 * unit.y, 2 * unit.width, 2 * unit.height)
        children_cells = doubled.intersect(Rect(0, 0, columns, rows)) or doubled
        with self.shelf.reserve(_weight(info, plane.z, unit)), Hold(self.shelf) as children_hold:
            children = await self._fetch(quiet, finer, children_cells, children_hold)
            cells = list(unit.cells())
            jobs = [_downsample_job(info, plane.z, cell, children) for cell in cells]
            made = await asyncio.gather(
                *(self._batcher.submit("downsample", job, work.trace, background=True) for job in jobs)
            )
        return {
            cell: hold.pin(self._put(work, plane, cell, raster, cold=False))
            for cell, raster in zip(cells, made, strict=True)
        }

    # -- projections

    async def _project(self, work: Work, plane: Plane, unit: Rect, hold: Hold[Raster]) -> Cells:
        """Make the tiles of ``unit`` from those of a stack's frames: a few at a time, in their order."""
        assert isinstance(plane.frame, Stack)
        info, quiet, frames = work.image.info, replace(work, background=True), plane.frame.frames
        folds = {cell: Fold(plane.frame.kind, info) for cell in unit.cells()}
        with self.shelf.reserve(_weight(info, plane.z, unit) // info.dtype.itemsize * FOLDED):
            for at in range(0, len(frames), ABREAST):
                with Hold(self.shelf) as planes_hold:
                    taken = await self.take(quiet, frames[at : at + ABREAST], plane.z, unit, planes_hold)
                    for cell, tiles in ((cell, tiles) for tiles in taken for cell in folds):
                        values = await downloaded(self._batcher, tiles[cell], work.trace)
                        await self._room.run(folds[cell].add, *values)
            made = {cell: await self._join(work, fold) for cell, fold in folds.items()}
        return {
            cell: hold.pin(self._put(work, plane, cell, raster, cold=False)) for cell, raster in made.items()
        }

    async def _join(self, work: Work, fold: Fold) -> Raster:
        pixels, valid = await self._room.run(fold.result)
        return await uploaded(self._batcher, pixels, work.trace, valid, background=True)

    async def _forked(self, calls: Sequence[Callable[[], Awaitable[Any]]], results: list[Any]) -> None:
        """Run ``calls``: in turn, or side by side while subtrees may be opened."""
        tasks: list[asyncio.Task[None]] = []

        async def run(at: int) -> None:
            results[at] = await calls[at]()

        try:
            for at in range(len(calls)):
                if at < len(calls) - 1 and self._may_fork():
                    self._forks -= 1
                    task = asyncio.get_running_loop().create_task(run(at))
                    task.add_done_callback(self._give_fork_back)
                    tasks.append(task)
                else:
                    await run(at)
            for task in tasks:
                await task
        except BaseException:
            await _cancel(tasks)
            raise

    def _may_fork(self) -> bool:
        """Say whether another subtree may be opened: while threads, and memory, wait for work."""
        return self._forks > 0 and 2 * self.shelf.held <= self.shelf.capacity

    def _give_fork_back(self, _: object) -> None:
        self._forks += 1


async def together(
    calls: Sequence[Callable[[], Awaitable[Any]]], results: list[Any], places: list[int]
) -> None:
    """Run ``calls`` side by side and put their results at ``places``.

    The first failure cancels the others, waits for them and is raised.
    """

    async def run(call: Callable[[], Awaitable[Any]], place: int) -> None:
        results[place] = await call()

    if len(calls) == 1:
        await run(calls[0], places[0])
        return
    loop = asyncio.get_running_loop()
    tasks = [loop.create_task(run(call, place)) for call, place in zip(calls, places, strict=True)]
    try:
        await asyncio.gather(*tasks)
    except BaseException:
        await _cancel(tasks)
        raise


async def _cancel(tasks: Iterable[asyncio.Task[Any]]) -> None:
    tasks = list(tasks)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


def _entry(made: Entry[Raster] | GputilesError) -> Entry[Raster]:
    if isinstance(made, GputilesError):
        raise made
    return made


def _weight(info: ImageInfo, z: int, unit: Rect) -> int:
    """Return the bytes of the unit's rasters, without validity planes."""
    rects = (info.grid.rect(z, *cell) for cell in unit.cells())
    return sum(rect.width * rect.height for rect in rects) * info.samples * info.dtype.itemsize


def _downsample_job(info: ImageInfo, z: int, cell: Cell, children: dict[Cell, Raster]) -> DownsampleJob:
    x, y = 2 * cell[0], 2 * cell[1]
    rect = info.grid.rect(z, *cell)
    return DownsampleJob(
        children=(
            children.get((x, y)),
            children.get((x + 1, y)),
            children.get((x, y + 1)),
            children.get((x + 1, y + 1)),
        ),
        split=(info.tile_width, info.tile_height),
        width=rect.width,
        height=rect.height,
        reduction=info.reduction,
        nodata=info.nodata,
        alpha=info.alpha is Alpha.STRAIGHT,
    )
