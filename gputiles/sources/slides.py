"""Slides that OpenSlide reads (the extra ``openslide``): MIRAX, Hamamatsu VMS, DICOM, Zeiss CZI, others."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gputiles.errors import Damaged, LimitExceeded, Unsupported
from gputiles.geometry import Grid, Rect
from gputiles.image import Colour, ImageInfo
from gputiles.sources import no_picture
from gputiles.sources.adapted import AdaptedSource, find_levels, single_unit
from gputiles.sources.bytesource import content_version
from gputiles.sources.companions import slide_files
from gputiles.sources.facts import tile_of, usable_profile, usual_tile
from gputiles.sources.layout import pixel_size

SUFFIXES = (".mrxs", ".vms", ".vmu", ".dcm", ".czi", ".svslide")
"""Endings of the files that only OpenSlide reads; it is asked about TIFF files that are refused, too."""

_CACHE = 1 << 25  # bytes of stored tiles that OpenSlide keeps decoded, for all slides together
_MOST_REASON = 300  # characters of what OpenSlide says


class Slide:
    """An open slide; see ``Adapter``."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._handle: Any = None
        slide = self._open()
        self._properties: Mapping[str, str] = _read_properties(slide)
        dimensions = dict(enumerate(slide.level_dimensions))
        grid = _grid(dimensions[0], self._properties)
        self._levels = find_levels(grid, dimensions)
        self._downsamples: tuple[float, ...] = slide.level_downsamples
        self.sizes = {z: dimensions[level] for z, level in self._levels.items()}
        self._background = _background(self._properties)
        warnings = _lacks(self._properties)
        self.info = ImageInfo(
            grid=grid,
            stored=tuple(z in self.sizes for z in range(grid.levels)),
            dtype=np.dtype(np.uint8),
            samples=3,
            colour=Colour.RGB,
            mm_x=pixel_size(1, _density(self._properties.get("openslide.mpp-x"))),
            mm_y=pixel_size(1, _density(self._properties.get("openslide.mpp-y"))),
            magnification=_number(self._properties.get("openslide.objective-power")),
            format=f"OpenSlide {self._properties.get('openslide.vendor', '')}".rstrip(),
            associated=tuple(sorted(slide.associated_images)),
            profile=_profile(slide, warnings),
            warnings=tuple(warnings),
        )

    def paint(self, frame: int, z: int, area: Rect) -> tuple[NDArray[Any], NDArray[np.uint8] | None]:
        """Return the colours of an area, and where the slide has any."""
        level = self._levels[z]
        place = tuple(round(side * self._downsamples[level]) for side in (area.x, area.y))
        image = self.ask(lambda slide: slide.read_region(place, level, (area.width, area.height)))
        return _split(np.asarray(image), self._background)

    def picture_size(self, name: str) -> tuple[int, int]:
        """Return (width, height) of an associated picture; NotFound where there is none of the name."""
        if name not in self.info.associated:
            raise no_picture(name)
        width, height = (
            int(_number(self._properties.get(f"openslide.associated.{name}.{side}")) or 0)
            for side in ("width", "height")
        )
        if width < 1 or height < 1:
            raise Damaged(f"{self._path.name}: the picture {name[:64]!r} is of {width}x{height} pixels")
        return width, height

    def ask(self, question: Callable[[Any], Any]) -> Any:
        """Return what the slide answers. Raises Damaged where it cannot.

        OpenSlide answers nothing more after an error: the next question opens the slide anew.
        """
        slide = self._handle or self._open()
        try:
            return question(slide)
        except (slide_library().OpenSlideError, OSError, ValueError) as error:
            self._handle = None
            raise Damaged(f"{self._path.name}: OpenSlide cannot read it: {self._reason(error)}") from error

    def _open(self) -> Any:
        library = slide_library()
        try:
            slide = library.OpenSlide(self._path)
        except library.OpenSlideUnsupportedFormatError as error:
            raise Unsupported(f"{self._path.name}: no format that OpenSlide reads") from error
        except (library.OpenSlideError, OSError) as error:
            raise Damaged(f"{self._path.name}: OpenSlide cannot open it: {self._reason(error)}") from error
        slide.set_cache(_shared_cache())
        self._handle = slide
        return slide

    def _reason(self, error: Exception) -> str:
        """Return what OpenSlide says, without the folders of this machine and what a file is full of."""
        folder = str(self._path.parent)
        told = str(error).replace(f"{folder}/", "").replace(folder, "")[:_MOST_REASON]
        return "".join(sign if sign.isprintable() else "\ufffd" for sign in told)

    def internals(self) -> dict[str, Any]:
        """Return OpenSlide's properties."""
        return {"tilesource": "openslide", "format": self.info.format, "openslide": dict(self._properties)}

    def close(self) -> None:
        """Let go of the slide: it is closed when the last reader has its answer."""
        self._handle = None


class SlidePicture:
    """An associated picture of a slide; see ``Adapter``."""

    def __init__(self, slide: Slide, name: str, chunk_limit: int) -> None:
        self._slide, self._name = slide, name
        width, height = slide.picture_size(name)
        if 4 * width * height > chunk_limit:
            raise LimitExceeded(
                f"the picture {name[:64]!r} of {width}x{height} pixels decodes to {4 * width * height} bytes;"
                f" most {chunk_limit}"
            )
        side = usual_tile((width, height))
        grid = Grid(width, height, side, side)
        full = grid.levels - 1
        self.sizes = {full: (width, height)}
        self.info = ImageInfo(
            grid=grid,
            stored=tuple(z == full for z in range(grid.levels)),
            dtype=np.dtype(np.uint8),
            samples=3,
            colour=Colour.RGB,
            format=slide.info.format,
            units=single_unit(grid),
        )

    def paint(self, frame: int, z: int, area: Rect) -> tuple[NDArray[Any], NDArray[np.uint8] | None]:
        """Return the colours of an area of the picture, which is decoded as a whole."""
        image = np.asarray(self._slide.ask(lambda slide: slide.associated_images[self._name]))
        if image.shape[:2] != self.sizes[z][::-1]:
            raise Damaged(f"the picture {self._name[:64]!r} is of {image.shape[1]}x{image.shape[0]} pixels")
        return _split(image[area.y : area.bottom, area.x : area.right], (255, 255, 255))

    def internals(self) -> dict[str, Any]:
        """Return OpenSlide's properties of the slide."""
        return self._slide.internals()

    def close(self) -> None:
        """Let go of the slide."""
        self._slide.close()


def open_slide(path: Path, root: Path | None, *, chunk_limit: int, associated: str | None) -> AdaptedSource:
    """Open a slide, or the ``associated`` picture of that name in it.

    Raises Unsupported, Damaged, NotFound or LimitExceeded with the reason.
    """
    paths = slide_files(path, root)
    version = content_version(paths)
    try:
        slide = Slide(path)
    except (slide_library().OpenSlideError, LookupError, ValueError, ArithmeticError) as error:
        raise Damaged(f"{path.name}: what OpenSlide tells of it makes no sense: {error!r}") from error
    adapter = slide if associated is None else SlidePicture(slide, associated, chunk_limit)
    return AdaptedSource(adapter, paths, version)


def knows_slide(path: Path) -> bool:
    """Say whether OpenSlide is installed and takes a TIFF file for one of a scanner.

    Of those that it calls generic it would show what our reader refuses wrongly, without a word:
    one slice of a volume.
    """
    library = slide_library()
    return library is not None and library.OpenSlide.detect_format(path) not in (None, "generic-tiff")


@cache
def slide_library() -> Any:
    """Return the library, or None where the extra is not installed; imported on first use."""
    try:
        return importlib.import_module("openslide")
    except (ImportError, OSError):  # the shared library may be missing, too
        return None


@cache
def _shared_cache() -> Any:
    return slide_library().OpenSlideCache(_CACHE)


def _read_properties(slide: Any) -> dict[str, str]:
    """Return the properties but those that OpenSlide lists and does not tell: of damaged texts."""
    found = {}
    for name in slide.properties:
        with suppress(KeyError, UnicodeDecodeError):
            found[name] = slide.properties[name]
    return found


def _grid(size: tuple[int, int], properties: Mapping[str, str]) -> Grid:
    own = [_number(properties.get(f"openslide.level[0].tile-{side}")) for side in ("width", "height")]
    tile_width, tile_height = (int(side or 0) for side in own)
    return Grid(*size, *tile_of(size, (tile_width, tile_height)))


def _split(
    pixels: NDArray[np.uint8], background: tuple[int, int, int]
) -> tuple[NDArray[np.uint8], NDArray[np.uint8] | None]:
    """Split straight RGBA into colours and where there are any; elsewhere is the slide's background."""
    colours, valid = np.ascontiguousarray(pixels[..., :3]), (pixels[..., 3:] > 0).astype(np.uint8)
    if valid.all():
        return colours, None
    return np.where(valid, colours, np.array(background, np.uint8)), valid


def _background(properties: Mapping[str, str]) -> tuple[int, int, int]:
    text = properties.get("openslide.background-color", "")
    try:
        red, green, blue = bytes.fromhex(text)
    except ValueError:  # untold
        return 255, 255, 255
    return red, green, blue


def _lacks(properties: Mapping[str, str]) -> list[str]:
    """Return warnings of what the slide says that it lacks."""
    resampled = properties.get("dicom.ImageType[3]") == "RESAMPLED"
    return ["full resolution is not there: the largest file of the series is resampled"] if resampled else []


def _number(text: str | None) -> float | None:
    try:
        value = float(text or "")
    except ValueError:
        return None
    return value if 0 < value < 1e9 else None


def _density(microns: str | None) -> float | None:
    """Return the pixels per millimetre."""
    size = _number(microns)
    return None if size is None else 1000 / size


def _profile(slide: Any, warnings: list[str]) -> bytes | None:
    try:
        profile = slide.color_profile
        data = None if profile is None else bytes(profile.tobytes())
    except Exception as error:  # Pillow's own kinds, of several modules
        warnings.append(f"the ICC profile is not applied: it cannot be read: {error}")
        return None
    return None if data is None else usable_profile(data, Colour.RGB, "", warnings)
