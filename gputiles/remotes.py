"""Remote images: the connections, blocks and allowed addresses of one engine. For reader threads."""

from __future__ import annotations

import importlib
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import aiohttp

from gputiles.config import Config
from gputiles.errors import NotFound, Unsupported
from gputiles.places import is_allowed, normalise, origin
from gputiles.sources import Source
from gputiles.sources.blocks import Blocks
from gputiles.sources.open import open_remote
from gputiles.sources.remote import HttpPlace, Place, StorePlace
from gputiles.sources.wire import Wire

_LIBRARIES = {"s3": "s3fs", "gs": "gcsfs"}
_FRESH = {"use_listings_cache": False, "skip_instance_cache": True}


@dataclass(frozen=True, slots=True)
class RemoteRef:
    """A remote file: the address stands for it; ``place`` reads it."""

    address: str
    place: Place = field(compare=False)
    blocks: Blocks = field(compare=False)

    @property
    def part(self) -> str:
        """The address: versions of files on different servers may be the same text."""
        return self.address

    def open(self, chunk_limit: int, associated: str | None = None) -> Source:
        """Open the file, or the picture of that name in it."""
        return open_remote(self.place, self.blocks, chunk_limit=chunk_limit, associated=associated)


class Remotes:
    """What reads the remote files of an engine, from the prefixes that the configuration allows."""

    def __init__(self, config: Config) -> None:
        self.blocks = Blocks(config.remote_cache)
        self.wire = Wire(config.remote_timeout)
        self.prefixes = tuple(map(normalise, (*config.remote, *config.urls)))
        self._timeout = config.remote_timeout
        self._stores: dict[str, Any] = {}
        self._lock = threading.Lock()

    def find(self, text: str) -> RemoteRef:
        """Return the file at an address that a client names.

        Raises BadRequest where it is none, NotFound where it is not allowed.
        """
        address = normalise(text)
        if not is_allowed(address, self.prefixes):
            raise NotFound(
                f"address: not below a prefix that the setting 'remote' allows; got {text[:200]!r}"
            )
        return self._reference(address, self.allows)

    def trusted(self, text: str) -> RemoteRef:
        """Return the file at an address that the program itself names; redirects stay with its server."""
        address = normalise(text)
        return self._reference(address, partial(is_allowed, prefixes=(*self.prefixes, origin(address))))

    def allows(self, address: str) -> bool:
        """Say whether a normalised address may be read."""
        return is_allowed(address, self.prefixes)

    def _reference(self, address: str, allows: Callable[[str], bool]) -> RemoteRef:
        scheme = address.partition("://")[0]
        place: Place
        if scheme in _LIBRARIES:
            place = StorePlace(address, self._store(scheme), allows, self._timeout)
        else:
            place = HttpPlace(address, self.wire, allows)
        return RemoteRef(address, place, self.blocks)

    def _store(self, scheme: str) -> Any:
        """Return fsspec's file system for a scheme; Unsupported where its library is not installed."""
        with self._lock:
            if scheme not in self._stores:
                self._stores[scheme] = self._open_store(scheme)
            return self._stores[scheme]

    def _open_store(self, scheme: str) -> Any:
        library = _LIBRARIES[scheme]
        try:
            return (self._open_gs if scheme == "gs" else self._open_s3)()
        except ImportError as error:
            raise Unsupported(f"{scheme}:// needs {library}: install gputiles[{scheme}]") from error

    # imported here: few need them, and they take a while

    def _open_s3(self) -> Any:
        limits = {
            "connect_timeout": self._timeout,
            "read_timeout": self._timeout,
            "retries": {"max_attempts": 2},
        }
        return importlib.import_module("fsspec").filesystem("s3", config_kwargs=limits, **_FRESH)

    def _open_gs(self) -> Any:
        """Open gcsfs' plain file system: its other one asks by gRPC of what kind a bucket is."""
        timeout = aiohttp.ClientTimeout(total=self._timeout)
        kind = importlib.import_module("gcsfs.core").GCSFileSystem
        return kind(access="read_only", requests_timeout=timeout, **_FRESH)

    def close(self) -> None:
        """Break off all requests and drop the connections."""
        self.wire.close()
