"""Codecs whose streams hold packed samples: none, Deflate, LZW, PackBits, Zstandard, CCITT.

The output buffer has the chunk's own size, so that no stream can inflate beyond it.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import imagecodecs
import numpy as np
from isal import isal_zlib
from isal.igzip_lib import IsalError
from numpy.typing import NDArray

from gputiles.errors import Damaged, GputilesError
from gputiles.geometry import ceil_div

DEFLATE = (8, 32946)
FAX = (2, 3, 4)
# Always called with an array to decode into: with a size alone, damaged LZW streams crash
# the process (imagecodecs 2026.3.6).
_INTO_BUFFER: dict[int, Callable[..., Any]] = {
    5: imagecodecs.lzw_decode,
    32773: imagecodecs.packbits_decode,
    34925: imagecodecs.lzma_decode,
    50000: imagecodecs.zstd_decode,
    34926: imagecodecs.zstd_decode,
    **dict.fromkeys(DEFLATE, imagecodecs.deflate_decode),
}
COMPRESSIONS = (1, *FAX, *_INTO_BUFFER)
NAMES = {
    1: "none", 2: "CCITT RLE", 3: "CCITT T.4", 4: "CCITT T.6", 5: "LZW", 8: "Deflate", 32946: "Deflate",
    32773: "PackBits", 34925: "LZMA", 34926: "Zstandard", 50000: "Zstandard",
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
    order: str
    predictor: int = 1
    lsb_first: bool = False
    options: int = 0

    def decode(self, data: bytes, width: int, height: int) -> NDArray[Any]:
        """Decode ``data`` to (height, width, samples), native byte order."""
        try:
            return self._decode(data, width, height)
        except GputilesError:
            raise
        except DECODER_ERRORS as error:
            name = NAMES[self.compression]
            raise Damaged(f"a {name} chunk of {width}x{height} pixels does not decode: {error}") from error

    def _decode(self, data: bytes, width: int, height: int) -> NDArray[Any]:
        if self.lsb_first:
            data = bytes(imagecodecs.bitorder_decode(data))
        if self.compression in FAX:
            return self._fax(data, width, height)
        size = height * ceil_div(width * self.samples * self.bits, 8)
        packed = self._inflate(data, size)
        if len(packed) < size:
            raise Damaged(f"a {NAMES[self.compression]} chunk ends after {len(packed)} of {size} bytes")
        return self._unpredict(self._unpack(packed[:size], width, height))

    def _inflate(self, data: bytes, size: int) -> NDArray[np.uint8]:
        """Return the first ``size`` decompressed bytes, or as many as there are."""
        if self.compression == 1:
            return np.frombuffer(data, np.uint8)
        out = np.empty(size, np.uint8)
        try:
            return np.asarray(_INTO_BUFFER[self.compression](data, out=out))
        except imagecodecs.DeflateError:
            # libdeflate decodes whole streams only; the chunk may be followed by other bytes
            return np.frombuffer(isal_zlib.decompressobj().decompress(data, size), np.uint8)

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
        if self.bits in (8, 16, 32, 64):
            # the floating-point predictor stores its bytes in an order of its own
            order = "=" if self.predictor == 3 else self.order
            samples = packed.view(np.dtype(f"{order}{self.kind}{self.bits // 8}"))
            return samples.astype(samples.dtype.newbyteorder("="), copy=False).reshape(shape)
        dtype = np.dtype("u1" if self.bits < 8 else "u2")
        unpacked = imagecodecs.packints_decode(bytes(packed), dtype, self.bits, runlen=width * self.samples)
        return np.asarray(unpacked).astype(dtype, copy=False).reshape(shape)

    def _unpredict(self, samples: NDArray[Any]) -> NDArray[Any]:
        if self.predictor == 2:
            integers = samples.view(f"u{samples.itemsize}")
            summed = np.asarray(imagecodecs.delta_decode(integers, axis=-2))
            if self.bits not in (8, 16, 32, 64):
                summed = summed & summed.dtype.type((1 << self.bits) - 1)
            samples = summed.view(samples.dtype)
        elif self.predictor == 3:
            samples = np.asarray(imagecodecs.floatpred_decode(samples, axis=-2))
        return samples.astype(np.float32) if samples.dtype == np.float16 else samples
