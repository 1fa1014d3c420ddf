"""The library: which files are served, under which ids, and which of them are unreadable.

An item is a file under one of the roots, or a remote file that was imported. Its id is made of
its path relative to the root, or of its address, so that it is the same after a restart; its
content version changes with the file. Folders are walked in the reading room only, never on the event loop.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import TypeAlias

from cachetools import LRUCache

from gputiles.errors import LimitExceeded, NotFound
from gputiles.remotes import RemoteRef
from gputiles.walk import FileRef, Item, walk

__all__ = ["FileRef", "Item", "Library"]

logger = logging.getLogger(__name__)

_LENT: ContextVar[Item | None] = ContextVar("lent", default=None)

Run: TypeAlias = Callable[..., Awaitable[Mapping[str, Item]]]
Validate: TypeAlias = Callable[[FileRef | RemoteRef], Awaitable[str | None]]

MOST_IMPORTED = 10_000  # remote files
RESCAN_SECONDS = 2.0  # age at which asking for a known item makes the folders be walked again
LONGEST_REST = 1.0  # seconds that an import waits for its turn to have the folders walked
PATIENCE = 10.0  # at most 1/PATIENCE of the time goes into walking, however slow the disk is


class Library:
    """The items under ``roots``, kept up to date while they are asked for.

    ``run(function, *args)`` calls a function that opens files in the reading room. ``validate(ref)`` opens a
    file, checks it and returns the reason where it is unreadable; it is called in the
    background for new and changed files, one at a time.
    """

    def __init__(self, roots: Iterable[Path], run: Run, validate: Validate) -> None:
        self._roots = tuple(roots)
        self._run = run
        self._validate = validate
        self._items: Mapping[str, Item] = {}
        self._imported: dict[str, Item] = {}  # remote files
        self._by_ref: tuple[Mapping[str, Item], Mapping[object, Item]] = ({}, {})  # of which items, by ref
        self._errors: dict[str, tuple[Item, str]] = {}
        self._logged: LRUCache[tuple[str, object], bool] = LRUCache(4096)
        self._pending: dict[str, Item] = {}
        self._walking: asyncio.Task[None] | None = None
        self._validating: asyncio.Task[None] | None = None
        self._walked = self._took = 0.0
        self._stale_at = 0.0

    async def start(self) -> None:
        """Walk the roots for the first time.

        Raises NotFound where a root does not exist.
        """
        await self._walk()

    async def close(self) -> None:
        """Stop the work in the background and wait for its end."""
        tasks = [task for task in (self._walking, self._validating) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def items(self) -> list[Item]:
        """Return all items as they are now, by name."""
        await self._refresh()
        return sorted([*self._items.values(), *self._imported.values()], key=lambda item: item.name)

    def items_of(self, refs: Iterable[object]) -> dict[object, Item]:
        """Return the items, as the last walk found them, of those references that are an item's."""
        if self._by_ref[0] is not self._items:
            self._by_ref = self._items, {item.ref: item for item in self._items.values()}
        imported: dict[object, Item] = {item.ref: item for item in self._imported.values()}
        return {ref: item for ref in refs if (item := self._by_ref[1].get(ref) or imported.get(ref))}

    async def item(self, item_id: str) -> Item:
        """Return the item of ``item_id``; NotFound where there is none.

        A known item costs a look-up. An unknown one may be new: the folders are walked
        first, unless that happened just now.
        """
        item = self.known(item_id)
        if item is None:
            await self._refresh()
            item = self._items.get(item_id)
            if item is None:
                raise NotFound(f"No item {item_id[:64]!r}.")
        return item

    async def named(self, name: str) -> Item:
        """Return the item whose path below its root is ``name``; NotFound where there is none.

        It may be as new as can be: the folders are walked for a name that is not known.
        """
        found = self._named(name)
        if found is None:
            rest = self._walked + PATIENCE * self._took - time.monotonic()
            await asyncio.sleep(min(max(rest, 0.0), LONGEST_REST))
            await asyncio.shield(self._walking or self._start_walk())
            found = self._named(name)
        if found is None:
            raise NotFound(f"No image {name[:200]!r} below the served folders.")
        return found

    def _named(self, name: str) -> Item | None:
        return next((item for item in self._items.values() if item.is_called(name)), None)

    async def at(self, path: Path) -> Item:
        """Return the item of a file that was just written; NotFound where it is below no root."""
        await asyncio.shield(self._walking or self._start_walk())
        if self._found(path) is None:  # that walk may have begun before the file was there
            await asyncio.shield(self._walking or self._start_walk())
        item = self._found(path)
        if item is None:
            raise NotFound(f"{path.name!r} lies below none of the served folders.")
        return item

    def _found(self, path: Path) -> Item | None:
        return next((item for item in self._items.values() if item.lies_at(path)), None)

    def known(self, item_id: str) -> Item | None:
        """Return the item if the last walk found it; a walk that is due starts behind it."""
        item = self._items.get(item_id)
        if item is not None and time.monotonic() > self._stale_at and self._walking is None:
            self._start_walk()
        return item or self._imported.get(item_id) or self._lent(item_id)

    def owns(self, item_id: str) -> bool:
        """Say whether the item is one of its own: not one that is lent."""
        return item_id in self._items or item_id in self._imported

    @contextmanager
    def lend(self, item: Item) -> Iterator[None]:
        """Have an item of another library for the work of one request; nobody else finds it."""
        before = _LENT.set(item)
        try:
            yield
        finally:
            _LENT.reset(before)

    @staticmethod
    def _lent(item_id: str) -> Item | None:
        item = _LENT.get()
        return item if item is not None and item.id == item_id else None

    def adopt(self, item: Item) -> Item:
        """Take up a remote file; LimitExceeded where there are too many."""
        if item.id not in self._imported and len(self._imported) >= MOST_IMPORTED:
            raise LimitExceeded(f"import: at most {MOST_IMPORTED} remote files")
        self._imported[item.id] = item
        return item

    def note(self, item: Item, reason: str | None) -> None:
        """Remember why ``item`` cannot be opened, or (None) that it can."""
        if reason is None:
            self._errors.pop(item.id, None)
        else:
            self._errors[item.id] = item, reason
            self.complain(item, reason)

    def error(self, item: Item) -> str | None:
        """Return the reason for which ``item``, as it is now, was found unreadable."""
        noted, reason = self._errors.get(item.id, (None, None))
        return reason if noted is not None and noted.version == item.version else None

    def complain(self, item: Item, reason: str) -> None:
        """Log what is wrong with ``item``, once for each version of the file."""
        if (item.id, item.version) not in self._logged:
            self._logged[item.id, item.version] = True
            logger.warning("%r: %s", item.name, reason)

    # -- walking

    async def _refresh(self) -> None:
        """Walk the folders, unless the last walk is fresh; all that ask share one walk."""
        if self._walking is None and time.monotonic() < self._walked + PATIENCE * self._took:
            return
        await asyncio.shield(self._walking or self._start_walk())

    def _start_walk(self) -> asyncio.Task[None]:
        task = self._walking = asyncio.get_running_loop().create_task(self._walk())
        task.add_done_callback(self._end_walk)
        return task

    def _end_walk(self, task: asyncio.Task[None]) -> None:
        self._walking = None
        if not task.cancelled() and (error := task.exception()) is not None:
            self._stale_at = time.monotonic() + RESCAN_SECONDS
            logger.warning("the roots cannot be walked: %s", error)

    async def _walk(self) -> None:
        began = time.monotonic()
        items = await self._run(walk, self._roots)
        self._walked = time.monotonic()
        self._took = self._walked - began
        self._stale_at = self._walked + max(RESCAN_SECONDS, PATIENCE * self._took)
        self._adopt(items)

    def _adopt(self, items: Mapping[str, Item]) -> None:
        """Take over what a walk found; unchanged items stay the objects that they were."""
        known = self._items
        self._items = {item_id: _same(known.get(item_id), item) for item_id, item in items.items()}
        for item_id in known.keys() - items.keys():
            self._errors.pop(item_id, None)
            self._pending.pop(item_id, None)
        for item_id, item in self._items.items():
            if item is not known.get(item_id):
                self._pending[item_id] = item
        if self._pending and self._validating is None:
            self._validating = asyncio.get_running_loop().create_task(self._validate_pending())

    # -- validation

    async def _validate_pending(self) -> None:
        """Validate what is new, resting as long as each file took."""
        try:
            while self._pending:
                item = self._pending.pop(next(iter(self._pending)))
                began = time.monotonic()
                await self._validate_one(item)
                await asyncio.sleep(time.monotonic() - began)
        finally:
            self._validating = None

    async def _validate_one(self, item: Item) -> None:
        try:
            self.note(item, await self._validate(item.ref))
        except Exception:  # a bug in a reader must not end the validation of the other files
            logger.exception("%r: the validation failed", item.name)


def _same(known: Item | None, found: Item) -> Item:
    return known if known is not None and known == found else found
