"""Odd files: what writers of the field get wrong, or do in a way of their own; one file of each kind."""

from __future__ import annotations

import contextlib
import io
import struct
import tracemalloc
from functools import partial
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import pytest
import tifffile

from gputiles.backends import Chunk, DecodeJob, Raster
from gputiles.backends.paste import decode_tiles
from gputiles.errors import Damaged, Unsupported
from gputiles.geometry import Rect
from gputiles.image import Alpha, Colour
from gputiles.sources.bytecodec import ByteCodec
from gputiles.sources.colour import ConvertedCodec, YCbCrCodec, cmyk_to_rgb, ycbcr_to_rgb
from gputiles.sources.drawn import DrawnCodec
from gputiles.sources.open import open_source
from tests.reading import full, read_level
from tests.test_source_ome import ome_file, values, xml
from tests.tiffs import Written, pack_bits, page, tiff, tiles_of

RNG = np.random.default_rng(23)


def noise(*shape: int, dtype: str = "u1") -> np.ndarray[Any, Any]:
    return RNG.integers(0, np.iinfo(dtype).max, shape, dtype, endpoint=True)


# -- OME-XML


@pytest.mark.parametrize("block", [
    '<TiffData FirstC="7" IFD="0"/>', '<TiffData IFD="0" PlaneCount="0"/>', '<TiffData PlaneCount="-1"/>',
    '<TiffData IFD="-1"/>', '<TiffData FirstC="-1" IFD="0"/>', '<TiffData IFD="99"/>',
])  # fmt: skip
def test_where_blocks_put_no_plane_the_pages_are_served_with_a_warning(block: str) -> None:
    file = ome_file(xml(block, c=3), 3)
    assert values(file) == [0, 1, 2]
    assert any("OME-XML" in warning for warning in open_source(file).info.warnings)


@pytest.mark.parametrize(("head", "encoding"), [
    ("\ufeff", "utf-8"), ('\ufeff<?xml version="1.0" encoding="UTF-8"?>', "utf-8"),
    ('<?xml version="1.0" encoding="UTF-16"?>', "utf-8"),
    ('<?xml version="1.0" encoding="UTF-16"?>', "utf-16"),
    ('<?xml version="1.0"?><!-- ' + "w" * 6000 + " -->", "utf-8"),
])  # fmt: skip
def test_ome_xml_is_known_by_its_root_in_any_dress(head: str, encoding: str) -> None:
    text = (head + xml(c=3)).encode(encoding)
    pages = [
        page(8, 6, [bytes([number] * 48)], {270: (7, text)} if number == 0 else {}) for number in range(3)
    ]
    source = open_source(tiff(*pages))
    assert (source.info.format, source.info.axes) == ("OME-TIFF", (("C", 3),))


def test_ome_xml_may_have_a_prefix_of_any_name() -> None:
    text = xml(c=3).replace("<", "<o:").replace("<o:/", "</o:").replace("xmlns=", "xmlns:o=")
    source = open_source(ome_file(text, 3))
    assert (source.info.format, source.info.axes) == ("OME-TIFF", (("C", 3),))


@pytest.mark.parametrize("parts", [
    {"more": 'PhysicalSizeX="wide" PhysicalSizeY="0,5"'}, {"more": 'SignificantBits="²"'},
    {"before": '<Instrument><Objective NominalMagnification="x40"/></Instrument>'},
    {"inside": '<Channel SamplesPerPixel="one" Color="red"/><TiffData/>'},
    {"inside": '<TiffData><UUID FileName="">urn:uuid:me</UUID></TiffData>'},
])  # fmt: skip
def test_a_fact_of_no_use_leaves_the_axes_as_they_are(parts: dict[str, str]) -> None:
    info = open_source(ome_file(xml(**{"c": 3, **parts}), 3)).info
    assert (info.axes, info.mm_x, info.magnification) == ((("C", 3),), None, None)
    assert info.warnings == ()


def test_blocks_that_name_all_planes_again_and_again_are_not_followed_to_the_end() -> None:
    file = ome_file(xml("<TiffData/>" * 9000, z=250), 250)
    source = open_source(file)
    assert any("again and again" in warning for warning in source.info.warnings)
    assert len(source.info.frames) == 250


# -- tags that say what is not so


@pytest.mark.parametrize("told", [1, 39, 1199])
def test_a_strip_that_holds_more_than_its_count_tells_is_read_whole(told: int) -> None:
    array = noise(30, 40)
    written = tiff(page(40, 30, [array.tobytes()], {}))
    with tifffile.TiffFile(io.BytesIO(written.getvalue())) as file:
        tag = file.pages[0].aspage().tags[279]
    data = bytearray(written.getvalue())
    data[tag.valueoffset : tag.valueoffset + 4] = told.to_bytes(4, "little")
    np.testing.assert_array_equal(full(open_source(io.BytesIO(bytes(data))))[..., 0], array)


def test_alpha_in_the_webp_streams_of_a_page_without_it_is_left_out() -> None:
    array = noise(30, 40, 4)
    stream = imagecodecs.webp_encode(array, lossless=True)
    tags = {258: (3, [8] * 3), 259: (3, 50001), 262: (3, 2), 277: (3, 3)}
    np.testing.assert_array_equal(full(open_source(tiff(page(40, 30, [stream], tags)))), array[..., :3])


# -- samples


@pytest.mark.parametrize("bits", [17, 20, 23, 25, 31])
@pytest.mark.parametrize("order", ["<", ">"])
def test_samples_wider_than_16_bits_are_unpacked(bits: int, order: str) -> None:
    array = RNG.integers(0, 1 << bits, (9, 7, 1), np.uint32)
    file = tiff(page(7, 9, [pack_bits(array, bits)], {258: (3, bits)}), order=order)
    source = open_source(file)
    np.testing.assert_array_equal(full(source), array, strict=True)
    assert source.info.significant_bits == bits


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("samples", [1, 3])
def test_24_bit_integers_lie_in_the_byte_order_of_the_file(order: str, samples: int) -> None:
    array = RNG.integers(0, 1 << 24, (9, 7, samples), np.uint32)
    wide = array.astype(f"{order}u4").view(np.uint8).reshape(-1, 4)
    data = (wide[:, :3] if order == "<" else wide[:, 1:]).tobytes()
    tags = {258: (3, [24] * samples), 262: (3, 1 if samples == 1 else 2), 277: (3, samples)}
    source = open_source(tiff(page(7, 9, [data], tags), order=order))
    np.testing.assert_array_equal(full(source), array, strict=True)


@pytest.mark.parametrize("order", ["<", ">"])
def test_24_bit_floats_are_widened(order: str) -> None:
    array = np.array([[0, 1.5, -2.25], [np.inf, -np.inf, np.nan]], np.float32)
    data = bytes(imagecodecs.float24_encode(array, byteorder=order))
    source = open_source(tiff(page(3, 2, [data], {258: (3, 24), 339: (3, 3)}), order=order))
    np.testing.assert_array_equal(full(source)[..., 0], array)


@pytest.mark.parametrize("packing", [None, "deflate", "zstd"])
@pytest.mark.parametrize("tile", [(16, 16), (32, 48)])
def test_lerc_may_be_packed_once_more(packing: str | None, tile: tuple[int, int]) -> None:
    array, file = noise(40, 50, dtype="u2"), io.BytesIO()
    arguments = {"compression": packing} if packing else None
    tifffile.imwrite(file, array, compression="lerc", compressionargs=arguments, tile=tile, metadata=None)
    np.testing.assert_array_equal(full(open_source(file))[..., 0], array)


@pytest.mark.parametrize("samples", [1, 2, 3, 4])
@pytest.mark.parametrize("bits", [8, 16])
def test_png_of_all_of_its_samples_is_read(samples: int, bits: int) -> None:
    array, file = noise(20, 30, samples, dtype=f"u{bits // 8}"), io.BytesIO()
    options: dict[str, Any] = {"photometric": "rgb" if samples > 2 else "minisblack", "metadata": None}
    extra = {"planarconfig": "contig"} if samples == 2 else {}
    stored = array[..., 0] if samples == 1 else array
    tifffile.imwrite(file, stored, compression="png", **options, **extra)
    np.testing.assert_array_equal(full(open_source(file)), array)


@pytest.mark.parametrize(("samples", "bits"), [(5, 8), (1, 32), (1, 1)])
def test_png_of_other_samples_is_refused(samples: int, bits: int) -> None:
    tags = {258: (3, [bits] * samples), 259: (3, 34933), 277: (3, samples)}
    with pytest.raises(Unsupported, match=f"PNG of {samples} {bits}-bit samples"):
        open_source(tiff(page(8, 8, [bytes(64)], tags)))


@pytest.mark.parametrize("order", ["<", ">"])
def test_colours_without_a_number_of_samples_have_as_many_as_bits(order: str) -> None:
    array = noise(6, 5, 3)
    tags = {256: (4, 5), 257: (4, 6), 258: (3, [8] * 3), 259: (3, 1), 262: (3, 2)}
    source = open_source(tiff(Written(tags, [array.tobytes()]), order=order))
    np.testing.assert_array_equal(full(source), array)


def test_a_companion_may_be_utf_16(tmp_path: Path) -> None:
    place = tmp_path / "set.companion.ome"
    place.write_bytes(xml(c=3).encode("utf-16"))
    master = '<OME><BinaryOnly MetadataFile="set.companion.ome" UUID="urn:uuid:me"/></OME>'
    (tmp_path / "a.ome.tif").write_bytes(ome_file(master, 3).getvalue())
    source = open_source(tmp_path / "a.ome.tif")
    assert source.info.axes == (("C", 3),)
    source.close()


def test_lerc_packed_in_an_unknown_way_is_refused() -> None:
    with pytest.raises(Unsupported, match="packed in way 7"):
        open_source(tiff(page(4, 4, [b"Lerc2 "], {259: (3, 34887), 50674: (4, [4, 7])})))


# -- chunk tables


@pytest.mark.parametrize("compression", [1, 8])
def test_byte_counts_that_are_all_zero_are_taken_for_missing(compression: int) -> None:
    array = noise(6, 5)
    data = array.tobytes() if compression == 1 else imagecodecs.zlib_encode(array.tobytes())
    file = tiff(page(5, 6, [data], {259: (3, compression)}))
    raw = bytearray(file.getvalue())
    entry = raw.index(struct.pack("<HHII", 279, 4, 1, len(data)))
    raw[entry + 8 : entry + 12] = bytes(4)
    np.testing.assert_array_equal(full(open_source(io.BytesIO(bytes(raw))))[..., 0], array)


PACK = {
    1: bytes, 5: imagecodecs.lzw_encode, 8: imagecodecs.zlib_encode, 32773: imagecodecs.packbits_encode,
    34925: imagecodecs.lzma_encode, 34926: imagecodecs.zstd_encode, 50000: imagecodecs.zstd_encode,
}  # fmt: skip


@pytest.mark.parametrize("compression", PACK)
@pytest.mark.parametrize("tail", [b"", b"\0\0and more"])
@pytest.mark.parametrize("rows", [4, 8])
def test_the_last_strip_may_hold_more_rows_or_bytes_than_are_needed(
    compression: int, tail: bytes, rows: int
) -> None:
    array = noise(20, 31)
    strips = np.pad(array, ((0, rows - 4), (0, 0)))
    data = [bytes(PACK[compression](strips[top : top + 8].tobytes())) + tail for top in (0, 8, 16)]
    source = open_source(tiff(page(31, 20, data, {259: (3, compression), 278: (4, 8)})))
    np.testing.assert_array_equal(full(source)[..., 0], array)


@pytest.mark.parametrize("compression", [code for code in PACK if code != 1])
def test_of_a_stream_that_inflates_without_end_the_first_bytes_count(compression: int) -> None:
    size = 1 << 23
    data = b"\x81\0" * (size // 128) if compression == 32773 else bytes(PACK[compression](bytes(size)))
    source = open_source(tiff(page(8, 4, [data], {259: (3, compression)})))
    assert not full(source).any()
    assert peak(lambda: full(source)) < 1 << 20


# -- colours


def test_white_is_zero_beside_alpha_is_shown_inverted() -> None:
    array = np.stack([noise(4, 5), np.full((4, 5), 255, np.uint8)], -1)
    tags = {258: (3, [8, 8]), 262: (3, 0), 277: (3, 2), 338: (3, 2)}
    info = open_source(tiff(page(5, 4, [array.tobytes()], tags))).info
    assert info.alpha is Alpha.STRAIGHT
    assert info.colormap is not None
    assert info.colormap[[0, 255], 0].tolist() == [255, 0]


@pytest.mark.parametrize(("tags", "size"), [
    ({258: (3, 8), 339: (3, 2)}, 1), ({258: (3, 32), 339: (3, 3)}, 4), ({258: (3, [8] * 3), 277: (3, 3)}, 3),
])  # fmt: skip
def test_white_is_zero_that_is_not_shown_is_told(tags: dict[int, tuple[int, Any]], size: int) -> None:
    info = open_source(tiff(page(5, 4, [bytes(20 * size)], {**tags, 262: (3, 0)}))).info
    assert any("WhiteIsZero is ignored" in warning for warning in info.warnings)


# -- instruments


def stk(frames: np.ndarray[Any, Any], told: list[tuple[int, ...]], strip: int) -> io.BytesIO:
    """Return a MetaMorph file: the strips of the first plane, then the other planes as they are."""
    rows = frames.shape[1]
    strips = [frames[0, top : top + strip].tobytes() for top in range(0, rows, strip)]
    strips[-1] += frames[1:].tobytes()
    rational = b"".join(struct.pack("<6I", *each) for each in told)
    tags = {258: (3, 16), 278: (4, strip), 33628: (4, [0, 0]), 33629: (5, rational)}
    file = tiff(page(frames.shape[2], rows, strips, tags))
    raw = bytearray(file.getvalue())
    entry = raw.index(struct.pack("<HHI", 33629, 5, len(rational)))
    raw[entry + 4 : entry + 8] = struct.pack("<I", len(told))
    counts = raw.index(struct.pack("<HHI", 279, 4, len(strips)))
    at = struct.unpack_from("<I", raw, counts + 8)[0] + 4 * (len(strips) - 1)
    raw[at : at + 4] = struct.pack("<I", len(strips[-1]) - frames[1:].nbytes)
    return io.BytesIO(bytes(raw))


@pytest.mark.parametrize(("told", "axis"), [
    ([(5, 1, 7, 10, 0, 0), (5, 1, 7, 20, 0, 0), (5, 1, 7, 30, 0, 0)], "Z"),
    ([(0, 1, 7, 10, 0, 0), (0, 1, 7, 20, 0, 0), (0, 1, 7, 30, 0, 0)], "T"),
])  # fmt: skip
def test_the_planes_of_a_metamorph_stack_lie_behind_the_first(told: list[tuple[int, ...]], axis: str) -> None:
    frames = noise(3, 9, 8, dtype="u2")
    file = stk(frames, told, strip=4)
    source = open_source(file)
    assert (source.info.format, source.info.axes) == ("STK", ((axis, 3),))
    for number, frame in enumerate(frames):
        np.testing.assert_array_equal(full(source, number)[..., 0], frame)
    file.seek(0)
    np.testing.assert_array_equal(tifffile.imread(file), frames)


def test_planes_that_a_metamorph_stack_lacks_are_told() -> None:
    file = stk(noise(3, 9, 8, dtype="u2"), [(5, 1, 7, 1, 0, 0)] * 3, strip=9)
    raw = file.getvalue()
    wanted = struct.pack("<HHI", 33629, 5, 3)
    source = open_source(io.BytesIO(raw.replace(wanted, struct.pack("<HHI", 33629, 5, 999))))
    assert any("999 planes" in warning for warning in source.info.warnings)
    assert len(source.info.frames) < 999


def lsm(planes: int, depth: int, times: int) -> tuple[np.ndarray[Any, Any], io.BytesIO]:
    """Return (pages, channels, rows, columns) and a Zeiss file of them, each followed by a thumbnail."""
    frames = noise(depth * times, planes, 20, 30)
    facts = struct.pack("<I9i", 0x00400494C, 512, 30, 20, depth, planes, times, 1, 8, 5)
    facts = (facts + struct.pack("<3d", 2e-7, 3e-7, 1e-6)).ljust(512, b"\0")
    tags = {258: (3, [8] * planes), 259: (3, 5), 262: (3, 2), 277: (3, planes), 284: (3, 2)}
    pages: list[Written] = []
    for number, frame in enumerate(frames):
        chunks = [imagecodecs.lzw_encode(plane.tobytes()) for plane in frame]
        pages.append(page(30, 20, chunks, {**tags, **({34412: (7, facts)} if number == 0 else {})}))
        small = [bytes(40)] * planes
        pages.append(page(8, 5, small, {**tags, 259: (3, 1), 254: (4, 1)}))
    return frames, tiff(*pages)


@pytest.mark.parametrize(("depth", "times", "axes"), [
    (3, 1, (("Z", 3),)), (1, 2, (("T", 2),)), (2, 2, (("Z", 2), ("T", 2))),
])  # fmt: skip
def test_the_samples_of_a_zeiss_page_are_channels(depth: int, times: int, axes: tuple[Any, ...]) -> None:
    frames, file = lsm(3, depth, times)
    source = open_source(file)
    info = source.info
    assert (info.format, info.axes, info.colour, info.samples) == ("LSM", axes, Colour.GREY, 3)
    assert (info.mm_x, info.mm_y) == (pytest.approx(2e-4), pytest.approx(3e-4))
    for number, frame in enumerate(frames):
        np.testing.assert_array_equal(full(source, number), np.moveaxis(frame, 0, -1))


def test_byte_counts_of_what_strips_decode_to_do_not_lead_out_of_a_zeiss_file() -> None:
    frame = np.zeros((1, 1, 400, 500), np.uint8)
    stream = imagecodecs.lzw_encode(frame.tobytes())
    facts = struct.pack("<I3i", 0x00400494C, 512, 500, 400).ljust(512, b"\0")
    tags = {259: (3, 5), 34412: (7, facts)}
    raw = tiff(page(500, 400, [stream], tags)).getvalue()
    wrong = struct.pack("<HHII", 279, 4, 1, frame.nbytes)
    source = open_source(io.BytesIO(raw.replace(struct.pack("<HHII", 279, 4, 1, len(stream)), wrong)))
    np.testing.assert_array_equal(full(source)[..., 0], frame[0, 0])


PHILIPS = (
    '<?xml version="1.0"?><DataObject ObjectType="DPUfsImport"><Attribute Name="DICOM_PIXEL_SPACING" '
    'PMSVR="IDoubleArray">&quot;0.0005&quot; &quot;0.00025&quot;</Attribute></DataObject>'
)


def test_smaller_levels_of_a_philips_slide_are_padded_to_whole_tiles() -> None:
    arrays = [noise(640, 1152), noise(384, 640), noise(256, 384)]  # 320 × 576 and 160 × 288 without padding
    pages = []
    for level, array in enumerate(arrays):
        text = PHILIPS if level == 0 else f"level={level} mag=20 quality=80"
        chunks = [tile.tobytes() for tile in tiles_of(array, 128, 128)]
        tags = {270: (2, text), 322: (3, 128), 323: (3, 128), 254: (4, int(level > 0))}
        pages.append(page(array.shape[1], array.shape[0], chunks, tags))
    label = page(40, 30, [bytes(1200)], {270: (2, "Label -offset=(0,0)")})
    source = open_source(tiff(*pages, label))
    info, z = source.info, source.info.levels - 1
    assert (info.format, info.associated) == ("Philips", ("label",))
    assert (info.mm_x, info.mm_y) == (0.00025, 0.0005)
    assert info.stored[z - 2 :] == (True, True, True)
    for level, array in enumerate(arrays):
        width, height = info.grid.size(z - level)
        np.testing.assert_array_equal(read_level(source, 0, z - level)[..., 0], array[:height, :width])


VENTANA = (
    '<EncodeInfo Ver="2"><SlideStitchInfo><ImageInfo><TileJointInfo Tile1="1" Tile2="2" '
    'OverlapX="{}" OverlapY="0"/></ImageInfo></SlideStitchInfo></EncodeInfo>'
)


@pytest.mark.parametrize(("overlap", "served"), [("0", True), ("-0", True), ("20", False), ("-3", False)])
def test_a_ventana_slide_is_read_where_its_tiles_do_not_overlap(overlap: str, served: bool) -> None:
    label = page(40, 30, [bytes(1200)], {270: (2, "Label_Image"), 700: (1, b"<iScan Magnification='20'/>")})
    array = noise(128, 128)
    tags = {270: (2, "level=0 mag=20 quality=95"), 322: (3, 128), 323: (3, 128)}
    level = page(128, 128, [array.tobytes()], {**tags, 700: (1, VENTANA.format(overlap).encode())})
    if served:
        np.testing.assert_array_equal(full(open_source(tiff(label, level)))[..., 0], array)
    else:
        with pytest.raises(Unsupported, match="Ventana slide whose tiles overlap"):
            open_source(tiff(label, level))


@pytest.mark.parametrize(("overlaps", "served"), [("0 0 0 0", True), ("64 64 32 32", False)])
def test_a_trestle_slide_is_read_where_its_tiles_do_not_overlap(overlaps: str, served: bool) -> None:
    text = f"Background Color=E6E6E6;OverlapsXY= {overlaps};Objective Power=20"
    file = tiff(page(4, 3, [bytes(range(12))], {270: (2, text), 305: (2, "MedScan 2.1")}))
    if served:
        assert full(open_source(file)).reshape(-1).tolist() == list(range(12))
    else:
        with pytest.raises(Unsupported, match="Trestle slide whose tiles overlap"):
            open_source(file)


def test_imagej_stacks_beyond_4_gib_are_read_to_the_last_plane(tmp_path: Path) -> None:
    path, side, planes = tmp_path / "stack.tif", 40_000, 3
    text = f"ImageJ=1.53t\nimages={planes}\nslices={planes}\n"
    tags = {270: (2, text), 273: (4, 4096), 279: (4, side * side), 278: (4, side)}
    head = tiff(page(side, side, [], tags)).getvalue()
    with path.open("wb") as file:  # full of holes: a few kilobytes on the disk
        file.write(head)
        file.seek(4096 + (planes - 1) * side * side + 5 * side + 7)
        file.write(b"\x2a")
        file.truncate(4096 + planes * side * side)
    source = open_source(path, root=tmp_path)
    assert source.info.axes == (("Z", planes),)
    job = source.read(planes - 1, source.info.levels - 1, Rect(0, 0, 1, 1))
    (tile,) = decode_tiles(job)
    assert isinstance(tile, Raster)
    assert (int(tile.pixels[5, 7, 0]), int(tile.pixels.sum())) == (42, 42)
    source.close()


def test_pages_that_are_neither_frames_nor_levels_are_told() -> None:
    small = page(7, 3, [bytes(21)], {})
    info = open_source(tiff(page(50, 40, [bytes(2000)], {}), small, small)).info
    assert any(warning.startswith("2 further pages") for warning in info.warnings)


# -- what pages share, or have too much of


def chain(pages: int, shared: bytes, tags: list[tuple[int, int, int]]) -> io.BytesIO:
    """Return a file of many pages of 4 × 4 pixels whose ``tags`` (code, kind, count) share one value."""
    plain = [(256, 4, 1, 4), (257, 4, 1, 4), (258, 3, 1, 8), (259, 3, 1, 1), (273, 4, 1, 8), (279, 4, 1, 16)]
    entries = sorted([*plain, *((*tag, 24) for tag in tags)])
    table = struct.pack("<H", len(entries)) + b"".join(struct.pack("<HHII", *entry) for entry in entries)
    start, size = 24 + len(shared) + len(shared) % 2, len(table) + 4
    head = b"II*\0" + struct.pack("<I", start) + bytes(16) + shared + bytes(len(shared) % 2)
    ends = [start + size * (number + 1) for number in range(pages - 1)]
    return io.BytesIO(head + b"".join(table + struct.pack("<I", end) for end in [*ends, 0]))


@pytest.mark.parametrize(("shared", "tags"), [
    (bytes(1 << 21), [(338, 3, 1 << 20)]), (b"x" * (1 << 22), [(270, 2, 1 << 22)]),
    (b"Aperio" + b"x" * (1 << 22), [(270, 2, 1 << 22)]), (bytes(8 * 64), [(330, 4, 64)]),
    (b"\x08\0" * (1 << 20), [(339, 3, 1 << 20)]),
])  # fmt: skip
def test_pages_that_share_a_long_value_do_not_read_it_again_and_again(
    shared: bytes, tags: list[tuple[int, int, int]]
) -> None:
    class Counted(io.BytesIO):
        read_bytes = 0

        def read(self, size: int | None = -1) -> bytes:
            Counted.read_bytes += size or 0
            return super().read(size)

    file = Counted(chain(1500, shared, tags).getvalue())
    Counted.read_bytes = 0
    with contextlib.suppress(Unsupported):  # of samples in formats that differ
        open_source(file).internals()
    assert Counted.read_bytes < 40 << 20


# -- memory


def peak(call: Any) -> int:
    tracemalloc.start()
    try:
        call()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_of_chunks_far_wider_than_a_tile_no_more_is_kept_than_the_tile() -> None:
    wide = ByteCodec(8, 1, 8, "u", "<")
    data = imagecodecs.zlib_encode(np.arange(1 << 20, dtype=np.uint32).view(np.uint8)[: 1 << 20].tobytes())
    chunks = tuple(Chunk(wide, data, Rect(0, 16 * row, 65536, 16)) for row in range(16))
    job = DecodeJob(chunks, (Rect(256, 0, 256, 256),), (65536, 256), 1, np.dtype(np.uint8))
    (tile,) = decode_tiles(job)
    assert isinstance(tile, Raster)
    strip = np.arange(1 << 20, dtype=np.uint32).view(np.uint8)[: 1 << 20].reshape(16, 65536)
    np.testing.assert_array_equal(tile.pixels[..., 0], np.tile(strip[:, 256:512], (16, 1)))
    assert peak(lambda: decode_tiles(job)) < 5 << 20  # all of the strips are 16 MiB


@pytest.mark.parametrize(("codec", "convert", "samples"), [
    (YCbCrCodec, ycbcr_to_rgb, 3), (partial(ConvertedCodec, convert=cmyk_to_rgb), cmyk_to_rgb, 4),
])  # fmt: skip
def test_colours_of_large_chunks_are_converted_some_rows_at_a_time(
    codec: Any, convert: Any, samples: int
) -> None:
    pixels = noise(2100, 2000, samples)
    made = codec(DrawnCodec(pixels)).decode(b"", 2000, 2100)
    np.testing.assert_array_equal(made, convert(pixels))
    assert peak(lambda: codec(DrawnCodec(pixels)).decode(b"", 2000, 2100)) < 100 << 20


def test_a_damaged_structure_is_damage_whatever_it_trips_over(monkeypatch: pytest.MonkeyPatch) -> None:
    def trip(*_: object, **__: object) -> None:
        raise StopIteration

    monkeypatch.setattr("gputiles.sources.open.open_tiff", trip)
    with pytest.raises(Damaged, match="makes no sense"):
        open_source(io.BytesIO(b"II*\0"))
