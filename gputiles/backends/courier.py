"""Rasters between host memory and the card, through pinned memory of a fixed size."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import accumulate
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from gputiles.backends.device import Device

Part: TypeAlias = tuple[int, NDArray[np.uint8]]


class Courier:
    """Carries arrays up and down, as many at a time as its pinned memory holds.

    ``run`` calls a function on the card's thread and waits until what it asked for is done.
    """

    def __init__(self, device: Device, room: int, run: Callable[[Callable[[], None]], None]) -> None:
        self._device = device
        self._run = run
        self._pinned = device.pinned(room)
        self._used = 0

    def up(self, array: NDArray[Any], address: int) -> None:
        """Copy an array to the card, on the card's thread; it may be changed at once."""
        data = np.ascontiguousarray(array).reshape(-1).view(np.uint8)
        for at in range(0, len(data), len(self._pinned)):
            part = data[at : at + len(self._pinned)]
            staged = self._stage(len(part))
            staged[:] = part
            self._device.upload(staged, address + at)

    def _stage(self, size: int) -> NDArray[np.uint8]:
        """Return pinned memory; waits where all of it is on its way."""
        if self._used + size > len(self._pinned):
            self.settle()
        at, self._used = self._used, self._used + size
        return self._pinned[at : at + size]

    def settle(self) -> None:
        """Wait for all that is on its way."""
        self._device.wait()
        self.reset()

    def reset(self) -> None:
        """Use all of the pinned memory again: nothing is on its way any more."""
        self._used = 0

    def down(self, planes: Sequence[tuple[int, NDArray[Any]]]) -> None:
        """Fill host arrays with what lies at addresses of the card; for any thread."""
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
        if self._used:
            self.settle()
        begins = accumulate((len(part) for _, part in parts), initial=self._pinned.ctypes.data)
        self._device.lower(
            (address, begin, len(part)) for (address, part), begin in zip(parts, begins, strict=False)
        )
