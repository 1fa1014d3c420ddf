"""The host library: the kernels that the C++ compiler has built, as functions over job tables."""

from __future__ import annotations

import ctypes
import importlib.util
from collections.abc import Sequence
from functools import cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from gputiles.backends import tables
from gputiles.backends.addresses import address
from gputiles.geometry import shares

STEP = np.dtype([("kernel", "u8"), ("table", "u8"), ("jobs", "i8")])  # of a chain: Step in pool.h

_steps = tables.Rows(STEP)


class Call(NamedTuple):
    """A kernel and the table of its jobs."""

    kernel: str
    table: NDArray[Any]


class Library:
    """The kernels as functions over job tables, from a shared library (by default the built one).

    A call releases the GIL and keeps nothing: any number of threads may call at once.
    """

    def __init__(self, path: str | None = None) -> None:
        self._library = ctypes.CDLL(path or _path())
        self._addresses: dict[str, int] = {}
        self._library.jpeg_end.restype = ctypes.c_int64
        sizes = np.zeros(len(tables.LAYOUT), np.int64)
        self._library.layout(ctypes.c_void_p(address(sizes)))
        ours = [layout.itemsize for layout in tables.LAYOUT]
        if sizes.tolist() != ours:
            raise ImportError(
                f"the host kernels were built for other job tables: {sizes.tolist()}, not {ours}"
            )

    def __call__(self, kernel: str, table: NDArray[Any]) -> None:
        """Run ``kernel`` over the jobs of ``table``."""
        function = getattr(self._library, kernel)
        function(ctypes.c_void_p(address(table)), ctypes.c_int64(len(table)))

    def chain(self, calls: Sequence[Call]) -> None:
        """Run kernels one after the other without the GIL, whose return may take as long as a kernel."""
        steps = _steps((self._address(call.kernel), address(call.table), len(call.table)) for call in calls)
        self._library.chain(ctypes.c_void_p(address(steps)), ctypes.c_int64(len(steps)))

    def shares(self, calls: Sequence[Call], count: int | None = None) -> NDArray[Any]:
        """Return the steps of ``count`` shares, for ``Pool.run``: each does its rows of each table, in turn.

        All tables have as many rows; by default a share does one of them.
        """
        rows = len(calls[0].table)
        cuts = shares(rows, rows if count is None else count)
        whole = [(self._address(call.kernel), address(call.table), call.table.itemsize) for call in calls]
        steps = _steps(
            (kernel, table + cut.start * size, len(cut)) for cut in cuts for kernel, table, size in whole
        )
        return steps.reshape(len(cuts), len(calls))

    def pool(self, cores: Sequence[int]) -> Pool:
        """Start threads that take shares of calls, one on each of ``cores`` (-1: where the system likes)."""
        return Pool(self._library, cores)

    def jpeg_end(self, data: bytes, whole: bool = False) -> int:
        """Return the byte behind the coded data of a JPEG stream, -1 where they are not all there.

        So it is, too, where they are progressive or in arithmetic coding, and where ``whole`` asks that
        all bits of the last byte are data.
        """
        return int(self._library.jpeg_end(data, ctypes.c_int64(len(data)), ctypes.c_int64(whole)))

    def _address(self, kernel: str) -> int:
        known = self._addresses.get(kernel)
        if known is None:
            pointer = ctypes.cast(getattr(self._library, kernel), ctypes.c_void_p)
            known = self._addresses[kernel] = pointer.value or 0
        return known


class Pool:
    """Threads of the library's own: see pool.h."""

    def __init__(self, library: ctypes.CDLL, cores: Sequence[int]) -> None:
        self._library = library
        library.pool_open.restype = ctypes.c_void_p
        table = np.array(cores, np.int64)
        opened = library.pool_open(ctypes.c_void_p(address(table)), ctypes.c_int64(len(table)))
        self._address = ctypes.c_void_p(opened)

    def run(self, shares: NDArray[Any], most: int) -> None:
        """Do shares, as ``Library.shares`` returns them, on this thread and at most ``most`` others.

        Any thread may call; the others are those that have nothing to do just then, and not on its core.
        """
        count, length = map(ctypes.c_int64, shares.shape)
        steps = ctypes.c_void_p(address(shares))
        self._library.pool_run(self._address, steps, length, count, ctypes.c_int64(most))

    def wake(self, most: int) -> None:
        """Have at most ``most`` threads awake for shares that will come in less than a millisecond."""
        self._library.pool_wake(self._address, ctypes.c_int64(most))

    def close(self) -> None:
        """End the threads."""
        self._library.pool_close(self._address)


@cache
def installed() -> Library:
    """Return the kernels that were built with the package, loaded once."""
    return Library()


def _path() -> str:
    spec = importlib.util.find_spec("gputiles._host")
    if spec is None or spec.origin is None:
        raise ImportError("the host kernels are not built; install gputiles with pip, which builds them")
    return spec.origin
