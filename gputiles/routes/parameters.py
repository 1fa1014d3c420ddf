"""Query parameters: text to numbers, encodings and edges, or a BadRequest that says why."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import TypeAlias

from multidict import MultiMapping

from gputiles.colours import parse_colour
from gputiles.encoded import Edge, Encoding, Format
from gputiles.errors import BadRequest

Parameters: TypeAlias = Mapping[str, str]

_INTEGER = re.compile(r"[+-]?[0-9]{1,30}")
_FORMATS = {"JPEG": Format.JPEG, "JFIF": Format.JPEG, "PNG": Format.PNG}


def single(query: MultiMapping[str]) -> dict[str, str]:
    """Return a query as a dictionary; BadRequest where a parameter is repeated."""
    result = dict(query)
    if len(result) != len(query):
        repeated = next(name for name in result if len(query.getall(name)) > 1)
        raise BadRequest(f'Parameter "{repeated}" must not be repeated.')
    return result


def parse_integer(text: str) -> int | None:
    """Return the integer that ``text`` writes in decimal digits, or None."""
    return int(text) if _INTEGER.fullmatch(text) else None


def integer(parameters: Parameters, name: str, default: int, low: int, high: int | None = None) -> int:
    """Return an integer parameter of at least ``low`` and, unless None, at most ``high``."""
    text = parameters.get(name)
    if text is None:
        return default
    value = parse_integer(text)
    if value is None or value < low or (high is not None and value > high):
        allowed = f"an integer from {low} to {high}" if high is not None else f"an integer, at least {low}"
        raise BadRequest(f"{name}: expected {allowed}; got {text[:64]!r}")
    return value


def number(parameters: Parameters, name: str) -> float:
    """Return a finite number that must be given."""
    text = parameters.get(name, "")
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise BadRequest(f"{name}: expected a number; got {text[:64]!r}")
    return value


def frame_number(text: str) -> int:
    """Return the number of a frame; whether the image has it is not known here."""
    value = parse_integer(text)
    if value is None:
        raise BadRequest(f"frame: expected an integer; got {text[:64]!r}")
    return value


def encoding(parameters: Parameters, default: Format) -> Encoding:
    """Return the encoding that ``encoding``, ``jpegQuality`` and ``jpegSubsampling`` ask for.

    ``JFIF`` is JPEG. Quality 0 counts as 1, as libjpeg has it.
    """
    name = parameters.get("encoding")
    if name is not None and name.upper() not in _FORMATS:
        raise BadRequest(f'Invalid encoding "{name[:64]}"; allowed are JPEG, JFIF and PNG.')
    chosen = default if name is None else _FORMATS[name.upper()]
    quality = integer(parameters, "jpegQuality", 95, 0, 100)
    subsampling = integer(parameters, "jpegSubsampling", 0, 0, 2)
    if chosen is not Format.JPEG:
        return Encoding(chosen)
    explicit = "jpegQuality" in parameters or "jpegSubsampling" in parameters
    return Encoding(chosen, max(1, quality), subsampling, explicit)


def edge(parameters: Parameters) -> Edge:
    """Return what ``edge`` asks for: nothing, to crop, or a colour to fill with."""
    text = parameters.get("edge", "")
    if text.lower() in ("", "false", "none"):
        return Edge()
    if text.lower() in ("true", "crop"):
        return Edge(crop=True)
    colour = parse_colour(text)
    if colour is None:
        raise BadRequest(f"edge: expected false, crop or a colour such as #DDD or white; got {text[:64]!r}")
    red, green, blue, alpha = (int(part) for part in colour)
    return Edge(colour=(red, green, blue, alpha))
