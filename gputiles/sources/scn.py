"""Leica's SCN files: a collection of scanned regions, each with pages by level, channel and depth.

Lengths in the XML are nanometres. The region that covers the whole collection is the picture of
the slide as a whole, its macro; the largest of the others is the image.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from xml.etree.ElementTree import Element

from gputiles.config import PICTURES
from gputiles.errors import Damaged, Unsupported
from gputiles.image import Channel
from gputiles.sources.book import Book
from gputiles.sources.layout import (
    MOST_FRAMES,
    Layout,
    NoImage,
    Stack,
    alike,
    fits,
    plain_layout,
    with_pictures,
)
from gputiles.sources.page import Page
from gputiles.sources.vendors import positive
from gputiles.sources.xmltext import brief, parse_xml

_NANOMETRES = 1e6  # of a millimetre

Place = tuple[int, int, int]  # level, depth, channel


@dataclass(frozen=True, slots=True)
class Region:
    """An image of the collection: the directory of every (level, depth, channel), and what is known."""

    ifds: dict[Place, int]
    view: tuple[float, float]  # nanometres
    offset: tuple[float, float]
    channels: tuple[Channel, ...]
    magnification: float | None

    def covers(self, size: tuple[float, float]) -> bool:
        """Whether the region is the whole slide."""
        return self.offset == (0, 0) and self.view == size


@dataclass(frozen=True, slots=True)
class Collection:
    """A slide: its size in nanometres, its regions, and its other pictures with their directories."""

    size: tuple[float, float]
    regions: tuple[Region, ...]
    supplements: tuple[tuple[str, int], ...]


def is_scn(description: str) -> bool:
    """Whether a page's description is the XML of an SCN file."""
    return description[-10:].strip().endswith("</scn>")


def scn_layout(book: Book) -> Layout:
    """Return the layout of the main region; the plain pages, with a warning, where the XML is of no use."""
    try:
        return _lay_out(book)
    except NoImage:
        raise
    except Damaged as error:
        plain = plain_layout(book, "SCN")
        return replace(plain, warnings=(str(error), *plain.warnings))


def _lay_out(book: Book) -> Layout:
    collection = _parse(book)
    macros = [region for region in collection.regions if region.covers(collection.size)]
    scanned = [region for region in collection.regions if region not in macros]
    if not scanned:
        scanned, macros = macros, []
    others = {name: partial(_lay_out_supplement, book, ifd) for name, ifd in collection.supplements}
    if macros:
        others["macro"] = partial(_lay_out_region, book, macros[0])
    main = max(scanned, key=lambda region: _area(book, region))
    layout = with_pictures(partial(_lay_out_region, book, main), others)
    if len(scanned) == 1:
        return layout
    warning = f"{len(scanned) - 1} further scanned regions of the file are not shown"
    return replace(layout, warnings=(*layout.warnings, warning))


def _lay_out_supplement(book: Book, ifd: int) -> Layout:
    """Return the layout of a picture beside the regions: a label."""
    page = _page(book, ifd)
    if page is None:
        raise Damaged(f"{book.source.name}: page {ifd} of the SCN description cannot be read")
    return Layout("SCN", ((page,),))


def _lay_out_region(book: Book, main: Region) -> Layout:
    numbers, depths, count = (1 + max(place[axis] for place in main.ifds) for axis in range(3))
    if numbers * depths * count > MOST_FRAMES:
        raise Damaged(f"{book.source.name}: {numbers} levels of {depths} depths of {count} channels")
    frames, *smaller = (_stack(book, main, level, depths, count) for level in range(numbers))
    lead = _lead(book, frames)
    axes = (("C", count), ("Z", depths))
    warnings = []
    if None in frames:
        warnings.append(f"{frames.count(None)} of {len(frames)} planes are not in the file")
    return Layout(
        format="SCN",
        levels=(frames, *(stack for stack in smaller if _is_level(stack, frames, lead))),
        axes=tuple((axis, length) for axis, length in axes if length > 1),
        channels=main.channels if len(main.channels) == count > 1 else (),
        mm_x=positive(str(main.view[0] / lead.width / _NANOMETRES)),
        mm_y=positive(str(main.view[1] / lead.height / _NANOMETRES)),
        magnification=main.magnification,
        warnings=(*book.warnings, *book.complaints(), *warnings),
    )


def _area(book: Book, region: Region) -> int:
    pages = (_page(book, ifd) for place, ifd in region.ifds.items() if place[0] == 0)
    return max((page.width * page.height for page in pages if page is not None), default=0)


def _page(book: Book, ifd: int | None) -> Page | None:
    page = book.pages[ifd] if ifd is not None and 0 <= ifd < len(book.pages) else None
    return page if isinstance(page, Page) else None


def _stack(book: Book, region: Region, level: int, depths: int, count: int) -> Stack:
    """Return the pages of a level, C fastest, then Z."""
    places = ((level, depth, channel) for depth in range(depths) for channel in range(count))
    return tuple(_page(book, region.ifds.get(place)) for place in places)


def _lead(book: Book, frames: Stack) -> Page:
    """Return the first page; raise where there is none, or where the others are of another kind."""
    lead = next((page for page in frames if page is not None), None)
    if lead is None:
        raise Damaged(f"{book.source.name}: the SCN description names no page that can be read")
    if not all(page is None or (alike(page, lead) and page.size == lead.size) for page in frames):
        raise Unsupported(f"{book.source.name}: planes of different sizes or kinds in one region")
    return lead


def _is_level(stack: Stack, frames: Stack, lead: Page) -> bool:
    """Whether a stack is a smaller level: it fits, and has every frame that is there."""
    complete = all((page is None) == (frame is None) for page, frame in zip(stack, frames, strict=True))
    pages = [page for page in stack if page is not None]
    size = pages[0].size if pages else lead.size
    uniform = all(page.size == size and alike(page, lead) for page in pages)
    return complete and uniform and fits(lead.size, size) is not None


def _parse(book: Book) -> Collection:
    """Return what the XML says of the slide."""
    try:
        root = parse_xml(book.first.text(270))
        collection = next(_named(root, "collection"))
        regions = [_region(image) for image in _named(collection, "image")]
        size = _number(collection, "sizeX"), _number(collection, "sizeY")
        supplements = [
            (each.get("type", "").lower(), int(each.attrib["ifd"]))
            for each in _named(collection, "supplementalImage")
        ]
    except (Damaged, ValueError, KeyError, StopIteration) as error:
        raise Damaged(f"{book.source.name}: the SCN description cannot be used: {brief(error)}") from error
    regions = [region for region in regions if region.ifds]
    if not regions:
        raise Damaged(f"{book.source.name}: the SCN description names no image")
    known = [(name, ifd) for name, ifd in supplements if name in PICTURES]
    return Collection(size, tuple(regions), tuple(known))


def _named(element: Element, name: str) -> Iterator[Element]:
    """Yield the descendants of a name, in whatever namespace: it holds the year of the format."""
    return (child for child in element.iter() if child.tag.rpartition("}")[2] == name)


def _number(element: Element, name: str) -> float:
    return float(element.get(name, "0"))


def _region(image: Element) -> Region:
    view = next(_named(image, "view"), Element("view"))
    objectives = (positive(element.text) for element in _named(image, "objective"))
    return Region(
        ifds={_place(dimension): int(dimension.attrib["ifd"]) for dimension in _named(image, "dimension")},
        view=(_number(view, "sizeX"), _number(view, "sizeY")),
        offset=(_number(view, "offsetX"), _number(view, "offsetY")),
        channels=tuple(_channel(at, channel) for at, channel in enumerate(_named(image, "channel"))),
        magnification=next(objectives, None),
    )


def _place(dimension: Element) -> Place:
    level, depth, channel = (int(dimension.get(axis, "0")) for axis in "rzc")
    if min(level, depth, channel) < 0:
        raise ValueError(f"a dimension at {level}, {depth}, {channel}")
    return level, depth, channel


def _channel(index: int, element: Element) -> Channel:
    """Return a channel; its colour is ``#rrggbb``, and black is none."""
    colour = re.fullmatch(r"#[0-9a-fA-F]{6}", element.get("rgb", ""))
    shown = colour[0].lower() if colour and colour[0] != "#000000" else None
    return Channel((element.get("name") or "").strip() or f"Channel {index}", shown)
