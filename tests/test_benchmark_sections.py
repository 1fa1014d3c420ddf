"""The sections of the benchmarks are known to run, in miniature, and to count right."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import threading
from collections import Counter
from dataclasses import replace
from http.server import HTTPServer
from itertools import count
from pathlib import Path

import numpy as np
import psutil
import pytest
import tifffile

if not os.environ.get("CI"):  # there nothing is skipped
    pytest.importorskip("large_image_source_ometiff", reason="needs the extra 'bench'")
    pytest.importorskip("large_image_source_tifffile", reason="needs the extra 'bench'")

from benchmarks import (
    dragging,
    http_load,
    iip,
    inputs,
    memory,
    pairs,
    process,
    report,
    restyle,
    roofline,
    scaling,
    start,
)
from benchmarks.classes import CLASSES, FURTHER, ROUNDS
from benchmarks.scope import MODES, TINY, Scope
from gputiles.backends import load
from gputiles.backends.device import Device
from gputiles.backends.host import HostBackend
from gputiles.sample import write_sample
from tests.conftest import ROOT
from tests.standin import StandIn

KERNELS = {
    name
    for source in re.findall(r'"(\w+\.cu)"', (ROOT / "kernels" / "host.cpp").read_text())
    for name in re.findall(r"^[A-Z]+_KERNEL\((\w+),", (ROOT / "kernels" / source).read_text(), re.MULTILINE)
}


@pytest.fixture
def scope(tmp_path: Path) -> Scope:
    return replace(MODES[TINY], folder=tmp_path)


def test_cold_tiles_of_every_codec_are_large_images(scope: Scope) -> None:
    rows = [pairs.measure(contest, 1) for contest in FURTHER["codecs"](scope, "tissue")]
    assert [row["class"] for row in rows] == ["cold LZW", "cold zstd", "cold not compressed"]
    assert all(row["worst_difference"] <= pairs.WORST and row["ratio"] > 0 for row in rows)
    assert {row["pairs"] for row in rows} == {ROUNDS}
    assert not list(scope.folder.iterdir())


@pytest.mark.parametrize("codec", ["zlib", "lzw", "zstd", None])
@pytest.mark.parametrize(("tile", "across", "down"), [(256, 1, 1), (256, 5, 3), (512, 1, 1), (512, 2, 3)])
def test_a_picture_is_repeated_as_far_as_the_file_goes(
    tmp_path: Path, codec: str | None, tile: int, across: int, down: int
) -> None:
    found = tifffile.imread(inputs.multiplex(tmp_path / "a.ome.tif", "tissue", 3, tile, across, down, codec))
    drawn = inputs.planes("tissue", 3, min(512, tile * max(across, down)))
    expected = np.tile(drawn, (1, 3, 3))[:, : down * tile, : across * tile]
    assert np.array_equal(found, expected)


def test_cold_tiles_are_those_of_large_images_tifffile_source(scope: Scope) -> None:
    rows = [pairs.measure(contest, 1) for contest in FURTHER["tifffile"](scope, "noise")]
    assert [row["class"] for row in rows] == ["cold against tifffile", "slide against tifffile"]
    assert rows[0]["worst_difference"] <= pairs.WORST
    assert rows[1]["mean_difference"] > 0  # it is encoded once more
    assert all(row["ratio"] > 0 for row in rows)
    assert not list(scope.folder.iterdir())


def test_cold_tiles_of_a_slide_in_a_style_are_large_images(scope: Scope) -> None:
    for picture in inputs.PICTURES:
        (row,) = [pairs.measure(contest, 1) for contest in FURTHER["styled"](scope, picture)]
        assert (row["class"], row["output"]) == ("slide styled", "JPEG q95 4:4:4")
        assert row["worst_difference"] <= pairs.WORST
    assert not list(scope.folder.iterdir())


def test_the_overview_of_16_bits_is_exact(scope: Scope) -> None:
    for contest in FURTHER["overview16"](replace(scope, overview=2048), "tissue"):
        assert contest.exact is not None
        assert contest.exact.shape == (512, 512, 3)
        assert len(np.unique(contest.exact)) > 10
        assert pairs.measure(contest, 1)["class"] == "overview of uint16"


def test_forty_channels_of_a_viewport_are_large_images(scope: Scope) -> None:
    (contest,) = FURTHER["viewport40"](scope, "tissue")
    assert contest.name not in {each.name for each in CLASSES["viewport"](scope, "tissue")}
    assert "40 channels" in contest.file


def test_a_cold_start_is_timed_and_imports_nothing_heavy(
    scope: Scope, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")  # to compile is no part of it, where nobody keeps it
    stored, styled = start.rows(scope)
    assert list((scope.folder / "bytecode").glob("**/gputiles/app.*.pyc"))
    for row in (stored, styled):
        assert 0 < row["listening_s"] <= row["first_tile_s"]
        assert not start.OPTIONAL & set(row["heavy"])
        assert "gputiles" in row["dearest"]


def test_looks_of_a_drag_go_over_the_socket_or_in_batches(scope: Scope) -> None:
    reason = dragging.absent()
    if reason is not None:
        pytest.skip(reason)
    socket, batches = dragging.rows(scope)
    for row in (socket, batches):
        assert row["looks"] > 1
        assert 0 < row["wish to last tile, median ms"] <= row["90 % ms"] <= row["most ms"]
    assert (socket["batches"], batches["messages"]) == (0, 0)
    assert socket["messages"] > 0
    assert batches["batches"] > 0


def test_a_drag_over_other_tiles_than_the_engines_is_not_timed(tmp_path: Path) -> None:
    pytest.importorskip("playwright", reason="needs the extra 'test'")
    from benchmarks import drag
    from tests.test_benchmarks import Wrong

    path = tmp_path / "sample.ome.tif"
    write_sample(path, 256)
    with HTTPServer(("127.0.0.1", 0), Wrong) as wrong:
        threading.Thread(target=wrong.handle_request, daemon=True).start()
        with pytest.raises(pairs.PixelsDiffer, match="drag: the server's tile"):
            drag.check(path, f"http://127.0.0.1:{wrong.server_port}")


def test_what_a_first_tile_does_not_need_is_named_where_it_is_heavy() -> None:
    said = """import time: self [us] | cumulative | imported package
import time:     30000 |      30000 |   numpy.core
import time:       100 |        100 |     PIL.Image
import time:     15000 |      15000 |   other
import time:      6000 |       6000 |     other.part
import time:     90000 |      90000 | json
import time:      9000 |       9000 | light
"""
    found = start.costs(said)
    assert found == Counter({"numpy": 30.0, "PIL": 0.1, "other": 21.0, "light": 9.0})
    assert start.heavy(found) == ["PIL", "other"]


def test_the_cost_of_a_package_is_the_least_of_the_starts_that_loaded_it() -> None:
    found = [Counter({"numpy": 30.0, "light": 25.0}), Counter({"numpy": 40.0, "light": 9.0, "PIL": 2.0})]
    assert start.least(found) == Counter({"numpy": 30.0, "light": 9.0, "PIL": 2.0})


def test_a_resident_tile_takes_its_samples(scope: Scope) -> None:
    planes, colours = memory.rows(scope)
    assert (planes["tiles"], planes["bytes_a_tile"]) == (4 * 6, 512 * 512 * 2)
    assert (colours["tiles"], colours["bytes_a_tile"]) == (16, 256 * 256 * 3)
    assert planes["shelves_mib"] > 9  # three new tiles of six channels, half a MiB each
    assert 0 < planes["rss_before_mib"] < planes["rss_after_mib"]


def test_growth_is_told_as_a_multiple_of_what_shelves_say(tmp_path: Path) -> None:
    drive = next(http_load.drives(tmp_path, 512))
    before, after = memory.Held(1, 2**20, 0, 100 * 2**20), memory.Held(5, 9 * 2**20, 2**20, 118 * 2**20)
    row = memory.figures(drive, before, after, memory.Held(0, 0, 0, 105 * 2**20))
    assert (row["shelves_mib"], row["process_by_shelves"]) == (9.0, 2.0)
    assert memory.device_memory(row) == "host memory, 9.0 of the process"


def test_tiles_on_a_card_are_told_by_its_driver(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drive, card = next(http_load.drives(tmp_path, 512)), StandIn(1 << 27)
    monkeypatch.setattr(load, "find_cupy", lambda: card)
    device, before = Device(card), memory.on_card()

    def now(tiles: int) -> memory.Held:
        """Return what is held with that many tiles of 3 MiB on the card, encoded ones of half a MiB."""
        on_card = memory.on_card() - before
        return memory.Held(tiles, tiles * 3 * 2**20, tiles << 19, (100 + tiles) * 2**20, "cuda", on_card)

    blocks = [device.allocate(3 * 2**20)]
    one = now(1)
    blocks += [device.allocate(3 * 2**20) for _ in range(4)]
    five = now(5)
    for block in blocks:
        device.free(block)
    row = memory.figures(drive, one, five, now(0))
    assert row["card_mib"] == [3.0, 15.0, 0.0]
    assert (row["shelves_mib"], row["process_by_shelves"]) == (2.0, 2.0)
    assert memory.device_memory(row) == "cuda: 3.0, 15.0, 0.0"


def test_a_server_by_its_command_ends_with_its_block(tmp_path: Path) -> None:
    drive = next(http_load.drives(tmp_path, 512))
    with pytest.raises(ValueError, match="in the block"), process.gputiles(drive.path) as server:
        raise ValueError("in the block")
    assert not psutil.pid_exists(server.pid)


def test_a_server_that_does_not_start_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="did not start"), process.gputiles(tmp_path / "absent.tif"):
        pass


@pytest.mark.parametrize("name", ["drag", "gpu", "hot", "lag", "restyle", "traces", "viewport"])
def test_every_script_explains_itself_and_refuses_other_words(name: str, tmp_path: Path) -> None:
    command = [sys.executable, "-m", f"benchmarks.{name}"]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    told, refused = (
        subprocess.run([*command, word], cwd=tmp_path, env=environment, capture_output=True, text=True)
        for word in ("--help", "--nothing-of-the-kind")
    )
    assert (told.returncode, told.stderr) == (0, "")
    assert refused.returncode == 2
    assert "Traceback" not in refused.stderr
    assert not list(tmp_path.iterdir())


def test_a_program_gets_its_input_though_it_is_slow_to_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "SLICE", 0.02)
    given = "word " * 100_000  # more than a pipe holds
    assert process.output(["sh", "-c", "sleep 0.2; cat"], 3600, given) == given


def test_a_program_that_fails_or_does_not_end_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(RuntimeError, match="sh failed: the reason"):
        process.output(["sh", "-c", "echo the reason >&2; exit 3"], 3600)
    monkeypatch.setattr(process, "SLICE", 0.02)
    with pytest.raises(RuntimeError, match=r"sleep did not end within 0\.1 s"):
        process.output(["sleep", "60"], 0.1)


def test_what_a_program_says_of_a_standstill_is_not_believed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The clock jumps as it does for a process that is stopped and goes on, or on a machine that is."""
    runs = tmp_path / "runs"
    words = ["sh", "-c", f"echo run >> {runs}; cat {runs}"]
    jumps = iter([0.0, 2 * process.STANDSTILL])
    monkeypatch.setattr(process, "monotonic", lambda: next(jumps, 0.0))
    assert process.output(words, 3600) == "run\nrun\n"
    ever = count(0.0, 2 * process.STANDSTILL)
    monkeypatch.setattr(process, "monotonic", lambda: next(ever))
    with pytest.raises(process.StoodStill, match="in each of 3 runs"):
        process.output(words, 3600)
    assert runs.read_text() == "run\n" * (2 + process.AGAIN)


def test_a_command_ends_where_its_parent_is_killed() -> None:
    program = (
        "import os; from benchmarks.process import started\n"
        "with started(['sh', '-c', 'echo; exec sleep 60'], stdout=-1) as found:\n"
        "    found.stdout.readline(); print(found.pid, flush=True); os.kill(os.getpid(), 9)"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True)
    number = int(done.stdout)
    if psutil.pid_exists(number):
        psutil.wait_procs([psutil.Process(number)], 120)
    assert not psutil.pid_exists(number)


def test_a_style_over_http_that_large_image_draws_otherwise_is_not_timed(
    scope: Scope, monkeypatch: pytest.MonkeyPatch
) -> None:
    def in_another_window(path: Path, look: str) -> bytes:
        return restyle.peers_tile(path, look.replace('"min":100', '"min":9000'))

    monkeypatch.setattr(scaling, "peers_tile", in_another_window)
    with pytest.raises(pairs.PixelsDiffer, match="64 channels 512²"):
        scaling.by_channels(replace(scope, channels=(64,)))


@pytest.mark.skipif(shutil.which("wrk") is None, reason="needs wrk")
def test_curves_over_http_have_their_points_and_a_plot(scope: Scope) -> None:
    found = scaling.rows(scope)
    assert [(row["name"], row["curve"], row["connections"]) for row in found] == [
        ("hot tile", "connections", 1), ("hot tile", "connections", 3),
        ("new styles", "connections", 1), ("new styles", "connections", 3),
        ("new styles", "channels", 8), ("new styles", "channels", 8),
        ("new styles", "side", 8), ("spread tiles", "mib", 8),
    ]  # fmt: skip
    assert all(row["per_s"] > 0 and row["generator_per_s"] > 0 for row in found)
    assert [row["channels"] for row in found if row["curve"] == "channels"] == [1, 64]
    assert [row["side"] for row in found if row["curve"] == "side"] == [256]
    assert found[-1]["mib"] > 0
    sections = {"scaling": {"rows": found}}
    assert len(report.tables({"rows": [], "sections": sections}).splitlines()) == 1 + len(found)
    pytest.importorskip("matplotlib", reason="needs the extra 'bench'")
    from benchmarks import plots

    assert plots.draw({"rows": [], "stages": [], "sections": sections}, scope.folder) == ["scaling.svg"]


def test_the_roofline_has_every_kernel_of_the_host(scope: Scope) -> None:
    copy, *found = roofline.rows(scope)
    assert copy["name"] == "copy"
    assert copy["share_of_copy"] == 1
    assert {row["name"] for row in found} == KERNELS - {
        "paste",
        "follow",
        "pack",
    }  # these move bytes on a card
    for row in found:
        assert row["ms"] > 0
        assert row["operations"] > 0
        assert row["operations_a_byte"] == pytest.approx(row["operations"] / row["moved"], abs=0.01)
        assert row["share_of_copy"] == pytest.approx(row["memory_ms"] / row["ms"], rel=0.05, abs=0.01)
    told = report.tables({"rows": [], "sections": {"roofline": {"rows": [copy, *found]}}})
    assert len(told.splitlines()) == 2 + len(found)
    pytest.importorskip("matplotlib", reason="needs the extra 'bench'")
    from benchmarks import plots

    sections = {"roofline": {"rows": [copy, *found]}}
    assert plots.draw({"rows": [], "stages": [], "sections": sections}, scope.folder) == ["roofline.svg"]


def test_the_roofline_counts_what_kernels_must_move() -> None:
    found = {kernel.name: kernel for kernel in roofline.kernels(roofline.Load(HostBackend(1), 2**20))}
    pixels = 512 * 512
    assert found["composite"].moved == pixels * (6 * 2 + 3)
    assert found["downsample"].moved == pixels * (4 * 2 + 2)
    assert found["unstyled"].moved == pixels * (2 + 1)
    # nine components of six colours: 6 × 5 + 9 × 2 + 3 × 3
    assert found["composite"].operations == pixels * 57
    assert [kernel.name for kernel in found.values() if kernel.writes_file] == ["jpeg", "png_dense"]


def test_iipimage_is_asked_for_the_same_tiles_and_draws_the_same(scope: Scope) -> None:
    if reason := iip.absent():
        pytest.skip(reason)
    found = iip.rows(scope)
    assert [row["name"] for row in found] == ["hot tile, tissue", "spread tiles, tissue"]
    assert all(row["ratio"] > 0 and row["mean_difference"] > 0 for row in found)


def test_iipimage_and_nginx_end_after_a_failure() -> None:
    if reason := iip.absent():
        pytest.skip(reason)
    running: list[psutil.Process] = []

    def failing() -> None:
        with iip.peer(0):
            found = psutil.Process().children(recursive=True)
            running.extend(each for each in found if each.name() in ("nginx", "iipsrv.fcgi"))
            raise ValueError("in the block")

    with pytest.raises(ValueError, match="in the block"):
        failing()
    assert len(running) > 2
    _, alive = psutil.wait_procs(running, 120)
    assert not alive


def test_without_iipimage_its_section_says_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(iip, "SERVER", tmp_path / "absent")
    assert iip.absent() == "iipimage-server is not installed"


def test_the_versions_of_iipimage_and_nginx_are_known() -> None:
    if reason := iip.absent():
        pytest.skip(reason)
    assert all(re.match(r"\S*\d+\.\d+", version) for version in iip.versions().values())
