"""What goes up to a card: on a road of its own, tray by tray, while kernels work for another batch."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np
import pytest

from gputiles.backends import DecodeJob, Raster
from gputiles.backends.card import Sizes
from gputiles.backends.cuda import CudaBackend, Lane
from gputiles.batcher import Batcher
from gputiles.trace import Trace
from tests.races import Changed, Fault, Ledger, Race
from tests.standin import StandIn
from tests.test_cuda_memory import MIB, replaced, tile_job
from tests.test_cuda_overlap import JPEG, PACES, Together, batches, side_by_side, with_spill
from tests.test_cuda_unpack import expect_the_hosts

TILE = 64 * 64 * 2
TWO_TRAYS = Sizes(32 * MIB, scratch=MIB, returns=MIB, room=8 * TILE, slab=MIB)  # of four tiles each


@pytest.fixture(params=PACES)
def card(request: pytest.FixtureRequest) -> StandIn:
    return StandIn(pace=request.param)


@pytest.fixture
def backend(card: StandIn) -> Iterator[CudaBackend]:
    yield from with_spill(card)


def jobs_of(count: int, seed: int = 0) -> list[DecodeJob]:
    return [tile_job(seed + at) for at in range(count)]


def expect_tiles(backend: CudaBackend, outcomes: Sequence[Any], jobs: Sequence[DecodeJob]) -> None:
    for outcome, job in zip(outcomes, jobs, strict=True):
        expect_the_hosts(backend, outcome, job)


# -- one batch


def test_64_tiles_are_one_copy_beside_their_table_and_one_launch(backend: CudaBackend) -> None:
    jobs, counts = jobs_of(64), backend.card.device.counts
    counts.clear()
    outcomes = backend.decode(jobs)
    assert counts == {"uploads": 2, "unpack": 1}
    expect_tiles(backend, outcomes, jobs)


async def test_a_batch_of_decodes_is_one_wake_up_of_the_loop(backend: CudaBackend) -> None:
    jobs = jobs_of(64)
    batcher = Batcher(backend, items=1000, weight=1 << 30)
    loop, calls = asyncio.get_running_loop(), []

    def wake(*call: Any) -> None:
        calls.append(call)
        loop.call_soon_threadsafe(*call)

    batcher.tell = wake
    items = [batcher.enqueue("decode", job, Trace()) for job in jobs]
    batcher.dispatch()
    outcomes = await asyncio.gather(*(item.future for item in items))
    batcher.close()
    assert (batcher.batches, len(calls)) == (1, 1)
    expect_tiles(backend, outcomes, jobs)


def test_more_than_two_trays_hold_go_up_in_turns(card: StandIn, backend: CudaBackend) -> None:
    replaced(backend, card, TWO_TRAYS)
    jobs, counts = jobs_of(30), backend.card.device.counts
    counts.clear()
    outcomes = backend.decode(jobs)
    assert counts == {"uploads": 16, "unpack": 8}
    expect_tiles(backend, outcomes, jobs)


def test_tiles_that_the_host_decodes_go_up_in_turns_too(
    card: StandIn, backend: CudaBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Masked ones among them, and one that no tray holds."""
    replaced(backend, card, TWO_TRAYS)
    monkeypatch.setattr("gputiles.backends.packing.sizes", lambda _: [])
    jobs = [*jobs_of(9), tile_job(9, 200), *jobs_of(9, 10)]
    counts = backend.card.device.counts
    counts.clear()
    outcomes = backend.decode(jobs)
    assert counts["paste"] == 5
    expect_tiles(backend, outcomes, jobs)


# -- two batches


class Looking(Together):
    """Whoever waits first looks how far the roads come while no kernel is run."""

    def __init__(self, card: StandIn, backend: CudaBackend) -> None:
        super().__init__(card, backend)
        self.seen: list[str] = []
        self._card, self._roads = card, [lane.card.road._stream for lane in backend.lanes]
        card.done.clear()
        card.waiting = self._look

    def _look(self) -> None:
        self._wait()
        with self._card._lock:
            for road in self._roads if not self.seen else ():
                while road.able:
                    road.step()
            self.seen = self.seen or [*self._card.done, "looked"]


def gone_up(backend: CudaBackend, spoil: Callable[[CudaBackend], None]) -> list[str]:
    """Return what roads did while no kernel ran: a batch is drawn, the next one's tiles are sent up."""
    card = backend.card.device.cupy
    (drawn,) = batches(backend, JPEG, 1)
    expected, jobs = backend.render(drawn), jobs_of(8)
    spoil(backend)
    look = Looking(card, backend)
    files, outcomes = side_by_side([partial(backend.render, drawn), partial(backend.decode, jobs)])
    assert files == expected
    card.waiting = lambda: None
    expect_tiles(backend, outcomes, jobs)
    return look.seen


def one_stream_for_all(backend: CudaBackend) -> None:
    for lane in backend.lanes:
        lane.card.road._stream = backend.card.device._stream


def test_the_next_batch_goes_up_while_kernels_work() -> None:
    """The table of what is drawn, the tray and the table of what is decoded: nothing else waits for these."""
    for spoil in (lambda _: None, one_stream_for_all):
        backend = CudaBackend(StandIn(), 0, 2)
        seen = gone_up(backend, spoil)
        assert (seen == ["up", "up", "up", "looked"]) == (spoil is not one_stream_for_all)
        backend.close()


def test_tiles_that_come_back_to_the_card_do_not_wait_for_kernels() -> None:
    card = StandIn()
    backend = CudaBackend(card, 0, 2, None, spilled=1 << 22)
    (drawn,) = batches(backend, JPEG, 1)
    rasters = [raster for tiles in backend.decode(jobs_of(4)) for raster in tiles]  # type: ignore[union-attr]
    spilled = backend.spill(rasters)  # type: ignore[arg-type]
    expected = backend.render(drawn)
    lane, device = backend._free.get(), backend.card.device
    backend.on_card(lambda: lane.draughtsman._begin(drawn, []))  # and nobody waits for it
    card.done.clear()
    back = backend.restore(spilled)  # type: ignore[arg-type]
    assert [*card.done] == ["up"] * 4
    device.fence()
    backend._free.put(lane)
    assert backend.render(drawn) == expected
    for raster, pixels in zip(jobs_of(4), backend.download(back), strict=True):
        assert pixels.tobytes() == raster.chunks[0].data  # type: ignore[union-attr]
    backend.close()


# -- the stand-in shows what would be wrong


def kernels_wait_for_no_copy(lane: Lane) -> None:
    lane.card.road.arrive = lambda: None  # type: ignore[method-assign]


def trays_are_filled_again_at_once(lane: Lane) -> None:
    courier = lane.card.courier
    leave = courier.leave

    def left(tray: Any) -> None:
        leave(tray)
        tray.away = False

    courier.leave = left  # type: ignore[method-assign]


def trays_wait_for_their_copy_alone(lane: Lane) -> None:
    courier, road = lane.card.courier, lane.card.road

    def left(tray: Any) -> None:
        road.set_flag(tray.flag)
        tray.away = True

    courier.leave = left  # type: ignore[method-assign]


@pytest.mark.parametrize(
    ("spoil", "fault"),
    [
        (kernels_wait_for_no_copy, Race),
        (trays_are_filled_again_at_once, Changed),
        (trays_wait_for_their_copy_alone, Race),
    ],
)
@pytest.mark.parametrize("pace", ["lazy", 1, 2])
def test_a_wait_for_a_copy_that_is_left_out_shows(
    spoil: Callable[[Lane], None], fault: type[Fault], pace: str | int
) -> None:
    card = StandIn(pace=pace)
    backend = CudaBackend(card, 0, 2)
    replaced(backend, card, TWO_TRAYS)
    jobs = jobs_of(30)
    expect_tiles(backend, backend.decode(jobs), jobs)
    for lane in backend.lanes:
        spoil(lane)
    with pytest.raises(fault):
        backend.decode(jobs)
    backend.close()


def test_a_table_that_is_changed_on_its_way_shows(backend: CudaBackend) -> None:
    (drawn,) = batches(backend, JPEG, 1)
    card = backend.card.device.cupy

    def scribble() -> None:
        backend.lanes[0].card.parcel._boxes[0][1][:] = 0

    card.waiting = scribble
    with pytest.raises(Changed, match="were changed on their way"):
        backend.render(drawn)
    card.waiting = lambda: None


# -- moments


@pytest.mark.parametrize(
    ("order", "is_race"),
    [("nothing", True), ("event", False), ("wait", False), ("other event", True), ("reads", False)],
)
def test_accesses_of_two_streams_need_an_order(order: str, is_race: bool) -> None:
    ledger = Ledger()
    first = ledger.moment(1, None, [])
    after = [first] if order == "event" else [ledger.moment(3, None, [])] if order == "other event" else []
    early = ledger.moment(2, None, after)
    ledger.touch(first, (100, 50), "the first", writes=order != "reads")
    if order == "wait":
        ledger.know([first], [early])
    second = ledger.moment(2, early, []) if order == "wait" else early
    ledger.touch(second, (150, 10), "what lies behind")
    if is_race:
        with pytest.raises(Race, match="the second and the first"):
            ledger.touch(second, (149, 1), "the second")
    else:
        ledger.touch(second, (149, 1), "the second")


def test_what_somebody_waited_for_is_forgotten() -> None:
    ledger = Ledger()
    first, pending = ledger.moment(1, None, []), ledger.moment(2, None, [])
    ledger.touch(first, (0, 10), "the first", writes=True)
    ledger.know([first], [pending])
    assert len(ledger._accesses[1]) == 1  # what is pending does not know of the wait
    ledger.know([first], [])
    assert ledger._accesses[1] == []


def test_rasters_of_a_batch_are_all_there_when_it_ends(backend: CudaBackend) -> None:
    """Two threads decode, each waits for its own batch only."""
    jobs = [jobs_of(12, 100 * at) for at in range(4)]
    for outcomes, some in zip(
        side_by_side([partial(backend.decode, each) for each in jobs]), jobs, strict=True
    ):
        assert all(isinstance(tile, Raster) for tiles in outcomes for tile in tiles)
        expect_tiles(backend, outcomes, some)
    assert np.all([lane.card._launched is False for lane in backend.lanes])
