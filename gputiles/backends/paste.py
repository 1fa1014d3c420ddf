"""Cutting and pasting on the host: chunks into tiles, tiles into mosaics."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gputiles.backends import Chunk, DecodeJob, Raster, Tiles
from gputiles.errors import Damaged, GputilesError
from gputiles.geometry import Rect

BROKEN = (
    RuntimeError, ValueError, TypeError, ArithmeticError, LookupError, EOFError, struct.error, zlib.error,
)  # fmt: skip
"""What decoders raise at bytes that they do not understand."""


def raster_of(pixels: NDArray[Any], valid: NDArray[np.uint8] | None = None) -> Raster:
    """Return arrays as a raster, read-only from now on."""
    pixels.flags.writeable = False
    weight, valid_address = pixels.nbytes, 0
    if valid is not None:
        valid.flags.writeable = False
        weight += valid.nbytes
        valid_address = valid.ctypes.data
    rows, columns, samples = pixels.shape
    shape = (rows, columns, samples)
    return Raster(pixels, shape, pixels.dtype, weight, valid, pixels.ctypes.data, valid_address)


def decode_tiles(job: DecodeJob) -> Tiles:
    """Decode the chunks of a job once, and cut its tiles out of them."""
    parts = [_decode(chunk) for chunk in job.chunks]
    tiles = tuple(_tile(job, rect, parts) for rect in job.tiles)
    if not job.mask:
        return tiles
    mask = replace(job, chunks=job.mask, mask=(), samples=1, dtype=np.dtype(np.uint8), fill=0)
    return tuple(map(_masked, tiles, decode_tiles(mask)))


def _masked(tile: Raster | GputilesError, mask: Raster | GputilesError) -> Raster | GputilesError:
    """Return a tile that is valid where it was and its mask is not 0; the error of either."""
    if isinstance(tile, GputilesError) or isinstance(mask, GputilesError):
        return tile if isinstance(tile, GputilesError) else mask
    valid = (mask.pixels[..., 0] != 0).astype(np.uint8)
    valid = valid if tile.valid is None else valid & tile.valid
    return raster_of(tile.pixels, None if valid.all() else valid)


def _decode(chunk: Chunk) -> Any:
    """Return a chunk's pixels, its error, or None where the file holds nothing."""
    if chunk.data is None or isinstance(chunk.data, GputilesError):
        return chunk.data
    try:
        return chunk.codec.decode(chunk.data, chunk.place.width, chunk.place.height)
    except GputilesError as error:
        return error
    except BROKEN as error:
        return Damaged(f"a chunk cannot be decoded: {error}")


def _tile(job: DecodeJob, rect: Rect, parts: Sequence[Any]) -> Raster | GputilesError:
    """Cut one tile; the error of the first chunk under it that has one."""
    inside = rect.intersect(Rect(0, 0, *job.level)) or Rect(rect.x, rect.y, 1, 1)
    under = [
        (chunk, part)
        for chunk, part in zip(job.chunks, parts, strict=True)
        if chunk.place.intersect(inside) is not None
    ]
    for _, part in under:
        if isinstance(part, GputilesError):
            return part
    if len(under) == 1 and under[0][1] is not None:
        whole = _whole(under[0], rect, inside, job)
        if whole is not None:
            return whole
    return _pasted(job, rect, inside, under)


def _whole(under: tuple[Chunk, Any], rect: Rect, inside: Rect, job: DecodeJob) -> Raster | None:
    """Return the tile as the chunk's own array where it is just that, without a copy."""
    chunk, part = under
    fits = chunk.place == rect == inside and part.shape == (rect.height, rect.width, job.samples)
    return raster_of(part) if fits and part.dtype == job.dtype and _stands_alone(part) else None


def _stands_alone(part: NDArray[Any]) -> bool:
    """Say whether an array keeps no more memory alive than its own pixels."""
    base = part.base
    whole = base is None or (
        isinstance(base, np.ndarray) and base.nbytes == part.nbytes and base.base is None
    )
    return part.flags.c_contiguous and whole


def _pasted(job: DecodeJob, rect: Rect, inside: Rect, under: Sequence[tuple[Chunk, Any]]) -> Raster:
    sparse = not under or any(part is None for _, part in under)
    size = (inside.height, inside.width, job.samples)
    pixels = np.full(size, job.fill, job.dtype) if sparse else np.empty(size, job.dtype)
    valid = np.zeros(size[:2], np.uint8) if sparse else None
    for chunk, part in under:
        place = chunk.place.intersect(inside)
        if part is None or place is None:
            continue
        to = _window(place, inside)
        pixels[(*to, slice(chunk.sample, chunk.sample + part.shape[2]))] = part[_window(place, chunk.place)]
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
