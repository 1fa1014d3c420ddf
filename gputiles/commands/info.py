"""``gputiles info``: what an image file holds."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import click

from gputiles.image import ImageInfo
from gputiles.metadata import clean
from gputiles.sources.open import open_source


@click.command()
@click.argument("file", type=click.Path(exists=True, path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print a JSON object.")
def command(file: Path, as_json: bool) -> None:
    """Tell what the image FILE holds: levels, frames, channels, type, pixel size, warnings."""
    with closing(open_source(file)) as source:
        facts = describe(source.info)
    text = json.dumps(facts, indent=2, allow_nan=False) if as_json else "\n".join(_lines(file, facts))
    click.echo(text)


def describe(info: ImageInfo) -> dict[str, Any]:
    """Return the facts about an image, ready for JSON."""
    facts: dict[str, Any] = {
        "format": info.format,
        "width": info.width,
        "height": info.height,
        "tileWidth": info.tile_width,
        "tileHeight": info.tile_height,
        "levels": [_level(info, z) for z in range(info.levels)],
        "dtype": info.dtype.name,
        "significantBits": info.significant_bits,
        "samples": info.samples,
        "colour": info.colour.value,
        "alpha": info.alpha.value,
        "frames": len(info.frames),
        "axes": dict(info.axes),
        "channels": [
            {"name": channel.name, "colour": channel.colour, "window": channel.window}
            for channel in info.channels
        ],
        "mm_x": info.mm_x,
        "mm_y": info.mm_y,
        "magnification": info.magnification,
        "nodata": info.nodata,
        "reduction": info.reduction.value,
        "missingFrames": sorted(info.missing),
        "warnings": list(info.warnings),
    }
    return clean(facts)  # type: ignore[no-any-return]


def _level(info: ImageInfo, z: int) -> dict[str, Any]:
    width, height = info.grid.size(z)
    columns, rows = info.grid.tiles(z)
    return {"z": z, "width": width, "height": height, "tiles": [columns, rows], "stored": info.stored[z]}


def _lines(file: Path, facts: dict[str, Any]) -> Iterator[str]:
    yield f"{click.format_filename(file)}: {facts['format'] or 'image'}"
    yield f"  size      {facts['width']} × {facts['height']} pixels{_scale(facts)}"
    yield f"  pixel     {_pixel(facts)}"
    yield f"  tiles     {facts['tileWidth']} × {facts['tileHeight']}"
    for level in facts["levels"]:
        columns, rows = level["tiles"]
        made = "" if level["stored"] else ", made on request"
        yield f"  level {level['z']:<3} {level['width']} × {level['height']}, {columns} × {rows} tiles{made}"
    axes = ", ".join(f"{name} {length}" for name, length in facts["axes"].items())
    yield f"  frames    {facts['frames']}{f' ({axes})' if axes else ''}"
    for number, channel in enumerate(facts["channels"]):
        window = "" if channel["window"] is None else "  {:g} … {:g}".format(*channel["window"])
        yield f"  channel {number:<2}{channel['name']}  {channel['colour'] or ''}{window}".rstrip()
    if facts["missingFrames"]:
        yield f"  missing   frames {', '.join(map(str, facts['missingFrames']))}"
    for warning in facts["warnings"]:
        yield f"  warning   {warning}"


def _scale(facts: dict[str, Any]) -> str:
    parts = []
    if facts["mm_x"] and facts["mm_y"]:
        parts.append(f"{facts['mm_x'] * 1000:.4g} × {facts['mm_y'] * 1000:.4g} µm each")
    if facts["magnification"]:
        parts.append(f"{facts['magnification']:g}×")
    return f", {', '.join(parts)}" if parts else ""


def _pixel(facts: dict[str, Any]) -> str:
    samples = f"{facts['samples']} × " if facts["samples"] > 1 else ""
    bits = f" ({facts['significantBits']} bits used)" if facts["significantBits"] else ""
    alpha = "" if facts["alpha"] == "none" else f", {facts['alpha']} alpha"
    return f"{samples}{facts['dtype']}{bits}, {facts['colour']}{alpha}"
