"""The demo sample: a drawn multiplex image of tissue, written as a pyramidal OME-TIFF."""

from __future__ import annotations

import itertools
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, BinaryIO, TypeAlias

import numpy as np
import tifffile
from numpy.typing import NDArray

from gputiles.geometry import ceil_div
from gputiles.tissue import CHANNELS, Tissue

TILE = 512
PIXEL_SIZE = 0.5  # µm
SMALLEST, LARGEST = 256, 65_536

Pixels: TypeAlias = NDArray[np.uint16]
Progress: TypeAlias = Callable[[int], None]


def level_sizes(size: int) -> list[int]:
    """Return the side of every level, full resolution first, down to one that fits one tile."""
    sizes = [size]
    while sizes[-1] > TILE:
        sizes.append(ceil_div(sizes[-1], 2))
    return sizes


def count_tiles(size: int) -> int:
    """Return how many tiles the sample has in all levels and channels."""
    return len(CHANNELS) * sum(ceil_div(side, TILE) ** 2 for side in level_sizes(size))


def write_sample(path: Path, size: int = 8192, seed: int = 1, progress: Progress | None = None) -> None:
    """Write the sample of ``size`` × ``size`` pixels: 8 channels, uint16, deflate, sub-IFDs.

    The same ``size`` and ``seed`` give the same pixels. ``path`` appears only when the file is
    complete. Memory stays bounded: level by level, half-size rows wait in a temporary file
    beside it. ``progress`` is told the number of tiles since it was last called.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        with tempfile.TemporaryDirectory(dir=path.parent, prefix=".levels-") as folder:
            _write(partial, Path(folder), size, Tissue(size, seed), progress or (lambda _: None))
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def _write(path: Path, folder: Path, size: int, tissue: Tissue, progress: Progress) -> None:
    sizes = level_sizes(size)
    bigtiff = len(CHANNELS) * size * size * 2 > 3 * 2**30
    with tifffile.TiffWriter(path, bigtiff=bigtiff, ome=True) as writer:
        for number, side in enumerate(sizes):
            if number == 0:
                bands = _drawn_bands(tissue, size)
                options: dict[str, Any] = {"subifds": len(sizes) - 1, "metadata": _metadata()}
            else:
                bands = _stored_bands(folder / f"{number}", side)
                options = {"subfiletype": 1}
            writer.write(
                _tiles(_halved(bands, folder / f"{number + 1}"), progress),
                shape=(len(CHANNELS), side, side),
                dtype=np.uint16,
                tile=(TILE, TILE),
                compression="zlib",
                compressionargs={"level": 4},
                predictor=True,
                photometric="minisblack",
                buffersize=16 * 2**20,
                software="gputiles",
                **options,
            )


def _metadata() -> dict[str, object]:
    return {
        "axes": "CYX",
        "Name": "gputiles sample",
        "SignificantBits": 16,
        "PhysicalSizeX": PIXEL_SIZE,
        "PhysicalSizeXUnit": "µm",
        "PhysicalSizeY": PIXEL_SIZE,
        "PhysicalSizeYUnit": "µm",
        "Channel": {
            "Name": [channel.name for channel in CHANNELS],
            "Color": [_ome_colour(channel.colour) for channel in CHANNELS],
        },
    }


def _ome_colour(colour: str) -> int:
    """Return ``#rrggbb`` as OME writes it: RGBA as a signed 32-bit integer."""
    value = int(colour[1:] + "ff", 16)
    return value - 2**32 if value >= 2**31 else value


def _drawn_bands(tissue: Tissue, size: int) -> Iterator[Pixels]:
    """Draw each channel as bands of a tile's height, from top to bottom."""
    for channel, top in itertools.product(range(len(CHANNELS)), range(0, size, TILE)):
        yield np.hstack(
            [
                tissue.draw(channel, left, top, min(TILE, size - left), min(TILE, size - top))
                for left in range(0, size, TILE)
            ]
        )


def _stored_bands(path: Path, side: int) -> Iterator[Pixels]:
    """Read a level back as bands, channel by channel, then remove its file."""
    with path.open("rb") as file:
        for _, top in itertools.product(CHANNELS, range(0, side, TILE)):
            rows = min(TILE, side - top)
            yield np.fromfile(file, np.uint16, rows * side).reshape(rows, side)
    path.unlink()


def _halved(bands: Iterable[Pixels], path: Path) -> Iterator[Pixels]:
    """Pass ``bands`` on, and write each at half its size to ``path``."""
    with path.open("wb") as file:
        for band in bands:
            _store(halve(band), file)
            yield band


def _store(band: Pixels, file: BinaryIO) -> None:
    file.write(np.ascontiguousarray(band).data)


def halve(band: Pixels) -> Pixels:
    """Return the mean of 2×2 pixels, rounded half to even; blocks at the rim average what exists."""
    padded = np.pad(band, ((0, band.shape[0] % 2), (0, band.shape[1] % 2)), mode="edge").astype(np.uint32)
    total = padded[0::2, 0::2] + padded[0::2, 1::2] + padded[1::2, 0::2] + padded[1::2, 1::2]
    return ((total + 1 + (total >> 2 & 1)) >> 2).astype(np.uint16)


def _tiles(bands: Iterable[Pixels], progress: Progress) -> Iterator[Pixels]:
    for band in bands:
        for left in range(0, band.shape[1], TILE):
            progress(1)
            yield np.ascontiguousarray(band[:, left : left + TILE])
