"""Which files a card makes faster than the host, in batches of which size: measured when it is opened.

The host makes the same bytes of a JPEG, so that small batches may be its own. Its PNGs hold the same pixels
in other bytes, and a file must not depend on what is asked for beside it: they are all made by one of both.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple, TypeAlias

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

Clock: TypeAlias = Callable[[], float]

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


def settle(backend: CudaBackend) -> None:
    """Let trial batches show from how many JPEGs on a card encodes them, and whether it encodes PNGs.

    Without room to try, the card encodes all that it can.
    """
    try:
        raster = backend.on_card(lambda: _uploaded(backend))
    except OutOfMemory as error:
        logger.warning("the card encodes all files: batches cannot be tried out: %s", error)
        return
    if Format.JPEG in backend.habits.own:
        backend.habits.card_jpegs = least_jpegs(backend, raster)
    if Format.PNG in backend.habits.own and not makes_pngs(backend, raster):
        backend.leave_to_host(Format.PNG)


def least_jpegs(
    backend: CudaBackend, raster: Raster, sizes: Sequence[int] = SIZES, clock: Clock = time.perf_counter
) -> int:
    """Return the least JPEGs of a batch that a card should encode itself, as batches of a raster show."""
    habits = backend.habits
    usual = habits.card_jpegs

    def fastest(count: int, least: int) -> float:
        habits.card_jpegs = least
        return _fastest(backend, _jobs(raster, Format.JPEG, count), clock)

    try:
        found = crossover([Timed(n, fastest(n, 1), fastest(n, n + 1)) for n in sizes])
    finally:
        habits.card_jpegs = usual
    logger.info("the card encodes the JPEGs of batches that have at least %d", found)
    return found


def makes_pngs(
    backend: CudaBackend, raster: Raster, count: int = MOST, clock: Clock = time.perf_counter
) -> bool:
    """Say whether a card encodes a full batch of PNGs as fast as the host, or faster."""
    habits, jobs = backend.habits, _jobs(raster, Format.PNG, count)
    usual = habits.own
    try:
        card = _fastest(backend, jobs, clock)
        habits.own = usual - {Format.PNG}
        host = _fastest(backend, jobs, clock)
    finally:
        habits.own = usual
    logger.info("%s encodes PNGs", "the card" if card <= host else "the host")
    return card <= host


def _uploaded(backend: CudaBackend) -> Raster:
    """Bring a smooth picture with a grain to the card."""
    y, x = np.mgrid[:SIDE, :SIDE]
    grain = np.random.default_rng(1).integers(0, 8, (SIDE, SIDE, 1))
    pixels = np.stack([x // 2 + 40, y // 2 + 60, 200 - x // 2], axis=-1) + grain
    made = backend.card.upload(raster_of(pixels.astype(np.uint8)))
    backend.card.courier.settle()
    return made


def _jobs(raster: Raster, form: Format, count: int) -> list[RenderJob]:
    return [RenderJob(Recipe((0,)), (raster,), SIDE, SIDE, Encoding(form))] * count


def _fastest(backend: CudaBackend, jobs: Sequence[RenderJob], clock: Clock) -> float:
    """Return how long a batch takes at best."""
    backend.render(jobs)  # learns how large these files are
    taken = []
    for _ in range(TIMES):
        began = clock()
        backend.render(jobs)
        taken.append(clock() - began)
    return min(taken)
