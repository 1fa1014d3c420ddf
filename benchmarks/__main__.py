"""Measure gputiles against large_image: ``python -m benchmarks [--quick] [--out FOLDER] [--only CLASS …]``.

Prints a table, writes report.json, report.md and (where matplotlib is) plots into FOLDER, and says
what got slower than the baseline. Needs the extra ``bench``.
"""

from __future__ import annotations

import argparse
import signal
import sys
import tempfile
import traceback
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

if missing := [
    name
    for name in (*(f"large_image_source_{kind}" for kind in ("ometiff", "tiff", "tifffile")), "PIL")
    if not find_spec(name)
]:
    sys.exit(f"not installed: {', '.join(missing)}; needs the extra 'bench'")

from benchmarks import gate, inputs, report, restyle, stages, traces
from benchmarks.classes import CLASSES, FURTHER
from benchmarks.pairs import PixelsDiffer, measure
from benchmarks.scope import FULL, MODES, QUICK, TINY, Scope
from benchmarks.section import Section
from benchmarks.sections import SECTIONS


def arguments(words: list[str] | None = None) -> argparse.Namespace:
    """Return what the command line asks for."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__.splitlines()[0])
    size = parser.add_mutually_exclusive_group()
    size.add_argument("--quick", dest="mode", action="store_const", const=QUICK, help="under a minute")
    size.add_argument("--tiny", dest="mode", action="store_const", const=TINY, help="is it known to run?")
    parser.add_argument("--pairs", type=int, help="pairs of every row")
    parser.add_argument("--out", type=Path, default=Path("build/bench"), help="folder of the report")
    every = [*CLASSES, *FURTHER, *SECTIONS]
    parser.add_argument("--only", nargs="+", choices=every, metavar="CLASS", help=", ".join(every))
    parser.add_argument("--baseline", action="store_true", help="make this run the baseline")
    parser.set_defaults(mode=FULL)
    asked = parser.parse_args(words)
    asked.only = asked.only or (every if asked.mode == FULL else list(CLASSES))
    if asked.baseline and (asked.mode != QUICK or not CLASSES.keys() <= set(asked.only)):
        parser.error("--baseline: the baseline is a whole quick run")
    if asked.pairs is not None and asked.pairs < 1:
        parser.error(f"--pairs: at least 1; got {asked.pairs}")
    return asked


def rows(scope: Scope, names: list[str]) -> list[dict[str, Any]]:
    """Measure the classes, one contest after the other."""
    found = []
    classes = CLASSES | FURTHER
    for name in filter(classes.get, names):
        for picture in scope.pictures:
            for contest in classes[name](scope, picture):
                tell(f"measuring {contest.name} ...")
                found.append(measure(contest, scope.pairs))
    return found


def measured(asked: argparse.Namespace, command: str) -> dict[str, Any]:
    """Return the report of a run."""
    found = report.circumstances(asked.mode, command)
    with tempfile.TemporaryDirectory() as folder:
        scope = replace(MODES[asked.mode], folder=Path(folder), engine=restyle.few_answers())
        scope = replace(scope, pairs=asked.pairs or scope.pairs)
        if asked.mode == FULL:
            scope = replace(scope, pictures=inputs.pictures(), rivals=inputs.pictures())
        found["pictures"] = {name: inputs.ABOUT[name] for name in scope.pictures}
        found["rows"] = rows(scope, asked.only)
        found["stages"] = stages.profile(scope.folder, scope.profiled, scope.pictures)
        found["sections"] = {name: part(SECTIONS[name], scope) for name in asked.only if name in SECTIONS}
    found["gate"] = gate.compare(found)
    return found


def part(section: Section, scope: Scope) -> dict[str, Any]:
    """Return the rows of a section, or why there are none; what fails does not cost the others' rows."""
    if reason := section.absent():
        tell(f"not measured: {section.title}: {reason}")
        return {"absent": reason, "rows": []}
    tell(f"measuring {section.title} ...")
    try:
        return {"versions": section.versions(), "rows": section.measure(scope)}
    except Exception as error:  # whatever it is: a browser's, a server's, ours
        traceback.print_exception(error)
        return {"absent": f"it failed: {type(error).__name__}: {error}", "failed": True, "rows": []}


def tell(text: str) -> None:
    """Say what goes on, beside the output."""
    print(text, file=sys.stderr, flush=True)


def plotted(found: dict[str, Any], folder: Path) -> list[str]:
    """Draw the plots where matplotlib is installed; return their names."""
    if find_spec("matplotlib") is None:
        tell("no plots: matplotlib is not installed (extra 'bench')")
        return []
    from benchmarks import plots

    return plots.draw(found, folder)


def main() -> None:
    """Measure, print and write."""
    asked = arguments()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # servers are ended on the way out
    sys.setswitchinterval(0.001)  # as the server does
    try:
        found = measured(asked, " ".join(["python -m benchmarks", *sys.argv[1:]]))
    except PixelsDiffer as error:
        sys.exit(f"not measured: {error}")
    asked.out.mkdir(parents=True, exist_ok=True)
    report.write(found, asked.out, plotted(found, asked.out))
    if asked.mode == FULL and "traces" in asked.only:
        traces.write(asked.out / "traces")  # the same as were replayed
    print(report.heading(found), report.tables(found), sep="\n\n")
    print("\n".join(found["gate"]["said"]))
    if asked.baseline:
        gate.write(found)
    if failed := [name for name, part in found["sections"].items() if part.get("failed")]:
        sys.exit(f"failed: {', '.join(failed)}")


if __name__ == "__main__":
    main()
