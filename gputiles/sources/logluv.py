"""SGI's LogL and LogLuv, logarithms of light, shown in 8 bits as libtiff shows them.

libtiff unpacks the streams; a luminance of 1 is white, what is brighter is white too. The curve is a
square root, the primaries are those of ITU-R BT.709 around the white of equal energy.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Any

import imagecodecs
import numpy as np
from numpy.typing import NDArray

from gputiles.errors import Damaged
from gputiles.sources.bytecodec import DECODER_ERRORS
from gputiles.sources.colour import in_bands

COMPRESSIONS = (34676, 34677)  # of 32 bits a pixel (or 16 of luminance), of 24 bits
_LOG_L, _LOG_LUV = 32844, 32845
_INTEGER = 2  # SampleFormat
_FROM_XYZ = np.array([[2.690, -1.276, -0.414], [-1.022, 1.978, 0.044], [0.061, -0.224, 1.163]])


@dataclass(frozen=True, slots=True)
class LogLuvCodec:
    """Decodes chunks of ``samples``: one of luminance, or three of colour."""

    compression: int
    samples: int

    def decode(self, data: bytes, width: int, height: int) -> NDArray[Any]:
        """Decode ``data`` to (height, width, samples) of 8 bits."""
        try:
            stored = np.asarray(imagecodecs.tiff_decode(self._file(data, width, height)))
        except DECODER_ERRORS as error:
            raise Damaged(f"a LogLuv chunk of {width}x{height} pixels does not decode: {error}") from error
        return in_bands(_shown, stored.reshape(height, width, self.samples))

    def _file(self, data: bytes, width: int, height: int) -> bytes:
        """Return a TIFF file of the chunk alone."""
        short, long = 3, 4
        strip = data + b"\0" * (len(data) % 2)
        bits = struct.pack("<6H", *(16,) * 3, *(_INTEGER,) * 3)
        at = 8 + len(strip)
        bits_at, format_at = (16, _INTEGER) if self.samples == 1 else (at, at + 6)
        tags = [
            (256, long, 1, width), (257, long, 1, height), (259, short, 1, self.compression),
            (262, short, 1, _LOG_L if self.samples == 1 else _LOG_LUV), (273, long, 1, 8),
            (277, short, 1, self.samples), (278, long, 1, height), (279, long, 1, len(data)),
            (258, short, self.samples, bits_at), (284, short, 1, 1), (339, short, self.samples, format_at),
        ]  # fmt: skip
        table = b"".join(struct.pack("<HHII", *tag) for tag in sorted(tags))
        head = struct.pack("<2sHI", b"II", 42, at + len(bits))
        return head + strip + bits + struct.pack("<H", len(tags)) + table + bytes(4)


def _shown(stored: NDArray[Any]) -> NDArray[Any]:
    """Return (rows, columns, samples) of 8 bits of luminance as stored, or of floating-point XYZ."""
    light = luminance(stored) if stored.shape[-1] == 1 else stored.astype(np.float64) @ _FROM_XYZ.T
    light = np.clip(np.nan_to_num(light, nan=0.0), 0, 1)
    shown: NDArray[np.uint8] = np.minimum(256 * np.sqrt(light), 255).astype(np.uint8)
    return shown


def luminance(stored: NDArray[Any]) -> NDArray[np.float64]:
    """Return the luminance of 16 bits: a sign, and the logarithm to the base of 2 in steps of 1/256."""
    exponent = (stored.astype(np.int64) & 0x7FFF).astype(np.float64)
    size = np.exp2((exponent + 0.5) / 256 - 64)
    light: NDArray[np.float64] = np.where(exponent == 0, 0.0, np.where(stored < 0, -size, size))
    return light
