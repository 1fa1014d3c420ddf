"""The default look: what is shown of an image when no style is asked for.

Plain 8-bit grey or colour, and images with a colour map, are shown as they are stored, but
for pixels that are no data.
Everything else gets windows that hold for the whole image, never for one tile: the one that
the file gives for a channel, else the values between its ``TAIL`` and 1 - ``TAIL``
percentiles. Of an image with several channels the first ``MOST_CHANNELS``, of those that the
file wants shown, are added up in their colours; 16-bit colour shares one window; a lone channel
is a grey ramp.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

import numpy as np

from gputiles.colours import Rgba, parse_colour
from gputiles.image import Alpha, Channel, Colour, ImageInfo
from gputiles.palettes import BLACK_TO_WHITE, CLEAR_TO_OPAQUE, Palette, table
from gputiles.ranges import Statistics
from gputiles.recipe import BandRecipe, Blend, Recipe

MOST_CHANNELS = 4
TAIL = 0.001
COLOURS = ("#0000ff", "#00ff00", "#ff0000", "#ffff00", "#ff00ff", "#00ffff", "#ffffff")
"""What channels without a colour of their own are shown in, those taken left out."""

Window: TypeAlias = tuple[float, float]
AllStatistics: TypeAlias = Mapping[int, tuple[Statistics, ...]]
"""Of every measured frame, the statistics of each sample."""

_BLACK = BLACK_TO_WHITE[0]
_NAMELESS = Channel("")
_BYTE = (0.0, 255.0)


@dataclass(frozen=True, slots=True)
class _Part:
    """One band of the look: its place, the window that the file gives, its colours."""

    frame: int
    sample: int
    palette: Palette
    window: Window | None = None
    alpha: bool = False


def unstyled(info: ImageInfo, frame: int) -> Recipe:
    """Return the conversion of ``frame`` as it is stored, through the image's colour map."""
    return Recipe(frames=(frame,), colormap=info.colormap)


def frames_to_measure(info: ImageInfo, frame: int, single: bool) -> tuple[int, ...]:
    """Return the frames whose statistics the look needs."""
    parts = _parts(info, frame, single)
    return tuple(dict.fromkeys(part.frame for part in parts if part.window is None))


def make_recipe(info: ImageInfo, frame: int, statistics: AllStatistics, single: bool) -> Recipe:
    """Return the default look of ``frame``; ``single`` shows its own channel alone."""
    parts = _parts(info, frame, single)
    if not parts:
        return unstyled(info, frame)
    windows = [part.window or _window(info, statistics[part.frame][part.sample]) for part in parts]
    if info.colour is Colour.RGB:
        windows = _shared(parts, windows)
    bands = tuple(_band(part, window, info) for part, window in zip(parts, windows, strict=True))
    frames = tuple(dict.fromkeys(part.frame for part in parts))
    opaque = not hides_nodata(info) and info.dtype.kind != "f"
    grey = len(parts) == 1 and parts[0].palette == BLACK_TO_WHITE
    return Recipe(frames, bands, samples=1 if grey and opaque else 4)


def alpha_sample(info: ImageInfo) -> int | None:
    """Return the 0-based sample that is alpha, or None."""
    return None if info.alpha is Alpha.NONE else info.samples - 1


def full_range(info: ImageInfo) -> float:
    """Return the end of a type's full window, as large_image has it: 65535, 1 or 255."""
    return 65535.0 if info.dtype == np.uint16 else 1.0 if info.dtype.kind == "f" else 255.0


def channel_count(info: ImageInfo) -> int:
    """Return the number of channels: positions on axis C, else independent samples."""
    frames = dict(info.axes).get("C", 1)
    return frames if frames > 1 or info.colour is not Colour.GREY else _data_samples(info)


def channel_place(info: ImageInfo, frame: int, channel: int) -> tuple[int, int | None]:
    """Return the frame of a channel at the other positions of ``frame``, and its sample.

    The sample is None where channels are frames.
    """
    count, stride = dict(info.axes).get("C", 1), info.strides().get("C", 1)
    if count > 1 or info.colour is not Colour.GREY:
        return frame + (channel - frame // stride % count) * stride, None
    return frame, channel


def _data_samples(info: ImageInfo) -> int:
    return info.samples - (info.alpha is not Alpha.NONE)


def _parts(info: ImageInfo, frame: int, single: bool) -> list[_Part]:
    """Return the bands of the look; none where the stored values are shown as they are."""
    if info.colormap is not None:
        return []
    if info.colour is Colour.RGB:
        idle = _is_more_than_colours(info) or hides_nodata(info)
        return [] if info.dtype == np.uint8 and not idle else _colour_parts(info, frame)
    channels = _channels(info, frame, single)
    if len(channels) == 1 and info.dtype == np.uint8 and _data_samples(info) == 1:
        if not hides_nodata(info):
            return []
        channels = [replace(channels[0], window=_BYTE)]
    return channels + _alpha_parts(info, frame)


def is_plain(info: ImageInfo) -> bool:
    """Say whether the default look may be the stored bytes: of 8 bits that are colours themselves."""
    return info.dtype == np.uint8 and info.colormap is None and not hides_nodata(info)


def hides_nodata(info: ImageInfo) -> bool:
    """Whether the look leaves out pixels that are no data.

    Of colours only black can be: elsewhere one colour of a pixel may happen to be the value.
    """
    if info.nodata is None or info.colormap is not None:
        return False
    return info.nodata == 0 or info.colour is Colour.GREY


def _colour_parts(info: ImageInfo, frame: int) -> list[_Part]:
    """Return red, green and blue, and alpha where the image has it."""
    primaries = [_ramp(_rgba(name)) for name in ("#ff0000", "#00ff00", "#0000ff")]
    window = _BYTE if info.dtype == np.uint8 else None
    parts = [_Part(frame, sample, palette, window) for sample, palette in enumerate(primaries)]
    return parts + _alpha_parts(info, frame)


def _is_more_than_colours(info: ImageInfo) -> bool:
    """Whether the values as they are stored would be shown with a wrong alpha, or without theirs."""
    if info.alpha is Alpha.NONE:
        return info.samples == 4
    return info.samples > 4


def _alpha_parts(info: ImageInfo, frame: int) -> list[_Part]:
    sample = alpha_sample(info)
    if sample is None:
        return []
    top = 1.0 if info.dtype.kind == "f" else float(np.iinfo(info.dtype.name).max)
    return [_Part(frame, sample, CLEAR_TO_OPAQUE, (0.0, top), alpha=True)]


def _channels(info: ImageInfo, frame: int, single: bool) -> list[_Part]:
    """Return the channels to show, in the order of the file."""
    count = channel_count(info)
    places = [channel_place(info, frame, channel) for channel in range(count)]
    shown = [channel for channel in range(count) if places[channel][0] not in info.missing]
    own = [channel for channel in range(count) if places[channel] == (frame, None)]
    if (single or not shown) and own:
        shown = own
    elif any(_entry(info, channel).active for channel in shown):
        shown = [channel for channel in shown if _entry(info, channel).active]
    shown = shown[:MOST_CHANNELS]
    entries = [_entry(info, channel) for channel in shown]
    palettes = [BLACK_TO_WHITE] if len(shown) == 1 else [_ramp(colour) for colour in _colours(entries)]
    return [
        _Part(places[channel][0], places[channel][1] or 0, palette, _given(entry))
        for channel, entry, palette in zip(shown, entries, palettes, strict=True)
    ]


def _entry(info: ImageInfo, channel: int) -> Channel:
    return info.channels[channel] if channel < len(info.channels) else _NAMELESS


def _given(channel: Channel) -> Window | None:
    """Return the window that the file gives, where it is one."""
    if channel.window is None or not np.isfinite(channel.window).all():
        return None
    return channel.window if channel.window[0] < channel.window[1] else None


def _colours(channels: Sequence[Channel]) -> list[Rgba]:
    """Return each channel's own colour, or one that no other channel has; black is none."""
    own = [_rgba(channel.colour) if channel.colour else _BLACK for channel in channels]
    free = [colour for colour in map(_rgba, COLOURS) if colour not in own]
    return [free.pop(0) if colour[:3] == _BLACK[:3] else colour for colour in own]


def _rgba(text: str) -> Rgba:
    return parse_colour(text) or _BLACK


def _ramp(colour: Rgba) -> Palette:
    return _BLACK, (*colour[:3], 255.0)


def _window(info: ImageInfo, statistics: Statistics) -> Window:
    """Return the window of a sample: percentiles, else extremes, else what the type holds."""
    low, high = statistics.percentile(TAIL), statistics.percentile(1 - TAIL)
    if low is not None and high is not None and low < high:
        return low, high
    low, high = statistics.low, statistics.high
    if low is None or high is None:
        return 0.0, 1.0
    return (low, high) if low < high else (min(low, 0.0), max(high, _usual_top(info)))


def _usual_top(info: ImageInfo) -> float:
    """Return the highest value that a detector gives, as far as the file tells."""
    if info.dtype.kind == "f":
        return 1.0
    if info.significant_bits:
        return 2.0**info.significant_bits - 1
    return float(np.iinfo(info.dtype.name).max)


def _shared(parts: Sequence[_Part], windows: Sequence[Window]) -> list[Window]:
    """Return one window for all colours, so that greys stay grey."""
    measured = [window for part, window in zip(parts, windows, strict=True) if not part.alpha]
    common = min(low for low, _ in measured), max(high for _, high in measured)
    return [window if part.alpha else common for part, window in zip(parts, windows, strict=True)]


def _band(part: _Part, window: Window, info: ImageInfo) -> BandRecipe:
    return BandRecipe(
        frame=part.frame,
        sample=part.sample,
        low=window[0],
        high=window[1],
        palette=table(part.palette, False, 1.0),
        blend=Blend.MULTIPLY if part.alpha else Blend.ADDITIVE,
        nodata=info.nodata if hides_nodata(info) and not part.alpha else None,
    )
