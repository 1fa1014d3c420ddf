"""Files that an installed large_image reads (the extra ``large-image``, and its sources)."""

from __future__ import annotations

import importlib
import math
import threading
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gputiles.errors import Damaged, LimitExceeded, Unsupported
from gputiles.geometry import Grid, Rect
from gputiles.image import Alpha, Channel, Colour, ImageInfo
from gputiles.sources import no_picture
from gputiles.sources.adapted import AdaptedSource, find_levels, single_unit
from gputiles.sources.bytesource import content_version
from gputiles.sources.facts import MOST_TILE, frames_of, tile_of

SUFFIXES = (".bmp", ".dv", ".ims", ".lif", ".nd2", ".oib", ".vsi", ".zvi")
"""Endings of the files that are given to large_image; which of them it reads depends on its sources."""

# Their files name others, anywhere; or they make an image of nothing.
_REFUSED = ("gdal", "girder", "mapnik", "multi", "rasterio", "test")


class LargeImage:
    """A file that is open in large_image, unstyled; see ``Adapter``."""

    def __init__(self, path: Path, tiles: Any, chunk_limit: int) -> None:
        self._name, self._tiles = path.name, tiles
        self._lock = threading.Lock()  # not all of its sources take two callers at once
        facts = tiles.getMetadata()
        size, tile = (facts["sizeX"], facts["sizeY"]), (facts["tileWidth"], facts["tileHeight"])
        samples, dtype = _samples(facts, path.name)
        _check_tile(path.name, tile, samples * dtype.itemsize, min(MOST_TILE, chunk_limit))
        grid, theirs = Grid(*size, *tile_of(size, tile)), Grid(*size, *tile)
        self._grid = theirs
        self._levels = find_levels(grid, _stored(tiles, theirs))
        self.sizes = {z: theirs.size(level) for z, level in self._levels.items()}
        axes = _axes(facts)
        whole = theirs.tiles(theirs.levels - 1) == (1, 1)
        self.info = ImageInfo(
            grid=grid,
            stored=tuple(z in self.sizes for z in range(grid.levels)),
            dtype=dtype,
            samples=samples,
            colour=Colour.RGB if samples in (3, 4) else Colour.GREY,
            alpha=Alpha.STRAIGHT if samples in (2, 4) else Alpha.NONE,
            frames=frames_of(axes),
            axes=axes,
            channels=tuple(Channel(str(name)) for name in facts.get("channels", ())),
            mm_x=facts.get("mm_x"),
            mm_y=facts.get("mm_y"),
            magnification=facts.get("magnification"),
            format=f"large_image {tiles.name}",
            units=single_unit(grid) if whole else (),
        )

    def paint(self, frame: int, z: int, area: Rect) -> tuple[NDArray[Any], NDArray[np.uint8] | None]:
        """Return the pixels of an area, of all the tiles that it covers."""
        level, across, down = self._levels[z], self._grid.tile_width, self._grid.tile_height
        pixels = np.zeros((area.height, area.width, self.info.samples), self.info.dtype)
        for x, y in area.covered_by(across, down).cells():
            place = self._grid.rect(level, x, y)
            part = area.intersect(place)
            if part is not None:
                tile = self._tile(frame, level, x, y, place)
                rows = slice(part.y - place.y, part.bottom - place.y)
                columns = slice(part.x - place.x, part.right - place.x)
                target = pixels[part.y - area.y : part.bottom - area.y]
                target[:, part.x - area.x : part.right - area.x] = tile[rows, columns]
        return pixels, None

    def _tile(self, frame: int, level: int, x: int, y: int, place: Rect) -> NDArray[Any]:
        try:
            with self._lock:
                tile = np.asarray(self._tiles.getTile(x, y, level, frame=frame, numpyAllowed="always"))
        except Exception as error:  # of any of the libraries behind it
            raise Damaged(f"{self._name}: large_image cannot read tile {x}, {y}: {error}") from error
        tile = np.atleast_3d(tile)[: place.height, : place.width]
        expected = (place.height, place.width, self.info.samples)
        if tile.shape != expected or tile.dtype != self.info.dtype:
            raise Damaged(
                f"{self._name}: large_image gives tile {x}, {y} as {tile.shape} {tile.dtype};"
                f" expected {expected} {self.info.dtype}"
            )
        return tile

    def internals(self) -> dict[str, Any]:
        """Return the name of large_image's source, and the image's facts in its words."""
        facts = {key: value for key, value in self._tiles.getMetadata().items() if _is_plain(value)}
        return {"tilesource": "large_image", "format": self.info.format, "large_image": facts}

    def close(self) -> None:
        """Let go of the file: it is closed when the last reader has its answer."""


def open_large_image(path: Path, *, chunk_limit: int, associated: str | None) -> AdaptedSource:
    """Open a file in large_image, without a style and outside its caches.

    Raises Unsupported, Damaged, LimitExceeded or, as other pictures are not read, NotFound.
    """
    if associated is not None:
        raise no_picture(associated)
    version = content_version((path,))
    find = large_image_library().tilesource
    if not find.AvailableTileSources:
        find.loadTileSources()
    sources = {name: kind for name, kind in find.AvailableTileSources.items() if name not in _REFUSED}
    try:
        tiles = find.getTileSourceFromDict(sources, path, noCache=True)
    except Exception as error:  # of any of the libraries behind it
        raise Unsupported(f"{path.name}: no installed source of large_image reads it: {error}") from error
    return AdaptedSource(LargeImage(path, tiles, chunk_limit), (path,), version)


@cache
def large_image_library() -> Any:
    """Return the library, or None where the extra is not installed; imported on first use."""
    try:
        importlib.import_module("large_image.tilesource")
        return importlib.import_module("large_image")
    except ImportError:
        return None


def _stored(tiles: Any, grid: Grid) -> dict[int, tuple[int, int]]:
    """Return {level: size} of the levels that the file holds; large_image makes the others."""
    full = grid.levels - 1
    levels = [z for z in range(full) if tiles.getPreferredLevel(z) == z]
    return {z: grid.size(z) for z in (full, *levels)}


def _check_tile(name: str, tile: tuple[int, int], pixel: int, most: int) -> None:
    """Raise LimitExceeded where a tile, of ``pixel`` bytes each, takes more than ``most``."""
    weight = tile[0] * tile[1] * pixel
    if weight > most:
        raise LimitExceeded(f"{name}: a tile of {tile[0]}x{tile[1]} pixels takes {weight} bytes; most {most}")


def _samples(facts: Mapping[str, Any], name: str) -> tuple[int, np.dtype[np.generic]]:
    samples, dtype = int(facts.get("bandCount") or 0), np.dtype(facts.get("dtype") or "V1")
    if samples < 1 or dtype.kind not in "uif" or dtype == np.float16:
        raise Unsupported(
            f"{name}: {samples} samples of {dtype}; expected integers or floats of 32 or 64 bits"
        )
    return samples, dtype


def _axes(facts: Mapping[str, Any]) -> tuple[tuple[str, int], ...]:
    """Return the axes, fastest first; frames that none explain lie on Z."""
    count = len(facts.get("frames", ())) or 1
    strides = facts.get("IndexStride", {})
    ranges = {key: length for key, length in facts.get("IndexRange", {}).items() if length > 1}
    axes = tuple((key.removeprefix("Index"), ranges[key]) for key in sorted(ranges, key=strides.__getitem__))
    return axes if math.prod(length for _, length in axes) == count else (("Z", count),)


def _is_plain(value: object) -> bool:
    return value is None or isinstance(value, str | int | float)
