"""The NumPy specification of the JPEG kernel: plain, slow, and independent of ``kernels/``.

Baseline JPEG (ITU-T T.81) with libjpeg's arithmetic in whole numbers, a restart after each row
of MCUs. Only the Huffman tables and the quantisation steps are the product's.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gputiles import jfif

Array = NDArray[Any]


def _forward() -> Array:
    """Return the cosine transform as 8 × 8 whole numbers, √8 · 2¹³ / √8 times too large.

    They are what the constants of the fast algorithm multiply out to, a unit off the rounded
    cosines here and there.
    """
    even = {0: (8192, 8192, 8192, 8192), 4: (8192, -8192, -8192, 8192)}
    even |= {2: (10703, 4433, -4433, -10703), 6: (4433, -10704, 10704, -4433)}
    odd = {1: (11363, 9633, 6437, 2260), 3: (9633, -2259, -11362, -6436)}
    odd |= {5: (6437, -11362, 2261, 9633), 7: (2260, -6436, 9633, -11363)}
    matrix = np.zeros((8, 8), np.int64)
    for row, half in even.items():
        matrix[row] = (*half, *half[::-1])
    for row, half in odd.items():
        matrix[row] = (*half, *(-value for value in half[::-1]))
    return matrix


FORWARD = _forward()


def planes(pixels: Array, subsampling: int) -> list[Array]:
    """Return Y, Cb and Cr (or grey alone) less 128, padded to whole MCUs, colour subsampled."""
    width, height = jfif.mcu(subsampling)
    rows, columns, samples = pixels.shape
    padding = ((0, -rows % height), (0, -columns % width), (0, 0))
    padded = np.pad(pixels.astype(np.int64), padding, "edge")
    if samples == 1:
        return [padded[..., 0] - 128]
    r, g, b = np.moveaxis(padded, -1, 0)
    luma = ((19595 * r + 38470 * g + 7471 * b + 32768) >> 16) - 128
    colours = [
        (-11059 * r - 21709 * g + 32768 * b + 32767) >> 16,
        (32768 * r - 27439 * g - 5329 * b + 32767) >> 16,
    ]
    return [luma, *(_subsampled(colour, subsampling, rows) for colour in colours)]


def _subsampled(plane: Array, subsampling: int, rows: int) -> Array:
    """Return means of 2 or 2 × 2, rounded down and up (or 1 and 2 quarters) in turn."""
    if subsampling == 0:
        return plane
    pairs = plane[:, 0::2] + plane[:, 1::2]
    turn = np.arange(pairs.shape[1]) & 1
    if subsampling == 1:
        return (pairs + turn) >> 1
    means = (pairs[0::2] + pairs[1::2] + 1 + turn) >> 2
    last = (rows - 1) // 2  # the last row of means goes on below the picture
    means[last + 1 :] = means[last]
    return means


def coefficients(plane: Array, steps: bytes) -> Array:
    """Return the quantised coefficients (block rows, block columns, 64) in zigzag order."""
    rows, columns = plane.shape
    blocks = plane.reshape(rows // 8, 8, columns // 8, 8).transpose(0, 2, 1, 3)
    across = (blocks @ FORWARD.T + (1 << 10)) >> 11
    both = (FORWARD @ across + (1 << 14)) >> 15
    order = zigzag()
    ordered = np.stack([both[..., row, column] for row, column in order], axis=-1)
    divisors = 8 * np.frombuffer(steps, np.uint8).astype(np.int64)
    return np.sign(ordered) * ((np.abs(ordered) + divisors // 2) // divisors)


def zigzag() -> list[tuple[int, int]]:
    """Walk the diagonals of a block, up and down in turn."""
    order = []
    for diagonal in range(15):
        walk = [(diagonal - column, column) for column in range(8) if 0 <= diagonal - column < 8]
        order += walk if diagonal % 2 == 0 else walk[::-1]
    return order


def bits_of_block(block: Array, before: int, kind: int) -> Iterator[str]:
    """Yield the codes of one block's coefficients as text of 0 and 1."""
    dc, ac = jfif.DC[kind].codes(), jfif.AC[kind].codes()
    yield from _coded(dc, 0, int(block[0]) - before)
    gap = 0
    for value in block[1:].tolist():
        if value == 0:
            gap += 1
            continue
        while gap > 15:
            yield _text(ac[0xF0])
            gap -= 16
        yield from _coded(ac, gap << 4, value)
        gap = 0
    if gap:
        yield _text(ac[0])


def _coded(codes: dict[int, tuple[int, int]], symbol: int, value: int) -> Iterator[str]:
    width = abs(value).bit_length()
    yield _text(codes[symbol | width])
    if width:
        yield format(value if value > 0 else value + (1 << width) - 1, f"0{width}b")


def _text(code: tuple[int, int]) -> str:
    return format(code[0], f"0{code[1]}b")


def encode(pixels: NDArray[np.uint8], quality: int, subsampling: int) -> bytes:
    """Return (rows, columns, 1 or 3) uint8 as a JFIF file."""
    rows, columns, samples = pixels.shape
    subsampling = subsampling if samples == 3 else 0
    steps = jfif.steps(quality)
    parts = planes(pixels, subsampling)
    found = [coefficients(plane, steps[c > 0]) for c, plane in enumerate(parts)]
    across, down = (side // 8 for side in jfif.mcu(subsampling))
    file = bytearray(jfif.header(columns, rows, samples, quality, subsampling))
    segments = found[0].shape[0] // down
    for segment in range(segments):
        before = [0, 0, 0]
        text = []
        for m in range(found[0].shape[1] // across):
            for c, blocks in enumerate(found):
                high, wide = (down, across) if c == 0 else (1, 1)
                for y in range(segment * high, (segment + 1) * high):
                    for x in range(m * wide, (m + 1) * wide):
                        text += bits_of_block(blocks[y, x], before[c], min(c, 1))
                        before[c] = int(blocks[y, x, 0])
        bits = "".join(text)
        bits += "1" * (-len(bits) % 8)
        scan = int(bits, 2).to_bytes(len(bits) // 8, "big")
        file += scan.replace(b"\xff", b"\xff\x00")
        file += b"\xff\xd9" if segment == segments - 1 else bytes([255, 0xD0 + segment % 8])
    return bytes(file)
