"""Slides in scanners' formats, three levels each, byte by byte: MIRAX, Hamamatsu, Zeiss CZI."""

from __future__ import annotations

import io
import struct
from collections.abc import Iterable, Mapping
from pathlib import Path

import imagecodecs
import numpy as np
from numpy.typing import NDArray
from PIL import Image as Pillow

Pixels = NDArray[np.uint8]
SIDE = 128
SIZE = 384, 512
STEPS = (1, 2, 4)
MICRONS = 0.5
"""Of a pixel of full resolution."""


def picture(rows: int, columns: int, seed: int = 0) -> Pixels:
    """Return colours of which every pixel tells its place."""
    y, x = np.mgrid[:rows, :columns]
    return np.stack([x, y, x + y + 50 * seed], -1).astype(np.uint8)


def smooth(rows: int, columns: int) -> Pixels:
    """Return colours that JPEG keeps."""
    y, x = np.mgrid[:rows, :columns]
    return np.stack([x // 4, y // 4 + 90, (x + y) // 6 + 30], -1).astype(np.uint8)


def saved(pixels: Pixels, kind: str = "JPEG", **options: int) -> bytes:
    file = io.BytesIO()
    lossy = {"quality": 95, "subsampling": 0} if kind == "JPEG" else {}
    Pillow.fromarray(np.ascontiguousarray(pixels)).save(file, kind, **lossy, **options)
    return file.getvalue()


def ini(sections: Mapping[str, Mapping[str, object]]) -> str:
    lines = (
        line
        for name, values in sections.items()
        for line in (f"[{name}]", *(f"{key}={value}" for key, value in values.items()))
    )
    return "\r\n".join(lines) + "\r\n"


# -- MIRAX


def write_mirax(path: Path, pixels: Pixels) -> None:
    """Write a ``.mrxs`` file and its folder: lossless tiles, and a macro picture of 90 × 60 pixels."""
    across, down = pixels.shape[1] // SIDE, pixels.shape[0] // SIDE
    head = b"01.02" + b"0123456789ABCDEF0123456789ABCDEF"
    data = bytearray(head + b"  0")

    def add(part: bytes) -> tuple[int, int]:
        data.extend(part)
        return len(data) - len(part), len(part)

    pages = []
    for step in STEPS:
        places = [(x, y) for y in range(0, down, step) for x in range(0, across, step)]
        pages.append([(y * across + x, *add(_mirax_tile(pixels, x, y, step)), 0) for x, y in places])
    macro = (0, 0, *add(saved(picture(90, 60))), 0)
    folder = path.with_suffix("")
    folder.mkdir()
    (folder / "Data0000.dat").write_bytes(data)
    (folder / "Index.dat").write_bytes(_mirax_index(head, [*pages, [macro]]))
    (folder / "Slidedat.ini").write_text(ini(_mirax_sections(across, down)))
    path.write_bytes(b"")


def _mirax_tile(pixels: Pixels, x: int, y: int, step: int) -> bytes:
    tile = np.full((SIDE, SIDE, 3), 255, np.uint8)
    part = pixels[y * SIDE : (y + step) * SIDE : step, x * SIDE : (x + step) * SIDE : step]
    tile[: len(part), : part.shape[1]] = part
    return saved(tile, "PNG")


def _mirax_index(head: bytes, pages: list[list[tuple[int, ...]]]) -> bytes:
    """Return the index: two roots, lists of records, and a page of entries for each record."""
    words = [len(head) + 8, len(head) + 8 + 4 * (len(pages) - 1), *[0] * len(pages)]
    for at, page in enumerate(pages):
        words[2 + at] = len(head) + 4 * len(words)
        words += [0, words[2 + at] + 8, len(page), 0]
        words += [word for entry in page for word in entry]
    return head + struct.pack(f"<{len(words)}i", *words)


def _mirax_sections(across: int, down: int) -> dict[str, dict[str, object]]:
    names = [f"LAYER_0_LEVEL_{level}_SECTION" for level in range(len(STEPS))]
    levels = {f"HIER_0_VAL_{level}_SECTION": name for level, name in enumerate(names)}
    return {
        "GENERAL": {
            "SLIDE_VERSION": "01.02", "SLIDE_ID": "0123456789ABCDEF0123456789ABCDEF",
            "IMAGENUMBER_X": across, "IMAGENUMBER_Y": down, "OBJECTIVE_MAGNIFICATION": 20,
        },
        "HIERARCHICAL": {
            "HIER_COUNT": 1, "HIER_0_NAME": "Slide zoom level", "HIER_0_COUNT": len(names), **levels,
            "NONHIER_COUNT": 1, "NONHIER_0_NAME": "Scan data layer", "NONHIER_0_COUNT": 1,
            "NONHIER_0_VAL_0": "ScanDataLayer_SlideThumbnail", "NONHIER_0_VAL_0_SECTION": "THUMBNAIL",
            "INDEXFILE": "Index.dat",
        },
        "DATAFILE": {"FILE_COUNT": 1, "FILE_0": "Data0000.dat"},
        "THUMBNAIL": {"THUMBNAIL_IMAGE_TYPE": "JPEG"},
        **{
            name: {
                "OVERLAP_X": 0, "OVERLAP_Y": 0, "MICROMETER_PER_PIXEL_X": MICRONS * step,
                "MICROMETER_PER_PIXEL_Y": MICRONS * step, "IMAGE_FORMAT": "PNG",
                "IMAGE_FILL_COLOR_BGR": 0xFFFFFF, "DIGITIZER_WIDTH": SIDE, "DIGITIZER_HEIGHT": SIDE,
                "IMAGE_CONCAT_FACTOR": int(step > 1),
            }
            for name, step in zip(names, STEPS, strict=True)
        },
    }  # fmt: skip


# -- Hamamatsu VMS and VMU


def write_vms(path: Path, pixels: Pixels) -> None:
    """Write a ``.vms`` file and the JPEG files that it names: two parts, a map, a macro picture."""
    rows, columns = pixels.shape[:2]
    names = [f"{path.stem}{end}.jpg" for end in ("", "(0,1)", "_map2", "_macro")]
    parts = pixels[: 2 * SIDE], pixels[2 * SIDE :], pixels[::4, ::4], picture(60, 90)
    for name, part in zip(names, parts, strict=True):
        (path.parent / name).write_bytes(saved(part, restart_marker_blocks=16))
    about = {
        "NoLayers": 1, "NoJpegColumns": 1, "NoJpegRows": 2, "ImageFile": names[0], "ImageFile(0,1)": names[1],
        "MapFile": names[2], "MacroImage": names[3], "PhysicalWidth": int(1000 * MICRONS * columns),
        "PhysicalHeight": int(1000 * MICRONS * rows), "SourceLens": 20,
    }  # fmt: skip
    path.write_text(ini({"Virtual Microscope Specimen": about}))


def write_vmu(path: Path, pixels: Pixels) -> None:
    """Write a ``.vmu`` file and two files of raw pixels: all of them, and every second one."""
    rows, columns = pixels.shape[:2]
    for end, part in (("", pixels), ("_map", pixels[::2, ::2])):
        (path.parent / f"{path.stem}{end}.ngr").write_bytes(_ngr(part, SIDE))
    about = {
        "NoLayers": 1, "ImageFile": f"{path.stem}.ngr", "MapFile": f"{path.stem}_map.ngr", "BitsPerPixel": 36,
        "PixelOrder": "RGB", "PhysicalWidth": int(1000 * MICRONS * columns),
        "PhysicalHeight": int(1000 * MICRONS * rows), "SourceLens": 20,
    }  # fmt: skip
    path.write_text(ini({"Uncompressed Virtual Microscope Specimen": about}))


def _ngr(pixels: Pixels, width: int) -> bytes:
    """Return pixels of 12 bits in columns of ``width`` pixels, one after the other."""
    rows, columns = pixels.shape[:2]
    head = struct.pack("<2s2xiii8xi", b"GN", columns, rows, width, 64).ljust(64, b"\0")
    wide = pixels.astype("<u2") << 4
    return head + b"".join(wide[:, left : left + width].tobytes() for left in range(0, columns, width))


# -- Zeiss CZI

PLAIN, ZSTD, ZSTD_1 = 0, 5, 6


def write_czi(path: Path, pixels: Pixels, compression: int) -> None:
    """Write a ``.czi`` file with a label, in a file within the file, and a thumbnail in JPEG."""
    others = {b"Label": (b"CZI", czi(picture(70, 90), PLAIN, (1,))),
              b"Thumbnail": (b"JPG", saved(picture(30, 40)))}  # fmt: skip
    path.write_bytes(czi(pixels, compression, STEPS, others))


def czi(
    pixels: Pixels, compression: int, steps: Iterable[int], others: Mapping[bytes, tuple[bytes, bytes]] = {}
) -> bytes:
    """Return a file of the pixels, as BGR; ``others`` are {name: (kind, bytes)} of the attachments."""
    file, entries = bytearray(_segment(b"ZISRAWFILE", bytes(512))), []
    for step in steps:
        for tile, place in _czi_tiles(pixels, step):
            data = tile[..., ::-1].tobytes()
            data = data if compression == PLAIN else bytes(imagecodecs.zstd_encode(data))
            data = b"\1" + data if compression == ZSTD_1 else data  # a header of its own length alone
            entries.append(_czi_entry(place, tile.shape, step, len(file), compression))
            head = struct.pack("<iiq", 0, 0, len(data)) + entries[-1]
            file += _segment(b"ZISRAWSUBBLOCK", head.ljust(256, b"\0") + data)
    places = [len(file)]
    file += _segment(b"ZISRAWDIRECTORY", struct.pack("<i124x", len(entries)) + b"".join(entries))
    places.append(len(file))
    xml = _czi_xml(pixels)
    file += _segment(b"ZISRAWMETADATA", struct.pack("<i252x", len(xml)) + xml)
    attached = []
    for name, (kind, data) in others.items():
        attached.append(struct.pack("<2s10xqi16x8s80s", b"A1", len(file), 1, kind, name))
        file += _segment(b"ZISRAWATTACH", struct.pack("<i12x", len(data)) + attached[-1] + bytes(112) + data)
    places.append(len(file))
    file += _segment(b"ZISRAWATTDIR", struct.pack("<i252x", len(attached)) + b"".join(attached))
    struct.pack_into("<ii44xqq4xq", file, 32, 1, 0, *places)
    return bytes(file)


def _segment(name: bytes, content: bytes) -> bytes:
    room = -(-len(content) // 32) * 32
    return struct.pack("<16sqq", name, room, len(content)) + content.ljust(room, b"\0")


def _czi_tiles(pixels: Pixels, step: int) -> Iterable[tuple[Pixels, tuple[int, int, int, int]]]:
    """Yield tiles of a level, and the (x, y, width, height) that they cover of full resolution."""
    rows, columns = pixels.shape[:2]
    for y in range(0, rows, SIDE * step):
        for x in range(0, columns, SIDE * step):
            width, height = min(SIDE * step, columns - x), min(SIDE * step, rows - y)
            yield pixels[y : y + height : step, x : x + width : step], (x, y, width, height)


def _czi_entry(
    place: tuple[int, int, int, int], stored: tuple[int, ...], step: int, at: int, compression: int
) -> bytes:
    x, y, width, height = place
    spans = ((b"X", x, width, stored[1]), (b"Y", y, height, stored[0]), (b"C", 0, 1, 1), (b"S", 0, 1, 1))
    head = struct.pack("<2siqiib5xi", b"DV", 3, at, 0, compression, 2 * (step > 1), len(spans))
    return head + b"".join(struct.pack("<4sii4xi", *span) for span in spans)


def _czi_xml(pixels: Pixels) -> bytes:
    size = f"<SizeX>{pixels.shape[1]}</SizeX><SizeY>{pixels.shape[0]}</SizeY><SizeS>1</SizeS>"
    lens = '<ObjectiveSettings><ObjectiveRef Id="Objective:1"/></ObjectiveSettings>'
    objective = '<Objective Id="Objective:1"><NominalMagnification>20</NominalMagnification></Objective>'
    value = f"<Value>{MICRONS / 1e6}</Value>"
    return (
        f"<ImageDocument><Metadata><Information><Image>{size}{lens}</Image>"
        f"<Instrument><Objectives>{objective}</Objectives></Instrument></Information><Scaling><Items>"
        f'<Distance Id="X">{value}</Distance><Distance Id="Y">{value}</Distance>'
        "</Items></Scaling></Metadata></ImageDocument>"
    ).encode()
