"""Parsing of the parameters that HTTP, the command line and Python share."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

from gputiles.colours import parse_colour
from gputiles.encoded import QUALITY, SUBSAMPLING, Edge, Encoding, Format
from gputiles.errors import BadRequest

T = TypeVar("T")

FORMATS = {
    "JPEG": Format.JPEG, "JPG": Format.JPEG, "JFIF": Format.JPEG, "PNG": Format.PNG,
    "PNG16": Format.PNG, "WEBP": Format.WEBP, "TIFF": Format.TIFF, "TIF": Format.TIFF, "NPY": Format.NPY,
}  # fmt: skip
QUALITIES = range(1, 101)  # of a JPEG, or a WebP
SUBSAMPLINGS = (0, 1, 2)


def choice(words: Mapping[str, T], name: str, text: str) -> T:
    """Return what one of ``words`` stands for; BadRequest, with ``name`` and those allowed, for another."""
    if text not in words:
        raise BadRequest(f"{name}: expected one of {', '.join(filter(None, words))}; got {text[:64]!r}")
    return words[text]


def parse_format(
    name: str, quality: int | None = None, subsampling: int | None = None, *, embed: bool = False
) -> Encoding:
    """Return the encoding that a name of ``FORMATS``, quality and subsampling mean.

    None is the default: quality 95, 4:4:4. PNG16 is a PNG of the stored values.
    ``embed`` asks for the file's ICC profile.
    """
    format = FORMATS.get(name.upper())
    if format is None:
        raise BadRequest(f'Invalid encoding "{name[:64]}"; expected JPEG, PNG, PNG16, WEBP, TIFF or NPY')
    if quality is not None and quality not in QUALITIES:
        raise BadRequest(f"jpegQuality: expected 1 to 100; got {quality}")
    if subsampling is not None and subsampling not in SUBSAMPLINGS:
        raise BadRequest(f"jpegSubsampling: expected 0 (4:4:4), 1 (4:2:2) or 2 (4:2:0); got {subsampling}")
    if embed and format not in (Format.JPEG, Format.PNG):
        raise BadRequest(f"embedProfile: expected a JPEG or PNG to carry it; got {name}")
    jpeg, lossy = format is Format.JPEG, format in (Format.JPEG, Format.WEBP)
    return Encoding(
        format,
        quality=quality if lossy and quality is not None else QUALITY,
        subsampling=subsampling if jpeg and subsampling is not None else SUBSAMPLING,
        explicit=jpeg and not (quality is None and subsampling is None),
        values=name.upper() == "PNG16",
        embed=embed,
    )


def parse_edge(text: str) -> Edge:
    """Return how to complete a tile: ``false`` pads, ``true`` or ``crop`` crops, a colour fills."""
    word = text.strip().lower()
    if word in ("", "false", "none", "0", "no", "off"):
        return Edge()
    if word in ("true", "crop", "1", "yes", "on"):
        return Edge(crop=True)
    colour = parse_colour(text)
    if colour is None:
        raise BadRequest(f"edge: expected false, crop or a colour such as #ddd or white; got {text[:64]!r}")
    return Edge(colour=(int(colour[0]), int(colour[1]), int(colour[2]), int(colour[3])))
