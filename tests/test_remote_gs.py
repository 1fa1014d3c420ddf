"""Files in Google Cloud Storage, through gcsfs: a real client, and a small store on this host."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import fsspec
import pytest

import gputiles
from gputiles.config import Config
from gputiles.errors import BadRequest, Changed, Damaged, GputilesError, NotFound, Unavailable
from gputiles.remotes import Remotes
from gputiles.sources.blocks import BLOCK
from gputiles.sources.remote import RemoteSource
from tests.gcs_server import SECRET, GcsServer, gcs_server
from tests.grids import Client
from tests.test_remote import BYTES, first_value, imported, serve, tiff
from tests.test_remote_sets import lead, plane

PREFIX = "gs://slides/set/"


@pytest.fixture
async def store(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[GcsServer]:
    """Run a store that gcsfs takes for Google's, as its users configure that; without credentials."""
    async with gcs_server() as server:
        monkeypatch.setitem(fsspec.config.conf, "gs", {"endpoint_url": server.url, "token": "anon"})
        server.put("slides", "set/bytes", BYTES)
        server.put("slides", "set/a.tif", tiff())
        server.put("slides", "other/a.tif", tiff(9))
        yield server


@pytest.fixture
async def client(store: GcsServer) -> AsyncIterator[Client]:
    config = Config(remote=(PREFIX,), tile_cache=1 << 22, raw_cache=1 << 24, workers=1, revalidate=0)
    async with serve(config) as client:
        yield client


async def within(work: Callable[[RemoteSource], Any], name: str = "bytes", **settings: Any) -> Any:
    """Return what ``work`` makes of an open file, in another thread than the store's."""

    def run() -> Any:
        remotes = Remotes(Config(remote=(PREFIX,), **settings))
        try:
            return work(RemoteSource(remotes.find(PREFIX + name).place, remotes.blocks))
        finally:
            remotes.close()

    return await asyncio.to_thread(run)


async def test_blocks_are_read_once_by_their_ranges(store: GcsServer) -> None:
    def work(source: RemoteSource) -> None:
        assert source.size == len(BYTES)
        for _ in range(2):
            assert source.read_at(BLOCK - 5, 3 * BLOCK) == BYTES[BLOCK - 5 : 4 * BLOCK - 5]
        assert source.read_at(len(BYTES) - 3, 3) == BYTES[-3:]

    await within(work)
    assert store.ranges == [
        ("set/bytes", 0, 4 * BLOCK - 1),
        ("set/bytes", 5 * BLOCK, len(BYTES) - 1),
    ]


@pytest.mark.parametrize("name", ["a+b & c.tif", "ä/ü%41.tif", "x=1:2,3.tif"])
async def test_keys_are_read_as_they_are_spelt(store: GcsServer, name: str) -> None:
    store.put("slides", f"set/{name}", b"here")
    place = PREFIX + name
    if not place.isascii() or " " in place:
        with pytest.raises(BadRequest, match="expected an address"):
            await within(lambda source: source.read_at(0, 4), name)
    else:
        assert await within(lambda source: source.read_at(0, 4), name) == b"here"


@pytest.mark.parametrize("later", [False, True])
@pytest.mark.parametrize(("manner", "kind", "reason"), [
    ("404", NotFound, "does not hand it out"),
    ("403", NotFound, "does not hand it out"),
    ("401", NotFound, "does not hand it out"),
    ("400", Unavailable, "status 400"),
    ("503", Unavailable, "does not answer within 0.5 s"),  # gcsfs repeats it for a minute
    ("slow", Unavailable, "does not answer within 0.5 s"),
])  # fmt: skip
async def test_what_the_store_refuses_is_told_in_time_and_without_who_asked(
    store: GcsServer, caplog: pytest.LogCaptureFixture, manner: str, kind: type[GputilesError], reason: str,
    later: bool,
) -> None:  # fmt: skip
    store.manner, store.later = ("", manner) if later else (manner, "")
    with pytest.raises(kind, match=reason) as refused:
        await within(lambda source: source.read_at(0, 9), remote_timeout=0.5)
    assert SECRET not in str(refused.value)
    assert store.url not in str(refused.value)
    store.manner = store.later = ""
    assert await within(lambda source: source.read_at(0, 9)) == BYTES[:9]


async def test_a_store_that_is_not_there_is_unavailable(
    store: GcsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    nobody = {"endpoint_url": "http://127.0.0.1:1", "token": "anon"}
    monkeypatch.setitem(fsspec.config.conf, "gs", nobody)
    with pytest.raises(Unavailable, match="bytes: the store") as refused:
        await within(lambda source: source.size, remote_timeout=0.5)
    assert "127.0.0.1" not in str(refused.value)


@pytest.mark.parametrize("after", [BYTES[::-1], BYTES[: 2 * BLOCK], BYTES + b"more", BYTES])
async def test_a_file_that_changes_is_noticed_by_the_next_read(store: GcsServer, after: bytes) -> None:
    def work(source: RemoteSource) -> None:
        assert source.is_current()
        store.put("slides", "set/bytes", after)
        assert not source.is_current()
        with pytest.raises(Changed):
            source.read_at(4 * BLOCK, 10)

    await within(work)


async def test_an_empty_file_is_damaged_and_a_folder_is_no_file(store: GcsServer) -> None:
    store.put("slides", "set/bytes", b"")
    with pytest.raises(Damaged, match="ends after 0"):
        await within(lambda source: source.read_at(0, 1))
    with pytest.raises(NotFound, match="no such file"):
        await asyncio.to_thread(
            lambda: Remotes(Config(remote=("gs://slides/",))).find("gs://slides/set").place.look()
        )


async def test_nothing_is_asked_of_a_store_that_no_prefix_allows(client: Client, store: GcsServer) -> None:
    before = len(store.calls)
    for address in ("gs://slides/other/a.tif", "gs://others/set/a.tif", "gs://slides/set/../other/a.tif"):
        assert (await imported(client, address))[0] in (400, 404)
    assert len(store.calls) == before
    assert await (await client.get("/item")).json() == []


async def test_a_file_is_imported_served_and_a_new_generation_is_a_new_version(
    client: Client, store: GcsServer
) -> None:
    status, item = await imported(client, PREFIX + "a.tif")
    assert (status, item["name"], item["size"]) == (200, PREFIX + "a.tif", len(tiff()))
    tile = f"/item/{item['id']}/tiles/zxy/0/0/0?encoding=PNG"
    before = await client.get(tile)
    assert (await client.get(tile, headers={"If-None-Match": before.headers["ETag"]})).status == 304
    assert await first_value(client, item["id"]) == (200, [7])
    store.put("slides", "set/a.tif", tiff(8))
    after = await client.get(tile, headers={"If-None-Match": before.headers["ETag"]})
    assert (after.status, after.headers["ETag"] == before.headers["ETag"]) == (200, False)
    assert await first_value(client, item["id"]) == (200, [8])
    store.manner = "403"
    answer = await client.get(tile)
    assert (answer.status, SECRET in await answer.text()) == (404, False)
    store.manner = ""
    assert await first_value(client, item["id"]) == (200, [8])


async def test_companions_of_a_set_are_read_beside_it(client: Client, store: GcsServer) -> None:
    store.put("slides", "set/a.ome.tif", lead("b.ome.tif"))
    store.put("slides", "set/b.ome.tif", plane(77))
    status, item = await imported(client, PREFIX + "a.ome.tif")
    assert status == 200
    answer = await client.get(f"/item/{item['id']}/tiles/pixel?left=2&top=2&frame=1")
    assert (await answer.json())["value"] == [77]


async def test_the_python_interface_opens_addresses(store: GcsServer) -> None:
    def work() -> int:
        with gputiles.open(PREFIX + "a.tif") as image:
            return int(image.raster(0, 0, 0)[0, 0, 0])

    assert await asyncio.to_thread(work) == 7
