"""The IIIF Image API at ``/iiif/2`` and ``/iiif/3``.

An identifier is an item's id, and after semicolons what else the view needs:
``{id};style=@hash;frame=2``, percent-encoded as paths are.
"""

from __future__ import annotations

import json

from aiohttp import web

from gputiles import iiif
from gputiles.iiif import Limits, Parts
from gputiles.image import ImageInfo
from gputiles.renderer import MOST_BYTES, MOST_PIXELS
from gputiles.request import View
from gputiles.routes import ask
from gputiles.routes.addresses import FORWARDED, VARIES, VARY, address
from gputiles.routes.answer import in_time
from gputiles.routes.ask import Direct, image_of
from gputiles.routes.parameters import text
from gputiles.routes.respond import CORS
from gputiles.routes.route import Answer, Route, pictures
from gputiles.routes.schemas import TEXT, WHOLE, Schema, listed, one_of, record
from gputiles.routes.xyz import answer_region
from gputiles.state import STATE

VERSIONS = (2, 3)


IDENTIFIER = text("identifier", "an item's id, that may go on with ;style=… and ;frame=…")
PARTS = (
    text("region", "full, square, x,y,w,h or pct:x,y,w,h", example="full"),
    text("size", "max, w,h with one or both, !w,h or pct:n, after ^ where it enlarges", example="max"),
    text("rotation", "0, 90, 180 or 270 degrees, after ! of the mirrored picture", example="0"),
    text("quality", "what becomes of the colours", one_of(tuple(iiif.TONES)), example="default"),
    text("format", "the picture's format", one_of(tuple(iiif.FORMATS)), example="jpg"),
)
LINKED = {**VARIES, "Link": "the profile, and the canonical address or the JSON-LD context"}
ON = (Answer(303, "on to the information document", {}, {**VARIES, "Location": "where it is"}),)
SIZES = listed(record({"width": WHOLE, "height": WHOLE}))
INFORMATION: Schema = record(
    {"@context": TEXT, "protocol": TEXT, "width": WHOLE, "height": WHOLE, "sizes": SIZES, "tiles": SIZES}
)
FACTS = (
    Answer(
        200,
        "the information document",
        {"application/json": INFORMATION, "application/ld+json": INFORMATION},
        LINKED,
    ),
)
PICTURES = pictures(*iiif.FORMATS.values(), headers=LINKED)


def routes() -> tuple[Route, ...]:
    """Return the routes of this room."""
    return tuple(route for version in VERSIONS for route in _routes(version))


def _routes(version: int) -> tuple[Route, ...]:
    base = f"/iiif/{version}/{{identifier:[^/]+}}"  # braces too: a style may be in it
    path = f"{base}/{{region}}/{{size}}/{{rotation}}/{{quality}}.{{format}}"
    takes = (IDENTIFIER, *FORWARDED)
    return (
        Route("GET", base, redirect, takes, ON, refuses=(400,)),
        Route("GET", f"{base}/info.json", in_time(information), takes, FACTS),
        Route("GET", path, in_time(image), (*takes, *PARTS), PICTURES),
    )


async def redirect(request: web.Request) -> web.Response:
    """``GET /iiif/3/{identifier}``: on to the information document."""
    headers = {**CORS, "Location": f"{_base(request, 0)}/info.json", "Vary": VARY}
    return web.Response(status=303, headers=headers)


async def information(request: web.Request) -> web.Response:
    """``GET /iiif/3/{identifier}/info.json``: what the image is and what may be asked of it."""
    item, view = await _view(request)
    found, version = await image_of(request.app[STATE], item), _version(request)
    body = iiif.describe(found.info, _base(request, 1), version, _limits(found.info, view))
    return web.Response(body=json.dumps(body).encode(), headers={**CORS, **_kind(request, version)})


def _kind(request: web.Request, version: int) -> dict[str, str]:
    """Return the headers that say what kind of JSON an information document is."""
    context, vary = iiif.context(version), f"Accept, {VARY}"
    if "application/ld+json" in request.headers.get("Accept", ""):
        kind = f'application/ld+json;profile="{context}"'
        return {"Content-Type": kind, "Link": _profile(version), "Vary": vary}
    relation = 'rel="http://www.w3.org/ns/json-ld#context";type="application/ld+json"'
    link = f"{_profile(version)}, <{context}>;{relation}"
    return {"Content-Type": "application/json", "Link": link, "Vary": vary}


async def image(request: web.Request) -> web.Response:
    """``GET /iiif/3/{identifier}/{region}/{size}/{rotation}/{quality}.{format}``: a part of the image."""
    item, view = await _view(request)
    info, version = (await image_of(request.app[STATE], item)).info, _version(request)
    parts = Parts(*(part.of(request.match_info) for part in PARTS))
    most = _limits(info, view)
    wanted = iiif.parse(parts, info, view, version, most)
    path = iiif.canonical(wanted, info, parts, version, most)
    link = f'{_profile(version)}, <{_base(request, 4)}/{path}>;rel="canonical"'
    response = await answer_region(request, item, wanted, info)
    response.headers.update({"Link": link, "Vary": VARY})
    return response


async def _view(request: web.Request) -> tuple[str | Direct, View]:
    """Return the item and the view that an identifier names."""
    item, query = iiif.parse_identifier(IDENTIFIER.of(request.match_info))
    view = await ask.view(request, query, "JPEG")
    return (ask.pattern({}) if item == ask.TEST_ITEM else item), view


def _limits(info: ImageInfo, view: View) -> Limits:
    return iiif.limits(info, view, MOST_PIXELS, MOST_BYTES)


def _version(request: web.Request) -> int:
    return int(request.path.split("/iiif/")[1][0])


def _profile(version: int) -> str:
    return f'<http://iiif.io/api/image/{version}/level2.json>;rel="profile"'


def _base(request: web.Request, parts: int) -> str:
    """Return the address of the image: the request's without its last ``parts`` parts."""
    path = request.rel_url.raw_path
    return address(request, path.rsplit("/", parts)[0] if parts else path)
