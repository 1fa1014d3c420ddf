"""Remote files: addresses, blocks, servers of all manners, object stores, items."""

from __future__ import annotations

import asyncio
import io
import sys
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from threading import Barrier
from typing import Any

import fsspec
import numpy as np
import pytest
import tifffile
from aiohttp.test_utils import TestClient, TestServer

import gputiles
from gputiles.app import create_app
from gputiles.config import Config
from gputiles.errors import BadRequest, Changed, Damaged, GputilesError, NotFound, Unavailable, Unsupported
from gputiles.places import is_allowed, normalise
from gputiles.remotes import Remotes
from gputiles.sources.blocks import BLOCK, Blocks
from gputiles.sources.bytesource import content_version
from gputiles.sources.remote import RemotePath, RemoteSource, StorePlace, get_range
from tests.remote_server import LANDING, RemoteServer, remote_server

Client = TestClient[Any, Any]
BYTES = np.random.default_rng(5).bytes(5 * BLOCK + 321)


def tiff(value: int = 7, side: int = 600) -> bytes:
    """Return a tiled TIFF that is one grey."""
    file = io.BytesIO()
    picture = np.full((side, side), value, np.uint8)
    tifffile.imwrite(file, picture, photometric="minisblack", tile=(256, 256))
    return file.getvalue()


@pytest.fixture
async def remote() -> AsyncIterator[RemoteServer]:
    async with remote_server() as server:
        server.files["bytes"] = BYTES
        server.files["a.tif"] = tiff()
        yield server


def opened(remote: RemoteServer, name: str = "bytes", **settings: Any) -> tuple[Remotes, RemoteSource]:
    remotes = Remotes(Config(remote=(remote.url,), **settings))
    try:
        return remotes, RemoteSource(remotes.find(remote.url + name).place, remotes.blocks)
    except GputilesError:
        remotes.close()
        raise


async def within(remote: RemoteServer, work: Callable[[Remotes, RemoteSource], Any], **settings: Any) -> Any:
    """Return what ``work`` makes of an open source, in another thread than the server's."""

    def run() -> Any:
        remotes, source = opened(remote, **settings)
        try:
            return work(remotes, source)
        finally:
            remotes.close()

    return await asyncio.to_thread(run)


# -- addresses


@pytest.mark.parametrize(("text", "expected"), [
    ("HTTPS://Host.Example:443/a/b.tif", "https://host.example/a/b.tif"),
    ("http://host:080/a", "http://host/a"),
    ("http://host:8080/a?x=1", "http://host:8080/a?x=1"),
    ("http://[::1]:81", "http://[::1]:81/"),
    ("s3://bucket/key/a.tif", "s3://bucket/key/a.tif"),
])  # fmt: skip
def test_an_address_has_one_spelling(text: str, expected: str) -> None:
    assert normalise(text) == expected


@pytest.mark.parametrize("text", [
    "http://host/a/../b", "http://host/a/%2e%2E/b", "http://host/a/%252e%252e/b", "http://host/a/.%2e",
    "http://host/a%2f..%2fb", "http://host/a%5cb", "http://host/a\\b", "http://user@host/a",
    "http://user:secret@host/a", "http://host/a#b", "http://host /a", "http://höst/a", "http:///a", "ftp://host/a",
    "file:///etc/passwd", "/etc/passwd", "http://host:99999/", "http://host:port/", "s3://bucket/a?versionId=1",
    "http://host/a\n", "http://[::1/a", "http://ho%73t/", "", "http://host/" + "a" * 5000,
])  # fmt: skip
def test_what_can_be_read_in_two_ways_is_refused_without_telling_passwords(text: str) -> None:
    with pytest.raises(BadRequest, match="expected an address such as") as refused:
        normalise(text)
    assert "secret" not in str(refused.value)


@pytest.mark.parametrize(("address", "allowed"), [
    ("https://host/folder/a.tif", True),
    ("https://host/folder/below/a.tif", True),
    ("https://host/folder/a.tif?signature=1", True),
    ("https://host/folder", True),
    ("https://host/folder2/a.tif", False),
    ("https://host/other?/folder/", False),
    ("http://host/folder/a.tif", False),
    ("https://host:444/folder/a.tif", False),
    ("https://host.evil/folder/a.tif", False),
    ("https://other/one.tif?key=1", True),
    ("https://other/one.tif?key=2", False),
    ("https://other/one.tif", False),
])  # fmt: skip
def test_prefixes_allow_what_lies_below_them(address: str, allowed: bool) -> None:
    assert is_allowed(normalise(address), ["https://host/folder", "https://other/one.tif?key=1"]) is allowed


# -- blocks


async def test_blocks_are_read_once_and_neighbours_in_one_request(remote: RemoteServer) -> None:
    def work(_: Remotes, source: RemoteSource) -> None:
        assert source.size == len(BYTES)
        assert source.read_at(10, 20) == BYTES[10:30]
        assert source.read_at(0, BLOCK) == BYTES[:BLOCK]
        assert source.read_at(BLOCK - 5, 3 * BLOCK) == BYTES[BLOCK - 5 : 4 * BLOCK - 5]
        assert source.read_at(len(BYTES) - 3, 3) == BYTES[-3:]
        assert source.read_at(3, 0) == b""
        with pytest.raises(Damaged, match="the file ends after"):
            source.read_at(len(BYTES) - 3, 4)

    await within(remote, work)
    last = 5 * BLOCK, len(BYTES) - 1
    assert remote.reads == [(0, BLOCK - 1), (BLOCK, 4 * BLOCK - 1), last]


async def test_threads_that_need_a_block_share_its_request(remote: RemoteServer) -> None:
    barrier = Barrier(8)

    def read(source: RemoteSource, number: int) -> bytes:
        barrier.wait()
        return source.read_at(100 * number, 50)

    def work(_: Remotes, source: RemoteSource) -> list[bytes]:
        with ThreadPoolExecutor(8) as pool:
            return list(pool.map(partial(read, source), range(8)))

    assert await within(remote, work) == [BYTES[100 * at : 100 * at + 50] for at in range(8)]
    assert remote.reads == [(0, BLOCK - 1)]


async def test_the_bytes_that_are_kept_are_bounded(remote: RemoteServer) -> None:
    def work(remotes: Remotes, source: RemoteSource) -> None:
        assert source.read_at(0, len(BYTES)) == BYTES
        assert source.read_at(0, len(BYTES)) == BYTES
        assert 0 < remotes.blocks.used <= 2 * BLOCK

    await within(remote, work, remote_cache=2 * BLOCK)
    assert await within(remote, lambda _, source: source.read_at(5, 5), remote_cache=0) == BYTES[5:10]


def test_a_failure_reaches_all_and_is_kept_nowhere() -> None:
    blocks = Blocks(4 * BLOCK)

    def fail(offset: int, size: int) -> bytes:
        raise Unavailable("now")

    with pytest.raises(Unavailable, match="now"):
        blocks.take("file", range(2), fail)
    assert blocks.take("file", range(2), lambda offset, size: bytes(size)) == [bytes(BLOCK)] * 2


# -- servers


@pytest.mark.parametrize(("manner", "kind", "reason"), [
    ("404", NotFound, "status 404"),
    ("403", NotFound, "status 403"),
    ("500", Unavailable, "status 500"),
    ("429", Unavailable, "status 429"),
    ("no ranges", Unsupported, "knows no ranges"),
    ("no version", Unsupported, "neither ETag nor Last-Modified"),
    ("compressed", Unsupported, "compresses"),
    ("shifted", Unavailable, "asked for bytes from 0"),
    ("too much", Unavailable, "more than the 1 bytes"),
    ("slow", Unavailable, "no answer within 0.2 s"),
    ("to http://elsewhere.invalid/a.tif", NotFound, "a place that is not allowed"),
    ("to /other/bytes", NotFound, "a place that is not allowed"),
    ("to /data/../other/bytes", NotFound, "a place that is not allowed"),
    ("to //127.0.0.1:1/data/bytes", NotFound, "a place that is not allowed"),
    ("to file:///etc/passwd", NotFound, "a place that is not allowed"),
    ("to /data/bytes", Unavailable, "redirects more than 5 times"),
])  # fmt: skip
async def test_servers_that_do_not_answer_rightly_are_refused_with_the_reason(
    remote: RemoteServer, manner: str, kind: type[GputilesError], reason: str
) -> None:
    remote.manner = manner
    with pytest.raises(kind, match=reason):
        await within(remote, lambda *_: None, remote_timeout=0.2 if manner == "slow" else 30)
    remote.manner = ""
    assert await within(remote, lambda _, source: source.size) == len(BYTES)


async def test_redirects_are_followed_below_the_prefixes_and_headers_stay_with_the_first_server(
    remote: RemoteServer,
) -> None:
    remote.files["landing"] = BYTES
    remote.manner = f"to {LANDING}"
    assert await within(remote, lambda _, source: source.read_at(BLOCK, 9)) == BYTES[BLOCK : BLOCK + 9]

    def work(remotes: Remotes, _: RemoteSource) -> Any:
        token = {"Girder-Token": "secret"}
        return get_range(remotes.wire, remote.url + "bytes", 3, 4, remotes.allows, token).body

    assert await within(remote, work) == BYTES[3:7]
    assert [headers.get("Girder-Token") for headers in remote.headers[-2:]] == ["secret", None]


async def test_closing_breaks_off_what_waits_for_a_server(remote: RemoteServer) -> None:
    def work(remotes: Remotes, source: RemoteSource) -> None:
        remote.manner = "slow"
        with ThreadPoolExecutor(1) as pool:
            waiting = pool.submit(source.read_at, 0, 1)
            assert remote.reached.wait(60)
            remotes.close()
            with pytest.raises(Unavailable, match="closed"):
                waiting.result()

    await within(remote, work)


async def test_a_server_that_is_not_there_is_unavailable() -> None:
    place = partial(Remotes, Config(remote=("http://127.0.0.1:1/",)))

    def work() -> None:
        remotes = place()
        try:
            remotes.find("http://127.0.0.1:1/a.tif").place.look()
        finally:
            remotes.close()

    with pytest.raises(Unavailable, match=r"127\.0\.0\.1"):
        await asyncio.to_thread(work)


async def test_an_empty_file_is_damaged(remote: RemoteServer) -> None:
    remote.files["bytes"] = b""
    with pytest.raises(Damaged, match="empty"):
        await within(remote, lambda *_: None)


@pytest.mark.parametrize("after", [BYTES[::-1], BYTES[: 2 * BLOCK], BYTES + b"more"])
async def test_a_file_that_changes_is_noticed_by_the_next_read(remote: RemoteServer, after: bytes) -> None:
    def work(_: Remotes, source: RemoteSource) -> None:
        path = RemotePath(source.place)
        before = content_version([path])
        assert source.is_current()
        remote.files["bytes"] = after
        assert not source.is_current()
        assert content_version([path]) != before
        with pytest.raises(Changed):
            source.read_at(4 * BLOCK, 10)

    await within(remote, work)


async def test_a_closed_source_reads_nothing_and_closed_remotes_ask_nobody(remote: RemoteServer) -> None:
    def work(remotes: Remotes, source: RemoteSource) -> None:
        source.close()
        with pytest.raises(Unavailable, match="closed"):
            source.read_at(0, 1)
        remotes.close()
        with pytest.raises(Unavailable, match="closed"):
            source.place.look()

    await within(remote, work)


# -- object stores


def test_a_store_is_read_in_blocks_and_its_changes_are_noticed() -> None:
    files = fsspec.filesystem("memory", skip_instance_cache=True)
    files.pipe_file("/bucket/a.bin", BYTES)
    source = RemoteSource(StorePlace("memory://bucket/a.bin", files, lambda _: False), Blocks(8 * BLOCK))
    assert source.read_at(BLOCK - 7, 14) == BYTES[BLOCK - 7 : BLOCK + 7]
    files.pipe_file("/bucket/a.bin", BYTES[:-1])
    with pytest.raises(Changed):
        source.read_at(3 * BLOCK, 1)
    files.rm_file("/bucket/a.bin")
    with pytest.raises(NotFound, match="does not hand it out"):
        source.place.look()


# -- items


def serve(config: Config) -> Client:
    return TestClient(TestServer(create_app(config)))


@pytest.fixture
async def client(remote: RemoteServer) -> AsyncIterator[Client]:
    config = Config(remote=(remote.url,), tile_cache=1 << 22, raw_cache=1 << 24, workers=1, revalidate=0)
    async with serve(config) as client:
        yield client


async def imported(client: Client, url: str) -> tuple[int, dict[str, Any]]:
    answer = await client.post("/item/import", json={"url": url})
    return answer.status, await answer.json()


async def first_value(client: Client, item: str) -> tuple[int, Any]:
    answer = await client.get(f"/item/{item}/tiles/pixel?left=5&top=5")
    return answer.status, (await answer.json()).get("value")


async def test_an_import_checks_a_remote_file_lists_it_and_keeps_it_in_no_cache(
    client: Client, remote: RemoteServer
) -> None:
    status, item = await imported(client, remote.url + "a.tif")
    assert (status, item["name"], item["size"]) == (200, remote.url + "a.tif", len(tiff()))
    assert (await (await client.get("/large_image/cache")).json())["sources"] == 0
    assert await (await client.get("/item")).json() == [item]
    assert (await imported(client, remote.url + "a.tif"))[1] == item
    assert await first_value(client, item["id"]) == (200, [7])
    assert (await client.get(f"/item/{item['id']}/tiles/zxy/0/0/0")).status == 200


@pytest.mark.parametrize(("name", "manner", "status"), [
    ("gone.tif", "", 404), ("a.tif", "500", 503), ("a.tif", "no ranges", 415), ("bytes", "", 415),
    ("../other/a.tif", "", 400), ("../../a.tif", "", 400), ("a.tif", "to http://127.0.0.1:1/", 404),
])  # fmt: skip
async def test_imports_that_cannot_be_are_refused_and_not_listed(
    client: Client, remote: RemoteServer, name: str, manner: str, status: int
) -> None:
    remote.manner = manner
    assert (await imported(client, remote.url + name))[0] == status
    assert await (await client.get("/item")).json() == []


async def test_a_changed_remote_file_is_a_new_version(client: Client, remote: RemoteServer) -> None:
    _, item = await imported(client, remote.url + "a.tif")
    tile = f"/item/{item['id']}/tiles/zxy/0/0/0?encoding=PNG"
    before = await client.get(tile)
    remote.files["a.tif"] = tiff(9)
    after = await client.get(tile, headers={"If-None-Match": before.headers["ETag"]})
    assert (before.status, after.status) == (200, 200)
    assert after.headers["ETag"] != before.headers["ETag"]
    assert await first_value(client, item["id"]) == (200, [9])


async def test_a_file_that_changes_under_a_fresh_image_is_read_once_more(remote: RemoteServer) -> None:
    config = Config(remote=(remote.url,), remote_cache=0, workers=1, revalidate=3600)
    async with serve(config) as client:
        _, item = await imported(client, remote.url + "a.tif")
        assert (await client.get(f"/item/{item['id']}/tiles")).status == 200
        remote.files["a.tif"] = tiff(9)
        answer = await client.get(f"/item/{item['id']}/tiles/zxy/0/0/0?encoding=NPY")
        assert (answer.status, set(np.unique(np.load(io.BytesIO(await answer.read()))))) == (200, {0, 9})


async def test_a_failing_server_is_503_and_nothing_of_it_is_kept(
    client: Client, remote: RemoteServer
) -> None:
    _, item = await imported(client, remote.url + "a.tif")
    remote.manner = "500"
    for _ in range(2):
        answer = await client.get(f"/item/{item['id']}/tiles/zxy/0/0/0")
        assert (answer.status, "status 500" in (await answer.json())["message"]) == (503, True)
    remote.manner = ""
    assert (await client.get(f"/item/{item['id']}/tiles/zxy/0/0/0")).status == 200


async def test_an_address_is_served_by_itself_and_its_id_stays(remote: RemoteServer) -> None:
    ids = []
    for _ in range(2):
        async with serve(Config(urls=(remote.url + "a.tif",), workers=1)) as client:
            (item,) = await (await client.get("/item")).json()
            assert await first_value(client, item["id"]) == (200, [7])
            assert (await imported(client, remote.url + "bytes"))[0] == 404
            ids.append(item["id"])
    assert ids[0] == ids[1]


async def test_remote_files_count_among_the_sources_that_may_be_open(remote: RemoteServer) -> None:
    async with serve(Config(remote=(remote.url,), sources=2, workers=1)) as client:
        for number in range(5):
            remote.files[f"{number}.tif"] = tiff(number)
            _, item = await imported(client, f"{remote.url}{number}.tif")
            assert await first_value(client, item["id"]) == (200, [number])
        report = await (await client.get("/large_image/cache")).json()
        assert (report["counts"]["opens"], report["sources"], report["descriptors"]) == (5, 2, 2)


async def test_the_python_interface_opens_addresses(remote: RemoteServer) -> None:
    def work() -> int:
        with gputiles.open(remote.url + "a.tif") as image:
            return int(image.raster(0, 0, 0)[0, 0, 0])

    assert await asyncio.to_thread(work) == 7
    remote.manner = "to /other/a.tif"  # stays with the server, but for ever
    with pytest.raises(Unavailable, match="redirects"):
        await asyncio.to_thread(work)


@pytest.mark.parametrize(("scheme", "library"), [("gs", "gcsfs"), ("s3", "s3fs")])
def test_a_store_without_its_library_is_refused_with_its_name(
    monkeypatch: pytest.MonkeyPatch, scheme: str, library: str
) -> None:
    for name in ("gcsfs.core", "s3fs"):
        monkeypatch.setitem(sys.modules, name, None)
    remotes = Remotes(Config(remote=(f"{scheme}://bucket/",)))
    with pytest.raises(Unsupported, match=library):
        remotes.find(f"{scheme}://bucket/a.tif")
