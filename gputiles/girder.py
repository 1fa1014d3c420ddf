"""A Girder server as the library: whether a caller may see an item, and which file it is.

Girder is asked with the caller's own token, for the item and for its file, so that its
permissions hold. Called in threads that may wait.
"""

from __future__ import annotations

import importlib
import re
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from cachetools import LRUCache

from gputiles.config import Config
from gputiles.errors import Forbidden, NotFound, SignInRequired, Unavailable, Unsupported
from gputiles.places import is_allowed, normalise
from gputiles.remotes import RemoteRef, Remotes
from gputiles.sources.remote import Place, Refused, Stamp, get_range, total
from gputiles.walk import Item, printable

MOST_FILES = 16_384  # whose readers are remembered
MOST_TOKENS = 4  # of one file that are tried to read it
MOST_WAIT = 10.0  # seconds that Girder may take to answer
REMEMBERED = 30.0  # seconds that an answer of Girder counts
_TOKEN = re.compile(r"[!-~]{1,256}")


class Girder:
    """Asks one Girder server; ``config.girder_token`` reads files, and stands in for no caller's."""

    def __init__(self, url: str, config: Config, remotes: Remotes) -> None:
        library, self._no_answer = _libraries()
        self._refused = library.HttpError
        address = normalise(url).rstrip("/")
        self.api = address if address.count("/") > 2 else f"{address}/api/v1"
        self.remotes = remotes
        self.token = config.girder_token or None
        self._wait = min(MOST_WAIT, config.remote_timeout)
        self._client = library.GirderClient(apiUrl=self.api)
        self._files: LRUCache[str, GirderFile] = LRUCache(MOST_FILES)
        self._lock = threading.Lock()

    def ask(self, item_id: str, token: str | None) -> Item:
        """Return the item as the caller with ``token`` (None: anybody) may see it.

        The file is the one that large_image made of it, else its first. Raises SignInRequired,
        Forbidden or NotFound as Girder does, and Unavailable where it does not answer.
        """
        if token is not None and not _TOKEN.fullmatch(token):
            raise SignInRequired("token: expected at most 256 characters without spaces")
        item = self.get(f"item/{item_id}", token)
        large = item.get("largeImage")
        chosen = large.get("fileId") if isinstance(large, dict) else None
        if chosen is None:
            files = self.get(f"item/{item_id}/files", token, limit=1)
            chosen = files[0]["_id"] if files else None
        if chosen is None:
            raise NotFound(f"The item {item_id!r} has no file.")
        return self._item(item_id, item, self.get(f"file/{_identifier(chosen)}", token), token)

    def _item(self, item_id: str, item: dict[str, Any], facts: dict[str, Any], token: str | None) -> Item:
        file = self._file(facts, token)
        ref = RemoteRef(f"{self.api}/file/{file.id}", file, self.remotes.blocks)
        size = int(facts.get("size") or 0)
        return Item(item_id, printable(str(item.get("name", ""))), size, (size, 0, 0, 0), ref)

    def _file(self, facts: dict[str, Any], token: str | None) -> GirderFile:
        """Return what reads a file, from now on also with a token that may."""
        key = _identifier(facts["_id"])
        with self._lock:
            file = self._files.get(key)
            if file is None:
                file = self._files[key] = GirderFile(key, printable(str(facts.get("name", key))), self)
            others = [known for known in file.memory.tokens if known != token]
            file.memory.tokens = (token, *others[: MOST_TOKENS - 1])
        return file

    def get(self, path: str, token: str | None, **parameters: Any) -> Any:
        """Return what Girder answers, as JSON; its refusals as errors of ours."""
        headers = {"Girder-Token": token}
        try:
            return self._client.sendRestRequest(
                "GET", path, parameters, headers=headers, timeout=self._wait, allow_redirects=False
            )
        except self._refused as error:
            raise _refusal(path, error.status) from error
        except (self._no_answer, ValueError) as error:
            raise Unavailable(f"Girder does not answer: {type(error).__name__}") from error

    def allows(self, address: str) -> bool:
        """Say whether Girder may send a reader on to a normalised address."""
        return is_allowed(address, (self.api,)) or self.remotes.allows(address)


def _libraries() -> tuple[Any, type[Exception]]:
    """Return girder-client, imported on first use, and what it raises where nobody answers."""
    try:
        return importlib.import_module("girder_client"), importlib.import_module("requests").RequestException
    except ImportError as error:
        raise Unsupported("a Girder server needs girder-client: install gputiles[girder]") from error


def _identifier(value: Any) -> str:
    if not re.fullmatch(r"[0-9a-f]{24}", str(value)):
        raise Unsupported(f"Girder names a file by {str(value)[:64]!r}; expected 24 hex digits")
    return str(value)


def _refusal(path: str, status: int) -> Exception:
    if status == 401:
        return SignInRequired(f"Girder: {path}: read access is not for everybody; a token is needed")
    if status == 403:
        return Forbidden(f"Girder: {path}: read access is denied")
    if status in (400, 404):  # 400 is what Girder says of ids that do not exist
        return NotFound(f"Girder: there is no {path}")
    return Unavailable(f"Girder answers with status {status}")


@dataclass(slots=True, eq=False)
class Memory:
    """What changes about a file: the tokens that may read it, the latest first, and its version."""

    tokens: tuple[str | None, ...] = ()
    stamp: Stamp | None = None
    seen: float = 0.0


@dataclass(frozen=True, slots=True)
class GirderFile:
    """A file of Girder as a place. Everybody whom Girder lets see it sees the same bytes."""

    id: str
    name: str = field(compare=False)
    girder: Girder = field(compare=False)
    memory: Memory = field(default_factory=Memory, compare=False)

    def look(self) -> Stamp:
        """Return the version that is there now; where Girder is away, the last one for 30 s."""
        try:
            return self._look()
        except Unavailable:
            stamp = self.memory.stamp
            if stamp is None or time.monotonic() - self.memory.seen >= REMEMBERED:
                raise
            return stamp

    def _look(self) -> Stamp:
        began = time.monotonic()
        facts = self._with_token(lambda token: self.girder.get(f"file/{self.id}", token))
        if not isinstance(facts.get("size"), int):
            raise Unsupported(f"{self.name}: Girder does not know the size of the file")
        tag = "/".join(str(facts.get(key)) for key in ("_id", "created", "updated", "sha512"))
        self.memory.stamp, self.memory.seen = Stamp(facts["size"], tag), began
        return self.memory.stamp

    def fetch(self, offset: int, size: int) -> tuple[Stamp, bytes]:
        """Return a range, and the version that is there after it was read."""
        address, wire = f"{self.girder.api}/file/{self.id}/download", self.girder.remotes.wire

        def read(token: str | None) -> bytes:
            headers = {} if token is None else {"Girder-Token": token}
            reply = get_range(wire, address, offset, size, self.girder.allows, headers)
            total(self.name, reply, offset)
            return reply.body

        data = self._with_token(read)
        return self._look(), data

    def beside(self, name: str) -> Place:
        """Refuse: Girder's items are not looked through for others."""
        raise NotFound("is not looked for among Girder's items")

    def _with_token(self, call: Callable[[str | None], Any]) -> Any:
        """Return what ``call`` does with the server's own token, or the first of the callers'."""
        own = () if self.girder.token is None else (self.girder.token,)
        for token in (*own, *self.memory.tokens):
            try:
                return call(token)
            except (SignInRequired, Forbidden, Refused):
                continue
        raise Forbidden(f"{self.name}: Girder lets nobody read it who asked for it lately")
