"""Two batches under way at once: one is launched while the results of the other travel home.

The stand-in's streams are as far as its pace lets them; whatever that is, no batch may touch what
another still needs.
"""

from __future__ import annotations

import asyncio
import random
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pytest

from gputiles.backends import DownsampleJob, MeasureJob, Raster, RenderJob, ResampleJob, proving
from gputiles.backends.card import Sizes
from gputiles.backends.cuda import CudaBackend, Lane
from gputiles.backends.host import HostBackend
from gputiles.backends.paste import raster_of
from gputiles.batcher import Batcher
from gputiles.cardtest import shown
from gputiles.encoded import Encoding, Format
from gputiles.geometry import Rect
from gputiles.image import Reduction
from gputiles.png import check as png_check
from gputiles.trace import Trace
from tests import parity
from tests.races import Fault
from tests.standin import StandIn, codecs
from tests.test_cuda_memory import MIB, grey, replaced, tile_job

JPEG, PNG, VALUES = Encoding(), Encoding(Format.PNG), Encoding(Format.NPY, shown=True)  # streams; pixels
PACES = ["lazy", "ahead", 1, 2, 3]


class Together:
    """Whoever waits for the card first waits until ``count`` batches have been launched."""

    def __init__(self, card: StandIn, backend: CudaBackend, count: int = 2) -> None:
        self.launched = 0
        self.patience = 60.0
        self._count = count
        self._all = threading.Event()
        self._set_flag = backend.card.device.set_flag
        self._ends = [lane.card._done for lane in backend.lanes]
        backend.card.device.set_flag = self._launched  # type: ignore[method-assign]
        card.waiting = self._wait

    def _launched(self, flag: Any, stream: Any = None) -> None:
        self._set_flag(flag, stream)
        self.launched += flag in self._ends
        if self.launched >= self._count:
            self._all.set()

    def _wait(self) -> None:
        assert self._all.wait(self.patience), "a batch was waited for before the next was launched"


@pytest.fixture(params=PACES)
def card(request: pytest.FixtureRequest) -> StandIn:
    return StandIn(pace=request.param)


@pytest.fixture
def backend(card: StandIn) -> Iterator[CudaBackend]:
    yield from with_spill(card)


def with_spill(card: StandIn) -> Iterator[CudaBackend]:
    """Yield the backend of a card, which nothing keeps from closing afterwards."""
    backend = CudaBackend(card, 0, 2, None, spilled=1 << 22)
    yield backend
    card.waiting = lambda: None
    backend.close()


def batches(backend: CudaBackend, encoding: Encoding, count: int = 2) -> list[list[RenderJob]]:
    """Return batches of styled tiles, no two alike."""
    rng = np.random.default_rng(5)
    hosts = [raster_of(rng.integers(0, 4000, (40, 33, 1)).astype(np.uint16)) for _ in range(8 * count)]
    jobs = [grey(raster, float(at), encoding) for at, raster in enumerate(parity.up(backend, hosts))]
    return [jobs[8 * at : 8 * at + 8] for at in range(count)]


def side_by_side(calls: Sequence[Callable[[], Any]]) -> list[Any]:
    with ThreadPoolExecutor(len(calls)) as pool:
        return [future.result() for future in [pool.submit(call) for call in calls]]


@pytest.mark.parametrize("encoding", [JPEG, PNG, VALUES], ids=str)
def test_a_batch_is_launched_before_the_last_ones_results_are_waited_for(
    card: StandIn, backend: CudaBackend, encoding: Encoding
) -> None:
    made = batches(backend, encoding)
    expected = [backend.render(jobs) for jobs in made]
    for _ in range(3):
        Together(card, backend)
        assert side_by_side([lambda jobs=jobs: backend.render(jobs) for jobs in made]) == expected  # type: ignore[misc]


@pytest.mark.parametrize("encoding", [JPEG, PNG], ids=str)
def test_the_next_batch_is_drawn_while_results_travel_home(encoding: Encoding) -> None:
    """Copies to the host are on a stream of their own: however slow it is, the kernels go on."""
    with opened("ahead") as (card, backend):
        made = batches(backend, encoding)
        for jobs in made:
            backend.render(jobs)
        Together(card, backend)
        card.done.clear()
        side_by_side([partial(backend.render, jobs) for jobs in made])
        assert [name for name in card.done if name in ("composite", "down")] == ["composite"] * 2 + [
            "down"
        ] * 2


def test_chunks_are_decoded_while_files_travel_home(card: StandIn, backend: CudaBackend) -> None:
    (jobs,) = batches(backend, JPEG, 1)
    expected = backend.render(jobs)
    Together(card, backend)
    files, tiles = side_by_side(
        [lambda: backend.render(jobs), lambda: backend.decode([tile_job(seed) for seed in range(8)])]
    )
    assert files == expected
    card.waiting = lambda: None
    for seed, pixels in enumerate(backend.download([raster for (raster,) in tiles])):
        data = tile_job(seed).chunks[0].data
        assert isinstance(data, bytes)
        assert pixels.tobytes() == data  # type: ignore[union-attr]


@pytest.mark.parametrize("verb", ["downsample", "resample", "measure", "download", "spill"])
def test_no_verb_is_in_the_way_of_another_batch(card: StandIn, backend: CudaBackend, verb: str) -> None:
    (files,) = batches(backend, JPEG, 1)
    rasters = [job.rasters[0] for job in files]
    like = partial(DownsampleJob, split=(33, 40), width=17, height=20, reduction=Reduction.MEAN)
    jobs: Sequence[Any] = {
        "downsample": [like((each, None, None, None), nodata=7) for each in rasters],
        "resample": [
            ResampleJob(((0, 0, each),), Rect(2, 3, 29, 31), 11, 12, Reduction.MEAN) for each in rasters
        ],
        "measure": [MeasureJob(each, 0, edges) for each in rasters for edges in (None, (0.0, 4000.0, 50))],
    }.get(verb, rasters)
    expected = backend.render(files), told(backend, getattr(backend, verb)(jobs))
    Together(card, backend)
    ours, theirs = side_by_side([lambda: backend.render(files), lambda: getattr(backend, verb)(jobs)])
    card.waiting = lambda: None
    assert (ours, told(backend, theirs)) == expected


def told(backend: CudaBackend, outcomes: Sequence[Any]) -> list[Any]:
    """Return outcomes in a form that can be compared."""
    found = [outcome for outcome in outcomes if isinstance(outcome, Raster)]
    if found and all(outcome.address in backend._attic._pinned._held for outcome in found[:1]):
        found = backend.restore(found)  # type: ignore[assignment]
    pixels = iter(backend.download(found))
    return [
        next(pixels).tobytes()  # type: ignore[union-attr]
        if isinstance(outcome, Raster)
        else outcome.tobytes()
        if isinstance(outcome, np.ndarray)
        else repr(outcome)
        for outcome in outcomes
    ]


def test_batches_of_every_kind_side_by_side_are_the_hosts(backend: CudaBackend) -> None:
    check_side_by_side(backend)


def check_side_by_side(backend: CudaBackend, rounds: int = 25) -> None:
    """Run six threads, each with its own order of verbs, over rasters that come and go."""
    host = HostBackend(1)
    encodings = [JPEG, PNG, VALUES]
    made = [job for encoding in encodings for batch in batches(backend, encoding) for job in batch]
    plain = [
        replace(job, rasters=tuple(map(raster_of, backend.download(job.rasters))))  # type: ignore[arg-type]
        for job in made
    ]
    expected = [shown(file) for file in host.render(plain)]
    host.close()

    def work(seed: int) -> int:
        chance, done = random.Random(seed), 0
        for _ in range(rounds):
            chosen = chance.sample(range(len(made)), chance.randint(1, 12))
            if chance.random() < 0.5:
                files = backend.render([made[at] for at in chosen])
                assert [shown(file) for file in files] == [expected[at] for at in chosen]
            else:
                tiles = backend.decode([tile_job(at) for at in chosen])
                rasters = [raster for each in tiles if isinstance(each, tuple) for raster in each]
                back = backend.restore(backend.spill(rasters))  # type: ignore[arg-type]
                for at, pixels in zip(chosen, backend.download(back), strict=True):  # type: ignore[arg-type]
                    assert pixels.tobytes() == tile_job(at).chunks[0].data  # type: ignore[union-attr]
            done += 1
        return done

    assert side_by_side([lambda seed=seed: work(seed) for seed in range(6)]) == [rounds] * 6  # type: ignore[misc]


STAGES = {
    JPEG: ("jpeg",),
    PNG: ("png_look", "png_reduce", "png_filter", "png_deflate", "png_tail"),
}  # fmt: skip


@pytest.mark.parametrize("encoding", STAGES, ids=str)
async def test_a_batch_is_one_transfer_and_one_wake_up_of_the_loop(
    card: StandIn, backend: CudaBackend, encoding: Encoding
) -> None:
    made = batches(backend, encoding, 16)
    jobs = [job for batch in made for job in batch]
    expected = [*backend.render(jobs[:64]), *backend.render(jobs[64:])]
    batcher = Batcher(backend, items=1000, weight=1 << 30)
    loop, calls = asyncio.get_running_loop(), []

    def wake(*call: Any) -> None:
        calls.append(call)
        loop.call_soon_threadsafe(*call)

    batcher.tell = wake
    Together(card, backend)
    counts = backend.card.device.counts
    counts.clear()
    items = [batcher.enqueue("render", job, Trace()) for job in jobs]
    batcher.dispatch()
    found = await asyncio.gather(*(item.future for item in items))
    batcher.close()
    assert found == expected
    assert (batcher.batches, len(calls)) == (2, 2)
    every = ("uploads", "downloads", "composite", *STAGES[encoding], "follow", "pack")
    assert counts == dict.fromkeys(every, 2)


# -- what is made in several goes, and by nvImageCodec


def small(backend: CudaBackend, card: StandIn) -> None:
    """Give the card so little memory that a picture goes through it in pieces."""
    replaced(backend, card, Sizes(32 * MIB, scratch=MIB, returns=MIB // 2, room=MIB // 4, slab=MIB))


@pytest.mark.parametrize("encoding", [JPEG, PNG, VALUES], ids=str)
def test_pieces_of_large_pictures_side_by_side_do_not_meet(
    card: StandIn, backend: CudaBackend, encoding: Encoding
) -> None:
    """Neither pixels, nor streams, nor the checksum that a PNG's pieces hand on."""
    small(backend, card)
    rng = np.random.default_rng(3)
    hosts = [raster_of(rng.integers(0, 4000, (500, 700, 1)).astype(np.uint16)) for _ in range(2)]
    jobs = [[grey(raster, float(at), encoding)] for at, raster in enumerate(parity.up(backend, hosts))]
    on_host = [replace(job, rasters=(raster,)) for (job,), raster in zip(jobs, hosts, strict=True)]
    expected = [[shown(file)] for file in parity.HOST.render(on_host)]
    launches = backend.card.device.counts
    launches.clear()
    Together(card, backend)
    found = side_by_side([partial(backend.render, some) for some in jobs])
    assert [[shown(file) for file in files] for files in found] == expected
    assert launches["composite"] > 4
    if encoding is PNG:
        png_check(found[0][0])


@pytest.mark.parametrize("pace", PACES)
def test_what_nvimagecodec_encodes_side_by_side_is_what_it_encodes_alone(pace: str | int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(proving, "right_formats", lambda *_: frozenset({Format.PNG}))
        card = StandIn(pace=pace)
        backend = CudaBackend(card, 0, 1, None, codecs())
    made = [
        [*jpegs, *pngs] for jpegs, pngs in zip(batches(backend, JPEG), batches(backend, PNG), strict=True)
    ]
    expected = [backend.render(jobs) for jobs in made]
    Together(card, backend)
    assert side_by_side([partial(backend.render, jobs) for jobs in made]) == expected
    card.waiting = lambda: None
    backend.close()


def test_what_one_lane_learns_of_files_all_lanes_know(backend: CudaBackend) -> None:
    for encoding in (JPEG, PNG):
        (jobs,) = batches(backend, encoding, 1)
        counts = backend.card.device.counts
        for lane in [backend.lanes[0], *backend.lanes]:
            counts.clear()
            lane.draughtsman.render(jobs)
        assert counts["downloads"] == 1
    assert {id(lane.draughtsman._habits) for lane in backend.lanes} == {id(backend.habits)}


def test_encoders_are_tried_out_once_for_all_lanes(monkeypatch: pytest.MonkeyPatch) -> None:
    tried: list[object] = []

    def wrong(*given: object) -> frozenset[Format]:
        tried.append(given)
        return frozenset()

    monkeypatch.setattr(proving, "right_formats", wrong)
    with opened("lazy") as (_, backend):
        made = batches(backend, PNG, len(backend.lanes))
        for lane, jobs in zip(backend.lanes, made, strict=True):
            on_host = [
                replace(job, rasters=tuple(map(raster_of, backend.download(job.rasters))))  # type: ignore[arg-type]
                for job in jobs
            ]
            assert lane.draughtsman.render(jobs) == parity.HOST.render(on_host)
        assert backend.card.device.counts["png_deflate"] == 0
    assert len(tried) == 1


# -- the stand-in shows what would be wrong


def overlapped(backend: CudaBackend, spoil: Callable[[list[Lane]], None], encoding: Encoding) -> bool:
    """Say whether two batches, both launched before either is waited for, come out right once spoilt."""
    made, lanes = batches(backend, encoding), backend.lanes[:2]
    expected = [backend.render(jobs) for jobs in made]
    spoil(lanes)
    Together(backend.card.device.cupy, backend)
    calls = [partial(lane.draughtsman.render, jobs) for lane, jobs in zip(lanes, made, strict=True)]
    try:
        return side_by_side(calls) == expected
    except Fault:
        return False


def one_lane(lanes: list[Lane]) -> None:
    lanes[1] = lanes[0]


def one_place_for_results(lanes: list[Lane]) -> None:
    lanes[1].card.returns = lanes[0].card.returns


def no_copy_waits(lanes: list[Lane]) -> None:
    for lane in lanes:
        lane.card.road.follow = lambda: None  # type: ignore[method-assign]
    lanes.reverse()  # what lies there still is the other batch's


@contextmanager
def opened(pace: str) -> Iterator[tuple[StandIn, CudaBackend]]:
    card = StandIn(pace=pace)
    backend = CudaBackend(card, 0, 1)
    try:
        yield card, backend
    finally:
        card.waiting = lambda: None
        backend.close()


@pytest.mark.parametrize(
    ("spoil", "pace"),
    [(one_lane, "lazy"), (one_lane, "ahead"), (one_place_for_results, "ahead"), (no_copy_waits, "lazy")],
)
@pytest.mark.parametrize("encoding", [PNG, VALUES], ids=str)
def test_a_double_buffer_that_is_made_single_shows(
    spoil: Callable[[list[Lane]], None], pace: str, encoding: Encoding
) -> None:
    for change in (lambda _: None, spoil):
        with opened(pace) as (_, backend):
            assert overlapped(backend, change, encoding) == (change is not spoil)


def test_waiting_for_a_batch_before_the_next_is_launched_shows() -> None:
    with opened("lazy") as (card, backend):
        made = batches(backend, JPEG)
        for _ in backend.lanes[1:]:
            backend._free.get()  # one lane alone: batches take turns
        Together(card, backend).patience = 0.0
        with pytest.raises(AssertionError, match="was waited for before the next"):
            side_by_side([partial(backend.render, jobs) for jobs in made])
