"""Roofline: bytes moved and arithmetic of each host kernel, against the machine's copy bandwidth.

One thread. Rasters are taken in turn from a set that no cache holds; encoders read their picture
from where the composite left it, as in the server. Bytes are those that a kernel must read and
write once. Operations are those that its source writes for a pixel (additions, multiplications,
divisions, comparisons, shifts, conversions), not instructions; entropy coding, which depends on
the picture, is not counted. Of a card `gpu.py` tells the same of its composite.
"""

from __future__ import annotations

import statistics
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks import inputs, restyle
from benchmarks.scope import Scope
from benchmarks.section import Section, number, text
from gputiles import selftest
from gputiles.backends import DownsampleJob, MeasureJob, Raster, RenderJob, ResampleJob
from gputiles.backends.host import HostBackend
from gputiles.backends.hostlib import Call, Library, Pool
from gputiles.backends.paste import raster_of
from gputiles.encoded import Encoding, Format
from gputiles.errors import GputilesError
from gputiles.geometry import Rect, ceil_div
from gputiles.image import Reduction
from gputiles.recipe import BandRecipe, Conversion, ConversionKind, Recipe

SIDE = 512
PIXELS = SIDE * SIDE
BANDS = len(restyle.COLOURS)
SHRUNK = 205  # the side of a region that is made smaller by a fraction
MIB = 2**20

# Operations for a pixel, as the kernels' sources write them.
BAND = 1 + 1 + 1 + 2  # converted, less the low end, divided, limited twice
COMPONENT = 1 + 1  # times the colour, the larger of both; of each component that a colour has
STORED = 2 + 1  # limited twice, truncated
MEAN = 3 + 5  # three sums, half to even and a shift
FRACTION = 2 + 2 + 2  # an area, its product, two sums, two comparisons; for each pixel that is read
EXTREMES, BIN = 2 + 1, 1 + 4 + 2 + 2  # two comparisons, a count; the bin's place, its limits, its borders
ICC = 3 * (3 + 3 + 2 + 4 + 3)  # a row of the matrix, limits, a straight line, rounding; for three colours
YCC = 3 * (3 + 3 + 1 + 1)  # three products, their sum, rounding and a shift, less 128; for three components
TRANSFORM = 3 * 2 * 8 * (12 + 32) // 64  # rows and columns of 8 × 8: 12 products, 32 sums each
QUANTISED = 3 * 4
# Sub, up, average, Paeth; the cost of five, of half of the bytes; one again, to store it; of four samples.
FILTERS = 4 * ((1 + 1 + 3 + 12 + 5 * 2) // 2 + 3)
CODED = 4 * (2 + 1 + 1)  # a code and its length found, put behind those before; of four samples


@dataclass(frozen=True)
class Kernel:
    """What a kernel is given: its verb, and what a call moves and computes at least."""

    name: str
    work: str
    call: Callable[[int], Sequence[Any]]
    moved: int  # bytes
    operations: int
    writes_file: bool = False  # the file's bytes are moved too


class Timed:
    """The kernels, and the seconds of every call of each."""

    def __init__(self) -> None:
        self._library = Library()
        self._names: dict[int, str] = {}  # of kernels, by their addresses
        self._pool: Pool
        self.seconds: defaultdict[str, list[float]] = defaultdict(list)

    def __call__(self, kernel: str, table: NDArray[Any]) -> None:
        """Run a kernel, and note how long it took."""
        began = time.perf_counter()
        self._library(kernel, table)
        self.seconds[kernel].append(time.perf_counter() - began)

    def chain(self, calls: Sequence[Call]) -> None:
        """Run kernels one after the other, each noted by itself."""
        for call in calls:
            self(call.kernel, call.table)

    def shares(self, calls: Sequence[Call], count: int | None = None) -> NDArray[Any]:
        """Return what ``run`` does, and remember which kernels that are."""
        steps = self._library.shares(calls, count)
        self._names |= zip(steps[0]["kernel"].tolist(), (call.kernel for call in calls), strict=True)
        return steps

    def pool(self, cores: Sequence[int]) -> Timed:
        """Return what shares are done by: this thread alone."""
        self._pool = self._library.pool(cores)
        return self

    def wake(self, most: int) -> None:
        """Have other threads awake: not for what is timed, which this one does alone."""

    def run(self, steps: NDArray[Any], _: int) -> None:
        """Do all shares of a kernel, and then those of the next, each noted by itself."""
        for column in range(steps.shape[1]):
            own = np.ascontiguousarray(steps[:, column : column + 1])
            began = time.perf_counter()
            self._pool.run(own, 0)
            self.seconds[self._names[int(own[0, 0]["kernel"])]].append(time.perf_counter() - began)

    def close(self) -> None:
        """End the pool's threads."""
        self._pool.close()


def rows(scope: Scope) -> list[dict[str, Any]]:
    """Return a row for the copy, and one for each kernel. Raises WrongAnswer where a kernel is wrong."""
    timed = Timed()
    backend = HostBackend(1, timed)  # type: ignore[arg-type]
    try:
        for test in selftest.TESTS.values():
            test(backend)
        copy = bandwidth(scope.streamed)
        return [
            _copied(copy, scope.streamed),
            *(row(kernel, timed, copy, scope.bursts) for kernel in kernels(Load(backend, scope.streamed))),
        ]
    finally:
        backend.close()


def bandwidth(size: int, times: int = 10) -> float:
    """Return the bytes that a copy of ``size`` bytes reads and writes in a second, at best."""
    source, target = np.ones(size, np.uint8), np.zeros(size, np.uint8)
    taken = []
    for _ in range(times):
        began = time.perf_counter()
        np.copyto(target, source)
        taken.append(time.perf_counter() - began)
    return 2 * size / min(taken)


class Load:
    """The verbs over rasters in turn, so that each call finds others."""

    def __init__(self, backend: HostBackend, streamed: int) -> None:
        self._backend = backend
        self._planes, self._colours = rasters(streamed)

    def drawn(self, encoding: Format, turn: int) -> Sequence[Any]:
        """Composite all bands and encode."""
        job = RenderJob(recipe(), _some(self._planes, BANDS, turn), SIDE, SIDE, Encoding(encoding))
        return self._backend.render([job])

    def plain(self, turn: int) -> Sequence[Any]:
        """Show a plane by its high bytes."""
        return self._shown(Recipe((0,)), self._planes, turn)

    def converted(self, turn: int) -> Sequence[Any]:
        """Show colours in sRGB."""
        return self._shown(Recipe((0,), icc=conversion()), self._colours, turn)

    def _shown(self, how: Recipe, of: Sequence[Raster], turn: int) -> Sequence[Any]:
        job = RenderJob(how, _some(of, 1, turn), SIDE, SIDE, Encoding(Format.JPEG))
        return self._backend.render([job])

    def measured(self, edges: tuple[float, float, int] | None, turn: int) -> Sequence[Any]:
        """Find the extremes of a plane, or count it."""
        return self._backend.measure([MeasureJob(_some(self._planes, 1, turn)[0], 0, edges)])

    def halved(self, turn: int) -> Sequence[Any]:
        """Make one plane of four."""
        first, second, third, fourth = _some(self._planes, 4, turn)
        children = (first, second, third, fourth)
        job = DownsampleJob(children, (SIDE, SIDE), SIDE, SIDE, Reduction.MEAN)
        return self._backend.downsample([job])

    def shrunk(self, turn: int) -> Sequence[Any]:
        """Make a plane smaller by a fraction."""
        (plane,), region = _some(self._planes, 1, turn), Rect(0, 0, SIDE, SIDE)
        job = ResampleJob(((0, 0, plane),), region, SHRUNK, SHRUNK, Reduction.MEAN)
        return self._backend.resample([job])


def _some(of: Sequence[Raster], count: int, turn: int) -> tuple[Raster, ...]:
    return tuple(of[(turn * count + each) % len(of)] for each in range(count))


def kernels(load: Load) -> list[Kernel]:
    """Return all that is measured."""
    plane, picture, side = PIXELS * 2, PIXELS * 3, f"{SIDE}²"
    drawn, edges = load.drawn, (0.0, 65_536.0, 256)
    composite = BANDS * BAND + sum(map(components, restyle.COLOURS)) * COMPONENT + 3 * STORED
    encode = YCC + TRANSFORM + QUANTISED
    found: list[tuple[str, str, Callable[[int], Sequence[Any]], int, int]] = [
        ("composite", f"{BANDS} uint16 of {side} to RGB", partial(drawn, Format.JPEG),
         BANDS * plane + picture, composite),
        ("jpeg", f"RGB {side}, q95 4:4:4", partial(drawn, Format.JPEG), picture, encode),
        ("png_filter", f"RGBA {side}", partial(drawn, Format.PNG), 8 * PIXELS + SIDE, FILTERS),
        ("png_dense", f"filtered rows of RGBA {side}", partial(drawn, Format.PNG), 4 * PIXELS + SIDE, CODED),
        ("unstyled", f"uint16 {side} to grey", load.plain, plane + PIXELS, 1),
        ("icc", f"RGB {side}, curves and a matrix", load.converted, 2 * picture, ICC),
        ("downsample", f"uint16, four of {side} to one", load.halved, 5 * plane, MEAN),
        ("resample", f"uint16 {side} to {SHRUNK}²", load.shrunk, plane + 2 * SHRUNK**2, FRACTION),
        ("extremes", f"uint16 {side}", partial(load.measured, None), plane, EXTREMES),
        ("histogram", f"uint16 {side}, 256 bins", partial(load.measured, edges), plane, BIN),
    ]  # fmt: skip
    return [
        Kernel(name, work, call, moved, a_pixel * PIXELS, name in ("jpeg", "png_dense"))
        for name, work, call, moved, a_pixel in found
    ]


def components(colour: str) -> int:
    """Return how many components of a colour are not 0: the others cost nothing."""
    return sum(value > 0 for value in bytes.fromhex(colour[1:]))


def rasters(streamed: int) -> tuple[list[Raster], list[Raster]]:
    """Return planes of uint16 and pictures in RGB, of ``streamed`` bytes each at least."""
    planes, picture = inputs.planes("tissue", BANDS, SIDE), inputs.slide_picture("tissue", SIDE)
    wide = max(BANDS, ceil_div(streamed, PIXELS * 2))
    return (
        [raster_of(planes[at % BANDS, ..., np.newaxis].copy()) for at in range(wide)],
        [raster_of(picture.copy()) for _ in range(ceil_div(streamed, PIXELS * 3))],
    )


def recipe() -> Recipe:
    """Return a composite of all bands in the colours of the other benchmarks."""
    bands = [
        BandRecipe(band, 0, 100.0, 30_000.0, _palette(colour)) for band, colour in enumerate(restyle.COLOURS)
    ]
    return Recipe(tuple(range(BANDS)), tuple(bands))


def _palette(colour: str) -> NDArray[np.float32]:
    return np.array([(0, 0, 0, 255), (*bytes.fromhex(colour[1:]), 255)], np.float32)


def conversion() -> Conversion:
    """Return a conversion of curves and a matrix."""
    curves = np.tile(np.linspace(0, 1, 256, dtype=np.float32) ** np.float32(2.2), (3, 1))
    matrix = np.array([[0.8, 0.3, -0.1], [0.1, 0.7, 0.2], [0, 0.1, 0.9]], np.float32)
    table = np.linspace(0, 1, 4097, dtype=np.float32) ** np.float32(1 / 2.2) * np.float32(255)
    return Conversion(ConversionKind.MATRIX, 255, curves, matrix, np.zeros(3, np.float32), table)


def row(kernel: Kernel, timed: Timed, copy: float, calls: int) -> dict[str, Any]:
    """Return what a kernel moves and computes, and how long it takes for it."""
    size = len(_outcome(kernel, 0)) if kernel.writes_file else 0
    timed.seconds.clear()
    for turn in range(1, 1 + calls):
        _outcome(kernel, turn)
    seconds, moved = statistics.median(timed.seconds[kernel.name]), kernel.moved + size
    return {
        "name": kernel.name,
        "work": kernel.work,
        "moved": moved,
        "operations": kernel.operations,
        "operations_a_byte": round(kernel.operations / moved, 2),
        "ms": round(seconds * 1000, 4),
        "memory_ms": round(moved / copy * 1000, 4),
        "gb_per_s": round(moved / seconds / 1e9, 2),
        "share_of_copy": round(moved / seconds / copy, 3),
        "gop_per_s": round(kernel.operations / seconds / 1e9, 2),
    }


def _outcome(kernel: Kernel, turn: int) -> Any:
    (outcome,) = kernel.call(turn)
    if isinstance(outcome, GputilesError):
        raise outcome
    return outcome


def _copied(copy: float, size: int) -> dict[str, Any]:
    milliseconds = round(2 * size / copy * 1000, 4)
    return {
        "name": "copy",
        "work": f"{size // MIB} MiB",
        "moved": 2 * size,
        "operations": 0,
        "operations_a_byte": 0.0,
        "ms": milliseconds,
        "memory_ms": milliseconds,
        "gb_per_s": round(copy / 1e9, 2),
        "share_of_copy": 1.0,
        "gop_per_s": 0.0,
    }


SECTION = Section(
    title="Roofline",
    note="One thread of the host; medians of calls over rasters that no cache holds. Memory alone: the time "
    "of as many bytes at the bandwidth of a copy. Operations are counted in the sources, entropy coding is "
    "left out.",
    columns={
        "kernel": text("name"),
        "work": text("work"),
        "MiB moved": lambda row: f"{row['moved'] / MIB:.2f}",
        "Mop": lambda row: f"{row['operations'] / 1e6:.1f}",
        "op/byte": number("operations_a_byte", 1),
        "ms": number("ms", 3),
        "memory alone, ms": number("memory_ms", 3),
        "GB/s": number("gb_per_s", 1),
        "of the copy's": lambda row: f"{row['share_of_copy']:.0%}",
        "Gop/s": number("gop_per_s", 1),
    },
    measure=rows,
)
