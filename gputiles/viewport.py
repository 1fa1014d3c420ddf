"""Viewports: many tiles of one view, handed out as they become ready.

A tile that only waits for a worker costs the event loop no task of its own; the others go the
way of single tiles. Either way it is one flight for all who ask for it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from functools import partial
from typing import TypeAlias

from gputiles import keys
from gputiles.encoded import EncodedTile
from gputiles.errors import DeadlineExceeded, DeviceLost, GputilesError, Overloaded
from gputiles.flights import Flight
from gputiles.images import Image
from gputiles.rasters import Work
from gputiles.recipe import Recipe
from gputiles.renderer import Renderer, check_view
from gputiles.request import TileRequest, ViewportRequest
from gputiles.shortway import AGAIN
from gputiles.trace import Trace

AT_ONCE = 40  # tiles set out for in one turn of the loop

Outcome: TypeAlias = EncodedTile | GputilesError
Ready: TypeAlias = list[tuple[int, Outcome]]
"""Places, by their number in the request, with what became of them."""


async def tiles(
    renderer: Renderer, image: Image, request: ViewportRequest, trace: Trace, deadline: float | None = None
) -> AsyncGenerator[Ready, None]:
    """Yield what is ready, until every place has its tile or its own error.

    What is not there ``deadline`` seconds after the start is a DeadlineExceeded. Raises the
    error that all places share: a bad style, a frame that does not exist. Closing the
    iterator calls off what has not started and nobody else waits for.
    """
    check_view(image.info, request.view)
    waiting = _Waiting(renderer, Work(image, trace), request, deadline)
    try:
        await waiting.set_out()
        while waiting.places:
            yield await waiting.some()
    finally:
        waiting.leave()


class _Waiting:
    """What one caller waits for, and what has come of it."""

    def __init__(
        self, renderer: Renderer, work: Work, request: ViewportRequest, deadline: float | None
    ) -> None:
        self.places = set(range(len(request.places)))  # that are waited for
        self._end = None if deadline is None else asyncio.get_running_loop().time() + deadline
        self._late = DeadlineExceeded(f"no answer within the deadline of {deadline} s")
        self._renderer = renderer
        self._work = work
        self._request = request
        self._look = keys.shown(work.image, request.view)
        self._ready: Ready = []
        self._wake: asyncio.Future[None] | None = None
        self._flights: dict[int, Flight[EncodedTile]] = {}
        self._tasks: set[asyncio.Task[EncodedTile]] = set()
        self._failure: BaseException | None = None

    async def set_out(self) -> None:
        """Take what is on the shelf, and set out to get the rest."""
        batcher, recipe = self._renderer.batcher, await self._recipe()
        for number in range(len(self._request.places)):
            self._start(number, recipe)
            if number % AT_ONCE == AT_ONCE - 1:
                batcher.dispatch()
                await asyncio.sleep(0)  # others have a turn
        batcher.dispatch()

    async def _recipe(self) -> Recipe | None:
        """Return what the tiles are rendered by; None where stored bytes or values may be the answer."""
        info, view = self._work.image.info, self._request.view
        values = view.style is None and view.encoding.takes_values
        if values or self._renderer.passing.may(info, view):
            return None
        try:
            async with asyncio.timeout_at(self._end):
                return await self._renderer.recipe(self._work, view)
        except TimeoutError as error:
            raise self._late from error

    def _start(self, number: int, recipe: Recipe | None) -> None:
        """Take a tile from the shelf, or set out to get it."""
        request = TileRequest(*self._request.places[number], self._request.view, self._request.edge)
        key = keys.tile_key(request.z, request.x, request.y, self._look, request.edge)
        shelf = self._renderer.tiles
        entry = shelf.get(key)
        if entry is not None:
            self._bring(number, entry.value)
        elif recipe is None or key in shelf.flying or not self._render(number, request, key, recipe):
            self._fetch(number, request)

    async def some(self) -> Ready:
        """Return all that is ready, at least one, which is waited for; all, as late, at the deadline."""
        if not self._ready and self._failure is None:
            self._wake = asyncio.get_running_loop().create_future()
            try:
                async with asyncio.timeout_at(self._end):
                    await self._wake
            except TimeoutError:
                self._ready = [(number, self._late) for number in sorted(self.places)]
        if self._failure is not None:
            raise self._failure
        ready, self._ready = self._ready, []
        self.places.difference_update(number for number, _ in ready)
        return ready

    def leave(self) -> None:
        """Wait for nothing any more."""
        for task in self._tasks:
            task.cancel()
        flights, self._flights = self._flights, {}
        for flight in flights.values():
            self._renderer.tiles.flying.leave(flight)

    def _bring(self, number: int, outcome: Outcome) -> None:
        self._ready.append((number, outcome))
        self._ring()

    def _fail(self, error: BaseException) -> None:
        """End it all: something happened that is no tile's own error."""
        self._failure = error
        self._ring()

    def _ring(self) -> None:
        if self._wake is not None and not self._wake.done():
            self._wake.set_result(None)

    # -- the way of single tiles

    def _fetch(self, number: int, request: TileRequest) -> None:
        tile = self._renderer.tile(self._work.image, request, self._work.trace)
        task = asyncio.get_running_loop().create_task(tile)
        self._tasks.add(task)
        task.add_done_callback(partial(self._fetched, number))

    def _fetched(self, number: int, task: asyncio.Task[EncodedTile]) -> None:
        self._tasks.discard(task)
        self._settle(number, task)

    def _settle(self, number: int, result: asyncio.Future[EncodedTile]) -> None:
        error = asyncio.CancelledError() if result.cancelled() else result.exception()
        if error is None:
            self._bring(number, result.result())
        elif isinstance(error, GputilesError):
            self._bring(number, error)
        else:
            self._fail(error)

    # -- the short way, of resident tiles

    def _render(self, number: int, request: TileRequest, key: str, recipe: Recipe) -> bool:
        """Have a tile rendered if its rasters are resident; say whether they are."""
        landed = partial(self._landed, number, request)
        try:
            flight = self._renderer.short_way.render(self._work, request, key, recipe, landed)
        except (Overloaded, DeviceLost) as error:
            self._bring(number, error)
            return True
        if flight is not None:
            self._flights[number] = flight
        return flight is not None

    def _landed(self, number: int, request: TileRequest, result: asyncio.Future[EncodedTile]) -> None:
        flight = self._flights.pop(number, None)
        if flight is None:
            return  # it is waited for no more
        self._renderer.tiles.flying.leave(flight)
        if not result.cancelled() and isinstance(result.exception(), AGAIN):
            self._fetch(number, request)
        else:
            self._settle(number, result)
