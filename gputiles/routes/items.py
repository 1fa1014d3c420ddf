"""The routes below ``/item``: lists, metadata, tiles, thumbnails, pixels."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

from aiohttp import web

from gputiles import arrays, style
from gputiles.encoded import Encoding, Format
from gputiles.errors import BadRequest
from gputiles.frames import Fill, FramesRequest, letterbox
from gputiles.geometry import Rect
from gputiles.image import ImageInfo
from gputiles.images import Image
from gputiles.library import Item
from gputiles.metadata import describe
from gputiles.regions import RegionQuery, first_pixel, fitted
from gputiles.renderer import Renderer
from gputiles.request import RegionRequest, ThumbnailRequest, View
from gputiles.routes import ask, parameters
from gputiles.routes.answer import answer, in_time
from gputiles.routes.ask import Ask, image_of
from gputiles.routes.disposition import DISPOSITION
from gputiles.routes.parameters import EDGE, FRAMES, integer, text
from gputiles.routes.regions import FILL, REGION, region_query
from gputiles.routes.respond import as_json
from gputiles.routes.route import PICTURES, Route, as_object
from gputiles.routes.schemas import COLOUR, NUMBER, listed, maybe, named, record
from gputiles.sheets import sheet
from gputiles.state import STATE, State
from gputiles.trace import Trace

UNSTYLED = style.parse({})
PAGE = 1000  # items of a list, unless asked for otherwise

LIMIT = integer("limit", "items of an answer; 0 for all", 0, default=PAGE)
OFFSET = integer("offset", "items to leave out before them", 0, default=0)
WORDS = text("text", "only items whose names contain it, in upper or lower case")
ITEMS = as_object(listed(named("Item")), "the items by name", {"X-Total-Count": "how many there are in all"})
METADATA = as_object(named("Metadata"), "the metadata")
PIXEL = record({}, {"value": listed(maybe(NUMBER)), **dict.fromkeys("rgbal", COLOUR)})
PIXELS = as_object(
    {"anyOf": [PIXEL, listed({**PIXEL, "required": ["frame"]})]},
    "the stored samples and the colour, nothing outside the image; of each frame where there is a list",
)
POINT = tuple(replace(each, required=each.name in ("left", "top")) for each in REGION)
SMALL = (*ask.IMAGE, *ask.SIDES, *ask.VIEW, FILL, *DISPOSITION)
TILE = (*ask.IMAGE, *ask.PLACE, *ask.VIEW, EDGE, *DISPOSITION)


def routes() -> tuple[Route, ...]:
    """Return the routes of this room."""
    return (
        Route("GET", "/item/{item}/tiles/zxy/{z}/{x}/{y}", tile, TILE, PICTURES),  # the first to be tried
        Route("GET", "/item/{item}/tiles/fzxy/{frame}/{z}/{x}/{y}", tile, TILE, PICTURES),
        Route("GET", "/item", in_time(listing), (LIMIT, OFFSET, WORDS), ITEMS, refuses=(400, 503)),
        Route("GET", "/item/{item}/tiles", in_time(metadata), ask.IMAGE, METADATA),
        Route(
            "GET",
            "/item/{item}/tiles/thumbnail",
            thumbnail,
            SMALL,
            PICTURES,
        ),
        Route("GET", "/item/{item}/tiles/pixel", in_time(pixel), (*ask.IMAGE, *POINT, FRAMES), PIXELS),
    )


async def listing(request: web.Request) -> web.Response:
    """``GET /item``: the items, paged by ``limit`` and ``offset``; opens no file.

    ``text`` asks for those whose names contain it, in upper or lower case.
    """
    state, query = request.app[STATE], parameters.single(request.query)
    offset, limit, words = OFFSET.of(query), LIMIT.of(query), WORDS.of(query).casefold()
    items = [item for item in await state.library.items() if words in item.name.casefold()]
    page = items[offset : offset + limit] if limit else items[offset:]
    return as_json([_listed(state, item) for item in page], headers={"X-Total-Count": str(len(items))})


def entry(item: Item) -> dict[str, Any]:
    """Return what an item is called, and its size in bytes."""
    return {"id": item.id, "name": item.name, "size": item.size}


def _listed(state: State, item: Item) -> dict[str, Any]:
    """Return an item as lists have it: with the reason why it cannot be read, where one is known."""
    error = state.library.error(item)
    return entry(item) if error is None else {**entry(item), "error": error}


async def metadata(request: web.Request) -> web.Response:
    """``GET /item/{id}/tiles``: what is known about the image."""
    image = await image_of(request.app[STATE], ask.item_of(request, parameters.single(request.query)))
    return as_json(describe(image.info))


async def tile(request: web.Request) -> web.Response:
    """``GET /item/{id}/tiles/zxy/{z}/{x}/{y}``: a tile; ``fzxy`` has its frame before the level."""
    wanted = await ask.tile(request)
    return await answer(request, wanted, Renderer.tile)


async def thumbnail(request: web.Request) -> web.Response:
    """``GET /item/{id}/tiles/thumbnail``: the whole image, 256 pixels unless asked otherwise.

    ``fill`` makes it exactly ``width`` × ``height`` pixels large.
    """
    asked, query = await ask.thumbnail(request), parameters.single(request.query)
    small, fill = asked.wanted, FILL.of(query)
    if fill is None or not isinstance(small, ThumbnailRequest) or not {"width", "height"} <= query.keys():
        return await answer(request, asked, Renderer.thumbnail)
    info = (await image_of(request.app[STATE], asked.item)).info
    return await answer(request, Ask(asked.item, _filled(info, small, fill), asked.saved), sheet)


def _filled(info: ImageInfo, small: ThumbnailRequest, fill: Fill) -> FramesRequest:
    """Return a thumbnail on a ground of the size that was asked for."""
    cell = small.width, small.height
    return letterbox(fitted(info, *cell, small.view), cell, fill)


async def pixel(request: web.Request) -> web.Response:
    """``GET /item/{id}/tiles/pixel``: the stored samples of a full-resolution pixel, and its colour.

    ``frameList`` asks for several frames: the answer is a list.
    """
    state, query = request.app[STATE], parameters.single(request.query)
    asked = replace(await region_query(request, query), region_width=None, region_height=None)
    frames = FRAMES.given(query)
    image = await image_of(state, ask.item_of(request, query))
    place = _place(asked, image.info)
    found = []
    for frame in [asked.view.frame] if frames is None else frames:
        image.info.check_frame(frame)
        facts = {} if place is None else await _pixel(state.engine.renderer, image, place, frame, asked.view)
        found.append(facts if frames is None else {"frame": frame, **facts})
    return as_json(found[0] if frames is None else found)


def _place(asked: RegionQuery, info: ImageInfo) -> Rect | None:
    """Return the pixel that is asked for, None outside the image."""
    if asked.left is None or asked.top is None:
        raise BadRequest(f"{'left' if asked.left is None else 'top'}: expected a number; got nothing")
    left, top = (math.floor(value) for value in first_pixel(asked, info))
    return info.whole.intersect(Rect(left, top, 1, 1))


async def _pixel(renderer: Renderer, image: Image, place: Rect, frame: int, view: View) -> dict[str, Any]:
    """Return the stored values, and the colour that the view's style (or no conversion) gives them."""
    look = view.style if view.style is not None else UNSTYLED
    shown = View(frame, look, True, Encoding(Format.NPY))
    tile = await renderer.region(image, RegionRequest(place, 1, 1, shown), Trace())
    values = await renderer.pixel(image, frame, place.x, place.y)
    return {"value": values, **_colours(tile.data)}


def _colours(picture: bytes) -> dict[str, int]:
    """Return the samples of an NPY picture of one pixel by their names."""
    samples = arrays.array_of(picture).reshape(-1).tolist()
    names = {1: "l", 2: "la", 3: "rgb", 4: "rgba"}[len(samples)]
    return dict(zip(names, samples, strict=True))
