"""The ImageInfo of a TIFF layout: grid, colours, alpha, palette, nodata, reduction."""

from __future__ import annotations

import itertools
import math

import numpy as np
from numpy.typing import NDArray

from gputiles import icc
from gputiles.errors import Damaged, LimitExceeded
from gputiles.geometry import Grid
from gputiles.image import Alpha, Colour, Frame, ImageInfo, Reduction
from gputiles.sources.layout import Layout
from gputiles.sources.page import COMPLEX, LOGARITHMIC, Page, Photometric

_TILE = range(128, 2049)
_LARGE = 2048  # a side beyond which made-up tiles are 512 pixels, not 256
MOST_TILE = 1 << 28  # bytes of a decoded tile
_NODATA = 42113
_ICC = 34675


def usual_tile(size: tuple[int, int]) -> int:
    """Return the side of the tiles of an image of (width, height) pixels that has none of its own."""
    return 512 if max(size) > _LARGE else 256


def tile_of(size: tuple[int, int], own: tuple[int, int]) -> tuple[int, int]:
    """Return the (width, height) of an image's tiles: its ``own`` where they are of a usual size."""
    usual = usual_tile(size)
    return own if own[0] in _TILE and own[1] in _TILE else (usual, usual)


def choose_grid(page: Page) -> Grid:
    """Return the grid of a page: its own tiles where they are of a usual size, else 256 or 512.

    Raises LimitExceeded where a tile would take too much memory.
    """
    width, height = tile_of(page.size, (page.chunk_width, page.chunk_height) if page.tiled else (0, 0))
    size = min(width, page.width) * min(height, page.height) * page.decoded_samples * page.dtype.itemsize
    if size > MOST_TILE:
        raise LimitExceeded(
            f"{page.source.name}: a tile of {width}x{height} pixels with {page.decoded_samples}"
            f" {page.dtype} samples takes {size} bytes; most {MOST_TILE}"
        )
    return Grid(page.width, page.height, width, height)


def read_info(layout: Layout, grid: Grid, stored: tuple[bool, ...]) -> ImageInfo:
    """Return what is known of an image without decoding it."""
    page, warnings = layout.lead, list(layout.warnings)
    palette = page.colour is Colour.PALETTE and not layout.lut_is_hint
    nodata = _nodata(page, warnings)
    colormap = None if layout.lut_is_hint else _colormap(page, warnings)
    warnings += _otherwise(page)
    profile = _profile(page, _colour(page, palette), colormap is not None, warnings)
    return ImageInfo(
        grid=grid,
        stored=stored,
        dtype=page.dtype,
        samples=page.decoded_samples,
        colour=_colour(page, palette),
        alpha=page.alpha,
        frames=frames_of(layout.axes),
        axes=layout.axes,
        channels=layout.channels,
        mm_x=layout.mm_x,
        mm_y=layout.mm_y,
        magnification=layout.magnification,
        significant_bits=_significant_bits(layout),
        nodata=nodata,
        reduction=Reduction.NEAREST if palette or _is_label(page) else Reduction.MEAN,
        colormap=colormap,
        missing=frozenset(index for index, frame in enumerate(layout.levels[0]) if frame is None),
        warnings=tuple(dict.fromkeys(warnings)),
        format=layout.format,
        associated=tuple(sorted(layout.associated)),
        profile=profile,
    )


def _otherwise(page: Page) -> list[str]:
    """Return warnings of what is shown otherwise than its file means it."""
    told = {
        "complex samples are shown as their magnitudes": page.kind in COMPLEX,
        "logarithms of light are shown in 8 bits: what is brighter than 1 is white": (
            page.photometric in LOGARITHMIC
        ),
        turned(page.orientation): page.orientation != 1,
        "colours are multiplied with alpha and served so: planes are decoded one by one": (
            page.alpha is Alpha.PREMULTIPLIED
        ),
    }
    return [warning for warning, holds in told.items() if holds]


def turned(orientation: int) -> str:
    """Return the warning about an image that wants to be turned."""
    return f"orientation {orientation} is ignored: the image is served as it is stored"


def has_profile(page: Page) -> bool:
    """Whether the page carries an ICC profile other than sRGB's."""
    try:
        data = page.tags.raw(_ICC)
    except (Damaged, LimitExceeded):
        return True
    return data is not None and icc.judge(data, icc.SPACES[page.colour]) != icc.Verdict()


def _profile(page: Page, colour: Colour, mapped: bool, warnings: list[str]) -> bytes | None:
    """Return the page's ICC profile if it is to be applied; a warning where it cannot be."""
    try:
        data = page.tags.raw(_ICC)
    except (Damaged, LimitExceeded) as error:
        warnings.append(f"the ICC profile is not applied: it cannot be read: {error}")
        return None
    if data is None:
        return None
    if page.photometric is Photometric.CMYK:
        warnings.append("the ICC profile is not applied: it is of inks, which are mixed without it")
        return None
    return usable_profile(data, colour, _unfit(page, colour, mapped), warnings)


def usable_profile(data: bytes, colour: Colour, unfit: str, warnings: list[str]) -> bytes | None:
    """Return a profile if it is to be applied; ``unfit`` says what about the samples forbids it.

    Adds a warning where it cannot be applied.
    """
    verdict = icc.judge(data, icc.SPACES[colour])
    problem = verdict.problem or (unfit if verdict.changes else "")
    if problem:
        warnings.append(f"the ICC profile is not applied: {problem}")
    return icc.shared(data) if verdict.changes and not problem else None


def _unfit(page: Page, colour: Colour, mapped: bool) -> str:
    """Return why the samples of a page cannot go through a profile; empty where they can."""
    if page.dtype not in (np.uint8, np.uint16):
        return f"the samples are {page.dtype}"
    if colour is Colour.GREY and mapped:
        return "the greys have a map of their own"
    single = page.decoded_samples - (page.alpha is not Alpha.NONE) == 1
    return "the samples are independent" if colour is Colour.GREY and not single else ""


def _colour(page: Page, palette: bool) -> Colour:
    """Return what samples mean, where a palette may be a hint only."""
    return Colour.GREY if page.colour is Colour.PALETTE and not palette else page.colour


def frames_of(axes: tuple[tuple[str, int], ...]) -> tuple[Frame, ...]:
    """Return the frames on ``axes``, which are fastest first."""
    names = [name for name, _ in reversed(axes)]
    positions = itertools.product(*(range(length) for _, length in reversed(axes)))
    return tuple(Frame(tuple(zip(names, position, strict=True))[::-1]) for position in positions)


def _significant_bits(layout: Layout) -> int | None:
    """Return the bits that values use: as told, or of a width that is no type's own."""
    bits, page = layout.significant_bits, layout.lead
    if bits is None and page.kind == "u" and 1 < page.bits < 8 * page.dtype.itemsize:
        bits = page.bits
    return bits if bits is not None and page.kind in "ui" and bits <= 8 * page.dtype.itemsize else None


def _is_label(page: Page) -> bool:
    """Whether samples look like object numbers: single integers wider than detectors are."""
    return page.samples == 1 and page.dtype.kind in "ui" and page.dtype.itemsize >= 4


def _nodata(page: Page, warnings: list[str]) -> float | None:
    text = page.tags.text(_NODATA).strip()
    if not text:
        return None
    if page.kind in COMPLEX:
        warnings.append("nodata of complex samples is ignored")
        return None
    try:
        value = float(text)
    except ValueError:
        warnings.append(f"nodata {text[:40]!r} is not a number; ignored")
        return None
    if page.dtype.kind == "f":
        with np.errstate(over="ignore"):  # half floats are widened: the value as well
            value = float(np.float16(value)) if page.bits == 16 else value
        return None if math.isnan(value) else value  # NaN is no data in any case
    limits = np.iinfo(page.dtype.str)
    if not math.isfinite(value) or value != int(value) or not limits.min <= value <= limits.max:
        warnings.append(f"nodata {text[:40]} is not a {page.dtype} value; ignored")
        return None
    return value


def _colormap(page: Page, warnings: list[str]) -> NDArray[np.uint8] | None:
    inverted = page.photometric is Photometric.WHITE_IS_ZERO
    single = page.decoded_samples - (page.alpha is not Alpha.NONE) == 1
    mapped = page.kind == "u" and page.bits <= 16 and single
    if page.colour is not Colour.PALETTE and not (mapped and (inverted or page.bits == 1)):
        if inverted:
            what = f"{page.bits}-bit samples" if single else f"{page.samples} samples"
            warnings.append(f"WhiteIsZero is ignored for {what}")
        return None
    if page.alpha is not Alpha.NONE:
        warnings.append("alpha is ignored: the image is shown through a map of its values")
    if page.colour is Colour.PALETTE:
        return _palette(page)
    ramp = np.rint(np.linspace(0, 255, 1 << page.bits)).astype(np.uint8)
    return np.repeat((ramp[::-1] if inverted else ramp)[:, np.newaxis], 3, axis=1)


def _palette(page: Page) -> NDArray[np.uint8]:
    """Return tag 320 as (n, 3); some writers store 8-bit values in the 16-bit map."""
    values = page.tags.numbers(320)
    entries = 1 << page.bits
    if values is None or len(values) < 3 * entries or page.bits > 16 or page.kind != "u":
        raise Damaged(f"{page.source.name}: a palette image whose colour map (tag 320) is missing or short")
    table = values[: 3 * entries].astype(np.uint32).reshape(3, entries).T
    return np.ascontiguousarray(table if table.max() < 256 else table >> 8).astype(np.uint8)
