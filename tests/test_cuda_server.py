"""A server on a card (the stand-in): the same bytes as on the host, and what it does when the card fails."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import numpy as np
import pytest
import tifffile
from aiohttp.test_utils import TestClient, TestServer
from click.testing import CliRunner

from gputiles import app as app_module
from gputiles.app import create_app
from gputiles.backends import load, modules, nvimage, proving
from gputiles.backends.card import ORDER
from gputiles.backends.cuda import CudaBackend
from gputiles.cardtest import CARD_TESTS, shown
from gputiles.commands import cli
from gputiles.config import Config
from gputiles.encoded import Format
from gputiles.errors import BadRequest, DeviceLost, Unsupported
from gputiles.selftest import TESTS, WrongAnswer
from gputiles.state import STATE
from tests.gpu.test_card import compared
from tests.standin import CUDARuntimeError, StandIn, codecs, plugged_in

STYLE = (
    '{"bands":[{"framedelta":0,"palette":"%23f00","min":100,"max":3000,"composite":"additive"},'
    '{"palette":"viridis","min":"auto","max":"max:0.01"}]}'
)
ASKED = (
    "tiles/zxy/0/0/0",
    "tiles/zxy/2/1/1?encoding=PNG",
    f"tiles/zxy/2/0/1?style={STYLE}",
    f"tiles/zxy/1/0/0?style={STYLE}&encoding=PNG&edge=%2300ff00",
    "tiles/zxy/2/3/2?jpegQuality=40&jpegSubsampling=2&edge=crop",
    "tiles/zxy/2/3/2?encoding=TIFF",
    "tiles/zxy/2/1/0?encoding=WEBP&jpegQuality=70",
    f"tiles/zxy/2/1/0?encoding=WEBP&style={STYLE}",
    "tiles/zxy/2/1/0?encoding=PNG16",
    f"tiles/thumbnail?width=100&height=90&style={STYLE}",
    "tiles/region?left=13&top=9&right=400&bottom=300&width=200&encoding=PNG",
    "tiles/histogram?bins=20",
    "tiles/pixel?left=20&top=30",
)


@pytest.fixture
def card(monkeypatch: pytest.MonkeyPatch) -> StandIn:
    return plugged_in(monkeypatch, StandIn(1 << 27))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    rng = np.random.default_rng(3)
    data = rng.integers(0, 4096, (3, 300, 500)).astype(np.uint16)
    options: dict[str, Any] = {"tile": (128, 128), "compression": "zlib"}
    tifffile.imwrite(tmp_path / "multi.ome.tif", data, metadata={"axes": "CYX"}, **options)
    picture = rng.integers(0, 256, (300, 500, 3)).astype(np.uint8)
    tifffile.imwrite(tmp_path / "colour.tif", picture, photometric="rgb", **options)
    return tmp_path


@asynccontextmanager
async def serving(root: Path, device: str) -> AsyncIterator[TestClient[Any, Any]]:
    config = Config(roots=(root,), device=device, tile_cache=1 << 22, raw_cache=1 << 24, workers=2)
    async with TestClient(TestServer(create_app(config))) as client:
        yield client


async def answers(client: TestClient[Any, Any]) -> list[tuple[str, int, Any]]:
    found: list[tuple[str, int, Any]] = []
    for item in await (await client.get("/item")).json():
        for path in ASKED:
            response = await client.get(f"/item/{item['id']}/{path}")
            found.append((f"{item['name']} {path}", response.status, shown(await response.read())))
    return found


async def test_a_server_on_a_card_sends_the_hosts_bytes_or_pixels_of_a_png(card: StandIn, root: Path) -> None:
    async with serving(root, "cuda") as client:
        assert (await (await client.get("/healthz")).json()) == {"status": "ok", "device": "cuda"}
        ours = await answers(client)
    async with serving(root, "cpu") as client:
        theirs = await answers(client)
    assert [path for path, status, _ in theirs if status != 200] == []
    assert ours == theirs
    assert card.used == 0


async def test_entity_tags_tell_a_cards_files_where_they_are_not_the_hosts(card: StandIn, root: Path) -> None:
    tags: dict[str, list[str]] = {"PNG": [], "JPEG": [], "TIFF": []}
    for device in ("cuda", "cpu"):
        async with serving(root, device) as client:
            (item, *_) = await (await client.get("/item")).json()
            for encoding, found in tags.items():
                response = await client.get(f"/item/{item['id']}/tiles/zxy/2/1/1?encoding={encoding}")
                found.append(response.headers["ETag"])
    assert {encoding: len({*found}) for encoding, found in tags.items()} == {"PNG": 2, "JPEG": 1, "TIFF": 1}


async def test_tiles_that_are_asked_for_together_are_few_launches(card: StandIn, root: Path) -> None:
    async with serving(root, "cuda") as client:
        (item,) = [each for each in await (await client.get("/item")).json() if "multi" in each["name"]]
        paths = [f"/item/{item['id']}/tiles/zxy/2/{x}/{y}" for x in range(4) for y in range(3)]

        async def ask(path: str, quality: int) -> bytes:
            return await (await client.get(f"{path}?jpegQuality={quality}")).read()

        await asyncio.gather(*(ask(path, 90) for path in paths))
        engine = client.server.app[STATE].engine  # type: ignore[union-attr]
        counts = engine.backend.card.device.counts
        before = counts["composite"]
        await asyncio.gather(*(ask(path, quality) for path in paths for quality in (70, 50)))
        assert 1 <= counts["composite"] - before <= 12
        assert counts["composite"] == counts["jpeg"]


@pytest.mark.parametrize("frame", [0, 2])
async def test_levels_that_the_file_lacks_are_made_without_a_copy_home(
    card: StandIn, root: Path, frame: int
) -> None:
    """Of twelve tiles four are made, of these one: what comes home is the file that was asked for."""
    async with serving(root, "cuda") as client:
        (item,) = [each for each in await (await client.get("/item")).json() if "multi" in each["name"]]
        engine = client.server.app[STATE].engine  # type: ignore[union-attr]
        counts = engine.backend.card.device.counts
        counts.clear()
        style = f'{{"bands":[{{"frame":{frame},"min":0,"max":4000}}]}}'  # nothing to measure
        response = await client.get(f"/item/{item['id']}/tiles/zxy/0/0/0?style={style}")
        assert response.status == 200
        assert engine.batcher.jobs["downsample"] == 5
        assert counts["downsample"] >= 2
        assert counts["downloads"] == 1


async def test_a_server_that_lost_its_card_says_so_and_computes_no_more(card: StandIn, root: Path) -> None:
    async with serving(root, "cuda") as client:
        (item, *_) = await (await client.get("/item")).json()
        path = f"/item/{item['id']}/tiles/zxy/2/0/0?encoding=PNG"
        assert (await client.get(path)).status == 200
        card.fail = CUDARuntimeError(700, "cudaErrorIllegalAddress")
        for quality in (50, 60):
            response = await client.get(f"{path}&edge=crop&frame=0&jpegQuality={quality}&style={{}}")
            assert response.status == 503
            assert "device 0" in (await response.json())["message"]
        health = await client.get("/healthz")
        told = await health.json()
        assert (health.status, told["status"]) == (503, "lost")
        assert "IllegalAddress" in told["message"]
        assert (await client.get(path)).status == 200  # it is on the shelf of encoded tiles
        card.fail = None


async def test_a_full_card_refuses_what_it_cannot_hold_and_goes_on(card: StandIn, root: Path) -> None:
    async with serving(root, "cuda") as client:
        (item, *_) = await (await client.get("/item")).json()
        path = f"/item/{item['id']}/tiles/zxy/2/0/0?encoding=PNG"
        total, card.total = card.total, card.used  # somebody else has taken the rest
        response = await client.get(path)
        assert (response.status, response.headers["Retry-After"]) == (503, "1")
        assert "cudaErrorMemoryAllocation" in (await response.json())["message"]
        assert (await (await client.get("/healthz")).json())["status"] == "ok"
        card.total = total
        assert (await client.get(path)).status == 200


async def test_a_process_that_lost_its_card_ends(
    card: StandIn, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(app_module, "LAST_WORDS", 0.0)
    address: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    config = Config(roots=(root,), port=0, device="cuda", raw_cache=1 << 24, workers=1)
    server = asyncio.create_task(app_module._run(config, address.set_result))
    async with aiohttp.ClientSession(await address) as session:
        items = await (await session.get("/item")).json()
        card.fail = CUDARuntimeError(719, "cudaErrorLaunchFailure")
        response = await session.get(f"/item/{items[0]['id']}/tiles/zxy/2/0/0?encoding=PNG")
        assert response.status == 503
        with pytest.raises(DeviceLost, match="LaunchFailure"):
            await server


def test_the_exit_code_asks_for_a_new_process(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def lose(config: Config, on_ready: Callable[[str], None]) -> None:
        raise DeviceLost("device 0: it fell off the bus")

    monkeypatch.setattr("gputiles.commands.serve.serve", lose)
    result = CliRunner().invoke(cli, ["serve", str(root)])
    assert (result.exit_code, result.output) == (75, "Error: device 0: it fell off the bus\n")


# -- which device it is


def test_a_card_that_is_not_there_is_a_clear_error(card: StandIn, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(Unsupported, match="cuda:3 cannot be used: there is no such card"):
        load.load_backend("cuda:3", 1)
    with pytest.raises(BadRequest, match="expected 'auto'"):
        load.load_backend("cuda:x", 1)


async def test_of_several_cards_a_process_uses_the_one_that_it_is_told(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On whatever thread, for decoders and encoders, and in what it lends."""
    card, library = plugged_in(monkeypatch, StandIn(cards=2)), codecs()
    numbers: list[int] = []
    for name in ("Decoder", "Encoder"):
        made = getattr(library, name)
        monkeypatch.setattr(
            library, name, lambda made=made, **given: numbers.append(given["device_id"]) or made(**given)
        )
    monkeypatch.setattr(load, "find_codecs", lambda: library)
    monkeypatch.setattr(proving, "right_formats", lambda *_: frozenset({Format.PNG}))
    async with serving(root, "cuda:1") as client:
        assert [path for path, status, _ in await answers(client) if status != 200] == []
        assert client.server.app[STATE].engine.backend.dlpack == (2, 1)  # type: ignore[union-attr]
    assert card.chosen == {1}
    assert set(numbers) == {1}
    assert len(numbers) >= 2


def test_kernels_that_do_not_compile_are_a_clear_error(card: StandIn) -> None:
    card.broken = True
    with pytest.raises(Unsupported, match=r"cuda:0 cannot be used: a.cu.1.: error"):
        load.load_backend("cuda", 1)


def test_auto_is_the_card_where_there_is_one(card: StandIn, monkeypatch: pytest.MonkeyPatch) -> None:
    for driver, name in ((True, "cuda"), (False, "cpu")):
        monkeypatch.setattr(load, "has_driver", lambda driver=driver: driver)
        backend = load.load_backend("auto", 1, 1 << 24)
        assert (backend.name, backend.capacity) == (name, 1 << 24)
        backend.close()


def test_auto_is_the_host_where_the_card_cannot_be_used(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(load, "has_driver", lambda: True)
    monkeypatch.setattr(load, "find_cupy", lambda: StandIn(cards=0))
    backend = load.load_backend("auto", 1)
    assert backend.name == "cpu"
    assert "there is no such card" in caplog.text
    backend.close()


@pytest.mark.parametrize(
    ("library", "decoders", "encoders"),
    [
        (lambda: None, "the host decodes all", "nvImageCodec is not there"),
        (codecs, "nvImageCodec decodes JPEG 2000 uint16 1, ", "JPEG: 4:2:0, 4:2:2, 4:4:4, grey"),
    ],
    ids=["without", "with"],
)
def test_the_doctor_puts_a_card_to_the_test(
    card: StandIn, monkeypatch: pytest.MonkeyPatch, library: Callable[[], Any], decoders: str, encoders: str
) -> None:
    found = library()
    monkeypatch.setattr(load, "find_codecs", lambda: found)
    result = CliRunner().invoke(cli, ["doctor", "--device", "cuda"])
    assert result.exit_code == 0, result.output
    for told in (
        "card stand-in", "MiB free", "files, the host's bytes", "types, the host's bits",
        "chunks, the host's bits", "GB/s to the card", decoders, encoders,
    ):  # fmt: skip
        assert told in result.output


def test_the_doctor_launches_every_kernel_of_a_card(card: StandIn) -> None:
    backend = load.load_backend("cuda", 1)
    assert isinstance(backend, CudaBackend)
    backend.card.device.counts.clear()
    for test in (*TESTS.values(), *CARD_TESTS.values()):
        test(backend)  # type: ignore[operator]
    assert set(ORDER) == modules.kernels().keys() - {"png_dense"}  # which only the host uses
    assert backend.card.device.counts.keys() >= set(ORDER)
    backend.close()


@pytest.mark.parametrize("wrong", [Format.JPEG, Format.PNG])
def test_the_doctor_tells_of_a_format_that_the_card_makes_wrong(
    card: StandIn, monkeypatch: pytest.MonkeyPatch, wrong: Format
) -> None:
    """The host makes its files: they are right, and the card is not."""
    monkeypatch.setattr(proving, "right_formats", lambda *_: frozenset((Format.JPEG, Format.PNG)) - {wrong})
    result = CliRunner().invoke(cli, ["doctor", "--device", "cuda"])
    assert result.exit_code == 1
    assert f"the card's {wrong.name} files were not right" in result.output


def test_the_doctor_tells_of_an_encoder_that_does_not_work(
    card: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(**_: object) -> None:
        raise RuntimeError("no nvJPEG")

    library = codecs()
    library.Encoder = broken
    monkeypatch.setattr(load, "find_codecs", lambda: library)
    result = CliRunner().invoke(cli, ["doctor", "--device", "cuda"])
    assert result.exit_code == 0, result.output
    assert "nvImageCodec's encoder does not work: no nvJPEG" in result.output


def test_the_doctor_tells_of_a_codec_that_is_no_longer_right(
    card: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    library = codecs()
    monkeypatch.setattr(load, "find_codecs", lambda: library)
    backend = load.load_backend("cuda", 1)
    assert isinstance(backend, CudaBackend)
    pictures = backend.lanes[0].decoder.pictures
    assert pictures is not None
    monkeypatch.setattr(nvimage, "TOLERANCE", -1)
    with pytest.raises(WrongAnswer, match="no longer right: JPEG 2000 uint16 1, "):
        CARD_TESTS["card's codecs"](backend)
    backend.close()


def test_the_doctor_says_that_there_is_no_card(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(load, "has_driver", lambda: False)
    monkeypatch.setattr(load, "find_cupy", lambda: StandIn(cards=0))
    result = CliRunner().invoke(cli, ["doctor"])
    assert result.exit_code == 0, result.output
    assert "there is no such card" in result.output


async def test_what_a_real_card_is_put_to_runs_on_the_stand_in(card: StandIn, root: Path) -> None:
    await compared(root / "multi.ome.tif", 1 << 24, seconds=60, most=200, frames=3)
