"""The door: requests for items of Girder pass it before anything else is looked at."""

from __future__ import annotations

import asyncio
from functools import wraps
from urllib.parse import urlsplit

from aiohttp import web
from aiohttp.typedefs import Handler

from gputiles import iiif
from gputiles.admission import Admission
from gputiles.girder import REMEMBERED
from gputiles.routes import addresses
from gputiles.state import STATE, State
from gputiles.walk import Item

ADMISSION: web.AppKey[Admission] = web.AppKey("admission", Admission)
WAYS = ("Girder-Token", "Cookie")  # of a token that is not in the address


def admitting(handler: Handler) -> Handler:
    """Return ``handler`` for requests that Girder lets in, where they are for an item of Girder's."""

    @wraps(handler)
    async def admit(request: web.Request) -> web.StreamResponse:
        item = await admitted(request)
        if item is None:
            return await handler(request)
        state = request.app[STATE]
        with state.library.lend(item):
            response = await handler(request)
        return _for_the_caller_alone(response, state)

    return admit


async def admitted(request: web.Request) -> Item | None:
    """Return the item of Girder's that a request names, if its caller may see it; None for other requests.

    Raises what Girder refuses with.
    """
    item_id, state = named(request), request.app[STATE]
    if item_id is None or ADMISSION not in request.app or not _is_foreign(state, item_id):
        return None
    async with asyncio.timeout(state.config.deadline):
        return await request.app[ADMISSION].admit(token_of(request), item_id)


def named(request: web.Request) -> str | None:
    """Return the id of the item that a request's path names, if it names one."""
    facts = request.match_info
    if "identifier" in facts:
        return iiif.parse_identifier(facts["identifier"])[0]
    return facts.get("item")


def _is_foreign(state: State, item_id: str) -> bool:
    return Admission.concerns(item_id) and not state.library.owns(item_id)


def token_of(request: web.Request) -> str | None:
    """Return the caller's token, looked for where Girder does: address, header, cookie.

    The cookie does not count where a page of another host opens a socket: browsers would send it,
    and let that page read what comes, which CORS forbids for other requests with cookies.
    """
    if "token" in request.query:
        return request.query["token"] or None
    cookie = None if _is_strangers_socket(request) else request.cookies.get("girderToken")
    return request.headers.get("Girder-Token") or cookie or None


def _is_strangers_socket(request: web.Request) -> bool:
    if "Upgrade" not in request.headers or "Origin" not in request.headers:
        return False
    origin, own = request.headers["Origin"], addresses.address(request, "/")
    return origin.rpartition("://")[2].lower() != urlsplit(own).netloc.lower()


def _for_the_caller_alone(response: web.StreamResponse, state: State) -> web.StreamResponse:
    """Mark an answer as one that no other caller may get from a cache on the way."""
    age = min(state.config.max_age, int(REMEMBERED))
    response.headers["Cache-Control"] = f"private, max-age={age}"
    given = response.headers.get("Vary")
    response.headers["Vary"] = ", ".join((*([given] if given else []), *WAYS))
    return response
