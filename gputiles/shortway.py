"""The short way: a tile whose rasters are resident, or stored as such, is made without a task of its own.

It costs the event loop some look-ups and jobs for the workers, and is one flight for all who ask.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import NamedTuple, TypeAlias

from gputiles.backends import Raster
from gputiles.batcher import Batcher
from gputiles.cache import Entry, Hold, Shelf
from gputiles.encoded import EncodedTile
from gputiles.errors import Changed, GputilesError, OutOfMemory
from gputiles.flights import Flight
from gputiles.images import Image
from gputiles.rasters import FLYING, Key, Made, Rasters, Work
from gputiles.recipe import Recipe
from gputiles.renderjobs import render_job, tile_size
from gputiles.request import TileRequest, View

Landed: TypeAlias = Callable[[asyncio.Future[EncodedTile]], None]
"""What is called at the end of a flight, with its result."""

AGAIN = (OutOfMemory, Changed)
"""What the way of all may overcome: in the room that others have left, or with the file as it is now."""


class ShortWay:
    """Sets out for tiles of which all rasters are resident, or lie in the file as they are.

    ``keep`` puts a tile on the shelf of answers, ``tiles``.
    """

    def __init__(
        self,
        rasters: Rasters,
        tiles: Shelf[EncodedTile],
        batcher: Batcher,
        keep: Callable[[Image, View, str, bytes], EncodedTile],
    ) -> None:
        self.rasters = rasters
        self.batcher = batcher
        self.flying = tiles.flying
        self.keep = keep

    def set_out(
        self, work: Work, request: TileRequest, key: str, recipe: Recipe, landed: Landed
    ) -> Flight[EncodedTile] | None:
        """Queue a tile for the workers, or first what it is made of; None where it goes the way of all.

        The caller lets the workers have it. The result is also given to ``landed``. Raises NotFound
        outside the grid, Overloaded where the queue is full, DeviceLost where there are no workers any more.
        """
        flight = self.render(work, request, key, recipe, landed)
        if flight is not None:
            return flight
        work.image.info.grid.check(request.z, request.x, request.y)
        hold = Hold(self.rasters.shelf)
        leg = self._bring(work, self._keys(work, request, recipe), hold)
        if leg is None:
            return None
        work.trace.cache = "miss"
        journey = _Journey(self, work, request, key, recipe, landed, hold)
        return journey.take_off(journey.wait_for(leg))

    def render(
        self, work: Work, request: TileRequest, key: str, recipe: Recipe, landed: Landed
    ) -> Flight[EncodedTile] | None:
        """Queue a tile for the workers as ``set_out`` does, if its rasters are resident; else return None."""
        hold = Hold(self.rasters.shelf)
        rasters = self.rasters.resident(self._keys(work, request, recipe), hold)
        if rasters is None:
            return None
        work.trace.cache = "raw-hit"
        journey = _Journey(self, work, request, key, recipe, landed, hold)
        return journey.take_off(journey.render(rasters))

    def _keys(self, work: Work, request: TileRequest, recipe: Recipe) -> list[Key]:
        """Return what the rasters of a tile are kept by."""
        planes, cell = request.view.planes(recipe.frames), (request.x, request.y)
        return self.rasters.keys(work.image, planes, request.z, cell)

    def _bring(self, work: Work, keys: Sequence[Key], hold: Hold[Raster]) -> _Leg | None:
        """Have rasters brought that are not resident, and pin those that are.

        None where there is more to do: what is not stored is made, what others bring is shared.
        """
        shelf = self.rasters.shelf
        if len(keys) > FLYING or not all(self.rasters.is_stored(work.image, plane) for _, plane, _ in keys):
            return None
        lacking = [key for key in keys if shelf.peek(key) is None]
        flown = [(identity, plane, work.image.info.unit(plane.z, *cell)) for identity, plane, cell in lacking]
        if any(unit in shelf.flying for unit in flown) or self.rasters.is_spilled(lacking):
            return None
        here = shelf.get_all([key for key in keys if key not in lacking]) or []
        hold.pin_all(here)
        return _Leg(self.rasters.fly(work, flown), keys, {entry.key: entry for entry in here})


class _Leg(NamedTuple):
    """The flight that brings some of the rasters of a tile; ``here`` are those that were resident."""

    flight: Flight[Made]
    keys: Sequence[Key]
    here: Mapping[object, Entry[Raster]]

    def entries(self, made: Made) -> list[Entry[Raster]]:
        """Return the rasters, in order. Raises the error of the first that has come to one."""
        found = []
        for key in self.keys:
            entry = self.here.get(key) or made[key[1]][key[2]]
            if isinstance(entry, GputilesError):
                raise entry
            found.append(entry)
        return found


class _Journey:
    """One tile on its way: what is left of it, and who is told of its end; ``hold`` pins its rasters."""

    __slots__ = (
        "_flight",
        "_hold",
        "_key",
        "_landed",
        "_recipe",
        "_request",
        "_result",
        "_way",
        "_work",
    )

    def __init__(
        self,
        way: ShortWay,
        work: Work,
        request: TileRequest,
        key: str,
        recipe: Recipe,
        landed: Landed,
        hold: Hold[Raster],
    ) -> None:
        self._hold = hold
        self._way = way
        self._work = work
        self._request = request
        self._key = key
        self._recipe = recipe
        self._landed = landed
        self._result: asyncio.Future[EncodedTile] = asyncio.get_running_loop().create_future()
        self._flight: Flight[EncodedTile]

    def take_off(self, call_off: Callable[[], object]) -> Flight[EncodedTile]:
        """Let all who ask for the tile share the journey, which ``call_off`` ends."""
        self._flight = self._way.flying.take_off((self._key,), self._result, call_off)
        return self._flight

    def wait_for(self, leg: _Leg) -> Callable[[], object]:
        """Go on when the rasters are brought; return what calls that off."""
        arrival = leg.flight.arrival()
        arrival.add_done_callback(partial(self._brought, leg))
        return arrival.cancel

    def _brought(self, leg: _Leg, arrival: asyncio.Future[Made]) -> None:
        try:
            self._flight.call_off = self.render(self._hold.pin_all(leg.entries(arrival.result())))
        except (Exception, asyncio.CancelledError) as error:
            self._end(error)
        finally:
            self._way.rasters.shelf.flying.leave(leg.flight)
        self._way.batcher.dispatch()

    def render(self, rasters: list[Raster]) -> Callable[[], object]:
        """Queue the tile; return what calls that off. Raises Overloaded or DeviceLost, and pins nothing."""
        info, request, recipe = self._work.image.info, self._request, self._recipe
        size = tile_size(info, request)
        job = render_job(info, request.view.encoding, recipe, tuple(rasters), size, request.edge.colour)
        try:
            item = self._way.batcher.enqueue("render", job, self._work.trace)
        except BaseException:
            self._hold.release()
            raise
        item.future.add_done_callback(self._rendered)
        return partial(self._way.batcher.withdraw, item)

    def _rendered(self, rendered: asyncio.Future[bytes]) -> None:
        outcome: EncodedTile | BaseException
        try:
            outcome = self._way.keep(self._work.image, self._request.view, self._key, rendered.result())
        except (Exception, asyncio.CancelledError) as error:  # the job's, or of what was to be kept
            outcome = error
        self._end(outcome)

    def _end(self, outcome: EncodedTile | BaseException) -> None:
        """Give all who wait what came of the tile."""
        self._hold.release()
        self._way.flying.land(self._flight)
        if isinstance(outcome, asyncio.CancelledError):
            self._result.cancel()
        elif isinstance(outcome, BaseException):
            self._result.set_exception(outcome)
        else:
            self._result.set_result(outcome)
        self._flight.arrive(self._result)  # in this turn of the loop
        self._landed(self._result)
