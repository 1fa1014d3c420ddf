"""A fuzz of the corpus: damaged files never end, hang or bloat the process, and are refused in words.

Long runs: ``make fuzz ARGS="--seconds 3600 --seed 7"``.
"""

from __future__ import annotations

import random
import sys
from pathlib import Path

import pytest

from gputiles.config import Config
from gputiles.engine import Engine
from tests import fuzz
from tests.fuzz import Child, corpus, examine, run, try_one, written
from tests.mutations import mutate, read_map
from tests.tiffs import page, tiff

SECONDS = 75.0  # at most; on an idle machine it takes less
ROUNDS = 12


def test_no_damaged_file_does_harm(tmp_path: Path) -> None:
    files = [*written(tmp_path / "written"), *corpus()]
    mutants = list(run(files, map(str, range(ROUNDS)), SECONDS))
    assert len(mutants) >= 20
    assert any(mutant.refused for mutant in mutants)
    harm = [f"{mutant.name}: {problem}" for mutant in mutants for problem in mutant.problems]
    assert not harm, "\n".join(harm)


def test_files_that_are_whole_are_not_refused(tmp_path: Path) -> None:
    child = Child(tmp_path)
    answers = {path.name: child.ask(path) for path in written(tmp_path / "written")}
    child.close()
    assert [name for name, answer in answers.items() if answer["refusals"] or answer["problems"]] == []


def test_mutants_are_the_same_for_the_same_seed_and_differ_for_others(tmp_path: Path) -> None:
    path = written(tmp_path / "written")[0]
    made = [fuzz.made(path, seed) for seed in ("1", "1", *map(str, range(2, 30)))]
    assert made[0] == made[1]
    assert len(set(made)) > 20


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("big", [False, True])
def test_the_fuzz_finds_its_way_through_files_of_every_dialect(order: str, big: bool) -> None:
    one, other = page(5, 4, [bytes(20)], {270: (2, "a long text")}), page(3, 2, [bytes(6)], {})
    file = tiff(one, other, order=order, big=big)
    found = read_map(file.getvalue())
    assert (found.order, found.big, len(found.directories)) == (order, big, 2)
    (text,) = (field for field in found.fields if field.code == 270)
    assert file.getvalue()[text.values : text.values + text.size] == b"a long text\0"


def test_nothing_is_too_short_to_be_damaged() -> None:
    for size in range(12):
        assert isinstance(mutate(b"II*\0\x08\0\0\0\0\0\0\0"[:size], random.Random(size)), bytes)


# -- the fuzz itself: what it would notice


async def problems_of(path: Path) -> list[str]:
    async with Engine(Config(**fuzz.CONFIG)) as engine:  # type: ignore[arg-type]
        return list((await examine(engine, path))["problems"])


async def test_an_error_that_is_no_refusal_is_noticed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (path, *_) = written(tmp_path / "written")
    assert await problems_of(path) == []
    monkeypatch.setattr(fuzz, "describe", lambda info: info.no_such_fact)
    (problem,) = await problems_of(path)
    assert "no_such_fact" in problem


@pytest.mark.parametrize(
    ("limit", "word"), [("MOST_SECONDS", "TimeoutError"), ("MOST_GROWTH", "the process grew")]
)
async def test_time_and_memory_beyond_the_limits_are_noticed(
    limit: str, word: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (path, *_) = written(tmp_path / "written")
    monkeypatch.setattr(fuzz, limit, -(1 << 40))
    (problem,) = await problems_of(path)
    assert word in problem


@pytest.mark.parametrize(("deed", "word"), [
    ("os.abort()", "the process ended: -6"), ("os.kill(os.getpid(), 11)", "the process ended: -11"),
    ("sys.exit('gone')", "gone"),
])  # fmt: skip
def test_a_process_that_ends_is_noticed_and_begun_anew(deed: str, word: str, tmp_path: Path) -> None:
    child = Child(tmp_path, (sys.executable, "-c", f"import os, sys; sys.stdin.readline(); {deed}"))
    (path, *_) = written(tmp_path / "written")
    for _ in range(2):
        mutant = try_one(child, tmp_path, path, "1")
        assert word in mutant.problems[0]
