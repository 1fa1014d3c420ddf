"""Presets that images have from large_image's configuration in their folders."""

from __future__ import annotations

import logging
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from aiohttp.test_utils import TestClient, TestServer

from gputiles import folderconfig, yamltext
from gputiles.app import create_app
from gputiles.config import Config
from gputiles.folderconfig import NAME

Client = TestClient[Any, Any]
MODES = {"frame": "{id: 0, name: Frame}", "channels": "{id: 2, name: Channel Compositing}",
         "bands": "{id: 3, name: Band Compositing}", "axis": "{id: 1, name: Axis}"}  # fmt: skip


def preset(name: str, mode: str = "frame", frame: int = 0, bands: str = "") -> str:
    style = f", style: {{bands: [{bands}]}}" if bands else ""
    return f"- {{name: {name}, frame: {frame}, mode: {MODES[mode]}{style}}}\n"


def config(*presets: str, more: str = "") -> str:
    return "imageFramePresets:\n" + "".join(presets) + more


ONE = config(preset("one", "channels", bands="{framedelta: 1, palette: '#FF0000', autoRange: 0.2}"))
MANY = config(
    preset("seven", "channels", bands="{framedelta: 0}, {framedelta: 6}"),
    preset("three", "channels", bands="{framedelta: 0}, {framedelta: 2}"),
    preset("two", "channels", bands="{framedelta: 1}"),
    preset("fourth frame", "axis", 3),
    preset("hundredth frame", "frame", 100),
    preset("blue band", "bands", bands="{band: 3}"),
    more="imageFramePresetDefaults:\n- name: seven\n- name: nothing\n- name: three\n- name: two\n",
)


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    """Return what was said of files of presets."""
    return [record.getMessage() for record in caplog.records if record.name == "gputiles.folderviews"]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A stack of 3 channels and 2 planes, and 2 channels, in ``a/b``; colours and a broken file."""
    folder = tmp_path / "root"
    (folder / "a" / "b").mkdir(parents=True)
    plain: dict[str, Any] = {"tile": (64, 64), "photometric": "minisblack"}
    stack = np.zeros((2, 3, 64, 64), np.uint16)
    tifffile.imwrite(folder / "a" / "b" / "stack.ome.tif", stack, metadata={"axes": "ZCYX"}, **plain)
    tifffile.imwrite(folder / "a" / "b" / "pair.ome.tif", stack[0, :2], metadata={"axes": "CYX"}, **plain)
    tifffile.imwrite(folder / "rgb.tif", np.zeros((64, 64, 3), np.uint8), tile=(64, 64), photometric="rgb")
    (folder / "broken.tif").write_bytes(b"II*\0nonsense")
    return folder


@pytest.fixture
async def client(root: Path) -> AsyncIterator[Client]:
    app = create_app(Config(roots=(root,), tile_cache=1 << 20, raw_cache=1 << 22, workers=1))
    async with TestClient(TestServer(app)) as client:
        yield client


async def item(client: Client, name: str = "stack.ome.tif") -> str:
    found = await (await client.get("/item")).json()
    return next(f"/item/{entry['id']}" for entry in found if entry["name"].endswith(name))


async def presets(client: Client, name: str = "stack.ome.tif") -> list[Any]:
    reply = await client.get(f"{await item(client, name)}/presets")
    assert reply.status == 200
    found: list[Any] = await reply.json()
    return found


async def names(client: Client, name: str = "stack.ome.tif") -> list[str]:
    return [entry["name"] for entry in await presets(client, name)]


def put(folder: Path, text: str, *, at: float | None = None) -> Path:
    path = folder / NAME
    path.write_text(text)
    if at is not None:
        os.utime(path, (at, at))
    return path


async def test_the_folders_presets_are_the_items_in_our_words(client: Client, root: Path) -> None:
    put(root / "a" / "b", ONE)
    (found,) = await presets(client)
    assert found == {
        "name": "one", "frame": 0, "mode": {"id": 2, "name": "Channel Compositing"}, "file": f"a/b/{NAME}",
        "style": {"bands": [{"framedelta": 1, "palette": "#FF0000", "min": "min:0.002", "max": "max:0.002"}]},
    }  # fmt: skip
    path = f"{await item(client)}/presets/one"
    assert await (await client.get(path)).json() == found
    tile = await client.get(
        f"{await item(client)}/tiles/zxy/0/0/0", params={"style": str(found["style"]).replace("'", '"')}
    )
    assert tile.status == 200


async def test_the_nearest_file_counts_and_others_only_where_it_inherits(client: Client, root: Path) -> None:
    put(root, config(preset("top"), more="imageFramePresetDefaults: [{name: top}]\n"))
    assert (await names(client), await names(client, "rgb.tif")) == (["top"], ["top"])
    put(root / "a", config(preset("middle")))
    assert (await names(client), await names(client, "rgb.tif")) == (["middle"], ["top"])
    put(root / "a" / "b", "itemList: {}\n__inherit__: true\n")
    assert await names(client) == ["middle"]
    put(root / "a" / "b", config(preset("near"), more="__inherit__: true\n"))
    assert await names(client) == ["near"], "lists are replaced, as large_image does it"
    put(root / "a", "__inherit__: true\n")
    put(root / "a" / "b", "__inherit__: true\nimageFramePresetDefaults: [{name: none}]\n")
    found = await presets(client)
    assert [(entry["name"], "default" in entry) for entry in found] == [("top", False)]
    put(root / "a" / "b", "")
    assert await names(client) == [], "an empty one says nothing, and ends the search"


async def test_the_folder_for_configuration_beside_the_root_is_the_last(client: Client, root: Path) -> None:
    (root / ".config").mkdir()
    put(root / ".config", config(preset("last")))
    assert await names(client) == ["last"]
    (root / ".config").rename(root.parent / "elsewhere")
    (root / ".config").symlink_to(root.parent / "elsewhere")
    assert await names(client) == [], "it leads out"
    put(root, config(preset("top")))
    assert await names(client) == ["top"]


async def test_a_list_of_one_is_the_configuration(client: Client, root: Path) -> None:
    put(root, "- imageFramePresets:\n  - {name: listed, frame: 0}\n")
    assert await names(client) == ["listed"]


async def test_what_is_for_people_who_signed_in_is_for_nobody(client: Client, root: Path) -> None:
    own = "access: {user: {imageFramePresets: [{name: a, frame: 0}]}, admin: {__inherit__: true}}\n"
    put(
        root,
        own + "groups: {x: {imageFramePresets: [{name: b}]}}\nusers: {y: {imageFramePresets: [{name: c}]}}",
    )
    assert await names(client) == []
    put(root, own + config(preset("everybody's")))
    assert await names(client) == ["everybody's"]


@pytest.mark.parametrize(
    ("name", "applicable", "default"),
    [
        ("stack.ome.tif", ["three", "two", "fourth frame"], "three"),
        ("pair.ome.tif", ["two"], "two"),
        ("rgb.tif", ["blue band"], None),
    ],
)
async def test_presets_are_those_that_apply_and_the_first_default_of_them_begins(
    client: Client, root: Path, name: str, applicable: list[str], default: str | None
) -> None:
    put(root, MANY)
    found = await presets(client, name)
    assert [entry["name"] for entry in found] == applicable
    assert [entry["name"] for entry in found if entry.get("default")] == ([default] if default else [])
    facts = await (await client.get(await item(client, name))).json()
    assert facts.get("preset", {}).get("name") == default


async def test_an_items_own_preset_hides_one_of_that_name(client: Client, root: Path) -> None:
    put(root, MANY)
    path = f"{await item(client)}/presets/three"
    assert (await client.put(path, json={"frame": 1})).status == 200
    found = await presets(client)
    assert [entry["name"] for entry in found] == ["three", "two", "fourth frame"]
    assert ("saved" in found[0], "file" in found[0], found[1].get("default")) == (True, False, True)
    assert (await client.delete(path)).status == 200
    assert await names(client) == ["three", "two", "fourth frame"]


async def test_a_folders_preset_is_deleted_where_it_is_kept(client: Client, root: Path) -> None:
    put(root / "a", ONE)
    reply = await client.delete(f"{await item(client)}/presets/one")
    told = f"The preset 'one' comes from 'a/{NAME}': it is changed there."
    assert (reply.status, (await reply.json())["message"]) == (403, told)
    assert (await client.delete(f"{await item(client)}/presets/two")).status == 404
    assert await names(client) == ["one"]


async def test_a_file_is_read_once_for_each_of_its_versions(
    client: Client, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[Path] = []
    content = folderconfig._content

    def counted(path: Path) -> Any:
        read.append(path)
        return content(path)

    monkeypatch.setattr(folderconfig, "_content", counted)
    path = put(root, ONE, at=1000)
    for _ in range(3):
        assert await names(client) == ["one"]
    assert read == [path]
    put(root, config(preset("other")), at=2000)
    assert (await names(client), len(read)) == (["other"], 2)
    path.unlink()
    assert (await names(client), len(read)) == ([], 2)
    put(root / "a", ONE)
    assert (await names(client), len(read)) == (["one"], 3)


BROKEN = [
    ("imageFramePresets: [", "YAML: "),
    ("7", "expected keys with values; got '7'"),
    ("[1, 2]", "expected keys with values"),
    ("imageFramePresets: 7", "imageFramePresets: expected a list; got '7'"),
    ("a: &a [1]\nb: *a", "aliases (*a) are not read here"),
    ("#" * (yamltext.LONGEST + 1), "YAML: at most 1048576 bytes"),
]


@pytest.mark.parametrize(("text", "reason"), BROKEN, ids=range(len(BROKEN)))
async def test_a_broken_file_is_one_warning_and_breaks_nothing(
    client: Client, root: Path, caplog: pytest.LogCaptureFixture, text: str, reason: str
) -> None:
    path = put(root, text, at=1000)
    with caplog.at_level(logging.WARNING):
        for name in ("stack.ome.tif", "pair.ome.tif", "rgb.tif") * 2:
            assert await names(client, name) == []
            base = await item(client, name)
            assert (await client.get(base)).status == (await client.get(f"{base}/tiles")).status == 200
            assert (await client.put(f"{base}/presets/own", json={"frame": 0})).status == 200
            assert (await client.delete(f"{base}/presets/own")).status == 200
    (told,) = warnings(caplog)
    assert told.startswith(f"'{NAME}': ")
    assert reason in told
    put(root / "a", config(preset("well"), more="__inherit__: true"))
    assert await names(client) == ["well"]
    caplog.clear()
    with caplog.at_level(logging.WARNING):
        os.utime(path, (2000, 2000))
        for _ in range(2):
            assert await names(client) == ["well"]
            assert await names(client, "rgb.tif") == []
    assert len(warnings(caplog)) == 1, "once for each version"


async def test_of_a_list_what_can_be_understood_is_shown(
    client: Client, root: Path, caplog: pytest.LogCaptureFixture
) -> None:
    entries = [
        "7",
        "{frame: 1}",
        "{name: a, frame: x}",
        "{name: b, style: {bands: [{min: x}]}}",
        "{name: c, mode: {1: .inf}}",
    ]
    wrong = "".join(f"- {entry}\n" for entry in entries)
    put(root, config(wrong, preset("well"), preset("well", frame=1)))
    with caplog.at_level(logging.WARNING):
        assert await names(client) == ["well"]
    told = warnings(caplog)
    assert len(told) == len(entries)
    assert all(f"imageFramePresets[{at}]" in text for at, text in enumerate(told)), told
    put(root, config(*(preset(f"p{number}") for number in range(300))))
    with caplog.at_level(logging.WARNING):
        assert len(await names(client)) == 200
    assert "at most 200 are shown; there are 300" in warnings(caplog)[-1]


async def test_links_that_lead_out_pipes_and_folders_are_not_read(
    client: Client, root: Path, caplog: pytest.LogCaptureFixture
) -> None:
    put(root.parent, config(preset("secret")))
    put(root, config(preset("top")))
    near = root / "a" / "b" / NAME
    with caplog.at_level(logging.WARNING):
        near.symlink_to(root.parent / NAME)
        assert await names(client) == ["top"]
        near.unlink()
        near.symlink_to("nowhere")
        assert await names(client) == ["top"]
        near.unlink()
        os.mkfifo(near)
        assert await names(client) == ["top"]
        near.unlink()
        near.mkdir()
        assert await names(client) == ["top"]
    told = [text.removeprefix(f"'a/b/{NAME}': ") for text in warnings(caplog)]
    assert told == [
        "it leads out of the served folder, or nowhere, and is not read",
        "it is no regular file",
        "it is no regular file",
    ]
    near.rmdir()
    near.symlink_to(root / "other.yaml")
    (root / "other.yaml").write_text(config(preset("linked")))
    assert await names(client) == ["linked"], "a link inside of the root is followed"


async def test_nothing_above_the_root_counts(root: Path) -> None:
    put(root, ONE)
    async with TestClient(TestServer(create_app(Config(roots=(root / "a",), workers=1)))) as client:
        assert await names(client) == []
    async with TestClient(
        TestServer(create_app(Config(roots=(root / "a" / "b" / "stack.ome.tif",), workers=1)))
    ) as client:
        assert await names(client) == []
        put(root / "a" / "b", ONE)
        assert await names(client) == ["one"], (
            "a file that is served for itself has its folder's, as its companions"
        )


async def test_an_image_that_cannot_be_opened_has_its_own_presets_alone(client: Client, root: Path) -> None:
    put(root, config(preset("top")))
    await client.put(f"{await item(client, 'broken.tif')}/presets/own", json={"frame": 0})
    assert await names(client, "broken.tif") == ["own"]
    assert (await client.get("/item/test/presets")).status == 200


async def test_without_the_library_of_yaml_one_warning_names_the_extra(
    client: Client, root: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(yamltext, "_library", lambda: None)
    put(root, ONE)
    with caplog.at_level(logging.WARNING):
        for name in ("stack.ome.tif", "rgb.tif"):
            assert await names(client, name) == []
    (told,) = warnings(caplog)
    assert "pip install 'gputiles[yaml]'" in told
