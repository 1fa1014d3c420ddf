"""The second shelf of rasters: those that had to leave the device's, in host memory.

A raster moves: it is copied when it is evicted from the device's shelf, and leaves this one when it
is copied back. Until it has been copied it still lies on the device, from where it may return.
"""

from __future__ import annotations

import asyncio
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from functools import partial

from gputiles.backends import Raster
from gputiles.batcher import Batcher, Item
from gputiles.cache import Entry, Hold, Shelf
from gputiles.errors import Unavailable
from gputiles.trace import Trace

SHARE = 16  # of the device's shelf: so much may lie there beside it, on its way to the host
MOST = 256  # jobs that may wait to be copied: the queue is there for requests


@dataclass(slots=True, eq=False)
class Spilled:
    """A raster of host memory; on the device, while the job that copies it is ``leaving``."""

    raster: Raster
    leaving: Item | None = None


class Spill:
    """Takes in what ``device``, the shelf of the device, evicts, and brings it back."""

    def __init__(self, device: Shelf[Raster], batcher: Batcher, active_seconds: float) -> None:
        self.shelf: Shelf[Spilled] = Shelf(
            "spilled", batcher.backend.spare, dispose=self._call_off, active_seconds=active_seconds
        )
        self._device = device
        self._batcher = batcher
        self._leaving: dict[Item, Entry[Raster]] = {}  # by the job that copies them
        self._weight = 0  # of those
        self._loop = asyncio.get_running_loop()

    # -- away from the device

    def take_in(self, entry: Entry[Raster]) -> None:
        """Have an evicted raster copied to the host.

        Not one that nobody asked for (the leaves of a synthesis would push all others out), nor where
        a copy is there, the device waits for too many copies, or there is no room for any.
        """
        if not entry.asked:
            return
        raster, room = entry.value, min(self.shelf.capacity, self._device.capacity // SHARE - self._weight)
        if raster.weight > room or len(self._leaving) >= MOST or self.shelf.peek(entry.key) is not None:
            return
        try:
            item = self._batcher.enqueue("spill", raster, Trace())
        except Unavailable:  # the queue is full, or the device is lost: the raster will be made anew
            return
        self._leaving[item] = entry
        self._weight += raster.weight
        item.future.add_done_callback(partial(self._arrive, item))
        self.shelf.put(entry.key, Spilled(raster, item), raster.weight, entry.owner, cold=True)
        self._loop.call_soon(self._batcher.dispatch)  # with the others that leave in this turn

    def _arrive(self, item: Item, copied: asyncio.Future[Raster | None]) -> None:
        """Put the copy in the place of the raster, if that still waits for it."""
        evicted = self._leaving.pop(item)
        self._weight -= evicted.value.weight
        copy = None if copied.cancelled() or copied.exception() is not None else copied.result()
        entry = self.shelf.peek(evicted.key)
        if entry is None or entry.value.leaving is not item:
            return
        self.shelf.discard(evicted.key)
        if copy is not None:
            self.shelf.put(evicted.key, Spilled(copy), copy.weight, evicted.owner, cold=True)

    def give_up(self) -> None:
        """Keep nothing for which device memory is still taken."""
        for evicted in list(self._leaving.values()):
            entry = self.shelf.peek(evicted.key)
            if entry is not None and entry.value.leaving is not None:
                self.shelf.discard(evicted.key)

    def _call_off(self, spilled: Spilled) -> None:
        """Copy a raster no more that left this shelf before its copy came."""
        if spilled.leaving is not None and not spilled.leaving.future.done():
            self._batcher.withdraw(spilled.leaving)

    # -- back to the device

    def find(
        self, keys: Sequence[Hashable], hold: Hold[Spilled], *, quietly: bool
    ) -> list[Entry[Spilled]] | None:
        """Pin and return the entries of all keys, or None; not counted as asked for if ``quietly``."""
        look = self.shelf.peek if quietly else self.shelf.get
        found = []
        for key in keys:
            entry = look(key)
            if entry is None:
                return None
            found.append(hold.pin(entry))
        return found

    async def bring_back(
        self, spilled: Entry[Spilled], trace: Trace, hold: Hold[Raster], *, background: bool
    ) -> Raster:
        """Return a raster on the device's shelf, pinned by ``hold``; ``spilled`` must stay pinned."""
        entry = self._device.peek(spilled.key)
        if entry is not None:
            return hold.pin(entry).value
        if spilled.value.leaving is not None:
            return hold.pin(self._settled(spilled, spilled.value.raster, cold=background)).value
        restore = partial(self._restore, spilled, trace, background)
        async with self._device.once(("restored", spilled.key), restore) as entry:
            return hold.pin(entry).value

    async def _restore(
        self, spilled: Entry[Spilled], trace: Trace, background: bool, hold: Hold[Raster]
    ) -> Entry[Raster]:
        with self._device.reserve(spilled.weight):
            raster: Raster = await self._batcher.submit(
                "restore", spilled.value.raster, trace, background=background
            )
        return hold.pin(self._settled(spilled, raster, cold=background))

    def _settled(self, spilled: Entry[Spilled], raster: Raster, *, cold: bool) -> Entry[Raster]:
        """Move a raster to the device's shelf, where it lies already."""
        self.shelf.discard(spilled.key)
        entry = self._device.put(spilled.key, raster, raster.weight, spilled.owner, cold=cold)
        entry.asked = True
        return entry
