"""The viewer, driven in headless Chromium: what a person does, and the pixels that come of it."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import numpy as np
import pytest
import tifffile
from playwright.sync_api import Browser, Route, WebSocketRoute

from tests.browser import SIZE, Visit, ids, serving
from tests.conftest import shared
from tests.viewer.scene import (
    BLACK,
    BLUE,
    GREEN,
    QUARTERS,
    RED,
    TOP,
    WHITE,
    keep,
    kept_style,
    shows_quarters,
    view,
    view_stack,
)


def test_the_list_shows_pictures_searches_and_opens_an_image(visit: Visit) -> None:
    page = visit.page
    page.goto(visit.base)
    page.wait_for_selector("#items li img")
    assert page.locator("#items li").count() == 5
    assert "not a TIFF" not in page.locator("#count").inner_text()
    page.get_by_label("Search by name").fill("QUART")
    visit.until(lambda: page.locator("#items li").count(), lambda count: count == 1, 1)
    assert "text=QUART" in page.url
    page.locator("#items a").first.click()
    visit.settle()
    shows_quarters(visit, RED, GREEN, BLUE, WHITE)


def test_panning_and_zooming_show_other_pixels_and_other_levels(visit: Visit) -> None:
    view(visit, "quarters.ome.tif")
    page = visit.page
    page.mouse.move(840, 400)
    page.mouse.down()
    page.mouse.move(1020, 560, steps=5)  # the middle of the image goes to the lower right
    page.mouse.up()
    visit.shows(0.6, 0.6, RED)
    assert {level for batch in visit.batches for level, _, _ in batch["tiles"]} == {0, 1, 2}
    page.mouse.move(700, 300)
    for _ in range(6):
        page.mouse.wheel(0, -200)
        page.wait_for_timeout(80)  # turns that come at once count as one
    visit.until(visit.zoom, lambda zoom: zoom > 1.5, "a greater zoom")
    visit.shows(0.4, 0.35, RED)


def test_a_channel_goes_and_comes_with_its_switch_and_with_its_key(visit: Visit) -> None:
    view(visit, "quarters.ome.tif")
    visit.page.get_by_label("Show G").uncheck()
    shows_quarters(visit, RED, BLACK, BLUE, WHITE)
    visit.page.keyboard.press("2")
    shows_quarters(visit, RED, GREEN, BLUE, WHITE)
    visit.page.get_by_role("button", name="Solo").first.click()
    shows_quarters(visit, RED, BLACK, BLACK, BLACK)
    visit.page.get_by_role("button", name="Solo").first.click()
    shows_quarters(visit, RED, GREEN, BLUE, WHITE)


def test_a_colour_and_an_inversion_are_seen(visit: Visit) -> None:
    view(visit, "quarters.ome.tif")
    visit.page.get_by_label("Colour of R").fill("#ff8000")
    shows_quarters(visit, (255, 128, 0), GREEN, BLUE, WHITE)
    visit.page.get_by_label("Settings of R").click()
    visit.page.locator(".channel").first.get_by_label("Invert").check()
    visit.shows(*QUARTERS[0], BLACK)
    visit.shows(*QUARTERS[1], (255, 255, 0))


def test_a_dragged_window_dims_a_channel_and_is_the_links(visit: Visit) -> None:
    view(visit, "quarters.ome.tif")
    page = visit.page
    visit.until(lambda: page.locator(".channel .counts").first.get_attribute("d"), bool, "a histogram")
    end = page.get_by_role("slider", name="R: minimum")
    box = page.locator(".channel .histogram").first.bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + 1, box["y"] + 20)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + 20, steps=8)
    page.mouse.up()
    low = int(end.get_attribute("aria-valuenow") or -1)
    assert abs(low - TOP / 2) < TOP / 50
    shows_quarters(visit, RED, GREEN, BLUE, WHITE)
    visit.until(lambda: kept_style(visit)["bands"][0]["min"], lambda least: least == low, low)
    page.get_by_label("Settings of R").click()
    page.get_by_label("R: greatest value").fill(str(2 * TOP - low))  # so that 4000 is in the middle
    page.keyboard.press("Enter")
    visit.shows(*QUARTERS[0], (127, 0, 0))


def test_a_window_moves_with_the_keyboard(visit: Visit) -> None:
    view(visit, "quarters.ome.tif")
    page = visit.page
    visit.until(lambda: page.locator(".channel .counts").first.get_attribute("d"), bool, "a histogram")
    end = page.get_by_role("slider", name="G: maximum")
    before = int(end.get_attribute("aria-valuenow") or -1)
    end.focus()
    page.keyboard.press("Shift+ArrowLeft")
    after = int(end.get_attribute("aria-valuenow") or -1)
    assert 0 < before - after < TOP / 10
    page.keyboard.press("Home")
    assert int(end.get_attribute("aria-valuenow") or -1) < TOP / 10
    visit.shows(*QUARTERS[1], GREEN)


def test_gamma_and_blend_are_those_of_the_style(visit: Visit) -> None:
    view(visit, "quarters.ome.tif")
    page = visit.page
    page.get_by_label("Settings of R").click()
    slider = page.get_by_label("Gamma of R")
    slider.focus()
    page.keyboard.press("End")
    page.get_by_label("Opacity of R").focus()
    page.keyboard.press("Home")
    visit.shows(*QUARTERS[0], BLACK)
    page.get_by_label("Blend").select_option("screen")
    visit.settle()
    band = visit.until(
        lambda: kept_style(visit)["bands"][0], lambda band: band["composite"] == "screen", "screen"
    )
    assert (band["gamma"], band["opacity"]) == (4, 0)


def test_auto_of_all_forty_channels_leaves_hot_pixels_out(visit: Visit) -> None:
    view(visit, "many.ome.tif")
    page = visit.page
    assert page.locator(".channel").count() == 40
    page.keyboard.press("e")
    style = visit.until(
        lambda: kept_style(visit), lambda style: isinstance(style["bands"][0]["max"], int), "numbers"
    )
    assert len(style["bands"]) == 4
    for band in style["bands"]:
        assert 95 <= band["min"] <= 105
        assert 195 <= band["max"] <= 205
    page.get_by_label("Show marker 39").check()
    windows = {band["channel"]: band["max"] for band in kept_style_with(visit, 39)["bands"]}
    assert 195 <= windows[39] <= 205, "a channel that was off has its window too"


def kept_style_with(visit: Visit, channel: int) -> Any:
    return visit.until(
        lambda: kept_style(visit),
        lambda style: channel in [band["channel"] for band in style["bands"]],
        f"channel {channel}",
    )


def test_channels_are_found_by_name_and_by_being_on(visit: Visit) -> None:
    view(visit, "many.ome.tif")
    page = visit.page
    page.keyboard.press("c")
    page.keyboard.type("marker 3")
    assert page.locator(".channel:visible").count() == 10
    page.get_by_label("Search channels").fill("")
    page.get_by_label("Only active").check()
    assert page.locator(".channel:visible").count() == 4
    page.get_by_role("button", name="All off").click()
    assert page.locator(".channel:visible").count() == 0
    visit.shows(0.5, 0.3, BLACK)


def test_scrubbing_z_shows_other_planes_in_the_same_window(visit: Visit) -> None:
    view_stack(visit)
    page = visit.page
    slider = page.get_by_label("Z", exact=True)
    slider.focus()
    for plane in range(1, 5):
        page.keyboard.press("ArrowRight")
        visit.shows(0.5, 0.5, (255 * plane // 4, 0, 0))
    page.keyboard.press("[")
    visit.shows(0.5, 0.5, (191, 0, 0))
    visit.until(lambda: page.url, lambda url: "frame=6" in url, "the frame in the address")


def test_a_link_brings_the_view_back(visit: Visit, browser: Browser) -> None:
    view(visit, "quarters.ome.tif")
    page = visit.page
    page.get_by_label("Show R").uncheck()
    page.get_by_label("Colour of G").fill("#00ffff")
    page.get_by_role("button", name="Zoom in").click()
    visit.shows(0.7, 0.3, (0, 255, 255))
    visit.until(visit.zoom, lambda zoom: zoom > 0.9, "the zoom")
    visit.style()
    with browser.new_context(viewport=SIZE) as context:  # type: ignore[arg-type]
        other = Visit(context.new_page(), visit.base)
        other.page.goto(page.url)
        other.settle()
        other.shows(0.7, 0.3, (0, 255, 255))
        other.shows(0.3, 0.3, BLACK)
        assert not other.page.get_by_label("Show R").is_checked()
        assert other.page.get_by_label("Colour of G").input_value() == "#00ffff"
        assert other.page.url.split("&style")[0] == page.url.split("&style")[0]
        assert other.complaints == []


def test_an_address_that_changes_is_followed(visit: Visit) -> None:
    view(visit, "quarters.ome.tif")
    visit.page.evaluate("location.hash = '#z=8&x=900&y=100'")
    visit.shows(0.5, 0.5, GREEN)
    visit.shows(0.1, 0.9, GREEN)


def test_the_next_image_is_a_key_away(visit: Visit) -> None:
    view(visit, "many.ome.tif")
    visit.page.keyboard.press(".")
    visit.page.wait_for_url(f"**/view/{ids(visit.base)['quarters.ome.tif']}*")
    visit.settle()
    shows_quarters(visit, RED, GREEN, BLUE, WHITE)
    visit.page.get_by_role("button", name="Previous image").click()
    visit.page.wait_for_url(f"**/view/{ids(visit.base)['many.ome.tif']}*")
    visit.settle()


def test_brightfield_has_brightness_contrast_gamma_and_inversion(visit: Visit) -> None:
    view(visit, "colour.tif")
    shows_quarters(visit, (200, 40, 40), (40, 200, 40), (128, 128, 128), WHITE)
    page = visit.page
    page.get_by_label("Invert").check()
    shows_quarters(visit, (55, 215, 215), (215, 55, 215), (127, 127, 127), BLACK)
    page.get_by_role("button", name="Reset").click()
    page.get_by_label("Brightness").focus()
    page.keyboard.press("End")
    visit.shows(*QUARTERS[2], WHITE)
    page.keyboard.press("Home")
    visit.shows(*QUARTERS[3], BLACK)
    page.get_by_role("button", name="Reset").click()
    page.get_by_label("Contrast").focus()
    page.keyboard.press("End")
    shows_quarters(visit, RED, GREEN, (129, 129, 129), WHITE)
    style = visit.until(
        lambda: kept_style(visit), lambda style: style["bands"][0]["max"] == 159.375, "a quarter of the range"
    )
    page.goto("about:blank")
    visit.open(f"view/{ids(visit.base)['colour.tif']}#style=@{keep(visit, style)}")
    assert page.get_by_label("Contrast").input_value() == "1"


def test_the_cursor_tells_place_and_values(visit: Visit) -> None:
    view(visit, "quarters.ome.tif")
    page = visit.page
    page.evaluate("location.hash = '#z=1&x=512&y=512'")
    visit.settle()
    box = page.locator("#osd").bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + box["width"] / 2 + 100.5, box["y"] + box["height"] / 2 - 99.5)
    place = visit.until(lambda: page.locator("#place").inner_text(), lambda text: "µm" in text, "a place")
    x, y = (int(number) for number in place.split(" px")[0].split(", "))
    assert (abs(x - 612), abs(y - 412)) <= (1, 1)
    assert f"{x / 2:.1f}, {y / 2:.1f} µm" in place
    visit.until(
        lambda: page.locator("#values").inner_text(),
        lambda text: text == "R 0   G 4000   B 0   W 0",
        "values",
    )
    assert page.locator(".channel .value").all_inner_texts() == ["0", "4000", "0", "0"]


def test_the_bar_is_as_long_as_it_says(visit: Visit) -> None:
    view(visit, "quarters.ome.tif", "#z=1&x=512&y=512")
    bar = visit.page.locator("#bar span")
    visit.until(bar.inner_text, lambda text: text == "50 µm", "50 µm")  # of 0.5 µm a pixel
    box = bar.bounding_box()
    assert box is not None
    assert abs(box["width"] - 100) < 1
    assert visit.page.locator("#zoom").inner_text() == "100 %"


@pytest.mark.parametrize(("width", "height"), [(1400, 900), (900, 700), (560, 700)])
def test_nothing_of_the_panel_is_cut_off_and_nothing_covers_the_bar(
    visit: Visit, width: int, height: int
) -> None:
    visit.page.set_viewport_size({"width": width, "height": height})
    view(visit, "many.ome.tif", "#groups=a%20group%20of%20a%20very%20long%20name%20that%20is%20cut:0,1;b:2")
    panel = visit.page.locator("#panel").bounding_box()
    assert panel is not None
    for control in visit.page.locator("#panel").locator("button, input, select").all():
        box = control.bounding_box()
        if control.is_visible() and box is not None:
            assert box["x"] >= 0
            assert box["x"] + box["width"] <= panel["width"], control.get_attribute("aria-label")
    bar, overview = (visit.page.locator(name).bounding_box() for name in ("#bar", ".overview"))
    assert bar is not None
    assert overview is not None
    is_beside = bar["x"] + bar["width"] <= overview["x"]
    assert (
        is_beside
        or bar["y"] + bar["height"] <= overview["y"]
        or overview["y"] + overview["height"] <= bar["y"]
    )


def test_in_a_window_without_room_the_bar_has_it(visit: Visit) -> None:
    visit.page.set_viewport_size({"width": 400, "height": 700})
    view(visit, "quarters.ome.tif")
    bar, stage = (visit.page.locator(name).bounding_box() for name in ("#bar", "#stage"))
    assert bar is not None
    assert stage is not None
    assert bar["width"] > 20
    assert bar["x"] + bar["width"] <= stage["x"] + stage["width"]
    overview = visit.page.locator(".overview")
    assert overview.is_hidden()
    visit.page.keyboard.press("p")  # the panel goes
    overview.wait_for(state="visible")


def test_the_overview_shows_the_whole_image(visit: Visit) -> None:
    view(visit, "quarters.ome.tif", "#z=4&x=100&y=100")
    window, box = (visit.page.locator(name).bounding_box() for name in ("#osd", ".overview"))
    assert window is not None
    assert box is not None
    for place, colour in (
        ((0.1, 0.9), BLUE),
        ((0.9, 0.1), GREEN),
        ((0.9, 0.9), WHITE),
    ):  # what is not seen else
        x, y = (
            box[at] - window[at] + share * box[side]
            for at, side, share in zip("xy", ("width", "height"), place, strict=True)
        )
        visit.shows(x / window["width"], y / window["height"], colour)


@pytest.mark.parametrize("width", [1280, 700])
def test_the_overview_goes_where_it_is_pressed(visit: Visit, width: int) -> None:
    visit.page.set_viewport_size({"width": width, "height": 800})
    view(visit, "quarters.ome.tif", "#z=4&x=100&y=100")
    visit.shows(0.5, 0.5, RED)
    box = visit.page.locator(".overview").bounding_box()
    assert box is not None
    visit.page.mouse.click(box["x"] + 0.8 * box["width"], box["y"] + 0.2 * box["height"])
    visit.shows(0.5, 0.5, GREEN)


def test_what_is_shared_shows_the_same_elsewhere(visit: Visit) -> None:
    view(visit, "quarters.ome.tif")
    page = visit.page
    page.get_by_label("Show R").uncheck()
    visit.shows(*QUARTERS[0], BLACK)
    page.get_by_role("button", name="Share").click()
    page.wait_for_selector("#share[open]")
    told = {
        field.get_attribute("data-share"): field.input_value() for field in page.locator("[data-share]").all()
    }
    assert [band["channel"] for band in json.loads(told["Style (JSON)"])["bands"]] == [1, 2, 3]
    tile = page.request.get(told["Tiles (large_image)"].format(z=0, x=0, y=0))
    assert tile.headers["content-type"] == "image/jpeg"
    info = page.request.get(told["IIIF"]).json()
    assert (info["width"], info["height"]) == (1024, 1024)
    style = page.request.get(told["TileJSON"]).json()["tiles"][0]
    assert parse_qs(urlsplit(style).query)["style"] == [f"@{visit.style()}"]
    with page.expect_download() as download:
        page.locator("#picture").click()
    size = struct.unpack(">II", Path(download.value.path()).read_bytes()[16:24])
    assert size == (1024, 1024)
    visit.until(lambda: page.url, lambda url: url == told["Link"], told["Link"])


def test_presets_are_saved_chosen_exported_imported_and_deleted(visit: Visit, tmp_path: Path) -> None:
    view(visit, "stack.ome.tif")
    page = visit.page
    page.get_by_text("Presets").click()
    page.get_by_label("Show B").uncheck()
    page.get_by_label("Z", exact=True).fill("3")
    page.get_by_label("Name of a preset").fill("only A, µ/3")
    page.get_by_role("button", name="Save").click()
    saved = page.get_by_role("button", name="only A, µ/3", exact=True)
    saved.wait_for()
    page.get_by_label("Show B").check()
    page.get_by_label("Z", exact=True).fill("0")
    saved.click()
    assert not page.get_by_label("Show B").is_checked()
    assert page.get_by_label("Z", exact=True).input_value() == "3"
    with page.expect_download() as download:
        page.get_by_role("button", name="Export").click()
    (exported,) = json.loads(Path(download.value.path()).read_text())["imageFramePresets"]
    assert (exported["name"], exported["frame"], exported["mode"]["id"]) == ("only A, µ/3", 6, 2)
    bands = [{"framedelta": 1, "palette": "#FF00FF", "autoRange": 0.2}]
    given = {
        "imageFramePresets": [{"name": "theirs", "frame": 2, "mode": {"id": 2}, "style": {"bands": bands}}]
    }
    file = tmp_path / "given.json"
    file.write_text(json.dumps(given))
    page.get_by_label("File of presets").set_input_files(file)
    page.get_by_role("button", name="theirs", exact=True).click()
    assert page.get_by_label("Show B").is_checked()
    assert not page.get_by_label("Show A").is_checked()
    assert page.get_by_label("Colour of B").input_value() == "#ff00ff"
    block = {
        "channels": [{"active": False}, {"color": "00FFFF", "window": {"start": 0, "end": 9}}],
        "rdefs": {},
    }
    (tmp_path / "omero.json").write_text(json.dumps(block))
    page.get_by_label("File of presets").set_input_files(tmp_path / "omero.json")
    page.get_by_role("button", name="omero", exact=True).click()
    assert page.get_by_label("Colour of B").input_value() == "#00ffff"
    page.get_by_role("button", name="Delete omero").click()
    page.get_by_role("button", name="Delete theirs").click()
    page.get_by_role("button", name="theirs", exact=True).wait_for(state="detached")
    page.get_by_role("button", name="Delete only A, µ/3").click()
    page.get_by_text("Nothing is saved yet.").wait_for()


REACHED = """
() => {
  const at = document.activeElement;
  return at.getAttribute("aria-label") || at.textContent.trim() || at.className || at.tagName;
}
"""


def test_everything_is_reached_with_the_tab_key(visit: Visit) -> None:
    view(visit, "quarters.ome.tif")
    page = visit.page
    page.locator("a.brand").focus()
    reached = set()
    for _ in range(60):
        page.keyboard.press("Tab")
        reached.add(page.evaluate(REACHED))
    wanted = {
        "Search channels", "Auto all", "Blend", "Show R", "Colour of R", "Solo", "Auto window of R",
        "Settings of R", "R: minimum", "R: maximum", "Share", "Keys", "Zoom in", "Fit", "Presets",
        "Next image", "openseadragon-canvas",
    }  # fmt: skip
    assert wanted - reached == set()


CONTRASTS = """
() => {
  const rgba = (text) => {
    const parts = text.match(/[\\d.]+/g).map(Number);
    return [...parts.slice(0, 3), parts[3] ?? 1];
  };
  const over = (top, below) => top.slice(0, 3).map((value, at) => value * top[3] + below[at] * (1 - top[3]));
  const ground = (element) => {
    if (!element) return [255, 255, 255];
    const colour = rgba(getComputedStyle(element).backgroundColor);
    return colour[3] === 1 ? colour.slice(0, 3) : over(colour, ground(element.parentElement));
  };
  const light = (colour) => {
    const [r, g, b] = colour.map((value) => {
      const share = value / 255;
      return share <= 0.04045 ? share / 12.92 : ((share + 0.055) / 1.055) ** 2.4;
    });
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const ratio = (element, colour) => {
    const below = ground(element);
    const [one, other] = [light(over(rgba(colour), below)), light(below)].sort((a, b) => b - a);
    return (one + 0.05) / (other + 0.05);
  };
  const [found, edges] = [[], []];
  for (const element of document.querySelectorAll("body *")) {
    const isText = [...element.childNodes].some((node) => node.nodeType === 3 && node.textContent.trim());
    const style = getComputedStyle(element);
    if (!element.checkVisibility() || element.disabled) continue;
    if (isText) found.push([element.textContent.trim().slice(0, 40), ratio(element, style.color)]);
    if (!["text", "search", "number"].includes(element.type)) continue;
    const hint = getComputedStyle(element, "::placeholder").color;
    edges.push([element.getAttribute("aria-label"), ratio(element.parentElement, style.borderTopColor)]);
    found.push([element.value || element.placeholder, ratio(element, element.value ? style.color : hint)]);
  }
  return { found, edges };
}
"""


@pytest.mark.parametrize(
    "path", ["", "status", "view/quarters.ome.tif", "view/colour.tif", "item/many.ome.tif"]
)
def test_text_has_the_contrast_of_wcag_aa(visit: Visit, path: str) -> None:
    page = visit.page
    kind, _, name = path.partition("/")
    page.goto(f"{visit.base}/{kind}/{ids(visit.base)[name]}" if name else f"{visit.base}/{kind}")
    page.wait_for_selector(
        {"": "#items li", "status": "#shelves td", "item": "table td"}.get(kind, "body[data-settled=yes]")
    )
    if path == "view/quarters.ome.tif":
        page.evaluate("location.hash = '#groups=on:0,1;mixed:0,1,2;off:2'")
        page.get_by_role("button", name="Only group on").click()
        page.get_by_label("Settings of R").click()
        page.get_by_text("Presets").click()
        page.get_by_text("Nothing is saved yet.").wait_for()
        page.get_by_label("File of presets").set_input_files(
            {"name": "none.json", "mimeType": "application/json", "buffer": b"{}"}
        )
        page.get_by_role("button", name="Dismiss").wait_for()
        visit.forgive("status of 400")
        page.get_by_role("button", name="Share").click()
        page.wait_for_selector("#share[open]")
        page.evaluate("document.getElementById('help').show()")
    contrasts = page.evaluate(CONTRASTS)
    assert len(contrasts["found"]) >= 8
    assert [(text, round(ratio, 2)) for text, ratio in contrasts["found"] if ratio < 4.5] == []
    assert [(text, round(ratio, 2)) for text, ratio in contrasts["edges"] if ratio < 3] == []
    assert bool(contrasts["edges"]) == (path in ("", "view/quarters.ome.tif"))


@pytest.mark.parametrize("name", ["quarters.ome.tif", "test"])
def test_every_link_of_a_page_leads_somewhere(visit: Visit, name: str) -> None:
    visit.open(f"view/{ids(visit.base).get(name, name)}")
    links = [link for link in visit.page.get_by_role("link").all() if link.is_visible()]
    addresses = [link.evaluate("(link) => link.href") for link in links]
    assert len(addresses) >= 2
    for address in addresses:
        reply = visit.page.request.get(address, headers={"Accept": "application/json"})
        assert reply.status == 200, address


def test_the_facts_are_numbers_as_people_read_them(visit: Visit) -> None:
    address = f"{visit.base}/item/{ids(visit.base)['quarters.ome.tif']}"

    def odd(route: Route) -> None:
        if route.request.is_navigation_request():
            return route.continue_()
        item = route.fetch().json()
        return route.fulfill(json={**item, "metadata": {**item["metadata"], "mm_x": 0.00032500000000000004}})

    visit.page.route(address, odd)
    visit.page.goto(address)
    visit.page.get_by_role("row", name="mm_x 0.000325", exact=True).wait_for()


def test_the_status_follows_what_the_server_does(visit: Visit) -> None:
    page = visit.page
    page.goto(f"{visit.base}/status")
    cell = page.locator("[data-shelf=tiles] td").nth(6)  # hits
    before = int(cell.inner_text().replace(",", ""))
    url = f"{visit.base}/item/{ids(visit.base)['quarters.ome.tif']}/tiles/zxy/0/0/0"
    for _ in range(3):
        page.request.get(url)
    visit.until(lambda: int(cell.inner_text().replace(",", "")), lambda hits: hits >= before + 2, "more hits")
    assert "worker" in page.locator("#device").inner_text()


def test_an_image_that_cannot_be_read_says_why(visit: Visit) -> None:
    visit.page.goto(f"{visit.base}/view/{ids(visit.base)['broken.tif']}")
    notice = visit.page.locator("#notice")
    visit.until(notice.inner_text, bool, "a reason")
    assert "no image directory" in notice.inner_text()
    visit.complaints[:] = [
        text for text in visit.complaints if "status of 4" not in text
    ]  # the browser's own


def test_without_the_library_the_page_says_how_to_get_it(visit: Visit) -> None:
    def without(route: Route) -> None:
        answer = route.fetch()
        route.fulfill(response=answer, body=answer.text().replace("viewer/openseadragon.min.js", ""))

    visit.page.route("**/view/*", without)
    visit.page.goto(f"{visit.base}/view/{ids(visit.base)['colour.tif']}")
    notice = visit.page.locator("#notice")
    visit.until(notice.inner_text, lambda text: "make viewer" in text and "--openseadragon" in text, "a hint")


def test_values_that_cannot_be_counted_are_told_and_nothing_breaks(visit: Visit) -> None:
    refusal = {"message": "no counting today", "type": "rest"}
    visit.page.route("**/tiles/histogram*", lambda route: route.fulfill(status=422, json=refusal))
    view(visit, "quarters.ome.tif")
    visit.page.get_by_role("button", name="Auto all").click()
    notice = visit.page.locator("#notice")
    visit.until(notice.inner_text, lambda text: "no counting today" in text, "the reason")
    shows_quarters(visit, RED, GREEN, BLUE, WHITE)
    visit.complaints[:] = [text for text in visit.complaints if "status of 422" not in text]


def test_a_style_that_the_panel_cannot_say_is_shown_as_it_is(visit: Visit) -> None:
    bands = [
        {"channel": 0, "min": 0, "max": TOP, "palette": ["#00f", "#f0f", "#fff"], "composite": "additive"}
    ]
    key = keep(visit, {"bands": [*bands, {**bands[0], "channel": 3, "composite": "lighten"}]})
    view(visit, "quarters.ome.tif", f"#style=@{key}")
    visit.shows(*QUARTERS[0], WHITE)
    visit.shows(*QUARTERS[1], BLUE)
    visit.settle()
    assert visit.style() == key
    visit.page.get_by_label("Show W").uncheck()  # from now on the panel's
    visit.shows(*QUARTERS[1], GREEN)


def test_a_palette_of_a_channel_is_kept_until_it_is_given_a_colour(visit: Visit) -> None:
    band = {"channel": "R", "min": 0, "max": TOP, "palette": ["#0000ff", "#ff00ff", "#ffff00"]}
    view(visit, "quarters.ome.tif", f"#style=@{keep(visit, {'bands': [band]})}")
    visit.shows(*QUARTERS[0], (255, 255, 0))
    visit.shows(*QUARTERS[3], BLUE)
    assert visit.page.get_by_label("Blend").input_value() == "lighten"
    visit.page.get_by_label("Show W").check()
    visit.shows(*QUARTERS[3], WHITE)
    visit.shows(*QUARTERS[0], (255, 255, 0))
    visit.page.get_by_label("Colour of R").fill("#ff0000")
    visit.shows(*QUARTERS[0], RED)


def test_auto_of_all_passes_over_planes_that_the_file_lacks(browser: Browser) -> None:
    with serving(shared("cases", "ome_sizec_too_big.ome.tif")) as base, browser.new_page() as page:
        visit = Visit(page, base)
        (item,) = ids(base).values()
        visit.open(f"view/{item}")
        page.get_by_role("button", name="Auto all").click()
        style = visit.until(lambda: kept_style(visit), lambda style: style["bands"], "a style")
        assert all(isinstance(band["max"], int) for band in style["bands"])
        assert visit.complaints == []


def test_behind_a_proxy_that_takes_a_prefix_off_everything_is_found(visit: Visit) -> None:
    page, server = visit.page, visit.base

    def proxy(route: Route) -> None:
        route.fulfill(response=route.fetch(url=route.request.url.replace("/a/prefix/", "/")))

    sockets: list[str] = []

    def refuse(socket: WebSocketRoute) -> None:
        sockets.append(socket.url)
        socket.close()

    page.route(f"{server}/a/prefix/**", proxy)
    page.route_web_socket("**", refuse)
    item = ids(server)["quarters.ome.tif"]
    visit.open(f"a/prefix/view/{item}")
    assert sockets == [f"{server}/a/prefix/item/{item}/live".replace("http", "ws", 1)]
    page.get_by_label("Show R").uncheck()
    shows_quarters(visit, BLACK, GREEN, BLUE, WHITE)
    page.get_by_role("button", name="Share").click()
    page.wait_for_selector("#share[open]")
    for field in page.locator("[data-share]").all():
        text = field.input_value()
        assert text.startswith(("{", f"{server}/a/prefix/")), text
    page.get_by_role("button", name="Close").click()
    page.keyboard.press(",")
    page.wait_for_url(f"{server}/a/prefix/view/{ids(server)['many.ome.tif']}*")
    visit.settle()
    for path in ("", "status", f"item/{item}"):
        page.goto(f"{server}/a/prefix/{path}")
        page.wait_for_selector("#items img, #shelves td, table td")
    page.wait_for_load_state("networkidle")  # the last page's picture too
    page.unroute_all(behavior="ignoreErrors")
    assert [url for url in visit.requests if not url.startswith((f"{server}/a/prefix/", "blob:"))] == []


def test_a_long_list_has_pages_that_its_address_keeps(browser: Browser, tmp_path: Path) -> None:
    for number in range(60):
        pixels = np.full((16, 16), number, np.uint8)
        tifffile.imwrite(tmp_path / f"image {number:02d}.tif", pixels, photometric="minisblack")
    with serving(tmp_path) as base, browser.new_page() as page:
        page.goto(base)
        names = page.locator("#items .name")
        visit = Visit(page, base)
        visit.until(names.count, lambda count: count == 48, 48)
        assert page.get_by_role("button", name="Previous").is_disabled()
        page.get_by_role("button", name="Next").click()
        visit.until(names.count, lambda count: count == 12, 12)
        assert names.first.inner_text() == "image 48.tif"
        assert "page=2" in page.url
        page.reload()
        visit.until(names.count, lambda count: count == 12, 12)
        page.get_by_label("Search by name").fill("0")
        visit.until(names.count, lambda count: count == 15, "00 … 09, 10, 20, …, 50")
        assert page.locator("#count").inner_text() == "15 images"
        page.get_by_label("Search by name").fill("nothing")
        visit.until(page.locator("#count").inner_text, lambda text: "No image" in text, "no image")
        assert visit.complaints == []
