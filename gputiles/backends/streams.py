"""Files that are encoded on a card: streams of a piece of a picture, which follow each other there.

A JPEG has a stream for each row of MCUs; of a PNG see ``deflating.py``. Whatever the files, all
streams of a batch are brought together by one launch, and come home in one copy.
"""

from __future__ import annotations

from typing import NamedTuple, Protocol

import numpy as np

from gputiles.backends import tables
from gputiles.backends.arena import aligned
from gputiles.backends.card import Card
from gputiles.backends.encode import JpegForm
from gputiles.backends.modules import PIECE
from gputiles.geometry import ceil_div


class Room(NamedTuple):
    """Bytes of a card's scratch memory, and of its room for results."""

    scratch: int
    returns: int


class Counts(NamedTuple):
    """What a piece brings home: streams, the checksums that some have, bytes of all streams at most."""

    streams: int
    checks: int
    size: int


class Places(NamedTuple):
    """Addresses for a piece: of each stream's i64 length and offset, its checksum, a look, and all files."""

    lengths: int
    offsets: int
    checks: int
    look: int
    packed: int

    def after(self, counts: Counts) -> Places:
        """Return the places of the next piece."""
        here = (self.lengths + 8 * counts.streams, self.offsets + 8 * counts.streams)
        checks = self.checks + tables.PNG_CHECK.itemsize * counts.checks
        return Places(*here, checks, self.look + 4, self.packed)


class StreamForm(Protocol):
    """How a picture's units become streams of its file."""

    shape: tuple[int, int, int]
    units: int
    above: int

    def rows(self, units: range) -> range:
        """Return the rows of pixels of some units."""

    def counts(self, units: range) -> Counts:
        """Return what some units bring home."""

    def scratch(self, units: range) -> int:
        """Return the bytes of scratch memory that some units take, besides their pixels."""

    def queue(self, card: Card, units: range, origin: int, places: Places) -> None:
        """Queue the encoding of some units; row 0 of the pixels would lie at ``origin``."""


class JpegStreams(JpegForm):
    """A JPEG whose rows of MCUs are encoded on a card."""

    def counts(self, units: range) -> Counts:
        """Return what some rows of MCUs bring home."""
        return Counts(len(units), 0, len(units) * self.capacity)

    def scratch(self, units: range) -> int:
        """Return the bytes of their streams."""
        return aligned(len(units) * self.capacity)

    def queue(self, card: Card, units: range, origin: int, places: Places) -> None:
        """Queue the encoding of some rows of MCUs."""
        streams = card.scratch.take(len(units) * self.capacity)
        codes = card.parcel.add(self.codes)
        card.queue("jpeg", self.table(units, (origin, streams, places.lengths, codes)))
        pack(card, streams, len(units), self.capacity, places)


def pack(card: Card, streams: int, count: int, capacity: int, places: Places, before: int = 0) -> None:
    """Queue the copy of streams that lie ``capacity`` bytes apart; ``before`` are others of the piece."""
    lengths, offsets = places.lengths + 8 * before, places.offsets + 8 * before
    runs = count * ceil_div(capacity, PIECE)
    card.queue("pack", np.array([(streams, lengths, offsets, places.packed, runs, capacity)], tables.PACK))


def room(form: StreamForm, units: range) -> Room:
    """Return what some units take, besides their pixels."""
    counts = form.counts(units)
    told = aligned(8 * counts.streams) + aligned(tables.PNG_CHECK.itemsize * counts.checks)
    offsets = aligned(8 * counts.streams + 4)
    return Room(form.scratch(units) + offsets + 512, told + aligned(counts.size) + 768)
