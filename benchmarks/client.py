"""The open-loop client, in a process of its own: JSON of what to ask in, JSON of how it went out.

Times count from when a request was due, not from when it could be sent: what waits in a queue, here or in
the server, is in them. The kinds of plans: ``rate`` (requests at a fixed rate), ``closed`` (each
connection asks again when it has its answer), ``events`` (what a viewer shows from when on; what is
asked for and no longer shown is given up, by closing its connection, as browsers do) and ``clocked`` (one
request after the other, each beside the server's own clocks).
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import sys
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from benchmarks import process

PATIENCE = 120.0  # seconds for a request, and after the last event for what is shown then
WARM = 1.0  # seconds of a plan of a fixed rate before the first request that counts
LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
TIMING = re.compile(rb"\r\nserver-timing: *([^\r]*)", re.IGNORECASE)
OK = "200"
FIRST = "20000"  # the number in the style of the first request


class Link(asyncio.Protocol):
    """A connection: one request at a time."""

    def __init__(self, host: str) -> None:
        self._host = host
        self._head = bytearray()
        self._missing: int | None = None  # bytes of the body; None before the end of the head
        self._answer: asyncio.Future[str] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self.transport: Any = transport

    def ask(self, path: str) -> asyncio.Future[str]:
        """Ask for ``path``; the future is the answer's status, once the whole body is there."""
        self._head.clear()
        self._missing = None
        self._answer = asyncio.get_running_loop().create_future()
        self.transport.write(f"GET {path} HTTP/1.1\r\nHost: {self._host}\r\n\r\n".encode())
        return self._answer

    @property
    def timing(self) -> str:
        """What the last answer says of its Server-Timing; empty where it says nothing."""
        found = TIMING.search(self._head, 0, self._head.find(b"\r\n\r\n") + 2)
        return found[1].decode() if found else ""

    def data_received(self, data: bytes) -> None:
        """Count what comes; an answer that does not say how long it is ends the connection."""
        if self._missing is None:
            self._head += data
            end = self._head.find(b"\r\n\r\n")
            if end < 0:
                return
            length = LENGTH.search(self._head, 0, end + 2)
            if length is None:
                self.transport.abort()
                return
            self._missing = end + 4 + int(length[1]) - len(self._head)
        else:
            self._missing -= len(data)
        if self._missing <= 0 and self._answer is not None and not self._answer.done():
            self._answer.set_result(self._head[9:12].decode())

    def connection_lost(self, error: Exception | None) -> None:
        """Fail what waits for an answer."""
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(ConnectionResetError("closed before the answer was there"))


class Pool:
    """At most so many connections to one server; what finds none free waits for one."""

    def __init__(self, base: str, most: int) -> None:
        address = urlsplit(base)
        self._host, self._port = str(address.hostname), int(address.port or 80)
        self._turn = asyncio.Semaphore(most)
        self._idle: list[Link] = []

    async def get(self, path: str) -> str:
        """Return the status of the answer; a cancelled call closes its connection."""
        async with self._turn:
            link = await self.link()
            try:
                status = await link.ask(path)
            except BaseException:  # a connection is fit for another request after a whole answer only
                link.transport.abort()
                raise
            self._idle.append(link)
            return status

    async def link(self) -> Link:
        """Return a connection that is idle, or a new one."""
        while self._idle:
            link = self._idle.pop()
            if not link.transport.is_closing():
                return link
        loop = asyncio.get_running_loop()
        _, made = await loop.create_connection(lambda: Link(self._host), self._host, self._port)
        return made

    def close(self) -> None:
        """Close what is idle."""
        for link in self._idle:
            link.transport.abort()


@dataclass
class Tally:
    """How requests went: milliseconds from when they were due, of those answered 200; all by outcome."""

    took: list[float] = field(default_factory=list)
    late: list[float] = field(default_factory=list)  # from due to sent, or queued for a connection
    outcomes: Counter[str] = field(default_factory=Counter)

    async def note(self, pool: Pool, path: str, due: float) -> str:
        """Ask, and note how it goes; return the status, or what went wrong."""
        loop = asyncio.get_running_loop()
        self.late.append((loop.time() - due) * 1000)
        try:
            async with asyncio.timeout(PATIENCE):
                outcome = await pool.get(path)
        except asyncio.CancelledError:
            self.outcomes["given up"] += 1
            raise
        except (OSError, TimeoutError) as error:
            outcome = type(error).__name__
        self.outcomes[outcome] += 1
        if outcome == OK:
            self.took.append((loop.time() - due) * 1000)
        return outcome

    def report(self) -> dict[str, Any]:
        """Return percentiles and counts."""
        wrong = {name: count for name, count in self.outcomes.items() if name not in (OK, "given up")}
        return {
            "asked": self.outcomes.total(),
            "done": self.outcomes[OK],
            "given_up": self.outcomes["given up"],
            "errors": wrong,
            **percentiles("", self.took),
            "late_p99_ms": percentiles("", self.late)["p99_ms"],
        }


def percentiles(name: str, values: Iterable[float]) -> dict[str, float | None]:
    """Return the 50th, 95th and 99th percentile; None where there is nothing."""
    ordered = sorted(values)
    return {
        f"{name}p{part}_ms": round(ordered[min(len(ordered) * part // 100, len(ordered) - 1)], 3)
        if ordered
        else None
        for part in (50, 95, 99)
    }


def filled(path: str, x: int = 0, y: int = 0, n: str = FIRST) -> str:
    """Return the path of one request: ``path`` with its @x, @y and @n filled in."""
    return path.replace("@x", str(x)).replace("@y", str(y)).replace("@n", n)


def numbered(plan: dict[str, Any], number: int) -> str:
    """Return the path of a request by its number: the next tile, in a style that none had before."""
    across, number = plan["across"], plan["begin"] + number
    return filled(plan["path"], number % across, number // across % across, f"{20000 + number / 10000:.4f}")


async def rate(pool: Pool, plan: dict[str, Any]) -> dict[str, Any]:
    """Ask at a fixed rate for WARM and then ``seconds``; the latter count."""
    loop, per_s = asyncio.get_running_loop(), plan["rate"]
    warm, tally, tasks = Tally(), Tally(), []
    began = loop.time()
    for number in range(round((WARM + plan["seconds"]) * per_s)):
        due = began + number / per_s
        if (ahead := due - loop.time()) > 0:
            await asyncio.sleep(ahead)
        counting = tally if number >= WARM * per_s else warm
        tasks.append(loop.create_task(counting.note(pool, numbered(plan, number), due)))
    await asyncio.gather(*tasks)
    took = loop.time() - began - WARM
    return tally.report() | {"per_s": round(tally.outcomes[OK] / took, 1)}


async def closed(pool: Pool, plan: dict[str, Any]) -> dict[str, Any]:
    """Ask again and again over each connection, for WARM and then ``seconds``; the latter count."""
    loop, begin = asyncio.get_running_loop(), iter(range(10**9))
    warm, tally = Tally(), Tally()

    async def asking(until: float, counting: Tally) -> None:
        while (now := loop.time()) < until:
            await counting.note(pool, numbered(plan, next(begin)), now)

    for seconds, counting in ((WARM, warm), (plan["seconds"], tally)):
        began = loop.time()
        await asyncio.gather(*(asking(began + seconds, counting) for _ in range(plan["connections"])))
    return tally.report() | {"per_s": round(tally.outcomes[OK] / (loop.time() - began), 1)}


async def clocked(pool: Pool, plan: dict[str, Any]) -> dict[str, Any]:
    """Ask for ``paths`` in turn over one connection; each answer has its milliseconds and Server-Timing.

    Raises RuntimeError where one is not 200.
    """
    link = await pool.link()
    try:
        return {"answers": [await _clock(link, path) for path in plan["paths"]]}
    finally:
        link.transport.abort()


async def _clock(link: Link, path: str) -> dict[str, Any]:
    loop = asyncio.get_running_loop()
    began = loop.time()
    status = await link.ask(path)
    took = (loop.time() - began) * 1000
    if status != OK:
        raise RuntimeError(f"{path}: expected {OK}; got {status}")
    return {"ms": took, "timing": link.timing}


def clocks(timing: str) -> dict[str, float]:
    """Return {stage: milliseconds} of what an answer's Server-Timing says."""
    parts = (part.split(";dur=") for part in timing.split(", "))
    return {stage: float(spent) for stage, spent in parts}


class Screen:
    """What a viewer shows: the tiles that its view needs, those that have come, those on their way."""

    def __init__(self, pool: Pool, looks: Sequence[str]) -> None:
        self.tally = Tally()
        self.whole: list[float] = []  # milliseconds from a view's wish to its last tile
        self.views = 0
        self._pool, self._looks = pool, looks
        self._needs: frozenset[tuple[int, ...]] = frozenset()
        self._due = 0.0
        self._come: set[tuple[int, ...]] = set()
        self._coming: dict[tuple[int, ...], asyncio.Task[None]] = {}
        self.settled = asyncio.Event()

    def show(self, look: int, tiles: Iterable[Sequence[int]], due: float) -> None:
        """Ask for what a view lacks, and give up what it does not show."""
        needs = frozenset((look, *tile) for tile in tiles)
        if needs == self._needs:
            return
        self.views += 1
        self._needs, self._due = needs, due
        self.settled.clear()
        for key in self._coming.keys() - needs:
            self._coming.pop(key).cancel()
        loop = asyncio.get_running_loop()
        for key in sorted(needs - self._come - self._coming.keys()):
            self._coming[key] = loop.create_task(self._fetch(key, due))
        self._look_whether_whole()

    async def _fetch(self, key: tuple[int, ...], due: float) -> None:
        look, z, x, y = key
        path = filled(self._looks[look], x, y).replace("@z", str(z))
        outcome = await self.tally.note(self._pool, path, due)
        del self._coming[key]
        if outcome == OK:
            self._come.add(key)
        self._look_whether_whole()

    def _look_whether_whole(self) -> None:
        if self._needs <= self._come and not self.settled.is_set():
            self.whole.append((asyncio.get_running_loop().time() - self._due) * 1000)
            self.settled.set()


async def watch(pool: Pool, plan: dict[str, Any]) -> dict[str, Any]:
    """Show the views of a trace, each when it is due."""
    loop, screen = asyncio.get_running_loop(), Screen(pool, plan["looks"])
    began = loop.time()
    for event in plan["events"]:
        due = began + event["at"]
        if (ahead := due - loop.time()) > 0:
            await asyncio.sleep(ahead)
        screen.show(event["look"], event["tiles"], due)
    with contextlib.suppress(TimeoutError):  # then the last view is not among those that became whole
        await asyncio.wait_for(screen.settled.wait(), PATIENCE)
    return screen.tally.report() | {
        "views": screen.views,
        "whole": len(screen.whole),
        "settled": screen.settled.is_set(),
        **percentiles("whole_", screen.whole),
    }


KINDS = {"rate": rate, "closed": closed, "clocked": clocked, "events": watch}


async def carry_out(plan: dict[str, Any]) -> dict[str, Any]:
    """Carry out a plan; its ``kind`` says how, ``connections`` how many it may open."""
    pool = Pool(plan["base"], plan["connections"])
    try:
        return await KINDS[plan["kind"]](pool, plan)
    finally:
        pool.close()


def run(plan: dict[str, Any], seconds: float) -> dict[str, Any]:
    """Carry out a plan in a process of its own, which takes ``seconds`` or is ended some time after.

    It is carried out again where the machine stood still meanwhile.
    """
    words = [sys.executable, "-m", "benchmarks.client"]
    folder = Path(__file__).resolve().parent.parent
    return dict(json.loads(process.output(words, seconds + 2 * PATIENCE, json.dumps(plan), cwd=folder)))


if __name__ == "__main__":
    json.dump(asyncio.run(carry_out(json.load(sys.stdin))), sys.stdout)
