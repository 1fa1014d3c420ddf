"""The routes below ``/item``: lists, metadata, tiles, thumbnails, pixels."""

from __future__ import annotations

import math
from typing import Any

from aiohttp import web

from gputiles.geometry import Rect
from gputiles.metadata import describe
from gputiles.renderer import Renderer
from gputiles.routes import ask, parameters
from gputiles.routes.answer import answer, in_time
from gputiles.routes.ask import image_of
from gputiles.routes.respond import as_json
from gputiles.state import STATE, State

PAGE = 1000  # items of a list, unless asked for otherwise


def add_routes(router: web.UrlDispatcher, prefix: str) -> None:
    """Add the routes of this room below ``prefix``."""
    router.add_get(f"{prefix}/item", in_time(listing))
    for base in ask.tile_roots(prefix):
        router.add_get(f"{base}/zxy/{{z}}/{{x}}/{{y}}", tile)
        router.add_get(f"{base}/fzxy/{{frame}}/{{z}}/{{x}}/{{y}}", tile)
        router.add_get(base, in_time(metadata))
        router.add_get(f"{base}/thumbnail", thumbnail)
        router.add_get(f"{base}/pixel", in_time(pixel))


async def listing(request: web.Request) -> web.Response:
    """``GET /item``: the items, paged by ``limit`` and ``offset``; opens no file."""
    state, query = request.app[STATE], parameters.single(request.query)
    offset, limit = parameters.integer(query, "offset", 0, 0), parameters.integer(query, "limit", PAGE, 0)
    items = await state.library.items()
    page = items[offset : offset + limit] if limit else items[offset:]
    return as_json([_entry(state, item) for item in page], headers={"X-Total-Count": str(len(items))})


def _entry(state: State, item: Any) -> dict[str, Any]:
    entry = {"id": item.id, "name": item.name, "size": item.size}
    error = state.library.error(item)
    return entry if error is None else {**entry, "error": error}


async def metadata(request: web.Request) -> web.Response:
    """``GET /item/{id}/tiles``: what is known about the image."""
    image = await image_of(request.app[STATE], ask.item_of(request, parameters.single(request.query)))
    return as_json(describe(image.info))


async def tile(request: web.Request) -> web.Response:
    """``GET /item/{id}/tiles/zxy/{z}/{x}/{y}``, or ``fzxy`` with a frame before it."""
    wanted = await ask.tile(request)
    return await answer(request, wanted, Renderer.tile)


async def thumbnail(request: web.Request) -> web.Response:
    """``GET /item/{id}/tiles/thumbnail``: the whole image, 256 pixels unless asked otherwise."""
    wanted = await ask.thumbnail(request)
    return await answer(request, wanted, Renderer.thumbnail)


async def pixel(request: web.Request) -> web.Response:
    """``GET /item/{id}/tiles/pixel``: the stored samples of one full-resolution pixel."""
    state, query = request.app[STATE], parameters.single(request.query)
    left, top = (math.floor(parameters.number(query, side)) for side in ("left", "top"))
    frame = parameters.frame_number(query["frame"]) if query.get("frame") else 0
    image = await image_of(state, ask.item_of(request, query))
    if Rect(0, 0, image.info.width, image.info.height).intersect(Rect(left, top, 1, 1)) is None:
        return as_json({})
    return as_json(_colours(await state.engine.renderer.pixel(image, frame, left, top)))


def _colours(values: list[Any]) -> dict[str, Any]:
    names = {1: "l", 2: "la", 3: "rgb", 4: "rgba"}.get(len(values), "")
    return {"value": values, **dict(zip(names, values, strict=False))}
