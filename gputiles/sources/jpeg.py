"""JPEG streams as TIFF files hold them: headers, shared tables, colour markers.

The colour of a three-component stream: an Adobe marker decides, then a JFIF marker
(YCbCr), then tag 262 of the page. libjpeg and browsers know only the markers and take
component ids 1, 2, 3 for YCbCr, so a stream that is handed out needs the right marker.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

from gputiles.backends.hostlib import installed
from gputiles.errors import Damaged

_STANDALONE = {0x01, *range(0xD0, 0xD9)}
_FRAMES = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}
_SEQUENTIAL = (0xC0, 0xC1)
MOST_SCANS = 100  # encoders make about ten
_START, _STOP, _SCAN, _APP0, _APP14 = 0xD8, 0xD9, 0xDA, 0xE0, 0xEE
END = b"\xff\xd9"
ADOBE_RGB = b"\xff\xee\x00\x0eAdobe\x00\x64\x00\x00\x00\x00\x00"
_JFIF = b"\xff\xe0\x00\x10JFIF\x00\x01\x01\x00\x00\x01\x00\x01\x00\x00"


@dataclass(frozen=True, slots=True)
class Header:
    """What a stream says before its first scan; ``adobe`` is the transform of its marker.

    ``scanned`` are the components of the first scan, whose data begin at byte ``scan``.
    """

    width: int
    height: int
    precision: int
    components: tuple[int, ...]
    frame: int
    jfif: bool = False
    adobe: int | None = None
    icc: bool = False
    scanned: int = 0
    scan: int = 0

    def is_rgb(self, said_rgb: bool, shared: int | None = None) -> bool:
        """Whether three components are RGB, where the container says ``said_rgb``.

        ``shared`` is the transform of an Adobe marker among shared tables; the stream's own comes first.
        """
        adobe = shared if self.adobe is None else self.adobe
        if adobe is not None:
            return adobe == 0
        if self.jfif:
            return False
        return said_rgb or self.components == tuple(b"RGB")


def segments(data: bytes) -> Iterator[tuple[int, int, int]]:
    """Yield (marker, start, end) of every segment's payload up to the first scan."""
    if data[:2] != b"\xff\xd8":
        raise Damaged(f"not a JPEG stream: starts with {data[:4]!r}")
    position = 2
    while position + 4 <= len(data):
        if data[position] != 0xFF:
            raise Damaged(f"a JPEG stream without a marker at byte {position}")
        marker = data[position + 1]
        if marker == 0xFF:  # fill byte
            position += 1
            continue
        if marker in _STANDALONE:
            position += 2
            continue
        if marker == _STOP:
            return
        length = int.from_bytes(data[position + 2 : position + 4], "big")
        if length < 2:
            raise Damaged(f"a JPEG segment of {length} bytes at byte {position}")
        yield marker, position + 4, position + 2 + length
        if marker == _SCAN:
            return
        position += 2 + length


def read_header(data: bytes) -> Header:
    """Read the header of a stream; Damaged where there is no frame before the first scan."""
    jfif, icc = False, False
    adobe: int | None = None
    scanned = scan = 0
    frame: tuple[int, int, int, tuple[int, ...], int] | None = None
    for marker, start, end in segments(data):
        payload = data[start:end]
        if marker in _FRAMES and len(payload) >= 6:
            precision, height, width, count = struct.unpack(">BHHB", payload[:6])
            ids = tuple(payload[6 : 6 + 3 * count : 3])
            frame = (width, height, precision, ids, marker)
        elif marker == _APP0 and payload.startswith(b"JFIF\0"):
            jfif = True
        elif marker == 0xE2 and payload.startswith(b"ICC_PROFILE\0"):
            icc = True
        elif marker == _APP14 and payload.startswith(b"Adobe") and len(payload) >= 12:
            adobe = payload[11]
        elif marker == _SCAN and payload:
            scanned, scan = payload[0], end
    if frame is None:
        raise Damaged("a JPEG stream without an image")
    return Header(*frame, jfif=jfif, adobe=adobe, icc=icc, scanned=scanned, scan=scan)


def check_scans(header: Header, data: bytes) -> None:
    """Raise Damaged for a stream of very many scans: each of them goes over all blocks again."""
    if header.frame in _SEQUENTIAL and header.scanned == len(header.components):
        return  # decoders read no scan behind one of all components; counting takes as long as half of them
    scans = data.count(b"\xff\xda")  # within coded data no such two bytes follow each other
    if scans > MOST_SCANS:
        raise Damaged(f"a JPEG stream of {scans} scans; most {MOST_SCANS}")


def ended(data: bytes, header: Header, tables: bytes | None = None) -> bytes:
    """Return a stream with an end: its own, or one put in where nothing else is missing.

    ``tables`` are the page's. Raises Damaged for a stream that is cut off: decoders make up the rest.
    """
    if data.rfind(END, header.scan) >= 0:  # within coded data no such two bytes follow each other
        return data
    whole = splice(data, tables)
    stop = _stop(whole)
    if stop < 0:
        raise Damaged("a JPEG stream that is cut off: it has no end (EOI), and not all of its pixels")
    return whole[:stop] + END


def _stop(data: bytes) -> int:
    """Return the byte behind a stream's coded data, -1 where they are not all there.

    Zeros at the end may be room for bytes that never came; a single one whose bits are all needed is data,
    which no bits that fill up a byte had to follow.
    """
    held = data.rstrip(b"\0")
    stripped = len(data) - len(held)
    if stripped and held.endswith(b"\xff"):
        held, stripped = held + b"\0", stripped - 1
    stop = installed().jpeg_end(held)
    return installed().jpeg_end(held + b"\0", whole=True) if stop < 0 and stripped == 1 else stop


@lru_cache(64)
def adobe_transform(tables: bytes | None) -> int | None:
    """Return the transform that an Adobe marker among shared tables gives, if there is one."""
    try:
        for marker, start, end in segments(tables or b"\xff\xd8"):
            if marker == _APP14 and tables and tables[start:end].startswith(b"Adobe") and end - start >= 12:
                return tables[start + 11]
    except Damaged:  # the decoder says what is wrong with the tables
        pass
    return None


def splice(data: bytes, tables: bytes | None) -> bytes:
    """Return the stream with the page's shared tables (tag 347) put in after its start."""
    if not tables or len(tables) < 4:
        return data
    inner = tables[2:] if tables[:2] == b"\xff\xd8" else tables
    inner = inner[:-2] if inner[-2:] == b"\xff\xd9" else inner
    return b"\xff\xd8" + inner + data[2:]


def publish(data: bytes, said_rgb: bool) -> bytes | None:
    """Return a stream that a browser shows rightly, or None.

    Puts in the Adobe marker for RGB, the JFIF marker for YCbCr, where there is none. None
    for what browsers do not show: other than 8 bits, 1 or 3 components, baseline or
    progressive Huffman coding, an embedded profile, or a stream that is cut off or goes on
    behind its end. A stream that lacks its end marker alone gets one.
    """
    header = read_header(data)
    plain = header.precision == 8 and header.frame in (0xC0, 0xC1, 0xC2) and not header.icc
    if not plain or len(header.components) not in (1, 3):
        return None
    try:
        end = ended(data, header).rstrip(b"\0")
    except Damaged:
        return None
    if not end.endswith(END):
        return None
    if header.adobe is not None or header.jfif:
        return end
    if len(header.components) == 3 and header.is_rgb(said_rgb):
        return b"\xff\xd8" + ADOBE_RGB + end[2:]
    return b"\xff\xd8" + _JFIF + end[2:]
