"""JPEG files as pictures of their own: their segments up to the scan, their end, their decoder."""

from __future__ import annotations

import re
import struct
from typing import Any

import imagecodecs
import numpy as np
from numpy.typing import NDArray

from gputiles.errors import Damaged, Unsupported
from gputiles.geometry import ceil_div
from gputiles.image import Alpha, Colour
from gputiles.sources import jpeg
from gputiles.sources.bytesource import ByteSource
from gputiles.sources.colour import cmyk_to_rgb, in_bands
from gputiles.sources.heads import MOST_PARTS, Head
from gputiles.sources.streamsize import jpeg_size

SIGNATURE = b"\xff\xd8\xff"
_HUFFMAN = (0xC0, 0xC1, 0xC2)
_MARKER = re.compile(rb"\xff+[^\x00\xff\xd0-\xd7]")  # in a scan: neither a byte 255 nor a restart
_SCAN, _END, _COMMENT, _EXIF, _ICC = 0xDA, 0xD9, 0xFE, 0xE1, 0xE2
_PER_MM = {1: 1 / 25.4, 2: 1 / 10}  # JFIF's units: per inch, per centimetre
_MOST_HEAD = 1 << 25  # bytes before the first scan


def read_jpeg(source: ByteSource) -> Head:
    """Return the head of a JPEG file. Raises Damaged or Unsupported with the reason."""
    data = _before_scan(source)
    header = jpeg.read_header(data)
    samples = _check(source.name, header)
    _check_length(source, header)
    parts = [(marker, data[start:end]) for marker, start, end in jpeg.segments(data)]
    return Head(
        format="JPEG",
        width=header.width,
        height=header.height,
        samples=samples,
        dtype=np.dtype(np.uint8),
        colour=Colour.GREY if samples == 1 else Colour.RGB,
        alpha=Alpha.NONE,
        unpack=unpack_jpeg,
        measure=jpeg_size,
        profile=_profile(parts),
        inks=len(header.components) == 4,
        exif=next((part for marker, part in parts if marker == _EXIF and part[:6] == b"Exif\0\0"), None),
        comments=tuple(part.decode("utf-8", "replace") for marker, part in parts if marker == _COMMENT),
        density=_density(parts),
    )


def _check(name: str, header: jpeg.Header) -> int:
    """Return how many samples are served."""
    if header.frame not in _HUFFMAN:
        raise Unsupported(f"{name}: JPEG coding process SOF{header.frame - 0xC0} is not read; 0, 1 and 2 are")
    if header.precision != 8:
        raise Unsupported(f"{name}: JPEG of {header.precision}-bit samples is not read; 8-bit samples are")
    if len(header.components) not in (1, 3, 4):
        raise Unsupported(f"{name}: JPEG of {len(header.components)} components is not read; 1, 3 and 4 are")
    if not header.width or not header.height:
        raise Damaged(f"{name}: a JPEG file of {header.width}x{header.height} pixels has no pixels")
    return 1 if len(header.components) == 1 else 3


def _check_length(source: ByteSource, header: jpeg.Header) -> None:
    """Raise Damaged where the file is too short for its pixels: the rest of them would be grey.

    Each block of 8x8 pixels takes at least the one bit that its mean is coded with.
    """
    blocks = ceil_div(header.width, 8) * ceil_div(header.height, 8)
    if 8 * source.size < blocks:
        raise Damaged(
            f"{source.name}: a JPEG file of {source.size} bytes cannot hold"
            f" {header.width}x{header.height} pixels"
        )


def _before_scan(source: ByteSource) -> bytes:
    """Read the file up to the end of its first scan's header."""
    position, parts = 2, [source.read_at(0, 2)]
    for _ in range(MOST_PARTS):
        head = source.read_at(position, 4)
        if head[0] != 0xFF:
            raise Damaged(f"{source.name}: a JPEG file without a marker at byte {position}")
        if head[1] == 0xFF:  # a fill byte
            position += 1
            continue
        size = 2 + int.from_bytes(head[2:], "big")
        parts.append(source.read_at(position, size))
        position += size
        if head[1] == _SCAN:
            return b"".join(parts)
        if position > _MOST_HEAD:
            break
    raise Damaged(f"{source.name}: no scan in the first {position} bytes of a JPEG file")


def _profile(parts: list[tuple[int, bytes]]) -> bytes | None:
    """Put the profile's pieces together: each has its number and the number of all."""
    pieces = [part[12:] for marker, part in parts if marker == _ICC and part[:12] == b"ICC_PROFILE\0"]
    pieces = sorted(piece for piece in pieces if len(piece) > 2)
    return b"".join(piece[2:] for piece in pieces) or None


def _density(parts: list[tuple[int, bytes]]) -> tuple[float, float] | None:
    for marker, part in parts:
        if marker == 0xE0 and part[:5] == b"JFIF\0" and len(part) >= 12 and part[7] in _PER_MM:
            across, down = struct.unpack_from(">HH", part, 8)
            return across * _PER_MM[part[7]], down * _PER_MM[part[7]]
    return None


def unpack_jpeg(data: bytes) -> NDArray[Any]:
    """Decode a JPEG file to grey or RGB; inks are mixed without a profile.

    Raises Damaged where the file is cut off, or what the decoder raises.
    """
    header = jpeg.read_header(data)
    if not has_end(data):
        data = jpeg.ended(data, header)
    if len(header.components) != 4:
        return np.asarray(imagecodecs.jpeg8_decode(data))
    inks = np.asarray(imagecodecs.jpeg8_decode(data, outcolorspace="CMYK"))
    inverted = header.adobe is not None  # Adobe's programs store how much light is left
    return in_bands(lambda band: cmyk_to_rgb(~band if inverted else band), inks)


def has_end(data: bytes) -> bool:
    """Say whether a stream has an end marker: decoders would fill what is cut off with grey.

    Raises Damaged for what is no stream, or of very many scans.
    """
    position, scans = 2, 0
    for _ in range(MOST_PARTS):
        marker = _MARKER.search(data, position)
        if marker is None:
            break
        if not scans and marker.start() != position:
            raise Damaged(f"a JPEG file without a marker at byte {position}")
        position = marker.end()
        kind = data[position - 1]
        if kind == _END:
            return True
        position += int.from_bytes(data[position : position + 2], "big")
        scans += kind == _SCAN
        if scans > jpeg.MOST_SCANS:
            raise Damaged(f"a JPEG file of more than {jpeg.MOST_SCANS} scans")
    return False
