"""A card at work: its memory, and the batch whose tables are being filled.

A batch is planned in Python, sent in one copy, and run as one launch of each kernel that it
needs. Everything here is for the device's thread, but for ``run``, which leads to it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from gputiles.backends import Raster, tables
from gputiles.backends.arena import Parcel, Returns, Scratch
from gputiles.backends.conversion import Converter
from gputiles.backends.courier import Courier
from gputiles.backends.device import Block, Device
from gputiles.backends.memory import SLAB, Memory, Slot
from gputiles.backends.modules import PIECE, RUN
from gputiles.backends.plans import Target
from gputiles.backends.roads import Road
from gputiles.backends.tables import Placed
from gputiles.geometry import ceil_div

ORDER = (
    "ycc", "unpack", "paste", "icc", "downsample", "resample", "extremes", "histogram", "composite",
    "unstyled", "turn", "jpeg", "png_look", "png_reduce", "png_filter", "png_deflate", "png_tail", "follow",
    "pack",
)  # fmt: skip
"""The kernels of a batch in the order in which they are launched: none reads what a later one makes."""

RESERVE = 1 << 31  # bytes of a card that are left to its context and to libraries
MOST_SCRATCH = 1 << 29
MOST_RETURNS = 1 << 27
ROOM = 1 << 25  # of pinned memory for rasters, and of the card's behind it
UNDER_WAY = 64  # slabs that tiles of requests under way may take beside the shelf, if they must
LANES = 3  # batches under way: one is sent up, or decoded, one is computed, one travels home


R = TypeVar("R")


class Sizes(NamedTuple):
    """The bytes of a card's memory by their purpose; ``slab`` is what rasters' memory grows by.

    ``returns`` and ``room`` are taken once for each batch that may be under way.
    """

    rasters: int
    scratch: int = MOST_SCRATCH
    returns: int = MOST_RETURNS
    room: int = ROOM
    slab: int = SLAB


def sizes(free: int, wanted: int | None) -> Sizes:
    """Return how ``free`` bytes are shared out; ``wanted`` are asked for rasters, None: what is left."""
    scratch, returns = min(MOST_SCRATCH, free // 8), min(MOST_RETURNS, free // 16)
    room = min(ROOM, free // 32)
    left = free - min(RESERVE, free // 8) - scratch - LANES * (returns + room)
    slab = min(SLAB, max(1 << 20, left // 64))
    if wanted is not None:
        left = min(
            left, wanted + max(wanted // 8, UNDER_WAY * slab)
        )  # the waste of slabs, what is on no shelf
    return Sizes(left, scratch, returns, room, slab)


class Card:
    """One card; ``begin`` starts a batch, ``queue`` fills its tables, ``go`` runs it.

    A batch is under way until it has been waited for; only then the next may begin. Another may be
    under way on a Card that lies ``beside`` this one, over the same device: what a batch writes and
    the host reads, or the other way round, each has for itself.
    """

    def __init__(self, device: Device, sizes: Sizes, beside: Card | None = None) -> None:
        self.device = device
        self.memory: Memory = Memory(device, sizes.rasters, sizes.slab) if beside is None else beside.memory
        device.give = self.memory.shrink
        self._block: Block = device.allocate(sizes.scratch) if beside is None else beside._block
        self.road = Road(device)
        self._done = device.new_flag()
        self.scratch = Scratch(self._block)
        self.returns = Returns(device, self.road, sizes.returns, self.run)
        self.courier = Courier(device, self.road, sizes.room, self.run)
        self.parcel = Parcel(device, self.road)
        colours = Converter(self.queue, self._temporary, RUN, self._address)
        self.target = Target(RUN, self.parcel.add, colours)
        self._queued: dict[str, list[NDArray[Any]]] = {}
        self._temporaries: list[Slot] = []
        self._launched = False  # since the last flag

    def run(self, function: Callable[[], R]) -> R:
        """Call ``function`` on the card's thread, and wait here until what it asked for is done.

        Where it launches nothing, this is no matter of other batches' kernels.
        """

        def ask() -> R:
            asked = self.device.asked
            result = function()
            if self._launched or self.device.asked > asked:
                self.road.follow()
            self._launched = False
            self.road.set_flag(self._done)
            return result

        result = self.device.call(ask)
        self.device.wait_for(self._done)
        return result

    def begin(self) -> None:
        """Begin a batch: the last one's tables, scratch memory and results are given up."""
        self.parcel.reset()
        self.courier.reset()
        self.renew()
        self._queued.clear()
        self._temporaries.clear()

    def renew(self) -> None:
        """Go on with the batch in fresh scratch memory and room for results."""
        self.scratch.reset()
        self.returns.reset()

    def queue(self, kernel: str, table: NDArray[Any]) -> None:
        """Add jobs to what ``go`` launches."""
        self._queued.setdefault(kernel, []).append(table)

    def go(self) -> None:
        """Send the tables in one copy, then launch each queued kernel once."""
        ready = [
            (name, table, self.parcel.add(table))
            for name in ORDER
            if name in self._queued
            for table in [np.concatenate(self._queued[name])]
        ]
        self._queued.clear()
        self.parcel.send()
        self._launched |= bool(ready)
        for name, table, address in ready:
            self.device.launch(name, table, address)

    def temporary(self, size: int) -> int:
        """Return the address of device memory that is this batch's to its end."""
        return self._temporary("", size).address

    def _temporary(self, _: str, size: int) -> Slot:
        slot = self.memory.take(size)
        self._temporaries.append(slot)
        return slot

    def _address(self, thing: Any) -> int:
        return thing.address if isinstance(thing, Slot) else self.parcel.add(thing)

    # -- rasters

    def raster(self, shape: tuple[int, int, int], dtype: np.dtype[Any], *, masked: bool) -> Raster:
        """Return room for a raster, perhaps with a validity plane. Raises OutOfMemory."""
        rows, columns, _ = shape
        pixels = self.memory.take(math.prod(shape) * dtype.itemsize)
        valid = self.memory.take(rows * columns) if masked else None
        return token(pixels, shape, dtype, valid)

    def like(self, raster: Raster) -> Raster:
        """Return room for a raster as another is. Raises OutOfMemory."""
        return self.raster(raster.shape, raster.dtype, masked=raster.valid is not None)

    def upload(self, raster: Raster) -> Raster:
        """Return a raster of host memory (see ``paste.raster_of``) as one of the card."""
        made = self.like(raster)
        self.courier.up(raster.pixels, made.address)
        if raster.valid is not None:
            self.courier.up(raster.valid, made.valid_address)
        return made

    def paste(
        self, source: int, to: int, size: tuple[int, int], pitches: tuple[int, int], value: int = 0
    ) -> None:
        """Queue the copy of a rectangle of ``size`` (bytes of a row, rows); a source of 0 fills it."""
        width, rows = size
        runs = rows * ceil_div(width, PIECE)
        self.queue("paste", np.array([(source, to, runs, width, *pitches, value)], tables.PASTE))

    def convert(self, address: int, shape: tuple[int, int, int], dtype: np.dtype[Any]) -> None:
        """Queue the conversion of YCbCr (rows, columns, 3), of all bits of a type, to RGB where it lies."""
        rows, columns, _ = shape
        count = rows * columns
        job = (address, tables.runs(count, 1, RUN), count, dtype.itemsize, 0)
        self.queue("ycc", np.array([job], tables.YCC))

    def settle(self, rasters: Sequence[Raster]) -> int:
        """Launch the batch that makes ``rasters``; return where it is counted what they lack."""
        masked = [raster for raster in rasters if raster.valid is not None]
        borders = self.parcel.add(np.array([0.0, 0.5, 1.0])) if masked else 0
        counts = self.returns.take(16 * len(masked)) if masked else 0
        for at, raster in enumerate(masked):
            self.queue("histogram", _lacking(raster, counts + 16 * at, borders))
        if masked:
            self.returns.clear(counts, 16 * len(masked))
        self.go()
        self.returns.start(counts + 16 * len(masked))
        return counts

    def settled(self, rasters: Sequence[Raster], counts: int) -> list[Raster]:
        """Return rasters without validity planes that say "everywhere", as was counted."""
        masked = [raster for raster in rasters if raster.valid is not None]
        if not masked:
            return list(rasters)
        lacking = self.returns.read(counts, 16 * len(masked)).view(np.int64)[::2].tolist()
        everywhere = {id(raster) for raster, count in zip(masked, lacking, strict=True) if not count}
        return [_everywhere(raster) if id(raster) in everywhere else raster for raster in rasters]

    def close(self) -> None:
        """Free all memory."""
        with suppress(Exception):  # of a device that is lost, nothing can be freed
            self.device.fence()
        self._temporaries.clear()
        self.device.close()


def token(pixels: Slot, shape: tuple[int, int, int], dtype: np.dtype[Any], valid: Slot | None) -> Raster:
    """Return the raster that lies in slots: what the event loop holds of it."""
    weight = pixels.size + (valid.size if valid is not None else 0)
    addresses = (pixels.address, valid.address if valid is not None else 0)
    return Raster(pixels, shape, dtype, weight, valid, *addresses)


def described(raster: Raster) -> Placed:
    """Return a raster as job tables describe it. Raises Freed where its slots were given back."""
    valid = raster.valid.address if raster.valid is not None else 0
    return Placed(raster.pixels.address, valid, raster.shape, raster.dtype)


def _everywhere(raster: Raster) -> Raster:
    """Return a raster without its validity plane."""
    raster.valid.give_back()
    return token(raster.pixels, raster.shape, raster.dtype, None)


def _lacking(raster: Raster, counts: int, borders: int) -> NDArray[Any]:
    """Return a job that counts the zeros and the ones of a validity plane."""
    rows, columns, _ = raster.shape
    plane = Placed(raster.valid_address, 0, (rows, columns, 1), np.dtype(np.uint8))
    table = np.zeros(1, tables.MEASURE)
    row = table[0]
    row["source"] = tables.source(plane)
    row["out"], row["edges"], row["runs"] = counts, borders, rows
    row["low"], row["high"], row["bins"] = 0.0, 1.0, 2
    return table
