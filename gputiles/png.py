"""PNG framing: the chunks around a compressed stream of filtered rows (PNG specification, 5)."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import TypeAlias

import numpy as np
from isal import isal_zlib
from numpy.typing import NDArray

SIGNATURE = b"\x89PNG\r\n\x1a\n"
COLOUR_TYPES = {1: 0, 2: 4, 3: 2, 4: 6}  # samples of a pixel → colour type
UP = 2  # the filter that subtracts the row above
ADLER_BASE = 65_521
DEFLATE_LEVEL = 1
LEAD = 8  # bytes that are compressed before all others
END = b"\x00\x00\x00\x00IEND\xaeB`\x82"


Part: TypeAlias = bytes | memoryview


def frame(stream: Sequence[Part], width: int, height: int, samples: int, bits: int = 8) -> bytes:
    """Return the PNG file of a zlib stream, given in parts, of filtered rows of ``samples`` × ``bits``."""
    header = struct.pack(">IIBBBBB", width, height, bits, COLOUR_TYPES[samples], 0, 0, 0)
    return b"".join((SIGNATURE, *_chunk(b"IHDR", header), *_chunk(b"IDAT", *stream), END))


def zlib_stream(deflated: Iterable[Part], checksum: int) -> list[Part]:
    """Return the parts of a deflate stream as those of a zlib stream (RFC 1950); ``checksum`` is Adler-32."""
    return [b"\x78\x01", *deflated, checksum.to_bytes(4, "big")]


def searched(rows: bytes | NDArray[np.uint8], *, last: bool = True) -> bytes:
    """Return bytes as a deflate stream, in which ISA-L looks for what repeats; it ends at a whole byte.

    One that is not the ``last`` may be followed by others. ISA-L files the third byte under a hash of its
    compressor's address where it begins with many bytes at once, so that now and then a stream would be
    another from one call to the next: with a few at first it does not.
    """
    compressor = isal_zlib.compressobj(DEFLATE_LEVEL, isal_zlib.DEFLATED, -15)
    lead: bytes = compressor.compress(rows[:LEAD]) + compressor.flush(isal_zlib.Z_SYNC_FLUSH)
    rest: bytes = compressor.compress(rows[LEAD:])
    return lead + rest + compressor.flush(isal_zlib.Z_FINISH if last else isal_zlib.Z_SYNC_FLUSH)


def adler32(parts: Iterable[tuple[int, int]]) -> int:
    """Return the Adler-32 of bytes whose parts have these checksums and lengths."""
    total, weighted = 1, 0
    for checksum, length in parts:
        weighted += (checksum >> 16) + length * (total - 1)
        total += (checksum & 0xFFFF) - 1
    return (weighted % ADLER_BASE) << 16 | total % ADLER_BASE


@lru_cache(maxsize=16)
def _profile_chunk(profile: bytes) -> bytes:
    return b"".join(_chunk(b"iCCP", b"ICC profile\0\0", zlib.compress(profile)))


def with_profile(file: bytes, profile: bytes) -> bytes:
    """Return a PNG file that carries an ICC profile: behind its header."""
    at = len(SIGNATURE) + 25
    return file[:at] + _profile_chunk(profile) + file[at:]


def check(file: bytes) -> None:
    """Raise ValueError unless all checksums of a PNG file are right, those that decoders pass over too."""
    at, stream = len(SIGNATURE), b""
    while at < len(file):
        end = at + 8 + int.from_bytes(file[at : at + 4], "big")
        if zlib.crc32(file[at + 4 : end]).to_bytes(4, "big") != file[end : end + 4]:
            raise ValueError(f"PNG: a wrong CRC at byte {end}")
        stream += file[at + 8 : end] if file[at + 4 : at + 8] == b"IDAT" else b""
        at = end + 4
    try:
        zlib.decompress(stream)
    except zlib.error as error:
        raise ValueError(f"PNG: {error}") from error


def _chunk(kind: bytes, *data: Part) -> tuple[Part, ...]:
    checksum = 0
    for part in (kind, *data):
        checksum = isal_zlib.crc32(part, checksum)
    return sum(map(len, data)).to_bytes(4, "big"), kind, *data, checksum.to_bytes(4, "big")
