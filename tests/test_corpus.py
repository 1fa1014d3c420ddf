"""Every file of the shared cases and data: equal to what tifffile reads, or refused with a reason."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image

from gputiles.errors import Damaged, GputilesError, LimitExceeded, NotFound, Unsupported
from gputiles.geometry import Rect
from gputiles.sources import Source
from gputiles.sources.open import open_source
from tests.conftest import SHARED, shared
from tests.oracle import Plane, by_hand, lab_by_hand, levels, with_libtiff
from tests.reading import Pixels, decode, full, read_tile

CASES_FILE = SHARED / "cases" / "expected.json"
CASES = json.loads(CASES_FILE.read_text())["cases"] if CASES_FILE.exists() else []
SUFFIXES = {".tif", ".tiff", ".svs", ".ndpi", ".qptiff"}
DATA = sorted(path for path in (SHARED / "data").rglob("*") if path.suffix in SUFFIXES)
MOST_UNITS = 16  # of a level that are compared; of larger levels, a lattice of so many

# CMYK is converted to RGB: red ink is red
CONVERTED = {"cmyk_u8.tif": [255, 0, 0]}
# levels smaller than a tile are below the grid's coarsest level: nobody can ask for them
BELOW_GRID = {"levels_1_and_16_only.tif": 1, "ome_40ch_subifd.ome.tif": 2}
# cases that tifffile answers from a file that must not be read
ESCAPES = {"set_escape/evil.ome.tif"}

REFUSED = {
    "algart-tiff__invalid_error_non_completed.tiff": (Damaged, "without any image directory"),
    "algart-tiff__invalid_error_only_header.tiff": (Damaged, "without any image directory"),
    # tag values beyond the end of the file
    "image-tiff__graydepth-invert-overflow-5a0aad5024cc4ff3.tiff": (Damaged, "the file ends"),
    "metadata-extractor-images__m1-42c19f8e79e582bef107f372f18a074b.tif": (Damaged, "the file ends"),
    "imagecodecs__gray.depth.deflate.u1.tif": (Unsupported, "depth"),
    # the JPEG XR library crashes the whole process on damaged streams
    "imagecodecs__rgb.tiled.jpegxr.u1.tif": (Unsupported, "compression 34934 .JPEG XR."),
    "large_image__zero_gi.tif": (Damaged, "no pixels"),
    "openslide-python__unopenable.tiff": (Unsupported, "compression 52479"),
    "tifftools__bad_header1.tif": (Damaged, "version 298"),
    "tifftools__bad_header2.tif": (Damaged, "1-byte offsets"),
}
# opened, but some chunks are damaged: the files were made so
DAMAGED_CHUNKS = {
    "Pillow__crash-0e16d3bfb83be87356d026d66919deaefca44dac.tif": "the file ends",
    "Pillow__tiff_overflow_rows_per_strip.tif": "fewer bytes than rows",
    "image-tiff__sample-get-lzw-stuck.tiff": "the file ends",
    "metadata-extractor-images__m3-f0d7bcb90496c323c880a9773dfe93ff.tif": "marker",
    "openslide-python__unreadable.svs": "without a marker",
    "rasterio__corrupt.tif": "the file ends",
    "tifftools__bad_jpeg2.tif": "Quantization table",
    "deflate_corrupt_middle_tile.tif": "does not decode",
    "jpeg_corrupt_middle_tile.tif": "without a marker",
    "truncated.tif": "the file ends",
}
# read here, refused by tifffile: what libtiff reads, to within so many levels of grey
BEYOND_TIFFFILE = {
    "libtiff__deflate-last-strip-extra-data.tiff": ("LIBDEFLATE_INSUFFICIENT_SPACE", 0),
    "libvips__subsampled.tif": ("subsampling", 1),
}
# read here, refused by tifffile and by what Pillow has of libtiff
# by these, to within so many levels: LittleCMS, too, rounds dark colours apart
BY_HAND = {
    "TwelveMonkeys__planar-yuv420-jpeg-lzw.tif": (by_hand, 0),
    "Pillow__hopper.Lab.tif": (lab_by_hand, 9),
    "image-tiff__off_luv32.tif": (with_libtiff, 0),
}
# tifffile stops before the end of these chains
SHORTER_CHAIN = {"cyclic_ifd_to_first.tif", "libtiff__test_ifd_loop_subifd.tif"}


@pytest.fixture(autouse=True)
def _silent_tifffile() -> None:
    logging.getLogger("tifffile").setLevel(logging.CRITICAL + 1)


# -- synthetic cases, whose values come from formulas


def frame_of(source: Source, plane: Any) -> int:
    if isinstance(plane, int):
        return plane
    strides = source.info.strides()
    return sum(strides.get(axis.upper(), 0) * index for axis, index in plane.items())


def check_probe(source: Source, name: str, probe: list[Any]) -> None:
    number, plane, y, x, value, tolerance = probe
    stored = [z for z in range(source.info.levels) if source.info.stored[z]][::-1]
    if number >= BELOW_GRID.get(name, 99):
        return
    z, info = stored[number], source.info
    tile = read_tile(source, frame_of(source, plane), z, x // info.tile_width, y // info.tile_height)
    if isinstance(tile, GputilesError):
        raise tile
    got = tile[y % info.tile_height, x % info.tile_width].astype(np.float64)
    wanted = np.array(CONVERTED.get(name, value), np.float64).reshape(-1)
    np.testing.assert_allclose(got, wanted, rtol=0, atol=tolerance)


def damaged_tiles(source: Source) -> int:
    z = source.info.levels - 1
    columns, rows = source.info.grid.tiles(z)
    tiles = [read_tile(source, 0, z, x, y) for y in range(rows) for x in range(columns)]
    errors = [tile for tile in tiles if isinstance(tile, GputilesError)]
    assert all(isinstance(error, Damaged) for error in errors)
    return len(errors)


@pytest.mark.parametrize("case", CASES, ids=[case["file"] for case in CASES])
def test_case_is_read_as_expected(case: dict[str, Any]) -> None:
    path = shared("cases", case["file"])
    expect = case["expect"]
    if expect in ("open_error", "unsupported", "refused"):
        wanted = {"open_error": Damaged, "unsupported": Unsupported, "refused": LimitExceeded}[expect]
        with pytest.raises(wanted):
            open_source(path)
        return
    source = open_source(path, root=shared("cases"))
    for probe in case["probes"]:
        check_probe(source, case["file"], probe)
    if expect == "one_tile_error":
        assert damaged_tiles(source) == 1
    elif case["file"] == "truncated.tif":
        assert damaged_tiles(source) == 4
    elif expect == "tile_error_or_first_bytes":  # tifffile would decode the bomb
        assert damaged_tiles(source) <= 1
    elif expect == "partial":
        assert source.info.warnings
    if expect != "tile_error_or_first_bytes" and case["file"] not in ESCAPES:
        compare(source, path)
    source.close()


def test_every_case_has_an_expectation_and_every_file_of_the_data_a_test() -> None:
    folder = shared("cases")
    files = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.suffix in SUFFIXES}
    assert files == {case["file"] for case in CASES}
    manifest = shared("data", "MANIFEST.tsv").read_text().splitlines()[1:]
    listed = {line.split("\t")[0] for line in manifest}
    tested = {path.relative_to(SHARED / "data").as_posix() for path in DATA}
    assert {name for name in listed if not name.endswith(".companion.ome")} == tested
    assert set(REFUSED) | set(BEYOND_TIFFFILE) <= {path.name for path in DATA}


# -- real files


@pytest.mark.parametrize("path", DATA, ids=[path.relative_to(SHARED / "data").as_posix() for path in DATA])
def test_file_is_read_as_tifffile_reads_it_or_refused_with_a_reason(path: Path) -> None:
    if path.name in REFUSED:
        error, reason = REFUSED[path.name]
        with pytest.raises(error, match=reason):
            open_source(path)
        return
    source = open_source(path, root=SHARED / "data")
    if path.name in BEYOND_TIFFFILE:
        compare_with_libtiff(source, path)
    elif path.name in BY_HAND:
        read, tolerance = BY_HAND[path.name]
        np.testing.assert_allclose(full(source).astype(int), read(path).astype(int), rtol=0, atol=tolerance)
    else:
        compare(source, path)
    source.close()


def compare_with_libtiff(source: Source, path: Path) -> None:
    complaint, tolerance = BEYOND_TIFFFILE[path.name]
    with pytest.raises(Exception, match=complaint), tifffile.TiffFile(path) as tif:
        tif.pages[0].asarray()
    with Image.open(path) as image:
        truth = np.asarray(image).reshape(image.height, image.width, -1)
    np.testing.assert_allclose(full(source).astype(int), truth.astype(int), rtol=0, atol=tolerance)


def compare(source: Source, path: Path) -> None:
    """Compare every frame of every level; a tile fails where tifffile fails and nowhere else."""
    info = source.info
    errors: list[str] = []
    with tifffile.TiffFile(path) as tif:
        truth = levels(path, tif)
        stored = {k for k in range(info.levels) if info.stored[info.levels - 1 - k]}
        assert stored == {k for k in truth if k < info.levels}
        for k in stored:
            planes = truth[k]
            if path.name not in SHORTER_CHAIN:
                assert len(planes) == len(info.frames)
            assert info.missing == {frame for frame, plane in enumerate(planes) if plane is None}
            for frame, plane in enumerate(planes):
                errors += compare_plane(source, frame, info.levels - 1 - k, plane)
    if path.name in DAMAGED_CHUNKS:
        assert errors
        assert any(DAMAGED_CHUNKS[path.name] in error for error in errors), errors
    else:
        assert not errors


def compare_plane(source: Source, frame: int, z: int, plane: Plane | None) -> list[str]:
    """Compare a frame at a level; return the errors of the tiles that neither side reads."""
    if plane is None:
        with pytest.raises(NotFound):
            source.read(frame, z, source.info.unit(z, 0, 0))
        return []
    errors = []
    for unit in chosen_units(source, z, plane):
        job = source.read(frame, z, unit)
        for rect, tile in zip(job.tiles, decode(job), strict=True):
            if isinstance(tile, GputilesError):
                with pytest.raises(Exception, match=r"."):
                    crop(plane, rect)
                errors.append(str(tile))
            else:
                np.testing.assert_array_equal(tile, crop(plane, rect), strict=True)
    return errors


def chosen_units(source: Source, z: int, plane: Plane) -> Iterator[Rect]:
    """Yield the units of a level, or a lattice of them with the last one and some that hold data."""
    grid = source.info.grid
    columns, rows = grid.tiles(z)
    units = list(dict.fromkeys(source.info.unit(z, x, y) for x, y in Rect(0, 0, columns, rows).cells()))
    step = max(len(units) // MOST_UNITS, 1)
    full = [(x // grid.tile_width, y // grid.tile_height) for x, y in plane.places()] if step > 1 else []
    yield from dict.fromkeys((*units[::step], units[-1], *(source.info.unit(z, *cell) for cell in full)))


def crop(plane: Plane, rect: Rect) -> Pixels:
    """Return a rectangle of a plane; a row or column that the level lacks is the last one again."""
    width, height = plane.size
    left, top = min(rect.x, width - 1), min(rect.y, height - 1)
    right, bottom = max(min(rect.right, width), left + 1), max(min(rect.bottom, height), top + 1)
    pixels = plane.crop(Rect(left, top, right - left, bottom - top))
    missing = (0, rect.height - pixels.shape[0]), (0, rect.width - pixels.shape[1]), (0, 0)
    assert max(missing)[1] <= 1
    return np.pad(pixels, missing, mode="edge")
