"""Constant: hot tiles against an aiohttp handler of the same route that returns the same bytes."""

from __future__ import annotations

from typing import Any

from benchmarks import rivals
from benchmarks.client import filled
from benchmarks.hot import kept, serve_constant, serving
from benchmarks.http_load import checked, drives, generator, serve, without_wrk
from benchmarks.scope import Scope
from benchmarks.section import Section

SAME = (0.0, 0)  # mean and worst difference


def rows(scope: Scope) -> list[dict[str, Any]]:
    """Return a row for each picture. Raises PixelsDiffer."""
    return [row(picture, scope) for picture in scope.rivals]


def row(picture: str, scope: Scope) -> dict[str, Any]:
    """Return the row of the hot tile of a slide."""
    drive = next(drives(scope.folder, scope.slide, picture))
    with serving(serve, drive.config) as base:
        path, _ = checked(drive, base)
        body, headers = kept(base + filled(path))
        with serving(serve_constant, body, headers) as other:
            sides = rivals.Side(base, path), rivals.Side(other, path)
            return rivals.duel(drive, f"{drive.name}, {picture}", *sides, scope, SAME)


SECTION = Section(
    title="Hot tiles against constant bytes",
    note="The other server is an aiohttp handler of the same route that returns the same body and headers: "
    f"what the framework alone allows. {rivals.TERMS}",
    columns=rivals.columns("constant bytes"),
    measure=rows,
    absent=without_wrk,
    versions=generator,
)
