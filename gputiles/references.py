"""References: what an image is found by, and how it is opened. Opened in the reading room only."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from typing import BinaryIO

from gputiles.remotes import RemoteRef
from gputiles.sources import Source
from gputiles.sources.open import open_source
from gputiles.walk import FileRef

__all__ = ["AssociatedRef", "FileRef", "ObjectRef", "RemoteRef"]

_NUMBERS = itertools.count()


@dataclass(frozen=True, slots=True)
class AssociatedRef:
    """Another picture in a file, as an image of its own."""

    file: FileRef | RemoteRef
    name: str

    @property
    def part(self) -> str:
        """The picture's name, and what tells its file from others."""
        return f"{self.name}{self.file.part}"

    def open(self, chunk_limit: int) -> Source:
        """Open the picture. Raises NotFound where the file has none of that name."""
        return self.file.open(chunk_limit, self.name)


@dataclass(frozen=True, slots=True)
class ObjectRef:
    """A binary file object; each reference is an image of its own."""

    file: BinaryIO = field(compare=False)
    number: int = field(default_factory=lambda: next(_NUMBERS))

    @property
    def part(self) -> str:
        """Nothing: the image is the file's own."""
        return ""

    def open(self, chunk_limit: int) -> Source:
        """Open the image in the object, which stays the caller's to close."""
        return open_source(self.file, chunk_limit=chunk_limit)
