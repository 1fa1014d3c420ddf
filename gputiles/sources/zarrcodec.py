"""Codecs of Zarr's chunks: Blosc, Zstandard, gzip, zlib, LZ4, bzip2, order of bytes and axes."""

from __future__ import annotations

import bz2
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Literal

import imagecodecs
import numpy as np
from isal import isal_zlib
from numpy.typing import NDArray

from gputiles.errors import Damaged, GputilesError, LimitExceeded, Unsupported
from gputiles.sources.bytecodec import DECODER_ERRORS

_GZIP, _ZLIB = 31, 15  # zlib's window bits
_SLACK = 1024  # bytes that one step may leave beyond the pixels, for the next to undo


def _inflate(window: int) -> Callable[[bytes, int], bytes]:
    return lambda data, most: bytes(isal_zlib.decompressobj(window).decompress(data, most + 1))


def _into(decode: Callable[..., Any], **options: Any) -> Callable[[bytes, int], bytes]:
    """Return a decompression into a buffer, so that no stream inflates beyond it."""
    return lambda data, most: bytes(decode(data, out=np.empty(most, np.uint8), **options))


Undo = Callable[[bytes, int], bytes]
_UNDO: dict[str, Undo] = {
    "blosc": _into(imagecodecs.blosc_decode, numthreads=1),
    "zstd": _into(imagecodecs.zstd_decode),
    "gzip": _inflate(_GZIP),
    "zlib": _inflate(_ZLIB),
    "lz4": _into(imagecodecs.lz4_decode, header=True),
    "bz2": lambda data, most: bz2.BZ2Decompressor().decompress(data, most + 1),
}
V2_STEPS = ("blosc", "zstd", "gzip", "zlib", "lz4", "bz2")
V3_STEPS = ("blosc", "zstd", "gzip")
_SHARDING = "sharding_indexed"
_MOST_INNER = 1 << 16  # chunks of a shard: its index is read anew for each tile
Step = str
"""The name of something that was done to a chunk's bytes; each is undone in turn."""


@dataclass(frozen=True, slots=True)
class Shard:
    """A file of many chunks: how many on each axis, where their index lies, whether it has a checksum."""

    counts: tuple[int, ...]
    at_end: bool
    checked: bool


@dataclass(frozen=True, slots=True)
class Pipeline:
    """Version 3's codecs, and the shape of what they encode: what is undone first comes first."""

    chunks: tuple[int, ...]
    steps: tuple[Step, ...]
    order: tuple[int, ...]
    endian: Literal["<", ">"]
    shard: Shard | None = None


@dataclass(frozen=True, slots=True)
class ZarrCodec:
    """Decodes a chunk and takes one plane of it: ``plane`` has an index for each axis but the last two.

    ``order`` names the axes as they lie in the bytes, slowest first.
    """

    steps: tuple[Step, ...]
    shape: tuple[int, ...]
    stored: np.dtype[Any]
    served: np.dtype[Any]
    order: tuple[int, ...]
    plane: tuple[int, ...]
    compression: int = -4

    def decode(self, data: bytes, width: int, height: int) -> NDArray[Any]:
        """Decode ``data`` to (height, width, 1)."""
        size = math.prod(self.shape) * self.stored.itemsize
        try:
            for step in self.steps:
                data = _UNDO[step](data, size + _SLACK)
        except GputilesError:
            raise
        except (*DECODER_ERRORS, EOFError) as error:
            raise Damaged(f"a chunk does not decompress ({', '.join(self.steps)}): {error}") from error
        if len(data) != size:
            raise Damaged(
                f"a chunk of {self.shape} {self.stored} pixels holds {len(data)} bytes; expected {size}"
            )
        lying = np.frombuffer(data, self.stored).reshape([self.shape[axis] for axis in self.order])
        plane = lying.transpose(np.argsort(self.order))[self.plane]
        return np.ascontiguousarray(plane[:height, :width, np.newaxis].astype(self.served))


@dataclass(frozen=True, slots=True)
class FillCodec:
    """Makes the pixels of a chunk that is not stored; they are data like any other."""

    fill: float | int
    served: np.dtype[Any]
    compression: int = -4

    def decode(self, data: bytes, width: int, height: int) -> NDArray[Any]:
        """Return (height, width, 1) of the value."""
        return np.full((height, width, 1), self.fill, self.served)


def parse_v2_steps(name: str, compressor: Any) -> tuple[Step, ...]:
    """Return the steps of version 2's compressor. Raises Unsupported, naming it."""
    if compressor is None:
        return ()
    found = str(compressor.get("id") if isinstance(compressor, dict) else compressor)
    if found not in V2_STEPS:
        raise Unsupported(f"{name}: compressor {found[:40]!r} is not read; {', '.join(V2_STEPS)} are")
    return (found,)


def parse_pipeline(name: str, codecs: Any, chunks: tuple[int, ...]) -> Pipeline:
    """Return version 3's codecs. Raises Damaged or Unsupported, naming what is not read."""
    listed = _list(name, codecs)
    if any(found == _SHARDING for found, _ in listed):
        return _sharded(name, listed, chunks)
    order = tuple(range(len(chunks)))
    endian: Literal["<", ">"] = "<"
    steps: list[Step] = []
    for found, options in listed:
        if found == "transpose":
            turned = _order(name, options.get("order"), len(chunks))
            order = tuple(order[axis] for axis in turned)
        elif found == "bytes":
            endian = _endian(name, options.get("endian", "little"))
        elif found in V3_STEPS:
            steps.append(found)
        else:
            allowed = ", ".join(("transpose", "bytes", *V3_STEPS, _SHARDING))
            raise Unsupported(f"{name}: codec {found[:40]!r} is not read; {allowed} are")
    return Pipeline(chunks, tuple(reversed(steps)), order, endian)


def _sharded(name: str, listed: list[tuple[str, dict[str, Any]]], chunks: tuple[int, ...]) -> Pipeline:
    """Return the codecs of the chunks in shards of shape ``chunks``."""
    if len(listed) > 1:
        raise Unsupported(f"{name}: other codecs around shards ({_SHARDING}) are not read")
    options = listed[0][1]
    inner = _inner(name, options.get("chunk_shape"), chunks)
    counts = tuple(map(int.__floordiv__, chunks, inner))
    if math.prod(counts) > _MOST_INNER:
        raise LimitExceeded(f"{name}: a shard of {math.prod(counts)} chunks; most {_MOST_INNER}")
    if any(found == _SHARDING for found, _ in _list(name, options.get("codecs"))):
        raise Unsupported(f"{name}: shards in shards are not read")
    place = options.get("index_location", "end")
    if place not in ("start", "end"):
        raise Damaged(f"{name}: index_location: 'start' or 'end'; got {str(place)[:40]!r}")
    shard = Shard(counts, place == "end", _has_checksum(name, options.get("index_codecs")))
    return replace(parse_pipeline(name, options.get("codecs"), inner), shard=shard)


def _inner(name: str, value: Any, shard: tuple[int, ...]) -> tuple[int, ...]:
    """Return the shape of the chunks in a shard, which divides the shard's."""
    whole = isinstance(value, list) and all(type(side) is int and side > 0 for side in value)
    if not whole or len(value) != len(shard) or any(map(int.__mod__, shard, value)):
        raise Damaged(f"{name}: chunk_shape: expected one that divides {shard}; got {str(value)[:80]}")
    return tuple(value)


def _has_checksum(name: str, codecs: Any) -> bool:
    """Say whether an index is followed by its CRC-32C. Raises Unsupported for any other encoding."""
    listed = _list(name, codecs)
    little = listed[:1] and listed[0][0] == "bytes" and listed[0][1].get("endian", "little") == "little"
    following = [found for found, _ in listed[1:]]
    if not little or following not in ([], ["crc32c"]):
        raise Unsupported(f"{name}: index_codecs: bytes (little) and crc32c are read; got {str(codecs)[:80]}")
    return bool(following)


def _list(name: str, codecs: Any) -> list[tuple[str, dict[str, Any]]]:
    if not isinstance(codecs, list):
        raise Damaged(f"{name}: codecs: expected a list; got {str(codecs)[:80]!r}")
    return [_codec(name, codec) for codec in codecs]


def _codec(name: str, codec: Any) -> tuple[str, dict[str, Any]]:
    options = codec.get("configuration", {}) if isinstance(codec, dict) else {}
    if not isinstance(options, dict):
        raise Damaged(f"{name}: a codec's configuration: expected an object; got {str(options)[:80]!r}")
    return str(codec.get("name") if isinstance(codec, dict) else codec), options


def _order(name: str, value: Any, axes: int) -> list[int]:
    if not isinstance(value, list) or sorted(map(str, value)) != sorted(map(str, range(axes))):
        raise Damaged(f"{name}: transpose: expected an order of {axes} axes; got {str(value)[:80]!r}")
    return [int(axis) for axis in value]


def _endian(name: str, value: Any) -> Literal["<", ">"]:
    if value not in ("little", "big"):
        raise Damaged(f"{name}: bytes are 'little' or 'big'; got {str(value)[:40]!r}")
    return "<" if value == "little" else ">"
