"""A synthetic image that needs no file: every tile shows where it lies."""

from __future__ import annotations

import re
import struct
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gputiles.backends import Chunk, DecodeJob
from gputiles.errors import BadRequest
from gputiles.geometry import Grid, Rect
from gputiles.image import Channel, Colour, ImageInfo
from gputiles.sources.bytesource import Versioned
from gputiles.sources.facts import frames_of

_PLACE = struct.Struct("<IIIII")  # frame, log2 of the scale, left, top, checker side
LIMITS = {
    "minLevel": (0, 30), "maxLevel": (0, 20), "tileWidth": (1, 4096), "tileHeight": (1, 4096),
    "sizeX": (1, 1 << 30), "sizeY": (1, 1 << 30),
}  # fmt: skip
_MOST_FRAMES = 10_000
_CHECKER = 16


@dataclass(frozen=True, slots=True)
class PatternRef:
    """The parameters of a pattern, as large_image's ``test`` item takes them; hashable.

    ``max_level`` sets the size where ``size_x`` or ``size_y`` is None. Levels below
    ``min_level`` are not "stored": they have to be made. ``frames`` is a number or axes
    such as ``c=5,z=3`` (the first is the fastest). ``fractal`` makes the checker depend on
    the bits of the position, so that no two places look alike.
    """

    min_level: int = 0
    max_level: int = 9
    tile_width: int = 256
    tile_height: int = 256
    size_x: int | None = None
    size_y: int | None = None
    fractal: bool = False
    frames: str = ""
    monochrome: bool = False

    @property
    def part(self) -> str:
        """Nothing: the image is the file's own."""
        return ""

    def open(self, chunk_limit: int) -> PatternSource:
        """Make the source. Raises BadRequest for an impossible parameter."""
        return PatternSource(self)


@dataclass(frozen=True, slots=True)
class PatternCodec:
    """Draws a tile; the "stored bytes" say where it lies."""

    fractal: bool
    samples: int
    width: int
    height: int
    compression: int = -1

    def decode(self, data: bytes, width: int, height: int) -> NDArray[Any]:
        """Draw (height, width, samples) uint8."""
        frame, shift, left, top, side = _PLACE.unpack(data)
        x = (left + np.arange(width, dtype=np.int64)) << shift
        y = (top + np.arange(height, dtype=np.int64)) << shift
        across = (x * 255 // max(self.width - 1, 1)).clip(0, 255).astype(np.uint8)
        down = (y * 255 // max(self.height - 1, 1)).clip(0, 255).astype(np.uint8)
        checker = self._checker(x // (side << shift), y // (side << shift), frame)
        if self.samples == 1:
            return np.atleast_3d(across[np.newaxis, :] ^ down[:, np.newaxis] ^ checker)
        pixels = np.empty((height, width, 3), np.uint8)
        pixels[..., 0] = across
        pixels[..., 1] = down[:, np.newaxis]
        pixels[..., 2] = checker
        return pixels

    def _checker(self, columns: NDArray[np.int64], rows: NDArray[np.int64], frame: int) -> NDArray[np.uint8]:
        mixed = columns[np.newaxis, :] ^ rows[:, np.newaxis]
        value = mixed * 37 if self.fractal else (mixed & 1) * 128
        return ((value + 59 * frame) & 255).astype(np.uint8)


class PatternSource:
    """The pattern as a source; see ``Source``."""

    def __init__(self, pattern: PatternRef) -> None:
        _check(pattern)
        self._pattern = pattern
        self.paths: tuple[Versioned, ...] = ()
        self.descriptors = 0
        width = pattern.size_x or pattern.tile_width << pattern.max_level
        height = pattern.size_y or pattern.tile_height << pattern.max_level
        grid = Grid(width, height, pattern.tile_width, pattern.tile_height)
        told = parse_axes(pattern.frames)
        axes = tuple(axis for axis in told if axis[1] > 1)
        samples = 1 if pattern.monochrome else 3
        self._codec = PatternCodec(pattern.fractal, samples, width, height)
        lowest = min(pattern.min_level, grid.levels - 1)
        self.info = ImageInfo(
            grid=grid,
            stored=tuple(z >= lowest for z in range(grid.levels)),
            dtype=np.dtype(np.uint8),
            samples=samples,
            colour=Colour.GREY if pattern.monochrome else Colour.RGB,
            frames=frames_of(axes),
            axes=axes,
            channels=tuple(Channel(f"Channel {index}") for index in range(dict(told).get("C", 0))),
            format="pattern",
        )

    def read(self, frame: int, z: int, unit: Rect) -> DecodeJob:
        """Return the job that draws the tiles of ``unit``."""
        self.info.check_frame(frame)
        tiles = tuple(self.info.grid.rect(z, x, y) for x, y in unit.cells())
        shift = self.info.levels - 1 - z
        chunks = (
            Chunk(self._codec, _PLACE.pack(frame, shift, tile.x, tile.y, _CHECKER), tile) for tile in tiles
        )
        return DecodeJob(tuple(chunks), tiles, self.info.grid.size(z), self.info.samples, self.info.dtype)

    def passthrough(self, frame: int, z: int, x: int, y: int) -> bytes | None:
        """Return None: nothing is stored."""
        return None

    def internals(self) -> dict[str, Any]:
        """Return the parameters of the pattern."""
        return {"tilesource": "test", "format": self.info.format, "pattern": asdict(self._pattern)}

    def is_current(self) -> bool:
        """Return True: there is no file that could change."""
        return True

    def close(self) -> None:
        """Do nothing: there is no file."""


def parse_axes(text: str) -> tuple[tuple[str, int], ...]:
    """Return the axes that ``text`` asks for: '' none, '5' as Z, 'c=5,z=3' by name, fastest first.

    Raises BadRequest, saying what is allowed.
    """
    if not text or text == "0":
        return ()
    if text.isdecimal():
        text = f"z={text}"
    axes: dict[str, int] = {}
    for part in text.split(","):
        match = re.fullmatch(r"\s*([A-Za-z]{1,8})\s*=\s*(\d{1,5})\s*", part)
        if match is None or int(match[2]) < 1 or match[1].upper() in axes:
            raise BadRequest(f"frames: expected a number or axes such as c=5,z=3; got {text[:80]!r}")
        axes[match[1].upper()] = int(match[2])
    if np.prod(list(axes.values()), dtype=object) > _MOST_FRAMES:
        raise BadRequest(f"frames: at most {_MOST_FRAMES} frames; got {text[:80]!r}")
    return tuple(axes.items())


def _check(pattern: PatternRef) -> None:
    values = (
        pattern.min_level, pattern.max_level, pattern.tile_width, pattern.tile_height,
        1 if pattern.size_x is None else pattern.size_x, 1 if pattern.size_y is None else pattern.size_y,
    )  # fmt: skip
    for (name, (low, high)), value in zip(LIMITS.items(), values, strict=True):
        if not low <= value <= high:
            raise BadRequest(f"{name}: expected {low} to {high}; got {value}")
