"""OME-Zarr's attributes (NGFF 0.1 to 0.5): which arrays are an image, its axes, channels, pixel sizes."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from gputiles.errors import Damaged, Unsupported
from gputiles.image import Channel

_AXES = "tczyx"  # in versions before 0.3, which do not name them
_MM = {
    "nanometer": 1e-6, "micrometer": 1e-3, "millimeter": 1.0, "centimeter": 10.0, "meter": 1000.0,
    "angstrom": 1e-7, "micron": 1e-3, "nm": 1e-6, "um": 1e-3, "µm": 1e-3, "mm": 1.0, "cm": 10.0, "m": 1000.0,
}  # fmt: skip
_COLOUR = re.compile(r"[0-9A-Fa-f]{6}")
_MOST_LEVELS = 64
_MOST_CHANNELS = 10_000


@dataclass(frozen=True, slots=True)
class Multiscale:
    """An image: the names of its axes, the paths of its levels, finest first, and its pixels' size."""

    axes: str
    paths: tuple[str, ...]
    mm_x: float | None
    mm_y: float | None
    channels: tuple[Channel, ...]
    label: bool
    version: str
    warnings: tuple[str, ...]


def read_multiscale(name: str, attributes: Mapping[str, Any]) -> Multiscale | None:
    """Return the first image that a group's attributes describe, None where they describe none.

    Raises Damaged or Unsupported with the reason: of a plate, what is to be opened instead.
    """
    _refuse_plates(name, attributes)
    found = attributes.get("multiscales")
    if found is None:
        return None
    scales = _objects(name, found, "multiscales")
    if not scales:
        raise Damaged(f"{name}: multiscales: expected at least one")
    first = scales[0]
    datasets = _objects(name, first.get("datasets"), "datasets")
    if not 1 <= len(datasets) <= _MOST_LEVELS:
        raise Damaged(f"{name}: datasets: expected 1 to {_MOST_LEVELS}; got {len(datasets)}")
    axes, units = _axes(name, first.get("axes"))
    mm_y, mm_x = _sizes(axes, units, (first, datasets[0]))
    further = [f"{len(scales) - 1} further multiscales are not shown"] if len(scales) > 1 else []
    channels, problems = _channels(attributes.get("omero"))
    return Multiscale(
        axes=axes,
        paths=tuple(safe_path(name, dataset.get("path")) for dataset in datasets),
        mm_x=mm_x,
        mm_y=mm_y,
        channels=channels,
        label="image-label" in attributes,
        version=str(attributes.get("version") or first.get("version") or ""),
        warnings=(*further, *problems),
    )


def _refuse_plates(name: str, attributes: Mapping[str, Any]) -> None:
    plate, well = attributes.get("plate"), attributes.get("well")
    if plate is not None:
        path = _first_path(plate, "wells")
        raise Unsupported(f"{name}: a plate of many images; open a field of a well, such as {name}/{path}/0")
    if well is not None:
        path = _first_path(well, "images")
        raise Unsupported(f"{name}: a well of many images; open one of its fields, such as {name}/{path}")


def _first_path(value: Any, key: str) -> str:
    members = value.get(key) if isinstance(value, dict) else None
    first = members[0] if isinstance(members, list) and members else None
    return str(first.get("path"))[:80] if isinstance(first, dict) else "A/1" if key == "wells" else "0"


def _objects(name: str, value: Any, what: str) -> list[dict[str, Any]]:
    if not isinstance(value, list) or not all(isinstance(each, dict) for each in value):
        raise Damaged(f"{name}: {what}: expected a list of objects; got {str(value)[:80]!r}")
    return value


def safe_path(name: str, value: Any) -> str:
    """Return a path below the group. Raises Damaged for any other."""
    parts = value.split("/") if isinstance(value, str) else []
    if not parts or any(part in ("", ".", "..") or "\0" in part for part in parts) or len(value) > 1000:
        raise Damaged(f"{name}: path: expected one below the group; got {str(value)[:80]!r}")
    return str(value)


def _axes(name: str, value: Any) -> tuple[str, dict[str, float | None]]:
    """Return the axes by their letters, and {letter: millimetres of its unit}."""
    if value is None:
        return _AXES, {}
    named = [each if isinstance(each, dict) else {"name": each} for each in value if value] or [{}]
    letters = [str(each.get("name")).lower() for each in named]
    allowed = set(letters) <= set(_AXES) and len(set(letters)) == len(letters)
    if not allowed or letters[-2:] != ["y", "x"]:
        raise Unsupported(
            f"{name}: axes {','.join(letters)[:80]!r} are not read; some of t, c, z, and y, x at the end are"
        )
    return "".join(letters), {
        letter: _MM.get(str(each.get("unit"))) for letter, each in zip(letters, named, strict=True)
    }


def _sizes(
    axes: str, units: Mapping[str, float | None], holders: Sequence[Mapping[str, Any]]
) -> tuple[float | None, float | None]:
    """Return millimetres of a pixel down and across: the product of the scales that are given."""
    scale = [1.0] * len(axes)
    told = False
    for holder in holders:
        transformations = holder.get("coordinateTransformations")
        for each in transformations if isinstance(transformations, list) else ():
            values = each.get("scale") if isinstance(each, dict) else None
            if isinstance(values, list) and len(values) == len(axes) and all(map(_is_size, values)):
                scale = [one * other for one, other in zip(scale, values, strict=True)]
                told = True
    sizes = [
        factor * unit if told and unit is not None and math.isfinite(factor * unit) else None
        for factor, unit in ((scale[axes.index(letter)], units.get(letter)) for letter in "yx")
    ]
    return sizes[0], sizes[1]


def _is_size(value: Any) -> bool:
    return type(value) in (int, float) and 0 < value < 1e12


def _channels(omero: Any) -> tuple[tuple[Channel, ...], list[str]]:
    """Return the channels of the block omero, and what is wrong with it."""
    if omero is None:
        return (), []
    listed = omero.get("channels") if isinstance(omero, dict) else None
    if not isinstance(listed, list) or len(listed) > _MOST_CHANNELS:
        return (), ["the channels (omero) cannot be used: expected a list of objects"]
    return tuple(
        _channel(index, each if isinstance(each, dict) else {}) for index, each in enumerate(listed)
    ), []


def _channel(index: int, found: Mapping[str, Any]) -> Channel:
    label, colour, window = found.get("label"), found.get("color"), found.get("window")
    name = label if isinstance(label, str) and label else f"Channel {index}"
    hexes = colour if isinstance(colour, str) and _COLOUR.fullmatch(colour) else None
    active = found.get("active") is not False
    return Channel(name, f"#{hexes.lower()}" if hexes else None, _window(window), active=active)


def _window(window: Any) -> tuple[float, float] | None:
    if not isinstance(window, dict):
        return None
    low, high = (_finite(window.get(key)) for key in ("start", "end"))
    return (low, high) if low is not None and high is not None and low < high else None


def _finite(value: Any) -> float | None:
    return float(value) if type(value) in (int, float) and abs(value) < 1e300 else None
