"""The gate: what got slower than in the committed baseline, counted in calibration loops.

A row's value is gputiles' milliseconds by the geometric mean of loops that ran beside it: a
slower machine slows both. The fastest of either counts, which others' load disturbs least. The
gate informs; it never fails.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

BASELINE = Path(__file__).with_name("baseline.json")
WORSE = 1.2


def write(report: dict[str, Any], path: Path = BASELINE) -> None:
    """Make the report's rows the baseline."""
    kept = {key: report[key] for key in ("mode", "machine", "versions", "commit")}
    kept["in_loops"] = {row["name"]: row["in_loops"] for row in report["rows"]}
    path.write_text(json.dumps(kept, indent=2) + "\n")


def compare(report: dict[str, Any], path: Path = BASELINE) -> dict[str, Any]:
    """Return each row's value as a multiple of the baseline's, and what to say of them."""
    if not path.is_file():
        return {"changes": {}, "said": ["no baseline; make bench-baseline writes one"]}
    baseline = json.loads(path.read_text())
    if baseline["mode"] != report["mode"]:
        said = f"the baseline is of a {baseline['mode']} run, this is a {report['mode']} one: not compared"
        return {"changes": {}, "said": [said]}
    then = baseline["in_loops"]
    changes = {
        row["name"]: round(row["in_loops"] / then[row["name"]], 2)
        for row in report["rows"]
        if row["name"] in then
    }
    said = [
        f"slower than the baseline: {name}: {change:.2f} times"
        for name, change in changes.items()
        if change > WORSE
    ]
    said += [f"not in the baseline: {row['name']}" for row in report["rows"] if row["name"] not in then]
    if changes and not said:
        said = ["nothing is slower than the baseline by more than 20 %"]
    return {"changes": changes, "said": said}
