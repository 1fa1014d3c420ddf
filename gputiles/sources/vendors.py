"""Layouts of scanners and programs that mark their TIFF files: Aperio, Akoya, Hamamatsu, ImageJ."""

from __future__ import annotations

import re
from dataclasses import replace
from xml.etree.ElementTree import Element, ParseError

import numpy as np
from defusedxml.common import DefusedXmlException
from defusedxml.ElementTree import fromstring

from gputiles.image import Channel
from gputiles.sources.book import Book
from gputiles.sources.layout import Layout, find_levels, lay_out, plain_layout
from gputiles.sources.page import Page

NDPI_LENS = 65421  # magnification; -1 is the macro picture, -2 the map
_IMAGEJ_AXES = (("channels", "C"), ("slices", "Z"), ("frames", "T"))
_MICROMETRE = {"um", "µm", "μm", "micron", "microns", "\\u00b5m"}


def svs_layout(book: Book) -> Layout:
    """Aperio SVS: the tiled pages are levels; thumbnail, label and macro are in strips."""
    pages = book.readable()
    tiled = [page for page in pages if page.tiled and not page.macro]
    layout = lay_out(book, tiled or pages[:1], format="SVS")
    facts = _svs_facts(layout.lead.description)
    microns = _positive(facts.get("MPP"))
    mm = microns / 1000 if microns else None
    return replace(layout, mm_x=mm, mm_y=mm, magnification=_positive(facts.get("AppMag")))


def _svs_facts(description: str) -> dict[str, str]:
    pairs = (part.partition("=") for part in description.split("|")[1:])
    return {key.strip(): value.strip() for key, _, value in pairs}


def ndpi_layout(book: Book) -> Layout:
    """Hamamatsu NDPI: pages with a positive magnification are levels."""
    pages = book.readable()
    levels = [page for page in pages if (page.tags.ratio(NDPI_LENS) or 1) > 0]
    layout = lay_out(book, levels or pages[:1], format="NDPI")
    return replace(layout, magnification=layout.lead.tags.ratio(NDPI_LENS))


def qptiff_layout(book: Book) -> Layout:
    """Akoya QPTIFF: pages of equal size are channels, named in the XML of each page."""
    kept = [(page, _qptiff_facts(page)) for page in book.readable()]
    pictures = ("Thumbnail", "Overview", "Label")
    pages = [page for page, facts in kept if _text(facts, "ImageType") not in pictures]
    layout = lay_out(book, pages or book.readable()[:1], format="QPTIFF", axis="C")
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
        magnification=_positive(objective[0]) if objective else None,
    )


def _qptiff_facts(page: Page) -> Element | None:
    try:
        root: Element = fromstring(page.description)
    except (ParseError, DefusedXmlException, ValueError):
        return None
    return root


def _text(element: Element | None, name: str) -> str:
    return "" if element is None else (element.findtext(name) or "").strip()


def _qptiff_colour(text: str) -> str | None:
    """Return '#rrggbb' of '255,0,0'; black is no colour to show a channel in."""
    match = re.fullmatch(r"(\d{1,3}),(\d{1,3}),(\d{1,3})", text)
    parts = [int(part) for part in match.groups()] if match else [0]
    return "#" + bytes(parts).hex() if any(parts) and max(parts) <= 255 else None


def imagej_layout(book: Book) -> Layout:
    """ImageJ hyperstacks: C fastest, then Z, then T; pages beyond the first may be implied."""
    plain = plain_layout(book, "ImageJ")
    facts = _imagej_facts(plain.lead.description)
    axes = tuple((axis, int(facts[key])) for key, axis in _IMAGEJ_AXES if facts.get(key, "").isdigit())
    axes = tuple((axis, length) for axis, length in axes if length > 1)
    wanted = int(np.prod([length for _, length in axes])) if axes else _count(facts)
    frames = _imagej_frames(plain, wanted)
    if len(frames) != wanted or wanted > 100_000:
        problem = f"ImageJ's description speaks of {wanted} images, the file holds {len(frames)}"
        return replace(plain, warnings=(*plain.warnings, problem))
    mm_x, mm_y = _imagej_resolution(plain.lead, facts)
    levels = plain.levels if len(plain.levels[0]) == wanted else find_levels(frames, (), book.chunk_limit)[0]
    axes = axes or ((("Z", wanted),) if wanted > 1 else ())
    return replace(plain, levels=levels, axes=axes, mm_x=mm_x, mm_y=mm_y)


def _imagej_facts(description: str) -> dict[str, str]:
    pairs = (line.partition("=") for line in description.splitlines())
    return {key.strip(): value.strip() for key, _, value in pairs}


def _count(facts: dict[str, str]) -> int:
    text = facts.get("images", "1")
    return int(text) if text.isdigit() else 1


def _imagej_frames(plain: Layout, wanted: int) -> tuple[Page | None, ...]:
    """Return the frames; where the file has one page of many, the others follow its pixels."""
    page = plain.lead
    stored = plain.levels[0]
    if len(stored) == wanted or len(stored) > 1 or not page.rows_addressable:
        return stored
    size = page.row_bytes(page.width) * page.height * page.planes
    room = (page.source.size - int(page.offsets[0])) // size
    return tuple(replace(page, shift=index * size) for index in range(min(wanted, max(room, 1), 100_001)))


def _imagej_resolution(page: Page, facts: dict[str, str]) -> tuple[float | None, float | None]:
    scale = {"mm": 1.0, "cm": 10.0, "inch": 25.4, "nm": 1e-6}.get(facts.get("unit", ""))
    scale = 1e-3 if facts.get("unit", "") in _MICROMETRE else scale
    across, down = page.tags.ratio(282), page.tags.ratio(283)
    if scale is None or not across or not down or across <= 0 or down <= 0:
        return None, None
    return scale / across, scale / down


def _positive(text: str | None) -> float | None:
    try:
        value = float(text or "")
    except ValueError:
        return None
    return value if 0 < value < float("inf") else None
