"""All the pages of a TIFF file, readable or not."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from gputiles.errors import Damaged, GputilesError
from gputiles.sources.bytesource import ByteSource
from gputiles.sources.ifd import Directory, read_dialect, read_directory, walk
from gputiles.sources.page import Page, read_page

_MOST_SUBS = 64


@dataclass(frozen=True, slots=True, eq=False)
class Book:
    """The pages in file order; a page that cannot be served is the error that says why."""

    source: ByteSource
    pages: tuple[Page | GputilesError, ...]
    first: Directory
    chunk_limit: int
    warnings: tuple[str, ...] = ()

    def readable(self) -> list[Page]:
        """Return the pages that can be served; raise the first page's error if none can."""
        pages = [page for page in self.pages if isinstance(page, Page)]
        if not pages and isinstance(self.pages[0], GputilesError):
            raise self.pages[0]
        return pages

    def complaints(self) -> list[str]:
        """Return one line for every page that cannot be served, the first few of them."""
        lines = [f"page {i}: {page}" for i, page in enumerate(self.pages) if isinstance(page, GputilesError)]
        return lines[:5]


def read_book(source: ByteSource, chunk_limit: int) -> Book:
    """Read the directories of a file. Raises Damaged where there is no TIFF structure at all."""
    dialect, offset = read_dialect(source)
    directories, warnings = walk(source, dialect, offset)
    pages = tuple(_read(tags, chunk_limit) for tags in directories)
    return Book(source, pages, directories[0], chunk_limit, tuple(warnings))


def _read(tags: Directory, chunk_limit: int) -> Page | GputilesError:
    try:
        return read_page(tags, chunk_limit)
    except GputilesError as error:
        return error


def read_subs(page: Page, chunk_limit: int) -> tuple[list[Page], list[str]]:
    """Return the page's readable sub-pages (tag 330) and warnings about the others."""
    found: list[Page] = []
    warnings: list[str] = []
    for offset in _sub_offsets(page.tags):
        try:
            tags = read_directory(page.source, page.tags.dialect, offset)
            found.append(read_page(tags, chunk_limit))
        except GputilesError as error:
            warnings.append(f"a level was dropped: {error}")
    return found, warnings


def _sub_offsets(tags: Directory) -> Iterable[int]:
    try:
        return tags.integers(330, _MOST_SUBS)
    except Damaged:
        return ()
