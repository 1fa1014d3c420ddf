"""Chunks decoded for a card: by the host's codecs on a few threads, then copied up."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Executor

from gputiles.backends import DecodeJob, Outcome, Raster, Tiles
from gputiles.backends.card import Card
from gputiles.backends.making import attempt, bare
from gputiles.backends.paste import decode_tiles
from gputiles.errors import GputilesError, OutOfMemory


def decode(card: Card, helpers: Executor, jobs: Sequence[DecodeJob]) -> list[Outcome[Tiles]]:
    """Decode each job's chunks once into one raster, or error, per tile of the job."""
    card.begin()
    decoded = [helpers.submit(attempt, decode_tiles, job) for job in jobs]
    outcomes: list[Outcome[Tiles]] = []
    for future in decoded:
        tiles = future.result()
        outcomes.append(tiles if isinstance(tiles, GputilesError) else _uploaded(card, tiles))
    card.courier.settle()
    return outcomes


def _uploaded(card: Card, tiles: Tiles) -> Outcome[Tiles]:
    """Return a job's tiles on the card, or that it has no room for them."""
    try:
        return tuple(card.upload(tile) if isinstance(tile, Raster) else tile for tile in tiles)
    except OutOfMemory as error:
        return bare(error)
