"""Reads tiles and whole levels of a source with plain NumPy: what a backend's decode must give."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from gputiles.backends import Chunk, DecodeJob
from gputiles.errors import GputilesError
from gputiles.geometry import Rect
from gputiles.sources import Source

Pixels = NDArray[Any]


def decode(job: DecodeJob) -> list[Pixels | GputilesError]:
    """Decode a job's chunks once and cut its tiles out; one outcome per tile."""
    parts = [(chunk, _decode(chunk)) for chunk in job.chunks]
    return [_cut(job, parts, tile) for tile in job.tiles]


def _decode(chunk: Chunk) -> Pixels | GputilesError | None:
    if chunk.data is None or isinstance(chunk.data, GputilesError):
        return chunk.data
    try:
        pixels = chunk.codec.decode(chunk.data, chunk.place.width, chunk.place.height)
    except GputilesError as error:
        return error
    assert pixels.shape[:2] == (chunk.place.height, chunk.place.width)
    assert pixels.dtype.isnative
    return pixels


def _cut(
    job: DecodeJob, parts: list[tuple[Chunk, Pixels | GputilesError | None]], tile: Rect
) -> Pixels | GputilesError:
    pixels = np.full((tile.height, tile.width, job.samples), job.fill, job.dtype)
    filled = np.zeros((tile.height, tile.width), bool)
    ys = np.minimum(np.arange(tile.y, tile.bottom), job.level[1] - 1)
    xs = np.minimum(np.arange(tile.x, tile.right), job.level[0] - 1)
    for chunk, part in parts:
        place = chunk.place
        rows, columns = (ys >= place.y) & (ys < place.bottom), (xs >= place.x) & (xs < place.right)
        if not rows.any() or not columns.any():
            continue
        if isinstance(part, GputilesError):
            return part
        filled[np.ix_(rows, columns)] = True
        if part is not None:
            assert part.dtype == job.dtype
            bands = range(chunk.sample, chunk.sample + part.shape[2])
            cut = part[np.ix_(ys[rows] - place.y, xs[columns] - place.x)]
            pixels[np.ix_(rows, columns, bands)] = cut
    assert filled.all(), "no chunk covers a part of the tile"
    return pixels


def read_tile(source: Source, frame: int, z: int, x: int, y: int) -> Pixels | GputilesError:
    """Return one tile (rows, columns, samples), or its error."""
    unit = source.info.unit(z, x, y)
    assert unit.x <= x < unit.right
    assert unit.y <= y < unit.bottom
    return decode(source.read(frame, z, unit))[list(unit.cells()).index((x, y))]


def read_level(source: Source, frame: int, z: int) -> Pixels:
    """Return a whole level, put together from its units; the first error is raised."""
    width, height = source.info.grid.size(z)
    columns, rows = source.info.grid.tiles(z)
    whole = np.zeros((height, width, source.info.samples), source.info.dtype)
    done = set()
    for x, y in Rect(0, 0, columns, rows).cells():
        unit = source.info.unit(z, x, y)
        if unit in done:
            continue
        done.add(unit)
        job = source.read(frame, z, unit)
        for tile, pixels in zip(job.tiles, decode(job), strict=True):
            if isinstance(pixels, GputilesError):
                raise pixels
            whole[tile.y : tile.bottom, tile.x : tile.right] = pixels
    assert sum(unit.width * unit.height for unit in done) == columns * rows
    return whole


def full(source: Source, frame: int = 0) -> Pixels:
    """Return the full-resolution level of a frame."""
    return read_level(source, frame, source.info.levels - 1)
