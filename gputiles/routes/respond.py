"""Responses: headers that are the same everywhere, entity tags, JSON, errors."""

from __future__ import annotations

import json
from time import perf_counter
from typing import Any

from aiohttp import web
from multidict import CIMultiDict

from gputiles.encoded import EncodedTile
from gputiles.errors import (
    BadRequest,
    Damaged,
    Forbidden,
    GputilesError,
    LimitExceeded,
    NotFound,
    SignInRequired,
    Unavailable,
    Unsupported,
)
from gputiles.metadata import clean
from gputiles.trace import BEGAN, Trace

CORS = {
    "Access-Control-Allow-Origin": "*",
    "Access-Control-Expose-Headers": (
        "ETag, Link, Location, Server-Timing, X-Cache, X-Total-Count, Retry-After, Content-Disposition"
    ),
    "Timing-Allow-Origin": "*",
}
_SHARED = CIMultiDict(CORS)
PREFLIGHT = {
    **CORS,
    "Access-Control-Allow-Methods": "GET, HEAD, POST, PUT, DELETE, OPTIONS",
    "Access-Control-Allow-Headers": "Content-Type, If-None-Match, Girder-Token, Authorization, Range",
    "Access-Control-Max-Age": "86400",
}

RETRY_SECONDS = 1

STATUSES: tuple[tuple[type[GputilesError], int], ...] = (
    (BadRequest, 400),
    (SignInRequired, 401),
    (Forbidden, 403),
    (NotFound, 404),
    (LimitExceeded, 413),
    (Unsupported, 415),
    (Damaged, 422),
    (Unavailable, 503),
)


def status_of(error: GputilesError) -> int:
    """Return the status that tells of an error of the house."""
    return next(status for kind, status in STATUSES if isinstance(error, kind))


def told(error: GputilesError) -> dict[str, str]:
    """Return the body that tells of an error of the house."""
    return {"message": str(error), "type": "rest"}


def as_refusal(error: GputilesError) -> web.Response:
    """Return what an error is to a client."""
    status = status_of(error)
    headers = {"Retry-After": str(RETRY_SECONDS)} if status == 503 else {}
    return as_json(told(error), status, headers)


def as_json(value: Any, status: int = 200, headers: dict[str, str] | None = None) -> web.Response:
    """Return ``value`` as JSON: NaN is null, numbers stay numbers."""
    text = json.dumps(clean(value), allow_nan=False)
    return web.Response(
        text=text, status=status, content_type="application/json", headers=CORS | (headers or {})
    )


def timing(trace: Trace) -> str:
    """Return the Server-Timing of an answer: its stages, and the total from the request's way in to now.

    What other requests' work took, what nobody clocked, and work side by side make the total another
    than the sum of the stages.
    """
    total = f"total;dur={(perf_counter() - BEGAN.get()) * 1000:.3f}"
    if not trace.stages:
        return total
    return ", ".join([*(f"{stage};dur={spent:.3f}" for stage, spent in trace.stages.items()), total])


def as_tile(tile: EncodedTile, trace: Trace, max_age: int) -> web.Response:
    """Return an encoded tile with its entity tag, and where its time went."""
    headers = _SHARED.copy()  # a third cheaper than a dictionary, which aiohttp would copy into one of these
    headers["Content-Type"] = tile.media_type
    headers["ETag"] = tile.etag
    headers["Cache-Control"] = f"public, max-age={max_age}"
    headers["X-Cache"] = trace.cache
    headers["Server-Timing"] = timing(trace)
    return web.Response(body=tile.data, headers=headers)


def not_modified(etag: str, trace: Trace, max_age: int) -> web.Response:
    """Return 304 for a tile that the client has."""
    headers = {
        **CORS,
        "ETag": etag,
        "Cache-Control": f"public, max-age={max_age}",
        "Server-Timing": timing(trace),
    }
    return web.Response(status=304, headers=headers)


def is_held(request: web.Request, etag: str) -> bool:
    """Say whether If-None-Match names ``etag``, compared weakly (RFC 9110, 13.1.2)."""
    given = request.headers.get("If-None-Match")
    if given is None:
        return False
    tags = [tag.strip().removeprefix("W/") for tag in given.split(",")]
    return "*" in tags or etag in tags or etag.strip('"') in tags
