"""Leica SCN: the main region of a collection as a pyramid, its channels and depths as frames."""

from __future__ import annotations

import io
import re
from typing import Any

import numpy as np
import pytest
import tifffile

from gputiles.errors import Unsupported
from gputiles.image import Channel, Colour
from gputiles.sources.open import open_source
from tests.reading import read_level

NAMESPACE = "http://www.leica-microsystems.com/scn/2010/10/01"
SIZE = (26_000_000, 76_000_000)  # nanometres of the slide
Planes = dict[tuple[int, int, int], np.ndarray[Any, Any]]  # by level, depth, channel


def image(
    planes: Planes, first: int, *, view: tuple[int, int], offset: tuple[int, int], more: str = ""
) -> str:
    dimensions = "".join(
        f'<dimension sizeX="{array.shape[1]}" r="{r}" z="{z}" c="{c}" ifd="{first + at}"/>'
        for at, ((r, z, c), array) in enumerate(planes.items())
    )
    return (
        f'<image name="one"><pixels>{dimensions}</pixels>'
        f'<view sizeX="{view[0]}" sizeY="{view[1]}" offsetX="{offset[0]}" offsetY="{offset[1]}"/>'
        f"<scanSettings>{more}</scanSettings></image>"
    )


def document(*images: str) -> str:
    size = f'sizeX="{SIZE[0]}" sizeY="{SIZE[1]}"'
    return f'<scn xmlns="{NAMESPACE}"><collection name="slide" {size}>{"".join(images)}</collection></scn>'


def scn_file(text: str, *regions: Planes) -> io.BytesIO:
    file = io.BytesIO()
    with tifffile.TiffWriter(file, bigtiff=True) as writer:
        for at, array in enumerate(array for planes in regions for array in planes.values()):
            options: dict[str, Any] = {"photometric": "rgb" if array.ndim == 3 else "minisblack"}
            description = text.encode() if at == 0 else None
            writer.write(array, tile=(128, 128), description=description, metadata=None, **options)
    return file


def noise(*shape: int, dtype: str = "u1") -> np.ndarray[Any, Any]:
    return np.random.default_rng(sum(shape)).integers(0, 255, shape, dtype)


def macro() -> Planes:
    return {(0, 0, 0): noise(700, 240, 3)}  # larger than the regions: only its view tells what it is


def brightfield() -> Planes:
    return {(r, 0, 0): noise(600 >> 2 * r, 500 >> 2 * r, 3) for r in range(2)}


def test_the_main_region_is_a_pyramid_with_sizes_and_magnification() -> None:
    pictures, planes = macro(), brightfield()
    more = "<objectiveSettings><objective>20</objective></objectiveSettings>"
    text = document(
        image(pictures, 0, view=SIZE, offset=(0, 0)),
        image(planes, 1, view=(250_000, 150_000), offset=(9_000_000, 8_000_000), more=more),
    )
    file = scn_file(text, pictures, planes)
    source = open_source(file)
    info = source.info
    assert (info.format, info.colour, info.stored) == ("SCN", Colour.RGB, (False, True, False, True))
    assert (info.width, info.height, info.magnification) == (500, 600, 20.0)
    assert (info.mm_x, info.mm_y) == (pytest.approx(0.0005), pytest.approx(0.00025))
    assert info.axes == ()
    np.testing.assert_array_equal(read_level(source, 0, info.levels - 1), planes[0, 0, 0])
    np.testing.assert_array_equal(read_level(source, 0, info.levels - 3), planes[1, 0, 0])
    file.seek(0)
    with tifffile.TiffFile(file) as tif:
        assert [series.shape[-3:] for series in tif.series] == [(700, 240, 3), (600, 500, 3)]
        np.testing.assert_array_equal(tif.series[1].levels[1].asarray().squeeze(), planes[1, 0, 0])


@pytest.mark.parametrize("depths", [1, 3])
def test_fluorescence_channels_and_depths_are_frames(depths: int) -> None:
    planes: Planes = {
        (r, z, c): noise(600 >> r, 400 >> r, dtype="u2") + np.uint16(100 * z + 1000 * c)
        for c in range(2)
        for r in range(2)
        for z in range(depths)
    }
    more = (
        '<channelSettings><channel index="0" name="405|Empty" rgb="#0000FF"/>'
        '<channel index="1" name="L5" rgb="#00ff00"/></channelSettings>'
    )
    text = document(image(planes, 0, view=(200_000, 300_000), offset=(5, 5), more=more))
    source = open_source(scn_file(text, planes))
    assert source.info.axes == (("C", 2), *((("Z", depths),) if depths > 1 else ()))
    assert source.info.channels == (Channel("405|Empty", "#0000ff"), Channel("L5", "#00ff00"))
    for z in range(depths):
        for c in range(2):
            for r in range(2):
                level = read_level(source, 2 * z + c, source.info.levels - 1 - r)
                np.testing.assert_array_equal(level[..., 0], planes[r, z, c])


def test_of_several_regions_the_largest_is_shown_and_the_others_are_told() -> None:
    small, large = {(0, 0, 0): noise(100, 200, 3)}, brightfield()
    text = document(
        image(small, 0, view=(10, 10), offset=(1, 1)), image(large, 1, view=(20, 20), offset=(2, 2))
    )
    info = open_source(scn_file(text, small, large)).info
    assert (info.width, info.height) == (500, 600)
    assert any("1 further scanned regions" in warning for warning in info.warnings)


def test_planes_that_the_file_lacks_are_missing() -> None:
    planes = {(0, 0, 0): noise(200, 200)}
    text = document(image({**planes, (0, 0, 2): noise(200, 200)}, 0, view=(9, 9), offset=(1, 1)))
    info = open_source(scn_file(text, planes)).info
    assert info.missing == {1, 2}
    assert any("2 of 3 planes" in warning for warning in info.warnings)


def test_a_level_that_one_channel_lacks_is_made_instead() -> None:
    planes: Planes = {(0, 0, 0): noise(600, 600), (0, 0, 1): noise(600, 600), (1, 0, 1): noise(300, 300)}
    source = open_source(scn_file(document(image(planes, 0, view=(9, 9), offset=(1, 1))), planes))
    assert source.info.stored == (False, False, False, True)[-source.info.levels :]


@pytest.mark.parametrize("text", [
    "<scn></scn>", "<scn><collection></collection></scn>", "<broken</scn>",
    document('<image><pixels><dimension ifd="x"/></pixels></image>'),
    document('<image><pixels><dimension ifd="9"/></pixels></image>'),
    document('<image><pixels><dimension ifd="0" c="-1"/></pixels></image>'),
    document('<image><pixels><dimension ifd="0" c="99999999"/></pixels></image>'),
    '<!DOCTYPE scn [<!ENTITY a "b">]>' + document("&a;"),
])  # fmt: skip
def test_of_a_description_that_cannot_be_used_the_plain_page_is_served_with_a_warning(text: str) -> None:
    planes: Planes = {(0, 0, 0): noise(20, 20)}
    source = open_source(scn_file(text, planes))
    assert re.search("SCN description|levels of", source.info.warnings[0])
    np.testing.assert_array_equal(read_level(source, 0, 0)[..., 0], planes[0, 0, 0])


def test_planes_of_different_kinds_are_refused() -> None:
    planes: Planes = {(0, 0, 0): noise(200, 200), (0, 0, 1): noise(200, 200, dtype="u2")}
    with pytest.raises(Unsupported, match="different sizes or kinds"):
        open_source(scn_file(document(image(planes, 0, view=(9, 9), offset=(1, 1))), planes))
