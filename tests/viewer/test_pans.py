"""Pans and zooms that moved on: what nothing is seen of any more is called off, all else comes."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Event, Thread
from typing import Any

import pytest
from aiohttp import web
from playwright.sync_api import Browser, Route

from gputiles.app import SERVER, create_app
from gputiles.config import Config
from gputiles.engine import Engine
from gputiles.state import STATE
from tests.browser import Visit
from tests.viewer.conftest import visiting
from tests.viewer.scene import BLUE, GREEN, RED, WHITE, shows_quarters, view, write_gallery
from tests.viewer.test_loading import placed, places
from tests.viewer.test_restyling import Tap, restyle

CORNER = "#z=2&x=400&y=300"  # full resolution, twice as large: 470 × 364 pixels of the image are seen
NEXT, LAST = "#z=2&x=460&y=300", "#z=2&x=560&y=300"  # a column of tiles further, and another
FAR = "#z=2&x=1700&y=1700"
WHOLE = "#z=0.25&x=1024&y=1024"
WALK = [(600, 300), (1000, 300), (1400, 300), (1800, 300), (1800, 700), (1400, 700), (1000, 700), (600, 700)]
JOBS = "() => OpenSeadragon.getViewer('osd').imageLoader.jobsInProgress"


def go(visit: Visit, hash_: str) -> None:
    visit.page.evaluate("(hash) => (location.hash = hash)", hash_)


class Held:
    """The requests of a visit for tiles, which wait."""

    def __init__(self, visit: Visit, pattern: str) -> None:
        self.visit = visit
        self.routes: list[Route] = []
        self.holds = True
        visit.page.route(pattern, self._take)

    def _take(self, route: Route) -> None:
        if self.holds:
            self.routes.append(route)
        else:
            route.continue_()

    def until(self, count: int) -> None:
        self.visit.until(lambda: len(self.routes), lambda found: found >= count, f"{count} requests")

    def release(self, first: int = 0) -> None:
        """Let the requests from one on go on, and all that come."""
        self.holds = False
        for route in self.routes[first:]:
            route.continue_()


def idle(visit: Visit) -> None:
    """Wait until all that is seen has come, and nothing is waited for."""
    visit.page.wait_for_function("() => OpenSeadragon.getViewer('osd').world.getItemAt(0).getFullyLoaded()")
    visit.until(lambda: visit.page.evaluate(JOBS), lambda jobs: jobs == 0, "no job")


@pytest.fixture
def held(tour: Visit) -> Held:
    """A view at full resolution that is whole, coarser tiles too, and what is asked for from then on."""
    view(tour, "large.ome.tif", WHOLE)
    idle(tour)
    go(tour, CORNER)
    tour.shows(0.5, 0.5, RED)
    idle(tour)
    return Held(tour, "**/tiles:batch")


def test_a_pan_that_moved_on_calls_its_batch_off_and_asks_anew_when_it_comes_back(
    tour: Visit, held: Held
) -> None:
    before = len(places(tour))
    go(tour, FAR)
    held.until(1)
    asked = set(places(tour)[before:])
    assert tour.aborted == []
    go(tour, CORNER)
    tour.until(lambda: len(tour.aborted), lambda count: count == 1, "a batch that is called off")
    assert tour.page.evaluate(JOBS) == 0, "the library waits for none of its tiles"
    before = len(places(tour))
    go(tour, FAR)
    held.until(2)
    assert set(places(tour)[before:]) == asked
    held.release(1)
    tour.shows(0.5, 0.5, WHITE)
    idle(tour)
    assert [url.rpartition(":")[2] for url in tour.aborted] == ["batch"]
    assert tour.page.locator("#notice").is_hidden()
    count = len(tour.tiles())
    go(tour, CORNER)
    tour.shows(0.5, 0.5, RED)
    assert len(tour.tiles()) == count, "what came is kept"


def test_a_batch_of_which_something_is_still_seen_goes_on(tour: Visit, held: Held) -> None:
    go(tour, NEXT)
    held.until(1)
    go(tour, LAST)
    held.until(2)
    assert [{x for _, x, _ in batch["tiles"]} for batch in tour.batches[-2:]] == [{5}, {6}]
    assert tour.aborted == []
    held.release()
    idle(tour)
    assert tour.aborted == []
    asked = places(tour)
    assert len(set(asked)) == len(asked), "nothing is asked for twice"


def test_what_is_finer_than_a_zoom_needs_is_called_off(tour: Visit, held: Held) -> None:
    go(tour, FAR)
    held.until(1)
    go(tour, WHOLE)
    tour.until(lambda: len(tour.aborted), lambda count: count == 1, "a batch that is called off")
    held.release(1)
    shows_quarters(tour, RED, GREEN, BLUE, WHITE)
    idle(tour)
    assert len(tour.aborted) == 1


def test_single_tiles_are_called_off_one_by_one(tour: Visit) -> None:
    tour.page.route("**/tiles:batch", lambda route: route.fulfill(status=404, body="not here"))
    view(tour, "large.ome.tif", CORNER)
    tour.shows(0.5, 0.5, RED)
    idle(tour)
    singles = Held(tour, "**/zxy/**")
    go(tour, FAR)
    singles.until(10)  # more may be on their way to us
    go(tour, CORNER)
    tour.until(
        lambda: {placed(url) for url in tour.aborted},
        lambda gone: gone == {placed(route.request.url) for route in singles.routes},
        "all called off",
    )
    singles.holds = False
    go(tour, FAR)
    tour.shows(0.5, 0.5, WHITE)
    idle(tour)
    tour.forgive("status of 404")


def test_a_long_walk_leaves_one_batch_under_way(tour: Visit, held: Held) -> None:
    for step, (x, y) in enumerate(WALK, 1):  # each out of sight of the last
        go(tour, f"#z=4&x={x}&y={y}")
        held.until(step)
    tour.until(lambda: len(tour.aborted), lambda count: count == 7, "seven batches that are called off")
    held.release(7)
    tour.shows(0.5, 0.5, RED)
    idle(tour)
    assert len(tour.aborted) == 7


def test_over_the_socket_only_what_is_still_seen_is_asked_for_again(tour: Visit) -> None:
    tap = Tap(tour)
    view(tour, "large.ome.tif", WHOLE)
    tour.until(lambda: restyle(tour) or len(tap.said), lambda count: count >= 2, "messages")
    tap.holds = True
    before = len(tap.said)
    tour.page.get_by_label("Colour of W").fill("#8000ff")
    tour.until(lambda: len(tap.said), lambda count: count > before, "a message")
    whole = tap.said[-1]["tiles"]
    go(tour, FAR)
    tour.until(lambda: tap.said[-1]["tiles"], lambda tiles: tiles != whole, "a message for what is seen now")
    asked = tap.said[-1]["tiles"]
    assert any(place in whole for place in asked), "what has not come, and is seen"
    ends = [(2048 >> (4 - z) >> 7) for z, _, _ in asked]  # tiles across their level
    assert all((x + 1) / end > 1460 / 2048 for (_, x, _), end in zip(asked, ends, strict=True))
    assert not all((x + 1) / end > 1460 / 2048 for (z, x, _) in whole for end in [2048 >> (4 - z) >> 7])
    tap.release()
    tour.shows(0.5, 0.5, (128, 0, 255))
    tour.settle()
    idle(tour)
    go(tour, WHOLE)
    shows_quarters(tour, RED, GREEN, BLUE, (128, 0, 255))


@contextmanager
def serving_here(folder: Path) -> Iterator[tuple[str, Engine]]:
    """Serve from a thread of this process, as the command does; yields the address and the engine."""
    app = create_app(Config(roots=(folder,), tile_cache=1 << 26, raw_cache=1 << 27, workers=1))
    loop = asyncio.new_event_loop()
    runner = web.AppRunner(app, **SERVER)

    async def start() -> None:
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()

    thread = Thread(target=loop.run_forever)
    thread.start()
    try:
        asyncio.run_coroutine_threadsafe(start(), loop).result(30)
        yield "http://{}:{}".format(*runner.addresses[0][:2]), app[STATE].engine
    finally:
        asyncio.run_coroutine_threadsafe(runner.cleanup(), loop).result(30)
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


def test_what_a_pan_calls_off_leaves_the_servers_queue(browser: Browser, tmp_path: Path) -> None:
    write_gallery(tmp_path)
    gate = Event()
    with serving_here(tmp_path) as (base, engine), visiting(base, browser) as visit:
        view(visit, "large.ome.tif", WHOLE)
        idle(visit)
        go(visit, CORNER)
        visit.shows(0.5, 0.5, RED)
        idle(visit)
        render = engine.backend.render

        def patient(jobs: Any) -> Any:
            assert gate.wait(60)
            return render(jobs)

        engine.backend.render = patient  # type: ignore[method-assign]
        engine.backend.batch_size = lambda *_: 1  # type: ignore[method-assign]
        try:
            before, skipped = engine.batcher.jobs["render"], engine.batcher.skipped
            go(visit, FAR)
            visit.until(lambda: engine.batcher.report()["waiting"], lambda count: count >= 10, "a queue")
            wanted = len(visit.batches[-1]["tiles"])
            go(visit, CORNER)
            visit.until(lambda: engine.batcher.report()["waiting"], lambda count: count == 0, "no queue")
        finally:
            gate.set()
        visit.until(lambda: engine.batcher.report()["running"], lambda count: count == 0, "idle workers")
        handed = engine.batcher.jobs["render"] - before
        assert handed < wanted // 2, "what the worker had already"
        assert engine.batcher.skipped - skipped >= 10
        for shelf in engine.shelves:
            assert (shelf.reserved, shelf.loose, shelf.pinned, shelf.flights) == (0, 0, 0, 0), shelf.name
