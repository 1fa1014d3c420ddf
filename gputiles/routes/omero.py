"""OMERO.web's webgateway, for viewers that speak it; ids are those of the items here."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from aiohttp import web
from numpy.typing import NDArray

from gputiles import histograms, imgdata, settings, webgateway, webquery
from gputiles.encoded import Format
from gputiles.errors import BadRequest, NotFound
from gputiles.histograms import HistogramQuery, Moments
from gputiles.images import Image
from gputiles.imgdata import Subject
from gputiles.keys import Request
from gputiles.look import AllStatistics, Window
from gputiles.rasters import Work
from gputiles.regions import fitted
from gputiles.renderer import MOST_THUMBNAIL, Renderer
from gputiles.request import RegionRequest, ThumbnailRequest, View
from gputiles.routes import ask, parameters
from gputiles.routes.answer import answer, in_time
from gputiles.routes.ask import Ask, image_of
from gputiles.routes.parameters import integer, text
from gputiles.routes.respond import as_json
from gputiles.routes.route import Route, as_object, pictures
from gputiles.routes.schemas import ANYTHING, NUMBER, WHOLE, listed, one_of, record
from gputiles.settings import Setting
from gputiles.state import STATE, State
from gputiles.trace import Trace
from gputiles.webquery import Position

THUMBNAIL = 96  # pixels of the longer side where none is given, as in OMERO.web
MOST_COUNTED = 2048  # pixels on a side of the picture that a histogram is taken of


WIDTH = integer("width", "pixels, at most", 1, default=THUMBNAIL, maximum=MOST_THUMBNAIL)
HEIGHT = integer("height", "pixels, at most", 1, maximum=MOST_THUMBNAIL, example=THUMBNAIL)
CHANNEL = integer("channel", "a channel, counted from 0", 0, example=0)
BINS = integer("bins", "how many bins", 1, histograms.MOST_BINS, default=256)
KEY = text("key", "a part of the description", example="size.z")
RENDERING = (
    text("c", "the channels, from 1 on: 1|100:600$FF0000,-2", example="1"),
    text("maps", "codomain maps, one for each channel, as a JSON list of objects"),
    text("m", "colours or grey", one_of(tuple(webquery.MODELS))),
    text("p", "a projection: normal, intmax, intmean or intsum; or intmax|start:end", example="intmean|0:0"),
    text("format", "the format", one_of(tuple(webquery.FORMATS)), "jpeg"),
    text(
        "q", "the quality of a JPEG: a share of 0 … 1, or 1 … 100", {**NUMBER, "minimum": 0, "maximum": 100}
    ),
    text("flip", "the directions to flip the picture in", one_of(tuple(webquery.FLIPS))),
)
AT = tuple(integer(axis, f"the position on axis {axis.upper()}", 0, example=0) for axis in "zt")
THE = tuple(integer(f"the{axis}", f"the position on axis {axis}", 0, example=0) for axis in "ZT")
PARTS = (
    text("tile", "res,x,y or res,x,y,w,h; resolution 0 is the full one", example="0,0,0"),
    text("region", "x,y,w,h in pixels of full resolution; where there is no tile"),
)
PICTURES = pictures(Format.JPEG, Format.PNG, Format.TIFF)
DESCRIBED = as_object(ANYTHING, "the description, or the part of it that the key names")
COUNTS = as_object(record({"data": listed(WHOLE)}), "the counts")


def routes() -> tuple[Route, ...]:
    """Return the routes of this room."""
    view = (*ask.IMAGE, *AT, *RENDERING)
    return tuple(
        Route("GET", f"/webgateway/{path}/", in_time(handler), takes, gives)
        for path, handler, takes, gives in (
            ("render_image_region/{item}/{z}/{t}", region, (*view, *PARTS), PICTURES),
            ("render_image/{item}", image, view, PICTURES),
            ("render_image/{item}/{z}/{t}", image, view, PICTURES),
            ("render_thumbnail/{item}", thumbnail, view, PICTURES),
            ("render_thumbnail/{item}/{width}", thumbnail, (*view, WIDTH), PICTURES),
            ("render_thumbnail/{item}/{width}/{height}", thumbnail, (*view, WIDTH, HEIGHT), PICTURES),
            ("render_birds_eye_view/{item}", thumbnail, view, PICTURES),
            ("render_birds_eye_view/{item}/{width}", thumbnail, (*view, WIDTH), PICTURES),
            ("imgData/{item}", description, ask.IMAGE, DESCRIBED),
            ("imgData/{item}/{key}", description, (*ask.IMAGE, KEY), DESCRIBED),
            (
                "histogram_json/{item}/channel/{channel}",
                histogram,
                (*ask.IMAGE, CHANNEL, BINS, *THE, *AT),
                COUNTS,
            ),
        )
    )


async def region(request: web.Request) -> web.Response:
    """``GET /webgateway/render_image_region/{id}/{z}/{t}/?tile=`` or ``region=``: a part of a plane."""
    query = parameters.single(request.query)
    found, view = await _view(request, query)
    if query.get("tile"):
        wanted: Request = webgateway.tile(found.info, query["tile"], view)
    elif query.get("region"):
        wanted = webgateway.region(found.info, query["region"], view)
    else:
        raise BadRequest("tile=res,x,y[,w,h] or region=x,y,w,h: one must be given")
    render = Renderer.region if isinstance(wanted, RegionRequest) else Renderer.tile
    return await answer(request, Ask(ask.item_of(request, query), wanted), render)


async def image(request: web.Request) -> web.Response:
    """``GET /webgateway/render_image/{id}/[{z}/{t}/]``: a whole plane at full resolution."""
    query = parameters.single(request.query)
    found, view = await _view(request, query)
    wanted = webgateway.whole(found.info, view)
    return await answer(request, Ask(ask.item_of(request, query), wanted), Renderer.region)


async def thumbnail(request: web.Request) -> web.Response:
    """``GET /webgateway/render_thumbnail/{id}/[{size}/]``: the whole image, 96 pixels unless asked."""
    query = parameters.single(request.query)
    width = WIDTH.of(request.match_info)
    height = HEIGHT.given(request.match_info) or width
    _, view = await _view(request, query)
    wanted = ThumbnailRequest(width, height, view)
    return await answer(request, Ask(ask.item_of(request, query), wanted), Renderer.thumbnail)


async def description(request: web.Request) -> web.Response:
    """``GET /webgateway/imgData/{id}/[{key}/]``: what OMERO.web says of an image, or a part of it."""
    state, query = request.app[STATE], parameters.single(request.query)
    item = ask.item_of(request, query)
    found = await image_of(state, item)
    name = (await state.library.item(item)).name if isinstance(item, str) else ask.TEST_ITEM
    subject = Subject(ask.ITEM.of(request.match_info), name)
    body = imgdata.describe(found.info, subject, await _statistics(state, found))
    key = KEY.given(request.match_info)
    return as_json(imgdata.part(body, key) if key else body)


async def histogram(request: web.Request) -> web.Response:
    """``GET /webgateway/histogram_json/{id}/channel/{c}/``: the counts of a channel's values.

    ``c`` counts from 0. The ``bins`` lie between the channel's limits in ``imgData``; values
    beyond, which other planes may have, count in the outermost. At most 2048 × 2048 pixels
    are counted.
    """
    state, query = request.app[STATE], parameters.single(request.query)
    channel = CHANNEL.of(request.match_info)
    bins = BINS.of(query)
    found = await image_of(state, ask.item_of(request, query))
    defaults = settings.settings(found.info, await _statistics(state, found))
    if channel >= len(defaults):
        raise NotFound(f"channel: expected 0 to {len(defaults) - 1}; got {channel}")
    frame = webgateway.position_frame(found.info, _position(request, query, "theZ", "theT"))
    frame, sample = settings.place(found.info, frame, channel)
    values = await _plane(state, found, frame)
    limits = defaults[channel].limits
    data = await state.engine.reading_room.run(_counts, values[..., sample], bins, limits)
    return as_json({"data": data})


def _counts(values: NDArray[Any], bins: int, limits: Window) -> list[int]:
    """Return how many values lie in each bin."""
    low, high = limits if limits[0] < limits[1] else (limits[0], limits[0] + 1)
    inside = np.clip(values[np.isfinite(values)].astype(np.float64), low, high)
    query = HistogramQuery(bins, low, high)
    low, high, _ = histograms.edges_for(query, Moments(), inside.dtype)
    counts: list[int] = np.histogram(inside, bins, (low, high))[0].tolist()
    return counts


async def _plane(state: State, found: Image, frame: int) -> NDArray[Any]:
    """Return the values of a frame, at no more than 2048 pixels on a side."""
    wanted = fitted(found.info, MOST_COUNTED, MOST_COUNTED, View(frame))
    return await state.engine.renderer.values(found, frame, wanted, Trace())


async def _view(request: web.Request, query: Mapping[str, str]) -> tuple[Image, View]:
    """Return the image and the view of it that a request asks for."""
    state = request.app[STATE]
    rendering, encoding = webquery.parse_rendering(query), webquery.parse_encoding(query)
    position = _position(request, query)
    found = await image_of(state, ask.item_of(request, query))
    defaults: tuple[Setting, ...] = ()
    if webgateway.needs_defaults(rendering, encoding):
        defaults = settings.settings(found.info, await _statistics(state, found))
    return found, webgateway.view(found.info, position, rendering, defaults, encoding)


def _position(request: web.Request, query: Mapping[str, str], z: str = "z", t: str = "t") -> Position:
    """Return the position in the path, or in the query, where it may have names of its own."""
    given = request.match_info
    texts = (
        given.get(axis) or query.get(other) or query.get(axis) or "0" for axis, other in (("z", z), ("t", t))
    )
    return webquery.parse_position(*texts)


async def _statistics(state: State, found: Image) -> AllStatistics:
    """Return the statistics that the channels' windows need; most files' need some."""
    frames = settings.frames_to_measure(found.info)
    return await state.engine.renderer.measuring.statistics(Work(found, Trace()), frames)
