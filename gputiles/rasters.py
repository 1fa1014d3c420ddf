"""Unstyled tiles: found on the shelf, read and decoded, made from the finer level or of a stack."""

from __future__ import annotations

from collections.abc import Awaitable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from itertools import product, repeat
from typing import Any, NamedTuple

from gputiles.backends import DownsampleJob, Raster
from gputiles.backends.fold import FOLDED, Fold
from gputiles.batcher import Batcher
from gputiles.cache import Entry, Hold, Shelf
from gputiles.config import Config
from gputiles.errors import GputilesError, LimitExceeded, NotFound
from gputiles.flights import Flight
from gputiles.forks import Forks
from gputiles.geometry import Grid, Rect
from gputiles.image import Alpha, ImageInfo
from gputiles.images import Image, Images
from gputiles.projections import Stack
from gputiles.reading_room import ReadingRoom
from gputiles.spill import Spill
from gputiles.stored import Run, Stored, joined
from gputiles.tasks import together
from gputiles.trace import Trace
from gputiles.transfers import downloaded, uploaded

Cell = tuple[int, int]
Found = dict[Cell, "Raster | GputilesError"]

ABREAST = 4  # planes of a stack that are read side by side
FLYING = 8  # planes of a tile that one flight brings: more of them would all wait for the last
BLOCK = 16 * 1024**2  # bytes of stored tiles that are read, and made to coarser ones, together
MOST_DEPTH = 3  # a block's tiles along a side at most, as a power of two


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


@lru_cache(maxsize=256)
def _planes(frames: tuple[int | Stack, ...], z: int) -> tuple[Plane, ...]:
    """Return the planes of frames: the tiles of a viewport are all of the same."""
    return tuple(Plane(frame, z) for frame in frames)


Key = tuple[str, Plane, Cell]
"""What a tile is kept by: of which image, of which plane, which one."""

Flown = tuple[str, Plane, Rect]
"""What a flight brings: of which image, of which plane, which unit of tiles."""

Made = dict[Plane, dict[Cell, "Entry[Raster] | GputilesError"]]
"""What has come of a flight: what it put on the shelf, and errors."""


class Rasters:
    """The shelf of unstyled tiles, and the ways to fill it."""

    def __init__(self, config: Config, room: ReadingRoom, images: Images, batcher: Batcher) -> None:
        backend, seconds = batcher.backend, config.active_seconds
        self.shelf: Shelf[Raster] = Shelf(
            "rasters", backend.capacity, evicted=self._evicted, active_seconds=seconds
        )
        self.spill = Spill(self.shelf, batcher, seconds) if backend.spare else None
        self.stored = Stored(room, images, batcher)
        self.reads = 0  # units of tiles
        self._room = room
        self._batcher = batcher
        self.limit = config.synthesis_limit
        self._forks = Forks(2 * batcher.backend.workers, self._has_room)  # of blocks
        self._block = min(BLOCK, self.shelf.capacity // (4 * self._forks.most))

    @property
    def shelves(self) -> tuple[Shelf[Any], ...]:
        """The shelf of the device, and that of the host's memory where there is one."""
        return (self.shelf,) if self.spill is None else (self.shelf, self.spill.shelf)

    def _evicted(self, entry: Entry[Raster]) -> None:
        if self.spill is not None:
            self.spill.take_in(entry)

    async def take(
        self, work: Work, frames: Iterable[int | Stack], z: int, cells: Rect, hold: Hold[Raster]
    ) -> list[dict[Cell, Raster]]:
        """Return the rasters of ``cells`` of level ``z``, pinned by ``hold``, frame by frame."""
        planes, places = [Plane(frame, z) for frame in frames], list(cells.cells())
        found: list[Any] = [self._on_shelf(work, plane, places, hold) for plane in planes]
        missing = [at for at, rasters in enumerate(found) if rasters is None]
        if not missing:
            return found
        work.trace.cache = "miss"
        for at in missing:
            self._check(work.image.info, planes[at], cells)
        groups = _groups(work.image.info, [planes[at] for at in missing])
        calls = [partial(self._fetch, work, group, places, hold) for group in groups]
        for rasters in await together(calls):
            found = [rasters.get(plane, already) for plane, already in zip(planes, found, strict=True)]
        return [_good(rasters) for rasters in found]

    def resident(self, keys: Iterable[Key], hold: Hold[Raster]) -> list[Raster] | None:
        """Pin tiles if the shelf has them all, else none; nothing is waited for."""
        return _pinned(self.shelf.get_all(keys), hold)

    def keys(self, image: Image, frames: tuple[int | Stack, ...], z: int, cell: Cell) -> list[Key]:
        """Return what one tile of each frame is kept by."""
        identity = image.identity
        return [(identity, plane, cell) for plane in _planes(frames, z)]

    def is_stored(self, image: Image, plane: Plane) -> bool:
        """Say whether the file has a plane as it is."""
        info = image.info
        return not isinstance(plane.frame, Stack) and info.stored[plane.z] and plane.frame not in info.missing

    def is_spilled(self, keys: Iterable[Key]) -> bool:
        """Say whether the host keeps any of what the device had."""
        return self.spill is not None and any(self.spill.shelf.peek(key) is not None for key in keys)

    def fly(self, work: Work, flown: Sequence[Flown]) -> Flight[Made]:
        """Bring units that nobody brings, all stored or of one plane; the caller must leave the flight."""
        return self.shelf.flying.fly(flown, partial(self._make, work, flown), Hold(self.shelf))

    def _on_shelf(
        self, work: Work, plane: Plane, places: Sequence[Cell], hold: Hold[Raster]
    ) -> dict[Cell, Raster] | None:
        """Pin the tiles of all ``places`` if the shelf has them, else none."""
        look, identity = self.shelf.peek_all if work.background else self.shelf.get_all, work.image.identity
        rasters = _pinned(look([(identity, plane, cell) for cell in places]), hold)
        return None if rasters is None else dict(zip(places, rasters, strict=True))

    def _check(self, info: ImageInfo, plane: Plane, cells: Rect) -> None:
        if plane.frame in info.missing:
            raise NotFound(f"frame {plane.frame}: the metadata promises this plane but the file lacks it")
        stored = _stored_level(info, plane.z)
        if stored == plane.z and not isinstance(plane.frame, Stack):
            return
        pixels = cells.width * cells.height * info.tile_width * info.tile_height << 2 * (stored - plane.z)
        pixels = min(pixels, info.width * info.height)
        if isinstance(plane.frame, Stack):
            pixels *= len(plane.frame.frames)
            why = f"the projection of {len(plane.frame.frames)} planes"
        else:
            why = f"level {plane.z} is not in the file, and making it"
        if pixels > self.limit:
            raise LimitExceeded(f"{why} takes {pixels} pixels; at most {self.limit} are allowed")

    async def _fetch(
        self, work: Work, planes: Sequence[Plane], cells: Iterable[Cell], hold: Hold[Raster]
    ) -> dict[Plane, Found]:
        """Pin ``cells`` of planes of a level, made or read block by block; what a tile dies of is its own."""
        info, z = work.image.info, planes[0].z
        side = self._block_side(info, planes[0])
        blocks: dict[Cell, dict[Rect, list[Cell]]] = {}
        for cell in cells:
            unit = info.unit(z, *cell)
            block = blocks.setdefault((unit.x // side, unit.y // side), {})
            block.setdefault(unit, []).append(cell)
        calls = [partial(self._fetch_block, work, planes, units, hold) for units in blocks.values()]
        found = {plane: Found() for plane in planes}
        for part in await self._forks.run(calls):
            for plane, tiles in part.items():
                found[plane].update(tiles)
        return found

    def _block_side(self, info: ImageInfo, plane: Plane) -> int:
        """Return how many tiles along a side are made at once: so many that their leaves fit a block."""
        if isinstance(plane.frame, Stack):
            return 1
        tile = info.tile_width * info.tile_height * info.samples * info.dtype.itemsize
        depth = max(0, (self._block // tile).bit_length() - 1) // 2
        above = _stored_level(info, plane.z) - plane.z
        return 1 << max(0, min(depth, MOST_DEPTH) - above)

    async def _fetch_block(
        self, work: Work, planes: Sequence[Plane], units: dict[Rect, list[Cell]], hold: Hold[Raster]
    ) -> dict[Plane, Found]:
        """Pin tiles of units: those on the shelf, and the others by one flight, or those under way."""
        found = {plane: Found() for plane in planes}
        wanted: dict[Flown, list[Cell]] = {}
        identity = work.image.identity
        for plane, (unit, cells) in product(planes, units.items()):
            keys = [(identity, plane, cell) for cell in cells]
            kept = _pinned(self.shelf.peek_all(keys), hold)
            if kept is None and self.spill is not None:
                kept = await self._brought_back(self.spill, work, keys, hold)
            if kept is None:
                wanted[identity, plane, unit] = cells
            else:
                found[plane].update(zip(cells, kept, strict=True))
        if wanted:
            async with self.shelf.once_each(tuple(wanted), partial(self._make, work)) as flown:
                for ((_, plane, _), cells), made in zip(wanted.items(), flown, strict=True):
                    tiles, of_plane = found[plane], made[plane]
                    for cell in cells:
                        tiles[cell] = _held(hold, of_plane[cell])
        return found

    def _make(self, work: Work, flown: Sequence[Flown], hold: Hold[Raster]) -> Awaitable[Made]:
        """Bring about the units that a flight is for: of many planes where they are stored, else of one."""
        plane, units = flown[0][1], [unit for _, _, unit in flown]
        if isinstance(plane.frame, Stack):
            return self._project(work, plane, units, hold)
        if work.image.info.stored[plane.z]:
            return self._decode(work, flown, hold)
        return self._reduce(work, plane, units, hold)

    async def _brought_back(
        self, spill: Spill, work: Work, keys: list[Key], hold: Hold[Raster]
    ) -> list[Raster] | None:
        """Pin tiles if the device or the host keeps each of them, else none."""
        here = [self.shelf.peek(key) for key in keys]
        gone = [key for key, entry in zip(keys, here, strict=True) if entry is None]
        with Hold(spill.shelf) as spilled:
            found = spill.find(gone, spilled, quietly=work.background)
            if found is None:
                return None
            kept = [None if entry is None else hold.pin(entry).value for entry in here]
            calls = [
                partial(spill.bring_back, each, work.trace, hold, background=work.background)
                for each in found
            ]
            back = iter(await together(calls))
            return [next(back) if raster is None else raster for raster in kept]

    def relieve(self, share: float) -> None:
        """Give up a share of what is stored: the device had no room for more."""
        self.shelf.shed(self.shelf.stored * share)
        if self.spill is not None:
            self.spill.give_up()

    # -- stored levels

    async def _decode(self, work: Work, flown: Sequence[Flown], hold: Hold[Raster]) -> Made:
        info, runs = work.image.info, _runs(flown)
        with self.shelf.reserve(sum(_weight(info, run.z, run.units) for run in runs)):
            decoded = await self.stored.decode(work.image, runs, work.trace, background=work.background)
        self.reads += len(flown)
        found: dict[Plane, Found] = {}
        for run, tiles in zip(runs, decoded, strict=True):
            of_run = repeat(tiles) if isinstance(tiles, GputilesError) else tiles
            of_plane = found.setdefault(Plane(run.frame, run.z), {})
            of_plane.update(zip(run.units.cells(), of_run, strict=False))
        return self._kept(work, found, hold, cold=work.background)

    def _kept(self, work: Work, found: dict[Plane, Found], hold: Hold[Raster], *, cold: bool = False) -> Made:
        """Put what are tiles on the shelf, pinned by ``hold``."""
        identity = work.image.identity
        items = [
            ((identity, plane, cell), tile, tile.weight)
            for plane, tiles in found.items()
            for cell, tile in tiles.items()
            if not isinstance(tile, GputilesError)
        ]
        entries = self.shelf.put_all(items, work.image.reference, cold=cold)
        hold.pin_all(entries)
        kept = iter(entries)
        return {
            plane: {
                cell: tile if isinstance(tile, GputilesError) else next(kept) for cell, tile in tiles.items()
            }
            for plane, tiles in found.items()
        }

    # -- missing levels

    async def _reduce(self, work: Work, plane: Plane, units: Sequence[Rect], hold: Hold[Raster]) -> Made:
        """Make the tiles of ``units`` from the next finer level: depth first, children pinned."""
        info, quiet, found = work.image.info, replace(work, background=True), Found()
        finer = Plane(plane.frame, plane.z + 1)
        reserved = self.shelf.reserve(sum(_weight(info, plane.z, unit) for unit in units))
        with reserved, Hold(self.shelf) as children_hold:
            below = _below(info.grid, plane.z, units)
            children = (await self._fetch(quiet, [finer], below, children_hold))[finer]
            jobs: dict[Cell, DownsampleJob] = {}
            for cell in (cell for unit in units for cell in unit.cells()):
                try:
                    jobs[cell] = _downsample_job(info, plane.z, cell, children)
                except GputilesError as error:  # a child's
                    found[cell] = error
            rasters = await self._batcher.submit_all(
                "downsample", [(job, 0) for job in jobs.values()], work.trace, background=True
            )
        found.update(zip(jobs, rasters, strict=True))
        return self._kept(work, {plane: found}, hold)

    # -- projections

    async def _project(self, work: Work, plane: Plane, units: Sequence[Rect], hold: Hold[Raster]) -> Made:
        """Make the tiles of ``units`` from those of a stack's frames: a few at a time, in their order."""
        assert isinstance(plane.frame, Stack)
        info, quiet, frames = work.image.info, replace(work, background=True), plane.frame.frames
        made: Made = {plane: {}}
        for unit in units:
            folds = {cell: Fold(plane.frame.kind, info) for cell in unit.cells()}
            with self.shelf.reserve(_weight(info, plane.z, unit) // info.dtype.itemsize * FOLDED):
                for at in range(0, len(frames), ABREAST):
                    with Hold(self.shelf) as planes_hold:
                        taken = await self.take(quiet, frames[at : at + ABREAST], plane.z, unit, planes_hold)
                        for cell, tiles in ((cell, tiles) for tiles in taken for cell in folds):
                            values = await downloaded(self._batcher, tiles[cell], work.trace)
                            await self._room.run(folds[cell].add, *values)
                folded: Found = {cell: await self._join(work, fold) for cell, fold in folds.items()}
            made[plane] |= self._kept(work, {plane: folded}, hold)[plane]
        return made

    async def _join(self, work: Work, fold: Fold) -> Raster:
        pixels, valid = await self._room.run(fold.result)
        return await uploaded(self._batcher, pixels, work.trace, valid, background=True)

    def _has_room(self) -> bool:
        """Say whether memory waits for work, so that another block may be opened."""
        return 2 * self.shelf.held <= self.shelf.capacity


def _stored_level(info: ImageInfo, z: int) -> int:
    """Return the level that tiles of level ``z`` are read from or made of."""
    stored = info.stored
    return z if stored[z] else next(level for level in range(z, info.levels) if stored[level])


def _pinned(entries: list[Entry[Raster]] | None, hold: Hold[Raster]) -> list[Raster] | None:
    """Pin what the shelf has if it has all that was looked for."""
    return None if entries is None else hold.pin_all(entries)


def _held(hold: Hold[Raster], made: Entry[Raster] | GputilesError) -> Raster | GputilesError:
    """Pin what was made, if it was."""
    return made if isinstance(made, GputilesError) else hold.pin(made).value


def _good(found: Found) -> dict[Cell, Raster]:
    """Return what was found; raise the error of the first tile that has one."""
    good = {}
    for cell, outcome in found.items():
        if isinstance(outcome, GputilesError):
            raise outcome
        good[cell] = outcome
    return good


def _groups(info: ImageInfo, planes: Sequence[Plane]) -> list[Sequence[Plane]]:
    """Return the planes that a flight brings together: some, where they are stored."""
    stored = info.stored[planes[0].z] and not any(isinstance(plane.frame, Stack) for plane in planes)
    most = FLYING if stored else 1
    return [planes[at : at + most] for at in range(0, len(planes), most)]


def _runs(flown: Sequence[Flown]) -> list[Run]:
    """Join the units of a plane that lie side by side."""
    planes: dict[tuple[int, int], list[Rect]] = {}
    for _, plane, unit in flown:
        assert not isinstance(plane.frame, Stack)
        planes.setdefault((plane.frame, plane.z), []).append(unit)
    return [Run(frame, z, units) for (frame, z), every in planes.items() for units in joined(every)]


def _weight(info: ImageInfo, z: int, unit: Rect) -> int:
    """Return the bytes of the unit's rasters, without validity planes."""
    pixels = info.grid.rect(z, *unit)
    return pixels.width * pixels.height * info.samples * info.dtype.itemsize


def _below(grid: Grid, z: int, units: Iterable[Rect]) -> Iterator[Cell]:
    """Yield the tiles of the next finer level that lie under those of ``units``."""
    whole = Rect(0, 0, *grid.tiles(z + 1))
    for unit in units:
        doubled = Rect(2 * unit.x, 2 * unit.y, 2 * unit.width, 2 * unit.height)
        yield from (doubled.intersect(whole) or doubled).cells()


def _downsample_job(info: ImageInfo, z: int, cell: Cell, children: Found) -> DownsampleJob:
    """Return the job that makes a tile; raise the error of a child that has one."""
    x, y = 2 * cell[0], 2 * cell[1]
    under = ((x, y), (x + 1, y), (x, y + 1), (x + 1, y + 1))
    there = _good({child: children[child] for child in under if child in children})
    rect = info.grid.rect(z, *cell)
    return DownsampleJob(
        children=(there.get(under[0]), there.get(under[1]), there.get(under[2]), there.get(under[3])),
        split=(info.tile_width, info.tile_height),
        width=rect.width,
        height=rect.height,
        reduction=info.reduction,
        nodata=info.nodata,
        alpha=info.alpha is Alpha.STRAIGHT,
    )
