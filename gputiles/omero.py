"""OMERO's rendering settings: channels, each in a window and a colour, added up; as a style.

They come as the ``omero`` block of OME-NGFF 0.4 (https://ngff.openmicroscopy.org/0.4/#omero-md)
and in the requests of OMERO.web. What OMERO makes of a value v: n = (v - start) / (end - start),
limited to 0 … 1; of the family ``polynomial`` n to the power of the coefficient; of an inverted
channel 1 - n; times the colour. The colours of all active channels are added, and limited. The
model ``greyscale`` shows the first active channel alone, in white.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from gputiles import entries
from gputiles.errors import BadStyle

WHITE = "FFFFFF"
FAMILIES = ("linear", "polynomial")
MODELS = ("color", "greyscale")
TAIL = "auto:0.001"  # the end of a window that nothing is said of

MOST_NUMBERED = 10_000  # channels of a file

_NUMBER = re.compile(r"[1-9][0-9]{0,4}", re.ASCII)
_COLOUR = re.compile(r"#?([0-9a-fA-F]{3,4}|[0-9a-fA-F]{6}|[0-9a-fA-F]{8})")
_ALLOWED_COLOUR = "three or six hexadecimal digits"


@dataclass(frozen=True, slots=True)
class Shown:
    """How one channel is shown; ``window`` None leaves it to the values.

    ``power`` is the coefficient of a polynomial, 1 of a line.
    """

    colour: str = WHITE
    window: tuple[float, float] | None = None
    inverted: bool = False
    power: float = 1.0


def band(place: Mapping[str, Any], shown: Shown) -> dict[str, Any]:
    """Return the entry of a style's ``bands`` that shows a channel; ``place`` says which."""
    low, high = shown.window or (TAIL, TAIL)
    ramp = ["#000000", f"#{shown.colour}"]
    return {
        **place,
        "min": low,
        "max": high,
        "palette": ramp[::-1] if shown.inverted else ramp,
        "composite": "additive",
        "gamma": shown.power,
    }


def parse_colour(place: str, value: object) -> str:
    """Return the six upper-case digits of an OMERO colour; its alpha does not count."""
    match = _COLOUR.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        raise entries.refusal(place, _ALLOWED_COLOUR, value)
    digits = match[1].upper()
    return "".join(digit * 2 for digit in digits[:3]) if len(digits) < 6 else digits[:6]


def parse_power(place: str, family: object, coefficient: object) -> float:
    """Return the power that a family and its coefficient mean."""
    name = entries.choice(f"{place}family", family, FAMILIES) or "linear"
    power = entries.positive(f"{place}coefficient", coefficient)
    return power if name == "polynomial" else 1.0


def parse_window(place: str, start: object, end: object) -> tuple[float, float]:
    """Return a window, which must not end before it starts."""
    low, high = entries.number(f"{place}start", start), entries.number(f"{place}end", end)
    if low > high:
        raise BadStyle(f"{place}start, end: expected a window; got {low:g} to {high:g}")
    return low, high


# -- the block of OME-NGFF


def settings_of(top: Mapping[Any, Any]) -> Mapping[str, Any] | None:
    """Return what ``as_style`` reads as rendering settings; None where an object holds none.

    Files that OMERO's command line writes and reads number the channels, from 1 on: those that are
    left out are not shown. Version 2 calls the ends of a window start and end, version 1 min and max.
    """
    if top.get("omero") is not None or (
        isinstance(top.get("channels"), list) and top.get("rdefs") is not None
    ):
        return top
    channels = top.get("channels")
    if not isinstance(channels, Mapping) or not channels:
        return None
    numbered = {int(name): channel for name, channel in channels.items() if _NUMBER.fullmatch(str(name))}
    if len(numbered) < len(channels) or max(numbered) > MOST_NUMBERED:
        return None
    hidden = {"active": False}
    listed = [_windowed(numbered.get(number) or hidden, top) for number in range(1, max(numbered) + 1)]
    return {"omero": {"channels": listed, "rdefs": {"model": MODELS[bool(top.get("greyscale"))]}}}


def _windowed(channel: Any, top: Mapping[str, Any]) -> Any:
    """Return a channel of a file, its window as OME-NGFF says it."""
    if not isinstance(channel, Mapping):
        return channel
    names = (
        ("start", "end") if top.get("version") == 2 or channel.get("start") is not None else ("min", "max")
    )
    start, end = (channel.get(name) for name in names)
    rest = {name: entry for name, entry in channel.items() if name not in ("start", "end", "min", "max")}
    return rest if start is None or end is None else {**rest, "window": {"start": start, "end": end}}


def as_style(top: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the style that an object with an ``omero`` block, or such a block, describes.

    Any other object is returned as it is. The channels are those at the other positions of
    the request's frame: ``defaultZ`` and ``defaultT`` say where a viewer begins, and are not
    part of a style. Raises BadStyle where the block cannot be understood.
    """
    if top.get("omero") is not None:
        rest, block, place = {key: top[key] for key in top if key != "omero"}, top["omero"], "omero."
    elif top.get("channels") is not None and top.get("rdefs") is not None:
        rest, block, place = dict(top), top, ""
    else:
        return top
    if not isinstance(block, Mapping):
        raise entries.refusal("omero", "an object", block)
    if rest.get("bands") is not None:
        raise BadStyle("omero: says what the bands are; bands cannot stand beside it")
    return {**rest, "bands": _bands(place, block)}


def _bands(place: str, block: Mapping[str, Any]) -> list[dict[str, Any]]:
    channels = _objects(f"{place}channels", block.get("channels"))
    shown = [
        (index, _shown(f"{place}channels[{index}].", channel))
        for index, channel in enumerate(channels)
        if entries.flag(f"{place}channels[{index}].active", channel.get("active"), True)
    ]
    if _model(place, block.get("rdefs")) == "greyscale":
        shown = [(index, grey(entry)) for index, entry in shown[:1]]
    return [band({"channel": index}, entry) for index, entry in shown]


def grey(shown: Shown) -> Shown:
    """Return the same in white."""
    return replace(shown, colour=WHITE)


def _objects(place: str, value: object) -> Sequence[Mapping[str, Any]]:
    if not isinstance(value, Sequence) or isinstance(value, str | bytes):
        raise entries.refusal(place, "a list of objects", value)
    for index, entry in enumerate(value):
        if not isinstance(entry, Mapping):
            raise entries.refusal(f"{place}[{index}]", "an object", entry)
    return value


def _model(place: str, rdefs: object) -> str:
    if rdefs is None:
        return "color"
    if not isinstance(rdefs, Mapping):
        raise entries.refusal(f"{place}rdefs", "an object", rdefs)
    return entries.choice(f"{place}rdefs.model", rdefs.get("model"), MODELS) or "color"


def _shown(place: str, channel: Mapping[str, Any]) -> Shown:
    colour, window = channel.get("color"), channel.get("window")
    if window is not None and not isinstance(window, Mapping):
        raise entries.refusal(f"{place}window", "an object", window)
    ends = None if window is None else (window.get("start"), window.get("end"))
    return Shown(
        WHITE if colour is None else parse_colour(f"{place}color", colour),
        None if ends in (None, (None, None)) else parse_window(f"{place}window.", *ends),
        entries.flag(f"{place}inverted", channel.get("inverted"), False),
        parse_power(place, channel.get("family"), channel.get("coefficient")),
    )
