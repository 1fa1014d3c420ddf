"""A real Girder 3 with its large_image plugin and gputiles answer the same requests.

Status, media type, JSON and decoded pixels agree (PNG within 1 level, JPEG within the tolerance of
two encoders), and so do the headers that clients rely on; what does not is in DIFFERENCES with
the line of README that says so. What is not there must not differ, and what is there must.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.conftest import ROOT, shared
from tests.large_image_peer import SCRIPT, VENV, Answer, ask_both, differences, girder
from tests.large_image_requests import FILES, REQUESTS

README = " ".join((ROOT / "README.md").read_text(encoding="utf-8").split())


class Difference(NamedTuple):
    """A line of README, the aspects in which answers differ for its sake, and the requests."""

    told: str
    aspects: str
    lines: str


FRAMES = (
    "missing:.frames[].ID missing:.frames[].IFD missing:.frames[].LightPath missing:.frames[].Name "
    "missing:.frames[].SamplesPerPixel"
)
CROP = "value:.quads[].crop.bottom value:.quads[].crop.right value:.quads[].crop.top"

PANEL_PLANS = """
panel tiles/tile_frames/quad_info
panel tiles/tile_frames/quad_info?maxTextureSize=256&maxTextures=4
panel tiles/tile_frames/quad_info?frameGroup=4&frameGroupFactor=2
panel tiles/tile_frames/quad_info?frameStride=c
"""
PLANS = f"""
golden tiles/tile_frames/quad_info
golden tiles/tile_frames/quad_info?frameBase=1&frameStride=2
{PANEL_PLANS}"""

DIFFERENCES = (
    Difference(
        "`channelColors` and `omero` are added",
        "more:.omero",
        f"""
        slide tiles
        page tiles
        golden tiles
        panel tiles
        odd tiles
        quad tiles
        tall tiles
        signed tiles
        small tiles
        alpha tiles
        MATCH slide tiles
        - item/test/tiles
        - item/test/tiles?sizeX=1000&sizeY=700&tileWidth=128&tileHeight=128&maxLevel=3
        slide tiles/tile_frames/quad_info
        {PLANS}
        """,
    ),
    Difference(
        "`channelColors` and `omero` are added",
        "more:.channelColors",
        f"""
        golden tiles
        panel tiles
        odd tiles
        small tiles
        {PLANS}
        """,
    ),
    Difference(
        "`frames` do not repeat the OME-XML's attributes, and an image of one frame has none",
        FRAMES,
        f"""
        golden tiles
        panel tiles
        {PLANS}
        """,
    ),
    Difference(
        "`frames` do not repeat the OME-XML's attributes, and an image of one frame has none",
        "missing:.frames[].Color",
        f"""
        panel tiles
        {PANEL_PLANS}
        """,
    ),
    Difference(
        "`frames` do not repeat the OME-XML's attributes, and an image of one frame has none",
        "missing:.frames[].ID missing:.frames[].Name missing:.frames[].SamplesPerPixel",
        "small tiles",
    ),
    Difference(
        "`frames` do not repeat the OME-XML's attributes, and an image of one frame has none",
        "missing:.frames more:.channels more:.channelmap",
        "odd tiles",
    ),
    Difference(
        "`magnification` is what the file says; it is not guessed from the physical size.",
        "value:.magnification",
        f"""
        panel tiles
        odd tiles
        {PANEL_PLANS}
        """,
    ),
    Difference(
        "Stored tiles below 128 or above 2048 pixels on a side are served as tiles of 256 or 512.",
        "value:.tileWidth value:.tileHeight value:.levels",
        "small tiles",
    ),
    Difference(
        "Stored tiles below 128 or above 2048 pixels on a side are served as tiles of 256 or 512.",
        "value:.tileWidth value:.tileHeight",
        "alpha tiles",
    ),
    Difference(
        "Stored tiles below 128 or above 2048 pixels on a side are served as tiles of 256 or 512.",
        "shape",
        """
        small tiles/zxy/0/0/0?encoding=PNG&frame=1
        alpha tiles/zxy/0/0/0?encoding=PNG
        alpha tiles/zxy/0/0/0?encoding=JPEG
        """,
    ),
    Difference(
        "Stored tiles below 128 or above 2048 pixels on a side are served as tiles of 256 or 512.",
        "status",
        "small tiles/zxy/1/1/0?encoding=PNG&frame=1",
    ),
    Difference(
        "An absent item, frame, level, tile or route is 404, and a method that a route lacks 405",
        "status",
        """
        POST slide tiles/zxy/0/0/0
        PUT slide tiles/region
        DELETE slide tiles/region
        POST slide tiles/histogram
        DELETE - large_image/cache
        - item/000000000000000000000000/tiles
        - item/ffffffffffffffffffffffff/tiles/zxy/0/0/0
        - item/ffffffffffffffffffffffff/tiles/region
        - item/ffffffffffffffffffffffff/tiles/pixel?left=1&top=1
        - item/nonsense/tiles
        - item/nonsense/tiles/zxy/0/0/0
        - item/12345/tiles/thumbnail
        - item/nonsense/tiles/images
        slide tiles/nothing
        slide tiles/zxy/0/0
        MATCH slide tiles/zxy/9/0/0
        slide tiles/thumbnail?frame=5
        slide tiles/region?frame=4
        slide tiles/pixel?left=5&top=5&frame=3
        slide tiles/histogram?frame=7
        golden tiles/bands?frame=9
        golden tiles/tile_frames?frameList=9
        slide tiles/dzi_files/13/0_0.png
        slide tiles/dzi_files/12/9_0.png
        """,
    ),
    Difference(
        "refusals are JSON and are never kept (large_image's for an hour)", "type", "- nothing/at/all"
    ),
    Difference(
        "Malformed and empty parameters are 400 with the reason, never 500 or another picture",
        "status",
        """
        slide tiles/zxy/0/0/0?frame=x
        slide tiles/zxy/0/0/0?encoding=BOGUS
        slide tiles/zxy/0/0/0?encoding=
        slide tiles/zxy/0/0/0?jpegQuality=x
        slide tiles/zxy/0/0/0?jpegQuality=-5
        slide tiles/zxy/0/0/0?jpegSubsampling=x
        slide tiles/zxy/0/0/0?edge=nocolour
        golden tiles/fzxy/x/1/0/1
        slide tiles/region?width=0
        golden tiles/pixel?left=100&top=120&frameList=a
        slide tiles/histogram?bins=0
        slide tiles/dzi.dzi?tilesize=x
        slide tiles/dzi_files/x/0_0.png
        slide tiles/dzi_files/12/a_b.png
        slide tiles/dzi_files/12/-1_0.png
        golden tiles/tile_frames?frameList=x
        panel tiles/tile_frames/quad_info?frameStride=q
        panel tiles/tile_frames/quad_info?format=nojson
        - item/test/tiles?tileWidth=0
        """,
    ),
    Difference("an empty `frame` is an absent one", "status", "slide tiles/zxy/4/2/3?encoding=PNG&frame="),
    Difference(
        "The plain name of a `contentDisposition` is the name, without `b'…'` around it",
        "headers",
        "slide tiles/region?left=0&top=0&right=64&bottom=64&encoding=PNG&contentDisposition=attachment",
    ),
    Difference(
        "`encoding` is read in any case, and `edge` may be `true` or `false`.",
        "status",
        """
        slide tiles/zxy/0/0/0?encoding=png
        slide tiles/zxy/0/0/0?edge=true
        slide tiles/zxy/0/0/0?edge=false
        """,
    ),
    Difference(
        "A style is refused with 400 and the reason, not 404 or 500; `null` is an absent key.",
        "status",
        """
        slide tiles/zxy/0/0/0?style=nojson
        slide tiles/zxy/0/0/0?style={
        slide tiles/zxy/0/0/0?style=
        slide tiles/zxy/0/0/0?style=$array?
        slide tiles/zxy/0/0/0?style=$palette?
        slide tiles/zxy/0/0/0?style=$min?
        slide tiles/zxy/0/0/0?style=$bands?
        slide tiles/zxy/0/0/0?encoding=PNG&style=$word?
        """,
    ),
    Difference(
        "What a file stores beyond its rim is never shown; there tiles are black, in signed images too.",
        "pixels",
        """
        slide tiles/zxy/4/9/12?encoding=PNG
        signed tiles/zxy/0/0/0?encoding=PNG
        signed tiles/zxy/0/0/0?encoding=PNG&style=$none
        """,
    ),
    Difference(
        "Levels are ceil-sized, and those that a file lacks are box-filtered, for every sample type.",
        "pixels",
        """
        slide tiles/zxy/3/1/1?encoding=PNG
        slide tiles/zxy/0/0/0?encoding=PNG
        slide tiles/zxy/0/0/0?unknown=1
        golden tiles/zxy/0/0/0?encoding=PNG&style=$window
        slide tiles/thumbnail
        slide tiles/thumbnail?encoding=PNG
        slide tiles/thumbnail?width=100
        slide tiles/thumbnail?height=60&encoding=PNG
        slide tiles/thumbnail?width=200&height=50&encoding=PNG
        golden tiles/thumbnail?frame=1&encoding=PNG&style=$window&width=64
        slide tiles/region?left=100&top=200&right=500&bottom=600&width=100&encoding=PNG
        slide tiles/region?left=100&top=200&right=500&bottom=600&width=100&height=50&encoding=PNG
        slide tiles/region?left=100&top=200&right=500&bottom=600&magnification=10&encoding=PNG
        slide tiles/region?left=50&top=50&right=150&bottom=150&magnification=10&units=mag_pixels&encoding=PNG
        golden tiles/tile_frames?width=64&height=64&encoding=PNG&style=$window
        """,
    ),
    Difference(
        "Levels are ceil-sized, and those that a file lacks are box-filtered, for every sample type.",
        "shape",
        "odd tiles/zxy/1/1/1?encoding=PNG&style=$window&edge=crop",
    ),
    Difference(
        "Levels are ceil-sized, and those that a file lacks are box-filtered, for every sample type.",
        "value:[].bin_edges[] value:[].hist[] value:[].max value:[].min value:[].range[] value:[].samples "
        "value:[].stdev",
        "golden tiles/histogram?frame=0&bins=12&width=128&height=128&resample=false",
    ),
    Difference("**No style** is a default look", "shape", "golden tiles/zxy/1/1/1?encoding=PNG"),
    Difference(
        "A 304 says again how long an answer may be kept.",
        "headers",
        """
        MATCH slide tiles/zxy/4/2/3
        MATCH slide tiles/thumbnail
        MATCH slide tiles/region?left=0&top=0&right=64&bottom=64
        MATCH golden tiles/histogram
        MATCH golden tiles/bands
        """,
    ),
    Difference(
        "Regions that hold nothing of the image, or `exact` at a scale that no level has, are refused",
        "status",
        """
        slide tiles/region?left=100&top=200&right=500&bottom=600&magnification=7&exact=true&encoding=PNG
        slide tiles/region?left=5000&top=5000&right=6000&bottom=6000&encoding=PNG
        slide tiles/region?left=300&top=200&right=100&bottom=350&encoding=PNG
        slide tiles/region?left=100&top=200&right=100&bottom=350&encoding=PNG
        """,
    ),
    Difference(
        "`value` of a `pixel` is what is stored, with a style too.",
        "length:.value",
        "golden tiles/pixel?left=100&top=120&style=$red",
    ),
    Difference(
        "`pixel` needs `left` and `top`; left of the image it is `{}`, and `fraction` works.",
        "status",
        """
        slide tiles/pixel?left=5
        slide tiles/pixel
        """,
    ),
    Difference(
        "`pixel` needs `left` and `top`; left of the image it is `{}`, and `fraction` works.",
        "missing:.r missing:.g missing:.b missing:.value",
        "slide tiles/pixel?left=-1&top=5",
    ),
    Difference(
        "`pixel` needs `left` and `top`; left of the image it is `{}`, and `fraction` works.",
        "more:.r more:.g more:.b more:.value",
        "slide tiles/pixel?left=0.5&top=0.5&units=fraction",
    ),
    Difference(
        "Numbers in JSON are numbers",
        "value:.1.max value:.1.min value:.2.max value:.2.min value:.3.max value:.3.min",
        "slide tiles/bands",
    ),
    Difference(
        "Numbers in JSON are numbers",
        "value:.1.max value:.1.min",
        """
        golden tiles/bands
        golden tiles/bands?frame=1
        """,
    ),
    Difference("Deep Zoom's level 0 is answered", "status", "slide tiles/dzi_files/0/0_0.png?encoding=PNG"),
    Difference(
        "`quad_info` lays sheets out in its own way, with frames as large or larger.",
        f"{CROP} value:.quads[].crop.left value:.src[].framesAcross",
        """
        panel tiles/tile_frames/quad_info
        panel tiles/tile_frames/quad_info?frameGroup=4&frameGroupFactor=2
        """,
    ),
    Difference(
        "`quad_info` lays sheets out in its own way, with frames as large or larger.",
        "value:.minLevel",
        "panel tiles/tile_frames/quad_info?maxTextureSize=256&maxTextures=4",
    ),
    Difference(
        "`quad_info` lays sheets out in its own way, with frames as large or larger.",
        f"{CROP} missing:.src[].frameList value:.src[].framesAcross value:.src[].height value:.src[].width",
        "slide tiles/tile_frames/quad_info",
    ),
    Difference(
        "Associated images are hidden unless a setting names them; an unknown one is 404, not an empty body.",
        "length:",
        """
        slide tiles/images
        page tiles/images
        """,
    ),
    Difference("A thumbnail in the file is called `thumbnail`.", "type", "slide tiles/images/thumbnail"),
    Difference(
        "A thumbnail in the file is called `thumbnail`.",
        "headers more:.mode more:.sizeX more:.sizeY",
        "slide tiles/images/thumbnail/metadata",
    ),
    Difference(
        "Associated images are hidden unless a setting names them; an unknown one is 404, not an empty body.",
        "status",
        """
        slide tiles/images/label
        slide tiles/images/nothing
        slide tiles/images/nothing/metadata
        """,
    ),
    Difference(
        "`internal_metadata` has keys of its own",
        "more:.facts more:.format more:.tiff.imagedescription:2 more:.tiff.imagedescription:3 "
        "more:.tiff.imagedescription:4",
        "slide tiles/internal_metadata",
    ),
    Difference(
        "`internal_metadata` has keys of its own",
        "more:.format missing:.omeinfo missing:.omereduced more:.omexml more:.tiff value:.tilesource",
        "golden tiles/internal_metadata",
    ),
    Difference(
        "Caches may be seen and emptied by whoever reaches the server",
        "status",
        """
        - large_image/cache
        PUT - large_image/cache/clear
        """,
    ),
    Difference(
        "The test image is a pattern of its own, encoded as asked, and kept by clients.",
        "value:.dtype",
        """
        - item/test/tiles
        - item/test/tiles?sizeX=1000&sizeY=700&tileWidth=128&tileHeight=128&maxLevel=3
        """,
    ),
    Difference(
        "The test image is a pattern of its own, encoded as asked, and kept by clients.",
        "headers pixels",
        "- item/test/tiles/zxy/0/0/0",
    ),
    Difference(
        "The test image is a pattern of its own, encoded as asked, and kept by clients.",
        "type",
        "- item/test/tiles/zxy/3/1/1?encoding=JPEG",
    ),
)

SOURCES = "- large_image/sources"  # tells the readers that are installed, which are not the same


def requests_of(difference: Difference) -> list[str]:
    return [line.strip() for line in difference.lines.splitlines() if line.strip()]


def expected(line: str) -> set[str]:
    """Return the aspects in which the answers to a request differ on purpose."""
    return {
        aspect
        for difference in DIFFERENCES
        if line in requests_of(difference)
        for aspect in difference.aspects.split()
    }


@pytest.fixture(scope="module")
def answers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, tuple[Answer, Answer]]]:
    """Ask both servers everything, once; installing Girder 3 is left to CI."""
    files = [shared(*name.split("/")) for name in FILES.values()]
    script = shared(*SCRIPT.split("/"))
    if not (VENV / "ready").exists() and not os.environ.get("CI"):
        pytest.skip("needs Girder 3: python -m tests.large_image_peer installs it")
    with girder(script, files, Path(tmp_path_factory.mktemp("peer"), "peer.json")) as peer:
        yield ask_both(files, peer)


@pytest.mark.parametrize("line", [line for line in REQUESTS if line != SOURCES])
def test_the_answers_agree_or_differ_as_readme_says(
    answers: dict[str, tuple[Answer, Answer]], line: str
) -> None:
    found = differences(*answers[line])
    assert found.keys() == expected(line), found


def test_the_sources_have_the_same_shape_and_all_suffixes_of_large_image_for_tiff(
    answers: dict[str, tuple[Answer, Answer]],
) -> None:
    found = differences(*answers[SOURCES])
    missing = {aspect for aspect in found if aspect.startswith("missing:.tiff")}
    catchalls = {"missing:.tiff.extensions.default", "missing:.tiff.mimeTypes.default"}
    more = {f"missing:.tiff.mimeTypes.image/x-{kind}" for kind in ("ptif", "svs", "tiff")}
    assert missing == catchalls | more


def test_frames_in_sheets_are_as_large_as_large_images_or_larger(
    answers: dict[str, tuple[Answer, Answer]],
) -> None:
    plans = [pair for line, pair in answers.items() if "quad_info" in line and pair[0].status == 200]
    assert len(plans) >= 6
    for ours, theirs in plans:
        mine, other = (json.loads(answer.body)["quads"] for answer in (ours, theirs))
        for quad, twin in zip(mine, other, strict=True):
            assert area(quad["crop"]) >= area(twin["crop"])


def area(crop: dict[str, int]) -> int:
    return (crop["right"] - crop["left"]) * (crop["bottom"] - crop["top"])


def test_no_answer_is_an_internal_error_and_no_refusal_is_kept(
    answers: dict[str, tuple[Answer, Answer]],
) -> None:
    for line, (ours, _) in answers.items():
        assert ours.status < 500, line
        if ours.status >= 400:
            assert ours.headers.keys() & {"ETag", "Cache-Control"} == set(), line


def test_differences_are_of_requests_that_are_sent_and_told_in_readme() -> None:
    assert len(set(REQUESTS)) == len(REQUESTS) >= 150
    for difference in DIFFERENCES:
        assert difference.told in README
        assert set(requests_of(difference)) <= set(REQUESTS), difference.told
