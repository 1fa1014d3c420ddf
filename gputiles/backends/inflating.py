"""Streams of a batch's chunks, inflated side by side: they hardly hinder each other on one core."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from gputiles.backends import Chunk, DecodeJob, Stream, StreamCodec, tables
from gputiles.backends.hostlib import Library
from gputiles.backends.paste import decode_chunk, tried

TOGETHER = 6  # streams that are inflated before the first of them is asked for, and held until then
MOST_BYTES = 16 << 20  # of them together, inflated
LEAST_BYTES = 16 << 10  # of one: the tables of shorter ones cost what they bring
DENSEST = 64  # times: what is nearly empty is long matches, which one stream alone copies as fast


class _Waiting(NamedTuple):
    """A chunk that was not asked for yet, its codec, and the stream that it is."""

    chunk: Chunk
    codec: StreamCodec
    stream: Stream


class Inflating:
    """Decodes the chunks of jobs, each once, in their order; chunks of masks come after a job's others.

    What the kernel does not take for whole and sound is left to the chunk's own codec: damage has its
    words, and what others forgive is forgiven.
    """

    def __init__(self, run: Library, jobs: Sequence[DecodeJob]) -> None:
        self._run = run
        chunks = (chunk for job in jobs for chunk in (*job.chunks, *job.mask))
        self._waiting = deque(found for chunk in chunks for found in _streams(chunk))
        self._expected = {id(waiting.chunk) for waiting in self._waiting}
        self._ready: dict[int, tuple[StreamCodec, NDArray[np.uint8]]] = {}

    def decode(self, chunk: Chunk) -> Any:
        """Return a chunk's pixels, its error, or None where the file holds nothing."""
        if id(chunk) in self._expected:
            self._inflate(self._next(chunk))
        if id(chunk) not in self._ready:
            return decode_chunk(chunk)
        codec, packed = self._ready.pop(id(chunk))
        return tried(partial(codec.complete, packed, chunk.place.width, chunk.place.height))

    def _next(self, chunk: Chunk) -> list[_Waiting]:
        """Take ``chunk`` and some that follow it; those before it were of a job that ended early."""
        while self._waiting[0].chunk is not chunk:
            self._expected.discard(id(self._waiting.popleft().chunk))
        taken: list[_Waiting] = []
        size = self._waiting[0].stream.size
        while self._waiting and len(taken) < TOGETHER and (not taken or size <= MOST_BYTES):
            taken.append(self._waiting.popleft())
            self._expected.discard(id(taken[-1].chunk))
            size += self._waiting[0].stream.size if self._waiting else 0
        return taken

    def _inflate(self, taken: Sequence[_Waiting]) -> None:
        """Inflate streams; a single one is the codec's."""
        if len(taken) < 2:
            return
        rooms = [np.empty(each.stream.size, np.uint8) for each in taken]
        table = np.zeros(len(taken), tables.INFLATE)
        for row, each, room in zip(table, taken, rooms, strict=True):
            data = np.frombuffer(each.stream.data, np.uint8)
            row["in"], row["size"] = data.ctypes.data, len(data)
            row["out"], row["capacity"] = room.ctypes.data, len(room)
        self._run("inflate_streams", table)
        for row, each, room in zip(table, taken, rooms, strict=True):
            if row["done"]:
                self._ready[id(each.chunk)] = each.codec, room


def _streams(chunk: Chunk) -> Iterator[_Waiting]:
    """Yield a chunk with its stream if that gains by company; what was stored as it is does not."""
    codec, place = chunk.codec, chunk.place
    if not isinstance(chunk.data, bytes) or not isinstance(codec, StreamCodec):
        return
    stream = codec.stream(chunk.data, place.width, place.height)
    if stream is None or stream.format != "zlib" or stream.size < LEAST_BYTES:
        return
    if stream.size <= DENSEST * len(stream.data) and len(stream.data) < stream.size:
        yield _Waiting(chunk, codec, stream)
