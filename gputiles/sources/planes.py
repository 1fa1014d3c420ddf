"""Samples in planes of their own whose colours are made of one another: decoded together."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gputiles.backends import Chunk, ChunkCodec
from gputiles.errors import Damaged, GputilesError
from gputiles.geometry import ceil_div
from gputiles.sources.imagecodec import measured

_LENGTH = struct.Struct("<Q")


@dataclass(frozen=True, slots=True)
class PlanesCodec:
    """Decodes a chunk of each plane, bound to one, with ``codec``: (height, width, planes).

    ``chroma`` says how many pixels share a sample of the second and third plane, across and down;
    where a stream tells its size by itself, that counts.
    """

    codec: ChunkCodec
    planes: int
    chroma: tuple[int, int] = (1, 1)

    @property
    def compression(self) -> int:
        """The compression of the planes."""
        return self.codec.compression

    def decode(self, data: bytes, width: int, height: int) -> NDArray[Any]:
        """Decode ``data`` to (height, width, planes); a sample that pixels share is repeated."""
        parts = _unbound(data)
        if len(parts) != self.planes:
            raise Damaged(f"a chunk of {len(parts)} planes; expected {self.planes}")
        planes = [self._plane(number, part, width, height) for number, part in enumerate(parts)]
        return np.concatenate(planes, axis=-1)

    def _plane(self, number: int, data: bytes, width: int, height: int) -> NDArray[Any]:
        across, down = self.chroma if number in (1, 2) else (1, 1)
        columns, rows = ceil_div(width, across), ceil_div(height, down)
        told = measured(self.codec, data) or (0, 0)
        if told[0] > columns or told[1] > rows:  # it is whole, whatever the page says
            columns, rows, across, down = width, height, 1, 1
        plane = self.codec.decode(data, columns, rows)
        return plane.repeat(down, axis=0).repeat(across, axis=1)[:height, :width]


def bind(chunks: Sequence[Chunk], planes: int) -> tuple[Chunk, ...]:
    """Return one chunk for each place of chunks, which lie plane by plane."""
    places = len(chunks) // planes
    return tuple(_bind(chunks[place::places]) for place in range(places))


def _bind(parts: Sequence[Chunk]) -> Chunk:
    data = [part.data for part in parts]
    stored = [part for part in data if isinstance(part, bytes)]
    error = next((part for part in data if isinstance(part, GputilesError)), None)
    if error is None and 0 < len(stored) < len(parts):
        error = Damaged(f"a chunk of which only {len(stored)} of {len(parts)} planes are stored")
    together = b"".join(_LENGTH.pack(len(part)) + part for part in stored)
    return replace(parts[0], data=error or (together if stored else None))


def _unbound(data: bytes) -> list[bytes]:
    parts, at = [], 0
    while at < len(data):
        (length,) = _LENGTH.unpack_from(data, at)
        at += _LENGTH.size + length
        parts.append(data[at - length : at])
    return parts
