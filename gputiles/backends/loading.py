"""Loads: what the jobs of a batch send up, tray by tray. While one travels, the next is filled."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from gputiles.backends import DecodeJob, Outcome, Raster, Tiles
from gputiles.backends.arena import aligned
from gputiles.backends.card import Card
from gputiles.backends.courier import Place
from gputiles.backends.making import bare
from gputiles.errors import GputilesError, OutOfMemory
from gputiles.geometry import Rect


class Cargo(Protocol):
    """What one job has in a tray."""

    def wait(self) -> None:
        """Wait until all of it is there; it may have failed."""

    def unload(self, card: Card) -> Tiles:
        """Queue on the card's thread what makes tiles of it. Raises OutOfMemory."""


class Loading:
    """The way up of one batch; ``found`` are the outcomes of jobs by their numbers, as far as they left."""

    def __init__(self, card: Card) -> None:
        self.found: dict[int, Outcome[Tiles]] = {}
        self._card = card
        self._tray = card.courier.next_tray()
        self._aboard: list[tuple[int, Cargo]] = []

    def holds(self, sizes: Sequence[int]) -> bool:
        """Say whether there are things, for which a tray together has room, of these bytes."""
        return 0 < sum(map(aligned, sizes)) <= self._card.courier.size

    def room(self, sizes: Sequence[int]) -> list[Place]:
        """Return room for things that a tray holds; one that has none left goes first."""
        if self._tray.used + sum(map(aligned, sizes)) > self._card.courier.size:
            self.wait()
            self._card.device.call(self.send)
            self._tray = self._card.courier.next_tray()
        return [self._tray.take(size) for size in sizes]

    def add(self, number: int, cargo: Cargo) -> None:
        """Take the cargo of a job along, which has its places in the tray that is filled."""
        self._aboard.append((number, cargo))

    def wait(self) -> None:
        """Wait until all that is in the tray is there."""
        for _, cargo in self._aboard:
            cargo.wait()

    def send(self) -> None:
        """Let the tray go, and the kernels that unload it behind it: on the card's thread."""
        if not self._aboard:
            return
        self._card.courier.send(self._tray)
        for number, cargo in self._aboard:
            self.found[number] = unloaded(partial(cargo.unload, self._card))
        self._card.go()
        self._card.courier.leave(self._tray)
        self._aboard.clear()


def unloaded(unload: Callable[[], Tiles]) -> Outcome[Tiles]:
    """Return the tiles of a job, or that the card has no room for them."""
    try:
        return unload()
    except OutOfMemory as error:
        return bare(error)


class Ready:
    """Tiles that the host has decoded; ``sizes`` are the bytes of all their planes."""

    def __init__(self, tiles: Tiles) -> None:
        self._tiles = tiles
        self._planes = [plane for tile in tiles if isinstance(tile, Raster) for plane in planes_of(tile)]
        self._places: list[Place] = []
        self.sizes = [plane.nbytes for plane in self._planes]

    def load(self, places: list[Place]) -> None:
        """Copy all planes to their places in a tray."""
        self._places = places
        for plane, place in zip(self._planes, places, strict=True):
            place.bytes[:] = plane.reshape(-1).view(np.uint8)

    def wait(self) -> None:
        """Return: all of it is there."""

    def unload(self, card: Card) -> Tiles:
        """Queue the copies from the tray to rasters. Raises OutOfMemory before anything is queued."""
        tiles = tuple(card.like(tile) if isinstance(tile, Raster) else tile for tile in self._tiles)
        places = iter(self._places)
        for tile in tiles:
            for to in (tile.address, tile.valid_address) if isinstance(tile, Raster) else ():
                if to:
                    place = next(places)
                    size = len(place.bytes)
                    card.paste(place.address, to, (size, 1), (size, size))
        return tiles


def planes_of(raster: Raster) -> list[NDArray[Any]]:
    """Return the pixels of a raster of the host, and perhaps its validity plane."""
    return [raster.pixels] if raster.valid is None else [raster.pixels, raster.valid]


def tiles_of(
    card: Card,
    job: DecodeJob,
    wrong: Callable[[Rect], GputilesError | None],
    fill: Callable[[Rect, Raster], None],
) -> Tiles:
    """Return a raster for each tile of a job that nothing is ``wrong`` with; ``fill`` queues its making.

    Raises OutOfMemory where the card has no room for all of them, before anything is queued.
    """
    new = partial(card.raster, dtype=job.dtype, masked=False)
    tiles = tuple(wrong(rect) or new((rect.height, rect.width, job.samples)) for rect in job.tiles)
    for rect, tile in zip(job.tiles, tiles, strict=True):
        if isinstance(tile, Raster):
            fill(rect, tile)
    return tiles


def covers(job: DecodeJob, samples: Sequence[int]) -> bool:
    """Say whether chunks of so many samples cover a job's tiles, once, and no tile leaves the level."""
    given = list(zip(job.chunks, samples, strict=True))
    level = Rect(0, 0, *job.level)
    if any(chunk.sample + count > job.samples for chunk, count in given):
        return False
    for rect in job.tiles:
        parts = [(chunk.place.intersect(rect), count) for chunk, count in given]
        covered = sum(part.width * part.height * count for part, count in parts if part is not None)
        if rect.intersect(level) != rect or covered != rect.width * rect.height * job.samples:
            return False
    return bool(job.tiles)
