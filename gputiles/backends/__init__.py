"""The sync floor: what a compute backend does, and the jobs that it is given.

A backend's verbs take a list of jobs and return one outcome per job, in order: a value,
or the exception that this job alone died of. Inputs are never written to. Verbs may be
called from ``workers`` threads at once, each with as many jobs as ``batch_size`` says.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias, TypeVar, Union

import numpy as np
from numpy.typing import NDArray

from gputiles.encoded import Encoding, Format
from gputiles.errors import GputilesError
from gputiles.geometry import Rect
from gputiles.image import Reduction
from gputiles.recipe import Conversion, Recipe

T = TypeVar("T")
Outcome: TypeAlias = Union[T, GputilesError]  # noqa: UP007  (a generic alias)


@dataclass(frozen=True, slots=True, eq=False)
class Raster:
    """A decoded, unstyled tile in backend memory.

    ``pixels`` belongs to the backend (on the host: a C-contiguous NumPy array of
    ``shape`` = (rows, columns, samples) and ``dtype``). ``valid`` likewise, (rows,
    columns) uint8, 1 where there is data; None means everywhere. Edge tiles are as small
    as the image leaves them: no padding is stored. ``weight`` is the bytes of both.
    ``address`` and ``valid_address`` say where they lie, for job tables; 0 is nowhere.
    """

    pixels: Any
    shape: tuple[int, int, int]
    dtype: np.dtype[np.generic]
    weight: int
    valid: Any = None
    address: int = 0
    valid_address: int = 0


class ChunkCodec(Protocol):
    """How the stored bytes of a chunk become samples; one object per file and level."""

    @property
    def compression(self) -> int:
        """The TIFF code of the compression; negative for what is not from a TIFF file."""

    def decode(self, data: bytes, width: int, height: int) -> NDArray[Any]:
        """Decode ``data`` to a (height, width, samples) array in native byte order.

        Never allocates more than the chunk's own size. Raises Damaged where the bytes
        do not decode to it, Unsupported where the compression is not read.
        """


class Left(Protocol):
    """Bytes of a file that is open, which were left to who decodes them."""

    def __len__(self) -> int: ...

    @property
    def at(self) -> tuple[int, int]:
        """The descriptor of the file, -1 where it has none, and the offset in it."""

    def read(self) -> bytes | GputilesError:
        """Return the bytes, or why they cannot be read."""


@dataclass(frozen=True, slots=True, eq=False)
class Chunk:
    """Encoded bytes as stored, and where their pixels lie on the level.

    ``data`` may be left in the file (see ``paste.fetched``). None means that the file holds nothing
    there (a sparse tile); an error, that the bytes could not be read: the tiles under this chunk fail
    with it, the others of the job do not. ``sample`` is the first sample that the chunk fills: planar
    files have one chunk per sample.
    """

    codec: ChunkCodec
    data: bytes | Left | GputilesError | None
    place: Rect
    sample: int = 0

    @property
    def stored(self) -> int:
        """The bytes that it takes in the file."""
        return 0 if self.data is None or isinstance(self.data, GputilesError) else len(self.data)

    @property
    def left(self) -> Left | None:
        """What was left in the file, if it was."""
        return None if self.data is None or isinstance(self.data, (bytes, GputilesError)) else self.data


@dataclass(frozen=True, slots=True, eq=False)
class DecodeJob:
    """Decode chunks once and cut all the tiles that they cover out of them.

    ``tiles`` are rectangles in level pixels; the parts beyond ``level`` (width, height of
    the stored level) repeat its last row and column. Sparse chunks leave ``fill`` and are
    not valid. ``nodata`` and NaN are not marked here: they are values. ``mask`` are the
    chunks, of one uint8 sample, of a transparency mask: where it is 0 or sparse, pixels are
    not valid.
    """

    chunks: tuple[Chunk, ...]
    tiles: tuple[Rect, ...]
    level: tuple[int, int]
    samples: int
    dtype: np.dtype[np.generic]
    fill: float = 0
    mask: tuple[Chunk, ...] = ()

    @property
    def left(self) -> bool:
        """Whether the file has to stay open until the job is done."""
        return any(chunk.left is not None for chunk in (*self.chunks, *self.mask))

    def with_chunks(self, chunks: tuple[Chunk, ...], mask: tuple[Chunk, ...]) -> DecodeJob:
        """Return the job with other chunks at the places of its own."""
        return DecodeJob(chunks, self.tiles, self.level, self.samples, self.dtype, self.fill, mask)


@dataclass(frozen=True, slots=True, eq=False)
class DownsampleJob:
    """Make a tile of ``width`` × ``height`` from up to four tiles of the next finer level.

    ``children`` are (top left, top right, bottom left, bottom right); those that the grid
    does not have are None. ``split`` is the full (tile width, tile height) of a child:
    where the right and the lower children begin. Mean of 2×2: integers rounded half to
    even; blocks at the rim average what exists; NaN, ``nodata``, invalid and (with
    ``alpha``) transparent pixels carry no weight. A block without any weight is not valid.
    """

    children: tuple[Raster | None, Raster | None, Raster | None, Raster | None]
    split: tuple[int, int]
    width: int
    height: int
    reduction: Reduction
    nodata: float | None = None
    alpha: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class ResampleJob:
    """Cut ``region`` out of a mosaic of tiles of one level and resize it.

    ``tiles`` are (left, top, raster) in level pixels; together they cover ``region``.
    Shrinking takes the area mean with exact fractional weights (values, validity and
    alpha as in DownsampleJob), enlarging and NEAREST take the nearest pixel. The
    output is (``height``, ``width``, samples) in the rasters' dtype.
    """

    tiles: tuple[tuple[int, int, Raster], ...]
    region: Rect
    width: int
    height: int
    reduction: Reduction
    nodata: float | None = None
    alpha: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class RenderJob:
    """Composite one tile by its recipe and encode it.

    ``rasters`` follow ``recipe.frames``. The output is ``width`` × ``height``; what the
    rasters do not cover is filled with ``fill`` (RGBA) or zeros. ``background`` (RGB)
    shows through transparent pixels where the encoding has no alpha; None drops alpha.
    """

    recipe: Recipe
    rasters: tuple[Raster, ...]
    width: int
    height: int
    encoding: Encoding
    fill: tuple[int, int, int, int] | None = None
    background: tuple[int, int, int] | None = None


@dataclass(frozen=True, slots=True, eq=False)
class MeasureJob:
    """Measure one sample of a raster: its extremes, or a histogram.

    Only finite, valid values other than ``nodata`` count. With ``edges`` None the
    extremes are wanted, else counts in ``edges`` = (low, high, bins) equal bins as
    ``numpy.histogram`` places them (values outside are left out). With ``icc`` the values
    are those that the conversion makes.
    """

    raster: Raster
    sample: int
    edges: tuple[float, float, int] | None = None
    nodata: float | None = None
    icc: Conversion | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Measurement:
    """What a MeasureJob found; ``low`` > ``high`` where nothing counted."""

    low: float
    high: float
    count: int
    histogram: NDArray[np.int64] | None = None


Tiles = tuple[Raster | GputilesError, ...]


class Backend(Protocol):
    """A compute device behind the stair."""

    name: str
    workers: int
    ahead: int
    """Batches that wait for a worker beside those that run, so that none idles for a turn of the loop."""
    decodes: int
    """Batches of ``decode`` that may be under way at once: the other workers are for what is nearer to an
    answer."""
    capacity: int
    """Bytes of rasters that the shelf may hold."""
    spare: int
    """Bytes of rasters that host memory may hold for the device; where they are not 0 there are the
    verbs ``spill`` (None: it found no room there) and ``restore``, each from raster to raster."""
    dlpack: tuple[int, int] | None
    """The (kind, number) by which DLPack knows the memory of rasters; None: it is not lent. Where it is,
    there is the verb ``fence``: it returns when the device has done all that it was asked for, by anybody."""
    decoders: str
    """What tells pixels of this backend's decoders from others'; empty: they are the host's."""
    encoders: Mapping[Format, str]
    """What tells files of a format from the host's; absent: they are the host's."""

    @property
    def unprepared(self) -> bool:
        """Whether ``prepare`` has something to do."""

    def batch_size(self, verb: str, waiting: int, job: Any) -> int:
        """Return how many of ``waiting`` jobs, ``job`` first, one worker should take at once, at least 1."""

    def decode(self, jobs: Sequence[DecodeJob]) -> list[Outcome[Tiles]]:
        """Decode each job's chunks once into one raster, or error, per tile of the job."""

    def downsample(self, jobs: Sequence[DownsampleJob]) -> list[Outcome[Raster]]:
        """Make each job's tile from its children."""

    def resample(self, jobs: Sequence[ResampleJob]) -> list[Outcome[Raster]]:
        """Cut and resize each job's region."""

    def measure(self, jobs: Sequence[MeasureJob]) -> list[Outcome[Measurement]]:
        """Measure each job's raster."""

    def render(self, jobs: Sequence[RenderJob]) -> list[Outcome[bytes]]:
        """Composite and encode each job's tile."""

    def download(self, jobs: Sequence[Raster]) -> list[Outcome[NDArray[Any]]]:
        """Copy each raster to a new NumPy array of (rows, columns, samples)."""

    def prepare(self) -> None:
        """Do what makes later work faster, until other work comes; on any thread."""

    def close(self) -> None:
        """Release the device."""
