"""The pages and their files over HTTP, and the server's numbers for Prometheus."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from html import unescape
from pathlib import Path
from typing import Any

import pytest
import tifffile
from aiohttp.test_utils import TestClient, TestServer
from click.testing import CliRunner
from numpy import zeros
from prometheus_client.parser import text_string_to_metric_families
from yarl import URL

from gputiles import assets
from gputiles.app import create_app
from gputiles.commands import cli
from gputiles.config import Config
from gputiles.metrics import SHELF_COUNTERS, SHELF_GAUGES

Client = TestClient[Any, Any]
FILES = sorted(path.name for path in assets.FOLDER.iterdir() if path.suffix in assets.TYPES)
MODULES = [name for name in FILES if name.endswith(".js") and name != assets.LIBRARY]


def serve(**settings: Any) -> Client:
    config = Config(**{"tile_cache": 1 << 20, "raw_cache": 1 << 22, "workers": 1, **settings})
    return TestClient(TestServer(create_app(config)))


@pytest.fixture
async def client() -> AsyncIterator[Client]:
    async with serve() as client:
        yield client


@pytest.mark.parametrize("name", FILES)
async def test_a_file_has_its_type_and_a_tag_that_answers_304(client: Client, name: str) -> None:
    reply = await client.get(f"/viewer/{name}")
    assert await reply.read() == (assets.FOLDER / name).read_bytes()
    kind = {"css": "text/css", "js": "text/javascript", "svg": "image/svg+xml"}[name.rpartition(".")[2]]
    assert reply.headers["Content-Type"] == f"{kind}; charset=utf-8"
    assert reply.headers["Cache-Control"] == "no-cache"
    held = await client.get(f"/viewer/{name}", headers={"If-None-Match": reply.headers["ETag"]})
    assert (held.status, await held.read()) == (304, b"")
    assert (await client.get(f"/viewer/{name}", headers={"If-None-Match": '"other"'})).status == 200


@pytest.mark.parametrize(
    "name",
    [
        "..%2fstyles.py", "..%2f..%2fpyproject.toml", "%2fetc%2fpasswd", "__init__.py", "view.html",
        ".hidden.js", "no.js", "view.js%00", "x" * 70 + ".js", "%E2%82%AC.js", "view.JS",
    ],
)  # fmt: skip
async def test_nothing_but_the_folders_files_is_given(client: Client, name: str) -> None:
    reply = await client.get(URL(f"/viewer/{name}", encoded=True))
    assert reply.status == 404
    assert (await reply.json())["type"] == "rest"


@pytest.mark.parametrize("name", MODULES)
def test_modules_import_what_is_there_and_fit_in_one_sitting(name: str) -> None:
    text = (assets.FOLDER / name).read_text("utf-8")
    assert text.startswith("// "), "a first line that says what the module is"
    assert set(re.findall(r'from "\./([\w.]+)"', text)) <= set(MODULES)
    assert len(re.findall(r"^import ", text, re.MULTILINE)) == len(re.findall(r' from "\./', text))
    assert text.count("\n") <= 300
    assert max(map(len, text.splitlines())) <= 115


@pytest.mark.parametrize(
    ("path", "root"),
    [
        ("/", "./"),
        ("/status", "./"),
        ("/view/abc", "../"),
        ("/api/v1/view/abc", "../../../"),
        ("/item/abc", "../"),
    ],
)
async def test_a_page_names_its_files_relative_to_the_root(client: Client, path: str, root: str) -> None:
    reply = await client.get(path, headers={"Accept": "text/html"})
    text = await reply.text()
    assert (reply.status, reply.content_type) == (200, "text/html")
    assert f'<base href="{root}">' in text
    assert not re.search(r'(src|href)="(/|https?:)', text), "nothing is absolute: a proxy may add a prefix"
    assert "{{" not in text
    for name in re.findall(r'(?:src|href)="viewer/([^"]+)"', text):
        assert name in FILES
    policy = reply.headers["Content-Security-Policy"]
    assert "default-src 'self'; script-src 'self';" in policy


async def test_an_items_name_cannot_be_markup(client: Client) -> None:
    reply = await client.get(URL("/view/%22%3E%3Cscript%3Ealert(1)%3C%2Fscript%3E", encoded=True))
    text = await reply.text()
    assert "<script>alert" not in text
    assert '"><script>alert(1)</script>' in unescape(text)


@pytest.mark.parametrize(
    ("address", "origin"),
    [("https://cdn.example.org/osd/6/osd.min.js", "https://cdn.example.org"), ("/shared/osd.js", None)],
)
async def test_the_library_may_lie_where_the_operator_says(address: str, origin: str | None) -> None:
    async with serve(openseadragon=address) as client:
        reply = await client.get("/view/test")
        assert f'data-library="{address}"' in await reply.text()
        sources = reply.headers["Content-Security-Policy"].split("script-src ")[1].split(";")[0].split()
        assert sources == ["'self'", *([origin] if origin else [])]


async def test_the_page_knows_whether_the_library_is_there(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(assets, "LIBRARY", "absent.js")
    assert 'data-library=""' in await (await client.get("/view/test")).text()
    monkeypatch.setattr(assets, "LIBRARY", "view.js")
    assert 'data-library="viewer/view.js"' in await (await client.get("/view/test")).text()


@pytest.mark.parametrize(
    "address", ["osd.js", "javascript:alert(1)", "https://x/a b.js", "https://x/;a", "ftp://x/a.js"]
)
def test_an_address_that_no_page_can_load_is_refused(address: str, tmp_path: Path) -> None:
    result = CliRunner().invoke(cli, ["serve", str(tmp_path), "--openseadragon", address])
    assert result.exit_code == 2
    assert "expected an address such as https://host/openseadragon.min.js" in result.output


async def test_items_are_found_by_a_part_of_their_name(tmp_path: Path) -> None:
    for name in ("Alpha.tif", "beta ÄÖ.tif", "alphabet.tif"):
        tifffile.imwrite(tmp_path / name, zeros((16, 16), "uint8"))
    found = {
        "ALPHA": ["Alpha.tif", "alphabet.tif"],
        "äö": ["beta ÄÖ.tif"],
        "": ["Alpha.tif", "alphabet.tif", "beta ÄÖ.tif"],
        "nothing": [],
    }
    async with serve(roots=(tmp_path,)) as client:
        for text, wanted in found.items():
            reply = await client.get("/item", params={"text": text})
            assert sorted(item["name"] for item in await reply.json()) == wanted
            assert reply.headers["X-Total-Count"] == str(len(wanted))
        page = await client.get("/item", params={"text": "alpha", "limit": "1", "offset": "1"})
        assert (len(await page.json()), page.headers["X-Total-Count"]) == (1, "2")


# -- numbers


async def samples(client: Client) -> dict[tuple[str, str], float]:
    """Return what /metrics says, as Prometheus reads it: {(name, its labels): value}."""
    reply = await client.get("/metrics")
    assert reply.headers["Content-Type"].startswith("text/plain; version=")
    families = text_string_to_metric_families(await reply.text())
    return {
        (sample.name, " ".join(sample.labels.values())): sample.value
        for family in families
        for sample in family.samples
    }


async def test_prometheus_reads_the_numbers_of_the_caches_report(client: Client) -> None:
    for _ in range(3):
        assert (await client.get("/item/test/tiles/zxy/0/0/0")).status == 200
    found = await samples(client)
    report = await (await client.get("/large_image/cache")).json()
    for shelf, numbers in report["shelves"].items():
        for key, name, _ in SHELF_GAUGES:
            assert found[f"gputiles_{name}", shelf] == numbers[key], (shelf, key)
        for key, name, _ in SHELF_COUNTERS:
            assert found[f"gputiles_{name}_total", shelf] == numbers[key], (shelf, key)
    for kind, number in {**report["counts"], **report["queue"]["jobs"]}.items():
        assert found["gputiles_work_total", kind] == number
    assert found["gputiles_shelf_hits_total", "tiles"] == 2
    assert found["gputiles_queue_batches_total", ""] == report["queue"]["batches"] > 0
    assert found["gputiles_device_info", report["device"]["name"]] == 1
    assert found["gputiles_workers", ""] == 1


async def test_the_numbers_are_those_of_the_moment(client: Client) -> None:
    assert (await samples(client))["gputiles_shelf_items", "tiles"] == 0
    await client.get("/item/test/tiles/zxy/0/0/0")
    assert (await samples(client))["gputiles_shelf_items", "tiles"] == 1
    await client.put("/large_image/cache/clear")
    assert (await samples(client))["gputiles_shelf_items", "tiles"] == 0


async def test_the_report_tells_bytes_by_image_seconds_by_stage_and_refusals(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "grey.tif", zeros((300, 200), "uint8"), tile=(64, 64))
    async with TestClient(TestServer(create_app(Config(roots=(tmp_path,), workers=1)))) as client:
        (item,) = await (await client.get("/item")).json()
        path = f"/item/{item['id']}/tiles"
        assert (await client.get(f"{path}/zxy/0/0/0?style={{}}&encoding=PNG")).status == 200
        assert (await client.get("/item/test/tiles/zxy/0/0/0?encoding=PNG")).status == 200
        assert (await client.get(f"{path}/zxy/99/0/0")).status == 404
        assert (await client.get(f"{path}/zxy/a/0/0")).status == 400
        report = await (await client.get("/large_image/cache")).json()
        found = await samples(client)
    (image,) = report["images"]
    assert (image["id"], image["name"]) == (item["id"], "grey.tif")
    assert image["bytes"]["tiles"] > 0
    assert image["bytes"]["rasters"] > 300 * 200
    both = sum(report["shelves"][shelf]["stored"] for shelf in ("tiles", "rasters"))
    assert sum(image["bytes"].values()) < both, "the synthetic image is no item"
    assert report["refusals"] == {"400": 1, "404": 1}
    assert report["queue"]["seconds"].keys() >= {"decode", "render"}
    assert all(seconds > 0 for seconds in report["queue"]["seconds"].values())
    assert found["gputiles_refusals_total", "404"] == 1
    rendered = report["queue"]["seconds"]["render"]
    assert found["gputiles_stage_seconds_total", "render"] == pytest.approx(rendered)
    assert report["queue"]["waited"].keys() == report["queue"]["seconds"].keys()
    waited = report["queue"]["waited"]["decode"]
    assert found["gputiles_stage_wait_seconds_total", "decode"] == pytest.approx(waited)
    assert found["gputiles_read_seconds_total", ""] == pytest.approx(report["readSeconds"])
    assert min(waited, report["readSeconds"]) > 0
    assert found["gputiles_image_bytes", f"{item['id']} grey.tif rasters"] == image["bytes"]["rasters"]
    assert found["gputiles_image_bytes", f"{item['id']} grey.tif tiles"] == image["bytes"]["tiles"]
    assert found["gputiles_remote_capacity_bytes", ""] == report["remote"]["capacity"] > 0


async def test_prometheus_reads_how_large_batches_were_and_how_long_the_queue(client: Client) -> None:
    for seen in range(3):
        assert (await client.get(f"/item/test/tiles/zxy/2/{seen}/0")).status == 200
    queue = (await (await client.get("/large_image/cache")).json())["queue"]
    found = await samples(client)
    assert queue["batchSizes"].keys() == queue["jobs"].keys()
    for stage, jobs in queue["jobs"].items():
        sizes = queue["batchSizes"][stage]
        assert found["gputiles_batch_jobs_sum", stage] == sizes["sum"] == jobs
        assert found["gputiles_batch_jobs_count", stage] == sum(sizes["counts"])
        bounds = [f"{bound:.1f}" for bound in (1, 2, 4, 8, 16, 32, 64)]
        cumulative = [found["gputiles_batch_jobs_bucket", f"{bound} {stage}"] for bound in [*bounds, "+Inf"]]
        assert cumulative == [sum(sizes["counts"][: at + 1]) for at in range(8)]
    batches = sum(sum(sizes["counts"]) for sizes in queue["batchSizes"].values())
    assert batches == queue["batches"] == sum(queue["depths"]["counts"])
    assert found["gputiles_queue_depth_count", ""] == found["gputiles_queue_depth_bucket", "+Inf"] == batches
    assert found["gputiles_queue_depth_bucket", "4096.0"] == batches
    assert found["gputiles_queue_depth_sum", ""] == queue["depths"]["sum"] >= batches


async def test_refused_tiles_of_batches_are_counted_too(client: Client) -> None:
    asked = {"tiles": [[0, 0, 0], [0, 7, 0], [99, 0, 0]]}
    assert (await client.post("/item/test/tiles:batch", json=asked)).status == 200
    async with client.ws_connect("/item/test/live") as socket:
        await socket.send_json({"tiles": []})
        assert (await socket.receive_json())["status"] == 400
    report = await (await client.get("/large_image/cache")).json()
    assert report["refusals"] == {"400": 1, "404": 2}
    assert (await samples(client))["gputiles_refusals_total", "404"] == 2
