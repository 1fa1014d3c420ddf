"""Cutting and pasting on the host: chunks into tiles, tiles into mosaics."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from gputiles.backends import Chunk, DecodeJob, Outcome, Raster, Tiles
from gputiles.backends.addresses import address
from gputiles.errors import Damaged, GputilesError
from gputiles.geometry import Rect

T = TypeVar("T")

BROKEN = (
    RuntimeError, ValueError, TypeError, ArithmeticError, LookupError, EOFError, struct.error, zlib.error,
)  # fmt: skip
"""What decoders raise at bytes that they do not understand."""


def raster_of(pixels: NDArray[Any], valid: NDArray[np.uint8] | None = None) -> Raster:
    """Return arrays as a raster, read-only from now on."""
    weight, places = pixels.nbytes, (address(pixels), address(valid))
    pixels.flags.writeable = False
    if valid is not None:
        valid.flags.writeable = False
        weight += valid.nbytes
    rows, columns, samples = pixels.shape
    shape = (rows, columns, samples)
    return Raster(pixels, shape, pixels.dtype, weight, valid, *places)


Decode = Callable[[Sequence[Chunk]], Iterable[Any]]
"""How chunks become pixels, an error, or None, each in its turn."""


class _Part(NamedTuple):
    """What was decoded: where it lies, its first sample, and its pixels, an error, or None."""

    place: Rect
    sample: int
    pixels: Any


def fetched(job: DecodeJob) -> DecodeJob:
    """Return a job with all the bytes of its chunks, read where they were left in the file."""
    if not job.left:
        return job
    return job.with_chunks(tuple(map(_fetched, job.chunks)), tuple(map(_fetched, job.mask)))


def _fetched(chunk: Chunk) -> Chunk:
    left = chunk.left
    return chunk if left is None else Chunk(chunk.codec, left.read(), chunk.place, chunk.sample)


def decode_chunk(chunk: Chunk) -> Any:
    """Return a chunk's pixels, its error, or None where the file holds nothing."""
    chunk = _fetched(chunk)
    if not isinstance(chunk.data, bytes):
        return chunk.data
    return tried(partial(chunk.codec.decode, chunk.data, chunk.place.width, chunk.place.height))


def one_by_one(chunks: Sequence[Chunk]) -> Iterable[Any]:
    """Decode each chunk by its own codec."""
    return map(decode_chunk, chunks)


def decode_tiles(job: DecodeJob, decode: Decode = one_by_one) -> Tiles:
    """Decode the chunks of a job once, one after the other, and cut its tiles out of them."""
    pairs = zip(job.chunks, decode(job.chunks), strict=True)
    decoded = (_Part(chunk.place, chunk.sample, pixels) for chunk, pixels in pairs)
    in_place = tuple(chunk.place for chunk in job.chunks) == job.tiles
    tiles = tuple(map(partial(_alone, job), decoded)) if in_place else _cut(job, decoded)
    if not job.mask:
        return tiles
    mask = replace(job, chunks=job.mask, mask=(), samples=1, dtype=np.dtype(np.uint8), fill=0)
    return tuple(map(_masked, tiles, decode_tiles(mask, decode)))


def _alone(job: DecodeJob, part: _Part) -> Raster | GputilesError:
    """Return the tile at the place of a chunk, which mostly is that chunk."""
    return _whole(job, part.place, part) or _tile(job, part.place, (part,))


def _cut(job: DecodeJob, decoded: Iterable[_Part]) -> Tiles:
    area = _shown(job)
    parts = [_trimmed(part, area) for part in decoded]
    by_place = {part.place: part for part in parts}
    return tuple(_whole(job, rect, by_place.get(rect)) or _tile(job, rect, parts) for rect in job.tiles)


def _shown(job: DecodeJob) -> Rect:
    """Return the part of the level that the tiles of a job show, at least a pixel."""
    x, y = min(rect.x for rect in job.tiles), min(rect.y for rect in job.tiles)
    right = min(job.level[0], max(rect.right for rect in job.tiles))
    bottom = min(job.level[1], max(rect.bottom for rect in job.tiles))
    return Rect(x, y, max(1, right - x), max(1, bottom - y))


def _inside(job: DecodeJob, rect: Rect) -> Rect:
    return rect.intersect(Rect(0, 0, *job.level)) or Rect(rect.x, rect.y, 1, 1)


def _masked(tile: Raster | GputilesError, mask: Raster | GputilesError) -> Raster | GputilesError:
    """Return a tile that is valid where it was and its mask is not 0; the error of either."""
    if isinstance(tile, GputilesError) or isinstance(mask, GputilesError):
        return tile if isinstance(tile, GputilesError) else mask
    valid = (mask.pixels[..., 0] != 0).astype(np.uint8)
    valid = valid if tile.valid is None else valid & tile.valid
    return raster_of(tile.pixels, None if valid.all() else valid)


def tried(decode: Callable[[], T]) -> Outcome[T]:
    """Return what a decoder returns, or its error as one of ours."""
    try:
        return decode()
    except GputilesError as error:
        return error
    except BROKEN as error:
        return Damaged(f"a chunk cannot be decoded: {error}")


def _trimmed(part: _Part, area: Rect) -> _Part:
    """Return what lies in ``area`` alone where that is less than half: many chunks wait for the last one."""
    if area.contains(part.place):
        return part
    place = part.place.intersect(area)
    if place is None or 2 * place.width * place.height > part.place.width * part.place.height:
        return part
    if part.pixels is None or isinstance(part.pixels, GputilesError):
        return part
    return _Part(place, part.sample, part.pixels[_window(place, part.place)].copy())


def _tile(job: DecodeJob, rect: Rect, parts: Sequence[_Part]) -> Raster | GputilesError:
    """Cut one tile; the error of the first chunk under it that has one."""
    inside = _inside(job, rect)
    under = [part for part in parts if part.place.intersect(inside) is not None]
    for part in under:
        if isinstance(part.pixels, GputilesError):
            return part.pixels
    return _pasted(job, rect, inside, under)


def _whole(job: DecodeJob, rect: Rect, part: _Part | None) -> Raster | None:
    """Return a tile as the array of the chunk at its place, without a copy, where it is just that."""
    if part is None or part.pixels is None or isinstance(part.pixels, GputilesError):
        return None
    pixels, (width, height) = part.pixels, job.level
    fits = pixels.shape == (rect.height, rect.width, job.samples) and pixels.dtype == job.dtype
    inside = rect.right <= width and rect.bottom <= height
    return raster_of(pixels) if fits and inside and _stands_alone(pixels) else None


def _stands_alone(part: NDArray[Any]) -> bool:
    """Say whether an array keeps no more memory alive than its own pixels."""
    base = part.base
    whole = base is None or (
        isinstance(base, np.ndarray) and base.nbytes == part.nbytes and base.base is None
    )
    return part.flags.c_contiguous and whole


def _pasted(job: DecodeJob, rect: Rect, inside: Rect, under: Sequence[_Part]) -> Raster:
    sparse = not under or any(part.pixels is None for part in under)
    size = (inside.height, inside.width, job.samples)
    pixels = np.full(size, job.fill, job.dtype) if sparse else np.empty(size, job.dtype)
    valid = np.zeros(size[:2], np.uint8) if sparse else None
    for part in under:
        place = part.place.intersect(inside)
        if part.pixels is None or place is None:
            continue
        to, samples = _window(place, inside), slice(part.sample, part.sample + part.pixels.shape[2])
        pixels[(*to, samples)] = part.pixels[_window(place, part.place)]
        if valid is not None:
            valid[to] = 1
    if (inside.width, inside.height) != (rect.width, rect.height):
        missing = ((0, rect.height - inside.height), (0, rect.width - inside.width))
        pixels = np.pad(pixels, (*missing, (0, 0)), mode="edge")
        valid = None if valid is None else np.pad(valid, missing, mode="edge")
    return raster_of(np.ascontiguousarray(pixels), None if valid is None or valid.all() else valid)


def _window(place: Rect, origin: Rect) -> tuple[slice, slice]:
    """Return the (rows, columns) of ``place`` in an array that begins at ``origin``."""
    return (
        slice(place.y - origin.y, place.bottom - origin.y),
        slice(place.x - origin.x, place.right - origin.x),
    )


def mosaic(tiles: Sequence[tuple[int, int, Raster]], region: Rect) -> Raster:
    """Return ``region`` of tiles that lie at (left, top, raster)."""
    like = tiles[0][2]
    pixels = np.zeros((region.height, region.width, like.shape[2]), like.dtype)
    valid = np.zeros((region.height, region.width), np.uint8)
    for left, top, tile in tiles:
        rect = Rect(left, top, tile.shape[1], tile.shape[0])
        place = rect.intersect(region)
        if place is not None:
            pixels[_window(place, region)] = tile.pixels[_window(place, rect)]
            valid[_window(place, region)] = 1 if tile.valid is None else tile.valid[_window(place, rect)]
    return raster_of(pixels, None if valid.all() else valid)
