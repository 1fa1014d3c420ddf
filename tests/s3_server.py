"""An object store that speaks S3: moto's, over real HTTP; it counts what is read of it."""

from __future__ import annotations

import re
import threading
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import botocore.session
from moto.core.models import reset_model_data
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import WSGIRequestHandler, make_server

from tests.gcs_server import SECRET

KEYS = {"key": "AKIAREADER", "secret": "word"}
Start = Callable[[str, list[tuple[str, str]]], Any]


class S3Server:
    """Serves what is ``put``; ``ranges`` are the (key, first, last) that were read, ``calls`` all paths.

    ``manner`` is the status that all is answered with, or ``slow``; ``later`` that of ranges alone.
    """

    scheme = "s3"

    def __init__(self) -> None:
        self.ranges: list[tuple[str, int, int]] = []
        self.calls: list[str] = []
        self.manner = self.later = ""
        self.url = ""
        self.closing = threading.Event()
        self._app = DomainDispatcherApplication(create_backend_app)

    @property
    def configuration(self) -> dict[str, Any]:
        """What users of s3fs give it for such a store."""
        return {"endpoint_url": self.url, **KEYS}

    def put(self, bucket: str, key: str, data: bytes) -> None:
        """Store an object in a bucket, which is made if there is none."""
        session = botocore.session.get_session()
        client = session.create_client(
            "s3", "us-east-1", endpoint_url=self.url, aws_access_key_id="x", aws_secret_access_key="x"
        )
        client.create_bucket(Bucket=bucket)
        client.put_object(Bucket=bucket, Key=key, Body=data)
        client.close()

    def __call__(self, environ: dict[str, Any], start: Start) -> Iterable[bytes]:
        """Answer a request as moto does, or in the ``manner`` that is set (WSGI)."""
        if environ["REQUEST_METHOD"] == "PUT":
            return self._answered(environ, start)
        self.calls.append(environ["PATH_INFO"])
        span = re.fullmatch(r"bytes=(\d+)-(\d+)", environ.get("HTTP_RANGE", ""))
        manner = self.manner or (self.later if span else "")
        if manner == "slow":
            self.closing.wait(60)
        if manner.isdigit():
            return refused(int(manner), environ, start)
        if span:
            key = environ["PATH_INFO"].split("/", 2)[2]
            self.ranges.append((key, int(span[1]), int(span[2])))
        return self._answered(environ, start)

    def _answered(self, environ: dict[str, Any], start: Start) -> Iterable[bytes]:
        answer: Iterable[bytes] = self._app(environ, start)
        return answer


def refused(status: int, environ: dict[str, Any], start: Start) -> Iterable[bytes]:
    """Give an error as S3 tells it: in its text is who asked."""
    code = {403: "AccessDenied", 404: "NoSuchKey", 503: "SlowDown"}.get(status, "Other")
    text = f"<Error><Code>{code}</Code><Message>{SECRET} may not</Message></Error>".encode()
    start(f"{status} Refused", [("Content-Type", "application/xml"), ("Content-Length", str(len(text)))])
    return [] if environ["REQUEST_METHOD"] == "HEAD" else [text]


class _Quiet(WSGIRequestHandler):
    def log(self, type: str, message: str, *args: Any) -> None:
        """Say nothing."""


@contextmanager
def _running(store: S3Server) -> Iterator[None]:
    server = make_server("127.0.0.1", 0, store, threaded=True, request_handler=_Quiet)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    store.url = f"http://127.0.0.1:{server.port}"
    try:
        yield
    finally:
        store.closing.set()
        server.shutdown()
        thread.join()
        server.server_close()
        reset_model_data()


@asynccontextmanager
async def s3_server() -> AsyncIterator[S3Server]:
    """Run a store on a free port of this host; stop and empty it after the block."""
    store = S3Server()
    with _running(store):
        yield store
