"""The default look: windows that hold for the whole image, and the colours of channels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from hypothesis import given
from hypothesis import strategies as some
from numpy.typing import NDArray
from PIL import Image as Pillow

import gputiles
from gputiles import look
from gputiles.colours import parse_colour
from gputiles.geometry import Grid
from gputiles.image import Alpha, Channel, Colour, Frame, ImageInfo
from gputiles.ranges import Statistics
from gputiles.recipe import Blend, Recipe
from tests import twin
from tests.conftest import shared

Array = NDArray[Any]
GREY = [[0, 0, 0, 255], [255, 255, 255, 255]]


def info(dtype: str = "uint16", **facts: Any) -> ImageInfo:
    return ImageInfo(grid=Grid(100, 80, 256, 256), stored=(True,), dtype=np.dtype(dtype), **facts)


def channels(count: int, *entries: Channel, **facts: Any) -> ImageInfo:
    """Return an image of ``count`` channels, each a frame."""
    frames = tuple(Frame((("C", c),)) for c in range(count))
    return info(frames=frames, axes=(("C", count),) if count > 1 else (), channels=entries, **facts)


def counted(values: Sequence[int]) -> Statistics:
    """Return the statistics of small whole numbers."""
    counts = np.bincount(np.array(values, int), minlength=1)
    low, high = (float(min(values)), float(max(values))) if values else (None, None)
    return Statistics(low, high, len(values), counts, (0.0, float(len(counts)), len(counts)), True, "all")


def looked(image: ImageInfo, statistics: Mapping[int, Any] | None = None, **how: Any) -> Recipe:
    """Return the recipe of the look, with statistics of 0 … 1000 where none are given."""
    frames = look.frames_to_measure(image, how.get("frame", 0), how.get("single", False))
    usual = {frame: (counted(range(1001)),) * image.samples for frame in frames}
    return look.make_recipe(image, how.get("frame", 0), statistics or usual, how.get("single", False))


def last_colours(recipe: Recipe) -> list[list[float]]:
    return [band.palette[-1].tolist() for band in recipe.bands or ()]


# -- which images have a look at all


@pytest.mark.parametrize(("image", "plain"), [
    (info("uint8"), True),
    (info("uint8", samples=3, colour=Colour.RGB), True),
    (info("uint8", samples=4, colour=Colour.RGB, alpha=Alpha.STRAIGHT), True),
    (info("uint8", samples=2, alpha=Alpha.STRAIGHT), True),
    (info("uint16", colour=Colour.PALETTE, colormap=np.zeros((4, 3), np.uint8)), True),
    (info("uint16"), False),
    (info("int8"), False),
    (info("float32"), False),
    (info("uint16", samples=3, colour=Colour.RGB), False),
    (info("uint8", samples=2), False),
    (channels(3, *[Channel("a")] * 3), False),
])  # fmt: skip
def test_plain_8_bit_and_colour_maps_are_shown_as_stored_all_else_gets_windows(
    image: ImageInfo, plain: bool
) -> None:
    assert (look.frames_to_measure(image, 0, False) == ()) is plain
    recipe = looked(image)
    assert (recipe.bands is None) is plain
    assert recipe.colormap is (image.colormap if plain else None)


def test_a_fourth_sample_that_is_not_alpha_does_not_make_a_picture_transparent() -> None:
    image = info("uint8", samples=4, colour=Colour.RGB)
    assert look.frames_to_measure(image, 0, False) == ()
    bands = looked(image).bands or ()
    assert [(band.sample, band.low, band.high) for band in bands] == [(0, 0, 255), (1, 0, 255), (2, 0, 255)]
    colours = np.array([[[200, 100, 50, 0], [1, 2, 3, 255]]], np.uint8)
    file = BytesIO()
    options = {"photometric": "rgb", "extrasamples": ["unspecified"], "metadata": None}
    tifffile.imwrite(file, colours, **options)
    with gputiles.open(file) as opened:
        picture = Pillow.open(BytesIO(opened.tile(0, 0, 0, edge=True)))
    assert np.asarray(picture.convert("RGBA")).tolist() == [[[200, 100, 50, 255], [1, 2, 3, 255]]]


# -- windows


def test_a_window_leaves_a_thousandth_of_the_values_out_at_either_end() -> None:
    values = [0] * 5 + list(range(100, 1090)) + [4000] * 5
    (band,) = looked(info(), {0: (counted(values),)}).bands or ()
    assert (band.low, band.high) == (0, 4000), "five of a thousand are more than a thousandth"
    values = [0, *range(100, 2098), 4000]
    (band,) = looked(info(), {0: (counted(values),)}).bands or ()
    assert (band.low, band.high) == (100, 2096)


@pytest.mark.parametrize(("image", "values", "window"), [
    (info(), [7] * 20, (0, 65535)),
    (info(significant_bits=12), [7] * 20, (0, 4095)),
    (info(significant_bits=10), [3000] * 20, (0, 3000)),
    (info("int16"), [5] * 20, (0, 32767)),
    (info("float32"), [5] * 20, (0, 5)),
    (info("float32"), [0] * 20, (0, 1)),
    (info(), [], (0, 1)),
    (info(), [1] * 9999 + [9], (1, 9)),
])  # fmt: skip
def test_values_that_hardly_differ_get_a_window_from_what_the_file_says(
    image: ImageInfo, values: list[int], window: tuple[float, float]
) -> None:
    (band,) = looked(image, {0: (counted(values),)}).bands or ()
    assert (band.low, band.high) == window


@given(some.lists(some.integers(0, 4095), max_size=300), some.sampled_from([None, 8, 12, 16]))
def test_a_window_is_never_empty_and_covers_the_median(values: list[int], bits: int | None) -> None:
    (band,) = looked(info(significant_bits=bits), {0: (counted(values),)}).bands or ()
    assert band.low < band.high
    if values:
        assert band.low <= np.median(values) <= band.high


@pytest.mark.parametrize(("window", "given_by_file"), [
    ((3.0, 900.0), True), ((-5.0, 2.5), True), ((900.0, 3.0), False), ((3.0, 3.0), False), (None, False),
    ((float("nan"), 3.0), False), ((0.0, float("inf")), False),
])  # fmt: skip
def test_the_window_that_the_file_gives_is_taken_where_it_is_one(window: Any, given_by_file: bool) -> None:
    image = channels(1, Channel("a", None, window))
    assert (look.frames_to_measure(image, 0, False) == ()) is given_by_file
    (band,) = looked(image).bands or ()
    assert ((band.low, band.high) == window) is given_by_file


def test_16_bit_colour_shares_one_window_so_that_greys_stay_grey() -> None:
    image = info(samples=4, colour=Colour.RGB, alpha=Alpha.STRAIGHT)
    statistics = tuple(counted([low, high] * 9) for low, high in ((5, 100), (3, 50), (9, 70), (0, 1)))
    recipe = looked(image, {0: statistics})
    assert [(band.low, band.high) for band in recipe.bands or ()] == [(3, 100)] * 3 + [(0, 65535)]
    assert [band.blend for band in recipe.bands or ()] == [Blend.ADDITIVE] * 3 + [Blend.MULTIPLY]
    assert last_colours(recipe)[:3] == [[255, 0, 0, 255], [0, 255, 0, 255], [0, 0, 255, 255]]


# -- channels


def test_a_lone_channel_is_a_grey_ramp_whatever_its_colour() -> None:
    recipe = looked(channels(1, Channel("a", "#ff0000")))
    assert [band.palette.tolist() for band in recipe.bands or ()] == [GREY]
    assert recipe.samples == 1


@pytest.mark.parametrize(("own", "shown"), [
    ((None, None, None), ("#0000ff", "#00ff00", "#ff0000")),
    (("#123456", "#abcdef"), ("#123456", "#abcdef")),
    ((None, "#0000ff", None), ("#00ff00", "#0000ff", "#ff0000")),
    (("#000000", "#ffffff"), ("#0000ff", "#ffffff")),
    (("#ff0000", "#ff0000"), ("#ff0000", "#ff0000")),
    (("no colour", None), ("#0000ff", "#00ff00")),
    ((None,) * 6, ("#0000ff", "#00ff00", "#ff0000", "#ffff00")),
])  # fmt: skip
def test_channels_have_the_colours_of_the_file_else_distinct_ones(
    own: tuple[str | None, ...], shown: tuple[str, ...]
) -> None:
    recipe = looked(channels(len(own), *(Channel("", colour) for colour in own)))
    assert last_colours(recipe) == [list(parse_colour(colour) or ()) for colour in shown]
    assert {band.blend for band in recipe.bands or ()} == {Blend.ADDITIVE}
    assert recipe.frames == tuple(range(min(4, len(own))))


@pytest.mark.parametrize(("active", "frames"), [
    ((True, False, True, False, True, True, True), (0, 2, 4, 5)),
    ((False, False, True), (2,)),
    ((False, False), (0, 1)),
])  # fmt: skip
def test_channels_that_the_file_does_not_want_shown_are_left_out(
    active: tuple[bool, ...], frames: tuple[int, ...]
) -> None:
    image = channels(len(active), *(Channel("", active=each) for each in active))
    assert looked(image).frames == frames
    assert looked(image, frame=1, single=True).frames == (1,)


def test_a_frame_that_is_named_is_shown_alone() -> None:
    image = channels(3, *(Channel("", colour) for colour in ("#f00", "#0f0", "#00f")))
    recipe = looked(image, frame=2, single=True)
    assert recipe.frames == (2,)
    assert [band.palette.tolist() for band in recipe.bands or ()] == [GREY]


def test_frames_that_the_file_lacks_are_left_out() -> None:
    image = channels(5, missing=frozenset({0, 3}))
    assert looked(image).frames == (1, 2, 4)


def test_channels_stay_at_the_other_positions_of_the_frame() -> None:
    frames = tuple(Frame((("C", c), ("Z", z))) for z in range(4) for c in range(2))
    image = info(frames=frames, axes=(("C", 2), ("Z", 4)))
    assert looked(image, frame=5).frames == (4, 5)


def test_independent_samples_are_channels_too() -> None:
    image = info(samples=3, channels=(Channel("", "#ff00ff"), Channel(""), Channel("")))
    recipe = looked(image)
    assert [(band.frame, band.sample) for band in recipe.bands or ()] == [(0, 0), (0, 1), (0, 2)]
    assert last_colours(recipe)[0] == [255, 0, 255, 255]


@pytest.mark.parametrize(("image", "samples"), [
    (info(), 1), (info(nodata=0.0), 4), (info("float32"), 4), (channels(2), 4),
])  # fmt: skip
def test_what_can_be_transparent_has_an_alpha(image: ImageInfo, samples: int) -> None:
    assert looked(image).samples == samples


# -- the whole way, from a file


def show(path: Path, **request: Any) -> list[Array]:
    """Return the tiles of the full-resolution level as the default look shows them."""
    with gputiles.open(path) as image:
        z = image.info.levels - 1
        columns, rows = image.info.grid.tiles(z)
        tiles = [image.tile(z, x, y, edge=True, **request) for y in range(rows) for x in range(columns)]
    return [np.asarray(Pillow.open(BytesIO(tile))) for tile in tiles]


def test_12_bit_data_is_not_black() -> None:
    shown = show(shared("cases", "u16_12bit_significant.ome.tif"))
    unstyled = show(shared("cases", "u16_12bit_significant.ome.tif"), style={})
    assert max(int(tile.max()) for tile in unstyled) <= 15
    assert max(int(tile.max()) for tile in shown) == 255
    assert np.concatenate([tile.ravel() for tile in shown]).mean() > 60


def test_a_dark_tile_of_a_bright_image_stays_dark(tmp_path: Path) -> None:
    full = np.zeros((128, 256), np.uint16)
    full[:, :128] = np.arange(128 * 128).reshape(128, 128) % 50
    full[:, 128:] = np.arange(128 * 128).reshape(128, 128) % 4000
    tifffile.imwrite(tmp_path / "image.tif", full, tile=(128, 128), photometric="minisblack")
    dark, bright = show(tmp_path / "image.tif")
    low, high = twin.percentile(full, 0.001), twin.percentile(full, 0.999)
    n = twin.in_window(full, low, high).clip(0, 1) * np.float32(255)
    np.testing.assert_array_equal(np.concatenate([dark, bright], axis=1), n.astype(np.uint8))
    assert dark.max() <= 3
    assert bright.max() == 255


def test_channels_of_an_ome_file_are_added_up_as_the_twin_adds_them(tmp_path: Path) -> None:
    rng = np.random.default_rng(4)
    full = (rng.gamma(2, 300, (2, 5, 100, 128))).astype(np.uint16)
    colours = ("#ff0000", "#00ff80", "#0040ff", "#ffffff", "#ffff00")
    signed = [int.from_bytes(bytes.fromhex(c[1:] + "ff"), "big", signed=True) for c in colours]
    metadata = {"axes": "ZCYX", "Channel": {"Color": signed}}
    path = tmp_path / "image.ome.tif"
    tifffile.imwrite(path, full, tile=(128, 128), photometric="minisblack", metadata=metadata)
    planes = tuple(plane[..., None] for plane in full.reshape(10, 100, 128))
    picture = twin.Picture(planes, colours=colours, along_c=5)
    (shown,) = show(path)
    np.testing.assert_array_equal(shown, twin.looked_at(picture))
    (alone,) = show(path, frame=7)
    values = full[1, 2]
    n = twin.in_window(values, twin.percentile(values, 0.001), twin.percentile(values, 0.999))
    np.testing.assert_array_equal(alone, (n.clip(0, 1) * np.float32(255)).astype(np.uint8))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_an_image_without_a_finite_value_has_a_look_all_the_same(value: float, tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "image.tif", np.full((32, 32), value, np.float32), photometric="minisblack")
    (shown,) = show(tmp_path / "image.tif")
    expected = {"nan": (0, 0, 0, 0), "inf": (255,) * 4, "-inf": (0, 0, 0, 255)}[str(value)]
    assert (shown == expected).all()


@pytest.mark.parametrize(("dtype", "value", "text"), [
    ("u1", 0, "0"), ("u1", 255, "255"), ("u1", 7, "7.0"), ("i1", -128, "-128"), ("i2", -32768, "-32768"),
    ("u2", 65535, "65535"), ("u4", 4294967295, "4294967295"), ("i4", -(2**31), "-2147483648"),
    ("f4", -9999, "-9999"), ("f4", 0.1, "0.1"), ("f4", 1e20, "1e20"), ("f8", 1e300, "1e300"),
    ("f2", 0.1, "0.1"), ("f4", -3.4028234663852886e38, "-3.40282346638529e+38"), ("f4", np.nan, "nan"),
    ("f4", np.inf, "inf"),
])  # fmt: skip
@pytest.mark.parametrize("alpha", [False, True])
def test_pixels_that_are_no_data_are_transparent_whatever_the_type(
    tmp_path: Path, dtype: str, value: float, text: str, alpha: bool
) -> None:
    pixels = np.full((64, 64, 2), 20, dtype)
    pixels[:16, :, 0] = value
    pixels[:, :, 1] = 1 if pixels.dtype.kind == "f" else np.iinfo(dtype).max
    options: dict[str, Any] = {"photometric": "minisblack", "extratags": [(42113, 2, 0, text, True)]}
    extra = {"extrasamples": ["unassalpha"], "planarconfig": "contig"} if alpha else {}
    tifffile.imwrite(
        tmp_path / "a.tif", pixels if alpha else pixels[..., 0], metadata=None, **options, **extra
    )
    (tile,) = show(tmp_path / "a.tif", encoding="PNG")
    expected = np.full((64, 64), 255)
    expected[:16] = 0
    np.testing.assert_array_equal(tile[..., -1], expected)


def test_a_grey_picture_with_nodata_has_its_own_values_elsewhere(tmp_path: Path) -> None:
    pixels = np.arange(65536, dtype=np.uint32).astype(np.uint8).reshape(256, 256)
    tag = [(42113, 2, 0, "7", True)]
    tifffile.imwrite(tmp_path / "a.tif", pixels, photometric="minisblack", metadata=None, extratags=tag)
    (tile,) = show(tmp_path / "a.tif", encoding="PNG")
    there = pixels != 7
    np.testing.assert_array_equal(tile[..., 0][there], pixels[there])
    np.testing.assert_array_equal(tile[..., -1], np.where(there, 255, 0))


@pytest.mark.parametrize(("text", "transparent"), [("0", True), ("255", False), ("9", False)])
def test_of_colours_only_black_is_taken_for_no_data(tmp_path: Path, text: str, transparent: bool) -> None:
    pixels = np.full((64, 64, 3), int(text), np.uint8)
    pixels[16:] = [0, 9, 255]  # each of the values as one colour of a pixel
    tag = [(42113, 2, 0, text, True)]
    tifffile.imwrite(tmp_path / "a.tif", pixels, photometric="rgb", metadata=None, extratags=tag)
    (tile,) = show(tmp_path / "a.tif", encoding="PNG")
    assert (tile.shape[2] == 4 and not tile[:16, :, 3].any()) is transparent
    np.testing.assert_array_equal(tile[16:, :, :3], pixels[16:])
    if transparent:
        assert (tile[16:, :, 3] == 255).all()


def test_stored_jpeg_tiles_are_not_passed_through_where_pixels_are_no_data(tmp_path: Path) -> None:
    pixels = np.full((512, 512), 200, np.uint8)
    options: dict[str, Any] = {"photometric": "minisblack", "tile": (256, 256), "compression": "jpeg"}
    tag = [(42113, 2, 0, "200", True)]
    tifffile.imwrite(tmp_path / "a.tif", pixels, metadata=None, extratags=tag, **options)
    with gputiles.open(tmp_path / "a.tif") as image:
        jpeg = np.asarray(Pillow.open(BytesIO(image.tile(1, 0, 0, encoding="JPEG"))))
    assert jpeg.max() <= 2  # black, as masked pixels are


@pytest.mark.parametrize("dtype", ["u4", "i4", "u8", "i8", "f4", "f8"])
@pytest.mark.parametrize(
    "style", [None, {"min": "min:0.02", "max": "max:0.02"}, {"min": "min", "max": "max"}]
)
def test_the_extremes_of_a_type_are_shown_without_a_murmur(tmp_path: Path, dtype: str, style: Any) -> None:
    limits: Any = np.finfo(dtype) if dtype[0] == "f" else np.iinfo(dtype)
    pixels = np.full((64, 64), limits.max // 2 if dtype[0] != "f" else limits.max / 2, dtype)
    pixels[0], pixels[1] = limits.max, limits.min
    tifffile.imwrite(tmp_path / "a.tif", pixels, photometric="minisblack", metadata=None)
    (tile,) = show(tmp_path / "a.tif", encoding="PNG", **({"style": style} if style else {}))
    grey = tile if tile.ndim == 2 else tile[..., 0]
    assert grey[1, 0] <= grey[2, 0] <= grey[0, 0] == 255


@pytest.mark.parametrize(("extra", "shown"), [
    ([2], True), ([0], False), ([0, 2], True), ([0, 0, 2], True), ([0, 0], False),
])  # fmt: skip
@pytest.mark.parametrize("dtype", ["u1", "u2"])
def test_alpha_counts_behind_any_number_of_samples(
    tmp_path: Path, extra: list[int], shown: bool, dtype: str
) -> None:
    top = np.iinfo(dtype).max
    pixels = np.full((64, 64, 3 + len(extra)), top // 5, dtype)
    pixels[:, :3, :3] = [0, top // 2, top]
    pixels[32:, :, -1] = top
    pixels[:32, :, -1] = 0
    options: dict[str, Any] = {"photometric": "rgb", "extrasamples": extra, "planarconfig": "contig"}
    tifffile.imwrite(tmp_path / "a.tif", pixels, metadata=None, **options)
    (tile,) = show(tmp_path / "a.tif", encoding="PNG")
    alpha = tile[..., 3] if tile.shape[2] == 4 else np.full(tile.shape[:2], 255)
    assert set(np.unique(alpha[:32])) == ({0} if shown else {255})
    assert set(np.unique(alpha[32:])) == {255}
    assert (tile[40, 0, :3] == tile[40, 2, :3]).all()
    assert tile[40, 0, 0] < tile[40, 0, 1] < tile[40, 0, 2]
