"""Byte sources: positioned reads of a file, without a shared seek position."""

from __future__ import annotations

import errno
import io
import os
import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Protocol, TypeAlias

from gputiles.errors import Damaged, GputilesError, NotFound, OutOfDescriptors, Unavailable
from gputiles.sources import athand
from gputiles.sources.athand import NotAtHand

_GAP = 4096  # bytes that are cheaper to read and throw away than to skip
_RUN = 16 * 1024**2  # most bytes of one merged read
_LEFT = 64 * 1024  # bytes that take longer to copy than to look for


class Remote(Protocol):
    """A file that lies elsewhere: each read of it checks the version by itself."""

    @property
    def name(self) -> str:
        """What the file is called."""

    def version(self) -> str:
        """Return a text that changes when the file does. Raises NotFound or Unavailable."""


@dataclass(frozen=True, slots=True)
class Companion:
    """A file that another one names: there or not, or of no use."""

    place: Path | Remote

    @property
    def name(self) -> str:
        """What the file is called."""
        return self.place.name

    def version(self) -> str:
        """Return a text that changes when the file comes, goes or changes. Raises Unavailable."""
        try:
            return content_version((self.place,))
        except Unavailable:
            raise
        except (GputilesError, FileNotFoundError):
            return "absent"


@dataclass(frozen=True, slots=True)
class Gathered:
    """The files that belong to one at ``place``: those that ``find`` finds of it now."""

    place: Path
    find: Callable[[Path], Sequence[Path]]

    @property
    def name(self) -> str:
        """What the file is called."""
        return self.place.name

    def version(self) -> str:
        """Return a text that changes when one of the files comes, goes or changes."""
        return content_version(self.find(self.place))


Versioned: TypeAlias = Path | Remote | Companion | Gathered
"""What has a version: files here or elsewhere."""


def is_here(file: Versioned) -> bool:
    """Say whether a file is this machine's, so that looking at it costs nothing."""
    return isinstance(file.place if isinstance(file, Companion | Gathered) else file, Path)


class ByteSource(Protocol):
    """Bytes that can be read at any offset from several threads at once.

    Where a thread waits for nothing (``athand``) it raises NotAtHand instead of waiting.
    """

    name: str
    size: int
    descriptor: int
    """The open file's; -1 where there is none."""

    @property
    def places(self) -> tuple[Versioned, ...]:
        """What is looked at to see whether the file has changed; nothing where it cannot."""

    def read_at(self, offset: int, size: int) -> bytes:
        """Return exactly ``size`` bytes from ``offset``; Damaged where the file ends before."""

    def look_at(self, offset: int, size: int) -> None:
        """Raise NotAtHand unless these bytes seem to be at hand, Damaged where the file ends before."""

    def is_current(self) -> bool:
        """Say whether what is open still lies where it was opened.

        Raises FileNotFoundError where nothing does.
        """

    def close(self) -> None:
        """Release the descriptor. Closing twice is fine."""


class PathSource:
    """A file opened once and read with ``pread``."""

    def __init__(self, path: Path) -> None:
        athand.wait()
        self.path = path
        self.places = (path,)
        self.name = path.name
        self._tells = hasattr(os, "RWF_NOWAIT")  # whether the system can say what is in memory
        try:
            self.descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            self.size = os.fstat(self.descriptor).st_size
        except OSError as error:
            check_descriptors(error)
            raise NotFound(f"{path.name}: cannot be opened: {error.strerror}") from error

    def read_at(self, offset: int, size: int) -> bytes:
        """Return exactly ``size`` bytes from ``offset``."""
        if self.descriptor < 0:
            raise Unavailable(f"{self.name}: the file was closed")
        if not athand.may_wait():
            return self._read_from_memory(offset, fitting(self, offset, size))
        try:
            data = os.pread(self.descriptor, fitting(self, offset, size), offset)
            while len(data) < size:  # a read may stop early, at 2 GiB or on a network file system
                more = os.pread(self.descriptor, size - len(data), offset + len(data))
                if not more:
                    raise Damaged(_short(self, offset, size, len(data)))
                data += more
        except OSError as error:
            raise Damaged(f"{self.name}: read of {size} bytes at {offset}: {error.strerror}") from error
        return data

    def look_at(self, offset: int, size: int) -> None:
        """See whether the system has the middle of a range in memory: its ends may have come with others."""
        self._fill_from_memory(offset + fitting(self, offset, size) // 2, bytearray(1))

    def _read_from_memory(self, offset: int, size: int) -> bytes:
        """Return what the system has of the file in memory."""
        athand.spend(size)
        data = io.BytesIO(bytes(size))  # whose bytes are given away without a copy
        with data.getbuffer() as room:
            self._fill_from_memory(offset, room)
        return data.getvalue()

    def _fill_from_memory(self, offset: int, room: memoryview | bytearray) -> None:
        if not self._tells:
            raise NotAtHand
        try:
            got = os.preadv(self.descriptor, [room], offset, os.RWF_NOWAIT)
        except BlockingIOError:
            raise NotAtHand from None
        except OSError as error:  # a file system that cannot tell; if it is another fault, it comes again
            self._tells = error.errno != errno.EOPNOTSUPP
            raise NotAtHand from None
        if got < len(room):
            raise NotAtHand

    def is_current(self) -> bool:
        """Say whether the open file is the one at its path: another may have been moved there."""
        return _version(os.fstat(self.descriptor)) == content_version((self.path,))

    def close(self) -> None:
        """Close the descriptor."""
        descriptor, self.descriptor = self.descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)

    def __del__(self) -> None:
        if hasattr(self, "descriptor"):  # it was opened
            self.close()


class ObjectSource:
    """A binary file object; its seek position is guarded by a lock of its own.

    ``close`` leaves the object open: it belongs to whoever made it.
    """

    descriptor = -1
    places: tuple[Versioned, ...] = ()

    def __init__(self, file: BinaryIO, name: str = "") -> None:
        self._file = file
        self._lock = threading.Lock()
        self.name = name or str(getattr(file, "name", "file object"))
        with self._lock:
            self.size = file.seek(0, io.SEEK_END)

    def read_at(self, offset: int, size: int) -> bytes:
        """Return exactly ``size`` bytes from ``offset``."""
        fitting(self, offset, size)
        athand.wait()
        try:
            with self._lock:
                self._file.seek(offset)
                data = self._file.read(size)
        except (OSError, ValueError) as error:  # ValueError: the object was closed
            raise Damaged(f"{self.name}: read of {size} bytes at {offset}: {error}") from error
        if len(data) < size:
            raise Damaged(_short(self, offset, size, len(data)))
        return data

    def look_at(self, offset: int, size: int) -> None:
        """Raise NotAtHand: nobody knows how long an object takes."""
        athand.wait()

    def is_current(self) -> bool:
        """Return True: the object's content is taken to stay the same."""
        return True

    def close(self) -> None:
        """Leave the object to its owner."""


def check_descriptors(error: OSError) -> None:
    """Raise OutOfDescriptors where that is what ``error`` is: it says nothing about the file."""
    if error.errno in (errno.EMFILE, errno.ENFILE):
        raise OutOfDescriptors(f"no file can be opened now: {error.strerror}") from error


def _short(source: ByteSource, offset: int, size: int, got: int) -> str:
    return f"{source.name}: wanted {size} bytes at {offset}, the file ends after {got} of them"


def fitting(source: ByteSource, offset: int, size: int) -> int:
    """Return ``size``, or raise Damaged *before* memory is asked for bytes that are not there."""
    if offset < 0 or size < 0 or offset + size > source.size:
        raise Damaged(_short(source, offset, size, max(0, min(size, source.size - offset))))
    return size


@dataclass(frozen=True, slots=True, eq=False)
class Span:
    """A range of a file that is open, at hand, and left to who decodes it."""

    source: ByteSource
    offset: int
    size: int

    def __len__(self) -> int:
        return self.size

    @property
    def at(self) -> tuple[int, int]:
        """The descriptor of the file, and the offset in it."""
        return self.source.descriptor, self.offset

    def read(self) -> bytes | GputilesError:
        """Return the bytes, or why they cannot be read."""
        try:
            return self.source.read_at(self.offset, self.size)
        except GputilesError as error:
            return error


def left_or_read(
    source: ByteSource, ranges: Sequence[tuple[int, int]]
) -> Sequence[bytes | Span | GputilesError]:
    """Leave (offset, size) ranges to who decodes them where each of them is worth that, else read them."""
    if not athand.may_leave() or min((size for _, size in ranges), default=0) < _LEFT:
        return read_ranges(source, ranges)
    return [_left(source, *each) for each in ranges]


def _left(source: ByteSource, offset: int, size: int) -> Span | GputilesError:
    athand.leave(size)
    try:
        source.look_at(offset, size)
    except Unavailable:
        raise
    except GputilesError as error:
        return error
    return Span(source, offset, size)


def read_ranges(source: ByteSource, ranges: Sequence[tuple[int, int]]) -> list[bytes | GputilesError]:
    """Read many (offset, size) ranges, neighbours in one read; one outcome per range, in order.

    Raises Unavailable where the file cannot be read now.
    """
    outcomes: list[bytes | GputilesError] = [b""] * len(ranges)
    order = sorted(range(len(ranges)), key=lambda index: ranges[index])
    for run in _runs(order, ranges):
        start = ranges[run[0]][0]
        end = max(ranges[index][0] + ranges[index][1] for index in run)
        try:
            data = source.read_at(start, end - start)
        except Unavailable:  # says nothing about the file
            raise
        except GputilesError as error:
            _read_singly(source, run, ranges, outcomes, error)
            continue
        if len(run) == 1:
            outcomes[run[0]] = data
            continue
        for index in run:
            offset, size = ranges[index]
            outcomes[index] = data[offset - start : offset - start + size]
    return outcomes


def _runs(order: Sequence[int], ranges: Sequence[tuple[int, int]]) -> Iterable[list[int]]:
    """Group indices, sorted by offset, whose ranges lie close together."""
    run: list[int] = []
    start = end = 0
    for index in order:
        offset, size = ranges[index]
        if run and (offset > end + _GAP or max(end, offset + size) - start > _RUN):
            yield run
            run = []
        if not run:
            start = end = offset
        run.append(index)
        end = max(end, offset + size)
    if run:
        yield run


def _read_singly(
    source: ByteSource,
    run: Sequence[int],
    ranges: Sequence[tuple[int, int]],
    outcomes: list[bytes | GputilesError],
    error: GputilesError,
) -> None:
    """Read the ranges of a failed run one by one, so that each fails for itself."""
    for index in run:
        try:
            outcomes[index] = error if len(run) == 1 else source.read_at(*ranges[index])
        except GputilesError as own:
            outcomes[index] = own


def _version(stat: os.stat_result) -> str:
    return f"{stat.st_size:x}-{stat.st_mtime_ns:x}-{stat.st_ctime_ns:x}-{stat.st_ino:x}"


def content_version(paths: Iterable[Versioned]) -> str:
    """Return a text that changes when any of the files is changed or replaced.

    Raises FileNotFoundError where one of them is gone, NotFound where it cannot be looked at.
    """
    parts = []
    for path in paths:
        if not isinstance(path, Path):
            parts.append(path.version())
            continue
        try:
            parts.append(_version(os.stat(path)))
        except FileNotFoundError:
            raise
        except OSError as error:
            raise NotFound(f"{path.name}: cannot be looked at: {error.strerror}") from error
    return "+".join(parts)
