"""Query parameters: text to numbers, encodings and edges, or a BadRequest that says why."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from typing import Any, TypeAlias

from multidict import MultiMapping

from gputiles.encoded import Edge, Encoding
from gputiles.errors import BadRequest
from gputiles.parameters import parse_edge, parse_format

Parameters: TypeAlias = Mapping[str, str]

MOST_LISTED = 1000  # frames of one request

_INTEGER = re.compile(r"[+-]?[0-9]{1,30}")


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


def whole(name: str, text: str) -> int:
    """Return the integer from 0 on that a part of a path, ``name``, writes."""
    value = parse_integer(text)
    if value is None or value < 0:
        raise BadRequest(f"{name}: expected an integer from 0 on; got {text[:64]!r}")
    return value


def parse_json(body: bytes) -> Any:
    """Return what a JSON body says; ValueError, with the reason, where it is none."""
    try:
        return json.loads(body)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error


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


def flag(parameters: Parameters, name: str) -> bool:
    """Return a switch: off where it is not given."""
    text = parameters.get(name, "").lower()
    if text in ("true", "1", "yes", "on"):
        return True
    if text in ("", "false", "0", "no", "off"):
        return False
    raise BadRequest(f"{name}: expected true or false; got {text[:64]!r}")


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


def frame_list(text: str, most: int = MOST_LISTED) -> list[int]:
    """Return the at most ``most`` frames that ``0,1,2`` or ``[0,1,2]`` names."""
    frames = [
        parse_integer(part.strip()) for part in text.strip().removeprefix("[").removesuffix("]").split(",")
    ]
    if any(frame is None for frame in frames) or len(frames) > most:
        raise BadRequest(f"frameList: expected at most {most} integers such as 0,1,2; got {text[:64]!r}")
    return [frame for frame in frames if frame is not None]


def encoding(parameters: Parameters, default: str) -> Encoding:
    """Return what ``encoding``, ``jpegQuality`` and ``jpegSubsampling`` ask for."""
    given = (optional(parameters, name) for name in ("jpegQuality", "jpegSubsampling"))
    return parse_format(parameters.get("encoding", default), *given)


def optional(parameters: Parameters, name: str) -> int | None:
    """Return an integer parameter, None where it is not given."""
    return integer(parameters, name, 0, 0) if name in parameters else None


def edge(parameters: Parameters) -> Edge:
    """Return what ``edge`` asks for: nothing, to crop, or a colour to fill with."""
    return parse_edge(parameters.get("edge", ""))
