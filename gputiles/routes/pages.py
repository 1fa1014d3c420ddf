"""Two plain pages: the list of images, and one image to pan and zoom."""

from __future__ import annotations

from importlib import resources

from aiohttp import web


async def index(request: web.Request) -> web.Response:
    """``GET /``: the images, with thumbnails."""
    return _page("index.html")


async def view(request: web.Request) -> web.Response:
    """``GET /view/{id}``: one image."""
    return _page("view.html")


def _page(name: str) -> web.Response:
    text = resources.files("gputiles.pages").joinpath(name).read_text("utf-8")
    return web.Response(text=text, content_type="text/html")
