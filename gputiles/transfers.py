"""Transfers: rasters brought to the host as arrays, and arrays to the backend as rasters."""

from __future__ import annotations

from typing import Any

from gputiles.backends import Raster
from gputiles.batcher import Batcher
from gputiles.errors import GputilesError
from gputiles.histograms import validity_of
from gputiles.sources.drawn import drawn
from gputiles.trace import Trace


async def downloaded(batcher: Batcher, raster: Raster, trace: Trace) -> tuple[Any, Any]:
    """Return a raster's values, and where they are valid (None: everywhere), as arrays.

    They are fetched after all jobs that are nearer to a picture.
    """
    plane = validity_of(raster)
    values = await batcher.submit("download", raster, trace, background=True)
    valid = None if plane is None else await batcher.submit("download", plane, trace, background=True)
    return values, valid


async def uploaded(
    batcher: Batcher, pixels: Any, trace: Trace, valid: Any = None, *, background: bool = False
) -> Raster:
    """Return arrays, as ``drawn`` takes them, as a raster."""
    job = drawn(pixels, valid)
    (raster,) = await batcher.submit("decode", job, trace, weight=pixels.nbytes, background=background)
    if isinstance(raster, GputilesError):
        raise raster
    made: Raster = raster
    return made
