"""Blanks: host memory for tiles, all pages of which are there before a tile needs them.

The first use of a page of fresh memory is a fault, and a tile of 512² samples of 16 bits has 128 pages: to
inflate it takes a third longer where they come into being on the way. So blanks are made while there is
nothing else to do: as many as were taken since the last time.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

MOST_BYTES = 64 << 20  # of all blanks that lie ready
SMALLEST, LARGEST = 64 << 10, 8 << 20  # bytes of one; smaller tiles mostly lie in pages that are there


class Blanks:
    """Gives arrays to any thread, and has any thread make others ready."""

    def __init__(self, most: int = MOST_BYTES) -> None:
        self._most = most
        self._lock = threading.Lock()
        self._taken: Counter[int] = Counter()  # since others were made ready, by size
        self._ready: dict[int, list[NDArray[np.uint8]]] = {}

    def take(self, size: int) -> NDArray[np.uint8]:
        """Return an array of ``size`` bytes, of any value, which is the caller's own."""
        if SMALLEST <= size <= LARGEST:
            with self._lock:
                self._taken[size] += 1
                if ready := self._ready.get(size):
                    return ready.pop()
        return np.empty(size, np.uint8)

    @property
    def wanted(self) -> bool:
        """Whether some were taken that ``prepare`` would replace."""
        return bool(self._taken)

    @property
    def nbytes(self) -> int:
        """Bytes of those that lie ready."""
        return sum(size * len(ready) for size, ready in self._ready.items())

    def prepare(self, may_go_on: Callable[[], bool]) -> None:
        """Make ready as many as were taken, one after the other, while ``may_go_on`` says so."""
        while may_go_on() and (size := self._next()):
            blank = np.empty(size, np.uint8)
            blank.fill(0)
            with self._lock:
                self._ready.setdefault(size, []).append(blank)

    def _next(self) -> int:
        """Return the size of one to be made ready, and see to it that there is room; 0: there is none."""
        with self._lock:
            if not self._taken:
                return 0
            size, count = next(iter(self._taken.items()))
            if self.nbytes + size > self._most:  # sizes that nobody asked for lately give way
                self._ready = {other: ready for other, ready in self._ready.items() if other in self._taken}
            if self.nbytes + size > self._most:
                self._taken.clear()
                return 0
            if count > 1:
                self._taken[size] = count - 1
            else:
                del self._taken[size]
            return size
