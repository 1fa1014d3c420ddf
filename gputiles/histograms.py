"""Histograms of values, as large_image's API gives them: bins are those of ``numpy.histogram``."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gputiles.backends import Raster
from gputiles.errors import BadRequest, LimitExceeded
from gputiles.metadata import clean
from gputiles.ranges import LARGEST, Edges
from gputiles.request import RegionRequest, View

MOST_BINS = 65_536
MOST_TOLD = 1 << 21  # bins of all histograms of an answer
ROUNDED = 10  # values a bin up to which rounded ranges make bins of whole width


@dataclass(frozen=True, slots=True)
class HistogramQuery:
    """How to count: ``low`` and ``high`` None are the least value, and the greatest plus 1.

    ``rounded`` makes the bins of few integers whole numbers wide: as many of them as the values
    need, and the range a multiple of theirs. ``density`` gives shares of all that is counted
    instead of counts.
    """

    bins: int = 256
    low: float | None = None
    high: float | None = None
    rounded: bool = False
    density: bool = False

    def __post_init__(self) -> None:
        if not 1 <= self.bins <= MOST_BINS:
            raise BadRequest(f"bins: expected 1 to {MOST_BINS}; got {self.bins}")
        if self.low is not None and self.high is not None and self.low >= self.high:
            raise BadRequest(f"rangeMin, rangeMax: expected a range; got {self.low:g} to {self.high:g}")


@dataclass(frozen=True, slots=True)
class CountRequest:
    """What to count: the ``region`` of ``places`` (frame, sample), at the size that it is asked for in.

    ``query`` None is for the moments alone. The answer is a list, one entry for each place, or
    with ``names``, what the samples are, an object of them (large_image's ``bands``).
    """

    region: RegionRequest
    places: tuple[tuple[int, int], ...]
    query: HistogramQuery | None
    names: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        bins = len(self.places) * self.query.bins if self.query is not None else 0
        if bins > MOST_TOLD:
            raise LimitExceeded(f"histogram: at most {MOST_TOLD} bins in all; got {bins}")

    @property
    def view(self) -> View:
        """The frame, and JSON as the encoding."""
        return self.region.view

    @property
    def place(self) -> str:
        """What tells the answer from all others of the same view."""
        return f"count|{self.region.place}|{self.places}|{self.query}|{self.names}"


@dataclass(frozen=True, slots=True)
class Moments:
    """How many values there are, their extremes, their mean, and the sum of squares of what is off it."""

    count: int = 0
    low: float = math.inf
    high: float = -math.inf
    mean: float = 0.0
    squares: float = 0.0

    def joined(self, other: Moments) -> Moments:
        """Return the moments of both sets of values together.

        Chan, Golub, LeVeque, "Updating formulae and a pairwise algorithm for computing sample
        variances", 1979, equations 2.1.
        """
        if not self.count or not other.count:
            return self if self.count else other
        count = self.count + other.count
        off, share = other.mean - self.mean, other.count / count
        squares = self.squares + other.squares + off * off * self.count * share
        low, high = min(self.low, other.low), max(self.high, other.high)
        return Moments(count, low, high, self.mean + off * share, squares)

    def facts(self) -> dict[str, float | None]:
        """Return min, max, mean and standard deviation; None of no values at all."""
        if not self.count:
            return dict.fromkeys(("min", "max", "mean", "stdev"))
        spread = math.sqrt(self.squares / self.count)
        return {"min": self.low, "max": self.high, "mean": self.mean, "stdev": spread}


@dataclass(frozen=True, slots=True, eq=False)
class Count:
    """What was found of one place; without ``counts``, the moments alone were asked for."""

    moments: Moments
    counts: NDArray[np.int64] | None = None
    edges: Edges = (0.0, 1.0, 1)


def validity_of(raster: Raster) -> Raster | None:
    """Return the validity plane of a raster as a raster of its own; None where all of it is valid."""
    if raster.valid is None:
        return None
    rows, columns, _ = raster.shape
    plane = (rows, columns, 1)
    return Raster(raster.valid, plane, np.dtype(np.uint8), rows * columns, address=raster.valid_address)


def moments_of(
    values: NDArray[Any], valid: NDArray[np.uint8] | None = None, nodata: float | None = None
) -> Moments:
    """Return the moments of the (rows, columns) values that count.

    Those are finite, ``valid`` (where that is not 0; None: all) and not ``nodata``.
    """
    counted = np.isfinite(values)
    if valid is not None:
        counted &= valid.reshape(values.shape) != 0
    if nodata is not None:
        counted &= values != nodata
    chosen = values[counted]
    if not chosen.size:
        return Moments()
    with np.errstate(over="ignore", invalid="ignore"):  # of the largest floats, nothing but extremes is told
        mean = float(chosen.mean(dtype=np.float64))
        off = chosen.astype(np.float64) - mean
        squares = float(np.dot(off, off))
    return Moments(chosen.size, float(chosen.min()), float(chosen.max()), mean, squares)


def moments_of_counts(counts: NDArray[np.int64], first: int) -> Moments:
    """Return the moments of the integers from ``first`` on that were counted one by one."""
    found = np.flatnonzero(counts)
    if not len(found):
        return Moments()
    values, weights = found + first, counts[found]
    count = int(weights.sum())
    mean = float(np.dot(values, weights)) / count
    squares = float(np.dot(weights, (values - mean) ** 2))
    return Moments(count, float(values[0]), float(values[-1]), mean, squares)


def edges_for(query: HistogramQuery, moments: Moments, dtype: np.dtype[Any]) -> Edges:
    """Return the range and the number of bins that a query means for values that were measured."""
    low = query.low if query.low is not None else moments.low if moments.count else 0.0
    high = query.high if query.high is not None else moments.high + 1 if moments.count else low + 1
    low, high = max(low, -LARGEST), min(high, LARGEST)
    high = max(high, low + 4 * query.bins * math.ulp(low))  # room for bins of some width
    given = query.low is not None or query.high is not None
    if query.rounded and not given and dtype.kind in "iu" and high - low < query.bins * ROUNDED:
        step = math.ceil((high - low) / query.bins)
        bins = math.ceil((high - low) / step)
        return low, low + bins * step, bins
    return low, high, query.bins


def rebinned(counts: NDArray[np.int64], first: int, edges: Edges) -> NDArray[np.int64]:
    """Return the histogram of integers that were counted one by one, from ``first`` on."""
    found = np.flatnonzero(counts)
    low, high, bins = edges
    histogram: NDArray[np.int64] = np.histogram(found + first, bins, (low, high), weights=counts[found])[0]
    return histogram


def answer(request: CountRequest, counts: Sequence[Count]) -> bytes:
    """Return what was found of each place, as JSON."""
    if request.names:
        bands: dict[str, Any] = {
            str(at + 1): {"interpretation": name, **count.moments.facts()}
            for at, (name, count) in enumerate(zip(request.names, counts, strict=True))
        }
        return json.dumps(clean(bands), allow_nan=False).encode()
    density = request.query is not None and request.query.density
    return json.dumps(clean([describe(count, density=density) for count in counts]), allow_nan=False).encode()


def describe(count: Count, *, density: bool = False) -> Mapping[str, Any]:
    """Return a histogram as large_image does; ``samples`` is how many values lie in the range."""
    if count.counts is None:
        return count.moments.facts()
    low, high, bins = count.edges
    samples = int(count.counts.sum())
    shares = count.counts / samples if density and samples else count.counts
    return {
        **count.moments.facts(),
        "range": [low, high],
        "hist": shares.tolist(),
        "bin_edges": np.linspace(low, high, bins + 1).tolist(),
        "bins": bins,
        "density": density,
        "samples": samples,
    }
