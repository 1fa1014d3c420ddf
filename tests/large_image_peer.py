"""A real Girder 3 with its large_image plugin on loopback, and what differs between two answers."""

from __future__ import annotations

import asyncio
import json
import math
import os
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from xml.etree import ElementTree

import numpy as np
from aiohttp import ClientSession, ClientTimeout
from aiohttp.test_utils import TestServer
from numpy.typing import NDArray
from PIL import Image as Pillow
from yarl import URL

from gputiles.app import SERVER, create_app
from gputiles.config import Config
from tests.conftest import SHARED
from tests.large_image_requests import FILES, REQUESTS, target

VENV = Path(
    os.environ.get("GPUTILES_GIRDER_3_VENV")
    or Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache", "gputiles", "girder-3")
)
PATIENCE = 540  # seconds until the peer must serve; it is installed first where that was not done before
SECONDS = 300  # after which it stops by itself
DEFAULTS: Mapping[str, str] = {}
SCRIPT = "tools/girder_peer/run.sh"
AT_ONCE = 4  # requests
JPEG_MEAN, JPEG_MOST = 1.0, 24  # levels by which decoded JPEGs may differ: two encoders at one quality
HEADERS = ("Cache-Control", "Content-Disposition", "ETag", "Location")  # what clients rely on


@dataclass(frozen=True)
class Answer:
    """What a server answered."""

    status: int
    kind: str  # media type
    headers: dict[str, str]
    body: bytes


@contextmanager
def girder(
    script: Path, files: list[Path], out: Path, seconds: int = SECONDS, settings: Mapping[str, str] = DEFAULTS
) -> Iterator[dict[str, Any]]:
    """Run the peer; yields its base URL and its items, {file name: id}. It never outlives ``seconds``.

    ``settings`` are large_image's, as variables of the environment.
    """
    VENV.parent.mkdir(parents=True, exist_ok=True)
    environment = {**os.environ, **settings, "VENV": str(VENV)}
    tied = ["setpriv", "--pdeathsig", "TERM"]  # the kernel ends it where this process is killed
    command = [*tied, "bash", str(script), str(out), str(seconds), *map(str, files)]
    log = out.with_suffix(".log")
    with log.open("wb") as stream:
        peer = subprocess.Popen(
            command, env=environment, stdout=stream, stderr=stream, cwd=out.parent, start_new_session=True
        )
    try:
        yield _await(peer, out, log)
    finally:
        if peer.poll() is None:
            os.killpg(peer.pid, signal.SIGTERM)
        peer.wait(30)


def _await(peer: subprocess.Popen[bytes], out: Path, log: Path) -> dict[str, Any]:
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end and peer.poll() is None:
        try:
            return dict(json.loads(out.read_text(encoding="utf-8")))
        except (FileNotFoundError, ValueError):  # not there, or not wholly
            time.sleep(0.1)
    raise RuntimeError(f"Girder did not start: {log.read_text(errors='replace')[-2000:]}")


def missing() -> str | None:
    """Say what of the peer is missing here, without installing it."""
    if not (SHARED / SCRIPT).is_file():
        return f"{SHARED / SCRIPT} is absent"
    if not (VENV / "ready").is_file():
        return "no Girder 3 is installed; python -m tests.large_image_peer does it"
    return None


def ask_both(files: list[Path], peer: dict[str, Any]) -> dict[str, tuple[Answer, Answer]]:
    """Return {line: (gputiles' answer, Girder's)} of every request."""
    return asyncio.run(_ask_both(files, peer))


async def _ask_both(files: list[Path], peer: dict[str, Any]) -> dict[str, tuple[Answer, Answer]]:
    server = TestServer(create_app(Config(roots=tuple(files), workers=2)))
    await server.start_server(
        **{name: value for name, value in SERVER.items() if name != "handler_cancellation"}
    )
    try:
        async with ClientSession(timeout=ClientTimeout(60), auto_decompress=True) as session:
            ours = f"{server.make_url('/api/v1')}"
            listed = json.loads((await _send(session, "GET", f"{ours}/item")).body)
            items = {item["name"]: item["id"] for item in listed}
            turn = asyncio.Semaphore(AT_ONCE)

            async def both(line: str) -> tuple[Answer, Answer]:
                async with turn:
                    mine, theirs = target(line, items), target(line, peer["items"])
                    answer = await _send(session, mine[0], ours + mine[1])
                    other = await _send(session, theirs[0], peer["url"] + theirs[1])
                    if other.status == 500:  # several requests at once can make Girder stumble
                        other = await _send(session, theirs[0], peer["url"] + theirs[1])
                    return answer, other

            return dict(zip(REQUESTS, await asyncio.gather(*map(both, REQUESTS)), strict=True))
    finally:
        await server.close()


async def _send(session: ClientSession, method: str, url: str) -> Answer:
    held = {"If-None-Match": "*"} if method == "MATCH" else {}
    method = "GET" if held else method
    async with session.request(method, URL(url, encoded=True), headers=held, allow_redirects=False) as reply:
        headers = {name: reply.headers[name] for name in HEADERS if name in reply.headers}
        return Answer(reply.status, reply.content_type, headers, await reply.read())


def differences(ours: Answer, theirs: Answer) -> dict[str, str]:
    """Return {aspect: how the answers differ in it}.

    Aspects are ``status``, ``type``, ``headers``, ``empty``, ``text``, ``shape`` and ``pixels``; of
    JSON ``more``, ``missing``, ``length`` and ``value`` with the place, such as ``value:.quads[].crop``.
    Nothing but the status is compared where it differs; of refusals the keys of the body.
    """
    if ours.status != theirs.status:
        return {"status": f"{ours.status}, not {theirs.status}: {ours.body[:120]!r}, {theirs.body[:200]!r}"}
    if ours.kind != theirs.kind:
        return {"type": f"{ours.kind}, not {theirs.kind}"}
    return _headers(ours, theirs) | _bodies(ours, theirs)


def _headers(ours: Answer, theirs: Answer) -> dict[str, str]:
    """Compare what clients rely on: entity tags by their presence, others by their text."""
    mine, other = (
        {name: "a tag" if name == "ETag" else value for name, value in answer.headers.items()}
        for answer in (ours, theirs)
    )
    return {"headers": f"{mine}, not {other}"} if mine != other and ours.status < 400 else {}


def _bodies(ours: Answer, theirs: Answer) -> dict[str, str]:
    if not ours.body or not theirs.body:
        return (
            {"empty": f"{len(ours.body)} bytes, not {len(theirs.body)}"} if ours.body != theirs.body else {}
        )
    if ours.kind == "application/json":
        mine, other = (json.loads(answer.body) for answer in (ours, theirs))
        return _refusals(mine, other) if ours.status >= 400 else dict(_values(mine, other, ""))
    if ours.kind.startswith("image/"):
        return _pixels(ours, theirs)
    mine, other = (_element(ElementTree.fromstring(answer.body)) for answer in (ours, theirs))
    return {"text": f"{mine}, not {other}"} if mine != other else {}


def _refusals(ours: Any, theirs: Any) -> dict[str, str]:
    same = ours.keys() == theirs.keys() and ours["type"] == theirs["type"]
    return {} if same else {"value:.type": f"{ours}, not {theirs}"}


def _values(ours: Any, theirs: Any, path: str) -> Iterator[tuple[str, str]]:
    """Yield what differs; metadata are named alike wherever they stand."""
    if isinstance(ours, dict) and isinstance(theirs, dict):
        for key in sorted(ours.keys() | theirs.keys()):
            place = "" if key == "metadata" else f"{path}.{key}"
            if key not in theirs:
                yield f"more:{place}", f"{ours[key]!r}"[:200]
            elif key not in ours:
                yield f"missing:{place}", f"{theirs[key]!r}"[:200]
            else:
                yield from _values(ours[key], theirs[key], place)
    elif isinstance(ours, list) and isinstance(theirs, list) and len(ours) != len(theirs):
        yield f"length:{path}", f"{ours!r:.200}, not {theirs!r:.200}"
    elif isinstance(ours, list) and isinstance(theirs, list):
        for mine, other in zip(ours, theirs, strict=True):
            yield from _values(mine, other, f"{path}[]")
    elif not _same(ours, theirs):
        yield f"value:{path}", f"{ours!r:.200}, not {theirs!r:.200}"


def _same(ours: Any, theirs: Any) -> bool:
    number = (int, float)
    if isinstance(ours, number) and isinstance(theirs, number) and not isinstance(ours, bool):
        return math.isclose(ours, theirs, rel_tol=1e-6, abs_tol=1e-9)
    return type(ours) is type(theirs) and ours == theirs


def _element(element: Any) -> tuple[Any, ...]:
    """Return an XML element and what is in it, whatever the order of its attributes."""
    return element.tag, dict(element.attrib), [_element(child) for child in element]


def _pixels(ours: Answer, theirs: Answer) -> dict[str, str]:
    mine, other = picture(ours.body), picture(theirs.body)
    if mine.shape != other.shape:
        return {"shape": f"{mine.shape}, not {other.shape}"}
    off = np.abs(mine - other)
    fits = (
        (off.mean() <= JPEG_MEAN and off.max() <= JPEG_MOST) if ours.kind == "image/jpeg" else off.max() <= 1
    )
    return {} if fits else {"pixels": f"off by {off.mean():.2f} levels, {off.max()} at most"}


def picture(data: bytes) -> NDArray[np.int64]:
    """Return decoded samples (rows, columns, samples), without alpha where opaque, grey where grey."""
    image = Pillow.open(BytesIO(data))
    pixels = np.asarray(image)
    pixels = pixels[..., np.newaxis] if pixels.ndim == 2 else pixels
    if pixels.shape[2] in (2, 4) and (pixels[..., -1] == 255).all():
        pixels = pixels[..., :-1]
    if pixels.shape[2] == 3 and (pixels == pixels[..., :1]).all():
        pixels = pixels[..., :1]
    return pixels.astype(np.int64)


def main() -> None:
    """Install the peer where that was not done before, and see that it serves a file."""
    with TemporaryDirectory() as folder:
        file = SHARED / FILES["small"]
        with girder(SHARED / SCRIPT, [file], Path(folder, "peer.json")) as peer:
            print(f"Girder with large_image serves {', '.join(peer['items'])}")


if __name__ == "__main__":
    main()
