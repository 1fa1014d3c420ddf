"""The demo sample: what it claims to be, whole, and the same every time."""

from __future__ import annotations

import itertools
import subprocess
import sys

import numpy as np
import pytest
import tifffile

from gputiles.sample import count_tiles, halve, level_sizes, write_sample
from gputiles.sources.open import open_source
from gputiles.tissue import CHANNELS

SIZE = 1100  # odd levels, edge tiles, more than one period


@pytest.fixture(scope="module")
def sample(tmp_path_factory):
    path = tmp_path_factory.mktemp("sample") / "deep" / "sample.ome.tif"
    write_sample(path, SIZE)
    return path


def test_it_is_a_deflated_tiled_pyramid_in_sub_ifds(sample):
    with tifffile.TiffFile(sample) as file:
        (series,) = file.series
        assert (series.axes, series.dtype) == ("CYX", np.uint16)
        assert [level.shape for level in series.levels] == [(8, side, side) for side in level_sizes(SIZE)]
        assert len(file.pages) == 8, "the levels are not pages of their own"
        page = file.pages.first
        assert (page.tilewidth, page.compression.name, page.predictor.name) == (
            512, "ADOBE_DEFLATE", "HORIZONTAL",
        )  # fmt: skip
        assert len(page.subifds) == len(level_sizes(SIZE)) - 1


def test_names_colours_and_pixel_size_are_read_back(sample):
    source = open_source(sample)
    info = source.info
    source.close()
    assert [(channel.name, channel.colour) for channel in info.channels] == [
        (channel.name, channel.colour) for channel in CHANNELS
    ]
    assert (info.mm_x, info.mm_y) == (0.0005, 0.0005)
    assert (info.levels, info.stored) == (3, (True, True, True))
    assert not info.warnings


def test_each_level_is_the_rounded_mean_of_the_one_below(sample):
    with tifffile.TiffFile(sample) as file:
        levels = [level.asarray() for level in file.series[0].levels]
    for finer, coarser in itertools.pairwise(levels):
        for channel in range(8):
            padded = np.pad(finer[channel], [(0, side % 2) for side in finer.shape[1:]], mode="edge")
            side = coarser.shape[1]
            mean = padded.reshape(side, 2, side, 2).astype(np.float64).mean(axis=(1, 3))
            np.testing.assert_array_equal(coarser[channel], np.rint(mean))


def test_halving_rounds_half_to_even():
    band = np.array([[0, 1, 1, 2, 7, 65_535], [0, 1, 1, 2, 8, 65_535]], np.uint16)
    assert halve(band).tolist() == [[0, 2, 32_771]]  # 0.5, 1.5 and 32771.25
    assert halve(np.array([[1, 2, 3]], np.uint16)).tolist() == [[2, 3]]


def test_the_pixels_use_more_than_twelve_bits_and_all_channels_show_something(sample):
    with tifffile.TiffFile(sample) as file:
        pixels = file.series[0].asarray()
    assert 2**13 < pixels.max() < 2**16
    for channel, plane in zip(CHANNELS, pixels, strict=True):
        low, high = np.percentile(plane, [5, 99.9])
        assert high > 2 * low, channel.name


def test_the_same_seed_gives_the_same_pixels_and_another_does_not(tmp_path):
    def pixels(name, seed):
        write_sample(tmp_path / name, 256, seed)
        return tifffile.imread(tmp_path / name)

    first = pixels("a.tif", 1)
    np.testing.assert_array_equal(first, pixels("b.tif", 1))
    assert not np.array_equal(first, pixels("c.tif", 2))


def test_progress_adds_up(tmp_path):
    steps: list[int] = []
    write_sample(tmp_path / "a.ome.tif", 700, progress=steps.append)
    assert sum(steps) == count_tiles(700) == 8 * (4 + 1)


def test_an_interrupted_write_leaves_nothing_behind(tmp_path):
    def stop(_):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_sample(tmp_path / "a.ome.tif", 600, progress=stop)
    assert not list(tmp_path.iterdir())


def test_memory_does_not_grow_with_the_image(tmp_path):
    program = (
        "import re, sys; from pathlib import Path; from gputiles.sample import write_sample;"
        "write_sample(Path(sys.argv[1]), 3072);"
        # the peak of this program alone: ru_maxrss would begin with that of the process that forked it
        "print(re.search(r'VmHWM:\\s*(\\d+)', Path('/proc/self/status').read_text())[1])"
    )
    output = subprocess.check_output([sys.executable, "-c", program, tmp_path / "a.ome.tif"], text=True)
    assert int(output) < 300_000, "kB; the pixels alone are 200 MB"
