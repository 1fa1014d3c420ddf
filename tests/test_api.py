"""Images in a program: opened, used by threads and by forked processes, closed."""

from __future__ import annotations

import asyncio
import io
import itertools
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image as Picture

import gputiles
from gputiles import errors, floor
from gputiles.api import Image
from gputiles.config import Config
from gputiles.sources.tiff import TiffSource
from tests.waiting import until

DATA = np.random.default_rng(5).integers(0, 4096, (2, 300, 500)).astype(np.uint16)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "image.ome.tif"
    tifffile.imwrite(path, DATA, tile=(128, 128), metadata={"axes": "CYX"})
    return path


@pytest.fixture
def image(path: Path) -> Iterator[Image]:
    with gputiles.open(path) as opened:
        yield opened


def test_a_path_and_a_binary_object_are_the_same_image(path: Path, image: Image) -> None:
    expected = image.tile(2, 1, 1)
    assert np.array_equal(image.raster(2, 1, 1, frame=1)[..., 0], DATA[1, 128:256, 128:256])
    with path.open("rb") as file:
        for source in (str(path), io.BytesIO(path.read_bytes()), file):
            with gputiles.open(source) as other:
                assert other.tile(2, 1, 1) == expected
        assert not file.closed  # it stays the caller's


@pytest.mark.parametrize(
    "file", [5, None, io.StringIO("text"), b"image.tif"], ids=["number", "none", "text", "bytes"]
)
def test_what_is_no_file_is_refused_by_its_name(file: Any) -> None:
    with pytest.raises(errors.BadRequest, match="expected a path, an address or a binary file object; got"):
        gputiles.open(file)


def test_what_cannot_be_read_is_refused_with_the_reason(tmp_path: Path) -> None:
    with pytest.raises(errors.NotFound, match=r"'absent\.tif' does not exist"):
        gputiles.open(tmp_path / "absent.tif")
    with pytest.raises(errors.Damaged, match="not a TIFF file"):
        gputiles.open(io.BytesIO(b"nothing of the kind"))


def test_a_closed_image_says_so_and_may_be_closed_again(path: Path) -> None:
    with gputiles.open(path) as opened:
        opened.tile(0, 0, 0)
    opened.close()
    for call in (opened.tile, opened.raster):
        with pytest.raises(ValueError, match="the image is closed"):
            call(0, 0, 0)


def test_threads_share_an_image_and_closing_waits_for_those_at_work(path: Path) -> None:
    opened = gputiles.open(path)
    expected = [opened.tile(2, 0, 0, style={"max": most}) for most in range(1, 33)]
    begun = threading.Barrier(9)

    def work(_: int) -> list[bytes | None]:
        begun.wait()
        return [tile_unless_closed(opened, most) for most in range(1, 33)]

    with ThreadPoolExecutor(8) as threads:
        found = [threads.submit(work, number) for number in range(8)]
        begun.wait()
        opened.close()
    for each in found:
        assert all(tile in (None, right) for tile, right in zip(each.result(), expected, strict=True))


def tile_unless_closed(image: Image, most: int) -> bytes | None:
    try:
        return image.tile(2, 0, 0, style={"max": most})
    except ValueError:
        return None


@pytest.mark.skipif(not hasattr(os, "RWF_NOWAIT"), reason="the system cannot tell what is at hand")
def test_what_is_at_hand_is_given_without_a_task(
    tmp_path: Path, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(floor, "PATIENCE", 10)
    stored = tmp_path / "stored.tif"
    picture = np.random.default_rng(6).integers(0, 256, (256, 512), np.uint8)
    tifffile.imwrite(stored, picture, tile=(256, 256), compression="jpeg")
    with gputiles.open(stored) as slide, gputiles.open(path) as image:
        loop = slide._background._loop
        style = {"max": 77}
        expected = image.tile(2, 0, 0, style=style)
        tasks: list[Any] = []

        def counted(loop: asyncio.AbstractEventLoop, work: Any, **more: Any) -> asyncio.Task[Any]:
            tasks.append(work)
            return asyncio.Task(work, loop=loop, **more)

        loop.set_task_factory(counted)
        try:
            tiles = [slide.tile(1, x, 0, encoding="JPEG") for x in (0, 1, 0)]  # read, read, on the shelf
            assert image.tile(2, 0, 0, style=style) == expected
            with pytest.raises(errors.NotFound):
                slide.tile(1, 7, 0, encoding="JPEG")
            assert not tasks
            image.tile(2, 0, 0, style={"max": 78})
            assert tasks
        finally:
            loop.set_task_factory(None)
        assert tiles[0] == tiles[2] != tiles[1]
        shown = np.asarray(Picture.open(io.BytesIO(tiles[1]))).astype(int)
        assert np.abs(shown - picture[:, 256:]).mean() < 16


def test_who_finds_the_floor_taken_goes_the_long_way(image: Image, monkeypatch: pytest.MonkeyPatch) -> None:
    expected, held, over = image.tile(2, 0, 0), threading.Event(), threading.Event()
    monkeypatch.setattr(floor, "PATIENCE", 0)
    background = image._background
    looks: list[str] = []

    def stay() -> None:
        held.set()
        over.wait(10)

    background._loop.call_soon_threadsafe(stay)
    assert held.wait(10)
    assert background._loop.visit(lambda: looks.append("looked")) is None
    threading.Timer(0.05, over.set).start()
    assert image.tile(2, 0, 0) == expected
    assert not looks
    monkeypatch.setattr(floor, "PATIENCE", 10)
    with pytest.raises(ZeroDivisionError):  # what a look dies of is the visitor's, and the floor free again
        background._loop.visit(lambda: 1 // 0)
    assert image.tile(2, 0, 0) == expected


@pytest.mark.parametrize("debugged", [False, True])
def test_a_caller_begins_the_work_itself_unless_the_loop_looks_for_mistakes(
    image: Image, monkeypatch: pytest.MonkeyPatch, debugged: bool
) -> None:
    threads: list[bool] = []
    read = TiffSource.read

    def noting(self: TiffSource, *where: Any) -> Any:
        threads.append(threading.current_thread() is threading.main_thread())
        return read(self, *where)

    monkeypatch.setattr(TiffSource, "read", noting)
    monkeypatch.setattr(image._background._loop, "get_debug", lambda: debugged)
    assert image.tile(2, 2, 1, style={"frame": 1, "min": 0, "max": 4095})
    assert threads == [not debugged and hasattr(os, "RWF_NOWAIT")]


@pytest.mark.skipif(not hasattr(os, "RWF_NOWAIT"), reason="the system cannot tell what is at hand")
def test_a_caller_who_would_but_wait_does_the_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It decodes, renders and tells itself what came of it; no worker does, and the loop sleeps on."""
    monkeypatch.setattr(floor, "PATIENCE", 10)
    tifffile.imwrite(tmp_path / "image.ome.tif", DATA, tile=(128, 128), compression="zlib")
    image = gputiles.open(tmp_path / "image.ome.tif")
    background, done = image._background, set()
    while len(background.engine.batcher._crew._free) < background.engine.backend.workers:
        threading.Event().wait(0.001)

    def noting(owner: Any, name: str) -> None:
        usual = getattr(owner, name)

        def noted(*given: Any, **more: Any) -> Any:
            done.add((name, threading.current_thread().name))
            return usual(*given, **more)

        monkeypatch.setattr(owner, name, noted)

    for name in ("decode", "render"):
        noting(background.engine.backend, name)
    noting(type(background.engine.batcher), "_finish")
    expected = {"decode", "render", "_finish"}
    top = [{"bands": [{"frame": frame, "min": 0, "max": top} for frame in (0, 1)]} for top in (4095, 4000)]
    first = image.tile(2, 1, 1, style=top[0])  # read
    assert done == {(name, "MainThread") for name in expected}
    done.clear()
    assert image.tile(2, 1, 1, style=top[1]) != first  # resident
    assert done == {(name, "MainThread") for name in expected - {"decode"}}
    image.close()


@pytest.mark.usefixtures("interruptible")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGALRM])
@pytest.mark.parametrize("seed", range(4))
def test_an_interrupted_caller_leaves_the_engine_whole(image: Image, number: int, seed: int) -> None:
    """Wherever it comes, nothing stays pinned, in flight or counted as busy, and the next tile is right."""
    background, wait = image._background, np.random.default_rng(seed).uniform(0, 0.004, 100)
    expected = image.tile(2, 1, 0, style={"max": 5000})
    came, styles = 0, itertools.count(1000 * (10 * number + seed))
    for delay in wait:
        timer = threading.Timer(delay, os.kill, (os.getpid(), number))
        try:
            timer.start()
            while True:
                image.tile(2, 1, 0, style={"max": next(styles)})
        except KeyboardInterrupt:
            came += 1
            timer.join()
    assert came == len(wait)
    assert not image._calls
    assert image.tile(2, 1, 0, style={"max": 5000}) == expected
    engine = background.engine

    def resting() -> bool:
        held = [shelf.flights + shelf.pinned + shelf.reserved for shelf in engine.shelves]
        return not any(held) and engine.batcher.idle and not engine.backend._busy  # type: ignore[attr-defined]

    until(lambda: background._loop.visit(resting))
    assert len(engine.batcher._crew._free) == engine.backend.workers


@pytest.mark.parametrize("end", [KeyboardInterrupt, SystemExit])
def test_a_guest_that_has_to_end_leaves_its_piece_to_a_worker(
    image: Image, monkeypatch: pytest.MonkeyPatch, end: type[BaseException]
) -> None:
    """Another who waits for the same tile gets it, and the batch counts as running no more."""
    monkeypatch.setattr(floor, "PATIENCE", 10)
    style = {"max": 91 if end is SystemExit else 92}
    image.tile(2, 0, 0, style={"max": 90})  # its rasters are resident now
    engine = image._background.engine
    render, other, threads = engine.backend.render, ThreadPoolExecutor(1), []
    flying, found = engine.renderer.tiles.flying, []
    before = flying.coalesced

    def rendering(jobs: Any) -> Any:
        threads.append(threading.current_thread().name)
        if len(threads) == 1:
            found.append(other.submit(image.tile, 2, 0, 0, style=style))
            until(lambda: flying.coalesced > before)
            raise end
        return render(jobs)

    monkeypatch.setattr(engine.backend, "render", rendering)
    with pytest.raises(end):
        image.tile(2, 0, 0, style=style)
    assert found[0].result(10)
    other.shutdown()
    assert threads[0] == "MainThread"
    assert threads[1].startswith("gputiles-worker-")
    until(lambda: image._background._loop.visit(lambda: engine.batcher.idle))


def test_a_caller_with_a_loop_of_its_own_keeps_it_and_leaves_the_work_to_workers(
    image: Image, monkeypatch: pytest.MonkeyPatch
) -> None:
    backend, threads = image._background.engine.backend, []
    render = backend.render

    def noting(jobs: Any) -> Any:
        threads.append(threading.current_thread().name)
        return render(jobs)

    monkeypatch.setattr(backend, "render", noting)

    async def caller() -> asyncio.AbstractEventLoop:
        assert image.tile(2, 0, 1, frame=1)
        await asyncio.sleep(0)
        return asyncio.get_running_loop()

    loop = asyncio.new_event_loop()
    try:
        assert loop.run_until_complete(caller()) is loop
        assert threads
        assert "MainThread" not in threads
    finally:
        loop.close()


def test_who_waits_no_more_takes_the_work_along(image: Image) -> None:
    told: list[str] = []
    over = threading.Event()

    async def forever() -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            told.append("cancelled")
            raise
        finally:
            over.set()

    before = signal.signal(signal.SIGALRM, signal.default_int_handler)
    signal.setitimer(signal.ITIMER_REAL, 0.05)
    try:
        with pytest.raises(KeyboardInterrupt):
            image._background.call(forever)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert over.wait(10)
    assert told == ["cancelled"]
    assert image.tile(2, 0, 0)


def test_an_image_is_not_waited_for_on_its_own_loop(image: Image) -> None:
    async def inside() -> None:
        image.tile(0, 0, 0)

    with pytest.raises(RuntimeError, match="its own event loop"):
        image._background.call(inside)


def test_the_shared_engine_has_one_configuration(path: Path, image: Image) -> None:
    config = image._background.engine.config
    with gputiles.open(path, config=config) as again:
        assert again.info == image.info
    with pytest.raises(errors.BadRequest, match="already runs with another configuration"):
        gputiles.open(path, config=Config(raw_cache=12345))


def test_configurations_that_say_the_same_are_equal_whatever_memory_is_free() -> None:
    before = Config(raw_cache=12345)
    held = np.ones(1 << 26, np.uint8)
    assert Config(raw_cache=12345) == before
    del held


FORKED = """
import io, os, sys
import gputiles
from gputiles.config import Config
from gputiles.sources.tiff import TiffSource

path = sys.argv[1]
image = gputiles.open(path, config=Config(raw_cache=10**6, workers=1))
held = gputiles.open(io.BytesIO(open(path, "rb").read()))
expected = image.tile(2, 0, 0), held.tile(0, 0, 0)

def child():
    assert image.tile(2, 0, 0) == expected[0]
    with gputiles.open(path) as fresh:
        assert fresh.tile(2, 0, 0) == expected[0]
    assert image._background.engine.config.raw_cache == 10**6
    try:
        held.tile(0, 0, 0)
    except gputiles.errors.Unsupported as error:
        print(error, flush=True)
    held.close()
    image.close()

for _ in range(2):
    pid = os.fork()
    if not pid:
        try:
            child()
        except BaseException as error:
            print(repr(error), flush=True)
            os._exit(1)
        os._exit(0)
    print(os.waitpid(pid, 0)[1], flush=True)
print((image.tile(2, 0, 0), held.tile(0, 0, 0)) == expected)
"""


def test_a_forked_process_opens_the_file_anew_and_leaves_the_parents_alone(path: Path) -> None:
    command = [sys.executable, "-c", FORKED, str(path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    refused = "file: an object cannot be read in a forked process too: open it there anew"
    assert done.stdout.splitlines() == [refused, "0", refused, "0", "True"], done.stderr
