"""The synthetic image: deterministic, every tile tells where it lies."""

from __future__ import annotations

import numpy as np
import pytest

from gputiles.errors import BadRequest, GputilesError, NotFound
from gputiles.image import Colour
from gputiles.sources.pattern import PatternRef, PatternSource, parse_axes
from tests.reading import full, read_level, read_tile

SMALL = PatternRef(max_level=2, tile_width=64, tile_height=32)


def test_the_size_follows_from_tile_and_levels() -> None:
    info = SMALL.open(0).info
    assert (info.width, info.height, info.levels) == (256, 128, 3)
    assert info.stored == (True, True, True)
    assert info.colour is Colour.RGB


def test_a_size_of_its_own_wins_over_the_levels() -> None:
    info = PatternRef(size_x=1000, size_y=300, tile_width=100, tile_height=100).open(0).info
    assert (info.width, info.height, info.levels) == (1000, 300, 5)


def test_levels_below_the_lowest_are_not_stored() -> None:
    assert PatternRef(min_level=2, max_level=3).open(0).info.stored == (False, False, True, True)


@pytest.mark.parametrize("fractal", [False, True])
def test_the_pixels_show_their_position(fractal: bool) -> None:
    source = PatternRef(size_x=256, size_y=256, tile_width=64, tile_height=64, fractal=fractal).open(0)
    pixels = full(source)
    np.testing.assert_array_equal(pixels[0, :, 0], np.arange(256))
    np.testing.assert_array_equal(pixels[:, 0, 1], np.arange(256))


def test_all_tiles_of_a_level_differ() -> None:
    source = PatternRef(max_level=3, tile_width=64, tile_height=64, fractal=True).open(0)
    tiles = [read_tile(source, 0, 3, x, y) for x in range(8) for y in range(8)]
    assert len({tile.tobytes() for tile in tiles if not isinstance(tile, GputilesError)}) == 64


def test_smaller_levels_show_the_same_gradients() -> None:
    source = SMALL.open(0)
    fine, coarse = full(source), read_level(source, 0, 1)
    np.testing.assert_array_equal(coarse[..., :2], fine[::2, ::2, :2])


def test_frames_are_named_by_axis_and_differ() -> None:
    source = PatternRef(max_level=1, frames="c=2,z=3").open(0)
    assert source.info.axes == (("C", 2), ("Z", 3))
    assert source.info.frames[3].index == (("C", 1), ("Z", 1))
    assert [channel.name for channel in source.info.channels] == ["Channel 0", "Channel 1"]
    assert len({full(source, frame).tobytes() for frame in range(6)}) == 6
    with pytest.raises(NotFound, match="Frame does not exist"):
        full(source, 6)


def test_a_number_of_frames_is_a_stack() -> None:
    assert PatternRef(frames="4").open(0).info.axes == (("Z", 4),)
    assert parse_axes("") == ()


def test_monochrome_has_one_sample() -> None:
    info = PatternRef(monochrome=True).open(0).info
    assert (info.samples, info.colour) == (1, Colour.GREY)


@pytest.mark.parametrize("frames", ["c", "c=0", "c=2,c=3", "c=x", "-1", "c=99999"])
def test_impossible_frames_are_refused(frames: str) -> None:
    with pytest.raises(BadRequest, match="frames"):
        PatternSource(PatternRef(frames=frames))


@pytest.mark.parametrize("pattern", [
    PatternRef(tile_width=0), PatternRef(max_level=31), PatternRef(size_x=0), PatternRef(min_level=-1),
])  # fmt: skip
def test_impossible_sizes_are_refused(pattern: PatternRef) -> None:
    with pytest.raises(BadRequest, match="expected"):
        pattern.open(0)


def test_equal_patterns_are_equal_references() -> None:
    assert PatternRef(frames="c=2") == PatternRef(frames="c=2")
    assert hash(PatternRef()) == hash(PatternRef())


def test_there_is_nothing_to_pass_through_or_to_close() -> None:
    source = SMALL.open(0)
    assert source.passthrough(0, 2, 0, 0) is None
    assert source.descriptors == 0
    assert source.paths == ()
    source.close()
