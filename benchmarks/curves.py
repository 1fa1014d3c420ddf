"""Curves: restyled tiles a second in process, against channels and against the side of a tile."""

from __future__ import annotations

import asyncio
import statistics
import time
from typing import Any

import numpy as np

from benchmarks import inputs, restyle
from benchmarks.pairs import WORST, PixelsDiffer
from benchmarks.scope import Scope
from benchmarks.section import Section, number, span
from gputiles import style
from gputiles.config import Config
from gputiles.encoded import Encoding
from gputiles.engine import Engine
from gputiles.request import TileRequest, View
from gputiles.trace import Trace
from gputiles.walk import FileRef

AT_ONCE = 8
WARM = 2  # bursts before the first that counts


def points(scope: Scope) -> list[dict[str, Any]]:
    """Return tiles a second, JPEG q95 4:4:4, 8 requests in flight, at every point of both curves."""
    return [
        *(asyncio.run(_point(scope, "channels", count, 512)) for count in scope.channels),
        *(asyncio.run(_point(scope, "side", 6, side)) for side in scope.sides),
    ]


async def _point(scope: Scope, curve: str, channels: int, side: int) -> dict[str, Any]:
    path = scope.folder / f"curve-{channels}-{side}.ome.tif"
    inputs.multiplex(path, "tissue", channels, side, 1, 1)
    async with Engine(Config()) as engine:
        reference = FileRef(path.resolve(), path.resolve().parent)
        await _check(engine, reference, channels)
        rates = [await _rate(engine, reference, channels, number) for number in range(WARM + scope.bursts)]
    path.unlink()
    rates = sorted(rates[WARM:])
    return {
        "curve": curve,
        "channels": channels,
        "side": side,
        "per_s": round(statistics.median(rates), 1),
        "per_s_range": [round(rates[0], 1), round(rates[-1], 1)],
    }


async def _check(engine: Engine, reference: FileRef, channels: int) -> None:
    """Raise PixelsDiffer unless the tile is large_image's."""
    image = await engine.image(reference)
    ours = (await engine.renderer.tile(image, _request(0, channels), Trace())).data
    theirs = restyle.peer(reference.path, "JPEG", channels)(0)
    worst = int(np.abs(restyle.decoded(ours) - restyle.decoded(theirs)).max())
    if worst > WORST:
        raise PixelsDiffer(f"{channels} channels: worst difference at most {WORST}; got {worst}")


def _request(number: int, channels: int) -> TileRequest:
    look = style.parse(restyle.style(number, channels))
    return TileRequest(0, 0, 0, View(style=look, encoding=Encoding(explicit=True)))


async def _rate(engine: Engine, reference: FileRef, channels: int, number: int) -> float:
    """Return the tiles a second of one burst, each tile in a style of its own."""
    began = time.perf_counter()
    image = await engine.image(reference)
    requests = [_request(1 + number * AT_ONCE + each, channels) for each in range(AT_ONCE)]
    await asyncio.gather(*(engine.renderer.tile(image, request, Trace()) for request in requests))
    return AT_ONCE / (time.perf_counter() - began)


SECTION = Section(
    title="Curves in process",
    note="Restyled tiles a second, JPEG q95 4:4:4, 8 in flight, a new style each; medians of bursts.",
    columns={
        "restyled in process": lambda point: f"{point['channels']} channels, {point['side']}²",
        "tiles/s": number("per_s"),
        "least–most": span("per_s_range"),
    },
    measure=points,
)
