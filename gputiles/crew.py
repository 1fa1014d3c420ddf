"""The crew: threads that do what they are given, on few cores each on one of its own.

Of those that are free the lowest number is called, so that one piece of work after the other finds
the caches of the same core warm; but not on the core of a caller of another crew, which goes on there.
Where there are as many threads as cores, and few of these, no thread moves: whoever calls a thread keeps
a core busy just then, so that two that are called together are else put on the same one, and take turns
there for milliseconds while another has nothing to do.

Who gives a piece of work and has nothing else to do then does it itself: one of the crew whose own piece
ends with that, or a guest, who would but wait for it, in the place of one who is free.
"""

from __future__ import annotations

import ctypes
import os
import threading
from bisect import insort
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import cache
from typing import Any, Generic, TypeVar
from weakref import WeakKeyDictionary

K = TypeVar("K")
T = TypeVar("T")

FEW = 4  # cores; among more of them one is idle, whoever calls


@dataclass(slots=True, eq=False, weakref_slot=True)
class Place:
    """Where work is done: of one of a crew, ``crew``, or of any other thread.

    ``home`` is the core of the thread; none where it may move. ``given`` is a piece of work that it, or the
    guest in its place, does next; the ``bell``, which is locked until it rings, says so.
    """

    crew: object = None
    number: int = 0
    home: set[int] = field(default_factory=set)
    given: Any = None
    bell: threading.Lock = field(default_factory=threading.Lock)

    def __lt__(self, other: Place) -> bool:
        return self.number < other.number


class _Here(threading.local):
    """The place of a thread; of a guest, the crew, and what says whether it still waits."""

    def __init__(self) -> None:
        self.place = Place()
        self.guest: tuple[object, Callable[[], bool]] | None = None


_here = _Here()


class Kept(Generic[K]):
    """What ``make`` makes for each place at the work, as ``threading.local`` has it for each thread."""

    def __init__(self, make: Callable[[], K]) -> None:
        self._make = make
        self._kept: WeakKeyDictionary[Place, K] = WeakKeyDictionary()

    def __call__(self) -> K:
        """Return that of the calling thread's place."""
        kept = self._kept.get(_here.place)
        if kept is None:
            kept = self._kept[_here.place] = self._make()
        return kept


class Crew(Generic[T]):
    """``count`` threads that call ``work``, which must not raise, with what is given; any thread may give.

    Those that help another crew take the last core first.
    """

    def __init__(self, name: str, count: int, work: Callable[[T], None], *, helps: bool = False) -> None:
        self._work = work
        self._lock = threading.Lock()
        self._waiting: deque[T | None] = deque()
        self._free: list[Place] = []  # of those that wait to be called, in order
        places = [Place(self, number, home) for number, home in enumerate(homes(count, usable(), helps))]
        self._threads = [
            threading.Thread(target=self._serve, args=(place,), name=f"{name}-{place.number}", daemon=True)
            for place in places
        ]
        for place, thread in zip(places, self._threads, strict=True):
            place.bell.acquire()
            thread.start()

    def give(self, piece: T) -> None:
        """Have a piece of work done by the first who is free, in the order in which it was given.

        Those of the crew that give one do it next, and so does a guest (see ``hosting``).
        """
        self._call(piece)

    def close(self) -> None:
        """Let what was given be done, and end the threads."""
        for _ in self._threads:
            self._call(None)
        for thread in self._threads:
            thread.join()

    @contextmanager
    def hosting(self, waits: Callable[[], bool]) -> Iterator[None]:
        """Let the caller do pieces itself that it gives in this block, at its end, while it still ``waits``.

        It takes the place of one who is free; where nobody is, others do what it gives.
        """
        before, _here.guest = _here.place, (self, waits)
        try:
            yield
            while _here.place is not before and waits() and (piece := self._taken(_here.place)) is not None:
                self._work(piece)
        finally:
            place, _here.place, _here.guest = _here.place, before, None
            if place is not before:
                self._leave(place)

    def _own(self) -> Place | None:
        """Return the place in which the caller does the next piece itself; None: others do it."""
        place = _here.place
        if self._waiting:
            return None
        if place.crew is self:
            return place if place.given is None else None
        crew, waits = _here.guest or (None, bool)
        if crew is not self or not self._free or not waits():
            return None
        core = {_core()}
        at = next((at for at, free in enumerate(self._free) if free.home == core), 0)
        _here.place = self._free.pop(at)
        return _here.place

    def _leave(self, place: Place) -> None:
        """Give the place of a guest back to its thread, with what is left to be done there."""
        with self._lock:
            if place.given is None and self._waiting:
                place.given = self._waiting.popleft()
            elif place.given is None:
                insort(self._free, place)
                return
        place.bell.release()

    def _call(self, piece: T | None) -> None:
        with self._lock:
            own = None if piece is None else self._own()  # an end is that of the thread itself
            if own is not None:
                own.given = piece
                return
            if not self._free:
                self._waiting.append(piece)
                return
            place = self._nearest()
            self._free.remove(place)
            place.given = piece
        place.bell.release()

    def _nearest(self) -> Place:
        """Return the first who is free, on another core than the caller's if there is one."""
        home = _here.place.home
        return next((place for place in self._free if not home or place.home != home), self._free[0])

    def _serve(self, place: Place) -> None:
        _here.place = place
        if place.home:
            with suppress(OSError):  # what cores a process may use can change; then this thread moves
                os.sched_setaffinity(0, place.home)
        while (piece := self._next(place)) is not None:
            self._work(piece)

    def _next(self, place: Place) -> T | None:
        """Return what waits, or what this thread is called for; None at the end."""
        piece = self._taken(place)
        if piece is not None:
            return piece
        with self._lock:
            if self._waiting:
                return self._waiting.popleft()
            insort(self._free, place)
        place.bell.acquire()
        return self._taken(place)

    def _taken(self, place: Place) -> T | None:
        """Return what is to be done at a place, if anything is."""
        piece: T | None = place.given
        place.given = None
        return piece


def usable() -> set[int]:
    """Return the cores that the calling thread may use; none where the system does not say."""
    return os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set()


def homes(count: int, cores: set[int], helps: bool) -> list[set[int]]:
    """Return the core of each of ``count`` threads; no cores where it may move."""
    if count != len(cores) or count > FEW:
        return [set()] * count
    return [{core} for core in sorted(cores, reverse=helps)]


@cache
def _core_of_caller() -> Callable[[], int]:
    library = ctypes.PyDLL(None)  # keeps the GIL: what takes 50 ns must not wait for it
    return getattr(library, "sched_getcpu", lambda: -1)


def _core() -> int:
    """Return the core on which the calling thread runs just now; -1 where the system does not say."""
    return _core_of_caller()()
