"""Slides that OpenSlide reads: the same pixels as our own reader's, and the same rules."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from random import Random

import numpy as np
import pytest
import tifffile
from PIL import Image as Pillow

from gputiles.errors import Damaged, GputilesError, LimitExceeded, NotFound, Unsupported
from gputiles.image import Colour
from gputiles.sources import Source, slides
from gputiles.sources.adapters import open_refused
from gputiles.sources.open import open_source
from gputiles.sources.slides import open_slide
from tests.conftest import shared
from tests.reading import Pixels, full, read_level, read_tile
from tests.test_associated import serving
from tests.test_http import find

SVS = "libvips__CMU-1-Small-Region.svs"
BOXES = "openslide-python__boxes.tiff"


@contextmanager
def adapted(path: Path, associated: str | None = None, chunk_limit: int = 1 << 30) -> Iterator[Source]:
    source = open_slide(path, path.parent, chunk_limit=chunk_limit, associated=associated)
    yield source
    source.close()


def own(path: Path, associated: str | None = None) -> Pixels:
    source = open_source(path, associated=associated)
    try:
        return full(source)
    finally:
        source.close()


# -- pixels


@pytest.mark.parametrize("compression", [None, "deflate"])
def test_lossless_pixels_and_levels_are_those_of_our_own_reader(
    compression: str | None, tmp_path: Path
) -> None:
    array = np.random.default_rng(3).integers(0, 256, (700, 900, 3), np.uint8)
    path = tmp_path / "tiled.tif"
    with tifffile.TiffWriter(path) as file:
        for step in (1, 2, 3, 4):  # a third fits no level of the grid
            options = {"subfiletype": int(step > 1), "metadata": None, "photometric": "rgb"}
            level = array[: 900 // step * step : step, : 900 // step * step : step]
            file.write(np.ascontiguousarray(level), tile=(256, 256), compression=compression, **options)
    source = open_source(path)
    with adapted(path) as slide:
        assert slide.info.grid == source.info.grid
        assert slide.info.stored == source.info.stored == (True, True, True)
        for z in range(slide.info.levels):
            assert np.array_equal(read_level(slide, 0, z), read_level(source, 0, z))
        assert np.array_equal(full(slide), array)
    source.close()


def test_jpeg_pixels_and_facts_are_those_of_our_own_reader() -> None:
    """Within 2 levels: OpenSlide has a JPEG decoder of its own."""
    path = shared("data", SVS)
    source = open_source(path)
    with adapted(path) as slide:
        mine, theirs = source.info, slide.info
        assert (theirs.grid, theirs.mm_x, theirs.mm_y) == (mine.grid, mine.mm_x, mine.mm_y)
        assert (theirs.magnification, theirs.samples, theirs.colour) == (20, 3, Colour.RGB)
        difference = np.abs(full(slide).astype(int) - full(source))
        assert difference.max() <= 2
        assert slide.passthrough(0, theirs.levels - 1, 0, 0) is None
    source.close()


def test_the_profile_and_a_printers_resolution_are_judged_as_in_tiff() -> None:
    path = shared("data", BOXES)
    source = open_source(path)
    with adapted(path) as slide:
        assert slide.info.profile == source.info.profile
        assert slide.info.mm_x is None
    source.close()


def test_what_a_slide_does_not_hold_is_not_valid_and_has_the_background(tmp_path: Path) -> None:
    array = np.full((256, 512, 3), 90, np.uint8)
    path = tmp_path / "sparse.tif"
    tifffile.imwrite(path, array, tile=(256, 256), photometric="rgb", metadata=None, compression="deflate")
    with tifffile.TiffFile(path, mode="r+b") as file:
        tag = file.pages[0].tags[325]
        tag.overwrite((tag.value[0], 0))
    with adapted(path) as slide:
        full_z = slide.info.levels - 1
        held, hole = (slide.read(0, full_z, slide.info.unit(full_z, x, 0)) for x in (0, 1))
        assert held.mask == ()
        (mask,) = hole.mask
        assert not mask.codec.decode(b"", 256, 256).any()
        assert np.array_equal(read_tile(slide, 0, full_z, 1, 0), np.full((256, 256, 3), 255))


# -- other pictures


def test_pictures_are_those_of_our_own_reader() -> None:
    """Exact for the label, which is LZW; within 2 levels for JPEG."""
    path = shared("data", SVS)
    with adapted(path) as slide:
        assert slide.info.associated == ("label", "macro", "thumbnail")
    for name, most in {"label": 0, "macro": 2, "thumbnail": 2}.items():
        expected = own(path, name)
        with adapted(path, name) as picture:
            assert np.abs(full(picture).astype(int) - expected).max() <= most
    with pytest.raises(NotFound, match="no picture 'map'"), adapted(path, "map"):
        pass
    with pytest.raises(LimitExceeded, match="387x463"), adapted(path, "label", chunk_limit=1000):
        pass


async def test_a_slide_is_served_and_its_label_only_where_that_is_allowed(tmp_path: Path) -> None:
    path = tmp_path / "a.svslide"
    shutil.copy(shared("data", SVS), path)
    async with serving(path) as (client, base):
        assert await (await client.get(base)).json() == ["thumbnail"]
        assert (await client.get(f"{base}/label")).status == 404
        assert (await client.get(f"{base}/thumbnail")).status == 200
        item = base.removesuffix("/images")
        told = await (await client.get(f"{item}/internal_metadata")).json()
        assert (told["tilesource"], told["openslide"]["openslide.vendor"]) == ("openslide", "aperio")
        tile = await (await client.get(f"{item}/zxy/4/2/3?encoding=PNG")).read()
        assert np.abs(np.asarray(Pillow.open(BytesIO(tile))).astype(int) - own_tile(4, 2, 3)).max() <= 2
        sources = await (await client.get("/large_image/sources")).json()
        assert {"mrxs", "dcm", "svslide"} <= sources["openslide"]["extensions"].keys()
    async with serving(path, associated_images=("label",)) as (client, base):
        assert await (await client.get(base)).json() == ["label"]
        assert (await client.get(f"{base}/label")).status == 200


def own_tile(z: int, x: int, y: int) -> Pixels:
    source = open_source(shared("data", SVS))
    tile = read_tile(source, 0, z, x, y)
    source.close()
    assert not isinstance(tile, GputilesError)
    return tile


# -- what goes wrong


def test_a_tile_that_cannot_be_decoded_fails_alone(tmp_path: Path) -> None:
    """OpenSlide answers nothing more after an error: the slide is opened anew."""
    array = np.full((256, 512, 3), 90, np.uint8)
    path = tmp_path / "broken.tif"
    tifffile.imwrite(path, array, tile=(256, 256), photometric="rgb", metadata=None, compression="jpeg")
    with tifffile.TiffFile(path) as file:
        offset, size = file.pages[0].dataoffsets[1], file.pages[0].databytecounts[1]
    data = bytearray(path.read_bytes())
    data[offset : offset + size] = bytes(size)
    path.write_bytes(data)
    with adapted(path) as slide:
        z = slide.info.levels - 1
        assert isinstance(read_tile(slide, 0, z, 1, 0), Damaged)
        assert not isinstance(read_tile(slide, 0, z, 0, 0), GputilesError)
        assert isinstance(read_tile(slide, 0, z, 1, 0), Damaged)


def test_damaged_slides_are_read_or_refused_with_a_reason(tmp_path: Path) -> None:
    """Among them those of which OpenSlide lists a property that it does not tell."""
    whole, random = shared("data", "openslide-python__small.svs").read_bytes(), Random(1)
    path, outcomes = tmp_path / "a.svslide", set[type]()
    for _ in range(100):
        data = bytearray(whole)
        for _ in range(random.choice((1, 3, 10))):
            data[random.randrange(len(data))] = random.randrange(256)
        path.write_bytes(data)
        try:
            source = open_source(path)
            outcomes.add(type(read_tile(source, 0, source.info.levels - 1, 0, 0)))
        except GputilesError as error:
            outcomes.add(type(error))
    assert outcomes >= {np.ndarray, Damaged, Unsupported}


@pytest.mark.parametrize(("frame", "z"), [(1, 0), (-1, 0), (0, 99)])
def test_frames_and_levels_that_do_not_exist_are_not_found(frame: int, z: int) -> None:
    with adapted(shared("data", SVS)) as slide, pytest.raises(NotFound):
        slide.read(frame, z, slide.info.unit(0, 0, 0))


@pytest.mark.parametrize("suffix", slides.SUFFIXES)
@pytest.mark.parametrize("content", [b"", b"nonsense" * 100, b"\xff\xd8\xff\xe0" + bytes(200)])
def test_a_file_that_is_no_slide_is_refused(suffix: str, content: bytes, tmp_path: Path) -> None:
    path = tmp_path / f"a{suffix.upper()}"
    path.write_bytes(content)
    with pytest.raises((Unsupported, Damaged), match="OpenSlide"):
        open_source(path, root=tmp_path)
    with pytest.raises(NotFound, match="does not exist"):
        open_source(tmp_path / f"gone{suffix}")


def test_a_refusal_stays_where_openslide_cannot_help() -> None:
    refusal = Unsupported("a reason of ours")
    volume = "imagecodecs__gray.depth.deflate.u1.tif"  # of which OpenSlide shows one slice
    for name in ("openslide-python__unopenable.tiff", "libvips__1bit.tif", volume):
        with pytest.raises(Unsupported, match="a reason of ours"):
            open_refused(refusal, shared("data", name), None, chunk_limit=1 << 30)
    with pytest.raises(Unsupported, match="a reason of ours"):
        open_refused(refusal, None, None, chunk_limit=1 << 30)


def test_a_refused_file_that_openslide_reads_is_opened_with_it() -> None:
    source = open_refused(Unsupported("ours"), shared("data", SVS), None, chunk_limit=1 << 30)
    assert source.info.format == "OpenSlide aperio"
    source.close()


async def test_without_the_extra_the_answer_names_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slides, "slide_library", lambda: None)
    path = tmp_path / "a.mrxs"
    path.write_bytes(b"\xff\xd8\xff\xe0")
    with pytest.raises(Unsupported, match="ours"):
        open_refused(Unsupported("ours"), path, None, chunk_limit=1 << 30)
    async with serving(path) as (client, base):
        answer = await client.get(base.removesuffix("/images"))
        assert answer.status == 415
        assert "gputiles[openslide]" in (await answer.json())["message"]
        assert await find(client, "a.mrxs")


# -- companions


def test_companions_do_not_lead_out_of_the_root(tmp_path: Path) -> None:
    root = tmp_path / "root"
    (root / "a").mkdir(parents=True)
    (tmp_path / "secret").write_bytes(b"")
    (root / "a.mrxs").write_bytes(b"")
    (root / "a" / "Slidedat.ini").symlink_to(tmp_path / "secret")
    with pytest.raises(Unsupported, match="leads out of its root"):
        open_source(root / "a.mrxs", root=root)
    (root / "b.vms").write_text("ImageFile(0,0) = ../secret\n")
    with pytest.raises(Damaged, match="not beside it"):
        open_source(root / "b.vms", root=root)


def test_a_slide_that_changes_is_not_current(tmp_path: Path) -> None:
    path = tmp_path / "a.svslide"
    shutil.copy(shared("data", SVS), path)
    source = open_source(path)
    assert source.is_current()
    path.touch()
    assert not source.is_current()
    path.unlink()
    with pytest.raises(FileNotFoundError):
        source.is_current()
    source.close()
