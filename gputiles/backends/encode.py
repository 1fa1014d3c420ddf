"""Encoding on the host: JPEG by our kernel, PNG by our filter and ISA-L."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from isal import isal_zlib
from numpy.typing import NDArray

from gputiles import jfif, png
from gputiles.backends import tables
from gputiles.encoded import Encoding

DEFLATE_LEVEL = 1
SCRATCH = 8 * 1024**2  # bytes for scans at a time, if one row of MCUs fits

Run = Callable[[str, NDArray[Any]], None]
Buffer = Callable[[str, int], NDArray[np.uint8]]


def jpeg_scan(
    pixels: NDArray[np.uint8], encoding: Encoding, segments: range, run: Run, buffer: Buffer
) -> list[memoryview]:
    """Return what follows the JFIF header of (rows, columns, 1 or 3) uint8: rows of MCUs as asked for.

    ``run`` calls a kernel over a job table; ``buffer`` lends scratch memory by name, in
    which the answer may lie.
    """
    rows, columns, samples = pixels.shape
    subsampling = encoding.subsampling if samples == 3 else 0
    codes = tables.jpeg_tables(encoding.quality)
    capacity = tables.jpeg_capacity(columns, samples, subsampling)
    most = min(len(segments), max(1, SCRATCH // capacity))
    out = buffer("scan", most * capacity)
    parts: list[memoryview] = []
    for some in (segments[at : at + most] for at in range(0, len(segments), most)):
        lengths = np.empty(len(some), np.int64)
        table = np.zeros(1, tables.JPEG)
        addresses = (pixels.ctypes.data, out.ctypes.data, lengths.ctypes.data, codes.ctypes.data)
        counts = (len(some), some.start, jfif.segments(rows, subsampling), capacity)
        table[0] = (*addresses, *counts, columns, rows, samples, subsampling)
        run("jpeg", table)
        scan = memoryview(out.data if some == segments else out.tobytes())
        parts += [scan[at * capacity : at * capacity + length] for at, length in enumerate(lengths.tolist())]
    return parts


def png_file(pixels: NDArray[np.uint8], run: Run, buffer: Buffer) -> bytes:
    """Return (rows, columns, 1 … 4) uint8 as a PNG file; ``run`` and ``buffer`` as for a scan."""
    rows, columns, samples = pixels.shape
    filtered = buffer("filtered", rows * (columns * samples + 1))
    table = np.zeros(1, tables.PNG_FILTER)
    table[0] = (pixels.ctypes.data, filtered.ctypes.data, rows, columns * samples, samples)
    run("png_filter", table)
    return png.frame(isal_zlib.compress(filtered, DEFLATE_LEVEL), columns, rows, samples)
