"""OME-XML: axes, planes, channels, companions, and what is wrong with them."""

from __future__ import annotations

import io
import os
from pathlib import Path

import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st

from gputiles.errors import Damaged
from gputiles.metadata import describe
from gputiles.sources import ome
from gputiles.sources.open import open_source
from tests.conftest import shared
from tests.reading import full

XML = (
    '<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06" UUID="urn:uuid:me">{before}'
    '<Image ID="Image:0"><Pixels DimensionOrder="{order}" Type="uint8" SizeX="8" SizeY="6" '
    'SizeC="{c}" SizeZ="{z}" SizeT="{t}"{more}>'
    "{inside}</Pixels></Image>{after}</OME>"
)


def xml(inside: str = "<TiffData/>", **parts: object) -> str:
    defaults = {"order": "XYCZT", "c": 1, "z": 1, "t": 1, "more": "", "before": "", "after": ""}
    parts = defaults | parts
    return XML.format(inside=inside, **parts | {"more": f" {parts['more']}"})


def ome_file(description: str, pages: int) -> io.BytesIO:
    """Return a file whose page n is filled with n."""
    file = io.BytesIO()
    with tifffile.TiffWriter(file) as writer:
        for page in range(pages):
            text = description.encode() if page == 0 else None
            writer.write(np.full((6, 8), page, np.uint8), description=text, metadata=None)
    return file


def values(file: io.BytesIO | Path, root: Path | None = None) -> list[int | None]:
    """Return the value that each frame is filled with, None for missing frames."""
    source = open_source(file, root=root)
    frames = range(len(source.info.frames))
    found = [None if f in source.info.missing else int(full(source, f)[0, 0, 0]) for f in frames]
    source.close()
    return found


# -- the document


@pytest.mark.parametrize(("text", "colour"), [
    ("-16776961", "#ff0000"), ("16711935", "#00ff00"), ("65535", "#0000ff"), ("-65281", "#ffff00"),
    ("-2147483648", "#800000"), ("0", None), ("255", None), (None, None), ("red", None), ("-256", "#ffffff"),
])  # fmt: skip
def test_colours_are_signed_rgba_and_black_is_none(text: str | None, colour: str | None) -> None:
    assert ome.colour(text) == colour


@pytest.mark.parametrize(("unit", "mm"), [
    ("", 0.5e-3), ('PhysicalSizeXUnit="nm"', 0.5e-6), ('PhysicalSizeXUnit="mm"', 0.5),
    ('PhysicalSizeXUnit="µm"', 0.5e-3), ('PhysicalSizeXUnit="pixel"', None),
])  # fmt: skip
def test_physical_sizes_have_units(unit: str, mm: float | None) -> None:
    image = ome.parse(xml(more=f'PhysicalSizeX="0.5" {unit}')).images[0]
    assert image.mm_x == pytest.approx(mm)


def test_magnification_is_that_of_the_objective() -> None:
    before = '<Instrument><Objective ID="O:0" NominalMagnification="40.0"/></Instrument>'
    assert ome.parse(xml(before=before)).images[0].magnification == 40.0


@pytest.mark.parametrize("text", [
    "", "<OME", "<other/>", "<OME/>", xml(order="XYZ"), xml(c=0), xml(c=100_000, z=100), xml()[:-3],
    xml('<TiffData IFD="x"/>'),
])  # fmt: skip
def test_what_cannot_be_used_is_damage(text: str) -> None:
    with pytest.raises(Damaged, match="the OME-XML cannot be used"):
        ome.parse(text)


def test_entities_are_not_expanded() -> None:
    bomb = '<!DOCTYPE OME [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;&a;">]>'
    with pytest.raises(Damaged):
        ome.parse(bomb + xml('<Channel Name="&b;"/>'))
    with pytest.raises(Damaged):
        ome.parse('<!DOCTYPE OME [<!ENTITY a SYSTEM "file:///etc/passwd">]>' + xml('<Channel Name="&a;"/>'))


@pytest.mark.parametrize("name", ["", ".", "..", "../a.tif", "/etc/passwd", "a/b.tif", "..\\a.tif", "a\0b"])
def test_only_plain_names_are_companions(name: str) -> None:
    assert not ome.is_plain_name(name)


# -- planes


@pytest.mark.parametrize("order", ["XYCZT", "XYZCT", "XYTZC"])
def test_frames_are_in_the_order_of_the_xml_which_is_that_of_the_pages(order: str) -> None:
    file = ome_file(xml(order=order, c=2, z=3, t=2), 12)
    assert values(file) == list(range(12))
    lengths = {"C": 2, "Z": 3, "T": 2}
    assert open_source(file).info.axes == tuple((axis, lengths[axis]) for axis in order[2:])


@settings(max_examples=40, deadline=None)
@given(
    order=st.permutations("CZT").map(lambda axes: "XY" + "".join(axes)),
    sizes=st.tuples(*[st.integers(1, 4)] * 3),
    byteorder=st.sampled_from("<>"),
    big=st.booleans(),
)
def test_any_order_and_size_of_axes_gives_the_planes_that_tifffile_gives(
    order: str, sizes: tuple[int, int, int], byteorder: str, big: bool
) -> None:
    c, z, t = sizes
    file = io.BytesIO()
    text = xml("".join("<Channel/>" for _ in range(c)) + "<TiffData/>", order=order, c=c, z=z, t=t)
    with tifffile.TiffWriter(file, byteorder=byteorder, bigtiff=big) as writer:
        for page in range(c * z * t):
            description = text.encode() if page == 0 else None
            writer.write(np.full((6, 8), page, np.uint8), description=description, metadata=None)
    file.seek(0)
    with tifffile.TiffFile(file) as tif:
        array, axes = tif.series[0].asarray(), tif.series[0].axes
    slowest_first = [axes.index(axis) for axis in reversed(order[2:]) if axis in axes]
    array = array.transpose([*slowest_first, axes.index("Y"), axes.index("X")])
    assert values(file) == array.reshape(-1, 6, 8)[:, 0, 0].tolist()


def test_blocks_place_planes_where_they_say() -> None:
    blocks = '<TiffData FirstC="1" IFD="0"/><TiffData IFD="2" PlaneCount="1"/><TiffData FirstC="2" IFD="1"/>'
    assert values(ome_file(xml(blocks, c=3), 3)) == [2, 0, 1]


def test_a_block_fills_planes_in_the_order_of_the_axes() -> None:
    blocks = '<TiffData IFD="1" FirstZ="1" PlaneCount="3"/>'
    assert values(ome_file(xml(blocks, order="XYZCT", c=2, z=3), 4)) == [None, 1, 2, 3, None, None]


def test_planes_that_the_file_lacks_are_missing_and_no_other_stands_in() -> None:
    assert values(ome_file(xml(c=5), 3)) == [0, 1, 2, None, None]
    assert values(
        ome_file(xml('<TiffData IFD="0" PlaneCount="1"/><TiffData FirstC="1" IFD="9"/>', c=2), 2)
    ) == [0, None]


def test_without_blocks_planes_follow_each_other() -> None:
    assert values(ome_file(xml("<Channel/>", c=2), 2)) == [0, 1]


def test_broken_xml_falls_back_to_the_plain_pages_with_a_warning() -> None:
    source = open_source(ome_file(xml(c=3)[:120], 3))
    assert source.info.axes == (("Z", 3),)
    assert "the OME-XML cannot be used" in source.info.warnings[0]


def test_channels_have_names_and_colours() -> None:
    channels = '<Channel Name="DAPI" Color="65535"/><Channel/><TiffData/>'
    info = open_source(ome_file(xml(channels, c=2, more='SignificantBits="7"'), 2)).info
    assert [(channel.name, channel.colour) for channel in info.channels] == [
        ("DAPI", "#0000ff"),
        ("Channel 1", None),
    ]
    assert info.significant_bits == 7


def test_channels_of_one_tag_are_a_group() -> None:
    told = (
        ("DAPI", ""),
        ("CD3", "Annotation:1 Annotation:3 Annotation:9"),  # the last one is nowhere
        ("CD8", "Annotation:1 Annotation:1 Annotation:4"),  # a comment is no tag
        ("PanCK", "Annotation:2 Annotation:5"),  # an empty one names nothing
        ("Ki67", "Annotation:3"),
    )
    channels = ""
    for name, tags_of in told:
        refs = "".join(f'<AnnotationRef ID="{tag}"/>' for tag in tags_of.split())
        channels += f'<Channel Name="{name}">{refs}</Channel>'
    tags = "".join(
        f'<TagAnnotation ID="Annotation:{number}"><Value>{text}</Value></TagAnnotation>'
        for number, text in ((1, " T cells "), (2, "Tumour"), (3, "Round &amp; round"), (5, " "))
    )
    comment = '<CommentAnnotation ID="Annotation:4"><Value>bright</Value></CommentAnnotation>'
    after = f"<StructuredAnnotations>{tags}{comment}</StructuredAnnotations>"
    whole = xml(channels + "<TiffData/>", c=5, after=after)
    info = open_source(ome_file(whole, 5)).info
    assert [channel.groups for channel in info.channels] == [
        (), ("T cells", "Round & round"), ("T cells",), ("Tumour",), ("Round & round",),
    ]  # fmt: skip
    assert describe(info)["channelGroups"] == [
        {"name": "T cells", "channels": [1, 2]},
        {"name": "Round & round", "channels": [1, 4]},
        {"name": "Tumour", "channels": [3]},
    ]
    plain = open_source(ome_file(xml(channels + "<TiffData/>", c=5), 5)).info
    assert "channelGroups" not in describe(plain)


def test_three_channels_are_not_a_colour_picture() -> None:
    source = open_source(shared("cases", "ome_3ch_u8_not_rgb.ome.tif"))
    assert (source.info.axes, source.info.samples) == ((("C", 3),), 1)
    source.close()


def test_forty_channels_have_forty_names_colours_and_levels() -> None:
    source = open_source(shared("cases", "ome_40ch_subifd.ome.tif"))
    assert len(source.info.channels) == len(source.info.frames) == 40
    assert all(channel.colour for channel in source.info.channels)
    assert source.info.stored == (True, True)
    source.close()


# -- companions


def write_set(folder: Path, names: list[str], *, other: str = "b.ome.tif") -> Path:
    blocks = "".join(
        f'<TiffData FirstC="{index}" IFD="0"><UUID FileName="{name}">urn:uuid:{index}</UUID></TiffData>'
        for index, name in enumerate(names)
    )
    path = folder / "a.ome.tif"
    path.write_bytes(ome_file(xml(blocks, c=len(names)), 1).getvalue())
    tifffile.imwrite(folder / other, np.full((6, 8), 77, np.uint8), metadata=None)
    return path


def test_planes_of_companions_are_read_from_beside_the_file(tmp_path: Path) -> None:
    path = write_set(tmp_path, ["a.ome.tif", "b.ome.tif"])
    assert values(path, tmp_path) == [0, 77]


def test_an_absent_companion_leaves_its_planes_missing(tmp_path: Path) -> None:
    path = write_set(tmp_path, ["a.ome.tif", "c.ome.tif"])
    assert values(path, tmp_path) == [0, None]


def test_a_companion_outside_the_folder_is_not_read(tmp_path: Path) -> None:
    inside = tmp_path / "inside"
    inside.mkdir()
    path = write_set(inside, ["a.ome.tif", "../secret.tif"], other="../secret.tif")
    assert values(path, inside) == [0, None]


def test_a_link_that_leads_out_of_the_root_is_not_followed(tmp_path: Path) -> None:
    inside = tmp_path / "inside"
    inside.mkdir()
    path = write_set(inside, ["a.ome.tif", "b.ome.tif"], other="../secret.tif")
    os.symlink(tmp_path / "secret.tif", inside / "b.ome.tif")
    assert values(path, inside) == [0, None]


def test_a_renamed_file_still_finds_its_own_planes(tmp_path: Path) -> None:
    path = write_set(tmp_path, ["a.ome.tif"]).rename(tmp_path / "renamed.ome.tif")
    assert values(path, tmp_path) == [0]


def test_a_file_object_has_no_companions(tmp_path: Path) -> None:
    path = write_set(tmp_path, ["a.ome.tif", "b.ome.tif"])
    source = open_source(io.BytesIO(path.read_bytes()))
    assert any("not looked for" in warning for warning in source.info.warnings)


def test_metadata_in_an_absent_file_is_a_warning() -> None:
    source = open_source(shared("cases", "ome_binaryonly_missing.ome.tif"))
    assert any("another file" in warning for warning in source.info.warnings)
    assert len(source.info.frames) == 1
    source.close()


def test_a_file_that_names_one_outside_its_folder_serves_its_own_page() -> None:
    source = open_source(shared("cases", "set_escape", "evil.ome.tif"), root=shared("cases"))
    assert full(source)[1, 1, 0] == 1
    assert source.descriptors == 1
    source.close()


# -- what writers of all years leave out or get wrong


PLANE = '<TiffData FirstC="{}" IFD="{}"/>'
TOLD = '<TiffData FirstC="{}" IFD="{}"><UUID>{}</UUID></TiffData>'


@pytest.mark.parametrize(("blocks", "expected"), [
    (PLANE.format(0, 0) + TOLD.format(1, 1, "urn:uuid:other"), [0, None]),
    (TOLD.format(0, 1, "urn:uuid:me") + PLANE.format(1, 0), [1, 0]),
    (TOLD.format(0, 1, "URN:UUID:ME") + PLANE.format(1, 0), [1, 0]),
    (TOLD.format(0, 1, "me") + PLANE.format(1, 0), [1, 0]),
    (TOLD.format(0, 1, "") + TOLD.format(1, 0, " "), [1, 0]),
    # of one name alone, which nobody else has, the file is the only one that can be meant
    (TOLD.format(0, 1, "urn:uuid:old") + TOLD.format(1, 0, "urn:uuid:old"), [1, 0]),
])  # fmt: skip
def test_a_uuid_tells_whose_a_page_is_without_a_file_name(blocks: str, expected: list[int | None]) -> None:
    assert values(ome_file(xml(blocks, c=2), 2)) == expected


def test_without_a_uuid_of_its_own_a_file_takes_all_for_its_own() -> None:
    text = xml(
        '<TiffData FirstC="1" IFD="0"><UUID>urn:uuid:a</UUID></TiffData><TiffData FirstC="0" IFD="1"/>', c=2
    )
    assert values(ome_file(text.replace('UUID="urn:uuid:me"', ""), 2)) == [1, 0]


@pytest.mark.parametrize(("channels", "names"), [
    ("", None),
    ('<Channel Name="A"/>', ["A", "Channel 1", "Channel 2"]),
    ('<Channel Name="A"/><Channel Name="B"/>', ["A", "B", "Channel 2"]),
    ('<Channel Name="A"/><Channel/><Channel Name="A"/>', ["A", "Channel 1", "A"]),
    ('<Channel Name="A"/><Channel Name="B"/><Channel Name="C"/><Channel Name="D"/>', ["A", "B", "C"]),
])  # fmt: skip
def test_channels_that_are_described_keep_their_names_however_many_there_are(
    channels: str, names: list[str] | None
) -> None:
    info = open_source(ome_file(xml(channels + "<TiffData/>", c=3), 3)).info
    assert [channel.name for channel in info.channels] == (names or [])


def test_channels_of_before_2010_stand_beside_the_pixels() -> None:
    text = xml(c=2).replace("<Pixels", '<LogicalChannel Name="A"/><LogicalChannel Name="B"/><Pixels')
    info = open_source(ome_file(text, 2)).info
    assert [channel.name for channel in info.channels] == ["A", "B"]


@pytest.mark.parametrize(
    "year", ["FC", "2007-06", "2008-09", "2010-06", "2013-06", "2016-06", "2099-01", None]
)
def test_the_namespace_of_any_year_is_read(year: str | None) -> None:
    there = 'xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06"'
    name = "" if year is None else there.replace("2016-06", year)
    text = xml('<TiffData IFD="0" NumPlanes="2"/>', c=2, order="xyczt").replace(there, name)
    source = open_source(ome_file(text, 2))
    assert (source.info.axes, source.info.missing) == ((("C", 2),), set())


@pytest.mark.parametrize("end", ["\n", " junk", "\x01", "\n\n<", "?"])
def test_what_stands_behind_the_last_element_is_left_out(end: str) -> None:
    assert open_source(ome_file(xml(c=2) + end, 2)).info.axes == (("C", 2),)


@pytest.mark.parametrize(
    "text", ["4294967296", "-2147483649", "99999999999999999999999", "1e3", "#ff0000", ""]
)
def test_a_number_that_is_no_colour_of_32_bits_is_none(text: str) -> None:
    assert ome.colour(text) is None


def test_a_page_of_a_set_says_which_file_opens_it(tmp_path: Path) -> None:
    (tmp_path / "all.ome.tif").write_bytes(ome_file(xml(c=2), 2).getvalue())
    text = '<OME UUID="urn:uuid:1"><BinaryOnly MetadataFile="all.ome.tif" UUID="urn:uuid:0"/></OME>'
    (tmp_path / "one.ome.tif").write_bytes(ome_file(text, 1).getvalue())
    source = open_source(tmp_path / "one.ome.tif")
    assert any("opens with 'all.ome.tif'" in warning for warning in source.info.warnings)
    assert full(source)[0, 0, 0] == 0
    source.close()


@pytest.mark.parametrize("firsts", [(0, 1, 2), (0, 3, 6)])
@pytest.mark.parametrize("planar", [False, True])
def test_channels_of_several_samples_are_counted_either_way(firsts: tuple[int, ...], planar: bool) -> None:
    channels = '<Channel SamplesPerPixel="3" Name="A"/>' * 3
    blocks = "".join(f'<TiffData FirstC="{c}" IFD="{2 - at}"/>' for at, c in enumerate(firsts))
    file = io.BytesIO()
    with tifffile.TiffWriter(file) as writer:
        for page in range(3):
            picture = np.full((3, 6, 8) if planar else (6, 8, 3), page, np.uint8)
            writer.write(
                picture,
                description=xml(channels + blocks, c=9).encode() if page == 0 else None,
                photometric="rgb",
                planarconfig="separate" if planar else "contig",
                metadata=None,
            )
    assert values(file) == [2, 1, 0]
    assert open_source(file).info.axes == (("C", 3),)


def test_a_file_whose_name_changed_its_case_is_still_its_own(tmp_path: Path) -> None:
    text = xml('<TiffData IFD="1"><UUID FileName="A.OME.TIF">urn:uuid:x</UUID></TiffData>', c=1)
    path = tmp_path / "a.ome.tif"
    path.write_bytes(ome_file(text, 2).getvalue())
    assert values(path, tmp_path) == [1]
