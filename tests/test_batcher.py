"""The stair: order, batches, bounds and cancellation, over a small backend of real threads."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

import pytest

from gputiles.batcher import Batcher
from gputiles.distribution import Distribution
from gputiles.errors import Damaged, Overloaded
from gputiles.trace import Trace

Make = Callable[..., Batcher]


class Recorder:
    """A backend that notes what it runs and waits at a gate."""

    name = "recorder"

    def __init__(self, workers: int = 1, most: int = 1, decodes: int = 100) -> None:
        self.workers = self.ahead = workers
        self.decodes = decodes
        self._most = most
        self.begun: list[Any] = []
        self.ran: list[tuple[str, list[Any]]] = []
        self.gate = threading.Event()

    def batch_size(self, verb: str, waiting: int, job: Any) -> int:
        return self._most

    def _run(self, verb: str, jobs: Sequence[Any]) -> list[Any]:
        self.begun += jobs
        self.gate.wait(10)
        self.ran.append((verb, list(jobs)))
        return [job if isinstance(job, Exception) else f"{verb} {job}" for job in jobs]

    def decode(self, jobs: Sequence[Any]) -> list[Any]:
        return self._run("decode", jobs)

    def downsample(self, jobs: Sequence[Any]) -> list[Any]:
        return self._run("downsample", jobs)

    def render(self, jobs: Sequence[Any]) -> list[Any]:
        return self._run("render", jobs)

    def measure(self, jobs: Sequence[Any]) -> list[Any]:
        raise RuntimeError("a bug")


@pytest.fixture
async def make() -> AsyncIterator[Make]:
    made: list[Batcher] = []

    def build(backend: Recorder, items: int = 100, weight: int = 1000) -> Batcher:
        made.append(Batcher(backend, items=items, weight=weight))  # type: ignore[arg-type]
        return made[-1]

    yield build
    for batcher in made:
        batcher.backend.gate.set()  # type: ignore[attr-defined]
        batcher.close()


async def _fill(batcher: Batcher, *jobs: tuple[str, Any], **kwargs: Any) -> list[asyncio.Task[Any]]:
    tasks = [asyncio.create_task(batcher.submit(verb, job, Trace(), **kwargs)) for verb, job in jobs]
    await asyncio.sleep(0)
    return tasks


async def test_the_latest_stage_runs_first_and_background_work_last(make: Make) -> None:
    backend = Recorder()
    batcher = make(backend)
    tasks = await _fill(batcher, ("decode", "a"), ("decode", "b"))  # one runs, one is handed over
    tasks += await _fill(batcher, ("render", "quiet"), background=True)
    tasks += await _fill(batcher, ("decode", "c"), ("downsample", "d"), ("render", "e"))
    backend.gate.set()
    await asyncio.gather(*tasks)
    order = [job for _, jobs in backend.ran for job in jobs]
    assert order == ["a", "b", "e", "d", "c", "quiet"]


async def test_a_worker_is_left_for_what_is_nearer_to_an_answer(make: Make) -> None:
    """However many chunks wait to be decoded: what is drawn meanwhile does not wait for them."""
    backend = Recorder(workers=2, decodes=1)
    batcher = make(backend)
    tasks = await _fill(batcher, *(("decode", number) for number in range(4)))
    assert batcher.report()["running"] == 1
    tasks += await _fill(batcher, ("render", "now"), ("downsample", "then"))
    assert batcher.report()["running"] == 3, "what is drawn, beside one chunk"
    tasks += await _fill(batcher, ("decode", 4))
    async with asyncio.timeout(10):
        while len(backend.begun) < 2:
            await asyncio.sleep(0.001)
    assert set(backend.begun) == {0, "now"}
    assert batcher.report()["jobs"] == {"decode": 1, "render": 1, "downsample": 1}, (
        "what the workers were given"
    )
    tasks.pop(1).cancel()
    await asyncio.sleep(0)
    backend.gate.set()
    await asyncio.gather(*tasks)
    assert sorted(map(str, (job for _, jobs in backend.ran for job in jobs))) == [
        "0",
        "2",
        "3",
        "4",
        "now",
        "then",
    ]
    assert batcher.report()["running"] == 0


async def test_what_queued_while_the_worker_was_busy_is_one_batch(make: Make) -> None:
    backend = Recorder(most=64)
    batcher = make(backend)
    tasks = await _fill(batcher, ("render", 0), ("render", 1), *(("render", i) for i in range(2, 66)))
    backend.gate.set()
    await asyncio.gather(*tasks)
    assert [len(jobs) for _, jobs in backend.ran] == [1, 1, 64]
    report = batcher.report()
    assert report["batches"] == 3
    assert report["batchSizes"]["render"]["counts"] == [2, 0, 0, 0, 0, 0, 1, 0]
    assert report["batchSizes"].keys() == {"render"}
    assert report["depths"]["sum"] == 1 + 1 + 64, "what waited when each began"


@pytest.mark.parametrize(
    ("number", "place"),
    [(1, 0), (2, 1), (3, 2), (4, 2), (5, 3), (8, 3), (9, 4), (32, 5), (33, 6), (64, 6), (65, 7), (10**9, 7)],
)
def test_a_number_is_counted_below_the_next_power_of_two(number: int, place: int) -> None:
    distribution = Distribution(64)
    distribution.add(number)
    report = distribution.report()
    assert report["bounds"] == [1, 2, 4, 8, 16, 32, 64]
    assert report["counts"] == [int(at == place) for at in range(8)]
    assert report["sum"] == number


async def test_an_error_reaches_its_own_job_only(make: Make) -> None:
    backend = Recorder(most=64)
    batcher = make(backend)
    backend.gate.set()
    tasks = await _fill(batcher, ("decode", "good"), ("decode", Damaged("tile 4")), ("decode", "fine"))
    outcomes = await asyncio.gather(*tasks, return_exceptions=True)
    assert outcomes[0] == "decode good"
    assert isinstance(outcomes[1], Damaged)
    assert outcomes[2] == "decode fine"


async def test_a_bug_in_the_backend_reaches_the_waiter_and_the_worker_lives_on(make: Make) -> None:
    backend = Recorder()
    backend.gate.set()
    batcher = make(backend)
    with pytest.raises(RuntimeError, match="a bug"):
        await batcher.submit("measure", "x", Trace())
    assert await batcher.submit("render", "y", Trace()) == "render y"


async def test_jobs_that_are_queued_together_are_shared_out_evenly(make: Make) -> None:
    """Six chunks: three for each of two workers, not fewer for the second because the first has some."""
    backend = Recorder(workers=2, decodes=2)
    backend.batch_size = lambda verb, waiting, _: max(1, min(3, waiting // 2))  # type: ignore[method-assign]
    every = asyncio.create_task(make(backend).submit_all("decode", [(n, 0) for n in range(6)], Trace()))
    backend.gate.set()
    await every
    assert [len(jobs) for _, jobs in backend.ran] == [3, 3]


async def test_a_full_queue_refuses_and_serves_on(make: Make) -> None:
    backend = Recorder()
    batcher = make(backend, items=2)
    tasks = await _fill(batcher, *(("decode", i) for i in range(4)))
    with pytest.raises(Overloaded, match="at most 2 jobs"):
        await batcher.submit("decode", "too many", Trace())
    backend.gate.set()
    assert await asyncio.gather(*tasks) == [f"decode {i}" for i in range(4)]


async def test_the_bytes_of_waiting_jobs_are_bounded_too(make: Make) -> None:
    backend = Recorder()
    batcher = make(backend, weight=100)
    tasks = await _fill(batcher, *(("decode", i) for i in range(3)), weight=80)
    with pytest.raises(Overloaded, match="80 bytes"):
        await batcher.submit("decode", "too large", Trace(), weight=80)
    backend.gate.set()
    await asyncio.gather(*tasks)
    assert batcher.report()["waitingBytes"] == 0


async def test_a_cancelled_job_leaves_the_queue_and_never_runs(make: Make) -> None:
    backend = Recorder()
    batcher = make(backend)
    tasks = await _fill(batcher, *(("decode", i) for i in range(5)))
    for task in tasks[2:]:
        task.cancel()
    await asyncio.gather(*tasks[2:], return_exceptions=True)
    assert batcher.report()["waiting"] == 0
    backend.gate.set()
    await asyncio.gather(*tasks[:2])
    assert [job for _, jobs in backend.ran for job in jobs] == [0, 1]
    assert batcher.report()["skipped"] == 3


@pytest.mark.parametrize(("jobs", "error"), [(5, Overloaded), (2, Damaged)])
async def test_of_jobs_handed_over_together_none_stays_behind_where_one_fails(
    make: Make, jobs: int, error: type[Exception]
) -> None:
    backend = Recorder()
    batcher = make(backend, items=3)
    asked = [(Damaged("broken"), 10), *((number, 10) for number in range(jobs))]
    together = asyncio.create_task(batcher.submit_all("decode", asked, Trace()))
    await asyncio.sleep(0)
    backend.gate.set()
    with pytest.raises(error):
        await together
    assert await batcher.submit_all("decode", [("a", 1), ("b", 1)], Trace()) == ["decode a", "decode b"]
    report = batcher.report()
    assert (report["waiting"], report["waitingBytes"], report["running"]) == (0, 0, 0)


async def test_the_time_in_the_queue_and_in_the_stage_is_traced(make: Make) -> None:
    backend = Recorder()
    backend.gate.set()
    trace = Trace()
    await make(backend).submit("render", "x", trace)
    assert set(trace.stages) == {"queue", "render"}
    assert all(milliseconds >= 0 for milliseconds in trace.stages.values())
