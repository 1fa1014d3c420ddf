"""Addresses: where arrays and bytes of host memory lie, for job tables."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

_begin: Callable[[Any], ctypes.c_char] = ctypes.c_char.from_buffer


def address(plane: NDArray[Any] | None) -> int:
    """Return where an array lies, as long as somebody holds it; 0 for none."""
    if plane is None:
        return 0
    flags = plane.flags
    if flags.writeable and flags.c_contiguous and plane.size:  # a quarter of the time that NumPy takes
        return ctypes.addressof(_begin(plane))
    return int(plane.ctypes.data)


def addresses(pieces: Sequence[bytes | None]) -> list[int]:
    """Return where pieces of bytes lie, as long as somebody holds them; 0 for none, or all empty."""
    if not any(pieces):
        return [0] * len(pieces)
    pointers = (ctypes.c_char_p * len(pieces))(*pieces)
    places: list[int] = np.frombuffer(memoryview(pointers), np.uintp).tolist()
    return places
