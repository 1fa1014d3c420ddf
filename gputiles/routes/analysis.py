"""Numbers about pixels: histograms, and statistics of bands; what a file says of itself."""

from __future__ import annotations

from dataclasses import replace

from aiohttp import web

from gputiles import style
from gputiles.counting import count
from gputiles.encoded import Encoding, Format
from gputiles.errors import NotFound
from gputiles.histograms import MOST_BINS, CountRequest, HistogramQuery
from gputiles.image import ImageInfo
from gputiles.images import read_checked
from gputiles.regions import fitted, level_region, resolve
from gputiles.renderer import MOST_PIXELS
from gputiles.request import RegionRequest, View
from gputiles.routes import ask, parameters
from gputiles.routes.answer import answer, in_time
from gputiles.routes.ask import Ask, image_of
from gputiles.routes.parameters import FRAME, flag, integer, number
from gputiles.routes.regions import REGION, region_query
from gputiles.routes.respond import as_json
from gputiles.routes.route import Route, as_object, kept
from gputiles.routes.schemas import NUMBER, TEXT, WHOLE, listed, maybe, record, table
from gputiles.state import STATE

MOST_STATISTICS = 2048  # pixels on a side of the picture that the statistics of bands are taken of


BINS = integer("bins", "how many bins", 1, default=256, maximum=MOST_BINS)
LOW = number("rangeMin", "where the first bin begins; the least value unless it is given")
HIGH = number("rangeMax", "where the last bin ends; the greatest value and 1 unless it is given")
ROUND = flag("roundRange", "bins of few integers are whole numbers wide")
DENSITY = flag("density", "shares of all instead of counts")
RESAMPLE = flag("resample", "false counts the values of the level that the size is made of")
COUNTING = (BINS, LOW, HIGH, ROUND, DENSITY, RESAMPLE)
MOMENTS = {**dict.fromkeys(("min", "max", "mean", "stdev"), maybe(NUMBER))}
COUNTS = record({"hist": listed(NUMBER), "bin_edges": listed(NUMBER), **MOMENTS})
HISTOGRAMS = kept({"application/json": listed(COUNTS)}, "a histogram of each")
BANDS = kept(
    {"application/json": table(record({"interpretation": TEXT, **MOMENTS}))}, "the samples, from 1 on"
)
TOLD = as_object(record({"populatedLevels": WHOLE}), "what the file says of itself")


def routes() -> tuple[Route, ...]:
    """Return the routes of this room."""
    base = "/item/{item}/tiles"
    return (
        Route("GET", f"{base}/histogram", in_time(histogram), (*ask.IMAGE, *REGION, *COUNTING), HISTOGRAMS),
        Route("GET", f"{base}/bands", in_time(bands), (*ask.IMAGE, FRAME), BANDS),
        Route("GET", f"{base}/internal_metadata", in_time(internal_metadata), ask.IMAGE, TOLD),
    )


async def histogram(request: web.Request) -> web.Response:
    """``GET /item/{id}/tiles/histogram``: histograms of each sample of a frame, or each band of a style.

    Parameters of the region as for ``region``; without a size, every pixel of full resolution
    is counted. ``resample=false`` counts the values of the level that the size is made of.
    """
    query = parameters.single(request.query)
    item, counting = ask.item_of(request, query), _counting(query)
    asked = await region_query(request, query)
    info = (await image_of(request.app[STATE], item)).info
    wanted = resolve(asked, info)
    if _keeps_values(query) or (not _is_sized(query) and wanted.width * wanted.height > MOST_PIXELS):
        wanted = _of_level(wanted, info)
    wanted = replace(wanted, view=_numbers(wanted.view.frame))
    return await answer(request, Ask(item, CountRequest(wanted, _places(info, asked.view), counting)), count)


def _keeps_values(query: dict[str, str]) -> bool:
    return RESAMPLE.given(query) is False


def _is_sized(query: dict[str, str]) -> bool:
    return "width" in query or "height" in query


def _numbers(frame: int) -> View:
    """Return the view of an answer that shows nothing but numbers."""
    return View(frame, None, True, Encoding(Format.JSON))


def _counting(query: dict[str, str]) -> HistogramQuery:
    return HistogramQuery(
        BINS.of(query), LOW.given(query), HIGH.given(query), ROUND.of(query), DENSITY.of(query)
    )


def _of_level(wanted: RegionRequest, info: ImageInfo) -> RegionRequest:
    """Return the region at the size that it has on the level it would be made of."""
    _, rect = level_region(info, wanted)
    return RegionRequest(wanted.region, rect.width, rect.height, wanted.view)


def _places(info: ImageInfo, view: View) -> tuple[tuple[int, int], ...]:
    """Return the (frame, sample) of each histogram."""
    info.check_frame(view.frame)
    if view.style is None or view.style.bands is None:
        return tuple((view.frame, sample) for sample in range(info.samples))
    return tuple(style.places(view.style, info, view.frame))


async def bands(request: web.Request) -> web.Response:
    """``GET /item/{id}/tiles/bands?frame=``: what each sample of a frame is, and its statistics.

    The statistics are of all pixels of the level that a picture of at most 2048 pixels on a
    side is made of.
    """
    query = parameters.single(request.query)
    item = ask.item_of(request, query)
    frame = FRAME.given(query) or 0
    info = (await image_of(request.app[STATE], item)).info
    info.check_frame(frame)
    whole = fitted(info, MOST_STATISTICS, MOST_STATISTICS, _numbers(frame))
    places = tuple((frame, sample) for sample in range(info.samples))
    wanted = CountRequest(_of_level(whole, info), places, None, _interpretations(info))
    return await answer(request, Ask(item, wanted), count)


def _interpretations(info: ImageInfo) -> tuple[str, ...]:
    """Return what the samples of a pixel are, in large_image's words."""
    names = {
        1: ("gray",),
        2: ("gray", "alpha"),
        3: ("red", "green", "blue"),
        4: ("red", "green", "blue", "alpha"),
    }
    return names.get(info.samples, ("undefined",) * info.samples)


async def internal_metadata(request: web.Request) -> web.Response:
    """``GET /item/{id}/tiles/internal_metadata``: what the file says of itself, in its own words.

    ``populatedLevels`` is how many levels are stored in the file.
    """
    state, item = request.app[STATE], ask.item_of(request, parameters.single(request.query))
    if not state.config.internal_metadata:
        raise NotFound("internal metadata are not shown here: the setting 'internal-metadata' says so")
    image = await image_of(state, item)
    async with state.engine.images.handle(image) as source:
        told = await state.engine.reading_room.run(read_checked, image, source.internals)
    return as_json(told | {"populatedLevels": sum(image.info.stored)})
