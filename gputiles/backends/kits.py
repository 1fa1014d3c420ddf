"""Kits: what encodes a small picture in one call, made once for pictures of a kind.

The pictures of a place at the work lie in the same memory in turn, and so do their files: from tile to
tile the job tables of the encoder are the same. To make them anew takes as long as a kernel does for a
tenth of a tile.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from cachetools import LRUCache
from numpy.typing import NDArray

from gputiles.backends import plans
from gputiles.backends.addresses import address
from gputiles.backends.encode import DEFLATED, Buffer, File, JpegFile, PngFile, Streams, rows_read
from gputiles.backends.hostlib import Call, Library
from gputiles.crew import Kept
from gputiles.encoded import Encoding, Format
from gputiles.geometry import shares

SHARE = 65536  # pixels of a JPEG that are worth the waking of another thread
FINER = 3  # shares for each thread of the pool: who comes late does fewer
KEPT = 8  # kits of a place


class Kit(NamedTuple):
    """The encoder of pictures in one place, which puts their units into ``streams``.

    ``steps`` are those of shares of a picture. The first of each draws the pixels that the share reads,
    which are ``spans``; its jobs are ``drawn``. ``held`` is what the others point to.
    """

    file: File
    streams: Streams
    spans: plans.Spans
    drawn: NDArray[Any]
    steps: NDArray[Any]
    held: Sequence[Call]

    def draw(self, table: NDArray[Any]) -> NDArray[Any]:
        """Return all steps of the picture that ``table`` plans."""
        self.drawn[:] = table
        self.drawn["begin"], self.drawn["runs"] = self.spans
        return self.steps


class Kits:
    """The kits of all places; ``buffer`` gives each its memory by name, ``run`` is the pixels of a run."""

    def __init__(self, library: Library, buffer: Buffer, run: int) -> None:
        self._library = library
        self._buffer = buffer
        self._run = run
        self._kept: Kept[LRUCache[object, Kit]] = Kept(partial(LRUCache, KEPT))

    def kit(self, draw: Call, pixels: NDArray[np.uint8], encoding: Encoding, threads: int) -> Kit:
        """Return the calling thread's kit of JPEGs or PNGs of pictures that lie where ``pixels`` do.

        ``draw`` is what draws one of them; others are drawn by the same kernel.
        """
        kept = self._kept()
        key = (draw.kernel, address(pixels), pixels.shape, encoding, threads)
        kit = kept.get(key)
        if kit is None:
            kit = kept[key] = self._made(draw, pixels, encoding, threads)
        return kit

    def _made(self, draw: Call, pixels: NDArray[np.uint8], encoding: Encoding, threads: int) -> Kit:
        if encoding.format is Format.PNG:
            return self._png(draw, PngFile(pixels, self._buffer))
        return self._jpeg(draw, JpegFile(pixels, encoding), FINER * threads if threads > 1 else 1)

    def _jpeg(self, draw: Call, file: JpegFile, count: int) -> Kit:
        cuts = shares(file.units, count)
        scan = file.scan(range(file.units), self._buffer("scan 0", file.units * file.capacity))
        return self._kit(file, cuts, scan, draw, Call("jpeg", scan.cut(cuts)))

    def _png(self, draw: Call, file: PngFile) -> Kit:
        cuts = shares(file.units, file.units)
        dense = file.dense(range(file.units), self._buffer("streams", file.units * file.capacity))
        calls = (Call("png_filter", file.filtering(cuts)), Call("png_dense", dense.table))
        return self._kit(file, cuts, dense, draw, *calls)

    def _kit(self, file: File, cuts: Sequence[range], streams: Streams, draw: Call, *calls: Call) -> Kit:
        spans = plans.spans(file.shape[1], [rows_read(file, units) for units in cuts], self._run)
        drawn = plans.cut(draw.table, spans)
        steps = self._library.shares([Call(draw.kernel, drawn), *calls])
        return Kit(file, streams, spans, drawn, steps, calls)


def most_threads(shape: Sequence[int], encoding: Encoding) -> int:
    """Return how many threads a picture of ``shape`` (rows, columns, …) is worth."""
    return max(1, shape[0] * shape[1] // (DEFLATED if encoding.format is Format.PNG else SHARE))
