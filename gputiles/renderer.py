"""The journey of a request: from an image and a view to an encoded tile."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gputiles import arrays, icc, jfif, keys, png, style
from gputiles.backends import Raster, RenderJob
from gputiles.batcher import Batcher
from gputiles.cache import Hold, Shelf
from gputiles.config import Config
from gputiles.encoded import EncodedTile, Format
from gputiles.errors import BadRequest, Changed, LimitExceeded
from gputiles.flights import Flight
from gputiles.geometry import Rect
from gputiles.image import ImageInfo
from gputiles.images import Image, Images
from gputiles.keys import Request
from gputiles.look import is_plain
from gputiles.measuring import Measuring
from gputiles.passing import Passing
from gputiles.projections import Stack
from gputiles.rasters import Rasters, Work
from gputiles.reading_room import ReadingRoom
from gputiles.recipe import ConversionKind, Recipe
from gputiles.regions import cells_of, fitted, level_region
from gputiles.renderjobs import render_job, resample_job, tile_size
from gputiles.request import RegionRequest, ThumbnailRequest, TileRequest, View
from gputiles.shortway import AGAIN, Landed, ShortWay
from gputiles.sources.athand import NotAtHand
from gputiles.tasks import together
from gputiles.trace import Trace

OVERHEAD = 1024  # bytes that an encoded tile takes beside its data: the smallest count too
MOST_THUMBNAIL = 4096  # pixels on a side
MOST_PIXELS = 1 << 26  # of a region
MOST_BYTES = 1 << 30  # of a region's values, all frames together


class Renderer:
    """Answers requests from the shelves, or by the work that fills them."""

    def __init__(self, config: Config, room: ReadingRoom, images: Images, batcher: Batcher) -> None:
        self.tiles: Shelf[EncodedTile] = Shelf(
            "tiles", config.tile_cache, active_seconds=config.active_seconds
        )
        self.recipes: Shelf[Recipe] = Shelf("recipes", 4096, active_seconds=config.active_seconds)
        self.rasters = Rasters(config, room, images, batcher)
        self.measuring = Measuring(self.rasters, batcher)
        self.passing = Passing(config, room, images)
        self.short_way = ShortWay(self.rasters, self.tiles, batcher, self.keep)
        self._icc = config.icc
        self.room = room
        self._images = images
        self.batcher = batcher

    # -- what can be asked

    def etag(self, image: Image, request: Request) -> str:
        """Return the strong entity tag of an answer: content version, request and encoders."""
        return self._tag(image, request.view, keys.key(image, request))

    def hot(self, key: str) -> EncodedTile | None:
        """Return the encoded answer of a key (see ``keys``) if it is on the shelf; costs one look-up."""
        entry = self.tiles.get(key)
        return None if entry is None else entry.value

    async def tile(self, image: Image, request: TileRequest, trace: Trace) -> EncodedTile:
        """Return one encoded tile. Raises NotFound outside the grid or the frames."""
        key = keys.key(image, request)
        try:
            tile = self.at_once(image, request, key, trace)
        except (NotAtHand, Changed):
            return await self.made(image, request, trace, stored=True)
        tile = tile or await self._by_short_way(image, request, key, trace)
        return tile or await self.made(image, request, trace, stored=False)

    async def made(self, image: Image, request: TileRequest, trace: Trace, *, stored: bool) -> EncodedTile:
        """Return a tile that is not on the shelf; ``stored``: it may lie in the file as it is asked for."""
        return await self.answered(image, request, trace, self._read_tile if stored else self._render_tile)

    async def _by_short_way(
        self, image: Image, request: TileRequest, key: str, trace: Trace
    ) -> EncodedTile | None:
        """Return a tile by the short way; None where it goes the way of all."""
        flight = self.begin(image, request, key, trace)
        if flight is None:
            return None
        try:
            return await flight.arrival()
        except AGAIN:
            return None
        finally:
            self.tiles.flying.leave(flight)

    def at_once(self, image: Image, request: TileRequest, key: str, trace: Trace) -> EncodedTile | None:
        """Return a tile that nothing has to be waited for: it is on the shelf, or stored as it is asked for.

        ``key`` is the answer's (see ``keys``). None where it is to be rendered. Raises NotAtHand or Changed
        where what is stored may be the answer, but has to be waited for, NotFound outside the grid or the
        frames.
        """
        if self.tiles.peek(key) is not None:
            trace.cache = "encoded-hit"
            return self.hot(key)
        if key in self.tiles.flying or not self.passing.may_be_stored(image.info, request):
            return None
        check_view(image.info, request.view)
        stored = self.passing.at_hand(image, request)
        if stored is None:
            return None
        trace.cache = "passthrough"
        return self.keep(image, request.view, key, stored)

    def begin(
        self, image: Image, request: TileRequest, key: str, trace: Trace, landed: Landed = lambda _: None
    ) -> Flight[EncodedTile] | None:
        """Have a tile made by the short way that is not on the shelf; None where it goes the way of all.

        ``key`` is the answer's. The result is also given to ``landed``. The caller leaves the flight when it
        waits no more. Raises as ``tile`` does.
        """
        view, work = request.view, Work(image, trace)
        check_view(image.info, view)
        if key in self.tiles.flying or (view.style is None and view.encoding.takes_values):
            return None
        recipe = self._recipe_at_once(work, view)
        flight = None if recipe is None else self.short_way.set_out(work, request, key, recipe, landed)
        if flight is not None:
            self.batcher.dispatch()
        return flight

    async def thumbnail(self, image: Image, request: ThumbnailRequest, trace: Trace) -> EncodedTile:
        """Return the whole image, no larger than asked for and never enlarged."""
        return await self.answered(image, request, trace, self._render_thumbnail)

    async def region(self, image: Image, request: RegionRequest, trace: Trace) -> EncodedTile:
        """Return a region of the image at any size. Raises LimitExceeded beyond 2²⁶ pixels."""
        return await self.answered(image, request, trace, self.render_region)

    async def values(self, image: Image, frame: int, request: RegionRequest, trace: Trace) -> NDArray[Any]:
        """Return the stored values of a region as a new (rows, columns, samples) array."""
        image.info.check_frame(frame)
        (raster,) = await self.regions(Work(image, trace), (frame,), request)
        array: NDArray[Any] = await self.batcher.submit("download", raster, trace)
        return array

    async def raster(self, image: Image, frame: int, z: int, x: int, y: int) -> NDArray[Any]:
        """Return the unstyled tile as a new (rows, columns, samples) array of the image's dtype."""
        with Hold(self.rasters.shelf) as hold:
            raster = await self.pinned(image, frame, z, x, y, hold)
            array: NDArray[Any] = await self.batcher.submit("download", raster, Trace())
            return array

    async def pinned(self, image: Image, frame: int, z: int, x: int, y: int, hold: Hold[Raster]) -> Raster:
        """Return the unstyled tile where it lies, pinned by ``hold``."""
        image.info.grid.check(z, x, y)
        image.info.check_frame(frame)
        (cells,) = await self.rasters.take(Work(image, Trace()), (frame,), z, Rect(x, y, 1, 1), hold)
        return cells[x, y]

    async def pixel(self, image: Image, frame: int, x: int, y: int) -> list[int | float | None]:
        """Return the stored samples of a full-resolution pixel; None for those that are not finite."""
        info = image.info
        column, row = x // info.tile_width, y // info.tile_height
        array = await self.raster(image, frame, info.levels - 1, column, row)
        values = array[y - row * info.tile_height, x - column * info.tile_width].tolist()
        return [value if np.isfinite(value) else None for value in values]

    # -- how it is answered

    async def answered(
        self,
        image: Image,
        request: Any,
        trace: Trace,
        render: Callable[[Work, Any], Awaitable[bytes]],
    ) -> EncodedTile:
        """Return the answer from the shelf, or by one run of ``render`` for all who ask."""
        try:
            return await self._share(image, request, trace, render)
        except Changed:  # once more, with the file as it is now
            self._images.drop(image)
            return await self._share(await self._images.get(image.reference), request, trace, render)

    async def _share(
        self, image: Image, request: Any, trace: Trace, render: Callable[[Work, Any], Awaitable[bytes]]
    ) -> EncodedTile:
        key = keys.key(image, request)
        entry = self.tiles.get(key)
        if entry is not None:
            trace.cache = "encoded-hit"
            return entry.value
        trace.cache = "coalesced"
        make = partial(self._make, key, request, Work(image, trace), render)
        async with self.tiles.once(key, make) as tile:
            return tile

    async def _make(
        self,
        key: str,
        request: Any,
        work: Work,
        render: Callable[[Work, Any], Awaitable[bytes]],
        _: Hold[EncodedTile],
    ) -> EncodedTile:
        work.trace.cache = "raw-hit"
        check_view(work.image.info, request.view)
        data = await render(work, request)
        return self.keep(work.image, request.view, key, data)

    def keep(self, image: Image, view: View, key: str, data: bytes) -> EncodedTile:
        """Put an answer on the shelf, under its key, and return it."""
        data = self._embedded(image.info, view, data)
        tile = EncodedTile(data, view.encoding.format.value, self._tag(image, view, key))
        self.tiles.put(key, tile, len(data) + OVERHEAD, image.reference)
        return tile

    def _embedded(self, info: ImageInfo, view: View, file: bytes) -> bytes:
        """Return a picture with the file's profile, if that is asked for and describes its colours."""
        if not view.encoding.embed or info.profile is None or self._intent(info, view):
            return file
        if not (is_plain(info) if view.style is None else view.style.bands is None):
            return file
        carrying = png.with_profile if view.encoding.format is Format.PNG else jfif.with_profile
        return carrying(file, info.profile)

    def _tag(self, image: Image, view: View, key: str) -> str:
        backend = self.batcher.backend
        codecs = backend.decoders + backend.encoders.get(view.encoding.format, "")
        return keys.entity_tag(key, image.info.reduction, self._intent(image.info, view), codecs)

    async def _read_tile(self, work: Work, request: TileRequest) -> bytes:
        """Return a tile as it is stored, or rendered where that is not the answer."""
        stored = await self.passing.read(work.image, request)
        if stored is None:
            return await self._render_tile(work, request)
        work.trace.cache = "passthrough"
        return stored

    async def _render_tile(self, work: Work, request: TileRequest) -> bytes:
        info = work.image.info
        info.grid.check(request.z, request.x, request.y)
        full = tile_size(info, request)
        if request.view.style is None and request.view.encoding.takes_values:
            return await self._tile_values(work, request, full)
        recipe = await self.recipe(work, request.view)
        with Hold(self.rasters.shelf) as hold:
            cells = Rect(request.x, request.y, 1, 1)
            planes = request.view.planes(recipe.frames)
            taken = await self.rasters.take(work, planes, request.z, cells, hold)
            rasters = tuple(frame[request.x, request.y] for frame in taken)
            job = render_job(info, request.view.encoding, recipe, rasters, full, request.edge.colour)
            return await self._encode(work, job)

    async def _tile_values(self, work: Work, request: TileRequest, size: tuple[int, int]) -> bytes:
        """Return the stored values of a tile, zeros where the image does not fill it."""
        tile = await self.raster(work.image, request.view.frame, request.z, request.x, request.y)
        missing = [(0, side - has) for side, has in zip(reversed(size), tile.shape, strict=False)]
        return await self.room.run(
            lambda: arrays.file_of(np.pad(tile, (*missing, (0, 0))), request.view.encoding.format)
        )

    async def _render_thumbnail(self, work: Work, request: ThumbnailRequest) -> bytes:
        if max(request.width, request.height) > MOST_THUMBNAIL:
            raise LimitExceeded(
                f"width and height: at most {MOST_THUMBNAIL}; got {request.width} x {request.height}"
            )
        region = fitted(work.image.info, request.width, request.height, request.view)
        return await self.render_region(work, region)

    async def render_region(self, work: Work, request: RegionRequest) -> bytes:
        """Return a region encoded, past the shelf of answers."""
        view, size = request.view, (request.width, request.height)
        if view.style is None and view.encoding.takes_values:
            array = await self.values(work.image, view.frame, request, work.trace)
            return await self.room.run(arrays.file_of, array, view.encoding.format)
        recipe = await self.recipe(work, view)
        rasters = await self.regions(work, view.planes(recipe.frames), request)
        return await self._encode(
            work, render_job(work.image.info, view.encoding, recipe, tuple(rasters), size, None)
        )

    async def regions(
        self, work: Work, frames: tuple[int | Stack, ...], request: RegionRequest
    ) -> list[Raster]:
        """Return the region's raster of each frame, made of the coarsest level that is fine enough."""
        if request.width * request.height > MOST_PIXELS:
            raise LimitExceeded(
                f"region: at most {MOST_PIXELS} pixels; got {request.width} x {request.height}"
            )
        info = work.image.info
        taken_bytes = request.width * request.height * info.samples * info.dtype.itemsize * len(frames)
        if taken_bytes > MOST_BYTES:
            raise LimitExceeded(
                f"region: {request.width} x {request.height} pixels of {len(frames)} frames are "
                f"{taken_bytes} bytes; at most {MOST_BYTES}"
            )
        z, rect = level_region(info, request)
        weight = rect.width * rect.height * info.samples * info.dtype.itemsize

        async def region(frame: int | Stack) -> Raster:
            with Hold(self.rasters.shelf) as hold:
                (taken,) = await self.rasters.take(work, (frame,), z, cells_of(info, rect), hold)
                job = resample_job(info, rect, taken, request.width, request.height)
                raster: Raster = await self.batcher.submit("resample", job, work.trace)
                return raster

        most = max(1, self.rasters.shelf.capacity // 4 // weight)
        return await together([partial(region, frame) for frame in frames], most)

    async def recipe(self, work: Work, view: View) -> Recipe:
        """Return the view's recipe: a light record, shared by all encodings."""
        recipe = self._recipe_at_once(work, view)
        if recipe is not None:
            return recipe
        key = _recipe_key(work, view)
        async with self.recipes.once(key, partial(self._measure, key, work, view)) as recipe:
            return recipe

    def _recipe_at_once(self, work: Work, view: View) -> Recipe | None:
        """Return the view's recipe if it is on the shelf, or of numbers alone."""
        key = _recipe_key(work, view)
        entry = self.recipes.get(key)
        if entry is not None:
            return entry.value
        info = work.image.info
        if self._intent(info, view) is not None:
            return None
        recipe = style.recipe_at_once(view.style, info, view.frame, single=view.single)
        if recipe is not None:
            self.recipes.put(key, recipe, 1, work.image.reference)
        return recipe

    def _intent(self, info: ImageInfo, view: View) -> str | None:
        """Return the rendering intent by which colours are converted; None where they are not."""
        return icc.intent_of(view.style) if self._icc and info.profile is not None else None

    async def _measure(self, key: object, work: Work, view: View, _: Hold[Recipe]) -> Recipe:
        """Make a recipe that needs tables of a profile, or statistics, or those of converted values."""
        info = work.image.info
        frames = style.frames_to_measure(view.style, info, view.frame, single=view.single)
        intent, made, colours = self._intent(info, view), None, None
        if intent is not None:
            made = await self.room.run(icc.conversion, info, intent)
            colours = (intent, made) if made.kind is not ConversionKind.COLORMAP else None
        statistics = await self.measuring.statistics(work, frames, colours)
        recipe = style.make_recipe(view.style, info, view.frame, statistics, single=view.single, icc=made)
        self.recipes.put(key, recipe, 1, work.image.reference)
        return recipe

    async def _encode(self, work: Work, job: RenderJob) -> bytes:
        data: bytes = await self.batcher.submit("render", job, work.trace)
        return data


def check_view(info: ImageInfo, view: View) -> None:
    """Raise NotFound for a frame that the image lacks, BadRequest for stored values in a style."""
    info.check_frame(view.frame)
    if view.encoding.values and view.style is not None:
        raise BadRequest("encoding: PNG16 holds the stored values, which have no style")


def _recipe_key(work: Work, view: View) -> object:
    return work.image.identity, view.style and view.style.key, view.frame, view.single
