"""Memory for rasters, the device's or pinned: slabs, allocated once, cut into slots of one size each.

A slab that is empty again serves slots of any size; where none is to be had, a slot is larger
than was asked for.

A slot belongs to whoever holds it; when nobody does, its place is free for the next that asks.
Slots may be dropped on any thread, the rest is for the device's thread. A batch holds the slots
that it uses until its work on the card is done, so that no place is given away before.
"""

from __future__ import annotations

from collections import deque
from typing import Protocol

from gputiles.backends.device import Block
from gputiles.errors import OutOfMemory
from gputiles.geometry import ceil_div

SLAB = 16 * 1024**2
LEAST = 512  # bytes of the smallest slot; addresses are multiples of 256
STEPS = 8  # sizes from one power of two to the next: at most an eighth is wasted


class Source(Protocol):
    """Where slabs come from; ``kind`` is what their memory is called."""

    kind: str

    def allocate(self, size: int) -> Block:
        """Return new memory. Raises OutOfMemory where there is none."""

    def free(self, block: Block) -> None:
        """Give memory back."""


class Freed(RuntimeError):
    """A slot was used after it had been given back: a bug of the caller."""


def slot_size(size: int) -> int:
    """Return the size of the slots in which ``size`` bytes lie."""
    if size <= LEAST:
        return LEAST
    step = max(256, 1 << (size - 1).bit_length() - 1 >> STEPS.bit_length() - 1)
    return ceil_div(size, step) * step


class Slab:
    """A stretch of memory and the free places in it; ``size`` is that of its slots."""

    __slots__ = ("begin", "free", "length", "places", "size")

    def __init__(self, block: Block) -> None:
        self.begin, self.length = block.address, block.size
        self.size = self.places = 0
        self.free: list[int] = []

    def cut(self, size: int) -> None:
        """Cut all of it into slots of ``size``."""
        self.size, self.places = size, self.length // size
        self.free = [self.begin + size * at for at in reversed(range(self.places))]

    @property
    def empty(self) -> bool:
        """Whether no slot is in use."""
        return len(self.free) == self.places


class Slot:
    """A place for one plane of a raster, until ``give_back`` or until nobody holds it."""

    __slots__ = ("_address", "_left", "_slab", "live", "size")

    def __init__(self, slab: Slab, address: int, left: deque[tuple[Slab, int]]) -> None:
        self._slab = slab
        self._address = address
        self._left = left
        self.live = True
        self.size = slab.size

    @property
    def address(self) -> int:
        """Where the slot lies. Raises Freed once it has been given back."""
        if not self.live:
            raise Freed(f"the slot at {self._address:#x} was given back")
        return self._address

    def give_back(self) -> None:
        """Leave the place to others; all later use of the slot is a bug."""
        if self.live:
            self.live = False
            self._left.append((self._slab, self._address))

    def __del__(self) -> None:
        self.give_back()


class Memory:
    """Slots of at most ``budget`` bytes together, the room that their slabs waste included."""

    def __init__(self, source: Source, budget: int, slab: int = SLAB) -> None:
        self.budget = budget
        self._source = source
        self._slab = slab
        self._blocks: dict[int, Block] = {}  # by address
        self._slabs: dict[int, list[Slab]] = {}  # with free places, by the size of their slots
        self._spare: list[Slab] = []
        self._left: deque[tuple[Slab, int]] = deque()  # appended to on any thread

    @property
    def allocated(self) -> int:
        """Bytes of all slabs."""
        return sum(block.size for block in self._blocks.values())

    def take(self, size: int) -> Slot:
        """Return a slot of at least ``size`` bytes. Raises OutOfMemory where there is no room."""
        self.collect()
        slabs = self._with_places(slot_size(size))
        slab = slabs[-1]
        address = slab.free.pop()
        if not slab.free:
            slabs.pop()
        return Slot(slab, address, self._left)

    def _with_places(self, size: int) -> list[Slab]:
        """Return slabs with free places of ``size``, or of a larger one where no slab is to be had."""
        slabs = self._slabs.setdefault(size, [])
        if slabs:
            return slabs
        try:
            slabs.append(self._fresh(size))
        except OutOfMemory:
            larger = [other for other, some in self._slabs.items() if other > size and some]
            if not larger:
                raise
            return self._slabs[min(larger)]
        return slabs

    def collect(self) -> None:
        """Take back the places of slots that nobody holds any more."""
        while self._left:
            slab, address = self._left.popleft()
            if not slab.free and slab.places > 1:
                self._slabs.setdefault(slab.size, []).append(slab)
            slab.free.append(address)
            if slab.empty:
                self._retire(slab)

    def shrink(self) -> bool:
        """Give what nobody holds back to where it came from, an empty slab at least; False for nothing."""
        before = self.allocated
        self.collect()
        if self._spare:
            self._free(self._spare.pop())
        return self.allocated < before

    def _retire(self, slab: Slab) -> None:
        """Keep an empty slab for slots of any size; free a block that was made for one slot."""
        if slab.places > 1:
            self._slabs[slab.size].remove(slab)
        if slab.length == self._slab:
            self._spare.append(slab)
        else:
            self._free(slab)

    def _free(self, slab: Slab) -> None:
        self._source.free(self._blocks.pop(slab.begin))

    def _fresh(self, size: int) -> Slab:
        """Return a slab cut into slots of ``size``; a large slot gets a block of its own."""
        alone = size > self._slab // 4
        slab = (
            self._spare.pop() if self._spare and not alone else self._allocated(size if alone else self._slab)
        )
        slab.cut(size)
        return slab

    def _allocated(self, size: int) -> Slab:
        while self.allocated + size > self.budget and self._spare:
            self._free(self._spare.pop())
        if self.allocated + size > self.budget:
            raise OutOfMemory(
                f"{self._source.kind} memory: {size} bytes more than the {self.allocated} in use; "
                f"at most {self.budget} are for tiles"
            )
        try:
            block = self._source.allocate(size)
        except OutOfMemory:
            if not self._spare:  # others use the card too: there may be more later
                raise
            self._free(self._spare.pop())
            return self._allocated(size)
        self._blocks[block.address] = block
        return Slab(block)
