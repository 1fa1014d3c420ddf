"""What is at hand: bytes of files that the system has in memory, which the event loop may read itself.

Handing a read to another thread, and its bytes back, takes longer than copying a tile that is
in memory. So a read is tried where it is wanted, and given to a thread that may wait if it is not at hand.
Much that is at hand, and is to be decoded, may be left to who decodes it: several copy it side by side, each
on the core that needs it next.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

MOST = 256 * 1024  # bytes in one go: what a loop copies without being late for others


class NotAtHand(Exception):
    """What is to be read is not in memory, or it is much: a thread that may wait should read it."""


class _Allowance(threading.local):
    """The bytes that a thread may still read (None: it may wait, for any), and leave to others."""

    left: int | None = None
    leaves = 0


_allowance = _Allowance()


@contextmanager
def waiting_for_nothing(most: int = MOST, leaves: int = 0) -> Iterator[None]:
    """Let this thread read only what is at hand, ``most`` bytes in all; what is not raises NotAtHand.

    Of what is at hand it may leave ``leaves`` bytes to who decodes them.
    """
    _allowance.left, _allowance.leaves = most, leaves
    try:
        yield
    finally:
        _allowance.left, _allowance.leaves = None, 0


def may_wait() -> bool:
    """Say whether this thread may wait for what it reads."""
    return _allowance.left is None


def may_leave() -> bool:
    """Say whether this thread may leave bytes that are at hand to who decodes them."""
    return _allowance.leaves > 0


def wait() -> None:
    """Raise NotAtHand where this thread may not wait: called by what cannot know how long it will take."""
    if not may_wait():
        raise NotAtHand


def spend(size: int) -> None:
    """Take ``size`` bytes of what this thread may read; NotAtHand where that is more than it may."""
    left = _allowance.left
    if left is None or left < size:
        raise NotAtHand
    _allowance.left = left - size


def leave(size: int) -> None:
    """Take ``size`` bytes of what this thread may leave to others; NotAtHand where that is too much."""
    if _allowance.leaves < size:
        raise NotAtHand
    _allowance.leaves -= size
