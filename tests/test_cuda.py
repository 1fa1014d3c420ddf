"""The CUDA backend over the stand-in of a card: the host's bits, one launch a batch, one copy each way."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from gputiles.backends import tables
from gputiles.backends.cuda import MOST, CudaBackend
from tests import parity
from tests.standin import StandIn

TYPES = [np.dtype(name) for name in tables.TYPES]


@pytest.fixture(scope="module", params=[1, -1], ids=["forwards", "backwards"])
def backend(request: pytest.FixtureRequest) -> Iterator[CudaBackend]:
    """A card whose blocks resume their threads in one order, and in the other."""
    card = StandIn(order=request.param)
    backend = CudaBackend(card, 0, 1)
    yield backend
    backend.close()
    assert card.used == 0


@pytest.mark.parametrize("dtype", TYPES, ids=str)
def test_pictures_of_a_batch_are_the_hosts(backend: CudaBackend, dtype: np.dtype[Any]) -> None:
    parity.check_renders(backend, parity.random_jobs(1, dtype))


@pytest.mark.parametrize("dtype", TYPES, ids=str)
def test_every_way_to_join_bands_is_the_hosts(backend: CudaBackend, dtype: np.dtype[Any]) -> None:
    jobs = [*parity.every_composite(dtype), *parity.every_unstyled(dtype)]
    for at in range(0, len(jobs), MOST):
        parity.check_renders(backend, jobs[at : at + MOST])


@pytest.mark.parametrize("dtype", TYPES, ids=str)
def test_made_tiles_of_every_number_of_samples_are_the_hosts(
    backend: CudaBackend, dtype: np.dtype[Any]
) -> None:
    downsamples, resamples = parity.every_made(dtype)
    parity.check_downsamples(backend, downsamples)
    parity.check_resamples(backend, resamples)


def test_pictures_in_converted_colours_are_the_hosts(backend: CudaBackend) -> None:
    parity.check_conversions(backend)


@pytest.mark.parametrize("dtype", TYPES, ids=str)
def test_made_tiles_of_a_batch_are_the_hosts(backend: CudaBackend, dtype: np.dtype[Any]) -> None:
    parity.check_downsamples(backend, parity.random_downsamples(dtype))
    parity.check_resamples(backend, parity.random_resamples(dtype))


@pytest.mark.parametrize("dtype", TYPES, ids=str)
def test_measures_of_a_batch_are_the_hosts(backend: CudaBackend, dtype: np.dtype[Any]) -> None:
    parity.check_measures(backend, parity.random_measures(dtype))
