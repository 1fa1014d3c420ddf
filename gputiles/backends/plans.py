"""Plans: what the kernels are to do, as rows of job tables; the same for every target."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import accumulate
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from gputiles.backends import (
    DownsampleJob,
    MeasureJob,
    Measurement,
    Raster,
    RenderJob,
    ResampleJob,
    lookups,
    tables,
)
from gputiles.backends.conversion import Converter
from gputiles.backends.tables import Placed
from gputiles.encoded import Format
from gputiles.image import Reduction
from gputiles.recipe import Finish, Recipe

PALETTE = tables.word(tables.BAND, "palette")
PIXELS, VALID = (tables.word(tables.BAND, "source", name) for name in ("pixels", "valid"))
BANDS = tables.word(tables.COMPOSITE, "bands")

Edges = tuple[float, float, int]
Like = tuple[tuple[int, int, int], np.dtype[np.generic]]  # the shape and the dtype of a raster


@dataclass(frozen=True, slots=True)
class Target:
    """Where kernels run: the pixels of a run, where an array lies for them, how colours are converted."""

    run: int
    address: Callable[[NDArray[Any]], int]
    colours: Converter


class Picture(NamedTuple):
    """A picture to be made: its kernel, a table of one job that lacks ``out``, and its shape.

    Of pictures that look alike the table has a job each.

    ``held`` is what the table points to, where its target does not keep copies.
    """

    kernel: str
    table: NDArray[Any]
    shape: tuple[int, int, int]
    held: tuple[Any, ...]


# -- pictures


def picture(job: RenderJob, sources: list[Placed], target: Target) -> Picture:
    """Return the plan of a job's composite, or of its unstyled conversion; ``sources`` are its rasters."""
    return _unstyled(job, sources, target) if job.recipe.bands is None else sheet([job], [sources], target)


def sheet(jobs: Sequence[RenderJob], sources: Sequence[list[Placed]], target: Target) -> Picture:
    """Return the plan of composites with one ``look``; ``sources`` are the rasters of each.

    Of several none may have an ICC conversion, whose scratch memory the next one would use again.
    """
    plan = _composite(*look(jobs[0]), target.run)
    bands, table = _for_each(plan.bands, jobs), _for_each(plan.table, jobs)
    palettes = target.address(plan.palettes)
    bands[..., PALETTE] = [palettes + start for start in plan.starts]
    bands[..., PIXELS] = [target.colours.band_pixels(jobs[0].recipe, each, plan.frames) for each in sources]
    bands[..., VALID] = [[each[frame].valid for frame in plan.frames] for each in sources]
    first = target.address(bands)
    table[..., BANDS] = [[first + number * bands.strides[0]] for number in range(len(jobs))]
    rows = table.view(tables.COMPOSITE).reshape(len(jobs))
    return Picture("composite", rows, plan.shape, (bands, plan.palettes))


def _for_each(words: NDArray[np.uint64], jobs: Sequence[RenderJob]) -> NDArray[np.uint64]:
    """Return a new array with a copy of ``words`` for each job."""
    return words[None].copy() if len(jobs) == 1 else np.repeat(words[None], len(jobs), axis=0)


def look(job: RenderJob) -> tuple[Recipe, tuple[Like, ...], Frame]:
    """Return what a job's composite has in common with others of a viewport."""
    likes = tuple((raster.shape, raster.dtype) for raster in job.rasters)
    jpeg = job.encoding.format is Format.JPEG
    return job.recipe, likes, Frame(job.width, job.height, jpeg, job.fill, job.background)


class Frame(NamedTuple):
    """The size of a picture, and what shows where its rasters do not."""

    width: int
    height: int
    jpeg: bool
    fill: tuple[int, int, int, int] | None
    background: tuple[int, int, int] | None


class Composite(NamedTuple):
    """What the tiles of a viewport have in common.

    The table and the Band structs, as rows of words (NumPy copies structs field by field), lack addresses:
    ``palettes`` has all palettes, ``starts`` where that of each band begins, in bytes, and ``frames`` which
    raster each band reads.
    """

    table: NDArray[np.uint64]
    bands: NDArray[np.uint64]
    frames: list[int]
    palettes: NDArray[np.float32]
    starts: list[int]
    shape: tuple[int, int, int]


@lru_cache(maxsize=256)
def _composite(recipe: Recipe, likes: tuple[Like, ...], frame: Frame, run: int) -> Composite:
    """Return the plan of a composite over rasters ``likes``."""
    frames = [recipe.frames.index(band.frame) for band in recipe.bands or ()]
    palettes = [lookups.palette(band) for band in recipe.bands or ()]
    sources = [Placed(0, 0, shape, dtype) for shape, dtype in likes]
    bands = [
        tables.band(band, sources[at], palette)
        for band, at, palette in zip(recipe.bands or (), frames, palettes, strict=True)
    ]
    table, shape = _layout(recipe.samples, recipe.axis, recipe.finish, len(bands), likes, frame, run)
    planes = np.concatenate([np.zeros(0, np.float32), *(palette.planes.ravel() for palette in palettes)])
    starts = list(accumulate((palette.planes.nbytes for palette in palettes), initial=0))[:-1]
    return Composite(tables.words(table), tables.words(tables.bands(bands)), frames, planes, starts, shape)


@lru_cache(maxsize=256)
def _layout(
    components: int,
    axis: int | None,
    finish: Finish,
    bands: int,
    likes: tuple[Like, ...],
    frame: Frame,
    run: int,
) -> tuple[NDArray[Any], tuple[int, int, int]]:
    """Return the table of a composite, whatever its bands are like, and the picture's shape."""
    alpha = components == 4 and axis is None
    dropped = alpha and frame.jpeg
    blended = dropped and frame.background is not None
    samples = 1 if axis is not None else components - dropped
    table = np.zeros(1, tables.COMPOSITE)
    row = table[0]
    row["band_count"] = bands
    row["accumulators"] = 3 if dropped and not blended else components
    row["first"], row["samples"] = min(axis or 0, components - 1), samples
    row["finish"], row["blended"] = finish, blended
    colours = min(samples, 3)
    under = frame.background if blended else None
    row["fill"] = tables.padding(frame.fill, colours, alpha=samples == 4 or blended, under=under)
    _place(row, frame, [Placed(0, 0, *like) for like in likes], colours, run)
    return table, (frame.height, frame.width, samples)


def _unstyled(job: RenderJob, sources: list[Placed], target: Target) -> Picture:
    source = target.colours.shown(job.recipe.icc, sources[0], None)
    colormap = job.recipe.colormap
    stored = source.shape[2]
    colours = 3 if colormap is not None or stored >= 3 else 1
    sample = stored - 1 if colormap is None and stored in (2, 4) else -1
    alpha = sample >= 0 or source.valid != 0
    dropped = alpha and job.encoding.format is Format.JPEG
    blended = dropped and job.background is not None
    samples = colours + (alpha and not dropped)
    table = np.zeros(1, tables.UNSTYLED)
    row = table[0]
    row["source"] = tables.source(source)
    if colormap is not None:
        colormap = np.ascontiguousarray(colormap)
        row["colormap"], row["entries"] = target.address(colormap), len(colormap)
    row["colours"], row["alpha"], row["samples"], row["blended"] = colours, sample, samples, blended
    under = job.background if blended else None
    row["fill"] = tables.padding(job.fill, colours, alpha=samples > colours or blended, under=under)
    _place(row, job, [source], colours, target.run)
    return Picture("unstyled", table, (job.height, job.width, samples), (colormap,))


def _place(row: Any, job: RenderJob | Frame, sources: list[Placed], colours: int, run: int) -> None:
    """Fill in the size of the picture and how much of it the rasters cover."""
    row["width"], row["height"], row["runs"] = job.width, job.height, tables.runs(job.width, job.height, run)
    row["columns"] = min([job.width, *(source.shape[1] for source in sources)])
    row["rows"] = min([job.height, *(source.shape[0] for source in sources)])
    row["background"] = tables.background(job.background, colours)


class Spans(NamedTuple):
    """Shares of a picture's runs: where each begins, and how many they are."""

    begins: NDArray[np.int64]
    counts: NDArray[np.int64]


def spans(width: int, shares: Sequence[range], run: int) -> Spans:
    """Return shares of the rows of a picture, ``width`` pixels wide, as those of its runs."""
    begins = [tables.runs(width, rows.start, run) for rows in shares]
    counts = [tables.runs(width, len(rows), run) for rows in shares]
    return Spans(np.array(begins, np.int64), np.array(counts, np.int64))


def cut(table: NDArray[Any], spans: Spans) -> NDArray[Any]:
    """Return a picture's table for some of its rows only, a job for each share of them."""
    parts = np.repeat(table, len(spans.begins))
    parts["begin"], parts["runs"] = spans
    return parts


# -- made tiles


def downsample(job: DownsampleJob, children: list[Placed | None], run: int) -> tuple[NDArray[Any], bool]:
    """Return a table of one job, and whether pixels of the tile may lack data."""
    like = next(child for child in children if child is not None)
    table = tables.downsamples([tables.downsample(job, children, run)])
    masked = any(child is not None and child.valid for child in children)
    return table, masked or job.alpha or may_lack(like.dtype, job.nodata)


def resample(job: ResampleJob, source: Placed, run: int) -> tuple[NDArray[Any], bool]:
    """Return a table of one job over the mosaic ``source``, and whether pixels may lack data."""
    table = np.zeros(1, tables.RESAMPLE)
    row = table[0]
    row["source"] = tables.source(source, job.nodata)
    row["empty"] = tables.empty(source.dtype, job.nodata)
    row["width"], row["height"], row["alpha"] = job.width, job.height, job.alpha
    row["nearest"] = job.reduction is Reduction.NEAREST or (
        job.width >= job.region.width and job.height >= job.region.height
    )
    row["runs"] = tables.runs(job.width, job.height, run)
    return table, bool(source.valid) or job.alpha or may_lack(source.dtype, job.nodata)


def may_lack(dtype: np.dtype[np.generic], nodata: float | None) -> bool:
    """Say whether values of ``dtype`` may be missing without a validity plane."""
    return dtype.kind == "f" or tables.native(nodata, dtype) is not None


# -- measures


def with_room(job: MeasureJob) -> MeasureJob:
    """Return a job whose histogram has room around a single value, as numpy.histogram gives it."""
    if job.edges is None or job.edges[0] != job.edges[1]:
        return job
    low, high, bins = job.edges
    return replace(job, edges=(low - 0.5, high + 0.5, bins))


def borders(edges: Edges) -> NDArray[np.float64]:
    """Return the borders of equal bins."""
    low, high, bins = edges
    return np.linspace(low, high, bins + 1)


def extremes(rows: NDArray[Any]) -> Measurement:
    """Return what the rows of a raster (EXTREMES) measure together."""
    counted = rows[rows["count"] > 0]
    if not len(counted):
        return Measurement(float("inf"), float("-inf"), 0)
    return Measurement(float(counted["low"].min()), float(counted["high"].max()), int(counted["count"].sum()))


def histogram(edges: Edges, counts: NDArray[np.int64]) -> Measurement:
    """Return counts with the borders between which something was counted."""
    found, places = np.flatnonzero(counts), borders(edges)
    if not len(found):
        return Measurement(float("inf"), float("-inf"), 0, counts)
    return Measurement(float(places[found[0]]), float(places[found[-1]]), int(counts.sum()), counts)


def placed(raster: Raster) -> Placed:
    """Return a raster as job tables describe it."""
    return Placed(raster.address, raster.valid_address, raster.shape, raster.dtype)
