"""Forks: subtrees of a tree of work that are opened beside each other, a few in all."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

from gputiles.tasks import cancel

R = TypeVar("R")


class Forks:
    """Lets ``most`` calls run beside those that go on without a fork, while ``has_room`` says so."""

    def __init__(self, most: int, has_room: Callable[[], bool]) -> None:
        self.most = self._left = most
        self._has_room = has_room
        self._given_back: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def run(self, calls: Sequence[Callable[[], Awaitable[R]]]) -> list[R]:
        """Run ``calls``, begun in order: one at a time, and others beside it by forks.

        The first failure ends all. However deep calls are within calls, one of each goes on without a fork.
        """
        if len(calls) == 1:
            return [await calls[0]()]
        tasks: list[asyncio.Task[R]] = []
        own: asyncio.Task[R] | None = None  # that takes no fork
        try:
            for call in calls:
                forked = own is not None and await self._fork_beside(own)
                tasks.append(asyncio.create_task(_awaited(call)))
                if forked:
                    tasks[-1].add_done_callback(self._give_back)
                else:
                    own = tasks[-1]
            return await asyncio.gather(*tasks)
        except BaseException:
            await cancel(tasks)
            raise

    async def _fork_beside(self, own: asyncio.Task[R]) -> bool:
        """Take a fork while ``own`` runs, as soon as there is one; False where that ends before."""
        while not own.done() and not (self._left and self._has_room()):
            if self._given_back.done():
                self._given_back = own.get_loop().create_future()
            await asyncio.wait((own, self._given_back), return_when=asyncio.FIRST_COMPLETED)
        if own.done():
            own.result()
            return False
        self._left -= 1
        return True

    def _give_back(self, _: object) -> None:
        self._left += 1
        if not self._given_back.done():
            self._given_back.set_result(None)


async def _awaited(call: Callable[[], Awaitable[R]]) -> R:
    return await call()
