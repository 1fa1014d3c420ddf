"""Textures of frames: which sheets a viewer fetches to flip through an image's frames at once.

A viewer such as GeoJS shows each frame as a quad, cut out of a texture: a sheet of frames (see
``frames.py``). The plan finds the largest size of a frame with which all of them fit into the
textures that are allowed. Keys and coordinates are those of large_image's ``quad_info``.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from gputiles.errors import BadRequest, LimitExceeded
from gputiles.frames import MOST_PIXELS
from gputiles.geometry import ceil_div
from gputiles.image import ImageInfo
from gputiles.metadata import describe
from gputiles.regions import RegionQuery, resolve

FORMAT = {"encoding": "JPEG", "jpegQuality": 85, "jpegSubsampling": 1}
FILL = "corner:black"
AXES = ("c", "z", "t", "xy")


@dataclass(frozen=True, slots=True)
class QuadQuery:
    """What is asked for.

    ``base``, ``stride`` and ``group`` are numbers of frames, or the name of an axis (``c``,
    ``z``, ``t``, ``xy``), which is its length; a base that is an axis asks for the sheets of every
    base below its length. Where there are several textures, each holds a multiple of ``group``
    frames, unless that makes a frame's area smaller by more than ``group_factor``; the
    frames are then dealt out in steps of ``group_stride`` (``auto``: the group / the stride).

    A texture is at most ``texture_size`` pixels on a side; all ``textures`` together have at
    most ``total_pixels``. Cells are multiples of ``alignment`` pixels, so that the blocks of a
    JPEG belong to one frame, and at most ``frame_size`` on a side. ``format`` and
    ``parameters`` go on to the sheets.
    """

    format: Mapping[str, Any] = field(default_factory=lambda: FORMAT)
    parameters: Mapping[str, Any] = field(default_factory=dict)
    base: int | str = 0
    stride: int | str = 1
    group: int | str = 1
    group_factor: float = 4
    group_stride: int | str = 1
    texture_size: int = 8192
    textures: int = 1
    total_pixels: int = 1 << 30
    alignment: int = 16
    frame_size: int | None = None


NAMES = {
    "format": "format", "parameters": "query", "base": "frameBase", "stride": "frameStride",
    "group": "frameGroup", "group_factor": "frameGroupFactor", "group_stride": "frameGroupStride",
    "texture_size": "maxTextureSize", "textures": "maxTextures", "total_pixels": "maxTotalTexturePixels",
    "alignment": "alignment", "frame_size": "maxFrameSize",
}  # fmt: skip
"""What large_image calls the parts of a QuadQuery."""


@dataclass(frozen=True, slots=True)
class Plan:
    """How frames are laid out: the ``picture`` in a ``cell`` (width, height), cells ``across``.

    A texture holds at most ``each`` frames.
    """

    picture: tuple[int, int]
    cell: tuple[int, int]
    across: int
    each: int


def quad_info(asked: QuadQuery, info: ImageInfo) -> dict[str, Any]:
    """Return the sheets to fetch and the quads to cut out of them, ready for JSON.

    Where the base is an axis, only the sheets are told. Raises BadRequest for impossible
    numbers, LimitExceeded where the frames do not fit.
    """
    query = _numbers(asked, info)
    head = {"metadata": describe(info), "options": _options(query)}
    if not isinstance(query.base, str):
        return head | _textures(query, info)
    bases = [replace(query, base=base) for base in range(_length("frameBase", query.base, info))]
    return head | {"src": [sheet for base in bases for sheet in _textures(base, info)["src"]]}


def _textures(query: QuadQuery, info: ImageInfo) -> dict[str, Any]:
    frames = _frames(query, info)
    plan = plan_of(query, info, len(frames))
    if len(frames) > plan.each and query.group != 1:
        step = int(query.group_stride)
        frames = [frame for first in range(step) for frame in frames[first::step]]
    parts = [frames[at : at + plan.each] for at in range(0, len(frames), plan.each)]
    whole = frames == list(range(len(info.frames))) and len(parts) == 1
    return {
        "src": [_sheet(query, plan, part, whole=whole) for part in parts],
        "quads": [quad for part in parts for quad in _quads(plan, info, len(part))],
        "quadsToIdx": [texture for texture, part in enumerate(parts) for _ in part],
        "frames": frames,
        "framesToIdx": {str(frame): at for at, frame in enumerate(frames)},
        "minLevel": _level(plan, info),
    }


def _frames(query: QuadQuery, info: ImageInfo) -> list[int]:
    """Return the frames that are wanted and that the file has."""
    wanted = range(int(query.base), len(info.frames), int(query.stride))
    frames = [frame for frame in wanted if frame not in info.missing]
    if not frames:
        raise BadRequest(
            f"frameBase: expected a frame that is there, below {len(info.frames)}; got {query.base}"
        )
    return frames


def plan_of(query: QuadQuery, info: ImageInfo, count: int) -> Plan:
    """Return the plan by which ``count`` frames are largest.

    Raises LimitExceeded where the frames do not fit, however small.
    """
    side = query.texture_size
    textures = max(1, min(query.textures, query.total_pixels // side**2))
    each, group = ceil_div(count, textures), int(query.group)
    cell = _largest(query, info, each)
    if cell is None:
        raise LimitExceeded(
            f"quad_info: {count} frames do not fit into {textures} x {side} x {side} pixels "
            f"with an alignment of {query.alignment}"
        )
    if each < count and group > 1:
        grouped = _largest(query, info, ceil_div(each, group) * group)
        if grouped is not None and math.prod(cell) <= query.group_factor * math.prod(grouped):
            return _filled(grouped, info, side, count, group)
    return _filled(cell, info, side, count, 1)


def _largest(query: QuadQuery, info: ImageInfo, count: int) -> tuple[int, int] | None:
    """Return the cell that shows frames largest, of ``count`` in a texture; None where none fits."""
    step, side = query.alignment, query.texture_size
    most = [min(ceil_div(full, step) * step, query.frame_size or full + step) for full in _size(info)]
    cells = set()
    for across in range(1, count + 1):
        room = side // across, side // ceil_div(count, across)
        width, height = (min(whole) // step * step for whole in zip(room, most, strict=True))
        if width and height:
            shown = _shown(info, (width, height))
            cells.add((ceil_div(shown[0], step) * step, ceil_div(shown[1], step) * step))
    return max(cells, key=lambda cell: (math.prod(_shown(info, cell)), cell), default=None)


def _filled(cell: tuple[int, int], info: ImageInfo, side: int, count: int, group: int) -> Plan:
    """Return the plan of cells of one size: textures hold what they can, and are near to squares."""
    columns, rows = side // cell[0], side // cell[1]
    each = min(count, columns * rows // group * group)
    shapes = [
        (max(across * cell[0], down * cell[1]), across * down, across)
        for across in range(1, min(columns, each) + 1)
        if (down := ceil_div(each, across)) <= rows
    ]
    return Plan(_shown(info, cell), cell, min(shapes)[2], each)


def _size(info: ImageInfo) -> tuple[int, int]:
    return info.width, info.height


def _shown(info: ImageInfo, cell: tuple[int, int]) -> tuple[int, int]:
    """Return the size of the picture that a sheet has in a cell."""
    region = resolve(RegionQuery(width=cell[0], height=cell[1]), info)
    return region.width, region.height


def _sheet(query: QuadQuery, plan: Plan, frames: list[int], *, whole: bool) -> dict[str, Any]:
    """Return the parameters of ``tile_frames`` that give a texture."""
    return {
        "framesAcross": min(plan.across, len(frames)),
        "width": plan.cell[0],
        "height": plan.cell[1],
        "fill": FILL,
        "exact": False,
        **({} if whole else {"frameList": frames}),
        **query.format,
        **query.parameters,
    }


def _quads(plan: Plan, info: ImageInfo, count: int) -> list[dict[str, Any]]:
    """Return the quads of a texture: where in the image, and what to cut out of the texture.

    y grows upwards in both, as in a viewer's space: the texture's lowest row has ``top`` 0.
    """
    across = min(plan.across, count)
    place = {"ul": {"x": 0, "y": 0, "z": -1}, "lr": {"x": info.width, "y": -info.height, "z": -1}}
    rows = ceil_div(count, across)
    quads = []
    for row, column in (divmod(at, across) for at in range(count)):
        left, bottom = column * plan.cell[0], (rows - row) * plan.cell[1]
        cut = {
            "left": left,
            "top": bottom - plan.picture[1],
            "right": left + plan.picture[0],
            "bottom": bottom,
        }
        quads.append({**place, "crop": {"x": info.width, "y": info.height, **cut}})
    return quads


def _level(plan: Plan, info: ImageInfo) -> int:
    """Return the finest level that is no finer than the quads are."""
    width, height = plan.picture
    sizes = [info.grid.size(z) for z in range(info.levels)]
    return max((z for z, size in enumerate(sizes) if size[0] <= width and size[1] <= height), default=0)


def _numbers(asked: QuadQuery, info: ImageInfo) -> QuadQuery:
    """Return the query with lengths for axes and a texture that ``tile_frames`` would make."""
    stride = _count("frameStride", asked.stride, info)
    group = _count("frameGroup", asked.group, info)
    dealt = asked.group_stride
    if dealt == "auto":
        dealt = group // stride if group % stride == 0 else 1
    side = min(asked.texture_size, math.isqrt(min(asked.total_pixels, MOST_PIXELS)))
    base = asked.base if isinstance(asked.base, str) else _count("frameBase", asked.base, info, least=0)
    if not 1 <= asked.alignment <= side:
        raise BadRequest(f"alignment: expected 1 to {side}, a texture's side; got {asked.alignment}")
    if asked.frame_size is not None and asked.frame_size < asked.alignment:
        raise BadRequest(
            f"maxFrameSize: expected at least the alignment, {asked.alignment}; got {asked.frame_size}"
        )
    dealt = _count("frameGroupStride", dealt, info)
    return replace(asked, base=base, stride=stride, group=group, group_stride=dealt, texture_size=side)


def _count(name: str, value: int | str, info: ImageInfo, least: int = 1) -> int:
    """Return a number of frames, or the length of the axis that is named."""
    if isinstance(value, str):
        return _length(name, value, info)
    if value < least:
        raise BadRequest(f"{name}: expected at least {least}, or one of {', '.join(AXES)}; got {value}")
    return value


def _length(name: str, axis: str, info: ImageInfo) -> int:
    """Return the length of an axis, 1 where the image does not have it."""
    lengths = dict(info.axes)
    if axis.lower() not in AXES and axis.upper() not in lengths:
        raise BadRequest(f"{name}: expected a number or one of {', '.join(AXES)}; got {axis[:64]!r}")
    return lengths.get(axis.upper(), 1)


def _options(query: QuadQuery) -> dict[str, Any]:
    values = asdict(query)
    return {theirs: values[ours] for ours, theirs in NAMES.items()}
