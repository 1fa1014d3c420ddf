"""A section of the report: rows of a kind that no baseline knows, and how they are told."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from benchmarks.scope import Scope

Row = dict[str, Any]
Cell = Callable[[Row], str]


def always() -> None:
    """Say that nothing is missing."""


@dataclass(frozen=True)
class Section:
    """What is measured, and its table.

    ``columns`` give a row's cells by their titles; ``note`` says how the rows came about. ``absent``
    gives the reason why nothing can be measured here, or None.
    """

    title: str
    note: str
    columns: Mapping[str, Cell]
    measure: Callable[[Scope], list[Row]]
    absent: Callable[[], str | None] = always
    versions: Callable[[], dict[str, str]] = dict  # of programs that only this section uses

    def cells(self, rows: list[Row]) -> list[tuple[str, ...]]:
        """Return the rows of the table as text, without its titles."""
        return [tuple(cell(row) for cell in self.columns.values()) for row in rows]


def text(key: str) -> Cell:
    """Return a cell that shows a value as it is."""
    return lambda row: str(row[key])


def number(key: str, digits: int = 0) -> Cell:
    """Return a cell that shows a number; a dash stands for None."""
    return lambda row: "–" if row[key] is None else f"{row[key]:.{digits}f}"


def span(key: str, digits: int = 0) -> Cell:
    """Return a cell that shows a pair of numbers as a range."""
    return lambda row: "–".join(f"{end:.{digits}f}" for end in row[key])


def ceiling(row: Row) -> str:
    """Return the cell of the load generator's ceiling, and whether the row is too near to it."""
    return f"{row['generator_per_s']:.0f}" + ("" if row["valid"] else ", too near: invalid")
