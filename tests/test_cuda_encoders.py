"""A card's encoders, tried out when it is opened: whoever makes the files, they are right."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import pytest

from gputiles.backends import Raster, RenderJob, crossover, drawing, load, modules, nvencode, proving
from gputiles.backends.cuda import CudaBackend
from gputiles.backends.encode import encode_turned
from gputiles.backends.nvencode import FIRST_ROOM, Drawn, Kind, Writer
from gputiles.backends.paste import raster_of
from gputiles.config import Config
from gputiles.encoded import Encoding, Format
from gputiles.errors import OutOfMemory, Unsupported
from gputiles.recipe import Recipe
from tests import parity
from tests.standin import CUDARuntimeError, Function, StandIn, WrongThread, codecs, compiled, plugged_in

BOTH = frozenset((Format.JPEG, Format.PNG))
JPEGS = [Encoding(Format.JPEG, 80, subsampling) for subsampling in range(3)]


def opened(own: frozenset[Format], library: Any = None) -> CudaBackend:
    """Return a card that is right in some formats only, as far as the trial is concerned."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(proving, "right_formats", lambda *_: own)
        return CudaBackend(StandIn(), 0, 1, None, library)


def moved(backend: CudaBackend, jobs: Sequence[RenderJob]) -> list[RenderJob]:
    return [replace(job, rasters=tuple(parity.up(backend, job.rasters))) for job in jobs]


# -- the trial


def test_a_card_whose_files_are_right_makes_them_all() -> None:
    backend = CudaBackend(StandIn(), 0, 1)
    assert backend.habits.own == BOTH
    assert backend.encoders == {Format.PNG: "png-card1"}
    assert parity.HOST.encoders == {}
    backend.close()


def cut(file: bytes) -> bytes:
    return file[:-30]


def changed(file: bytes) -> bytes:
    """Return a file with one other byte, in its last third."""
    at = 2 * len(file) // 3
    return file[:at] + bytes((file[at] ^ 8,)) + file[at + 1 :]


@pytest.mark.parametrize("harm", [cut, changed, lambda _: OutOfMemory("")], ids=["cut", "changed", "none"])
@pytest.mark.parametrize("wrong", [Format.JPEG, Format.PNG])
def test_one_wrong_file_of_the_trial_takes_the_format_from_the_card(
    wrong: Format, harm: Callable[[bytes], Any]
) -> None:
    backend = CudaBackend(StandIn(), 0, 1)

    def render(jobs: Sequence[RenderJob]) -> list[Any]:
        files = backend.lanes[0].draughtsman.render(jobs)
        return [*files[:-1], harm(files[-1])] if jobs[-1].encoding.format is wrong else files  # type: ignore[arg-type]

    found = backend.on_card(lambda: proving.right_formats(backend.card, render, backend._library))
    assert found == BOTH - {wrong}
    backend.close()


def test_a_card_without_room_for_trial_pictures_leaves_all_to_the_host(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def full(*_: object) -> frozenset[Format]:
        raise OutOfMemory("no room")

    monkeypatch.setattr(proving, "right_formats", full)
    backend = CudaBackend(StandIn(), 0, 1)
    assert "the card's encoders cannot be tried out: no room" in caplog.text
    assert (backend.encoders, backend.habits.own) == ({}, frozenset())
    backend.close()


@pytest.mark.parametrize("kernel", ["png_deflate", "jpeg"])
def test_a_card_that_is_lost_in_the_trial_cannot_be_used(
    monkeypatch: pytest.MonkeyPatch, kernel: str
) -> None:
    card, call = StandIn(), Function.__call__

    def launch(function: Function, *given: Any) -> None:
        if function._kernel.name == kernel:
            card.fail = CUDARuntimeError(700, "cudaErrorIllegalAddress")
        call(function, *given)

    monkeypatch.setattr(Function, "__call__", launch)
    with pytest.raises(Unsupported, match="cuda:0 cannot be used: its trial: device 0: cudaError 700"):
        CudaBackend(card, 0, 1)


@pytest.mark.parametrize("own", [frozenset(), frozenset({Format.JPEG}), frozenset({Format.PNG})], ids=str)
def test_the_host_makes_what_the_card_makes_wrong(
    own: frozenset[Format], caplog: pytest.LogCaptureFixture
) -> None:
    backend = opened(own)
    for kind in BOTH - own:
        assert f"others than the card encode {kind.name}: trial pictures were not right" in caplog.text
    jobs = [job for job in parity.random_jobs(1, np.dtype(np.uint8)) if job.encoding.format not in own]
    assert backend.render(moved(backend, jobs)) == parity.HOST.render(jobs)
    assert backend.card.device.counts["jpeg"] == backend.card.device.counts["png_deflate"] == 0
    backend.close()


MUTANTS = [
    # codes
    ("deflate.h", "top = highest((u32)over), bits = top - 2;", "top = highest((u32)over), bits = top - 1;"),
    ("deflate.h", "if (over < 4) return {over, 0, 0};", "if (over < 5) return {over, 0, 0};"),
    ("deflate.h", "counts[length + 1] += 2;", "counts[length + 1] += 1;"),
    ("deflate.h", "1u << (length - lengths[i])", "1u << (length - lengths[i] - 1)"),
    ("deflate.h", "i < symbol && lengths[i] == length", "i <= symbol && lengths[i] == length"),
    # checksums
    ("deflate.h", "return crc >> 1 ^ (POLYNOMIAL", "return crc >> 1 | (POLYNOMIAL"),
    ("deflate.h", "product ^= b & (0u - (a >> 31));", "product ^= b & (0u - (a & 1));"),
    ("deflate.cu", "crc_shifted(crc, stream.count - end)", "crc_shifted(crc, stream.count - begin)"),
    ("deflate.cu", "(u32)(place.count - at)", "(u32)(place.count - at - 1)"),
    ("deflate.cu", "checks[i].count * sum + ", "checks[i].count + "),
    # segments and their streams
    ("segment.h", "make_code(shared, shared.distances, LITERALS, DISTANCES, lane);", ""),
    ("codes.h", "for (; run > 10; run -=", "for (; run > 11; run -="),
    ("codes.h", "add(18, smaller(run, 138) - 11)", "add(18, smaller(run, 138) - 10)"),
    ("segment.h", "bits.put(0, 8 * bytes - 32 - (int)end);", ""),
    ("segment.h", "shared.bits[lane] - own", "shared.bits[lane]"),
    ("segment.h", "there = here - distance;", "there = here - distance + 1;"),
    ("deflate.cu", "const i64 rows = SEGMENT / place.row;", "const i64 rows = SEGMENT / place.row + 1;"),
    ("deflate.cu", "segment % parts * SEGMENT", "segment % parts * (SEGMENT - 1)"),
    ("deflate.cu", "place.last = end == all;", "place.last = end + 1 == all;"),
    ("deflate.cu", "at > 2 ? ~place.count : place.count", "place.count"),
    # samples that tell nothing
    ("deflate.cu", "|| pixel[1] != pixel[2]", ""),
    ("deflate.cu", "pixel[job.samples - 1] != 255", "pixel[job.samples - 1] == 0"),
    ("deflate.cu", "colours = kept > 2 ? 3 : 1;", "colours = kept > 1 ? 3 : 1;"),
]


class Changed:
    """The product's kernels, but for those of a changed file."""

    def __init__(self, folder: Path, file: str = "deflate.cu") -> None:
        self._own = compiled(folder, file)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._own, name) if hasattr(self._own, name) else getattr(compiled(), name)


def changed(tmp_path: Path, file: str, before: str, after: str) -> Path:
    """Return a copy of the kernels' sources, in which one place is another."""
    folder = tmp_path / "kernels"
    shutil.copytree(modules.folder(), folder)
    text = (folder / file).read_text()
    assert text.count(before) == 1, before
    (folder / file).write_text(text.replace(before, after))
    return folder


@pytest.mark.parametrize(("file", "before", "after"), MUTANTS)
def test_the_trial_notices_a_changed_operator(tmp_path: Path, file: str, before: str, after: str) -> None:
    folder = changed(tmp_path, file, before, after)
    card = StandIn()
    card.library = Changed(folder)  # type: ignore[assignment]
    backend = CudaBackend(card, 0, 1)
    assert backend.habits.own == {Format.JPEG}
    backend.close()


# -- which batches the card encodes


class Costs:
    """A clock that a launch of an encoder's kernel, and each file that the host encodes, put forward."""

    def __init__(
        self, backend: CudaBackend, monkeypatch: pytest.MonkeyPatch, launch: float, kernel: str
    ) -> None:
        self.files, self._launch, self._kernel = 0, launch, kernel
        self._counts = backend.card.device.counts
        monkeypatch.setattr(drawing, "encode_turned", self._encode)

    def _encode(self, *given: Any) -> bytes:
        self.files += 1
        return encode_turned(*given)

    def __call__(self) -> float:
        return self.files + self._launch * self._counts[self._kernel]


@pytest.fixture
def able(monkeypatch: pytest.MonkeyPatch) -> Iterator[CudaBackend]:
    """A card whose encoders are right."""
    monkeypatch.setattr(crossover, "SIDE", 24)
    backend = CudaBackend(StandIn(), 0, 1)
    yield backend
    backend.close()


def trial(backend: CudaBackend) -> Raster:
    return backend.on_card(lambda: crossover._uploaded(backend))


@pytest.mark.parametrize(("launch", "least"), [(0.5, 1), (1.0, 1), (3.5, 4), (4.5, 6), (7.0, 7)])
def test_the_card_encodes_batches_from_the_size_on_where_it_was_faster(
    able: CudaBackend, monkeypatch: pytest.MonkeyPatch, launch: float, least: int
) -> None:
    able.habits.card_jpegs = 5
    clock = Costs(able, monkeypatch, launch, "jpeg")
    assert crossover.least_jpegs(able, trial(able), (1, 2, 4, 6), clock) == least
    assert able.habits.card_jpegs == 5


@pytest.mark.parametrize(("launch", "card"), [(3.0, True), (5.0, True), (5.5, False)])
def test_the_card_encodes_pngs_where_a_full_batch_is_made_no_slower(
    able: CudaBackend, monkeypatch: pytest.MonkeyPatch, launch: float, card: bool
) -> None:
    clock = Costs(able, monkeypatch, launch, "png_deflate")
    assert crossover.makes_pngs(able, trial(able), 5, clock) is card
    assert Format.PNG in able.habits.own


@pytest.mark.parametrize("faster", [True, False])
def test_pngs_are_all_made_by_whom_batches_showed_to_be_faster(
    able: CudaBackend, monkeypatch: pytest.MonkeyPatch, faster: bool
) -> None:
    """A file must not depend on what is asked for beside it, and its entity tag names who made it."""
    monkeypatch.setattr(crossover, "least_jpegs", lambda *_: 11)
    monkeypatch.setattr(crossover, "makes_pngs", lambda *_: faster)
    jobs = moved(able, colour_jobs([Encoding(Format.PNG)] * 3))
    crossover.settle(able)
    assert (Format.PNG in able.habits.own, Format.PNG in able.encoders) == (faster, faster)
    assert able.habits.card_jpegs == 11
    counts = able.card.device.counts
    counts.clear()
    together = able.render(jobs)
    assert counts["png_deflate"] == faster
    assert [able.render([job])[0] for job in jobs] == together


def test_what_the_card_does_not_encode_is_not_tried_out() -> None:
    backend = opened(frozenset())
    backend.card.device.counts.clear()
    crossover.settle(backend)
    assert backend.habits.card_jpegs == 1
    assert not backend.card.device.counts["composite"]
    backend.close()


def test_a_card_without_room_for_a_trial_batch_encodes_all(caplog: pytest.LogCaptureFixture) -> None:
    card = StandIn()
    backend = CudaBackend(card, 0, 1)
    card.total = card.used
    crossover.settle(backend)
    assert (backend.habits.card_jpegs, backend.habits.own) == (1, {Format.JPEG, Format.PNG})
    assert "the card encodes all files: batches cannot be tried out: " in caplog.text
    backend.close()


def test_a_setting_that_is_not_given_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    plugged_in(monkeypatch, StandIn())

    def settle(backend: CudaBackend) -> None:
        backend.habits.card_jpegs = 11

    monkeypatch.setattr(crossover, "settle", settle)
    for given, found in ((None, 11), (3, 3)):
        backend = load.load_backend("cuda", 1, 1 << 24, 0, given)
        assert isinstance(backend, CudaBackend)
        assert backend.habits.card_jpegs == found
        backend.close()
    assert Config().card_jpegs is None


# -- nvImageCodec


@pytest.fixture
def written() -> Any:
    """A card whose JPEG kernel is not right, with nvImageCodec."""
    backend = opened(frozenset({Format.PNG}), codecs())
    yield backend
    backend.close()


def colour_jobs(encodings: Sequence[Encoding], rows: int = 90) -> list[RenderJob]:
    y, x = np.mgrid[:rows, :70]
    pictures = [np.stack([40 + x, 60 + y, 200 - x + at], axis=-1) for at in range(len(encodings))]
    rasters = [raster_of(np.ascontiguousarray(pixels.astype(np.uint8))) for pixels in pictures]
    return [RenderJob(Recipe((0,)), (r,), 70, rows, e) for r, e in zip(rasters, encodings, strict=True)]


def test_nvimagecodec_makes_the_jpegs_of_a_card_whose_kernel_is_wrong(written: CudaBackend) -> None:
    writer = written.habits.writer
    assert writer is not None
    assert writer.kinds == {(1, 0), (3, 0), (3, 1), (3, 2)}
    assert written.encoders == {Format.PNG: "png-card1", Format.JPEG: "nvimgcodec"}
    jobs = colour_jobs([*JPEGS, Encoding(Format.JPEG, 30, 2), Encoding(Format.PNG)])
    written.habits.writer._encoder.calls.clear()  # type: ignore[union-attr]
    *files, png = written.render(moved(written, jobs))
    *known, known_png = parity.HOST.render(jobs)
    for file, ours, job in zip(files, known, jobs, strict=False):
        assert isinstance(file, bytes)
        assert isinstance(ours, bytes)
        assert file != ours  # another encoder's
        found, expected = (imagecodecs.jpeg8_decode(each).astype(int) for each in (file, ours))
        assert np.abs(found - expected).max() <= 4, job.encoding
    assert proving.colours_of(png).tobytes() == proving.colours_of(known_png).tobytes()  # type: ignore[arg-type]
    assert writer._encoder.calls == [1, 1, 1, 1]  # of each quality and subsampling one


def test_a_batch_of_one_kind_is_one_call_and_output_streams_are_used_again(written: CudaBackend) -> None:
    writer = written.habits.writer
    assert writer is not None
    jobs = moved(written, colour_jobs([JPEGS[2]] * 12))
    writer._encoder.calls.clear()
    first = written.render(jobs)
    pool = [id(stream) for stream in writer._pool]
    assert len({*first}) == 12
    assert written.render(jobs) == first
    assert written.render(jobs[:5]) == first[:5]
    assert writer._encoder.calls == [12, 12, 5]
    assert [id(stream) for stream in writer._pool] == pool
    assert len(pool) == 12


def test_a_file_larger_than_an_output_stream_is_whole(written: CudaBackend) -> None:
    noise = np.random.default_rng(1).integers(0, 256, (300, 400, 3)).astype(np.uint8)
    job = RenderJob(Recipe((0,)), (raster_of(noise),), 400, 300, Encoding(Format.JPEG, 100, 0))
    for _ in range(2):
        (file,) = written.render(moved(written, [job]))
        assert isinstance(file, bytes)
        assert len(file) > FIRST_ROOM
        assert int(np.abs(imagecodecs.jpeg8_decode(file).astype(int) - noise).max()) <= 6


@pytest.mark.parametrize("error", [RuntimeError("no"), None], ids=["raises", "none"])
def test_the_host_encodes_what_nvimagecodec_does_not(
    written: CudaBackend, monkeypatch: pytest.MonkeyPatch, error: RuntimeError | None
) -> None:
    writer = written.habits.writer
    assert writer is not None
    encode = writer._encoder.encode

    def failing(images: list[Any], *given: Any, **options: Any) -> list[Any]:
        if error is not None:
            raise error
        return [*encode(images, *given, **options)[:-1], None]

    monkeypatch.setattr(writer._encoder, "encode", failing)
    jobs = colour_jobs([JPEGS[0]] * 3)
    files, known = written.render(moved(written, jobs)), parity.HOST.render(jobs)
    assert [file == other for file, other in zip(files, known, strict=True)] == [
        error is not None,
        error is not None,
        True,
    ]


def test_pixels_of_which_nvimagecodec_makes_no_file_come_home_in_one_copy(
    written: CudaBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = written.habits.writer
    assert writer is not None
    encode = writer.encode
    monkeypatch.setattr(
        writer, "encode", lambda drawn: [*encode(drawn[:4]), None, None, None, *encode(drawn[7:])]
    )
    jobs = moved(written, colour_jobs([JPEGS[0]] * 9))
    counts = written.card.device.counts
    counts.clear()
    files = written.render(jobs)
    assert all(isinstance(file, bytes) for file in files)
    assert counts["downloads"] == 1


def test_few_jpegs_are_not_the_hosts_where_that_would_make_other_bytes(written: CudaBackend) -> None:
    """What is encoded must not depend on how many are asked for together."""
    jobs = moved(written, colour_jobs([JPEGS[2]] * 3))
    together = written.render(jobs)
    written.habits.card_jpegs = 65
    assert [written.render([job])[0] for job in jobs] == together


def test_kinds_that_come_out_wrong_are_not_made(monkeypatch: pytest.MonkeyPatch) -> None:
    is_like = nvencode.is_like
    monkeypatch.setattr(
        nvencode, "is_like", lambda file, *given: is_like(file, *given) and given[1].samples == 3
    )
    backend = opened(frozenset(), codecs())
    monkeypatch.undo()
    writer = backend.habits.writer
    assert writer is not None
    assert writer.kinds == {(3, 0), (3, 1), (3, 2)}
    assert not writer.makes(Kind(1, 80, 0))
    pixels = np.arange(60 * 50, dtype=np.uint8).reshape(60, 50, 1)
    job = RenderJob(Recipe((0,)), (raster_of(pixels),), 50, 60, JPEGS[0])
    assert backend.render(moved(backend, [job])) == parity.HOST.render([job])
    backend.close()


@pytest.mark.parametrize(
    "harm", [lambda pixels: pixels // 2, lambda pixels: pixels[:-1], lambda pixels: pixels[..., ::-1]]
)
def test_a_file_of_other_pixels_is_not_like(harm: Callable[[Any], Any]) -> None:
    pixels = proving.trials()[2]
    kind = Kind(3, 80, 2)
    assert nvencode.is_like(imagecodecs.jpeg8_encode(pixels, level=80, subsampling="420"), pixels, kind)
    wrong = np.ascontiguousarray(harm(pixels))
    assert not nvencode.is_like(imagecodecs.jpeg8_encode(wrong, level=80, subsampling="420"), pixels, kind)
    assert not nvencode.is_like(b"no jpeg", pixels, kind)


@pytest.mark.parametrize(
    ("quality", "subsampling", "is_like"),
    [(79, "420", True), (80, "444", False), (40, "420", False), (97, "420", False)],
)
def test_a_file_of_another_form_is_not_like(quality: int, subsampling: str, is_like: bool) -> None:
    """What other arithmetic makes of it may differ as much as one step of quality does."""
    pixels = proving.trials()[2]
    file = imagecodecs.jpeg8_encode(pixels, level=quality, subsampling=subsampling)
    assert nvencode.is_like(file, pixels, Kind(3, 80, 2)) is is_like


def test_the_encoder_belongs_to_the_cards_thread(written: CudaBackend) -> None:
    writer = written.habits.writer
    assert writer is not None
    pixels = np.zeros((8, 8, 3), np.uint8)
    with pytest.raises(WrongThread):
        writer.encode([Drawn(pixels.ctypes.data, (8, 8, 3), Kind(3, 80, 0))])


def test_a_library_that_cannot_make_an_encoder_leaves_jpeg_to_the_host(
    caplog: pytest.LogCaptureFixture,
) -> None:
    library = codecs()

    def broken(**_: object) -> None:
        raise RuntimeError("no nvJPEG")

    library.Encoder = broken
    backend = opened(frozenset(), library)
    assert "the host encodes JPEG: nvImageCodec: no nvJPEG" in caplog.text
    assert backend.habits.writer is None
    jobs = colour_jobs(JPEGS)
    assert backend.render(moved(backend, jobs)) == parity.HOST.render(jobs)
    backend.close()


def test_writers_are_made_only_where_they_are_needed() -> None:
    library = codecs()
    made: list[Any] = []
    encoder = library.Encoder
    library.Encoder = lambda **given: made.append(given) or encoder(**given)
    backend = CudaBackend(StandIn(), 0, 1, None, library)
    assert (made, backend.habits.writer) == ([], None)
    assert isinstance(backend.on_card(lambda: Writer(library, 0, 7, 1)), Writer)
    assert [given["max_num_cpu_threads"] for given in made] == [1]
    backend.close()
