"""Ten real files, every tile of every stored level: equal to what tifffile reads."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray

from gputiles.image import Channel, Colour
from gputiles.sources.open import open_source
from tests.conftest import shared
from tests.oracle import frame_axes
from tests.reading import read_level


@dataclass(frozen=True)
class Real:
    """A file and what is known of it: ``stored`` levels, axes in frame order, channel names."""

    name: str
    stored: tuple[bool, ...]
    axes: tuple[tuple[str, int], ...] = ()
    channels: tuple[str, ...] = ()
    colour: Colour = Colour.GREY
    mm_x: float | None = None
    magnification: float | None = None
    format: str = "OME-TIFF"


_NUMBERED = ("Channel 0", "Channel 1", "Channel 2")
FILES = (
    Real(
        "libvips__CMU-1-Small-Region.svs", (False, False, False, False, True),
        colour=Colour.RGB, mm_x=0.000499, magnification=20.0, format="SVS",
    ),
    Real(
        "pathml__small_vectra.qptiff", (False, False, False, True), (("C", 3),), ("DAPI", "FITC", "Cy3"),
        mm_x=10 * 213260 / 4294967295, magnification=10.0, format="QPTIFF",
    ),
    Real("minerva-author__2048x2048_ome6_tiled.ome.tif", (True, True), (("C", 3),), _NUMBERED),
    Real(
        "TileDB-BioImaging__rand_uint16.ome.tiff", (True, True),
        channels=("Channel 1",), colour=Colour.RGB, mm_x=0.00029,
    ),
    Real("qupath__cells-2c.ome.tif", (True,), (("C", 2),), _NUMBERED[:2], mm_x=0.00025),
    Real("libvips__multi-channel-z-series.ome.tif", (False, True), (("Z", 5), ("C", 3)), _NUMBERED),
    Real("exampletiffs__multi-channel-time-series.ome.tif", (False, True), (("C", 3), ("T", 7)), _NUMBERED),
    Real("viv__multi-channel.ome.tif", (False, True), (("C", 3),), _NUMBERED),
    Real("openslide-python__boxes.tiff", (True, True), colour=Colour.RGB, format="TIFF"),
    Real("large_image__yb10kx5k.zstd.tiff", (True,) * 5, colour=Colour.RGB, format="TIFF"),
)  # fmt: skip


@pytest.mark.parametrize("real", FILES, ids=[real.name for real in FILES])
def test_facts_of_the_file_are_listed(real: Real) -> None:
    source = open_source(shared("data", real.name))
    info = source.info
    assert info.stored == real.stored
    assert info.axes == real.axes
    assert tuple(channel.name for channel in info.channels) == real.channels
    assert info.colour is real.colour
    assert info.mm_x == pytest.approx(real.mm_x)
    assert info.magnification == real.magnification
    assert info.format == real.format
    assert len(info.frames) == np.prod([length for _, length in real.axes], dtype=int)
    assert info.colormap is None
    assert not info.missing
    source.close()


@pytest.mark.parametrize("real", FILES, ids=[real.name for real in FILES])
def test_every_tile_of_every_stored_level_equals_tifffile(real: Real) -> None:
    path = shared("data", real.name)
    source = open_source(path)
    for z in range(source.info.levels):
        if not real.stored[z]:
            continue
        planes = level_planes(path, source.info.levels - 1 - z)
        assert len(planes) == len(source.info.frames)
        for frame, plane in enumerate(planes):
            served = read_level(source, frame, z)
            # a level may lack the grid's last row or column: it is repeated
            height, width = served.shape[:2]
            lacking = (0, height - plane.shape[0]), (0, width - plane.shape[1]), (0, 0)
            np.testing.assert_array_equal(served, np.pad(plane, lacking, mode="edge"))
    source.close()


def level_planes(path: Path, reduction: int) -> list[NDArray[Any]]:
    """Return the planes, in frame order, of the level that is 2**reduction smaller."""
    with tifffile.TiffFile(path) as tif:
        series = tif.series[0]
        wanted = series.shape[series.axes.index("X")] / 2**reduction
        level = next(one for one in series.levels if abs(one.shape[one.axes.index("X")] - wanted) <= 1)
        array, axes = level.asarray(), level.axes
    array = array.transpose([axes.index(axis) for axis in frame_axes(series) + "YXS" if axis in axes])
    shape = array.shape if "S" in axes else (*array.shape, 1)
    return list(array.reshape(-1, *shape[-3:]))


def test_channels_of_a_qptiff_carry_the_colours_of_their_pages() -> None:
    source = open_source(shared("data", "pathml__small_vectra.qptiff"))
    assert source.info.channels[:2] == (Channel("DAPI", "#0000ff"), Channel("FITC", "#00ff00"))
    source.close()


def test_palettes_of_ome_channels_are_hints_only() -> None:
    source = open_source(shared("data", "qupath__cells-2c.ome.tif"))
    assert source.info.colour is Colour.GREY
    source.close()


def test_planes_of_a_set_come_from_all_its_files() -> None:
    folder = shared("data", "viv__set_companion")
    source = open_source(folder / "multifile-Z3.ome.tiff", root=folder)
    assert source.info.axes == (("Z", 5),)
    assert not source.info.missing
    assert source.descriptors == 5
    assert {path.name for path in source.paths} == {
        "multifile.companion.ome",
        *(f"multifile-Z{number}.ome.tiff" for number in range(1, 6)),
    }
    source.close()


def test_planes_of_absent_companions_are_missing() -> None:
    folder = shared("data", "exampletiffs__set_master")
    source = open_source(folder / "multifile-Z1.ome.tiff", root=folder)
    assert source.info.missing == {3, 4}
    assert any("multifile-Z4" in warning for warning in source.info.warnings)
    source.close()
