"""The walk: all image files under the roots, found in the reading room.

Nothing outside the roots is found: a symbolic link counts only where what it points to lies
under the same root, and every real folder is entered once, so that links cannot make circles.
"""

from __future__ import annotations

import hashlib
import logging
import os
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from gputiles.errors import NotFound
from gputiles.remotes import RemoteRef, Remotes
from gputiles.sources import Source
from gputiles.sources.adapters import SUFFIXES as ADAPTED_SUFFIXES
from gputiles.sources.bytesource import check_descriptors
from gputiles.sources.companions import fold
from gputiles.sources.open import open_source
from gputiles.sources.zarrarray import V2_ATTRIBUTES, V3

logger = logging.getLogger(__name__)

Version: TypeAlias = tuple[int, int, int, int]

TIFF_SUFFIXES = (
    ".tif", ".tiff", ".ptif", ".ptiff", ".btf", ".tf2", ".tf8",
    ".svs", ".qptiff", ".ndpi", ".scn", ".lsm", ".stk", ".gel", ".bif",
)  # fmt: skip
STILL_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".jp2", ".j2k")
FOLDER_SUFFIX = ".zarr"
"""The ending of a folder that is one image; what lies in it is not walked."""
SUFFIXES = (*TIFF_SUFFIXES, *STILL_SUFFIXES, *ADAPTED_SUFFIXES)
"""Endings of the file names that are taken for images, in lower case."""


@dataclass(frozen=True, slots=True)
class FileRef:
    """A file that may be served: its path, and the folder that it may not lead out of."""

    path: Path
    root: Path

    @property
    def part(self) -> str:
        """Nothing: the image is the file's own."""
        return ""

    def resolve(self) -> Path:
        """Return the real path of the file, all links followed; for the reading room.

        Raises NotFound where the file does not exist (any more) or leads out of the root.
        """
        try:
            real = self.path.resolve(strict=True)
        except (OSError, RuntimeError) as error:  # gone, no permission, or a circle of links
            raise NotFound(f"The file {printable(self.path.name)!r} does not exist.") from error
        if not real.is_relative_to(self.root):
            raise NotFound(f"The file {printable(self.path.name)!r} leads out of its root.")
        return real

    def open(self, chunk_limit: int, associated: str | None = None) -> Source:
        """Open the file, or the picture of that name in it; for the reading room."""
        return open_source(self.resolve(), root=self.root, chunk_limit=chunk_limit, associated=associated)


@dataclass(frozen=True, slots=True)
class Item:
    """A file of the library: its id, its name (path below the root, or address), its size in bytes.

    ``version`` is (size, mtime_ns, ctime_ns, inode) as the walk saw it; of a folder that is one
    image both are those of its metadata file. ``parts`` are the names of further files beside it that
    are no items but part of this one: size and version are of all of them.
    """

    id: str
    name: str
    size: int
    version: Version
    ref: FileRef | RemoteRef
    parts: tuple[str, ...] = ()

    def lies_at(self, path: Path) -> bool:
        """Say whether a file is this item's, or one of its parts."""
        own = self.ref.path if isinstance(self.ref, FileRef) else None
        return own is not None and (path == own or (path.parent == own.parent and path.name in self.parts))

    def is_called(self, name: str) -> bool:
        """Say whether this item, or one of its parts, has a name."""
        if not self.parts or name == self.name:
            return name == self.name
        folder, _, last = name.rpartition("/")
        return folder == self.name.rpartition("/")[0] and last in self.parts


def walk(roots: Sequence[Path]) -> dict[str, Item]:
    """Return {id: item} of the files under ``roots``: folders, or single files.

    Where several roots hold a file of the same relative path, the id of the later ones also
    depends on their place among the roots. Raises NotFound where a root does not exist.
    """
    result: dict[str, Item] = {}
    for index, root in enumerate(roots):
        for relative, ref, states in _files(root):
            item_id = _identify(relative)
            if item_id in result:
                item_id = _identify(f"{index}\0{relative}")
            version = _version(list(states.values()))
            parts = tuple(map(printable, list(states)[1:]))
            result[item_id] = Item(item_id, printable(relative), version[0], version, ref, parts)
    return result


def _version(states: Sequence[os.stat_result]) -> Version:
    """Return the version of the first file and its parts: of all sizes and times the sum, or the latest."""
    return (
        sum(status.st_size for status in states),
        max(status.st_mtime_ns for status in states),
        max(status.st_ctime_ns for status in states),
        states[0].st_ino,
    )


def remote_item(remotes: Remotes, text: str) -> Item:
    """Return the item of the remote file at an address.

    Raises BadRequest, NotFound or Unavailable with the reason.
    """
    ref = remotes.find(text)
    name = printable(ref.address.partition("?")[0])  # a query may hold a signature
    size = ref.place.look().size
    return Item(_identify(ref.address), name, size, (size, 0, 0, 0), ref)


def printable(name: str) -> str:
    """Return a file name as text that can be encoded: bytes that are no UTF-8 replaced."""
    return os.fsencode(name).decode("utf-8", "replace")


def _identify(name: str) -> str:
    """Return the id of an item by its path below the root, or its address: the same after a restart."""
    return hashlib.sha256(os.fsencode(name)).hexdigest()[:24]


_Found: TypeAlias = tuple[str, FileRef, dict[str, os.stat_result]]


def _files(root: Path) -> Iterator[_Found]:
    """Yield (path relative to the root, reference, {name: status} of it and its parts) of one root."""
    try:
        real = root.resolve(strict=True)
        status = real.stat()
    except (OSError, RuntimeError) as error:
        raise NotFound(f"The root {printable(str(root))!r} does not exist or cannot be read.") from error
    if stat.S_ISDIR(status.st_mode) and is_image_folder(root.name):
        yield root.name, FileRef(real, real), {root.name: _metadata_status(real, status)}
    elif stat.S_ISDIR(status.st_mode):
        yield from _Walk(real).files()
    elif stat.S_ISREG(status.st_mode):
        yield root.name, FileRef(real, real.parent), {root.name: status}


def is_image_folder(name: str) -> bool:
    """Say whether a folder of that name is one image."""
    return name.lower().endswith(FOLDER_SUFFIX)


def _metadata_status(folder: Path, status: os.stat_result) -> os.stat_result:
    """Return what a folder's metadata file is, or else the folder itself: that is its version."""
    for name in (V3, V2_ATTRIBUTES):
        try:
            return os.stat(folder / name, follow_symlinks=False)
        except OSError:
            continue
    return status


class _Walk:
    """One walk under one real folder: real folders first, links to folders after them."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._entered: set[tuple[int, int]] = set()
        self._linked: list[str] = []

    def files(self) -> Iterator[_Found]:
        yield from self._below("")
        while self._linked:
            yield from self._below(self._linked.pop(0))

    def _below(self, top: str) -> Iterator[_Found]:
        folders = [top]
        while folders:
            folder = folders.pop()
            prefix = f"{folder}/" if folder else ""
            files: dict[str, os.stat_result] = {}
            for entry in self._entries(folder):
                relative = prefix + entry.name
                status = self._status(entry)
                if status is None:
                    continue
                if stat.S_ISDIR(status.st_mode) and is_image_folder(entry.name):
                    path = self._root / relative
                    status = _metadata_status(path, status)
                    yield relative, FileRef(path, self._root), {entry.name: status}
                elif stat.S_ISDIR(status.st_mode):
                    (self._linked if entry.is_symlink() else folders).append(relative)
                elif stat.S_ISREG(status.st_mode) and entry.name.lower().endswith(SUFFIXES):
                    files[entry.name] = status
            for name, parts in fold(self._root / folder, files).items():
                reference = FileRef(self._root / folder / name, self._root)
                yield prefix + name, reference, {each: files[each] for each in (name, *parts)}

    def _entries(self, folder: str) -> list[os.DirEntry[str]]:
        """Return the visible entries of a folder, by name; none where it was entered before."""
        path = self._root / folder
        try:
            status = path.stat()
            if (status.st_dev, status.st_ino) in self._entered:
                return []
            self._entered.add((status.st_dev, status.st_ino))
            with os.scandir(path) as entries:
                return sorted((e for e in entries if not e.name.startswith(".")), key=lambda e: e.name)
        except OSError as error:  # no permission, or gone since it was listed
            check_descriptors(error)  # else all that lies below would count as gone
            logger.debug("%r cannot be walked: %s", printable(str(path)), error)
            return []

    def _status(self, entry: os.DirEntry[str]) -> os.stat_result | None:
        """Return what an entry (or what it links to) is; None where that may not be served."""
        try:
            if entry.is_symlink() and not Path(entry.path).resolve(strict=True).is_relative_to(self._root):
                return None
            return entry.stat()
        except (OSError, RuntimeError):  # gone, a dead link or a circle of links
            return None
