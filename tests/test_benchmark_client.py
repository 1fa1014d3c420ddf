"""The open-loop client asks, counts and gives up as it says; traces are what viewers do."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest

if not os.environ.get("CI"):  # there nothing is skipped
    pytest.importorskip("large_image_source_ometiff", reason="needs the extra 'bench'")

from benchmarks import client, http_load, openloop, report, traces, viewing
from benchmarks.hot import serving
from benchmarks.scope import MODES, TINY, Scope
from benchmarks.sections import SECTIONS

PATIENCE = 120  # seconds: the machine may be busy
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


@pytest.fixture
def scope(tmp_path: Path) -> Scope:
    return replace(MODES[TINY], folder=tmp_path)


@asynccontextmanager
async def a_pool(protocol: Callable[[], asyncio.Protocol], most: int = 4) -> AsyncIterator[client.Pool]:
    server = await asyncio.get_running_loop().create_server(protocol, "127.0.0.1", 0)
    pool = client.Pool(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", most)
    try:
        yield pool
    finally:
        pool.close()
        server.close()
        await server.wait_closed()


class Gate:
    """A server that answers when it is open; it notes what is asked, and who leaves before."""

    def __init__(self) -> None:
        self.is_open = False
        self.asked: list[str] = []
        self.connections = 0
        self.left = 0
        self.held: list[asyncio.WriteTransport] = []

    def __call__(self) -> asyncio.Protocol:
        return Visit(self)

    def open(self) -> None:
        self.is_open = True
        while self.held:
            self.held.pop().write(ANSWER)


class Visit(asyncio.Protocol):
    def __init__(self, gate: Gate) -> None:
        self.gate = gate

    def connection_made(self, transport: asyncio.WriteTransport) -> None:
        self.transport = transport
        self.gate.connections += 1

    def data_received(self, data: bytes) -> None:
        self.gate.asked.append(data.split()[1].decode())
        self.gate.held.append(self.transport)
        if self.gate.is_open:
            self.gate.open()

    def connection_lost(self, error: Exception | None) -> None:
        if self.transport in self.gate.held:
            self.gate.held.remove(self.transport)
            self.gate.left += 1


class Saying(asyncio.Protocol):
    """Says something whatever it is asked, and goes."""

    def __init__(self, answer: bytes) -> None:
        self.answer = answer

    def connection_made(self, transport: asyncio.WriteTransport) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.transport.write(self.answer[:20])
        asyncio.get_running_loop().call_soon(self.go_on)  # wherever a packet ends

    def go_on(self) -> None:
        self.transport.write(self.answer[20:])
        self.transport.close()


class Telling(asyncio.Protocol):
    """Gives its answers one after the other over one connection."""

    def __init__(self, answers: list[bytes]) -> None:
        self.answers = answers

    def connection_made(self, transport: asyncio.WriteTransport) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.transport.write(self.answers.pop(0))


async def until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE):
        while not true():
            await asyncio.sleep(0.001)


@pytest.mark.parametrize(
    ("answer", "outcome"),
    [
        (ANSWER, "200"),
        (ANSWER.lower().replace(b"http", b"HTTP"), "200"),
        (ANSWER.replace(b"200", b"503"), "503"),
        (ANSWER[:-1], "ConnectionResetError"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "ConnectionResetError"),
        (b"", "ConnectionResetError"),
    ],
)
async def test_every_answer_has_its_outcome(answer: bytes, outcome: str) -> None:
    tally = client.Tally()
    async with a_pool(lambda: Saying(answer)) as pool:
        assert await tally.note(pool, "/", asyncio.get_running_loop().time()) == outcome
    found = tally.report()
    assert found["asked"] == 1
    assert found["errors"] == ({} if outcome == "200" else {outcome: 1})
    assert (found["p50_ms"] is None) == (outcome != "200")


async def test_a_server_that_is_away_is_an_error() -> None:
    tally = client.Tally()
    assert await tally.note(client.Pool("http://127.0.0.1:1", 1), "/", 0.0) == "ConnectionRefusedError"


async def test_times_count_from_when_a_request_was_due() -> None:
    tally = client.Tally()
    async with a_pool(lambda: Saying(ANSWER)) as pool:
        await tally.note(pool, "/", asyncio.get_running_loop().time() - 5)
    assert tally.took[0] >= 5000
    assert tally.late[0] >= 5000


async def test_connections_are_kept_and_no_more_than_allowed() -> None:
    gate = Gate()
    async with a_pool(gate, most=2) as pool:
        waiting = [asyncio.create_task(pool.get(f"/{number}")) for number in range(6)]
        await until(lambda: len(gate.asked) == 2)
        gate.open()
        assert await asyncio.gather(*waiting) == ["200"] * 6
    assert gate.asked == [f"/{number}" for number in range(6)]
    assert gate.connections == 2


async def test_what_is_no_longer_shown_is_given_up_and_the_newest_view_becomes_whole() -> None:
    gate = Gate()
    tiles = [(1, x, 0) for x in range(6)]
    async with a_pool(gate) as pool:
        screen = client.Screen(pool, ["/old/@z/@x/@y", "/new/@z/@x/@y"])
        screen.show(0, tiles, 0.0)
        await until(lambda: len(gate.asked) == 4)  # the other two wait for a connection
        screen.show(1, tiles, 0.0)
        screen.show(1, tiles, 0.0)  # the same view
        await until(lambda: gate.left == 4)
        gate.open()
        async with asyncio.timeout(PATIENCE):
            await screen.settled.wait()
    assert (screen.views, len(screen.whole)) == (2, 1)
    assert screen.tally.outcomes == {"given up": 6, "200": 6}
    assert sorted(gate.asked[4:]) == [f"/new/1/{x}/0" for x in range(6)]


async def test_tiles_that_have_come_are_not_asked_for_again() -> None:
    gate = Gate()
    gate.open()
    async with a_pool(gate) as pool:
        screen = client.Screen(pool, ["/@x"])
        for tiles in ([(0, 0, 0), (0, 1, 0)], [(0, 1, 0), (0, 2, 0)], [(0, 0, 0)]):
            screen.show(0, tiles, 0.0)
            async with asyncio.timeout(PATIENCE):
                await screen.settled.wait()
    assert sorted(gate.asked) == ["/0", "/1", "/2"]
    assert (screen.views, len(screen.whole)) == (3, 3)


async def test_each_answer_of_a_plan_of_paths_has_its_time_and_the_servers_clocks() -> None:
    timed = ANSWER.replace(b"\r\n\r\n", b"\r\nServer-Timing: read;dur=1.5, total;dur=2\r\n\r\n")
    async with a_pool(lambda: Telling([timed, ANSWER])) as pool:
        found = (await client.clocked(pool, {"paths": ["/a", "/b"]}))["answers"]
    assert [answer["timing"] for answer in found] == ["read;dur=1.5, total;dur=2", ""]
    assert all(answer["ms"] > 0 for answer in found)
    assert client.clocks(found[0]["timing"]) == {"read": 1.5, "total": 2.0}


async def test_a_refusal_is_no_answer_to_clock() -> None:
    async with a_pool(lambda: Telling([ANSWER.replace(b"200", b"404")])) as pool:
        with pytest.raises(RuntimeError, match="/a: expected 200; got 404"):
            await client.clocked(pool, {"paths": ["/a"]})


def test_percentiles_are_values_that_were_there() -> None:
    found = client.percentiles("", [float(number) for number in range(100, 0, -1)])
    assert found == {"p50_ms": 51.0, "p95_ms": 96.0, "p99_ms": 100.0}
    assert client.percentiles("whole_", [])["whole_p99_ms"] is None


def test_requests_walk_over_the_tiles_and_no_style_comes_twice() -> None:
    plan = {"path": "/@x/@y?@n", "across": 2, "begin": 10_000_000}
    assert [client.numbered(plan, number) for number in range(4)] == [
        "/0/0?21000.0000", "/1/0?21000.0001", "/0/1?21000.0002", "/1/1?21000.0003",
    ]  # fmt: skip


def test_a_fixed_rate_asks_as_often_as_it_says_after_the_warm_up(scope: Scope) -> None:
    drive = next(http_load.drives(scope.folder, 512))
    with serving(http_load.serve_bare, b"body") as base:
        found = client.run(openloop.rate_plan(drive, base, "/", 50.0, 1, scope), 2)
    assert (found["asked"], found["done"], found["errors"]) == (50, 50, {})
    assert 0 < found["p50_ms"] <= found["p95_ms"] <= found["p99_ms"]


def test_an_open_loop_has_a_row_for_each_rate(scope: Scope) -> None:
    drive = list(http_load.drives(scope.folder, 512))[2]
    (found,) = openloop.of_drive(drive, scope)
    assert found["errors"] == {}
    assert found["asked"] == pytest.approx(found["offered_per_s"], abs=1.5)
    told = report.tables({"rows": [], "sections": {"open": {"rows": [found | {"errors": {"503": 2}}]}}})
    assert "2 × 503" in told
    pytest.importorskip("matplotlib", reason="needs the extra 'bench'")
    from benchmarks import plots

    sections = {"open": {"rows": [found, found | {"done": 0, "p50_ms": None}]}}
    assert plots.draw({"rows": [], "stages": [], "sections": sections}, scope.folder) == ["open.svg"]


@pytest.mark.parametrize(
    ("late", "took", "expected"),
    [(5.0, 6.0, True), (30.0, 50.0, False), (30.0, 200.0, True), (None, None, False)],
)
def test_a_row_of_a_late_generator_is_marked(late: float | None, took: float | None, expected: bool) -> None:
    found = {"late_p99_ms": late, "p99_ms": took}
    assert openloop.on_time(found) is expected
    assert ("invalid" in openloop.lateness(found | {"on_time": expected})) is not expected


def test_a_client_that_fails_is_an_error() -> None:
    with pytest.raises(RuntimeError, match="KeyError"):
        client.run({"kind": "unknown", "base": "http://127.0.0.1:1", "connections": 1}, 1)


@pytest.mark.parametrize("side", [256, 512, 2048])
@pytest.mark.parametrize("name", traces.DRAWERS)
def test_a_trace_is_always_the_same_and_stays_in_the_image(name: str, side: int) -> None:
    grid = traces.Grid(side)
    trace = traces.draw(name, grid, 3)
    assert trace == traces.draw(name, grid, 3)
    assert traces.from_json(traces.as_json(trace)) == trace
    assert [event.at for event in trace.events] == sorted(event.at for event in trace.events)
    assert trace.events[0].at == 0
    assert trace.events[-1].at < 3
    for event in trace.events:
        left, top, right, bottom = event.box
        most = 2**event.z - 1
        assert 0 <= left <= right <= most
        assert 0 <= top <= bottom <= most
        assert event.z <= grid.finest
        assert event.look.on
        assert event.look.plane < grid.planes


def test_traces_do_what_their_names_say() -> None:
    found = {name: traces.draw(name, traces.Grid(2048), 5).events for name in traces.DRAWERS}
    assert len({event.box for event in found["pan"]}) > 3
    assert {event.z for event in found["zoom"]} == {0, 1, 2, 3}
    assert len({event.look.top for event in found["drag"]}) == len(found["drag"]) == 300
    assert len({event.look.on for event in found["toggle"]}) > 3
    assert {event.look.plane for event in found["scrub"]} == set(range(6))


def test_the_traces_of_a_full_run_are_written_as_data(tmp_path: Path) -> None:
    traces.write(tmp_path / "new")
    kept = {path.stem: traces.from_json(path.read_text()) for path in (tmp_path / "new").iterdir()}
    assert kept == {name: traces.draw(name, traces.Grid(2048), 5) for name in traces.DRAWERS}


def test_traces_are_replayed_to_the_last_view(scope: Scope) -> None:
    found = viewing.rows(scope)
    assert [row["name"] for row in found] == list(traces.DRAWERS)
    assert all(row["settled"] and row["errors"] == {} and 0 < row["whole"] <= row["views"] for row in found)
    assert found[2]["views"] == found[2]["events"] == 60
    assert len(report.tables({"rows": [], "sections": {"traces": {"rows": found}}}).splitlines()) == 6
    assert SECTIONS["traces"].absent() is None
