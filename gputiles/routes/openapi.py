"""The description of the API: an OpenAPI 3.1 document, made of the routes that the server has."""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Iterable, Mapping
from typing import Any

from aiohttp import web

from gputiles import __version__
from gputiles.routes.addresses import FORWARDED, VARIES, VARY, address
from gputiles.routes.parameters import Parameter
from gputiles.routes.respond import STATUSES, as_json
from gputiles.routes.route import TWIN, Answer, Body, Route, as_object
from gputiles.routes.schemas import ANYTHING, NAMED, TEXT, named, record, table
from gputiles.state import STATE

ROUTES: web.AppKey[tuple[Route, ...]] = web.AppKey("routes", tuple)

ABOUT = f"""\
Tiles, regions, numbers and metadata of very large images, in any style.

* Routes answer below `/` and, unless they name another server, below `{TWIN}`.
* `tile` is accepted for `tiles` after an item, and a final slash may be left out.
* Every GET answers HEAD too, with the headers alone; every path answers OPTIONS (204, CORS preflight).
* Answers with an `ETag` are 304, without a body, where `If-None-Match` names it.
* Parameters of a query are given once; those that a route does not know are ignored.
* Errors are JSON; 405 names the methods that are allowed.
"""

IF_NONE_MATCH: Parameter[str] = Parameter(
    "If-None-Match", "entity tags of what the client has", str, TEXT, where="header"
)


def routes() -> tuple[Route, ...]:
    """Return the routes of this room."""
    document = record({"openapi": TEXT, "info": table(ANYTHING), "paths": table(table(ANYTHING))})
    gives = as_object(document, "an OpenAPI 3.1 document", VARIES)
    return (Route("GET", "/openapi.json", show, FORWARDED, gives, refuses=(400,), twin=False),)


async def show(request: web.Request) -> web.Response:
    """``GET /openapi.json``: this document."""
    room, told = request.app[STATE].engine.reading_room, request.app[ROUTES]
    document = await room.run(describe, told, address(request, ""))
    return as_json(document, headers={"Vary": VARY})


def describe(routes: Iterable[Route], base: str) -> dict[str, Any]:
    """Return the document of the routes of a server at the address ``base``."""
    paths: dict[str, dict[str, Any]] = {}
    for route in routes:
        item = paths.setdefault(route.template, {} if route.twin else {"servers": [{"url": base}]})
        item[route.method.lower()] = _operation(route)
    modules = {route.handler.__module__ for route in routes}
    return {
        "openapi": "3.1.0",
        "info": {"title": "gputiles", "version": __version__, "description": ABOUT},
        "servers": [{"url": base}, {"url": base + TWIN, "description": "the same, where large_image has it"}],
        "tags": [
            {"name": _tag(module), "description": _lines(sys.modules[module])} for module in sorted(modules)
        ],
        "paths": dict(sorted(paths.items())),
        "components": {"schemas": NAMED, "responses": _refusals()},
    }


def _tag(module: str) -> str:
    return module.rpartition(".")[2]


def _lines(documented: object) -> str:
    """Return a docstring as Markdown."""
    return (inspect.getdoc(documented) or "").replace("``", "`")


def _operation(route: Route) -> dict[str, Any]:
    """Return what the document says of a route."""
    summary, _, rest = _lines(route.handler).partition("\n")
    summary = re.sub(r"^`.*?`: ", "", summary)
    held = (IF_NONE_MATCH,) if any(answer.status == 304 for answer in route.gives) else ()
    operation: dict[str, Any] = {
        "operationId": re.sub(r"\W+", "_", f"{route.method.lower()}{route.template}").strip("_"),
        "tags": [_tag(route.handler.__module__)],
        "summary": summary[:1].upper() + summary[1:],
        "description": rest.strip(),
        "parameters": [_parameter(each, route) for each in (*route.takes, *held)],
        "responses": {str(answer.status): _answer(answer) for answer in route.gives}
        | {str(status): {"$ref": f"#/components/responses/{status}"} for status in route.refuses},
    }
    if route.body is not None:
        operation["requestBody"] = _body(route.body)
    return {key: value for key, value in operation.items() if value}


def _parameter(parameter: Parameter[Any], route: Route) -> dict[str, Any]:
    where = "path" if f"{{{parameter.name}}}" in route.template else parameter.where
    schema = (
        parameter.schema if parameter.default is None else {**parameter.schema, "default": parameter.default}
    )
    described: dict[str, Any] = {
        "name": parameter.name,
        "in": where,
        "description": parameter.about,
        "schema": schema,
    }
    if where == "path" or parameter.required:
        described["required"] = True
    return described if parameter.example is None else {**described, "example": parameter.example}


def _answer(answer: Answer) -> dict[str, Any]:
    described: dict[str, Any] = {"description": answer.about}
    if answer.headers:
        described["headers"] = {name: _header(about) for name, about in answer.headers.items()}
    if answer.content:
        described["content"] = {kind: _media(schema) for kind, schema in answer.content.items()}
    return described


def _header(about: str) -> dict[str, Any]:
    return {"description": about, "schema": TEXT, "required": True}


def _media(schema: Mapping[str, Any]) -> dict[str, Any]:
    return {"schema": schema} if schema else {}


def _body(body: Body) -> dict[str, Any]:
    return {"description": body.about, "required": True, "content": {body.media_type: _media(body.schema)}}


def _refusals() -> dict[str, Any]:
    """Return the answers of errors: what they mean is what the errors say of themselves."""
    content = {"application/json": {"schema": named("Error")}}
    found = {
        str(status): {"description": inspect.getdoc(kind) or "", "content": content}
        for kind, status in STATUSES
    }
    found["503"]["headers"] = {"Retry-After": _header("seconds after which to come back")}
    return found
