"""Pictures drawn and encoded on a card: one launch of each kernel for a whole batch.

A file is made of units (see ``encode.py``). What fits into the card's scratch memory is drawn,
encoded and brought back together; a picture that is larger goes through in several such groups.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from functools import partial
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from gputiles.backends import Outcome, RenderJob, plans, tables
from gputiles.backends.arena import aligned
from gputiles.backends.card import Card, described
from gputiles.backends.deflating import PngStreams, Streamed, png_streams
from gputiles.backends.encode import Run, encode_turned
from gputiles.backends.habits import Habits
from gputiles.backends.making import attempt
from gputiles.backends.modules import RUN
from gputiles.backends.nvencode import Drawn, Kind
from gputiles.backends.pieces import Drawing, Form, Piece, PlainForm, WrittenForm, next_pieces
from gputiles.backends.streams import JpegStreams, Places, Room, room
from gputiles.backends.turn import turned_shape
from gputiles.encoded import UPRIGHT, Encoding, Format, Tone
from gputiles.errors import GputilesError

TONES = {Tone.COLOUR: 0, Tone.GREY: 1, Tone.BITONAL: 2}
NOWHERE = Places(0, 0, 0, 0, 0)
CHECK = tables.PNG_CHECK.itemsize


class Place(NamedTuple):
    """Where a piece's pixels lie among the results."""

    address: int
    size: int


class Group(NamedTuple):
    """Pieces under way: those that come home as pixels, those that are written out of them, and streams."""

    plain: list[tuple[Piece, Place]]
    written: list[tuple[Piece, Place]]
    streamed: list[Piece]
    streams: Places


class Draughtsman:
    """Draws batches on a card; what is not encoded there, the host encodes on ``helpers``.

    ``run`` calls a host kernel.
    """

    def __init__(self, card: Card, helpers: Executor, run: Run, habits: Habits) -> None:
        self._card = card
        self._helpers = helpers
        self._run = run
        self._habits = habits
        self._room = Room(card.scratch.size, card.returns.size)

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
        few = self._are_few(jobs)
        planned += [attempt(partial(self._plan, few=few), job) for job in jobs]
        return self._make([outcome for outcome in planned if isinstance(outcome, Drawing)])

    def _are_few(self, jobs: Sequence[RenderJob]) -> bool:
        """Say whether the host encodes the JPEGs of a batch that the card could."""
        own = Format.JPEG in self._habits.own
        return own and sum(_is_jpeg(job.encoding) for job in jobs) < self._habits.card_jpegs

    def _plan(self, job: RenderJob, *, few: bool = False) -> Drawing:
        """Plan a job; where there are ``few``, the host encodes JPEGs."""
        sources = [described(raster) for raster in job.rasters]
        picture = plans.picture(job, sources, self._card.target)
        on_host = few and _is_jpeg(job.encoding)
        form = PlainForm(picture.shape) if on_host else self._form(picture.shape, job.encoding)
        return Drawing(job, picture, form, parts=[form.header] if isinstance(form, JpegStreams) else [])

    def _form(self, shape: tuple[int, int, int], encoding: Encoding) -> Form:
        """Return how a picture becomes a file. Raises LimitExceeded where it cannot.

        A profile that a PNG is to carry is one of all its samples: none are left out.
        """
        pixels = aligned(math.prod(shape))
        if encoding.format.is_whole:
            return PlainForm(shape)
        if encoding.turn != UPRIGHT:
            return self._turned(shape, encoding)
        if encoding.format not in self._habits.own:
            return self._written(shape, encoding) if pixels <= self._card.returns.size else PlainForm(shape)
        if encoding.format is Format.JPEG:
            return JpegStreams(shape, encoding)
        return png_streams(shape, pixels, self._room, looks=not encoding.embed)

    def _turned(self, shape: tuple[int, int, int], encoding: Encoding) -> Form:
        """Return how a picture becomes a file that is turned before: by the card if all of it has room."""
        if encoding.format not in self._habits.own:
            return PlainForm(shape)
        to = turned_shape(shape, encoding.turn)
        pixels = aligned(math.prod(shape)) + aligned(math.prod(to))
        form: Streamed = (
            JpegStreams(to, encoding)
            if encoding.format is Format.JPEG
            else png_streams(to, pixels, self._room, looks=not encoding.embed)
        )
        need = room(form, range(form.units))
        fits = need.scratch + pixels <= self._room.scratch and need.returns <= self._room.returns
        return form if fits else PlainForm(shape)

    def _written(self, shape: tuple[int, int, int], encoding: Encoding) -> PlainForm:
        """Return how a picture becomes a file that kernels of the card do not make."""
        kind = Kind(shape[2], encoding.quality, encoding.subsampling if shape[2] == 3 else 0)
        writer = self._habits.writer if encoding.format is Format.JPEG else None
        return WrittenForm(shape, kind) if writer is not None and writer.makes(kind) else PlainForm(shape)

    # -- groups

    def _make(self, drawings: Sequence[Drawing]) -> Group:
        """Launch the drawing and encoding of the next pieces, and their way home."""
        pieces = next_pieces(drawings, self._room)
        self._card.renew()
        streamed = [piece for piece in pieces if isinstance(piece.drawing.form, Streamed)]
        plain = [(p, self._pixels(p)) for p in pieces if type(p.drawing.form) is PlainForm]
        streams = self._streams(streamed) if streamed else NOWHERE
        written = [(p, self._pixels(p)) for p in pieces if isinstance(p.drawing.form, WrittenForm)]
        self._card.go()
        self._card.returns.start(self._guess(streamed, streams) if streamed else _end(plain))
        return Group(plain, written, streamed, streams)

    def _note(self, group: Group) -> None:
        """Note in their drawings what came back of pieces."""
        for piece, place in group.plain:
            self._note_pixels(piece, place)
        if group.streamed:
            self._note_streams(group.streamed, group.streams)
        if group.written:
            self._note_written(group.written)

    def _composite(self, piece: Piece, address: int) -> int:
        """Queue the drawing of a piece's rows from ``address`` on; return where row 0 would lie."""
        if piece.drawing.turns:
            return self._turn(piece.drawing, address)
        picture, first = piece.drawing.picture, piece.rows.start
        table = plans.cut(picture.table, plans.spans(picture.shape[1], [piece.rows], RUN))
        origin = address - first * piece.drawing.line
        table["out"] = origin
        self._card.queue(picture.kernel, table)
        return origin

    def _turn(self, drawing: Drawing, address: int) -> int:
        """Queue the drawing of a whole picture, and its turning to ``address``."""
        picture, turn = drawing.picture, drawing.job.encoding.turn
        rows, columns, samples = picture.shape
        upright = self._card.scratch.take(math.prod(picture.shape))
        picture.table["out"] = upright
        self._card.queue(picture.kernel, picture.table)
        size, how = (rows, columns, samples), (turn.quarter, turn.mirror, TONES[turn.tone])
        job = (upright, address, tables.runs(rows * columns, 1, RUN), *size, *how)
        self._card.queue("turn", np.array([job], tables.TURNED))
        return address

    # -- pixels

    def _pixels(self, piece: Piece) -> Place:
        """Queue the drawing of a piece among the results."""
        size = len(piece.rows) * piece.drawing.line
        place = Place(self._card.returns.take(size), size)
        self._composite(piece, place.address)
        return place

    def _note_pixels(self, piece: Piece, place: Place) -> None:
        drawing = piece.drawing
        if drawing.pixels is None:
            drawing.pixels = np.empty(drawing.picture.shape, np.uint8)
        begin = piece.rows.start * drawing.line
        drawing.pixels.reshape(-1)[begin : begin + place.size] = self._card.returns.read(*place)

    def _note_written(self, pieces: Sequence[tuple[Piece, Place]]) -> None:
        """Take the files of whole pictures; the host makes those that nvImageCodec does not."""
        files = self._card.run(partial(self._write, pieces))
        for (piece, place), file in zip(pieces, files, strict=True):
            if file is not None:
                piece.drawing.parts.append(file)
            else:
                self._note_pixels(piece, place)

    def _write(self, pieces: Sequence[tuple[Piece, Place]]) -> list[bytes | None]:
        """Let nvImageCodec make files of pictures that are drawn; the pixels of the others come home."""
        assert self._habits.writer is not None
        drawn = [
            Drawn(place.address, form.shape, form.kind)
            for piece, place in pieces
            for form in [piece.drawing.form]
            if isinstance(form, WrittenForm)
        ]
        files = self._habits.writer.encode(drawn)
        missing = [given for given, file in zip(pieces, files, strict=True) if file is None]
        self._card.returns.start(_end(missing))
        return files

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
        ratios = self._habits.ratios
        return batch.packed + int(sum(ratios[type(piece.form)] * piece.pixels for piece in pieces))

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
            self._habits.learn(kind, sum(sizes[at] for at in mine), sum(pieces[at].pixels for at in mine))

    # -- files

    def _finish(self, drawing: Drawing) -> Callable[[], bytes]:
        """Return what gives the file; helpers are at work on it."""
        pixels, encoding = drawing.pixels, drawing.job.encoding
        if pixels is None:
            return partial(b"".join, drawing.parts)
        return self._helpers.submit(encode_turned, pixels, encoding, self._run, _buffer).result


def _is_jpeg(encoding: Encoding) -> bool:
    """Say whether a card's own encoder can make a file, if it is right."""
    return encoding.format is Format.JPEG


def _end(pieces: Sequence[tuple[Piece, Place]]) -> int:
    """Return the address behind the pixels of all pieces."""
    return max((sum(place) for _, place in pieces), default=0)


def _result(file: Any) -> bytes:
    data: bytes = file()
    return data


def _buffer(name: str, size: int) -> NDArray[np.uint8]:
    return np.empty(size, np.uint8)
