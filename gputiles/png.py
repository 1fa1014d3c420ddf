"""PNG framing: the chunks around a compressed stream of filtered rows (PNG specification, 5)."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterable
from functools import lru_cache

SIGNATURE = b"\x89PNG\r\n\x1a\n"
COLOUR_TYPES = {1: 0, 2: 4, 3: 2, 4: 6}  # samples of a pixel → colour type
UP = 2  # the filter that subtracts the row above
END = b"\x00\x00\x00\x00IEND\xaeB`\x82"


def frame(stream: bytes, width: int, height: int, samples: int, bits: int = 8) -> bytes:
    """Return the PNG file of a zlib ``stream`` of filtered rows of ``samples`` × ``bits``."""
    header = struct.pack(">IIBBBBB", width, height, bits, COLOUR_TYPES[samples], 0, 0, 0)
    return b"".join((SIGNATURE, _chunk(b"IHDR", header), _chunk(b"IDAT", stream), END))


def zlib_stream(parts: Iterable[bytes | memoryview], checksum: int) -> bytes:
    """Return the parts of a deflate stream as a zlib stream (RFC 1950); ``checksum`` is Adler-32."""
    return b"".join((b"\x78\x01", *parts, checksum.to_bytes(4, "big")))


@lru_cache(maxsize=16)
def _profile_chunk(profile: bytes) -> bytes:
    return _chunk(b"iCCP", b"ICC profile\0\0" + zlib.compress(profile))


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


def _chunk(kind: bytes, data: bytes) -> bytes:
    checksum = zlib.crc32(data, zlib.crc32(kind))
    return b"".join((len(data).to_bytes(4, "big"), kind, data, checksum.to_bytes(4, "big")))
