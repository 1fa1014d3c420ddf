"""TIFF files of many layouts, written for the test: chunks, tiles, levels, samples, limits."""

from __future__ import annotations

import io
import os
import struct
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

from gputiles.errors import Damaged, GputilesError, LimitExceeded, NotFound, Unsupported
from gputiles.geometry import Grid, Rect
from gputiles.image import Alpha, Colour, Reduction
from gputiles.sources.chunks import unit_tiles
from gputiles.sources.layout import fits
from gputiles.sources.open import open_source
from gputiles.sources.tiff import TiffSource
from tests.conftest import shared
from tests.reading import full, read_level, read_tile

RNG = np.random.default_rng(7)


def noise(*shape: int, dtype: str = "u1") -> np.ndarray[Any, Any]:
    if np.dtype(dtype).kind == "f":
        return RNG.normal(size=shape).astype(dtype)
    limits = np.iinfo(dtype)
    return RNG.integers(limits.min, limits.max, shape, dtype, endpoint=True)


def written(array: np.ndarray[Any, Any], **options: Any) -> io.BytesIO:
    """Return ``array`` as a TIFF file in memory."""
    file = io.BytesIO()
    tifffile.imwrite(file, array, **{"metadata": None, **options})
    return file


def opened(array: np.ndarray[Any, Any], **options: Any) -> TiffSource:
    source = open_source(written(array, **options))
    assert isinstance(source, TiffSource)
    return source


# -- tiles and chunks


@pytest.mark.parametrize(("tile", "served"), [
    ((128, 128), (128, 128)), ((1024, 512), (512, 1024)), ((240, 240), (240, 240)),
    ((64, 64), (256, 256)), ((16, 256), (256, 256)), (None, (256, 256)),
])  # fmt: skip
def test_the_files_own_tiles_are_served_where_they_are_of_a_usual_size(
    tile: tuple[int, int] | None, served: tuple[int, int]
) -> None:
    info = opened(noise(300, 400), tile=tile).info
    assert (info.tile_width, info.tile_height) == served


def test_large_images_in_strips_are_served_in_tiles_of_512() -> None:
    assert opened(noise(8, 2100)).info.tile_width == 512


@pytest.mark.parametrize("options", [
    {"tile": (16, 16)}, {"tile": (48, 32)}, {"tile": (256, 256)}, {"tile": (512, 512)}, {"tile": (160, 96)},
    {"rowsperstrip": 1}, {"rowsperstrip": 7}, {"rowsperstrip": 300}, {"rowsperstrip": 700},
])  # fmt: skip
@pytest.mark.parametrize("compression", [None, "zlib"])
@pytest.mark.parametrize("planar", ["contig", "separate"])
def test_every_chunking_gives_every_pixel(
    options: dict[str, Any], compression: str | None, planar: str
) -> None:
    array = noise(700, 530, 3, dtype="u2")
    stored = array if planar == "contig" else np.moveaxis(array, -1, 0)
    source = opened(stored, photometric="rgb", planarconfig=planar, compression=compression, **options)
    np.testing.assert_array_equal(full(source), array)


@pytest.mark.parametrize(
    ("chunk", "unit"), [((256, 256), 1), ((128, 64), 1), ((512, 512), 2), ((384, 384), 3)]
)
def test_tiles_that_share_chunks_are_one_unit(chunk: tuple[int, int], unit: int) -> None:
    source = opened(noise(2000, 2000), tile=chunk, compression="zlib")
    page = source.page(0, source.info.levels - 1)
    assert unit_tiles(page, Grid(2000, 2000, 256, 256), 3) == (unit, unit)


def test_units_tile_the_grid_and_agree_with_each_other() -> None:
    source = opened(noise(1500, 1300), tile=(48, 96))
    z, grid = source.info.levels - 1, source.info.grid
    for cell in Rect(0, 0, *grid.tiles(z)).cells():
        unit = source.info.unit(z, *cell)
        assert all(source.info.unit(z, *other) == unit for other in unit.cells())
        whole, tiles = grid.rect(z, *unit), [grid.rect(z, *other) for other in unit.cells()]
        assert all(whole.contains(tile) for tile in tiles)
        assert whole.width * whole.height == sum(tile.width * tile.height for tile in tiles)


def test_a_chunk_wider_than_the_image_is_decoded_once_for_all_its_tiles() -> None:
    source = opened(noise(100, 2000), compression="zlib", rowsperstrip=100)
    job = source.read(0, source.info.levels - 1, source.info.unit(source.info.levels - 1, 3, 0))
    assert (len(job.chunks), len(job.tiles)) == (1, 8)


def test_a_huge_uncompressed_strip_is_read_by_the_tile(tmp_path: Path) -> None:
    path = tmp_path / "huge.tif"
    with tifffile.TiffWriter(path, bigtiff=True) as writer:
        row = (np.arange(40000) % 251).astype(np.uint8)
        writer.write(np.broadcast_to(row, (5000, 40000)), rowsperstrip=5000, metadata=None)
    source = open_source(path, chunk_limit=1 << 20)
    z = source.info.levels - 1
    unit = source.info.unit(z, 50, 5)
    job = source.read(0, z, unit)
    assert unit == Rect(50, 5, 1, 1)
    assert sum(len(chunk.data) for chunk in job.chunks if isinstance(chunk.data, bytes)) == 512 * 512
    tile = read_tile(source, 0, z, 50, 5)
    np.testing.assert_array_equal(tile[0, :, 0], row[50 * 512 : 51 * 512])
    source.close()


def test_padding_is_outside_every_tile() -> None:
    source = open_source(shared("cases", "tile_larger_than_image.tif"))
    assert full(source).shape == (50, 37, 3)
    source.close()


def test_sparse_chunks_are_neither_read_nor_errors() -> None:
    source = open_source(shared("cases", "sparse_tiles_0_0.tif"))
    job = source.read(0, source.info.levels - 1, Rect(0, 0, 3, 3))
    assert sum(chunk.data is None for chunk in job.chunks) == 2
    source.close()


# -- samples


@pytest.mark.parametrize("dtype", ["u1", "i1", "u2", "i2", "u4", "i4", "u8", "i8", "f4", "f8"])
@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("predictor", [False, True])
def test_every_type_keeps_its_values(dtype: str, order: str, predictor: bool) -> None:
    array = noise(70, 90, 2, dtype=dtype)
    # tifffile does not write 64-bit integers with a predictor
    options = {"predictor": True, "compression": "zlib"} if predictor and dtype not in ("u8", "i8") else {}
    source = opened(array, byteorder=order, photometric="minisblack", planarconfig="contig", **options)
    assert source.info.dtype == np.dtype(dtype)
    np.testing.assert_array_equal(full(source), array)


def test_half_floats_are_widened() -> None:
    array = noise(20, 30, dtype="f2")
    np.testing.assert_array_equal(full(opened(array))[..., 0], array.astype(np.float32))


@pytest.mark.parametrize(
    "compression", ["zlib", "zstd", "lzw", "packbits", "lzma", "webp", "png", "jpeg2000"]
)
def test_every_compression_gives_every_pixel(compression: str) -> None:
    array = noise(200, 300, 3)
    arguments = {"webp": {"lossless": True}, "jpeg2000": {"reversible": True, "level": 0}}.get(compression)
    options = {"compression": compression, "compressionargs": arguments}
    np.testing.assert_array_equal(full(opened(array, photometric="rgb", tile=(128, 128), **options)), array)


@pytest.mark.parametrize(("extra", "alpha"), [
    ("unassalpha", Alpha.STRAIGHT), ("assocalpha", Alpha.STRAIGHT), ("unspecified", Alpha.NONE),
])  # fmt: skip
def test_extra_samples_say_what_they_are(extra: str, alpha: Alpha) -> None:
    info = opened(noise(10, 10, 4), photometric="rgb", extrasamples=[extra]).info
    assert (info.colour, info.samples, info.alpha) == (Colour.RGB, 4, alpha)


def test_palettes_are_shown_through_their_map_and_never_averaged() -> None:
    info = open_source(shared("cases", "palette_u8.tif")).info
    assert info.colour is Colour.PALETTE
    assert info.reduction is Reduction.NEAREST
    assert info.colormap is not None
    assert info.colormap[:4].tolist() == [[255, 0, 0], [0, 255, 0], [0, 0, 255], [255, 255, 0]]


def test_a_palette_of_8_bit_values_is_not_black() -> None:
    colormap = np.zeros((3, 256), np.uint16)
    colormap[0] = np.arange(256)
    info = opened(noise(10, 10), photometric="palette", colormap=colormap).info
    assert info.colormap is not None
    assert info.colormap[200].tolist() == [200, 0, 0]


def test_bilevel_and_white_is_zero_are_shown_rightly() -> None:
    black = open_source(shared("cases", "bilevel_minisblack.tif")).info.colormap
    white = open_source(shared("cases", "bilevel_miniswhite.tif")).info.colormap
    assert black is not None
    assert white is not None
    assert black[:, 0].tolist() == [0, 255]
    assert white[:, 0].tolist() == [255, 0]


def test_labels_are_reduced_to_the_nearest() -> None:
    assert opened(noise(10, 10, dtype="u4")).info.reduction is Reduction.NEAREST
    assert opened(noise(10, 10, dtype="u2")).info.reduction is Reduction.MEAN


@pytest.mark.parametrize(("text", "dtype", "nodata", "warned"), [
    ("-1000", "i2", -1000, False), ("-1", "u1", None, True), ("nan", "f4", None, False),
    ("nan", "u1", None, True), ("0.5", "u1", None, True), ("none", "u1", None, True),
    ("1e300", "i2", None, True),
])  # fmt: skip
def test_impossible_nodata_is_ignored_with_a_warning(
    text: str, dtype: str, nodata: float | None, warned: bool
) -> None:
    info = opened(noise(10, 10, dtype=dtype), extratags=[(42113, "s", 0, text, True)]).info
    assert info.nodata == nodata
    assert any("nodata" in warning for warning in info.warnings) is warned


def test_resolution_is_a_quotient_with_a_unit_of_its_own_axis() -> None:
    info = open_source(shared("cases", "resolution_rational_cm.tif")).info
    assert (info.mm_x, info.mm_y) == (pytest.approx(0.00025), pytest.approx(0.0005))


# -- frames and levels


def test_equal_pages_are_frames() -> None:
    array = noise(3, 40, 50)
    source = opened(array, photometric="minisblack")
    assert source.info.axes == (("Z", 3),)
    for frame in range(3):
        np.testing.assert_array_equal(full(source, frame)[..., 0], array[frame])
    with pytest.raises(NotFound, match="Frame does not exist"):
        full(source, 3)


@pytest.mark.parametrize(("size", "k"), [
    ((500, 400), 1), ((501, 400), 1), ((499, 399), 1), ((250, 200), 2), ((502, 400), None), ((62, 50), 4),
    ((1000, 800), None), ((300, 240), None),
])  # fmt: skip
def test_a_level_fits_within_a_pixel_of_a_power_of_two(size: tuple[int, int], k: int | None) -> None:
    assert fits((1000, 800), size) == k


def pyramid(sizes: list[int], *, subs: bool = False, frames: int = 1, tile: int = 128) -> io.BytesIO:
    file = io.BytesIO()
    with tifffile.TiffWriter(file) as writer:
        for frame in range(frames):
            count = len(sizes) - 1 if subs else 0
            for number, size in enumerate(sizes):
                options = {"subifds": count} if number == 0 and count else {}
                level = np.full((size, size), 10 * frame + number, np.uint8)
                writer.write(level, tile=(tile, tile), metadata=None, subfiletype=int(number > 0), **options)
    return file


@pytest.mark.parametrize("subs", [True, False])
def test_reduced_pages_are_levels_wherever_they_stand(subs: bool) -> None:
    source = open_source(pyramid([512, 256, 128], subs=subs))
    assert source.info.stored == (True, True, True)
    assert [int(read_level(source, 0, z)[0, 0, 0]) for z in range(3)] == [2, 1, 0]


def test_levels_that_are_not_stored_are_said_to_be_missing() -> None:
    assert open_source(pyramid([1024, 128])).info.stored == (True, False, False, True)


def test_every_frame_brings_its_own_levels() -> None:
    source = open_source(pyramid([256, 128], subs=True, frames=3))
    assert [int(read_level(source, frame, 0)[0, 0, 0]) for frame in range(3)] == [1, 11, 21]


def test_a_level_that_only_one_frame_has_does_not_count() -> None:
    file = io.BytesIO()
    with tifffile.TiffWriter(file) as writer:
        for frame in range(3):
            subs = {"subifds": 1} if frame == 2 else {}
            writer.write(np.zeros((256, 256), np.uint8), tile=(128, 128), metadata=None, **subs)
            if subs:
                writer.write(np.zeros((128, 128), np.uint8), tile=(128, 128), metadata=None, subfiletype=1)
    source = open_source(file)
    assert source.info.stored == (False, True)
    assert any("not every frame" in warning for warning in source.info.warnings)


def test_a_stored_level_a_row_short_repeats_its_last_row() -> None:
    file = io.BytesIO()
    with tifffile.TiffWriter(file) as writer:
        writer.write(noise(513, 513), tile=(128, 128), metadata=None)
        half = noise(256, 256)
        writer.write(half, tile=(128, 128), metadata=None, subfiletype=1)
    source = open_source(file)
    z = source.info.levels - 2
    assert source.info.grid.size(z) == (257, 257)
    np.testing.assert_array_equal(read_level(source, 0, z)[..., 0], np.pad(half, (0, 1), mode="edge"))


def test_garbage_in_the_sub_page_table_drops_the_level() -> None:
    source = open_source(shared("data", "tifftools__bad_subifd_offset.tif"))
    assert any("a level was dropped" in warning for warning in source.info.warnings)
    source.close()


def test_scanner_pictures_are_not_levels() -> None:
    source = open_source(shared("cases", "svs_page_order.svs"))
    assert source.info.stored.count(True) == 2
    assert source.info.mm_x == pytest.approx(0.00025)
    source.close()


# -- limits and damage


def test_a_chunk_over_the_limit_is_refused_when_the_file_is_opened() -> None:
    file = written(noise(512, 512), tile=(512, 512), compression="zlib")
    with pytest.raises(LimitExceeded, match="a chunk of 512x512 pixels decodes to 262144 bytes; most 200000"):
        open_source(file, chunk_limit=200_000)


@pytest.mark.parametrize("name", ["bomb_png_20000.tif", "bomb_j2k_siz_40000.tif"])
def test_a_stream_that_claims_more_than_its_chunk_is_damage(name: str) -> None:
    source = open_source(shared("cases", name))
    assert isinstance(read_tile(source, 0, 0, 0, 0), Damaged)
    source.close()


def test_one_damaged_chunk_fails_only_its_tiles() -> None:
    source = open_source(shared("cases", "deflate_corrupt_middle_tile.tif"))
    tiles = [read_tile(source, 0, 2, x, y) for y in range(3) for x in range(3)]
    assert [isinstance(tile, GputilesError) for tile in tiles] == [index == 4 for index in range(9)]
    source.close()


@pytest.mark.parametrize(("code", "value", "error"), [
    (256, 0, Damaged), (257, 0, Damaged), (258, 24, Unsupported), (259, 6, Unsupported),
    (262, 8, Unsupported), (339, 6, Unsupported), (277, 0, Damaged),
])  # fmt: skip
def test_impossible_tags_are_refused_with_a_reason(code: int, value: int, error: type[GputilesError]) -> None:
    data = bytearray(written(noise(10, 10, dtype="i1"), photometric="minisblack").getvalue())
    offset = struct.unpack_from("<I", data, 4)[0]
    for entry in range(offset + 2, offset + 2 + 12 * struct.unpack_from("<H", data, offset)[0], 12):
        if struct.unpack_from("<H", data, entry)[0] == code:
            struct.pack_into("<HII", data, entry + 2, 4, 1, value)
    with pytest.raises(error):
        open_source(io.BytesIO(bytes(data)))


def test_a_chain_of_pages_that_runs_in_a_circle_ends() -> None:
    source = open_source(shared("cases", "cyclic_ifd_to_first.tif"))
    assert len(source.info.frames) == 3
    source.close()


def test_frames_of_different_types_are_refused_in_ome_files() -> None:
    file = io.BytesIO()
    with tifffile.TiffWriter(file) as writer:
        xml = (
            '<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06"><Image><Pixels '
            'DimensionOrder="XYCZT" Type="uint8" SizeX="8" SizeY="8" SizeC="2" SizeZ="1" SizeT="1">'
            '<Channel/><Channel/><TiffData IFD="0" PlaneCount="2"/></Pixels></Image></OME>'
        )
        writer.write(noise(8, 8), description=xml, metadata=None)
        writer.write(noise(8, 8, dtype="u2"), metadata=None)
    with pytest.raises(Unsupported, match="frames of different kinds"):
        open_source(file)


def test_what_is_not_tiff_is_refused_with_its_first_bytes(tmp_path: Path) -> None:
    with pytest.raises(Damaged, match="not a TIFF file: starts with b'<html>'"):
        open_source(io.BytesIO(b"<html></html>"))
    with pytest.raises(NotFound):
        open_source(tmp_path / "absent.tif")


# -- files


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def test_an_open_file_costs_one_descriptor_and_a_closed_one_none(tmp_path: Path) -> None:
    path = tmp_path / "one.tif"
    path.write_bytes(pyramid([512, 256, 128], subs=True, frames=4).getvalue())
    before = descriptors()
    source = open_source(path)
    full(source)
    assert descriptors() - before == source.descriptors == 1
    assert source.paths == (path,)
    source.close()
    assert descriptors() == before


def test_a_refused_file_leaves_no_descriptor_behind() -> None:
    before = descriptors()
    for name in ("comp_unknown_52479.tif", "truncated_in_ifd.tif", "absurd_tile_2p30.tif"):
        with pytest.raises(GputilesError):
            open_source(shared("cases", name))
    assert descriptors() == before


def test_threads_read_the_same_pixels_as_one() -> None:
    array = noise(6, 256, 256, dtype="u2")
    source = opened(array, photometric="minisblack", tile=(128, 128), compression="zlib")
    jobs = [(frame, x, y) for frame in range(6) for x in range(2) for y in range(2)] * 20
    with ThreadPoolExecutor(16) as pool:
        tiles = list(pool.map(lambda job: read_tile(source, job[0], 1, *job[1:]), jobs))
    for (frame, x, y), tile in zip(jobs, tiles, strict=True):
        np.testing.assert_array_equal(
            tile[..., 0], array[frame, 128 * y : 128 * y + 128, 128 * x : 128 * x + 128]
        )


@pytest.mark.parametrize("order", ["<", ">"])
def test_chunks_beyond_4_gib_are_found(tmp_path: Path, order: str) -> None:
    path, far = tmp_path / "far.tif", (5 << 30) + 12
    entries = [(256, 4, 64), (257, 4, 64), (258, 3, 8), (259, 3, 1), (262, 3, 1), (277, 3, 1),
               (322, 4, 64), (323, 4, 64), (324, 16, far), (325, 16, 4096)]  # fmt: skip
    layout = {3: "H6x", 4: "I4x", 16: "Q"}
    with path.open("wb") as file:
        file.write({"<": b"II", ">": b"MM"}[order] + struct.pack(f"{order}HHHQ", 43, 8, 0, 16))
        file.write(struct.pack(f"{order}Q", len(entries)))
        for code, kind, value in entries:
            file.write(struct.pack(f"{order}HHQ{layout[kind]}", code, kind, 1, value))
        file.write(struct.pack(f"{order}Q", 0))
        file.seek(far)
        file.write(bytes(range(256)) * 16)
    source = open_source(path)
    assert full(source)[3, 5, 0] == (3 * 64 + 5) % 256
    source.close()
