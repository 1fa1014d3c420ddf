"""Hamamatsu NDPI: runs of one JPEG stream as tiles, and files beyond 4 GiB (with holes, never written)."""

from __future__ import annotations

import io
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import pytest
import tifffile
from PIL import Image

from gputiles.errors import Damaged, GputilesError
from gputiles.sources.open import open_source
from gputiles.sources.tiff import TiffSource
from tests.reading import decode, full

WIDTH, HEIGHT, RUN = 256, 160, 64  # pixels of the level, and of a run of blocks
FAR = (5 << 30) + 16
GAP = (4 << 30) - 1000  # less than 4 GiB, so that the low words shrink


def stream() -> tuple[bytes, list[bytes], np.ndarray[Any, Any]]:
    """Return a JPEG stream's header, its runs between restart markers, and its pixels."""
    rows, columns = np.mgrid[:HEIGHT, :WIDTH]
    pixels = np.stack([columns, rows, (columns ^ rows) & 255], -1).astype(np.uint8)
    file = io.BytesIO()
    options = {"quality": 90, "subsampling": 0, "restart_marker_blocks": RUN // 8}
    Image.fromarray(pixels).save(file, "JPEG", **options)
    data = file.getvalue()
    scan = data.index(b"\xff\xda")
    start = scan + 2 + int.from_bytes(data[scan + 2 : scan + 4], "big")
    runs, at = [], start
    for end in range(start, len(data) - 1):
        if data[end] == 0xFF and (0xD0 <= data[end + 1] <= 0xD7 or data[end + 1] == 0xD9):
            runs.append(data[at : end + 2])
            at = end + 2
    return data[:start], runs, imagecodecs.jpeg8_decode(data)


def write(path: Path, starts: Sequence[int], strip: int, size: int, *, directory: int, high: bool) -> None:
    """Write the directory of one level whose strip is at ``strip``; offsets have their high words."""
    tags: list[tuple[int, int, int, int]] = [
        (256, 4, 1, WIDTH), (257, 4, 1, HEIGHT), (258, 3, 1, 8), (259, 3, 1, 7), (262, 3, 1, 6),
        (273, 4, 1, strip), (277, 3, 1, 3), (278, 4, 1, HEIGHT), (279, 4, 1, size), (65420, 4, 1, 1),
        (65421, 11, 1, struct.unpack("<I", struct.pack("<f", 20.0))[0]),
        (65426, 4, len(starts), directory + 4096),
    ]  # fmt: skip
    if high:
        tags.append((65432, 4, len(starts), directory + 65536))
    with path.open("r+b") as file:
        file.write(b"II*\0" + struct.pack("<Q", directory))
        file.seek(directory)
        file.write(struct.pack("<H", len(tags)))
        for code, kind, count, value in tags:
            file.write(struct.pack("<HHII", code, kind, count, value & 0xFFFFFFFF))
        file.write(struct.pack("<Q", 0))
        file.write(b"".join(struct.pack("<I", value >> 32) for *_, value in tags))
        file.seek(directory + 4096)
        file.write(b"".join(struct.pack("<I", start & 0xFFFFFFFF) for start in starts))
        file.seek(directory + 65536)
        file.write(b"".join(struct.pack("<I", start >> 32) for start in starts))


def opened(path: Path) -> TiffSource:
    source = open_source(path)
    assert isinstance(source, TiffSource)
    return source


def test_a_strip_beyond_4_gib_is_read_run_by_run(tmp_path: Path) -> None:
    path = tmp_path / "far.ndpi"
    header, runs, pixels = stream()
    data = header + b"".join(runs)
    starts = [len(header) + sum(map(len, runs[:index])) for index in range(len(runs))]
    with path.open("wb") as file:
        file.seek(FAR)
        file.write(data)
    write(path, starts, FAR, len(data), directory=FAR + (1 << 20), high=True)
    source = opened(path)
    page = source.page(0, source.info.levels - 1)
    assert (page.chunk_width, page.chunk_height) == (RUN, 8)
    np.testing.assert_array_equal(full(source), pixels)
    with tifffile.TiffFile(path) as tif:
        np.testing.assert_array_equal(tif.pages[0].asarray(), pixels)
    assert path.stat().st_blocks * 512 < 1 << 22, "the file has a hole"
    assert (source.info.format, source.info.magnification) == ("NDPI", 20.0)
    source.close()


@pytest.mark.parametrize("high", [True, False])
def test_runs_on_both_sides_of_4_gib_are_found(tmp_path: Path, high: bool) -> None:
    """The high words are told, or else known from starts that shrink."""
    path = tmp_path / "long.ndpi"
    header, runs, pixels = stream()
    half = len(runs) // 2
    starts = [len(header) + sum(map(len, runs[:at])) + (GAP if at >= half else 0) for at in range(len(runs))]
    end = starts[-1] + len(runs[-1])
    with path.open("wb") as file:
        file.write(bytes(16) + header + b"".join(runs[:half]))
        file.seek(16 + starts[half])
        file.write(b"".join(runs[half:]))
    write(path, starts, 16, end, directory=GAP + (1 << 20), high=high)
    source = opened(path)
    job = source.read(0, source.info.levels - 1, source.info.unit(source.info.levels - 1, 0, 0))
    errors = [chunk for chunk in job.chunks if isinstance(chunk.data, GputilesError)]
    # the run before the hole ends where the next one starts: nothing reads 4 GiB for it
    assert [(chunk.place.x, chunk.place.y) for chunk in errors] == [
        ((half - 1) * RUN % WIDTH, (half - 1) * RUN // WIDTH * 8)
    ]
    for chunk in job.chunks:
        if isinstance(chunk.data, bytes):
            place = chunk.place
            truth = pixels[place.y : place.bottom, place.x : place.right]
            np.testing.assert_array_equal(chunk.codec.decode(chunk.data, place.width, place.height), truth)
    assert isinstance(decode(job)[0], Damaged)
    source.close()
