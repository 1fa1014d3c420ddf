"""Plain pages: the list of images, an image's facts, and one image to pan and zoom."""

from __future__ import annotations

from html import escape
from importlib import resources

from aiohttp import web


async def index(request: web.Request) -> web.Response:
    """``GET /``: the images, with thumbnails."""
    return page("index.html")


async def view(request: web.Request) -> web.Response:
    """``GET /view/{id}``: one image."""
    return page("view.html", item=request.match_info["item"])


def page(name: str, item: str = "") -> web.Response:
    """Return a page of the package, for an item."""
    text = resources.files("gputiles.pages").joinpath(name).read_text("utf-8")
    text = text.replace("{{item}}", escape(item))
    return web.Response(text=text, content_type="text/html", headers={"Vary": "Accept"})
