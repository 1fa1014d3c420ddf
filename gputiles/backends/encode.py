"""Encoding on the host: JPEG by our kernel, PNG by our kernels and ISA-L, WebP by libwebp.

A file is made of units, whole rows of pixels that are encoded each by itself: any share of them
may be encoded on any thread, and the bytes do not depend on how they were shared out.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple, Protocol, TypeAlias

import imagecodecs
import numpy as np
from numpy.typing import NDArray

from gputiles import arrays, jfif, png
from gputiles.backends import jpegcodes, tables
from gputiles.backends.addresses import address
from gputiles.backends.turn import turned
from gputiles.encoded import Encoding, Format
from gputiles.errors import LimitExceeded
from gputiles.geometry import ceil_div
from gputiles.png import Part

DEFLATED = 131_072  # pixels of a PNG that are compressed by themselves
LONGEST_WEBP = 16_383  # pixels on a side
SCRATCH = 8 * 1024**2  # bytes for streams at a time, if one unit fits

Run: TypeAlias = Callable[[str, NDArray[Any]], None]
Buffer: TypeAlias = Callable[[str, int], NDArray[np.uint8]]


class File(Protocol):
    """A file in the making, of the pixels that it was created with.

    ``units`` is how many there are; a unit may read ``above`` rows above its own.
    """

    shape: tuple[int, int, int]
    units: int
    above: int

    def rows(self, units: range) -> range:
        """Return the rows of pixels of some units."""

    def encode(self, units: range, run: Run, buffer: Buffer) -> list[Part]:
        """Return the bytes of some units.

        ``run`` calls a kernel over a job table; ``buffer`` lends scratch memory by name, in
        which the bytes may lie.
        """

    def searches(self, parts: Sequence[Part]) -> dict[int, Callable[[], bytes]]:
        """Return what makes those of all units that the kernels have left."""

    def join(self, parts: Sequence[Part]) -> bytes:
        """Return the file of the bytes of all units."""


def rows_read(file: File, units: range) -> range:
    """Return the rows of pixels that units of a file read."""
    rows = file.rows(units)
    return range(max(0, rows.start - file.above), rows.stop)


class Streams(NamedTuple):
    """Units to be encoded: the kernel's table, and where it puts them and their lengths."""

    table: NDArray[Any]
    out: NDArray[np.uint8]
    lengths: NDArray[np.int64]
    capacity: int

    def cut(self, shares: Sequence[range]) -> NDArray[Any]:
        """Return the table of the one job, cut into shares of its units."""
        firsts = [share.start for share in shares]
        table = _spread(self.table, firsts, self.capacity)
        table["first"] = firsts
        table["runs"] = [len(share) for share in shares]
        return table

    def parts(self) -> list[Part]:
        """Return the bytes of each unit, once the kernel has run."""
        out, capacity = self.out.data, self.capacity
        return [out[at * capacity : at * capacity + size] for at, size in enumerate(self.lengths.tolist())]

    def files(self) -> list[list[Part]]:
        """Return the bytes of each unit of each job."""
        parts, units = self.parts(), len(self.lengths) // len(self.table)
        return [parts[at : at + units] for at in range(0, len(parts), units)]


def _spread(table: NDArray[Any], firsts: Sequence[int], capacity: int) -> NDArray[Any]:
    """Return the one job of a table once for each of ``firsts``, the streams that lie before its own."""
    before, spread = np.array(firsts, np.uint64), np.repeat(table, len(firsts))
    spread["out"] += before * capacity
    spread["lengths"] += before * np.dtype(np.int64).itemsize
    return spread


def _in_scratch(
    units: range, capacity: int, buffer: Buffer, encode: Callable[[range, NDArray[np.uint8]], list[Part]]
) -> list[Part]:
    """Return the bytes of units of at most ``capacity``, encoded into scratch memory that is used again."""
    most = min(len(units), max(1, SCRATCH // capacity))
    if most == len(units):
        return encode(units, buffer("streams", most * capacity))
    return [
        bytes(part)
        for at in range(0, len(units), most)
        for part in encode(units[at : at + most], buffer("streams", most * capacity))
    ]


class JpegForm:
    """How (rows, columns, 1 or 3) uint8 become a baseline JFIF file; a unit is a row of MCUs.

    Raises LimitExceeded beyond the sides that a JPEG can have.
    """

    above = 0

    def __init__(self, shape: tuple[int, int, int], encoding: Encoding) -> None:
        self.shape = height, width, samples = shape
        self.subsampling = encoding.subsampling if samples == 3 else 0
        self.header = jfif.header(width, height, samples, encoding.quality, self.subsampling)
        self.codes = jpegcodes.codes(encoding.quality)
        self.units = jfif.segments(height, self.subsampling)
        self.capacity = jpegcodes.capacity(width, samples, self.subsampling)  # bytes of a unit at most

    def rows(self, units: range) -> range:
        """Return the rows of pixels of some rows of MCUs."""
        height = jfif.mcu(self.subsampling)[1]
        return range(units.start * height, min(units.stop * height, self.shape[0]))

    def table(self, units: range, addresses: tuple[int, int, int, int]) -> NDArray[Any]:
        """Return a job; the addresses are those of pixels, scans, lengths (i64 a unit) and codes."""
        rows, columns, samples = self.shape
        counts = (len(units), units.start, self.units, self.capacity)
        return np.array([(*addresses, *counts, columns, rows, samples, self.subsampling)], tables.JPEG)


class JpegFile(JpegForm):
    """Pixels as a baseline JFIF file."""

    def __init__(self, pixels: NDArray[np.uint8], encoding: Encoding) -> None:
        rows, columns, samples = pixels.shape
        super().__init__((rows, columns, samples), encoding)
        self._pixels = pixels

    def encode(self, units: range, run: Run, buffer: Buffer) -> list[Part]:
        """Return the scan of each row of MCUs."""

        def scans(some: range, out: NDArray[np.uint8]) -> list[Part]:
            scan = self.scan(some, out)
            run("jpeg", scan.table)
            return scan.parts()

        return _in_scratch(units, self.capacity, buffer, scans)

    def scan(self, units: range, out: NDArray[np.uint8], files: int = 1) -> Streams:
        """Return what the kernel needs to know to encode some rows of MCUs into ``out``.

        Of several ``files``, whose pixels come to lie in the same place in turn, there is a job each,
        and the streams of the second follow those of the first.
        """
        lengths = np.empty(files * len(units), np.int64)
        planes = (address(self._pixels), address(out), address(lengths), address(self.codes))
        table = self.table(units, planes)
        firsts = range(0, files * len(units), len(units))
        return Streams(_spread(table, firsts, self.capacity), out, lengths, self.capacity)

    def searches(self, _: Sequence[Part]) -> dict[int, Callable[[], bytes]]:
        """Return nothing: the kernel makes all units."""
        return {}

    def join(self, parts: Sequence[Part]) -> bytes:
        """Return the file."""
        return b"".join((self.header, *parts))


class PngFile:
    """(rows, columns, 1 … 4) uint8 as a PNG file; the buffer ``filtered`` has room for the filtered rows.

    A unit is about ``DEFLATED`` pixels: a stream of its own that ends at a whole byte.
    """

    above = 1

    def __init__(self, pixels: NDArray[np.uint8], buffer: Buffer) -> None:
        rows, columns, samples = pixels.shape
        self.shape = (rows, columns, samples)
        self.units: int = min(rows, max(1, rows * columns // DEFLATED))
        self._pixels = pixels
        self._line = columns * samples + 1
        self._filtered = buffer("filtered", rows * self._line)
        self.capacity = tables.png_capacity(ceil_div(rows, self.units) * self._line)
        self._checks = np.zeros(self.units, np.int64)

    def rows(self, units: range) -> range:
        """Return the rows of pixels of some units."""
        rows = self.shape[0]
        return range(rows * units.start // self.units, rows * units.stop // self.units)

    def encode(self, units: range, run: Run, buffer: Buffer) -> list[Part]:
        """Return the compressed rows of each unit."""
        run("png_filter", self.filtering([units]))

        def deflated(some: range, out: NDArray[np.uint8]) -> list[Part]:
            dense = self.dense(some, out)
            run("png_dense", dense.table)
            return [part or self._searched(unit) for unit, part in zip(some, dense.parts(), strict=True)]

        return _in_scratch(units, self.capacity, buffer, deflated)

    def filtering(self, shares: Sequence[range]) -> NDArray[Any]:
        """Return what the kernel needs to know that filters the rows of some units, a job for each share."""
        planes, every = (address(self._pixels), address(self._filtered)), map(self.rows, shares)
        what = (0, 0, self._line - 1, self.shape[2])
        return np.array([(*planes, len(rows), rows.start, *what) for rows in every], tables.PNG_FILTER)

    def dense(self, units: range, out: NDArray[np.uint8]) -> Streams:
        """Return what the kernel needs to know that compresses units of detail, a job for each.

        It leaves the others (see ``searches``), whose parts are empty, and learns the checksums of all.
        """
        lengths = np.empty(len(units), np.int64)
        filtered, streams, told, checks = (
            address(plane) for plane in (self._filtered, out, lengths, self._checks)
        )
        jobs = [
            (
                filtered + span.start,
                streams + at * self.capacity,
                told + at * lengths.itemsize,
                checks + unit * self._checks.itemsize,
                1,
                len(span),
                self._is_last(unit),
            )
            for at, (unit, span) in enumerate((unit, self._span(unit)) for unit in units)
        ]
        return Streams(np.array(jobs, tables.PNG_DENSE), out, lengths, self.capacity)

    def searches(self, parts: Sequence[Part]) -> dict[int, Callable[[], bytes]]:
        """Return what makes the units whose parts are empty."""
        return {unit: partial(self._searched, unit) for unit, part in enumerate(parts) if not part}

    def _searched(self, unit: int) -> bytes:
        """Return the rows of a unit, in which ISA-L looks for what repeats."""
        span = self._span(unit)
        return png.searched(self._filtered[span.start : span.stop], last=self._is_last(unit))

    def _span(self, unit: int) -> range:
        """Return where the filtered rows of a unit lie."""
        rows = self.rows(range(unit, unit + 1))
        return range(rows.start * self._line, rows.stop * self._line)

    def _is_last(self, unit: int) -> bool:
        return unit + 1 == self.units

    def join(self, parts: Sequence[Part]) -> bytes:
        """Return the file."""
        rows, columns, samples = self.shape
        checks = ((check, len(self._span(unit))) for unit, check in enumerate(self._checks.tolist()))
        stream = png.zlib_stream(parts, png.adler32(checks))
        return png.frame(stream, columns, rows, samples)


def file_of(pixels: NDArray[np.uint8], encoding: Encoding, buffer: Buffer) -> File:
    """Return pixels as a file of units: a JPEG or a PNG."""
    return JpegFile(pixels, encoding) if encoding.format is Format.JPEG else PngFile(pixels, buffer)


def encode_turned(pixels: NDArray[np.uint8], encoding: Encoding, run: Run, buffer: Buffer) -> bytes:
    """Return the file of a picture that is turned before it is encoded."""
    pixels = turned(pixels, encoding.turn)
    if encoding.format.is_whole:
        return whole_file(pixels, encoding)
    file = file_of(pixels, encoding, buffer)
    return file.join(file.encode(range(file.units), run, buffer))


def whole_file(pixels: NDArray[np.uint8], encoding: Encoding) -> bytes:
    """Return the file of a picture in a format that is neither JPEG nor PNG.

    Raises LimitExceeded beyond the sides that a WebP can have.
    """
    if encoding.format is not Format.WEBP:
        return arrays.file_of(pixels, encoding.format)
    height, width, samples = pixels.shape
    if max(height, width) > LONGEST_WEBP:
        raise LimitExceeded(f"WEBP: at most {LONGEST_WEBP} pixels on a side; got {width} x {height}")
    colours = pixels if samples > 2 else np.repeat(pixels[..., :1], 3, axis=2)
    if samples == 2:
        colours = np.concatenate([colours, pixels[..., 1:]], axis=2)
    return bytes(
        imagecodecs.webp_encode(np.ascontiguousarray(colours), level=encoding.quality, lossless=False)
    )
