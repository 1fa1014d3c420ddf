"""Frames side by side: sheets of them, and plans of sheets for viewers that flip through frames."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

from aiohttp import web

from gputiles import frames, quads
from gputiles.errors import BadRequest
from gputiles.quads import QuadQuery
from gputiles.routes import ask, parameters
from gputiles.routes.answer import answer, in_time
from gputiles.routes.ask import Ask, image_of
from gputiles.routes.regions import region_query
from gputiles.routes.respond import as_json
from gputiles.sheets import sheet
from gputiles.state import STATE

MOST_FRAMES = 100_000  # of one sheet


def add_routes(router: web.UrlDispatcher, prefix: str) -> None:
    """Add the routes of this room below ``prefix``."""
    for base in ask.tile_roots(prefix):
        router.add_get(f"{base}/tile_frames", in_time(tile_frames))
        router.add_get(f"{base}/tile_frames/quad_info", in_time(quad_info))


async def tile_frames(request: web.Request) -> web.Response:
    """``GET /item/{id}/tiles/tile_frames``: a region of several frames, row by row, as one picture.

    ``frameList`` names the frames, by default all; ``framesAcross`` says how many are in a
    row, by default so many that the rows are about as many. ``width`` and ``height`` are a
    frame's. ``fill`` (a colour, or ``corner:`` and one) makes cells exactly that large.
    """
    query = parameters.single(request.query)
    item = ask.item_of(request, query)
    fill = frames.parse_fill(query.pop("fill", ""))
    listed = query.get("frameList")
    chosen = parameters.frame_list(listed, MOST_FRAMES) if listed else None
    across = parameters.integer(query, "framesAcross", 1, 1) if query.get("framesAcross") else None
    asked = await region_query(request, query)
    image = await image_of(request.app[STATE], item)
    first = chosen[0] if chosen else 0
    asked = replace(asked, view=replace(asked.view, frame=first, single=True))
    return await answer(request, Ask(item, frames.lay_out(asked, image.info, chosen, across, fill)), sheet)


async def quad_info(request: web.Request) -> web.Response:
    """``GET /item/{id}/tiles/tile_frames/quad_info``: the sheets, and what to cut out of them."""
    state, query = request.app[STATE], parameters.single(request.query)
    asked = _quad_query(query)
    image = await image_of(state, ask.item_of(request, query))
    return as_json(await state.engine.reading_room.run(quads.quad_info, asked, image.info))


def _quad_query(query: dict[str, str]) -> QuadQuery:
    """Return what the parameters ask for, by the names that large_image has for them."""
    given: dict[str, Any] = {}
    for ours, theirs in quads.NAMES.items():
        text = query.get(theirs)
        if not text:
            continue
        if ours in ("format", "parameters"):
            given[ours] = _object(theirs, text)
        elif ours in ("base", "stride", "group", "group_stride"):
            given[ours] = _step(text)
        elif ours == "group_factor":
            given[ours] = parameters.number(query, theirs)
        else:
            given[ours] = parameters.integer(query, theirs, 1, 1)
    return QuadQuery(**given)


def _step(text: str) -> int | str:
    """Return a number of frames, or the word that stands for one."""
    number = parameters.parse_integer(text.strip())
    return text.strip() if number is None else number


def _object(name: str, text: str) -> dict[str, Any]:
    """Return the JSON object that goes on to the sheets as parameters."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        raise BadRequest(f'{name}: expected a JSON object such as {{"encoding": "PNG"}}; got {text[:64]!r}')
    return value
