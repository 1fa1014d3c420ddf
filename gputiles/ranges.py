"""Ranges of values: which tiles are measured, and what their histogram says.

A frame is measured on the smallest stored level with a side of at least 1024 pixels. Where
that level is large, only a fixed lattice of its tiles is read; the same tiles every time, so
that a window depends on nothing but the file.

8- and 16-bit values are counted one by one. Wider values take two passes: their extremes
first, then ``BINS`` equal bins, which are a subdivision of the 256 bins over
[low, high + 1] that large_image's thresholds are defined on. Floats that span less than
``NARROW`` would nearly all fall into the first of those; theirs are bins over [low, high].
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from gputiles.backends import Measurement
from gputiles.image import ImageInfo

Edges: TypeAlias = tuple[float, float, int]
"""The low end, the high end and the number of equal bins."""

SIDE = 1024  # pixels of the longer side that a measured level has at least
MOST_TILES = 64  # of a level that is not measured as a whole
WHOLE = 1 << 24  # pixels of a level that is measured as a whole, however many tiles it has
BINS = 1 << 16
NARROW = 1 / 16
LARGEST = 2.0**1000  # ranges end here, so that their width is a number
COARSE = 256  # bins of large_image's thresholds


@dataclass(frozen=True, slots=True)
class Plan:
    """The tiles (x, y) of level ``z`` to measure, and ``how`` in words."""

    z: int
    cells: tuple[tuple[int, int], ...]
    how: str


@dataclass(frozen=True, slots=True, eq=False)
class Statistics:
    """What is known about the values of one sample of one frame.

    ``low`` and ``high`` are the finite extremes, None where no value counted. The bins of
    ``histogram`` are equal and lie between ``edges``; ``exact`` says that each holds a
    single integer, its lower edge. ``how`` says what was measured.
    """

    low: float | None
    high: float | None
    count: int
    histogram: NDArray[np.int64]
    edges: Edges
    exact: bool
    how: str

    def extreme(self, which: str) -> float | None:
        """Return the lowest (``min``) or highest (``max``) value, None if there is none."""
        return self.low if which == "min" else self.high

    def threshold(self, fraction: float, from_top: bool) -> float | None:
        """Return the value below (or above) which about ``fraction`` of the values lie.

        As large_image has it: of 256 bins over [low, high + 1], walked from one end, the
        first at which more than ``fraction`` of the values have gone by gives its outer
        edge; the very first gives the extreme itself.
        """
        if self.low is None or self.high is None:
            return None
        edges = np.linspace(max(self.low, -LARGEST), min(self.high + 1, LARGEST), COARSE + 1)
        counts = self._rebinned(edges)
        extreme = self.low
        if from_top:
            edges, counts, extreme = edges[::-1], counts[::-1], self.high
        beyond = np.cumsum(counts) > fraction * counts.sum()
        if not beyond.any():
            return float(edges[-1])
        first = int(np.argmax(beyond))
        return float(edges[first]) if first else extreme

    def percentile(self, share: float) -> float | None:
        """Return the value that ``share`` (0 … 1) of the values do not exceed.

        Exact for counted integers, else on a straight line within a bin.
        """
        if self.low is None or self.high is None:
            return None
        reached = np.cumsum(self.histogram)
        rank = min(max(share * self.count, 1.0), float(reached[-1]))
        bin_ = int(np.searchsorted(reached, rank))
        start, width = self.edges[0], self._width()
        if self.exact:
            return start + bin_
        inside = 1 - (int(reached[bin_]) - rank) / int(self.histogram[bin_])
        return min(max(start + (bin_ + inside) * width, self.low), self.high)

    def _width(self) -> float:
        low, high, bins = self.edges
        return high / bins - low / bins

    def _rebinned(self, edges: NDArray[np.float64]) -> NDArray[np.int64]:
        """Return the counts between other edges: of a bin by its integer or its middle."""
        filled = np.flatnonzero(self.histogram)
        values = self.edges[0] + (filled + (0 if self.exact else 0.5)) * self._width()
        places = np.searchsorted(edges, values, side="right") - 1
        counts = np.zeros(len(edges) - 1, np.int64)
        np.add.at(counts, np.clip(places, 0, len(counts) - 1), self.histogram[filled])
        return counts


def plan(info: ImageInfo) -> Plan:
    """Return which tiles to measure of every frame of an image."""
    grid = info.grid
    last = grid.levels - 1
    z = next((z for z in range(last) if info.stored[z] and max(grid.size(z)) >= SIDE), last)
    columns, rows = grid.tiles(z)
    width, height = grid.size(z)
    if columns * rows <= MOST_TILES or width * height <= WHOLE:
        cells = tuple((x, y) for y in range(rows) for x in range(columns))
        return Plan(z, cells, f"level {z} of {grid.levels} ({width} x {height} pixels), all tiles")
    cells = _lattice(columns, rows)
    how = f"{len(cells)} of the {columns * rows} tiles of level {z} of {grid.levels}, on a fixed lattice"
    return Plan(z, cells, how)


def _lattice(columns: int, rows: int) -> tuple[tuple[int, int], ...]:
    """Return at most MOST_TILES cells, evenly spread and clear of the rim."""
    side = math.isqrt(MOST_TILES)
    across = min(columns, max(side, MOST_TILES // rows))
    down = min(rows, MOST_TILES // across)
    return tuple(
        (_spread(i, across, columns), _spread(j, down, rows)) for j in range(down) for i in range(across)
    )


def _spread(index: int, parts: int, length: int) -> int:
    return (2 * index + 1) * length // (2 * parts)


def direct_edges(dtype: np.dtype[Any]) -> Edges | None:
    """Return one bin per value of an 8- or 16-bit type; None for types of more values."""
    if dtype.kind == "b":
        return 0.0, 256.0, 256
    if dtype.kind not in "iu" or dtype.itemsize > 2:
        return None
    limits = np.iinfo(dtype)
    return float(limits.min), limits.max + 1.0, int(limits.max) - int(limits.min) + 1


def second_edges(extremes: Sequence[Measurement], dtype: np.dtype[Any]) -> Edges | None:
    """Return the bins of the second pass, from what the first pass found on every tile.

    None means that no second pass is needed: no value, or only one, or a span that has no
    equal bins.
    """
    low, high = _extremes(extremes)
    if low is None or high is None or low == high:
        return None
    top = high + 1
    if dtype.kind != "f" and top - low <= BINS:
        return low, top, int(top - low)
    if dtype.kind == "f" and high - low < NARROW:
        top = high
    step = top / BINS - low / BINS
    if not math.isfinite(top - low) or low + step == low or top - step == top:
        return None
    return low, top, BINS


def combine(
    measurements: Sequence[Measurement], edges: Edges | None, dtype: np.dtype[Any], how: str
) -> Statistics:
    """Return what the measurements of all tiles say together.

    Those without a histogram give the extremes, those with one (over ``edges``) the counts;
    either kind may be absent: 8- and 16-bit types have no first pass, constant images no
    second one.
    """
    histograms = [found.histogram for found in measurements if found.histogram is not None]
    low, high = _extremes([found for found in measurements if found.histogram is None])
    if edges is None or not histograms:
        return _without_bins(low, high, sum(found.count for found in measurements), how)
    histogram = np.stack(histograms).sum(axis=0, dtype=np.int64)
    count = int(histogram.sum())
    if not count:
        return _without_bins(None, None, 0, how)
    exact = dtype.kind != "f" and edges[1] - edges[0] == edges[2]
    if exact:
        filled = np.flatnonzero(histogram)
        low, high = edges[0] + int(filled[0]), edges[0] + int(filled[-1])
    elif low is None or high is None:
        narrow = dtype.kind == "f" and edges[1] - edges[0] < NARROW
        low, high = edges[0], edges[1] - (0 if narrow else 1)
    return Statistics(low, high, count, histogram, edges, exact, how)


def _extremes(measurements: Sequence[Measurement]) -> tuple[float | None, float | None]:
    counted = [found for found in measurements if found.count and found.low <= found.high]
    if not counted:
        return None, None
    return min(found.low for found in counted), max(found.high for found in counted)


def _without_bins(low: float | None, high: float | None, count: int, how: str) -> Statistics:
    """Return statistics of which only the extremes are known: all values in one bin."""
    if low is None or high is None:
        return Statistics(None, None, 0, np.zeros(1, np.int64), (0.0, 1.0, 1), False, how)
    return Statistics(low, high, count, np.array([count], np.int64), (low, high, 1), False, how)
