"""Chromium on a real server: what the tests of pages share."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from pathlib import Path
from threading import Thread
from typing import Any
from urllib.parse import urlsplit
from urllib.request import urlopen

import numpy as np
import pytest
from PIL import Image as Pillow
from playwright.sync_api import Browser, Page, Request, sync_playwright

from gputiles import assets

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]  # as containers need them
PATIENCE = 30_000  # milliseconds: nothing is waited for longer
SIZE = {"width": 1280, "height": 800}


def needed() -> str:
    """Return the browser's path; skip the test where it, or the viewer's library, is absent (never in CI)."""
    wanting = (
        "a chromium" if CHROMIUM is None else "" if assets.has_library() else "OpenSeadragon (make viewer)"
    )
    if wanting or CHROMIUM is None:
        if os.environ.get("CI"):
            pytest.fail(f"{wanting} is missing; CI needs it")
        pytest.skip(f"needs {wanting}")
    return CHROMIUM


@contextmanager
def serving(*arguments: str | Path) -> Iterator[str]:
    """Serve on a free port of loopback; yields the server's address."""
    command = [
        sys.executable,
        "-m",
        "gputiles",
        "serve",
        "--port",
        "0",
        "--workers",
        "2",
        *map(str, arguments),
    ]
    sizes = ["--raw-cache", "256MiB", "--tile-cache", "64MiB"]
    server = subprocess.Popen(
        [*command, *sizes], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    assert server.stdout is not None
    try:
        yield server.stdout.readline().split()[-1]
    finally:
        server.terminate()
        server.wait(30)
        server.stdout.close()


@contextmanager
def chromium() -> Iterator[Browser]:
    """Run a headless browser without a GPU."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=needed(), args=ARGUMENTS)
        yield browser
        browser.close()


@dataclass
class Visit:
    """A page of a server, and what it asked for and complained of."""

    page: Page
    base: str
    requests: list[str] = field(default_factory=list)
    aborted: list[str] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)
    messages: list[dict[str, Any]] = field(default_factory=list)  # that the page sent over sockets
    batches: list[dict[str, Any]] = field(default_factory=list)  # that it asked for by HTTP

    def __post_init__(self) -> None:
        self.page.set_default_timeout(PATIENCE)
        self.page.on("request", self._asked)
        self.page.on("requestfailed", lambda request: self.aborted.append(request.url))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("console", self._listen)
        self.page.on("websocket", lambda socket: socket.on("framesent", self._said))

    def _listen(self, message: Any) -> None:
        if message.type == "error":
            self.complaints.append(f"{message.text} {message.location.get('url', '')}")

    def _asked(self, request: Request) -> None:
        self.requests.append(request.url)
        if request.url.endswith("/tiles:batch"):
            self.batches.append(json.loads(request.post_data or "{}"))

    def _said(self, message: str | bytes) -> None:
        self.messages.append(json.loads(message))

    def tiles(self, since: int = 0) -> list[str]:
        """Return the addresses of tiles and batches that were asked for from a request on."""
        return [url for url in self.requests[since:] if "/zxy/" in url or url.endswith("/tiles:batch")]

    def forgive(self, *words: str) -> None:
        """Forget the complaints that contain one of some words: they were to be expected."""
        self.complaints[:] = [text for text in self.complaints if not any(word in text for word in words)]

    def open(self, path: str) -> None:
        """Open a page of an image, and wait until all of it is seen."""
        self.page.goto(f"{self.base}/{path}")
        self.settle()

    def settle(self) -> None:
        """Wait until what was asked for last is seen."""
        self.page.wait_for_selector("body[data-settled=yes]")

    def style(self) -> str:
        """Wait until the address names a style; return its id."""
        self.page.wait_for_url(lambda url: "style=@" in url)
        return self.page.url.split("style=@")[1]

    def zoom(self) -> float:
        """Return the zoom that the address names, 0 where it does not yet."""
        _, _, told = self.page.url.partition("#z=")
        return float(told.split("&")[0] or 0)

    def pixel(self, x: float, y: float) -> tuple[int, int, int]:
        """Return the colour that the page shows at a share of the image's part of the window."""
        box = self.page.locator("#osd").bounding_box()
        assert box is not None
        clip = {"x": box["x"] + x * box["width"], "y": box["y"] + y * box["height"], "width": 2, "height": 2}
        shot = Pillow.open(BytesIO(self.page.screenshot(clip=clip))).convert("RGB")  # type: ignore[arg-type]
        red, green, blue = np.asarray(shot)[0, 0].tolist()
        return red, green, blue

    def shows(self, x: float, y: float, colour: tuple[int, int, int], tolerance: int = 12) -> None:
        """Wait until the page shows a colour; JPEG and scaling may be a little off."""
        self.until(
            lambda: self.pixel(x, y), lambda seen: max(np.abs(np.subtract(seen, colour))) <= tolerance, colour
        )

    def until(self, look: Callable[[], Any], holds: Callable[[Any], bool], wanted: object) -> Any:
        """Look until something holds; return what was seen."""
        seen = look()
        for _ in range(PATIENCE // 50):
            if holds(seen):
                return seen
            self.page.wait_for_timeout(50)
            seen = look()
        raise AssertionError(f"wanted {wanted}; saw {seen}")


def without_sockets(page: Page) -> None:
    """Let every socket that a page opens be closed at once."""
    page.route_web_socket("**/live", lambda socket: socket.close())


@contextmanager
def plain_proxy(base: str) -> Iterator[str]:
    """Serve what a server has, but for WebSockets; yields an address on loopback."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            if "Upgrade" in self.headers:
                self.send_error(400)
                return
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            asked = {
                name: value for name, value in self.headers.items() if name not in ("Host", "Connection")
            }
            with closing(HTTPConnection(urlsplit(base).netloc, timeout=60)) as connection:
                connection.request(self.command, self.path, body, asked)
                reply = connection.getresponse()
                data = reply.read()
            self.send_response(reply.status)
            for name, value in reply.getheaders():
                if name not in ("Transfer-Encoding", "Content-Length", "Connection"):
                    self.send_header(name, value)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        do_POST = do_GET

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as proxy:
        thread = Thread(target=proxy.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{proxy.server_port}"
        finally:
            proxy.shutdown()
            thread.join()


def ids(base: str) -> dict[str, str]:
    """Return the ids of a server's items by their names."""
    with urlopen(f"{base}/item?limit=0", timeout=60) as reply:
        return {item["name"]: item["id"] for item in json.load(reply)}
