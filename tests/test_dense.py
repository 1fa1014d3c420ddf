"""PNG rows of detailed pictures: the kernel writes what is specified, and zlib reads it back."""

from __future__ import annotations

import hashlib
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gputiles.backends import RenderJob, tables
from gputiles.backends.host import HostBackend
from gputiles.backends.paste import raster_of
from gputiles.encoded import Encoding, Format
from gputiles.keys import CODECS
from gputiles.recipe import Recipe
from tests import spec_dense

BACKEND = HostBackend(1)
DENSE = ("noise", "detail", "detail and runs", "many symbols, few of them often")
HALF_DENSE = ("detail after a run", "a run after detail")
SPARSE = ("few bits", "one value", "a pattern", "hardly any detail")


def rows_like(kind: str, count: int) -> bytes:
    """Return ``count`` bytes as filtered rows of some kind of picture have them."""
    rng = np.random.default_rng(count)
    noise = rng.integers(0, 256, count)
    detail = (rng.geometric(0.3, count) - 1) * rng.choice((1, -1), count)
    lengths = rng.integers(1, 300, count // 100 + 1)
    runs = np.where(np.resize(np.repeat(rng.random(len(lengths)) < 0.5, lengths), count), 7, detail)
    kinds = {
        "noise": noise,
        "detail": detail,
        "detail and runs": runs,
        "detail after a run": np.where(np.arange(count) < count * 0.8, 0, detail),
        "a run after detail": np.where(np.arange(count) > count * 0.2, 0, detail),
        "many symbols, few of them often": np.where(rng.random(count) < 0.02, noise, detail),
        "few bits": rng.random(count) < 0.1,
        "one value": np.full(count, 9),
        "a pattern": np.resize(noise[:45], count),
        "hardly any detail": np.where(np.arange(count) < count * 0.99, 0, noise),
    }
    return kinds[kind].astype(np.uint8).tobytes()


def block(data: bytes, *, last: bool, backend: HostBackend = BACKEND) -> bytes:
    filtered = np.frombuffer(data, np.uint8)
    out, (length, adler) = np.zeros(tables.png_capacity(len(data)), np.uint8), np.full((2, 1), -1)
    places = (plane.ctypes.data for plane in (filtered, out, length, adler))
    job = (*places, 1, len(data), last)
    backend._run("png_dense", np.array([job], tables.PNG_DENSE))
    assert adler[0] == zlib.adler32(data)
    return out[: length[0]].tobytes()


@pytest.mark.parametrize("count", [0, 1, 300, 40_000, 180_000, 200_003])
@pytest.mark.parametrize("kind", [*DENSE, *HALF_DENSE, *SPARSE])
def test_dense_rows_equal_the_specification_and_are_read_back(kind: str, count: int) -> None:
    data = rows_like(kind, max(count, 50))[:count]
    for last in (False, True):
        made = block(data, last=last)
        assert made == spec_dense.stream(data, last)
        inflated = zlib.decompressobj(-15)
        assert not made or (inflated.decompress(made), inflated.eof) == (data, last)
    if count != 40_000:
        assert bool(made) == (count > 300 and kind not in SPARSE)


@given(st.integers(40_000, 50_000), st.floats(0.05, 0.6), st.integers(1, 90), st.integers(0, 2**32))
@settings(max_examples=30, deadline=None)
def test_dense_rows_of_any_detail_and_runs_equal_the_specification(
    count: int, steepness: float, run: int, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    detail = rng.geometric(steepness, count)
    flat = np.repeat(rng.random(count // run + 1) < 0.3, run)[:count]
    data = np.where(flat, 3, detail).astype(np.uint8).tobytes()
    made = block(data, last=True)
    assert made == spec_dense.stream(data, last=True)
    assert not made or zlib.decompress(made, -15) == data


def test_entity_tags_tell_the_bytes_of_our_encoders_from_others() -> None:
    """Where other bytes are meant, CODECS has to be another text too: clients keep what has the same tag."""
    noise = np.random.default_rng(7).geometric(0.1, (300, 300, 3))
    raster = raster_of(np.minimum(noise, 255).astype(np.uint8))
    jobs = [
        RenderJob(Recipe((0,)), (raster,), 300, 300, Encoding(format)) for format in (Format.JPEG, Format.PNG)
    ]
    digests = [
        hashlib.sha256(file).hexdigest()[:16] for file in BACKEND.render(jobs) if isinstance(file, bytes)
    ]
    assert (CODECS, *digests) == ("jpeg1-dense1-isal2-webp1", "69443c915960afe3", "1bdbb5f6251a8245")
