"""The benchmark of a card is known to run: in miniature, over the stand-in."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.cardreport import AIMS, aims
from gputiles.backends.crossover import Timed, crossover
from tests.conftest import ROOT

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
    assert all(row["engine_per_s"] > 0 < row["without_per_s"] for row in found["nvImageCodec_by_threads"])
    assert all(f"## {title.replace('_', ' ')}" in told for title in found)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["found.json", "found.md"]


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
