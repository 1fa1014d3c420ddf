"""The server under load: real processes, real sockets, real limits; every test ends by itself."""

from __future__ import annotations

import asyncio
import json
import os
import re
import resource
import socket
import struct
import subprocess
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from io import BytesIO
from itertools import count
from pathlib import Path
from typing import Any

import aiohttp
import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray
from PIL import Image as Pillow

from gputiles import folderconfig, style
from gputiles.config import Config
from gputiles.encoded import Encoding, Format
from gputiles.engine import Engine
from gputiles.errors import OutOfDescriptors
from gputiles.folderviews import FolderViews
from gputiles.images import Image
from gputiles.request import TileRequest, View
from gputiles.sources.open import open_source
from gputiles.trace import Trace
from gputiles.walk import FileRef, walk
from tests.conftest import shared

MIB = 1024**2
PATIENCE = 15.0  # seconds after which a server that has not come to rest never will

# -- a server of its own process


@dataclass(frozen=True)
class Server:
    """A running ``gputiles serve``: its process, and where it answers."""

    process: subprocess.Popen[str]
    base: str

    @property
    def address(self) -> tuple[str, int]:
        host, port = self.base.removeprefix("http://").split(":")
        return host, int(port)

    def descriptors(self) -> int:
        return len(os.listdir(f"/proc/{self.process.pid}/fd"))

    def memory(self, name: str) -> int:
        """Return ``VmRSS`` or ``VmHWM`` of the process, in bytes."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(re.search(rf"{name}:\s*(\d+) kB", status)[1]) * 1024  # type: ignore[index]

    def forget_peak(self) -> None:
        """Let ``VmHWM`` begin anew at ``VmRSS``."""
        Path(f"/proc/{self.process.pid}/clear_refs").write_text("5")


@contextmanager
def serving(
    root: Path, *options: str | float, files: int | None = None, may_log: str | None = None
) -> Iterator[Server]:
    """Serve ``root`` from a process that may open ``files`` files.

    What it logs fails the test, unless it is about ``may_log``.
    """
    limit = [] if files is None else ["sh", "-c", f'ulimit -n {files}; exec "$@"', "sh"]
    command = [sys.executable, "-m", "gputiles", "serve", str(root), "--port", "0", *map(str, options)]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GPUTILES_")}
    with subprocess.Popen(
        [*limit, *command], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    ) as process:
        try:
            line = process.stdout.readline() if process.stdout else ""
            match = re.search(r"http://\S+", line)
            assert match is not None, process.communicate(timeout=5)
            yield Server(process, match[0])
        finally:
            process.terminate()
            try:
                errors = process.communicate(timeout=10)[1]
            except subprocess.TimeoutExpired:
                process.kill()
                raise
    assert errors == "" or (may_log and may_log in errors and "internal error" not in errors), errors
    assert process.returncode == 0


@asynccontextmanager
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(20)) as client:
        yield client


async def fetch(client: aiohttp.ClientSession, url: str) -> tuple[int, bytes]:
    async with client.get(url) as reply:
        return reply.status, await reply.read()


async def report(client: aiohttp.ClientSession, server: Server) -> dict[str, Any]:
    async with client.get(f"{server.base}/large_image/cache") as reply:
        answer: dict[str, Any] = await reply.json()
        return answer


async def until(
    client: aiohttp.ClientSession, server: Server, reached: Callable[[dict[str, Any]], bool]
) -> dict[str, Any]:
    """Return the first report of the caches in which ``reached`` holds."""
    ends = time.monotonic() + PATIENCE
    while time.monotonic() < ends:
        state = await report(client, server)
        if reached(state):
            return state
        await asyncio.sleep(0.02)
    raise AssertionError(f"not within {PATIENCE} s: {json.dumps(state)}")


def at_rest(state: dict[str, Any]) -> bool:
    """Say whether nothing waits, runs or is reserved."""
    queue, shelves = state["queue"], state["shelves"].values()
    busy = [queue["waiting"], queue["waitingBytes"], queue["running"], state["reading"]]
    return not any(busy) and not any(shelf["reserved"] or shelf["inFlight"] for shelf in shelves)


async def assert_nothing_is_left_behind(client: aiohttp.ClientSession, server: Server) -> dict[str, Any]:
    """Wait for rest; then nothing is pinned: what is pinned would outlast the clearing of its shelf."""
    state = await until(client, server, at_rest)
    async with client.put(f"{server.base}/large_image/cache/clear") as reply:
        cleared = (await reply.json())["after"]
    assert {name: shelf["used"] for name, shelf in cleared["shelves"].items()} == dict.fromkeys(
        cleared["shelves"], 0
    )
    assert cleared["descriptors"] == 0
    return state


async def items(client: aiohttp.ClientSession, server: Server) -> list[dict[str, Any]]:
    async with client.get(f"{server.base}/item?limit=0") as reply:
        found: list[dict[str, Any]] = await reply.json()
        return found


def noise(*shape: int, top: int = 65_536) -> NDArray[np.uint16]:
    return np.random.default_rng(1).integers(0, top, shape).astype(np.uint16)


def pixels(data: bytes) -> NDArray[Any]:
    return np.asarray(Pillow.open(BytesIO(data)))


# -- clients that leave


@pytest.fixture
def picture(tmp_path: Path) -> NDArray[np.uint16]:
    """1024 × 1024 pixels of noise in 64 tiles, written into the test's folder."""
    data = noise(1024, 1024)
    tifffile.imwrite(
        tmp_path / "picture.tif", data, tile=(128, 128), compression="zlib", photometric="minisblack"
    )
    return data


Stream = tuple[asyncio.StreamReader, asyncio.StreamWriter]
Visit = Callable[[Server, str, int], Awaitable[Stream]]


async def connect(server: Server, receive: int | None = None) -> Stream:
    """Open a connection, with a receive buffer of ``receive`` bytes."""
    plug = socket.socket()
    plug.setblocking(False)
    if receive is not None:
        plug.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive)
    await asyncio.get_running_loop().sock_connect(plug, server.address)
    return await asyncio.open_connection(sock=plug, limit=1024)


async def send(stream: Stream, text: str) -> Stream:
    stream[1].write(text.replace("\n", "\r\n").encode())
    await stream[1].drain()
    return stream


def cold(item: str, number: int) -> str:
    """Return the URL of a picture that no other number asks for: slow thumbnails, tiles, made tiles."""
    slow = "thumbnail?width=1024&height=1024&"
    place = (slow, f"zxy/3/{number % 8}/{number // 8 % 8}?", slow, "zxy/0/0/0?")
    return f"/item/{item}/tiles/{place[number % 4]}encoding=PNG&style=%7B%22max%22:{60_000 + number}%7D"


async def leave_in_the_request(server: Server, item: str, number: int) -> Stream:
    return await send(await connect(server), f"GET {cold(item, number)} HTTP/1.1\nHost: a\nAccept:")


async def leave_after_the_request(server: Server, item: str, number: int) -> Stream:
    return await send(await connect(server), f"GET {cold(item, number)} HTTP/1.1\nHost: a\n\n")


async def leave_in_a_kept_connection(server: Server, item: str, number: int) -> Stream:
    stream = await send(await connect(server), "GET /healthz HTTP/1.1\nHost: a\n\n")
    head = await stream[0].readuntil(b"\r\n\r\n")
    await stream[0].readexactly(int(re.search(rb"Content-Length: (\d+)", head)[1]))  # type: ignore[index]
    return await send(stream, f"GET {cold(item, number)} HTTP/1.1\nHost: a\n\n")


async def leave_in_the_answer(server: Server, item: str, number: int) -> Stream:
    url = f"/item/{item}/tiles/thumbnail?width={1024 - number % 8}&height=1024&encoding=PNG&style=%7B%7D"
    stream = await send(await connect(server, receive=4096), f"GET {url} HTTP/1.1\nHost: a\n\n")
    assert b"200 OK" in await stream[0].readuntil(b"\r\n")
    return stream


async def leave_in_a_posted_style(server: Server, item: str, number: int) -> Stream:
    head = f"POST /styles HTTP/1.1\nHost: a\nContent-Length: {100_000 + number}\n\n"
    return await send(await connect(server), head + "[" * 50_000)


def leave(stream: Stream, *, politely: bool) -> None:
    """Close a connection, or reset it."""
    if not politely:
        plug = stream[1].get_extra_info("socket")
        plug.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    stream[1].close()


@pytest.mark.parametrize(
    ("visit", "clients", "works"),
    [
        (leave_in_the_request, 200, False),
        (leave_after_the_request, 200, True),
        (leave_in_a_kept_connection, 200, True),
        (leave_in_the_answer, 40, False),
        (leave_in_a_posted_style, 200, False),
    ],
)
async def test_clients_that_leave_leave_nothing_behind_and_the_next_is_answered(
    tmp_path: Path, picture: NDArray[np.uint16], visit: Visit, clients: int, works: bool
) -> None:
    with serving(tmp_path, "--workers", 1) as server:
        async with session() as client:
            (item,) = await items(client, server)
            streams: list[Stream] = []
            for first in range(0, clients, 40):  # fewer than the 128 that may wait to be accepted
                visits = (visit(server, item["id"], first + number) for number in range(40))
                streams += await asyncio.gather(*visits)
            if works:  # the server is in the midst of it
                await until(client, server, lambda state: state["shelves"]["tiles"]["inFlight"] >= 20)
            for number, stream in enumerate(streams):
                leave(stream, politely=number % 2 == 0)
            state = await assert_nothing_is_left_behind(client, server)
            if works:
                assert state["queue"]["jobs"].get("render", 0) < clients  # they took waiting work along
            url = f"{server.base}/item/{item['id']}/tiles/zxy/3/7/5?style=%7B%7D&encoding=PNG"
            status, data = await fetch(client, url)
            assert status == 200
            assert np.array_equal(pixels(data), picture[640:768, 896:1024] >> 8)


# -- descriptors


def write_copies(folder: Path, copies: int) -> None:
    """Write files of 20 × 30 pixels; all pixels of file ``n`` are ``n % 251 << 8``."""
    folder.mkdir()
    tifffile.imwrite(folder / "0.tif", np.zeros((20, 30), "<u2"), photometric="minisblack")
    content = bytearray((folder / "0.tif").read_bytes())
    with tifffile.TiffFile(folder / "0.tif") as tiff:
        (offset,) = tiff.pages.first.dataoffsets
    for number in range(copies):
        content[offset : offset + 1200] = bytes([0, number % 251]) * 600
        (folder / f"{number}.tif").write_bytes(content)


async def idle_connections(server: Server, number: int) -> list[Stream]:
    """Open connections that have asked once and stay open."""
    streams = [await connect(server) for _ in range(number)]
    for stream in streams:
        await send(stream, "GET /healthz HTTP/1.1\nHost: a\n\n")
        assert b"200 OK" in await asyncio.wait_for(stream[0].readuntil(b"\r\n\r\n"), 10)
    return streams


async def ask_each(server: Server, found: list[dict[str, Any]], clients: int) -> tuple[Counter[int], int]:
    """Ask for a tile of each item; return how often which status came, and the most descriptors.

    What is answered 200 has the pixels of its own file.
    """
    statuses: Counter[int] = Counter()
    most = 0
    left = iter(found)

    async def ask() -> None:
        nonlocal most
        for item in left:
            url = f"{server.base}/item/{item['id']}/tiles/zxy/0/0/0?style=%7B%7D&encoding=PNG&edge=crop"
            status, data = await fetch(client, url)
            statuses[status] += 1
            most = max(most, server.descriptors())
            if status == 200:
                assert (pixels(data) == int(Path(item["name"]).stem) % 251).all(), item["name"]
            else:
                assert json.loads(data)["message"]

    async with session() as client:
        await asyncio.gather(*(ask() for _ in range(clients)))
    return statuses, most


@pytest.mark.parametrize("idle", [0, 118])
async def test_2000_files_are_served_with_256_descriptors_beside_idle_connections(
    tmp_path: Path, idle: int
) -> None:
    write_copies(tmp_path / "files", 2000)
    with serving(tmp_path / "files", "--workers", 1, files=256) as server:
        kept = await idle_connections(server, idle)
        async with session() as client:
            found = await items(client, server)
        assert len(found) == 2000
        statuses, most = await ask_each(server, found, clients=16)
        assert statuses == {200: 2000}
        assert most <= 256
        for stream in kept:
            stream[1].close()


async def test_the_setting_bounds_the_open_files_though_more_are_asked_for_at_once(tmp_path: Path) -> None:
    write_copies(tmp_path / "files", 300)
    with serving(tmp_path / "files", "--workers", 1, "--sources", 8, "--readers", 4) as server:
        async with session() as client:
            found = await items(client, server)
            idle = server.descriptors() - (await report(client, server))["descriptors"]
        statuses, most = await ask_each(server, found, clients=64)
    assert statuses == {200: 300}
    # the handles, one that each reader opens, and those whose close waits behind what both have queued
    assert most <= idle + 64 + 2 * (8 + 4)


async def test_a_server_out_of_descriptors_asks_to_come_again_and_blames_no_file(tmp_path: Path) -> None:
    write_copies(tmp_path / "files", 100)
    with serving(
        tmp_path / "files", "--workers", 1, "--tile-cache", 0, files=64, may_log="Too many open files"
    ) as server:
        async with session() as client:
            found = await items(client, server)
            room = 64 - server.descriptors() - 4
            kept = await idle_connections(server, room)
            statuses, most = await ask_each(server, found, clients=3)
            assert statuses.keys() <= {200, 503}
            assert most <= 64
            for stream in kept:
                stream[1].close()
            await until(client, server, lambda _: server.descriptors() < 64 - room)
            statuses, _ = await ask_each(server, found, clients=3)
            assert statuses == {200: 100}
            again = await items(client, server)
            assert [item["name"] for item in again if "error" in item] == []
            assert len(again) == 100


@contextmanager
def descriptors_left(number: int) -> Iterator[None]:
    """Let this process open ``number`` files more, and no others."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    free = [os.open(os.devnull, os.O_RDONLY) for _ in range(number + 1)]
    for descriptor in free:
        os.close(descriptor)
    resource.setrlimit(resource.RLIMIT_NOFILE, (free[-1], hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_a_walk_without_descriptors_fails_instead_of_finding_nothing(tmp_path: Path) -> None:
    write_copies(tmp_path / "files", 3)
    with descriptors_left(0), pytest.raises(OutOfDescriptors):
        walk((tmp_path,))
    assert len(walk((tmp_path,))) == 3


def test_a_file_that_cannot_be_opened_for_want_of_descriptors_is_not_called_absent(tmp_path: Path) -> None:
    write_copies(tmp_path / "files", 1)
    with descriptors_left(0), pytest.raises(OutOfDescriptors, match="Too many open files"):
        open_source(tmp_path / "files" / "0.tif")


OPENERS: dict[str, Callable[[Engine, list[FileRef]], Awaitable[object]]] = {
    "a walk": lambda engine, refs: engine.images.run(walk, (refs[0].root,)),
    "a validation": lambda engine, refs: engine.validate(refs[-1]),
    "an opening": lambda engine, refs: engine.image(refs[-1]),
    "a folder's presets": lambda engine, refs: FolderViews(engine.reading_room, engine.images).of(refs[-1]),
}


@pytest.mark.parametrize("opener", OPENERS)
async def test_idle_handles_give_their_descriptors_back_to_whatever_opens_files(
    tmp_path: Path, opener: str
) -> None:
    write_copies(tmp_path / "files", 3)
    (tmp_path / "files" / folderconfig.NAME).write_text("imageFramePresets: [{name: a, mode: {id: 0}}]")
    refs = [FileRef(tmp_path / "files" / f"{number}.tif", tmp_path / "files") for number in range(3)]
    async with Engine(Config(device="cpu", workers=1)) as engine:
        for ref in refs[:2]:
            await engine.image(ref)
        assert engine.images.handles.stored == 2
        with descriptors_left(0):
            await OPENERS[opener](engine, refs)
        assert engine.images.handles.stored <= 1


@pytest.mark.parametrize("folder", ["viv__set_companion", "exampletiffs__set_master"])
def test_a_set_whose_companions_cannot_be_opened_now_is_not_served_without_them(folder: str) -> None:
    path = shared("data", folder, "multifile-Z1.ome.tiff")
    whole = open_source(path)
    assert whole.descriptors > 1
    whole.close()
    with descriptors_left(1), pytest.raises(OutOfDescriptors):
        open_source(path)


# -- the memory of an overview


WORKERS = 2
TALL, SQUARE, COLOUR = (16_384, 1024), (4096, 4096), (3, 2048, 2048)
ROW, TILE, ALL = (True, False), (False, False), (True, True)  # what shares chunks: all columns, all rows

LAYOUTS = [
    pytest.param(TALL, {"rowsperstrip": 1}, ROW, id="strips of 1 row"),
    pytest.param(TALL, {"rowsperstrip": 64}, ROW, id="strips of 64 rows"),
    pytest.param(TALL, {"rowsperstrip": 16_384}, ALL, id="one strip"),
    pytest.param(TALL, {"rowsperstrip": 16_384, "compression": None}, ROW, id="one plain strip"),
    pytest.param(SQUARE, {"tile": (256, 256)}, TILE, id="tiles of 256"),
    pytest.param(SQUARE, {"tile": (2048, 2048)}, TILE, id="tiles as large as the shelf"),
    pytest.param(SQUARE, {"tile": (4096, 4096)}, ALL, id="one tile larger than the shelf"),
    pytest.param(COLOUR, {"tile": (256, 256)}, TILE, id="planar tiles"),
    pytest.param(COLOUR, {"rowsperstrip": 64}, ROW, id="planar strips"),
    pytest.param(COLOUR, {"rowsperstrip": 2048}, ALL, id="one strip for each sample"),
]


def write_flat(folder: Path, shape: tuple[int, ...], layout: dict[str, Any]) -> Path:
    """Write noise of a few bits without a pyramid."""
    colour = {"photometric": "rgb", "planarconfig": "separate"} if len(shape) == 3 else {}
    options = {"compression": "zlib", "photometric": "minisblack"} | colour | layout
    if options["compression"]:
        options["compressionargs"] = {"level": 1}
    path = folder / "flat.tif"
    tifffile.imwrite(path, noise(*shape, top=16), **options)
    return path


def most_pinned(image: Image, spans: tuple[bool, bool]) -> int:
    """Return the bytes that synthesis may hold at once, in pins and reservations.

    At most 2 × workers subtrees are open beside the first. Each holds, at every level that it
    makes, the tiles that it makes there together (those side by side that share chunks below)
    and their children, four times as much. At levels with fewer units only those are open.
    """
    info, total = image.info, 0
    for z in range(info.levels - 1):
        columns, rows = info.grid.tiles(z)
        width, height = columns if spans[0] else 1, rows if spans[1] else 1
        units = (columns // width) * (rows // height)
        pixels = min(width * info.tile_width, info.width) * min(height * info.tile_height, info.height)
        total += min(units, 2 * WORKERS + 1) * 5 * pixels * info.samples * info.dtype.itemsize
    return total


@asynccontextmanager
async def opened(path: Path, raw_cache: int) -> AsyncIterator[tuple[Engine, Image]]:
    async with Engine(Config(raw_cache=raw_cache, tile_cache=MIB, workers=WORKERS)) as engine:
        yield engine, await engine.image(FileRef(path, path.parent))


async def overview(engine: Engine, image: Image) -> int:
    """Make the coarsest level; return how many chunks were decoded for it."""
    decoded = 0
    decode = engine.backend.decode

    def counting(jobs: Any) -> Any:
        nonlocal decoded
        decoded += sum(len(job.chunks) for job in jobs)
        return decode(jobs)

    engine.backend.decode = counting  # type: ignore[method-assign]
    view = View(style=style.parse({}), encoding=Encoding(Format.PNG))
    await engine.renderer.tile(image, TileRequest(0, 0, 0, view), Trace())
    return decoded


def chunks_of(path: Path) -> int:
    with tifffile.TiffFile(path) as tiff:
        return len(tiff.pages.first.dataoffsets)


@pytest.mark.parametrize(("shape", "layout", "spans"), LAYOUTS)
async def test_an_overview_holds_no_more_than_the_shelf_or_its_open_subtrees(
    tmp_path: Path, shape: tuple[int, ...], layout: dict[str, Any], spans: tuple[bool, bool]
) -> None:
    path = write_flat(tmp_path, shape, layout)
    quarter = int(np.prod(shape)) * 2 // 4
    async with opened(path, quarter) as (engine, image):
        decoded = await overview(engine, image)
        shelf = engine.renderer.rasters.shelf
        assert shelf.peak <= max(quarter, most_pinned(image, spans))
        assert shelf.reserved == shelf.loose == 0
        assert shelf.used <= quarter
        if layout.get("compression", "zlib"):
            assert decoded == chunks_of(path)


@pytest.mark.parametrize("layout", [{"rowsperstrip": 100}, {"tile": (48, 48)}], ids=str)
async def test_an_overview_of_odd_chunks_decodes_each_once(tmp_path: Path, layout: dict[str, Any]) -> None:
    path = write_flat(tmp_path, TALL, layout)
    async with opened(path, TALL[0] * TALL[1] * 2 // 4) as (engine, image):
        assert await overview(engine, image) == chunks_of(path)


SLACK = 24 * MIB  # of the process: the encoder, threads' arenas of the allocator, the answer


@pytest.mark.parametrize(("shape", "layout", "spans"), LAYOUTS)
async def test_the_process_grows_by_what_an_overview_holds_and_decodes(
    tmp_path: Path, shape: tuple[int, ...], layout: dict[str, Any], spans: tuple[bool, bool]
) -> None:
    """Beside the shelf, each worker holds the chunks of one unit: as stored bytes, and decoded whole."""
    path = write_flat(tmp_path, shape, layout)
    size = int(np.prod(shape)) * 2
    async with opened(path, size // 4) as (_, image):
        held = max(size // 4, most_pinned(image, spans))
        info = image.info
    width = info.width if spans[0] else info.tile_width
    height = info.height if spans[1] else info.tile_height
    unit = width * height * info.samples * info.dtype.itemsize
    decoding = 2 * min(size, WORKERS * unit)
    with serving(tmp_path, "--workers", WORKERS, "--raw-cache", size // 4, "--tile-cache", "1MiB") as server:
        async with session() as client:
            (item,) = await items(client, server)
            tiles = f"{server.base}/item/{item['id']}/tiles"
            assert (await fetch(client, f"{tiles}/pixel?left=0&top=0"))[0] == 200
            assert (await fetch(client, f"{server.base}/item/test/tiles/zxy/0/0/0"))[0] == 200
            await client.put(f"{server.base}/large_image/cache/clear")
            server.forget_peak()
            before = server.memory("VmRSS")
            assert (await fetch(client, f"{tiles}/zxy/0/0/0?style=%7B%7D&encoding=PNG"))[0] == 200
            await assert_nothing_is_left_behind(client, server)
        assert server.memory("VmHWM") - before <= held + decoding + SLACK


# -- health while the server works


async def test_healthz_answers_while_files_open_an_overview_is_made_and_styles_change(tmp_path: Path) -> None:
    tile: dict[str, Any] = {"tile": (256, 256), "compression": "zlib"}
    tifffile.imwrite(tmp_path / "many.ome.tif", noise(40, 512, 512, top=9), metadata={"axes": "CYX"}, **tile)
    tifffile.imwrite(tmp_path / "flat.tif", noise(2048, 2048, top=99), **tile)
    tifffile.imwrite(tmp_path / "viewed.tif", noise(1024, 1024), **tile)
    statuses: dict[str, Counter[int]] = {
        name: Counter() for name in ("healthz", "open", "overview", "restyle")
    }
    ends = time.monotonic() + 4

    async def again(name: str, url: str, touched: str | None = None) -> None:
        for number in count():
            if time.monotonic() > ends:
                return
            if touched is not None:  # a new version: opened, read and made anew
                os.utime(tmp_path / touched, ns=(number, number))
            async with client.get(url.replace("NUMBER", str(number))) as reply:
                await reply.read()
                statuses[name][reply.status] += 1
                assert reply.status != 503 or int(reply.headers["Retry-After"]) > 0

    with serving(tmp_path, "--workers", 1, "--revalidate", 0, "--tile-cache", "1MiB") as server:
        async with session() as client:
            url = {i["name"]: f"{server.base}/item/{i['id']}/tiles" for i in await items(client, server)}
            restyled = url["viewed.tif"] + "/zxy/2/{}/{}?style=%7B%22max%22:NUMBER%7D"
            await asyncio.gather(
                again("healthz", f"{server.base}/healthz"),
                again("open", url["many.ome.tif"], "many.ome.tif"),
                again("overview", url["flat.tif"] + "/zxy/0/0/0", "flat.tif"),
                *(again("restyle", restyled.format(x, y)) for x in range(4) for y in range(4)),
            )
            state = await assert_nothing_is_left_behind(client, server)
    assert statuses["healthz"].keys() == {200}
    assert all(counts.keys() <= {200, 503} for counts in statuses.values()), statuses
    assert all(counts[200] for counts in statuses.values()), statuses
    assert state["counts"]["opens"] > 3  # the three files, and one of them again


# -- overload


async def ask_all(server: Server, urls: list[str]) -> list[tuple[int, bytes, dict[str, str]]]:
    """Ask for all at once; return status, body and headers of each."""

    async def ask(url: str) -> tuple[int, bytes, dict[str, str]]:
        async with client.get(server.base + url) as reply:
            return reply.status, await reply.read(), dict(reply.headers)

    async with session() as client:
        return await asyncio.gather(*map(ask, urls))


@pytest.mark.parametrize("options", [("--queue-items", 3), ("--queue-bytes", 1)], ids=str)
async def test_beyond_the_bounds_of_the_queue_clients_are_asked_to_come_again(
    tmp_path: Path, picture: NDArray[np.uint16], options: tuple[str, int]
) -> None:
    for number in range(30):
        os.link(tmp_path / "picture.tif", tmp_path / f"picture-{number}.tif")
    with serving(tmp_path, "--workers", 1, "--readers", 1, *options) as server:
        async with session() as client:
            item = next(i for i in await items(client, server) if i["name"] == "picture.tif")
            cells = [(x, y) for y in range(8) for x in range(8)]
            base = f"/item/{item['id']}/tiles/zxy/3"
            urls = [f"{base}/{x}/{y}?style=%7B%7D&encoding=PNG" for x, y in cells]
            seen: set[int] = set()
            for _ in range(2):
                answers = await ask_all(server, urls)
                for (x, y), (status, body, headers) in zip(cells, answers, strict=True):
                    seen.add(status)
                    if status == 200:
                        expected = picture[y * 128 : y * 128 + 128, x * 128 : x * 128 + 128] >> 8
                        assert np.array_equal(pixels(body), expected)
                    else:
                        assert (status, int(headers["Retry-After"]) > 0) == (503, True)
                        assert json.loads(body)["type"] == "rest"
                        assert "at most" in json.loads(body)["message"]
            assert seen == {200, 503}
            await assert_nothing_is_left_behind(client, server)
            for url in urls:  # one after the other there is room for all
                assert (await fetch(client, server.base + url))[0] == 200
            assert [i for i in await items(client, server) if "error" in i] == []


async def test_what_takes_longer_than_the_deadline_is_given_up(tmp_path: Path) -> None:
    write_flat(tmp_path, SQUARE, {"tile": (128, 128)})
    with serving(tmp_path, "--workers", 1, "--deadline", 0.05) as server:
        async with session() as client:
            (item,) = await items(client, server)
            tiles = f"/item/{item['id']}/tiles/zxy"
            answers = await ask_all(server, [f"{tiles}/0/0/0?jpegQuality={q}" for q in range(10, 50)])
            for status, body, headers in answers:
                assert (status, headers["Retry-After"]) == (503, "1")
                assert json.loads(body)["message"].startswith("no answer within the deadline")
            state = await assert_nothing_is_left_behind(client, server)
            assert state["counts"]["decode"] < chunks_of(tmp_path / "flat.tif")
            assert (await fetch(client, f"{server.base}{tiles}/5/0/0?style=%7B%7D"))[0] == 200


COLLECTIONS = """
import gc, os
from gputiles.app import run
from gputiles.config import Config

def ready(url):
    before = gc.get_stats()[2]["collections"]
    kept = [[number] for number in range(500_000)]
    print(gc.get_freeze_count() > 10_000, len(kept), gc.get_stats()[2]["collections"] - before, flush=True)
    os._exit(0)

run(Config(port=0), ready)
"""


def test_a_server_is_not_stopped_by_walks_over_all_that_its_caches_hold() -> None:
    done = subprocess.run([sys.executable, "-c", COLLECTIONS], capture_output=True, text=True, timeout=60)
    assert done.stdout.split() == ["True", "500000", "0"], done.stderr
