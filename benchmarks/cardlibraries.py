"""NVIDIA's libraries beside what the product does in their place: nvJPEG by threads, nvTIFF, nvCOMP.

What is not installed has no rows; what a library refuses is told in its row, and the rest is measured.
"""

from __future__ import annotations

import tempfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from numpy.typing import NDArray

from benchmarks import cardchunks
from benchmarks.cardchunks import BATCH, U8, U16, Wall
from gputiles.backends import Chunk, DecodeJob, Raster, load
from gputiles.backends.cuda import CudaBackend
from gputiles.backends.nvencode import Drawn, Kind, Writer
from gputiles.backends.nvimage import UNFIT, Place
from gputiles.backends.proving import uploaded
from gputiles.geometry import Rect
from gputiles.sources.bytecodec import ByteCodec

TILES = 4  # across a file for nvTIFF, and down
FILES: dict[str, tuple[dict[str, Any], ByteCodec]] = {
    "none": ({}, ByteCodec(1, 1, 16, "u", "<")),
    "Deflate": ({"compression": "zlib"}, ByteCodec(8, 1, 16, "u", "<")),
    "Deflate, predictor 2": (
        {"compression": "zlib", "predictor": 2},
        ByteCodec(8, 1, 16, "u", "<", 2),
    ),
}
"""Files by their compression: how they are written, and how the product reads their tiles."""

Row = dict[str, Any]


def find_nvcomp() -> Any:
    """Return the module ``nvidia.nvcomp``; None where it is not installed."""
    try:
        from nvidia import nvcomp
    except ImportError:
        return None
    return nvcomp


def _told(row: Row, measure: Callable[[], Row]) -> Row:
    """Return a row with what was measured, or with what the library said instead."""
    try:
        return row | measure()
    except UNFIT as error:
        return row | {"refused": f"{type(error).__name__}: {error}"}


# -- nvJPEG


def encoders(backend: CudaBackend, wall: Wall, side: int, threads: Sequence[int]) -> list[Row]:
    """Return the milliseconds of a JPEG that nvImageCodec encodes, and those a second of 64, by threads."""
    library, card = load.find_codecs(), backend.card
    if library is None:
        return []
    rng = np.random.default_rng(11)
    slope = np.linspace(20, 200, side)[:, None, None]
    pictures = [(rng.integers(0, 40, (side, side, 3)) + slope).astype(np.uint8) for _ in range(BATCH)]

    def rate(drawn: Sequence[Drawn], count: int) -> Row:
        writer = Writer(library, card.device.number, card.device.stream, count)
        if not all(writer.encode(drawn)):
            return {"refused": "not all files were made"}
        one, all_of_them = (wall(partial(writer.encode, some))["p50_ms"] for some in (drawn[:1], drawn))
        return {"one_ms": one, "files_per_s": round(len(drawn) / all_of_them * 1000)}

    def measure() -> list[Row]:
        with uploaded(card, pictures) as rasters:
            drawn = [Drawn(raster.address, raster.shape, Kind(3, 80, 2)) for _, raster in rasters]
            return [_told({"threads": count, "side": side}, partial(rate, drawn, count)) for count in threads]

    return backend.on_card(measure)


# -- nvTIFF


def tiffs(backend: CudaBackend, wall: Wall, side: int) -> list[Row]:
    """Return the milliseconds of all tiles of a file, as regions for nvTIFF and as the product's chunks.

    ``right`` says whether nvTIFF's have the values of the file.
    """
    library = load.find_codecs()
    if library is None:
        return []
    values = np.random.default_rng(12).poisson(1500, (TILES * side, TILES * side)).astype(np.uint16)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "tiles.tif"
        found = []
        for name, (options, codec) in FILES.items():
            tifffile.imwrite(path, values, tile=(side, side), photometric="minisblack", **options)
            row: Row = {"compression": name, "tiles": TILES**2}
            theirs = partial(_regions, backend, wall, library, path, values)
            row = _told(row, partial(backend.on_card, theirs))
            jobs = _jobs(path, codec, side)
            found.append(row | {"product_ms": wall(partial(cardchunks.decode, backend, jobs))["p50_ms"]})
    return found


def _jobs(path: Path, codec: ByteCodec, side: int) -> list[DecodeJob]:
    """Return a job for each tile of a file."""
    data, place = path.read_bytes(), Rect(0, 0, side, side)
    with tifffile.TiffFile(path) as file:
        page = file.pages.first
        chunks = [
            Chunk(codec, data[at : at + size], place)
            for at, size in zip(page.dataoffsets, page.databytecounts, strict=True)
        ]
    return [DecodeJob((chunk,), (place,), (side, side), 1, U16) for chunk in chunks]


def _regions(backend: CudaBackend, wall: Wall, library: Any, path: Path, values: NDArray[np.uint16]) -> Row:
    """Decode the tiles of a file as regions of it, on the card's thread."""
    device, side = backend.card.device, len(values) // TILES
    kind = library.BackendKind
    decoder = library.Decoder(
        device_id=device.number,
        max_num_cpu_threads=backend.threads,
        backends=[library.Backend(kind.GPU_ONLY), library.Backend(kind.HYBRID_CPU_GPU)],
    )
    corners = [(y * side, x * side) for y in range(TILES) for x in range(TILES)]
    stream = library.CodeStream(str(path))
    regions = [
        stream.get_sub_code_stream(region=library.Region(y, x, y + side, x + side)) for y, x in corners
    ]
    params = library.DecodeParams(allow_any_depth=True, color_spec=library.ColorSpec.UNCHANGED)
    with _rooms(backend, [(side, side, 1)] * len(corners), U16) as rooms:
        images = [
            library.as_image(Place(room.shape, U16, room.address), cuda_stream=device.stream)
            for room in rooms
        ]

        def decode() -> list[Any]:
            made = decoder.decode(regions, images=images, params=params, cuda_stream=device.stream)
            device.fence()
            return list(made)

        right = all(image is not None for image in decode()) and all(
            np.array_equal(found[..., 0], values[y : y + side, x : x + side])
            for found, (y, x) in zip(_fetched(backend, rooms), corners, strict=True)
        )
        return {"right": right, "nvTIFF_ms": wall(decode)["p50_ms"]}


# -- nvCOMP


def inflates(backend: CudaBackend, wall: Wall, side: int, batches: Sequence[int]) -> list[Row]:
    """Return the milliseconds in which nvCOMP inflates chunks that lie on the card, by their number.

    Beside it what the product takes from the compressed bytes to the raster on the card. ``right`` says
    whether nvCOMP's bytes are those that were compressed.
    """
    library = find_nvcomp()
    if library is None:
        return []
    raw = np.random.default_rng(13).poisson(1500, (side, side, 1)).astype(np.uint16)
    packed, codec, place = zlib.compress(raw.tobytes()), FILES["Deflate"][1], Rect(0, 0, side, side)
    found = []
    for count in batches:
        theirs = partial(_inflated, backend, wall, library, [packed[2:-4]] * count, raw.tobytes())
        row = _told({"chunks": count, "bytes": raw.nbytes}, partial(backend.on_card, theirs))
        jobs = [DecodeJob((Chunk(codec, packed, place),), (place,), (side, side), 1, U16)] * count
        found.append(row | {"product_ms": wall(partial(cardchunks.decode, backend, jobs))["p50_ms"]})
    return found


def _inflated(backend: CudaBackend, wall: Wall, library: Any, streams: list[bytes], raw: bytes) -> Row:
    """Inflate raw Deflate streams, on the card's thread."""
    device = backend.card.device
    codec = library.Codec(
        algorithm="Deflate",
        bitstream_kind=library.BitstreamKind.RAW,
        device_id=device.number,
        cuda_stream=device.stream,
    )
    sent = [np.frombuffer(stream, np.uint8).reshape(1, -1, 1) for stream in streams]

    def arrays(rasters: Sequence[Raster]) -> Any:
        places = [Place((raster.shape[1],), U8, raster.address) for raster in rasters]
        return library.as_arrays(places, cuda_stream=device.stream)

    with (
        uploaded(backend.card, sent) as sources,
        _rooms(backend, [(1, len(raw), 1)] * len(streams), U8) as rooms,
    ):
        taken, filled = arrays([raster for _, raster in sources]), arrays(rooms)

        def decode() -> None:
            codec.decode(taken, data_type="|u1", out=filled)
            device.fence()

        decode()
        right = all(found.tobytes() == raw for found in _fetched(backend, rooms))
        return {"right": right, "nvCOMP_ms": wall(decode)["p50_ms"]}


# -- memory of the card


@contextmanager
def _rooms(
    backend: CudaBackend, shapes: Sequence[tuple[int, int, int]], dtype: np.dtype[Any]
) -> Iterator[list[Raster]]:
    """Lend memory of the card, filled with zeros."""
    with uploaded(backend.card, [np.zeros(shape, dtype) for shape in shapes]) as rasters:
        yield [raster for _, raster in rasters]


def _fetched(backend: CudaBackend, rooms: Sequence[Raster]) -> list[NDArray[Any]]:
    """Return what lies in memory of the card."""
    found = [np.empty(room.shape, room.dtype) for room in rooms]
    backend.card.begin()
    backend.card.courier.down([(room.address, array) for room, array in zip(rooms, found, strict=True)])
    return found
