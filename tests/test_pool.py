"""The pool of the host library: every share is done once, by whom does not matter."""

from __future__ import annotations

import os
import time
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from gputiles.backends import tables
from gputiles.backends.hostlib import Call, Pool, installed
from tests.waiting import until

PLAIN = np.random.default_rng(1).poisson(9, 20_000).astype(np.uint8).tobytes()
STREAM = np.frombuffer(zlib.compress(PLAIN), np.uint8)
TASKS = Path("/proc/self/task")


@pytest.fixture
def pool() -> Iterator[Pool]:
    pool = installed().pool([-1] * 4)
    yield pool
    pool.close()


def jobs(count: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the table of ``count`` streams to be inflated, and where they come to lie."""
    rooms = np.zeros((count, len(PLAIN)), np.uint8)
    table = np.zeros(count, tables.INFLATE)
    table["in"], table["size"], table["capacity"] = STREAM.ctypes.data, len(STREAM), len(PLAIN)
    table["out"] = rooms.ctypes.data + np.arange(count) * rooms.itemsize * len(PLAIN)
    return table, rooms


@pytest.mark.parametrize("most", [0, 1, 3, 100])
@pytest.mark.parametrize("count", [1, 2, 7, 40])
def test_every_share_is_done(pool: Pool, count: int, most: int) -> None:
    table, rooms = jobs(count)
    pool.run(installed().shares([Call("inflate_streams", table)]), most)
    assert table["done"].tolist() == [1] * count
    assert all(room.tobytes() == PLAIN for room in rooms)


def test_a_share_is_a_row_of_each_table() -> None:
    first, second = jobs(5)[0], np.zeros(5, tables.JPEG)
    steps = installed().shares([Call("inflate_streams", first), Call("jpeg", second)])
    assert (steps.shape, set(steps["jobs"].flat)) == ((5, 2), {1})
    for column, table in enumerate((first, second)):
        places = [table.ctypes.data + row * table.itemsize for row in range(5)]
        assert steps["table"][:, column].tolist() == places
    kernels = [set(steps["kernel"][:, column]) for column in range(2)]
    assert len(kernels[0]) == len(kernels[1]) == 1
    assert kernels[0] != kernels[1]


def test_a_share_is_a_chain(pool: Pool) -> None:
    """What one step writes the next reads: the second inflates what the first has inflated."""
    twice, count = np.frombuffer(zlib.compress(STREAM.tobytes()), np.uint8), 30
    middle, last = np.zeros((count, len(STREAM)), np.uint8), np.zeros((count, len(PLAIN)), np.uint8)
    outer, inner = np.zeros(count, tables.INFLATE), np.zeros(count, tables.INFLATE)
    outer["in"], outer["size"], outer["capacity"] = twice.ctypes.data, len(twice), len(STREAM)
    outer["out"] = inner["in"] = middle.ctypes.data + np.arange(count) * len(STREAM)
    inner["size"], inner["capacity"] = len(STREAM), len(PLAIN)
    inner["out"] = last.ctypes.data + np.arange(count) * len(PLAIN)
    calls = [Call("inflate_streams", outer), Call("inflate_streams", inner)]
    pool.run(installed().shares(calls), 3)
    assert all(room.tobytes() == PLAIN for room in last)


def test_many_callers_share_one_pool(pool: Pool) -> None:
    def call(_: int) -> bool:
        table, rooms = jobs(9)
        pool.run(installed().shares([Call("inflate_streams", table)]), 2)
        return all(room.tobytes() == PLAIN for room in rooms)

    with ThreadPoolExecutor(8) as callers:
        assert all(callers.map(call, range(400)))


@pytest.mark.parametrize("woken", [0, 2, 9])
@pytest.mark.parametrize("pause", [0, 0.0005, 0.001, 0.0015, 0.003])
def test_rounds_follow_at_any_distance(pool: Pool, pause: float, woken: int) -> None:
    """Whether the threads are still awake, on the way to sleep, asleep, or were woken before."""
    for _ in range(40):
        table, rooms = jobs(4)
        pool.wake(woken)
        pool.run(installed().shares([Call("inflate_streams", table)]), 3)
        assert all(room.tobytes() == PLAIN for room in rooms)
        time.sleep(pause)


@pytest.mark.skipif(not (TASKS / str(os.getpid()) / "schedstat").is_file(), reason="no times of threads")
def test_threads_that_have_nothing_to_do_sleep() -> None:
    before = set(os.listdir(TASKS))
    pool = installed().pool([-1] * 3)
    started = set(os.listdir(TASKS)) - before

    def spent() -> int:
        return sum(int((TASKS / task / "schedstat").read_text().split()[0]) for task in started)

    work: list[Callable[[], None]] = [
        lambda: pool.run(installed().shares([Call("inflate_streams", jobs(40)[0])]), 3),
        lambda: pool.wake(3),
    ]

    def at_rest() -> bool:
        first = spent()  # nanoseconds
        time.sleep(0.1)
        return spent() == first

    for busy in work:
        before_it = spent()
        busy()
        until(at_rest)  # on a busy machine it takes them more than their millisecond
        assert spent() > before_it
    pool.close()


@pytest.mark.skipif(not TASKS.is_dir(), reason="the system does not list a process's threads")
def test_closing_ends_the_threads() -> None:
    before = set(os.listdir(TASKS))
    pool = installed().pool([-1] * 3)
    started = set(os.listdir(TASKS)) - before
    assert len(started) == 3
    pool.wake(2)  # those that are awake, too
    pool.close()
    until(lambda: not started & set(os.listdir(TASKS)))  # the system lists a thread for a moment longer


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="the system has no affinity of threads")
def test_the_threads_stay_on_their_cores_and_the_caller_where_it_was() -> None:
    own, before = os.sched_getaffinity(0), set(os.listdir(TASKS))
    core = min(own)
    pool = installed().pool([core, -1, 4095])  # there is no such core: it moves
    started = set(os.listdir(TASKS)) - before

    def homes() -> list[list[int]]:
        return sorted(sorted(os.sched_getaffinity(int(task))) for task in started)

    until(lambda: homes() == sorted([[core], sorted(own), sorted(own)]))
    table, rooms = jobs(9)
    pool.run(installed().shares([Call("inflate_streams", table)]), 3)
    assert all(room.tobytes() == PLAIN for room in rooms)
    assert os.sched_getaffinity(0) == own
    pool.close()
