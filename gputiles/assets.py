"""The files of the viewer: found by name in one folder, with the media type of their suffix."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from gputiles.errors import NotFound

FOLDER = Path(str(resources.files("gputiles.viewer")))
LIBRARY = "openseadragon.min.js"  # `make viewer` puts it into the folder
TYPES = {".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")


@dataclass(frozen=True, slots=True)
class Asset:
    """A file as it is now; ``etag`` is that of its bytes."""

    data: bytes
    media_type: str
    etag: str


def asset(name: str) -> Asset:
    """Read a file that pages are made of; NotFound unless it lies in the folder itself. Blocks."""
    media_type = TYPES.get(Path(name).suffix)
    if media_type is None or not _NAME.fullmatch(name):
        raise NotFound(f"There is no file {name[:64]!r} of the viewer.")
    try:
        data = (FOLDER / name).read_bytes()
    except OSError as error:
        raise NotFound(f"There is no file {name[:64]!r} of the viewer.") from error
    return Asset(data, media_type, f'"{hashlib.sha256(data).hexdigest()[:32]}"')


def has_library() -> bool:
    """Say whether the viewer's library lies in the folder. Blocks."""
    return (FOLDER / LIBRARY).is_file()


def template(name: str) -> str:
    """Return the text of a page, the common head put in. Blocks."""
    head = (FOLDER / "head.html").read_text("utf-8")
    return (FOLDER / name).read_text("utf-8").replace("{{head}}", head)
