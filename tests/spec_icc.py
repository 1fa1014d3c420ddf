"""What an ICC conversion means, in plain NumPy; and profiles to convert from, written tag by tag.

The kernel equals ``convert`` bit for bit. How near that is to LittleCMS is another question, which
test_icc.py answers. The profiles follow ICC.1:2010 (version 2 for the one with tables).
"""

from __future__ import annotations

import io
import struct
from typing import Any

import imagecodecs
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageCms

from gputiles.recipe import Conversion, ConversionKind

F32 = np.float32
Levels = NDArray[Any]


def convert(made: Conversion, pixels: Levels, nodata: float | None = None) -> Levels:
    """Return (…, samples) uint8 or uint16 in sRGB; samples beyond the colours as they are."""
    colours = 1 if made.kind is ConversionKind.CURVE else 3
    values = np.minimum(pixels[..., :colours], made.top)
    steps = {ConversionKind.CURVE: grey, ConversionKind.MATRIX: mixed, ConversionKind.GRID: in_grid}
    levels = np.minimum(np.maximum(steps[made.kind](made, values), F32(0)), F32(made.top))
    result = pixels.copy()
    result[..., :colours] = (levels + F32(0.5)).astype(pixels.dtype)
    if nodata is None or nodata != int(nodata) or not 0 <= nodata <= np.iinfo(pixels.dtype).max:
        return result
    stored = pixels[..., :colours] == nodata
    clash = (result[..., :colours] == nodata) & ~stored
    result[..., :colours] = np.where(stored, nodata, result[..., :colours])
    result[..., :colours][clash] = nodata + 1 if nodata < made.top else nodata - 1
    return result


def grey(made: Conversion, values: Levels) -> NDArray[np.float32]:
    return made.curves[0][values]


def mixed(made: Conversion, values: Levels) -> NDArray[np.float32]:
    """Return levels of colours: curves, matrix, straight lines between the stops of the table."""
    red, green, blue = (made.curves[c][values[..., c]] for c in range(3))
    result = np.empty(values.shape, F32)
    last = len(made.table) - 1
    for c, (for_red, for_green, for_blue) in enumerate(made.matrix):
        light = ((made.offset[c] + for_red * red) + for_green * green) + for_blue * blue
        t = np.minimum(np.maximum(light, F32(0)), F32(1)) * F32(last)
        i = np.minimum(t.astype(np.int64), last - 1)
        low, high = made.table[i], made.table[i + 1]
        result[..., c] = low + (t - i.astype(F32)) * (high - low)
    return result


def in_grid(made: Conversion, values: Levels) -> NDArray[np.float32]:
    """Return levels by tetrahedral interpolation: along the farthest axis first, red of equals."""
    last = len(made.table) - 1
    t = values.astype(F32) * F32(last) / F32(made.top)
    node = np.minimum(t.astype(np.int64), last - 1)
    beyond = t - node.astype(F32)
    order = np.argsort(-beyond, axis=-1, kind="stable")
    corners, at = [node], node
    for rank in range(3):
        at = at + (np.arange(3) == order[..., rank : rank + 1])
        corners.append(at)
    known = [made.table[c[..., 0], c[..., 1], c[..., 2]] for c in corners]
    shares = np.take_along_axis(beyond, order, axis=-1)
    result = known[0]
    for rank in range(3):
        result = result + shares[..., rank : rank + 1] * (known[rank + 1] - known[rank])
    return result


def littlecms(pixels: NDArray[np.uint8], profile: bytes, intent: int = 0) -> NDArray[np.uint8]:
    """Return (rows, columns, 1 or 3) as Pillow's LittleCMS, which large_image asks, converts them."""
    mode = {1: "L", 3: "RGB"}[pixels.shape[2]]
    given = ImageCms.ImageCmsProfile(io.BytesIO(profile))
    target = ImageCms.createProfile("sRGB")
    transform = ImageCms.buildTransform(given, target, mode, "RGB", ImageCms.Intent(intent))
    made = ImageCms.applyTransform(Image.fromarray(pixels.squeeze(-1) if mode == "L" else pixels), transform)
    assert made is not None
    array = np.asarray(made)
    return array[..., 1:2] if mode == "L" else array


def matrix_profile(gamma: float, primaries: tuple[float, ...], white: tuple[float, float]) -> bytes:
    """Return a profile of one gamma and a matrix; chromaticities x, y of red, green, blue and white."""
    profile: bytes = imagecodecs.cms_profile(
        "rgb",
        whitepoint=(*white, 1.0),
        primaries=[number for at in (0, 2, 4) for number in (*primaries[at : at + 2], 1.0)],
        gamma=gamma,
    )
    return profile


def grey_profile(gamma: float) -> bytes:
    """Return a profile of greys."""
    profile: bytes = imagecodecs.cms_profile("gray", gamma=gamma)
    return profile


def table_profile(steps: int = 17, twist: float = 0.15) -> bytes:
    """Return a profile whose colours are a table to CIE Lab (type ``mft2``), as no matrix has them.

    Colours are those of gamma 2.0 with sRGB's primaries, but that green takes some of the red away,
    blue some of the green, a share of ``twist``; white stays white.
    """
    axis = np.linspace(0, 1, steps)
    rgb = np.stack(np.meshgrid(axis, axis, axis, indexing="ij"), axis=-1).reshape(-1, 3) ** 2.0
    red, green, blue = rgb.T
    rgb = np.stack(
        [red * (1 - twist * green * (1 - red)), green * (1 - twist * blue * (1 - green)), blue], -1
    )
    matrix = np.array(
        [
            [0.4360747, 0.3850649, 0.1430804],
            [0.2225045, 0.7168786, 0.0606169],
            [0.0139322, 0.0971045, 0.7141733],
        ]
    )  # sRGB's, adapted to D50
    xyz = rgb @ matrix.T / np.array([0.9642, 1.0, 0.8249])
    f = np.where(xyz > 216 / 24389, np.cbrt(xyz), (24389 / 27 * xyz + 16) / 116)
    lab = np.stack([116 * f[:, 1] - 16, 500 * (f[:, 0] - f[:, 1]), 200 * (f[:, 1] - f[:, 2])], axis=-1)
    words = np.rint(np.stack([lab[:, 0] * 652.8, (lab[:, 1] + 128) * 256, (lab[:, 2] + 128) * 256], axis=-1))
    lut = b"mft2\0\0\0\0" + bytes([3, 3, steps, 0])
    lut += struct.pack(">9i", *(65536 if i % 4 == 0 else 0 for i in range(9)))
    lut += struct.pack(">HH", 2, 2) + struct.pack(">6H", *(0, 65535) * 3)
    lut += np.clip(words, 0, 65535).astype(">u2").tobytes() + struct.pack(">6H", *(0, 65535) * 3)
    white = b"XYZ \0\0\0\0" + struct.pack(">3i", 63190, 65536, 54061)
    return written({b"desc": text("table"), b"wtpt": white, b"A2B0": lut, b"cprt": b"text\0\0\0\0none\0"})


def text(words: str) -> bytes:
    name = words.encode() + b"\0"
    return b"desc\0\0\0\0" + struct.pack(">I", len(name)) + name + bytes(78)


def written(tags: dict[bytes, bytes]) -> bytes:
    """Return an input profile of version 2.4, RGB to Lab, of {signature: data}."""
    at, table, data = 128 + 4 + 12 * len(tags), b"", b""
    for name, content in tags.items():
        table += name + struct.pack(">II", at + len(data), len(content))
        data += content + bytes(-len(content) % 4)
    head = bytearray(128)
    head[8:12] = b"\x02\x40\0\0"
    head[12:24] = b"scnrRGB Lab "
    head[36:40] = b"acsp"
    head[68:80] = struct.pack(">3i", 63190, 65536, 54061)
    body = struct.pack(">I", len(tags)) + table + data
    head[0:4] = struct.pack(">I", 128 + len(body))
    return bytes(head) + body
