"""The one place that loads a compute backend."""

from __future__ import annotations

import ctypes
import logging
from typing import Any

from gputiles.backends import Backend
from gputiles.backends.host import HostBackend
from gputiles.errors import BadRequest, Unsupported

DRIVER = "libcuda.so.1"

logger = logging.getLogger(__name__)


def load_backend(
    device: str,
    workers: int,
    raw_cache: int | None = None,
    spill_cache: int = 0,
    card_jpegs: int | None = 1,
) -> Backend:
    """Return the backend of ``device``: ``auto``, ``cpu`` or ``cuda[:N]``.

    ``auto`` is the first card where there is one that can be used. ``workers`` are threads of the
    host, ``raw_cache`` the bytes for rasters, None: what is free, ``spill_cache`` those of the host for
    rasters that a card gives up, ``card_jpegs`` the least JPEGs of a batch that a card encodes, None: these
    and whether it encodes PNGs, as trial batches show. Blocks until the kernels are loaded. Raises
    Unsupported where the device is not there, BadRequest for another word.
    """
    kind, _, number = device.partition(":")
    if device == "cpu" or (device == "auto" and not has_driver()):
        return HostBackend(workers, capacity=raw_cache)
    if kind == "cuda" and (number.isdecimal() or device == "cuda"):
        return _cuda(int(number or 0), workers, raw_cache, spill_cache, card_jpegs)
    if device != "auto":
        raise BadRequest(f"device: expected 'auto', 'cpu', 'cuda' or 'cuda:N'; got {device!r}")
    try:
        return _cuda(0, workers, raw_cache, spill_cache, card_jpegs)
    except Unsupported as error:
        logger.warning("the host computes: %s", error)
        return HostBackend(workers, capacity=raw_cache)


def _cuda(
    number: int, workers: int, raw_cache: int | None, spill_cache: int, card_jpegs: int | None
) -> Backend:
    from gputiles.backends import crossover  # here: most machines have no card
    from gputiles.backends.cuda import CudaBackend

    backend = CudaBackend(find_cupy(), number, workers, raw_cache, find_codecs(), spill_cache)
    if card_jpegs is None:
        crossover.settle(backend)
    else:
        backend.habits.card_jpegs = card_jpegs
    return backend


def has_driver() -> bool:
    """Say whether the machine has a CUDA driver; costs nothing where it has none."""
    try:
        ctypes.CDLL(DRIVER)
    except OSError:
        return False
    return True


def find_cupy() -> Any:
    """Return the module ``cupy``. Raises Unsupported where it, or every card, is missing."""
    try:
        import cupy
    except ImportError as error:
        raise Unsupported(
            "device: CUDA needs CuPy, which is not installed; install gputiles[cuda13] or gputiles[cuda12]"
        ) from error
    if not cupy.cuda.is_available():
        raise Unsupported("device: CuPy finds no CUDA card, or no driver for it; use 'cpu' or 'auto'")
    return cupy


def find_codecs() -> Any:
    """Return the module ``nvidia.nvimgcodec``; None where it is not installed: the host decodes all."""
    try:
        from nvidia import nvimgcodec
    except ImportError:
        return None
    return nvimgcodec
