"""What a person does with channels, seen in pixels: blends, gamma, opacity, auto, many of them."""

from __future__ import annotations

import numpy as np
import pytest

from tests.browser import Visit
from tests.viewer.scene import BLACK, RED, TOP, kept_style, shows_quarters, view

QUARTER, HALF = (0.3, 0.7), 0.5  # a place where two channels overlap, of the values TOP / 4 and TOP / 2


def grey(share: float) -> tuple[int, int, int]:
    level = round(255 * share)
    return level, level, level


def set_windows(visit: Visit, *names: str) -> None:
    """Show the values 0 … TOP of channels."""
    for name in names:
        visit.page.get_by_label(f"Settings of {name}").click()
        visit.page.get_by_label(f"{name}: least value").fill("0")
        visit.page.get_by_label(f"{name}: greatest value").fill(str(TOP))
        visit.page.keyboard.press("Enter")


@pytest.mark.parametrize(
    ("blend", "share"),
    [("additive", 0.75), ("lighten", 0.5), ("screen", 1 - 0.75 * 0.5), ("multiply", 0.25 * 0.5)],
)
def test_a_blend_mixes_channels_as_its_name_says(tour: Visit, blend: str, share: float) -> None:
    view(tour, "overlap.ome.tif")
    set_windows(tour, "quarter", "half")
    tour.page.get_by_label("Blend").select_option(blend)
    tour.shows(*QUARTER, grey(share), 4)


def test_gamma_and_opacity_are_seen(tour: Visit) -> None:
    view(tour, "overlap.ome.tif")
    set_windows(tour, "quarter")
    page = tour.page
    page.get_by_label("Show half").uncheck()
    tour.shows(*QUARTER, grey(0.25), 4)
    gamma = page.get_by_label("Gamma of quarter")
    gamma.fill("1")  # in powers of two
    assert page.locator(".settings output").first.inner_text() == "2.00"
    tour.settle()
    seen = tour.pixel(*QUARTER)[0] / 255
    assert min(abs(seen - 0.25**2), abs(seen - 0.25**0.5)) < 0.03
    gamma.fill("0")
    page.get_by_label("Opacity of quarter").fill("0.5")
    tour.shows(*QUARTER, grey(0.125), 4)


def test_auto_of_one_channel_leaves_the_others(visit: Visit) -> None:
    view(visit, "many.ome.tif")
    page = visit.page
    page.get_by_label("Percent that auto leaves out at each end").fill("10")
    page.get_by_role("button", name="Auto window of marker 01").click()
    style = visit.until(
        lambda: kept_style(visit),
        lambda style: isinstance(style["bands"][1]["max"], int) and style["bands"][1]["max"] < 195,
        "numbers",
    )
    low, high = style["bands"][1]["min"], style["bands"][1]["max"]
    assert abs(low - 110) <= 2
    assert abs(high - 189) <= 2
    assert style["bands"][0]["max"] != high


def test_auto_of_all_is_seen_on_a_file_of_forty_channels(visit: Visit) -> None:
    """Of random values between 100 and 200 all levels are seen, in about even shares."""
    view(visit, "many.ome.tif")
    page = visit.page
    page.get_by_role("button", name="All off").click()
    page.get_by_label("Show marker 12").check()
    page.get_by_label("Colour of marker 12").fill("#ffffff")
    page.get_by_label("Settings of marker 12").click()
    greatest = page.get_by_label("marker 12: greatest value")
    visit.until(greatest.input_value, lambda value: value != "65535", "what its values reach")
    greatest.fill("65535")
    page.keyboard.press("Enter")
    visit.shows(0.5, 0.5, BLACK)
    page.get_by_role("button", name="Auto all").click()
    visit.until(
        lambda: page.get_by_label("marker 12: greatest value").input_value(),
        lambda text: 195 <= int(text) <= 205,
        "the window of the values",
    )
    visit.settle()
    levels = [visit.pixel(0.3 + 0.02 * (at % 20), 0.3 + 0.04 * (at // 20))[0] for at in range(100)]
    assert 100 < np.mean(levels) < 155
    assert np.std(levels) > 40


def test_solo_shows_one_of_forty_and_back(visit: Visit) -> None:
    view(visit, "many.ome.tif")
    page = visit.page
    page.get_by_label("Search channels").fill("marker 07")
    solo = page.locator(".channel:visible").get_by_role("button", name="Solo")
    solo.click()
    assert solo.get_attribute("aria-pressed") == "true"
    assert page.get_by_text("1 of 40 on").is_visible()
    bright = visit.until(lambda: visit.pixel(0.7, 0.5), lambda seen: max(seen) > 200, "its bright half")
    assert max(bright) > 200
    solo.click()
    assert page.get_by_text("4 of 40 on").is_visible()


def test_a_window_is_dragged_as_a_whole_and_its_ends_swap_never(visit: Visit) -> None:
    view(visit, "quarters.ome.tif")
    page = visit.page
    visit.until(lambda: page.locator(".channel .counts").first.get_attribute("d"), bool, "a histogram")
    low, high = page.get_by_role("slider", name="R: minimum"), page.get_by_role("slider", name="R: maximum")
    box = page.locator(".channel .histogram").first.bounding_box()
    assert box is not None

    def drag(start: float, end: float) -> tuple[int, int]:
        page.mouse.move(box["x"] + start * box["width"], box["y"] + 20)
        page.mouse.down()
        page.mouse.move(box["x"] + end * box["width"], box["y"] + 20, steps=6)
        page.mouse.up()
        return int(low.get_attribute("aria-valuenow") or 0), int(high.get_attribute("aria-valuenow") or 0)

    end = high.bounding_box()
    assert end is not None
    share = (end["x"] + end["width"] / 2 - box["x"]) / box["width"]
    first = drag(share, 0.5)
    assert abs(first[1] - TOP / 2) < TOP / 40
    moved = drag(0.25, 0.45)
    assert moved[1] - moved[0] == first[1] - first[0]
    assert abs(moved[1] - first[1] - 0.2 * TOP) < TOP / 40
    shows_quarters(visit, RED, (0, 255, 0), (0, 0, 255), (255, 255, 255))
    crossed = drag(moved[1] / TOP, 0.02)
    assert crossed[1] == crossed[0] + 1


def test_an_image_of_one_channel_has_what_one_needs(tour: Visit) -> None:
    view(tour, "alone.tif")
    page = tour.page
    assert page.locator(".channel .name").all_inner_texts() == ["Channel 0"]
    for word in ("Groups", "Only active", "All off", "Blend"):
        assert page.get_by_text(word, exact=True).is_hidden(), word
    assert page.get_by_label("Search channels").is_hidden()
    page.get_by_label("Percent that auto leaves out at each end").fill("25")
    page.get_by_role("button", name="Auto all").click()
    tour.shows(0.15, 0.5, BLACK)
    tour.shows(0.5, 0.5, grey(0.5), 8)
    tour.shows(0.82, 0.5, grey(1))
