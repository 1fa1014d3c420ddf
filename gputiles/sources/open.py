"""Opening a source: which reader a file is for."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import BinaryIO

from gputiles.errors import Damaged, GputilesError
from gputiles.sources import Source
from gputiles.sources.bytesource import ObjectSource, PathSource
from gputiles.sources.tiff import open_tiff

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

    A path is opened once. Companions of the file are read only beside it and below
    ``root``. Raises NotFound, Damaged, Unsupported or LimitExceeded with the reason.
    """
    path = Path(file) if isinstance(file, str | Path) else None
    source = ObjectSource(file) if not isinstance(file, str | Path) else PathSource(Path(file))
    try:
        return open_tiff(source, path, root=root, chunk_limit=chunk_limit, associated=associated)
    except GputilesError:
        source.close()
        raise
    except _BROKEN as error:  # the last line of defence against nonsense in tags
        source.close()
        raise Damaged(f"{source.name}: the file's structure makes no sense: {error!r}") from error
