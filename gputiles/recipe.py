"""Recipes: a style resolved to the numbers and look-up tables that a kernel reads.

``style.py`` makes them; ``backends/`` reads them. The arithmetic that they stand for is
written out in ``kernels/pixel.h`` and, as the specification, in ``tests/spec.py``.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray


class Blend(IntEnum):
    """How a band's colour joins what the bands before it left (all values 0 … 255)."""

    LIGHTEN = 0  # max(out, colour)
    MULTIPLY = 1  # out * colour / 255; on the first band: nothing
    ADDITIVE = 2  # out + colour
    SCREEN = 3  # out + colour - out * colour / 255


class Finish(IntEnum):
    """How the accumulated colour, clamped to 0 … 255, becomes a byte."""

    UINT8 = 0  # truncate
    UINT16 = 1  # (c * 65535 / 255) truncated, then its high byte
    FLOAT = 2  # (c / 255) truncated: 0 or 1


class BandRecipe(NamedTuple):
    """One band of a composite.

    n = (value - low) / (high - low), in float32 with a true division (a zero difference
    counts as 1). With ``clamp`` n is limited to 0 … 1, without it pixels outside are
    masked out. Masked pixels (``nodata``, not valid in the raster, NaN, outside when not
    clamped) add nothing. ``palette`` has one or more evenly spaced stops, float32 RGBA
    0 … 255, interpolated linearly, or taken as equal steps where ``discrete``. Gamma is
    already in the palette's stops.
    """

    frame: int
    sample: int
    low: float
    high: float
    palette: NDArray[np.float32]
    discrete: bool = False
    blend: Blend = Blend.LIGHTEN
    opacity: float = 1.0
    clamp: bool = True
    nodata: float | None = None


class ConversionKind(IntEnum):
    """How stored colours become sRGB."""

    CURVE = 0  # grey: curve[value]
    MATRIX = 1  # table(offset + matrix · curves[values]): see kernels/icc.cu
    GRID = 2  # tetrahedral interpolation in a grid of answers
    COLORMAP = 3  # the values are indices: the table is the colour map, converted


def _nothing() -> NDArray[np.float32]:
    return np.empty(0, np.float32)


@dataclass(frozen=True, slots=True, eq=False)
class Conversion:
    """The tables of an ICC conversion; values 0 … ``top`` (larger ones count as ``top``).

    ``curves`` are (colours, top + 1): for CURVE what each value becomes, for MATRIX its linear
    light. ``matrix`` (3, 3) and ``offset`` (3) mix linear light. ``table`` is for MATRIX the
    evenly spaced stops from linear light 0 … 1 to values, for GRID (n, n, n, 3) values with red
    slowest (they may lie outside of 0 … ``top``), for COLORMAP the (n, 3) uint8 map.
    """

    kind: ConversionKind
    top: int = 255
    curves: NDArray[np.float32] = field(default_factory=_nothing)
    matrix: NDArray[np.float32] = field(default_factory=_nothing)
    offset: NDArray[np.float32] = field(default_factory=_nothing)
    table: NDArray[Any] = field(default_factory=_nothing)


@dataclass(frozen=True, slots=True, eq=False)
class Recipe:
    """What to do with the rasters of one tile.

    With ``bands`` a composite of ``samples`` (1 or 4) output samples. With ``bands`` None
    the unstyled conversion of the first frame: each of its samples to a byte by dtype
    (uint16 // 256, float clipped and truncated …; more than four samples: the first
    three), through ``colormap`` ((n, 3) uint8) where the image has one.

    With ``icc`` the samples go through that conversion before anything else reads them.

    ``frames`` lists the frames whose rasters a render job must bring, in order.
    """

    frames: tuple[int, ...]
    bands: tuple[BandRecipe, ...] | None = None
    samples: int = 4
    finish: Finish = Finish.UINT8
    axis: int | None = None
    colormap: NDArray[np.uint8] | None = None
    icc: Conversion | None = None
