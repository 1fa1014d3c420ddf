"""Files of tifffile: a shape, and the names of its axes, as JSON in the description.

``{"shape": [2, 3, 512, 512], "axes": "TCYX"}``; the slowest axis comes first. All pages but
the first may be implied, as in ImageJ's files.
"""

from __future__ import annotations

import json
import math
from dataclasses import replace

from gputiles.sources.book import Book
from gputiles.sources.imagej import in_frame_order, served, stacked
from gputiles.sources.layout import MOST_FRAMES, Layout, find_levels, plain_layout
from gputiles.sources.page import Page

_MOST_TEXT = 1 << 16
_OF_A_PAGE = "YXS"
_KNOWN = "CZT"

Axes = tuple[tuple[str, int], ...]


def is_shaped(head: str) -> bool:
    """Whether a description begins as tifffile's do."""
    return head.startswith("{") and '"shape"' in head


def shaped_layout(book: Book) -> Layout:
    """Return the layout of an array; the plain one where what is told of it does not fit the pages."""
    plain = plain_layout(book)
    axes = _axes(book.first.text(270, _MOST_TEXT), plain.lead)
    wanted = math.prod(length for _, length in axes)
    if wanted < 2 or wanted > MOST_FRAMES:
        return plain
    frames = stacked(plain, wanted)
    if len(frames) != wanted:
        problem = f"the description speaks of {wanted} planes, the file holds {len(frames)}"
        return replace(plain, warnings=(*plain.warnings, problem))
    levels = plain.levels if len(plain.levels[0]) == wanted else find_levels(frames, (), book.chunk_limit)[0]
    ordered = tuple(in_frame_order(stack, axes) for stack in levels)
    return replace(plain, levels=ordered, axes=served(axes))


def _axes(text: str, page: Page) -> Axes:
    """Return the axes of frames, fastest first: those of the shape where they are named, else one."""
    try:
        told = json.loads(text)
        shape, names = told["shape"], told.get("axes")
    except (ValueError, RecursionError, LookupError, TypeError, AttributeError):
        return ()
    if not isinstance(shape, list) or not all(isinstance(side, int) and side > 0 for side in shape):
        return ()
    if not isinstance(names, str) or len(names) != len(shape):
        names = "?" * (len(shape) - (2 if page.samples == 1 else 3))  # the last ones are of a page
    axes = [(name, side) for name, side in zip(names, shape, strict=False) if name not in _OF_A_PAGE]
    lengths = tuple((name, side) for name, side in reversed(axes) if side > 1)
    known = {name for name, _ in lengths} <= set(_KNOWN) and len(set(names)) == len(names)
    return lengths if known or not lengths else (("Z", math.prod(side for _, side in lengths)),)
