"""The heap: what the C library does with memory that is given back to it."""

from __future__ import annotations

import ctypes

TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3  # glibc's names for what mallopt sets, see malloc.h
KEPT = 64 << 20  # bytes at the end of a heap; so much is a block of tiles and what made it
FROM_HEAPS = 4 << 20  # bytes of the largest piece that comes from one: a tile, a chunk


def keep_freed() -> None:
    """Have memory that is freed kept for what is asked for next, up to ``KEPT`` bytes of each heap.

    Else much of it goes back to the system with each tile, and each of its pages is a fault when the next
    tile needs them again. C libraries other than glibc are left as they are.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(MMAP_THRESHOLD, FROM_HEAPS)
        mallopt(TRIM_THRESHOLD, KEPT)
