"""The one configuration object, read once at start."""

from __future__ import annotations

import os
import re
import resource
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from gputiles.errors import BadRequest

_UNITS = {
    "": 1, "B": 1,
    "K": 1000, "KB": 1000, "M": 1000**2, "MB": 1000**2, "G": 1000**3, "GB": 1000**3, "TB": 1000**4,
    "KIB": 1024, "MIB": 1024**2, "GIB": 1024**3, "TIB": 1024**4,
}  # fmt: skip

PICTURES = ("label", "macro", "map", "overview", "thumbnail")
"""What the other pictures of a file are called."""


def parse_size(text: str) -> int:
    """Return the bytes that ``text`` means: ``512MB``, ``4GiB``, ``65536``.

    Decimal and binary units are kept apart. Raises BadRequest for anything else.
    """
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([A-Za-z]*)\s*", text)
    if match is None or match[2].upper() not in _UNITS:
        raise BadRequest(f"size: expected a number with an optional unit such as 512MB or 4GiB; got {text!r}")
    return int(float(match[1]) * _UNITS[match[2].upper()])


def parse_pictures(names: Iterable[str]) -> tuple[str, ...]:
    """Return the pictures of a file that may be seen: ``all``, ``none``, or some of ``PICTURES``.

    Raises BadRequest for other words: a slip of the pen would hide what was meant to be shown.
    """
    words = tuple(filter(None, (name.strip().lower() for name in names)))
    if words in (("all",), ("none",)):
        return PICTURES if words == ("all",) else ()
    for word in words:
        if word not in PICTURES:
            allowed = f"'none', 'all', or some of {', '.join(PICTURES)}"
            raise BadRequest(f"associated-images: expected {allowed}; got {word[:64]!r}")
    return words


@cache
def memory_limit() -> int:
    """Return the bytes of memory that this process may use: the cgroup's limit or free memory.

    Never more than what the machine has available when it is first asked for: from then on it stays, so
    that configurations that say the same are the same.
    """
    available = _available_memory()
    for path in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        try:
            limit = int(Path(path).read_text())
        except (OSError, ValueError):  # no such cgroup version, or "max": no limit
            continue
        available = min(available, limit)
    return available


def host_rasters() -> int:
    """Return the bytes of rasters that the host device keeps unless it is told."""
    return memory_limit() // 4


def _available_memory() -> int:
    try:
        meminfo = Path("/proc/meminfo").read_text()
        match = re.search(r"^MemAvailable:\s*(\d+) kB", meminfo, re.MULTILINE)
        if match is not None:
            return int(match[1]) * 1024
    except OSError:  # not Linux
        pass
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2


def usable_cores() -> int:
    """Return the number of processors that this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else (os.cpu_count() or 1)


def descriptor_budget() -> int:
    """Return how many files may be held open: half of what the process may, at most 512."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return max(8, min(512, soft // 2))


@dataclass(frozen=True, slots=True)
class Config:
    """All settings of one engine and its server; sizes in bytes, times in seconds.

    Attributes:
        roots: folders and files that are served.
        urls: addresses of remote files that are served.
        remote: prefixes of addresses that files may be imported from.
        remote_cache: bytes of remote files kept in memory.
        girder: address of a Girder server whose items are served.
        girder_token: its token that reads files; from the environment alone.
        remote_timeout: longest time of one request to another server.
        host: address to listen on.
        port: port to listen on; 0 takes a free one.
        device: ``auto``, ``cpu`` or ``cuda`` (``cuda:1`` for the second card).
        tile_cache: bytes of encoded tiles kept in memory.
        raw_cache: bytes of decoded, unstyled tiles kept in device memory; by default what fits the device.
        spill_cache: bytes of pinned host memory for tiles that a card gives up; 0 is none.
        card_jpegs: least JPEGs of a batch that a card encodes; by default what is measured when it is opened.
        workers: compute threads of the host device. As many as the usable cores, and at most 4, stay each
            on a core of its own.
        readers: threads of the reading room.
        sources: most file descriptors of images held open at once.
        revalidate: age at which a file's version is looked at again; 0 is every request.
        deadline: longest time that a request may take before it is answered 503.
        queue_items: most jobs that may wait for the workers.
        queue_bytes: most bytes that waiting jobs may hold.
        synthesis_limit: most full-resolution pixels that one missing level may be made of.
        chunk_limit: most bytes that one chunk may decode to.
        max_age: seconds that clients may keep a tile before asking again.
        style_store: SQLite file of posted styles, and of presets; without one they are kept in memory.
        style_limit: most posted styles kept.
        associated_images: which of a file's other pictures may be seen: label, macro, map, overview …
        internal_metadata: whether a file's own texts, a label's perhaps among them, may be seen.
        uploads: folder below a root that uploaded files are stored in; without one there are no uploads.
        upload_limit: most bytes of an uploaded file.
        reduction: how missing levels are made: ``mean``, ``nearest``, or ``auto``: as the file suggests.
        icc: whether ICC profiles are applied, so that pictures are sRGB.
        openseadragon: address of OpenSeadragon; by default the file that `make viewer` puts into the package.
        active_seconds: how long an image that was asked for keeps its floor in the caches.
    """

    roots: tuple[Path, ...] = ()
    urls: tuple[str, ...] = ()
    remote: tuple[str, ...] = ()
    remote_cache: int = 256 * 1024**2
    remote_timeout: float = 30.0
    girder: str | None = None
    girder_token: str | None = field(default=None, repr=False)
    host: str = "127.0.0.1"
    port: int = 8080
    device: str = "auto"
    tile_cache: int = field(default_factory=lambda: min(memory_limit() // 16, 2 * 1024**3))
    raw_cache: int | None = None
    spill_cache: int = field(default_factory=lambda: memory_limit() // 8)
    card_jpegs: int | None = None
    workers: int = field(default_factory=usable_cores)
    readers: int = 4
    sources: int = field(default_factory=descriptor_budget)
    revalidate: float = 1.0
    deadline: float = 60.0
    queue_items: int = 2048
    queue_bytes: int = 1024**3
    synthesis_limit: int = 1 << 34
    chunk_limit: int = 1 << 30
    max_age: int = 3600
    style_store: Path | None = None
    style_limit: int = 10_000
    associated_images: tuple[str, ...] = ("thumbnail",)
    internal_metadata: bool = True
    uploads: Path | None = None
    upload_limit: int = 1 << 36
    reduction: str = "auto"
    icc: bool = True
    openseadragon: str | None = None
    active_seconds: float = 60.0
