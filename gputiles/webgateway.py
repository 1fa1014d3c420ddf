"""OMERO.web's webgateway: what its requests mean for an image.

Resolution 0 of ``tile=`` is full resolution, as in OMERO.web (which counts from there, while
OMERO's own rendering engine, and ``z`` here, count from the coarsest). The last resolution is
the level that one tile covers.
"""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

from gputiles import omero, settings
from gputiles.encoded import UPRIGHT, Edge, Encoding
from gputiles.errors import BadRequest, LimitExceeded, NotFound
from gputiles.geometry import Rect
from gputiles.grammar import MOST_BANDS, Style, parse_text
from gputiles.image import Alpha, ImageInfo
from gputiles.omero import Shown
from gputiles.projections import Projection
from gputiles.request import RegionRequest, TileRequest, View
from gputiles.settings import Setting
from gputiles.webquery import ChannelQuery, CodomainMap, Position, ProjectionQuery, Rendering, integers


def position_frame(info: ImageInfo, position: Position) -> int:
    """Return the frame of the first channel at a position; NotFound where there is none."""
    lengths, strides, frame = dict(info.axes), info.strides(), 0
    for axis, at in (("Z", position.z), ("T", position.t)):
        if at >= lengths.get(axis, 1):
            raise NotFound(f"{axis.lower()}: expected 0 to {lengths.get(axis, 1) - 1}; got {at}")
        frame += at * strides.get(axis, 0)
    return frame


def needs_defaults(rendering: Rendering, encoding: Encoding) -> bool:
    """Say whether a view needs the channels' own settings, which may have to be measured.

    Without any rendering setting it is the default look, but not where the encoding would then hold
    the stored values.
    """
    if rendering == Rendering():
        return encoding.format.holds_values
    return not rendering.complete


def view(
    info: ImageInfo,
    position: Position,
    rendering: Rendering,
    defaults: tuple[Setting, ...],
    encoding: Encoding,
) -> View:
    """Return the view that a request asks for; ``defaults`` fill in what it leaves out.

    Images with a colour map are shown through it, whatever the rendering.
    """
    frame = position_frame(info, position)
    if info.colormap is not None and encoding.format.holds_values:
        return View(frame, parse_text("{}"), encoding=encoding)
    if info.colormap is not None or (rendering == Rendering() and not defaults):
        return View(frame, None, encoding=encoding)
    first, projection = _projection(info, position, rendering.projection)
    style = _style(info, first, rendering, defaults)
    if not style.bands:  # nothing is shown of any plane
        return View(first, style, encoding=encoding)
    _check_planes(style, projection)
    return View(first, style, encoding=encoding, projection=projection)


def _projection(
    info: ImageInfo, position: Position, query: ProjectionQuery | None
) -> tuple[int, Projection | None]:
    """Return the frame that is shown, or that a stack begins with; one plane is itself in any projection."""
    if query is None:
        return position_frame(info, position), None
    last = dict(info.axes).get("Z", 1) - 1
    start, end = query.start or 0, last if query.end is None else query.end
    first, final = (position_frame(info, replace(position, z=z)) for z in (start, end))
    if first == final:
        return first, None
    return first, Projection(query.kind, end - start + 1, info.strides()["Z"])


def _check_planes(style: Style, projection: Projection | None) -> None:
    """Raise LimitExceeded where more planes take part than a style may have bands."""
    planes = 0 if projection is None else len(style.bands or ()) * projection.depth
    if planes > MOST_BANDS:
        raise LimitExceeded(f"p: at most {MOST_BANDS} planes; got {planes}")


def _style(info: ImageInfo, frame: int, rendering: Rendering, defaults: tuple[Setting, ...]) -> Style:
    """Return the style that shows the active channels of the planes beside ``frame``, the first one's."""
    shown = _shown(info, rendering, defaults)
    if rendering.grey:
        shown = [(channel, omero.grey(entry)) for channel, entry in shown[:1]]
    bands = [omero.band(_place(info, frame, channel), entry) for channel, entry in shown]
    if bands and info.alpha is not Alpha.NONE:
        bands.append({"band": "alpha", "frame": bands[0]["frame"], "min": 0, "max": "full"})
    return parse_text(json.dumps({"bands": bands}))


def _place(info: ImageInfo, frame: int, channel: int) -> dict[str, Any]:
    found, sample = settings.place(info, frame, channel)
    return {"frame": found, "band": sample + 1}


def _shown(info: ImageInfo, rendering: Rendering, defaults: tuple[Setting, ...]) -> list[tuple[int, Shown]]:
    """Return the active channels, from 0 on, and how each is shown."""
    channels = rendering.channels
    if channels is None:
        channels = tuple(ChannelQuery(at, entry.active) for at, entry in enumerate(defaults))
    count = settings.count(info)
    beyond = next((entry.channel for entry in channels if entry.channel >= count), None)
    if beyond is not None:
        raise BadRequest(f"c: this image has the channels 1 … {count}; got {beyond + 1}")
    maps = (*rendering.maps, *[CodomainMap()] * (len(channels) - len(rendering.maps)))
    found = []
    for entry, codomain in zip(channels, maps, strict=False):
        if entry.active:
            colour = entry.colour or (defaults[entry.channel].colour if defaults else omero.WHITE)
            window = entry.window or defaults[entry.channel].window
            found.append((entry.channel, Shown(colour, window, codomain.inverted, codomain.power)))
    return found


# -- what part of the image


def tile(info: ImageInfo, text: str, shown: View) -> TileRequest | RegionRequest:
    """Return the tile that ``res,x,y`` or ``res,x,y,w,h`` means; sizes up to 0 are the image's own.

    Tiles at the rim are cropped. A picture that is flipped is flipped as a whole, so that
    tile 0, 0 shows another part of it. Raises NotFound where there is no such tile.
    """
    numbers = integers("tile", "res,x,y or res,x,y,w,h", text, (3, 5))
    resolution, x, y, *sides = numbers
    if min(resolution, x, y) < 0:
        raise BadRequest(f"tile: expected integers from 0 on; got {text[:64]!r}")
    own = info.tile_width, info.tile_height
    width, height = (side if side > 0 else usual for side, usual in zip(sides or own, own, strict=True))
    z = info.levels - 1 - resolution
    if z < 0:
        raise NotFound(f"tile: this image has the resolutions 0 … {info.levels - 1}; got {resolution}")
    if (width, height) == own and shown.encoding.turn == UPRIGHT:
        info.grid.check(z, x, y)
        return TileRequest(z, x, y, shown, Edge(crop=True))
    found = _part(info, z, Rect(x * width, y * height, width, height), shown)
    if found is None:
        raise NotFound(f"tile: resolution {resolution} has no tile {x}, {y} of {width} x {height} pixels")
    return found


def region(info: ImageInfo, text: str, shown: View) -> RegionRequest:
    """Return the part ``x,y,w,h`` of full resolution, cropped to the image."""
    x, y, width, height = integers("region", "x,y,w,h", text, (4,))
    if width < 1 or height < 1:
        raise BadRequest(f"region: expected at least one pixel; got {text[:64]!r}")
    found = _part(info, info.levels - 1, Rect(x, y, width, height), shown)
    if found is None:
        raise BadRequest(f"region: nothing of the image is in {text[:64]!r}")
    return found


def whole(info: ImageInfo, shown: View) -> RegionRequest:
    """Return the whole image at full resolution."""
    return RegionRequest(info.whole, info.width, info.height, shown)


def _part(info: ImageInfo, z: int, rect: Rect, shown: View) -> RegionRequest | None:
    """Return a rectangle of level ``z`` of the picture as it is flipped; None outside of it."""
    width, height = info.grid.size(z)
    inside = rect.intersect(Rect(0, 0, width, height))
    if inside is None:
        return None
    turn, scale = shown.encoding.turn, 1 << (info.levels - 1 - z)
    down = turn.quarter == 2
    left = width - inside.right if turn.mirror != down else inside.x
    top = height - inside.bottom if down else inside.y
    right, bottom = min((left + inside.width) * scale, info.width), (top + inside.height) * scale
    place = Rect(left * scale, top * scale, right - left * scale, min(bottom, info.height) - top * scale)
    return RegionRequest(place, inside.width, inside.height, shown)
