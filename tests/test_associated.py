"""Other pictures of a file: found, right, and shown only where that is allowed."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from io import BytesIO
from pathlib import Path
from typing import Any

import click
import numpy as np
import pytest
import tifffile
from aiohttp.test_utils import TestClient, TestServer
from PIL import Image as Pillow

from gputiles.app import create_app
from gputiles.commands.options import Pictures
from gputiles.config import PICTURES, Config, parse_pictures
from gputiles.errors import BadRequest, Damaged, GputilesError
from gputiles.sources.open import open_source
from tests.conftest import shared
from tests.reading import Pixels, full
from tests.test_http import find

Client = TestClient[Any, Any]

# Which page of the file each picture is.
FILES = {
    "data/libvips__CMU-1-Small-Region.svs": {"label": 2, "macro": 3, "thumbnail": 1},
    "data/ometiff-tests__test3-TRITC_2_(560).ndpi": {"macro": 4, "map": 5},
    "data/pathml__small_vectra.qptiff": {"label": 5, "overview": 4, "thumbnail": 3},
    "cases/svs_page_order.svs": {"label": 3, "macro": 4, "thumbnail": 1},
    "cases/qptiff_page_order.qptiff": {"label": 7, "thumbnail": 3},
    "data/large_image__yb10kx5k.zstd.tiff": {},
}


@asynccontextmanager
async def serving(path: Path, **settings: Any) -> AsyncIterator[tuple[Client, str]]:
    config = Config(roots=(path,), tile_cache=1 << 24, raw_cache=1 << 26, workers=2, icc=False, **settings)
    async with TestClient(TestServer(create_app(config))) as client:
        item = await find(client, path.name)
        yield client, f"/item/{item}/tiles/images"


@pytest.mark.parametrize("name", FILES)
async def test_pictures_are_those_of_their_pages(name: str) -> None:
    path = shared(*name.split("/"))
    async with serving(path, associated_images=PICTURES) as (client, base):
        assert await (await client.get(base)).json() == sorted(FILES[name])
        for picture, page in FILES[name].items():
            with tifffile.TiffFile(path) as file:
                expected, lossy = file.pages[page].asarray(), file.pages[page].compression == 7
            facts = await (await client.get(f"{base}/{picture}/metadata")).json()
            assert (facts["sizeX"], facts["sizeY"]) == expected.shape[1::-1]
            answer = await client.get(f"{base}/{picture}?encoding=PNG")
            found = np.asarray(Pillow.open(BytesIO(await answer.read())))
            assert found.shape == expected.shape
            assert facts["mode"] == {2: "L", 3: "RGB"}[expected.ndim]
            assert np.abs(found.astype(int) - expected).max() <= (2 if lossy else 0), picture


async def test_a_picture_and_its_image_are_not_mixed_up() -> None:
    path = shared("data", "libvips__CMU-1-Small-Region.svs")
    async with serving(path, associated_images=PICTURES) as (client, base):
        tiles = base.removesuffix("/images")
        answers = [
            await (await client.get(url)).read()
            for _ in range(2)
            for url in (
                f"{tiles}/thumbnail?encoding=PNG",
                f"{base}/label?encoding=PNG",
                f"{base}/macro?encoding=PNG",
            )
        ]
        assert len(set(answers)) == 3
        assert answers[:3] == answers[3:]


async def test_labels_and_macros_are_hidden_unless_the_setting_names_them() -> None:
    path = shared("data", "libvips__CMU-1-Small-Region.svs")
    async with serving(path) as (client, base):
        assert await (await client.get(base)).json() == ["thumbnail"]
        assert (await client.get(f"{base}/thumbnail")).status == 200
        for route in ("label", "macro", "label/metadata"):
            answer = await client.get(f"{base}/{route}")
            assert answer.status == 404
            assert "the setting 'associated-images'" in (await answer.json())["message"]
    async with serving(path, associated_images=("label",)) as (client, base):
        assert await (await client.get(base)).json() == ["label"]


async def test_pictures_are_bounded_and_have_entity_tags() -> None:
    path = shared("data", "libvips__CMU-1-Small-Region.svs")
    async with serving(path) as (client, base):
        answer = await client.get(f"{base}/thumbnail?width=100&height=100")
        assert max(Pillow.open(BytesIO(await answer.read())).size) == 100
        held = await client.get(
            f"{base}/thumbnail?width=100&height=100", headers={"If-None-Match": answer.headers["ETag"]}
        )
        assert held.status == 304
        assert (await client.get(f"{base}/thumbnail?width=0")).status == 400


async def test_a_name_that_the_file_has_not_is_refused() -> None:
    path = shared("data", "libvips__CMU-1-Small-Region.svs")
    async with serving(path, associated_images=PICTURES) as (client, base):
        for name, reason in (("nothing", "is not shown here"), ("overview", "has no picture 'overview'")):
            for route in (name, f"{name}/metadata"):
                answer = await client.get(f"{base}/{route}")
                assert answer.status == 404
                assert reason in (await answer.json())["message"]


async def test_a_refusal_does_not_tell_which_hidden_pictures_there_are() -> None:
    path = shared("cases", "qptiff_page_order.qptiff")
    async with serving(path, associated_images=("macro",)) as (client, base):
        told = {name: await (await client.get(f"{base}/{name}")).text() for name in PICTURES}
    assert {name for name in told if "is not shown here" in told[name]} == set(PICTURES) - {"macro"}
    assert "label" not in told["macro"]


async def test_an_image_without_pictures_has_none_and_the_test_pattern_too() -> None:
    path = shared("data", "openslide-python__small.svs")
    async with serving(path, associated_images=PICTURES) as (client, base):
        assert await (await client.get(base)).json() == ["thumbnail"]
        assert await (await client.get("/item/test/tiles/images")).json() == []
        assert (await client.get("/item/test/tiles/images/label")).status == 404
        assert (await client.get(f"/api/v1{base}/thumbnail".replace("tiles", "tile"))).status == 200


async def test_a_picture_is_decoded_once_and_kept_like_a_tile() -> None:
    path = shared("data", "libvips__CMU-1-Small-Region.svs")
    async with serving(path, associated_images=PICTURES) as (client, base):
        caches = [(await client.get(f"{base}/macro?width=300")).headers["X-Cache"] for _ in range(2)]
        assert caches[0] != "encoded-hit" == caches[1]
        head = await client.head(f"{base}/macro?width=300")
        whole = await client.get(f"{base}/macro?width=300")
        assert (head.status, head.headers["ETag"]) == (200, whole.headers["ETag"])
        assert Pillow.open(BytesIO(await whole.read())).size == (300, 101)
        larger = await client.get(f"{base}/label?width=5000&height=5000&encoding=TIFF")
        assert Pillow.open(BytesIO(await larger.read())).size == (387, 463)


async def test_a_file_that_is_replaced_has_other_pictures(tmp_path: Path) -> None:
    path = tmp_path / "slide.svs"
    write_svs(path, label=noise(40, 60))
    async with serving(path, associated_images=PICTURES, revalidate=0) as (client, base):
        before = await client.get(f"{base}/label?encoding=PNG")
        other = tmp_path / "other"
        write_svs(other, label=noise(40, 61))
        other.replace(path)
        after = await client.get(f"{base}/label?encoding=PNG")
        assert before.headers["ETag"] != after.headers["ETag"]
        assert Pillow.open(BytesIO(await after.read())).size == (61, 40)


async def test_a_damaged_picture_is_its_own_error_and_the_image_is_served(tmp_path: Path) -> None:
    path = tmp_path / "slide.svs"
    write_svs(path, label=noise(40, 60), compression="zlib")
    with tifffile.TiffFile(path) as file:
        at, size = file.pages[1].dataoffsets[0], file.pages[1].databytecounts[0]
    with path.open("r+b") as damaged:
        damaged.seek(at)
        damaged.write(bytes(size))
    async with serving(path, associated_images=PICTURES) as (client, base):
        assert (await client.get(f"{base}/label")).status == 422
        assert (await client.get(f"{base.removesuffix('/images')}/zxy/0/0/0")).status == 200


# -- how they are found


def noise(*shape: int) -> Pixels:
    return np.random.default_rng(sum(shape)).integers(0, 255, (*shape, 3), np.uint8)


def write_svs(path: Path | BytesIO, *, compression: str | None = None, **pictures: Pixels) -> None:
    """Write an SVS file of one tiled level; a picture's name is its description's second line."""
    with tifffile.TiffWriter(path) as writer:
        options = {"photometric": "rgb", "metadata": None}
        level = noise(300, 400)
        writer.write(level, tile=(256, 256), description="Aperio Image Library\n400x300|MPP = 0.5", **options)
        for name, pixels in pictures.items():
            kind = {"label": 1, "macro": 9}.get(name, 0)
            text = f"Aperio Image Library\n{name} {pixels.shape[1]}x{pixels.shape[0]}"
            writer.write(pixels, subfiletype=kind, description=text, compression=compression, **options)


def pages_file(*pages: tuple[Pixels, str | None, dict[str, Any]]) -> BytesIO:
    """Write pages of RGB pixels, each with its description and options."""
    file = BytesIO()
    with tifffile.TiffWriter(file, bigtiff=True) as writer:
        for pixels, text, options in pages:
            encoded = None if text is None else text.encode()
            writer.write(pixels, photometric="rgb", description=encoded, metadata=None, **options)
    return file


def open_pictures(file: BytesIO) -> dict[str, Pixels]:
    """Return the pixels of all pictures of a file."""
    names = open_source(file).info.associated
    return {name: full(open_source(file, associated=name)) for name in names}


def assert_pictures(file: BytesIO, expected: dict[str, Pixels]) -> None:
    found = open_pictures(file)
    assert sorted(found) == sorted(expected)
    for name, pixels in expected.items():
        np.testing.assert_array_equal(found[name], pixels, err_msg=name)


def break_page(file: BytesIO, number: int) -> BytesIO:
    """Make a page impossible: its samples per pixel are 0."""
    file.seek(0)
    with tifffile.TiffFile(file) as tif:
        at = tif.pages[number].tags[277].valueoffset
        file.seek(at)
        file.write(b"\0\0")
    return file


@pytest.mark.parametrize(("kind", "name"), [(0, "thumbnail"), (1, "label"), (9, "macro")])
def test_pictures_of_newer_aperio_scanners_are_known_without_their_words(kind: int, name: str) -> None:
    picture, level = noise(30, 50), noise(256, 256)
    text = "Aperio Leica Biosystems GT450\n50x30"
    file = pages_file((level, "Aperio", {"tile": (256, 256)}), (picture, text, {"subfiletype": kind}))
    assert_pictures(file, {name: picture})


def test_the_first_of_two_thumbnails_counts() -> None:
    first, second = noise(30, 50), noise(20, 40)
    level = (noise(256, 256), "Aperio", {"tile": (256, 256)})
    assert_pictures(pages_file(level, (first, "Aperio", {}), (second, "Aperio", {})), {"thumbnail": first})


def test_a_slide_in_strips_keeps_its_label_apart() -> None:
    image, label = noise(200, 300), noise(40, 60)
    file = pages_file((image, "Aperio\n300x200", {}), (label, "Aperio\nlabel 60x40", {"subfiletype": 1}))
    np.testing.assert_array_equal(full(open_source(file)), image)
    assert_pictures(file, {"label": label})


@pytest.mark.parametrize(("text", "name"), [
    ("Label", "label"), ("Macro", "macro"), ("Label Image", "label"), ("Label_Image", "label"),
    ("Thumbnail", "thumbnail"), ("macro", "macro"), ("Macro offset=(0,0) pixelsize=(0.03,0.03)", "macro"),
    ("labelled by hand", None), ("Macrophages", None), ("the label", None), ("", None),
])  # fmt: skip
def test_pages_that_say_what_they_are_are_pictures(text: str, name: str | None) -> None:
    picture = noise(50, 60)
    file = pages_file((noise(300, 400), "a slide", {"tile": (256, 256)}), (picture, text or None, {}))
    assert_pictures(file, {} if name is None else {name: picture})


def test_a_label_of_half_the_size_is_no_level_of_the_image() -> None:
    image, label = noise(600, 400), noise(300, 200)
    source = open_source(pages_file((image, None, {}), (label, "Label", {})))
    assert source.info.stored.count(True) == 1
    assert source.info.associated == ("label",)


def test_pages_like_the_image_are_its_frames_whatever_they_are_called() -> None:
    pages = [(noise(60, 50), text, {}) for text in ("photo", "label", "macro")]
    info = open_source(pages_file(*pages)).info
    assert (len(info.frames), info.associated) == (3, ())


def test_a_file_of_nothing_but_a_label_is_an_image() -> None:
    image = noise(60, 50)
    np.testing.assert_array_equal(full(open_source(pages_file((image, "Label", {})))), image)


# -- a label is never shown in place of the image


QPTIFF = "<PerkinElmer-QPI-ImageDescription><ImageType>{}</ImageType></PerkinElmer-QPI-ImageDescription>"
OME = '<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06">{}</OME>'  # images, largest last
SCN = '<scn xmlns="http://www.leica-microsystems.com/scn/2010/10/01">{}</scn>'


def ome_image(name: str, ifd: int | None, pixels: Pixels, planes: int = 1) -> str:
    height, width = pixels.shape[:2]
    place = "" if ifd is None else f'<TiffData IFD="{ifd}" PlaneCount="{planes}"/>'
    return (
        f'<Image ID="Image:{ifd}" Name="{name}"><Pixels DimensionOrder="XYCZT" Type="uint8" SizeX="{width}"'
        f' SizeY="{height}" SizeC="3" SizeZ="1" SizeT="1">'
        f'<Channel SamplesPerPixel="{3 // planes}"/>{place}</Pixels></Image>'
    )


def scn_image(ifd: int, size: int, offset: int) -> str:
    return (
        f'<image><pixels><dimension ifd="{ifd}"/></pixels>'
        f'<view sizeX="{size}" sizeY="{size}" offsetX="{offset}" offsetY="{offset}"/></image>'
    )


def scn_text(more: str = "") -> str:
    images = scn_image(0, 100, 5) + scn_image(1, 1000, 0) + more
    return SCN.format(f'<collection sizeX="1000" sizeY="1000">{images}</collection>')


def ome_text(*names: str) -> str:
    images = [ome_image("slide", 0, noise(300, 400))]
    return OME.format("".join(images + [ome_image(n, at, noise(40, 60)) for at, n in enumerate(names, 1)]))


DESCRIPTIONS = {
    "SVS": ("Aperio\n400x300", "Aperio\nlabel 60x40"),
    "QPTIFF": (QPTIFF.format("FullResolution"), QPTIFF.format("Label")),
    "SCN": (scn_text(), None),
    "OME": (ome_text("label image"), None),
    "plain": ("a slide", "Label"),
}


@pytest.mark.parametrize("kind", DESCRIPTIONS)
def test_a_file_whose_image_cannot_be_read_does_not_show_its_label_instead(kind: str) -> None:
    first, second = DESCRIPTIONS[kind]
    file = pages_file((noise(300, 400), first, {"tile": (256, 256)}), (label := noise(40, 60), second, {}))
    assert_pictures(file, {"macro" if kind == "SCN" else "label": label})
    with pytest.raises(Damaged, match=r"samples per pixel|no page that can be read"):
        open_source(break_page(file, 0))


# -- OME-TIFF


def test_ome_images_that_are_called_so_are_pictures_whatever_their_size() -> None:
    slide, macro, label = noise(50, 60), noise(300, 400), noise(40, 30)
    named = [("macro image", macro), ("", slide), ("Label", label), ("label mask", noise(10, 10))]
    text = OME.format("".join(ome_image(name, at, pixels) for at, (name, pixels) in enumerate(named)))
    file = pages_file(*((pixels, text if at == 0 else None, {}) for at, (_, pixels) in enumerate(named)))
    source = open_source(file)
    np.testing.assert_array_equal(full(source), slide)
    assert [line for line in source.info.warnings if "not shown" in line] == [
        "1 further images of the file are not shown"
    ]
    assert_pictures(file, {"label": label, "macro": macro})


def test_a_picture_that_ome_does_not_place_is_a_warning_and_never_the_first_page() -> None:
    slide = noise(50, 60)
    text = OME.format(ome_image("slide", 0, slide) + ome_image("label image", None, noise(50, 60)))
    info = open_source(pages_file((slide, text, {}))).info
    assert info.associated == ()
    assert any("the label cannot be shown: the OME-XML does not say" in line for line in info.warnings)


def test_a_segmentation_called_label_that_is_all_of_a_file_is_the_image() -> None:
    pixels = noise(50, 60)
    file = pages_file((pixels, OME.format(ome_image("label", 0, pixels)), {}))
    np.testing.assert_array_equal(full(open_source(file)), pixels)
    assert_pictures(file, {})


# -- SCN


def test_the_whole_slide_of_an_scn_file_is_its_macro_with_its_levels() -> None:
    slide, macro, label = noise(300, 400), noise(200, 200), noise(30, 50)
    levels = scn_image(1, 1000, 0).replace("</pixels>", '<dimension r="1" ifd="2"/></pixels>')
    extra = '<supplementalImage type="label" ifd="3"/><supplementalImage type="odd" ifd="3"/>'
    images = scn_image(0, 100, 5) + levels + extra
    text = SCN.format(f'<collection sizeX="1000" sizeY="1000">{images}</collection>')
    smaller = macro[::2, ::2]
    pages = [(slide, text, {}), (macro, None, {}), (smaller, None, {}), (label, None, {})]
    file = pages_file(*pages)
    np.testing.assert_array_equal(full(open_source(file)), slide)
    assert_pictures(file, {"label": label, "macro": macro})


def test_a_picture_that_an_scn_file_lacks_is_a_warning() -> None:
    text = scn_text('<supplementalImage type="label" ifd="9"/>')
    info = open_source(pages_file((noise(300, 400), text, {}), (noise(40, 60), None, {}))).info
    assert info.associated == ("macro",)
    assert any("the label cannot be shown: " in line for line in info.warnings)


# -- the setting


@pytest.mark.parametrize(("given", "allowed"), [
    ("all", PICTURES), ("none", ()), ("ALL", PICTURES), ("label", ("label",)), ("", ()),
    (" macro , Label,", ("macro", "label")),
])  # fmt: skip
def test_the_setting_names_pictures(given: str, allowed: tuple[str, ...]) -> None:
    assert parse_pictures(given.split(",")) == allowed
    assert Pictures().convert(given, None, None) == allowed
    assert Pictures().convert(given.split(","), None, None) == allowed


@pytest.mark.parametrize("given", ["lable", "label,all", "none,label", "label macro"])
def test_a_slip_of_the_pen_in_the_setting_is_refused(given: str) -> None:
    with pytest.raises(BadRequest, match="expected 'none', 'all', or some of label, macro"):
        parse_pictures(given.split(","))
    with pytest.raises(click.BadParameter, match="associated-images"):
        Pictures().convert(given, None, None)


def test_every_real_file_names_only_pictures_that_the_setting_knows() -> None:
    found: dict[str, Any] = {}
    for path in sorted(shared("data").iterdir()):
        try:
            source = open_source(path)
        except GputilesError:
            continue
        if source.info.associated:
            found[path.name] = source.info.associated
            for name in source.info.associated:
                picture = open_source(path, associated=name)
                if path.name != "openslide-python__unreadable.svs":  # all its JPEG streams are broken
                    assert full(picture).any()
                picture.close()
        source.close()
    assert len(found) >= 4
    assert set().union(*found.values()) <= set(PICTURES)
