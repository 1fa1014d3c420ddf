"""Pictures drawn and encoded on a card: one composite and one encode launch for a whole batch.

A file is made of units (see ``encode.py``). What fits into the card's scratch memory is drawn,
encoded and brought back together; a picture that is larger goes through in several such groups.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from gputiles.backends import Outcome, RenderJob, plans, tables
from gputiles.backends.arena import aligned
from gputiles.backends.card import Card, on_card
from gputiles.backends.encode import JpegForm, PngForm, Run, encode_turned
from gputiles.backends.making import attempt
from gputiles.backends.modules import PIECE, RUN
from gputiles.backends.plans import Picture
from gputiles.encoded import Encoding, Format, Turn
from gputiles.errors import GputilesError, OutOfMemory

UPRIGHT = Turn()


class Form(Protocol):
    """How a picture's units lie in its rows."""

    shape: tuple[int, int, int]
    units: int
    above: int

    def rows(self, units: range) -> range:
        """Return the rows of pixels of some units."""


class PlainForm:
    """The pixels themselves, which the host turns or makes a file of; a unit is a row."""

    above = 0

    def __init__(self, shape: tuple[int, int, int]) -> None:
        self.shape = shape
        self.units = shape[0]

    def rows(self, units: range) -> range:
        """Return the rows of pixels of some rows of pixels."""
        return units


@dataclass(slots=True, eq=False)
class Drawing:
    """A job on its way: how far it is planned, and what came back."""

    job: RenderJob
    picture: Picture
    form: Form
    planned: int = 0
    parts: list[bytes] = field(default_factory=list)
    bytes: NDArray[np.uint8] | None = None  # filtered rows, or pixels

    @property
    def line(self) -> int:
        """Bytes of a row of the picture."""
        return self.picture.shape[1] * self.picture.shape[2]


class Piece(NamedTuple):
    """Some units of a drawing that are made in one group, and the rows that this takes."""

    drawing: Drawing
    units: range
    rows: range  # those above, which a filter reads, included


class Habits:
    """What the draughtsmen of a card go by.

    ``ratio`` are the bytes of a JPEG's scan per pixel, as far as some were seen. Where a batch has
    fewer than ``card_jpegs`` JPEGs, their pixels come home and the host encodes them, to the same bytes.
    """

    __slots__ = ("card_jpegs", "ratio")

    def __init__(self) -> None:
        self.ratio = 0.5
        self.card_jpegs = 1


class Group(NamedTuple):
    """Pieces under way; (address, bytes) of those that come back as rows, where the scans of others lie."""

    pieces: list[tuple[Piece, tuple[int, int] | None]]
    lengths: int
    packed: int


class Draughtsman:
    """Draws batches on a card; the host deflates, turns and frames on ``helpers``.

    ``run`` calls a host kernel: turned pictures are encoded on the host.
    """

    def __init__(self, card: Card, helpers: Executor, run: Run, habits: Habits) -> None:
        self._card = card
        self._helpers = helpers
        self._run = run
        self._habits = habits

    def render(self, jobs: Sequence[RenderJob]) -> list[Outcome[bytes]]:
        """Composite and encode each job's tile. Raises OutOfMemory for the whole batch."""
        planned: list[Outcome[Drawing]] = []
        group = self._card.run(partial(self._begin, jobs, planned))
        drawings = [outcome for outcome in planned if isinstance(outcome, Drawing)]
        self._note(group)
        while any(drawing.planned < drawing.form.units for drawing in drawings):
            self._note(self._card.run(partial(self._make, drawings)))
        files = [None if isinstance(each, GputilesError) else self._finish(each) for each in planned]
        return [
            outcome if isinstance(outcome, GputilesError) else attempt(_result, file)
            for outcome, file in zip(planned, files, strict=True)
        ]

    def _begin(self, jobs: Sequence[RenderJob], planned: list[Outcome[Drawing]]) -> Group:
        """Plan a batch and launch what fits of it, on the card's thread."""
        self._card.begin()
        few = sum(_is_scan(job.encoding) for job in jobs) < self._habits.card_jpegs
        planned += [attempt(partial(self._plan, few=few), job) for job in jobs]
        return self._make([outcome for outcome in planned if isinstance(outcome, Drawing)])

    def _plan(self, job: RenderJob, *, few: bool = False) -> Drawing:
        """Plan a job; where there are ``few``, the host encodes JPEGs."""
        sources = [on_card(raster) for raster in job.rasters]
        picture = plans.picture(job, sources, self._card.target)
        on_host = few and _is_scan(job.encoding)
        form = PlainForm(picture.shape) if on_host else form_of(picture.shape, job.encoding)
        return Drawing(job, picture, form)

    # -- groups

    def _group(self, drawings: Sequence[Drawing]) -> list[Piece]:
        """Return the next pieces that fit together; none where all is made."""
        room = [self._card.scratch.size, self._card.returns.size]
        group = []
        for drawing in drawings:
            piece = _next_piece(drawing, room)
            if piece is not None:
                group.append(piece)
            if drawing.planned < drawing.form.units:
                break
        if not group and drawings and drawings[-1].planned < drawings[-1].form.units:
            raise OutOfMemory(f"scratch memory of {room} bytes is too small for one row of a picture")
        return group

    def _make(self, drawings: Sequence[Drawing]) -> Group:
        """Launch the drawing and encoding of the next pieces, and their way home."""
        group = self._group(drawings)
        self._card.renew()
        scans = [piece for piece in group if isinstance(piece.drawing.form, JpegForm)]
        places = {
            id(piece): self._rows(piece) for piece in group if not isinstance(piece.drawing.form, JpegForm)
        }
        lengths, packed = self._scans(scans) if scans else (0, 0)
        self._card.go()
        self._card.returns.start(packed + int(self._habits.ratio * _pixels(scans)) if scans else _end(places))
        return Group([(piece, places.get(id(piece))) for piece in group], lengths, packed)

    def _note(self, group: Group) -> None:
        """Note in their drawings what came back of pieces."""
        for piece, place in group.pieces:
            if place is not None:
                self._note_rows(piece, *place)
        scans = [piece for piece, place in group.pieces if place is None]
        if scans:
            self._note_scans(scans, group.lengths, group.packed)

    def _composite(self, piece: Piece, address: int) -> int:
        """Queue the drawing of a piece's rows from ``address`` on; return where row 0 would lie."""
        picture, first = piece.drawing.picture, piece.rows.start
        table = plans.cut(picture.table, piece.rows, RUN)
        origin = address - first * piece.drawing.line
        table["out"] = origin
        self._card.queue(picture.kernel, table)
        return origin

    # -- pixels, and filtered rows

    def _rows(self, piece: Piece) -> tuple[int, int]:
        """Queue a piece that comes back as rows; return their address and bytes."""
        form, line = piece.drawing.form, piece.drawing.line
        rows = form.rows(piece.units)
        if not isinstance(form, PngForm):
            size = len(rows) * line
            address = self._card.returns.take(size)
            self._composite(piece, address)
            return address, size
        origin = self._composite(piece, self._card.scratch.take(len(piece.rows) * line))
        size = len(rows) * (form.row + 1)
        address = self._card.returns.take(size)
        self._card.queue("png_filter", form.table(rows, origin, address - rows.start * (form.row + 1)))
        return address, size

    def _note_rows(self, piece: Piece, address: int, size: int) -> None:
        drawing, form = piece.drawing, piece.drawing.form
        line = form.row + 1 if isinstance(form, PngForm) else drawing.line
        if drawing.bytes is None:
            drawing.bytes = np.empty(form.shape[0] * line, np.uint8)
        begin = form.rows(piece.units).start * line
        drawing.bytes[begin : begin + size] = self._card.returns.read(address, size)

    # -- scans

    def _scans(self, pieces: Sequence[Piece]) -> tuple[int, int]:
        """Queue pieces of JPEGs and their packing; return the addresses of lengths and packed scans."""
        returns, scratch, count = self._card.returns, self._card.scratch, sum(len(p.units) for p in pieces)
        lengths, offsets = returns.take(8 * count), scratch.take(8 * count)
        packed = returns.take(sum(_capacity(piece) for piece in pieces))
        self._card.queue("follow", np.array([(lengths, offsets, count)], tables.FOLLOW))
        before = 0
        for piece in pieces:
            form = piece.drawing.form
            assert isinstance(form, JpegForm)
            origin = self._composite(piece, scratch.take(len(piece.rows) * piece.drawing.line))
            streams = scratch.take(_capacity(piece))
            places = (lengths + 8 * before, offsets + 8 * before)
            codes = self._card.parcel.add(form.codes)
            self._card.queue("jpeg", form.table(piece.units, (origin, streams, places[0], codes)))
            runs = len(piece.units) * -(-form.capacity // PIECE)
            self._card.queue("pack", np.array([(streams, *places, packed, runs, form.capacity)], tables.PACK))
            before += len(piece.units)
        return lengths, packed

    def _note_scans(self, pieces: Sequence[Piece], lengths: int, packed: int) -> None:
        """Take each piece's scan out of what came back, and learn how much to bring at once."""
        returns, counts = self._card.returns, [len(piece.units) for piece in pieces]
        each = returns.read(lengths, 8 * sum(counts)).view(np.int64)
        ends = np.concatenate(([0], np.cumsum(each)))[np.cumsum([0, *counts])].tolist()
        data = returns.read(packed, ends[-1])
        for piece, begin, end in zip(pieces, ends[:-1], ends[1:], strict=True):
            piece.drawing.parts.append(data[begin:end].tobytes())
        self._habits.ratio = max(self._habits.ratio * 0.9, 1.25 * ends[-1] / _pixels(pieces))

    # -- files

    def _finish(self, drawing: Drawing) -> Callable[[], bytes]:
        """Return what gives the file; helpers are at work on it."""
        form, encoding = drawing.form, drawing.job.encoding
        if isinstance(form, JpegForm):
            return partial(b"".join, (form.header, *drawing.parts))
        assert drawing.bytes is not None
        if isinstance(form, PngForm):
            rows, filtered = form, drawing.bytes
            units = [self._helpers.submit(form.deflated, unit, filtered) for unit in range(form.units)]
            return lambda: rows.file([unit.result() for unit in units], filtered)
        pixels = drawing.bytes.reshape(drawing.picture.shape)
        return self._helpers.submit(encode_turned, pixels, encoding, self._run, _buffer).result


def _is_scan(encoding: Encoding) -> bool:
    """Say whether a card can encode a picture as a JPEG."""
    return encoding.format is Format.JPEG and encoding.turn == UPRIGHT


def form_of(shape: tuple[int, int, int], encoding: Encoding) -> Form:
    """Return how a picture of ``shape`` becomes a file. Raises LimitExceeded where it cannot."""
    if encoding.turn != UPRIGHT or encoding.format.is_whole:
        return PlainForm(shape)
    return JpegForm(shape, encoding) if encoding.format is Format.JPEG else PngForm(shape)


def _next_piece(drawing: Drawing, room: list[int]) -> Piece | None:
    """Return the most units that ``room`` (scratch, returns) holds, and take them off it."""
    form, begin = drawing.form, drawing.planned
    most = form.units - begin
    while most and not _fits(_needs(drawing, range(begin, begin + most)), room):
        most //= 2
    if not most:
        return None
    units = range(begin, begin + most)
    for at, need in enumerate(_needs(drawing, units)):
        room[at] -= need
    drawing.planned += most
    return Piece(drawing, units, _drawn(form, units))


def _fits(needs: Sequence[int], room: Sequence[int]) -> bool:
    return all(need <= left for need, left in zip(needs, room, strict=True))


def _drawn(form: Form, units: range) -> range:
    """Return the rows that must be drawn for some units."""
    rows = form.rows(units)
    return range(max(0, rows.start - form.above), rows.stop)


def _needs(drawing: Drawing, units: range) -> tuple[int, int]:
    """Return the bytes of scratch memory and of results that some units take."""
    form = drawing.form
    pixels = aligned(len(_drawn(form, units)) * drawing.line)
    if isinstance(form, JpegForm):
        scans, lengths = aligned(len(units) * form.capacity), aligned(8 * len(units)) + 256
        return pixels + scans + lengths, scans + lengths
    if isinstance(form, PngForm):
        return pixels, aligned(len(form.rows(units)) * (form.row + 1))
    return 0, pixels


def _capacity(piece: Piece) -> int:
    form = piece.drawing.form
    assert isinstance(form, JpegForm)
    return len(piece.units) * form.capacity


def _pixels(pieces: Sequence[Piece]) -> int:
    return sum(len(piece.rows) * piece.drawing.picture.shape[1] for piece in pieces)


def _end(places: dict[int, tuple[int, int]]) -> int:
    return max((address + size for address, size in places.values()), default=0)


def _result(file: Any) -> bytes:
    data: bytes = file()
    return data


def _buffer(name: str, size: int) -> NDArray[np.uint8]:
    return np.empty(size, np.uint8)
