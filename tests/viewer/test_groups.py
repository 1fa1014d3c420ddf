"""Groups of channels: made, switched, found, kept in links and presets, named by the file."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from playwright.sync_api import Browser, Locator, Page

from tests.browser import SIZE, Visit, serving
from tests.viewer.scene import BLACK, BLUE, GREEN, RED, WHITE, shows_quarters, view, write

TAGS = {"Lymphocytes": (3, 4, 5, 30), "Stroma & more": (30, 31)}


@pytest.fixture(scope="module")
def tagged(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A server of an image of 40 channels, some of which have tags in its OME-XML."""
    path = tmp_path_factory.mktemp("tagged") / "tagged.ome.tif"
    planes = np.full((40, 64, 64), 1000, np.uint16)
    planes[:, 0, 0] = 0
    write(path, planes, "CYX", [f"marker {index:02d}" for index in range(40)])
    text = tifffile.tiffcomment(path)
    assert isinstance(text, str)
    for number, members in enumerate(TAGS.values()):
        for channel in members:
            start = re.escape(f'<Channel ID="Channel:0:{channel}"') + "[^>]*>"
            text = re.sub(start, rf'\g<0><AnnotationRef ID="Annotation:{number}"/>', text)
    tags = "".join(
        f'<TagAnnotation ID="Annotation:{number}"><Value>{name.replace("&", "&amp;")}</Value></TagAnnotation>'
        for number, name in enumerate(TAGS)
    )
    whole = text.replace("</OME>", f"<StructuredAnnotations>{tags}</StructuredAnnotations></OME>")
    tifffile.tiffcomment(path, whole.encode())
    with serving(path) as base:
        yield base


def group(page: Page, name: str) -> Locator:
    return page.get_by_role("button", name=re.compile(rf"^Group {re.escape(name)} \d+$"))


def states(page: Page) -> dict[str, str | None]:
    """Return how much of each group is on."""
    buttons = page.locator(".group button:first-child").all()
    return {button.locator(".name").inner_text(): button.get_attribute("aria-pressed") for button in buttons}


def name_what_is_on(page: Page, name: str) -> None:
    page.get_by_label("Name of a group").fill(name)
    page.get_by_role("button", name="Group", exact=True).click()


def switch_on(page: Page, *names: str) -> None:
    for box in page.get_by_role("checkbox", name="Show").all():
        label = (box.get_attribute("aria-label") or "").removeprefix("Show ")
        box.set_checked(label in names)


def make_two_groups(visit: Visit) -> None:
    """Make a group of R and G, and one of G and B."""
    page = visit.page
    page.get_by_text("Groups", exact=True).click()
    switch_on(page, "R", "G")
    name_what_is_on(page, "warm; 100 %")
    switch_on(page, "G", "B")
    name_what_is_on(page, "cold: µ")


def test_a_group_is_made_of_what_is_on_and_switched_at_once(visit: Visit) -> None:
    view(visit, "quarters.ome.tif")
    page = visit.page
    make_two_groups(visit)
    assert states(page) == {"warm; 100 %": "mixed", "cold: µ": "true"}
    shows_quarters(visit, BLACK, GREEN, BLUE, BLACK)
    group(page, "warm; 100 %").click()  # what was off in it comes on
    assert states(page) == {"warm; 100 %": "true", "cold: µ": "true"}
    shows_quarters(visit, RED, GREEN, BLUE, BLACK)
    group(page, "cold: µ").click()
    assert states(page) == {"warm; 100 %": "mixed", "cold: µ": "false"}
    shows_quarters(visit, RED, BLACK, BLACK, BLACK)
    page.get_by_label("Show W").check()
    page.get_by_role("button", name="Only group cold: µ").click()
    shows_quarters(visit, BLACK, GREEN, BLUE, BLACK)
    page.get_by_role("button", name="Remove group cold: µ").click()
    assert list(states(page)) == ["warm; 100 %"]
    shows_quarters(visit, BLACK, GREEN, BLUE, BLACK)
    switch_on(page, "W")
    name_what_is_on(page, " warm;   100 % ")  # it becomes this
    group(page, "warm; 100 %").click()
    assert states(page) == {"warm; 100 %": "false"}
    shows_quarters(visit, BLACK, BLACK, BLACK, BLACK)


def test_a_switched_group_is_one_look(visit: Visit) -> None:
    view(visit, "quarters.ome.tif")
    make_two_groups(visit)
    visit.settle()
    before = len(visit.messages)
    group(visit.page, "cold: µ").click()
    visit.settle()
    (look,) = visit.messages[before:]
    assert look["style"]["bands"] == []


def test_groups_are_made_and_switched_with_the_keyboard(visit: Visit) -> None:
    view(visit, "quarters.ome.tif")
    page = visit.page
    page.keyboard.press("1")
    page.keyboard.press("g")
    page.keyboard.type("all but red")
    page.keyboard.press("Enter")
    for _ in range(3):  # over × and Only
        page.keyboard.press("Shift+Tab")
    page.keyboard.press("Space")
    shows_quarters(visit, BLACK, BLACK, BLACK, BLACK)
    page.keyboard.press("Enter")
    shows_quarters(visit, BLACK, GREEN, BLUE, WHITE)


def test_a_group_without_name_or_channels_is_not_made(visit: Visit) -> None:
    view(visit, "quarters.ome.tif")
    page = visit.page
    page.keyboard.press("g")
    page.keyboard.press("Enter")
    page.get_by_role("button", name="All off").click()
    name_what_is_on(page, "nothing")
    assert states(page) == {}
    assert page.get_by_label("Name of a group").input_value() == "nothing"


def test_a_link_brings_groups_back(visit: Visit, browser: Browser) -> None:
    view(visit, "quarters.ome.tif")
    make_two_groups(visit)
    visit.until(lambda: visit.page.url, lambda url: "cold" in url and "style=@" in url, "groups in the link")
    with browser.new_context(viewport=SIZE) as context:  # type: ignore[arg-type]
        other = Visit(context.new_page(), visit.base)
        other.page.goto(visit.page.url)
        other.settle()
        assert states(other.page) == {"warm; 100 %": "mixed", "cold: µ": "true"}
        group(other.page, "warm; 100 %").click()
        shows_quarters(other, RED, GREEN, BLUE, BLACK)
        other.page.evaluate("location.hash = '#groups=mine:0,3,77,x;none:;:1;bad%25:2'")
        other.until(lambda: states(other.page), lambda now: "mine" in now, "the groups of another link")
        assert states(other.page) == {"mine": "mixed", "bad%": "true"}
        assert other.complaints == []


def test_groups_go_with_a_preset(visit: Visit, tmp_path: Path) -> None:
    view(visit, "quarters.ome.tif")
    page = visit.page
    make_two_groups(visit)
    page.get_by_text("Presets").click()
    page.get_by_label("Name of a preset").fill("grouped")
    page.get_by_role("button", name="Save").click()
    saved = page.get_by_role("button", name="grouped", exact=True)
    saved.wait_for()
    with page.expect_download() as download:
        page.get_by_role("button", name="Export").click()
    (exported,) = json.loads(Path(download.value.path()).read_text())["imageFramePresets"]
    assert exported["groups"] == [
        {"name": "warm; 100 %", "channels": [0, 1]},
        {"name": "cold: µ", "channels": [1, 2]},
    ]
    for name in ("warm; 100 %", "cold: µ"):
        page.get_by_role("button", name=f"Remove group {name}").click()
    assert states(page) == {}
    saved.click()
    assert states(page) == {"warm; 100 %": "mixed", "cold: µ": "true"}
    page.get_by_role("button", name="Delete grouped").click()
    page.get_by_text("Nothing is saved yet.").wait_for()


def test_groups_of_the_file_are_there_and_found(browser: Browser, tagged: str) -> None:
    with browser.new_context(viewport=SIZE) as context:  # type: ignore[arg-type]
        visit = Visit(context.new_page(), tagged)
        page = visit.page
        view(visit, "tagged.ome.tif")
        assert states(page) == {"Lymphocytes": "mixed", "Stroma & more": "false"}
        page.get_by_label("Search channels").fill("stroma")
        names: list[Any] = page.locator(".channel:visible .name").all_inner_texts()
        assert names == ["marker 30", "marker 31"]
        page.get_by_role("button", name="Only group Stroma & more").click()
        assert states(page) == {"Lymphocytes": "mixed", "Stroma & more": "true"}
        visit.until(lambda: page.url, lambda url: "style=@" in url, "the style in the address")
        assert "groups=" not in page.url, "the file says them"
        page.get_by_role("button", name="Remove group Lymphocytes").click()
        visit.until(lambda: page.url, lambda url: "groups=Stroma" in url, "what is left")
        page.get_by_role("button", name="Remove group Stroma & more").click()
        visit.until(lambda: page.url, lambda url: url.endswith("&groups="), "none are left")
        page.reload()
        visit.settle()
        assert states(page) == {}
        assert visit.complaints == []


def test_an_image_of_colours_has_no_groups(visit: Visit) -> None:
    view(visit, "colour.tif", "#groups=a:0")
    assert visit.page.get_by_text("Groups", exact=True).count() == 0
