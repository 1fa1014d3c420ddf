"""The reading room: the bounded pool of threads in which all files are touched."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import ParamSpec, TypeVar

from gputiles.errors import Overloaded

P = ParamSpec("P")
R = TypeVar("R")


def _called(function: Callable[[], R]) -> R:
    """Call a function; its StopIteration, which no future can bring to who waits, is a RuntimeError."""
    try:
        return function()
    except StopIteration as error:
        raise RuntimeError("StopIteration in the reading room") from error


class ReadingRoom:
    """Runs blocking reads for the event loop, at most ``most`` of them waiting or running."""

    def __init__(self, readers: int, most: int) -> None:
        self.pending = 0
        self._most = most
        self._pool = ThreadPoolExecutor(readers, thread_name_prefix="gputiles-reader")

    async def run(self, function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """Call ``function`` in a reader thread; cancelled callers leave the queue.

        Raises Overloaded where too many reads wait already.
        """
        if self.pending >= self._most:
            raise Overloaded(f"{self.pending} reads wait for the reading room; at most {self._most} may")
        self.pending += 1
        future = self._pool.submit(_called, partial(function, *args, **kwargs))
        try:
            return await asyncio.wrap_future(future)
        finally:
            self.pending -= 1

    def dismiss(self, function: Callable[P, object], *args: P.args, **kwargs: P.kwargs) -> None:
        """Call ``function`` in a reader thread some time; nobody waits for it."""
        self._pool.submit(function, *args, **kwargs)

    def close(self) -> None:
        """Finish the reads that run, and end the readers."""
        self._pool.shutdown(wait=True, cancel_futures=False)
