"""A small server with ranges, whose files change and fail as tests need; it counts what it is asked."""

from __future__ import annotations

import asyncio
import hashlib
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from aiohttp import web
from aiohttp.test_utils import TestServer

LANDING = "/data/landing"  # where redirects end


class RemoteServer:
    """Serves ``files`` below ``/data``; ``asked`` are the ranges that were asked for, of ``paths``.

    ``manner`` says how it fails, ``manners`` the same of single files.
    """

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.asked: list[tuple[int, int]] = []
        self.headers: list[dict[str, str]] = []
        self.manner = ""
        self.manners: dict[str, str] = {}
        self.paths: list[str] = []
        self.queries: list[str] = []
        self.reached = threading.Event()  # by a request that is not answered
        self.url = ""

    @property
    def reads(self) -> list[tuple[int, int]]:
        """Ranges of more than the byte that tells the version."""
        return [(start, end) for start, end in self.asked if (start, end) != (0, 0)]

    async def answer(self, request: web.Request) -> web.StreamResponse:
        start, end = (int(part) for part in request.headers["Range"].removeprefix("bytes=").split("-"))
        self.asked.append((start, end))
        self.headers.append(dict(request.headers))
        self.paths.append(request.path)
        self.queries.append(request.query_string)
        manner = self.manners.get(request.match_info["name"], self.manner)
        if manner.isdigit():
            return web.Response(status=int(manner))
        if manner.startswith("to ") and request.path != LANDING:
            return web.Response(status=302, headers={"Location": manner[3:]})
        if manner == "slow":
            self.reached.set()
            await asyncio.Event().wait()
        data = self.files.get(request.match_info["name"])
        if data is None:
            return web.Response(status=404)
        return self._range(data, start, end, manner)

    def _range(self, data: bytes, start: int, end: int, manner: str) -> web.Response:
        if start >= len(data):
            return web.Response(status=416, headers={"Content-Range": f"bytes */{len(data)}"})
        end = min(end, len(data) - 1)
        headers = {
            "ETag": f'"{hashlib.md5(data).hexdigest()}"',
            "Content-Range": f"bytes {start}-{end}/{len(data)}",
        }
        if manner == "no version":
            del headers["ETag"]
        if manner == "no ranges":
            return web.Response(body=data, headers={"ETag": headers["ETag"]})
        if manner == "shifted":
            headers["Content-Range"] = f"bytes {start + 1}-{end + 1}/{len(data)}"
        if manner == "too much":
            return web.Response(status=206, body=data[start : end + 1] + b"more", headers=headers)
        if manner == "compressed":
            headers["Content-Encoding"] = "br"
        return web.Response(status=206, body=data[start : end + 1], headers=headers)


@asynccontextmanager
async def remote_server() -> AsyncIterator[RemoteServer]:
    """Run a server on a free port of this host; stop it after the block."""
    remote = RemoteServer()
    app = web.Application()
    app.router.add_get("/{folder}/{name:.*}", remote.answer)
    async with TestServer(app, handler_cancellation=True) as server:
        remote.url = str(server.make_url("/data/"))
        yield remote
