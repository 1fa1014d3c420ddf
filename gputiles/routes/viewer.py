"""The viewer: its pages, and the files that they are made of."""

from __future__ import annotations

from html import escape
from urllib.parse import urlsplit

from aiohttp import web

from gputiles import assets
from gputiles.routes import ask
from gputiles.routes.answer import in_time
from gputiles.routes.parameters import text
from gputiles.routes.respond import CORS, is_held
from gputiles.routes.route import TAGS, Answer, Route
from gputiles.routes.schemas import TEXT
from gputiles.state import STATE

# Pages talk to their own server, and to the address of the library where the operator names one.
POLICY = (
    "default-src 'self'; script-src 'self'{library}; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' blob: data:; worker-src 'self' blob:; "
    "object-src 'none'; base-uri 'self'"
)


PAGE = (Answer(200, "a page", {"text/html": TEXT}, {"Vary": "Accept"}),)
NAME = text("file", "the name of a file of the viewer", example="view.js")
FILE = (
    Answer(200, "the file", {media_type: {} for media_type in assets.TYPES.values()}, TAGS),
    Answer(304, "the client has it", {}, TAGS),
)


def routes() -> tuple[Route, ...]:
    """Return the routes of this room."""
    return (
        Route("GET", "/", in_time(index), (), PAGE, refuses=(503,)),
        Route("GET", "/view/{item}", in_time(view), (ask.ITEM,), PAGE, refuses=(503,)),
        Route("GET", "/status", in_time(status), (), PAGE, refuses=(503,)),
        Route("GET", "/viewer/{file}", in_time(file), (NAME,), FILE, refuses=(404, 503)),
    )


async def index(request: web.Request) -> web.Response:
    """``GET /``: the images, with thumbnails."""
    return await page(request, "index.html")


async def view(request: web.Request) -> web.Response:
    """``GET /view/{id}``: one image."""
    return await page(request, "view.html", item=request.match_info["item"])


async def status(request: web.Request) -> web.Response:
    """``GET /status``: what the caches, the queue and the device do, as it changes."""
    return await page(request, "status.html")


async def file(request: web.Request) -> web.Response:
    """``GET /viewer/{file}``: a style sheet or a module of the pages."""
    found = await request.app[STATE].engine.reading_room.run(assets.asset, request.match_info["file"])
    headers = {**CORS, "ETag": found.etag, "Cache-Control": "no-cache", "X-Content-Type-Options": "nosniff"}
    if is_held(request, found.etag):
        return web.Response(status=304, headers=headers)
    return web.Response(
        body=found.data, headers={**headers, "Content-Type": f"{found.media_type}; charset=utf-8"}
    )


async def page(request: web.Request, name: str, item: str = "") -> web.Response:
    """Return a page, for an item; its addresses are relative, so that proxies may add to them."""
    state = request.app[STATE]
    html, has_library = await state.engine.reading_room.run(_page, name)
    address = state.config.openseadragon or (f"viewer/{assets.LIBRARY}" if has_library else "")
    values = {"root": _root(request), "item": item, "openseadragon": address}
    for key, value in values.items():
        html = html.replace(f"{{{{{key}}}}}", escape(value))
    policy = POLICY.format(library=_origin(state.config.openseadragon))
    headers = {"Vary": "Accept", "Cache-Control": "no-cache", "Content-Security-Policy": policy}
    return web.Response(text=html, content_type="text/html", headers=headers)


def _page(name: str) -> tuple[str, bool]:
    return assets.template(name), assets.has_library()


def _root(request: web.Request) -> str:
    """Return the way from a page to the server's root, whatever a proxy put before it."""
    return "../" * (request.rel_url.raw_path.count("/") - 1) or "./"


def _origin(address: str | None) -> str:
    """Return the origin of the library's address as an entry of a policy; nothing for a path."""
    parts = urlsplit(address or "")
    return f" {parts.scheme}://{parts.netloc}" if parts.scheme and parts.netloc else ""
