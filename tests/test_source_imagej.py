"""ImageJ's files: axes, one directory for many images, display ranges, colours and names of channels."""

from __future__ import annotations

import io
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

from gputiles.image import Channel, Colour
from gputiles.look import make_recipe
from gputiles.sources.open import open_source
from tests.conftest import shared
from tests.reading import full
from tests.tiffs import page, tiff

ORDERS = ["<", ">"]
RAMP = np.arange(256, dtype=np.uint8)
NONE = np.zeros(256, np.uint8)


def table(*primaries: int) -> np.ndarray[Any, Any]:
    """Return a colour table (3, 256) that ramps the primaries named by 1."""
    return np.stack([RAMP * primary for primary in primaries])


def hyperstack(array: np.ndarray[Any, Any], axes: str, **metadata: Any) -> io.BytesIO:
    file = io.BytesIO()
    tifffile.imwrite(file, array, imagej=True, metadata={"axes": axes, **metadata})
    return file


@pytest.mark.parametrize("axes", ["TZCYX", "ZCYX", "TCYX", "TZYX", "CYX", "ZYX"])
def test_planes_of_a_hyperstack_are_counted_c_fastest(axes: str) -> None:
    lengths = {"T": 3, "Z": 4, "C": 2, "Y": 20, "X": 30}
    array = np.arange(np.prod([lengths[axis] for axis in axes]), dtype=np.uint16)
    array = array.reshape([lengths[axis] for axis in axes])
    source = open_source(hyperstack(array, axes))
    assert source.info.axes == tuple((axis, lengths[axis]) for axis in "CZT" if axis in axes)
    for frame, plane in enumerate(array.reshape(-1, 20, 30)):
        np.testing.assert_array_equal(full(source, frame)[..., 0], plane)


def test_an_order_of_axes_in_the_description_is_followed() -> None:
    text = "ImageJ=1.11a\nimages=6\nchannels=2\nslices=3\nhyperstack=true\norder=zct\n"
    file = io.BytesIO()
    stack = np.arange(6, dtype=np.uint8)[:, np.newaxis, np.newaxis] + np.zeros((6, 8, 8), np.uint8)
    tifffile.imwrite(file, stack, description=text, metadata=None)
    source = open_source(file)
    assert source.info.axes == (("C", 2), ("Z", 3))
    assert [int(full(source, frame)[0, 0, 0]) for frame in range(6)] == [0, 3, 1, 4, 2, 5]


def test_ranges_tables_and_labels_make_the_channels() -> None:
    array = np.zeros((2, 3, 8, 8), np.uint16)
    labels = [f"c:{c + 1}/3 z:{z + 1}/2 - {name}" for z in range(2) for c, name in enumerate(("A", "B", "µ"))]
    luts = [table(0, 0, 1), table(1, 1, 0), np.stack([NONE] * 3)]
    ranges = (100.0, 4000.0, 0.5, 65535.0, 7.0, 9.0)
    source = open_source(hyperstack(array, "ZCYX", Ranges=ranges, LUTs=luts, Labels=labels, mode="composite"))
    assert source.info.channels == (
        Channel("A", "#0000ff", (100.0, 4000.0)),
        Channel("B", "#ffff00", (0.5, 65535.0)),
        Channel("µ", None, (7.0, 9.0)),
    )


def test_the_default_look_uses_ranges_and_colours_and_measures_nothing() -> None:
    array = np.zeros((2, 8, 8), np.uint16)
    luts = [table(1, 0, 1), table(0, 1, 0)]
    info = open_source(
        hyperstack(array, "CYX", Ranges=(5.0, 99.0, 0.0, 800.0), LUTs=luts, mode="composite")
    ).info
    recipe = make_recipe(info, 0, {}, single=False)
    assert recipe.bands is not None
    assert [(band.low, band.high) for band in recipe.bands] == [(5.0, 99.0), (0.0, 800.0)]
    assert [band.palette[-1][:3].tolist() for band in recipe.bands] == [[255, 0, 255], [0, 255, 0]]


def test_greyscale_mode_has_no_colours() -> None:
    luts = [table(1, 0, 1), table(0, 1, 0)]
    file = hyperstack(np.zeros((2, 8, 8), np.uint16), "CYX", LUTs=luts, Ranges=(0, 1, 0, 2), mode="grayscale")
    assert [channel.colour for channel in open_source(file).info.channels] == [None, None]


def test_one_channel_takes_the_range_of_the_description() -> None:
    info = open_source(hyperstack(np.zeros((8, 8), np.uint16), "YX", min=200.0, max=1200.0)).info
    assert [channel.window for channel in info.channels] == [(200.0, 1200.0)]
    info = open_source(hyperstack(np.zeros((2, 8, 8), np.uint16), "CYX", min=0.0, max=9.0)).info
    assert info.channels == (), "with two channels it is that of the one in front"


@pytest.mark.parametrize("labels", [["a"] * 4, ["c:1/2", "c:2/2"] * 2, ["A", "B", "A"]])
def test_labels_that_do_not_tell_channels_apart_are_no_names(labels: list[str]) -> None:
    file = hyperstack(np.zeros((2, 2, 8, 8), np.uint8), "ZCYX", Labels=labels, Ranges=(0, 1, 0, 2))
    assert [channel.name for channel in open_source(file).info.channels] == ["Channel 0", "Channel 1"]


def binary(order: str, *, magic: bytes = b"IJIJ", spoil: int = 0) -> dict[int, tuple[int, Any]]:
    """Return tags 50838 and 50839 with two ranges and two tables, in a byte order."""
    word = (lambda text: text) if order == ">" else (lambda text: text[::-1])
    ranges = struct.pack(f"{order}4d", 1, 10, 2, 20)
    luts = [table(0, 1, 1).tobytes(), table(1, 0, 0).tobytes()]
    head = word(magic) + b"".join(
        word(kind) + struct.pack(f"{order}I", count) for kind, count in ((b"rang", 1), (b"luts", 2))
    )
    sizes = [len(head), len(ranges), 768, 768 + spoil]
    return {50838: (4, sizes), 50839: (7, head + ranges + b"".join(luts))}


def composite(order: str, metadata: dict[int, tuple[int, Any]]) -> io.BytesIO:
    """Return a file of one directory in front of two 8-bit images, with the palette of the first."""
    text = "ImageJ=1.54f\nimages=2\nchannels=2\nhyperstack=true\nmode=composite\n"
    palette = [int(value) * 257 for value in table(0, 1, 1).reshape(-1)]
    pixels = bytes([1]) * 48 + bytes([2]) * 48
    tags = {262: (3, 3), 270: (2, text), 320: (3, palette), **metadata}
    file = tiff(page(8, 6, [pixels], {**tags, 278: (4, 6)}), order=order)
    data = bytearray(file.getvalue())
    start = data.index(struct.pack(f"{order}HHI", 279, 4, 1))
    data[start + 8 : start + 12] = struct.pack(f"{order}I", 48)  # the count of one image
    return io.BytesIO(bytes(data))


@pytest.mark.parametrize("order", ORDERS)
def test_metadata_in_both_byte_orders_and_a_palette_that_is_only_a_hint(order: str) -> None:
    source = open_source(composite(order, binary(order)))
    assert source.info.colour is Colour.GREY
    assert source.info.colormap is None
    assert source.info.channels == (
        Channel("Channel 0", "#00ffff", (1.0, 10.0)),
        Channel("Channel 1", "#ff0000", (2.0, 20.0)),
    )
    assert [int(full(source, frame)[0, 0, 0]) for frame in range(2)] == [1, 2]


@pytest.mark.parametrize(
    "tags", [binary("<", magic=b"XXXX"), binary("<", spoil=9), {50838: (4, [1]), 50839: (7, b"")}]
)
def test_metadata_that_makes_no_sense_is_a_warning(tags: dict[int, tuple[int, Any]]) -> None:
    source = open_source(composite("<", tags))
    assert any("ImageJ's metadata cannot be used" in warning for warning in source.info.warnings)
    assert [int(full(source, frame)[0, 0, 0]) for frame in range(2)] == [1, 2]


def test_a_single_image_with_a_palette_is_shown_through_it() -> None:
    palette = [int(value) for value in np.random.default_rng(3).integers(0, 65536, 768)]
    tags = {262: (3, 3), 270: (2, "ImageJ=1.54f\nmin=0\nmax=200\n"), 320: (3, palette)}
    assert open_source(tiff(page(8, 6, [bytes(48)], tags))).info.colour is Colour.PALETTE


@pytest.mark.parametrize("order", ORDERS)
def test_images_beyond_4_gib_behind_one_classic_directory_are_read(tmp_path: Path, order: str) -> None:
    path, side, count = tmp_path / "long.tif", 40_000, 4  # 1.6 GB each, in a file of holes
    text = f"ImageJ=1.54f\nimages={count}\nslices={count}\n"
    head = tiff(page(side, side, [b"\7"], {270: (2, text), 278: (4, side)}), order=order).getvalue()
    data = bytearray(head)
    entry = data.index(struct.pack(f"{order}HHI", 273, 4, 1))
    first = 4096
    data[entry + 8 : entry + 12] = struct.pack(f"{order}I", first)
    entry = data.index(struct.pack(f"{order}HHI", 279, 4, 1))
    data[entry + 8 : entry + 12] = struct.pack(f"{order}I", side * side)
    with path.open("wb") as file:
        file.write(bytes(data))
        for image in range(count):
            file.seek(first + image * side * side + side + 5)
            file.write(bytes([image + 1]))
        file.truncate(first + count * side * side)
    source = open_source(path)
    assert source.info.axes == (("Z", count),)
    z = source.info.levels - 1
    for image in range(count):
        job = source.read(image, z, source.info.unit(z, 0, 0))
        (chunk,) = [chunk for chunk in job.chunks if chunk.place.y <= 1 < chunk.place.bottom]
        assert isinstance(chunk.data, bytes)
        pixels = chunk.codec.decode(chunk.data, chunk.place.width, chunk.place.height)
        assert pixels[1 - chunk.place.y, 5 - chunk.place.x, 0] == image + 1
    source.close()


def test_a_real_time_series_has_its_axes_and_the_first_image_no_colour() -> None:
    source = open_source(shared("data", "qupath-extension-omero__complex.tiff"))
    assert source.info.axes == (("Z", 10), ("T", 3))
    assert source.info.channels == ()
    source.close()


@pytest.mark.parametrize("facts", [
    "images=0", "images=0\nchannels=0\nslices=0\nframes=0", "images=-1\nchannels=-3", "images=\nslices=x",
    "images=99999999999999999999\nchannels=99999\nslices=99999", "images=1e3", "",
    "order=zzz\nimages=1", "images=1\nmin=nan\nmax=inf", "images=1\nunit=\\u00b5m\nmode=composite\nmin=1",
])  # fmt: skip
def test_counts_that_make_no_sense_leave_the_page_as_it_is(facts: str) -> None:
    source = open_source(tiff(page(8, 6, [bytes(48)], {270: (2, f"ImageJ=1.54f\n{facts}\n")})))
    assert (len(source.info.frames), source.info.axes) == (1, ())
    np.testing.assert_array_equal(full(source), np.zeros((6, 8, 1), np.uint8))
