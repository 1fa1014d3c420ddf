"""What the routes of one server share: the engine, the library, the posted styles."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web
from cachetools import LRUCache

from gputiles.config import Config
from gputiles.engine import Engine
from gputiles.folderviews import FolderViews
from gputiles.library import Library
from gputiles.presets import PresetStore
from gputiles.styles import StyleStore


@dataclass(slots=True, eq=False)
class State:
    """One per application."""

    config: Config
    engine: Engine
    library: Library
    styles: StyleStore
    presets: PresetStore
    folders: FolderViews
    refusals: Counter[int] = field(default_factory=Counter)
    parsed: LRUCache[str, Any] = field(default_factory=lambda: LRUCache(4096))


STATE: web.AppKey[State] = web.AppKey("state", State)
