"""The engine on real files: what is counted, and that pixels do not depend on anything else."""

from __future__ import annotations

import asyncio
import random
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray
from PIL import Image as Pillow

from gputiles import style
from gputiles.config import Config
from gputiles.encoded import Encoding, Format, Turn
from gputiles.engine import Engine
from gputiles.errors import Damaged, LimitExceeded, NotFound
from gputiles.images import Image
from gputiles.reading_room import ReadingRoom
from gputiles.request import ThumbnailRequest, TileRequest, View
from gputiles.sources import Source
from gputiles.sources.open import open_source
from gputiles.trace import Trace
from gputiles.walk import FileRef

PNG = Encoding(Format.PNG)


@asynccontextmanager
async def engine(**settings: Any) -> AsyncIterator[Engine]:
    defaults: dict[str, Any] = {"tile_cache": 1 << 24, "raw_cache": 1 << 26, "workers": 2}
    async with Engine(Config(**(defaults | settings))) as running:
        yield running


def reference(path: Path) -> FileRef:
    return FileRef(path, path.parent)


def write(path: Path, data: NDArray[Any], **kwargs: Any) -> Path:
    options: dict[str, Any] = {"tile": (64, 64), "compression": "zlib", "photometric": "minisblack"}
    tifffile.imwrite(path, data, **(options | kwargs))
    return path


def noise(*shape: int, dtype: str = "uint16", seed: int = 1) -> NDArray[Any]:
    return np.random.default_rng(seed).integers(0, 4000, shape).astype(dtype)


@pytest.fixture
def multiplex(tmp_path: Path) -> Path:
    """Four channels of 600 × 500 uint16 with no pyramid, as OME-TIFF, in tiles of 128."""
    path = tmp_path / "multiplex.ome.tif"
    return write(path, noise(4, 500, 600), tile=(128, 128), metadata={"axes": "CYX"})


def restyled(top: int) -> style.Style:
    bands = [
        {"frame": c, "min": 0, "max": top + c, "palette": p}
        for c, p in enumerate(("#f00", "#0f0", "#00f", "#ff0"))
    ]
    return style.parse({"bands": bands})


def grid(image: Image, z: int) -> list[tuple[int, int]]:
    columns, rows = image.info.grid.tiles(z)
    return [(x, y) for y in range(rows) for x in range(columns)]


def decode(data: bytes) -> NDArray[Any]:
    return np.asarray(Pillow.open(BytesIO(data)))


async def test_a_drag_of_100_styles_over_a_resident_viewport_touches_no_file(multiplex: Path) -> None:
    async with engine() as running:
        image = await running.image(reference(multiplex))
        z = image.info.levels - 1

        async def viewport(number: int, encoding: Encoding) -> None:
            view = View(style=restyled(1000 + number), encoding=encoding)
            await asyncio.gather(
                *(
                    running.renderer.tile(image, TileRequest(z, x, y, view), Trace())
                    for x, y in grid(image, z)
                )
            )

        await viewport(0, PNG)
        before = running.report()["counts"]
        for number in range(1, 101):
            for encoding in (PNG, Encoding(quality=80, explicit=True), Encoding(quality=95, explicit=True)):
                await viewport(number, encoding)
        after = running.report()["counts"]
    assert after["render"] - before["render"] == 100 * 3 * len(grid(image, z))
    assert {name: after[name] - before[name] for name in ("opens", "reads", "decode")} == {
        "opens": 0, "reads": 0, "decode": 0,
    }  # fmt: skip


async def test_64_requests_for_one_cold_tile_make_one_read_and_one_decode(multiplex: Path) -> None:
    async with engine() as running:
        image = await running.image(reference(multiplex))
        request = TileRequest(image.info.levels - 1, 1, 1, View(style=style.parse({"min": 0, "max": 4000})))
        tiles = await asyncio.gather(*(running.renderer.tile(image, request, Trace()) for _ in range(64)))
        counts = running.report()["counts"]
    assert len({tile.data for tile in tiles}) == 1
    assert (counts["opens"], counts["reads"], counts["decode"], counts["render"]) == (1, 1, 1, 1)


async def test_styles_and_encodings_of_a_file_share_one_descriptor(multiplex: Path) -> None:
    async with engine() as running:
        image = await running.image(reference(multiplex))
        for number in range(200):
            for encoding in (PNG, Encoding()):
                view = View(style=restyled(500 + number), encoding=encoding)
                await running.renderer.tile(image, TileRequest(0, 0, 0, view), Trace())
        report = running.report()
    assert (report["descriptors"], report["sources"], report["styled"]) == (1, 1, 200)


async def test_a_thousand_styles_of_one_image_evict_nothing_of_another_in_use(
    multiplex: Path, tmp_path: Path
) -> None:
    other = write(tmp_path / "other.tif", noise(200, 200))
    async with engine(tile_cache=200_000) as running:
        b = await running.image(reference(other))
        for x, y in grid(b, b.info.levels - 1):
            await running.renderer.raster(b, 0, b.info.levels - 1, x, y)
        before = running.report()["counts"]
        a = await running.image(reference(multiplex))
        for number in range(1000):
            view = View(style=restyled(500 + number), encoding=Encoding())
            await running.renderer.tile(a, TileRequest(0, 0, 0, view), Trace())
        middle = running.report()["counts"]
        for x, y in grid(b, b.info.levels - 1):
            await running.renderer.raster(b, 0, b.info.levels - 1, x, y)
        after = running.report()["counts"]
    assert middle["opens"] - before["opens"] == 1  # image A itself
    assert after["reads"] == middle["reads"]


def mean_levels(full: NDArray[Any], levels: int) -> list[NDArray[Any]]:
    """Return all levels, coarsest first: 2×2 means, half to even, of what exists."""
    made = [full]
    for _ in range(levels - 1):
        below = made[-1].astype(np.float64)
        rows, columns = below.shape
        padded = np.full((rows + rows % 2, columns + columns % 2), np.nan)
        padded[:rows, :columns] = below
        blocks = padded.reshape(padded.shape[0] // 2, 2, padded.shape[1] // 2, 2)
        made.append(np.rint(np.nanmean(blocks, axis=(1, 3))).astype(full.dtype))
    return made[::-1]


@pytest.mark.parametrize(("height", "width"), [(500, 600), (257, 513), (1, 300), (129, 64)])
@pytest.mark.parametrize("layout", ["tiles", "strips"])
async def test_a_stitched_made_level_is_the_mean_of_the_whole_image(
    tmp_path: Path, height: int, width: int, layout: str
) -> None:
    full = noise(height, width)
    options = {"tile": (128, 128)} if layout == "tiles" else {"tile": None, "rowsperstrip": 7}
    path = write(tmp_path / "image.tif", full, **options)
    async with engine(raw_cache=full.nbytes // 4) as running:
        image = await running.image(reference(path))
        for z, expected in enumerate(mean_levels(full, image.info.levels)):
            assert image.info.grid.size(z) == expected.shape[::-1]
            for x, y in grid(image, z):
                tile = await running.renderer.raster(image, 0, z, x, y)
                rect = image.info.grid.rect(z, x, y)
                assert np.array_equal(tile[..., 0], expected[rect.y : rect.bottom, rect.x : rect.right])


async def test_missing_levels_take_the_nearest_pixel_where_that_is_configured(tmp_path: Path) -> None:
    full = noise(301, 515)
    path = write(tmp_path / "image.tif", full, tile=(128, 128))
    tags = set()
    for reduction in ("auto", "mean", "nearest"):
        async with engine(reduction=reduction) as running:
            image = await running.image(reference(path))
            z = image.info.levels - 3
            tile = await running.renderer.raster(image, 0, z, 0, 0)
            expected = full[::4, ::4] if reduction == "nearest" else mean_levels(full, 3)[0]
            assert np.array_equal(tile[..., 0], expected[:128, :128])
            tags.add(running.renderer.etag(image, TileRequest(z, 0, 0)))
    assert len(tags) == 2


@pytest.mark.parametrize("layout", ["tiles", "strips", "large tiles"])
async def test_an_overview_decodes_each_chunk_once_in_bounded_memory(tmp_path: Path, layout: str) -> None:
    full = noise(2048, 2048)
    options: dict[str, Any] = {
        "tiles": {"tile": (128, 128)},
        "strips": {"tile": None, "rowsperstrip": 16},
        "large tiles": {"tile": (1024, 1024)},
    }[layout]
    path = write(tmp_path / "image.tif", full, **options)
    with tifffile.TiffFile(path) as tiff:
        chunks = len(tiff.pages.first.dataoffsets)
    async with engine(raw_cache=full.nbytes // 4) as running:
        decoded = count_chunks(running)
        image = await running.image(reference(path))
        await running.renderer.tile(
            image, TileRequest(0, 0, 0, View(style=style.parse({}), encoding=PNG)), Trace()
        )
        shelf = running.renderer.rasters.shelf
        assert decoded() == chunks
        if layout == "tiles":
            assert shelf.peak <= shelf.capacity
        assert shelf.reserved == shelf.loose == 0


async def test_an_overview_reads_neighbours_together(tmp_path: Path) -> None:
    path = write(tmp_path / "image.tif", noise(2048, 2048), tile=(128, 128))
    async with engine() as running:
        image = await running.image(reference(path))
        calls = count_reads(running)
        await running.renderer.raster(image, 0, 0, 0, 0)
        assert calls() == 4  # blocks of 8 x 8 tiles
        assert running.renderer.rasters.reads == 256


async def test_a_tile_that_a_block_brings_already_is_not_read_again(tmp_path: Path) -> None:
    path = write(tmp_path / "image.tif", noise(1024, 1024), tile=(128, 128))
    async with engine() as running:
        decoded = count_chunks(running)
        image = await running.image(reference(path))
        raster = running.renderer.raster
        asked = [raster(image, 0, 3, 2, 5), raster(image, 0, 0, 0, 0), raster(image, 0, 3, 7, 7)]
        await asyncio.gather(*asked, raster(image, 0, 1, 0, 1))
        assert decoded() == 64


async def test_a_damaged_chunk_of_a_block_leaves_what_lies_beside_it_alone(tmp_path: Path) -> None:
    full = noise(1024, 1024)
    path = write(tmp_path / "image.tif", full, tile=(128, 128))
    with tifffile.TiffFile(path) as tiff:
        offset, size = tiff.pages.first.dataoffsets[9], tiff.pages.first.databytecounts[9]
    content = bytearray(path.read_bytes())
    content[offset : offset + size] = b"\xff" * size
    path.write_bytes(content)
    async with engine() as running:
        image = await running.image(reference(path))
        for z in range(4):
            for x, y in grid(image, z):
                asked = running.renderer.raster(image, 0, z, x, y)
                if (x, y) == (1 >> (3 - z), 1 >> (3 - z)):
                    with pytest.raises(Damaged):
                        await asked
                else:
                    made = mean_levels(full, 4)[z][128 * y :, 128 * x :][:128, :128]
                    assert np.array_equal((await asked)[..., 0], made)


def count_chunks(running: Engine) -> Callable[[], int]:
    """Count the chunks that reach the backend's decoder from now on."""
    counted = 0
    decode_jobs = running.backend.decode

    def counting(jobs: Any) -> Any:
        nonlocal counted
        counted += sum(len(job.chunks) for job in jobs)
        return decode_jobs(jobs)

    running.backend.decode = counting  # type: ignore[method-assign]
    return lambda: counted


def count_reads(running: Engine) -> Callable[[], int]:
    """Count what is read of tiles in one go from now on, by readers or by the loop."""
    counted = 0
    decode = running.renderer.rasters.stored.decode

    async def counting(*args: Any, **kwargs: Any) -> Any:
        nonlocal counted
        counted += 1
        return await decode(*args, **kwargs)

    running.renderer.rasters.stored.decode = counting  # type: ignore[method-assign]
    return lambda: counted


async def test_bytes_do_not_depend_on_order_caches_or_clients(multiplex: Path) -> None:
    answers: set[tuple[bytes, ...]] = set()
    for seed, (cache, clients) in enumerate([(0, 1), (50_000, 16), (1 << 26, 1), (1 << 26, 16), (0, 16)]):
        async with engine(tile_cache=cache, raw_cache=cache) as running:
            image = await running.image(reference(multiplex))
            views = [View(encoding=PNG), View(style=restyled(3000)), View(style=style.parse({"min": "auto"}))]
            requests = [
                TileRequest(z, x, y, view)
                for view in views
                for z in range(image.info.levels)
                for x, y in grid(image, z)
            ]
            order = random.Random(seed).sample(requests, len(requests))
            gate = asyncio.Semaphore(clients)

            async def ask(request: TileRequest) -> tuple[TileRequest, bytes]:
                async with gate:  # noqa: B023
                    tile = await running.renderer.tile(image, request, Trace())  # noqa: B023
                    return request, tile.data

            got = dict(await asyncio.gather(*map(ask, order)))
            answers.add(tuple(got[request] for request in requests))
    assert len(answers) == 1


async def test_clients_that_leave_leave_nothing_behind(multiplex: Path) -> None:
    async with engine() as running:
        image = await running.image(reference(multiplex))
        last = image.info.levels - 1
        clients = [
            asyncio.create_task(
                running.renderer.tile(
                    image, TileRequest(z, x, y, View(style=restyled(900 + number), encoding=PNG)), Trace()
                )
            )
            for number in range(10)
            for z in (0, last)
            for x, y in grid(image, z)
        ]
        assert len(clients) >= 200
        for _ in range(5):
            await asyncio.sleep(0)
        for client in clients:
            client.cancel()
        await asyncio.gather(*clients, return_exceptions=True)
        async with asyncio.timeout(10):  # the reads and jobs that ran come home
            while (
                running.report()["queue"]["running"]
                or running.reading_room.pending
                or any(shelf.flights for shelf in running.shelves)
            ):
                await asyncio.sleep(0.01)
        report = running.report()
        assert report["queue"]["waiting"] == report["queue"]["waitingBytes"] == 0
        for shelf in running.shelves:
            assert (shelf.reserved, shelf.loose, shelf.flights) == (0, 0, 0), shelf.name
            assert all(entry.pins == 0 for entry in shelf._entries.values())
        tile = await running.renderer.tile(image, TileRequest(0, 0, 0, View(encoding=PNG)), Trace())
        assert decode(tile.data).shape == (128, 128, 4)


async def test_2000_files_are_served_with_few_descriptors(tmp_path: Path) -> None:
    data = noise(20, 30)
    for number in range(2000):
        tifffile.imwrite(tmp_path / f"{number}.tif", data, photometric="minisblack")
    async with engine(sources=64, tile_cache=0, raw_cache=0) as running:
        most = 0
        for number in range(2000):
            image = await running.image(reference(tmp_path / f"{number}.tif"))
            await running.renderer.tile(image, TileRequest(0, 0, 0, View(style=style.parse({}))), Trace())
            most = max(most, running.report()["descriptors"])
    assert most <= 64


async def test_a_replaced_file_is_a_new_version(tmp_path: Path) -> None:
    path = write(tmp_path / "image.tif", np.full((64, 64), 256, np.uint16))
    async with engine(revalidate=0) as running:
        request = TileRequest(0, 0, 0, View(style=style.parse({}), encoding=PNG))
        image = await running.image(reference(path))
        first = await running.renderer.tile(image, request, Trace())
        write(tmp_path / "new.tif", np.full((64, 64), 512, np.uint16)).rename(path)
        image = await running.image(reference(path))
        second = await running.renderer.tile(image, request, Trace())
        assert first.etag != second.etag
        assert (decode(first.data).max(), decode(second.data).max()) == (1, 2)
        path.unlink()
        with pytest.raises(NotFound):
            await running.image(reference(path))
        assert running.report()["descriptors"] == 0


@dataclass(frozen=True)
class ReplacedWhileOpened:
    """A reference behind whose first opening another file is moved to the same path."""

    path: Path
    other: Path

    part = ""

    def open(self, chunk_limit: int) -> Source:
        source = open_source(self.path, chunk_limit=chunk_limit)
        if self.other.exists():
            self.other.rename(self.path)
        return source


async def test_a_file_replaced_while_it_is_opened_shows_its_new_pixels(tmp_path: Path) -> None:
    path = write(tmp_path / "image.tif", np.full((64, 64), 256, np.uint16))
    other = write(tmp_path / "other.tif", np.full((64, 64), 512, np.uint16))
    async with engine() as running:
        image = await running.image(ReplacedWhileOpened(path, other))
        request = TileRequest(0, 0, 0, View(style=style.parse({}), encoding=PNG))
        tile = await running.renderer.tile(image, request, Trace())
        assert decode(tile.data).max() == 2
        assert running.report()["descriptors"] == 1


async def test_the_trace_says_what_its_own_request_came_from(multiplex: Path) -> None:
    async with engine() as running:
        image = await running.image(reference(multiplex))
        z = image.info.levels - 1
        await running.renderer.tile(image, TileRequest(z, 0, 0, View(style=restyled(10))), Trace())
        again, other, cold = Trace(), Trace(), Trace()
        await asyncio.gather(
            running.renderer.tile(image, TileRequest(z, 0, 0, View(style=restyled(10))), again),
            running.renderer.tile(image, TileRequest(z, 0, 0, View(style=restyled(20))), other),
            running.renderer.tile(image, TileRequest(z, 1, 1, View(style=restyled(20))), cold),
        )
        assert [trace.cache for trace in (again, other, cold)] == ["encoded-hit", "raw-hit", "miss"]


async def test_a_damaged_tile_fails_alone_and_is_not_cached(tmp_path: Path) -> None:
    path = write(tmp_path / "image.tif", noise(256, 256), tile=(128, 128))
    with tifffile.TiffFile(path) as tiff:
        offset, size = tiff.pages.first.dataoffsets[3], tiff.pages.first.databytecounts[3]
    content = bytearray(path.read_bytes())
    content[offset : offset + size] = b"\xff" * size
    path.write_bytes(content)
    async with engine() as running:
        image = await running.image(reference(path))
        view = View(style=style.parse({}), encoding=PNG)
        for x, y in ((0, 0), (1, 0), (0, 1)):
            await running.renderer.tile(image, TileRequest(1, x, y, view), Trace())
        for _ in range(2):
            with pytest.raises(Damaged):
                await running.renderer.tile(image, TileRequest(1, 1, 1, view), Trace())
        with pytest.raises(Damaged):
            await running.renderer.tile(image, TileRequest(0, 0, 0, view), Trace())
        await running.renderer.tile(image, TileRequest(1, 0, 0, view), Trace())
        assert running.renderer.rasters.shelf.reserved == 0


async def test_work_beyond_the_limit_is_refused_before_it_starts(multiplex: Path) -> None:
    async with engine(synthesis_limit=100_000) as running:
        image = await running.image(reference(multiplex))
        with pytest.raises(LimitExceeded, match="at most 100000"):
            await running.renderer.raster(image, 0, 0, 0, 0)
        assert running.report()["counts"]["reads"] == 0


async def test_a_thumbnail_keeps_the_aspect_and_is_never_enlarged(multiplex: Path) -> None:
    async with engine() as running:
        image = await running.image(reference(multiplex))
        view = View(style=style.parse({"min": 0, "max": 4000}), encoding=PNG)
        small = await running.renderer.thumbnail(image, ThumbnailRequest(100, 100, view), Trace())
        large = await running.renderer.thumbnail(image, ThumbnailRequest(4000, 4000, view), Trace())
        assert decode(small.data).shape[:2] == (83, 100)
        assert decode(large.data).shape[:2] == (500, 600)
        assert abs(decode(small.data).mean() - decode(large.data).mean()) < 1


async def test_pixels_are_the_stored_values(multiplex: Path) -> None:
    full = tifffile.imread(multiplex)
    async with engine() as running:
        image = await running.image(reference(multiplex))
        for frame, x, y in ((0, 0, 0), (3, 599, 499), (2, 128, 127)):
            assert await running.renderer.pixel(image, frame, x, y) == [full[frame, y, x]]


async def test_stored_tiles_pass_through_only_where_nothing_else_was_asked(tmp_path: Path) -> None:
    picture = np.dstack([noise(256, 256, dtype="uint8", seed=seed) for seed in range(3)])
    path = write(tmp_path / "jpeg.tif", picture, tile=(128, 128), compression="jpeg", photometric="rgb")
    async with engine() as running:
        image = await running.image(reference(path))
        z = image.info.levels - 1
        upright = await running.renderer.tile(image, TileRequest(z, 0, 0), Trace())
        assert running.renderer.passing.count == 1
        for encoding in (Encoding(turn=Turn(mirror=True)), Encoding(quality=94, explicit=True), PNG):
            request = TileRequest(z, 0, 0, View(encoding=encoding))
            tile = await running.renderer.tile(image, request, Trace())
            found = decode(tile.data).astype(int)
            found = found[:, ::-1] if encoding.turn.mirror else found
            assert (
                np.abs(found[..., :3] - decode(upright.data)).mean() < 6
            )  # of noise; another turn is 80 off
        assert running.renderer.passing.count == 1


async def test_a_reader_that_runs_out_of_items_is_answered() -> None:
    """A StopIteration cannot be set on a future: its waiter would wait for ever."""
    async with engine() as running, asyncio.timeout(10):
        with pytest.raises(RuntimeError, match="StopIteration"):
            await running.reading_room.run(next, iter(()))


async def test_what_is_done_in_passing_may_fail_and_the_reader_goes_on(
    caplog: pytest.LogCaptureFixture,
) -> None:
    room = ReadingRoom(1, 4)
    try:
        room.dismiss(int, "no number")
        assert await room.run(int, "7") == 7
        assert "no number" in caplog.text
    finally:
        room.close()


async def test_a_read_whose_caller_has_left_is_not_begun() -> None:
    room, gate, begun = ReadingRoom(1, 4), threading.Event(), []
    try:
        first = asyncio.create_task(room.run(gate.wait, 10))
        left = asyncio.create_task(room.run(begun.append, 1))
        await asyncio.sleep(0)
        left.cancel()
        await asyncio.gather(left, return_exceptions=True)
        gate.set()
        assert await first
        assert await room.run(len, begun) == 0
    finally:
        room.close()
