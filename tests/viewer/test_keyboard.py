"""The viewer without a mouse: every key does what the list of keys says, every control is reached."""

from __future__ import annotations

import pytest

from tests.browser import Visit
from tests.viewer.scene import BLACK, BLUE, GREEN, RED, WHITE, shows_quarters, view

FULL = "document.fullscreenElement !== null"
FOCUS = "document.activeElement.getAttribute('aria-label') || document.activeElement.className"


def zoomed(visit: Visit, over: float, under: float) -> None:
    visit.until(visit.zoom, lambda zoom: over < zoom < under, f"a zoom between {over} and {under}")


def test_keys_zoom_and_show_the_whole_image(visit: Visit) -> None:
    view(visit, "quarters.ome.tif")
    keyboard = visit.page.keyboard
    whole = visit.until(visit.zoom, bool, "a zoom")
    keyboard.press("+")
    keyboard.press("+")
    zoomed(visit, 2 * whole, 2.4 * whole)
    shows_quarters(visit, RED, GREEN, BLUE, WHITE)
    keyboard.press("-")
    zoomed(visit, 1.4 * whole, 1.6 * whole)
    keyboard.press("0")
    zoomed(visit, 0.99 * whole, 1.01 * whole)


Way = tuple[int, int]
QUARTER = {(-1, -1): RED, (1, -1): GREEN, (-1, 1): BLUE, (1, 1): WHITE}
KEYS = [("ArrowLeft", "ArrowUp"), ("ArrowRight", "ArrowUp"), ("a", "s"), ("d", "s")]


@pytest.mark.parametrize(("keys", "to"), list(zip(KEYS, QUARTER, strict=True)))
def test_keys_pan_where_the_image_is_focused(
    visit: Visit, keys: tuple[str, str], to: tuple[int, int]
) -> None:
    """From the quarter on the other side of the middle, first across and then up or down."""
    view(visit, "quarters.ome.tif", f"#z=1.5&x={512 - 30 * to[0]}&y={512 - 30 * to[1]}")
    assert "openseadragon-canvas" in visit.page.evaluate(FOCUS), "which it is at the beginning"
    visit.shows(0.5, 0.5, QUARTER[-to[0], -to[1]])
    for key, quarter in zip(keys, (QUARTER[to[0], -to[1]], QUARTER[to]), strict=True):
        visit.page.keyboard.down(key)
        visit.shows(0.5, 0.5, quarter)
        visit.page.keyboard.up(key)


def test_keys_of_the_panel_and_the_dialogs(visit: Visit) -> None:
    view(visit, "many.ome.tif")
    page = visit.page
    panel = page.locator("#panel")
    page.keyboard.press("p")
    assert panel.is_hidden()
    assert page.get_by_role("button", name="Panel").get_attribute("aria-pressed") == "false"
    page.keyboard.press("p")
    assert panel.is_visible()
    page.keyboard.press("c")
    page.keyboard.type("39")
    assert page.locator(".channel:visible").count() == 1
    page.keyboard.press("Tab")  # to "only active"
    page.keyboard.press("?")
    page.wait_for_selector("#help[open]")
    page.keyboard.press("1")
    assert page.get_by_text("4 of 40 on").count() == 1, "keys of the page are none of a dialog's"
    page.keyboard.press("Escape")
    assert page.locator("#help").is_hidden()
    page.keyboard.press("l")
    page.wait_for_selector("#share[open]")
    page.keyboard.press("Escape")
    assert page.locator("#share").is_hidden()


def test_a_key_goes_to_full_screen_and_back(visit: Visit) -> None:
    view(visit, "quarters.ome.tif")
    page = visit.page
    for press in (lambda: page.keyboard.press("f"), page.get_by_role("button", name="Full").click):
        press()
        visit.until(lambda: page.evaluate(FULL), bool, "full screen")
        shows_quarters(visit, RED, GREEN, BLUE, WHITE)
        press()
        visit.until(lambda: page.evaluate(FULL), lambda is_full: not is_full, "a window again")


def test_every_key_of_the_list_is_listened_to(visit: Visit) -> None:
    """The list and the page say the same: no key is listed that does nothing."""
    view(visit, "quarters.ome.tif")
    listed = visit.page.locator("#help kbd").all_text_contents()
    source = visit.page.request.get(f"{visit.base}/viewer/view.js").text()
    keys = source[source.index("listen({") :]
    for key in [text for text in listed if len(text) == 1 and text not in "19"]:
        assert f'"{key}":' in keys or f"\n    {key}:" in keys, key


def test_a_channel_is_set_up_with_the_keyboard_alone(visit: Visit) -> None:
    view(visit, "quarters.ome.tif")
    page = visit.page
    page.get_by_label("Search channels").focus()
    for _ in range(60):
        page.keyboard.press("Tab")
        if page.evaluate(FOCUS) == "Settings of G":
            break
    page.keyboard.press("Enter")
    while page.evaluate(FOCUS) != "Opacity of G":
        page.keyboard.press("Tab")
    page.keyboard.press("Home")
    shows_quarters(visit, RED, BLACK, BLUE, WHITE)
    page.keyboard.press("Shift+Tab")
    assert page.evaluate(FOCUS) == "Gamma of G"
    page.keyboard.press("Tab")
    page.keyboard.press("End")
    page.keyboard.press("Tab")  # to "invert"
    page.keyboard.press("Space")
    shows_quarters(visit, (255, 255, 0), BLACK, (0, 255, 255), WHITE)


def test_the_page_is_left_with_the_tab_key(visit: Visit) -> None:
    """No control holds the focus: around the whole page it comes back to its first link."""
    view(visit, "quarters.ome.tif")
    page = visit.page
    page.locator("a.brand").focus()
    for _ in range(80):
        page.keyboard.press("Tab")
        if page.evaluate(
            "document.activeElement === document.body || document.activeElement.matches('a.brand')"
        ):
            return
    raise AssertionError("the focus does not leave the page")
