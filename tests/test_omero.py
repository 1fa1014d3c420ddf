"""OMERO's dialect: its requests show what its arithmetic says, its block of settings is a style."""

from __future__ import annotations

import contextlib
import json
from collections.abc import AsyncIterator
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
import pytest
import tifffile
from aiohttp.test_utils import TestClient, TestServer
from hypothesis import given, settings
from hypothesis import strategies as some
from numpy.typing import NDArray
from PIL import Image as Pillow

import gputiles
from gputiles import imgdata, webgateway, webquery
from gputiles.app import create_app
from gputiles.config import Config
from gputiles.encoded import Encoding, Format, Turn
from gputiles.errors import BadRequest, BadStyle, GputilesError, NotFound
from gputiles.geometry import Grid, Rect
from gputiles.grammar import parse
from gputiles.image import Channel, Colour, Frame, ImageInfo
from gputiles.metadata import describe
from gputiles.projections import Kind
from gputiles.request import RegionRequest, TileRequest, View
from gputiles.settings import block, count, frames_to_measure, place
from gputiles.settings import settings as settings_of
from gputiles.sources.open import open_source
from gputiles.style import make_recipe
from gputiles.webquery import ChannelQuery, CodomainMap, ProjectionQuery, Rendering
from tests.conftest import shared
from tests.test_http import find

Client = TestClient[Any, Any]
RNG = np.random.default_rng(20)
STACK: NDArray[np.uint16] = RNG.integers(0, 4000, (3, 4, 300, 500)).astype(np.uint16)  # Z, C, rows, columns
COLOURED: NDArray[np.uint8] = RNG.integers(0, 256, (300, 500, 3)).astype(np.uint8)
RED, GREEN, BLUE = (255, 0, 0), (0, 255, 0), (0, 0, 255)
INFO = ImageInfo(
    Grid(1000, 600, 256, 256), (True,) * 3, np.dtype(np.uint16), frames=(Frame(),) * 24,
    axes=(("C", 4), ("Z", 3), ("T", 2)), channels=(Channel("DAPI", "#0000ff", (10, 900)), Channel("CD3")),
)  # fmt: skip


@pytest.fixture
async def client(tmp_path: Path) -> AsyncIterator[Client]:
    folder = tmp_path / "images"
    folder.mkdir()
    names = {"axes": "ZCYX", "Channel": {"Name": ["DAPI", "CD3", "CD8", "CD20"]}}
    options: dict[str, Any] = {"tile": (128, 128), "compression": "zlib"}
    tifffile.imwrite(folder / "stack.ome.tif", STACK, photometric="minisblack", metadata=names, **options)
    tifffile.imwrite(folder / "rgb.tif", COLOURED, photometric="rgb", **options)
    config = Config(roots=(folder,), tile_cache=1 << 24, raw_cache=1 << 26, workers=2)
    async with TestClient(TestServer(create_app(config))) as client:
        yield client


async def picture(client: Client, path: str) -> NDArray[np.uint8]:
    """Return the (rows, columns, 3) that a path below ``/webgateway`` answers, as PNG."""
    answer = await client.get(f"/webgateway/{path}{'&' if '?' in path else '?'}format=png")
    assert answer.status == 200, await answer.text()
    return np.asarray(Pillow.open(BytesIO(await answer.read())).convert("RGB"))


def rendered(*channels: tuple[NDArray[Any], tuple[float, float], tuple[int, int, int]]) -> NDArray[np.uint8]:
    """Return OMERO's picture of (values, window, colour): colours added, limited, cut to whole numbers."""
    total = np.zeros((*channels[0][0].shape, 3), np.float32)
    for values, (start, end), colour in channels:
        n = np.clip((values.astype(np.float32) - np.float32(start)) / np.float32(end - start), 0, 1)
        total += n[..., np.newaxis] * np.array(colour, np.float32)
    return np.clip(total, 0, 255).astype(np.uint8)


# -- pictures


async def test_channels_in_windows_and_colours_are_added_up(client: Client) -> None:
    item = await find(client, "stack.ome.tif")
    text = quote("1|100:2000$FF0000,-2,3|0:3000$00FF00,4|500:900$ff8000")
    found = await picture(client, f"render_image/{item}/2/0/?c={text}")
    wanted = rendered(
        (STACK[2, 0], (100, 2000), RED),
        (STACK[2, 2], (0, 3000), GREEN),
        (STACK[2, 3], (500, 900), (255, 128, 0)),
    )
    assert np.array_equal(found, wanted)


async def test_the_grey_model_shows_the_first_active_channel_in_white(client: Client) -> None:
    item = await find(client, "stack.ome.tif")
    text = quote("-1|0:9$FF0000,3|0:3000$00FF00,2|0:100$0000FF")
    found = await picture(client, f"render_image/{item}/0/0?m=g&c={text}")
    assert np.array_equal(found, rendered((STACK[0, 2], (0, 3000), (255, 255, 255))))


@pytest.mark.parametrize("word", ["inverted", "reverse"])
async def test_an_inverted_channel_is_darkest_where_its_values_are_greatest(
    client: Client, word: str
) -> None:
    item = await find(client, "stack.ome.tif")
    maps = quote(json.dumps([None, {word: {"enabled": "true"}}]))
    found = await picture(client, f"render_image/{item}/0/0/?c={quote('-1,2|0:4000$FF0000')}&maps={maps}")
    n = STACK[0, 1].astype(np.float32) / np.float32(4000)
    assert np.array_equal(found[..., 0], (np.float32(255) + n * np.float32(-255)).astype(np.uint8))
    assert not found[..., 1:].any()


async def test_a_polynomial_is_a_power_of_the_place_in_the_window(client: Client) -> None:
    """Powers are looked up in a table of straight pieces: one level off is right."""
    item = await find(client, "stack.ome.tif")
    maps = quote(json.dumps([{"quantization": {"family": "polynomial", "coefficient": 2}}]))
    found = await picture(client, f"render_image/{item}/0/0/?c={quote('1|0:4000$00FF00')}&maps={maps}")
    wanted = 255 * (STACK[0, 0] / 4000) ** 2
    assert np.abs(found[..., 1] - wanted).max() <= 1


async def test_colour_images_have_the_channels_red_green_and_blue(client: Client) -> None:
    item = await find(client, "rgb.tif")
    found = await picture(
        client, f"render_image/{item}/?c={quote('1|0:255$FF0000,2|0:255$00FF00,3|0:255$0000FF')}"
    )
    assert np.array_equal(
        found, rendered(*zip(np.moveaxis(COLOURED, 2, 0), [(0, 255)] * 3, [RED, GREEN, BLUE], strict=True))
    )
    assert np.abs(found.astype(int) - COLOURED).max() <= 1
    only_green = await picture(client, f"render_image/{item}/?c={quote('-1,2|0:255$FF0000,-3')}")
    assert np.array_equal(only_green, rendered((COLOURED[..., 1], (0, 255), RED)))


async def test_without_any_setting_it_is_the_default_look(client: Client) -> None:
    for name in ("stack.ome.tif", "rgb.tif"):
        item = await find(client, name)
        own = await client.get(f"/item/{item}/tiles/region?encoding=PNG")
        other = await client.get(f"/webgateway/render_image/{item}/0/0/?format=png")
        assert await own.read() == await other.read()


async def test_no_active_channel_is_a_black_picture(client: Client) -> None:
    item = await find(client, "stack.ome.tif")
    answer = await client.get(f"/webgateway/render_image/{item}/?c=-1,-2")
    found = np.asarray(Pillow.open(BytesIO(await answer.read())))
    assert (found.shape, found.max()) == ((300, 500, 3), 0)


# -- projections


async def test_the_maximum_of_a_stack_is_that_of_its_values(client: Client) -> None:
    item = await find(client, "stack.ome.tif")
    for ends, planes in (("", slice(None)), (quote("|1:2"), slice(1, 3)), (quote("|1:1"), slice(1, 2))):
        text = quote("1|100:3000$FF0000,2|0:3900$00FF00,3|7:3500$0000FF")
        found = await picture(
            client, f"render_image_region/{item}/0/0/?region=50,60,200,100&p=intmax{ends}&c={text}"
        )
        values = STACK[planes, :, 60:160, 50:250].max(axis=0)
        wanted = rendered(
            (values[0], (100, 3000), RED), (values[1], (0, 3900), GREEN), (values[2], (7, 3500), BLUE)
        )
        assert np.array_equal(found, wanted)


async def test_the_maximum_of_a_real_stack_is_that_of_its_values() -> None:
    path = shared("data", "libvips__multi-channel-z-series.ome.tif")
    values = tifffile.imread(path).max(axis=1)  # of C, Z, rows, columns
    config = Config(roots=(path.parent,), tile_cache=1 << 22, raw_cache=1 << 26, workers=2)
    async with TestClient(TestServer(create_app(config))) as client:
        item = await find(client, path.name)
        told = await (await client.get(f"/webgateway/imgData/{item}/channels")).json()
        windows = [(entry["window"]["start"], entry["window"]["end"]) for entry in told]
        text = quote(",".join(f"{at + 1}|{low}:{high}" for at, (low, high) in enumerate(windows)))
        found = await picture(client, f"render_image/{item}/0/0/?p=intmax&c={text}")
    assert [entry["color"] for entry in told] == ["0000FF", "00FF00", "FF0000"]
    wanted = rendered(*zip(values, windows, (BLUE, GREEN, RED), strict=True))
    assert np.array_equal(found, wanted)


async def test_a_plane_by_itself_is_its_own_maximum_in_any_colours(client: Client) -> None:
    item = await find(client, "stack.ome.tif")
    text = quote("1|100:3000$FF8000,2|0:3900$00FF00")
    one = await picture(client, f"render_image/{item}/2/0/?p={quote('intmax|2:2')}&c={text}")
    assert np.array_equal(one, await picture(client, f"render_image/{item}/2/0/?c={text}"))


# -- parts


async def test_resolution_0_is_full_resolution_and_the_last_is_one_tile(client: Client) -> None:
    item = await find(client, "rgb.tif")
    levels = await (await client.get(f"/webgateway/imgData/{item}/levels/")).json()
    for resolution in range(levels):
        own = await client.get(f"/item/{item}/tiles/zxy/{levels - 1 - resolution}/0/0?encoding=PNG&edge=crop")
        found = await client.get(
            f"/webgateway/render_image_region/{item}/0/0/?tile={resolution},0,0&format=png"
        )
        assert await found.read() == await own.read()
    sized = await client.get(f"/webgateway/render_image_region/{item}/0/0/?tile=0,0,0,128,128&format=png")
    assert sized.headers["X-Cache"] == "encoded-hit"


@pytest.mark.parametrize("flip", ["", "h", "v", "hv"])
async def test_tiles_of_any_size_make_up_the_level_flipped_or_not(client: Client, flip: str) -> None:
    item = await find(client, "rgb.tif")
    for resolution, (width, height) in ((0, (200, 170)), (1, (128, 128)), (2, (70, 33))):
        path = f"render_image_region/{item}/0/0/?flip={flip}&tile={resolution}"
        level = await picture(client, f"{path},0,0,1000,1000")
        rows = [
            np.concatenate(
                [
                    await picture(client, f"{path},{x},{y},{width},{height}")
                    for x in range(-(-level.shape[1] // width))
                ],
                axis=1,
            )
            for y in range(-(-level.shape[0] // height))
        ]
        assert np.array_equal(np.concatenate(rows), level)
        plain = await picture(client, f"render_image_region/{item}/0/0/?tile={resolution},0,0,1000,1000")
        axes = tuple(axis for letter, axis in (("v", 0), ("h", 1)) if letter in flip)
        assert np.array_equal(np.flip(plain, axes), level)


async def test_regions_are_cropped_to_the_image(client: Client) -> None:
    item = await find(client, "rgb.tif")
    for text, cut in (
        ("10,20,30,40", COLOURED[20:60, 10:40]),
        ("480,290,100,100", COLOURED[290:, 480:]),
        ("-5,-6,20,20", COLOURED[:14, :15]),
    ):
        assert np.array_equal(await picture(client, f"render_image_region/{item}/0/0/?region={text}"), cut)
    found = await picture(client, f"render_image_region/{item}/0/0/?flip=h&region=0,0,30,40")
    assert np.array_equal(found, COLOURED[:40, 470:][:, ::-1])


@pytest.mark.parametrize(
    ("path", "size"),
    [
        ("render_thumbnail/{}/", (96, 57)),
        ("render_birds_eye_view/{}", (96, 57)),
        ("render_thumbnail/{}/200", (200, 120)),
        ("render_birds_eye_view/{}/120/", (120, 72)),
        ("render_thumbnail/{}/200/30/", (50, 30)),
    ],
)
async def test_thumbnails_fit_into_the_size(client: Client, path: str, size: tuple[int, int]) -> None:
    item = await find(client, "stack.ome.tif")
    answer = await client.get(f"/webgateway/{path.format(item)}?z=1&c={quote('2|0:4000$FF0000')}")
    found = Pillow.open(BytesIO(await answer.read()))
    assert (found.format, found.size) == ("JPEG", size)
    red, green, _ = np.asarray(found).reshape(-1, 3).mean(axis=0)
    assert red > 100 > 10 > green


# -- encodings and answers


async def test_a_tiff_holds_the_picture_not_the_values(client: Client) -> None:
    item = await find(client, "stack.ome.tif")
    for setting in ("", f"&c={quote('1|0:4000$FF0000')}"):
        answer = await client.get(f"/webgateway/render_image/{item}/0/0/?format=tif{setting}")
        assert answer.headers["Content-Type"] == "image/tiff"
        found = tifffile.imread(BytesIO(await answer.read()))
        assert found.dtype == np.uint8
        seen = await picture(client, f"render_image/{item}/0/0/?{setting[1:]}")
        assert np.array_equal(found[..., :3], seen)


async def test_a_quality_is_a_share_or_a_percentage(client: Client) -> None:
    item = await find(client, "rgb.tif")
    bodies = [
        await (await client.get(f"/webgateway/render_image/{item}/?q={q}")).read()
        for q in ("0.5", "50", "0.9", "1", "100")
    ]
    assert bodies[0] == bodies[1] != bodies[2]
    assert bodies[3] == bodies[4]
    assert len(bodies[0]) < len(bodies[2]) < len(bodies[3])


@pytest.mark.parametrize("prefix", ["", "/api/v1"])
async def test_a_slash_may_end_a_path_and_equal_requests_share_an_answer(client: Client, prefix: str) -> None:
    item = await find(client, "stack.ome.tif")
    query = f"?tile=0,1,1&c={quote('1|0:4000$FF0000')}"
    url = f"{prefix}/webgateway/render_image_region/{item}/1/0{query.replace('FF0000', 'f00')}"
    first = await client.get(f"{prefix}/webgateway/render_image_region/{item}/1/0/{query}")
    second = await client.get(url)
    assert (first.status, second.headers["X-Cache"]) == (200, "encoded-hit")
    assert (await first.read(), first.headers["ETag"]) == (await second.read(), second.headers["ETag"])
    held = await client.get(url, headers={"If-None-Match": first.headers["ETag"]})
    assert held.status == 304
    head = await client.head(url)
    assert (head.status, await head.read(), head.headers["Access-Control-Allow-Origin"]) == (200, b"", "*")


async def test_the_pattern_that_needs_no_file_speaks_it_too(client: Client) -> None:
    answer = await client.get("/webgateway/imgData/test/?maxLevel=2&frames=c%3D2,z%3D3")
    found = await answer.json()
    assert found["size"] == {"width": 1024, "height": 1024, "z": 3, "t": 1, "c": 6}
    assert (
        await client.get("/webgateway/render_image_region/test/2/0/?maxLevel=2&frames=c%3D2,z%3D3&tile=0,0,0")
    ).status == 200


@pytest.mark.parametrize(
    ("path", "status", "reason"),
    [
        ("render_image_region/{}/0/0/", 400, "one must be given"),
        ("render_image_region/{}/0/0/?tile=0,0", 400, "tile: expected res,x,y"),
        ("render_image_region/{}/0/0/?tile=0,0,0,9", 400, "tile: expected res,x,y"),
        ("render_image_region/{}/0/0/?tile=-1,0,0", 400, "from 0 on"),
        ("render_image_region/{}/0/0/?tile=0,a,0", 400, "tile: expected res,x,y"),
        ("render_image_region/{}/0/0/?tile=3,0,0", 404, "resolutions 0 … 2; got 3"),
        ("render_image_region/{}/0/0/?tile=0,4,0", 404, "x is outside layer"),
        ("render_image_region/{}/0/0/?tile=0,4,0,200,200", 404, "no tile 4, 0"),
        ("render_image_region/{}/0/0/?region=1,2,3", 400, "region: expected x,y,w,h"),
        ("render_image_region/{}/0/0/?region=500,0,9,9", 400, "nothing of the image"),
        ("render_image_region/{}/0/0/?region=5,0,0,9", 400, "at least one pixel"),
        ("render_image/{}/3/0/", 404, "z: expected 0 to 2; got 3"),
        ("render_image/{}/0/1/", 404, "t: expected 0 to 0; got 1"),
        ("render_image/{}/-1/0/", 400, "z: expected an integer from 0 on"),
        ("render_image/{}/?c=5", 400, "channels 1 … 4; got 5"),
        ("render_image/{}/?c=0", 400, "c: expected entries like"),
        ("render_image/{}/?c=1,-1", 400, "channel 1 is there more than once"),
        ("render_image/{}/?c=1|5", 400, "window start:end"),
        ("render_image/{}/?c=1|9:5", 400, "expected a window; got 9 to 5"),
        ("render_image/{}/?c=1|a:5", 400, "expected a number; got 'a'"),
        ("render_image/{}/?c=1$cool.lut", 400, "hexadecimal digits; got 'cool.lut'"),
        ("render_image/{}/?m=x", 400, "m: expected one of c, g"),
        ("render_image/{}/?q=101", 400, "q: expected"),
        ("render_image/{}/?q=x", 400, "q: expected"),
        ("render_image/{}/?flip=x", 400, "flip: expected one of h, v, hv"),
        ("render_image/{}/?format=bmp", 400, "format: expected one of jpeg"),
        ("render_image/{}/?maps=[", 400, "maps: expected JSON"),
        ("render_image/{}/?maps={{}}", 400, "maps: expected a list"),
        ("render_image/{}/?maps=[5]", 400, "maps[0]: expected an object; got '5'"),
        ("render_image/{}/?c=1&maps=[null,null]", 400, "one for each of the 1 channels; got 2"),
        ('render_image/{}/?maps=[{{"inverted":{{"enabled":3}}}}]', 400, "maps[0].inverted.enabled"),
        ('render_image/{}/?maps=[{{"quantization":{{"family":"logarithmic"}}}}]', 400, "linear, polynomial"),
        ("render_image/{}/?p=median", 400, "p: expected one of normal, intmax, intmean, intsum; got"),
        ("render_image/{}/?p=intsum|1", 400, "expected intsum|start:end"),
        ("render_image/{}/?p=intmean|0:9", 404, "z: expected 0 to 2; got 9"),
        ("render_image/{}/?p=intmax|2:1", 400, "expected intmax|start:end"),
        ("render_image/{}/?p=intmax|1:3", 404, "z: expected 0 to 2; got 3"),
        ("render_thumbnail/{}/0/", 400, "width: expected an integer, at least 1"),
        ("render_thumbnail/{}/5000/", 413, "4096"),
        ("imgData/{}/nothing/", 404, "there is no 'nothing'"),
        ("histogram_json/{}/channel/4/", 404, "channel: expected 0 to 3; got 4"),
        ("histogram_json/{}/channel/0/?bins=0", 400, "bins"),
        ("histogram_json/{}/channel/0/?theZ=3", 404, "z: expected 0 to 2; got 3"),
        ("imgData/" + "0" * 24, 404, "No"),
    ],
)  # fmt: skip
async def test_what_cannot_be_answered_says_why(client: Client, path: str, status: int, reason: str) -> None:
    item = await find(client, "stack.ome.tif")
    answer = await client.get(f"/webgateway/{path.format(item)}")
    body = await answer.json()
    assert (answer.status, reason in body["message"]) == (status, True), body


# -- what is said of an image


async def test_an_image_is_described_in_omeros_keys(client: Client) -> None:
    item = await find(client, "stack.ome.tif")
    found = await (await client.get(f"/webgateway/imgData/{item}/")).json()
    assert found["id"] == found["meta"]["imageId"] == item
    assert (found["meta"]["imageName"], found["meta"]["pixelsType"]) == ("stack.ome.tif", "uint16")
    assert found["size"] == {"width": 500, "height": 300, "z": 3, "t": 1, "c": 4}
    assert (found["tiles"], found["tile_size"], found["levels"]) == (True, {"width": 128, "height": 128}, 3)
    assert found["zoomLevelScaling"] == {"0": 1, "1": 0.5, "2": 0.25}
    assert found["pixel_range"] == [0, 65535]
    assert found["pixel_size"] == {"x": None, "y": None, "z": None}
    assert found["rdefs"] == {
        "model": "color", "projection": "normal", "defaultZ": 0, "defaultT": 0, "invertAxis": False,
    }  # fmt: skip
    assert (found["init_zoom"], found["interpolate"]) == (0, True)
    assert [entry["label"] for entry in found["channels"]] == ["DAPI", "CD3", "CD8", "CD20"]
    for index, entry in enumerate(found["channels"]):
        low, high = int(STACK[0, index].min()), int(STACK[0, index].max())
        assert (entry["window"]["min"], entry["window"]["max"]) == (low, high)
        assert low <= entry["window"]["start"] < entry["window"]["end"] <= high
        same = {
            key: entry[key] for key in ("active", "family", "coefficient", "inverted", "reverseIntensity")
        }
        assert same == {
            "active": True, "family": "linear", "coefficient": 1, "inverted": False,
            "reverseIntensity": False,
        }  # fmt: skip
    assert await (await client.get(f"/webgateway/imgData/{item}/size.z")).json() == 3


def test_a_split_view_has_room_for_each_channel_and_for_all_together() -> None:
    for channels, grey, colour in (
        (1, (1, 1), (2, 1)),
        (3, (2, 2), (2, 2)),
        (4, (2, 2), (3, 2)),
        (8, (3, 3), (3, 3)),
    ):
        grid, axes = Grid(100, 50, 256, 256), (("C", channels),) if channels > 1 else ()
        info = ImageInfo(grid, (True,), np.dtype(np.uint8), frames=(Frame(),) * channels, axes=axes)
        split = imgdata.describe(info, imgdata.Subject("1", "a"), {})["split_channel"]
        assert (split["g"]["gridx"], split["g"]["gridy"]) == grey
        assert (split["c"]["gridx"], split["c"]["gridy"]) == colour
        assert split["c"]["width"] == 100 * colour[0] + 2 * (colour[0] + 1)
        assert split["g"]["height"] == 50 * grey[1] + 2 * (grey[1] + 1)


REAL = (
    "data/ndev-sampledata__neuron-4Ch.tiff", "data/pathml__small_vectra.qptiff",
    "cases/ome_40ch_subifd.ome.tif", "data/qupath__cells-2c.ome.tif", "cases/ome_rgb_interleaved.ome.tif",
    "cases/ome_order_XYZCT.ome.tif",
    "cases/u16_12bit_significant.ome.tif", "cases/palette_u8.tif", "cases/bilevel_miniswhite.tif",
    "data/viv__multi-channel.ome.tif", "cases/ome_sizec_too_big.ome.tif", "data/libvips__4bit.tif",
)  # fmt: skip


@pytest.fixture(scope="module")
def served() -> tuple[Path, ...]:
    return shared("data"), shared("cases")


@pytest.mark.parametrize("name", REAL)
async def test_a_viewer_that_sends_back_what_it_was_told_sees_the_default_look(
    served: tuple[Path, ...], name: str
) -> None:
    shared(*name.split("/"))
    config = Config(roots=served, tile_cache=1 << 22, raw_cache=1 << 26, workers=2)
    async with TestClient(TestServer(create_app(config))) as client:
        item = await find(client, name.split("/")[1])
        told = await (await client.get(f"/webgateway/imgData/{item}/")).json()
        channels = ",".join(
            f"{'' if entry['active'] else '-'}{number}|{entry['window']['start']}:{entry['window']['end']}$"
            f"{entry['color']}"
            for number, entry in enumerate(told["channels"], 1)
        )
        model = told["rdefs"]["model"][0]
        tile = f"render_image_region/{item}/0/0/?tile={told.get('levels', 1) - 1},0,0"
        found = await picture(client, f"{tile}&m={model}&c={quote(channels)}")
        assert np.array_equal(found, await picture(client, tile))
        assert found.max() > 0


async def test_windows_and_colours_that_are_left_out_are_the_channels_own(client: Client) -> None:
    item = await find(client, "stack.ome.tif")
    told = (await (await client.get(f"/webgateway/imgData/{item}/channels")).json())[1]
    window, colour = f"|{told['window']['start']}:{told['window']['end']}", f"${told['color']}"
    path = f"render_image/{item}/1/0/?c="
    whole = await picture(client, path + quote(f"2{window}{colour}"))
    for text in ("-1,2", f"2{window}", f"2{colour}"):
        assert np.array_equal(await picture(client, path + quote(text)), whole)


@pytest.mark.parametrize("names", [("z",), ("theZ",)])
async def test_a_histogram_counts_all_values_of_a_plane_within_the_channels_limits(
    client: Client, names: tuple[str]
) -> None:
    item = await find(client, "stack.ome.tif")
    told = await (await client.get(f"/webgateway/imgData/{item}/channels")).json()
    for channel, plane in ((0, 0), (3, 2)):
        url = f"/webgateway/histogram_json/{item}/channel/{channel}/?bins=50&{names[0]}={plane}"
        found = (await (await client.get(url)).json())["data"]
        limits = told[channel]["window"]["min"], told[channel]["window"]["max"]
        wanted, _ = np.histogram(np.clip(STACK[plane, channel], *limits), 50, limits)
        assert (found, sum(found)) == (wanted.tolist(), 300 * 500)


async def test_a_histogram_of_one_value_is_one_bar(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "flat.tif", np.full((20, 30), 7, np.uint16), photometric="minisblack")
    async with TestClient(TestServer(create_app(Config(roots=(tmp_path,), workers=1)))) as client:
        item = await find(client, "flat.tif")
        found = (await (await client.get(f"/webgateway/histogram_json/{item}/channel/0/?bins=4")).json())[
            "data"
        ]
    assert sorted(found) == [0, 0, 0, 600]


# -- parameters


@pytest.mark.parametrize(
    ("query", "rendering"),
    [
        ({}, Rendering()),
        ({"c": "", "m": "c", "p": "normal", "maps": ""}, Rendering()),
        ({"c": "1|100:600$FF0000,-2,3|0:255$0f0"}, Rendering((
            ChannelQuery(0, True, (100, 600), "FF0000"), ChannelQuery(1, False),
            ChannelQuery(2, True, (0, 255), "00FF00")))),
        ({"c": " 12 | -1.5:2e3 $ff000080"}, Rendering((ChannelQuery(11, True, (-1.5, 2000), "FF0000"),))),
        ({"c": "1$00F", "m": "g"}, Rendering((ChannelQuery(0, True, None, "0000FF"),), grey=True)),
        ({"p": "intmax"}, Rendering(projection=ProjectionQuery(Kind.MAXIMUM))),
        ({"p": "intmean|0:7"}, Rendering(projection=ProjectionQuery(Kind.MEAN, 0, 7))),
        ({"maps": '[{"inverted":{"enabled":true},"reverse":{"enabled":false}},null,{}]'},
         Rendering(maps=(CodomainMap(True), CodomainMap(), CodomainMap()))),
        ({"maps": '[{"quantization":{"family":"linear","coefficient":3}},'
                  '{"quantization":{"family":"polynomial","coefficient":0.5}}]'},
         Rendering(maps=(CodomainMap(), CodomainMap(False, 0.5)))),
    ],
)  # fmt: skip
def test_rendering_parameters_are_read(query: dict[str, str], rendering: Rendering) -> None:
    assert webquery.parse_rendering(query) == rendering


@pytest.mark.parametrize(
    ("query", "encoding"),
    [
        ({}, Encoding()),
        ({"format": "PNG", "q": "0.3"}, Encoding(Format.PNG)),
        ({"q": "0.85"}, Encoding(Format.JPEG, 85, explicit=True)),
        ({"q": "0"}, Encoding(Format.JPEG, 1, explicit=True)),
        ({"q": "1"}, Encoding(Format.JPEG, 100, explicit=True)),
        ({"q": "2"}, Encoding(Format.JPEG, 2, explicit=True)),
        ({"flip": "h"}, Encoding(turn=Turn(0, True))),
        ({"flip": "V", "format": "tif"}, Encoding(Format.TIFF, turn=Turn(2, True))),
        ({"flip": "hv"}, Encoding(turn=Turn(2))),
    ],
)
def test_encodings_are_read(query: dict[str, str], encoding: Encoding) -> None:
    assert webquery.parse_encoding(query) == encoding


names = some.sampled_from(["c", "m", "p", "maps", "q", "flip", "format"])
entries = some.text(max_size=30) | some.from_regex(r"-?[0-9]{1,3}\|[0-9:.-]{0,9}\$[0-9A-Fr]{0,8}")


@given(some.dictionaries(names, entries))
def test_any_parameters_are_understood_or_refused(query: dict[str, str]) -> None:
    with contextlib.suppress(BadRequest):
        assert webquery.parse_rendering(query) == webquery.parse_rendering(dict(query))
    with contextlib.suppress(BadRequest):
        assert 1 <= webquery.parse_encoding(query).quality <= 100


def test_tiles_of_the_grids_size_are_its_tiles_and_others_are_regions() -> None:
    view = View()
    assert isinstance(webgateway.tile(INFO, "0,1,1", view), TileRequest)
    assert webgateway.tile(INFO, "0,1,1", view) == webgateway.tile(INFO, "0,1,1,0,256", view)
    found = webgateway.tile(INFO, "1,1,0,300,200", view)
    assert found == RegionRequest(Rect(600, 0, 400, 400), 200, 200, view)


@given(some.integers(0, 2), some.integers(0, 5), some.integers(0, 5), some.integers(1, 700),
       some.integers(1, 700), some.sampled_from(["", "h", "v", "hv"]))  # fmt: skip
def test_tiles_lie_inside_the_image_and_have_the_scale_of_their_level(
    resolution: int, x: int, y: int, width: int, height: int, flip: str
) -> None:
    view = View(encoding=webquery.parse_encoding({"flip": flip}))
    size = INFO.grid.size(2 - resolution)
    try:
        found = webgateway.tile(INFO, f"{resolution},{x},{y},{width},{height}", view)
    except NotFound:
        assert x * width >= size[0] or y * height >= size[1]
        return
    if isinstance(found, TileRequest):
        assert (width, height, flip) == (256, 256, "")
        return
    assert (found.width, found.height) == (min(width, size[0] - x * width), min(height, size[1] - y * height))
    assert found.region.intersect(Rect(0, 0, 1000, 600)) == found.region
    assert -(-found.region.width // 2**resolution) == found.width
    assert -(-found.region.height // 2**resolution) == found.height


def test_channels_are_frames_samples_or_primaries() -> None:
    assert (count(INFO), [place(INFO, 8, channel) for channel in range(4)]) == (
        4,
        [(8 + n, 0) for n in range(4)],
    )
    rgb = ImageInfo(Grid(9, 9, 256, 256), (True,), np.dtype(np.uint8), samples=3, colour=Colour.RGB,
                    frames=(Frame(),) * 6, axes=(("C", 2), ("Z", 3)))  # fmt: skip
    assert [place(rgb, 4, channel) for channel in range(count(rgb))] == [
        (4, 0), (4, 1), (4, 2), (5, 0), (5, 1), (5, 2),
    ]  # fmt: skip
    grey = ImageInfo(Grid(9, 9, 256, 256), (True,), np.dtype(np.uint8), samples=5)
    assert [place(grey, 0, channel) for channel in range(count(grey))] == [(0, n) for n in range(5)]


# -- the block of OME-NGFF


async def test_metadata_have_the_block_and_as_a_style_it_shows_what_it_says(client: Client) -> None:
    item = await find(client, "stack.ome.tif")
    found = (await (await client.get(f"/item/{item}/tiles")).json())["omero"]
    assert found["rdefs"] == {"defaultZ": 0, "defaultT": 0, "model": "color"}
    assert [entry["color"] for entry in found["channels"]] == ["0000FF", "00FF00", "FF0000", "FFFF00"]
    assert found["channels"][0]["window"] == {"start": 0, "end": 65535, "min": 0, "max": 65535}
    for channel, colour in zip(found["channels"], ("00FF00", "FF0000", "0000FF", "FFFFFF"), strict=True):
        channel |= {"color": colour, "window": {"start": 50, "end": 3000, "min": 0, "max": 1}}
    found["channels"][3]["active"] = False
    wanted = rendered(
        (STACK[0, 0], (50, 3000), GREEN), (STACK[0, 1], (50, 3000), RED), (STACK[0, 2], (50, 3000), BLUE)
    )
    for style in ({"omero": found}, found):
        answer = await client.get(f"/item/{item}/tiles/region?encoding=PNG&style={quote(json.dumps(style))}")
        assert np.array_equal(np.asarray(Pillow.open(BytesIO(await answer.read())).convert("RGB")), wanted)


@pytest.mark.parametrize("channels", [1, 3])
def test_the_block_of_a_file_that_gives_its_windows_is_its_default_look(
    tmp_path: Path, channels: int
) -> None:
    windows = [(100.0, 3000.0), (50.0, 2000.0), (1.0, 900.0)][:channels]
    ends = tuple(end for window in windows for end in window)
    metadata = {"axes": "CYX", "mode": "composite", "Ranges": ends}
    path = tmp_path / "windows.tif"
    tifffile.imwrite(path, STACK[0, :channels], imagej=True, photometric="minisblack", metadata=metadata)
    with gputiles.open(path) as image:
        assert [entry.window for entry in settings_of(image.info, {})] == windows
        own = image.tile(0, 0, 0, encoding="PNG")
        told = image.tile(0, 0, 0, encoding="PNG", style={"omero": block(image.info)})
    pictures = [np.asarray(Pillow.open(BytesIO(data)).convert("RGB")) for data in (own, told)]
    assert np.array_equal(pictures[0], pictures[1])


colours = some.from_regex(r"[0-9A-F]{6}", fullmatch=True)
channels = some.fixed_dictionaries(
    {
        "active": some.booleans(),
        "color": colours,
        "window": some.tuples(some.integers(-50, 3000), some.integers(0, 2000)).map(
            lambda pair: {"start": pair[0], "end": pair[0] + pair[1], "min": 0, "max": 65535}
        ),
        "inverted": some.booleans(),
        "family": some.sampled_from(["linear", "polynomial"]),
        "coefficient": some.sampled_from([0.5, 1, 2]),
        "label": some.text(max_size=5),
    }
)


def explicit(block: dict[str, Any]) -> dict[str, Any]:
    """Return the style that a person would write for a block."""
    shown = [(index, entry) for index, entry in enumerate(block["channels"]) if entry["active"]]
    grey = block["rdefs"]["model"] == "greyscale"
    bands = []
    for index, entry in shown[:1] if grey else shown:
        ends = ["black", "white" if grey else f"#{entry['color']}"]
        bands.append(
            {
                "channel": index,
                "min": entry["window"]["start"],
                "max": entry["window"]["end"],
                "palette": ends[::-1] if entry["inverted"] else ends,
                "composite": "additive",
                "gamma": entry["coefficient"] if entry["family"] == "polynomial" else 1,
            }
        )
    return {"bands": bands}


blocks = some.builds(
    lambda channels, model: {"channels": channels, "rdefs": {"defaultZ": 1, "defaultT": 0, "model": model}},
    some.lists(channels, max_size=4),
    some.sampled_from(["color", "greyscale"]),
)


@given(blocks)
def test_a_block_is_the_style_that_a_person_would_write(block: dict[str, Any]) -> None:
    wanted = parse(explicit(block))
    for text in (block, {"omero": {**block, "id": 1, "name": "x"}, "multiscales": []}, json.dumps(block)):
        found = parse(text)
        assert (found, found.bands) == (wanted, wanted.bands)


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("small") / "small.ome.tif"
    tifffile.imwrite(path, STACK[0, :, :40, :60], photometric="minisblack", metadata={"axes": "CYX"})
    return path


@settings(max_examples=25, deadline=None)
@given(blocks)
def test_a_block_gives_the_pixels_of_the_style(small: Path, block: dict[str, Any]) -> None:
    with gputiles.open(small) as image:
        found = image.tile(0, 0, 0, encoding="PNG", style={"omero": block})
        assert found == image.tile(0, 0, 0, encoding="PNG", style=explicit(block))


@pytest.mark.parametrize(
    ("style", "reason"),
    [
        ({"omero": 3}, "omero: expected an object; got 3"),
        ({"omero": {}}, "omero.channels: expected a list of objects; got None"),
        ({"omero": {"channels": [3]}}, r"omero.channels\[0\]: expected an object; got 3"),
        ({"omero": {"channels": []}, "bands": []}, "bands cannot stand beside it"),
        ({"channels": [{"color": "red"}], "rdefs": {}}, r"channels\[0\].color: expected three or six hex"),
        ({"channels": [{"window": 3}], "rdefs": {}}, r"channels\[0\].window: expected an object"),
        ({"channels": [{"window": {"start": 3}}], "rdefs": {}}, r"window.end: expected a number; got None"),
        ({"channels": [{"window": {"start": 3, "end": 1}}], "rdefs": {}}, "expected a window; got 3 to 1"),
        ({"channels": [{"active": "yes"}], "rdefs": {}}, r"channels\[0\].active: expected true or false"),
        ({"channels": [{"family": "exponential"}], "rdefs": {}}, "expected one of linear, polynomial"),
        ({"channels": [{"coefficient": 0}], "rdefs": {}}, "coefficient: expected a number above 0"),
        ({"channels": [], "rdefs": []}, "rdefs: expected an object"),
        ({"channels": [], "rdefs": {"model": "hsb"}}, "rdefs.model: expected one of color, greyscale"),
    ],
)
def test_a_block_that_cannot_be_understood_is_refused(style: dict[str, Any], reason: str) -> None:
    with pytest.raises(BadStyle, match=reason):
        parse(style)


def test_channels_that_a_style_cannot_name_have_no_block() -> None:
    one = ImageInfo(Grid(9, 9, 256, 256), (True,), np.dtype(np.uint8), samples=3, colour=Colour.RGB)
    two = replace(one, frames=(Frame(),) * 2, axes=(("C", 2),))
    mapped = replace(one, samples=1, colour=Colour.PALETTE, colormap=np.zeros((4, 3), np.uint8))
    assert ["omero" in describe(info) for info in (one, two, mapped, INFO)] == [True, False, False, True]


def test_what_a_block_leaves_out_has_its_default() -> None:
    found = parse({"channels": [{}, {"window": {"min": 0, "max": 9}}], "rdefs": {}})
    band = {"min": "auto:0.001", "max": "auto:0.001", "palette": "white", "composite": "additive"}
    assert found == parse({"bands": [{"channel": 0, **band}, {"channel": 1, **band}]})
    assert parse({"channels": [], "rdefs": None, "min": 3}) == parse({"min": 3})


def test_an_image_whose_values_are_not_known_is_described_by_its_type() -> None:
    first, second, *_ = settings_of(INFO, {})
    assert (first.label, first.colour, first.window, first.limits) == (
        "DAPI",
        "0000FF",
        (10, 900),
        (0, 65535),
    )
    assert (second.label, second.window, second.active) == ("CD3", (0, 65535), True)
    assert frames_to_measure(INFO) == (1, 2, 3)


@pytest.mark.parametrize("folder", ["data", "cases"])
def test_every_block_is_a_style_that_its_image_can_be_shown_in(folder: str) -> None:
    checked = 0
    for path in sorted(shared(folder).glob("*.*")):
        try:
            source = open_source(path, root=path.parent)
        except GputilesError:
            continue
        source.close()
        told = json.loads(json.dumps(describe(source.info)))
        assert ("omero" in told) == (source.info.colormap is None)
        if "omero" in told:
            recipe = make_recipe(parse({"omero": told["omero"]}), source.info, 0, {})
            active = [entry for entry in told["omero"]["channels"] if entry["active"]]
            assert len(recipe.bands or ()) == len(active) > 0
            assert [band.high for band in recipe.bands or ()] == [entry["window"]["end"] for entry in active]
            checked += 1
    assert checked > 50
