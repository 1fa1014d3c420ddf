"""Frames side by side: sheets of them, and plans of sheets for viewers that flip through frames."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import partial
from typing import Any

from aiohttp import web

from gputiles import frames, quads
from gputiles.errors import BadRequest
from gputiles.quads import QuadQuery
from gputiles.routes import ask, parameters
from gputiles.routes.answer import answer, in_time
from gputiles.routes.ask import Ask, image_of
from gputiles.routes.disposition import DISPOSITION, saved_as
from gputiles.routes.parameters import FRAME, Parameter, frame_list, integer, number, parse_integer
from gputiles.routes.regions import FILL, REGION, region_query
from gputiles.routes.respond import as_json
from gputiles.routes.route import PICTURES, Route, as_object
from gputiles.routes.schemas import ANYTHING, INTEGER, TEXT, WHOLE, Schema, listed, named, record, table
from gputiles.sheets import sheet
from gputiles.state import STATE

MOST_FRAMES = 100_000  # of one sheet


def _step(text: str) -> int | str:
    """Return a number of frames, or the word that stands for one."""
    number = parse_integer(text.strip())
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


def _passed_on(ours: str, about: str) -> Parameter[dict[str, Any]]:
    name = quads.NAMES[ours]
    return Parameter(name, f"{about}, as a JSON object", partial(_object, name), TEXT, example="{}")


def _steps(ours: str, about: str, least: int) -> Parameter[int | str]:
    schema: Schema = {"anyOf": [{**INTEGER, "minimum": least}, TEXT]}
    return Parameter(quads.NAMES[ours], f"{about}: a number, or the name of an axis", _step, schema, least)


def _most(ours: str, about: str) -> Parameter[int]:
    return integer(quads.NAMES[ours], about, 1, default=getattr(QuadQuery(), ours))


PLAN: dict[str, Parameter[Any]] = {
    "format": _passed_on("format", "the sheets' encoding"),
    "parameters": _passed_on("parameters", "more parameters of the sheets"),
    "base": _steps("base", "the first frame", 0),
    "stride": _steps("stride", "how many frames the next one is away", 1),
    "group": _steps("group", "frames of a multiple of which a sheet consists", 1),
    "group_factor": number(quads.NAMES["group_factor"], "how much smaller a group may make a frame's area"),
    "group_stride": _steps("group_stride", "the steps in which frames are dealt out, or auto", 1),
    "texture_size": _most("texture_size", "pixels of a sheet's side, at most"),
    "textures": _most("textures", "sheets, at most"),
    "total_pixels": _most("total_pixels", "pixels of all sheets, at most"),
    "alignment": _most("alignment", "a frame's sides are multiples of so many pixels"),
    "frame_size": _most("frame_size", "pixels of a frame's side, at most"),
}
"""The parameters of a plan by the names that QuadQuery has for them."""

LISTED = Parameter(
    "frameList",
    "the frames; all unless it is given",
    partial(frame_list, most=MOST_FRAMES),
    TEXT,
    example="0",
)
ACROSS = integer("framesAcross", "frames of a row; about as many as rows unless it is given", 1)
SHEET = (*ask.IMAGE, *(each for each in REGION if each is not FRAME), LISTED, ACROSS, FILL, *DISPOSITION)
QUADS = as_object(
    record(
        {"metadata": named("Metadata"), "options": table(ANYTHING), "src": listed(table(ANYTHING))},
        {
            "quads": listed(table(ANYTHING)),
            **dict.fromkeys(("quadsToIdx", "frames"), listed(WHOLE)),
            "framesToIdx": table(WHOLE),
            "minLevel": WHOLE,
        },
    ),
    "the sheets, and what to cut out of them",
)


def routes() -> tuple[Route, ...]:
    """Return the routes of this room."""
    base, plan = "/item/{item}/tiles/tile_frames", (*ask.IMAGE, *PLAN.values())
    return (
        Route("GET", base, in_time(tile_frames), SHEET, PICTURES),
        Route("GET", f"{base}/quad_info", in_time(quad_info), plan, QUADS),
    )


async def tile_frames(request: web.Request) -> web.Response:
    """``GET /item/{id}/tiles/tile_frames``: a region of several frames, row by row, as one picture.

    ``frameList`` names the frames, by default all; ``framesAcross`` says how many are in a
    row, by default so many that the rows are about as many. ``width`` and ``height`` are a
    frame's. ``fill`` (a colour, or ``corner:`` and one) makes cells exactly that large.
    """
    query = parameters.single(request.query)
    item = ask.item_of(request, query)
    fill, chosen, across = FILL.of(query), LISTED.given(query), ACROSS.given(query)
    asked = await region_query(request, query)
    image = await image_of(request.app[STATE], item)
    first = chosen[0] if chosen else 0
    asked = replace(asked, view=replace(asked.view, frame=first, single=True))
    wanted = frames.lay_out(asked, image.info, chosen, across, fill)
    return await answer(request, Ask(item, wanted, saved_as(query, "tileframes")), sheet)


async def quad_info(request: web.Request) -> web.Response:
    """``GET /item/{id}/tiles/tile_frames/quad_info``: the sheets, and what to cut out of them."""
    state, query = request.app[STATE], parameters.single(request.query)
    asked = _quad_query(query)
    image = await image_of(state, ask.item_of(request, query))
    return as_json(await state.engine.reading_room.run(quads.quad_info, asked, image.info))


def _quad_query(query: dict[str, str]) -> QuadQuery:
    """Return what the parameters ask for, by the names that large_image has for them."""
    given = {ours: parameter.given(query) for ours, parameter in PLAN.items()}
    return QuadQuery(**{ours: value for ours, value in given.items() if value is not None})
