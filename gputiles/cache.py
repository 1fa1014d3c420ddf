"""Shelves: weighed, fair LRU caches with one flight per missing key.

Everything here runs on one event loop, so there are no locks.

A shelf keeps the entries of each owner (an image) in two `cachetools` LRUs: *cold* for what
was brought in passing, *hot* for what was asked for. When it is over its capacity it evicts
from the owner that is most above its fair share, cold before hot, and skips pinned entries.
Owners that were asked for lately keep a floor of half their share.
"""

from __future__ import annotations

import math
import time
from collections.abc import Awaitable, Callable, Hashable, Iterable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, contextmanager
from typing import Any, Generic, TypeVar

from cachetools import LRUCache

from gputiles.flights import Flights

V = TypeVar("V")
R = TypeVar("R")

HOT_SHARE = 0.75  # of the capacity; beyond it the oldest hot entries of an owner cool down
FLOOR_SHARE = 0.5  # of an active owner's fair share


class Entry(Generic[V]):
    """A value on a shelf (or too large for it), with its weight in bytes and its pins.

    ``asked`` says whether anybody asked for it: else it was brought in passing.
    """

    __slots__ = ("asked", "group", "key", "owner", "pins", "segment", "value", "weight")

    def __init__(self, key: Hashable, value: V, weight: int, owner: Hashable, *, asked: bool) -> None:
        self.key = key
        self.value = value
        self.weight = weight
        self.owner = owner
        self.asked = asked
        self.pins = 0
        self.segment: Any = None  # the LRU that holds the entry; None when it is on no shelf
        self.group: Any = None  # the LRUs of the owner, to be found without a look-up


class Hold(Generic[V]):
    """Pins of one piece of work; leaving the ``with`` block releases them."""

    __slots__ = ("_entries", "_shelf")

    def __init__(self, shelf: Shelf[V]) -> None:
        self._shelf = shelf
        self._entries: list[Entry[V]] = []

    def pin(self, entry: Entry[V]) -> Entry[V]:
        """Keep ``entry`` from eviction until the hold is released."""
        self._shelf.pin(entry)
        self._entries.append(entry)
        return entry

    def pin_all(self, entries: Sequence[Entry[V]]) -> list[V]:
        """Pin entries as ``pin`` does, and return their values."""
        for entry in entries:
            self._shelf.pin(entry)
        self._entries += entries
        return [entry.value for entry in entries]

    def release(self) -> None:
        """Drop all pins of this hold."""
        entries, self._entries = self._entries, []
        self._shelf.unpin_all(entries)

    def __enter__(self) -> Hold[V]:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()


class _Owner(Generic[V]):
    """The entries of one owner, and when it was last asked for."""

    __slots__ = ("cold", "hot", "seen")

    def __init__(self, now: float) -> None:
        self.cold: LRUCache[Hashable, Entry[V]] = LRUCache(math.inf, getsizeof=_weight)
        self.hot: LRUCache[Hashable, Entry[V]] = LRUCache(math.inf, getsizeof=_weight)
        self.seen = now

    @property
    def weight(self) -> int:
        return int(self.cold.currsize + self.hot.currsize)


def _weight(entry: Entry[Any]) -> int:
    return entry.weight


class Shelf(Generic[V]):
    """A cache of at most ``capacity`` weight.

    ``dispose`` is called with each value that has left the shelf and is pinned no more,
    ``evicted`` with each entry that had to make room for others; not with what is discarded or shed.
    """

    def __init__(
        self,
        name: str,
        capacity: int,
        *,
        dispose: Callable[[V], None] | None = None,
        evicted: Callable[[Entry[V]], None] | None = None,
        active_seconds: float = 60.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.name = name
        self.capacity = capacity
        self.stored = self.loose = self.reserved = self.pinned = self.peak = 0
        self.hits = self.misses = self.evictions = 0
        self._dispose = dispose
        self._evicted = evicted
        self._active_seconds = active_seconds
        self._clock = clock
        self._entries: dict[Hashable, Entry[V]] = {}
        self._owners: dict[Hashable, _Owner[V]] = {}
        self.flying = Flights()

    # -- entries

    def get(self, key: Hashable) -> Entry[V] | None:
        """Return the entry of ``key`` as asked for (it becomes hot), or None; counted."""
        entry = self._entries.get(key)
        if entry is None:
            self.misses += 1
            return None
        self.hits += 1
        self._warm(entry, self._clock())
        return entry

    def get_all(self, keys: Iterable[Hashable]) -> list[Entry[V]] | None:
        """Return the entries of all ``keys`` as asked for, or None where one is lacking; counted."""
        entries = self.peek_all(keys)
        if entries is None:
            self.misses += 1
            return None
        now = self._clock()
        self.hits += len(entries)
        for entry in entries:
            self._warm(entry, now)
        return entries

    def peek(self, key: Hashable) -> Entry[V] | None:
        """Return the entry of ``key`` in passing: neither counted nor warmed."""
        return self._entries.get(key)

    def peek_all(self, keys: Iterable[Hashable]) -> list[Entry[V]] | None:
        """Return the entries of all ``keys`` in passing, or None where one is lacking."""
        find, entries = self._entries.get, []
        for key in keys:
            entry = find(key)
            if entry is None:
                return None
            entries.append(entry)
        return entries

    def put(self, key: Hashable, value: V, weight: int, owner: Hashable, *, cold: bool = False) -> Entry[V]:
        """Store ``value``, evicting others; what is larger than the shelf is not stored."""
        return self.put_all([(key, value, weight)], owner, cold=cold)[0]

    def put_all(
        self, items: Iterable[tuple[Hashable, V, int]], owner: Hashable, *, cold: bool = False
    ) -> list[Entry[V]]:
        """Store values by their keys, which differ, with their weights, as ``put`` stores one."""
        entries = [Entry(*item, owner, asked=not cold) for item in items]
        fitting = []
        for entry in entries:
            self.discard(entry.key)
            if entry.weight <= self.capacity:
                fitting.append(entry)
            else:
                self.loose += entry.weight
        if fitting:
            self._place(fitting, owner, cold)
        else:
            self._note_peak()
        return entries

    def _place(self, entries: Sequence[Entry[V]], owner: Hashable, cold: bool) -> None:
        """Store entries of an owner; others make room for all of them at once."""
        share = self._owners.get(owner)
        if share is None:
            share = self._owners[owner] = _Owner(self._clock())
        segment = share.cold if cold else share.hot
        for entry in entries:
            entry.group, entry.segment = share, segment
            segment[entry.key] = self._entries[entry.key] = entry
            self.stored += entry.weight
            entry.pins += 1  # not those that make room for themselves
        self._make_room()
        for entry in entries:
            entry.pins -= 1

    def discard(self, key: Hashable) -> None:
        """Take the entry of ``key`` off the shelf, if it is there."""
        entry = self._entries.get(key)
        if entry is not None:
            self._remove(entry)

    def forget(self, owner: Hashable) -> None:
        """Take all entries of ``owner`` off the shelf."""
        share = self._owners.pop(owner, None)
        if share is not None:
            for entry in [self._entries.pop(key) for key in (*share.cold, *share.hot)]:
                self._take_off(entry)

    def clear(self) -> None:
        """Take all entries off the shelf."""
        for owner in list(self._owners):
            self.forget(owner)

    def shed(self, weight: float = math.inf) -> None:
        """Evict ``weight`` bytes, or all, of what is not pinned."""
        rest = self.stored - weight
        while self.stored > rest and self._evict_one() is not None:
            pass

    def pin(self, entry: Entry[V]) -> None:
        """Keep ``entry`` from eviction until it is unpinned as often as it was pinned."""
        if not entry.pins:
            self.pinned += entry.weight
        entry.pins += 1

    def unpin_all(self, entries: Iterable[Entry[V]]) -> None:
        """Give back one pin of each entry."""
        for entry in entries:
            entry.pins -= 1
            if not entry.pins:
                self.pinned -= entry.weight
                if entry.segment is None:
                    self._drop_loose(entry)
        if self.used > self.capacity:
            self._make_room()

    # -- room

    @property
    def used(self) -> int:
        """Bytes of stored entries, of work in flight and of pinned entries off the shelf."""
        return self.stored + self.loose + self.reserved

    @property
    def held(self) -> int:
        """Bytes that no eviction frees: of pinned entries and of work in flight."""
        return self.pinned + self.reserved

    @contextmanager
    def reserve(self, weight: int) -> Iterator[None]:
        """Count ``weight`` as used while work that will bring it is under way."""
        self.reserved += weight
        self._make_room()
        try:
            yield
        finally:
            self.reserved -= weight

    def _make_room(self) -> None:
        while self.used > self.capacity and (entry := self._evict_one()) is not None:
            if self._evicted is not None:
                self._evicted(entry)
        self._note_peak()

    def _note_peak(self) -> None:
        self.peak = max(self.peak, self.used)

    def _evict_one(self) -> Entry[V] | None:
        """Evict and return one entry; None where every entry is pinned."""
        for owner in self._victims():
            entry = self._pop_oldest(owner)
            if entry is not None:
                self.evictions += 1
                self._gone(entry)
                return entry
        return None

    def _victims(self) -> Iterator[_Owner[V]]:
        """Yield the owners in the order in which they should give."""
        if self._owners:
            first = max(self._owners.values(), key=self._claim)
            yield first
            others = (owner for owner in self._owners.values() if owner is not first)
            yield from sorted(others, key=self._claim, reverse=True)

    def _claim(self, owner: _Owner[V]) -> tuple[bool, float]:
        """Return how strongly ``owner`` should give: unprotected first, then by excess."""
        share = self.capacity / len(self._owners)
        active = self._clock() - owner.seen < self._active_seconds
        protected = active and owner.weight <= share * FLOOR_SHARE
        return not protected, owner.weight - share

    @staticmethod
    def _pop_oldest(owner: _Owner[V]) -> Entry[V] | None:
        """Take the entry to evict next out of its LRU; pinned ones count as used just now."""
        for segment in (owner.cold, owner.hot):
            for _ in range(len(segment)):
                key, entry = segment.popitem()
                if not entry.pins:
                    return entry
                segment[key] = entry
        return None

    def _remove(self, entry: Entry[V]) -> None:
        del entry.segment[entry.key]
        self._gone(entry)

    def _gone(self, entry: Entry[V]) -> None:
        """Forget an entry that no LRU holds any more, and its owner behind the last one."""
        del self._entries[entry.key]
        owner = self._owners[entry.owner]
        if not owner.cold and not owner.hot:
            del self._owners[entry.owner]
        self._take_off(entry)

    def _take_off(self, entry: Entry[V]) -> None:
        """Let an entry go that the shelf knows no more."""
        entry.segment = entry.group = None
        self.stored -= entry.weight
        self.loose += entry.weight
        if not entry.pins:
            self._drop_loose(entry)

    def _drop_loose(self, entry: Entry[V]) -> None:
        self.loose -= entry.weight
        if self._dispose is not None:
            self._dispose(entry.value)

    def _warm(self, entry: Entry[V], now: float) -> None:
        owner: _Owner[V] = entry.group
        owner.seen = now
        entry.asked = True
        if entry.segment is owner.hot:
            entry.segment[entry.key]  # a look-up is a use
            return
        del owner.cold[entry.key]
        owner.hot[entry.key] = entry
        entry.segment = owner.hot
        while owner.hot.currsize > self.capacity * HOT_SHARE and len(owner.hot) > 1:
            key, cooled = owner.hot.popitem()
            owner.cold[key] = cooled
            cooled.segment = owner.cold

    # -- flights

    def once(self, key: Hashable, make: Callable[[Hold[V]], Awaitable[R]]) -> AbstractAsyncContextManager[R]:
        """Share one run of ``make`` between all that ask for ``key`` while it runs.

        ``make`` gets a hold: what it pins stays until the last of the waiters has left the
        ``async with`` block. A failure reaches every waiter and is kept nowhere. A waiter
        that is cancelled leaves the others their flight; the last one to leave cancels it.
        """
        return self.flying.once(key, make, lambda: Hold(self))

    def once_each(
        self, keys: Sequence[Hashable], make: Callable[[Sequence[Any], Hold[V]], Awaitable[R]]
    ) -> AbstractAsyncContextManager[list[R]]:
        """Share runs of ``make`` as ``once`` does: one run for all of ``keys`` that are not under way.

        ``make`` gets those keys and a hold. The value is the results of the runs, key by key.
        """
        return self.flying.once_each(keys, make, lambda: Hold(self))

    @property
    def flights(self) -> int:
        """The number of flights under way."""
        return len(self.flying)

    def weights(self) -> dict[Hashable, int]:
        """Return the weight of the entries of each owner."""
        return {owner: share.weight for owner, share in self._owners.items()}

    def report(self) -> dict[str, Any]:
        """Return the counters, ready for JSON; sizes in bytes."""
        return {
            "capacity": self.capacity,
            "used": self.used,
            "stored": self.stored,
            "reserved": self.reserved,
            "peak": self.peak,
            "items": len(self._entries),
            "images": len(self._owners),
            "hits": self.hits,
            "misses": self.misses,
            "coalesced": self.flying.coalesced,
            "evictions": self.evictions,
            "inFlight": self.flights,
        }
