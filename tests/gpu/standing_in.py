"""A plugin for pytest: ``-p tests.gpu.standing_in -m gpu`` runs a card's own tests over the stand-in."""

from __future__ import annotations

import os

import pytest

from gputiles.backends import crossover, load
from tests.standin import StandIn, codecs

BEYOND = ("faster_than_any_host", "arrays_of_cupy", "under_compute_sanitizer")  # what only a card has


def pytest_configure() -> None:
    """Let the product, and the tests, find the stand-in, before any of them is imported."""
    load.find_cupy = lambda: StandIn(3 << 27)
    load.find_codecs = codecs
    os.environ |= {"GPUTILES_SOAK": "1", "GPUTILES_TILES": "200", "GPUTILES_NEEDS_CARD": "1"}
    crossover.settle = lambda *_: None  # type: ignore[assignment]


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what only a card has."""
    beyond = [item for item in items if any(name in item.name for name in BEYOND)]
    items[:] = [item for item in items if item not in beyond]
    config.hook.pytest_deselected(items=beyond)
