"""Streams inflated side by side: what zlib reads from them, or nothing at all."""

from __future__ import annotations

import ctypes
import mmap
import os
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gputiles.backends import Chunk, DecodeJob, Raster, host, inflating, tables
from gputiles.backends.host import HostBackend
from gputiles.backends.hostlib import Call, Library, installed
from gputiles.backends.paste import decode_tiles
from gputiles.errors import Damaged
from gputiles.geometry import Rect
from gputiles.sources import bytecodec
from gputiles.sources.bytecodec import ByteCodec
from gputiles.sources.bytesource import PathSource, Span

GUARD = 64  # bytes behind the room of each stream, which nothing may write to
STRATEGIES = {
    "default": zlib.Z_DEFAULT_STRATEGY,
    "fixed": zlib.Z_FIXED,
    "huffman": zlib.Z_HUFFMAN_ONLY,
    "runs": zlib.Z_RLE,
    "filtered": zlib.Z_FILTERED,
}
FLUSHES = (zlib.Z_NO_FLUSH, zlib.Z_SYNC_FLUSH, zlib.Z_FULL_FLUSH, zlib.Z_PARTIAL_FLUSH, zlib.Z_BLOCK)


def inflated(
    streams: Sequence[bytes], sizes: Sequence[int], kernel: str = "inflate_streams"
) -> list[bytes | None]:
    """Decompress streams in one call; None stands for those that the kernel leaves to others."""
    rooms = [np.full(size + GUARD, 0xA5, np.uint8) for size in sizes]
    inputs = [np.frombuffer(stream or b"\0", np.uint8) for stream in streams]
    table = np.zeros(len(streams), tables.INFLATE)
    for row, stream, data, room, size in zip(table, streams, inputs, rooms, sizes, strict=True):
        row["in"], row["size"] = data.ctypes.data, len(stream)
        row["out"], row["capacity"] = room.ctypes.data, size
    installed()(kernel, table)
    for room, size in zip(rooms, sizes, strict=True):
        assert (room[size:] == 0xA5).all(), "written beyond the room"
    done = table["done"].tolist()
    return [room[:size].tobytes() if d else None for room, size, d in zip(rooms, sizes, done, strict=True)]


def bytes_like(kind: str, count: int, seed: int = 1) -> bytes:
    """Return ``count`` bytes as pixels of some kind of picture have them."""
    rng = np.random.default_rng(seed)
    made: dict[str, Callable[[], Any]] = {
        "noise": lambda: rng.integers(0, 256, count).astype(np.uint8),
        "photons": lambda: rng.poisson(100, count // 2 + 1).astype("<u2"),
        "gradient": lambda: (np.arange(count) // 7 + rng.integers(0, 3, count)).astype(np.uint8),
        "nothing": lambda: np.zeros(count, np.uint8),
        "hardly anything": lambda: (rng.random(count) < 0.002).astype(np.uint8) * 9,
        "rare values": lambda: (rng.geometric(0.4, count) + (rng.random(count) < 0.001) * 200).astype(
            np.uint8
        ),
        "patterns": lambda: np.concatenate(
            [
                np.resize(rng.integers(0, 256, 1 + i % 40).astype(np.uint8), 10 + i * 7 % 600)
                for i in range(300)
            ]
        ),
        "echoes": lambda: np.resize(rng.integers(0, 256, 32700).astype(np.uint8), count),
    }
    return np.resize(np.frombuffer(made[kind]().tobytes(), np.uint8), count).tobytes()


KINDS = (
    "noise", "photons", "gradient", "nothing", "hardly anything", "rare values", "patterns", "echoes",
)  # fmt: skip


def compressed(data: bytes, level: int, strategy: str, window: int = 15, memory: int = 8) -> bytes:
    packer = zlib.compressobj(level, zlib.DEFLATED, window, memory, STRATEGIES[strategy])
    return packer.compress(data) + packer.flush()


# ---- the kernel


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("level", [0, 1, 4, 6, 9])
@pytest.mark.parametrize("kind", KINDS)
def test_streams_of_any_level_and_strategy_are_inflated(kind: str, level: int, strategy: str) -> None:
    data = [bytes_like(kind, count) for count in (0, 1, 2, 15, 33, 258, 300, 4097, 70_000)]
    streams = [compressed(each, level, strategy) for each in data]
    assert inflated(streams, [len(each) for each in data]) == data


@pytest.mark.parametrize("count", range(1, 8))
def test_any_number_of_streams_is_inflated_together(count: int) -> None:
    data = [bytes_like(KINDS[i % len(KINDS)], 200_000 + 1000 * i, i) for i in range(count)]
    assert inflated([zlib.compress(each) for each in data], [len(each) for each in data]) == data


def test_no_streams_are_no_work() -> None:
    assert inflated([], []) == []


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_whatever_zlib_writes_is_read_back(data: st.DataObject) -> None:
    """Pieces of any kind, flushed in any way, by any window and memory."""
    texts, streams = [], []
    for _ in range(data.draw(st.integers(1, 5))):
        level, memory = data.draw(st.integers(0, 9)), data.draw(st.integers(1, 9))
        strategy = data.draw(st.sampled_from(sorted(STRATEGIES.values())))
        packer = zlib.compressobj(level, zlib.DEFLATED, data.draw(st.integers(9, 15)), memory, strategy)
        text, stream = b"", b""
        for _ in range(data.draw(st.integers(0, 4))):
            count = data.draw(st.integers(0, 70_000))
            piece = bytes_like(data.draw(st.sampled_from(KINDS)), count, data.draw(st.integers(0, 9)))
            text += piece
            stream += packer.compress(piece) + packer.flush(data.draw(st.sampled_from(FLUSHES)))
        texts.append(text)
        streams.append(stream + packer.flush())
    assert inflated(streams, [len(text) for text in texts]) == texts


def test_bytes_that_follow_a_stream_do_not_matter() -> None:
    data = bytes_like("photons", 5000)
    assert inflated([zlib.compress(data) + b"more"], [5000]) == [data]


@pytest.mark.parametrize("kind", ["noise", "photons", "patterns"])
def test_a_stream_that_does_not_fill_its_room_or_has_too_much_for_it_is_not_done(kind: str) -> None:
    data = bytes_like(kind, 5000)
    stream = zlib.compress(data)
    sizes = (0, 1, 4000, 4999, 5001, 6000)
    assert inflated([stream] * len(sizes), sizes) == [None] * len(sizes)


@pytest.mark.parametrize(
    ("at", "value"),
    [(0, 0x79), (0, 0x88), (1, 0x9D), (1, 0xBC)],
    ids=["method", "window", "check", "dictionary"],
)
def test_a_head_that_is_none_is_not_done(at: int, value: int) -> None:
    stream = bytearray(zlib.compress(bytes(100)))
    stream[at] = value
    assert inflated([bytes(stream)], [100]) == [None]


def theirs(stream: bytes) -> bytes | None:
    """Return what zlib reads from a stream, None where it is not whole."""
    reader = zlib.decompressobj()
    try:
        text = reader.decompress(stream, 1 << 20)
    except zlib.error:
        return None
    return text if reader.eof else None


SMALL = {
    "own codes": compressed(bytes_like("photons", 400), 9, "default"),
    "fixed code": compressed(b"tile tile server, tile by tile", 9, "fixed"),
    "stored": compressed(bytes_like("noise", 40), 0, "default"),
    "far and long": compressed(
        bytes_like("noise", 300) + bytes(900) + bytes_like("noise", 300), 9, "default"
    ),
}


@pytest.mark.parametrize("name", SMALL)
def test_a_stream_with_any_byte_changed_is_read_as_zlib_does_or_not_done(name: str) -> None:
    stream = SMALL[name]
    size = len(theirs(stream) or b"")
    changed = [
        bytes([*stream[:at], stream[at] ^ bits, *stream[at + 1 :]])
        for at in range(len(stream))
        for bits in (1, 2, 4, 8, 16, 32, 64, 128, 255, 0x5A)
    ]
    for each, found in zip(changed, inflated(changed, [size] * len(changed)), strict=True):
        assert found is None or found == theirs(each)


@pytest.mark.parametrize("name", SMALL)
def test_a_stream_that_is_cut_off_is_not_done(name: str) -> None:
    stream = SMALL[name]
    size = len(theirs(stream) or b"")
    cut = [stream[:end] for end in range(len(stream))]
    assert inflated(cut, [size] * len(cut)) == [None] * len(cut)


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=300), st.integers(0, 2000))
def test_random_blocks_are_read_as_zlib_does_or_not_done(blocks: bytes, size: int) -> None:
    stream = b"\x78\x9c" + blocks
    (found,) = inflated([stream], [size])
    assert found is None or found == theirs(stream)


def stored_at_the_end(text: bytes, tail: bytes) -> bytes:
    """Return a stream of two blocks: one of its own codes, and at the end one of bytes as they are."""
    packer = zlib.compressobj(9)
    length = len(tail).to_bytes(2, "little") + (len(tail) ^ 0xFFFF).to_bytes(2, "little")
    blocks = packer.compress(text) + packer.flush(zlib.Z_SYNC_FLUSH) + b"\1" + length + tail
    return blocks + zlib.adler32(text + tail).to_bytes(4, "big")


PHOTONS = bytes_like("photons", 3000)
ENDS = {
    "own codes": zlib.compress(PHOTONS, 6),
    "fixed code": compressed(PHOTONS, 6, "fixed"),
    "stored at the end": stored_at_the_end(PHOTONS[:2000], PHOTONS[2000:]),
}


@pytest.mark.parametrize("lanes", [1, 2, 3])
@pytest.mark.parametrize("cut", [0, 1, 4, 5, 40, 1000])
@pytest.mark.parametrize("name", ENDS)
def test_nothing_is_read_behind_the_input(name: str, cut: int, lanes: int) -> None:
    """The streams end where memory does: at a page that must not be touched."""
    libc = ctypes.CDLL(None, use_errno=True)
    stream, page = ENDS[name][: len(ENDS[name]) - cut], mmap.PAGESIZE
    memory = mmap.mmap(-1, 3 * page)
    view = np.frombuffer(memory, np.uint8)
    edge = view.ctypes.data + 2 * page
    view[2 * page - len(stream) : 2 * page] = np.frombuffer(stream, np.uint8)
    assert libc.mprotect(ctypes.c_void_p(edge), page, 0) == 0
    rooms = [np.zeros(len(PHOTONS), np.uint8) for _ in range(lanes)]
    rows = [(edge - len(stream), len(stream), room.ctypes.data, len(room), 0) for room in rooms]
    table = np.array(rows, tables.INFLATE)
    installed()("inflate_streams", table)
    assert libc.mprotect(ctypes.c_void_p(edge), page, mmap.PROT_READ | mmap.PROT_WRITE) == 0
    assert table["done"].tolist() == [cut == 0] * lanes
    assert all(room.tobytes() == PHOTONS for room in rooms) or cut


# ---- chunks of a batch


class Counting(Library):
    """The kernels, and how often each was called."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: Counter[str] = Counter()

    def __call__(self, kernel: str, table: Any) -> None:
        self.calls[kernel] += 1
        super().__call__(kernel, table)

    def shares(self, calls: Sequence[Call], count: int | None = None) -> Any:
        steps = super().shares(calls, count)
        for call in calls:
            self.calls[call.kernel] += len(steps)
        return steps

    def inflate(self, kernel: str, ranges: Any, streams: Any) -> None:
        """Read ranges and decompress the stream of each."""
        self("fetch", ranges)
        self(kernel, streams)


CODEC = ByteCodec(8, 1, 16, "u", "<")
SIDE = 128


def pixels_of(seed: int) -> np.ndarray:
    return np.frombuffer(bytes_like("photons", 2 * SIDE * SIDE, seed), "<u2").reshape(SIDE, SIDE, 1)


def job_of(data: Sequence[bytes | None], codec: ByteCodec = CODEC) -> DecodeJob:
    """Return a job of chunks side by side that are tiles."""
    places = [Rect(SIDE * at, 0, SIDE, SIDE) for at in range(len(data))]
    chunks = tuple(Chunk(codec, each, place) for each, place in zip(data, places, strict=True))
    return DecodeJob(chunks, tuple(places), (SIDE * len(data), SIDE), 1, np.dtype(np.uint16))


@pytest.fixture
def one_by_one(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Return the sizes of the streams that were inflated by the codec itself, as they come."""
    sizes: list[int] = []
    usual = bytecodec._INTO_BUFFER[8]

    def counted(data: bytes, out: Any) -> Any:
        sizes.append(len(data))
        return usual(data, out=out)

    monkeypatch.setitem(bytecodec._INTO_BUFFER, 8, counted)
    return sizes


def test_the_chunks_of_a_batch_are_inflated_in_one_call(one_by_one: list[int]) -> None:
    library = Counting()
    jobs = [job_of([zlib.compress(pixels_of(seed).tobytes())]) for seed in range(6)]
    for seed, (tile,) in enumerate(HostBackend(1, library).decode(jobs)):  # type: ignore[misc]
        assert np.array_equal(tile.pixels, pixels_of(seed))
    assert library.calls["inflate_streams"] == 1
    assert not one_by_one


def test_a_chunk_alone_is_left_to_its_codec(one_by_one: list[int]) -> None:
    library = Counting()
    (tiles,) = HostBackend(1, library).decode([job_of([zlib.compress(pixels_of(1).tobytes())])])
    assert np.array_equal(tiles[0].pixels, pixels_of(1))  # type: ignore[index, union-attr]
    assert not library.calls
    assert len(one_by_one) == 1


def test_a_tile_is_the_memory_that_its_chunk_was_inflated_to() -> None:
    jobs = [job_of([zlib.compress(pixels_of(seed).tobytes())]) for seed in range(2)]
    for (tile,) in HostBackend(1).decode(jobs):  # type: ignore[misc]
        assert tile.pixels.base.nbytes == tile.pixels.nbytes


def test_streams_that_gain_nothing_by_company_are_left_to_their_codec(one_by_one: list[int]) -> None:
    """Those that are nearly empty, that are stored as they are, and that are short."""
    library = Counting()
    noise = np.random.default_rng(1).integers(0, 65536, SIDE * SIDE).astype("<u2").tobytes()
    for data in (zlib.compress(bytes(2 * SIDE * SIDE)), zlib.compress(noise)):
        HostBackend(1, library).decode([job_of([data] * 3)])
    short = ByteCodec(8, 1, 8, "u", "<")
    data = zlib.compress(bytes_like("photons", 32 * 32))
    chunk = Chunk(short, data, Rect(0, 0, 32, 32))
    job = DecodeJob((chunk,), (chunk.place,), (32, 32), 1, np.dtype(np.uint8))
    HostBackend(1, library).decode([job, job])
    assert not library.calls
    assert len(one_by_one) == 8


@pytest.mark.parametrize("predictor", [1, 2])
@pytest.mark.parametrize("order", ["<", ">"])
def test_byte_order_and_predictor_are_undone(predictor: int, order: str) -> None:
    codec = replace(CODEC, order=order, predictor=predictor)  # type: ignore[arg-type]
    pixels = [pixels_of(seed)[..., 0] for seed in range(3)]
    stored = [np.diff(each, axis=1, prepend=np.uint16(0)) if predictor == 2 else each for each in pixels]
    job = job_of([zlib.compress(each.astype(f"{order}u2").tobytes()) for each in stored], codec)
    (tiles,) = HostBackend(1).decode([job])
    for tile, expected in zip(tiles, pixels, strict=True):  # type: ignore[arg-type]
        assert np.array_equal(tile.pixels[..., 0], expected)  # type: ignore[union-attr]


DAMAGE: dict[str, Callable[[bytes], bytes]] = {
    "checksum": lambda data: data[:-1] + bytes([data[-1] ^ 1]),
    "cut off": lambda data: data[: len(data) // 2],
    "turned bits": lambda data: data[:3000] + bytes([data[3000] ^ 255]) + data[3001:],
    "no stream": lambda data: b"no stream" + data,
    "followed by others": lambda data: data + b"others",
    "more than enough": lambda data: zlib.compress(zlib.decompress(data) + b"more"),
    "too little": lambda data: zlib.compress(zlib.decompress(data)[:-10]),
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_a_damaged_chunk_among_good_ones_has_its_words_and_they_are_served(kind: str) -> None:
    good = [zlib.compress(pixels_of(seed).tobytes()) for seed in range(3)]
    jobs = [job_of([each]) for each in (good[0], DAMAGE[kind](good[1]), good[2])]
    for ours, job in zip(HostBackend(1).decode(jobs), jobs, strict=True):
        (tile,), (alone,) = ours, decode_tiles(job)  # type: ignore[misc]
        assert type(tile) is type(alone)
        if isinstance(alone, Raster):
            assert np.array_equal(tile.pixels, alone.pixels)
        else:
            assert isinstance(tile, Damaged)
            assert str(tile) == str(alone)


def blank(size: int) -> np.ndarray:
    return np.full(size, 0xA5, np.uint8)  # nothing may hang on what is in it


def scratch(_: str, size: int) -> np.ndarray:
    return blank(size)


def test_a_job_that_ends_early_does_not_hold_up_the_others() -> None:
    good = [zlib.compress(pixels_of(seed).tobytes()) for seed in range(12)]
    jobs = [job_of(good[:8]), job_of(good[8:])]
    found = inflating.Inflating(Counting().inflate, jobs, blank, scratch)
    assert np.array_equal(found.decode(jobs[0].chunks[0]), pixels_of(0))
    for at, chunk in enumerate(jobs[1].chunks):
        assert np.array_equal(found.decode(chunk), pixels_of(8 + at))


def test_no_more_than_a_few_chunks_are_held_at_once() -> None:
    library = Counting()
    job = job_of([zlib.compress(pixels_of(seed).tobytes()) for seed in range(20)])
    found = inflating.Inflating(library.inflate, [job], blank, scratch)
    most = 0
    for chunk in job.chunks:
        found.decode(chunk)
        most = max(most, len(found._ready))
    assert most == inflating.TOGETHER - 1
    assert library.calls["inflate_streams"] == 4


def test_other_chunks_of_a_job_are_decoded_as_ever() -> None:
    data = [zlib.compress(pixels_of(seed).tobytes()) for seed in range(3)]
    mixed = job_of([data[0], None, data[1], data[2]])
    plain = Chunk(replace(CODEC, compression=1), pixels_of(5).tobytes(), mixed.chunks[3].place)
    job = replace(mixed, chunks=(*mixed.chunks[:3], plain))
    (tiles,) = HostBackend(1).decode([job])
    for tile, alone in zip(tiles, decode_tiles(job), strict=True):  # type: ignore[arg-type]
        assert np.array_equal(tile.pixels, alone.pixels)  # type: ignore[union-attr]
        assert (tile.valid is None) == (alone.valid is None)  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("waiting", "workers", "most"), [(6, 2, 3), (2, 2, 1), (1, 1, 1), (64, 2, 3), (3, 1, 3)]
)
def test_jobs_are_shared_out_before_they_are_batched(waiting: int, workers: int, most: int) -> None:
    plain = job_of([pixels_of(1).tobytes()], replace(CODEC, compression=1))
    assert HostBackend(workers).batch_size("decode", waiting, plain) == most


@pytest.mark.parametrize(("waiting", "most"), [(1, 1), (2, 2), (6, 6), (7, 3), (64, 3)])
def test_few_streams_are_one_batch_that_the_pool_shares(waiting: int, most: int) -> None:
    assert HostBackend(2).batch_size("decode", waiting, job_of([zlib.compress(bytes(9))])) == most


@pytest.mark.parametrize(
    ("count", "workers", "least", "shares"),
    [(6, 2, 1, 2), (6, 1, 1, 1), (6, 8, 1, 6), (2, 2, 1, 2), (6, 8, 2, 3), (3, 2, 2, 1)],
)
def test_streams_are_shared_among_those_who_are_idle(
    count: int, workers: int, least: int, shares: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(host, "LEAST_SHARE", least * 2 * SIDE * SIDE)
    library = Counting()
    backend = HostBackend(workers, library)
    jobs = [job_of([zlib.compress(pixels_of(seed).tobytes())]) for seed in range(count)]
    for seed, (tile,) in enumerate(backend.decode(jobs)):  # type: ignore[misc]
        assert np.array_equal(tile.pixels, pixels_of(seed))
    assert library.calls == {"fetch": shares, "inflate_streams": shares}
    with backend._counted(workers):  # all are busy
        backend.decode(jobs)
    assert library.calls["inflate_streams"] == shares + 1
    backend.close()


@pytest.fixture
def stored(tmp_path: Path) -> Iterator[tuple[Path, PathSource, list[Span]]]:
    """A file of five streams, open, and where they lie."""
    streams = [zlib.compress(pixels_of(seed).tobytes()) for seed in range(5)]
    path = tmp_path / "streams"
    path.write_bytes(b"head" + b"".join(streams))
    source = PathSource(path)
    ends = list(accumulate(map(len, streams), initial=4))
    yield path, source, [Span(source, at, len(stream)) for at, stream in zip(ends, streams, strict=False)]
    source.close()


Stored = tuple[Path, PathSource, list[Span]]


def test_streams_that_were_left_in_the_file_are_read_by_who_inflates_them(
    stored: Stored, one_by_one: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    _, source, spans = stored
    monkeypatch.setattr(source, "read_at", None)  # nobody asks for them otherwise
    here = zlib.compress(pixels_of(5).tobytes())
    for workers in (1, 2):
        with closing(HostBackend(workers)) as backend:
            found = backend.decode([job_of([spans[0], here, *spans[1:]])])[0]  # type: ignore[list-item]
        for tile, seed in zip(found, (0, 5, 1, 2, 3, 4), strict=True):  # type: ignore[arg-type]
            assert np.array_equal(tile.pixels, pixels_of(seed))  # type: ignore[union-attr]
    assert not one_by_one


@pytest.mark.parametrize("kind", ["cut off", "closed", "damaged"])
def test_what_cannot_be_read_or_inflated_has_its_words_and_the_others_are_served(
    stored: Stored, kind: str
) -> None:
    path, source, spans = stored
    if kind == "cut off":
        os.truncate(path, spans[4].offset + 100)
    elif kind == "damaged":
        with path.open("r+b") as file:
            file.seek(spans[4].offset + 3000)
            file.write(b"damage")
    else:
        source.close()
    job = job_of(spans)  # type: ignore[arg-type]
    with closing(HostBackend(2)) as backend:
        (ours,) = backend.decode([job])
    for tile, alone in zip(ours, decode_tiles(job), strict=True):  # type: ignore[arg-type]
        assert type(tile) is type(alone)
        if isinstance(alone, Raster):
            assert np.array_equal(tile.pixels, alone.pixels)  # type: ignore[union-attr]
        else:
            assert str(tile) == str(alone)
    wrong = [type(tile).__name__ for tile in ours if not isinstance(tile, Raster)]  # type: ignore[union-attr]
    assert wrong == {"cut off": ["Damaged"], "damaged": ["Damaged"], "closed": ["Unavailable"] * 5}[kind]


def test_a_range_is_read_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "range"
    path.write_bytes(bytes(range(200)))
    room = np.full(300, 0xA5, np.uint8)
    with path.open("rb") as file:
        at = room.ctypes.data
        cases = [
            (file.fileno(), 10, 100, at, 0),
            (file.fileno(), 150, 51, at + 100, 0),
            (-1, 0, 1, at + 160, 0),
            (-1, 0, 0, 0, 0),
            (file.fileno(), 200, 0, at, 0),
        ]
        table = np.array(cases, tables.FETCH)
        installed()("fetch", table)
    assert table["done"].tolist() == [1, 0, 0, 1, 1]
    assert room[:100].tolist() == list(range(10, 110))
    assert (room[150:] == 0xA5).all()
