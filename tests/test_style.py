"""The style grammar: what is accepted, refused and the same; and random styles against the oracle."""

from __future__ import annotations

import importlib.util
import json
import random
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar

import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray
from PIL import Image as Pillow
from PIL import ImageColor

import gputiles
from gputiles import style
from gputiles.errors import BadStyle
from tests.conftest import SHARED, shared
from tests.twin import Picture, styled

GOLDEN_FILE = SHARED / "reference" / "golden.json"
GOLDEN = list(json.loads(GOLDEN_FILE.read_text())["cases"]) if GOLDEN_FILE.exists() else ["absent"]

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
    ('{"min": "min:0.5"}', '{"min": 0.5}'),
    ('{"min": "auto"}', '{"min": "full"}'),
    ('{"channel": "1"}', '{"channel": 1}'),
    ('{"frame": 1}', '{"framedelta": 1}'),
    ('{"min": 1, "dtype": "uint16"}', '{"min": 1}'),
    ('{"min": 1, "axis": 0}', '{"min": 1, "axis": 1}'),
    ('{"min": 1, "icc": false}', '{"min": 1}'),
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


# -- the way from text to pixels, against the twin


TILE = 128
STYLES = 100  # of each picture


def scene(seed: int, rows: int = 200, columns: int = 300) -> NDArray[np.float64]:
    """Return noise on a slope, 0 … 1, a third of it 0: most values occur, and some often."""
    rng = np.random.default_rng(seed)
    yy, xx = np.mgrid[0:rows, 0:columns]
    light = (xx / columns + yy / rows) / 2 * 0.7 + rng.random((rows, columns)) * 0.3
    return np.where(rng.random((rows, columns)) < 0.3, 0.0, light)


def planes(count: int, top: float, dtype: str) -> Any:
    """Return (rows, columns, count) of ``dtype``, 0 … ``top``."""
    return np.stack([scene(seed) * top for seed in range(count)], axis=2).astype(dtype)


def float_scene() -> Any:
    values = (scene(5) * 40 - 8).astype(np.float32)
    values[20:60, 30:90] = np.nan
    values[100, 100:110], values[101, 100:110] = np.inf, -np.inf
    return values[..., None]


def multiplex_frames() -> tuple[Any, ...]:
    tops = (900.0, 4095.0, 65535.0, 250.0, 30000.0, 12.0)
    return tuple((scene(10 + c) * top).astype(np.uint16)[..., None] for c, top in enumerate(tops))


def signed_scene() -> Any:
    values = (scene(7) * 3000 - 1200).astype(np.int16)
    values[values == -1200] = -32768
    return values[..., None]


NAMES = ("DAPI", "CD3", "Pan CK")
PICTURES = {
    "grey uint8": Picture((planes(1, 255, "uint8"),)),
    "grey and alpha uint8": Picture((planes(2, 255, "uint8"),), alpha=True),
    "RGB uint8": Picture((planes(3, 255, "uint8"),), rgb=True),
    "RGBA uint8": Picture((planes(4, 200, "uint8"),), rgb=True, alpha=True),
    "channels uint16": Picture(multiplex_frames(), channels=NAMES, along_c=3),
    "int16 with nodata": Picture((signed_scene(),), nodata=-32768.0),
    "float32 with NaN": Picture((float_scene(),)),
    "samples uint16": Picture((planes(5, 4095, "uint16"),)),
    "few uint32": Picture((planes(1, 5000, "uint32"),)),
    "many uint32": Picture((planes(1, 4e9, "uint32"),)),
    "int8": Picture(((scene(9) * 250 - 120).astype(np.int8)[..., None],)),
    "float64 of 0 … 1": Picture((planes(1, 1, "float64"),)),
}


def write(path: Path, picture: Picture) -> None:
    """Write a picture as a tiled TIFF with what its meaning needs."""
    options: dict[str, Any] = {"tile": (TILE, TILE), "photometric": "rgb" if picture.rgb else "minisblack"}
    extra = picture.samples - (3 if picture.rgb else 1)
    if extra:
        options |= {"planarconfig": "contig", "extrasamples": [2 if picture.alpha else 0] * extra}
    if picture.nodata is not None:
        options["extratags"] = [(42113, "s", 0, f"{picture.nodata:.0f}", True)]
    data = np.stack(picture.frames).reshape(-1, picture.along_c, *picture.frames[0].shape)
    if picture.channels:
        metadata = {"axes": "ZCYX", "Channel": {"Name": list(picture.channels)}}
        tifffile.imwrite(path, data[..., 0], ome=True, metadata=metadata, **options)
    else:
        tifffile.imwrite(path, data[0, 0] if extra or picture.rgb else data[0, 0, ..., 0], **options)


class Asker:
    """Makes styles as a client may send them, all of which mean something for ``picture``."""

    PALETTES: ClassVar[list[Any]] = [
        None, "#f00", "#0f8c", "white", "RebeccaPurple", "rgb(10, 200, 30)", "rgba(255, 0, 0, 128)",
        "hsl(210, 80%, 40%)", "hsv(120,100%,50%)", "G", "green", "r", "tab:blue", "viridis",
        "matplotlib.Viridis_6", "#fff", "#000", ["#fff", "#000"], ["#102030", "#ffe0c0"],
        ["#000", "#f00", "#fff"], ["#0000", "#00ff0080"], ["#123456"], ["red", [0, 0.5, 0.25], "B"],
        [[0.1, 0.2, 0.3, 0.4], [1, 0.9, 0.8]], ["#000", "#00f", "#0ff", "#ff0", "#f00"], "C2",
    ]  # fmt: skip
    SHARES: ClassVar[list[str]] = ["0", "0.001", "0.02", "0.05", "0.3", "0.5", "0.99", "1"]

    def __init__(self, picture: Picture, seed: int) -> None:
        self.rng = random.Random(seed)
        self.picture = picture

    def maybe(self, share: float) -> bool:
        return self.rng.random() < share

    def style(self) -> str:
        count = self.rng.choice([0, 1, 1, 1, 2, 2, 3, 4]) if self.maybe(0.97) else 9
        top: dict[str, Any] = {"bands": [self.band() for _ in range(count)]}
        if self.maybe(0.2):
            top = self.band()
        if self.maybe(0.02):
            top = {"icc": True}
        if self.maybe(0.15):
            top["dtype"] = self.rng.choice(["uint8", "uint16", "float", "source"])
        if self.maybe(0.1):
            top["axis"] = self.rng.randrange(4)
        return json.dumps(top, indent=self.rng.choice([None, 1]))

    def band(self) -> dict[str, Any]:
        keys: dict[str, tuple[float, Callable[[], Any]]] = {
            "min": (0.8, self.end),
            "max": (0.8, self.end),
            "palette": (0.8, lambda: self.rng.choice(self.PALETTES)),
            "scheme": (0.25, lambda: self.rng.choice(["linear", "discrete", None])),
            "composite": (0.6, lambda: self.rng.choice(["lighten", "multiply", "additive", "screen"])),
            "gamma": (0.3, lambda: self.rng.choice([0.45, 1, "1.5", 2.2, 7])),
            "opacity": (0.3, lambda: self.rng.choice([0, 0.25, "0.5", 0.9, 1])),
            "clamp": (0.25, lambda: self.rng.choice([True, False])),
            "nodata": (0.25, lambda: self.rng.choice([0, self.value(), str(self.value()), 0.5, 1e9, "nan"])),
            "label": (0.1, lambda: "keys that nobody knows mean nothing"),
        }
        entry = {key: make() for key, (share, make) in keys.items() if self.maybe(share)}
        return self.shuffled(self.placed() | entry)

    def placed(self) -> dict[str, Any]:
        """Return which frame and sample a band takes: keys that agree with the picture."""
        picture, rng, entry = self.picture, self.rng, dict[str, Any]()
        frames = len(picture.frames)
        if frames > 1:
            # framedelta counts from the request's frame, which is in the first half
            entry |= rng.choice(
                [{}, {"frame": rng.randrange(frames)}, {"framedelta": rng.randrange(frames // 2)}]
            )
        if picture.channels and self.maybe(0.4):
            entry["channel"] = rng.choice([*picture.channels, 0, "CD3", 2])
        if self.maybe(0.5):
            entry["band"] = rng.choice([*range(1, picture.samples + 1), "gray", "Grey", *self.named(), None])
        return entry

    def named(self) -> list[str]:
        colours = ["red", "green", "blue"] if self.picture.samples >= 3 else []
        return [*colours, *(["alpha"] if self.picture.alpha else [])]

    def end(self) -> Any:
        """Return one end of a window, in any of its notations."""
        word = self.rng.choice(["auto", "min", "max", "number", "number", "share", "share", "full", None])
        if word == "share":
            return f"{self.rng.choice(['auto', 'min', 'max'])}:{self.rng.choice(self.SHARES)}"
        if word == "number":
            number = self.value() + self.rng.choice([0, 0, 0.25, -3, 100])
            return self.rng.choice([number, str(number)])
        return word

    def value(self) -> float:
        """Return a finite value that the picture holds."""
        values = self.rng.choice(self.picture.frames)
        found = float(values[self.rng.randrange(values.shape[0]), self.rng.randrange(values.shape[1]), 0])
        return found if np.isfinite(found) else 1.0

    def shuffled(self, entry: dict[str, Any]) -> dict[str, Any]:
        return dict(self.rng.sample(list(entry.items()), len(entry)))


def padded(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    rows, columns = pixels.shape[:2]
    return np.pad(pixels, ((0, TILE - rows), (0, TILE - columns), (0, 0)))


def png_pixels(data: bytes) -> NDArray[np.uint8]:
    pixels = np.asarray(Pillow.open(BytesIO(data)))
    return pixels.reshape(*pixels.shape[:2], -1)


@pytest.mark.parametrize("name", PICTURES)
def test_a_random_style_gives_the_twins_pixels_bit_for_bit(name: str, tmp_path: Path) -> None:
    picture = PICTURES[name]
    write(tmp_path / "image.tif", picture)
    asker = Asker(picture, seed=len(name))
    rows, columns = picture.frames[0].shape[:2]
    with gputiles.open(tmp_path / "image.tif") as image:
        for _ in range(STYLES):
            text, frame = asker.style(), asker.rng.randrange(-(-len(picture.frames) // 2))
            x, y = asker.rng.randrange(-(-columns // TILE)), asker.rng.randrange(-(-rows // TILE))
            expected = styled(picture, text, frame)[y * TILE :, x * TILE :][:TILE, :TILE]
            png = image.tile(image.info.levels - 1, x, y, frame=frame, style=text, encoding="PNG")
            np.testing.assert_array_equal(png_pixels(png), padded(expected), f"frame {frame}: {text}")


@pytest.mark.parametrize(("low", "high"), [
    (0, 1), (0, 2), (0, 255), (0, 256), (200, 255), (254, 255), (255, 255), (255, 256), (1, 4000),
])  # fmt: skip
def test_auto_is_0_to_255_where_the_values_look_like_8_bits(low: int, high: int, tmp_path: Path) -> None:
    values = np.array([[low, high, (low + high) // 2]] * 3, np.uint16)
    tifffile.imwrite(tmp_path / "image.tif", values, photometric="minisblack")
    text = '{"palette": "#fff"}'
    with gputiles.open(tmp_path / "image.tif") as image:
        pixels = png_pixels(image.tile(0, 0, 0, style=text, edge=True))
    window = (0, 255) if low <= 254 and 2 <= high <= 255 else (low, high)
    explicit = json.dumps({"min": window[0], "max": window[1]})
    picture = Picture((values[..., None],))
    np.testing.assert_array_equal(pixels, styled(picture, text))
    np.testing.assert_array_equal(pixels, styled(picture, explicit))


@pytest.mark.parametrize("text", [
    '{"band": "alpha"}', '{"band": "alpha", "palette": "#fff"}',
    '{"bands": [{"min": 0, "max": 9, "palette": "#f80"}, {"band": "alpha"}]}',
])  # fmt: skip
def test_the_alpha_of_an_image_without_one_is_opaque(text: str, tmp_path: Path) -> None:
    values = np.arange(12, dtype=np.uint16).reshape(3, 4)
    tifffile.imwrite(tmp_path / "image.tif", values, photometric="minisblack")
    with gputiles.open(tmp_path / "image.tif") as image:
        pixels = png_pixels(image.tile(0, 0, 0, style=text, edge=True))
        with pytest.raises(BadStyle, match="this image has no alpha"):
            image.tile(0, 0, 0, style={"band": "alpha", "composite": "lighten"})
    assert pixels.shape == (3, 4, 4)
    np.testing.assert_array_equal(pixels, styled(Picture((values[..., None],)), text))


@pytest.mark.parametrize("name", GOLDEN)
def test_the_twin_gives_the_bytes_that_large_image_gives(name: str) -> None:
    golden = json.loads(shared("reference", "golden.json").read_text())
    case = golden["cases"][name]
    first = (np.mgrid[0:512, 0:512][1] * 128).astype(np.uint16)
    third = ((np.mgrid[0:512, 0:512] * np.array([91, 37])[:, None, None]).sum(axis=0) % 4096).astype(
        np.uint16
    )
    picture = Picture(tuple(plane[..., None] for plane in (first, first[::-1, ::-1], third)), along_c=3)
    pixels = styled(picture, json.dumps(case["style"] or {}))[:256, :256]
    assert list(pixels.shape) == case["shape"]
    assert pixels[golden["row"], golden["columns"]].tolist() == case["values"]
    assert int(pixels.sum(dtype=np.int64)) == case["checksum"]
