"""Where the shared test data lies, how examples are drawn, and what an interrupt does."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
SHARED = Path(os.environ.get("GPUTILES_SHARED", ROOT.parent / "shared"))


def pytest_configure(config: pytest.Config) -> None:
    """Let examples take their time: that a machine has other work is no reason to fail."""
    if config.pluginmanager.hasplugin("hypothesispytest"):  # a card's own tests do without it
        from hypothesis import HealthCheck, settings

        settings.register_profile("patient", deadline=None, suppress_health_check=[HealthCheck.too_slow])
        settings.load_profile("patient")


@pytest.fixture
def interruptible() -> Iterator[None]:
    """Have interrupts and alarms raise KeyboardInterrupt: what a shell begins behind itself ignores some."""
    numbers = (signal.SIGINT, signal.SIGALRM)
    before = [signal.signal(number, signal.default_int_handler) for number in numbers]
    yield
    for number, handler in zip(numbers, before, strict=True):
        signal.signal(number, handler)


def shared(*parts: str) -> Path:
    """Return a path of the shared data; skip the test where it is absent (never in CI)."""
    path = SHARED.joinpath(*parts)
    if not path.exists():
        if os.environ.get("CI"):
            pytest.fail(f"{path} is missing; CI needs the shared data")
        pytest.skip(f"needs {path}")
    return path
