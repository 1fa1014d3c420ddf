"""The NumPy specification of the kernels: plain, slow, and independent of ``kernels/``.

Every kernel equals its twin here bit for bit. Rasters are pairs (pixels, valid): pixels
(rows, columns, samples), valid (rows, columns) uint8 or None for "everywhere".
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gputiles.geometry import Rect
from gputiles.image import Reduction
from gputiles.recipe import BandRecipe, Blend, Finish, Recipe

Array = NDArray[Any]
Source = tuple[Array, "Array | None"]
Fill = tuple[int, int, int, int]

F32 = np.float32
LARGEST = 2.0**126  # windows are limited to ± this, so that their difference is a float32
OVEREXPOSED = F32(65536)  # how far beyond its window a ramp from 0 may go on (see lookup)
BRIGHTEST = F32(16777216)  # 65536 × 256: keeps products of multiply bands finite


def composite(
    recipe: Recipe,
    rasters: Sequence[Source],
    width: int,
    height: int,
    fill: Fill | None = None,
) -> NDArray[np.uint8]:
    """Return the (height, width, C) bytes that ``recipe`` makes of ``rasters``.

    What the rasters do not all cover is ``fill`` brought to C samples, or zeros.
    """
    columns = min([width, *(pixels.shape[1] for pixels, _ in rasters)])
    rows = min([height, *(pixels.shape[0] for pixels, _ in rasters)])
    rasters = [
        (pixels[:rows, :columns], None if valid is None else valid[:rows, :columns])
        for pixels, valid in rasters
    ]
    if recipe.bands is None:
        inner = unstyled(*rasters[0], recipe.colormap)
    else:
        inner = finish(blend(recipe, rasters, (rows, columns)), recipe.finish)
        if recipe.axis is not None:
            inner = inner[..., recipe.axis : recipe.axis + 1]
    result = np.empty((height, width, inner.shape[2]), np.uint8)
    result[:] = mode_colour(fill, inner.shape[2])
    result[:rows, :columns] = inner
    return result


def mode_colour(fill: Fill | None, samples: int) -> tuple[int, ...]:
    """Return ``fill`` as L, LA, RGB or RGBA; luma as Pillow converts it."""
    if fill is None:
        return (0,) * samples
    red, green, blue, alpha = fill
    luma = (red * 19595 + green * 38470 + blue * 7471 + 0x8000) >> 16
    return {1: (luma,), 2: (luma, alpha), 3: (red, green, blue), 4: fill}[samples]


def over(pixels: NDArray[np.uint8], background: tuple[int, int, int] | None) -> NDArray[np.uint8]:
    """Return L or RGB: alpha blended over ``background``, rounded to nearest, or dropped."""
    if pixels.shape[2] in (1, 3):
        return pixels
    colour, alpha = pixels[..., :-1].astype(np.int64), pixels[..., -1:].astype(np.int64)
    if background is None:
        return pixels[..., :-1]
    under = np.array(mode_colour((*background, 255), pixels.shape[2])[:-1])
    return ((colour * alpha + under * (255 - alpha) + 127) // 255).astype(np.uint8)


def blend(recipe: Recipe, rasters: Sequence[Source], shape: tuple[int, int]) -> NDArray[np.float32]:
    """Return the float32 accumulators (rows, columns, recipe.samples), not yet clamped."""
    out = np.zeros((*shape, recipe.samples), F32)
    for number, band in enumerate(recipe.bands or ()):
        pixels, valid = rasters[recipe.frames.index(band.frame)]
        n, mask = normalise(band, pixels[..., band.sample], valid)
        stops = faded(band)
        for c in range(recipe.samples):
            col = lookup(n, stops[:, c], band.discrete, band.blend)
            join(out, c, band.blend, number == 0, col, mask)
    return out


def join(out: Array, c: int, how: Blend, first: bool, col: Array, mask: Array) -> None:
    """Blend the colour ``col`` of one band's component ``c`` into ``out``."""
    old = out[..., c]
    if how is Blend.MULTIPLY:
        if not first:
            out[..., c] = np.minimum(old * np.where(mask, col / F32(255), F32(1)), BRIGHTEST)
        return
    col = np.where(mask, col, F32(0))
    if how is Blend.LIGHTEN or c == 3:  # an opaque pixel stays opaque under every light
        out[..., c] = np.maximum(old, col)
    elif how is Blend.ADDITIVE:
        out[..., c] = old + col
    else:
        out[..., c] = (old + col) - (old * col) / F32(255)


def normalise(band: BandRecipe, values: Array, valid: Array | None) -> tuple[Array, Array]:
    """Return the place of every value in the band's window, and which pixels count.

    0 is the low and 1 the high end; values beyond the high end go on to OVEREXPOSED.
    """
    mask = np.ones(values.shape, bool) if valid is None else valid != 0
    if values.dtype.kind == "f":
        mask &= ~np.isnan(values)
        values = np.where(np.isnan(values), values.dtype.type(0), values)
    if band.nodata is not None:
        mask &= values != native(band.nodata, values.dtype)
    low, high = float(np.clip(band.low, -LARGEST, LARGEST)), float(np.clip(band.high, -LARGEST, LARGEST))
    with np.errstate(over="ignore"):
        if values.dtype.itemsize <= 2 or values.dtype == np.float32:
            above = values.astype(F32) - F32(low)
            delta = F32(high) - F32(low)
        else:
            above = (values.astype(np.float64) - low).astype(F32)
            delta = F32(high - low)
        n = above / (delta if delta != 0 else F32(1))
    if not band.clamp:
        mask &= (n >= 0) & (n <= 1)
    return np.minimum(np.maximum(n, F32(0)), OVEREXPOSED), mask


def native(value: float, dtype: np.dtype[Any]) -> Any:
    """Return ``value`` in ``dtype``, or NaN (which equals nothing) where it has no such value."""
    if dtype.kind == "f":
        return dtype.type(value)
    limits = np.iinfo(dtype)
    if not np.isfinite(value) or value != int(value) or not limits.min <= int(value) <= limits.max:
        return float("nan")
    return dtype.type(int(value))


def faded(band: BandRecipe) -> NDArray[np.float32]:
    """Return the palette with the opacity worked in: towards 0, or towards 255 to multiply."""
    stops = np.asarray(band.palette, F32)
    if band.opacity == 1:
        return stops
    opacity = F32(band.opacity)
    if band.blend is Blend.MULTIPLY:
        return F32(255) - (F32(255) - stops) * opacity
    return stops * opacity


def lookup(n: Array, p: Array, discrete: bool, how: Blend) -> Array:
    """Return one component of the palette at ``n``, which is at least 0.

    Two stops of which the first is 0 make a ramp that goes on beyond the window for
    LIGHTEN and MULTIPLY: large_image does not clamp there, and its tiles show it
    (``golden.json``: alpha_pal, multiply). All others end at the last stop.
    """
    last = len(p) - 1
    if np.all(p == p[0]):
        return np.full(n.shape, p[0], F32)
    if len(p) == 2 and p[0] == 0 and not discrete and how in (Blend.LIGHTEN, Blend.MULTIPLY):
        return n * p[1]
    n = np.minimum(n, F32(1))
    if discrete:
        return p[np.minimum((n * F32(len(p))).astype(np.int64), last)]
    if len(p) == 2 and p[0] == 0:
        return n * p[1]
    t = n * F32(last)
    i = np.minimum(t.astype(np.int64), last - 1)
    return p[i] + (t - i.astype(F32)) * (p[i + 1] - p[i])


def finish(colour: NDArray[np.float32], how: Finish) -> NDArray[np.uint8]:
    """Return the accumulated colour as bytes."""
    colour = np.minimum(np.maximum(colour, F32(0)), F32(255))
    if how is Finish.UINT16:
        return ((colour * F32(65535) / F32(255)).astype(np.uint16) >> 8).astype(np.uint8)
    if how is Finish.FLOAT:
        return (colour / F32(255)).astype(np.uint8)
    return colour.astype(np.uint8)


def unstyled(
    pixels: Array, valid: Array | None = None, colormap: NDArray[np.uint8] | None = None
) -> NDArray[np.uint8]:
    """Return stored samples as L, LA, RGB or RGBA bytes; pixels that are not valid are zeros."""
    if colormap is not None:
        index = np.clip(np.nan_to_num(pixels[..., 0].astype(np.float64)), 0, len(colormap) - 1)
        result = colormap[index.astype(np.int64)]
    else:
        result = to_byte(pixels if pixels.shape[2] <= 4 else pixels[..., :3])
    if valid is None:
        return result
    if result.shape[2] in (1, 3):
        result = np.concatenate([result, np.full_like(result[..., :1], 255)], axis=2)
    return np.where(valid[..., None] != 0, result, np.uint8(0))


def to_byte(pixels: Array) -> NDArray[np.uint8]:
    """Return samples as bytes: the high byte of integers, floats clipped and truncated."""
    if pixels.dtype.kind == "f":
        return np.clip(np.nan_to_num(pixels, nan=0), 0, 255).astype(np.uint8)
    bits = pixels.dtype.itemsize * 8
    high = pixels.astype(np.int64 if pixels.dtype.kind == "i" else np.uint64) >> (bits - 8)
    return (high + (128 if pixels.dtype.kind == "i" else 0)).astype(np.uint8)


def void(dtype: np.dtype[Any], nodata: float | None) -> Any:
    """Return what a made pixel without any weight holds."""
    value = float("nan") if nodata is None else native(nodata, dtype)
    return dtype.type(value) if dtype.kind == "f" else dtype.type(0 if value != value else value)


def weights(pixels: Array, exists: Array, nodata: float | None, alpha: bool) -> NDArray[np.bool_]:
    """Return which samples of which pixels carry weight, like ``pixels``."""
    result = np.repeat(exists[..., None], pixels.shape[2], axis=2)
    if pixels.dtype.kind == "f":
        result &= ~np.isnan(pixels)
    colours = pixels.shape[2] - alpha
    if nodata is not None:
        result[..., :colours] &= pixels[..., :colours] != native(nodata, pixels.dtype)
    if alpha:
        result[..., :colours] &= pixels[..., -1:] > 0
    return result


def exact_mean(values: Sequence[int]) -> int:
    """Return the mean of whole numbers, rounded half to even."""
    quotient, rest = divmod(sum(values), len(values))
    return quotient + (2 * rest > len(values) or (2 * rest == len(values) and quotient % 2 == 1))


def block_mean(block: Array, weight: NDArray[np.bool_], empty: Any) -> Array:
    """Return the mean over the first axis (four pixels) of samples that carry weight."""
    count = weight.sum(axis=0)
    if block.dtype.kind == "f":
        a, b, c, d = np.where(weight, block, block.dtype.type(0))
        with np.errstate(invalid="ignore", over="ignore"):
            mean = ((a + b) + (c + d)) / np.maximum(count, 1).astype(block.dtype)
        return np.where(count > 0, mean, empty)
    if block.dtype.itemsize == 8:  # beyond NumPy's integers: Python's
        flat = [
            exact_mean([int(v) for v, w in zip(vs, ws, strict=True) if w]) if any(ws) else int(empty)
            for vs, ws in zip(block.reshape(4, -1).T, weight.reshape(4, -1).T, strict=True)
        ]
        return np.array(flat, block.dtype).reshape(block.shape[1:])
    total = np.where(weight, block, 0).astype(np.int64).sum(axis=0)
    quotient, rest = np.divmod(total, np.maximum(count, 1))
    up = (2 * rest > count) | ((2 * rest == count) & (quotient % 2 == 1))
    return np.where(count > 0, quotient + up, empty).astype(block.dtype)


def mosaic(tiles: Sequence[tuple[int, int, Array, Array | None]], region: Rect) -> tuple[Array, Array]:
    """Return the pixels of ``region`` and which of them exist and are valid."""
    like = tiles[0][2]
    pixels = np.zeros((region.height, region.width, like.shape[2]), like.dtype)
    exists = np.zeros((region.height, region.width), bool)
    for left, top, tile, valid in tiles:
        place = Rect(left, top, tile.shape[1], tile.shape[0]).intersect(region)
        if place is None:
            continue
        to = np.s_[place.y - region.y : place.bottom - region.y, place.x - region.x : place.right - region.x]
        frm = np.s_[place.y - top : place.bottom - top, place.x - left : place.right - left]
        pixels[to], exists[to] = tile[frm], True if valid is None else valid[frm] != 0
    return pixels, exists


def some(valid: Array) -> NDArray[np.uint8] | None:
    """Return the validity plane, or None where all is valid."""
    return None if valid.all() else valid.astype(np.uint8)


def downsample(
    children: Sequence[Source | None],
    split: tuple[int, int],
    width: int,
    height: int,
    reduction: Reduction = Reduction.MEAN,
    nodata: float | None = None,
    alpha: bool = False,
) -> Source:
    """Return the tile made of up to four children: see DownsampleJob."""
    places = [(x, y) for y in (0, split[1]) for x in (0, split[0])]
    tiles = [(*xy, *child) for xy, child in zip(places, children, strict=True) if child is not None]
    pixels, exists = mosaic(tiles, Rect(0, 0, 2 * width, 2 * height))
    if reduction is Reduction.NEAREST:
        return pixels[::2, ::2], some(exists[::2, ::2])
    weight = weights(pixels, exists, nodata, alpha)
    corners = [np.s_[y::2, x::2] for y in (0, 1) for x in (0, 1)]
    block, weight = np.stack([pixels[c] for c in corners]), np.stack([weight[c] for c in corners])
    made = block_mean(block, weight, void(pixels.dtype, nodata))
    if alpha:
        made[..., -1] = block_mean(block[..., -1], weight[..., -1], pixels.dtype.type(0))
        made[..., :-1][~weight[..., :-1].any(axis=0)] = void(pixels.dtype, nodata)
    return made, some(weight.any(axis=(0, 3)))


def footprint(full: int, made: int, nearest: bool) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return for every made pixel its first source pixel, and (made, n) whole weights.

    Shrinking ``full`` pixels to ``made``: pixel j covers [j·full, (j+1)·full) where every
    source pixel is ``made`` long. Otherwise the one pixel under the centre.
    """
    j = np.arange(made, dtype=np.int64)
    if nearest or made >= full:
        return (2 * j + 1) * full // (2 * made), np.ones((made, 1), np.int64)
    first = j * full // made
    source = first[:, None] + np.arange(full // made + 2)
    begin = np.maximum(source * made, (j * full)[:, None])
    end = np.minimum((source + 1) * made, ((j + 1) * full)[:, None])
    return first, np.maximum(end - begin, 0)


def resample(
    tiles: Sequence[tuple[int, int, Array, Array | None]],
    region: Rect,
    width: int,
    height: int,
    reduction: Reduction = Reduction.MEAN,
    nodata: float | None = None,
    alpha: bool = False,
) -> Source:
    """Return ``region`` of the mosaic at ``width`` × ``height``: see ResampleJob.

    Integers of up to 16 bits are summed exactly, everything else in float64, row by row.
    """
    pixels, exists = mosaic(tiles, region)
    nearest = reduction is Reduction.NEAREST
    x0, wx = footprint(region.width, width, nearest)
    y0, wy = footprint(region.height, height, nearest)
    if wx.shape[1] == 1 and wy.shape[1] == 1:
        return pixels[np.ix_(y0, x0)], some(exists[np.ix_(y0, x0)])
    wide = np.int64 if pixels.dtype.kind in "iu" and pixels.dtype.itemsize <= 2 else np.float64
    carries = weights(pixels, exists, nodata, alpha)
    total = np.zeros((height, width, pixels.shape[2]), wide)
    count = np.zeros((height, width, pixels.shape[2]), np.int64)
    for dy in range(wy.shape[1]):
        for dx in range(wx.shape[1]):
            at = np.ix_(np.minimum(y0 + dy, region.height - 1), np.minimum(x0 + dx, region.width - 1))
            weight = (wy[:, dy, None] * wx[None, :, dx])[..., None] * carries[at]
            with np.errstate(invalid="ignore"):
                total += np.where(weight > 0, pixels[at].astype(wide) * weight, wide(0))
            count += weight
    made = rounded(total, count, pixels.dtype)
    return np.where(count > 0, made, void(pixels.dtype, nodata)), some((count > 0).any(axis=2))


def rounded(total: Array, count: NDArray[np.int64], dtype: np.dtype[Any]) -> Array:
    """Return total / count in ``dtype``, integers rounded half to even."""
    count = np.maximum(count, 1)
    if total.dtype == np.int64:
        quotient, rest = np.divmod(total, count)
        return (quotient + ((2 * rest > count) | ((2 * rest == count) & (quotient % 2 == 1)))).astype(dtype)
    with np.errstate(over="ignore"):
        mean = total / count.astype(np.float64)
        if dtype.kind == "f":
            return mean.astype(dtype)
    limits = np.iinfo(dtype)
    whole = np.rint(mean)
    inside = np.clip(whole, float(limits.min), np.nextafter(float(limits.max) + 1, 0))
    return np.where(whole >= float(limits.max), limits.max, inside.astype(dtype)).astype(dtype)


def countable(values: Array, valid: Array | None, nodata: float | None) -> Array:
    """Return the flat values that a measurement counts: finite, valid, not ``nodata``."""
    keep = np.ones(values.shape, bool) if valid is None else valid != 0
    if values.dtype.kind == "f":
        keep &= np.isfinite(values)
    if nodata is not None:
        keep &= values != native(nodata, values.dtype)
    return values[keep]


def histogram(
    values: Array, valid: Array | None, nodata: float | None, edges: tuple[float, float, int]
) -> NDArray[np.int64]:
    """Return the counts of ``values`` (rows, columns) in ``edges`` = (low, high, bins)."""
    low, high, bins = edges
    kept = countable(values, valid, nodata).astype(np.float64)
    return np.histogram(kept, bins, (low, high))[0].astype(np.int64)


def png_filter(pixels: NDArray[np.uint8]) -> bytes:
    """Return the filtered stream of (rows, columns, samples): per row a filter byte and the row.

    The filter with the least sum of absolute differences (bytes taken as signed) wins, the
    first of equals: PNG specification, section 12.7. In rows of 1024 bytes and more, but the first, only
    the first 128 of every 256 bytes behind the first pixel are summed, where all of them are there.
    """
    rows, columns, samples = pixels.shape
    counted = np.ones(columns * samples, bool)
    if len(counted) >= 1024:
        place = np.arange(len(counted)) - samples
        part = place - place % 256
        counted = (place >= 0) & (place < part + 128) & (part + 128 + samples <= len(counted))
    flat = pixels.reshape(rows, columns * samples).astype(np.int64)
    above = np.zeros(columns * samples, np.int64)
    stream = bytearray()
    for number, row in enumerate(flat):
        left, corner = np.zeros_like(row), np.zeros_like(row)
        left[samples:], corner[samples:] = row[:-samples], above[:-samples]
        guesses = (np.zeros_like(row), left, above, (left + above) // 2, paeth(left, above, corner))
        filtered = [((row - guess) & 255).astype(np.uint8) for guess in guesses]
        signed = [each.view(np.int8).astype(np.int64) for each in filtered]
        costs = [int(np.abs(each[counted] if number else each).sum()) for each in signed]
        best = int(np.argmin(costs))
        stream += bytes([best]) + filtered[best].tobytes()
        above = row
    return bytes(stream)


def paeth(left: Array, above: Array, corner: Array) -> Array:
    """Return the Paeth predictor: the neighbour nearest to left + above - corner."""
    guess = left + above - corner
    a, b, c = abs(guess - left), abs(guess - above), abs(guess - corner)
    return np.where((a <= b) & (a <= c), left, np.where(b <= c, above, corner))
