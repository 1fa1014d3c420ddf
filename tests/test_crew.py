"""The crew: who does what it is given, in which order, and on which core."""

from __future__ import annotations

import gc
import os
import threading
from collections.abc import Iterator

import pytest

from gputiles.crew import FEW, Crew, Kept, homes, usable


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
        while len(notes.done) < piece or len(crew._free) < 2:
            threading.Event().wait(0.001)
        notes.open(piece)
        crew.give(piece)
        assert notes.begun.acquire(timeout=10)
    while len(notes.done) < 10 or len(crew._free) < 2:
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


def idle(crew: Crew[int], count: int) -> None:
    """Wait until ``count`` of a crew are free."""
    while len(crew._free) < count:
        threading.Event().wait(0.001)


def guest(crew: Crew[int], *pieces: int, waits: bool = True) -> None:
    with crew.hosting(lambda: waits):
        for piece in pieces:
            crew.give(piece)


def test_a_guest_does_the_first_piece_that_it_gives_and_others_the_next(notes: Notes) -> None:
    crew = Crew("hand", 2, notes)
    idle(crew, 2)
    notes.open(0, 1)
    guest(crew, 0, 1)
    crew.close()
    name = threading.current_thread().name
    assert sorted(piece for piece, _ in notes.done) == [0, 1]
    assert (0, name) in notes.done
    assert {who for piece, who in notes.done if piece == 1} <= {"hand-0", "hand-1"}


def test_a_guest_does_what_its_piece_brings_and_then_what_that_does(notes: Notes) -> None:
    done: list[tuple[int, str]] = []

    def work(piece: int) -> None:
        done.append((piece, threading.current_thread().name))
        if piece:
            crew.give(piece - 1)

    crew = Crew("hand", 1, work)
    idle(crew, 1)
    guest(crew, 3)
    name = threading.current_thread().name
    assert done == [(piece, name) for piece in (3, 2, 1, 0)]
    crew.give(1)  # it is a guest no more
    idle(crew, 1)
    crew.close()
    assert done[4:] == [(1, "hand-0"), (0, "hand-0")]


def test_who_need_not_wait_is_no_guest(notes: Notes) -> None:
    crew = Crew("hand", 1, notes)
    idle(crew, 1)
    notes.open(0)
    guest(crew, 0, waits=False)
    crew.close()
    assert notes.done == [(0, "hand-0")]


def test_what_a_guest_waits_for_no_more_is_done_by_the_one_whose_place_it_has() -> None:
    done: list[tuple[int, str]] = []
    crew: Crew[int] = Crew("hand", 1, lambda piece: done.append((piece, threading.current_thread().name)))
    idle(crew, 1)
    waits = [True, False]
    with crew.hosting(lambda: waits.pop(0)):
        crew.give(0)
    crew.close()
    assert done == [(0, "hand-0")]


def test_a_guest_ends_a_crew_as_anybody_does(notes: Notes) -> None:
    crew = Crew("hand", 2, notes)
    idle(crew, 2)

    def end() -> None:
        with crew.hosting(lambda: True):
            crew.close()

    ending = threading.Thread(target=end, daemon=True)  # which a thread that does not end would hold
    ending.start()
    ending.join(10)
    assert not ending.is_alive()
    assert not any(thread.is_alive() for thread in crew._threads)


def test_where_nobody_is_free_a_guest_finds_no_place_and_nothing_is_overtaken(notes: Notes) -> None:
    crew = Crew("hand", 1, notes)
    crew.give(0)
    assert notes.begun.acquire(timeout=10)
    guest(crew, 1, 2)
    assert not notes.done
    notes.open(0, 1, 2)
    crew.close()
    assert notes.done == [(piece, "hand-0") for piece in range(3)]


def test_what_waits_is_done_when_a_guest_gives_its_place_back(notes: Notes) -> None:
    crew = Crew("hand", 1, notes)
    idle(crew, 1)
    visit = threading.Thread(target=guest, args=(crew, 0), name="guest")
    visit.start()
    assert notes.begun.acquire(timeout=10)
    crew.give(1)
    ending = threading.Thread(target=crew.close)
    ending.start()  # while the place is taken
    notes.open(0, 1)
    visit.join(10)
    ending.join(10)
    assert notes.done == [(0, "guest"), (1, "hand-0")]
    assert not visit.is_alive()
    assert not ending.is_alive()


@pytest.mark.parametrize("count", [1, 2])
def test_a_piece_that_one_of_the_crew_gives_is_its_next_and_others_do_more(count: int) -> None:
    done: list[tuple[int, str]] = []

    def work(piece: int) -> None:
        done.append((piece, threading.current_thread().name))
        if piece == 0:
            crew.give(10)
            crew.give(11)

    crew = Crew("hand", count, work)
    idle(crew, count)
    crew.give(0)
    idle(crew, count)
    crew.close()
    assert sorted(done) == [(0, "hand-0"), (10, "hand-0"), (11, f"hand-{count - 1}")]


def test_a_piece_that_waits_is_done_before_one_that_is_given_later() -> None:
    done: list[int] = []
    gate = threading.Event()

    def work(piece: int) -> None:
        assert gate.wait(10)
        done.append(piece)
        if piece == 0:
            crew.give(10)

    crew = Crew("hand", 1, work)
    crew.give(0)
    crew.give(1)
    gate.set()
    idle(crew, 1)
    crew.close()
    assert done == [0, 1, 10]


def test_a_place_keeps_the_same_for_its_thread_and_a_guest_and_others_have_their_own() -> None:
    kept: Kept[list[str]] = Kept(list)
    crew: Crew[int] = Crew("hand", 1, lambda _: kept().append(threading.current_thread().name))
    crew.give(0)
    idle(crew, 1)
    guest(crew, 1)
    kept().append("own")
    name = threading.current_thread().name
    assert kept() == ["own"]
    assert sorted(kept._kept.values()) == [["hand-0", name], ["own"]]
    crew.close()
    del crew
    gc.collect()
    assert list(kept._kept.values()) == [["own"]]  # what a place keeps ends with it


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="the system does not bind threads to cores")
def test_a_guest_takes_the_place_of_the_one_at_home_on_its_core(
    notes: Notes, monkeypatch: pytest.MonkeyPatch
) -> None:
    for core in (0, 1):
        monkeypatch.setattr("gputiles.crew.usable", lambda: {0, 1})
        monkeypatch.setattr("gputiles.crew._core", lambda core=core: core)
        crew = Crew("hand", 2, notes)
        idle(crew, 2)
        with crew.hosting(lambda: True):
            crew.give(core)
            assert [place.home for place in crew._free] == [{1 - core}]
            notes.open(core)
        crew.close()
