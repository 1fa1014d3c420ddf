"""Folding: the planes of a stack joined to one, pixel by pixel, on the host."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from gputiles.backends.tables import native
from gputiles.image import Alpha, ImageInfo
from gputiles.projections import Kind

FOLDED = 18  # bytes that a sample takes: its total, its weight, and the values that are about to join


class Fold:
    """Joins the planes of a tile, each (rows, columns, samples), one after the other.

    Maxima are taken in the values' own type, totals in float64, in which those of up to 32 bits
    are exact. Values that are NaN or nodata, of pixels that are not valid, and colours of
    pixels that are transparent carry no weight, as where a level is made of a finer one.
    """

    def __init__(self, kind: Kind, info: ImageInfo) -> None:
        self._kind = kind
        self._dtype = np.dtype(info.dtype)
        self._nodata = native(info.nodata, self._dtype)
        missing = np.nan if self._dtype.kind == "f" else 0
        self._empty = missing if self._nodata is None else self._nodata
        self._transparent = info.alpha is Alpha.STRAIGHT
        self._colours = info.samples - self._transparent
        self._total: NDArray[Any] | None = None
        self._count: NDArray[np.uint16] | None = None

    def add(self, pixels: NDArray[Any], valid: NDArray[np.uint8] | None = None) -> None:
        """Add a plane; ``valid`` (rows, columns) is 0 where there is no data, None is all of it."""
        if self._total is None or self._count is None:
            self._total, self._count = self._begin(pixels.shape), np.zeros(pixels.shape, np.uint16)
        weighs = self._weighs(pixels, valid)
        join = np.maximum if self._kind is Kind.MAXIMUM else np.add
        with np.errstate(over="ignore", invalid="ignore"):  # of infinite values
            join(self._total, pixels, out=self._total, where=weighs)
        self._count += weighs

    def result(self) -> tuple[NDArray[Any], NDArray[np.uint8] | None]:
        """Return the plane, and where it is valid (rows, columns, 1), None where all of it is.

        Whole numbers are cut towards zero, and limited to what their type holds. What nothing
        carried weight for is nodata, else NaN or 0.
        """
        assert self._total is not None
        assert self._count is not None
        total, found = self._total, self._count > 0
        if self._kind is Kind.MEAN:
            total /= np.maximum(self._count, 1)
        pixels = self._stored(total)
        pixels[..., : self._colours][~found[..., : self._colours]] = self._empty
        pixels[..., self._colours :][~found[..., self._colours :]] = 0
        valid = np.asarray(found.any(axis=2))[..., np.newaxis]
        return pixels, None if valid.all() else valid.astype(np.uint8)

    def _begin(self, shape: tuple[int, ...]) -> NDArray[Any]:
        if self._kind is not Kind.MAXIMUM:
            return np.zeros(shape, np.float64)
        least = -np.inf if self._dtype.kind == "f" else np.iinfo(self._dtype.name).min
        return np.full(shape, least, self._dtype)

    def _weighs(self, pixels: NDArray[Any], valid: NDArray[np.uint8] | None) -> NDArray[np.bool_]:
        weighs = ~np.isnan(pixels) if self._dtype.kind == "f" else np.ones(pixels.shape, np.bool_)
        if valid is not None:
            weighs &= valid.reshape(*pixels.shape[:2], 1) != 0
        colours = weighs[..., : self._colours]
        if self._nodata is not None:
            colours &= pixels[..., : self._colours] != self._nodata
        if self._transparent:
            colours &= pixels[..., -1:] > 0
        return weighs

    def _stored(self, total: NDArray[Any]) -> NDArray[Any]:
        """Return totals in the values' own type."""
        if self._dtype == total.dtype:
            return total
        if self._dtype.kind == "f":
            with np.errstate(over="ignore"):
                return total.astype(self._dtype)
        limits = np.iinfo(self._dtype.name)
        most = float(limits.max)
        if most > limits.max:  # 64 bits: float64 has only the next power of two
            most = float(np.nextafter(most, 0))
        return np.clip(total, float(limits.min), most, out=total).astype(self._dtype)
