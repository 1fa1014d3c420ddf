"""Who touches a card's memory when: accesses of two streams that nothing orders are a race.

Each piece of work on a stream is a moment, which knows what came before it: the work before it on its
stream, what its stream was told to wait for, and what somebody had waited for when it was asked for.
That one piece happened to be done before another orders nothing.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple


class Fault(AssertionError):
    """A card would sometimes do what nobody wants."""


class Race(Fault):
    """Two streams use the same memory, one of them writes, and nothing says which comes first."""


class Changed(Fault):
    """What is on its way to the card was changed before it was read."""


@dataclass(frozen=True, slots=True, eq=False)
class Moment:
    """The ``number``-th piece of work on a stream; ``before`` are the last known ones of other streams."""

    stream: int
    number: int
    before: dict[int, int]

    def follows(self, other: Moment) -> bool:
        """Say whether all of another piece is done when this one begins."""
        return self.before.get(other.stream, 0) >= other.number


class Access(NamedTuple):
    """Bytes that were used."""

    begin: int
    end: int
    writes: bool
    moment: Moment
    what: str


def joined(*clocks: dict[int, int]) -> dict[int, int]:
    """Return the latest of what several moments know."""
    return {
        stream: max(clock.get(stream, 0) for clock in clocks)
        for stream in {s for each in clocks for s in each}
    }


class Ledger:
    """The accesses that may still meet others."""

    def __init__(self) -> None:
        self._waited: dict[int, int] = {}  # by stream: what somebody has waited for
        self._accesses: dict[int, list[Access]] = {}  # by stream: on one of them all is ordered

    def moment(self, stream: int, last: Moment | None, after: Iterable[Moment | None]) -> Moment:
        """Return the moment behind ``last`` of a stream, which waits for others."""
        known = [{**each.before, each.stream: each.number} for each in (last, *after) if each is not None]
        return Moment(stream, last.number + 1 if last is not None else 1, joined(self._waited, *known))

    def know(self, moments: Iterable[Moment], pending: Iterable[Moment]) -> None:
        """Note that somebody waited for moments; forget what nothing that is ``pending`` can meet."""
        known = [{**each.before, each.stream: each.number} for each in moments]
        self._waited = joined(self._waited, *known)
        waiting = list(pending)
        for stream, accesses in self._accesses.items():
            known_by_all = [self._waited, *(each.before for each in waiting if each.stream != stream)]
            least = min(clock.get(stream, 0) for clock in known_by_all)
            self._accesses[stream] = [access for access in accesses if access.moment.number > least]

    def touch(self, moment: Moment, place: tuple[int, int], what: str, *, writes: bool = False) -> None:
        """Note that work uses a place (address, bytes). Raises Race where another stream may just then."""
        address, size = place
        mine = Access(address, address + size, writes, moment, what)
        for stream, accesses in self._accesses.items():
            for other in accesses if stream != mine.moment.stream else ():
                if (writes or other.writes) and other.begin < mine.end and mine.begin < other.end:
                    self._expect_order(mine, other)
        self._accesses.setdefault(mine.moment.stream, []).append(mine)

    @staticmethod
    def _expect_order(mine: Access, other: Access) -> None:
        if not (mine.moment.follows(other.moment) or other.moment.follows(mine.moment)):
            raise Race(f"{mine.what} and {other.what} use the same memory, and neither waits for the other")
