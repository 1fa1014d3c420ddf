"""Memory of one batch: handed out from front to back, all of it free again for the next batch."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gputiles.backends.device import Block, Device
from gputiles.backends.roads import Road
from gputiles.errors import OutOfMemory
from gputiles.geometry import ceil_div

ALIGNED = 256  # addresses are multiples of this
BOX = 4 * 1024**2  # bytes of tables that travel in one copy


def aligned(size: int) -> int:
    """Return ``size`` rounded up to where the next place may begin."""
    return ceil_div(size, ALIGNED) * ALIGNED


class Scratch:
    """Device memory for what lies between two kernels, or for ``what`` else a batch needs.

    Batches may share a ``block``: the kernels of one run before those of the next.
    """

    def __init__(self, block: Block, what: str = "scratch memory") -> None:
        self.size = block.size
        self.address = block.address
        self._what = what
        self._used = 0

    def reset(self) -> None:
        """Forget all that was handed out."""
        self._used = 0

    def take(self, size: int) -> int:
        """Return the address of ``size`` bytes. Raises OutOfMemory where they are not left."""
        at, self._used = self._used, self._used + aligned(size)
        if self._used > self.size:
            raise OutOfMemory(f"{self._what}: {self._used} bytes; there are {self.size}")
        return self.address + at


class Parcel:
    """What goes to the card at the start of a batch: tables and what they point to, in one copy.

    Arrays are sent once however often they are added. More than a box needs another copy.
    """

    def __init__(self, device: Device, road: Road, box: int = BOX) -> None:
        self._device = device
        self._road = road
        self._box = box
        self._boxes: list[tuple[Block, NDArray[np.uint8]]] = []
        self._filled: list[int] = []  # bytes, by box
        self._sent: list[int] = []
        self._known: dict[int, tuple[Any, int]] = {}  # the arrays themselves: their ids are theirs alone

    def reset(self) -> None:
        """Begin a new parcel; what the last one brought may be overwritten from now on."""
        self._filled.clear()
        self._sent.clear()
        self._known.clear()

    def add(self, array: NDArray[Any]) -> int:
        """Return where ``array`` will lie on the card."""
        known = self._known.get(id(array))
        if known is not None:
            return known[1]
        data = np.ascontiguousarray(array).view(np.uint8).reshape(-1)
        block, mirror, at = self._place(data.nbytes)
        mirror[at : at + data.nbytes] = data
        self._known[id(array)] = array, block.address + at
        return block.address + at

    def _place(self, size: int) -> tuple[Block, NDArray[np.uint8], int]:
        """Return the box with room for ``size`` bytes, its mirror in host memory, and where."""
        if not self._filled or self._filled[-1] + size > self._boxes[len(self._filled) - 1][0].size:
            self._open(size)
        box, mirror = self._boxes[len(self._filled) - 1]
        at = self._filled[-1]
        self._filled[-1] = at + aligned(size)
        return box, mirror, at

    def _open(self, size: int) -> None:
        """Open the next box, a new or larger one if need be."""
        number = len(self._filled)
        if number == len(self._boxes) or self._boxes[number][0].size < size:
            for box, _ in self._boxes[number:]:
                self._device.free(box)
            del self._boxes[number:]  # before there may be no room for another
            length = max(self._box, size)
            mirror = self._device.pinned(length)
            self._boxes.append((self._device.allocate(length), mirror))
        self._filled.append(0)
        self._sent.append(0)

    def send(self) -> None:
        """Send up what was added since the last time, before the kernels that are launched from now on."""
        for number, (sent, filled) in enumerate(zip(self._sent, self._filled, strict=True)):
            block, mirror = self._boxes[number]
            if sent < filled:
                self._road.upload(mirror[sent : min(filled, block.size)], block.address + sent)
                self._sent[number] = filled
        self._road.arrive()


class Returns:
    """What comes back at the end of a batch, in one copy if its size can be foretold.

    ``run`` calls a function on the card's thread and waits until what it asked for is done.
    """

    def __init__(
        self, device: Device, road: Road, size: int, run: Callable[[Callable[[], None]], None]
    ) -> None:
        self.size = size
        self._device = device
        self._road = road
        self._run = run
        self._places = Scratch(device.allocate(size), "room for results")
        self._mirror = device.pinned(size)
        self._here = 0

    def reset(self) -> None:
        """Forget all that was handed out, and all that came back."""
        self._places.reset()
        self._here = 0

    def take(self, size: int) -> int:
        """Return the address of ``size`` bytes. Raises OutOfMemory where they are not left."""
        return self._places.take(size)

    def clear(self, address: int, size: int) -> None:
        """Fill with zeros, as the kernels of a batch find it."""
        self._device.clear(address, size)

    def start(self, end: int) -> None:
        """Let everything before the address ``end`` come here; it is here when the batch is done."""
        upto = min(max(end - self._places.address, 0), self.size)
        if upto > self._here:
            part = slice(self._here, upto)
            self._road.download(self._places.address + self._here, self._mirror[part])
            self._here = upto

    def read(self, address: int, size: int) -> NDArray[np.uint8]:
        """Return bytes that came back, valid until the next batch; fetches what did not."""
        at = address - self._places.address
        if at + size > self._here:
            self._run(partial(self.start, address + size))
        return self._mirror[at : at + size]
