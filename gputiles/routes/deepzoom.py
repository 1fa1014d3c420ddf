"""Deep Zoom: the descriptor and the tiles, as large_image names them."""

from __future__ import annotations

from collections.abc import Mapping

from aiohttp import web

from gputiles.deepzoom import LARGEST_TILE, Pyramid, check_tiles, suffix_of
from gputiles.deepzoom import SUFFIXES as WORDS
from gputiles.encoded import Format
from gputiles.errors import BadRequest
from gputiles.image import ImageInfo
from gputiles.request import RegionRequest
from gputiles.routes import ask, parameters
from gputiles.routes.answer import in_time
from gputiles.routes.ask import image_of
from gputiles.routes.parameters import EMBED, FRAME, QUALITY, STYLE, SUBSAMPLING, integer, text, whole
from gputiles.routes.respond import CORS
from gputiles.routes.route import Answer, Route, pictures
from gputiles.routes.schemas import one_of
from gputiles.routes.xyz import answer_region
from gputiles.state import STATE

SUFFIXES = ("jpg", "jpeg", "png")
SUFFIX = text("suffix", "the tile's encoding, unless encoding says another", one_of(SUFFIXES), example="jpg")
PLACE = (
    whole("level", "from 0 on, one pixel"),
    whole("x", "the tile's column"),
    whole("y", "the tile's row"),
)
TILE_SIZE = integer("tilesize", "pixels of a tile's side, a power of 2", 1, default=256, maximum=LARGEST_TILE)
OVERLAP = integer("overlap", "pixels that neighbours share, fewer than tilesize", 0, default=0)
SHOWN = (
    FRAME,
    STYLE,
    text("encoding", "the tiles' format", one_of(tuple(WORDS))),
    QUALITY,
    SUBSAMPLING,
    EMBED,
)
TAKES = (*ask.IMAGE, *SHOWN, TILE_SIZE, OVERLAP)
DESCRIPTOR = (Answer(200, "the descriptor", {"text/xml": {}}),)
TILES = pictures(Format.JPEG, Format.PNG)


def routes() -> tuple[Route, ...]:
    """Return the routes of this room."""
    base = "/item/{item}/tiles"
    path = f"{base}/dzi_files/{{level}}/{{x}}_{{y}}.{{suffix}}"
    return (
        Route("GET", f"{base}/dzi.dzi", in_time(descriptor), TAKES, DESCRIPTOR),
        Route("GET", path, in_time(tile), (*TAKES, *PLACE, SUFFIX), TILES),
    )


async def descriptor(request: web.Request) -> web.Response:
    """``GET /item/{id}/tiles/dzi.dzi``: the Deep Zoom descriptor; refuses what its tiles would."""
    query = parameters.single(request.query)
    suffix = suffix_of(query.get("encoding", "JPEG"))
    view = await ask.view(request, query, suffix)
    image = await image_of(request.app[STATE], ask.item_of(request, query))
    image.info.check_frame(view.frame)
    text = _pyramid(image.info, query).descriptor(suffix)
    return web.Response(text=text, content_type="text/xml", headers=CORS)


async def tile(request: web.Request) -> web.Response:
    """``GET /item/{id}/tiles/dzi_files/{level}/{x}_{y}.{jpg|png}``: a Deep Zoom tile.

    ``encoding`` counts more than the suffix.
    """
    query = parameters.single(request.query)
    level, x, y = (part.of(request.match_info) for part in PLACE)
    view = await ask.view(request, query, _encoding(request, query))
    item = ask.item_of(request, query)
    image = await image_of(request.app[STATE], item)
    wanted = RegionRequest(*_pyramid(image.info, query).tile(level, x, y), view)
    return await answer_region(request, item, wanted, image.info)


def _encoding(request: web.Request, query: Mapping[str, str]) -> str:
    """Return the name of the tile's encoding, which its suffix is too; BadRequest if Deep Zoom lacks it."""
    suffix = SUFFIX.of(request.match_info).lower()
    if suffix not in SUFFIXES:
        raise BadRequest(f"suffix: expected one of {', '.join(SUFFIXES)}; got {suffix[:64]!r}")
    return suffix_of(query.get("encoding", suffix))


def _pyramid(info: ImageInfo, query: Mapping[str, str]) -> Pyramid:
    tile_size, overlap = TILE_SIZE.of(query), OVERLAP.of(query)
    check_tiles(tile_size, overlap)
    return Pyramid(info.width, info.height, tile_size, overlap)
