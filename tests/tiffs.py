"""TIFF files written tag by tag: what writers of the field make and libraries do not write."""

from __future__ import annotations

import io
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

CODES = {2: "s", 3: "H", 4: "I", 12: "d", 16: "Q"}
Tags = dict[int, tuple[int, Any]]


@dataclass(frozen=True)
class Written:
    """A page to write: {tag: (type, values)} and the bytes of its chunks."""

    tags: Tags
    chunks: Sequence[bytes] = field(default_factory=list)


def page(width: int, height: int, chunks: Sequence[bytes], more: Mapping[int, tuple[int, Any]]) -> Written:
    """Return a page in one strip, or with tags 322 and 323 in tiles; ``more`` are its other tags."""
    plain: Tags = {256: (4, width), 257: (4, height), 258: (3, 8), 259: (3, 1), 262: (3, 1), 277: (3, 1)}
    return Written({**plain, **more}, chunks)


def tiff(*pages: Written, order: str = "<", big: bool = False) -> io.BytesIO:
    """Return a TIFF or BigTIFF file of the pages, each with its chunks before its directory."""
    file = io.BytesIO()
    word, code = ("Q", 16) if big else ("I", 4)
    head = struct.pack(f"{order}HHH", 43, 8, 0) if big else struct.pack(f"{order}H", 42)
    file.write({"<": b"II", ">": b"MM"}[order] + head)
    link = file.tell()
    file.write(bytes(struct.calcsize(word)))
    for each in pages:
        tags = dict(each.tags)
        if each.chunks:
            places = [_append(file, chunk) if chunk else 0 for chunk in each.chunks]
            tiled = 322 in tags
            tags[324 if tiled else 273] = (code, places)
            tags[325 if tiled else 279] = (code, [len(chunk) for chunk in each.chunks])
        table = _directory(file, tags, order, big)
        at = _append(file, table + bytes(struct.calcsize(word)))
        file.seek(link)
        file.write(struct.pack(order + word, at))
        link = at + len(table)
    file.seek(0)
    return file


def tiff_behind(data: bytes, page_: Written, order: str = "<") -> io.BytesIO:
    """Return a TIFF file of one page and of ``data``, which lie at byte 8 for tags to point at."""
    written = tiff(page(1, 1, [data], {}), page_, order=order).getvalue()
    word, short = order + "I", order + "H"
    first = struct.unpack_from(word, written, 4)[0]
    following = first + 2 + 12 * struct.unpack_from(short, written, first)[0]
    return io.BytesIO(written[:4] + written[following : following + 4] + written[8:])


def _append(file: io.BytesIO, data: bytes) -> int:
    at = file.seek(0, io.SEEK_END)
    if at % 2:
        file.write(b"\0")
    file.write(data)
    return at + at % 2


def _directory(file: io.BytesIO, tags: Tags, order: str, big: bool) -> bytes:
    inline, count, entry = (8, "Q", "HHQ") if big else (4, "H", "HHI")
    table = struct.pack(order + count, len(tags))
    for number, (kind, values) in sorted(tags.items()):
        data, length = _packed(kind, values, order)
        if len(data) > inline:
            data = struct.pack(order + ("Q" if big else "I"), _append(file, data))
        table += struct.pack(order + entry, number, kind, length) + data.ljust(inline, b"\0")
    return table


def _packed(kind: int, values: Any, order: str) -> tuple[bytes, int]:
    if isinstance(values, bytes):
        return values, len(values)
    if kind == 2:
        text = values.encode() + b"\0"
        return text, len(text)
    many = values if isinstance(values, Sequence) else [values]
    return struct.pack(f"{order}{len(many)}{CODES[kind]}", *many), len(many)


def pack_bits(array: NDArray[Any], bits: int) -> bytes:
    """Return (rows, ...) unsigned samples as ``bits`` bits each, first bit first, rows padded to bytes."""
    rows = array.reshape(len(array), -1).astype(np.uint32)
    spread = rows[..., np.newaxis] >> np.arange(bits - 1, -1, -1, dtype=np.uint32) & 1
    return np.packbits(spread.reshape(len(rows), -1).astype(np.uint8), axis=-1).tobytes()


def tiles_of(array: NDArray[Any], width: int, height: int) -> list[NDArray[Any]]:
    """Return the tiles of (rows, columns, ...), those at the rim padded with the last pixel, row by row."""
    rows, columns = -(-array.shape[0] // height), -(-array.shape[1] // width)
    missing = (0, rows * height - array.shape[0]), (0, columns * width - array.shape[1])
    padded = np.pad(array, (*missing, *((0, 0),) * (array.ndim - 2)), mode="edge")
    return [
        np.ascontiguousarray(padded[y * height : (y + 1) * height, x * width : (x + 1) * width])
        for y in range(rows)
        for x in range(columns)
    ]
