"""``gputiles serve``: the tile server."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from gputiles.commands.options import Address, read_config, settings
from gputiles.commands.serving import serve
from gputiles.places import is_address


class Root(click.Path):
    """A folder or file here, or the address of a file elsewhere."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return a path that exists, or an address as text."""
        remote = isinstance(value, str) and is_address(value)
        return Address().convert(value, param, ctx) if remote else super().convert(value, param, ctx)


@click.command()
@click.argument(
    "roots", metavar="PATH…", nargs=-1, envvar="GPUTILES_ROOTS", type=Root(exists=True, path_type=Path)
)
@settings
def command(roots: tuple[Path | str, ...], **values: Any) -> None:
    """Serve the images under folders and files PATH, or at addresses, over HTTP.

    Every option can also be given as a variable GPUTILES_<NAME> or in a TOML file.
    """
    if not roots and not values["remote"] and not values["girder"]:
        raise click.UsageError("Missing argument 'PATH…': name a folder or file to serve.")
    here = tuple(root.resolve() for root in roots if isinstance(root, Path))
    config = read_config(values, roots=here, urls=tuple(root for root in roots if isinstance(root, str)))
    serve(config, on_ready=_announce)


def _announce(url: str) -> None:
    click.echo(f"gputiles serves {url}")
