"""``gputiles tile``: one rendered tile."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from gputiles.api import Image
from gputiles.api import open as open_image
from gputiles.commands.options import Device
from gputiles.config import Config

_SUFFIXES = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG"}


@click.command()
@click.argument("file", type=click.Path(exists=True, path_type=Path))
@click.argument("z", type=click.INT)
@click.argument("x", type=click.INT)
@click.argument("y", type=click.INT)
@click.option("--style", help="Style as JSON, or @FILE that holds it; without one the default look.")
@click.option(
    "--encoding",
    type=click.Choice(["JPEG", "PNG"], case_sensitive=False),
    help="Format; by default that of OUT's suffix, else JPEG.",
)
@click.option("--quality", type=click.IntRange(1, 100), help="Quality of a JPEG.  [default: 95]")
@click.option("--frame", type=click.IntRange(min=0), help="Show this frame.")
@click.option("--edge", default="false", help="Tiles beyond the image: false (pad), crop, or a colour.")
@click.option("--device", type=Device(), envvar="GPUTILES_DEVICE", help="Compute device.  [default: auto]")
@click.option(
    "-o",
    "--output",
    required=True,
    type=click.Path(dir_okay=False, allow_dash=True, path_type=Path),
    metavar="OUT",
    help="File to write; - is standard output.",
)
def command(file: Path, z: int, x: int, y: int, **options: Any) -> None:
    """Render tile column X, row Y of level Z (0 = coarsest) of the image FILE."""
    device = options["device"]
    with open_image(file, config=Config(device=device) if device else None) as image:
        data = _render(image, (z, x, y), options)
    with click.open_file(str(options["output"]), "wb") as out:
        out.write(data)


def _render(image: Image, place: tuple[int, int, int], options: dict[str, Any]) -> bytes:
    encoding = options["encoding"] or _SUFFIXES.get(options["output"].suffix.lower(), "JPEG")
    return image.tile(
        *place,
        frame=options["frame"],
        style=_read_style(options["style"]),
        encoding=encoding.upper(),
        quality=options["quality"],
        edge=options["edge"],
    )


def _read_style(text: str | None) -> str | None:
    """Return the JSON of a style given as itself or as ``@file``."""
    if text is not None and text.startswith("@"):
        return Path(text[1:]).read_text(encoding="utf-8")
    return text
