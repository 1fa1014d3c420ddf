"""Sources: what a file format must offer. Called only in the reading room, or through it."""

from __future__ import annotations

from typing import Any, Protocol

from gputiles.backends import DecodeJob
from gputiles.errors import NotFound
from gputiles.geometry import Rect
from gputiles.image import ImageInfo
from gputiles.sources.bytesource import Versioned


class Source(Protocol):
    """An open image file.

    Safe to call from several reader threads at once: nothing shares a seek position.
    """

    info: ImageInfo
    paths: tuple[Versioned, ...]  # the file and its companions; empty where there is none
    descriptors: int  # file descriptors held open; remote files count as one each

    def read(self, frame: int, z: int, unit: Rect) -> DecodeJob:
        """Read the chunks of the tiles in ``unit`` of a stored level.

        The job's ``tiles`` are the unit's, row by row. Bytes that are missing from the file
        become the chunk's error.
        """

    def passthrough(self, frame: int, z: int, x: int, y: int) -> bytes | None:
        """Return a complete JPEG stream that *is* tile (x, y), without decoding, or None.

        None unless the stored chunk is exactly this tile, 8-bit JPEG of the tile's full size,
        with a colour marker that a browser reads rightly and a proper end.
        """

    def internals(self) -> dict[str, Any]:
        """Return what the file says of itself, in its own words, ready for JSON; read anew."""

    def is_current(self) -> bool:
        """Say whether the open files are those that now lie at their paths.

        Raises FileNotFoundError where one of them is gone.
        """

    def close(self) -> None:
        """Close the file."""


def no_picture(name: str) -> NotFound:
    """Return the refusal of another picture that a file has not, and not a word of those that are hidden."""
    return NotFound(f"the file has no picture {name[:64]!r}")
