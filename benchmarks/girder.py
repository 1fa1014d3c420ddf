"""Girder: a real Girder 3 with its large_image plugin, asked the same over HTTP, pair by pair."""

from __future__ import annotations

import json
from importlib.util import find_spec
from typing import Any

from benchmarks import rivals
from benchmarks.hot import serving
from benchmarks.http_load import Drive, checked, drives, fetched, generator, serve, template, without_wrk
from benchmarks.pairs import WORST
from benchmarks.scope import Scope
from benchmarks.section import Section

API = "/api/v1"
# Enough for the hot tile, and no tile of a walk over a slide is found there: gputiles has no such cache then.
SETTINGS = {"LARGE_IMAGE_CACHE_BACKEND": "python", "LARGE_IMAGE_CACHE_TILECACHE_MAXIMUM": "3"}
BOUNDS = ((0.25, WORST), (4.0, 64))  # mean and worst difference; a tile passed on is encoded once less
PEER = (
    "girder",
    "girder_large_image",
    "large_image",
    "large_image_source_tiff",
    "large_image_source_ometiff",
)
STARTING = 300  # seconds within which the peer has every file


def absent() -> str | None:
    """Say why there is no peer to compare with, if so."""
    if find_spec("pytest") is None:
        return "pytest is not installed; needs the extra 'test'"
    from tests.large_image_peer import missing

    return without_wrk() or missing()


def versions() -> dict[str, str]:
    """Return the versions of the generator, and of what the peer is made of."""
    from tests.large_image_peer import VENV

    found = VENV.glob("lib/python3*/site-packages/*.dist-info")
    told = dict(path.stem.split("-", 1) for path in found)
    return generator() | {name: told[name] for name in PEER}


def rows(scope: Scope) -> list[dict[str, Any]]:
    """Return a row for each picture and drive."""
    from tests.conftest import SHARED
    from tests.large_image_peer import SCRIPT, girder

    asked = [
        (each, picture) for picture in scope.rivals for each in drives(scope.folder, scope.slide, picture)
    ]
    files = sorted({drive.path for drive, _ in asked})
    seconds = STARTING + len(asked) * lasting(scope)
    with girder(SHARED / SCRIPT, files, scope.folder / "peer.json", seconds, SETTINGS) as peer:
        return [row(drive, f"{drive.name}, {picture}", peer, scope) for drive, picture in asked]


def lasting(scope: Scope) -> int:
    """Return more seconds than a row takes."""
    return 60 + (2 * (rivals.WARM + scope.runs) + scope.runs) * (scope.seconds + 2)


def row(drive: Drive, name: str, peer: dict[str, Any], scope: Scope) -> dict[str, Any]:
    """Return the row of a drive. Raises PixelsDiffer."""
    with serving(serve, drive.config) as base:
        path, _ = checked(drive, base + API)
        return rivals.duel(
            drive,
            name,
            rivals.Side(base + API, path),
            theirs(drive, peer),
            scope,
            BOUNDS[drive.style is None],
        )


def theirs(drive: Drive, peer: dict[str, Any]) -> rivals.Side:
    """Return the drive's requests of the peer: full resolution, as gputiles is asked for."""
    item = peer["items"][drive.path.name]
    levels = json.loads(fetched(f"{peer['url']}/item/{item}/tiles"))["levels"]
    return rivals.Side(peer["url"], template(drive, item, levels - 1))


SECTION = Section(
    title="Against Girder 3 with large_image, over HTTP",
    note="One address below `/api/v1`, pictures compared first, JPEG q95 4:4:4 where not as stored. Tiles "
    f"spread over the slide: neither side keeps encoded ones. {rivals.TERMS}",
    columns=rivals.columns("Girder"),
    measure=rows,
    absent=absent,
    versions=versions,
)
