"""The numbers of the service for Prometheus."""

from __future__ import annotations

from aiohttp import web

from gputiles.metrics import MEDIA_TYPE, exposition
from gputiles.routes.answer import in_time
from gputiles.state import STATE


def add_routes(router: web.UrlDispatcher, prefix: str) -> None:
    """Add the routes of this room below ``prefix``."""
    router.add_get(f"{prefix}/metrics", in_time(metrics))


async def metrics(request: web.Request) -> web.Response:
    """``GET /metrics``: caches, queue and device as they are now, as Prometheus' text."""
    body = exposition(request.app[STATE].engine.report())
    return web.Response(body=body, headers={"Content-Type": MEDIA_TYPE, "Cache-Control": "no-store"})
