"""Serving until told to stop."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Callable

from gputiles.app import run
from gputiles.config import Config


def serve(config: Config, on_ready: Callable[[str], None]) -> None:
    """Run the server until the terminal's Ctrl-C or a SIGTERM; both are a normal end.

    ``on_ready`` gets the base URL. Raises OSError where the address cannot be listened on.
    """
    signal.signal(signal.SIGTERM, lambda *_: signal.raise_signal(signal.SIGINT))
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore it
    with contextlib.suppress(KeyboardInterrupt):
        run(config, on_ready)
