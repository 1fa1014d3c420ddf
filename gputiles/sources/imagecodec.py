"""Codecs whose streams are pictures of their own: JPEG, JPEG 2000, JPEG XL, PNG, WebP, LERC.

The size that a stream claims is compared with the chunk's before anything is decoded.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import imagecodecs
import numpy as np
from numpy.typing import NDArray

from gputiles.backends import ChunkCodec
from gputiles.errors import Damaged, GputilesError, Unsupported
from gputiles.sources import jpeg, jpegxl, streamsize
from gputiles.sources.bytecodec import DECODER_ERRORS, inflate
from gputiles.sources.pngfile import unpack_png

JPEG = (6, 7, 34892, 33007)
JPEG2000 = (34712, 33003, 33004, 33005)
LERC, PNG = 34887, 34933
JPEGXL = (50002, 52546)
_WEBP = (50001, 34927)
_SLACK = 65536  # bytes that a LERC stream may have beyond twice its pixels

_Size = Callable[[bytes], tuple[int, int]]
_Decode = Callable[..., Any]
# Only decoders that survive damaged streams: of imagecodecs 2026.3.6, jpegxr_decode and
# ljpeg_decode crash the process.
_STREAMS: dict[int, tuple[str, _Size, _Decode]] = {
    **dict.fromkeys(JPEG2000, ("JPEG 2000", streamsize.jpeg2000_size, imagecodecs.jpeg2k_decode)),
    **dict.fromkeys(JPEGXL, ("JPEG XL", jpegxl.size, imagecodecs.jpegxl_decode)),
    **dict.fromkeys(_WEBP, ("WebP", streamsize.webp_size, imagecodecs.webp_decode)),
    PNG: ("PNG", streamsize.png_size, unpack_png),
    LERC: ("LERC", streamsize.lerc_size, imagecodecs.lerc_decode),
}
# Of how many samples these streams tell; all others have at most four.
_SAMPLES: dict[int, Callable[[bytes], int]] = {
    **dict.fromkeys(JPEG2000, streamsize.jpeg2000_samples),
    **dict.fromkeys(JPEGXL, jpegxl.least_samples),
    LERC: streamsize.lerc_samples,
}
COMPRESSIONS = (*JPEG, *_STREAMS)
OF_COLOURS = (*_WEBP, *JPEGXL, PNG)
"""Compressions whose streams are of colours by themselves, whatever the page calls them."""


@dataclass(frozen=True, slots=True)
class Frame:
    """What a chunk must decode to: samples, type, and the full (width, height) of the grid."""

    samples: int
    dtype: np.dtype[np.generic]
    full: tuple[int, int]

    def check(self, name: str, width: int, height: int) -> None:
        """Raise Damaged for a stream larger than a full chunk."""
        if width > self.full[0] or height > self.full[1]:
            raise Damaged(
                f"a {name} stream of {width}x{height} pixels in a chunk of {self.full[0]}x{self.full[1]}"
            )

    def check_samples(self, name: str, samples: int) -> None:
        """Raise Damaged for a stream of more samples than the chunk has."""
        if samples > self.samples:
            raise Damaged(f"a {name} stream of {samples} samples in a chunk of {self.samples}")

    def fit(self, name: str, pixels: NDArray[Any], width: int, height: int) -> NDArray[Any]:
        """Cut or pad decoded ``pixels`` to (height, width, samples); Damaged where they cannot fit."""
        pixels = pixels[..., np.newaxis] if pixels.ndim == 2 else pixels
        if pixels.ndim != 3 or pixels.shape[2] != self.samples or pixels.dtype != self.dtype:
            raise Damaged(
                f"a {name} stream of {pixels.shape[2:]} {pixels.dtype} samples in a chunk of"
                f" {self.samples} {self.dtype}"
            )
        pixels = pixels[:height, :width]
        missing = height - pixels.shape[0], width - pixels.shape[1]
        if any(missing):  # writers may cut the chunks at the right and lower rim
            pixels = np.pad(pixels, ((0, missing[0]), (0, missing[1]), (0, 0)))
        return pixels


@dataclass(frozen=True, slots=True)
class ImageCodec:
    """Decodes JPEG 2000, JPEG XL, PNG, WebP or LERC streams.

    ``packed`` is the compression that streams as a whole were put through (LERC's second one).
    """

    compression: int
    frame: Frame
    packed: int = 1

    def decode(self, data: bytes, width: int, height: int) -> NDArray[Any]:
        """Decode ``data`` to (height, width, samples)."""
        name, read_size, decode = _STREAMS[self.compression]
        data = self._unpacked(data)
        self.frame.check(name, *read_size(data))
        self.frame.check_samples(
            name, _SAMPLES[self.compression](data) if self.compression in _SAMPLES else 1
        )
        options: dict[str, Any] = {}
        if self.compression in _WEBP:
            options = {"hasalpha": self.frame.samples == 4}
        elif self.compression in JPEG2000:
            streamsize.check_jpeg2000_end(data)
            options = {"numthreads": 1}
        elif self.compression in JPEGXL:
            options = {"numthreads": 1, "index": 0}
        try:
            pixels = np.asarray(decode(data, **options))
        except DECODER_ERRORS as error:
            raise Damaged(f"a {name} chunk does not decode: {error}") from error
        pixels = pixels.astype(np.float32) if pixels.dtype == np.float16 else pixels
        return self.frame.fit(name, pixels, width, height)

    def size(self, data: bytes) -> tuple[int, int]:
        """Return the (width, height) that a stream tells."""
        return _STREAMS[self.compression][1](self._unpacked(data))

    def _unpacked(self, data: bytes) -> bytes:
        if self.packed == 1:
            return data
        size = self.frame.full[0] * self.frame.full[1] * self.frame.samples * self.frame.dtype.itemsize
        try:
            return inflate(self.packed, data, 2 * size + _SLACK).tobytes()
        except DECODER_ERRORS as error:
            name = _STREAMS[self.compression][0]
            raise Damaged(f"a {name} chunk does not decompress: {error}") from error


@dataclass(frozen=True, slots=True)
class JpegCodec:
    """Decodes JPEG streams to RGB, grey, or the components as they are.

    ``tables`` are the page's shared tables (tag 347). ``said_rgb`` tells what the page
    says that three components mean; see ``jpeg.py``. ``raw`` leaves the components as
    they are coded (separate planes, more than three samples). ``header`` goes before the data, whose end
    then needs a marker.
    """

    compression: int
    frame: Frame
    tables: bytes | None = None
    said_rgb: bool = False
    raw: bool = False
    header: bytes = b""

    def decode(self, data: bytes, width: int, height: int) -> NDArray[Any]:
        """Decode ``data`` to (height, width, samples)."""
        if self.header:
            data = self.header + data + jpeg.END
        header = jpeg.read_header(data)
        self.frame.check("JPEG", header.width, header.height)
        jpeg.check_scans(header, data)
        data = jpeg.ended(data, header, self.tables)
        try:
            pixels = self._decode(data, header)
        except GputilesError:
            raise
        except DECODER_ERRORS as error:
            raise Damaged(f"a JPEG chunk does not decode: {error}") from error
        return self.frame.fit("JPEG", pixels, width, height)

    def stream(self, data: bytes) -> bytes | None:
        """Return a chunk's bytes as a whole stream; None where it is no grey or RGB of 8 bits."""
        plain = self.frame.samples == 1 or (self.frame.samples == 3 and not self.raw)
        if self.frame.dtype != np.uint8 or not plain:
            return None
        return self.header + data + jpeg.END if self.header else data

    def _decode(self, data: bytes, header: jpeg.Header) -> NDArray[Any]:
        if header.frame not in (0xC0, 0xC1, 0xC2, 0xC3):
            raise Unsupported(f"JPEG coding process SOF{header.frame - 0xC0} is not read")
        spaces: dict[str, Any] = {}
        if len(header.components) == 3 and not self.raw:
            is_rgb = header.is_rgb(self.said_rgb, jpeg.adobe_transform(self.tables))
            inside = "RGB" if is_rgb else "YCBCR"
            spaces = {"colorspace": inside, "outcolorspace": "RGB"}
        return np.asarray(imagecodecs.jpeg8_decode(data, tables=self.tables, **spaces))


def measured(codec: ChunkCodec, data: bytes) -> tuple[int, int] | None:
    """Return the (width, height) that a stream tells by itself; None where it does not."""
    if isinstance(codec, JpegCodec):
        return streamsize.jpeg_size(data)
    return codec.size(data) if isinstance(codec, ImageCodec) else None
