"""PNG files: their chunks up to the pixels, and their decoder."""

from __future__ import annotations

import ctypes
import struct
import zlib
from collections.abc import Iterator
from typing import Any

import imagecodecs
import numpy as np
from isal import isal_zlib
from numpy.typing import NDArray

from gputiles import png
from gputiles.errors import Damaged
from gputiles.sources.bytecodec import DECODER_ERRORS
from gputiles.sources.bytesource import ByteSource
from gputiles.sources.heads import MOST_PART, MOST_PARTS, Head, colours, read_part
from gputiles.sources.streamsize import png_size

_HEADER = struct.Struct(">IIBBBBB")
_SAMPLES = {0: 1, 2: 3, 3: 3, 4: 2, 6: 4}
_BITS = {0: (1, 2, 4, 8, 16), 2: (8, 16), 3: (1, 2, 4, 8), 4: (8, 16), 6: (8, 16)}
_WANTED = (b"tRNS", b"iCCP", b"eXIf", b"pHYs", b"acTL")
_METRE = 1  # pHYs' unit


def read_png(source: ByteSource) -> Head:
    """Return the head of a PNG file. Raises Damaged with the reason."""
    width, height, bits, kind = _read_header(source)
    parts, warnings = _read_parts(source)
    samples = _SAMPLES[kind] + (b"tRNS" in parts and kind in (0, 2, 3))
    colour, alpha = colours(samples)
    if b"acTL" in parts:
        warnings.append("the animation is not shown: only the file's still picture is")
    return Head(
        format="PNG",
        width=width,
        height=height,
        samples=samples,
        dtype=np.dtype(np.uint16 if bits == 16 else np.uint8),
        colour=colour,
        alpha=alpha,
        unpack=unpack_png,
        measure=png_size,
        profile=_profile(parts.get(b"iCCP"), warnings),
        exif=parts.get(b"eXIf"),
        density=_density(parts.get(b"pHYs", b"")),
        warnings=tuple(warnings),
    )


def _read_header(source: ByteSource) -> tuple[int, int, int, int]:
    """Return width, height, bits and colour type."""
    head = source.read_at(0, 33)
    width, height, bits, kind, compression, filters, interlace = _HEADER.unpack_from(head, 16)
    if head[12:16] != b"IHDR" or zlib.crc32(head[12:29]) != int.from_bytes(head[29:33], "big"):
        raise Damaged(f"{source.name}: the PNG file's header (IHDR) is damaged")
    if bits not in _BITS.get(kind, ()) or compression or filters or interlace > 1 or not width or not height:
        raise Damaged(
            f"{source.name}: no PNG file is of {width}x{height} pixels, {bits} bits, colour type {kind},"
            f" compression {compression}, filter {filters}, interlace {interlace}"
        )
    return width, height, bits, kind


def _read_parts(source: ByteSource) -> tuple[dict[bytes, bytes], list[str]]:
    """Return the wanted chunks before the pixels, and what is wrong with the others."""
    parts: dict[bytes, bytes] = {}
    warnings: list[str] = []
    for kind, offset, size in _chunks(source):
        if kind in _WANTED:
            data = read_part(source, offset, size)
            if data is None:
                warnings.append(f"the chunk {kind.decode()} of {size} bytes is not read; most {MOST_PART}")
            else:
                parts.setdefault(kind, data)
    return parts, warnings


def _chunks(source: ByteSource) -> Iterator[tuple[bytes, int, int]]:
    """Yield (name, offset, size) of the chunks between the header and the pixels."""
    position = 33
    for _ in range(MOST_PARTS):
        size, kind = struct.unpack(">I4s", source.read_at(position, 8))
        if kind == b"IDAT":
            return
        if kind == b"IEND":
            raise Damaged(f"{source.name}: a PNG file without pixels (IDAT)")
        yield kind, position + 8, size
        position += 12 + size
    raise Damaged(f"{source.name}: more than {MOST_PARTS} chunks before a PNG file's pixels")


def _profile(data: bytes | None, warnings: list[str]) -> bytes | None:
    """Return the profile of an iCCP chunk: a name, a zero, the method, a zlib stream."""
    if data is None:
        return None
    packed = data.partition(b"\0")[2][1:]
    try:
        return isal_zlib.decompressobj().decompress(packed, MOST_PART)
    except DECODER_ERRORS as error:
        warnings.append(f"the ICC profile is not applied: it does not decompress: {error}")
        return None


def _density(data: bytes) -> tuple[float, float] | None:
    if len(data) != 9 or data[8] != _METRE:
        return None
    across, down = struct.unpack(">II", data[:8])
    return across / 1000, down / 1000


def unpack_png(data: bytes) -> NDArray[Any]:
    """Decode a PNG file; palettes become colours, and colours that are transparent get alpha.

    Raises Damaged where the file ends too early, or what the decoder raises.
    """
    if png.END not in data[-(1 << 16) :]:  # some writers leave bytes behind the end
        raise Damaged("the PNG file is cut off: it has no end (IEND)")
    try:
        return np.asarray(imagecodecs.png_decode(data))
    except DECODER_ERRORS:
        # imagecodecs 2026.3.6 releases None once too often with each error, which would end a
        # Python 3.11 in time; a reference too many does no harm
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(None))
        raise
