"""Passing on: stored JPEG tiles that are the answer as they stand."""

from __future__ import annotations

from functools import partial

from gputiles.config import Config
from gputiles.encoded import Encoding
from gputiles.image import Alpha, ImageInfo
from gputiles.images import Image, Images, read_checked
from gputiles.look import is_plain
from gputiles.reading_room import ReadingRoom
from gputiles.request import TileRequest, View
from gputiles.sources import Source
from gputiles.sources.athand import NotAtHand, waiting_for_nothing

JPEG = Encoding()  # with no wish beside


class Passing:
    """Reads tiles that go out as they are stored; ``count`` says how many did."""

    def __init__(self, config: Config, room: ReadingRoom, images: Images) -> None:
        self.count = 0
        self._icc = config.icc
        self._room = room
        self._images = images

    def may(self, info: ImageInfo, view: View) -> bool:
        """Say whether stored JPEG tiles of the image may be the view, as they are."""
        converted = self._icc and info.profile is not None
        unchanged = view.style is None and view.encoding == JPEG and not converted
        return unchanged and is_plain(info) and info.alpha is Alpha.NONE

    def may_be_stored(self, info: ImageInfo, request: TileRequest) -> bool:
        """Say whether a tile may be stored as it is asked for. Raises NotFound outside the grid."""
        if not self.may(info, request.view):
            return False
        info.grid.check(request.z, request.x, request.y)
        rect = info.grid.rect(request.z, request.x, request.y)
        return info.stored[request.z] and (rect.width, rect.height) == (info.tile_width, info.tile_height)

    def at_hand(self, image: Image, request: TileRequest) -> bytes | None:
        """Return the stored bytes if they are the answer, read here and now.

        Raises NotAtHand where that takes longer, Changed where the file is another now.
        """
        source = self._images.opened(image)
        if source is None:
            raise NotAtHand
        with waiting_for_nothing():
            return self._counted(_read(source, image, request))

    async def read(self, image: Image, request: TileRequest) -> bytes | None:
        """Return the stored bytes if they are the answer, read by who may wait for them."""
        async with self._images.handle(image) as source:
            return self._counted(await self._room.run(_read, source, image, request))

    def _counted(self, stored: bytes | None) -> bytes | None:
        self.count += stored is not None
        return stored


def _read(source: Source, image: Image, request: TileRequest) -> bytes | None:
    read = partial(source.passthrough, request.view.frame, request.z, request.x, request.y)
    return read_checked(image, read)
