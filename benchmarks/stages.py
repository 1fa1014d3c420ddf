"""Stages: where the time of one cold tile goes, one thing after the other, in one worker."""

from __future__ import annotations

import asyncio
import statistics
import time
from pathlib import Path

from benchmarks import inputs, restyle
from gputiles import style
from gputiles.cache import Hold
from gputiles.config import Config
from gputiles.encoded import Encoding
from gputiles.engine import Engine
from gputiles.geometry import Rect
from gputiles.rasters import Work
from gputiles.request import TileRequest, View
from gputiles.trace import Trace
from gputiles.walk import FileRef

STAGES = {"read": "read", "decode": "decode", "render": "composite + encode"}
VIEW = View(style=style.parse(restyle.style(0)), encoding=Encoding(explicit=True))


def profile(folder: Path, across: int) -> list[dict[str, object]]:
    """Return, for each picture, the median milliseconds of every stage of a 6-channel 512² tile."""
    return [asyncio.run(_profile(folder, picture, across)) for picture in inputs.PICTURES]


async def _profile(folder: Path, picture: str, across: int) -> dict[str, object]:
    path = inputs.multiplex(folder / f"stages-{picture}.ome.tif", picture, 6, 512, across, across).resolve()
    async with Engine(Config(workers=1, readers=1)) as engine:
        places = [(x, y) for y in range(across) for x in range(across)]
        tiles = [await _tile(engine, FileRef(path, path.parent), place) for place in places]
    stages = {name: statistics.median(tile[name] for tile in tiles[1:]) for name in tiles[0]}
    return {"picture": picture, "tiles": len(tiles) - 1} | {k: round(v, 3) for k, v in stages.items()}


async def _tile(engine: Engine, reference: FileRef, place: tuple[int, int]) -> dict[str, float]:
    """Render one tile, channel after channel, so that no stage runs beside another."""
    began = time.perf_counter()
    image, trace = await engine.image(reference), Trace()
    z = image.info.levels - 1
    with Hold(engine.renderer.rasters.shelf) as hold:
        for frame in range(6):
            await engine.renderer.rasters.take(Work(image, trace), (frame,), z, Rect(*place, 1, 1), hold)
        await engine.renderer.tile(image, TileRequest(z, *place, VIEW), trace)
    whole = (time.perf_counter() - began) * 1000
    found = {title: trace.stages[stage] for stage, title in STAGES.items()}
    return {**found, "rest": whole - sum(found.values())}
