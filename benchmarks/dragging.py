"""Dragging: how fast new looks come while a channel's window is dragged in the viewer (``drag.py``)."""

from __future__ import annotations

import shutil
from importlib.util import find_spec
from typing import Any

from benchmarks.scope import Scope
from benchmarks.section import Section, number, text
from gputiles import assets

FILE = "8 channels {side}² uint16 with a pyramid, drawn tissue, 512² tiles; all channels on"


def absent() -> str | None:
    """Return what the browser lacks, if something."""
    if find_spec("playwright") is None or shutil.which("chromium") is None:
        return "playwright and a chromium are needed"
    if not assets.has_library():
        return "the viewer has no OpenSeadragon yet: make viewer"
    return None


def rows(scope: Scope) -> list[dict[str, Any]]:
    """Return a row for looks over the socket, and one for looks in batches over HTTP."""
    from benchmarks.drag import measured  # needs playwright

    size = min(4096, scope.slide)
    return [
        {"name": name, "file": FILE.format(side=size)} | measured(scope.folder, size, scope.traced, http=http)
        for name, http in (("over the socket", False), ("in batches", True))
    ]


SECTION = Section(
    title="A window dragged in the viewer",
    note="Chromium, 1280 × 800 pixels over 8 resident channels, on the same processor as the server: looks "
    "that became whole in a second, and from the wish for one to its last tile. Warm-up: a second of "
    "dragging. A tile of all channels was compared with the engine's own first.",
    columns={
        "looks": text("name"),
        "looks/s": number("looks a second", 1),
        "wish to last tile, median ms": number("wish to last tile, median ms"),
        "90 % ms": number("90 % ms"),
        "most ms": number("most ms"),
    },
    measure=rows,
    absent=absent,
)
