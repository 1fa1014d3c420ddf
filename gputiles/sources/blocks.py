"""Blocks of remote files: kept within a bound, each fetched once, neighbours in one request."""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable, Iterable
from concurrent.futures import Future

from cachetools import LRUCache

from gputiles.errors import Unavailable

BLOCK = 1 << 20  # bytes
MOST_RUN = 16  # blocks of one request

Fetch = Callable[[int, int], bytes]


class Blocks:
    """The blocks of all remote files of an engine, at most ``capacity`` bytes; for reader threads.

    Blocks that are being fetched are waited for, not fetched again; a failure reaches all
    who wait and is kept nowhere.
    """

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self._kept: LRUCache[Hashable, bytes] = LRUCache(capacity, getsizeof=len)
        self._coming: dict[Hashable, Future[bytes]] = {}
        self._lock = threading.Lock()

    @property
    def used(self) -> int:
        """Bytes that are kept."""
        return int(self._kept.currsize)

    def take(self, owner: Hashable, numbers: Iterable[int], fetch: Fetch) -> list[bytes]:
        """Return the blocks of ``owner``; ``fetch(offset, size)`` brings a run of those that lack."""
        found: dict[int, bytes] = {}
        awaited: dict[int, Future[bytes]] = {}
        mine: list[int] = []
        with self._lock:
            for number in numbers:
                self._claim((owner, number), number, found, awaited, mine)
        for run in _runs(mine):
            self._bring(owner, run, awaited, fetch)
        return [found[number] if number in found else awaited[number].result() for number in numbers]

    def _claim(
        self,
        key: Hashable,
        number: int,
        found: dict[int, bytes],
        awaited: dict[int, Future[bytes]],
        mine: list[int],
    ) -> None:
        """Find a block: it is kept, it comes already, or it is left to the caller to fetch."""
        block = self._kept.get(key)
        if block is not None:
            found[number] = block
            return
        coming = self._coming.get(key)
        if coming is None:
            coming = self._coming[key] = Future()
            mine.append(number)
        awaited[number] = coming

    def _bring(
        self, owner: Hashable, run: list[int], awaited: dict[int, Future[bytes]], fetch: Fetch
    ) -> None:
        try:
            data = fetch(run[0] * BLOCK, len(run) * BLOCK)
        except BaseException as error:
            with self._lock:
                for number in run:
                    del self._coming[owner, number]
            for number in run:
                awaited[number].set_exception(_plain(error))
            return
        pieces = (
            [data] if len(run) == 1 else [data[at : at + BLOCK] for at in range(0, len(run) * BLOCK, BLOCK)]
        )
        with self._lock:
            for number, piece in zip(run, pieces, strict=True):
                del self._coming[owner, number]
                if len(piece) <= self.capacity:
                    self._kept[owner, number] = piece
        for number, piece in zip(run, pieces, strict=True):
            awaited[number].set_result(piece)


def _plain(error: BaseException) -> Exception:
    """Return what those who wait are told: the error, but no interrupt that was another's."""
    return error if isinstance(error, Exception) else Unavailable("the read was interrupted")


def _runs(numbers: list[int]) -> list[list[int]]:
    """Group ascending numbers into runs of neighbours, none too long."""
    runs: list[list[int]] = []
    for number in numbers:
        if runs and runs[-1][-1] + 1 == number and len(runs[-1]) < MOST_RUN:
            runs[-1].append(number)
        else:
            runs.append([number])
    return runs
