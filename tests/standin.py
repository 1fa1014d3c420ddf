"""A CUDA card without the card: what the product uses of CuPy, in NumPy memory, with the real kernels.

The kernels are those of ``kernels/``, compiled as CUDA sees them (``cuda_shim.h``), with their
launch geometry. Work on a stream is done when somebody waits for it and not before, so that a
forgotten wait shows; what else is done by then is the stand-in's ``pace``. Every call from another
thread than the one that opened the card fails, but for waiting, and so does every use of memory that
is not allocated. What streams do to the same memory must be ordered by events or by somebody who waits,
and what is on its way to the card must not be changed (``tests/races.py``). Nothing here answers for the
product.
"""

from __future__ import annotations

import ctypes
import hashlib
import math
import os
import random
import subprocess
import tempfile
import threading
import time
import weakref
import zlib
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar, TypeAlias

import numpy as np
import pytest
from numpy.typing import NDArray

from gputiles.backends import crossover, load, modules, tables
from tests.races import Changed, Fault, Ledger, Moment

SHIM = Path(__file__).with_name("cuda_shim.h")
POISON = 0xDD
FIRST_STREAM = 7
Places: TypeAlias = Sequence[tuple[int, int]]  # (address, bytes)
ILLEGAL_ADDRESS, OUT_OF_MEMORY, NO_SUCH_CARD = 700, 2, 101


class WrongThread(AssertionError):
    """The card was touched by a thread that did not open it."""


class CUDARuntimeError(RuntimeError):
    """An error of the runtime, with CUDA's number."""

    def __init__(self, status: int, why: str = "") -> None:
        super().__init__(f"cudaError {status} {why}")
        self.status = status


class CUDADriverError(RuntimeError):
    """An error of the driver."""

    status = 0


@lru_cache(maxsize=4)
def compiled(folder: Path | None = None, only: str = "") -> ctypes.CDLL:
    """Return the kernels of ``folder`` (the product's), compiled for the processor as CUDA sees them.

    With ``only`` those of one file.
    """
    folder = folder or modules.folder()
    kernels = [kernel for kernel in modules.kernels().values() if not only or kernel.file == only]
    files = sorted({kernel.file for kernel in kernels})
    structs = {id(job): name for name, job in modules.JOBS.items()}
    source = "".join(f'#include "{name}"\n' for name in [SHIM, *(folder / file for file in files)])
    source += "".join(f"SHIM_EXPORT({kernel.name}, {structs[id(kernel.job)]})\n" for kernel in kernels)
    text = source + SHIM.read_text() + "".join(path.read_text() for path in sorted(folder.glob("*.[ch]*")))
    key = hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()
    target = Path(tempfile.gettempdir()) / f"gputiles-standin-{os.getuid()}-{key}.so"
    if not target.exists():
        unfinished = target.with_suffix(f".{os.getpid()}")
        options = ["-std=c++17", "-O2", "-fPIC", "-shared", "-ffp-contract=off", "-U_FORTIFY_SOURCE"]
        subprocess.run(
            ["g++", *options, "-x", "c++", "-", "-o", str(unfinished)], input=source.encode(), check=True
        )
        unfinished.replace(target)
    return ctypes.CDLL(str(target))


class CompileException(Exception):
    """A kernel does not compile."""


class Function:
    """A kernel of a RawModule."""

    def __init__(self, card: StandIn, kernel: modules.Kernel) -> None:
        self._card = card
        self._kernel = kernel
        self._run = getattr(card.library, f"run_{kernel.name}")

    def __call__(self, grid: tuple[int, ...], block: tuple[int, ...], args: tuple[Any, ...]) -> None:
        self._card.check()
        (across, down), (threads,), (address,) = grid, block, args
        assert isinstance(address, np.uint64), "a pointer is 8 bytes, without a sign"
        assert down <= 65_535
        assert threads <= 1024
        self._card.queue(lambda: self._launch(int(address), across, down, threads), self._card.used_stream)

    def _launch(self, address: int, across: int, down: int, threads: int) -> None:
        self._card.done.append(self._kernel.name)
        size = down * self._kernel.job.itemsize
        table = self._card.memory(address, size).view(self._kernel.job)
        self._card.touch(address, size, f"the jobs of {self._kernel.name}")
        self._card.check_sources(table)
        arguments = (
            ctypes.c_void_p(address),
            across,
            down,
            threads,
            int(self._kernel.kind != "PIXEL"),  # whose threads wait for each other
            self._card.order,
        )
        assert self._run(*arguments) == 0, "threads ended, or waited elsewhere, while others waited"


class StandIn:
    """What the product uses of the module ``cupy``, over a card with ``total`` bytes of memory.

    ``order`` -1 resumes the threads of a block from the last to the first, 2 and more in orders
    shuffled anew after every barrier. ``fail`` is raised by the next calls that do work. ``waiting`` is
    called by everybody who is about to wait. ``pace`` says how far the streams are when somebody waits
    for one: ``lazy``, only as far as they must be; ``ahead``, the others as far as they can; or a number,
    the seed of a random interleaving.
    """

    __version__ = "stand-in"

    def __init__(
        self, total: int = 1 << 27, order: int = 1, cards: int = 1, pace: str | int = "lazy"
    ) -> None:
        self.pace = pace
        self.waiting: Callable[[], None] = lambda: None
        self.done: deque[str] = deque(maxlen=1000)  # the last work on all streams: kernels, "up", "down"
        self._chance = random.Random(pace)
        self._lock = threading.RLock()  # who waits does the work, on whatever thread
        self._users: set[int] = set()  # threads that have chosen the card
        self._streams: list[Stream] = []
        self.ledger = Ledger()
        self._now: Moment | None = None
        self.used_stream = FIRST_STREAM  # for kernels
        self.total = total
        self.order = order
        self.library = compiled()
        self.fail: CUDARuntimeError | None = None
        self.broken = False  # whether kernels do not compile
        self._cards = cards
        self.chosen: set[int] = set()  # the numbers of cards that threads have chosen
        self._owner: int | None = None
        self._blocks: dict[int, NDArray[np.uint8]] = {}
        self._pinned: list[weakref.ref[NDArray[np.uint8]]] = []
        self.cuda = SimpleNamespace(
            Device=lambda number: SimpleNamespace(use=lambda: self._open(number)),
            Stream=lambda non_blocking: self._new_stream(),
            Event=lambda block=False, disable_timing=False: Event(self),
            memory=SimpleNamespace(Memory=lambda size: Allocation(self, size)),
            alloc_pinned_memory=self._pin,
            get_elapsed_time=lambda first, second: (second.at - first.at) * 1000,
            is_available=lambda: cards > 0,
            compiler=SimpleNamespace(CompileException=CompileException),
            driver=SimpleNamespace(CUDADriverError=CUDADriverError),
            runtime=SimpleNamespace(
                CUDARuntimeError=CUDARuntimeError,
                memcpyAsync=self._copy,
                memsetAsync=self._set,
                memGetInfo=self._info,
                getDeviceProperties=self._properties,
                deviceSynchronize=self._synchronize,
                driverGetVersion=lambda: 13000,
                runtimeGetVersion=lambda: 13000,
            ),
        )

    def RawModule(self, *, code: str, options: tuple[str, ...]) -> Any:
        self.check()
        assert "--fmad=false" in options
        if self.broken:
            raise CompileException("a.cu(1): error: expected a declaration")
        return SimpleNamespace(get_function=lambda name: self._function(code, name))

    def _function(self, code: str, name: str) -> Function:
        assert f"_KERNEL({name}, " in code
        return Function(self, modules.kernels()[name])

    # -- threads and errors

    def _open(self, number: int) -> None:
        if number >= self._cards:
            raise CUDARuntimeError(NO_SUCH_CARD)
        self.chosen.add(number)
        self._users.add(threading.get_ident())

    def _new_stream(self) -> Stream:
        """Return a new stream; the thread that makes one while no memory is in use opens the card."""
        if not self.used and self._owner != threading.get_ident():
            self._owner, self._streams, self.ledger = threading.get_ident(), [], Ledger()
        self.check()
        self._streams.append(Stream(self, FIRST_STREAM + len(self._streams)))
        return self._streams[-1]

    def check(self, *_: object) -> None:
        """Fail on another thread than the one that opened the card, or as ``fail`` says."""
        if threading.get_ident() != self._owner:
            raise WrongThread(f"{threading.current_thread().name} is not the card's thread")
        if self.fail is not None:
            raise self.fail

    # -- memory

    @property
    def used(self) -> int:
        """Bytes that are allocated."""
        return sum(len(block) for block in self._blocks.values())

    def allocate(self, size: int) -> int:
        self.check()
        if self.used + size > self.total:
            raise CUDARuntimeError(OUT_OF_MEMORY, "cudaErrorMemoryAllocation")
        room = np.full(size + 256, POISON, np.uint8)
        at = -room.ctypes.data % 256
        block = room[at : at + size]
        with self._lock:
            self._blocks[block.ctypes.data] = block
        return block.ctypes.data

    def free(self, address: int) -> None:
        if threading.get_ident() != self._owner:
            raise WrongThread("memory was freed by another thread")
        with self._lock:
            self._blocks.pop(address)[:] = POISON

    def memory(self, address: int, size: int) -> NDArray[np.uint8]:
        """Return allocated memory of the card."""
        for begin, block in self._blocks.items():
            if begin <= address and address + size <= begin + len(block):
                return block[address - begin : address - begin + size]
        raise CUDARuntimeError(ILLEGAL_ADDRESS, f"{size} bytes at {address:#x}")

    def _pin(self, size: int) -> NDArray[np.uint8]:
        self.check()
        block = np.full(size, POISON, np.uint8)
        self._pinned = [known for known in self._pinned if known() is not None]
        self._pinned.append(weakref.ref(block))
        return block

    @property
    def pinned(self) -> int:
        """Bytes of host memory that are pinned."""
        return sum(len(block) for known in self._pinned if (block := known()) is not None)

    def _host(self, address: int, size: int) -> NDArray[np.uint8]:
        for known in self._pinned:
            block = known()
            begin = 0 if block is None else block.ctypes.data
            if block is not None and begin <= address and address + size <= begin + len(block):
                return block[address - begin : address - begin + size]
        raise AssertionError("copies are made from and to pinned memory only")

    def _info(self) -> tuple[int, int]:
        self.check()
        return self.total - self.used, self.total

    def _properties(self, number: int) -> dict[str, Any]:
        self.check()
        counts = {"multiProcessorCount": 2, "l2CacheSize": 1 << 20, "totalGlobalMem": self.total}
        return {"name": b"stand-in", "major": 9, "minor": 0, **counts}

    # -- the streams

    def queue(self, work: Callable[[], None], stream: int, reads: Places = (), writes: Places = ()) -> None:
        """Put work on a stream; it reads and writes places (address, bytes)."""
        self.check()
        captured = self._streams[stream - FIRST_STREAM].captured
        if captured is not None:
            captured.append((work, reads, writes))
            return
        with self._lock, self._faults():
            moment = self._streams[stream - FIRST_STREAM].add(work)
            for places, writing in ((reads, False), (writes, True)):
                for place in places:
                    self.ledger.touch(moment, place, "a copy", writes=writing)

    def step(self, moment: Moment, work: Callable[[], None]) -> None:
        """Do a piece of work."""
        self._now = moment
        with self._faults():
            work()

    @contextmanager
    def _faults(self) -> Iterator[None]:
        """After a fault nothing of what was asked for is done any more."""
        try:
            yield
        except Fault:
            for stream in self._streams:
                stream.work.clear()
            raise

    def finish(self, mark: Mark) -> None:
        """Do the work on the streams until a mark is reached, and what ``pace`` says beside."""
        with self._lock:
            if self.pace == "ahead":
                for stream in self._streams:
                    if stream is not mark.stream:
                        stream.run(None)
            elif self.pace != "lazy":
                while not mark.done and mark.stream.work:
                    able = [stream for stream in self._streams if stream.able]
                    self._chance.choice(able).step()
            mark.stream.run(mark)
            assert mark.moment is not None
            self._known([mark.moment])

    def _synchronize(self) -> None:
        """Do all the work on the streams, on any thread that has chosen the card."""
        assert threading.get_ident() in self._users, "the thread has chosen no card"
        if self.fail is not None:
            raise self.fail
        self.waiting()
        with self._lock:
            for stream in self._streams:
                stream.run(None)
            self._known([stream.last for stream in self._streams if stream.last is not None])

    def _known(self, moments: list[Moment]) -> None:
        """Note that somebody waited for moments."""
        self.ledger.know(moments, [moment for stream in self._streams for moment, _ in stream.work])

    def _copy(self, to: int, address: int, size: int, kind: int, stream: int) -> None:
        ends = {1: (self.memory, self._host), 2: (self._host, self.memory), 3: (self.memory, self.memory)}[
            kind
        ]

        then = ends[1](address, size).copy() if kind == 1 else None

        def copy() -> None:
            self.done.append({1: "up", 2: "down", 3: "move"}[kind])
            source, target = ends[1](address, size), ends[0](to, size)
            if then is not None and not np.array_equal(source, then):
                raise Changed(f"{size} bytes that go to {to:#x} on the card were changed on their way")
            target[:] = source

        self.queue(copy, stream, [(address, size)], [(to, size)])

    def _set(self, address: int, value: int, size: int, stream: int) -> None:
        self.queue(lambda: self.memory(address, size).fill(value), stream, [], [(address, size)])

    def touch(self, address: int, size: int, what: str, *, writes: bool = False) -> None:
        """Note what the kernel uses that is being run."""
        assert self._now is not None
        self.ledger.touch(self._now, (address, size), what, writes=writes)

    def check_sources(self, table: NDArray[Any]) -> None:
        """Fail where the rasters that a table names do not lie in allocated memory."""
        names = table.dtype.names or ()
        if "bands" in names:
            for job in table:
                bands = self.memory(int(job["bands"]), int(job["band_count"]) * tables.BAND.itemsize)
                self.check_sources(bands.view(tables.BAND))
        for name in ("source", "child"):
            for source in table[name].reshape(-1) if name in names else ():
                self._check_source(source)
        if "from_pitch" in names:
            for job in table:
                self._check_windows(job)

    def _check_windows(self, job: Any) -> None:
        """Fail where what is copied, or unpacked, does not lie in allocated memory."""
        if "left" in (job.dtype.names or ()):
            rows, width = (
                int(job["runs"]),
                ((job["columns"] - 1) * job["stride"] + job["samples"]) * job["size"],
            )
            begin, read = int(job["from"]), int(job["from_pitch"])
        else:
            rows, width = int(job["runs"]) // -(-int(job["width"]) // modules.PIECE), job["width"]
            begin, read = int(job["from"]), int(job["width"])
        for at, pitch, used, writes in (
            (begin, int(job["from_pitch"]), read, False),
            (int(job["to"]), int(job["to_pitch"]), int(width), True),
        ):  # fmt: skip
            if at:
                size = (rows - 1) * pitch + used
                self.memory(at, size)
                self.touch(at, size, "a kernel's window", writes=writes)

    def _check_source(self, source: Any) -> None:
        pixels = int(source["rows"]) * int(source["columns"])
        itemsize = next(dtype.itemsize for dtype, code in tables.TYPES.items() if code == source["type"])
        for plane, size in (("pixels", pixels * int(source["samples"]) * itemsize), ("valid", pixels)):
            if source[plane]:
                self.memory(int(source[plane]), size)
                self.touch(int(source[plane]), size, f"a kernel's {plane}")


class Allocation:
    """Device memory; freed when it is dropped."""

    def __init__(self, card: StandIn, size: int) -> None:
        self.ptr = card.allocate(size)
        self._card = card

    def __del__(self) -> None:
        if hasattr(self, "ptr"):
            self._card.free(self.ptr)


class Mark:
    """One record of an event on a stream."""

    def __init__(self, stream: Stream) -> None:
        self.stream = stream
        self.done = False
        self.at = 0.0
        self.moment: Moment | None = None

    def __call__(self) -> None:
        self.done, self.at = True, time.perf_counter()


class Stream:
    """Work in its order: calls, and marks of other streams that must be reached before."""

    def __init__(self, card: StandIn, ptr: int) -> None:
        self.card = card
        self.ptr = ptr
        self.work: deque[tuple[Moment, Callable[[], None]]] = deque()
        self.last: Moment | None = None
        self.captured: list[tuple[Callable[[], None], Places, Places]] | None = None

    def use(self) -> None:
        """Take kernels from now on."""
        self.card.check()
        self.card.used_stream = self.ptr

    def begin_capture(self) -> None:
        """Note what is asked for from now on, instead of doing it."""
        self.captured = []

    def end_capture(self) -> Graph:
        """Return what was asked for."""
        assert self.captured is not None, "no capture was begun"
        captured, self.captured = self.captured, None
        return Graph(self.card, captured)

    def add(self, work: Callable[[], None]) -> Moment:
        """Put work behind all that is there."""
        after = [work.mark.moment] if isinstance(work, Barrier) else []
        self.last = self.card.ledger.moment(self.ptr, self.last, after)
        if isinstance(work, Mark):
            work.moment = self.last
        self.work.append((self.last, work))
        return self.last

    def wait_event(self, event: Event) -> None:
        assert event.mark is not None, "nothing has been recorded"
        self.card.queue(Barrier(event.mark), self.ptr)

    @property
    def able(self) -> bool:
        """Whether there is work that need not wait for another stream."""
        return bool(self.work) and not (
            isinstance(self.work[0][1], Barrier) and not self.work[0][1].mark.done
        )

    def step(self) -> None:
        """Do the next piece of work."""
        self.card.step(*self.work.popleft())

    def run(self, until: Mark | None) -> None:
        """Do the work in its order: all, or until a mark is reached."""
        while self.work and not (until is not None and until.done):
            self.step()


class Graph:
    """Work that was captured, to be put on a stream as often as one likes."""

    def __init__(self, card: StandIn, captured: list[tuple[Callable[[], None], Places, Places]]) -> None:
        self._card = card
        self._captured = captured

    def launch(self, stream: Stream) -> None:
        for work, reads, writes in self._captured:
            self._card.queue(work, stream.ptr, reads, writes)


class Barrier:
    """Waits on one stream for a mark on another."""

    def __init__(self, mark: Mark) -> None:
        self.mark = mark

    def __call__(self) -> None:
        self.mark.stream.run(self.mark)


class Event:
    """A mark on a stream, once it is recorded: the last time counts."""

    def __init__(self, card: StandIn) -> None:
        card.check()
        self._card = card
        self.mark: Mark | None = None

    @property
    def at(self) -> float:
        assert self.mark is not None
        return self.mark.at

    def record(self, stream: Stream) -> None:
        self.mark = Mark(stream)
        self._card.queue(self.mark, stream.ptr)

    def synchronize(self) -> None:
        """Wait, on any thread that has chosen the card."""
        assert threading.get_ident() in self._card._users, "the thread has chosen no card"
        if self._card.fail is not None:
            raise self._card.fail
        assert self.mark is not None, "nothing has been recorded"
        self._card.waiting()
        self._card.finish(self.mark)


def codecs() -> Any:
    """Return nvImageCodec as the product uses it, on the processor: the stand-in's memory is the host's.

    Decodes and encodes at once. Skips the test where the library is not installed.
    """
    library = pytest.importorskip("nvidia.nvimgcodec")
    host = [library.Backend(library.BackendKind.CPU_ONLY)]
    owner = threading.get_ident

    class Decoder:
        calls: ClassVar[list[int]] = []

        def __init__(self, **_: Any) -> None:
            self._owner = owner()
            device = library.NVIMGCODEC_DEVICE_CPU_ONLY
            self._decoder = library.Decoder(device_id=device, max_num_cpu_threads=1, backends=host)

        def decode(self, streams: list[Any], images: list[Any], params: Any, cuda_stream: int) -> Any:
            assert cuda_stream == FIRST_STREAM, "work goes to the backend's own stream"
            if owner() != self._owner:
                raise WrongThread("a decoder is its thread's alone")
            self.calls.append(len(streams))
            return self._decoder.decode(streams, images=images, params=params)

    class Encoder:
        calls: ClassVar[list[int]] = []

        def __init__(self, **_: Any) -> None:
            self._owner = owner()
            device = library.NVIMGCODEC_DEVICE_CPU_ONLY
            self._encoder = library.Encoder(device_id=device, max_num_cpu_threads=1, backends=host)

        def encode(self, images: list[Any], codec: str, *, cuda_stream: int, **options: Any) -> Any:
            assert cuda_stream == FIRST_STREAM, "work goes to the backend's own stream"
            if owner() != self._owner:
                raise WrongThread("an encoder is its thread's alone")
            self.calls.append(len(images))
            return self._encoder.encode(images, codec, **options)

    def code_stream(source: bytes | int, **_: Any) -> Any:
        """Return a stream to read, or one to write into, which is not pinned where there is no card."""
        return (
            library.CodeStream(source, pin_memory=False)
            if isinstance(source, int)
            else library.CodeStream(source)
        )

    def as_image(place: Any, cuda_stream: int) -> Any:
        return library.as_image(_seen(place))

    names = (
        "Backend", "BackendKind", "ChromaSubsampling", "ColorSpec", "DecodeParams", "EncodeParams",
        "QualityType", "Region",
    )  # fmt: skip
    return SimpleNamespace(
        Decoder=Decoder,
        Encoder=Encoder,
        CodeStream=code_stream,
        as_image=as_image,
        **{name: getattr(library, name) for name in names},
    )


def nvcomp() -> Any:
    """Return nvCOMP as the benchmark uses it, by zlib. Works at once, as ``codecs`` does."""

    class Codec:
        def __init__(self, *, algorithm: str, bitstream_kind: str, device_id: int, cuda_stream: int) -> None:
            assert (algorithm, bitstream_kind, device_id, cuda_stream) == ("Deflate", "raw", 0, FIRST_STREAM)

        def decode(self, sources: list[Any], data_type: str, out: list[Any]) -> list[Any]:
            assert data_type == "|u1"
            for source, to in zip(sources, out, strict=True):
                data = zlib.decompress(source.tobytes(), wbits=-zlib.MAX_WBITS)
                to[: len(data)] = np.frombuffer(data, np.uint8)
            return out

    return SimpleNamespace(
        Codec=Codec,
        BitstreamKind=SimpleNamespace(RAW="raw"),
        as_arrays=lambda places, cuda_stream: [_seen(place) for place in places],
    )


def _seen(place: Any) -> NDArray[Any]:
    """Return memory of the card as an array."""
    face = place.__cuda_array_interface__
    dtype = np.dtype(face["typestr"])
    raw = (ctypes.c_uint8 * (math.prod(face["shape"]) * dtype.itemsize)).from_address(face["data"][0])
    return np.frombuffer(raw, dtype).reshape(face["shape"])


def plugged_in(monkeypatch: pytest.MonkeyPatch, card: StandIn) -> StandIn:
    """Let the product find a card, without nvImageCodec; it encodes all files, however fast it is."""
    monkeypatch.setattr(load, "find_cupy", lambda: card)
    monkeypatch.setattr(crossover, "settle", lambda _: None)
    monkeypatch.setattr(load, "find_codecs", lambda: None)
    return card
