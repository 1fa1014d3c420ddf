"""Chunks on their way to a card: decoded there or on the way, beside kernels, by nvImageCodec's engines."""

from __future__ import annotations

import time
import zlib
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import imagecodecs
import numpy as np

from gputiles.backends import Chunk, ChunkCodec, DecodeJob, load
from gputiles.backends.cuda import CudaBackend
from gputiles.backends.nvimage import OPTIONS, Pictures
from gputiles.backends.nvstreams import Stream
from gputiles.cardtest import packed
from gputiles.errors import GputilesError
from gputiles.geometry import Rect
from gputiles.sources.bytecodec import ByteCodec
from gputiles.sources.imagecodec import Frame, JpegCodec

U8, U16 = np.dtype(np.uint8), np.dtype(np.uint16)
BATCH = 64
HINTS = (
    "nvjpeg_hw_decoder:preallocate_batch_size={batch} "
    "nvjpeg_hw_decoder:preallocate_width_hint={side} nvjpeg_hw_decoder:preallocate_height_hint={side}"
)
"""Options that let nvJPEG's engine make room beforehand."""
Wall = Callable[[Callable[[], object]], dict[str, Any]]


def jpeg(side: int) -> bytes:
    """Return a JPEG with noise, 4:2:0, quality 90."""
    noise = np.random.default_rng(7).integers(0, 40, (side, side, 3))
    pixels = (noise + np.linspace(20, 200, side)[:, None, None]).astype(np.uint8)
    return bytes(imagecodecs.jpeg8_encode(pixels, level=90, subsampling="420"))


def kinds(side: int) -> dict[str, tuple[ChunkCodec, bytes, int, np.dtype[Any]]]:
    """Return chunks by their compression: the codec, the bytes, samples and type."""
    values = np.random.default_rng(8).poisson(1500, (side, side, 1)).astype(np.uint16)
    plain, differing = ByteCodec(1, 1, 16, "u", "<"), ByteCodec(8, 1, 16, "u", "<", 2)
    swapped = ByteCodec(1, 1, 16, "u", ">")
    return {
        "JPEG": (JpegCodec(7, Frame(3, U8, (side, side))), jpeg(side), 3, U8),
        "none": (plain, packed(values, plain), 1, U16),
        "none, big-endian": (swapped, packed(values, swapped), 1, U16),
        "Deflate, predictor 2": (differing, zlib.compress(packed(values, differing)), 1, U16),
    }


def jobs(kind: tuple[ChunkCodec, bytes, int, np.dtype[Any]], side: int, count: int) -> list[DecodeJob]:
    """Return as many jobs of one chunk each."""
    codec, data, samples, dtype = kind
    place = Rect(0, 0, side, side)
    return [DecodeJob((Chunk(codec, data, place),), (place,), (side, side), samples, dtype)] * count


def decodes(backend: CudaBackend, wall: Wall, side: int, batches: Sequence[int]) -> list[dict[str, Any]]:
    """Return the times of chunks by compression and number, in batches of at most ``BATCH``."""
    return [
        {"compression": name, "chunks": count} | wall(partial(decode, backend, jobs(kind, side, count)))
        for name, kind in kinds(side).items()
        for count in batches
    ]


def decode(backend: CudaBackend, some: Sequence[DecodeJob]) -> None:
    """Decode chunks in batches of at most ``BATCH``. Raises what the first that fails died of."""
    for at in range(0, len(some), BATCH):
        for outcome in backend.decode(some[at : at + BATCH]):
            for tile in (outcome,) if isinstance(outcome, GputilesError) else outcome:
                if isinstance(tile, GputilesError):
                    raise tile


def beside(
    backend: CudaBackend, wall: Wall, side: int, count: int, render: Callable[[], object]
) -> dict[str, Any]:
    """Return the times of a batch that is drawn, of one that is sent up, and of both at once."""
    some = jobs(kinds(side)["none"], side, count)

    def decode() -> object:
        return backend.decode(some)

    with ThreadPoolExecutor(2) as pool:
        calls = (render, decode)
        return {
            "drawn_ms": wall(render)["p50_ms"],
            "sent_up_ms": wall(decode)["p50_ms"],
            "both_ms": wall(lambda: list(pool.map(lambda call: call(), calls)))["p50_ms"],
        }


def engines(backend: CudaBackend, seconds: float, threads: Sequence[int], sides: Sequence[int]) -> list[Any]:
    """Return the JPEGs a second that nvImageCodec decodes: with the card's engine, without, with room made.

    Room is made beforehand for a batch of pictures of that side.
    """
    library, device = load.find_codecs(), backend.card.device
    if library is None:
        return []

    def measure() -> list[dict[str, Any]]:
        found = []
        for count in threads:
            pictures = Pictures(library, device.number, device.stream, count)
            kind = library.BackendKind
            plain = pictures._decoder(kind.GPU_ONLY, kind.HYBRID_CPU_GPU)
            for side in sides:
                stream = Stream("YCbCr 4:2:0", jpeg(side), (side, side, 3), U8)
                row: dict[str, Any] = {"threads": count, "side": side}
                hints = f"{OPTIONS} {HINTS.format(batch=BATCH, side=side)}"
                decoders = {
                    "engine_per_s": pictures._engine,
                    "with_room_per_s": pictures._decoder(*pictures.engines, options=hints),
                    "without_per_s": plain,
                }
                for name, decoder in decoders.items():
                    row[name] = _rate(backend, pictures, decoder, stream, seconds)
                found.append(row)
        return found

    return backend.on_card(measure)


def _rate(backend: CudaBackend, pictures: Pictures, decoder: Any, stream: Stream, seconds: float) -> int:
    """Return streams a second of batches that are waited for; 0 where they are not decoded."""
    card, streams = backend.card, [stream] * BATCH
    card.begin()
    addresses = [card.scratch.take(stream.size) for _ in streams]
    if not all(pictures._decode(decoder, streams, addresses)):
        return 0
    card.device.fence()
    began, calls = time.perf_counter(), 0
    while time.perf_counter() - began < seconds or calls < 3:
        pictures._decode(decoder, streams, addresses)
        card.device.fence()
        calls += 1
    return round(calls * BATCH / (time.perf_counter() - began))
