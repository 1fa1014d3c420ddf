"""Opening a source: which reader a file is for."""

from __future__ import annotations

import os
import struct
from pathlib import Path
from typing import BinaryIO

from gputiles.errors import Damaged, GputilesError, NotFound, Unsupported
from gputiles.sources import Source
from gputiles.sources.adapters import is_foreign, open_foreign, open_refused
from gputiles.sources.blocks import Blocks
from gputiles.sources.bytesource import ByteSource, ObjectSource, PathSource
from gputiles.sources.neighbours import Folder, Neighbours, RemoteFolder
from gputiles.sources.remote import Place, RemoteSource
from gputiles.sources.still import is_still, open_still
from gputiles.sources.tiff import open_tiff
from gputiles.sources.zarr import open_zarr

_BROKEN = (
    struct.error, LookupError, ValueError, ArithmeticError, MemoryError, RecursionError, TypeError,
    StopIteration, AssertionError,
)  # fmt: skip


def open_source(
    file: Path | str | BinaryIO,
    *,
    chunk_limit: int = 1 << 30,
    root: Path | None = None,
    associated: str | None = None,
) -> Source:
    """Open an image file or a binary file object, or the ``associated`` picture of that name in it.

    A folder is taken for OME-Zarr. A path is opened once. Companions of the file are read
    only beside it and below ``root``. Raises NotFound, Damaged, Unsupported or LimitExceeded with the reason.
    """
    path = Path(file) if isinstance(file, str | Path) else None
    if path is not None and os.path.isdir(path):  # is_dir() raises where it may not look
        return _open_folder(path, root, chunk_limit, associated)
    if path is not None and is_foreign(path):
        return open_foreign(path, root, chunk_limit=chunk_limit, associated=associated)
    source = ObjectSource(file) if not isinstance(file, str | Path) else PathSource(Path(file))
    try:
        beside = None if path is None else Folder(path, root)
        return _open(source, beside, chunk_limit, associated)
    except Unsupported as refusal:
        return open_refused(refusal, path, root, chunk_limit=chunk_limit, associated=associated)


def open_remote(
    place: Place, blocks: Blocks, *, chunk_limit: int = 1 << 30, associated: str | None = None
) -> Source:
    """Open a remote image file, or the ``associated`` picture of that name in it.

    Companions are read beside it, where its place allows that. Raises as ``open_source``, and
    Unavailable with the reason where a server does not answer.
    """
    source, beside = RemoteSource(place, blocks), RemoteFolder(place, blocks)
    opened = _open(source, beside, chunk_limit, associated)
    failure = source.failure or beside.failure()
    if failure is not None:  # a reader may take a page that did not come for a missing one
        opened.close()
        raise failure
    return opened


def _open_folder(path: Path, root: Path | None, chunk_limit: int, associated: str | None) -> Source:
    try:
        return open_zarr(path, root, chunk_limit=chunk_limit, associated=associated)
    except FileNotFoundError as error:  # it went while it was read
        raise NotFound(f"{path.name}: {error.strerror}") from error
    except _BROKEN as error:
        raise Damaged(f"{path.name}: the metadata make no sense: {error!r}") from error


def _open(source: ByteSource, beside: Neighbours | None, chunk_limit: int, associated: str | None) -> Source:
    try:
        if is_still(source):
            return open_still(source, chunk_limit=chunk_limit, associated=associated)
        return open_tiff(source, beside, chunk_limit=chunk_limit, associated=associated)
    except GputilesError:
        source.close()
        raise
    except _BROKEN as error:  # the last line of defence against nonsense in tags
        source.close()
        raise Damaged(f"{source.name}: the file's structure makes no sense: {error!r}") from error
