"""Other pictures of a file: found, right, and shown only where that is allowed."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from aiohttp.test_utils import TestClient, TestServer
from PIL import Image as Pillow

from gputiles.app import create_app
from gputiles.config import Config
from tests.conftest import shared
from tests.test_http import find

Client = TestClient[Any, Any]

# Which page of the file each picture is.
FILES = {
    "data/libvips__CMU-1-Small-Region.svs": {"label": 2, "macro": 3, "thumbnail": 1},
    "data/ometiff-tests__test3-TRITC_2_(560).ndpi": {"macro": 4, "map": 5},
    "data/pathml__small_vectra.qptiff": {"label": 5, "overview": 4, "thumbnail": 3},
    "cases/svs_page_order.svs": {"label": 3, "macro": 4, "thumbnail": 1},
    "cases/qptiff_page_order.qptiff": {"label": 7, "thumbnail": 3},
    "data/large_image__yb10kx5k.zstd.tiff": {},
}


@asynccontextmanager
async def serving(path: Path, **settings: Any) -> AsyncIterator[tuple[Client, str]]:
    config = Config(roots=(path,), tile_cache=1 << 24, raw_cache=1 << 26, workers=2, icc=False, **settings)
    async with TestClient(TestServer(create_app(config))) as client:
        item = await find(client, path.name)
        yield client, f"/item/{item}/tiles/images"


@pytest.mark.parametrize("name", FILES)
async def test_pictures_are_those_of_their_pages(name: str) -> None:
    path = shared(*name.split("/"))
    async with serving(path, associated_images=("all",)) as (client, base):
        assert await (await client.get(base)).json() == sorted(FILES[name])
        for picture, page in FILES[name].items():
            expected = tifffile.imread(path, key=page)
            facts = await (await client.get(f"{base}/{picture}/metadata")).json()
            assert (facts["sizeX"], facts["sizeY"]) == expected.shape[1::-1]
            answer = await client.get(f"{base}/{picture}?encoding=PNG")
            found = np.asarray(Pillow.open(BytesIO(await answer.read())))
            assert found.shape[:2] == expected.shape[:2]
            colours = found if found.ndim == 2 else found[..., :3]
            assert np.abs(colours.astype(int) - expected).max() <= 2, picture


async def test_a_picture_and_its_image_are_not_mixed_up() -> None:
    path = shared("data", "libvips__CMU-1-Small-Region.svs")
    async with serving(path, associated_images=("all",)) as (client, base):
        tiles = base.removesuffix("/images")
        answers = [
            await (await client.get(url)).read()
            for _ in range(2)
            for url in (
                f"{tiles}/thumbnail?encoding=PNG",
                f"{base}/label?encoding=PNG",
                f"{base}/macro?encoding=PNG",
            )
        ]
        assert len(set(answers)) == 3
        assert answers[:3] == answers[3:]


async def test_labels_and_macros_are_hidden_unless_the_setting_names_them() -> None:
    path = shared("data", "libvips__CMU-1-Small-Region.svs")
    async with serving(path) as (client, base):
        assert await (await client.get(base)).json() == ["thumbnail"]
        assert (await client.get(f"{base}/thumbnail")).status == 200
        for route in ("label", "macro", "label/metadata"):
            answer = await client.get(f"{base}/{route}")
            assert answer.status == 404
            assert "the setting 'associated-images'" in (await answer.json())["message"]
    async with serving(path, associated_images=("label",)) as (client, base):
        assert await (await client.get(base)).json() == ["label"]


async def test_pictures_are_bounded_and_have_entity_tags() -> None:
    path = shared("data", "libvips__CMU-1-Small-Region.svs")
    async with serving(path) as (client, base):
        answer = await client.get(f"{base}/thumbnail?width=100&height=100")
        assert max(Pillow.open(BytesIO(await answer.read())).size) == 100
        held = await client.get(
            f"{base}/thumbnail?width=100&height=100", headers={"If-None-Match": answer.headers["ETag"]}
        )
        assert held.status == 304
        assert (await client.get(f"{base}/thumbnail?width=0")).status == 400


async def test_a_name_that_the_file_has_not_is_refused() -> None:
    path = shared("data", "libvips__CMU-1-Small-Region.svs")
    async with serving(path, associated_images=("all",)) as (client, base):
        answer = await client.get(f"{base}/nothing")
        assert answer.status == 404
        assert "it has: thumbnail, label, macro" in (await answer.json())["message"]
