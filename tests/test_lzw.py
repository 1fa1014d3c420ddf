"""LZW streams of TIFF: what libtiff reads from them, or nothing at all."""

from __future__ import annotations

import ctypes
import mmap
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from functools import partial

import imagecodecs
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gputiles.backends import Raster, tables
from gputiles.backends.host import HostBackend
from gputiles.backends.hostlib import installed
from gputiles.backends.paste import decode_tiles
from gputiles.errors import Damaged
from gputiles.sources import bytecodec
from gputiles.sources.bytecodec import LZW, ByteCodec
from tests.test_inflate import KINDS, Counting, bytes_like, inflated, job_of, pixels_of

CLEAR, END, FULL = 256, 257, 4096
CODEC = ByteCodec(LZW, 1, 16, "u", "<")
decompressed = partial(inflated, kernel="lzw_streams")


def packed(codes: Iterable[int], cleared: int = FULL) -> bytes:
    """Return codes as bits: of 9 to 12, as many as the entries that the reader has made by then ask for."""
    bits, entries = "", 258
    for code in codes:
        width = 9 if entries < 511 else 10 if entries < 1023 else 11 if entries < 2047 else 12
        bits += f"{code:0{width}b}"
        entries = 257 if code == CLEAR else min(entries + 1, FULL)
    bits += "0" * (-len(bits) % 8)
    return int("1" + bits, 2).to_bytes(len(bits) // 8 + 1, "big")[1:]


def coded(text: bytes, clears_at: int = 4094) -> Iterator[int]:
    """Yield the codes of a text as TIFF 6.0 has it (section 13), the table cleared at a number of entries."""
    table: dict[bytes, int] = {}
    yield CLEAR
    known = b""
    for value in text:
        longer = known + bytes([value])
        if len(longer) == 1 or longer in table:
            known = longer
            continue
        yield table.get(known, known[0])
        if 258 + len(table) < FULL:
            table[longer] = 258 + len(table)
        if 258 + len(table) == clears_at:
            yield CLEAR
            table = {}
        known = longer[-1:]
    if known:
        yield table.get(known, known[0])
    yield END


def theirs(stream: bytes, size: int) -> bytes | None:
    """Return what libtiff reads from a stream, None where it is damaged."""
    try:
        return bytes(bytecodec.inflate(LZW, stream, size))
    except bytecodec.DECODER_ERRORS:
        return None


@pytest.mark.parametrize("kind", KINDS)
def test_streams_of_any_kind_and_length_are_decompressed(kind: str) -> None:
    data = [bytes_like(kind, count) for count in (1, 2, 15, 33, 258, 300, 4097, 70_000)]
    assert decompressed([imagecodecs.lzw_encode(each) for each in data], list(map(len, data))) == data


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(KINDS), st.integers(0, 9000), st.integers(0, 9)), max_size=4))
def test_whatever_libtiffs_kin_write_is_read_back(pieces: list[tuple[str, int, int]]) -> None:
    text = b"".join(bytes_like(*piece) for piece in pieces)
    stream = imagecodecs.lzw_encode(text) if text else packed([CLEAR, END])
    assert decompressed([stream], [len(text)]) == [text]


@pytest.mark.parametrize("kind", ["noise", "photons", "nothing", "patterns"])
@pytest.mark.parametrize("clears_at", [259, 511, 512, 1023, 2047, 4093, 4094, 4095, 4096])
def test_a_table_is_cleared_whenever_the_writer_likes(kind: str, clears_at: int) -> None:
    text = bytes_like(kind, 20_000)
    stream = packed(coded(text, clears_at))
    assert decompressed([stream], [len(text)]) == [text]
    assert theirs(stream, len(text)) == text


@pytest.mark.parametrize("kind", ["noise", "photons", "patterns"])
def test_a_table_that_is_not_cleared_when_it_is_full_is_left_to_others(kind: str) -> None:
    text = bytes_like(kind, 20_000)
    assert decompressed([packed(coded(text, FULL + 1))], [len(text)]) == [None]


def test_tables_that_are_cleared_twice_are_cleared() -> None:
    assert decompressed([packed([CLEAR, CLEAR, 65, CLEAR, CLEAR, 66, END])], [2]) == [b"AB"]


def test_a_stream_need_not_say_that_it_ends() -> None:
    text = bytes_like("photons", 3000)
    *codes, _ = coded(text)
    assert decompressed([packed(codes)], [len(text)]) == [text]


@pytest.mark.parametrize("size", [0, 1, 2999, 3001, 6000])
def test_a_stream_that_does_not_fill_its_room_or_has_too_much_for_it_is_not_done(size: int) -> None:
    assert decompressed([imagecodecs.lzw_encode(bytes_like("photons", 3000))], [size]) == [None]


@pytest.mark.parametrize(
    "stream",
    [
        b"",
        b"\x80",
        packed([65, 66, END]),  # as older programs, too, do not begin
        packed([CLEAR, 258, END]),
        packed([CLEAR, 65, 259, END]),
        packed([CLEAR, 65, 66, 300, END]),
        packed([CLEAR, 65, 258, 258, 400, *range(200)]),
        packed([CLEAR, END, 65, 66, 67]),
    ],
)
def test_codes_that_were_never_made_are_not_followed(stream: bytes) -> None:
    assert decompressed([stream], [3]) == [None]


SMALL = {
    "photons": imagecodecs.lzw_encode(bytes_like("photons", 400)),
    "nothing": imagecodecs.lzw_encode(bytes(2000)),
    "patterns": imagecodecs.lzw_encode(bytes_like("patterns", 900)),
}
LENGTHS = {"photons": 400, "nothing": 2000, "patterns": 900}


@pytest.mark.parametrize("name", SMALL)
def test_a_stream_with_any_byte_changed_is_read_as_libtiff_does_or_not_done(name: str) -> None:
    stream, size = SMALL[name], LENGTHS[name]
    changed = [
        bytes([*stream[:at], stream[at] ^ bits, *stream[at + 1 :]])
        for at in range(len(stream))
        for bits in (1, 2, 4, 8, 16, 32, 64, 128, 255, 0x5A)
    ]
    for each, found in zip(changed, decompressed(changed, [size] * len(changed)), strict=True):
        assert found is None or found == theirs(each, size)


@pytest.mark.parametrize("name", SMALL)
def test_a_stream_that_is_cut_off_is_not_done(name: str) -> None:
    stream, size = SMALL[name], LENGTHS[name]
    cut = [stream[:end] for end in range(len(stream) - 2)]  # the code of the end fills at most two bytes
    assert decompressed(cut, [size] * len(cut)) == [None] * len(cut)


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=300), st.integers(0, 2000))
def test_random_bits_are_read_as_libtiff_does_or_not_done(tail: bytes, size: int) -> None:
    stream = b"\x80" + bytes([tail[0] & 0x7F]) + tail[1:] if tail else b"\x80"
    (found,) = decompressed([stream], [size])
    assert found is None or size == 0 or found == theirs(stream, size)


@pytest.mark.parametrize("cut", [0, 1, 2, 3, 7, 8, 40, 1000])
@pytest.mark.parametrize("kind", ["photons", "nothing", "noise"])
def test_nothing_is_read_behind_the_input(kind: str, cut: int) -> None:
    """The stream ends where memory does: at a page that must not be touched."""
    libc = ctypes.CDLL(None, use_errno=True)
    text = bytes_like(kind, 3000)
    stream = imagecodecs.lzw_encode(text)
    stream, page = stream[: max(0, len(stream) - cut)], mmap.PAGESIZE
    memory = mmap.mmap(-1, 3 * page)
    view = np.frombuffer(memory, np.uint8)
    edge = view.ctypes.data + 2 * page
    view[2 * page - len(stream) : 2 * page] = np.frombuffer(stream, np.uint8)
    assert libc.mprotect(ctypes.c_void_p(edge), page, 0) == 0
    room = np.zeros(len(text), np.uint8)
    table = np.array([(edge - len(stream), len(stream), room.ctypes.data, len(room), 0)], tables.INFLATE)
    installed()("lzw_streams", table)
    assert libc.mprotect(ctypes.c_void_p(edge), page, mmap.PROT_READ | mmap.PROT_WRITE) == 0
    assert table["done"][0] or cut
    assert room.tobytes() == text or not table["done"][0]


# ---- chunks of a batch


def lzw(seed: int) -> bytes:
    return bytes(imagecodecs.lzw_encode(pixels_of(seed).tobytes()))


@pytest.mark.parametrize("count", [1, 2, 6])
def test_the_chunks_of_a_batch_are_decompressed_in_one_call(
    count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bytecodec, "_with_libtiff", None)
    library = Counting()
    for seed, (tile,) in enumerate(
        HostBackend(1, library).decode([job_of([lzw(i)], CODEC) for i in range(count)])
    ):  # type: ignore[misc]
        assert np.array_equal(tile.pixels, pixels_of(seed))
    assert library.calls == {"fetch": 1, "lzw_streams": 1}


def test_streams_of_two_kinds_are_decompressed_kind_by_kind() -> None:
    library = Counting()
    deflated = [bytes(imagecodecs.deflate_encode(pixels_of(seed).tobytes())) for seed in range(3)]
    jobs = [job_of([each], replace(CODEC, compression=8)) for each in deflated]
    jobs += [job_of([lzw(seed)], CODEC) for seed in range(3, 6)]
    for seed, (tile,) in enumerate(HostBackend(1, library).decode(jobs)):  # type: ignore[misc]
        assert np.array_equal(tile.pixels, pixels_of(seed))
    assert library.calls == {"fetch": 2, "inflate_streams": 1, "lzw_streams": 1}


@pytest.mark.parametrize("predictor", [1, 2])
@pytest.mark.parametrize("order", ["<", ">"])
def test_byte_order_and_predictor_are_undone(predictor: int, order: str) -> None:
    codec = replace(CODEC, order=order, predictor=predictor)  # type: ignore[arg-type]
    pixels = pixels_of(1)[..., 0]
    stored = np.diff(pixels, axis=1, prepend=np.uint16(0)) if predictor == 2 else pixels
    job = job_of([bytes(imagecodecs.lzw_encode(stored.astype(f"{order}u2").tobytes()))], codec)
    (tiles,) = HostBackend(1).decode([job])
    assert np.array_equal(tiles[0].pixels[..., 0], pixels)  # type: ignore[index, union-attr]


DAMAGE: dict[str, Callable[[bytes], bytes]] = {
    "cut off": lambda data: data[: len(data) // 2],
    "turned bits": lambda data: data[:3000] + bytes([data[3000] ^ 255]) + data[3001:],
    "no stream": lambda data: b"no stream" + data,
    "followed by others": lambda data: data + b"others",
    "of more rows": lambda data: bytes(imagecodecs.lzw_encode(imagecodecs.lzw_decode(data) + b"more")),
    "of fewer rows": lambda data: bytes(imagecodecs.lzw_encode(imagecodecs.lzw_decode(data)[:-10])),
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_a_damaged_chunk_among_good_ones_has_its_words_and_they_are_served(kind: str) -> None:
    jobs = [job_of([each], CODEC) for each in (lzw(0), DAMAGE[kind](lzw(1)), lzw(2))]
    for ours, job in zip(HostBackend(1).decode(jobs), jobs, strict=True):
        (tile,), (alone,) = ours, decode_tiles(job)  # type: ignore[misc]
        assert type(tile) is type(alone)
        if isinstance(alone, Raster):
            assert np.array_equal(tile.pixels, alone.pixels)
        else:
            assert isinstance(tile, Damaged)
            assert str(tile) == str(alone)
