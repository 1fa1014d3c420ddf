"""Companions of slides: the files beside a slide that a library opens by itself."""

from __future__ import annotations

import re
from pathlib import Path

from gputiles.errors import Damaged, Unsupported

_MOST = 10_000  # companions of a slide
_MOST_TEXT = 1 << 20  # bytes of a VMS file
_NAMED = re.compile(r"^\s*(?:ImageFile|MacroImage|MapFile|OptimisationFile)[^=]*=\s*(\S.*?)\s*$", re.M)


def slide_files(path: Path, root: Path | None) -> tuple[Path, ...]:
    """Return a slide's file and its companions: all that its content depends on.

    Raises Unsupported where one of them leads out of ``root``, which no library looks at.
    """
    suffix = path.suffix.lower()
    files = [path]
    if suffix == ".mrxs":
        files += _inside(path.with_suffix(""))
    elif suffix in (".vms", ".vmu"):
        files += _named(path)
    elif suffix == ".dcm":  # the slide's other levels may be any of its neighbours
        files += [file for file in _inside(path.parent) if file != path]
    for file in files[1:]:
        if root is not None and not file.resolve().is_relative_to(root.resolve()):
            raise Unsupported(f"{path.name}: its companion {file.name!r} leads out of its root")
    return tuple(files)


def _inside(folder: Path) -> list[Path]:
    files = [file for file in sorted(folder.iterdir()) if file.is_file()] if folder.is_dir() else []
    if len(files) > _MOST:
        raise Unsupported(f"{folder.name}: {len(files)} files make one slide; most {_MOST}")
    return files


def _named(path: Path) -> list[Path]:
    """Return the files that a VMS or VMU file names, of those beside it."""
    with path.open("rb") as file:
        text = file.read(_MOST_TEXT).decode("latin-1")
    names = dict.fromkeys(_NAMED.findall(text))
    for name in names:
        if Path(name).name != name:
            raise Damaged(f"{path.name}: its companion {name[:80]!r} is not beside it")
    return [file for name in names if (file := path.parent / name).is_file()]
