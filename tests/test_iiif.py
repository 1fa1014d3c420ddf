"""The IIIF Image API: the public validator's verdict, and each part of a path."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator
from importlib import resources
from io import BytesIO
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
import pytest
import tifffile
from aiohttp.test_utils import TestClient, TestServer
from numpy.typing import NDArray
from PIL import Image as Pillow

from gputiles.app import create_app
from gputiles.config import Config
from gputiles.errors import BadRequest
from gputiles.geometry import Grid, Rect
from gputiles.iiif import parse_region, parse_rotation, parse_size
from gputiles.image import ImageInfo
from tests.test_http import find

Client = TestClient[Any, Any]
INFO = ImageInfo(Grid(1000, 600, 256, 256), (True,) * 3, np.dtype(np.uint8))
PICTURE = np.random.default_rng(6).integers(0, 255, (200, 300, 3)).astype(np.uint8)
MOST = 1 << 26


@pytest.mark.parametrize(
    ("text", "region"),
    [
        ("full", Rect(0, 0, 1000, 600)),
        ("square", Rect(200, 0, 600, 600)),
        ("10,20,30,40", Rect(10, 20, 30, 40)),
        ("990,590,30,40", Rect(990, 590, 10, 10)),
        ("pct:10,50,10,50", Rect(100, 300, 100, 300)),
        ("pct:0.05,0,50,50", Rect(0, 0, 500, 300)),
    ],
)
def test_regions(text: str, region: Rect) -> None:
    assert parse_region(text, INFO) == region


@pytest.mark.parametrize(
    "text", ["", "1,2,3", "1,2,3,x", "1,2,0,5", "1000,0,1,1", "-1,0,5,5", "pct:1,2,3", "1.5,0,5,5"]
)
def test_regions_that_are_none(text: str) -> None:
    with pytest.raises(BadRequest, match="region"):
        parse_region(text, INFO)


@pytest.mark.parametrize(
    ("text", "version", "size"),
    [
        ("max", 3, (400, 200)), ("full", 2, (400, 200)), ("200,", 3, (200, 100)), (",50", 3, (100, 50)),
        ("pct:25", 3, (100, 50)), ("100,100", 3, (100, 100)), ("!100,100", 3, (100, 50)),
        ("^800,", 3, (800, 400)), ("800,", 2, (800, 400)), ("^!800,800", 3, (800, 400)),
        ("^pct:200", 3, (800, 400)),
        ("3,", 3, (3, 2)), ("1,", 3, (1, 1)),
    ],
)  # fmt: skip
def test_sizes(text: str, version: int, size: tuple[int, int]) -> None:
    assert parse_size(text, Rect(0, 0, 400, 200), version, MOST) == size


@pytest.mark.parametrize(
    "text", ["", ",", "0,", "800,", "full", "!1,", "pct:0", "pct:200", "x,", "1,2,3", "-5,", "^^5,"]
)
def test_sizes_that_are_none(text: str) -> None:
    with pytest.raises(BadRequest, match="size"):
        parse_size(text, Rect(0, 0, 400, 200), 3, MOST)


def test_max_keeps_within_the_largest_area_and_enlarges_nothing() -> None:
    assert parse_size("max", Rect(0, 0, 400, 200), 3, 20_000) == (200, 100)
    assert parse_size("^max", Rect(0, 0, 400, 200), 3, 320_000) == (400, 200)


@pytest.mark.parametrize("text", ["", "45", "x", "-90", "!!90", "450", "1e2"])
def test_rotations_that_are_none(text: str) -> None:
    with pytest.raises(BadRequest, match="rotation"):
        parse_rotation(text)


# -- over HTTP


@pytest.fixture
async def client(tmp_path: Path) -> AsyncIterator[Client]:
    tifffile.imwrite(tmp_path / "rgb.tif", PICTURE, photometric="rgb", tile=(128, 128), compression="zlib")
    config = Config(roots=(tmp_path,), tile_cache=1 << 22, raw_cache=1 << 24, workers=2)
    async with TestClient(TestServer(create_app(config))) as client:
        yield client


async def pixels(client: Client, path: str) -> NDArray[np.uint8]:
    answer = await client.get(path)
    assert answer.status == 200, await answer.text()
    return np.asarray(Pillow.open(BytesIO(await answer.read())))


@pytest.mark.parametrize(
    ("rotation", "turn"),
    [
        ("0", lambda a: a),
        ("90", lambda a: np.rot90(a, -1)),
        ("180", lambda a: a[::-1, ::-1]),
        ("270", lambda a: np.rot90(a, 1)),
        ("!0", lambda a: a[:, ::-1]),
        ("!90", lambda a: np.rot90(a[:, ::-1], -1)),
    ],
)
async def test_pictures_are_turned(client: Client, rotation: str, turn: Any) -> None:
    item = await find(client, "rgb.tif")
    for format in ("png", "tif"):
        found = await pixels(client, f"/iiif/3/{item}/10,20,100,50/max/{rotation}/default.{format}")
        assert np.array_equal(found, turn(PICTURE[20:70, 10:110]))


async def test_qualities_take_the_colour_away(client: Client) -> None:
    item = await find(client, "rgb.tif")
    grey = await pixels(client, f"/iiif/3/{item}/full/max/0/gray.png")
    luma = (PICTURE.astype(int) @ [19595, 38470, 7471] + 32768) >> 16
    assert np.array_equal(grey, luma)
    assert np.array_equal(
        await pixels(client, f"/iiif/2/{item}/full/full/0/bitonal.png"), (luma >= 128) * 255
    )
    assert (await pixels(client, f"/iiif/3/{item}/full/max/0/gray.jpg")).ndim == 2


async def test_an_identifier_may_carry_a_style(client: Client) -> None:
    item = await find(client, "rgb.tif")
    style = json.dumps({"bands": [{"band": 2, "min": 0, "max": 255, "palette": "#00f"}]})
    found = await pixels(client, f"/iiif/3/{quote(f'{item};style={style}', safe='')}/full/max/0/default.png")
    assert np.array_equal(found[..., 2], PICTURE[..., 1])
    posted = await (await client.post("/styles", data=style)).json()
    again = await pixels(client, f"/iiif/3/{item};style=@{posted['id']};frame=0/full/max/0/default.png")
    assert np.array_equal(found, again)
    assert (await client.get(f"/iiif/3/{item};colour=red/info.json")).status == 400


async def test_links_lead_to_the_same_picture_by_its_canonical_path(client: Client) -> None:
    item = await find(client, "rgb.tif")
    for version, size in ((2, "150,"), (3, "150,100")):
        path = f"/iiif/{version}/{item}/pct:0,0,100,100/!150,150/0/color.png"
        answer = await client.get(path)
        canonical = str(client.make_url(f"/iiif/{version}/{item}/full/{size}/0/default.png"))
        assert f'<{canonical}>;rel="canonical"' in answer.headers["Link"]
        assert await (
            await client.get(canonical.removeprefix(str(client.make_url("")).rstrip("/")))
        ).read() == (await answer.read())
        held = await client.get(path, headers={"If-None-Match": answer.headers["ETag"]})
        assert held.status == 304


async def test_the_base_leads_to_the_information(client: Client) -> None:
    item = await find(client, "rgb.tif")
    answer = await client.get(f"/iiif/3/{item}", allow_redirects=False)
    assert (answer.status, answer.headers["Location"]) == (
        303,
        str(client.make_url(f"/iiif/3/{item}/info.json")),
    )
    linked = await client.get(f"/iiif/3/{item}/info.json", headers={"Accept": "application/ld+json"})
    assert linked.content_type == "application/ld+json"
    facts = await linked.json(content_type=None)
    assert (facts["id"], facts["width"], facts["profile"]) == (
        str(client.make_url(f"/iiif/3/{item}")),
        300,
        "level2",
    )


@pytest.mark.parametrize("version", ["V2", "V3"])
async def test_the_public_validator_finds_nothing_wrong(tmp_path: Path, version: str) -> None:
    if not os.environ.get("CI"):  # there nothing is skipped
        pytest.importorskip(
            "iiif_validator.tests.test", reason="needs iiif-validator-ng and pyvips", exc_type=ImportError
        )
    from iiif_validator.tests import test as validator

    picture = np.asarray(
        Pillow.open(BytesIO(resources.files("iiif_validator").joinpath("validation_image.png").read_bytes()))
    )
    tifffile.imwrite(tmp_path / "validation.tif", picture[..., :3], photometric="rgb", tile=(256, 256))
    async with TestClient(TestServer(create_app(Config(roots=(tmp_path,), workers=2)))) as client:
        item = await find(client, "validation.tif")
        number = {"V2": 2, "V3": 3}[version]
        server = validator.TargetServer(
            str(client.make_url(f"/iiif/{number}")),
            validation_id=item,
            version=validator.IIIFVersion[version],
        )
        verdicts = await asyncio.to_thread(verdicts_of, validator, server)
    assert len(verdicts) > 30
    assert [verdict for verdict in verdicts if "Failure" in verdict] == []


def verdicts_of(validator: Any, server: Any) -> list[str]:
    """Run the validator's tests of level 2, and of what the server says it can beyond."""
    features = server.feature_set()
    extra = {*features.extra_features, *features.extra_formats, *features.extra_qualities}
    verdicts = []
    for test in validator.get_tests(server.version):
        level = test.compliance_level
        level = level[server.version] if isinstance(level, dict) else level
        names = test.extra_name or []
        names = [names] if isinstance(names, str) else names
        if level > features.compliance_level and not extra & {*names}:
            continue
        found = test.run(server)
        verdicts += [f"{test.__name__}: {each}" for each in (found if isinstance(found, list) else [found])]
    return verdicts
