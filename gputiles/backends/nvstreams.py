"""Chunks as streams that nvImageCodec may decode: what kind each is of, as far as its head tells.

Streams of a kind are alike to a decoder: a trial picture of the kind stands for all of them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from gputiles.backends import Chunk
from gputiles.errors import GputilesError
from gputiles.sources import jpeg
from gputiles.sources.colour import YCbCrCodec
from gputiles.sources.imagecodec import JPEG2000, Frame, ImageCodec, JpegCodec
from gputiles.sources.streamsize import (
    check_jpeg2000_end,
    jpeg2000_components,
    jpeg2000_is_ycbcr,
    jpeg2000_size,
)

SAMPLINGS = {b"\x11\x11\x11": "YCbCr 4:4:4", b"\x21\x11\x11": "YCbCr 4:2:2", b"\x22\x11\x11": "YCbCr 4:2:0"}
SPREADS = {(2, 1): "JPEG 2000 4:2:2", (2, 2): "JPEG 2000 4:2:0"}
"""Kinds of JPEG 2000 in YCbCr by how many pixels across and down share their chroma."""


@dataclass(frozen=True, slots=True)
class Stream:
    """A whole stream, its kind, and the (rows, columns, samples) and type that it decodes to.

    ``ycbcr``: what is decoded is YCbCr that nothing in the stream tells of; it is converted afterwards.
    """

    kind: str
    data: bytes
    shape: tuple[int, int, int]
    dtype: np.dtype[Any]
    ycbcr: bool = False

    @property
    def size(self) -> int:
        """Bytes of the pixels."""
        return math.prod(self.shape) * self.dtype.itemsize

    @property
    def in_ycc(self) -> bool:
        """Whether the decoder is to convert colours."""
        return self.kind in SAMPLINGS.values() or self.kind in SPREADS.values()


def stream_of(chunk: Chunk, kinds: frozenset[str]) -> Stream | None:
    """Return a chunk's stream if it is of one of ``kinds`` and covers the chunk, else None."""
    data = chunk.data
    if not isinstance(data, bytes):
        return None
    codec, ycbcr = _unwrapped(chunk.codec)
    try:
        if isinstance(codec, JpegCodec) and not codec.header and not ycbcr:
            stream = _jpeg(codec, data)
        elif isinstance(codec, ImageCodec) and codec.compression in JPEG2000:
            stream = _jpeg2000(codec.frame, data, ycbcr)
        else:
            return None
    except GputilesError:
        return None  # the host's decoder says what is wrong
    if stream is None or stream.kind not in kinds:
        return None
    rows, columns, _ = stream.shape
    fits = chunk.place.width <= columns <= codec.frame.full[0]
    return stream if fits and chunk.place.height <= rows <= codec.frame.full[1] else None


def _unwrapped(codec: Any) -> tuple[Any, bool]:
    """Return the codec of a chunk's stream, and whether what it decodes is YCbCr to be converted."""
    if not isinstance(codec, YCbCrCodec) or not isinstance(codec.codec, ImageCodec):
        return codec, False
    inner = codec.codec
    plain = YCbCrCodec(inner, done=jpeg2000_is_ycbcr, bits=8 * inner.frame.dtype.itemsize)
    return (inner, True) if codec == plain else (codec, False)


def _jpeg(codec: JpegCodec, data: bytes) -> Stream | None:
    data = jpeg.splice(data, codec.tables)
    header, count = jpeg.read_header(data), codec.frame.samples
    jpeg.check_scans(header, data)
    data = jpeg.ended(data, header)
    if header.precision != 8 or header.frame not in (0xC0, 0xC1) or len(header.components) != count:
        return None
    shape, dtype = (header.height, header.width, count), np.dtype(np.uint8)
    if count == 1:
        return Stream("grey", data, shape, dtype)
    if count != 3 or codec.raw:
        return None
    if header.is_rgb(codec.said_rgb):
        marked = data if header.adobe is not None else data[:2] + jpeg.ADOBE_RGB + data[2:]
        return Stream("RGB", marked, shape, dtype)
    kind = SAMPLINGS.get(sampling(data))
    return None if kind is None else Stream(kind, data, shape, dtype)


def sampling(data: bytes) -> bytes:
    """Return the sampling factors of a stream's components, as its frame has them."""
    for marker, start, end in jpeg.segments(data):
        if marker in (0xC0, 0xC1):
            return data[start + 7 : end : 3]
    return b""


def _jpeg2000(frame: Frame, data: bytes, ycbcr: bool) -> Stream | None:
    """Return a stream of whole samples, of which decoders find all in one way; else None."""
    if frame.dtype not in (np.uint8, np.uint16) or frame.samples not in (1, 3):
        return None
    width, height = jpeg2000_size(data)
    check_jpeg2000_end(data)
    components = jpeg2000_components(data)
    if [bits for bits, _ in components] != [8 * frame.dtype.itemsize] * frame.samples:
        return None
    shape, dtype = (height, width, frame.samples), np.dtype(frame.dtype)
    if all(spread == (1, 1) for _, spread in components):
        named = jpeg2000_is_ycbcr(data)  # by the box around it: there is no trial of that
        return None if named else Stream(f"JPEG 2000 {dtype} {frame.samples}", data, shape, dtype, ycbcr)
    kind = SPREADS.get(components[1][1]) if jpeg2000_is_ycbcr(data) and dtype == np.uint8 else None
    return None if kind is None else Stream(kind, data, shape, dtype)
