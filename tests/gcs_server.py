"""A small Google Cloud Storage: the few calls of its JSON API that reading takes; it counts them."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from aiohttp import web
from aiohttp.test_utils import TestServer

SECRET = "reader@project.iam.gserviceaccount.com"
"""Who asks, as errors tell it: nobody's business."""


class GcsServer:
    """Serves ``objects``, {(bucket, key): bytes}; ``ranges`` are the (key, first, last) that were read.

    ``manner`` is the status that all is answered with, or ``slow``; ``later`` that of media alone.
    """

    scheme = "gs"

    def __init__(self) -> None:
        self.objects: dict[tuple[str, str], bytes] = {}
        self.generations: dict[tuple[str, str], int] = {}
        self.ranges: list[tuple[str, int, int]] = []
        self.calls: list[str] = []
        self.manner = self.later = ""
        self.url = ""

    @property
    def configuration(self) -> dict[str, Any]:
        """What users of gcsfs give it for such a store, which asks for no credentials."""
        return {"endpoint_url": self.url, "token": "anon"}

    def put(self, bucket: str, key: str, data: bytes) -> None:
        """Store an object: a new generation of it."""
        self.objects[bucket, key] = data
        self.generations[bucket, key] = self.generations.get((bucket, key), 1_700_000_000) + 1

    async def facts(self, request: web.Request) -> web.Response:
        """``objects.get``: what is known of an object."""
        found = await self._found(request, self.manner)
        return found if isinstance(found, web.Response) else web.json_response(self._facts(found))

    async def media(self, request: web.Request) -> web.Response:
        """``objects.get`` with ``alt=media``: a range of its bytes."""
        found = await self._found(request, self.later or self.manner)
        if isinstance(found, web.Response):
            return found
        data = self.objects[found]
        first, last = map(int, request.headers["Range"].removeprefix("bytes=").split("-"))
        self.ranges.append((found[1], first, last))
        if first >= len(data):
            return refusal(416, "The requested range cannot be satisfied.")
        last = min(last, len(data) - 1)
        headers = {"Content-Range": f"bytes {first}-{last}/{len(data)}"}
        return web.Response(status=206, body=data[first : last + 1], headers=headers)

    async def listing(self, request: web.Request) -> web.Response:
        """``objects.list`` below a prefix."""
        if self.manner.isdigit():
            return refusal(int(self.manner))
        bucket, prefix = request.match_info["bucket"], request.query.get("prefix", "")
        found = [each for each in self.objects if each[0] == bucket and each[1].startswith(prefix)]
        return web.json_response({"kind": "storage#objects", "items": [self._facts(each) for each in found]})

    async def _found(self, request: web.Request, manner: str) -> tuple[str, str] | web.Response:
        self.calls.append(request.path)
        if manner == "slow":
            await asyncio.Event().wait()
        if manner:
            return refusal(int(manner))
        place = request.match_info["bucket"], request.match_info["key"]
        return place if place in self.objects else refusal(404, "No such object")

    def _facts(self, place: tuple[str, str]) -> dict[str, Any]:
        (bucket, key), data = place, self.objects[place]
        generation = str(self.generations[place])
        return {
            "kind": "storage#object", "id": f"{bucket}/{key}/{generation}", "name": key, "bucket": bucket,
            "generation": generation, "metageneration": "1", "contentType": "image/tiff",
            "size": str(len(data)), "etag": hashlib.md5(generation.encode() + data).hexdigest(),
            "timeCreated": "2026-01-01T00:00:00.000Z", "updated": "2026-01-01T00:00:00.000Z",
        }  # fmt: skip


def refusal(status: int, reason: str = "") -> web.Response:
    """Return an error as the store tells it: in its text is who asked."""
    message = reason or f"{SECRET} does not have storage.objects.get access"
    error = {"code": status, "message": message, "errors": [{"message": message, "reason": "x"}]}
    return web.json_response({"error": error}, status=status)


@asynccontextmanager
async def gcs_server() -> AsyncIterator[GcsServer]:
    """Run a store on a free port of this host; stop it after the block."""
    store = GcsServer()
    app = web.Application()
    app.router.add_get("/storage/v1/b/{bucket}/o", store.listing)
    app.router.add_get("/storage/v1/b/{bucket}/o/{key:.+}", store.facts)
    app.router.add_get("/download/storage/v1/b/{bucket}/o/{key:.+}", store.media)
    async with TestServer(app, handler_cancellation=True) as server:
        store.url = str(server.make_url("")).rstrip("/")
        yield store
