"""The host backend: the kernels compiled by the C++ compiler, on the processor's cores."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from functools import lru_cache, partial
from itertools import pairwise
from typing import Any, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from gputiles import arrays
from gputiles.backends import (
    DecodeJob,
    DownsampleJob,
    MeasureJob,
    Measurement,
    Outcome,
    Raster,
    RenderJob,
    ResampleJob,
    Tiles,
    tables,
)
from gputiles.backends.conversion import Converter
from gputiles.backends.encode import SCRATCH, File, JpegFile, Part, PngFile
from gputiles.backends.hostlib import Call, Library
from gputiles.backends.paste import decode_tiles, mosaic, raster_of
from gputiles.backends.tables import Placed
from gputiles.backends.turn import turned
from gputiles.encoded import Encoding, Format, Turn
from gputiles.errors import GputilesError, OutOfMemory
from gputiles.image import Reduction
from gputiles.recipe import Recipe

RUN = 1024  # pixels of a run: RUN in target.h
UPRIGHT = Turn()
MOST_TILES = 4  # that one worker renders before it says that any is done
SHARE = 65536  # pixels that are worth the waking of another thread

J = TypeVar("J")
R = TypeVar("R")


class Picture(NamedTuple):
    """A picture to be made: its kernel, its job table, where it will lie, and what the table points to."""

    kernel: str
    table: NDArray[Any]
    pixels: NDArray[np.uint8]
    held: tuple[Any, ...]


class Begun(NamedTuple):
    """A tile of several: the kernels to run, in turn, what makes its file then, what the kernels read."""

    calls: tuple[Call, ...]
    finish: Callable[[], bytes]
    held: object = None


class HostBackend:
    """A backend whose device memory is host memory; rasters are read-only NumPy arrays."""

    name = "cpu"

    def __init__(self, workers: int, library: Library | None = None) -> None:
        self.workers = workers
        self._run = library or Library()
        self._scratch = threading.local()
        self._colours = Converter(self._run, self._buffer, RUN)
        self._helpers = ThreadPoolExecutor(workers, thread_name_prefix="gputiles-helper")
        self._busy = 0
        self._counting = threading.Lock()

    def batch_size(self, verb: str, waiting: int) -> int:
        """Return 1, or more tiles where many wait: each hand-over to a worker costs the event loop."""
        return max(1, min(MOST_TILES, -(-waiting // (2 * self.workers)))) if verb == "render" else 1

    def decode(self, jobs: Sequence[DecodeJob]) -> list[Outcome[Tiles]]:
        """Decode each job's chunks once into one raster, or error, per tile of the job."""
        return self._each(decode_tiles, jobs)

    def downsample(self, jobs: Sequence[DownsampleJob]) -> list[Outcome[Raster]]:
        """Make each job's tile from its children."""
        return self._each(self._downsample, jobs)

    def resample(self, jobs: Sequence[ResampleJob]) -> list[Outcome[Raster]]:
        """Cut and resize each job's region."""
        return self._each(self._resample, jobs)

    def measure(self, jobs: Sequence[MeasureJob]) -> list[Outcome[Measurement]]:
        """Measure each job's raster."""
        return self._each(self._measure, jobs)

    def render(self, jobs: Sequence[RenderJob]) -> list[Outcome[bytes]]:
        """Composite and encode each job's tile."""
        if len(jobs) == 1:  # idle workers may help
            return self._each(self._render, jobs)
        begun = self._each(self._begin, enumerate(jobs))
        self._run.chain([call for tile in begun if isinstance(tile, Begun) for call in tile.calls])
        finished = iter(self._each(lambda tile: tile.finish(), (t for t in begun if isinstance(t, Begun))))
        return [next(finished) if isinstance(tile, Begun) else tile for tile in begun]

    def download(self, jobs: Sequence[Raster]) -> list[Outcome[NDArray[Any]]]:
        """Copy each raster to a new NumPy array of (rows, columns, samples)."""
        return self._each(lambda raster: np.array(raster.pixels), jobs)

    def close(self) -> None:
        """End the helpers; nothing else is held but memory."""
        self._helpers.shutdown()

    def _each(self, function: Callable[[J], R], jobs: Iterable[J]) -> list[Outcome[R]]:
        """Return one outcome per job: what a job dies of is its own."""
        outcomes: list[Outcome[R]] = []
        with self._counted(1):
            for job in jobs:
                try:
                    outcomes.append(function(job))
                except GputilesError as error:
                    outcomes.append(error)
                except MemoryError as error:
                    outcomes.append(OutOfMemory(f"not enough memory: {error}"))
        return outcomes

    @contextmanager
    def _counted(self, workers: int, most: int | None = None) -> Iterator[int]:
        """Count ``workers`` as busy, or as many of them as keep within ``most``."""
        with self._counting:
            count = workers if most is None else max(0, min(workers, most - self._busy))
            self._busy += count
        try:
            yield count
        finally:
            with self._counting:
                self._busy -= count

    def _idle_workers(self, wanted: int) -> AbstractContextManager[int]:
        """Claim up to ``wanted`` workers that have nothing to do; the value is how many."""
        return self._counted(wanted, self.workers)

    # -- made tiles

    def _downsample(self, job: DownsampleJob) -> Raster:
        children = [None if child is None else placed(child) for child in job.children]
        like = next(child for child in job.children if child is not None)
        table = np.zeros(1, tables.DOWNSAMPLE)
        row = table[0]
        tables.fill_downsample(row, job, children, RUN)
        row["nearest"] = job.reduction is Reduction.NEAREST
        doubtful = job.alpha or may_lack(like.dtype, job.nodata)
        partial = doubtful or any(child is not None and child.valid is not None for child in job.children)
        return self._make("downsample", table, like, (job.height, job.width), partial)

    def _resample(self, job: ResampleJob) -> Raster:
        source = mosaic(job.tiles, job.region)
        table = np.zeros(1, tables.RESAMPLE)
        row = table[0]
        row["source"] = tables.source(placed(source), job.nodata)
        row["empty"] = tables.empty(source.dtype, job.nodata)
        row["width"], row["height"], row["alpha"] = job.width, job.height, job.alpha
        row["nearest"] = job.reduction is Reduction.NEAREST or (
            job.width >= job.region.width and job.height >= job.region.height
        )
        row["runs"] = tables.runs(job.width, job.height, RUN)
        partial = source.valid is not None or job.alpha or may_lack(source.dtype, job.nodata)
        return self._make("resample", table, source, (job.height, job.width), partial)

    def _make(
        self, kernel: str, table: NDArray[Any], like: Raster, size: tuple[int, int], partial: bool
    ) -> Raster:
        """Run a kernel that makes one raster like ``like`` of ``size`` (rows, columns)."""
        pixels = np.empty((*size, like.shape[2]), like.dtype)
        valid = np.empty(size, np.uint8) if partial else None
        table["out"], table["valid"] = pixels.ctypes.data, address(valid)
        self._run(kernel, table)
        return raster_of(pixels, None if valid is None or valid.all() else valid)

    # -- measures

    def _measure(self, job: MeasureJob) -> Measurement:
        source = self._colours.shown(job.icc, placed(job.raster), job.nodata)
        return self._extremes(job, source) if job.edges is None else self._histogram(job, job.edges, source)

    def _extremes(self, job: MeasureJob, source: Placed) -> Measurement:
        rows = np.zeros(job.raster.shape[0], tables.EXTREMES)
        table = np.zeros(1, tables.MEASURE)
        tables.fill_measure(table[0], job, source, rows.ctypes.data, 0)
        self._run("extremes", table)
        counted = rows[rows["count"] > 0]
        if not len(counted):
            return Measurement(float("inf"), float("-inf"), 0)
        return Measurement(
            float(counted["low"].min()), float(counted["high"].max()), int(counted["count"].sum())
        )

    def _histogram(self, job: MeasureJob, edges: tuple[float, float, int], source: Placed) -> Measurement:
        low, high, bins = edges
        if low == high:  # as numpy.histogram does
            low, high = low - 0.5, high + 0.5
            job = replace(job, edges=(low, high, bins))
        borders = np.linspace(low, high, bins + 1)
        counts = np.zeros(bins, np.int64)
        table = np.zeros(1, tables.MEASURE)
        tables.fill_measure(table[0], job, source, counts.ctypes.data, borders.ctypes.data)
        self._run("histogram", table)
        found = np.flatnonzero(counts)
        if not len(found):
            return Measurement(float("inf"), float("-inf"), 0, counts)
        return Measurement(float(borders[found[0]]), float(borders[found[-1]]), int(counts.sum()), counts)

    # -- rendering

    def _render(self, job: RenderJob) -> bytes:
        picture = self._plan(job)
        if job.encoding.turn != UPRIGHT:
            return self._turned(picture, job.encoding)
        if job.encoding.format is Format.JPEG:
            return self._encode(picture, JpegFile(picture.pixels, job.encoding))
        if job.encoding.format is Format.PNG:
            return self._encode(picture, PngFile(picture.pixels, self._buffer))
        self._run(picture.kernel, picture.table)
        return arrays.file_of(picture.pixels, job.encoding.format)

    def _begin(self, job: tuple[int, RenderJob]) -> Begun:
        """Plan a tile of several, by its number; all of their pictures lie in the same memory."""
        number, wanted = job
        plain = wanted.encoding.format is Format.JPEG and wanted.encoding.turn == UPRIGHT
        if not plain or wanted.recipe.icc is not None:
            return Begun((), partial(self._render, wanted))
        picture = self._plan(wanted)
        file = JpegFile(picture.pixels, wanted.encoding)
        if file.capacity > SCRATCH:
            return Begun((), partial(self._encode, picture, file))
        scan = file.scan(range(file.units), partial(self._buffer, f"scan {number}"))
        calls = Call(picture.kernel, picture.table), Call("jpeg", scan.table)
        return Begun(calls, lambda: file.join(scan.parts()), picture)

    def _turned(self, picture: Picture, encoding: Encoding) -> bytes:
        self._run(picture.kernel, picture.table)
        pixels = turned(picture.pixels, encoding.turn)
        if encoding.format.holds_values:
            return arrays.file_of(pixels, encoding.format)
        file: File = (
            JpegFile(pixels, encoding) if encoding.format is Format.JPEG else PngFile(pixels, self._buffer)
        )
        return file.join(file.encode(range(file.units), self._run, self._buffer))

    def _encode(self, picture: Picture, file: File) -> bytes:
        """Composite and encode; workers that have nothing to do take shares of a large picture."""
        height, width, _ = picture.pixels.shape
        with self._idle_workers(min(height * width // SHARE, file.units) - 1) as idle:
            cuts = [file.units * share // (idle + 1) for share in range(idle + 2)]
            own, *others = [range(*cut) for cut in pairwise(cuts)]
            given = [self._helpers.submit(self._encode_copy, picture, file, share) for share in others]
            try:
                parts = self._encode_share(picture, file, own)
            finally:
                wait(given)
            return file.join([*parts, *(share.result() for share in given)])

    def _encode_copy(self, picture: Picture, file: File, units: range) -> bytes:
        """Do a share on a helper, whose scratch memory its next share uses again."""
        return b"".join(self._encode_share(picture, file, units))

    def _encode_share(self, picture: Picture, file: File, units: range) -> list[Part]:
        """Composite and encode some units, with the rows above that they read."""
        width, rows = picture.pixels.shape[1], file.rows(units)
        table = picture.table.copy()
        table["begin"] = tables.runs(width, max(0, rows.start - file.above), RUN)
        table["runs"] = tables.runs(width, rows.stop, RUN) - table["begin"]
        self._run(picture.kernel, table)
        return file.encode(units, self._run, self._buffer)

    def composite(self, job: RenderJob) -> NDArray[np.uint8]:
        """Return the (height, width, samples) picture of a job, without alpha for a JPEG.

        It lies in a buffer of the calling thread, which the next call uses again.
        """
        picture = self._plan(job)
        self._run(picture.kernel, picture.table)
        return picture.pixels

    def _plan(self, job: RenderJob) -> Picture:
        return self._unstyled(job) if job.recipe.bands is None else self._styled(job)

    def _styled(self, job: RenderJob) -> Picture:
        recipe = job.recipe
        sources = [placed(raster) for raster in job.rasters]
        likes = tuple((source.shape, source.dtype) for source in sources)
        template, frames, palettes = band_table(recipe, likes)
        bands = template.copy()
        bands["source"]["pixels"] = self._colours.band_pixels(recipe, sources, frames)
        bands["source"]["valid"] = [sources[frame].valid for frame in frames]
        alpha = recipe.samples == 4 and recipe.axis is None
        dropped = alpha and job.encoding.format is Format.JPEG
        blended = dropped and job.background is not None
        samples = 1 if recipe.axis is not None else recipe.samples - dropped
        out = self._picture(job, samples)
        table = np.zeros(1, tables.COMPOSITE)
        row = table[0]
        row["out"], row["bands"], row["band_count"] = out.ctypes.data, bands.ctypes.data, len(bands)
        row["accumulators"] = 3 if dropped and not blended else recipe.samples
        row["first"], row["samples"] = min(recipe.axis or 0, recipe.samples - 1), samples
        row["finish"], row["blended"] = recipe.finish, blended
        colours = min(samples, 3)
        row["fill"] = tables.padding(job, colours, alpha=samples == 4 or blended, blended=blended)
        self._place(row, job, sources, colours)
        return Picture("composite", table, out, (bands, palettes))

    def _unstyled(self, job: RenderJob) -> Picture:
        source = self._colours.shown(job.recipe.icc, placed(job.rasters[0]), None)
        colormap = job.recipe.colormap
        stored = source.shape[2]
        colours = 3 if colormap is not None or stored >= 3 else 1
        sample = stored - 1 if colormap is None and stored in (2, 4) else -1
        alpha = sample >= 0 or source.valid != 0
        dropped = alpha and job.encoding.format is Format.JPEG
        blended = dropped and job.background is not None
        samples = colours + (alpha and not dropped)
        out = self._picture(job, samples)
        table = np.zeros(1, tables.UNSTYLED)
        row = table[0]
        row["source"] = tables.source(source)
        if colormap is not None:
            colormap = np.ascontiguousarray(colormap)
            row["colormap"], row["entries"] = colormap.ctypes.data, len(colormap)
        row["out"], row["colours"], row["alpha"], row["samples"] = out.ctypes.data, colours, sample, samples
        row["blended"] = blended
        row["fill"] = tables.padding(job, colours, alpha=samples > colours or blended, blended=blended)
        self._place(row, job, [source], colours)
        return Picture("unstyled", table, out, (colormap,))

    @staticmethod
    def _place(row: Any, job: RenderJob, sources: list[Placed], colours: int) -> None:
        """Fill in the size of the picture and how much of it the rasters cover."""
        row["width"], row["height"], row["runs"] = (
            job.width,
            job.height,
            tables.runs(job.width, job.height, RUN),
        )
        row["columns"] = min([job.width, *(source.shape[1] for source in sources)])
        row["rows"] = min([job.height, *(source.shape[0] for source in sources)])
        row["background"] = tables.background(job, colours)

    def _picture(self, job: RenderJob, samples: int) -> NDArray[np.uint8]:
        flat = self._buffer("picture", job.height * job.width * samples)
        return flat.reshape(job.height, job.width, samples)

    def _buffer(self, name: str, size: int) -> NDArray[np.uint8]:
        """Return ``size`` bytes of this thread's own: fresh memory would cost a fault a page."""
        buffer: NDArray[np.uint8] | None = getattr(self._scratch, name, None)
        if buffer is None or len(buffer) < size:
            buffer = np.empty(size, np.uint8)
            setattr(self._scratch, name, buffer)
        return buffer[:size]


@lru_cache(maxsize=256)
def band_table(
    recipe: Recipe, likes: tuple[tuple[tuple[int, int, int], np.dtype[np.generic]], ...]
) -> tuple[NDArray[Any], list[int], list[NDArray[np.float32]]]:
    """Return what the tiles of a viewport have in common, made once: the Band structs.

    ``likes`` are the (shape, dtype) of the recipe's rasters. The structs lack the addresses of
    the rasters: the list says which raster each band reads. The palettes are what the structs
    point to.
    """
    rasters = [Placed(0, 0, shape, dtype) for shape, dtype in likes]
    frames = [recipe.frames.index(band.frame) for band in recipe.bands or ()]
    palettes = [tables.planes(band) for band in recipe.bands or ()]
    rows = [
        tables.band(band, rasters[frame], palette, address(palette))
        for band, frame, palette in zip(recipe.bands or (), frames, palettes, strict=True)
    ]
    return np.array(rows, tables.BAND), frames, palettes


def address(plane: NDArray[Any] | None) -> int:
    """Return where a plane lies; 0 for none."""
    return 0 if plane is None else plane.ctypes.data


def placed(raster: Raster) -> Placed:
    """Return a raster as job tables describe it."""
    return Placed(raster.address, raster.valid_address, raster.shape, raster.dtype)


def may_lack(dtype: np.dtype[np.generic], nodata: float | None) -> bool:
    """Say whether values of ``dtype`` may be missing without a validity plane."""
    return dtype.kind == "f" or tables.native(nodata, dtype) is not None
