"""The IIIF Image API, 2.1 and 3.0: what its paths mean for an image, and its information document.

https://iiif.io/api/image/3.0/ and https://iiif.io/api/image/2.1/; level 2 of both.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, replace
from typing import Any

from gputiles import look, style
from gputiles.encoded import Encoding, Format, Tone, Turn
from gputiles.errors import BadRequest
from gputiles.geometry import Rect, ceil_div
from gputiles.image import ImageInfo
from gputiles.jfif import LONGEST_SIDE
from gputiles.parameters import choice
from gputiles.request import RegionRequest, View

FORMATS = {"jpg": Format.JPEG, "png": Format.PNG, "webp": Format.WEBP, "tif": Format.TIFF}
TONES = {"default": Tone.COLOUR, "color": Tone.COLOUR, "gray": Tone.GREY, "bitonal": Tone.BITONAL}
FEATURES = (
    "baseUriRedirect", "canonicalLinkHeader", "cors", "jsonldMediaType", "mirroring", "profileLinkHeader",
    "regionByPct", "regionByPx", "regionSquare", "rotationBy90s", "sizeAboveFull", "sizeByConfinedWh",
    "sizeByDistortedWh", "sizeByForcedWh", "sizeByH", "sizeByPct", "sizeByW", "sizeByWh",
)  # fmt: skip
BEYOND_LEVEL_2 = ("canonicalLinkHeader", "mirroring", "profileLinkHeader", "sizeUpscaling")
SETTINGS = ("style", "frame")  # what an identifier may say of the view


@dataclass(frozen=True, slots=True)
class Parts:
    """The parts of an image request's path, as they are written."""

    region: str
    size: str
    rotation: str
    quality: str
    format: str


@dataclass(frozen=True, slots=True)
class Limits:
    """The largest picture: its longest side and its area, in pixels."""

    area: int
    side: int = LONGEST_SIDE

    def allow(self, width: int, height: int) -> bool:
        """Say whether a picture may have these sides."""
        return max(width, height) <= self.side and width * height <= self.area

    def fit(self, width: int, height: int) -> tuple[int, int]:
        """Return the largest allowed size of the aspect of (width, height), larger ones too."""
        if width < height:
            return self.fit(height, width)[::-1]
        across = min(self.side, self.area, max(1, math.isqrt(self.area * width // height)))
        return across, max(1, across * height // width)


def limits(info: ImageInfo, view: View, most_pixels: int, most_bytes: int) -> Limits:
    """Return how large pictures of a view may be: ``most_bytes`` holds the values they are made of.

    Raises NotFound where the view's frame does not exist, BadStyle where its style does not fit.
    """
    style.frames_to_measure(view.style, info, view.frame, single=view.single)  # raises
    frames = min(look.MOST_CHANNELS, len(info.frames))
    if view.style is not None:
        frames = len({frame for frame, _ in style.places(view.style, info, view.frame)})
    values = max(1, frames) * info.samples * info.dtype.itemsize
    return Limits(min(most_pixels, most_bytes // values))


def parse_identifier(text: str) -> tuple[str, dict[str, str]]:
    """Return the item that an identifier names, and the parameters that it carries.

    A ``;`` inside of a style is part of it.
    """
    item, *settings = re.split(rf";(?=(?:{'|'.join(SETTINGS)})=)", text)
    given = dict(setting.split("=", 1) for setting in settings)
    if ";" in item or len(given) < len(settings):
        raise BadRequest(
            f"identifier: expected an id and after ';' {' or '.join(SETTINGS)}, once; got {text[:64]!r}"
        )
    return item, given


def parse(parts: Parts, info: ImageInfo, view: View, version: int, most: Limits) -> RegionRequest:
    """Return what an image request asks for.

    Raises BadRequest, naming the part, where it is not of the API's level 2 or more than ``most``.
    """
    region = parse_region(parts.region, info)
    width, height = parse_size(parts.size, region, info, version, most)
    turn = replace(parse_rotation(parts.rotation), tone=choice(TONES, "quality", parts.quality))
    format = choice(FORMATS, "format", parts.format)
    encoding = Encoding(format, turn=turn, shown=format.holds_values)  # all formats show the same
    return RegionRequest(region, width, height, replace(view, encoding=encoding))


def parse_region(text: str, info: ImageInfo) -> Rect:
    """Return the pixels that a region means: ``full``, ``square``, ``x,y,w,h`` or ``pct:…``."""
    if text == "full":
        return info.whole
    if text == "square":
        side = min(info.width, info.height)
        return Rect((info.width - side) // 2, (info.height - side) // 2, side, side)
    share = text.startswith("pct:")
    numbers = [_number("region", part, whole=not share) for part in text.removeprefix("pct:").split(",")]
    if len(numbers) != 4:
        raise BadRequest(f"region: expected full, square, x,y,w,h or pct:x,y,w,h; got {text[:64]!r}")
    if share:
        sides = (info.width, info.height, info.width, info.height)
        numbers = [number * side / 100 for number, side in zip(numbers, sides, strict=True)]
    x, y, width, height = (round(number) for number in numbers)
    inside = Rect(x, y, width, height).intersect(info.whole)
    if inside is None:
        raise BadRequest(f"region: nothing of the image is in {text[:64]!r}")
    return inside


def parse_size(text: str, region: Rect, info: ImageInfo, version: int, most: Limits) -> tuple[int, int]:
    """Return the (width, height) that a size means for a region.

    Version 3 enlarges after ``^`` only. Where its text and its public validator differ, the
    validator counts: ``!w,h`` around a smaller region is refused (the text: answered in the
    region's own size), and ``^max`` enlarges nothing (the text: to the largest allowed).
    """
    enlarge = text.startswith("^") or version == 2
    plain = text.removeprefix("^") if version > 2 else text
    if plain == "max" or (plain == "full" and version == 2):
        return _largest(region, most)
    confined = plain.startswith("!")
    width, height = _confined(plain, region, most) if confined else _sides(plain, region, info)
    if not enlarge and (width > region.width or height > region.height):
        raise BadRequest(
            f"size: {text[:64]!r} is more than the region's pixels; write ^ before it to enlarge"
        )
    if not most.allow(width, height):
        raise BadRequest(
            f"size: at most {most.side} pixels on a side and {most.area} in all; got {text[:64]!r}"
        )
    return width, height


def _largest(region: Rect, most: Limits) -> tuple[int, int]:
    """Return the largest size that a region has without being enlarged."""
    own = region.width, region.height
    return own if most.allow(*own) else most.fit(*own)


def _confined(text: str, region: Rect, most: Limits) -> tuple[int, int]:
    """Return the largest size of the region's aspect inside of ``!w,h``, and of what is allowed."""
    width, height = _pair(text.removeprefix("!"))
    if not (width and height):
        raise BadRequest(f"size: expected both sides after '!'; got {text[:64]!r}")
    allowed = most.fit(region.width, region.height)
    width, height = min(width, allowed[0]), min(height, allowed[1])
    if width * region.height <= height * region.width:
        return width, min(height, _scaled(region.height, width, region.width))
    return min(width, _scaled(region.width, height, region.height)), height


def _sides(text: str, region: Rect, info: ImageInfo) -> tuple[int, int]:
    """Return the sides that ``w,h``, ``w,``, ``,h`` or ``pct:n`` mean."""
    if text.startswith("pct:"):
        share = _number("size", text.removeprefix("pct:")) / 100
        width, height = round(region.width * share), round(region.height * share)
        if min(width, height) < 1:
            raise BadRequest(f"size: expected at least one pixel; got {text[:64]!r}")
        return width, height
    across, down = _pair(text)
    if across and down:
        return across, down
    if across:
        return _of_width(across, region, info)
    heights = {size[1]: size for size in reversed(level_sizes(region, info))}
    return heights.get(down) or (_scaled(region.width, down, region.height), down)


def _of_width(across: int, region: Rect, info: ImageInfo) -> tuple[int, int]:
    """Return the size that ``w,`` means, which is how version 2 asks for tiles.

    A tile one pixel wide is so at several levels: it is of the finest at which it is no
    higher than a tile.
    """
    sizes = [size for size in level_sizes(region, info) if size[0] == across]
    sizes.sort(key=lambda size: size[1] > info.tile_height)
    return sizes[0] if sizes else (across, _scaled(region.height, across, region.width))


def level_sizes(region: Rect, info: ImageInfo) -> list[tuple[int, int]]:
    """Return the sizes of a region at those levels of whose whole pixels it consists, finest first.

    A tile at the rim has the size of its pixels there: the aspect of the region's would round
    its height to another, by up to the scale factor.
    """
    sizes = []
    for scale in (1 << level for level in range(info.levels)):
        across = _is_whole(region.x, region.right, info.width, scale)
        if not (across and _is_whole(region.y, region.bottom, info.height, scale)):
            break
        sizes.append((ceil_div(region.width, scale), ceil_div(region.height, scale)))
    return sizes


def _is_whole(first: int, end: int, size: int, scale: int) -> bool:
    """Say whether pixels of a level, the last of which may be cut, make up a span on one axis."""
    return first % scale == 0 and (end == size or end % scale == 0)


def _pair(text: str) -> tuple[int, int]:
    """Return the numbers of ``w,h``, ``w,`` or ``,h``, all above 0; 0 is what is left out."""
    across, comma, down = text.partition(",")
    if not comma or not (across or down):
        raise BadRequest(f"size: expected max, w,h with one or both, !w,h or pct:n; got {text[:64]!r}")
    sides = [int(_number("size", side, whole=True)) for side in (across, down) if side]
    if min(sides) < 1:
        raise BadRequest(f"size: expected at least one pixel; got {text[:64]!r}")
    return sides[0] if across else 0, sides[-1] if down else 0


def _scaled(side: int, to: int, of: int) -> int:
    """Return ``side`` · ``to`` / ``of`` rounded, at least 1."""
    return max(1, (2 * side * to + of) // (2 * of))


def parse_rotation(text: str) -> Turn:
    """Return the turn: an optional ``!`` that mirrors, and 0, 90, 180 or 270 degrees clockwise."""
    degrees = _number("rotation", text.removeprefix("!"))
    if degrees not in (0, 90, 180, 270, 360):
        raise BadRequest(f"rotation: expected 0, 90, 180 or 270; got {text[:64]!r}")
    return Turn(int(degrees) // 90 % 4, text.startswith("!"))


def _number(name: str, text: str, *, whole: bool = False) -> float:
    plain = text.replace(".", "", 0 if whole else 1)
    if not plain.isascii() or not plain.isdigit() or len(text) > 30:
        raise BadRequest(f"{name}: expected {'an integer' if whole else 'a number'}; got {text[:64]!r}")
    return float(text)


def canonical(wanted: RegionRequest, info: ImageInfo, parts: Parts, version: int, most: Limits) -> str:
    """Return the canonical path of a request: region/size/rotation/quality.format."""
    region, turn = wanted.region, wanted.view.encoding.turn
    full = region == info.whole
    place = "full" if full else f"{region.x},{region.y},{region.width},{region.height}"
    size = _canonical_size(wanted, info, version, most)
    quality = "default" if turn.tone is Tone.COLOUR else parts.quality
    return f"{place}/{size}/{'!' if turn.mirror else ''}{turn.quarter * 90}/{quality}.{parts.format}"


def _canonical_size(wanted: RegionRequest, info: ImageInfo, version: int, most: Limits) -> str:
    region, size = wanted.region, (wanted.width, wanted.height)
    if size == _largest(region, most):
        return "full" if version == 2 else "max"
    if version == 2:
        kept = _sides(f"{wanted.width},", region, info)
        return f"{wanted.width}," if kept == size else f"{wanted.width},{wanted.height}"
    larger = wanted.width > region.width or wanted.height > region.height
    return f"{'^' if larger else ''}{wanted.width},{wanted.height}"


def describe(info: ImageInfo, base: str, version: int, most: Limits) -> dict[str, Any]:
    """Return the information document of an image at the address ``base``."""
    sizes = [info.grid.size(z) for z in range(info.levels)]
    factors = [1 << power for power in range(info.levels)]
    common = {
        "protocol": "http://iiif.io/api/image",
        "width": info.width,
        "height": info.height,
        "sizes": [{"width": width, "height": height} for width, height in sizes if most.allow(width, height)],
        "tiles": [{"width": info.tile_width, "height": info.tile_height, "scaleFactors": factors}],
    }
    largest = {"maxWidth": most.side, "maxHeight": most.side, "maxArea": most.area}
    if version == 2:
        more = {"formats": [*FORMATS], "qualities": [*TONES], "supports": [*FEATURES], **largest}
        head = {"@context": context(version), "@id": base}
        return {**head, **common, "profile": ["http://iiif.io/api/image/2/level2.json", more]}
    return {
        "@context": context(version),
        "id": base,
        "type": "ImageService3",
        **common,
        "profile": "level2",
        **largest,
        "preferredFormats": ["jpg", "png"],
        "extraFormats": ["tif"],
        "extraQualities": ["color", "gray", "bitonal"],
        "extraFeatures": [*BEYOND_LEVEL_2],
    }


def context(version: int) -> str:
    """Return the address of the JSON-LD context of the information documents."""
    return f"http://iiif.io/api/image/{version}/context.json"
