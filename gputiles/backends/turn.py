"""Turned pictures: mirrored, rotated, without colour."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from gputiles.encoded import LUMA, Tone, Turn

THRESHOLD = 128  # from which on a grey is white


def turned_shape(shape: tuple[int, int, int], turn: Turn) -> tuple[int, int, int]:
    """Return the (rows, columns, samples) of a picture that is turned."""
    rows, columns, samples = shape
    kept = samples if turn.tone is Tone.COLOUR else 2 - samples % 2
    return (columns, rows, kept) if turn.quarter % 2 else (rows, columns, kept)


def turned(pixels: NDArray[np.uint8], turn: Turn) -> NDArray[np.uint8]:
    """Return (rows, columns, 1 … 4 samples), turned: contiguous, perhaps the same array.

    Greys are luma as ITU-R 601 in 16 bits; alpha stays.
    """
    if turn.mirror:
        pixels = pixels[:, ::-1]
    pixels = np.rot90(pixels, -turn.quarter)
    if turn.tone is not Tone.COLOUR:
        pixels = _without_colour(pixels, bitonal=turn.tone is Tone.BITONAL)
    return np.ascontiguousarray(pixels)


def _without_colour(pixels: NDArray[np.uint8], *, bitonal: bool) -> NDArray[np.uint8]:
    samples = pixels.shape[2]
    colours = pixels[..., : 3 if samples >= 3 else 1].astype(np.uint32)
    weights = np.array(LUMA if samples >= 3 else [65536], np.uint32)
    grey = ((colours @ weights + 0x8000) >> 16).astype(np.uint8)[..., np.newaxis]
    if bitonal:
        grey = np.where(grey >= THRESHOLD, np.uint8(255), np.uint8(0))
    return grey if samples in (1, 3) else np.concatenate([grey, pixels[..., -1:]], axis=2)
