"""The floor: what an event loop and the threads beside it share, one at a time.

All state of an engine lives on its loop and has no locks: nothing else runs until the loop waits again.
While it waits the floor is free. A thread that needs no more than a look there then takes it itself:
to wake the loop, and to be woken by it, takes ten times as long as the look.
"""

from __future__ import annotations

import selectors
import threading
from collections.abc import Callable
from typing import TypeVar

R = TypeVar("R")

PATIENCE = 0.001  # seconds in which the loop mostly waits again


class Floor(selectors.DefaultSelector):
    """What a loop waits by, and leaves the floor meanwhile."""

    def __init__(self) -> None:
        super().__init__()
        self._taken = threading.Lock()

    def run(self, loop: Callable[[], None]) -> None:
        """Run a loop that waits by this, on the thread that is the loop's."""
        with self._taken:
            loop()

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        """Leave the floor until something is to be done."""
        self._taken.release()
        try:
            return super().select(timeout)
        finally:
            self._taken.acquire()

    def visit(self, look: Callable[[], R]) -> R | None:
        """Return what ``look`` finds on the floor; None where others stay there for longer than ``PATIENCE``.

        ``look`` may use all that belongs to the loop, but must neither wait nor start a task.
        """
        if not self._taken.acquire(timeout=PATIENCE):
            return None
        try:
            return look()
        finally:
            self._taken.release()
