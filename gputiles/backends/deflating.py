"""PNG files that are made on a card as a whole: filtered, compressed, checked and framed by its kernels.

Filtered rows are cut into segments, each of which is compressed by itself and becomes an IDAT chunk; the
first brings the head of the file along, and a stream of its own ends it. Where the whole picture lies
on the card at once, samples that tell nothing are left out: the picture is grey where red, green and blue
are the same in every pixel, and has no alpha where all of it is opaque. The card finds that out.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gputiles.backends import tables
from gputiles.backends.arena import aligned
from gputiles.backends.card import Card
from gputiles.backends.modules import RUN
from gputiles.backends.streams import Counts, JpegStreams, Places, Room, pack, room
from gputiles.geometry import ceil_div
from gputiles.png import ADLER_BASE

SEGMENT = 33_024  # filtered bytes of a segment at most: SEGMENT in deflate.cu
CAPACITY = SEGMENT + 64  # bytes of a segment's stream at most: stored, in a chunk, behind the file's head
TAIL = 32  # bytes of what ends a file at most
TOKENS = 2 * SEGMENT  # bytes that a segment's tokens take


class PngStreams:
    """One picture of (rows, columns, 1 … 4) uint8 on its way; a unit are the rows of a segment, or one row.

    ``looks``: whether samples may be left out. A piece must then be the whole picture.
    """

    above = 1

    def __init__(self, shape: tuple[int, int, int], *, looks: bool) -> None:
        self.shape = rows, columns, samples = shape
        self.looks = looks and samples > 1
        self.line = columns * samples + 1
        self._per_unit = max(1, SEGMENT // self.line)
        self._segments = ceil_div(self.line, SEGMENT)  # of a unit
        self.units = ceil_div(rows, self._per_unit)
        self._adler = 1  # of the pieces before

    def rows(self, units: range) -> range:
        """Return the rows of pixels of some units."""
        return range(units.start * self._per_unit, min(units.stop * self._per_unit, self.shape[0]))

    def counts(self, units: range) -> Counts:
        """Return what some units bring home: a stream a segment, and that which ends the file."""
        segments, ends = len(units) * self._segments, self._ends(units)
        return Counts(segments + ends, segments, segments * CAPACITY + ends * TAIL)

    def scratch(self, units: range) -> int:
        """Return the bytes of a copy without idle samples, filtered rows, tokens and streams."""
        segments, rows = len(units) * self._segments, len(self.rows(units))
        kept = aligned(rows * self.line) if self.looks else 0
        return kept + aligned(rows * self.line) + segments * (TOKENS + CAPACITY) + 768

    def queue(self, card: Card, units: range, origin: int, places: Places) -> None:
        """Queue the making of some units' chunks, and of the end of the file behind the last."""
        segments = len(units) * self._segments
        look, kept = self._look(card, origin, places) if self.looks else (0, 0)
        filtered = self._filtered(card, self.rows(units), origin, (look, kept))
        tokens, streams = card.scratch.take(segments * TOKENS), card.scratch.take(segments * CAPACITY)
        rows, columns, samples = self.shape
        where = (filtered, tokens, streams, places.lengths, places.checks, look)
        what = (segments, units.start * self._segments, CAPACITY, columns, rows, samples, 0)
        card.queue("png_deflate", np.array([(*where, *what)], tables.PNG_DEFLATE))
        pack(card, streams, segments, CAPACITY, places)
        if self._ends(units):
            self._tail(card, segments, places)

    def _ends(self, units: range) -> bool:
        return units.stop == self.units

    def _look(self, card: Card, origin: int, places: Places) -> tuple[int, int]:
        """Queue the search for idle samples; return where the answer and a copy without them will lie."""
        rows, columns, samples = self.shape
        pixels = rows * columns
        kept = card.scratch.take(pixels * samples)
        table = np.array(
            [(origin, kept, places.look, ceil_div(pixels, RUN), pixels, samples)], tables.PNG_LOOK
        )
        card.queue("png_look", table)
        card.queue("png_reduce", table)
        return places.look, kept

    def _filtered(self, card: Card, rows: range, origin: int, looks: tuple[int, int]) -> int:
        """Queue the filter of some rows; return where row 0 would lie filtered."""
        filtered = card.scratch.take(len(rows) * self.line) - rows.start * self.line
        job = (origin, filtered, len(rows), rows.start, *looks, self.line - 1, self.shape[2])
        card.queue("png_filter", np.array([job], tables.PNG_FILTER))
        return filtered

    def _tail(self, card: Card, segments: int, places: Places) -> None:
        tail = card.scratch.take(TAIL)
        job = (places.checks, tail, places.lengths + 8 * segments, 1, segments, self._adler)
        card.queue("png_tail", np.array([job], tables.PNG_TAIL))
        pack(card, tail, 1, TAIL, places, segments)

    def note(self, checks: NDArray[Any]) -> None:
        """Go on with the checksum of the file after a piece that does not end it."""
        self._adler = adler(checks, self._adler)


Streamed = JpegStreams | PngStreams
"""How a picture becomes a file whose streams are made on a card."""


def adler(checks: Sequence[Any] | NDArray[Any], before: int = 1) -> int:
    """Return the Adler-32 of what had ``before``, followed by segments with ``checks`` (PNG_CHECK)."""
    total, weighted = before & 0xFFFF, before >> 16
    for sum_, own, count in np.asarray(checks, tables.PNG_CHECK).tolist():
        weighted = (weighted + count * total + own) % ADLER_BASE
        total = (total + sum_) % ADLER_BASE
    return weighted << 16 | total


def png_streams(shape: tuple[int, int, int], pixels: int, limit: Room, *, looks: bool) -> PngStreams:
    """Return how a picture becomes a PNG; samples are left out only if all of it fits into ``limit``.

    ``pixels`` are the bytes of scratch memory that its pixels take.
    """
    form = PngStreams(shape, looks=looks)
    need = room(form, range(form.units))
    fits = need.scratch + pixels <= limit.scratch and need.returns <= limit.returns
    return form if fits or not form.looks else PngStreams(shape, looks=False)
