"""A CUDA card through CuPy: memory, launches, streams. All calls are made by one thread.

Kernels go to one stream, so that they run in the order in which they were asked for. Copies from and to
the host have streams of their own, see ``roads.py``.

Waiting alone is for any thread: ``call`` leads from there to the card's own.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import Executor
from contextlib import contextmanager
from typing import Any, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from gputiles.backends import modules
from gputiles.backends.modules import MOST_JOBS
from gputiles.errors import DeviceLost, OutOfMemory, Unsupported

OUT_OF_MEMORY = 2  # cudaErrorMemoryAllocation
NOT_THERE = {
    35: "there is no driver that knows CuPy's CUDA",
    100: "there is no card",
    101: "there is no such card",
}
COPIES = {"uploads": 1, "downloads": 2, "moves": 3}  # cudaMemcpyKind

R = TypeVar("R")


class Block(NamedTuple):
    """Device memory: where it lies, and its bytes."""

    address: int
    size: int


class Device:
    """One card, opened by and for the calling thread, which is that of ``executor`` if there is one.

    ``counts`` counts copies and launches; ``asked`` is how often something was put on the stream of
    kernels. ``give`` is called where the card is out of memory: it frees some, or says that it has none
    to free. Raises Unsupported where the card is not there.
    """

    kind = "device"

    def __init__(self, cupy: Any, number: int = 0, executor: Executor | None = None) -> None:
        self.counts: Counter[str] = Counter()
        self.asked = 0
        self.number = number
        self.cupy = cupy
        self._cuda = cupy.cuda
        self._executor = executor
        self._thread = threading.get_ident()
        self.give: Callable[[], bool] = lambda: False
        self._held: dict[int, Any] = {}  # CuPy's own objects, by address: freed by the device's thread
        try:
            self._open()
        except (RuntimeError, OSError, ImportError, cupy.cuda.compiler.CompileException) as error:
            why = NOT_THERE.get(getattr(error, "status", 0), str(error))
            raise Unsupported(f"device: cuda:{number} cannot be used: {why}") from error

    def _open(self) -> None:
        self._cuda.Device(self.number).use()
        self._stream = self._cuda.Stream(non_blocking=True)
        self._stream.use()
        self._functions = self._compiled()

    def _compiled(self) -> dict[str, Any]:
        """Compile all kernels now, not at the first request."""
        sources = {kernel.file for kernel in modules.kernels().values()}
        loaded = {
            name: self.cupy.RawModule(
                code=(modules.folder() / name).read_text(encoding="utf-8"), options=modules.options()
            )
            for name in sorted(sources)
        }
        return {
            kernel.name: loaded[kernel.file].get_function(kernel.name)
            for kernel in modules.kernels().values()
        }

    @contextmanager
    def _judged(self) -> Iterator[None]:
        """Turn CUDA's errors into ours: out of memory, or a device that is lost."""
        try:
            yield
        except (self._cuda.runtime.CUDARuntimeError, self._cuda.driver.CUDADriverError) as error:
            if error.status == OUT_OF_MEMORY:
                raise OutOfMemory(f"device {self.number}: {error}") from error
            raise DeviceLost(f"device {self.number}: {error}") from error

    def call(self, function: Callable[[], R]) -> R:
        """Call ``function`` on the card's thread, and wait for its result."""
        if self._executor is None or threading.get_ident() == self._thread:
            return function()
        return self._executor.submit(function).result()

    # -- memory

    @property
    def stream(self) -> int:
        """The address of the stream of kernels, for libraries that put work on it."""
        return int(self._stream.ptr)

    def memory(self) -> tuple[int, int]:
        """Return (free, all) bytes of the card."""
        with self._judged():
            free, total = self._cuda.runtime.memGetInfo()
        return int(free), int(total)

    def allocate(self, size: int) -> Block:
        """Return new device memory. Raises OutOfMemory where the card has none, and nobody gives any."""
        while True:
            try:
                with self._judged():
                    held = self._cuda.memory.Memory(size)
            except OutOfMemory:
                if not self.give():
                    raise
            else:
                self._held[int(held.ptr)] = held
                return Block(int(held.ptr), size)

    def free(self, block: Block) -> None:
        """Give memory back to the card."""
        del self._held[block.address]

    def close(self) -> None:
        """Give all memory back to the card."""
        self._held.clear()

    def pinned(self, size: int) -> NDArray[np.uint8]:
        """Return new host memory that the card reaches by itself."""
        with self._judged():
            held = self._cuda.alloc_pinned_memory(size)
        return np.frombuffer(held, np.uint8, size)

    # -- work on streams

    def new_stream(self) -> Any:
        """Return a stream of its own."""
        with self._judged():
            return self._cuda.Stream(non_blocking=True)

    def copy(self, what: str, to: int, address: int, size: int, stream: Any) -> None:
        """Copy between pinned memory and the card, or inside it; ``what``: see ``COPIES``."""
        self.counts[what] += 1
        with self._judged():
            self._cuda.runtime.memcpyAsync(to, address, size, COPIES[what], int(stream.ptr))

    def move(self, address: int, to: int, size: int) -> None:
        """Copy inside the card, on the stream of kernels."""
        self.asked += 1
        self.copy("moves", to, address, size, self._stream)

    def clear(self, address: int, size: int) -> None:
        """Fill with zeros, on the stream of kernels."""
        self.asked += 1
        with self._judged():
            self._cuda.runtime.memsetAsync(address, 0, size, self.stream)

    def launch(self, name: str, table: NDArray[Any], address: int) -> None:
        """Launch a kernel over the jobs of ``table``, which lies at ``address`` on the card.

        One launch, but for tables of more jobs than a grid has rows. Raises TypeError for a
        table of other jobs.
        """
        for at in range(0, len(table), MOST_JOBS):
            part = table[at : at + MOST_JOBS]
            grid, block = modules.kernels()[name].grid(part)
            self.counts[name] += 1
            self.asked += 1
            with self._judged():
                self._functions[name](grid, block, (np.uint64(address + at * table.itemsize),))

    def new_flag(self) -> Any:
        """Return an event for ``set_flag``."""
        with self._judged():
            return self._cuda.Event(block=True, disable_timing=True)

    def set_flag(self, flag: Any, stream: Any = None) -> None:
        """Set a flag behind all that was asked of a stream until now, None: that of kernels."""
        with self._judged():
            flag.record(self._stream if stream is None else stream)

    def follow(self, flag: Any, stream: Any) -> None:
        """Let a stream wait for what was asked of that of kernels until now; ``flag`` is used for it."""
        self.set_flag(flag)
        with self._judged():
            stream.wait_event(flag)

    def lead(self, flag: Any, stream: Any) -> None:
        """Let kernels wait for all that was asked of a stream until now; ``flag`` is used for it."""
        self.set_flag(flag, stream)
        with self._judged():
            self._stream.wait_event(flag)

    def wait_for(self, flag: Any) -> None:
        """Wait, on any thread and without holding the interpreter, until a flag is reached."""
        with self._judged():
            self._cuda.Device(self.number).use()
            flag.synchronize()

    def fence(self) -> None:
        """Wait, on any thread, until the card has done all that anybody in this process asked of it."""
        with self._judged():
            self._cuda.Device(self.number).use()
            self._cuda.runtime.deviceSynchronize()

    def mark(self, stream: Any = None) -> Any:
        """Return an event that marks now on a stream, None: that of kernels, for ``between``."""
        with self._judged():
            event = self._cuda.Event()
        self.set_flag(event, stream)
        return event

    def between(self, first: Any, second: Any) -> float:
        """Return the seconds between two events of ``mark``, which are past."""
        with self._judged():
            return float(self._cuda.get_elapsed_time(first, second)) / 1000

    def facts(self) -> dict[str, Any]:
        """Return what is known of card, driver and libraries."""
        with self._judged():
            runtime = self._cuda.runtime
            card = runtime.getDeviceProperties(self.number)
            return {
                "card": card["name"].decode(),
                "capability": f"{card['major']}.{card['minor']}",
                "processors": int(card["multiProcessorCount"]),
                "level2": int(card["l2CacheSize"]),
                "memory": int(card["totalGlobalMem"]),
                "driver": int(runtime.driverGetVersion()),
                "runtime": int(runtime.runtimeGetVersion()),
                "cupy": self.cupy.__version__,
            }
