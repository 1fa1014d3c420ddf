"""Files that few laboratories write: complex samples, old-style JPEG in chunks, LogLuv."""

from __future__ import annotations

import contextlib
import io
import re
import zlib
from typing import Any

import imagecodecs
import numpy as np
import pytest
import tifffile
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image as Pillow

from gputiles.errors import Damaged, GputilesError, LimitExceeded, Unsupported
from gputiles.geometry import Rect
from gputiles.sources import jpeg
from gputiles.sources.open import open_source
from tests.reading import full, read_tile
from tests.tiffs import Tags, Written, page, tiff, tiff_behind, tiles_of

Pixels = NDArray[Any]

RNG = np.random.default_rng(23)
ORDERS = ["<", ">"]

# -- complex samples


@pytest.mark.parametrize("dtype", ["c8", "c16"])
@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("planar", ["contig", "separate"])
@pytest.mark.parametrize("options", [{}, {"compression": "zlib", "tile": (16, 32)}, {"rowsperstrip": 7}])
def test_complex_samples_are_their_magnitudes(
    dtype: str, order: str, planar: str, options: dict[str, Any]
) -> None:
    halves = RNG.standard_normal((40, 50, 2, 2)) * 10.0 ** RNG.integers(-30, 30, (40, 50, 2, 1))
    halves[0, 0, 0] = np.nan, np.inf
    half = {"c8": "f4", "c16": "f8"}[dtype]
    whole = halves.astype(half).view(dtype)[..., 0]
    file = io.BytesIO()
    stored = np.moveaxis(whole, -1, 0) if planar == "separate" else whole
    tifffile.imwrite(file, stored, photometric="minisblack", planarconfig=planar, byteorder=order,
                     metadata=None, **options)  # fmt: skip
    source = open_source(file)
    wanted = np.hypot(whole.real.astype("f8"), whole.imag.astype("f8")).astype(
        "f4" if dtype == "c8" else "f8"
    )
    np.testing.assert_array_equal(full(source), wanted, strict=True)
    assert "complex samples are shown as their magnitudes" in source.info.warnings


@pytest.mark.parametrize(("bits", "dtype"), [(16, "f4"), (32, "f4"), (64, "f8")])
@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("compression", [1, 8])
def test_complex_integers_are_their_magnitudes(bits: int, dtype: str, order: str, compression: int) -> None:
    limits = np.iinfo(f"i{bits // 16}")
    halves = RNG.integers(limits.min, limits.max, (9, 7, 2), endpoint=True)
    halves[0, 0] = limits.min, limits.min
    data = halves.astype(f"{order}i{bits // 16}").tobytes()
    tags = {258: (3, bits), 259: (3, compression), 339: (3, 5), 42113: (2, "0")}
    source = open_source(
        tiff(page(7, 9, [data if compression == 1 else zlib.compress(data)], tags), order=order)
    )
    wanted = np.hypot(halves[..., 0].astype(dtype), halves[..., 1].astype(dtype))
    np.testing.assert_array_equal(full(source)[..., 0], wanted, strict=True)
    assert source.info.nodata is None
    assert "nodata of complex samples is ignored" in source.info.warnings


@pytest.mark.parametrize(("tags", "reason"), [
    ({258: (3, 64), 339: (3, 6), 317: (3, 2), 259: (3, 8)}, "predictor 2 with complex"),
    ({258: (3, 64), 339: (3, 6), 317: (3, 3), 259: (3, 8)}, "predictor 3 with complex"),
    ({258: (3, 64), 339: (3, 6), 259: (3, 34887)}, "complex samples in compression 34887"),
    ({258: (3, 32), 339: (3, 6)}, "32-bit complex samples"),
    ({258: (3, 128), 339: (3, 5)}, "128-bit complex integer samples"),
    ({258: (3, 8), 339: (3, 7)}, "format 7 samples"),
])  # fmt: skip
def test_complex_samples_of_other_forms_are_refused(tags: Tags, reason: str) -> None:
    with pytest.raises(Unsupported, match=reason):
        open_source(tiff(page(7, 9, [bytes(2000)], tags)))


# -- old-style JPEG in chunks

SMOOTH = np.add.outer(3 * np.arange(70), 2 * np.arange(90))[..., np.newaxis] + np.array([0, 40, 90])
PICTURE = (127 + 127 * np.sin(SMOOTH / 60)).astype(np.uint8)
TABLES = 8  # where they lie in a file


def chunks_of(tile: tuple[int, int] | None, samples: int) -> list[Pixels]:
    """Return tiles of (width, height), or strips of 32 rows."""
    pixels = PICTURE[..., :samples]
    return tiles_of(pixels, *tile) if tile else [pixels[top : top + 32] for top in range(0, 70, 32)]


def stream_of(pixels: Pixels, **options: Any) -> bytes:
    file = io.BytesIO()
    Pillow.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels).save(
        file, "JPEG", quality=90, **options
    )
    return file.getvalue()


def coded(stream: bytes) -> bytes:
    """Return the data of a stream's scan, without its end."""
    return stream[jpeg.read_header(stream).scan : -2]


def tables_of(stream: bytes) -> tuple[dict[int, bytes], dict[int, bytes]]:
    """Return {number: quantisation table} and {class and number: Huffman table} of a stream."""
    quantisation: dict[int, bytes] = {}
    huffman: dict[int, bytes] = {}
    for marker, start, end in jpeg.segments(stream):
        at = start
        while marker == 0xDB and at < end:
            quantisation[stream[at]], at = stream[at + 1 : at + 65], at + 65
        while marker == 0xC4 and at < end:
            size = 17 + sum(stream[at + 1 : at + 17])
            huffman[stream[at]], at = stream[at + 1 : at + size], at + size
    return quantisation, huffman


def pointed(stream: bytes, samples: int) -> tuple[bytes, Tags]:
    """Return the tables of a stream one behind the other, and the tags that point to them."""
    quantisation, huffman = tables_of(stream)
    data, tags = b"", Tags()
    for code, tables in (
        (519, quantisation),
        (520, huffman),
        (521, {n & 15: huffman[n] for n in huffman if n > 15}),
    ):
        offsets = []
        for number in range(samples):
            offsets.append(TABLES + len(data))
            data += tables[min(number, 1)]
        tags[code] = (4, offsets)
    return data, tags


def framed(stream: bytes, width: int, height: int) -> bytes:
    """Return the head of a stream, of a picture of another size, without its data."""
    at = stream.index(b"\xff\xc0") + 5
    size = height.to_bytes(2, "big") + width.to_bytes(2, "big")
    return stream[:at] + size + stream[at + 4 : jpeg.read_header(stream).scan]


def page_of(
    tile: tuple[int, int] | None, samples: int, spread: int, chunks: list[bytes], more: Tags
) -> Written:
    place: Tags = {322: (4, tile[0]), 323: (4, tile[1])} if tile else {278: (4, 32)}
    tags: Tags = {
        258: (3, [8] * samples), 259: (3, 6), 262: (3, 6 if samples == 3 else 1), 277: (3, samples),
        512: (3, 1), 530: (3, [spread, spread]), **place,
    }  # fmt: skip
    return page(90, 70, chunks, {**tags, **more})


TILES = [None, (32, 32), (64, 48), (128, 128)]


@pytest.mark.parametrize("tile", TILES)
@pytest.mark.parametrize(("samples", "spread"), [(1, 1), (3, 1), (3, 2)])
@pytest.mark.parametrize("tables", ["in tags", "in a head", "in a head of a chunk", "in every chunk"])
@pytest.mark.parametrize("restart", [0, 2])
@pytest.mark.parametrize("order", ORDERS)
def test_old_style_jpeg_in_chunks_has_the_pixels_of_its_streams(
    tile: tuple[int, int] | None, samples: int, spread: int, tables: str, restart: int, order: str
) -> None:
    options: dict[str, Any] = {"restart_marker_blocks": restart} if restart else {}
    options |= {"subsampling": 0 if spread == 1 else 2} if samples == 3 else {}
    pieces = chunks_of(tile, samples)
    streams = [stream_of(piece, **options) for piece in pieces]
    if tables == "in tags":
        data, tags = pointed(streams[0], samples)
        tags |= {515: (3, restart)} if restart else {}
    else:
        size = (90, 70) if tables == "in a head" else tile or (90, 32)
        data = framed(streams[0], *size)
        tags = {513: (4, TABLES), 514: (4, len(data))}
    stored = streams if tables == "in every chunk" else [coded(stream) for stream in streams]
    source = open_source(tiff_behind(data, page_of(tile, samples, spread, stored, tags), order=order))
    whole = np.zeros((256, 256, samples), np.uint8)
    width, height = tile or (90, 32)
    for number, stream in enumerate(streams):
        y, x = divmod(number, -(-90 // width))
        part = np.asarray(Pillow.open(io.BytesIO(stream)))
        part = part.reshape(*part.shape[:2], samples)
        whole[y * height : y * height + len(part), x * width : x * width + part.shape[1]] = part
    np.testing.assert_array_equal(full(source), whole[:70, :90])


def test_restarts_of_old_style_jpeg_may_be_counted_through_all_chunks() -> None:
    streams = [stream_of(piece, restart_marker_blocks=2, subsampling=0) for piece in chunks_of(None, 3)]
    data, tags = pointed(streams[0], 3)
    first = sum(coded(streams[0]).count(bytes((0xFF, 0xD0 + n))) for n in range(8))
    later = re.sub(
        rb"\xff([\xd0-\xd7])", lambda mark: bytes((0xFF, 0xD0 + (mark[1][0] + first) % 8)), coded(streams[1])
    )
    tags |= {515: (3, 2)}
    plain = open_source(tiff_behind(data, page_of(None, 3, 1, [coded(each) for each in streams], tags)))
    chunks = [coded(streams[0]), later, coded(streams[2])]
    np.testing.assert_array_equal(
        full(open_source(tiff_behind(data, page_of(None, 3, 1, chunks, tags)))), full(plain)
    )


def test_old_style_jpeg_chunks_that_are_cut_off_fail_alone() -> None:
    tile = (128, 32)
    streams = [stream_of(piece, subsampling=0) for piece in chunks_of(tile, 3)]
    data, tags = pointed(streams[0], 3)
    chunks = [coded(stream) for stream in streams]
    chunks[1] = chunks[1][:-40]
    source = open_source(tiff_behind(data, page_of(tile, 3, 1, chunks, tags)))
    job = source.read(0, 0, Rect(0, 0, 1, 1))
    job.chunks[0].codec.decode(chunks[0], 128, 32)
    with pytest.raises(Damaged, match="cut off"):
        job.chunks[1].codec.decode(chunks[1], 128, 32)


@pytest.mark.parametrize(("change", "kind"), [
    ({519: (4, [8, 8])}, Damaged), ({519: (4, [0, 8, 8])}, Damaged), ({520: (4, [1 << 30] * 3)}, Damaged),
    ({521: (4, [56] * 3)}, Damaged),  # within a quantisation table
    ({512: (3, 14)}, Unsupported), ({284: (3, 2)}, Unsupported),
])  # fmt: skip
def test_old_style_jpeg_whose_tables_make_no_sense_is_refused(change: Tags, kind: type[Exception]) -> None:
    streams = [stream_of(piece, subsampling=0) for piece in chunks_of(None, 3)]
    data, tags = pointed(streams[0], 3)
    chunks = [coded(stream) for stream in streams] * (3 if 284 in change else 1)
    with pytest.raises(kind):
        open_source(tiff_behind(data, page_of(None, 3, 1, chunks, {**tags, **change})))


@given(st.data())
def test_spoiled_chunks_and_tables_of_old_style_jpeg_are_read_or_refused(draw: st.DataObject) -> None:
    streams = [stream_of(piece, subsampling=2) for piece in chunks_of((64, 48), 3)]
    data, tags = pointed(streams[0], 3)
    file = tiff_behind(data, page_of((64, 48), 3, 2, [coded(stream) for stream in streams], tags))
    spoiled = bytearray(file.getvalue())
    for _ in range(draw.draw(st.integers(1, 8))):
        spoiled[draw.draw(st.integers(8, len(spoiled) - 1))] = draw.draw(st.integers(0, 255))
    with contextlib.suppress(GputilesError):
        source = open_source(io.BytesIO(bytes(spoiled)), chunk_limit=1 << 24)
        read_tile(source, 0, source.info.levels - 1, 0, 0)


# -- logarithms of light


def runs(plane: Pixels) -> bytes:
    """Return bytes coded as SGI's logarithms are: those that are equal as runs, others by themselves."""
    found, values = b"", plane.tolist()
    while values:
        same = next((n for n, value in enumerate(values) if value != values[0]), len(values))
        if same >= 4:
            same = min(same, 129)
            found += bytes((same + 126, values[0]))
            del values[:same]
        else:
            found += bytes((min(len(values), 2), *values[:2]))
            del values[:2]
    return found


def logarithmic(name: str, pixels: Pixels) -> bytes:
    """Return the chunk of (rows, columns) of numbers of 16, 24 or 32 bits."""
    size = {"LogL": 2, "24 bits": 3, "32 bits": 4}[name]
    stored = pixels.astype(">u4").view(np.uint8).reshape(*pixels.shape, 4)[..., 4 - size :]
    if size == 3:
        return stored.tobytes()
    return b"".join(runs(row[:, n]) for row in stored for n in range(size))


def logarithms(name: str) -> tuple[Pixels, Tags]:
    """Return numbers of all kinds, of light between darkness and far above white, and their tags."""
    steps = np.arange(12 * 40, dtype=np.uint32).reshape(12, 40)
    light = {"LogL": 13000 + steps * 8, "24 bits": 600 + steps // 2, "32 bits": 13000 + steps * 8}[name]
    light[3:5] = 0
    colours = {"LogL": 0, "24 bits": steps * 30 % 16289, "32 bits": steps * 977 % 65536}[name]
    shift = {"LogL": 0, "24 bits": 14, "32 bits": 16}[name]
    samples = 1 if name == "LogL" else 3
    return light << shift | colours, {
        258: (3, [16] * samples), 259: (3, 34677 if name == "24 bits" else 34676),
        262: (3, 32844 if samples == 1 else 32845), 277: (3, samples), 339: (3, [2] * samples),
    }  # fmt: skip


@pytest.mark.parametrize("name", ["LogL", "24 bits", "32 bits"])
@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("tiled", [False, True])
def test_logarithms_of_light_are_shown_as_libtiff_shows_them(name: str, order: str, tiled: bool) -> None:
    pixels, tags = logarithms(name)
    strips = [logarithmic(name, pixels[top : top + 5]) for top in range(0, 12, 5)]
    whole = tiff(page(40, 12, strips, {**tags, 278: (3, 5)}))
    wanted = imagecodecs.tiff_decode(whole.getvalue(), asrgb=True)[..., : 1 if name == "LogL" else 3]
    if tiled:
        tiles = [logarithmic(name, tile) for tile in tiles_of(pixels, 16, 16)]
        file = tiff(page(40, 12, tiles, {**tags, 322: (3, 16), 323: (3, 16)}), order=order)
    else:
        file = tiff(page(40, 12, strips, {**tags, 278: (3, 5)}), order=order)
    source = open_source(file)
    np.testing.assert_array_equal(full(source), wanted, strict=True)
    assert {0, 255} < set(wanted.reshape(-1).tolist())
    assert any("logarithms" in warning for warning in source.info.warnings)


@pytest.mark.parametrize("name", ["LogL", "24 bits", "32 bits"])
def test_logarithms_that_are_cut_off_are_damage(name: str) -> None:
    pixels, tags = logarithms(name)
    source = open_source(tiff(page(40, 12, [logarithmic(name, pixels)[:-3]], tags)))
    assert isinstance(read_tile(source, 0, 0, 0, 0), Damaged)


@pytest.mark.parametrize(("tags", "reason"), [
    ({259: (3, 1)}, "compression 1 is not read"), ({284: (3, 2)}, "not read"),
    ({277: (3, 4), 258: (3, [16] * 4), 339: (3, [2] * 4)}, "of 4 samples"),
    ({262: (3, 2)}, "SGI LogL"),
])  # fmt: skip
def test_logarithms_of_other_forms_are_refused(tags: Tags, reason: str) -> None:
    pixels, own = logarithms("32 bits")
    with pytest.raises(Unsupported, match=reason):
        open_source(tiff(page(40, 12, [logarithmic("32 bits", pixels)] * 4, {**own, **tags})))


@given(st.binary(max_size=300), st.sampled_from(["LogL", "24 bits", "32 bits"]))
def test_any_bytes_in_place_of_logarithms_are_read_or_damage(data: bytes, name: str) -> None:
    source = open_source(tiff(page(40, 12, [data or b"0"], logarithms(name)[1])))
    tile = read_tile(source, 0, 0, 0, 0)
    assert isinstance(tile, Damaged) or tile.shape[:2] == (12, 40)


@pytest.mark.parametrize(("tags", "held"), [
    ({**logarithms("32 bits")[1]}, 12), ({**logarithms("LogL")[1]}, 4),
    ({258: (3, 128), 259: (3, 8), 339: (3, 6)}, 16), ({258: (3, 64), 259: (3, 8), 339: (3, 6)}, 8),
])  # fmt: skip
def test_what_is_held_while_a_chunk_is_decoded_counts_for_the_limit(tags: Tags, held: int) -> None:
    file = tiff(page(1000, 1000, [bytes(99)], tags))
    open_source(file, chunk_limit=1000 * 1000 * held)
    with pytest.raises(LimitExceeded, match="a chunk of 1000x1000"):
        open_source(file, chunk_limit=1000 * 1000 * held - 1)
