"""The commands of the command line, one module each, loaded when it is their turn.

This is the one place that loads them: a command's module may import all that the command
needs, and ``gputiles --help`` still answers at once.
"""

from __future__ import annotations

import errno
import gc
import importlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import click

import gputiles
from gputiles.errors import BadRequest, DeviceLost, GputilesError, Unavailable

COMMANDS = {
    "serve": "Serve the images under folders and files over HTTP.",
    "demo": "Write a sample image, unless it is there, and serve it.",
    "info": "Tell what an image file holds.",
    "tile": "Render one tile of an image file.",
    "doctor": "Check that gputiles works on this machine.",
}


class Lost(click.ClickException):
    """The device failed for good: a supervisor should start the process anew."""

    exit_code = 75  # EX_TEMPFAIL of sysexits.h


class Commands(click.Group):
    """A group that loads its commands late and turns expected errors into one line."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names of all commands, in the order of the help page."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Load the module of a command; None where there is no such command."""
        if cmd_name not in COMMANDS:
            return None
        with _all_kept():
            command: click.Command = importlib.import_module(f"gputiles.commands.{cmd_name}").command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the list of commands without loading them."""
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command. An error of the user's or the machine's becomes its message."""
        try:
            return super().invoke(ctx)
        except BadRequest as error:
            raise click.UsageError(str(error)) from error
        except DeviceLost as error:
            raise Lost(str(error)) from error
        except GputilesError as error:
            raise click.ClickException(_describe(error)) from error
        except OSError as error:
            if error.errno == errno.EPIPE:  # the reader of our output left: click ends quietly
                raise
            raise click.ClickException(_describe_os(error)) from error


@contextmanager
def _all_kept() -> Iterator[None]:
    """Collect no garbage meanwhile, nor later walk over what there is then: what modules make stays."""
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()


def _describe(error: GputilesError) -> str:
    hint = " (try again)" if isinstance(error, Unavailable) else ""
    return f"{error}{hint}"


def _describe_os(error: OSError) -> str:
    """Return an operating system's error as ``file: reason``."""
    reason = error.strerror or str(error)
    return f"{error.filename}: {reason}" if error.filename is not None else reason


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(gputiles.__version__, message="%(prog)s %(version)s")
def cli() -> None:
    """Serve tiles of very large images, styled on request."""
