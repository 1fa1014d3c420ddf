"""Loans: resident tiles as arrays of the device's memory, lent to the program that opened the image."""

from __future__ import annotations

import math
import weakref
from collections.abc import Callable
from typing import Any

from gputiles.backends import Raster
from gputiles.capsules import capsule


class DeviceArray:
    """An unstyled tile where it lies on a card: (rows, columns, samples), C-contiguous, to be read only.

    ``cupy.asarray``, ``torch.from_dlpack`` and the like make arrays of it without a copy. Its pixels
    are complete: on whichever stream they are read, there is nothing to wait for. The tile stays where
    it is until ``release``, the end of a ``with`` block, or until neither this object nor an array made
    of it is held any more. What reads it may still be running on the card then, on any stream: the
    memory is used again only when all that the card was asked for by then is done. After ``release``
    nothing more may be asked of arrays that were made of it. As long as it is lent, a tile takes room on
    the shelf that no other tile gets.
    """

    def __init__(self, raster: Raster, device: tuple[int, int], give_back: Callable[[], None]) -> None:
        self.shape = raster.shape
        self.dtype = raster.dtype
        self._address = raster.address
        self._device = device
        self._loan = weakref.finalize(self, give_back)
        self._loan.atexit = False  # the card is given back as a whole

    @property
    def nbytes(self) -> int:
        """The bytes of the pixels."""
        return math.prod(self.shape) * self.dtype.itemsize

    @property
    def released(self) -> bool:
        """Whether the tile was given back."""
        return not self._loan.alive

    def release(self) -> None:
        """Give the tile back; more than once does no harm."""
        self._loan()

    def __enter__(self) -> DeviceArray:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()

    def _check(self) -> None:
        if self.released:
            raise ValueError("the tile was released: its memory may hold another by now")

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]:
        """The array as CUDA libraries of Python describe it, version 3; raises ValueError once released."""
        self._check()
        return {
            "shape": self.shape,
            "typestr": self.dtype.str,
            "data": (self._address, True),
            "strides": None,
            "stream": None,  # there is nothing to wait for
            "version": 3,
        }

    def __dlpack_device__(self) -> tuple[int, int]:
        """Return the kind and the number of the device, as DLPack counts them."""
        return self._device

    def __dlpack__(
        self,
        *,
        stream: object = None,
        max_version: tuple[int, int] | None = None,
        dl_device: tuple[int, int] | None = None,
        copy: bool | None = None,
    ) -> object:
        """Return the array as a DLPack capsule; on no ``stream`` is there anything to wait for.

        Raises ValueError once released, BufferError for a copy or another device.
        """
        self._check()
        if copy or dl_device not in (None, self._device):
            raise BufferError(
                f"the tile is handed out where it lies, on device {self._device}; "
                f"asked for: device {dl_device}, copy {copy}"
            )
        versioned = max_version is not None and max_version >= (1, 0)
        return capsule(self._address, self.shape, self.dtype, self._device, self, versioned=versioned)
