"""CIE L*a*b* as TIFF files hold it (TIFF 6.0 section 23, and its ICC kind), converted to sRGB.

The white is D50; it is adapted to sRGB's D65 by Bradford's method.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gputiles.backends import ChunkCodec
from gputiles.icc import encoded
from gputiles.sources.colour import in_bands

_WHITE = np.array([0.96422, 1.0, 0.82521])
_TO_LINEAR = np.array(
    [
        [3.1338561, -1.6168667, -0.4906146],
        [-0.9787684, 1.9161415, 0.0334540],
        [0.0719453, -0.2289914, 1.4052427],
    ]
)
_BEND = 6 / 29  # below it the cube root is a straight line


@dataclass(frozen=True, slots=True)
class LabCodec:
    """Converts what ``codec`` decodes from L*a*b* of 8 or 16 bits to RGB; further samples stay.

    ``signed`` says that a* and b* are two's complements, as in photometric 8; else they are shifted
    by half their range, as in 9.
    """

    codec: ChunkCodec
    signed: bool

    @property
    def compression(self) -> int:
        """The compression of the inner codec."""
        return self.codec.compression

    def decode(self, data: bytes, width: int, height: int) -> NDArray[Any]:
        """Decode ``data`` to RGB (height, width, 3 and more)."""
        return in_bands(lambda band: lab_to_rgb(band, self.signed), self.codec.decode(data, width, height))


def lab_to_rgb(pixels: NDArray[Any], signed: bool) -> NDArray[Any]:
    """Convert L*a*b* (…, 3 and more) of unsigned integers to sRGB of their type, rounded to nearest."""
    top = int(np.iinfo(pixels.dtype).max)
    unit = (top + 1) / 256  # of a* and b*
    half = (top + 1) // 2
    chroma = pixels[..., 1:3] ^ half if signed else pixels[..., 1:3]
    a, b = np.moveaxis((chroma.astype(np.float64) - half) / unit, -1, 0)
    f = (pixels[..., 0] * (100.0 / top) + 16) / 116
    roots = np.stack((f + a / 500, f, f - b / 200), axis=-1)
    light = np.where(roots > _BEND, roots**3, 3 * _BEND**2 * (roots - 4 / 29)) * _WHITE
    linear = np.clip(light @ _TO_LINEAR.T, 0, 1)
    rgb = np.rint(encoded(linear) * top).astype(pixels.dtype)
    return np.concatenate((rgb, pixels[..., 3:]), axis=-1)
