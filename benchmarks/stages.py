"""Stages: where the time of one cold tile over HTTP goes, one thing after the other, in one worker.

The stages are those of ``Server-Timing``, by the same clocks. HTTP is what a client in a process of its
own waits beyond the total that the answer states: parsing, routing, sockets, and the client itself.
"""

from __future__ import annotations

import asyncio
import json
import statistics
import time
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

from aiohttp import web

import gputiles
from benchmarks import client, inputs, restyle
from benchmarks.http_load import fetched
from benchmarks.pairs import PixelsDiffer
from gputiles.app import SERVER, create_app
from gputiles.backends import RenderJob
from gputiles.cache import Hold
from gputiles.config import Config
from gputiles.engine import Engine
from gputiles.geometry import Rect
from gputiles.images import Image
from gputiles.rasters import Work
from gputiles.state import STATE
from gputiles.trace import Trace
from gputiles.walk import walk

CHANNELS = 6
TILES = {"full resolution": 0, "made of four": 1}  # levels below the finest
STAGES = ("read", "decode", "downsample", "composite", "encode", "render", "queue", "rest", "HTTP")
STYLE = json.dumps(restyle.style(0))
NOTE = (
    "One worker, one reader, one request at a time; stages by the clocks of Server-Timing, channel "
    "after channel, so that none runs beside another. Composite: the same job once more without an "
    "encoder; a card, which does not stop between the two, has a stage render instead. Queue: waiting "
    "for the worker. Rest: the journey's Python, and threads that wake each other, between the stages. "
    "HTTP: what a client in a process of its own waits beyond the total that the answer states. "
    "Resident: that total, of a tile whose rasters are there."
)
AGAIN = 5  # times that a composite is drawn alone
LONG = 60  # seconds that all tiles of a profile take at most


def profile(folder: Path, across: int, pictures: Sequence[str]) -> list[dict[str, Any]]:
    """Return, for each picture and tile, the median milliseconds of every stage of a 6-channel 512² tile.

    A card's render is one stage: it does not stop between composite and encoder. Raises PixelsDiffer
    where the server's tile is not the engine's.
    """
    return [asyncio.run(_profile(folder, picture, tile, across)) for picture in pictures for tile in TILES]


async def _profile(folder: Path, picture: str, tile: str, across: int) -> dict[str, Any]:
    below = TILES[tile]
    path = inputs.multiplex(folder / f"stages-{picture}.ome.tif", picture, CHANNELS, 512, across, across)
    (item, known), side = next(iter(walk([path.resolve()]).items())), max(1, across >> below)
    places = [(x, y) for y in range(side) for x in range(side)]
    async with _serving(path.resolve()) as (base, engine):
        image = await engine.image(known.ref)
        z = image.info.levels - 1 - below
        paths = [f"/item/{item}/tiles/zxy/{z}/{x}/{y}?encoding=JPEG&style={quote(STYLE)}" for x, y in places]
        prepared = [await _prepare(engine, image, z, place) for place in places]
        await asyncio.to_thread(_check, base + paths[0], path, z)
        answers, composites = await _ask(engine, base, paths)
    tiles = [_tile(*each) for each in zip(prepared, answers, composites, strict=True)]
    counted = tiles[1:] or tiles
    names = (*STAGES, "resident")
    stages = {name: round(statistics.median(each[name] for each in counted), 3) for name in names}
    return {"picture": picture, "tile": tile, "tiles": len(counted), **stages}


@asynccontextmanager
async def _serving(path: Path) -> AsyncIterator[tuple[str, Engine]]:
    """Serve ``path`` in this process, with nothing side by side; give the address and the engine."""
    app = create_app(Config(roots=(path,), workers=1, readers=1, tile_cache=0))
    runner = web.AppRunner(app, **SERVER)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        host, port = runner.addresses[0][:2]
        yield f"http://{host}:{port}", app[STATE].engine
    finally:
        await runner.cleanup()


async def _prepare(engine: Engine, image: Image, z: int, place: tuple[int, int]) -> Counter[str]:
    """Get the rasters of a tile, channel after channel, so that no stage runs beside another.

    Only what a tile is made of waits for the worker side by side: that queue is no stage.
    """
    rasters, trace, began = engine.renderer.rasters, Trace(), time.perf_counter()
    with Hold(rasters.shelf) as hold:
        for frame in range(CHANNELS):
            await rasters.take(Work(image, trace), (frame,), z, Rect(*place, 1, 1), hold)
    trace.stages.pop("queue")
    return _with_rest(trace.stages, (time.perf_counter() - began) * 1000)


def _with_rest(stages: dict[str, float], total: float) -> Counter[str]:
    """Return stages with the rest of their total, which nobody clocked."""
    return Counter({**stages, "rest": total - sum(stages.values())})  # type: ignore[dict-item]


def _check(url: str, path: Path, z: int) -> None:
    """Raise PixelsDiffer unless the first tile is the engine's own."""
    with gputiles.open(path) as image:
        expected = image.tile(z, 0, 0, style=STYLE, encoding="JPEG")
    if fetched(url) != expected:
        raise PixelsDiffer("stages: the server's tile is not the engine's")


async def _ask(engine: Engine, base: str, paths: list[str]) -> tuple[list[Counter[str]], list[float | None]]:
    """Return the stages of tiles whose rasters are there, and the milliseconds of their composites alone."""
    jobs: list[RenderJob] = []
    backend: Any = engine.backend
    render = backend.render

    def noting(given: Sequence[RenderJob]) -> Any:
        jobs.extend(given)
        return render(given)

    backend.render = noting
    plan = {"kind": "clocked", "base": base, "connections": 1, "paths": paths}
    said = await asyncio.to_thread(client.run, plan, LONG)
    with ThreadPoolExecutor(1) as thread:
        alone = [await asyncio.wrap_future(thread.submit(_alone, backend, job)) for job in jobs]
    return [over_http(**answer) for answer in said["answers"]], alone


def over_http(ms: float, timing: str) -> Counter[str]:
    """Return the stages of an answer, the rest of its total, and what its client waited beyond.

    ``resident`` is the total: what a tile takes whose rasters are there.
    """
    stages = client.clocks(timing)
    total = stages.pop("total")
    found = _with_rest(stages, total)
    found.update({"HTTP": ms - total, "resident": total})  # type: ignore[arg-type]
    return found


def _alone(backend: Any, job: RenderJob) -> float | None:
    """Return the milliseconds of a composite without an encoder, where the backend can tell."""
    if not hasattr(backend, "composite"):
        return None
    return min(restyle.timed(lambda _: backend.composite(job), range(1)) for _ in range(AGAIN))


def _tile(prepared: Counter[str], answer: Counter[str], composite: float | None) -> Counter[str]:
    """Return all stages of a tile; what a render takes beyond its composite is the encoder's."""
    found = prepared.copy()
    found.update(answer)
    if composite is not None:
        split = {"composite": composite, "encode": found.pop("render") - composite}
        found.update(split)  # type: ignore[arg-type]
    return found
