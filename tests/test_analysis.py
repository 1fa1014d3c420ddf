"""Histograms and statistics of bands: NumPy's numbers, of the stored values."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from io import BytesIO
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
from gputiles.backends import MeasureJob
from gputiles.backends.host import HostBackend
from gputiles.backends.paste import raster_of
from gputiles.config import Config
from gputiles.counting import count
from gputiles.engine import Engine
from gputiles.errors import BadRequest, GputilesError
from gputiles.geometry import Rect
from gputiles.histograms import (
    Count,
    CountRequest,
    HistogramQuery,
    Moments,
    describe,
    edges_for,
    moments_of,
    moments_of_counts,
    rebinned,
)
from gputiles.request import RegionRequest, TileRequest
from gputiles.sources.pattern import PatternRef
from gputiles.trace import Trace
from tests.conftest import shared
from tests.grids import assert_refused
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
    async with serving(tmp_path) as client:
        yield client


@asynccontextmanager
async def serving(*roots: Path, raw_cache: int = 1 << 24) -> AsyncIterator[Client]:
    config = Config(roots=roots, tile_cache=1 << 22, raw_cache=raw_cache, workers=2)
    async with TestClient(TestServer(create_app(config))) as client:
        yield client


async def ask(client: Client, name: str, route: str, **query: Any) -> Any:
    item = await find(client, f"{name}.{'ome.tif' if name in ('uint16', 'image') else 'tif'}")
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


def edges(values: NDArray[Any], query: HistogramQuery) -> tuple[float, float, int]:
    return edges_for(query, moments_of(values), values.dtype)


def test_rounded_ranges_have_bins_of_whole_width_where_there_are_few_integers() -> None:
    values = np.arange(3, 130, dtype=np.uint16)
    assert edges(values, HistogramQuery(16, rounded=True)) == (3, 131, 16)
    assert edges(values, HistogramQuery(256, rounded=True)) == (3, 130, 127)  # one for each value
    assert edges(values * 20, HistogramQuery(16, rounded=True)) == (60, 2581, 16)
    assert edges(values / 2, HistogramQuery(16, rounded=True)) == (1.5, 65.5, 16)
    assert edges(values, HistogramQuery(16, low=0, rounded=True)) == (0, 130, 16)


@pytest.mark.parametrize("name", ["uint8", "uint16", "few", "int16"])
@pytest.mark.parametrize(
    "query", [{}, {"bins": 16}, {"roundRange": "true"}, {"bins": 16, "roundRange": "true"}]
)
async def test_histograms_are_those_of_large_image(tmp_path: Path, name: str, query: dict[str, Any]) -> None:
    oracle = pytest.importorskip("large_image_source_ometiff", reason="needs the extra 'conformance'")
    low, high = {"uint8": (20, 100), "uint16": (100, 3000), "few": (20, 100), "int16": (-50, 60)}[name]
    data = RNG.integers(low, high, (2, 300, 400)).astype("uint16" if name == "few" else name)
    path = tmp_path / "image.ome.tif"
    tifffile.imwrite(path, data, tile=(128, 128), photometric="minisblack", metadata={"axes": "CYX"})
    options = {"bins": query.get("bins", 256)} | ({"range": "round"} if "roundRange" in query else {})
    (theirs,) = oracle.open(str(path)).histogram(frame=1, **options)["histogram"]
    async with serving(path) as client:
        (ours,) = await ask(client, "image", "histogram", frame=1, **query)
    assert ours["hist"] == theirs["hist"].tolist()
    assert (ours["range"], ours["bins"]) == (list(theirs["range"]), theirs["bins"])
    assert {key: ours[key] for key in ("min", "max", "samples")} == {
        key: float(theirs[key]) for key in ("min", "max", "samples")
    }
    assert ours["bin_edges"] == theirs["bin_edges"].tolist()
    assert (ours["mean"], ours["stdev"]) == pytest.approx((theirs["mean"], theirs["stdev"]))


BACKEND = HostBackend(1)


def through_the_kernel(values: NDArray[Any], query: HistogramQuery) -> Count:
    """Return what is counted of values, in the way of wide types."""
    moments = moments_of(values)
    low_high_bins = edges_for(query, moments, values.dtype)
    raster = raster_of(np.array(values).reshape(1, -1, 1))
    (found,) = BACKEND.measure([MeasureJob(raster, 0, low_high_bins)])
    assert not isinstance(found, GputilesError)
    return Count(moments, found.histogram, low_high_bins)


FLOATS = arrays.arrays(
    np.float32, st.integers(1, 40), elements=st.floats(-(2.0**100), 2.0**100, width=32) | st.just(np.nan)
)


@given(FLOATS, st.integers(1, 300))
def test_any_values_have_a_histogram_that_counts_the_finite_ones(values: NDArray[Any], bins: int) -> None:
    found = describe(through_the_kernel(values, HistogramQuery(bins)))
    finite = values[np.isfinite(values)].astype(float)
    assert found["hist"] == np.histogram(finite, bins, tuple(found["range"]))[0].tolist()
    assert len(found["hist"]) == bins == len(found["bin_edges"]) - 1
    assert sum(found["hist"]) == found["samples"] == len(finite)


WHOLE = arrays.arrays(np.int16, st.integers(0, 60), elements=st.integers(-(2**15), 2**15 - 1))


@given(WHOLE, st.integers(1, 70), st.none() | st.integers(-40000, 40000), st.integers(1, 70000))
def test_integers_counted_one_by_one_fall_into_numpys_bins(
    values: NDArray[Any], bins: int, low: int | None, span: int
) -> None:
    singles = np.bincount(values.astype(int) + 2**15, minlength=2**16)
    moments = moments_of_counts(singles, -(2**15))
    query = HistogramQuery(bins, low, None if low is None else low + span)
    limits = edges_for(query, moments, values.dtype)
    counts = rebinned(singles, -(2**15), limits)
    assert counts.tolist() == np.histogram(values, bins, limits[:2])[0].tolist()
    same(moments, moments_of(values))


@given(st.lists(WHOLE, max_size=6))
def test_moments_of_tiles_join_to_those_of_all_values(tiles: list[NDArray[Any]]) -> None:
    joined = Moments()
    for tile in tiles:
        joined = joined.joined(moments_of(tile))
    same(joined, moments_of(np.concatenate([*tiles, np.empty(0, np.int16)])))


def same(one: Moments, other: Moments) -> None:
    assert (one.count, one.low, one.high) == (other.count, other.low, other.high)
    assert one.mean == pytest.approx(other.mean, abs=1e-9)
    assert one.squares == pytest.approx(other.squares, rel=1e-9, abs=1e-6)


@pytest.mark.filterwarnings("error")
def test_the_largest_floats_have_extremes_whatever_their_squares_are() -> None:
    found = describe(through_the_kernel(np.array([-1.7e308, 1.7e308, 1.6e308]), HistogramQuery(4)))
    assert (found["min"], found["max"], found["samples"]) == (-1.7e308, 1.7e308, 0)
    assert all(np.isfinite(found["range"]))


async def test_values_that_are_no_data_are_not_counted(tmp_path: Path) -> None:
    data = RNG.integers(0, 50, (300, 400)).astype(np.int16)
    data[:100] = -99
    for kind in (np.int16, np.float32):
        path = tmp_path / f"{np.dtype(kind)}.tif"
        nodata = [(42113, "s", 0, "-99", True)]
        tifffile.imwrite(path, data.astype(kind), tile=(128, 128), extratags=nodata, photometric="minisblack")
    async with serving(tmp_path) as client:
        for name in ("int16", "float32"):
            (found,) = await ask(client, name, "histogram", bottom=150)
            check(found, data[100:150].astype(name))
            assert (await ask(client, name, "bands"))["1"]["min"] == data[100:].min()


PATTERN = "/item/test/tiles/histogram?sizeX=3000&sizeY=3000&monochrome=true&fractal=true"


async def test_images_larger_than_the_cache_are_counted_in_it(client: Client) -> None:
    async with serving(raw_cache=1 << 20) as client:
        (found,) = await (await client.get(PATTERN)).json()
        report = await (await client.get("/large_image/cache")).json()
    assert found["samples"] == 3000 * 3000 == sum(found["hist"])
    assert report["shelves"]["rasters"]["peak"] <= 2 << 20


async def test_equal_histograms_are_counted_once(client: Client) -> None:
    before = await (await client.get("/large_image/cache")).json()
    answers = await asyncio.gather(*(client.get(PATTERN) for _ in range(6)))
    assert len({await answer.text() for answer in answers}) == 1
    after = await (await client.get("/large_image/cache")).json()
    assert after["counts"]["measure"] - before["counts"].get("measure", 0) == 12 * 12
    tag = answers[0].headers["ETag"]
    assert (await client.get(PATTERN)).headers["X-Cache"] == "encoded-hit"
    assert (await client.get(PATTERN, headers={"If-None-Match": tag})).status == 304
    assert (await client.head(PATTERN)).headers["Content-Type"] == "application/json"


async def test_whatever_tells_histograms_apart_tells_their_tags_apart(client: Client) -> None:
    bands = [
        json.dumps({"bands": [{"frame": frame} for frame in frames]}) for frames in ((0, 1), (0, 2), (1, 0))
    ]
    queries = [
        {}, {"bins": 16}, {"rangeMin": 5}, {"rangeMax": 5000}, {"roundRange": "true"}, {"density": "true"},
        {"left": 1}, {"frame": 1}, {"width": 50}, *({"style": style} for style in bands),
    ]  # fmt: skip
    item = await find(client, "uint16.ome.tif")
    base = f"/item/{item}/tiles"
    answers = [await client.get(f"{base}/histogram", params=query) for query in queries]
    answers += [await client.get(f"{base}/bands?frame={frame}") for frame in (0, 1)]
    assert [answer.status for answer in answers] == [200] * len(answers)
    assert len({answer.headers["ETag"] for answer in answers}) == len(answers)
    assert len({await answer.text() for answer in answers}) == len(answers)


async def test_who_leaves_ends_the_counting() -> None:
    async with Engine(Config(tile_cache=1 << 22, raw_cache=1 << 24, workers=1)) as engine:
        image = await engine.image(PatternRef(size_x=1 << 14, size_y=1 << 14, monochrome=True))
        whole = RegionRequest(Rect(0, 0, 1 << 14, 1 << 14), 1 << 14, 1 << 14)
        request = CountRequest(whole, ((0, 0),), HistogramQuery())
        work = asyncio.create_task(count(engine.renderer, image, request, Trace()))
        while not engine.batcher.jobs["measure"]:
            await asyncio.sleep(0)
        work.cancel()
        with pytest.raises(asyncio.CancelledError):
            await work
        await engine.renderer.tile(image, TileRequest(6, 0, 0), Trace())
        reads = engine.renderer.rasters.reads
        await engine.renderer.tile(image, TileRequest(6, 63, 63), Trace())
        assert engine.renderer.rasters.reads == reads + 1 < 64 * 64 / 2
        assert engine.batcher.report()["waiting"] == 0


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
        ({"bins": "65536", "style": '{"bands":[%s{}]}' % (32 * "{},")}, 413, "histogram: at most"),
        ({"width": "10000", "height": "10000"}, 413, "region: at most"),
        ({"frame": "9"}, 404, "Frame does not exist"),
        ({"style": "["}, 400, "Style is not a valid json object"),
    ],
)
async def test_histograms_that_cannot_be_are_refused(
    client: Client, query: dict[str, str], status: int, reason: str
) -> None:
    item = await find(client, "uint16.ome.tif")
    answer = await client.get(f"/item/{item}/tiles/histogram", params=query)
    await assert_refused(answer, status, reason)


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


# What a few files say of themselves, by the keys of the answer.
TOLD: dict[str, dict[str, Any]] = {
    "cases/svs_page_order.svs": {
        "format": "SVS", "populatedLevels": 2, "facts": {"AppMag": "40", "MPP": "0.2500"},
    },
    "cases/imagej_hyperstack.tif": {"format": "ImageJ"},
    "data/ometiff-tests__test3-TRITC_2_(560).ndpi": {"format": "NDPI"},
    "data/pathml__small_vectra.qptiff": {"format": "QPTIFF"},
    "cases/comp_lzw.tif": {"format": "TIFF"},
}  # fmt: skip


async def internals(path: Path) -> dict[str, Any]:
    async with serving(path) as client:
        item = await find(client, path.name)
        answer = await client.get(f"/item/{item}/tiles/internal_metadata")
        assert answer.status == 200
        found: dict[str, Any] = await answer.json()
        return found


@pytest.mark.parametrize("name", TOLD)
async def test_a_file_says_in_its_own_words_what_it_is(name: str) -> None:
    path = shared(*name.split("/"))
    found = await internals(path)
    assert {key: found[key] for key in TOLD[name]} == TOLD[name]
    with tifffile.TiffFile(path) as file:
        for tag, key in (("ImageDescription", "imagedescription"), ("Software", "software")):
            entry = file.pages.first.tags.get(tag)
            if entry is not None and isinstance(entry.value, str):
                assert found["tiff"][key] == entry.value.strip()


async def test_the_facts_of_a_scanner_are_told_one_by_one() -> None:
    found = await internals(shared("data", "ometiff-tests__test3-TRITC_2_(560).ndpi"))
    assert found["facts"]["Created"] == "2011/05/23"
    imagej = await internals(shared("cases", "imagej_hyperstack.tif"))
    assert imagej["facts"]["ImageJ"]
    assert imagej["facts"]["channels"].isdigit()


async def test_the_xml_of_an_ome_tiff_is_told_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "two.ome.tif"
    names = {"axes": "CYX", "Channel": {"Name": ["DAPI", "µ <&> \u2603"]}}
    tifffile.imwrite(path, np.zeros((2, 64, 64), np.uint8), photometric="minisblack", metadata=names)
    found = await internals(path)
    with tifffile.TiffFile(path) as file:
        assert found["omexml"] == found["tiff"]["imagedescription"] == file.ome_metadata
    assert (found["format"], found["populatedLevels"]) == ("OME-TIFF", 1)


async def test_texts_of_other_pages_follow_those_of_the_first(tmp_path: Path) -> None:
    path = tmp_path / "pages.tif"
    with tifffile.TiffWriter(path) as writer:
        for text in ("one", "two", "one"):
            writer.write(
                np.zeros((64, 64), np.uint8), description=text, metadata=None, photometric="minisblack"
            )
    found = (await internals(path))["tiff"]
    assert (found["imagedescription"], found["imagedescription:2"]) == ("one", "two")
    assert "imagedescription:3" not in found


async def test_the_pattern_tells_its_parameters(client: Client) -> None:
    found = await (await client.get("/item/test/tiles/internal_metadata?frames=3&sizeX=600")).json()
    assert (found["tilesource"], found["pattern"]["frames"], found["pattern"]["size_x"]) == ("test", "3", 600)


@pytest.mark.parametrize(
    "name",
    [
        "cases/u32_labels_above_2p24.tif",
        "cases/f32_nan_inf.tif",
        "cases/predictor3_f32.tif",
        "cases/ome_40ch_subifd.ome.tif",
        "cases/planar_separate_rgb.tif",
        "cases/strips_rps7_lzw.tif",
        "data/openslide-python__boxes.tiff",
        "data/libtiff__test_float64_predictor2_be_lzw.tif",
    ],
)
async def test_real_files_have_the_histograms_of_their_values(name: str) -> None:
    path = shared(*name.split("/"))
    async with serving(path) as client:
        base = f"/item/{await find(client, path.name)}/tiles"
        values = np.load(BytesIO(await (await client.get(f"{base}/region?encoding=NPY")).read()))
        found = await (await client.get(f"{base}/histogram?bins=37")).json()
        assert len(found) == values.shape[2]
        for sample, entry in enumerate(found):
            plane = values[..., sample]
            check(entry, plane.astype(float) if plane.dtype.kind == "f" else plane, 37)


async def test_masked_and_sparse_pixels_are_not_counted() -> None:
    for name, counted in (("rgb_with_mask_page.tif", 2048), ("sparse_tiles_0_0.tif", 114688)):
        path = shared("cases", name)
        async with serving(path) as client:
            item = await find(client, name)
            found = await (await client.get(f"/item/{item}/tiles/histogram")).json()
            assert [entry["samples"] for entry in found] == [counted] * 3


async def test_internal_metadata_can_be_hidden(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "image.tif", np.zeros((20, 30), np.uint8), description="A NAME")
    for shown, status in ((True, 200), (False, 404)):
        config = Config(roots=(tmp_path,), workers=1, internal_metadata=shown)
        async with TestClient(TestServer(create_app(config))) as client:
            item = await find(client, "image.tif")
            answer = await client.get(f"/item/{item}/tiles/internal_metadata")
            assert (answer.status, "A NAME" in await answer.text()) == (status, shown)
            assert shown or "'internal-metadata'" in (await answer.json())["message"]
