"""JPEG 2000 files as pictures of their own: a codestream, bare or in the boxes of JP2."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import imagecodecs
import numpy as np
from numpy.typing import NDArray

from gputiles.errors import Damaged, Unsupported
from gputiles.image import Alpha, Colour
from gputiles.sources.bytesource import ByteSource
from gputiles.sources.colour import straighten
from gputiles.sources.heads import MOST_PARTS, Head, colours, read_part
from gputiles.sources.streamsize import CODESTREAM, jpeg2000_size

BOXED, BARE = b"\0\0\0\x0cjP  ", CODESTREAM
_END = b"\xff\xd9"
_MOST_COMPONENTS = 256
_CMYK = 12
_OPACITY, _PREMULTIPLIED = 1, 2  # types of a cdef box
_PROFILED = (2, 3)  # methods of a colr box


@dataclass(frozen=True, slots=True)
class _Boxes:
    """What the boxes around a codestream say, and where it starts."""

    start: int
    parts: dict[bytes, bytes]


def read_jp2(source: ByteSource) -> Head:
    """Return the head of a JPEG 2000 file. Raises Damaged or Unsupported with the reason."""
    bare = source.read_at(0, 4) == BARE
    boxes = _Boxes(0, {}) if bare else _read_boxes(source)
    width, height, components, precision, signed = _read_size(source, boxes.start)
    if b"pclr" in boxes.parts:
        raise Unsupported(f"{source.name}: JPEG 2000 with a palette is not read")
    colour, alpha = _meaning(source.name, components, boxes.parts.get(b"cdef"))
    profile, space = _colours(boxes.parts.get(b"colr", b""))
    if space == _CMYK:
        raise Unsupported(f"{source.name}: JPEG 2000 of inks (CMYK) is not read")
    return Head(
        format="JPEG 2000",
        width=width,
        height=height,
        samples=components,
        dtype=np.dtype(f"{'i' if signed else 'u'}{1 if precision <= 8 else 2}"),
        colour=colour,
        alpha=Alpha.NONE if alpha is Alpha.NONE else Alpha.STRAIGHT,
        unpack=_unpack_premultiplied if alpha is Alpha.PREMULTIPLIED else _unpack,
        measure=jpeg2000_size,
        significant_bits=precision if precision not in (8, 16) and not signed else None,
        profile=profile,
    )


def _read_size(source: ByteSource, start: int) -> tuple[int, int, int, int, bool]:
    """Return width, height, components, their bits and whether they are signed (ISO 15444-1, A.5.1)."""
    head = source.read_at(start, 42)
    if head[:4] != BARE:
        raise Damaged(f"{source.name}: no JPEG 2000 codestream at byte {start}: it starts with {head[:4]!r}")
    right, bottom, left, top = struct.unpack_from(">4I", head, 8)
    (components,) = struct.unpack_from(">H", head, 40)
    if right <= left or bottom <= top or not components:
        raise Damaged(f"{source.name}: a JPEG 2000 file of {right - left}x{bottom - top} pixels")
    if components > _MOST_COMPONENTS:
        raise Unsupported(f"{source.name}: JPEG 2000 of {components} components; most {_MOST_COMPONENTS}")
    table = source.read_at(start + 42, 3 * components)
    if len(set(table[::3])) > 1:
        raise Unsupported(f"{source.name}: JPEG 2000 whose components differ in bits or sign is not read")
    steps = {table[at + 1 : at + 3] for at in range(0, len(table), 3)}
    if steps != {b"\1\1"} and (components != 3 or table[1:3] != b"\1\1" or table[4:6] != table[7:9]):
        raise Unsupported(
            f"{source.name}: JPEG 2000 with subsampled components other than chroma is not read"
        )
    precision = (table[0] & 0x7F) + 1
    if precision > 16:
        raise Unsupported(
            f"{source.name}: JPEG 2000 of {precision}-bit samples is not read; 1 to 16 bits are"
        )
    return right - left, bottom - top, components, precision, bool(table[0] & 0x80)


def _meaning(name: str, components: int, definitions: bytes | None) -> tuple[Colour, Alpha]:
    """Return what the components mean, by the box cdef or else by their number."""
    if definitions is None:
        return colours(components) if components <= 4 else (Colour.GREY, Alpha.NONE)
    kinds = _kinds(definitions, components)
    alphas = [index for index, kind in enumerate(kinds) if kind in (_OPACITY, _PREMULTIPLIED)]
    if alphas and alphas != [components - 1]:
        raise Unsupported(f"{name}: JPEG 2000 whose alpha is not its last component is not read")
    plain = components - len(alphas)
    colour = Colour.RGB if plain == 3 else Colour.GREY
    if not alphas:
        return colour, Alpha.NONE
    return colour, Alpha.PREMULTIPLIED if kinds[-1] == _PREMULTIPLIED else Alpha.STRAIGHT


def _kinds(definitions: bytes, components: int) -> list[int]:
    """Return the type of each component, 0 (colour) where the box cdef says nothing of it."""
    kinds = [0] * components
    for at in range(2, len(definitions) - 5, 6):
        index, kind, _ = struct.unpack_from(">HHH", definitions, at)
        if index < components:
            kinds[index] = kind
    return kinds


def _colours(box: bytes) -> tuple[bytes | None, int]:
    """Return the ICC profile of a box colr, or the number of its colour space."""
    if len(box) < 7:
        return None, 0
    return (box[3:], 0) if box[0] in _PROFILED else (None, int.from_bytes(box[3:7], "big"))


def _read_boxes(source: ByteSource) -> _Boxes:
    """Return the boxes of the header, the first of each name, and the place of the codestream."""
    parts: dict[bytes, bytes] = {}
    for kind, offset, size in _boxes(source, 0, source.size):
        if kind == b"jp2c":
            return _Boxes(offset, parts)
        if kind == b"jp2h":
            for inner, at, length in _boxes(source, offset, offset + size):
                data = read_part(source, at, length)
                if data is not None:
                    parts.setdefault(inner, data)
    raise Damaged(f"{source.name}: a JP2 file without a codestream (jp2c)")


def _boxes(source: ByteSource, position: int, end: int) -> Iterator[tuple[bytes, int, int]]:
    """Yield (name, offset, size) of the contents of boxes (ISO 15444-1, I.4)."""
    for _ in range(MOST_PARTS):
        if position + 8 > end:
            return
        size, kind = struct.unpack(">I4s", source.read_at(position, 8))
        head = 8
        if size == 1:
            (size,), head = struct.unpack(">Q", source.read_at(position + 8, 8)), 16
        size = end - position if size == 0 else size
        if size < head:
            raise Damaged(f"{source.name}: a JP2 box of {size} bytes at {position}")
        yield kind, position + head, size - head
        position += size
    raise Damaged(f"{source.name}: more than {MOST_PARTS} boxes in a JP2 file")


def _unpack(data: bytes) -> NDArray[Any]:
    """Decode a JPEG 2000 file. Raises Damaged where its codestream has no end."""
    if _END not in data[-(1 << 16) :]:  # boxes may follow
        raise Damaged("the JPEG 2000 file is cut off: it has no end (EOC)")
    return np.asarray(imagecodecs.jpeg2k_decode(data, numthreads=1))


def _unpack_premultiplied(data: bytes) -> NDArray[Any]:
    return straighten(_unpack(data))
