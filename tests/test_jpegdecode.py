"""The host's JPEG decoder: what it decodes is libjpeg-turbo's to the bit, the rest it leaves alone."""

from __future__ import annotations

import ctypes
import mmap
import shutil
import subprocess
from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace
from io import BytesIO
from itertools import product
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from gputiles.backends import Chunk, DecodeJob, Raster, tables
from gputiles.backends.host import HostBackend
from gputiles.backends.hostlib import installed
from gputiles.backends.jpegs import AT_ONCE, COLUMN, LANES, LARGEST, LEAST, SHARED, WIDEST, Jpegs
from gputiles.backends.paste import decode_chunk
from gputiles.errors import Damaged, GputilesError
from gputiles.geometry import Rect
from gputiles.sources.imagecodec import Frame, JpegCodec
from gputiles.sources.jpeg import ADOBE_RGB
from gputiles.sources.open import open_source
from tests.conftest import ROOT, shared
from tests.test_source_kinds import split_tables

Pixels = NDArray[np.uint8]
U8 = np.dtype(np.uint8)


class Watched:
    """The kernels; notes of each call how many streams it was given, and how many it decoded."""

    def __init__(self, library: Any = None) -> None:
        self.library = library or installed()
        self.calls: list[tuple[int, int]] = []

    def __call__(self, kernel: str, table: NDArray[Any]) -> None:
        self.library(kernel, table)
        done = [ctypes.c_int64.from_address(int(row["done"])).value for row in table]
        assert set(done) <= {0, 1}
        self.calls.append((len(done), sum(done)))

    @property
    def decoded(self) -> int:
        return sum(done for _, done in self.calls)


def fresh(_: str, size: int) -> Pixels:
    return np.full(size, 0xA5, np.uint8)  # nothing may hang on what is in it


def blank(size: int) -> Pixels:
    return fresh("", size)


def codec(samples: int, width: int, height: int, **how: Any) -> JpegCodec:
    return JpegCodec(7, Frame(samples, U8, (width, height)), raw=samples != 3, **how)


def chunk(data: bytes, width: int, height: int, samples: int = 3, **how: Any) -> Chunk:
    return Chunk(codec(samples, width, height, **how), data, Rect(0, 0, width, height))


def decoded(chunks: Sequence[Chunk]) -> tuple[list[Any], Watched]:
    watched = Watched()
    return list(Jpegs(watched, fresh, blank).decode(chunks)), watched  # type: ignore[arg-type]


def picture(kind: str, height: int, width: int, samples: int, seed: int = 0) -> Pixels:
    rng = np.random.default_rng(seed)
    if kind == "noise":
        return rng.integers(0, 256, (height, width, samples)).astype(np.uint8)
    if kind == "saturated":
        return (rng.integers(0, 2, (height, width, samples)) * 255).astype(np.uint8)
    if kind == "flat":
        return np.broadcast_to(rng.integers(0, 256, samples), (height, width, samples)).astype(np.uint8)
    y, x = np.mgrid[:height, :width]
    waves = [40 * np.sin(x / 7 + band) + 3 * x + y * (band + 1) for band in range(samples)]
    stepped = np.where((x > width / 2)[..., None], np.stack(waves, -1), 30 * np.arange(samples) + 60)
    return (stepped % 256).astype(np.uint8)


def encode(pixels: Pixels, quality: int = 90, subsampling: str = "420", **how: Any) -> bytes:
    options: dict[str, Any] = {"level": quality, **how}
    if pixels.shape[2] == 3:
        options = {"subsampling": subsampling, "colorspace": "RGB", "outcolorspace": "YCBCR"} | options
    plain = np.ascontiguousarray(pixels if pixels.shape[2] == 3 else pixels[..., 0])
    return bytes(imagecodecs.jpeg8_encode(plain, **options))


def without(data: bytes, *markers: int) -> bytes:
    """Take segments out of a stream."""
    kept, at = data[:2], 2
    while data[at + 1] != 0xDA:
        length = 2 + int.from_bytes(data[at + 2 : at + 4], "big")
        kept += b"" if data[at + 1] in markers else data[at : at + length]
        at += length
    return kept + data[at:]


def same(chunk: Chunk) -> bool:
    """Say whether the kernel decodes a chunk; what comes of it is the codec's in any case."""
    (outcome,), watched = decoded([chunk])
    expected = decode_chunk(chunk)
    if isinstance(expected, GputilesError):
        assert watched.decoded == 0
        assert (type(outcome), str(outcome)) == (type(expected), str(expected))
    else:
        np.testing.assert_array_equal(outcome, expected)
    return watched.decoded == 1


SIDES = st.one_of(st.integers(1, 100), st.just(256))
KINDS = st.sampled_from(["noise", "flat", "waves", "saturated"])


@st.composite
def chunks(draw: st.DrawFn) -> Chunk:
    width, height, samples = draw(SIDES), draw(SIDES), draw(st.sampled_from([1, 3]))
    pixels = picture(draw(KINDS), height, width, samples, draw(st.integers(0, 99)))
    stored_rgb = samples == 3 and draw(st.integers(0, 3)) == 0
    how: dict[str, Any] = {"outcolorspace": "RGB", "subsampling": "444"} if stored_rgb else {}
    subsampling = draw(st.sampled_from(["444", "422", "420"]))
    how = {"subsampling": subsampling, "optimize": draw(st.booleans()), **how}
    data = encode(pixels, draw(st.integers(1, 100)), **how)
    if draw(st.booleans()):  # then the page says what the components are
        data = without(data, 0xE0, 0xEE)
    return chunk(data, width, height, samples, said_rgb=stored_rgb)


@given(several=st.lists(chunks(), min_size=1, max_size=6))
@settings(max_examples=150, deadline=None)
def test_pixels_are_those_of_libjpeg_turbo(several: list[Chunk]) -> None:
    outcomes, watched = decoded(several)
    for outcome, each in zip(outcomes, several, strict=True):
        np.testing.assert_array_equal(outcome, decode_chunk(each))
    assert watched.calls[0][0] == len(several)


@pytest.mark.parametrize("samples", [1, 3])
@pytest.mark.parametrize("subsampling", ["444", "422", "420"])
@pytest.mark.parametrize("kind", ["noise", "flat", "waves"])
@pytest.mark.parametrize("side", [1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 31, 33, 127, 256, 1000])
def test_such_pictures_are_not_left_to_others(kind: str, side: int, subsampling: str, samples: int) -> None:
    for width, height in ((side, 24), (24, side)):
        data = encode(picture(kind, height, width, samples), subsampling=subsampling)
        assert same(chunk(data, width, height, samples))


def saved(pixels: Pixels, **options: Any) -> bytes:
    """Encode with Pillow, which knows of restarts and of more kinds of streams."""
    target = BytesIO()
    Image.fromarray(pixels if pixels.shape[2] != 1 else pixels[..., 0]).save(target, "JPEG", **options)
    return target.getvalue()


@pytest.mark.parametrize("samples", [1, 3])
@pytest.mark.parametrize("subsampling", ["4:4:4", "4:2:2", "4:2:0"])
@pytest.mark.parametrize("every", [1, 2, 3, 5, 7, 8, 50])
def test_streams_that_restart_are_decoded(every: int, subsampling: str, samples: int) -> None:
    for width, height in ((100, 60), (17, 90)):
        pixels = picture("waves", height, width, samples)
        data = saved(pixels, subsampling=subsampling, restart_marker_blocks=every)
        assert same(chunk(data, width, height, samples))


def test_shared_tables_go_before_the_streams_own() -> None:
    whole = encode(picture("waves", 64, 64, 3))
    shared_tables, rest = split_tables(whole)
    assert same(chunk(rest, 64, 64, tables=shared_tables))
    others = split_tables(encode(picture("noise", 64, 64, 3), 20, optimize=True))[0]
    assert same(chunk(whole, 64, 64, tables=others))
    assert not decoded([chunk(rest, 64, 64)])[1].decoded


@pytest.mark.parametrize("transform", [0, 1])
@pytest.mark.parametrize("jfif", [False, True])
@pytest.mark.parametrize("said", [False, True])
@pytest.mark.parametrize("where", ["stream", "tables", "nowhere"])
def test_colours_are_those_that_the_markers_tell(where: str, said: bool, jfif: bool, transform: int) -> None:
    adobe = ADOBE_RGB[:-1] + bytes([transform])
    data = without(encode(picture("waves", 40, 48, 3), subsampling="444"), *(() if jfif else (0xE0,)))
    marked = data[:2] + adobe + data[2:] if where == "stream" else data
    page = b"\xff\xd8" + adobe + b"\xff\xd9" if where == "tables" else None
    assert same(chunk(marked, 48, 40, said_rgb=said, tables=page))


def test_components_that_are_called_rgb_are() -> None:
    data = without(encode(picture("waves", 16, 16, 3), subsampling="444", outcolorspace="RGB"), 0xE0, 0xEE)
    assert [data[data.index(b"\xff\xc0") + at] for at in (10, 13, 16)] == list(b"RGB")
    assert same(chunk(data, 16, 16))


WAVES = picture("waves", 48, 64, 3)


def changed(data: bytes, marker: int, at: int, value: int) -> bytes:
    """Change a byte of a segment, counted from its marker."""
    place = data.index(bytes([0xFF, marker])) + at
    return data[:place] + bytes([value]) + data[place + 1 :]


PLAIN = encode(WAVES)
ODD = {
    "progressive": saved(WAVES, progressive=True),
    "lossless": bytes(imagecodecs.ljpeg_encode(WAVES[..., 0])),
    "4:4:0": changed(PLAIN, 0xC0, 11, 0x12),
    "4:1:1": changed(PLAIN, 0xC0, 11, 0x41),
    "of 12 bits": changed(PLAIN, 0xC0, 4, 12),
    "of another size": encode(picture("waves", 40, 64, 3)),
    "grey": encode(WAVES[..., :1]),
    "without an end": PLAIN[:-2],
    "cut off": PLAIN[: len(PLAIN) // 2],
    "with bytes before its end": PLAIN[:-2] + b"\x12\x34" + PLAIN[-2:],
    "with a zero before its end": PLAIN[:-2] + b"\0" + PLAIN[-2:],
    "with a restart that is not told": PLAIN[:-2] + b"\xff\xd0" + PLAIN[-2:],
    "with fill bytes before its end": PLAIN[:-2] + b"\xff" + PLAIN[-2:],
    "with a Huffman code too long": changed(PLAIN, 0xC4, 5, 3),
    "with a mean of 17 bits": changed(PLAIN, 0xC4, 32, 17),
    "whose scan has a part of the coefficients": changed(PLAIN, 0xDA, 12, 5),
    "whose scan names a component twice": changed(PLAIN, 0xDA, 7, 1),
    "that asks for steps that are not there": changed(PLAIN, 0xC0, 12, 3),
    "of a component with a factor of 5": changed(encode(WAVES), 0xC0, 11, 0x52),
    "nothing": b"",
    "no JPEG": b"<html>",
}  # fmt: skip


@pytest.mark.parametrize("what", ODD)
def test_what_is_odd_is_left_to_libjpeg_turbo(what: str) -> None:
    assert not same(chunk(ODD[what], 64, 48))


def test_means_beyond_what_libjpeg_takes_are_refused_though_no_one_uses_them() -> None:
    told = PLAIN[PLAIN.index(b"\xff\xc4") + 5 :][:16]
    assert sum(told) == 12  # means of 0 … 11 bits: the last one is not in this picture
    data = changed(PLAIN, 0xC4, 5 + 16 + 11, 16)
    assert isinstance(decode_chunk(chunk(data, 64, 48)), Damaged)
    assert not same(chunk(data, 64, 48))


@pytest.mark.parametrize("tail", [b"\0", b"\0\0\0", b"\xff", b"\xff\xd9", b"anything"])
def test_what_follows_the_end_is_not_looked_at(tail: bytes) -> None:
    assert same(chunk(PLAIN + tail, 64, 48))


SMALL = {
    "4:2:0": encode(picture("waves", 20, 20, 3), 60),
    "4:2:2": encode(picture("noise", 9, 17, 3), 30, "422"),
    "4:4:4": encode(picture("saturated", 8, 16, 3), 95, "444", optimize=True),
    "grey": encode(picture("noise", 16, 16, 1), 50),
    "restarts": saved(picture("waves", 24, 24, 3), restart_marker_blocks=1, quality=50),
}
SIZES = {
    "4:2:0": (20, 20, 3),
    "4:2:2": (9, 17, 3),
    "4:4:4": (8, 16, 3),
    "grey": (16, 16, 1),
    "restarts": (24, 24, 3),
}


@pytest.mark.parametrize("name", SMALL)
def test_a_changed_byte_gives_what_libjpeg_turbo_makes_of_it(name: str) -> None:
    data, (height, width, samples) = SMALL[name], SIZES[name]
    taken = 0
    for at in range(len(data)):
        for turn in (1, 0x80, 0xFF, 0x10):
            mutant = data[:at] + bytes([data[at] ^ turn]) + data[at + 1 :]
            taken += same(chunk(mutant, width, height, samples))
    assert taken > 0


@pytest.mark.parametrize("name", SMALL)
def test_a_stream_that_is_cut_off_is_never_decoded(name: str) -> None:
    data, (height, width, samples) = SMALL[name], SIZES[name]
    for size in range(len(data)):
        assert not same(chunk(data[:size], width, height, samples)), size


def too_large() -> bytes:
    """Give a stream of 16 x 16 pixels whose values are beyond what the transform takes: each step is 255."""
    data = encode(picture("noise", 16, 16, 1), 30)
    every = data.index(b"\xff\xdb") + 5
    return data[:every] + b"\xff" * 64 + data[every + 64 :]


def test_values_too_large_for_the_transform_are_left_alone() -> None:
    data = encode(picture("noise", 16, 16, 1), 30)
    for at in range(1, 65):  # each step as large as it may be
        same(chunk(changed(data, 0xDB, 4 + at, 255), 16, 16, 1))
    assert not same(chunk(too_large(), 16, 16, 1))


# -- codes of any lengths

MEANS, SYMBOLS = (
    tuple(range(12)),
    (0x00, 0xF0, *(16 * run + size for run in range(16) for size in range(1, 11))),
)


def table(kind: int, lengths: Sequence[int], symbols: Sequence[int]) -> tuple[bytes, dict[int, str]]:
    """Return a DHT segment of codes that count up, and each symbol's code."""
    counts = bytes(lengths.count(length) for length in range(1, 17))
    codes, code = {}, 0
    for before, length, symbol in zip((lengths[0], *lengths), lengths, symbols, strict=False):
        code <<= length - before
        codes[symbol] = f"{code:0{length}b}"
        code += 1
    body = bytes([kind]) + counts + bytes(symbols)
    return b"\xff\xc4" + (len(body) + 2).to_bytes(2, "big") + body, codes


def tail(value: int) -> str:
    size = abs(value).bit_length()
    return f"{value if value > 0 else value + (1 << size) - 1:0{size}b}" if size else ""


def block_of(mean: int, steps: Sequence[tuple[int, int]], codes: Sequence[dict[int, str]]) -> str:
    """Return the bits of a block: the mean's difference, then runs of zeros with what follows them."""
    bits, at = codes[0][abs(mean).bit_length()] + tail(mean), 0
    for run, value in steps:
        if at + run + 1 > 63:
            break
        bits += codes[1][16 * run + abs(value).bit_length()] + tail(value)
        at += run + 1
    return bits + (codes[1][0] if at < 63 else "")


def stream_of(bits: str, segments: Sequence[bytes], width: int, height: int) -> bytes:
    bits += "1" * (-len(bits) % 8)
    data = int(bits, 2).to_bytes(len(bits) // 8, "big").replace(b"\xff", b"\xff\0")
    frame = b"\xff\xc0\0\x0b\x08" + height.to_bytes(2, "big") + width.to_bytes(2, "big") + b"\1\1\x11\0"
    steps = b"\xff\xdb\0\x43\0" + b"\1" * 64
    scan = b"\xff\xda\0\x08\1\1\0\0\x3f\0"
    return b"".join((b"\xff\xd8", steps, frame, *segments, scan, data, b"\xff\xd9"))


LENGTHS = {
    "long": [2, 3, *[10] * 40, *[11] * 40, *[12] * 40, *[16] * 40],
    "nine to twelve": [*[9] * 60, *[10] * 60, *[11] * 30, *[12] * 12],
    "short ones first": [*range(1, 7), *[10] * 3, *[11] * 4, *[12] * 8, *[13] * 8, *[16] * 133],
    "nearly all of eleven": [*[10] * 2, *[11] * 160],
}


def some_steps(rng: np.random.Generator, largest: int) -> list[tuple[int, int]]:
    """Return runs and values, one of which may be large."""
    values = rng.integers(1, 16, int(rng.integers(0, 12)))
    if len(values):
        values[int(rng.integers(len(values)))] = rng.integers(1, largest)
    signs = rng.choice([-1, 1], len(values))
    return [
        (int(run), int(value))
        for run, value in zip(rng.integers(0, 16, len(values)), signs * values, strict=True)
    ]


@pytest.mark.parametrize("which", LENGTHS)
@pytest.mark.parametrize("largest", [16, 1024])
@given(seed=st.integers(0, 2**32))
@settings(max_examples=60, deadline=None)
def test_codes_of_any_length_are_read(which: str, largest: int, seed: int) -> None:
    rng, lengths = np.random.default_rng(seed), LENGTHS[which]
    assert len(lengths) == len(SYMBOLS)
    of_means, means = table(0, [2, 3, 3, 3, 3, 4, 9, 10, 11, 12, 13, 16], rng.permutation(MEANS).tolist())
    of_others, others = table(0x10, lengths, rng.permutation(SYMBOLS).tolist())
    across = int(rng.integers(1, 40))
    blocks = [(int(rng.integers(-60, 60)), some_steps(rng, largest)) for _ in range(across)]
    bits = "".join(block_of(mean, steps, (means, others)) for mean, steps in blocks)
    whole = stream_of(bits, (of_means, of_others), 8 * across, 8)
    assert same(chunk(whole, 8 * across, 8, 1))


# -- memory


class Fence:
    """Bytes that end where no page may be read."""

    def __init__(self, data: bytes) -> None:
        whole = -(-max(1, len(data)) // mmap.PAGESIZE) * mmap.PAGESIZE
        self._pages = mmap.mmap(-1, whole + mmap.PAGESIZE)
        begin = ctypes.addressof(ctypes.c_char.from_buffer(self._pages))
        libc = ctypes.CDLL(None, use_errno=True)
        assert libc.mprotect(ctypes.c_void_p(begin + whole), mmap.PAGESIZE, 0) == 0
        self.address = begin + whole - len(data)
        ctypes.memmove(self.address, data, len(data))


def run(data: bytes, shape: tuple[int, int, int], room: int, page: bytes = b"") -> tuple[int, Pixels]:
    """Decode by the kernel with fences behind all that it is given; the pixels and what lies around them."""
    stream, shared_tables = Fence(data), Fence(page)
    out = np.full(int(np.prod(shape)) + 128, 0x5A, np.uint8)
    scratch, done = Fence(b"\xa5" * room), np.full(1, 7, np.int64)
    table = np.zeros(1, tables.JPEG_DECODE)
    row = table[0]
    row["data"], row["size"], row["done"] = stream.address, len(data), done.ctypes.data
    row["tables"], row["tables_size"] = shared_tables.address, len(page)
    row["out"] = out.ctypes.data + 64
    row["scratch"], row["scratch_size"] = scratch.address & ~63, room - 64
    row["height"], row["width"], row["samples"] = shape
    installed()("jpeg_decode", table)
    return int(done[0]), out


@pytest.mark.parametrize("name", SMALL)
def test_nothing_is_read_or_written_beyond_what_is_given(name: str) -> None:
    data, shape = SMALL[name], SIZES[name]
    room = SHARED + LEAST + COLUMN * shape[1] + len(data) + 64
    page, rest = split_tables(data)
    for stream, tables_of_page in ((data, b""), (rest, page)):
        done, out = run(stream, shape, room, tables_of_page)
        assert done == 1
        expected = decode_chunk(chunk(data, shape[1], shape[0], shape[2]))
        np.testing.assert_array_equal(out[64:-64].reshape(shape), expected)
        assert (out[:64] == 0x5A).all()
        assert (out[-64:] == 0x5A).all()
    for size in range(0, len(data), 3):
        done, out = run(data[:size], shape, room)
        assert done == 0
        assert (out[:64] == 0x5A).all()
        assert (out[-64:] == 0x5A).all()


def test_too_little_scratch_memory_is_no_more_than_a_stream_left_alone() -> None:
    data, shape = SMALL["4:2:0"], SIZES["4:2:0"]
    expected, seen = decode_chunk(chunk(data, shape[1], shape[0])), set()
    for room in range(64, SHARED + LEAST, 2222):
        done, out = run(data, shape, room)
        seen.add(done)
        assert not done or np.array_equal(out[64:-64].reshape(shape), expected)
    assert seen == {0, 1}


@pytest.mark.parametrize("width", [1, 8, 127, 128, 129, 1024, 4096, WIDEST])
@pytest.mark.parametrize("subsampling", ["444", "422", "420"])
def test_the_scratch_memory_is_enough(subsampling: str, width: int) -> None:
    height = min(16, LARGEST // width)
    several = [
        chunk(encode(picture("noise", height, width, 3, seed), 95, subsampling), width, height)
        for seed in range(LANES)
    ]
    outcomes, watched = decoded(several)
    assert watched.calls == [(LANES, LANES)]
    for outcome, each in zip(outcomes, several, strict=True):
        np.testing.assert_array_equal(outcome, decode_chunk(each))


# -- in the product


def test_the_chunks_of_a_job_are_decoded_together_and_damage_is_one_chunks_own() -> None:
    count, side = 2 * AT_ONCE + 3, 64
    streams = [encode(picture("waves", side, side, 3, seed)) for seed in range(count)]
    bad = AT_ONCE + 1
    streams[bad] = streams[bad][:-40]
    places = [Rect(side * at, 0, side, side) for at in range(count)]
    each = codec(3, side, side)
    parts = tuple(Chunk(each, data, place) for data, place in zip(streams, places, strict=True))
    sparse = replace(parts[2], data=None)
    job = DecodeJob((*parts[:2], sparse, *parts[3:]), tuple(places), (side * count, side), 3, U8)
    watched = Watched()
    backend = HostBackend(1)
    backend._jpegs = Jpegs(watched, fresh, blank)  # type: ignore[arg-type]
    (tiles,) = backend.decode([job])
    assert isinstance(tiles, tuple)
    assert watched.calls == [(AT_ONCE - 1, AT_ONCE - 1), (AT_ONCE, AT_ONCE - 1), (3, 3)]
    for at, (tile, part) in enumerate(zip(tiles, job.chunks, strict=True)):
        if at == bad:
            assert isinstance(tile, Damaged)
            assert str(tile) == str(decode_chunk(part))
            continue
        assert isinstance(tile, Raster)
        np.testing.assert_array_equal(tile.pixels, 0 if at == 2 else decode_chunk(part))


def test_what_is_not_of_8_bits_or_very_large_or_raw_is_not_even_tried() -> None:
    data = encode(WAVES)
    wide = Frame(3, np.dtype(np.uint16), (64, 48))
    for each in (
        Chunk(JpegCodec(7, wide), data, Rect(0, 0, 64, 48)),
        Chunk(JpegCodec(7, Frame(3, U8, (64, 48)), raw=True), data, Rect(0, 0, 64, 48)),
        Chunk(JpegCodec(7, Frame(3, U8, (2048, 1024))), data, Rect(0, 0, 2048, 1024)),
        Chunk(JpegCodec(7, Frame(3, U8, (WIDEST + 8, 8))), data, Rect(0, 0, WIDEST + 8, 8)),
        Chunk(JpegCodec(7, Frame(3, U8, (64, 48))), data + bytes(1 << 20), Rect(0, 0, 64, 48)),
        Chunk(JpegCodec(7, Frame(3, U8, (64, 48))), None, Rect(0, 0, 64, 48)),
    ):
        assert decoded([each])[1].calls == []


def test_a_header_that_a_page_keeps_goes_before_the_data() -> None:
    head, body = PLAIN[: PLAIN.index(b"\xff\xda")], PLAIN[PLAIN.index(b"\xff\xda") : -2]
    assert same(chunk(body, 64, 48, header=head))


# Of how many chunks of three tiles the kernel decodes how many; the others are damaged, or cut to size.
FILES = {
    ("data", "libvips__CMU-1-Small-Region.svs"): (3, 3),
    ("data", "openslide-python__small.svs"): (1, 1),
    ("data", "algart-tiff__jpeg_rgb_encoded_as_ycbcr.tiff"): (32, 32),
    ("data", "image-tiff__tiled-jpeg-ycbcr.tif"): (32, 32),
    ("data", "libtiff__quad-tile.jpg.tiff"): (3, 3),
    ("data", "commons-imaging__TestJpegTiles264x264BigEndian.tiff"): (2, 2),
    ("data", "algart-tiff__jpeg_rgb_stripped_with_uncropped_last_strip.tiff"): (6, 7),
    ("cases", "jpeg_ycbcr420_shared_tables.tif"): (3, 3),
    ("cases", "jpeg_ycbcr420_no_tables.tif"): (3, 3),
    ("cases", "jpeg_photometric_rgb_but_jfif_ycbcr.tif"): (3, 3),
    ("cases", "jpeg_rgb_component_ids_123_aperio.svs"): (3, 3),
    ("cases", "jpeg_corrupt_middle_tile.tif"): (2, 3),
}


@pytest.mark.parametrize(("parts", "expected"), FILES.items(), ids=[name for _, name in FILES])
def test_chunks_of_real_files(parts: tuple[str, str], expected: tuple[int, int]) -> None:
    with closing(open_source(shared(*parts))) as source:
        z = max(level for level in range(source.info.levels) if source.info.stored[level])
        across, down = source.info.grid.tiles(z)
        places = {(0, 0), (across - 1, down - 1), (across // 2, down // 2)}
        parts_of = [part for x, y in places for part in source.read(0, z, Rect(x, y, 1, 1)).chunks]
    taken = [same(part) for part in parts_of]
    assert (sum(taken), len(taken)) == expected


@pytest.mark.parametrize("level", ["x86-64", "x86-64-v3", "x86-64-v4"])
def test_every_level_of_instructions_gives_the_same_pixels(level: str, tmp_path: Path) -> None:
    needs = {"x86-64": "sse2", "x86-64-v3": "avx2", "x86-64-v4": "avx512vl"}[level]
    if f" {needs} " not in Path("/proc/cpuinfo").read_text(encoding="ascii"):
        pytest.skip(f"a processor without {needs}")
    compiler = shutil.which("g++")
    assert compiler is not None
    target = tmp_path / "level.so"
    flags = (
        "-std=c++17",
        "-O3",
        "-shared",
        "-fPIC",
        "-fvisibility=hidden",
        "-DGPUTILES_ONE_LEVEL",
        f"-march={level}",
    )
    source = tmp_path / "level.cpp"
    source.write_text('#include "jpegdecode.h"\n', encoding="ascii")
    command = [compiler, *flags, f"-I{ROOT / 'kernels'}", str(source), "-o", str(target)]
    subprocess.run(command, check=True)
    library = ctypes.CDLL(str(target))

    def call(kernel: str, table: NDArray[Any]) -> None:
        getattr(library, kernel)(ctypes.c_void_p(table.ctypes.data), ctypes.c_int64(len(table)))

    for subsampling, quality, samples in product(("444", "422", "420"), (30, 85, 100), (1, 3)):
        several = [
            chunk(encode(drawn, quality, subsampling), drawn.shape[1], drawn.shape[0], samples)
            for kind in ("noise", "waves", "flat", "saturated") for side in (7, 64, 130)
            for drawn in (picture(kind, side, side + 5, samples),)
        ]  # fmt: skip
        watched = Watched(call)
        outcomes = list(Jpegs(watched, fresh, blank).decode(several))  # type: ignore[arg-type]
        # some grey ones have values that are left to libjpeg-turbo
        assert watched.decoded == (len(several) if samples == 3 else decoded(several)[1].decoded) > 0
        for outcome, each in zip(outcomes, several, strict=True):
            np.testing.assert_array_equal(outcome, decode_chunk(each))
    watched = Watched(call)
    list(Jpegs(watched, fresh, blank).decode([chunk(too_large(), 16, 16, 1)]))  # type: ignore[arg-type]
    assert watched.calls == [(1, 0)]
