"""XYZ: the tiles of an image's own grid, as viewers of maps name them, and their TileJSON."""

from __future__ import annotations

from urllib.parse import quote

from aiohttp import web

from gputiles import xyz
from gputiles.image import ImageInfo
from gputiles.renderer import Renderer
from gputiles.request import RegionRequest, TileRequest
from gputiles.routes import ask, parameters
from gputiles.routes.addresses import FORWARDED, VARIES, VARY, address
from gputiles.routes.answer import answer, in_time
from gputiles.routes.ask import Ask, Direct, image_of
from gputiles.routes.parameters import EDGE, text
from gputiles.routes.respond import as_json
from gputiles.routes.route import PICTURES, Route, as_object
from gputiles.routes.schemas import NUMBER, TEXT, WHOLE, listed, one_of, record
from gputiles.state import STATE

SUFFIX = text("suffix", "the tile's encoding", one_of(tuple(xyz.SUFFIXES)), example="png")
FORMAT = text("format", "the suffix of the tiles", one_of(tuple(xyz.SUFFIXES)), "jpg")
SHOWN = (*ask.IMAGE, *ask.VIEW, EDGE)
DEGREES = {**listed(NUMBER), "minItems": 4, "maxItems": 4}
TILEJSON = as_object(
    record(
        {
            "tilejson": one_of(("3.0.0",)),
            "tiles": listed(TEXT),
            "scheme": one_of(("xyz",)),
            "bounds": DEGREES,
            "center": listed(NUMBER),
            **dict.fromkeys(("minzoom", "maxzoom", "width", "height", "tileWidth", "tileHeight"), WHOLE),
        }
    ),
    "TileJSON 3.0",
    VARIES,
)


def routes() -> tuple[Route, ...]:
    """Return the routes of this room."""
    described = (*SHOWN, FORMAT, *FORWARDED)
    return (
        Route("GET", "/xyz/{item}/tilejson.json", in_time(tilejson), described, TILEJSON),
        Route("GET", "/xyz/{item}/{z}/{x}/{y}.{suffix}", tile, (*SHOWN, *ask.PLACE, SUFFIX), PICTURES),
    )


async def tile(request: web.Request) -> web.Response:
    """``GET /xyz/{id}/{z}/{x}/{y}.{jpg|png|npy|tif}``: a tile of the image's own grid."""
    wanted = await ask.once(request, _tile)
    return await answer(request, wanted, Renderer.tile)


async def _tile(request: web.Request) -> Ask:
    query = parameters.single(request.query)
    z, x, y = (part.of(request.match_info) for part in ask.PLACE)
    view = await ask.view(request, query, xyz.encoding_of("suffix", SUFFIX.of(request.match_info)))
    return Ask(ask.item_of(request, query), TileRequest(z, x, y, view, EDGE.of(query)))


async def answer_region(
    request: web.Request, item: str | Direct, wanted: RegionRequest, info: ImageInfo
) -> web.Response:
    """Answer with a region of an item; with a tile of its own grid where it is one."""
    tile = xyz.tile_of(wanted, info)
    if tile is None:
        return await answer(request, Ask(item, wanted), Renderer.region)
    return await answer(request, Ask(item, tile), Renderer.tile)


async def tilejson(request: web.Request) -> web.Response:
    """``GET /xyz/{id}/tilejson.json``: TileJSON 3.0; the query goes on to the tiles.

    ``format`` is the tiles' suffix.
    """
    query = parameters.single(request.query)
    suffix = FORMAT.of(query).lower()
    query.pop(FORMAT.name, None)
    view = await ask.view(request, query, xyz.encoding_of("format", suffix))
    EDGE.of(query)  # what the tiles would refuse is refused here
    image = await image_of(request.app[STATE], ask.item_of(request, query))
    image.info.check_frame(view.frame)
    more = "&".join(f"{quote(name, safe='')}={quote(value, safe='')}" for name, value in query.items())
    base = address(request, request.rel_url.raw_path.removesuffix("/tilejson.json"))
    tiles = f"{base}/{{z}}/{{x}}/{{y}}.{suffix}{'?' if more else ''}{more}"
    return as_json(xyz.describe(image.info, tiles), headers={"Vary": VARY})
