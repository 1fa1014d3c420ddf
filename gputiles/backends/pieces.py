"""Pictures cut into pieces: the units of files that a card makes together, for which it has room."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from gputiles.backends import RenderJob
from gputiles.backends.arena import aligned
from gputiles.backends.deflating import PngStreams, Streamed
from gputiles.backends.nvencode import Kind
from gputiles.backends.plans import Picture
from gputiles.backends.streams import Room, room
from gputiles.encoded import UPRIGHT
from gputiles.errors import OutOfMemory


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
        """Bytes of a row as it is encoded."""
        return self.form.shape[1] * self.form.shape[2]

    @property
    def turns(self) -> bool:
        """Whether the card turns the picture, which it then makes at once."""
        return isinstance(self.form, Streamed) and self.job.encoding.turn != UPRIGHT


class Piece(NamedTuple):
    """Some units of a drawing that are made in one group, and the rows that this takes."""

    drawing: Drawing
    units: range
    rows: range  # those above, which a filter reads, included

    @property
    def form(self) -> Streamed:
        """How streams are made of it, if they are."""
        assert isinstance(self.drawing.form, Streamed)
        return self.drawing.form

    @property
    def pixels(self) -> int:
        """How many pixels are drawn."""
        return len(self.rows) * self.drawing.form.shape[1]


def next_pieces(drawings: Sequence[Drawing], limit: Room) -> list[Piece]:
    """Return the next pieces that fit together into ``limit``; none where all is made.

    Raises OutOfMemory where not even one row of a picture fits.
    """
    left = [*limit]
    group = []
    for drawing in drawings:
        piece = _next_piece(drawing, left)
        if piece is not None:
            group.append(piece)
        if drawing.planned < drawing.form.units:
            break
    if not group and drawings and drawings[-1].planned < drawings[-1].form.units:
        raise OutOfMemory(f"scratch memory of {left} bytes is too small for one row of a picture")
    return group


def _next_piece(drawing: Drawing, room: list[int]) -> Piece | None:
    """Return the most units that ``room`` (scratch, returns) holds, and take them off it."""
    form, begin = drawing.form, drawing.planned
    most = form.units - begin
    while most and not _fits(_needs(drawing, range(begin, begin + most)), room):
        most = 0 if drawing.turns or _at_once(form) else most // 2
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
    pixels += aligned(math.prod(drawing.picture.shape)) if drawing.turns else 0
    if isinstance(form, Streamed):
        need = room(form, units)
        return pixels + need.scratch, need.returns
    return 0, pixels
