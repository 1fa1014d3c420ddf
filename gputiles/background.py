"""The background: the one engine that all images of a program share, on a loop and a thread of its own.

Who waits for a tile does a worker's part of it meanwhile; interrupts are put off until that is done.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import CancelledError, Future
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Any, TypeAlias, TypeVar

from gputiles.cache import Hold
from gputiles.config import Config
from gputiles.engine import Engine
from gputiles.errors import GputilesError, Overloaded
from gputiles.floor import Floor
from gputiles.interrupts import disturbed, undisturbed
from gputiles.tasks import started
from gputiles.trace import Trace

R = TypeVar("R")
Work: TypeAlias = Callable[[], Coroutine[Any, Any, R]]
Begin: TypeAlias = Callable[[], object]
"""What begins the work that will give a future its value; called on the floor."""
Look: TypeAlias = Callable[[Future[R]], Begin | None]
"""What gives a future its value at once, or returns what begins the work that will."""

PAUSE = 0.1  # seconds until a full queue is tried again


class Background:
    """The daemon thread that runs the event loop of the one shared engine.

    ``lost`` says that this is a forked child, into which the thread did not come along.
    """

    def __init__(self, config: Config) -> None:
        self.lost = False
        self._loop = Floor()
        self._hosting: Callable[[Callable[[], bool]], AbstractContextManager[None]] = lambda _: nullcontext()
        self._thread = threading.Thread(target=self._loop.run, name="gputiles", daemon=True)
        self._thread.start()
        self.engine = self.call(partial(self._start, config))

    async def _start(self, config: Config) -> Engine:
        engine = Engine(config)
        await engine.start()
        engine.batcher.tell, self._hosting = self._loop.tell, engine.batcher.hosting
        return engine

    def call(self, work: Work[R], look: Look[R] | None = None) -> R:
        """Run ``work`` on the loop and wait for it. Raises RuntimeError on the loop itself.

        ``look``, called on the loop's floor if that is free, gives the future its value, or returns what
        begins the work that is left.
        """
        if asyncio._get_running_loop() is self._loop:
            raise RuntimeError("an image cannot be used from its own event loop: it would wait for itself")
        future: Future[R] = Future()
        with undisturbed():
            begin = None if look is None else self._loop.visit(partial(look, future))
            try:
                if not future.done():
                    self._have_done(future, begin or partial(self.begin, future, work))
                _wait(future)
                return future.result()
            except BaseException:
                future.cancel()
                raise

    def _have_done(self, future: Future[R], begin: Begin) -> None:
        """Have work begun, and do a worker's part of it; not where a loop runs, as it does on no worker."""

        def begun() -> bool:
            try:
                begin()
            except Exception as error:
                _give(future, error)
            return True

        alone = asyncio._get_running_loop() is None
        with self._hosting(lambda: not future.done()) if alone else nullcontext():
            if self._loop.get_debug() or not self._loop.visit(begun):
                self._loop.call_soon_threadsafe(begun)

    def begin(self, future: Future[R], work: Work[R]) -> None:
        """Begin work that is called off with ``future`` and gives it its value; on the loop or its floor."""
        result = started(work())
        result.add_done_callback(partial(bring, future))
        self.when_left(future, result.cancel)

    def when_left(self, future: Future[Any], call_off: Callable[[], object]) -> None:
        """Have ``call_off`` called on the loop if nobody waits for ``future`` any more."""

        def left(_: object) -> None:
            if future.cancelled():
                self._loop.tell(call_off)

        future.add_done_callback(left)

    def give_back(self, hold: Hold[Any]) -> None:
        """Release the pins of a loan, once nothing reads it any more; from any thread, waits for nothing."""
        asyncio.run_coroutine_threadsafe(self._give_back(hold), self._loop)

    async def _give_back(self, hold: Hold[Any]) -> None:
        try:
            while not await self._fenced():
                await asyncio.sleep(PAUSE)
        finally:
            hold.release()

    async def _fenced(self) -> bool:
        """Wait until the device has done all that it was asked for, by others too; False: ask later."""
        try:
            await self.engine.batcher.submit("fence", None, Trace())
        except Overloaded:
            return False
        except GputilesError:
            pass  # the device is lost: nobody reads there any more
        return True


def _wait(future: Future[Any]) -> None:
    """Wait until a future has its value, or an interrupt comes.

    By a lock of its own: one that comes while ``Future.result`` holds the future's would leave that locked.
    """
    if future.done():
        return
    there = threading.Lock()
    there.acquire()
    future.add_done_callback(lambda _: there.release())
    with disturbed():
        there.acquire()


def bring(future: Future[R], result: asyncio.Future[R]) -> None:
    """Give what came of work on the loop to the one who waits for it."""
    if result.cancelled():
        _give(future, CancelledError())
    else:
        _give(future, result.exception() or result.result())


def _give(future: Future[R], outcome: R | BaseException) -> None:
    """Give a value or an error to the one who waits for it, if anybody still does."""
    if not future.set_running_or_notify_cancel():
        return
    if isinstance(outcome, BaseException):
        future.set_exception(outcome)
    else:
        future.set_result(outcome)
