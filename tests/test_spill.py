"""The second shelf of rasters: what the device evicts comes back without a read and without a decode."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from aiohttp.test_utils import TestClient, TestServer

from gputiles.app import create_app
from gputiles.backends import Raster
from gputiles.backends.cuda import CudaBackend
from gputiles.backends.paste import raster_of
from gputiles.batcher import Batcher
from gputiles.cache import Entry, Hold, Shelf
from gputiles.config import Config
from gputiles.engine import Engine
from gputiles.errors import OutOfMemory
from gputiles.images import Image
from gputiles.spill import Spill
from gputiles.trace import Trace
from gputiles.walk import FileRef
from tests import parity
from tests.standin import StandIn, plugged_in
from tests.test_cuda_memory import tile

MIB = 1 << 20
TILE = 128 * 128 * 2


@pytest.fixture
def card(monkeypatch: pytest.MonkeyPatch) -> StandIn:
    return plugged_in(monkeypatch, StandIn(1 << 27))


def written(path: Path, seed: int = 3) -> Path:
    """Write four channels of 512 × 640 uint16 in tiles of 128: 80 tiles, 2.5 MiB."""
    data = np.random.default_rng(seed).integers(0, 4096, (4, 512, 640)).astype(np.uint16)
    tifffile.imwrite(path, data, tile=(128, 128), metadata={"axes": "CYX"})
    return path


@pytest.fixture
def image(tmp_path: Path) -> Path:
    return written(tmp_path / "a.ome.tif")


@asynccontextmanager
async def engine(spill: int, raw: int = 20 * TILE, device: str = "cuda") -> AsyncIterator[Engine]:
    config = Config(device=device, raw_cache=raw, spill_cache=spill, tile_cache=0, workers=2, revalidate=0)
    async with Engine(config) as running:
        yield running


async def visit(engine: Engine, image: Image) -> list[bytes]:
    """Return the pixels of all full-resolution tiles, each when what left for it has arrived."""
    z, (columns, rows) = image.info.levels - 1, image.info.grid.tiles(image.info.levels - 1)
    places = [(frame, z, x, y) for frame in range(4) for y in range(rows) for x in range(columns)]
    found = []
    for place in places:
        found.append((await engine.renderer.raster(image, *place)).tobytes())
        while engine.renderer.rasters.spill is not None and engine.renderer.rasters.spill._leaving:
            await asyncio.sleep(0)
    return found


def counted(engine: Engine) -> dict[str, int]:
    counts = engine.report()["counts"]
    return {name: counts.get(name, 0) for name in ("opens", "reads", "decode", "spill", "restore")}


async def test_what_the_device_evicted_comes_back_without_a_read_and_without_a_decode(
    card: StandIn, image: Path
) -> None:
    async with engine(8 * MIB) as running:
        opened = await running.image(FileRef(image, image.parent))
        first = await visit(running, opened)
        before = counted(running)
        assert (before["decode"], before["spill"], before["restore"]) == (80, 60, 0)
        assert await visit(running, opened) == first
        after = counted(running)
        report = running.report()["shelves"]
    assert {name: after[name] - before[name] for name in ("opens", "reads", "decode", "restore")} == {
        "opens": 0, "reads": 0, "decode": 0, "restore": 80,
    }  # fmt: skip
    assert report["spilled"]["hits"] == 80
    assert report["rasters"]["items"] + report["spilled"]["items"] == 80
    assert report["rasters"]["used"] <= 20 * TILE
    assert report["spilled"]["used"] == report["spilled"]["items"] * TILE
    async with engine(0, device="cpu") as running:
        assert await visit(running, await running.image(FileRef(image, image.parent))) == first


async def test_without_a_second_shelf_they_are_read_again(card: StandIn, image: Path) -> None:
    async with engine(0) as running:
        opened = await running.image(FileRef(image, image.parent))
        first = await visit(running, opened)
        assert await visit(running, opened) == first
        assert counted(running) == {"opens": 1, "reads": 160, "decode": 160, "spill": 0, "restore": 0}
        assert "spilled" not in running.report()["shelves"]


async def test_made_levels_are_not_made_again(card: StandIn, image: Path) -> None:
    async with engine(8 * MIB) as running:
        opened = await running.image(FileRef(image, image.parent))
        top = (await running.renderer.raster(opened, 0, 0, 0, 0)).tobytes()
        await visit(running, opened)
        assert running.renderer.rasters.shelf.peek((opened.identity, (0, 0), (0, 0))) is None
        before = running.report()["counts"]
        assert (await running.renderer.raster(opened, 0, 0, 0, 0)).tobytes() == top
        after = running.report()["counts"]
    assert (after["reads"], after["downsample"]) == (before["reads"], before["downsample"])


async def test_the_leaves_of_a_made_tile_are_not_kept(card: StandIn, image: Path) -> None:
    async with engine(8 * MIB, raw=6 * TILE) as running:
        opened = await running.image(FileRef(image, image.parent))
        await running.renderer.raster(opened, 0, 0, 0, 0)
        counts, report = running.report()["counts"], running.report()["shelves"]
    assert counts["decode"] >= 20
    assert report["rasters"]["evictions"] >= 14
    assert counts.get("spill", 0) <= counts["downsample"]


async def test_what_was_brought_in_passing_stays_once_it_was_asked_for(
    shelves: Callable[..., Shelves],
) -> None:
    both = shelves()
    for key, asks in (("a", False), ("b", True)):
        both.device.put(key, _raster(10), 10, "image", cold=True)
        if asks:
            both.device.get(key)
        with both.device.reserve(160):
            pass
        await both.copied()
    assert both.keys == ["b"]


async def test_many_who_ask_for_a_spilled_tile_share_one_copy(card: StandIn, image: Path) -> None:
    async with engine(8 * MIB) as running:
        opened = await running.image(FileRef(image, image.parent))
        first = await visit(running, opened)
        z = opened.info.levels - 1
        found = await asyncio.gather(*(running.renderer.raster(opened, 0, z, 0, 0) for _ in range(64)))
        assert {each.tobytes() for each in found} == {first[0]}
        assert counted(running)["restore"] == 1


async def test_tiles_are_right_whatever_moves_between_the_shelves(card: StandIn, image: Path) -> None:
    """Twenty at a time in random order, over shelves that hold a part of them each."""
    places = np.random.default_rng(1).integers(0, (4, 5, 4), (600, 3)).tolist()

    async def asked(running: Engine) -> list[bytes]:
        opened, gate = await running.image(FileRef(image, image.parent)), asyncio.Semaphore(20)

        async def ask(frame: int, x: int, y: int) -> bytes:
            async with gate:
                z = opened.info.levels - 1
                return (await running.renderer.raster(opened, frame, z, x, y)).tobytes()

        return await asyncio.gather(*(ask(*place) for place in places))

    async with engine(MIB // 4, raw=48 * TILE) as running:
        ours, report = await asked(running), running.report()
        assert report["counts"]["restore"] > 0
        assert report["shelves"]["spilled"]["evictions"] > 0
        assert all(shelf.pinned == 0 for shelf in running.renderer.rasters.shelves)
    async with engine(0, device="cpu") as running:
        assert ours == await asked(running)
    assert card.used == 0


async def test_a_file_that_was_replaced_is_never_answered_from_the_second_shelf(
    card: StandIn, image: Path, tmp_path: Path
) -> None:
    async with engine(8 * MIB) as running:
        reference = FileRef(image, image.parent)
        await visit(running, await running.image(reference))
        os.replace(written(tmp_path / "new.ome.tif", seed=4), image)
        opened = await running.image(reference)
        shelves = running.report()["shelves"]
        assert (shelves["spilled"]["items"], shelves["spilled"]["used"]) == (0, 0)
        found = await visit(running, opened)
        assert counted(running)["restore"] == 0
    with tifffile.TiffFile(image) as file:
        data = file.asarray()
    assert found[:2] == [data[0, :128, :128].tobytes(), data[0, :128, 128:256].tobytes()]


async def test_the_shelf_is_seen_and_emptied_with_the_others(card: StandIn, image: Path) -> None:
    config = Config(
        roots=(image,), device="cuda", raw_cache=20 * TILE, spill_cache=8 * MIB, tile_cache=0, workers=1
    )
    async with TestClient(TestServer(create_app(config))) as client:
        (item,) = await (await client.get("/item")).json()
        for frame in range(2):
            for place in range(20):
                path = f"/item/{item['id']}/tiles/fzxy/{frame}/3/{place % 5}/{place // 5}?encoding=PNG"
                assert (await client.get(path)).status == 200
        report = await (await client.get("/large_image/cache")).json()
        spilled = report["shelves"]["spilled"]
        assert spilled["capacity"] == 7 * MIB
        assert spilled["stored"] == spilled["items"] * TILE > 0
        assert report["images"][0]["bytes"]["spilled"] == spilled["stored"]
        metrics = await (await client.get("/metrics")).text()
        assert f'gputiles_shelf_stored{{shelf="spilled"}} {float(spilled["stored"])}' in metrics
        cleared = await (await client.put("/large_image/cache/clear")).json()
        assert cleared["after"]["shelves"]["spilled"]["items"] == 0
        assert cleared["after"]["shelves"]["spilled"]["used"] == 0


# -- on the way, over a small device of one thread


class Gated:
    """A device whose copies wait at a gate; ``fails`` is what becomes of them."""

    name, workers, ahead, decodes, decoders, capacity, spare = "gated", 1, 1, 1, "", 160, 100

    def __init__(self) -> None:
        self.gate = threading.Event()
        self.fails: Any = False
        self.copied: list[Raster] = []

    def batch_size(self, verb: str, waiting: int, job: Any) -> int:
        return 64

    def spill(self, jobs: Sequence[Raster]) -> list[Any]:
        assert self.gate.wait(60)
        self.copied += jobs
        return [self.fails if self.fails is not False else _raster(job.weight) for job in jobs]

    def restore(self, jobs: Sequence[Raster]) -> list[Any]:
        return [_raster(job.weight) for job in jobs]


def _raster(weight: int) -> Raster:
    return raster_of(np.zeros((1, weight, 1), np.uint8))


class Shelves:
    """A shelf for 16 rasters of 10 bytes, and the one behind it."""

    def __init__(self, items: int = 1000) -> None:
        self.gated = Gated()
        self.batcher = Batcher(self.gated, items=items, weight=1 << 20)  # type: ignore[arg-type]
        self.device: Shelf[Raster] = Shelf("rasters", 160, evicted=lambda entry: self.spill.take_in(entry))
        self.spill = Spill(self.device, self.batcher, 60)

    def evict(self, *keys: str, owner: str = "image", weight: int = 10) -> list[Entry[Raster]]:
        return [self._evict(key, owner, weight) for key in keys]

    def _evict(self, key: str, owner: str, weight: int) -> Entry[Raster]:
        entry = self.device.put(key, _raster(weight), weight, owner)
        with self.device.reserve(160):
            pass
        return entry

    async def back(self, key: str, *, background: bool = False) -> Raster | None:
        with Hold(self.spill.shelf) as spilled, Hold(self.device) as hold:
            found = self.spill.find([key], spilled, quietly=False)
            if found is None:
                return None
            return await self.spill.bring_back(found[0], Trace(), hold, background=background)

    async def copied(self) -> None:
        self.gated.gate.set()
        while self.spill._leaving:
            await asyncio.sleep(0)

    @property
    def keys(self) -> list[str]:
        return [key for key in "abcdefghij" if self.spill.shelf.peek(key) is not None]


@pytest.fixture
async def shelves() -> AsyncIterator[Callable[..., Shelves]]:
    made: list[Shelves] = []

    def make(**options: int) -> Shelves:
        made.append(Shelves(**options))
        return made[-1]

    yield make
    for each in made:
        each.gated.gate.set()
        each.batcher.close()


async def test_a_raster_that_is_on_its_way_returns_without_a_copy(shelves: Callable[..., Shelves]) -> None:
    both = shelves()
    (entry,) = both.evict("a")
    assert both.keys == ["a"]
    assert await both.back("a") is entry.value
    assert (both.keys, both.spill.shelf.used) == ([], 0)
    await both.copied()
    assert (both.keys, both.batcher.jobs["restore"]) == ([], 0)
    (again,) = both.evict("a")  # and may leave once more
    await both.copied()
    restored = await both.back("a")
    assert restored is not None
    assert restored is not again.value
    assert both.batcher.jobs["restore"] == 1


async def test_a_raster_may_leave_again_before_its_first_copy_is_called_off(
    shelves: Callable[..., Shelves],
) -> None:
    both = shelves()
    both.evict("a", weight=5)
    assert await both.back("a") is not None
    both.evict("a", weight=5)
    assert len(both.spill._leaving) == 2
    await both.copied()
    assert (both.keys, both.spill.shelf.used) == (["a"], 5)


async def test_rasters_that_are_on_their_way_are_emptied_with_the_shelf(
    shelves: Callable[..., Shelves],
) -> None:
    for leave in (Shelf.clear, lambda shelf: shelf.forget("image"), lambda shelf: shelf.discard("a")):
        both = shelves()
        both.evict("a")
        leave(both.spill.shelf)
        await both.copied()
        assert (both.keys, both.spill.shelf.used, both.spill._weight) == ([], 0, 0)


@pytest.mark.parametrize("fails", [None, OutOfMemory("no room")], ids=["full", "failed"])
async def test_a_raster_that_cannot_be_copied_is_dropped(shelves: Callable[..., Shelves], fails: Any) -> None:
    both = shelves()
    relieved: list[float] = []
    both.batcher.relieve = relieved.append
    both.gated.fails = fails
    both.evict("a")
    await both.copied()
    assert (both.keys, both.spill.shelf.used) == ([], 0)
    assert await both.back("a") is None


async def test_no_more_leave_at_once_than_the_device_has_room_for(shelves: Callable[..., Shelves]) -> None:
    both = shelves()
    both.evict("a", "b")  # a sixteenth of the device's shelf is 10 bytes
    assert both.keys == ["a"]
    await both.copied()
    both.evict("c")
    await both.copied()
    assert both.keys == ["a", "c"]


async def test_a_full_queue_is_left_to_requests(shelves: Callable[..., Shelves]) -> None:
    both = shelves(items=0)
    both.evict("a")
    assert (both.keys, both.spill._leaving) == ([], {})


async def test_a_device_without_memory_keeps_nothing_that_still_leaves(
    shelves: Callable[..., Shelves],
) -> None:
    both = shelves()
    both.evict("a")
    both.spill.give_up()
    assert both.keys == []
    await both.copied()
    assert both.keys == []
    assert both.gated.copied == []


async def test_what_comes_back_in_passing_may_leave_again(shelves: Callable[..., Shelves]) -> None:
    both = shelves()
    both.evict("a")
    await both.copied()
    raster = await both.back("a", background=True)
    assert raster is not None
    assert both.keys == []
    with both.device.reserve(160):
        pass
    await both.copied()
    assert both.keys == ["a"]


async def test_what_is_shed_or_discarded_is_not_copied(shelves: Callable[..., Shelves]) -> None:
    both = shelves()
    both.device.put("a", _raster(10), 10, "image")
    both.device.shed()
    both.device.put("b", _raster(10), 10, "image")
    both.device.discard("b")
    assert both.keys == []


async def test_the_second_shelf_is_fair(shelves: Callable[..., Shelves]) -> None:
    both = shelves()
    for key in "ab":
        both.evict(key, owner="small")
        await both.copied()
    for key in "cdefghijklmnopq":
        both.evict(key, owner="large")
        await both.copied()
    assert both.spill.shelf.weights() == {"small": 20, "large": 80}


async def test_a_copy_is_not_made_twice(shelves: Callable[..., Shelves]) -> None:
    both = shelves()
    both.evict("a")
    await both.copied()
    both.evict("a")  # it was made anew meanwhile
    await both.copied()
    assert both.batcher.jobs["spill"] == 1


# -- in pinned memory


@pytest.fixture
def backend(card: StandIn) -> Iterator[CudaBackend]:
    backend = CudaBackend(card, 0, 1, None, spilled=2 * MIB)
    yield backend
    backend.close()


def test_a_raster_returns_with_its_bits_and_its_validity_plane(backend: CudaBackend) -> None:
    rng = np.random.default_rng(1)
    hosts = [
        parity.raster(rng, np.dtype(dtype), (33, 21, samples), masked=masked)
        for dtype in ("uint8", "uint16", "float64")
        for samples in (1, 3)
        for masked in (False, True)
    ]
    spilled = backend.spill(parity.up(backend, hosts))
    assert all(isinstance(each, Raster) for each in spilled)
    for host, raster in zip(hosts, backend.restore(spilled), strict=True):  # type: ignore[arg-type]
        assert isinstance(raster, Raster)
        pixels, valid = parity.down(backend, raster)
        assert np.array_equal(pixels, host.pixels, equal_nan=host.dtype.kind == "f")
        assert (valid is None) == (host.valid is None)
        if host.valid is not None:
            assert np.array_equal(valid, host.valid)


def test_a_batch_of_rasters_is_waited_for_once(backend: CudaBackend, card: StandIn) -> None:
    rasters = [tile(backend, seed) for seed in range(20)]
    waits: list[int] = []
    card.waiting = lambda: waits.append(1)
    spilled = backend.spill(rasters)
    backend.restore(spilled)  # type: ignore[arg-type]
    assert len(waits) == 2


def test_what_finds_no_pinned_memory_stays_away_alone(backend: CudaBackend) -> None:
    rasters = [tile(backend, seed, 512) for seed in range(6)]  # half a mebibyte each
    kept = backend.spill(rasters)
    assert [each is None for each in kept] == [False] * 4 + [True] * 2
    del kept
    assert all(each is not None for each in backend.spill(rasters[4:]))


def test_a_card_without_room_says_so_and_the_raster_stays(backend: CudaBackend) -> None:
    (spilled,) = backend.spill([tile(backend, 1)])
    assert isinstance(spilled, Raster)
    memory, budget = backend.card.memory, backend.card.memory.budget
    memory.budget = memory.allocated
    filled = []
    while isinstance(made := backend.restore([spilled])[0], Raster):
        filled.append(made)
    assert isinstance(made, OutOfMemory)
    memory.budget = budget
    filled.clear()
    (back,) = backend.restore([spilled])
    assert isinstance(back, Raster)
    pixels, _ = parity.down(backend, back)
    assert np.array_equal(pixels, parity.down(backend, tile(backend, 1))[0])


def test_the_memory_is_pinned_by_and_by_and_let_go_at_the_end() -> None:
    card = StandIn()
    backend = CudaBackend(card, 0, 1, None, spilled=64 * MIB)
    before = card.pinned
    (kept,) = backend.spill([tile(backend)])
    assert card.pinned - before == MIB
    del kept
    backend.close()
    assert card.pinned == before
