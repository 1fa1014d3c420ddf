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
    ...


