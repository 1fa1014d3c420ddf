"""Orientation (TIFF tag 274): one answer for the whole image, which is served as it is stored."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image as Pillow

import gputiles
from tests.conftest import shared

FILES = [
    "cases/orientation6_tiled.tif",
    *(f"data/large_image__test_orient{n}.tif" for n in (1, 2, 3, 5, 6, 8)),
]


def orientation_of(path: Path) -> int:
    with tifffile.TiffFile(path) as tiff:
        return int(tiff.pages.first.tags.valueof(274, default=1))


@pytest.mark.parametrize("name", FILES)
def test_tiles_sizes_and_values_are_those_that_are_stored(name: str) -> None:
    path = shared(*name.split("/"))
    stored = tifffile.imread(path, key=0)
    with gputiles.open(path) as image:
        info, z = image.info, image.info.levels - 1
        assert (info.height, info.width) == stored.shape[:2]
        for x, y in np.ndindex(*info.grid.tiles(z)):
            rect = info.grid.rect(z, x, y)
            part = stored[rect.y : rect.bottom, rect.x : rect.right]
            assert np.array_equal(image.raster(z, x, y), part.reshape(*part.shape[:2], -1))
        told = [warning for warning in info.warnings if "orientation" in warning]
        assert bool(told) == (orientation_of(path) != 1)


@pytest.mark.parametrize("encoding", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("name", FILES)
def test_no_output_carries_an_orientation(name: str, encoding: str) -> None:
    """A viewer would turn each tile by itself."""
    with gputiles.open(shared(*name.split("/"))) as image:
        for style in (None, {"min": 0, "max": 200}):
            data = image.tile(image.info.levels - 1, 0, 0, style=style, encoding=encoding)
            if encoding == "TIFF":
                with tifffile.TiffFile(BytesIO(data)) as tiff:
                    assert tiff.pages.first.tags.valueof(274, default=1) == 1
            else:
                assert Pillow.open(BytesIO(data)).getexif().get(274, 1) == 1
