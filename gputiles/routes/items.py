"""The routes below ``/item``: lists, metadata, tiles, thumbnails, pixels."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable
from typing import Any, TypeAlias

from aiohttp import web

from gputiles.encoded import EncodedTile
from gputiles.errors import Damaged, GputilesError, Unsupported
from gputiles.geometry import Rect
from gputiles.images import Image
from gputiles.metadata import describe
from gputiles.renderer import Renderer
from gputiles.request import TileRequest
from gputiles.routes import ask, parameters
from gputiles.routes.ask import Ask, image_of
from gputiles.routes.respond import as_json, as_tile, is_held, not_modified
from gputiles.state import STATE, State
from gputiles.trace import Trace

HOT = Trace(cache="encoded-hit")  # of every answer that was there already
Render: TypeAlias = Callable[[Renderer, Image, Any, Trace], Awaitable[EncodedTile]]

PAGE = 1000  # items of a list, unless asked for otherwise


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
    return await _answer(request, wanted, Renderer.tile)


async def thumbnail(request: web.Request) -> web.Response:
    """``GET /item/{id}/tiles/thumbnail``: the whole image, 256 pixels unless asked otherwise."""
    wanted = await ask.thumbnail(request)
    return await _answer(request, wanted, Renderer.thumbnail)


async def _answer(request: web.Request, asked: Ask, render: Render) -> web.Response:
    """Answer from the shelf of encoded tiles at once, or in time from everything else."""
    state = request.app[STATE]
    tile = None if "If-None-Match" in request.headers else _hot(state, asked)
    if tile is not None:
        return as_tile(tile, HOT, state.config.max_age)
    async with asyncio.timeout(state.config.deadline):
        return await _work(request, asked, render)


def _hot(state: State, asked: Ask) -> EncodedTile | None:
    """Return the tile if nothing at all has to be waited for."""
    reference: Any = asked.item
    if isinstance(asked.item, str):
        item = state.library.known(asked.item)
        if item is None:
            return None
        reference = item.ref
    image = state.engine.images.fresh(reference)
    return None if image is None else state.engine.renderer.hot(image, asked.wanted)


async def _work(request: web.Request, asked: Ask, render: Render) -> web.Response:
    state, trace = request.app[STATE], Trace()
    image = await image_of(state, asked.item)
    renderer, max_age = state.engine.renderer, state.config.max_age
    if "If-None-Match" in request.headers:
        if isinstance(asked.wanted, TileRequest):
            image.info.grid.check(asked.wanted.z, asked.wanted.x, asked.wanted.y)
        etag = renderer.etag(image, asked.wanted)
        if is_held(request, etag):
            return not_modified(etag, max_age)
    try:
        tile = await render(renderer, image, asked.wanted, trace)
    except (Damaged, Unsupported) as error:
        await _note(state, asked, error)
        raise
    return as_tile(tile, trace, max_age)


async def _note(state: State, asked: Ask, error: GputilesError) -> None:
    """Log what is wrong with a file, once for each of its versions."""
    if isinstance(asked.item, str):
        state.library.complain(await state.library.item(asked.item), str(error))


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
