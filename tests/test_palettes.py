"""Palettes and colours: every notation, what it becomes, and what is refused with which words."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from cmap import Colormap
from hypothesis import given
from hypothesis import strategies as some
from PIL import ImageColor

from gputiles.colours import CSS, parse_colour, parse_matplotlib
from gputiles.errors import BadStyle
from gputiles.palettes import BLACK_TO_WHITE, GAMMA_STOPS, MOST_COLOURS, parse_palette, table

BLACK, CLEAR, WHITE = (0.0, 0.0, 0.0, 255.0), (0.0, 0.0, 0.0, 0.0), (255.0, 255.0, 255.0, 255.0)
byte = some.integers(0, 255)
percent = some.integers(0, 100)

# -- colours


@pytest.mark.parametrize("name", sorted(ImageColor.colormap))
def test_a_css_name_is_the_colour_that_pillow_knows_in_any_case(name: str) -> None:
    expected = ImageColor.getcolor(name, "RGBA")
    assert parse_colour(name) == parse_colour(name.title()) == expected


def test_css_has_no_names_but_pillows_and_transparent() -> None:
    assert CSS.keys() - ImageColor.colormap.keys() == {"transparent"}
    assert parse_colour("transparent") == CLEAR


@pytest.mark.parametrize(("text", "expected"), [
    ("G", (0, 255, 0, 255)), ("GREEN", (0, 255, 0, 255)), ("green", (0, 128, 0, 255)),
    ("Green", (0, 128, 0, 255)),
    ("R", (255, 0, 0, 255)), ("RED", (255, 0, 0, 255)), ("B", (0, 0, 255, 255)), ("BLUE", (0, 0, 255, 255)),
    ("#1a2", (0x11, 0xAA, 0x22, 255)), ("#1A2b", (0x11, 0xAA, 0x22, 0xBB)),
    ("#102030", (16, 32, 48, 255)), ("#10203040", (16, 32, 48, 64)),
    ("rgb(1,2,3)", (1, 2, 3, 255)), ("RGB( 1 , 2 , 3 )", (1, 2, 3, 255)),
    ("rgb(100%, 0%, 50%)", (255, 0, 128, 255)),
    ("rgba(1,2,3,128)", (1, 2, 3, 128)), ("rgba(1,2,3,0.5)", (1, 2, 3, 128)),
    ("rgba(1,2,3,50%)", (1, 2, 3, 128)),
    ("rgba(1,2,3,1)", (1, 2, 3, 255)), ("rgba(1,2,3,0)", (1, 2, 3, 0)), ("rgba(1,2,3,2)", (1, 2, 3, 2)),
    ("hsl(0,100%,50%)", (255, 0, 0, 255)), ("hsl(480,100%,25%)", (0, 128, 0, 255)),
    ("hsv(240,100%,100%)", (0, 0, 255, 255)), ("hsb(240,100%,100%)", (0, 0, 255, 255)),
])  # fmt: skip
def test_a_colour_has_many_notations(text: str, expected: tuple[float, ...]) -> None:
    assert parse_colour(text) == expected


@pytest.mark.parametrize("text", [
    "", " ", "#", "#1", "#12", "#12345", "#1234567", "#123456789", "#ggg", "123456", "#fff ", "rgb", "rgb()",
    "rgb(1,2)",
    "rgb(1,2,3,4)", "rgba(1,2,3)", "rgb(256,0,0)", "rgb(-1,0,0)", "rgb(1e2,0,0)", "rgb(10%,2,3)",
    "rgb(101%,0%,0%)",
    "rgba(1,2,3,256)", "rgba(1,2,3,101%)", "hsl(0,0,0)", "hsl(0%,0%,0%)", "hsl(0,101%,0%)", "hsv(0,0%,200%)",
    "rgb(١,٢,٣)", "rgb(1,2,3", "rgb((1),2,3)", "nonsense", "r", "tab:blue", "C0",
])  # fmt: skip
def test_what_is_no_colour_is_none(text: str) -> None:
    assert parse_colour(text) is None


@given(byte, byte, byte, byte)
def test_digits_and_decimals_mean_the_same_colour(red: int, green: int, blue: int, alpha: int) -> None:
    digits = f"#{red:02x}{green:02X}{blue:02x}"
    assert parse_colour(digits) == parse_colour(f"rgb({red}, {green},{blue})") == (red, green, blue, 255)
    assert parse_colour(f"{digits}{alpha:02x}") == (red, green, blue, alpha)
    if alpha > 1:
        assert parse_colour(f"rgba({red},{green},{blue},{alpha})") == (red, green, blue, alpha)


@given(some.integers(0, 720), percent, percent, some.sampled_from(["hsl", "hsv", "hsb"]))
def test_hues_are_pillows(hue: int, second: int, third: int, kind: str) -> None:
    text = f"{kind}({hue},{second}%,{third}%)"
    assert parse_colour(text) == ImageColor.getcolor(text, "RGBA")


@pytest.mark.parametrize(("text", "expected"), [
    ("r", (255, 0, 0, 255)), ("g", (0, 128, 0, 255)), ("c", (0, 191, 191, 255)), ("k", BLACK), ("w", WHITE),
    ("tab:orange", (255, 127, 14, 255)), ("C1", (255, 127, 14, 255)), ("tab:grey", (127, 127, 127, 255)),
    ("C10", None), ("red", None), ("tab:black", None), ("", None),
])  # fmt: skip
def test_matplotlib_has_names_of_its_own(text: str, expected: tuple[float, ...] | None) -> None:
    assert parse_matplotlib(text) == expected


# -- palettes


@pytest.mark.parametrize(("value", "expected"), [
    ("#f00", (BLACK, (255, 0, 0, 255))),
    ("white", BLACK_TO_WHITE),
    ("r", (CLEAR, (255, 0, 0, 255))),
    ("tab:blue", (CLEAR, (31, 119, 180, 255))),
    (["#f00"], ((255, 0, 0, 255),)),
    (["#000", "#ffff"], BLACK_TO_WHITE),
    (["r", "R", "#0008"], ((255, 0, 0, 255), (255, 0, 0, 255), (0, 0, 0, 136))),
    ([[0, 0.5, 1], [0.25, 0, 0, 0.5]], ((0, 127.5, 255, 255), (63.75, 0, 0, 127.5))),
    ([[1, 0, 0], "#00f"], ((255, 0, 0, 255), (0, 0, 255, 255))),
    ("gray", (BLACK, (128, 128, 128, 255))),
])  # fmt: skip
def test_a_palette_has_many_notations(value: Any, expected: tuple[tuple[float, ...], ...]) -> None:
    assert parse_palette(value) == expected


@pytest.mark.parametrize(("name", "colours"), [
    ("matplotlib.Viridis_6", ["#440154", "#414487", "#2A788E", "#22A884", "#7AD151", "#FDE725"]),
    ("colorbrewer.qualitative.Set1_3", ["#E41A1C", "#377EB8", "#4DAF4A"]),
    ("matplotlib.Viridis_6_r", ["#FDE725", "#7AD151", "#22A884", "#2A788E", "#414487", "#440154"]),
    ("tab10", ["#1f77b4", "#ff7f0e", "#2ca02c", "#d62728", "#9467bd", "#8c564b", "#e377c2", "#7f7f7f",
    "#bcbd22",
               "#17becf"]),
])  # fmt: skip
def test_a_named_palette_of_few_colours_has_those_that_are_published(name: str, colours: list[str]) -> None:
    assert parse_palette(name) == parse_palette(colours)


@pytest.mark.parametrize(("name", "first", "middle", "last"), [
    ("viridis", "#440154", "#21918c", "#fde725"),
    ("magma", "#000004", "#b73779", "#fcfdbf"),
    ("inferno", "#000004", "#bc3754", "#fcffa4"),
    ("plasma", "#0d0887", "#cc4778", "#f0f921"),
    ("matlab:gray", "#000000", "#7f7f7f", "#ffffff"),
    ("cool", "#00ffff", "#807fff", "#ff00ff"),
])  # fmt: skip
def test_a_colour_map_has_256_colours_from_its_first_to_its_last(
    name: str, first: str, middle: str, last: str
) -> None:
    ramp = np.array(parse_palette(name))
    assert ramp.shape == (256, 4)
    wanted = np.array(parse_palette([first, middle, last]))
    np.testing.assert_allclose(ramp[[0, 128, 255]], wanted, rtol=0, atol=2)
    assert parse_palette(f"{name}_r") == parse_palette(name)[::-1]


def test_jet_has_matplotlibs_stops_and_not_evenly_spaced_ones() -> None:
    at = np.linspace(0, 1, 256)
    red = np.interp(at, [0, 0.35, 0.66, 0.89, 1], [0, 0, 1, 1, 0.5])
    green = np.interp(at, [0, 0.125, 0.375, 0.64, 0.91, 1], [0, 0, 1, 1, 0, 0])
    blue = np.interp(at, [0, 0.11, 0.34, 0.65, 1], [0.5, 1, 1, 0, 0])
    expected = np.stack([red, green, blue, np.ones(256)], axis=1) * 255
    np.testing.assert_allclose(np.array(parse_palette("jet")), expected, rtol=0, atol=1e-3)


def test_every_name_in_the_catalogue_of_colour_maps_can_be_asked_for() -> None:
    names = list(Colormap.catalog())
    assert len(names) > 1000
    for name in names:
        ramp = np.array(parse_palette(name))
        assert ramp.shape[1] == 4
        assert len(ramp) >= 1
        assert np.isfinite(ramp).all()
        assert ramp.min() >= 0
        assert ramp.max() <= 255


@pytest.mark.parametrize("value", [
    "nonsense", "", "os.path", "utils.os.path", "palettable.matplotlib.Viridis_6", "matplotlib",
    "matplotlib.Viridis",
    "viridis_r_r", "_r", " viridis", "../viridis", "x" * 10_000, "matplotlib.Viridis_6.colors",
    "__class__.__base__",
    7, 0.5, True, {}, {"a": 1}, [], [[]], [[1, 2]], [[0, 0, 1.5]], [[-0.1, 0, 0]], [[True, 0, 0]],
    ["#000", "nonsense"],
    [["#000"]], [None], [["0", "0", "0"]], b"red", [b"red"], [[0, 0, 0, 0, 0]], ["viridis"],
])  # fmt: skip
def test_what_is_no_palette_is_refused_with_the_value_and_what_is_allowed(value: Any) -> None:
    with pytest.raises(BadStyle) as refused:
        parse_palette(value, "bands[2].palette")
    message = str(refused.value)
    wrong = value[-1] if isinstance(value, list) and value else value
    assert message.startswith("bands[2].palette")
    assert repr(wrong)[:70] in message
    assert "cannot be used as a color palette; expected a CSS colour, '#rrggbb'" in message
    assert len(message) < 500


def test_the_refusal_says_which_colour_of_a_list_is_wrong() -> None:
    with pytest.raises(BadStyle, match=r"^palette\[1\]: 'nope' cannot"):
        parse_palette(["#000", "nope"])


def test_a_palette_has_a_longest_length() -> None:
    assert len(parse_palette(["#000"] * MOST_COLOURS)) == MOST_COLOURS
    with pytest.raises(BadStyle, match="palette: expected at most 4096 colours; got 4097"):
        parse_palette(["#000"] * (MOST_COLOURS + 1))


json_values: some.SearchStrategy[Any] = some.recursive(
    some.none() | some.booleans() | some.integers() | some.floats() | some.text(max_size=12),
    lambda inner: some.lists(inner, max_size=4) | some.dictionaries(some.text(max_size=3), inner, max_size=2),
    max_leaves=8,
)


@given(json_values | some.from_regex(r"[a-zA-Z]{1,8}([.:_-][a-zA-Z0-9_]{1,8}){0,3}", fullmatch=True))
def test_any_json_value_is_a_palette_of_bytes_or_refused(value: Any) -> None:
    try:
        palette = parse_palette(json.loads(json.dumps(value)))
    except BadStyle:
        return
    assert palette
    assert all(len(colour) == 4 and all(0 <= part <= 255 for part in colour) for colour in palette)


# -- tables

colours = some.tuples(*[some.integers(0, 255).map(float)] * 4)
palettes = some.lists(colours, min_size=1, max_size=7).map(tuple)


@given(palettes, some.booleans())
def test_without_a_gamma_a_table_is_the_palette(palette: Any, discrete: bool) -> None:
    stops = table(palette, discrete, 1.0)
    assert stops.dtype == np.float32
    assert not stops.flags.writeable
    np.testing.assert_array_equal(stops, np.array(palette))


@given(palettes, some.floats(0.1, 10))
def test_a_gamma_shows_at_n_what_the_palette_has_at_n_to_that_power(palette: Any, gamma: float) -> None:
    if gamma == 1:
        return
    stops, places = table(palette, False, gamma), np.linspace(0, 1, len(palette))
    if len(palette) == 1:
        assert stops.tolist() == [list(palette[0])]
        return
    assert stops.shape == (GAMMA_STOPS, 4)
    for number in (0, 1, 777, 4095, 4096):
        wanted = [np.interp((number / 4096) ** gamma, places, part) for part in np.array(palette).T]
        np.testing.assert_allclose(stops[number], wanted, rtol=0, atol=1e-3)


@given(some.lists(colours, min_size=2, max_size=7, unique=True).map(tuple), some.floats(0.1, 10))
def test_a_gamma_keeps_the_steps_of_a_discrete_palette(palette: Any, gamma: float) -> None:
    stops = [tuple(stop) for stop in table(palette, True, gamma).tolist()]
    order = [palette.index(stop) for stop in stops]
    assert set(stops) <= set(palette)
    assert order == sorted(order)
    assert (order[0], order[-1]) == (0, len(palette) - 1)
