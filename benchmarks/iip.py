"""IIPImage: Debian's ``iipimage-server`` behind nginx, asked for the same tiles of slides, pair by pair."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.parse import quote

from benchmarks import process, rivals
from benchmarks.hot import START, serving
from benchmarks.http_load import Drive, checked, drives, fetched, generator, serve, without_wrk
from benchmarks.scope import Scope
from benchmarks.section import Section
from gputiles.config import usable_cores

SERVER = Path("/usr/lib/iipimage-server/iipsrv.fcgi")
QUALITY = 95
CACHE = 64  # MiB of encoded tiles, where gputiles keeps them too
APART = (12.0, 120)  # mean and worst difference: the colours of noise are halved in size once more

CONFIGURATION = """
daemon off;
worker_processes {cores};
pid {folder}/nginx.pid;
error_log {folder}/error.log;
{user}
events {{ worker_connections 512; }}
http {{
  access_log off;
  keepalive_requests 100000000;
  client_body_temp_path {folder}/body;
  fastcgi_temp_path {folder}/fastcgi;
  proxy_temp_path {folder}/proxy;
  scgi_temp_path {folder}/scgi;
  uwsgi_temp_path {folder}/uwsgi;
  fastcgi_buffer_size 64k;
  fastcgi_buffers 16 64k;
  upstream iip {{ {sockets} }}
  server {{
    listen 127.0.0.1:{port};
    location /iip {{
      fastcgi_pass iip;
      fastcgi_param QUERY_STRING $query_string;
      fastcgi_param REQUEST_METHOD $request_method;
      fastcgi_param SERVER_PROTOCOL $server_protocol;
      fastcgi_param REQUEST_URI $request_uri;
    }}
  }}
}}
"""


def absent() -> str | None:
    """Say what is not installed, if so."""
    if not SERVER.is_file():
        return "iipimage-server is not installed"
    return without_wrk() or (None if shutil.which("nginx") else "nginx is not installed")


def versions() -> dict[str, str]:
    """Return the versions of the generator and of both servers."""
    nginx = subprocess.run(["nginx", "-v"], capture_output=True, text=True).stderr.split("/")[-1].strip()
    asked = ["dpkg-query", "-W", "-f", "${Version}", "iipimage-server"]
    iipsrv = subprocess.run(asked, capture_output=True, text=True).stdout
    return generator() | {"nginx": nginx, "iipimage-server": iipsrv}


def rows(scope: Scope) -> list[dict[str, Any]]:
    """Return a row for each picture: the hot tile, and tiles spread over the slide."""
    return [
        row(drive, f"{drive.name}, {picture}", scope)
        for picture in scope.rivals
        for drive in drives(scope.folder, scope.slide, picture)
        if drive.style is None
    ]


def row(drive: Drive, name: str, scope: Scope) -> dict[str, Any]:
    """Return the row of a drive. Raises PixelsDiffer."""
    keeps = drive.config.tile_cache != 0
    with serving(serve, drive.config) as base, peer(CACHE if keeps else 0) as other:
        path, _ = checked(drive, base)
        theirs = rivals.Side(other, address(drive.path, scope.slide))
        return rivals.duel(drive, name, rivals.Side(base, path), theirs, scope, APART)


def address(path: Path, side: int) -> str:
    """Return the path of a full-resolution tile, in the words of Deep Zoom."""
    level = (side - 1).bit_length()
    return f"/iip?DeepZoom={quote(str(path.resolve()))}_files/{level}/@x_@y.jpg"


@contextmanager
def peer(cache: int) -> Iterator[str]:
    """Run a server for each core and nginx before them; give the address. ``cache`` is in MiB."""
    environment = {
        **os.environ, "MAX_IMAGE_CACHE_SIZE": str(cache), "JPEG_QUALITY": str(QUALITY), "VERBOSITY": "0",
        "MEMCACHED_SERVERS": "127.0.0.1:1",  # none
    }  # fmt: skip
    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:  # a short name, as sockets need
        folder, port = Path(name), _free_port()
        (folder / "error.log").touch()
        log = stack.enter_context((folder / "said").open("wb"))
        sockets = [folder / f"iip{number}" for number in range(usable_cores())]
        for each in sockets:
            words = [str(SERVER), "--bind", str(each)]
            stack.enter_context(process.started(words, env=environment, stdout=log, stderr=log))
        _await(lambda: all(each.exists() for each in sockets), "iipimage-server", folder)
        configuration = folder / "nginx.conf"
        configuration.write_text(_configured(folder, port, sockets))
        words = ["nginx", "-p", str(folder), "-e", f"{folder}/error.log", "-c", str(configuration)]
        stack.enter_context(process.started(words, stdout=log, stderr=log))
        _await(lambda: _answers(port), "nginx", folder)
        yield f"http://127.0.0.1:{port}"


def _configured(folder: Path, port: int, sockets: list[Path]) -> str:
    return CONFIGURATION.format(
        cores=usable_cores(),
        folder=folder,
        port=port,
        sockets=" ".join(f"server unix:{each};" for each in sockets),
        user="user root;" if os.getuid() == 0 else "",
    )


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def _await(is_there: Callable[[], bool], what: str, folder: Path) -> None:
    """Wait for something. Raises RuntimeError where it does not come."""
    end = time.monotonic() + START
    while time.monotonic() < end:
        if is_there():
            return
        time.sleep(0.05)
    said = "".join(path.read_text(errors="replace") for path in (folder / "said", folder / "error.log"))
    raise RuntimeError(f"{what} did not start within {START} s: {said[-2000:]}")


def _answers(port: int) -> bool:
    """Say whether the servers behind nginx answer: they refuse a request that names no image."""
    try:
        fetched(f"http://127.0.0.1:{port}/iip")
    except HTTPError as refusal:
        return refusal.code == 400
    except URLError:
        return False
    return True


SECTION = Section(
    title="Against iipimage-server behind nginx",
    note="One server process for each core, tiles in the words of Deep Zoom. It encodes "
    f"at quality {QUALITY}, 4:2:0; gputiles passes stored tiles on, without nginx before it. Tiles spread "
    f"over the slide: neither side keeps encoded ones. {rivals.TERMS}",
    columns=rivals.columns("iipsrv"),
    measure=rows,
    absent=absent,
    versions=versions,
)
