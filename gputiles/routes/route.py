"""Routes: what is asked, who answers, what is taken and what is given."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web
from aiohttp.typedefs import Handler

from gputiles.encoded import Format
from gputiles.routes.parameters import Parameter
from gputiles.routes.schemas import Schema

TWIN = "/api/v1"  # below which large_image's routes are

OF_IMAGES = (400, 401, 403, 404, 413, 415, 422, 503)
"""The refusals of routes that open an image."""

TAGS = {"ETag": "what If-None-Match is compared with", "Cache-Control": "how long clients may keep it"}
TIMES = {"Server-Timing": "where the time went: milliseconds by stage, and in total"}
TRACES = {"X-Cache": "where it comes from", **TIMES}


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer: its status, what it means, {media type: schema} of its body, {header: meaning}.

    All of these headers are there. Pictures have an empty schema: they are no JSON.
    """

    status: int
    about: str
    content: Mapping[str, Schema] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Body:
    """The body of a request: what it means, its media type and its schema."""

    about: str
    media_type: str
    schema: Schema


@dataclass(frozen=True, slots=True)
class Route:
    """A method and a path, who answers, and all that may be said: the server and the document read it.

    ``path`` is the canonical spelling, as aiohttp writes it. The handler's docstring tells what
    the route is for. ``takes`` are the parameters of path, query and headers; ``refuses`` the
    statuses of errors. ``twin`` says that ``/api/v1`` leads there too.
    """

    method: str
    path: str
    handler: Handler
    takes: tuple[Parameter[Any], ...]
    gives: tuple[Answer, ...]
    refuses: tuple[int, ...] = OF_IMAGES
    body: Body | None = None
    twin: bool = True

    @property
    def template(self) -> str:
        """The path with bare names: ``/iiif/3/{identifier}``."""
        return re.sub(r"\{(\w+):[^{}]*\}", r"{\1}", self.path)

    @property
    def spellings(self) -> Iterator[str]:
        """All paths that lead there: ``tile`` is a word for ``tiles``, a final slash may be left out."""
        words = {self.path, self.path.replace("/item/{item}/tiles", "/item/{item}/tile")}
        bare = {path.rstrip("/") or "/" for path in words}
        yield self.path
        yield from sorted((words | bare) - {self.path})


def add(router: web.UrlDispatcher, route: Route, before: Callable[[Handler], Handler]) -> None:
    """Let a server answer a route, in all its spellings; GET answers HEAD too.

    ``before`` makes of the route's handler the one that is called.
    """
    handler = before(route.handler)
    register = {
        "GET": router.add_get,
        "POST": router.add_post,
        "PUT": router.add_put,
        "DELETE": router.add_delete,
    }[route.method]
    for prefix in ("", TWIN) if route.twin else ("",):
        for path in route.spellings:
            register(prefix + path, handler)


# -- what several rooms give


def as_object(schema: Schema, about: str, headers: Mapping[str, str] | None = None) -> tuple[Answer, ...]:
    """Return the answers of a route that gives JSON."""
    return (Answer(200, about, {"application/json": schema}, headers or {}),)


def kept(
    content: Mapping[str, Schema], about: str, headers: Mapping[str, str] | None = None
) -> tuple[Answer, ...]:
    """Return the answers of a route whose results are kept, and told apart by entity tags."""
    more = dict(headers or {})
    return (
        Answer(200, about, content, {**TAGS, **TRACES, **more}),
        Answer(304, "the client has it: If-None-Match names its entity tag", {}, {**TAGS, **TIMES, **more}),
    )


def pictures(*formats: Format, headers: Mapping[str, str] | None = None) -> tuple[Answer, ...]:
    """Return the answers of a route that gives pictures."""
    return kept({format.value: {} for format in formats}, "the picture", headers)


PICTURES = pictures(Format.JPEG, Format.PNG, Format.WEBP, Format.TIFF, Format.NPY)
