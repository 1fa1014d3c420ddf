"""Targets: what gputiles should reach on a machine of 2 cores without a card, and what this run found."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from math import ceil, floor
from typing import Any

Report = dict[str, Any]
Found = tuple[str, float, list[float] | None]  # what was measured, its value, its spread
COLUMNS = ("class", "target", "at least", "aim", "found", "spread", "reached")

RECORDS = {"restyle": "R7", "viewport": "R1", "cold": "R4", "slide": "R3", "overview": "R6"}
FORTY = "viewport of 40 channels"


def record(kind: str) -> str:
    """Return the class of a contest by its kind."""
    return "R1-40" if kind == FORTY else RECORDS[kind.split(" ")[0]]


@dataclass(frozen=True)
class Target:
    """What is measured, and the values that it should have: ``aim`` is better than ``least``.

    ``find`` yields what a report has of it: of which picture, the value, its spread.
    """

    record: str  # the class
    name: str
    unit: str
    least: float
    aim: float
    find: Callable[[Report], Iterator[Found]]
    most: bool = False  # whether the values are not to be exceeded

    def reached(self, value: float) -> str:
        """Say whether a value is good enough, or what part or multiple of the least it is."""
        for wanted, word in ((self.aim, "aim"), (self.least, "yes")):
            if value <= wanted if self.most else value >= wanted:
                return word
        away = ceil if self.most else floor  # a miss is never rounded to what was to be reached
        return f"no: {away(100 * value / self.least) / 100:.2f} of it"


def contests(kind: str, output: str, file: str = "") -> Callable[[Report], Iterator[Found]]:
    """Return what finds the ratios of a kind of contest, over files that are called so."""

    def find(report: Report) -> Iterator[Found]:
        for row in report["rows"]:
            if row["class"] == kind and row["output"].startswith(output) and file in row["file"]:
                yield row["picture"], row["ratio"], row["ratio_10_90"]

    return find


def duels(section: str, kind: str) -> Callable[[Report], Iterator[Found]]:
    """Return what finds the ratios of a section's rows of a kind, but for those that are not valid."""

    def find(report: Report) -> Iterator[Found]:
        for row in report["sections"].get(section, {}).get("rows", ()):
            name, _, picture = row["name"].partition(", ")
            if name == kind and row["valid"]:
                yield picture, row["ratio"], row["ratio_range"]

    return find


def sizes(report: Report) -> Iterator[Found]:
    """Find the bytes of PNGs by those of zlib at level 2 with libpng's choice of filters."""
    for row in report["rows"]:
        if row["class"] == "restyle" and row["png_by_level_2"] is not None:
            yield row["picture"], row["png_by_level_2"], None


def outside(report: Report) -> Iterator[Found]:
    """Find the milliseconds of a resident tile that are not the encoder's, in one worker."""
    for stage in report.get("stages", ()):
        if stage["tile"] == "full resolution" and not stage["render"]:
            yield stage["picture"], stage["resident"] - stage["encode"], None


def starts(report: Report) -> Iterator[Found]:
    """Find the seconds to a first tile."""
    for row in report["sections"].get("start", {}).get("rows", ()):
        yield row["name"], row["first_tile_s"], row["first_tile_range"]


TARGETS = (
    Target("R7", "restyle, JPEG, against large_image", "×", 6, 10, contests("restyle", "JPEG")),
    Target("R7", "restyle, JPEG, outside the encoder", " ms", 1, 1, outside, most=True),
    Target("R7", "restyle, PNG, against large_image", "×", 12, 20, contests("restyle", "PNG")),
    Target("R7", "restyle, PNG, size by level 2", "×", 1.1, 1.1, sizes, most=True),
    Target("R1", "viewport, against large_image", "×", 8, 15, contests("viewport", "JPEG")),
    Target("R4", "cold 6-channel tile, against large_image", "×", 4, 7, contests("cold", "JPEG")),
    Target("R3", "cold slide tile, against large_image", "×", 5, 20, contests("slide", "JPEG")),
    Target("R6", "overview of 8192², against large_image", "×", 8, 15, contests("overview", "PNG", "8192²")),
    Target("R5", "hot tiles over HTTP, against Girder", "×", 6, 10, duels("girder", "hot tile")),
    Target("R3", "spread tiles over HTTP, against Girder", "×", 8, 15, duels("girder", "spread tiles")),
    Target("R2", "new styles over HTTP, against Girder", "×", 5, 10, duels("girder", "new styles")),
    Target("R5", "hot tiles, against constant bytes", "×", 0.75, 0.9, duels("constant", "hot tile")),
    Target("–", "cold start to the first tile", " s", 1.5, 0.7, starts, most=True),
)


def cells(report: Report) -> list[tuple[str, ...]]:
    """Return a row of text for every target that was measured."""
    return [_row(target, *found) for target in TARGETS for found in target.find(report)]


def _row(target: Target, what: str, value: float, spread: list[float] | None) -> tuple[str, ...]:
    sign = "≤ " if target.most else ""
    return (
        target.record,
        f"{target.name}, {what}",
        f"{sign}{target.least:g}{target.unit}",
        f"{sign}{target.aim:g}{target.unit}",
        f"{value:.2f}{target.unit}",
        "" if spread is None else "–".join(f"{end:.2f}" for end in spread),
        target.reached(value),
    )
