"""Deep Zoom: the descriptor and the tiles, as large_image names them."""

from __future__ import annotations

from collections.abc import Mapping

from aiohttp import web

from gputiles.deepzoom import Pyramid, check_tiles, suffix_of
from gputiles.errors import BadRequest
from gputiles.image import ImageInfo
from gputiles.renderer import check_frame
from gputiles.request import RegionRequest
from gputiles.routes import ask, parameters
from gputiles.routes.answer import in_time
from gputiles.routes.ask import image_of
from gputiles.routes.respond import CORS
from gputiles.routes.xyz import answer_region
from gputiles.state import STATE

SUFFIXES = ("jpg", "jpeg", "png")


def add_routes(router: web.UrlDispatcher, prefix: str) -> None:
    """Add the routes of this room below ``prefix``."""
    for base in ask.tile_roots(prefix):
        router.add_get(f"{base}/dzi.dzi", in_time(descriptor))
        router.add_get(f"{base}/dzi_files/{{level}}/{{x}}_{{y}}.{{suffix}}", in_time(tile))


async def descriptor(request: web.Request) -> web.Response:
    """``GET /item/{id}/tiles/dzi.dzi``: the Deep Zoom descriptor; refuses what its tiles would."""
    query = parameters.single(request.query)
    suffix = suffix_of(query.get("encoding", "JPEG"))
    view = await ask.view(request, query, suffix)
    image = await image_of(request.app[STATE], ask.item_of(request, query))
    check_frame(image.info, view.frame)
    text = _pyramid(image.info, query).descriptor(suffix)
    return web.Response(text=text, content_type="text/xml", headers=CORS)


async def tile(request: web.Request) -> web.Response:
    """``GET /item/{id}/tiles/dzi_files/{level}/{x}_{y}.{jpg|png}``: a Deep Zoom tile.

    ``encoding`` counts more than the suffix.
    """
    query = parameters.single(request.query)
    level, x, y = (parameters.whole(name, request.match_info[name]) for name in ("level", "x", "y"))
    view = await ask.view(request, query, _encoding(request, query))
    item = ask.item_of(request, query)
    image = await image_of(request.app[STATE], item)
    wanted = RegionRequest(*_pyramid(image.info, query).tile(level, x, y), view)
    return await answer_region(request, item, wanted, image.info)


def _encoding(request: web.Request, query: Mapping[str, str]) -> str:
    """Return the name of the tile's encoding, which its suffix is too; BadRequest if Deep Zoom lacks it."""
    suffix = request.match_info["suffix"].lower()
    if suffix not in SUFFIXES:
        raise BadRequest(f"suffix: expected one of {', '.join(SUFFIXES)}; got {suffix[:64]!r}")
    return suffix_of(query.get("encoding", suffix))


def _pyramid(info: ImageInfo, query: Mapping[str, str]) -> Pyramid:
    tile_size = parameters.integer(query, "tilesize", 256, 1)
    overlap = parameters.integer(query, "overlap", 0, 0)
    check_tiles(tile_size, overlap)
    return Pyramid(info.width, info.height, tile_size, overlap)
