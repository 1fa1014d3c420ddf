"""Items: their facts, imports, and uploads."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator
from io import BytesIO
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import numpy as np
import pytest
import tifffile
from aiohttp import StreamReader
from aiohttp.test_utils import TestClient, TestServer, make_mocked_request

from gputiles.app import create_app
from gputiles.config import Config
from gputiles.routes import ask
from tests.grids import assert_refused
from tests.test_http import find

Client = TestClient[Any, Any]
PICTURE = np.random.default_rng(4).integers(0, 255, (300, 200)).astype(np.uint8)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "images"
    (folder / "uploads").mkdir(parents=True)
    (folder / "below").mkdir()
    tifffile.imwrite(folder / "below" / "grey.tif", PICTURE, photometric="minisblack")
    (folder / "broken.tif").write_bytes(b"II*\0nonsense")
    return folder


@pytest.fixture
async def client(root: Path) -> AsyncIterator[Client]:
    config = Config(roots=(root,), tile_cache=1 << 22, raw_cache=1 << 24, workers=2, uploads=root / "uploads")
    async with TestClient(TestServer(create_app(config))) as client:
        yield client


async def opened(client: Client) -> int:
    report = await (await client.get("/large_image/cache")).json()
    return int(report["shelves"]["images"]["items"])


async def test_an_item_tells_its_facts_and_its_links_work(client: Client) -> None:
    item = await find(client, "below/grey.tif")
    facts = await (await client.get(f"/item/{item}")).json()
    assert (facts["id"], facts["name"], facts["metadata"]["sizeX"]) == (item, "below/grey.tif", 200)
    for link in facts["links"].values():
        answer = await client.get(link.format(z=0, x=0, y=0))
        assert answer.status == 200, link


async def test_browsers_get_a_page(client: Client) -> None:
    item = await find(client, "below/grey.tif")
    answer = await client.get(f"/item/{item}", headers={"Accept": "text/html,*/*"})
    assert answer.content_type == "text/html"
    assert item in await answer.text()
    assert answer.headers["Vary"] == "Accept"


async def test_an_import_checks_a_file_and_keeps_it_in_no_cache_and_a_view_does(
    client: Client, root: Path
) -> None:
    shutil.copy(root / "below" / "grey.tif", root / "below" / "new.tif")
    answer = await client.post("/item/import", json={"path": "below/new.tif"})
    item = await answer.json()
    assert (answer.status, item["name"]) == (200, "below/new.tif")
    assert await opened(client) == 0
    for number, route in enumerate(("", "/tiles/thumbnail"), 1):
        await client.put("/large_image/cache/clear")
        assert (await client.get(f"/item/{item['id']}{route}")).status == 200
        assert await opened(client) == 1, number


@pytest.mark.parametrize(
    ("body", "status", "reason"),
    [
        (b'{"path": "broken.tif"}', 415, "broken.tif"),
        (b'{"path": "nowhere.tif"}', 404, "No image 'nowhere.tif'"),
        (b'{"path": "../secret.tif"}', 404, "No image '../secret.tif'"),
        (b'{"path": "/etc/passwd"}', 404, "No image '/etc/passwd'"),
        (b'{"url": "http://elsewhere/x.tif"}', 404, "not below a prefix that the setting 'remote' allows"),
        (b'{"url": "ftp://elsewhere/x.tif"}', 400, "expected an address such as"),
        (b'{"url": "x.tif", "path": "x.tif"}', 400, "expected a JSON object such as"),
        (b"[]", 400, "expected a JSON object such as"),
        (b"{", 400, "expected a JSON object with a path"),
        (b"[" * 60_000, 400, "nested too deeply"),
    ],
)
async def test_imports_that_cannot_be_are_refused(
    client: Client, body: bytes, status: int, reason: str
) -> None:
    answer = await client.post("/item/import", data=body)
    await assert_refused(answer, status, reason)


async def test_an_upload_is_stored_opened_and_served(client: Client, root: Path) -> None:
    data = (root / "below" / "grey.tif").read_bytes()
    answer = await client.post("/item?name=mine.tif", data=data)
    item = await answer.json()
    assert (answer.status, item["name"], item["size"]) == (201, "uploads/mine.tif", len(data))
    assert await opened(client) == 1
    assert (await client.get(answer.headers["Location"] + "/tiles/thumbnail")).status == 200
    assert [path.name for path in (root / "uploads").iterdir()] == ["mine.tif"]


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("", "expected a file name"),
        ("../up.tif", "expected a file name"),
        (".hidden.tif", "expected a file name"),
        ("page.html", "expected one that ends with"),
    ],
)
async def test_names_that_an_upload_may_not_have_are_refused(
    client: Client, root: Path, name: str, reason: str
) -> None:
    answer = await client.post("/item", params={"name": name}, data=b"x")
    await assert_refused(answer, 400, reason)
    assert list((root / "uploads").iterdir()) == []


async def test_an_upload_replaces_nothing_and_leaves_nothing_that_is_no_image(
    client: Client, root: Path
) -> None:
    data = (root / "below" / "grey.tif").read_bytes()
    assert (await client.post("/item?name=mine.tif", data=data)).status == 201
    again = await client.post("/item?name=mine.tif", data=b"II*\0other")
    assert (again.status, "already" in (await again.json())["message"]) == (400, True)
    assert (root / "uploads" / "mine.tif").read_bytes() == data
    broken = await client.post("/item?name=broken.tif", data=b"II*\0nonsense")
    assert broken.status == 415
    assert [path.name for path in (root / "uploads").iterdir()] == ["mine.tif"]


async def test_uploads_are_bounded_and_off_unless_configured(root: Path) -> None:
    config = Config(roots=(root,), workers=1, uploads=root / "uploads", upload_limit=1000)
    async with TestClient(TestServer(create_app(config))) as client:
        answer = await client.post("/item?name=big.tif", data=BytesIO(bytes(3 << 20)))
        await assert_refused(answer, 413, "at most 1000 bytes")
    async with TestClient(TestServer(create_app(Config(roots=(root,), workers=1)))) as client:
        assert (await client.post("/item?name=big.tif", data=b"II*\0")).status == 404
    assert list((root / "uploads").iterdir()) == []


@pytest.mark.parametrize("pieces", [[b'{"pa', b'th": "x"}'], [b" " * 9, b"", b"{}"]])
async def test_a_body_is_read_whole_however_it_arrives(pieces: list[bytes]) -> None:
    stream = StreamReader(Mock(_reading_paused=False), 1 << 16, loop=asyncio.get_running_loop())
    reading = asyncio.ensure_future(ask.body(make_mocked_request("POST", "/", payload=stream), "it", 64))
    for piece in pieces:
        stream.feed_data(piece)
        await asyncio.sleep(0)  # lets the reader take what is there
    stream.feed_eof()
    assert await reading == b"".join(pieces)


async def test_a_body_that_is_too_long_is_refused_as_such(client: Client) -> None:
    longer = b" " * (1 << 16) + b'{"path": "below/new.tif"}'
    answer = await client.post("/item/import", data=longer)
    assert (answer.status, (await answer.json())["message"]) == (413, "import: at most 65536 bytes")
