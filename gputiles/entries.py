"""The values of a style's entries: each function checks one kind, or says what is allowed.

All take the place of the entry, for the message, and its value; None, where a function takes it,
stands for an entry that is absent. Numbers may be written as strings, as large_image allows.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from numbers import Real
from typing import NamedTuple

from gputiles.errors import BadStyle

BAND_NAMES = ("red", "green", "blue", "gray", "grey", "alpha")

_NUMBER = re.compile(r"\s*[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?\s*", re.ASCII)
_INTEGER = re.compile(r"\s*[+-]?\d{1,18}\s*", re.ASCII)
_LIMIT = re.compile(r"(full)|(auto|min|max)(?::([^:]+))?")
_NUMBERS = (int, float, Real)  # in the order in which they are told the fastest
_LIMITS = "a number, 'auto', 'min', 'max', 'full' or 'min:0.02' …"


class Limit(NamedTuple):
    """One end of a window: the word ``value`` with a number, or auto, min, max or full.

    The number of auto, min and max is the share of the values to leave beyond.
    """

    word: str
    number: float = 0.0


def refusal(place: str, allowed: str, value: object) -> BadStyle:
    """Return the error that says what was wrong, what is allowed and the value."""
    return BadStyle(f"{place}: expected {allowed}; got {brief(value)}")


def brief(value: object) -> str:
    """Return a value as a message tells it: its first 80 characters."""
    text = repr(value)
    return text if len(text) <= 80 else text[:79] + "…"


def number(place: str, value: object, allowed: str = "a number") -> float:
    """Return a finite number."""
    result = _number(value)
    if result is None:
        raise refusal(place, allowed, value)
    return result


def _number(value: object) -> float | None:
    if isinstance(value, bool):
        return None
    if not isinstance(value, _NUMBERS) and not (isinstance(value, str) and _NUMBER.fullmatch(value)):
        return None
    try:
        result = float(value)
    except OverflowError:  # an integer beyond float64
        return None
    return result + 0.0 if math.isfinite(result) else None


def integer(place: str, value: object, allowed: str = "an integer") -> int:
    """Return a whole number."""
    if isinstance(value, str) and _INTEGER.fullmatch(value):
        return int(value)
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    whole = None if isinstance(value, str) else _number(value)
    if whole is None or whole != int(whole):
        raise refusal(place, allowed, value)
    return int(whole)


def share(place: str, value: object) -> float:
    """Return a number of 0 … 1."""
    result = number(place, value, "a number of 0 … 1")
    if not 0 <= result <= 1:
        raise refusal(place, "a number of 0 … 1", value)
    return result


def positive(place: str, value: object) -> float:
    """Return a number above 0; 1 where it is absent."""
    result = 1.0 if value is None else number(place, value, "a number above 0")
    if result <= 0:
        raise refusal(place, "a number above 0", value)
    return result


def flag(place: str, value: object, absent: bool = True) -> bool:
    """Return true or false; ``absent`` where it is absent."""
    if value is None:
        return absent
    if not isinstance(value, bool):
        raise refusal(place, "true or false", value)
    return value


def choice(place: str, value: object, allowed: Sequence[str]) -> str | None:
    """Return one of the words that are allowed."""
    if value is None:
        return None
    if not isinstance(value, str) or value not in allowed:
        raise refusal(place, f"one of {', '.join(allowed)}", value)
    return value


def band(place: str, value: object) -> int | str:
    """Return a 1-based sample, or the name of a colour."""
    allowed = f"an integer from 1 on or one of {', '.join(BAND_NAMES)}"
    if isinstance(value, str) and value.lower() in BAND_NAMES:
        return value.lower().replace("grey", "gray")
    result = integer(place, value, allowed)
    if result < 1:
        raise refusal(place, allowed, value)
    return result


def channel(place: str, value: object) -> int | str:
    """Return a channel's name, or its 0-based index."""
    if isinstance(value, str) and value:
        return value
    allowed = "a channel's name or its index from 0 on"
    result = integer(place, value, allowed)
    if result < 0:
        raise refusal(place, allowed, value)
    return result


def limit(place: str, value: object) -> Limit:
    """Return one end of a window."""
    match = _LIMIT.fullmatch(value.strip()) if isinstance(value, str) else None
    if match is None:
        return Limit("value", number(place, value, _LIMITS))
    if match[3] is None:
        return Limit(match[1] or match[2])
    beyond = number(place, match[3], _LIMITS)
    if not 0 <= beyond <= 1:
        raise refusal(place, f"a share of 0 … 1 after '{match[2]}:'", value)
    return Limit(match[2], beyond)


def nodata(place: str, value: object) -> float | None:
    """Return the value that means no data. NaN always does, so that ``"nan"`` says nothing."""
    if isinstance(value, str) and value.strip().lower() == "nan":
        return None
    return number(place, value)
