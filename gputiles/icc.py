"""ICC profiles: whether an image's colours differ from sRGB, and the tables that bring them there.

LittleCMS (in imagecodecs) is asked once for each profile, intent and depth, in float64; a kernel
applies what it said. Profiles of a curve for each colour and a matrix, as scanners and cameras
have them, become just that: their answers in linear light add up, which is how they are told.
Everything else becomes a grid of ``GRID`` steps on each axis between which the kernel interpolates.

The target is sRGB (IEC 61966-2-1), as in large_image. Called in the reading room.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TypeAlias

import imagecodecs
import numpy as np
from numpy.typing import NDArray

from gputiles.grammar import INTENTS, Style
from gputiles.image import Colour, ImageInfo
from gputiles.recipe import Conversion, ConversionKind

MOST_PROFILE = 1 << 20  # bytes of a profile: those of cameras have kilobytes, of presses half a MiB
GRID = 65
ENCODED = 4097  # stops of linear light to sRGB: straight lines between them are 0.01 levels off
STRAIGHT = 2e-4  # what the sums of a profile of curves and a matrix may be off in linear light
FARTHEST = 100  # a colour that sRGB lacks lies at most about 13 beyond it: its slope at black
SPACES = {Colour.GREY: "gray", Colour.RGB: "rgb", Colour.PALETTE: "rgb"}

Floats: TypeAlias = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a profile is good for: ``problem`` says why it is not; without ``changes`` it is sRGB."""

    changes: bool = False
    problem: str = ""


@lru_cache(maxsize=64)
def judge(profile: bytes, space: str) -> Verdict:
    """Return whether a profile of ``space`` (``rgb``, ``gray``) can be used, and changes anything.

    A profile that leaves all of some thousand colours within a level of 255 counts as sRGB.
    """
    if len(profile) > MOST_PROFILE:
        return Verdict(problem=f"it has {len(profile)} bytes; at most {MOST_PROFILE} are read")
    named = profile[16:20].decode("latin-1").strip() or "nothing"
    if named.lower() != space:
        return Verdict(problem=f"it is for {named}, the image is {space.upper()}")
    colours = _probes(space)
    try:
        answers = [_answers(profile, space, intent, colours) for intent in INTENTS]
    except imagecodecs.CmsError as error:
        return Verdict(problem=f"it is damaged: {error}")
    if not all(np.isfinite(answer).all() for answer in answers):
        return Verdict(problem="it is damaged: it makes colours that are not numbers")
    return Verdict(changes=bool(np.abs(answers[0] - colours).max() > 1.0 / 255))


@lru_cache(maxsize=64)
def shared(profile: bytes) -> bytes:
    """Return a profile that equals ``profile``: the slides of one scanner keep one between them."""
    return profile


def intent_of(style: Style | None) -> str | None:
    """Return the rendering intent that a style asks for; None for no conversion."""
    wanted = True if style is None else style.icc
    return (INTENTS[0] if wanted else None) if isinstance(wanted, bool) else wanted


def conversion(info: ImageInfo, intent: str) -> Conversion:
    """Return how the colours of an image with a profile become sRGB.

    The image is of 8 or 16 bits. Raises ValueError where it has no profile.
    """
    if info.profile is None:
        raise ValueError("an image without a profile has nothing to convert")
    if info.colour is not Colour.GREY and info.colormap is not None:
        return Conversion(ConversionKind.COLORMAP, table=_colormap(info.profile, intent, info.colormap))
    return _tables(info.profile, SPACES[info.colour], intent, top_of(info))


def top_of(info: ImageInfo) -> int:
    """Return the value that is white: the largest of the type, or of the bits that are used."""
    return int((1 << info.significant_bits) - 1 if info.significant_bits else np.iinfo(info.dtype.name).max)


@lru_cache(maxsize=32)
def _tables(profile: bytes, space: str, intent: str, top: int) -> Conversion:
    if space == "gray":
        return _curve(profile, intent, top)
    return _matrix(profile, intent, top) or _grid(profile, intent, top)


def _curve(profile: bytes, intent: str, top: int) -> Conversion:
    """Return the grey of every value; greys stay grey, whatever the white of the paper is."""
    plain = "relative_colorimetric" if intent == "absolute_colorimetric" else intent
    greys = _transform(profile, "gray", plain, _ramp(top)[:, np.newaxis])
    return Conversion(ConversionKind.CURVE, top, curves=_single(greys.T * top))


def _matrix(profile: bytes, intent: str, top: int) -> Conversion | None:
    """Return the profile as a curve for each colour and a matrix, where it is that; else None.

    linear(r, g, b) = offset + Σ column_c · curve_c(value_c), with curves from 0 to 1.
    """
    lights = [_linear(_transform(profile, "rgb", intent, colours)) for colours in _axes(top)]
    offset = lights[0][0]
    columns = np.stack([light[-1] - offset for light in lights], axis=1)
    lengths = (columns**2).sum(axis=0)
    if not lengths.all():
        return None
    curves = [(light - offset) @ columns[:, at] / lengths[at] for at, light in enumerate(lights)]
    if not _adds_up(profile, intent, curves, columns, offset):
        return None
    return Conversion(
        ConversionKind.MATRIX,
        top,
        curves=_single(np.stack(curves)),
        matrix=_single(columns),
        offset=_single(offset),
        table=_single(encoded(np.linspace(0, 1, ENCODED)) * top),
    )


def _axes(top: int) -> list[Floats]:
    """Return the pure reds, greens and blues of every value: (top + 1, 3) each."""
    axes = [np.zeros((top + 1, 3)) for _ in range(3)]
    for axis, colours in enumerate(axes):
        colours[:, axis] = _ramp(top)
    return axes


def _adds_up(profile: bytes, intent: str, curves: list[Floats], columns: Floats, offset: Floats) -> bool:
    """Say whether the light of mixed colours is the sum of the colours' own."""
    top = len(curves[0]) - 1
    probes = np.rint(_probes("rgb") * top)
    values = np.stack([curve[probes[:, axis].astype(int)] for axis, curve in enumerate(curves)])
    expected = _linear(_transform(profile, "rgb", intent, probes / top))
    return bool(np.abs(offset + (columns @ values).T - expected).max() <= STRAIGHT)


def _grid(profile: bytes, intent: str, top: int) -> Conversion:
    """Return the profile's answers at GRID³ colours, red slowest: (GRID, GRID, GRID, 3)."""
    steps = np.linspace(0, 1, GRID)
    colours = np.stack(np.meshgrid(steps, steps, steps, indexing="ij"), axis=-1).reshape(-1, 3)
    answers = _transform(profile, "rgb", intent, colours) * top
    return Conversion(ConversionKind.GRID, top, table=_single(answers.reshape(GRID, GRID, GRID, 3)))


def _colormap(profile: bytes, intent: str, colormap: NDArray[np.uint8]) -> NDArray[np.uint8]:
    levels = np.rint(np.clip(_transform(profile, "rgb", intent, colormap / 255.0), 0, 1) * 255)
    return levels.astype(np.uint8)


def _transform(profile: bytes, space: str, intent: str, colours: Floats) -> Floats:
    """Return ``_answers`` as numbers that single precision can go on with, whatever the profile is."""
    limit = float(FARTHEST)
    answers = _answers(profile, space, intent, colours)
    return np.clip(np.nan_to_num(answers, nan=0, posinf=limit, neginf=-limit), -limit, limit)


def _answers(profile: bytes, space: str, intent: str, colours: Floats) -> Floats:
    """Return (n, 1 or 3) colours 0 … 1 in sRGB, encoded; colours that it lacks lie outside of 0 … 1.

    Raises imagecodecs.CmsError where LittleCMS cannot use the profile.
    """
    grey = space == "gray"
    made: Floats = imagecodecs.cms_transform(
        np.ascontiguousarray(colours[np.newaxis, :, 0] if grey else colours[np.newaxis]),
        profile,
        _srgb(),
        colorspace=space,
        outcolorspace="rgb",
        outdtype="f8",
        intent=INTENTS.index(intent),
    )[0]
    return made[:, 1:2] if grey else made


@lru_cache(maxsize=1)
def _srgb() -> bytes:
    profile: bytes = imagecodecs.cms_profile("srgb")
    return profile


def _ramp(top: int) -> Floats:
    return np.arange(top + 1) / top


def _single(values: Floats) -> NDArray[np.float32]:
    return np.ascontiguousarray(values, np.float32)


@lru_cache(maxsize=2)
def _probes(space: str) -> Floats:
    """Return the colours that a profile is judged by: an even grid and greys, corners included."""
    greys = np.repeat(_ramp(255)[:, np.newaxis], 1 if space == "gray" else 3, axis=1)
    if space == "gray":
        return greys
    steps = np.linspace(0, 1, 13)
    return np.concatenate([greys, np.stack(np.meshgrid(steps, steps, steps), axis=-1).reshape(-1, 3)])


def _linear(encoded: Floats) -> Floats:
    """Return the light of encoded values: IEC 61966-2-1, straight on below 0."""
    bent = ((np.maximum(encoded, 0.04045) + 0.055) / 1.055) ** 2.4
    return np.where(encoded <= 0.04045, encoded / 12.92, bent)


def encoded(light: Floats) -> Floats:
    """Return sRGB's encoded values of light 0 … 1 (IEC 61966-2-1), straight on below 0."""
    bent = 1.055 * np.maximum(light, 0.0031308) ** (1 / 2.4) - 0.055
    return np.where(light <= 0.0031308, light * 12.92, bent)
