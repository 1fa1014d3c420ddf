"""What a picture is saved as: a file name that goes with it where a client asks for one.

``contentDisposition`` and ``contentDispositionFilename`` are large_image's; other words than
``inline`` and ``attachment`` mean nothing there, and so they do here.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from urllib.parse import quote

from aiohttp import web

from gputiles.places import file_name, is_address
from gputiles.routes.parameters import text
from gputiles.state import STATE

LONGEST = 200  # characters of a name
KIND = text(
    "contentDisposition", "inline or attachment: the answer carries a file name", example="attachment"
)
NAME = text("contentDispositionFilename", "that name; one made of the item's unless it is given")
DISPOSITION = (KIND, NAME)
_SUFFIXES = {
    "image/jpeg": "jpg", "image/png": "png", "image/webp": "webp", "image/tiff": "tiff",
    "application/x-npy": "npy",
}  # fmt: skip
_UNFIT = re.compile(r'[\x00-\x1f\x7f-\x9f\ud800-\udfff/\\"]')  # ends a header, a folder or the quotes


@dataclass(frozen=True, slots=True)
class Saved:
    """What an answer is to be saved as: ``name``, or one of the item's name and ``part``."""

    kind: str
    name: str
    part: str


def saved_as(query: Mapping[str, str], part: str) -> Saved | None:
    """Return what a query asks the answer to be saved as; None where it asks for nothing of the kind."""
    kind, name = KIND.of(query), NAME.of(query)
    return Saved(kind, name, part) if kind in ("inline", "attachment") else None


def name(request: web.Request, response: web.Response, saved: Saved) -> web.Response:
    """Put the header on a picture of an item."""
    suffix = _SUFFIXES.get(response.content_type)
    item = request.app[STATE].library.known(request.match_info["item"])
    if suffix is not None and item is not None and response.status == 200:
        last = file_name(item.name) if is_address(item.name) else item.name
        made = f"{PurePosixPath(last).stem}-{saved.part}.{suffix}"
        response.headers["Content-Disposition"] = disposition(saved.kind, saved.name, made)
    return response


def disposition(kind: str, *names: str) -> str:
    """Return the header of RFC 6266, of the first name with anything in it that a name may hold.

    It has the name twice: in ASCII, and as it is.
    """
    name = next(filter(None, (_UNFIT.sub("", name)[:LONGEST] for name in names)), "")
    plain = name.encode("ascii", "ignore").decode()
    return f"{kind}; filename=\"{plain}\"; filename*=UTF-8''{quote(name, safe='')}"
