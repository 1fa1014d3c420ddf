"""Remote files: HTTP servers with ranges, and object stores through fsspec, as byte sources.

A version is an entity tag (or the time of the last change) with the length. Every range is
of the version that was opened, or the read fails; so nothing of two versions is ever mixed.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Protocol
from urllib.parse import quote, urljoin

from gputiles.errors import BadRequest, Changed, Damaged, GputilesError, NotFound, Unavailable, Unsupported
from gputiles.places import file_name, normalise
from gputiles.sources import athand
from gputiles.sources.blocks import BLOCK, Blocks
from gputiles.sources.bytesource import fitting
from gputiles.sources.wire import Reply, Wire

logger = logging.getLogger(__name__)

MOST_REDIRECTS = 5


@dataclass(frozen=True, slots=True)
class Stamp:
    """The version of a remote file: its length, and its server's word for what it holds."""

    size: int
    tag: str


class Refused(NotFound):
    """A file that its server hands out to others, if at all."""


class Place(Protocol):
    """Where a remote file lies: what reads it. Hashable; called in reader threads."""

    @property
    def name(self) -> str:
        """What the file is called."""

    def look(self) -> Stamp:
        """Return the version that is there now.

        Raises NotFound, Unsupported, or Unavailable with the reason.
        """

    def fetch(self, offset: int, size: int) -> tuple[Stamp, bytes]:
        """Return a range (less at the file's end), and the version that it is of."""

    def beside(self, name: str) -> Place:
        """Return the place of the file of another name in the same folder, there or not.

        Raises NotFound, with the reason, where it may not be read.
        """

    def __hash__(self) -> int: ...


class RemoteSource:
    """A remote file, read in blocks that all sources of an engine share."""

    descriptor = -1

    def __init__(self, place: Place, blocks: Blocks) -> None:
        self.place = place
        self.places = (RemotePath(place),)
        self.name = place.name
        self._blocks = blocks
        self._closed = False
        self.failure: GputilesError | None = None  # of the last read that failed
        self._stamp = place.look()
        self.size = self._stamp.size

    def look_at(self, offset: int, size: int) -> None:
        """Raise NotAtHand: a server may take any time."""
        athand.wait()

    def read_at(self, offset: int, size: int) -> bytes:
        """Return exactly ``size`` bytes from ``offset``; Changed where the file has changed."""
        if self._closed:
            raise Unavailable(f"{self.name}: the file was closed")
        fitting(self, offset, size)
        athand.wait()
        if not size:
            return b""
        first, last = offset // BLOCK, (offset + size - 1) // BLOCK
        try:
            blocks = self._blocks.take((self.place, self._stamp), range(first, last + 1), self._fetch)
        except GputilesError as error:
            self.failure = error
            raise
        skipped = offset - first * BLOCK
        data = blocks[0] if first == last else b"".join(blocks)
        return data[skipped : skipped + size]

    def _fetch(self, offset: int, size: int) -> bytes:
        size = min(size, self.size - offset)
        stamp, data = self.place.fetch(offset, size)
        if stamp != self._stamp:
            raise Changed(f"{self.name}: the file changed since it was opened")
        if len(data) != size:
            raise Unavailable(f"{self.name}: {len(data)} of {size} bytes at {offset} arrived")
        return data

    def is_current(self) -> bool:
        """Say whether the version that was opened is still there."""
        return self.place.look() == self._stamp

    def close(self) -> None:
        """Read no more; the blocks stay until others take their room."""
        self._closed = True


@dataclass(frozen=True, slots=True)
class RemotePath:
    """A remote file among the paths of a source: a version that is looked at now and then."""

    place: Place

    @property
    def name(self) -> str:
        """What the file is called."""
        return self.place.name

    def version(self) -> str:
        """Return the version that is there now, as text. Raises as ``look``."""
        stamp = self.place.look()
        return f"{stamp.size:x}-{stamp.tag}"


@dataclass(frozen=True, slots=True)
class HttpPlace:
    """A file on a server that knows ranges; ``allows`` says where redirects may lead."""

    address: str
    wire: Wire
    allows: Callable[[str], bool]

    @property
    def name(self) -> str:
        """The last part of the path."""
        return file_name(self.address)

    def look(self) -> Stamp:
        """Return the version that is there now: of the first byte, as few servers refuse that."""
        return self.fetch(0, 1)[0]

    def fetch(self, offset: int, size: int) -> tuple[Stamp, bytes]:
        """Return a range and the version that it is of."""
        reply = get_range(self.wire, self.address, offset, size, self.allows, {})
        tag = reply.headers.get("ETag") or reply.headers.get("Last-Modified")
        if tag is None:
            raise Unsupported(
                f"{self.name}: the server tells neither ETag nor Last-Modified: changes would go unseen"
            )
        return Stamp(total(self.name, reply, offset), tag), reply.body

    def beside(self, name: str) -> HttpPlace:
        """Return the place of a neighbour; a query, which may hold a signature, is its as well."""
        return replace(self, address=neighbour(self.address, quote(name, safe=""), self.allows))


def neighbour(address: str, name: str, allows: Callable[[str], bool]) -> str:
    """Return the address of ``name`` in the folder of ``address``; NotFound where it is not allowed."""
    path, mark, query = address.partition("?")
    try:
        found = normalise(f"{path.rpartition('/')[0]}/{name}{mark}{query}")
    except BadRequest:
        found = ""
    if not found or not allows(found):
        raise NotFound("its address is not below an allowed prefix")
    return found


def get_range(
    wire: Wire,
    address: str,
    offset: int,
    size: int,
    allows: Callable[[str], bool],
    headers: Mapping[str, str],
) -> Reply:
    """Ask for a range, at most five redirects on; ``headers`` go to the first server alone.

    Raises NotFound, Unsupported or Unavailable with the reason for any reply but a range.
    """
    name, first = file_name(address), address
    for _ in range(MOST_REDIRECTS + 1):
        own = headers if address == first else {}
        reply = wire.get(address, {**own, "Range": f"bytes={offset}-{offset + size - 1}"}, size)
        if reply.status not in (301, 302, 303, 307, 308):
            check_status(name, reply, offset)
            return reply
        address = _target(name, urljoin(address, reply.headers.get("Location", "")), allows)
    raise Unavailable(f"{name}: the server redirects more than {MOST_REDIRECTS} times")


def _target(name: str, location: str, allows: Callable[[str], bool]) -> str:
    """Return where a redirect leads, if it may."""
    try:
        address = normalise(location)
    except BadRequest:
        address = ""
    if not address.startswith("http") or not allows(address):
        raise NotFound(f"{name}: the server redirects to a place that is not allowed")
    return address


def check_status(name: str, reply: Reply, offset: int) -> None:
    """Raise what a reply other than a range means."""
    status = reply.status
    if status == 206:
        if reply.headers.get("Content-Encoding", "identity") != "identity":
            raise Unsupported(
                f"{name}: the server compresses what it sends: its ranges are no ranges of the file"
            )
    elif status == 200:
        raise Unsupported(f"{name}: the server knows no ranges; such files are not read whole")
    elif status == 416 and offset:
        raise Changed(f"{name}: the file ends before byte {offset}, which it had when it was opened")
    elif status == 416:
        raise Damaged(f"{name}: the file is empty")
    elif status in (401, 403):
        raise Refused(f"{name}: the server does not hand it out (status {status})")
    elif status in (404, 410):
        raise NotFound(f"{name}: the server does not hand it out (status {status})")
    else:
        raise Unavailable(f"{name}: the server answers with status {status}")


def total(name: str, reply: Reply, offset: int) -> int:
    """Return the length of the file of which a reply is a range."""
    said = reply.headers.get("Content-Range", "")
    match = re.fullmatch(r"bytes (\d{1,19})-(\d{1,19})/(\d{1,19})", said)
    if match is None or int(match[1]) != offset or int(match[2]) - offset + 1 != len(reply.body):
        raise Unavailable(f"{name}: asked for bytes from {offset}; got {len(reply.body)} as {said[:80]!r}")
    return int(match[3])


_TAGS = ("ETag", "etag", "generation", "LastModified", "last_modified", "updated", "mtime", "created")


@dataclass(frozen=True, slots=True)
class StorePlace:
    """A file in an object store; ``files`` is fsspec's file system for it.

    ``allows`` says which others may be read. ``timeout`` is the longest time of a request in
    seconds, with all that the store's library does to repeat it.
    """

    address: str
    files: Any
    allows: Callable[[str], bool]
    timeout: float = 30.0

    @property
    def name(self) -> str:
        """The last part of the key."""
        return file_name(self.address)

    def look(self) -> Stamp:
        """Return the version that is there now, past the listings that fsspec keeps."""
        self.files.invalidate_cache()
        facts = self._asked(lambda: self.files.info(self.address, timeout=self.timeout))
        tag = next((str(facts[key]) for key in _TAGS if facts.get(key)), None)
        if facts.get("type") != "file" or tag is None:
            raise NotFound(f"{self.name}: there is no such file in the store")
        return Stamp(int(facts["size"]), tag)

    def fetch(self, offset: int, size: int) -> tuple[Stamp, bytes]:
        """Return a range, and the version that is there after it was read."""
        data = self._asked(lambda: self._range(offset, size))
        return self.look(), data

    def _range(self, offset: int, size: int) -> bytes:
        """Return a range; nothing where the file ends before it, which another version does."""
        try:
            found: bytes = self.files.cat_file(
                self.address, start=offset, end=offset + size, timeout=self.timeout
            )
        except Exception as error:
            if _status(error) == "416":
                return b""
            raise
        return found

    def beside(self, name: str) -> StorePlace:
        """Return the place of a neighbour: keys are spelt as they are."""
        return replace(self, address=neighbour(self.address, name, self.allows))

    def _asked(self, call: Callable[[], Any]) -> Any:
        """Return what the library answers. What it says of failures is logged: it may name accounts."""
        try:
            return call()
        except TimeoutError as error:
            raise Unavailable(f"{self.name}: the store does not answer within {self.timeout:g} s") from error
        except FileNotFoundError as error:
            raise NotFound(f"{self.name}: the store does not hand it out") from error
        except Exception as error:  # each store's library has errors of its own
            status = _status(error)
            if isinstance(error, PermissionError) or status in ("401", "403"):
                raise Refused(f"{self.name}: the store does not hand it out") from error
            logger.warning("%s: the store cannot be read: %s", self.address, error)
            told = f"status {status}" if status else type(error).__name__
            raise Unavailable(f"{self.name}: the store cannot be read: {told}") from error


def _status(error: Exception) -> str:
    """Return the HTTP status in an error of a store's library, if it tells one."""
    if isinstance(error, OSError) and str(error).startswith("Forbidden"):  # gcsfs' word for it
        return "403"
    response = getattr(error.__cause__, "response", None)  # botocore's, of which s3fs makes other errors
    if isinstance(response, dict):
        return str(response.get("ResponseMetadata", {}).get("HTTPStatusCode", ""))
    code = str(getattr(error, "code", ""))
    return code if code.isdigit() else ""
