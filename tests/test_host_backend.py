"""The host backend's verbs: outcomes per job, tiles cut out of chunks, files that others read."""

from __future__ import annotations

import threading
import zlib
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from io import BytesIO
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, JpegImagePlugin

from gputiles.backends import Chunk, DecodeJob, DownsampleJob, MeasureJob, Raster, RenderJob
from gputiles.backends.host import HostBackend
from gputiles.backends.hostlib import Call, Library
from gputiles.backends.paste import raster_of
from gputiles.encoded import Encoding, Format, Turn
from gputiles.errors import BadStyle, Damaged, GputilesError, LimitExceeded, Unsupported
from gputiles.geometry import Rect
from gputiles.image import Reduction
from gputiles.recipe import BandRecipe, Recipe
from tests import spec

BACKEND = HostBackend(2)
U16 = np.dtype(np.uint16)


@dataclass
class Stored:
    """A codec of pixels that are stored as they are; counts what it decodes."""

    samples: int = 1
    compression: int = 1
    decoded: list[int] = field(default_factory=list)

    def decode(self, data: bytes, width: int, height: int) -> NDArray[Any]:
        self.decoded.append(len(data))
        return np.frombuffer(data, U16).reshape(height, width, self.samples).copy()


@dataclass
class Failing:
    """A codec that raises."""

    error: Exception
    compression: int = 1

    def decode(self, data: bytes, width: int, height: int) -> NDArray[Any]:
        raise self.error


def level(rows: int, columns: int, samples: int = 1) -> NDArray[np.uint16]:
    count = rows * columns * samples
    return np.arange(count, dtype=np.uint16).reshape(rows, columns, samples)


def chunk(codec: Any, pixels: NDArray[np.uint16], place: Rect, sample: int = 0) -> Chunk:
    part = np.zeros((place.height, place.width, codec.samples), np.uint16)
    inside = pixels[place.y : place.bottom, place.x : place.right, sample : sample + codec.samples]
    part[: inside.shape[0], : inside.shape[1]] = inside
    return Chunk(codec, part.tobytes(), place, sample)


def decode(job: DecodeJob) -> tuple[Raster | GputilesError, ...]:
    (tiles,) = BACKEND.decode([job])
    assert isinstance(tiles, tuple)
    return tiles


def raster(outcome: Any) -> Raster:
    assert isinstance(outcome, Raster), outcome
    return outcome


def test_a_chunk_is_decoded_once_for_all_the_tiles_that_it_covers() -> None:
    pixels, codec = level(8, 100), Stored()
    tiles = tuple(Rect(x, y, min(30, 100 - x), 4) for y in (0, 4) for x in (0, 30, 60, 90))
    made = decode(DecodeJob((chunk(codec, pixels, Rect(0, 0, 100, 8)),), tiles, (100, 8), 1, U16))
    assert len(codec.decoded) == 1
    for rect, tile in zip(tiles, made, strict=True):
        expected = pixels[rect.y : rect.bottom, rect.x : rect.right]
        assert np.array_equal(raster(tile).pixels, expected)
        assert raster(tile).weight == expected.nbytes


def test_a_tile_is_put_together_from_the_chunks_under_it() -> None:
    pixels, codec = level(9, 9), Stored()
    chunks = tuple(chunk(codec, pixels, Rect(x, y, 4, 4)) for y in (0, 4, 8) for x in (0, 4, 8))
    (tile,) = decode(DecodeJob(chunks, (Rect(1, 2, 8, 7),), (9, 9), 1, U16))
    assert np.array_equal(raster(tile).pixels, pixels[2:, 1:])
    assert raster(tile).valid is None


def test_a_chunk_that_is_a_tile_becomes_the_raster_without_a_copy() -> None:
    kept: list[NDArray[Any]] = []

    class Keeping(Stored):
        def decode(self, data: bytes, width: int, height: int) -> NDArray[Any]:
            kept.append(super().decode(data, width, height))
            return kept[-1]

    place = Rect(0, 0, 8, 8)
    (tile,) = decode(DecodeJob((chunk(Keeping(), level(8, 8), place),), (place,), (8, 8), 1, U16))
    assert raster(tile).pixels.ctypes.data == kept[0].ctypes.data
    assert not raster(tile).pixels.flags.writeable


def test_an_edge_tile_does_not_keep_the_padding_of_its_chunk() -> None:
    place, rect = Rect(0, 0, 64, 64), Rect(0, 0, 3, 5)
    (tile,) = decode(DecodeJob((chunk(Stored(), level(5, 3), place),), (rect,), (3, 5), 1, U16))
    assert raster(tile).shape == (5, 3, 1)
    base = raster(tile).pixels.base
    assert base is None or base.nbytes == 30


def test_planar_chunks_fill_their_sample() -> None:
    pixels, place = level(4, 4, 3), Rect(0, 0, 4, 4)
    chunks = tuple(chunk(Stored(), pixels, place, sample) for sample in range(3))
    (tile,) = decode(DecodeJob(chunks, (place,), (4, 4), 3, U16))
    assert np.array_equal(raster(tile).pixels, pixels)


def test_sparse_chunks_leave_fill_that_is_not_valid() -> None:
    pixels, codec = level(4, 8), Stored()
    chunks = (chunk(codec, pixels, Rect(0, 0, 4, 4)), Chunk(codec, None, Rect(4, 0, 4, 4)))
    whole, left = decode(DecodeJob(chunks, (Rect(0, 0, 8, 4), Rect(0, 0, 4, 4)), (8, 4), 1, U16, fill=7))
    assert np.array_equal(raster(whole).pixels[:, :4], pixels[:, :4])
    assert (raster(whole).pixels[:, 4:] == 7).all()
    assert raster(whole).valid.tolist() == [[1, 1, 1, 1, 0, 0, 0, 0]] * 4
    assert raster(whole).weight == 8 * 4 * 3
    assert raster(left).valid is None


def test_beyond_the_level_its_last_row_and_column_are_repeated() -> None:
    pixels, rect = level(3, 3), Rect(0, 0, 4, 4)
    (tile,) = decode(DecodeJob((chunk(Stored(), pixels, Rect(0, 0, 8, 8)),), (rect,), (3, 3), 1, U16))
    assert np.array_equal(raster(tile).pixels, np.pad(pixels, ((0, 1), (0, 1), (0, 0)), mode="edge"))


def test_chunks_that_are_the_tiles_make_what_any_others_do() -> None:
    pixels, codec = level(8, 11), Stored()
    places = tuple(
        Rect(x, y, 4, 4) for y in (0, 4) for x in (0, 4, 8)
    )  # the last ones go on behind the level
    chunks = [chunk(codec, pixels, place) for place in places]
    chunks[1], chunks[2] = Chunk(codec, None, places[1]), Chunk(codec, Damaged("not there"), places[2])
    in_place = decode(DecodeJob(tuple(chunks), places, (11, 8), 1, U16, fill=7))
    cut = decode(DecodeJob(tuple(chunks), places[::-1], (11, 8), 1, U16, fill=7))[::-1]
    assert in_place[2] is cut[2] is chunks[2].data
    assert [raster(tile).valid is None for tile in (*in_place[:2], *in_place[3:])] == [
        True,
        False,
        *3 * [True],
    ]
    for tile, other, place in zip(in_place, cut, places, strict=True):
        if place != places[2]:
            expected = (
                np.full((4, 4, 1), 7)
                if place == places[1]
                else pixels[place.y : place.bottom, place.x : place.right]
            )
            expected = np.pad(expected, ((0, 0), (0, 4 - expected.shape[1]), (0, 0)), mode="edge")
            assert np.array_equal(raster(tile).pixels, expected)
            assert np.array_equal(raster(other).pixels, expected)
            assert np.array_equal(raster(tile).valid, raster(other).valid)


ERRORS = [Unsupported("no"), RuntimeError("bad code"), zlib.error("bad block"), IndexError("table")]


@pytest.mark.parametrize("error", ERRORS, ids=repr)
def test_a_broken_chunk_fails_the_tiles_over_it_and_no_others(error: Exception) -> None:
    pixels = level(4, 8)
    good, bad = Rect(0, 0, 4, 4), Rect(4, 0, 4, 4)
    chunks = (chunk(Stored(), pixels, good), Chunk(Failing(error), b"?", bad))
    job = DecodeJob(chunks, (good, bad, Rect(2, 0, 4, 4)), (8, 4), 1, U16)
    first, second, both = decode(job)
    assert np.array_equal(raster(first).pixels, pixels[:, :4])
    assert type(second) is type(both) is (Unsupported if isinstance(error, Unsupported) else Damaged)


def test_a_chunk_that_could_not_be_read_fails_its_tiles_with_that_error() -> None:
    error, place = Damaged("the file ends early"), Rect(0, 0, 4, 4)
    (tile,) = decode(DecodeJob((Chunk(Stored(), error, place),), (place,), (4, 4), 1, U16))
    assert tile is error


# -- rendering


def grey_job(raster: Raster, encoding: Encoding = Encoding(Format.PNG), sample: int = 0) -> RenderJob:  # noqa: B008
    stops = np.array([[0, 0, 0, 255], [255, 255, 255, 255]], np.float32)
    recipe = Recipe((0,), (BandRecipe(0, sample, 0, 1000, stops),), samples=1)
    return RenderJob(recipe, (raster,), raster.shape[1], raster.shape[0], encoding)


def colour_job(encoding: Encoding) -> RenderJob:
    rng = np.random.default_rng(3)
    pixels = raster_of(rng.integers(0, 256, (64, 48, 3)).astype(np.uint8))
    return RenderJob(Recipe((0,)), (pixels,), 48, 64, encoding)


def test_the_error_of_one_job_is_its_own() -> None:
    fine = grey_job(raster_of(level(4, 4)))
    outcomes = BACKEND.render([fine, grey_job(raster_of(level(4, 4)), sample=1), fine])
    assert outcomes[0] == outcomes[2]
    assert isinstance(outcomes[0], bytes)
    assert isinstance(outcomes[1], BadStyle)


@pytest.mark.parametrize(("subsampling", "factors"), [(0, (1, 1)), (1, (2, 1)), (2, (2, 2))])
def test_a_jpeg_is_a_baseline_jfif_of_the_quality_and_subsampling_asked_for(
    subsampling: int, factors: tuple[int, int]
) -> None:
    sizes = []
    for quality in (30, 95):
        (data,) = BACKEND.render([colour_job(Encoding(Format.JPEG, quality, subsampling))])
        assert isinstance(data, bytes)
        assert data[:11] == b"\xff\xd8\xff\xe0\x00\x10JFIF\x00"
        opened = Image.open(BytesIO(data))
        assert isinstance(opened, JpegImagePlugin.JpegImageFile)
        assert (opened.size, opened.mode, opened.layer[0][1:3]) == ((48, 64), "RGB", factors)
        reference = Image.new("RGB", (8, 8))
        reference.save(written := BytesIO(), "JPEG", quality=quality)
        assert opened.quantization == Image.open(written).quantization  # type: ignore[attr-defined]
        sizes.append(len(data))
    assert sizes[0] < sizes[1]


def test_a_jpeg_of_one_sample_is_grey() -> None:
    (data,) = BACKEND.render([grey_job(raster_of(level(20, 30)), Encoding())])
    assert isinstance(data, bytes)
    opened = Image.open(BytesIO(data))
    assert (opened.mode, opened.size) == ("L", (30, 20))
    expected = level(20, 30)[..., 0].clip(0, 1000) * 0.255
    assert np.abs(np.asarray(opened) - expected).max() < 4  # lossy


def test_a_jpeg_longer_than_the_format_allows_is_refused() -> None:
    (outcome,) = BACKEND.render([grey_job(raster_of(np.zeros((1, 65501, 1), np.uint8)), Encoding())])
    assert isinstance(outcome, LimitExceeded)


@pytest.mark.parametrize("samples", [1, 2, 3, 4])
def test_a_webp_keeps_colours_and_alpha_and_is_as_good_as_its_quality(samples: int) -> None:
    rows, columns = np.mgrid[:60, :80]
    layers = {1: [rows * 4], 2: [rows * 4, 255 - columns], 3: [rows * 4, columns * 3, 255 - rows * 2]}
    smooth = np.stack(layers.get(samples, [*layers[3], 255 - columns]), axis=-1).astype(np.uint8)
    stored, mode = raster_of(np.ascontiguousarray(smooth)), "RGBA" if samples in (2, 4) else "RGB"
    shown = np.asarray(Image.open(BytesIO(_unstyled(stored, Encoding(Format.PNG)))).convert(mode)).astype(int)
    sizes = []
    for quality in (20, 95):
        data = _unstyled(stored, Encoding(Format.WEBP, quality))
        opened = Image.open(BytesIO(data))
        assert (opened.format, opened.size, opened.mode) == ("WEBP", (80, 60), mode)
        sizes.append(len(data))
    assert sizes[0] < sizes[1]
    assert np.abs(np.asarray(opened) - shown)[..., :3].mean() < 4, "colours are lossy"
    assert np.array_equal(np.asarray(opened)[..., 3:], shown[..., 3:]), "alpha is not"


def _unstyled(stored: Raster, encoding: Encoding) -> bytes:
    height, width, _ = stored.shape
    (data,) = BACKEND.render([RenderJob(Recipe((0,)), (stored,), width, height, encoding)])
    assert isinstance(data, bytes)
    return data


def test_a_webp_larger_than_the_format_allows_is_refused() -> None:
    wide = raster_of(np.zeros((1, 16_384, 1), np.uint8))
    (outcome,) = BACKEND.render([grey_job(wide, Encoding(Format.WEBP))])
    assert isinstance(outcome, LimitExceeded)


def test_two_threads_render_what_one_renders() -> None:
    jobs = [grey_job(raster_of(level(64, 70) + np.uint16(9 * i))) for i in range(40)]
    expected = [BACKEND.render([job]) for job in jobs]
    with ThreadPoolExecutor(2) as pool:
        assert list(pool.map(lambda job: BACKEND.render([job]), jobs)) == expected


def test_tiles_of_one_call_are_what_each_is_alone_and_errors_stay_their_own() -> None:
    """JPEGs of several sizes, one of them too large for shared scratch; PNGs, a turn, a refusal."""
    wide = raster_of(np.zeros((1, 65501, 1), np.uint8))
    large = raster_of(level(1100, 1200))
    encodings = [
        *(Encoding(), Encoding(Format.PNG), Encoding(quality=40), Encoding(turn=Turn(1))),
        *(Encoding(Format.WEBP), Encoding(Format.WEBP, 40, turn=Turn(1))),
    ]
    jobs = [
        grey_job(raster_of(level(64 + 9 * i, 70) + np.uint16(9 * i)), encodings[i % 6]) for i in range(12)
    ]
    jobs[5:5] = [grey_job(wide, Encoding()), grey_job(large, Encoding())]
    outcomes = BACKEND.render(jobs)
    assert isinstance(outcomes[5], LimitExceeded)
    alone = [BACKEND.render([job])[0] for job in jobs]
    assert [outcome for at, outcome in enumerate(outcomes) if at != 5] == alone[:5] + alone[6:]


class Held(Library):
    """The host's kernels; ``chain`` tells that it runs, and goes on when it may."""

    def __init__(self) -> None:
        super().__init__()
        self.runs, self.may = threading.Event(), threading.Event()

    def chain(self, calls: Sequence[Call]) -> None:
        self.runs.set()
        assert self.may.wait(30)
        super().chain(calls)


@pytest.mark.parametrize(
    ("format", "side", "helped"),
    [
        (Format.JPEG, 512, 1),
        (Format.JPEG, 1024, 1),
        (Format.PNG, 512, 2),  # by the pool, and in what the kernel leaves
        (Format.PNG, 1024, 1),
    ],
)
def test_a_large_tile_is_not_shared_with_a_worker_that_runs_a_batch(
    format: Format, side: int, helped: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    library = Held()
    backend = HostBackend(2, library)
    others: list[int] = []  # how many were asked to take part
    give, run = backend._helpers._crew.give, backend._pool.run
    monkeypatch.setattr(backend._helpers._crew, "give", lambda share: (others.append(1), give(share)))
    monkeypatch.setattr(backend._pool, "run", lambda shares, most: (others.append(most), run(shares, most)))
    large = grey_job(raster_of(level(side, side)), Encoding(format))
    with ThreadPoolExecutor(1) as other:
        batch = other.submit(backend.render, [grey_job(raster_of(level(64, 64)), Encoding())] * 2)
        assert library.runs.wait(30)
        beside, alone = backend.render([large]), sum(others)
        library.may.set()
        assert all(isinstance(tile, bytes) for tile in batch.result())
    assert backend.render([large]) == beside
    assert (alone, sum(others)) == (0, helped)
    backend.close()


# -- made tiles and measures


def pyramid(pixels: NDArray[Any], tile: int) -> NDArray[Any]:
    """Return the next coarser level, made tile by tile."""
    rows, columns = pixels.shape[:2]
    made = np.zeros((-(-rows // 2), -(-columns // 2), pixels.shape[2]), pixels.dtype)

    def child(x: int, y: int) -> Raster | None:
        part = pixels[y * tile : (y + 1) * tile, x * tile : (x + 1) * tile]
        return raster_of(np.ascontiguousarray(part)) if part.size else None

    for y in range(-(-made.shape[0] // tile)):
        for x in range(-(-made.shape[1] // tile)):
            four = tuple(child(2 * x + dx, 2 * y + dy) for dy in (0, 1) for dx in (0, 1))
            to = made[y * tile : (y + 1) * tile, x * tile : (x + 1) * tile]
            job = DownsampleJob(four, (tile, tile), to.shape[1], to.shape[0], Reduction.MEAN)  # type: ignore[arg-type]
            (outcome,) = BACKEND.downsample([job])
            to[:] = raster(outcome).pixels
    return made


@pytest.mark.parametrize("size", [(100, 100), (101, 67), (64, 65), (33, 1), (1, 129)])
@pytest.mark.parametrize("tile", [32, 31])
@pytest.mark.parametrize("kind", [np.uint8, np.int16, np.float32])
def test_stitched_made_tiles_are_the_mean_of_the_whole_image(
    size: tuple[int, int], tile: int, kind: type[Any]
) -> None:
    pixels = np.random.default_rng(1).integers(0, 120, (*size, 3)).astype(kind)
    rows, columns = size
    whole, _ = spec.downsample(
        [(pixels, None), None, None, None], (columns, rows), -(-columns // 2), -(-rows // 2)
    )
    assert np.array_equal(pyramid(pixels, tile), whole)
    if (
        rows % 2 == columns % 2 == 0
    ):  # and where no block is cut, NumPy's own mean, which also rounds half to even
        mean = pixels.reshape(rows // 2, 2, columns // 2, 2, 3).mean((1, 3))
        assert np.array_equal(whole, np.rint(mean) if kind is not np.float32 else mean)


def test_a_histogram_of_one_value_has_room_around_it() -> None:
    source = raster_of(np.full((3, 3, 1), 5, np.uint16))
    (found,) = BACKEND.measure([MeasureJob(source, 0, (5.0, 5.0, 4))])
    expected = np.histogram(source.pixels, 4, (5.0, 5.0))[0]
    assert np.array_equal(found.histogram, expected)  # type: ignore[union-attr,arg-type]


def test_extremes_of_nothing_have_low_above_high() -> None:
    source = raster_of(np.full((3, 3, 1), np.nan, np.float32))
    (found,) = BACKEND.measure([MeasureJob(source, 0)])
    assert (found.count, found.low > found.high) == (0, True)  # type: ignore[union-attr]


def test_a_download_is_a_copy_of_ones_own() -> None:
    source = raster_of(level(3, 4))
    (copy,) = BACKEND.download([source])
    assert isinstance(copy, np.ndarray)
    copy[:] = 0
    assert np.array_equal(source.pixels, level(3, 4))


def test_a_missing_host_library_says_how_to_build_it(monkeypatch: pytest.MonkeyPatch) -> None:
    absent: Callable[[str], None] = lambda name: None  # noqa: E731
    monkeypatch.setattr("importlib.util.find_spec", absent)
    with pytest.raises(ImportError, match="install gputiles with pip"):
        Library()
