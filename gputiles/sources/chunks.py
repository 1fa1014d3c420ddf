"""Chunks of a page: which ones cover a rectangle, where they lie, how tiles share them."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence

from gputiles.backends import Chunk, ChunkCodec
from gputiles.errors import Damaged, GputilesError
from gputiles.geometry import Grid, Rect, ceil_div
from gputiles.sources.bytesource import ByteSource, Span, left_or_read, read_ranges
from gputiles.sources.page import Page
from gputiles.sources.planes import bind

_UNIT_BYTES = 64 * 1024**2  # most decoded bytes that tiles are read together for; one chunk may be more
_UNIT_TILES = 4096  # most tiles that are read together
_ROWS_BYTES = 16 * 1024**2  # the same where any pixels can be read by themselves
_SLACK = 256 * 1024  # stored bytes that a chunk may need beyond twice its decoded size

Item = tuple[Rect, int, int, int]  # place, sample, offset, stored bytes
Read = Callable[[ByteSource, Sequence[tuple[int, int]]], Sequence["bytes | Span | GputilesError"]]


def unit_tiles(page: Page, grid: Grid, z: int) -> tuple[int, int]:
    """Return (columns, rows) of tiles that are best read together, at level ``z``."""
    if page.rows_addressable:
        return _addressable_tiles(page, grid, grid.tiles(z)[0]), 1
    pixel = page.decoded_samples * page.dtype.itemsize
    return shared_tiles((page.chunk_width, page.chunk_height), page.size, pixel, grid, z)


def shared_tiles(
    chunk: tuple[int, int], size: tuple[int, int], pixel: int, grid: Grid, z: int
) -> tuple[int, int]:
    """Return (columns, rows) of tiles that share chunks of ``chunk`` pixels, of ``pixel`` bytes each.

    ``size`` is that of the level; both are (width, height).
    """
    columns, rows = grid.tiles(z)
    most = max(_UNIT_BYTES, _pixels(size, *chunk) * pixel)
    across = _shared(chunk[0], grid.tile_width, columns)
    down = _shared(chunk[1], grid.tile_height, rows)
    for unit in ((across, down), (across, 1), (1, down)):
        decoded = _pixels(size, unit[0] * grid.tile_width, unit[1] * grid.tile_height) * pixel
        if decoded <= most and unit[0] * unit[1] <= _UNIT_TILES:
            return unit
    return 1, 1


def _addressable_tiles(page: Page, grid: Grid, columns: int) -> int:
    """Return the tile columns of a unit of rows that are read by offset arithmetic."""
    size = _decoded(page, page.width, min(grid.tile_height, page.height))
    return columns if size <= _ROWS_BYTES and columns <= _UNIT_TILES else 1


def _shared(chunk: int, tile: int, tiles: int) -> int:
    """Return how many tiles in a row share chunks, given both lengths."""
    if tile % chunk == 0:
        return 1
    return min(tiles, chunk // tile if chunk % tile == 0 else math.lcm(chunk, tile) // tile)


def _decoded(page: Page, width: int, height: int) -> int:
    return _pixels(page.size, width, height) * page.decoded_samples * page.dtype.itemsize


def _pixels(size: tuple[int, int], width: int, height: int) -> int:
    return min(width, size[0]) * min(height, size[1])


def read_chunks(page: Page, codec: ChunkCodec, area: Rect) -> tuple[Chunk, ...]:
    """Read the chunks that cover ``area`` of a page."""
    if page.bound:
        return bind(_read(page, codec, _stored_items(page, area)), page.planes)
    if not page.rows_addressable:
        return _read(page, codec, _stored_items(page, area), left_or_read)
    strips = _row_items(page, area)
    chunks = _read(page, codec, strips)
    return tuple(
        joined
        for sample in range(page.planes)
        for joined in _join([chunk for chunk in chunks if chunk.sample == sample])
    )


def _read(
    page: Page, codec: ChunkCodec, items: Sequence[Item], read: Read = read_ranges
) -> tuple[Chunk, ...]:
    """Read items, neighbours in one read. What cannot be read becomes the chunk's error."""
    most = 2 * page.row_bytes(page.chunk_width) * page.chunk_height + _SLACK
    wanted = [item for item in items if 0 < item[3] <= most and item[2] > 0]
    outcomes = iter(read(page.source, [(offset, size) for _, _, offset, size in wanted]))
    return tuple(
        Chunk(codec, _outcome(item, most, outcomes), place=item[0], sample=item[1]) for item in items
    )


def _outcome(
    item: Item, most: int, outcomes: Iterator[bytes | Span | GputilesError]
) -> bytes | Span | GputilesError | None:
    _, _, offset, size = item
    if size == 0 or offset == 0:
        return None
    if size < 0:
        return Damaged(f"an uncompressed strip that holds fewer bytes than rows {item[0].y} and on need")
    if size > most or offset < 0:
        return Damaged(f"a chunk of {size} stored bytes at {offset}; most {most}")
    return next(outcomes)


def _stored_items(page: Page, area: Rect) -> list[Item]:
    """List the stored chunks that touch ``area``, with their full extents."""
    offsets, counts, across, down = page.offsets, page.counts, page.columns, page.rows
    columns = range(area.x // page.chunk_width, ceil_div(area.right, page.chunk_width))
    rows = range(area.y // page.chunk_height, ceil_div(area.bottom, page.chunk_height))
    items = []
    for sample in range(page.planes):
        for row in rows:
            for column in columns:
                index = (sample * down + row) * across + column
                place = chunk_place(page, column, row)
                items.append((place, sample, int(offsets[index]), int(counts[index])))
    return items


def chunk_place(page: Page, column: int, row: int) -> Rect:
    """Return the pixels of a chunk: tiles are always whole, the last strip is what remains."""
    top = row * page.chunk_height
    height = page.chunk_height if page.tiled else min(page.chunk_height, page.height - top)
    return Rect(column * page.chunk_width, top, page.chunk_width, height)


def _row_items(page: Page, area: Rect) -> list[Item]:
    """List the runs of bytes of uncompressed strips that hold ``area``: per strip, or per row."""
    aligned = area.x * page.chunk_samples * page.bits % 8 == 0
    whole = area.width * 4 >= page.width * 3 or not aligned
    left, width = (0, page.width) if whole else (area.x, area.width)
    full, skip, take = page.row_bytes(page.width), page.row_bytes(left), page.row_bytes(width)
    items = []
    for sample in range(page.planes):
        for row in range(area.y // page.chunk_height, ceil_div(area.bottom, page.chunk_height)):
            index = sample * page.rows + row
            offset, count = int(page.offsets[index]), int(page.counts[index])
            strip = chunk_place(page, 0, row)
            top, bottom = max(area.y, strip.y), min(area.bottom, strip.bottom)
            step = bottom - top if whole else 1
            for y in range(top, bottom, step):
                start = full * (y - strip.y) + skip
                size = take * step if start + take * step <= count else 0 if count == 0 else -1
                items.append((Rect(left, y, width, step), sample, offset + start if offset else 0, size))
    return items


def _join(chunks: Sequence[Chunk]) -> Sequence[Chunk]:
    """Join chunks that lie one below the other; keep them apart where bytes are missing."""
    parts = [chunk.data for chunk in chunks if isinstance(chunk.data, bytes)]
    if len(parts) < len(chunks) or len(chunks) < 2:
        return chunks
    first, last = chunks[0].place, chunks[-1].place
    place = Rect(first.x, first.y, first.width, last.bottom - first.y)
    return (Chunk(chunks[0].codec, b"".join(parts), place, chunks[0].sample),)
