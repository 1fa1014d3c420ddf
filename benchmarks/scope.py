"""The scope of a run: how much of everything is measured, by mode."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from gputiles.config import Config


@dataclass(frozen=True)
class Scope:
    """How much is measured, and where the files are written. Sides are pixels, times seconds."""

    folder: Path
    pairs: int  # of a contest
    slide: int = 4096  # the side of a slide
    overview: int = 8192  # the side of an overview's file
    pictures: tuple[str, ...] = ("noise", "tissue")  # of contests and stages
    rivals: tuple[str, ...] = ("noise", "tissue")  # that other servers are asked for
    runs: int = 5  # of a row over HTTP
    seconds: int = 3  # of each of them
    traced: int = 5  # seconds of a viewer's trace
    bursts: int = 20  # of a kernel
    connections: tuple[int, ...] = (1, 2, 4, 8, 16, 32, 64, 128, 256)  # points of a curve over HTTP
    channels: tuple[int, ...] = (1, 2, 4, 8, 16, 32, 64)  # the same: of a 512² tile
    sides: tuple[int, ...] = (256, 512, 1024)  # the same: of a tile of 6 channels
    slides: tuple[int, ...] = (1024, 2048, 4096, 8192, 16384)  # the same: of slides
    shares: tuple[float, ...] = (0.25, 0.5, 0.75, 0.9, 1.1)  # of a closed loop's rate, in an open loop
    streamed: int = 128 * 2**20  # bytes that kernels go through, more than caches hold
    profiled: int = 6  # tiles across a file whose stages are looked at
    engine: Config | None = None  # of images that are opened in this process; by default as it is


QUICK, FULL, TINY = "quick", "full", "tiny"
MODES = {
    QUICK: Scope(Path(), 11, 4096, 2048, runs=1, seconds=2, bursts=3, profiled=3),
    FULL: Scope(Path(), 25, 8192, 8192),
    TINY: Scope(
        Path(),
        1,
        512,
        512,
        rivals=("tissue",),
        runs=1,
        seconds=1,
        traced=1,
        bursts=1,
        connections=(1, 3),
        channels=(1, 64),
        sides=(256,),
        slides=(512,),
        shares=(0.5,),
        streamed=2**20,
        profiled=2,
    ),
}
