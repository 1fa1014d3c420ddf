"""Transparency-mask pages: where they are 0, pixels are not valid, and nothing else changes."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image

import gputiles
from gputiles.backends import Raster
from gputiles.backends.paste import decode_tiles
from gputiles.sources.open import open_source
from gputiles.sources.tiff import TiffSource
from tests.conftest import shared
from tests.reading import full, read_level
from tests.tiffs import page, tiff

RNG = np.random.default_rng(5)


def validity(source: TiffSource, z: int, frame: int = 0) -> np.ndarray[Any, Any]:
    """Return which pixels of a stored level are valid."""
    width, height = source.info.grid.size(z)
    columns, rows = source.info.grid.tiles(z)
    whole = np.full((height, width), 2, np.uint8)
    for x, y in ((x, y) for y in range(rows) for x in range(columns)):
        job = source.read(frame, z, source.info.unit(z, x, y))
        for rect, tile in zip(job.tiles, decode_tiles(job), strict=True):
            assert isinstance(tile, Raster)
            whole[rect.y : rect.bottom, rect.x : rect.right] = 1 if tile.valid is None else tile.valid
    return whole


def opened(file: Any) -> TiffSource:
    source = open_source(file)
    assert isinstance(source, TiffSource)
    return source


def masked(
    pictures: list[np.ndarray[Any, Any]],
    masks: list[np.ndarray[Any, Any]],
    *,
    subs: bool = False,
    **options: Any,
) -> io.BytesIO:
    """Return a file of pictures, the first at full resolution, and their masks."""
    file = io.BytesIO()
    with tifffile.TiffWriter(file) as writer:
        kind = "rgb" if pictures[0].ndim == 3 else "minisblack"
        for number, picture in enumerate(pictures):
            extra = {"subifds": len(masks)} if subs and number == 0 else {}
            writer.write(
                picture, photometric=kind, subfiletype=int(number > 0), metadata=None, **options, **extra
            )
            if subs and number == 0:
                _write_masks(writer, masks, options)
        if not subs:
            _write_masks(writer, masks, options)
    return file


def _write_masks(
    writer: tifffile.TiffWriter, masks: list[np.ndarray[Any, Any]], options: dict[str, Any]
) -> None:
    for number, mask in enumerate(masks):
        writer.write(mask, photometric="mask", subfiletype=4 | (number > 0), metadata=None, **options)


@pytest.mark.parametrize("subs", [False, True])
@pytest.mark.parametrize("options", [{"tile": (128, 128)}, {"rowsperstrip": 9}, {"compression": "zlib"}])
@pytest.mark.parametrize("shape", [(300, 201, 3), (300, 201)])
def test_masked_pixels_are_not_valid_and_keep_their_values(
    subs: bool, options: dict[str, Any], shape: tuple[int, ...]
) -> None:
    picture, mask = RNG.integers(0, 255, shape, np.uint8), RNG.random((300, 201)) > 0.5
    source = opened(masked([picture], [mask], subs=subs, **options))
    z = source.info.levels - 1
    assert len(source.info.frames) == 1
    np.testing.assert_array_equal(full(source), picture.reshape(300, 201, -1))
    np.testing.assert_array_equal(validity(source, z), mask)


@pytest.mark.parametrize("bits", [1, 8])
@pytest.mark.parametrize("order", ["<", ">"])
def test_masks_of_one_or_eight_bits_are_valid_where_they_are_not_0(bits: int, order: str) -> None:
    mask = RNG.random((20, 13)) > 0.5
    data = np.packbits(mask, axis=1).tobytes() if bits == 1 else (mask * np.uint8(200)).tobytes()
    picture = page(13, 20, [bytes(260)], {})
    below = page(13, 20, [data], {254: (4, 4), 258: (3, bits), 262: (3, 4)})
    np.testing.assert_array_equal(validity(opened(tiff(picture, below, order=order)), 0), mask)


def test_every_level_has_its_own_mask() -> None:
    sides = (512, 256, 128)
    pictures = [np.full((side, side), 9, np.uint8) for side in sides]
    masks = [RNG.random((side, side)) > 0.3 for side in sides]
    source = opened(masked(pictures, masks, tile=(128, 128)))
    assert source.info.stored == (True, True, True)
    for z, mask in enumerate(masks[::-1]):
        np.testing.assert_array_equal(validity(source, z), mask)


def test_a_level_without_a_mask_is_made_of_one_that_has_it() -> None:
    pictures = [np.full((side, side), 9, np.uint8) for side in (256, 128)]
    source = opened(masked(pictures, [np.ones((256, 256), bool)], tile=(128, 128)))
    assert source.info.stored == (False, True)


def test_a_mask_of_another_size_masks_nothing() -> None:
    source = opened(masked([np.zeros((200, 200), np.uint8)], [np.zeros((100, 100), bool)]))
    assert validity(source, 0).all()


def test_a_mask_that_cannot_be_read_is_left_out_with_a_warning() -> None:
    mask = page(8, 6, [bytes(6)], {254: (4, 4), 258: (3, 1), 259: (3, 34661), 262: (3, 4)})
    source = opened(tiff(page(8, 6, [bytes(48)], {}), mask))
    assert validity(source, 0).all()
    assert any("mask" in warning for warning in source.info.warnings)


def test_tiles_under_a_mask_are_not_passed_through() -> None:
    picture = np.full((256, 256, 3), 99, np.uint8)
    file = masked([picture], [], tile=(128, 128), compression="jpeg")
    assert open_source(file).passthrough(0, 1, 0, 0) is not None
    with_mask = io.BytesIO()
    with tifffile.TiffWriter(with_mask) as writer:
        writer.write(picture, photometric="rgb", tile=(128, 128), compression="jpeg", metadata=None)
        _write_masks(writer, [np.zeros((256, 256), bool)], {})
    assert open_source(with_mask).passthrough(0, 1, 0, 0) is None


def test_the_right_half_of_the_case_is_transparent_in_a_png(tmp_path: Path) -> None:
    with gputiles.open(shared("cases", "rgb_with_mask_page.tif")) as image:
        tile = np.asarray(Image.open(io.BytesIO(image.tile(0, 0, 0, encoding="PNG"))))
    assert tile.shape[2] == 4
    assert tile[:64, :32, 3].all()
    assert not tile[:64, 32:64, 3].any()


@pytest.mark.parametrize("name", ["rio-tiler__cog_uint8_rgb_mask.tif", "imageio-ext__masks.tif"])
def test_real_masks_are_those_that_tifffile_reads(name: str) -> None:
    path = shared("data", name)
    source = opened(path)
    with tifffile.TiffFile(path) as tif:
        masks = [tif.pages[at].aspage() for at in range(len(tif.pages))]
        masks = [one for one in masks if one.subfiletype & 4]
        truth = max(masks, key=lambda one: one.imagewidth).asarray()
    np.testing.assert_array_equal(validity(source, source.info.levels - 1), truth)
    assert read_level(source, 0, 0).size
    source.close()
