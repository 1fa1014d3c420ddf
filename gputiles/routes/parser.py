"""The parser: HTTP requests to calls, remembered by their raw text.

Clients send the same few URLs again and again: a URL that was seen lately is parsed by one
look-up, and the JSON of a style is parsed once for all tiles that are asked for in it.
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Generic, TypeAlias, TypeVar

from aiohttp import web
from cachetools import LRUCache

from gputiles import style
from gputiles.encoded import Format
from gputiles.errors import BadRequest, BadStyle
from gputiles.request import ThumbnailRequest, TileRequest, View
from gputiles.routes import parameters
from gputiles.routes.parameters import Parameters
from gputiles.sources.pattern import PatternRef
from gputiles.style import Style

R = TypeVar("R")

FindStyle: TypeAlias = Callable[[str], Awaitable[str]]
ParseStyle: TypeAlias = Callable[[str], Awaitable[Style]]

TEST_ITEM = "test"
THUMBNAIL = 256  # pixels: the default width and height
ASPECT = 16  # a side that is not given may be this many times the one that is
SHELF = 16 * 1024**2  # characters of remembered URLs, and of styles
OVERHEAD = 1024  # characters that a remembered request counts beyond its text


@dataclass(frozen=True, slots=True)
class Call(Generic[R]):
    """What is asked about an item: its id, or the pattern that it is; and the request."""

    item: str | PatternRef
    request: R


@dataclass(frozen=True, slots=True)
class Pixel:
    """A pixel: column ``x`` and row ``y`` of the full-resolution level of a frame."""

    frame: int
    x: int
    y: int


class Parser:
    """Turns requests into calls.

    ``find_style(id)`` returns the text of a stored style. ``parse_style(text)`` parses one
    without holding up the event loop.
    """

    def __init__(self, find_style: FindStyle, parse_style: ParseStyle) -> None:
        self._find_style = find_style
        self._parse_style = parse_style
        self._calls: LRUCache[str, Call[Any]] = LRUCache(SHELF)
        self._styles: LRUCache[str, Style] = LRUCache(SHELF)
        self._calls.getsizeof = self._styles.getsizeof = None  # type: ignore[assignment]
