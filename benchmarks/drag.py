"""Drag a channel's window in the viewer, in a headless Chromium, over 8 resident channels.

Run: ``python -m benchmarks.drag [--seconds N] [--size N] [--workers N] [--http]`` after ``make viewer``,
where ``playwright`` is installed beside gputiles and there is a ``chromium``. The image fills a window of
1280 × 800 pixels at about its native resolution. Prints how many looks became whole in a second, and
the milliseconds from the wish for a look to its last tile. Chromium draws on the same processor: the
figures are those of a person with browser and server on one machine. Looks go over the socket; with
``--http`` there is none, and each is a batch.
"""

from __future__ import annotations

import argparse
import json
import math
import shutil
import statistics
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

from playwright.sync_api import Page, Request, WebSocket, sync_playwright

import gputiles
from benchmarks import process
from benchmarks.http_load import fetched
from benchmarks.pairs import PixelsDiffer
from gputiles.sample import write_sample
from gputiles.tissue import CHANNELS
from gputiles.walk import walk

STEP = 16  # milliseconds between two moves of the mouse
OBSERVE = """
() => {
  const isSeen = window.looks !== undefined;
  window.looks = [];
  if (isSeen) return;
  const keep = (list) => list.getEntriesByName("look").forEach(({ startTime, duration }) =>
    window.looks.push([startTime, duration]));
  new PerformanceObserver(keep).observe({ entryTypes: ["measure"] });
}
"""


def drag(page: Page, seconds: float) -> list[tuple[float, float]]:
    """Drag to and fro; return (when it was wished for, milliseconds until its last tile) of each look."""
    histogram = page.locator(".channel .histogram").first
    histogram.scroll_into_view_if_needed()
    box = histogram.bounding_box()
    assert box is not None
    middle, reach = box["x"] + box["width"] * 0.6, box["width"] * 0.3
    end = page.get_by_role("slider").nth(1).bounding_box()
    assert end is not None
    page.mouse.move(end["x"] + end["width"] / 2, end["y"] + end["height"] / 2)
    page.mouse.down()
    page.evaluate(OBSERVE)
    for move in range(int(seconds * 1000 / STEP)):
        page.mouse.move(middle + reach * math.sin(move / 20), box["y"] + 20)
        page.wait_for_timeout(STEP)
    page.mouse.up()
    page.wait_for_selector("body[data-settled=yes]")
    looks: list[tuple[float, float]] = page.evaluate("window.looks")
    return looks


@contextmanager
def viewer(address: str, has_sockets: bool) -> Iterator[tuple[Page, Counter[str]]]:
    """Open the viewer with all channels on; give the page, and counts of what it asks for."""
    asked: Counter[str] = Counter()

    def count(request: Request) -> None:
        asked["batch"] += request.url.endswith("/tiles:batch")

    def count_messages(socket: WebSocket) -> None:
        socket.on("framesent", lambda _: asked.update(["message"]))

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1280, "height": 800})
        page.on("request", count)
        page.on("websocket", count_messages)
        if not has_sockets:
            page.route_web_socket("**/live", lambda socket: socket.close())
        page.goto(address)
        page.wait_for_selector("body[data-settled=yes]")
        for box in page.get_by_role("checkbox", name="Show").all():
            box.check()
        page.wait_for_selector("body[data-settled=yes]")
        page.wait_for_timeout(1500)  # histograms
        yield page, asked
        browser.close()


def look(address: str, seconds: float, has_sockets: bool) -> dict[str, float]:
    """Drag in the viewer, and return the figures."""
    with viewer(address, has_sockets) as (page, asked):
        drag(page, 1)  # everything resident, everything compiled
        asked.clear()
        looks = drag(page, seconds)
    times = sorted(duration for _, duration in looks)
    span = (looks[-1][0] + looks[-1][1] - looks[0][0]) / 1000
    return {
        "looks": len(looks),
        "messages": asked["message"],
        "batches": asked["batch"],
        "looks a second": round(len(looks) / span, 1),
        "wish to last tile, median ms": round(statistics.median(times), 1),
        "90 % ms": round(times[int(0.9 * (len(times) - 1))], 1),
        "most ms": round(times[-1], 1),
    }


def check(path: Path, tiles: str) -> None:
    """Raise PixelsDiffer unless a tile with all channels on, below ``tiles``, is the engine's own."""
    style = json.dumps({"bands": [{"frame": frame, "palette": "#fff"} for frame in range(len(CHANNELS))]})
    with gputiles.open(path) as image:
        z = image.info.levels - 1
        expected = image.tile(z, 0, 0, style=style, encoding="JPEG")
    if fetched(f"{tiles}/zxy/{z}/0/0?encoding=JPEG&style={quote(style)}") != expected:
        raise PixelsDiffer("drag: the server's tile is not the engine's")


def measured(
    folder: Path, size: int, seconds: float, *, workers: int = 0, http: bool = False
) -> dict[str, float]:
    """Write a sample of ``size``² into ``folder``, serve it, drag, and return the figures.

    Raises PixelsDiffer where the server draws something else than the engine.
    """
    path = (folder / f"sample-{size}.ome.tif").resolve()
    if not path.exists():
        write_sample(path, size)
    (item,) = walk([path])
    with process.gputiles(path, {"workers": str(workers)} if workers else {}) as server:
        check(path, f"{server.base}/item/{item}/tiles")
        half = size // 2
        return look(f"{server.base}/view/{item}#z=1&x={half}&y={half}", seconds, not http)


def main() -> None:
    """Measure, and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--size", type=int, default=4096)
    parser.add_argument("--workers", type=int, default=0, help="0: as many as the server takes")
    parser.add_argument("--http", action="store_true", help="without a socket")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        found = measured(
            Path(folder), options.size, options.seconds, workers=options.workers, http=options.http
        )
        print(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()
