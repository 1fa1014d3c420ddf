"""Memory that tiles give back is there for the next ones."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

ROUNDS = """
import resource, sys
import numpy as np
from gputiles.backends.host import HostBackend
if sys.argv[1] == "kept":
    HostBackend(workers=1)
for _ in range(2):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    tiles = [np.ones((256, 256, 3), np.uint8) for _ in range(100)]
    del tiles
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the C library is not glibc")
def test_tiles_that_follow_others_take_their_pages() -> None:
    kept, returned = (
        int(subprocess.run([sys.executable, "-c", ROUNDS, how], check=True, capture_output=True).stdout)
        for how in ("kept", "returned")
    )
    pages = 100 * 256 * 256 * 3 // 4096
    assert returned > pages // 2  # else this shows nothing
    assert kept < pages // 10
