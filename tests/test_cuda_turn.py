"""Turned pictures on a card: the host's bytes, or a PNG's pixels, as one batch with what is upright."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product

import numpy as np
import pytest

from gputiles.backends import RenderJob
from gputiles.backends.card import Sizes
from gputiles.backends.cuda import CudaBackend
from gputiles.backends.paste import raster_of
from gputiles.backends.turn import turned, turned_shape
from gputiles.encoded import Encoding, Format, Tone, Turn
from gputiles.recipe import Recipe
from tests import parity
from tests.standin import StandIn
from tests.test_cuda_memory import MIB, replaced

TURNS = [Turn(quarter, mirror, tone) for quarter, mirror, tone in product(range(4), (False, True), Tone)]


@pytest.fixture(scope="module")
def backend() -> Iterator[CudaBackend]:
    backend = CudaBackend(StandIn(), 0, 2)
    yield backend
    backend.close()


def jobs_of(samples: int, kind: Format, shape: tuple[int, int] = (37, 70)) -> list[RenderJob]:
    """Return a picture in every turn, beside one that is upright."""
    pixels = np.random.default_rng(samples).integers(0, 256, (*shape, samples)).astype(np.uint8)
    rows, columns = shape
    quality = 80 if kind is Format.JPEG else 95
    return [
        RenderJob(Recipe((0,)), (raster_of(pixels),), columns, rows, Encoding(kind, quality, turn=turn))
        for turn in (*TURNS, Turn())
    ]


@pytest.mark.parametrize("kind", [Format.JPEG, Format.PNG])
@pytest.mark.parametrize("samples", [1, 2, 3, 4])
def test_pictures_in_every_turn_are_the_hosts(backend: CudaBackend, samples: int, kind: Format) -> None:
    counts = backend.card.device.counts
    counts.clear()
    parity.check_renders(backend, jobs_of(samples, kind))
    assert (counts["unstyled"], counts["turn"]) == (1, 1)
    assert counts["jpeg" if kind is Format.JPEG else "png_deflate"] == 1


@pytest.mark.parametrize("kind", [Format.JPEG, Format.PNG])
def test_what_has_no_room_on_the_card_at_once_is_turned_by_the_host(kind: Format) -> None:
    card = StandIn()
    backend = CudaBackend(card, 0, 2)
    replaced(backend, card, Sizes(32 * MIB, scratch=MIB // 2, returns=MIB // 2, room=MIB // 4, slab=MIB))
    jobs = [*jobs_of(3, kind, (300, 400))[:3], *jobs_of(3, kind)[:3]]
    counts = backend.card.device.counts
    counts.clear()
    parity.check_renders(backend, jobs)
    assert counts["turn"] >= 1
    backend.close()


@pytest.mark.parametrize("turn", TURNS, ids=str)
def test_shapes_of_turned_pictures_are_foretold(turn: Turn) -> None:
    for samples in (1, 2, 3, 4):
        pixels = np.zeros((5, 7, samples), np.uint8)
        assert turned(pixels, turn).shape == turned_shape((5, 7, samples), turn)
