"""The benchmarks are known to run: every class in miniature, against the real large_image."""

from __future__ import annotations

import io
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image

from tests.conftest import ROOT

if not os.environ.get("CI"):  # there nothing is skipped
    pytest.importorskip("large_image_source_ometiff", reason="needs the extra 'bench'")
    pytest.importorskip("large_image_source_tiff", reason="needs the extra 'bench'")

from benchmarks import calibration, curves, gate, http_load, inputs, pairs, report
from benchmarks.__main__ import arguments
from benchmarks.classes import CLASSES
from gputiles import sample

ROWS = {
    "restyle, noise, JPEG", "restyle, noise, PNG", "restyle, tissue, JPEG", "restyle, tissue, PNG",
    "viewport, noise, JPEG", "viewport, tissue, JPEG", "cold, noise, JPEG", "cold, tissue, JPEG",
    "slide, noise, JPEG", "slide, tissue, JPEG", "overview, noise, PNG", "overview, tissue, PNG",
}  # fmt: skip


def test_a_miniature_run_measures_every_class_and_writes_the_report(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "benchmarks", "--tiny", "--out", str(tmp_path / "new" / "folder")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    folder = tmp_path / "new" / "folder"
    found = json.loads((folder / "report.json").read_text())
    told = (folder / "report.md").read_text()
    assert {row["class"] for row in found["rows"]} == CLASSES.keys()
    assert {row["name"] for row in found["rows"]} == ROWS
    assert all(name in told and name in done.stdout for name in ROWS)
    assert all(row["ratio"] > 0 and row["in_loops"] > 0 for row in found["rows"])
    for key in ("machine", "commit", "command"):
        assert found[key] in told
    assert found["versions"]["large-image"] != "not installed"
    assert [stage["picture"] for stage in found["stages"]] == ["noise", "tissue"]
    assert all(
        min(stage["read"], stage["decode"], stage["composite + encode"]) > 0 for stage in found["stages"]
    )
    drawn = {path.name for path in folder.glob("*.svg")}
    assert drawn == {"ratios.svg", "stages.svg"} or (not drawn and "matplotlib" in done.stderr)
    assert "not compared" in done.stdout  # the baseline is of a quick run


def a_row(name: str, value: float) -> dict[str, Any]:
    return {"name": name, "in_loops": value}


def a_report(*rows: dict[str, Any], mode: str = "quick") -> dict[str, Any]:
    return {"mode": mode, "machine": "m", "versions": {}, "commit": "c", "rows": list(rows)}


def test_the_gate_names_what_got_slower_by_more_than_a_fifth(tmp_path: Path) -> None:
    path = tmp_path / "baseline.json"
    gate.write(a_report(a_row("a", 2.0), a_row("b", 2.0), a_row("c", 2.0)), path)
    now = a_report(a_row("a", 2.5), a_row("b", 2.3), a_row("c", 1.0), a_row("d", 1.0))
    assert gate.compare(now, path) == {
        "changes": {"a": 1.25, "b": 1.15, "c": 0.5},
        "said": ["slower than the baseline: a: 1.25 times", "not in the baseline: d"],
    }
    assert gate.compare(a_report(a_row("a", 2.0)), path)["said"] == [
        "nothing is slower than the baseline by more than 20 %"
    ]
    assert gate.compare(a_report(a_row("a", 9.0), mode="full"), path)["changes"] == {}


def test_without_a_baseline_the_gate_says_how_to_get_one(tmp_path: Path) -> None:
    found = gate.compare(a_report(a_row("a", 2.0)), tmp_path / "absent.json")
    assert found == {"changes": {}, "said": ["no baseline; make bench-baseline writes one"]}


def test_the_committed_baseline_has_every_row() -> None:
    baseline = json.loads(gate.BASELINE.read_text())
    assert baseline["mode"] == "quick"
    assert baseline["in_loops"].keys() == ROWS


def a_contest(ours: np.ndarray, theirs: np.ndarray, **more: Any) -> pairs.Contest:
    return pairs.Contest(
        "kind", "file", "noise", "PNG", "1", lambda _: [png(ours)], lambda _: [png(theirs)], **more
    )


def png(array: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(array.astype(np.uint8)).save(file, "PNG")
    return file.getvalue()


BLACK, GREY = np.zeros((8, 8, 3)), np.full((8, 8, 3), 9)


@pytest.mark.parametrize(
    ("theirs", "more", "said"),
    [
        (GREY, {"mean": 1.0}, "got 9.000 and 9"),
        (GREY, {"mean": 10.0, "worst": 8}, "got 9.000 and 9"),
        (BLACK[:4], {}, "number or size"),
        (BLACK, {"exact": GREY}, "not exact"),
    ],
)
def test_a_side_that_draws_something_else_is_not_timed(
    theirs: np.ndarray, more: dict[str, Any], said: str
) -> None:
    with pytest.raises(pairs.PixelsDiffer, match=said):
        pairs.measure(a_contest(BLACK, theirs, **more), 1)


@pytest.mark.skipif(shutil.which("wrk") is None, reason="needs wrk")
@pytest.mark.parametrize("number", [1, 2])
def test_tiles_over_http_are_the_engines_and_counted(tmp_path: Path, number: int) -> None:
    drive = list(http_load.drives(tmp_path, 512))[number]
    found = http_load.row(drive, tmp_path / "requests.lua", runs=1, seconds=1)
    assert found["per_s"] > 0
    assert 0 < found["p50_ms"] <= found["p99_ms"]
    assert found["generator_per_s"] > 0


def test_a_row_too_near_the_generators_ceiling_is_marked() -> None:
    row = {"name": "hot tile", "per_s": 9.0, "per_s_range": [8.0, 9.5], "p50_ms": 1.0, "p99_ms": 2.0}
    rows = [row | {"generator_per_s": 12.0, "valid": False}, row | {"generator_per_s": 90.0, "valid": True}]
    lines = report.tables({"rows": [], "http": rows, "curves": []}).splitlines()
    assert ["invalid" in line for line in lines] == [False, True, False]


def test_loops_count_by_their_fastest_runs_and_geometric_mean() -> None:
    runs = [dict.fromkeys(calibration.LOOPS, value) for value in (8.0, 2.0, 4.0)]
    assert calibration.fastest(runs) == dict.fromkeys(calibration.LOOPS, 2.0)
    assert calibration.unit({"one": 2.0, "other": 8.0}) == pytest.approx(4.0)
    assert all(value > 0 for value in calibration.run(1)[0].values())


def test_curves_have_their_points_and_a_plot(tmp_path: Path) -> None:
    found = curves.points(tmp_path, (1, 3), (256, 1024), bursts=1)
    assert [(point["curve"], point["channels"], point["side"]) for point in found] == [
        ("channels", 1, 512), ("channels", 3, 512), ("side", 6, 256), ("side", 6, 1024),
    ]  # fmt: skip
    assert all(point["per_s"] > 0 for point in found)
    told = report.tables({"rows": [], "http": [], "curves": found})
    assert len(told.splitlines()) == 1 + len(found)
    pytest.importorskip("matplotlib", reason="needs the extra 'bench'")
    from benchmarks import plots

    assert plots.draw({"rows": [], "stages": [], "curves": found}, tmp_path) == ["curves.svg"]


def test_the_exact_overview_is_the_samples_reduction_of_what_is_stored(tmp_path: Path) -> None:
    path = inputs.slide(tmp_path / "slide.tif", "tissue", 512, 128)
    stored = tifffile.imread(path)
    expected = [sample.halve(sample.halve(stored[..., band])) for band in range(3)]
    assert np.array_equal(inputs.exact_overview(path, 128), np.dstack(expected))


@pytest.mark.parametrize(
    "words", [["--baseline"], ["--quick", "--baseline", "--only", "cold"], ["--pairs", "0"]]
)
def test_what_makes_no_sense_is_not_run(words: list[str]) -> None:
    with pytest.raises(SystemExit):
        arguments(words)
