"""Viewports: many tiles for one request, or one message of a socket."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from struct import unpack_from
from typing import Any

import numpy as np
import pytest
import tifffile
from aiohttp import WSMsgType
from aiohttp.test_utils import TestClient, TestServer

from gputiles import style, viewport
from gputiles.app import create_app
from gputiles.config import Config
from gputiles.engine import Engine
from gputiles.errors import DeadlineExceeded
from gputiles.request import View, ViewportRequest
from gputiles.routes import viewports
from gputiles.state import STATE
from gputiles.trace import Trace
from tests.grids import assert_refused

Client = TestClient[Any, Any]
RED = {"channel": "DAPI", "palette": "#f00", "min": 0, "max": 4000}
STYLE = {"bands": [RED, {"channel": "CD3", "palette": "#0f0"}]}
FIXED = {"bands": [RED]}
PLACES = [[2, x, y] for y in range(3) for x in range(4)]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "images"
    folder.mkdir()
    data = np.random.default_rng(3).integers(0, 4096, (3, 300, 500)).astype(np.uint16)
    names = {"axes": "CYX", "Channel": {"Name": ["DAPI", "CD3", "CD8"]}}
    tifffile.imwrite(folder / "multi.ome.tif", data, tile=(128, 128), compression="zlib", metadata=names)
    rgb = np.random.default_rng(4).integers(0, 255, (300, 500, 3)).astype(np.uint8)
    tifffile.imwrite(folder / "slide.tif", rgb, tile=(128, 128), compression="jpeg", photometric="rgb")
    whole = (folder / "multi.ome.tif").read_bytes()
    with tifffile.TiffFile(folder / "multi.ome.tif") as tiff:
        at = tiff.pages[0].dataoffsets[5]
    (folder / "damaged.ome.tif").write_bytes(whole[:at] + b"\xff" * 64 + whole[at + 64 :])
    return folder


@pytest.fixture(name="config")
def config_fixture(root: Path) -> Config:
    return Config(roots=(root,), tile_cache=1 << 22, raw_cache=1 << 24, workers=2)


@pytest.fixture
async def client(config: Config) -> AsyncIterator[Client]:
    async with TestClient(TestServer(create_app(config))) as client:
        yield client


def engine_of(client: Client) -> Engine:
    engine: Engine = client.server.app[STATE].engine
    return engine


async def tiles_of(client: Client, name: str) -> str:
    items = await (await client.get("/item")).json()
    return next(f"/item/{item['id']}/tiles" for item in items if item["name"] == name)


def answers(body: bytes) -> dict[int, tuple[int, bytes]]:
    """Return {number of the place: (status, bytes)} of a batch; each number comes once."""
    found: dict[int, tuple[int, bytes]] = {}
    at = 0
    while at < len(body):
        number, status, length = unpack_from("<III", body, at)
        assert number not in found
        found[number] = status, body[at + 12 : at + 12 + length]
        assert len(found[number][1]) == length
        at += 12 + length
    return found


async def batch(client: Client, base: str, **asked: Any) -> dict[int, tuple[int, bytes]]:
    response = await client.post(f"{base}:batch", json={"tiles": PLACES, **asked})
    assert (response.status, response.content_type) == (200, "application/octet-stream")
    assert response.headers["Access-Control-Allow-Origin"] == "*"
    assert response.headers["X-Accel-Buffering"] == "no"
    return answers(await response.read())


@contextmanager
def workers_wait(engine: Engine) -> Iterator[threading.Event]:
    """Let no tile be rendered before the event is set."""
    gate, render = threading.Event(), engine.backend.render

    def patient(jobs: Any) -> Any:
        assert gate.wait(30)
        return render(jobs)

    engine.backend.render = patient  # type: ignore[method-assign]
    try:
        yield gate
    finally:
        gate.set()
        engine.backend.render = render  # type: ignore[method-assign]


async def until(condition: Any) -> None:
    async with asyncio.timeout(30):
        while not condition():
            await asyncio.sleep(0.005)


@pytest.mark.parametrize(
    ("name", "asked"),
    [
        ("multi.ome.tif", {"style": STYLE}),
        ("multi.ome.tif", {"style": json.dumps(STYLE), "encoding": "PNG", "edge": "crop"}),
        ("multi.ome.tif", {"frame": 1, "jpegQuality": 60, "jpegSubsampling": 2, "edge": "#abc"}),
        ("multi.ome.tif", {"encoding": "NPY"}),
        ("multi.ome.tif", {"style": {}}),
        ("slide.tif", {}),
        ("slide.tif", {"style": {"min": 10, "max": 200}}),
    ],
)
async def test_a_batch_is_what_each_tile_is_alone(client: Client, name: str, asked: dict[str, Any]) -> None:
    base = await tiles_of(client, name)
    query = {key: value if isinstance(value, str) else json.dumps(value) for key, value in asked.items()}
    alone = {}
    for number, (z, x, y) in enumerate(PLACES):
        response = await client.get(f"{base}/zxy/{z}/{x}/{y}", params=query)
        alone[number] = response.status, await response.read()
    assert await batch(client, base, **asked) == alone
    engine_of(client).clear()
    assert await batch(client, base, **asked) == alone, "cold"
    engine_of(client).renderer.tiles.clear()
    assert await batch(client, base, **asked) == alone, "resident"
    assert {status for status, _ in alone.values()} == {200}


async def test_a_long_style_is_parsed_by_the_readers(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    base, engine = await tiles_of(client, "multi.ome.tif"), engine_of(client)
    bands = [RED | {"max": 4000 + number, "palette": ["#000", "#f00"]} for number in range(400)]
    called, run = [], engine.reading_room.run

    async def recorded(function: Any, *args: Any, **kwargs: Any) -> Any:
        called.append(function)
        return await run(function, *args, **kwargs)

    monkeypatch.setattr(engine.reading_room, "run", recorded)
    found = await batch(client, base, tiles=[[0, 0, 0]], style={"bands": bands})
    assert found[0][0] == 200
    assert {viewports._parsed, style.parse_text} <= set(called)


async def test_a_posted_style_serves_a_batch(client: Client) -> None:
    base = await tiles_of(client, "multi.ome.tif")
    key = (await (await client.post("/styles", json=STYLE)).json())["id"]
    assert await batch(client, base, style=f"@{key}") == await batch(client, base, style=STYLE)


async def test_a_restyled_viewport_decodes_nothing_and_renders_each_tile_once(
    client: Client,
) -> None:
    base, engine = await tiles_of(client, "multi.ome.tif"), engine_of(client)
    await batch(client, base, style=STYLE)
    before = engine.report()["counts"]
    for step in range(10):
        await batch(client, base, style={"bands": [{"frame": 0, "max": 3000 + step}, {"frame": 1}]})
    after = engine.report()["counts"]
    changed = {key: after[key] - before[key] for key in after if after[key] != before.get(key, 0)}
    assert changed.pop("render") == 10 * len(PLACES)
    assert changed.keys() <= {"measure"}, "the windows of the second band, once a style"
    await batch(client, base, style={"bands": [{"frame": 0, "max": 3009}, {"frame": 1}]})
    assert engine.report()["counts"] == after, "what was rendered lies on the shelf"


async def test_equal_viewports_and_tiles_at_one_time_are_rendered_once(client: Client) -> None:
    base, engine = await tiles_of(client, "multi.ome.tif"), engine_of(client)
    await batch(client, base)
    before = engine.batcher.jobs["render"]
    with workers_wait(engine) as gate:
        asking = [asyncio.create_task(batch(client, base, style=STYLE)) for _ in range(4)]
        await until(lambda: engine.renderer.tiles.flights == len(PLACES))
        single = asyncio.create_task(client.get(f"{base}/zxy/2/1/1", params={"style": json.dumps(STYLE)}))
        await until(lambda: engine.renderer.tiles.flying.coalesced >= 3 * len(PLACES) + 1)
        gate.set()
        first, *others = await asyncio.gather(*asking)
        assert all(other == first for other in others)
        assert await (await single).read() == first[PLACES.index([2, 1, 1])][1]
    assert engine.batcher.jobs["render"] - before == len(PLACES)


async def test_a_place_that_is_asked_for_twice_comes_twice(client: Client) -> None:
    base = await tiles_of(client, "multi.ome.tif")
    await batch(client, base)
    found = await batch(client, base, tiles=[[2, 1, 1], [2, 1, 1]], style=STYLE)
    assert found[0] == found[1]
    assert found[0][0] == 200


async def test_a_batch_tells_where_its_time_went_where_that_is_asked_for(client: Client) -> None:
    base = await tiles_of(client, "multi.ome.tif")
    found = await batch(client, base, style=FIXED, timing=True)
    status, told = found.pop(len(PLACES))
    spent = json.loads(told)
    assert status == 200
    assert spent["stages"].keys() >= {"read", "decode", "render"}
    assert spent["ms"] > 0
    assert found == await batch(client, base, style=FIXED, timing=False)


async def test_each_place_has_its_own_error(client: Client) -> None:
    base = await tiles_of(client, "multi.ome.tif")
    found = await batch(client, base, tiles=[[2, 0, 0], [2, 4, 0], [9, 0, 0]], style=STYLE)
    assert {number: status for number, (status, _) in found.items()} == {0: 200, 1: 404, 2: 404}
    assert json.loads(found[2][1])["type"] == "rest"
    damaged = await batch(client, await tiles_of(client, "damaged.ome.tif"), style=FIXED)
    assert {number: status for number, (status, _) in damaged.items() if status != 200} == {5: 422}


@pytest.mark.parametrize(
    ("body", "status", "named"),
    [
        (b"{", 400, "body: expected a JSON object"),
        (b"[]", 400, "body: expected a JSON object"),
        (b"[" * 100_000, 400, "body: expected a JSON object"),
        (b"{}", 400, "tiles: expected 1 to"),
        (b'{"tiles": []}', 400, "tiles: expected 1 to"),
        (b'{"tiles": 7}', 400, "tiles: expected 1 to"),
        (b'{"tiles": [[0, 0]]}', 400, "expected [z, x, y]"),
        (b'{"tiles": [[0, 0, -1]]}', 400, "expected [z, x, y]"),
        (b'{"tiles": [[0, 0, true]]}', 400, "expected [z, x, y]"),
        (b'{"tiles": [[0, 0, 0.5]]}', 400, "expected [z, x, y]"),
        (json.dumps({"tiles": [[0, 0, 0]] * 1025}).encode(), 400, "tiles: expected 1 to 1024"),
        (b'{"tiles": [[0, 0, 0]], "colour": "red"}', 400, "colour: expected tiles"),
        (b'{"tiles": [[0, 0, 0]], "timing": 1}', 400, "timing: expected true or false; got '1'"),
        (b'{"tiles": [[0, 0, 0]], "encoding": "BMP"}', 400, "Invalid encoding"),
        (b'{"tiles": [[0, 0, 0]], "style": {"bands": 3}}', 400, "bands"),
        (b'{"tiles": [[0, 0, 0]], "style": "@none"}', 400, "no style was posted"),
        (b'{"tiles": [[0, 0, 0]], "encoding": "PNG16", "style": {}}', 400, "PNG16 holds the stored values"),
        (b'{"tiles": [[0, 0, 0]], "frame": 3}', 404, "Frame does not exist"),
        (b'{"tiles": [[0, 0, 0]], "frame": "x"}', 400, "frame: expected an integer"),
        (b" " * (4 * 1024**2 + 1), 413, "body: at most"),
    ],
)
async def test_what_no_place_can_answer_is_one_refusal(
    client: Client, body: bytes, status: int, named: str
) -> None:
    base = await tiles_of(client, "multi.ome.tif")
    response = await client.post(f"{base}:batch", data=BytesIO(body))
    await assert_refused(response, status, named)


async def test_an_item_that_is_not_there_is_not_found(client: Client) -> None:
    response = await client.post("/item/0123456789abcdef01234567/tiles:batch", json={"tiles": PLACES})
    assert response.status == 404


async def test_who_leaves_a_viewport_takes_it_along_and_nobody_elses(client: Client) -> None:
    base, engine = await tiles_of(client, "multi.ome.tif"), engine_of(client)
    expected = await batch(client, base, style=STYLE)
    engine.renderer.tiles.clear()
    with workers_wait(engine) as gate:
        leaving = [
            asyncio.create_task(batch(client, base, style={"bands": [RED | {"max": n}]}))
            for n in range(900, 910)
        ]
        leaving.append(asyncio.create_task(batch(client, base, style=STYLE)))
        await until(lambda: engine.renderer.tiles.flights == 11 * len(PLACES))
        staying = asyncio.create_task(batch(client, base, style=STYLE))
        await until(lambda: engine.renderer.tiles.flying.coalesced >= len(PLACES))
        for client_that_leaves in leaving:
            client_that_leaves.cancel()
        await asyncio.gather(*leaving, return_exceptions=True)
        await until(lambda: engine.renderer.tiles.flights == len(PLACES))
        gate.set()
        assert await staying == expected
    await until(lambda: not engine.batcher.report()["running"])
    report = engine.report()
    assert report["queue"]["waiting"] == report["queue"]["waitingBytes"] == 0
    assert report["queue"]["skipped"] > 0
    for shelf in engine.shelves:
        assert (shelf.reserved, shelf.loose, shelf.pinned, shelf.flights) == (0, 0, 0, 0), shelf.name


async def test_who_leaves_a_cold_viewport_takes_along_what_has_not_begun(client: Client) -> None:
    base, engine = await tiles_of(client, "multi.ome.tif"), engine_of(client)
    decode, begun, gate = engine.backend.decode, [0], threading.Event()
    engine.backend.batch_size = lambda *_: 1  # type: ignore[method-assign]

    def patient(jobs: Any) -> Any:
        begun[0] += len(jobs)
        assert gate.wait(30)
        return decode(jobs)

    engine.backend.decode = patient  # type: ignore[method-assign]
    fixed = {"bands": [RED, RED | {"channel": "CD3"}]}
    leaving = asyncio.create_task(batch(client, base, style=fixed))
    staying = asyncio.create_task(batch(client, base, tiles=PLACES[:1], style=fixed))
    await until(lambda: engine.batcher.report()["waiting"] >= 2 * len(PLACES) - 4)
    leaving.cancel()
    await asyncio.gather(leaving, return_exceptions=True)
    await until(lambda: engine.batcher.report()["waiting"] <= 2)
    gate.set()
    assert [status for status, _ in (await staying).values()] == [200]
    await until(lambda: not engine.batcher.report()["running"])
    engine.backend.decode = decode  # type: ignore[method-assign]
    report = engine.report()
    assert begun[0] <= report["counts"]["decode"] < len(PLACES), "of two chunks for each of them"
    assert report["counts"].get("render", 0) == 1, "for who stayed"
    assert report["queue"]["waiting"] == report["queue"]["waitingBytes"] == 0
    await until(lambda: not engine.reading_room.pending)  # which looks at the other files, too
    assert report["queue"]["skipped"] > len(PLACES)
    for shelf in engine.shelves:
        assert (shelf.reserved, shelf.loose, shelf.pinned, shelf.flights) == (0, 0, 0, 0), shelf.name


async def test_a_full_queue_is_the_error_of_the_places_that_found_it_full(root: Path) -> None:
    config = Config(roots=(root,), tile_cache=1 << 22, raw_cache=1 << 24, workers=1, queue_items=4)
    async with TestClient(TestServer(create_app(config))) as client:
        base, engine = await tiles_of(client, "multi.ome.tif"), engine_of(client)
        for place in PLACES:
            await batch(client, base, tiles=[place], style=FIXED)
        with workers_wait(engine) as gate:
            asking = asyncio.create_task(batch(client, base, style={"bands": [RED | {"max": 9}]}))
            await until(lambda: engine.renderer.tiles.flights)
            gate.set()
            statuses = [status for status, _ in (await asking).values()]
        assert {200, 503} == set(statuses)


async def test_what_is_late_is_refused_place_by_place(client: Client) -> None:
    base, engine = await tiles_of(client, "multi.ome.tif"), engine_of(client)
    await batch(client, base, style=FIXED)
    item = await client.server.app[STATE].library.item(base.split("/")[2])
    image = await engine.image(item.ref)
    view = View(style=style.parse({"bands": [RED | {"max": 9}]}))
    wanted = ViewportRequest(tuple((z, x, y) for z, x, y in PLACES), view)
    with workers_wait(engine):
        found = [
            outcome
            async for ready in viewport.tiles(engine.renderer, image, wanted, Trace(), deadline=0.3)
            for _, outcome in ready
        ]
    assert len(found) == len(PLACES)
    assert {type(outcome) for outcome in found} == {DeadlineExceeded}
    assert str(found[0]) == "no answer within the deadline of 0.3 s"


async def test_a_newer_viewport_on_a_socket_calls_the_older_off(client: Client) -> None:
    base, engine = await tiles_of(client, "multi.ome.tif"), engine_of(client)
    await batch(client, base)
    alone = await batch(client, base, style=STYLE)
    engine.renderer.tiles.clear()
    before = engine.batcher.jobs["render"]
    with workers_wait(engine) as gate:
        async with client.ws_connect(base.replace("/tiles", "/live")) as socket:
            await socket.send_json({"request": 1, "tiles": PLACES, "style": FIXED})
            await until(lambda: engine.renderer.tiles.flights == len(PLACES))
            for number in range(2, 5):
                await socket.send_json(
                    {"request": number, "tiles": PLACES, "style": {"bands": [RED | {"max": number}]}}
                )
            await socket.send_json({"request": 5, "tiles": PLACES, "style": STYLE})
            await until(lambda: engine.batcher.report()["skipped"] >= 1)
            gate.set()
            found = await _answer(socket, 5)
    assert found == alone
    assert engine.batcher.jobs["render"] - before < 3 * len(PLACES), "what had not started was not begun"
    assert engine.renderer.tiles.flights == 0


async def _answer(socket: Any, number: int) -> dict[int, tuple[int, bytes]]:
    """Return what a socket sends in answer to request ``number``, to its end."""
    found: dict[int, tuple[int, bytes]] = {}
    while True:
        message = await socket.receive(timeout=30)
        if message.type is WSMsgType.TEXT:
            end = json.loads(message.data)
            if end["request"] == number:
                assert end["status"] == 200
                assert end["ms"] > 0
                return found
            continue
        request, place, status = unpack_from("<III", message.data)
        if request == number:
            found[place] = status, message.data[12:]


@pytest.mark.parametrize(
    ("message", "status", "number"),
    [
        ("{", 400, 0),
        ('{"request": -1, "tiles": [[0, 0, 0]]}', 400, 0),
        ('{"request": 4, "tiles": [[0, 0, 0]], "style": {"bands": 3}}', 400, 4),
        ('{"request": 4, "tiles": [[0, 0, 0]], "frame": 7}', 404, 4),
    ],
)
async def test_a_socket_goes_on_after_a_refusal(
    client: Client, message: str, status: int, number: int
) -> None:
    base = await tiles_of(client, "multi.ome.tif")
    async with client.ws_connect(base.replace("/tiles", "/live")) as socket:
        await socket.send_str(message)
        refusal = await socket.receive_json(timeout=30)
        assert (refusal["status"], refusal["request"], refusal["type"]) == (status, number, "rest")
        await socket.send_json({"request": 9, "tiles": PLACES, "style": STYLE})
        assert await _answer(socket, 9) == await batch(client, base, style=STYLE)
