"""Deep Zoom images: levels down to one pixel, and tiles that may overlap."""

from __future__ import annotations

from dataclasses import dataclass

from gputiles.errors import BadRequest, NotFound
from gputiles.geometry import Rect, ceil_div

LARGEST_TILE = 4096  # pixels on a side
SUFFIXES = {"JPEG": "jpg", "JPG": "jpg", "JFIF": "jpg", "PNG": "png"}
"""The suffix of tiles by the word for their encoding."""


@dataclass(frozen=True, slots=True)
class Pyramid:
    """The Deep Zoom pyramid of an image: level 0 is one pixel, each level twice the one before.

    Tiles have ``tile_size`` pixels, and ``overlap`` more on each side that has a neighbour.
    """

    width: int
    height: int
    tile_size: int = 256
    overlap: int = 0

    @property
    def top(self) -> int:
        """The level of full resolution."""
        return (max(self.width, self.height) - 1).bit_length()

    def size(self, level: int) -> tuple[int, int]:
        """Return (width, height) of a level, rounded up."""
        scale = 1 << (self.top - level)
        return ceil_div(self.width, scale), ceil_div(self.height, scale)

    def tile(self, level: int, x: int, y: int) -> tuple[Rect, int, int]:
        """Return a tile's region of full-resolution pixels and its own width and height.

        Raises NotFound outside the pyramid.
        """
        if not 0 <= level <= self.top:
            raise NotFound(f"level: expected 0 to {self.top}; got {level}")
        width, height = self.size(level)
        left, right = self._span(x, width)
        top, bottom = self._span(y, height)
        scale = 1 << (self.top - level)
        region = Rect(
            left * scale,
            top * scale,
            min(right * scale, self.width) - left * scale,
            min(bottom * scale, self.height) - top * scale,
        )
        return region, right - left, bottom - top

    def _span(self, at: int, size: int) -> tuple[int, int]:
        """Return the (first, last + 1) pixel of a tile on one axis of a level."""
        begin = at * self.tile_size
        if not 0 <= begin < size:
            raise NotFound(f"tile: expected 0 to {ceil_div(size, self.tile_size) - 1}; got {at}")
        return max(begin - self.overlap, 0), min(begin + self.tile_size + self.overlap, size)

    def descriptor(self, suffix: str) -> str:
        """Return the XML descriptor; ``suffix`` is that of the tiles' names."""
        return (
            '<?xml version="1.0" encoding="UTF-8"?>\n'
            f'<Image xmlns="http://schemas.microsoft.com/deepzoom/2008" Format="{suffix}" '
            f'Overlap="{self.overlap}" TileSize="{self.tile_size}">'
            f'<Size Width="{self.width}" Height="{self.height}"/></Image>\n'
        )


def suffix_of(encoding: str) -> str:
    """Return the suffix of tiles in an encoding; BadRequest where Deep Zoom has none for it."""
    suffix = SUFFIXES.get(encoding.upper())
    if suffix is None:
        raise BadRequest(f"encoding: expected JPEG or PNG; got {encoding[:64]!r}")
    return suffix


def check_tiles(tile_size: int, overlap: int) -> None:
    """Raise BadRequest unless tiles of that size and overlap can be asked for."""
    if not 1 <= tile_size <= LARGEST_TILE or tile_size & (tile_size - 1):
        raise BadRequest(f"tilesize: expected a power of 2 up to {LARGEST_TILE}; got {tile_size}")
    if not 0 <= overlap < tile_size:
        raise BadRequest(f"overlap: expected 0 to {tile_size - 1}; got {overlap}")
