"""The routes of the service itself: caches, sources, posted styles, health."""

from __future__ import annotations

from datetime import UTC, datetime

from aiohttp import web

from gputiles import __version__, style
from gputiles.errors import NotFound
from gputiles.routes import ask
from gputiles.routes.answer import in_time
from gputiles.routes.respond import as_json
from gputiles.state import STATE
from gputiles.walk import SUFFIXES

LONGEST_STYLE = 4 * 1024**2  # bytes of a posted style


def add_routes(router: web.UrlDispatcher, prefix: str) -> None:
    """Add the routes of this room below ``prefix``."""
    router.add_get(f"{prefix}/large_image/cache", in_time(cache))
    router.add_put(f"{prefix}/large_image/cache/clear", in_time(clear))
    router.add_get(f"{prefix}/large_image/sources", in_time(sources))
    router.add_post(f"{prefix}/styles", in_time(post_style))
    router.add_get(f"{prefix}/styles/{{id}}", in_time(get_style))


async def cache(request: web.Request) -> web.Response:
    """``GET /large_image/cache``: what the caches hold, and their counters."""
    return as_json(request.app[STATE].engine.report())


async def clear(request: web.Request) -> web.Response:
    """``PUT /large_image/cache/clear``: empty all caches."""
    engine = request.app[STATE].engine
    before = engine.report()
    engine.clear()
    return as_json(
        {"cacheCleared": datetime.now(UTC).isoformat(), "before": before, "after": engine.report()}
    )


async def sources(request: web.Request) -> web.Response:
    """``GET /large_image/sources``: the readers, and the file names that they take."""
    extensions = {suffix.lstrip("."): 1 for suffix in SUFFIXES}
    return as_json(
        {
            "tiff": {
                "extensions": extensions,
                "mimeTypes": {"image/tiff": 1},
                "version": __version__,
            },
            "test": {"extensions": {}, "mimeTypes": {}, "version": __version__},
        }
    )


async def health(request: web.Request) -> web.Response:
    """``GET /healthz``: the server answers."""
    return as_json({"status": "ok", "device": request.app[STATE].engine.backend.name})


async def post_style(request: web.Request) -> web.Response:
    """``POST /styles``: keep a style; its id stands for it as ``style=@id``."""
    state = request.app[STATE]
    body = await ask.body(request, "style", LONGEST_STYLE)
    key = (await state.engine.reading_room.run(style.parse, body)).key
    await state.engine.reading_room.run(state.styles.put, key, body.decode())
    return as_json({"id": key})


async def get_style(request: web.Request) -> web.Response:
    """``GET /styles/{id}``: the text of a posted style."""
    state = request.app[STATE]
    text = await state.engine.reading_room.run(state.styles.get, request.match_info["id"])
    if text is None:
        raise NotFound(f"No style {request.match_info['id'][:64]!r}.")
    return web.Response(text=text, content_type="application/json")
