"""What comes of a kernel in which one barrier is forgotten: ``python -m tests.forgotten`` prints it.

Each barrier's turn is in a process of its own, which may die of it.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import resource

import numpy as np

from gputiles.backends import MeasureJob, RenderJob, modules, proving
from gputiles.backends.cuda import CudaBackend
from gputiles.backends.paste import raster_of
from gputiles.encoded import Encoding, Format
from gputiles.recipe import Recipe
from tests import parity
from tests.standin import StandIn, compiled
from tests.test_cuda_memory import U16
from tests.test_cuda_unpack import codec_of, job_of

ORDERS = (1, -1, 2, 3)  # of threads: see StandIn
BARRIERS = [
    f"{path.name}:{at}"
    for path in sorted(modules.folder().iterdir())
    if path.suffix in (".cu", ".h") and path.name != "target.h"
    for at, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
    if re.search(r"^ +BARRIER\(\);|^COUNT_KERNEL\(", line)  # whose barriers have the line where it is used
]
NONE = "none:0"
SECONDS = 60


def outcomes() -> str:
    """Return the digests of what cards make of one batch: one, unless the order of threads matters."""
    rng = np.random.default_rng(2)
    pictures = [rng.integers(0, 9, (90, 300, 3)), rng.integers(0, 256, (50, 300, 3)), *proving.trials()]
    found = set()
    for order in ORDERS:
        backend = CudaBackend(StandIn(order=order), 0, 1)
        rasters = parity.up(backend, [raster_of(each.astype(np.uint8)) for each in pictures])
        png = Encoding(Format.PNG)
        jobs = [RenderJob(Recipe((0,)), (each,), each.shape[1], each.shape[0], png) for each in rasters]
        files = backend.render(jobs)
        (tiles,) = backend.decode([job_of(U16, codec_of(U16, 3, predictor=2), 3)])
        made = [pixels.tobytes() for pixels in backend.download(tiles)]  # type: ignore[arg-type,union-attr]
        made += [repr(found) for found in backend.measure([MeasureJob(rasters[0], 0, (0.0, 9.0, 9))])]
        found.add(hashlib.sha256(repr((backend.encoders, files, made)).encode()).hexdigest()[:16])
        backend.close()
    return " ".join(sorted(found))


def told(barrier: str) -> str:
    """Return the outcome of passing a barrier (file:line) by: digests, or that the process died."""
    ours, theirs = os.pipe()
    child = os.fork()
    if not child:
        resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        file, _, line = barrier.partition(":")
        compiled().forget_barrier(file.encode(), int(line))
        os.write(theirs, outcomes().encode())
        os._exit(0)
    os.close(theirs)
    with os.fdopen(ours, "rb") as pipe:
        answer = pipe.read().decode()
    status = os.waitpid(child, 0)[1]
    return answer if status == 0 else f"died of {status}"


def main() -> None:
    """Print the outcome of each barrier, and of none."""
    compiled()
    print(json.dumps({barrier: told(barrier) for barrier in (NONE, *BARRIERS)}))


if __name__ == "__main__":
    main()
