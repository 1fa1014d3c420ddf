"""Event-loop lag while a 40-channel file opens, an overview is made and a restyle load runs.

A probe sleeps 2 ms again and again on the server's loop and notes how much later it wakes.
Run: ``python benchmarks/lag.py [--seconds N]``. Prints the lag's percentiles in milliseconds.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import numpy as np
import tifffile

from gputiles import style
from gputiles.config import Config
from gputiles.encoded import Encoding
from gputiles.engine import Engine
from gputiles.request import TileRequest, View
from gputiles.trace import Trace
from gputiles.walk import FileRef

PROBE = 0.002  # seconds


async def probe(lags: list[float], until: float) -> None:
    """Note every wake-up's delay, in milliseconds."""
    while time.perf_counter() < until:
        began = time.perf_counter()
        await asyncio.sleep(PROBE)
        lags.append((time.perf_counter() - began - PROBE) * 1000)


async def again(step: Callable[[int], Awaitable[None]], until: float) -> int:
    """Take a step again and again; return how often."""
    taken = 0
    while time.perf_counter() < until:
        await step(taken)
        taken += 1
    return taken


async def reopen(engine: Engine, path: Path) -> None:
    """Open and drop a file."""
    await engine.image(FileRef(path, path.parent))
    await engine.release(FileRef(path, path.parent))


async def overview(engine: Engine, path: Path) -> None:
    """Make the coarsest level from full resolution."""
    image = await engine.image(FileRef(path, path.parent))
    await engine.renderer.tile(image, TileRequest(0, 0, 0, View(style=style.parse({}))), Trace())
    await engine.release(FileRef(path, path.parent))


async def restyle(engine: Engine, path: Path, number: int) -> None:
    """Ask for 16 resident tiles in a new style."""
    image = await engine.image(FileRef(path, path.parent))
    view = View(style=style.parse({"min": number, "max": 9000 + number}), encoding=Encoding(explicit=True))
    z = image.info.levels - 1
    requests = [TileRequest(z, x, y, view) for y in range(4) for x in range(4)]
    await asyncio.gather(*(engine.renderer.tile(image, request, Trace()) for request in requests))


def write(folder: Path) -> tuple[Path, Path, Path]:
    """Write a file of 40 channels, one without a pyramid, and one to restyle."""
    rng = np.random.default_rng(1)
    many, flat, viewed = (folder / name for name in ("many.ome.tif", "flat.tif", "viewed.tif"))
    tile = {"tile": (256, 256), "compression": "zlib"}
    tifffile.imwrite(many, rng.integers(0, 9, (40, 1024, 1024), np.uint16), metadata={"axes": "CYX"}, **tile)
    tifffile.imwrite(flat, rng.integers(0, 99, (4096, 4096), np.uint16), **tile)
    tifffile.imwrite(viewed, rng.integers(0, 9999, (1024, 1024), np.uint16), **tile)
    return many, flat, viewed


async def measure(folder: Path, seconds: float) -> dict[str, object]:
    """Run all loads beside the probe."""
    many, flat, viewed = write(folder)
    lags: list[float] = []
    async with Engine(Config()) as engine:
        until = time.perf_counter() + seconds
        opened, made, asked, _ = await asyncio.gather(
            again(lambda _: reopen(engine, many), until),
            again(lambda _: overview(engine, flat), until),
            again(lambda number: restyle(engine, viewed, number), until),
            probe(lags, until),
        )
    p50, p99, worst = (round(float(np.percentile(lags, q)), 2) for q in (50, 99, 100))
    return {"opens": opened, "overviews": made, "restyled": 16 * asked, "p50": p50, "p99": p99, "max": worst}


def main() -> None:
    """Print one JSON line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=10)
    arguments = parser.parse_args()
    sys.setswitchinterval(0.001)  # as the server does
    with tempfile.TemporaryDirectory() as folder:
        print(json.dumps(asyncio.run(measure(Path(folder).resolve(), arguments.seconds))))


if __name__ == "__main__":
    main()
