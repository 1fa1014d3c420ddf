"""The floor: who is on it in the loop's place, and what becomes there of what is set going."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from gputiles import floor
from gputiles.floor import Floor
from tests.waiting import until


@pytest.fixture
def ground(monkeypatch: pytest.MonkeyPatch) -> Iterator[Floor]:
    """A floor whose loop runs on a thread of its own, and is waited for."""
    monkeypatch.setattr(floor, "PATIENCE", 10)
    ground = Floor()
    thread = threading.Thread(target=ground.run, name="loop")
    thread.start()
    yield ground
    ground.call_soon_threadsafe(ground.stop)
    thread.join(10)
    assert not thread.is_alive()
    ground.close()


def here() -> str:
    return threading.current_thread().name


def taken(ground: Floor, over: threading.Event) -> None:
    """Have the loop stay on its floor until ``over``."""
    held = threading.Event()
    ground.call_soon_threadsafe(lambda: (held.set(), over.wait(10)))
    assert held.wait(10)


def test_the_floor_is_one_threads_at_a_time(ground: Floor) -> None:
    on_it = 0

    def alone() -> bool:
        nonlocal on_it
        on_it += 1
        time.sleep(1e-5)  # another would come now
        left, on_it = on_it, on_it - 1
        return left == 1

    async def inside() -> bool:
        found = True
        for _ in range(300):
            found = alone() and found
            await asyncio.sleep(0)
        return found

    def visits() -> list[bool]:
        return [found for _ in range(300) if (found := ground.visit(alone)) is not None]

    def told() -> list[bool]:
        found: list[bool] = []
        for _ in range(300):
            ground.tell(lambda: found.append(alone()))
        return found

    with ThreadPoolExecutor(4) as pool:
        others = [pool.submit(visits) for _ in range(2)]
        tellers = [pool.submit(told) for _ in range(2)]
        within = asyncio.run_coroutine_threadsafe(inside(), ground)
        assert within.result(60)
        assert [found for other in others for found in other.result(60)] == [True] * 600
        told_of = [teller.result(60) for teller in tellers]
    until(lambda: all(len(found) == 300 for found in told_of))  # some were left to the loop
    assert told_of == [[True] * 300] * 2


def test_what_a_visitor_sets_going_is_done_by_it_before_it_leaves(ground: Floor) -> None:
    done: list[tuple[str, str]] = []

    async def work() -> None:
        done.append(("begun", here()))
        await asyncio.sleep(0)
        done.append(("gone on", here()))
        assert asyncio.get_running_loop() is ground
        future = ground.create_future()
        ground.call_soon(future.set_result, None)
        await future
        done.append(("ended", here()))

    task = ground.visit(lambda: ground.create_task(work()))
    assert done == [(step, "MainThread") for step in ("begun", "gone on", "ended")]
    assert task is not None
    assert task.done()
    with pytest.raises(RuntimeError, match="no running event loop"):
        asyncio.get_running_loop()


def test_what_is_told_is_called_here_where_the_floor_is_free_and_else_by_the_loop(ground: Floor) -> None:
    told: list[tuple[int, str]] = []

    def note(number: int) -> None:
        told.append((number, here()))
        if number < 10:
            ground.call_soon(note, number + 10)

    ground.tell(note, 1)
    assert told == [(1, "MainThread"), (11, "MainThread")]
    over = threading.Event()
    taken(ground, over)
    ground.tell(note, 2)
    assert len(told) == 2
    over.set()
    until(lambda: len(told) == 4)
    assert told[2:] == [(2, "loop"), (12, "loop")]


def test_who_looks_for_mistakes_has_the_loop_told(ground: Floor, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[str] = []
    monkeypatch.setattr(ground, "get_debug", lambda: True)
    ground.tell(lambda: told.append(here()))
    monkeypatch.undo()
    until(lambda: bool(told))
    assert told == ["loop"]


def test_who_has_a_loop_of_its_own_leaves_what_follows_to_this_one(ground: Floor) -> None:
    done, over = [], threading.Event()

    def look() -> str:
        ground.call_soon(lambda: (done.append(here()), over.set()))
        return here()

    async def visitor() -> str | None:
        found = ground.visit(look)
        assert over.wait(10)
        await asyncio.sleep(0)
        return found

    assert asyncio.run(visitor()) == "MainThread"
    assert done == ["loop"]


@pytest.mark.parametrize("delay", [0.0, 0.01])
def test_a_time_that_a_visitor_sets_is_kept_by_the_loop(ground: Floor, delay: float) -> None:
    over, where = threading.Event(), []
    ground.visit(lambda: ground.call_later(delay, lambda: (where.append(here()), over.set())))
    assert over.wait(10)
    assert where == ["loop"]


def test_what_a_turn_dies_of_is_told_and_the_next_is_taken(ground: Floor) -> None:
    told: list[Any] = []
    ground.set_exception_handler(lambda _, context: told.append(context["exception"]))
    done: list[str] = []

    def look() -> None:
        ground.call_soon(lambda: 1 // 0)
        ground.call_soon(lambda: done.append(here()))

    ground.visit(look)
    assert done == ["MainThread"]
    assert [type(error) for error in told] == [ZeroDivisionError]


@pytest.mark.parametrize("by", ["visitor", "loop"])
def test_a_turn_that_is_called_off_is_not_taken(ground: Floor, by: str) -> None:
    told: list[Any] = []
    done: list[str] = []
    ground.set_exception_handler(lambda _, context: told.append(context))

    def look() -> None:
        off = ground.call_soon(lambda: done.append("called off"))
        ground.call_soon(lambda: done.append("taken"))
        off.cancel()

    async def visitor() -> None:  # it leaves its turns to the loop
        ground.visit(look)

    if by == "loop":
        asyncio.run(visitor())
    else:
        ground.visit(look)
    until(lambda: bool(done))
    assert done == ["taken"]
    assert not told


def test_what_a_look_dies_of_is_the_visitors_and_what_it_set_going_is_done(ground: Floor) -> None:
    done: list[str] = []

    def look() -> None:
        ground.call_soon(lambda: done.append(here()))
        raise LookupError

    with pytest.raises(LookupError):
        ground.visit(look)
    assert done == ["MainThread"]
    assert ground.visit(lambda: "free again") == "free again"


def test_who_has_to_end_leaves_the_other_turns_to_the_loop(ground: Floor) -> None:
    over, where = threading.Event(), []

    def end() -> None:
        raise SystemExit

    def look() -> None:
        ground.call_soon(end)
        ground.call_soon(lambda: (where.append(here()), over.set()))

    with pytest.raises(SystemExit):
        ground.visit(look)
    assert over.wait(10)
    assert where == ["loop"]
    assert ground.visit(lambda: "free again") == "free again"
