"""The doctor: checks that gputiles works on this machine, each with a finding."""

from __future__ import annotations

import importlib.metadata
import platform
import resource
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import Enum
from typing import TypeVar

import gputiles
from gputiles.backends import Backend
from gputiles.backends.cuda import CudaBackend
from gputiles.backends.load import load_backend
from gputiles.cardtest import CARD_TESTS
from gputiles.config import Config, host_rasters, memory_limit, usable_cores
from gputiles.errors import GputilesError, Unsupported
from gputiles.selftest import TESTS

LIBRARIES = (
    "numpy", "imagecodecs", "isal", "aiohttp", "cachetools", "click", "cmap", "defusedxml", "palettable",
    "prometheus-client", "tifffile",
)  # fmt: skip
OPTIONAL = (
    "cupy-cuda13x", "cupy-cuda12x", "nvidia-cuda-nvrtc", "nvidia-cuda-nvrtc-cu12",
    "nvidia-nvimgcodec-cu13", "nvidia-nvimgcodec-cu12", "nvidia-nvjpeg", "nvidia-nvjpeg-cu12",
    "nvidia-nvjpeg2k-cu13", "nvidia-nvjpeg2k-cu12",
)  # fmt: skip

B = TypeVar("B")


class State(Enum):
    """How a check ended."""

    GOOD = "ok"
    ABSENT = "absent"  # not there, and not needed
    BAD = "FAILED"


@dataclass(frozen=True, slots=True)
class Finding:
    """What one check found."""

    name: str
    state: State
    detail: str


def examine(device: str) -> Iterator[Finding]:
    """Yield the findings on this machine, with ``device`` (as in Config) put to the test."""
    yield Finding("gputiles", State.GOOD, f"{gputiles.__version__} on Python {platform.python_version()}")
    yield Finding("machine", State.GOOD, f"{platform.machine()}, {usable_cores()} usable cores")
    yield from (_library(name, State.BAD) for name in LIBRARIES)
    yield from (_library(name, State.ABSENT) for name in OPTIONAL)
    yield _memory()
    yield _descriptors()
    yield from _device(device)


def _library(name: str, otherwise: State) -> Finding:
    try:
        return Finding(name, State.GOOD, importlib.metadata.version(name))
    except importlib.metadata.PackageNotFoundError:
        return Finding(name, otherwise, "not installed")


def _memory() -> Finding:
    raw, encoded = _size(host_rasters()), _size(Config().tile_cache)
    limits = f"{_size(memory_limit())} may be used; caches: raw {raw}, encoded {encoded}"
    return Finding("memory", State.GOOD, limits)


def _size(count: int) -> str:
    return f"{count / 2**20:,.0f} MiB"


def _descriptors() -> Finding:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    limits = f"{soft} descriptors (at most {hard})"
    return Finding("open files", State.GOOD, f"{limits}; {Config().sources} for images")


def _device(device: str) -> Iterator[Finding]:
    """Load the backend of ``device`` and put its kernels to the test."""
    try:
        backend = load_backend(device, 1)
    except (ImportError, OSError, GputilesError) as error:
        yield Finding(f"device {device}", State.BAD, str(error))
        return
    yield Finding(f"device {device}", State.GOOD, f"{backend.name}, kernels loaded")
    try:
        yield from (_try(name, test, backend) for name, test in TESTS.items())
        if isinstance(backend, CudaBackend):
            yield from (_try(name, test, backend) for name, test in CARD_TESTS.items())
    finally:
        backend.close()
    yield _other_device(backend)


def _other_device(backend: Backend) -> Finding:
    """Say whether CUDA could be used; that it is absent is no failure."""
    if backend.name == "cuda":
        return Finding("CUDA", State.GOOD, "in use")
    try:
        load_backend("cuda", 1).close()
    except (ImportError, OSError, Unsupported) as error:
        return Finding("CUDA", State.ABSENT, str(error))
    return Finding("CUDA", State.GOOD, "can be used")


def _try(name: str, test: Callable[[B], str], backend: B) -> Finding:
    try:
        return Finding(name, State.GOOD, test(backend))
    except Exception as error:  # whatever breaks here is the finding
        return Finding(name, State.BAD, f"{type(error).__name__}: {error}")
