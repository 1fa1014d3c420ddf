"""Scaling: tiles a second over HTTP against connections, channels, a tile's side and a file's size."""

from __future__ import annotations

import statistics
from dataclasses import replace
from typing import Any

from benchmarks.client import FIRST
from benchmarks.hot import rate, serving
from benchmarks.http_load import (
    PARTS,
    PICTURE,
    Drive,
    ceiling_of,
    checked,
    drives,
    engines_tile,
    generator,
    load,
    new_styles,
    percentiles,
    serve,
    without_wrk,
)
from benchmarks.pairs import MEAN, WORST, apart
from benchmarks.restyle import peers_tile
from benchmarks.scope import Scope
from benchmarks.section import Section, ceiling, number, span, text

MIB = 2**20
CURVES = {
    "connections": "connections",
    "channels": "channels of a 512² tile",
    "side": "side of a tile of 6 channels",
    "mib": "size of the file, MiB",
}
RUNS, SECONDS = 3, 2  # at most, of a point: there are many


def rows(scope: Scope) -> list[dict[str, Any]]:
    """Return the points of all curves. Raises PixelsDiffer."""
    scope = replace(scope, runs=min(scope.runs, RUNS), seconds=min(scope.seconds, SECONDS))
    return [*by_connections(scope), *by_channels(scope), *by_side(scope), *by_size(scope)]


def by_connections(scope: Scope) -> list[dict[str, Any]]:
    """Return points of the hot tile, and of new styles."""
    hot, _, styled = drives(scope.folder, min(scope.slide, 4096))
    return [
        point | {"curve": "connections"}
        for drive in (hot, styled)
        for point in _points(drive, scope, scope.connections)
    ]


def by_channels(scope: Scope) -> list[dict[str, Any]]:
    """Return points of new styles of as many channels, 8 connections."""
    return [
        _styled(scope, channels, 512) | {"curve": "channels", "channels": channels}
        for channels in scope.channels
    ]


def by_side(scope: Scope) -> list[dict[str, Any]]:
    """Return points of new styles of tiles of several sides, 8 connections."""
    return [_styled(scope, 6, side) | {"curve": "side", "side": side} for side in scope.sides]


def _styled(scope: Scope, channels: int, side: int) -> dict[str, Any]:
    """Return a point of new styles, whose first is drawn as large_image does."""
    drive = new_styles(scope.folder, PICTURE, channels, side)
    assert drive.style is not None
    _, ours = engines_tile(drive)
    apart(drive.file, [ours], [peers_tile(drive.path, drive.style.replace("@n", FIRST))], MEAN, WORST)
    (point,) = _points(drive, scope, (8,))
    drive.path.unlink()
    return point


def by_size(scope: Scope) -> list[dict[str, Any]]:
    """Return points of tiles spread over slides of several sizes, 8 connections."""
    found = []
    for side in scope.slides:
        _, spread, _ = drives(scope.folder, side)
        (point,) = _points(spread, scope, (8,))
        found.append(point | {"curve": "mib", "mib": round(spread.path.stat().st_size / MIB, 3)})
        spread.path.unlink()
    return found


def _points(drive: Drive, scope: Scope, connections: tuple[int, ...]) -> list[dict[str, Any]]:
    """Return a point for each number of connections. Raises PixelsDiffer."""
    with serving(serve, drive.config) as base:
        path, body = checked(drive, base)
        load(drive, base, path, len(connections) * scope.runs, scope)  # warm-up
        said = {
            count: [
                load(drive, base, path, turn * scope.runs + run, scope, count) for run in range(scope.runs)
            ]
            for turn, count in enumerate(connections)
        }
    return [_point(drive, path, count, each, body, scope) for count, each in said.items()]


def _point(drive: Drive, path: str, count: int, said: list[str], body: bytes, scope: Scope) -> dict[str, Any]:
    rates = sorted(map(rate, said))
    return {
        "name": drive.name,
        "served": drive.file,
        "connections": count,
        "per_s": round(statistics.median(rates), 1),
        "per_s_range": [round(rates[0], 1), round(rates[-1], 1)],
        **{f"p{part}_ms": value for part, value in zip(PARTS, percentiles(said), strict=True)},
        **ceiling_of(drive, path, body, scope, rates[-1], count),
    }


SECTION = Section(
    title="Scaling over HTTP",
    note=f"Closed loops of `wrk`, at most {RUNS} of {SECONDS} s for each point; warm-up: a run over 8 "
    f"connections before the first point of a server. The picture is {PICTURE}. First answers were compared "
    "with the engine's own, and those of other channels and sides with large_image's.",
    columns={
        "scaling over HTTP": text("name"),
        "file": lambda row: row["served"].split(";")[0] + (f", {row['mib']:.3g} MiB" if "mib" in row else ""),
        "connections": number("connections"),
        "tiles/s": number("per_s"),
        "least–most": span("per_s_range"),
        "p50 ms": number("p50_ms", 2),
        "p95 ms": number("p95_ms", 2),
        "p99 ms": number("p99_ms", 2),
        "generator's ceiling": ceiling,
    },
    measure=rows,
    absent=without_wrk,
    versions=generator,
)
