"""The kernels as CUDA modules: what there is, how it is compiled, how it is launched."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gputiles.backends import tables
from gputiles.geometry import ceil_div

RUN = 4  # pixels of a run: RUN in target.h, where it is compiled for CUDA
PIECE = 4 * RUN  # bytes that a thread of paste and pack moves: PIECE in paste.cu
MOST_JOBS = 65_535  # of a launch: gridDim.y
MOST_COUNTERS = 64  # blocks that count one raster together

JOBS = {
    "Composite": tables.COMPOSITE, "Unstyled": tables.UNSTYLED, "Downsample": tables.DOWNSAMPLE,
    "Resample": tables.RESAMPLE, "Measure": tables.MEASURE, "PngFilter": tables.PNG_FILTER,
    "Jpeg": tables.JPEG, "Icc": tables.ICC, "Paste": tables.PASTE, "Follow": tables.FOLLOW,
    "Pack": tables.PACK, "PngLook": tables.PNG_LOOK, "PngDeflate": tables.PNG_DEFLATE,
    "PngTail": tables.PNG_TAIL, "PngDense": tables.PNG_DENSE, "Unpack": tables.UNPACK,
    "Turned": tables.TURNED, "Ycc": tables.YCC,
}  # fmt: skip
"""The dtypes of the job structs that kernels take, by their names in tables.h."""

# Threads of a block. Where a run is a whole row or segment there are few, and they part ways:
# small blocks spread them over the card.
THREADS = {
    "jpeg": 4,
    "png_filter": 32,
    "extremes": 32,
    "histogram": 64,
    "follow": 32,
    "png_deflate": 128,
    "unpack": 64,
}
USUAL_THREADS = 128

_ENTRY = re.compile(r"^(PIXEL|COUNT|BLOCK)_KERNEL\((\w+), (\w+),", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Kernel:
    """An entry point: the file that it is in, and the job struct of its table.

    A run is a thread's, but for kernels of ``kind`` COUNT, whose blocks share all runs, and BLOCK,
    where a whole block does one.
    """

    name: str
    file: str
    job: np.dtype[Any]
    kind: str

    def grid(self, table: NDArray[Any]) -> tuple[tuple[int, int], tuple[int]]:
        """Return (blocks across, jobs) and (threads,) that reach every run of every job.

        Raises TypeError for a table of other jobs, ValueError for none or too many.
        """
        if table.dtype != self.job:
            raise TypeError(f"{self.name}: expected a table of {self.job}; got {table.dtype}")
        if table.ndim != 1 or not 0 < len(table) <= MOST_JOBS:
            raise ValueError(f"{self.name}: expected 1 to {MOST_JOBS} jobs in a row; got {table.shape}")
        threads = THREADS.get(self.name, USUAL_THREADS)
        runs = int(table["runs"].max())
        across = max(1, runs if self.kind == "BLOCK" else ceil_div(runs, threads))
        return (min(across, MOST_COUNTERS) if self.kind == "COUNT" else across, len(table)), (threads,)


def folder() -> Path:
    """Return where the kernels' sources are installed."""
    return Path(str(files("gputiles.kernels")))


@lru_cache(maxsize=1)
def kernels() -> dict[str, Kernel]:
    """Return all kernels by name, as their sources declare them."""
    return {
        name: Kernel(name, path.name, JOBS[job], kind)
        for path in sorted(folder().glob("*.cu"))
        for kind, name, job in _ENTRY.findall(path.read_text(encoding="utf-8"))
    }


@lru_cache(maxsize=1)
def digest() -> str:
    """Return what tells these sources from others: CuPy's cache of modules looks at no header."""
    paths = sorted(path for path in folder().iterdir() if path.suffix in (".cu", ".h"))
    together = hashlib.blake2b(digest_size=16)
    for path in paths:
        together.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    return together.hexdigest()


def options() -> tuple[str, ...]:
    """Return the compiler's options: as the host, nothing is contracted to a fused multiply-add."""
    return ("--std=c++17", "--fmad=false", f"-I{folder()}", f"-DKERNELS_{digest()}")
