"""Encoding on the host: JPEG through libjpeg-turbo, PNG through our filter and ISA-L."""

from __future__ import annotations

from typing import Any

import imagecodecs
from isal import isal_zlib
from numpy.typing import NDArray

from gputiles import png
from gputiles.encoded import Encoding
from gputiles.errors import LimitExceeded

SUBSAMPLING = ("444", "422", "420")
DEFLATE_LEVEL = 1
LONGEST_SIDE = 65500  # of libjpeg, a little under the format's 65535


def jpeg(pixels: NDArray[Any], encoding: Encoding) -> bytes:
    """Return (rows, columns, 1 or 3) uint8 as a baseline JFIF file.

    Raises LimitExceeded beyond the sides that a JPEG can have.
    """
    if max(pixels.shape) > LONGEST_SIDE:
        raise LimitExceeded(
            f"JPEG: a side may have at most {LONGEST_SIDE} pixels; got {pixels.shape[1]} × {pixels.shape[0]}"
        )
    grey = pixels.shape[2] == 1
    return bytes(
        imagecodecs.jpeg8_encode(
            pixels[..., 0] if grey else pixels,
            level=encoding.quality,
            subsampling=None if grey else SUBSAMPLING[encoding.subsampling],
        )
    )


def png_file(filtered: NDArray[Any], width: int, height: int, samples: int) -> bytes:
    """Return the PNG of a stream of filtered rows."""
    return png.frame(isal_zlib.compress(filtered, DEFLATE_LEVEL), width, height, samples)
