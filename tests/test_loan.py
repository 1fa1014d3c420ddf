"""Tiles lent to the program where they lie: views without a copy, pinned until nobody reads them."""

from __future__ import annotations

import asyncio
import ctypes
import gc
import math
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray

from gputiles import capsules
from gputiles.api import Image
from gputiles.background import Background
from gputiles.capsules import CUDA, capsule
from gputiles.config import Config
from gputiles.errors import NotFound, Overloaded, Unsupported
from gputiles.loan import DeviceArray
from gputiles.walk import FileRef
from tests.standin import CUDARuntimeError, StandIn, plugged_in
from tests.waiting import until

CPU = 1  # of DLDeviceType, as CUDA is
TILE = 128 * 128 * 2
DATA = np.random.default_rng(3).integers(0, 4096, (2, 300, 500)).astype(np.uint16)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "a.ome.tif"
    tifffile.imwrite(path, DATA, tile=(128, 128), metadata={"axes": "CYX"})
    return path


@pytest.fixture
def card(monkeypatch: pytest.MonkeyPatch) -> StandIn:
    return plugged_in(monkeypatch, StandIn(1 << 27))


def background(**options: Any) -> Iterator[Background]:
    config: dict[str, Any] = {"raw_cache": 4 * TILE, "spill_cache": 0, "workers": 1}
    running = Background(Config(**config | options))
    yield running
    gc.collect()
    running.call(running.engine.close)
    running._loop.call_soon_threadsafe(running._loop.stop)
    running._thread.join()
    running._loop.close()


@pytest.fixture
def engine(card: StandIn) -> Iterator[Background]:
    yield from background(device="cuda")


@pytest.fixture
def image(engine: Background, path: Path) -> Iterator[Image]:
    with Image(engine, FileRef(path, path.parent)) as image:
        yield image


@pytest.fixture
def on_host(image: Image, monkeypatch: pytest.MonkeyPatch) -> Image:
    """The stand-in's memory is the host's: said to be so, NumPy reads it."""
    monkeypatch.setattr(image._background.engine.backend, "dlpack", (CPU, 0))
    return image


def expected(frame: int, x: int, y: int) -> NDArray[np.uint16]:
    return DATA[frame, 128 * y : 128 * y + 128, 128 * x : 128 * x + 128, np.newaxis]


def seen(view: DeviceArray) -> NDArray[Any]:
    """Return what a library of CUDA arrays would read, copied."""
    face = view.__cuda_array_interface__
    dtype = np.dtype(face["typestr"])
    raw = (ctypes.c_uint8 * (math.prod(face["shape"]) * dtype.itemsize)).from_address(face["data"][0])
    return np.frombuffer(raw, dtype).reshape(face["shape"]).copy()


def pinned(image: Image) -> int:
    """Return how many bytes are lent, counted on the loop."""

    async def count() -> int:
        return image._background.engine.renderer.rasters.shelf.pinned

    return image._background.call(count)


def browse(image: Image) -> None:
    """Look at more tiles than the shelf holds."""
    for frame in range(2):
        for x in range(4):
            for y in range(3):
                image.raster(2, x, y, frame=frame)


def test_a_tile_is_lent_where_it_lies_and_stays_there(image: Image) -> None:
    with image.raster(2, 1, 1, frame=1, device=True) as view:
        assert (view.shape, view.dtype, view.nbytes) == ((128, 128, 1), np.dtype(np.uint16), TILE)
        assert view.__dlpack_device__() == (CUDA, 0)
        face = view.__cuda_array_interface__
        assert (face["version"], face["stream"], face["strides"], face["data"][1]) == (3, None, None, True)
        assert np.array_equal(seen(view), expected(1, 1, 1))
        downloads = image._background.engine.batcher.jobs["download"]
        assert downloads == 0
        browse(image)
        assert np.array_equal(seen(view), expected(1, 1, 1))
        assert view.__cuda_array_interface__["data"] == face["data"]
        assert pinned(image) == TILE
    until(lambda: pinned(image) == 0)


def test_tiles_at_the_rim_are_as_small_as_the_image_leaves_them(image: Image) -> None:
    with image.raster(2, 3, 2, device=True) as view:
        assert np.array_equal(seen(view), expected(0, 3, 2))


def test_a_tile_is_released_once_by_whichever_way(image: Image) -> None:
    for let_go in (DeviceArray.release, lambda view: view.__exit__()):
        view = image.raster(2, 0, 0, device=True)
        assert pinned(image) == TILE
        let_go(view)
        let_go(view)
        until(lambda: pinned(image) == 0)
        assert view.released
        for use in (lambda view: view.__cuda_array_interface__, lambda view: view.__dlpack__()):
            with pytest.raises(ValueError, match="the tile was released"):
                use(view)


def test_a_tile_that_nobody_holds_is_released(image: Image) -> None:
    view = image.raster(2, 0, 0, device=True)
    assert pinned(image) == TILE
    del view
    gc.collect()
    until(lambda: pinned(image) == 0)


def test_a_tile_is_released_when_what_reads_it_is_done(image: Image, card: StandIn) -> None:
    """Work that others put on the card may still read it: the pins stay until the card is through."""
    fencing, go = threading.Event(), threading.Event()

    def waiting() -> None:
        fencing.set()
        assert go.wait(60)

    view = image.raster(2, 0, 0, device=True)
    card.waiting = waiting
    view.release()
    assert fencing.wait(60)
    assert pinned(image) == TILE
    go.set()
    until(lambda: pinned(image) == 0)


def test_a_view_outlives_its_image_and_the_caches(engine: Background, path: Path) -> None:
    with Image(engine, FileRef(path, path.parent)) as image:
        view = image.raster(2, 2, 0, device=True)

    async def clear() -> None:
        engine.engine.clear()

    engine.call(clear)
    with Image(engine, FileRef(path, path.parent)) as image:
        browse(image)
        assert np.array_equal(seen(view), expected(0, 2, 0))
        view.release()
        until(lambda: pinned(image) == 0)


def test_a_full_queue_only_delays_a_release(image: Image, monkeypatch: pytest.MonkeyPatch) -> None:
    batcher = image._background.engine.batcher
    submit, refused = batcher.submit, []

    async def full(verb: str, *rest: Any, **options: Any) -> Any:
        if verb == "fence" and not refused:
            refused.append(verb)
            raise Overloaded("full")
        return await submit(verb, *rest, **options)

    monkeypatch.setattr(batcher, "submit", full)
    monkeypatch.setattr("gputiles.background.PAUSE", 0)
    image.raster(2, 0, 0, device=True).release()
    until(lambda: pinned(image) == 0)
    assert refused == ["fence"]


def test_a_lost_card_releases_at_once(image: Image, card: StandIn) -> None:
    view = image.raster(2, 0, 0, device=True)
    card.fail = CUDARuntimeError(700, "cudaErrorIllegalAddress")
    view.release()
    until(lambda: pinned(image) == 0)
    card.fail = None


def test_a_tile_that_does_not_exist_is_not_lent(image: Image) -> None:
    with pytest.raises(NotFound):
        image.raster(2, 9, 0, device=True)
    with pytest.raises(NotFound):
        image.raster(2, 0, 0, frame=7, device=True)
    assert pinned(image) == 0


def test_the_host_device_says_what_it_has_instead(path: Path) -> None:
    for running in background(device="cpu", raw_cache=1 << 24):
        with Image(running, FileRef(path, path.parent)) as image:
            with pytest.raises(Unsupported, match=r"device=True needs a CUDA card; .*'cpu'"):
                image.raster(2, 0, 0, device=True)
            assert np.array_equal(image.raster(2, 0, 0, device=False), expected(0, 0, 0))


# -- DLPack, read by NumPy


def test_numpy_reads_a_view_without_a_copy(on_host: Image) -> None:
    view = on_host.raster(2, 1, 0, device=True)
    array = np.from_dlpack(view)
    assert array.ctypes.data == view.__cuda_array_interface__["data"][0]
    assert np.array_equal(array, expected(0, 1, 0))
    assert not array.flags.writeable
    del view
    gc.collect()
    browse(on_host)
    assert np.array_equal(array, expected(0, 1, 0))
    assert pinned(on_host) == TILE
    part = array[3:, :, 0]
    del array
    gc.collect()
    assert pinned(on_host) == TILE
    del part
    gc.collect()
    until(lambda: pinned(on_host) == 0)
    assert capsules._lent == {}


@pytest.mark.parametrize("version", [None, (0, 8), (1, 0), (1, 1)])
def test_a_capsule_that_nobody_opens_lets_go(on_host: Image, version: tuple[int, int] | None) -> None:
    view = on_host.raster(2, 0, 0, device=True)
    closed = view.__dlpack__(stream=-1, max_version=version)
    name = "dltensor_versioned" if version in ((1, 0), (1, 1)) else "dltensor"
    assert f'"{name}"' in repr(closed)
    del view
    gc.collect()
    assert pinned(on_host) == TILE
    del closed
    gc.collect()
    until(lambda: pinned(on_host) == 0)
    assert capsules._lent == {}


def test_a_copy_or_another_device_is_refused(on_host: Image) -> None:
    with on_host.raster(2, 0, 0, device=True) as view:
        for wish in ({"copy": True}, {"dl_device": (CUDA, 1)}):
            with pytest.raises(BufferError, match="the tile is handed out where it lies"):
                view.__dlpack__(**wish)  # type: ignore[arg-type]
        assert view.__dlpack__(copy=False, dl_device=(CPU, 0)) is not None


@pytest.mark.parametrize("versioned", [False, True], ids=["plain", "versioned"])
@pytest.mark.parametrize(
    "dtype",
    ["uint8", "int8", "uint16", "int16", "uint32", "int32", "uint64", "int64", "float32", "float64"],
)
def test_every_type_goes_through_a_capsule(dtype: str, versioned: bool) -> None:
    data = np.arange(2 * 3 * 4).reshape(2, 3, 4).astype(dtype)

    class Lent:
        def __dlpack_device__(self) -> tuple[int, int]:
            return CPU, 0

        def __dlpack__(self, **_: Any) -> object:
            return capsule(data.ctypes.data, data.shape, data.dtype, (CPU, 0), data, versioned=versioned)

    array = np.from_dlpack(Lent())  # type: ignore[arg-type]
    assert (array.dtype, array.shape, array.ctypes.data) == (data.dtype, data.shape, data.ctypes.data)
    assert np.array_equal(array, data)
    assert len(capsules._lent) == 1
    del array
    assert capsules._lent == {}


def test_capsules_are_let_go_on_any_thread() -> None:
    data = np.zeros(3)
    made = [capsule(data.ctypes.data, data.shape, data.dtype, (CPU, 0), data, versioned=True)]
    thread = threading.Thread(target=made.clear)
    thread.start()
    thread.join()
    assert capsules._lent == {}


async def test_a_view_may_be_asked_for_from_another_loop(image: Image) -> None:
    view = await asyncio.to_thread(image.raster, 2, 0, 0, device=True)
    assert np.array_equal(seen(view), expected(0, 0, 0))
    view.release()
