"""Cold start: from ``gputiles serve`` to the first tile of a local file, and what was imported for it.

The file and Python's own are in the page cache, and modules are compiled, as those of an installation
are: their bytecode lies in a folder of the run's. Modules are looked at in a start of its own, in which
the interpreter notes every import.
"""

from __future__ import annotations

import os
import re
import statistics
import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from benchmarks import process
from benchmarks.client import filled
from benchmarks.http_load import Drive, drives, engines_tile, fetched, item_of, template
from benchmarks.pairs import PixelsDiffer
from benchmarks.scope import Scope
from benchmarks.section import Section, number, span, text

NEEDED = {"gputiles", "aiohttp", "numpy", "imagecodecs", "click"}  # whatever they cost: no tile without them
THEIRS = {
    "aiohappyeyeballs", "aiosignal", "attr", "frozenlist", "idna", "multidict", "propcache",
    "typing_extensions", "yarl",
}  # fmt: skip
OPTIONAL = {
    "PIL", "cupy", "fsspec", "girder_client", "large_image", "matplotlib", "nvidia", "openslide", "pandas",
    "requests", "scipy", "tifffile", "zarr",
}  # fmt: skip
STARTS = 3  # that note their imports
DEAR = 20.0  # milliseconds, from which on any other package is heavy
LINE = re.compile(r"^import time:\s+(\d+) \|\s+\d+ \|\s*(\S+)", re.MULTILINE)


def rows(scope: Scope) -> list[dict[str, Any]]:
    """Return a row for a tile as it is stored, and one for a styled tile of 6 channels."""
    stored, _, styled = drives(scope.folder, min(scope.slide, 4096))
    names = {"tile as stored": stored, "styled tile of 6 channels": styled}
    return [row(name, drive, scope) for name, drive in names.items()]


def row(name: str, drive: Drive, scope: Scope) -> dict[str, Any]:
    """Return the seconds until the server listens, and until the tile is there. Raises PixelsDiffer."""
    environment = _compiled(scope.folder / "bytecode")
    listening, tile = zip(*(_start(drive, environment) for _ in range(1 + scope.runs)), strict=True)
    found = imports(drive, environment, scope.folder / "imports.txt")
    return {
        "name": name,
        "file": drive.file.split(";")[0],
        "starts": scope.runs,
        "listening_s": round(statistics.median(listening[1:]), 3),
        "first_tile_s": round(statistics.median(tile[1:]), 3),
        "first_tile_range": [round(end(tile[1:]), 3) for end in (min, max)],
        "heavy": heavy(found),
        "dearest": ", ".join(f"{package} {cost:.0f} ms" for package, cost in found.most_common(5)),
    }


def _compiled(folder: Path) -> dict[str, str]:
    """Return an environment in which modules are compiled once, into ``folder``."""
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    return kept | {"PYTHONPYCACHEPREFIX": str(folder)}


def _start(
    drive: Drive, environment: Mapping[str, str], flags: tuple[str, ...] = (), errors: Path | None = None
) -> tuple[float, float]:
    z, expected = engines_tile(drive)
    path = filled(template(drive, item_of(drive), z))
    began = time.perf_counter()
    with process.gputiles(drive.path, flags=flags, errors=errors, environment=environment) as server:
        listening = time.perf_counter() - began
        body = fetched(server.base + path)
        whole = time.perf_counter() - began
    if body != expected:
        raise PixelsDiffer(f"{drive.name}: the first tile is not the engine's")
    return listening, whole


def imports(drive: Drive, environment: Mapping[str, str], said: Path) -> Counter[str]:
    """Return the milliseconds of its imports for every package that a start to the first tile loads.

    Of several starts the least counts, which others' load disturbs least.
    """
    found = []
    for _ in range(STARTS):
        _start(drive, environment, ("-X", "importtime"), said)
        found.append(costs(said.read_text()))
    return least(found)


def least(found: list[Counter[str]]) -> Counter[str]:
    """Return the least cost of every package that any start loaded, of the starts that loaded it."""
    packages = set().union(*found)
    return Counter({name: min(each[name] for each in found if name in each) for name in packages})


def costs(said: str) -> Counter[str]:
    """Return {package: milliseconds} of what the interpreter noted; packages of the language are left out."""
    found: Counter[str] = Counter()
    for package, cost in _lines(said):
        found[package] += cost  # type: ignore[assignment]
    return found


def _lines(said: str) -> Iterator[tuple[str, float]]:
    for cost, module in LINE.findall(said):
        package = module.split(".")[0]
        if package not in sys.stdlib_module_names:
            yield package, int(cost) / 1000


def heavy(found: Counter[str]) -> list[str]:
    """Return the packages that a first tile does not need and that cost much, or are known to."""
    return sorted(
        package
        for package, cost in found.items()
        if package not in NEEDED | THEIRS and (package in OPTIONAL or cost >= DEAR)
    )


SECTION = Section(
    title="Cold start",
    note="From the command to the first tile, medians of starts after one that does not count; files in the "
    "page cache, modules compiled as an installation's are. Heavy: optional packages, and others that take "
    f"{DEAR:.0f} ms or more of imports, beyond {', '.join(sorted(NEEDED))} and what they import.",
    columns={
        "cold start": text("name"),
        "listening s": number("listening_s", 2),
        "first tile s": number("first_tile_s", 2),
        "least–most": span("first_tile_range", 2),
        "heavy, not needed": lambda row: ", ".join(row["heavy"]) or "none",
        "dearest imports": text("dearest"),
    },
    measure=rows,
)
