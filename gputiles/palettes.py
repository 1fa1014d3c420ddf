"""Palettes: the colours that a style ramps through, from their many notations to tables."""

from __future__ import annotations

import importlib
import re
import warnings
from collections.abc import Iterable, Sequence
from functools import lru_cache
from numbers import Real
from types import ModuleType
from typing import SupportsFloat, TypeAlias

import numpy as np
from numpy.typing import NDArray

from gputiles.colours import Rgba, parse_colour, parse_matplotlib
from gputiles.entries import brief
from gputiles.errors import BadStyle

Palette: TypeAlias = tuple[Rgba, ...]

BLACK_TO_WHITE: Palette = ((0.0, 0.0, 0.0, 255.0), (255.0, 255.0, 255.0, 255.0))
"""What a band without a palette ramps through."""

CLEAR_TO_OPAQUE: Palette = ((255.0, 255.0, 255.0, 0.0), (255.0, 255.0, 255.0, 255.0))
"""What an alpha band without a palette ramps through."""

MOST_COLOURS = 4096
"""The longest palette that a style may list."""

GAMMA_STOPS = 4097
"""Evenly spaced stops of a palette that a gamma is folded into."""

_NAME = re.compile(r"[A-Za-z]\w*(?:\.[A-Za-z]\w*)+", re.ASCII)
_MAP_NAME = re.compile(r"(?:[A-Za-z]\w*:)?[A-Za-z][\w -]*", re.ASCII)
_ALLOWED = (
    "a CSS colour, '#rrggbb', '#rrggbbaa', 'rgb(…)', 'hsl(…)', [r, g, b] or [r, g, b, a] of 0 … 1, "
    "a list of these, 'matplotlib.Viridis_6' or a colour map such as 'viridis'"
)


def parse_palette(value: object, place: str = "palette") -> Palette:
    """Return the colours of a palette in any notation that large_image reads.

    A single colour ramps from black; a colour that only Matplotlib knows from transparent
    black; names of the palettable package give their colours, colour maps 256 samples
    (qualitative ones their own colours). A colour's name wins over a colour map's:
    ``gray`` is a colour, ``matlab:gray`` the map. Raises BadStyle for anything else.
    """
    if isinstance(value, str):
        colours = _named(value)
        if colours is None:
            raise _refusal(place, value)
        return colours
    if not isinstance(value, Sequence) or isinstance(value, bytes) or not value:
        raise _refusal(place, value)
    if len(value) > MOST_COLOURS:
        raise BadStyle(f"{place}: expected at most {MOST_COLOURS} colours; got {len(value)}")
    return tuple(_entry(entry, f"{place}[{index}]") for index, entry in enumerate(value))


@lru_cache(maxsize=256)
def table(palette: Palette, discrete: bool, gamma: float) -> NDArray[np.float32]:
    """Return the (n, 4) float32 stops of a palette with the gamma folded in, read-only.

    A gamma other than 1 shows n ** gamma in place of n: the palette is sampled at
    ``GAMMA_STOPS`` positions; between them the kernel is linear, or (discrete) stepped.
    """
    stops = np.array(palette, np.float64)
    if gamma != 1 and len(stops) > 1:
        position = np.linspace(0, 1, GAMMA_STOPS) ** gamma
        stops = _steps(stops, position) if discrete else _ramp(stops, position)
    result = stops.astype(np.float32)
    result.flags.writeable = False
    return result


def _steps(stops: NDArray[np.float64], position: NDArray[np.float64]) -> NDArray[np.float64]:
    return stops[np.minimum((position * len(stops)).astype(np.intp), len(stops) - 1)]


def _ramp(stops: NDArray[np.float64], position: NDArray[np.float64]) -> NDArray[np.float64]:
    places = np.linspace(0, 1, len(stops))
    return np.stack([np.interp(position, places, component) for component in stops.T], axis=1)


def _entry(value: object, place: str) -> Rgba:
    """Return one colour of a list."""
    colour = _colour(value) if isinstance(value, str) else _fractions(value)
    if colour is None:
        raise _refusal(place, value)
    return colour


def _colour(text: str) -> Rgba | None:
    return parse_colour(text) or parse_matplotlib(text)


def _fractions(value: object) -> Rgba | None:
    """Return the RGBA of three or four numbers of 0 … 1."""
    if not isinstance(value, Sequence) or isinstance(value, bytes) or len(value) not in (3, 4):
        return None
    if not all(isinstance(part, Real) and not isinstance(part, bool) for part in value):
        return None
    parts = [float(part) for part in value]
    return _scaled([*parts, 1.0][:4]) if all(0 <= part <= 1 for part in parts) else None


@lru_cache(maxsize=1024)
def _named(name: str) -> Palette | None:
    if colour := parse_colour(name):
        return BLACK_TO_WHITE[0], colour
    if colour := parse_matplotlib(name):
        return (0.0, 0.0, 0.0, 0.0), colour
    return _from_palettable(name) or _from_cmap(name)


def _from_palettable(name: str) -> Palette | None:
    """Return the colours of ``module.Name_N``; only palettes of that package are reached."""
    if not _NAME.fullmatch(name):
        return None
    found: object = importlib.import_module("palettable")
    for part in name.split("."):
        if not isinstance(found, ModuleType) or not found.__name__.startswith("palettable"):
            return None
        found = getattr(found, part, None)
    if not isinstance(found, importlib.import_module("palettable.palette").Palette):
        return None
    return tuple((float(red), float(green), float(blue), 255.0) for red, green, blue in found.colors)


def _from_cmap(name: str) -> Palette | None:
    """Return 256 samples of a colour map, or the colours of a qualitative one; ``_r`` reverses."""
    if not _MAP_NAME.fullmatch(name):
        return None
    stem = name.removesuffix("_r")
    colormap = importlib.import_module("cmap").Colormap
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # names that the package has renamed still work
        try:
            found = colormap(colormap.catalog().resolve(stem))
        except (KeyError, ValueError):
            return None
    if found.category == "qualitative":
        colours = [stop.color for stop in found.color_stops]
    else:
        colours = list(found.lut(256))
    ramp = tuple(_scaled(colour) for colour in colours)
    return ramp if stem == name else ramp[::-1]


def _scaled(colour: Iterable[SupportsFloat]) -> Rgba:
    red, green, blue, alpha = (float(part) * 255 for part in colour)
    return red, green, blue, alpha


def _refusal(place: str, value: object) -> BadStyle:
    return BadStyle(f"{place}: {brief(value)} cannot be used as a color palette; expected {_ALLOWED}")
