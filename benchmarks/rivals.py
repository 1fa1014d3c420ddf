"""Rivals: gputiles and another server, asked the same over HTTP by the same generator, pair by pair."""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from benchmarks.client import FIRST, filled
from benchmarks.hot import rate
from benchmarks.http_load import Drive, ceiling_of, fetched, load, percentiles
from benchmarks.pairs import apart
from benchmarks.scope import Scope
from benchmarks.section import Cell, ceiling, number, span, text

WARM = 1  # pairs before the first that counts
SECOND = "26000"  # the number in another style
PLACES = ((0, 0), (1, 0), (0, 1), (1, 1))
TERMS = (
    "Runs of `wrk` (one thread) over 8 connections, in turns A B A B; warm-up: a pair that does not count. "
    "gputiles is one process with a worker a core. Ratios are those of the pairs; latencies are medians of "
    "the runs. An error or a refusal ends the section."
)


@dataclass(frozen=True)
class Side:
    """A server's address, and the path of a drive's requests there, with @x, @y and @n in it."""

    base: str
    path: str

    def pictures(self, drive: Drive) -> list[bytes]:
        """Return what is compared: tiles of several places, or the tile in two styles."""
        places = PLACES if drive.across > 1 else PLACES[:1]
        numbers = (FIRST,) if drive.style is None else (FIRST, SECOND)
        return [fetched(self.base + filled(self.path, *place, n)) for place in places for n in numbers]


def duel(
    drive: Drive, name: str, ours: Side, theirs: Side, scope: Scope, bounds: tuple[float, int]
) -> dict[str, Any]:
    """Return the row of two servers that are up: pixels compared, both warm, then in turns.

    Raises PixelsDiffer where they differ by more than ``bounds``, in the mean and at worst.
    """
    pictures = ours.pictures(drive)
    found = apart(name, pictures, theirs.pictures(drive), *bounds)
    said = [
        tuple(load(drive, side.base, side.path, turn, scope) for side in (ours, theirs))
        for turn in range(WARM + scope.runs)
    ][WARM:]
    pairs = [(rate(mine), rate(other)) for mine, other in said]
    ratios = sorted(mine / other for mine, other in pairs)
    return {
        "name": name,
        "file": f"{drive.file}; {len(pictures[0])} bytes of gputiles'",
        "connections": 8,
        "pairs": len(pairs),
        "gputiles_per_s": round(statistics.median(mine for mine, _ in pairs), 1),
        "other_per_s": round(statistics.median(other for _, other in pairs), 1),
        "ratio": round(statistics.median(ratios), 2),
        "ratio_range": [round(ratios[0], 2), round(ratios[-1], 2)],
        "gputiles_ms": percentiles([mine for mine, _ in said]),
        "other_ms": percentiles([other for _, other in said]),
        **found,
        **ceiling_of(drive, ours.path, pictures[0], scope, max(map(max, pairs))),
    }


def _latencies(key: str) -> Cell:
    return lambda row: ", ".join(f"{value:.1f}" for value in row[key])


def columns(other: str) -> Mapping[str, Cell]:
    """Return the columns of rows against ``other``."""
    return {
        f"against {other}, 8 connections": text("name"),
        "gputiles/s": number("gputiles_per_s"),
        f"{other}/s": number("other_per_s"),
        "ratio": number("ratio", 2),
        "least–most": span("ratio_range", 2),
        "p50, p95, p99 ms": _latencies("gputiles_ms"),
        f"{other}'s": _latencies("other_ms"),
        "mean, worst difference": lambda row: f"{row['mean_difference']}, {row['worst_difference']}",
        "generator's ceiling": ceiling,
    }
