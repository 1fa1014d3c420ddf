"""large_image's own package as the oracle: metadata, tiles, random styles, regions, pixels.

What differs on purpose is in README and left out here: levels that a file lacks, magnifications
that are guessed, windows that do not clamp.
"""

from __future__ import annotations

import json
import os
import random
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from aiohttp.test_utils import TestClient, TestServer
from numpy.typing import NDArray

import gputiles
from gputiles.app import create_app
from gputiles.config import Config
from gputiles.metadata import describe
from tests.conftest import shared
from tests.large_image_peer import picture
from tests.test_http import find

if not os.environ.get("CI"):  # there nothing is skipped
    pytest.importorskip("large_image_source_ometiff", reason="needs the extra 'conformance'")
    pytest.importorskip("large_image_source_tiff", reason="needs the extra 'conformance'")
import large_image_source_ometiff
import large_image_source_tiff
from large_image.constants import TILE_FORMAT_NUMPY

KEYS = ("levels", "sizeX", "sizeY", "tileWidth", "tileHeight", "dtype", "bandCount")
KEYS_OF_FRAMES = ("IndexRange", "IndexStride", "channels", "channelmap")
COLOURS = ("#f00", "#0f0", "#00f", "#ff0", "#0ff", "#f0f", "#fff", "#80c0ff")


def cells(seed: int, planes: int, top: float) -> NDArray[np.float64]:
    """Return smooth pictures with noise, from 0 to about ``top``."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:700, :900]
    waves = [np.sin(x / rng.uniform(20, 90)) * np.cos(y / rng.uniform(20, 90)) for _ in range(planes)]
    return np.clip(top * (np.array(waves) + 1) / 2 + rng.normal(0, top / 50, (planes, 700, 900)), 0, None)


def write(path: Path, data: NDArray[Any], metadata: dict[str, Any] | None = None, **options: Any) -> None:
    """Write a tiled image with two sub-levels, which large_image needs to be a pyramid."""
    ome = metadata is not None
    with tifffile.TiffWriter(path, ome=ome) as writer:
        writer.write(data, tile=(256, 256), compression="zlib", subifds=2 if ome else 0,
                     metadata=metadata, **options)  # fmt: skip
        for level in (1, 2) if ome else ():
            step = 2**level
            writer.write(np.ascontiguousarray(data[..., ::step, ::step]), tile=(256, 256),
                         compression="zlib", subfiletype=1)  # fmt: skip


def write_stack(path: Path, planes: NDArray[Any], order: str) -> None:
    """Write 2 channels of 3 depths, with a TiffData a plane, which large_image needs."""
    lengths = {"C": 2, "Z": 3, "T": 1}
    first, second, _ = order[2:]
    blocks = "".join(
        f'<TiffData First{first}="{i % lengths[first]}" First{second}="{i // lengths[first]}" IFD="{i}" '
        'PlaneCount="1"/>'
        for i in range(6)
    )
    text = (
        '<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06"><Image ID="Image:0">'
        f'<Pixels ID="Pixels:0" DimensionOrder="{order}" Type="uint16" SizeX="900" SizeY="700" SizeC="2" '
        'SizeZ="3" SizeT="1"><Channel ID="Channel:0:0" Name="one" SamplesPerPixel="1"/>'
        f'<Channel ID="Channel:0:1" Name="two" SamplesPerPixel="1"/>{blocks}</Pixels></Image></OME>'
    )
    with tifffile.TiffWriter(path) as writer:
        for number, plane in enumerate(planes):
            description = text if number == 0 else None
            writer.write(plane, tile=(256, 256), compression="zlib", subifds=2, description=description,
                         metadata=None)  # fmt: skip
            for step in (2, 4):
                writer.write(np.ascontiguousarray(plane[::step, ::step]), tile=(256, 256), compression="zlib",
                             subfiletype=1, metadata=None)  # fmt: skip


def make(name: str, folder: Path) -> Path:
    """Return a file of one kind."""
    path = folder / f"{name}.ome.tif"
    channels = {
        "Channel": {"Name": [f"marker {c}" for c in range(4)]},
        "PhysicalSizeX": 0.5,
        "PhysicalSizeY": 0.5,
    }
    if name == "uint16":
        write(path, cells(1, 4, 9000).astype(np.uint16), {"axes": "CYX", **channels})
    elif name == "uint8":
        write(path, cells(2, 4, 250).clip(0, 255).astype(np.uint8), {"axes": "CYX", **channels})
    elif name.startswith("XY"):
        write_stack(path, cells(3, 6, 3000).astype(np.uint16), name)
    else:
        path = folder / "rgb.tif"
        write(
            path, np.moveaxis(cells(4, 3, 250).clip(0, 255).astype(np.uint8), 0, -1).copy(), photometric="rgb"
        )
    return path


NAMES = ("uint16", "uint8", "XYCZT", "XYZCT", "rgb")


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("conformance")
    return {name: make(name, folder) for name in NAMES}


def theirs(path: Path, style: dict[str, Any] | None = None, **options: Any) -> Any:
    """Open a file by large_image."""
    module = large_image_source_ometiff if path.name.endswith(".ome.tif") else large_image_source_tiff
    look = {"icc": False, **(style or {})}
    return module.open(str(path), style=json.dumps(look), encoding="PNG", **options)


@contextmanager
def ours(path: Path) -> Iterator[gputiles.Image]:
    with gputiles.open(path) as image:
        yield image


def tiles(image: gputiles.Image) -> list[tuple[int, int, int]]:
    """Return the tiles of the stored levels that the image fills wholly."""
    info = image.info
    return [
        (z, x, y)
        for z in range(info.levels)
        if info.stored[z]
        for x in range(info.grid.tiles(z)[0])
        for y in range(info.grid.tiles(z)[1])
        if (info.grid.rect(z, x, y).width, info.grid.rect(z, x, y).height)
        == (info.tile_width, info.tile_height)
    ]


@pytest.mark.parametrize("name", NAMES)
def test_metadata_have_the_same_values(files: dict[str, Path], name: str) -> None:
    expected = theirs(files[name]).getMetadata()
    with ours(files[name]) as image:
        found = describe(image.info)
    assert {key: found[key] for key in KEYS} == {key: expected[key] for key in KEYS}
    assert found["mm_x"] == pytest.approx(expected["mm_x"])
    assert {key: found.get(key) for key in KEYS_OF_FRAMES} == {
        key: expected.get(key) for key in KEYS_OF_FRAMES
    }
    told = ("Frame", "Index", "IndexC", "IndexZ", "IndexT")
    for mine, other in zip(found.get("frames", []), expected.get("frames", []), strict=True):
        assert {key: mine.get(key, 0) for key in told} == {key: other.get(key, 0) for key in told}


@pytest.mark.parametrize("name", NAMES)
def test_unstyled_tiles_have_the_same_pixels(files: dict[str, Path], name: str) -> None:
    source = theirs(files[name])
    with ours(files[name]) as image:
        for frame in range(len(image.info.frames)):
            for z, x, y in tiles(image):
                found = picture(image.tile(z, x, y, frame=frame, style={}, encoding="PNG"))
                expected = picture(source.getTile(x, y, z, frame=frame))
                assert np.array_equal(found, expected), (frame, z, x, y)


def random_style(rng: random.Random, frames: int, rgb: bool, top: int) -> dict[str, Any]:
    """Return a style as viewers send them."""

    def end(low: bool) -> Any:
        number = rng.randrange(0, top // 3) if low else rng.randrange(top // 2, top)
        return rng.choice(
            [number, number, "min" if low else "max", "auto", f"{'min' if low else 'max'}:0.02"]
        )

    def band(at: int) -> dict[str, Any]:
        entry: dict[str, Any] = {"min": end(True), "max": end(False), "palette": rng.choice(COLOURS)}
        if rng.random() < 0.2:
            entry["palette"] = [rng.choice(COLOURS) for _ in range(rng.randrange(2, 5))]
        if rng.random() < 0.2:
            entry["scheme"] = "discrete"
        entry |= {"band": at % 3 + 1} if rgb else {rng.choice(["frame", "framedelta"]): at % frames}
        return entry

    bands = [band(at) for at in range(rng.randrange(1, 5))]
    return bands[0] if len(bands) == 1 and not rgb and rng.random() < 0.3 else {"bands": bands}


@pytest.mark.parametrize("name", NAMES)
def test_random_styles_are_within_one_level(files: dict[str, Path], name: str) -> None:
    rng = random.Random(NAMES.index(name))
    with ours(files[name]) as image:
        frames, rgb = len(image.info.frames), name == "rgb"
        top = 255 if image.info.dtype == np.uint8 else 9000
        places = tiles(image)
        for _ in range(50):
            style, (z, x, y) = random_style(rng, frames, rgb, top), rng.choice(places)
            found = picture(image.tile(z, x, y, style=style, encoding="PNG"))
            expected = picture(theirs(files[name], style).getTile(x, y, z))
            assert found.shape == expected.shape, style
            assert np.abs(found - expected).max() <= 1, style


@pytest.mark.parametrize("name", NAMES)
def test_pixels_have_the_same_values(files: dict[str, Path], name: str) -> None:
    source = theirs(files[name])
    rng = random.Random(7)
    with ours(files[name]) as image:
        z = image.info.levels - 1
        for _ in range(20):
            x, y, frame = rng.randrange(900), rng.randrange(700), rng.randrange(len(image.info.frames))
            expected = source.getPixel(region={"left": x, "top": y}, frame=frame)["value"]
            column, row = x // image.info.tile_width, y // image.info.tile_height
            tile = image.raster(z, column, row, frame=frame)
            found = tile[y - row * image.info.tile_height, x - column * image.info.tile_width]
            assert list(found) == list(expected)


@pytest.mark.parametrize("name", ["reference/golden.ome.tif", "data/libvips__CMU-1-Small-Region.svs"])
def test_real_files_have_the_same_unstyled_tiles_at_full_resolution(name: str) -> None:
    path = shared(*name.split("/"))
    source = theirs(path)
    with ours(path) as image:
        z = image.info.levels - 1
        for x, y in [(x, y) for z_, x, y in tiles(image) if z_ == z][:12]:
            found = picture(image.tile(z, x, y, style={}, encoding="PNG"))
            assert np.abs(found - picture(source.getTile(x, y, z))).max() <= 1


@pytest.mark.parametrize("name", NAMES)
async def test_regions_at_full_resolution_have_the_same_values(files: dict[str, Path], name: str) -> None:
    source, path = theirs(files[name]), files[name]
    rng = random.Random(11)
    async with TestClient(TestServer(create_app(Config(roots=(path.parent,), workers=1)))) as client:
        item = await find(client, path.name)
        for _ in range(12):
            left, top = rng.randrange(-50, 850), rng.randrange(-50, 650)
            bounds = {"left": left, "top": top, "right": left + rng.randrange(60, 400), "bottom": top + 300}
            if left < 0 or top < 0:  # counted from the other end: keep the region in order
                bounds |= {"right": 900, "bottom": 700}
            expected, _ = source.getRegion(region=bounds, format=TILE_FORMAT_NUMPY)
            answer = await client.get(
                f"/item/{item}/tiles/region", params={**bounds, "frame": 0, "encoding": "NPY"}
            )
            assert answer.status == 200, bounds
            found = np.load(BytesIO(await answer.read()))
            assert np.array_equal(found, expected[..., : found.shape[2]]), bounds


@pytest.mark.parametrize("name", NAMES)
async def test_histograms_have_the_same_counts(files: dict[str, Path], name: str) -> None:
    source, path = theirs(files[name]), files[name]
    async with TestClient(TestServer(create_app(Config(roots=(path.parent,), workers=1)))) as client:
        item = await find(client, path.name)
        for query in ({}, {"bins": 64}, {"bins": 10, "rangeMin": 100, "rangeMax": 200}):
            bounds = {"range": [query["rangeMin"], query["rangeMax"]]} if "rangeMin" in query else {}
            expected = source.histogram(bins=query.get("bins", 256), **bounds)["histogram"]
            answer = await client.get(f"/item/{item}/tiles/histogram", params={"frame": 0, **query})
            for found, entry in zip(await answer.json(), expected, strict=False):
                assert found["hist"] == entry["hist"].tolist()
                assert found["bin_edges"] == pytest.approx(entry["bin_edges"].tolist())
                assert [found[key] for key in ("min", "max", "samples")] == [
                    entry[key] for key in ("min", "max", "samples")
                ]
                assert found["mean"] == pytest.approx(entry["mean"])
                assert found["stdev"] == pytest.approx(entry["stdev"])
