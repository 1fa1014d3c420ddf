"""Files that an installed large_image reads and gputiles does not."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image as Pillow

from gputiles.errors import Damaged, GputilesError, LimitExceeded, NotFound, Unsupported
from gputiles.geometry import Rect
from gputiles.image import Alpha, Colour
from gputiles.sources import largeimage
from gputiles.sources.largeimage import LargeImage, open_large_image
from gputiles.sources.open import open_source
from tests.reading import full, read_level, read_tile
from tests.test_associated import serving

# its source of pictures leaves the file open when a library that it tries first refuses it
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")


@pytest.fixture(autouse=True)
def collected() -> Iterator[None]:
    """What was left open is collected here, not in another test."""
    yield
    gc.collect()


RNG = np.random.default_rng(11)


class Tiles:
    """What the adapter asks of an image of large_image; the pixel values say where they lie."""

    name = "tiles"

    def __init__(self, width: int, height: int, tile: int, **facts: Any) -> None:
        self.facts = {
            "sizeX": width, "sizeY": height, "tileWidth": tile, "tileHeight": tile, "bandCount": 1,
            "dtype": "uint16", **facts,
        }  # fmt: skip
        self.asked: list[tuple[int, int, int, int]] = []

    def getMetadata(self) -> dict[str, Any]:
        return self.facts

    def getPreferredLevel(self, level: int) -> int:
        return level | 1  # every other level is stored

    def getTile(self, x: int, y: int, z: int, frame: int, numpyAllowed: str) -> NDArray[Any]:
        assert numpyAllowed == "always"
        self.asked.append((frame, z, x, y))
        if (x, y) == (3, 3):
            raise RuntimeError("it broke")
        side = self.facts["tileWidth"]
        rows, columns = np.mgrid[y * side : (y + 1) * side, x * side : (x + 1) * side]
        return (1000 * frame + rows + 3 * columns).astype(self.facts["dtype"])


def adapter(tiles: Tiles, chunk_limit: int = 1 << 30) -> LargeImage:
    return LargeImage(Path("a.nd2"), tiles, chunk_limit)


@pytest.mark.parametrize(("mode", "samples"), [("L", 1), ("RGB", 3)])
def test_a_picture_is_opened_and_decoded_once_for_all_its_tiles(
    mode: str, samples: int, tmp_path: Path
) -> None:
    array = RNG.integers(0, 256, (300, 700, samples), np.uint8)
    Pillow.fromarray(array if samples == 3 else array[..., 0]).save(tmp_path / "a.bmp")
    source = open_source(tmp_path / "a.bmp", root=tmp_path)
    assert (source.info.samples, source.info.dtype) == (samples, np.uint8)
    assert source.info.colour is (Colour.RGB if samples == 3 else Colour.GREY)
    assert np.array_equal(full(source), array)
    z = source.info.levels - 1
    assert len(source.read(0, z, source.info.unit(z, 0, 0)).chunks) == 1
    with pytest.raises(NotFound, match="Frame does not exist"):
        source.read(1, z, source.info.unit(z, 0, 0))
    assert source.is_current()
    source.close()
    with pytest.raises(NotFound, match="no picture 'label'"):
        open_source(tmp_path / "a.bmp", associated="label")


async def test_a_picture_is_served_and_named(tmp_path: Path) -> None:
    array = RNG.integers(0, 256, (90, 70, 3), np.uint8)
    Pillow.fromarray(array).save(tmp_path / "a.bmp")
    async with serving(tmp_path / "a.bmp") as (client, base):
        item = base.removesuffix("/images")
        told = await (await client.get(f"{item}/internal_metadata")).json()
        assert (told["tilesource"], told["format"]) == ("large_image", "large_image pil")
        tile = await (await client.get(f"{item}/zxy/0/0/0?encoding=PNG")).read()
        assert np.array_equal(np.asarray(Pillow.open(BytesIO(tile)))[:90, :70], array)
        sources = await (await client.get("/large_image/sources")).json()
        assert {"bmp", "nd2", "vsi"} <= sources["large_image"]["extensions"].keys()


@pytest.mark.parametrize("content", [b"", b"nonsense" * 99, b'{"sources": [{"path": "other.tif"}]}'])
def test_a_file_that_no_source_reads_is_refused(content: bytes, tmp_path: Path) -> None:
    """Among them those that only name other files, wherever they lie."""
    (tmp_path / "a.nd2").write_bytes(content)
    with pytest.raises(Unsupported, match="no installed source of large_image"):
        open_source(tmp_path / "a.nd2", root=tmp_path)
    with pytest.raises(NotFound, match="does not exist"):
        open_source(tmp_path / "gone.nd2", root=tmp_path)


async def test_without_the_extra_the_answer_names_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(largeimage, "large_image_library", lambda: None)
    (tmp_path / "a.nd2").write_bytes(b"content")
    async with serving(tmp_path / "a.nd2") as (client, base):
        answer = await client.get(base.removesuffix("/images"))
        assert answer.status == 415
        assert "gputiles[large-image]" in (await answer.json())["message"]


def test_frames_lie_on_the_axes_that_are_told_fastest_first() -> None:
    told = {
        "frames": [{}] * 6, "IndexRange": {"IndexZ": 3, "IndexC": 2, "IndexT": 1},
        "IndexStride": {"IndexZ": 2, "IndexC": 1, "IndexT": 6}, "channels": ["DAPI", "CD3"],
    }  # fmt: skip
    info = adapter(Tiles(1000, 900, 256, **told)).info
    assert info.axes == (("C", 2), ("Z", 3))
    assert [dict(frame.index) for frame in info.frames[:3]] == [
        {"C": 0, "Z": 0}, {"C": 1, "Z": 0}, {"C": 0, "Z": 1}
    ]  # fmt: skip
    assert [channel.name for channel in info.channels] == ["DAPI", "CD3"]
    assert adapter(Tiles(1000, 900, 256, frames=[{}] * 4)).info.axes == (("Z", 4),)
    assert adapter(Tiles(1000, 900, 256)).info.axes == ()


@pytest.mark.parametrize("samples", range(1, 6))
def test_samples_are_what_their_number_says(samples: int) -> None:
    info = adapter(Tiles(1000, 900, 256, bandCount=samples)).info
    assert info.colour is (Colour.RGB if samples in (3, 4) else Colour.GREY)
    assert info.alpha is (Alpha.STRAIGHT if samples in (2, 4) else Alpha.NONE)


@pytest.mark.parametrize("tile", [256, 100])
def test_tiles_of_any_size_are_put_together(tile: int) -> None:
    """Tiles of 100 pixels are too small to be served: ours are made of several of them."""
    tiles = Tiles(1000, 300, tile)
    opened = adapter(tiles)
    z = opened.info.levels - 1
    pixels, valid = opened.paint(0, z, Rect(150, 90, 300, 130))
    rows, columns = np.mgrid[90:220, 150:450]
    assert valid is None
    assert np.array_equal(pixels[..., 0], rows + 3 * columns)
    expected = {
        (0, tiles_z, x, y)
        for tiles_z in {largest(tile)}
        for y in span(90, 220, tile)
        for x in span(150, 450, tile)
    }
    assert set(tiles.asked) == expected
    assert len(tiles.asked) == len(expected)
    assert opened.info.stored[z]
    assert not all(opened.info.stored)


def largest(tile: int) -> int:
    """Return the number of the full level of an image of 1000 columns."""
    return (-(-1000 // tile) - 1).bit_length()


def span(start: int, stop: int, side: int) -> range:
    return range(start // side, (stop - 1) // side + 1)


def test_what_cannot_be_read_is_damaged() -> None:
    opened = adapter(Tiles(2000, 2000, 256))
    with pytest.raises(Damaged, match="it broke"):
        opened.paint(0, opened.info.levels - 1, Rect(768, 768, 256, 256))
    liar = Tiles(1000, 900, 256)
    opened = adapter(liar)
    liar.facts["dtype"] = "uint8"
    with pytest.raises(Damaged, match=r"expected .* uint16"):
        opened.paint(0, opened.info.levels - 1, Rect(0, 0, 256, 256))


def test_tiles_that_take_too_much_memory_and_types_that_are_none_are_refused() -> None:
    with pytest.raises(LimitExceeded, match="most 1000"):
        adapter(Tiles(1000, 900, 256), chunk_limit=1000)
    for facts in ({"dtype": "complex64"}, {"dtype": None}, {"bandCount": 0}):
        with pytest.raises(Unsupported, match="expected integers or floats"):
            adapter(Tiles(1000, 900, 256, **facts))


def test_sources_of_which_files_name_others_are_never_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    find = largeimage.large_image_library().tilesource
    monkeypatch.setattr(
        find, "AvailableTileSources", dict.fromkeys(["multi", "gdal", "rasterio", "test", "pil"])
    )
    given: list[set[str]] = []

    def get(sources: dict[str, Any], *_: Any, **options: Any) -> Tiles:
        assert options == {"noCache": True}
        given.append(set(sources))
        return Tiles(300, 300, 256)

    monkeypatch.setattr(find, "getTileSourceFromDict", get)
    (tmp_path / "a.nd2").write_bytes(b"")
    source = open_large_image(tmp_path / "a.nd2", chunk_limit=1 << 30, associated=None)
    assert given == [{"pil"}]
    assert not isinstance(read_tile(source, 0, 1, 1, 1), GputilesError)
    assert read_level(source, 0, 1).shape == (300, 300, 1)
