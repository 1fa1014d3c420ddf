"""What a card makes equals what the host makes, bit for bit: checks for any backend with a card.

``tests/test_cuda.py`` runs them over the stand-in, ``tests/gpu`` over a real card.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gputiles.backends import DownsampleJob, MeasureJob, Measurement, Raster, RenderJob, ResampleJob
from gputiles.backends.cuda import CudaBackend
from gputiles.backends.host import HostBackend
from gputiles.cardtest import shown
from gputiles.encoded import Encoding, Format, Tone, Turn
from gputiles.errors import GputilesError
from gputiles.geometry import Rect
from gputiles.image import Reduction
from gputiles.recipe import Blend, Conversion, ConversionKind, Finish, Recipe
from tests.test_kernels import band, raster

HOST = HostBackend(1)

ENCODINGS = (
    Encoding(Format.PNG),
    Encoding(Format.JPEG, 95, 0),
    Encoding(Format.JPEG, 80, 1),
    Encoding(Format.JPEG, 30, 2),
    Encoding(Format.NPY, shown=True),
    Encoding(Format.TIFF, shown=True),
    Encoding(Format.PNG, turn=Turn(1, True, Tone.GREY)),
    Encoding(Format.JPEG, 90, 2, turn=Turn(3)),
    Encoding(Format.NPY, turn=Turn(2)),
)
WIDTHS = (1, 3, 17, 240, 1025)
BANDS = (1, 2, 3, 4, 5, 8, 16)
SAMPLES = (1, 2, 3, 4, 5)
LOOKUPS = ((2, False), (3, False), (6, True))  # stops of a palette, and whether it has steps


def up(backend: CudaBackend, rasters: Sequence[Raster]) -> list[Raster]:
    """Return host rasters on the card."""

    def upload() -> list[Raster]:
        made = [backend.card.upload(raster) for raster in rasters]
        backend.card.courier.settle()
        return made

    return backend.on_card(upload)


def down(backend: CudaBackend, made: Raster) -> tuple[NDArray[Any], NDArray[Any] | None]:
    """Return a card's raster, and its validity plane, in host memory."""
    (pixels,) = backend.download([made])
    assert isinstance(pixels, np.ndarray)
    if made.valid is None:
        return pixels, None
    plane = Raster(made.valid, (*made.shape[:2], 1), np.dtype(np.uint8), 0, None, made.valid_address)
    (valid,) = backend.download([plane])
    assert isinstance(valid, np.ndarray)
    return pixels, valid[..., 0]


def random_recipe(rng: np.random.Generator, dtype: np.dtype[Any], samples: int) -> Recipe:
    bands = tuple(band(rng, dtype, int(rng.integers(3)), samples) for _ in range(rng.integers(1, 5)))
    grey = rng.random() < 0.2
    axis = int(rng.integers(4)) if rng.random() < 0.2 and not grey else None
    return Recipe((0, 1, 2), bands, 1 if grey else 4, Finish(int(rng.integers(3))), axis)


def random_jobs(seed: int, dtype: np.dtype[Any], widths: Sequence[int] = WIDTHS) -> list[RenderJob]:
    """Return jobs of one batch: styled in all ways and unstyled, in every encoding."""
    rng = np.random.default_rng([seed, dtype.num])
    jobs = []
    for encoding, width in product(ENCODINGS, widths):
        samples, rows = int(rng.integers(1, 5)), int(rng.integers(1, 40))
        rasters = tuple(
            raster(rng, dtype, (rows, width, samples), bool(rng.random() < 0.4)) for _ in range(3)
        )
        recipe = random_recipe(rng, dtype, samples) if rng.random() < 0.7 else Recipe((0,))
        size = (width + int(rng.integers(3)), rows + int(rng.integers(2)))
        fill = (1, 2, 3, 200) if rng.random() < 0.5 else None
        background = (200, 100, 50) if rng.random() < 0.5 else None
        rasters = rasters if recipe.bands is not None else rasters[:1]
        jobs.append(RenderJob(recipe, rasters, *size, encoding, fill, background))
    return jobs


def every_composite(dtype: np.dtype[Any]) -> list[RenderJob]:
    """Return composites of one type: every number of bands, way to join, look-up of a palette, and end."""
    rng = np.random.default_rng([7, dtype.num])
    jobs: list[RenderJob] = []
    for count, blend, finish, (stops, discrete) in product(BANDS, Blend, Finish, LOOKUPS):
        rasters = tuple(raster(rng, dtype, (3, 21, 4), at == 1) for at in range(2))
        bands = tuple(
            band(rng, dtype, at % 2, 4)._replace(
                sample=at % 4,
                blend=blend,
                discrete=discrete,
                palette=rng.integers(0, 256, (stops, 4)).astype(np.float32),
            )
            for at in range(count)
        )
        encoding = ENCODINGS[(len(jobs) + len(jobs) // len(ENCODINGS)) % len(ENCODINGS)]
        jobs.append(RenderJob(Recipe((0, 1), bands, 4, finish), rasters, 23, 4, encoding))
    return jobs


def every_unstyled(dtype: np.dtype[Any]) -> list[RenderJob]:
    """Return conversions of one type without a style: of every number of samples, masked and not."""
    rng = np.random.default_rng([8, dtype.num])
    return [
        RenderJob(Recipe((0,)), (raster(rng, dtype, (5, 19, samples), masked),), 20, 5, encoding)
        for samples, masked, encoding in product(SAMPLES, (False, True), ENCODINGS[:3])
    ]


def every_made(dtype: np.dtype[Any]) -> tuple[list[DownsampleJob], list[ResampleJob]]:
    """Return made tiles and regions of one type: of every number of samples, masked and not, in both ways."""
    rng = np.random.default_rng([9, dtype.num])
    downsamples: list[DownsampleJob] = []
    resamples: list[ResampleJob] = []
    for samples, masked, reduction in product(SAMPLES, (False, True), Reduction):
        tile = raster(rng, dtype, (9, 14, samples), masked)
        downsamples.append(DownsampleJob((tile, None, None, None), (16, 16), 7, 5, reduction))
        resamples += [
            ResampleJob(((0, 0, tile),), Rect(1, 1, 12, 8), *size, reduction) for size in ((5, 3), (20, 11))
        ]
    return downsamples, resamples


def conversions() -> list[Conversion]:
    """Return one ICC conversion of each kind that kernels know."""
    rng = np.random.default_rng(4)
    curves = np.sort(rng.uniform(0, 1, (3, 256)), axis=1).astype(np.float32)
    stops = np.linspace(0, 255, 4097).astype(np.float32)
    grid = rng.uniform(-10, 265, (9, 9, 9, 3)).astype(np.float32)
    mixed = np.array([[0.9, 0.2, -0.1], [0.1, 0.8, 0.1], [0, 0.1, 0.9]], np.float32)
    offset = np.array([0.01, 0, 0], np.float32)
    return [
        Conversion(ConversionKind.MATRIX, 255, curves, mixed, offset, stops),
        Conversion(ConversionKind.GRID, 255, table=grid),
    ]


def check_renders(backend: CudaBackend, jobs: Sequence[RenderJob]) -> None:
    """Render jobs as one batch and compare every file with the host's: a PNG's pixels, others' bytes."""
    moved = [replace(job, rasters=tuple(up(backend, job.rasters))) for job in jobs]
    for job, ours, theirs in zip(jobs, backend.render(moved), HOST.render(jobs), strict=True):
        assert not isinstance(theirs, GputilesError), theirs
        assert shown(ours) == shown(theirs), (job.encoding, job.width, job.height, job.recipe.bands is None)


def check_conversions(backend: CudaBackend) -> None:
    """Render and measure in converted colours, styled and not."""
    rng = np.random.default_rng(8)
    sources = [raster(rng, np.dtype(np.uint8), (9, width, 3), False) for width in (1, 5, 300)]
    styled = [band(rng, np.dtype(np.uint8), 0, 3) for _ in range(3)]
    jobs = [
        RenderJob(Recipe((0,), bands, icc=icc), (source,), source.shape[1], 9, Encoding(Format.PNG))
        for icc, source, bands in product(conversions(), sources, (None, tuple(styled)))
    ]
    check_renders(backend, jobs)
    check_measures(backend, [MeasureJob(sources[2], 1, None, 7.0, icc) for icc in conversions()])


def check_measures(backend: CudaBackend, jobs: Sequence[MeasureJob]) -> None:
    """Measure as one batch and compare with the host."""
    moved = [replace(job, raster=up(backend, [job.raster])[0]) for job in jobs]
    for ours, theirs in zip(backend.measure(moved), HOST.measure(jobs), strict=True):
        assert isinstance(ours, Measurement)
        assert isinstance(theirs, Measurement)
        assert (ours.low, ours.high, ours.count) == (theirs.low, theirs.high, theirs.count)
        assert np.array_equal(ours.histogram, theirs.histogram)  # type: ignore[arg-type]


def random_measures(dtype: np.dtype[Any]) -> list[MeasureJob]:
    """Return extremes and histograms: bins of every value, few, and more than a block holds."""
    rng = np.random.default_rng(dtype.num)
    jobs = []
    for masked, nodata in product((False, True), (None, 100.0)):
        source = raster(rng, dtype, (31, 57, 2), masked)
        edges: list[Any] = [None, (0.0, 255.0, 256), (3.0, 3.0, 4), (0.0, 1000.0, 65_536)]
        if dtype.kind in "iu" and dtype.itemsize <= 2:
            limits = np.iinfo(dtype)
            edges.append((limits.min, limits.max + 1.0, limits.max + 1 - limits.min))
        jobs += [MeasureJob(source, 1, each, nodata) for each in edges]
    return jobs


def random_downsamples(dtype: np.dtype[Any]) -> list[DownsampleJob]:
    """Return jobs whose children are whole, cut, absent, masked; mean and nearest."""
    rng = np.random.default_rng(dtype.num)
    jobs = []
    for split, reduction, masked in product([(1, 1), (16, 8), (65, 7)], Reduction, (False, True)):
        samples = int(rng.integers(1, 5))
        across = (split[0], int(rng.integers(0, split[0] + 1)))
        tall = (split[1], int(rng.integers(0, split[1] + 1)))
        children = tuple(
            raster(rng, dtype, (height, width, samples), masked) if width and height else None
            for height in tall
            for width in across
        )
        alpha, nodata = samples in (2, 4), float(rng.choice([100.0, np.nan]))
        size = -(-sum(across) // 2), -(-sum(tall) // 2)
        job = DownsampleJob(children, split, *size, reduction, nodata, alpha)  # type: ignore[arg-type]
        jobs += [job, replace(job, nodata=None, alpha=False)]
    return jobs


def check_downsamples(backend: CudaBackend, jobs: Sequence[DownsampleJob]) -> None:
    """Make tiles as one batch and compare pixels and validity with the host's."""
    moved = []
    for job in jobs:
        children = tuple(None if child is None else up(backend, [child])[0] for child in job.children)
        moved.append(replace(job, children=children))  # type: ignore[arg-type]
    check_rasters(backend, backend.downsample(moved), HOST.downsample(jobs))


def random_resamples(dtype: np.dtype[Any]) -> list[ResampleJob]:
    """Return regions across tiles, of one tile, of one whole tile; smaller and larger."""
    rng = np.random.default_rng(dtype.num)
    jobs = []
    regions = (Rect(3, 2, 41, 24), Rect(0, 0, 30, 20), Rect(5, 5, 7, 3))
    for region, size, masked in product(regions, [(10, 9), (60, 31), (1, 1)], (False, True)):
        tiles = tuple(
            (x * 30, y * 20, raster(rng, dtype, (20, 30, 2), masked and (x, y) != (1, 0)))
            for y in (0, 1)
            for x in (0, 1)
        )
        for reduction, alpha, nodata in ((Reduction.MEAN, True, None), (Reduction.NEAREST, False, 100.0)):
            jobs.append(ResampleJob(tiles, region, *size, reduction, nodata, alpha))
        jobs.append(ResampleJob(tiles[:3], region, *size, Reduction.MEAN))  # not all of it is covered
    return jobs


def check_resamples(backend: CudaBackend, jobs: Sequence[ResampleJob]) -> None:
    """Resize regions as one batch and compare with the host."""
    moved = [
        replace(job, tiles=tuple((x, y, up(backend, [tile])[0]) for x, y, tile in job.tiles)) for job in jobs
    ]
    check_rasters(backend, backend.resample(moved), HOST.resample(jobs))


def check_rasters(backend: CudaBackend, ours: Sequence[Any], theirs: Sequence[Any]) -> None:
    for mine, other in zip(ours, theirs, strict=True):
        assert isinstance(mine, Raster), mine
        pixels, valid = down(backend, mine)
        np.testing.assert_array_equal(pixels, other.pixels)
        assert (valid is None) == (other.valid is None)
        if valid is not None:
            np.testing.assert_array_equal(valid, other.valid)
