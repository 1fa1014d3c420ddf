"""Every kernel equals its NumPy specification, bit for bit."""

from __future__ import annotations

import os
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from gputiles.backends import DownsampleJob, MeasureJob, Raster, RenderJob, ResampleJob, modules, tables
from gputiles.backends.host import HostBackend
from gputiles.backends.paste import raster_of
from gputiles.encoded import Encoding, Format
from gputiles.geometry import Rect
from gputiles.image import Reduction
from gputiles.recipe import BandRecipe, Blend, Finish, Recipe
from tests import spec

BACKEND = HostBackend(1)
TYPES = [np.dtype(name) for name in tables.TYPES]
KERNELS = Path(__file__).resolve().parent.parent / "kernels"
PNG = Encoding(Format.PNG)


def values(rng: np.random.Generator, dtype: np.dtype[Any], shape: tuple[int, ...]) -> NDArray[Any]:
    """Return values of all magnitudes, with what breaks arithmetic among them."""
    if dtype.kind == "f":
        made = (rng.normal(0, 1000, shape)).astype(dtype)
        odd = np.array([np.nan, np.inf, -np.inf, 0, 255, 256], dtype)
    else:
        limits = np.iinfo(dtype)
        made = rng.integers(limits.min, limits.max, shape, dtype, endpoint=True)
        odd = np.array([limits.min, limits.max, 0, 1, 100, 101], dtype)
    return np.where(rng.random(shape) < 0.3, rng.choice(odd, shape), made).astype(dtype)


def raster(
    rng: np.random.Generator, dtype: np.dtype[Any], shape: tuple[int, int, int], masked: bool
) -> Raster:
    valid = (rng.random(shape[:2]) < 0.8).astype(np.uint8) if masked else None
    return raster_of(np.ascontiguousarray(values(rng, dtype, shape)), valid)


def plain(given: Raster) -> tuple[NDArray[Any], NDArray[Any] | None]:
    return given.pixels, given.valid


def window(rng: np.random.Generator, dtype: np.dtype[Any]) -> tuple[float, float]:
    top = 1000.0 if dtype.kind == "f" else float(np.iinfo(dtype).max)
    low, high = rng.choice([0.0, 1.0, top, top / 3, -top / 2, 0.1 * top, 100.0], 2)
    return float(low), float(high)


def palette(rng: np.random.Generator) -> NDArray[np.float32]:
    stops = rng.integers(0, 256, (int(rng.choice([1, 2, 2, 2, 3, 6, 256, 4097])), 4)).astype(np.float32)
    stops[0, rng.random(4) < 0.6] = 0
    stops[:, rng.random(4) < 0.2] = rng.choice([0, 255])
    return stops


def band(rng: np.random.Generator, dtype: np.dtype[Any], frame: int, samples: int) -> BandRecipe:
    low, high = window(rng, dtype)
    return BandRecipe(
        frame,
        int(rng.integers(samples)),
        low,
        high,
        palette(rng),
        discrete=bool(rng.random() < 0.2),
        blend=Blend(int(rng.choice([0, 0, 1, 2, 3]))),
        opacity=float(rng.choice([1.0, 1.0, 0.5, 0.0])),
        clamp=bool(rng.random() < 0.7),
        nodata=float(rng.choice([100.0, 0.0, 0.5])) if rng.random() < 0.3 else None,
    )


def fields(value: Any) -> list[Any]:
    """Return the fields of a struct, those of structs and arrays inside of it in their place."""
    if not isinstance(value, tuple | list | np.ndarray | np.void):
        return [value]
    return [field for part in value for field in fields(part)]


@pytest.mark.parametrize(
    ("packed", "layout"), [(tables.bands, tables.BAND), (tables.downsamples, tables.DOWNSAMPLE)]
)
def test_job_tables_are_packed_as_numpy_does_it(packed: tables.Rows, layout: np.dtype[Any]) -> None:
    table = (np.arange(3 * layout.itemsize) % 61).astype(np.uint8).view(layout)  # no NaN among them
    made = packed([tuple(fields(row)) for row in table.tolist()])
    assert made.dtype == layout
    assert made.tobytes() == table.tobytes()
    assert made.flags.writeable, "addresses are filled in later"


def bright_band(rng: np.random.Generator, dtype: np.dtype[Any], frame: int) -> BandRecipe:
    """Return a band as most are, whose colours ramp from 0 or stay the same; some have one odd thing."""
    stops = np.zeros((2, 4), np.float32)
    stops[1] = rng.integers(1, 256, 4) * (rng.random(4) < 0.6)
    stops[:, rng.random(4) < 0.2] = rng.integers(0, 256)
    usual = BandRecipe(frame, 0, *window(rng, dtype), stops, blend=Blend(int(rng.choice([0, 2]))))
    odd: list[dict[str, Any]] = [
        {"clamp": False}, {"nodata": 100.0}, {"blend": Blend.MULTIPLY}, {"discrete": True},
        {"palette": palette(rng)},
    ]  # fmt: skip
    return usual._replace(**odd[rng.integers(len(odd))]) if rng.random() < 0.3 else usual


def bright_recipe(rng: np.random.Generator, dtype: np.dtype[Any]) -> Recipe:
    """Return up to six bands over three frames, as channels of fluorescence are shown."""
    return Recipe((0, 1, 2), tuple(bright_band(rng, dtype, at % 3) for at in range(rng.integers(1, 7))))


@pytest.mark.parametrize("dtype", TYPES, ids=str)
@pytest.mark.parametrize("width", [1, 17, 512, 1024, 1300])
def test_bright_bands_equal_the_specification(dtype: np.dtype[Any], width: int) -> None:
    rng = np.random.default_rng([width, tables.TYPES[dtype], 1])
    for _ in range(12):
        rasters = tuple(raster(rng, dtype, (2, width, 1), bool(rng.random() < 0.1)) for _ in range(3))
        recipe = bright_recipe(rng, dtype)
        expected = spec.composite(recipe, [plain(each) for each in rasters], width, 2)
        assert np.array_equal(BACKEND.composite(RenderJob(recipe, rasters, width, 2, PNG)), expected)
        flat = BACKEND.composite(RenderJob(recipe, rasters, width, 2, Encoding()))
        assert np.array_equal(flat, spec.over(expected, None))


@pytest.mark.parametrize("dtype", TYPES, ids=str)
@pytest.mark.parametrize("width", [1, 3, 240, 1023, 1024, 1025])
def test_composites_equal_the_specification(dtype: np.dtype[Any], width: int) -> None:
    rng = np.random.default_rng([width, tables.TYPES[dtype]])
    for _ in range(12):
        samples = int(rng.integers(1, 5))
        rasters = [raster(rng, dtype, (3, width, samples), bool(rng.random() < 0.4)) for _ in range(3)]
        bands = tuple(band(rng, dtype, int(rng.integers(3)), samples) for _ in range(rng.integers(1, 5)))
        grey = rng.random() < 0.2
        axis = int(rng.integers(4)) if rng.random() < 0.2 and not grey else None
        recipe = Recipe((0, 1, 2), bands, 1 if grey else 4, Finish(int(rng.integers(3))), axis)
        fill = (1, 2, 3, 200) if rng.random() < 0.5 else None
        background = (200, 100, 50) if rng.random() < 0.5 else None
        size = (width + int(rng.integers(3)), 3 + int(rng.integers(2)))
        expected = spec.composite(recipe, [plain(each) for each in rasters], *size, fill)
        job = RenderJob(recipe, tuple(rasters), *size, PNG, fill, background)
        assert np.array_equal(BACKEND.composite(job), expected)
        job = RenderJob(recipe, tuple(rasters), *size, Encoding(), fill, background)
        assert np.array_equal(BACKEND.composite(job), spec.over(expected, background))


@pytest.mark.parametrize("dtype", TYPES, ids=str)
@pytest.mark.parametrize("samples", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("mapped", [False, True])
@pytest.mark.parametrize("masked", [False, True])
def test_unstyled_conversions_equal_the_specification(
    dtype: np.dtype[Any], samples: int, mapped: bool, masked: bool
) -> None:
    rng = np.random.default_rng(7)
    colormap = rng.integers(0, 256, (50, 3)).astype(np.uint8) if mapped else None
    source = raster(rng, dtype, (5, 1030, samples), masked)
    recipe = Recipe((0,), colormap=colormap)
    for fill, background in product([None, (9, 8, 7, 100)], [None, (250, 128, 3)]):
        expected = spec.composite(recipe, [plain(source)], 1040, 6, fill)
        png = BACKEND.composite(RenderJob(recipe, (source,), 1040, 6, PNG, fill, background))
        assert np.array_equal(png, expected)
        jpeg = BACKEND.composite(RenderJob(recipe, (source,), 1040, 6, Encoding(), fill, background))
        assert np.array_equal(jpeg, spec.over(expected, background))


@pytest.mark.parametrize("dtype", TYPES, ids=str)
@pytest.mark.parametrize("reduction", Reduction)
@settings(max_examples=25, deadline=None)
@given(
    st.integers(0, 2**32),
    st.sampled_from([(1, 1), (7, 5), (16, 16), (33, 1), (64, 7)]),
    st.integers(1, 4),
    st.booleans(),
    st.booleans(),
    st.sampled_from([None, 100.0, float("nan")]),
)
def test_downsampled_tiles_equal_the_specification(
    dtype: np.dtype[Any],
    reduction: Reduction,
    seed: int,
    split: tuple[int, int],
    samples: int,
    masked: bool,
    alpha: bool,
    nodata: float | None,
) -> None:
    rng = np.random.default_rng(seed)
    right, below = bool(rng.random() < 0.7), bool(rng.random() < 0.7)
    rest = int(rng.integers(1, split[0] + 1)), int(rng.integers(1, split[1] + 1))
    across = (split[0], rest[0]) if right else (rest[0], 0)
    down = (split[1], rest[1]) if below else (rest[1], 0)
    children = tuple(
        raster(rng, dtype, (down[y], across[x], samples), masked) if down[y] and across[x] else None
        for y in (0, 1)
        for x in (0, 1)
    )
    width, height = -(-sum(across) // 2), -(-sum(down) // 2)
    alpha = alpha and samples in (2, 4)
    job = DownsampleJob(children, split, width, height, reduction, nodata, alpha)  # type: ignore[arg-type]
    (made,) = BACKEND.downsample([job])
    assert isinstance(made, Raster)
    expected = spec.downsample(
        [child and plain(child) for child in children], split, width, height, reduction, nodata, alpha
    )
    assert_equal(made, expected)


def assert_equal(made: Raster, expected: tuple[NDArray[Any], NDArray[Any] | None]) -> None:
    pixels, valid = expected
    np.testing.assert_array_equal(made.pixels, pixels)
    if valid is None:
        assert made.valid is None
    else:
        np.testing.assert_array_equal(made.valid, valid)


@pytest.mark.parametrize("dtype", TYPES, ids=str)
@pytest.mark.parametrize("size", [(10, 9), (40, 23), (41, 24), (100, 60), (1, 1), (200, 3)])
@pytest.mark.parametrize("reduction", Reduction)
def test_resampled_regions_equal_the_specification(
    dtype: np.dtype[Any], size: tuple[int, int], reduction: Reduction
) -> None:
    rng = np.random.default_rng(5)
    for masked, alpha, nodata in product([False, True], [False, True], [None, 100.0]):
        rasters = [raster(rng, dtype, (20, 30, 2), masked) for _ in range(4)]
        tiles = tuple(
            (x * 30, y * 20, tile) for (y, x), tile in zip(product((0, 1), (0, 1)), rasters, strict=True)
        )
        region = Rect(3, 2, 41, 24)
        job = ResampleJob(tiles, region, *size, reduction, nodata, alpha)
        (made,) = BACKEND.resample([job])
        assert isinstance(made, Raster)
        flat = [(left, top, *plain(tile)) for left, top, tile in tiles]
        assert_equal(made, spec.resample(flat, region, *size, reduction, nodata, alpha))


@pytest.mark.parametrize("dtype", TYPES, ids=str)
@pytest.mark.parametrize("nodata", [None, 100.0])
@pytest.mark.parametrize("masked", [False, True])
def test_measures_equal_numpy(dtype: np.dtype[Any], nodata: float | None, masked: bool) -> None:
    rng = np.random.default_rng(11)
    source = raster(rng, dtype, (31, 57, 2), masked)
    kept = spec.countable(source.pixels[..., 1], source.valid, nodata)
    (found,) = BACKEND.measure([MeasureJob(source, 1, None, nodata)])
    assert (found.low, found.high, found.count) == (float(kept.min()), float(kept.max()), kept.size)  # type: ignore[union-attr]
    low, high = float(kept.min()), float(kept.max())
    edges = [(low, high + 1, 256), (low / 3, high / 2, 1000), (low, high, 65536)]
    if dtype.kind in "iu" and dtype.itemsize <= 2:
        limits = np.iinfo(dtype)
        edges.append((limits.min, limits.max + 1.0, limits.max + 1 - limits.min))
    for each in edges:
        (counted,) = BACKEND.measure([MeasureJob(source, 1, each, nodata)])
        expected = spec.histogram(source.pixels[..., 1], source.valid, nodata, each)
        assert np.array_equal(counted.histogram, expected)  # type: ignore[union-attr,arg-type]


@pytest.mark.parametrize(
    "shape", [(1, 1, 1), (5, 17, 3), (64, 100, 4), (3, 1023, 1), (9, 1024, 1), (9, 512, 4), (9, 1030, 2)]
)
def test_filtered_rows_equal_the_specification(shape: tuple[int, int, int]) -> None:
    rng = np.random.default_rng(2)
    noise = rng.integers(0, 256, shape).astype(np.uint8)
    ramp = np.cumsum(np.ones(shape, np.int64), axis=1).astype(np.uint8)
    halves = np.where(np.arange(shape[1])[:, None] // 64 % 2, noise, ramp)  # of the row tell other filters
    for pixels in (noise, ramp, noise & 3, halves):
        rows, columns, samples = pixels.shape
        out = np.zeros(rows * (columns * samples + 1), np.uint8)
        table = np.zeros(1, tables.PNG_FILTER)
        table[0] = (pixels.ctypes.data, out.ctypes.data, rows, 0, 0, 0, columns * samples, samples)
        BACKEND._run("png_filter", table)
        assert out.tobytes() == spec.png_filter(pixels)


@pytest.mark.parametrize("width", [1, 4095, 4096, 4097, 9000])
def test_rectangles_are_pasted_and_filled(width: int) -> None:
    rng = np.random.default_rng(width)
    source = rng.integers(0, 256, (5, width + 3)).astype(np.uint8)
    out = np.zeros((7, width + 9), np.uint8)
    expected = out.copy()
    expected[1:6, 2 : 2 + width], expected[6, :width] = source[:, 3:], 9
    pieces = -(-width // 4096)
    pitches = (source.strides[0], out.strides[0])
    table = np.zeros(2, tables.PASTE)
    at = out.ctypes.data
    table[0] = (source.ctypes.data + 3, at + pitches[1] + 2, 5 * pieces, width, *pitches, 0)
    table[1] = (0, at + 6 * pitches[1], pieces, width, 0, pitches[1], 9)
    BACKEND._run("paste", table)
    assert np.array_equal(out, expected)


def test_streams_of_all_lengths_follow_each_other() -> None:
    rng = np.random.default_rng(6)
    lengths = np.array([0, 1, 4095, 4096, 4097, 9000, 7])
    streams = rng.integers(0, 256, (len(lengths), 9000)).astype(np.uint8)
    offsets, out = np.full(len(lengths), -1), np.zeros(lengths.sum() + 8, np.uint8)
    follow, pack = np.zeros(1, tables.FOLLOW), np.zeros(1, tables.PACK)
    follow[0] = (lengths.ctypes.data, offsets.ctypes.data, len(lengths))
    addresses = (plane.ctypes.data for plane in (streams, lengths, offsets, out))
    pack[0] = (*addresses, len(lengths) * 3, 9000)
    BACKEND._run("follow", follow)
    BACKEND._run("pack", pack)
    expected = b"".join(stream[:length].tobytes() for stream, length in zip(streams, lengths, strict=True))
    assert out.tobytes() == expected + bytes(8)


ARCHITECTURES = (75, 80, 86, 89, 90, 100, 110, 120)


def nvrtc() -> Any:
    """Return CuPy's NVRTC; skip where there is none, but not in CI."""
    try:
        from cupy.cuda import nvrtc
    except ImportError as error:
        if os.environ.get("CI"):
            raise
        pytest.skip(f"needs CuPy and NVRTC: {error}")
    return nvrtc


def compiled(source: Path, architecture: str) -> Any:
    """Return a program that was compiled with the product's options."""
    program = nvrtc().createProgram(source.read_text(), source.name, (), ())
    nvrtc().compileProgram(program, (f"--gpu-architecture={architecture}", *modules.options()))
    return program


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("source", sorted(KERNELS.glob("*.cu")), ids=lambda path: path.name)
def test_every_kernel_compiles_for_every_card(source: Path, architecture: int) -> None:
    assert len(nvrtc().getCUBIN(compiled(source, f"sm_{architecture}"))) > 1000


def test_every_family_of_cards_that_the_compiler_knows_is_among_them() -> None:
    """What is compiled for a card runs on the later ones of its family."""
    known = nvrtc().getSupportedArchs()
    assert {*ARCHITECTURES} <= {*known}
    first = {min(each for each in known if each // 10 == family) for family in {at // 10 for at in known}}
    assert first <= {*ARCHITECTURES}
