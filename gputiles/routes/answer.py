"""Answers: from what is on the shelves at once, or in time from everything else."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from functools import wraps
from typing import Any, TypeAlias

from aiohttp import web
from aiohttp.typedefs import Handler

from gputiles import keys
from gputiles.encoded import EncodedTile
from gputiles.errors import Damaged, GputilesError, Unsupported
from gputiles.images import Image
from gputiles.renderer import Renderer
from gputiles.request import TileRequest
from gputiles.routes.ask import Ask, image_of
from gputiles.routes.disposition import name
from gputiles.routes.respond import as_tile, is_held, not_modified
from gputiles.state import STATE, State
from gputiles.trace import Trace

HOT = Trace(cache="encoded-hit")  # of every answer that was there already
Render: TypeAlias = Callable[[Renderer, Image, Any, Trace], Awaitable[EncodedTile]]


def in_time(handler: Handler) -> Handler:
    """Return ``handler`` under the deadline. Tiles keep it themselves, where they must wait."""

    @wraps(handler)
    async def limited(request: web.Request) -> web.StreamResponse:
        async with asyncio.timeout(request.app[STATE].config.deadline):
            return await handler(request)

    return limited


async def answer(request: web.Request, asked: Ask, render: Render) -> web.Response:
    """Answer from the shelf of encoded tiles at once, or in time from everything else."""
    response = await _answer(request, asked, render)
    return response if asked.saved is None else name(request, response, asked.saved)


async def _answer(request: web.Request, asked: Ask, render: Render) -> web.Response:
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
    return None if image is None else state.engine.renderer.hot(_key(asked, image))


def _key(asked: Ask, image: Image) -> str:
    """Return the key of what is asked for, made once for each version of a file."""
    key = asked.keys.get(image.identity)
    if key is None:
        asked.keys.clear()
        key = asked.keys[image.identity] = keys.key(image, asked.wanted)
    return key


async def _work(request: web.Request, asked: Ask, render: Render) -> web.Response:
    state, trace = request.app[STATE], Trace()
    image = await image_of(state, asked.item)
    renderer, max_age = state.engine.renderer, state.config.max_age
    if "If-None-Match" in request.headers:
        if isinstance(asked.wanted, TileRequest):
            image.info.grid.check(asked.wanted.z, asked.wanted.x, asked.wanted.y)
        etag = renderer.etag(image, asked.wanted)
        if is_held(request, etag):
            return not_modified(etag, trace, max_age)
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
