"""Axes beside channels: z and t are scrubbed with the mouse and the keyboard, and are part of the link."""

from __future__ import annotations

import json
from typing import Any

from playwright.sync_api import Locator

from tests.browser import Visit
from tests.viewer.scene import TOP, view


def shows_step(tour: Visit, time: int, z: int) -> None:
    """Wait until the plane of a time and a z is seen: blue, whose value tells both."""
    tour.shows(0.5, 0.5, (0, 0, round(255 * (1000 * time + 300 * z) / TOP)), 6)


def open_stack(tour: Visit, more: str = "") -> tuple[Locator, Locator]:
    """Open the image in the window 0 … TOP; return its sliders."""
    view(tour, "time.ome.tif", more)
    page = tour.page
    page.get_by_label("Settings of A").click()
    page.get_by_label("A: least value").fill("0")
    page.get_by_label("A: greatest value").fill(str(TOP))
    page.keyboard.press("Enter")
    page.get_by_label("Z", exact=True).focus()
    return page.get_by_label("Z", exact=True), page.get_by_label("Time", exact=True)


def test_z_and_time_are_scrubbed_with_the_mouse(tour: Visit) -> None:
    """Each plane is seen while the slider is still held."""
    z, time = open_stack(tour)
    for slider, steps, axis in ((z, 3, "z"), (time, 4, "t")):
        box = slider.bounding_box()
        assert box is not None
        tour.page.mouse.move(box["x"] + 9, box["y"] + box["height"] / 2)
        tour.page.mouse.down()
        for step in range(1, steps):
            x = box["x"] + 9 + (box["width"] - 18) * step / (steps - 1)
            tour.page.mouse.move(x, box["y"] + box["height"] / 2, steps=4)
            shows_step(tour, *((0, step) if axis == "z" else (step, 2)))
        tour.page.mouse.up()
    outputs = tour.page.locator(".axes output").all_inner_texts()
    assert sorted(outputs) == ["3 / 3", "4 / 4"]


def test_a_scrub_is_a_message_a_plane(tour: Visit) -> None:
    _, time = open_stack(tour)
    tour.until(lambda: _again(tour) or len(tour.messages), lambda count: count > 0, "messages")
    before, asked = len(tour.messages), len(tour.requests)
    time.focus()
    for step in range(1, 4):
        tour.page.keyboard.press("ArrowRight")
        shows_step(tour, step, 0)
        tour.settle()
    frames = [message.get("frame", 0) for message in tour.messages[before:]]
    assert frames == [6, 12, 18]
    assert tour.tiles(asked) == []


def test_keys_step_along_both_axes(tour: Visit) -> None:
    z, time = open_stack(tour)
    tour.page.locator(".openseadragon-canvas").focus()
    first, second = (
        (z, time)
        if tour.page.locator("[data-axis]").first.get_attribute("data-axis") == "IndexZ"
        else (time, z)
    )
    for keys, places in (("]]", ("2", "0")), ("}", ("2", "1")), ("}[", ("1", "2")), ("{{{", ("1", "0"))):
        for key in keys:
            tour.page.keyboard.press(key)
        assert (first.input_value(), second.input_value()) == places, keys
    shows_step(tour, int(time.input_value()), int(z.input_value()))


def test_where_there_is_no_axis_keys_step_nowhere(tour: Visit) -> None:
    view(tour, "overlap.ome.tif")
    tour.until(tour.zoom, bool, "an address")
    before = tour.page.url
    for key in "[]{}":
        tour.page.keyboard.press(key)
    assert tour.page.url == before


def _again(tour: Visit) -> None:
    for _ in range(2):
        tour.page.keyboard.press("2")
        tour.settle()


def test_a_position_is_part_of_the_link(tour: Visit) -> None:
    z, time = open_stack(tour)
    time.fill("2")
    z.fill("1")
    shows_step(tour, 2, 1)
    url = tour.until(lambda: tour.page.url, lambda url: "frame=14" in url and "style=@" in url, "the frame")
    tour.page.goto("about:blank")
    tour.page.goto(url)
    tour.settle()
    shows_step(tour, 2, 1)
    assert (tour.page.get_by_label("Z", exact=True).input_value(), time.input_value()) == ("1", "2")


def test_a_preset_of_a_frame_goes_to_its_plane(tour: Visit) -> None:
    """Frame 15 is channel B at time 2, z 1: the style counts from it, and may reach another z."""
    open_stack(tour)
    page = tour.page
    presets = [preset("beside", 15, {"framedelta": -1}), preset("above", 15, {"framedelta": 1})]
    page.get_by_text("Presets").click()
    page.get_by_label("File of presets").set_input_files(
        {"name": "given.json", "mimeType": "application/json", "buffer": json.dumps(presets).encode()}
    )
    for name, value in (("beside", 2300), ("above", 2600)):
        page.get_by_role("button", name=name, exact=True).click()
        tour.shows(0.5, 0.5, (round(255 * value / TOP), 0, 0), 6)
        sliders = [page.get_by_label(axis, exact=True).input_value() for axis in ("Time", "Z")]
        assert sliders == ["2", "1"]
        page.get_by_role("button", name=f"Delete {name}").click()


def preset(name: str, frame: int, band: dict[str, int]) -> dict[str, Any]:
    bands = [{**band, "palette": "#FF0000", "min": 0, "max": TOP}]
    return {"name": name, "frame": frame, "mode": {"id": 2}, "style": {"bands": bands}}
