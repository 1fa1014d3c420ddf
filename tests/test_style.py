"""The style grammar: what is accepted, refused and the same; and random styles against the oracle."""

from __future__ import annotations

import importlib.util
import json
from io import BytesIO
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from PIL import Image as Pillow
from PIL import ImageColor

import gputiles
from gputiles import style
from gputiles.errors import BadStyle
from tests.conftest import shared

SAME = [
    ('{"min": 1, "max": 2}', '{ "max":2.0,\n"min":1 }'),
    ('{"palette": "#f00"}', '{"palette": ["#000", "#ff0000"]}'),
    ('{"palette": "#f00"}', '{"palette": "red"}'),
    ('{"min": null}', "{}"),
    ('{"bands": [{"min": 1}]}', '{"min": 1}'),
]
DIFFERENT = [
    ('{"min": 1}', '{"max": 1}'),
    ('{"palette": "G"}', '{"palette": "green"}'),
    ("{}", '{"bands": []}'),
    ('{"bands": [{"frame": 0}, {"frame": 1}]}', '{"bands": [{"frame": 1}, {"frame": 0}]}'),
    ('{"gamma": 2}', '{"gamma": 1}'),
    ('{"opacity": 0.5}', '{"opacity": 1}'),
    ('{"clamp": false}', '{"clamp": true}'),
    ('{"nodata": 0}', "{}"),
]
REFUSED = [
    "", "[", "[]", "3", '"x"',
    '{"min": "x"}', '{"max": "min:x"}', '{"min": 1e400}', '{"min": NaN}', '{"gamma": 0}', '{"gamma": -1}',
    '{"opacity": 2}', '{"palette": "nonsense"}', '{"palette": []}', '{"palette": 7}', '{"scheme": "x"}',
    '{"composite": "x"}', '{"band": 0}', '{"band": -1}', '{"bands": {}}', '{"bands": [3]}',
    '{"dtype": "int7"}', '{"axis": 4}', '{"function": "os.system"}', '{"frame": "x"}',
]  # fmt: skip


@pytest.mark.parametrize(("one", "other"), SAME)
def test_spelling_does_not_make_another_style(one: str, other: str) -> None:
    assert style.parse(one).key == style.parse(other).key
    assert style.parse(one) == style.parse(other)


@pytest.mark.parametrize(("one", "other"), DIFFERENT)
def test_another_meaning_is_another_style(one: str, other: str) -> None:
    assert style.parse(one).key != style.parse(other).key


@pytest.mark.parametrize("text", REFUSED)
def test_what_means_nothing_is_refused_with_a_reason(text: str) -> None:
    with pytest.raises(BadStyle) as refused:
        style.parse(text)
    assert len(str(refused.value)) > 10


@pytest.fixture(scope="module")
def oracle() -> ModuleType:
    path = shared("reference", "style_oracle.py")
    spec = importlib.util.spec_from_file_location("style_oracle", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def random_band(rng: np.random.Generator, frame: int) -> dict[str, Any]:
    ends: list[Any] = ["auto", "min", "max", "full", "min:0.02", "max:0.05", 0, 500, 10000, 20000.5, 65535]
    palettes: list[Any] = [
        "#f00", "#00ff80", ["#000", "#f0f"], ["#fff", "#000"], ["#102030", "#ffe0c0"],
        ["#000", "#f00", "#fff"], ["#0000", "#00ff0080"], ["#123456"],
    ]  # fmt: skip
    band: dict[str, Any] = {
        "frame": frame,
        "min": ends[rng.integers(len(ends))],
        "max": ends[rng.integers(len(ends))],
        "palette": palettes[rng.integers(len(palettes))],
    }
    if rng.random() < 0.2:
        band["scheme"] = "discrete"
    if rng.random() < 0.2:
        band["nodata"] = int(rng.integers(40)) * 128
    if rng.random() < 0.2:
        band["clamp"] = False
    return band


def test_hundreds_of_random_styles_are_within_a_level_of_the_oracle(oracle: ModuleType) -> None:
    yy, xx = np.mgrid[0:512, 0:512]
    first = (xx * 128).astype(np.uint16)
    full = [first, first[::-1, ::-1].copy(), ((xx * 37 + yy * 91) % 4096).astype(np.uint16)]
    tiles = [frame[:256, :256] for frame in full]

    def palette(given: Any) -> np.ndarray[Any, Any]:
        colours = ["#000", given] if isinstance(given, str) else given
        return np.array([ImageColor.getcolor(colour, "RGBA") for colour in colours])

    rng = np.random.default_rng(8)
    with gputiles.open(shared("reference", "golden.ome.tif")) as image:
        for _ in range(300):
            frames = rng.permutation(3)[: rng.integers(1, 4)]
            asked = {"bands": [random_band(rng, int(frame)) for frame in frames]}
            main = int(frames[0])
            png = image.tile(image.info.levels - 1, 0, 0, style=asked, encoding="PNG")
            pixels = np.asarray(Pillow.open(BytesIO(png))).astype(int)
            expected = oracle.to_u8(oracle.composite(tiles, full, main, asked, palette)).astype(int)
            assert np.abs(pixels - expected.reshape(pixels.shape)).max() <= 1, json.dumps(asked)
