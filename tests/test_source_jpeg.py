"""JPEG streams of TIFF files: tables, colour markers, pass-through."""

from __future__ import annotations

import io

import imagecodecs
import numpy as np
import pytest
import tifffile
from PIL import Image

from gputiles.errors import Damaged
from gputiles.sources import jpeg
from gputiles.sources.imagecodec import Frame, JpegCodec
from gputiles.sources.open import open_source
from tests.conftest import shared
from tests.reading import read_tile

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
