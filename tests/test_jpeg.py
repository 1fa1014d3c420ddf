"""JPEG files: the specification's bytes, and libjpeg's pixels, size and limits."""

from __future__ import annotations

import re
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from itertools import product
from threading import Barrier
from typing import Any

import imagecodecs
import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from gputiles import jfif
from gputiles.backends import RenderJob, jpegcodes
from gputiles.backends.host import HostBackend
from gputiles.backends.paste import raster_of
from gputiles.encoded import Encoding, Format
from gputiles.errors import LimitExceeded
from gputiles.recipe import Recipe
from tests import spec_jpeg
from tests.conftest import shared

BACKEND = HostBackend(1)
SUBSAMPLINGS = ("444", "422", "420")
KINDS = ("noise", "smooth", "black", "white", "checked", "sparse", "loud", "mixed")


def wave(at: NDArray[Any], number: int) -> NDArray[Any]:
    """Return the cosine that coefficient ``number`` of a block stands for, along one axis."""
    return np.cos((2 * at + 1) * number * np.pi / 16)


def picture(kind: str, rows: int, columns: int, samples: int, seed: int = 5) -> NDArray[np.uint8]:
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:rows, :columns]
    shape = (rows, columns, samples)
    pictures = {
        "noise": lambda: rng.integers(0, 256, shape),
        "smooth": lambda: (x + 2 * y)[..., None] * np.arange(1, samples + 1) / 3 % 256,
        "black": lambda: np.zeros(shape),
        "white": lambda: np.full(shape, 255),
        "checked": lambda: np.broadcast_to(((x + y) % 2 * 255)[..., None], shape),
        "sparse": lambda: (rng.random(shape) > 0.99) * 255,
        "loud": lambda: rng.integers(0, 2, shape) * 255,  # the longest codes
        # most blocks are full of coefficients, the others have one behind a gap that is too long for a code
        "mixed": lambda: np.where(
            ((x // 8 + y // 8) % 9 == 0)[..., None],
            np.where(y < 8, wave(x, 5) * wave(y, 3), wave(x, 5) * wave(y, 1))[..., None] * 120 + 128,
            rng.integers(0, 256, shape),
        ),
    }
    return np.ascontiguousarray(pictures[kind]().astype(np.uint8))


def encoded(
    pixels: NDArray[np.uint8], quality: int, subsampling: int = 0, backend: HostBackend = BACKEND
) -> bytes:
    rows, columns, _ = pixels.shape
    encoding = Encoding(Format.JPEG, quality, subsampling)
    (data,) = backend.render([RenderJob(Recipe((0,)), (raster_of(pixels),), columns, rows, encoding)])
    if not isinstance(data, bytes):
        raise data
    return data


def turbo(pixels: NDArray[np.uint8], quality: int, subsampling: int) -> bytes:
    """Encode by libjpeg-turbo."""
    if pixels.shape[2] == 1:
        return bytes(imagecodecs.jpeg8_encode(pixels[..., 0], level=quality))
    return bytes(imagecodecs.jpeg8_encode(pixels, level=quality, subsampling=SUBSAMPLINGS[subsampling]))


def decoded(data: bytes) -> NDArray[np.uint8]:
    return np.asarray(Image.open(BytesIO(data)))


@pytest.mark.parametrize("subsampling", [0, 1, 2])
@pytest.mark.parametrize("samples", [1, 3])
@pytest.mark.parametrize("shape", [(1, 1), (8, 8), (17, 31), (40, 270), (33, 260)])
def test_bytes_equal_the_specification(shape: tuple[int, int], samples: int, subsampling: int) -> None:
    for number, kind in enumerate(KINDS):
        pixels = picture(kind, *shape, samples)
        for quality in ((1, 50, 95, 100)[number % 4], 90):
            assert encoded(pixels, quality, subsampling) == spec_jpeg.encode(pixels, quality, subsampling)


@settings(deadline=None, max_examples=150)
@given(
    st.integers(1, 70), st.integers(1, 600), st.sampled_from([1, 3]), st.integers(1, 100),
    st.integers(0, 2), st.sampled_from(KINDS), st.integers(0, 99),
)  # fmt: skip
def test_decoders_find_the_pixels_that_libjpeg_would_have_stored(
    rows: int, columns: int, samples: int, quality: int, subsampling: int, kind: str, seed: int
) -> None:
    pixels = picture(kind, rows, columns, samples, seed)
    ours, theirs = encoded(pixels, quality, subsampling), turbo(pixels, quality, subsampling)
    assert np.array_equal(decoded(ours), decoded(theirs))
    assert np.array_equal(imagecodecs.jpeg8_decode(ours), imagecodecs.jpeg8_decode(theirs))


@pytest.mark.parametrize("subsampling", [0, 1, 2])
@pytest.mark.parametrize("quality", [50, 75, 95])
def test_files_are_within_a_twentieth_of_libjpegs(quality: int, subsampling: int) -> None:
    for kind in ("noise", "smooth"):
        pixels = picture(kind, 256, 256, 3)
        ours, theirs = encoded(pixels, quality, subsampling), turbo(pixels, quality, subsampling)
        assert len(ours) <= 1.05 * len(theirs)


REAL = {
    "libvips__CMU-1-Small-Region.svs": "a slide",
    "ometiff-tests__test3-TRITC_2_(560).ndpi": "a slide of fluorescence, nearly black",
    "martin__usda_naip_512_jpeg_z5.tif": "an aerial photograph, nearly empty",
    "libtiff__quad-tile.jpg.tiff": "a photograph, compressed before",
    "image-tiff__tiled-rect-rgb-u8.tif": "a photograph, never compressed",
    "large_image__yb10kx5k.zstd.tiff": "a drawing",
}


def excerpt(name: str) -> NDArray[np.uint8]:
    """Return 256 pixels square, or what there is, out of the middle of a file."""
    with tifffile.TiffFile(shared("data", name)) as file:
        pixels = file.pages[0].asarray()
    rows, columns, _ = pixels.shape
    top, left = max(0, rows // 2 - 128), max(0, columns // 2 - 128)
    return np.ascontiguousarray(pixels[top : top + 256, left : left + 256])


def noise_ratio(data: bytes, pixels: NDArray[np.uint8]) -> float:
    """Return the PSNR of a file's pixels in dB."""
    lost = float(np.square(decoded(data).astype(np.float64) - pixels).mean())
    return 99.0 if not lost else 10 * np.log10(255**2 / lost)


RESTART = 6  # bytes at most: a marker, padding before it, and a DC of each component that starts anew
RESTARTED = re.compile(rb"\xff[\xd0-\xd7]")
SMALL = 8192  # bytes of a file of which restarts are a noticeable share


def is_as_large(ours: bytes, theirs: bytes) -> bool:
    """Say whether a file is within 5 % of another, but for its restarts where it is small."""
    restarts = RESTART * len(RESTARTED.findall(ours)) if len(theirs) < SMALL else 0
    return abs(len(ours) - len(theirs)) <= 0.05 * len(theirs) + restarts


@pytest.mark.parametrize("name", REAL)
def test_files_of_real_pictures_are_as_large_and_as_good_as_libjpegs(name: str) -> None:
    """Within 5 % of the bytes and 0.1 dB, at every quality and subsampling; grey too."""
    pixels = excerpt(name)
    for quality, subsampling in product((30, 50, 75, 85, 95), range(3)):
        ours, theirs = encoded(pixels, quality, subsampling), turbo(pixels, quality, subsampling)
        assert is_as_large(ours, theirs), (quality, subsampling, len(ours), len(theirs))
        assert abs(noise_ratio(ours, pixels) - noise_ratio(theirs, pixels)) <= 0.1
        grey = np.ascontiguousarray(pixels[..., 1:2])
        assert is_as_large(encoded(grey, quality), turbo(grey, quality, 0)), quality


@pytest.mark.parametrize("subsampling", [0, 1, 2])
def test_workers_that_share_a_picture_write_the_same_bytes(subsampling: int) -> None:
    shared = HostBackend(4)
    for shape in ((1000, 700), (263, 1030), (512, 512), (509, 300), (24, 9000)):
        pixels = picture("noise", *shape, 3)
        assert encoded(pixels, 90, subsampling, shared) == encoded(pixels, 90, subsampling)
    shared.close()


def test_a_picture_larger_than_the_scratch_memory_is_whole() -> None:
    pixels = picture("smooth", 2000, 3000, 3)
    assert np.array_equal(decoded(encoded(pixels, 95)), decoded(turbo(pixels, 95, 0)))


def test_the_file_says_that_it_is_jfif_and_where_it_restarts() -> None:
    data = encoded(picture("smooth", 24, 40, 3), 95, 1)
    assert data[:11] == b"\xff\xd8\xff\xe0\x00\x10JFIF\x00"
    assert b"\xff\xdd\x00\x04" + (3).to_bytes(2, "big") in data
    assert data.count(b"\xff\xd0") == data.count(b"\xff\xd1") == 1
    assert data.endswith(b"\xff\xd9")


def test_a_side_that_a_jpeg_cannot_have_is_refused() -> None:
    with pytest.raises(LimitExceeded, match=r"at most 65500 pixels; got 65501 × 1"):
        jfif.header(65501, 1, 3, 95, 0)


def test_steps_are_scaled_as_libjpeg_scales_them() -> None:
    for quality in (1, 10, 49, 50, 51, 95, 100):
        tables = Image.open(BytesIO(turbo(picture("black", 8, 8, 3), quality, 0))).quantization  # type: ignore[attr-defined]
        data = encoded(picture("black", 8, 8, 3), quality)
        assert Image.open(BytesIO(data)).quantization == tables  # type: ignore[attr-defined]


def test_the_products_that_stand_for_divisions_are_exact() -> None:
    sizes = np.arange(1 << 14, dtype=np.uint64)  # more than eight times any coefficient
    seen = set()
    for quality in range(1, 101):
        for steps, row in zip(jfif.steps(quality), jpegcodes.codes(quality), strict=True):
            for step, at in zip(steps, jpegcodes.ZIGZAG, strict=True):
                if step in seen:
                    continue
                seen.add(step)
                high = (sizes + row["half"][at]) * row["reciprocal"][at] >> np.uint64(16)
                levels = high * row["scale"][at] >> np.uint64(16)
                assert np.array_equal(levels, (sizes + 4 * step) // (8 * step)), step
    assert len(seen) > 200


@pytest.mark.parametrize("kind", [0, 1], ids=["luma", "chroma"])
def test_symbols_of_coefficients_are_their_codes_and_the_bits_that_tell_them(kind: int) -> None:
    codes, symbols = jfif.AC[kind].codes(), jpegcodes.symbols(kind)
    for distance, value in product(range(1, 17), (*range(-1023, 0), *range(1, 1024))):
        width = abs(value).bit_length()
        code, length = codes[(distance - 1) << 4 | width]
        tail = value if value > 0 else value - 1 + (1 << width)
        assert symbols[distance, value & 2047] == (code << width | tail) << 6 | length + width
    assert not symbols[0].any()
    assert not symbols[17].any()
    assert not symbols[:, 0].any()


def test_first_pictures_at_once_look_up_symbols_that_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    made, meeting = jpegcodes._made_symbols, Barrier(3)

    def made_by_all_at_once(kind: int) -> NDArray[np.uint32]:
        meeting.wait(60)
        return made(kind)

    monkeypatch.setattr(jpegcodes, "_symbols", {})
    monkeypatch.setattr(jpegcodes, "_made_symbols", made_by_all_at_once)
    with ThreadPoolExecutor(3) as pool:
        tables = list(pool.map(jpegcodes.codes.__wrapped__, (71, 72, 73)))
    stay = [jpegcodes.symbols(kind).ctypes.data for kind in (0, 1)]
    assert [table["symbols"].tolist() for table in tables] == [stay] * 3
