"""The channels of an image with the settings in which the default look shows them.

A channel is here what OMERO counts as one: a position on axis C, of colour images each of
red, green and blue at such a position, else each of a pixel's independent samples.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import numpy as np

from gputiles import look, style
from gputiles.image import Colour, Frame, ImageInfo
from gputiles.look import AllStatistics, Window
from gputiles.omero import WHITE
from gputiles.ranges import Statistics
from gputiles.recipe import BandRecipe

PRIMARIES = (("Red", "FF0000"), ("Green", "00FF00"), ("Blue", "0000FF"))
NOTHING = Statistics(None, None, 0, np.zeros(1, np.int64), (0.0, 1.0, 1), False, "nothing is measured")
VERSION = "0.4"  # of OME-NGFF

Bands: TypeAlias = dict[tuple[int, int], BandRecipe]
"""Bands of a recipe by their (frame, sample)."""
Windows: TypeAlias = dict[tuple[int, int], Window]


@dataclass(frozen=True, slots=True)
class Setting:
    """One channel: its place in the first position, what it is called, and how it is shown.

    ``colour`` is six upper-case digits. ``window`` is what is shown, ``limits`` what it may
    sensibly be set to. ``active`` says that the default look shows the channel.
    """

    frame: int
    sample: int
    label: str
    colour: str
    window: Window
    limits: Window
    active: bool


def count(info: ImageInfo) -> int:
    """Return the number of channels."""
    return look.channel_count(info) * (len(PRIMARIES) if info.colour is Colour.RGB else 1)


def place(info: ImageInfo, frame: int, channel: int) -> tuple[int, int]:
    """Return the (frame, sample) of a channel at the other positions of ``frame``."""
    position, sample = divmod(channel, len(PRIMARIES)) if info.colour is Colour.RGB else (channel, None)
    found, own = look.channel_place(info, frame, position)
    return found, (own if sample is None else sample) or 0


def frames_to_measure(info: ImageInfo) -> tuple[int, ...]:
    """Return the frames whose statistics ``settings`` takes its windows from."""
    found = set(style.frames_to_measure(None, info, 0))
    for position, frame in enumerate(_frames(info)):
        if style.frames_to_measure(None, _alone(info, position), 0):
            found.add(frame)
    return tuple(sorted(found - info.missing))


def settings(info: ImageInfo, statistics: AllStatistics) -> tuple[Setting, ...]:
    """Return all channels, shown as in the default look of the first position.

    A window that neither the file gives nor ``statistics`` tells is the range of the type.
    """
    shown = _bands(info, 0, statistics)
    bands, seen = dict(shown), {frame for frame, _ in shown}
    for position, frame in enumerate(_frames(info)):
        if frame not in seen:
            own = {0: statistics[frame]} if frame in statistics else {}
            alone = _bands(_alone(info, position), 0, own)
            bands |= {(frame, sample): band for (_, sample), band in alone.items()}
    unknown = set(frames_to_measure(info)) - statistics.keys() | info.missing
    windows = {where: (band.low, band.high) for where, band in bands.items() if where[0] not in unknown}
    return tuple(_setting(info, channel, shown, windows, statistics) for channel in range(count(info)))


def _frames(info: ImageInfo) -> list[int]:
    """Return the frames of the first position, one for each place on axis C."""
    stride = info.strides().get("C", 0)
    return [at * stride for at in range(dict(info.axes).get("C", 1))]


def _alone(info: ImageInfo, position: int) -> ImageInfo:
    """Return an image of one frame, that at a position on axis C: its look costs the same for many."""
    channels = info.channels[position : position + 1] if "C" in dict(info.axes) else info.channels
    return replace(info, frames=(Frame(),), axes=(), channels=channels, missing=frozenset())


def _bands(info: ImageInfo, frame: int, statistics: AllStatistics) -> Bands:
    """Return the bands of the default look; none where the stored values are shown as they are."""
    wanted = style.frames_to_measure(None, info, frame)
    known = {number: statistics.get(number, (NOTHING,) * info.samples) for number in wanted}
    recipe = style.make_recipe(None, info, frame, known)
    return {(band.frame, band.sample): band for band in recipe.bands or ()}


def _setting(
    info: ImageInfo, channel: int, shown: Bands, windows: Windows, statistics: AllStatistics
) -> Setting:
    """Return a channel; ``shown`` is the default look, ``windows`` are those that are known."""
    frame, sample = where = place(info, 0, channel)
    limits = _extremes(statistics, where) or value_range(info)
    window = windows.get(where) or value_range(info)
    around = min(limits[0], window[0]), max(limits[1], window[1])
    active = where in shown if shown else frame == 0 and (info.colour is Colour.RGB or sample == 0)
    return Setting(frame, sample, *_name(info, channel, shown.get(where)), window, around, active)


def _extremes(statistics: AllStatistics, where: tuple[int, int]) -> Window | None:
    """Return the least and the greatest value of a channel, where it was measured."""
    found = statistics[where[0]][where[1]] if where[0] in statistics else NOTHING
    return None if found.low is None or found.high is None else (found.low, found.high)


def _name(info: ImageInfo, channel: int, shown: BandRecipe | None) -> tuple[str, str]:
    """Return the label and the colour of a channel."""
    position, primary = divmod(channel, len(PRIMARIES)) if info.colour is Colour.RGB else (channel, None)
    known = info.channels[position] if position < len(info.channels) else None
    if primary is not None:
        part, colour = PRIMARIES[primary]
        return f"{known.name} {part}" if known and known.name and count(info) > 3 else part, colour
    own = known.colour.removeprefix("#").upper() if known and known.colour else WHITE
    label = known.name if known and known.name else str(channel)
    return label, own if shown is None else _digits(shown)


def _digits(band: BandRecipe) -> str:
    """Return the colour that a band's palette ends in."""
    return bytes(band.palette[-1, :3].astype(np.uint8)).hex().upper()


def value_range(info: ImageInfo) -> Window:
    """Return the range of the values that an image may hold, as far as its file tells."""
    if info.colormap is not None:
        return 0.0, float(max(len(info.colormap) - 1, 1))
    if info.dtype.kind not in "iu":
        return 0.0, 1.0
    if info.significant_bits and info.dtype.kind == "u" and info.dtype.itemsize > 1:
        return 0.0, 2.0**info.significant_bits - 1
    limits = np.iinfo(info.dtype.name)
    return float(limits.min), float(limits.max)


def block(info: ImageInfo) -> dict[str, Any]:
    """Return the ``omero`` block of OME-NGFF 0.4 of an image.

    The values are not looked at: a window that the file does not give is the type's range.
    """
    return {
        "version": VERSION,
        "channels": [_channel(entry) for entry in settings(info, {})],
        "rdefs": {"defaultZ": 0, "defaultT": 0, "model": model(info)},
    }


def has_block(info: ImageInfo) -> bool:
    """Say whether a style can name the channels: not those of a colour map, or of several colour frames."""
    several = info.colour is Colour.RGB and count(info) > len(PRIMARIES)
    return info.colormap is None and not several


def model(info: ImageInfo) -> str:
    """Return OMERO's word for how the channels join."""
    return "greyscale" if count(info) == 1 else "color"


def _channel(entry: Setting) -> dict[str, Any]:
    return {
        "active": entry.active,
        "coefficient": 1,
        "color": entry.colour,
        "family": "linear",
        "inverted": False,
        "label": entry.label,
        "window": window(entry),
    }


def window(entry: Setting) -> dict[str, float]:
    """Return a channel's window and the limits to set it within, in OMERO's words."""
    names = ("start", "end", "min", "max")
    return dict(zip(names, (*entry.window, *entry.limits), strict=True))
