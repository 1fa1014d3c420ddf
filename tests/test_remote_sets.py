"""OME sets of several files on other servers: companions below the allowed prefix, and no others."""

from __future__ import annotations

import asyncio
import io
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import fsspec
import numpy as np
import pytest
import tifffile

import gputiles
from gputiles.config import Config
from gputiles.sources.blocks import Blocks
from gputiles.sources.open import open_remote
from gputiles.sources.remote import StorePlace
from tests.grids import Client
from tests.reading import full
from tests.remote_server import RemoteServer, remote_server
from tests.test_remote import imported, serve
from tests.test_source_ome import ome_file, xml


def lead(*names: str) -> bytes:
    """Return an OME-TIFF of one page (0) whose other channels lie in files of these names."""
    blocks = '<TiffData FirstC="0" IFD="0"><UUID FileName="a.ome.tif">urn:uuid:0</UUID></TiffData>' + "".join(
        f'<TiffData FirstC="{index}" IFD="0"><UUID FileName="{name}">urn:uuid:{index}</UUID></TiffData>'
        for index, name in enumerate(names, 1)
    )
    return ome_file(xml(blocks, c=1 + len(names)), 1).getvalue()


def plane(value: int) -> bytes:
    file = io.BytesIO()
    tifffile.imwrite(file, np.full((6, 8), value, np.uint8), metadata=None)
    return file.getvalue()


@pytest.fixture
async def remote() -> AsyncIterator[RemoteServer]:
    async with remote_server() as server:
        server.files["a.ome.tif"] = lead("b.ome.tif")
        server.files["b.ome.tif"] = plane(77)
        yield server


@pytest.fixture
async def client(remote: RemoteServer) -> AsyncIterator[Client]:
    config = Config(remote=(remote.url,), tile_cache=1 << 22, raw_cache=1 << 24, workers=1, revalidate=0)
    async with serve(config) as client:
        yield client


async def values(client: Client, item: str, frames: int = 2) -> list[Any]:
    """Return the value of each frame, or the status it is refused with."""
    found = []
    for frame in range(frames):
        answer = await client.get(f"/item/{item}/tiles/pixel?left=5&top=5&frame={frame}")
        found.append((await answer.json())["value"][0] if answer.status == 200 else -answer.status)
    return found


async def warnings(client: Client, item: str) -> str:
    return "\n".join((await (await client.get(f"/item/{item}/tiles")).json()).get("warnings", []))


async def test_planes_of_companions_beside_a_remote_file_are_read(
    client: Client, remote: RemoteServer
) -> None:
    _, item = await imported(client, remote.url + "a.ome.tif")
    assert await values(client, item["id"]) == [0, 77]
    assert await warnings(client, item["id"]) == ""
    report = await (await client.get("/large_image/cache")).json()
    assert report["descriptors"] == 2


@pytest.mark.parametrize("name", ["schön.tif", "two words.tif", "100%.tif", "a+b&c=d.tif", "q?x.tif"])
async def test_a_companion_may_be_called_anything(client: Client, remote: RemoteServer, name: str) -> None:
    remote.files[name] = plane(5)
    remote.files["a.ome.tif"] = lead(name.replace("&", "&amp;"))
    _, item = await imported(client, remote.url + "a.ome.tif")
    assert await values(client, item["id"]) == [0, 5]


async def test_companions_that_are_absent_leave_their_planes_missing_until_they_come(
    client: Client, remote: RemoteServer
) -> None:
    del remote.files["b.ome.tif"]
    _, item = await imported(client, remote.url + "a.ome.tif")
    assert await values(client, item["id"]) == [0, -404]
    assert "'b.ome.tif' is not read" in await warnings(client, item["id"])
    remote.files["b.ome.tif"] = plane(9)
    assert await values(client, item["id"]) == [0, 9]


async def test_a_companion_that_changes_is_a_new_version(client: Client, remote: RemoteServer) -> None:
    _, item = await imported(client, remote.url + "a.ome.tif")
    tile = f"/item/{item['id']}/tiles/zxy/0/0/0?frame=0"
    tag = (await client.get(tile)).headers["ETag"]
    assert await values(client, item["id"]) == [0, 77]
    remote.files["b.ome.tif"] = plane(8)
    assert await values(client, item["id"]) == [0, 8]
    assert (await client.get(tile)).headers["ETag"] != tag
    del remote.files["b.ome.tif"]
    assert await values(client, item["id"]) == [0, -404]


@pytest.mark.parametrize("name", [
    "../other/b.ome.tif", "/other/b.ome.tif", "..", "%2e%2e%2fother%2fb.ome.tif", "..%2fb.ome.tif",
    "b\\c.tif", "http://127.0.0.1:1/b.ome.tif", "//127.0.0.1/b.ome.tif", "#b.ome.tif",
])  # fmt: skip
async def test_no_companion_outside_the_folder_is_asked_for(
    client: Client, remote: RemoteServer, name: str
) -> None:
    for each in ("b.ome.tif", "other/b.ome.tif", quote(name)):
        remote.files[each] = plane(66)
    remote.files["a.ome.tif"] = lead(name)
    _, item = await imported(client, remote.url + "a.ome.tif")
    assert await values(client, item["id"]) == [0, -404]
    assert {path.rpartition("/")[0] for path in remote.paths} == {"/data"}


async def test_a_file_that_is_allowed_for_itself_has_no_companions(remote: RemoteServer) -> None:
    async with serve(Config(urls=(remote.url + "a.ome.tif",), workers=1)) as client:
        (item,) = await (await client.get("/item")).json()
        assert await values(client, item["id"]) == [0, -404]
        assert "not below an allowed prefix" in await warnings(client, item["id"])
    assert set(remote.paths) == {"/data/a.ome.tif"}


async def test_a_companion_that_is_not_to_be_had_now_is_503_and_no_missing_plane(
    client: Client, remote: RemoteServer
) -> None:
    _, item = await imported(client, remote.url + "a.ome.tif")
    remote.manners["b.ome.tif"] = "500"
    assert await values(client, item["id"]) == [-503, -503]
    remote.manners.clear()
    assert await values(client, item["id"]) == [0, 77]


@pytest.mark.parametrize("manner", ["403", "no ranges", "no version", "to /other/b.ome.tif"])
async def test_a_companion_that_its_server_keeps_is_missing(
    client: Client, remote: RemoteServer, manner: str
) -> None:
    remote.manners["b.ome.tif"] = manner
    _, item = await imported(client, remote.url + "a.ome.tif")
    assert await values(client, item["id"]) == [0, -404]
    assert "'b.ome.tif'" in await warnings(client, item["id"])


@pytest.mark.parametrize("data", [b"", b"no picture", plane(3)[:100]])
async def test_a_companion_that_is_damaged_is_missing(
    client: Client, remote: RemoteServer, data: bytes
) -> None:
    remote.files["b.ome.tif"] = data
    _, item = await imported(client, remote.url + "a.ome.tif")
    assert await values(client, item["id"]) == [0, -404]
    assert "'b.ome.tif' cannot be read" in await warnings(client, item["id"])


async def test_the_metadata_may_be_in_a_companion(client: Client, remote: RemoteServer) -> None:
    text = '<OME UUID="urn:uuid:1"><BinaryOnly MetadataFile="all.companion.ome" UUID="urn:uuid:0"/></OME>'
    remote.files["a.ome.tif"] = ome_file(text, 2).getvalue()
    _, item = await imported(client, remote.url + "a.ome.tif")
    assert "channels" not in await (await client.get(f"/item/{item['id']}/tiles")).json()
    remote.files["all.companion.ome"] = xml('<Channel Name="A"/><Channel Name="B"/><TiffData/>', c=2).encode()
    assert (await (await client.get(f"/item/{item['id']}/tiles")).json())["channels"] == ["A", "B"]


async def test_a_query_goes_on_to_companions(client: Client, remote: RemoteServer) -> None:
    _, item = await imported(client, remote.url + "a.ome.tif?signature=1")
    assert await values(client, item["id"]) == [0, 77]
    assert set(remote.queries) == {"signature=1"}


async def test_the_python_interface_reads_companions(remote: RemoteServer) -> None:
    def work() -> list[int]:
        with gputiles.open(remote.url + "a.ome.tif") as image:
            return [int(image.raster(0, 0, 0, frame=frame)[0, 0, 0]) for frame in range(2)]

    assert await asyncio.to_thread(work) == [0, 77]


def test_companions_lie_in_stores_too_where_they_are_allowed() -> None:
    files = fsspec.filesystem("memory", skip_instance_cache=True)
    files.pipe_file("/set/a.ome.tif", lead("b.ome.tif"))
    files.pipe_file("/set/b.ome.tif", plane(4))
    for allows, missing in ((lambda _: True, set()), (lambda _: False, {1})):
        source = open_remote(StorePlace("s3://set/a.ome.tif", Renamed(files), allows), Blocks(1 << 22))
        assert source.info.missing == missing
        expected = [0, 4][: 2 - len(missing)]
        assert [int(full(source, frame)[0, 0, 0]) for frame in range(len(expected))] == expected


class Renamed:
    """A store of another scheme."""

    def __init__(self, files: Any) -> None:
        self.files = files

    def invalidate_cache(self) -> None:
        self.files.invalidate_cache()

    def info(self, address: str, timeout: float) -> Any:
        return self.files.info(address.replace("s3:", "memory:"))

    def cat_file(self, address: str, start: int, end: int, timeout: float) -> Any:
        return self.files.cat_file(address.replace("s3:", "memory:"), start=start, end=end)


async def test_a_companion_here_that_comes_later_is_a_new_version(tmp_path: Path) -> None:
    (tmp_path / "a.ome.tif").write_bytes(lead("b.ome.tif"))
    async with serve(Config(roots=(tmp_path,), workers=1, revalidate=0)) as client:
        (item,) = await (await client.get("/item")).json()
        assert await values(client, item["id"]) == [0, -404]
        (tmp_path / "b.ome.tif").write_bytes(plane(6))
        assert await values(client, item["id"]) == [0, 6]
        (tmp_path / "b.ome.tif").unlink()
        assert await values(client, item["id"]) == [0, -404]
