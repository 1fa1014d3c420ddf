"""The files of an OME-TIFF set: one of them, and those beside it that its OME-XML names."""

from __future__ import annotations

from dataclasses import dataclass, field

from gputiles.errors import GputilesError, LimitExceeded, NotFound, Unavailable, Unsupported
from gputiles.sources import ome
from gputiles.sources.book import Book, read_book
from gputiles.sources.bytesource import ByteSource, Companion
from gputiles.sources.neighbours import Neighbours
from gputiles.sources.ome import TiffData

_MOST_COMPANIONS = 256


@dataclass(slots=True)
class FileSet:
    """The files of a set: this one, and those beside it as they are asked for.

    Without ``beside`` it has none. ``looked`` are the places where they were looked for: the set is
    another version when one of them comes, goes or changes.
    """

    book: Book
    beside: Neighbours | None
    uuid: str | None
    books: dict[str, Book | None] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    looked: list[Companion] = field(default_factory=list)

    def own(self, block: TiffData) -> bool:
        """Whether a block says that it lies in this very file."""
        name = self.beside.name if self.beside else None
        same = bool(self.uuid) and _same(block.uuid, self.uuid)
        unnamed = block.file is None and not (block.uuid and self.uuid)
        return (
            unnamed
            or same
            or (block.file is not None and name is not None and block.file.casefold() == name.casefold())
        )

    def find(self, name: str) -> ByteSource | None:
        """Open a companion that may be read; return None, with a warning, where there is none."""
        if self.beside is None or not ome.is_plain_name(name):
            self.warnings.append(f"the companion {name[:80]!r} is not looked for: not a file beside this one")
            return None
        place = None
        try:
            place = self.beside.find(name)
            return self.beside.open(name)
        except (NotFound, Unsupported) as error:
            self.warnings.append(f"the companion {name[:80]!r} is not read: {error}")
            return None
        finally:
            self.looked += [] if place is None else [Companion(place)]

    def get(self, name: str | None) -> Book | None:
        """Return the pages of a companion, opened once; None, with a warning, where there is none."""
        if name is None:
            self.warnings.append("the OME-XML tells another file by its UUID alone: it is not looked for")
            return None
        if name not in self.books:
            if len(self.books) >= _MOST_COMPANIONS:
                raise LimitExceeded(f"more than {_MOST_COMPANIONS} files in an OME-TIFF set")
            self.books[name] = self._open(name)
        return self.books[name]

    def _open(self, name: str) -> Book | None:
        source = None
        try:
            source = self.find(name)
            return None if source is None else read_book(source, self.book.chunk_limit)
        except GputilesError as error:
            if source is not None:
                source.close()
            if isinstance(error, Unavailable):  # the set may be whole the next time
                raise
            self.warnings.append(f"the companion {name[:80]!r} cannot be read: {error}")
            return None

    def sources(self) -> list[ByteSource]:
        """Return the open companions."""
        return [book.source for book in self.books.values() if book is not None]

    def close(self) -> None:
        """Close the companions again, where they come to no use."""
        for source in self.sources():
            source.close()


def _same(uuid: str | None, other: str | None) -> bool:
    """Whether both texts are one UUID, in the spellings that writers have for it."""
    return (uuid or "").lower().removeprefix("urn:uuid:") == (other or "").lower().removeprefix("urn:uuid:")
