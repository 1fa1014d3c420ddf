"""The presets that images have from large_image's configuration in their folders, as it is now."""

from __future__ import annotations

import logging
from collections.abc import Set
from typing import Any

from cachetools import LRUCache

from gputiles.errors import GputilesError, Unavailable
from gputiles.folderconfig import NAME, FolderConfig, offered, read
from gputiles.images import Images, Reference
from gputiles.reading_room import ReadingRoom
from gputiles.walk import FileRef

logger = logging.getLogger(__name__)

MOST = 1024  # folders that are remembered


class FolderViews:
    """What the folders of images say, and what was complained of: once for each version of a file."""

    def __init__(self, room: ReadingRoom, images: Images) -> None:
        self._room = room
        self._images = images
        self._known: LRUCache[object, FolderConfig] = LRUCache(MOST)
        self._told: LRUCache[object, bool] = LRUCache(MOST)

    async def of(self, reference: Reference, taken: Set[str] = frozenset()) -> list[dict[str, Any]]:
        """Return the presets that apply to an image, ready for JSON, but for names that are ``taken``.

        There are none for files elsewhere, and for one that cannot be opened, of which its own
        routes say why. Raises Unavailable.
        """
        if not isinstance(reference, FileRef):
            return []
        config = await self._config(reference)
        if not config.views:
            return []
        try:
            info = (await self._images.get(reference)).info
        except Unavailable:
            raise
        except GputilesError:
            return []
        return await self._room.run(offered, config, info, frozenset(taken))

    async def _config(self, ref: FileRef) -> FolderConfig:
        folder = ref.path.parent, ref.root
        config = await self._images.run(read, ref, self._known.get(folder))
        if config is not self._known.get(folder):
            self._known[folder] = config
            self._complain(config)
        return config

    def _complain(self, config: FolderConfig) -> None:
        for complaint in config.complaints:
            if complaint not in self._told:
                self._told[complaint] = True
                (file, _), reason = complaint
                logger.warning("%r: %s", file or NAME, reason)
