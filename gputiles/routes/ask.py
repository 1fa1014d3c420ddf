"""What is asked: HTTP requests parsed once to an item and a renderer's request."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeAlias

from aiohttp import web

from gputiles import style
from gputiles.errors import BadRequest, BadStyle, LimitExceeded
from gputiles.images import Image, Reference
from gputiles.keys import Request
from gputiles.references import AssociatedRef
from gputiles.renderer import MOST_THUMBNAIL
from gputiles.request import ThumbnailRequest, TileRequest, View
from gputiles.routes import parameters
from gputiles.sources.pattern import PatternRef
from gputiles.state import STATE, State
from gputiles.style import Style

TEST_ITEM = "test"
THUMBNAIL = 256  # pixels: the sides of a thumbnail where none is given
ASPECT = 16  # a side that is not given may be this many times the other
SHORT_STYLE = 16_384  # characters of a style that is parsed on the loop, in about a millisecond
LONGEST_KEY = 4096  # characters of a URL that is remembered as parsed


Direct: TypeAlias = PatternRef | AssociatedRef
"""What is found without the library: it names the image itself."""


@dataclass(frozen=True, slots=True)
class Ask:
    """An item, or the pattern that it is, and what is wanted of it."""

    item: str | Direct
    wanted: Request


def tile_roots(prefix: str) -> tuple[str, str]:
    """Return the paths below which an item's tiles are; ``tile`` is a word for ``tiles``."""
    return f"{prefix}/item/{{item}}/tiles", f"{prefix}/item/{{item}}/tile"


async def image_of(state: State, item: str | Direct) -> Image:
    """Return the image of an item, as its file is now."""
    reference: Reference = (await state.library.item(item)).ref if isinstance(item, str) else item
    return await state.engine.image(reference)


async def body(request: web.Request, name: str, most: int) -> bytes:
    """Return the body of a request, which is a ``name``; raises LimitExceeded beyond ``most`` bytes."""
    read = await request.content.read(most + 1)
    while not request.content.at_eof() and len(read) <= most:
        read += await request.content.read(most + 1)
    if len(read) > most:
        raise LimitExceeded(f"{name}: at most {most} bytes")
    return read


async def tile(request: web.Request) -> Ask:
    """Return the tile that a request asks for."""
    return await once(request, _tile)


async def thumbnail(request: web.Request) -> Ask:
    """Return the thumbnail that a request asks for."""
    return await once(request, _thumbnail)


async def once(request: web.Request, parse: Callable[[web.Request], Awaitable[Ask]]) -> Ask:
    """Return what ``parse`` makes of a request, whose URL alone must say it: parsed once."""
    parsed = request.app[STATE].parsed
    known = parsed.get(request.raw_path)
    if isinstance(known, Ask):
        return known
    asked = await parse(request)
    if len(request.raw_path) <= LONGEST_KEY:
        parsed[request.raw_path] = asked
    return asked


async def _tile(request: web.Request) -> Ask:
    query = parameters.single(request.query)
    place = [parameters.parse_integer(request.match_info[name]) for name in "zxy"]
    z, x, y = (number if number is not None else _not_integer() for number in place)
    if min(z, x, y) < 0:
        raise BadRequest("x, y, and z must be positive integers")
    if "frame" in request.match_info:
        query["frame"] = request.match_info["frame"]
    item = item_of(request, query)
    default = "JPEG" if isinstance(item, str) else "PNG"
    return Ask(item, TileRequest(z, x, y, await view(request, query, default), parameters.edge(query)))


def _not_integer() -> int:
    raise BadRequest("x, y, and z must be integers")


async def _thumbnail(request: web.Request) -> Ask:
    query = parameters.single(request.query)
    sides = _sides(query)
    return Ask(item_of(request, query), ThumbnailRequest(*sides, await view(request, query, "JPEG")))


def _sides(query: dict[str, str]) -> tuple[int, int]:
    """Return the (width, height) to fit into; a side that is not given hardly limits."""
    given = {side: parameters.integer(query, side, 0, 0) for side in ("width", "height") if side in query}
    for side, length in given.items():
        if length < 2:
            raise BadRequest(f"Invalid width or height.  Minimum value is 2.  ({side}: got {length})")
    if not given:
        return THUMBNAIL, THUMBNAIL
    other = min(ASPECT * max(given.values()), MOST_THUMBNAIL)
    return given.get("width", other), given.get("height", other)


async def view(request: web.Request, query: dict[str, str], default: str) -> View:
    """Return the view that a query describes."""
    frame = parameters.frame_number(query["frame"]) if query.get("frame") else 0
    return View(
        frame, await _style(request, query), bool(query.get("frame")), parameters.encoding(query, default)
    )


async def _style(request: web.Request, query: dict[str, str]) -> Style | None:
    text = query.get("style")
    if text is None:
        return None
    state = request.app[STATE]
    if text.startswith("@"):
        stored = await state.engine.reading_room.run(state.styles.get, text[1:65])
        if stored is None:
            raise BadStyle(f"style: no style was posted under the id {text[1:65]!r}")
        text = stored
    if len(text) <= SHORT_STYLE:
        return style.parse_text(text)
    return await state.engine.reading_room.run(style.parse_text, text)  # not on the loop: it takes a while


def item_of(request: web.Request, query: dict[str, str]) -> str | PatternRef:
    """Return the id in the path, or the pattern that the query describes."""
    item = request.match_info["item"]
    return pattern(query) if item == TEST_ITEM else item


def pattern(query: dict[str, str]) -> PatternRef:
    """Return the test pattern that a query describes; large_image's names of parameters."""
    names = {
        "minLevel": "min_level", "maxLevel": "max_level", "tileWidth": "tile_width",
        "tileHeight": "tile_height", "sizeX": "size_x", "sizeY": "size_y",
    }  # fmt: skip
    numbers = {ours: parameters.integer(query, name, 0, 0) for name, ours in names.items() if query.get(name)}
    switches = {
        name: query[name].lower() in ("true", "on", "yes", "1")
        for name in ("fractal", "monochrome")
        if query.get(name)
    }
    frames = {"frames": query["frames"]} if query.get("frames") else {}
    return PatternRef(**numbers, **switches, **frames)  # type: ignore[arg-type]
