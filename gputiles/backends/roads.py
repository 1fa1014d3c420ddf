"""The way of one batch between the host and a card: its copies, both ways, on a stream of their own.

Batches that are under way at once each have a road: what one of them sends up travels while kernels
work for another, and so does what comes home. Kernels wait for their own batch's uploads, its downloads
for its kernels, nothing for other copies.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gputiles.backends.device import Device


class Road:
    """Copies between pinned memory and the card, in the order in which they are asked for.

    What is sent up may be changed, and what is sent home may be read, when a flag that was set behind
    it has been waited for. Until then nothing that they read or write may be given away.
    """

    def __init__(self, device: Device) -> None:
        self._device = device
        self._stream = device.new_stream()
        self._arrived, self._asked = device.new_flag(), device.new_flag()
        self._news = False

    def upload(self, data: NDArray[np.uint8], address: int) -> None:
        """Copy pinned memory to the card."""
        self.raise_to(data.ctypes.data, address, data.nbytes)

    def raise_to(self, source: int, address: int, size: int) -> None:
        """Copy pinned memory at an address of the host to the card."""
        self._news = True
        self._device.copy("uploads", address, source, size, self._stream)

    def arrive(self) -> None:
        """Let kernels that are launched from now on wait for what was sent up until now."""
        if self._news:
            self._news = False
            self._device.lead(self._arrived, self._stream)

    def download(self, address: int, data: NDArray[np.uint8]) -> None:
        """Copy from the card to pinned memory what kernels make of all that they were asked until now."""
        self.lower([(address, data.ctypes.data, data.nbytes)])

    def lower(self, copies: Iterable[tuple[int, int, int]]) -> None:
        """Copy as ``download`` does: each from an address of the card to one of the host, and how much."""
        self.follow()
        for address, to, size in copies:
            self._device.copy("downloads", to, address, size, self._stream)

    def follow(self) -> None:
        """Let what is asked of this road from now on wait for the kernels that were launched until now."""
        self._device.follow(self._asked, self._stream)

    def mark(self) -> Any:
        """Return an event that marks now on this road, for ``Device.between``."""
        return self._device.mark(self._stream)

    def set_flag(self, flag: Any) -> None:
        """Set a flag behind all that was asked of this road until now."""
        self._device.set_flag(flag, self._stream)
