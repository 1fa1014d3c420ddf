"""Integer arithmetic of pyramids and tiles.

Level 0 is the coarsest; level ``levels - 1`` is full resolution. Level z is the ceil
power-of-two reduction of the full image: each side is ``ceil(size / 2**k)`` with
``k = levels - 1 - z``, and never less than one pixel.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from gputiles.errors import NotFound


def shares(units: int, count: int) -> list[range]:
    """Divide ``units`` into ``count`` shares, in order, as equal as they can be; fewer where units are."""
    count = min(count, units)
    return [range(units * at // count, units * (at + 1) // count) for at in range(count)]


def ceil_div(a: int, b: int) -> int:
    """Return ``a / b`` rounded up."""
    return -(-a // b)


class Rect(NamedTuple):
    """A rectangle of whole pixels (or of whole tiles): left, top, width, height.

    A tuple, because many are made, and hashed, for every picture that takes many tiles.
    """

    x: int
    y: int
    width: int
    height: int

    @property
    def right(self) -> int:
        """The first column beyond the rectangle."""
        return self.x + self.width

    @property
    def bottom(self) -> int:
        """The first row beyond the rectangle."""
        return self.y + self.height

    def intersect(self, other: Rect) -> Rect | None:
        """Return what both rectangles cover, or None."""
        x, y = max(self.x, other.x), max(self.y, other.y)
        width, height = min(self.right, other.right) - x, min(self.bottom, other.bottom) - y
        return Rect(x, y, width, height) if width > 0 and height > 0 else None

    def contains(self, other: Rect) -> bool:
        """Say whether all of ``other`` lies within the rectangle."""
        inside = self.x <= other.x and other.right <= self.right
        return inside and self.y <= other.y and other.bottom <= self.bottom

    def covered_by(self, width: int, height: int) -> Rect:
        """Return the cells of ``width`` × ``height`` pixels, in a grid from (0, 0) on, that cover it."""
        x, y = self.x // width, self.y // height
        return Rect(x, y, ceil_div(self.right, width) - x, ceil_div(self.bottom, height) - y)

    def cells(self) -> Iterator[tuple[int, int]]:
        """Yield every (x, y) of the rectangle, row by row."""
        return ((x, y) for y in range(self.y, self.bottom) for x in range(self.x, self.right))


@dataclass(frozen=True, slots=True)
class Grid:
    """The tile grid of an image of ``width`` × ``height`` pixels at all its levels."""

    width: int
    height: int
    tile_width: int
    tile_height: int
    levels: int = field(init=False, compare=False)
    """The number of levels; at level 0 one tile covers the image."""
    _sizes: tuple[tuple[int, int], ...] = field(init=False, repr=False, compare=False)
    _tiles: tuple[tuple[int, int], ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        tile = self.tile_width, self.tile_height
        most = max(ceil_div(self.width, tile[0]), ceil_div(self.height, tile[1]))
        scales = [1 << k for k in reversed(range(1 + (most - 1).bit_length()))]
        sizes = tuple((ceil_div(self.width, scale), ceil_div(self.height, scale)) for scale in scales)
        tiles = tuple((ceil_div(width, tile[0]), ceil_div(height, tile[1])) for width, height in sizes)
        for name, value in (("levels", len(sizes)), ("_sizes", sizes), ("_tiles", tiles)):
            object.__setattr__(self, name, value)

    def size(self, z: int) -> tuple[int, int]:
        """Return (width, height) in pixels of level ``z``."""
        return self._sizes[z]

    def tiles(self, z: int) -> tuple[int, int]:
        """Return (columns, rows) of the tile grid of level ``z``."""
        return self._tiles[z]

    def rect(self, z: int, x: int, y: int, columns: int = 1, rows: int = 1) -> Rect:
        """Return the pixels of level ``z`` that tiles from (x, y) on show, cropped to the level."""
        width, height = self._sizes[z]
        left, top = x * self.tile_width, y * self.tile_height
        across, down = columns * self.tile_width, rows * self.tile_height
        return Rect(left, top, min(across, width - left), min(down, height - top))

    def check(self, z: int, x: int, y: int) -> None:
        """Raise NotFound, in large_image's words, unless tile (x, y) of level ``z`` exists."""
        if not 0 <= z < self.levels:
            raise NotFound("z layer does not exist")
        columns, rows = self.tiles(z)
        if not 0 <= x < columns:
            raise NotFound("x is outside layer")
        if not 0 <= y < rows:
            raise NotFound("y is outside layer")


def covering(tiles: Sequence[Rect], size: tuple[int, int]) -> Rect:
    """Return the pixels of a level stored with ``size`` that a block of tiles, row by row, needs.

    The level may lack the grid's last row or column: then the one before it is needed.
    """
    width, height = size
    left, top = min(tiles[0].x, width - 1), min(tiles[0].y, height - 1)
    right, bottom = min(tiles[-1].right, width), min(tiles[-1].bottom, height)
    return Rect(left, top, max(right - left, 1), max(bottom - top, 1))


def unit_sizes(grid: Grid, stored: Mapping[int, tuple[int, int]]) -> tuple[tuple[int, int], ...]:
    """Return how many (columns, rows) of tiles are read or made together, level by level.

    ``stored`` has the levels whose tiles share chunks so. A made level is cut where the level
    below it is cut, so that none of its units needs a part of a finer one.
    """
    sizes = [(1, 1)] * grid.levels
    for z in reversed(range(grid.levels)):
        if z in stored:
            sizes[z] = stored[z]
        elif z + 1 < grid.levels:
            below = zip(sizes[z + 1], grid.tiles(z + 1), grid.tiles(z), strict=True)
            columns, rows = (_made_together(*axis) for axis in below)
            sizes[z] = columns, rows
    return tuple(sizes)


def _made_together(finer: int, finer_tiles: int, tiles: int) -> int:
    """Return the tiles over one finer unit, or over two where its number of tiles is odd."""
    if finer >= finer_tiles:
        return tiles
    return min(tiles, finer if finer % 2 else finer // 2)
