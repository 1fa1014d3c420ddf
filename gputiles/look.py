"""The default look: what is shown of an image when no style is asked for.

Plain 8-bit grey or colour, and images with a colour map, are shown as they are stored.
Everything else gets windows that hold for the whole image, never for one tile: the one that
the file gives for a channel, else the values between its ``TAIL`` and 1 - ``TAIL``
percentiles. Of an image with several channels the first ``MOST_CHANNELS`` are added up in
their colours; 16-bit colour shares one window; a lone channel is a grey ramp.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from gputiles.colours import Rgba, parse_colour
from gputiles.image import Alpha, Channel, Colour, ImageInfo
from gputiles.palettes import BLACK_TO_WHITE, CLEAR_TO_OPAQUE, Palette, table
from gputiles.ranges import Statistics
from gputiles.recipe import BandRecipe, Blend, Recipe

BLACK: Rgba = (0.0, 0.0, 0.0, 255.0)
MOST_CHANNELS = 4
TAIL = 0.001
COLOURS = ("#0000ff", "#00ff00", "#ff0000", "#ffff00", "#ff00ff", "#00ffff", "#ffffff")
"""What channels without a colour of their own are shown in, those taken left out."""

Window = tuple[float, float]
AllStatistics = Mapping[int, tuple[Statistics, ...]]


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
    opaque = info.nodata is None and info.dtype.kind != "f"
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
        return [] if info.dtype == np.uint8 else _colour_parts(info, frame)
    channels = _channels(info, frame, single)
    if len(channels) == 1 and info.dtype == np.uint8 and _data_samples(info) == 1:
        return []
    return channels + _alpha_parts(info, frame)


def _colour_parts(info: ImageInfo, frame: int) -> list[_Part]:
    """Return red, green and blue, one sample each, and alpha where there is one."""
    colours = ("#ff0000", "#00ff00", "#0000ff")
    parts = [_Part(frame, sample, _ramp(colour)) for sample, colour in enumerate(colours)]
    return parts + _alpha_parts(info, frame)


def _channels(info: ImageInfo, frame: int, single: bool) -> list[_Part]:
    """Return the channels to show: the first ones, or the frame's own alone."""
    count = channel_count(info)
    frames = dict(info.axes).get("C", 1)
    if count == 1 or (single and frames > 1):
        own = frame // info.strides().get("C", 1) % frames
        channel = info.channels[own] if own < len(info.channels) else Channel("")
        return [_Part(frame, 0, BLACK_TO_WHITE, channel.window)]
    shown = range(min(count, MOST_CHANNELS))
    given = [info.channels[i].colour if i < len(info.channels) else None for i in shown]
    spare = iter(colour for colour in COLOURS if colour not in given)
    return [_channel(info, frame, i, colour or next(spare)) for i, colour in zip(shown, given, strict=True)]


def _channel(info: ImageInfo, frame: int, index: int, colour: str) -> _Part:
    place, sample = channel_place(info, frame, index)
    window = info.channels[index].window if index < len(info.channels) else None
    return _Part(place, sample or 0, _ramp(colour), window)


def _alpha_parts(info: ImageInfo, frame: int) -> list[_Part]:
    sample = alpha_sample(info)
    if sample is None:
        return []
    return [_Part(frame, sample, CLEAR_TO_OPAQUE, (0.0, _type_range(info)), alpha=True)]


def _ramp(colour: str) -> Palette:
    rgba = parse_colour(colour) or (255.0, 255.0, 255.0, 255.0)
    return (BLACK, rgba)


def _type_range(info: ImageInfo) -> float:
    """Return the largest value of the type; 1 for floats."""
    return 1.0 if info.dtype.kind == "f" else float(np.iinfo(info.dtype.name).max)


def _window(info: ImageInfo, statistics: Statistics) -> Window:
    """Return the percentile window; of a constant image one in which it is not black."""
    low, high = statistics.percentile(TAIL), statistics.percentile(1 - TAIL)
    if low is None or high is None:
        return 0.0, 1.0
    if low < high:
        return low, high
    extremes = statistics.low, statistics.high
    if extremes[0] is not None and extremes[1] is not None and extremes[0] < extremes[1]:
        return extremes[0], extremes[1]
    top = float(2**info.significant_bits - 1) if info.significant_bits else _type_range(info)
    return (0.0, top) if 0 <= low <= top else (low - 1, low + 1)


def _shared(parts: Sequence[_Part], windows: Sequence[Window]) -> list[Window]:
    """Return one window for all colours: apart they would shift the hue."""
    colours = [window for part, window in zip(parts, windows, strict=True) if not part.alpha]
    common = min(low for low, _ in colours), max(high for _, high in colours)
    return [window if part.alpha else common for part, window in zip(parts, windows, strict=True)]


def _band(part: _Part, window: Window, info: ImageInfo) -> BandRecipe:
    return BandRecipe(
        frame=part.frame,
        sample=part.sample,
        low=window[0],
        high=window[1],
        palette=table(part.palette, False, 1.0),
        blend=Blend.MULTIPLY if part.alpha else Blend.ADDITIVE,
        nodata=None if part.alpha else info.nodata,
    )
