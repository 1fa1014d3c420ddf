"""The IIIF Image API at ``/iiif/2`` and ``/iiif/3``.

An identifier is an item's id, and after semicolons what else the view needs:
``{id};style=@hash;frame=2``, percent-encoded as paths are.
"""

from __future__ import annotations

import json
from urllib.parse import quote

from aiohttp import web

from gputiles import iiif
from gputiles.errors import BadRequest
from gputiles.iiif import Parts
from gputiles.images import Image
from gputiles.renderer import MOST_PIXELS, Renderer
from gputiles.request import View
from gputiles.routes import ask
from gputiles.routes.answer import answer, in_time
from gputiles.routes.ask import Ask, image_of
from gputiles.routes.respond import CORS
from gputiles.state import STATE

VERSIONS = (2, 3)
VIEW = ("style", "frame")  # what an identifier may say


def add_routes(router: web.UrlDispatcher, prefix: str) -> None:
    """Add the routes of this room below ``prefix``."""
    for version in VERSIONS:
        base = f"{prefix}/iiif/{version}/{{identifier:[^/]+}}"  # braces too: a style may be in it
        router.add_get(base, redirect)
        router.add_get(f"{base}/info.json", in_time(information))
        router.add_get(f"{base}/{{region}}/{{size}}/{{rotation}}/{{quality}}.{{format}}", in_time(image))


async def redirect(request: web.Request) -> web.Response:
    """``GET /iiif/3/{identifier}``: on to the information document."""
    return web.Response(status=303, headers={**CORS, "Location": f"{_base(request, 0)}/info.json"})


async def information(request: web.Request) -> web.Response:
    """``GET /iiif/3/{identifier}/info.json``: what the image is and what may be asked of it."""
    item, _ = await _view(request)
    found = await image_of(request.app[STATE], item)
    version = _version(request)
    body = iiif.describe(found.info, _base(request, 1), version, MOST_PIXELS)
    context = f"http://iiif.io/api/image/{version}/context.json"
    linked = "application/ld+json" in request.headers.get("Accept", "")
    kind = f'application/ld+json;profile="{context}"' if linked else "application/json"
    headers = {**CORS, "Content-Type": kind, "Vary": "Accept", "Link": _profile(version)}
    return web.Response(body=json.dumps(body).encode(), headers=headers)


async def image(request: web.Request) -> web.Response:
    """``GET /iiif/3/{identifier}/{region}/{size}/{rotation}/{quality}.{format}``: a part of the image."""
    item, view = await _view(request)
    found: Image = await image_of(request.app[STATE], item)
    version = _version(request)
    parts = Parts(*(request.match_info[name] for name in ("region", "size", "rotation", "quality", "format")))
    wanted = iiif.parse(parts, found.info, view, version, MOST_PIXELS)
    response = await answer(request, Ask(item, wanted), Renderer.region)
    path = iiif.canonical(wanted, found.info, parts, version)
    response.headers["Link"] = f'{_profile(version)}, <{_base(request, 4)}/{path}>;rel="canonical"'
    return response


async def _view(request: web.Request) -> tuple[str, View]:
    """Return the item and the view that an identifier names."""
    item, *settings = request.match_info["identifier"].split(";")
    query = {}
    for setting in settings:
        name, equals, value = setting.partition("=")
        if name not in VIEW or not equals or name in query:
            raise BadRequest(
                f"identifier: expected {' or '.join(VIEW)}, once, after ';'; got {setting[:64]!r}"
            )
        query[name] = value
    return item, await ask.view(request, query, "JPEG")


def _version(request: web.Request) -> int:
    return int(request.path.split("/iiif/")[1][0])


def _profile(version: int) -> str:
    return f'<http://iiif.io/api/image/{version}/level2.json>;rel="profile"'


def _base(request: web.Request, parts: int) -> str:
    """Return the address of the image: the request's without its last ``parts`` parts."""
    path = request.rel_url.raw_path.rsplit("/", parts)[0] if parts else request.rel_url.raw_path
    return f"{request.url.origin()}{quote(path, safe='/%;:@=,!$()*+~')}"
