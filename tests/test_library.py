"""The library: which files are served, under which ids, and how changes on disk are followed."""

from __future__ import annotations

import asyncio
import logging
import os
import re
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import numpy as np
import pytest
import tifffile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as some

from gputiles import library as library_module
from gputiles.errors import GputilesError, NotFound
from gputiles.library import Library
from gputiles.walk import SUFFIXES, FileRef, Item, printable, walk

ID = re.compile(r"[0-9a-f]{24}")
CHUNK_LIMIT = 1 << 24


def touch(path: Path, content: bytes = b"II*\0") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def image(path: Path, value: int = 1) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    tifffile.imwrite(path, np.full((16, 16), value, np.uint8), photometric="minisblack")
    return path


def names(*roots: Path) -> list[str]:
    return sorted(item.name for item in walk(roots).values())


# -- the walk


@pytest.mark.parametrize("name", [f"slide{suffix}" for suffix in SUFFIXES] + ["UPPER.TIF", "a.b.Ome.TifF"])
def test_files_with_an_images_ending_are_items(name: str, tmp_path: Path) -> None:
    touch(tmp_path / name)
    assert names(tmp_path) == [name]


@pytest.mark.parametrize("name", [
    "notes.txt", "tif", "slide.tif.bak", ".hidden.tif", ".folder/slide.tif", "slide.gif", "slide.tif~",
])  # fmt: skip
def test_other_files_are_not(name: str, tmp_path: Path) -> None:
    touch(tmp_path / name)
    assert names(tmp_path) == []


def test_a_folder_named_like_an_image_is_walked_not_served(tmp_path: Path) -> None:
    touch(tmp_path / "folder.tif" / "slide.tif")
    assert names(tmp_path) == ["folder.tif/slide.tif"]


def test_pipes_and_sockets_are_not_served(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.tif")
    assert names(tmp_path) == []


def test_ids_are_24_hexadecimal_digits_that_depend_on_the_relative_path_only(tmp_path: Path) -> None:
    for root in ("one", "other"):
        for name in ("a.tif", "below/a.tif", "b.tif"):
            touch(tmp_path / root / name, root.encode())
    one, other = walk([tmp_path / "one"]), walk([tmp_path / "other"])
    assert {i: item.name for i, item in one.items()} == {i: item.name for i, item in other.items()}
    assert len(one) == 3
    assert all(ID.fullmatch(item_id) and item.id == item_id for item_id, item in one.items())
    os.rename(tmp_path / "one", tmp_path / "moved")
    assert walk([tmp_path / "moved"]).keys() == one.keys()


def test_an_id_does_not_change_between_releases(tmp_path: Path) -> None:
    touch(tmp_path / "a.tif")
    touch(tmp_path / "below" / "ä.tif")
    assert {item.name: item.id for item in walk([tmp_path]).values()} == {
        "a.tif": "ed4cf50dec25e5ec2552bdfb",
        "below/ä.tif": "2a7d33f1ad7e8534556331cb",
    }


def test_equal_relative_paths_under_two_roots_are_two_items(tmp_path: Path) -> None:
    for number, root in enumerate(("one", "two", "three")):
        touch(tmp_path / root / "a.tif", bytes(number + 1))
    roots = [tmp_path / "one", tmp_path / "two", tmp_path / "three"]
    found = walk(roots)
    assert [(item.name, item.size) for item in found.values()] == [("a.tif", 1), ("a.tif", 2), ("a.tif", 3)]
    assert walk(roots).keys() == found.keys()
    first = next(iter(walk(roots[:1])))
    assert found[first].ref.path == (tmp_path / "one" / "a.tif").resolve()


def test_a_root_may_be_a_file(tmp_path: Path) -> None:
    touch(tmp_path / "notes.dat")
    touch(tmp_path / "other.tif")
    (item,) = walk([tmp_path / "notes.dat"]).values()
    assert (item.name, item.ref.resolve()) == ("notes.dat", tmp_path / "notes.dat")


@pytest.mark.parametrize("name", ["absent", "dead link", "circle"])
def test_a_root_that_does_not_exist_is_said(name: str, tmp_path: Path) -> None:
    (tmp_path / "dead link").symlink_to(tmp_path / "nowhere")
    (tmp_path / "circle").symlink_to(tmp_path / "circle")
    with pytest.raises(NotFound, match=f"The root '.*{name}' does not exist or cannot be read"):
        walk([tmp_path, tmp_path / name])


NAMES = [
    "with space.tif", "ünïcödé 日本.tif", "a%2Fb.tif", "a?b#c&d=e.tif", "new\nline.tif", "-rf.tif",
    "'quote\".tif",
    "back\\slash.tif", "a..tif", "~.tif", "$(x).tif", "x" * 240 + ".tif",
]  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_names_with_odd_characters_are_served_as_they_are(name: str, tmp_path: Path) -> None:
    image(tmp_path / name)
    (item,) = walk([tmp_path]).values()
    assert item.name == name
    item.ref.open(CHUNK_LIMIT).close()


def test_a_name_that_is_no_utf_8_is_served_under_a_printable_one(tmp_path: Path) -> None:
    path = os.fsencode(tmp_path) + b"/caf\xe9.tif"
    image(tmp_path / "a.tif").rename(os.fsdecode(path))
    (item,) = walk([tmp_path]).values()
    assert item.name == "caf\ufffd.tif"
    item.name.encode()
    assert item.ref.open(CHUNK_LIMIT).info.width == 16


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=50)
@given(
    some.text(some.characters(exclude_characters="/\0", exclude_categories=["Cs"]), min_size=1, max_size=50)
)
def test_any_name_gives_one_item_with_its_own_id(tmp_path: Path, stem: str) -> None:
    name = f"x{stem}.tif"
    path = touch(tmp_path / name)
    found = [item for item in walk([tmp_path]).values() if item.name == name]
    path.unlink()
    assert [item.ref.path for item in found] == [path.resolve().parent / name]


# -- never outside


def test_a_link_out_of_the_root_is_not_followed(tmp_path: Path) -> None:
    touch(tmp_path / "secret" / "slide.tif")
    root = tmp_path / "root"
    touch(root / "own.tif")
    (root / "file.tif").symlink_to(tmp_path / "secret" / "slide.tif")
    (root / "folder").symlink_to(tmp_path / "secret")
    (root / "relative.tif").symlink_to("../secret/slide.tif")
    (root / "twice.tif").symlink_to(root / "file.tif")
    (root / "dead.tif").symlink_to(root / "nowhere.tif")
    assert names(root) == ["own.tif"]


def test_a_sibling_whose_name_begins_like_the_root_is_outside(tmp_path: Path) -> None:
    touch(tmp_path / "root2" / "slide.tif")
    touch(tmp_path / "root" / "own.tif")
    (tmp_path / "root" / "link.tif").symlink_to(tmp_path / "root2" / "slide.tif")
    assert names(tmp_path / "root") == ["own.tif"]


def test_links_within_the_root_are_items_of_their_own(tmp_path: Path) -> None:
    touch(tmp_path / "a" / "slide.tif")
    (tmp_path / "link.tif").symlink_to("a/slide.tif")
    assert names(tmp_path) == ["a/slide.tif", "link.tif"]


def test_links_to_folders_make_no_circle_and_no_second_copy(tmp_path: Path) -> None:
    touch(tmp_path / "a" / "slide.tif")
    (tmp_path / "a" / "up").symlink_to(tmp_path)
    (tmp_path / "0 first").symlink_to(tmp_path / "a")
    (tmp_path / "a" / "self").symlink_to(tmp_path / "a" / "self")
    assert names(tmp_path) == ["a/slide.tif"]


def test_a_root_that_is_a_link_is_where_it_leads(tmp_path: Path) -> None:
    touch(tmp_path / "real" / "slide.tif")
    (tmp_path / "link").symlink_to(tmp_path / "real")
    assert names(tmp_path / "link") == ["slide.tif"]
    assert walk([tmp_path / "link"]).keys() == walk([tmp_path / "real"]).keys()


def test_a_file_that_becomes_a_link_out_of_the_root_is_not_opened(tmp_path: Path) -> None:
    secret = image(tmp_path / "secret" / "slide.tif")
    path = image(tmp_path / "root" / "slide.tif")
    (item,) = walk([tmp_path / "root"]).values()
    path.unlink()
    path.symlink_to(secret)
    with pytest.raises(NotFound, match=r"'slide\.tif' leads out of its root"):
        item.ref.open(CHUNK_LIMIT)
    path.unlink()
    with pytest.raises(NotFound, match=r"'slide\.tif' does not exist"):
        item.ref.open(CHUNK_LIMIT)


def test_a_folder_that_becomes_a_link_out_of_the_root_is_not_entered(tmp_path: Path) -> None:
    image(tmp_path / "secret" / "slide.tif")
    image(tmp_path / "root" / "below" / "slide.tif")
    (item,) = walk([tmp_path / "root"]).values()
    os.rename(tmp_path / "root" / "below", tmp_path / "old")
    (tmp_path / "root" / "below").symlink_to(tmp_path / "secret")
    with pytest.raises(NotFound, match="leads out of its root"):
        item.ref.resolve()


@pytest.mark.parametrize("path", ["../secret.tif", "below/../../secret.tif", "../root2/a.tif", "/etc/passwd"])
def test_no_reference_leads_out_of_its_root(path: str, tmp_path: Path) -> None:
    touch(tmp_path / "secret.tif")
    touch(tmp_path / "root2" / "a.tif")
    root = touch(tmp_path / "root" / "below" / "a.tif").parent.parent
    with pytest.raises(NotFound):
        FileRef(root / path, root).resolve()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_folder_that_may_not_be_read_hides_its_files_only(tmp_path: Path) -> None:
    touch(tmp_path / "closed" / "a.tif")
    touch(tmp_path / "b.tif")
    (tmp_path / "closed").chmod(0)
    try:
        assert names(tmp_path) == ["b.tif"]
    finally:
        (tmp_path / "closed").chmod(0o700)


def test_printable_text_stays_as_it_is() -> None:
    assert [printable(name) for name in NAMES] == NAMES


# -- the library


async def reason(ref: FileRef) -> str | None:
    """Open a file and say what is wrong with it."""
    try:
        (await asyncio.to_thread(ref.open, CHUNK_LIMIT)).close()
    except GputilesError as error:
        return str(error)
    return None


@asynccontextmanager
async def serving(*roots: Path) -> AsyncIterator[Library]:
    library = Library(roots, asyncio.to_thread, reason)
    await library.start()
    yield library
    await library.close()


@pytest.fixture
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let every question walk the folders again."""
    monkeypatch.setattr(library_module, "RESCAN_SECONDS", 0.0)
    monkeypatch.setattr(library_module, "PATIENCE", 0.0)


async def listed(library: Library) -> list[str]:
    return [item.name for item in await library.items()]


async def settled(library: Library) -> None:
    """Wait until the background has nothing left to look at."""
    while library._validating is not None or library._walking is not None:
        await asyncio.gather(*(t for t in (library._validating, library._walking) if t is not None))
        await asyncio.sleep(0)


@pytest.mark.usefixtures("_impatient")
async def test_added_removed_and_renamed_files_are_followed(tmp_path: Path) -> None:
    image(tmp_path / "b.tif")
    async with serving(tmp_path) as library:
        assert await listed(library) == ["b.tif"]
        image(tmp_path / "new" / "a.tif")
        assert await listed(library) == ["b.tif", "new/a.tif"]
        (tmp_path / "b.tif").rename(tmp_path / "c.tif")
        assert await listed(library) == ["c.tif", "new/a.tif"]
        (tmp_path / "new" / "a.tif").unlink()
        assert await listed(library) == ["c.tif"]


@pytest.mark.usefixtures("_impatient")
async def test_a_new_file_is_found_by_its_id_without_a_listing(tmp_path: Path) -> None:
    image(tmp_path / "elsewhere" / "a.tif")
    (expected,) = walk([tmp_path / "elsewhere"])
    root = tmp_path / "root"
    root.mkdir()
    async with serving(root) as library:
        with pytest.raises(NotFound, match=f"No item '{expected}'"):
            await library.item(expected)
        image(root / "a.tif")
        assert (await library.item(expected)).name == "a.tif"


@pytest.mark.usefixtures("_impatient")
async def test_a_replaced_file_keeps_its_id_and_gets_a_new_version(tmp_path: Path) -> None:
    image(tmp_path / "a.tif")
    async with serving(tmp_path) as library:
        (before,) = await library.items()
        (same,) = await library.items()
        assert same is before
        image(tmp_path / "new.dat", 2).rename(tmp_path / "a.tif")
        (after,) = await library.items()
        assert after.id == before.id
        assert after.version != before.version


@pytest.mark.usefixtures("_impatient")
async def test_ids_are_the_same_after_a_restart(tmp_path: Path) -> None:
    for name in NAMES[:6]:
        image(tmp_path / name)
    found: list[dict[str, str]] = []
    for _ in range(2):
        async with serving(tmp_path) as library:
            found.append({item.name: item.id for item in await library.items()})
    assert found[0] == found[1]
    assert len(found[0]) == 6


@pytest.mark.parametrize("item_id", ["", "..", "../a.tif", "a.tif", "0" * 24, "x" * 1000, "\0", "%2e%2e"])
async def test_what_is_no_id_is_not_found(item_id: str, tmp_path: Path) -> None:
    image(tmp_path / "a.tif")
    async with serving(tmp_path) as library:
        with pytest.raises(NotFound, match="No item") as refused:
            await library.item(item_id)
        assert len(str(refused.value)) < 400


@pytest.mark.usefixtures("_impatient")
async def test_an_unreadable_file_is_listed_with_its_reason_until_it_is_replaced(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    image(tmp_path / "good.tif")
    touch(tmp_path / "bad.tif", b"II*\0nonsense")
    async with serving(tmp_path) as library:
        await settled(library)
        bad, good = await library.items()
        assert library.error(good) is None
        assert "bad.tif" in caplog.text
        first = library.error(bad)
        assert first is not None
        image(tmp_path / "bad.tif")
        repaired, _ = await library.items()
        assert library.error(repaired) is None
        await settled(library)
        assert library.error(repaired) is None


async def test_a_complaint_is_logged_once_for_each_version(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    image(tmp_path / "a.tif")
    async with serving(tmp_path) as library:
        (item,) = await library.items()
        with caplog.at_level(logging.WARNING):
            for _ in range(5):
                library.note(item, "the reason")
        assert caplog.text.count("the reason") == 1
        assert library.error(item) == "the reason"
        library.note(item, None)
        assert library.error(item) is None


@pytest.mark.usefixtures("_impatient")
async def test_a_root_that_vanishes_leaves_the_items_and_an_error(tmp_path: Path) -> None:
    root = tmp_path / "root"
    image(root / "a.tif")
    async with serving(root) as library:
        (item,) = await library.items()
        root.rename(tmp_path / "away")
        with pytest.raises(NotFound, match="The root"):
            await library.items()
        assert library.known(item.id) is item
        (tmp_path / "away").rename(root)
        assert await listed(library) == ["a.tif"]


async def test_many_questions_share_one_walk(tmp_path: Path) -> None:
    image(tmp_path / "a.tif")
    walks = 0

    async def count(function: object, roots: Sequence[Path]) -> Mapping[str, Item]:
        nonlocal walks
        walks += 1
        return await asyncio.to_thread(walk, roots)

    library = Library([tmp_path], count, reason)
    await library.start()
    library._walked -= 1000  # long ago
    await asyncio.gather(*(library.items() for _ in range(50)))
    assert walks == 2
    await library.close()


async def test_a_root_that_does_not_exist_stops_the_start(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="The root"):
        await Library([tmp_path / "absent"], asyncio.to_thread, reason).start()
