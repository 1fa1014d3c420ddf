"""Scanners' formats that OpenSlide reads, on true files: DICOM series, MIRAX, Hamamatsu, Zeiss CZI."""

from __future__ import annotations

import io
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from aiohttp.test_utils import TestClient, TestServer
from numpy.typing import NDArray
from PIL import Image as Pillow

from gputiles.app import create_app
from gputiles.config import Config
from gputiles.errors import Damaged, GputilesError, Unsupported
from gputiles.sources.dicom import NoDicom, read_series
from gputiles.sources.open import open_source
from gputiles.walk import walk
from tests import dicoms
from tests.mosaics import SIZE as MOSAIC
from tests.mosaics import write_bif, write_trestle
from tests.reading import full, read_level
from tests.slidefiles import (
    MICRONS,
    PLAIN,
    SIZE,
    ZSTD,
    ZSTD_1,
    picture,
    saved,
    smooth,
    write_czi,
    write_mirax,
    write_vms,
    write_vmu,
)
from tests.test_http import find

Pixels = NDArray[np.uint8]
Write = Callable[[Path, Pixels], None]


def write_series(coding: str) -> Write:
    return lambda path, pixels: dicoms.write_series(path, pixels, coding=coding)


KINDS: dict[str, tuple[str, Write, int, dict[str, Pixels]]] = {
    "DICOM": ("a.dcm", write_series("none"), 0, dicoms.OTHERS),
    "DICOM, JPEG": ("a.dcm", write_series("jpeg"), 4, dicoms.OTHERS),
    "DICOM, JPEG 2000": ("a.dcm", write_series("jpeg 2000"), 0, dicoms.OTHERS),
    "MIRAX": ("a.mrxs", write_mirax, 0, {"macro": picture(90, 60)}),
    "VMS": ("a.vms", write_vms, 4, {"macro": picture(60, 90)}),
    "VMU": ("a.vmu", write_vmu, 0, {}),
    **{
        f"CZI, {name}": (
            "a.czi", lambda path, pixels, way=way: write_czi(path, pixels, way), 0,  # type: ignore[misc]
            {"label": picture(70, 90), "thumbnail": picture(30, 40)},
        )
        for name, way in {"uncompressed": PLAIN, "Zstandard": ZSTD, "Zstandard 1": ZSTD_1}.items()
    },
}  # fmt: skip
"""The file to open, what writes it, how far off its pixels may be, and its other pictures."""


def pixels_of(kind: str) -> Pixels:
    return picture(*SIZE) if KINDS[kind][2] == 0 else smooth(*SIZE)


def written(kind: str, folder: Path) -> tuple[Path, Pixels]:
    name, write, *_ = KINDS[kind]
    pixels = pixels_of(kind)
    write(folder / name, pixels)
    return folder / name, pixels


def off(found: Pixels, wanted: Pixels) -> int:
    assert found.shape == wanted.shape
    return int(np.abs(found.astype(int) - wanted).max())


@pytest.mark.parametrize("kind", KINDS)
def test_pixels_levels_and_facts_are_those_that_were_written(kind: str, tmp_path: Path) -> None:
    """Lossless ones exactly; JPEG within 4 levels, at every level, of smooth colours."""
    path, pixels = written(kind, tmp_path)
    source = open_source(path, root=tmp_path)
    info = source.info
    assert (info.height, info.width) == SIZE
    assert (info.mm_x, info.mm_y, info.magnification) == (MICRONS / 1000, MICRONS / 1000, 20)
    assert info.warnings == ()
    stored = [z for z in range(info.levels) if info.stored[z]]
    assert len(stored) > 1
    for z in stored:
        step = 1 << info.levels - 1 - z
        assert off(read_level(source, 0, z), pixels[::step, ::step]) <= KINDS[kind][2]
    source.close()


@pytest.mark.parametrize("kind", KINDS)
def test_other_pictures_are_those_that_were_written(kind: str, tmp_path: Path) -> None:
    """Within 20 levels where they are JPEG: their colours have jumps."""
    path, _ = written(kind, tmp_path)
    others = KINDS[kind][3]
    source = open_source(path, root=tmp_path)
    assert source.info.associated == tuple(sorted(others))
    source.close()
    for name, wanted in others.items():
        found = full(open_source(path, root=tmp_path, associated=name))
        decoded = np.asarray(Pillow.open(io.BytesIO(saved(wanted))))
        assert off(found, wanted) == 0 or off(found, decoded) <= 20


@pytest.mark.parametrize("kind", KINDS)
async def test_a_slide_is_one_item_that_hides_its_label_and_macro(kind: str, tmp_path: Path) -> None:
    path, pixels = written(kind, tmp_path)
    async with TestClient(TestServer(create_app(Config(roots=(tmp_path,), workers=1)))) as client:
        (item,) = await (await client.get("/item")).json()
        assert item["name"] == ("a-2.dcm" if kind.startswith("DICOM") else path.name)  # the first of a series
        tiles = f"/item/{item['id']}/tiles"
        assert await (await client.get(f"{tiles}/images")).json() in ([], ["thumbnail"])
        for name in ("label", "macro"):
            assert (await client.get(f"{tiles}/images/{name}")).status == 404
        region = await client.get(f"{tiles}/region?left=100&top=200&right=300&bottom=290&encoding=PNG")
        found = np.asarray(Pillow.open(io.BytesIO(await region.read())))
        assert off(found, pixels[200:290, 100:300]) <= KINDS[kind][2]
        pixel = await (await client.get(f"{tiles}/pixel?left=301&top=77")).json()
        assert np.abs(np.array(pixel["value"]) - pixels[77, 301]).max() <= KINDS[kind][2]
        assert (await client.get(f"{tiles}/internal_metadata")).status == 200


@pytest.mark.parametrize(("name", "write", "others"), [
    ("a.tif", write_trestle, ()), ("a.bif", write_bif, ("macro",)),
])  # fmt: skip
def test_tiles_that_overlap_are_put_together(
    name: str, write: Write, others: tuple[str, ...], tmp_path: Path
) -> None:
    """Within 4 levels, as they are JPEG: our own reader refuses such files, OpenSlide takes them."""
    pixels = smooth(*MOSAIC)
    write(tmp_path / name, pixels)
    source = open_source(tmp_path / name, root=tmp_path)
    assert off(full(source), pixels) <= 4
    assert (source.info.associated, source.info.magnification) == (others, 20)


# -- what is missing or cut off


def halved(data: bytes) -> bytes:
    return data[: len(data) // 2]


def zeroed(data: bytes) -> bytes:
    return halved(data) + bytes(len(data) - len(data) // 2)


DAMAGE: list[tuple[str, str, Callable[[bytes], bytes] | None, type[GputilesError] | None, str]] = [
    ("MIRAX", "a/Index.dat", None, Damaged, "Couldn't open a/Index.dat"),
    ("MIRAX", "a/Data0000.dat", None, Damaged, "Couldn't open a/Data0000.dat"),
    ("MIRAX", "a/Slidedat.ini", None, Unsupported, "no format"),
    ("MIRAX", "a/Slidedat.ini", zeroed, Damaged, "Slidedat.ini"),
    ("MIRAX", "a/Index.dat", halved, Damaged, "cannot open it"),
    ("VMS", "a(0,1).jpg", None, Damaged, "Couldn't open a"),
    ("VMS", "a_map2.jpg", None, Damaged, "Couldn't open a_map2.jpg"),
    ("VMS", "a.jpg", halved, Damaged, "cannot read it"),
    ("VMS", "a.vms", zeroed, Damaged, "not beside it"),
    ("VMU", "a.ngr", halved, Damaged, "cannot read it"),
    ("CZI, Zstandard", "a.czi", halved, Damaged, "a.czi"),
    ("CZI, Zstandard", "a.czi", zeroed, Damaged, "ZISRAW"),
    ("DICOM", "a.dcm", halved, Damaged, "end of filehandle"),
    ("DICOM", "a-2.dcm", halved, None, ""),
    ("DICOM", "a-2.dcm", None, None, ""),
    ("DICOM", "a-2.dcm", lambda _: b"", None, ""),
    ("DICOM", "a-label.dcm", None, None, ""),
]


@pytest.mark.parametrize(("kind", "name", "spoil", "error", "reason"), DAMAGE)
def test_what_is_missing_or_cut_off_is_named_and_harms_nothing_else(
    kind: str,
    name: str,
    spoil: Callable[[bytes], bytes] | None,
    error: type[GputilesError] | None,
    reason: str,
    tmp_path: Path,
) -> None:
    path, pixels = written(kind, tmp_path)
    victim = tmp_path / name
    data = victim.read_bytes()
    victim.unlink()
    if spoil is not None:
        victim.write_bytes(spoil(data))
    if error is None:
        assert off(full(open_source(path, root=tmp_path)), pixels) == 0
        return
    with pytest.raises(error) as refused:
        full(open_source(path, root=tmp_path))
    assert reason in str(refused.value)
    assert str(tmp_path) not in str(refused.value)
    assert str(refused.value).isprintable()
    assert len(str(refused.value)) < 400


@pytest.mark.parametrize("old", [b"BitsPerPixel=36", b"PixelOrder=RGB"])
@pytest.mark.parametrize(
    "new",
    [
        b"",
        b"PixelOrder=",
        b"BitsPerPixel=",
        b"NoLayers=\0\r\nPixelOrder=RGB",
        b"[Other]\r\nPixelOrder=RGB",
        b"twice",
    ],
)
def test_a_vmu_file_that_does_not_tell_its_samples_harms_nobody(
    old: bytes, new: bytes, tmp_path: Path
) -> None:
    """OpenSlide would end the process."""
    path, _ = written("VMU", tmp_path)
    data = path.read_bytes()
    more = old + b"\r\n" + old.partition(b"=")[0] + b"=" if new == b"twice" else new
    path.write_bytes(data.replace(old, more))
    with pytest.raises(Damaged, match="BitsPerPixel has to be 36"):
        open_source(path, root=tmp_path)
    (item,) = walk([tmp_path]).values()
    assert item.name == "a.vmu"


def test_a_reason_names_no_folder(tmp_path: Path) -> None:
    path, _ = written("VMS", tmp_path)
    path.write_bytes(path.read_bytes().replace(b"ImageFile=a.jpg", b"ImageFile="))
    with pytest.raises(Damaged, match="cannot open it") as refused:
        open_source(path, root=tmp_path)
    assert str(tmp_path) not in str(refused.value)


def test_a_series_without_its_full_resolution_says_so(tmp_path: Path) -> None:
    path, pixels = written("DICOM", tmp_path)
    path.unlink()
    source = open_source(tmp_path / "a-2.dcm", root=tmp_path)
    assert off(full(source), pixels[::2, ::2]) == 0
    assert any("full resolution is not there" in warning for warning in source.info.warnings)


# -- companions belong to a version


@pytest.mark.parametrize(("kind", "name"), [
    ("MIRAX", "a/Data0000.dat"), ("VMS", "a_map2.jpg"), ("VMU", "a_map.ngr"), ("DICOM", "a-4.dcm"),
    ("DICOM", "a-label.dcm"),
])  # fmt: skip
def test_a_companion_that_changes_goes_or_comes_is_another_version(
    kind: str, name: str, tmp_path: Path
) -> None:
    path, _ = written(kind, tmp_path)
    source = open_source(path, root=tmp_path)
    companion, aside = tmp_path / name, tmp_path / "aside"
    assert source.is_current()
    (tmp_path / "unrelated.tif").write_bytes(b"")
    dicoms.write(tmp_path / "other.dcm", picture(10, 10), series="other")
    assert source.is_current()
    companion.touch()
    assert not source.is_current()
    companion.rename(aside)
    assert not source.is_current()
    if kind == "DICOM":  # whose files may come in any order
        partly = open_source(path, root=tmp_path)
        assert partly.is_current()
        aside.rename(companion)
        assert not partly.is_current()


# -- items


def test_the_pictures_that_a_vms_file_names_are_no_items(tmp_path: Path) -> None:
    written("VMS", tmp_path)
    (tmp_path / "other.jpg").write_bytes(saved(picture(9, 9)))
    items = walk([tmp_path])
    assert [(item.name, len(item.parts)) for item in items.values()] == [("a.vms", 4), ("other.jpg", 0)]
    (tmp_path / "a_macro.jpg").unlink()
    assert next((item.name, len(item.parts)) for item in walk([tmp_path]).values()) == ("a.vms", 3)
    assert walk([tmp_path]).keys() == items.keys()


def test_a_folder_of_series_has_an_item_for_each_of_them(tmp_path: Path) -> None:
    for name in ("a", "b"):
        dicoms.write_series(tmp_path / "below" / f"{name}.dcm", picture(*SIZE))
    (tmp_path / "below" / "cut.dcm").write_bytes(bytes(128) + b"DICM")
    (tmp_path / "below" / "no.dcm").write_bytes(b"nothing of the kind")
    (tmp_path / "below" / "z.tif").write_bytes(b"II*\0")
    found = {item.name: item for item in walk([tmp_path]).values()}
    assert list(found) == [f"below/{name}" for name in ("a-2.dcm", "b-2.dcm", "cut.dcm", "no.dcm", "z.tif")]
    parts = found["below/a-2.dcm"].parts
    assert parts == ("a-4.dcm", "a-label.dcm", "a-macro.dcm", "a-thumbnail.dcm", "a.dcm")
    files = [tmp_path / "below" / name for name in ("a-2.dcm", *parts)]
    assert found["below/a-2.dcm"].size == sum(file.stat().st_size for file in files)
    assert found["below/cut.dcm"].parts == ()


async def test_a_file_of_a_series_may_be_imported_and_uploaded_by_its_own_name(tmp_path: Path) -> None:
    root, uploads = tmp_path / "root", tmp_path / "root" / "new"
    uploads.mkdir(parents=True)
    dicoms.write_series(root / "a.dcm", picture(*SIZE))
    dicoms.write_series(tmp_path / "c.dcm", picture(*SIZE))
    config = Config(roots=(root,), uploads=uploads, workers=1)
    async with TestClient(TestServer(create_app(config))) as client:
        for name in ("a-2.dcm", "a.dcm", "a-label.dcm"):
            answer = await client.post("/item/import", json={"path": name})
            assert (answer.status, (await answer.json())["name"]) == (200, "a-2.dcm")
        assert (await client.post("/item/import", json={"path": "a-3.dcm"})).status == 404
        for name in ("c.dcm", "c-4.dcm", "c-2.dcm"):
            data = (tmp_path / name).read_bytes()
            assert (await client.post(f"/item?name={name}", data=data)).status == 201
        item = await find(client, "new/c-2.dcm")
        facts: dict[str, Any] = await (await client.get(f"/item/{item}/tiles")).json()
        assert (facts["sizeX"], facts["sizeY"]) == SIZE[::-1]


# -- the beginning of a DICOM file


def element(group: int, number: int, kind: bytes, value: bytes, *, implicit: bool = False) -> bytes:
    tag = group.to_bytes(2, "little") + number.to_bytes(2, "little")
    if implicit:
        return tag + len(value).to_bytes(4, "little") + value
    if kind in (b"SQ", b"OB"):
        return tag + kind + bytes(2) + len(value).to_bytes(4, "little") + value
    return tag + kind + len(value).to_bytes(2, "little") + value


def head(*elements: bytes, syntax: bytes = b"1.2.840.10008.1.2.1\0") -> bytes:
    return bytes(128) + b"DICM" + element(2, 0x10, b"UI", syntax) + b"".join(elements)


IMPLICIT, BIG = b"1.2.840.10008.1.2\0", b"1.2.840.10008.1.2.2\0"
SERIES = element(0x20, 0xE, b"UI", b"1.2.3\0")
NESTED = (
    b"\xfe\xff\x00\xe0\xff\xff\xff\xff" + element(0x20, 0xE, b"UI", b"9.9\0") + b"\xfe\xff\x0d\xe0" + bytes(4)
)
OPEN = b"\x08\x00\x40\x11SQ\0\0\xff\xff\xff\xff" + NESTED + b"\xfe\xff\xdd\xe0" + bytes(4)


@pytest.mark.parametrize(("data", "series"), [
    (head(SERIES), "1.2.3"),
    (head(element(8, 0x1140, b"SQ", NESTED), SERIES), "1.2.3"),
    (head(OPEN, SERIES), "1.2.3"),
    (head(element(8, 0x1140, b"OB", bytes(60_000)), SERIES), "1.2.3"),
    (head(element(8, 0x1140, b"OB", bytes(70_000)), SERIES), None),
    (head(element(0x20, 0xE, b"", b"1.2.3\0", implicit=True), syntax=IMPLICIT), "1.2.3"),
    (head(SERIES, syntax=BIG), None),
    (head(element(0x20, 0xD, b"UI", b"1.2\0"), element(0x28, 2, b"US", b"\3\0"), SERIES), None),
    (head(element(0x20, 0xE, b"UI", b"")), None),
    (head(OPEN), None), (head(OPEN[:-9]), None), (head(SERIES[:7]), None), (head(), None),
])  # fmt: skip
def test_the_series_is_found_among_all_that_may_stand_before_it(
    data: bytes, series: str | None, tmp_path: Path
) -> None:
    (tmp_path / "a.dcm").write_bytes(data)
    assert read_series(tmp_path / "a.dcm") == series


@pytest.mark.parametrize("data", [b"", b"nothing", bytes(132), b"DICM"])
def test_what_is_no_dicom_file_is_of_no_series(data: bytes, tmp_path: Path) -> None:
    (tmp_path / "a.dcm").write_bytes(data)
    with pytest.raises(NoDicom):
        read_series(tmp_path / "a.dcm")


@pytest.mark.parametrize("data", [b"nothing", head(SERIES)])
def test_a_file_is_read_once_for_its_series_until_it_changes(
    data: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, opened = tmp_path / "a.dcm", 0

    def counted(self: Path, *args: Any, **kwargs: Any) -> Any:
        nonlocal opened
        opened += 1
        return original(self, *args, **kwargs)

    original = Path.open
    path.write_bytes(data)
    monkeypatch.setattr(Path, "open", counted)
    for number in range(6):
        with suppress(NoDicom):
            read_series(path)
        if number == 2:
            path.write_bytes(data + b" ")
            opened = 1  # for what was read so far; writing opens it, too
    assert opened == 2
