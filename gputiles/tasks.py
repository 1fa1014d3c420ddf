"""Tasks: pieces of work side by side, all of which the first failure ends."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any


async def together(
    calls: Sequence[Callable[[], Awaitable[Any]]], results: list[Any], places: list[int]
) -> None:
    """Run ``calls`` side by side and put their results at ``places``.

    The first failure cancels the others, waits for them and is raised.
    """

    async def run(call: Callable[[], Awaitable[Any]], place: int) -> None:
        results[place] = await call()

    if len(calls) == 1:
        await run(calls[0], places[0])
        return
    loop = asyncio.get_running_loop()
    tasks = [loop.create_task(run(call, place)) for call, place in zip(calls, places, strict=True)]
    try:
        await asyncio.gather(*tasks)
    except BaseException:
        await cancel(tasks)
        raise


async def cancel(tasks: Iterable[asyncio.Task[Any]]) -> None:
    """Cancel tasks, and wait until they have ended."""
    tasks = list(tasks)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
