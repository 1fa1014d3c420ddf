"""Presets of large_image: of the folder's configuration, and imported as YAML."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser

from gputiles import yamltext
from tests.browser import Visit, needed, serving
from tests.viewer.conftest import visiting
from tests.viewer.scene import (
    BLACK,
    BLUE,
    GREEN,
    RED,
    TOP,
    WHITE,
    ome_colour,
    quarters,
    shows_quarters,
    view,
    write,
)

MAGENTA, YELLOW, CYAN = (255, 0, 255), (255, 255, 0), (0, 255, 255)
CONFIG = f"""---
# what a folder of large_image's may have
itemList: {{layout: {{mode: grid}}}}
imageFramePresets:
- name: Third alone
  frame: 2
  mode: {{id: 0, name: Frame}}
- name: Two of four
  frame: 0
  mode:
    id: 2
    name: Channel Compositing
  style:
    bands:
    - {{framedelta: 1, palette: "#FF00FF", min: 0, max: {TOP}}}
    - {{framedelta: 3, palette: "#FFFF00", autoRange: 0.2}}
- name: Nine channels
  frame: 0
  mode: {{id: 2, name: Channel Compositing}}
  style: {{bands: [{{framedelta: 8, palette: "#FF00FF"}}]}}
imageFramePresetDefaults:
- name: Nine channels
- name: Two of four
"""


@pytest.fixture(scope="module")
def configured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    """A server of one image in a folder that has a configuration."""
    needed()
    folder = tmp_path_factory.mktemp("configured")
    colours = [ome_colour(*colour) for colour in (RED, GREEN, BLUE, WHITE)]
    write(folder / "four.ome.tif", quarters(), "CYX", ["R", "G", "B", "W"], Color=colours)
    (folder / ".large_image_config.yaml").write_text(CONFIG)
    with serving(folder) as base:
        yield base, folder


@pytest.fixture
def visit(configured: tuple[str, Path], browser: Browser) -> Iterator[Visit]:
    with visiting(configured[0], browser) as visit:
        yield visit


def test_an_image_begins_in_its_folders_preset_and_an_address_says_otherwise(visit: Visit) -> None:
    view(visit, "four.ome.tif")
    shows_quarters(visit, BLACK, MAGENTA, BLACK, YELLOW)
    assert len(visit.batches) == 1, "nothing else was asked for before"
    link = f"#style=@{visit.style()}"
    visit.page.get_by_label("Show R").check()
    shows_quarters(visit, RED, MAGENTA, BLACK, YELLOW)
    visit.page.goto("about:blank")
    view(visit, "four.ome.tif", "#frame=0")
    shows_quarters(visit, RED, GREEN, BLUE, WHITE)
    visit.page.goto("about:blank")
    view(visit, "four.ome.tif", link)
    shows_quarters(visit, BLACK, MAGENTA, BLACK, YELLOW)


def test_the_folders_presets_are_chosen_and_cannot_be_deleted(visit: Visit) -> None:
    view(visit, "four.ome.tif", "#frame=0")
    page = visit.page
    page.get_by_text("Presets").click()
    page.get_by_role("button", name="Third alone").click()
    shows_quarters(visit, BLACK, BLACK, WHITE, BLACK)
    page.get_by_role("button", name="Two of four").click()
    shows_quarters(visit, BLACK, MAGENTA, BLACK, YELLOW)
    rows = page.locator(".presets li")
    assert [text.split("\n") for text in rows.all_inner_texts()] == [
        ["Third alone", "of the folder"], ["Two of four", "of the folder"],
    ]  # fmt: skip
    assert page.get_by_role("button", name="Delete").count() == 0
    page.get_by_label("Colour of W").fill("#00ffff")
    page.get_by_label("Name of a preset").fill("Third alone")
    page.get_by_role("button", name="Save").click()
    page.get_by_role("button", name="Delete Third alone").click()
    visit.until(lambda: rows.count(), lambda count: count == 2, "two presets")
    visit.until(lambda: page.get_by_role("button", name="Delete").count(), lambda count: count == 0, "no own")


def test_a_change_of_the_file_is_seen_when_presets_are_looked_at(
    visit: Visit, configured: tuple[str, Path]
) -> None:
    file = configured[1] / ".large_image_config.yaml"
    try:
        file.write_text(CONFIG.replace("Third alone", "Renamed").replace("- name: Two of four\n", "", 1))
        view(visit, "four.ome.tif")
        visit.page.get_by_text("Presets").click()
        visit.page.get_by_role("button", name="Renamed").wait_for()
        file.write_text("imageFramePresets: [")
        view(visit, "four.ome.tif", "#z=1")
        shows_quarters(visit, RED, GREEN, BLUE, WHITE)
        visit.page.reload()
        visit.settle()
        visit.page.get_by_text("Presets").click()
        visit.page.get_by_text("Nothing is saved yet.").wait_for()
    finally:
        file.write_text(CONFIG)


def test_yaml_is_imported_and_what_is_exported_is_yaml_too(visit: Visit, tmp_path: Path) -> None:
    view(visit, "four.ome.tif", "#frame=0")
    page = visit.page
    page.get_by_text("Presets").click()
    (tmp_path / "more.yaml").write_text(
        CONFIG.replace("Two of four", "Imported").replace("#FF00FF", "#00FFFF")
    )
    page.get_by_label("File of presets").set_input_files(tmp_path / "more.yaml")
    page.get_by_role("button", name="Imported", exact=True).click()
    shows_quarters(visit, BLACK, CYAN, BLACK, YELLOW)
    with page.expect_download() as download:
        page.get_by_role("button", name="Export").click()
    text = Path(download.value.path()).read_bytes()
    found = json.loads(text)["imageFramePresets"]
    assert yamltext.parse(text)["imageFramePresets"] == found
    assert [entry["name"] for entry in found] == ["Third alone", "Imported", "Nine channels", "Two of four"]
    assert {key for entry in found for key in entry} == {"name", "frame", "mode", "style"}
    (tmp_path / "bomb.yaml").write_text("a: &a [x]\nb: [*a, *a]\n")
    page.get_by_label("File of presets").set_input_files(tmp_path / "bomb.yaml")
    notice = page.locator("#notice")
    visit.until(notice.inner_text, lambda said: "aliases (*a) are not read here" in said, "the reason")
    visit.forgive("status of 400")
    for name in ("Third alone", "Imported", "Nine channels"):
        page.get_by_role("button", name=f"Delete {name}").click()
        page.get_by_role("button", name=f"Delete {name}").wait_for(state="detached")


@pytest.mark.parametrize("suffix", ["yaml", "yml"])
def test_omeros_yaml_is_imported_under_the_files_name(visit: Visit, tmp_path: Path, suffix: str) -> None:
    view(visit, "four.ome.tif", "#frame=0")
    page = visit.page
    page.get_by_text("Presets").click()
    file = tmp_path / f"of OMERO.{suffix}"
    file.write_text(f"version: 2\nchannels:\n  2: {{color: FF00FF, start: 0, end: {TOP}, active: true}}\n")
    page.get_by_label("File of presets").set_input_files(file)
    page.get_by_role("button", name="of OMERO", exact=True).click()
    shows_quarters(visit, BLACK, MAGENTA, BLACK, BLACK)
    page.get_by_role("button", name="Delete of OMERO").click()
    page.get_by_role("button", name="Delete of OMERO").wait_for(state="detached")
