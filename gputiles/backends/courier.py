"""Bytes between host memory and the card, through pinned memory of a fixed size.

It is cut into trays, each with as much memory of the card behind it: one is filled while the other travels.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import accumulate
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from gputiles.backends.arena import ALIGNED, aligned
from gputiles.backends.device import Device
from gputiles.backends.roads import Road

Part: TypeAlias = tuple[int, NDArray[np.uint8]]
TRAYS = 2


class Place(NamedTuple):
    """Room in a tray: pinned memory, and the address at which the card finds it."""

    bytes: NDArray[np.uint8]
    address: int


class Tray:
    """A stretch of pinned memory, and the card's at ``address`` where it goes."""

    def __init__(self, pinned: NDArray[np.uint8], address: int, flag: Any) -> None:
        self.pinned = pinned
        self.address = address
        self.flag = flag  # set when the card has read all of it
        self.used = 0
        self.away = False

    def take(self, size: int) -> Place:
        """Return room for ``size`` bytes, of those that are left."""
        at, end = self.used, self.used + size
        assert end <= len(self.pinned), f"{size} bytes in a tray of {len(self.pinned)}, {at} of them used"
        self.used = aligned(end)
        return Place(self.pinned[at:end], self.address + at)


class Courier:
    """Carries bytes up and down, as many at a time as a tray holds; one batch is under way with it.

    ``run`` calls a function on the card's thread and waits until what it asked for is done.
    """

    def __init__(
        self, device: Device, road: Road, room: int, run: Callable[[Callable[[], None]], None]
    ) -> None:
        self._device = device
        self._road = road
        self._run = run
        self.size = max(ALIGNED, room // TRAYS // ALIGNED * ALIGNED)  # of a tray
        block, self._pinned = device.allocate(TRAYS * self.size), device.pinned(TRAYS * self.size)
        self._trays = [
            Tray(self._pinned[at : at + self.size], block.address + at, device.new_flag())
            for at in range(0, TRAYS * self.size, self.size)
        ]
        self._turn = 0

    def reset(self) -> None:
        """Begin a batch: nothing is on its way any more."""
        for tray in self._trays:
            tray.used, tray.away = 0, False

    def next_tray(self) -> Tray:
        """Return an empty tray, for any thread; waits where both are on their way."""
        self._turn = (self._turn + 1) % TRAYS
        tray = self._trays[self._turn]
        if tray.away:
            self._device.wait_for(tray.flag)
        tray.used, tray.away = 0, False
        return tray

    def send(self, tray: Tray) -> None:
        """Let all that is in a tray go to the card in one copy, on the card's thread."""
        if tray.used:
            self._road.upload(tray.pinned[: tray.used], tray.address)

    def leave(self, tray: Tray) -> None:
        """Let a tray be filled again when what was asked for until now is done: copies, and kernels."""
        self._road.arrive()
        self._device.set_flag(tray.flag)
        tray.away = True

    def up(self, array: NDArray[Any], address: int) -> None:
        """Copy an array to an address of the card, on the card's thread; it may be changed at once."""
        data = np.ascontiguousarray(array).reshape(-1).view(np.uint8)
        for at in range(0, len(data), self.size):
            part = data[at : at + self.size]
            staged = self._stage(len(part))
            staged[:] = part
            self._road.upload(staged, address + at)

    def _stage(self, size: int) -> NDArray[np.uint8]:
        """Return pinned memory of the tray that is filled, or of the next."""
        tray = self._trays[self._turn]
        if not tray.away and tray.used + size > self.size:
            self.leave(tray)
        return (self.next_tray() if tray.away else tray).take(size).bytes

    def settle(self) -> None:
        """Wait for all that is on its way."""
        self._device.fence()
        self.reset()

    def down(self, planes: Sequence[tuple[int, NDArray[Any]]]) -> None:
        """Fill host arrays with what lies at addresses of the card; for any thread.

        Nothing may be on its way.
        """
        for parts in self._loads(planes):
            self._run(partial(self._lower, parts))
            at = 0
            for _, part in parts:
                part[:] = self._pinned[at : at + len(part)]
                at += len(part)

    def _loads(self, planes: Sequence[tuple[int, NDArray[Any]]]) -> Iterator[list[Part]]:
        """Yield (address, where to) of the parts that the pinned memory holds together."""
        parts: list[Part] = []
        left = room = len(self._pinned)
        for address, array in planes:
            flat = array.reshape(-1).view(np.uint8)
            for at in range(0, len(flat), room):
                part = flat[at : at + room]
                if len(part) > left:
                    yield parts
                    parts, left = [], room
                parts.append((address + at, part))
                left -= len(part)
        if parts:
            yield parts

    def _lower(self, parts: Sequence[Part]) -> None:
        """Ask for parts to be copied to the pinned memory, one behind the other."""
        begins = accumulate((len(part) for _, part in parts), initial=self._pinned.ctypes.data)
        self._road.lower(
            (address, begin, len(part)) for (address, part), begin in zip(parts, begins, strict=False)
        )
