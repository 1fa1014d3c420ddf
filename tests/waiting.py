"""Waiting for what other threads do."""

from __future__ import annotations

import time
from collections.abc import Callable


def until(reached: Callable[[], object]) -> None:
    """Wait for what another thread does; a minute is the end of it."""
    end = time.monotonic() + 60
    while not reached():
        assert time.monotonic() < end
        time.sleep(0.001)
