"""Companions of slides: the files beside a slide that a library opens by itself."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from gputiles.errors import Damaged, Unsupported
from gputiles.sources.bytesource import Companion, Gathered, Versioned, check_descriptors
from gputiles.sources.dicom import NoDicom, read_series

_MOST = 10_000  # companions of a slide
_MOST_TEXT = 1 << 20  # bytes of a VMS file
_NAMED = re.compile(r"^\s*(?:ImageFile|MacroImage|MapFile|OptimisationFile)[^=\n]*=[ \t]*(\S.*?)\s*$", re.M)
_LISTS = (".vms", ".vmu")
_RAW = "[Uncompressed Virtual Microscope Specimen]"
_SERIES = ".dcm"


def slide_files(path: Path, root: Path | None) -> tuple[Versioned, ...]:
    """Return a slide's file and its companions, there or not: all that its content depends on.

    Raises Unsupported where one of them leads out of ``root``, which no library looks at.
    """
    suffix = path.suffix.lower()
    if suffix == ".mrxs":
        folder = path.with_suffix("")
        return path, *_checked(path, root, _inside(folder), [Gathered(folder, _inside)])
    if suffix == _SERIES:
        return path, *_checked(path, root, _series(path), [Gathered(path, _series)])
    if suffix in _LISTS:
        named = _named(path)
        return path, *_checked(path, root, named, [Companion(file) for file in named])
    return (path,)


def _checked(
    path: Path, root: Path | None, companions: Sequence[Path], versioned: Sequence[Versioned]
) -> Sequence[Versioned]:
    for file in companions:
        if root is not None and not file.resolve().is_relative_to(root.resolve()):
            raise Unsupported(f"{path.name}: its companion {file.name!r} leads out of its root")
    return versioned


def fold(folder: Path, names: Iterable[str]) -> dict[str, tuple[str, ...]]:
    """Return {file: its companions} of the images in one folder: each of ``names`` once, in order.

    A series of DICOM files is its first one; pictures that a VMS or VMU file names are its companions.
    """
    found: dict[str, list[str]] = {name: [] for name in names}
    firsts: dict[str, str] = {}
    for name in list(found):
        if name.lower().endswith(_SERIES) and (series := _told(folder / name)) is not None:
            first = firsts.setdefault(series, name)
            found[first] += [] if first == name else [name, *found.pop(name)]
        elif name.lower().endswith(_LISTS):
            found[name] += [each for each in _listed(folder / name) if found.pop(each, None) is not None]
    return {name: tuple(companions) for name, companions in found.items()}


def _listed(path: Path) -> list[str]:
    """Return the names of the pictures that a VMS or VMU file has for companions, as far as it is one."""
    try:
        return [file.name for file in _named(path) if file.suffix.lower() == ".jpg"]
    except OSError as error:
        check_descriptors(error)
    except (Damaged, Unsupported):
        pass
    return []


def _told(file: Path) -> str | None:
    try:
        return read_series(file)
    except OSError as error:
        check_descriptors(error)
    except NoDicom:
        pass
    return None


def _inside(folder: Path) -> list[Path]:
    files = [file for file in sorted(folder.iterdir()) if file.is_file()] if folder.is_dir() else []
    if len(files) > _MOST:
        raise Unsupported(f"{folder.name}: {len(files)} files make one slide; most {_MOST}")
    return files


def _series(path: Path) -> list[Path]:
    """Return the files beside a DICOM file that may be of its series, by any name."""
    own = _told(path)
    return [file for file in _inside(path.parent) if file != path and _may_be_of(file, own)]


def _may_be_of(file: Path, series: str | None) -> bool:
    """Say whether a file may be of a series: one that is cut off, still being written, may."""
    try:
        told = read_series(file)
    except (NoDicom, FileNotFoundError):
        return False
    return series is None or told in (None, series)


def _named(path: Path) -> list[Path]:
    """Return the files that a VMS or VMU file names, there or not: they lie beside it."""
    with path.open("rb") as file:
        text = file.read(_MOST_TEXT).decode("latin-1")
    if path.suffix.lower() == ".vmu":
        _check_raw(path, text)
    names = dict.fromkeys(_NAMED.findall(text))
    for name in names:
        if Path(name).name != name or "\0" in name:
            raise Damaged(f"{path.name}: its companion {name[:80]!r} is not beside it")
    if len(names) > _MOST:
        raise Unsupported(f"{path.name}: {len(names)} files make one slide; most {_MOST}")
    return [path.parent / name for name in names]


def _check_raw(path: Path, text: str) -> None:
    """Raise Damaged where a VMU file does not tell its samples: OpenSlide 4.0 would end the process."""
    group, told = "", dict[str, str]()
    for line in map(str.strip, text.split("\n")):
        group = line if line.startswith("[") else group
        key, _, value = line.partition("=")
        told |= {key.strip(): value.strip()} if group == _RAW else {}
    if "\0" in text or (told.get("BitsPerPixel"), told.get("PixelOrder")) != ("36", "RGB"):
        raise Damaged(
            f"{path.name}: no VMU file that OpenSlide reads: BitsPerPixel has to be 36, PixelOrder RGB"
        )
