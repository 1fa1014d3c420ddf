"""Streams of a batch's chunks, decompressed in one call.

Those of zlib are inflated side by side: they hardly hinder each other on one core.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from itertools import accumulate
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from gputiles.backends import Chunk, ChunkCodec, DecodeJob, Left, tables
from gputiles.backends.addresses import address, addresses
from gputiles.backends.encode import Buffer
from gputiles.backends.paste import decode_chunk, tried
from gputiles.errors import GputilesError
from gputiles.sources.bytecodec import ByteCodec

Run: TypeAlias = Callable[[str, NDArray[Any], NDArray[Any]], None]
"""What reads ranges, and has a kernel decompress their streams: tables of Fetch and of Inflate structs."""

KERNELS = {"zlib": "inflate_streams", "lzw": "lzw_streams"}

TOGETHER = 6  # streams that are inflated before the first of them is asked for, and held until then
MOST_BYTES = 16 << 20  # of them together, inflated
LEAST_BYTES = 16 << 10  # of one: the tables of shorter ones cost what they bring
DENSEST = 64  # times: what is nearly empty is long matches, which one stream alone copies as fast


class _Waiting(NamedTuple):
    """A chunk that was not asked for yet: its codec, its stream, the bytes of that as it is, and inflated."""

    chunk: Chunk
    codec: ByteCodec
    kernel: str
    data: bytes | Left
    stored: int
    size: int


class Inflating:
    """Decodes the chunks of jobs, each once, in their order; chunks of masks come after a job's others.

    Streams of one kind are decompressed together. What the kernel does not take for whole and sound is
    left to the chunk's own codec: damage has its words, and what others forgive is forgiven. ``blank``
    gives memory of a size for what is inflated, ``buffer`` scratch memory for what is read.
    """

    def __init__(
        self, run: Run, jobs: Sequence[DecodeJob], blank: Callable[[int], NDArray[np.uint8]], buffer: Buffer
    ) -> None:
        self._run = run
        self._buffer = buffer
        self._blank = blank
        chunks = (chunk for job in jobs for chunk in (*job.chunks, *job.mask))
        self._waiting = deque(filter(None, map(_waiting, chunks)))
        self._expected = {id(waiting.chunk) for waiting in self._waiting}
        self._ready: dict[int, tuple[ByteCodec, NDArray[np.uint8]]] = {}

    def in_turn(self, chunks: Iterable[Chunk]) -> Iterator[Any]:
        """Yield what ``decode`` returns of each chunk."""
        return map(self.decode, chunks)

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
        size = 0
        while self._waiting and len(taken) < TOGETHER:
            size += self._waiting[0].size
            if taken and (size > MOST_BYTES or self._waiting[0].kernel != taken[0].kernel):
                break
            taken.append(self._waiting.popleft())
            self._expected.discard(id(taken[-1].chunk))
        return taken

    def _inflate(self, taken: Sequence[_Waiting]) -> None:
        """Decompress streams of a kind; a single one of zlib's is the codec's, which is faster alone."""
        kernel = taken[0].kernel
        if len(taken) == 1 and kernel == KERNELS["zlib"]:
            return
        rooms = [self._blank(each.size) for each in taken]
        rows = self._ranges(taken)
        ranges = tables.fetches(rows)
        streams = tables.inflates(
            (place, each.stored, address(room), each.size, 0)
            for (_, _, _, place, _), each, room in zip(rows, taken, rooms, strict=True)
        )
        self._run(kernel, ranges, streams)
        done = zip(ranges["done"].tolist(), streams["done"].tolist(), strict=True)
        for (read, whole), each, room in zip(done, taken, rooms, strict=True):
            if read and whole:
                self._ready[id(each.chunk)] = each.codec, room

    def _ranges(self, taken: Sequence[_Waiting]) -> list[tuple[int, ...]]:
        """Return the Fetch struct of each stream, that of one which is here already with nothing to read."""
        here = addresses([each.data if isinstance(each.data, bytes) else None for each in taken])
        ends = list(accumulate(0 if place else each.stored for place, each in zip(here, taken, strict=True)))
        room = address(self._buffer("streams read", ends[-1]))
        return [
            (-1, 0, 0, place, 0)
            if isinstance(each.data, bytes)
            else (*each.data.at, each.stored, room + end - each.stored, 0)
            for each, place, end in zip(taken, here, ends, strict=True)
        ]


def is_stream(codec: ChunkCodec) -> bool:
    """Say whether chunks of a codec are such streams."""
    return isinstance(codec, ByteCodec) and codec.stream is not None


def _waiting(chunk: Chunk) -> _Waiting | None:
    """Return a chunk with its stream if that gains by a kernel."""
    codec, data = chunk.codec, chunk.data
    if data is None or isinstance(data, GputilesError):
        return None
    if not isinstance(codec, ByteCodec) or codec.stream is None:
        return None
    size = codec.size(chunk.place.width, chunk.place.height)
    waiting = _Waiting(chunk, codec, KERNELS[codec.stream], data, len(data), size)
    return waiting if _gains(waiting) else None


def _gains(waiting: _Waiting) -> bool:
    """Say whether a stream is worth it: of zlib's not one that is nearly empty, or stored as it was."""
    size, stored = waiting.size, waiting.stored
    if waiting.kernel != KERNELS["zlib"]:
        return size >= LEAST_BYTES
    return LEAST_BYTES <= size <= DENSEST * stored and stored < size
