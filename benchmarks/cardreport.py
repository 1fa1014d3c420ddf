"""What is told of a measured card: aims and whether they were reached, versions, tables."""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterator
from importlib.metadata import PackageNotFoundError, version
from typing import Any, NamedTuple

from gputiles.doctor import LIBRARIES, OPTIONAL

Results = dict[str, Any]
BESIDE = ("nvidia-nvtiff-cu13", "nvidia-nvtiff-cu12", "nvidia-nvcomp-cu13", "nvidia-nvcomp-cu12")
"""Libraries that are measured, and that the product does not use."""


class Aim(NamedTuple):
    """What an H100 should reach: at most, or at least, ``wanted``; ``find`` yields what was found."""

    name: str
    wanted: float
    find: Callable[[Results], Iterator[float]]
    least: bool = False


def _rows(title: str, key: str, **like: Any) -> Callable[[Results], Iterator[float]]:
    """Return what finds the values of the rows of a table that have other values as given."""

    def find(results: Results) -> Iterator[float]:
        for row in results[title]:
            if all(row[name] == value for name, value in like.items()):
                yield row[key]

    return find


def _shares(results: Results) -> Iterator[float]:
    """Yield the composite's shares of the copy bandwidth, of few bands."""
    return (row["share_of_copy"] for row in results["composite_against_copy"] if row["bands"] <= 4)


AIMS = (
    Aim("composite of 1 … 4 bands, share of a copy's bandwidth", 0.7, _shares, least=True),
    Aim("R1, p50 ms", 4.0, _rows("R1_viewports", "p50_ms", tiles=40, channels=8)),
    Aim("R1, p99 ms", 16.7, _rows("R1_viewports", "p99_ms", tiles=40, channels=8)),
    Aim("R1-40, p99 ms", 33.0, _rows("R1_viewports", "p99_ms", tiles=40, channels=40)),
    Aim("PNG batch of 64, p50 ms", 1.0, _rows("batches", "p50_ms", tiles=64, encoding="PNG")),
    Aim("R1 over HTTP, p50 ms", 16.7, lambda results: iter([results["R1_over_http"]["p50_ms"]])),
    Aim(
        "R2, tiles a second",
        30_000,
        lambda results: iter([results["R2_without_http_tiles_per_s"]]),
        least=True,
    ),
    Aim(
        "R2 over HTTP, tiles a second",
        5000,
        lambda results: iter([results["R2_over_http"]["tiles_per_s"]]),
        True,
    ),
    Aim("all of this, seconds", 480.0, lambda results: iter([results["seconds"]])),
)


def aims(results: Results) -> list[dict[str, Any]]:
    """Return each aim that was measured, the worst of what was found, and whether that reaches it."""
    told = []
    for aim in AIMS:
        found = list(aim.find(results))
        if found:
            worst = min(found) if aim.least else max(found)
            reached = bool(worst >= aim.wanted if aim.least else worst <= aim.wanted)
            sign = "≥" if aim.least else "≤"
            told.append(
                {"aim": aim.name, "wanted": f"{sign} {aim.wanted}", "found": worst, "reached": reached}
            )
    return told


def versions() -> dict[str, str]:
    """Return what was measured with; what is not installed is left out."""
    found = {"python": platform.python_version(), "machine": platform.machine()}
    for name in ("gputiles", *LIBRARIES, *OPTIONAL, *BESIDE):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def markdown(results: Results) -> str:
    """Return the results as tables."""
    text = [f"# {results['card']['card']}", ""]
    for title, found in results.items():
        rows = found if isinstance(found, list) else [found if isinstance(found, dict) else {title: found}]
        names = list(dict.fromkeys(name for row in rows for name in row))
        text += [f"## {title.replace('_', ' ')}", "", f"| {' | '.join(names)} |", "|---" * len(names) + "|"]
        text += [f"| {' | '.join(str(row.get(name, '')) for name in names)} |" for row in rows] + [""]
    return "\n".join(text)
