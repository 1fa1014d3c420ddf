"""The host backend: the kernels compiled by the C++ compiler, on the processor's cores."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from itertools import groupby
from types import MappingProxyType
from typing import Any, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

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
    plans,
    tables,
)
from gputiles.backends.addresses import address
from gputiles.backends.blanks import Blanks
from gputiles.backends.conversion import Converter
from gputiles.backends.encode import File, JpegFile, encode_turned, file_of, rows_read, whole_file
from gputiles.backends.heap import keep_freed
from gputiles.backends.helpers import Helpers
from gputiles.backends.hostlib import Call, Library, installed
from gputiles.backends.inflating import TOGETHER, Inflating, is_stream
from gputiles.backends.jpegs import Jpegs
from gputiles.backends.kits import SHARE, Kits, most_threads
from gputiles.backends.paste import decode_tiles, fetched, mosaic, raster_of
from gputiles.backends.plans import Target, placed
from gputiles.backends.tables import Placed
from gputiles.config import host_rasters
from gputiles.crew import Kept, homes, usable
from gputiles.encoded import UPRIGHT, Encoding, Format
from gputiles.errors import GputilesError, OutOfMemory
from gputiles.geometry import ceil_div, shares
from gputiles.png import Part

RUN = 1024  # pixels of a run: RUN in target.h
MOST_TILES = {"render": 8, "downsample": 8, "decode": 3}  # of one worker before it says that any is done
LEAST_SHARE = 1 << 18  # bytes, inflated, that are worth the waking of another thread
LARGEST_IN_ONE_GO = 1 << 18  # pixels of a tile; the streams of one take at most 6 MB of scratch memory

J = TypeVar("J")
R = TypeVar("R")


class Canvas(NamedTuple):
    """A picture to be made: its kernel, its job table, where it will lie, and what the table points to."""

    kernel: str
    table: NDArray[Any]
    pixels: NDArray[np.uint8]
    held: tuple[Any, ...]


class Begun(NamedTuple):
    """A tile of several, or a sheet: the kernels to run, in turn, what completes it then, what they read."""

    calls: Sequence[Call]
    finish: Callable[[], Any]
    held: object = None


class HostBackend:
    """A backend whose device memory is host memory; rasters are read-only NumPy arrays."""

    name = "cpu"
    decoders = ""
    encoders: Mapping[Format, str] = MappingProxyType({})
    dlpack: tuple[int, int] | None = None  # who wants an array gets a copy
    spare = 0  # rasters lie in host memory already

    def __init__(self, workers: int, library: Library | None = None, capacity: int | None = None) -> None:
        keep_freed()
        self.workers = self.ahead = workers
        self.decodes = 2 * workers
        self.capacity = host_rasters() if capacity is None else capacity
        self._run = library or installed()
        self._scratch: Kept[dict[str, NDArray[np.uint8]]] = Kept(dict)
        self._target = Target(RUN, address, Converter(self._run, self._buffer, RUN))
        self._blanks = Blanks()
        self._jpegs = Jpegs(self._run, self._buffer, self._blanks.take)
        self._kits = Kits(self._run, self._buffer, RUN)
        self._helpers = Helpers(workers)
        self._pool = self._run.pool([min(home, default=-1) for home in homes(workers, usable(), False)])
        self._busy = 0
        self._counting = threading.Lock()

    def batch_size(self, verb: str, waiting: int, job: Any) -> int:
        """Return 1, or more tiles where many wait: each hand-over to a worker costs the event loop.

        What waits to be decoded is shared out at once: streams of a batch are inflated side by side, and a
        few of them by the pool.
        """
        if verb == "decode" and waiting <= TOGETHER and _is_stream(job):
            return waiting
        turns = 1 if verb == "decode" else 2
        return max(1, min(MOST_TILES.get(verb, 1), ceil_div(waiting, turns * self.workers)))

    def decode(self, jobs: Sequence[DecodeJob]) -> list[Outcome[Tiles]]:
        """Decode each job's chunks once into one raster, or error, per tile of the job."""
        streams = [_is_stream(job) for job in jobs]
        sizes = [_size(job) for job, stream in zip(jobs, streams, strict=True) if stream]
        self._pool.wake(min(_worth(sizes), self.workers - self._busy) - 1)
        jobs = [job if stream else fetched(job) for job, stream in zip(jobs, streams, strict=True)]
        inflating = Inflating(self._inflate, jobs, self._blanks.take, self._buffer)
        pictures = partial(self._jpegs.decode, otherwise=inflating.decode)
        ways = [inflating.in_turn if stream else pictures for stream in streams]
        return self._each(lambda each: decode_tiles(*each), zip(jobs, ways, strict=True))

    def _inflate(self, kernel: str, ranges: NDArray[Any], streams: NDArray[Any]) -> None:
        """Read and decompress streams, with the pool where workers are idle."""
        calls = [Call("fetch", ranges), Call(kernel, streams)]
        with self._idle_workers(_worth(streams["capacity"].tolist()) - 1) as idle:
            self._pool.run(self._run.shares(calls, idle + 1), idle)

    def downsample(self, jobs: Sequence[DownsampleJob]) -> list[Outcome[Raster]]:
        """Make each job's tile from its children."""
        return self._chained(self._downsample, jobs)

    def resample(self, jobs: Sequence[ResampleJob]) -> list[Outcome[Raster]]:
        """Cut and resize each job's region."""
        return self._chained(self._resample, jobs)

    def measure(self, jobs: Sequence[MeasureJob]) -> list[Outcome[Measurement]]:
        """Measure each job's raster."""
        return self._each(self._measure, jobs)

    def render(self, jobs: Sequence[RenderJob]) -> list[Outcome[bytes]]:
        """Composite and encode each job's tile."""
        if len(jobs) == 1 and jobs[0].width * jobs[0].height >= 2 * SHARE:  # idle workers may help
            return self._each(self._render, jobs)
        sheets = [list(alike) for _, alike in groupby(jobs, _sheet)]
        made = self._chained(self._begin, enumerate(sheets))
        return [
            tile
            for jobs, tiles in zip(sheets, made, strict=True)
            for tile in (tiles if isinstance(tiles, list) else [tiles] * len(jobs))
        ]

    def download(self, jobs: Sequence[Raster]) -> list[Outcome[NDArray[Any]]]:
        """Copy each raster to a new NumPy array of (rows, columns, samples)."""
        return self._each(lambda raster: np.array(raster.pixels), jobs)

    @property
    def unprepared(self) -> bool:
        """Whether blanks are wanted in place of those that tiles took."""
        return self._blanks.wanted

    def prepare(self) -> None:
        """Make blanks ready while no worker is busy."""
        self._blanks.prepare(lambda: not self._busy)

    def close(self) -> None:
        """End the helpers and the pool; nothing else is held but memory."""
        self._helpers.close()
        self._pool.close()

    def _chained(self, begin: Callable[[J], Begun], jobs: Iterable[J]) -> list[Outcome[Any]]:
        """Begin each job, run the kernels of all in one go, and complete each."""
        with self._counted(1):
            begun = _outcomes(begin, jobs)
            self._run.chain([call for tile in begun if isinstance(tile, Begun) for call in tile.calls])
            finished = iter(_outcomes(lambda tile: tile.finish(), (t for t in begun if isinstance(t, Begun))))
        return [next(finished) if isinstance(tile, Begun) else tile for tile in begun]

    def _each(self, function: Callable[[J], R], jobs: Iterable[J]) -> list[Outcome[R]]:
        """Do each job, as one busy worker."""
        with self._counted(1):
            return _outcomes(function, jobs)

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

    def _downsample(self, job: DownsampleJob) -> Begun:
        children = [None if child is None else placed(child) for child in job.children]
        like = next(child for child in job.children if child is not None)
        table, doubtful = plans.downsample(job, children, RUN)
        return self._make("downsample", table, like, (job.height, job.width), doubtful)

    def _resample(self, job: ResampleJob) -> Begun:
        source = mosaic(job.tiles, job.region)
        table, doubtful = plans.resample(job, placed(source), RUN)
        return self._make("resample", table, source, (job.height, job.width), doubtful, source)

    def _make(
        self,
        kernel: str,
        table: NDArray[Any],
        like: Raster,
        size: tuple[int, int],
        doubtful: bool,
        held: object = None,
    ) -> Begun:
        """Begin a raster like ``like`` of ``size`` (rows, columns), which a kernel makes."""
        shape = (*size, like.shape[2])
        pixels = self._blanks.take(math.prod(shape) * like.dtype.itemsize).view(like.dtype).reshape(shape)
        valid = np.empty(size, np.uint8) if doubtful else None
        table["out"], table["valid"] = address(pixels), address(valid)

        def finish() -> Raster:
            return raster_of(pixels, None if valid is None or valid.all() else valid)

        return Begun((Call(kernel, table),), finish, held)

    # -- measures

    def _measure(self, job: MeasureJob) -> Measurement:
        job = plans.with_room(job)
        source = self._target.colours.shown(job.icc, placed(job.raster), job.nodata)
        return self._extremes(job, source) if job.edges is None else self._histogram(job, job.edges, source)

    def _extremes(self, job: MeasureJob, source: Placed) -> Measurement:
        rows = np.zeros(job.raster.shape[0], tables.EXTREMES)
        table = np.zeros(1, tables.MEASURE)
        tables.fill_measure(table[0], job, source, address(rows), 0)
        self._run("extremes", table)
        return plans.extremes(rows)

    def _histogram(self, job: MeasureJob, edges: tuple[float, float, int], source: Placed) -> Measurement:
        borders, counts = plans.borders(edges), np.zeros(edges[2], np.int64)
        table = np.zeros(1, tables.MEASURE)
        tables.fill_measure(table[0], job, source, address(counts), address(borders))
        self._run("histogram", table)
        return plans.histogram(edges, counts)

    # -- rendering

    def _render(self, job: RenderJob) -> bytes:
        canvas = self._plan(job)
        if job.encoding.turn != UPRIGHT:
            return self._turned(canvas, job.encoding)
        if job.encoding.format.is_whole:
            self._draw(canvas)
            return whole_file(canvas.pixels, job.encoding)
        if _is_small(job):
            return self._pooled(canvas, job.encoding)
        return self._encode(canvas, file_of(canvas.pixels, job.encoding, self._buffer))

    def _begin(self, sheet: tuple[int, list[RenderJob]]) -> Begun:
        """Plan a sheet of tiles, by its number; their pictures lie in the same memory in turn."""
        number, jobs = sheet
        encoding = jobs[0].encoding
        if not _in_one_go(jobs[0]):
            return Begun((), lambda: [self._render(job) for job in jobs])
        if jobs[0].recipe.bands is None:
            canvas = self._plan(jobs[0])
        else:
            canvas = self._canvas(plans.sheet(jobs, [_sources(job) for job in jobs], self._target))
        file = JpegFile(canvas.pixels, encoding)
        out = self._buffer(f"scan {number}", len(jobs) * file.units * file.capacity)
        scan = file.scan(range(file.units), out, len(jobs))
        steps = ((canvas.kernel, canvas.table), ("jpeg", scan.table))
        rows = (slice(at, at + 1) for at in range(len(jobs)))
        calls = [Call(kernel, table[row]) for row in rows for kernel, table in steps]
        return Begun(calls, lambda: [file.join(parts) for parts in scan.files()], canvas)

    def _pooled(self, canvas: Canvas, encoding: Encoding) -> bytes:
        """Composite and encode a small picture in one call, with the pool where workers are idle."""
        with self._idle_workers(most_threads(canvas.pixels.shape, encoding) - 1) as idle:
            kit = self._kits.kit(Call(canvas.kernel, canvas.table), canvas.pixels, encoding, idle + 1)
            self._pool.run(kit.draw(canvas.table), idle)
            parts = kit.streams.parts()
            searches = kit.file.searches(parts)
            found = self._helpers.side_by_side(list(searches.values()), helped=idle > 0)
            for unit, part in zip(searches, found, strict=True):
                parts[unit] = part
        return kit.file.join(parts)

    def _turned(self, canvas: Canvas, encoding: Encoding) -> bytes:
        self._draw(canvas)
        return encode_turned(canvas.pixels, encoding, self._run, self._buffer)

    def _encode(self, canvas: Canvas, file: File) -> bytes:
        """Composite and encode; workers that have nothing to do take shares of a large picture."""
        height, width, _ = canvas.pixels.shape
        with self._idle_workers(min(height * width // SHARE, file.units) - 1) as idle:
            own, *others = shares(file.units, idle + 1)
            copies = [partial(self._encode_copy, canvas, file, units) for units in others]
            encode = partial(self._encode_share, canvas, file, own)
            parts = self._helpers.side_by_side([encode, *copies], helped=idle > 0)
            return file.join([part for some in parts for part in some])

    def _encode_copy(self, canvas: Canvas, file: File, units: range) -> list[Part]:
        """Do a share on a helper, whose scratch memory its next share uses again."""
        return [b"".join(self._encode_share(canvas, file, units))]

    def _encode_share(self, canvas: Canvas, file: File, units: range) -> list[Part]:
        """Composite and encode some units, with the rows above that they read."""
        spans = plans.spans(file.shape[1], [rows_read(file, units)], RUN)
        self._run(canvas.kernel, plans.cut(canvas.table, spans))
        return file.encode(units, self._run, self._buffer)

    def composite(self, job: RenderJob) -> NDArray[np.uint8]:
        """Return the (height, width, samples) picture of a job, without alpha for a JPEG.

        It lies in a buffer of the calling thread, which the next call uses again.
        """
        canvas = self._plan(job)
        self._draw(canvas)
        return canvas.pixels

    def _draw(self, canvas: Canvas) -> None:
        self._run(canvas.kernel, canvas.table)

    def _plan(self, job: RenderJob) -> Canvas:
        return self._canvas(plans.picture(job, _sources(job), self._target))

    def _canvas(self, plan: plans.Picture) -> Canvas:
        pixels = self._buffer("picture", math.prod(plan.shape)).reshape(plan.shape)
        plan.table["out"] = address(pixels)
        return Canvas(plan.kernel, plan.table, pixels, plan.held)

    def _buffer(self, name: str, size: int) -> NDArray[np.uint8]:
        """Return ``size`` bytes of this place's own: fresh memory would cost a fault a page."""
        buffers = self._scratch()
        buffer = buffers.get(name)
        if buffer is None or len(buffer) < size:
            buffer = buffers[name] = np.empty(size, np.uint8)
        return buffer[:size]


def _outcomes(function: Callable[[J], R], jobs: Iterable[J]) -> list[Outcome[R]]:
    """Return one outcome per job: what a job dies of is its own."""
    outcomes: list[Outcome[R]] = []
    for job in jobs:
        try:
            outcomes.append(function(job))
        except GputilesError as error:
            outcomes.append(error)
        except MemoryError as error:
            outcomes.append(OutOfMemory(f"not enough memory: {error}"))
    return outcomes


def _sources(job: RenderJob) -> list[Placed]:
    return [placed(raster) for raster in job.rasters]


def _is_stream(job: DecodeJob) -> bool:
    """Say whether the chunks of a job, but for its mask's, are streams that a kernel decompresses."""
    return bool(job.chunks) and is_stream(job.chunks[0].codec)


def _size(job: DecodeJob) -> int:
    """Return the bytes of a job's tiles."""
    pixels = sum(tile.width * tile.height for tile in job.tiles)
    return pixels * job.samples * job.dtype.itemsize


def _worth(sizes: Sequence[int]) -> int:
    """Return how many threads streams of ``sizes`` (bytes, inflated) are worth."""
    return min(len(sizes), sum(sizes) // LEAST_SHARE)


def _is_small(job: RenderJob) -> bool:
    return job.width * job.height <= LARGEST_IN_ONE_GO


def _in_one_go(job: RenderJob) -> bool:
    """Say whether a tile of several is made with the others, one kernel after the other."""
    plain = job.encoding.format is Format.JPEG and job.encoding.turn == UPRIGHT
    return plain and job.recipe.icc is None and _is_small(job)


def _sheet(job: RenderJob) -> object:
    """Return what tells jobs apart that cannot be planned together."""
    alike = _in_one_go(job) and job.recipe.bands is not None
    return (plans.look(job), job.encoding) if alike else id(job)
