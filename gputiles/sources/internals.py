"""What a TIFF file says of itself in its own words: descriptions, XML, a vendor's facts."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from gputiles.sources.bytesource import ByteSource
from gputiles.sources.ifd import Directory, Entry, read_dialect, walk
from gputiles.sources.imagej import described
from gputiles.sources.vendors import svs_facts

_DESCRIPTION, _NDPI_FACTS = 270, 65449
_TEXTS = {
    269: "documentname", 270: "imagedescription", 271: "make", 272: "model", 285: "pagename",
    305: "software", 306: "datetime", 315: "artist", 316: "hostcomputer", 33432: "copyright",
    42112: "gdal_metadata",
}  # fmt: skip
_MOST_TEXT = 1 << 24  # bytes of a text that is told
_MOST_TEXTS = 1 << 26  # of all texts
_MOST_PAGES = 1000  # whose texts are looked at
_FACTS: Mapping[str, tuple[int, Callable[[str], dict[str, str]]]] = {
    "SVS": (_DESCRIPTION, svs_facts),
    "ImageJ": (_DESCRIPTION, described),
    "NDPI": (_NDPI_FACTS, described),
}
"""Formats whose writers tell facts as key=value, the tag that has them, and how they are told apart."""


def read_internals(source: ByteSource, format: str) -> dict[str, Any]:
    """Return the texts of a file, read anew, ready for JSON.

    ``tiff`` has them by large_image's names, a second text of a kind as ``name:2`` (texts that
    repeat themselves are told once); ``omexml`` is the XML of an OME-TIFF, ``facts`` what a
    scanner or ImageJ wrote as key=value.
    """
    pages = walk(source, *read_dialect(source))[0][:_MOST_PAGES]
    result: dict[str, Any] = {"tilesource": "tiff", "format": format, "tiff": read_texts(pages)}
    if format == "OME-TIFF":
        result["omexml"] = _text(pages[0], _DESCRIPTION)
    if format in _FACTS:
        tag, facts = _FACTS[format]
        result["facts"] = facts(_text(pages[0], tag))
    return result


def read_texts(pages: list[Directory]) -> dict[str, str]:
    """Return the texts of directories by large_image's names; a second one of a kind as ``name:2``."""
    found: dict[str, str] = {}
    left = _MOST_TEXTS
    for code, name in _TEXTS.items():
        # pages may share a text: it is read once
        holders = {_place(page.entries[code]): page for page in pages if code in page}
        texts: dict[str, None] = {}
        for page in holders.values():
            size = page.entries[code].size
            left -= size if size <= _MOST_TEXT else 0
            if left < 0:
                break
            texts[_text(page, code).strip()] = None
        for number, text in enumerate((text for text in texts if text), 1):
            found[name if number == 1 else f"{name}:{number}"] = text
    return found


def _place(entry: Entry) -> tuple[int, int]:
    """Return what tells the texts of a tag apart without reading them."""
    return entry.offset, entry.count


def _text(page: Directory, code: int) -> str:
    """Return a tag's text; of one that is too long to be told, how long it is."""
    entry = page.entries.get(code)
    if entry is not None and entry.size > _MOST_TEXT:
        return f"({entry.size} bytes)"
    return page.text(code)
