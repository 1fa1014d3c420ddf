"""Kinds of files: every layout, type, colour and compression in many variations, against an oracle.

The oracle is the array that was written and what tifffile reads of it; of lossy streams, what
imagecodecs decodes with the colour space named.
"""

from __future__ import annotations

import io
from typing import Any

import imagecodecs
import numpy as np
import pytest
import tifffile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gputiles.backends.nvtrials import subsampled_jpeg2000
from gputiles.errors import Damaged
from gputiles.geometry import Rect
from gputiles.image import Alpha, Colour, Reduction
from gputiles.sources.colour import straighten
from gputiles.sources.open import open_source
from tests.oracle import from_ycbcr, straight
from tests.reading import full, read_level, read_tile
from tests.tiffs import pack_bits, page, tiff, tiles_of

RNG = np.random.default_rng(11)
ORDERS = ["<", ">"]
INTEGERS = ["u1", "u2", "u4", "i1", "i2", "i4"]


def noise(*shape: int, dtype: str = "u1") -> np.ndarray[Any, Any]:
    if np.dtype(dtype).kind == "f":
        return RNG.normal(size=shape).astype(dtype)
    limits = np.iinfo(dtype)
    return RNG.integers(limits.min, limits.max, shape, dtype, endpoint=True)


def gradient(height: int, width: int) -> np.ndarray[Any, Any]:
    """Return smooth RGB, which lossy streams keep nearly."""
    rows, columns = np.mgrid[:height, :width]
    return np.stack([columns * 255 // width, rows * 255 // height, 255 - columns * 255 // width], -1).astype(
        np.uint8
    )


# -- chunks


@st.composite
def layouts(draw: st.DrawFn) -> tuple[np.ndarray[Any, Any], dict[str, Any]]:
    """Draw an array (rows, columns, samples) and options to write it with."""
    dtype = draw(st.sampled_from([*INTEGERS, "u8", "f2", "f4", "f8"]))
    samples = draw(st.sampled_from([1, 2, 3, 4, 7]))
    array = noise(draw(st.integers(1, 90)), draw(st.integers(1, 90)), samples, dtype=dtype)
    compression = draw(st.sampled_from([None, "zlib", "lzw", "zstd", "packbits", "lzma"]))
    predictor = compression in ("zlib", "lzw", "zstd") and dtype != "u8" and draw(st.booleans())
    side = st.sampled_from([16, 32, 48, 112])
    chunks = {"tile": (draw(side), draw(side))} if draw(st.booleans()) else {}
    return array, {
        "compression": compression,
        "predictor": predictor,
        "byteorder": draw(st.sampled_from(ORDERS)),
        "bigtiff": draw(st.booleans()),
        "planarconfig": draw(st.sampled_from(["contig", "separate"])) if samples > 1 else None,
        **(chunks or {"rowsperstrip": draw(st.integers(1, 100))}),
    }


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(layout=layouts())
def test_any_layout_of_any_type_gives_every_pixel(
    layout: tuple[np.ndarray[Any, Any], dict[str, Any]],
) -> None:
    array, options = layout
    file = io.BytesIO()
    stored = array[..., 0] if array.shape[2] == 1 else array
    stored = np.moveaxis(stored, -1, 0) if options["planarconfig"] == "separate" else stored
    tifffile.imwrite(file, stored, photometric="minisblack", metadata=None, **options)
    source = open_source(file)
    wanted = array.astype(np.float32) if array.dtype == np.float16 else array
    np.testing.assert_array_equal(full(source), wanted, strict=True)
    file.seek(0)
    np.testing.assert_array_equal(tifffile.imread(file), stored)


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("big", [False, True])
@pytest.mark.parametrize("planar", [False, True])
def test_sparse_tiles_are_fill_and_not_valid_in_every_dialect(order: str, big: bool, planar: bool) -> None:
    array = noise(64, 64, 3)
    tiles = [tile.tobytes() for tile in tiles_of(array, 32, 32)]
    if planar:
        tiles = [tile.tobytes() for band in range(3) for tile in tiles_of(array[..., band], 32, 32)]
    tiles[1] = b""
    tags = {258: (3, [8] * 3), 262: (3, 2), 277: (3, 3), 284: (3, 1 + planar), 322: (3, 32), 323: (3, 32)}
    source = open_source(tiff(page(64, 64, tiles, tags), order=order, big=big))
    wanted = array.copy()
    wanted[:32, 32:, 0 if planar else slice(None)] = 0
    np.testing.assert_array_equal(full(source), wanted)
    job = source.read(0, 0, Rect(0, 0, 1, 1))
    assert sum(chunk.data is None for chunk in job.chunks) == 1


# -- levels


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    width=st.integers(129, 900),
    height=st.integers(129, 900),
    up=st.booleans(),
    place=st.sampled_from(["subs", "after", "before"]),
    kept=st.sets(st.integers(1, 3)),
    order=st.sampled_from(ORDERS),
    big=st.booleans(),
)
def test_levels_of_any_size_in_any_place_serve_their_own_pixels(
    width: int, height: int, up: bool, place: str, kept: set[int], order: str, big: bool
) -> None:
    sizes = [[-(-side // 2**k) if up else side >> k for side in (height, width)] for k in range(4)]
    arrays = {k: noise(*size, dtype="u2") for k, size in enumerate(sizes) if k == 0 or k in kept}
    file = io.BytesIO()
    with tifffile.TiffWriter(file, byteorder=order, bigtiff=big) as writer:
        for k in sorted(arrays, reverse=place == "before"):
            options = {"subifds": len(kept)} if place == "subs" and k == 0 and kept else {}
            writer.write(arrays[k], tile=(128, 128), subfiletype=int(k > 0), metadata=None, **options)
    source = open_source(file)
    full_z = source.info.levels - 1
    assert (source.info.width, source.info.height) == (width, height)
    assert source.info.stored == tuple(full_z - z in arrays for z in range(full_z + 1))
    for k in (k for k in arrays if k <= full_z):
        level = read_level(source, 0, full_z - k)[..., 0]
        missing = [(0, grid - own) for grid, own in zip(level.shape, arrays[k].shape, strict=True)]
        assert max(more for _, more in missing) <= 1
        np.testing.assert_array_equal(level, np.pad(arrays[k], missing, mode="edge"))


# -- samples


@pytest.mark.parametrize("bits", range(1, 17))
@pytest.mark.parametrize("samples", [1, 3])
@pytest.mark.parametrize("order", ORDERS)
def test_samples_of_any_width_are_unpacked(bits: int, samples: int, order: str) -> None:
    array = RNG.integers(0, 1 << bits, (30, 21, samples), np.uint16)
    data = array.astype(f"{order}u2").tobytes() if bits == 16 else pack_bits(array, bits)
    tags = {258: (3, [bits] * samples), 262: (3, 1 if samples == 1 else 2), 277: (3, samples)}
    file = tiff(page(21, 30, [data], tags), order=order)
    source = open_source(file)
    np.testing.assert_array_equal(full(source), array)
    file.seek(0)
    np.testing.assert_array_equal(tifffile.imread(file).reshape(array.shape), array)
    assert source.info.significant_bits == (None if bits in (1, 8, 16) else bits)
    assert source.info.reduction is Reduction.MEAN


@pytest.mark.parametrize("dtype", ["u4", "i4", "u8", "i8"])
@pytest.mark.parametrize("order", ORDERS)
def test_labels_of_any_type_are_exact_and_never_averaged(dtype: str, order: str) -> None:
    top = min(int(np.iinfo(dtype).max), 2**63 - 1)
    array = np.array([[0, 1, 2**24 + 1, top], [2**24, top - 1, 2**31 - 1, 7]], dtype)
    file = io.BytesIO()
    tifffile.imwrite(file, array, byteorder=order, metadata=None, compression="zlib")
    source = open_source(file)
    np.testing.assert_array_equal(full(source)[..., 0], array)
    assert source.info.reduction is Reduction.NEAREST


@pytest.mark.parametrize("bits", [1, 2, 4, 8, 16])
@pytest.mark.parametrize("order", ORDERS)
def test_palettes_of_any_width_keep_their_indices_and_colours(bits: int, order: str) -> None:
    array = RNG.integers(0, 1 << bits, (20, 13), np.uint16)
    data = array.astype(f"{order}u2").tobytes() if bits == 16 else pack_bits(array, bits)
    colours = RNG.integers(0, 65536, (3, 1 << bits)).tolist()
    tags = {258: (3, bits), 262: (3, 3), 320: (3, [value for band in colours for value in band])}
    source = open_source(tiff(page(13, 20, [data], tags), order=order))
    np.testing.assert_array_equal(full(source)[..., 0], array)
    assert source.info.colour is Colour.PALETTE
    assert source.info.reduction is Reduction.NEAREST
    assert source.info.colormap is not None
    np.testing.assert_array_equal(source.info.colormap, np.array(colours).T >> 8)


@pytest.mark.parametrize("bits", [1, 4, 8, 12, 16])
def test_white_is_zero_is_shown_inverted_and_kept_as_stored(bits: int) -> None:
    array = RNG.integers(0, 1 << bits, (9, 11), np.uint16)
    data = array.astype("<u2").tobytes() if bits == 16 else pack_bits(array, bits)
    source = open_source(tiff(page(11, 9, [data], {258: (3, bits), 262: (3, 0)})))
    np.testing.assert_array_equal(full(source)[..., 0], array)
    assert source.info.colormap is not None
    assert source.info.colormap[[0, -1], 0].tolist() == [255, 0]


@pytest.mark.parametrize("dtype", ["f2", "f4", "f8"])
@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("predictor", [False, True])
def test_nan_and_infinities_survive(dtype: str, order: str, predictor: bool) -> None:
    array = noise(20, 30, dtype=dtype)
    array[3, 4:9] = np.nan, np.inf, -np.inf, 0, -0.0
    file = io.BytesIO()
    options = {"compression": "zlib", "predictor": 3 if predictor else None}
    tifffile.imwrite(file, array, byteorder=order, metadata=None, **options)
    np.testing.assert_array_equal(full(open_source(file))[..., 0], array)


# -- alpha


@pytest.mark.parametrize("dtype", ["u1", "u2", "f4"])
@pytest.mark.parametrize("samples", [2, 4])
@pytest.mark.parametrize("order", ORDERS)
def test_colours_that_were_multiplied_with_alpha_are_divided_by_it(
    dtype: str, samples: int, order: str
) -> None:
    array = np.abs(noise(20, 30, samples, dtype=dtype))
    array[..., :-1] = np.minimum(array[..., :-1], array[..., -1:])
    array[0] = 0
    file = io.BytesIO()
    kind = "rgb" if samples == 4 else "minisblack"
    options = {"photometric": kind, "planarconfig": "contig", "extrasamples": ["assocalpha"]}
    tifffile.imwrite(file, array, byteorder=order, metadata=None, **options)
    source = open_source(file)
    assert source.info.alpha is Alpha.STRAIGHT
    if dtype == "f4":
        safe = np.where(array[..., -1:] > 0, array[..., -1:], 1)
        np.testing.assert_array_equal(full(source)[..., :-1], array[..., :-1] / safe)
    else:
        np.testing.assert_array_equal(full(source), straight(array))


@given(colour=st.integers(0, 255), alpha=st.integers(0, 255))
def test_dividing_by_alpha_undoes_multiplying(colour: int, alpha: int) -> None:
    multiplied = (colour * alpha + 127) // 255
    got, kept = straighten(np.array([[[multiplied, alpha]]], np.uint8))[0, 0].tolist()
    assert kept == alpha
    assert abs(got - colour) <= (255 / (2 * alpha) + 1 if alpha else colour)
    assert alpha or not got


def test_colours_of_64_bits_are_divided_exactly() -> None:
    top = 2**64 - 1
    pixels = [[top // 3, top // 2], [1, top], [5, 0], [2**63, 2**63 + 1], [top, 3]]
    array = np.array([pixels], np.uint64)
    wanted = [min((2 * c * top + a) // (2 * a), top) if a else 0 for c, a in pixels]
    assert straighten(array)[0, :, 0].tolist() == wanted
    assert straighten(array)[0, :, 1].tolist() == [a for _, a in pixels]


def test_multiplied_colours_in_planes_of_their_own_are_served_so_with_a_warning() -> None:
    array = noise(4, 20, 30)
    file = io.BytesIO()
    options = {"photometric": "rgb", "planarconfig": "separate", "extrasamples": ["assocalpha"]}
    tifffile.imwrite(file, array, metadata=None, **options)
    source = open_source(file)
    assert source.info.alpha is Alpha.PREMULTIPLIED
    assert any("multiplied with alpha" in warning for warning in source.info.warnings)
    np.testing.assert_array_equal(full(source), np.moveaxis(array, 0, -1))


def test_an_extra_sample_that_is_not_there_is_no_alpha() -> None:
    tags = {258: (3, [8] * 3), 262: (3, 2), 277: (3, 3), 338: (3, 1)}
    array = noise(6, 5, 3)
    source = open_source(tiff(page(5, 6, [array.tobytes()], tags)))
    assert source.info.alpha is Alpha.NONE
    np.testing.assert_array_equal(full(source), array)


# -- JPEG


def jpeg(tile: np.ndarray[Any, Any], inside: str, marker: str | None) -> bytes:
    """Return a stream whose components are ``inside``, with a colour marker or without any."""
    stream = imagecodecs.jpeg8_encode(
        tile, level=95, colorspace="RGB", outcolorspace=inside, subsampling="444"
    )
    start = stream.index(b"\xff\xdb")  # the first table: the markers lie before it
    adobe = b"\xff\xee\0\x0eAdobe\0\x64\0\0\0\0" + bytes([inside == "YCBCR"])
    jfif = b"\xff\xe0\0\x10JFIF\0\1\1\0\0\1\0\1\0\0"
    frame = stream.index(b"\xff\xc0")
    ids = b"".join(
        bytes([1 + index]) + stream[frame + 11 + 3 * index : frame + 13 + 3 * index] for index in range(3)
    )
    scan = stream.index(b"\xff\xda")
    body = stream[start : frame + 10] + ids + stream[frame + 19 : scan + 5]
    selectors = b"".join(bytes([1 + index, stream[scan + 6 + 2 * index]]) for index in range(3))
    return (
        b"\xff\xd8"
        + {"adobe": adobe, "jfif": jfif, None: b""}[marker]
        + body
        + selectors
        + stream[scan + 11 :]
    )


def split_tables(stream: bytes) -> tuple[bytes, bytes]:
    """Return a stream's tables, as tag 347 holds them, and the stream without them."""
    tables, rest, at = b"", b"\xff\xd8", 2
    while stream[at + 1] != 0xDA:
        end = at + 2 + int.from_bytes(stream[at + 2 : at + 4], "big")
        if stream[at + 1] in (0xDB, 0xC4):
            tables += stream[at:end]
        else:
            rest += stream[at:end]
        at = end
    return b"\xff\xd8" + tables + b"\xff\xd9", rest + stream[at:]


@pytest.mark.parametrize(("inside", "marker", "photometric"), [
    ("RGB", None, 2), ("RGB", "adobe", 2), ("RGB", "adobe", 6), ("RGB", None, 1), ("RGB", None, 0),
    ("YCBCR", "jfif", 1), ("RGB", "adobe", 1),
    ("YCBCR", None, 6), ("YCBCR", "jfif", 6), ("YCBCR", "jfif", 2),
    ("YCBCR", "adobe", 2), ("YCBCR", "adobe", 6),
])  # fmt: skip
@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize(("big", "tile"), [(False, (64, 48)), (True, (128, 128))])
@pytest.mark.parametrize("shared_tables", [False, True])
def test_jpeg_tiles_have_the_colours_that_were_put_in(
    inside: str, marker: str | None, photometric: int, order: str, big: bool, tile: tuple[int, int],
    shared_tables: bool,
) -> None:  # fmt: skip
    array = gradient(150, 100)
    streams = [jpeg(part, inside, marker) for part in tiles_of(array, *tile)]
    tables, rest = split_tables(streams[0])
    chunks = [split_tables(stream)[1] for stream in streams] if shared_tables else streams
    tags: dict[int, tuple[int, Any]] = {
        258: (3, [8] * 3), 259: (3, 7), 262: (3, photometric), 277: (3, 3),
        322: (3, tile[0]), 323: (3, tile[1]),
        **({347: (7, tables)} if shared_tables else {}),
    }  # fmt: skip
    source = open_source(tiff(page(100, 150, chunks, tags), order=order, big=big))
    got = full(source)
    assert np.abs(got.astype(int) - array).max() <= 6
    first = imagecodecs.jpeg8_decode(streams[0], colorspace=inside, outcolorspace="RGB")
    np.testing.assert_array_equal(got[: tile[1], : tile[0]], first[: len(got), : got.shape[1]])
    assert len(rest) < len(streams[0])


# -- JPEG 2000


YCBCR = np.stack([noise(64, 64) // 4 + 90, *(np.mgrid[:64, :64] // 16 * 16 + 96)], -1).astype(np.uint8)
TILED = {258: (3, [8] * 3), 277: (3, 3), 322: (3, 64), 323: (3, 64)}


@pytest.mark.parametrize("compression", [33003, 34712])
@pytest.mark.parametrize("spread", [(1, 1), (2, 1), (2, 2)])
def test_ycbcr_in_jpeg_2000_is_converted_once_however_it_is_subsampled(
    compression: int, spread: tuple[int, int]
) -> None:
    chroma = [np.ascontiguousarray(YCBCR[:: spread[1], :: spread[0], band]) for band in (1, 2)]
    stream = subsampled_jpeg2000([np.ascontiguousarray(YCBCR[..., 0]), *chroma], [(1, 1), spread, spread])
    photometric = 2 if compression == 33003 else 6  # Aperio says RGB all the same
    tags = {**TILED, 259: (3, compression), 262: (3, photometric)}
    source = open_source(tiff(page(64, 64, [stream], tags)))
    wanted = from_ycbcr(YCBCR, None)
    assert np.abs(full(source).astype(int) - wanted).max() <= 1


def test_a_jp2_box_that_names_sycc_is_converted_once() -> None:
    options = {"codecformat": "jp2", "level": 0, "reversible": True, "mct": False, "colorspace": 3}
    stream = imagecodecs.jpeg2k_encode(YCBCR, **options)
    source = open_source(tiff(page(64, 64, [stream], {**TILED, 259: (3, 34712), 262: (3, 6)})))
    assert np.abs(full(source).astype(int) - from_ycbcr(YCBCR, None)).max() <= 1


@pytest.mark.parametrize("mct", [False, True])
@pytest.mark.parametrize("compression", [33005, 34712])
def test_rgb_in_jpeg_2000_is_left_alone(mct: bool, compression: int) -> None:
    stream = imagecodecs.jpeg2k_encode(YCBCR, codecformat="j2k", level=0, reversible=True, mct=mct)
    source = open_source(tiff(page(64, 64, [stream], {**TILED, 259: (3, compression), 262: (3, 2)})))
    np.testing.assert_array_equal(full(source), YCBCR)


# -- YCbCr without a picture codec


@pytest.mark.parametrize("compression", [1, 5, 8, 50000])
@pytest.mark.parametrize("spread", [(1, 1), (2, 1), (2, 2), (4, 1), (4, 2), (4, 4)])
@pytest.mark.parametrize("order", ORDERS)
def test_subsampled_ycbcr_is_spread_and_converted(
    compression: int, spread: tuple[int, int], order: str
) -> None:
    across, down = spread
    pixels = np.repeat(np.repeat(noise(48 // down, 64 // across, 3), down, 0), across, 1)
    pixels[..., 0] = noise(48, 64)
    units = pixels.reshape(48 // down, down, 64 // across, across, 3).transpose(0, 2, 1, 3, 4)
    luma = units[..., 0].reshape(48 // down, 64 // across, -1)
    data = np.concatenate([luma, units[:, :, 0, 0, 1:]], -1).tobytes()
    encode = {1: bytes, 5: imagecodecs.lzw_encode, 8: imagecodecs.zlib_encode, 50000: imagecodecs.zstd_encode}
    tags = {258: (3, [8] * 3), 259: (3, compression), 262: (3, 6), 277: (3, 3), 530: (3, list(spread))}
    source = open_source(tiff(page(64, 48, [encode[compression](data)], tags), order=order))
    assert np.abs(full(source).astype(int) - from_ycbcr(pixels, None)).max() <= 1


# -- damage


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("big", [False, True])
@pytest.mark.parametrize("keep", [0.2, 0.5, 0.8])
def test_of_a_truncated_file_every_whole_tile_is_served(order: str, big: bool, keep: float) -> None:
    array = noise(512, 512)
    file = io.BytesIO()
    options = {"tile": (128, 128), "byteorder": order, "bigtiff": big, "compression": "zlib"}
    tifffile.imwrite(file, array, metadata=None, **options)
    file.seek(0)
    with tifffile.TiffFile(file) as tif:
        ends = [
            sum(place) for place in zip(tif.pages[0].dataoffsets, tif.pages[0].databytecounts, strict=True)
        ]
    data = file.getvalue()
    cut = data[: int(len(data) * keep)]
    source = open_source(io.BytesIO(cut))
    for index, end in enumerate(ends):
        x, y = index % 4, index // 4
        tile = read_tile(source, 0, source.info.levels - 1, x, y)
        if end <= len(cut):
            truth = array[128 * y : 128 * y + 128, 128 * x : 128 * x + 128]
            np.testing.assert_array_equal(tile[..., 0], truth)
        else:
            assert isinstance(tile, Damaged)
