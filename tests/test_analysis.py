"""Histograms and statistics of bands: NumPy's numbers, of the stored values."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from aiohttp.test_utils import TestClient, TestServer
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from numpy.typing import NDArray

from gputiles.app import create_app
from gputiles.config import Config
from gputiles.errors import BadRequest
from gputiles.histograms import HistogramQuery, describe
from tests.test_http import find

Client = TestClient[Any, Any]
RNG = np.random.default_rng(9)
PICTURES: dict[str, NDArray[Any]] = {
    "uint16": RNG.poisson(900, (3, 300, 400)).astype(np.uint16),
    "rgb": RNG.integers(0, 255, (300, 400, 3)).astype(np.uint8),
    "int16": RNG.integers(-500, 500, (300, 400)).astype(np.int16),
    "float32": np.where(RNG.random((300, 400)) < 0.01, np.nan, RNG.normal(0, 5, (300, 400))).astype(
        np.float32
    ),
}


@pytest.fixture
async def client(tmp_path: Path) -> AsyncIterator[Client]:
    for name, data in PICTURES.items():
        options: dict[str, Any] = {"photometric": "rgb"} if name == "rgb" else {"photometric": "minisblack"}
        if name == "uint16":
            options["metadata"] = {"axes": "CYX"}
        suffix = "ome.tif" if name == "uint16" else "tif"
        tifffile.imwrite(tmp_path / f"{name}.{suffix}", data, tile=(128, 128), compression="zlib", **options)
    config = Config(roots=(tmp_path,), tile_cache=1 << 22, raw_cache=1 << 24, workers=2)
    async with TestClient(TestServer(create_app(config))) as client:
        yield client


async def ask(client: Client, name: str, route: str, **query: Any) -> Any:
    item = await find(client, f"{name}.{'ome.tif' if name == 'uint16' else 'tif'}")
    answer = await client.get(f"/item/{item}/tiles/{route}", params=query)
    assert answer.status == 200, await answer.text()
    return await answer.json()


def planes(name: str, frame: int) -> list[NDArray[Any]]:
    data = PICTURES[name]
    if name == "uint16":
        return [data[frame]]
    return [data[..., sample] for sample in range(3)] if name == "rgb" else [data]


def check(found: dict[str, Any], values: NDArray[Any], bins: int = 256) -> None:
    finite = values[np.isfinite(values)]
    counts, edges = np.histogram(finite, bins, (float(finite.min()), float(finite.max()) + 1))
    assert found["hist"] == counts.tolist()
    assert found["bin_edges"] == pytest.approx(edges.tolist())
    assert (found["min"], found["max"]) == (finite.min(), finite.max())
    assert found["mean"] == pytest.approx(float(finite.mean(dtype=float)))
    assert found["stdev"] == pytest.approx(float(finite.std(dtype=float)))
    assert (found["bins"], found["samples"], found["density"]) == (bins, finite.size, False)


@pytest.mark.parametrize("name", PICTURES)
async def test_histograms_of_a_frame_are_numpys(client: Client, name: str) -> None:
    for frame in (0, 2) if name == "uint16" else (0,):
        found = await ask(client, name, "histogram", frame=frame)
        assert len(found) == len(planes(name, frame))
        for entry, values in zip(found, planes(name, frame), strict=True):
            check(entry, values)


async def test_a_region_is_counted_where_one_is_given(client: Client) -> None:
    (found,) = await ask(
        client, "uint16", "histogram", left=50, top=60, right=170, bottom=200, bins=64, frame=1
    )
    check(found, PICTURES["uint16"][1, 60:200, 50:170], 64)


async def test_each_band_of_a_style_is_counted_in_its_stored_values(client: Client) -> None:
    style = json.dumps(
        {"dtype": "source", "bands": [{"frame": 2, "min": 5}, {"framedelta": 1}, {"channel": 0}]}
    )
    found = await ask(client, "uint16", "histogram", style=style)
    for entry, frame in zip(found, (2, 1, 0), strict=True):
        check(entry, PICTURES["uint16"][frame])


async def test_without_resampling_the_values_of_a_level_are_counted(client: Client) -> None:
    (found,) = await ask(client, "uint16", "histogram", width=150, height=150, resample="false")
    assert found["samples"] == 200 * 150  # the level of half the size, not 150 × 112
    half = PICTURES["uint16"][0].reshape(150, 2, 200, 2).mean(axis=(1, 3))
    check(found, np.rint(half).astype(np.uint16))


async def test_shares_and_given_ranges(client: Client) -> None:
    (found,) = await ask(client, "int16", "histogram", rangeMin=-100, rangeMax=100, bins=10, density="true")
    values = PICTURES["int16"]
    inside = values[(values >= -100) & (values <= 100)]
    assert found["range"] == [-100, 100]
    assert found["samples"] == inside.size
    assert sum(found["hist"]) == pytest.approx(1)
    assert found["hist"] == pytest.approx((np.histogram(values, 10, (-100, 100))[0] / inside.size).tolist())


def test_rounded_ranges_have_bins_of_whole_width_where_there_are_few_integers() -> None:
    values = np.arange(3, 130, dtype=np.uint16)
    assert describe(values, HistogramQuery(16, rounded=True))["range"] == [3, 131]
    assert describe(values * 20, HistogramQuery(16, rounded=True))["range"] == [60, 2581]
    assert describe(values / 2, HistogramQuery(16, rounded=True))["range"] == [1.5, 65.5]


@given(
    arrays.arrays(
        np.float32, st.integers(0, 40), elements=st.floats(-(2.0**100), 2.0**100, width=32) | st.just(np.nan)
    ),
    st.integers(1, 300),
)
def test_any_values_have_a_histogram_that_counts_the_finite_ones(values: NDArray[Any], bins: int) -> None:
    found = describe(values, HistogramQuery(bins))
    assert len(found["hist"]) == bins == len(found["bin_edges"]) - 1
    assert sum(found["hist"]) == found["samples"] == int(np.isfinite(values).sum())


@pytest.mark.parametrize("name", PICTURES)
async def test_bands_tell_what_the_samples_of_a_frame_are(client: Client, name: str) -> None:
    for frame in (0, 1) if name == "uint16" else (0,):
        found = await ask(client, name, "bands", frame=frame)
        names = ["red", "green", "blue"] if name == "rgb" else ["gray"]
        for at, (word, values) in enumerate(zip(names, planes(name, frame), strict=True), 1):
            finite = values[np.isfinite(values)]
            entry = found[str(at)]
            assert (entry["interpretation"], entry["min"], entry["max"]) == (word, finite.min(), finite.max())
            assert entry["mean"] == pytest.approx(float(finite.mean(dtype=float)))


@pytest.mark.parametrize(
    ("query", "status", "reason"),
    [
        ({"bins": "0"}, 400, "bins: expected an integer, at least 1"),
        ({"bins": "100000"}, 400, "bins: expected 1 to 65536"),
        ({"rangeMin": "5", "rangeMax": "1"}, 400, "expected a range"),
        ({"density": "perhaps"}, 400, "density: expected true or false"),
        ({"frame": "9"}, 404, "Frame does not exist"),
        ({"style": "["}, 400, "Style is not a valid json object"),
    ],
)
async def test_histograms_that_cannot_be_are_refused(
    client: Client, query: dict[str, str], status: int, reason: str
) -> None:
    item = await find(client, "uint16.ome.tif")
    answer = await client.get(f"/item/{item}/tiles/histogram", params=query)
    assert (answer.status, reason in (await answer.json())["message"]) == (status, True)


def test_a_range_that_ends_before_it_begins_is_refused() -> None:
    with pytest.raises(BadRequest, match="expected a range; got 3 to 3"):
        HistogramQuery(low=3, high=3)


async def test_a_pixel_has_its_stored_values_and_its_colour(client: Client) -> None:
    red, green, blue = (int(value) for value in PICTURES["rgb"][20, 10])
    found = await ask(client, "rgb", "pixel", left=10, top=20)
    assert found == {"value": [red, green, blue], "r": red, "g": green, "b": blue}
    value = int(PICTURES["uint16"][1, 20, 10])
    assert await ask(client, "uint16", "pixel", left=10, top=20, frame=1) == {
        "value": [value],
        "l": value >> 8,
    }
    style = json.dumps({"min": 0, "max": value * 2, "palette": ["#000", "#f00"]})
    styled = await ask(client, "uint16", "pixel", left=10, top=20, frame=1, style=style)
    assert styled == {"value": [value], "r": 127, "g": 0, "b": 0, "a": 255}


async def test_pixels_of_several_frames_are_a_list(client: Client) -> None:
    for text in ("2,0", "[2, 0]"):
        found = await ask(client, "uint16", "pixel", left=399, top=299, frameList=text)
        assert [(entry["frame"], entry["value"]) for entry in found] == [
            (frame, [int(PICTURES["uint16"][frame, 299, 399])]) for frame in (2, 0)
        ]
    assert await ask(client, "uint16", "pixel", left=400, top=0, frameList="1") == [{"frame": 1}]


async def test_a_pixel_may_be_named_in_other_units(client: Client) -> None:
    found = await ask(client, "int16", "pixel", left=0.5, top=0.25, units="fraction")
    assert found["value"] == [int(PICTURES["int16"][75, 200])]


async def test_values_that_are_no_numbers_are_null(client: Client) -> None:
    y, x = (int(axis[0]) for axis in np.nonzero(np.isnan(PICTURES["float32"])))
    assert (await ask(client, "float32", "pixel", left=x, top=y))["value"] == [None]


@pytest.mark.parametrize(
    ("query", "status"),
    [
        ("left=1", 400),
        ("left=1&top=1&frameList=a", 400),
        ("left=1&top=1&frameList=0,9", 404),
        ("top=x&left=1", 400),
    ],
)
async def test_pixels_that_cannot_be_are_refused(client: Client, query: str, status: int) -> None:
    item = await find(client, "uint16.ome.tif")
    assert (await client.get(f"/item/{item}/tiles/pixel?{query}")).status == status
