"""Regions: any part of an image at any size."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

from aiohttp import web

from gputiles.frames import letterbox, parse_fill
from gputiles.regions import SYNONYMS, UNITS, RegionQuery, parse_units, resolve
from gputiles.renderer import Renderer
from gputiles.routes import ask, parameters
from gputiles.routes.answer import answer, in_time
from gputiles.routes.ask import Ask, image_of
from gputiles.routes.disposition import DISPOSITION, saved_as
from gputiles.routes.parameters import Parameter, flag, integer, number
from gputiles.routes.route import PICTURES, Route
from gputiles.routes.schemas import TEXT, one_of
from gputiles.sheets import sheet
from gputiles.state import STATE

NUMBERS: dict[str, Parameter[Any]] = {
    "left": number("left", "the region's first column; negative ones count from the end", example=0),
    "top": number("top", "the region's first row; negative ones count from the end", example=0),
    "right": number("right", "the column after the region"),
    "bottom": number("bottom", "the row after the region"),
    "region_width": number("regionWidth", "how wide the region is; counts more than an end"),
    "region_height": number("regionHeight", "how high the region is; counts more than an end"),
    "magnification": number("magnification", "the magnification of the output", above=0),
    "mm_x": number("mm_x", "millimetres across a pixel of the output", above=0),
    "mm_y": number("mm_y", "millimetres down a pixel of the output", above=0),
    "width": integer("width", "pixels of the output's rows, at most", 1, example=100),
    "height": integer("height", "pixels of the output's columns, at most", 1, example=100),
}
LENGTH = one_of((*UNITS, *SYNONYMS))
BASE = "base_pixels"
IN = Parameter("units", "of the region's bounds", partial(parse_units, "units"), LENGTH, BASE)
SIZE_IN = Parameter("unitsWH", "of its width and height, if others", partial(parse_units, "unitsWH"), LENGTH)
EXACT = flag("exact", "refuse a scale that no level has")
REGION: tuple[Parameter[Any], ...] = (*NUMBERS.values(), IN, SIZE_IN, EXACT, *ask.VIEW)
FILL = Parameter(
    "fill", "a colour around what has another aspect than asked for, or corner: and one", parse_fill, TEXT
)


def routes() -> tuple[Route, ...]:
    """Return the routes of this room."""
    path = "/item/{item}/tiles/region"
    takes = (*ask.IMAGE, *REGION, FILL, *DISPOSITION)
    return (Route("GET", path, in_time(region), takes, PICTURES),)


async def region(request: web.Request) -> web.Response:
    """``GET /item/{id}/tiles/region``: a part of the image, in one of many units, at any size.

    ``fill`` makes it exactly ``width`` × ``height`` pixels large, the part in the middle, or
    at the upper left.
    """
    query = parameters.single(request.query)
    item = ask.item_of(request, query)
    asked, fill = await region_query(request, query), FILL.of(query)
    saved = saved_as(query, "region")
    image = await image_of(request.app[STATE], item)
    wanted = resolve(asked, image.info)
    if fill is None or not asked.width or not asked.height:
        return await answer(request, Ask(item, wanted, saved), Renderer.region)
    boxed = letterbox(wanted, (asked.width, asked.height), fill)
    return await answer(request, Ask(item, boxed, saved), sheet)


async def region_query(request: web.Request, query: Mapping[str, str]) -> RegionQuery:
    """Return the region that a query describes, with large_image's names of parameters."""
    numbers = {ours: parameter.given(query) for ours, parameter in NUMBERS.items()}
    return RegionQuery(
        **numbers,
        units=IN.given(query) or BASE,
        size_units=SIZE_IN.given(query),
        exact=EXACT.of(query),
        view=await ask.view(request, query, "JPEG"),
    )
