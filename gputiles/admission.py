"""Admission: whether a caller may see an item, decided by Girder and remembered for a while.

It comes before any cache is asked. Questions have threads of their own, so that a slow
Girder does not keep files from being read.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TypeAlias

from cachetools import TTLCache

from gputiles.cache import Hold, Shelf
from gputiles.errors import Forbidden, GputilesError, NotFound, SignInRequired, Unsupported
from gputiles.girder import REMEMBERED, Girder
from gputiles.reading_room import ReadingRoom
from gputiles.walk import Item

MOST_DECISIONS = 65_536
MOST_QUESTIONS = 1024  # that may wait
ASKERS = 4  # threads

Key: TypeAlias = tuple[str | None, str]


@dataclass(frozen=True, slots=True)
class Decision:
    """What Girder said: the item, or how it refused it; ``asked`` is when."""

    asked: float
    item: Item | None
    refusal: tuple[type[GputilesError], str] | None = None


class Admission:
    """Asks Girder once per caller and item, and remembers the answer for at most 30 seconds."""

    def __init__(self, girder: Girder, clock: Callable[[], float] = time.monotonic) -> None:
        self._girder = girder
        self._clock = clock
        self._room = ReadingRoom(ASKERS, MOST_QUESTIONS)
        self._decided: TTLCache[Key, Decision] = TTLCache(MOST_DECISIONS, REMEMBERED, timer=clock)
        self._asking: Shelf[Decision] = Shelf("admission", 0)

    @staticmethod
    def concerns(item_id: str) -> bool:
        """Say whether ``item_id`` can be an id of Girder's."""
        return re.fullmatch(r"[0-9a-f]{24}", item_id) is not None

    async def admit(self, token: str | None, item_id: str) -> Item:
        """Return the item, as the caller with ``token`` may see it.

        Raises SignInRequired, Forbidden or NotFound as Girder does; Unavailable, which is not
        remembered, where it does not answer.
        """
        key = token, item_id
        decision = self._decided.get(key)
        if decision is None or self._clock() - decision.asked >= REMEMBERED:
            async with self._asking.once(key, partial(self._ask, key)) as decision:
                pass
        if decision.refusal is not None:
            kind, reason = decision.refusal
            raise kind(reason)
        assert decision.item is not None
        return decision.item

    async def _ask(self, key: Key, _: Hold[Decision]) -> Decision:
        token, item_id = key
        asked = self._clock()
        try:
            decision = Decision(asked, await self._room.run(self._girder.ask, item_id, token))
        except (SignInRequired, Forbidden, NotFound, Unsupported) as error:
            decision = Decision(asked, None, (type(error), str(error)))
        self._decided[key] = decision
        return decision

    def close(self) -> None:
        """Wait for the questions that are being asked, and end the threads."""
        self._room.close()
