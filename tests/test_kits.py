"""Kits: the encoders' job tables are made once for pictures of a kind, and serve one after the other."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from itertools import product
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from gputiles.backends import RenderJob
from gputiles.backends.addresses import address, addresses
from gputiles.backends.host import HostBackend
from gputiles.backends.kits import KEPT, Kits, most_threads
from gputiles.backends.paste import raster_of
from gputiles.encoded import Encoding, Format
from gputiles.recipe import Recipe

PNG = Encoding(Format.PNG)
KINDS = (PNG, Encoding(), Encoding(quality=40), Encoding(subsampling=2))


def job(side: int, encoding: Encoding, seed: int) -> RenderJob:
    """Return a job over detail, or over much that repeats, which the kernels leave to ISA-L."""
    rng = np.random.default_rng(seed)
    pixels = rng.integers(0, 256 if seed % 3 else 2, (side, side, 3)).astype(np.uint8)
    pixels[: side // 2] *= seed % 2
    return RenderJob(Recipe((0,)), (raster_of(pixels),), side, side, encoding)


def rendered(backend: HostBackend, given: RenderJob) -> bytes:
    (file,) = backend.render([given])
    assert isinstance(file, bytes)
    return file


@pytest.mark.parametrize("workers", [1, 2])
def test_files_are_the_same_whatever_was_made_before_in_the_same_memory(workers: int) -> None:
    backend = HostBackend(workers)
    jobs = [job(side, encoding, seed) for side, encoding, seed in product((512, 300), KINDS, range(6))]
    order = np.random.default_rng(1).permutation(len(jobs))
    files = {int(at): rendered(backend, jobs[at]) for at in order}
    for at, given in enumerate(jobs):
        fresh = HostBackend(1)
        assert rendered(fresh, given) == files[at]
        fresh.close()
    backend.close()


def test_pictures_of_a_kind_have_one_kit_in_a_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[tuple[Any, ...]] = []
    make = Kits._made
    monkeypatch.setattr(Kits, "_made", lambda self, *kind: (made.append(kind), make(self, *kind))[1])
    backend = HostBackend(1)
    for seed, encoding in product(range(3), KINDS[:2]):
        rendered(backend, job(512, encoding, seed))
    assert len(made) == 2
    with ThreadPoolExecutor(1) as other:
        other.submit(rendered, backend, job(512, PNG, 1)).result()
    assert len(made) == 3, "each thread has memory of its own"
    for quality in range(1, KEPT + 1):
        rendered(backend, job(512, Encoding(quality=quality), 1))
    rendered(backend, job(512, PNG, 1))
    assert len(made) == 3 + KEPT + 1, "only some are kept"
    backend.close()


@pytest.mark.parametrize(
    ("side", "encoding", "most"), [(512, PNG, 2), (256, PNG, 1), (512, Encoding(), 4), (64, Encoding(), 1)]
)
def test_a_picture_is_worth_as_many_threads_as_it_is_large(side: int, encoding: Encoding, most: int) -> None:
    assert most_threads((side, side, 3), encoding) == most


def planes() -> list[NDArray[Any]]:
    """Return arrays of many kinds: of one or no element, read-only, in steps, of structs."""
    some = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
    closed = some.copy()
    closed.flags.writeable = False
    structs = np.zeros(3, [("a", "u8"), ("b", "u1", 4)])
    return [
        some,
        some[1:],
        some[:, ::2],
        some.T,
        closed,
        some[:0],
        np.zeros((), np.int64),
        structs,
        structs[1:],
    ]


def test_addresses_are_where_numpy_says() -> None:
    for plane in planes():
        assert address(plane) == plane.ctypes.data
    assert address(None) == 0


def test_addresses_of_bytes_are_where_numpy_says_and_0_for_none() -> None:
    pieces = [b"some", bytes(1), bytes(9000), None]
    expected = [piece and np.frombuffer(piece, np.uint8).ctypes.data for piece in pieces]
    assert addresses(pieces) == [place or 0 for place in expected]
    assert addresses([]) == []
