"""Regions as large_image's API names them: bounds in many units, resolved against an image."""

from __future__ import annotations

from dataclasses import dataclass, field

from gputiles.errors import BadRequest
from gputiles.geometry import Rect, ceil_div
from gputiles.image import ImageInfo
from gputiles.request import RegionRequest, View

MILLIMETRES = {"nm": 1e-6, "um": 1e-3, "mm": 1.0, "m": 1e3, "km": 1e6}
SYNONYMS = {
    "base": "base_pixels", "base_pixel": "base_pixels", "mag_pixels": "pixels", "mag_pixel": "pixels",
    "magnification_pixels": "pixels", "pixel": "pixels", "fractions": "fraction", "µm": "um", "micron": "um",
    "microns": "um", "millimeter": "mm", "millimeters": "mm",
}  # fmt: skip
UNITS = ("base_pixels", "pixels", *MILLIMETRES, "fraction")
MOST_SCALE = 10**9  # times that a pixel of the output may be larger, or smaller, than the image's
ASPECT = 16  # a side that is not given may be this many times the other


@dataclass(frozen=True, slots=True)
class RegionQuery:
    """What was asked for; None is what was left out.

    ``left`` … ``bottom`` are in ``units``, negative ones counted from the other end;
    ``region_width`` and ``region_height`` in ``size_units``. ``width`` and ``height`` limit
    the output, its aspect kept, which otherwise has the scale of ``magnification``, or of
    ``mm_x`` and ``mm_y`` millimetres a pixel; ``exact`` allows only scales that are a level.
    """

    left: float | None = None
    top: float | None = None
    right: float | None = None
    bottom: float | None = None
    region_width: float | None = None
    region_height: float | None = None
    units: str = "base_pixels"
    size_units: str | None = None
    width: int | None = None
    height: int | None = None
    magnification: float | None = None
    mm_x: float | None = None
    mm_y: float | None = None
    exact: bool = False
    view: View = field(default_factory=View)


def parse_units(name: str, text: str) -> str:
    """Return the unit that ``text`` means; ``name`` is the parameter's."""
    unit = SYNONYMS.get(text.lower(), text.lower())
    if unit not in UNITS:
        raise BadRequest(f"{name}: expected one of {', '.join(UNITS)}; got {text[:64]!r}")
    return unit


def resolve(query: RegionQuery, info: ImageInfo) -> RegionRequest:
    """Return the region in whole pixels of full resolution and the size that it is wanted in.

    The region is cropped to the image. Raises BadRequest where nothing is left of it, or the
    image lacks the physical size or the magnification that is needed.
    """
    scale = _scale(query, info)
    region = _bounds(query, info, scale)
    if query.width is not None or query.height is not None:
        most_width = query.width or ASPECT * (query.height or 1)
        most_height = query.height or ASPECT * (query.width or 1)
        width, height = _inside(region, most_width, most_height)
    else:
        width, height = (max(1, round(side / by)) for side, by in zip(_size(region), scale, strict=True))
    if query.exact and not _is_level(scale, info):
        raise BadRequest(f"exact: no level of the image has this scale; it is {scale[0]:g} of the finest")
    return RegionRequest(region, width, height, query.view)


def first_pixel(query: RegionQuery, info: ImageInfo) -> tuple[float, float]:
    """Return the full-resolution position of the query's ``left`` and ``top``, wherever it lies."""
    across, down = _unit(query.units, info, _scale(query, info))
    return (query.left or 0) * across, (query.top or 0) * down


def _size(region: Rect) -> tuple[int, int]:
    return region.width, region.height


def _inside(region: Rect, width: int, height: int) -> tuple[int, int]:
    """Return the largest size of the region's aspect within the given one; regions may grow."""
    if region.width * height >= region.height * width:
        return width, max(1, region.height * width // region.width)
    return max(1, region.width * height // region.height), height


def _scale(query: RegionQuery, info: ImageInfo) -> tuple[float, float]:
    """Return how many full-resolution pixels a wanted pixel is wide and high."""
    scale = _wanted_scale(query, info)
    if not all(1 / MOST_SCALE <= by <= MOST_SCALE for by in scale):
        asked = "mm_x and mm_y" if query.magnification is None else "magnification"
        raise BadRequest(
            f"{asked}: expected pixels of at least 1/{MOST_SCALE} and at most {MOST_SCALE} "
            f"of the image's own; got {scale[0]:g} x {scale[1]:g}"
        )
    return scale


def _wanted_scale(query: RegionQuery, info: ImageInfo) -> tuple[float, float]:
    if query.magnification is not None:
        if not info.magnification:
            raise BadRequest("magnification: the image does not say its own")
        scale = info.magnification / query.magnification
        return scale, scale
    if query.mm_x is not None or query.mm_y is not None:
        across = query.mm_x if query.mm_x is not None else query.mm_y
        down = query.mm_y if query.mm_y is not None else query.mm_x
        own = _pixel_size(info)
        return (across or 1) / own[0], (down or 1) / own[1]
    return 1.0, 1.0


def _pixel_size(info: ImageInfo) -> tuple[float, float]:
    if not info.mm_x or not info.mm_y:
        raise BadRequest("units: the image does not say the physical size of its pixels")
    return info.mm_x, info.mm_y


def _is_level(scale: tuple[float, float], info: ImageInfo) -> bool:
    return any(scale == (1 << level, 1 << level) for level in range(info.levels))


def _bounds(query: RegionQuery, info: ImageInfo, scale: tuple[float, float]) -> Rect:
    """Return the region in whole full-resolution pixels, inside the image."""
    across, down = _unit(query.units, info, scale)
    wide, high = _unit(query.size_units or query.units, info, scale)
    left, right = _span(query.left, query.right, query.region_width, across, wide, info.width)
    top, bottom = _span(query.top, query.bottom, query.region_height, down, high, info.height)
    if right <= left or bottom <= top:
        raise BadRequest(
            f"region: nothing of the image is in it; from ({left}, {top}) to ({right}, {bottom}) "
            f"of {info.width} x {info.height} pixels"
        )
    return Rect(left, top, right - left, bottom - top)


def _unit(units: str, info: ImageInfo, scale: tuple[float, float]) -> tuple[float, float]:
    """Return how many full-resolution pixels a unit is across and down."""
    if units == "base_pixels":
        return 1.0, 1.0
    if units == "pixels":
        return scale
    if units == "fraction":
        return float(info.width), float(info.height)
    mm_x, mm_y = _pixel_size(info)
    return MILLIMETRES[units] / mm_x, MILLIMETRES[units] / mm_y


def _span(
    begin: float | None, end: float | None, length: float | None, unit: float, length_unit: float, size: int
) -> tuple[int, int]:
    """Return the (first, last + 1) pixel on one axis; a length wins over an end."""
    first = None if begin is None else _from_start(begin * unit, size)
    last = None if end is None else _from_start(end * unit, size)
    if length is not None and first is None and last is not None:
        first = last - length * length_unit
    elif length is not None:
        last = (first or 0) + length * length_unit
    first, last = first or 0, size if last is None else last
    return tuple(round(min(max(edge, 0), size)) for edge in (first, last))  # type: ignore[return-value]


def _from_start(value: float, size: int) -> float:
    return value + size if value < 0 else value


def fit(width: int, height: int, most_width: int, most_height: int) -> tuple[int, int]:
    """Return the largest (width, height) of the same aspect within the given one; never enlarged."""
    if width * most_height >= height * most_width:
        inside = min(most_width, width)
        return inside, max(1, height * inside // width)
    inside = min(most_height, height)
    return max(1, width * inside // height), inside


def fitted(info: ImageInfo, width: int, height: int, view: View) -> RegionRequest:
    """Return the whole image within ``width`` × ``height`` pixels, its aspect kept, never enlarged."""
    return RegionRequest(info.whole, *fit(info.width, info.height, width, height), view)


def level_region(info: ImageInfo, request: RegionRequest) -> tuple[int, Rect]:
    """Return the coarsest level that has the pixels which a region needs, and the region on it."""
    region = request.region
    for z in range(info.levels):
        scale = 1 << (info.levels - 1 - z)
        columns = _whole(region.x, region.right, scale, info.width)
        rows = _whole(region.y, region.bottom, scale, info.height)
        if scale == 1 or (columns >= request.width and rows >= request.height):
            break
    return z, region.covered_by(scale, scale)


def _whole(first: int, end: int, scale: int, size: int) -> int:
    """Return how many pixels of a level lie wholly in a region, on one axis; the last may be cut."""
    return (ceil_div(end, scale) if end == size else end // scale) - ceil_div(first, scale)


def cells_of(info: ImageInfo, rect: Rect) -> Rect:
    """Return the tiles that cover a rectangle of a level."""
    return rect.covered_by(info.tile_width, info.tile_height)
