"""Pictures drawn and encoded on a card: one launch of each kernel for a whole batch.

A file is made of units (see ``encode.py``). What fits into the card's scratch memory is drawn,
encoded and brought back together; a picture that is larger goes through in several such groups.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field
from functools import partial
from itertools import pairwise
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from gputiles.backends import Outcome, RenderJob, plans, tables
from gputiles.backends.arena import aligned
from gputiles.backends.card import Card, on_card
from gputiles.backends.deflating import PngStreams, png_streams
from gputiles.backends.encode import Run, encode_turned
from gputiles.backends.making import attempt
from gputiles.backends.modules import RUN
from gputiles.backends.nvencode import Drawn, Kind, Writer
from gputiles.backends.plans import Picture
from gputiles.backends.streams import JpegStreams, Places, Room, StreamForm, room
from gputiles.encoded import Encoding, Format, Turn
from gputiles.errors import GputilesError, OutOfMemory

UPRIGHT = Turn()
CHECK = tables.PNG_CHECK.itemsize
Streamed = JpegStreams | PngStreams


class Form(Protocol):
    """How a picture's units lie in its rows."""

    shape: tuple[int, int, int]
    units: int
    above: int

    def rows(self, units: range) -> range:
        """Return the rows of pixels of some units."""


class PlainForm:
    """The pixels themselves, which the host makes a file of; a unit is a row."""

    above = 0

    def __init__(self, shape: tuple[int, int, int]) -> None:
        self.shape = shape
        self.units = shape[0]

    def rows(self, units: range) -> range:
        """Return the rows of pixels of some rows of pixels."""
        return units


class WrittenForm(PlainForm):
    """A JPEG that nvImageCodec makes of all pixels at once."""

    def __init__(self, shape: tuple[int, int, int], kind: Kind) -> None:
        super().__init__(shape)
        self.kind = kind


@dataclass(slots=True, eq=False)
class Drawing:
    """A job on its way: how far it is planned, and what came back."""

    job: RenderJob
    picture: Picture
    form: Form
    planned: int = 0
    parts: list[bytes] = field(default_factory=list)  # of the file
    pixels: NDArray[np.uint8] | None = None  # that the host makes a file of

    @property
    def line(self) -> int:
        """Bytes of a row of the picture."""
        return self.picture.shape[1] * self.picture.shape[2]


class Piece(NamedTuple):
    """Some units of a drawing that are made in one group, and the rows that this takes."""

    drawing: Drawing
    units: range
    rows: range  # those above, which a filter reads, included

    @property
    def form(self) -> StreamForm:
        """How streams are made of it, if they are."""
        assert isinstance(self.drawing.form, Streamed)
        return self.drawing.form

    @property
    def pixels(self) -> int:
        """How many pixels are drawn."""
        return len(self.rows) * self.drawing.picture.shape[1]


class Habits:
    """What the draughtsmen of a card go by.

    ``own`` are the formats that kernels of the card encode; ``writer`` makes the JPEG files that they do
    not. Where a batch has fewer than ``card_jpegs`` JPEGs, their pixels come home and the host encodes
    them, to the same bytes. ``ratios`` are the bytes of files per pixel, as far as some were seen.
    """

    __slots__ = ("card_jpegs", "own", "ratios", "writer")

    def __init__(self) -> None:
        self.own = frozenset((Format.JPEG, Format.PNG))
        self.writer: Writer | None = None
        self.card_jpegs = 1
        self.ratios: dict[type, float] = {JpegStreams: 0.5, PngStreams: 1.5}


class Group(NamedTuple):
    """Pieces under way: rows of pixels that come home, files' streams, what nvImageCodec makes files of."""

    plain: list[tuple[Piece, int, int]]  # with address and bytes
    written: list[tuple[Piece, int, int]]
    streamed: list[Piece]
    places: Places | None  # of the streams


class Draughtsman:
    """Draws batches on a card; what it does not encode itself, the host does on ``helpers``.

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
        form = PlainForm(picture.shape) if on_host else self._form(picture.shape, job.encoding)
        return Drawing(job, picture, form, parts=[form.header] if isinstance(form, JpegStreams) else [])

    def _form(self, shape: tuple[int, int, int], encoding: Encoding) -> Form:
        """Return how a picture becomes a file. Raises LimitExceeded where it cannot.

        A profile that a PNG is to carry is one of all its samples: none are left out.
        """
        pixels = aligned(math.prod(shape))
        if encoding.turn != UPRIGHT or encoding.format.is_whole:
            return PlainForm(shape)
        if encoding.format not in self._habits.own:
            kind = Kind(shape[2], encoding.quality, encoding.subsampling if shape[2] == 3 else 0)
            writer = self._habits.writer
            writes = encoding.format is Format.JPEG and writer is not None and writer.makes(kind)
            fits = pixels <= self._card.returns.size
            return WrittenForm(shape, kind) if writes and fits else PlainForm(shape)
        if encoding.format is Format.JPEG:
            return JpegStreams(shape, encoding)
        limit = Room(self._card.scratch.size, self._card.returns.size)
        return png_streams(shape, pixels, limit, looks=not encoding.embed)

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
        streamed = [piece for piece in group if isinstance(piece.drawing.form, Streamed)]
        plain = [self._rows(piece) for piece in group if type(piece.drawing.form) is PlainForm]
        places = self._streams(streamed) if streamed else None
        written = [  # behind all that comes home
            self._rows(piece) for piece in group if isinstance(piece.drawing.form, WrittenForm)
        ]
        self._card.go()
        ends = [address + size for _, address, size in plain]
        self._card.returns.start(self._guess(streamed, places) if places else max(ends, default=0))
        return Group(plain, written, streamed, places)

    def _note(self, group: Group) -> None:
        """Note in their drawings what came back of pieces."""
        for rows in group.plain:
            self._note_rows(*rows)
        if group.places:
            self._note_streams(group.streamed, group.places)
        if group.written:
            self._write(group.written)

    def _composite(self, piece: Piece, address: int) -> int:
        """Queue the drawing of a piece's rows from ``address`` on; return where row 0 would lie."""
        picture, first = piece.drawing.picture, piece.rows.start
        table = plans.cut(picture.table, piece.rows, RUN)
        origin = address - first * piece.drawing.line
        table["out"] = origin
        self._card.queue(picture.kernel, table)
        return origin

    # -- pixels

    def _rows(self, piece: Piece) -> tuple[Piece, int, int]:
        """Queue a piece that comes back as rows of pixels; return it with their address and bytes."""
        size = len(piece.rows) * piece.drawing.line
        address = self._card.returns.take(size)
        self._composite(piece, address)
        return piece, address, size

    def _note_rows(self, piece: Piece, address: int, size: int) -> None:
        drawing = piece.drawing
        if drawing.pixels is None:
            drawing.pixels = np.empty(drawing.picture.shape, np.uint8)
        begin = piece.rows.start * drawing.line
        drawing.pixels.reshape(-1)[begin : begin + size] = self._card.returns.read(address, size)

    def _write(self, written: Sequence[tuple[Piece, int, int]]) -> None:
        """Let nvImageCodec make files of whole pictures; those that it does not make are the host's."""
        writer = self._habits.writer
        assert writer is not None
        drawn = [
            Drawn(address, piece.drawing.picture.shape, piece.drawing.form.kind)
            for piece, address, _ in written
            if isinstance(piece.drawing.form, WrittenForm)
        ]
        files = self._card.run(partial(writer.encode, drawn))
        for (piece, *place), file in zip(written, files, strict=True):
            if file is not None:
                piece.drawing.parts.append(file)
            else:
                self._note_rows(piece, *place)

    # -- streams

    def _streams(self, pieces: Sequence[Piece]) -> Places:
        """Queue pieces whose streams are made on the card; return the places of all of them."""
        returns, scratch = self._card.returns, self._card.scratch
        counts = [piece.form.counts(piece.units) for piece in pieces]
        streams, checks, size = (sum(each) for each in zip(*counts, strict=True))
        lengths, offsets = returns.take(8 * streams), scratch.take(8 * streams)
        looks, kept = scratch.take(4 * len(pieces)), returns.take(CHECK * checks)
        places = batch = Places(lengths, offsets, kept, looks, returns.take(size))
        self._card.device.clear(looks, 4 * len(pieces))
        self._card.queue("follow", np.array([(lengths, offsets, streams)], tables.FOLLOW))
        for piece, count in zip(pieces, counts, strict=True):
            origin = self._composite(piece, scratch.take(len(piece.rows) * piece.drawing.line))
            piece.form.queue(self._card, piece.units, origin, places)
            places = places.after(count)
        return batch

    def _guess(self, pieces: Sequence[Piece], batch: Places) -> int:
        """Return where the files of pieces are thought to end."""
        return batch.packed + int(
            sum(self._habits.ratios[type(piece.form)] * piece.pixels for piece in pieces)
        )

    def _note_streams(self, pieces: Sequence[Piece], batch: Places) -> None:
        """Take each piece's streams out of what came back, and learn how much to bring at once."""
        returns, counts = self._card.returns, [piece.form.counts(piece.units) for piece in pieces]
        each = returns.read(batch.lengths, 8 * sum(count.streams for count in counts)).view(np.int64)
        cuts = np.cumsum([0, *(count.streams for count in counts)])
        ends = np.concatenate(([0], np.cumsum(each)))[cuts].tolist()
        data, checks = returns.read(batch.packed, ends[-1]), batch.checks
        for piece, count, (begin, end) in zip(pieces, counts, pairwise(ends), strict=True):
            piece.drawing.parts.append(data[begin:end].tobytes())
            if isinstance(piece.form, PngStreams) and piece.units.stop < piece.form.units:
                piece.form.note(returns.read(checks, CHECK * count.checks).view(tables.PNG_CHECK))
            checks += CHECK * count.checks
        self._learn(pieces, [end - begin for begin, end in pairwise(ends)])

    def _learn(self, pieces: Sequence[Piece], sizes: Sequence[int]) -> None:
        """Note how many bytes a pixel took, by kind of file."""
        for kind in {type(piece.form) for piece in pieces}:
            mine = [at for at, piece in enumerate(pieces) if isinstance(piece.form, kind)]
            ratio = sum(sizes[at] for at in mine) / sum(pieces[at].pixels for at in mine)
            self._habits.ratios[kind] = max(self._habits.ratios[kind] * 0.9, 1.25 * ratio)

    # -- files

    def _finish(self, drawing: Drawing) -> Callable[[], bytes]:
        """Return what gives the file; helpers are at work on it."""
        pixels, encoding = drawing.pixels, drawing.job.encoding
        if pixels is None:
            return partial(b"".join, drawing.parts)
        return self._helpers.submit(encode_turned, pixels, encoding, self._run, _buffer).result


def _is_scan(encoding: Encoding) -> bool:
    """Say whether a card can encode a picture as a JPEG."""
    return encoding.format is Format.JPEG and encoding.turn == UPRIGHT


def _next_piece(drawing: Drawing, room: list[int]) -> Piece | None:
    """Return the most units that ``room`` (scratch, returns) holds, and take them off it."""
    form, begin = drawing.form, drawing.planned
    most = form.units - begin
    while most and not _fits(_needs(drawing, range(begin, begin + most)), room):
        most = 0 if _at_once(form) else most // 2
    if not most:
        return None
    units = range(begin, begin + most)
    for at, need in enumerate(_needs(drawing, units)):
        room[at] -= need
    drawing.planned += most
    return Piece(drawing, units, _drawn(form, units))


def _at_once(form: Form) -> bool:
    """Say whether a picture may not be made in pieces."""
    return isinstance(form, WrittenForm) or (isinstance(form, PngStreams) and form.looks)


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
    if isinstance(form, Streamed):
        need = room(form, units)
        return pixels + need.scratch, need.returns
    return 0, pixels


def _result(file: Any) -> bytes:
    data: bytes = file()
    return data


def _buffer(name: str, size: int) -> NDArray[np.uint8]:
    return np.empty(size, np.uint8)
