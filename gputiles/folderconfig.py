"""The configuration that large_image keeps in folders: the presets that it gives to the images there.

The file of a folder counts, else that of the nearest folder above it, up to the root, and at last that in
the root's folder ``.config``. One that says ``__inherit__: true`` is laid over the next one above. What
is there for people who have signed in (``access``, ``groups``, ``users``) is nobody's here. All of this
is for the reading room.
"""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from gputiles import yamltext
from gputiles.errors import BadRequest, GputilesError, Unavailable, Unsupported
from gputiles.image import ImageInfo
from gputiles.namedviews import PRESETS, applies, named
from gputiles.sources.bytesource import check_descriptors
from gputiles.walk import FileRef, printable

NAME = ".large_image_config.yaml"
MOST = 200  # presets of a folder
DEFAULTS = "imageFramePresetDefaults"
OF_PEOPLE = ("access", "groups", "users")

Stamp: TypeAlias = tuple[str, tuple[int, ...] | None]
"""A file's name below the root, and its version (size, mtime_ns, ctime_ns, inode); None: not to be read."""


@dataclass(frozen=True, slots=True)
class FolderView:
    """A preset of a folder's images: its name, its view as JSON text, and the file that it comes from."""

    name: str
    body: str
    file: str


@dataclass(frozen=True, slots=True)
class FolderConfig:
    """What the files say of a folder, as they were when it was read.

    ``defaults`` are the names of presets to begin with, the best first. ``complaints`` are about what
    cannot be understood, each with the file's version.
    """

    stamps: tuple[Stamp, ...] = ()
    views: tuple[FolderView, ...] = ()
    defaults: tuple[str, ...] = ()
    complaints: tuple[tuple[Stamp, str], ...] = ()


def read(ref: FileRef, known: FolderConfig | None) -> FolderConfig:
    """Return what the configuration of a file's folder says: ``known``, where no file has changed since.

    What is wrong with a file is a complaint. Raises OutOfDescriptors.
    """
    found = list(_find(ref))
    stamps = tuple(stamp for stamp, _ in found)
    return known if known is not None and known.stamps == stamps else _read(found, stamps)


def _find(ref: FileRef) -> Iterator[tuple[Stamp, Path | None]]:
    """Yield the files that there are, the nearest first; no path for one that may not be read."""
    folder, root = ref.path.parent, ref.root
    if not folder.is_relative_to(root):
        return  # the root is itself an image
    above = [each for each in (folder, *folder.parents) if each.is_relative_to(root)]
    for place in (*above, root / ".config"):
        path = place / NAME
        if not os.path.lexists(path):
            continue
        name = printable(str(path.relative_to(root)))
        try:
            real = FileRef(path, root).resolve()
            status = real.stat()
        except (GputilesError, OSError):  # a link out of the root, or that leads nowhere
            yield (name, None), None
        else:
            yield (name, (status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino)), real


def _read(found: list[tuple[Stamp, Path | None]], stamps: tuple[Stamp, ...]) -> FolderConfig:
    config: dict[str, Any] | None = None
    complaints: list[tuple[Stamp, str]] = []
    origin: Stamp = ("", None)
    for stamp, path in found:
        try:
            own = _content(path)
        except Unavailable:
            raise
        except GputilesError as error:
            complaints.append((stamp, str(error)))
            continue
        origin = stamp if config is None else origin
        config = own if config is None else _merged(own, config)
        if config.pop("__inherit__", None) is not True:
            break
    views, wrong = _views((config or {}).get(PRESETS), origin[0])
    defaults = _names((config or {}).get(DEFAULTS))
    return FolderConfig(stamps, views, defaults, (*complaints, *((origin, text) for text in wrong)))


def _content(path: Path | None) -> dict[str, Any]:
    """Return what a file says to everybody."""
    if path is None:
        raise BadRequest("it leads out of the served folder, or nowhere, and is not read")
    value = yamltext.parse(_bytes(path))
    if isinstance(value, list) and len(value) == 1:
        value = value[0]
    if not isinstance(value, dict | None):
        raise BadRequest(f"expected keys with values; got {str(value)[:64]!r}")
    return {key: entry for key, entry in (value or {}).items() if key not in OF_PEOPLE}


def _bytes(path: Path) -> bytes:
    """Return the start of a regular file; of anything else nothing is read: pipes would make it wait."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise Unsupported("it is no regular file")
            with open(descriptor, "rb", closefd=False) as file:
                return file.read(yamltext.LONGEST + 1)
        finally:
            os.close(descriptor)
    except OSError as error:
        check_descriptors(error)
        raise Unsupported(f"it cannot be read: {error.strerror}") from error


def _merged(base: dict[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Return ``base`` with what lies over it, object by object; one with ``__all__: true`` hides it."""
    result = {} if over.get("__all__") is True else dict(base)
    for key, entry in over.items():
        below = result.get(key)
        if isinstance(below, dict) and isinstance(entry, dict):
            result[key] = _merged(below, entry)
        elif key != "__all__":
            result[key] = entry
    return result


def _views(entries: object, file: str) -> tuple[tuple[FolderView, ...], list[str]]:
    """Return the presets of a list by name, and what is wrong with the others."""
    if entries is None:
        return (), []
    if not isinstance(entries, list):
        return (), [f"{PRESETS}: expected a list; got {str(entries)[:64]!r}"]
    views: dict[str, FolderView] = {}
    wrong = [f"{PRESETS}: at most {MOST} are shown; there are {len(entries)}"] if len(entries) > MOST else []
    for at, entry in enumerate(entries[:MOST]):
        try:
            name, view = named(entry, f"{PRESETS}[{at}]")
        except BadRequest as error:
            wrong.append(str(error))
        else:
            views.setdefault(name, FolderView(name, json.dumps(view), file))
    return tuple(views.values()), wrong


def _names(entries: object) -> tuple[str, ...]:
    names = (
        [entry.get("name") for entry in entries if isinstance(entry, dict)]
        if isinstance(entries, list)
        else []
    )
    return tuple(name for name in names if isinstance(name, str))


def offered(config: FolderConfig, info: ImageInfo, taken: frozenset[str]) -> list[dict[str, Any]]:
    """Return the presets of a folder for one of its images: those that apply to it, ready for JSON.

    Names that are ``taken`` by the image's own presets are left out. Of the defaults the first that is
    there is marked so.
    """
    found = {view.name: (json.loads(view.body), view.file) for view in config.views if view.name not in taken}
    views = {name: (body, file) for name, (body, file) in found.items() if applies(body, info)}
    first = next((name for name in config.defaults if name in views), None)
    return [
        {"name": name, **body, "file": file, **({"default": True} if name == first else {})}
        for name, (body, file) in views.items()
    ]
