"""OME-XML: what it says about the pixels of a file, as plain frozen data."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePath
from xml.etree.ElementTree import Element

from gputiles.config import PICTURES
from gputiles.errors import Damaged
from gputiles.image import Channel
from gputiles.sources.vendors import positive
from gputiles.sources.xmltext import brief, parse_xml

_MILLIMETRES = {
    "m": 1e3, "dm": 100.0, "cm": 10.0, "mm": 1.0, "µm": 1e-3, "μm": 1e-3, "um": 1e-3, "nm": 1e-6,
    "Å": 1e-7, "pm": 1e-9, "in": 25.4, "ft": 304.8,
}  # fmt: skip
_MOST_PLANES = 200_000
_ROOT = re.compile(r"<(\w+:)?OME[\s>]")

Objective = tuple[str | None, str | None]  # ID and magnification


@dataclass(frozen=True, slots=True)
class TiffData:
    """Where planes lie: ``count`` pages from ``ifd`` of ``file`` (None: this file) on.

    ``first`` is the position (c, z, t) of the first of them; ``uuid`` names the file, too.
    """

    first: tuple[int, int, int]
    ifd: int
    count: int | None
    file: str | None
    uuid: str | None


@dataclass(frozen=True, slots=True)
class OmeImage:
    """One Image element: sizes, axes' order (``XYCZT`` …), channels, planes' places.

    ``picture`` is the name of a picture that is not the image itself: label, macro.
    """

    width: int
    height: int
    order: str
    sizes: tuple[int, int, int]
    channels: tuple[Channel, ...]
    blocks: tuple[TiffData, ...]
    mm_x: float | None
    mm_y: float | None
    significant_bits: int | None
    magnification: float | None
    picture: str | None = None


@dataclass(frozen=True, slots=True)
class OmeDocument:
    """A parsed document: its images, the largest first, or the file that holds the metadata."""

    uuid: str | None
    images: tuple[OmeImage, ...] = ()
    metadata_file: str | None = None


def is_ome(description: str) -> bool:
    """Whether a page's description is OME-XML: its root, behind comments, is OME in any namespace."""
    return description.lstrip("\ufeff \r\n\t").startswith("<") and _ROOT.search(description) is not None


def parse(text: str) -> OmeDocument:
    """Parse OME-XML. Raises Damaged, saying what is wrong with it."""
    try:
        root = parse_xml(text)
        _strip_namespaces(root)
        objectives = [(each.get("ID"), each.get("NominalMagnification")) for each in root.iter("Objective")]
        told = [element for element in root.findall("Image") if element.find("Pixels") is not None]
        tags = _tags(root)
        images = [_image(element, objectives, tags) for element in told]
    except (Damaged, ValueError, OverflowError) as error:
        raise Damaged(f"the OME-XML cannot be used: {brief(error)}") from error
    if root.tag != "OME":
        raise Damaged(f"the OME-XML cannot be used: its root is {root.tag[:40]!r}")
    images.sort(key=lambda image: -image.width * image.height)
    binary = root.find("BinaryOnly")
    if not images and binary is None:
        raise Damaged("the OME-XML cannot be used: it describes no image")
    return OmeDocument(
        root.get("UUID"), tuple(images), None if binary is None else binary.get("MetadataFile")
    )


def _strip_namespaces(root: Element) -> None:
    for element in root.iter():
        if isinstance(element.tag, str):
            element.tag = element.tag.rpartition("}")[2]


def _tags(root: Element) -> dict[str, str]:
    """Return the texts of the tags that a document knows, by their IDs."""
    return {
        tag.get("ID", ""): text
        for tag in root.iter("TagAnnotation")
        if (text := (tag.findtext("Value") or "").strip())
    }


def _image(element: Element, objectives: Sequence[Objective], tags: Mapping[str, str]) -> OmeImage:
    pixels = element.find("Pixels")
    assert pixels is not None
    order = pixels.get("DimensionOrder", "XYCZT").upper()
    if sorted(order) != sorted("XYCZT") or not order.startswith("XY"):
        raise ValueError(f"DimensionOrder is {order!r}")
    sizes = _size(pixels, "C"), _size(pixels, "Z"), _size(pixels, "T")
    if math.prod(sizes) > _MOST_PLANES:
        raise ValueError(f"{math.prod(sizes)} planes; most {_MOST_PLANES}")
    channels = pixels.findall("Channel") or element.findall("LogicalChannel")  # before 2010
    bits = pixels.get("SignificantBits", "")
    return OmeImage(
        width=_size(pixels, "X"),
        height=_size(pixels, "Y"),
        order=order[2:],
        sizes=sizes,
        channels=tuple(_channel(index, channel, tags) for index, channel in enumerate(channels)),
        blocks=tuple(_tiff_data(block) for block in pixels.findall("TiffData")),
        mm_x=_physical(pixels, "PhysicalSizeX"),
        mm_y=_physical(pixels, "PhysicalSizeY"),
        significant_bits=int(bits) if bits.isdecimal() and 0 < int(bits) <= 64 else None,
        magnification=_magnification(element, objectives),
        picture=_picture(element.get("Name", "")),
    )


def _picture(name: str) -> str | None:
    """Return what an image named as Bio-Formats does ("label image") is, None for all others.

    Only that name as a whole counts: "label mask" is a segmentation.
    """
    word = name.strip().lower().removesuffix(" image")
    return word if word in PICTURES else None


def _size(pixels: Element, axis: str) -> int:
    value = int(pixels.get(f"Size{axis}", "1"))
    if value < 1:
        raise ValueError(f"Size{axis} is {value}")
    return value


def _channel(index: int, element: Element, tags: Mapping[str, str]) -> Channel:
    """Return a channel; those of one tag are a group."""
    name = (element.get("Name") or "").strip() or f"Channel {index}"
    told = [tags.get(each.get("ID", "")) for each in element.findall("AnnotationRef")]
    groups = dict.fromkeys(text for text in told if text)
    return Channel(name, colour(element.get("Color")), groups=tuple(groups))


def colour(text: str | None) -> str | None:
    """Return ``#rrggbb`` of OME's signed 32-bit RGBA; None for black, which nobody wishes for."""
    try:
        value = int(text or "0")
        fits, value = -(1 << 31) <= value < 1 << 32, value & 0xFFFFFFFF
    except ValueError:
        return None
    return f"#{value >> 8:06x}" if value >> 8 and fits else None


def _tiff_data(element: Element) -> TiffData:
    uuid = element.find("UUID")
    count = element.get("PlaneCount", element.get("NumPlanes"))  # the latter before 2008
    if count is None and element.get("IFD") is not None:
        count = "1"
    first = (int(element.get(f"First{axis}", "0")) for axis in "CZT")
    return TiffData(
        first=(next(first), next(first), next(first)),
        ifd=int(element.get("IFD", "0")),
        count=None if count is None else int(count),
        file=None if uuid is None else uuid.get("FileName") or None,
        uuid=None if uuid is None else (uuid.text or "").strip(),
    )


def _physical(pixels: Element, name: str) -> float | None:
    """Return a length in millimetres; None where it is none: the picture can do without it."""
    scale = _MILLIMETRES.get(pixels.get(f"{name}Unit", "µm"))
    value = positive(pixels.get(name))
    return None if scale is None or value is None else positive(str(value * scale))


def _magnification(element: Element, objectives: Sequence[Objective]) -> float | None:
    settings = element.find("ObjectiveSettings")
    wanted = None if settings is None else settings.get("ID")
    found = (text for name, text in objectives if text and (wanted is None or name == wanted))
    return positive(next(found, None))


def is_plain_name(name: str) -> bool:
    """Whether ``name`` names a file beside this one: no folders, no way out."""
    return (
        name not in ("", ".", "..") and PurePath(name).name == name and "\\" not in name and "\0" not in name
    )
