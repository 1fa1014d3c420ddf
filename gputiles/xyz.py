"""XYZ tiles, those of an image's own grid: their suffixes, their TileJSON, which regions they are."""

from __future__ import annotations

import math
from typing import Any

from gputiles.encoded import Edge
from gputiles.errors import BadRequest
from gputiles.geometry import Rect
from gputiles.image import ImageInfo
from gputiles.request import RegionRequest, TileRequest

SUFFIXES = {
    "jpg": "JPEG",
    "jpeg": "JPEG",
    "png": "PNG",
    "webp": "WEBP",
    "npy": "NPY",
    "tif": "TIFF",
    "tiff": "TIFF",
}


def encoding_of(name: str, suffix: str) -> str:
    """Return the encoding that a suffix stands for; ``name`` is where it was written."""
    encoding = SUFFIXES.get(suffix.lower())
    if encoding is None:
        raise BadRequest(f"{name}: expected one of {', '.join(SUFFIXES)}; got {suffix[:64]!r}")
    return encoding


def tile_of(wanted: RegionRequest, info: ImageInfo) -> TileRequest | None:
    """Return the tile of the image's grid that a region is in the size that is wanted, or None.

    The pixels are the same; a tile may be answered as it is stored, and is kept with the others.
    """
    for z in reversed(range(info.levels)):
        scale = 1 << (info.levels - 1 - z)
        x, y = wanted.region.x // (info.tile_width * scale), wanted.region.y // (info.tile_height * scale)
        place = info.grid.rect(z, x, y)
        full = Rect(place.x * scale, place.y * scale, place.width * scale, place.height * scale)
        covered = full.intersect(info.whole)
        if covered == wanted.region and (place.width, place.height) == (wanted.width, wanted.height):
            return TileRequest(z, x, y, wanted.view, Edge(crop=True))
    return None


def describe(info: ImageInfo, tiles: str) -> dict[str, Any]:
    """Return the TileJSON of an image, whose tiles lie at the template ``tiles``.

    https://github.com/mapbox/tilejson-spec/tree/master/3.0.0. Its ``bounds`` are degrees:
    those at which a map of the world in web Mercator has the tiles of the same numbers, so that
    viewers of maps show the image in their corner of the world and ask for no tile beyond.
    Viewers of images read ``width`` … ``tileHeight``: pixels of full resolution, which is
    ``maxzoom``, with the origin at the top left. ``vector_layers`` is demanded; images have none.
    """
    across, down = (
        size / (tile << (info.levels - 1))
        for size, tile in ((info.width, info.tile_width), (info.height, info.tile_height))
    )
    return {
        "tilejson": "3.0.0",
        "tiles": [tiles],
        "vector_layers": [],
        "scheme": "xyz",
        "minzoom": 0,
        "maxzoom": info.levels - 1,
        "bounds": [-180.0, _latitude(down), _longitude(across), _latitude(0.0)],
        "center": [_longitude(across / 2), _latitude(down / 2), 0],
        "width": info.width,
        "height": info.height,
        "tileWidth": info.tile_width,
        "tileHeight": info.tile_height,
    }


def _longitude(across: float) -> float:
    """Return the degrees east at a share of the world map's width."""
    return 360 * across - 180


def _latitude(down: float) -> float:
    """Return the degrees north at a share of the world map's height (EPSG:3857, backwards)."""
    return math.degrees(math.atan(math.sinh(math.pi * (1 - 2 * down))))
