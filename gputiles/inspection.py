"""Inspection: what a server holds and does, for the pages and programs that watch it."""

from __future__ import annotations

from collections import Counter
from typing import Any

from gputiles.references import AssociatedRef
from gputiles.state import State

MOST_IMAGES = 50  # that are named, the heaviest first


def inspect(state: State) -> dict[str, Any]:
    """Return the report of the engine, with what was refused and the bytes of each image.

    Images that are no item of the library's own, other people's among them, are not named.
    """
    refusals = {str(status): count for status, count in sorted(state.refusals.items())}
    return {**state.engine.report(), "refusals": refusals, "images": _images(state)}


def _images(state: State) -> list[dict[str, Any]]:
    """Return the items that hold most memory, with their bytes by shelf."""
    renderer = state.engine.renderer
    held: dict[object, Counter[str]] = {}
    for shelf in (renderer.tiles, *renderer.rasters.shelves):
        for owner, weight in shelf.weights().items():
            file = owner.file if isinstance(owner, AssociatedRef) else owner
            held.setdefault(file, Counter())[shelf.name] += weight
    heaviest = sorted(held, key=lambda ref: -held[ref].total())[:MOST_IMAGES]
    items = state.library.items_of(heaviest)
    return [
        {"id": items[ref].id, "name": items[ref].name, "bytes": dict(held[ref])}
        for ref in heaviest
        if ref in items
    ]
