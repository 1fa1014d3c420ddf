"""The report: a table for the terminal, JSON, and Markdown."""

from __future__ import annotations

import json
import platform
import re
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from benchmarks import targets
from benchmarks.section import Section
from benchmarks.sections import SECTIONS
from benchmarks.stages import NOTE
from gputiles.config import memory_limit, usable_cores

PACKAGES = (
    "gputiles", "large-image", "large-image-source-ometiff", "large-image-source-tiff",
    "large-image-source-tifffile", "numpy", "imagecodecs", "isal", "aiohttp", "tifffile", "pillow",
    "cupy-cuda13x", "cupy-cuda12x",
)  # fmt: skip
COLUMNS = (
    "class, picture, output",
    "gputiles ms",
    "large_image ms",
    "ratio",
    "10–90 %",
    "cores",
    "vs baseline",
)


def circumstances(mode: str, command: str) -> dict[str, Any]:
    """Return what a figure is worth nothing without: machine, versions, commit, command."""
    return {
        "mode": mode,
        "command": command,
        "commit": _commit(),
        "machine": f"{_processor()}, {usable_cores()} cores usable, {memory_limit() / 2**30:.0f} GiB usable, "
        f"{platform.system()} {platform.release()}",
        "card": card(),
        "versions": {"python": platform.python_version()} | {name: _version(name) for name in PACKAGES},
    }


def _commit() -> str:
    """Return the commit of these sources, with a sign where they were changed since."""
    command = ["git", "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"]
    try:
        return subprocess.run(
            command, cwd=Path(__file__).parent, capture_output=True, text=True, check=True
        ).stdout.strip()
    except (OSError, subprocess.CalledProcessError):  # no git, or sources without their history
        return "unknown"


def card() -> str:
    """Return the names of the cards, with driver and memory; on whose absence the host computes."""
    asked = ["nvidia-smi", "--query-gpu=name,driver_version,memory.total", "--format=csv,noheader"]
    try:
        found = subprocess.run(asked, capture_output=True, text=True, check=True).stdout.splitlines()
    except (OSError, subprocess.CalledProcessError):
        found = []
    return "; ".join(line.strip() for line in found) or "none: the host's kernels compute"


def _processor() -> str:
    try:
        found = re.search(r"^model name\s*: (.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    except OSError:  # not Linux
        found = None
    return found[1] if found else platform.processor() or platform.machine()


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"


def cells(row: dict[str, Any], changes: dict[str, float]) -> tuple[str, ...]:
    """Return a row of the table, as text."""
    low, high = row["ratio_10_90"]
    change = changes.get(row["name"])
    return (
        row["name"],
        f"{row['gputiles_ms']:.2f}",
        f"{row['large_image_ms']:.2f}",
        f"{row['ratio']:.1f}",
        f"{low:.1f}–{high:.1f}",
        f"{row['cores']:.1f}",
        "" if change is None else f"{change:.2f}",
    )


def heading(report: dict[str, Any]) -> str:
    """Return machine, card, pictures, versions, commit and command, a line each."""
    versions = ", ".join(f"{name} {found}" for name, found in report["versions"].items())
    return "\n".join(
        [
            f"- machine: {report['machine']}",
            f"- card: {report['card']}",
            f"- pictures: {'; '.join(f'{name}: {about}' for name, about in report['pictures'].items())}",
            f"- versions: {versions}",
            f"- commit: {report['commit']}",
            f"- command: `{report['command']}`",
        ]
    )


def tables(report: dict[str, Any]) -> str:
    """Return all rows for a terminal, in aligned columns."""
    parts = [
        (COLUMNS, [cells(row, report["gate"]["changes"]) for row in report["rows"]]),
        *(
            (tuple(SECTIONS[name].columns), SECTIONS[name].cells(part["rows"]))
            for name, part in report["sections"].items()
        ),
    ]
    parts.append((targets.COLUMNS, targets.cells(report)))
    return "\n\n".join(_aligned([titles, *rows]) for titles, rows in parts if rows)


def _aligned(lines: list[tuple[str, ...]]) -> str:
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    return "\n".join(
        "  ".join(
            [line[0].ljust(widths[0]), *(c.rjust(w) for c, w in zip(line[1:], widths[1:], strict=True))]
        )
        for line in lines
    )


def markdown(report: dict[str, Any], plots: list[str]) -> str:
    """Return the whole report in Markdown; ``plots`` are the names of pictures beside it."""
    parts = [
        f"# Benchmarks: gputiles against large_image ({report['mode']})",
        heading(report),
        "Pairs A B A B in one process; each row's pixels were compared first, so that both sides have opened "
        "the file and made a picture, and read it where it says resident; the system has the file in memory. "
        "Then each side makes the calls of the warm-up, until gputiles has no room for more answers: from "
        "then on their memory is used again, as in a server that has run for a while. Cold: the calls that "
        "count are for tiles that nobody asked for before, or open the file anew. Ratio: the median of "
        "large_image's time by gputiles' in each pair, with the 10th and 90th percentile. Against the "
        "baseline: the fastest pair's time counted in calibration loops, 1.20 is a fifth slower. Cores: "
        "what all that are usable did together, just before the row and after it, by what one did alone; "
        "where that is well below their number they are threads of one core, or others use it too.",
        _rows(COLUMNS, [cells(row, report["gate"]["changes"]) for row in report["rows"]]),
        "\n".join(f"- {line}" for line in report["gate"]["said"]),
        "## What should be reached, on 2 cores without a card",
        "Ratios with the spread of their pairs (10–90 % in process, least and most over HTTP). R7 is the "
        "same as R1 and R2 on a processor. Rows that are marked invalid are not here.",
        _rows(targets.COLUMNS, targets.cells(report)),
        *(f"![{name}]({name})" for name in plots),
        "## What was measured",
        _rows(
            (
                *("class", "row", "file", "output", "threads", "warm-up", "pairs × calls"),
                *("mean, worst difference", "bytes"),
            ),
            [_terms(row) for row in report["rows"]],
        ),
    ]
    if report["stages"]:
        titles = tuple(title for title in report["stages"][0] if any(row[title] for row in report["stages"]))
        stages = [tuple(str(stage[title]) for title in titles) for stage in report["stages"]]
        parts += ["## Stages of one cold 6-channel 512² tile to JPEG, ms", NOTE, _rows(titles, stages)]
    for name, part in report["sections"].items():
        parts += _section(SECTIONS[name], part)
    return "\n\n".join(parts) + "\n"


def _section(section: Section, part: dict[str, Any]) -> list[str]:
    """Return the paragraphs of a section, or why it has none."""
    title = f"## {section.title}"
    if "absent" in part:
        return [title, f"Not measured: {part['absent']}."]
    files = [f"- {row['name']}: {row['file']}" for row in part["rows"] if "file" in row]
    table = _rows(tuple(section.columns), section.cells(part["rows"]))
    used = ", ".join(f"{name} {found}" for name, found in part["versions"].items())
    return [
        title,
        section.note,
        *([f"With {used}."] if used else []),
        table,
        *(["\n".join(files)] if files else []),
    ]


def _terms(row: dict[str, Any]) -> tuple[str, ...]:
    return (
        targets.record(row["class"]),
        row["name"],
        row["file"],
        row["output"],
        row["threads"],
        str(row["warm"]),
        f"{row['pairs']} × {row['burst']}",
        f"{row['mean_difference']}, {row['worst_difference']}",
        " / ".join(map(str, row["bytes"])),
    )


def _rows(titles: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    return "\n".join("| " + " | ".join(row) + " |" for row in (titles, ("---",) * len(titles), *rows))


def write(report: dict[str, Any], folder: Path, plots: list[str]) -> None:
    """Write ``report.json`` and ``report.md`` into ``folder``."""
    (folder / "report.json").write_text(json.dumps(report, indent=2, ensure_ascii=False) + "\n")
    (folder / "report.md").write_text(markdown(report, plots))
