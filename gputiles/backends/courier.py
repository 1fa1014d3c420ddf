"""Rasters between host memory and the card, through pinned memory of a fixed size."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gputiles.backends.device import Device

ROOM = 32 * 1024**2


class Courier:
    """Carries arrays up and down, as many at a time as its pinned memory holds."""

    def __init__(self, device: Device, room: int = ROOM) -> None:
        self._device = device
        self._pinned = device.pinned(room)
        self._used = 0

    def up(self, array: NDArray[Any], address: int) -> None:
        """Copy an array to the card; it may be changed at once."""
        data = np.ascontiguousarray(array).reshape(-1).view(np.uint8)
        for at in range(0, len(data), len(self._pinned)):
            part = data[at : at + len(self._pinned)]
            staged = self._stage(len(part))
            staged[:] = part
            self._device.upload(staged, address + at)

    def _stage(self, size: int) -> NDArray[np.uint8]:
        """Return pinned memory; waits where all of it is on its way."""
        if self._used + size > len(self._pinned):
            self._device.wait()
            self._used = 0
        at, self._used = self._used, self._used + size
        return self._pinned[at : at + size]

    def down(self, planes: Sequence[tuple[int, NDArray[Any]]]) -> None:
        """Fill host arrays with what lies at addresses of the card."""
        waiting: list[tuple[NDArray[np.uint8], NDArray[np.uint8]]] = []
        self.settle()
        for address, array in planes:
            flat = array.reshape(-1).view(np.uint8)
            for at in range(0, len(flat), len(self._pinned)):
                part = flat[at : at + len(self._pinned)]
                if self._used + len(part) > len(self._pinned):
                    self._deliver(waiting)
                staged = self._stage(len(part))
                self._device.download(address + at, staged)
                waiting.append((staged, part))
        self._deliver(waiting)

    def _deliver(self, waiting: list[tuple[NDArray[np.uint8], NDArray[np.uint8]]]) -> None:
        self.settle()
        for staged, part in waiting:
            part[:] = staged
        waiting.clear()

    def settle(self) -> None:
        """Wait for all that is on its way."""
        self._device.wait()
        self._used = 0
