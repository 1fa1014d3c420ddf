"""DICOM files: which series a file is of. A slide is a series, a file for each level and other picture."""

from __future__ import annotations

import os
import struct
from functools import lru_cache
from pathlib import Path

from gputiles.errors import Damaged

_HEAD = 1 << 16  # bytes from the start that the series is looked for in
_PREAMBLE = 128
_MAGIC = b"DICM"
_SYNTAX, _SERIES = (0x0002, 0x0010), (0x0020, 0x000E)
_IMPLICIT, _OTHERS = "1.2.840.10008.1.2", ("1.2.840.10008.1.2.1.99", "1.2.840.10008.1.2.2")
_LONG = {b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR", b"UT", b"UV"}
_ITEM, _ITEMS_END, _DELIMITERS = 0xE000, 0xE0DD, 0xFFFE
_UNTOLD = 0xFFFFFFFF  # a length


class NoDicom(Damaged):
    """A file that is no DICOM file."""


def read_series(path: Path) -> str | None:
    """Return the UID of the series of a DICOM file; None where its beginning tells none.

    Raises NoDicom for other files, OSError where the file cannot be read.
    """
    status = os.stat(path)
    is_dicom, series = _look(path, (status.st_ino, status.st_size, status.st_mtime_ns))
    if not is_dicom:
        raise NoDicom(f"{path.name}: not a DICOM file")
    return series


@lru_cache(1 << 14)
def _look(path: Path, version: tuple[int, int, int]) -> tuple[bool, str | None]:
    """Return whether a file is DICOM's, and its series; of a version a file is read once, whatever it is."""
    with path.open("rb") as file:
        head = file.read(_HEAD)
    if head[_PREAMBLE : _PREAMBLE + len(_MAGIC)] != _MAGIC:
        return False, None
    return True, _find_series(head)


def _find_series(head: bytes) -> str | None:
    """Walk the elements of a file's beginning (PS3.5, 7.1 and 7.5), but for those within sequences."""
    at, depth, syntax = _PREAMBLE + len(_MAGIC), 0, ""
    while at + 8 <= len(head):
        tag = group, element = struct.unpack_from("<HH", head, at)
        if group == _DELIMITERS:
            length = struct.unpack_from("<I", head, at + 4)[0]
            depth -= element == _ITEMS_END
            at += 8 + (length if element == _ITEM and length != _UNTOLD else 0)
            continue
        start, length = _extent(head, at, implicit=group != 2 and syntax == _IMPLICIT)
        text = head[start : start + min(length, 64)].rstrip(b"\0 ").decode("latin-1")
        if tag == _SYNTAX:
            syntax = text
        if (group > 2 and syntax in _OTHERS) or (depth == 0 and tag > _SERIES):
            return None
        if depth == 0 and tag == _SERIES:
            return text or None
        depth += length == _UNTOLD
        at = start + (0 if length == _UNTOLD else length)
    return None


def _extent(head: bytes, at: int, *, implicit: bool) -> tuple[int, int]:
    """Return where the value of the element at ``at`` begins, and its length."""
    if implicit:
        return at + 8, struct.unpack_from("<I", head, at + 4)[0]
    if head[at + 4 : at + 6] not in _LONG:
        return at + 8, struct.unpack_from("<H", head, at + 6)[0]
    return at + 12, int.from_bytes(head[at + 8 : at + 12], "little")
