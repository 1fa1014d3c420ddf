"""The benchmarks are known to run: every class in miniature, against the real large_image."""

from __future__ import annotations

import contextlib
import io
import json
import math
import os
import re
import shutil
import subprocess
import sys
import threading
import time
from dataclasses import replace
from http.server import HTTPServer, SimpleHTTPRequestHandler
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import tifffile
from PIL import Image

from tests.conftest import ROOT, shared

if not os.environ.get("CI"):  # there nothing is skipped
    pytest.importorskip("large_image_source_ometiff", reason="needs the extra 'bench'")
    pytest.importorskip("large_image_source_tiff", reason="needs the extra 'bench'")
    pytest.importorskip("large_image_source_tifffile", reason="needs the extra 'bench'")

from benchmarks import (
    calibration,
    client,
    constant,
    gate,
    girder,
    hot,
    http_load,
    inputs,
    pairs,
    report,
    rivals,
    stages,
    targets,
)
from benchmarks.__main__ import arguments, part
from benchmarks.classes import CLASSES, FURTHER
from benchmarks.scope import MODES, TINY, Scope
from benchmarks.section import Row
from benchmarks.sections import SECTIONS
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
    assert report.heading(found) in told
    assert report.heading(found) in done.stdout
    assert all(row["cores"] > 0 for row in found["rows"])
    for key in ("machine", "card", "commit", "command"):
        assert found[key] in told
    assert found["versions"]["large-image"] != "not installed"
    bars = [(stage["picture"], stage["tile"]) for stage in found["stages"]]
    assert bars == [(picture, tile) for picture in inputs.PICTURES for tile in stages.TILES]
    for stage in found["stages"]:
        assert all(stage[name] > 0 for name in ("read", "decode", "composite", "HTTP"))
        assert (stage["downsample"] > 0) == (stage["tile"] == "made of four")
    drawn = {path.name for path in folder.glob("*.svg")}
    assert drawn == {"ratios.svg", "stages.svg"} or (not drawn and "matplotlib" in done.stderr)
    assert "not compared" in done.stdout  # the baseline is of a quick run


def a_row(name: str, value: float) -> dict[str, Any]:
    return {"name": name, "in_loops": value}


def a_report(*rows: dict[str, Any], mode: str = "quick") -> dict[str, Any]:
    return {"mode": mode, "machine": "m", "card": "c", "versions": {}, "commit": "c", "rows": list(rows)}


@pytest.mark.parametrize(
    ("least", "aim", "most", "value", "said"),
    [
        (6, 10, False, 10.0, "aim"),
        (6, 10, False, 6.0, "yes"),
        (6, 10, False, 4.5, "no: 0.75 of it"),
        (5, 20, False, 4.98, "no: 0.99 of it"),
        (1.5, 0.7, True, 1.501, "no: 1.01 of it"),
        (1.5, 0.7, True, 0.7, "aim"),
        (1.5, 0.7, True, 1.5, "yes"),
        (1.5, 0.7, True, 1.8, "no: 1.20 of it"),
    ],
)
def test_a_target_says_how_far_a_value_is(
    least: float, aim: float, most: bool, value: float, said: str
) -> None:
    target = targets.Target("R", "name", "", least, aim, lambda _: iter(()), most)
    assert target.reached(value) == said


def test_every_kind_of_contest_has_its_class(tmp_path: Path) -> None:
    assert {kind: targets.record(kind) for kind in CLASSES} == targets.RECORDS
    assert targets.record("cold LZW") == "R4"
    assert targets.record("overview of uint16") == "R6"
    assert targets.record(next(FURTHER["viewport40"](a_scope(tmp_path), "tissue")).kind) == "R1-40"


def test_every_target_finds_its_rows_and_no_invalid_ones() -> None:
    rows = [
        {"class": kind, "output": f"{output} q95", "picture": "noise", "file": "8192²"}
        | {"ratio": 9.0, "ratio_10_90": [8.0, 9.5]}
        | {"png_by_level_2": 0.97 if output == "PNG" else None}
        for kind, output in (
            ("restyle", "JPEG"), ("restyle", "PNG"), ("viewport", "JPEG"), ("cold", "JPEG"),
            ("slide", "JPEG"), ("overview", "PNG"), ("cold LZW", "JPEG"),
        )
    ]  # fmt: skip
    duel = {"ratio": 9.0, "ratio_range": [8.5, 9.5]}
    duels = [
        duel | {"name": f"{kind}, noise", "valid": kind != "spread tiles"}
        for kind in ("hot tile", "spread tiles", "new styles")
    ]
    start = {"name": "tile", "first_tile_s": 0.5, "first_tile_range": [0.4, 0.6]}
    stage = {"picture": "noise", "tile": "full resolution", "render": 0, "resident": 1.5, "encode": 0.7}
    found = targets.cells(
        {
            "rows": rows,
            "stages": [stage, stage | {"tile": "made of four"}],
            "sections": {
                "girder": {"rows": duels}, "constant": {"rows": duels[:1]}, "start": {"rows": [start]}
            },
        }
    )  # fmt: skip
    assert len(found) == len(targets.TARGETS) - 1
    small = {"rows": [row | {"file": "2048²"} for row in rows], "sections": {}}
    assert not any("overview" in line[1] for line in targets.cells(small))
    assert (
        "R7",
        "restyle, JPEG, outside the encoder, noise",
        "≤ 1 ms",
        "≤ 1 ms",
        "0.80 ms",
        "",
        "aim",
    ) in found
    assert ("R1", "viewport, against large_image, noise", "8×", "15×", "9.00×", "8.00–9.50", "yes") in found


def test_the_size_of_a_png_is_told_by_zlibs_at_level_2() -> None:
    noise = np.random.default_rng(1).integers(0, 256, (64, 64, 3))
    picture = png(noise)
    assert pairs.level_2(picture) == pytest.approx(len(picture), rel=0.05)
    assert pairs.sizes([picture], [picture, picture])["bytes"] == [len(picture), 2 * len(picture)]
    assert pairs.sizes([b"\xff\xd8"], [b""])["png_by_level_2"] is None


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


needs_wrk = pytest.mark.skipif(shutil.which("wrk") is None, reason="needs wrk")


def a_scope(folder: Path) -> Scope:
    return replace(MODES[TINY], folder=folder)


@needs_wrk
@pytest.mark.parametrize("number", [1, 2, 3])
def test_tiles_over_http_are_the_engines_and_counted(tmp_path: Path, number: int) -> None:
    drive = [*http_load.drives(tmp_path, 512), http_load.resident_set(tmp_path, "tissue")][number]
    found = http_load.row(drive, drive.name, a_scope(tmp_path))
    assert found["per_s"] > 0
    assert 0 < found["p50_ms"] <= found["p95_ms"] <= found["p99_ms"]
    assert found["generator_per_s"] > 0


def test_a_row_too_near_the_generators_ceiling_is_marked() -> None:
    row = {"name": "hot tile", "per_s": 9.0, "per_s_range": [8.0, 9.5], "p50_ms": 1.0, "p99_ms": 2.0}
    row["p95_ms"] = 1.5
    rows = [row | {"generator_per_s": 12.0, "valid": False}, row | {"generator_per_s": 90.0, "valid": True}]
    lines = report.tables({"rows": [], "sections": {"http": {"rows": rows}}}).splitlines()
    assert ["invalid" in line for line in lines] == [False, True, False]


@needs_wrk
@pytest.mark.parametrize(("best", "servers"), [(1.0, 1), (math.inf, http_load.SERVERS)])
def test_where_the_generators_ceiling_is_too_near_other_servers_are_tried(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, best: float, servers: int
) -> None:
    started = []

    def serving(*words: Any) -> contextlib.AbstractContextManager[str]:
        started.append(words)
        return hot.serving(*words)

    monkeypatch.setattr(http_load, "serving", serving)
    drive = next(http_load.drives(tmp_path, 512))
    found = http_load.ceiling_of(drive, "/tile", b"tile", a_scope(tmp_path), best)
    assert found["generator_per_s"] > 0
    assert found["valid"] == (best == 1.0)
    assert len(started) == servers


@needs_wrk
def test_a_real_girder_is_asked_the_same_and_draws_the_same(tmp_path: Path) -> None:
    if (reason := girder.absent()) and not os.environ.get("CI"):
        pytest.skip(reason)
    assert reason is None
    found = girder.rows(a_scope(tmp_path))
    kinds = ("hot tile", "spread tiles", "new styles")
    assert [row["name"] for row in found] == [f"{kind}, tissue" for kind in kinds]
    assert all(row["ratio"] > 0 and row["pairs"] == 1 and row["generator_per_s"] > 0 for row in found)


@needs_wrk
def test_hot_tiles_meet_a_handler_of_the_same_bytes_and_headers(tmp_path: Path) -> None:
    (found,) = constant.rows(a_scope(tmp_path))
    assert (found["name"], found["worst_difference"]) == ("hot tile, tissue", 0)
    assert found["ratio"] > 0
    assert found["gputiles_ms"] == sorted(found["gputiles_ms"])
    assert len(found["gputiles_ms"]) == len(found["other_ms"]) == 3


@needs_wrk
def test_the_constant_handler_says_the_headers_that_a_hot_tile_has(tmp_path: Path) -> None:
    drive = next(http_load.drives(tmp_path, 512))
    with hot.serving(http_load.serve, drive.config) as base:
        path, _ = http_load.checked(drive, base)
        tile = client.filled(path)
        body, headers = hot.kept(base + tile)
    assert headers.keys() >= {"ETag", "Cache-Control", "Server-Timing", "Content-Type"}
    with hot.serving(hot.serve_constant, body, headers) as other:
        assert hot.kept(other + tile) == (body, headers)


class Wrong(SimpleHTTPRequestHandler):
    """Answers every request with a grey tile."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(png(np.full((256, 256, 3), 128)))

    def log_message(self, format: str, *words: object) -> None:
        pass


def test_ratios_over_http_have_a_plot_of_their_own_but_for_invalid_ones(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="needs the extra 'bench'")
    from benchmarks import plots

    row = {"name": "hot tile, noise", "ratio": 9.0, "ratio_range": [8.0, 9.5]}
    found = {"rows": [], "stages": [], "sections": {"girder": {"rows": [row | {"valid": True}]}}}
    assert plots.draw(found, tmp_path) == ["duels.svg"]
    assert "girder: hot tile, noise" in (tmp_path / "duels.svg").read_text()
    found["sections"] = {"girder": {"rows": [row | {"valid": False}]}}
    assert plots.draw(found, tmp_path) == []


def test_noise_is_noise_in_every_contest_of_restyling(tmp_path: Path) -> None:
    for kind in ("restyle", "viewport"):
        for contest in CLASSES[kind](a_scope(tmp_path), "noise"):
            for shown in map(pairs.decoded, contest.ours(0)):
                assert shown.std() > 20


def test_a_rival_that_draws_something_else_is_not_timed(tmp_path: Path) -> None:
    drive = next(http_load.drives(tmp_path, 512))
    with HTTPServer(("127.0.0.1", 0), Wrong) as wrong, hot.serving(http_load.serve, drive.config) as base:
        threading.Thread(target=wrong.handle_request, daemon=True).start()
        path, _ = http_load.checked(drive, base)
        sides = rivals.Side(base, path), rivals.Side(f"http://127.0.0.1:{wrong.server_port}", "/")
        with pytest.raises(pairs.PixelsDiffer, match="hot tile: mean difference"):
            rivals.duel(drive, "hot tile", *sides, a_scope(tmp_path), (4.0, 64))


def test_what_cannot_be_measured_is_told_with_the_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None)
    found = part(SECTIONS["http"], MODES[TINY])
    assert found == {"absent": "wrk is not installed", "rows": []}
    assert "wrk is not installed" in report.markdown(a_whole_report({"http": found}), [])
    assert report.tables({"rows": [], "sections": {"http": found}}) == ""


def a_whole_report(sections: dict[str, Any]) -> dict[str, Any]:
    gate = {"changes": {}, "said": []}
    return a_report() | {
        "pictures": {"noise": "n"},
        "command": "c",
        "stages": [],
        "gate": gate,
        "sections": sections,
    }


def a_process_that_serves(ready: Connection) -> None:
    ready.send(str(os.getpid()))
    time.sleep(60)


def test_a_server_ends_with_its_block_and_after_a_failure() -> None:
    with pytest.raises(ValueError, match="in the block"), hot.serving(a_process_that_serves) as number:
        raise ValueError("in the block")
    assert not psutil.pid_exists(int(number))


def test_a_server_ends_where_its_parent_is_killed() -> None:
    program = (
        "import os; from benchmarks import hot; from tests.test_benchmarks import a_process_that_serves\n"
        "if __name__ == '__main__':\n"
        "    with hot.serving(a_process_that_serves) as number:\n"
        "        print(number, flush=True); os.kill(os.getpid(), 9)"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True)
    with contextlib.suppress(psutil.NoSuchProcess):
        psutil.Process(int(done.stdout)).wait(120)
    assert not psutil.pid_exists(int(done.stdout))


def test_loops_count_by_their_fastest_runs_and_geometric_mean() -> None:
    runs = [dict.fromkeys(calibration.LOOPS, value) for value in (8.0, 2.0, 4.0)]
    assert calibration.fastest(runs) == dict.fromkeys(calibration.LOOPS, 2.0)
    assert calibration.unit({"one": 2.0, "other": 8.0}) == pytest.approx(4.0)
    assert all(value > 0 for value in calibration.run(1)[0].values())


def test_what_no_stage_took_is_the_rest_and_what_the_answer_does_not_know_is_http() -> None:
    found = stages.over_http(5.0, "queue;dur=0.5, render;dur=2, total;dur=3.25")
    assert found == {"queue": 0.5, "render": 2.0, "rest": 0.75, "HTTP": 1.75, "resident": 3.25}


@pytest.mark.parametrize("side", [512, 1024])
def test_real_pictures_are_the_files_own_and_go_on_as_in_a_mirror(side: int) -> None:
    planes, slide = (shared("data", name) for name in inputs.REAL)
    assert inputs.pictures() == ("noise", "real")
    channels, stored = inputs.planes("real", 6, side), tifffile.imread(planes)
    assert channels.shape == (6, side, side)
    assert channels.dtype == np.uint16
    assert np.array_equal(channels[5, :502, :502], stored[1, :502, :502])
    assert np.array_equal(channels[2, :502, 502:510], stored[2, :502, :493:-1])
    y, x = inputs.CORNER
    seen = tifffile.imread(slide)[y : y + side, x : x + side]
    assert np.array_equal(inputs.slide_picture("real", side), seen)


def test_without_real_files_tissue_is_the_picture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inputs, "SHARED", tmp_path)
    assert inputs.pictures() == ("noise", "tissue")


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


def test_a_section_tells_the_versions_that_only_it_uses() -> None:
    rows = [{"name": "row", "per_s": 1.0, "per_s_range": [1.0, 1.0], "p50_ms": 1.0, "p99_ms": 1.0}]
    rows[0]["p95_ms"] = 1.0
    rows = [row | {"generator_per_s": 9.0, "valid": True, "file": "a file"} for row in rows]
    found = {"http": {"versions": {"wrk": "4.1"}, "rows": rows}}
    told = report.markdown(a_whole_report(found), [])
    assert "With wrk 4.1." in told
    assert "- row: a file" in told


@needs_wrk
def test_the_versions_of_the_generator_and_of_girder_are_known() -> None:
    assert re.search(r"\d+\.\d+", http_load.generator()["wrk"])
    if reason := girder.absent():
        pytest.skip(reason)
    assert girder.versions()["girder"].startswith("3.")


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("99%  812.00us", 0.812),
        ("99%    1.20ms", 1.2),
        ("99%    1.20s ", 1200.0),
        ("99%    1.02m ", 61_200.0),
    ],
)
def test_latencies_are_read_as_wrk_says_them(line: str, expected: float) -> None:
    said = f"  Latency Distribution\n     50%  503.65ms\n     {line}\n  385 requests in 2.05s"
    assert http_load.latency(said, 99) == expected
    assert http_load.latency(said, 50) == 503.65
    with pytest.raises(ValueError, match="a line of 75%"):
        http_load.latency(said, 75)


class BrowserError(Exception):
    """What a library raises that is none of ours."""


@pytest.mark.parametrize("kind", [pairs.PixelsDiffer, subprocess.TimeoutExpired, KeyError, BrowserError])
def test_a_section_that_fails_is_told_and_costs_no_other_its_rows(
    capsys: pytest.CaptureFixture[str], kind: type[Exception]
) -> None:
    words = ("it is another picture", 3)

    def measure(scope: Scope) -> list[Row]:
        raise kind(*words)

    found = part(replace(SECTIONS["open"], measure=measure), MODES[TINY])
    assert found["failed"]
    assert "it is another picture" in report.markdown(a_whole_report({"open": found}), [])
    assert kind.__name__ in capsys.readouterr().err


def test_the_readme_of_the_benchmarks_names_what_there_is_and_commands_that_can_be_given() -> None:
    told = (ROOT / "benchmarks" / "README.md").read_text(encoding="utf-8")
    assert [name for name in (*CLASSES, *FURTHER, *SECTIONS) if f"`{name}`" not in told] == []
    commands = re.findall(r"`python -m benchmarks ([^`]*)`", told)
    assert len(commands) > 3
    for command in commands:
        arguments(command.replace("CLASS …", "cold").split())
