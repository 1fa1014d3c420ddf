"""Plain picture files: PNG, JPEG, WebP and JPEG 2000, compared with Pillow and libvips."""

from __future__ import annotations

import io
import random
import struct
import sys
import zlib
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import pytest
import pyvips
from numpy.typing import NDArray
from PIL import Image as Pillow
from PIL import ImageCms

from gputiles.config import Config
from gputiles.engine import Engine
from gputiles.errors import Damaged, GputilesError, LimitExceeded, NotFound, Unsupported
from gputiles.image import Alpha, Colour
from gputiles.png import SIGNATURE
from gputiles.sources import Source, jpegfile, pngfile
from gputiles.sources.colour import cmyk_to_rgb
from gputiles.sources.open import open_source
from tests.grids import assert_refused, pixels, serving
from tests.reading import full
from tests.remote_server import remote_server

ROWS, COLUMNS = np.mgrid[:300, :530]
GREY = ((ROWS * 2 + COLUMNS) & 255).astype(np.uint8)
RGB = np.stack([GREY, GREY[::-1], 255 - GREY], -1)
FOLLOWING = {1: GREY[..., None], 2: np.dstack([GREY, 255 - GREY]), 3: RGB, 4: np.dstack([RGB, GREY])}
MODES = {1: "L", 2: "LA", 3: "RGB", 4: "RGBA"}


@contextmanager
def opened(data: bytes, **options: Any) -> Iterator[Source]:
    with closing(open_source(io.BytesIO(data), **options)) as source:
        yield source


def decoded(data: bytes) -> NDArray[Any]:
    with opened(data) as source:
        return full(source)


def saved(image: Pillow.Image, format: str, **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, format, **options)
    return file.getvalue()


def picture(samples: int) -> Pillow.Image:
    return Pillow.fromarray(np.squeeze(FOLLOWING[samples]), MODES[samples])


def shown(data: bytes, mode: str | None = None) -> NDArray[Any]:
    """Return what Pillow reads, (rows, columns, samples)."""
    image = Pillow.open(io.BytesIO(data))
    return np.atleast_3d(np.asarray(image if mode is None else image.convert(mode)))


def png(
    array: NDArray[Any],
    bits: int,
    kind: int,
    *chunks: tuple[bytes, bytes],
    size: tuple[int, int] | None = None,
) -> bytes:
    """Write a PNG file without filters from packed rows of bytes, chunk by chunk."""
    width, height = size or (array.shape[1], array.shape[0])
    rows = b"".join(b"\0" + row.tobytes() for row in array)
    header = struct.pack(">IIBBBBB", width, height, bits, kind, 0, 0, 0)
    all_chunks = ((b"IHDR", header), *chunks, (b"IDAT", zlib.compress(rows)), (b"IEND", b""))
    return SIGNATURE + b"".join(chunk(name, data) for name, data in all_chunks)


def chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


# -- PNG


@pytest.mark.parametrize("samples", [1, 2, 3, 4])
@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("interlaced", [False, True])
def test_png_of_every_depth_and_number_of_samples_is_read(samples: int, bits: int, interlaced: bool) -> None:
    array = FOLLOWING[samples] if bits == 8 else FOLLOWING[samples].astype(np.uint16) * 257 - 3
    space = f"{'grey' if samples < 3 else 'rgb'}16" if bits == 16 else None
    image = pyvips.Image.new_from_array(array, interpretation=space)
    data = image.write_to_buffer(".png", interlace=interlaced)
    assert data[28] == interlaced
    with opened(data) as source:
        info = source.info
        assert np.array_equal(full(source), array)
    assert (info.dtype, info.samples, info.format) == (array.dtype, samples, "PNG")
    assert info.colour is (Colour.GREY if samples < 3 else Colour.RGB)
    assert info.alpha is (Alpha.NONE if samples in (1, 3) else Alpha.STRAIGHT)
    assert info.stored == (False,) * (info.levels - 1) + (True,)


@pytest.mark.parametrize("bits", [1, 2, 4])
def test_png_of_few_bits_fills_the_whole_range_of_greys(bits: int) -> None:
    packed = np.arange(64, dtype=np.uint8).reshape(8, 8) * 5
    data = png(packed, bits, 0, size=(8 * 8 // bits, 8))
    assert np.array_equal(decoded(data), shown(data, "L"))


@pytest.mark.parametrize("transparency", [None, bytes(range(40)), b"\0\x80"])
def test_palettes_become_colours(transparency: bytes | None) -> None:
    image = picture(3).quantize(40)
    data = saved(image, "PNG", **({} if transparency is None else {"transparency": transparency}))
    assert np.array_equal(decoded(data), shown(data, "RGB" if transparency is None else "RGBA"))


@pytest.mark.parametrize(("samples", "transparency"), [(1, 5), (3, tuple(map(int, RGB[0, 0])))])
def test_a_colour_that_is_transparent_becomes_alpha(samples: int, transparency: Any) -> None:
    data = saved(picture(samples), "PNG", transparency=transparency)
    found = decoded(data)
    key = np.all(FOLLOWING[samples] == transparency, axis=-1)
    assert key.any()
    assert np.array_equal(found[..., :-1], FOLLOWING[samples])
    assert np.array_equal(found[..., -1], np.where(key, 0, 255))


def test_a_transparent_colour_of_16_bits_is_compared_in_full() -> None:
    array = (np.arange(512) + 256).astype(">u2").reshape(2, 256)
    found = decoded(png(array, 16, 0, (b"tRNS", b"\1\7")))
    assert np.array_equal(found[..., 0], array)
    assert np.array_equal(found[..., 1] == 0, array == 0x107)


@pytest.mark.parametrize(("bits", "kind"), [(3, 0), (4, 2), (16, 3), (2, 4), (8, 5), (32, 0)])
def test_png_that_cannot_be_is_refused_by_its_header(bits: int, kind: int) -> None:
    with pytest.raises(Damaged, match=f"{bits} bits, colour type {kind}"):
        open_source(io.BytesIO(png(GREY, bits, kind)))


def test_a_png_animation_shows_its_still_picture_with_a_warning() -> None:
    with opened(png(GREY, 8, 0, (b"acTL", struct.pack(">II", 1, 0)))) as source:
        assert "animation" in source.info.warnings[0]
        assert np.array_equal(full(source)[..., 0], GREY)


def test_errors_of_the_png_decoder_do_not_use_up_none() -> None:
    data = saved(picture(3), "PNG")
    broken = data[:200] + b"xxxxx" + data[205:]
    before = sys.getrefcount(None)
    for _ in range(200):
        with pytest.raises(imagecodecs.PngError):
            pngfile.unpack_png(broken)
    assert sys.getrefcount(None) >= before - 20


# -- JPEG


@pytest.mark.parametrize("samples", [1, 3])
@pytest.mark.parametrize("progressive", [False, True])
@pytest.mark.parametrize("subsampling", [0, 2])
def test_jpeg_is_read(samples: int, progressive: bool, subsampling: int) -> None:
    """Within a level: Pillow may be built with another libjpeg."""
    data = saved(picture(samples), "JPEG", progressive=progressive, subsampling=subsampling)
    found, expected = decoded(data), shown(data)
    assert found.shape == expected.shape
    assert np.abs(found.astype(int) - expected).max() <= 1


def test_jpeg_of_red_green_and_blue_is_not_converted() -> None:
    """Within a level: Pillow may be built with another libjpeg."""
    data = imagecodecs.jpeg8_encode(RGB, level=95, colorspace="RGB", outcolorspace="RGB")
    assert np.abs(decoded(data).astype(int) - shown(data)).max() <= 1
    assert np.abs(decoded(data).astype(int) - RGB).max() <= 8


@pytest.mark.parametrize("inside", ["CMYK", "YCCK"])
def test_jpeg_of_inks_is_mixed(inside: str) -> None:
    """Within a level: Pillow may be built with another libjpeg."""
    inks = np.dstack([255 - RGB, GREY // 3])
    data = imagecodecs.jpeg8_encode(inks, level=95, colorspace="CMYK", outcolorspace=inside)
    assert b"Adobe" in data[:40]
    found = decoded(data)
    assert np.abs(found.astype(int) - shown(data, "RGB")).max() <= 1


def test_jpeg_of_inks_without_adobes_marker_is_not_inverted() -> None:
    inks = np.dstack([RGB, GREY // 3])
    data = imagecodecs.jpeg8_encode(inks, level=95, colorspace="CMYK", outcolorspace="CMYK")
    start = data.index(b"\xff\xee")
    data = data[:start] + data[start + 16 :]
    stored = 255 - shown(data)  # Pillow takes all for inverted
    assert np.abs(decoded(data).astype(int) - cmyk_to_rgb(stored)).max() <= 1


@pytest.mark.parametrize(("change", "reason"), [
    (lambda data: data.replace(b"\xff\xc0", b"\xff\xc9"), "SOF9"),
    (lambda data: data.replace(b"\xff\xc0\0\x11\x08", b"\xff\xc0\0\x11\x0c"), "12-bit"),
])  # fmt: skip
def test_jpeg_of_other_processes_is_unsupported(change: Any, reason: str) -> None:
    with pytest.raises(Unsupported, match=reason):
        open_source(io.BytesIO(change(saved(picture(3), "JPEG"))))


def test_a_jpeg_too_short_for_its_pixels_is_damaged() -> None:
    data = ALL["jpg"].replace(struct.pack(">HH", 90, 70), struct.pack(">HH", 9000, 7000), 1)
    with pytest.raises(Damaged, match="cannot hold 7000x9000 pixels"):
        open_source(io.BytesIO(data))
    flat = Pillow.new("L", (3000, 3000), 77)
    for progressive in (False, True):
        data = saved(flat, "JPEG", optimize=True, progressive=progressive)
        with opened(data) as source:
            assert np.ptp(full(source)) == 0


def test_exif_orientation_is_a_warning() -> None:
    exif = Pillow.Exif()
    exif[274] = 6
    exif[305] = "a camera"
    for format in ("JPEG", "PNG", "WEBP"):
        with opened(saved(picture(3), format, exif=exif)) as source:
            assert "orientation 6 is ignored: the image is served as it is stored" in source.info.warnings
            assert (source.info.width, source.info.height) == (530, 300)
            assert source.internals()["exif"] == {"software": "a camera"}


def test_spoiled_exif_is_a_warning() -> None:
    with opened(saved(picture(3), "JPEG", exif=b"Exif\0\0MMxxxxxxxx")) as source:
        assert "EXIF data cannot be read" in source.info.warnings[0]
        assert "not a TIFF" in source.internals()["exif"]["error"]


def test_comments_are_told() -> None:
    with opened(saved(picture(1), "JPEG", comment=b"a comment")) as source:
        assert source.internals()["comments"] == ["a comment"]


# -- WebP, JPEG 2000


@pytest.mark.parametrize("samples", [3, 4])
@pytest.mark.parametrize("lossless", [False, True])
def test_webp_is_read(samples: int, lossless: bool) -> None:
    data = saved(picture(samples), "WEBP", lossless=lossless, exact=lossless)
    assert np.array_equal(decoded(data), shown(data))


def test_animated_webp_is_unsupported() -> None:
    data = saved(picture(3), "WEBP", save_all=True, append_images=[picture(4)])
    with pytest.raises(Unsupported, match="animated WebP"):
        open_source(io.BytesIO(data))


@pytest.mark.parametrize("samples", [1, 2, 3, 4])
@pytest.mark.parametrize("bare", [False, True])
@pytest.mark.parametrize("irreversible", [False, True])
def test_jpeg_2000_is_read(samples: int, bare: bool, irreversible: bool) -> None:
    data = saved(picture(samples), "JPEG2000", no_jp2=bare, irreversible=irreversible)
    assert np.array_equal(decoded(data), shown(data))


@pytest.mark.parametrize("dtype", ["u1", "u2", "i1", "i2"])
@pytest.mark.parametrize("samples", [1, 3, 5])
def test_jpeg_2000_of_every_type_is_read(dtype: str, samples: int) -> None:
    array = np.squeeze(np.dstack([GREY] * samples).astype(dtype)) * np.dtype(dtype).type(1)
    data = imagecodecs.jpeg2k_encode(array, level=0)
    with opened(data) as source:
        assert np.array_equal(full(source), np.atleast_3d(array))
        assert source.info.colour is (Colour.RGB if samples == 3 else Colour.GREY)


def test_jpeg_2000_of_12_bits_says_so() -> None:
    array = GREY.astype(np.uint16) * 16
    with opened(imagecodecs.jpeg2k_encode(array, level=0, bitspersample=12)) as source:
        assert source.info.significant_bits == 12
        assert np.array_equal(full(source)[..., 0], array)


# -- profiles, sizes


def swapped_profile() -> bytes:
    """Return a profile that is not sRGB's: made of it with red and green exchanged."""
    data = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    red, green = data.index(b"rXYZ"), data.index(b"gXYZ")
    data[red : red + 4], data[green : green + 4] = b"gXYZ", b"rXYZ"
    return bytes(data)


@pytest.mark.parametrize("format", ["PNG", "JPEG", "WEBP"])
def test_profiles_are_applied_unless_they_are_srgb(format: str) -> None:
    other = swapped_profile()
    with opened(saved(picture(3), format, icc_profile=other)) as source:
        assert source.info.profile == other
    plain = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    with opened(saved(picture(3), format, icc_profile=plain)) as source:
        assert source.info.profile is None
        assert source.info.warnings == ()


def test_profiles_that_do_not_fit_are_a_warning() -> None:
    with opened(saved(picture(1), "PNG", icc_profile=swapped_profile())) as source:
        assert source.info.profile is None
        assert "ICC profile is not applied: it is for RGB" in source.info.warnings[0]
    with opened(png(GREY, 8, 0, (b"iCCP", b"name\0\0no stream"))) as source:
        assert "does not decompress" in source.info.warnings[0]


@pytest.mark.parametrize(("per_metre", "mm"), [(4_000_000, 0.00025), (3780, None), (0, None)])
def test_pixels_have_a_size_unless_a_printer_meant_it(per_metre: int, mm: float | None) -> None:
    with opened(png(GREY, 8, 0, (b"pHYs", struct.pack(">IIB", per_metre, per_metre, 1)))) as source:
        assert (source.info.mm_x, source.info.mm_y) == (mm, mm)


# -- what is too large, cut off, or spoiled


def samples_of_all_formats() -> dict[str, bytes]:
    formats = {"png": ("PNG", {}), "jpg": ("JPEG", {}), "progressive": ("JPEG", {"progressive": True})}
    formats |= {"webp": ("WEBP", {}), "lossless": ("WEBP", {"lossless": True})}
    formats |= {"jp2": ("JPEG2000", {}), "j2k": ("JPEG2000", {"no_jp2": True})}
    small = Pillow.fromarray(RGB[:90, :70])
    return {name: saved(small, format, **options) for name, (format, options) in formats.items()}


ALL = samples_of_all_formats()


@pytest.mark.parametrize("name", ALL)
def test_pictures_over_the_limit_are_refused_before_they_are_decoded(name: str) -> None:
    with pytest.raises(LimitExceeded, match="70x90 pixels decodes to 18900 bytes; most 18899"):
        open_source(io.BytesIO(ALL[name]), chunk_limit=18899)
    with opened(ALL[name], chunk_limit=18900) as source:
        assert full(source).shape == (90, 70, 3)


def test_a_png_bomb_costs_nothing() -> None:
    with pytest.raises(LimitExceeded, match="60000x60000 pixels decodes to 10800000000 bytes"):
        open_source(io.BytesIO(png(RGB[:1], 8, 2, size=(60000, 60000))))


def test_a_file_that_is_mostly_something_else_is_refused() -> None:
    data = png(GREY[:2, :2], 8, 0, (b"junk", bytes(40 << 20)))
    with pytest.raises(LimitExceeded, match="stored bytes for a picture of 4 bytes"):
        open_source(io.BytesIO(data))


@pytest.mark.parametrize("name", ALL)
def test_a_file_that_is_cut_off_is_damaged_wherever_the_cut_is(name: str) -> None:
    data = ALL[name]
    last = len(data) - (3 if name == "jpg" else 2)  # without its two last bytes JPEG has all of its pixels
    for size in [*range(1, last, max(1, len(data) // 150)), last]:
        with pytest.raises(Damaged):
            decoded(data[:size])


@pytest.mark.parametrize(("name", "reason"), [("png", "no end"), ("jpg", "no end"), ("j2k", "no end"),
                                              ("webp", "cut off")])  # fmt: skip
def test_the_reason_of_a_cut_is_named(name: str, reason: str) -> None:
    with pytest.raises(Damaged, match=reason):
        decoded(ALL[name][:-40])


def test_bytes_behind_the_end_of_a_picture_do_no_harm() -> None:
    for name in ("png", "jpg", "progressive", "webp"):
        assert np.array_equal(decoded(ALL[name] + bytes(50)), decoded(ALL[name]))


@pytest.mark.parametrize("name", ALL)
def test_spoiled_files_are_refused_in_words(name: str) -> None:
    rng = random.Random(name)
    reasons = [refusal(mutate(ALL[name], rng)) for _ in range(300)]
    assert sum(reason is not None for reason in reasons) > 20
    assert "" not in reasons


def refusal(data: bytes) -> str | None:
    """Return the reason for which a file is refused, None where it is read; any other error is raised."""
    try:
        decoded(data)
    except GputilesError as error:
        return str(error)
    return None


def mutate(data: bytes, rng: random.Random) -> bytes:
    """Return a file with a few bytes changed, put in or left out; half of the time in its head."""
    spoiled = bytearray(data)
    for _ in range(rng.randint(1, 4)):
        at = rng.randrange(len(spoiled) if rng.random() < 0.5 else min(len(spoiled), 200))
        kind = rng.randrange(5)
        if kind == 0:
            del spoiled[at : at + rng.randint(1, 30)]
        elif kind == 1:
            spoiled[at:at] = rng.randbytes(rng.randint(1, 8))
        else:
            odd = rng.choice([b"\0", b"\xff", b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff", rng.randbytes(2)])
            spoiled[at : at + len(odd)] = odd
        spoiled = spoiled or bytearray(b"\0")
    return bytes(spoiled)


def test_a_file_that_became_another_is_not_decoded_into_the_room_of_the_first() -> None:
    file = io.BytesIO(ALL["png"])
    with closing(open_source(file)) as source:
        file.seek(0)
        file.write(png(GREY, 8, 0)[: len(ALL["png"])])
        with pytest.raises(Damaged, match="530x300 pixels; it was 70x90"):
            full(source)


def test_there_are_no_other_frames_levels_and_pictures() -> None:
    with opened(saved(picture(3), "PNG")) as source:
        unit = source.info.unit(source.info.levels - 1, 0, 0)
        with pytest.raises(NotFound, match="Frame does not exist"):
            source.read(1, source.info.levels - 1, unit)
        with pytest.raises(NotFound, match="level 0 is not stored"):
            source.read(0, 0, unit)
        assert source.passthrough(0, 1, 0, 0) is None
    with pytest.raises(NotFound, match="no picture 'label'"):
        open_source(io.BytesIO(ALL["jpg"]), associated="label")


# -- served


async def test_a_walk_over_all_tiles_decodes_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    decode = imagecodecs.png_decode
    monkeypatch.setattr(imagecodecs, "png_decode", lambda data: calls.append(1) or decode(data))
    array = np.tile(RGB, (3, 3, 1))
    Pillow.fromarray(array).save(tmp_path / "picture.png")
    async with serving(tmp_path) as client:
        (item,) = await (await client.get("/item")).json()
        await client.get(f"/item/{item['id']}/tiles")
        calls.clear()
        address = f"/item/{item['id']}/tiles/zxy"
        for z, tiles in ((3, 7), (2, 4), (1, 2), (0, 1)):
            for x in range(tiles):
                answer = await client.get(f"{address}/{z}/{x}/0?encoding=PNG")
                assert answer.status == 200, await answer.text()
        tile = await pixels(client, f"{address}/3/1/2?encoding=PNG")
        assert np.array_equal(tile, array[512:768, 256:512])
    assert len(calls) == 1


async def test_every_kind_is_served_and_named(tmp_path: Path) -> None:
    names = {"png": "png", "jpg": "jpg", "webp": "webp", "jp2": "jp2", "j2k": "j2k"}
    for name, suffix in names.items():
        (tmp_path / f"{name}.{suffix}").write_bytes(ALL[name])
    async with serving(tmp_path) as client:
        for item in await (await client.get("/item")).json():
            tiles = await (await client.get(f"/item/{item['id']}/tiles")).json()
            assert (tiles["sizeX"], tiles["sizeY"]) == (70, 90)
            told = await (await client.get(f"/item/{item['id']}/tiles/internal_metadata")).json()
            assert told["tilesource"] == "still"
            tile = await pixels(client, f"/item/{item['id']}/tiles/zxy/0/0/0?encoding=PNG")
            assert np.array_equal(tile[:90, :70], decoded((tmp_path / item["name"]).read_bytes()))
        sources = await (await client.get("/large_image/sources")).json()
        assert sources["still"]["extensions"].keys() == {*names.values(), "jpeg"}


@pytest.mark.parametrize("name", ["png", "jpg", "j2k"])
async def test_a_file_that_is_cut_off_is_never_half_a_picture(name: str, tmp_path: Path) -> None:
    (tmp_path / f"cut.{name}").write_bytes(ALL[name][:-60])
    async with serving(tmp_path) as client:
        (item,) = await (await client.get("/item")).json()
        answer = await client.get(f"/item/{item['id']}/tiles/zxy/0/0/0")
        await assert_refused(answer, 422, "cut off")


async def test_pictures_on_other_servers_are_read() -> None:
    async with remote_server() as remote:
        remote.files |= {name: ALL[name] for name in ("png", "jpg", "webp", "jp2")}
        async with Engine(Config(remote=(remote.url,), workers=1)) as engine:
            for name in remote.files:
                image = await engine.image(engine.remotes.find(remote.url + name))
                assert np.array_equal(await engine.renderer.raster(image, 0, 0, 0, 0), decoded(ALL[name]))


def test_the_end_of_a_jpeg_is_looked_for_behind_its_scans() -> None:
    thumbnail = saved(picture(1), "JPEG")
    data = saved(picture(3), "JPEG", exif=b"Exif\0\0" + thumbnail[:60000])
    assert jpegfile.has_end(data)
    assert not jpegfile.has_end(data[:-2])
    np.testing.assert_array_equal(jpegfile.unpack_jpeg(data[:-2]), decoded(data))
    with pytest.raises(Damaged, match="cut off"):
        jpegfile.unpack_jpeg(data[:-3])
