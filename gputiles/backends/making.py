"""Tiles and measures made on a card, and brought home: each verb one batch, one launch of its kernel."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from gputiles.backends import (
    DownsampleJob,
    MeasureJob,
    Measurement,
    Outcome,
    Raster,
    ResampleJob,
    plans,
    tables,
)
from gputiles.backends.arena import aligned
from gputiles.backends.card import Card, described
from gputiles.backends.modules import RUN
from gputiles.backends.tables import Placed
from gputiles.errors import GputilesError, OutOfMemory
from gputiles.geometry import Rect

J = TypeVar("J")
R = TypeVar("R")
E = TypeVar("E", bound=GputilesError)


def attempt(function: Callable[[J], R], job: J) -> Outcome[R]:
    """Return what ``function`` makes of a job, or the error that is this job's own.

    OutOfMemory is the whole batch's: it is raised.
    """
    try:
        return function(job)
    except OutOfMemory:
        raise
    except GputilesError as error:
        return bare(error)


def bare(error: E) -> E:
    """Return an error without its traceback, whose frames would hold the rasters of a batch."""
    error.__cause__ = error.__context__ = None
    return error.with_traceback(None)


# -- made tiles


def downsample(card: Card, jobs: Sequence[DownsampleJob]) -> list[Outcome[Raster]]:
    """Make each job's tile from its children."""
    return _made(card, lambda job: _downsample(card, job), jobs)


def resample(card: Card, jobs: Sequence[ResampleJob]) -> list[Outcome[Raster]]:
    """Cut and resize each job's region."""
    return _made(card, lambda job: _resample(card, job), jobs)


def _made(card: Card, plan: Callable[[J], Raster], jobs: Sequence[J]) -> list[Outcome[Raster]]:
    def launch() -> tuple[list[Outcome[Raster]], list[Raster], int]:
        card.begin()
        planned = [attempt(plan, job) for job in jobs]
        rasters = [raster for raster in planned if isinstance(raster, Raster)]
        return planned, rasters, card.settle(rasters)

    planned, rasters, counts = card.run(launch)
    settled = iter(card.settled(rasters, counts))
    return [next(settled) if isinstance(outcome, Raster) else outcome for outcome in planned]


def _downsample(card: Card, job: DownsampleJob) -> Raster:
    children = [None if child is None else described(child) for child in job.children]
    like = next(child for child in job.children if child is not None)
    table, partial = plans.downsample(job, children, RUN)
    return _room(card, "downsample", table, like, (job.height, job.width), partial)


def _resample(card: Card, job: ResampleJob) -> Raster:
    table, partial = plans.resample(job, _mosaic(card, job), RUN)
    return _room(card, "resample", table, job.tiles[0][2], (job.height, job.width), partial)


def _room(
    card: Card, kernel: str, table: NDArray[Any], like: Raster, size: tuple[int, int], partial: bool
) -> Raster:
    """Queue a kernel that makes one raster like ``like`` of ``size`` (rows, columns)."""
    made = card.raster((*size, like.shape[2]), like.dtype, masked=partial)
    table["out"], table["valid"] = made.address, made.valid_address
    card.queue(kernel, table)
    return made


def _mosaic(card: Card, job: ResampleJob) -> Placed:
    """Return the region of a job in one piece: a tile as it is, or pasted together."""
    region, like = job.region, job.tiles[0][2]
    parts = [
        (rect, place, tile)
        for left, top, tile in job.tiles
        for rect in [Rect(left, top, tile.shape[1], tile.shape[0])]
        for place in [rect.intersect(region)]
        if place is not None
    ]
    if len(parts) == 1 and parts[0][0] == region:
        return described(parts[0][2])
    samples = like.shape[2]
    area = region.width * region.height
    covered = sum(place.width * place.height for _, place, _ in parts)
    masked = covered < area or any(tile.valid is not None for _, _, tile in parts)
    pixel = samples * like.dtype.itemsize
    pixels, valid = card.temporary(area * pixel), card.temporary(area) if masked else 0
    if covered < area:
        card.device.clear(pixels, area * pixel)
        card.device.clear(valid, area)
    for rect, place, tile in parts:
        _paste(card, described(tile).pixels, pixels, (rect, place, region), pixel)
        if masked:
            _paste(card, described(tile).valid, valid, (rect, place, region), 1, value=1)
    return Placed(pixels, valid, (region.height, region.width, samples), like.dtype)


def _paste(
    card: Card, source: int, to: int, places: tuple[Rect, Rect, Rect], pixel: int, value: int = 0
) -> None:
    """Queue the copy of a place from one rectangle to another, of ``pixel`` bytes a pixel."""
    rect, place, region = places
    begin = ((place.y - rect.y) * rect.width + place.x - rect.x) * pixel
    end = ((place.y - region.y) * region.width + place.x - region.x) * pixel
    pitches = (rect.width * pixel, region.width * pixel)
    card.paste(source + begin if source else 0, to + end, (place.width * pixel, place.height), pitches, value)


# -- measures


def measure(card: Card, jobs: Sequence[MeasureJob]) -> list[Outcome[Measurement]]:
    """Measure each job's raster."""

    def launch() -> list[Outcome[tuple[int, int]]]:
        card.begin()
        planned = [attempt(lambda job: _measure(card, job), job) for job in jobs]
        card.go()
        card.returns.start(max((address + size for address, size in _extents(planned)), default=0))
        return planned

    planned = card.run(launch)
    return [
        outcome if isinstance(outcome, GputilesError) else _found(card, plans.with_room(job), *outcome)
        for job, outcome in zip(jobs, planned, strict=True)
    ]


def _extents(planned: Sequence[Outcome[tuple[int, int]]]) -> list[tuple[int, int]]:
    return [outcome for outcome in planned if not isinstance(outcome, GputilesError)]


def _measure(card: Card, job: MeasureJob) -> tuple[int, int]:
    """Queue a job; return (address, bytes) of what it will find."""
    job = plans.with_room(job)
    source = card.target.colours.shown(job.icc, described(job.raster), job.nodata)
    rows = job.raster.shape[0]
    size = rows * tables.EXTREMES.itemsize if job.edges is None else 8 * job.edges[2]
    out = card.returns.take(size)
    if job.edges is not None:
        card.returns.clear(out, size)
    table = np.zeros(1, tables.MEASURE)
    borders = 0 if job.edges is None else card.parcel.add(plans.borders(job.edges))
    tables.fill_measure(table[0], job, source, out, borders)
    card.queue("extremes" if job.edges is None else "histogram", table)
    return out, size


def _found(card: Card, job: MeasureJob, address: int, size: int) -> Measurement:
    data = card.returns.read(address, size)
    if job.edges is None:
        return plans.extremes(data.view(tables.EXTREMES))
    return plans.histogram(job.edges, data.view(np.int64).copy())


# -- copies


def download(card: Card, jobs: Sequence[Raster]) -> list[Outcome[NDArray[Any]]]:
    """Copy each raster to a new array: all in one copy, or, of more than there is room for, in parts."""
    copies: list[NDArray[Any]] = [np.empty(raster.shape, raster.dtype) for raster in jobs]
    if sum(aligned(copy.nbytes) for copy in copies) > card.returns.size:
        pairs = zip(jobs, copies, strict=True)
        card.courier.down([(described(raster).pixels, copy) for raster, copy in pairs])
        return list(copies)
    places = card.run(lambda: _gathered(card, jobs, [copy.nbytes for copy in copies]))
    for place, copy in zip(places, copies, strict=True):
        copy.reshape(-1).view(np.uint8)[:] = card.returns.read(place, copy.nbytes)
    return list(copies)


def _gathered(card: Card, jobs: Sequence[Raster], sizes: Sequence[int]) -> list[int]:
    """Let rasters come home side by side; return where they lie among the results."""
    card.begin()
    places = [card.returns.take(size) for size in sizes]
    for raster, place, size in zip(jobs, places, sizes, strict=True):
        card.paste(described(raster).pixels, place, (size, 1), (size, size))
    card.go()
    card.returns.start(max(map(sum, zip(places, sizes, strict=True)), default=0))
    return places
