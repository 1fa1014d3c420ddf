"""The images that the viewer's tests look at, and the steps that they share."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import tifffile

from tests.browser import Visit, ids

TOP = 4000  # the brightest value of the files below
RED, GREEN, BLUE, WHITE, BLACK = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255), (0, 0, 0)
PROFILED = (40, 200, 40)  # a colour of an image in Adobe RGB
QUARTERS = ((0.3, 0.2), (0.7, 0.2), (0.3, 0.8), (0.7, 0.8))  # of the window, inside the image's quarters


def ome_colour(red: int, green: int, blue: int) -> int:
    value = red << 24 | green << 16 | blue << 8 | 255
    return value - 2**32 if value >= 2**31 else value


def quarters(size: int = 1024) -> np.ndarray[Any, Any]:
    """Return four channels, each bright in one quarter of the image."""
    planes = np.zeros((4, size, size), np.uint16)
    half = size // 2
    for index in range(4):
        row, column = divmod(index, 2)
        planes[index, row * half : (row + 1) * half, column * half : (column + 1) * half] = TOP
    return planes


def write(
    path: Path, planes: np.ndarray[Any, Any], axes: str, names: list[str], *, tile: int = 256, **more: Any
) -> None:
    channels = {"Name": names, **more}
    physical = {
        "PhysicalSizeX": 0.5,
        "PhysicalSizeXUnit": "µm",
        "PhysicalSizeY": 0.5,
        "PhysicalSizeYUnit": "µm",
    }
    tifffile.imwrite(
        path,
        planes,
        tile=(tile, tile),
        compression="zlib",
        metadata={"axes": axes, "Channel": channels, **physical},
    )


def write_images(folder: Path) -> None:
    """Write the images: channels, many of them, a stack, colours, and a file that is none."""
    colours = [ome_colour(*colour) for colour in (RED, GREEN, BLUE, WHITE)]
    write(folder / "quarters.ome.tif", quarters(), "CYX", ["R", "G", "B", "W"], Color=colours)
    many = np.random.default_rng(1).integers(100, 200, (40, 256, 256)).astype(np.uint16)
    many[:, 0, 0] = 60_000  # a hot pixel: an auto window must not reach it
    many[7, :, 128:] = 1000
    write(folder / "many.ome.tif", many, "CYX", [f"marker {index:02d}" for index in range(40)])
    stack = np.zeros((5, 2, 512, 512), np.uint16)
    stack[...] = (np.arange(5) * 1000)[:, None, None, None]
    stack[:, 1] = 0
    stack[:, :, 0, 0] = TOP
    write(folder / "stack.ome.tif", stack, "ZCYX", ["A", "B"], Color=colours[:2])
    rgb = np.zeros((600, 800, 3), np.uint8)
    rgb[:300, :400], rgb[:300, 400:], rgb[300:, :400], rgb[300:, 400:] = (
        (200, 40, 40),
        (40, 200, 40),
        128,
        255,
    )
    tifffile.imwrite(folder / "colour.tif", rgb, photometric="rgb", tile=(256, 256))
    (folder / "broken.tif").write_bytes(b"II*\0nonsense")


def write_gallery(folder: Path) -> None:
    """Write further images: channels that overlap, many tiles, a stack in time, a profile, a slide."""
    overlap = np.zeros((2, 256, 256), np.uint16)
    overlap[:, 0, 0], overlap[0, 64:], overlap[1, 64:] = TOP, TOP // 4, TOP // 2
    overlap[:, 128:, 128:] = TOP
    colours = [ome_colour(*WHITE), ome_colour(*WHITE)]
    write(folder / "overlap.ome.tif", overlap, "CYX", ["quarter", "half"], Color=colours)
    given = [ome_colour(*colour) for colour in (RED, GREEN, BLUE, WHITE)]
    write(folder / "large.ome.tif", quarters(2048), "CYX", ["R", "G", "B", "W"], tile=128, Color=given)
    steps = np.arange(4)[:, None] * 1000 + np.arange(3) * 300
    stack = np.zeros((4, 3, 2, 256, 256), np.uint16)
    stack[:, :, 0] = steps[:, :, None, None]
    stack[:, :, :, 0, 0] = TOP
    write(folder / "time.ome.tif", stack, "TZCYX", ["A", "B"])
    plain = {"photometric": "rgb", "tile": (256, 256), "metadata": None}
    rgb = np.full((512, 512, 3), PROFILED, np.uint8)
    tifffile.imwrite(folder / "adobe.tif", rgb, iccprofile=imagecodecs.cms_profile("adobergb"), **plain)
    said = "Aperio Image Library v1\n512x512 [0,0 512x512] (256x256)|AppMag = 20|MPP = 0.4990"
    grey = np.full((512, 512, 3), 64, np.uint8)
    tifffile.imwrite(folder / "slide.svs", grey, description=said, compression="jpeg", **plain)
    alone = np.tile(np.arange(256, dtype=np.uint16) * 10, (256, 1))
    tifffile.imwrite(folder / "alone.tif", alone, photometric="minisblack")


def view(visit: Visit, name: str, more: str = "") -> None:
    visit.open(f"view/{ids(visit.base)[name]}{more}")


def view_stack(visit: Visit) -> None:
    """Open the stack, its channel shown from 0 to TOP."""
    view(visit, "stack.ome.tif")
    visit.page.get_by_label("Settings of A").click()
    visit.page.get_by_label("A: least value").fill("0")
    visit.page.get_by_label("A: greatest value").fill(str(TOP))
    visit.page.keyboard.press("Enter")


def kept_style(visit: Visit) -> Any:
    """Return the style that the address names."""
    return json.loads(visit.page.request.get(f"{visit.base}/styles/{visit.style()}").text())


def shows_quarters(visit: Visit, *colours: tuple[int, int, int]) -> None:
    for place, colour in zip(QUARTERS, colours, strict=True):
        visit.shows(*place, colour)


def keep(visit: Visit, style: Any) -> str:
    """Keep a style on the server; return its id."""
    answer: str = visit.page.request.post(f"{visit.base}/styles", data=json.dumps(style)).json()["id"]
    return answer
