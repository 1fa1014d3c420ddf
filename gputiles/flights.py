"""Flights: work that is done once for all who ask for it while it is under way."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Hashable, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, Generic, Protocol, TypeVar

from gputiles.tasks import started

R = TypeVar("R")


class Held(Protocol):
    """What a flight keeps for those who wait for it, to be released behind the last."""

    def release(self) -> None:
        """Let go."""


H = TypeVar("H", bound=Held)


class Flight(Generic[R]):
    """Work that is under way for keys: its result, how to call it off, and how many wait for it."""

    __slots__ = ("_arrivals", "call_off", "hold", "keys", "result", "waiters")

    def __init__(
        self, keys: Sequence[Hashable], result: asyncio.Future[R], call_off: Callable[[], object]
    ) -> None:
        self.keys = keys
        self.result = result
        self.call_off = call_off
        self.hold: Held | None = None
        self.waiters = 1
        self._arrivals: list[asyncio.Future[R]] = []

    def arrival(self) -> asyncio.Future[R]:
        """Return a future of the result, which ends with its caller: the work goes on for others."""
        if self.result.done():
            return self.result
        if not self._arrivals:
            self.result.add_done_callback(self.arrive)
        self._arrivals.append(self.result.get_loop().create_future())
        return self._arrivals[-1]

    def arrive(self, result: asyncio.Future[R]) -> None:
        """Tell those who wait what has come of the work."""
        arrivals, self._arrivals = self._arrivals, []
        for arrival in arrivals:
            if arrival.done():
                continue
            if result.cancelled():
                arrival.cancel()
            elif (error := result.exception()) is not None:
                arrival.set_exception(error)
            else:
                arrival.set_result(result.result())

    def release(self) -> None:
        """Drop what the flight pinned."""
        if self.hold is not None:
            self.hold.release()

    def abandon(self, result: asyncio.Future[R]) -> None:
        """Release what a flight pinned that nobody waited for to its end."""
        self.release()
        if not result.cancelled():
            result.exception()  # nobody is left to hear of it


class Flights:
    """The flights under way, by key; on one event loop."""

    def __init__(self) -> None:
        self.coalesced = 0
        self._flights: dict[Hashable, Flight[Any]] = {}

    def __len__(self) -> int:
        return len(self._flights)

    def __contains__(self, key: Hashable) -> bool:
        return key in self._flights

    @asynccontextmanager
    async def once(
        self, key: Hashable, make: Callable[[H], Awaitable[R]], new_hold: Callable[[], H]
    ) -> AsyncIterator[R]:
        """Share one run of ``make`` between all that ask for ``key`` while it runs.

        ``make`` gets a hold, which is released when the last of the waiters has left the
        ``async with`` block. A failure reaches every waiter and is kept nowhere. A waiter
        that is cancelled leaves the others their flight; the last one to leave cancels it.
        """
        under_way = self._flights.get(key)
        flight = self._join(under_way) if under_way else self.fly((key,), make, new_hold())
        try:
            yield await flight.arrival()
        finally:
            self.leave(flight)

    @asynccontextmanager
    async def once_each(
        self,
        keys: Sequence[Hashable],
        make: Callable[[Sequence[Hashable], H], Awaitable[R]],
        new_hold: Callable[[], H],
    ) -> AsyncIterator[list[R]]:
        """Share runs of ``make`` as ``once`` does, for many keys: one run for all that are not under way.

        ``make`` gets those of ``keys``, whoever asks for any of them shares its result. The
        value is the results of the runs, key by key.
        """
        flights = [self._flights.get(key) for key in keys]
        joined = [self._join(flight) for flight in flights if flight is not None]
        rest = [key for key, flight in zip(keys, flights, strict=True) if flight is None]
        own = self.fly(rest, partial(make, rest), new_hold()) if rest else None
        if own is not None:
            joined.append(own)
        try:
            results = {flight: await flight.arrival() for flight in dict.fromkeys(joined)}
            yield [results[flight or joined[-1]] for flight in flights]
        finally:
            for flight in joined:
                self.leave(flight)

    def _join(self, flight: Flight[R]) -> Flight[R]:
        """Wait, too, for a flight that is under way."""
        self.coalesced += 1
        flight.waiters += 1
        return flight

    def fly(self, keys: Sequence[Hashable], make: Callable[[H], Awaitable[R]], hold: H) -> Flight[R]:
        """Start ``make`` for keys that are not under way; its first part is done when this returns.

        The caller is the first who waits for the flight, and must ``leave`` it.
        """
        result: asyncio.Future[R] = asyncio.get_running_loop().create_future()
        flight = self.take_off(keys, result, result.cancel)
        flight.hold = hold
        flight.call_off = started(self._flown(flight, make, hold)).cancel
        return flight

    async def _flown(self, flight: Flight[R], make: Callable[[H], Awaitable[R]], hold: H) -> None:
        """Bring a flight about, and tell those who wait for it in the same turn of the loop."""
        result = flight.result
        try:
            result.set_result(await make(hold))
        except asyncio.CancelledError:
            result.cancel()
            raise
        except Exception as error:
            result.set_exception(error)
        finally:
            self.land(flight)
            if result.done():
                flight.arrive(result)

    def take_off(
        self, keys: Sequence[Hashable], result: asyncio.Future[R], call_off: Callable[[], object]
    ) -> Flight[R]:
        """Let all that ask for any of ``keys`` share ``result``, with its caller as the first waiter.

        The caller lets the flight ``land`` when the result is there, and must ``leave`` it.
        ``call_off`` ends the work when nobody waits any more.
        """
        flight = Flight(keys, result, call_off)
        self._flights.update(dict.fromkeys(keys, flight))
        return flight

    def land(self, flight: Flight[Any]) -> None:
        """End a flight: who asks from now on starts another."""
        for key in flight.keys:
            if self._flights.get(key) is flight:
                del self._flights[key]

    def leave(self, flight: Flight[Any]) -> None:
        """Wait for a flight no longer; the last who leaves calls it off, if it has not landed."""
        flight.waiters -= 1
        if flight.waiters:
            return
        if flight.result.done():
            flight.abandon(flight.result)
            return
        self.land(flight)
        flight.result.add_done_callback(flight.abandon)
        flight.call_off()
