"""Pixels that are at hand already, brought to a backend the way that a file's come: decoded."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gputiles.backends import Chunk, DecodeJob
from gputiles.geometry import Rect


@dataclass(frozen=True, slots=True, eq=False)
class DrawnCodec:
    """A codec that has its chunk's pixels; nothing is stored."""

    pixels: NDArray[Any]
    compression: int = -2

    def decode(self, data: bytes, width: int, height: int) -> NDArray[Any]:
        """Return the pixels."""
        return self.pixels


def drawn(pixels: NDArray[Any], valid: NDArray[np.uint8] | None = None) -> DecodeJob:
    """Return the job that makes a raster of (rows, columns, samples); they must not change any more.

    ``valid`` is (rows, columns, 1), 0 where there is no data; None is all of it.
    """
    rows, columns, samples = pixels.shape
    place = Rect(0, 0, columns, rows)
    chunk = Chunk(DrawnCodec(pixels), b"", place)
    mask = () if valid is None else (Chunk(DrawnCodec(valid), b"", place),)
    return DecodeJob((chunk,), (place,), (columns, rows), samples, pixels.dtype, mask=mask)
