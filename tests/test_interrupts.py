"""Interrupts put off: what comes in a block that must not stay half done is done at its end."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import pytest

from gputiles.interrupts import disturbed, undisturbed

BOTH = (signal.SIGINT, signal.SIGALRM)
pytestmark = pytest.mark.usefixtures("interruptible")


def interrupt(number: int = signal.SIGINT) -> None:
    os.kill(os.getpid(), number)
    for _ in range(1000):  # in which Python would raise it
        pass


@pytest.fixture
def terminated() -> Iterator[list[int]]:
    """The numbers of signals that a handler which raises nothing was called with."""
    came: list[int] = []
    before = signal.signal(signal.SIGTERM, lambda number, _: came.append(number))
    yield came
    signal.signal(signal.SIGTERM, before)


@pytest.mark.parametrize("number", BOTH)
def test_an_interrupt_waits_for_the_end_of_what_must_not_stay_half_done(number: int) -> None:
    done: list[str] = []

    def block() -> None:
        with undisturbed():
            interrupt(number)
            done.append("all of it")

    with pytest.raises(KeyboardInterrupt):
        block()
    assert done == ["all of it"]
    assert signal.getsignal(number) is signal.default_int_handler
    with undisturbed():
        done.append("nothing came")
    with pytest.raises(KeyboardInterrupt):
        interrupt(number)


def test_every_handler_is_called_whatever_another_raises(terminated: list[int]) -> None:
    def block() -> None:
        with undisturbed():
            interrupt()
            interrupt(signal.SIGTERM)
            assert not terminated

    with pytest.raises(KeyboardInterrupt):
        block()
    assert terminated == [signal.SIGTERM]


def test_what_a_block_dies_of_is_told_with_the_interrupt() -> None:
    def block() -> None:
        with undisturbed():
            interrupt()
            raise LookupError

    with pytest.raises(KeyboardInterrupt) as raised:
        block()
    assert isinstance(raised.value.__context__, LookupError)


def test_a_block_within_another_ends_nothing() -> None:
    done: list[str] = []

    def block() -> None:
        with undisturbed():
            with undisturbed():
                interrupt()
            done.append("outer")

    with pytest.raises(KeyboardInterrupt):
        block()
    assert done == ["outer"]


@pytest.mark.parametrize("before", [True, False])
def test_who_waits_in_such_a_block_is_disturbed(before: bool) -> None:
    done: list[str] = []

    def block() -> None:
        with undisturbed():
            if before:
                interrupt()
            done.append("first")
            try:
                with disturbed():
                    interrupt()
                    done.append("waited on")
            finally:
                with suppress(KeyboardInterrupt):
                    interrupt()
                    done.append("last")

    with pytest.raises(KeyboardInterrupt):
        block()
    assert done == ["first", "last"]


def test_a_handler_that_is_called_there_is_not_disturbed_itself(terminated: list[int]) -> None:
    """It may ask for tiles, too."""

    def asks(*_: object) -> None:
        with undisturbed():
            interrupt(signal.SIGTERM)
            assert not terminated
        assert terminated == [signal.SIGTERM]

    signal.signal(signal.SIGALRM, asks)
    with undisturbed():
        with disturbed():
            interrupt(signal.SIGALRM)
        assert terminated == [signal.SIGTERM]
        interrupt(signal.SIGTERM)
        assert len(terminated) == 1
    assert len(terminated) == 2
    assert signal.getsignal(signal.SIGALRM) is asks


def test_what_has_no_handler_in_python_is_left_as_it_is() -> None:
    signal.signal(signal.SIGALRM, signal.SIG_IGN)
    with undisturbed():
        assert signal.getsignal(signal.SIGALRM) is signal.SIG_IGN
        assert signal.getsignal(signal.SIGINT) is not signal.default_int_handler
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_other_threads_than_the_main_one_are_not_interrupted_anyway() -> None:
    def inside() -> list[object]:
        with undisturbed(), disturbed():
            return [signal.getsignal(number) for number in BOTH]

    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(inside).result(10) == [signal.default_int_handler] * 2
        with undisturbed():
            assert signal.default_int_handler not in pool.submit(inside).result(10)


FORKED = """
import os, signal, threading
from gputiles.interrupts import undisturbed

def fork():
    pid = os.fork()
    if not pid:
        os._exit(signal.getsignal(signal.SIGINT) is not signal.default_int_handler)
    print(os.waitpid(pid, 0)[1], flush=True)

signal.signal(signal.SIGINT, signal.default_int_handler)
with undisturbed():
    thread = threading.Thread(target=fork)
    thread.start()
    thread.join()
"""


def test_what_another_thread_forks_meanwhile_has_its_own_handlers() -> None:
    done = subprocess.run([sys.executable, "-c", FORKED], capture_output=True, text=True, timeout=60)
    assert done.stdout == "0\n", done.stderr
    assert threading.current_thread() is threading.main_thread()
