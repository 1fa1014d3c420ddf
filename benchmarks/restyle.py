"""Restyle a resident tile: gputiles against large_image, in one process, pair by pair.

A new style in every call, over a 6-channel 512 × 512 uint16 tile that both have read before. A
pair is a burst of calls of the one, then of the other: the drag of a slider is one (``--burst 1``
takes turns call by call, so that each finds the processor's caches full of the other's data).
Run: ``python -m benchmarks.restyle [--pairs N] [--burst N]`` where ``large-image`` with its ``ometiff``
source is installed beside gputiles. Prints medians, the ratio of each pair and their spread;
the pictures of both are compared first.
"""

from __future__ import annotations

import argparse
import io
import json
import platform
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import large_image_source_ometiff
import numpy as np
import tifffile
from PIL import Image

import gputiles
from gputiles.config import Config

ANSWERS = 16 * 1024**2  # bytes of encoded tiles that are kept
WARM = 40  # calls, of at least 400 KB, that fill that
COLOURS = ("#ff0000", "#00ff00", "#0000ff", "#ffff00", "#ff00ff", "#00ffff")
SIDE = 512


def pictures(kind: str) -> np.ndarray:
    """Return (6, 512, 512) uint16: noise, or smooth blobs with shot noise as of cells."""
    rng = np.random.default_rng(4)
    if kind == "noise":
        return rng.integers(0, 60_000, (6, SIDE, SIDE)).astype(np.uint16)
    yy, xx = np.mgrid[:SIDE, :SIDE]
    planes = np.zeros((6, SIDE, SIDE))
    for plane in planes:
        for x, y, r in zip(*rng.uniform(0, SIDE, (2, 150)), rng.uniform(4, 14, 150), strict=True):
            plane += 9000 * np.exp(-((xx - x) ** 2 + (yy - y) ** 2) / (2 * r * r))
    return rng.poisson(planes + 300).clip(0, 65535).astype(np.uint16)


def style(number: int) -> dict[str, object]:
    """Return the style of call ``number``: windows that no call had before."""
    bands = [
        {"frame": c, "min": 100 + number, "max": 30_000 + number, "palette": colour}
        for c, colour in enumerate(COLOURS)
    ]
    return {"bands": bands}


def timed(call: Callable[[int], object], numbers: range) -> float:
    """Return the milliseconds of a call, the mean of a burst."""
    began = time.perf_counter()
    for number in numbers:
        call(number)
    return (time.perf_counter() - began) * 1000 / len(numbers)


def bursts(pairs: int, burst: int) -> list[range]:
    """Return the numbers of every pair's calls; 0 is the call that is compared."""
    return [range(1 + pair * burst, 1 + (pair + 1) * burst) for pair in range(pairs)]


def decoded(picture: bytes) -> np.ndarray:
    """Return the pixels of an encoded picture: (rows, columns, 3) of int."""
    return np.asarray(Image.open(io.BytesIO(picture)).convert("RGB")).astype(int)


def spread(times: list[tuple[float, float]]) -> dict[str, object]:
    """Return the medians of pairs (gputiles, large_image) in milliseconds, and of their ratios."""
    ratios = sorted(b / a for a, b in times)
    return {
        "gputiles_ms": round(statistics.median(a for a, _ in times), 3),
        "large_image_ms": round(statistics.median(b for _, b in times), 3),
        "ratio": round(statistics.median(ratios), 2),
        "ratio_10_90": [round(ratios[len(ratios) // 10], 2), round(ratios[-1 - len(ratios) // 10], 2)],
    }


def peer(path: Path, encoding: str) -> Callable[[int], bytes]:
    """Return large_image's call: the first tile in the style of a number."""
    return lambda number: peers_tile(path, json.dumps(style(number)), encoding)


def peers_tile(path: Path, look: str, encoding: str = "JPEG") -> bytes:
    """Return the first tile of a file as large_image draws it in a style."""
    options = {"jpegQuality": 95, "jpegSubsampling": 0} if encoding == "JPEG" else {}
    source = large_image_source_ometiff.open(str(path), style=look, encoding=encoding, **options)
    tile: bytes = source.getTile(0, 0, 0)
    return tile


def few_answers() -> Config:
    """Return the settings of an engine that keeps few answers.

    Once there is no room for more, their memory is used again, as in a server that has run for a while;
    fresh memory costs a fault for each of its pages.
    """
    return Config(tile_cache=ANSWERS)


def product(image: gputiles.Image, encoding: str) -> Callable[[int], bytes]:
    """Return gputiles' call: the first tile in the style of a number."""
    extra = {"quality": 95, "subsampling": 0} if encoding == "JPEG" else {}
    return lambda number: image.tile(0, 0, 0, style=style(number), encoding=encoding, **extra)


def write(
    path: Path,
    data: np.ndarray | Iterator[bytes],
    side: int = SIDE,
    codec: str | None = "zlib",
    shape: tuple[int, ...] | None = None,
) -> None:
    """Write (channels, rows, columns) uint16 as an OME-TIFF in tiles of ``side``, deflated or as ``codec``.

    Tiles that are compressed already come with the ``shape`` of the whole.
    """
    shape = data.shape if isinstance(data, np.ndarray) else shape
    metadata = {"axes": "CYX", "Channel": {"Name": [f"channel {c}" for c in range(shape[0])]}}
    layout: dict[str, Any] = {"shape": shape, "dtype": np.uint16, "tile": (side, side)}
    tifffile.imwrite(path, data, **layout, compression=codec, metadata=metadata)


def compare(path: Path, encoding: str, pairs: int, burst: int) -> dict[str, object]:
    """Return the medians and ratios of ``pairs`` alternating calls."""
    theirs = peer(path, encoding)
    with gputiles.open(path, config=few_answers()) as image:
        ours = product(image, encoding)
        worst = int(np.abs(decoded(ours(0)) - decoded(theirs(0))).max())
        for number in range(-WARM, 0):
            ours(number)
            theirs(number)
        times = [(timed(ours, numbers), timed(theirs, numbers)) for numbers in bursts(pairs, burst)]
    return {"encoding": encoding, **spread(times), "worst_pixel_difference": worst}


def main() -> None:
    """Print one JSON line per picture and encoding."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=20)
    parser.add_argument("--burst", type=int, default=8)
    arguments = parser.parse_args()
    versions = {name: version(name) for name in ("large-image", "numpy", "imagecodecs")}
    print(
        json.dumps(
            {"machine": platform.processor() or platform.machine(), "burst": arguments.burst, **versions}
        )
    )
    with tempfile.TemporaryDirectory() as folder:
        for kind in ("noise", "cells"):
            path = Path(folder) / f"{kind}.ome.tif"
            write(path, pictures(kind))
            for encoding in ("JPEG", "PNG"):
                print(
                    json.dumps({"picture": kind, **compare(path, encoding, arguments.pairs, arguments.burst)})
                )


if __name__ == "__main__":
    main()
