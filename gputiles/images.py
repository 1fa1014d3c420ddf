"""Open images: which file version is behind a reference, and its handle.

Two shelves: light records (facts and version) of many images, and the handles of the few
that were read lately. Any number of styled and encoded views share one handle.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from typing import ParamSpec, Protocol, TypeVar

from gputiles.cache import Entry, Hold, Shelf
from gputiles.config import Config
from gputiles.errors import Changed, GputilesError, NotFound, OutOfDescriptors, Unavailable, Unsupported
from gputiles.image import ImageInfo, Reduction
from gputiles.reading_room import ReadingRoom
from gputiles.sources import Source
from gputiles.sources.bytesource import Versioned, content_version, is_here

P = ParamSpec("P")
R = TypeVar("R")


class Reference(Protocol):
    """What an image is found by: hashable, and able to open it (in the reading room).

    ``part`` tells images of the same file apart; "" is the file's own.
    """

    @property
    def part(self) -> str:
        """Which image of the file it is."""

    def open(self, chunk_limit: int) -> Source:
        """Open the image."""

    def __hash__(self) -> int: ...


@dataclass(slots=True, eq=False)
class Image:
    """What is known of one version of an image; ``checked`` is when it was last looked at."""

    reference: Reference
    info: ImageInfo
    version: str
    paths: tuple[Versioned, ...]
    checked: float
    identity: str = field(init=False)  # of the pixels: the file's version, and which image of it

    def __post_init__(self) -> None:
        self.identity = f"{self.version}|{self.reference.part}"


def read_version(paths: tuple[Versioned, ...], fallback: str) -> str:
    """Return the content version of files as they are now, or ``fallback`` where there are none."""
    try:
        return content_version(paths) if paths else fallback
    except FileNotFoundError as error:
        raise NotFound(f"{error.filename}: the file is gone") from error


def read_checked(image: Image, read: Callable[[], R]) -> R:
    """Return what ``read`` reads, and see to it that it is of the version that was opened.

    Each range of a remote file is of that version already: its server is not asked once more.
    """
    result = read()
    check_version(image)
    return result


def check_version(image: Image) -> None:
    """Raise Changed where the files of ``image`` are here, and not those that were opened."""
    if all(map(is_here, image.paths)) and read_version(image.paths, image.version) != image.version:
        raise Changed("the file changed while it was read")


class Images:
    """The images that are known and those that are open."""

    def __init__(
        self, config: Config, reading_room: ReadingRoom, forget: Callable[[Reference], None]
    ) -> None:
        self.opens = 0
        self.handles: Shelf[Source] = Shelf("sources", config.sources, dispose=self._close)
        self.records: Shelf[Image] = Shelf("images", 1_000_000)
        self._config = config
        self._opening = asyncio.Semaphore(config.readers)  # more would wait, open, for the loop
        self._lendable = asyncio.Semaphore(config.sources)  # a handle that is lent cannot be evicted
        self._room = reading_room
        self._forget = forget

    async def get(self, reference: Reference) -> Image:
        """Return the image behind ``reference``, opened or looked at again where that is due."""
        image = self.fresh(reference)
        if image is not None:
            return image
        async with self.records.once(reference, partial(self._refresh, reference)) as image:
            return image

    def fresh(self, reference: Reference) -> Image | None:
        """Return the image if it is known and was looked at lately enough."""
        entry = self.records.get(reference)
        if entry is None:
            return None
        image = entry.value
        lately = not image.paths or time.monotonic() - image.checked < self._config.revalidate
        return image if lately else None

    async def _refresh(self, reference: Reference, _: Hold[Image]) -> Image:
        entry = self.records.peek(reference)
        if entry is not None:
            try:
                if await self._is_current(entry.value):
                    return entry.value
            except NotFound:
                self.drop(entry.value)
                raise
            self.drop(entry.value)
        async with self.handles.once(reference, partial(self._open, reference)) as (image, _handle):
            return image

    async def _is_current(self, image: Image) -> bool:
        now = time.monotonic()
        version = await self._room.run(read_version, image.paths, image.version)
        image.checked = now
        return version == image.version

    def drop(self, image: Image) -> None:
        """Forget a version that the file no longer has: its handle, tiles and records."""
        self.records.discard(image.reference)
        self.handles.discard((image.reference, image.version))
        self._forget(image.reference)

    async def _open(self, reference: Reference, hold: Hold[Source]) -> tuple[Image, Entry[Source]]:
        checked = time.monotonic()
        async with self._opening:
            with self.handles.reserve(1):
                source, version = await self.run(open_stable, reference, self._config.chunk_limit)
        self.opens += 1
        image = Image(reference, self._seen(source.info), version, source.paths, checked)
        handle = hold.pin(
            self.handles.put((reference, version), source, source.descriptors, "sources", cold=True)
        )
        self.records.put(reference, image, 1 + len(source.info.frames), reference)
        return image, handle

    def _seen(self, info: ImageInfo) -> ImageInfo:
        """Return the facts of an image with what the configuration overrules."""
        wanted = self._config.reduction
        return info if wanted == "auto" else replace(info, reduction=Reduction(wanted))

    async def run(self, function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """Call a function that opens files in the reading room.

        Where connections took the descriptors, the idle handles give theirs back, and it is
        called once more.
        """
        try:
            return await self._room.run(function, *args, **kwargs)
        except OutOfDescriptors:
            self.handles.shed()  # their closes wait in the reading room, ahead of the next opening
            return await self._room.run(function, *args, **kwargs)

    def opened(self, image: Image) -> Source | None:
        """Return the open source of ``image`` for use before anything else runs; None where none is open."""
        entry = self.handles.get((image.reference, image.version))
        return None if entry is None else entry.value

    @asynccontextmanager
    async def handle(self, image: Image) -> AsyncIterator[Source]:
        """Lend the open source of ``image``, reopened where it was evicted.

        Raises Changed where the file is no longer the version that ``image`` is.
        """
        async with self._lendable:
            with Hold(self.handles) as hold:
                yield (await self._lend(image, hold)).value

    async def _lend(self, image: Image, hold: Hold[Source]) -> Entry[Source]:
        entry = self.handles.get((image.reference, image.version))
        if entry is not None:
            return hold.pin(entry)
        async with self.handles.once(image.reference, partial(self._open, image.reference)) as (now, handle):
            if now.version != image.version:
                raise Changed("the file changed since it was opened")
            return hold.pin(handle)

    async def validate(self, reference: Reference) -> str | None:
        """Open and close the image, past all caches; return why it cannot be read, or None."""
        try:
            source, _ = await self.run(open_stable, reference, self._config.chunk_limit)
        except Unavailable:  # says nothing about the file
            return None
        except GputilesError as error:
            return str(error)
        self._close(source)
        return None

    def _close(self, source: Source) -> None:
        self._room.dismiss(source.close)


def open_stable(reference: Reference, chunk_limit: int) -> tuple[Source, str]:
    """Open an image, once more if it is replaced meanwhile; return the source and its version."""
    for _ in range(2):
        try:
            source = reference.open(chunk_limit)
        except OSError as error:
            raise Unsupported(f"cannot open the file: {error.strerror or error}") from error
        try:
            version = read_version(source.paths, repr(reference))
            if source.is_current():
                return source, version
        except (NotFound, FileNotFoundError):
            pass  # moved away meanwhile: opening it again says so
        source.close()
    raise Changed("the file changes while it is opened")
