"""Processes: servers by their command line, which end with the block; programs that end by themselves."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from math import ceil
from pathlib import Path
from time import monotonic
from typing import NamedTuple

END = 10  # seconds in which a process may end by itself
SLICE = 1.0  # seconds of waiting between two looks
STANDSTILL = 5.0  # seconds that a slice takes only where the machine, or this process, stood still
AGAIN = 3  # runs of a program, until one goes through
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
    path: Path,
    settings: Mapping[str, str] = {},
    flags: Sequence[str] = (),
    errors: Path | None = None,
    environment: Mapping[str, str] | None = None,
) -> Iterator[Served]:
    """Serve ``path`` by ``gputiles serve``; the block begins when it listens.

    ``flags`` are the interpreter's, ``environment`` is the process's (None: this one's); what the server
    says of errors goes into the file ``errors``.
    """
    words = [sys.executable, *flags, "-m", "gputiles", "serve", str(path), "--port", "0"]
    words += [word for name, value in settings.items() for word in (f"--{name}", value)]
    log = errors or Path("/dev/null")
    with (
        log.open("wb") as said,
        started(words, stdout=subprocess.PIPE, stderr=said, env=environment) as server,
    ):
        assert server.stdout is not None
        line = server.stdout.readline()
        if "http://" not in line:
            raise RuntimeError(f"the server did not start: {line!r}")
        yield Served(line.split()[-1], server.pid)


class StoodStill(RuntimeError):
    """The machine stood still in every run of a program: what it measured is the standstill."""


def output(words: Sequence[str], seconds: float, given: str = "", **options: object) -> str:
    """Return what a program prints that measures something, and ends within ``seconds`` by itself.

    ``given`` is its input, ``options`` are those of Popen. A run in which the machine stood still counts
    for nothing, and the program is run again. Of its time a standstill takes no more than one look.
    Raises RuntimeError where the program fails or does not end, StoodStill where no run went through.
    """
    for _ in range(AGAIN):
        said, whole = _run(words, seconds, given, options)
        if whole:
            return said
    raise StoodStill(f"{words[0]}: the machine stood still in each of {AGAIN} runs")


def _run(words: Sequence[str], seconds: float, given: str, options: Mapping[str, object]) -> tuple[str, bool]:
    """Run a program; return what it prints, and whether nothing stood still meanwhile."""
    whole, pipes = True, dict.fromkeys(("stdout", "stderr"), subprocess.PIPE)
    with tempfile.TemporaryFile("w+") as file:  # a pipe would not be written to after the first look
        file.write(given)
        file.seek(0)
        with started(words, stdin=file, **pipes, **options) as program:
            for _ in range(ceil(seconds / SLICE)):
                began = monotonic()
                found = _look(program)
                whole = whole and monotonic() - began < STANDSTILL
                if found is None:
                    continue
                if program.returncode and whole:
                    raise RuntimeError(f"{words[0]} failed: {''.join(found)[-2000:]}")
                return found[0], whole
    raise RuntimeError(f"{words[0]} did not end within {seconds:g} s")


def _look(program: subprocess.Popen[str]) -> tuple[str, str] | None:
    """Return what a program has printed and said of errors, if it ends within a slice."""
    try:
        return program.communicate(timeout=SLICE)
    except subprocess.TimeoutExpired:
        return None
