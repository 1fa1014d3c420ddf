"""Calibration: what this machine does just now, in loops that have nothing to do with gputiles."""

from __future__ import annotations

import io
import os
import statistics
import time
import zlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from PIL import Image

from gputiles.crew import usable

TIMES = 10  # runs of each loop beside a class, before it and after it

_random = np.random.default_rng(7)
_plane = _random.integers(0, 255, 16 << 20, dtype=np.uint8)
_target = np.empty_like(_plane)
_text = _random.integers(0, 16, 128 << 10, dtype=np.uint8).tobytes()
_picture = Image.fromarray(_random.integers(0, 255, (256, 256, 3), dtype=np.uint8))


def memory() -> None:
    """Copy 16 MiB."""
    np.copyto(_target, _plane)


def python() -> int:
    """Count and look up, in Python alone."""
    seen: dict[int, int] = {}
    for number in range(20_000):
        seen[number & 255] = seen.get(number & 255, 0) + number
    return len(seen)


def codec() -> None:
    """Deflate 128 KiB, and encode a 256² picture as JPEG."""
    zlib.compress(_text, 1)
    _picture.save(io.BytesIO(), "JPEG", quality=95, subsampling=0)


def cores(times: int = 5) -> float:
    """Return by how much threads that deflate, one on each core, are faster than one that does it all."""
    homes = sorted(usable())

    def deflate(times: int, home: int) -> None:
        os.sched_setaffinity(0, {home})
        for _ in range(times):
            zlib.compress(_text, 1)

    with ThreadPoolExecutor(len(homes)) as pool:  # a thread moves, and the caller's is not touched
        alone = _timed(lambda: pool.submit(deflate, times * len(homes), homes[0]).result())
        return alone / _timed(lambda: list(pool.map(deflate, [times] * len(homes), homes)))


LOOPS: dict[str, Callable[[], object]] = {"memory": memory, "python": python, "codec": codec}


def run(times: int = TIMES) -> list[dict[str, float]]:
    """Return the milliseconds of every loop, once for each of ``times``."""
    return [{name: _timed(loop) for name, loop in LOOPS.items()} for _ in range(times)]


def _timed(loop: Callable[[], object]) -> float:
    began = time.perf_counter()
    loop()
    return (time.perf_counter() - began) * 1000


def fastest(runs: list[dict[str, float]]) -> dict[str, float]:
    """Return the least milliseconds of every loop: which others' load disturbs least."""
    return {name: min(run[name] for run in runs) for name in LOOPS}


def unit(loops: dict[str, float]) -> float:
    """Return the geometric mean of the loops, the unit that the gate counts in."""
    return statistics.geometric_mean(loops.values())
