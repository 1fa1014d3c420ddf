"""JPEG and JPEG 2000 chunks on a card: one batch, the host's pixels, the host where nothing else helps."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import imagecodecs
import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray

from gputiles.backends import DecodeJob, Raster
from gputiles.backends.cuda import CudaBackend
from gputiles.backends.paste import decode_tiles
from gputiles.errors import Damaged
from gputiles.geometry import Rect
from gputiles.sources.open import open_source
from tests.conftest import shared
from tests.standin import StandIn, codecs

KINDS = {
    "YCbCr 4:4:4", "YCbCr 4:2:2", "YCbCr 4:2:0", "RGB", "grey", "JPEG 2000 uint8 1", "JPEG 2000 uint8 3",
    "JPEG 2000 uint16 1", "JPEG 2000 uint16 3",
}  # fmt: skip
RGB = {"colorspace": "RGB", "outcolorspace": "RGB"}
FILES: dict[str, dict[str, Any]] = {
    "444": {"compression": "jpeg", "photometric": "ycbcr", "subsampling": (1, 1)},
    "422": {"compression": "jpeg", "photometric": "ycbcr", "subsampling": (2, 1)},
    "420": {"compression": "jpeg", "photometric": "ycbcr", "subsampling": (2, 2)},
    "rgb": {"compression": "jpeg", "photometric": "rgb", "compressionargs": RGB},
    "grey": {"compression": "jpeg", "photometric": "minisblack"},
    "j2k": {"compression": "jpeg2000", "photometric": "rgb"},
    "j2k16": {"compression": "jpeg2000", "photometric": "minisblack"},
    "zlib": {"compression": "zlib", "photometric": "rgb"},
}


def pixels(name: str) -> NDArray[Any]:
    y, x = np.mgrid[:150, :200]
    grain = np.random.default_rng(1).integers(0, 6, (150, 200, 1))
    colours = (np.stack([30 + x % 190, 60 + y, 220 - y], axis=-1) + grain).astype(np.uint8)
    if name in ("grey", "j2k16"):
        colours = colours[..., 0]
    return colours.astype(np.uint16) * 200 if name == "j2k16" else colours


def jobs_of(path: Path) -> list[DecodeJob]:
    """Return the jobs of all tiles of a file's full resolution, edge tiles among them."""
    source = open_source(path)
    z = source.info.levels - 1
    cells = Rect(0, 0, *source.info.grid.tiles(z)).cells()
    jobs = [source.read(0, z, source.info.unit(z, x, y)) for x, y in cells]
    source.close()
    return jobs


@pytest.fixture
def files(tmp_path: Path) -> dict[str, list[DecodeJob]]:
    made = {}
    for name, options in FILES.items():
        path = tmp_path / f"{name}.tif"
        tifffile.imwrite(path, pixels(name), tile=(128, 128), **options)
        made[name] = jobs_of(path)
    return made


@pytest.fixture
def library() -> SimpleNamespace:
    return codecs()  # type: ignore[no-any-return]


@pytest.fixture
def backend(library: SimpleNamespace) -> Iterator[CudaBackend]:
    backend = CudaBackend(StandIn(), 0, 1, None, library)
    library.Decoder.calls.clear()
    yield backend
    backend.close()


def difference(backend: CudaBackend, outcome: Any, job: DecodeJob) -> int:
    """Return by how much the tiles of a job differ from the host's at most."""
    worst = 0
    assert isinstance(outcome, tuple), outcome
    for ours, theirs in zip(outcome, decode_tiles(job), strict=True):
        assert isinstance(ours, Raster), ours
        assert isinstance(theirs, Raster)
        assert (ours.valid is None) == (theirs.valid is None)
        (found,) = backend.download([ours])
        assert isinstance(found, np.ndarray)
        assert found.shape == theirs.shape
        assert found.dtype == theirs.dtype
        worst = max(worst, int(np.abs(found.astype(np.int64) - theirs.pixels).max()))
    return worst


def test_every_kind_is_tried_out_and_trusted(backend: CudaBackend) -> None:
    assert backend.lanes[0].decoder.pictures is not None
    assert backend.lanes[0].decoder.pictures.kinds == KINDS
    assert backend.decoders.startswith("nvimgcodec-JPEG 2000 uint16 1,")


def test_chunks_of_many_files_are_decoded_as_one_batch(
    backend: CudaBackend, library: SimpleNamespace, files: dict[str, list[DecodeJob]]
) -> None:
    jobs = [job for made in files.values() for job in made]
    names = [name for name, made in files.items() for _ in made]
    outcomes = backend.decode(jobs)
    pictures = sum(len(made) for name, made in files.items() if name != "zlib")
    assert sum(library.Decoder.calls) == pictures
    assert len(library.Decoder.calls) == 2  # YCbCr, and what is not converted
    assert backend.card.device.counts["paste"] == 1
    for name, job, outcome in zip(names, jobs, outcomes, strict=True):
        assert difference(backend, outcome, job) <= (2 if name in ("444", "422", "420") else 0), name


def test_tiles_are_cut_out_of_chunks_and_put_together_of_several(
    backend: CudaBackend, library: SimpleNamespace, files: dict[str, list[DecodeJob]]
) -> None:
    tiles = (Rect(10, 20, 51, 43), Rect(0, 0, 200, 150), Rect(100, 120, 60, 20), Rect(199, 149, 1, 1))
    for name in ("444", "j2k16", "j2k", "grey"):
        chunks = tuple(chunk for job in files[name] for chunk in job.chunks)
        job = replace(files[name][0], chunks=chunks, tiles=tiles)
        (outcome,) = backend.decode([job])
        assert difference(backend, outcome, job) <= (2 if name == "444" else 0)
    assert sum(library.Decoder.calls) == 4 * 4


def test_tiles_that_chunks_do_not_cover_are_the_hosts_work(
    backend: CudaBackend, library: SimpleNamespace, files: dict[str, list[DecodeJob]]
) -> None:
    first, second, *_ = files["420"]
    both = (first.chunks[0], replace(second.chunks[0], data=None))
    jobs = [
        replace(first, chunks=both, tiles=(Rect(100, 0, 60, 50),), fill=9),  # a sparse chunk
        replace(first, tiles=(Rect(0, 0, 128, 128), Rect(128, 0, 72, 128))),  # no chunk at all
        replace(second, tiles=(Rect(128, 0, 90, 128),)),  # beyond the level
    ]
    for job, outcome in zip(jobs, backend.decode(jobs), strict=True):
        assert difference(backend, outcome, job) == 0
    assert library.Decoder.calls == []


def test_a_damaged_stream_is_its_tiles_error_alone(
    backend: CudaBackend, files: dict[str, list[DecodeJob]]
) -> None:
    for name in ("420", "j2k"):
        first, second, third, *_ = files[name]
        chunk = second.chunks[0]
        assert isinstance(chunk.data, bytes)
        for data in (chunk.data[:60], b"", chunk.data[:200] + bytes(300)):
            bad = replace(second, chunks=(replace(chunk, data=data),))
            good, failed, other = backend.decode([first, bad, third])
            assert difference(backend, good, first) <= 2
            assert difference(backend, other, third) <= 2
            expected = decode_tiles(bad)[0]
            assert isinstance(failed, tuple)
            if isinstance(expected, Damaged):
                assert type(failed[0]) is Damaged
                assert str(failed[0]) == str(expected)


def test_what_the_library_does_not_decode_the_host_does_once(
    backend: CudaBackend, files: dict[str, list[DecodeJob]], monkeypatch: pytest.MonkeyPatch
) -> None:
    pictures = backend.lanes[0].decoder.pictures
    assert pictures is not None
    (decoder,) = {*pictures._decoders.values()}
    decode = decoder.decode

    def refusing(streams: list[Any], **options: Any) -> list[Any]:
        return [None if at % 2 else image for at, image in enumerate(decode(streams, **options))]

    monkeypatch.setattr(
        pictures, "_decoders", dict.fromkeys(pictures.kinds, SimpleNamespace(decode=refusing))
    )
    jobs = files["420"]
    for job, outcome in zip(jobs, backend.decode(jobs), strict=True):
        assert difference(backend, outcome, job) <= 2
    once: list[int] = []
    chunk = jobs[1].chunks[0]

    def counted(*given: Any) -> Any:
        once.append(1)
        raise Damaged("not by the host either")

    codec = replace(chunk.codec)  # type: ignore[type-var]
    monkeypatch.setattr(type(codec), "decode", counted)
    good, bad = backend.decode([jobs[0], replace(jobs[1], chunks=(replace(chunk, codec=codec),))])
    assert isinstance(good, tuple)
    assert isinstance(good[0], Raster)
    assert isinstance(bad, tuple)
    assert str(bad[0]) == "not by the host either"
    assert once == [1]


@pytest.mark.parametrize("error", [RuntimeError("nvImageCodec failed"), ValueError("too small")], ids=str)
def test_an_exception_of_the_library_leaves_all_to_the_host(
    backend: CudaBackend,
    files: dict[str, list[DecodeJob]],
    monkeypatch: pytest.MonkeyPatch,
    error: Exception,
) -> None:
    def failing(*_: Any, **__: Any) -> None:
        raise error

    pictures = backend.lanes[0].decoder.pictures
    assert pictures is not None
    monkeypatch.setattr(pictures, "_decoders", dict.fromkeys(pictures.kinds, SimpleNamespace(decode=failing)))
    for job, outcome in zip(files["420"], backend.decode(files["420"]), strict=True):
        assert difference(backend, outcome, job) == 0


def test_kinds_that_come_out_wrong_are_left_to_the_host(
    library: SimpleNamespace, files: dict[str, list[DecodeJob]]
) -> None:
    class Swapping(library.Decoder):  # type: ignore[misc,name-defined]
        """Takes red for blue in streams that say nothing of their colours."""

        def decode(self, streams: list[Any], images: list[Any], params: Any, cuda_stream: int) -> Any:
            found = super().decode(streams, images, params, cuda_stream)
            if params.color_spec == library.ColorSpec.UNCHANGED:
                for image in map(np.asarray, found):
                    image[...] = image[..., ::-1].copy()
            return found

    wrong = {"RGB", "JPEG 2000 uint8 3", "JPEG 2000 uint16 3"}
    backend = CudaBackend(StandIn(), 0, 1, None, SimpleNamespace(**{**vars(library), "Decoder": Swapping}))
    assert backend.lanes[0].decoder.pictures is not None
    assert backend.lanes[0].decoder.pictures.kinds == KINDS - wrong
    library.Decoder.calls.clear()
    for job, outcome in zip(files["rgb"], backend.decode(files["rgb"]), strict=True):
        assert difference(backend, outcome, job) == 0
    assert library.Decoder.calls == []
    backend.close()


def test_what_the_engine_has_wrong_the_decoder_without_it_may_have_right(
    library: SimpleNamespace, files: dict[str, list[DecodeJob]]
) -> None:
    """As where the engine repeats chroma, and does not smooth it: the difference shows at edges."""
    made: list[int] = []

    class Engine(library.Decoder):  # type: ignore[misc,name-defined]
        def __init__(self, **options: Any) -> None:
            super().__init__(**options)
            made.append(len(options["backends"]))
            self._is_engine = len(options["backends"]) == 3

        def decode(self, streams: list[Any], images: list[Any], params: Any, cuda_stream: int) -> Any:
            found = super().decode(streams, images, params, cuda_stream)
            for code, image in zip(streams, found, strict=True):
                if self._is_engine and code.chroma_subsampling == library.ChromaSubsampling.CSS_420:
                    pixels = np.asarray(image)
                    whole = pixels[: len(pixels) // 2 * 2, : pixels.shape[1] // 2 * 2]
                    whole[1::2], whole[:, 1::2] = whole[::2].copy(), whole[:, ::2].copy()
            return found

    backend = CudaBackend(StandIn(), 0, 1, None, SimpleNamespace(**{**vars(library), "Decoder": Engine}))
    pictures = backend.lanes[0].decoder.pictures
    assert pictures is not None
    assert (pictures.kinds, made) == (KINDS, [3, 2])
    library.Decoder.calls.clear()
    jobs = [*files["420"], *files["444"]]
    for job, outcome in zip(jobs, backend.decode(jobs), strict=True):
        assert difference(backend, outcome, job) <= 2
    assert library.Decoder.calls == [len(files["420"]), len(files["444"])]
    backend.close()


def test_a_library_that_does_not_start_leaves_all_to_the_host(
    library: SimpleNamespace, caplog: pytest.LogCaptureFixture
) -> None:
    def failing(**_: Any) -> None:
        raise RuntimeError("CUDA Runtime failure: '#35'")

    library.Decoder = failing
    backend = CudaBackend(StandIn(), 0, 1, None, library)
    assert (backend.decoders, backend.lanes[0].decoder.pictures) == ("", None)
    assert "#35" in caplog.text
    backend.close()


def test_a_stream_larger_than_its_chunk_is_not_given_to_the_card(
    backend: CudaBackend, library: SimpleNamespace, files: dict[str, list[DecodeJob]]
) -> None:
    job = files["420"][0]
    large = bytes(imagecodecs.jpeg8_encode(np.zeros((400, 400, 3), np.uint8)))
    (outcome,) = backend.decode([replace(job, chunks=(replace(job.chunks[0], data=large),))])
    assert isinstance(outcome, tuple)
    assert isinstance(outcome[0], Damaged)
    assert library.Decoder.calls == []


def test_tiles_of_a_real_slide_are_the_hosts(backend: CudaBackend, library: SimpleNamespace) -> None:
    jobs = jobs_of(shared("data", "libvips__CMU-1-Small-Region.svs"))[:40]
    for job, outcome in zip(jobs, backend.decode(jobs), strict=True):
        assert difference(backend, outcome, job) <= 2
    assert library.Decoder.calls
