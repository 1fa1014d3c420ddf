"""Metadata: what is known about an image, in the keys and shapes that large_image gives it."""

from __future__ import annotations

import math
from typing import Any

from gputiles import settings
from gputiles.image import ImageInfo


def describe(info: ImageInfo) -> dict[str, Any]:
    """Return the metadata of an image, ready for JSON.

    ``frames``, ``IndexRange`` and ``IndexStride`` are given for images of several frames;
    ``channels``, ``channelmap`` and ``channelColors`` (``#rrggbb`` or null, in the order
    of ``channels``) where there is a name for every channel; ``channelGroups`` where the file puts
    channels into groups: names, and indexes into ``channels``. ``omero`` is OME-NGFF's block of
    rendering settings, where a style can name the channels. ``iccProfile`` is true where the file
    has a profile that is not sRGB's and can be applied. ``missing`` lists the frames that
    the file promises but lacks.
    """
    result: dict[str, Any] = {
        "levels": info.levels,
        "sizeX": info.width,
        "sizeY": info.height,
        "tileWidth": info.tile_width,
        "tileHeight": info.tile_height,
        "magnification": info.magnification,
        "mm_x": info.mm_x,
        "mm_y": info.mm_y,
        "dtype": info.dtype.name,
        "bandCount": info.samples,
    }
    if len(info.frames) > 1:
        result |= _frames(info)
    result |= _channels(info)
    if settings.has_block(info):
        result["omero"] = settings.block(info)
    if info.profile is not None:
        result["iccProfile"] = True
    if info.missing:
        result["missing"] = sorted(info.missing)
    if info.warnings:
        result["warnings"] = list(info.warnings)
    return clean(result)  # type: ignore[no-any-return]


def clean(value: Any) -> Any:
    """Return ``value`` as JSON can say it: no NaN, no infinity, no text that is not Unicode.

    NumPy numbers become Python's.
    """
    if isinstance(value, dict):
        return {clean(key): clean(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [clean(entry) for entry in value]
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode()
    if hasattr(value, "item"):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def _frames(info: ImageInfo) -> dict[str, Any]:
    names = _names(info)
    frames: list[dict[str, Any]] = []
    index, others = -1, None
    for number, frame in enumerate(info.frames):
        position = [(axis, at) for axis, at in frame.index if axis != "C"]
        if position != others:
            index, others = index + 1, position
        entry: dict[str, Any] = {**dict(frame.extra), "Frame": number, "Index": index}
        entry |= {f"Index{axis}": at for axis, at in frame.index}
        channel = dict(frame.index).get("C")
        if names and channel is not None and channel < len(names):
            entry["Channel"] = names[channel]
        frames.append(entry)
    return {
        "frames": frames,
        "IndexRange": {f"Index{axis}": length for axis, length in info.axes},
        "IndexStride": {f"Index{axis}": stride for axis, stride in info.strides().items()},
    }


def _names(info: ImageInfo) -> list[str]:
    """Return the names of the channels; none unless each channel has one."""
    count = dict(info.axes).get("C", 1)
    return [channel.name for channel in info.channels] if len(info.channels) >= count else []


def _channels(info: ImageInfo) -> dict[str, Any]:
    names = _names(info)
    if not names:
        return {}
    groups = _groups(info)
    return {
        "channels": names,
        **({"channelGroups": groups} if groups else {}),
        "channelmap": {name: position for position, name in reversed(list(enumerate(names)))},
        "channelColors": [channel.colour for channel in info.channels],
    }


def _groups(info: ImageInfo) -> list[dict[str, Any]]:
    """Return the groups that channels are in, those of the first channels first."""
    found: dict[str, list[int]] = {}
    for index, channel in enumerate(info.channels):
        for name in channel.groups:
            found.setdefault(name, []).append(index)
    return [{"name": name, "channels": members} for name, members in found.items()]
