"""A real Girder as the library: its items, its permissions, and how often it is asked."""

from __future__ import annotations

import asyncio
import io
import json
import os
import shutil
import subprocess
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import aiohttp
import girder_client
import numpy as np
import pytest
import tifffile
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

import gputiles.app
from gputiles.admission import Admission
from gputiles.app import create_app
from gputiles.config import Config
from gputiles.errors import Forbidden, NotFound, SignInRequired, Unavailable
from tests.conftest import ROOT
from tests.girder_peer.prepare import prepare

Client = TestClient[Any, Any]
PATIENCE = 120  # seconds for Girder to start


@dataclass(frozen=True)
class Peer:
    """A running Girder, and what is in it."""

    url: str
    admin: Any
    log: Path
    public: str
    private: str
    user: str
    stranger: str

    def questions(self, item: str) -> int:
        """Return how often Girder was asked for an item."""
        return self.log.read_text().count(f'"GET /api/v1/item/{item} ')

    def upload(self, folder: str, name: str, data: bytes) -> dict[str, Any]:
        """Return the file document of a new file in an item of its own."""
        file: dict[str, Any] = self.admin.uploadStreamToFolder(folder, io.BytesIO(data), name, len(data))
        return file


class Clock:
    """Time as the tests want it."""

    now = 1000.0

    def __call__(self) -> float:
        return self.now


def tiff(value: int) -> bytes:
    file = io.BytesIO()
    picture = np.full((3000, 3000), value, np.uint8)
    tifffile.imwrite(file, picture, photometric="minisblack", tile=(256, 256), compression="zlib")
    return file.getvalue()


@pytest.fixture(scope="module")
def peer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Peer]:
    folder = tmp_path_factory.mktemp("girder")
    try:
        python = prepare()
    except subprocess.CalledProcessError as error:
        if os.environ.get("CI"):
            pytest.fail(f"Girder cannot be installed: {error.stderr}")
        pytest.skip(f"needs Girder, which cannot be installed: {error.stderr[-300:]}")
    shutil.copy(ROOT / "tests" / "girder_peer" / "peer.py", folder / "test_peer.py")
    (folder / "pytest.ini").write_text("[pytest]\n")
    out = folder / "out.json"
    command = [python, "-m", "pytest", "-q", "-s", "-p", "no:cacheprovider", "-c", "pytest.ini", "--mock-db"]
    with (
        open(folder / "output.txt", "wb") as output,
        subprocess.Popen(
            [*command, "test_peer.py"],
            cwd=folder,
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=subprocess.STDOUT,
            env={**os.environ, "PEER_OUT": str(out), "PEER_FOLDER": str(folder)},
        ) as process,
    ):
        try:
            until = time.monotonic() + PATIENCE
            while not out.exists():
                if process.poll() is not None or time.monotonic() > until:
                    pytest.fail(f"Girder does not start: {(folder / 'output.txt').read_text()[-3000:]}")
                time.sleep(0.1)
            yield _fill(**json.loads(out.read_text()), log=folder / "access.log")
        finally:
            process.communicate()  # closes its input: it ends


def _fill(url: str, token: str, log: Path) -> Peer:
    admin = girder_client.GirderClient(apiUrl=f"{url}/api/v1")
    admin.setToken(token)
    home = admin.get("user/me")["_id"]
    public = admin.createFolder(home, "public", parentType="user", public=True)["_id"]
    private = admin.createFolder(home, "private", parentType="user", public=False)["_id"]
    user, stranger = (_user(admin, url, name) for name in ("reader", "stranger"))
    grant(admin, private, user[0])
    return Peer(url, admin, log, public, private, user[1], stranger[1])


def _user(admin: Any, url: str, name: str) -> tuple[str, str]:
    """Return the id and a token of a new user."""
    facts = {"login": name, "email": f"{name}@girder.test", "firstName": name, "lastName": name}
    user = admin.post("user", parameters={**facts, "password": "password"})
    client = girder_client.GirderClient(apiUrl=f"{url}/api/v1")
    client.authenticate(name, "password")
    return user["_id"], client.token


def grant(admin: Any, folder: str, user: str) -> None:
    """Let a user, and nobody else but the administrator, read a folder."""
    access = {"users": [{"id": user, "level": 0, "flags": []}], "groups": []}
    admin.put(f"folder/{folder}/access", parameters={"access": json.dumps(access)})


def revoke(admin: Any, folder: str) -> None:
    access: dict[str, Any] = {"users": [], "groups": []}
    admin.put(f"folder/{folder}/access", parameters={"access": json.dumps(access)})


@asynccontextmanager
async def serve(
    peer: Peer, monkeypatch: pytest.MonkeyPatch, clock: Clock, **settings: Any
) -> AsyncIterator[Client]:
    monkeypatch.setattr(gputiles.app, "Admission", partial(Admission, clock=clock))
    sizes = {"tile_cache": 1 << 24, "raw_cache": 1 << 26, "workers": 1}
    config = Config(**{"girder": peer.url, **sizes, **settings})
    async with TestClient(TestServer(create_app(config))) as client:
        yield client


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def client(peer: Peer, monkeypatch: pytest.MonkeyPatch, clock: Clock) -> AsyncIterator[Client]:
    async with serve(peer, monkeypatch, clock) as client:
        yield client


def tile(item: str, x: int = 0, encoding: str = "PNG") -> str:
    return f"/item/{item}/tiles/zxy/4/{x}/0?encoding={encoding}"


async def status(client: Client, path: str, token: str | None = None) -> int:
    answer = await client.get(path, headers={} if token is None else {"Girder-Token": token})
    await answer.read()
    return answer.status


async def values(client: Client, item: str, token: str | None = None) -> set[int]:
    headers = {} if token is None else {"Girder-Token": token}
    answer = await client.get(tile(item, encoding="NPY"), headers=headers)
    assert answer.status == 200, await answer.text()
    return set(np.unique(np.load(io.BytesIO(await answer.read()))).tolist())


def item_of(peer: Peer, folder: str, value: int) -> str:
    return str(peer.upload(folder, f"{value}.tif", tiff(value))["itemId"])


async def test_everybody_sees_a_public_item_by_girders_id(peer: Peer, client: Client) -> None:
    item = item_of(peer, peer.public, 11)
    assert await values(client, item) == {11}
    for path in (f"/api/v1/item/{item}/tiles", f"/item/{item}", f"/iiif/3/{item}/info.json", tile(item)):
        answer = await client.get(path)
        assert (answer.status, answer.headers["Cache-Control"]) == (200, "private, max-age=30")
        assert "Girder-Token" in answer.headers["Vary"]
    assert await (await client.get("/item")).json() == []


@pytest.mark.parametrize("way", ["header", "address", "cookie"])
async def test_a_private_item_is_for_those_whom_girder_lets_see_it(
    peer: Peer, client: Client, way: str
) -> None:
    item = item_of(peer, peer.private, 12)

    async def ask(token: str) -> int:
        path = f"{tile(item)}&token={token}" if way == "address" else tile(item)
        headers = {"header": {"Girder-Token": token}, "cookie": {"Cookie": f"girderToken={token}"}}
        return (await client.get(path, headers=headers.get(way))).status

    assert await status(client, tile(item)) == 401
    assert await ask(peer.user) == 200
    assert await ask(peer.stranger) == 403
    assert await ask("nonsense") == 401
    assert await status(client, tile(item)) == 401


async def test_no_cache_answers_before_girder_does(peer: Peer, client: Client) -> None:
    item = item_of(peer, peer.private, 13)
    answer = await client.get(tile(item), headers={"Girder-Token": peer.user})
    etag = answer.headers["ETag"]
    for token, expected in ((peer.user, 304), (peer.stranger, 403)):
        again = await client.get(tile(item), headers={"Girder-Token": token, "If-None-Match": etag})
        assert again.status == expected
    hot = await client.get(tile(item), headers={"Girder-Token": peer.user})
    assert (hot.status, hot.headers["X-Cache"]) == (200, "encoded-hit")
    assert await status(client, tile(item), peer.stranger) == 403
    assert await status(client, f"/iiif/3/{item}%3Bframe=0/full/max/0/default.png", peer.stranger) == 403


async def test_a_hundred_tiles_of_a_viewer_are_one_question_in_30_seconds(
    peer: Peer, client: Client, clock: Clock
) -> None:
    item = item_of(peer, peer.private, 14)
    paths = [f"/item/{item}/tiles/zxy/4/{x}/{y}" for x in range(10) for y in range(10)]
    assert await asyncio.gather(*(status(client, path, peer.user) for path in paths)) == [200] * 100
    assert peer.questions(item) == 1
    clock.now += 29.9
    assert await status(client, paths[0], peer.user) == 200
    assert peer.questions(item) == 1
    clock.now += 0.2
    assert await asyncio.gather(*(status(client, path, peer.user) for path in paths)) == [200] * 100
    assert peer.questions(item) == 2
    assert await asyncio.gather(*(status(client, path, peer.stranger) for path in paths)) == [403] * 100
    assert peer.questions(item) == 3


def granted(peer: Peer, name: str, value: int) -> tuple[str, str]:
    """Return a private folder that the reader may see for now, and an item in it."""
    folder = peer.admin.createFolder(peer.private, name, public=False)["_id"]
    reader = next(user["_id"] for user in peer.admin.get("user") if user["login"] == "reader")
    grant(peer.admin, folder, reader)
    return folder, item_of(peer, folder, value)


async def test_what_is_revoked_is_refused_after_at_most_30_seconds(
    peer: Peer, client: Client, clock: Clock
) -> None:
    folder, item = granted(peer, "revoked", 15)
    assert await status(client, tile(item), peer.user) == 200
    revoke(peer.admin, folder)
    clock.now += 30
    assert await status(client, tile(item), peer.user) == 403
    answer = await client.get(tile(item), headers={"Girder-Token": peer.user, "If-None-Match": "*"})
    assert answer.status == 403


async def test_a_socket_that_is_open_is_told_of_what_is_revoked(
    peer: Peer, client: Client, clock: Clock
) -> None:
    folder, item = granted(peer, "socket", 16)
    path = f"/item/{item}/live"
    asked = {"request": 7, "tiles": [[0, 0, 0]]}
    async with client.ws_connect(path, headers={"Girder-Token": peer.user}) as socket:
        await socket.send_json(asked)
        assert (await socket.receive(timeout=30)).type is aiohttp.WSMsgType.BINARY
        assert (await socket.receive_json(timeout=30))["status"] == 200
        revoke(peer.admin, folder)
        clock.now += 30
        await socket.send_json(asked)
        assert (await socket.receive_json(timeout=30))["status"] == 403
    with pytest.raises(aiohttp.WSServerHandshakeError, match="403"):
        await client.ws_connect(path, headers={"Girder-Token": peer.user})


async def test_a_deleted_item_is_not_found(peer: Peer, client: Client, clock: Clock) -> None:
    item = item_of(peer, peer.public, 16)
    assert await status(client, tile(item)) == 200
    peer.admin.delete(f"item/{item}")
    clock.now += 30
    assert await status(client, tile(item)) == 404
    assert await status(client, tile("0" * 24)) == 404


async def test_the_file_that_large_image_names_is_shown_and_another_callers_may_see(
    peer: Peer, client: Client, clock: Clock
) -> None:
    item = item_of(peer, peer.public, 17)
    file = peer.upload(peer.public, "18.tif", tiff(18))
    secret = peer.upload(peer.private, "19.tif", tiff(19))
    assert await values(client, item) == {17}
    for chosen, expected in ((file, 200), (secret, 401)):
        peer.admin.put(f"peer/{item}/{chosen['_id']}")  # as the large_image plugin does by itself
        clock.now += 30
        assert await status(client, tile(item)) == expected
        if expected == 200:
            assert await values(client, item) == {18}
    assert await values(client, item, peer.user) == {19}


async def test_an_item_without_a_file_is_not_found(peer: Peer, client: Client) -> None:
    item = peer.admin.createItem(peer.public, "empty")["_id"]
    answer = await client.get(tile(item))
    assert (answer.status, "has no file" in (await answer.json())["message"]) == (404, True)


async def test_a_replaced_file_is_a_new_version(
    peer: Peer, monkeypatch: pytest.MonkeyPatch, clock: Clock
) -> None:
    file, data = peer.upload(peer.public, "20.tif", tiff(20)), tiff(21)
    async with serve(peer, monkeypatch, clock, revalidate=0) as client:
        assert await values(client, file["itemId"]) == {20}
        peer.admin.uploadFileContents(file["_id"], io.BytesIO(data), len(data))
        assert await values(client, file["itemId"]) == {21}


async def test_the_servers_own_token_reads_files_and_stands_in_for_no_callers(
    peer: Peer, monkeypatch: pytest.MonkeyPatch, clock: Clock
) -> None:
    item = item_of(peer, peer.private, 22)
    async with serve(peer, monkeypatch, clock, girder_token=peer.admin.token) as client:
        assert await status(client, tile(item)) == 401
        assert await status(client, tile(item), peer.stranger) == 403
        assert await values(client, item, peer.user) == {22}


async def test_girder_away_is_503_and_what_it_said_counts_for_30_seconds(
    peer: Peer, monkeypatch: pytest.MonkeyPatch, clock: Clock
) -> None:
    """A proxy in front of Girder goes away: what was decided and is hot is still served."""
    item, other = item_of(peer, peer.public, 23), item_of(peer, peer.public, 24)
    gate = Gate(peer.url)
    async with TestServer(gate.app()) as server:
        at = str(server.make_url("/")).rstrip("/")
        async with serve(peer, monkeypatch, clock, girder=at, revalidate=0) as client:
            assert await status(client, tile(item)) == 200
            gate.open = False
            assert await status(client, tile(item)) == 200
            assert await status(client, tile(other)) == 503
            clock.now += 30
            assert await status(client, tile(item)) == 503
            gate.open = True
            assert await status(client, tile(other)) == 200


class Gate:
    """A proxy that may be shut: then it answers as one does whose server is away."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.open = True

    def app(self) -> web.Application:
        app = web.Application()
        app.router.add_get("/{path:.*}", self.pass_on)
        return app

    async def pass_on(self, request: web.Request) -> web.Response:
        if not self.open:
            return web.Response(status=502)
        headers = {
            name: request.headers[name] for name in ("Range", "Girder-Token") if name in request.headers
        }
        async with (
            aiohttp.ClientSession() as session,
            session.get(self.url + request.raw_path, headers=headers) as answer,
        ):
            kept = ("Content-Type", "Content-Range")
            passed = {name: answer.headers[name] for name in kept if name in answer.headers}
            return web.Response(status=answer.status, body=await answer.read(), headers=passed)


def test_every_route_that_names_an_item_passes_the_door() -> None:
    app = create_app(Config(girder="http://127.0.0.1:1", workers=1))
    known = {"item", "identifier"}
    others = {"id", "file", "path"}  # of a posted style, of the viewer; of preflights
    for resource in app.router.resources():
        names = {part.split(":")[0] for part in _parts(resource.canonical)}
        assert not names or names & known or names <= others, resource.canonical


def _parts(path: str) -> list[str]:
    return [piece.split("}")[0] for piece in path.split("{")[1:]]


class Refusing:
    """A Girder that answers as it is told, and counts."""

    def __init__(self) -> None:
        self.asked = 0
        self.error: Exception = Forbidden("no")

    def ask(self, item_id: str, token: str | None) -> Any:
        self.asked += 1
        raise self.error


@pytest.mark.parametrize(("error", "questions"), [
    (Forbidden("no"), 1), (SignInRequired("who"), 1), (NotFound("gone"), 1), (Unavailable("later"), 3),
])  # fmt: skip
async def test_refusals_are_remembered_and_a_silent_girder_is_asked_again(
    error: Exception, questions: int
) -> None:
    girder = Refusing()
    girder.error = error
    admission = Admission(girder)  # type: ignore[arg-type]
    for _ in range(3):
        with pytest.raises(type(error), match=str(error)):
            await admission.admit("token", "0" * 24)
    assert girder.asked == questions
    admission.close()
