"""Presets: named views of an item, kept for everybody who looks at it."""

from __future__ import annotations

import json
from typing import Any

from aiohttp import web

from gputiles import style
from gputiles.errors import BadRequest, NotFound
from gputiles.presets import Preset
from gputiles.routes import ask, parameters
from gputiles.routes.answer import in_time
from gputiles.routes.parameters import text
from gputiles.routes.respond import as_json
from gputiles.routes.route import Body, Route, as_object
from gputiles.routes.schemas import ANYTHING, GROUP, NUMBER, TEXT, WHOLE, listed, named, record, table
from gputiles.state import STATE, State

LONGEST_PRESET = 256 * 1024  # bytes
LONGEST_NAME = 120  # characters
DEEPEST = 16  # objects and lists in each other
KEYS = ("frame", "mode", "style", "groups")  # large_image's of a preset, beside its name, and the viewer's
FRESH = {"Cache-Control": "no-cache"}
MOST_GROUPS = 200
MOST_CHANNELS = 10_000  # of a group


NAME = text("preset", f"the name of a preset, at most {LONGEST_NAME} characters", example="mine")
GROUPS = {**listed(GROUP), "maxItems": MOST_GROUPS}
VIEW = record({}, {"frame": WHOLE, "mode": table(ANYTHING), "style": named("Style"), "groups": GROUPS})
PRESET = record({"name": TEXT}, {**VIEW["properties"], "saved": NUMBER})
BODY = Body(f"a view, of at most {LONGEST_PRESET} bytes", "application/json", VIEW)
ALL = as_object(listed(PRESET), "the presets, the oldest first")
ONE = as_object(PRESET, "the preset")
GONE = as_object(record({"deleted": TEXT}), "it is gone")


def routes() -> tuple[Route, ...]:
    """Return the routes of this room."""
    one = "/item/{item}/presets/{preset}"
    kept = (400, 404, 413, 503)
    return (
        Route("GET", "/item/{item}/presets", in_time(listing), (ask.ITEM,), ALL, refuses=(404, 503)),
        Route("GET", one, in_time(show), (ask.ITEM, NAME), ONE, refuses=(400, 404, 503)),
        Route("PUT", one, in_time(put), (ask.ITEM, NAME), ONE, refuses=kept, body=BODY),
        Route("DELETE", one, in_time(delete), (ask.ITEM, NAME), GONE, refuses=(400, 404, 503)),
    )


async def listing(request: web.Request) -> web.Response:
    """``GET /item/{id}/presets``: all of an item, in large_image's shape of ``imageFramePresets``."""
    state, item = request.app[STATE], await _item(request)
    presets = await state.engine.reading_room.run(state.presets.all, item)
    return as_json([_entry(preset) for preset in presets], headers=FRESH)


async def show(request: web.Request) -> web.Response:
    """``GET /item/{id}/presets/{preset}``: one of them."""
    state, item, name = request.app[STATE], await _item(request), _name(request)
    preset = await state.engine.reading_room.run(state.presets.get, item, name)
    if preset is None:
        raise _absent(name)
    return as_json(_entry(preset), headers=FRESH)


async def put(request: web.Request) -> web.Response:
    """``PUT /item/{id}/presets/{preset}`` with ``{"frame", "mode", "style", "groups"}``: keep a view.

    ``groups`` are those of the channels: a list of ``{"name", "channels"}``.
    """
    state, item, name = request.app[STATE], await _item(request), _name(request)
    body = await _body(request, state)
    await state.engine.reading_room.run(state.presets.put, item, name, body)
    return as_json({"name": name, **json.loads(body)})


async def delete(request: web.Request) -> web.Response:
    """``DELETE /item/{id}/presets/{preset}``: drop one of them."""
    state, item, name = request.app[STATE], await _item(request), _name(request)
    if not await state.engine.reading_room.run(state.presets.delete, item, name):
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
    if not _is_name(name):
        raise BadRequest(f"name: expected 1 to {LONGEST_NAME} printable characters; got {name[:64]!r}")
    return name


def _is_name(name: object) -> bool:
    return isinstance(name, str) and name.strip() != "" and len(name) <= LONGEST_NAME and name.isprintable()


def _entry(preset: Preset) -> dict[str, Any]:
    return {"name": preset.name, **json.loads(preset.body), "saved": round(preset.saved, 3)}


async def _body(request: web.Request, state: State) -> str:
    """Return the preset that a request brings, checked, as JSON text."""
    body = await ask.body(request, "preset", LONGEST_PRESET)
    return await state.engine.reading_room.run(_checked, body)


def _checked(body: bytes) -> str:
    value = parameters.parse_json(body, "preset: expected a JSON object")
    if not isinstance(value, dict) or _is_deep(value):
        raise BadRequest('preset: expected a JSON object such as {"frame": 0, "style": {"bands": []}}')
    kept = {key: value[key] for key in KEYS if value.get(key) is not None}
    frame = kept.get("frame", 0)
    if not isinstance(frame, int) or isinstance(frame, bool) or frame < 0:
        raise BadRequest(f"preset.frame: expected an integer from 0 on; got {str(frame)[:64]!r}")
    if not isinstance(kept.get("mode", {}), dict):
        raise BadRequest(f"preset.mode: expected an object; got {str(kept['mode'])[:64]!r}")
    if "style" in kept:
        style.parse(kept["style"])
    groups = kept.get("groups", [])
    if not isinstance(groups, list) or len(groups) > MOST_GROUPS or not all(map(_is_group, groups)):
        raise BadRequest(
            f'preset.groups: expected at most {MOST_GROUPS} such as {{"name": "T cells", "channels": [1]}} '
            f"with names of at most {LONGEST_NAME} characters; got {str(groups)[:64]!r}"
        )
    try:
        return json.dumps(kept, allow_nan=False)
    except ValueError as error:
        raise BadRequest("preset: expected finite numbers; JSON has no others") from error


def _is_group(group: object) -> bool:
    """Say whether a value names channels, by their indexes."""
    if not isinstance(group, dict) or group.keys() != {"name", "channels"} or not _is_name(group["name"]):
        return False
    channels = group["channels"]
    return (
        isinstance(channels, list)
        and len(channels) <= MOST_CHANNELS
        and all(type(channel) is int and channel >= 0 for channel in channels)
    )


def _is_deep(value: object) -> bool:
    """Say whether a value is nested more deeply than any preset is."""
    level = [value]
    for _ in range(DEEPEST):
        level = [child for each in level for child in _children(each)]
    return bool(level)


def _children(value: object) -> list[object]:
    if isinstance(value, dict):
        return list(value.values())
    return value if isinstance(value, list) else []
