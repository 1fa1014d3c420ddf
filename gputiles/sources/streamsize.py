"""What an image stream says of itself before anything is decoded: its size, whether it is YCbCr."""

from __future__ import annotations

import struct

from gputiles import png
from gputiles.errors import Damaged
from gputiles.sources import jpeg

CODESTREAM = b"\xff\x4f\xff\x51"  # how one of JPEG 2000 begins: SOC and SIZ
_SYCC = (18).to_bytes(4, "big")


def jpeg2000_size(data: bytes) -> tuple[int, int]:
    """Return (width, height) of a JPEG 2000 codestream, bare or in a JP2 box."""
    start = data.find(CODESTREAM, 0, 1 << 16)
    if start < 0 or len(data) < start + 40:
        raise Damaged(f"not a JPEG 2000 stream: starts with {data[:4]!r}")
    right, bottom, left, top = struct.unpack_from(">4I", data, start + 8)
    return right - left, bottom - top


def jpeg2000_samples(data: bytes) -> int:
    """Return the number of components of a JPEG 2000 stream whose size was read."""
    start = data.find(CODESTREAM, 0, 1 << 16)
    return int.from_bytes(data[start + 40 : start + 42], "big")


def jpeg2000_components(data: bytes) -> list[tuple[int, tuple[int, int]]]:
    """Return of each component its bits, and how many pixels (across, down) a sample stands for.

    Bits are negative where samples have signs. Raises Damaged where the list is not all there.
    """
    start = data.find(CODESTREAM, 0, 1 << 16)
    count = jpeg2000_samples(data)
    table = data[start + 42 : start + 42 + 3 * count]
    if start < 0 or len(table) < 3 * count:
        raise Damaged(f"a JPEG 2000 stream that is cut off in the list of its {count} components")
    return [
        ((depth % 128 + 1) * (-1 if depth & 128 else 1), (across, down))
        for depth, across, down in zip(table[::3], table[1::3], table[2::3], strict=True)
    ]


def jpeg2000_is_ycbcr(data: bytes) -> bool:
    """Whether a JPEG 2000 stream itself says that it holds YCbCr, so that its decoder converts it.

    That is so where its first component is whole and its others are subsampled (tag SIZ), or
    where a JP2 box around it names sYCC (ISO 15444-1, A.5.1 and I.5.3.3).
    """
    start = data.find(CODESTREAM, 0, 1 << 16)
    if start < 0 or len(data) < start + 51:
        return False
    colour = data.find(b"colr\x01", 0, start)
    named = colour >= 0 and data[colour + 7 : colour + 11] == _SYCC
    components = struct.unpack_from(">H", data, start + 40)[0]
    spread = [data[at + 1 : at + 3] for at in range(start + 42, start + 42 + 3 * components, 3)]
    chroma = spread[1:]
    return named or (components == 3 and spread[0] == b"\1\1" and chroma[0] == chroma[1] != spread[0])


def check_jpeg2000_end(data: bytes) -> None:
    """Raise Damaged for a JPEG 2000 stream without an end (EOC): decoders make up what is missing."""
    if data.rfind(b"\xff\xd9") < 0:  # within coded data no such two bytes follow each other
        raise Damaged("a JPEG 2000 stream that is cut off: it has no end")


def png_size(data: bytes) -> tuple[int, int]:
    """Return (width, height) of a PNG stream."""
    if data[:8] != png.SIGNATURE or len(data) < 24:
        raise Damaged(f"not a PNG stream: starts with {data[:4]!r}")
    width, height = struct.unpack_from(">II", data, 16)
    return width, height


def webp_size(data: bytes) -> tuple[int, int]:
    """Return (width, height) of a WebP stream: lossy, lossless or extended."""
    if data[:4] != b"RIFF" or data[8:12] != b"WEBP" or len(data) < 30:
        raise Damaged(f"not a WebP stream: starts with {data[:4]!r}")
    kind = data[12:16]
    if kind == b"VP8X":
        return 1 + int.from_bytes(data[24:27], "little"), 1 + int.from_bytes(data[27:30], "little")
    if kind == b"VP8L":
        bits = int.from_bytes(data[21:25], "little")
        return 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
    width, height = struct.unpack_from("<HH", data, 26)
    return width & 0x3FFF, height & 0x3FFF


def jpeg_size(data: bytes) -> tuple[int, int]:
    """Return (width, height) of a JPEG stream."""
    header = jpeg.read_header(data)
    return header.width, header.height


def lerc_size(data: bytes) -> tuple[int, int]:
    """Return (width, height) of a LERC2 blob."""
    if data[:6] != b"Lerc2 " or len(data) < 26:
        raise Damaged(f"not a LERC2 stream: starts with {data[:6]!r}")
    version = struct.unpack_from("<i", data, 6)[0]
    at = 14 if version >= 3 else 10  # a checksum follows the version
    rows, columns = struct.unpack_from("<ii", data, at)
    return columns, rows


def lerc_samples(data: bytes) -> int:
    """Return the number of samples of LERC2 blobs one behind the other: decoders take all of them."""
    samples = at = 0
    while data[at : at + 6] == b"Lerc2 " and len(data) >= at + 46:
        version = struct.unpack_from("<i", data, at + 6)[0]
        fields = at + (14 if version >= 3 else 10) + 8
        depth = struct.unpack_from("<i", data, fields)[0] if version >= 4 else 1
        length = struct.unpack_from("<i", data, fields + (12 if version >= 4 else 8))[0]
        samples += max(depth, 1)
        at += max(length, 46)
    return samples
