"""The attic: rasters that a card has no room for, in pinned host memory."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from gputiles.backends import Raster
from gputiles.backends.card import Card, token
from gputiles.backends.device import Block, Device
from gputiles.backends.memory import SLAB, Memory, Slot
from gputiles.errors import OutOfMemory

LEAST_SLAB = 1 << 16


class Pinned:
    """Host memory that the card reaches by itself, by its addresses."""

    kind = "pinned"

    def __init__(self, device: Device) -> None:
        self._device = device
        self._held: dict[int, NDArray[np.uint8]] = {}

    def allocate(self, size: int) -> Block:
        """Return new memory. Raises OutOfMemory where the host has none to pin."""
        held = self._device.pinned(size)
        self._held[held.ctypes.data] = held
        return Block(held.ctypes.data, size)

    def free(self, block: Block) -> None:
        """Give memory back."""
        del self._held[block.address]

    def close(self) -> None:
        """Give all memory back."""
        self._held.clear()


class Attic:
    """Keeps rasters of a card in at most ``budget`` bytes; ``capacity`` is what a shelf may hold of them."""

    def __init__(self, device: Device, budget: int) -> None:
        self.capacity = budget - budget // 8  # the rest is what slabs waste
        self._pinned = Pinned(device)
        self.memory = Memory(self._pinned, budget, min(SLAB, max(LEAST_SLAB, budget // 64)))

    def spill(self, card: Card, rasters: Sequence[Raster]) -> list[Raster | None]:
        """Copy rasters from the card; None for those that find no room."""

        def launch() -> list[Raster | None]:
            kept = [self._room(raster) for raster in rasters]
            pairs = [(raster, copy) for raster, copy in zip(rasters, kept, strict=True) if copy is not None]
            card.road.lower([plane for raster, copy in pairs for plane in _planes(raster, copy)])
            return kept

        return card.run(launch)

    def _room(self, raster: Raster) -> Raster | None:
        pixels, valid = _sizes(raster)
        try:
            slot = self.memory.take(pixels)
            mask: Slot | None = self.memory.take(valid) if valid else None
        except OutOfMemory:
            return None
        return token(slot, raster.shape, raster.dtype, mask)

    def restore(self, card: Card, spilled: Sequence[Raster]) -> list[Raster]:
        """Copy rasters of the attic to the card. Raises OutOfMemory where it has no room for all."""

        def launch() -> list[Raster]:
            made = [card.like(each) for each in spilled]
            for source, raster in zip(spilled, made, strict=True):
                for begin, to, size in _planes(source, raster):
                    card.road.raise_to(begin, to, size)
            return made

        return card.run(launch)

    def close(self) -> None:
        """Free all memory."""
        self._pinned.close()


def _sizes(raster: Raster) -> tuple[int, int]:
    """Return the bytes of a raster's pixels, and of its validity plane."""
    rows, columns, _ = raster.shape
    return math.prod(raster.shape) * raster.dtype.itemsize, 0 if raster.valid is None else rows * columns


def _planes(source: Raster, to: Raster) -> list[tuple[int, int, int]]:
    """Return (from, to, bytes) of the planes of a raster. Raises Freed where a slot was given back."""
    pixels, valid = _sizes(source)
    planes = [(source.pixels.address, to.pixels.address, pixels)]
    return planes if source.valid is None else [*planes, (source.valid.address, to.valid.address, valid)]
