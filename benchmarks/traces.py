"""Traces: what viewers do, as data: which tiles of which look are shown from when on.

Drawn with a fixed seed for an image of channels and planes, level 0 being the coarsest. ``python -m
benchmarks.traces FOLDER`` writes those of the full run as JSON.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.scope import Scope

HZ = 60  # moves of a mouse in a second
SCREEN = (1280, 800)  # pixels of the viewer
SEED = 11


@dataclass(frozen=True)
class Grid:
    """The image that is looked at: a square of ``side``, a power of two tiles across."""

    side: int
    channels: int = 4
    planes: int = 6
    tile: int = 256

    @property
    def finest(self) -> int:
        """Return the level of full resolution."""
        return (self.side // self.tile - 1).bit_length()

    def box(self, z: int, x: float, y: float) -> tuple[int, int, int, int]:
        """Return the first and last column and row of tiles on a screen around a full-resolution point."""
        most, scale = max(1, self.side // self.tile >> self.finest - z), 2.0 ** (z - self.finest)
        ends = [
            int(min(max((middle * scale + way * length / 2) // self.tile, 0), most - 1))
            for way in (-1, 1)
            for middle, length in zip((x, y), SCREEN, strict=True)
        ]
        return ends[0], ends[1], ends[2], ends[3]


@dataclass(frozen=True)
class Look:
    """Which channels are on, the upper end of their windows, the plane."""

    on: tuple[int, ...]
    top: float = 12_000
    plane: int = 0


@dataclass(frozen=True)
class Event:
    """From ``at`` (seconds) on a level's tiles are shown: first column and row, last column and row."""

    at: float
    z: int
    box: tuple[int, int, int, int]
    look: Look


@dataclass(frozen=True)
class Trace:
    """A session of a viewer; its name says what is done."""

    name: str
    grid: Grid
    events: tuple[Event, ...]


Drawn = Iterator[Event]
Drawer = Callable[[Grid, float, np.random.Generator], Drawn]


def pan(grid: Grid, seconds: float, random: np.random.Generator) -> Drawn:
    """Drag the image at full resolution, in another direction every half second."""
    x, y = grid.side / 2, grid.side / 2
    step_x, step_y = 0.0, 0.0
    for move in range(int(seconds * HZ)):
        if move % (HZ // 2) == 0:
            angle = random.uniform(0, 2 * math.pi)
            step_x, step_y = 20 * math.cos(angle), 20 * math.sin(angle)
        x, y = (min(max(each, 0), grid.side) for each in (x + step_x, y + step_y))
        yield Event(move / HZ, grid.finest, grid.box(grid.finest, x, y), _all_on(grid))


def zoom(grid: Grid, seconds: float, random: np.random.Generator) -> Drawn:
    """Go from the whole image to full resolution and back, a level every quarter second."""
    x, y = random.uniform(0.25, 0.75, 2) * grid.side
    levels = [*range(grid.finest + 1), *range(grid.finest - 1, 0, -1)]
    for step in range(int(seconds * 4)):
        z = levels[step % len(levels)]
        yield Event(step / 4, z, grid.box(z, x, y), _all_on(grid))


def drag(grid: Grid, seconds: float, random: np.random.Generator) -> Drawn:
    """Drag the upper end of all windows, with a new look at every move of the mouse."""
    box, phase = grid.box(grid.finest, grid.side / 2, grid.side / 2), random.uniform(0, 6)
    for move in range(int(seconds * HZ)):
        top = round(12_000 + 6_000 * math.sin(phase + move / 20)) + move / 10_000  # no two looks alike
        yield Event(move / HZ, grid.finest, box, Look(tuple(range(grid.channels)), top))


def toggle(grid: Grid, seconds: float, random: np.random.Generator) -> Drawn:
    """Switch a channel off or on, every 0.4 seconds."""
    box, on = grid.box(grid.finest, grid.side / 2, grid.side / 2), set(range(grid.channels))
    for step in range(int(seconds / 0.4)):
        yield Event(step * 0.4, grid.finest, box, Look(tuple(sorted(on))))
        on ^= {int(random.integers(grid.channels))}
        on = on or {0}


def scrub(grid: Grid, seconds: float, random: np.random.Generator) -> Drawn:
    """Go through the planes to and fro, ten in a second."""
    box = grid.box(grid.finest, grid.side / 2, grid.side / 2)
    planes = [*range(grid.planes), *range(grid.planes - 2, 0, -1)]
    first = int(random.integers(len(planes)))
    for step in range(int(seconds * 10)):
        plane = planes[(first + step) % len(planes)]
        yield Event(step / 10, grid.finest, box, Look(tuple(range(grid.channels)), plane=plane))


def _all_on(grid: Grid) -> Look:
    return Look(tuple(range(grid.channels)))


DRAWERS: dict[str, Drawer] = {"pan": pan, "zoom": zoom, "drag": drag, "toggle": toggle, "scrub": scrub}


def draw(name: str, grid: Grid, seconds: float) -> Trace:
    """Return the trace of that name: always the same for the same grid and length."""
    return Trace(name, grid, tuple(DRAWERS[name](grid, seconds, np.random.default_rng(SEED))))


def as_json(trace: Trace) -> str:
    """Return a trace as text that ``from_json`` reads."""
    return json.dumps(asdict(trace))


def from_json(text: str) -> Trace:
    """Return the trace that a text holds."""
    found: dict[str, Any] = json.loads(text)
    events = tuple(
        Event(each["at"], each["z"], tuple(each["box"]), Look(tuple(each["look"].pop("on")), **each["look"]))
        for each in found["events"]
    )
    return Trace(found["name"], Grid(**found["grid"]), events)


def write(folder: Path) -> None:
    """Write the traces of a full run."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in DRAWERS:
        (folder / f"{name}.json").write_text(as_json(draw(name, Grid(2048), Scope(Path(), 1).traced)) + "\n")


def main() -> None:
    """Write them into the folder that the command line names."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.traces", description=__doc__)
    parser.add_argument("folder", type=Path, help="where they are written")
    write(parser.parse_args().folder)


if __name__ == "__main__":
    main()
