"""Styles become recipes: what was asked, resolved for one image to numbers and tables."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import NamedTuple

from gputiles import look
from gputiles.entries import Limit
from gputiles.errors import BadStyle
from gputiles.grammar import Band, Style, parse, parse_text
from gputiles.image import Colour, ImageInfo
from gputiles.look import AllStatistics
from gputiles.palettes import BLACK_TO_WHITE, table
from gputiles.ranges import Statistics
from gputiles.recipe import BandRecipe, Blend, Conversion, ConversionKind, Finish, Recipe

__all__ = [
    "AllStatistics", "Band", "Style", "frames_to_measure", "make_recipe", "parse", "parse_text",
    "recipe_at_once",
]  # fmt: skip

_COLOURS = {"red": 0, "green": 1, "blue": 2}
_FIXED = ("value", "full")  # ends of a window that are what they are, whatever the values


class _Target(NamedTuple):
    """A band entry with the frame and the sample that it means in an image."""

    band: Band
    frame: int
    sample: int


def frames_to_measure(
    style: Style | None, info: ImageInfo, frame: int, *, single: bool = False
) -> tuple[int, ...]:
    """Return the frames whose statistics ``make_recipe`` needs; most styles need none.

    Raises as ``make_recipe`` does.
    """
    info.check_frame(frame)
    if style is None:
        return look.frames_to_measure(info, frame, single)
    return _measured(_targets(style, info, frame))


def _measured(targets: Sequence[_Target]) -> tuple[int, ...]:
    """Return the frames of those with a window that depends on the values."""
    return _unique(
        frame for band, frame, _ in targets if band.low.word not in _FIXED or band.high.word not in _FIXED
    )


def places(style: Style, info: ImageInfo, frame: int) -> list[tuple[int, int]]:
    """Return the (frame, sample) whose values each band of ``style`` shows, 0-based."""
    return [(target.frame, target.sample) for target in _targets(style, info, frame)]


def recipe_at_once(
    style: Style | None, info: ImageInfo, frame: int, *, single: bool = False
) -> Recipe | None:
    """Return what ``make_recipe`` does where it needs no statistics, else None. Raises as it does."""
    if style is None or style.bands is None:
        needed = frames_to_measure(style, info, frame, single=single)
        return None if needed else make_recipe(style, info, frame, {}, single=single)
    info.check_frame(frame)
    targets = _targets(style, info, frame)
    return None if _measured(targets) else _composite(style, info, frame, targets, {})


def make_recipe(
    style: Style | None,
    info: ImageInfo,
    frame: int,
    statistics: AllStatistics,
    *,
    single: bool = False,
    icc: Conversion | None = None,
) -> Recipe:
    """Return what ``style`` means for ``frame`` of an image.

    None is the default look; ``single`` limits it to the frame's own channel.
    ``statistics`` has what ``frames_to_measure`` named, of values that went through ``icc``.
    Raises NotFound where a frame does not exist, BadStyle where a band or channel does not.
    """
    recipe = _plain_recipe(style, info, frame, statistics, single)
    if icc is None:
        return recipe
    if icc.kind is not ConversionKind.COLORMAP:
        return replace(recipe, icc=icc)
    return recipe if recipe.colormap is None else replace(recipe, colormap=icc.table)


def _plain_recipe(
    style: Style | None, info: ImageInfo, frame: int, statistics: AllStatistics, single: bool
) -> Recipe:
    """Return the recipe of values as they are stored."""
    info.check_frame(frame)
    if style is None:
        return look.make_recipe(info, frame, statistics, single)
    if style.bands is None:
        return look.unstyled(info, frame)
    return _composite(style, info, frame, _targets(style, info, frame), statistics)


def _composite(
    style: Style, info: ImageInfo, frame: int, targets: Sequence[_Target], statistics: AllStatistics
) -> Recipe:
    """Return the recipe of a style's bands."""
    entries = style.bands or ()
    frames = _unique(target.frame for target in targets) or (_main_frame(entries, info, frame),)
    bands = tuple(_recipe(target, info, statistics.get(target.frame, ())) for target in targets)
    samples = 1 if style.axis is None and _is_grey(entries, info) else 4
    return Recipe(frames, bands, samples, _finish(style.dtype, info), style.axis)


def _unique(numbers: Iterable[int]) -> tuple[int, ...]:
    return tuple(dict.fromkeys(numbers))


def _main_frame(bands: Sequence[Band], info: ImageInfo, frame: int) -> int:
    """Return the frame that bands without one mean: the first band's if all bands have one."""
    named = [band.frame for band in bands if band.frame is not None]
    main = named[0] if named and len(named) == len(bands) else frame
    info.check_frame(main)
    return main


def _targets(style: Style, info: ImageInfo, frame: int) -> list[_Target]:
    bands = style.bands or ()
    main = _main_frame(bands, info, frame)
    found = [_target(f"bands[{index}].", band, info, main) for index, band in enumerate(bands)]
    return [target for target in found if target is not None]


def _target(place: str, band: Band, info: ImageInfo, main: int) -> _Target | None:
    """Return where a band entry's values are; None for the alpha of an image without any.

    Such an image is opaque, and multiplying by that changes nothing.
    """
    frame = main + band.delta if band.frame is None else band.frame
    info.check_frame(frame)
    sample: int | None = None
    if band.channel is not None:
        frame, sample = _channel(place, band.channel, info, frame)
    if band.band is not None or sample is None:
        sample = _sample(place, band.band, info)
    if sample is None and band.blend is Blend.MULTIPLY:
        return None
    if sample is None:
        raise BadStyle(f"{place}band: this image has no alpha")
    return _Target(band, frame, sample)


def _sample(place: str, band: int | str | None, info: ImageInfo) -> int | None:
    """Return the 0-based sample that ``band`` means; None for an alpha that does not exist."""
    if band is None or band == "gray":
        return 0 if info.samples <= 2 else 1
    if band == "alpha":
        return look.alpha_sample(info)
    sample = _COLOURS[band] if isinstance(band, str) else band - 1
    if sample >= info.samples or (isinstance(band, str) and info.samples < 3):
        allowed = f"1 … {info.samples}" if info.samples > 1 else "1"
        raise BadStyle(f"{place}band: this image has the bands {allowed}; got {band!r}")
    return sample


def _channel(place: str, channel: int | str, info: ImageInfo, frame: int) -> tuple[int, int | None]:
    """Return the frame (at the other positions of ``frame``) and sample of a channel.

    The sample is None where channels are frames: the band says which. Colour images without
    an axis of channels have three, by index: red, green and blue.
    """
    count = look.channel_count(info)
    if info.colour is Colour.RGB and count == 1 and channel in _COLOURS.values():
        return frame, int(channel)
    names = [entry.name for entry in info.channels[:count]]
    index = names.index(channel) if isinstance(channel, str) and channel in names else channel
    if isinstance(index, str) or index >= count:
        known = ", ".join(map(repr, names[:100])) or "none with a name"
        raise BadStyle(f"{place}channel: expected an index below {count} or one of {known}; got {channel!r}")
    return look.channel_place(info, frame, index)


def _is_grey(bands: Sequence[Band], info: ImageInfo) -> bool:
    """Tell whether the picture needs one component only: one band, black to white."""
    return (
        len(bands) == 1
        and bands[0].band != "alpha"
        and info.samples == 1
        and bands[0].palette == BLACK_TO_WHITE
    )


def _finish(dtype: str | None, info: ImageInfo) -> Finish:
    if dtype == "source":
        dtype = "float" if info.dtype.kind == "f" else info.dtype.name
    return {"uint16": Finish.UINT16, "float": Finish.FLOAT}.get(dtype or "", Finish.UINT8)


def _recipe(target: _Target, info: ImageInfo, statistics: Sequence[Statistics]) -> BandRecipe:
    band = target.band
    own = statistics[target.sample] if statistics else None
    plain = _is_8_bit(statistics)
    return BandRecipe(
        frame=target.frame,
        sample=target.sample,
        low=_resolve("min", band.low, own, plain, info),
        high=_resolve("max", band.high, own, plain, info),
        palette=table(band.palette, band.discrete, band.gamma),
        discrete=band.discrete,
        blend=band.blend,
        opacity=band.opacity,
        clamp=band.clamp,
        nodata=info.nodata if band.nodata is None else band.nodata,
    )


def _is_8_bit(statistics: Sequence[Statistics]) -> bool:
    """Tell whether all samples look as if they used the range 0 … 255."""
    ends = [(entry.low, entry.high) for entry in statistics]
    return all(
        low is not None and high is not None and 0 <= low <= 254 and 2 <= high <= 255 for low, high in ends
    )


def _resolve(side: str, limit: Limit, own: Statistics | None, plain: bool, info: ImageInfo) -> float:
    """Return the number of one end of a window, ``side`` min or max."""
    floor, top = 0.0, look.full_range(info)
    if limit.word == "value":
        return limit.number
    if limit.word == "full" or (limit.word == "auto" and plain):
        return floor if side == "min" else top if limit.word == "full" else 255.0
    which = side if limit.word == "auto" else limit.word
    found = None
    if own is not None:
        found = own.threshold(limit.number, which == "max") if limit.number else own.extreme(which)
    if found is None:
        return floor if which == "min" else top
    return found
