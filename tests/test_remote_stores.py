"""Files in object stores, through gcsfs and s3fs: real clients, and small stores on this host."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
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
from tests.s3_server import S3Server, s3_server
from tests.test_remote import BYTES, first_value, imported, serve, tiff
from tests.test_remote_sets import lead, plane

Store = GcsServer | S3Server
SERVERS: dict[str, Callable[[], AbstractAsyncContextManager[Store]]] = {"gs": gcs_server, "s3": s3_server}


@pytest.fixture(params=SERVERS)
async def store(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Store]:
    """Run a store that a client takes for Google's or Amazon's, as its users configure that."""
    async with SERVERS[request.param]() as server:
        monkeypatch.setitem(fsspec.config.conf, request.param, server.configuration)
        server.put("slides", "set/bytes", BYTES)
        server.put("slides", "set/a.tif", tiff())
        server.put("slides", "other/a.tif", tiff(9))
        yield server


@pytest.fixture
async def client(store: Store) -> AsyncIterator[Client]:
    config = Config(remote=(prefix(store),), tile_cache=1 << 22, raw_cache=1 << 24, workers=1, revalidate=0)
    async with serve(config) as client:
        yield client


def prefix(store: Store) -> str:
    return f"{store.scheme}://slides/set/"


async def within(
    store: Store, work: Callable[[RemoteSource], Any], name: str = "bytes", **settings: Any
) -> Any:
    """Return what ``work`` makes of an open file, in another thread than the store's."""

    def run() -> Any:
        remotes = Remotes(Config(remote=(prefix(store),), **settings))
        try:
            return work(RemoteSource(remotes.find(prefix(store) + name).place, remotes.blocks))
        finally:
            remotes.close()

    return await asyncio.to_thread(run)


async def test_blocks_are_read_once_by_their_ranges(store: Store) -> None:
    def work(source: RemoteSource) -> None:
        assert source.size == len(BYTES)
        for _ in range(2):
            assert source.read_at(BLOCK - 5, 3 * BLOCK) == BYTES[BLOCK - 5 : 4 * BLOCK - 5]
        assert source.read_at(len(BYTES) - 3, 3) == BYTES[-3:]

    await within(store, work)
    assert store.ranges == [
        ("set/bytes", 0, 4 * BLOCK - 1),
        ("set/bytes", 5 * BLOCK, len(BYTES) - 1),
    ]


@pytest.mark.parametrize("name", ["a+b & c.tif", "ä/ü%41.tif", "x=1:2,3.tif"])
async def test_keys_are_read_as_they_are_spelt(store: Store, name: str) -> None:
    store.put("slides", f"set/{name}", b"here")
    place = prefix(store) + name
    if not place.isascii() or " " in place:
        with pytest.raises(BadRequest, match="expected an address"):
            await within(store, lambda source: source.read_at(0, 4), name)
    else:
        assert await within(store, lambda source: source.read_at(0, 4), name) == b"here"


@pytest.mark.parametrize("later", [False, True])
@pytest.mark.parametrize(("manner", "kind", "reason"), [
    ("404", NotFound, "does not hand it out"),
    ("403", NotFound, "does not hand it out"),
    ("401", NotFound, "does not hand it out"),
    ("400", Unavailable, "status 400"),
    ("503", Unavailable, "does not answer within 0.5 s|status 503"),  # gcsfs repeats it for a minute
    ("slow", Unavailable, "does not answer within 0.5 s"),
])  # fmt: skip
async def test_what_the_store_refuses_is_told_in_time_and_without_who_asked(
    store: Store, caplog: pytest.LogCaptureFixture, manner: str, kind: type[GputilesError], reason: str,
    later: bool,
) -> None:  # fmt: skip
    store.manner, store.later = ("", manner) if later else (manner, "")
    patience = 0.5 if manner in ("503", "slow") else 30
    with pytest.raises(kind, match=reason) as refused:
        await within(store, lambda source: source.read_at(0, 9), remote_timeout=patience)
    assert SECRET not in str(refused.value)
    assert store.url not in str(refused.value)
    store.manner = store.later = ""
    assert await within(store, lambda source: source.read_at(0, 9)) == BYTES[:9]


async def test_a_store_that_is_not_there_is_unavailable(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    nobody = {**store.configuration, "endpoint_url": "http://127.0.0.1:1"}
    monkeypatch.setitem(fsspec.config.conf, store.scheme, nobody)
    with pytest.raises(Unavailable, match="bytes: the store") as refused:
        await within(store, lambda source: source.size, remote_timeout=0.5)
    assert "127.0.0.1" not in str(refused.value)


@pytest.mark.parametrize("after", [BYTES[::-1], BYTES[: 2 * BLOCK], BYTES + b"more"])
async def test_a_file_that_changes_is_noticed_by_the_next_read(store: Store, after: bytes) -> None:
    def work(source: RemoteSource) -> None:
        assert source.is_current()
        store.put("slides", "set/bytes", after)
        assert not source.is_current()
        with pytest.raises(Changed):
            source.read_at(4 * BLOCK, 10)

    await within(store, work)


async def test_a_file_that_is_stored_again_is_new_where_the_store_says_so(store: Store) -> None:
    def work(source: RemoteSource) -> bool:
        store.put("slides", "set/bytes", BYTES)
        return source.is_current()

    assert await within(store, work) == (store.scheme == "s3")  # whose tags tell what a file holds


async def test_an_empty_file_is_damaged_and_a_folder_is_no_file(store: Store) -> None:
    store.put("slides", "set/bytes", b"")
    with pytest.raises(Damaged, match="ends after 0"):
        await within(store, lambda source: source.read_at(0, 1))
    with pytest.raises(NotFound, match="no such file"):
        await asyncio.to_thread(
            lambda: (
                Remotes(Config(remote=(f"{store.scheme}://slides/",)))
                .find(f"{store.scheme}://slides/set")
                .place.look()
            )
        )


async def test_nothing_is_asked_of_a_store_that_no_prefix_allows(client: Client, store: Store) -> None:
    before = len(store.calls)
    for address in (
        f"{store.scheme}://slides/other/a.tif",
        f"{store.scheme}://others/set/a.tif",
        f"{store.scheme}://slides/set/../other/a.tif",
    ):
        assert (await imported(client, address))[0] in (400, 404)
    assert len(store.calls) == before
    assert await (await client.get("/item")).json() == []


async def test_a_file_is_imported_served_and_a_new_generation_is_a_new_version(
    client: Client, store: Store
) -> None:
    status, item = await imported(client, prefix(store) + "a.tif")
    assert (status, item["name"], item["size"]) == (200, prefix(store) + "a.tif", len(tiff()))
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


async def test_companions_of_a_set_are_read_beside_it(client: Client, store: Store) -> None:
    store.put("slides", "set/a.ome.tif", lead("b.ome.tif"))
    store.put("slides", "set/b.ome.tif", plane(77))
    status, item = await imported(client, prefix(store) + "a.ome.tif")
    assert status == 200
    answer = await client.get(f"/item/{item['id']}/tiles/pixel?left=2&top=2&frame=1")
    assert (await answer.json())["value"] == [77]


async def test_the_python_interface_opens_addresses(store: Store) -> None:
    def work() -> int:
        with gputiles.open(prefix(store) + "a.tif") as image:
            return int(image.raster(0, 0, 0)[0, 0, 0])

    assert await asyncio.to_thread(work) == 7
