"""The stair: the only crossing from the event loop to the compute backend.

There is no timer. Jobs wait in one queue, the latest stage first; whatever is there when a
worker becomes free is its next batch.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

from gputiles.backends import Backend
from gputiles.crew import Crew
from gputiles.distribution import Distribution
from gputiles.errors import DeviceLost, OutOfMemory, Overloaded
from gputiles.trace import Trace

# Latest stage first: what is nearest to an answer frees the most memory soonest.
PRIORITY = {
    "render": 0, "download": 1, "resample": 2, "measure": 3, "spill": 4, "fence": 5, "downsample": 6,
    "restore": 7, "decode": 8,
}  # fmt: skip
EVENLY = ("decode",)  # shared out in batches of one size: they are read together; others end in small ones
BACKGROUND = 10  # added for synthesis, import and prefetch
RELIEF = (0.25, 1.0)  # of what is stored: given up before the second try, and before the last
PAUSE = 0.002  # seconds without any work, after which there is time to prepare for more
LARGEST_BATCH, LONGEST_QUEUE = 64, 4096  # jobs, up to which they are told apart by powers of two


@dataclass(slots=True, eq=False)
class Item:
    """A job that waits, or runs; ``future`` gets its value or its error."""

    place: tuple[int, int]  # in the queue: its priority, and its number
    verb: str
    job: Any
    weight: int
    future: asyncio.Future[Any]
    trace: Trace
    queued: float
    tried: int = 0  # how often memory was short for it


class Batcher:
    """Feeds a backend's workers from one bounded priority queue.

    Where the device is out of memory, ``relieve`` is called, once for a batch, with the share of
    what is stored that should go, and the jobs get another try. ``over`` is set when the device
    is lost. Where the workers have nothing to do, ``aside`` is called with what prepares the backend for
    more, and has it done on a thread of less importance. ``tell`` has the loop call what it is given: a
    worker tells by it what came of a batch.
    """

    def __init__(self, backend: Backend, *, items: int, weight: int) -> None:
        self.backend = backend
        self.relieve: Callable[[float], None] | None = None
        self.aside: Callable[[Callable[[], None]], None] | None = None
        self.lost: DeviceLost | None = None
        self.over = asyncio.Event()
        self.batches = self.skipped = 0
        self.jobs: Counter[str] = Counter()
        self.seconds: dict[str, float] = {}  # of the workers, by verb
        self.waited = dict.fromkeys(PRIORITY, 0.0)  # seconds of jobs in the queue, by verb
        self.failed: Counter[str] = Counter()
        self.sizes = {verb: Distribution(LARGEST_BATCH) for verb in PRIORITY}  # of batches
        self.depths = Distribution(LONGEST_QUEUE)  # of the queue, as each batch found it
        self._most_items = items
        self._most_weight = weight
        self._heap: list[tuple[tuple[int, int], Item]] = []
        self._weight = 0
        self._resting = False  # whether a pause is waited for
        self._running: Counter[str] = Counter()  # batches, by verb
        self._numbers = itertools.count()
        self._loop = asyncio.get_running_loop()
        self.tell: Callable[..., object] = self._loop.call_soon_threadsafe
        self._crew: Crew[list[Item]] = Crew("gputiles-worker", backend.workers, self._run)

    async def submit(
        self, verb: str, job: Any, trace: Trace, *, weight: int = 0, background: bool = False
    ) -> Any:
        """Run one job of a backend's ``verb`` and return its value, or raise its error.

        ``weight`` is the bytes that the waiting job holds. Raises Overloaded where the
        queue is full. Cancelling the caller takes an unstarted job out of the queue.
        """
        (value,) = await self.submit_all(verb, [(job, weight)], trace, background=background)
        return value

    async def submit_all(
        self, verb: str, jobs: Iterable[tuple[Any, int]], trace: Trace, *, background: bool = False
    ) -> list[Any]:
        """Run jobs, each with its weight, as ``submit`` runs one; the first error ends all."""
        items: list[Item] = []
        try:
            for job, weight in jobs:
                items.append(self.enqueue(verb, job, trace, weight=weight, background=background))
            self.dispatch()
            return [await self._value(item) for item in items]
        except BaseException:
            for item in items:
                self.withdraw(item)
            raise

    async def _value(self, item: Item) -> Any:
        """Return the value of a job, which gets another try where the device was out of memory."""
        while True:
            try:
                return await item.future
            except OutOfMemory:
                if self.relieve is None or item.tried == len(RELIEF):
                    raise
            if self.lost is not None:
                raise self.lost
            item.tried += 1
            item.queued, item.future = time.perf_counter(), self._loop.create_future()
            self._push(item)
            self.dispatch()

    def enqueue(
        self,
        verb: str,
        job: Any,
        trace: Trace,
        *,
        weight: int = 0,
        background: bool = False,
    ) -> Item:
        """Put a job in the queue as ``submit`` does, for a caller that will ``dispatch`` many at once."""
        if self.lost is not None:
            raise self.lost
        if len(self._heap) >= self._most_items or (self._heap and self._weight + weight > self._most_weight):
            raise Overloaded(
                f"{len(self._heap)} jobs of {self._weight} bytes wait for the workers; "
                f"at most {self._most_items} jobs of {self._most_weight} bytes may"
            )
        item = Item(
            (PRIORITY[verb] + (BACKGROUND if background else 0), next(self._numbers)),
            verb,
            job,
            weight,
            self._loop.create_future(),
            trace,
            time.perf_counter(),
        )
        self._push(item)
        return item

    def _push(self, item: Item) -> None:
        heapq.heappush(self._heap, (item.place, item))
        self._weight += item.weight

    def withdraw(self, item: Item) -> None:
        """Cancel a job; one that has not started leaves the queue."""
        if not item.future.cancel() and not item.future.cancelled():
            item.future.exception()  # nobody is left to hear of it
        if (item.place, item) in self._heap:
            self._heap.remove((item.place, item))
            heapq.heapify(self._heap)
            self._weight -= item.weight
            self.skipped += 1

    @property
    def idle(self) -> bool:
        """Whether no job runs or waits."""
        return not self._heap and not self._running.total()

    def hosting(self, waits: Callable[[], bool]) -> AbstractContextManager[None]:
        """Let the caller be one of the workers for what it brings them (see ``Crew.hosting``)."""
        return self._crew.hosting(waits)

    def dispatch(self) -> None:
        """Hand batches of what waits to the workers that are free."""
        waiting = len(self._heap)
        while self._heap and self._may_run(self._foremost.verb):
            self.depths.add(len(self._heap))
            batch = self._next_batch(waiting)
            self._running[batch[0].verb] += 1
            self.batches += 1
            self.jobs[batch[0].verb] += len(batch)
            self.sizes[batch[0].verb].add(len(batch))
            self._crew.give(batch)

    @property
    def _foremost(self) -> Item:
        """The job of those that wait whose turn is next."""
        return self._heap[0][1]

    def _may_run(self, verb: str) -> bool:
        """Say whether a batch may go to the workers now, or waits for one that they have."""
        if verb == "decode" and self._running[verb] >= self.backend.decodes:
            return False
        return self._running.total() < self.backend.workers + self.backend.ahead

    def _next_batch(self, waiting: int) -> list[Item]:
        """Take the foremost job of ``waiting`` at first, and more of its verb if the backend likes that."""
        verb, job = self._foremost.verb, self._foremost.job
        most = self.backend.batch_size(verb, waiting if verb in EVENLY else len(self._heap), job)
        batch = [self._pop()]
        while self._heap and len(batch) < most and self._foremost.verb == verb:
            batch.append(self._pop())
        return batch

    def _pop(self) -> Item:
        _, item = heapq.heappop(self._heap)
        self._weight -= item.weight
        return item

    def _run(self, batch: list[Item]) -> None:
        """Run a batch; on a worker thread."""
        started = time.perf_counter()
        live = [item for item in batch if not item.future.cancelled()]
        try:
            outcomes = getattr(self.backend, batch[0].verb)([item.job for item in live]) if live else []
        except Exception as error:  # a bug of the backend; it must reach the waiters, not end the worker
            outcomes = [error] * len(live)
        except BaseException:  # what interrupts a guest does not end the work, which the place's thread does
            self._crew.give(batch)
            raise
        seconds = time.perf_counter() - started
        self.tell(self._finish, batch[0].verb, live, outcomes, started, seconds)

    def _finish(
        self, verb: str, batch: list[Item], outcomes: Sequence[Any], started: float, seconds: float
    ) -> None:
        self._running[verb] -= 1
        if batch:
            self.seconds[verb] = self.seconds.get(verb, 0.0) + seconds
        self._notice(batch, outcomes)
        for item in batch:
            item.trace.add("queue", started - item.queued)
            self.waited[verb] += started - item.queued
        for trace in {id(item.trace): item.trace for item in batch}.values():  # once for all that it is of
            trace.add(verb, seconds)
        for item, outcome in zip(batch, outcomes, strict=True):
            if item.future.done():
                continue
            if isinstance(outcome, BaseException):
                self.failed[item.verb] += 1
                item.future.set_exception(outcome)
            else:
                item.future.set_result(outcome)
        self.dispatch()
        if verb != "decode" and not self._running.total():  # what is decoded is drawn next
            self._rest()

    def _rest(self) -> None:
        """Have the backend prepared for more, if it wants that and nothing follows for a while."""
        if self.aside is not None and self.backend.unprepared and not self._resting:
            self._resting = True
            self._loop.call_later(PAUSE, self._pause, self.batches)

    def _pause(self, batches: int) -> None:
        """Have the backend prepared, if no batch has followed ``batches``; else wait on."""
        self._resting = False
        if batches != self.batches:
            self._rest()
        elif self.aside is not None:
            self.aside(self.backend.prepare)

    def _notice(self, batch: Sequence[Item], outcomes: Sequence[Any]) -> None:
        """Make room where memory was short, and say so where the device is lost."""
        kinds = {type(outcome) for outcome in outcomes}
        if OutOfMemory in kinds and self.relieve is not None:
            short = [
                item.tried
                for item, outcome in zip(batch, outcomes, strict=True)
                if isinstance(outcome, OutOfMemory) and item.tried < len(RELIEF)
            ]
            if short:
                self.relieve(RELIEF[max(short)])
        if DeviceLost in kinds and self.lost is None:
            self.lost = next(outcome for outcome in outcomes if isinstance(outcome, DeviceLost))
            self.over.set()

    def report(self) -> dict[str, Any]:
        """Return the queue's counters, ready for JSON."""
        return {
            "waiting": len(self._heap),
            "waitingBytes": self._weight,
            "running": self._running.total(),
            "batches": self.batches,
            "batchSizes": {verb: sizes.report() for verb, sizes in self.sizes.items() if sizes.sum},
            "depths": self.depths.report(),
            "jobs": dict(self.jobs),
            "seconds": dict(self.seconds),
            "waited": {verb: self.waited[verb] for verb in self.seconds},
            "failed": dict(self.failed),
            "skipped": self.skipped,
        }

    def close(self) -> None:
        """Finish what runs, cancel what waits and end the workers."""
        for _, item in self._heap:
            item.future.cancel()
        self._heap.clear()
        self._weight = 0
        self._crew.close()
