"""Regions: any part of an image at any size."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from aiohttp import web

from gputiles.errors import BadRequest
from gputiles.regions import RegionQuery, parse_units, resolve
from gputiles.renderer import Renderer
from gputiles.routes import ask, parameters
from gputiles.routes.answer import answer, in_time
from gputiles.routes.ask import Ask, image_of
from gputiles.state import STATE

POSITIVE = ("magnification", "mm_x", "mm_y")
BOUNDS = {
    "left": "left", "top": "top", "right": "right", "bottom": "bottom",
    "regionWidth": "region_width", "regionHeight": "region_height",
}  # fmt: skip


def add_routes(router: web.UrlDispatcher, prefix: str) -> None:
    """Add the routes of this room below ``prefix``."""
    for base in ask.tile_roots(prefix):
        router.add_get(f"{base}/region", in_time(region))


async def region(request: web.Request) -> web.Response:
    """``GET /item/{id}/tiles/region``: a part of the image, in one of many units, at any size."""
    query = parameters.single(request.query)
    item = ask.item_of(request, query)
    asked = await region_query(request, query)
    image = await image_of(request.app[STATE], item)
    return await answer(request, Ask(item, resolve(asked, image.info)), Renderer.region)


async def region_query(request: web.Request, query: Mapping[str, str]) -> RegionQuery:
    """Return the region that a query describes, with large_image's names of parameters."""
    if query.get("fill"):
        raise BadRequest("fill: not supported; the region keeps its aspect")
    numbers: dict[str, Any] = {
        ours: parameters.number(query, name) for name, ours in BOUNDS.items() if query.get(name)
    }
    scales: dict[str, Any] = {name: parameters.number(query, name) for name in POSITIVE if query.get(name)}
    for name, value in scales.items():
        if value <= 0:
            raise BadRequest(f"{name}: expected a number above 0; got {value:g}")
    sides: dict[str, Any] = {
        side: parameters.integer(query, side, 1, 1) for side in ("width", "height") if query.get(side)
    }
    return RegionQuery(
        **numbers,
        **scales,
        **sides,
        units=parse_units("units", query.get("units") or "base_pixels"),
        size_units=parse_units("unitsWH", query["unitsWH"]) if query.get("unitsWH") else None,
        exact=parameters.flag(query, "exact"),
        view=await ask.view(request, dict(query), "JPEG"),
    )
