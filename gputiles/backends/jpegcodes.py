"""What the JPEG encoder looks up: divisors of a quality, and its Huffman codes as they are put."""

from __future__ import annotations

from functools import cache, lru_cache
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gputiles import jfif
from gputiles.backends.tables import JPEG_TABLE
from gputiles.geometry import ceil_div

WORST_BLOCK = 224  # bytes of a block before stuffing: WORST in jpeg.cu

# Zigzag order: the place (row * 8 + column) of the k-th coefficient of a JPEG's block.
ZIGZAG = tuple(
    8 * row + column
    for row, column in sorted(product(range(8), range(8)), key=lambda at: (sum(at), at[sum(at) % 2 == 0]))
)

_symbols: dict[int, NDArray[np.uint32]] = {}  # for good: tables say where they lie


def capacity(width: int, samples: int, subsampling: int) -> int:
    """Return the bytes that a row of MCUs takes at most, with what the kernel writes beyond them."""
    across, down = (side // 8 for side in jfif.mcu(subsampling))
    blocks = across * down + (2 if samples == 3 else 0)
    return ceil_div(width, 8 * across) * blocks * 2 * WORST_BLOCK + 16


@lru_cache(maxsize=256)
def codes(quality: int) -> NDArray[Any]:
    """Return the two JpegTable structs (luma, chroma) of a quality 1 … 100."""
    table = np.zeros(2, JPEG_TABLE)
    for kind, row in enumerate(table):
        divisors = np.empty(64, np.int64)
        divisors[list(ZIGZAG)] = [8 * step for step in jfif.steps(quality)[kind]]
        scales = 1 << 17 - np.frexp(divisors - 1)[1]
        row["half"], row["scale"] = divisors // 2, scales
        row["reciprocal"] = -(-(1 << 32) // (scales * divisors))
        row["dc"] = [_entry(code, width) for width, code in sorted(jfif.DC[kind].codes().items())]
        row["ac"] = _ac(kind)
        row["sixteen"], row["end"] = row["ac"][16, 0], row["ac"][1, 0]
        row["symbols"] = symbols(kind).ctypes.data
    return table


def symbols(kind: int) -> NDArray[np.uint32]:
    """Return the entries of AC coefficients with their tails, by distance (0 … 17) and 11 bits of value.

    Where there is no code, of the distances 0 and 17 and of the value 0, they are 0, which puts nothing.
    It is one array for all threads, also for those that ask for it first, at once.
    """
    known = _symbols.get(kind)
    return _symbols.setdefault(kind, _made_symbols(kind)) if known is None else known


def _made_symbols(kind: int) -> NDArray[np.uint32]:
    values = (np.arange(1 << 11) ^ 1 << 10) - (1 << 10)
    widths = np.frexp(np.abs(values))[1]
    tails = np.where(values < 0, values - 1, values) & (1 << widths) - 1
    entries = np.zeros((18, len(values)), np.uint32)
    entries[1:17] = np.where(values, _ac(kind)[1:, widths] + (tails << 6), 0)
    return entries


@cache
def _ac(kind: int) -> NDArray[np.uint32]:
    """Return the entries of AC coefficients without their tails, by distance and by width."""
    entries = np.zeros((17, 16), np.uint32)
    for symbol, code in jfif.AC[kind].codes().items():
        entries[(symbol >> 4) + 1, symbol & 15] = _entry(code, symbol & 15)
    return entries


def _entry(code: tuple[int, int], tail: int) -> int:
    """Return a JpegTable's entry: the code with room for ``tail`` bits, above the length of both."""
    bits, length = code
    return bits << tail << 6 | length + tail
