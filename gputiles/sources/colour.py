"""Conversions that a file's own model of samples asks for: YCbCr and CMYK to RGB, alpha, magnitudes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gputiles.backends import ChunkCodec
from gputiles.errors import Damaged
from gputiles.geometry import ceil_div

_BAND = 1 << 20  # pixels that are converted at a time
_BT601 = (0.299, 0.587, 0.114)


@dataclass(frozen=True, slots=True)
class YCbCrCodec:
    """Converts what ``codec`` decodes from YCbCr of ``bits`` bits to RGB; further samples stay.

    ``done`` says of a chunk's bytes whether the decoder converts them already. ``reference``
    is tag 532 (black and white of Y, Cb, Cr), ``luma`` tag 529. The formula is TIFF 6.0
    section 21's; the defaults are JFIF's (BT.601, full range).
    """

    codec: ChunkCodec
    reference: tuple[float, ...] = ()
    luma: tuple[float, ...] = _BT601
    done: Callable[[bytes], bool] | None = None
    bits: int = 8

    @property
    def compression(self) -> int:
        """The compression of the inner codec."""
        return self.codec.compression

    def decode(self, data: bytes, width: int, height: int) -> NDArray[Any]:
        """Decode ``data`` to RGB (height, width, 3 and more)."""
        pixels = self.codec.decode(data, width, height)
        if self.done is not None and self.done(data):
            return pixels
        return in_bands(lambda band: ycbcr_to_rgb(band, self.reference, self.luma, self.bits), pixels)


@dataclass(frozen=True, slots=True)
class SubsampledCodec:
    """Spreads the data units of subsampled YCbCr: ``across`` × ``down`` Y, then Cb, Cr.

    ``codec`` decodes units as pixels of ``across * down + 2`` samples. Chroma is repeated.
    """

    codec: ChunkCodec
    across: int
    down: int

    @property
    def compression(self) -> int:
        """The compression of the inner codec."""
        return self.codec.compression

    def decode(self, data: bytes, width: int, height: int) -> NDArray[Any]:
        """Decode ``data`` to YCbCr (height, width, 3)."""
        columns, rows = ceil_div(width, self.across), ceil_div(height, self.down)
        units = self.codec.decode(data, columns, rows)
        luma = units[..., :-2].reshape(rows, columns, self.down, self.across)
        pixels = np.empty((rows, self.down, columns, self.across, 3), units.dtype)
        pixels[..., 0] = luma.transpose(0, 2, 1, 3)
        pixels[..., 1:] = units[:, np.newaxis, :, np.newaxis, -2:]
        whole = pixels.reshape(rows * self.down, columns * self.across, 3)
        return np.ascontiguousarray(whole[:height, :width])


@dataclass(frozen=True, slots=True)
class ConvertedCodec:
    """Converts what ``codec`` decodes by ``convert``, which makes pixels of pixels, each by itself."""

    codec: ChunkCodec
    convert: Callable[[NDArray[Any]], NDArray[Any]]

    @property
    def compression(self) -> int:
        """The compression of the inner codec."""
        return self.codec.compression

    def decode(self, data: bytes, width: int, height: int) -> NDArray[Any]:
        """Decode ``data`` to what is made of its (height, width, samples)."""
        return in_bands(self.convert, self.codec.decode(data, width, height))


def magnitudes(halves: NDArray[Any]) -> NDArray[Any]:
    """Return the lengths of complex (…, 2 × samples), of which every other is the imaginary half.

    The type is the smallest floating-point one that lengths of the halves' type fit into.
    """
    wide = halves.astype(np.float64 if halves.itemsize > 2 else np.float32)
    with np.errstate(over="ignore"):  # what is too long is infinite
        lengths: NDArray[Any] = np.hypot(wide[..., ::2], wide[..., 1::2])
        return lengths.astype(np.float32) if halves.dtype == np.float32 else lengths


def in_bands(convert: Callable[[NDArray[Any]], NDArray[Any]], pixels: NDArray[Any]) -> NDArray[Any]:
    """Convert (rows, columns, samples) some rows at a time: the arithmetic takes many times their bytes."""
    rows = max(1, _BAND // max(1, pixels.shape[1]))
    if len(pixels) <= rows:
        return convert(pixels)
    first = convert(pixels[:rows])
    whole = np.empty((*pixels.shape[:2], first.shape[2]), first.dtype)
    whole[:rows] = first
    for top in range(rows, len(pixels), rows):
        whole[top : top + rows] = convert(pixels[top : top + rows])
    return whole


def cmyk_to_rgb(inks: NDArray[Any]) -> NDArray[Any]:
    """Mix the inks of (…, 4) unsigned integers to RGB of their type, rounded to nearest, without a profile.

    What is left of white is (1 − ink)(1 − black). Further samples stay as they are.
    """
    top = np.iinfo(inks.dtype).max
    light = top - inks[..., :4].astype(np.uint64)
    mixed: NDArray[Any] = (light[..., :3] * light[..., 3:] + top // 2) // top
    return np.concatenate((mixed.astype(inks.dtype), inks[..., 4:]), axis=-1)


def straighten(pixels: NDArray[Any]) -> NDArray[Any]:
    """Divide the samples of (…, samples) by the last one, a share of the unsigned type's top or of 1.0.

    Integers are rounded to nearest and end at the type's largest value; where alpha is 0
    the colours are 0.
    """
    colours, alpha = pixels[..., :-1], pixels[..., -1:]
    if pixels.dtype.kind == "f":
        with np.errstate(invalid="ignore", over="ignore"):  # what is not finite stays so
            quotients = np.divide(colours, alpha, out=np.zeros_like(colours), where=alpha > 0)
        return np.concatenate((quotients, alpha), axis=-1)
    top = int(np.iinfo(pixels.dtype).max)
    kind = object if pixels.itemsize == 8 else np.uint64  # products of 64 bits need twice as many
    wide, whole = colours.astype(kind), np.maximum(alpha, 1).astype(kind)
    quotients = np.minimum((wide * top + whole // 2) // whole, top) * (alpha > 0)
    return np.concatenate((quotients.astype(pixels.dtype), alpha), axis=-1)


def ycbcr_to_rgb(
    pixels: NDArray[Any],
    reference: tuple[float, ...] = (),
    luma: tuple[float, ...] = _BT601,
    bits: int = 8,
) -> NDArray[Any]:
    """Convert YCbCr (…, 3 and more) of ``bits`` bits to RGB of the same type, rounded to nearest.

    Further samples stay as they are.
    """
    if pixels.dtype.kind != "u" or pixels.dtype.itemsize * 8 < bits:
        raise Damaged(f"YCbCr of type {pixels.dtype}; expected unsigned integers of {bits} bits")
    top, half = float((1 << bits) - 1), float(1 << bits - 1)
    black_y, white_y, black_b, white_b, black_r, white_r = reference or (0.0, top, half, top, half, top)
    red, green, blue = luma
    y = (pixels[..., 0].astype(np.float32) - black_y) * (top / (white_y - black_y))
    cb = (pixels[..., 1].astype(np.float32) - black_b) * ((half - 1) / (white_b - black_b))
    cr = (pixels[..., 2].astype(np.float32) - black_r) * ((half - 1) / (white_r - black_r))
    r = y + cr * (2 - 2 * red)
    b = y + cb * (2 - 2 * blue)
    g = (y - red * r - blue * b) / green
    rgb: NDArray[np.float32] = np.clip(np.rint(np.stack((r, g, b), -1)), 0, top)
    return np.concatenate((rgb.astype(pixels.dtype), pixels[..., 3:]), axis=-1)
