"""Processes: servers by their command line, which end with the block, and with this process."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

END = 10  # seconds in which a process may end by itself
TIED = ("setpriv", "--pdeathsig", "TERM")  # the kernel ends it where this process is killed


class Served(NamedTuple):
    """A server: its address, and its process id."""

    base: str
    pid: int


@contextmanager
def started(words: Sequence[str], **options: object) -> Iterator[subprocess.Popen[str]]:
    """Run a command; it is ended with the block, whatever happens in there."""
    process: subprocess.Popen[str] = subprocess.Popen([*TIED, *words], text=True, **options)  # type: ignore[call-overload]
    with process:
        try:
            yield process
        finally:
            process.terminate()
            try:
                process.wait(END)
            except subprocess.TimeoutExpired:
                process.kill()


@contextmanager
def gputiles(
    path: Path, settings: Mapping[str, str] = {}, flags: Sequence[str] = (), errors: Path | None = None
) -> Iterator[Served]:
    """Serve ``path`` by ``gputiles serve``; the block begins when it listens.

    ``flags`` are the interpreter's; what the server says of errors goes into the file ``errors``.
    """
    words = [sys.executable, *flags, "-m", "gputiles", "serve", str(path), "--port", "0"]
    words += [word for name, value in settings.items() for word in (f"--{name}", value)]
    log = errors or Path("/dev/null")
    with log.open("wb") as said, started(words, stdout=subprocess.PIPE, stderr=said) as server:
        assert server.stdout is not None
        line = server.stdout.readline()
        if "http://" not in line:
            raise RuntimeError(f"the server did not start: {line!r}")
        yield Served(line.split()[-1], server.pid)
