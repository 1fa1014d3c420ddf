"""``gputiles serve``: the tile server."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from gputiles.commands.serving import serve
from gputiles.commands.settings import read_config, settings


@click.command()
@click.argument(
    "roots", metavar="PATH…", nargs=-1, envvar="GPUTILES_ROOTS", type=click.Path(exists=True, path_type=Path)
)
@settings
def command(roots: tuple[Path, ...], **values: Any) -> None:
    """Serve the images under folders and files PATH over HTTP.

    Every option can also be given as a variable GPUTILES_<NAME> or in a TOML file.
    """
    if not roots:
        raise click.UsageError("Missing argument 'PATH…': name a folder or file to serve.")
    config = read_config(values, roots=tuple(root.resolve() for root in roots))
    serve(config, on_ready=_announce)


def _announce(url: str) -> None:
    click.echo(f"gputiles serves {url}")
