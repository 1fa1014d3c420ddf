"""Job tables: the structs of ``kernels/tables.h`` as NumPy dtypes, and how they are filled.

Shared by the backends: the host passes a table's address, CUDA copies it in one transfer.
Addresses are in the memory of the target; the builders take them as integers.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterable, Sequence
from ctypes import c_float
from itertools import chain, starmap
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from gputiles.backends import DownsampleJob, MeasureJob
from gputiles.backends.lookups import Palette
from gputiles.encoded import LUMA
from gputiles.errors import BadStyle
from gputiles.geometry import ceil_div
from gputiles.image import Reduction
from gputiles.recipe import BandRecipe, Blend, Conversion, ConversionKind

TYPES = {
    np.dtype(name): code
    for code, name in enumerate(
        ("uint8", "int8", "uint16", "int16", "uint32", "int32", "uint64", "int64", "float32", "float64")
    )
}

WORD = 8  # bytes, of which every struct is a multiple
LARGEST = 2.0**126  # windows are limited to this, so that their difference is a float32
OVEREXPOSED = 65536.0  # how far beyond its window a ramp from 0 may go on

SOURCE = np.dtype(
    [
        ("pixels", "u8"), ("valid", "u8"), ("nodata", "u8"), ("columns", "i4"), ("rows", "i4"),
        ("samples", "i4"), ("type", "i4"), ("has_nodata", "i4"), ("unused", "i4"),
    ]
)  # fmt: skip
BAND = np.dtype(
    [
        ("source", SOURCE), ("wide_low", "f8"), ("palette", "u8"), ("low", "f4"), ("delta", "f4"),
        ("limit", "f4"), ("sample", "i4"), ("stops", "i4"), ("blend", "i4"), ("clamp", "i4"),
        ("unused", "i4"), ("kind", "i4", 4), ("value", "f4", 4),
    ]
)  # fmt: skip
COMPOSITE = np.dtype(
    [
        ("out", "u8"), ("bands", "u8"), ("runs", "i8"), ("begin", "i8"), ("width", "i4"), ("height", "i4"),
        ("columns", "i4"), ("rows", "i4"), ("band_count", "i4"), ("accumulators", "i4"),
        ("first", "i4"), ("samples", "i4"), ("finish", "i4"), ("blended", "i4"),
        ("fill", "u1", 4), ("background", "u1", 4),
    ]
)  # fmt: skip
UNSTYLED = np.dtype(
    [
        ("source", SOURCE), ("out", "u8"), ("colormap", "u8"), ("runs", "i8"), ("begin", "i8"),
        ("entries", "i4"), ("width", "i4"), ("height", "i4"), ("columns", "i4"), ("rows", "i4"),
        ("colours", "i4"), ("alpha", "i4"), ("samples", "i4"), ("blended", "i4"),
        ("fill", "u1", 4), ("background", "u1", 4), ("unused", "i4"),
    ]
)  # fmt: skip
DOWNSAMPLE = np.dtype(
    [
        ("child", SOURCE, 4), ("out", "u8"), ("valid", "u8"), ("empty", "u8"), ("runs", "i8"),
        ("split_x", "i4"), ("split_y", "i4"), ("width", "i4"), ("height", "i4"),
        ("alpha", "i4"), ("nearest", "i4"),
    ]
)  # fmt: skip
RESAMPLE = np.dtype(
    [
        ("source", SOURCE), ("out", "u8"), ("valid", "u8"), ("empty", "u8"), ("runs", "i8"),
        ("width", "i4"), ("height", "i4"), ("alpha", "i4"), ("nearest", "i4"),
    ]
)  # fmt: skip
EXTREMES = np.dtype([("low", "f8"), ("high", "f8"), ("count", "i8")])
MEASURE = np.dtype(
    [
        ("source", SOURCE), ("out", "u8"), ("edges", "u8"), ("low", "f8"), ("high", "f8"),
        ("runs", "i8"), ("sample", "i4"), ("bins", "i4"), ("direct", "i4"), ("direct_low", "i4"),
    ]
)  # fmt: skip
PNG_FILTER = np.dtype(
    [
        ("pixels", "u8"), ("out", "u8"), ("runs", "i8"), ("begin", "i8"), ("look", "u8"), ("kept", "u8"),
        ("row", "i4"), ("stride", "i4"),
    ]
)  # fmt: skip
PNG_LOOK = np.dtype(
    [
        ("pixels", "u8"), ("out", "u8"), ("look", "u8"), ("runs", "i8"), ("pixel_count", "i8"),
        ("samples", "i8"),
    ]
)  # fmt: skip
PNG_DEFLATE = np.dtype(
    [
        ("filtered", "u8"), ("tokens", "u8"), ("out", "u8"), ("lengths", "u8"), ("checks", "u8"),
        ("look", "u8"), ("runs", "i8"), ("first", "i8"), ("capacity", "i8"), ("width", "i4"),
        ("height", "i4"), ("samples", "i4"), ("unused", "i4"),
    ]
)  # fmt: skip
PNG_CHECK = np.dtype([("sum", "u4"), ("weighted", "u4"), ("count", "i8")])
PNG_TAIL = np.dtype(
    [
        ("checks", "u8"), ("out", "u8"), ("length", "u8"), ("runs", "i8"), ("segments", "i8"),
        ("adler", "i8"),
    ]
)  # fmt: skip
PNG_DENSE = np.dtype(
    [
        ("filtered", "u8"), ("out", "u8"), ("length", "u8"), ("adler", "u8"), ("runs", "i8"), ("count", "i8"),
        ("last", "i8"),
    ]
)  # fmt: skip
JPEG_TABLE = np.dtype(
    [
        ("half", "u2", 64), ("reciprocal", "u2", 64), ("scale", "u2", 64), ("dc", "u4", 12),
        ("ac", "u4", (17, 16)), ("sixteen", "u4"), ("end", "u4"), ("symbols", "u8"),
    ]
)  # fmt: skip
JPEG = np.dtype(
    [
        ("pixels", "u8"), ("out", "u8"), ("lengths", "u8"), ("tables", "u8"), ("runs", "i8"),
        ("first", "i8"), ("segments", "i8"), ("capacity", "i8"), ("width", "i4"), ("height", "i4"),
        ("samples", "i4"), ("subsampling", "i4"),
    ]
)  # fmt: skip
ICC = np.dtype(
    [
        ("pixels", "u8"), ("out", "u8"), ("curves", "u8"), ("table", "u8"), ("runs", "i8"),
        ("pixel_count", "i8"), ("samples", "i4"), ("type", "i4"), ("kind", "i4"), ("entries", "i4"),
        ("stops", "i4"), ("has_nodata", "i4"), ("nodata", "i4"), ("top", "f4"), ("offset", "f4", 3),
        ("matrix", "f4", 9),
    ]
)  # fmt: skip
PASTE = np.dtype(
    [
        ("from", "u8"), ("to", "u8"), ("runs", "i8"), ("width", "i8"), ("from_pitch", "i8"),
        ("to_pitch", "i8"), ("value", "i8"),
    ]
)  # fmt: skip
FOLLOW = np.dtype([("lengths", "u8"), ("offsets", "u8"), ("runs", "i8")])
PACK = np.dtype(
    [
        ("streams", "u8"), ("lengths", "u8"), ("offsets", "u8"), ("out", "u8"), ("runs", "i8"),
        ("capacity", "i8"),
    ]
)  # fmt: skip
UNPACK = np.dtype(
    [
        ("from", "u8"), ("to", "u8"), ("runs", "i8"), ("from_pitch", "i8"), ("to_pitch", "i8"),
        ("left", "i4"), ("columns", "i4"), ("width", "i4"), ("samples", "i4"), ("stride", "i4"),
        ("size", "i4"), ("swapped", "i4"), ("predictor", "i4"),
    ]
)  # fmt: skip
TURNED = np.dtype(
    [
        ("from", "u8"), ("to", "u8"), ("runs", "i8"), ("rows", "i4"), ("columns", "i4"), ("samples", "i4"),
        ("quarter", "i4"), ("mirror", "i4"), ("tone", "i4"),
    ]
)  # fmt: skip
YCC = np.dtype([("pixels", "u8"), ("runs", "i8"), ("count", "i8"), ("size", "i4"), ("unused", "i4")])
JPEG_DECODE = np.dtype(
    [
        ("data", "u8"), ("tables", "u8"), ("out", "u8"), ("done", "u8"), ("scratch", "u8"), ("size", "i8"),
        ("tables_size", "i8"), ("scratch_size", "i8"), ("width", "i4"), ("height", "i4"), ("samples", "i4"),
        ("said_rgb", "i4"),
    ]
)  # fmt: skip
INFLATE = np.dtype([("in", "u8"), ("size", "i8"), ("out", "u8"), ("capacity", "i8"), ("done", "i8")])
FETCH = np.dtype([("file", "i8"), ("offset", "i8"), ("size", "i8"), ("out", "u8"), ("done", "i8")])

LAYOUT = (
    SOURCE, BAND, COMPOSITE, UNSTYLED, DOWNSAMPLE, RESAMPLE, EXTREMES, MEASURE, PNG_FILTER, JPEG_TABLE, JPEG,
    ICC, PASTE, FOLLOW, PACK, PNG_LOOK, PNG_DEFLATE, PNG_CHECK, PNG_TAIL, PNG_DENSE, UNPACK, TURNED, YCC,
    INFLATE, FETCH, JPEG_DECODE,
)  # fmt: skip
"""All job structs, in the order in which the host library reports their sizes."""


# As ``struct`` has them.
_CODES = {"u1": "B", "u4": "I", "u8": "Q", "i4": "i", "i8": "q", "f4": "f", "f8": "d"}


def _codes(layout: np.dtype[Any]) -> str:
    """Return the codes of all fields of a struct, in order."""
    if layout.subdtype is not None:
        item, shape = layout.subdtype
        return _codes(item) * math.prod(shape)
    if layout.fields is None:
        return _CODES[layout.str[1:]]
    return "".join(_codes(field[0]) for field in layout.fields.values())


class Rows:
    """Makes tables of jobs, each given as its fields, those of structs inside of it in their place.

    NumPy takes three times as long.
    """

    def __init__(self, layout: np.dtype[Any]) -> None:
        self._layout = layout
        self._pack = struct.Struct("=" + _codes(layout)).pack

    def __call__(self, rows: Iterable[tuple[Any, ...]]) -> NDArray[Any]:
        """Return a table with a job for each of ``rows``."""
        return np.frombuffer(bytearray(b"".join(starmap(self._pack, rows))), self._layout)


bands, downsamples, fetches, inflates = Rows(BAND), Rows(DOWNSAMPLE), Rows(FETCH), Rows(INFLATE)


def words(rows: NDArray[Any]) -> NDArray[np.uint64]:
    """Return structs as rows of words, whose memory they share."""
    return rows.view(np.uint64).reshape(len(rows), rows.itemsize // WORD)


def word(layout: np.dtype[Any], *path: str) -> int:
    """Return which word of a struct is the field of a name, in the structs of the names before it."""
    at = 0
    for name in path:
        assert layout.fields is not None
        layout, offset = layout.fields[name][:2]
        at += offset
    return at // WORD


class Placed(NamedTuple):
    """A raster whose planes lie at addresses of the target; ``valid`` 0: everywhere valid."""

    pixels: int
    valid: int
    shape: tuple[int, int, int]
    dtype: np.dtype[np.generic]


def runs(width: int, height: int, run: int) -> int:
    """Return how many runs of ``run`` pixels cover ``height`` rows of ``width``."""
    return height * ceil_div(width, run)


def native(value: float | None, dtype: np.dtype[np.generic]) -> int | float | None:
    """Return ``value`` as one of ``dtype``; None where it has no such value."""
    if value is None:
        return None
    if dtype.kind == "f":
        return float(value) if value == value else None  # NaN never counts anyway
    limits = np.iinfo(dtype.name)
    whole = np.isfinite(value) and value == int(value) and limits.min <= int(value) <= limits.max
    return int(value) if whole else None


def bits(value: int | float, dtype: np.dtype[np.generic]) -> int:
    """Return a value as a table holds it: integers sign-extended, floats as a double's bits."""
    if dtype.kind == "f":
        return int(np.float64(value).view(np.uint64))
    return int(value) % (1 << 64)


def empty(dtype: np.dtype[np.generic], nodata: float | None) -> int:
    """Return what a made sample without any weight holds: nodata, else NaN or 0."""
    value = native(nodata, dtype)
    return bits(value if value is not None else float("nan") if dtype.kind == "f" else 0, dtype)


NOWHERE = (0,) * len(SOURCE.fields or ())
"""The fields of a Source struct without pixels."""


def source(placed: Placed, nodata: float | None = None) -> tuple[int, ...]:
    """Return the fields of a Source struct."""
    value = native(nodata, placed.dtype)
    rows, columns, samples = placed.shape
    held = 0 if value is None else bits(value, placed.dtype)
    code = TYPES[placed.dtype]
    return (placed.pixels, placed.valid, held, columns, rows, samples, code, value is not None, 0)


def window(recipe: BandRecipe, dtype: np.dtype[np.generic]) -> tuple[float, float, float]:
    """Return (low in float64, low, high − low or 1) as the kernels subtract and divide: the last two float32.

    A difference of two float32 is rounded to float64 first, which does not change what it is in float32.
    """
    low, high = min(max(recipe.low, -LARGEST), LARGEST), min(max(recipe.high, -LARGEST), LARGEST)
    narrow = c_float(low).value
    if dtype.itemsize <= 2 or dtype == np.float32:
        return low, narrow, c_float(c_float(high).value - narrow).value or 1.0
    return low, narrow, c_float(high - low).value or 1.0


def band(recipe: BandRecipe, placed: Placed, palette: Palette) -> tuple[Any, ...]:
    """Return the fields of a Band struct but for the address of its palette's planes."""
    samples = placed.shape[2]
    if not 0 <= recipe.sample < samples:
        raise BadStyle(f"bands: expected a band from 1 to {samples} of the frame; got {recipe.sample + 1}")
    wide_low, low, delta = window(recipe, placed.dtype)
    limit = OVEREXPOSED if recipe.blend in (Blend.LIGHTEN, Blend.MULTIPLY) else 1.0
    shape = (recipe.sample, palette.planes.shape[1], recipe.blend, recipe.clamp, 0)
    looked_up = (*palette.kinds, *palette.values)
    return (*source(placed, recipe.nodata), wide_low, 0, low, delta, limit, *shape, *looked_up)


def mode_colour(fill: tuple[int, int, int, int] | None, samples: int) -> tuple[int, ...]:
    """Return ``fill`` as L, LA, RGB or RGBA, zeros for None; luma as ITU-R 601 in 16 bits."""
    if fill is None:
        return (0,) * samples
    red, green, blue, alpha = fill
    luma = (red * LUMA[0] + green * LUMA[1] + blue * LUMA[2] + 0x8000) >> 16
    return {1: (luma,), 2: (luma, alpha), 3: (red, green, blue), 4: fill}[samples]


def padding(
    fill: tuple[int, int, int, int] | None,
    colours: int,
    *,
    alpha: bool,
    under: tuple[int, int, int] | None = None,
) -> tuple[int, ...]:
    """Return the four bytes that pad a tile of ``colours`` (1 or 3) and perhaps alpha.

    The RGBA ``fill``, or zeros; blended over the RGB ``under`` unless that is None.
    """
    colour = mode_colour(fill, colours + alpha)
    if under is not None:
        below = mode_colour((*under, 255), colours)
        cover = colour[-1]
        colour = tuple(
            (c * cover + u * (255 - cover) + 127) // 255 for c, u in zip(colour[:-1], below, strict=True)
        )
    return (*colour, 0, 0, 0)[:4]


def background(colour: tuple[int, int, int] | None, colours: int) -> tuple[int, ...]:
    """Return the four bytes of the background of a tile of ``colours`` (1 or 3), black for None."""
    return (*mode_colour((*(colour or (0, 0, 0)), 255), colours), 0, 0, 0)[:4]


def downsample(job: DownsampleJob, children: Sequence[Placed | None], run: int) -> tuple[Any, ...]:
    """Return the fields of a Downsample struct but for the addresses of its output."""
    assert children[0] is not None
    sources = chain(*(NOWHERE if child is None else source(child, job.nodata) for child in children))
    counts = (empty(children[0].dtype, job.nodata), runs(job.width, job.height, run))
    nearest = job.reduction is Reduction.NEAREST
    return (*sources, 0, 0, *counts, *job.split, job.width, job.height, job.alpha, nearest)


def direct_low(dtype: np.dtype[np.generic], edges: tuple[float, float, int]) -> int | None:
    """Return the first value where every integer of ``dtype`` has its own bin, else None."""
    if dtype.kind not in "iu" or dtype.itemsize > 2:
        return None
    limits = np.iinfo(dtype.name)
    own = edges == (limits.min, limits.max + 1, limits.max + 1 - limits.min)
    return int(limits.min) if own else None


def fill_measure(row: Any, job: MeasureJob, placed: Placed, out: int, edges: int) -> None:
    """Fill a Measure struct; ``edges`` is the address of bins + 1 doubles."""
    row["source"] = source(placed, job.nodata)
    row["out"], row["edges"], row["runs"], row["sample"] = out, edges, placed.shape[0], job.sample
    if job.edges is not None:
        row["low"], row["high"], row["bins"] = job.edges
        low = direct_low(placed.dtype, job.edges)
        row["direct"], row["direct_low"] = low is not None, low or 0


def fill_icc(row: Any, conversion: Conversion, placed: Placed, nodata: float | None, run: int) -> None:
    """Fill an Icc struct but for the addresses of the output and of the conversion's tables."""
    rows, columns, samples = placed.shape
    value = native(nodata, placed.dtype)
    row["pixels"], row["pixel_count"], row["samples"] = placed.pixels, rows * columns, samples
    row["runs"], row["type"] = runs(rows * columns, 1, run), TYPES[placed.dtype]
    row["kind"], row["top"] = conversion.kind, conversion.top
    row["entries"], row["stops"] = conversion.top + 1, len(conversion.table)
    row["has_nodata"], row["nodata"] = value is not None, value or 0
    if conversion.kind is ConversionKind.MATRIX:
        row["offset"], row["matrix"] = conversion.offset, conversion.matrix.ravel()


def png_capacity(count: int) -> int:
    """Return the room for ``count`` filtered bytes as a deflate block of ``png_dense``."""
    return ceil_div(count * 14, 8) + 1024
