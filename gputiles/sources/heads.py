"""The head of a plain picture file: what PNG, JPEG, WebP and JPEG 2000 say before their pixels."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gputiles import icc
from gputiles.errors import Damaged, GputilesError
from gputiles.image import Alpha, Colour
from gputiles.sources.bytecodec import DECODER_ERRORS
from gputiles.sources.bytesource import ByteSource, ObjectSource
from gputiles.sources.ifd import Directory, read_dialect, read_directory

MOST_PARTS = 10_000  # chunks, segments or boxes that are looked at
MOST_PART = icc.MOST_PROFILE + (1 << 16)  # bytes of one that are read: more than any profile that is used
_ORIENTATION = 274

Unpack = Callable[[bytes], NDArray[Any]]
Measure = Callable[[bytes], tuple[int, int]]


@dataclass(frozen=True, slots=True)
class StillCodec:
    """Decodes a whole file; ``measure`` reads the size anew, as the file may be another by now."""

    name: str
    measure: Measure
    unpack: Unpack
    samples: int
    dtype: np.dtype[np.generic]
    compression: int = -3

    def decode(self, data: bytes, width: int, height: int) -> NDArray[Any]:
        """Decode ``data`` to (height, width, samples)."""
        size = self.measure(data)
        if size != (width, height):
            raise Damaged(f"a {self.name} file of {size[0]}x{size[1]} pixels; it was {width}x{height}")
        try:
            pixels = self.unpack(data)
        except GputilesError:
            raise
        except DECODER_ERRORS as error:
            raise Damaged(f"the {self.name} file does not decode: {error}") from error
        pixels = pixels[..., np.newaxis] if pixels.ndim == 2 else pixels
        if pixels.shape != (height, width, self.samples) or pixels.dtype != self.dtype:
            raise Damaged(
                f"the {self.name} file decodes to {pixels.shape} {pixels.dtype} samples; its head promised"
                f" {(height, width, self.samples)} {self.dtype}"
            )
        return pixels


@dataclass(frozen=True, slots=True, eq=False)
class Head:
    """What a file says of its one picture.

    ``samples`` are those that are served, alpha included. ``profile`` and ``exif`` are as stored;
    ``inks`` says that the profile is not of what is served but of inks. ``orientation`` is EXIF's.
    """

    format: str
    width: int
    height: int
    samples: int
    dtype: np.dtype[np.generic]
    colour: Colour
    alpha: Alpha
    unpack: Unpack
    measure: Measure
    significant_bits: int | None = None
    profile: bytes | None = None
    inks: bool = False
    exif: bytes | None = None
    comments: tuple[str, ...] = ()
    density: tuple[float, float] | None = None  # pixels per millimetre, across and down
    warnings: tuple[str, ...] = ()

    @property
    def bytes(self) -> int:
        """Bytes of the decoded picture."""
        return self.width * self.height * self.samples * self.dtype.itemsize


def read_part(source: ByteSource, offset: int, size: int) -> bytes | None:
    """Read a chunk, segment or box; None where it is larger than anything that is used."""
    return source.read_at(offset, size) if size <= MOST_PART else None


def read_exif(exif: bytes) -> Directory:
    """Return the first directory of EXIF data; Damaged where there is none."""
    source = ObjectSource(io.BytesIO(exif.removeprefix(b"Exif\0\0")), "EXIF")
    return read_directory(source, *read_dialect(source))


def read_orientation(exif: bytes | None) -> tuple[int, tuple[str, ...]]:
    """Return EXIF's orientation, 1 where it says nothing, and a warning where it cannot be read."""
    if exif is None:
        return 1, ()
    try:
        return read_exif(exif).integer(_ORIENTATION, 1), ()
    except GputilesError as error:
        return 1, (f"the EXIF data cannot be read: {error}",)


def colours(samples: int) -> tuple[Colour, Alpha]:
    """Return what one to four samples mean: grey or RGB, an even number of them with alpha."""
    return (
        Colour.GREY if samples < 3 else Colour.RGB,
        Alpha.STRAIGHT if samples in (2, 4) else Alpha.NONE,
    )
