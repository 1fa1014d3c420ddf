"""Other grids of tiles over the same images: Deep Zoom, and XYZ with its TileJSON."""

from __future__ import annotations

from urllib.parse import quote

from aiohttp import web

from gputiles.deepzoom import Pyramid, check_tiles
from gputiles.errors import BadRequest
from gputiles.image import ImageInfo
from gputiles.renderer import Renderer
from gputiles.request import RegionRequest, TileRequest
from gputiles.routes import ask, parameters
from gputiles.routes.answer import answer, in_time
from gputiles.routes.ask import Ask, image_of
from gputiles.routes.respond import CORS, as_json
from gputiles.state import STATE

SUFFIXES = {"jpg": "JPEG", "jpeg": "JPEG", "png": "PNG", "npy": "NPY", "tif": "TIFF", "tiff": "TIFF"}
FORMATS = {"JPEG": "jpg", "PNG": "png"}  # of Deep Zoom tiles


def add_routes(router: web.UrlDispatcher, prefix: str) -> None:
    """Add the routes of this room below ``prefix``."""
    for base in ask.tile_roots(prefix):
        router.add_get(f"{base}/dzi.dzi", in_time(descriptor))
        router.add_get(f"{base}/dzi_files/{{level}}/{{x}}_{{y}}.{{suffix}}", in_time(deep_tile))
    router.add_get(f"{prefix}/xyz/{{item}}/tilejson.json", in_time(tilejson))
    router.add_get(f"{prefix}/xyz/{{item}}/{{z}}/{{x}}/{{y}}.{{suffix}}", xyz_tile)


async def descriptor(request: web.Request) -> web.Response:
    """``GET /item/{id}/tiles/dzi.dzi``: the Deep Zoom descriptor."""
    query = parameters.single(request.query)
    name = query.get("encoding", "JPEG").upper()
    if name not in FORMATS:
        raise BadRequest(f"encoding: expected {' or '.join(FORMATS)}; got {name[:64]!r}")
    image = await image_of(request.app[STATE], ask.item_of(request, query))
    text = _pyramid(image.info, query).descriptor(FORMATS[name])
    return web.Response(text=text, content_type="text/xml", headers=CORS)


async def deep_tile(request: web.Request) -> web.Response:
    """``GET /item/{id}/tiles/dzi_files/{level}/{x}_{y}.{jpg|png}``: a Deep Zoom tile."""
    query = parameters.single(request.query)
    level, x, y = (_whole(request, name) for name in ("level", "x", "y"))
    view = await ask.view(request, query, _encoding(request))
    item = ask.item_of(request, query)
    image = await image_of(request.app[STATE], item)
    wanted = RegionRequest(*_pyramid(image.info, query).tile(level, x, y), view)
    return await answer(request, Ask(item, wanted), Renderer.region)


def _pyramid(info: ImageInfo, query: dict[str, str]) -> Pyramid:
    tile_size, overlap = (
        parameters.integer(query, "tilesize", 256, 1),
        parameters.integer(query, "overlap", 0, 0),
    )
    check_tiles(tile_size, overlap)
    return Pyramid(info.width, info.height, tile_size, overlap)


async def xyz_tile(request: web.Request) -> web.Response:
    """``GET /xyz/{id}/{z}/{x}/{y}.{jpg|png|npy|tif}``: a tile of the image's own grid."""
    query = parameters.single(request.query)
    z, x, y = (_whole(request, name) for name in "zxy")
    view = await ask.view(request, query, _encoding(request))
    wanted = TileRequest(z, x, y, view, parameters.edge(query))
    return await answer(request, Ask(ask.item_of(request, query), wanted), Renderer.tile)


async def tilejson(request: web.Request) -> web.Response:
    """``GET /xyz/{id}/tilejson.json``: TileJSON 3.0; the query goes on to the tiles.

    Images have no place on the earth, so that there are no bounds: a viewer lays the grid out
    by ``width``, ``height`` and ``tileWidth``, in pixels, with the origin at the top left.
    """
    query = parameters.single(request.query)
    item = ask.item_of(request, query)
    image = await image_of(request.app[STATE], item)
    suffix = query.pop("format", "jpg").lower()
    if suffix not in SUFFIXES:
        raise BadRequest(f"format: expected one of {', '.join(SUFFIXES)}; got {suffix[:64]!r}")
    await ask.view(request, query, SUFFIXES[suffix])  # what the tiles would refuse is refused here
    more = "&".join(f"{quote(name)}={quote(value)}" for name, value in query.items())
    base = request.rel_url.raw_path.removesuffix("/tilejson.json")
    tiles = f"{request.url.origin()}{base}/{{z}}/{{x}}/{{y}}.{suffix}"
    info = image.info
    return as_json(
        {
            "tilejson": "3.0.0",
            "tiles": [f"{tiles}?{more}" if more else tiles],
            "vector_layers": [],
            "scheme": "xyz",
            "minzoom": 0,
            "maxzoom": info.levels - 1,
            "width": info.width,
            "height": info.height,
            "tileWidth": info.tile_width,
            "tileHeight": info.tile_height,
        }
    )


def _encoding(request: web.Request) -> str:
    """Return the encoding that the path's suffix names."""
    suffix = request.match_info["suffix"].lower()
    if suffix not in SUFFIXES:
        raise BadRequest(f"suffix: expected one of {', '.join(SUFFIXES)}; got {suffix[:64]!r}")
    return SUFFIXES[suffix]


def _whole(request: web.Request, name: str) -> int:
    value = parameters.parse_integer(request.match_info[name])
    if value is None or value < 0:
        raise BadRequest(f"{name}: expected an integer from 0 on; got {request.match_info[name][:64]!r}")
    return value
