"""Projections of stacks: exact, made once, within bounded memory, the same on every device."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from io import BytesIO
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
import pytest
import tifffile
from aiohttp.test_utils import TestClient, TestServer
from numpy.typing import NDArray
from PIL import Image as Pillow

import gputiles
from gputiles.app import create_app
from gputiles.backends.fold import Fold
from gputiles.config import Config
from gputiles.geometry import Grid
from gputiles.image import Alpha, Colour, ImageInfo
from gputiles.projections import Kind
from gputiles.state import STATE, State
from tests.conftest import shared
from tests.standin import StandIn, plugged_in
from tests.test_http import find
from tests.test_omero import BLUE, GREEN, RED, picture, rendered

Client = TestClient[Any, Any]
RNG = np.random.default_rng(7)
DEEP: NDArray[np.uint16] = RNG.integers(0, 60000, (9, 2, 300, 500)).astype(np.uint16)  # Z, C, rows, columns
DTYPES = [np.dtype(name) for name in ("u1", "i1", "u2", "i2", "u4", "i4", "u8", "i8", "f4", "f8")]
WHOLE = "render_image/{}/0/0/?"


def projected(kind: Kind, planes: NDArray[Any]) -> NDArray[Any]:
    """Return what a kind makes of (planes, …) of unsigned integers: the specification."""
    if kind is Kind.MAXIMUM:
        return planes.max(axis=0)  # type: ignore[no-any-return]
    total = planes.astype(object).sum(axis=0)
    value = total // len(planes) if kind is Kind.MEAN else np.minimum(total, np.iinfo(planes.dtype).max)
    return value.astype(planes.dtype)  # type: ignore[no-any-return]


def folded(kind: Kind, info: ImageInfo, planes: Any, valid: Any = None) -> tuple[NDArray[Any], Any]:
    fold = Fold(kind, info)
    for at, plane in enumerate(planes):
        fold.add(plane, None if valid is None else valid[at])
    return fold.result()


def info_of(dtype: Any, samples: int = 1, **more: Any) -> ImageInfo:
    return ImageInfo(Grid(40, 30, 256, 256), (True,), np.dtype(dtype), samples, **more)


@asynccontextmanager
async def serving(folder: Path, **more: Any) -> AsyncIterator[tuple[Client, State]]:
    options = {"tile_cache": 1 << 24, "raw_cache": 1 << 26, "workers": 2, **more}
    app = create_app(Config(roots=(folder,), **options))
    async with TestClient(TestServer(app)) as client:
        yield client, app[STATE]


def write(path: Path, data: NDArray[Any], **more: Any) -> None:
    options: dict[str, Any] = {"tile": (128, 128), "compression": "zlib", "photometric": "minisblack"}
    tifffile.imwrite(path, data, metadata={"axes": "ZCYX"}, **options, **more)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write(tmp_path / "deep.ome.tif", DEEP)
    return tmp_path


# -- arithmetic


@pytest.mark.parametrize("kind", Kind)
@pytest.mark.parametrize("dtype", ["u1", "u2", "u4"])
def test_whole_numbers_are_joined_exactly(dtype: str, kind: Kind) -> None:
    top = np.iinfo(dtype).max
    planes = RNG.integers(0, top, (11, 30, 40, 2), dtype=dtype, endpoint=True)
    planes[:, 0] = top  # the greatest total
    planes[:, 1] = 0
    planes[:, 2] //= 16  # totals that fit
    pixels, valid = folded(kind, info_of(dtype, 2), planes)
    assert valid is None
    assert pixels.dtype == planes.dtype
    assert np.array_equal(pixels, projected(kind, planes))


@pytest.mark.parametrize("dtype", DTYPES)
def test_totals_stay_within_the_type_and_means_within_the_values(dtype: np.dtype[Any]) -> None:
    limits = np.finfo(dtype) if dtype.kind == "f" else np.iinfo(dtype.name)
    for value in (limits.max, limits.min):
        planes = np.full((3, 2, 2, 1), value, dtype)
        assert (folded(Kind.MAXIMUM, info_of(dtype), planes)[0] == value).all()
        for kind in (Kind.SUM, Kind.MEAN):
            found = folded(kind, info_of(dtype), planes)[0]
            if dtype.kind == "f":
                beyond = kind is Kind.SUM or dtype.itemsize == 8
                assert (found == (np.sign(value) * np.inf if beyond else value)).all()
            else:  # 64 bits have no float64 of their own at the upper end
                assert (np.abs(found.astype(object) - int(value)) <= int(limits.max) >> 53).all()


def test_means_of_negative_numbers_are_cut_towards_zero() -> None:
    planes = np.array([-3, -2, 5, -6], np.int16).reshape(2, 1, 2, 1)
    assert folded(Kind.MEAN, info_of("i2"), planes)[0].ravel().tolist() == [1, -4]
    planes = np.array([-3, 3, -2, -2], np.int16).reshape(2, 1, 2, 1)
    assert folded(Kind.MEAN, info_of("i2"), planes)[0].ravel().tolist() == [-2, 0]


@pytest.mark.parametrize("kind", Kind)
def test_floats_are_joined_in_float64_in_their_order(kind: Kind) -> None:
    planes = RNG.normal(0, 1e6, (7, 30, 40, 1)).astype(np.float32)
    planes[2, 3, 4] = planes[:, 5, 5] = np.nan
    counts = (~np.isnan(planes)).sum(axis=0)
    total = np.zeros((30, 40, 1))
    for plane in planes:
        total += np.where(np.isnan(plane), 0, plane)
    wanted = {
        Kind.MAXIMUM: np.fmax.reduce(planes, axis=0),
        Kind.MEAN: total / np.maximum(counts, 1),
        Kind.SUM: total,
    }[kind].astype(np.float32)
    wanted[5, 5] = np.nan
    pixels, valid = folded(kind, info_of("f4"), planes)
    assert np.array_equal(pixels, wanted, equal_nan=True)
    assert [tuple(at) for at in np.argwhere(valid == 0)] == [(5, 5, 0)]


@pytest.mark.parametrize(("kind", "wanted"), [(Kind.MAXIMUM, 9), (Kind.MEAN, 7), (Kind.SUM, 14)])
def test_what_is_not_valid_or_nodata_carries_no_weight(kind: Kind, wanted: int) -> None:
    values = np.array([[5, 5, 200, 200], [200, 9, 9, 200], [9, 200, 5, 200]], np.uint8).reshape(3, 1, 4, 1)
    for nodata, valid, empty in ((200, None, 200), (None, values[..., 0] != 200, 0)):
        info = info_of("u1", nodata=nodata)
        pixels, shown = folded(kind, info, values, valid)
        assert pixels.ravel().tolist() == [wanted, wanted, wanted, empty]
        assert shown.ravel().tolist() == [1, 1, 1, 0]


@pytest.mark.parametrize(("kind", "wanted"), [(Kind.MAXIMUM, [40, 255]), (Kind.MEAN, [30, 170])])
def test_the_colour_of_transparent_pixels_carries_no_weight(kind: Kind, wanted: list[int]) -> None:
    planes = np.array([[40, 255], [20, 255], [90, 0]], np.uint8).reshape(3, 1, 1, 2)
    pixels, valid = folded(kind, info_of("u1", 2, colour=Colour.GREY, alpha=Alpha.STRAIGHT), planes)
    assert (pixels.ravel().tolist(), valid) == (wanted, None)


# -- pictures


@pytest.mark.parametrize("kind", Kind)
async def test_each_channel_is_projected_before_it_is_shown_in_any_colour(folder: Path, kind: Kind) -> None:
    async with serving(folder) as (client, _):
        item = await find(client, "deep.ome.tif")
        text = quote("1|100:60000$FF8000,2|7:65535$80FF00")
        for ends, planes in (("", slice(None)), ("|2:5", slice(2, 6)), ("|8:8", slice(8, 9))):
            values = projected(kind, DEEP[planes])
            wanted = rendered(
                (values[0], (100, 60000), (255, 128, 0)), (values[1], (7, 65535), (128, 255, 0))
            )
            asked = f"p={quote(kind.value + ends)}&c={text}"
            found = await picture(client, f"{WHOLE.format(item)}{asked}")
            assert np.array_equal(found, wanted)
            tile = await picture(client, f"render_image_region/{item}/3/0/?tile=0,1,1&{asked}")
            assert np.array_equal(tile, wanted[128:256, 128:256])


@pytest.mark.parametrize("kind", Kind)
async def test_an_inverted_channel_of_a_stack_is_darkest_at_its_greatest_values(
    folder: Path, kind: Kind
) -> None:
    async with serving(folder) as (client, _):
        item = await find(client, "deep.ome.tif")
        maps = quote('[{"inverted":{"enabled":true}}]')
        found = await picture(
            client, f"{WHOLE.format(item)}p={kind.value}&c={quote('1|0:65535$FF0000')}&maps={maps}"
        )
    n = projected(kind, DEEP[:, 0]).astype(np.float32) / np.float32(65535)
    assert np.array_equal(found[..., 0], (np.float32(255) + n * np.float32(-255)).astype(np.uint8))


@pytest.mark.parametrize("kind", [Kind.MEAN, Kind.SUM])
async def test_a_real_stack_is_its_mean_and_its_sum(kind: Kind) -> None:
    path = shared("data", "libvips__multi-channel-z-series.ome.tif")
    stored = np.moveaxis(tifffile.imread(path), 1, 0)  # C, Z, … → Z, C, …
    total = stored.astype(np.float64).sum(axis=0)
    limits = np.iinfo(stored.dtype)
    value = np.trunc(total / len(stored)) if kind is Kind.MEAN else total.clip(limits.min, limits.max)
    async with serving(path.parent) as (client, _):
        item = await find(client, path.name)
        text = quote("1|-9:100$0000FF,2|0:90$00FF00,3|0:127$FF0000")
        found = await picture(client, f"{WHOLE.format(item)}p={kind.value}&c={text}")
    windows = ((-9, 100), (0, 90), (0, 127))
    assert np.array_equal(found, rendered(*zip(value, windows, (BLUE, GREEN, RED), strict=True)))


async def test_a_stack_is_that_of_its_time_and_without_an_axis_z_the_plane_itself(tmp_path: Path) -> None:
    data = RNG.integers(0, 60000, (2, 3, 2, 60, 70)).astype(np.uint16)  # T, Z, C, rows, columns
    options: dict[str, Any] = {"photometric": "minisblack"}
    tifffile.imwrite(tmp_path / "times.ome.tif", data, metadata={"axes": "TZCYX"}, **options)
    tifffile.imwrite(tmp_path / "flat.ome.tif", data[:, 0], metadata={"axes": "TCYX"}, **options)
    async with serving(tmp_path) as (client, _):
        for name, stacks in (("times.ome.tif", data), ("flat.ome.tif", data[:, :1])):
            item = await find(client, name)
            for t, kind in ((0, Kind.MEAN), (1, Kind.MEAN), (1, Kind.SUM)):
                asked = f"p={kind.value}&c={quote('-1,2|0:65535$FF0000')}"
                found = await picture(client, f"render_image/{item}/0/{t}/?{asked}")
                wanted = rendered((projected(kind, stacks[t, :, 1]), (0, 65535), RED))
                assert np.array_equal(found, wanted)


@pytest.mark.parametrize("kind", Kind)
async def test_stacks_of_colour_images_are_projected_sample_by_sample_alpha_too(
    tmp_path: Path, kind: Kind
) -> None:
    data = RNG.integers(0, 256, (4, 60, 70, 4)).astype(np.uint8)  # Z, rows, columns, RGBA
    data[..., 3] |= 1  # nothing is quite transparent
    tifffile.imwrite(
        tmp_path / "rgba.ome.tif", data, photometric="rgb", extrasamples=["unassalpha"],
        metadata={"axes": "ZYXS"},
    )  # fmt: skip
    async with serving(tmp_path) as (client, _):
        item = await find(client, "rgba.ome.tif")
        text = quote("1|0:255$FF0000,2|0:255$00FF00,3|0:255$0000FF")
        answer = await client.get(f"/webgateway/{WHOLE.format(item)}p={kind.value}&c={text}&format=png")
        assert answer.status == 200, await answer.text()
        found = np.asarray(Pillow.open(BytesIO(await answer.read())))
    assert np.abs(found.astype(int) - projected(kind, data)).max() <= 1, "float32 may cut a level off"


async def test_levels_that_the_file_lacks_are_projected_from_their_own_planes(folder: Path) -> None:
    """Each plane's level is a mean rounded half to even, as everywhere; the maximum is of those."""
    with gputiles.open(folder / "deep.ome.tif") as image:
        assert image.info.axes == (("C", 2), ("Z", 9))
        assert not image.info.stored[1]
        planes = np.stack([image.raster(1, 0, 0, frame=2 * z) for z in range(len(DEEP))])
    async with serving(folder) as (client, _):
        item = await find(client, "deep.ome.tif")
        for kind in Kind:
            found = await picture(
                client,
                f"render_image_region/{item}/0/0/?tile=1,0,0&p={kind.value}&c={quote('1|0:60000$FF0000')}",
            )
            wanted = rendered((projected(kind, planes[..., 0]), (0, 60000), RED))
            assert np.array_equal(found, wanted)


async def test_sparse_tiles_carry_no_weight(tmp_path: Path) -> None:
    planes = RNG.integers(1000, 2000, (2, 1, 128, 256)).astype(np.uint16)
    path = tmp_path / "sparse.ome.tif"
    tifffile.imwrite(path, planes, tile=(128, 128), photometric="minisblack", metadata={"axes": "ZCYX"})
    with tifffile.TiffFile(path, mode="r+b") as file:
        file.pages.useframes = False
        tags = file.pages[1].tags
        for name in ("TileByteCounts", "TileOffsets"):
            tags[name].overwrite([0, tags[name].value[1]])
    async with serving(tmp_path) as (client, _):
        item = await find(client, path.name)
        found = await picture(client, f"{WHOLE.format(item)}p=intmean&c={quote('1|0:2000$FF0000')}")
    wanted = projected(Kind.MEAN, planes[:, 0])
    wanted[:, :128] = planes[0, 0, :, :128]
    assert np.array_equal(found, rendered((wanted, (0, 2000), RED)))


# -- work and memory


async def test_a_projection_is_made_once_for_all_looks(folder: Path) -> None:
    async with serving(folder) as (client, state):
        item = await find(client, "deep.ome.tif")
        path = f"{WHOLE.format(item)}p=intmean&c="
        await picture(client, path + quote("1|0:60000$FF0000"))
        reads, jobs = state.engine.renderer.rasters.reads, dict(state.engine.batcher.jobs)
        await picture(client, path + quote("1|5:40000$00FF00"))
        assert state.engine.renderer.rasters.reads == reads
        more = state.engine.batcher.jobs
        assert (more["decode"], more["download"]) == (jobs["decode"], jobs["download"])
        assert more["render"] == jobs["render"] + 1


async def test_projections_do_not_answer_for_each_other(folder: Path) -> None:
    async with serving(folder) as (client, _):
        item = await find(client, "deep.ome.tif")
        path = f"/webgateway/render_image_region/{item}/0/0/?tile=0,0,0&c={quote('1|0:60000$FF0000')}&p="
        words = ["normal", *(f"{kind.value}{ends}" for kind in Kind for ends in ("", "|0:4", "|1:5"))]
        answers = [await client.get(path + quote(word)) for word in words]
        assert [answer.headers["X-Cache"] == "encoded-hit" for answer in answers] == [False] * len(words)
        assert len({answer.headers["ETag"] for answer in answers}) == len(words)
        assert len({await answer.read() for answer in answers}) == len(words)
        again = await client.get(path.replace("/0/0/", "/7/0/") + "intsum")  # a stack's place is its own
        assert again.headers["X-Cache"] == "encoded-hit"


async def test_a_deep_stack_needs_no_more_memory_than_a_few_planes(tmp_path: Path) -> None:
    planes = RNG.integers(0, 900, (96, 1, 256, 256)).astype(np.uint16)
    tifffile.imwrite(
        tmp_path / "deep.ome.tif", planes, tile=(256, 256), photometric="minisblack",
        metadata={"axes": "ZCYX"},
    )  # fmt: skip
    capacity = 3 << 20  # 24 of the 96 planes
    async with serving(tmp_path, raw_cache=capacity) as (client, state):
        item = await find(client, "deep.ome.tif")
        for kind in Kind:
            found = await picture(client, f"{WHOLE.format(item)}p={kind.value}&c={quote('1|0:65535$FF0000')}")
            wanted = rendered((projected(kind, planes[:, 0]), (0, 65535), RED))
            assert np.array_equal(found, wanted)
        shelf = state.engine.renderer.rasters.shelf
        assert shelf.capacity == capacity
        assert shelf.peak <= capacity
        assert (shelf.reserved, shelf.pinned) == (0, 0)


async def test_too_much_to_read_is_refused_and_nothing_of_it_is_kept(folder: Path) -> None:
    async with serving(folder, synthesis_limit=2 * 300 * 500) as (client, _):
        item = await find(client, "deep.ome.tif")
        for word, status in (("intmean", 413), ("intmean|0:1", 200), ("intmean", 413), ("intmean|0:2", 413)):
            answer = await client.get(
                f"/webgateway/{WHOLE.format(item)}p={quote(word)}&c={quote('1|0:9$FF0000')}"
            )
            assert answer.status == status
            if status == 413:
                assert "planes takes" in (await answer.json())["message"]


async def test_more_planes_than_bands_of_a_style_are_refused_unless_nothing_is_shown(folder: Path) -> None:
    async with serving(folder) as (client, state):
        path = "/webgateway/render_image_region/test/0/0/?maxLevel=0&frames=c%3D2,z%3D600&tile=0,0,0&p=intmax"
        answer = await client.get(f"{path}&c={quote('1|0:9,2|0:9')}")
        assert (answer.status, (await answer.json())["message"]) == (413, "p: at most 1024 planes; got 1200")
        reads = state.engine.renderer.rasters.reads
        answer = await client.get(f"{path}&c=-1,-2&format=png")
        black = np.asarray(Pillow.open(BytesIO(await answer.read())).convert("RGB"))
        assert (answer.status, black.max()) == (200, 0)
        assert state.engine.renderer.rasters.reads == reads + 1


async def test_a_damaged_plane_is_an_error_and_the_others_are_still_projected(tmp_path: Path) -> None:
    path = tmp_path / "damaged.ome.tif"
    write(path, DEEP)
    with tifffile.TiffFile(path) as file:
        offset = file.pages[4].dataoffsets[0]  # Z 2, C 0
    with path.open("r+b") as stream:
        stream.seek(offset)
        stream.write(b"\xff" * 64)
    async with serving(tmp_path) as (client, _):
        item = await find(client, path.name)
        url = f"/webgateway/render_image_region/{item}/0/0/?tile=0,0,0&c={quote('1|0:9$FF0000')}&p="
        for word, status in (("intsum", 422), ("intsum|3:8", 200), ("intsum", 422)):
            assert (await client.get(url + quote(word))).status == status


@pytest.mark.parametrize("kind", Kind)
async def test_a_card_shows_the_same(folder: Path, kind: Kind, monkeypatch: pytest.MonkeyPatch) -> None:
    plugged_in(monkeypatch, StandIn(1 << 27))
    answers = []
    for device in ("cpu", "cuda"):
        async with serving(folder, device=device) as (client, state):
            assert state.engine.batcher.backend.name == device
            item = await find(client, "deep.ome.tif")
            url = f"{WHOLE.format(item)}p={kind.value}&c={quote('1|0:60000$FF0000,2|0:60000$FFFF00')}"
            answer = await client.get(f"/webgateway/{url}&format=png")
            picture = Pillow.open(BytesIO(await answer.read()))
            answers.append(np.asarray(picture.convert("RGBA")))  # a card leaves out alpha that says nothing
    assert np.array_equal(*answers)
