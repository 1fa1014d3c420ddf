"""The grammar of styles: from JSON to a checked, canonical description of what was asked.

It is large_image's, apart from ``function``, with ``gamma``, ``opacity``, ``channel`` and two
blends added. Names and "auto" stay as they are: only an image can tell what they mean.
Keys that the grammar does not know are ignored, as large_image does; ``null`` is no value.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, NamedTuple, TypeAlias

from gputiles import entries, omero
from gputiles.entries import Limit
from gputiles.errors import BadStyle
from gputiles.palettes import BLACK_TO_WHITE, CLEAR_TO_OPAQUE, Palette, parse_palette
from gputiles.recipe import Blend

Placed: TypeAlias = tuple[str, dict[str, Any]]
"""An object of the style, after what stands before its keys in messages."""

NOT_AN_OBJECT = "Style is not a valid json object."
MOST_BANDS = 1024
LONGEST_REMEMBERED = 1 << 17  # characters of a style that is parsed once only
DTYPES = ("uint8", "uint16", "float", "source")
INTENTS = ("perceptual", "relative_colorimetric", "saturation", "absolute_colorimetric")
SCHEMES = ("linear", "discrete")
BLENDS = tuple(blend.name.lower() for blend in Blend)


AUTO = Limit("auto")


class Band(NamedTuple):
    """One entry of ``bands``: what to take from the image, and how to show it.

    ``band`` is a 1-based sample or a colour's name, ``channel`` a channel's name or 0-based
    index; None is the default. ``frame`` None is ``delta`` frames from the main frame.
    """

    low: Limit = AUTO
    high: Limit = AUTO
    band: int | str | None = None
    channel: int | str | None = None
    frame: int | None = None
    delta: int = 0
    palette: Palette = BLACK_TO_WHITE
    discrete: bool = False
    blend: Blend = Blend.LIGHTEN
    opacity: float = 1.0
    gamma: float = 1.0
    clamp: bool = True
    nodata: float | None = None


@dataclass(frozen=True, slots=True)
class Style:
    """What was asked for; styles are equal where their ``key`` is.

    ``bands`` None is the unstyled conversion, no bands a transparent picture. ``key`` does
    not depend on the notation: white space, order of keys, spelling of colours and numbers,
    defaults left out.
    """

    key: str
    bands: tuple[Band, ...] | None = field(compare=False)
    dtype: str | None = field(default=None, compare=False)
    axis: int | None = field(default=None, compare=False)
    icc: bool | str = field(default=True, compare=False)


def parse(value: str | bytes | Mapping[str, object]) -> Style:
    """Return the style that JSON text, or an object made from such text, describes.

    An object with OMERO's rendering settings is the style that shows the same. Raises BadStyle
    where it is not an object, or naming the first entry that is impossible.
    """
    top = _present(omero.as_style(_object(value)))
    icc = _icc(top.pop("icc", True))
    if not top:
        return _style(None, None, None, icc)
    objects = _listed(top["bands"]) if "bands" in top else [("", top)]
    settings = [("", top), *objects]
    _refuse_functions(settings)
    bands = tuple(_band(place, entry) for place, entry in objects)
    return _style(bands, _dtype(settings), _axis(settings), icc)


def parse_text(text: str) -> Style:
    """Return the style of JSON ``text``, remembered: a viewport asks for it tile by tile."""
    return _remembered(text) if len(text) <= LONGEST_REMEMBERED else parse(text)


@lru_cache(maxsize=1024)
def _remembered(text: str) -> Style:
    return parse(text)


def _object(value: str | bytes | Mapping[str, object]) -> Mapping[str, Any]:
    if isinstance(value, str | bytes):
        try:
            text = value if isinstance(value, str) else value.decode(json.detect_encoding(value))
            value = _JSON.decode(text)
        except (ValueError, RecursionError) as error:
            raise BadStyle(f"{NOT_AN_OBJECT} {error}") from error
    if not isinstance(value, (dict, Mapping)):
        raise BadStyle(NOT_AN_OBJECT)
    return value


def _refuse_constant(name: str) -> None:
    raise ValueError(f"JSON has no number {name}.")


_JSON = json.JSONDecoder(parse_constant=_refuse_constant)


def _present(entry: Mapping[str, Any]) -> dict[str, Any]:
    """Return the keys that have a value: ``null`` says no more than nothing."""
    return {key: value for key, value in entry.items() if value is not None}


def _listed(value: object) -> list[Placed]:
    """Return the entries of ``bands``, each with its place in messages."""
    if not isinstance(value, (list, Sequence)) or isinstance(value, str | bytes):
        raise entries.refusal("bands", "a list of objects", value)
    if len(value) > MOST_BANDS:
        raise BadStyle(f"bands: expected at most {MOST_BANDS}; got {len(value)}")
    for index, entry in enumerate(value):
        if not isinstance(entry, (dict, Mapping)):
            raise entries.refusal(f"bands[{index}]", "an object", entry)
    return [(f"bands[{index}].", _present(entry)) for index, entry in enumerate(value)]


def _refuse_functions(objects: Sequence[Placed]) -> None:
    for place, entry in objects:
        if "function" in entry:
            raise BadStyle(f"{place}function: not supported, a style cannot name code to run")


def _band(place: str, entry: dict[str, Any]) -> Band:
    """Return a band entry; ``place`` is what stands before its keys in messages."""
    given = {name: read(place + key, entry[key]) for key, (name, read) in _ENTRIES.items() if key in entry}
    if "frame" in given:
        given.pop("delta", None)
    return Band(**({**_ALPHA, **given} if given.get("band") == "alpha" else given))


def _discrete(place: str, value: object) -> bool:
    return entries.choice(place, value, SCHEMES) == "discrete"


def _blend(place: str, value: object) -> Blend:
    return Blend[(entries.choice(place, value, BLENDS) or "lighten").upper()]


def _palette(place: str, value: object) -> Palette:
    return parse_palette(value, place)


_ENTRIES: Mapping[str, tuple[str, Callable[[str, Any], Any]]] = {
    "band": ("band", entries.band),
    "frame": ("frame", entries.integer),
    "framedelta": ("delta", entries.integer),
    "composite": ("blend", _blend),
    "channel": ("channel", entries.channel),
    "min": ("low", entries.limit),
    "max": ("high", entries.limit),
    "palette": ("palette", _palette),
    "scheme": ("discrete", _discrete),
    "opacity": ("opacity", entries.share),
    "gamma": ("gamma", entries.positive),
    "clamp": ("clamp", entries.flag),
    "nodata": ("nodata", entries.nodata),
}
"""What a band entry may say: its name in a Band, and how it is read."""

_ALPHA: Mapping[str, Any] = {"blend": Blend.MULTIPLY, "palette": CLEAR_TO_OPAQUE}
"""What is otherwise where the band is alpha."""


def _icc(value: object) -> bool | str:
    if isinstance(value, bool):
        return value
    if isinstance(value, str) and value.lower() in INTENTS:
        return value.lower()
    raise entries.refusal("icc", f"true, false or one of {', '.join(INTENTS)}", value)


def _dtype(objects: Sequence[Placed]) -> str | None:
    """Return the output type that the first object to have one names."""
    found = [
        entries.choice(f"{at}dtype", entry["dtype"], DTYPES) for at, entry in objects if "dtype" in entry
    ]
    return found[0] if found else None


def _axis(objects: Sequence[Placed]) -> int | None:
    """Return the output component that the first object to have one picks."""
    allowed = "0, 1, 2 or 3"
    found = [entries.integer(f"{at}axis", entry["axis"], allowed) for at, entry in objects if "axis" in entry]
    if found and not 0 <= found[0] <= 3:
        raise entries.refusal("axis", allowed, found[0])
    return found[0] if found else None


def _style(bands: tuple[Band, ...] | None, dtype: str | None, axis: int | None, icc: bool | str) -> Style:
    canonical = f"{bands and [_canonical(band) for band in bands]}|{dtype}|{axis}|{icc}"
    return Style(hashlib.sha256(canonical.encode()).hexdigest()[:32], bands, dtype, axis, icc)


def _canonical(band: Band) -> str:
    """Return what a band says; what comes behind its window, which most new styles change, is remembered."""
    low, high = band.low, band.high
    return f"{low.word} {low.number} {high.word} {high.number} {_text(band[2:])}"


@lru_cache(maxsize=1024)
def _text(entries: tuple[object, ...]) -> str:
    return repr(entries)
