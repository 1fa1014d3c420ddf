"""The Python interface: images opened in-process, with the server's renderer and caches.

All images share one engine on one background event loop, started at the first ``open``. Who waits for a tile
does a worker's part of it meanwhile; handlers of signals (Ctrl-C, alarms) are called when that is done.
"""

from __future__ import annotations

import asyncio
import io
import json
import os
import threading
from collections.abc import Mapping
from concurrent.futures import Future
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, Literal, TypeVar, overload

from numpy.typing import NDArray

from gputiles import keys
from gputiles.background import Background, Begin, Look, Work, bring
from gputiles.cache import Hold
from gputiles.config import Config
from gputiles.encoded import Edge, EncodedTile
from gputiles.errors import BadRequest, Changed, Unsupported
from gputiles.flights import Flight
from gputiles.image import ImageInfo
from gputiles.images import Image as Opened
from gputiles.interrupts import undisturbed
from gputiles.loan import DeviceArray
from gputiles.parameters import parse_edge, parse_format
from gputiles.places import is_address
from gputiles.references import FileRef, ObjectRef, RemoteRef
from gputiles.request import TileRequest, View
from gputiles.shortway import AGAIN
from gputiles.sources.athand import NotAtHand
from gputiles.style import Style, parse_text
from gputiles.trace import Trace

R = TypeVar("R")

_background: Background | None = None
_starting = threading.Lock()  # two threads may open their first image at once


def _shared(config: Config | None, otherwise: Config | None = None) -> Background:
    """Return the one background; where there is none yet, one with ``config``, or ``otherwise``."""
    global _background
    with _starting:
        if _background is None:
            _background = Background(config or otherwise or Config())
        elif config is not None and config != _background.engine.config:
            raise BadRequest("config: the shared engine already runs with another configuration")
        return _background


def _reset() -> None:
    """Forget the parent's engine in a forked child: its threads did not come along."""
    global _background, _starting
    if _background is not None:
        _background.lost = True
    _background = None
    _starting = threading.Lock()


os.register_at_fork(after_in_child=_reset)


class Image:
    """An open image: ``info`` and its tiles. Close it, or use it in a ``with`` block.

    Any thread may use it. A forked child opens the file anew when it first uses the image; a binary file
    object it cannot, whose position it shares with its parent. Errors are those of ``gputiles.errors``.
    """

    def __init__(self, background: Background, reference: FileRef | ObjectRef | RemoteRef) -> None:
        self._background = background
        self._reference = reference
        self._calls = 0
        self._idle = threading.Condition()
        self._closed = False
        self.info: ImageInfo = background.call(partial(background.engine.image, reference)).info

    def tile(
        self,
        z: int,
        x: int,
        y: int,
        *,
        frame: int | None = None,
        style: Mapping[str, object] | str | None = None,
        encoding: str = "PNG",
        quality: int | None = None,
        subsampling: int | None = None,
        edge: bool | str = False,
    ) -> bytes:
        """Return tile (``x``, ``y``) of level ``z`` (0 = coarsest), encoded.

        ``style`` is large_image's style, as an object or JSON; None is the default look, ``{}``
        the unstyled conversion. ``encoding`` is JPEG, PNG, PNG16, WEBP, TIFF or NPY (see README);
        ``quality`` (1 … 100, default 95) is JPEG's and WebP's, ``subsampling`` (0 4:4:4, 1 4:2:2,
        2 4:2:0; default 0) JPEG's. ``edge`` False pads tiles that the image does not fill, True
        crops them, a colour fills them. Raises NotFound outside of the grid or the frames,
        BadRequest for other words and numbers, BadStyle for an impossible style.
        """
        view = View(
            frame or 0, _style(style), frame is not None, parse_format(encoding, quality, subsampling)
        )
        request = TileRequest(z, x, y, view, _edge(edge))
        tile: EncodedTile = self._call(partial(self._tile, request), partial(self._look_for_tile, request))
        return tile.data

    @overload
    def raster(
        self, z: int, x: int, y: int, *, frame: int = 0, device: Literal[False] = False
    ) -> NDArray[Any]: ...

    @overload
    def raster(self, z: int, x: int, y: int, *, frame: int = 0, device: Literal[True]) -> DeviceArray: ...

    def raster(
        self, z: int, x: int, y: int, *, frame: int = 0, device: bool = False
    ) -> NDArray[Any] | DeviceArray:
        """Return the unstyled tile: a new (rows, columns, samples) array of the image's dtype.

        With ``device`` it is not copied: the array lies in the memory of the card, for CuPy and other
        libraries that read there, until it is released (see ``DeviceArray``). Raises Unsupported where
        no card is in use.
        """
        if device:
            return self._call(partial(self._lend, frame, z, x, y))
        return self._call(partial(self._raster, frame, z, x, y))

    def _settle(self) -> None:
        """Give an image that came with a fork to this process's engine. Raises Unsupported for an object."""
        if not self._background.lost:
            return
        if isinstance(self._reference, ObjectRef):
            raise Unsupported("file: an object cannot be read in a forked process too: open it there anew")
        background = _shared(None, self._background.engine.config)
        with _starting:  # the parent's threads, which may have held the image, did not come along
            if self._background.lost:
                self._background, self._calls, self._idle = background, 0, threading.Condition()

    async def _tile(self, request: TileRequest) -> EncodedTile:
        engine = self._background.engine
        return await engine.renderer.tile(await engine.image(self._reference), request, Trace())

    def _look_for_tile(self, request: TileRequest, future: Future[EncodedTile]) -> Begin | None:
        """Have ``future`` given a tile that is there; else return what makes it."""
        engine = self._background.engine
        image, renderer, trace = engine.images.fresh(self._reference), engine.renderer, Trace()
        begin = partial(self._background.begin, future)
        if image is None:
            return partial(begin, partial(self._tile, request))
        key = keys.key(image, request)
        try:
            tile = renderer.at_once(image, request, key, trace)
        except (NotAtHand, Changed):
            return partial(begin, partial(renderer.made, image, request, trace, stored=True))
        if tile is None:
            return partial(self._begin, image, request, key, future)
        future.set_result(tile)
        return None

    def _begin(self, image: Opened, request: TileRequest, key: str, future: Future[EncodedTile]) -> None:
        """Begin to make a tile for ``future``, by the short way or that of all."""
        if not self._set_out(image, request, key, future):
            renderer = self._background.engine.renderer
            self._background.begin(future, partial(renderer.made, image, request, Trace(), stored=False))

    def _set_out(self, image: Opened, request: TileRequest, key: str, future: Future[EncodedTile]) -> bool:
        """Have a tile made for ``future`` by the short way; say whether that is enough."""
        background, renderer = self._background, self._background.engine.renderer
        waiting: list[Flight[EncodedTile]] = []

        def leave() -> None:
            while waiting:
                renderer.tiles.flying.leave(waiting.pop())

        def landed(result: asyncio.Future[EncodedTile]) -> None:
            leave()
            if not result.cancelled() and isinstance(result.exception(), AGAIN):
                background.begin(future, partial(self._tile, request))
            else:
                bring(future, result)

        flight = renderer.begin(image, request, key, Trace(), landed)
        if flight is None:
            return False
        waiting.append(flight)
        background.when_left(future, leave)
        return True

    async def _raster(self, frame: int, z: int, x: int, y: int) -> NDArray[Any]:
        engine = self._background.engine
        return await engine.renderer.raster(await engine.image(self._reference), frame, z, x, y)

    async def _lend(self, frame: int, z: int, x: int, y: int) -> DeviceArray:
        engine = self._background.engine
        device = engine.backend.dlpack
        if device is None:
            raise Unsupported(
                f"raster: device=True needs a CUDA card; the device in use is {engine.backend.name!r}, "
                "where device=False (a NumPy array) is allowed"
            )
        image, hold = await engine.image(self._reference), Hold(engine.renderer.rasters.shelf)
        try:
            raster = await engine.renderer.pinned(image, frame, z, x, y, hold)
        except BaseException:
            hold.release()
            raise
        return DeviceArray(raster, device, partial(self._background.give_back, hold))

    def _call(self, work: Work[R], look: Look[R] | None = None) -> R:
        self._settle()
        with undisturbed():
            with self._idle:
                if self._closed:
                    raise ValueError("the image is closed")
                self._calls += 1
            try:
                return self._background.call(work, look)
            finally:
                with self._idle:
                    self._calls -= 1
                    self._idle.notify_all()

    def close(self) -> None:
        """Wait for the calls that run in other threads, then close the file."""
        if self._background.lost:  # nothing of it is this process's
            self._closed = True
            return
        with self._idle:
            already, self._closed = self._closed, True
            self._idle.wait_for(lambda: not self._calls)
        if not already:
            self._background.call(partial(self._background.engine.release, self._reference))

    def __enter__(self) -> Image:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def open(file: str | os.PathLike[str] | BinaryIO, *, config: Config | None = None) -> Image:
    """Open an image file, its address (``https://…``), or a binary file object, for in-process use.

    An address is trusted as a path is: no list of prefixes is asked, but for redirects that
    leave its server.

    The first call may give the shared engine its ``config``. Raises NotFound, Unsupported
    or Damaged with the reason, BadRequest for what is none of these.
    """
    background = _shared(config)
    if isinstance(file, str) and is_address(file):
        return Image(background, background.engine.remotes.trusted(file))
    if isinstance(file, (str, os.PathLike)):
        path = Path(file).resolve()
        return Image(background, FileRef(path, path.parent))
    return Image(background, ObjectRef(_binary(file)))


def _binary(file: BinaryIO) -> BinaryIO:
    """Return a binary file object. Raises BadRequest where it is none."""
    if isinstance(file, io.TextIOBase) or not (hasattr(file, "read") and hasattr(file, "seek")):
        raise BadRequest(f"file: expected a path, an address or a binary file object; got {file!r:.99}")
    return file


def _style(style: Mapping[str, object] | str | None) -> Style | None:
    if style is None:
        return None
    return parse_text(style if isinstance(style, str) else json.dumps(style))


def _edge(edge: bool | str) -> Edge:
    return Edge(crop=edge) if isinstance(edge, bool) else parse_edge(edge)
