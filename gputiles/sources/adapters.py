"""Files for other libraries: which one a file is given to, and which extra is missing."""

from __future__ import annotations

from pathlib import Path

from gputiles.errors import Damaged, GputilesError, NotFound, Unavailable, Unsupported
from gputiles.sources import largeimage, slides
from gputiles.sources.adapted import AdaptedSource

SUFFIXES = (*slides.SUFFIXES, *largeimage.SUFFIXES)
"""Endings of the files that other libraries read."""


def is_foreign(path: Path) -> bool:
    """Say whether a file is one for other libraries, by its name: a MIRAX file starts as a JPEG file does."""
    return path.name.lower().endswith(SUFFIXES)


def open_foreign(
    path: Path, root: Path | None, *, chunk_limit: int, associated: str | None = None
) -> AdaptedSource:
    """Open a file that is for other libraries.

    Raises Unsupported, which names the extra where it is not installed, and as the libraries' adapters.
    """
    is_slide = path.name.lower().endswith(slides.SUFFIXES)
    library = slides.slide_library() if is_slide else largeimage.large_image_library()
    if not path.is_file():
        raise NotFound(f"{path.name}: the file does not exist")
    if library is None:
        extra = "openslide" if is_slide else "large-image"
        raise Unsupported(
            f"{path.name}: files of this kind are read with the extra {extra!r}, which is not installed:"
            f" pip install 'gputiles[{extra}]'"
        )
    try:
        if is_slide:
            return slides.open_slide(path, root, chunk_limit=chunk_limit, associated=associated)
        return largeimage.open_large_image(path, chunk_limit=chunk_limit, associated=associated)
    except FileNotFoundError as error:
        raise NotFound(f"{path.name}: the file, or a companion of it, is gone") from error


def open_refused(
    refusal: GputilesError,
    path: Path | None,
    root: Path | None,
    *,
    chunk_limit: int,
    associated: str | None = None,
) -> AdaptedSource:
    """Open a TIFF file that our own reader refuses as a slide; raise ``refusal`` where that is none."""
    if path is None or not slides.knows_slide(path):
        raise refusal
    try:
        return slides.open_slide(path, root, chunk_limit=chunk_limit, associated=associated)
    except Unavailable:  # says nothing about the file
        raise
    except (Damaged, Unsupported, FileNotFoundError):
        raise refusal from None
