"""Memory: what a resident tile takes, by the shelf's account, the process's and the device's.

A server reads every tile of a file; what its resident set grows by is compared with what its
shelves say they hold, and again once they have been emptied. On a card the shelf of decoded tiles
is the card's memory, of which CuPy asks the driver; on the host it is the process's own.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any, NamedTuple
from urllib.request import Request, urlopen

from benchmarks import inputs, process
from benchmarks.client import filled
from benchmarks.http_load import Drive, drives, engines_tile, fetched, item_of, template
from benchmarks.pairs import PixelsDiffer
from benchmarks.scope import Scope
from benchmarks.section import Row, Section, number, text
from gputiles.backends import load
from gputiles.config import Config

MIB = 2**20
HOST = "cpu"  # the device whose memory is the host's
QUALITY = "&jpegQuality=80"  # asked for, tiles are decoded and not passed on


class Held(NamedTuple):
    """What a server holds: tiles on the raw shelf, its bytes, those of encoded tiles, of the process.

    ``device`` is where the raw shelf is, ``on_card`` the bytes in use there; None on the host.
    """

    tiles: int
    raw: int
    encoded: int
    resident: int
    device: str = HOST
    on_card: int | None = None


def rows(scope: Scope) -> list[dict[str, Any]]:
    """Return a row for planes of 16 bits, and one for colours of 8."""
    across = max(2, scope.slide // 1024)
    planes = scope.folder / "memory.ome.tif"
    inputs.multiplex(planes, "tissue", 6, 512, across, across)
    slide = inputs.slide(scope.folder / "memory.tif", "tissue", 512 * across)
    *_, styled = drives(scope.folder, 512)
    side = f"{512 * across}²"
    found = [
        row(
            Drive(
                "plane of 512² uint16",
                f"6 channels {side} uint16",
                planes,
                Config(),
                styled.style,
                across=across,
            )
        ),
        row(
            Drive("RGB of 256² uint8", f"RGB {side}, JPEG 256² tiles", slide, Config(), across=2 * across),
            QUALITY,
        ),
    ]
    planes.unlink()
    return found


def row(drive: Drive, more: str = "") -> dict[str, Any]:
    """Return what all tiles of a file take. Raises PixelsDiffer."""
    z, expected = engines_tile(drive)
    path = template(drive, item_of(drive), z)
    with process.gputiles(drive.path) as server:
        if fetched(server.base + filled(path)) != expected:
            raise PixelsDiffer(f"{drive.name}: the server's tile is not the engine's")
        before = held(server)
        for y in range(drive.across):
            for x in range(drive.across):
                fetched(server.base + filled(path, x, y) + more)
        after = held(server)
        _clear(server.base)
        cleared = held(server)
    return figures(drive, before, after, cleared)


def figures(drive: Drive, before: Held, after: Held, cleared: Held) -> dict[str, Any]:
    """Return the row of what was held before all tiles were read, then, and once they were dropped.

    What lies on a card is no part of the process's growth, nor of the shelves' that it is compared with.
    """
    shelved = after.encoded - before.encoded
    if after.on_card is None:
        shelved += after.raw - before.raw
    grown = after.resident - before.resident
    return {
        "name": drive.name,
        "file": drive.file,
        "tiles": after.tiles,
        "bytes_a_tile": round(after.raw / after.tiles),
        "shelves_mib": round(shelved / MIB, 1),
        "rss_before_mib": round(before.resident / MIB, 1),
        "rss_after_mib": round(after.resident / MIB, 1),
        "rss_cleared_mib": round(cleared.resident / MIB, 1),
        "process_by_shelves": round(grown / shelved, 2) if shelved else None,
        "device": after.device,
        "raw_mib": round(after.raw / MIB, 1),
        "card_mib": None if after.on_card is None else [_mib(each) for each in (before, after, cleared)],
    }


def _mib(held: Held) -> float:
    return round((held.on_card or 0) / MIB, 1)


def held(server: process.Served) -> Held:
    """Return what a server says that it holds, and what the kernel says of its process."""
    report = json.loads(fetched(server.base + "/large_image/cache"))
    shelves, device = report["shelves"], report["device"]["name"]
    status = Path(f"/proc/{server.pid}/status").read_text()
    resident = re.search(r"^VmRSS:\s+(\d+) kB", status, re.MULTILINE)
    assert resident is not None, status
    rasters, tiles = shelves["rasters"], shelves["tiles"]
    used = (rasters["items"], rasters["used"], tiles["used"], int(resident[1]) * 1024)
    return Held(*used, device, None if device == HOST else on_card())


def on_card() -> int:
    """Return the bytes in use on the first card, by all processes, as the driver tells CuPy."""
    free, total = load.find_cupy().cuda.runtime.memGetInfo()
    return int(total - free)


def device_memory(row: Row) -> str:
    """Return the cell of the device's memory: before, with all tiles, and once they were dropped."""
    if row["card_mib"] is None:
        return f"host memory, {row['raw_mib']:.1f} of the process"
    return f"{row['device']}: " + ", ".join(f"{each:.1f}" for each in row["card_mib"])


def _clear(base: str) -> None:
    with urlopen(Request(base + "/large_image/cache/clear", method="PUT"), timeout=120) as reply:
        reply.read()


SECTION = Section(
    title="Memory",
    note="Every tile of a file is asked for once. What the shelves of decoded and encoded tiles say they "
    "hold, beside the resident set of the process: before, with all tiles, and once they were dropped. "
    "Device memory is where decoded tiles lie: on the host a part of the process, on a card what its driver "
    "says is in use (before, with all tiles, once they were dropped), and the growth of the process is "
    "compared with encoded tiles alone.",
    columns={
        "resident tile": text("name"),
        "tiles": number("tiles"),
        "bytes a tile": number("bytes_a_tile"),
        "shelves MiB": number("shelves_mib", 1),
        "process before": number("rss_before_mib", 1),
        "with them": number("rss_after_mib", 1),
        "emptied": number("rss_cleared_mib", 1),
        "growth by shelves": number("process_by_shelves", 2),
        "device memory, MiB": device_memory,
    },
    measure=rows,
)
