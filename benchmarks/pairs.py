"""Pairs: two ways to the same picture, compared, then timed in turns."""

from __future__ import annotations

import io
import statistics
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from benchmarks import calibration
from benchmarks.restyle import bursts, decoded, spread, timed

Call = Callable[[int], list[bytes]]
MEAN, WORST = 0.25, 8  # levels that samples of a JPEG may differ by, where its encoders round otherwise


class PixelsDiffer(Exception):
    """A side did not draw what it should; nothing of it is timed."""


@dataclass(frozen=True)
class Contest:
    """One row to be: both sides, and in which circumstances.

    A call gets the number of its turn (0 is compared, then 1, 2 …) and returns encoded pictures; those
    of the ``warm`` calls of either side before the first that is timed are negative.
    ``mean`` and ``worst`` bound the difference of both sides' 8-bit samples; ``exact`` is what
    gputiles must draw to the last bit, where that is known.
    """

    kind: str
    file: str
    picture: str
    output: str
    threads: str
    ours: Call
    theirs: Call
    mean: float = MEAN
    worst: int = WORST
    exact: np.ndarray | None = None
    burst: int = 8
    warm: int = 0
    rounds: int = 1  # times as many pairs as others: where a pair is short, what disturbs it lasts for many

    @property
    def name(self) -> str:
        """Return what the row is known by, in the baseline too."""
        return f"{self.kind}, {self.picture}, {self.output.split(' ')[0]}"


def differences(contest: Contest) -> dict[str, Any]:
    """Return the mean and the worst difference of both sides, and their sizes.

    Raises PixelsDiffer beyond the bounds.
    """
    ours, theirs = contest.ours(0), contest.theirs(0)
    if contest.exact is not None and not np.array_equal(decoded(ours[0]), contest.exact):
        raise PixelsDiffer(f"{contest.name}: gputiles' picture is not exact")
    return apart(contest.name, ours, theirs, contest.mean, contest.worst) | sizes(ours, theirs)


def sizes(ours: list[bytes], theirs: list[bytes]) -> dict[str, Any]:
    """Return the bytes of both sides' pictures, and of a PNG its bytes by those of zlib at level 2."""
    found: dict[str, Any] = {"bytes": [sum(map(len, side)) for side in (ours, theirs)]}
    return found | {"png_by_level_2": round(len(ours[0]) / level_2(ours[0]), 3) if is_png(ours[0]) else None}


def is_png(picture: bytes) -> bool:
    """Say whether an encoded picture is a PNG."""
    return picture.startswith(b"\x89PNG")


def level_2(picture: bytes) -> int:
    """Return the bytes of the PNG that zlib makes of a picture at level 2, with a filter for each row."""
    again = io.BytesIO()
    Image.open(io.BytesIO(picture)).save(again, "PNG", compress_level=2)
    return len(again.getvalue())


def apart(name: str, ours: list[bytes], theirs: list[bytes], mean: float, worst: int) -> dict[str, float]:
    """Return the mean and the worst difference of encoded pictures. Raises PixelsDiffer beyond the bounds."""
    mine, others = ([decoded(picture) for picture in side] for side in (ours, theirs))
    if [picture.shape for picture in mine] != [picture.shape for picture in others]:
        raise PixelsDiffer(f"{name}: the sides' pictures differ in number or size")
    off = [np.abs(one - other) for one, other in zip(mine, others, strict=True)]
    found, most = float(np.mean([each.mean() for each in off])), max(int(each.max()) for each in off)
    if found > mean or most > worst:
        raise PixelsDiffer(
            f"{name}: mean difference at most {mean}, worst at most {worst}; got {found:.3f} and {most}"
        )
    return {"mean_difference": round(found, 4), "worst_difference": most}


def measure(contest: Contest, pairs: int) -> dict[str, Any]:
    """Return the row of a contest: its circumstances, its times, and the loops that ran beside it."""
    found = differences(contest)
    for number in range(-contest.warm, 0):
        contest.ours(number)
        contest.theirs(number)
    pairs *= contest.rounds
    loops, cores = calibration.run(), [calibration.cores()]
    times = [
        (timed(contest.ours, numbers), timed(contest.theirs, numbers))
        for numbers in bursts(pairs, contest.burst)
    ]
    beside = calibration.fastest(loops + calibration.run())
    cores.append(calibration.cores())
    row = spread(times)
    return {
        "name": contest.name,
        "class": contest.kind,
        "file": contest.file,
        "picture": contest.picture,
        "output": contest.output,
        "threads": contest.threads,
        "pairs": pairs,
        "burst": contest.burst,
        "warm": contest.warm,
        **row,
        **found,
        "cores": round(statistics.mean(cores), 1),
        "loops_ms": {name: round(value, 4) for name, value in beside.items()},
        "in_loops": round(min(ours for ours, _ in times) / calibration.unit(beside), 4),
    }
