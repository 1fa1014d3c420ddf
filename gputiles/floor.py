"""The floor: what an event loop and the threads beside it share, one at a time.

All state of an engine lives on its loop and has no locks: nothing else runs until the loop waits again.
While it waits the floor is free. A thread that needs no more than a look there, or comes with news, then
goes there itself and does what follows: to wake the loop, and to be woken by it, takes ten times as long.
"""

from __future__ import annotations

import asyncio
import selectors
import threading
from collections import deque
from collections.abc import Callable
from contextvars import Context
from typing import TypeVar, TypeVarTuple

R = TypeVar("R")
Args = TypeVarTuple("Args")

PATIENCE = 0.001  # seconds in which the loop mostly waits again


class _Wait(selectors.DefaultSelector):
    """What a loop waits by, and leaves the floor meanwhile."""

    def __init__(self, taken: threading.Lock) -> None:
        super().__init__()
        self._taken = taken

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        """Leave the floor until something is to be done."""
        self._taken.release()
        try:
            return super().select(timeout)
        finally:
            self._taken.acquire()


class Floor(asyncio.SelectorEventLoop):
    """An event loop in whose place other threads can do something while it waits."""

    def __init__(self) -> None:
        self._taken = threading.Lock()
        self._turns: deque[asyncio.Handle] | None = None  # what a visitor does next; None: there is none
        self._late = False  # whether the loop may wait for too long by now
        super().__init__(_Wait(self._taken))

    def run(self) -> None:
        """Run the loop, on the thread that is its own."""
        with self._taken:
            self.run_forever()

    def visit(self, look: Callable[[], R]) -> R | None:
        """Return what ``look`` finds on the floor; None where others stay there for longer than ``PATIENCE``.

        ``look`` may use all that belongs to the loop, but must not wait. What it sets going is done before
        this returns, up to where that waits.
        """
        if not self._taken.acquire(timeout=PATIENCE):
            return None
        callers = self._enter()
        try:
            return look()
        finally:
            self._leave(callers)

    def tell(self, callback: Callable[[*Args], object], *args: *Args) -> None:
        """Have a callback called on the floor: here and now if that is free, else by the loop."""
        if self.get_debug() or not self._taken.acquire(blocking=False):
            self.call_soon_threadsafe(callback, *args)
            return
        callers = self._enter()
        try:
            self.call_soon(callback, *args)
        finally:
            self._leave(callers)

    def _enter(self) -> asyncio.AbstractEventLoop | None:
        """Be on the floor, which is taken; return the loop that the caller has of its own."""
        callers = asyncio._get_running_loop()
        asyncio._set_running_loop(self)
        self._turns, self._late = deque(), False
        return callers

    def _leave(self, callers: asyncio.AbstractEventLoop | None) -> None:
        """Do what there is to be done, and leave the floor.

        Who has a loop of its own leaves all that to this one: a thread is in tasks of one loop at a time.
        """
        turns = self._turns
        assert turns is not None
        try:
            while turns and callers is None:
                _take(turns.popleft())
        finally:
            self._turns = None
            for turn in turns:
                self.call_soon_threadsafe(_take, turn)
            if self._late:
                self.call_soon_threadsafe(int)  # wakes the loop
            asyncio._set_running_loop(callers)
            self._taken.release()

    def call_soon(
        self, callback: Callable[[*Args], object], *args: *Args, context: Context | None = None
    ) -> asyncio.Handle:
        """Have a callback called next, by who is on the floor."""
        if self._turns is None:
            return super().call_soon(callback, *args, context=context)
        turn = asyncio.Handle(callback, args, self, context)
        self._turns.append(turn)
        return turn

    def call_at(
        self, when: float, callback: Callable[[*Args], object], *args: *Args, context: Context | None = None
    ) -> asyncio.TimerHandle:
        """Have a callback called at a time, by the loop."""
        self._late = True
        return super().call_at(when, callback, *args, context=context)


def _take(turn: asyncio.Handle) -> None:
    """Take a turn that was not called off meanwhile."""
    if not turn.cancelled():
        turn._run()
