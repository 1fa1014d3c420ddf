"""Open loop: requests at a fixed rate, whatever the server does, so that queueing shows.

The rates are shares of what the same client gets in a closed loop of 8 connections just before.
"""

from __future__ import annotations

from typing import Any

from benchmarks import client
from benchmarks.hot import serving
from benchmarks.http_load import Drive, checked, drives, judged, serve, serve_bare
from benchmarks.scope import Scope
from benchmarks.section import Row, Section, ceiling, number, text

MOST = 256  # connections of an open loop
LATE = 20.0  # milliseconds; a fourth of the 99th percentile where that is more
TURN = 10_000_000  # numbers of requests between the first ones of two runs


def rows(scope: Scope) -> list[dict[str, Any]]:
    """Return a row for each drive and rate."""
    return [row for drive in drives(scope.folder, scope.slide) for row in of_drive(drive, scope)]


def of_drive(drive: Drive, scope: Scope) -> list[dict[str, Any]]:
    """Return the rows of a drive, the lowest rate first. Raises PixelsDiffer."""
    with serving(serve, drive.config) as base:
        path, body = checked(drive, base)
        reached = run(closed_plan(drive, base, path, scope), scope)["per_s"]
        rates = [share * reached for share in scope.shares]
        found = [
            run(rate_plan(drive, base, path, rate, turn, scope), scope) for turn, rate in enumerate(rates, 1)
        ]
    with serving(serve_bare, body) as base:
        most = run(closed_plan(drive, base, path, scope), scope)["per_s"]
    return [row(drive, rate, most, each) for rate, each in zip(rates, found, strict=True)]


def closed_plan(drive: Drive, base: str, path: str, scope: Scope) -> dict[str, Any]:
    """Return the plan of a closed loop of 8 connections."""
    return _plan(drive, base, path, 0, scope) | {"kind": "closed", "connections": 8}


def rate_plan(drive: Drive, base: str, path: str, rate: float, turn: int, scope: Scope) -> dict[str, Any]:
    """Return the plan of a fixed rate; no two turns ask for the same styles."""
    return _plan(drive, base, path, turn, scope) | {"kind": "rate", "rate": rate, "connections": MOST}


def _plan(drive: Drive, base: str, path: str, turn: int, scope: Scope) -> dict[str, Any]:
    return {
        "base": base,
        "path": path,
        "across": drive.across,
        "begin": turn * TURN,
        "seconds": scope.seconds,
    }


def run(plan: dict[str, Any], scope: Scope) -> dict[str, Any]:
    """Carry out a plan."""
    return client.run(plan, client.WARM + scope.seconds)


def row(drive: Drive, rate: float, most: float, found: dict[str, Any]) -> dict[str, Any]:
    """Return the row of a rate."""
    return {
        "name": drive.name,
        "offered_per_s": round(rate, 1),
        **found,
        **judged(most, rate),
        "on_time": on_time(found),
    }


def on_time(found: dict[str, Any]) -> bool:
    """Say whether the generator's own delay is small beside the times that it measured."""
    late, took = found["late_p99_ms"], found["p99_ms"]
    return late is not None and late <= max(LATE, (took or 0) / 4)


def lateness(row: Row) -> str:
    """Return the cell of the generator's own delay, and whether the row is the generator's for it."""
    return number("late_p99_ms", 2)(row) + ("" if row["on_time"] else ", generator late: invalid")


def errors(row: Row) -> str:
    """Return the cell of what went wrong."""
    return ", ".join(f"{count} × {name}" for name, count in row["errors"].items()) or "0"


SECTION = Section(
    title="Open loop",
    note=f"Requests at a fixed rate from a process of its own, over up to {MOST} connections; times from "
    f"when each was due. Warm-up: {client.WARM:.0f} s at the same rate. Late: from due to sent, the "
    "generator's own delay; its ceiling is what it gets of a server that does nothing.",
    columns={
        "open loop": text("name"),
        "offered/s": number("offered_per_s"),
        "done/s": number("per_s"),
        "p50 ms": number("p50_ms", 2),
        "p95 ms": number("p95_ms", 2),
        "p99 ms": number("p99_ms", 2),
        "errors": errors,
        "late p99 ms": lateness,
        "generator's ceiling": ceiling,
    },
    measure=rows,
)
