"""The grammar of styles: from JSON to a checked, canonical description of what was asked.

It is large_image's, apart from ``function``, with ``gamma``, ``opacity``, ``channel`` and two
blends added. Names and "auto" stay as they are: only an image can tell what they mean.
Keys that the grammar does not know are ignored, as large_image does; ``null`` is no value.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from functools import lru_cache
from typing import Any, TypeAlias, TypeVar

from gputiles import entries, omero
from gputiles.entries import Limit
from gputiles.errors import BadStyle
from gputiles.palettes import BLACK_TO_WHITE, CLEAR_TO_OPAQUE, Palette, parse_palette
from gputiles.recipe import Blend

T = TypeVar("T")
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


@dataclass(frozen=True, slots=True)
class Band:
    """One entry of ``bands``: what to take from the image, and how to show it.

    ``band`` is a 1-based sample or a colour's name, ``channel`` a channel's name or 0-based
    index; None is the default. ``frame`` None is ``delta`` frames from the main frame.
    """

    band: int | str | None = None
    channel: int | str | None = None
    frame: int | None = None
    delta: int = 0
    low: Limit = AUTO
    high: Limit = AUTO
    palette: Palette = BLACK_TO_WHITE
    discrete: bool = False
    blend: Blend = Blend.LIGHTEN
    opacity: float = 1.0
    gamma: float = 1.0
    clamp: bool = True
    nodata: float | None = None


_FIELDS = tuple(entry.name for entry in fields(Band))


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
            value = json.loads(value, parse_constant=_refuse_constant)
        except (ValueError, RecursionError) as error:
            raise BadStyle(f"{NOT_AN_OBJECT} {error}") from error
    if not isinstance(value, Mapping):
        raise BadStyle(NOT_AN_OBJECT)
    return value


def _refuse_constant(name: str) -> None:
    raise ValueError(f"JSON has no number {name}.")


def _present(entry: Mapping[str, Any]) -> dict[str, Any]:
    """Return the keys that have a value: ``null`` says no more than nothing."""
    return {key: value for key, value in entry.items() if value is not None}


def _listed(value: object) -> list[Placed]:
    """Return the entries of ``bands``, each with its place in messages."""
    if not isinstance(value, Sequence) or isinstance(value, str | bytes):
        raise entries.refusal("bands", "a list of objects", value)
    if len(value) > MOST_BANDS:
        raise BadStyle(f"bands: expected at most {MOST_BANDS}; got {len(value)}")
    for index, entry in enumerate(value):
        if not isinstance(entry, Mapping):
            raise entries.refusal(f"bands[{index}]", "an object", entry)
    return [(f"bands[{index}].", _present(entry)) for index, entry in enumerate(value)]


def _refuse_functions(objects: Sequence[Placed]) -> None:
    for place, entry in objects:
        if "function" in entry:
            raise BadStyle(f"{place}function: not supported, a style cannot name code to run")


def _band(place: str, entry: dict[str, Any]) -> Band:
    """Return a band entry; ``place`` is what stands before its keys in messages."""

    def read(check: Callable[..., T], key: str, *more: Any) -> T:
        return check(place + key, entry.get(key), *more)

    band = read(entries.band, "band")
    alpha = band == "alpha"
    frame, delta = read(entries.integer, "frame"), read(entries.integer, "framedelta")
    blend = read(entries.choice, "composite", BLENDS) or ("multiply" if alpha else "lighten")
    return Band(
        band=band,
        channel=read(entries.channel, "channel"),
        frame=frame,
        delta=(delta or 0) if frame is None else 0,
        low=read(entries.limit, "min"),
        high=read(entries.limit, "max"),
        palette=read(_palette, "palette", alpha),
        discrete=read(entries.choice, "scheme", SCHEMES) == "discrete",
        blend=Blend[blend.upper()],
        opacity=read(entries.share, "opacity"),
        gamma=read(entries.positive, "gamma"),
        clamp=read(entries.flag, "clamp", True),
        nodata=read(entries.nodata, "nodata"),
    )


def _palette(place: str, value: object, alpha: bool) -> Palette:
    if value is None:
        return CLEAR_TO_OPAQUE if alpha else BLACK_TO_WHITE
    return parse_palette(value, place)


def _icc(value: object) -> bool | str:
    if isinstance(value, bool):
        return value
    if isinstance(value, str) and value.lower() in INTENTS:
        return value.lower()
    raise entries.refusal("icc", f"true, false or one of {', '.join(INTENTS)}", value)


def _dtype(objects: Sequence[Placed]) -> str | None:
    """Return the output type that the first object to have one names."""
    found = [entries.choice(f"{place}dtype", entry.get("dtype"), DTYPES) for place, entry in objects]
    return next((dtype for dtype in found if dtype is not None), None)


def _axis(objects: Sequence[Placed]) -> int | None:
    """Return the output component that the first object to have one picks."""
    found = [entries.integer(f"{place}axis", entry.get("axis"), "0, 1, 2 or 3") for place, entry in objects]
    axis = next((axis for axis in found if axis is not None), None)
    if axis is not None and not 0 <= axis <= 3:
        raise entries.refusal("axis", "0, 1, 2 or 3", axis)
    return axis


def _style(bands: tuple[Band, ...] | None, dtype: str | None, axis: int | None, icc: bool | str) -> Style:
    plain = None if bands is None else [[getattr(band, name) for name in _FIELDS] for band in bands]
    canonical = json.dumps([plain, dtype, axis, icc])
    return Style(hashlib.sha256(canonical.encode()).hexdigest()[:32], bands, dtype, axis, icc)
