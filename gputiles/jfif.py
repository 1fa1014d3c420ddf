"""JFIF framing: the markers around the scan of a baseline JPEG, and its tables (ITU-T T.81, annex K)."""

from __future__ import annotations

import struct
from functools import lru_cache
from typing import NamedTuple

from gputiles.errors import LimitExceeded
from gputiles.geometry import ceil_div

LONGEST_SIDE = 65500  # of libjpeg, a little under the format's 65535

# How coarsely each coefficient is stored at quality 50, in zigzag order: luma, chroma.
STEPS = tuple(
    bytes.fromhex(text)
    for text in (
        "100b0c0e0c0a100e0d0e1211101318281a181616183123251d283a333d3c3933"
        "383740485c4e404457453738506d51575f626768673e4d71797064785c656763",
        "1112121815182f1a1a2f63423842" + "63" * 50,
    )
)

ICC_MARK = b"ICC_PROFILE\0"
MOST_ICC = 65533 - 2 - len(ICC_MARK)  # bytes of a profile in one segment


class Codes(NamedTuple):
    """A Huffman table: how many codes there are of each length 1 … 16, and their symbols."""

    lengths: bytes
    symbols: bytes

    def codes(self) -> dict[int, tuple[int, int]]:
        """Return (code, length) by symbol: codes of a length count up (T.81, annex C)."""
        found = {}
        code, symbols = 0, iter(self.symbols)
        for length, count in enumerate(self.lengths, 1):
            for _ in range(count):
                found[next(symbols)] = code, length
                code += 1
            code <<= 1
        return found


def _codes(text: str) -> Codes:
    data = bytes.fromhex(text)
    return Codes(data[:16], data[16:])


DC = (
    _codes("00010501010101010100000000000000" + bytes(range(12)).hex()),
    _codes("00030101010101010101010000000000" + bytes(range(12)).hex()),
)
AC = (
    _codes(
        "0002010303020403050504040000017d"
        "01020300041105122131410613516107227114328191a1082342b1c11552d1f02433627282090a161718191a25262728"
        "292a3435363738393a434445464748494a535455565758595a636465666768696a737475767778797a83848586878889"
        "8a92939495969798999aa2a3a4a5a6a7a8a9aab2b3b4b5b6b7b8b9bac2c3c4c5c6c7c8c9cad2d3d4d5d6d7d8d9dae1e2"
        "e3e4e5e6e7e8e9eaf1f2f3f4f5f6f7f8f9fa"
    ),
    _codes(
        "00020102040403040705040400010277"
        "000102031104052131061241510761711322328108144291a1b1c109233352f0156272d10a162434e125f11718191a26"
        "2728292a35363738393a434445464748494a535455565758595a636465666768696a737475767778797a828384858687"
        "88898a92939495969798999aa2a3a4a5a6a7a8a9aab2b3b4b5b6b7b8b9bac2c3c4c5c6c7c8c9cad2d3d4d5d6d7d8d9da"
        "e2e3e4e5e6e7e8e9eaf2f3f4f5f6f7f8f9fa"
    ),
)


@lru_cache(maxsize=256)
def steps(quality: int) -> tuple[bytes, bytes]:
    """Return the steps of luma and chroma at ``quality`` 1 … 100, scaled as libjpeg does."""
    scale = 5000 // quality if quality < 50 else 200 - 2 * quality
    luma, chroma = (bytes(min(max((step * scale + 50) // 100, 1), 255) for step in kind) for kind in STEPS)
    return luma, chroma


def mcu(subsampling: int) -> tuple[int, int]:
    """Return the (width, height) in pixels of a minimum coded unit."""
    return (16 if subsampling else 8), (16 if subsampling == 2 else 8)


def segments(height: int, subsampling: int) -> int:
    """Return how many rows of MCUs ``height`` pixels take."""
    return ceil_div(height, mcu(subsampling)[1])


@lru_cache(maxsize=256)
def header(width: int, height: int, samples: int, quality: int, subsampling: int) -> bytes:
    """Return all that is before the scan, which restarts after each row of MCUs.

    ``samples`` is 1 (grey, which is never subsampled) or 3 (YCbCr). Raises LimitExceeded
    beyond the sides that a JPEG can have.
    """
    if max(width, height) > LONGEST_SIDE:
        raise LimitExceeded(f"JPEG: a side may have at most {LONGEST_SIDE} pixels; got {width} × {height}")
    across, down = (side // 8 for side in mcu(subsampling))
    kinds = range(2 if samples == 3 else 1)
    factors = [(across << 4 | down, 0), (0x11, 1), (0x11, 1)][:samples]
    frame = [part for c, (factor, kind) in enumerate(factors, 1) for part in (c, factor, kind)]
    scan = [part for c, (_, kind) in enumerate(factors, 1) for part in (c, kind << 4 | kind)]
    parts = [
        b"\xff\xd8",
        _segment(0xE0, b"JFIF\0\1\1\0\0\1\0\1\0\0"),
        *(_segment(0xDB, bytes([kind]) + steps(quality)[kind]) for kind in kinds),
        _segment(0xC0, struct.pack(">BHHB", 8, height, width, samples) + bytes(frame)),
        *(
            _segment(0xC4, bytes([place << 4 | kind]) + b"".join(table[kind]))
            for kind in kinds
            for place, table in enumerate((DC, AC))
        ),
        _segment(0xDD, struct.pack(">H", ceil_div(width, mcu(subsampling)[0]))),
        _segment(0xDA, bytes([samples, *scan, 0, 63, 0])),
    ]
    return b"".join(parts)


def _segment(marker: int, data: bytes) -> bytes:
    return b"".join((b"\xff", bytes([marker]), struct.pack(">H", len(data) + 2), data))


@lru_cache(maxsize=16)
def profile_segments(profile: bytes) -> bytes:
    """Return the APP2 segments that carry an ICC profile (ICC.1, annex B.4)."""
    parts = [profile[at : at + MOST_ICC] for at in range(0, len(profile), MOST_ICC)]
    heads = (ICC_MARK + bytes((number, len(parts))) for number in range(1, len(parts) + 1))
    return b"".join(
        b"\xff\xe2" + struct.pack(">H", 2 + len(head) + len(part)) + head + part
        for head, part in zip(heads, parts, strict=True)
    )


def with_profile(file: bytes, profile: bytes) -> bytes:
    """Return a JFIF file of ours that carries an ICC profile: behind its first segment."""
    at = 4 + int.from_bytes(file[4:6], "big")
    return file[:at] + profile_segments(profile) + file[at:]
