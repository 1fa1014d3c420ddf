"""Colours that are made of one another, side by side or in planes of their own: YCbCr and inks."""

from __future__ import annotations

import io
import zlib
from collections.abc import Callable
from typing import Any

import imagecodecs
import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray
from PIL import Image as Pillow
from PIL import ImageCms

from gputiles.errors import Damaged, GputilesError, Unsupported
from gputiles.image import Alpha, Colour
from gputiles.sources.colour import straighten
from gputiles.sources.open import open_source
from tests.oracle import from_ycbcr
from tests.reading import full, read_tile
from tests.tiffs import Written, pack_bits, page, tiff, tiles_of

Pixels = NDArray[Any]
WIDTH, HEIGHT = 150, 100
NOISE = np.random.default_rng(7).integers(0, 256, (HEIGHT, WIDTH, 5), np.uint8)
SMOOTH = (np.add.outer(np.arange(HEIGHT), np.arange(WIDTH))[..., None] // [2, 3, 4, 5, 6] + 40).astype(
    np.uint8
)


def mixed(inks: Pixels) -> Pixels:
    """Return RGB, and what follows the inks, in float64."""
    top = np.iinfo(inks.dtype).max
    light = top - inks[..., :4].astype(np.float64)
    colours = np.floor(light[..., :3] * light[..., 3:] / top + 0.5)
    return np.concatenate([colours.astype(inks.dtype), inks[..., 4:]], -1)


def shown(pixels: Pixels) -> Pixels:
    """Return RGB of YCbCr, and what follows it."""
    return np.concatenate([from_ycbcr(pixels[..., :3], None), pixels[..., 3:]], -1)


def plain(part: Pixels) -> bytes:
    return part.tobytes()


def differences(part: Pixels) -> bytes:
    return zlib.compress(np.diff(part, axis=1, prepend=part[:, :1] * 0).astype(part.dtype).tobytes())


def flat(part: Pixels) -> Pixels:
    return part[..., 0] if part.shape[2] == 1 else part


def jpeg_2000(part: Pixels) -> bytes:
    return bytes(imagecodecs.jpeg2k_encode(flat(part), level=0, reversible=True, mct=False, planar=False))


def jpeg(part: Pixels) -> bytes:
    return bytes(imagecodecs.jpeg8_encode(flat(part), level=100, **SPACES.get(part.shape[2], {})))


SPACES = {
    3: {"colorspace": "RGB", "outcolorspace": "RGB"},
    4: {"colorspace": "CMYK", "outcolorspace": "CMYK"},
}
CODINGS: dict[str, tuple[int, int, Callable[[Pixels], bytes], int]] = {
    "none": (1, 1, plain, 0), "differences": (8, 2, differences, 0), "JPEG 2000": (34712, 1, jpeg_2000, 0),
    "JPEG": (7, 1, jpeg, 6),
}  # fmt: skip
"""Compression, predictor, what encodes a chunk, and how far off it may be."""


def written(
    pixels: Pixels, photometric: int, coding: str, *, separate: bool, tile: tuple[int, int] | None = (64, 48),
    order: str = "<", alpha: int = 0, more: dict[int, tuple[int, Any]] | None = None,
) -> Any:  # fmt: skip
    """Return a file of the pixels, in tiles or in strips of 33 rows."""
    samples, bits = pixels.shape[2], 8 * pixels.itemsize
    compression, predictor, encode, _ = CODINGS[coding]
    parts = [pixels[..., [band]] for band in range(samples)] if separate else [pixels]
    stored = [part.astype(part.dtype.newbyteorder(order)) for part in parts]
    chunks = [
        encode(np.ascontiguousarray(chunk))
        for part in stored
        for chunk in (
            tiles_of(part, *tile) if tile else [part[top : top + 33] for top in range(0, HEIGHT, 33)]
        )
    ]
    place: dict[int, tuple[int, Any]] = {322: (3, tile[0]), 323: (3, tile[1])} if tile else {278: (3, 33)}
    tags: dict[int, tuple[int, Any]] = {
        258: (3, [bits] * samples), 259: (3, compression), 262: (3, photometric), 277: (3, samples),
        284: (3, 2 if separate else 1), 317: (3, predictor), 530: (3, [1, 1]),
        **({338: (3, alpha)} if alpha else {}), **place, **(more or {}),
    }  # fmt: skip
    return tiff(page(WIDTH, HEIGHT, chunks, tags), order=order)


@pytest.mark.parametrize("coding", CODINGS)
@pytest.mark.parametrize("separate", [False, True])
@pytest.mark.parametrize("tile", [(64, 48), (256, 256), None])
@pytest.mark.parametrize(("samples", "alpha"), [(4, 0), (5, 2), (5, 0)])
def test_inks_are_mixed_and_what_follows_them_is_kept(
    coding: str, separate: bool, tile: tuple[int, int] | None, samples: int, alpha: int
) -> None:
    if coding == "JPEG" and samples == 5 and not separate:
        pytest.skip("JPEG of five components is written by nobody")
    pixels = (SMOOTH if coding == "JPEG" else NOISE)[..., :samples]
    source = open_source(written(pixels, 5, coding, separate=separate, tile=tile, alpha=alpha))
    off = np.abs(full(source).astype(int) - mixed(pixels)).max()
    assert off <= CODINGS[coding][3]
    assert (source.info.colour, source.info.samples) == (Colour.RGB, samples - 1)
    assert source.info.alpha is (Alpha.STRAIGHT if alpha else Alpha.NONE)


@pytest.mark.parametrize("coding", CODINGS)
@pytest.mark.parametrize("separate", [False, True])
@pytest.mark.parametrize("tile", [(64, 48), (256, 256), None])
@pytest.mark.parametrize(("samples", "alpha"), [(3, 0), (4, 2), (4, 0)])
def test_ycbcr_is_converted_and_what_follows_it_is_kept(
    coding: str, separate: bool, tile: tuple[int, int] | None, samples: int, alpha: int
) -> None:
    if coding == "JPEG" and samples == 3 and not separate:
        pytest.skip("its marker says what it is: see the tests of JPEG")
    pixels = (SMOOTH if coding == "JPEG" else NOISE)[..., :samples]
    source = open_source(written(pixels, 6, coding, separate=separate, tile=tile, alpha=alpha))
    off = np.abs(full(source).astype(int) - shown(pixels)).max()
    assert off <= max(1, CODINGS[coding][3])  # float32 and float64 may round apart
    assert (source.info.colour, source.info.samples) == (Colour.RGB, samples)


@pytest.mark.parametrize(("samples", "separate"), [(3, True), (4, False), (4, True)])
def test_aperios_jpeg_2000_is_ycbcr_in_every_layout(samples: int, separate: bool) -> None:
    tags = {259: (3, 33003)}
    file = written(
        NOISE[..., :samples], 2, "JPEG 2000", separate=separate, alpha=2 if samples == 4 else 0, more=tags
    )
    assert np.abs(full(open_source(file)).astype(int) - shown(NOISE[..., :samples])).max() <= 1


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("separate", [False, True])
@pytest.mark.parametrize("photometric", [5, 6])
def test_colours_of_16_bits_are_converted_in_16_bits(order: str, separate: bool, photometric: int) -> None:
    pixels = NOISE[..., : 9 - photometric].astype(np.uint16) * 257
    got = full(open_source(written(pixels, photometric, "none", separate=separate, order=order)))
    assert got.dtype == np.uint16
    if photometric == 5:
        np.testing.assert_array_equal(got, mixed(pixels))
    else:
        y, cb, cr = np.moveaxis(pixels.astype(np.float64), -1, 0)
        red = np.clip(np.rint(y + 1.402 * (cr - 32768) * 32767 / 32767), 0, 65535)
        np.testing.assert_allclose(got[..., 0], red, rtol=0, atol=1)
        blue = np.clip(np.rint(y + 1.772 * (cb - 32768)), 0, 65535)
        np.testing.assert_allclose(got[..., 2], blue, rtol=0, atol=1)


@pytest.mark.parametrize("separate", [False, True])
@pytest.mark.parametrize(("told", "meant"), [
    ((0, 255, 128, 255, 128, 255), None),
    ((16, 235, 128, 240, 128, 240), (4096, 60160, 32768, 61440, 32768, 61440)),
    ((4096, 60160, 32768, 61440, 32768, 61440), (4096, 60160, 32768, 61440, 32768, 61440)),
])  # fmt: skip
def test_black_and_white_of_8_bits_are_meant_in_the_bits_of_the_samples(
    separate: bool, told: tuple[int, ...], meant: tuple[int, ...] | None
) -> None:
    pixels = NOISE[..., :3].astype(np.uint16) * 257
    black, white = (0, 65535) if meant is None else meant[:2]
    grey = pixels.copy()
    grey[..., 1:] = 32768  # without chroma: what is shown is Y's own range
    got = full(open_source(written(grey, 6, "none", separate=separate, more={532: (4, list(told))})))
    wanted = np.clip((grey[..., 0].astype(float) - black) * 65535 / (white - black), 0, 65535)
    np.testing.assert_allclose(got, wanted[..., np.newaxis].repeat(3, -1), rtol=0, atol=1)


@pytest.mark.parametrize("separate", [False, True])
def test_inks_that_were_multiplied_with_alpha_are_divided_before_they_are_mixed(separate: bool) -> None:
    inks = np.full((HEIGHT, WIDTH, 5), [0, 100, 100, 0, 128], np.uint8)  # half covered: 199, not 100
    got = full(open_source(written(inks, 5, "none", separate=separate, alpha=1)))
    np.testing.assert_array_equal(got[0, 0], [255, 255 - 199, 255 - 199, 128])


@pytest.mark.parametrize("alpha", [1, 2])
def test_an_extra_sample_that_four_inks_have_no_room_for_is_no_alpha(alpha: int) -> None:
    source = open_source(written(NOISE[..., :4], 5, "none", separate=False, alpha=alpha))
    assert source.info.alpha is Alpha.NONE
    np.testing.assert_array_equal(full(source), mixed(NOISE[..., :4]))


@pytest.mark.parametrize("spread", [(1, 1), (2, 1), (2, 2), (4, 2)])
@pytest.mark.parametrize("coding", ["none", "differences", "JPEG"])
def test_planes_whose_chroma_pixels_share_are_spread(spread: tuple[int, int], coding: str) -> None:
    across, down = spread
    compression, predictor, encode, tolerance = CODINGS[coding]
    source_pixels = SMOOTH[..., :3]
    small = source_pixels[::down, ::across, 1:]
    planes = [source_pixels[..., [0]], small[..., [0]], small[..., [1]]]
    tags = {
        258: (3, [8] * 3), 259: (3, compression), 262: (3, 6), 277: (3, 3), 284: (3, 2), 317: (3, predictor),
        530: (3, list(spread)),
    }  # fmt: skip
    file = tiff(page(WIDTH, HEIGHT, [encode(np.ascontiguousarray(plane)) for plane in planes], tags))
    whole = small.repeat(down, 0).repeat(across, 1)[:HEIGHT, :WIDTH]
    wanted = from_ycbcr(np.concatenate([source_pixels[..., :1], whole], -1), None)
    assert np.abs(full(open_source(file)).astype(int) - wanted).max() <= max(1, tolerance)


@pytest.mark.parametrize("packing", [None, "deflate", "zstd"])
@pytest.mark.parametrize("tile", [None, (16, 16), (256, 256)])
def test_planes_of_packed_lerc_are_whole_whatever_the_page_says(
    packing: str | None, tile: tuple[int, int] | None
) -> None:
    array, file = np.ascontiguousarray(np.moveaxis(NOISE[..., :3], -1, 0)), io.BytesIO()
    arguments = {"compression": packing} if packing else None
    tifffile.imwrite(
        file, array, photometric="ycbcr", planarconfig="separate", compression="lerc", tile=tile,
        compressionargs=arguments, metadata=None, extratags=[(530, 3, 2, (2, 2), True)],
    )  # fmt: skip
    assert np.abs(full(open_source(file)).astype(int) - shown(NOISE[..., :3])).max() <= 1


def test_of_planes_that_are_partly_stored_no_colour_is_made_up() -> None:
    chunks = [bytes(64 * 64)] * 2
    tags = {
        258: (3, [8] * 3), 262: (3, 6), 277: (3, 3), 284: (3, 2), 322: (3, 64), 323: (3, 64),
        530: (3, [1, 1]),
    }  # fmt: skip
    half = open_source(tiff(Written(page(64, 64, [], tags).tags, [*chunks, b""])))
    tile = read_tile(half, 0, 0, 0, 0)
    assert isinstance(tile, Damaged)
    assert "only 2 of 3 planes" in str(tile)
    none = open_source(tiff(Written(page(64, 64, [], tags).tags, [b"", b"", b""])))
    assert not isinstance(read_tile(none, 0, 0, 0, 0), GputilesError)
    assert none.read(0, 0, none.info.unit(0, 0, 0)).chunks[0].data is None


def test_colours_that_are_not_finite_stay_so_beside_alpha() -> None:
    values = np.array([[np.nan, 1, 1], [np.inf, np.inf, np.inf], [1, 2, np.nan], [1, 2, 0]], np.float32)
    np.testing.assert_array_equal(straighten(values)[:, 0], [np.nan, np.nan, 0, 0])


@pytest.mark.parametrize("photometric", [8, 9])
@pytest.mark.parametrize("separate", [False, True])
@pytest.mark.parametrize("coding", ["none", "differences"])
@pytest.mark.parametrize(("bits", "order"), [(8, "<"), (16, "<"), (16, ">")])
def test_lab_becomes_the_colours_that_it_was_made_of(
    photometric: int, separate: bool, coding: str, bits: int, order: str
) -> None:
    down, across = np.mgrid[:HEIGHT, :WIDTH]
    rgb = np.stack([30 + across, 40 + 2 * down, np.full_like(down, 128)], -1).astype(np.uint8)
    profiles = ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB")
    made = ImageCms.profileToProfile(Pillow.fromarray(rgb), *profiles, outputMode="LAB")
    assert made is not None
    lab = np.asarray(made)  # a* and b* as two's complements
    if photometric == 9:
        lab = lab ^ np.array([0, 128, 128], np.uint8)
    pixels = lab if bits == 8 else lab.astype(np.uint16) * np.array([257, 256, 256], np.uint16)
    source = open_source(written(pixels, photometric, coding, separate=separate, order=order))
    got = full(source).astype(int) // (1 if bits == 8 else 257)
    assert source.info.colour is Colour.RGB
    off = np.abs(got - rgb)
    assert off.max() <= 9  # L*a*b* of 8 bits is coarser than RGB
    assert off.mean() < 1


@pytest.mark.parametrize("bits", range(1, 18))
@pytest.mark.parametrize("told", [None, (0, 255, 128, 255, 128, 255), (0, 1, 0, 1, 0, 1)])
def test_ycbcr_of_any_bits_has_colours_or_is_refused(bits: int, told: tuple[int, ...] | None) -> None:
    array = np.random.default_rng(bits).integers(0, 1 << bits, (8, 8, 3), np.uint32)
    data = array.astype("<u2").tobytes() if bits == 16 else pack_bits(array, bits)
    tags: dict[int, tuple[int, Any]] = {258: (3, [bits] * 3), 262: (3, 6), 277: (3, 3), 530: (3, [1, 1])}
    file = tiff(page(8, 8, [data], {**tags, **({532: (4, list(told))} if told else {})}))
    if not 2 <= bits <= 16:
        with pytest.raises(Unsupported, match=f"YCbCr of {bits}-bit"):
            open_source(file)
        return
    found = full(open_source(file))
    assert found.max() < 1 << bits
    top, half = (1 << bits) - 1, 1 << bits - 1
    if told is None:
        y, cr = array[..., 0].astype(float), array[..., 2].astype(float)
        red = np.clip(np.rint(y + 1.402 * (cr - half) * (half - 1) / (top - half)), 0, top)
        np.testing.assert_allclose(found[..., 0], red, rtol=0, atol=1)


def test_lab_of_other_bits_is_refused() -> None:
    with pytest.raises(Unsupported, match="32-bit"):
        open_source(written(NOISE[..., :3].astype(np.uint32), 8, "none", separate=False))
