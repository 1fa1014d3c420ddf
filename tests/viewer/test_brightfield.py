"""Images of colours: gamma, the colour profile, the magnification."""

from __future__ import annotations

from tests.browser import Visit
from tests.viewer.scene import PROFILED, kept_style, view

MIDDLE = (0.5, 0.5)


def test_gamma_is_seen(tour: Visit) -> None:
    view(tour, "slide.svs")
    tour.shows(*MIDDLE, (64, 64, 64))
    slider = tour.page.get_by_label("Gamma")
    slider.fill("1")  # in powers of two
    tour.until(lambda: tour.pixel(*MIDDLE)[0], lambda seen: abs(seen - 64) > 30, "another grey")
    squared, rooted = 255 * (64 / 255) ** 2, 255 * (64 / 255) ** 0.5
    seen = tour.pixel(*MIDDLE)[0]
    assert min(abs(seen - squared), abs(seen - rooted)) < 4
    slider.fill("0")
    tour.shows(*MIDDLE, (64, 64, 64), 3)


def test_a_colour_profile_is_applied_or_not(tour: Visit) -> None:
    view(tour, "adobe.tif")
    page, box = tour.page, tour.page.get_by_label("Colour profile")
    applied = tour.until(
        lambda: tour.pixel(*MIDDLE), lambda seen: seen[1] > 150 and seen[0] < 20, "sRGB: red is cut off"
    )
    assert abs(applied[0] - PROFILED[0]) > 20
    box.select_option("not applied")
    tour.shows(*MIDDLE, PROFILED, 4)
    assert tour.until(lambda: kept_style(tour), bool, "a style") == {"icc": False}
    page.get_by_label("Invert").check()
    tour.shows(*MIDDLE, (215, 55, 215), 4)
    page.get_by_label("Invert").uncheck()
    box.select_option("applied")
    tour.shows(*MIDDLE, applied, 4)
    box.select_option("saturation")
    tour.until(lambda: kept_style(tour), lambda style: style == {"icc": "saturation"}, "the intent")
    url = page.url
    page.goto("about:blank")
    page.goto(url)
    tour.settle()
    assert box.input_value() == "saturation"
    page.get_by_role("button", name="Reset").click()
    tour.shows(*MIDDLE, applied, 4)
    assert box.input_value() == "true"


def test_where_there_is_no_profile_none_is_spoken_of(tour: Visit) -> None:
    view(tour, "slide.svs")
    assert tour.page.get_by_label("Colour profile").is_hidden()


def test_the_magnification_is_that_of_the_scanner_times_the_zoom(tour: Visit) -> None:
    view(tour, "slide.svs", "#z=1&x=256&y=256")
    zoom = tour.page.locator("#zoom")
    tour.until(zoom.inner_text, lambda text: text == "20×  ·  100 %", "20×")
    tour.page.get_by_role("button", name="Zoom in").click()
    tour.until(zoom.inner_text, lambda text: text == "30×  ·  150 %", "30×")
    tour.page.get_by_role("button", name="1:1").click()
    tour.until(zoom.inner_text, lambda text: text == "20×  ·  100 %", "20×")
    bar = tour.page.locator("#bar span")
    assert bar.inner_text() == "50 µm"
    box = bar.bounding_box()
    assert box is not None
    assert abs(box["width"] - 50 / 0.499) < 1.5


def test_the_cursor_tells_the_colours_as_they_are_stored(tour: Visit) -> None:
    view(tour, "adobe.tif")
    box = tour.page.locator("#osd").bounding_box()
    assert box is not None
    tour.page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    values = tour.page.locator("#values")
    tour.until(values.inner_text, lambda text: text == ", ".join(map(str, PROFILED)), "what is stored")
