"""Images that another library decodes: its pixels come to a backend as chunks that are decoded already."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from gputiles.backends import Chunk, DecodeJob
from gputiles.errors import GputilesError, NotFound, Unavailable
from gputiles.geometry import Grid, Rect, covering, unit_sizes
from gputiles.image import ImageInfo
from gputiles.sources import athand
from gputiles.sources.bytesource import Versioned, content_version
from gputiles.sources.drawn import DrawnCodec
from gputiles.sources.layout import fits


class Adapter(Protocol):
    """A file that is open in a library. Safe to call from several reader threads at once."""

    @property
    def info(self) -> ImageInfo:
        """What is known of the image."""

    @property
    def sizes(self) -> Mapping[int, tuple[int, int]]:
        """The stored levels z, and the (width, height) that each is stored with."""

    def paint(self, frame: int, z: int, area: Rect) -> tuple[NDArray[Any], NDArray[np.uint8] | None]:
        """Return the pixels (rows, columns, samples) of an area of a stored level, and where they are valid.

        The second is (rows, columns, 1), 0 where there is nothing; None is valid everywhere. Raises
        Damaged where the library cannot decode them.
        """

    def internals(self) -> dict[str, Any]:
        """Return what the library says of the file, ready for JSON."""

    def close(self) -> None:
        """Let go of the file."""


class AdaptedSource:
    """A file that a library decodes; see ``Source``.

    The decode happens in ``read``, so in the reading room: the libraries open and read files in
    the same call that decodes, and files are touched nowhere else.
    """

    def __init__(self, adapter: Adapter, paths: tuple[Versioned, ...], version: str) -> None:
        self._adapter = adapter
        self._version = version
        self.paths = paths
        self.descriptors = 1
        self.info = adapter.info

    def read(self, frame: int, z: int, unit: Rect) -> DecodeJob:
        """Decode the tiles of ``unit``; what the library cannot decode is the error of their chunk."""
        athand.wait()  # nobody knows what a library does
        self.info.check_frame(frame)
        if z not in self._adapter.sizes:
            raise NotFound(f"level {z} is not stored")
        size = self._adapter.sizes[z]
        tiles = tuple(self.info.grid.rect(z, x, y) for x, y in unit.cells())
        area = covering(tiles, size)
        chunk, mask = self._chunks(frame, z, area)
        return DecodeJob((chunk,), tiles, size, self.info.samples, self.info.dtype, mask=mask)

    def _chunks(self, frame: int, z: int, area: Rect) -> tuple[Chunk, tuple[Chunk, ...]]:
        try:
            pixels, valid = self._adapter.paint(frame, z, area)
        except Unavailable:  # says nothing about the file
            raise
        except GputilesError as error:
            return Chunk(DrawnCodec(np.empty((0, 0, 0))), error, area), ()
        mask = () if valid is None else (Chunk(DrawnCodec(valid), b"", area),)
        return Chunk(DrawnCodec(pixels), b"", area), mask

    def passthrough(self, frame: int, z: int, x: int, y: int) -> bytes | None:
        """Return None: the libraries give pixels, not the stored bytes."""
        return None

    def internals(self) -> dict[str, Any]:
        """Return what the library says of the file."""
        return self._adapter.internals()

    def is_current(self) -> bool:
        """Say whether the files are those that were opened."""
        return content_version(self.paths) == self._version

    def close(self) -> None:
        """Close the file."""
        self._adapter.close()


def find_levels(grid: Grid, sizes: Mapping[int, tuple[int, int]]) -> dict[int, int]:
    """Return {z: the library's number} of its levels (number: (width, height)) that the grid has."""
    full = grid.width, grid.height
    found: dict[int, int] = {}
    for number, size in sizes.items():
        k = 0 if size == full else fits(full, size)
        if k is not None and k < grid.levels:
            found.setdefault(grid.levels - 1 - k, number)
    return found


def single_unit(grid: Grid) -> tuple[tuple[int, int], ...]:
    """Return the units of an image whose full resolution is decoded as a whole."""
    return unit_sizes(grid, {grid.levels - 1: grid.tiles(grid.levels - 1)})
