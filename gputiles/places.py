"""Addresses of remote files: one spelling for each, and whether a list of prefixes allows them."""

from __future__ import annotations

import re
from collections.abc import Iterable
from urllib.parse import SplitResult, unquote, urlsplit

from gputiles.errors import BadRequest

SCHEMES = ("http", "https", "s3", "gs")
_PORTS = {"http": 80, "https": 443}
_HOST = re.compile(r"[a-z0-9]([a-z0-9._-]{0,252})|\[[0-9a-f:.]{2,45}\]")
_PLAIN = re.compile(r"[!-~]+")  # no spaces, controls or letters that a server may read in two ways
_ALLOWED = f"an address such as https://host/folder/file.tif ({', '.join(SCHEMES)})"


def is_address(text: str) -> bool:
    """Say whether ``text`` is meant as the address of a remote file, not as a path."""
    return re.match(r"[A-Za-z][A-Za-z0-9+.-]*://", text) is not None


def normalise(text: str) -> str:
    """Return an address in the one spelling that is compared: host in lower case, no default port.

    Raises BadRequest for what could be read in two ways or names a user: ``..`` in any
    spelling, encoded slashes, backslashes, a fragment.
    """
    parts = _split(text)
    scheme, host = parts.scheme.lower(), parts.netloc.lower()
    name, _, port = host.rpartition(":") if re.search(r":[0-9]*$", host) else (host, "", "")
    if scheme not in SCHEMES or not _HOST.fullmatch(name) or (port and int(port) > 65_535):
        raise _refusal(text)
    if scheme not in _PORTS and (port or parts.query):
        raise _refusal(text)
    number = f":{int(port)}" if port and int(port) != _PORTS.get(scheme) else ""
    query = f"?{parts.query}" if parts.query else ""
    return f"{scheme}://{name}{number}{_path(text, parts.path)}{query}"


def _split(text: str) -> SplitResult:
    if not _PLAIN.fullmatch(text) or len(text) > 4096 or "\\" in text or "#" in text:
        raise _refusal(text)
    try:
        parts = urlsplit(text)
    except ValueError as error:
        raise _refusal(text) from error
    if "@" in parts.netloc:
        raise _refusal(text)
    return parts


def _path(text: str, path: str) -> str:
    for segment in path.split("/"):
        plain = unquote(unquote(segment))  # some servers decode twice
        if plain in (".", "..") or any(sign in plain for sign in "/\\\0"):
            raise _refusal(text)
    return path or "/"


def _refusal(text: str) -> BadRequest:
    said = re.sub(r"//[^/@]*@", "//…@", text[:200])  # no password into logs and answers
    return BadRequest(
        f"address: expected {_ALLOWED}, without user, fragment, '..' or escaped slashes; got {said!r}"
    )


def is_allowed(address: str, prefixes: Iterable[str]) -> bool:
    """Say whether a normalised address is one of ``prefixes``, or below one of them."""
    path = address.partition("?")[0]
    return any(
        prefix in (address, path) or ("?" not in prefix and path.startswith(prefix.rstrip("/") + "/"))
        for prefix in prefixes
    )


def origin(address: str) -> str:
    """Return scheme, host and port of a normalised address, as a prefix."""
    return "/".join(address.split("/")[:3]) + "/"


def file_name(address: str) -> str:
    """Return what a file is called by its address: no query, which may hold a signature."""
    return unquote(address.partition("?")[0].rstrip("/").rpartition("/")[2]) or address.partition("?")[0]
