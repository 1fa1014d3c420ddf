"""The benchmark of a card is known to run: in miniature, over the stand-in."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from tests.conftest import ROOT


def test_the_benchmark_of_a_card_writes_every_table(tmp_path: Path) -> None:
    command = [sys.executable, "benchmarks/gpu.py", "--stand-in", "--out", str(tmp_path / "found")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "found.json").read_text())
    told = (tmp_path / "found.md").read_text()
    assert found["card"]["card"] == "stand-in"
    assert [row["tiles"] for row in found["batches"]] == [1, 1, 4, 4]
    assert all({"composite_ms", "p99_ms"} <= row.keys() for row in found["batches"])
    assert [row["channels"] for row in found["R1_viewports"]] == [3, 5]
    assert found["compared_bytes"] > 0
    assert found["R2_over_http"]["tiles_per_s"] > 0
    assert all(f"## {title.replace('_', ' ')}" in told for title in found)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["found.json", "found.md"]
