"""Sheets of frames: the same region of several frames, in the cells of a grid, as one picture."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gputiles.colours import parse_colour
from gputiles.errors import BadRequest, LimitExceeded
from gputiles.geometry import Rect, ceil_div
from gputiles.image import ImageInfo
from gputiles.regions import RegionQuery, resolve
from gputiles.request import RegionRequest, View

MOST_PIXELS = 1 << 26  # of a sheet
Pixels = NDArray[Any]


@dataclass(frozen=True, slots=True)
class Fill:
    """What lies around a region in a cell of another aspect: a colour (RGBA, 0 … 255).

    With ``corner`` the region lies in the cell's upper left corner, else in its middle.
    """

    colour: tuple[int, int, int, int]
    corner: bool = False


@dataclass(frozen=True, slots=True)
class FramesRequest:
    """``region``, in its size, of each of ``frames``: row by row, ``across`` in a row.

    Every cell is ``cell`` (width, height) pixels large, no smaller than the region. The view
    of ``region`` counts for all frames but for its own number of a frame.
    """

    region: RegionRequest
    frames: tuple[int, ...]
    across: int
    cell: tuple[int, int]
    fill: Fill | None = None

    @property
    def view(self) -> View:
        """How the frames are shown."""
        return self.region.view

    @property
    def width(self) -> int:
        """Columns of the sheet in pixels."""
        return self.across * self.cell[0]

    @property
    def height(self) -> int:
        """Rows of the sheet in pixels."""
        return ceil_div(len(self.frames), self.across) * self.cell[1]

    @property
    def place(self) -> str:
        """What tells the sheet from all others of the same view."""
        around = self.fill and f"{self.fill.colour}{self.fill.corner}"
        return f"frames|{self.frames}|{self.region.place}|{self.across}|{self.cell}|{around}"

    def rect(self, at: int) -> Rect:
        """Return the pixels of the sheet that the ``at``-th frame's region covers."""
        row, column = divmod(at, self.across)
        (width, height), region = self.cell, self.region
        corner = self.fill is None or self.fill.corner
        right, down = (0, 0) if corner else ((width - region.width) // 2, (height - region.height) // 2)
        return Rect(column * width + right, row * height + down, region.width, region.height)


def parse_fill(text: str) -> Fill | None:
    """Return what ``fill`` asks for: nothing, a colour, or ``corner:`` and a colour."""
    word = text.strip()
    if word.lower() in ("", "none", "false"):
        return None
    corner = word.lower().startswith("corner:")
    colour = parse_colour(word[len("corner:") :] if corner else word)
    if colour is None:
        raise BadRequest(f"fill: expected a colour such as black or #ddd, or corner:black; got {text[:64]!r}")
    red, green, blue, alpha = (int(part) for part in colour)
    return Fill((red, green, blue, alpha), corner)


def lay_out(
    asked: RegionQuery, info: ImageInfo, frames: Sequence[int] | None, across: int | None, fill: Fill | None
) -> FramesRequest:
    """Return the sheet of ``frames`` (None: all), as square as can be unless ``across`` says how wide.

    Cells are as large as the region; where ``fill`` colours what is left, as large as was asked for.
    Raises NotFound for frames that the image lacks, LimitExceeded beyond 2²⁶ pixels.
    """
    chosen = tuple(range(len(info.frames)) if frames is None else frames)
    for frame in chosen:
        info.check_frame(frame)
    region = resolve(asked, info)
    cell = region.width, region.height
    if fill is not None and asked.width and asked.height:
        cell = asked.width, asked.height
    columns = min(len(chosen), across or math.isqrt(len(chosen) - 1) + 1)
    return _limited(FramesRequest(region, chosen, columns, cell, fill))


def letterbox(region: RegionRequest, cell: tuple[int, int], fill: Fill) -> FramesRequest:
    """Return a region on a ground of exactly ``cell`` (width, height) pixels, which it fits into.

    Raises LimitExceeded beyond 2²⁶ pixels.
    """
    return _limited(FramesRequest(region, (region.view.frame,), 1, cell, fill))


def _limited(request: FramesRequest) -> FramesRequest:
    if request.width * request.height > MOST_PIXELS:
        raise LimitExceeded(
            f"width and height: at most {MOST_PIXELS} pixels; {len(request.frames)} frames of "
            f"{request.cell[0]} x {request.cell[1]} make {request.width} x {request.height}"
        )
    return request


def picture(request: FramesRequest, parts: Sequence[NDArray[np.uint8]]) -> NDArray[np.uint8]:
    """Return the sheet of pictures of 1 … 4 samples: grey or RGB, each with alpha or without.

    The sheet has colours, and alpha, where one of its parts or the filling has them.
    """
    red, green, blue, opacity = request.fill.colour if request.fill else (0, 0, 0, 0)
    coloured = any(part.shape[2] >= 3 for part in parts) or not red == green == blue
    alpha = any(part.shape[2] in (2, 4) for part in parts) or (request.fill is not None and opacity < 255)
    ground = [red, green, blue] if coloured else [red]
    ground += [opacity] if alpha else []
    return values(request, [_extended(part, coloured, alpha) for part in parts], ground)


def _extended(part: NDArray[np.uint8], coloured: bool, alpha: bool) -> NDArray[np.uint8]:
    """Return a picture with three colours, and with alpha, where they are wanted."""
    colours = part[..., : 1 if part.shape[2] < 3 else 3]
    layers = [np.repeat(colours, 3, axis=2) if coloured and colours.shape[2] == 1 else colours]
    if alpha:
        opaque = np.full((*part.shape[:2], 1), 255, np.uint8)
        layers.append(part[..., -1:] if part.shape[2] in (2, 4) else opaque)
    return np.concatenate(layers, axis=2)


def values(request: FramesRequest, parts: Sequence[Pixels], ground: Sequence[float] = ()) -> Pixels:
    """Return the sheet of arrays (rows, columns, samples) of one kind, on ``ground`` (else zeros)."""
    sheet = np.zeros((request.height, request.width, parts[0].shape[2]), parts[0].dtype)
    if any(ground):
        sheet[:] = ground
    for at, part in enumerate(parts):
        rect = request.rect(at)
        sheet[rect.y : rect.bottom, rect.x : rect.right] = part
    return sheet
