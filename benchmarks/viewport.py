"""Restyle a viewport with one worker and with two, in one process, pair by pair.

40 tiles over 8 resident uint16 channels, a new style in every pass, JPEG q95 4:4:4. Run:
``python -m benchmarks.viewport [--tile SIDE] [--pairs N] [--singly]``. Prints milliseconds a viewport, and
the ratio.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import tifffile

from benchmarks import restyle
from gputiles import style
from gputiles import viewport as viewports
from gputiles.config import usable_cores
from gputiles.encoded import EncodedTile, Encoding
from gputiles.engine import Engine
from gputiles.request import TileRequest, View, ViewportRequest
from gputiles.trace import Trace
from gputiles.walk import FileRef

COLUMNS, ROWS, CHANNELS = 8, 5, 8
WARM = 8  # passes: the first reads and decodes, the others fill the shelf of answers (see few_answers)
TOP = 9000
COLOURS = ("#f00", "#0f0", "#00f", "#ff0", "#f0f", "#0ff", "#fff", "#f80")


PLACES = tuple((x, y) for y in range(ROWS) for x in range(COLUMNS))


def bands(number: int, channels: int = CHANNELS, top: int = TOP) -> dict[str, object]:
    """Return the style of pass ``number``; ``top`` is the value that is shown brightest."""
    return {
        "bands": [
            {"frame": c, "min": number, "max": top, "palette": COLOURS[c % len(COLOURS)]}
            for c in range(channels)
        ]
    }


async def restyled(
    engine: Engine,
    reference: FileRef,
    number: int,
    singly: bool = False,
    channels: int = CHANNELS,
    top: int = TOP,
) -> list[bytes]:
    """Return all tiles in style ``number``, in the order of PLACES."""
    view = View(style=style.parse(bands(number, channels, top)), encoding=Encoding(explicit=True))
    image = await engine.image(reference)
    z = image.info.levels - 1
    places = tuple((z, x, y) for x, y in PLACES)
    if singly:
        requests = (TileRequest(*place, view) for place in places)
        tiles = await asyncio.gather(*(engine.renderer.tile(image, request, Trace()) for request in requests))
        return [tile.data for tile in tiles]
    found: dict[int, bytes] = {}
    async for ready in viewports.tiles(engine.renderer, image, ViewportRequest(places, view), Trace()):
        found |= {place: tile.data for place, tile in ready if isinstance(tile, EncodedTile)}
    if len(found) != len(places):
        raise SystemExit(f"{len(found)} of {len(places)} tiles came")
    return [found[place] for place in range(len(places))]


async def viewport(engine: Engine, reference: FileRef, number: int, singly: bool) -> float:
    """Return the milliseconds of all tiles in style ``number``."""
    began = time.perf_counter()
    await restyled(engine, reference, number, singly)
    return (time.perf_counter() - began) * 1000


async def compare(path: Path, pairs: int, singly: bool) -> dict[str, object]:
    """Return medians of both, and the ratio of each pair."""
    reference = FileRef(path, path.parent)
    few = restyle.few_answers()
    async with Engine(replace(few, workers=1)) as one, Engine(replace(few, workers=2)) as two:
        for number in range(-WARM, 0):
            await viewport(one, reference, number, singly)
            await viewport(two, reference, number, singly)
        times = [
            (await viewport(one, reference, number, singly), await viewport(two, reference, number, singly))
            for number in range(10, 10 + pairs)
        ]
    ratios = sorted(a / b for a, b in times)
    return {
        "cores": usable_cores(),
        "one_worker_ms": round(statistics.median(a for a, _ in times), 1),
        "two_workers_ms": round(statistics.median(b for _, b in times), 1),
        "ratio": round(statistics.median(ratios), 2),
        "ratio_10_90": [round(ratios[len(ratios) // 10], 2), round(ratios[-1 - len(ratios) // 10], 2)],
    }


def main() -> None:
    """Print one JSON line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=20)
    parser.add_argument("--tile", type=int, default=256)
    parser.add_argument("--singly", action="store_true", help="40 requests of a tile, not one of 40 tiles")
    arguments = parser.parse_args()
    sys.setswitchinterval(0.001)  # as the server does
    side, singly = arguments.tile, arguments.singly
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder).resolve() / "image.ome.tif"
        rng = np.random.default_rng(6)
        data = rng.poisson(3000, (CHANNELS, ROWS * side, COLUMNS * side)).astype(np.uint16)
        tifffile.imwrite(path, data, tile=(side, side), compression="zlib", metadata={"axes": "CYX"})
        print(
            json.dumps({"tile": side, "singly": singly} | asyncio.run(compare(path, arguments.pairs, singly)))
        )


if __name__ == "__main__":
    main()
