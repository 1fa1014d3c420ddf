"""Pictures carry a file name where a client asks for one, as large_image's do."""

from __future__ import annotations

from collections.abc import AsyncIterator
from io import BytesIO
from pathlib import Path
from urllib.parse import quote

import numpy as np
import pytest
import tifffile

from gputiles.app import create_app
from gputiles.config import Config
from gputiles.routes.disposition import disposition
from tests.grids import Client, TestClient, TestServer, serving
from tests.remote_server import remote_server

PICTURE = np.zeros((300, 400), np.uint8)


@pytest.fixture
async def client(tmp_path: Path) -> AsyncIterator[Client]:
    (tmp_path / "folder").mkdir()
    tifffile.imwrite(tmp_path / "folder" / "a b.ome.tif", PICTURE, photometric="minisblack", metadata=None)
    async with serving(tmp_path) as client:
        yield client


async def told(client: Client, path: str) -> tuple[int, str | None]:
    (item,) = await (await client.get("/item")).json()
    answer = await client.get(f"/item/{item['id']}/tiles/{path}")
    return answer.status, answer.headers.get("Content-Disposition")


@pytest.mark.parametrize(("path", "name"), [
    ("region?", "a b.ome-region.jpg"), ("region?encoding=PNG&", "a b.ome-region.png"),
    ("region?encoding=TIFF&", "a b.ome-region.tiff"), ("region?encoding=NPY&", "a b.ome-region.npy"),
    ("region?width=20&height=30&fill=red&encoding=WEBP&", "a b.ome-region.webp"),
    ("thumbnail?", "a b.ome-thumbnail.jpg"),
    ("thumbnail?width=9&height=9&fill=red&", "a b.ome-thumbnail.jpg"),
    ("tile_frames?", "a b.ome-tileframes.jpg"), ("zxy/1/1/0?", "a b.ome-1-1-0.jpg"),
    ("fzxy/0/1/1/0?encoding=PNG&", "a b.ome-1-1-0.png"),
])  # fmt: skip
async def test_a_picture_is_named_after_its_item_and_what_it_is(client: Client, path: str, name: str) -> None:
    for kind in ("attachment", "inline"):
        for _ in range(2):  # made, and from the shelf
            expected = f"{kind}; filename=\"{name}\"; filename*=UTF-8''{quote(name)}"
            assert await told(client, f"{path}contentDisposition={kind}") == (200, expected)
    assert await told(client, path) == (200, None)


async def test_a_picture_beside_the_image_is_named_after_itself(tmp_path: Path) -> None:
    path = tmp_path / "slide.tif"
    with tifffile.TiffWriter(path) as file:
        options = {"photometric": "minisblack", "metadata": None}
        file.write(PICTURE, **options)
        file.write(PICTURE[:50, :50], description="Thumbnail", **options)
    async with serving(tmp_path) as client:
        status, header = await told(client, "images/thumbnail?contentDisposition=inline")
        assert (status, header) == (
            200, "inline; filename=\"slide-thumbnail.jpg\"; filename*=UTF-8''slide-thumbnail.jpg",
        )  # fmt: skip
        assert await told(client, "images/label?contentDisposition=inline") == (404, None)


@pytest.mark.parametrize("query", [
    "contentDisposition=nonsense", "contentDisposition=", "contentDispositionFilename=x.png",
    "contentDisposition=ATTACHMENT", "style=%7B%22icc%22%3Afalse%7D",
])  # fmt: skip
async def test_other_words_mean_nothing_as_in_large_image(client: Client, query: str) -> None:
    assert await told(client, f"region?{query}") == (200, None)


async def test_refusals_and_pictures_without_an_item_have_no_name(client: Client) -> None:
    assert await told(client, "region?left=x&contentDisposition=inline") == (400, None)
    answer = await client.get("/item/test/tiles/zxy/0/0/0?contentDisposition=inline")
    assert (answer.status, answer.headers.get("Content-Disposition")) == (200, None)
    twice = "contentDisposition=inline&contentDisposition=attachment"
    assert await told(client, f"region?{twice}") == (400, None)


@pytest.mark.parametrize(("given", "plain", "full"), [
    ("a.png", "a.png", "a.png"),
    ('q"u\\o.png', "quo.png", "quo.png"), ("../../etc/x", "....etcx", "....etcx"),
    ("a\r\nSet-Cookie: b=1", "aSet-Cookie: b=1", "aSet-Cookie%3A%20b%3D1"), ("a\0\x7fb", "ab", "ab"),
    ("schön 染色.tif", "schn .tif", "sch%C3%B6n%20%E6%9F%93%E8%89%B2.tif"), ("\udc80x", "x", "x"),
    ("x" * 5000, "x" * 200, "x" * 200), ("'*%", "'*%", "%27%2A%25"),
])  # fmt: skip
def test_a_name_ends_no_header_leaves_no_folder_and_keeps_its_letters(
    given: str, plain: str, full: str
) -> None:
    assert disposition("inline", given) == f"inline; filename=\"{plain}\"; filename*=UTF-8''{full}"


@pytest.mark.parametrize("name", ["ä.png", "a\r\nb.png", "\0", '"', "%F0%28", ""])
async def test_a_name_that_is_given_counts(client: Client, name: str) -> None:
    status, header = await told(
        client, f"thumbnail?contentDisposition=attachment&contentDispositionFilename={quote(name)}"
    )
    assert (status, header) == (200, disposition("attachment", name, "a b.ome-thumbnail.jpg"))


async def test_a_remote_file_is_named_without_its_folder_and_query() -> None:
    async with remote_server() as remote:
        remote.files["a%20b.tif"] = remote.files["a b.tif"] = _written()
        config = Config(urls=(remote.url + "a%20b.tif?signature=secret",), workers=1)
        async with TestClient(TestServer(create_app(config))) as client:
            _, header = await told(client, "thumbnail?contentDisposition=attachment")
            assert header is not None
            assert 'filename="a b-thumbnail.jpg"' in header


def _written() -> bytes:
    file = BytesIO()
    tifffile.imwrite(file, PICTURE, photometric="minisblack", metadata=None)
    return file.getvalue()
