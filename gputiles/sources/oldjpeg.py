"""Old-style JPEG (TIFF 6.0 section 22): a JPEG file within the file, or chunks that lack their heads.

The tables of such chunks are named by tags, or lie in the head of a JPEG file that lacks its data. The
data of each chunk begin anew, so that with a head of its own it is a stream.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from gputiles.errors import Damaged, Unsupported
from gputiles.geometry import ceil_div
from gputiles.sources import jpeg
from gputiles.sources.ifd import Directory
from gputiles.sources.imagecodec import JpegCodec

OLD_JPEG = 6
STREAM, STREAM_LENGTH = 513, 514
_PROCESS, _RESTART = 512, 515
_QUANTISATION, _DC, _AC = 519, 520, 521
_BASELINE = 1
_MOST_HEAD = 1 << 16  # bytes before the scan
_MOST_COMPONENTS = 4
_SOI, _EOI = b"\xff\xd8", b"\xff\xd9"
_DQT, _DHT, _DRI, _SOF, _SOS = 0xDB, 0xC4, 0xDD, 0xC0, 0xDA
_RESTARTED = re.compile(rb"\xff[\xd0-\xd7]")  # within coded data nothing else looks like it


def is_one_file(tags: Directory, samples: int) -> bool:
    """Whether all of a page lies in one JPEG file within the file, however its data are told apart."""
    offset, size = _place(tags)
    width, height = tags.integer(256, 0), tags.integer(257, 0)
    blocks = ceil_div(width, 8) * ceil_div(height, 8)
    if offset <= 0 or not 8 * size > blocks or offset + size > tags.source.size:
        return False
    try:
        header = jpeg.read_header(tags.source.read_at(offset, min(size, _MOST_HEAD)))
    except Damaged:
        return False
    fits = (header.width, header.height, len(header.components)) == (width, height, samples)
    return fits and header.scan > 0 and 8 * (size - header.scan) >= blocks


def _place(tags: Directory) -> tuple[int, int]:
    return tags.integer(STREAM, 0), tags.integer(STREAM_LENGTH, 0)


@dataclass(frozen=True, slots=True)
class Head:
    """What chunks lack: ``tables`` as a JPEG file without a picture, and what else stands before data.

    ``components`` are the specifications of a frame's components, three bytes each.
    """

    tables: bytes
    components: bytes
    scan: bytes
    restart: int = 0

    def before(self, width: int, height: int) -> bytes:
        """Return what makes a stream of ``width`` × ``height`` pixels of data that follow."""
        size = height.to_bytes(2, "big") + width.to_bytes(2, "big")
        frame = b"\x08" + size + bytes([len(self.components) // 3]) + self.components
        restart = _segment(_DRI, self.restart.to_bytes(2, "big")) if self.restart else b""
        return _SOI + restart + _segment(_SOF, frame) + _segment(_SOS, self.scan)


@dataclass(frozen=True, slots=True)
class OldJpegCodec:
    """Decodes chunks that lack their ``head``; those that have one are streams already."""

    codec: JpegCodec
    head: Head

    @property
    def compression(self) -> int:
        """The compression of the streams."""
        return self.codec.compression

    def decode(self, data: bytes, width: int, height: int) -> NDArray[Any]:
        """Decode ``data`` to (height, width, samples)."""
        if max(width, height) > 0xFFFF:
            raise Damaged(f"an old-style JPEG chunk of {width}x{height} pixels; most {0xFFFF} a side")
        if not data.startswith(_SOI):
            data = self.head.before(width, height) + _counted_anew(data)
        return self.codec.decode(data, width, height)


def _counted_anew(data: bytes) -> bytes:
    """Return coded data whose restarts count from 0 on: those of a chunk may go on from the last one's."""
    numbers = iter(range(len(data)))
    return _RESTARTED.sub(lambda _: bytes((0xFF, 0xD0 + next(numbers) % 8)), data)


def read_head(
    tags: Directory, samples: int, spread: tuple[int, int], sizes: Sequence[tuple[int, int]]
) -> Head:
    """Return what the chunks of a page lack, from its tags or the head of a JPEG file.

    ``spread`` says how many pixels share a chroma sample; a head's picture must be of one of the ``sizes``
    (width, height). Raises Unsupported where the page has neither, Damaged for tables that are none.
    """
    reason = f"{tags.source.name}: old-style JPEG (compression 6)"
    if tags.integer(_PROCESS, _BASELINE) != _BASELINE or not 1 <= samples <= _MOST_COMPONENTS:
        raise Unsupported(f"{reason} of process {tags.integer(_PROCESS, _BASELINE)} is not read")
    if not all(code in tags for code in (_QUANTISATION, _DC, _AC)):
        return _from_stream(tags, samples, sizes, reason)
    first = spread[0] << 4 | spread[1] if samples == 3 else 0x11
    components = b"".join(bytes((n + 1, 0x11 if n else first, n)) for n in range(samples))
    return Head(_from_tags(tags, samples), components, _scan(components, samples), tags.integer(_RESTART, 0))


def _from_tags(tags: Directory, samples: int) -> bytes:
    """Return the tables that tags 519 to 521 point to, one of each kind for each component."""
    parts = []
    for code, marker, kind, read in (
        (_QUANTISATION, _DQT, 0, _quantisation), (_DC, _DHT, 0, _huffman), (_AC, _DHT, 0x10, _huffman),
    ):  # fmt: skip
        offsets = tags.integers(code, samples)
        if len(offsets) < samples:
            raise Damaged(f"{tags.source.name}: {len(offsets)} tables (tag {code}) of {samples} components")
        parts += [
            _segment(marker, bytes((kind | n,)) + _read_table(read, tags, offset))
            for n, offset in enumerate(offsets)
        ]
    return _SOI + b"".join(parts) + _EOI


def _read_table(read: Callable[[Directory, int], bytes], tags: Directory, offset: int) -> bytes:
    if offset <= 0:
        raise Damaged(f"{tags.source.name}: a table of old-style JPEG at {offset}")
    return read(tags, offset)


def _quantisation(tags: Directory, offset: int) -> bytes:
    return tags.source.read_at(offset, 64)


def _huffman(tags: Directory, offset: int) -> bytes:
    counts = tags.source.read_at(offset, 16)
    if sum(counts) > 256:
        raise Damaged(f"{tags.source.name}: a Huffman table of {sum(counts)} codes; most 256")
    return counts + tags.source.read_at(offset + 16, sum(counts))


def _from_stream(tags: Directory, samples: int, sizes: Sequence[tuple[int, int]], reason: str) -> Head:
    """Return the head of the JPEG file whose data lie elsewhere."""
    offset, size = _place(tags)
    room = tags.source.size - offset
    if offset <= 0 or room <= 0 or tags.source.read_at(offset, min(2, room)) != _SOI:
        raise Unsupported(f"{reason} that is not one JPEG file and has no tables is not read")
    data = tags.source.read_at(offset, min(size if size > 0 else _MOST_HEAD, _MOST_HEAD, room))
    tables, restart, frame, scan = b"", tags.integer(_RESTART, 0), b"", b""
    for marker, start, end in jpeg.segments(data):
        payload = data[start:end]
        if marker in (_DQT, _DHT):
            tables += _segment(marker, payload)
        elif marker == _DRI:
            restart = int.from_bytes(payload[:2], "big")
        elif marker == _SOF:
            frame = payload
        elif marker == _SOS:
            scan = payload
    told = int.from_bytes(frame[3:5], "big"), int.from_bytes(frame[1:3], "big")
    if len(frame) != 6 + 3 * samples or frame[0] != 8 or frame[5] != samples or told not in sizes:
        raise Unsupported(f"{reason} that is not one JPEG file, of a head that does not fit, is not read")
    components = frame[6:]
    whole = scan and scan[0] == samples
    return Head(_SOI + tables + _EOI, components, scan if whole else _scan(components, samples), restart)


def _scan(components: bytes, samples: int) -> bytes:
    """Return the description of a scan of all components, each with the tables of its number."""
    entries = b"".join(bytes((components[3 * n], n << 4 | n)) for n in range(samples))
    return bytes((samples,)) + entries + b"\x00\x3f\x00"


def _segment(marker: int, payload: bytes) -> bytes:
    return bytes((0xFF, marker)) + (len(payload) + 2).to_bytes(2, "big") + payload
