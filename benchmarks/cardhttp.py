"""A card behind HTTP: tiles in random styles, and whole viewports in a new one."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from aiohttp.test_utils import TestClient, TestServer

from gputiles.app import create_app
from gputiles.config import Config

CHANNELS = 8
ACROSS = 8  # tiles of the side that is asked for


@dataclass(frozen=True)
class Served:
    """A client, the address of an image's tiles, their level, and how many lie side by side."""

    client: TestClient[Any, Any]
    base: str
    z: int
    across: int


@dataclass(frozen=True)
class Load:
    """The side of tiles, seconds of a measurement, clients that ask at once, tiles of a viewport.

    ``card_jpegs`` is the setting of that name.
    """

    side: int
    seconds: float
    clients: int
    viewport: int
    card_jpegs: int


def percentiles(taken: list[float]) -> dict[str, Any]:
    """Return what is told of measured milliseconds."""
    p50, p95, p99 = np.percentile(taken, [50, 95, 99])
    return {
        "p50_ms": round(p50, 4),
        "p95_ms": round(p95, 4),
        "p99_ms": round(p99, 4),
        "calls": len(taken),
    }


def style(rng: np.random.Generator) -> dict[str, Any]:
    """Return a style of all channels that hardly anybody had before."""
    lows = rng.integers(0, 500, CHANNELS).tolist()
    return {"bands": [{"frame": c, "min": low, "max": 4000, "palette": "#fa8"} for c, low in enumerate(lows)]}


@asynccontextmanager
async def serving(device: str, load: Load, folder: Path) -> AsyncIterator[Served]:
    """Serve an image.

    Clients run in the server's process and share its interpreter.
    """
    side = load.side * ACROSS
    data = np.random.default_rng(1).poisson(1500, (CHANNELS, side, side)).astype(np.uint16)
    path = folder / "benchmark.ome.tif"
    tifffile.imwrite(path, data, tile=(load.side, load.side), metadata={"axes": "CYX"})
    shelves = {"tile_cache": 1 << 20, "raw_cache": 1 << 28}
    app = create_app(Config(roots=(path,), device=device, card_jpegs=load.card_jpegs, **shelves))
    try:
        async with TestClient(TestServer(app)) as client:
            (item,) = await (await client.get("/item")).json()
            base = f"/item/{item['id']}/tiles"
            told = await (await client.get(base)).json()
            yield Served(client, base, told["levels"] - 1, side // told["tileWidth"])
    finally:
        path.unlink()


async def over_http(device: str, load: Load, folder: Path) -> dict[str, Any]:
    """Return R2 and R1 as a browser sees them."""
    async with serving(device, load, folder) as served:
        return {
            "R2_over_http": await _tiles(served, load),
            "R1_over_http": await _viewports(served, load),
        }


async def _tiles(served: Served, load: Load) -> dict[str, Any]:
    """Ask for tiles in random styles: each client's next request comes after its last answer."""
    taken: list[float] = []

    async def client_of(number: int, until: float) -> None:
        rng = np.random.default_rng(number)
        while time.perf_counter() < until:
            x, y = rng.integers(0, served.across, 2).tolist()
            asked = {"style": json.dumps(style(rng)), "jpegQuality": "80", "jpegSubsampling": "2"}
            began = time.perf_counter()
            response = await served.client.get(f"{served.base}/zxy/{served.z}/{x}/{y}", params=asked)
            await response.read()
            assert response.status == 200, response.status
            taken.append((time.perf_counter() - began) * 1000)

    for seconds in (load.seconds, 5 * load.seconds):  # the first fills the cache
        taken.clear()
        until = time.perf_counter() + seconds
        await asyncio.gather(*(client_of(number, until) for number in range(load.clients)))
    return {
        "tiles_per_s": round(len(taken) / (5 * load.seconds)),
        **percentiles(taken),
        "clients": load.clients,
    }


async def _viewports(served: Served, load: Load) -> dict[str, Any]:
    """Ask for a viewport of resident tiles again and again, each time in a new style, in one request."""
    rng, taken = np.random.default_rng(9), []
    across = served.across
    places = [[served.z, at % across, at // across % across] for at in range(load.viewport)]
    until = time.perf_counter() + 3 * load.seconds
    while time.perf_counter() < until or len(taken) < 3:
        body = {"tiles": places, "style": style(rng), "jpegQuality": 80, "jpegSubsampling": 2}
        began = time.perf_counter()
        response = await served.client.post(f"{served.base}:batch", json=body)
        data = await response.read()
        assert response.status == 200, response.status
        assert len(data) > 12 * load.viewport
        taken.append((time.perf_counter() - began) * 1000)
    return {"tiles": load.viewport, "channels": CHANNELS, **percentiles(taken)}
