"""The beginning of a JPEG XL stream: its size and what it holds, before anything is decoded."""

from __future__ import annotations

import struct
from dataclasses import dataclass

from gputiles.errors import Damaged, Unsupported

_BARE = b"\xff\x0a"
_BOXED = b"\0\0\0\x0cJXL \r\n\x87\n"
_MOST_BOXES = 100
_RATIOS = {1: (1, 1), 2: (6, 5), 3: (4, 3), 4: (3, 2), 5: (16, 9), 6: (5, 4), 7: (2, 1)}
_LENGTHS = (9, 13, 18, 30)  # bits of a side


@dataclass(slots=True)
class _Bits:
    """Bits of a codestream, the lowest of each byte first."""

    data: int
    left: int

    def take(self, count: int) -> int:
        self.left -= count
        if self.left < 0:
            raise Damaged("a JPEG XL stream that ends within its head")
        value = self.data & (1 << count) - 1
        self.data >>= count
        return value


def size(data: bytes) -> tuple[int, int]:
    """Return (width, height) of a JPEG XL stream, bare or in boxes.

    Raises Damaged for what is none, Unsupported for an animation or one with a preview.
    """
    return _read(data)[0]


def least_samples(data: bytes) -> int:
    """Return the least number of samples of a pixel: one of colour, and all that are beside colours."""
    return 1 + _read(data)[1]


def _read(data: bytes) -> tuple[tuple[int, int], int]:
    """Return the size and the number of extra channels (ISO/IEC 18181-1, annex D)."""
    head = _codestream(data)[:64]
    if head[:2] != _BARE:
        raise Damaged(f"not a JPEG XL stream: starts with {data[:4]!r}")
    bits = _Bits(int.from_bytes(head[2:], "little"), 8 * len(head) - 16)
    return _size(bits), _extra_channels(bits)


def _codestream(data: bytes) -> bytes:
    """Return the codestream, or its first part, of a stream in boxes (ISO/IEC 18181-2); else all."""
    if not data.startswith(_BOXED):
        return data
    at = len(_BOXED)
    for _ in range(_MOST_BOXES):
        length, kind = struct.unpack_from(">I4s", data, at) if at + 8 <= len(data) else (0, b"")
        if kind in (b"jxlc", b"jxlp"):
            return data[at + (8 if kind == b"jxlc" else 12) :]  # a part is numbered
        if length < 8:
            break
        at += length
    raise Damaged("a JPEG XL stream without a picture in its first boxes")


def _size(bits: _Bits) -> tuple[int, int]:
    small = bits.take(1)

    def side() -> int:
        return 8 * (bits.take(5) + 1) if small else 1 + bits.take(_LENGTHS[bits.take(2)])

    height = side()
    ratio = bits.take(3)
    if not ratio:
        return side(), height
    across, down = _RATIOS[ratio]
    return height * across // down, height


def _extra_channels(bits: _Bits) -> int:
    if bits.take(1):  # all is as usual
        return 0
    if bits.take(1):
        bits.take(3)  # the orientation
        if bits.take(1):
            _size(bits)  # that it is meant to be shown with
        if bits.take(1) or bits.take(1):
            raise Unsupported("JPEG XL with a preview or of several frames is not read")
    if bits.take(1):  # floating-point samples: bits of a sample, and of its exponent
        bits.take(6 if bits.take(2) == 3 else 0)
        bits.take(4)
    else:
        bits.take(6 if bits.take(2) == 3 else 0)
    bits.take(1)  # whether 16-bit integers are enough to decode it
    chosen = bits.take(2)
    return chosen if chosen < 2 else 2 + bits.take(4) if chosen == 2 else 1 + bits.take(12)
