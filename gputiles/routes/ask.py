"""What is asked: HTTP requests parsed once to an item and a renderer's request."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from aiohttp import web

from gputiles import style
from gputiles.errors import BadRequest, BadStyle, LimitExceeded
from gputiles.images import Image, Reference
from gputiles.keys import Request
from gputiles.references import AssociatedRef
from gputiles.renderer import MOST_THUMBNAIL
from gputiles.request import ThumbnailRequest, TileRequest, View
from gputiles.routes import parameters
from gputiles.routes.disposition import Saved, saved_as
from gputiles.routes.parameters import EDGE, FRAME, STYLE, Parameter, flag, integer, text, whole
from gputiles.sources.pattern import LIMITS, PatternRef
from gputiles.state import STATE, State
from gputiles.style import Style

TEST_ITEM = "test"
THUMBNAIL = 256  # pixels: the sides of a thumbnail where none is given
ASPECT = 16  # a side that is not given may be this many times the other
SHORT_STYLE = 16_384  # characters of a style that is parsed on the loop, in about a millisecond
LONGEST_KEY = 4096  # characters of a URL that is remembered as parsed


def _pattern(name: str, about: str) -> Parameter[int]:
    low, high = LIMITS[name]
    return integer(name, f"of the item {TEST_ITEM}: {about}", 0, minimum=low, maximum=high)


ITEM = text("item", f"the id of an item, or {TEST_ITEM}: a synthetic image")
PATTERN: dict[str, Parameter[Any]] = {
    "min_level": _pattern("minLevel", "the coarsest level that is stored"),
    "max_level": _pattern("maxLevel", "the image is 2 to this power tiles wide and high"),
    "tile_width": _pattern("tileWidth", "pixels of a tile's row"),
    "tile_height": _pattern("tileHeight", "pixels of a tile's column"),
    "size_x": _pattern("sizeX", "pixels of a row"),
    "size_y": _pattern("sizeY", "pixels of a column"),
    "fractal": flag("fractal", "of the item test: no two places look alike"),
    "monochrome": flag("monochrome", "of the item test: grey"),
    "frames": text("frames", "of the item test: a number of frames, or axes such as c=5,z=3"),
}
IMAGE = (ITEM, *PATTERN.values())
PLACE = (
    whole("z", "the level, 0 the coarsest"),
    whole("x", "the tile's column"),
    whole("y", "the tile's row"),
)
VIEW = (
    *(FRAME, STYLE, parameters.ENCODING, parameters.QUALITY, parameters.SUBSAMPLING),
    parameters.EMBED,
)
SIDES = tuple(
    integer(side, f"at most so many pixels; without either {THUMBNAIL}", 0, minimum=2, maximum=MOST_THUMBNAIL)
    for side in ("width", "height")
)
Direct: TypeAlias = PatternRef | AssociatedRef
"""What is found without the library: it names the image itself."""


@dataclass(frozen=True, slots=True)
class Ask:
    """An item, or the pattern that it is, what is wanted of it, and what the answer is saved as.

    ``keys`` remembers the answer's key, by the identity of the image.
    """

    item: str | Direct
    wanted: Request
    saved: Saved | None = None
    keys: dict[str, str] = field(default_factory=dict, compare=False)


async def body(request: web.Request, name: str, most: int) -> bytes:
    """Return the whole body of a request; LimitExceeded where it is longer than ``most`` bytes."""
    body = await request.content.read(most + 1)
    while not request.content.at_eof() and len(body) <= most:
        body += await request.content.read(most + 1)
    if len(body) > most:
        raise LimitExceeded(f"{name}: at most {most} bytes")
    return body


async def image_of(state: State, item: str | Direct) -> Image:
    """Return the image of an item, as its file is now."""
    reference: Reference = (await state.library.item(item)).ref if isinstance(item, str) else item
    return await state.engine.image(reference)


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
    return Ask(
        item,
        TileRequest(z, x, y, await view(request, query, default), EDGE.of(query)),
        saved_as(query, f"{z}-{x}-{y}"),
    )


def _not_integer() -> int:
    raise BadRequest("x, y, and z must be integers")


async def _thumbnail(request: web.Request) -> Ask:
    query = parameters.single(request.query)
    sides = _sides(query)
    wanted = ThumbnailRequest(*sides, await view(request, query, "JPEG"))
    return Ask(item_of(request, query), wanted, saved_as(query, "thumbnail"))


def _sides(query: dict[str, str]) -> tuple[int, int]:
    """Return the (width, height) to fit into; a side that is not given hardly limits."""
    given = {side.name: side.of(query) for side in SIDES if side.name in query}
    for side, length in given.items():
        if length < 2:
            raise BadRequest(f"Invalid width or height.  Minimum value is 2.  ({side}: got {length})")
    if not given:
        return THUMBNAIL, THUMBNAIL
    other = min(ASPECT * max(given.values()), MOST_THUMBNAIL)
    return given.get("width", other), given.get("height", other)


async def view(request: web.Request, query: Mapping[str, str], default: str) -> View:
    """Return the view that a query describes."""
    frame = FRAME.given(query)
    look = await _style(request, query)
    return View(frame or 0, look, frame is not None, parameters.encoding(query, default))


async def _style(request: web.Request, query: Mapping[str, str]) -> Style | None:
    if STYLE.name not in query:
        return None
    text = STYLE.of(query)
    state = request.app[STATE]
    if text.startswith("@"):
        stored = await state.engine.reading_room.run(state.styles.get, text[1:65])
        if stored is None:
            raise BadStyle(f"style: no style was posted under the id {text[1:65]!r}")
        text = stored
    if len(text) <= SHORT_STYLE:
        return style.parse_text(text)
    return await state.engine.reading_room.run(style.parse_text, text)  # not on the loop: it takes a while


def item_of(request: web.Request, query: Mapping[str, str]) -> str | PatternRef:
    """Return the id in the path, or the pattern that the query describes."""
    item = ITEM.of(request.match_info)
    return pattern(query) if item == TEST_ITEM else item


def pattern(query: Mapping[str, str]) -> PatternRef:
    """Return the test pattern that a query describes; large_image's names of parameters."""
    given = {ours: parameter.given(query) for ours, parameter in PATTERN.items()}
    return PatternRef(**{ours: value for ours, value in given.items() if value is not None})
