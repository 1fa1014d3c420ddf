"""JPEG and JPEG 2000 chunks on a card: one batch, the host's pixels, the host where nothing else helps."""

from __future__ import annotations

import ctypes
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

from gputiles.backends import Chunk, DecodeJob, Raster, modules, tables
from gputiles.backends.cuda import CudaBackend
from gputiles.backends.modules import RUN
from gputiles.backends.nvstreams import SPREADS, stream_of
from gputiles.backends.nvtrials import subsampled_jpeg2000
from gputiles.backends.paste import decode_tiles
from gputiles.errors import Damaged
from gputiles.geometry import Rect
from gputiles.sources.colour import YCbCrCodec, ycbcr_to_rgb
from gputiles.sources.imagecodec import Frame, ImageCodec
from gputiles.sources.open import open_source
from gputiles.sources.streamsize import jpeg2000_components, jpeg2000_is_ycbcr
from tests.conftest import shared
from tests.standin import StandIn, codecs, compiled

KINDS = {
    "YCbCr 4:4:4", "YCbCr 4:2:2", "YCbCr 4:2:0", "RGB", "grey", "JPEG 2000 uint8 1", "JPEG 2000 uint8 3",
    "JPEG 2000 uint16 1", "JPEG 2000 uint16 3",
}  # fmt: skip
RGB = {"colorspace": "RGB", "outcolorspace": "RGB"}
PLAIN = {"level": 0, "reversible": True, "mct": False, "codecformat": "j2k"}
FILES: dict[str, dict[str, Any]] = {
    "444": {"compression": "jpeg", "photometric": "ycbcr", "subsampling": (1, 1)},
    "422": {"compression": "jpeg", "photometric": "ycbcr", "subsampling": (2, 1)},
    "420": {"compression": "jpeg", "photometric": "ycbcr", "subsampling": (2, 2)},
    "rgb": {"compression": "jpeg", "photometric": "rgb", "compressionargs": RGB},
    "grey": {"compression": "jpeg", "photometric": "minisblack"},
    "j2k": {"compression": "jpeg2000", "photometric": "rgb"},
    "j2k16": {"compression": "jpeg2000", "photometric": "minisblack"},
    "aperio ycbcr": {"compression": 33003, "photometric": "rgb", "compressionargs": PLAIN},
    "aperio rgb": {"compression": 33005, "photometric": "rgb", "compressionargs": PLAIN},
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


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_ycbcr_of_all_levels_is_converted_as_on_the_host(dtype: Any) -> None:
    """Of each component the extremes, the middle, and every level beside any others."""
    top = np.iinfo(dtype).max
    rng, some = np.random.default_rng(3), np.array([0, 1, top // 2, top // 2 + 1, top - 1, top])
    corners = np.stack(np.meshgrid(some, some, some), -1).reshape(-1, 3)
    levels = [rng.permutation(top + 1) for _ in range(3 * 4)]
    values = np.concatenate([corners, np.reshape(levels, (4, 3, -1)).swapaxes(1, 2).reshape(-1, 3)])
    found = values.astype(dtype)
    table = np.array([(found.ctypes.data, -(-len(found) // RUN), len(found), found.itemsize, 0)], tables.YCC)
    grid, block = modules.kernels()["ycc"].grid(table)
    at = ctypes.c_void_p(table.ctypes.data)
    assert compiled().run_ycc(at, *grid, *block, 0, 1) == 0
    assert np.array_equal(found, ycbcr_to_rgb(values.astype(dtype), bits=8 * found.itemsize))


def test_aperios_ycbcr_is_decoded_by_the_card_and_converted_there(
    backend: CudaBackend, library: SimpleNamespace, files: dict[str, list[DecodeJob]]
) -> None:
    jobs = files["aperio ycbcr"]
    counts = backend.card.device.counts
    counts.clear()
    outcomes = backend.decode(jobs)
    assert (sum(library.Decoder.calls), counts["ycc"], counts["paste"]) == (len(jobs), 1, 1)
    for job, outcome in zip(jobs, outcomes, strict=True):
        assert difference(backend, outcome, job) == 0


def stream_in(data: bytes, compression: int, dtype: Any = np.uint8, bits: int = 8) -> DecodeJob:
    """Return the job of a JPEG 2000 stream of 64 × 64 colours, as of a page of that compression."""
    codec: Any = ImageCodec(compression, Frame(3, np.dtype(dtype), (64, 64)))
    if compression == 33003:
        codec = YCbCrCodec(codec, done=jpeg2000_is_ycbcr, bits=bits)
    place = Rect(0, 0, 64, 64)
    return DecodeJob((Chunk(codec, data, place),), (place,), (64, 64), 3, np.dtype(dtype))


def subsampled(across: int, down: int) -> bytes:
    planes = [np.ascontiguousarray(pixels("rgb")[:64, :64, band]) for band in range(3)]
    chroma = [np.ascontiguousarray(plane[::down, ::across]) for plane in planes[1:]]
    return subsampled_jpeg2000([planes[0], *chroma], [(1, 1), (across, down), (across, down)])


@pytest.mark.parametrize("compression", [33003, 33005, 34712])
def test_jpeg_2000_that_no_trial_stands_for_is_the_hosts(
    backend: CudaBackend, library: SimpleNamespace, compression: int
) -> None:
    """Subsampled in ways of its own, of fewer bits than its type, with signs, in a box that says YCbCr."""
    colours = np.ascontiguousarray(pixels("rgb")[:64, :64])
    whole = bytes(imagecodecs.jpeg2k_encode(colours, **PLAIN))
    few = bytes(imagecodecs.jpeg2k_encode(colours.astype(np.uint16), bitspersample=12, **PLAIN))
    boxed = bytes(imagecodecs.jpeg2k_encode(colours, **{**PLAIN, "codecformat": "jp2", "colorspace": 3}))
    for data, dtype, taken in (
        (whole, np.uint8, True), (subsampled(2, 1), np.uint8, False), (few, np.uint16, False),
        (boxed, np.uint8, False),
    ):  # fmt: skip
        library.Decoder.calls.clear()
        job = stream_in(data, compression, dtype, 8 * np.dtype(dtype).itemsize)
        (outcome,) = backend.decode([job])
        assert difference(backend, outcome, job) == 0
        assert (library.Decoder.calls != []) == taken
    at = whole.index(b"\xff\x51") + 40
    signed = whole[:at] + bytes([whole[at] | 128]) + whole[at + 1 :]
    assert jpeg2000_components(signed)[0] == (-8, (1, 1))
    for data in (signed, subsampled(4, 1)):
        assert (
            stream_of(stream_in(data, compression).chunks[0], frozenset({*KINDS, *SPREADS.values()})) is None
        )
    cut = whole[: whole.index(b"\xff\x51") + 42]
    with pytest.raises(Damaged, match="cut off in the list of its 3 components"):
        jpeg2000_components(cut)


def test_a_card_that_has_subsampled_jpeg_2000_right_decodes_it(
    library: SimpleNamespace, files: dict[str, list[DecodeJob]]
) -> None:
    """As nvJPEG 2000 may, which is no more than its trial says: on the processor nvImageCodec has it not."""
    data: dict[int, bytes] = {}
    shared_chroma = (library.ChromaSubsampling.CSS_422, library.ChromaSubsampling.CSS_420)

    class Spreading(library.Decoder):  # type: ignore[misc,name-defined]
        def decode(self, streams: list[Any], images: list[Any], params: Any, cuda_stream: int) -> Any:
            found = []
            for code, image in zip(streams, images, strict=True):
                if code.codec_name != "jpeg2k" or code.chroma_subsampling not in shared_chroma:
                    found += super().decode([code], [image], params, cuda_stream)
                    continue
                assert params.color_spec == library.ColorSpec.SRGB
                np.asarray(image)[...] = imagecodecs.jpeg2k_decode(data[id(code)])
                found.append(image)
                self.calls.append(1)
            return found

    def code_stream(source: bytes) -> Any:
        code = library.CodeStream(source)
        data[id(code)] = source
        kept.append(code)
        return code

    kept: list[Any] = []
    able = SimpleNamespace(**{**vars(library), "Decoder": Spreading, "CodeStream": code_stream})
    backend = CudaBackend(StandIn(), 0, 1, None, able)
    assert backend.lanes[0].decoder.pictures is not None
    assert backend.lanes[0].decoder.pictures.kinds == {*KINDS, *SPREADS.values()}
    library.Decoder.calls.clear()
    jobs = [
        stream_in(subsampled(*spread), compression) for spread in SPREADS for compression in (33003, 34712)
    ]
    for job, outcome in zip(jobs, backend.decode(jobs), strict=True):
        assert difference(backend, outcome, job) == 0
    assert sum(library.Decoder.calls) == len(jobs)
    backend.close()


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
