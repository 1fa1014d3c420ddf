"""The benchmark of a card is known to run: in miniature, over the stand-in."""

from __future__ import annotations

import json
import subprocess
import sys
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from benchmarks import cardlibraries
from benchmarks.cardlibraries import FILES
from benchmarks.cardreport import AIMS, aims
from gputiles.backends import load
from gputiles.backends.crossover import Timed, crossover
from gputiles.backends.cuda import CudaBackend
from tests.conftest import ROOT
from tests.standin import StandIn, codecs, nvcomp, plugged_in

PNG_ENCODERS = [("PNG", "card"), ("PNG", "host")]
JPEG_ENCODERS = [("JPEG", "card"), ("JPEG", "nvImageCodec"), ("JPEG", "host")]


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
    stages = {"uploads_ms", "png_look_ms", "png_deflate_ms", "png_tail_ms", "downloads_ms"}
    assert stages <= found["batches"][-1].keys()
    assert [row["bands"] for row in found["composite_against_copy"]] == [1, 2, 4, 8, 16]
    assert all(row["caches"] > 4 for row in found["composite_against_copy"])
    assert all(
        row["arithmetic_GB_per_s"] > 0 < row["share_of_bound"] for row in found["composite_against_copy"]
    )
    assert {row["aim"] for row in found["aims"]} == {AIMS[0].name, *(aim.name for aim in AIMS[-4:])}
    assert {"gputiles", "numpy", "imagecodecs", "nvidia-nvimgcodec-cu13"} <= found["versions"].keys()
    makers = [(row["encoding"], row["encoder"]) for row in found["encoders"]]
    assert makers == [*PNG_ENCODERS, *JPEG_ENCODERS]
    assert all(row["bytes_of_a_tile"] > 0 for row in found["encoders"])
    assert found["compared_bytes"] > 0
    assert [row["tiles"] for row in found["jpegs_by_card_and_host"]] == [1, 2]
    assert found["card_jpegs"] in (1, 2, 3)
    assert f"card-jpegs = {found['card_jpegs']}\n" in done.stdout
    assert found["R2_two_batches_under_way_tiles_per_s"] > 0
    assert [row["tiles"] for row in found["to_pinned_memory_and_back"]] == [1, 4]
    assert found["R2_over_http"]["tiles_per_s"] > 0
    assert (found["R1_over_http"]["tiles"], found["R1_over_http"]["channels"]) == (4, 8)
    assert [(row["compression"], row["chunks"]) for row in found["decoding"]] == [
        (name, chunks)
        for name in ("JPEG", "none", "none, big-endian", "Deflate, predictor 2")
        for chunks in (1, 4)
    ]
    assert found["decoders"].startswith("nvimgcodec-")
    assert {"drawn_ms", "sent_up_ms", "both_ms"} == found["sent_up_beside_kernels"].keys()
    assert [(row["threads"], row["side"]) for row in found["nvImageCodec_by_threads"]] == [(1, 32), (1, 64)]
    rates = ("engine_per_s", "with_room_per_s", "without_per_s")
    assert all(row[rate] > 0 for row in found["nvImageCodec_by_threads"] for rate in rates)
    assert found["five_launches"].keys() == {"one_by_one_us", "as_a_graph_us"}
    assert all(row["one_ms"] > 0 < row["files_per_s"] for row in found["nvJPEG_encodes_by_threads"])
    assert [row["compression"] for row in found["nvTIFF_by_regions"]] == [*FILES]
    assert [row["chunks"] for row in found["nvCOMP_inflates"]] == [1, 4]
    compared = [*found["nvTIFF_by_regions"], *found["nvCOMP_inflates"]]
    assert all(row["right"] and row["product_ms"] > 0 for row in compared)
    assert all(f"## {title.replace('_', ' ')}" in told for title in found)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["found.json", "found.md"]


SIDE = 16


@pytest.fixture
def backend(monkeypatch: pytest.MonkeyPatch) -> Iterator[CudaBackend]:
    card = plugged_in(monkeypatch, StandIn())
    monkeypatch.setattr(load, "find_codecs", codecs)
    monkeypatch.setattr(cardlibraries, "find_nvcomp", nvcomp)
    made = CudaBackend(card, 0, 1)
    yield made
    made.close()


def once(call: Callable[[], object]) -> dict[str, float]:
    call()
    return {"p50_ms": 1.0}


def test_a_library_that_gives_other_values_is_said_to_be_wrong(
    backend: CudaBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    library = codecs()
    swapped = dict(vars(library), Region=lambda y, x, bottom, right: library.Region(x, y, right, bottom))
    monkeypatch.setattr(load, "find_codecs", lambda: SimpleNamespace(**swapped))
    assert [row["right"] for row in cardlibraries.tiffs(backend, once, SIDE)] == [False] * len(FILES)
    other = zlib.compress(bytes(2 * SIDE * SIDE))
    monkeypatch.setattr(cardlibraries.zlib, "compress", lambda _: other)
    assert [row["right"] for row in cardlibraries.inflates(backend, once, SIDE, [2])] == [False]


def test_what_a_library_refuses_is_told_and_the_rest_is_measured(
    backend: CudaBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise RuntimeError("no such algorithm")

    monkeypatch.setattr(
        cardlibraries, "find_nvcomp", lambda: SimpleNamespace(**vars(nvcomp()) | {"Codec": refuse})
    )
    (row,) = cardlibraries.inflates(backend, once, SIDE, [1])
    assert row["refused"] == "RuntimeError: no such algorithm"
    assert row["product_ms"] == 1.0


def test_libraries_that_are_not_installed_have_no_rows(
    backend: CudaBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(load, "find_codecs", lambda: None)
    monkeypatch.setattr(cardlibraries, "find_nvcomp", lambda: None)
    assert cardlibraries.encoders(backend, once, SIDE, (1,)) == []
    assert cardlibraries.tiffs(backend, once, SIDE) == []
    assert cardlibraries.inflates(backend, once, SIDE, (1,)) == []


@pytest.mark.parametrize(
    ("card", "host", "least"),
    [
        ([3, 3, 3], [1, 2, 4], 8),
        ([1, 1, 1], [2, 2, 2], 1),
        ([3, 3, 9], [1, 2, 4], 9),
        ([1, 3, 3], [2, 2, 4], 8),  # the smallest is a fluke
        ([1, 2, 2], [1, 2, 2], 1),
    ],
)
def test_the_crossover_is_where_the_card_stays_ahead(card: list[int], host: list[int], least: int) -> None:
    assert crossover([Timed(*row) for row in zip((1, 4, 8), card, host, strict=True)]) == least


def test_aims_are_held_against_the_worst_that_was_found() -> None:
    viewport = {"tiles": 40, "p50_ms": 3.9, "p99_ms": 20.0}
    found = {
        "composite_against_copy": [
            {"bands": bands, "share_of_copy": share} for bands, share in ((1, 0.9), (4, 0.6), (8, 0.2))
        ],
        "R1_viewports": [viewport | {"channels": channels} for channels in (8, 40)],
        "batches": [
            {"tiles": tiles, "encoding": encoding, "p50_ms": 0.5 + (encoding == "JPEG")}
            for tiles in (1, 64)
            for encoding in ("PNG", "JPEG")
        ],
        "R1_over_http": {"p50_ms": 17.0},
        "R2_without_http_tiles_per_s": 30_000,
        "R2_over_http": {"tiles_per_s": 4999},
        "seconds": 100.0,
    }
    told = aims(found)
    assert [row["aim"] for row in told] == [aim.name for aim in AIMS]
    assert [row["found"] for row in told] == [0.6, 3.9, 20.0, 20.0, 0.5, 17.0, 30_000, 4999, 100.0]
    assert [row["reached"] for row in told] == [False, True, False, True, True, False, True, False, True]
    assert [row["wanted"] for row in told][:2] == ["≥ 0.7", "≤ 4.0"]
