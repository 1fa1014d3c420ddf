"""HTTP: tiles a second that ``wrk`` gets over 8 connections on loopback, in a closed loop.

Beside them stands the generator's ceiling: what it gets by the same requests of a bare protocol that
answers each with the same bytes. A row within 1.5 times of that says nothing of the server.
"""

from __future__ import annotations

import asyncio
import re
import shutil
import statistics
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit
from urllib.request import urlopen

import gputiles
from benchmarks import inputs
from benchmarks.client import FIRST, filled
from benchmarks.hot import asked, rate, serving
from benchmarks.pairs import PixelsDiffer
from benchmarks.restyle import COLOURS
from benchmarks.scope import Scope
from benchmarks.section import Section, ceiling, number, span, text
from gputiles.app import run
from gputiles.config import Config
from gputiles.walk import walk

NEAR = 1.5
SERVERS = 3  # that do nothing, at most, where the generator's ceiling comes out too near
PICTURE = "tissue"
PARTS = (50, 95, 99)
WARM = 1  # runs of a row before the first that counts
PLAIN = "/item/{item}/tiles/zxy/{z}/{x}/{y}?encoding={encoding}"

# Fills in the column, the row, and a number that no request had before.
SCRIPT = """
local n = BEGIN
local template = [[PATH]]
request = function()
  n = n + 1
  local path = template:gsub("@x", n % ACROSS):gsub("@y", math.floor(n / ACROSS) % ACROSS)
  path = path:gsub("@n", string.format("%.4f", 20000 + n / 10000))
  return wrk.format("GET", path)
end
done = function(summary, latency)
  io.write(string.format("     95%%  %.3fms\\n", latency:percentile(95) / 1000))
end
"""


@dataclass(frozen=True)
class Drive:
    """One row to be: a file, how it is served, and which tiles of it are asked for."""

    name: str
    file: str
    path: Path
    config: Config
    style: str | None = None  # JSON, with @n in it
    encoding: str = "JPEG"
    across: int = 1
    quality: tuple[int, int] | None = None  # of a JPEG, and its subsampling, where it is not the default


def drives(folder: Path, side: int, picture: str = PICTURE) -> Iterator[Drive]:
    """Yield hot tiles, tiles spread over a slide, and a new style in every request."""
    slide = inputs.slide(folder / f"http-slide-{picture}.tif", picture, side)
    stored = f"RGB {side}², JPEG q{inputs.JPEG_LEVEL} 4:2:0 256² tiles as stored"
    yield Drive("hot tile", f"{stored}; one tile, from the cache", slide, _config(slide))
    yield Drive(
        "spread tiles",
        f"{stored}; all in turn, no cache of encoded tiles",
        slide,
        _config(slide, tile_cache=0),
        across=side // 256,
    )
    yield new_styles(folder, picture)


def new_styles(folder: Path, picture: str, channels: int = 6, side: int = 512) -> Drive:
    """Return a new style in every request, of the one tile of a file."""
    path = folder / f"http-planes-{picture}-{channels}-{side}.ome.tif"
    inputs.multiplex(path, picture, channels, side, 1, 1)
    return Drive(
        "new styles",
        f"{channels} channels {side}² uint16, resident, JPEG q95 4:4:4; a new style in every request",
        path,
        _config(path),
        style=f'{{"bands":[{_bands(channels)}]}}',
    )


def resident_set(folder: Path, picture: str) -> Drive:
    """Return new styles all over a set of tiles that are resident, at a quality that viewers ask for (R2)."""
    path, across = folder / f"http-set-{picture}.ome.tif", 8
    inputs.multiplex(path, picture, 8, 256, across, across)
    return Drive(
        "new styles of a set",
        f"8 channels {across * 256}² uint16, resident, 256² tiles in turn, JPEG q80 4:2:0; a new style in "
        "every request",
        path,
        _config(path),
        style=f'{{"bands":[{_bands(8)}]}}',
        across=across,
        quality=(80, 2),
    )


def _bands(channels: int) -> str:
    return ",".join(
        f'{{"frame":{c},"min":100,"max":@n,"palette":"{COLOURS[c % len(COLOURS)]}"}}' for c in range(channels)
    )


def _config(path: Path, **more: Any) -> Config:
    return Config(roots=(path.resolve(),), port=0, **more)


def serve(config: Config, ready: Connection) -> None:
    """Serve with gputiles."""
    run(config, ready.send)


class _Constant(asyncio.Protocol):
    """Answers every request with the same bytes, unread."""

    def __init__(self, answer: bytes) -> None:
        self._answer = answer

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport: Any = transport

    def data_received(self, data: bytes) -> None:
        self._transport.write(self._answer)  # wrk sends the next request when it has this one's answer


def serve_bare(body: bytes, ready: Connection) -> None:
    """Serve ``body`` by a protocol that does nothing else."""
    answer = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)

    async def forever() -> None:
        server = await asyncio.get_running_loop().create_server(lambda: _Constant(answer), "127.0.0.1", 0)
        ready.send(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}")
        await server.serve_forever()

    asyncio.run(forever())


def without_wrk() -> str | None:
    """Say that there is no ``wrk``, if so."""
    return None if shutil.which("wrk") else "wrk is not installed"


def generator() -> dict[str, str]:
    """Return the version of ``wrk``."""
    said = subprocess.run(["wrk", "-v"], capture_output=True, text=True).stdout  # it exits with 1
    return {"wrk": said.split()[1]}


def rows(scope: Scope) -> list[dict[str, Any]]:
    """Return a row for each picture and drive."""
    return [
        row(drive, f"{drive.name}, {picture}", scope)
        for picture in scope.rivals
        for drive in (*drives(scope.folder, scope.slide, picture), resident_set(scope.folder, picture))
    ]


def row(drive: Drive, name: str, scope: Scope) -> dict[str, Any]:
    """Return the row of a drive. Raises PixelsDiffer."""
    with serving(serve, drive.config) as base:
        path, body = checked(drive, base)
        said = [load(drive, base, path, number, scope) for number in range(WARM + scope.runs)][WARM:]
    rates = sorted(map(rate, said))
    return {
        "name": name,
        "file": f"{drive.file}; {len(body)} bytes",
        "bytes": len(body),
        "connections": 8,
        "per_s": round(statistics.median(rates), 1),
        "per_s_range": [round(rates[0], 1), round(rates[-1], 1)],
        **{f"p{part}_ms": value for part, value in zip(PARTS, percentiles(said), strict=True)},
        **ceiling_of(drive, path, body, scope, rates[-1]),
    }


def load(drive: Drive, base: str, path: str, number: int, scope: Scope, connections: int = 8) -> str:
    """Return what ``wrk`` says of a run of ``path`` at ``base``; runs of one number ask for the same."""
    script = scope.folder / "requests.lua"
    _write(script, drive, urlsplit(base).path + path, number)
    return asked(base + path, scope.seconds, script, connections)


def ceiling_of(
    drive: Drive, path: str, body: bytes, scope: Scope, best: float, connections: int = 8
) -> dict[str, Any]:
    """Return what stands beside ``best``: what ``wrk`` gets of a server that does nothing but send ``body``.

    The most of several such servers where the first leaves it too near: runs of the same bytes were seen
    to give 20,000 and, minutes later or at once, 47,000.
    """
    most = 0.0
    for _ in range(SERVERS):
        with serving(serve_bare, body) as base:
            runs = [load(drive, base, path, turn, scope, connections) for turn in range(min(scope.runs, 3))]
        most = max(most, *map(rate, runs))
        if (found := judged(most, best))["valid"]:
            break
    return found


def judged(most: float, best: float) -> dict[str, Any]:
    """Return the generator's ceiling, and whether a row's ``best`` is far enough below it."""
    return {"generator_per_s": round(most, 1), "valid": most >= NEAR * best}


def checked(drive: Drive, base: str) -> tuple[str, bytes]:
    """Return the path that is to be filled in, and the first answer, which must be the engine's own."""
    z, expected = engines_tile(drive)
    path = template(drive, item_of(drive), z)
    body = fetched(base + filled(path))
    if body != expected:
        raise PixelsDiffer(f"{drive.name}: the server's tile is not the engine's")
    return path, body


def item_of(drive: Drive) -> str:
    """Return the id of a drive's file where it is served by itself."""
    (item,) = walk([drive.path.resolve()])
    return item


def engines_tile(drive: Drive) -> tuple[int, bytes]:
    """Return the level of full resolution, and its first tile as the engine makes it in this process."""
    with gputiles.open(drive.path) as image:
        z = image.info.levels - 1
        look = None if drive.style is None else drive.style.replace("@n", FIRST)
        quality = dict(zip(("quality", "subsampling"), drive.quality or (), strict=False))
        return z, image.tile(z, 0, 0, style=look, encoding=drive.encoding, **quality)


def template(drive: Drive, item: str, z: int) -> str:
    """Return the path of a drive's requests, with @x, @y and @n in it."""
    path = PLAIN.format(item=item, z=z, x="@x", y="@y", encoding=drive.encoding)
    if drive.quality is not None:
        path += "&jpegQuality={}&jpegSubsampling={}".format(*drive.quality)
    return path if drive.style is None else path + "&style=" + quote(drive.style, safe="@")


def fetched(url: str) -> bytes:
    """Return what is at ``url``. Raises OSError where it is refused."""
    with urlopen(url, timeout=120) as reply:
        body: bytes = reply.read()
        return body


def _write(script: Path, drive: Drive, path: str, number: int) -> None:
    words = {"BEGIN": str(number * 10_000_000), "PATH": path, "ACROSS": str(drive.across)}
    lines = SCRIPT
    for word, value in words.items():
        lines = lines.replace(word, value)
    script.write_text(lines)


def latency(said: str, part: int) -> float:
    """Return a percentile of the latencies, in milliseconds, as ``wrk`` says it."""
    found = re.search(rf"^\s*{part}%\s+([\d.]+)(us|ms|s|m)\s*$", said, re.MULTILINE)
    if found is None:
        raise ValueError(f"wrk: expected a line of {part}%; got {said!r}")
    return round(float(found[1]) * {"us": 0.001, "ms": 1.0, "s": 1000.0, "m": 60_000.0}[found[2]], 3)


def percentiles(said: list[str]) -> list[float]:
    """Return the medians of the runs' latencies in milliseconds, one for each of PARTS."""
    return [statistics.median(latency(each, part) for each in said) for part in PARTS]


SECTION = Section(
    title="Over HTTP",
    note="A closed loop of `wrk` (one thread) over 8 connections; warm-up: a run that does not count. "
    "gputiles is one process with a worker a core. The server's first answer was compared with the engine's "
    "own, and the engine's with large_image's in the classes above. An error or a refusal ends the section.",
    columns={
        "over HTTP, 8 connections": text("name"),
        "tiles/s": number("per_s"),
        "least–most": span("per_s_range"),
        "p50 ms": number("p50_ms", 2),
        "p95 ms": number("p95_ms", 2),
        "p99 ms": number("p99_ms", 2),
        "generator's ceiling": ceiling,
    },
    measure=rows,
    absent=without_wrk,
    versions=generator,
)
