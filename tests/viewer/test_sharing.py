"""What is copied from the viewer shows the same elsewhere; what is saved is there for everybody."""

from __future__ import annotations

import json
from io import BytesIO
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image as Pillow
from playwright.sync_api import Browser, Route

from tests.browser import SIZE, Visit
from tests.viewer.scene import BLACK, BLUE, GREEN, TOP, WHITE, shows_quarters, view

IN_QUARTERS = ((0.25, 0.25), (0.75, 0.25), (0.25, 0.75), (0.75, 0.75))  # of a picture of the whole image


def open_share(visit: Visit) -> None:
    visit.settle()
    visit.page.get_by_role("button", name="Share").click()
    visit.page.wait_for_selector("#share[open]")


def copied(visit: Visit, name: str) -> str:
    """Press a Copy button of the dialog; return what is in the clipboard then."""
    line = visit.page.locator("#share .line", has=visit.page.locator(f'[data-share="{name}"]'))
    line.get_by_role("button").click()
    line.get_by_role("button", name="Copied").wait_for()
    text: str = visit.page.evaluate("navigator.clipboard.readText()")
    return text


def picture(visit: Visit, address: str) -> NDArray[Any]:
    reply = visit.page.request.get(address)
    assert reply.ok, reply.text()
    return np.asarray(Pillow.open(BytesIO(reply.body())).convert("RGB")).astype(int)


def assert_colours(pixels: NDArray[Any], *colours: tuple[int, int, int]) -> None:
    for (x, y), colour in zip(IN_QUARTERS, colours, strict=True):
        seen = pixels[int(y * pixels.shape[0]), int(x * pixels.shape[1])]
        assert np.abs(seen - colour).max() <= 12, (x, y, seen)


def test_what_is_copied_shows_the_same_elsewhere(visit: Visit, browser: Browser) -> None:
    view(visit, "quarters.ome.tif")
    visit.page.get_by_label("Show R").uncheck()
    visit.page.get_by_label("Colour of G").fill("#00ffff")
    wanted = (BLACK, (0, 255, 255), BLUE, WHITE)
    shows_quarters(visit, *wanted)
    open_share(visit)
    whole = picture(visit, copied(visit, "Tiles (large_image)").format(z=0, x=0, y=0))
    assert_colours(whole, *wanted)
    info = copied(visit, "IIIF")
    assert_colours(picture(visit, info.replace("info.json", "full/256,/0/default.jpg")), *wanted)
    tiles = visit.page.request.get(copied(visit, "TileJSON")).json()["tiles"][0]
    assert_colours(picture(visit, tiles.format(z=0, x=0, y=0)), *wanted)
    style = copied(visit, "Style (JSON)")
    item = urlsplit(visit.page.url).path.rpartition("/")[2]
    reply = visit.page.request.get(f"{visit.base}/item/{item}/tiles/zxy/0/0/0", params={"style": style})
    assert_colours(np.asarray(Pillow.open(BytesIO(reply.body())).convert("RGB")).astype(int), *wanted)
    link = copied(visit, "Link")
    with browser.new_context(viewport=SIZE) as context:  # type: ignore[arg-type]
        other = Visit(context.new_page(), visit.base)
        other.page.goto(link)
        other.settle()
        shows_quarters(other, *wanted)
        assert other.complaints == []


def test_the_picture_of_a_view_has_its_pixels(visit: Visit) -> None:
    """Enlarged twice around the middle: the pixels that are seen, each once, in the look that is seen."""
    view(visit, "quarters.ome.tif", "#z=2&x=500&y=520")
    visit.page.get_by_label("Show R").uncheck()
    visit.settle()
    box = visit.page.locator("#osd").bounding_box()
    assert box is not None
    open_share(visit)
    link = visit.page.locator("#picture")
    words = link.inner_text()
    with visit.page.expect_download() as download:
        link.click()
    pixels = np.asarray(Pillow.open(Path(download.value.path())).convert("RGB")).astype(int)
    height, width, _ = pixels.shape
    assert f"{width} × {height} (native resolution)" in words
    assert abs(width - box["width"] / 2) <= 2
    assert abs(height - box["height"] / 2) <= 2
    row, column = np.mgrid[:height, :width]
    top, left = round(520 - height / 2), round(500 - width / 2)
    is_right, is_low = column + left >= 512, row + top >= 512
    expected = np.zeros((height, width, 3), int)
    expected[is_right & ~is_low] = GREEN
    expected[~is_right & is_low] = BLUE
    expected[is_right & is_low] = WHITE
    off = np.abs(pixels - expected).max(axis=2) > 0
    assert off.mean() < 0.01, "but for a row and a column, where halves of pixels are seen"


def test_a_view_is_a_picture_of_limited_size(visit: Visit) -> None:
    view(visit, "quarters.ome.tif")
    open_share(visit)
    assert visit.page.locator("#picture").inner_text() == "PNG of this view, 1024 × 1024 (native resolution)"


def test_a_preset_that_one_saves_another_chooses(visit: Visit, browser: Browser) -> None:
    view(visit, "quarters.ome.tif")
    page = visit.page
    page.get_by_label("Show R").uncheck()
    page.get_by_label("Colour of W").fill("#ff00ff")
    page.get_by_text("Presets").click()
    page.get_by_label("Name of a preset").fill("for everybody")
    page.keyboard.press("Enter")
    page.get_by_role("button", name="for everybody", exact=True).wait_for()
    with browser.new_context(viewport=SIZE) as context:  # type: ignore[arg-type]
        other = Visit(context.new_page(), visit.base)
        view(other, "quarters.ome.tif")
        other.page.get_by_text("Presets").click()
        other.page.get_by_role("button", name="for everybody", exact=True).click()
        shows_quarters(other, BLACK, GREEN, BLUE, (255, 0, 255))
        other.page.get_by_role("button", name="Delete for everybody").click()
        other.page.get_by_text("Nothing is saved yet.").wait_for()
        assert other.complaints == []


THEIRS = {"name": "large_image's", "frame": 0, "mode": {"id": 2}, "style": {"bands": [
    {"framedelta": 1, "palette": "#FF00FF", "min": 0, "max": TOP},
    {"framedelta": 3, "palette": ["#000000", "#FFFF00"], "min": 0, "max": TOP},
]}}  # fmt: skip
OMERO = {"rdefs": {"model": "color"}, "channels": [
    {"active": False},
    {"active": True, "color": "FF00FF", "window": {"start": 0, "end": TOP}},
    {"active": True, "color": "0000FF", "inverted": True, "window": {"start": 0, "end": TOP}},
    {"active": True, "color": "FFFF00", "window": {"start": 0, "end": TOP}},
]}  # fmt: skip
MAGENTA, YELLOW = (255, 0, 255), (255, 255, 0)
ONE_FRAME = {"name": "a frame", "frame": 2, "mode": {"id": 0, "name": "Frame"}}
ONE_FRAME_SAVED = {**ONE_FRAME, "style": {"bands": []}}  # as large_image's viewer saves it
NOTHING = {**ONE_FRAME, "mode": {"id": 2}, "style": {"bands": []}}
NUMBERED = {"version": 2, "greyscale": False, "channels": {
    "2": {"active": True, "color": "FF00FF", "start": 0, "end": TOP},
    "3": {"active": False, "color": "00FFFF"},
}}  # fmt: skip
FROM_THERE = {"name": "from there", "frame": 1, "mode": {"id": 2}, "style": {"bands": [
    {"framedelta": 0, "palette": "#FF00FF", "min": 0, "max": TOP},
    {"framedelta": 2, "palette": "#FFFF00", "min": 0, "max": TOP},
]}}  # fmt: skip


@pytest.mark.parametrize(
    ("given", "name", "colours"),
    [
        ({"imageFramePresets": [THEIRS]}, "large_image's", (BLACK, MAGENTA, BLACK, YELLOW)),
        ([THEIRS], "large_image's", (BLACK, MAGENTA, BLACK, YELLOW)),
        (THEIRS, "large_image's", (BLACK, MAGENTA, BLACK, YELLOW)),
        (ONE_FRAME, "a frame", (BLACK, BLACK, WHITE, BLACK)),
        (ONE_FRAME_SAVED, "a frame", (BLACK, BLACK, WHITE, BLACK)),
        (NOTHING, "a frame", (BLACK, BLACK, BLACK, BLACK)),
        (NUMBERED, "given", (BLACK, MAGENTA, BLACK, BLACK)),
        (FROM_THERE, "from there", (BLACK, MAGENTA, BLACK, YELLOW)),
        ({"omero": OMERO}, "given", (BLUE, MAGENTA, BLACK, WHITE)),
    ],
)
def test_presets_of_others_are_seen_as_they_mean(
    visit: Visit, tmp_path: Path, given: Any, name: str, colours: tuple[tuple[int, int, int], ...]
) -> None:
    view(visit, "quarters.ome.tif")
    page = visit.page
    (tmp_path / "given.json").write_text(json.dumps(given))
    page.get_by_text("Presets").click()
    page.get_by_label("File of presets").set_input_files(tmp_path / "given.json")
    page.get_by_role("button", name=name, exact=True).click()
    shows_quarters(visit, *colours)
    page.get_by_role("button", name=f"Delete {name}").click()
    page.get_by_text("Nothing is saved yet.").wait_for()


@pytest.mark.parametrize(
    ("text", "words"),
    [("[1", "JSON"), ('{"a": 1}', "each needs a name"), ('[{"name": "x", "style": {"bands": 7}}]', "bands")],
)
def test_a_file_that_holds_no_presets_says_why(visit: Visit, tmp_path: Path, text: str, words: str) -> None:
    view(visit, "quarters.ome.tif")
    page = visit.page
    (tmp_path / "given.json").write_text(text)
    page.get_by_text("Presets").click()
    page.get_by_label("File of presets").set_input_files(tmp_path / "given.json")
    notice = page.locator("#notice")
    visit.until(notice.inner_text, lambda said: words in said, words)
    page.get_by_role("button", name="Dismiss").click()
    assert notice.is_hidden()
    shows_quarters(visit, (255, 0, 0), GREEN, BLUE, WHITE)
    visit.forgive("status of 400")


def test_presets_that_come_late_leave_what_was_said_meanwhile(visit: Visit) -> None:
    held: list[Route] = []
    visit.page.route("**/presets", lambda route: held.append(route))
    view(visit, "quarters.ome.tif")
    page = visit.page
    page.get_by_text("Presets").click()
    visit.until(lambda: len(held), lambda count: count == 1, "the question for presets")
    file = {"name": "none.json", "mimeType": "application/json", "buffer": b"{}"}
    page.get_by_label("File of presets").set_input_files(file)  # type: ignore[arg-type]
    notice = page.locator("#notice")
    visit.until(notice.inner_text, lambda said: "each needs a name" in said, "the reason")
    held[0].continue_()
    page.get_by_text("Nothing is saved yet.").wait_for()
    assert "each needs a name" in notice.inner_text()
    visit.forgive("status of 400")


def test_a_link_that_cannot_be_followed_says_why_and_shows_the_image(visit: Visit) -> None:
    view(visit, "quarters.ome.tif", "#style=@0123456789abcdef0123456789abcdef&z=abc&frame=-7")
    notice = visit.page.locator("#notice")
    visit.until(
        notice.inner_text, lambda said: "The style of this link cannot be shown" in said, "the reason"
    )
    shows_quarters(visit, (255, 0, 0), GREEN, BLUE, WHITE)
    visit.forgive("status of 40")
