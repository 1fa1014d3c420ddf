"""Viewports: all tiles of a view for one request, or for one message, each sent when it is ready."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator
from contextlib import aclosing
from struct import Struct
from time import perf_counter
from typing import Any

from aiohttp import WSMsgType, web

from gputiles import viewport
from gputiles.encoded import EncodedTile
from gputiles.errors import BadRequest, GputilesError
from gputiles.request import ViewportRequest
from gputiles.routes import ask, parameters
from gputiles.routes.admit import admitted
from gputiles.routes.ask import Direct, image_of
from gputiles.routes.parameters import EDGE, ENCODING, FRAME, QUALITY, STYLE, SUBSAMPLING
from gputiles.routes.respond import CORS, status_of, timing, told
from gputiles.routes.route import TIMES, Answer, Body, Route
from gputiles.routes.schemas import TEXT, WHOLE, listed, named, record
from gputiles.state import STATE
from gputiles.trace import BEGAN, Trace
from gputiles.viewport import Outcome, Ready

LONGEST = 4 * 1024**2  # bytes of a request: styles of hundreds of bands are long
MOST_PLACES = 1024
IN_BATCH = Struct("<III")  # number of the place, status, bytes that follow
IN_LIVE = Struct("<III")  # number of the request, of the place, status; the rest of the message follows
HEARTBEAT = 30.0  # seconds between two signs of life of a socket


PLACE = {**listed(WHOLE), "minItems": 3, "maxItems": 3}
PLACES = {**listed(PLACE), "minItems": 1, "maxItems": MOST_PLACES}
STYLES = {"anyOf": [named("Style"), TEXT]}
FURTHER = {each.name: each.schema for each in (ENCODING, QUALITY, SUBSAMPLING, EDGE, FRAME)}
PARAMETERS = (*FURTHER, STYLE.name)
ASKED = record({"tiles": PLACES}, {"style": STYLES, **FURTHER, "timing": {"type": "boolean"}})
BODY = Body("the tiles, each as [z, x, y], and how they look", "application/json", ASKED)
UNBUFFERED = {"X-Accel-Buffering": "no"}  # nginx, and others, would wait until a buffer is full
HEADERS = {**TIMES, "X-Accel-Buffering": "asks a proxy to hand each tile on when it comes"}
STREAM = (Answer(200, "the tiles, each behind its three numbers", {"application/octet-stream": {}}, HEADERS),)
SOCKET = (Answer(101, "the socket is open"),)


def routes() -> tuple[Route, ...]:
    """Return the routes of this room."""
    return (
        Route("POST", "/item/{item}/tiles:batch", batch, ask.IMAGE, STREAM, body=BODY),
        Route("GET", "/item/{item}/live", live, ask.IMAGE, SOCKET),
    )


async def batch(request: web.Request) -> web.StreamResponse:
    """``POST /item/{id}/tiles:batch``: many tiles of one view, each sent when it is ready.

    Each comes as three little-endian uint32 (its number in ``tiles``, its status, its length)
    and that many bytes: the picture, or the error as JSON. Server-Timing tells of the first; with
    ``timing`` there is one more behind all tiles, whose number is theirs: where the time went, as JSON.
    """
    item, trace = _item(request), Trace()
    asked = await _read(request, await ask.body(request, "body", LONGEST))
    timed = _timed(asked)
    response = web.StreamResponse(headers={**CORS, **UNBUFFERED, "Content-Type": "application/octet-stream"})
    async with aclosing(_outcomes(request, item, asked, trace)) as found:
        async for ready in found:
            if not response.prepared:
                response.headers["Server-Timing"] = timing(trace)
                await response.prepare(request)
            await response.write(b"".join(_in_batch(number, *_sent(outcome)) for number, outcome in ready))
    if timed:
        spent = json.dumps(_spent(trace, BEGAN.get())).encode()
        await response.write(_in_batch(len(asked["tiles"]), 200, spent))
    await response.write_eof()
    return response


def _timed(asked: dict[str, Any]) -> bool:
    timed = asked.pop("timing", False)
    if type(timed) is not bool:
        raise BadRequest(f"timing: expected true or false; got {str(timed)[:64]!r}")
    return timed


def _in_batch(number: int, status: int, data: bytes) -> bytes:
    return IN_BATCH.pack(number, status, len(data)) + data


def _spent(trace: Trace, began: float) -> dict[str, Any]:
    """Return the milliseconds from ``began`` to now, and those of all stages."""
    return {"ms": round((perf_counter() - began) * 1000, 2), "stages": trace.stages}


def _sent(outcome: Outcome) -> tuple[int, bytes]:
    """Return the status and the body of what became of a place."""
    if isinstance(outcome, EncodedTile):
        return 200, outcome.data
    return status_of(outcome), json.dumps(told(outcome)).encode()


async def live(request: web.Request) -> web.WebSocketResponse:
    """``GET /item/{id}/live``: a socket that answers each viewport; a newer one calls the older off.

    A message asks as the body of ``tiles:batch`` does; ``request`` is a number of the client's.
    Each tile comes as a message of three little-endian uint32 (``request``, its number in
    ``tiles``, its status) and the picture, or the error as JSON. A message of text ends the answer.
    """
    state, item = request.app[STATE], _item(request)
    async with asyncio.timeout(state.config.deadline):
        await image_of(state, item)  # who asks for what is not there is told before the socket opens
    socket = web.WebSocketResponse(heartbeat=HEARTBEAT, compress=False, max_msg_size=LONGEST)
    await socket.prepare(request)
    task: asyncio.Task[None] | None = None
    try:
        async for message in socket:
            await _call_off(task)
            if message.type is not WSMsgType.TEXT:
                break
            task = asyncio.get_running_loop().create_task(_reply(request, item, socket, message.data))
    finally:
        await _call_off(task)
    return socket


async def _call_off(task: asyncio.Task[None] | None) -> None:
    if task is None:
        return
    task.cancel()
    await asyncio.wait([task])
    error = None if task.cancelled() else task.exception()
    if error is not None and not isinstance(error, ConnectionError):  # else nobody is there to hear of it
        raise error


async def _reply(request: web.Request, item: str | Direct, socket: web.WebSocketResponse, text: str) -> None:
    """Send the tiles that a message asks for, and how long that took."""
    trace, began, number = Trace(), perf_counter(), 0
    try:
        asked = await _read(request, text.encode())
        number = _number(asked)
        await admitted(request)  # again: a socket may be open for longer than an access lasts
        async with aclosing(_outcomes(request, item, asked, trace)) as found:
            async for ready in found:
                for place, outcome in ready:
                    status, data = _sent(outcome)
                    await socket.send_bytes(IN_LIVE.pack(number, place, status) + data)
    except GputilesError as error:
        request.app[STATE].refusals[status_of(error)] += 1
        await socket.send_json({"request": number, "status": status_of(error), **told(error)})
        return
    await socket.send_json({"request": number, "status": 200, **_spent(trace, began)})


def _number(asked: dict[str, Any]) -> int:
    number = asked.pop("request", 0)
    if type(number) is not int or not 0 <= number < 1 << 32:
        raise BadRequest(f"request: expected an integer from 0 to {(1 << 32) - 1}; got {str(number)[:64]!r}")
    return number


async def _read(request: web.Request, body: bytes) -> dict[str, Any]:
    """Return what a body says; a long one is not parsed on the loop."""
    if len(body) <= ask.SHORT_STYLE:
        return _parsed(body)
    return await request.app[STATE].engine.reading_room.run(_parsed, body)


def _parsed(body: bytes) -> dict[str, Any]:
    """Return what a body says, its parameters as a URL would give them."""
    asked = parameters.parse_json(body, "body: expected a JSON object")
    if not isinstance(asked, dict):
        raise BadRequest(f"body: expected a JSON object; got {str(asked)[:64]!r}")
    given = {name: asked[name] for name in PARAMETERS if asked.get(name) is not None}
    texts = {name: value if isinstance(value, str) else json.dumps(value) for name, value in given.items()}
    return asked | texts


def _item(request: web.Request) -> str | Direct:
    return ask.item_of(request, parameters.single(request.query))


async def _outcomes(
    request: web.Request, item: str | Direct, asked: dict[str, Any], trace: Trace
) -> AsyncGenerator[Ready, None]:
    """Yield what becomes of the places, as they become ready."""
    state, places, query = request.app[STATE], _places(asked.get("tiles")), _query(asked)
    view = await ask.view(request, query, "JPEG")
    wanted = ViewportRequest(places, view, EDGE.of(query))
    image = await image_of(state, item)
    found = viewport.tiles(state.engine.renderer, image, wanted, trace, state.config.deadline)
    async with aclosing(found):
        async for ready in found:
            state.refusals.update(status_of(each) for _, each in ready if isinstance(each, GputilesError))
            yield ready


def _places(listed: Any) -> tuple[tuple[int, int, int], ...]:
    """Return the places that a request lists."""
    places = tuple(map(_place, listed)) if isinstance(listed, list) else ()
    if not 1 <= len(places) <= MOST_PLACES:
        raise BadRequest(
            f"tiles: expected 1 to {MOST_PLACES} places such as [z, x, y]; got {str(listed)[:64]!r}"
        )
    return places


def _place(place: Any) -> tuple[int, int, int]:
    whole = isinstance(place, list) and len(place) == 3 and all(type(part) is int for part in place)
    if not whole or min(place) < 0:
        raise BadRequest(f"tiles: expected [z, x, y], integers from 0 on; got {str(place)[:64]!r}")
    z, x, y = place
    return z, x, y


def _query(asked: dict[str, Any]) -> dict[str, str]:
    """Return the parameters, which are known ones."""
    unknown = asked.keys() - {"tiles", *PARAMETERS}
    if unknown:
        raise BadRequest(f"{min(unknown)[:64]}: expected tiles, {', '.join(PARAMETERS)}; got another name")
    return {name: asked[name] for name in PARAMETERS if asked.get(name) is not None}
