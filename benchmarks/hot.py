"""Hot encoded tiles over HTTP against an aiohttp handler that returns constant bytes.

Both servers have the same route, headers and body; ``wrk`` asks each in turn, pair by pair, for
a few seconds on loopback. Run: ``python -m benchmarks.hot [--pairs N] [--seconds N]``;
needs ``wrk`` on the path. Prints requests per second, and the ratio of each pair.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import multiprocessing
import os
import re
import shutil
import statistics
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import numpy as np
import tifffile
from aiohttp import web

from benchmarks import process
from gputiles.app import SERVER, run
from gputiles.config import Config
from gputiles.walk import walk

OWN = {"Date", "Server", "Content-Length", "Connection"}  # headers that each server sets itself
START, END = 120, 10  # seconds in which a server must start; in which it may end by itself
PATIENCE = 60  # seconds for an answer, and for the generator to end; a standstill counts as one of them
ROUTE = "/item/{item}/tiles/zxy/{z}/{x}/{y}"


def serve_tiles(path: Path, ready: Connection) -> None:
    """Serve one image with gputiles."""
    run(Config(roots=(path,), port=0), ready.send)


def serve_constant(body: bytes, headers: dict[str, str], ready: Connection) -> None:
    """Serve ``body`` under the tiles' route, and nothing else."""
    asyncio.run(_serve_constant(body, headers, ready))


async def _serve_constant(body: bytes, headers: dict[str, str], ready: Connection) -> None:
    async def constant(request: web.Request) -> web.Response:
        return web.Response(body=body, headers=headers)

    app = web.Application()
    app.router.add_get(ROUTE, constant)
    runner = web.AppRunner(app, access_log=None, handler_cancellation=SERVER["handler_cancellation"])
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    host, port = runner.addresses[0][:2]
    ready.send(f"http://{host}:{port}")
    await asyncio.Event().wait()


def kept(url: str) -> tuple[bytes, dict[str, str]]:
    """Return the body of a tile that is hot, and its headers but for those that any server sets itself."""
    for _ in range(2):  # the second time it is hot
        with urlopen(url) as reply:
            body, headers = reply.read(), dict(reply.headers)
    return body, {name: value for name, value in headers.items() if name not in OWN}


@contextmanager
def serving(target: Callable[..., None], *arguments: object) -> Iterator[str]:
    """Run a server in a process of its own; give what it says when it is ready.

    It ends with the block, and where this process is killed by itself.
    """
    fresh = multiprocessing.get_context("spawn")  # this one may have threads
    ours, theirs = fresh.Pipe()
    server = fresh.Process(target=_guarded, args=(target, *arguments, theirs), daemon=True)
    server.start()
    try:
        if not ours.poll(START):
            raise RuntimeError(f"a server did not start within {START} s")
        yield str(ours.recv())
    finally:
        server.terminate()
        server.join(END)
        server.kill()
        server.join()


def _guarded(target: Callable[..., None], *arguments: object) -> None:
    """Run a server until its parent is gone."""
    threading.Thread(target=_follow, daemon=True).start()
    target(*arguments)


def _follow() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


def asked(url: str, seconds: int, script: Path | None = None, connections: int = 8) -> str:
    """Return what ``wrk`` says of connections that ask for ``url``, or for what ``script`` makes of it.

    Raises RuntimeError where an answer was none, or a refusal, and where it does not end.
    """
    words = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--latency", "--timeout", f"{PATIENCE}s"]
    words += [*(["-s", str(script)] if script else []), url]
    said = process.output(words, seconds + PATIENCE)
    if "Non-2xx" in said or "Socket errors" in said:
        raise RuntimeError(said)
    return said


def rate(said: str) -> float:
    """Return the requests per second that ``wrk`` says."""
    return float(re.search(r"Requests/sec:\s*([\d.]+)", said)[1])  # type: ignore[index]


def compared(path: Path, pairs: int, seconds: int) -> dict[str, Any]:
    """Return the figures of a hot tile of the image at ``path``, and of constant bytes."""
    (item,) = walk([path.resolve()])
    tile = f"/item/{item}/tiles/zxy/1/0/0?encoding=PNG"
    with serving(serve_tiles, path) as ours:
        body, headers = kept(ours + tile)
        with serving(serve_constant, body, headers) as theirs:
            rates = [
                (rate(asked(ours + tile, seconds)), rate(asked(theirs + tile, seconds))) for _ in range(pairs)
            ]
    ratios = sorted(a / b for a, b in rates)
    return {
        "bytes": len(body),
        "gputiles_per_s": round(statistics.median(a for a, _ in rates)),
        "constant_per_s": round(statistics.median(b for _, b in rates)),
        "ratio": round(statistics.median(ratios), 2),
        "ratio_range": [round(ratios[0], 2), round(ratios[-1], 2)],
    }


def main() -> None:
    """Print one JSON line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=3)
    arguments = parser.parse_args()
    if shutil.which("wrk") is None:
        sys.exit("wrk is not installed")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "image.tif"
        noise = np.random.default_rng(1).integers(0, 255, (512, 512), np.uint8)
        tifffile.imwrite(path, noise, tile=(256, 256))
        print(json.dumps(compared(path, arguments.pairs, arguments.seconds)))


if __name__ == "__main__":
    main()
