"""The description of an image that OMERO.web's ``imgData`` gives."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from gputiles import settings
from gputiles.errors import NotFound
from gputiles.image import ImageInfo
from gputiles.look import AllStatistics
from gputiles.settings import Setting

PIXEL_TYPES = {"float32": "float", "float64": "double", "bool": "bit"}
FLOATS = 2.0**31  # what OMERO takes for the range of floats
BORDER = 2  # pixels between the pictures of a split view


@dataclass(frozen=True, slots=True)
class Subject:
    """What a library knows of an image: the id and the name of its item."""

    id: str
    name: str


def describe(info: ImageInfo, subject: Subject, statistics: AllStatistics) -> dict[str, Any]:
    """Return what OMERO.web says of an image, in its keys; ``statistics`` give the windows.

    What only OMERO's database knows (projects, datasets, authors) is empty. ``tile_size``,
    ``levels`` and ``zoomLevelScaling`` (of each resolution, 0 the full one) are given for
    images of several levels.
    """
    shown = settings.settings(info, statistics)
    result: dict[str, Any] = {
        "id": subject.id,
        "meta": _meta(info, subject),
        "perms": dict.fromkeys(("canAnnotate", "canEdit", "canDelete", "canLink"), False),
        "interpolate": True,
        "size": _size(info, len(shown)),
        "pixel_size": {"x": _micrometres(info.mm_x), "y": _micrometres(info.mm_y), "z": None},
        "pixel_range": _pixel_range(info),
        "channels": [_channel(entry) for entry in shown],
        "split_channel": _split(info, len(shown)),
        "rdefs": {
            "model": settings.model(info),
            "projection": "normal",
            "defaultZ": 0,
            "defaultT": 0,
            "invertAxis": False,
        },
        "tiles": info.levels > 1,
        "init_zoom": 0,
    }
    if info.magnification:
        result["nominalMagnification"] = info.magnification
    return result | _levels(info)


def part(description: dict[str, Any], key: str) -> Any:
    """Return the part of a description that a key such as ``size.z`` names; NotFound without one."""
    found: Any = description
    for name in key.split("."):
        if not isinstance(found, dict) or name not in found:
            raise NotFound(f"imgData: there is no {key[:64]!r}")
        found = found[name]
    return found


def _meta(info: ImageInfo, subject: Subject) -> dict[str, Any]:
    empty = ("imageDescription", "imageAuthor", "projectName", "projectDescription", "datasetName",
             "datasetDescription", "wellSampleId", "wellId")  # fmt: skip
    return {
        "imageName": subject.name,
        "imageId": subject.id,
        "pixelsType": PIXEL_TYPES.get(info.dtype.name, info.dtype.name),
        **dict.fromkeys(empty, ""),
        **dict.fromkeys(("projectId", "datasetId", "imageTimestamp"), None),
    }


def _size(info: ImageInfo, channels: int) -> dict[str, int]:
    axes = dict(info.axes)
    return {
        "width": info.width,
        "height": info.height,
        "z": axes.get("Z", 1),
        "t": axes.get("T", 1),
        "c": channels,
    }


def _micrometres(millimetres: float | None) -> float | None:
    return millimetres * 1000 if millimetres else None


def _pixel_range(info: ImageInfo) -> list[float]:
    """Return what the type holds."""
    if info.dtype.kind not in "iu":
        return [-FLOATS, FLOATS - 1] if info.dtype.kind == "f" else [0, 1]
    limits = np.iinfo(info.dtype.name)
    return [int(limits.min), int(limits.max)]


def _channel(entry: Setting) -> dict[str, Any]:
    return {
        "emissionWave": None,
        "label": entry.label,
        "color": entry.colour,
        "inverted": False,
        "reverseIntensity": False,
        "family": "linear",
        "coefficient": 1,
        "active": entry.active,
        "window": settings.window(entry),
    }


def _split(info: ImageInfo, channels: int) -> dict[str, Any]:
    """Return the grids of a split view: each channel in grey; in colour, and all together."""
    return {"g": _grid(info, channels), "c": _grid(info, channels + 1)}


def _grid(info: ImageInfo, pictures: int) -> dict[str, int]:
    """Return a grid of so many pictures that is about square, at most one column wider than high."""
    rows = round(math.sqrt(pictures))
    columns = rows if rows * rows >= pictures else rows + 1
    return {
        "width": info.width * columns + BORDER * (columns + 1),
        "height": info.height * rows + BORDER * (rows + 1),
        "border": BORDER,
        "gridx": columns,
        "gridy": rows,
    }


def _levels(info: ImageInfo) -> dict[str, Any]:
    if info.levels == 1:
        return {}
    return {
        "tile_size": {"width": info.tile_width, "height": info.tile_height},
        "levels": info.levels,
        "zoomLevelScaling": {str(at): 0.5**at for at in range(info.levels)},
    }
