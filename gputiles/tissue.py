"""Drawn tissue: what a multiplex immunofluorescence image could look like, computed.

Cells stand on a jittered grid of PITCH pixels. The shapes of nuclei, cytoplasm and membranes
repeat every PERIOD pixels; what a cell is and how strongly it stains is decided for each cell
of the whole image, from smooth random fields (outline of the tissue, nests of tumour, lymphoid
follicles), so that no repetition shows.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from gputiles.geometry import ceil_div

PITCH = 32
PERIOD = 1024
LOCAL = PERIOD // PITCH

Field: TypeAlias = NDArray[np.float32]


class Part(IntEnum):
    """The part of a cell that a marker stains."""

    NUCLEUS = 0
    CYTOPLASM = 1
    MEMBRANE = 2


class Kind(IntEnum):
    """What a cell is."""

    NOTHING = 0
    STROMA = 1
    TUMOUR = 2
    HELPER_T = 3
    KILLER_T = 4
    B_CELL = 5
    MACROPHAGE = 6


@dataclass(frozen=True, slots=True)
class Marker:
    """A channel: its name and colour, and what it stains.

    ``strength`` is the height of a typical signal in counts; ``stains`` gives every kind of
    cell that carries the marker its share of that; ``haze`` is the tissue's own glow, in
    counts; ``share`` is the part of those cells that carry it.
    """

    name: str
    colour: str
    part: Part
    strength: float
    stains: tuple[tuple[Kind, float], ...]
    haze: float = 24.0
    share: float = 1.0


_ALL = tuple((kind, 1.0) for kind in Kind if kind != Kind.NOTHING)

CHANNELS = (
    Marker("DAPI", "#3050ff", Part.NUCLEUS, 9000, _ALL, haze=60),
    Marker("CD3", "#ffe000", Part.MEMBRANE, 3600, ((Kind.HELPER_T, 1.0), (Kind.KILLER_T, 0.9))),
    Marker("CD8", "#ff3030", Part.MEMBRANE, 3000, ((Kind.KILLER_T, 1.0),)),
    Marker("CD20", "#30ff60", Part.MEMBRANE, 3400, ((Kind.B_CELL, 1.0),)),
    Marker("CD68", "#ff8000", Part.CYTOPLASM, 2600, ((Kind.MACROPHAGE, 1.0), (Kind.STROMA, 0.02))),
    Marker("PanCK", "#00e0e0", Part.CYTOPLASM, 5200, ((Kind.TUMOUR, 1.0),)),
    Marker("Ki67", "#ff40ff", Part.NUCLEUS, 4200, ((Kind.TUMOUR, 1.0), (Kind.B_CELL, 0.8)), share=0.22),
    Marker("Autofluorescence", "#808080", Part.CYTOPLASM, 160, _ALL, haze=240),
)  # fmt: skip


class Tissue:
    """A drawn image of ``size`` × ``size`` pixels with the channels of CHANNELS, uint16."""

    def __init__(self, size: int, seed: int) -> None:
        random = np.random.default_rng(seed)
        self._seed = seed
        self._cells = ceil_div(size, PERIOD) * LOCAL + 2  # a rim of one cell on each side
        self._owner, self._parts = _shapes(random)
        self._extent, kinds = _anatomy(self._cells, size / PITCH, random)
        self._amounts = [_amounts(marker, kinds, random) for marker in CHANNELS]
        self._fibres = _fibres(random)
        self._noise: Field = random.standard_normal(1 << 20, dtype=np.float32)

    def draw(self, channel: int, left: int, top: int, width: int, height: int) -> NDArray[np.uint16]:
        """Draw a rectangle of a channel; it must lie in one square of PERIOD × PERIOD pixels.

        The same rectangle always gets the same pixels.
        """
        marker = CHANNELS[channel]
        part = (slice(top % PERIOD, top % PERIOD + height), slice(left % PERIOD, left % PERIOD + width))
        row, column = top // PERIOD * LOCAL, left // PERIOD * LOCAL
        amounts = self._amounts[channel][row : row + LOCAL + 2, column : column + LOCAL + 2].ravel()
        signal = amounts[self._owner[part]]
        signal *= self._parts[marker.part][part]
        glow = _enlarge(self._extent, left, top, width, height)
        glow *= self._fibres[part]
        signal += glow * np.float32(marker.haze)
        return self._expose(signal, channel, left, top)

    def _expose(self, signal: Field, channel: int, left: int, top: int) -> NDArray[np.uint16]:
        """Add a camera's offset, shot noise and read noise; round to counts."""
        random = np.random.default_rng((self._seed, channel, left, top))
        starts = random.integers(0, self._noise.size - signal.shape[1], signal.shape[0])
        noise = np.stack([self._noise[start : start + signal.shape[1]] for start in starts])
        noise *= np.sqrt(signal * np.float32(0.12) + np.float32(1))
        signal += noise
        signal += np.float32(100.5)
        return np.clip(signal, 0, 65_535, out=signal).astype(np.uint16)


def _shapes(random: np.random.Generator) -> tuple[NDArray[np.uint16], tuple[Field, Field, Field]]:
    """Return, for one period, each pixel's cell and the profile of every Part there.

    A cell is named by its place in a (LOCAL + 2)² grid that includes the neighbours' rims.
    """
    cells = LOCAL + 2
    jitter = _wrapped(random.uniform(0.18, 0.82, (2, LOCAL, LOCAL)))
    squeeze, radius = _wrapped(random.uniform((0.72, 6.5), (1.0, 10.5), (LOCAL, LOCAL, 2)).transpose(2, 0, 1))
    angle = _wrapped(random.uniform(0, np.pi, (1, LOCAL, LOCAL)))[0]
    cosine, sine = np.cos(angle), np.sin(angle)
    place = np.arange(-1, LOCAL + 1) * PITCH
    seed_y, seed_x = place[:, None] + jitter[0] * PITCH, place[None, :] + jitter[1] * PITCH

    nearest = np.full((PERIOD, PERIOD), np.inf, np.float32)
    second = nearest.copy()
    owner = np.zeros((PERIOD, PERIOD), np.uint16)
    y, x = np.mgrid[0:PERIOD, 0:PERIOD].astype(np.float32)
    home = (y // PITCH).astype(np.intp) * cells + (x // PITCH).astype(np.intp)
    for step in (dy * cells + dx for dy in range(3) for dx in range(3)):
        cell = home + step
        down, right = y - seed_y.ravel()[cell], x - seed_x.ravel()[cell]
        along = (right * cosine.ravel()[cell] + down * sine.ravel()[cell]) * squeeze.ravel()[cell]
        across = (down * cosine.ravel()[cell] - right * sine.ravel()[cell]) / squeeze.ravel()[cell]
        distance = np.hypot(along, across, dtype=np.float32)
        closer = distance < nearest
        second = np.where(closer, nearest, np.minimum(second, distance))
        owner[closer] = cell[closer]
        nearest = np.minimum(nearest, distance)
    return owner, _profiles(nearest, second - nearest, radius.ravel()[owner], random)


def _profiles(
    distance: NDArray[np.float32], gap: NDArray[np.float32], radius: Field, random: np.random.Generator
) -> tuple[Field, Field, Field]:
    """Return the profiles of nucleus, cytoplasm and membrane.

    ``distance`` is that from the cell's centre, ``gap`` how much nearer it is than the next
    cell's (0 on the border between two), ``radius`` the nucleus's.
    """
    grain = 0.75 + 0.5 * _smooth_noise(PERIOD, PERIOD // 5, random)
    nucleus = _soft(radius - distance, 1.2) * grain
    body = _soft(15 - distance, 1.5) * _soft(gap - 1.0, 0.8)
    border = np.exp(-np.square((np.minimum(gap * 0.5, 14.5 - distance) - 1.2) / 1.3))
    speckle = 0.6 + 0.8 * _smooth_noise(PERIOD, PERIOD // 3, random)
    cytoplasm = body * (1 - 0.75 * _soft(radius - distance, 1.2)) * speckle
    membrane = border * _soft(16.5 - distance, 1.0) * speckle + 0.12 * body
    return nucleus.astype(np.float32), cytoplasm.astype(np.float32), membrane.astype(np.float32)


def _anatomy(cells: int, across: float, random: np.random.Generator) -> tuple[Field, NDArray[np.uint8]]:
    """Return, for each cell of the image, how much tissue there is (0 … 1) and its Kind."""
    y, x = (np.mgrid[0:cells, 0:cells] - 0.5) / across  # the image spans 0 … 1
    warp = _octaves(cells, 3, random)
    outline = 0.44 - np.hypot((x - 0.5) * 0.95, (y - 0.5) * 1.08) + 0.16 * (warp - 0.5)
    lumen = _octaves(cells, 14, random)
    extent = _soft(outline, 0.012) * (1 - 0.9 * _soft(lumen - 0.78, 0.02))

    nests = _octaves(cells, 7, random) - 0.5 + 0.35 * (_octaves(cells, 2, random) - 0.5)
    follicles = np.max([_follicle(x, y, random) for _ in range(9)], axis=0)
    mixed = random.random((cells, cells))
    kinds = np.full((cells, cells), Kind.STROMA, np.uint8)
    kinds[mixed < 0.16] = Kind.HELPER_T
    kinds[mixed < 0.08] = Kind.KILLER_T
    kinds[(mixed > 0.2) & (mixed < 0.26)] = Kind.MACROPHAGE
    kinds[(nests > 0.03) & (mixed > 0.07)] = Kind.TUMOUR
    kinds[(follicles > 0.0) & (mixed > 0.12)] = Kind.HELPER_T
    kinds[(follicles > 0.35) & (mixed > 0.15)] = Kind.B_CELL
    kinds[random.random((cells, cells)) > extent] = Kind.NOTHING
    return extent.astype(np.float32), kinds


def _follicle(x: Field, y: Field, random: np.random.Generator) -> Field:
    """Return 1 in the middle of a follicle at a random place, falling to 0 at its rim."""
    angle, distance, radius = (
        random.uniform(0, 2 * np.pi),
        random.uniform(0.1, 0.36),
        random.uniform(0.02, 0.05),
    )
    centre_x, centre_y = 0.5 + distance * np.cos(angle), 0.5 + distance * np.sin(angle)
    result: Field = 1 - np.hypot(x - centre_x, y - centre_y) / radius
    return result


def _amounts(marker: Marker, kinds: NDArray[np.uint8], random: np.random.Generator) -> Field:
    """Return how strongly each cell of the image stains for ``marker``, in counts."""
    table = np.zeros(len(Kind), np.float32)
    for kind, factor in marker.stains:
        table[kind] = factor * marker.strength
    spread = random.lognormal(0.0, 0.35, kinds.shape)
    carries = random.random(kinds.shape) < marker.share
    return (table[kinds] * spread * carries).astype(np.float32)


def _fibres(random: np.random.Generator) -> Field:
    """Return the texture of the tissue between the cells, about 1."""
    rows = np.arange(PERIOD, dtype=np.float32)[:, None]
    bend = 60 * _smooth_noise(PERIOD, 8, random) + 14 * _smooth_noise(PERIOD, 40, random)
    waves = np.sin(2 * np.pi * (rows * (48 / PERIOD) + bend / 20))
    return (0.65 + 0.15 * waves + 0.5 * _smooth_noise(PERIOD, 90, random)).astype(np.float32)


def _soft(value: NDArray[np.floating], width: float) -> Field:
    """Return a step from 0 to 1 where ``value`` crosses 0, ``width`` wide."""
    result: Field = np.clip(0.5 + 0.5 * value / width, 0, 1).astype(np.float32)
    return result


def _wrapped(values: NDArray[np.float64]) -> Field:
    """Return (n, LOCAL, LOCAL) periodic values with the neighbours' rim on each side."""
    result: Field = np.pad(values.astype(np.float32), ((0, 0), (1, 1), (1, 1)), mode="wrap")
    return result


def _octaves(size: int, waves: int, random: np.random.Generator) -> Field:
    """Return noise of three octaves, about 0 … 1, ``waves`` coarse lumps across."""
    weights = ((1, 0.6), (2, 0.28), (4, 0.12))
    total = sum(weight * _smooth_noise(size, waves * factor, random) for factor, weight in weights)
    return np.asarray(total, np.float32)


def _smooth_noise(size: int, lumps: int, random: np.random.Generator) -> Field:
    """Return periodic value noise 0 … 1 of ``size`` × ``size``, with ``lumps`` random values across."""
    values = np.pad(random.random((lumps, lumps)), (0, 1), mode="wrap").astype(np.float32)
    position = np.arange(size) * (lumps / size)
    index = np.minimum(position.astype(np.intp), lumps - 1)
    part = (position - index).astype(np.float32)
    part = part * part * (3 - 2 * part)
    rows = values[index] * (1 - part)[:, None] + values[index + 1] * part[:, None]
    result: Field = (rows[:, index] * (1 - part) + rows[:, index + 1] * part).astype(np.float32)
    return result


def _enlarge(cells: Field, left: int, top: int, width: int, height: int) -> Field:
    """Interpolate a value per cell linearly to the pixels of a rectangle."""
    rows, row_part = _between(top, height)
    columns, column_part = _between(left, width)
    band = cells[rows] * (1 - row_part)[:, None] + cells[rows + 1] * row_part[:, None]
    return np.asarray(band[:, columns] * (1 - column_part) + band[:, columns + 1] * column_part, np.float32)


def _between(start: int, length: int) -> tuple[NDArray[np.intp], Field]:
    """Return the cell before each pixel and how far the pixel is on its way to the next."""
    position = (np.arange(start, start + length) + 0.5) / PITCH + 0.5  # cell 0 is the rim
    index = position.astype(np.intp)
    return index, (position - index).astype(np.float32)
