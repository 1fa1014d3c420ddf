"""The test of a card: its kernels against the host's bits, its memory, its speed of copying."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from itertools import product
from typing import Any, Literal

import imagecodecs
import numpy as np
from numpy.typing import NDArray

from gputiles import png
from gputiles.backends import (
    Chunk,
    DecodeJob,
    DownsampleJob,
    MeasureJob,
    Outcome,
    Raster,
    RenderJob,
    ResampleJob,
    decoding,
    load,
    nvtrials,
    tables,
)
from gputiles.backends.cuda import CudaBackend
from gputiles.backends.host import HostBackend
from gputiles.backends.nvencode import Writer
from gputiles.backends.paste import decode_tiles, raster_of
from gputiles.backends.proving import colours_of
from gputiles.encoded import Encoding, Format, Turn
from gputiles.geometry import Rect
from gputiles.image import Reduction
from gputiles.recipe import BandRecipe, Blend, Conversion, ConversionKind, Recipe
from gputiles.selftest import WrongAnswer
from gputiles.sources.bytecodec import ByteCodec
from gputiles.sources.colour import ycbcr_to_rgb

COPIED = 1 << 28  # bytes, if the card has them
CARRIED = 1 << 24  # bytes of a copy from and to the host
SAMPLINGS = ("4:4:4", "4:2:2", "4:2:0")  # by Encoding.subsampling
ENCODINGS = (
    Encoding(Format.NPY, shown=True),
    Encoding(Format.PNG),
    *(Encoding(Format.JPEG, 85, subsampling) for subsampling in range(3)),
    Encoding(Format.PNG, turn=Turn(1, mirror=True)),
    Encoding(Format.JPEG, 85, turn=Turn(3)),
)


def _values(dtype: np.dtype[Any], seed: int) -> NDArray[Any]:
    rng = np.random.default_rng(seed)
    return (rng.random((37, 131, 3)) * 250 + rng.integers(0, 3, (37, 131, 3))).astype(dtype)


def _renders(dtype: np.dtype[Any]) -> Iterator[RenderJob]:
    """Yield composites of every operator, and unstyled conversions, of one type in every encoding."""
    source = raster_of(_values(dtype, 1))
    stops = np.array([(0, 0, 0, 255), (90, 255, 10, 255), (255, 30, 200, 255)], np.float32)
    for encoding, blend in product(ENCODINGS, (*Blend, None)):
        bands = tuple(
            BandRecipe(0, c, 3.5 + c, 240, stops[c % 2 :], blend=blend, clamp=c < 2)
            for c in range(3)
            if blend is not None
        )
        yield RenderJob(Recipe((0,), bands or None), (source,), 140, 40, encoding)


def _converted() -> Iterator[RenderJob]:
    curves = np.linspace(0, 1, 256, dtype=np.float32)[np.newaxis] ** np.array([[1], [2], [3]], np.float32)
    matrix = np.array([[0.8, 0.3, -0.1], [0.1, 0.7, 0.2], [0, 0.1, 0.9]], np.float32)
    table = np.sqrt(np.linspace(0, 1, 4097, dtype=np.float32)) * np.float32(255)
    made = Conversion(ConversionKind.MATRIX, 255, curves, matrix, np.zeros(3, np.float32), table)
    source = raster_of(_values(np.dtype(np.uint8), 2))
    yield RenderJob(Recipe((0,), icc=made), (source,), 131, 37, Encoding(Format.PNG))


def _up(backend: CudaBackend, raster: Raster) -> Raster:
    def upload() -> Raster:
        made = backend.card.upload(raster)
        backend.card.courier.settle()
        return made

    return backend.on_card(upload)


def _pictures(backend: CudaBackend) -> str:
    """Render every type, operator and encoding in batches, and compare the files."""
    host, count = HostBackend(1), 0
    try:
        for jobs in [*(list(_renders(dtype)) for dtype in tables.TYPES), list(_converted())]:
            moved = [replace(job, rasters=(_up(backend, job.rasters[0]),)) for job in jobs]
            ours, theirs = backend.render(moved), host.render(jobs)
            _expect_same([shown(file) for file in ours], [shown(file) for file in theirs])
            count += len(jobs)
    finally:
        host.close()
    maker = "the card" if Format.PNG in backend.encoders else "the host"
    return f"{count} files, the host's bytes; those of PNG, which {maker} makes, its pixels"


def shown(file: Outcome[bytes]) -> Outcome[bytes]:
    """Return what tells whether two backends' files are the same: of a PNG size and pixels, of others all."""
    if not isinstance(file, bytes) or not file.startswith(png.SIGNATURE):
        return file
    pixels = colours_of(file)
    return f"{pixels.shape}".encode() + pixels.tobytes()


def _rasters(backend: CudaBackend) -> str:
    """Make tiles, regions and measures of every type, and compare."""
    host = HostBackend(1)
    try:
        for dtype in tables.TYPES:
            source = raster_of(_values(dtype, 3))
            _compare(backend, host, source, _up(backend, source))
    finally:
        host.close()
    return f"{len(tables.TYPES)} types, the host's bits"


def _compare(backend: CudaBackend, host: HostBackend, source: Raster, card: Raster) -> None:
    region = Rect(3, 2, 101, 30)
    downsample = partial(DownsampleJob, split=(131, 37), width=66, height=19, reduction=Reduction.MEAN)
    resample = partial(ResampleJob, region=region, width=41, height=17, reduction=Reduction.MEAN)
    for ours, theirs in (
        (
            backend.downsample([downsample((card, None, None, None))]),
            host.downsample([downsample((source, None, None, None))]),
        ),
        (backend.resample([resample(((0, 0, card),))]), host.resample([resample(((0, 0, source),))])),
    ):
        made = [outcome for outcome in ours if isinstance(outcome, Raster)]
        _expect_same(backend.download(made), [getattr(outcome, "pixels", outcome) for outcome in theirs])
    for edges in (None, (0.0, 255.0, 64)):
        found, known = (
            verb([MeasureJob(raster, 1, edges)])[0]
            for verb, raster in ((backend.measure, card), (host.measure, source))
        )
        _expect_same([repr(found)], [repr(known)])


def _expect_same(ours: Sequence[Any], theirs: Sequence[Any]) -> None:
    if len(ours) != len(theirs):
        raise WrongAnswer(f"{len(ours)} answers instead of {len(theirs)}")
    for at, (mine, other) in enumerate(zip(ours, theirs, strict=True)):
        if not (mine == other if isinstance(other, bytes) else np.array_equal(mine, other)):
            raise WrongAnswer(f"answer {at} differs from the host's")


def packed(values: NDArray[Any], codec: ByteCodec) -> bytes:
    """Return (rows, columns, samples) as a codec finds them when they are decompressed."""
    if codec.predictor == 3:
        return bytes(np.asarray(imagecodecs.floatpred_encode(values, axis=-2)))
    if codec.predictor == 2:
        values = np.asarray(imagecodecs.delta_encode(values.view(f"u{values.itemsize}"), axis=-2))
    return values.astype(values.dtype.newbyteorder(codec.order)).tobytes()


def _packings(dtype: np.dtype[Any]) -> Iterator[DecodeJob]:
    """Yield chunks of one type in both byte orders, with every predictor that it may have."""
    values, place = _values(dtype, 4), Rect(0, 0, 131, 37)
    orders: tuple[Literal["<", ">"], ...] = ("<", ">")
    for order, predictor in product(orders, (1, 2, 3) if dtype.kind == "f" else (1, 2)):
        codec = ByteCodec(1, 3, 8 * dtype.itemsize, dtype.kind, order, predictor)
        chunks = (Chunk(codec, packed(values, codec), place),)
        yield DecodeJob(chunks, (place, Rect(17, 3, 70, 30)), (131, 37), 3, dtype)


def _chunks(backend: CudaBackend) -> str:
    """Unpack chunks of every type as one batch, and compare."""
    jobs = [job for dtype in tables.TYPES for job in _packings(dtype)]
    for job, tiles in zip(jobs, backend.decode(jobs), strict=True):
        made = [tile for tile in tiles if isinstance(tile, Raster)] if isinstance(tiles, tuple) else []
        expected = [tile.pixels for tile in decode_tiles(job) if isinstance(tile, Raster)]
        _expect_same(backend.download(made), expected)
    return f"{len(jobs)} chunks, the host's bits"


def _colours(backend: CudaBackend) -> str:
    """Convert YCbCr of both sizes where it lies, and compare."""
    rng, card = np.random.default_rng(5), backend.card
    for dtype in (np.dtype(np.uint8), np.dtype(np.uint16)):
        values = rng.integers(0, np.iinfo(dtype).max, (67, 131, 3), dtype, endpoint=True)

        def convert(values: NDArray[Any] = values) -> NDArray[Any]:
            card.begin()
            address = card.scratch.take(values.nbytes)
            card.courier.up(values, address)
            card.convert(address, (67, 131, 3), values.dtype)
            card.go()
            card.courier.settle()
            found = np.empty_like(values)
            card.courier.down([(address, found)])
            return found

        _expect_same([backend.on_card(convert)], [ycbcr_to_rgb(values, bits=8 * dtype.itemsize)])
    return "YCbCr of 8 and 16 bits, the host's bits"


def _codecs(backend: CudaBackend) -> str:
    """Have nvImageCodec decode its trial pictures, and tell which kinds are left to the host."""
    lane, known = backend.lanes[0], {stream.kind for stream, _ in nvtrials.trials()}
    pictures = lane.decoder.pictures
    if pictures is None:
        return "the host decodes all: nvImageCodec is not there, or does not work"
    trusted = pictures.kinds
    backend.on_card(partial(decoding.prove, lane.card, pictures))
    if pictures.kinds < trusted:
        raise WrongAnswer(f"no longer right: {', '.join(sorted(trusted - pictures.kinds))}")
    left = ", ".join(sorted(known - pictures.kinds)) or "nothing"
    return f"nvImageCodec decodes {', '.join(sorted(pictures.kinds))}; left to the host: {left}"


def _encoders(backend: CudaBackend) -> str:
    """Tell what the card's kernels, and nvImageCodec, make of trial pictures; other files than right fail."""
    own = backend.habits.own
    wrong = [kind.name for kind in (Format.JPEG, Format.PNG) if kind not in own]
    if wrong:
        raise WrongAnswer(f"the card's {' and '.join(wrong)} files were not right when it was opened")
    library = load.find_codecs()
    if library is None:
        return "the card encodes JPEG and PNG; nvImageCodec is not there"

    def kinds() -> frozenset[tuple[int, int]]:
        device = backend.card.device
        writer = Writer(library, device.number, device.stream, backend.threads)
        writer.prove(backend.card)
        return writer.kinds

    try:
        found = sorted(
            SAMPLINGS[subsampling] if samples > 1 else "grey"
            for samples, subsampling in backend.on_card(kinds)
        )
    except RuntimeError as error:
        return f"the card encodes JPEG and PNG; nvImageCodec's encoder does not work: {error}"
    return f"the card encodes JPEG and PNG; nvImageCodec could encode JPEG: {', '.join(found) or 'none'}"


def _card(backend: CudaBackend) -> str:
    """Tell what the card is, and how much of it is free."""

    def look() -> str:
        device = backend.card.device
        free, total = device.memory()
        facts = ", ".join(f"{name} {value}" for name, value in device.facts().items() if name != "memory")
        return f"{facts}; {free >> 20:,} of {total >> 20:,} MiB free; tiles {backend.capacity >> 20:,} MiB"

    return backend.on_card(look)


def bandwidth(backend: CudaBackend, most: int = COPIED, times: int = 8) -> float:
    """Return the bytes a second that the card reads and writes when it copies inside itself."""

    def measure() -> float:
        device = backend.card.device
        size = min(most, device.memory()[0] // 8)
        source, target = device.allocate(size), device.allocate(size)
        try:
            device.move(source.address, target.address, size)
            begun = device.mark()
            for _ in range(times):
                device.move(source.address, target.address, size)
            ended = device.mark()
            device.fence()
            return 2 * size * times / device.between(begun, ended)
        finally:
            device.free(source)
            device.free(target)

    return backend.on_card(measure)


def carried(backend: CudaBackend, size: int, times: int = 10) -> tuple[float, float]:
    """Return the bytes a second that go from pinned memory to the card, and back, ``size`` at a time."""

    def measure() -> tuple[float, float]:
        device, road = backend.card.device, backend.card.road
        pinned, block = device.pinned(size), device.allocate(size)
        try:
            up = _rate(backend, partial(road.upload, pinned, block.address), size, times)
            down = _rate(backend, partial(road.download, block.address, pinned), size, times)
        finally:
            device.free(block)
        return up, down

    return backend.on_card(measure)


def _rate(backend: CudaBackend, copy: Callable[[], None], size: int, times: int) -> float:
    device, road = backend.card.device, backend.card.road
    copy()
    begun = road.mark()
    for _ in range(times):
        copy()
    ended = road.mark()
    device.fence()
    return size * times / max(device.between(begun, ended), 1e-9)


def _copying(backend: CudaBackend) -> str:
    up, down = carried(backend, CARRIED)
    inside = bandwidth(backend)
    return (
        f"{up / 1e9:,.1f} GB/s to the card, {down / 1e9:,.1f} from it, "
        f"{inside / 1e9:,.1f} read and written inside"
    )


CARD_TESTS: dict[str, Callable[[CudaBackend], str]] = {
    "card": _card,
    "card's codecs": _codecs,
    "card's encoders": _encoders,
    "card's chunks": _chunks,
    "card's colours": _colours,
    "card's pictures": _pictures,
    "card's rasters": _rasters,
    "card's copies": _copying,
}
