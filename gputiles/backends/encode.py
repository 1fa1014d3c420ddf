"""Encoding on the host: JPEG by our kernel, PNG by our filter and ISA-L.

A file is made of units, whole rows of pixels that are encoded each by itself: any share of them
may be encoded on any thread, and the bytes do not depend on how they were shared out.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple, Protocol, TypeAlias

import numpy as np
from isal import isal_zlib
from numpy.typing import NDArray

from gputiles import jfif, png
from gputiles.backends import tables
from gputiles.encoded import Encoding

DEFLATE_LEVEL = 1
DEFLATED = 131_072  # pixels of a PNG that are compressed by themselves
SCRATCH = 8 * 1024**2  # bytes for scans at a time, if one row of MCUs fits

Run: TypeAlias = Callable[[str, NDArray[Any]], None]
Buffer: TypeAlias = Callable[[str, int], NDArray[np.uint8]]
Part: TypeAlias = bytes | memoryview


class File(Protocol):
    """A file in the making, of the pixels that it was created with.

    ``units`` is how many there are; a unit may read ``above`` rows above its own.
    """

    units: int
    above: int

    def rows(self, units: range) -> range:
        """Return the rows of pixels of some units."""

    def encode(self, units: range, run: Run, buffer: Buffer) -> list[Part]:
        """Return the bytes of some units.

        ``run`` calls a kernel over a job table; ``buffer`` lends scratch memory by name, in
        which the bytes may lie.
        """

    def join(self, parts: Sequence[Part]) -> bytes:
        """Return the file of the bytes of all units."""


class Scan(NamedTuple):
    """Rows of MCUs to be encoded: the kernel's table, and where it puts them and their lengths."""

    table: NDArray[Any]
    out: NDArray[np.uint8]
    lengths: NDArray[np.int64]
    capacity: int

    def parts(self) -> list[Part]:
        """Return the bytes of each row, once the kernel has run."""
        scan, capacity = self.out.data, self.capacity
        return [scan[at * capacity : at * capacity + size] for at, size in enumerate(self.lengths.tolist())]


class JpegFile:
    """(rows, columns, 1 or 3) uint8 as a baseline JFIF file; a unit is a row of MCUs.

    Raises LimitExceeded beyond the sides that a JPEG can have.
    """

    above = 0

    def __init__(self, pixels: NDArray[np.uint8], encoding: Encoding) -> None:
        height, width, samples = pixels.shape
        self._pixels = pixels
        self._subsampling = encoding.subsampling if samples == 3 else 0
        self._header = jfif.header(width, height, samples, encoding.quality, self._subsampling)
        self._codes = tables.jpeg_tables(encoding.quality)
        self._capacity = tables.jpeg_capacity(width, samples, self._subsampling)
        self.units = jfif.segments(height, self._subsampling)

    @property
    def capacity(self) -> int:
        """The bytes of scratch memory that all scans take together."""
        return self.units * self._capacity

    def rows(self, units: range) -> range:
        """Return the rows of pixels of some rows of MCUs."""
        height = jfif.mcu(self._subsampling)[1]
        return range(units.start * height, min(units.stop * height, self._pixels.shape[0]))

    def encode(self, units: range, run: Run, buffer: Buffer) -> list[Part]:
        """Return the scan of each row of MCUs."""
        most = min(len(units), max(1, SCRATCH // self._capacity))
        parts: list[Part] = []
        for some in (units[at : at + most] for at in range(0, len(units), most)):
            scan = self.scan(some, partial(buffer, "scan"))
            run("jpeg", scan.table)
            parts += scan.parts() if some == units else [bytes(part) for part in scan.parts()]
        return parts

    def scan(self, units: range, memory: Callable[[int], NDArray[np.uint8]]) -> Scan:
        """Return what the kernel needs to know to encode some rows of MCUs into ``memory``."""
        rows, columns, samples = self._pixels.shape
        scan = Scan(
            np.zeros(1, tables.JPEG),
            memory(len(units) * self._capacity),
            np.empty(len(units), np.int64),
            self._capacity,
        )
        planes = (self._pixels, scan.out, scan.lengths, self._codes)
        addresses = (plane.ctypes.data for plane in planes)
        counts = (len(units), units.start, self.units, self._capacity)
        scan.table[0] = (*addresses, *counts, columns, rows, samples, self._subsampling)
        return scan

    def join(self, parts: Sequence[Part]) -> bytes:
        """Return the file."""
        return b"".join((self._header, *parts))


class PngFile:
    """(rows, columns, 1 … 4) uint8 as a PNG file; ``filtered`` has room for the filtered rows.

    A unit is about ``DEFLATED`` pixels: a stream of its own that ends at a whole byte.
    """

    above = 1

    def __init__(self, pixels: NDArray[np.uint8], buffer: Buffer) -> None:
        rows, columns, samples = pixels.shape
        self._pixels = pixels
        self._row = columns * samples
        self._filtered = buffer("filtered", rows * (self._row + 1))
        self.units = min(rows, max(1, rows * columns // DEFLATED))

    def rows(self, units: range) -> range:
        """Return the rows of pixels of some units."""
        rows = self._pixels.shape[0]
        return range(rows * units.start // self.units, rows * units.stop // self.units)

    def encode(self, units: range, run: Run, buffer: Buffer) -> list[Part]:
        """Return the compressed rows of each unit."""
        rows = self.rows(units)
        table = np.zeros(1, tables.PNG_FILTER)
        addresses = (self._pixels.ctypes.data, self._filtered.ctypes.data)
        table[0] = (*addresses, len(rows), rows.start, self._row, self._pixels.shape[2])
        run("png_filter", table)
        return [self._deflated(unit) for unit in units]

    def _deflated(self, unit: int) -> bytes:
        rows = self.rows(range(unit, unit + 1))
        compressor = isal_zlib.compressobj(DEFLATE_LEVEL, isal_zlib.DEFLATED, -15)
        stream: bytes = compressor.compress(
            self._filtered[rows.start * (self._row + 1) : rows.stop * (self._row + 1)]
        )
        last = unit == self.units - 1
        return stream + compressor.flush(isal_zlib.Z_FINISH if last else isal_zlib.Z_SYNC_FLUSH)

    def join(self, parts: Sequence[Part]) -> bytes:
        """Return the file."""
        rows, columns, samples = self._pixels.shape
        return png.frame(png.zlib_stream(parts, isal_zlib.adler32(self._filtered)), columns, rows, samples)
