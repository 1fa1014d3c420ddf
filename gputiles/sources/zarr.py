"""OME-Zarr as a source: a folder of small files. The metadata and the chunks are read as they are wanted."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gputiles.backends import Chunk, DecodeJob
from gputiles.errors import Damaged, GputilesError, LimitExceeded, NotFound, Unavailable, Unsupported
from gputiles.geometry import Grid, Rect, ceil_div, covering, unit_sizes
from gputiles.image import Channel, ImageInfo, Reduction
from gputiles.sources import athand, no_picture
from gputiles.sources.bytesource import Versioned, content_version
from gputiles.sources.chunks import shared_tiles
from gputiles.sources.facts import MOST_TILE, frames_of, tile_of
from gputiles.sources.layout import MOST_FRAMES, fits
from gputiles.sources.ngff import Multiscale, read_multiscale
from gputiles.sources.zarrarray import V2_ARRAY, V2_ATTRIBUTES, V2_GROUP, V3, Array, read_array, read_json
from gputiles.sources.zarrchunks import Reader, inside
from gputiles.sources.zarrcodec import FillCodec, ZarrCodec

_MOST_SIDE = 1 << 30
_PIECED = 512  # the side of tiles that are made of smaller chunks, or more
_MOST_PIECES = 4096  # chunks, each of them a file, of such a tile


@dataclass(frozen=True, slots=True, eq=False)
class _Image:
    """A group that is an image, and what lies in it."""

    multiscale: Multiscale
    levels: tuple[Array, ...]
    metadata: tuple[Path, ...]
    warnings: tuple[str, ...]

    @property
    def lead(self) -> Array:
        return self.levels[0]

    def axes(self) -> tuple[tuple[str, int], ...]:
        """Return the axes of frames, fastest first."""
        lengths = dict(zip(self.multiscale.axes, self.lead.shape, strict=True))
        return tuple((axis, lengths[axis.lower()]) for axis in "CZT" if lengths.get(axis.lower(), 1) > 1)


class ZarrSource:
    """An OME-Zarr image; see ``Source``. No file is held open."""

    descriptors = 0

    def __init__(self, folder: Path, root: Path, image: _Image) -> None:
        self._folder, self._root, self._image = folder, root, image
        self.paths: tuple[Versioned, ...] = image.metadata
        self._version = content_version(self.paths)
        size = _size(image.lead)
        tile = tile_of(size, _chunk(image.lead))
        grid = Grid(*size, *tile)
        if math.prod(tile) * image.lead.dtype.itemsize > MOST_TILE:
            raise LimitExceeded(f"{folder.name}: a tile of {tile} pixels takes more than {MOST_TILE} bytes")
        self._levels = {grid.levels - 1: image.lead}
        for level in image.levels[1:]:
            k = fits(size, _size(level))
            if k is not None and k < grid.levels:
                self._levels.setdefault(grid.levels - 1 - k, level)
        self.info = _describe(image, grid, self._levels)

    def read(self, frame: int, z: int, unit: Rect) -> DecodeJob:
        """Read the chunks of the tiles in ``unit``; what is not stored is of the array's fill value."""
        athand.wait()  # each chunk is a file to be opened
        level = self._levels.get(z)
        if level is None:
            raise NotFound(f"level {z} is not stored")
        self.info.check_frame(frame)
        tiles = tuple(self.info.grid.rect(z, x, y) for x, y in unit.cells())
        cells = covering(tiles, _size(level)).covered_by(*_chunk(level))
        reader, indices = Reader(self._root, {}), self._indices(frame)
        chunks = tuple(_read_chunk(reader, level, indices, *cell) for cell in cells.cells())
        return DecodeJob(chunks, tiles, _size(level), 1, self.info.dtype)

    def _indices(self, frame: int) -> tuple[int, ...]:
        """Return a frame's index on each of the array's axes but the last two."""
        position = dict(self.info.frames[frame].index)
        return tuple(position.get(axis.upper(), 0) for axis in self._image.multiscale.axes[:-2])

    def passthrough(self, frame: int, z: int, x: int, y: int) -> bytes | None:
        """Return None: no chunk is a JPEG stream."""
        return None

    def internals(self) -> dict[str, Any]:
        """Return the attributes of the image's group."""
        attributes, _ = read_group(self._folder, self._root)
        return {"tilesource": "zarr", "format": self.info.format, "attributes": attributes}

    def is_current(self) -> bool:
        """Say whether the metadata files are those that were read."""
        return content_version(self.paths) == self._version

    def close(self) -> None:
        """Do nothing: no file is held open."""


def open_zarr(
    folder: Path, root: Path | None, *, chunk_limit: int, associated: str | None = None
) -> ZarrSource:
    """Open the image in a folder; links in it may not lead out of ``root``, its own folder by default.

    Raises NotFound, Damaged, Unsupported or LimitExceeded with the reason.
    """
    if associated is not None:
        raise no_picture(associated)
    folder = folder.resolve()
    root = folder if root is None else root.resolve()
    return ZarrSource(folder, root, _read_image(folder, root, chunk_limit))


def read_group(folder: Path, root: Path) -> tuple[dict[str, Any], tuple[Path, ...]]:
    """Return a group's attributes, OME's own in version 3, and the files that hold them."""
    for name in (V3, V2_ATTRIBUTES, V2_GROUP):
        inside(folder / name, root)
    found = read_json(folder / V3)
    if found is not None:
        attributes = found.get("attributes", {})
        ome = attributes.get("ome", attributes) if isinstance(attributes, dict) else None
        if not isinstance(ome, dict):
            raise Damaged(f"{folder.name}: attributes: expected an object; got {str(ome)[:80]!r}")
        return ome, (folder / V3,)
    attributes = read_json(folder / V2_ATTRIBUTES)
    if attributes is not None:
        return attributes, (folder / V2_ATTRIBUTES,)
    if (folder / V2_GROUP).exists():
        return {}, (folder / V2_GROUP,)
    raise Damaged(f"{folder.name}: a folder without metadata of Zarr: {V3}, {V2_ATTRIBUTES} or {V2_GROUP}")


def _read_image(folder: Path, root: Path, chunk_limit: int) -> _Image:
    """Return the image of a group, or the first one of a group of images."""
    attributes, metadata = read_group(folder, root)
    multiscale = read_multiscale(folder.name, attributes)
    warnings: tuple[str, ...] = ()
    if multiscale is None and "bioformats2raw.layout" in attributes:
        folder = folder / "0"
        if inside(folder, root) is None:
            raise Damaged(
                f"{folder.parent.name}: a group of images (bioformats2raw) without its first one, 0"
            )
        attributes, more = read_group(folder, root)
        multiscale, metadata = read_multiscale(folder.name, attributes), (*metadata, *more)
        if (folder.parent / "1").exists():
            warnings = ("only the first of several images, 0, is shown",)
    if multiscale is None:
        raise Unsupported(
            f"{folder.name}: a group of Zarr that describes no image (multiscales);"
            f" it has {', '.join(sorted(attributes))[:80] or 'no attributes'}"
        )
    levels, problems = _read_levels(folder, root, multiscale, chunk_limit)
    metadata = (*metadata, *(path for level in levels for path in level.metadata))
    return _Image(multiscale, levels, metadata, (*warnings, *multiscale.warnings, *problems))


def _read_levels(
    folder: Path, root: Path, multiscale: Multiscale, chunk_limit: int
) -> tuple[tuple[Array, ...], list[str]]:
    """Return full resolution and the levels that serve others, with warnings about what does not."""
    lead = _read_level(folder, root, multiscale, multiscale.paths[0], chunk_limit)
    levels, problems = [lead], []
    for path in multiscale.paths[1:]:
        try:
            level = _read_level(folder, root, multiscale, path, chunk_limit)
            _check_level(level, lead)
            levels.append(level)
        except Unavailable:  # says nothing about the file
            raise
        except GputilesError as error:
            problems.append(f"the level {path} was dropped: {error}")
    return tuple(levels), problems


def _read_level(folder: Path, root: Path, multiscale: Multiscale, path: str, chunk_limit: int) -> Array:
    for name in ("", V3, V2_ARRAY):
        inside(folder / path / name, root)
    level = read_array(folder / path)
    if len(level.shape) != len(multiscale.axes):
        raise Damaged(f"{path}: an array of {len(level.shape)} axes; they are {','.join(multiscale.axes)}")
    if max(_size(level)) > _MOST_SIDE:
        raise LimitExceeded(f"{path}: {_size(level)} pixels; most {_MOST_SIDE} a side")
    if level.chunk_bytes > chunk_limit:
        raise LimitExceeded(
            f"{path}: chunks of {level.chunks} decode to {level.chunk_bytes} bytes; most {chunk_limit}"
        )
    pieces = math.prod(
        ceil_div(min(_PIECED, size), side) for size, side in zip(_size(level), _chunk(level), strict=True)
    )
    if pieces > _MOST_PIECES:
        raise LimitExceeded(
            f"{path}: a tile would be made of {pieces} chunks of {_chunk(level)} pixels; most {_MOST_PIECES}"
        )
    frames = math.prod(level.shape[:-2])
    if frames > MOST_FRAMES:
        raise LimitExceeded(f"{path}: {frames} frames; most {MOST_FRAMES}")
    return level


def _check_level(level: Array, lead: Array) -> None:
    """Raise Unsupported for a level that is not the image made smaller by a power of two."""
    if level.shape[:-2] != lead.shape[:-2] or level.dtype != lead.dtype:
        raise Unsupported(
            f"it is of {level.shape} {level.dtype} pixels, the image of {lead.shape} {lead.dtype}"
        )
    if fits(_size(lead), _size(level)) is None:
        raise Unsupported(f"{_size(level)} is not {_size(lead)} divided by a power of two")


def _read_chunk(reader: Reader, level: Array, indices: tuple[int, ...], column: int, row: int) -> Chunk:
    """Read one chunk for one plane of it."""
    across, down = _chunk(level)
    outer = tuple(index // side for index, side in zip(indices, level.chunks[:-2], strict=True))
    plane = tuple(index % side for index, side in zip(indices, level.chunks[:-2], strict=True))
    place = Rect(column * across, row * down, across, down)
    data = reader.read(level, (*outer, row, column))
    if data is None:
        return Chunk(FillCodec(level.fill, level.dtype), b"", place)
    codec = ZarrCodec(level.steps, level.chunks, level.stored, level.dtype, level.order, plane)
    return Chunk(codec, data, place)


def _size(level: Array) -> tuple[int, int]:
    return level.shape[-1], level.shape[-2]


def _chunk(level: Array) -> tuple[int, int]:
    return level.chunks[-1], level.chunks[-2]


def _describe(image: _Image, grid: Grid, levels: Mapping[int, Array]) -> ImageInfo:
    axes, multiscale, lead = image.axes(), image.multiscale, image.lead
    pixel = lead.dtype.itemsize
    shared = {z: shared_tiles(_chunk(level), _size(level), pixel, grid, z) for z, level in levels.items()}
    label = multiscale.label or (lead.dtype.kind in "ui" and pixel >= 4)
    return ImageInfo(
        grid=grid,
        stored=tuple(z in levels for z in range(grid.levels)),
        dtype=lead.dtype,
        frames=frames_of(axes),
        axes=axes,
        channels=_channels(multiscale.channels, dict(axes).get("C", 1)),
        mm_x=multiscale.mm_x,
        mm_y=multiscale.mm_y,
        reduction=Reduction.NEAREST if label else Reduction.MEAN,
        format="OME-Zarr",
        warnings=image.warnings,
        units=unit_sizes(grid, shared),
    )


def _channels(told: tuple[Channel, ...], count: int) -> tuple[Channel, ...]:
    """Return a channel for each position on the axis; none where nothing is told of them."""
    made = (Channel(f"Channel {index}") for index in range(len(told), count))
    return (*told[:count], *made) if told else ()
