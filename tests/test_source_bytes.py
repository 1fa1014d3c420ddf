"""Byte sources: positioned reads, merged reads, content versions."""

from __future__ import annotations

import io
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from gputiles.errors import Damaged, GputilesError, NotFound, Unavailable
from gputiles.sources.bytesource import ObjectSource, PathSource, content_version, read_ranges

BYTES = bytes(range(256)) * 64


class Counting(ObjectSource):
    """An object source that counts its reads."""

    reads = 0

    def read_at(self, offset: int, size: int) -> bytes:
        self.reads += 1
        return super().read_at(offset, size)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    file = tmp_path / "bytes.bin"
    file.write_bytes(BYTES)
    return file


def test_a_path_source_reads_at_any_offset(path: Path) -> None:
    source = PathSource(path)
    assert source.size == len(BYTES)
    assert source.read_at(300, 20) == BYTES[300:320]
    assert source.read_at(0, 0) == b""
    source.close()


@pytest.mark.parametrize(("offset", "size"), [(len(BYTES) - 3, 4), (1 << 40, 1), (-1, 2), (0, 1 << 40)])
def test_bytes_beyond_the_end_are_damage(path: Path, offset: int, size: int) -> None:
    sources = PathSource(path), ObjectSource(io.BytesIO(BYTES), "object")
    for source in sources:
        with pytest.raises(Damaged, match="the file ends after"):
            source.read_at(offset, size)
        source.close()


def test_an_absent_file_is_not_found(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match=r"gone\.tif: cannot be opened"):
        PathSource(tmp_path / "gone.tif")


def test_a_closed_source_does_not_read_from_another_file(path: Path) -> None:
    source = PathSource(path)
    source.close()
    source.close()
    with pytest.raises(Unavailable, match="closed"):
        source.read_at(0, 1)


def test_threads_share_a_file_object_without_mixing_its_position() -> None:
    source = ObjectSource(io.BytesIO(BYTES))
    offsets = [(index * 37) % (len(BYTES) - 64) for index in range(2000)]
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda offset: source.read_at(offset, 64), offsets))
    assert found == [BYTES[offset : offset + 64] for offset in offsets]


def test_neighbouring_ranges_are_one_read_and_keep_their_order() -> None:
    source = Counting(io.BytesIO(BYTES))
    ranges = [(600, 100), (0, 50), (100, 400), (100, 10)]
    assert read_ranges(source, ranges) == [BYTES[start : start + size] for start, size in ranges]
    assert source.reads == 1


def test_distant_ranges_are_separate_reads() -> None:
    source = Counting(io.BytesIO(BYTES))
    assert read_ranges(source, [(0, 10), (9000, 10)]) == [BYTES[:10], BYTES[9000:9010]]
    assert source.reads == 2


def test_one_range_beyond_the_end_fails_alone() -> None:
    source = ObjectSource(io.BytesIO(BYTES))
    good, bad = read_ranges(source, [(len(BYTES) - 100, 50), (len(BYTES) - 10, 50)])
    assert good == BYTES[-100:-50]
    assert isinstance(bad, GputilesError)


def test_no_ranges_are_no_reads() -> None:
    source = Counting(io.BytesIO(BYTES))
    assert read_ranges(source, []) == []
    assert source.reads == 0


def test_the_version_changes_with_any_of_the_files(path: Path, tmp_path: Path) -> None:
    companion = tmp_path / "companion.ome"
    companion.write_bytes(b"1")
    before = content_version([path, companion])
    assert content_version([path, companion]) == before
    os.utime(companion, ns=(1, 1))
    assert content_version([path, companion]) != before


def test_a_file_replaced_by_one_of_equal_size_and_time_is_another_version(path: Path, tmp_path: Path) -> None:
    before, stat = content_version([path]), path.stat()
    other = tmp_path / "other"
    other.write_bytes(BYTES[::-1])
    os.utime(other, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    other.rename(path)
    assert content_version([path]) != before


def test_the_version_of_an_absent_file_is_asked_for_in_vain(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        content_version([tmp_path / "gone"])
