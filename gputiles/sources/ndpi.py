"""Hamamatsu's NDPI pages: one JPEG stream for a whole level, with an index of restart points.

Between two restart points lies a run of blocks that decodes by itself behind a header that
says its size. So a page is served as if it had tiles of one run each.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gputiles.errors import GputilesError
from gputiles.geometry import ceil_div
from gputiles.sources import jpeg
from gputiles.sources.ifd import Directory

_STARTS, _STARTS_HIGH = 65426, 65432
_MOST_HEADER = 65536


@dataclass(frozen=True, slots=True)
class Runs:
    """The runs of a page: pixels of one, and the header that goes before its bytes."""

    width: int
    height: int
    header: bytes


def read_runs(tags: Directory, width: int, height: int) -> Runs | None:
    """Return the runs of a page that has an index of them, None where they do not tile the page."""
    if tags.integer(259, 1) != 7 or _STARTS not in tags or len(strip := tags.integers(273, 2)) != 1:
        return None
    try:
        header = tags.source.read_at(strip[0], min(tags.integer(_STARTS, 0), _MOST_HEADER))
        return _runs(header, width, height, tags.entries[_STARTS].count)
    except GputilesError:  # then the stream is read whole
        return None


def _runs(header: bytes, width: int, height: int, count: int) -> Runs | None:
    interval, block, frame_at = 0, (0, 0), 0
    for marker, start, end in jpeg.segments(header):
        if marker == 0xDD and end - start >= 2:
            interval = int.from_bytes(header[start : start + 2], "big")
        elif marker == 0xC0 and end - start >= 9:
            frame_at = start
            factors = header[start + 7 : end : 3]
            block = 8 * max(factor >> 4 for factor in factors), 8 * max(factor & 15 for factor in factors)
    if not interval or not all(block):
        return None
    across, down = ceil_div(width, block[0]), ceil_div(height, block[1])
    if across % interval or across * down // interval != count:
        return None
    size = interval * block[0], block[1]
    if max(size) > 65535:
        return None
    patched = size[1].to_bytes(2, "big") + size[0].to_bytes(2, "big")
    return Runs(*size, header[: frame_at + 1] + patched + header[frame_at + 5 :])


def run_offsets(tags: Directory) -> NDArray[np.int64]:
    """Return where every run starts in the file, and after the last one where the strip ends."""
    low, high = tags.numbers(_STARTS), tags.numbers(_STARTS_HIGH)
    assert low is not None
    starts = low.astype(np.int64)
    if high is not None and len(high) == len(starts):
        starts = starts + (high.astype(np.int64) << 32)
    else:  # starts grow: where they shrink, their 32 bits ran over
        starts = starts + (np.cumsum(np.diff(starts, prepend=0) < 0) << 32)
    return np.append(starts, tags.integer(279, 0)) + tags.integer(273, 0)
