"""Chunks whose samples a card unpacks: the host undoes no more than their compression.

They are inflated into pinned memory, on helpers; byte order, predictor, planes and the cutting of tiles
are the kernel's.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from concurrent.futures import Executor, Future
from functools import partial
from typing import Any

import numpy as np

from gputiles.backends import Chunk, DecodeJob, Outcome, Raster, Tiles, tables
from gputiles.backends.card import Card
from gputiles.backends.courier import Place
from gputiles.backends.loading import covers, tiles_of
from gputiles.backends.paste import tried
from gputiles.errors import GputilesError
from gputiles.geometry import Rect
from gputiles.sources.bytecodec import FAX, ByteCodec

NATIVE = "<" if sys.byteorder == "little" else ">"
PREDICTORS = (1, 2, 3)  # those of unpack.cu


def sizes(job: DecodeJob) -> list[int]:
    """Return the bytes of a job's chunks as the card unpacks them; none where it does not."""
    if job.mask or job.dtype not in tables.TYPES or not all(_is_packed(chunk, job) for chunk in job.chunks):
        return []
    codecs = [_codec(chunk) for chunk in job.chunks]
    if not covers(job, [codec.samples for codec in codecs]):
        return []
    places = [chunk.place for chunk in job.chunks]
    return [codec.size(place.width, place.height) for codec, place in zip(codecs, places, strict=True)]


def _codec(chunk: Chunk) -> ByteCodec:
    assert isinstance(chunk.codec, ByteCodec)
    return chunk.codec


def _is_packed(chunk: Chunk, job: DecodeJob) -> bool:
    """Say whether a chunk holds whole samples of a job's type."""
    codec = chunk.codec
    if not isinstance(codec, ByteCodec) or not isinstance(chunk.data, bytes):
        return False
    whole = codec.compression not in FAX and not codec.lsb_first and codec.predictor in PREDICTORS
    return whole and (codec.kind, codec.bits) == (job.dtype.kind, 8 * job.dtype.itemsize)


class Packed:
    """The chunks of a job in a tray; ``places`` are theirs. ``helpers`` inflate them."""

    def __init__(self, job: DecodeJob, places: Sequence[Place], helpers: Executor) -> None:
        self._job = job
        self._places = places
        self._futures: list[Future[Any]] = [
            helpers.submit(_inflate, chunk, place) for chunk, place in zip(job.chunks, places, strict=True)
        ]

    def wait(self) -> None:
        """Wait until all chunks are inflated."""
        for future in self._futures:
            future.exception()

    def unload(self, card: Card) -> Tiles:
        """Queue the unpacking of all tiles; those over a chunk that is damaged fail. Raises OutOfMemory."""
        errors = [future.result() for future in self._futures]

        def wrong(rect: Rect) -> GputilesError | None:
            return next((errors[at] for at, _ in self._under(rect) if errors[at] is not None), None)

        def fill(rect: Rect, raster: Raster) -> None:
            for at, place in self._under(rect):
                card.queue("unpack", self._table(at, place, rect, raster))

        return tiles_of(card, self._job, wrong, fill)

    def _under(self, rect: Rect) -> list[tuple[int, Rect]]:
        """Return the number of each chunk under a tile, and the part of the level that they share."""
        shared = [(at, chunk.place.intersect(rect)) for at, chunk in enumerate(self._job.chunks)]
        return [(at, place) for at, place in shared if place is not None]

    def _table(self, at: int, place: Rect, rect: Rect, raster: Raster) -> Any:
        """Return the job that brings a part of a chunk to its tile."""
        chunk, size, stride = self._job.chunks[at], self._job.dtype.itemsize, self._job.samples
        codec, whole = _codec(chunk), chunk.place
        pitch = whole.width * codec.samples * size
        begin = self._places[at].address + (place.y - whole.y) * pitch
        first = ((place.y - rect.y) * rect.width + place.x - rect.x) * stride + chunk.sample
        rows = (begin, raster.address + first * size, place.height, pitch, rect.width * stride * size)
        columns = (place.x - whole.x, place.width, whole.width, codec.samples, stride)
        return np.array([(*rows, *columns, size, codec.order != NATIVE, codec.predictor)], tables.UNPACK)


def _inflate(chunk: Chunk, to: Place) -> Outcome[None]:
    """Decompress a chunk to its place, for any thread."""
    assert isinstance(chunk.data, bytes)
    size = (chunk.place.width, chunk.place.height)
    return tried(partial(_codec(chunk).inflate_into, to.bytes, chunk.data, *size))
