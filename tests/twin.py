"""The twin of the style path, in plain NumPy: from a style's JSON and stored frames to pixels.

Nothing of gputiles is in it. It says once more, and in its own way, what large_image does with
a style (which key means what, which band and frame it takes, where "auto" puts a window), what
gputiles does differently on purpose, and in which order the float32 arithmetic goes. It knows
nothing of bad styles: they have no pixels.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, TypeAlias

import cmap
import numpy as np
import palettable
from numpy.typing import NDArray
from PIL import ImageColor

Array: TypeAlias = NDArray[Any]
Entry: TypeAlias = dict[str, Any]

F32 = np.float32
BEYOND = F32(65536)  # windows: how far past its end a ramp from 0 goes on
BRIGHTEST = F32(2**24)  # the most that a product of bands may reach
GAMMA_STOPS = 4097
SHOWN = 4  # channels of the default look
TAIL = 0.001  # of the values that the default look leaves out at either end
ONLY_MATPLOTLIB = {
    "r": "#ff0000", "g": "#008000", "b": "#0000ff", "c": "#00bfbf", "m": "#bf00bf", "y": "#bfbf00",
    "tab:blue": "#1f77b4", "tab:orange": "#ff7f0e", "C2": "#2ca02c",
}  # fmt: skip
PRIMARIES = {
    "R": "#f00", "RED": "#f00", "G": "#0f0", "GREEN": "#0f0", "B": "#00f", "BLUE": "#00f",
}  # fmt: skip


@dataclass(frozen=True)
class Picture:
    """What an image stores: frames of (rows, columns, samples), C their fastest axis.

    ``channels`` and ``colours`` are the names of the channels and their ``#rrggbb``; with
    one frame per channel there are as many as positions on C, else one for each sample.
    """

    frames: tuple[Array, ...]
    channels: tuple[str, ...] = ()
    colours: tuple[str, ...] = ()
    along_c: int = 1
    alpha: bool = False
    rgb: bool = False
    nodata: float | None = None

    @property
    def samples(self) -> int:
        return int(self.frames[0].shape[2])

    @property
    def dtype(self) -> np.dtype[Any]:
        return self.frames[0].dtype


def styled(picture: Picture, text: str, frame: int = 0) -> NDArray[np.uint8]:
    """Return the whole picture as the style ``text`` shows it: (rows, columns, 1 … 4) bytes."""
    top = given(json.loads(text))
    top.pop("icc", None)
    if not top:
        return unstyled(picture.frames[frame])
    entries = [given(entry) for entry in top["bands"]] if "bands" in top else [top]
    frames = [entry["frame"] for entry in entries if "frame" in entry]
    main = int(frames[0]) if frames and len(frames) == len(entries) else frame
    axis = first_of("axis", top, entries)
    samples = 1 if axis is None and grey(picture, entries) else 4
    out = np.zeros((*picture.frames[main].shape[:2], samples), F32)
    for number, entry in enumerate(entries):
        draw(out, picture, entry, main, first=number == 0)
    pixels = as_bytes(out, first_of("dtype", top, entries), picture.dtype)
    return pixels if axis is None else pixels[..., int(axis) : int(axis) + 1]


def given(entry: Entry) -> Entry:
    """Return the keys with a value: null is an absent key."""
    return {key: value for key, value in entry.items() if value is not None}


def first_of(key: str, top: Entry, entries: Sequence[Entry]) -> Any:
    """Return a setting of the whole style: at the top, else of the first band that has it."""
    return next((entry[key] for entry in (top, *entries) if key in entry), None)


def grey(picture: Picture, entries: Sequence[Entry]) -> bool:
    """Tell whether one band of an image of one sample runs from black to white."""
    if len(entries) != 1 or entries[0].get("band") == "alpha" or picture.samples != 1:
        return False
    return np.array_equal(colours_of(entries[0]), [[0, 0, 0, 255], [255, 255, 255, 255]])


# -- a band: what it takes, and what it adds


def draw(out: Array, picture: Picture, entry: Entry, main: int, *, first: bool) -> None:
    """Blend one band into the accumulators ``out``."""
    blend = entry.get("composite", "multiply" if entry.get("band") == "alpha" else "lighten")
    frame, sample = place(picture, entry, main)
    if sample is None:  # the alpha of an image without one: opaque, the factor 1
        assert blend == "multiply"
        return
    stored = picture.frames[frame]
    values = stored[..., sample]
    low, high = (limit(picture, entry.get(side, "auto"), side, stored, sample) for side in ("min", "max"))
    n = in_window(values, low, high)
    nodata = entry.get("nodata", "nan")
    shown = ~is_void(values, picture.nodata if nodata == "nan" else float(nodata))
    if not entry.get("clamp", True):
        shown &= (n >= 0) & (n <= 1)
    stops = ramp_of(entry, blend)
    for c in range(out.shape[2]):
        colour = colour_at(
            np.clip(n, F32(0), BEYOND), stops[:, c], blend, stepped=entry.get("scheme") == "discrete"
        )
        out[..., c] = joined(out[..., c], colour, shown, blend, first=first, alpha=c == 3)


def place(picture: Picture, entry: Entry, main: int) -> tuple[int, int | None]:
    """Return the frame and the sample that a band shows; no sample is an alpha that is not there."""
    frame = int(entry["frame"]) if "frame" in entry else main + int(entry.get("framedelta", 0))
    if "channel" in entry:
        channel = entry["channel"]
        number = picture.channels.index(channel) if channel in picture.channels else int(channel)
        if picture.along_c == 1 and not picture.rgb:
            return frame, number
        frame += number - frame % picture.along_c
    return frame, sample_of(picture, entry.get("band"))


def sample_of(picture: Picture, band: Any) -> int | None:
    """Return a 0-based sample; large_image shows green where a colour image's band is not given."""
    band = band.lower() if isinstance(band, str) else band
    if band == "alpha":
        return picture.samples - 1 if picture.alpha else None
    if band in (None, "gray", "grey"):
        return 0 if picture.samples <= 2 else 1
    named = {"red": 0, "green": 1, "blue": 2}
    return named[band] if band in named else int(band) - 1


def is_void(values: Array, nodata: float | None) -> NDArray[np.bool_]:
    """Tell which values mean nothing: NaN always does, nodata where it is that very value."""
    void: NDArray[np.bool_] = np.isnan(values)
    if nodata is not None:
        void |= values == (F32(nodata) if values.dtype == F32 else np.float64(nodata))
    return void


# -- windows


def limit(picture: Picture, value: Any, side: str, stored: Array, sample: int) -> float:
    """Return the number that one end of a window means."""
    word, _, share = str(value).strip().partition(":")
    if word not in ("auto", "min", "max", "full"):
        return float(value)
    top = {"uint16": 65535.0, "float32": 1.0, "float64": 1.0}.get(stored.dtype.name, 255.0)
    if word == "full":
        return 0.0 if side == "min" else top
    if word == "auto":
        ends = [extremes(counted(stored[..., s], picture.nodata)) for s in range(stored.shape[2])]
        if all(pair is not None and 0 <= pair[0] <= 254 and 2 <= pair[1] <= 255 for pair in ends):
            return 0.0 if side == "min" else 255.0
        word = side
    values = counted(stored[..., sample], picture.nodata)
    pair = extremes(values)
    if pair is None:
        return 0.0 if word == "min" else top
    return threshold(values, float(share), word) if share and float(share) else pair[word == "max"]


def counted(values: Array, nodata: float | None) -> NDArray[np.float64]:
    """Return the values that statistics see: finite, and not the file's nodata."""
    return values[np.isfinite(values) & ~is_void(values, nodata)].astype(np.float64)


def extremes(values: NDArray[np.float64]) -> tuple[float, float] | None:
    return (float(values.min()), float(values.max())) if values.size else None


def threshold(values: NDArray[np.float64], share: float, word: str) -> float:
    """Walk over 256 bins between the lowest value and the highest + 1 until ``share`` has gone by."""
    low, high = float(values.min()), float(values.max())
    counts, edges = np.histogram(values, 256, (low, high + 1))
    if word == "max":
        counts, edges, low = counts[::-1], edges[::-1], high
    gone = 0
    for number, count in enumerate(counts):
        gone += count
        if gone > share * values.size:
            return float(edges[number]) if number else low
    return float(edges[-1])


def in_window(values: Array, low: float, high: float) -> NDArray[np.float32]:
    """Return (value - low) / (high - low) in float32; equal ends are a window of width 1.

    Types of which float32 cannot hold every value are subtracted in float64, then rounded.
    """
    wide: Any = np.float64 if values.dtype.itemsize > 2 and values.dtype != F32 else F32
    above = np.where(np.isnan(values), 0, values).astype(wide) - wide(low)
    n: NDArray[np.float32] = above.astype(F32) / (F32(wide(high) - wide(low)) or F32(1))
    return n


# -- colours


def colours_of(entry: Entry) -> NDArray[np.float64]:
    """Return the (n, 4) RGBA of a band's palette, 0 … 255."""
    value = entry.get("palette")
    if value is None:
        value = ["#fff0", "#ffff"] if entry.get("band") == "alpha" else ["#000", "#fff"]
    if isinstance(value, str):
        return named(value)
    return np.array([rgba(colour) for colour in value], np.float64)


def rgba(colour: Any) -> tuple[float, ...]:
    """Return one colour of a list: text as Pillow reads it, or fractions."""
    if not isinstance(colour, str):
        return tuple(part * 255 for part in (*colour, 1.0)[:4])
    colour = PRIMARIES.get(colour) or ONLY_MATPLOTLIB.get(colour) or colour
    return tuple(map(float, ImageColor.getcolor(colour, "RGBA")))  # type: ignore[arg-type]


@cache
def named(name: str) -> NDArray[np.float64]:
    """Return what a lone name ramps through."""
    if name in ONLY_MATPLOTLIB:
        return np.array([(0, 0, 0, 0), rgba(name)], np.float64)
    if "." in name:
        module, _, which = name.rpartition(".")
        listed = getattr(getattr(palettable, module), which).hex_colors
        return np.array([rgba(colour) for colour in listed])
    try:
        return np.array([(0, 0, 0, 255), rgba(name)], np.float64)
    except ValueError:  # no colour: a colour map
        return np.asarray(cmap.Colormap(name).lut(256), np.float64) * 255


def ramp_of(entry: Entry, blend: str) -> NDArray[np.float32]:
    """Return the stops of a band's palette with gamma, then opacity, worked in."""
    colours, gamma = colours_of(entry), float(entry.get("gamma", 1))
    if gamma != 1 and len(colours) > 1:
        at = np.linspace(0, 1, GAMMA_STOPS) ** gamma
        if entry.get("scheme") == "discrete":
            colours = colours[np.clip(np.floor(at * len(colours)), 0, len(colours) - 1).astype(int)]
        else:
            places = np.linspace(0, 1, len(colours))
            colours = np.stack([np.interp(at, places, colours[:, c]) for c in range(4)], 1)
    stops, opacity = colours.astype(F32), F32(float(entry.get("opacity", 1)))
    if opacity == 1:
        return stops
    return F32(255) - (F32(255) - stops) * opacity if blend == "multiply" else stops * opacity


def colour_at(n: Array, stops: Array, blend: str, *, stepped: bool) -> Array:
    """Return one component of a palette at ``n``, which is 0 … BEYOND."""
    last = len(stops) - 1
    inside = np.minimum(n, F32(1))
    colour: Array
    if (stops == stops[0]).all():
        colour = np.full(n.shape, stops[0])
    elif stepped:
        colour = stops[np.minimum(np.floor(inside * F32(last + 1)).astype(int), last)]
    elif last == 1 and stops[0] == 0:  # large_image's ramp: the end of the window does not stop it
        colour = (n if blend in ("lighten", "multiply") else inside) * stops[1]
    else:
        t = inside * F32(last)
        i = np.minimum(np.floor(t).astype(int), last - 1)
        colour = stops[i] + (t - i.astype(F32)) * (stops[i + 1] - stops[i])
    return colour


# -- what bands make together


def joined(old: Array, colour: Array, shown: Array, blend: str, *, first: bool, alpha: bool) -> Array:
    """Return a component after a band; a pixel that is not shown brings nothing."""
    if blend == "multiply":
        factor = np.where(shown, colour / F32(255), F32(1))
        return old if first else np.minimum(old * factor, BRIGHTEST)
    light = np.where(shown, colour, F32(0))
    if blend == "lighten" or alpha:
        return np.maximum(old, light)
    return old + light if blend == "additive" else (old + light) - (old * light) / F32(255)


def as_bytes(out: Array, dtype: Any, source: np.dtype[Any]) -> NDArray[np.uint8]:
    """Return the accumulators as an encoder writes them, after the type that a style asks for."""
    if dtype == "source":
        dtype = "float" if source.kind == "f" else source.name
    out = np.clip(out, F32(0), F32(255))
    if dtype == "uint16":
        out = np.floor(out * F32(65535) / F32(255)) // 256
    elif dtype == "float":
        out = out / F32(255)
    pixels: NDArray[np.uint8] = out.astype(np.uint8)
    return pixels


def unstyled(stored: Array) -> NDArray[np.uint8]:
    """Return stored values as an encoder writes them: the high byte, floats clipped."""
    stored = stored if stored.shape[2] <= 4 else stored[..., :3]
    if stored.dtype.kind == "f":
        high = np.clip(np.nan_to_num(stored, nan=0), 0, 255)
    else:
        limits = np.iinfo(stored.dtype)
        step = (int(limits.max) - int(limits.min) + 1) // 256
        high = (stored.astype(np.int64) - int(limits.min)) // step
    pixels: NDArray[np.uint8] = high.astype(np.uint8)
    return pixels


# -- no style at all


def looked_at(picture: Picture, frame: int = 0) -> NDArray[np.uint8]:
    """Return the default look of integers: channels added up in their colours, cut at TAIL.

    Only for images of separate channels in frames, each with its colour.
    """
    out = np.zeros((*picture.frames[frame].shape[:2], 4), F32)
    base = frame - frame % picture.along_c
    for channel in range(min(SHOWN, picture.along_c)):
        values = picture.frames[base + channel][..., 0]
        low, high = percentile(values, TAIL), percentile(values, 1 - TAIL)
        n = np.clip(in_window(values, low, high), F32(0), F32(1))
        stops = np.array([(0, 0, 0, 255), rgba(picture.colours[channel])], F32)
        for c in range(4):
            light = colour_at(n, stops[:, c], "additive", stepped=False)
            shown = np.ones(values.shape, bool)
            out[..., c] = joined(out[..., c], light, shown, "additive", first=channel == 0, alpha=c == 3)
    return as_bytes(out, None, picture.dtype)


def percentile(values: Array, share: float) -> float:
    """Return the least of the values that at least ``share`` of them do not exceed."""
    ordered = np.sort(values, axis=None)
    rank = int(np.ceil(max(share * ordered.size, 1.0)))
    return float(ordered[min(rank, ordered.size) - 1])
