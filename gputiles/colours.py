"""Colours as styles write them, read to RGBA of 0 … 255."""

from __future__ import annotations

import colorsys
import re
from typing import TypeAlias

Rgba: TypeAlias = tuple[float, float, float, float]

PRIMARIES: dict[str, Rgba] = {
    "R": (255.0, 0.0, 0.0, 255.0),
    "RED": (255.0, 0.0, 0.0, 255.0),
    "G": (0.0, 255.0, 0.0, 255.0),
    "GREEN": (0.0, 255.0, 0.0, 255.0),
    "B": (0.0, 0.0, 255.0, 255.0),
    "BLUE": (0.0, 0.0, 255.0, 255.0),
}
"""The pure primaries, told from CSS names by their upper case (CSS ``green`` is half as bright)."""

CSS: dict[str, str] = dict(
    entry.split(":")
    for entry in """
    aliceblue:f0f8ff antiquewhite:faebd7 aqua:00ffff aquamarine:7fffd4 azure:f0ffff beige:f5f5dc
    bisque:ffe4c4 black:000000 blanchedalmond:ffebcd blue:0000ff blueviolet:8a2be2 brown:a52a2a
    burlywood:deb887 cadetblue:5f9ea0 chartreuse:7fff00 chocolate:d2691e coral:ff7f50
    cornflowerblue:6495ed cornsilk:fff8dc crimson:dc143c cyan:00ffff darkblue:00008b
    darkcyan:008b8b darkgoldenrod:b8860b darkgray:a9a9a9 darkgreen:006400 darkgrey:a9a9a9
    darkkhaki:bdb76b darkmagenta:8b008b darkolivegreen:556b2f darkorange:ff8c00 darkorchid:9932cc
    darkred:8b0000 darksalmon:e9967a darkseagreen:8fbc8f darkslateblue:483d8b
    darkslategray:2f4f4f darkslategrey:2f4f4f darkturquoise:00ced1 darkviolet:9400d3
    deeppink:ff1493 deepskyblue:00bfff dimgray:696969 dimgrey:696969 dodgerblue:1e90ff
    firebrick:b22222 floralwhite:fffaf0 forestgreen:228b22 fuchsia:ff00ff gainsboro:dcdcdc
    ghostwhite:f8f8ff gold:ffd700 goldenrod:daa520 gray:808080 green:008000 greenyellow:adff2f
    grey:808080 honeydew:f0fff0 hotpink:ff69b4 indianred:cd5c5c indigo:4b0082 ivory:fffff0
    khaki:f0e68c lavender:e6e6fa lavenderblush:fff0f5 lawngreen:7cfc00 lemonchiffon:fffacd
    lightblue:add8e6 lightcoral:f08080 lightcyan:e0ffff lightgoldenrodyellow:fafad2
    lightgray:d3d3d3 lightgreen:90ee90 lightgrey:d3d3d3 lightpink:ffb6c1 lightsalmon:ffa07a
    lightseagreen:20b2aa lightskyblue:87cefa lightslategray:778899 lightslategrey:778899
    lightsteelblue:b0c4de lightyellow:ffffe0 lime:00ff00 limegreen:32cd32 linen:faf0e6
    magenta:ff00ff maroon:800000 mediumaquamarine:66cdaa mediumblue:0000cd mediumorchid:ba55d3
    mediumpurple:9370db mediumseagreen:3cb371 mediumslateblue:7b68ee mediumspringgreen:00fa9a
    mediumturquoise:48d1cc mediumvioletred:c71585 midnightblue:191970 mintcream:f5fffa
    mistyrose:ffe4e1 moccasin:ffe4b5 navajowhite:ffdead navy:000080 oldlace:fdf5e6 olive:808000
    olivedrab:6b8e23 orange:ffa500 orangered:ff4500 orchid:da70d6 palegoldenrod:eee8aa
    palegreen:98fb98 paleturquoise:afeeee palevioletred:db7093 papayawhip:ffefd5
    peachpuff:ffdab9 peru:cd853f pink:ffc0cb plum:dda0dd powderblue:b0e0e6 purple:800080
    rebeccapurple:663399 red:ff0000 rosybrown:bc8f8f royalblue:4169e1 saddlebrown:8b4513
    salmon:fa8072 sandybrown:f4a460 seagreen:2e8b57 seashell:fff5ee sienna:a0522d silver:c0c0c0
    skyblue:87ceeb slateblue:6a5acd slategray:708090 slategrey:708090 snow:fffafa
    springgreen:00ff7f steelblue:4682b4 tan:d2b48c teal:008080 thistle:d8bfd8 tomato:ff6347
    transparent:00000000 turquoise:40e0d0 violet:ee82ee wheat:f5deb3 white:ffffff
    whitesmoke:f5f5f5 yellow:ffff00 yellowgreen:9acd32
    """.split()  # noqa: SIM905  (a list would be a page long)
)
"""The named colours of CSS, as hexadecimal digits."""

_TABLEAU = (
    "1f77b4",
    "ff7f0e",
    "2ca02c",
    "d62728",
    "9467bd",
    "8c564b",
    "e377c2",
    "7f7f7f",
    "bcbd22",
    "17becf",
)
_TABLEAU_NAMES = ("blue", "orange", "green", "red", "purple", "brown", "pink", "gray", "olive", "cyan")

MATPLOTLIB: dict[str, str] = {
    "r": "ff0000",
    "g": "008000",
    "b": "0000ff",
    "c": "00bfbf",
    "m": "bf00bf",
    "y": "bfbf00",
    "k": "000000",
    "w": "ffffff",
    **{f"tab:{name}": digits for name, digits in zip(_TABLEAU_NAMES, _TABLEAU, strict=True)},
    "tab:grey": "7f7f7f",
    **{f"C{index}": digits for index, digits in enumerate(_TABLEAU)},
}
"""Names that Matplotlib knows and CSS does not, as hexadecimal digits."""

_HEX = re.compile(r"#([0-9a-f]{3,4}|[0-9a-f]{6}|[0-9a-f]{8})", re.IGNORECASE)
_FUNCTION = re.compile(r"(rgb|rgba|hsl|hsv|hsb)\(\s*([^()]*?)\s*\)", re.IGNORECASE)
_NUMBER = re.compile(r"(\d{1,6}(?:\.\d{1,9})?|\.\d{1,9})(%?)", re.ASCII)


def parse_colour(text: str) -> Rgba | None:
    """Return the RGBA that ``text`` means, or None if it is no colour.

    Read are the upper-case primaries, CSS names, ``#rgb``, ``#rgba``, ``#rrggbb``,
    ``#rrggbbaa``, ``rgb()``, ``rgba()``, ``hsl()`` and ``hsv()``. The alpha of ``rgba()``
    is a fraction where it is at most 1 or a percentage, as CSS has it, else 0 … 255.
    """
    if text in PRIMARIES:
        return PRIMARIES[text]
    if text.lower() in CSS:
        return _from_digits(CSS[text.lower()])
    if match := _HEX.fullmatch(text):
        return _from_digits(match[1])
    if match := _FUNCTION.fullmatch(text):
        return _from_function(match[1].lower(), match[2])
    return None


def parse_matplotlib(text: str) -> Rgba | None:
    """Return the RGBA of a colour that only Matplotlib knows: ``r``, ``tab:blue``, ``C1``."""
    return _from_digits(MATPLOTLIB[text]) if text in MATPLOTLIB else None


def _from_digits(digits: str) -> Rgba:
    if len(digits) < 6:
        digits = "".join(digit * 2 for digit in digits)
    red, green, blue, alpha = bytes.fromhex(digits.ljust(8, "f"))
    return float(red), float(green), float(blue), float(alpha)


def _from_function(name: str, arguments: str) -> Rgba | None:
    numbers = [_NUMBER.fullmatch(part.strip()) for part in arguments.split(",")]
    values = [(float(match[1]), bool(match[2])) for match in numbers if match is not None]
    if len(values) != len(numbers) or len(values) != (4 if name == "rgba" else 3):
        return None
    return _from_rgb(values) if name.startswith("rgb") else _from_hue(name, values)


def _from_rgb(values: list[tuple[float, bool]]) -> Rgba | None:
    alpha = 255.0
    if len(values) == 4:
        number, percent = values.pop()
        alpha = _whole(number / 100) if percent else _whole(number) if number <= 1 else number
    if len({percent for _, percent in values}) > 1:
        return None
    red, green, blue = (_whole(number / 100) if percent else number for number, percent in values)
    result = (red, green, blue, alpha)
    return result if max(result) <= 255 else None


def _from_hue(name: str, values: list[tuple[float, bool]]) -> Rgba | None:
    if [percent for _, percent in values] != [False, True, True]:
        return None
    hue, second, third = values[0][0] % 360 / 360, values[1][0] / 100, values[2][0] / 100
    if second > 1 or third > 1:
        return None
    if name == "hsl":
        red, green, blue = colorsys.hls_to_rgb(hue, third, second)
    else:
        red, green, blue = colorsys.hsv_to_rgb(hue, second, third)
    return _whole(red), _whole(green), _whole(blue), 255.0


def _whole(fraction: float) -> float:
    """Return a fraction as a whole number of 255ths, as the 8-bit notations have it."""
    return float(int(fraction * 255 + 0.5))
