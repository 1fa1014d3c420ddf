"""A new look over the old one: over the socket, in batches, tile by tile; the newest wins."""

from __future__ import annotations

import json
import re
import struct
from typing import Any
from urllib.parse import parse_qs, urlsplit

import numpy as np
import pytest
from playwright.sync_api import Browser, Locator, Route, WebSocketRoute

from tests.browser import SIZE, Visit, ids, without_sockets
from tests.viewer.scene import (
    BLACK,
    BLUE,
    GREEN,
    QUARTERS,
    RED,
    WHITE,
    kept_style,
    shows_quarters,
    view,
)

ORANGE, VIOLET = (255, 128, 0), (128, 0, 255)
EVERYTHING = re.compile("/zxy/|:batch")  # addresses of tiles

STATE = """
() => {
  const { world, imageLoader } = OpenSeadragon.getViewer("osd");
  return { layers: world.getItemCount(), jobs: imageLoader.jobsInProgress };
}
"""
DONE = {"layers": 1, "jobs": 0}

WATCH = """
() => {
  window.seen = [];
  const canvas = document.querySelector("#osd canvas");
  const look = () => {
    const at = canvas.getContext("2d").getImageData(canvas.width * 0.7, canvas.height * 0.8, 1, 1).data;
    window.seen.push([...at]);
    requestAnimationFrame(look);
  };
  look();
}
"""


class Tap:
    """The sockets of a page, which lead to the server: what goes through them, and may be held back."""

    def __init__(self, visit: Visit) -> None:
        self.said: list[dict[str, Any]] = []  # by the page
        self.held: list[str | bytes] = []  # answers
        self.holds = False
        self.opened = 0
        visit.page.route_web_socket("**/live", self._connect)

    def _connect(self, page: WebSocketRoute) -> None:
        self.opened += 1
        self.page, server = page, page.connect_to_server()

        def ask(message: str | bytes) -> None:
            self.said.append(json.loads(message))
            server.send(message)

        page.on_message(ask)
        server.on_message(self._answer)

    def _answer(self, message: str | bytes) -> None:
        if self.holds:
            self.held.append(message)
        else:
            self.change(message)

    def change(self, message: str | bytes) -> None:
        """Hand an answer on; tests put others in its place."""
        self.page.send(message)

    def release(self) -> None:
        """Hand on what was held back."""
        self.holds, held, self.held = False, self.held, []
        for message in held:
            self.page.send(message)


def head(message: bytes) -> tuple[int, int, int]:
    """Return (number of the request, of the place, status) of a tile's message."""
    number, place, status = struct.unpack_from("<III", message)
    return number, place, status


def restyle(visit: Visit) -> None:
    """Change the look, and change it back."""
    for _ in range(2):
        visit.page.keyboard.press("1")
        visit.settle()


def joined(visit: Visit) -> int:
    """Change looks until the socket is found to be open; return how many messages there are."""
    visit.until(lambda: restyle(visit) or len(visit.messages), lambda count: count >= 2, "messages")
    return len(visit.messages)


def white_end(visit: Visit) -> Locator:
    """Return the upper end of the window of channel W, ready for the keyboard."""
    visit.until(lambda: visit.page.locator(".channel .counts").last.get_attribute("d"), bool, "a histogram")
    end = visit.page.get_by_role("slider", name="W: maximum")
    end.focus()
    return end


def drag(visit: Visit, end: Locator, steps: int = 40) -> int:
    """Move the end of a window; return where it is then, once all is seen."""
    for _ in range(steps):
        visit.page.keyboard.press("ArrowLeft")
    visit.settle()
    return int(end.get_attribute("aria-valuenow") or -1)


def test_a_drag_is_one_message_a_look_and_no_other_request_for_tiles(visit: Visit) -> None:
    view(visit, "quarters.ome.tif")
    before, asked = joined(visit), len(visit.requests)
    end = white_end(visit)
    visit.page.evaluate(WATCH)
    newest = drag(visit, end)
    looks = visit.messages[before:]
    windows = [look["style"]["bands"][3]["max"] for look in looks]
    assert 1 <= len(windows) <= 40
    assert len(set(windows)) == len(windows), "no look was asked for twice"
    assert windows[-1] == newest == min(windows)
    assert visit.tiles(asked) == []
    places = {json.dumps(sorted(look["tiles"])) for look in looks}
    assert len(places) == 1, "each asks for all that is seen"
    assert len(looks[0]["tiles"]) > 1
    numbers = [look["request"] for look in looks]
    assert numbers == sorted(set(numbers))
    assert np.asarray(visit.page.evaluate("window.seen")).min() >= 240, "white stays white meanwhile"
    assert visit.page.evaluate(STATE) == DONE


@pytest.mark.parametrize("has_batches", [True, False])
def test_without_a_socket_no_frame_is_blank_and_the_newest_wins(visit: Visit, has_batches: bool) -> None:
    without_sockets(visit.page)
    asked: list[Any] = []

    def batch(route: Route) -> None:
        asked.append(json.loads(route.request.post_data or "").get("style"))
        route.continue_() if has_batches else route.fulfill(status=404, json={"message": "none"})

    visit.page.route("**/tiles:batch", batch)
    view(visit, "quarters.ome.tif")
    restyle(visit)
    end = white_end(visit)
    visit.page.evaluate(WATCH)
    before, asked[:] = len(visit.requests), []
    newest = drag(visit, end)
    seen = np.asarray(visit.page.evaluate("window.seen"))
    assert len(seen) > 3
    assert seen.min() >= 240, "white stays white, whatever is dragged"
    tiles = [url for url in visit.tiles(before) if "/zxy/" in url]
    assert bool(asked) == has_batches == (not tiles)
    styles = asked or [json.loads(parse_qs(urlsplit(url).query)["style"][0]) for url in tiles]
    assert newest == min(style["bands"][3]["max"] for style in styles)
    assert visit.page.evaluate(STATE) == DONE
    # W is the last band, also of the look before, which the address may still name
    visit.until(lambda: kept_style(visit)["bands"][-1]["max"], lambda most: most == newest, newest)
    visit.forgive("status of 404")


def test_a_proxy_that_knows_no_sockets_is_enough(browser: Browser, plain_proxy: str) -> None:
    with browser.new_context(viewport=SIZE) as context:  # type: ignore[arg-type]
        visit = Visit(context.new_page(), plain_proxy)
        view(visit, "quarters.ome.tif")
        asked = len(visit.requests)
        visit.page.get_by_label("Show G").uncheck()
        shows_quarters(visit, RED, BLACK, BLUE, WHITE)
        visit.settle()
        assert [urlsplit(url).path.rpartition("/")[2] for url in visit.tiles(asked)] == ["tiles:batch"]
        assert visit.messages == []
        visit.forgive("WebSocket connection to")  # the browser's own words
        assert visit.complaints == []


def test_answers_to_an_older_look_are_passed_over(visit: Visit) -> None:
    tap = Tap(visit)
    view(visit, "quarters.ome.tif")
    visit.until(lambda: restyle(visit) or len(tap.said), lambda count: count >= 2, "messages")
    tap.holds = True
    visit.page.get_by_label("Colour of R").fill("#ff8000")
    visit.until(lambda: len(tap.held), lambda count: count > 2, "tiles, which are held back")
    visit.page.get_by_label("Colour of R").fill("#8000ff")
    number = tap.said[-1]["request"]
    visit.until(lambda: tap.said[-1]["request"], lambda now: now > number, "a message for the newer look")
    visit.until(
        lambda: [m for m in tap.held if isinstance(m, str) and json.loads(m)["request"] > number],
        bool,
        "all tiles of the newer look",
    )
    older = [m for m in tap.held if isinstance(m, bytes) and head(m)[0] == number]
    assert older
    shows_quarters(visit, RED, GREEN, BLUE, WHITE)  # the old look, as long as nothing has come
    for message in tap.held + older:
        tap.page.send(message)
    tap.held = []
    shows_quarters(visit, VIOLET, GREEN, BLUE, WHITE)
    visit.settle()
    assert visit.page.evaluate(STATE) == DONE


@pytest.mark.parametrize("let_through", [0, 1])
def test_a_server_that_lags_behind_works_at_one_look_at_a_time(visit: Visit, let_through: int) -> None:
    """Of each look a tile comes, or none: neither requests nor layers become many."""
    tap = Tap(visit)
    view(visit, "quarters.ome.tif")
    visit.until(lambda: restyle(visit) or len(tap.said), lambda count: count >= 2, "messages")
    end = white_end(visit)
    before = len(tap.said)

    def first_ones(message: str | bytes) -> None:
        if isinstance(message, bytes) and head(message)[1] < let_through:
            tap.page.send(message)

    def newer_ones(message: str | bytes) -> None:
        number = json.loads(message)["request"] if isinstance(message, str) else head(message)[0]
        if number > lagging:
            tap.page.send(message)

    tap.change = first_ones  # type: ignore[method-assign]
    for count in range(1, 10):
        visit.page.keyboard.press("ArrowLeft")
        newest = int(end.get_attribute("aria-valuenow") or -1)
        visit.until(
            lambda: tap.said[-1]["style"]["bands"][3]["max"], lambda most, to=newest: most == to, newest
        )
        assert len(tap.said) - before == count
        state = visit.page.evaluate(STATE)
        assert state["layers"] <= (7 if let_through else 3)
        assert state["jobs"] <= 1, "no batch of an older look is waited for"
    lagging = tap.said[-1]["request"]
    tap.change = newer_ones  # type: ignore[method-assign]
    visit.page.keyboard.press("ArrowLeft")
    visit.settle()
    assert visit.page.evaluate(STATE) == DONE
    shows_quarters(visit, RED, GREEN, BLUE, WHITE)


def test_a_view_that_moves_while_it_loads_asks_for_all_that_has_not_come(visit: Visit) -> None:
    tap = Tap(visit)
    view(visit, "quarters.ome.tif", "#z=0.3&x=512&y=512")
    visit.until(lambda: restyle(visit) or len(tap.said), lambda count: count >= 2, "messages")
    tap.holds, before = True, len(tap.said)
    visit.page.get_by_label("Show G").uncheck()
    visit.until(lambda: len(tap.said), lambda count: count > before, "a message")
    first = tap.said[before]["tiles"]
    visit.page.keyboard.press("+")
    visit.page.keyboard.press("+")
    last = visit.until(
        lambda: tap.said[-1]["tiles"], lambda tiles: len(tiles) > len(first), "tiles of another level too"
    )
    assert [place for place in first if place not in last] == []
    tap.release()
    shows_quarters(visit, RED, BLACK, BLUE, WHITE)
    visit.settle()
    assert visit.page.evaluate(STATE)["jobs"] == 0


def test_a_socket_that_is_lost_is_no_loss_and_is_opened_again(visit: Visit) -> None:
    tap = Tap(visit)
    view(visit, "quarters.ome.tif")
    visit.until(lambda: restyle(visit) or len(tap.said), lambda count: count >= 2, "messages")
    tap.holds, before = True, len(visit.requests)
    visit.page.get_by_label("Show G").uncheck()
    visit.until(lambda: len(tap.held), lambda count: count > 0, "answers, which are held back")
    tap.page.close()
    shows_quarters(visit, RED, BLACK, BLUE, WHITE)
    visit.settle()
    assert [url.rpartition(":")[2] for url in visit.tiles(before)] == ["batch"]
    tap.holds, said = False, len(tap.said)
    visit.until(lambda: restyle(visit) or len(tap.said), lambda count: count > said, "messages again")
    assert tap.opened == 2
    before = len(visit.requests)
    visit.page.get_by_label("Show G").check()
    shows_quarters(visit, RED, GREEN, BLUE, WHITE)
    assert visit.tiles(before) == []


def test_a_socket_that_says_nothing_is_given_up(visit: Visit) -> None:
    visit.page.clock.install()
    tap = Tap(visit)
    view(visit, "quarters.ome.tif")
    visit.until(lambda: restyle(visit) or len(tap.said), lambda count: count >= 2, "messages")
    tap.holds, before, said = True, len(visit.requests), len(tap.said)
    visit.page.get_by_label("Show G").uncheck()
    visit.until(lambda: len(tap.said), lambda count: count > said, "a message")
    assert visit.tiles(before) == []
    visit.page.clock.fast_forward(11_000)
    shows_quarters(visit, RED, BLACK, BLUE, WHITE)
    assert [url.rpartition(":")[2] for url in visit.tiles(before)] == ["batch"]


def test_a_look_that_is_refused_says_why(visit: Visit) -> None:
    tap = Tap(visit)
    view(visit, "quarters.ome.tif")
    visit.until(lambda: restyle(visit) or len(tap.said), lambda count: count >= 2, "messages")
    refusal = {"message": "busy today", "type": "rest"}
    visit.page.route(EVERYTHING, lambda route: route.fulfill(status=503, json=refusal))

    def refuse(message: str | bytes) -> None:
        if isinstance(message, str):
            tap.page.send(json.dumps(json.loads(message) | {"status": 503, **refusal}))

    tap.change = refuse  # type: ignore[method-assign]
    visit.page.get_by_label("Show G").uncheck()
    notice = visit.page.locator("#notice")
    visit.until(notice.inner_text, lambda text: "busy today" in text, "the reason")
    shows_quarters(visit, RED, GREEN, BLUE, WHITE)  # what was seen stays
    assert visit.page.evaluate(STATE) == DONE
    del tap.change
    visit.page.unroute_all()
    visit.page.get_by_label("Show B").uncheck()
    shows_quarters(visit, RED, BLACK, BLACK, WHITE)
    assert notice.is_hidden()
    visit.forgive("status of 503", "failed to load")


@pytest.mark.parametrize("over", ["socket", "single tiles"])
def test_a_tile_that_fails_leaves_the_others_and_is_told(visit: Visit, over: str) -> None:
    refusal = {"message": "this tile is damaged", "type": "rest"}
    visit.page.route(
        lambda url: "/zxy/2/0/0" in url and "style" in url,
        lambda route: route.fulfill(status=422, json=refusal),
    )
    if over == "socket":
        tap = Tap(visit)

        def damage(message: str | bytes) -> None:
            if isinstance(message, bytes):
                number, place, _ = head(message)
                if tap.said[-1]["tiles"][place] == [2, 0, 0]:
                    message = struct.pack("<III", number, place, 422) + json.dumps(refusal).encode()
            tap.page.send(message)

        tap.change = damage  # type: ignore[method-assign]
    else:
        without_sockets(visit.page)
        visit.page.route("**/tiles:batch", lambda route: route.fulfill(status=404, json={}))
    view(visit, "quarters.ome.tif")
    visit.page.get_by_label("Show G").uncheck()
    visit.shows(*QUARTERS[1], BLACK)
    visit.settle()
    notice = visit.page.locator("#notice")
    visit.until(notice.inner_text, lambda text: "this tile is damaged" in text, "the reason")
    visit.forgive("422", "404", "failed to load")


@pytest.mark.parametrize("has_batches", [True, False])
def test_requests_that_are_superseded_are_given_up(visit: Visit, has_batches: bool) -> None:
    without_sockets(visit.page)
    view(visit, "quarters.ome.tif")
    page = visit.page
    first: list[Route] = []
    second: list[Route] = []

    def hold(route: Route) -> None:
        """Tiles of looks with two colours do not come; other batches are refused: tile by tile then."""
        asked = route.request.url + (route.request.post_data or "")
        is_batch = ":batch" in asked
        if is_batch and not has_batches:
            route.fulfill(status=404, json={"message": "no batches", "type": "rest"})
        elif "ff8000" in asked or "8000ff" in asked:
            (first if "ff8000" in asked else second).append(route)
        else:
            route.continue_()

    def given_up() -> int:
        return len([url for url in visit.aborted if EVERYTHING.search(url)])

    page.route(EVERYTHING, hold)
    page.get_by_label("Colour of R").fill("#ff8000")
    visit.until(lambda: len(first), lambda count: count > 0, "requests")
    page.get_by_label("Colour of R").fill("#8000ff")
    visit.until(
        given_up, lambda count: count == len(first), "the first given up, before the second have come"
    )
    visit.until(lambda: len(second), lambda count: count > 0, "requests")
    shows_quarters(visit, RED, GREEN, BLUE, WHITE)
    page.get_by_label("Colour of R").fill("#0000ff")
    visit.shows(*QUARTERS[0], BLUE)
    visit.settle()
    assert given_up() == len(first) + len(second)
    assert page.evaluate(STATE) == DONE
    page.unroute_all()
    page.get_by_label("Colour of R").fill("#ff8000")  # what was given up is asked for again
    visit.shows(*QUARTERS[0], ORANGE)
    visit.forgive("status of 404")


def test_tiles_of_a_batch_may_come_in_any_order(visit: Visit) -> None:
    """The batch is answered here from single tiles, in the wrong order and in pieces of one answer."""
    page, asked = visit.page, []
    item = ids(visit.base)["quarters.ome.tif"]

    def batch(route: Route) -> None:
        body = json.loads(route.request.post_data or "")
        asked.append(body)
        parts = b""
        for index, (z, x, y) in reversed(list(enumerate(body["tiles"]))):
            query = {"style": json.dumps(body["style"]), "edge": body["edge"], "encoding": body["encoding"]}
            tile = page.request.get(f"{visit.base}/item/{item}/tiles/zxy/{z}/{x}/{y}", params=query)
            parts += struct.pack("<III", index, tile.status, len(tile.body())) + tile.body()
        route.fulfill(status=200, content_type="application/octet-stream", body=parts)

    without_sockets(page)
    view(visit, "quarters.ome.tif")
    page.route("**/tiles:batch", batch)
    before = len(visit.requests)
    page.get_by_label("Show G").uncheck()
    shows_quarters(visit, RED, BLACK, BLUE, WHITE)
    assert len(asked) == len(visit.tiles(before)) == 1
    assert len(asked[0]["tiles"]) > 1
    assert [band["channel"] for band in asked[0]["style"]["bands"]] == [0, 2, 3]


@pytest.mark.parametrize("density", [1, 2])
def test_a_new_look_asks_for_tiles_of_one_level(server: str, browser: Browser, density: int) -> None:
    with browser.new_context(viewport=SIZE, device_scale_factor=density) as context:  # type: ignore[arg-type]
        visit = Visit(context.new_page(), server)
        view(visit, "quarters.ome.tif", "#z=0.3&x=512&y=512")
        before = joined(visit)
        visit.page.get_by_label("Show G").uncheck()
        visit.shows(0.6, 0.4, BLACK)
        visit.settle()
        (look,) = visit.messages[before:]
        columns = range({1: 2, 2: 4}[density])
        assert sorted(look["tiles"]) == [[density, x, y] for x in columns for y in columns]
