"""Interrupts put off: what a signal brings must not leave half done what belongs to others, too.

Python calls a signal's handler between any two steps of the main thread, and what that raises (Ctrl-C's
KeyboardInterrupt, an alarm's, the SystemExit of one that ends the program) comes out there: where the floor
is to be left, a lock released, a count put right. In a block that is ``undisturbed`` signals are noted, and
their handlers called at its end; where it waits, it lets itself be ``disturbed``.
"""

from __future__ import annotations

# The public module makes members of enumerations of what it passes on: ten times what there is to do.
import _signal  # type: ignore[import-not-found]
import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from inspect import currentframe
from types import FrameType
from typing import Any

Handler = Callable[[int, FrameType | None], Any]

SIGNALS = sorted(signal.valid_signals())


class _Later:
    """The handler of all signals that have one in Python, for a block: notes what comes, for theirs."""

    def __init__(self) -> None:
        self.handlers: dict[int, Handler] = {
            number: handler for number in SIGNALS if callable(handler := _signal.getsignal(number))
        }
        self.puts_off = True
        self._came: list[int] = []
        self._outer: _Later | None = None

    def __enter__(self) -> None:
        global _later
        self._outer = _later
        try:
            for number in self.handlers:
                _signal.signal(number, self)
            _later = self
        except BaseException:
            self._give_back()
            raise

    def __exit__(self, *_: object) -> None:
        self._give_back()

    def _give_back(self) -> None:
        """Let each signal have its handler again, and call those of what came."""
        global _later
        self.puts_off, _later = False, self._outer  # from here on it passes on what comes
        for number, handler in self.handlers.items():
            _signal.signal(number, handler)
        self.call()

    def __call__(self, number: int, frame: FrameType | None) -> None:
        if self.puts_off:
            self._came.append(number)
        else:
            self.handlers[number](number, frame)

    def call(self) -> None:
        """Call the handlers of what came, each of them, whatever the ones before raise."""
        if not self._came:
            return
        number = self._came.pop(0)
        try:
            self.handlers[number](number, currentframe())
        finally:
            self.call()


_later: _Later | None = None  # that of the main thread, which alone is interrupted


def _is_main() -> bool:
    return threading.get_ident() == threading.main_thread().ident


def undisturbed() -> AbstractContextManager[None]:
    """Put off what the handlers of signals do to the end of a block."""
    if not _is_main() or (_later is not None and _later.puts_off):
        return nullcontext()
    return _Later()


@contextmanager
def disturbed() -> Iterator[None]:
    """Let signals through in a block, which only waits: those that were put off, and those that come."""
    if _later is None or not _is_main():
        yield
        return
    later = _later
    later.puts_off = False
    try:
        later.call()
        yield
    finally:
        later.puts_off = True


def _restore() -> None:
    """Give a forked child its handlers: another thread's fork may have come into such a block."""
    global _later
    if _later is not None:
        for number, handler in _later.handlers.items():
            _signal.signal(number, handler)
        _later = None


os.register_at_fork(after_in_child=_restore)
