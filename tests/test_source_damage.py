"""Damaged streams and files end in errors: no crash of a native decoder, no other exception."""

from __future__ import annotations

import contextlib
import io
import random
import zlib
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import pytest
import tifffile

from gputiles.backends import ChunkCodec
from gputiles.errors import Damaged, GputilesError
from gputiles.sources.bytecodec import ByteCodec, inflate
from gputiles.sources.imagecodec import Frame, ImageCodec, JpegCodec
from gputiles.sources.open import open_source
from tests.conftest import SHARED
from tests.reading import read_tile

SIDE = 64
ROWS, COLUMNS = np.mgrid[:SIDE, :SIDE]
RGB = np.stack([COLUMNS * 3 % 256, ROWS * 2, ROWS ^ COLUMNS], -1).astype(np.uint8)
GREY = np.ascontiguousarray(RGB[..., 0])
FRAME = Frame(3, np.dtype(np.uint8), (SIDE, SIDE))
GREY_FRAME = Frame(1, np.dtype(np.uint8), (SIDE, SIDE))
FILES = [
    SHARED / "cases" / f"comp_{name}.tif" for name in ("lzw", "deflate", "zstd", "jpeg2000", "webp_lossless")
]
FILES += [
    SHARED / "cases" / name for name in ("ome_40ch_subifd.ome.tif", "svs_page_order.svs", "palette_u8.tif")
]


def packed(compression: int, predictor: int = 1) -> ByteCodec:
    return ByteCodec(compression, 3, 8, "u", "<", predictor)


STREAMS: dict[str, tuple[ChunkCodec, bytes]] = {
    "lzw": (packed(5), imagecodecs.lzw_encode(RGB.tobytes())),
    "deflate": (packed(8, 2), imagecodecs.zlib_encode(RGB.tobytes())),
    "packbits": (packed(32773), imagecodecs.packbits_encode(RGB.tobytes())),
    "zstd": (packed(50000), imagecodecs.zstd_encode(RGB.tobytes())),
    "lzma": (packed(34925), imagecodecs.lzma_encode(RGB.tobytes())),
    "fax3": (ByteCodec(3, 1, 1, "u", "<", options=1), GREY.tobytes()[:400]),
    "fax4": (ByteCodec(4, 1, 1, "u", "<"), GREY.tobytes()[:400]),
    "webp": (ImageCodec(50001, FRAME), imagecodecs.webp_encode(RGB, lossless=True)),
    "png": (ImageCodec(34933, FRAME), imagecodecs.png_encode(RGB)),
    "jpeg2000": (ImageCodec(34712, FRAME), imagecodecs.jpeg2k_encode(RGB, codecformat="j2k")),
    "jpeg xl": (ImageCodec(50002, FRAME), imagecodecs.jpegxl_encode(RGB, lossless=True)),
    "jpeg xl, lossy": (ImageCodec(50002, FRAME), imagecodecs.jpegxl_encode(RGB, distance=1.0)),
    "jpeg xl, boxed": (ImageCodec(50002, FRAME), imagecodecs.jpegxl_encode(RGB, usecontainer=True)),
    "lerc": (ImageCodec(34887, GREY_FRAME), imagecodecs.lerc_encode(GREY)),
    "jpeg": (JpegCodec(7, FRAME), imagecodecs.jpeg8_encode(RGB)),
    "jpeg without an end": (JpegCodec(7, FRAME), imagecodecs.jpeg8_encode(RGB)[:-2]),
    "lossless jpeg": (JpegCodec(7, GREY_FRAME), imagecodecs.jpeg8_encode(GREY, lossless=True)),
}


def spoil(data: bytes, chance: random.Random, near: int = 1 << 30) -> bytes:
    """Return ``data`` with a few bytes changed, sometimes cut short."""
    spoiled = bytearray(data)
    for _ in range(chance.randint(1, 8)):
        at = chance.randrange(min(len(spoiled), chance.choice((40, near))))
        spoiled[at] = chance.choice((0, 255, chance.randrange(256), spoiled[at] ^ 1 << chance.randrange(8)))
    return bytes(spoiled[: chance.randrange(len(spoiled))] if chance.random() < 0.2 else spoiled)


@pytest.mark.parametrize("name", STREAMS)
def test_a_spoiled_stream_decodes_to_its_size_or_is_an_error(name: str) -> None:
    codec, data = STREAMS[name]
    chance = random.Random(name)
    for _ in range(3000):
        with contextlib.suppress(GputilesError):
            assert codec.decode(spoil(data, chance), SIDE, SIDE).shape[:2] == (SIDE, SIDE)


def codes(*numbers: int) -> bytes:
    """Return LZW codes of 9 bits."""
    bits = "".join(f"{number:09b}" for number in numbers)
    return int(bits, 2).to_bytes(-(-len(bits) // 8), "big") if len(bits) % 8 == 0 else codes(*numbers, 257)


@pytest.mark.parametrize("first", [258, 266, 400, 511])
def test_lzw_codes_that_were_never_made_are_not_followed(first: int) -> None:
    for _ in range(50):  # whoever follows them does not crash every time
        with pytest.raises(Damaged, match="LZW"):
            packed(5).decode(codes(256, first, *range(258, 437)), SIDE, SIDE)


@pytest.mark.parametrize("path", FILES, ids=[path.name for path in FILES])
def test_a_file_with_spoiled_tags_is_read_or_refused(path: Path) -> None:
    if not path.exists():
        pytest.skip(f"needs {path}")
    data, chance = path.read_bytes(), random.Random(path.name)
    start = int.from_bytes(data[4:8], "little")
    for _ in range(150):
        tags = spoil(data[start : start + 300], chance)
        with contextlib.suppress(GputilesError):
            source = open_source(
                io.BytesIO(data[:start] + tags + data[start + len(tags) :]), chunk_limit=1 << 24
            )
            for z in (z for z, stored in enumerate(source.info.stored) if stored):
                read_tile(source, 0, z, 0, 0)


RAMP = (np.add.outer(5 * np.arange(128), 3 * np.arange(128)) % 256).astype(np.uint8)


@pytest.mark.parametrize(
    "compression", ["jpeg", "zlib", "png", "webp", "jpeg2000", "jpegxl", "zstd", "lzma", "lerc"]
)
@pytest.mark.parametrize("way", ["short", "zeros"])
def test_a_chunk_that_is_cut_off_is_an_error_and_no_made_up_picture(compression: str, way: str) -> None:
    file = io.BytesIO()
    picture = np.stack([RAMP] * 3, -1) if compression == "webp" else RAMP
    options: dict[str, Any] = {
        "photometric": "rgb" if picture.ndim == 3 else "minisblack",
        "tile": (128, 128),
    }
    tifffile.imwrite(file, picture, compression=compression, metadata=None, **options)
    with tifffile.TiffFile(io.BytesIO(file.getvalue())) as tif:
        page = tif.pages[0].aspage()
        offset, size, tag = page.dataoffsets[0], page.databytecounts[0], page.tags[325]
        place, width = tag.valueoffset, {3: 2, 4: 4}[tag.dtype]
    for share in (0.3, 0.5, 0.7, 0.9):
        data, kept = bytearray(file.getvalue()), int(size * share)
        if way == "short":
            data[place : place + width] = kept.to_bytes(width, "little")
        else:  # a file whose room was taken before its bytes came
            data[offset + kept : offset + size] = bytes(size - kept)
        found = read_tile(open_source(io.BytesIO(bytes(data))), 0, 0, 0, 0)
        assert isinstance(found, Damaged), (share, found)


@pytest.mark.parametrize("more", [b"", b"more", b"\0" * 9, zlib.compress(b"another")])
def test_a_deflate_stream_may_be_followed_by_other_bytes(more: bytes) -> None:
    assert inflate(8, zlib.compress(bytes(5000)) + more, 5000).tobytes() == bytes(5000)


@pytest.mark.parametrize("rows", [1, 2, 100])
def test_a_deflate_stream_may_hold_more_than_is_wanted(rows: int) -> None:
    assert inflate(8, zlib.compress(RAMP.tobytes() * rows), 5000).tobytes() == RAMP.tobytes()[:5000]


@pytest.mark.parametrize("lost", [1, 4, 6])
def test_a_deflate_stream_may_lack_its_end_where_all_that_is_wanted_is_there(lost: int) -> None:
    stream = zlib.compress(RAMP.tobytes())
    assert inflate(8, stream[:-lost], 5000).tobytes() == RAMP.tobytes()[:5000]


@pytest.mark.parametrize("lost", [1, 4])
def test_a_deflate_stream_may_lack_its_checksum(lost: int) -> None:
    stream = zlib.compress(RAMP.tobytes())
    assert inflate(8, stream[:-lost], RAMP.size).tobytes() == RAMP.tobytes()
