"""The parameters of OMERO.web's requests, read: how to show an image, as it is written.

Channels are counted from 1 in ``c=``; a list of ``maps`` goes with its entries one by one.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from gputiles import omero
from gputiles.encoded import Encoding, Turn
from gputiles.errors import BadRequest
from gputiles.parameters import choice, parse_format
from gputiles.projections import Kind

FORMATS = {"jpeg": "JPEG", "jpg": "JPEG", "png": "PNG", "tif": "TIFF", "tiff": "TIFF"}
FLIPS = {"": (False, False), "h": (True, False), "v": (False, True), "hv": (True, True), "vh": (True, True)}
MODELS = {"c": False, "g": True}
PROJECTIONS = {"normal": None, **{kind.value: kind for kind in Kind}}

_CHANNEL = re.compile(r"\s*(-?)0*([1-9]\d{0,5})\s*(?:\|\s*([^$]*?)\s*)?(?:\$(.*))?", re.DOTALL)
_INTEGER = re.compile(r"[+-]?\d{1,18}")


@dataclass(frozen=True, slots=True)
class ChannelQuery:
    """One entry of ``c=``: a channel, counted from 0; None is what was left out."""

    channel: int
    active: bool
    window: tuple[float, float] | None = None
    colour: str | None = None


@dataclass(frozen=True, slots=True)
class CodomainMap:
    """One entry of ``maps=``."""

    inverted: bool = False
    power: float = 1.0


@dataclass(frozen=True, slots=True)
class ProjectionQuery:
    """What ``kind`` makes of positions on axis Z, both ends included; None is the whole axis."""

    kind: Kind
    start: int | None = None
    end: int | None = None


@dataclass(frozen=True, slots=True)
class Rendering:
    """How to show an image; ``channels`` None are those of the default look."""

    channels: tuple[ChannelQuery, ...] | None = None
    maps: tuple[CodomainMap, ...] = ()
    grey: bool = False
    projection: ProjectionQuery | None = None

    @property
    def complete(self) -> bool:
        """Whether every channel that is shown says its window and colour."""
        return self.channels is not None and all(
            entry.window is not None and (entry.colour is not None or self.grey)
            for entry in self.channels
            if entry.active
        )


@dataclass(frozen=True, slots=True)
class Position:
    """A place on the axes Z and T, counted from 0."""

    z: int = 0
    t: int = 0


def parse_rendering(query: Mapping[str, str]) -> Rendering:
    """Return what ``c``, ``maps``, ``m`` and ``p`` say."""
    channels = _channels(query["c"]) if query.get("c") else None
    maps = _maps(query["maps"]) if query.get("maps") else ()
    if channels is not None and len(maps) > len(channels):
        raise BadRequest(f"maps: expected one for each of the {len(channels)} channels; got {len(maps)}")
    grey = choice(MODELS, "m", query.get("m") or "c")
    return Rendering(channels, maps, grey, _projection(query.get("p") or "normal"))


def _channels(text: str) -> tuple[ChannelQuery, ...]:
    found = tuple(_channel(part) for part in text.split(","))
    numbers = [entry.channel for entry in found]
    repeated = next((number for number in numbers if numbers.count(number) > 1), None)
    if repeated is not None:
        raise BadRequest(f"c: channel {repeated + 1} is there more than once")
    return found


def _channel(text: str) -> ChannelQuery:
    """Return an entry such as ``1|100:600$FF0000``; a minus turns the channel off."""
    match = _CHANNEL.fullmatch(text)
    if match is None:
        raise BadRequest(f"c: expected entries like 1|100:600$FF0000 or -2; got {text[:64]!r}")
    minus, number, window, colour = match.groups()
    ends = window.split(":") if window else []
    if len(ends) not in (0, 2):
        raise BadRequest(f"c: expected a window start:end; got {text[:64]!r}")
    return ChannelQuery(
        int(number) - 1,
        not minus,
        omero.parse_window(f"c: channel {number}, ", *ends) if ends else None,
        omero.parse_colour(f"c: channel {number}, colour", colour) if colour else None,
    )


def _maps(text: str) -> tuple[CodomainMap, ...]:
    try:
        maps = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise BadRequest(f"maps: expected JSON; {error}") from error
    if not isinstance(maps, list):
        raise BadRequest(f"maps: expected a list of objects; got {text[:64]!r}")
    return tuple(_map(f"maps[{index}]", entry) for index, entry in enumerate(maps))


def _map(place: str, value: Any) -> CodomainMap:
    """Return an entry; ``reverse`` is the old word for ``inverted``."""
    entry = _object(place, value)
    words = [word for word in ("inverted", "reverse") if entry.get(word) is not None]
    enabled = _object(f"{place}.{words[0]}", entry[words[0]]).get("enabled") if words else None
    if enabled not in (None, True, False, "true", "false"):
        raise BadRequest(f"{place}.{words[0]}.enabled: expected true or false; got {str(enabled)[:64]!r}")
    quantization = _object(f"{place}.quantization", entry.get("quantization"))
    power = omero.parse_power(
        f"{place}.quantization.", quantization.get("family"), quantization.get("coefficient")
    )
    return CodomainMap(enabled in (True, "true"), power)


def _object(place: str, value: Any) -> Mapping[str, Any]:
    """Return an object; absent and ``null`` are empty."""
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise BadRequest(f"{place}: expected an object; got {str(value)[:64]!r}")
    return value


def _projection(text: str) -> ProjectionQuery | None:
    """Return what ``normal`` or ``intmax``, with ``|start:end`` or without, mean."""
    name, bar, ends = text.partition("|")
    kind = choice(PROJECTIONS, "p", name)
    if kind is None:
        return None
    if not bar:
        return ProjectionQuery(kind)
    found = [_whole("p", part) for part in ends.split(":")]
    if len(found) != 2 or found[0] > found[1]:
        raise BadRequest(f"p: expected {name}|start:end; got {text[:64]!r}")
    return ProjectionQuery(kind, *found)


def _whole(name: str, text: str) -> int:
    if not _INTEGER.fullmatch(text) or int(text) < 0:
        raise BadRequest(f"{name}: expected an integer from 0 on; got {text[:64]!r}")
    return int(text)


def parse_position(z: str, t: str) -> Position:
    """Return the position that two integers from 0 on say."""
    return Position(_whole("z", z), _whole("t", t))


def parse_encoding(query: Mapping[str, str]) -> Encoding:
    """Return what ``format``, ``q`` and ``flip`` ask for; a quality up to 1 is a share."""
    name = choice(FORMATS, "format", (query.get("format") or "jpeg").lower())
    across, down = choice(FLIPS, "flip", (query.get("flip") or "").lower())
    turn = Turn(2 if down else 0, across != down)  # upside down is a half turn of the mirrored picture
    return replace(parse_format(name, _quality(query["q"]) if query.get("q") else None), turn=turn)


def _quality(text: str) -> int:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 <= value <= 100:
        raise BadRequest(f"q: expected a share of 0 … 1 or 1 … 100; got {text[:64]!r}")
    return max(1, round(value * 100 if value <= 1 else value))


def integers(name: str, allowed: str, text: str, lengths: tuple[int, ...]) -> list[int]:
    """Return the integers of a list; ``lengths`` are how many there may be, ``allowed`` says it."""
    parts = [part.strip() for part in text.split(",")]
    if len(parts) not in lengths or not all(_INTEGER.fullmatch(part) for part in parts):
        raise BadRequest(f"{name}: expected {allowed}; got {text[:64]!r}")
    return [int(part) for part in parts]
