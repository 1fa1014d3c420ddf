"""Tasks: pieces of work that begin at once, or side by side so that the first failure ends all."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Generator, Iterable, Sequence
from typing import Any, TypeVar

R = TypeVar("R")


def started(work: Coroutine[Any, Any, R]) -> asyncio.Future[R]:
    """Run ``work`` up to where it first waits, and leave the rest to a task; return its result.

    A task of its own would begin a turn of the loop later. (Python 3.12 has tasks that are eager to start.)
    Up to there ``work`` must not ask for the current task, as timeouts do: it is the caller's, or none.
    """
    loop = asyncio.get_running_loop()
    try:
        awaited = work.send(None)
    except BaseException as end:
        return _ended(loop.create_future(), end)
    return loop.create_task(_Rest(work, awaited))


def _ended(result: asyncio.Future[R], end: BaseException) -> asyncio.Future[R]:
    """Give a future what a coroutine ended with."""
    if isinstance(end, StopIteration):
        result.set_result(end.value)
    elif isinstance(end, asyncio.CancelledError):
        result.cancel()
    elif isinstance(end, Exception):
        result.set_exception(end)
    else:
        raise end
    return result


class _Rest(Generator[Any, Any, R], Coroutine[Any, Any, R]):
    """What is left of a coroutine that waits for ``awaited``.

    It stands for the coroutine from the beginning: a task that is cancelled before its first turn says so.
    """

    def __init__(self, work: Coroutine[Any, Any, R], awaited: object) -> None:
        self._work = work
        self._awaited: list[Any] = [awaited]

    def send(self, value: Any) -> Any:
        """Go on to what is waited for next."""
        return self._awaited.pop() if self._awaited else self._work.send(value)

    def throw(self, *error: Any) -> Any:
        """Have an error raised where the work waits.

        A task that is cancelled cancels what it waits for; one before its first turn does not know that yet.
        """
        awaited: Any = self._awaited.pop() if self._awaited else None
        cancelled = isinstance(error[0], asyncio.CancelledError) and isinstance(awaited, asyncio.Future)
        if cancelled and awaited.cancel():
            return awaited
        return self._work.throw(*error)

    def close(self) -> None:
        """End the work where it waits."""
        self._work.close()

    def __await__(self) -> Generator[Any, Any, R]:
        return self


async def together(calls: Sequence[Callable[[], Awaitable[R]]], most: int | None = None) -> list[R]:
    """Run ``calls`` side by side, ``most`` of them at a time, and return their results in order.

    The first failure cancels the others, waits for them and is raised.
    """
    if len(calls) == 1:
        return [await calls[0]()]
    gate = asyncio.Semaphore(len(calls) if most is None else most)

    async def run(call: Callable[[], Awaitable[R]]) -> R:
        async with gate:
            return await call()

    loop = asyncio.get_running_loop()
    tasks = [loop.create_task(run(call)) for call in calls]
    try:
        return await asyncio.gather(*tasks)
    except BaseException:
        await cancel(tasks)
        raise


async def cancel(tasks: Iterable[asyncio.Task[Any]]) -> None:
    """Cancel tasks, and wait until they have ended."""
    tasks = list(tasks)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
