"""The numbers of the service for Prometheus."""

from __future__ import annotations

from aiohttp import web

from gputiles.inspection import inspect
from gputiles.metrics import MEDIA_TYPE, exposition
from gputiles.routes.answer import in_time
from gputiles.routes.route import Answer, Route
from gputiles.routes.schemas import TEXT
from gputiles.state import STATE

TEXTS = (Answer(200, "Prometheus' text", {"text/plain": TEXT}),)


def routes() -> tuple[Route, ...]:
    """Return the routes of this room."""
    return (Route("GET", "/metrics", in_time(metrics), (), TEXTS, refuses=(503,)),)


async def metrics(request: web.Request) -> web.Response:
    """``GET /metrics``: caches, queue and device as they are now, as Prometheus' text."""
    body = exposition(inspect(request.app[STATE]))
    return web.Response(body=body, headers={"Content-Type": MEDIA_TYPE, "Cache-Control": "no-store"})
