"""Addresses that answers name: what a client wrote, as far as proxies on the way tell it.

A proxy says what it was asked for in ``X-Forwarded-Proto``, ``X-Forwarded-Host`` and
``X-Forwarded-Prefix`` (the start of the path that it took off). Of a list the first entry
counts, which is the client's. Nothing but the addresses in an answer depends on them.
"""

from __future__ import annotations

import re
from functools import partial
from ipaddress import IPv6Address
from urllib.parse import quote, urlsplit

from aiohttp import web

from gputiles.errors import BadRequest
from gputiles.routes.parameters import Parameter


def _first(name: str, pattern: str, allowed: str, text: str) -> str:
    """Return what a proxy says; BadRequest where it cannot be a part of an address."""
    first = text.split(",")[0].strip()
    if not re.fullmatch(pattern, first) or not _is_there(first):
        raise BadRequest(f"{name}: expected {allowed}; got {first[:64]!r}")
    return first


def _is_there(text: str) -> bool:
    """Say whether what stands in brackets is an IPv6 address, and a port is one; most texts have neither."""
    try:
        if text.startswith("["):
            IPv6Address(text[1 : text.index("]")])
        return urlsplit(f"//{text}").port != 0
    except ValueError:
        return False


def _forwarded(name: str, pattern: str, allowed: str) -> Parameter[str]:
    schema = {"type": "string", "pattern": f"^{pattern}$"}
    about = f"{allowed}, as a proxy says that it was asked for; of a list the first entry counts"
    return Parameter(name, about, partial(_first, name, pattern, allowed), schema, where="header")


FORWARDED = (
    _forwarded("X-Forwarded-Proto", "https?", "http or https"),
    _forwarded(
        "X-Forwarded-Host",
        r"([A-Za-z0-9._-]{1,253}|\[[0-9A-Fa-f:.]{2,45}\])(:[0-9]{1,5})?",
        "a host with an optional port",
    ),
    _forwarded("X-Forwarded-Prefix", "(/[A-Za-z0-9._~-]+)*/?", "a path such as /tiles"),
)
PLAIN = "/%;:@=,!$&'()*+~"  # what may stand in a path as it is, escapes included (RFC 3986, 3.3)
VARY = ", ".join(each.name for each in FORWARDED)
"""The header of every answer that names an address, so that no cache mixes them up."""
VARIES = {"Vary": "the headers that its addresses depend on"}
"""What that header says, for the document of the API."""


def address(request: web.Request, path: str) -> str:
    """Return the absolute address of a path as a client wrote it; what it left raw is encoded."""
    scheme, host, prefix = (
        each.of(request.headers) if each.name in request.headers else "" for each in FORWARDED
    )
    base = f"{scheme or request.url.scheme}://{host or request.url.raw_authority}"
    return f"{base}{prefix.rstrip('/')}{quote(path, safe=PLAIN, errors='surrogateescape')}"
