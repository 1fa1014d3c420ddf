"""JPEG streams of TIFF files: tables, colour markers, pass-through."""

from __future__ import annotations

import io
import itertools
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray
from PIL import Image

from gputiles.errors import Damaged
from gputiles.sources import jpeg
from gputiles.sources.imagecodec import Frame, JpegCodec
from gputiles.sources.open import open_source
from tests.conftest import shared
from tests.reading import read_tile
from tests.test_associated import serving
from tests.test_source_kinds import split_tables
from tests.tiffs import Tags, page, tiff

PIXELS = np.stack(np.meshgrid(np.arange(0, 128, 2), np.arange(0, 192, 3), indexing="xy"), -1).astype(np.uint8)
PIXELS = np.ascontiguousarray(np.dstack([PIXELS, 255 - PIXELS[..., :1]]))
FRAME = Frame(3, np.dtype(np.uint8), (64, 64))


def test_the_header_says_size_and_components() -> None:
    header = jpeg.read_header(imagecodecs.jpeg8_encode(PIXELS))
    assert (header.width, header.height, header.precision) == (64, 64, 8)
    assert header.components == (1, 2, 3)
    assert header.jfif


@pytest.mark.parametrize(
    "data", [b"", b"\xff\xd8", b"<html>", b"\xff\xd8\xff\xd9", b"\xff\xd8\xff\xe0\x00\x01"]
)
def test_what_is_no_jpeg_stream_is_damage(data: bytes) -> None:
    with pytest.raises(Damaged):
        jpeg.read_header(data)


def test_a_stream_larger_than_the_chunk_is_not_decoded() -> None:
    stream = imagecodecs.jpeg8_encode(np.zeros((128, 64, 3), np.uint8))
    with pytest.raises(Damaged, match="64x128 pixels in a chunk of 64x64"):
        JpegCodec(7, FRAME).decode(stream, 64, 64)


def test_a_stream_smaller_than_the_chunk_is_padded() -> None:
    stream = imagecodecs.jpeg8_encode(PIXELS[:40, :48], level=100)
    decoded = JpegCodec(7, FRAME).decode(stream, 64, 64)
    assert decoded.shape == (64, 64, 3)
    assert not decoded[40:].any()
    assert not decoded[:, 48:].any()


@pytest.mark.parametrize(("adobe", "jfif", "said", "is_rgb"), [
    (0, False, False, True), (1, False, True, False), (0, True, False, True),
    (None, True, True, False), (None, False, True, True), (None, False, False, False),
])  # fmt: skip
def test_markers_decide_the_colour_before_the_page_does(
    adobe: int | None, jfif: bool, said: bool, is_rgb: bool
) -> None:
    header = jpeg.Header(8, 8, 8, (1, 2, 3), 0xC0, jfif=jfif, adobe=adobe)
    assert header.is_rgb(said) is is_rgb


def test_components_named_rgb_are_rgb() -> None:
    assert jpeg.Header(8, 8, 8, tuple(b"RGB"), 0xC0).is_rgb(False)


@pytest.mark.parametrize("name", ["jpeg_ycbcr420_shared_tables.tif", "jpeg_rgb_component_ids_123_aperio.svs"])
def test_a_tile_passed_through_shows_the_same_colours_in_pillow(name: str) -> None:
    source = open_source(shared("cases", name))
    for x, y in ((0, 0), (1, 2)):
        z = source.info.levels - 1
        stream = source.passthrough(0, z, x, y)
        assert stream is not None
        tile = read_tile(source, 0, z, x, y)
        np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(stream)).convert("RGB")), tile)
    source.close()


def test_a_real_slide_passes_its_inner_tiles_through() -> None:
    source = open_source(shared("data", "libvips__CMU-1-Small-Region.svs"))
    z = source.info.levels - 1
    stream = source.passthrough(0, z, 3, 4)
    if stream is not None:  # a profile in the file forbids it
        pixels = np.asarray(Image.open(io.BytesIO(stream)).convert("RGB"))
        np.testing.assert_array_equal(pixels, read_tile(source, 0, z, 3, 4))
    assert source.passthrough(0, z, 9, 0) is None, "a tile at the rim is cropped"
    assert source.passthrough(0, 0, 0, 0) is None, "the level is not stored"
    source.close()


@pytest.mark.parametrize("name", [
    "comp_deflate.tif", "j2k_aperio_33003_ycbcr.svs", "planar_separate_rgb.tif", "ome_40ch_subifd.ome.tif",
])  # fmt: skip
def test_what_is_not_jpeg_is_not_passed_through(name: str) -> None:
    source = open_source(shared("cases", name))
    assert source.passthrough(0, source.info.levels - 1, 0, 0) is None
    source.close()


@pytest.mark.parametrize("extra", ["orientation", "profile"])
def test_orientation_and_profiles_forbid_the_pass_through(
    tmp_path_factory: pytest.TempPathFactory, extra: str
) -> None:
    path = tmp_path_factory.mktemp("jpeg") / "tile.tif"
    tags = [(274, "H", 1, 6, True)] if extra == "orientation" else []
    profile = b"profile" if extra == "profile" else None
    options = {"tile": (128, 128), "compression": "jpeg", "extratags": tags, "iccprofile": profile}
    tifffile.imwrite(path, np.full((256, 256, 3), 99, np.uint8), photometric="ycbcr", **options)
    source = open_source(path)
    assert source.passthrough(0, 1, 0, 0) is None
    assert not isinstance(read_tile(source, 0, 1, 0, 0), Damaged)
    source.close()


def test_a_truncated_stream_is_not_published() -> None:
    stream = imagecodecs.jpeg8_encode(PIXELS)
    assert jpeg.publish(stream, False) == stream
    assert jpeg.publish(stream[:-20], False) is None


def test_padding_after_the_end_is_cut_off() -> None:
    stream = imagecodecs.jpeg8_encode(PIXELS)
    assert jpeg.publish(stream + b"\0\0", False) == stream


# -- streams without an end marker


def saved(pixels: NDArray[np.uint8], **options: Any) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=90, **options)
    return file.getvalue()


def scan_by_scan() -> bytes:
    """Return a stream of three components, each in a scan of its own: a third as wide, the next half as high.

    Made of three grey streams, which share the tables of the standard.
    """
    planes = [NOISY[..., 0], NOISY[:, ::2, 1], NOISY[::2, ::2, 2]]
    streams = [saved(np.ascontiguousarray(plane)) for plane in planes]
    starts = [stream.index(b"\xff\xda") for stream in streams]
    head = streams[0][: starts[0]]
    at = head.index(b"\xff\xc0")
    end = at + 2 + int.from_bytes(head[at + 2 : at + 4], "big")
    factors = (0x22, 0x12, 0x11)
    components = b"".join(bytes([c + 1, factor, 0]) for c, factor in enumerate(factors))
    frame = b"\xff\xc0\x00\x11" + head[at + 4 : at + 9] + b"\x03" + components
    scans = [
        stream[start : start + 5] + bytes([c + 1]) + stream[start + 6 : -2]
        for c, (stream, start) in enumerate(zip(streams, starts, strict=True))
    ]
    return head[:at] + frame + head[end:] + b"".join(scans) + b"\xff\xd9"


GRAIN = np.random.default_rng(3).integers(0, 60, (93, 141, 3))
NOISY = (np.add.outer(np.arange(93), np.arange(141))[..., np.newaxis] // 2 + GRAIN).astype(np.uint8)
GREY = np.ascontiguousarray(NOISY[..., 0])
WITH_ENDS = {
    "4:4:4": saved(NOISY, subsampling=0), "4:2:2": saved(NOISY, subsampling=1),
    "4:2:0": saved(NOISY, subsampling=2), "own codes": saved(NOISY, optimize=True), "grey": saved(GREY),
    "restarts": saved(NOISY, restart_marker_blocks=5), "flat": saved(np.full((93, 141, 3), 80, np.uint8)),
    "lossless": imagecodecs.jpeg8_encode(GREY, lossless=True), "scan by scan": scan_by_scan(),
    "lossless colours": imagecodecs.jpeg8_encode(NOISY, lossless=True),
    "12 bits": imagecodecs.jpeg8_encode(GREY.astype(np.uint16) * 13, bitspersample=12),
}  # fmt: skip


def codec_of(stream: bytes) -> JpegCodec:
    header = jpeg.read_header(stream)
    dtype = np.dtype(np.uint16 if header.precision == 12 else np.uint8)
    return JpegCodec(7, Frame(len(header.components), dtype, (header.width, header.height)))


@pytest.mark.parametrize("name", WITH_ENDS)
@pytest.mark.parametrize("more", [b"", b"\0", bytes(999), b"\xff", b"\xff" * 99])
def test_a_stream_that_lacks_its_end_marker_alone_is_decoded(name: str, more: bytes) -> None:
    stream = WITH_ENDS[name]
    codec = codec_of(stream)
    whole = codec.decode(stream, *codec.frame.full)
    np.testing.assert_array_equal(codec.decode(stream[:-2] + more, *codec.frame.full), whole)
    assert jpeg.ended(stream[:-2] + more, jpeg.read_header(stream)) == stream


def test_data_that_end_with_a_byte_of_zeros_are_whole() -> None:
    ends = set()
    for value, width in itertools.product((0, 80, 128), range(8, 136, 8)):
        stream = saved(np.full((16, width, 3), value, np.uint8), subsampling=0)
        codec = codec_of(stream)
        whole = codec.decode(stream, *codec.frame.full)
        np.testing.assert_array_equal(codec.decode(stream[:-2], *codec.frame.full), whole)
        ends.add(stream[-3])
    assert 0 in ends


@pytest.mark.parametrize("name", WITH_ENDS)
@pytest.mark.parametrize("more", [b"", bytes(5), bytes(9999), b"\xff" * 99, b"\xff\xd8\xff\xdb"])
def test_a_stream_whose_data_are_cut_off_is_damage_wherever_it_is_cut(name: str, more: bytes) -> None:
    """Zeros may stand for room whose bytes never came: read as codes they make up a picture."""
    stream = WITH_ENDS[name]
    codec, data = codec_of(stream), stream[:-2]
    start = jpeg.read_header(stream).scan
    cuts = [max(kept, start) for kept in (*range(len(data) - 40, len(data)), *range(start, len(data), 211))]
    for kept in cuts:
        if data[kept:].strip(b"\0"):  # else nothing is lost but zeros
            with pytest.raises(Damaged, match="cut off"):
                codec.decode(data[:kept] + more, *codec.frame.full)


def test_what_a_progressive_stream_lacks_is_not_known() -> None:
    stream = saved(NOISY, progressive=True)
    with pytest.raises(Damaged, match="cut off"):
        codec_of(stream).decode(stream[:-2], 141, 93)


def test_the_end_of_a_picture_within_the_stream_is_not_its_end() -> None:
    stream = WITH_ENDS["grey"]
    note = b"\xff\xe1\0\x08Exif\xff\xd9"
    assert codec_of(stream).decode(stream[:2] + note + stream[2:-2], 141, 93).shape == (93, 141, 1)
    with pytest.raises(Damaged, match="cut off"):
        codec_of(stream).decode(stream[:2] + note + stream[2:-90], 141, 93)


@pytest.mark.parametrize("tables", [False, True])
@pytest.mark.parametrize("kept", ["all but the end", "less"])
async def test_tiles_without_an_end_are_served_whole_or_refused(
    tmp_path: Path, tables: bool, kept: str
) -> None:
    tile = np.ascontiguousarray(np.tile(NOISY, (2, 2, 1))[:128, :128])
    streams = [saved(np.roll(tile, k), subsampling=2) for k in range(4)]
    parts = [split_tables(stream) for stream in streams]
    lost = 2 if kept == "all but the end" else 9
    chunks = [(part[1] if tables else stream)[:-lost] for part, stream in zip(parts, streams, strict=True)]
    tags: Tags = {
        258: (3, [8] * 3), 259: (3, 7), 262: (3, 6), 277: (3, 3), 322: (3, 128), 323: (3, 128),
        **({347: (7, parts[0][0])} if tables else {}),
    }  # fmt: skip
    path = tmp_path / "a.tif"
    path.write_bytes(tiff(page(256, 256, chunks, tags)).read())
    async with serving(path) as (client, base):
        for k in range(4):
            url = f"{base.removesuffix('/images')}/zxy/1/{k % 2}/{k // 2}"
            stored, made = await client.get(url), await client.get(f"{url}?encoding=PNG")
            if kept == "less":
                assert (stored.status, made.status) == (422, 422)
                continue
            wanted = np.asarray(Image.open(io.BytesIO(streams[k])))
            assert (await stored.read())[-2:] == b"\xff\xd9"
            for answer in (stored, made):
                found = Image.open(io.BytesIO(await answer.read()))
                np.testing.assert_array_equal(np.asarray(found)[..., :3], wanted)
            assert len(await stored.read()) in (len(streams[k]), len(streams[k]) - 18, len(streams[k]) + 18)
