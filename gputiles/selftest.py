"""The self-test of a backend: small inputs whose answers are worked out by hand."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import imagecodecs
import numpy as np
from numpy.typing import NDArray

from gputiles.backends import Backend, Chunk, DecodeJob, DownsampleJob, MeasureJob, Outcome, Raster, RenderJob
from gputiles.encoded import Encoding, Format
from gputiles.errors import GputilesError
from gputiles.geometry import Rect
from gputiles.image import Reduction
from gputiles.recipe import BandRecipe, Recipe
from gputiles.sources.bytecodec import ByteCodec

T = TypeVar("T")


class WrongAnswer(Exception):
    """An answer of the self-test is not the known one."""


def _composite(backend: Backend) -> str:
    """Show a uint16 ramp in the window 100 … 300 in red, a constant in green at half opacity."""
    ramp = _raster(backend, [[0, 100, 101, 200, 299, 300, 65_535]])
    flat = _raster(backend, [[50, 50, 50, 50, 50, 50, 50]])
    red = BandRecipe(0, 0, 100.0, 300.0, _palette((255, 0, 0)))
    green = BandRecipe(1, 0, 0.0, 100.0, _palette((0, 255, 0)), opacity=0.5)
    picture = _render(backend, Recipe((0, 1), (red, green)), ramp, flat)
    reds, greens = [0, 0, 1, 127, 253, 255, 255], [63] * 7
    _expect(picture[0, :, 0], reds)
    _expect(picture[0, :, 1], greens)
    return f"red {reds}, green {greens[0]}"


def _unstyled(backend: Backend) -> str:
    """Convert uint16 to bytes, which keeps the high byte."""
    picture = _render(backend, Recipe((0,)), _raster(backend, [[0, 255, 256, 4095, 65_535]]))
    _expect(np.squeeze(picture), [0, 0, 1, 15, 255])
    return "high bytes of uint16"


def _downsample(backend: Backend) -> str:
    """Average 2×2, rounding half to even; the odd last column averages what exists."""
    raster = _raster(backend, [[0, 1, 1, 2, 7], [0, 1, 1, 2, 8], [1, 2, 0, 0, 9], [2, 2, 0, 1, 9]])
    job = DownsampleJob((raster, None, None, None), (8, 8), 3, 2, Reduction.MEAN)
    made = _only(backend.download([_only(backend.downsample([job]))]))
    _expect(made[..., 0], [[0, 2, 8], [2, 0, 9]])
    return "0.5 → 0, 1.5 → 2, 7.5 → 8, 1.75 → 2"


def _measure(backend: Backend) -> str:
    """Find extremes and a histogram, the last bin closed at its upper end."""
    raster = _raster(backend, [[3, 4, 5, 9, 10, 20, 21]])
    extremes = _only(backend.measure([MeasureJob(raster, 0)]))
    _expect((extremes.low, extremes.high, extremes.count), (3, 21, 7))
    counts = _only(backend.measure([MeasureJob(raster, 0, (0.0, 20.0, 4))])).histogram
    _expect(counts, [2, 2, 1, 1])
    return "extremes 3 … 21, bins 2 2 1 1"


def _png(backend: Backend) -> str:
    """Encode a PNG, which gives back every byte."""
    pixels = np.random.default_rng(1).integers(0, 256, (67, 131, 3), np.uint8)
    data = _encode(backend, Recipe((0,)), (_upload(backend, pixels),), Format.PNG)
    _expect(imagecodecs.png_decode(data), pixels)
    return f"{len(data)} bytes, exact"


def _jpeg(backend: Backend) -> str:
    """Encode a smooth picture as JPEG, which comes back within 3 levels."""
    y, x = np.mgrid[0:96, 0:128]
    pixels = np.stack([x * 2, y * 2, 255 - x], axis=-1).astype(np.uint8)
    data = _encode(backend, Recipe((0,)), (_upload(backend, pixels),), Format.JPEG)
    worst = int(np.abs(imagecodecs.jpeg8_decode(data).astype(int) - pixels).max())
    if worst > 3:
        raise WrongAnswer(f"off by {worst} levels")
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


def _raster(backend: Backend, rows: Sequence[Sequence[int]]) -> Raster:
    return _upload(backend, np.array(rows, np.uint16)[..., None])


def _upload(backend: Backend, pixels: NDArray[Any]) -> Raster:
    """Bring (rows, columns, samples) to the backend the way that a file's pixels come: decoded."""
    height, width, samples = pixels.shape
    codec = ByteCodec(1, samples, pixels.dtype.itemsize * 8, pixels.dtype.kind, "<")
    place = Rect(0, 0, width, height)
    chunk = Chunk(codec, pixels.astype(pixels.dtype.newbyteorder("<")).tobytes(), place)
    job = DecodeJob((chunk,), (place,), (width, height), samples, pixels.dtype)
    (raster,) = _only(backend.decode([job]))
    if isinstance(raster, GputilesError):
        raise raster
    return raster


def _encode(backend: Backend, recipe: Recipe, rasters: tuple[Raster, ...], format: Format) -> bytes:
    height, width, _ = rasters[0].shape
    return _only(backend.render([RenderJob(recipe, rasters, width, height, Encoding(format))]))


def _render(backend: Backend, recipe: Recipe, *rasters: Raster) -> NDArray[Any]:
    picture: NDArray[Any] = imagecodecs.png_decode(_encode(backend, recipe, rasters, Format.PNG))
    return picture


def _only(outcomes: Sequence[Outcome[T]]) -> T:
    """Return the value of the one outcome, or raise its error."""
    (outcome,) = outcomes
    if isinstance(outcome, GputilesError):
        raise outcome
    return outcome


def _expect(found: Any, known: Any) -> None:
    if not np.array_equal(found, known):
        raise WrongAnswer(f"expected {np.asarray(known).tolist()}, got {np.asarray(found).tolist()}")
