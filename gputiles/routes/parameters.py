"""Parameters: each declared once, for the parser of requests and for the document of the API."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Generic, TypeAlias, TypeVar

from multidict import MultiMapping

from gputiles.encoded import Encoding
from gputiles.errors import BadRequest
from gputiles.parameters import FORMATS, QUALITIES, SUBSAMPLINGS, parse_edge, parse_format
from gputiles.routes.schemas import FLAG, NUMBER, TEXT, Schema, one_of

Parameters: TypeAlias = Mapping[str, str]
T = TypeVar("T")

MOST_LISTED = 1000  # frames of one request

_INTEGER = re.compile(r"[+-]?[0-9]{1,30}")


@dataclass(frozen=True, slots=True)
class Parameter(Generic[T]):
    """A parameter of a path, a query or a header: what it is called, what it means, how it is read.

    ``parse`` returns the value that a text means, or raises a BadRequest that says why it means
    none; ``schema`` says the same in JSON schema. ``default`` is the value where there is no
    text; without one, an absent text is read as an empty one. ``where`` is ``header`` or
    ``query``; parameters that a route's path names are found there. ``example`` is a value that
    every image understands. ``required`` says that the route refuses requests without it.
    """

    name: str
    about: str
    parse: Callable[[str], T]
    schema: Schema
    default: T | None = None
    example: Any = None
    where: str = "query"
    required: bool = False

    def of(self, given: Parameters) -> T:
        """Return the value, the default where nothing is given."""
        text = given.get(self.name)
        if text is None and self.default is not None:
            return self.default
        return self.parse(text or "")

    def given(self, given: Parameters) -> T | None:
        """Return the value, None where nothing, or nothing but the name, is given."""
        text = given.get(self.name)
        return self.parse(text) if text else None


# -- kinds of parameters: a parser and the schema that says the same. ``more`` are words of
# JSON schema about limits that are held elsewhere: by what is asked of the image.


def integer(
    name: str, about: str, low: int | None = None, high: int | None = None, /, *,
    default: int | None = None, example: int | None = None, **more: Any,
) -> Parameter[int]:  # fmt: skip
    """Return an integer of at least ``low`` and at most ``high``, unless they are None."""
    limits = {"minimum": low, "maximum": high}
    schema = {"type": "integer", **{word: value for word, value in limits.items() if value is not None}}
    return Parameter(name, about, partial(_integer, name, low, high), {**schema, **more}, default, example)


def _integer(name: str, low: int | None, high: int | None, text: str) -> int:
    value = parse_integer(text)
    if value is None or (low is not None and value < low) or (high is not None and value > high):
        limits = "" if low is None else f", at least {low}" if high is None else f" from {low} to {high}"
        raise BadRequest(f"{name}: expected an integer{limits}; got {text[:64]!r}")
    return value


def parse_integer(text: str) -> int | None:
    """Return the integer that ``text`` writes in decimal digits, or None."""
    return int(text) if _INTEGER.fullmatch(text) else None


def whole(name: str, about: str) -> Parameter[int]:
    """Return an integer from 0 on: a part of a path."""
    return Parameter(name, about, partial(_whole, name), {"type": "integer", "minimum": 0}, example=0)


def _whole(name: str, text: str) -> int:
    value = parse_integer(text)
    if value is None or value < 0:
        raise BadRequest(f"{name}: expected an integer from 0 on; got {text[:64]!r}")
    return value


def flag(name: str, about: str) -> Parameter[bool]:
    """Return a switch: off where it is not given."""
    return Parameter(
        name, f"{about}; 1, yes, on, 0, no and off are understood too", partial(_flag, name), FLAG, False
    )


def _flag(name: str, text: str) -> bool:
    word = text.lower()
    if word in ("true", "1", "yes", "on"):
        return True
    if word in ("", "false", "0", "no", "off"):
        return False
    raise BadRequest(f"{name}: expected true or false; got {word[:64]!r}")


def number(
    name: str, about: str, /, *, above: float | None = None, example: float | None = None
) -> Parameter[float]:
    """Return a finite number, greater than ``above`` unless that is None."""
    schema = NUMBER if above is None else {**NUMBER, "exclusiveMinimum": above}
    return Parameter(name, about, partial(_number, name, above), schema, example=example)


def _number(name: str, above: float | None, text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise BadRequest(f"{name}: expected a number; got {text[:64]!r}")
    if above is not None and value <= above:
        raise BadRequest(f"{name}: expected a number above {above}; got {value:g}")
    return value


def text(
    name: str, about: str, schema: Schema = TEXT, default: str | None = None, example: str | None = None, *,
    required: bool = False,
) -> Parameter[str]:  # fmt: skip
    """Return a text that is read by what it is asked of."""
    return Parameter(name, about, str, schema, default, example, required=required)


# -- what several rooms take


def frame_list(text: str, most: int = MOST_LISTED) -> list[int]:
    """Return the at most ``most`` frames that ``0,1,2`` or ``[0,1,2]`` names."""
    frames = [
        parse_integer(part.strip()) for part in text.strip().removeprefix("[").removesuffix("]").split(",")
    ]
    if any(frame is None for frame in frames) or len(frames) > most:
        raise BadRequest(f"frameList: expected at most {most} integers such as 0,1,2; got {text[:64]!r}")
    return [frame for frame in frames if frame is not None]


FRAME = integer("frame", "the number of the frame, from 0 on", example=0, minimum=0)
STYLE = text(
    "style", "a style as JSON, or @ and the id of a posted one; the default look without one", example="{}"
)
ENCODING = text("encoding", "the format, in any case", one_of(tuple(FORMATS)), example="PNG")
QUALITY = integer(
    "jpegQuality", "the quality of a JPEG; 95 unless it is given", 0,
    minimum=QUALITIES[0], maximum=QUALITIES[-1], example=80,
)  # fmt: skip
SUBSAMPLING = integer(
    "jpegSubsampling", "how a JPEG's colours are subsampled: 0 (4:4:4), 1 (4:2:2) or 2 (4:2:0)", 0,
    maximum=SUBSAMPLINGS[-1],
)  # fmt: skip
EMBED = flag("embedProfile", "let a JPEG or PNG whose colours are as stored carry the file's ICC profile")
EDGE = Parameter(
    "edge",
    "what completes a tile at the rim: false (zeros), crop, or a colour",
    parse_edge,
    TEXT,
    example="crop",
)
FRAMES = Parameter("frameList", "several frames: 0,1,2 or [0,1,2]", frame_list, TEXT, example="0")


def encoding(given: Parameters, default: str) -> Encoding:
    """Return what ``encoding``, ``jpegQuality`` and ``jpegSubsampling`` ask for."""
    numbers = (each.of(given) if each.name in given else None for each in (QUALITY, SUBSAMPLING))
    return parse_format(given.get(ENCODING.name, default), *numbers, embed=EMBED.of(given))


# -- requests as a whole


def single(query: MultiMapping[str]) -> dict[str, str]:
    """Return a query as a dictionary; BadRequest where a parameter is repeated."""
    result = dict(query)
    if len(result) != len(query):
        repeated = next(name for name in result if len(query.getall(name)) > 1)
        raise BadRequest(f'Parameter "{repeated}" must not be repeated.')
    return result


def parse_json(body: bytes, expected: str) -> Any:
    """Return what a JSON body says; BadRequest, with what was ``expected``, where it is none."""
    try:
        return json.loads(body)
    except RecursionError as error:
        raise BadRequest(f"{expected}; it is nested too deeply") from error
    except ValueError as error:
        raise BadRequest(f"{expected}; {error}") from error
