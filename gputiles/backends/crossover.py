"""From how many JPEGs of a batch on a card makes them faster than the host: measured when it is opened."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from gputiles.backends import Raster, RenderJob
from gputiles.backends.cuda import MOST, CudaBackend
from gputiles.backends.paste import raster_of
from gputiles.encoded import Encoding, Format
from gputiles.errors import OutOfMemory
from gputiles.recipe import Recipe

SIZES = (1, 2, 4, 8, 16, 32, MOST)
SIDE = 256  # of a tile
TIMES = 5  # of which the fastest counts: what else the machine does makes nothing faster

logger = logging.getLogger(__name__)


class Timed(NamedTuple):
    """How long a batch of so many tiles takes by who encodes, in any unit."""

    tiles: int
    card: float
    host: float


def crossover(rows: Sequence[Timed]) -> int:
    """Return the least batch from which on the card encodes JPEGs as fast as the host, or faster.

    One more than the largest batch that was measured where the host is faster even there.
    """
    slower = max((row.tiles for row in rows if row.card > row.host), default=0)
    return min((row.tiles for row in rows if row.tiles > slower), default=slower + 1)


def least_jpegs(
    backend: CudaBackend, sizes: Sequence[int] = SIZES, clock: Callable[[], float] = time.perf_counter
) -> int:
    """Return the least JPEGs of a batch that a card should encode itself, as trial batches show.

    1 where there is nothing to choose: its own files are not right, or it has no room to try.
    """
    if Format.JPEG not in backend.habits.own:
        return 1
    try:
        raster = backend.on_card(lambda: _uploaded(backend))
    except OutOfMemory as error:
        logger.warning("the card encodes all JPEGs: batches cannot be tried out: %s", error)
        return 1
    usual = backend.habits.card_jpegs
    try:
        found = crossover([_timed(backend, raster, count, clock) for count in sizes])
    finally:
        backend.habits.card_jpegs = usual
    logger.info("the card encodes the JPEGs of batches that have at least %d", found)
    return found


def _uploaded(backend: CudaBackend) -> Raster:
    """Bring a smooth picture with a grain to the card."""
    y, x = np.mgrid[:SIDE, :SIDE]
    grain = np.random.default_rng(1).integers(0, 8, (SIDE, SIDE, 1))
    pixels = np.stack([x // 2 + 40, y // 2 + 60, 200 - x // 2], axis=-1) + grain
    made = backend.card.upload(raster_of(pixels.astype(np.uint8)))
    backend.card.courier.settle()
    return made


def _timed(backend: CudaBackend, raster: Raster, count: int, clock: Callable[[], float]) -> Timed:
    """Return how long the card, and the host, take for so many tiles."""
    jobs = [RenderJob(Recipe((0,)), (raster,), SIDE, SIDE, Encoding(Format.JPEG))] * count

    def fastest(least: int) -> float:
        backend.habits.card_jpegs = least
        backend.render(jobs)  # learns how large these files are
        taken = []
        for _ in range(TIMES):
            began = clock()
            backend.render(jobs)
            taken.append(clock() - began)
        return min(taken)

    return Timed(count, fastest(1), fastest(count + 1))
