"""The pages work without any other host: each address elsewhere is cut off here, and none is tried."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Route, WebSocketRoute

from gputiles import assets
from tests.browser import SIZE, Visit, ids, serving
from tests.viewer.scene import BLACK, BLUE, GREEN, RED, TOP, WHITE, shows_quarters, view, view_stack

RESOURCES = "performance.getEntriesByType('resource').map((entry) => entry.name)"
LOADED = "() => [...document.images].every((image) => image.complete && image.naturalWidth > 0)"
ELSEWHERE = "http://viewer.invalid"
ADDRESS = re.compile(r"""(?:https?|wss?):?//[^\s"'`)]+|["'(]//[^\s"'`)]+""")


class Island(Visit):
    """A visit to a server from where nothing else is reached; ``tried`` are the addresses that were."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.tried: list[str] = []
        context, home = self.page.context, (f"{self.base}/", f"{self.base}/".replace("http", "ws", 1))
        context.route(lambda url: not url.startswith(home), self._cut)
        context.route_web_socket(lambda url: not url.startswith(home), self._close)

    def _cut(self, route: Route) -> None:
        self.tried.append(route.request.url)
        route.abort("internetdisconnected")

    def _close(self, socket: WebSocketRoute) -> None:
        self.tried.append(socket.url)
        socket.close()


@contextmanager
def cut_off(server: str, browser: Browser) -> Iterator[Island]:
    with browser.new_context(viewport=SIZE) as context:  # type: ignore[arg-type]
        yield Island(context.new_page(), server)


@pytest.fixture
def island(server: str, browser: Browser) -> Iterator[Island]:
    """A visit that must neither try another host nor complain."""
    with cut_off(server, browser) as island:
        yield island
        assert island.tried == []
        assert island.complaints == []
        assert [url for url in island.requests if not url.startswith((f"{server}/", "blob:", "data:"))] == []


def stays_here(island: Island) -> None:
    """All that the page is made of has come, from here; it brings no fonts."""
    island.page.wait_for_function(LOADED)
    names = island.page.evaluate(RESOURCES)
    assert names
    assert [name for name in names if not name.startswith((f"{island.base}/", "blob:"))] == []
    assert island.page.evaluate("document.fonts.size") == 0


def test_the_list_has_its_pictures(island: Island) -> None:
    island.page.goto(f"{island.base}/")
    island.until(lambda: island.page.locator("#items img").count(), lambda count: count == 4, 4)
    stays_here(island)


def test_an_image_is_looked_at_in_channels(island: Island) -> None:
    page = island.page
    view(island, "quarters.ome.tif")
    shows_quarters(island, RED, GREEN, BLUE, WHITE)
    island.until(lambda: page.locator(".channel .counts").first.get_attribute("d"), bool, "a histogram")
    box = page.locator(".channel .histogram").first.bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + 1, box["y"] + 20)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + 20, steps=8)
    page.mouse.up()
    page.get_by_label("Settings of R").click()
    low = int(page.get_by_label("R: least value").input_value())
    page.get_by_label("R: greatest value").fill(str(2 * TOP - low))  # so that TOP is in the middle
    page.keyboard.press("Enter")
    shows_quarters(island, (127, 0, 0), GREEN, BLUE, WHITE)
    page.get_by_label("Show G").uncheck()
    shows_quarters(island, (127, 0, 0), BLACK, BLUE, WHITE)
    page.get_by_text("Presets").click()
    page.get_by_text("Nothing is saved yet.").wait_for()
    page.get_by_role("button", name="Share").click()
    page.wait_for_selector("#share[open]")
    island.style()
    stays_here(island)


def test_a_stack_is_scrubbed(island: Island) -> None:
    view_stack(island)
    page = island.page
    for plane in (4, 1):
        page.get_by_label("Z", exact=True).fill(str(plane))
        island.shows(0.5, 0.5, (255 * plane // 4, 0, 0))
    stays_here(island)


@pytest.mark.parametrize(
    ("path", "sign"),
    [("view/test", "body[data-settled=yes]"), ("status", "#shelves td"), ("item/colour.tif", "table td")],
)
def test_other_pages_are_whole(island: Island, path: str, sign: str) -> None:
    page, _, name = path.partition("/")
    island.page.goto(f"{island.base}/{page}/{ids(island.base).get(name, name)}".rstrip("/"))
    island.page.wait_for_selector(sign)
    stays_here(island)


def test_an_address_elsewhere_would_be_caught(folder: Path, browser: Browser) -> None:
    """The operator names a library on another host: it is tried, which is said, and is all that is tried."""
    address = f"{ELSEWHERE}/openseadragon.js"
    with (
        serving(folder, "--openseadragon", address) as base,
        cut_off(base, browser) as island,
    ):
        island.page.goto(f"{base}/view/{ids(base)['colour.tif']}")
        notice = island.page.locator("#notice")
        island.until(notice.inner_text, lambda text: address in text, "the address that cannot be loaded")
        assert island.tried == [address]
        assert len(island.complaints) == 1, "the browser's own"


def test_no_file_of_the_pages_names_another_host() -> None:
    names = {"http://www.w3.org/2000/svg"}  # a name, which nothing asks for
    files = [path for path in assets.FOLDER.iterdir() if path.suffix in {".css", ".html", ".js", ".svg"}]
    own = [path for path in files if path.name != assets.LIBRARY]
    assert len(own) > 20
    for path in own:
        assert set(ADDRESS.findall(path.read_text("utf-8"))) <= names, path.name
    for text in ('src="//a.b/c.js"', "url(https://a.b/font)", "import 'http://a.b'", "`wss://${name}`"):
        assert ADDRESS.search(text), text
