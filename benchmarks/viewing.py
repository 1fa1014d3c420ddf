"""Viewing: traces of viewers, replayed over HTTP by the open-loop client.

Each is replayed twice by one server: the first time reads and decodes, the second, which counts, has
other looks of the same tiles.
"""

from __future__ import annotations

import itertools
import json
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
import tifffile

import gputiles
from benchmarks import client, inputs
from benchmarks.hot import serving
from benchmarks.http_load import fetched, serve
from benchmarks.openloop import errors
from benchmarks.pairs import PixelsDiffer
from benchmarks.restyle import COLOURS
from benchmarks.scope import Scope
from benchmarks.section import Section, number, text
from benchmarks.traces import DRAWERS, Event, Grid, Look, Trace, as_json, draw, from_json
from gputiles.config import Config
from gputiles.walk import walk

CONNECTIONS = 6  # of a browser to one server
PLAIN = "/item/{item}/tiles/zxy/@z/@x/@y?encoding=JPEG&jpegQuality=90&style={style}"


def rows(scope: Scope) -> list[dict[str, Any]]:
    """Return a row a trace."""
    grid = Grid(max(512, scope.slide // 4))
    path = write(scope.folder / "viewing.ome.tif", grid)
    found = [row(draw(name, grid, scope.traced), path) for name in DRAWERS]
    path.unlink()
    return found


def write(path: Path, grid: Grid) -> Path:
    """Write what is looked at: tissue, every plane another part of it; full resolution only."""
    side = min(grid.side, 1024)
    tissue = inputs.planes("tissue", grid.channels, side)
    planes = [np.roll(tissue, 64 * plane, axis=1) for plane in range(grid.planes)]
    data = np.tile(np.stack(planes), (1, 1, grid.side // side, grid.side // side))
    tile: dict[str, Any] = {"tile": (grid.tile, grid.tile), "compression": "zlib"}
    tifffile.imwrite(path, data, metadata={"axes": "ZCYX"}, **tile)
    return path


def row(trace: Trace, path: Path) -> dict[str, Any]:
    """Return the row of a trace over the file at ``path``. Raises PixelsDiffer."""
    kept = from_json(as_json(trace))  # what is replayed is what the file of a trace would hold
    with serving(serve, Config(roots=(path.resolve(),), port=0)) as base:
        (item,) = walk([path.resolve()])
        check(base, item, kept, path)
        client.run(plan(base, item, altered(kept)), lasting(kept))
        found = client.run(plan(base, item, kept), lasting(kept))
    return {"name": trace.name, "events": len(trace.events), **found}


def lasting(trace: Trace) -> float:
    """Return the seconds from the first event to the last."""
    return trace.events[-1].at


def altered(trace: Trace) -> Trace:
    """Return the trace in looks that it does not have itself."""
    events = (replace(each, look=replace(each.look, top=each.look.top + 20_000)) for each in trace.events)
    return replace(trace, events=tuple(events))


def style(look: Look, grid: Grid) -> str:
    """Return a look as JSON."""
    bands = [
        {"frame": look.plane * grid.channels + c, "min": 100, "max": look.top, "palette": COLOURS[c]}
        for c in look.on
    ]
    return json.dumps({"bands": bands}, separators=(",", ":"))


def plan(base: str, item: str, trace: Trace) -> dict[str, Any]:
    """Return what the client is to do: the looks' paths, with @z, @x, @y in them, and the views."""
    looks = list(dict.fromkeys(event.look for event in trace.events))
    return {
        "kind": "events",
        "base": base,
        "connections": CONNECTIONS,
        "looks": [PLAIN.format(item=item, style=quote(style(look, trace.grid))) for look in looks],
        "events": [
            {"at": event.at, "look": looks.index(event.look), "tiles": tiles(event)} for event in trace.events
        ],
    }


def tiles(event: Event) -> list[tuple[int, int, int]]:
    """Return (z, x, y) of all tiles of a view."""
    left, top, right, bottom = event.box
    return [(event.z, x, y) for y, x in itertools.product(range(top, bottom + 1), range(left, right + 1))]


def check(base: str, item: str, trace: Trace, path: Path) -> None:
    """Raise PixelsDiffer unless the first tile of the trace is the engine's own."""
    event = trace.events[0]
    z, x, y = tiles(event)[0]
    asked = PLAIN.format(item=item, style=quote(style(event.look, trace.grid))).replace("@z", str(z))
    with gputiles.open(path) as image:
        expected = image.tile(z, x, y, style=style(event.look, trace.grid), encoding="JPEG", quality=90)
    if fetched(base + client.filled(asked, x, y)) != expected:
        raise PixelsDiffer(f"{trace.name}: the server's tile is not the engine's")


SECTION = Section(
    title="Viewers' traces",
    note="Tiles of 4 channels on a screen of 1280 × 800, over 6 connections as browsers have them; decoded "
    "tiles are resident from a first replay in other looks. A view that is no longer wanted is given up, "
    "with its connections. Whole: from the wish for a view to its last tile, of those views that became so.",
    columns={
        "trace": text("name"),
        "views": number("views"),
        "whole": number("whole"),
        "p50 ms": number("whole_p50_ms", 1),
        "p95 ms": number("whole_p95_ms", 1),
        "tiles": number("done"),
        "tile p50 ms": number("p50_ms", 1),
        "p95 ms ": number("p95_ms", 1),
        "p99 ms": number("p99_ms", 1),
        "given up": number("given_up"),
        "errors": errors,
    },
    measure=rows,
)
