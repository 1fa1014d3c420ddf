"""ImageJ's TIFF files: hyperstacks, one directory for many images, display ranges and colours.

The description names axes and units. Tags 50838 and 50839 hold a table of binary metadata in
the byte order of the file: display ranges, colour tables and labels of the slices.
"""

from __future__ import annotations

import math
import re
import struct
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from gputiles.errors import Damaged, LimitExceeded
from gputiles.image import Channel, Colour
from gputiles.sources.book import Book
from gputiles.sources.layout import MOST_FRAMES, Layout, Stack, find_levels, implied_frames, plain_layout
from gputiles.sources.page import Page

_AXES = {"c": ("C", "channels"), "z": ("Z", "slices"), "t": ("T", "frames")}
_MICROMETRE = {"um", "µm", "μm", "micron", "microns", "\\u00b5m"}
_SIZES, _METADATA = 50838, 50839
_RANGES, _TABLES, _LABELS = b"rang", b"luts", b"labl"
_TABLE = 768  # bytes of a colour table: 256 of red, of green, of blue
# "c:1/3 z:2/5 t:1/9 - DAPI": ImageJ puts a slice's position before its label
_POSITION = re.compile(r"^(?:[czt]:\d+/\d+\s*)+(?:-\s*)?")

Window = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Hints:
    """How ImageJ shows the channels: display ranges, the colours of their tables, slice labels."""

    windows: tuple[Window, ...] = ()
    colours: tuple[str | None, ...] = ()
    labels: tuple[str, ...] = ()


def imagej_layout(book: Book) -> Layout:
    """Return the layout of a hyperstack; pages beyond the first directory may be implied."""
    plain = plain_layout(book, "ImageJ")
    facts = described(plain.lead.description)
    axes = _axes(facts)
    wanted = math.prod(length for _, length in axes) if axes else _count(facts)
    frames = stacked(plain, wanted)
    if len(frames) != wanted or wanted > MOST_FRAMES:
        problem = f"ImageJ's description speaks of {wanted} images, the file holds {len(frames)}"
        return replace(plain, warnings=(*plain.warnings, problem))
    levels = plain.levels if len(plain.levels[0]) == wanted else find_levels(frames, (), book.chunk_limit)[0]
    axes = axes or ((("Z", wanted),) if wanted > 1 else ())
    mm_x, mm_y = _resolution(plain.lead, facts)
    layout = replace(plain, levels=levels, axes=served(axes), mm_x=mm_x, mm_y=mm_y)
    layout = replace(layout, levels=tuple(in_frame_order(stack, axes) for stack in levels))
    return _with_channels(layout, facts)


def described(description: str) -> dict[str, str]:
    """Return what a description says line by line, as key=value."""
    pairs = (line.partition("=") for line in description.splitlines())
    return {key.strip(): value.strip() for key, _, value in pairs}


def _count(facts: dict[str, str]) -> int:
    text = facts.get("images", "1")
    return max(int(text), 1) if text.isdecimal() else 1


def _axes(facts: dict[str, str]) -> tuple[tuple[str, int], ...]:
    """Return the axes with more than one position in the order of the file, fastest first."""
    order = facts.get("order", "czt").lower()
    if sorted(order) != sorted(_AXES):
        order = "czt"
    found = ((_AXES[letter][0], facts.get(_AXES[letter][1], "")) for letter in order)
    return tuple((axis, int(text)) for axis, text in found if text.isdecimal() and int(text) > 1)


def served(axes: Sequence[tuple[str, int]]) -> tuple[tuple[str, int], ...]:
    """Return axes in the order in which frames are counted: C fastest, then Z, then T."""
    return tuple(sorted(axes, key=lambda axis: "CZT".index(axis[0])))


def in_frame_order(stack: Stack, axes: Sequence[tuple[str, int]]) -> Stack:
    """Return frames that lie in the order of ``axes``, fastest first, with C fastest."""
    if len(axes) < 2:
        return stack
    places = np.arange(len(stack)).reshape([length for _, length in reversed(axes)])
    slowest_first = [name for name, _ in reversed(axes)]
    order = [slowest_first.index(name) for name, _ in reversed(served(axes))]
    return tuple(stack[place] for place in places.transpose(order).reshape(-1).tolist())


def stacked(plain: Layout, wanted: int) -> Stack:
    """Return the frames; where the file has one page of many, the others follow its pixels."""
    page = plain.lead
    stored = plain.levels[0]
    if len(stored) == wanted or len(stored) > 1 or not page.rows_addressable:
        return stored
    size = page.row_bytes(page.width) * page.height * page.planes
    return implied_frames(page, min(wanted, MOST_FRAMES + 1), size)


def _resolution(page: Page, facts: dict[str, str]) -> tuple[float | None, float | None]:
    scale = {"mm": 1.0, "cm": 10.0, "inch": 25.4, "nm": 1e-6}.get(facts.get("unit", ""))
    scale = 1e-3 if facts.get("unit", "") in _MICROMETRE else scale
    across, down = page.tags.ratio(282), page.tags.ratio(283)
    if scale is None or not across or not down or across <= 0 or down <= 0:
        return None, None
    return scale / across, scale / down


def _with_channels(layout: Layout, facts: dict[str, str]) -> Layout:
    """Add names, colours and windows of the channels, as far as the file tells."""
    page, count = layout.lead, dict(layout.axes).get("C", 1)
    if page.colour is Colour.RGB or page.samples > 1:
        return layout
    hints, warnings = _read_hints(page)
    layout = replace(layout, warnings=(*layout.warnings, *warnings))
    windows = dict(enumerate(hints.windows or (_described_window(facts) if count == 1 else ())))
    grey = facts.get("mode", "").lower() in ("grayscale", "gray")
    colours = {} if grey else dict(enumerate(hints.colours))
    names = _names(hints.labels, count, len(layout.levels[0]))
    channels = tuple(
        Channel(name or f"Channel {index}", colours.get(index), windows.get(index))
        for index, name in enumerate(names)
    )
    told = any(names) or any(channel.colour or channel.window for channel in channels)
    # with several channels, the file's one palette is the table of the channel that was in front
    return replace(layout, channels=channels if told else (), lut_is_hint=count > 1)


def _described_window(facts: dict[str, str]) -> tuple[Window, ...]:
    try:
        return ((float(facts["min"]), float(facts["max"])),)
    except (KeyError, ValueError):
        return ()


def _names(labels: Sequence[str], count: int, images: int) -> list[str]:
    """Return the channels' labels: those of the first slices, where all slices have one and they differ."""
    names = [_POSITION.sub("", label).strip() for label in labels[:count]]
    usable = count > 1 and len(labels) == images and len(set(names)) == count and all(names)
    return names if usable else [""] * count


def _read_hints(page: Page) -> tuple[Hints, list[str]]:
    try:
        parts = _parts(page)
        windows = tuple(_pairs(page, part) for part in parts.get(_RANGES, ())[:1])
        return Hints(
            windows=windows[0] if windows else (),
            colours=tuple(map(_colour, parts.get(_TABLES, ()))),
            labels=tuple(_text(page, part) for part in parts.get(_LABELS, ())),
        ), []
    except (Damaged, LimitExceeded, struct.error) as error:
        return Hints(), [f"ImageJ's metadata cannot be used: {error}"]


def _parts(page: Page) -> dict[bytes, list[bytes]]:
    """Return {kind: values} of ImageJ's table: a header of kinds and counts, then the values."""
    sizes, data = page.tags.integers(_SIZES), page.tags.raw(_METADATA)
    if not sizes or data is None:
        return {}
    order = page.tags.dialect.order
    if sum(sizes) > len(data) or sizes[0] < 4 or data[:4] != _spelt(b"IJIJ", order):
        raise Damaged(f"a table of {sum(sizes)} bytes that begins with {data[:4]!r} in {len(data)} bytes")
    kinds: list[bytes] = []
    for at in range(4, sizes[0] - 7, 8):
        count = struct.unpack_from(f"{order}I", data, at + 4)[0]
        kinds += [_spelt(data[at : at + 4], order)] * min(count, len(sizes))
    parts: dict[bytes, list[bytes]] = {}
    start = sizes[0]
    for kind, size in zip(kinds, sizes[1:], strict=False):
        parts.setdefault(kind, []).append(data[start : start + size])
        start += size
    return parts


def _spelt(word: bytes, order: str) -> bytes:
    """Return a four-letter word, which is an integer in the byte order of the file."""
    return word if order == ">" else word[::-1]


def _pairs(page: Page, part: bytes) -> tuple[Window, ...]:
    values = struct.unpack(f"{page.tags.dialect.order}{len(part) // 8}d", part[: len(part) // 8 * 8])
    return tuple(zip(values[::2], values[1::2], strict=False))


def _colour(table: bytes) -> str | None:
    """Return ``#rrggbb`` that a colour table ends in; None for black and for tables of another size."""
    top = table[255:_TABLE:256]
    return "#" + top.hex() if len(table) == _TABLE and any(top) else None


def _text(page: Page, part: bytes) -> str:
    return part.decode("utf-16-le" if page.tags.dialect.order == "<" else "utf-16-be", "replace")
