"""The routes of the service itself: caches, sources, posted styles, health."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from aiohttp import web

from gputiles import __version__, style
from gputiles.errors import NotFound
from gputiles.inspection import inspect
from gputiles.routes import ask
from gputiles.routes.answer import in_time
from gputiles.routes.parameters import text
from gputiles.routes.respond import as_json
from gputiles.routes.route import Body, Route, as_object
from gputiles.routes.schemas import ANYTHING, INTEGER, TEXT, named, one_of, record, table
from gputiles.sources import largeimage, slides
from gputiles.state import STATE
from gputiles.walk import FOLDER_SUFFIX, STILL_SUFFIXES, TIFF_SUFFIXES

LONGEST_STYLE = 4 * 1024**2  # bytes of a posted style


ID = text("id", "what a posted style got for an id")
BODY = Body(f"a style, of at most {LONGEST_STYLE} bytes", "application/json", named("Style"))
CACHES = as_object(named("Caches"), "the caches and their counters")
CLEARED = as_object(
    record({"cacheCleared": TEXT, "before": named("Caches"), "after": named("Caches")}),
    "when it was done, the caches before and after",
)
SOURCES = as_object(
    table(record({"extensions": table(INTEGER), "mimeTypes": table(INTEGER), "version": TEXT})),
    "the readers by name",
)
HEALTH = as_object(record({"status": one_of(["ok"]), "device": TEXT}), "the server answers")
POSTED = as_object(record({"id": TEXT}), "the id")
KEPT = as_object(table(ANYTHING), "the style, as it was posted")


def routes() -> tuple[Route, ...]:
    """Return the routes of this room."""
    return (
        Route("GET", "/large_image/cache", in_time(cache), (), CACHES, refuses=(503,)),
        Route("PUT", "/large_image/cache/clear", in_time(clear), (), CLEARED, refuses=(503,)),
        Route("GET", "/large_image/sources", in_time(sources), (), SOURCES, refuses=(503,)),
        Route("POST", "/styles", in_time(post_style), (), POSTED, refuses=(400, 413, 503), body=BODY),
        Route("GET", "/styles/{id}", in_time(get_style), (ID,), KEPT, refuses=(404, 503)),
        Route("GET", "/healthz", in_time(health), (), HEALTH, refuses=(503,), twin=False),
    )


async def cache(request: web.Request) -> web.Response:
    """``GET /large_image/cache``: what the caches hold, and their counters."""
    return as_json(inspect(request.app[STATE]))


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
    return as_json(
        {
            "tiff": _reader(TIFF_SUFFIXES, "image/tiff"),
            "still": _reader(STILL_SUFFIXES, "image/png", "image/jpeg", "image/webp", "image/jp2"),
            "zarr": _reader((FOLDER_SUFFIX,)),
            "openslide": _reader(slides.SUFFIXES),
            "large_image": _reader(largeimage.SUFFIXES),
            "test": _reader(()),
        }
    )


def _reader(suffixes: tuple[str, ...], *types: str) -> dict[str, Any]:
    return {
        "extensions": {suffix.lstrip("."): 1 for suffix in suffixes},
        "mimeTypes": dict.fromkeys(types, 1),
        "version": __version__,
    }


async def health(request: web.Request) -> web.Response:
    """``GET /healthz``: the server answers; 503 once its device is lost, before the process ends."""
    engine = request.app[STATE].engine
    device = engine.backend.name
    if engine.batcher.lost is not None:
        return as_json({"status": "lost", "device": device, "message": str(engine.batcher.lost)}, 503)
    return as_json({"status": "ok", "device": device})


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
    key = ID.of(request.match_info)
    kept = await state.engine.reading_room.run(state.styles.get, key)
    if kept is None:
        raise NotFound(f"No style {key[:64]!r}.")
    return web.Response(text=kept, content_type="application/json")
