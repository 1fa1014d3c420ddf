"""The store of posted styles: what it keeps, how much of it, and for how long."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sqlite3
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from gputiles import style
from gputiles.app import create_app
from gputiles.config import Config
from gputiles.errors import Unavailable
from gputiles.styles import StyleStore

BODY = '{"min": 1}'


def keys(store: StyleStore, count: int) -> list[int]:
    """Return which of the styles 0 … count - 1 are kept, without using them."""
    rows = store._database.execute("SELECT id FROM styles").fetchall()
    return sorted(int(row[0]) for row in rows if int(row[0]) < count)


def test_a_style_is_found_again_as_it_was_posted() -> None:
    store = StyleStore(None, 10)
    body = '{"palette": "#0f0", "µ": "日本\\u0000"}'
    store.put("a", body)
    store.put("a", body)
    assert store.get("a") == body
    assert store.get("b") is None
    store.close()


def test_styles_survive_a_restart(tmp_path: Path) -> None:
    path = tmp_path / "new folder" / "styles.sqlite"
    first = StyleStore(path, 10)
    first.put("a", BODY)
    first.close()
    second = StyleStore(path, 10)
    assert second.get("a") == BODY
    second.close()


def test_styles_survive_a_process_that_is_killed(tmp_path: Path) -> None:
    path = tmp_path / "styles.sqlite"
    process = multiprocessing.get_context("spawn").Process(target=_put_and_wait, args=(path, 20, True))
    process.start()
    process.join()
    assert process.exitcode == -9
    store = StyleStore(path, 100)
    assert [store.get(str(number)) for number in range(20)] == [BODY] * 20
    store.close()


def _put_and_wait(path: Path, count: int, die: bool) -> None:
    store = StyleStore(path, 1000)
    for number in range(count):
        store.put(str(number), BODY)
    if die:
        os.kill(os.getpid(), signal.SIGKILL)
    store.close()


def test_the_number_of_styles_is_bounded_and_the_least_used_go_first() -> None:
    store = StyleStore(None, 3)
    for number in range(3):
        store.put(str(number), BODY)
    assert store.get("0") == BODY  # used: 1 is now the oldest
    store.put("3", BODY)
    assert keys(store, 10) == [0, 2, 3]
    store.put("2", BODY)  # posted again: used
    store.put("4", BODY)
    assert keys(store, 10) == [2, 3, 4]
    store.close()


def test_the_bytes_of_all_styles_are_bounded_but_the_newest_stays() -> None:
    store = StyleStore(None, 100, most_bytes=50)
    for number in range(5):
        store.put(str(number), "x" * 20)
    assert keys(store, 10) == [3, 4]
    store.put("5", "µ" * 25)
    assert keys(store, 10) == [5], "50 bytes of UTF-8 leave no room"
    store.put("6", "x" * 51)
    assert keys(store, 10) == [6]
    store.close()


def test_a_smaller_bound_after_a_restart_holds_from_the_next_style_on(tmp_path: Path) -> None:
    path = tmp_path / "styles.sqlite"
    first = StyleStore(path, 100)
    for number in range(50):
        first.put(str(number), BODY)
    first.close()
    second = StyleStore(path, 5)
    second.put("50", BODY)
    assert keys(second, 100) == [46, 47, 48, 49, 50]
    second.close()


def test_threads_share_a_store() -> None:
    store = StyleStore(None, 1000)
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda number: store.put(str(number % 100), f"{number % 100}"), range(800)))
        found = list(threads.map(lambda number: store.get(str(number)), range(100)))
    assert found == [str(number) for number in range(100)]
    store.close()


def _put_many(path: Path, first: int, count: int) -> int:
    store = StyleStore(path, 10_000)
    for number in range(first, first + count):
        store.put(str(number), BODY)
        assert store.get(str(first)) == BODY
    store.close()
    return count


def test_processes_share_a_file(tmp_path: Path) -> None:
    path = tmp_path / "styles.sqlite"
    with multiprocessing.get_context("spawn").Pool(3) as pool:
        done = pool.starmap(_put_many, [(path, 0, 100), (path, 50, 100), (path, 100, 100)])
    assert done == [100, 100, 100]
    store = StyleStore(path, 10_000)
    assert keys(store, 1000) == list(range(200))
    store.close()


def test_a_store_that_cannot_be_opened_says_where_and_why(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no database, but long enough to be looked at as one" * 20)
    for path in (tmp_path / "file", tmp_path / "file" / "below", tmp_path):
        with pytest.raises(Unavailable, match=r"The store of styles '.*' cannot be opened: .+"):
            StyleStore(path, 10)


def test_a_store_that_is_locked_is_unavailable_not_broken(tmp_path: Path) -> None:
    path = tmp_path / "styles.sqlite"
    store = StyleStore(path, 10)
    store._database.execute("PRAGMA busy_timeout = 50")
    store.put("a", BODY)
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    with pytest.raises(Unavailable, match=r"The style cannot be stored: .*locked"):
        store.put("b", BODY)
    with pytest.raises(Unavailable, match=r"The stored style cannot be read: .*locked"):
        store.get("a")
    other.execute("ROLLBACK")
    other.close()
    assert store.get("a") == BODY
    store.close()


# -- over HTTP


def serve(path: Path | None) -> TestClient[web.Request, web.Application]:
    config = Config(style_store=path, tile_cache=1 << 20, raw_cache=1 << 22, workers=1)
    return TestClient(TestServer(create_app(config)))


async def test_styles_that_mean_the_same_have_the_same_id_and_others_another(tmp_path: Path) -> None:
    async with serve(tmp_path / "styles.sqlite") as client:
        texts = ['{"min": 1, "max": 2}', '{ "max": 2.0, "min": "1" }', '{"min": 1, "max": 3}']
        ids = [(await (await client.post("/styles", data=text)).json())["id"] for text in texts]
        assert ids[0] == ids[1] != ids[2]
        assert ids[0] == style.parse(texts[0]).key
        assert await (await client.get(f"/styles/{ids[0]}")).text() == texts[0]
        pixels = [
            await (await client.get("/item/test/tiles/zxy/0/0/0", params={"style": text})).read()
            for text in (texts[0], f"@{ids[0]}", texts[2])
        ]
        assert pixels[0] == pixels[1] != pixels[2]


async def test_an_id_outlives_the_server_that_gave_it(tmp_path: Path) -> None:
    async with serve(tmp_path / "styles.sqlite") as client:
        found = (await (await client.post("/styles", data=BODY)).json())["id"]
    async with serve(tmp_path / "styles.sqlite") as client:
        assert await (await client.get(f"/styles/{found}")).text() == BODY


async def test_an_id_that_nobody_posted_is_refused_with_the_id() -> None:
    async with serve(None) as client:
        answer = await client.get("/styles/0123abc")
        assert (answer.status, (await answer.json())["message"]) == (404, "No style '0123abc'.")
        answer = await client.get("/item/test/tiles/zxy/0/0/0", params={"style": "@0123abc"})
        assert answer.status == 400
        assert (await answer.json())["message"] == "style: no style was posted under the id '0123abc'"


@pytest.mark.parametrize("body", ["", "[]", '{"min": "x"}', '{"min": NaN}', b"\xff\xfe{}", '"\\ud800"'])
async def test_only_styles_are_kept(body: str | bytes) -> None:
    async with serve(None) as client:
        answer = await client.post("/styles", data=body)
        assert answer.status == 400, await answer.text()
