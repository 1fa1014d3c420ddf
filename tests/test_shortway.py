"""Resident tiles: rendered without a task, and still as all others are."""

from __future__ import annotations

import asyncio
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

import gputiles
from gputiles import floor, keys, style
from gputiles.api import Image
from gputiles.encoded import EncodedTile
from gputiles.errors import NotFound, OutOfMemory, Overloaded
from gputiles.request import TileRequest, View
from gputiles.trace import Trace
from tests.test_engine import engine, noise, reference, write

Z = 1


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return write(tmp_path / "image.ome.tif", noise(2, 256, 256), tile=(128, 128), metadata={"axes": "CYX"})


def look(top: int) -> dict[str, Any]:
    colours = enumerate(("#f00", "#0f0"))
    return {"bands": [{"frame": c, "min": 0, "max": top + c, "palette": colour} for c, colour in colours]}


def asked(top: int, x: int = 0) -> TileRequest:
    return TileRequest(Z, x, 0, View(style=style.parse(look(top))))


@pytest.fixture
def image(path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Image]:
    """An image whose tile (0, 0) of full resolution is resident."""
    monkeypatch.setattr(floor, "PATIENCE", 10)
    with gputiles.open(path) as opened:
        opened.tile(Z, 0, 0, style=look(900))
        yield opened


@pytest.fixture
def tasks(image: Image) -> Iterator[list[Any]]:
    """The tasks that are made from now on."""
    loop, made = image._background._loop, []

    def counted(loop: asyncio.AbstractEventLoop, work: Any, **more: Any) -> asyncio.Task[Any]:
        made.append(work)
        return asyncio.Task(work, loop=loop, **more)

    loop.set_task_factory(counted)
    yield made
    loop.set_task_factory(None)


async def test_a_resident_tile_in_a_new_style_takes_no_flight_of_rasters(path: Path) -> None:
    async with engine() as running:
        image = await running.image(reference(path))
        first = await running.renderer.tile(image, asked(900), Trace())
        before, trace = running.report()["counts"], Trace()
        again = await running.renderer.tile(image, asked(800), trace)
        after = running.report()["counts"]
        assert trace.cache == "raw-hit"
        assert again.data != first.data
        assert {name: after[name] - before[name] for name in ("reads", "decode", "render")} == {
            "reads": 0, "decode": 0, "render": 1,
        }  # fmt: skip
        assert (await running.renderer.tile(image, asked(800), Trace())) is again
        assert running.renderer.tiles.flights == running.renderer.rasters.shelf.pinned == 0


async def test_all_who_ask_for_a_resident_tile_share_one_render(path: Path) -> None:
    async with engine() as running:
        image = await running.image(reference(path))
        await running.renderer.tile(image, asked(900), Trace())
        before = running.report()["counts"]["render"]
        tiles = await asyncio.gather(*(running.renderer.tile(image, asked(800), Trace()) for _ in range(64)))
        assert running.report()["counts"]["render"] == before + 1
        assert len({tile.data for tile in tiles}) == 1


async def test_who_waits_for_a_resident_tile_is_told_in_the_turn_in_which_it_is_kept(path: Path) -> None:
    async with engine() as running:
        image, request = await running.image(reference(path)), asked(800)
        await running.renderer.tile(image, asked(900), Trace())
        arrivals: list[asyncio.Future[EncodedTile]] = []
        told: list[bool] = []

        def landed(result: asyncio.Future[EncodedTile]) -> None:
            told.extend(arrival.done() and arrival.result() is result.result() for arrival in arrivals)

        flight = running.renderer.begin(image, request, keys.key(image, request), Trace(), landed)
        assert flight is not None
        arrivals += [flight.arrival(), flight.arrival()]
        await asyncio.gather(*arrivals)
        running.renderer.tiles.flying.leave(flight)
        assert told == [True, True]


async def test_who_leaves_a_resident_tile_takes_it_out_of_the_queue(path: Path) -> None:
    async with engine(workers=1) as running:
        image = await running.image(reference(path))
        await running.renderer.tile(image, asked(900), Trace())
        gate, render = threading.Event(), running.backend.render
        running.backend.render = lambda jobs: (gate.wait(10), render(jobs))[1]  # type: ignore[method-assign]
        waiting = [asyncio.create_task(running.renderer.tile(image, asked(n), Trace())) for n in range(1, 9)]
        stays = asyncio.create_task(running.renderer.tile(image, asked(8), Trace()))
        await asyncio.sleep(0)
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
        assert len(running.renderer.tiles.flying) == 1  # the one that somebody else waits for, too
        gate.set()
        assert (await stays).data
        assert running.batcher.skipped > 0
        assert running.renderer.rasters.shelf.pinned == running.renderer.tiles.flights == 0


async def test_a_full_queue_refuses_resident_tiles_and_keeps_no_pins(path: Path) -> None:
    async with engine(workers=1, queue_items=2) as running:
        image = await running.image(reference(path))
        await running.renderer.tile(image, asked(900), Trace())
        several = (running.renderer.tile(image, asked(n), Trace()) for n in range(1, 33))
        outcomes = await asyncio.gather(*several, return_exceptions=True)
        assert any(isinstance(outcome, Overloaded) for outcome in outcomes)
        assert all(isinstance(o, Overloaded) or o.data for o in outcomes)  # type: ignore[union-attr]
        assert running.renderer.rasters.shelf.pinned == running.renderer.tiles.flights == 0


def short_of_memory_once(render: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Refuse the first three tries: as often as the batcher makes room."""
    tries = iter(range(3))

    def refusing(jobs: Any) -> Any:
        return render(jobs) if next(tries, None) is None else [OutOfMemory("none left")] * len(jobs)

    return refusing


async def test_a_resident_tile_gets_another_try_where_memory_was_short(path: Path) -> None:
    async with engine() as running:
        image = await running.image(reference(path))
        await running.renderer.tile(image, asked(900), Trace())
        running.backend.render = short_of_memory_once(running.backend.render)  # type: ignore[method-assign]
        assert (await running.renderer.tile(image, asked(800), Trace())).data
        assert running.renderer.tiles.flights == 0


async def test_what_cannot_be_kept_fails_for_who_asked_and_nobody_waits_on(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with engine() as running:
        image = await running.image(reference(path))
        await running.renderer.tile(image, asked(900), Trace())

        def refusing(*_: Any) -> Any:
            raise MemoryError("no room for the answer")

        with monkeypatch.context() as patch:
            patch.setattr(running.renderer.short_way, "keep", refusing)
            several = (running.renderer.tile(image, asked(800), Trace()) for _ in range(3))
            outcomes = await asyncio.wait_for(asyncio.gather(*several, return_exceptions=True), 10)
        assert [str(outcome) for outcome in outcomes] == ["no room for the answer"] * 3
        assert running.renderer.rasters.shelf.pinned == running.renderer.tiles.flights == 0
        assert (await running.renderer.tile(image, asked(800), Trace())).data


def test_a_program_gets_a_resident_tile_without_a_task(image: Image, tasks: list[Any]) -> None:
    expected = [image.tile(Z, 0, 0, style=look(top)) for top in (700, 600, 700)]
    assert expected[0] == expected[2] != expected[1]
    with pytest.raises(NotFound):
        image.tile(Z, 9, 0, style=look(700))
    assert not tasks
    image.tile(Z, 1, 1, style=look(700))  # is not resident
    assert tasks


def test_threads_get_the_same_resident_tiles(image: Image) -> None:
    def drag(_: int) -> list[bytes]:
        return [image.tile(Z, 0, 0, style=look(top), encoding="JPEG") for top in range(500, 540)]

    with ThreadPoolExecutor(4) as pool:
        first, *others = pool.map(drag, range(4))
    assert len(set(first)) > 30
    assert others == [first] * 3


def test_a_program_gets_its_tile_though_memory_was_short(
    image: Image, monkeypatch: pytest.MonkeyPatch
) -> None:
    backend = image._background.engine.backend
    expected = image.tile(Z, 0, 0, style=look(400))
    image._background.engine.renderer.tiles.clear()
    monkeypatch.setattr(backend, "render", short_of_memory_once(backend.render))
    assert image.tile(Z, 0, 0, style=look(400)) == expected


def test_a_program_that_waits_no_more_leaves_its_tile(image: Image, monkeypatch: pytest.MonkeyPatch) -> None:
    running, gate = image._background.engine, threading.Event()
    render = running.backend.render
    monkeypatch.setattr(running.backend, "render", lambda jobs: (gate.wait(10), render(jobs))[1])
    before = signal.signal(signal.SIGALRM, signal.default_int_handler)
    signal.setitimer(signal.ITIMER_REAL, 0.05)
    try:
        with pytest.raises(KeyboardInterrupt):
            image.tile(Z, 0, 0, style=look(300))
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
        gate.set()
    monkeypatch.undo()
    assert image.tile(Z, 0, 0, style=look(301))

    async def left() -> tuple[int, int]:
        return running.renderer.tiles.flights, running.renderer.rasters.shelf.pinned

    assert image._background.call(left) == (0, 0)
