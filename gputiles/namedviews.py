"""Named views, as presets keep them: checked, in our words, and whether an image can be shown so.

They have the shape of large_image's ``imageFramePresets`` (a frame, a mode and a style), and ``groups``
of channels beside it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from gputiles import omero, style
from gputiles.errors import BadRequest, BadStyle, NotFound
from gputiles.image import ImageInfo

LONGEST_NAME = 120  # characters
DEEPEST = 16  # objects and lists in each other
KEYS = ("frame", "mode", "style", "groups")
MOST_GROUPS = 200
MOST_CHANNELS = 10_000  # of a group
CHANNELS = 2  # the id of large_image's mode that adds up channels
PRESETS = "imageFramePresets"  # of large_image's configuration


def is_name(name: object) -> bool:
    """Say whether a preset, or a group, may be called so."""
    return isinstance(name, str) and name.strip() != "" and len(name) <= LONGEST_NAME and name.isprintable()


def checked(value: object, place: str = "preset") -> dict[str, Any]:
    """Return the view that a value from JSON or YAML describes, without what says nothing.

    ``place`` says in messages where it stands. Raises BadRequest, with what is wrong.
    """
    if not isinstance(value, dict) or _is_deep(value):
        raise BadRequest(f'{place}: expected a JSON object such as {{"frame": 0, "style": {{"bands": []}}}}')
    kept = {key: value[key] for key in KEYS if value.get(key) is not None}
    frame = kept.get("frame", 0)
    if not isinstance(frame, int) or isinstance(frame, bool) or frame < 0:
        raise BadRequest(f"{place}.frame: expected an integer from 0 on; got {str(frame)[:64]!r}")
    if not isinstance(kept.get("mode", {}), dict):
        raise BadRequest(f"{place}.mode: expected an object; got {str(kept['mode'])[:64]!r}")
    if "style" in kept:
        kept["style"] = _checked_style(kept["style"], place)
    _check_groups(kept.get("groups", []), place)
    return _as_json(kept, place)


def _checked_style(value: Any, place: str) -> Any:
    try:
        told = in_our_words(value)
        style.parse(told)
    except BadStyle as error:
        raise BadStyle(f"{place}.style: {error}") from error
    return told


def _check_groups(groups: object, place: str) -> None:
    if not isinstance(groups, list) or len(groups) > MOST_GROUPS or not all(map(_is_group, groups)):
        raise BadRequest(
            f'{place}.groups: expected at most {MOST_GROUPS} such as {{"name": "T cells", "channels": [1]}} '
            f"with names of at most {LONGEST_NAME} characters; got {str(groups)[:64]!r}"
        )


def _as_json(kept: dict[str, Any], place: str) -> dict[str, Any]:
    """Return a view as JSON gives it back: names are text, numbers finite."""
    try:
        view: dict[str, Any] = json.loads(json.dumps(kept, allow_nan=False))
    except (TypeError, ValueError) as error:
        raise BadRequest(f"{place}: expected texts, finite numbers, lists and objects; {error}") from error
    return view


def in_our_words(value: Any) -> Any:
    """Return a style of large_image's presets with ``autoRange``, percent at each end, as min and max."""
    if not isinstance(value, dict) or not isinstance(value.get("bands"), list):
        return value
    return {**value, "bands": [_ranged(f"bands[{at}]", band) for at, band in enumerate(value["bands"])]}


def _ranged(place: str, band: Any) -> Any:
    if not isinstance(band, dict) or band.get("autoRange") is None:
        return band
    percent = band["autoRange"]
    if not isinstance(percent, int | float) or isinstance(percent, bool) or not 0 <= percent <= 100:
        raise BadStyle(f"{place}.autoRange: expected percent, from 0 to 100; got {str(percent)[:64]!r}")
    rest = {key: entry for key, entry in band.items() if key != "autoRange"}
    return {**rest, "min": f"min:{percent / 100}", "max": f"max:{percent / 100}"}


def _is_group(group: object) -> bool:
    """Say whether a value names channels, by their indexes."""
    if not isinstance(group, dict) or group.keys() != {"name", "channels"} or not is_name(group["name"]):
        return False
    channels = group["channels"]
    return (
        isinstance(channels, list)
        and len(channels) <= MOST_CHANNELS
        and all(type(channel) is int and channel >= 0 for channel in channels)
    )


def _is_deep(value: object) -> bool:
    """Say whether a value is nested more deeply than any preset is."""
    level = [value]
    for _ in range(DEEPEST):
        level = [child for each in level for child in _children(each)]
    return bool(level)


def _children(value: object) -> list[object]:
    if isinstance(value, dict):
        return list(value.values())
    return value if isinstance(value, list) else []


# -- files of presets


def of_file(value: object, name: str) -> dict[str, dict[str, Any]]:
    """Return {name: view} of what a file holds.

    It is a list of presets, or one; large_image's configuration with such a list; or OMERO's rendering
    settings, which become a preset called ``name``. Raises BadRequest where it is none of these, or
    naming the first preset that is impossible.
    """
    if isinstance(value, list) and len(value) == 1 and isinstance(value[0], dict) and PRESETS in value[0]:
        value = value[0]  # as large_image reads a configuration that is a list of one
    settings = omero.settings_of(value) if isinstance(value, Mapping) else None
    if settings is not None:
        value = [{"name": name, "style": {"bands": omero.as_style(settings)["bands"]}}]
    elif isinstance(value, dict):
        value = value.get(PRESETS, [value])
    if not isinstance(value, list) or not value:
        raise BadRequest(f"presets: expected a list of them, or one; got {str(value)[:64]!r}")
    return dict(named(entry, f"presets[{at}]") for at, entry in enumerate(value))


def named(entry: object, place: str) -> tuple[str, dict[str, Any]]:
    """Return the name of a preset of a file, and its view; BadRequest where it has none or is none."""
    name = entry.get("name") if isinstance(entry, dict) else None
    if not isinstance(name, str) or not is_name(name):
        told = f"1 to {LONGEST_NAME} printable characters"
        raise BadRequest(
            f"{place}: each needs a name of {told}, and a frame or a style; got {str(name)[:64]!r}"
        )
    return name, checked(entry, place)


# -- images


def applies(view: Mapping[str, Any], info: ImageInfo) -> bool:
    """Say whether an image has the frame, the channels and the samples that a checked view names.

    large_image's viewer offers a folder's presets for those images alone.
    """
    given, frame = view.get("style") or {}, view.get("frame", 0)
    try:
        info.check_frame(frame)
        style.places(style.parse(given), info, frame)
    except (NotFound, BadStyle):
        return False
    if (view.get("mode") or {}).get("id") != CHANNELS:
        return True
    channels = dict(info.axes).get("C", 1)
    return all(band.delta < channels for band in style.parse(given).bands or ())
