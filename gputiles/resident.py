"""Resident tiles: what the shelf of rasters holds is rendered without a task of its own.

It costs the event loop some look-ups and a job for the workers, and is one flight for all who ask.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from typing import TypeAlias

from gputiles.batcher import Batcher
from gputiles.cache import Hold, Shelf
from gputiles.encoded import EncodedTile
from gputiles.flights import Flight
from gputiles.images import Image
from gputiles.rasters import Rasters, Work
from gputiles.recipe import Recipe
from gputiles.renderjobs import render_job, tile_size
from gputiles.request import TileRequest, View

Landed: TypeAlias = Callable[[asyncio.Future[EncodedTile]], None]
"""What is called at the end of a flight, with its result."""


class Resident:
    """Sets out for tiles of which all rasters are on the shelf; ``keep`` puts them on that of answers."""

    def __init__(
        self,
        rasters: Rasters,
        tiles: Shelf[EncodedTile],
        batcher: Batcher,
        keep: Callable[[Image, View, str, bytes], EncodedTile],
    ) -> None:
        self._rasters = rasters
        self._tiles = tiles
        self._batcher = batcher
        self._keep = keep

    def set_out(
        self, work: Work, request: TileRequest, key: str, recipe: Recipe, landed: Landed
    ) -> Flight[EncodedTile] | None:
        """Queue a tile for the workers, if its rasters are resident; the caller lets them have it.

        Raises Overloaded where the queue is full, DeviceLost where there are none any more.
        """
        info, view = work.image.info, request.view
        hold, planes, cell = Hold(self._rasters.shelf), view.planes(recipe.frames), (request.x, request.y)
        rasters = self._rasters.resident(work.image, planes, request.z, cell, hold)
        if rasters is None:
            return None
        job = render_job(
            info, view.encoding, recipe, tuple(rasters), tile_size(info, request), request.edge.colour
        )
        try:
            item = self._batcher.enqueue("render", job, work.trace)
        except BaseException:
            hold.release()
            raise
        result: asyncio.Future[EncodedTile] = item.future.get_loop().create_future()
        flight = self._tiles.flying.take_off((key,), result, partial(self._batcher.withdraw, item))

        def arrive(rendered: asyncio.Future[bytes]) -> None:
            hold.release()
            self._tiles.flying.land(flight)
            if rendered.cancelled():
                result.cancel()
            else:
                try:
                    result.set_result(self._keep(work.image, view, key, rendered.result()))
                except Exception as error:  # the job's, or of what was to be kept
                    result.set_exception(error)
            flight.arrive(result)  # in this turn of the loop
            landed(result)

        item.future.add_done_callback(arrive)
        return flight
