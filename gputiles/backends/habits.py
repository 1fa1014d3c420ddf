"""What all draughtsmen of a card go by, whichever lane they draw in."""

from __future__ import annotations

from gputiles.backends.deflating import PngStreams, Streamed
from gputiles.backends.nvencode import Writer
from gputiles.backends.streams import JpegStreams
from gputiles.encoded import Format


class Habits:
    """Who encodes what, and what was learnt of the files of batches before.

    ``own`` are the formats that kernels of the card encode; ``writer`` makes the JPEG files that they do
    not. Where a batch has fewer than ``card_jpegs`` JPEGs of the card's own, their pixels come home and
    the host encodes them, to the same bytes. ``ratios`` are the bytes per pixel that are foretold of a
    file, by how it is made.
    """

    __slots__ = ("card_jpegs", "own", "ratios", "writer")

    def __init__(self) -> None:
        self.own = frozenset((Format.JPEG, Format.PNG))
        self.writer: Writer | None = None
        self.card_jpegs = 1
        self.ratios: dict[type[Streamed], float] = {JpegStreams: 0.5, PngStreams: 1.5}  # until some are seen

    def learn(self, kind: type[Streamed], size: int, pixels: int) -> None:
        """Note the bytes that files of a kind took, of a batch."""
        self.ratios[kind] = max(self.ratios[kind] * 0.9, 1.25 * size / pixels)
