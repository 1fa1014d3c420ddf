"""The tests of a card are known to run, and to pass where the card is right: over the stand-in."""

from __future__ import annotations

import os
import re
import subprocess
import sys

import pytest

from gputiles.backends.load import has_driver
from tests.conftest import ROOT


def run(*more: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-m",
        "gpu",
        "tests/gpu",
        "-p",
        "no:cacheprovider",
        *more,
    ]
    return subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, env={**os.environ, **environment}
    )


def test_a_cards_tests_pass_over_the_stand_in() -> None:
    done = run("-p", "tests.gpu.standing_in")
    assert done.returncode == 0, done.stdout[-8000:]
    passed = re.search(r"^(\d+) passed, 5 deselected", done.stdout, re.MULTILINE)
    assert passed is not None, done.stdout[-1000:]
    assert int(passed[1]) > 140


@pytest.mark.skipif(has_driver(), reason="this machine has a CUDA driver")
def test_without_a_card_they_skip_with_the_reason_or_fail_where_one_must_be() -> None:
    done = run("-rs")
    assert done.returncode == 0, done.stdout[-2000:]
    assert "needs a CUDA card: device: CuPy finds no CUDA card" in done.stdout
    assert re.search(r"^\d+ skipped in ", done.stdout, re.MULTILINE)
    assert run("-x", GPUTILES_NEEDS_CARD="1").returncode == 1
