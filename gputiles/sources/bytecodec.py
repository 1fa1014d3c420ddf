"""Codecs whose streams hold packed samples: none, Deflate, LZW, PackBits, Zstandard, CCITT.

The output buffer has the chunk's own size, so that no stream can inflate beyond it.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal

import imagecodecs
import numpy as np
from isal import isal_zlib
from isal.igzip_lib import IsalError
from numpy.typing import NDArray

from gputiles.errors import Damaged
from gputiles.geometry import ceil_div

DEFLATE = (8, 32946, 50013)
ZSTD = 50000
FAX = (2, 3, 4)
DIFFERENCES = {2: 1, 34892: 2, 34893: 4}
"""Predictors of integers, and how many pixels to the left the pixel lies that each is the difference from."""
FLOATING = {3: 1, 34894: 2, 34895: 4}
"""The same of floating-point samples, whose bytes lie in an order of their own."""
# Always called with an array to decode into, so that no stream inflates beyond it.
_INTO_BUFFER: dict[int, Callable[..., Any]] = {
    32773: imagecodecs.packbits_decode,
    34925: imagecodecs.lzma_decode,
    ZSTD: imagecodecs.zstd_decode,
    34926: imagecodecs.zstd_decode,
    **dict.fromkeys(DEFLATE, imagecodecs.deflate_decode),
}
LZW = 5
_BEYOND = 1 << 20  # bytes behind those that are wanted that are looked at, and as many as those
_PIECE = 1 << 16  # bytes of them at a time
_LIBTIFF = {32773: 32773, 34925: 34925, ZSTD: ZSTD, 34926: ZSTD}  # by libtiff's numbers
COMPRESSIONS = (1, LZW, *FAX, *_INTO_BUFFER)
NAMES = {
    1: "none", 2: "CCITT RLE", 3: "CCITT T.4", 4: "CCITT T.6", 5: "LZW", 8: "Deflate", 32946: "Deflate",
    50013: "Deflate", 32773: "PackBits", 34925: "LZMA", 34926: "Zstandard", 50000: "Zstandard",
}  # fmt: skip
DECODER_ERRORS: Any = (
    RuntimeError,
    ValueError,
    MemoryError,
    OverflowError,
    OSError,
    zlib.error,
    IsalError,
)


def inflate(
    compression: int, data: bytes, most: int, out: NDArray[np.uint8] | None = None
) -> NDArray[np.uint8]:
    """Return the first ``most`` decompressed bytes, or as many as there are; perhaps in ``out``."""
    if compression == 1:
        return np.frombuffer(data, np.uint8)
    if compression == LZW:
        # imagecodecs' own decoder (2026.3.6) follows codes that were never made out of memory
        return _with_libtiff(compression, data, most)
    out = np.empty(most, np.uint8) if out is None else out
    try:
        return np.asarray(_INTO_BUFFER[compression](data, out=out))
    except DECODER_ERRORS:
        # these decode whole streams only; a chunk may hold more rows, or be followed by other bytes
        if compression in DEFLATE:
            return np.frombuffer(_inflate_first(data, most), np.uint8)
        return _with_libtiff(_LIBTIFF[compression], data, most)


def _inflate_first(data: bytes, most: int) -> bytes:
    """Return the first ``most`` bytes of a stream that may hold more.

    Damage tells itself at the stream's end, in its checksum: so far, within a bound, it is read. That a
    stream ends early does no harm where all that is wanted came before.
    """
    stream = isal_zlib.decompressobj()
    found, left = stream.decompress(data, most), most + _BEYOND
    while not stream.eof and left > 0:
        more = stream.decompress(stream.unconsumed_tail, min(left, _PIECE))
        if not more:
            break
        left -= len(more)
    return bytes(found)


def _with_libtiff(compression: int, data: bytes, size: int) -> NDArray[np.uint8]:
    """Return the first ``size`` decompressed bytes; an error where there are fewer."""
    return np.asarray(imagecodecs.tiff_decode(_one_row(compression, data, size))).reshape(-1)


def _one_row(compression: int, data: bytes, size: int) -> bytes:
    """Return a TIFF file of one strip that holds one row of ``size`` bytes."""
    strip = data + b"\0" * (len(data) % 2)
    short, long = 3, 4
    tags = (
        (256, long, size), (257, long, 1), (258, short, 8), (259, short, compression), (262, short, 1),
        (273, long, 8), (277, short, 1), (278, long, 1), (279, long, len(data)),
    )  # fmt: skip
    head = struct.pack("<2sHI", b"II", 42, 8 + len(strip))
    table = b"".join(struct.pack("<HHII", code, kind, 1, value) for code, kind, value in tags)
    return head + strip + struct.pack("<H", len(tags)) + table + bytes(4)


@dataclass(frozen=True, slots=True)
class ByteCodec:
    """Decodes bytes to samples: decompress, unpack, undo the predictor.

    ``kind``, ``bits`` and ``order`` (``<`` or ``>``) describe a stored sample, ``samples``
    how many lie side by side in a chunk's pixel. ``lsb_first`` is FillOrder 2.
    ``options`` are the T4Options of CCITT T.4.
    """

    compression: int
    samples: int
    bits: int
    kind: str
    order: Literal["<", ">"]
    predictor: int = 1
    lsb_first: bool = False
    options: int = 0

    def decode(self, data: bytes, width: int, height: int) -> NDArray[Any]:
        """Decode ``data`` to (height, width, samples), native byte order."""
        try:
            if self.lsb_first:
                data = bytes(imagecodecs.bitorder_decode(data))
            if self.compression in FAX:
                return self._fax(data, width, height)
            packed = self._inflated(data, width, height)
        except DECODER_ERRORS as error:
            raise self._damaged(error, width, height) from error
        return self.complete(packed, width, height)

    @property
    def stream(self) -> Literal["zlib", "lzw"] | None:
        """What streams chunks are, if others may decompress them, and ``complete`` what comes of it."""
        if self.lsb_first:
            return None
        return "zlib" if self.compression in DEFLATE else "lzw" if self.compression == LZW else None

    def complete(self, packed: NDArray[np.uint8], width: int, height: int) -> NDArray[Any]:
        """Make samples of decompressed bytes: unpack, undo the predictor."""
        try:
            return self._unpredict(self._unpack(packed, width, height))
        except DECODER_ERRORS as error:
            raise self._damaged(error, width, height) from error

    def size(self, width: int, height: int) -> int:
        """Return the bytes of a chunk that is decompressed."""
        return height * ceil_div(width * self.samples * self.bits, 8)

    def inflate_into(self, out: NDArray[np.uint8], data: bytes, width: int, height: int) -> None:
        """Decompress ``data`` into ``out``, which has the chunk's ``size``: its bytes as they are stored.

        Raises Damaged as ``decode`` does.
        """
        try:
            packed = self._inflated(data, width, height, out)
        except DECODER_ERRORS as error:
            raise self._damaged(error, width, height) from error
        if packed.ctypes.data != out.ctypes.data:
            out[:] = packed

    def _damaged(self, error: Exception, width: int, height: int) -> Damaged:
        """Return what a decoder raised, with what it did not decode."""
        name = NAMES[self.compression]
        return Damaged(f"a {name} chunk of {width}x{height} pixels does not decode: {error}")

    def _inflated(
        self, data: bytes, width: int, height: int, out: NDArray[np.uint8] | None = None
    ) -> NDArray[np.uint8]:
        size = self.size(width, height)
        packed = inflate(self.compression, data, size, out)
        if len(packed) < size:
            raise Damaged(f"a {NAMES[self.compression]} chunk ends after {len(packed)} of {size} bytes")
        return packed[:size]

    def _fax(self, data: bytes, width: int, height: int) -> NDArray[np.uint8]:
        if self.compression == 2:
            pixels = imagecodecs.ccittrle_decode(data, height, width)
        elif self.compression == 3:
            pixels = imagecodecs.ccittfax3_decode(data, height, width, t4options=self.options)
        else:
            pixels = imagecodecs.ccittfax4_decode(data, height, width)
        return np.asarray(pixels).reshape(height, width, 1).astype(np.uint8, copy=False)

    def _unpack(self, packed: NDArray[np.uint8], width: int, height: int) -> NDArray[Any]:
        shape = height, width, self.samples
        if self.bits == 24:
            return self._unpack_triples(packed).reshape(shape)
        if self.bits in (8, 16, 32, 64):
            stored, native = _types("=" if self.predictor in FLOATING else self.order, self.kind, self.bits)
            return packed.view(stored).reshape(shape).astype(native, copy=False)
        dtype = np.dtype("u1" if self.bits < 8 else "u2" if self.bits < 16 else "u4")
        unpacked = imagecodecs.packints_decode(bytes(packed), dtype, self.bits, runlen=width * self.samples)
        return np.asarray(unpacked).astype(dtype, copy=False).reshape(shape)

    def _unpack_triples(self, packed: NDArray[np.uint8]) -> NDArray[Any]:
        """Return samples of three bytes, which lie in the byte order of the file (as libtiff has them)."""
        if self.kind == "f":
            return np.asarray(imagecodecs.float24_decode(bytes(packed), byteorder=self.order))
        whole = np.zeros((len(packed) // 3, 4), np.uint8)
        whole[:, 1:] = packed.reshape(-1, 3) if self.order == ">" else packed.reshape(-1, 3)[:, ::-1]
        return whole.view(">u4").astype(np.uint32)

    def _unpredict(self, samples: NDArray[Any]) -> NDArray[Any]:
        if self.predictor in DIFFERENCES:
            integers = _summed(samples.view(f"u{samples.itemsize}"), DIFFERENCES[self.predictor])
            if self.bits not in (8, 16, 32, 64):
                integers = integers & integers.dtype.type((1 << self.bits) - 1)
            samples = integers.view(samples.dtype)
        elif self.predictor in FLOATING:
            step = FLOATING[self.predictor]
            samples = np.asarray(imagecodecs.floatpred_decode(samples, axis=-2, dist=step))
        return samples.astype(np.float32) if samples.dtype == np.float16 else samples


@cache
def _types(order: str, kind: str, bits: int) -> tuple[np.dtype[Any], np.dtype[Any]]:
    """Return the type of samples as they are stored, and as they are kept."""
    stored = np.dtype(f"{order}{kind}{bits // 8}")
    return stored, stored.newbyteorder("=")


def _summed(differences: NDArray[Any], step: int) -> NDArray[Any]:
    """Undo the differences of (rows, columns, samples) from the pixel ``step`` columns to the left."""
    if step == 1:
        return np.asarray(imagecodecs.delta_decode(differences, axis=-2))
    whole = np.empty_like(differences)
    for first in range(min(step, differences.shape[1])):
        every = np.ascontiguousarray(differences[:, first::step])
        whole[:, first::step] = imagecodecs.delta_decode(every, axis=-2)
    return whole
