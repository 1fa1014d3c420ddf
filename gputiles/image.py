"""Facts about an image, as a source reads them from a file: frozen, printable, no pixels."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum

import numpy as np
from numpy.typing import NDArray

from gputiles.errors import NotFound
from gputiles.geometry import Grid, Rect


class Colour(Enum):
    """What the samples of one pixel mean."""

    GREY = "grey"  # one or more independent values
    RGB = "rgb"  # red, green, blue (and alpha)
    PALETTE = "palette"  # an index into ImageInfo.colormap; indices are never averaged


class Alpha(Enum):
    """What the last sample of a pixel says about coverage."""

    NONE = "none"
    STRAIGHT = "straight"
    PREMULTIPLIED = "premultiplied"


class Reduction(Enum):
    """How a missing level is made from the one below it."""

    MEAN = "mean"
    NEAREST = "nearest"


@dataclass(frozen=True, slots=True)
class Channel:
    """A channel as a person sees it: name, colour as ``#rrggbb`` or None, display window.

    ``groups`` are the names of those that the file puts it in. ``active`` is whether the file wants
    it shown at first.
    """

    name: str
    colour: str | None = None
    window: tuple[float, float] | None = None
    groups: tuple[str, ...] = ()
    active: bool = True


@dataclass(frozen=True, slots=True)
class Frame:
    """One 2-D image of the file: its index on every axis ({"C": 1, "Z": 0})."""

    index: tuple[tuple[str, int], ...] = ()
    extra: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True, eq=False)
class ImageInfo:
    """Everything that is known about an image without decoding it.

    ``grid`` gives the served levels and tiles. ``stored`` says for every level z whether
    the file holds it (the full-resolution level always is). ``samples`` counts the values
    of one pixel, alpha included. ``axes`` names the axes with more than one position, in
    frame order, fastest first, each with its length: frame = Σ index × stride.
    ``significant_bits`` is the number of bits that detector values use, if the file says
    so. ``colormap`` ((n, 3) uint8) shows values: palettes, bilevel and WhiteIsZero images
    have one; ``image.raster`` gives the stored values all the same. ``mm_x``, ``mm_y`` are
    millimetres per full-resolution pixel. ``missing`` holds the frames that the metadata
    promises but the file lacks. ``units`` are the (columns, rows) of tiles, level by level,
    that are best read or made together; () is one by one. ``associated`` names the file's other
    pictures: label, macro, thumbnail. ``profile`` is the ICC profile of
    the colours where it can be applied and is not sRGB's.
    """

    grid: Grid
    stored: tuple[bool, ...]
    dtype: np.dtype[np.generic]
    samples: int = 1
    colour: Colour = Colour.GREY
    alpha: Alpha = Alpha.NONE
    frames: tuple[Frame, ...] = (Frame(),)
    axes: tuple[tuple[str, int], ...] = ()
    channels: tuple[Channel, ...] = ()
    mm_x: float | None = None
    mm_y: float | None = None
    magnification: float | None = None
    significant_bits: int | None = None
    nodata: float | None = None
    reduction: Reduction = Reduction.MEAN
    colormap: NDArray[np.uint8] | None = None
    missing: frozenset[int] = field(default_factory=frozenset)
    warnings: tuple[str, ...] = ()
    format: str = ""
    associated: tuple[str, ...] = ()
    profile: bytes | None = field(default=None, repr=False)
    units: tuple[tuple[int, int], ...] = ()

    @property
    def levels(self) -> int:
        """The number of levels."""
        return self.grid.levels

    @property
    def width(self) -> int:
        """Columns of the full-resolution level."""
        return self.grid.width

    @property
    def height(self) -> int:
        """Rows of the full-resolution level."""
        return self.grid.height

    @property
    def tile_width(self) -> int:
        """Columns of a full tile."""
        return self.grid.tile_width

    @property
    def tile_height(self) -> int:
        """Rows of a full tile."""
        return self.grid.tile_height

    @property
    def whole(self) -> Rect:
        """All pixels of full resolution."""
        return Rect(0, 0, self.width, self.height)

    def check_frame(self, frame: int) -> None:
        """Raise NotFound, in large_image's words, unless the image has ``frame``."""
        if not 0 <= frame < len(self.frames):
            raise NotFound("Frame does not exist")

    def unit(self, z: int, x: int, y: int) -> Rect:
        """Return the tiles that are read or made together with tile (x, y) of level ``z``."""
        across, down = self.units[z] if self.units else (1, 1)
        if across == down == 1:
            return Rect(x, y, 1, 1)
        columns, rows = self.grid.tiles(z)
        left, top = x - x % across, y - y % down
        return Rect(left, top, min(across, columns - left), min(down, rows - top))

    def strides(self) -> dict[str, int]:
        """Return {axis: distance in frames between neighbours on that axis}."""
        result, stride = {}, 1
        for name, length in self.axes:
            result[name] = stride
            stride *= length
        return result
