"""The reading room: the bounded group of threads in which files are opened and waited for."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable, Sequence
from functools import partial
from queue import SimpleQueue
from typing import Any, NamedTuple, ParamSpec, TypeVar

from gputiles.errors import Overloaded

logger = logging.getLogger(__name__)

P = ParamSpec("P")
R = TypeVar("R")


class _Call(NamedTuple):
    """What a reader has to do; ``future`` gets what comes of it, None where nobody waits."""

    function: Callable[[], Any]
    future: asyncio.Future[Any] | None

    def run(self) -> None:
        """Call the function, unless its caller has left; on a reader thread."""
        if self.future is not None and self.future.cancelled():
            return
        value: Any = None
        error: BaseException | None = None
        try:
            value = self.function()
        except StopIteration:  # no future can bring it to who waits
            error = RuntimeError("StopIteration in the reading room")
        except BaseException as other:
            error = other
        if self.future is not None:
            self.future.get_loop().call_soon_threadsafe(_settle, self.future, value, error)
        elif error is not None:
            logger.error("in passing: %s", error, exc_info=error)


def _settle(future: asyncio.Future[Any], value: Any, error: BaseException | None) -> None:
    if future.cancelled():
        return
    if error is None:
        future.set_result(value)
    else:
        future.set_exception(error)


class ReadingRoom:
    """Runs blocking reads for the event loop, at most ``most`` of them waiting or running."""

    def __init__(self, readers: int, most: int) -> None:
        self.pending, self.readers = 0, readers
        self._most = most
        self._calls: SimpleQueue[_Call | None] = SimpleQueue()  # half the cost of an executor
        self._threads = [
            threading.Thread(target=self._serve, name=f"gputiles-reader-{number}", daemon=True)
            for number in range(readers)
        ]
        for reader in self._threads:
            reader.start()

    def _serve(self) -> None:
        """Run calls until there is an end of them; on a reader thread."""
        while (call := self._calls.get()) is not None:
            call.run()

    async def run(self, function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """Call ``function`` in a reader thread; cancelled callers leave the queue.

        Raises Overloaded where too many reads wait already.
        """
        future = self._queue(partial(function, *args, **kwargs))
        try:
            return await future
        finally:
            self.pending -= 1

    async def run_all(self, functions: Sequence[Callable[[], R]]) -> list[R]:
        """Call functions as ``run`` does, side by side; the first failure ends all."""
        futures: list[asyncio.Future[R]] = []
        try:
            futures += map(self._queue, functions)
            return await asyncio.gather(*futures)
        finally:
            self.pending -= len(futures)
            for future in futures:
                future.cancel()

    def _queue(self, function: Callable[[], R]) -> asyncio.Future[R]:
        if self.pending >= self._most:
            raise Overloaded(f"{self.pending} reads wait for the reading room; at most {self._most} may")
        future: asyncio.Future[R] = asyncio.get_running_loop().create_future()
        self.pending += 1
        self._calls.put(_Call(function, future))
        return future

    def dismiss(self, function: Callable[P, object], *args: P.args, **kwargs: P.kwargs) -> None:
        """Call ``function`` in a reader thread some time; nobody waits for it, an error is logged."""
        self._calls.put(_Call(partial(function, *args, **kwargs), None))

    def close(self) -> None:
        """Finish the reads that run or wait, and end the readers."""
        for _ in self._threads:
            self._calls.put(None)
        for reader in self._threads:
            reader.join()
