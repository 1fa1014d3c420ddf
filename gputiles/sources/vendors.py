"""Layouts of scanners and programs that mark their TIFF files: Aperio, Akoya, Hamamatsu."""

from __future__ import annotations

import re
from dataclasses import replace
from xml.etree.ElementTree import Element

from gputiles.errors import Damaged
from gputiles.image import Channel
from gputiles.sources.book import Book
from gputiles.sources.layout import Layout, lay_out, main_pages, picture_name, pictures
from gputiles.sources.page import Page
from gputiles.sources.xmltext import parse_xml

NDPI_LENS = 65421  # magnification; -1 is the macro picture, -2 the map
_NDPI_PICTURES = {-1.0: "macro", -2.0: "map"}
_MOST_XML = 1 << 20  # bytes of a page's own
_QPTIFF_PICTURES = {"Thumbnail": "thumbnail", "Overview": "overview", "Label": "label"}


def svs_layout(book: Book) -> Layout:
    """Aperio SVS: the tiled pages are levels; thumbnail, label and macro are in strips."""
    pages = book.readable()
    named = [(_svs_name(page), page) for page in pages]
    tiled = [page for page in pages if page.tiled and not page.macro]
    untiled = [page for name, page in named if name == "thumbnail"][:1]
    shown = tiled or main_pages(book, untiled)
    layout = lay_out(book, shown, format="SVS")
    facts = svs_facts(layout.lead.description)
    microns = positive(facts.get("MPP"))
    mm = microns / 1000 if microns else None
    others = pictures("SVS", (pair for pair in named if pair[1] not in shown))
    return replace(layout, mm_x=mm, mm_y=mm, magnification=positive(facts.get("AppMag")), associated=others)


def _svs_name(page: Page) -> str | None:
    """Return what a page is: a macro or a label by its kind, or as its description's second line says.

    Newer scanners no longer write the words; a thumbnail, shown to all, is never of a special kind.
    """
    if page.mask or (page.tiled and not page.macro):
        return None
    lines = page.heading.splitlines()
    word = picture_name(lines[1]) if len(lines) > 1 else None
    if word in ("label", "macro"):
        return word
    return "macro" if page.macro else "label" if page.reduced else "thumbnail"


def svs_facts(description: str) -> dict[str, str]:
    """Return what Aperio's description says between its bars, as key=value."""
    pairs = (part.partition("=") for part in description.split("|")[1:])
    return {key.strip(): value.strip() for key, _, value in pairs}


def ndpi_layout(book: Book) -> Layout:
    """Hamamatsu NDPI: pages with a positive magnification are levels."""
    pages = book.readable()
    levels = [page for page in pages if (page.tags.ratio(NDPI_LENS) or 1) > 0]
    layout = lay_out(book, main_pages(book, levels), format="NDPI")
    others = pictures("NDPI", ((_NDPI_PICTURES.get(page.tags.ratio(NDPI_LENS) or 1), page) for page in pages))
    return replace(layout, magnification=layout.lead.tags.ratio(NDPI_LENS), associated=others)


def qptiff_layout(book: Book) -> Layout:
    """Akoya QPTIFF: pages of equal size are channels, named in the XML of each page."""
    kept = [(page, _qptiff_facts(page)) for page in book.readable()]
    named = [(_QPTIFF_PICTURES.get(_text(facts, "ImageType")), page) for page, facts in kept]
    pages = [page for name, page in named if name is None]
    layout = lay_out(book, main_pages(book, pages), format="QPTIFF", axis="C")
    facts = [_qptiff_facts(page) for page in layout.levels[0] if page is not None]
    names = [_text(fact, "Name") or _text(fact, "Biomarker") for fact in facts]
    channels = tuple(
        Channel(name or f"Channel {index}", _qptiff_colour(_text(fact, "Color")))
        for index, (name, fact) in enumerate(zip(names, facts, strict=True))
    )
    objective = re.match(r"[\d.]+", _text(facts[0], "Objective"))
    return replace(
        layout,
        channels=channels if any(names) else (),
        magnification=positive(objective[0]) if objective else None,
        associated=pictures("QPTIFF", named),
    )


def _qptiff_facts(page: Page) -> Element | None:
    try:
        return parse_xml(page.tags.text(270, _MOST_XML))
    except Damaged:
        return None


def _text(element: Element | None, name: str) -> str:
    return "" if element is None else (element.findtext(name) or "").strip()


def _qptiff_colour(text: str) -> str | None:
    """Return '#rrggbb' of '255,0,0'; black is no colour to show a channel in."""
    match = re.fullmatch(r"(\d{1,3}),(\d{1,3}),(\d{1,3})", text)
    parts = [int(part) for part in match.groups()] if match else [0]
    return "#" + bytes(parts).hex() if any(parts) and max(parts) <= 255 else None


def positive(text: str | None) -> float | None:
    """Return the number that ``text`` is, or None where it is not a finite one above zero."""
    try:
        value = float(text or "")
    except ValueError:
        return None
    return value if 0 < value < float("inf") else None
