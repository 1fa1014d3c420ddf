"""Work that begins at once is otherwise like any task."""

from __future__ import annotations

import asyncio
import gc
from functools import partial
from typing import Any

import pytest

from gputiles.tasks import started, together


async def steps(log: list[str], seconds: float = 0.0) -> int:
    log.append("begun")
    await asyncio.sleep(0)
    log.append("on")
    try:
        await asyncio.sleep(seconds)
    except asyncio.CancelledError:
        log.append("cancelled")
        await asyncio.sleep(0.001)
        log.append("cleaned up")
        raise
    return 5


async def call_off(task: asyncio.Future[Any], turns: int) -> None:
    """Cancel a task after some turns of the loop, and wait for its end."""
    for _ in range(turns):
        await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_work_is_begun_before_its_caller_goes_on() -> None:
    log: list[str] = []
    task = started(steps(log, 0.001))
    assert log == ["begun"]
    assert await task == 5
    assert log == ["begun", "on"]


async def test_work_that_waits_for_nothing_is_done_at_once() -> None:
    async def work() -> int:
        return 3

    task = started(work())
    assert task.done()
    assert await task == 3


@pytest.mark.parametrize("late", [False, True])
async def test_an_error_is_the_task_s(late: bool) -> None:
    async def work() -> None:
        if late:
            await asyncio.sleep(0)
        raise ValueError("of the work")

    task = started(work())
    assert task.done() is not late
    with pytest.raises(ValueError, match="of the work"):
        await task


async def test_work_that_was_cancelled_at_once_is_a_cancelled_task() -> None:
    async def work() -> None:
        raise asyncio.CancelledError

    task = started(work())
    assert task.cancelled()


async def test_what_ends_the_process_is_no_task_s() -> None:
    async def work() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        started(work())


@pytest.mark.parametrize(
    ("turns", "told"),
    [
        (0, ["begun"]),  # nothing was left to be cleaned up yet, but the work has ended
        (1, ["begun"]),
        (2, ["begun", "on", "cancelled", "cleaned up"]),
        (9, ["begun", "on", "cancelled", "cleaned up"]),
    ],
)
async def test_cancelled_work_hears_of_it_wherever_it_waits(turns: int, told: list[str]) -> None:
    log, ended = [], []

    async def work() -> None:
        try:
            await steps(log, 60)
        finally:
            ended.append(True)

    task = started(work())
    await call_off(task, turns)
    assert (log, ended) == (told, [True])


@pytest.mark.parametrize("turns", [0, 3])
async def test_work_may_answer_a_cancellation(turns: int) -> None:
    async def work() -> str:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            await asyncio.sleep(0.001)
        return "not yet"

    task: Any = started(work())
    for _ in range(turns):
        await asyncio.sleep(0)
    task.cancel()
    assert await task == "not yet"


@pytest.mark.parametrize("turns", [0, 3])
async def test_cancelled_work_cancels_what_it_waits_for_and_nobody_is_told_of_errors(turns: int) -> None:
    told: list[Any] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: told.append(context))
    ended: list[str] = []

    async def part(name: str) -> None:
        try:
            await asyncio.sleep(60)
        finally:
            ended.append(name)

    task = started(together([partial(part, "first"), partial(part, "second")]))
    await call_off(task, turns)
    assert ended == ["first", "second"]
    del task
    gc.collect()
    assert not told


@pytest.mark.parametrize("turns", [0, 3])
async def test_a_future_that_cancelled_work_waits_for_is_cancelled(turns: int) -> None:
    awaited = asyncio.get_running_loop().create_future()

    async def work() -> None:
        await awaited

    task = started(work())
    await call_off(task, turns)
    assert awaited.cancelled()
