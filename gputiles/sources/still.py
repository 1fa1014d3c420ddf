"""Plain picture files as sources: PNG, JPEG, WebP, JPEG 2000. One stored level, decoded as one chunk."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from gputiles import png
from gputiles.backends import Chunk, DecodeJob
from gputiles.errors import GputilesError, LimitExceeded, NotFound
from gputiles.geometry import Grid, Rect, unit_sizes
from gputiles.image import Alpha, Colour, ImageInfo
from gputiles.sources import jp2file, jpegfile, no_picture, pngfile
from gputiles.sources.bytesource import ByteSource, Versioned, read_ranges
from gputiles.sources.facts import turned, usable_profile, usual_tile
from gputiles.sources.heads import Head, StillCodec, read_exif, read_orientation
from gputiles.sources.internals import read_texts
from gputiles.sources.layout import pixel_size
from gputiles.sources.webpfile import is_webp, read_webp

_MOST_TILES = 1 << 16  # that one decode fills
_SLACK = 1 << 25  # stored bytes beyond twice the pixels: profiles, thumbnails


class StillSource:
    """An open picture file; see ``Source``."""

    def __init__(self, source: ByteSource, head: Head) -> None:
        self._source = source
        self.paths: tuple[Versioned, ...] = source.places
        self.descriptors = int(bool(source.places))
        self._codec = StillCodec(head.format, head.measure, head.unpack, head.samples, head.dtype)
        self.info = _describe(head)

    def read(self, frame: int, z: int, unit: Rect) -> DecodeJob:
        """Read the whole file, for the tiles of ``unit``."""
        self.info.check_frame(frame)
        grid = self.info.grid
        if z != grid.levels - 1:
            raise NotFound(f"level {z} is not stored")
        (data,) = read_ranges(self._source, [(0, self._source.size)])
        chunk = Chunk(self._codec, data, Rect(0, 0, grid.width, grid.height))
        tiles = tuple(grid.rect(z, x, y) for x, y in unit.cells())
        return DecodeJob((chunk,), tiles, grid.size(z), self.info.samples, self.info.dtype)

    def passthrough(self, frame: int, z: int, x: int, y: int) -> bytes | None:
        """Return None: a picture file is no tile."""
        return None

    def internals(self) -> dict[str, Any]:
        """Return the texts of the file: its comments, and EXIF's by the names that TIFF's have."""
        head = _read(self._source)
        found: dict[str, Any] = {"tilesource": "still", "format": head.format, "comments": [*head.comments]}
        try:
            found["exif"] = {} if head.exif is None else read_texts([read_exif(head.exif)])
        except GputilesError as error:
            found["exif"] = {"error": str(error)}
        return found

    def is_current(self) -> bool:
        """Say whether the open file is the one at its path."""
        return self._source.is_current()

    def close(self) -> None:
        """Close the file."""
        self._source.close()


def is_still(source: ByteSource) -> bool:
    """Say whether a file is one that this module opens, by its first bytes."""
    return _reader(source) is not None


def open_still(source: ByteSource, *, chunk_limit: int, associated: str | None = None) -> StillSource:
    """Open a picture file; the source's owner is then the returned StillSource.

    Raises NotFound for an ``associated`` picture, as there are none, Damaged, Unsupported or
    LimitExceeded with the reason; then the caller closes ``source``.
    """
    if associated is not None:
        raise no_picture(associated)
    head = _read(source)
    if head.bytes > chunk_limit:
        raise LimitExceeded(
            f"{source.name}: a {head.format} file of {head.width}x{head.height} pixels"
            f" decodes to {head.bytes} bytes; most {chunk_limit}"
        )
    if source.size > 2 * head.bytes + _SLACK:
        raise LimitExceeded(
            f"{source.name}: {source.size} stored bytes for a picture of {head.bytes} bytes;"
            f" most {2 * head.bytes + _SLACK}"
        )
    return StillSource(source, head)


def _reader(source: ByteSource) -> Callable[[ByteSource], Head] | None:
    start = source.read_at(0, min(12, source.size))
    if is_webp(start):
        return read_webp
    signatures: tuple[tuple[bytes, Callable[[ByteSource], Head]], ...] = (
        (png.SIGNATURE, pngfile.read_png),
        (jpegfile.SIGNATURE, jpegfile.read_jpeg),
        (jp2file.BOXED, jp2file.read_jp2),
        (jp2file.BARE, jp2file.read_jp2),
    )
    return next((read for signature, read in signatures if start.startswith(signature)), None)


def _read(source: ByteSource) -> Head:
    read = _reader(source)
    if read is None:  # it was another file when it was opened
        raise NotFound(f"{source.name}: no picture file any more")
    return read(source)


def _describe(head: Head) -> ImageInfo:
    side = usual_tile((head.width, head.height))
    grid = Grid(head.width, head.height, side, side)
    full = grid.levels - 1
    columns, rows = grid.tiles(full)
    if columns * rows > _MOST_TILES:
        raise LimitExceeded(
            f"{head.width}x{head.height} pixels make {columns * rows} tiles; most {_MOST_TILES}"
        )
    warnings = list(head.warnings)
    orientation, complaint = read_orientation(head.exif)
    warnings += [*complaint, *([turned(orientation)] if orientation != 1 else [])]
    across, down = head.density or (None, None)
    return ImageInfo(
        grid=grid,
        stored=tuple(z == full for z in range(grid.levels)),
        dtype=head.dtype,
        samples=head.samples,
        colour=head.colour,
        alpha=head.alpha,
        mm_x=pixel_size(1, across),
        mm_y=pixel_size(1, down),
        significant_bits=head.significant_bits,
        format=head.format,
        profile=_profile(head, warnings),
        warnings=tuple(warnings),
        units=unit_sizes(grid, {full: (columns, rows)}),
    )


def _profile(head: Head, warnings: list[str]) -> bytes | None:
    """Return the ICC profile where it can be applied; a warning where it cannot."""
    if head.profile is None:
        return None
    if head.inks:
        warnings.append("the ICC profile is not applied: it is of inks, which are mixed without it")
        return None
    independent = head.colour is Colour.GREY and head.samples - (head.alpha is not Alpha.NONE) > 1
    unfit = "the samples are independent" if independent else ""
    unfit = unfit or ("" if head.dtype in (np.uint8, np.uint16) else f"the samples are {head.dtype}")
    return usable_profile(head.profile, head.colour, unfit, warnings)
