"""Presets: what the store keeps, and what its routes take, give and refuse."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from io import BytesIO
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from aiohttp.test_utils import TestClient, TestServer

from gputiles import yamltext
from gputiles.app import create_app
from gputiles.config import Config
from gputiles.errors import LimitExceeded, Unavailable
from gputiles.presets import PresetStore

Client = TestClient[Any, Any]
ROOT = "/item/test/presets"
STYLE = {"bands": [{"framedelta": 1, "palette": "#FF0000", "min": 18000, "max": 43000}]}
GROUPS = [{"name": "T cells", "channels": [3, 4]}, {"name": "µ/;:", "channels": []}]
THEIRS = {"name": "3 channels", "frame": 2, "mode": {"id": 2, "name": "Channel Compositing"}, "style": STYLE}


def names(store: PresetStore, item: str) -> list[str]:
    return [preset.name for preset in store.all(item)]


def test_a_preset_is_its_items_and_the_newest_of_its_name() -> None:
    store = PresetStore(None)
    store.put("a", {"one": "{}"})
    store.put("a", {"two": "{}"})
    store.put("a", {"one": '{"frame": 1}'})
    store.put("b", {"one": "{}"})
    assert sorted(names(store, "a")) == ["one", "two"]
    found = store.get("a", "one")
    assert found is not None
    assert found.body == '{"frame": 1}'
    assert store.delete("a", "one")
    assert not store.delete("a", "one")
    assert (store.get("a", "one"), names(store, "b")) == (None, ["one"])
    store.close()


def test_presets_outlive_the_process_in_the_file_of_the_styles(tmp_path: Path) -> None:
    first = PresetStore(tmp_path / "styles.sqlite")
    first.put("a", {"µ 日本": "{}"})
    first.close()
    second = PresetStore(tmp_path / "styles.sqlite")
    assert names(second, "a") == ["µ 日本"]
    second.close()


def test_too_many_presets_are_refused_and_none_is_dropped() -> None:
    store = PresetStore(None, most=2)
    store.put("a", {"one": "{}"})
    store.put("a", {"two": "{}"})
    with pytest.raises(LimitExceeded, match="presets: at most 2 of an item"):
        store.put("a", {"three": "{}"})
    store.put("a", {"two": '{"frame": 2}'})
    store.put("b", {"three": "{}"})
    assert sorted(names(store, "a")) == ["one", "two"]
    store.close()


@pytest.mark.parametrize("limits", [{"most": 3}, {"most_bytes": 12}])
def test_presets_that_come_together_are_kept_all_or_none(limits: dict[str, int]) -> None:
    store = PresetStore(None, **limits)
    store.put("a", {"one": "µ", "two": "{}"})
    store.put("b", {"other": "{}"})
    with pytest.raises(LimitExceeded):
        store.put("a", {"two": "[]", "three": "[]", "four": "[1,2,3]"})
    assert [(preset.name, preset.body) for preset in store.all("a")] == [("one", "µ"), ("two", "{}")]
    store.put("a", {"two": "[]", "one": "[2]", "three": "[]"})  # two of them stand in for others
    assert [(preset.name, preset.body) for preset in store.all("a")] == [
        ("two", "[]"), ("one", "[2]"), ("three", "[]"),
    ]  # fmt: skip
    assert names(store, "b") == ["other"]
    store.close()


def test_the_bytes_of_all_presets_are_bounded() -> None:
    store = PresetStore(None, most_bytes=50)
    store.put("a", {"one": "x" * 30})
    with pytest.raises(LimitExceeded, match="50 bytes in all"):
        store.put("b", {"two": "x" * 30})
    store.put("a", {"one": "x" * 50})
    with pytest.raises(LimitExceeded):
        store.put("a", {"one": "x" * 51})
    assert store.all("a")[0].body == "x" * 50
    store.close()


def test_a_store_that_cannot_be_opened_says_where_and_why(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match=r"The store of presets '.*' cannot be opened: .+"):
        PresetStore(tmp_path)


# -- over HTTP


@pytest.fixture
async def client() -> AsyncIterator[Client]:
    app = create_app(Config(tile_cache=1 << 20, raw_cache=1 << 22, workers=1))
    async with TestClient(TestServer(app)) as client:
        yield client


async def put(client: Client, name: str, body: object) -> tuple[int, Any]:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    reply = await client.put(f"{ROOT}/{quote(name, safe='')}", data=data)
    return reply.status, await reply.json()


@pytest.mark.parametrize("name", ["3 channels", "µ/3", "日本", "a;style=@b", "%2F", "x" * 120])
async def test_a_preset_comes_back_as_it_was_saved(client: Client, name: str) -> None:
    assert await (await client.get(ROOT)).json() == []
    status, answer = await put(client, name, THEIRS)
    assert (status, answer) == (200, {**THEIRS, "name": name})
    (listed,) = await (await client.get(ROOT)).json()
    assert listed.pop("saved") > 1.7e9
    assert listed == {**THEIRS, "name": name}
    path = f"{ROOT}/{quote(name, safe='')}"
    assert (await (await client.get(path)).json())["style"] == STYLE
    assert (await client.delete(path)).status == 200
    assert [(await client.get(path)).status, (await client.delete(path)).status] == [404, 404]


async def test_groups_of_channels_are_kept_with_a_preset(client: Client) -> None:
    status, answer = await put(client, "mine", THEIRS | {"groups": GROUPS, "more": 1})
    assert (status, answer) == (200, {**THEIRS, "groups": GROUPS, "name": "mine"})
    assert (await (await client.get(f"{ROOT}/mine")).json())["groups"] == GROUPS


@pytest.mark.parametrize(
    "groups",
    [
        {"T cells": [1]},
        [1],
        [{"name": "a"}],
        [{"name": "a", "channels": [1], "more": 2}],
        [{"name": "a", "channels": [-1]}],
        [{"name": "a", "channels": [True]}],
        [{"name": "a", "channels": ["1"]}],
        [{"name": "a", "channels": "12"}],
        [{"name": " ", "channels": [1]}],
        [{"name": "a\nb", "channels": [1]}],
        [{"name": "x" * 121, "channels": [1]}],
        [{"name": 1, "channels": [1]}],
        [{"name": "a", "channels": [0] * 10_001}],
        [{"name": "a", "channels": [1]}] * 201,
    ],
)
async def test_what_are_no_groups_is_refused_with_the_reason(client: Client, groups: object) -> None:
    status, answer = await put(client, "a", {"groups": groups})
    assert (status, answer["message"].split(":")[0]) == (400, "preset.groups")
    assert await (await client.get(ROOT)).json() == []


@pytest.mark.parametrize(
    ("name", "body", "status", "message"),
    [
        ("a", b"[", 400, "expected a JSON object"),
        ("a", b"[" * 100_000, 400, "expected a JSON object"),
        ("a", [], 400, "expected a JSON object such as"),
        ("a", {"frame": -1}, 400, "preset.frame: expected an integer from 0 on; got '-1'"),
        ("a", {"frame": True}, 400, "preset.frame"),
        ("a", {"frame": "1"}, 400, "preset.frame"),
        ("a", {"mode": 2}, 400, "preset.mode: expected an object"),
        ("a", {"style": {"bands": [{"min": "x"}]}}, 400, "bands[0].min"),
        ("a", {"style": []}, 400, "Style is not a valid json object"),
        ("a", b'{"mode": {"id": NaN}}', 400, "JSON"),
        ("a", b'{"style": {"x": 1e999}}', 400, "finite"),
        ("a", b'{"mode": ' + b'{"a": ' * 300 + b"1" + b"}" * 301, 400, "expected a JSON object such as"),
        ("a", b"\xff\xfe", 400, "expected a JSON object"),
        ("a", b" " * (256 * 1024 + 1), 413, "at most 262144 bytes"),
        (" ", {}, 400, "name: expected 1 to 120 printable characters"),
        ("x" * 121, {}, 400, "name"),
        ("a\n", {}, 400, "name"),
    ],
)
async def test_what_is_no_preset_is_refused_with_the_reason(
    client: Client, name: str, body: object, status: int, message: str
) -> None:
    got, answer = await put(client, name, body)
    assert got == status
    assert message in answer["message"]
    assert await (await client.get(ROOT)).json() == []


async def test_an_item_has_at_most_two_hundred(client: Client) -> None:
    for number in range(200):
        assert (await put(client, str(number), {}))[0] == 200
    status, answer = await put(client, "200", {})
    assert (status, answer["message"].split(";")[0]) == (
        413,
        "presets: at most 200 of an item, 268435456 bytes in all",
    )
    assert (await put(client, "199", {"frame": 1}))[0] == 200
    assert len(await (await client.get(ROOT)).json()) == 200


async def test_items_that_do_not_exist_have_none(client: Client) -> None:
    path = f"/item/{'0' * 24}/presets"
    for reply in (
        await client.get(path),
        await client.put(f"{path}/a", data=b"{}"),
        await client.delete(f"{path}/a"),
    ):
        assert reply.status == 404
    assert (await client.get("/api/v1/item/test/presets")).status == 200


async def test_other_hosts_may_save_and_delete(client: Client) -> None:
    reply = await client.options(f"{ROOT}/a")
    assert {"PUT", "DELETE"} <= set(reply.headers["Access-Control-Allow-Methods"].split(", "))


# -- files of presets

THEIR_YAML = """---
imageFramePresets:
- name: Frame control - Frame 4
  frame: 4
  mode: {id: 0, name: Frame}
- name: Auto Ranged Channels
  frame: 0
  mode:
    id: 2
    name: Channel Compositing
  style:
    bands:
    - {autoRange: 0.2, framedelta: 0, palette: "#0000FF"}
    - {autoRange: 1, framedelta: 1, palette: "#FF0000"}
itemList: {layout: {mode: grid}}
"""
RANGED = [
    {"framedelta": 0, "palette": "#0000FF", "min": "min:0.002", "max": "max:0.002"},
    {"framedelta": 1, "palette": "#FF0000", "min": "min:0.01", "max": "max:0.01"},
]
NUMBERED = """
version: 2
greyscale: false
channels:
  2: {active: true, color: FF00FF, start: 10, end: 500}
  3: {active: false, color: 00FFFF}
  4: {color: FFFF00}
"""


async def take(client: Client, text: str | bytes, query: str = "") -> tuple[int, Any]:
    data = BytesIO(text.encode() if isinstance(text, str) else text)
    reply = await client.post(f"{ROOT}{query}", data=data)
    return reply.status, await reply.json()


async def listed(client: Client) -> list[Any]:
    found: list[Any] = await (await client.get(ROOT)).json()
    for entry in found:
        assert entry.pop("saved") > 1.7e9
    return found


async def test_large_images_yaml_becomes_presets(client: Client) -> None:
    status, answer = await take(client, THEIR_YAML)
    assert status == 200
    assert [entry["name"] for entry in answer] == ["Frame control - Frame 4", "Auto Ranged Channels"]
    assert answer[0] == {"name": "Frame control - Frame 4", "frame": 4, "mode": {"id": 0, "name": "Frame"}}
    assert answer[1]["style"]["bands"] == RANGED
    assert await listed(client) == answer


@pytest.mark.parametrize(
    ("value", "names"),
    [
        ({"imageFramePresets": [THEIRS]}, ["3 channels"]),
        ([{"imageFramePresets": [THEIRS]}], ["3 channels"]),
        ([THEIRS, {**THEIRS, "name": "µ"}], ["3 channels", "µ"]),
        (THEIRS, ["3 channels"]),
        ([THEIRS, {**THEIRS, "frame": 5}], ["3 channels"]),
    ],
)
async def test_json_is_taken_in_all_its_forms(client: Client, value: Any, names: list[str]) -> None:
    status, answer = await take(client, json.dumps(value))
    assert (status, [entry["name"] for entry in answer]) == (200, names)
    assert await listed(client) == answer
    as_yaml = json.dumps(value, indent=2)
    assert yamltext.parse(as_yaml.encode()) == value, "what is exported as JSON is YAML too"


async def test_omeros_settings_become_a_preset_of_the_files_name(client: Client) -> None:
    status, (preset,) = await take(client, NUMBERED, "?name=from%20OMERO")
    assert (status, preset["name"]) == (200, "from OMERO")
    first, second = preset["style"]["bands"]
    assert (first["channel"], first["min"], first["max"]) == (1, 10, 500)
    assert first["palette"] == ["#000000", "#FF00FF"]
    assert (second["channel"], second["palette"]) == (3, ["#000000", "#FFFF00"])
    block = {"channels": [{"color": "00FF00", "window": {"start": 1, "end": 2}}], "rdefs": {}}
    for given in (
        block,
        {"omero": block},
        {"version": 1, "channels": {"1": {"color": "0F0", "min": 1, "max": 2}}},
    ):
        status, (preset,) = await take(client, json.dumps(given))
        assert (status, preset["name"]) == (200, "OMERO")
        (band,) = preset["style"]["bands"]
        assert (band["channel"], band["min"], band["max"], band["palette"][1]) == (0, 1, 2, "#00FF00")


@pytest.mark.parametrize(
    ("text", "status", "reason"),
    [
        ("[1", 400, "presets: expected JSON or YAML; "),
        ("[1", 400, "; YAML: "),
        ("", 400, "presets: expected a list of them, or one; got 'None'"),
        ("[]", 400, "presets: expected a list of them, or one"),
        ('{"imageFramePresets": null}', 400, "presets: expected a list of them, or one; got 'None'"),
        ("imageFramePresets: []", 400, "presets: expected a list of them, or one; got '[]'"),
        ("word", 400, "presets: expected a list of them, or one; got 'word'"),
        ('{"a": 1}', 400, "presets[0]: each needs a name"),
        ("a: &a [*a]", 400, "aliases"),
        ("- name: 7\n", 400, "presets[0]: each needs a name"),
        ("- {name: a}\n- 7\n", 400, "presets[1]: each needs a name"),
        ("- {name: a}\n- {name: b, frame: x}\n", 400, "presets[1].frame: expected an integer from 0 on"),
        ("- {name: a, style: {bands: [{autoRange: 101}]}}", 400, "bands[0].autoRange: expected percent"),
        ("- {name: a, style: {bands: [{autoRange: [1]}]}}", 400, "bands[0].autoRange: expected percent"),
        ("- {name: a, style: {bands: [{min: x}]}}", 400, "bands[0].min"),
        ("- {name: a, style: {bands: 7}}", 400, "bands"),
        ("- {name: a, mode: {id: .nan}}", 400, "finite"),
        ("channels: {1: {color: x}}", 400, "color"),
        ("channels: {1: 7}", 400, "channels[0]"),
        ("channels: {1: {start: 5, end: 1}}", 400, "expected a window"),
        ("channels: {99999: {}}", 400, "each needs a name"),
        ("#" * (1024 * 1024 + 1), 413, "presets: at most 1048576 bytes"),
        (json.dumps([{"name": str(n)} for n in range(201)]), 413, "presets: at most 200"),
        (json.dumps({"name": "a", "mode": {"x": "x" * 262_144}}), 413, "each of at most 262144 bytes"),
    ],
)
async def test_a_file_that_holds_no_presets_says_why_and_leaves_nothing(
    client: Client, text: str, status: int, reason: str
) -> None:
    got, answer = await take(client, text)
    assert (got, reason in answer["message"]) == (status, True), answer
    assert await listed(client) == []


async def test_a_file_is_taken_by_items_that_there_are_under_names_that_there_can_be(client: Client) -> None:
    assert (await client.post(f"/item/{'0' * 24}/presets", data=b"[]")).status == 404
    assert (await take(client, NUMBERED, "?name=%0A"))[0] == 400
    assert (await take(client, NUMBERED, f"?name={'x' * 121}"))[0] == 400


async def test_yaml_without_its_library_names_the_extra_and_json_is_taken_all_the_same(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(yamltext, "_library", lambda: None)
    status, answer = await take(client, THEIR_YAML)
    assert (status, "pip install 'gputiles[yaml]'" in answer["message"]) == (415, True)
    assert (await take(client, json.dumps(THEIRS)))[0] == 200
