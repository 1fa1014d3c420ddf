"""Ranges: what histograms say, against brute force over all the values; and which tiles are measured."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from hypothesis import example, given
from hypothesis import strategies as some
from hypothesis.extra import numpy as arrays
from numpy.typing import NDArray

from gputiles.backends import Measurement
from gputiles.config import Config
from gputiles.engine import Engine
from gputiles.geometry import Grid
from gputiles.image import ImageInfo
from gputiles.ranges import (
    BINS,
    MOST_TILES,
    NARROW,
    SIDE,
    WHOLE,
    Statistics,
    combine,
    direct_edges,
    plan,
    second_edges,
)
from gputiles.rasters import Work
from gputiles.trace import Trace
from gputiles.walk import FileRef
from tests import spec, twin

Array = NDArray[Any]
COUNTED = ("uint8", "int8", "uint16", "int16")
WIDE = ("uint32", "int32", "uint64", "int64", "float32", "float64")
SHARES = (0.0, 0.001, 0.02, 0.3, 0.5, 0.98, 0.999, 1.0)


def measured(tiles: Sequence[Array], nodata: float | None = None) -> Statistics:
    """Return the statistics of (rows, columns) tiles in the passes that a frame is measured in."""
    dtype = tiles[0].dtype
    edges = direct_edges(dtype)
    found: list[Measurement] = []
    if edges is None:
        found = [extremes(tile, nodata) for tile in tiles]
        edges = second_edges(found, dtype)
    if edges is not None:
        counts = [spec.histogram(tile, None, nodata, edges) for tile in tiles]
        found += [Measurement(0, 0, int(count.sum()), count) for count in counts]
    return combine(found, edges, dtype, "all of it")


def extremes(tile: Array, nodata: float | None) -> Measurement:
    kept = spec.countable(tile, None, nodata)
    return Measurement(float(kept.min()), float(kept.max()), kept.size) if kept.size else Measurement(0, 0, 0)


def values_of(dtype: str) -> some.SearchStrategy[Array]:
    """Return a strategy of tiles: values from all of the type, or from a narrow part of it."""
    shape = some.tuples(some.integers(1, 7), some.integers(1, 9))
    if np.dtype(dtype).kind == "f":
        width: Any = 8 * np.dtype(dtype).itemsize
        ordinary = some.floats(-1000, 1000, width=width) | some.sampled_from([np.nan, np.inf, -np.inf])
        return arrays.arrays(dtype, shape, elements=ordinary, fill=some.nothing())
    limits = np.iinfo(dtype)
    low, high = max(int(limits.min), -(2**52)), min(int(limits.max), 2**52)
    wide = arrays.arrays(dtype, shape, elements=some.integers(low, high))
    narrow = arrays.arrays(dtype, shape, elements=some.integers(3, 90))
    return wide | narrow


tiles_of_any_type = some.sampled_from(COUNTED + WIDE).flatmap(values_of)


# -- counted values


@given(some.sampled_from(COUNTED).flatmap(values_of), some.floats(0, 1))
def test_percentiles_of_8_and_16_bits_are_values_that_occur(tile: Array, share: float) -> None:
    found = measured([tile])
    assert found.exact
    assert (found.low, found.high, found.count) == (tile.min(), tile.max(), tile.size)
    assert found.percentile(share) == twin.percentile(tile, share)


@given(tiles_of_any_type)
def test_extremes_and_counts_are_those_of_the_finite_values(tile: Array) -> None:
    finite = tile[np.isfinite(tile)].astype(np.float64)
    found = measured([tile])
    assert found.count == finite.size
    assert (found.low, found.high) == ((finite.min(), finite.max()) if finite.size else (None, None))
    assert (found.extreme("min"), found.extreme("max")) == (found.low, found.high)
    assert found.histogram.sum() == found.count


@given(tiles_of_any_type, some.sampled_from(SHARES) | some.floats(0, 1), some.booleans())
@example(np.array([[0, 255]], np.uint8), 0.5, True)
@example(np.array([[1.0, 1.5, 9.0]], np.float32), 0.34, False)
def test_a_threshold_is_where_a_walk_over_256_bins_stops(tile: Array, share: float, from_top: bool) -> None:
    finite = tile[np.isfinite(tile)].astype(np.float64)
    found = measured([tile]).threshold(share, from_top)
    if not finite.size:
        assert found is None
        return
    assert found is not None
    wanted = twin.threshold(finite, share, "max" if from_top else "min")
    if tile.dtype.kind == "f" and np.ptp(finite) < NARROW:  # bins that do not subdivide the 256
        assert abs(found - wanted) <= (np.ptp(finite) + 1) / 256 * 1.001
    else:
        assert found == wanted


@given(tiles_of_any_type, some.floats(0, 1), some.floats(0, 1))
def test_percentiles_grow_with_their_share_and_stay_between_the_extremes(
    tile: Array, one: float, other: float
) -> None:
    found = measured([tile])
    lower, upper = found.percentile(min(one, other)), found.percentile(max(one, other))
    if found.low is None or found.high is None:
        assert lower is upper is None
    else:
        assert lower is not None
        assert upper is not None
        assert found.low <= lower <= upper <= found.high


@given(some.sampled_from(WIDE).flatmap(values_of), some.floats(0, 1))
def test_a_percentile_of_wide_types_is_within_a_bin_of_the_true_one(tile: Array, share: float) -> None:
    finite = tile[np.isfinite(tile)].astype(np.float64)
    found = measured([tile])
    if finite.size:
        low, high, bins = found.edges
        percentile = found.percentile(share)
        assert percentile is not None
        assert abs(percentile - twin.percentile(finite, share)) <= (high - low) / bins * 1.001


@given(tiles_of_any_type, some.integers(1, 8))
def test_how_an_image_is_cut_into_tiles_does_not_matter(tile: Array, rows: int) -> None:
    whole, parts = measured([tile]), measured([tile[i : i + rows] for i in range(0, len(tile), rows)])
    assert (whole.low, whole.high, whole.count, whole.edges) == (
        parts.low, parts.high, parts.count, parts.edges,
    )  # fmt: skip
    np.testing.assert_array_equal(whole.histogram, parts.histogram)


@pytest.mark.parametrize("dtype", COUNTED + WIDE)
def test_a_constant_image_has_that_value_for_every_end(dtype: str) -> None:
    found = measured([np.full((4, 5), 7, dtype)])
    assert (found.low, found.high, found.count) == (7, 7, 20)
    assert {found.percentile(share) for share in SHARES} == {7}
    assert {found.threshold(share, False) for share in SHARES[:-1]} == {7}
    # from the top, as large_image walks: the value lies in the last of 256 bins over 7 … 8
    assert {found.threshold(share, True) for share in SHARES[:-1]} == {7 + 1 / 256}


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_an_image_without_a_finite_value_has_no_ranges(dtype: str, value: float) -> None:
    found = measured([np.full((4, 5), value, dtype)])
    assert (found.low, found.high, found.count) == (None, None, 0)
    assert found.percentile(0.5) is found.threshold(0.5, True) is found.extreme("min") is None


@pytest.mark.parametrize("dtype", COUNTED + WIDE)
def test_nodata_is_not_counted(dtype: str) -> None:
    tile = np.array([[0, 1, 100, 50, 0, 100]], dtype)
    assert (measured([tile], 0).low, measured([tile], 0).high, measured([tile], 0).count) == (1, 100, 4)
    assert (measured([tile], 100).low, measured([tile], 100).high) == (0, 50)
    assert measured([np.zeros((2, 2), dtype)], 0).low is None
    assert measured([tile], 0.5).count == 6, "a value that the data cannot hold hides nothing"


@pytest.mark.parametrize("values", [
    [-1.7e308, 1.7e308], [0, 1.7e308], [-5e-324, 5e-324], [1, 1 + 2**-52], [1e300, 1e300 * (1 + 2**-52)],
    [2.0**53, 2.0**53 + 2],
])  # fmt: skip
def test_spans_that_have_no_equal_bins_still_have_extremes(values: list[float]) -> None:
    found = measured([np.array([values], np.float64)])
    assert (found.low, found.high, found.count) == (*values, 2)
    for share in SHARES:
        percentile = found.percentile(share)
        assert percentile is not None
        assert values[0] <= percentile <= values[1]


def test_narrow_floats_are_told_apart() -> None:
    tile = 5 + np.linspace(0, 0.01, 10_000, dtype=np.float64).reshape(100, 100)
    found = measured([tile])
    assert found.percentile(0.25) == pytest.approx(5.0025, abs=1e-6)
    assert np.count_nonzero(found.histogram) > 9000


# -- which tiles are measured


def image_info(width: int, height: int, tile: int, stored: Any = None) -> ImageInfo:
    grid = Grid(width, height, tile, tile)
    levels = tuple(bool(stored is None or z in stored) for z in range(grid.levels - 1))
    return ImageInfo(grid=grid, stored=(*levels, True), dtype=np.dtype("uint16"))


@pytest.mark.parametrize(("width", "height", "tile", "stored", "z"), [
    (300, 200, 128, None, 2),          # smaller than SIDE: full resolution
    (1024, 10, 256, None, 2),          # just as long: full resolution
    (4096, 4096, 256, None, 2),        # 1024 pixels at level 2 of 5
    (4096, 4096, 256, {0, 1, 3}, 3),   # which the file lacks
    (4096, 4096, 256, set(), 4),
    (4094, 300, 256, None, 3),         # level 2 has 1023.5, which is 1024 (ceil): see below
])  # fmt: skip
def test_the_smallest_stored_level_of_1024_pixels_is_measured(
    width: int, height: int, tile: int, stored: Any, z: int
) -> None:
    info = image_info(width, height, tile, stored)
    found = plan(info)
    wanted = next(level for level in range(info.levels) if level == info.levels - 1 or (
        info.stored[level] and max(info.grid.size(level)) >= SIDE))  # fmt: skip
    assert found.z == wanted
    assert f"level {found.z} of {info.levels}" in found.how
    if (width, height) != (4094, 300):
        assert found.z == z


@given(
    some.integers(1, 2_000_000), some.integers(1, 2_000_000), some.sampled_from([128, 240, 1024]),
    some.sets(some.integers(0, 14)),
)  # fmt: skip
def test_a_plan_is_bounded_inside_the_level_and_without_repetition(
    width: int, height: int, tile: int, stored: set[int]
) -> None:
    info = image_info(width, height, tile, stored)
    found = plan(info)
    columns, rows = info.grid.tiles(found.z)
    level = info.grid.size(found.z)
    assert info.stored[found.z]
    assert len(set(found.cells)) == len(found.cells)
    assert all(0 <= x < columns and 0 <= y < rows for x, y in found.cells)
    if columns * rows <= MOST_TILES or level[0] * level[1] <= WHOLE:
        assert len(found.cells) == columns * rows
        assert "all tiles" in found.how
    else:
        assert MOST_TILES // 2 <= len(found.cells) <= MOST_TILES
        assert f"{len(found.cells)} of the {columns * rows} tiles" in found.how
    assert plan(info) == found


def test_a_lattice_is_spread_over_the_whole_level() -> None:
    cells = plan(image_info(1_000_000, 500_000, 512, set())).cells
    columns, rows = 1954, 977
    assert len({x for x, _ in cells}) == len({y for _, y in cells}) == 8
    assert min(x for x, _ in cells) == columns // 16
    assert max(x for x, _ in cells) == 15 * columns // 16
    assert min(y for _, y in cells) == rows // 16
    assert max(y for _, y in cells) == 15 * rows // 16


@pytest.mark.parametrize(("dtype", "edges"), [
    ("bool", (0, 256, 256)), ("uint8", (0, 256, 256)), ("int8", (-128, 128, 256)),
    ("uint16", (0, 65536, 65536)),
    ("int16", (-32768, 32768, 65536)), ("uint32", None), ("int64", None), ("float32", None),
])  # fmt: skip
def test_types_of_few_values_are_counted_value_by_value(dtype: str, edges: Any) -> None:
    assert direct_edges(np.dtype(dtype)) == edges


@pytest.mark.parametrize(("dtype", "low", "high", "edges"), [
    ("uint32", 10, 20, (10, 21, 11)),
    ("int32", -5, 65530, (-5, 65531, 65536)),
    ("int32", -5, 65531, (-5, 65532, BINS)),
    ("float32", 0, 1, (0, 2, BINS)),
    ("float32", 0, 0.01, (0, 0.01, BINS)),
    ("float64", 3, 3, None),
    ("float64", -1.7e308, 1.7e308, None),
    ("float64", 1e300, 1.1e300, (1e300, 1.1e300, BINS)),
])  # fmt: skip
def test_a_second_pass_has_bins_between_the_extremes(dtype: str, low: float, high: float, edges: Any) -> None:
    assert second_edges([Measurement(low, high, 3)], np.dtype(dtype)) == edges


def test_tiles_in_which_nothing_counts_do_not_widen_the_extremes() -> None:
    nothing = Measurement(0.0, 0.0, 0), Measurement(np.inf, -np.inf, 0)
    assert second_edges([*nothing, Measurement(10, 20, 3)], np.dtype("int32")) == (10, 21, 11)
    assert second_edges(nothing, np.dtype("int32")) is None


# -- the whole way, from a file


async def statistics_of(path: Path, frames: Sequence[int] = (0,)) -> dict[int, tuple[Statistics, ...]]:
    async with Engine(Config(tile_cache=1 << 20, raw_cache=1 << 24, workers=1)) as engine:
        image = await engine.image(FileRef(path, path.parent))
        return await engine.renderer.measuring.statistics(Work(image, Trace()), frames)


@pytest.mark.parametrize("dtype", ["uint8", "int16", "uint16", "int32", "float32", "float64"])
async def test_a_file_is_measured_as_numpy_measures_its_values(dtype: str, tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    full = (rng.normal(100, 30, (200, 300)).clip(3, 250)).astype(dtype)
    if full.dtype.kind == "f":
        full[10:90, 20:70] = np.nan
        full[150, :], full[151, :] = np.inf, -np.inf
    tifffile.imwrite(tmp_path / "image.tif", full, tile=(64, 64), photometric="minisblack")
    (found,) = (await statistics_of(tmp_path / "image.tif"))[0]
    wanted = measured([full])
    assert (found.low, found.high, found.count) == (wanted.low, wanted.high, wanted.count)
    assert (found.edges, found.exact) == (wanted.edges, wanted.exact)
    np.testing.assert_array_equal(found.histogram, wanted.histogram)


async def test_every_sample_and_every_frame_has_its_own_statistics(tmp_path: Path) -> None:
    full = np.arange(2 * 80 * 70 * 3, dtype=np.uint16).reshape(2, 80, 70, 3)
    tifffile.imwrite(tmp_path / "image.tif", full, photometric="rgb")
    found = await statistics_of(tmp_path / "image.tif", (1, 0))
    for frame in (0, 1):
        ends = [(entry.low, entry.high) for entry in found[frame]]
        assert ends == [(full[frame, ..., s].min(), full[frame, ..., s].max()) for s in range(3)]


@pytest.mark.parametrize("dtype", ["int64", "uint64"])
async def test_integers_that_a_double_rounds_are_counted_all_the_same(dtype: str, tmp_path: Path) -> None:
    full = 2**62 + np.arange(4000, dtype=dtype).reshape(50, 80) * 3
    tifffile.imwrite(tmp_path / "image.tif", full, photometric="minisblack")
    (found,) = (await statistics_of(tmp_path / "image.tif"))[0]
    assert (found.low, found.high, found.count) == (float(full.min()), float(full.max()), 4000)
    assert found.percentile(0.5) == float(full.reshape(-1)[1999])
