"""What tifffile reads of a file: the pages of every level and frame, and rectangles of them.

Only the segments under a rectangle are decoded, so that huge pages can be looked at, too. What
tifffile hands out in the colours of the file (YCbCr, CMYK, 33003) is converted here by formulas
of the specification in float64.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import imagecodecs
import numpy as np
import tifffile
from numpy.typing import NDArray
from PIL import Image, ImageCms

from gputiles.geometry import Rect

Pixels = NDArray[Any]
JPEG_2000_YCBCR = 33003


class Plane(Protocol):
    """A frame at one level: its size, and rectangles of it as (rows, columns, samples)."""

    @property
    def size(self) -> tuple[int, int]: ...

    def crop(self, rect: Rect) -> Pixels: ...

    def places(self) -> list[tuple[int, int]]:
        """Return (x, y) of a few pixels that are stored."""


@dataclass(frozen=True)
class ArrayPlane:
    """A plane of an array that was read whole."""

    array: Pixels

    @property
    def size(self) -> tuple[int, int]:
        return self.array.shape[1], self.array.shape[0]

    def crop(self, rect: Rect) -> Pixels:
        return self.array[rect.y : rect.bottom, rect.x : rect.right]

    def places(self) -> list[tuple[int, int]]:
        return [(self.array.shape[1] // 2, self.array.shape[0] // 2)]


@dataclass(frozen=True)
class PagePlane:
    """A page; its segments are decoded as they are asked for."""

    page: tifffile.TiffPage

    @property
    def size(self) -> tuple[int, int]:
        return self.page.imagewidth, self.page.imagelength

    def crop(self, rect: Rect) -> Pixels:
        """Return the rectangle; raises what tifffile raises at a segment that it cannot decode."""
        page = self.page
        separate = page.planarconfig == 2 and page.samplesperpixel > 1
        samples = page.samplesperpixel
        pixels = np.full((rect.height, rect.width, samples), page.nodata, page.dtype)
        for index in self._segments(rect, samples if separate else 1):
            segment, (sample, _, top, left, _), _ = self._decode(index)
            if segment is None:
                continue
            bands = slice(sample, sample + 1) if separate else slice(None)
            place = Rect(left, top, segment.shape[2], segment.shape[1])
            both = place.intersect(rect)
            if both is not None:
                cut = segment[0, both.y - top : both.bottom - top, both.x - left : both.right - left]
                pixels[
                    both.y - rect.y : both.bottom - rect.y, both.x - rect.x : both.right - rect.x, bands
                ] = cut
        return converted(page, pixels)

    def places(self) -> list[tuple[int, int]]:
        width, height = self._segment_size()
        columns = -(-self.page.imagewidth // width)
        rows = -(-self.page.imagelength // height)
        kept = [index for index in range(columns * rows) if self.page.databytecounts[index]][:4]
        return [(index % columns * width, index // columns * height) for index in kept]

    def _segment_size(self) -> tuple[int, int]:
        page = self.page
        if page.is_tiled or page.is_ndpi:
            return page.tilewidth, page.tilelength
        return page.imagewidth, page.rowsperstrip

    def _segments(self, rect: Rect, planes: int) -> list[int]:
        page = self.page
        width, height = self._segment_size()
        columns, rows = -(-page.imagewidth // width), -(-page.imagelength // height)
        return [
            (plane * rows + row) * columns + column
            for plane in range(planes)
            for row in range(rect.y // height, -(-rect.bottom // height))
            for column in range(rect.x // width, -(-rect.right // width))
        ]

    def _decode(self, index: int) -> tuple[Pixels | None, tuple[int, ...], tuple[int, ...]]:
        page = self.page
        offset, size = page.dataoffsets[index], page.databytecounts[index]
        data = None
        if size:
            page.parent.filehandle.seek(offset)
            data = page.parent.filehandle.read(size)
        options = {} if page.jpegheader is None else {"jpegheader": page.jpegheader}
        tables = {} if page.jpegtables is None else {"jpegtables": page.jpegtables}
        return page.decode(data, index, **tables, **options)


def converted(page: tifffile.TiffPage, pixels: Pixels) -> Pixels:
    """Return ``pixels`` in the colours and types that are served."""
    if pixels.dtype == bool:
        return pixels.astype(np.uint8)
    if pixels.dtype == np.float16:
        return pixels.astype(np.float32)
    if pixels.dtype.kind == "c":
        return np.hypot(pixels.real, pixels.imag)
    if page.extrasamples[-1:] == (1,) and page.planarconfig == 1:
        pixels = straight(pixels)
        if page.photometric != 5:
            return pixels
    bare = page.compression not in (6, 7, 34712)
    if page.compression == JPEG_2000_YCBCR or (page.photometric == 6 and bare):
        return from_ycbcr(pixels, page.tags.valueof(532))
    if page.photometric == 5:
        top = np.iinfo(pixels.dtype).max
        light = top - pixels[..., :4].astype(np.float64)
        mixed = np.floor(light[..., :3] * light[..., 3:] / top + 0.5).astype(pixels.dtype)
        return np.concatenate([mixed, pixels[..., 4:]], -1)
    return pixels


def by_hand(path: Path) -> Pixels:
    """Return the RGB of planes of YCbCr, LZW with differences, of which four pixels share the chroma."""
    with tifffile.TiffFile(path) as tif:
        page = tif.pages[0].aspage()
        reference = page.tags.valueof(532)
        planes = [
            imagecodecs.lzw_decode(path.read_bytes()[offset : offset + size])
            for offset, size in zip(page.dataoffsets, page.databytecounts, strict=True)
        ]
    y, cb, cr = (np.frombuffer(plane, np.uint8) for plane in planes)
    y = np.cumsum(y.reshape(64, 256), 1, dtype=np.uint8)
    chroma = (np.cumsum(plane.reshape(32, 128), 1, dtype=np.uint8) for plane in (cb, cr))
    whole = [y, *(plane.repeat(2, 0).repeat(2, 1) for plane in chroma)]
    return from_ycbcr(np.stack(whole, -1), reference)


def straight(pixels: Pixels) -> Pixels:
    """Divide colours by their alpha, rounded to nearest."""
    top, alpha = np.iinfo(pixels.dtype).max, pixels[..., -1:].astype(np.float64)
    quotients = pixels[..., :-1] * float(top) / np.where(alpha > 0, alpha, np.inf)
    colours = np.minimum(np.floor(quotients + 0.5), top)
    return np.concatenate([colours.astype(pixels.dtype), pixels[..., -1:]], -1)


def lab_by_hand(path: Path) -> Pixels:
    """Return the RGB of a file of L*a*b* as LittleCMS converts it."""
    profiles = ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB")
    with Image.open(path) as image:
        converted = ImageCms.profileToProfile(image, *profiles, outputMode="RGB")
    assert converted is not None
    return np.asarray(converted)


def with_libtiff(path: Path) -> Pixels:
    """Return the RGB that libtiff makes of a file."""
    return np.asarray(imagecodecs.tiff_decode(path.read_bytes(), asrgb=True))[..., :3]


def from_ycbcr(pixels: Pixels, reference: Any) -> Pixels:
    """Convert 8-bit YCbCr as TIFF 6.0 section 21 says, with BT.601's luma."""
    black_y, white_y, black_b, white_b, black_r, white_r = quotients(reference)
    y, cb, cr = np.moveaxis(pixels.astype(np.float64), -1, 0)
    y = (y - black_y) * 255 / (white_y - black_y)
    cb = (cb - black_b) * 127 / (white_b - black_b)
    cr = (cr - black_r) * 127 / (white_r - black_r)
    red, blue = y + 1.402 * cr, y + 1.772 * cb
    green = (y - 0.299 * red - 0.114 * blue) / 0.587
    return np.clip(np.rint(np.stack([red, green, blue], -1)), 0, 255).astype(np.uint8)


def quotients(reference: Any) -> list[float]:
    """Return the six values of tag 532, which are numbers or (top, bottom) of rationals."""
    if reference is None:
        return [0, 255, 128, 255, 128, 255]
    if len(reference) == 12:
        return [top / bottom for top, bottom in zip(reference[::2], reference[1::2], strict=True)]
    return [float(value) for value in reference]


def levels(path: Path, tif: tifffile.TiffFile) -> dict[int, list[Plane | None]]:
    """Return {k: planes} of the levels that are 2**k smaller; None for absent planes.

    Frames of OME files are in the order of the file's axes, of others C fastest, then Z, then T.
    """
    companions = sorted(path.parent.glob("*.companion.ome"))
    if companions:  # which tifffile does not follow from one of the set's pages
        arrays = [tifffile.imread(file, key=0, is_ome=False) for file in sorted(path.parent.glob("*.tiff"))]
        return {0: [ArrayPlane(array[..., np.newaxis]) for array in arrays]}
    series = tif.series[0] if len(tif.series) else None
    if series is not None and series.kind in ("ome", "imagej") and len(series.shape) > 2:
        return _series_levels(series)
    return _page_levels(tif)


def _series_levels(series: tifffile.TiffPageSeries) -> dict[int, list[Plane | None]]:
    found: dict[int, list[Plane | None]] = {}
    full = _width(series)
    absent = [page is None for page in series.pages] if series.kind == "ome" else []
    for level in series.levels:
        k = round(np.log2(full / _width(level)))
        if abs(_width(level) - full / 2**k) <= 1:
            planes = _series_frames(level, frame_axes(series))
            gone = absent if len(absent) == len(planes) else [False] * len(planes)
            gone = _in_frame_order(series, gone)
            found[k] = [None if lost else ArrayPlane(plane) for plane, lost in zip(planes, gone, strict=True)]
    return found


def _width(series: tifffile.TiffPageSeries) -> int:
    width: int = series.shape[series.axes.index("X")]
    return width


def frame_axes(series: tifffile.TiffPageSeries) -> str:
    """Return the axes of frames, the slowest first."""
    axes: str = series.axes
    return "".join(axis for axis in (axes if series.kind == "ome" else "TZC") if axis in "TZC")


def _in_frame_order(series: tifffile.TiffPageSeries, values: list[bool]) -> list[bool]:
    """Return values that lie in the order of the series' axes in that of frames."""
    axes = [axis for axis in series.axes if axis in "TZC"]
    shape = [series.shape[series.axes.index(axis)] for axis in axes]
    if int(np.prod(shape, dtype=int)) != len(values):
        return values
    order = [axes.index(axis) for axis in frame_axes(series) if axis in axes]
    ordered: list[bool] = np.array(values).reshape(shape).transpose(order).reshape(-1).tolist()
    return ordered


def _series_frames(series: tifffile.TiffPageSeries, frames: str) -> list[Pixels]:
    array, axes = series.asarray(), series.axes
    order = [axes.index(axis) for axis in frames + "YXS" if axis in axes]
    assert len(order) == array.ndim, axes
    array = array.transpose(order)
    planes = array.reshape(-1, *array.shape[-3 if "S" in axes else -2 :])
    return [
        plane.reshape(*plane.shape[:2], -1).astype(np.float32 if plane.dtype == np.float16 else plane.dtype)
        for plane in planes
    ]


def _page_levels(tif: tifffile.TiffFile) -> dict[int, list[Plane | None]]:
    """Group pages by size: the largest of their kind are frames, others levels of them."""
    # by index: iterating over a chain that runs in a circle stops at its first page
    chain = (_whole(tif.pages[index]) for index in range(len(tif.pages)))
    pages = [page for page in chain if page is not None and not _is_mask(page)]
    if tif.is_svs:  # Aperio's thumbnail, label and macro are in strips
        pages = [page for page in pages if page.is_tiled]
    candidates = [page for page in pages if not page.subfiletype & 1] or pages
    main = max(candidates, key=lambda page: page.imagewidth * page.imagelength)
    frames = [page for page in candidates if _kind(page) == _kind(main) and _size(page) == _size(main)]
    found: dict[int, list[Plane | None]] = {0: [PagePlane(page) for page in frames]}
    subs = [[_whole(sub) for sub in page.pages or ()] for page in frames]
    for k in range(1, 32):
        inside = [[sub for sub in each if sub is not None and _fits(sub, main, k)] for each in subs]
        beside = [page for page in pages if _fits(page, main, k)]
        if inside and all(inside):
            found[k] = [PagePlane(each[0]) for each in inside]
        elif len(beside) == len(frames):
            found[k] = [PagePlane(page) for page in beside]
    return found


def _whole(page: Any) -> tifffile.TiffPage | None:
    try:
        return page.aspage()
    except (tifffile.TiffFileError, IndexError, ValueError):  # not a page that can be read
        return None


def _is_mask(page: tifffile.TiffPage) -> bool:
    return bool(page.subfiletype & 4) or page.photometric == 4


def _kind(page: tifffile.TiffPage) -> tuple[Any, ...]:
    return page.samplesperpixel, page.dtype, page.photometric


def _size(page: tifffile.TiffPage) -> tuple[int, int]:
    return page.imagewidth, page.imagelength


def _fits(page: tifffile.TiffPage, main: tifffile.TiffPage, k: int) -> bool:
    near = [abs(side - whole / 2**k) <= 1 for side, whole in zip(_size(page), _size(main), strict=True)]
    return all(near) and _kind(page)[:2] == _kind(main)[:2]
