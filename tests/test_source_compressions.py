"""Compressions that few writers choose: JPEG XL, PixTIFF, old-style JPEG; and those that are refused."""

from __future__ import annotations

import contextlib
import io
import random
from typing import Any

import imagecodecs
import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray
from PIL import Image as Pillow

from gputiles.errors import Damaged, GputilesError, LimitExceeded, Unsupported
from gputiles.image import Alpha, Colour
from gputiles.sources import jpegxl
from gputiles.sources.imagecodec import Frame, ImageCodec
from gputiles.sources.open import open_source
from tests.conftest import shared
from tests.oracle import from_ycbcr
from tests.reading import full, read_tile
from tests.test_source_damage import spoil
from tests.tiffs import Tags, page, tiff, tiff_behind, tiles_of

Pixels = NDArray[Any]
ROWS, COLUMNS = 150, 200
GRAIN = np.random.default_rng(11).integers(0, 12, (ROWS, COLUMNS, 4))
SMOOTH = np.add.outer(np.arange(ROWS), np.arange(COLUMNS))[..., np.newaxis] // [2, 3, 4, 5] + 30
PICTURE = (SMOOTH + GRAIN).astype(np.uint8)


def picture(dtype: str, samples: int) -> Pixels:
    pixels = PICTURE[..., :samples]
    if dtype[0] == "f":
        return (pixels / 256).astype(dtype)
    return pixels.astype(dtype) * (257 if dtype == "u2" else 1)


# -- JPEG XL


@pytest.mark.parametrize("dtype", ["u1", "u2", "f2", "f4"])
@pytest.mark.parametrize("samples", [1, 2, 3, 4])
@pytest.mark.parametrize("layout", ["tiles", "strips", "planes"])
@pytest.mark.parametrize("lossless", [True, False])
def test_jpeg_xl_has_the_values_that_tifffile_reads(
    dtype: str, samples: int, layout: str, lossless: bool
) -> None:
    """Exactly, as both ask one decoder."""
    pixels = picture(dtype, samples)
    stored = np.moveaxis(pixels, -1, 0) if layout == "planes" else pixels
    stored = stored if samples > 1 else pixels[..., 0]
    file = io.BytesIO()
    options: dict[str, Any] = {
        "photometric": "rgb" if samples > 2 else "minisblack",
        "planarconfig": None if samples == 1 else "separate" if layout == "planes" else "contig",
        "extrasamples": ["unassalpha"] if samples % 2 == 0 else None,
        **({"rowsperstrip": 64} if layout == "strips" else {"tile": (64, 96)}),
    }
    level = {"lossless": True} if lossless else {"distance": 1.0}
    tifffile.imwrite(file, stored, compression=50002, compressionargs=level, metadata=None, **options)
    source = open_source(file)
    found = full(source)
    wanted = tifffile.imread(io.BytesIO(file.getvalue()))
    wanted = np.moveaxis(wanted, 0, -1) if layout == "planes" and samples > 1 else wanted
    np.testing.assert_array_equal(found, wanted.reshape(found.shape).astype(found.dtype))
    if lossless:
        np.testing.assert_array_equal(found, pixels.astype(found.dtype))
    assert source.info.alpha is (Alpha.STRAIGHT if samples % 2 == 0 else Alpha.NONE)
    assert source.info.colour is (Colour.RGB if samples > 2 else Colour.GREY)


def encoded(pixels: Pixels, **options: Any) -> bytes:
    return bytes(imagecodecs.jpegxl_encode(np.ascontiguousarray(pixels), **options))


@pytest.mark.parametrize("size", [
    (1, 1), (8, 8), (7, 1000), (9000, 3), (90, 160), (16, 40), (255, 257), (256, 256), (120, 144), (100, 200),
])  # fmt: skip
@pytest.mark.parametrize("boxed", [False, True])
@pytest.mark.parametrize("samples", [1, 2, 3, 4])
def test_the_head_of_jpeg_xl_tells_size_and_samples(size: tuple[int, int], boxed: bool, samples: int) -> None:
    pixels = np.zeros((*size, samples), np.uint8)
    pixels = pixels[..., 0] if samples == 1 else pixels
    for options in ({"lossless": True}, {"distance": 2.0}):
        data = encoded(pixels, usecontainer=boxed, effort=1, **options)
        assert jpegxl.size(data) == size[::-1]
        assert jpegxl.least_samples(data) == 1 + (samples % 2 == 0)


def test_jpeg_xl_that_is_larger_has_more_samples_or_frames_than_its_chunk_is_not_decoded(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def decode(*_: object, **__: object) -> None:
        pytest.fail("decoded")

    monkeypatch.setattr("imagecodecs.jpegxl_decode", decode)
    codec = ImageCodec(50002, Frame(1, np.dtype(np.uint8), (64, 64)))
    monkeypatch.setattr("gputiles.sources.imagecodec._STREAMS", {50002: ("JPEG XL", jpegxl.size, decode)})
    with pytest.raises(Damaged, match="2000x65 pixels in a chunk of 64x64"):
        codec.decode(encoded(np.zeros((65, 2000), np.uint8)), 64, 64)
    many = encoded(np.zeros((5, 64, 64), np.uint8), photometric="gray", planar=True)
    with pytest.raises(Damaged, match="5 samples in a chunk of 1"):
        codec.decode(many, 64, 64)
    with pytest.raises(Unsupported, match="several frames"):
        codec.decode(encoded(np.zeros((3, 64, 64), np.uint8)), 64, 64)
    for nonsense in (b"", b"\xff\x0a", b"\xff\xd8\xff", encoded(np.zeros((9, 9), np.uint8))[:4]):
        with pytest.raises(Damaged, match="JPEG XL"):
            codec.decode(nonsense, 64, 64)
    with pytest.raises(Damaged, match="without a picture"):
        jpegxl.size(encoded(np.zeros((9, 9), np.uint8), usecontainer=True)[:20])


def test_jpeg_xl_of_other_samples_than_the_page_is_damage() -> None:
    tags: Tags = {258: (3, 16), 259: (3, 50002)}
    source = open_source(tiff(page(200, 150, [encoded(PICTURE[..., 0])], tags)))
    with pytest.raises(Damaged, match="JPEG XL stream of"):
        full(source)


def test_jpeg_xl_is_of_colours_whatever_the_page_calls_them() -> None:
    tags: Tags = {258: (3, [8] * 3), 259: (3, 50002), 262: (3, 6), 277: (3, 3)}
    stream = encoded(PICTURE[..., :3], lossless=True)
    np.testing.assert_array_equal(full(open_source(tiff(page(200, 150, [stream], tags)))), PICTURE[..., :3])


# -- Deflate by other numbers


@pytest.mark.parametrize("number", [8, 32946, 50013])
@pytest.mark.parametrize("predictor", [1, 2])
def test_deflate_is_read_by_all_of_its_numbers(number: int, predictor: int) -> None:
    part = PICTURE[..., :3]
    differences = np.diff(part, axis=1, prepend=part[:, :1] * 0).astype(np.uint8)
    stored = imagecodecs.zlib_encode((part if predictor == 1 else differences).tobytes())
    tags: Tags = {258: (3, [8] * 3), 259: (3, number), 262: (3, 2), 277: (3, 3), 317: (3, predictor)}
    file = tiff(page(COLUMNS, ROWS, [stored], tags))
    np.testing.assert_array_equal(full(open_source(file)), part)
    np.testing.assert_array_equal(tifffile.imread(io.BytesIO(file.getvalue())), part)


# -- predictors of DNG


@pytest.mark.parametrize("step", [1, 2, 4])
@pytest.mark.parametrize("samples", [1, 3])
@pytest.mark.parametrize("dtype", ["u1", "u2", "u4", "f2", "f4"])
@pytest.mark.parametrize("width", [3, COLUMNS])
@pytest.mark.parametrize("order", ["<", ">"])
def test_differences_from_pixels_further_to_the_left_are_summed(
    step: int, samples: int, dtype: str, width: int, order: str
) -> None:
    if dtype[0] == "f":
        width += -width % 4
        part = (PICTURE[:, :width, :samples] / 256).astype(dtype)
        data = imagecodecs.floatpred_encode(part, axis=-2, dist=step).tobytes()
        predictor = {1: 3, 2: 34894, 4: 34895}[step]
    else:
        part = PICTURE[:, :width, :samples].astype(dtype) * (256 ** (int(dtype[1]) - 1) + 1)
        before = np.pad(part, ((0, 0), (step, 0), (0, 0)))[:, :width]
        data = (part - before).astype(f"{order}{dtype}").tobytes()
        predictor = {1: 2, 2: 34892, 4: 34893}[step]
    bits, kind = 8 * int(dtype[1]), 3 if dtype[0] == "f" else 1
    tags: Tags = {
        258: (3, [bits] * samples), 259: (3, 8), 262: (3, 2 if samples == 3 else 1), 277: (3, samples),
        317: (3, predictor), 339: (3, [kind] * samples),
    }  # fmt: skip
    source = open_source(tiff(page(width, ROWS, [imagecodecs.zlib_encode(data)], tags), order=order))
    np.testing.assert_array_equal(full(source), part.astype(source.info.dtype))


@pytest.mark.parametrize(("predictor", "width", "kind"), [
    (34894, 9, 3), (34895, 10, 3), (34896, 8, 1), (4, 8, 1), (0, 8, 1),
])  # fmt: skip
def test_predictors_that_are_not_known_or_cannot_be_are_refused(
    predictor: int, width: int, kind: int
) -> None:
    tags: Tags = {258: (3, 32), 259: (3, 8), 317: (3, predictor), 339: (3, kind)}
    with pytest.raises(Unsupported, match=f"predictor {predictor} "):
        open_source(tiff(page(width, 8, [bytes(64)], tags)))


# -- old-style JPEG


def saved(pixels: Pixels, **options: Any) -> bytes:
    file = io.BytesIO()
    Pillow.fromarray(np.ascontiguousarray(pixels)).save(file, "JPEG", quality=90, **options)
    return file.getvalue()


def old(stream: bytes, tags: Tags, *, strips: int = 1, length: int | None = None) -> io.BytesIO:
    """Return a page of old-style JPEG: the stream, and strips that point into its data."""
    scan = stream.index(b"\xff\xda")
    at = 8
    size = len(stream) if length is None else length
    more: Tags = {
        256: (4, COLUMNS), 257: (4, ROWS), 259: (3, 6), 512: (3, 1), 513: (4, at), 514: (4, size), **tags,
        273: (4, [at + scan + 14] * strips), 279: (4, [len(stream) - scan - 14] * strips),
        278: (4, -(-ROWS // strips)),
    }  # fmt: skip
    return tiff_behind(stream, page(1, 1, [], more))


@pytest.mark.parametrize("photometric", [2, 6])
@pytest.mark.parametrize("subsampling", [0, 2])
@pytest.mark.parametrize("told", [True, False])
@pytest.mark.parametrize("strips", [1, 10])
def test_old_style_jpeg_that_is_one_file_is_read(
    photometric: int, subsampling: int, told: bool, strips: int
) -> None:
    stream = saved(PICTURE[..., :3], subsampling=subsampling)
    bits: Tags = {258: (3, [8] * 3), 277: (3, 3)} if told else {}
    tags: Tags = {262: (3, photometric), **bits}
    file = old(stream, tags, strips=strips)
    if not told:
        file = without(file, (258, 277))
    np.testing.assert_array_equal(full(open_source(file)), np.asarray(Pillow.open(io.BytesIO(stream))))


def without(file: io.BytesIO, codes: tuple[int, ...]) -> io.BytesIO:
    """Return a file whose first page lacks some tags: their codes are of nobody."""
    data = bytearray(file.getvalue())
    first = int.from_bytes(data[4:8], "little")
    for at in range(first + 2, first + 2 + 12 * int.from_bytes(data[first : first + 2], "little"), 12):
        if int.from_bytes(data[at : at + 2], "little") in codes:
            data[at : at + 2] = (65000 + at % 100).to_bytes(2, "little")
    return io.BytesIO(bytes(data))


def test_old_style_jpeg_of_grey_and_without_a_marker_of_its_colours_is_read() -> None:
    grey = saved(PICTURE[..., 0])
    found = full(open_source(old(grey, {258: (3, 8), 262: (3, 1), 277: (3, 1)})))
    np.testing.assert_array_equal(found[..., 0], np.asarray(Pillow.open(io.BytesIO(grey))))
    stream = saved(PICTURE[..., :3], subsampling=0)
    bare = stream[:2] + stream[20:]  # no JFIF: an old-style page that says RGB has YCbCr all the same
    found = full(open_source(old(bare, {258: (3, [8] * 3), 262: (3, 2), 277: (3, 3)})))
    raw = imagecodecs.jpeg8_decode(stream, colorspace="RGB", outcolorspace="RGB")
    assert np.abs(found.astype(int) - from_ycbcr(raw, None)).max() <= 1


COLOURS: Tags = {258: (3, [8] * 3), 262: (3, 6), 277: (3, 3)}
STREAM = saved(PICTURE[..., :3])


@pytest.mark.parametrize(("stream", "tags", "length"), [
    (STREAM, {**COLOURS, 256: (4, COLUMNS + 1)}, None),
    (STREAM, {**COLOURS, 277: (3, 1)}, None),
    (STREAM, {**COLOURS, 284: (3, 2)}, None),
    (STREAM, {**COLOURS, 513: (4, 0)}, None),
    (STREAM, {**COLOURS, 513: (4, 9)}, None),
    (STREAM, {**COLOURS, 512: (3, 14)}, 100),
])  # fmt: skip
def test_old_style_jpeg_of_other_kinds_is_refused(stream: bytes, tags: Tags, length: int | None) -> None:
    with pytest.raises(Unsupported, match="old-style JPEG"):
        open_source(old(stream, tags, length=length))


def test_old_style_jpeg_that_is_cut_off_is_damage() -> None:
    source = open_source(old(STREAM, COLOURS, length=len(STREAM) - 100))
    assert isinstance(read_tile(source, 0, source.info.levels - 1, 0, 0), Damaged)
    whole = open_source(old(STREAM, COLOURS, length=len(STREAM) - 2))
    np.testing.assert_array_equal(full(whole), np.asarray(Pillow.open(io.BytesIO(STREAM))))


def test_spoiled_old_style_jpeg_is_read_or_refused() -> None:
    data, chance = old(STREAM, COLOURS).getvalue(), random.Random(5)
    start = int.from_bytes(data[4:8], "little")
    for _ in range(300):
        tags = spoil(data[start : start + 220], chance)
        file = io.BytesIO(data[:start] + tags + data[start + len(tags) :])
        with contextlib.suppress(Damaged, Unsupported, LimitExceeded):
            source = open_source(file, chunk_limit=1 << 24)
            read_tile(source, 0, source.info.levels - 1, 0, 0)


# -- what is refused


@pytest.mark.parametrize(("number", "reason"), [
    (22610, "JPEG XR, whose decoder does not survive"), (34934, "JPEG XR"), (65000, "EER"), (65002, "EER"),
    (48124, "Jetraw"), (34661, "JBIG"), (34713, "Nikon NEF"), (60000, "unknown"),
])  # fmt: skip
def test_other_compressions_are_refused_by_their_names(number: int, reason: str) -> None:
    with pytest.raises(Unsupported, match=f"compression {number} .{reason}"):
        open_source(tiff(page(8, 8, [bytes(64)], {259: (3, number)})))


def test_every_compression_that_tifffile_knows_is_read_or_refused_by_its_name() -> None:
    for number in tifffile.COMPRESSION:
        reason = ""
        try:
            open_source(tiff(page(8, 8, [bytes(64)], {258: (3, 1), 259: (3, int(number))})))
        except GputilesError as error:
            reason = str(error)
        assert "unknown" not in reason


def test_the_refused_file_of_jpeg_xr_names_the_reason() -> None:
    with pytest.raises(Unsupported, match="JPEG XR"):
        open_source(shared("data", "imagecodecs__rgb.tiled.jpegxr.u1.tif"))


def test_tiles_of_jpeg_xl_are_cut_from_a_grid_of_full_ones() -> None:
    parts = [encoded(part, lossless=True) for part in tiles_of(PICTURE[..., :3], 128, 128)]
    tags: Tags = {258: (3, [8] * 3), 259: (3, 52546), 262: (3, 2), 277: (3, 3), 322: (3, 128), 323: (3, 128)}
    source = open_source(tiff(page(COLUMNS, ROWS, parts, tags)))
    np.testing.assert_array_equal(full(source), PICTURE[..., :3])
