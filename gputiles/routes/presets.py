"""Presets: named views of an item, kept for everybody who looks at it, and those of its folder."""

from __future__ import annotations

import json
from typing import Any

from aiohttp import web

from gputiles import namedviews, yamltext
from gputiles.errors import BadRequest, Forbidden, LimitExceeded, NotFound, Unsupported
from gputiles.namedviews import LONGEST_NAME, MOST_GROUPS, is_name
from gputiles.presets import MOST, Preset
from gputiles.routes import ask, parameters
from gputiles.routes.answer import in_time
from gputiles.routes.parameters import text
from gputiles.routes.respond import as_json
from gputiles.routes.route import Body, Route, as_object
from gputiles.routes.schemas import ANYTHING, FLAG, GROUP, NUMBER, TEXT, WHOLE, listed, named, record, table
from gputiles.state import STATE, State

LONGEST_PRESET = 256 * 1024  # bytes
LONGEST_FILE = yamltext.LONGEST
FRESH = {"Cache-Control": "no-cache"}


NAME = text("preset", f"the name of a preset, at most {LONGEST_NAME} characters", example="mine")
CALLED = text("name", "what OMERO's rendering settings, which have no name, are called", example="mine")
GROUPS = {**listed(GROUP), "maxItems": MOST_GROUPS}
VIEW = record({}, {"frame": WHOLE, "mode": table(ANYTHING), "style": named("Style"), "groups": GROUPS})
PRESET = record({"name": TEXT}, {**VIEW["properties"], "saved": NUMBER, "file": TEXT, "default": FLAG})
BODY = Body(f"a view, of at most {LONGEST_PRESET} bytes", "application/json", VIEW)
FILE = Body(
    f"a list of presets, large_image's imageFramePresets or OMERO's rendering settings, as JSON or YAML "
    f"of at most {LONGEST_FILE} bytes",
    "application/json",
    {"anyOf": [listed(PRESET), record({"imageFramePresets": listed(PRESET)}), table(ANYTHING)]},
)
ALL = as_object(
    listed(PRESET),
    "the presets, the oldest first, and then those that a file in its folder gives to the image",
)
ONE = as_object(PRESET, "the preset")
GONE = as_object(record({"deleted": TEXT}), "it is gone")
TAKEN = as_object(listed(PRESET), "the presets of the file, which are kept now")


def routes() -> tuple[Route, ...]:
    """Return the routes of this room."""
    every, one = "/item/{item}/presets", "/item/{item}/presets/{preset}"
    kept = (400, 404, 413, 503)
    return (
        Route("GET", every, in_time(listing), (ask.ITEM,), ALL, refuses=(404, 503)),
        Route("POST", every, in_time(take), (ask.ITEM, CALLED), TAKEN, refuses=(*kept, 415), body=FILE),
        Route("GET", one, in_time(show), (ask.ITEM, NAME), ONE, refuses=(400, 404, 503)),
        Route("PUT", one, in_time(put), (ask.ITEM, NAME), ONE, refuses=kept, body=BODY),
        Route("DELETE", one, in_time(delete), (ask.ITEM, NAME), GONE, refuses=(400, 403, 404, 503)),
    )


async def listing(request: web.Request) -> web.Response:
    """``GET /item/{id}/presets``: all of an item, in large_image's shape of ``imageFramePresets``.

    Those that have a ``file`` come from large_image's configuration in the image's folder, or in one
    above it: they are for reading only, and of one name the item's own counts.
    """
    state, item = request.app[STATE], await _item(request)
    return as_json([*await _own(state, item), *await of_folder(state, item)], headers=FRESH)


async def _own(state: State, item: str) -> list[dict[str, Any]]:
    return [_entry(preset) for preset in await state.engine.reading_room.run(state.presets.all, item)]


async def of_folder(state: State, item: str) -> list[dict[str, Any]]:
    """Return the presets that an item has from its folder, but for those whose names its own have."""
    if item == ask.TEST_ITEM:
        return []
    reference = (await state.library.item(item)).ref
    taken = await state.engine.reading_room.run(state.presets.names, item)
    return await state.folders.of(reference, taken)


async def _from_folder(state: State, item: str, name: str) -> dict[str, Any] | None:
    return next((entry for entry in await of_folder(state, item) if entry["name"] == name), None)


async def take(request: web.Request) -> web.Response:
    """``POST /item/{id}/presets``: keep all presets of a file, each in place of one of its name.

    Nothing is kept where any of them cannot be understood, or there is no room for all.
    """
    state, item = request.app[STATE], await _item(request)
    name = CALLED.of(parameters.single(request.query)) or "OMERO"
    if not is_name(name):
        raise _no_name(name)
    body = await ask.body(request, "presets", LONGEST_FILE)
    views = await state.engine.reading_room.run(_taken, body, name)
    await state.engine.reading_room.run(state.presets.put, item, views)
    return as_json([{"name": called, **json.loads(view)} for called, view in views.items()])


def _taken(body: bytes, name: str) -> dict[str, str]:
    """Return the views of a file by their names, as JSON text; YAML where it is no JSON."""
    value = _parsed(body)
    views = {called: json.dumps(view) for called, view in namedviews.of_file(value, name).items()}
    if len(views) > MOST or max(map(len, views.values())) > LONGEST_PRESET:
        raise LimitExceeded(f"presets: at most {MOST}, each of at most {LONGEST_PRESET} bytes")
    return views


def _parsed(body: bytes) -> Any:
    try:
        return parameters.parse_json(body, "presets: expected JSON or YAML")
    except BadRequest as no_json:
        try:
            return yamltext.parse(body)
        except (BadRequest, Unsupported) as no_yaml:
            raise type(no_yaml)(f"{no_json}; {no_yaml}") from no_yaml


async def show(request: web.Request) -> web.Response:
    """``GET /item/{id}/presets/{preset}``: one of them."""
    state, item, name = request.app[STATE], await _item(request), _name(request)
    preset = await state.engine.reading_room.run(state.presets.get, item, name)
    found = await _from_folder(state, item, name) if preset is None else _entry(preset)
    if found is None:
        raise _absent(name)
    return as_json(found, headers=FRESH)


async def put(request: web.Request) -> web.Response:
    """``PUT /item/{id}/presets/{preset}`` with ``{"frame", "mode", "style", "groups"}``: keep a view.

    ``groups`` are those of the channels: a list of ``{"name", "channels"}``.
    """
    state, item, name = request.app[STATE], await _item(request), _name(request)
    body = await _body(request, state)
    await state.engine.reading_room.run(state.presets.put, item, {name: body})
    return as_json({"name": name, **json.loads(body)})


async def delete(request: web.Request) -> web.Response:
    """``DELETE /item/{id}/presets/{preset}``: drop one of them; not one of its folder."""
    state, item, name = request.app[STATE], await _item(request), _name(request)
    if not await state.engine.reading_room.run(state.presets.delete, item, name):
        found = await _from_folder(state, item, name)
        if found is not None:
            raise Forbidden(f"The preset {name!r} comes from {found['file']!r}: it is changed there.")
        raise _absent(name)
    return as_json({"deleted": name})


def _absent(name: str) -> NotFound:
    return NotFound(f"No preset {name!r}.")


async def _item(request: web.Request) -> str:
    """Return the id of an item that there is."""
    item = request.match_info["item"]
    if item != ask.TEST_ITEM:
        await request.app[STATE].library.item(item)
    return item


def _name(request: web.Request) -> str:
    name = request.match_info["preset"]
    if not is_name(name):
        raise _no_name(name)
    return name


def _no_name(name: str) -> BadRequest:
    return BadRequest(f"name: expected 1 to {LONGEST_NAME} printable characters; got {name[:64]!r}")


def _entry(preset: Preset) -> dict[str, Any]:
    return {"name": preset.name, **json.loads(preset.body), "saved": round(preset.saved, 3)}


async def _body(request: web.Request, state: State) -> str:
    """Return the preset that a request brings, checked, as JSON text."""
    body = await ask.body(request, "preset", LONGEST_PRESET)
    return await state.engine.reading_room.run(_checked, body)


def _checked(body: bytes) -> str:
    return json.dumps(namedviews.checked(parameters.parse_json(body, "preset: expected a JSON object")))
