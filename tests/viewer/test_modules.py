"""The viewer's modules by themselves, in Chromium: styles read and written, percentiles, round lengths."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from playwright.sync_api import Browser, Page


@pytest.fixture(scope="module")
def page(server: str, browser: Browser) -> Iterator[Page]:
    with browser.new_page() as page:
        page.goto(server)
        yield page


def call(page: Page, module: str, body: str, *arguments: Any) -> Any:
    """Return what ``body`` makes of a module ``m`` and of the arguments ``a``."""
    return page.evaluate(
        f"async (a) => {{ const m = await import('/viewer/{module}'); return {body}; }}", arguments
    )


def block(
    *labels: str, colours: tuple[str, ...] = ("0000FF", "00FF00", "FF0000", "FFFF00"), **window: float
) -> Any:
    limits = {"start": 0, "end": 65535, "min": 0, "max": 65535} | window
    channels = [
        {"label": label, "color": colour, "active": at < 4, "inverted": False, "window": limits}
        for at, (label, colour) in enumerate(zip(labels, colours, strict=False))
    ]
    return {"channels": channels, "rdefs": {"model": "color"}}


def facts(**more: Any) -> Any:
    return {"dtype": "uint16", "bandCount": 1, "sizeX": 100, "sizeY": 100, "levels": 1, **more}


FRAMES = facts(
    omero=block("A", "B", "C"),
    IndexRange={"IndexC": 3, "IndexZ": 2},
    IndexStride={"IndexC": 1, "IndexZ": 3},
    frames=[{"Frame": at, "IndexC": at % 3, "IndexZ": at // 3} for at in range(6)],
)
SAMPLES = facts(omero=block("A", "B"), bandCount=2)
COLOUR = facts(
    omero=block("Red", "Green", "Blue", colours=("FF0000", "00FF00", "0000FF"), end=255, max=255),
    bandCount=3,
    dtype="uint8",
)
PALETTE = facts(dtype="uint8")
ROUND = """import("/viewer/look.js").then(({ lookOf, styleOf }) => {
  const look = lookOf(a[0]);
  m.readStyle(look, a[1]);
  return styleOf(look);
})"""


def bands(*entries: Any) -> Any:
    return {"bands": list(entries)}


def band(channel: int, **more: Any) -> Any:
    plain = {"channel": channel, "min": 0, "max": 100, "palette": "#0000ff", "composite": "additive"}
    return plain | more


AUTO = {"min": "min:0.001", "max": "max:0.001"}
RED, GREEN, BLUE = (
    {"band": name, "min": 0, "max": 100, "palette": colour, "composite": "additive"}
    for name, colour in (("red", "#ff0000"), ("green", "#00ff00"), ("blue", "#0000ff"))
)


@pytest.mark.parametrize(
    ("image", "style"),
    [
        (FRAMES, bands(band(0))),
        (FRAMES, bands(band(0), band(2, palette="#00ff00", gamma=0.5, opacity=0.25))),
        (FRAMES, bands(band(1, composite="screen"), band(2, composite="screen"))),
        (FRAMES, bands(band(1, palette=["#ff0000", "#000000"]))),
        (FRAMES, bands(band(1, palette="viridis"))),
        (FRAMES, bands(band(1, palette=["#0000ff", "#ff00ff", "#ffffff"]))),
        (FRAMES, bands(band(1, **AUTO))),
        (FRAMES, bands(band(1, min="min:0.02", max="max"))),
        (FRAMES, bands(band(1, min="auto:0.05", max="auto"), band(2, min="full", max="full"))),
        (FRAMES, bands(band(1, min=5, max="max:0.1"))),  # kept as it is
        (FRAMES, bands()),
        (FRAMES, bands(band(0), band(0, palette="#ff0000"))),  # the panel cannot say it: kept as it is
        (FRAMES, bands(band(0), band(1, composite="multiply"))),
        (FRAMES, bands(band(0, composite="lighten"), band(1, composite="multiply"))),
        (FRAMES, bands(band(0, composite="multiply"), band(1, composite="multiply"))),  # which is black
        (FRAMES, bands(band(0, min="full"))),
        (FRAMES, bands(band(0, clamp=False))),
        (FRAMES, bands(band(0, nodata=0), band(1))),
        (FRAMES, bands(band(0, scheme="discrete"))),
        (FRAMES, {**bands(band(0)), "dtype": "uint8"}),
        (FRAMES, {**bands(band(0)), "icc": False}),
        (FRAMES, {"min": 0, "max": 7, "palette": "jet"}),
        (FRAMES, {}),
        (SAMPLES, bands(band(1))),
        (COLOUR, bands(RED, GREEN, BLUE)),
        (COLOUR, bands(*({**entry, "gamma": 2} for entry in (RED, GREEN, BLUE)))),
        (
            COLOUR,
            bands(*({**entry, "palette": [entry["palette"], "#000000"]} for entry in (RED, GREEN, BLUE))),
        ),
        (COLOUR, {**bands(RED, GREEN, BLUE), "icc": False}),
        (COLOUR, {"icc": False}),
        (COLOUR, {"icc": "saturation"}),
        (COLOUR, {**bands(RED, GREEN, BLUE), "icc": "relative_colorimetric"}),
        (COLOUR, bands(GREEN, BLUE, RED)),
        (COLOUR, bands(RED, GREEN, {**BLUE, "palette": "#00ffff"})),
        (COLOUR, bands({**RED, "composite": "lighten"}, GREEN, BLUE)),
        (COLOUR, bands(RED, {**GREEN, "gamma": 2}, BLUE)),
        (COLOUR, bands(RED, GREEN, {**BLUE, "clamp": False})),
        (COLOUR, {"dtype": "uint16"}),
        (COLOUR, bands(RED)),
        (COLOUR, bands(RED, {**GREEN, "max": 50}, BLUE)),
        (PALETTE, {"palette": "viridis"}),
    ],
)
def test_a_style_that_is_read_is_written_again(page: Page, image: Any, style: Any) -> None:
    made = call(page, "reading.js", ROUND, image, style)
    if image is COLOUR and "bands" in style:  # brightness and contrast are kept in thousandths
        for ours, theirs in zip(made["bands"], style["bands"], strict=True):
            for end in ("min", "max"):
                assert ours.pop(end) == pytest.approx(theirs[end], abs=0.5)
        style = {
            **style,
            "bands": [{k: v for k, v in each.items() if k not in ("min", "max")} for each in style["bands"]],
        }
    assert made == style


@pytest.mark.parametrize(
    ("image", "given", "made"),
    [
        (FRAMES, bands({"framedelta": 1, "palette": "#F00", "min": "5", "max": 9}), [(1, 5, 9, "#ff0000")]),
        (FRAMES, bands({"frame": 2, "min": 5, "max": 9}), [(2, 5, 9, "#ffffff")]),
        (FRAMES, bands({"channel": "B", "palette": ["#000", "#0F0"]}), [(1, "auto", "auto", "#00ff00")]),
        (
            FRAMES,
            bands({"channel": 0, "autoRange": 0.2, "palette": "#00f"}),
            [(0, "min:0.002", "max:0.002", "#0000ff")],
        ),
        (SAMPLES, bands({"band": 2, "min": 1, "max": 2, "palette": "#123456"}), [(1, 1, 2, "#123456")]),
    ],
)
def test_large_images_styles_become_channels(page: Page, image: Any, given: Any, made: Any) -> None:
    found = call(page, "reading.js", ROUND, image, given)["bands"]
    assert [(each["channel"], each["min"], each["max"], each["palette"]) for each in found] == made


READ_FOR = """import("/viewer/look.js").then(({ lookOf, moveTo, styleOf }) => {
  const look = lookOf(a[0]);
  moveTo(look, a[2]);
  m.readStyle(look, a[1], a[2]);
  return styleOf(look);
})"""


@pytest.mark.parametrize(
    ("frame", "given", "channels"),
    [
        (4, bands({"framedelta": 0}, {"framedelta": 1}), [1, 2]),
        (5, bands({"framedelta": -2}), [0]),
        (3, bands({"frame": 5}), [2]),
        (1, bands({"framedelta": 3}), [{"framedelta": 4}]),  # of another z, from where the look is
        (4, bands({"frame": 0}), [{"frame": 0}]),
        (5, bands({"framedelta": 0}, {"framedelta": -3}), [{"framedelta": 2}, {"framedelta": -1}]),
        (99, bands({"framedelta": 1}), [1]),  # there is no such frame: the first one
    ],
)
def test_a_style_for_a_frame_counts_from_that_frame(
    page: Page, frame: int, given: Any, channels: list[Any]
) -> None:
    found = call(page, "reading.js", READ_FOR, FRAMES, given, frame)["bands"]
    assert [each.get("channel", each) for each in found] == channels


def test_a_style_of_one_band_for_a_frame_stays_that_frames(page: Page) -> None:
    given = {"min": 1, "max": 2, "palette": "jet"}
    assert call(page, "reading.js", READ_FOR, FRAMES, given, 5) == {**given, "framedelta": 2}


def test_channels_without_a_colour_of_their_own_are_told_apart(page: Page) -> None:
    white = ("FFFFFF",) * 12
    many = facts(omero=block(*"ABCDEFGHIJKL", colours=white), channelColors=[*[None] * 10, "#FFFFFF", None])
    colours = call(page, "look.js", "m.lookOf(a[0]).channels.map((entry) => entry.colour)", many)
    assert colours[:4] == ["#ffffff"] * 4, "those of the default look are the server's"
    assert len(set(colours[4:10])) == 6
    assert colours[10] == "#ffffff"
    assert "#ffffff" not in [*colours[4:10], colours[11]]


OMERO = {
    "channels": [
        {"active": True, "color": "FF8000", "window": {"start": 5, "end": 50, "min": 0, "max": 255}},
        {"active": False, "color": "00FF00", "window": {"start": 0, "end": 1}},
        {"color": "0000FFFF", "inverted": True, "family": "polynomial", "coefficient": 2},
    ],
    "rdefs": {"model": "color"},
}
SHOWN = [
    {"channel": 0, "min": 5, "max": 50, "palette": "#ff8000", "composite": "additive"},
    {
        "channel": 2,
        "min": "auto",
        "max": "auto",
        "palette": ["#0000ff", "#000000"],
        "composite": "additive",
        "gamma": 2,
    },
]


@pytest.mark.parametrize("given", [OMERO, {"omero": OMERO}])
def test_omeros_rendering_settings_become_channels(page: Page, given: Any) -> None:
    assert call(page, "reading.js", ROUND, FRAMES, given)["bands"] == SHOWN
    grey = {**OMERO, "rdefs": {"model": "greyscale"}}
    assert call(page, "reading.js", ROUND, FRAMES, grey)["bands"] == [{**SHOWN[0], "palette": "#ffffff"}]


RENDERED = {  # as `omero render info` tells it
    "version": 2,
    "greyscale": False,
    "channels": {
        "1": {"active": True, "label": "A", "color": "FF8000", "start": 5, "end": 50},
        "3": {"color": "0000FF", "inverted": True, "family": "polynomial", "coefficient": 2},
    },
}


def test_settings_of_numbered_channels_become_channels(page: Page) -> None:
    assert call(page, "reading.js", ROUND, FRAMES, RENDERED)["bands"] == SHOWN
    grey = {**RENDERED, "greyscale": True}
    assert call(page, "reading.js", ROUND, FRAMES, grey)["bands"] == [{**SHOWN[0], "palette": "#ffffff"}]


@pytest.mark.parametrize(
    ("version", "ends", "window"),
    [
        (2, {"start": 5, "end": 50, "min": 0, "max": 255}, (5, 50)),
        (2, {"min": 0, "max": 255}, None),  # which are the values' own there
        (1, {"min": 5, "max": 50}, (5, 50)),
        (None, {"min": 5, "max": 50}, (5, 50)),
        (None, {"start": 5, "end": 50}, (5, 50)),
        (2, {"start": 5}, None),
    ],
)
def test_windows_of_numbered_channels_are_those_of_their_version(
    page: Page, version: int | None, ends: dict[str, int], window: tuple[int, int] | None
) -> None:
    given = {"channels": {"1": {"color": "FF0000", **ends}}, **({"version": version} if version else {})}
    (band,) = call(page, "reading.js", ROUND, FRAMES, given)["bands"]
    assert (band["min"], band["max"]) == (window or ("auto", "auto"))


@pytest.mark.parametrize("number", ["0", "-1", "1.5", "x", "1000000000"])
def test_channels_of_other_numbers_are_no_settings(page: Page, number: str) -> None:
    given = {"version": 2, "channels": {number: {"color": "FF0000"}}}
    assert call(page, "omero.js", "m.blockOf(a[0])", given) is None


def test_the_default_look_is_no_style_until_something_is_touched_or_moved(page: Page) -> None:
    body = "(() => { const l = m.lookOf(a[0]); Object.assign(l, a[1]); return m.styleOf(l); })()"
    assert call(page, "look.js", body, FRAMES, {}) is None
    touched = call(page, "look.js", body, FRAMES, {"touched": True})
    assert [(each["channel"], each["palette"], each["min"]) for each in touched["bands"]] == [
        (0, "#0000ff", "min:0.001"),
        (1, "#00ff00", "min:0.001"),
        (2, "#ff0000", "min:0.001"),
    ]
    moved = call(page, "look.js", body, FRAMES, {"position": {"IndexC": 0, "IndexZ": 1}})
    assert moved == touched
    assert call(page, "look.js", body, COLOUR, {"touched": True}) is None
    assert call(page, "look.js", body, PALETTE, {"touched": True}) is None


def test_windows_of_the_file_are_taken_over(page: Page) -> None:
    image = facts(omero=block("A", start=100, end=200))
    body = "m.styleOf({ ...m.lookOf(a[0]), touched: true })"
    (found,) = call(page, "look.js", body, image)["bands"]
    assert (found["min"], found["max"]) == (100, 200)


def test_a_frame_is_a_position_and_back(page: Page) -> None:
    moved = "(() => { const l = m.lookOf(a[0]); m.moveTo(l, a[1]); return l; })()"
    body = f"(([l]) => [m.frameOf(l), l.position, l.axes])([{moved}])"
    assert call(page, "look.js", body, FRAMES, 4) == [3, {"IndexC": 0, "IndexZ": 1}, ["IndexZ"]]
    assert call(page, "look.js", body, FRAMES, 99) == [0, {"IndexC": 0, "IndexZ": 0}, ["IndexZ"]]
    stored = {key: value for key, value in FRAMES.items() if key != "omero"}
    assert call(page, "look.js", body, stored, 4) == [4, {"IndexC": 1, "IndexZ": 1}, ["IndexC", "IndexZ"]]


@pytest.mark.parametrize("share", [0.001, 0.01, 0.25])
def test_percentiles_of_a_histogram_are_within_a_bin_of_the_values(page: Page, share: float) -> None:
    values = np.random.default_rng(5).gamma(2.0, 300.0, 100_000)
    counts, edges = np.histogram(values, 256)
    measure = {
        "counts": counts.tolist(), "range": [edges[0], edges[-1]], "width": edges[1] - edges[0],
        "total": len(values), "below": 0,
    }  # fmt: skip
    found = call(page, "measure.js", "m.percentiles(a[0], a[1])", measure, share)
    wanted = np.quantile(values, [share, 1 - share])
    assert np.abs(np.subtract(found, wanted)).max() <= measure["width"]


def test_percentiles_of_one_value_are_a_window(page: Page) -> None:
    measure = {"counts": [100], "range": [7, 8], "width": 1, "total": 100, "below": 0}
    low, high = call(page, "measure.js", "m.percentiles(a[0], a[1])", measure, 0.001)
    assert 7 <= low < high <= 8
    empty = {"counts": [0, 0], "range": [0, 1], "width": 0.5, "total": 0, "below": 0}
    low, high = call(page, "measure.js", "m.percentiles(a[0], a[1])", empty, 0.001)
    assert low < high


@pytest.mark.parametrize(
    ("most", "length"), [(140, 100), (99, 50), (50, 50), (49, 20), (0.19, 0.1), (7000, 5000), (1, 1)]
)
def test_bars_have_round_lengths(page: Page, most: float, length: float) -> None:
    assert call(page, "scale.js", "m.roundLength(a[0])", most) == pytest.approx(length)


@pytest.mark.parametrize(
    ("count", "text"), [(0, "0 B"), (1023, "1023 B"), (1536, "1.5 KiB"), (300 << 20, "300 MiB")]
)
def test_bytes_are_written_as_people_read_them(page: Page, count: int, text: str) -> None:
    assert call(page, "dom.js", "m.bytes(a[0])", count) == text


SOCKETS = """
async () => {
  const sockets = [];
  class Socket {
    static OPEN = 1;
    readyState = 1;
    bufferedAmount = 0;
    sent = [];
    constructor(address) { this.address = address; sockets.push(this); }
    send(text) { this.sent.push(JSON.parse(text)); }
    close() { this.readyState = 3; }
  }
  window.WebSocket = Socket;
  const { Live } = await import("/viewer/live.js");
  window.told = [];
  window.live = new Live("item/abc/live");
  window.sockets = sockets;
  window.ask = (look) => window.live.ask({ look }, {
    tile: (place, status, data) => window.told.push([look, place, status, [...data]]),
    end: ({ status, message }) => window.told.push([look, "end", status, message ?? null]),
    lost: () => window.told.push([look, "lost"]),
  });
  window.hear = (...words) => {
    const message = new Uint8Array([...new Uint8Array(new Uint32Array(words).buffer), 7, 8]);
    sockets.at(-1).onmessage({ data: message.buffer });
  };
}
"""


@pytest.fixture
def sockets(page: Page, browser: Browser) -> Iterator[Page]:
    """A page whose sockets are played, with one that is open, and time that stands still."""
    with browser.new_context() as context:
        other = context.new_page()
        other.clock.install(time=0)
        other.goto(page.url)
        other.clock.pause_at(10_000)
        other.evaluate(SOCKETS)
        yield other


def sent(page: Page, number: int = 0) -> Any:
    return page.evaluate(f"sockets[{number}].sent")


def test_a_message_waits_while_others_are_on_their_way_out_and_the_newest_goes(sockets: Page) -> None:
    address = sockets.evaluate("sockets[0].address")
    assert address == sockets.url.replace("http", "ws", 1) + "item/abc/live"
    sockets.evaluate("ask('a'); sockets[0].bufferedAmount = 1e6; for (const look of 'bcdef') ask(look)")
    sockets.clock.run_for(500)
    assert sent(sockets) == [{"request": 1, "look": "a"}]
    sockets.evaluate("sockets[0].bufferedAmount = 0")
    sockets.clock.run_for(50)
    assert sent(sockets) == [{"request": 1, "look": "a"}, {"request": 6, "look": "f"}]
    sockets.clock.run_for(500)
    assert len(sent(sockets)) == 2


def test_only_the_newest_question_hears_of_its_tiles(sockets: Page) -> None:
    sockets.evaluate("ask('a'); ask('b'); hear(1, 0, 200); hear(2, 3, 200); hear(2, 1, 422)")
    sockets.evaluate("sockets[0].onmessage({ data: JSON.stringify({ request: 1, status: 200 }) })")
    ended = {"request": 2, "status": 503, "message": "busy"}
    sockets.evaluate("(told) => sockets[0].onmessage({ data: JSON.stringify(told) })", ended)
    sockets.evaluate("hear(2, 5, 200)")
    assert sockets.evaluate("told") == [
        ["b", 3, 200, [7, 8]],
        ["b", 1, 422, [7, 8]],
        ["b", "end", 503, "busy"],
    ]
    sockets.clock.run_for(30_000)
    assert sockets.evaluate("[live.isOpen, told.length, sockets.length]") == [True, 3, 1]


def test_a_silent_socket_is_lost_however_often_it_is_asked(sockets: Page) -> None:
    sockets.evaluate("ask('a')")
    for look in "bcdefghi":
        sockets.clock.run_for(1000)
        sockets.evaluate("(look) => ask(look)", look)
    assert sockets.evaluate("told") == []
    sockets.clock.run_for(2000)
    assert sockets.evaluate("told") == [["i", "lost"]]
    assert sockets.evaluate("[live.isOpen, sockets.length, sockets[0].readyState]") == [False, 1, 3]


def test_a_lost_socket_is_opened_when_it_is_needed_and_less_and_less_often(sockets: Page) -> None:
    sockets.evaluate("sockets[0].readyState = 3; sockets[0].onclose()")
    waits = []
    for _ in range(9):
        before, waited = sockets.evaluate("sockets.length"), 0
        while sockets.evaluate("live.isOpen; sockets.length") == before:
            sockets.clock.run_for(500)
            waited += 500
        waits.append(waited / 1000)
        sockets.evaluate("sockets.at(-1).readyState = 3; sockets.at(-1).onclose()")
    assert waits == [1, 2, 4, 8, 16, 32, 60, 60, 60]
    sockets.clock.run_for(60_000)
    sockets.evaluate("live.isOpen; ask('a'); hear(1, 0, 200); sockets.at(-1).onclose()")
    assert sockets.evaluate("told.at(-1)") == ["a", "lost"]
    count = sockets.evaluate("sockets.length")
    sockets.clock.run_for(1000)
    assert sockets.evaluate("live.isOpen; sockets.length") == count + 1, "it worked: soon again"


def test_where_a_page_may_have_no_socket_it_does_without(sockets: Page) -> None:
    refusing = "class { static OPEN = 1; constructor() { throw new DOMException('no', 'SecurityError'); } }"
    sockets.evaluate(f"window.WebSocket = {refusing}; sockets[0].onclose()")
    sockets.clock.run_for(2000)
    assert sockets.evaluate("live.isOpen") is False
