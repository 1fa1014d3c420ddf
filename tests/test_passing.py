"""Stored tiles passed on: read where they are asked for if they are at hand, else by a reader."""

from __future__ import annotations

import asyncio
import errno
import io
import os
from collections.abc import Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

from gputiles.config import Config
from gputiles.engine import Engine
from gputiles.errors import Damaged, NotFound, Unavailable
from gputiles.images import Image
from gputiles.reading_room import ReadingRoom
from gputiles.request import TileRequest, View
from gputiles.sources import athand
from gputiles.sources.bytesource import ObjectSource, PathSource, Span, left_or_read
from gputiles.trace import Trace
from gputiles.walk import FileRef

BYTES = bytes(range(256)) * 2048


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A file that the system has in memory: it was written just now."""
    file = tmp_path / "bytes.bin"
    file.write_bytes(BYTES)
    return file


@pytest.fixture
def source(path: Path) -> Iterator[PathSource]:
    opened = PathSource(path)
    yield opened
    opened.close()


def refusing(code: int) -> Any:
    """Return a ``preadv`` that fails, and counts how often it was asked."""

    def preadv(*_: Any) -> int:
        preadv.asked += 1  # type: ignore[attr-defined]
        raise OSError(code, os.strerror(code))

    preadv.asked = 0  # type: ignore[attr-defined]
    return preadv


needs_nowait = pytest.mark.skipif(
    not hasattr(os, "RWF_NOWAIT"), reason="the system cannot tell what is at hand"
)


@needs_nowait
def test_what_is_in_memory_is_read_without_waiting(source: PathSource) -> None:
    with athand.waiting_for_nothing():
        assert source.read_at(300, 20) == BYTES[300:320]
        assert source.read_at(0, 0) == b""


def test_a_thread_that_waits_for_nothing_reads_so_much_at_most(source: PathSource) -> None:
    half = athand.MOST // 2
    with athand.waiting_for_nothing():
        assert source.read_at(0, half) == BYTES[:half]
        assert source.read_at(9, half) == BYTES[9 : half + 9]
        with pytest.raises(athand.NotAtHand):
            source.read_at(0, 1)
    assert source.read_at(0, athand.MOST + 1) == BYTES[: athand.MOST + 1]


def test_what_is_only_on_the_disk_is_not_at_hand(source: PathSource, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "preadv", refusing(errno.EAGAIN))
    for _ in range(2):
        with athand.waiting_for_nothing(), pytest.raises(athand.NotAtHand):
            source.read_at(300, 20)
    assert os.preadv.asked == 2  # type: ignore[attr-defined]  # it may come to memory
    assert source.read_at(300, 20) == BYTES[300:320]


def test_a_file_system_that_cannot_tell_is_asked_once(
    source: PathSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "preadv", refusing(errno.EOPNOTSUPP))
    for _ in range(3):
        with athand.waiting_for_nothing(), pytest.raises(athand.NotAtHand):
            source.read_at(300, 20)
    assert os.preadv.asked == 1  # type: ignore[attr-defined]
    assert source.read_at(300, 20) == BYTES[300:320]


def test_nothing_else_is_at_hand(path: Path) -> None:
    other = ObjectSource(io.BytesIO(BYTES))
    with athand.waiting_for_nothing():
        with pytest.raises(athand.NotAtHand):
            other.read_at(0, 1)
        with pytest.raises(athand.NotAtHand):
            PathSource(path)
    assert other.read_at(0, 1) == b"\0"


def test_bytes_beyond_the_end_are_damage_at_hand_too(source: PathSource) -> None:
    with athand.waiting_for_nothing(), pytest.raises(Damaged, match="the file ends after"):
        source.read_at(len(BYTES) - 3, 4)


# -- what is left to who decodes it

LARGE = 1 << 17
RANGES = [(3, LARGE), (LARGE, LARGE)]
PARTS = [BYTES[at : at + size] for at, size in RANGES]


def spans(source: PathSource) -> list[Span]:
    """Return RANGES, left in the file."""
    with athand.waiting_for_nothing(0, 2 * LARGE):
        left = left_or_read(source, RANGES)
    found = [span for span in left if isinstance(span, Span)]
    assert len(found) == len(RANGES)
    return found


@needs_nowait
def test_large_ranges_at_hand_are_left_to_who_decodes_them(source: PathSource) -> None:
    left = spans(source)
    assert [len(span) for span in left] == [LARGE, LARGE]
    assert [span.read() for span in left] == PARTS


@needs_nowait
def test_ranges_are_read_where_one_is_small_or_none_may_be_left(source: PathSource) -> None:
    with athand.waiting_for_nothing(4 * LARGE, 4 * LARGE):
        assert left_or_read(source, [*RANGES, (9, 20)]) == [*PARTS, BYTES[9:29]]
        assert left_or_read(source, []) == []
    with athand.waiting_for_nothing(4 * LARGE):
        assert left_or_read(source, RANGES) == PARTS
    assert left_or_read(source, RANGES) == PARTS


@needs_nowait
def test_no_more_is_left_than_may_be(source: PathSource) -> None:
    with athand.waiting_for_nothing(4 * LARGE, 2 * LARGE - 1), pytest.raises(athand.NotAtHand):
        left_or_read(source, RANGES)


@needs_nowait
def test_what_has_come_to_memory_with_its_neighbours_alone_is_not_left(
    source: PathSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    preadv, page = os.preadv, 4096

    def partly(descriptor: int, rooms: Any, offset: int, flags: int) -> int:
        if LARGE + page <= offset < 2 * LARGE - page:
            raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))
        return preadv(descriptor, rooms, offset, flags)

    monkeypatch.setattr(os, "preadv", partly)
    with athand.waiting_for_nothing(0, 2 * LARGE), pytest.raises(athand.NotAtHand):
        left_or_read(source, RANGES)


def test_of_an_object_nothing_is_left() -> None:
    other = ObjectSource(io.BytesIO(BYTES))
    with athand.waiting_for_nothing(0, 2 * LARGE), pytest.raises(athand.NotAtHand):
        left_or_read(other, RANGES)
    assert left_or_read(other, RANGES) == PARTS


@needs_nowait
def test_a_range_beyond_the_end_is_damage_where_it_is_left(source: PathSource) -> None:
    with athand.waiting_for_nothing(0, 2 * LARGE):
        good, bad = left_or_read(source, [RANGES[0], (len(BYTES) - 5, LARGE)])
    assert isinstance(good, Span)
    assert isinstance(bad, Damaged)


@needs_nowait
def test_what_cannot_be_read_any_more_is_an_error_of_its_own(source: PathSource, path: Path) -> None:
    left = spans(source)
    os.truncate(path, LARGE + 10)
    first, second = (span.read() for span in left)
    assert first == PARTS[0]
    assert isinstance(second, Damaged)
    source.close()
    assert all(isinstance(span.read(), Unavailable) for span in left)


# -- tiles


@pytest.fixture
def slide(tmp_path: Path) -> Path:
    picture = np.random.default_rng(2).integers(0, 256, (512, 512, 3)).astype(np.uint8)
    path = tmp_path / "slide.tif"
    tifffile.imwrite(path, picture, tile=(128, 128), compression="jpeg", photometric="rgb")
    return path


@pytest.fixture
def readers(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return the names of the functions that readers were given."""
    given: list[str] = []
    run = ReadingRoom.run

    async def counting(self: ReadingRoom, function: Any, *args: Any, **kwargs: Any) -> Any:
        given.append(function.__name__)
        return await run(self, function, *args, **kwargs)

    monkeypatch.setattr(ReadingRoom, "run", counting)
    return given


@asynccontextmanager
async def opened(path: Path) -> Any:
    async with Engine(Config(tile_cache=1 << 24, raw_cache=1 << 26, workers=1, revalidate=0)) as engine:
        yield engine, await engine.image(FileRef(path, path.parent))


async def tile(engine: Engine, image: Image, x: int = 0, y: int = 0) -> tuple[bytes, str]:
    trace = Trace()
    request = TileRequest(image.info.levels - 1, x, y, View())
    return (await engine.renderer.tile(image, request, trace)).data, trace.cache


@needs_nowait
async def test_a_stored_tile_at_hand_takes_no_reader(slide: Path, readers: list[str]) -> None:
    async with opened(slide) as (engine, image):
        readers.clear()
        first, again, other = [await tile(engine, image, x) for x in (0, 0, 1)]
        assert readers == []
        assert [first[1], again[1], other[1]] == ["passthrough", "encoded-hit", "passthrough"]
        assert first[0] == again[0] != other[0]
        assert engine.renderer.passing.count == 2


async def test_a_stored_tile_that_is_not_at_hand_is_read_once_for_all(
    slide: Path, readers: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    async with opened(slide) as (engine, image):
        there, _ = await tile(engine, image)
        engine.renderer.tiles.clear()
        monkeypatch.setattr(os, "preadv", refusing(errno.EAGAIN))
        readers.clear()
        found = await asyncio.gather(*(tile(engine, image) for _ in range(64)))
        assert {data for data, _ in found} == {there}
        assert sorted({cache for _, cache in found}) == ["coalesced", "passthrough"]
        assert readers == ["_read"]


async def test_a_source_that_was_closed_meanwhile_is_opened_again(slide: Path, readers: list[str]) -> None:
    async with opened(slide) as (engine, image):
        there, _ = await tile(engine, image)
        engine.clear()
        readers.clear()
        assert await tile(engine, image) == (there, "passthrough")
        assert readers == ["open_stable", "_read"]


async def test_a_file_that_changed_is_not_passed_on(slide: Path) -> None:
    async with opened(slide) as (engine, image):
        before, _ = await tile(engine, image)
        tifffile.imwrite(slide, np.zeros((512, 512, 3), np.uint8), tile=(128, 128), compression="jpeg",
                         photometric="rgb")  # fmt: skip
        engine.renderer.tiles.clear()
        after, _ = await tile(engine, image)
        assert len(after) < len(before)


async def test_a_tile_that_is_not_there_is_refused_before_anything_is_read(
    slide: Path, readers: list[str]
) -> None:
    async with opened(slide) as (engine, image):
        readers.clear()
        for x, y in ((4, 0), (0, 4), (-1, 0)):
            with pytest.raises(NotFound):
                await tile(engine, image, x, y)
        assert readers == []
