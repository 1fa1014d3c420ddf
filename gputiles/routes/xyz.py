"""XYZ: the tiles of an image's own grid, as viewers of maps name them, and their TileJSON."""

from __future__ import annotations

from urllib.parse import quote

from aiohttp import web

from gputiles import xyz
from gputiles.image import ImageInfo
from gputiles.renderer import Renderer, check_frame
from gputiles.request import RegionRequest, TileRequest
from gputiles.routes import ask, parameters
from gputiles.routes.addresses import VARY, address
from gputiles.routes.answer import answer, in_time
from gputiles.routes.ask import Ask, Direct, image_of
from gputiles.routes.respond import as_json
from gputiles.state import STATE


def add_routes(router: web.UrlDispatcher, prefix: str) -> None:
    """Add the routes of this room below ``prefix``."""
    router.add_get(f"{prefix}/xyz/{{item}}/tilejson.json", in_time(tilejson))
    router.add_get(f"{prefix}/xyz/{{item}}/{{z}}/{{x}}/{{y}}.{{suffix}}", tile)


async def tile(request: web.Request) -> web.Response:
    """``GET /xyz/{id}/{z}/{x}/{y}.{jpg|png|npy|tif}``: a tile of the image's own grid."""
    wanted = await ask.once(request, _tile)
    return await answer(request, wanted, Renderer.tile)


async def _tile(request: web.Request) -> Ask:
    query = parameters.single(request.query)
    z, x, y = (parameters.whole(name, request.match_info[name]) for name in "zxy")
    view = await ask.view(request, query, xyz.encoding_of("suffix", request.match_info["suffix"]))
    return Ask(ask.item_of(request, query), TileRequest(z, x, y, view, parameters.edge(query)))


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
    suffix = query.pop("format", "jpg").lower()
    view = await ask.view(request, query, xyz.encoding_of("format", suffix))
    parameters.edge(query)  # what the tiles would refuse is refused here
    image = await image_of(request.app[STATE], ask.item_of(request, query))
    check_frame(image.info, view.frame)
    more = "&".join(f"{quote(name, safe='')}={quote(value, safe='')}" for name, value in query.items())
    base = address(request, request.rel_url.raw_path.removesuffix("/tilejson.json"))
    tiles = f"{base}/{{z}}/{{x}}/{{y}}.{suffix}{'?' if more else ''}{more}"
    return as_json(xyz.describe(image.info, tiles), headers={"Vary": VARY})
