"""Numbers about pixels: histograms, and statistics of bands."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from aiohttp import web
from numpy.typing import NDArray

from gputiles import style
from gputiles.geometry import Rect
from gputiles.histograms import HistogramQuery, describe, moments
from gputiles.image import ImageInfo
from gputiles.images import Image
from gputiles.regions import resolve
from gputiles.renderer import MOST_PIXELS, check_frame, fit, level_region
from gputiles.request import RegionRequest, View
from gputiles.routes import ask, parameters
from gputiles.routes.answer import in_time
from gputiles.routes.ask import image_of
from gputiles.routes.regions import region_query
from gputiles.routes.respond import as_json
from gputiles.state import STATE, State
from gputiles.trace import Trace

MOST_STATISTICS = 2048  # pixels on a side of the picture that the statistics of bands are taken of


def add_routes(router: web.UrlDispatcher, prefix: str) -> None:
    """Add the routes of this room below ``prefix``."""
    for base in ask.tile_roots(prefix):
        router.add_get(f"{base}/histogram", in_time(histogram))
        router.add_get(f"{base}/bands", in_time(bands))


async def histogram(request: web.Request) -> web.Response:
    """``GET /item/{id}/tiles/histogram``: of each sample of a frame, or each band of a style.

    Parameters of the region as for ``region``; without a size, a region of more than 2²⁶
    pixels is counted at the size that has so many. ``resample=false`` counts the values of the
    level that the size is made of.
    """
    state, query = request.app[STATE], parameters.single(request.query)
    counting = _counting(query)
    image = await image_of(state, ask.item_of(request, query))
    asked = await region_query(request, query)
    wanted = _bounded(resolve(asked, image.info), sized="width" in query or "height" in query)
    if query.get("resample") and not parameters.flag(query, "resample"):
        wanted = _of_level(wanted, image.info)
    columns = []
    for frame, sample in _columns(image.info, wanted.view):
        values = await _values(state, image, frame, wanted)
        columns.append(await state.engine.reading_room.run(describe, values[..., sample], counting))
    return as_json(columns)


def _counting(query: dict[str, str]) -> HistogramQuery:
    return HistogramQuery(
        parameters.integer(query, "bins", 256, 1),
        parameters.number(query, "rangeMin") if query.get("rangeMin") else None,
        parameters.number(query, "rangeMax") if query.get("rangeMax") else None,
        parameters.flag(query, "roundRange"),
        parameters.flag(query, "density"),
    )


def _of_level(wanted: RegionRequest, info: ImageInfo) -> RegionRequest:
    """Return the region at the size that it has on the level it would be made of."""
    _, rect = level_region(info, wanted)
    return RegionRequest(wanted.region, rect.width, rect.height, wanted.view)


def _bounded(wanted: RegionRequest, *, sized: bool) -> RegionRequest:
    """Return the region at no more than the pixels that may be counted, unless a size was given."""
    if sized or wanted.width * wanted.height <= MOST_PIXELS:
        return wanted
    shrink = math.sqrt(MOST_PIXELS / (wanted.width * wanted.height))
    width, height = max(1, int(wanted.width * shrink)), max(1, int(wanted.height * shrink))
    return RegionRequest(wanted.region, width, height, wanted.view)


def _columns(info: ImageInfo, view: View) -> list[tuple[int, int]]:
    """Return the (frame, sample) of each histogram."""
    check_frame(info, view.frame)
    if view.style is None or view.style.bands is None:
        return [(view.frame, sample) for sample in range(info.samples)]
    return style.places(view.style, info, view.frame)


async def _values(state: State, image: Image, frame: int, wanted: RegionRequest) -> NDArray[Any]:
    return await state.engine.renderer.values(image, frame, wanted, Trace())


async def bands(request: web.Request) -> web.Response:
    """``GET /item/{id}/tiles/bands?frame=``: what each sample of a frame is, and its statistics.

    The statistics are of the whole frame, at no more than 2048 pixels on a side.
    """
    state, query = request.app[STATE], parameters.single(request.query)
    frame = parameters.frame_number(query["frame"]) if query.get("frame") else 0
    image = await image_of(state, ask.item_of(request, query))
    info = image.info
    size = fit(info.width, info.height, MOST_STATISTICS, MOST_STATISTICS)
    values = await _values(state, image, frame, RegionRequest(Rect(0, 0, info.width, info.height), *size))
    measured = await state.engine.reading_room.run(_statistics, values)
    names = _interpretations(info)
    return as_json(
        {str(at + 1): {"interpretation": names[at], **numbers} for at, numbers in enumerate(measured)}
    )


def _statistics(values: NDArray[Any]) -> list[dict[str, float | None]]:
    return [
        moments(values[..., sample][np.isfinite(values[..., sample])]) for sample in range(values.shape[2])
    ]


def _interpretations(info: ImageInfo) -> list[str]:
    """Return what the samples of a pixel are, in large_image's words."""
    names = {
        1: ["gray"],
        2: ["gray", "alpha"],
        3: ["red", "green", "blue"],
        4: ["red", "green", "blue", "alpha"],
    }
    return names.get(info.samples, ["undefined"] * info.samples)
