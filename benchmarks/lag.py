"""How long a server lets others wait while a 40-channel file opens, an overview is made and styles change.

Two runs of the same loads. *Lag*: on an engine in this process a probe sleeps 2 ms again and
again on the loop and notes how much later it wakes. *Healthz*: on a ``gputiles serve`` of its own
process, loaded over HTTP by another process, this one asks ``/healthz`` every 2 ms over one
connection and notes how long the answer takes; all three share the machine's cores.
Run: ``python -m benchmarks.lag [--seconds N]``. Prints percentiles in milliseconds.
"""

from __future__ import annotations

import argparse
import asyncio
import http.client
import json
import multiprocessing
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import aiohttp
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
    tile: dict[str, Any] = {"tile": (256, 256), "compression": "zlib"}
    tifffile.imwrite(many, rng.integers(0, 9, (40, 1024, 1024), np.uint16), metadata={"axes": "CYX"}, **tile)
    tifffile.imwrite(flat, rng.integers(0, 99, (4096, 4096), np.uint16), **tile)
    tifffile.imwrite(viewed, rng.integers(0, 9999, (1024, 1024), np.uint16), **tile)
    return many, flat, viewed


def percentiles(milliseconds: list[float]) -> dict[str, float]:
    """Return the middle, the 99th percentile and the worst."""
    names = {"p50": 50, "p99": 99, "max": 100}
    return {name: round(float(np.percentile(milliseconds, q)), 2) for name, q in names.items()}


async def measure_lag(files: tuple[Path, Path, Path], seconds: float) -> dict[str, object]:
    """Run all loads beside the probe."""
    many, flat, viewed = files
    lags: list[float] = []
    async with Engine(Config()) as engine:
        until = time.perf_counter() + seconds
        opened, made, asked, _ = await asyncio.gather(
            again(lambda _: reopen(engine, many), until),
            again(lambda _: overview(engine, flat), until),
            again(lambda number: restyle(engine, viewed, number), until),
            probe(lags, until),
        )
    return {"opens": opened, "overviews": made, "restyled": 16 * asked, **percentiles(lags)}


@contextmanager
def serving(folder: Path) -> Iterator[str]:
    """Serve ``folder`` from another process, looking at files for each request; yield its address."""
    command = [sys.executable, "-m", "gputiles", "serve", str(folder), "--port", "0", "--revalidate", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        try:
            line = server.stdout.readline() if server.stdout else ""
            address = re.search(r"http://(\S+)", line)
            if address is None:
                raise RuntimeError(f"the server did not start: {line!r}")
            yield address[1]
        finally:
            server.terminate()


def load(address: str, files: tuple[Path, Path, Path], seconds: float, counts: Any) -> None:
    """Run all loads over HTTP, for ``seconds``; put what was done into the queue ``counts``."""
    counts.put(asyncio.run(load_server(address, files, time.perf_counter() + seconds)))


async def load_server(address: str, files: tuple[Path, Path, Path], until: float) -> dict[str, int]:
    """Open, make overviews and restyle; a file with a new time is a new version, read anew."""
    many, flat, viewed = files
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(f"http://{address}", connector=connector) as client:
        items = {item["name"]: f"/item/{item['id']}/tiles" for item in json.loads(await get(client, "/item"))}
        levels = json.loads(await get(client, items[viewed.name]))["levels"]

        async def renewed(file: Path, path: str, number: int) -> None:
            os.utime(file, ns=(number, number))
            await get(client, items[file.name] + path)

        async def restyled(number: int) -> None:
            text = f"?style=%7B%22min%22:{number},%22max%22:{9000 + number}%7D"
            tiles = (f"/zxy/{levels - 1}/{x}/{y}" for y in range(4) for x in range(4))
            await asyncio.gather(*(get(client, items[viewed.name] + tile + text) for tile in tiles))

        opened, made, asked = await asyncio.gather(
            again(lambda number: renewed(many, "", number), until),
            again(lambda number: renewed(flat, "/zxy/0/0/0?style=%7B%7D", number), until),
            again(restyled, until),
        )
    return {"opens": opened, "overviews": made, "restyled": 16 * asked}


async def get(client: aiohttp.ClientSession, path: str) -> bytes:
    """Return the answer. Raises RuntimeError where it is a refusal."""
    async with client.get(path) as reply:
        body = await reply.read()
        if reply.status != 200:
            raise RuntimeError(f"{path}: {reply.status} {body!r}")
        return body


def ask_health(address: str, seconds: float) -> list[float]:
    """Ask ``/healthz`` again and again; return how long each answer took, in milliseconds."""
    connection = http.client.HTTPConnection(address, timeout=10)
    taken: list[float] = []
    until = time.perf_counter() + seconds
    while time.perf_counter() < until:
        began = time.perf_counter()
        connection.request("GET", "/healthz")
        reply = connection.getresponse()
        reply.read()
        taken.append((time.perf_counter() - began) * 1000)
        if reply.status != 200:
            raise RuntimeError(f"/healthz: {reply.status}")
        time.sleep(PROBE)
    connection.close()
    return taken


def measure_health(folder: Path, files: tuple[Path, Path, Path], seconds: float) -> dict[str, object]:
    """Ask for the health of an idle server, then of one under all loads."""
    processes = multiprocessing.get_context("spawn")
    with serving(folder) as address:
        idle = percentiles(ask_health(address, min(seconds, 2)))
        counts = processes.Queue()
        loader = processes.Process(target=load, args=(address, files, seconds + 1, counts))
        loader.start()
        time.sleep(1)  # until the loads run
        busy = percentiles(ask_health(address, seconds))
        done = counts.get(timeout=60)
        loader.join()
    return {"idle": idle, **done, **busy}


def main() -> None:
    """Print one JSON line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=10)
    arguments = parser.parse_args()
    sys.setswitchinterval(0.001)  # as the server does
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder).resolve()
        files = write(root)
        lag = asyncio.run(measure_lag(files, arguments.seconds))
        print(json.dumps({"lag": lag, "healthz": measure_health(root, files, arguments.seconds)}))


if __name__ == "__main__":
    main()
