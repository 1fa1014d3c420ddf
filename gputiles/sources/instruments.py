"""Layouts of instruments whose pages are more, or less, than they look: MetaMorph, Zeiss LSM, Philips.

Ventana's and Trestle's tiles may overlap: only slides whose tiles do not are read.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable
from dataclasses import replace

from gputiles.errors import Damaged, Unsupported
from gputiles.geometry import ceil_div
from gputiles.image import Colour
from gputiles.sources.book import Book
from gputiles.sources.layout import MOST_FRAMES, Layout, find_levels, fits, implied_frames, plain_layout
from gputiles.sources.page import Page, Photometric
from gputiles.sources.vendors import positive

_STK_PLANES, _LSM, _XMP, _SOFTWARE = 33629, 34412, 700, 305
_PLANE_BYTES = 24  # of what MetaMorph tells of a plane: a distance, two dates with times
_MOST_XMP = 1 << 24
_SPACING = re.compile(r'DICOM_PIXEL_SPACING"[^>]*>\s*(?:"|&quot;)([^"&]+)(?:"|&quot;)\s+(?:"|&quot;)([^"&]+)')
_OVERLAP = re.compile(r'Overlap[XY]\s*=\s*"\s*[+-]?0*[1-9]')
_OVERLAPS = re.compile(r"OverlapsXY\s*=\s*([-\d\s]*)")


def instrument_layout(book: Book) -> Layout:
    """Return the layout of a page's instrument, by the marks that it leaves, or the plain one.

    Raises Unsupported where tiles overlap: their mosaic would not be the picture.
    """
    _check_overlaps(book)
    description, tags = book.first.text(270), book.first
    readers: tuple[tuple[bool, Callable[[Book], Layout]], ...] = (
        (_STK_PLANES in tags, _stk),
        (_LSM in tags, _lsm),
        ("DPUfsImport" in description or tags.text(_SOFTWARE).startswith("Philips DP"), _philips),
    )
    return next((read(book) for marked, read in readers if marked), None) or plain_layout(book)


def _check_overlaps(book: Book) -> None:
    name = book.source.name
    if book.first.text(_SOFTWARE).startswith("MedScan"):
        told = _OVERLAPS.search(book.first.text(270))
        if told and any(int(number) for number in re.findall(r"-?\d+", told[1])):
            raise Unsupported(f"{name}: a Trestle slide whose tiles overlap is not read: {told[0][:80]}")
    if any("<iScan" in _xmp(page) for page in book.pages[:4] if isinstance(page, Page)):
        overlaps = (_OVERLAP.search(_xmp(page)) for page in book.pages if isinstance(page, Page))
        if told := next((match for match in overlaps if match), None):
            raise Unsupported(f"{name}: a Ventana slide whose tiles overlap is not read: {told[0]}…")


def _xmp(page: Page) -> str:
    entry = page.tags.entries.get(_XMP)
    return page.tags.text(_XMP) if entry is not None and entry.size <= _MOST_XMP else ""


def _stk(book: Book) -> Layout:
    """MetaMorph: one directory; the other planes lie behind the pixels of the first."""
    plain = plain_layout(book, "STK")
    page, planes = plain.lead, book.first.entries[_STK_PLANES].count
    if planes < 2 or len(plain.levels[0]) > 1 or not page.rows_addressable:
        return plain
    step = int(page.offsets[-1] + page.counts[-1] - page.offsets[0])
    frames = implied_frames(page, min(planes, MOST_FRAMES), step)
    warnings = plain.warnings
    if len(frames) < planes:
        warnings = (*warnings, f"MetaMorph tells of {planes} planes, the file holds {len(frames)}")
    levels, _ = find_levels(frames, (), book.chunk_limit)
    axes = ((_stk_axis(book, planes), len(frames)),) if len(frames) > 1 else ()
    return replace(plain, levels=levels, axes=axes, warnings=warnings)


def _stk_axis(book: Book, planes: int) -> str:
    """Return T where the planes differ in time alone, else Z."""
    entry = book.first.entries[_STK_PLANES]
    try:
        data = book.source.read_at(entry.offset, _PLANE_BYTES * planes)
    except Damaged:
        return "Z"
    told = list(struct.iter_unpack(f"{book.first.dialect.order}6I", data))
    distances, times = {plane[0] for plane in told}, {plane[2:4] for plane in told}
    return "T" if distances == {0} and len(times) > 1 else "Z"


def _lsm(book: Book) -> Layout:
    """Zeiss LSM: every other page is a thumbnail; samples in planes of their own are channels."""
    pages = tuple(
        _as_channels(page) if isinstance(page, Page) and page.separate else page for page in book.pages
    )
    plain = plain_layout(replace(book, pages=pages), "LSM")
    data = book.first.raw(_LSM) or b""
    if len(data) < 56:
        return plain
    order, frames = book.first.dialect.order, len(plain.levels[0])
    depth, _, times = struct.unpack_from(f"{order}3i", data, 16)
    mm_x, mm_y = (positive(str(metres * 1000)) for metres in struct.unpack_from(f"{order}2d", data, 40))
    axes = tuple((axis, size) for axis, size in (("Z", depth), ("T", times)) if size > 1)
    fitting = max(depth, 1) * max(times, 1) == frames
    return replace(plain, axes=axes if fitting else plain.axes, mm_x=mm_x, mm_y=mm_y)


def _as_channels(page: Page) -> Page:
    return replace(page, photometric=Photometric.BLACK_IS_ZERO) if page.colour is Colour.RGB else page


def _philips(book: Book) -> Layout:
    """Philips: smaller levels are padded to whole tiles, which nothing but the spacing of pixels tells."""
    tiled = [page for page in book.pages if isinstance(page, Page) and page.tiled]
    lead = max(tiled, key=lambda page: page.width * page.height, default=None)
    pages = tuple(
        _unpadded(page, lead) if lead is not None and isinstance(page, Page) else page for page in book.pages
    )
    layout = plain_layout(replace(book, pages=pages), "Philips")
    told = _SPACING.search(book.first.text(270))
    down, across = (positive(told[1]), positive(told[2])) if told else (None, None)  # rows come first
    return replace(layout, mm_x=across or layout.mm_x, mm_y=down or layout.mm_y)


def _unpadded(page: Page, lead: Page) -> Page:
    """Return a level without the columns and rows that only fill its last tiles."""
    if not page.tiled or page is lead or fits(lead.size, page.size) is not None:
        return page
    for k in range(1, 32):
        width, height = ceil_div(lead.width, 1 << k), ceil_div(lead.height, 1 << k)
        cells = ceil_div(width, page.chunk_width), ceil_div(height, page.chunk_height)
        if cells == (page.columns, page.rows) and width <= page.width and height <= page.height:
            return replace(page, width=width, height=height)
    return page
