"""Image file directories: the tag tables of TIFF, BigTIFF and NDPI files.

Only the tables are read when a file is opened; values that do not fit into a table are
read when somebody asks for them. Layout: TIFF 6.0 section 2, the BigTIFF proposal, and
for NDPI files beyond 4 GiB the high words that Hamamatsu appends to every directory.
"""

from __future__ import annotations

import codecs
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from gputiles.errors import Damaged, LimitExceeded
from gputiles.sources.bytesource import ByteSource

_TYPES = {
    1: "u1", 2: "S1", 3: "u2", 4: "u4", 5: "u4", 6: "i1", 7: "u1", 8: "i2", 9: "i4", 10: "i4",
    11: "f4", 12: "f8", 13: "u4", 16: "u8", 17: "i8", 18: "u8",
}  # fmt: skip
_WORD: dict[str, Literal["little", "big"]] = {"<": "little", ">": "big"}
_RATIONAL = (5, 10)
_LONGS = (4, 9, 13)
_WHOLE = {1: 1, 3: 2, 4: 4, 13: 4}  # bytes of the unsigned types that fit into every entry
_FEW = 4  # values that are read where one is wanted: the first may be no number
_MOST_DIRECTORIES = 100_000
_MOST_VALUE_BYTES = 1 << 28
_NDPI_TAG = 65420


@dataclass(frozen=True, slots=True)
class Dialect:
    """Byte order (``<`` or ``>``) and widths of a file's directories."""

    order: Literal["<", ">"]
    big: bool = False
    ndpi: bool = False

    @property
    def inline(self) -> int:
        """Bytes of a value that fit into the directory entry itself."""
        return 8 if self.big else 4


@dataclass(frozen=True, slots=True)
class Entry:
    """One tag as found: type code, number of values, and its bytes or where they are."""

    kind: int
    count: int
    inline: bytes
    offset: int

    @property
    def width(self) -> int:
        """Bytes of one value."""
        return np.dtype(_TYPES[self.kind]).itemsize * (2 if self.kind in _RATIONAL else 1)

    @property
    def size(self) -> int:
        """Bytes of all values."""
        return self.count * self.width


@dataclass(frozen=True, slots=True, eq=False)
class Directory:
    """The tags of one page, read on demand; ``following`` is the offset of the next directory."""

    source: ByteSource
    dialect: Dialect
    offset: int
    entries: dict[int, Entry]
    following: int

    def __contains__(self, code: int) -> bool:
        return code in self.entries

    def raw(self, code: int, most: int | None = None) -> bytes | None:
        """Return a tag's bytes as stored, or the first ``most`` of them; None without the tag."""
        entry = self.entries.get(code)
        if entry is None:
            return None
        size = entry.size if most is None else min(entry.size, most)
        if entry.size <= self.dialect.inline:
            return entry.inline[:size]
        if size > _MOST_VALUE_BYTES:
            raise LimitExceeded(f"tag {code}: {size} bytes of values; most {_MOST_VALUE_BYTES}")
        return self.source.read_at(entry.offset, size)

    def numbers(self, code: int, most: int | None = None) -> NDArray[np.generic] | None:
        """Return a tag's (first ``most``) values; rationals as their quotients; None without the tag."""
        entry = self.entries.get(code)
        if entry is None:
            return None
        data = self.raw(code, None if most is None else most * entry.width)
        assert data is not None
        if self.dialect.ndpi and entry.count == 1 and entry.kind in _LONGS and entry.offset >> 32:
            return np.array([entry.offset])  # one offset or size, widened by its high word
        kind = entry.kind
        values = np.frombuffer(data, np.dtype(_TYPES[kind]).newbyteorder(self.dialect.order))
        if kind in _RATIONAL:
            top, bottom = values[0::2].astype(np.float64), values[1::2].astype(np.float64)
            quotients: NDArray[np.float64] = np.full(len(top), np.nan)
            return np.divide(top, bottom, out=quotients, where=bottom != 0)
        return values.astype(values.dtype.newbyteorder("="))

    def integers(self, code: int, most: int | None = None) -> tuple[int, ...]:
        """Return a tag's (first ``most``) values as integers; empty without the tag or where it is text."""
        values = self.numbers(code, most)
        if values is None or values.dtype.kind not in "uif":
            return ()
        finite = values[np.isfinite(values)] if values.dtype.kind == "f" else values
        return tuple(map(int, finite.tolist()))

    def integer(self, code: int, default: int) -> int:
        """Return a tag's first value, or ``default``."""
        entry = self.entries.get(code)
        if entry is None:
            return default
        width = _WHOLE.get(entry.kind)
        if entry.count == 1 and width is not None and not self.dialect.ndpi:  # most tags of most pages
            return int.from_bytes(entry.inline[:width], _WORD[self.dialect.order])
        values = self.integers(code, _FEW)
        return values[0] if values else default

    def ratio(self, code: int) -> float | None:
        """Return a tag's first value as a float, or None where there is no finite one."""
        try:
            values = self.numbers(code, 1)
        except (Damaged, LimitExceeded):  # a fact that the picture can do without
            return None
        if values is None or not len(values) or values.dtype.kind not in "uif":
            return None
        value = float(values[0].item())
        return value if np.isfinite(value) else None

    def text(self, code: int, most: int | None = None) -> str:
        """Return a tag's (first ``most``) bytes as text, see ``decoded``; empty where they are unreadable."""
        try:
            return decoded(self.raw(code, most) or b"")
        except (Damaged, LimitExceeded):
            return ""


def decoded(data: bytes) -> str:
    """Return the text up to the first NUL: UTF-16 where it begins with a mark, else UTF-8, else Latin-1."""
    if data[:2] in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE):
        return data.decode("utf-16", "replace").partition("\0")[0]
    data = data.partition(b"\0")[0]
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        return data.decode("latin-1")


def read_dialect(source: ByteSource) -> tuple[Dialect, int]:
    """Return the file's dialect and the offset of its first directory; Damaged if not a TIFF."""
    head = source.read_at(0, min(16, source.size))
    orders: dict[bytes, Literal["<", ">"]] = {b"II": "<", b"MM": ">"}
    order = orders.get(head[:2])
    if order is None or len(head) < 8:
        raise Damaged(f"{source.name}: not a TIFF file: starts with {head[:6]!r}")
    magic = struct.unpack(f"{order}H", head[2:4])[0]
    if magic == 43 and len(head) == 16:
        width, zero, first = struct.unpack(f"{order}HHQ", head[4:])
        if (width, zero) != (8, 0):
            raise Damaged(f"{source.name}: a BigTIFF file with {width}-byte offsets; expected 8")
        return Dialect(order, big=True), first
    if magic != 42:
        raise Damaged(f"{source.name}: not a TIFF file: version {magic}; expected 42 or 43")
    first = struct.unpack(f"{order}I", head[4:8])[0]
    return _ndpi_dialect(source, head, order, first) or (Dialect(order), first)


def _ndpi_dialect(source: ByteSource, head: bytes, order: str, first: int) -> tuple[Dialect, int] | None:
    """Return NDPI's wide dialect where classic offsets cannot reach the end of an NDPI file."""
    if order != "<" or source.size < 1 << 32 or len(head) < 12:
        return None
    wide = struct.unpack("<Q", head[4:12])[0]
    for offset in (wide, first):
        try:
            if _NDPI_TAG in read_directory(source, Dialect("<", ndpi=True), offset):
                return Dialect("<", ndpi=True), offset
        except Damaged:
            continue
    return None


def read_directory(source: ByteSource, dialect: Dialect, offset: int) -> Directory:
    """Read one directory; Damaged where the file ends before the directory does."""
    order = dialect.order
    head, size = (8, 20) if dialect.big else (2, 12)
    tail = 8 if dialect.big or dialect.ndpi else 4
    if not 8 <= offset <= source.size - head:
        raise Damaged(f"{source.name}: no image directory at {offset}: the file has {source.size} bytes")
    number = struct.unpack(order + ("Q" if dialect.big else "H"), source.read_at(offset, head))[0]
    if number == 0 or number > 65535:
        raise Damaged(f"{source.name}: the image directory at {offset} has {number} tags")
    start, length = offset + head, number * size
    # the pointer to the next directory may be missing from a file cut right there
    available = source.size - start
    if available < length:
        raise Damaged(f"{source.name}: the image directory at {offset} is cut off")
    data = source.read_at(start, min(available, length + tail + (4 * number if dialect.ndpi else 0)))
    high = data[length + tail :] if dialect.ndpi else b""
    entries = dict(_entries(dialect, data[:length], high))
    following = data[length : length + tail].ljust(tail, b"\0")
    return Directory(source, dialect, offset, entries, int.from_bytes(following, _WORD[order]))


def _entries(dialect: Dialect, table: bytes, high: bytes) -> Iterator[tuple[int, Entry]]:
    """Yield (tag code, entry) of the entries that have a known type, the first of each code."""
    seen = set()
    layout = struct.Struct(dialect.order + ("HHQ8s" if dialect.big else "HHI4s"))
    for index, (code, kind, count, inline) in enumerate(layout.iter_unpack(table)):
        if kind not in _TYPES or code in seen:
            continue
        seen.add(code)
        offset = int.from_bytes(inline, _WORD[dialect.order])
        if high:
            offset += int.from_bytes(high[4 * index : 4 * index + 4], "little") << 32
        yield code, Entry(kind, count, inline, offset)


def walk(source: ByteSource, dialect: Dialect, offset: int) -> tuple[list[Directory], list[str]]:
    """Return the chain of directories from ``offset`` and warnings about a broken chain.

    Raises Damaged where not even the first directory can be read.
    """
    found: list[Directory] = []
    warnings: list[str] = []
    seen: set[int] = set()
    while offset:
        if offset in seen:
            warnings.append(
                f"the directory chain returns to offset {offset}; stopped after {len(found)} pages"
            )
            break
        if len(found) >= _MOST_DIRECTORIES:
            raise LimitExceeded(f"{source.name}: more than {_MOST_DIRECTORIES} pages")
        seen.add(offset)
        try:
            found.append(read_directory(source, dialect, offset))
        except Damaged as error:
            if not found:
                raise
            warnings.append(f"stopped after {len(found)} pages: {error}")
            break
        offset = found[-1].following
    if not found:
        raise Damaged(f"{source.name}: a TIFF file without any image directory")
    return found, warnings
