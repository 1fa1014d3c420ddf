"""Look-ups: the palettes of bands as the kernels read them."""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from gputiles.recipe import BandRecipe, Blend

SKIP, CONSTANT, RAMP, LINEAR, STEP = range(5)


class Palette(NamedTuple):
    """A band's palette as the kernels read it.

    ``planes`` are the (4, stops) float32 components with the opacity worked in, read-only; ``kinds`` and
    ``values`` say of each component how it is looked up the cheapest way.
    """

    planes: NDArray[np.float32]
    kinds: tuple[int, ...]
    values: tuple[float, ...]


def palette(recipe: BandRecipe) -> Palette:
    """Return the palette of a band, remembered: a new style seldom has new colours."""
    return _palette(recipe.palette.tobytes(), recipe.opacity, recipe.blend is Blend.MULTIPLY, recipe.discrete)


@lru_cache(maxsize=256)
def _palette(stops: bytes, opacity: float, multiplied: bool, discrete: bool) -> Palette:
    """Return a palette of float32 RGBA ``stops``."""
    colours = np.frombuffer(stops, np.float32).reshape(-1, 4)
    if opacity != 1 and multiplied:
        colours = np.float32(255) - (np.float32(255) - colours) * np.float32(opacity)
    elif opacity != 1:
        colours = colours * np.float32(opacity)
    planes = np.ascontiguousarray(colours.T)
    planes.flags.writeable = False
    return Palette(planes, *_components(planes, 255.0 if multiplied else 0.0, discrete))


def _components(
    planes: NDArray[np.float32], neutral: float, discrete: bool
) -> tuple[tuple[int, ...], tuple[float, ...]]:
    """Return (kinds, values) of a palette's four components; ``neutral`` is what changes nothing."""
    level = (planes == planes[:, :1]).all(axis=1).tolist()
    kinds, values = [], []
    for first, last, same in zip(planes[:, 0].tolist(), planes[:, -1].tolist(), level, strict=True):
        ramp = planes.shape[1] == 2 and first == 0 and not discrete
        if same:
            kinds.append(SKIP if first == neutral else CONSTANT)
        else:
            kinds.append(RAMP if ramp else STEP if discrete else LINEAR)
        values.append(last if same or ramp else 0.0)
    return tuple(kinds), tuple(values)
