"""Every file of the shared cases and data: read rightly, or refused with a reason."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray

from gputiles.errors import Damaged, GputilesError, LimitExceeded, NotFound, Unsupported
from gputiles.sources import Source
from gputiles.sources.colour import FULL_RANGE, ycbcr_to_rgb
from gputiles.sources.open import open_source
from tests.conftest import SHARED, shared
from tests.reading import full, read_tile

CASES_FILE = SHARED / "cases" / "expected.json"
CASES = json.loads(CASES_FILE.read_text())["cases"] if CASES_FILE.exists() else []
SUFFIXES = {".tif", ".tiff", ".svs", ".ndpi", ".qptiff"}
DATA = sorted(path for path in (SHARED / "data").rglob("*") if path.suffix in SUFFIXES)
MOST = 220_000_000  # samples that an oracle may read whole

# CMYK is converted to RGB: red ink is red
CONVERTED = {"cmyk_u8.tif": [255, 0, 0]}
# levels smaller than a tile are below the grid's coarsest level: nobody can ask for them
BELOW_GRID = {"levels_1_and_16_only.tif": 1, "ome_40ch_subifd.ome.tif": 2}

REFUSED = {
    "Pillow__hopper.Lab.tif": (Unsupported, "CIE L"),
    "Pillow__tiff_tiled_cmyk_jpeg.tif": (Unsupported, "separated colours .* compression 7"),
    "TwelveMonkeys__cmyk-with-non-alpha-extra-channel.tiff": (Unsupported, "separated colours of 5"),
    "TwelveMonkeys__planar-yuv420-jpeg-lzw.tif": (Unsupported, "YCbCr other than"),
    "algart-tiff__invalid_error_non_completed.tiff": (Damaged, "without any image directory"),
    "algart-tiff__invalid_error_only_header.tiff": (Damaged, "without any image directory"),
    "image-tiff__flower-minisblack-24.tif": (Unsupported, "24-bit"),
    # tag values beyond the end of the file
    "image-tiff__graydepth-invert-overflow-5a0aad5024cc4ff3.tiff": (Damaged, "the file ends"),
    "metadata-extractor-images__m1-42c19f8e79e582bef107f372f18a074b.tif": (Damaged, "the file ends"),
    "image-tiff__off_luv32.tif": (Unsupported, "LogLuv"),
    "imagecodecs__gray.c16.tif": (Unsupported, "complex"),
    "imagecodecs__gray.depth.deflate.u1.tif": (Unsupported, "depth"),
    # the JPEG XR library crashes the whole process on damaged streams
    "imagecodecs__rgb.tiled.jpegxr.u1.tif": (Unsupported, "compression 34934 .JPEG XR."),
    "large_image__zero_gi.tif": (Damaged, "no pixels"),
    "libtiff.net__cmyka-tile.tif": (Unsupported, "separated colours of 5"),
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
}
# read here, refused by tifffile
BEYOND_TIFFFILE = {
    "libtiff__deflate-last-strip-extra-data.tiff": "LIBDEFLATE_INSUFFICIENT_SPACE",
    "libvips__subsampled.tif": "subsampling",
}
# tifffile stops a page before the end of this chain
SHORTER_CHAIN = {"libtiff__test_ifd_loop_subifd.tif"}
# more memory than a test should take; its smaller levels are the same file
TOO_LARGE = {"cogeotiff__sparse.tiff"}


@pytest.fixture(autouse=True)
def _silent_tifffile() -> None:
    logging.getLogger("tifffile").setLevel(logging.CRITICAL + 1)


def frame_of(source: Source, plane: Any) -> int:
    if isinstance(plane, int):
        return plane
    strides = source.info.strides()
    return sum(strides.get(axis.upper(), 0) * index for axis, index in plane.items())


def check_probe(source: Source, name: str, probe: list[Any]) -> None:
    number, plane, y, x, value, tolerance = probe
    levels = [z for z in range(source.info.levels) if source.info.stored[z]][::-1]
    if number >= BELOW_GRID.get(name, 99):
        return
    z, info = levels[number], source.info
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
    elif expect == "tile_error_or_first_bytes":
        assert damaged_tiles(source) <= 1
    elif expect == "partial":
        assert source.info.warnings
    source.close()


def oracle(path: Path) -> tuple[list[NDArray[Any]], list[tifffile.TiffPage]]:
    """Return the full-resolution frames as tifffile reads them, (rows, columns, samples), and pages."""
    if path.parent.name == "viv__set_companion":
        files = sorted(path.parent.glob("*.tiff"))
        return [tifffile.imread(file, key=0, is_ome=False)[..., np.newaxis] for file in files], []
    with tifffile.TiffFile(path) as tif:
        series = tif.series[0]
        if series.kind in ("ome", "imagej") and len(series.shape) > 2:
            return _series_frames(series), [tif.pages[0]]
        pages = [tif.pages[index].aspage() for index in range(len(tif.pages))]
        pages = [page for page in pages if not page.subfiletype & 5] or pages
        main = max(pages, key=lambda page: page.imagewidth * page.imagelength)
        pages = [page for page in pages if _kind(page) == _kind(main)]
        if tif.is_svs:  # Aperio's thumbnail is in strips
            pages = [page for page in pages if page.is_tiled]
        return [_page_frame(page) for page in (*pages[:2], *pages[2:][-1:])], pages


def _kind(page: tifffile.TiffPage) -> tuple[Any, ...]:
    return page.imagewidth, page.imagelength, page.samplesperpixel, page.dtype, page.photometric


def _series_frames(series: tifffile.TiffPageSeries) -> list[NDArray[Any]]:
    """Return the planes of a series, C fastest, then Z, then T."""
    array, axes = series.asarray(), series.axes
    order = [axes.index(axis) for axis in "TZC" if axis in axes]
    order += [axes.index(axis) for axis in "YXS" if axis in axes]
    assert len(order) == array.ndim, axes
    array = array.transpose(order)
    planes = array.reshape(-1, *array.shape[-3 if "S" in axes else -2 :])
    return [plane.reshape(*plane.shape[:2], -1) for plane in planes]


def _page_frame(page: tifffile.TiffPage) -> NDArray[Any]:
    array = page.asarray()
    if page.planarconfig == 2 and page.samplesperpixel > 1:
        array = np.moveaxis(array, 0, -1)
    array = array.reshape(page.imagelength, page.imagewidth, -1)
    if page.photometric == 6 and page.compression == 1:
        reference = page.tags.valueof(532)
        assert reference is None or len(reference) == 6  # integers: as rationals there would be 12
        array = ycbcr_to_rgb(array, FULL_RANGE if reference is None else tuple(map(float, reference)))
    return array


def as_served(array: NDArray[Any]) -> NDArray[Any]:
    return array.astype({"bool": np.uint8, "float16": np.float32}.get(array.dtype.name, array.dtype))


@pytest.mark.parametrize("path", DATA, ids=[path.relative_to(SHARED / "data").as_posix() for path in DATA])
def test_file_is_read_as_tifffile_reads_it_or_refused_with_a_reason(path: Path) -> None:
    if path.name in REFUSED:
        error, reason = REFUSED[path.name]
        with pytest.raises(error, match=reason):
            open_source(path)
        return
    source = open_source(path, root=SHARED / "data")
    if path.name in DAMAGED_CHUNKS:
        with pytest.raises(Damaged, match=DAMAGED_CHUNKS[path.name]):
            full(source)
    elif path.name in BEYOND_TIFFFILE:
        with pytest.raises(Exception, match=BEYOND_TIFFFILE[path.name]):
            oracle(path)
        assert full(source).any()
    elif path.name in TOO_LARGE:
        assert not isinstance(read_tile(source, 0, source.info.levels - 1, 0, 0), GputilesError)
    elif path.name in SHORTER_CHAIN:
        np.testing.assert_array_equal(full(source), oracle(path)[0][0])
    else:
        compare(source, path)
    source.close()


def compare(source: Source, path: Path) -> None:
    info = source.info
    truth, pages = oracle(path)
    count = len(info.frames)
    if len(truth) == count:
        chosen = list(range(count)) if count < 4 else [0, 1, count - 1]
    else:
        assert len(pages) == count
        chosen = [0, 1, count - 1]
        truth = dict(zip(chosen, truth, strict=True))  # type: ignore[assignment]
    for frame in chosen:
        if frame in info.missing:
            with pytest.raises(NotFound):
                full(source, frame)
            continue
        np.testing.assert_array_equal(full(source, frame), as_served(truth[frame]))
