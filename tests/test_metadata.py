"""Metadata: large_image's keys, with the values that files of many kinds say."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as some

from gputiles.geometry import Grid
from gputiles.image import Channel, Frame, ImageInfo
from gputiles.metadata import clean, describe
from gputiles.sources.open import open_source
from tests.conftest import shared

ALWAYS = [
    "levels", "sizeX", "sizeY", "tileWidth", "tileHeight", "magnification", "mm_x", "mm_y", "dtype",
    "bandCount",
]  # fmt: skip
OF_FRAMES = {"frames", "IndexRange", "IndexStride"}
OF_CHANNELS = {"channels", "channelmap", "channelColors"}

# What the files' own tags say: sizes, levels, tiles, magnification, millimetres, type, bands.
SIZES: dict[str, tuple[Any, ...]] = {
    "reference/golden.ome.tif": (2, 512, 512, 256, 256, None, None, None, "uint16", 1),
    "cases/ome_40ch_subifd.ome.tif": (2, 256, 256, 128, 128, None, 0.00065, 0.00065, "uint16", 1),
    "cases/resolution_rational_cm.tif": (1, 64, 64, 256, 256, None, 0.00025, 0.0005, "uint8", 1),
    "data/libvips__CMU-1-Small-Region.svs": (5, 2220, 2967, 240, 240, 20, 0.000499, 0.000499, "uint8", 3),
    "data/large_image__yb10kx5k.zstd.tiff": (5, 10000, 5000, 1024, 1024, None, None, None, "uint8", 3),
    "data/qupath__cells-2c.ome.tif": (1, 93, 131, 256, 256, None, 0.00025, 0.00025, "uint8", 1),
    "data/viv__multi-channel.ome.tif": (2, 439, 167, 256, 256, None, None, None, "int8", 1),
    "data/exampletiffs__shapes_hyper.tif": (1, 128, 72, 256, 256, None, None, None, "float32", 7),
    "data/rio-tiler__cog_int16.tif": (4, 2658, 2667, 512, 512, None, None, None, "int16", 1),
}
# {axis: (length, stride)}, the last frame, names and colours of channels.
AXES: dict[str, tuple[dict[str, tuple[int, int]], dict[str, Any], list[str], list[str | None]]] = {
    "reference/golden.ome.tif": (
        {"C": (3, 1)}, {"Frame": 2, "Index": 0, "IndexC": 2, "Channel": "C"}, ["A", "B", "C"], [None] * 3,
    ),
    "data/exampletiffs__multi-channel-time-series.ome.tif": (
        {"C": (3, 1), "T": (7, 3)},
        {"Frame": 20, "Index": 6, "IndexC": 2, "IndexT": 6, "Channel": "Channel 2"},
        ["Channel 0", "Channel 1", "Channel 2"], [None] * 3,
    ),
    "data/libvips__multi-channel-z-series.ome.tif": (
        {"Z": (5, 1), "C": (3, 5)},
        {"Frame": 14, "Index": 14, "IndexC": 2, "IndexZ": 4, "Channel": "Channel 2"},
        ["Channel 0", "Channel 1", "Channel 2"], [None] * 3,
    ),
    "cases/ome_order_XYZCT.ome.tif": (
        {"Z": (3, 1), "C": (4, 3), "T": (2, 12)},
        {"Frame": 23, "Index": 23, "IndexC": 3, "IndexZ": 2, "IndexT": 1, "Channel": "c3"},
        ["c0", "c1", "c2", "c3"], [None] * 4,
    ),
    "data/pathml__small_vectra.qptiff": (
        {"C": (3, 1)}, {"Frame": 2, "Index": 0, "IndexC": 2, "Channel": "Cy3"}, ["DAPI", "FITC", "Cy3"],
        ["#0000ff", "#00ff00", "#ffff00"],
    ),
    "cases/ome_channel_colors.ome.tif": (
        {"C": (8, 1)}, {"Frame": 7, "Index": 0, "IndexC": 7, "Channel": "alpha0red"},
        ["red", "green", "blue", "white", "black0", "none", "halfgrey", "alpha0red"],
        ["#ff0000", "#00ff00", "#0000ff", "#ffffff", None, None, "#808080", "#ff0000"],
    ),
}  # fmt: skip


def described(name: str) -> dict[str, Any]:
    """Return the metadata of a shared file as a client reads them."""
    path = shared(*name.split("/"))
    source = open_source(path, root=path.parent)
    source.close()
    found: dict[str, Any] = json.loads(json.dumps(describe(source.info), allow_nan=False))
    return found


@pytest.mark.parametrize("name", SIZES)
def test_a_file_is_described_by_large_images_ten_keys(name: str) -> None:
    found = described(name)
    assert [found[key] for key in ALWAYS] == [
        pytest.approx(v) if v is not None else None for v in SIZES[name]
    ]


@pytest.mark.parametrize("name", AXES)
def test_frames_channels_and_axes_are_those_of_the_file(name: str) -> None:
    axes, last, names, colours = AXES[name]
    found = described(name)
    assert found["IndexRange"] == {f"Index{axis}": length for axis, (length, _) in axes.items()}
    assert found["IndexStride"] == {f"Index{axis}": stride for axis, (_, stride) in axes.items()}
    assert last.items() <= found["frames"][-1].items()
    assert (found["channels"], found["channelColors"]) == (names, colours)
    assert found["channelmap"] == {name: position for position, name in enumerate(names)}


@pytest.mark.parametrize("name", AXES)
def test_a_frames_number_is_the_sum_of_its_indices_times_their_strides(name: str) -> None:
    found = described(name)
    strides, lengths = found["IndexStride"], found["IndexRange"]
    assert len(found["frames"]) == np.prod(list(lengths.values()))
    for number, frame in enumerate(found["frames"]):
        assert frame["Frame"] == number
        assert number == sum(frame[key] * stride for key, stride in strides.items())
        assert frame["Index"] == (number // lengths["IndexC"] if strides["IndexC"] == 1 else number)
        assert frame["Channel"] == found["channels"][frame["IndexC"]]


@pytest.mark.parametrize("name", ["data/libvips__CMU-1-Small-Region.svs", "data/rio-tiler__cog_int16.tif"])
def test_an_image_of_one_frame_without_channels_says_nothing_of_them(name: str) -> None:
    assert not described(name).keys() & (OF_FRAMES | OF_CHANNELS)


@pytest.mark.parametrize("name", ["cases/ome_binaryonly_missing.ome.tif", "cases/ome_sizec_too_big.ome.tif"])
def test_what_a_file_promises_and_lacks_is_said(name: str) -> None:
    found = described(name)
    assert found["warnings"]
    assert all(isinstance(text, str) and text for text in found["warnings"])
    assert all(0 <= frame < len(found["frames"]) for frame in found.get("missing", []))


# -- small images


def info(count: int = 1, **facts: Any) -> ImageInfo:
    entries = tuple(Frame((("C", c),), (("ID", f"Plane:{c}"),)) for c in range(count))
    axes = (("C", count),) if count > 1 else ()
    values: dict[str, Any] = {"frames": entries, "axes": axes, "dtype": np.dtype("uint8")}
    return ImageInfo(grid=Grid(1000, 600, 256, 256), stored=(False, False, True), **(values | facts))


def test_the_keys_come_in_large_images_order() -> None:
    assert list(describe(info())) == [*ALWAYS, "omero"]


@pytest.mark.parametrize(("names", "channels", "channelmap"), [
    ((), None, None),
    (("a",), None, None),
    (("a", "b"), ["a", "b"], {"a": 0, "b": 1}),
    (("a", "a"), ["a", "a"], {"a": 0}),
    (("a", "b", "extra"), ["a", "b", "extra"], {"a": 0, "b": 1, "extra": 2}),
])  # fmt: skip
def test_channels_are_named_only_where_each_has_a_name(names: Any, channels: Any, channelmap: Any) -> None:
    found = describe(info(2, channels=tuple(Channel(name) for name in names)))
    assert found.get("channels") == channels
    assert found.get("channelmap") == channelmap
    assert ("Channel" in found["frames"][1]) is (channels is not None)


def test_what_the_source_says_of_a_frame_is_kept_but_never_wins() -> None:
    frames = (Frame((("C", 0),), (("ID", "x"), ("Frame", "99"))), Frame((("C", 1),)))
    first = describe(info(2, frames=frames))["frames"][0]
    assert (first["ID"], first["Frame"]) == ("x", 0)


def test_missing_frames_are_listed_in_order() -> None:
    assert describe(info(9, missing=frozenset({7, 2})))["missing"] == [2, 7]


@pytest.mark.parametrize(("value", "cleaned"), [
    (float("nan"), None), (float("inf"), None), (np.float32("nan"), None), (np.int64(3), 3),
    (np.float64(0.5), 0.5),
    (np.bool_(True), True), ("a\udcffb", "a?b"), ((1, [float("-inf")]), [1, [None]]),
    ({"\ud800": np.uint8(1)}, {"?": 1}),
    (None, None), (True, True), ("µm", "µm"),
])  # fmt: skip
def test_json_can_say_whatever_is_cleaned(value: Any, cleaned: Any) -> None:
    assert clean(value) == cleaned
    json.dumps(clean(value), allow_nan=False).encode()


@given(some.recursive(
    some.none() | some.integers() | some.floats() | some.text(some.characters(exclude_categories=())),
    lambda inner: some.lists(inner) | some.dictionaries(some.text(), inner), max_leaves=9,
))  # fmt: skip
def test_cleaning_twice_is_cleaning_once(value: Any) -> None:
    once = clean(value)
    assert clean(once) == once
    json.dumps(once, allow_nan=False, ensure_ascii=False).encode()


def test_numbers_that_are_no_numbers_are_null() -> None:
    found = describe(info(mm_x=float("nan"), mm_y=float("inf"), magnification=float("nan")))
    assert (found["mm_x"], found["mm_y"], found["magnification"]) == (None, None, None)
