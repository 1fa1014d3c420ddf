"""The files that are measured: written anew in every run, the same pixels each time.

Their pixels are noise, tissue (drawn), or real: four channels of neurons under a fluorescence microscope,
and a stained slide, where those files are there (``GPUTILES_SHARED``).
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator
from functools import cache
from math import isqrt
from pathlib import Path

import numpy as np
import tifffile

from benchmarks import restyle
from gputiles.tissue import CHANNELS, PERIOD, Tissue

PICTURES = ("noise", "tissue")
ABOUT = {
    "noise": "every sample drawn at random",
    "tissue": "drawn, with the noise of a camera",
    "real": "neurons in 4 channels (ndev-sampledata's neuron-4Ch) and a stained slide (CMU-1-Small-Region)",
}
REAL = "ndev-sampledata__neuron-4Ch.tiff", "libvips__CMU-1-Small-Region.svs"
CORNER = (1200, 720)  # row and column of the slide from which on it shows tissue, not bare glass
SHARED = Path(os.environ.get("GPUTILES_SHARED", Path(__file__).parents[2] / "shared"))
BRIGHTEST = 60_000  # that noise is of, in 16 bits
JPEG_LEVEL = 90  # quality of the stored tiles of a slide


@cache
def _tissue() -> Tissue:
    return Tissue(PERIOD, 1)


def pictures() -> tuple[str, ...]:
    """Return noise, and what is like a picture: a real one where the files are there."""
    return "noise", "real" if all((SHARED / "data" / name).is_file() for name in REAL) else "tissue"


def _mirrored(picture: np.ndarray, side: int) -> np.ndarray:
    """Return (side, side, samples) of a picture, which goes on as in a mirror where it ends."""
    missing = [(0, max(0, side - length)) for length in picture.shape[:2]]
    return np.pad(picture[:side, :side], [*missing, (0, 0)], mode="symmetric")


@cache
def planes(picture: str, channels: int, side: int = 512) -> np.ndarray:
    """Return (channels, side, side) uint16 of a picture; ``side`` is at most 1024."""
    if picture == "noise":
        random = np.random.default_rng(4)
        return random.integers(0, BRIGHTEST, (channels, side, side)).astype(np.uint16)
    if picture == "real":
        photographed = _mirrored(tifffile.imread(SHARED / "data" / REAL[0]).transpose(1, 2, 0), side)
        return photographed.transpose(2, 0, 1)[np.arange(channels) % photographed.shape[2]]
    drawn = [_tissue().draw(channel, 0, 0, side, side) for channel in range(min(channels, len(CHANNELS)))]
    return np.stack([drawn[channel % len(drawn)] for channel in range(channels)])


@cache
def slide_picture(picture: str, side: int) -> np.ndarray:
    """Return (side, side, 3) uint8 of a picture; tissue is as if stained, dark on white."""
    if picture == "noise":
        return np.random.default_rng(5).integers(0, 256, (side, side, 3)).astype(np.uint8)
    if picture == "real":
        top, left = CORNER
        return _mirrored(tifffile.imread(SHARED / "data" / REAL[1])[top:, left:], side)
    stain = planes("tissue", 6, side)[[1, 0, 5]].astype(np.float32)
    return (245 - np.clip(stain / 40, 0, 215)).transpose(1, 2, 0).astype(np.uint8)


def multiplex(
    path: Path, picture: str, channels: int, tile: int, across: int, down: int, codec: str | None = "zlib"
) -> Path:
    """Write an OME-TIFF of ``across`` × ``down`` tiles, uint16, full resolution only; its picture repeats."""
    side = min(max(tile, 512), tile * max(across, down))
    restyle.write(path, planes(picture, channels, side), tile, codec)
    if (across * tile, down * tile) != (side, side):
        shape = channels, down * tile, across * tile
        restyle.write(path, _repeated(_streams(path), tile, shape), tile, codec, shape)
    return path


def _streams(path: Path) -> list[list[bytes]]:
    """Return the tiles of each page as they are stored."""
    with tifffile.TiffFile(path) as file:
        where = [(page.dataoffsets, page.databytecounts) for page in file.pages]
        return [[tile for tile, _ in file.filehandle.read_segments(*at, sort=False)] for at in where]


def _repeated(streams: list[list[bytes]], tile: int, shape: tuple[int, int, int]) -> Iterator[bytes]:
    """Yield the tiles of a larger picture, which none has to compress again."""
    for tiles in streams:
        period = isqrt(len(tiles))
        for y, x in itertools.product(range(shape[1] // tile), range(shape[2] // tile)):
            yield tiles[y % period * period + x % period]


def slide(path: Path, picture: str, side: int, tile: int = 256) -> Path:
    """Write a TIFF of JPEG tiles, YCbCr 4:2:0, full resolution only; its picture repeats."""
    pixels = slide_picture(picture, min(side, 1024))
    tifffile.imwrite(
        path,
        _tiles(pixels, side, tile),
        shape=(side, side, 3),
        dtype=np.uint8,
        tile=(tile, tile),
        photometric="ycbcr",
        subsampling=(2, 2),
        compression="jpeg",
        compressionargs={"level": JPEG_LEVEL},
    )
    return path


def _tiles(pixels: np.ndarray, side: int, tile: int) -> Iterator[np.ndarray]:
    period = len(pixels)
    for y, x in itertools.product(range(0, side, tile), repeat=2):
        top, left = y % period, x % period
        yield np.ascontiguousarray(pixels[top : top + tile, left : left + tile])


def exact_overview(path: Path, tile: int = 256) -> np.ndarray:
    """Return the one tile of the coarsest level: means of 2 × 2, level by level, half to even."""
    level = np.squeeze(tifffile.imread(path))
    while len(level) > tile:
        total = np.zeros((len(level) // 2, len(level) // 2, *level.shape[2:]), np.uint32)
        for y, x in itertools.product(range(2), repeat=2):
            total += level[y::2, x::2]
        level = (total + 1 + (total >> 2 & 1)) >> 2
    return level.astype(int)
