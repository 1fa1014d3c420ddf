"""The HTTP contract, over a real server on loopback and real files."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from io import BytesIO
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
import pytest
import tifffile
from aiohttp.test_utils import TestClient, TestServer
from PIL import Image as Pillow

from gputiles.app import SERVER, create_app
from gputiles.config import Config
from gputiles.state import STATE
from tests.conftest import shared

Client = TestClient[Any, Any]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "images"
    (folder / "below").mkdir(parents=True)
    data = np.random.default_rng(3).integers(0, 4096, (3, 300, 500)).astype(np.uint16)
    names = {"axes": "CYX", "Channel": {"Name": ["DAPI", "CD3", "CD8"]}}
    tifffile.imwrite(folder / "multi.ome.tif", data, tile=(128, 128), compression="zlib", metadata=names)
    tifffile.imwrite(folder / "below" / "grey.tif", data[0].astype(np.uint8), photometric="minisblack")
    (folder / "broken.tif").write_bytes(b"II*\0nonsense")
    return folder


@pytest.fixture
async def client(root: Path) -> AsyncIterator[Client]:
    app = create_app(Config(roots=(root,), tile_cache=1 << 22, raw_cache=1 << 24, workers=2, revalidate=0))
    server = TestServer(app)
    await server.start_server(
        **{name: value for name, value in SERVER.items() if name != "handler_cancellation"}
    )
    async with TestClient(server) as client:
        yield client


async def find(client: Client, name: str) -> str:
    items = await (await client.get("/item")).json()
    return next(item["id"] for item in items if item["name"] == name)


async def test_the_list_names_every_file_by_a_stable_id_and_opens_none(client: Client) -> None:
    items = await (await client.get("/item")).json()
    assert [item["name"] for item in items] == ["below/grey.tif", "broken.tif", "multi.ome.tif"]
    assert all(len(item["id"]) == 24 and item["id"] == item["id"].lower() for item in items)
    page = await (await client.get("/item?limit=1&offset=2")).json()
    assert [item["name"] for item in page] == ["multi.ome.tif"]
    again = await (await client.get("/api/v1/item")).json()
    assert [item["id"] for item in again] == [item["id"] for item in items]


async def test_metadata_has_the_keys_of_large_image(client: Client) -> None:
    item = await find(client, "multi.ome.tif")
    facts = await (await client.get(f"/item/{item}/tiles")).json()
    assert {key: facts[key] for key in ("levels", "sizeX", "sizeY", "tileWidth", "tileHeight", "dtype")} == {
        "levels": 3, "sizeX": 500, "sizeY": 300, "tileWidth": 128, "tileHeight": 128, "dtype": "uint16",
    }  # fmt: skip
    assert facts["channels"] == ["DAPI", "CD3", "CD8"]
    assert facts["channelmap"] == {"DAPI": 0, "CD3": 1, "CD8": 2}
    assert (facts["IndexRange"], facts["IndexStride"], facts["bandCount"]) == (
        {"IndexC": 3},
        {"IndexC": 1},
        1,
    )
    assert [frame["IndexC"] for frame in facts["frames"]] == [0, 1, 2]


@pytest.mark.parametrize("prefix", ["/item", "/api/v1/item"])
@pytest.mark.parametrize("word", ["tiles", "tile"])
async def test_the_corners_of_every_level_are_there_and_nothing_beyond(
    client: Client, prefix: str, word: str
) -> None:
    item = await find(client, "multi.ome.tif")
    for z, (columns, rows) in enumerate([(1, 1), (2, 2), (4, 3)]):
        for x, y in ((0, 0), (columns - 1, rows - 1)):
            reply = await client.get(f"{prefix}/{item}/{word}/zxy/{z}/{x}/{y}")
            assert reply.status == 200
            assert (await reply.read()).startswith(b"\xff\xd8")
        for x, y in ((columns, 0), (0, rows)):
            assert (await client.get(f"{prefix}/{item}/{word}/zxy/{z}/{x}/{y}")).status == 404


@pytest.mark.parametrize(
    ("method", "path", "status", "allow"),
    [
        ("GET", "/nothing", 404, ""),
        ("POST", "/api/v1/nothing/at/all", 404, ""),
        ("GET", "/%2e%2e/nothing?x=1", 404, ""),
        ("POST", "/item/x/tiles/zxy/0/0/0", 405, "GET,HEAD,OPTIONS"),
        ("DELETE", "/item", 405, "GET,HEAD,OPTIONS,POST"),
        ("PATCH", "/healthz", 405, "GET,HEAD,OPTIONS"),
        ("PATCH", "/api/v1/styles", 405, "OPTIONS,POST"),
    ],
)
async def test_what_no_route_answers_is_refused(
    client: Client, method: str, path: str, status: int, allow: str
) -> None:
    refusals = client.app[STATE].refusals
    before = refusals[status]
    reply = await client.request(method, path)
    told = await reply.json()
    assert (reply.status, told["type"], reply.headers.get("Allow", "")) == (status, "rest", allow)
    assert ("There is nothing at" in told["message"]) == (status == 404)
    assert reply.headers["Access-Control-Allow-Origin"] == "*"
    assert refusals[status] == before + 1


@pytest.mark.parametrize(
    ("path", "status", "message"),
    [
        ("zxy/-1/0/0", 400, "x, y, and z must be positive integers"),
        ("zxy/0/a/0", 400, "x, y, and z must be integers"),
        ("zxy/0/1.5/0", 400, "x, y, and z must be integers"),
        ("zxy/3/0/0", 404, "z layer does not exist"),
        ("zxy/0/1000000000000/0", 404, "x is outside layer"),
        ("zxy/0/0/1", 404, "y is outside layer"),
        ("zxy/0/0/0?frame=3", 404, "Frame does not exist"),
        ("fzxy/9/0/0/0", 404, "Frame does not exist"),
        ("zxy/0/0/0?frame=x", 400, "frame"),
        ("zxy/0/0/0?encoding=BMP", 400, 'Invalid encoding "BMP"'),
        ("zxy/0/0/0?jpegQuality=101", 400, "jpegQuality"),
        ("zxy/0/0/0?jpegSubsampling=3", 400, "jpegSubsampling"),
        ("zxy/0/0/0?edge=notacolour", 400, "edge"),
        ("zxy/0/0/0?style=[", 400, "Style is not a valid json object."),
        ("zxy/0/0/0?style={%22palette%22:%22nonsense%22}", 400, "cannot be used as a color palette"),
        ("zxy/0/0/0?style={%22min%22:%22x%22}", 400, "min"),
        ("zxy/0/0/0?style=@00000000", 400, "style"),
        ("zxy/0/0/0?frame=1&frame=2", 400, "frame"),
        ("thumbnail?width=1", 400, "Minimum value is 2"),
        ("thumbnail?width=100000&height=100000", 413, "4096"),
        ("pixel?left=1", 400, "top"),
    ],
)
async def test_what_cannot_be_answered_says_why_in_json(
    client: Client, path: str, status: int, message: str
) -> None:
    reply = await client.get(f"/item/{await find(client, 'multi.ome.tif')}/tiles/{path}")
    body = await reply.json()
    assert (reply.status, body["type"]) == (status, "rest")
    assert message in body["message"]


@pytest.mark.parametrize(
    ("place", "status", "message"),
    [
        ("0/a/0", 400, "x, y, and z must be integers"),
        ("-1/0/0", 400, "x, y, and z must be positive integers"),
        ("3/0/0", 404, "z layer does not exist"),
        ("0/1/0", 404, "x is outside layer"),
        ("0/0/1", 404, "y is outside layer"),
        ("0/0/0?frame=9", 404, "Frame does not exist"),
    ],
)
async def test_clients_that_know_large_image_read_its_very_words(
    client: Client, place: str, status: int, message: str
) -> None:
    reply = await client.get(f"/item/{await find(client, 'multi.ome.tif')}/tiles/zxy/{place}")
    assert (reply.status, (await reply.json())["message"]) == (status, message)


@pytest.mark.parametrize("item", ["0" * 24, "nonsense", "..%2f..%2fetc%2fpasswd", "%00"])
async def test_an_unknown_item_is_absent(client: Client, item: str) -> None:
    assert (await client.get(f"/item/{item}/tiles")).status == 404


async def test_an_unreadable_file_says_so_and_the_others_are_served(client: Client) -> None:
    broken = await find(client, "broken.tif")
    reply = await client.get(f"/item/{broken}/tiles/zxy/0/0/0")
    assert reply.status in (415, 422)
    assert (await reply.json())["message"]
    assert (await client.get(f"/item/{await find(client, 'below/grey.tif')}/tiles/zxy/0/0/0")).status == 200


async def test_an_entity_tag_answers_304_and_head_has_no_body(client: Client) -> None:
    url = f"/item/{await find(client, 'multi.ome.tif')}/tiles/zxy/0/0/0"
    reply = await client.get(url)
    etag = reply.headers["ETag"]
    assert etag.startswith('"')
    for given in (etag, f"W/{etag}", f'"other", {etag}', "*"):
        held = await client.get(url, headers={"If-None-Match": given})
        assert (held.status, await held.read()) == (304, b"")
    assert (await client.get(url, headers={"If-None-Match": '"other"'})).status == 200
    assert (await client.get(url + "?encoding=PNG")).headers["ETag"] != etag
    head = await client.head(url)
    assert (head.status, await head.read(), head.headers["ETag"]) == (200, b"", etag)


async def test_a_posted_style_gives_the_bytes_of_the_inline_one(client: Client) -> None:
    url = f"/item/{await find(client, 'multi.ome.tif')}/tiles/zxy/1/0/0?encoding=PNG&style="
    style = {"bands": [{"channel": "CD3", "min": 0, "max": 4000, "palette": "#f0f"}]}
    reply = await client.post("/styles", json=style)
    identity = (await reply.json())["id"]
    inline = await (await client.get(url + quote(json.dumps(style)))).read()
    stored = await (await client.get(f"{url}@{identity}")).read()
    assert inline == stored
    assert (await client.post("/styles", data=b"[")).status == 400


async def test_a_style_of_sixty_kilobytes_fits_a_url(client: Client) -> None:
    bands = [{"frame": n % 3, "min": n, "max": 4000, "palette": "#ff00ff"} for n in range(900)]
    text = quote(json.dumps({"bands": bands}))
    assert len(text) > 60_000
    url = f"/item/{await find(client, 'multi.ome.tif')}/tiles/zxy/0/0/0?style={text}"
    assert (await client.get(url)).status == 200


async def test_viewers_on_other_hosts_may_ask(client: Client) -> None:
    item = await find(client, "multi.ome.tif")
    for url in (f"/item/{item}/tiles/zxy/0/0/0", f"/item/{item}/tiles/zxy/9/0/0", "/item"):
        reply = await client.get(url)
        assert reply.headers["Access-Control-Allow-Origin"] == "*"
        assert "Server-Timing" in reply.headers["Access-Control-Expose-Headers"]
    reply = await client.options("/styles")
    assert (reply.status, "POST" in reply.headers["Access-Control-Allow-Methods"]) == (204, True)


def clocks(reply: Any) -> dict[str, float]:
    """Return {stage: milliseconds} of what Server-Timing says."""
    parts = (part.split(";dur=") for part in reply.headers["Server-Timing"].split(", "))
    return {stage: float(spent) for stage, spent in parts}


TILES = (
    "/item/{item}/tiles/zxy/2/1/1",
    "/item/{item}/tiles/fzxy/1/2/1/1?encoding=PNG",
    "/item/{item}/tiles/region?regionWidth=90&width=40",
    "/item/{item}/tiles/thumbnail",
    "/item/{item}/tiles/tile_frames?frameList=0,1&width=64",
    "/item/{item}/tiles/dzi_files/9/0_0.jpeg",
    "/xyz/{item}/1/0/0.png",
    "/iiif/3/{item}/0,0,128,128/64,/0/default.jpg",
    "/webgateway/render_image_region/{item}/0/0/?tile=0,1,1",
)


@pytest.mark.parametrize("path", TILES)
async def test_server_timing_is_on_every_tile_made_kept_or_not_modified(client: Client, path: str) -> None:
    url = path.format(item=await find(client, "multi.ome.tif"))
    made, kept = await client.get(url), await client.get(url)
    held = await client.get(url, headers={"If-None-Match": made.headers["ETag"]})
    assert (made.status, kept.status, held.status) == (200, 200, 304)
    assert clocks(made).keys() >= {"queue", "read", "decode", "render", "total"}
    assert kept.headers["X-Cache"] == "encoded-hit"
    assert clocks(kept).keys() == clocks(held).keys() == {"total"}
    assert min(*clocks(made).values(), *clocks(kept).values(), *clocks(held).values()) >= 0


async def test_stages_that_follow_each_other_fit_into_the_total(client: Client) -> None:
    item = await find(client, "multi.ome.tif")
    style = quote(json.dumps({"bands": [{"frame": 1, "min": 0, "max": 4000}]}))
    for x in range(3):  # a chunk of its own each
        reply = await client.get(f"/item/{item}/tiles/zxy/2/{x}/0?style={style}")
        stages = clocks(reply)
        total = stages.pop("total")
        assert list(stages) == ["read", "queue", "decode", "render"]
        assert 0 < sum(stages.values()) <= total + 0.01  # rounded


async def test_a_batch_tells_where_the_time_until_its_first_tile_went(client: Client) -> None:
    item = await find(client, "multi.ome.tif")
    asked = {"tiles": [[2, 0, 0], [2, 1, 0]]}
    made, kept = [await client.post(f"/item/{item}/tiles:batch", json=asked) for _ in range(2)]
    assert clocks(made).keys() >= {"decode", "render", "total"}
    assert clocks(kept).keys() == {"total"}


async def test_an_answer_that_takes_too_long_is_refused_with_a_hint_to_come_again(root: Path) -> None:
    app = create_app(Config(roots=(root,), tile_cache=0, raw_cache=0, workers=1, deadline=1e-6))
    async with TestClient(TestServer(app)) as client:
        items = await (await client.get("/item/test/tiles/zxy/0/0/0")).json()
        assert items["message"].startswith("no answer within the deadline")
        reply = await client.get("/item/test/tiles?maxLevel=3")  # another image: one that is not open yet
        assert (reply.status, reply.headers["Retry-After"]) == (503, "1")


async def test_thumbnails_and_pixels_are_those_of_the_file(client: Client, root: Path) -> None:
    item = await find(client, "multi.ome.tif")
    thumbnail = await (await client.get(f"/item/{item}/tiles/thumbnail?encoding=PNG")).read()
    assert Pillow.open(BytesIO(thumbnail)).size == (256, 153)
    data = tifffile.imread(root / "multi.ome.tif")
    pixel = await (await client.get(f"/item/{item}/tiles/pixel?left=499&top=299&frame=2")).json()
    assert pixel["value"] == [int(data[2, 299, 499])]
    assert await (await client.get(f"/item/{item}/tiles/pixel?left=500&top=0")).json() == {}


async def test_the_test_item_needs_no_file(client: Client) -> None:
    facts = await (await client.get("/item/test/tiles?maxLevel=3&tileWidth=128&tileHeight=128")).json()
    assert (facts["levels"], facts["sizeX"], facts["tileWidth"]) == (4, 1024, 128)
    reply = await client.get("/item/test/tiles/zxy/2/1/1?maxLevel=3&tileWidth=128&tileHeight=128")
    assert reply.headers["Content-Type"] == "image/png"
    assert Pillow.open(BytesIO(await reply.read())).size == (128, 128)


async def test_the_caches_report_and_can_be_cleared(client: Client) -> None:
    await client.get(f"/item/{await find(client, 'multi.ome.tif')}/tiles/zxy/0/0/0")
    report = await (await client.get("/large_image/cache")).json()
    assert report["shelves"]["tiles"]["items"] == 1
    cleared = await (await client.put("/large_image/cache/clear")).json()
    assert cleared["after"]["shelves"]["tiles"]["items"] == 0
    assert cleared["after"]["descriptors"] == 0
    assert "tiff" in await (await client.get("/large_image/sources")).json()
    assert (await client.get("/healthz")).status == 200


async def test_a_replaced_file_shows_its_new_pixels_and_a_deleted_one_is_gone(
    client: Client, root: Path
) -> None:
    url = f"/item/{await find(client, 'below/grey.tif')}/tiles/zxy/0/0/0?encoding=PNG"
    first = await client.get(url)
    tifffile.imwrite(root / "new", np.full((300, 500), 7, np.uint8), photometric="minisblack")
    (root / "new").rename(root / "below" / "grey.tif")
    second = await client.get(url, headers={"If-None-Match": first.headers["ETag"]})
    assert second.status == 200
    assert np.asarray(Pillow.open(BytesIO(await second.read()))).max() == 7
    (root / "below" / "grey.tif").unlink()
    assert (await client.get(url)).status == 404


async def test_what_is_hot_of_a_file_that_was_replaced_is_hot_no_more(root: Path) -> None:
    app = create_app(Config(roots=(root,), revalidate=3600))
    async with TestClient(TestServer(app)) as client:
        url = f"/item/{await find(client, 'below/grey.tif')}/tiles/zxy/0/0/0?encoding=PNG"

        async def shown() -> tuple[str, int]:
            reply = await client.get(url)
            return reply.headers["X-Cache"], int(np.asarray(Pillow.open(BytesIO(await reply.read()))).max())

        assert [source for source, _ in (await shown(), await shown())] == ["miss", "encoded-hit"]
        tifffile.imwrite(root / "new", np.full((300, 500), 7, np.uint8), photometric="minisblack")
        (root / "new").rename(root / "below" / "grey.tif")
        for entry in app[STATE].engine.images.records._entries.values():
            entry.value.checked -= 3600  # an hour later
        assert [await shown(), await shown()] == [("miss", 7), ("encoded-hit", 7)]


async def test_every_shared_file_is_listed_and_described_or_refused_never_500() -> None:
    roots = (shared("data"), shared("cases"))
    app = create_app(Config(roots=roots, tile_cache=1 << 22, raw_cache=1 << 26, workers=2))
    async with TestClient(TestServer(app)) as client:
        items = await (await client.get("/item?limit=0")).json()
        assert len(items) > 150
        for item in items:
            for path in ("", "/zxy/0/0/0", "/thumbnail"):
                reply = await client.get(f"/item/{item['id']}/tiles{path}")
                body = await reply.read()
                assert reply.status in (200, 404, 413, 415, 422), (item["name"], path, body)
                if reply.status != 200:
                    assert json.loads(body)["message"]


async def test_webp_is_one_encoding_more(client: Client) -> None:
    base = f"/item/{await find(client, 'multi.ome.tif')}"
    tile = await client.get(f"{base}/tiles/zxy/0/0/0?encoding=WEBP&jpegQuality=80")
    jpeg = await client.get(f"{base}/tiles/zxy/0/0/0?encoding=JPEG&jpegQuality=80")
    coarse = await client.get(f"{base}/tiles/zxy/0/0/0?encoding=webp&jpegQuality=10")
    assert (tile.status, tile.content_type, coarse.content_type) == (200, "image/webp", "image/webp")
    assert len({answer.headers["ETag"] for answer in (tile, jpeg, coarse)}) == 3
    opened = Pillow.open(BytesIO(await tile.read()))
    assert (opened.format, opened.size) == ("WEBP", (128, 128))
    assert len(await coarse.read()) < len(await tile.read())
    item = base.removeprefix("/item/")
    for path in (
        f"/xyz/{item}/0/0/0.webp",
        f"/iiif/3/{item}/full/max/90/default.webp",
        f"{base}/tiles/thumbnail?encoding=WEBP",
        f"{base}/tiles/region?width=60&height=60&fill=red&encoding=WEBP",
    ):
        answer = await client.get(path)
        assert (answer.status, answer.content_type) == (200, "image/webp"), path
        assert Pillow.open(BytesIO(await answer.read())).format == "WEBP"


@pytest.mark.parametrize("sent", [
    b"GET /item HTTP/1.1\r\nHost: x\r\n\r\nBOGUS /item HTTP/1.1\r\nHost: x\r\n\r\n",  # not the first
    b"GET /item/\xff HTTP/1.1\r\nHost: x\r\n\r\n", b"GET /item HTTP/1.1\r\nno colon\r\n\r\n",
    b"POST /styles HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n", b"no HTTP\r\n\r\n",
    b"GET /item?" + b"a" * (1 << 20) + b" HTTP/1.1\r\nHost: x\r\n\r\n",
])  # fmt: skip
async def test_what_is_no_http_is_refused_and_logged_in_one_line(
    client: Client, caplog: pytest.LogCaptureFixture, sent: bytes
) -> None:
    caplog.set_level("DEBUG")
    reader, writer = await asyncio.open_connection(client.host, client.port)
    writer.write(sent)
    answer = await asyncio.wait_for(reader.read(), 20)
    writer.close()
    assert b" 400 Bad Request" in answer
    assert b"Traceback" not in answer
    told = [record for record in caplog.records if "Error handling request" in record.getMessage()]
    assert all(record.levelname in ("DEBUG", "INFO") for record in told)
    assert not any(record.exc_info for record in told if record.levelname != "DEBUG")
    assert (await client.get("/healthz")).status == 200
