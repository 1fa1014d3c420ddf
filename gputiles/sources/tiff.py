"""The TIFF family as a source: TIFF, BigTIFF, OME-TIFF, SVS, SCN, QPTIFF, NDPI, ImageJ stacks."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from typing import Any

from gputiles.backends import Chunk, ChunkCodec, DecodeJob
from gputiles.errors import GputilesError, NotFound
from gputiles.geometry import Grid, Rect, covering, unit_sizes
from gputiles.image import Alpha, Colour
from gputiles.sources import jpeg, no_picture
from gputiles.sources.book import Book, read_book
from gputiles.sources.bytesource import ByteSource, Versioned
from gputiles.sources.chunks import chunk_place, read_chunks, unit_tiles
from gputiles.sources.codec import choose
from gputiles.sources.facts import choose_grid, has_profile, read_info
from gputiles.sources.imagecodec import JpegCodec
from gputiles.sources.imagej import imagej_layout
from gputiles.sources.instruments import instrument_layout
from gputiles.sources.internals import read_internals
from gputiles.sources.layout import Layout, Stack, fits
from gputiles.sources.neighbours import Neighbours
from gputiles.sources.ome import is_ome
from gputiles.sources.ome_layout import ome_layout
from gputiles.sources.page import Page, Photometric
from gputiles.sources.scn import is_scn, scn_layout
from gputiles.sources.shaped import is_shaped, shaped_layout
from gputiles.sources.vendors import NDPI_LENS, ndpi_layout, qptiff_layout, svs_layout

_SOFTWARE = 305


class TiffSource:
    """An open file of the TIFF family; see ``Source``."""

    def __init__(self, source: ByteSource, layout: Layout) -> None:
        self._sources = (source, *layout.sources)
        self.paths: tuple[Versioned, ...] = (*source.places, *layout.paths)
        self.descriptors = sum(bool(each.places) for each in self._sources)
        grid = choose_grid(layout.lead)
        self._stacks = _by_level(layout, grid.levels)
        masks = {id(level): mask for level, mask in zip(layout.levels, layout.masks, strict=False)}
        self._masks = {z: masks[id(stack)] for z, stack in self._stacks.items() if id(stack) in masks}
        self._codecs: dict[int, ChunkCodec] = {}
        codecs: dict[ChunkCodec, ChunkCodec] = {}
        for z in list(self._stacks):
            self._adopt_level(z, grid.levels - 1, codecs)
        stored = tuple(z in self._stacks for z in range(grid.levels))
        leads = {z: next(page for page in stack if page is not None) for z, stack in self._stacks.items()}
        self._sizes = {z: page.size for z, page in leads.items()}
        shared = {z: unit_tiles(page, grid, z) for z, page in leads.items()}
        self.info = replace(read_info(layout, grid, stored), units=unit_sizes(grid, shared))

    def _adopt_level(self, z: int, full: int, codecs: dict[ChunkCodec, ChunkCodec]) -> None:
        """Choose the codecs of a level; a smaller level that is not readable is made instead."""
        try:
            for page in (*self._stacks[z], *self._masks.get(z, ())):
                if page is not None:
                    codec = choose(page)
                    self._codecs[id(page)] = codecs.setdefault(codec, codec)
        except GputilesError:
            if z == full:
                raise
            del self._stacks[z]

    def read(self, frame: int, z: int, unit: Rect) -> DecodeJob:
        """Read the chunks of the tiles in ``unit``.

        Raises NotFound for a frame that the file lacks or a level that is not stored.
        """
        page = self.page(frame, z)
        tiles, area = _places(self.info.grid, z, unit, page.size)
        return DecodeJob(
            chunks=read_chunks(page, self._codecs[id(page)], area),
            tiles=tiles,
            level=page.size,
            samples=self.info.samples,
            dtype=self.info.dtype,
            fill=self.info.nodata or 0,
            mask=self._read_mask(frame, z, area),
        )

    def _read_mask(self, frame: int, z: int, area: Rect) -> tuple[Chunk, ...]:
        """Read the chunks of the frame's transparency mask, if it has one."""
        mask = self._masks[z][frame] if z in self._masks else None
        return () if mask is None else read_chunks(mask, self._codecs[id(mask)], area)

    def page(self, frame: int, z: int) -> Page:
        """Return the page that holds a frame at a stored level; NotFound where there is none."""
        stack = self._stacks.get(z)
        if stack is None:
            raise NotFound(f"level {z} is not stored")
        self.info.check_frame(frame)
        page = stack[frame]
        if page is None:
            raise NotFound(f"frame {frame} is described in the file's metadata but is not in the file")
        return page

    def passthrough(self, frame: int, z: int, x: int, y: int) -> bytes | None:
        """Return a complete JPEG stream that *is* tile (x, y), or None."""
        if z not in self._stacks or z in self._masks:
            return None
        page = self.page(frame, z)
        grid, codec = self.info.grid, self._codecs[id(page)]
        place = Rect(x * grid.tile_width, y * grid.tile_height, grid.tile_width, grid.tile_height)
        if not isinstance(codec, JpegCodec) or not self._is_plain(page):
            return None
        inside = place.right <= page.width and place.bottom <= page.height and grid.rect(z, x, y) == place
        if not inside or chunk_place(page, x, y) != place:
            return None
        (chunk,) = read_chunks(page, codec, place)
        if not isinstance(chunk.data, bytes):
            return None
        try:
            return _publish(jpeg.splice(chunk.data, codec.tables), codec, place)
        except GputilesError:  # the ordinary way says what is wrong with it
            return None

    def _is_plain(self, page: Page) -> bool:
        """Whether a page's streams show by themselves what the page shows."""
        grey = page.samples == 1 and page.photometric is Photometric.BLACK_IS_ZERO
        rgb = page.samples == 3 and page.colour is Colour.RGB and not page.separate
        lead = self._stacks[self.info.levels - 1][0] or page
        profiled = has_profile(page) or has_profile(lead)
        plain = page.orientation == 1 and lead.orientation == 1 and self.info.alpha is Alpha.NONE
        return (grey or rgb) and plain and page.tiled and not page.header and page.bits == 8 and not profiled

    def internals(self) -> dict[str, Any]:
        """Return the texts of the file."""
        return read_internals(self._sources[0], self.info.format)

    def is_current(self) -> bool:
        """Say whether the open files are those at their paths."""
        return all(source.is_current() for source in self._sources)

    def close(self) -> None:
        """Close the file and its companions."""
        for source in self._sources:
            source.close()


@lru_cache(maxsize=256)
def _places(grid: Grid, z: int, unit: Rect, size: tuple[int, int]) -> tuple[tuple[Rect, ...], Rect]:
    """Return the tiles of a unit, and what they need of a level of ``size``: the same in every frame."""
    tiles = tuple(grid.rect(z, x, y) for x, y in unit.cells())
    return tiles, covering(tiles, size)


def _publish(stream: bytes, codec: JpegCodec, place: Rect) -> bytes | None:
    header = jpeg.read_header(stream)
    if (header.width, header.height) != (place.width, place.height):
        return None
    if len(header.components) != codec.frame.samples:
        return None
    return jpeg.publish(stream, codec.said_rgb)


def _by_level(layout: Layout, levels: int) -> dict[int, Stack]:
    """Return {z: pages} of the levels that the grid has; the first that fits serves."""
    full = layout.lead.size
    stacks = {levels - 1: layout.levels[0]}
    for stack in layout.levels[1:]:
        size = next(page.size for page in stack if page is not None)
        k = fits(full, size)
        if k is not None and k < levels:
            stacks.setdefault(levels - 1 - k, stack)
    return stacks


def open_tiff(
    source: ByteSource,
    beside: Neighbours | None,
    *,
    chunk_limit: int,
    associated: str | None = None,
) -> TiffSource:
    """Open a file of the TIFF family, or the associated picture of that name in it.

    The source's owner is then the returned TiffSource.

    Companions are looked for ``beside`` it. Raises Damaged, Unsupported or LimitExceeded with the
    reason; then the caller closes ``source``.
    """
    book = read_book(source, chunk_limit)
    layout = read_layout(book, beside)
    try:
        return TiffSource(source, layout if associated is None else _picture(layout, associated))
    except BaseException:
        for companion in layout.sources:
            companion.close()
        raise


def _picture(layout: Layout, name: str) -> Layout:
    """Return the layout of an associated picture alone; NotFound where there is none of the name."""
    picture = layout.associated.get(name)
    if picture is None:
        raise no_picture(name)
    return replace(picture, sources=layout.sources, paths=layout.paths)


def read_layout(book: Book, beside: Neighbours | None) -> Layout:
    """Return the layout in the manner of the program that wrote the file."""
    description = book.first.text(270)
    head = description[:4096].lstrip("\ufeff \r\n\t")
    if is_ome(description):
        return ome_layout(book, description, beside)
    if head.startswith("ImageJ="):
        return imagej_layout(book)
    if is_shaped(head):
        return shaped_layout(book)
    if is_scn(description):
        return scn_layout(book)
    if head.startswith("Aperio"):
        return svs_layout(book)
    if NDPI_LENS in book.first:
        return ndpi_layout(book)
    if "PerkinElmer-QPI" in head or book.first.text(_SOFTWARE).startswith("PerkinElmer-QPI"):
        return qptiff_layout(book)
    return instrument_layout(book)
