"""The crew: who does what it is given, in which order, and on which core."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator

import pytest

from gputiles.crew import FEW, Crew, homes, usable


class Notes:
    """Work that notes who did it, and waits until it may go on."""

    def __init__(self) -> None:
        self.done: list[tuple[int, str]] = []
        self.cores: dict[str, set[int]] = {}
        self.begun = threading.Semaphore(0)
        self.gates = {piece: threading.Event() for piece in range(100)}

    def __call__(self, piece: int) -> None:
        name = threading.current_thread().name
        self.cores[name] = usable()
        self.begun.release()
        assert self.gates[piece].wait(10)
        self.done.append((piece, name))

    def open(self, *pieces: int) -> None:
        for piece in pieces:
            self.gates[piece].set()


@pytest.fixture
def notes() -> Iterator[Notes]:
    notes = Notes()
    yield notes
    notes.open(*notes.gates)


def test_what_is_given_is_done_once_and_closing_waits_for_it(notes: Notes) -> None:
    crew = Crew("hand", 3, notes)
    notes.open(*range(50))
    for piece in range(50):
        crew.give(piece)
    crew.close()
    assert sorted(piece for piece, _ in notes.done) == list(range(50))
    assert not any(thread.name.startswith("hand-") for thread in threading.enumerate())


def test_the_first_who_is_free_is_called(notes: Notes) -> None:
    crew = Crew("hand", 2, notes)
    for piece in range(10):  # one after the other: the first hand does them all
        notes.open(piece)
        crew.give(piece)
        assert notes.begun.acquire(timeout=10)
        while len(notes.done) <= piece or len(crew._free) < 2:
            threading.Event().wait(0.001)
    assert notes.done == [(piece, "hand-0") for piece in range(10)]
    crew.give(10), crew.give(11)
    assert notes.begun.acquire(timeout=10)
    assert notes.begun.acquire(timeout=10)
    notes.open(11)
    while len(notes.done) < 11:
        threading.Event().wait(0.001)
    assert notes.done[10] == (11, "hand-1")  # while the first was busy
    notes.open(10)
    crew.close()


def test_what_nobody_is_free_for_waits_its_turn(notes: Notes) -> None:
    crew = Crew("hand", 1, notes)
    notes.open(*range(1, 20))
    for piece in range(20):
        crew.give(piece)
    assert notes.begun.acquire(timeout=10)
    assert not notes.done
    notes.open(0)
    crew.close()
    assert [piece for piece, _ in notes.done] == list(range(20))


@pytest.mark.parametrize(
    ("count", "cores", "helps", "expected"),
    [
        (2, {0, 1}, False, [{0}, {1}]),
        (2, {0, 1}, True, [{1}, {0}]),
        (3, {2, 5, 7}, False, [{2}, {5}, {7}]),
        (1, {0, 1}, False, [set()]),
        (4, {0, 1}, False, [set()] * 4),
        (2, set(), False, [set()] * 2),
        (FEW + 1, set(range(FEW + 1)), False, [set()] * (FEW + 1)),
    ],
)
def test_as_many_as_there_are_few_cores_stay_each_on_its_own(
    count: int, cores: set[int], helps: bool, expected: list[set[int]]
) -> None:
    assert homes(count, cores, helps) == expected


@pytest.mark.parametrize("helps", [False, True])
def test_threads_are_where_they_are_at_home_and_nobody_else_is_moved(notes: Notes, helps: bool) -> None:
    before, count = usable(), min(FEW, max(1, len(usable())))
    crew = Crew("hand", count, notes, helps=helps)
    for piece in range(count):
        crew.give(piece)
    for _ in range(count):
        assert notes.begun.acquire(timeout=10)
    notes.open(*range(count))
    crew.close()
    own = homes(count, before, helps)
    assert notes.cores == {f"hand-{number}": own[number] or before for number in range(count)}
    assert usable() == before


def test_who_helps_is_on_another_core_than_the_one_who_asked(
    notes: Notes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gputiles.crew.usable", lambda: {0, 1})
    helpers = Crew("help", 2, notes, helps=True)
    held, asked = threading.Event(), threading.Semaphore(0)

    def ask(piece: int) -> None:
        if piece:
            helpers.give(piece)
        asked.release()
        assert held.wait(10)

    crew = Crew("hand", 2, ask)
    while len(crew._free) < 2 or len(helpers._free) < 2:
        threading.Event().wait(0.001)
    for piece in range(2):  # the first only keeps the first hand busy
        crew.give(piece)
        assert asked.acquire(timeout=10)
    held.set()
    notes.open(1)
    crew.close()
    helpers.close()
    assert notes.done == [(1, "help-1")]  # on core 0


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="the system does not bind threads to cores")
def test_a_core_that_may_be_used_no_more_costs_no_thread(
    notes: Notes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gputiles.crew.usable", lambda: {4095})
    crew = Crew("hand", 1, notes)
    notes.open(0)
    crew.give(0)
    crew.close()
    assert notes.done == [(0, "hand-0")]
