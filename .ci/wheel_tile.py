"""Render tiles with the installed gputiles and compare them with NumPy's answer.

Arguments: the source tree, which must not be in use, and an image (else a sample is written).
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import imagecodecs
import numpy as np
import tifffile

import gputiles
from gputiles.sample import write_sample


def check_place(tree: Path) -> None:
    """Make sure that this is the installed package, with nothing to build kernels from."""
    places = [*sys.path, gputiles.__file__]
    assert not any(Path(place).resolve().is_relative_to(tree) for place in places if place), places
    assert Path(gputiles.__file__).is_relative_to(sys.prefix), gputiles.__file__
    for compiler in ("cc", "gcc", "g++", "c++", "clang", "nvcc"):
        assert shutil.which(compiler) is None, compiler


def expected(plane: np.ndarray, high: float) -> np.ndarray:
    """Return red in the window 0 … ``high``, by large_image's arithmetic in float32."""
    share = np.clip(plane.astype(np.float32) / np.float32(high), 0, 1)
    return (share * np.float32(255)).astype(np.uint8)


def main() -> None:
    """Compare the first full-resolution tile, as PNG exactly and as JPEG nearly."""
    check_place(Path(sys.argv[1]))
    path = Path(sys.argv[2]) if len(sys.argv) > 2 else Path("sample.ome.tif")
    if len(sys.argv) < 3:
        write_sample(path, 512)
    with tifffile.TiffFile(path) as file, gputiles.open(path) as image:
        info = image.info
        plane = file.pages[0].asarray()[: info.tile_height, : info.tile_width]
        style = {"bands": [{"frame": 0, "band": 1, "min": 0, "max": 65535, "palette": ["#000", "#f00"]}]}
        png = image.tile(info.levels - 1, 0, 0, style=style, encoding="PNG", edge=True)
        jpeg = image.tile(info.levels - 1, 0, 0, style=style, encoding="JPEG", quality=100, edge=True)
    picture = imagecodecs.png_decode(png)
    np.testing.assert_array_equal(picture[..., 0], expected(plane, 65535))
    assert not picture[..., 1:3].any()
    assert np.abs(imagecodecs.jpeg8_decode(jpeg).astype(int) - picture[..., :3]).max() <= 6


if __name__ == "__main__":
    main()
