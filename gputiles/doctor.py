"""The doctor: checks that gputiles works on this machine, each with a finding.

The self-test runs a backend's kernels on small inputs whose answers are written out here.
"""

from __future__ import annotations

import importlib.metadata
import platform
import resource
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any, TypeVar

import imagecodecs
import numpy as np
from numpy.typing import NDArray

import gputiles
from gputiles.backends import Backend, DownsampleJob, MeasureJob, Outcome, Raster, RenderJob
from gputiles.backends.load import load_backend
from gputiles.config import Config, memory_limit, usable_cores
from gputiles.encoded import Encoding, Format
from gputiles.errors import GputilesError, Unsupported
from gputiles.image import Reduction
from gputiles.recipe import BandRecipe, Blend, Recipe

LIBRARIES = ("numpy", "imagecodecs", "isal", "aiohttp", "cachetools", "click", "defusedxml", "tifffile")
OPTIONAL = ("cupy-cuda13x", "cupy-cuda12x", "nvidia-cuda-nvrtc")

T = TypeVar("T")


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


class _Wrong(Exception):
    """A self-test's answer is not the known one."""


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
    config = Config()
    shelves = config.tile_cache + config.raw_cache
    state = State.GOOD if shelves < memory_limit() else State.BAD
    return Finding(
        "memory",
        state,
        f"{_size(memory_limit())} may be used; caches: raw {_size(config.raw_cache)}, "
        f"encoded {_size(config.tile_cache)}",
    )


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


def _try(name: str, test: Callable[[Backend], str], backend: Backend) -> Finding:
    try:
        return Finding(name, State.GOOD, test(backend))
    except Exception as error:  # whatever breaks here is the finding
        return Finding(name, State.BAD, f"{type(error).__name__}: {error}")


# -- the self-test: small inputs, answers worked out by hand


def _composite(backend: Backend) -> str:
    """A uint16 ramp in the window 100 … 300, red; and a constant, green at half opacity."""
    ramp = _raster([[0, 100, 101, 200, 299, 300, 65_535]])
    flat = _raster([[50, 50, 50, 50, 50, 50, 50]])
    red = BandRecipe(0, 0, 100.0, 300.0, _palette((255, 0, 0)))
    green = BandRecipe(1, 0, 0.0, 100.0, _palette((0, 255, 0)), blend=Blend.LIGHTEN, opacity=0.5)
    picture = _render(backend, Recipe((0, 1), (red, green)), (ramp, flat), Encoding(Format.PNG))
    reds, greens = [0, 0, 1, 127, 253, 255, 255], [63] * 7
    _expect(picture[0, :, 0], reds)
    _expect(picture[0, :, 1], greens)
    return f"red {reds}, green {greens[0]}"


def _unstyled(backend: Backend) -> str:
    """The conversion of uint16 to bytes keeps the high byte."""
    picture = _render(
        backend, Recipe((0,)), (_raster([[0, 255, 256, 4095, 65_535]]),), Encoding(Format.PNG)
    )
    _expect(np.squeeze(picture), [0, 0, 1, 15, 255])
    return "high bytes of uint16"


def _downsample(backend: Backend) -> str:
    """Means of 2×2 are rounded half to even; the odd last column averages what exists."""
    raster = _raster([[0, 1, 1, 2, 7], [0, 1, 1, 2, 8], [1, 2, 0, 0, 9], [2, 2, 0, 1, 9]])
    job = DownsampleJob((raster, None, None, None), (8, 8), 3, 2, Reduction.MEAN)
    made = _only(backend.download([_only(backend.downsample([job]))]))
    _expect(made[..., 0], [[0, 2, 8], [2, 0, 9]])
    return "0.5 → 0, 1.5 → 2, 7.5 → 8, 1.75 → 2"


def _measure(backend: Backend) -> str:
    """Extremes and a histogram, the last bin closed at its upper end."""
    raster = _raster([[3, 4, 5, 9, 10, 20, 21]])
    extremes = _only(backend.measure([MeasureJob(raster, 0)]))
    _expect((extremes.low, extremes.high, extremes.count), (3, 21, 7))
    counts = _only(backend.measure([MeasureJob(raster, 0, (0.0, 20.0, 4))])).histogram
    _expect(counts, [2, 2, 1, 1])
    return "extremes 3 … 21, bins 2 2 1 1"


def _png(backend: Backend) -> str:
    """A PNG gives back every byte."""
    pixels = np.random.default_rng(1).integers(0, 256, (67, 131, 3), np.uint8)
    data = _encode(backend, Recipe((0,)), (_of(pixels),), Encoding(Format.PNG))
    _expect(imagecodecs.png_decode(data), pixels)
    return f"{len(data)} bytes, exact"


def _jpeg(backend: Backend) -> str:
    """A JPEG of a smooth picture comes back within 3 levels."""
    y, x = np.mgrid[0:96, 0:128]
    pixels = np.stack([x * 2, y * 2, 255 - x], axis=-1).astype(np.uint8)
    data = _encode(backend, Recipe((0,)), (_of(pixels),), Encoding(Format.JPEG))
    worst = int(np.abs(imagecodecs.jpeg8_decode(data).astype(int) - pixels).max())
    if worst > 3:
        raise _Wrong(f"off by {worst} levels")
    return f"{len(data)} bytes, within {worst}"


TESTS: dict[str, Callable[[Backend], str]] = {
    "composite": _composite,
    "unstyled": _unstyled,
    "downsample": _downsample,
    "measure": _measure,
    "PNG": _png,
    "JPEG": _jpeg,
}


def _palette(colour: Sequence[int]) -> NDArray[np.float32]:
    return np.array([(0, 0, 0, 255), (*colour, 255)], np.float32)


def _raster(rows: Sequence[Sequence[int]]) -> NDArray[Any]:
    return np.array(rows, np.uint16)[..., None]
