"""The IIIF Image API, 2.1 and 3.0: what its paths mean for an image, and its information document.

https://iiif.io/api/image/3.0/ and https://iiif.io/api/image/2.1/; level 2 of both.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

from gputiles.encoded import Encoding, Format, Tone, Turn
from gputiles.errors import BadRequest
from gputiles.geometry import Rect
from gputiles.image import ImageInfo
from gputiles.request import RegionRequest, View

FORMATS = {"jpg": Format.JPEG, "png": Format.PNG, "tif": Format.TIFF}
TONES = {"default": Tone.COLOUR, "color": Tone.COLOUR, "gray": Tone.GREY, "bitonal": Tone.BITONAL}
FEATURES = (
    "baseUriRedirect", "canonicalLinkHeader", "cors", "jsonldMediaType", "mirroring", "profileLinkHeader",
    "regionByPct", "regionByPx", "regionSquare", "rotationBy90s", "sizeByConfinedWh", "sizeByH", "sizeByPct",
    "sizeByW", "sizeByWh",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Parts:
    """The parts of an image request's path, as they are written."""

    region: str
    size: str
    rotation: str
    quality: str
    format: str


def parse(parts: Parts, info: ImageInfo, view: View, version: int, most: int) -> RegionRequest:
    """Return what an image request asks for; ``most`` pixels may be asked for.

    Raises BadRequest, naming the part, where it is not of the API's level 2.
    """
    region = parse_region(parts.region, info)
    width, height = parse_size(parts.size, region, version, most)
    turn = replace(parse_rotation(parts.rotation), tone=_word(TONES, "quality", parts.quality))
    format = _word(FORMATS, "format", parts.format)
    return RegionRequest(region, width, height, replace(view, encoding=Encoding(format, turn=turn)))


def _word(words: dict[str, Any], name: str, text: str) -> Any:
    if text not in words:
        raise BadRequest(f"{name}: expected one of {', '.join(words)}; got {text[:64]!r}")
    return words[text]


def parse_region(text: str, info: ImageInfo) -> Rect:
    """Return the pixels that a region means: ``full``, ``square``, ``x,y,w,h`` or ``pct:…``."""
    if text == "full":
        return Rect(0, 0, info.width, info.height)
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
    inside = Rect(x, y, width, height).intersect(Rect(0, 0, info.width, info.height))
    if inside is None:
        raise BadRequest(f"region: nothing of the image is in {text[:64]!r}")
    return inside


def parse_size(text: str, region: Rect, version: int, most: int) -> tuple[int, int]:
    """Return the (width, height) that a size means for a region.

    Version 3 allows enlarging with ``^`` only; version 2 always does.
    """
    enlarge = text.startswith("^") or version == 2
    text = text.removeprefix("^") if version > 2 else text
    if text == "max" or (text == "full" and version == 2):
        # ^max too: to enlarge whatever is asked for to the largest area would serve nobody
        scale = min(1.0, math.sqrt(most / (region.width * region.height)))
        return max(1, int(region.width * scale)), max(1, int(region.height * scale))
    width, height = _sides(text, region)
    if not enlarge and (width > region.width or height > region.height):
        raise BadRequest(
            f"size: {text[:64]!r} is more than the region's pixels; write ^ before it to enlarge"
        )
    return width, height


def _sides(text: str, region: Rect) -> tuple[int, int]:
    if text.startswith("pct:"):
        share = _number("size", text.removeprefix("pct:")) / 100
        return _positive(text, round(region.width * share), round(region.height * share))
    confined = text.startswith("!")
    across, comma, down = text.removeprefix("!").partition(",")
    if not comma or not (across or down) or (confined and not (across and down)):
        raise BadRequest(f"size: expected max, w,h with one or both, !w,h or pct:n; got {text[:64]!r}")
    width = _number("size", across, whole=True) if across else None
    height = _number("size", down, whole=True) if down else None
    _positive(text, *(int(side) for side in (width, height) if side is not None))
    if confined or width is None or height is None:
        scale = min(
            side / full for side, full in ((width, region.width), (height, region.height)) if side is not None
        )
        return max(1, round(region.width * scale)), max(1, round(region.height * scale))
    return int(width), int(height)


def _positive(text: str, *sides: int) -> tuple[int, int]:
    if min(sides) < 1:
        raise BadRequest(f"size: expected at least one pixel; got {text[:64]!r}")
    return sides[0], sides[-1]


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


def canonical(wanted: RegionRequest, info: ImageInfo, parts: Parts, version: int) -> str:
    """Return the canonical path of a request: region/size/rotation/quality.format."""
    region, turn = wanted.region, wanted.view.encoding.turn
    full = region == Rect(0, 0, info.width, info.height)
    place = "full" if full else f"{region.x},{region.y},{region.width},{region.height}"
    as_is = (wanted.width, wanted.height) == (region.width, region.height)
    size = _canonical_size(wanted, version, as_is=as_is)
    quality = "default" if turn.tone is Tone.COLOUR else parts.quality
    return f"{place}/{size}/{'!' if turn.mirror else ''}{turn.quarter * 90}/{quality}.{parts.format}"


def _canonical_size(wanted: RegionRequest, version: int, *, as_is: bool) -> str:
    if as_is:
        return "full" if version == 2 else "max"
    if version == 2:
        kept = max(1, round(wanted.region.height * wanted.width / wanted.region.width))
        return f"{wanted.width}," if kept == wanted.height else f"{wanted.width},{wanted.height}"
    larger = wanted.width > wanted.region.width or wanted.height > wanted.region.height
    return f"{'^' if larger else ''}{wanted.width},{wanted.height}"


def describe(info: ImageInfo, base: str, version: int, most: int) -> dict[str, Any]:
    """Return the information document of an image at the address ``base``."""
    factors = [1 << power for power in range(info.levels)]
    sizes = [dict(zip(("width", "height"), info.grid.size(z), strict=True)) for z in range(info.levels)]
    tile = {"width": info.tile_width, "height": info.tile_height, "scaleFactors": factors}
    common = {
        "protocol": "http://iiif.io/api/image",
        "width": info.width,
        "height": info.height,
        "sizes": [size for size in sizes if size["width"] * size["height"] <= most],
        "tiles": [tile],
    }
    if version == 2:
        supports = [*FEATURES, "sizeAboveFull", "sizeByForcedWh"]
        more = {"formats": [*FORMATS], "qualities": [*TONES], "supports": supports, "maxArea": most}
        head = {"@context": "http://iiif.io/api/image/2/context.json", "@id": base}
        return {**head, **common, "profile": ["http://iiif.io/api/image/2/level2.json", more]}
    return {
        "@context": "http://iiif.io/api/image/3/context.json",
        "id": base,
        "type": "ImageService3",
        **common,
        "profile": "level2",
        "maxArea": most,
        "preferredFormats": ["jpg", "png"],
        "extraFormats": ["tif"],
        "extraQualities": ["color", "gray", "bitonal"],
        "extraFeatures": ["mirroring", "sizeUpscaling", "canonicalLinkHeader", "profileLinkHeader"],
    }
