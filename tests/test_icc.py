"""Pictures of images with an ICC profile are sRGB, as LittleCMS makes them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import pytest
import tifffile
from aiohttp.test_utils import TestClient, TestServer
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image as Pillow

from gputiles import icc, jfif, png
from gputiles.app import SERVER, create_app
from gputiles.backends import MeasureJob, Measurement, RenderJob
from gputiles.backends.conversion import Converter
from gputiles.backends.host import RUN, HostBackend
from gputiles.backends.paste import raster_of
from gputiles.backends.plans import placed
from gputiles.config import Config
from gputiles.encoded import Encoding, Format
from gputiles.grammar import INTENTS, parse
from gputiles.recipe import BandRecipe, Blend, Conversion, ConversionKind, Recipe
from gputiles.sources.open import open_source
from tests import spec, spec_icc
from tests.conftest import shared
from tests.reading import read_level

BACKEND = HostBackend(1)
PNG = Encoding(Format.PNG)
Client = TestClient[Any, Any]

SRGB = imagecodecs.cms_profile("srgb")
ADOBE = imagecodecs.cms_profile("adobergb")
SRGB_PRIMARIES = (0.64, 0.33, 0.30, 0.60, 0.15, 0.06)
D65 = (0.3127, 0.329)
MATRICES = {
    "Adobe RGB": ADOBE,
    "a scanner's linear light": spec_icc.matrix_profile(1.0, SRGB_PRIMARIES, D65),
    "gamma 1.8 with wide primaries": spec_icc.matrix_profile(
        1.8, (0.7347, 0.2653, 0.1596, 0.8404, 0.0366, 0.0001), (0.3457, 0.3585)
    ),
    "gamma 2.2 with a screen's primaries": spec_icc.matrix_profile(
        2.2, (0.68, 0.32, 0.265, 0.69, 0.15, 0.06), D65
    ),
}
TABLES = {f"a table of {steps} steps": spec_icc.table_profile(steps) for steps in (9, 17, 33)}


def tables(profile: bytes, intent: str = "perceptual", top: int = 255, space: str = "rgb") -> Conversion:
    return icc._tables(profile, space, intent, top)


def random_pixels(rows: int = 200, samples: int = 3, seed: int = 5) -> NDArray[np.uint8]:
    """Return noise of all levels, and at its end every grey."""
    noise = np.random.default_rng(seed).integers(0, 256, (rows, 256, samples)).astype(np.uint8)
    noise[-1] = np.arange(256)[:, np.newaxis]
    return noise


def apart(one: NDArray[Any], other: NDArray[Any]) -> NDArray[np.int64]:
    return np.abs(one.astype(np.int64) - other.astype(np.int64))


# -- nearness to LittleCMS


@pytest.mark.parametrize("name", MATRICES)
@pytest.mark.parametrize("intent", range(4), ids=INTENTS)
def test_profiles_of_curves_and_a_matrix_come_within_a_level_of_littlecms(name: str, intent: int) -> None:
    made, pixels = tables(MATRICES[name], INTENTS[intent]), random_pixels()
    assert made.kind is ConversionKind.MATRIX
    off = apart(spec_icc.convert(made, pixels), spec_icc.littlecms(pixels, MATRICES[name], intent))
    assert off.max() <= 1
    assert (off > 0).mean() < 0.02


@pytest.mark.parametrize("name", TABLES)
@pytest.mark.parametrize("intent", range(4), ids=INTENTS)
def test_profiles_of_tables_come_within_two_levels_of_littlecms(name: str, intent: int) -> None:
    """LittleCMS interpolates 8 bits in a grid of 33 of its own: it is as far from its floats as we are."""
    made, pixels = tables(TABLES[name], INTENTS[intent]), random_pixels()
    assert made.kind is ConversionKind.GRID
    off = apart(spec_icc.convert(made, pixels), spec_icc.littlecms(pixels, TABLES[name], intent))
    assert off.max() <= 2
    assert (off > 1).mean() < 0.001


@pytest.mark.parametrize("name", [*MATRICES, *TABLES])
@pytest.mark.parametrize("top", [255, 1023, 65535])
def test_conversions_are_within_a_level_of_littlecms_in_floats(name: str, top: int) -> None:
    """Half a level is rounding; the levels of 10 and 16 bits are finer, and more of them are off."""
    profile = (MATRICES | TABLES)[name]
    pixels = np.random.default_rng(3).integers(0, top + 1, (50, 256, 3)).astype(np.uint16)
    exact = icc._answers(profile, "rgb", "perceptual", pixels.reshape(-1, 3) / top).reshape(pixels.shape)
    off = np.abs(spec_icc.convert(tables(profile, top=top), pixels) / top - np.clip(exact, 0, 1))
    assert off.max() < 1 / 255


@pytest.mark.parametrize("gamma", [1.8, 2.2, 2.4])
@pytest.mark.parametrize("intent", range(3), ids=INTENTS[:3])
def test_greys_come_within_a_level_of_littlecms(gamma: float, intent: int) -> None:
    profile, pixels = spec_icc.grey_profile(gamma), np.arange(256, dtype=np.uint8).reshape(16, 16, 1)
    made = spec_icc.convert(tables(profile, INTENTS[intent], space="gray"), pixels)
    assert apart(made, spec_icc.littlecms(pixels, profile, intent)).max() <= 1


@pytest.mark.parametrize("intent", INTENTS)
def test_linear_greys_follow_the_formula_of_srgb(intent: str) -> None:
    """In 8 bits LittleCMS is 10 levels off in the dark here, so the standard itself is asked."""
    light = np.arange(256) / 255
    curve = np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)
    pixels = np.arange(256, dtype=np.uint8).reshape(1, 256, 1)
    made = spec_icc.convert(tables(spec_icc.grey_profile(1.0), intent, space="gray"), pixels)
    assert np.array_equal(made.ravel(), np.rint(curve * 255))


@pytest.mark.parametrize("name", [*MATRICES, *TABLES])
def test_black_stays_black_and_white_white(name: str) -> None:
    ends = np.array([[[0, 0, 0], [255, 255, 255]]], np.uint8)
    assert apart(spec_icc.convert(tables((MATRICES | TABLES)[name]), ends), ends).max() <= 1


# -- the kernel

CONVERSIONS: dict[str, Callable[[int], Conversion]] = {
    "curve": lambda top: tables(spec_icc.grey_profile(1.8), top=top, space="gray"),
    "matrix": lambda top: tables(ADOBE, top=top),
    "grid": lambda top: tables(TABLES["a table of 9 steps"], top=top),
}


def shown(
    made: Conversion, pixels: NDArray[Any], nodata: float | None = None, backend: HostBackend = BACKEND
) -> NDArray[Any]:
    """Return what the kernel makes of (rows, columns, samples)."""
    raster = raster_of(np.ascontiguousarray(pixels))
    source = placed(raster)
    made_source = Converter(backend._run, backend._buffer, RUN).shown(made, source, nodata)
    assert made_source.shape == source.shape
    buffer = backend._buffer("icc 0", pixels.nbytes)
    assert made_source.pixels == buffer.ctypes.data
    return buffer.view(pixels.dtype).reshape(pixels.shape).copy()


@pytest.mark.parametrize("name", CONVERSIONS)
@pytest.mark.parametrize(("dtype", "top"), [("u1", 255), ("u2", 65535), ("u2", 1023)])
@pytest.mark.parametrize("width", [1, 3, 1023, 1024, 1025])
@pytest.mark.parametrize("extra", [0, 1, 2])
def test_the_kernel_equals_the_specification(name: str, dtype: str, top: int, width: int, extra: int) -> None:
    made = CONVERSIONS[name](top)
    samples = extra + (1 if name == "curve" else 3)
    rng = np.random.default_rng([width, top])
    beyond = rng.integers(0, np.iinfo(dtype).max + 1, (3, width, samples))  # 10 bits hold less
    pixels = np.where(rng.random(beyond.shape) < 0.9, beyond % (top + 1), beyond).astype(dtype)
    for nodata in (None, 0.0, 100.0, float(top), 0.5, 1e9):
        assert np.array_equal(shown(made, pixels, nodata), spec_icc.convert(made, pixels, nodata))


@pytest.mark.parametrize("name", ["matrix", "grid"])
def test_equal_and_extreme_colours_equal_the_specification(name: str) -> None:
    """Compare colours that lie on the planes between tetrahedra, and the corners of the cube."""
    made = CONVERSIONS[name](255)
    axis = np.array([0, 1, 2, 3, 4, 5, 127, 128, 251, 252, 254, 255], np.uint8)
    pixels = np.stack(np.meshgrid(axis, axis, axis), axis=-1).reshape(12, 144, 3)
    assert np.array_equal(shown(made, pixels), spec_icc.convert(made, pixels))


@pytest.mark.parametrize("name", ["matrix", "grid"])
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("dtype", ["u1", "u2"])
def test_bands_and_pictures_see_converted_values(name: str, masked: bool, dtype: str) -> None:
    rng = np.random.default_rng(8)
    top = int(np.iinfo(dtype).max)
    made = CONVERSIONS[name](top)
    pixels = rng.integers(0, top + 1, (20, 300, 4)).astype(dtype)
    pixels[rng.random(pixels.shape) < 0.1] = 7
    valid = (rng.random((20, 300)) < 0.8).astype(np.uint8) if masked else None
    ramp = np.array([[0] * 4, [255, 120, 30, 255]], np.float32)
    bands = (
        BandRecipe(0, 0, 0, top, ramp, nodata=7),
        BandRecipe(0, 1, top / 10, top / 2, ramp, blend=Blend.SCREEN, clamp=False),
        BandRecipe(0, 2, 0, top / 2, ramp, blend=Blend.ADDITIVE, opacity=0.5),
        BandRecipe(0, 3, 0, top, ramp, blend=Blend.MULTIPLY),
    )
    job = RenderJob(Recipe((0,), bands, icc=made), (raster_of(pixels, valid),), 310, 21, PNG, (1, 2, 3, 4))
    apart_bands = tuple(band._replace(frame=number) for number, band in enumerate(bands))
    sources = [(spec_icc.convert(made, pixels, band.nodata), valid) for band in bands]
    expected = spec.composite(Recipe((0, 1, 2, 3), apart_bands), sources, 310, 21, (1, 2, 3, 4))
    assert np.array_equal(BACKEND.composite(job), expected)
    job = replace(job, recipe=Recipe((0,), icc=made))
    expected = spec.composite(Recipe((0,)), [(spec_icc.convert(made, pixels), valid)], 310, 21, (1, 2, 3, 4))
    assert np.array_equal(BACKEND.composite(job), expected)


def test_measures_are_of_converted_values() -> None:
    made, pixels = CONVERSIONS["matrix"](255), random_pixels(rows=9)
    (found,) = BACKEND.measure([MeasureJob(raster_of(pixels), 1, (0.0, 256.0, 256), 9.0, made)])
    assert isinstance(found, Measurement)
    values = spec_icc.convert(made, pixels, 9.0)[..., 1]
    assert np.array_equal(found.histogram, spec.histogram(values, None, 9.0, (0.0, 256.0, 256)))  # type: ignore[arg-type]
    (ends,) = BACKEND.measure([MeasureJob(raster_of(pixels[:1]), 0, None, None, made)])
    assert isinstance(ends, Measurement)
    reds = spec_icc.convert(made, pixels[:1])[..., 0]
    assert (ends.low, ends.high) == (reds.min(), reds.max())


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 255), st.sampled_from([0, 1, 7, 128, 254, 255]), st.sampled_from(list(CONVERSIONS)))
def test_exactly_what_stood_for_no_data_stands_for_no_data(value: int, nodata: int, name: str) -> None:
    made = CONVERSIONS[name](255)
    samples = made.curves.shape[0] if name == "curve" else 3
    pixels = np.full((1, 2, samples), value, np.uint8)
    pixels[0, 1, 0] = nodata
    result = shown(made, pixels, float(nodata))
    assert np.array_equal(result == nodata, pixels == nodata)


@settings(max_examples=100, deadline=None)
@given(st.floats(0.8, 3.0), st.integers(0, 254))
def test_a_brighter_grey_is_never_shown_darker(gamma: float, value: int) -> None:
    pair = np.array([[[value] * 3, [value + 1] * 3]], np.uint8)
    made = tables(spec_icc.matrix_profile(round(gamma, 2), SRGB_PRIMARIES, D65))
    darker, brighter = spec_icc.convert(made, pair)[0]
    assert (darker <= brighter).all()


# -- which profiles are applied


def test_a_profile_that_is_srgb_changes_nothing() -> None:
    assert icc.judge(SRGB, "rgb") == icc.Verdict()


@pytest.mark.parametrize("name", [*MATRICES, *TABLES])
def test_other_profiles_change_colours(name: str) -> None:
    assert icc.judge((MATRICES | TABLES)[name], "rgb") == icc.Verdict(changes=True)


@pytest.mark.parametrize(
    ("profile", "space", "problem"),
    [
        (b"", "rgb", "it is for nothing"),
        (ADOBE[:200], "rgb", "it is damaged"),
        (ADOBE[:128] + bytes(len(ADOBE) - 128), "rgb", "it is damaged"),
        (ADOBE, "gray", "it is for RGB, the image is GRAY"),
        (spec_icc.grey_profile(2.2), "rgb", "it is for GRAY, the image is RGB"),
        (ADOBE + bytes(icc.MOST_PROFILE), "rgb", "at most 1048576 are read"),
    ],
)
def test_a_profile_that_cannot_be_used_says_why(profile: bytes, space: str, problem: str) -> None:
    verdict = icc.judge(profile, space)
    assert not verdict.changes
    assert problem in verdict.problem


@settings(max_examples=150, deadline=None)
@given(st.data(), st.sampled_from([ADOBE, TABLES["a table of 9 steps"]]))
def test_a_damaged_profile_is_refused_or_makes_colours(data: st.DataObject, profile: bytes) -> None:
    damaged = bytearray(profile)
    for _ in range(data.draw(st.integers(1, 12))):
        damaged[data.draw(st.integers(0, min(len(profile), 900) - 1))] = data.draw(st.integers(0, 255))
    if icc.judge(bytes(damaged), "rgb").changes:
        for intent in INTENTS:
            made = tables(bytes(damaged), intent)
            assert all(
                np.isfinite(each).all() for each in (made.curves, made.matrix, made.offset, made.table)
            )


@pytest.mark.parametrize(
    ("style", "intent"),
    [
        (None, "perceptual"),
        ({}, "perceptual"),
        ({"icc": True}, "perceptual"),
        ({"icc": False}, None),
        ({"icc": "SATURATION", "bands": [{"band": 1}]}, "saturation"),
        ({"icc": "relative_colorimetric"}, "relative_colorimetric"),
        ({"bands": [{"band": 1}]}, "perceptual"),
    ],
)
def test_a_style_names_the_intent_or_none(style: dict[str, Any] | None, intent: str | None) -> None:
    assert icc.intent_of(None if style is None else parse(style)) == intent


@pytest.mark.parametrize(
    "name",
    [
        "openslide-python__boxes.tiff",
        "Pillow__tiff_tiled_planar_16bit_RGBa.tiff",
        "exampletiffs__poppies.tif",
        "exampletiffs__spring.tif",
        "exampletiffs__shapes_lzw_planar_10bps.tif",
        "cantaloupe__tif-rgba-1res-64x56x8-tiled-jpeg.tif",
        "cantaloupe__tif-rgb-3res-64x56x16-tiled-uncompressed.tif",
    ],
)
def test_real_files_in_srgb_need_no_conversion(name: str) -> None:
    source = open_source(shared("data", name))
    assert source.info.profile is None
    assert not any("ICC" in warning for warning in source.info.warnings)
    source.close()


@pytest.mark.parametrize(
    ("samples", "dtype", "more", "warning"),
    [
        (3, "f4", {}, "the samples are float32"),
        (3, "u4", {}, "the samples are uint32"),
        (4, "u1", {"photometric": "separated"}, "it is of inks"),
        (1, "u1", {}, "it is for RGB, the image is GRAY"),
        (3, "u1", {"iccprofile": ADOBE[:300]}, "it is damaged"),
        (
            1,
            "u1",
            {"iccprofile": spec_icc.grey_profile(1.8), "photometric": "miniswhite"},
            "a map of their own",
        ),
    ],
)
def test_a_profile_that_is_not_applied_is_a_warning(
    tmp_path: Path, samples: int, dtype: str, more: dict[str, Any], warning: str
) -> None:
    path = tmp_path / "image.tif"
    pixels = np.zeros((40, 40, samples) if samples > 1 else (40, 40), dtype)
    photometric = "rgb" if samples == 3 else "minisblack"
    tifffile.imwrite(path, pixels, **{"photometric": photometric, "iccprofile": ADOBE, **more})
    source = open_source(path)
    assert source.info.profile is None
    (said,) = [each for each in source.info.warnings if "ICC" in each]
    assert said.startswith("the ICC profile is not applied: ")
    assert warning in said
    source.close()


# -- over HTTP


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "images"
    folder.mkdir()
    rgb = np.ascontiguousarray(random_pixels(300, seed=1)[:, :250])
    alpha = np.concatenate([rgb, np.full_like(rgb[..., :1], 255)], axis=-1)
    plain: dict[str, Any] = {"tile": (128, 128), "photometric": "rgb", "metadata": None}
    for name, profile in (("adobe", ADOBE), ("table", TABLES["a table of 17 steps"]), ("srgb", SRGB)):
        tifffile.imwrite(folder / f"{name}.tif", rgb, iccprofile=profile, **plain)
        smooth = rgb // 8 + 100
        tifffile.imwrite(folder / f"{name}-jpeg.tif", smooth, iccprofile=profile, compression="jpeg", **plain)
    tifffile.imwrite(folder / "broken.tif", rgb, iccprofile=ADOBE[:300], **plain)
    tifffile.imwrite(folder / "alpha.tif", alpha, iccprofile=ADOBE, extrasamples=["unassalpha"], **plain)
    tifffile.imwrite(folder / "wide.tif", rgb.astype(np.uint16) * 257, iccprofile=ADOBE, **plain)
    grey = {**plain, "photometric": "minisblack"}
    tifffile.imwrite(folder / "grey.tif", rgb[..., 0], iccprofile=spec_icc.grey_profile(1.8), **grey)
    colormap = np.random.default_rng(2).integers(0, 256, (3, 256)).astype(np.uint16) * 257
    palette = {**plain, "photometric": "palette", "colormap": colormap, "iccprofile": ADOBE}
    tifffile.imwrite(folder / "palette.tif", rgb[..., 0], **palette)
    return folder


@asynccontextmanager
async def serving(root: Path, **more: Any) -> AsyncIterator[Client]:
    app = create_app(Config(roots=(root,), tile_cache=1 << 22, raw_cache=1 << 24, workers=2, **more))
    server = TestServer(app)
    await server.start_server(
        **{name: value for name, value in SERVER.items() if name != "handler_cancellation"}
    )
    async with TestClient(server) as client:
        yield client


@pytest.fixture
async def client(root: Path) -> AsyncIterator[Client]:
    async with serving(root) as client:
        yield client


async def find(client: Client, name: str) -> str:
    items = await (await client.get("/item")).json()
    return next(f"/item/{item['id']}/tiles" for item in items if item["name"] == name)


async def tile(client: Client, name: str, style: Any = None, path: str = "zxy/2/0/0") -> NDArray[Any]:
    """Return a PNG tile (by default the top left 128 × 128 pixels of full resolution)."""
    query = {"encoding": "PNG"} | ({} if style is None else {"style": json.dumps(style)})
    reply = await client.get(f"{await find(client, name)}/{path}", params=query)
    assert reply.status == 200, await reply.text()
    array = np.asarray(Pillow.open(BytesIO(await reply.read())))
    return array if array.ndim == 3 else array[..., np.newaxis]


def stored(root: Path, name: str) -> NDArray[Any]:
    array = tifffile.imread(root / name)[:128, :128]
    return array if array.ndim == 3 else array[..., np.newaxis]


@pytest.mark.parametrize(("name", "most"), [("adobe.tif", 1), ("table.tif", 2)])
async def test_a_tile_is_srgb(client: Client, root: Path, name: str, most: int) -> None:
    profile = {"adobe.tif": ADOBE, "table.tif": TABLES["a table of 17 steps"]}[name]
    for intent, style in ((0, None), (0, {}), (1, {"icc": "relative_colorimetric"})):
        made = await tile(client, name, style)
        assert apart(made, spec_icc.littlecms(stored(root, name), profile, intent)).max() <= most
    assert apart(made, stored(root, name)).max() > 5


@pytest.mark.parametrize(
    "name", ["adobe.tif", "table.tif", "wide.tif", "grey.tif", "palette.tif", "alpha.tif"]
)
async def test_a_style_can_switch_the_conversion_off(client: Client, root: Path, name: str) -> None:
    made, pixels = await tile(client, name, {"icc": False}), stored(root, name)
    if name == "palette.tif":
        with tifffile.TiffFile(root / name) as file:
            pixels = (file.pages[0].colormap >> 8).T[pixels[..., 0]].astype(np.uint8)  # type: ignore[union-attr]
    assert np.array_equal(made, pixels >> 8 if pixels.dtype == np.uint16 else pixels)
    assert apart(made, await tile(client, name, {})).max() > 5


async def test_a_setting_switches_the_conversion_off(root: Path) -> None:
    async with serving(root, icc=False) as client:
        for name in ("adobe.tif", "grey.tif"):
            assert np.array_equal(await tile(client, name), stored(root, name))


async def test_other_intents_and_the_setting_are_other_answers(client: Client, root: Path) -> None:
    async def tag(client: Client, query: str) -> str:
        return (await client.get(f"{await find(client, 'adobe.tif')}/zxy/2/0/0{query}")).headers["ETag"]

    queries = ["", '?style={"icc":false}', '?style={"icc":"absolute_colorimetric"}']
    async with serving(root, icc=False) as other:
        tags = [await tag(client, query) for query in queries] + [await tag(other, "")]
    assert len(set(tags)) == 4
    assert await tag(client, '?style={"icc":true}') == await tag(client, "?style={}")


async def test_bands_see_converted_values(client: Client, root: Path) -> None:
    style = {"bands": [{"band": "green", "min": 0, "max": 255, "palette": ["#000", "#fff"]}]}
    green = spec_icc.littlecms(stored(root, "adobe.tif"), ADOBE)[..., 1]
    assert apart((await tile(client, "adobe.tif", style))[..., 0], green).max() <= 1
    plain = await tile(client, "adobe.tif", {**style, "icc": False})
    assert np.array_equal(plain[..., 0], stored(root, "adobe.tif")[..., 1])


async def test_windows_are_measured_in_converted_values(client: Client, root: Path) -> None:
    """Half of the pixels lie below the median of what is shown, with the profile and without."""
    for more in ({}, {"icc": False}):
        band = {"band": 1, "min": "min:0.5", "max": "max", "palette": ["#000", "#fff"], "clamp": False}
        made = await tile(client, "adobe.tif", {"bands": [band], **more})
        assert abs((made[..., 3] == 0).mean() - 0.5) < 0.03


EQUIVALENT: dict[str, Any] = {
    "default look": None,
    "unstyled": {},
    "automatic window": {"bands": [{"band": "red"}, {"band": 2, "palette": "#00f", "composite": "additive"}]},
    "percentiles": {"bands": [{"band": 3, "min": "min:0.1", "max": "max:0.2", "palette": "viridis"}]},
    "numbers without clamp": {"bands": [{"band": 1, "min": 90, "max": 20000, "clamp": False}]},
    "16 bits": {"dtype": "uint16", "bands": [{"band": 1}]},
}


@pytest.mark.parametrize("name", ["matrix", "grid"])
@pytest.mark.parametrize("dtype", ["u1", "u2"])
async def test_a_profile_shows_what_an_image_of_the_converted_values_shows(
    tmp_path: Path, name: str, dtype: str
) -> None:
    folder = tmp_path / "images"
    folder.mkdir()
    top = int(np.iinfo(dtype).max)
    pixels = (np.random.default_rng(4).random((250, 300, 3)) ** 2 * top * 0.9).astype(dtype)
    profile = ADOBE if name == "matrix" else TABLES["a table of 9 steps"]
    plain: dict[str, Any] = {"tile": (128, 128), "photometric": "rgb", "metadata": None}
    tifffile.imwrite(folder / "profiled.tif", pixels, iccprofile=profile, **plain)
    tifffile.imwrite(folder / "converted.tif", spec_icc.convert(CONVERSIONS[name](top), pixels), **plain)
    async with serving(folder) as client:
        for what, style in EQUIVALENT.items():
            for path in ("zxy/2/0/0", "zxy/2/2/1"):
                ours, other = [
                    await tile(client, f"{file}.tif", style, path) for file in ("profiled", "converted")
                ]
                assert np.array_equal(ours, other), what


async def test_alpha_is_kept(client: Client, root: Path) -> None:
    made = await tile(client, "alpha.tif")
    assert (made[..., 3] == 255).all()
    assert (
        apart(made[..., :3], spec_icc.littlecms(stored(root, "alpha.tif")[..., :3].copy(), ADOBE)).max() <= 1
    )


async def test_sixteen_bits_are_converted_in_sixteen_bits(client: Client, root: Path) -> None:
    made = await tile(client, "wide.tif", {})
    exact = spec_icc.littlecms((stored(root, "wide.tif") >> 8).astype(np.uint8), ADOBE)
    assert apart(made, exact).max() <= 2  # the high byte is not rounded


async def test_greys_and_colour_maps_are_converted(client: Client, root: Path) -> None:
    made, profile = await tile(client, "grey.tif"), spec_icc.grey_profile(1.8)
    assert apart(made, spec_icc.littlecms(stored(root, "grey.tif"), profile)).max() <= 1
    with tifffile.TiffFile(root / "palette.tif") as file:
        colours = (file.pages[0].colormap >> 8).T[stored(root, "palette.tif")[..., 0]]  # type: ignore[union-attr]
    exact = spec_icc.littlecms(colours.astype(np.uint8), ADOBE)
    assert apart(await tile(client, "palette.tif"), exact).max() <= 1
    indices = {"bands": [{"min": 0, "max": 255}]}
    assert np.array_equal(
        (await tile(client, "palette.tif", indices))[..., 0], stored(root, "palette.tif")[..., 0]
    )


async def test_a_broken_profile_is_a_warning_and_the_image_is_shown_as_stored(
    client: Client, root: Path
) -> None:
    facts = await (await client.get(await find(client, "broken.tif"))).json()
    (said,) = [warning for warning in facts["warnings"] if "ICC" in warning]
    assert said.startswith("the ICC profile is not applied: it is damaged")
    assert np.array_equal(await tile(client, "broken.tif"), stored(root, "broken.tif"))


async def test_stored_jpeg_tiles_are_passed_through_only_where_they_are_srgb(client: Client) -> None:
    for name, passed in (("srgb-jpeg.tif", True), ("adobe-jpeg.tif", False), ("table-jpeg.tif", False)):
        reply = await client.get(f"{await find(client, name)}/zxy/2/0/0")
        assert (reply.headers["X-Cache"] == "passthrough") is passed, name


async def test_thumbnails_and_regions_are_srgb_and_stored_values_are_not(client: Client, root: Path) -> None:
    region = "region?right=128&bottom=128"
    stem = await find(client, "adobe.tif")
    values = np.load(BytesIO(await (await client.get(f"{stem}/{region}&encoding=NPY")).read()))
    assert np.array_equal(values, stored(root, "adobe.tif"))
    shown = Pillow.open(BytesIO(await (await client.get(f"{stem}/{region}&encoding=PNG")).read()))
    assert apart(np.asarray(shown), spec_icc.littlecms(values, ADOBE)).max() <= 1
    small = {"encoding": "PNG", "width": 50, "height": 50}
    both = [
        await (await client.get(f"{stem}/thumbnail", params={**small, **more})).read()
        for more in ({}, {"style": '{"icc": false}'})
    ]
    ours, plain = (np.asarray(Pillow.open(BytesIO(each))) for each in both)
    assert apart(ours, spec_icc.littlecms(np.ascontiguousarray(plain), ADOBE)).max() <= 1


async def test_tables_are_made_once_for_all_tiles_and_styles(client: Client) -> None:
    icc._tables.cache_clear()
    styles = [None, {}, {"bands": [{"band": 2, "min": 0, "max": 200}]}, {"bands": [{"band": 1}]}]
    tile_of = [tile(client, "adobe.tif", style, f"zxy/2/{x}/0") for style in styles for x in (0, 1)]
    await asyncio.gather(*tile_of)
    await tile(client, "adobe.tif", {"icc": "perceptual"})
    assert icc._tables.cache_info().currsize == 1


@pytest.mark.parametrize(
    "name",
    [
        "openslide-python__boxes.tiff",
        "ometiff-tests__test3-TRITC_2_(560).ndpi",
        "martin__usda_naip_512_jpeg_z5.tif",
    ],
)
def test_pixels_of_real_files_come_as_near_to_littlecms_as_random_ones(name: str) -> None:
    source = open_source(shared("data", name))
    sizes = [source.info.grid.size(z) for z in range(source.info.levels)]
    z = next(z for z, size in enumerate(sizes) if source.info.stored[z] and min(size) >= 128)
    pixels = np.ascontiguousarray(read_level(source, 0, z)[:1024, :1024])
    source.close()
    for profiles, most in ((MATRICES, 1), (TABLES, 2)):
        for profile in profiles.values():
            exact = spec_icc.littlecms(pixels, profile)
            assert apart(spec_icc.convert(tables(profile), pixels), exact).max() <= most


# -- profiles that are passed on


@pytest.mark.parametrize("encoding", ["PNG", "JPEG"])
@pytest.mark.parametrize("path", ["zxy/2/0/0", "thumbnail", "region?width=50&height=50&fill=red"])
async def test_a_profile_is_passed_on_where_it_is_asked_for_and_colours_are_as_stored(
    root: Path, path: str, encoding: str
) -> None:
    async def profile(client: Client, query: str) -> bytes | None:
        url = f"{await find(client, 'adobe.tif')}/{path}{'&' if '?' in path else '?'}encoding={encoding}"
        answer = await client.get(url + query)
        assert answer.status == 200, await answer.text()
        opened = Pillow.open(BytesIO(await answer.read()))
        opened.load()
        found: bytes | None = opened.info.get("icc_profile")
        return found

    async with serving(root) as client:
        assert await profile(client, "&embedProfile=true") is None, "the colours are sRGB"
        assert await profile(client, '&style={"icc":false}') is None
        assert await profile(client, '&style={"icc":false}&embedProfile=true') == ADOBE
        band = '&style={"icc":false,"bands":[{"band":1,"palette":"viridis"}]}&embedProfile=true'
        assert await profile(client, band) is None, "the colours are the style's"
    async with serving(root, icc=False) as client:
        assert await profile(client, "") is None
        assert await profile(client, "&embedProfile=true") == ADOBE


async def test_the_profile_passed_on_changes_no_pixel_and_other_formats_have_none(root: Path) -> None:
    stored: dict[str, Any] = {"photometric": "ycbcr", "compression": "jpeg", "tile": (128, 128)}
    pixels = random_pixels(300)[:, :250] // 8 + 100
    tifffile.imwrite(root / "stored.tif", pixels, subsampling=(1, 1), iccprofile=ADOBE, **stored)
    async with serving(root, icc=False) as client:
        base = f"{await find(client, 'stored.tif')}/zxy/2/0/0"
        pair = [f"{base}?jpegQuality=90", f"{base}?jpegQuality=90&embedProfile=1"]
        plain, carrying = [await (await client.get(url)).read() for url in pair]
        assert len(carrying) > len(plain)
        assert np.array_equal(*(np.asarray(Pillow.open(BytesIO(data))) for data in (plain, carrying)))
        answer = await client.get(f"{base}?encoding=WEBP&embedProfile=1")
        assert answer.status == 400
        assert "embedProfile: expected a JPEG or PNG" in (await answer.json())["message"]


@pytest.mark.parametrize("size", [1, 65519, 65520, 200_000])
def test_profiles_of_any_size_are_read_back(size: int) -> None:
    profile = np.random.default_rng(size).bytes(size)
    pixels = Pillow.new("RGB", (20, 30), (9, 99, 200))
    file = BytesIO()
    pixels.save(file, "JPEG")
    assert Pillow.open(BytesIO(jfif.with_profile(file.getvalue(), profile))).info["icc_profile"] == profile
    file = BytesIO()
    pixels.save(file, "PNG")
    opened = Pillow.open(BytesIO(png.with_profile(file.getvalue(), profile)))
    opened.load()
    assert opened.info["icc_profile"] == profile
