"""The engine: one event loop's shelves, reading room, batcher and backend."""

from __future__ import annotations

from types import TracebackType
from typing import Any

from gputiles.backends import Backend
from gputiles.backends.load import load_backend
from gputiles.batcher import Batcher
from gputiles.cache import Shelf
from gputiles.config import Config
from gputiles.images import Image, Images, Reference
from gputiles.reading_room import ReadingRoom
from gputiles.remotes import Remotes
from gputiles.renderer import Renderer


class Engine:
    """Everything that answers requests on one event loop; an async context manager.

    Create it, and call it, on the loop that it serves.
    """

    def __init__(self, config: Config) -> None:
        self.config = config
        self.reading_room = ReadingRoom(config.readers, config.queue_items)
        self.remotes = Remotes(config)
        self.backend: Backend
        self.batcher: Batcher
        self.images: Images
        self.renderer: Renderer

    async def start(self) -> None:
        """Bring up the compute device and the shelves."""
        config = self.config
        self.backend = await self.reading_room.run(
            load_backend,
            config.device,
            config.workers,
            config.raw_cache,
            config.spill_cache,
            config.card_jpegs,
        )
        self.batcher = Batcher(self.backend, items=config.queue_items, weight=config.queue_bytes)
        self.images = Images(config, self.reading_room, self._forget)
        self.renderer = Renderer(config, self.reading_room, self.images, self.batcher)
        self.batcher.relieve = self.renderer.rasters.relieve
        self.batcher.aside = self.reading_room.dismiss

    async def close(self) -> None:
        """End all work and close all files."""
        self.batcher.close()
        self.images.handles.clear()
        self.remotes.close()  # readers that wait for a server need not
        self.reading_room.close()
        self.backend.close()

    async def __aenter__(self) -> Engine:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def image(self, reference: Reference) -> Image:
        """Return the image behind ``reference``, as its file is now."""
        return await self.images.get(reference)

    async def validate(self, reference: Reference) -> str | None:
        """Return why the image cannot be read, or None; no cache takes it up."""
        return await self.images.validate(reference)

    async def release(self, reference: Reference) -> None:
        """Close the image behind ``reference`` and drop all that was kept of it."""
        entry = self.images.records.peek(reference)
        if entry is not None:
            self.images.drop(entry.value)

    def _forget(self, reference: Reference) -> None:
        for shelf in self._of_pixels:
            shelf.forget(reference)

    @property
    def shelves(self) -> tuple[Shelf[Any], ...]:
        """All shelves, outermost first."""
        return (*self._of_pixels, self.images.handles, self.images.records)

    @property
    def _of_pixels(self) -> tuple[Shelf[Any], ...]:
        """The shelves of what is made of images, by their owners' references."""
        renderer = self.renderer
        return (renderer.tiles, *renderer.rasters.shelves, renderer.recipes, renderer.measuring.shelf)

    def clear(self) -> None:
        """Empty all shelves; what is pinned leaves when its work is done."""
        for shelf in self.shelves:
            shelf.clear()

    def report(self) -> dict[str, Any]:
        """Return the state of caches, queue and device, ready for JSON."""
        handles, tiles = self.images.handles, self.renderer.tiles
        return {
            "tilesource": {"maxsize": handles.capacity, "used": handles.used},
            "tileCache": {"maxsize": tiles.capacity, "used": tiles.used, "items": tiles.report()["items"]},
            "shelves": {shelf.name: shelf.report() for shelf in self.shelves},
            "sources": handles.report()["items"],
            "styled": self.renderer.recipes.report()["items"],
            "descriptors": handles.stored + handles.loose,
            "counts": {
                "opens": self.images.opens,
                "reads": self.renderer.rasters.reads,
                "passedThrough": self.renderer.passing.count,
                **self.batcher.jobs,
            },
            "readSeconds": self.renderer.rasters.stored.seconds,
            "queue": self.batcher.report(),
            "reading": self.reading_room.pending,
            "remote": {"capacity": self.remotes.blocks.capacity, "used": self.remotes.blocks.used},
            "device": {"name": self.backend.name, "workers": self.backend.workers},
        }
