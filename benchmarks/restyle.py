"""Restyle a resident tile: gputiles against large_image, in one process, pair by pair.

A new style in every call, over a 6-channel 512 × 512 uint16 tile that both have read before.
Run: ``python benchmarks/restyle.py [--pairs N]`` where ``large-image`` with its ``ometiff``
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
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import large_image_source_ometiff
import numpy as np
import tifffile
from PIL import Image

import gputiles

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


def timed(call: Callable[[], object]) -> float:
    """Return the milliseconds of one call."""
    began = time.perf_counter()
    call()
    return (time.perf_counter() - began) * 1000


def compare(path: Path, encoding: str, pairs: int) -> dict[str, object]:
    """Return the medians and ratios of ``pairs`` alternating calls."""
    options = {"jpegQuality": 95, "jpegSubsampling": 0} if encoding == "JPEG" else {}
    extra = {"quality": 95, "subsampling": 0} if encoding == "JPEG" else {}

    def theirs(number: int) -> bytes:
        source = large_image_source_ometiff.open(
            str(path), style=json.dumps(style(number)), encoding=encoding, **options
        )
        return source.getTile(0, 0, 0)

    with gputiles.open(path) as image:

        def ours(number: int) -> bytes:
            return image.tile(0, 0, 0, style=style(number), encoding=encoding, **extra)

        pictures = [np.asarray(Image.open(io.BytesIO(answer))).astype(int) for answer in (ours(0), theirs(0))]
        worst = int(np.abs(pictures[0] - pictures[1]).max())
        pairs_of_times = [
            (timed(lambda n=n: ours(n)), timed(lambda n=n: theirs(n))) for n in range(1, pairs + 1)
        ]
    ratios = sorted(b / a for a, b in pairs_of_times)
    return {
        "encoding": encoding,
        "gputiles_ms": round(statistics.median(a for a, _ in pairs_of_times), 2),
        "large_image_ms": round(statistics.median(b for _, b in pairs_of_times), 2),
        "ratio": round(statistics.median(ratios), 1),
        "ratio_10_90": [round(ratios[len(ratios) // 10], 1), round(ratios[-1 - len(ratios) // 10], 1)],
        "worst_pixel_difference": worst,
    }


def main() -> None:
    """Print one JSON line per picture and encoding."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=30)
    arguments = parser.parse_args()
    versions = {name: version(name) for name in ("large-image", "numpy", "imagecodecs")}
    print(json.dumps({"machine": platform.processor() or platform.machine(), **versions}))
    with tempfile.TemporaryDirectory() as folder:
        for kind in ("noise", "cells"):
            path = Path(folder) / f"{kind}.ome.tif"
            metadata = {"axes": "CYX", "Channel": {"Name": [f"channel {c}" for c in range(6)]}}
            tifffile.imwrite(path, pictures(kind), tile=(SIDE, SIDE), compression="zlib", metadata=metadata)
            for encoding in ("JPEG", "PNG"):
                print(json.dumps({"picture": kind, **compare(path, encoding, arguments.pairs)}))


if __name__ == "__main__":
    main()
