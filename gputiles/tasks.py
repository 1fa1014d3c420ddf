"""Tasks: pieces of work side by side, all of which the first failure ends."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any, TypeVar

R = TypeVar("R")


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
