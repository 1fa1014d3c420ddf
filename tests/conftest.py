"""Where the shared test data lies, and fixtures that several test files use."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
SHARED = Path(os.environ.get("GPUTILES_SHARED", ROOT.parent / "shared"))


def shared(*parts: str) -> Path:
    """Return a path of the shared data; skip the test where it is absent (never in CI)."""
    path = SHARED.joinpath(*parts)
    if not path.exists():
        if os.environ.get("CI"):
            pytest.fail(f"{path} is missing; CI needs the shared data")
        pytest.skip(f"needs {path}")
    return path
