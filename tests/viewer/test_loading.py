"""First views, pans and zooms: few requests for many tiles, none of them twice, whatever goes wrong."""

from __future__ import annotations

import json
import struct
from typing import Any

import pytest
from playwright.sync_api import Route

from tests.browser import Visit, ids
from tests.viewer.scene import BLACK, BLUE, GREEN, RED, WHITE, shows_quarters, view

MIDDLE = "#z=0.5&x=1024&y=1024"  # all but a rim of the image, at its full resolution
CORNER = "#z=1&x=500&y=700"


def places(visit: Visit) -> list[tuple[int, ...]]:
    """Return all tiles that were asked for, in batches."""
    return [tuple(place) for batch in visit.batches for place in batch["tiles"]]


def drag(visit: Visit, across: int, down: int) -> None:
    """Drag the image with the mouse; what was asked for has come at the end."""
    mouse = visit.page.mouse
    mouse.move(800, 420)
    mouse.down()
    mouse.move(800 + across, 420 + down, steps=10)
    mouse.up()
    visit.page.wait_for_function("() => OpenSeadragon.getViewer('osd').world.getItemAt(0).getFullyLoaded()")


def test_a_first_view_is_one_batch(tour: Visit) -> None:
    view(tour, "large.ome.tif", MIDDLE)
    shows_quarters(tour, RED, GREEN, BLUE, WHITE)
    assert [url.rpartition(":")[2] for url in tour.tiles()] == ["batch"]
    asked = places(tour)
    assert len([level for level, _, _ in asked if level == 4]) >= 150
    assert len(set(asked)) == len(asked)
    assert tour.messages == []


def test_a_pan_is_a_few_batches_and_nothing_is_asked_for_twice(tour: Visit) -> None:
    view(tour, "large.ome.tif", CORNER)
    tour.shows(0.5, 0.5, RED)
    before = len(places(tour))
    drag(tour, -600, -300)
    tour.shows(0.9, 0.2, GREEN)
    drag(tour, -600, -300)
    tour.shows(0.8, 0.7, WHITE)
    asked = places(tour)
    assert len(asked) - before >= 60
    assert len(set(asked)) == len(asked)
    # a drag goes on by itself for a while: as many batches as frames that show new columns, or rows
    assert len(tour.tiles()) <= 1 + len(asked[before:]) // 4
    assert [url for url in tour.tiles() if "/zxy/" in url] == []


def test_what_was_seen_is_not_asked_for_again(tour: Visit) -> None:
    view(tour, "large.ome.tif", MIDDLE)
    tour.page.keyboard.press("0")
    shows_quarters(tour, RED, GREEN, BLUE, WHITE)
    drag(tour, 0, 0)
    before = len(tour.tiles())
    for hash_ in (MIDDLE, CORNER, MIDDLE):
        tour.page.evaluate("(hash) => (location.hash = hash)", hash_)
        tour.shows(0.3, 0.2, RED)
        drag(tour, 0, 0)
    assert len(tour.tiles()) == before


@pytest.mark.parametrize("status", [403, 404, 405, 413, 502])
def test_where_no_batches_are_to_be_had_tiles_come_one_by_one(tour: Visit, status: int) -> None:
    tour.page.route("**/tiles:batch", lambda route: route.fulfill(status=status, body="not here"))
    view(tour, "large.ome.tif", CORNER)
    tour.shows(0.5, 0.5, RED)
    drag(tour, -600, 0)
    tour.shows(0.9, 0.2, GREEN)
    single = [url for url in tour.tiles() if "/zxy/" in url]
    assert len(set(single)) == len(single) == len(set(places(tour)) | set(map(placed, single)))
    is_known = status in (404, 405)  # to be the server's last word
    assert (len(tour.batches) == 1) == is_known
    tour.forgive(f"status of {status}")


def placed(url: str) -> tuple[int, ...]:
    """Return the place of a tile's address."""
    return tuple(int(part) for part in url.split("/zxy/")[1].split("?")[0].split("/"))


def answered(tour: Visit, asked: dict[str, Any]) -> list[bytes]:
    """Return the answer to a batch, as the parts of its tiles."""
    item = ids(tour.base)["large.ome.tif"]
    reply = tour.page.request.post(f"{tour.base}/item/{item}/tiles:batch", data=json.dumps(asked))
    body, parts = reply.body(), []
    while body:
        length = 12 + struct.unpack_from("<III", body)[2]
        parts.append(body[:length])
        body = body[length:]
    return parts


def refusing(tour: Visit, place: list[int], status: int, reason: str) -> None:
    """Let each batch bring the place's refusal, before the other tiles."""

    def batch(route: Route) -> None:
        asked = json.loads(route.request.post_data or "")
        parts = answered(tour, asked)
        at = asked["tiles"].index(place)
        refusal = json.dumps({"message": reason, "type": "rest"}).encode()
        others = [part for part in parts if struct.unpack_from("<I", part)[0] != at]
        body = b"".join([struct.pack("<III", at, status, len(refusal)) + refusal, *others])
        route.fulfill(content_type="application/octet-stream", body=body)

    tour.page.route("**/tiles:batch", batch)


def test_a_tile_that_is_damaged_leaves_the_others_and_is_told(tour: Visit) -> None:
    refusing(tour, [0, 0, 0], 422, "this tile is damaged")
    view(tour, "large.ome.tif", MIDDLE)
    shows_quarters(tour, RED, GREEN, BLUE, WHITE)
    notice = tour.page.locator("#notice")
    tour.until(notice.inner_text, lambda text: "this tile is damaged" in text, "the reason")
    assert [url for url in tour.tiles() if "/zxy/" in url] == [], "which no second question helps"
    tour.forgive("failed to load")


def test_a_tile_that_a_busy_server_refuses_is_asked_for_once_more(tour: Visit) -> None:
    refusing(tour, [4, 8, 8], 503, "busy")
    view(tour, "large.ome.tif", MIDDLE)
    shows_quarters(tour, RED, GREEN, BLUE, WHITE)
    assert [placed(url) for url in tour.tiles() if "/zxy/" in url] == [(4, 8, 8)]
    assert tour.page.locator("#notice").is_hidden()


@pytest.mark.parametrize("left", [0, 5])
def test_what_a_batch_that_breaks_off_leaves_out_comes_one_by_one(tour: Visit, left: int) -> None:
    def batch(route: Route) -> None:
        parts = answered(tour, json.loads(route.request.post_data or ""))
        route.fulfill(content_type="application/octet-stream", body=b"".join(parts[:left]) + b"\1\0")

    tour.page.route("**/tiles:batch", batch)
    view(tour, "large.ome.tif", MIDDLE)
    shows_quarters(tour, RED, GREEN, BLUE, WHITE)
    assert [url.rpartition(":")[2] for url in tour.tiles()][:1] == ["batch"]
    assert len(tour.tiles()) == 1 + len(places(tour)) - left


def test_a_first_view_that_is_not_wanted_any_more_is_given_up(tour: Visit) -> None:
    held: list[Route] = []
    tour.page.route("**/tiles:batch", lambda route: held.append(route))
    tour.page.goto(f"{tour.base}/view/{ids(tour.base)['large.ome.tif']}")
    tour.until(lambda: len(held), lambda count: count == 1, "the first view")
    tour.page.get_by_label("Show R").uncheck()
    tour.until(lambda: len(held), lambda count: count == 2, "the newer look")
    assert [url.rpartition(":")[2] for url in tour.aborted] == ["batch"]
    held[1].continue_()
    tour.settle()
    shows_quarters(tour, BLACK, GREEN, BLUE, WHITE)
    assert len(held) == 2
