"""JPEG chunks that the host's own kernel decodes, several at once; what it does not, their codec does."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from gputiles.backends import Chunk, tables
from gputiles.backends.addresses import address, addresses
from gputiles.backends.hostlib import Library
from gputiles.backends.paste import decode_chunk
from gputiles.sources.imagecodec import JpegCodec

AT_ONCE = 8  # chunks in a call: their pixels wait for the last one
LANES = 2  # MOST_LANES in jpegdecode.h
LARGEST, WIDEST = 1 << 20, 8192  # pixels and columns of a chunk: less than 20 MB of scratch are kept
SHARED, LEAST, COLUMN = 1 << 18, 1 << 15, 192  # bytes of scratch memory: for all, for each lane, for a column


class Stream(NamedTuple):
    """A stream that the kernel may know how to decode; ``at`` is its chunk's number."""

    at: int
    data: bytes
    codec: JpegCodec
    pixels: NDArray[np.uint8]


class Jpegs:
    """Decodes chunks in their order, on any thread.

    ``buffer`` gives a thread scratch memory, ``blank`` gives memory of a size for pixels.
    """

    def __init__(
        self,
        library: Library,
        buffer: Callable[[str, int], NDArray[np.uint8]],
        blank: Callable[[int], NDArray[np.uint8]],
    ) -> None:
        self._library = library
        self._buffer = buffer
        self._blank = blank

    def decode(
        self, chunks: Sequence[Chunk], otherwise: Callable[[Chunk], Any] = decode_chunk
    ) -> Iterator[Any]:
        """Yield each chunk's pixels, its error, or None where the file holds nothing.

        What the kernel does not decode is given to ``otherwise``, which returns what ``decode_chunk`` does.
        """
        for start in range(0, len(chunks), AT_ONCE):
            some = chunks[start : start + AT_ONCE]
            made = self._made(
                [stream for at, chunk in enumerate(some) if (stream := self._stream(at, chunk))]
            )
            for at, chunk in enumerate(some):
                yield made.pop(at) if at in made else otherwise(chunk)

    def _stream(self, at: int, chunk: Chunk) -> Stream | None:
        """Return a chunk's stream with memory for its pixels, where it may be decoded here."""
        codec, width, height = chunk.codec, chunk.place.width, chunk.place.height
        if not isinstance(codec, JpegCodec) or not isinstance(chunk.data, bytes):
            return None
        if width * height > LARGEST or width > WIDEST:
            return None
        data, samples = codec.stream(chunk.data), codec.frame.samples
        if data is None or len(data) > 2 * width * height * samples + LEAST:
            return None
        pixels = self._blank(height * width * samples).reshape(height, width, samples)
        return Stream(at, data, codec, pixels)

    def _made(self, streams: Sequence[Stream]) -> dict[int, NDArray[np.uint8]]:
        """Return what the kernel decodes, by the chunks' numbers."""
        if not streams:
            return {}
        done = np.zeros(len(streams), np.int64)
        room = max(len(stream.data) + COLUMN * stream.pixels.shape[1] for stream in streams) + LEAST
        scratch = self._buffer("jpegs", SHARED + min(LANES, len(streams)) * room)
        kept = address(scratch), scratch.nbytes
        data = addresses([stream.data for stream in streams])
        pages = addresses([stream.codec.tables for stream in streams])
        answers = range(address(done), address(done) + done.nbytes, done.itemsize)
        rows = [_row(*each, kept) for each in zip(streams, data, pages, answers, strict=True)]
        self._library("jpeg_decode", np.array(rows, tables.JPEG_DECODE))
        pairs = zip(streams, done.tolist(), strict=True)
        return {stream.at: stream.pixels for stream, whole in pairs if whole}


def _row(stream: Stream, data: int, page: int, done: int, scratch: tuple[int, int]) -> tuple[int, ...]:
    """Return a stream's JpegDecode struct, whose bytes, page's tables and answer lie at addresses."""
    places = (data, page, address(stream.pixels), done, scratch[0])
    sizes = (len(stream.data), len(stream.codec.tables or b""), scratch[1])
    return (*places, *sizes, *stream.pixels.shape[1::-1], stream.pixels.shape[2], stream.codec.said_rgb)
