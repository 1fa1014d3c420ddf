"""Arrays of Zarr, versions 2 and 3: their metadata, the keys of their chunks."""

from __future__ import annotations

import json
import math
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from gputiles.errors import Damaged, NotFound, Unsupported
from gputiles.sources.bytesource import PathSource
from gputiles.sources.zarrcodec import Shard, Step, parse_pipeline, parse_v2_steps

_MOST_JSON = 1 << 24  # bytes of a metadata file
_MOST_SIDE = 1 << 31
_TYPES = {
    **{f"{kind}{8 * size}": f"{kind[0]}{size}" for kind in ("int", "uint") for size in (1, 2, 4, 8)},
    "bool": "?", "float16": "f2", "float32": "f4", "float64": "f8",
}  # fmt: skip
V3, V2_GROUP, V2_ARRAY, V2_ATTRIBUTES = "zarr.json", ".zgroup", ".zarray", ".zattrs"


@dataclass(frozen=True, slots=True)
class Array:
    """What an array says of itself.

    ``chunks`` is the shape of all chunks, those at the rim included; with a ``shard``, of those in it.
    ``prefix`` and ``separator`` make the key of a chunk, or of a shard, of its indices; ``steps`` undo a
    chunk's encoding, ``stored`` is the type of its bytes and ``order`` the axes as they lie there.
    """

    folder: Path
    shape: tuple[int, ...]
    chunks: tuple[int, ...]
    stored: np.dtype[Any]
    fill: float | int
    prefix: str
    separator: str
    steps: tuple[Step, ...]
    order: tuple[int, ...]
    metadata: tuple[Path, ...]
    shard: Shard | None = None

    @property
    def dtype(self) -> np.dtype[Any]:
        """The type of the pixels: booleans are bytes, half floats are floats."""
        return np.dtype({"b1": "u1", "f2": "f4"}.get(self.stored.str[1:], self.stored.str[1:]))

    @property
    def chunk_bytes(self) -> int:
        """Bytes of a decoded chunk."""
        return math.prod(self.chunks) * self.stored.itemsize

    def key(self, indices: tuple[int, ...]) -> str:
        """Return the name of a chunk's (or a shard's) file below the array's folder."""
        parts = [*([self.prefix] if self.prefix else []), *map(str, indices)]
        return self.separator.join(parts) or "0"


def read_json(path: Path) -> dict[str, Any] | None:
    """Return the object in a metadata file, None where there is no file; Damaged where it is no object.

    Numbers that JSON does not have come as text, so that the object can be told again.
    """
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise Damaged(f"{path.name}: not a file")
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise NotFound(f"{path.name}: cannot be looked at: {error.strerror}") from error
    source = PathSource(path)
    try:
        if source.size > _MOST_JSON:
            raise Damaged(f"{path.name}: {source.size} bytes of metadata; most {_MOST_JSON}")
        value = json.loads(source.read_at(0, source.size), parse_float=_number, parse_constant=str)
    except (ValueError, RecursionError) as error:
        raise Damaged(f"{path.name}: not JSON: {error}") from error
    finally:
        source.close()
    if not isinstance(value, dict):
        raise Damaged(f"{path.name}: expected a JSON object; got {type(value).__name__}")
    return value


def _number(text: str) -> float | str:
    return float(text) if math.isfinite(float(text)) else text


def read_array(folder: Path) -> Array:
    """Return the array in a folder. Raises Damaged, also where there is none, or Unsupported."""
    found = read_json(folder / V3)
    if found is not None:
        return _array_v3(folder, found)
    found = read_json(folder / V2_ARRAY)
    if found is None:
        raise Damaged(f"{folder.name}: no array of Zarr: neither {V3} nor {V2_ARRAY} is there")
    return _array_v2(folder, found)


def _array_v2(folder: Path, found: dict[str, Any]) -> Array:
    shape, chunks = _sides(folder, found.get("shape"), "shape"), _sides(folder, found.get("chunks"), "chunks")
    _check_chunks(folder, shape, chunks)
    stored = _dtype(folder, found.get("dtype"))
    if found.get("filters"):
        names = [each.get("id") for each in found["filters"] if isinstance(each, dict)]
        raise Unsupported(f"{folder.name}: filters {names} of Zarr are not read")
    axes = tuple(range(len(shape)))
    return Array(
        folder=folder,
        shape=shape,
        chunks=chunks,
        stored=stored,
        fill=_fill(folder, found.get("fill_value"), stored),
        prefix="",
        separator=_separator(folder, found.get("dimension_separator", ".")),
        steps=parse_v2_steps(folder.name, found.get("compressor")),
        order=axes[::-1] if found.get("order") == "F" else axes,
        metadata=(folder / V2_ARRAY,),
    )


def _array_v3(folder: Path, found: dict[str, Any]) -> Array:
    if found.get("node_type") != "array" or found.get("zarr_format") != 3:
        raise Damaged(f"{folder.name}: {V3} describes {found.get('node_type')!r}; expected an array")
    shape = _sides(folder, found.get("shape"), "shape")
    chunks = _chunks_v3(folder, found)
    _check_chunks(folder, shape, chunks)
    prefix, separator = _keys_v3(folder, found)
    if found.get("storage_transformers"):
        raise Unsupported(f"{folder.name}: storage transformers of Zarr are not read")
    named = found.get("data_type")
    if not isinstance(named, str) or named not in _TYPES:
        raise Unsupported(
            f"{folder.name}: data type {str(named)[:80]!r} is not read; {', '.join(_TYPES)} are"
        )
    pipeline = parse_pipeline(folder.name, found.get("codecs"), chunks)
    stored = np.dtype(_TYPES[named]).newbyteorder(pipeline.endian)
    return Array(
        folder=folder,
        shape=shape,
        chunks=pipeline.chunks,
        stored=stored,
        fill=_fill(folder, found.get("fill_value"), stored),
        prefix=prefix,
        separator=separator,
        steps=pipeline.steps,
        order=pipeline.order,
        metadata=(folder / V3,),
        shard=pipeline.shard,
    )


def _chunks_v3(folder: Path, found: dict[str, Any]) -> tuple[int, ...]:
    """Return the shape of the chunks, or of the shards, of version 3's regular grid."""
    name, grid = _named(folder, found, "chunk_grid")
    if name != "regular":
        raise Unsupported(f"{folder.name}: a chunk grid {name!r} is not read; 'regular' is")
    return _sides(folder, grid.get("chunk_shape"), "chunk_shape")


def _keys_v3(folder: Path, found: dict[str, Any]) -> tuple[str, str]:
    """Return what version 3's keys of chunks begin with, and what stands between their parts."""
    name, keys = _named(folder, found, "chunk_key_encoding")
    if name not in ("default", "v2"):
        raise Unsupported(f"{folder.name}: chunk keys {name!r} are not read; 'default' and 'v2' are")
    prefix, usual = ("c", "/") if name == "default" else ("", ".")
    return prefix, _separator(folder, keys.get("separator", usual))


def _named(folder: Path, found: dict[str, Any], key: str) -> tuple[str, dict[str, Any]]:
    """Return the name and the configuration of one of version 3's extension points."""
    value = found.get(key)
    configuration = value.get("configuration", {}) if isinstance(value, dict) else None
    if not isinstance(value, dict) or not isinstance(configuration, dict):
        raise Damaged(f"{folder.name}: {key}: expected an object with a name; got {str(value)[:80]!r}")
    return str(value.get("name")), configuration


def _sides(folder: Path, value: Any, what: str) -> tuple[int, ...]:
    whole = isinstance(value, list) and all(type(side) is int and 0 < side < _MOST_SIDE for side in value)
    if not whole or not 2 <= len(value) <= 5:
        raise Damaged(
            f"{folder.name}: {what}: expected 2 to 5 numbers below {_MOST_SIDE}, none 0;"
            f" got {str(value)[:80]}"
        )
    return tuple(value)


def _check_chunks(folder: Path, shape: tuple[int, ...], chunks: tuple[int, ...]) -> None:
    if len(shape) != len(chunks):
        raise Damaged(f"{folder.name}: chunks of {len(chunks)} axes in an array of {len(shape)}")


def _separator(folder: Path, value: Any) -> str:
    if value not in (".", "/"):
        raise Damaged(f"{folder.name}: the separator of chunk keys is '.' or '/'; got {str(value)[:40]!r}")
    return str(value)


def _dtype(folder: Path, value: Any) -> np.dtype[Any]:
    """Return version 2's type, as NumPy spells it."""
    kinds = {f"{kind}{size}" for kind in "iu" for size in (1, 2, 4, 8)} | {"b1", "f2", "f4", "f8"}
    if not isinstance(value, str) or value[:1] not in "<>|" or value[1:] not in kinds:
        raise Unsupported(
            f"{folder.name}: data type {str(value)[:80]!r} is not read; numbers of 1 to 8 bytes are"
        )
    return np.dtype(value)


def _fill(folder: Path, value: Any, dtype: np.dtype[Any]) -> float | int:
    """Return the value of pixels that no chunk holds; 0 where nothing is said."""
    if value is None:
        return 0
    try:
        if isinstance(value, str) and value.startswith("0x"):  # the bits themselves
            bits = int(value, 16).to_bytes(dtype.itemsize, "big")
            return float(np.frombuffer(bits, dtype.newbyteorder(">"))[0])
        if dtype.kind in "iub":
            whole = int(value)
            if whole != float(value):
                raise ValueError(value)
            return int(np.array(whole, np.uint8 if dtype.kind == "b" else dtype.newbyteorder("=")))
        return float(value)
    except (ValueError, OverflowError, TypeError) as error:
        raise Damaged(f"{folder.name}: fill_value {str(value)[:40]!r} is no {dtype.name} value") from error
