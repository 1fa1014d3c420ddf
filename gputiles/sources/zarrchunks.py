"""Stored chunks of Zarr's arrays: each a file of its own, or a range of a shard."""

from __future__ import annotations

import math
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from gputiles.errors import Damaged, GputilesError, Unavailable
from gputiles.sources.bytesource import PathSource
from gputiles.sources.zarrarray import Array
from gputiles.sources.zarrcodec import Shard

_SLACK = 256 * 1024  # stored bytes that a chunk may need beyond twice its decoded size
_ENTRY, _CHECKSUM = 16, 4  # bytes of an entry of a shard's index, and of the index's checksum
_NOWHERE = (1 << 64) - 1
_CASTAGNOLI = 0x82F63B78  # CRC-32C's polynomial, its lowest bit first

Index = NDArray[np.uint64]


@dataclass(frozen=True, slots=True)
class Reader:
    """Reads the chunks of one job below ``root``; a shard's index is read once."""

    root: Path
    indexes: dict[Path, Index]

    def read(self, array: Array, indices: tuple[int, ...]) -> bytes | GputilesError | None:
        """Return a chunk's stored bytes, an error where they cannot be read, None where there are none.

        Raises Unavailable where files cannot be opened now.
        """
        try:
            if array.shard is None:
                return self._read_file(array, array.folder / array.key(indices))
            return self._read_part(array, array.shard, indices)
        except Unavailable:  # says nothing about the file
            raise
        except GputilesError as error:
            return error

    def _read_file(self, array: Array, path: Path) -> bytes | None:
        real = inside(path, self.root)
        if real is None:
            return None
        with closing(PathSource(real)) as source:
            return source.read_at(0, _fitting(array, source.size))

    def _read_part(self, array: Array, shard: Shard, indices: tuple[int, ...]) -> bytes | None:
        outer = tuple(index // count for index, count in zip(indices, shard.counts, strict=True))
        inner = tuple(index % count for index, count in zip(indices, shard.counts, strict=True))
        real = inside(array.folder / array.key(outer), self.root)
        if real is None:
            return None
        with closing(PathSource(real)) as source:
            if real not in self.indexes:
                self.indexes[real] = read_index(source, shard)
            offset, size = map(int, self.indexes[real][inner])
            if (offset, size) == (_NOWHERE, _NOWHERE):
                return None
            return source.read_at(offset, _fitting(array, size))


def _fitting(array: Array, size: int) -> int:
    most = 2 * array.chunk_bytes + _SLACK
    if size > most:
        raise Damaged(f"a chunk of {size} stored bytes; most {most}")
    return size


def read_index(source: PathSource, shard: Shard) -> Index:
    """Return the (offset, size) of each chunk of a shard; Damaged where its checksum is wrong."""
    size = _ENTRY * math.prod(shard.counts)
    whole = size + (_CHECKSUM if shard.checked else 0)
    data = source.read_at(source.size - whole if shard.at_end else 0, whole)
    if shard.checked and crc32c(data[:size]) != int.from_bytes(data[size:], "little"):
        raise Damaged(f"{source.name}: the checksum (CRC-32C) of a shard's index is wrong")
    return np.frombuffer(data[:size], "<u8").reshape(*shard.counts, 2)


def _table() -> list[int]:
    table = list(range(256))
    for _ in range(8):
        table = [value >> 1 ^ (_CASTAGNOLI if value & 1 else 0) for value in table]
    return table


_TABLE = _table()


def crc32c(data: bytes) -> int:
    """Return the CRC-32C of some bytes (RFC 3720, B.4)."""
    value = 0xFFFFFFFF
    for byte in data:
        value = _TABLE[(value ^ byte) & 0xFF] ^ value >> 8
    return value ^ 0xFFFFFFFF


def inside(path: Path, root: Path) -> Path | None:
    """Return the real path of a file or folder; None where there is none.

    Raises Damaged where it leads out of ``root`` or is no file or folder.
    """
    try:
        real = path.resolve(strict=True)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, RuntimeError, ValueError) as error:  # no permission, or a circle of links
        raise Damaged(f"{path.name}: cannot be found: {error}") from error
    if not real.is_relative_to(root):
        raise Damaged(f"{path.name}: leads out of its root")
    if not real.is_file() and not real.is_dir():  # reading a pipe would never end
        raise Damaged(f"{path.name}: neither a file nor a folder")
    return real
