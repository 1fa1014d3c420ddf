"""Histograms of values, as large_image's API gives them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gputiles.errors import BadRequest

MOST_BINS = 65_536
LARGEST = 2.0**1000  # ranges end here, so that their width is a number
ROUNDED = 10  # values a bin up to which rounded ranges make bins of whole width


@dataclass(frozen=True, slots=True)
class HistogramQuery:
    """How to count: ``low`` and ``high`` None are the least value, and the greatest plus 1.

    ``rounded`` lets the range of few integers grow until the bins are whole numbers wide;
    ``density`` gives shares of all that is counted instead of counts.
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


def describe(values: NDArray[Any], query: HistogramQuery) -> dict[str, Any]:
    """Return the histogram and the moments of the finite ones of ``values``, any shape.

    Bins are those of ``numpy.histogram``; ``samples`` is how many values lie in the range.
    Of no values at all, the extremes and moments are None.
    """
    finite = values[np.isfinite(values)] if values.dtype.kind == "f" else values.reshape(-1)
    low, high = _range(finite, query)
    doubles = finite.astype(np.float64) if finite.dtype == np.float32 else finite  # whose bins can be finer
    counts, edges = np.histogram(doubles, query.bins, (low, high))
    samples = int(counts.sum())
    shares = counts / samples if query.density and samples else counts
    return {
        **moments(finite),
        "range": [low, high],
        "hist": shares.tolist(),
        "bin_edges": edges.tolist(),
        "bins": query.bins,
        "density": query.density,
        "samples": samples,
    }


def moments(finite: NDArray[Any]) -> dict[str, float | None]:
    """Return min, max, mean and standard deviation of finite values."""
    if not finite.size:
        return dict.fromkeys(("min", "max", "mean", "stdev"))
    return {
        "min": float(finite.min()),
        "max": float(finite.max()),
        "mean": float(finite.mean(dtype=np.float64)),
        "stdev": float(finite.std(dtype=np.float64)),
    }


def _range(finite: NDArray[Any], query: HistogramQuery) -> tuple[float, float]:
    low = query.low if query.low is not None else float(finite.min()) if finite.size else 0.0
    high = query.high if query.high is not None else float(finite.max()) + 1 if finite.size else low + 1
    low, high = max(low, -LARGEST), min(high, LARGEST)
    high = max(high, low + 4 * query.bins * math.ulp(low))  # room for bins of some width
    given = query.low is not None or query.high is not None
    if query.rounded and not given and finite.dtype.kind in "iu" and high - low < query.bins * ROUNDED:
        high = low + query.bins * math.ceil((high - low) / query.bins)
    return low, high
