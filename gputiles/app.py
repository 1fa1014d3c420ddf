"""The HTTP server: its routes, what stands before each of them, its start and end."""

from __future__ import annotations

import asyncio
import gc
import logging
import socket
import sys
import uuid
from collections.abc import AsyncIterator, Callable
from functools import wraps
from time import perf_counter
from typing import Any

from aiohttp import web
from aiohttp.http_exceptions import BadHttpMessage
from aiohttp.typedefs import Handler

from gputiles.admission import Admission
from gputiles.config import Config
from gputiles.engine import Engine
from gputiles.errors import DeadlineExceeded, DeviceLost, GputilesError, NotFound
from gputiles.folderviews import FolderViews
from gputiles.girder import Girder
from gputiles.library import Library
from gputiles.presets import PresetStore
from gputiles.routes import (
    analysis,
    associated,
    deepzoom,
    frames,
    iiif,
    intake,
    items,
    metrics,
    omero,
    openapi,
    presets,
    regions,
    route,
    service,
    viewer,
    viewports,
    xyz,
)
from gputiles.routes.admit import ADMISSION, admitting
from gputiles.routes.respond import PREFLIGHT, as_json, as_refusal
from gputiles.state import STATE, State
from gputiles.styles import StyleStore
from gputiles.trace import BEGAN
from gputiles.walk import remote_item

logger = logging.getLogger(__name__)

ROOMS = (
    items,  # first: paths are tried one after the other, and most requests are for tiles
    analysis,
    associated,
    deepzoom,
    frames,
    iiif,
    intake,
    metrics,
    omero,
    openapi,
    presets,
    regions,
    service,
    viewports,
    viewer,
    xyz,
)
ROUTES = tuple(each for room in ROOMS for each in room.routes())
REST = "/{path:.*}"  # all that no route has
LONGEST_LINE = 1024**2  # bytes of a request line: styles of hundreds of bands are long
LAST_WORDS = 2.0  # seconds in which a server without a device still answers, and /healthz says why


def create_app(config: Config) -> web.Application:
    """Return the application; it starts its engine when it is started."""
    app = web.Application()
    app.cleanup_ctx.append(lambda app: _serve_state(app, config))
    if config.girder is not None:
        app.cleanup_ctx.append(lambda app: _serve_girder(app, config, str(config.girder)))
    app[openapi.ROUTES] = ROUTES
    for each in ROUTES:
        route.add(app.router, each, guarded if config.girder is None else _at_the_door)
    rest = app.router.add_resource(REST)
    rest.add_route("OPTIONS", guarded(preflight))
    rest.add_route("*", guarded(nothing))
    return app


def _at_the_door(handler: Handler) -> Handler:
    return guarded(admitting(handler))


async def _serve_state(app: web.Application, config: Config) -> AsyncIterator[None]:
    async with Engine(config) as engine:
        room = engine.reading_room
        styles = await room.run(StyleStore, config.style_store, config.style_limit)
        presets = await room.run(PresetStore, config.style_store)
        roots = await room.run(lambda: tuple(root.resolve() for root in config.roots))
        library = Library(roots, engine.images.run, engine.validate)
        await library.start()
        for url in config.urls:
            library.adopt(await room.run(remote_item, engine.remotes, url))
        app[STATE] = State(config, engine, library, styles, presets, FolderViews(room, engine.images))
        yield
        await library.close()
        await room.run(presets.close)
        await room.run(styles.close)


async def _serve_girder(app: web.Application, config: Config, url: str) -> AsyncIterator[None]:
    admission = app[ADMISSION] = Admission(Girder(url, config, app[STATE].engine.remotes))
    yield
    admission.close()


def guarded(handler: Handler) -> Handler:
    """Return ``handler`` with the request's clock; it turns errors into JSON, and counts them.

    aiohttp's middlewares do that too, at a tenth of what a hot tile takes.
    """

    @wraps(handler)
    async def guard(request: web.Request) -> web.StreamResponse:
        BEGAN.set(perf_counter())
        try:
            return await handler(request)
        except Exception as error:
            answer = _refusal(request, error)
        request.app[STATE].refusals[answer.status] += 1
        return answer

    return guard


def _refusal(request: web.Request, error: Exception) -> web.Response:
    """Return what an error is to a client."""
    if isinstance(error, GputilesError):
        return as_refusal(error)
    if isinstance(error, TimeoutError):
        seconds = request.app[STATE].config.deadline
        return as_refusal(DeadlineExceeded(f"no answer within the deadline of {seconds} s"))
    if isinstance(error, web.HTTPException):
        return as_json({"message": error.reason, "type": "rest"}, error.status, _allow(error))
    uid = uuid.uuid4().hex
    logger.error("internal error %s on %s", uid, request.path, exc_info=error)
    return as_json({"message": "internal error", "type": "internal", "uid": uid}, 500)


def _allow(error: web.HTTPException) -> dict[str, str]:
    return {"Allow": error.headers["Allow"]} if "Allow" in error.headers else {}


async def preflight(request: web.Request) -> web.Response:
    """``OPTIONS``: viewers live on other hosts."""
    return web.Response(status=204, headers=PREFLIGHT)


async def nothing(request: web.Request) -> web.Response:
    """Refuse what no route answers: by 405 where one of another method is there, else by 404."""
    methods: set[str] = set()
    for resource in request.app.router.resources():
        if resource is not request.match_info.route.resource:
            methods |= (await resource.resolve(request))[1]
    if methods:
        raise web.HTTPMethodNotAllowed(request.method, methods | {"OPTIONS"})
    raise NotFound(f"There is nothing at {request.path[:200]!r}.")


def run(config: Config, on_ready: Callable[[str], None]) -> None:
    """Serve until the process is told to end; ``on_ready`` gets the base URL.

    Raises OSError where the address cannot be listened on, DeviceLost some seconds after the
    compute device has failed for good: only a new process can compute again.
    """
    asyncio.run(_run(config, on_ready))


async def _run(config: Config, on_ready: Callable[[str], None]) -> None:
    sys.setswitchinterval(0.001)  # the event loop waits for the GIL no longer than this, per thread
    app = create_app(config)
    runner = web.AppRunner(app, **SERVER)
    await runner.setup()
    spare_collections()
    try:
        on_ready(await _listen(runner, config))
        batcher = app[STATE].engine.batcher
        await batcher.over.wait()
        await asyncio.sleep(LAST_WORDS)
        raise batcher.lost or DeviceLost("the device is lost")
    finally:
        await runner.cleanup()


async def _listen(runner: web.AppRunner, config: Config) -> str:
    """Listen where the settings say; return the base URL. Raises OSError where that cannot be."""
    try:
        await web.TCPSite(runner, config.host, config.port).start()
    except socket.gaierror as error:
        raise OSError(error.errno, f"host: {error.strerror}; got {config.host!r}") from error
    host, port = runner.addresses[0][:2]
    return f"http://{f'[{host}]' if ':' in host else host}:{port}"


def spare_collections() -> None:
    """Let the garbage collector rarely walk all that lives, which stops the process meanwhile.

    A walk takes a tenth of a second where caches hold some thousand styles, none of which is ever
    garbage that counting references does not free. Young objects are looked at as by default.
    """
    gc.freeze()  # what is there from the start stays
    gc.set_threshold(700, 10, 1000)  # the last is 10 by default


class _NoHttp(logging.Filter):
    """Tells in one line what is no HTTP: anybody may send it, and no traceback says more about it."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Shorten such a record, which is none of an error; let all pass."""
        error = record.exc_info[1] if record.exc_info else None
        if isinstance(error, BadHttpMessage):
            record.msg, record.args = f"{record.getMessage()}: %s", (error.message.partition("\n")[0],)
            record.exc_info = None
            record.levelno, record.levelname = logging.INFO, logging.getLevelName(logging.INFO)
        return True


def _server_log() -> logging.Logger:
    log = logging.getLogger(f"{__name__}.server")
    log.addFilter(_NoHttp())
    return log


SERVER: dict[str, Any] = {
    "handler_cancellation": True,  # a client that leaves takes its work along
    "max_line_size": LONGEST_LINE,
    "max_field_size": LONGEST_LINE,
    "access_log": None,
    "logger": _server_log(),
}
