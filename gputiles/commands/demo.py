"""``gputiles demo``: a sample image, and a page that shows it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from gputiles.commands.options import read_config, settings
from gputiles.commands.serving import serve
from gputiles.sample import LARGEST, SMALLEST, count_tiles, write_sample
from gputiles.walk import walk


@click.command()
@click.option(
    "--size",
    type=click.IntRange(SMALLEST, LARGEST),
    default=8192,
    show_default=True,
    help="Width and height of the sample in pixels.",
)
@click.option(
    "--dir",
    "folder",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("demo"),
    show_default=True,
    help="Folder that keeps the sample for the next run.",
)
@settings
def command(size: int, folder: Path, **values: Any) -> None:
    """Write a sample image of 8 channels, unless it is there, and serve it."""
    path = (folder / f"sample-{size}.ome.tif").resolve()
    if not path.exists():
        _write(path, size)
    (item,) = walk([path])
    config = read_config(values, roots=(path,))
    serve(config, on_ready=lambda url: click.echo(f"Look at {url.rstrip('/')}/view/{item}"))


def _write(path: Path, size: int) -> None:
    click.echo(f"Writing {path} ({size} × {size} pixels, 8 channels) …")
    with click.progressbar(length=count_tiles(size), label="tiles", update_min_steps=8) as bar:
        write_sample(path, size, progress=bar.update)
    click.echo(f"{path.stat().st_size / 1e6:.0f} MB")
