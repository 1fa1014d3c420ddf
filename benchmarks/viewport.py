"""Restyle a viewport with one worker and with two, in one process, pair by pair.

Tiles over 8 resident uint16 channels, a new style in every pass, JPEG q95 4:4:4. Run: ``python -m
benchmarks.viewport [--tile SIDE] [--across N] [--down N] [--picture NAME] [--pairs N] [--singly]``. By
default it is what a screen of 1080 rows shows of the sample that ``gputiles demo`` serves: 4 × 3 tiles of
512 pixels of tissue. ``--tile 256 --across 8 --down 5 --picture poisson`` is R1's viewport, in noise. Prints
milliseconds a viewport, the ratio, and the same ratio of two threads that compress and share nothing: what
the second core of this machine is worth meanwhile.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from benchmarks import calibration, inputs, restyle
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
    cells: Sequence[tuple[int, int]] = PLACES,
) -> list[bytes]:
    """Return the tiles of ``cells`` (x, y) in style ``number``."""
    view = View(style=style.parse(bands(number, channels, top)), encoding=Encoding(explicit=True))
    image = await engine.image(reference)
    z = image.info.levels - 1
    places = tuple((z, x, y) for x, y in cells)
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


async def compare(
    path: Path, pairs: int, singly: bool, cells: Sequence[tuple[int, int]] = PLACES
) -> dict[str, object]:
    """Return medians of both, and the ratio of each pair."""
    reference = FileRef(path, path.parent)
    few = restyle.few_answers()

    async def taken(engine: Engine, number: int) -> float:
        """Return the milliseconds of all tiles in style ``number``."""
        began = time.perf_counter()
        await restyled(engine, reference, number, singly, cells=cells)
        return (time.perf_counter() - began) * 1000

    async with Engine(replace(few, workers=1)) as one, Engine(replace(few, workers=2)) as two:
        for number in range(-WARM, 0):
            for engine in (one, two):
                await taken(engine, number)
        times, machine = [], []
        for number in range(10, 10 + pairs):
            times.append((await taken(one, number), await taken(two, number)))
            machine.append(calibration.cores())
    ratios = sorted(a / b for a, b in times)
    return {
        "cores": usable_cores(),
        "one_worker_ms": round(statistics.median(a for a, _ in times), 1),
        "two_workers_ms": round(statistics.median(b for _, b in times), 1),
        "ratio": round(statistics.median(ratios), 2),
        "ratio_10_90": [round(ratios[len(ratios) // 10], 2), round(ratios[-1 - len(ratios) // 10], 2)],
        "machine": round(statistics.median(machine), 2),
    }


def main() -> None:
    """Print one JSON line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=20)
    parser.add_argument("--tile", type=int, default=512)
    parser.add_argument("--across", type=int, default=4)
    parser.add_argument("--down", type=int, default=3)
    parser.add_argument("--picture", choices=("poisson", *inputs.PICTURES, "real"), default="tissue")
    parser.add_argument("--singly", action="store_true", help="a request for each tile, not one for all")
    given = parser.parse_args()
    sys.setswitchinterval(0.001)  # as the server does
    cells = tuple((x, y) for y in range(given.down) for x in range(given.across))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder).resolve() / "image.ome.tif"
        if given.picture == "poisson":
            rng = np.random.default_rng(6)
            shape = CHANNELS, given.down * given.tile, given.across * given.tile
            restyle.write(path, rng.poisson(3000, shape).astype(np.uint16), given.tile, "zlib")
        else:
            inputs.multiplex(path, given.picture, CHANNELS, given.tile, given.across, given.down)
        found = asyncio.run(compare(path, given.pairs, given.singly, cells))
    told = {name: vars(given)[name] for name in ("tile", "across", "down", "picture", "singly")}
    print(json.dumps(told | found))


if __name__ == "__main__":
    main()
