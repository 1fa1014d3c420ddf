"""The wire: HTTP requests of reader threads, on an event loop of its own.

fsspec's file system for HTTP follows redirects anywhere and takes a whole file from servers
that know no ranges; here each request is one exchange, bounded in bytes and time.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine, Mapping
from concurrent.futures import CancelledError
from dataclasses import dataclass
from typing import Any, TypeVar

import aiohttp
from yarl import URL

from gputiles.errors import Unavailable

R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class Reply:
    """What a server said. ``body`` is empty unless the status is 206 (or 200 where that was wanted)."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class Wire:
    """A client whose requests take at most ``timeout`` seconds each, from the first byte to the last."""

    def __init__(self, timeout: float) -> None:
        self._timeout = timeout
        self._lock = threading.Lock()
        self._closed = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread
        self._session: aiohttp.ClientSession

    def get(self, address: str, headers: Mapping[str, str], most: int) -> Reply:
        """Ask for an address, without following redirects, and read at most ``most`` bytes of a range.

        Raises Unavailable where there is no answer in time, or a longer one.
        """
        try:
            return self._call(self._get(address, headers, most))
        except TimeoutError as error:
            raise Unavailable(f"{URL(address).host}: no answer within {self._timeout:g} s") from error
        except CancelledError as error:
            raise Unavailable("the remote files are closed") from error
        except (aiohttp.ClientError, OSError) as error:
            raise Unavailable(f"{URL(address).host}: {type(error).__name__}: {error}") from error

    async def _get(self, address: str, headers: Mapping[str, str], most: int) -> Reply:
        url = URL(address, encoded=True)
        async with self._session.get(url, headers=headers, allow_redirects=False) as response:
            body = await _read(response, most) if response.status == 206 else b""
            if response.status != 206:
                response.close()  # whatever comes is not read
            return Reply(response.status, response.headers.copy(), body)

    def _call(self, work: Coroutine[Any, Any, R]) -> R:
        with self._lock:
            if self._closed:
                work.close()
                raise Unavailable("the remote files are closed")
            loop = self._loop or self._start()
            future = asyncio.run_coroutine_threadsafe(work, loop)
        return future.result()

    def _start(self) -> asyncio.AbstractEventLoop:
        loop = self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=loop.run_forever, name="gputiles-wire", daemon=True)
        self._thread.start()
        self._session = asyncio.run_coroutine_threadsafe(self._open(), loop).result()
        return loop

    async def _open(self) -> aiohttp.ClientSession:
        return aiohttp.ClientSession(
            timeout=aiohttp.ClientTimeout(total=self._timeout),
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            headers={"Accept-Encoding": "identity"},
        )

    def close(self) -> None:
        """Break off all requests and end the thread."""
        with self._lock:
            already, self._closed = self._closed, True
        if already or self._loop is None:
            return
        asyncio.run_coroutine_threadsafe(self._end(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _end(self) -> None:
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)
        await self._session.close()


async def _read(response: aiohttp.ClientResponse, most: int) -> bytes:
    parts, size = [], 0
    async for part in response.content.iter_any():
        parts.append(part)
        size += len(part)
        if size > most:
            response.close()
            raise Unavailable(f"{response.url.host}: more than the {most} bytes that were asked for")
    return b"".join(parts)
