"""Helpers: threads that do a share of a busy worker's tile while other workers have nothing to do."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Future, wait
from functools import partial
from typing import TypeVar

from gputiles.crew import Crew

R = TypeVar("R")


class Helpers:
    """``count`` threads for calls that belong together; any thread may have some made."""

    def __init__(self, count: int) -> None:
        self._crew: Crew[Callable[[], None]] = Crew("gputiles-helper", count, _call, helps=True)

    def side_by_side(self, calls: Sequence[Callable[[], R]], *, helped: bool) -> list[R]:
        """Make calls and return what they do; with ``helped`` the calling thread makes the first one only."""
        here = calls[:1] if helped else calls
        given = [self._give(call) for call in calls[len(here) :]]
        try:
            made = [call() for call in here]
        finally:
            wait(given)
        return [*made, *(promise.result() for promise in given)]

    def close(self) -> None:
        """End the threads."""
        self._crew.close()

    def _give(self, call: Callable[[], R]) -> Future[R]:
        promise: Future[R] = Future()
        self._crew.give(partial(_keep, promise, call))
        return promise


def _call(call: Callable[[], None]) -> None:
    call()


def _keep(promise: Future[R], call: Callable[[], R]) -> None:
    """Make a call; what comes of it, an error too, is for the one who was promised it."""
    try:
        promise.set_result(call())
    except BaseException as error:
        promise.set_exception(error)
