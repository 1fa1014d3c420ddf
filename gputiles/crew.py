"""The crew: threads that do what they are given, on few cores each on one of its own.

Of those that are free the lowest number is called, so that one piece of work after the other finds
the caches of the same core warm; but not on the core of a caller of another crew, which goes on there.
Where there are as many threads as cores, and few of these, no thread moves: whoever calls a thread keeps
a core busy just then, so that two that are called together are else put on the same one, and take turns
there for milliseconds while another has nothing to do.
"""

from __future__ import annotations

import os
import threading
from bisect import insort
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import Generic, TypeVar

T = TypeVar("T")

FEW = 4  # cores; among more of them one is idle, whoever calls


_here = threading.local()  # of a thread that stays on a core: its ``home``


class Crew(Generic[T]):
    """``count`` threads that call ``work``, which must not raise, with what is given; any thread may give.

    Those that help another crew take the last core first.
    """

    def __init__(self, name: str, count: int, work: Callable[[T], None], *, helps: bool = False) -> None:
        self._work = work
        self._lock = threading.Lock()
        self._waiting: deque[T | None] = deque()
        self._free: list[int] = []  # those that wait to be called, in order
        self._given: list[T | None] = [None] * count
        self._bells = [threading.Lock() for _ in range(count)]  # locked until they ring
        self._homes = homes(count, usable(), helps)
        self._threads = [
            threading.Thread(target=self._serve, args=(number,), name=f"{name}-{number}", daemon=True)
            for number in range(count)
        ]
        for bell, thread in zip(self._bells, self._threads, strict=True):
            bell.acquire()
            thread.start()

    def give(self, piece: T) -> None:
        """Have a piece of work done by the first who is free, in the order in which it was given."""
        self._call(piece)

    def close(self) -> None:
        """Let what was given be done, and end the threads."""
        for _ in self._threads:
            self._call(None)
        for thread in self._threads:
            thread.join()

    def _call(self, piece: T | None) -> None:
        with self._lock:
            if not self._free:
                self._waiting.append(piece)
                return
            number = self._nearest()
            self._free.remove(number)
            self._given[number] = piece
        self._bells[number].release()

    def _nearest(self) -> int:
        """Return the first who is free, on another core than the caller's if there is one."""
        home = getattr(_here, "home", None)
        return next((number for number in self._free if self._homes[number] != home), self._free[0])

    def _serve(self, number: int) -> None:
        home = self._homes[number]
        if home:
            with suppress(OSError):  # what cores a process may use can change; then this thread moves
                os.sched_setaffinity(0, home)
            _here.home = home
        while (piece := self._next(number)) is not None:
            self._work(piece)

    def _next(self, number: int) -> T | None:
        """Return what waits, or what this thread is called for; None at the end."""
        with self._lock:
            if self._waiting:
                return self._waiting.popleft()
            insort(self._free, number)
        self._bells[number].acquire()
        piece, self._given[number] = self._given[number], None
        return piece


def usable() -> set[int]:
    """Return the cores that the calling thread may use; none where the system does not say."""
    return os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set()


def homes(count: int, cores: set[int], helps: bool) -> list[set[int]]:
    """Return the core of each of ``count`` threads; no cores where it may move."""
    if count != len(cores) or count > FEW:
        return [set()] * count
    return [{core} for core in sorted(cores, reverse=helps)]
