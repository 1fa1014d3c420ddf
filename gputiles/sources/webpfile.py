"""WebP files as pictures of their own: lossy, lossless, with alpha."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from functools import partial

import imagecodecs
import numpy as np

from gputiles.errors import Damaged, Unsupported
from gputiles.sources.bytesource import ByteSource
from gputiles.sources.heads import MOST_PARTS, Head, colours, read_part
from gputiles.sources.streamsize import webp_size

_ANIMATED, _ALPHA = 0x02, 0x10


def is_webp(start: bytes) -> bool:
    """Say whether a file that starts so is a WebP file."""
    return start[:4] == b"RIFF" and start[8:12] == b"WEBP"


def read_webp(source: ByteSource) -> Head:
    """Return the head of a WebP file. Raises Damaged or Unsupported with the reason."""
    start = source.read_at(0, 30)
    promised = 8 + int.from_bytes(start[4:8], "little")
    if promised > source.size:
        raise Damaged(f"{source.name}: the WebP file is cut off: {source.size} of {promised} bytes")
    kind, flags = start[12:16], start[20]
    if kind not in (b"VP8 ", b"VP8L", b"VP8X"):
        raise Damaged(f"{source.name}: a WebP file that begins with a chunk {kind!r}")
    if kind == b"VP8X" and flags & _ANIMATED:
        raise Unsupported(f"{source.name}: animated WebP is not read; still pictures are")
    # an extended file's flag, or a bit behind the two sides of a lossless one
    transparent = {b"VP8X": flags & _ALPHA, b"VP8L": start[24] & 0x10}.get(kind, 0)
    samples = 4 if transparent else 3
    width, height = webp_size(start)
    parts = dict(_parts(source, promised)) if kind == b"VP8X" else {}
    colour, alpha = colours(samples)
    return Head(
        format="WebP",
        width=width,
        height=height,
        samples=samples,
        dtype=np.dtype(np.uint8),
        colour=colour,
        alpha=alpha,
        unpack=partial(imagecodecs.webp_decode, hasalpha=samples == 4),
        measure=webp_size,
        profile=parts.get(b"ICCP"),
        exif=parts.get(b"EXIF"),
    )


def _parts(source: ByteSource, end: int) -> Iterator[tuple[bytes, bytes]]:
    """Yield the profile and the EXIF data of an extended file, by their names."""
    position = 12
    for _ in range(MOST_PARTS):
        if position + 8 > end:
            return
        kind, size = struct.unpack("<4sI", source.read_at(position, 8))
        if kind in (b"ICCP", b"EXIF") and (data := read_part(source, position + 8, size)) is not None:
            yield kind, data
        position += 8 + size + size % 2
    raise Damaged(f"{source.name}: more than {MOST_PARTS} chunks in a WebP file")
