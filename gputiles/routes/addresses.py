"""Addresses that answers name: what a client wrote, as far as proxies on the way tell it.

A proxy says what it was asked for in ``X-Forwarded-Proto``, ``X-Forwarded-Host`` and
``X-Forwarded-Prefix`` (the start of the path that it took off). Of a list the first entry
counts, which is the client's. Nothing but the addresses in an answer depends on them.
"""

from __future__ import annotations

import re
from urllib.parse import quote

from aiohttp import web

from gputiles.errors import BadRequest

FORWARDED = {
    "X-Forwarded-Proto": (re.compile(r"https?"), "http or https"),
    "X-Forwarded-Host": (
        re.compile(r"([A-Za-z0-9._-]{1,253}|\[[0-9A-Fa-f:.]{2,45}\])(:[0-9]{1,5})?"),
        "a host with an optional port",
    ),
    "X-Forwarded-Prefix": (re.compile(r"(/[A-Za-z0-9._~-]+)*/?"), "a path such as /tiles"),
}
PLAIN = "/%;:@=,!$&'()*+~"  # what may stand in a path as it is, escapes included (RFC 3986, 3.3)
VARY = ", ".join(FORWARDED)  # of every answer that names an address, so that no cache mixes them up


def address(request: web.Request, path: str) -> str:
    """Return the absolute address of a path as a client wrote it; what it left raw is encoded."""
    scheme, host, prefix = (_forwarded(request, name) for name in FORWARDED)
    base = f"{scheme or request.url.scheme}://{host or request.url.raw_authority}"
    return f"{base}{(prefix or '').rstrip('/')}{quote(path, safe=PLAIN, errors='surrogateescape')}"


def _forwarded(request: web.Request, name: str) -> str | None:
    """Return what a proxy says; BadRequest where it cannot be a part of an address."""
    text = request.headers.get(name)
    if text is None:
        return None
    pattern, allowed = FORWARDED[name]
    first = text.split(",")[0].strip()
    if not pattern.fullmatch(first):
        raise BadRequest(f"{name}: expected {allowed}; got {first[:64]!r}")
    return first
