"""JPEG and JPEG 2000 chunks decoded on a card, in one batch, by nvImageCodec.

A kind of stream is decoded there only if a picture of its kind, decoded when the card is opened,
comes out as the host's decoder gives it. What nvImageCodec does not decode is the host's to try.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import imagecodecs
import numpy as np
from numpy.typing import NDArray

from gputiles.backends import Chunk
from gputiles.errors import GputilesError
from gputiles.sources import jpeg
from gputiles.sources.imagecodec import JPEG2000, ImageCodec, JpegCodec
from gputiles.sources.streamsize import check_jpeg2000_end, jpeg2000_size

TOLERANCE = 4  # levels by which a trial picture may differ from the host's: decoders round each in its way
OPTIONS = ":fancy_upsampling=1"  # chroma as libjpeg smooths it
UNFIT = (RuntimeError, ValueError, TypeError)  # what nvImageCodec raises at what it does not take
SAMPLINGS = {b"\x11\x11\x11": "YCbCr 4:4:4", b"\x21\x11\x11": "YCbCr 4:2:2", b"\x22\x11\x11": "YCbCr 4:2:0"}


@dataclass(frozen=True, slots=True)
class Stream:
    """A whole stream, its kind, and the (rows, columns, samples) and type that it decodes to."""

    kind: str
    data: bytes
    shape: tuple[int, int, int]
    dtype: np.dtype[Any]

    @property
    def size(self) -> int:
        """Bytes of the pixels."""
        return math.prod(self.shape) * self.dtype.itemsize

    @property
    def in_ycc(self) -> bool:
        """Whether the decoder is to convert colours."""
        return self.kind.startswith("YCbCr")


class Place:
    """Memory of the card as nvImageCodec takes it."""

    def __init__(self, shape: tuple[int, int, int], dtype: np.dtype[Any], address: int) -> None:
        self.__cuda_array_interface__ = {
            "shape": shape,
            "typestr": dtype.str,
            "data": (address, False),
            "version": 3,
        }


class Pictures:
    """The decoders of one card, for the card's thread only.

    The first uses the engine that a card may have for JPEG; a second one, without it, is there for kinds
    that the first has wrong. Raises RuntimeError where the library does not work.
    """

    def __init__(self, module: Any, number: int, stream: int, threads: int) -> None:
        self._module = module
        self._stream = stream
        self._device = {"device_id": number, "max_num_cpu_threads": threads, "options": OPTIONS}
        kind = module.BackendKind
        self._engine = self._decoder(kind.HW_GPU_ONLY, kind.GPU_ONLY, kind.HYBRID_CPU_GPU)
        self._decoders: dict[str, Any] = {}  # by the kind that each has right
        rgb, unchanged = module.ColorSpec.SRGB, module.ColorSpec.UNCHANGED
        self._params = {
            spec: module.DecodeParams(apply_exif_orientation=False, allow_any_depth=True, color_spec=spec)
            for spec in (rgb, unchanged)
        }

    def _decoder(self, *kinds: Any) -> Any:
        backends = [self._module.Backend(kind) for kind in kinds]
        return self._module.Decoder(backends=backends, **self._device)

    @property
    def kinds(self) -> frozenset[str]:
        """What may be decoded."""
        return frozenset(self._decoders)

    def prove(self, place: Callable[[int], int], fetch: Callable[[int, NDArray[Any]], None]) -> None:
        """Decode a picture of each kind into memory from ``place``; trust the kinds that come out right.

        ``fetch`` brings what lies at an address into an array.
        """
        made = [(stream, expected, place(stream.size)) for stream, expected in trials()]
        self._decoders.clear()
        self._try(self._engine, made, fetch)
        left = [each for each in made if each[0].kind not in self._decoders]
        if left:
            kind = self._module.BackendKind
            self._try(self._decoder(kind.GPU_ONLY, kind.HYBRID_CPU_GPU), left, fetch)

    def _try(
        self,
        decoder: Any,
        made: Sequence[tuple[Stream, NDArray[Any], int]],
        fetch: Callable[[int, NDArray[Any]], None],
    ) -> None:
        """Note a decoder for the kinds whose pictures it has right."""
        for stream, expected, address in made:
            found = np.zeros(stream.shape, stream.dtype)
            if self._decode(decoder, [stream], [address])[0]:
                fetch(address, found)
                if int(np.abs(found.astype(np.int64) - expected).max()) <= TOLERANCE:
                    self._decoders[stream.kind] = decoder

    def decode(self, streams: Sequence[Stream], addresses: Sequence[int]) -> list[bool]:
        """Decode streams to addresses, on the stream of kernels; say which were decoded."""
        done = [False] * len(streams)
        alike: dict[tuple[int, bool], list[int]] = defaultdict(list)
        for at, stream in enumerate(streams):
            alike[id(self._decoders[stream.kind]), stream.in_ycc].append(at)
        for chosen in alike.values():
            decoder = self._decoders[streams[chosen[0]].kind]
            made = self._decode(decoder, [streams[at] for at in chosen], [addresses[at] for at in chosen])
            for at, good in zip(chosen, made, strict=True):
                done[at] = good
        return done

    def _decode(self, decoder: Any, streams: Sequence[Stream], addresses: Sequence[int]) -> list[bool]:
        """Decode streams, all in YCbCr or none of them, in one call."""
        module, done = self._module, [False] * len(streams)
        codes = [self._code(stream) for stream in streams]
        fitting = [at for at, code in enumerate(codes) if code is not None]
        if not fitting:
            return done
        places = [Place(streams[at].shape, streams[at].dtype, addresses[at]) for at in fitting]
        spec = module.ColorSpec.SRGB if streams[0].in_ycc else module.ColorSpec.UNCHANGED
        try:
            found = decoder.decode(
                [codes[at] for at in fitting],
                images=[module.as_image(place, cuda_stream=self._stream) for place in places],
                params=self._params[spec],
                cuda_stream=self._stream,
            )
        except UNFIT:  # nothing is known of any of them: the host tries
            return done
        for at, image in zip(fitting, found, strict=True):
            done[at] = image is not None
        return done

    def _code(self, stream: Stream) -> Any:
        """Return a stream as nvImageCodec reads it; None where that is not what the chunk promises."""
        try:
            code = self._module.CodeStream(stream.data)
            shape = (code.height, code.width, code.num_channels)
            fits = shape == stream.shape and np.dtype(code.dtype) == stream.dtype
        except UNFIT:  # it cannot parse it
            return None
        return code if fits else None


def stream_of(chunk: Chunk, kinds: frozenset[str]) -> Stream | None:
    """Return a chunk's stream if it is of one of ``kinds`` and covers the chunk, else None."""
    codec, data = chunk.codec, chunk.data
    if not isinstance(data, bytes):
        return None
    try:
        if isinstance(codec, JpegCodec) and not codec.header:
            stream = _jpeg(codec, data)
        elif isinstance(codec, ImageCodec) and codec.compression in JPEG2000:
            stream = _jpeg2000(codec, data)
        else:
            return None
    except GputilesError:
        return None  # the host's decoder says what is wrong
    if stream is None or stream.kind not in kinds:
        return None
    rows, columns, _ = stream.shape
    fits = chunk.place.width <= columns <= codec.frame.full[0]
    return stream if fits and chunk.place.height <= rows <= codec.frame.full[1] else None


def _jpeg(codec: JpegCodec, data: bytes) -> Stream | None:
    data = jpeg.splice(data, codec.tables)
    header, count = jpeg.read_header(data), codec.frame.samples
    jpeg.check_scans(header, data)
    data = jpeg.ended(data, header)
    if header.precision != 8 or header.frame not in (0xC0, 0xC1) or len(header.components) != count:
        return None
    shape, dtype = (header.height, header.width, count), np.dtype(np.uint8)
    if count == 1:
        return Stream("grey", data, shape, dtype)
    if count != 3 or codec.raw:
        return None
    if header.is_rgb(codec.said_rgb):
        marked = data if header.adobe is not None else data[:2] + jpeg.ADOBE_RGB + data[2:]
        return Stream("RGB", marked, shape, dtype)
    kind = SAMPLINGS.get(sampling(data))
    return None if kind is None else Stream(kind, data, shape, dtype)


def sampling(data: bytes) -> bytes:
    """Return the sampling factors of a stream's components, as its frame has them."""
    for marker, start, end in jpeg.segments(data):
        if marker in (0xC0, 0xC1):
            return data[start + 7 : end : 3]
    return b""


def _jpeg2000(codec: ImageCodec, data: bytes) -> Stream | None:
    frame = codec.frame
    if frame.dtype not in (np.uint8, np.uint16) or frame.samples not in (1, 3):
        return None
    width, height = jpeg2000_size(data)
    check_jpeg2000_end(data)
    kind = f"JPEG 2000 {frame.dtype} {frame.samples}"
    return Stream(kind, data, (height, width, frame.samples), np.dtype(frame.dtype))


def trials() -> list[tuple[Stream, NDArray[Any]]]:
    """Return a picture of every kind, and what the host decodes of it.

    It is smooth with a grain, and has patches at whose edges it shows how chroma is brought to full size.
    """
    y, x = np.mgrid[:64, :96]
    grain = np.random.default_rng(1).integers(0, 4, (64, 96, 1))
    pixels = (np.stack([40 + x, 60 + 2 * y, 200 - x], axis=-1) + grain).astype(np.uint8)
    pixels[11:30, 21:48], pixels[33:52, 50:81] = (200, 40, 60), (30, 90, 220)
    made = [
        (kind, imagecodecs.jpeg8_encode(pixels, level=90, subsampling=kind[-5:].replace(":", "")))
        for kind in SAMPLINGS.values()
    ]
    plain = imagecodecs.jpeg8_encode(pixels, level=90, colorspace="RGB", outcolorspace="RGB")
    made += [("RGB", plain[:2] + jpeg.ADOBE_RGB + plain[2:])]
    made += [("grey", imagecodecs.jpeg8_encode(np.ascontiguousarray(pixels[..., 0]), level=90))]
    for dtype in (np.uint8, np.uint16):
        for samples in (1, 3):
            values = np.ascontiguousarray(pixels[..., :samples].squeeze().astype(dtype))
            made += [(f"JPEG 2000 {values.dtype} {samples}", imagecodecs.jpeg2k_encode(values, level=0))]
    return [_trial(kind, bytes(data)) for kind, data in made]


def _trial(kind: str, data: bytes) -> tuple[Stream, NDArray[Any]]:
    decode = imagecodecs.jpeg2k_decode if kind.startswith("JPEG 2000") else imagecodecs.jpeg8_decode
    expected = np.asarray(decode(data))
    expected = expected[..., np.newaxis] if expected.ndim == 2 else expected
    rows, columns, samples = expected.shape
    return Stream(kind, data, (rows, columns, samples), expected.dtype), expected.astype(np.int64)
