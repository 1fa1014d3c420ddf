"""What a picture is saved as: a file name that goes with it where a client asks for one.

``contentDisposition`` and ``contentDispositionFilename`` are large_image's; other words than
``inline`` and ``attachment`` mean nothing there, and so they do here.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import wraps
from pathlib import PurePosixPath
from urllib.parse import quote

from aiohttp import web
from aiohttp.typedefs import Handler

from gputiles.places import file_name, is_address
from gputiles.routes.ask import ITEM
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


def saved_as(part: str) -> Callable[[Handler], Handler]:
    """Return what makes a handler name its pictures after the item and ``part``.

    ``part`` may have parts of the path in braces: ``{z}-{x}-{y}``.
    """

    def named(handler: Handler) -> Handler:
        @wraps(handler)
        async def naming(request: web.Request) -> web.StreamResponse:
            response = await handler(request)
            if KIND.name in request.rel_url.raw_query_string:  # most ask for nothing of the kind
                _name(request, response, part)
            return response

        return naming

    return named


def _name(request: web.Request, response: web.StreamResponse, part: str) -> None:
    """Put the header on a picture of an item."""
    kind, suffix = KIND.of(request.query), _SUFFIXES.get(response.content_type)
    item = request.app[STATE].library.known(ITEM.of(request.match_info))
    if kind not in ("inline", "attachment") or suffix is None or item is None or response.status != 200:
        return
    last = file_name(item.name) if is_address(item.name) else item.name
    made = f"{PurePosixPath(last).stem}-{part.format_map(request.match_info)}.{suffix}"
    response.headers["Content-Disposition"] = disposition(kind, NAME.of(request.query), made)


def disposition(kind: str, *names: str) -> str:
    """Return the header of RFC 6266, of the first name with anything in it that a name may hold.

    It has the name twice: in ASCII, and as it is.
    """
    name = next(filter(None, (_UNFIT.sub("", name)[:LONGEST] for name in names)), "")
    plain = name.encode("ascii", "ignore").decode()
    return f"{kind}; filename=\"{plain}\"; filename*=UTF-8''{quote(name, safe='')}"
