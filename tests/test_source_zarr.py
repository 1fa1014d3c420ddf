"""OME-Zarr, versions 2 and 3 of Zarr, compared with what zarr-python wrote and reads."""

from __future__ import annotations

import json
import os
import random
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from click.testing import CliRunner
from numcodecs import BZ2, LZ4, Blosc, GZip, Zlib, Zstd
from numpy.typing import NDArray
from zarr import codecs

import gputiles
from gputiles.commands import info
from gputiles.config import Config
from gputiles.engine import Engine
from gputiles.errors import Damaged, GputilesError, LimitExceeded, NotFound, Unsupported
from gputiles.image import Channel, Reduction
from gputiles.sources import Source
from gputiles.sources.open import open_source
from gputiles.sources.zarrchunks import crc32c
from gputiles.walk import FileRef, walk
from tests.grids import assert_refused, pixels, serving
from tests.reading import full, read_level

ROWS, COLUMNS = np.mgrid[:301, :430]
PLANE = ((ROWS * 3 + COLUMNS) & 0x7F).astype(np.uint8)
LENGTHS = {"t": 2, "c": 3, "z": 4}
Options = dict[str, Any]


def stack(axes: str, dtype: str = "u1") -> NDArray[Any]:
    """Return an array on ``axes`` in which no two planes are equal."""
    outer = [LENGTHS[axis] for axis in axes[:-2]]
    planes = [(PLANE + number) & 0x7F for number in range(int(np.prod(outer)))]
    return np.array(planes).reshape(*outer, *PLANE.shape).astype(dtype)


def group(
    folder: Path,
    levels: list[NDArray[Any]],
    axes: str,
    *,
    version: int = 2,
    attributes: Options | None = None,
    unit: str | None = None,
    **options: Any,
) -> Path:
    """Write an image as OME-Zarr with zarr-python; ``options`` are those of its arrays."""
    options = {"chunks": (1,) * (levels[0].ndim - 2) + (128, 128), **options}
    multiscale = {
        "axes": [{"name": axis, **({"unit": unit} if unit and axis in "yx" else {})} for axis in axes],
        "datasets": [
            {
                "path": str(number),
                "coordinateTransformations": [{"type": "scale", "scale": scale(number, axes)}],
            }
            for number in range(len(levels))
        ],
    }
    told = {"version": "0.4" if version == 2 else "0.5", "multiscales": [multiscale], **(attributes or {})}
    root = zarr.create_group(folder, zarr_format=version, attributes=told if version == 2 else {"ome": told})
    for number, level in enumerate(levels):
        root.create_array(str(number), data=level, **options)
    return folder


def scale(number: int, axes: str) -> list[float]:
    return [*(1.0 for _ in axes[:-2]), 0.5 * 2**number, 0.25 * 2**number]


@contextmanager
def opened(folder: Path, **options: Any) -> Iterator[Source]:
    with closing(open_source(folder, **options)) as source:
        yield source


def rewrite(path: Path, **changes: Any) -> None:
    """Change members of the object in a metadata file."""
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def sharding(**changes: Any) -> Options:
    """Return codecs that put 128x128 pixels into shards, with one thing changed."""
    little = {"name": "bytes", "configuration": {"endian": "little"}}
    plain = {"chunk_shape": [64, 64], "codecs": [little], "index_codecs": [little, {"name": "crc32c"}]}
    return {"codecs": [{"name": "sharding_indexed", "configuration": {**plain, **changes}}]}


# -- pixels


@pytest.mark.parametrize("version", [2, 3])
@pytest.mark.parametrize("axes", ["yx", "cyx", "zyx", "tyx", "czyx", "tcyx", "tzyx", "tczyx", "zcyx"])
def test_every_frame_on_every_subset_of_axes_is_the_arrays_plane(
    version: int, axes: str, tmp_path: Path
) -> None:
    array = stack(axes)
    with opened(group(tmp_path / "a.zarr", [array], axes, version=version)) as source:
        assert source.info.axes == tuple(
            (axis, LENGTHS[axis.lower()]) for axis in "CZT" if axis.lower() in axes
        )
        for number, frame in enumerate(source.info.frames):
            index = dict(frame.index)
            place = tuple(index[axis.upper()] for axis in axes[:-2])
            assert np.array_equal(full(source, number)[..., 0], array[place])


@pytest.mark.parametrize("version", [2, 3])
@pytest.mark.parametrize(
    "dtype",
    ["bool", "<u1", "<u2", ">u2", "<u4", "<u8", "<i1", ">i2", "<i4", "<i8", "<f2", "<f4", ">f4", "<f8"],
)
def test_every_type_is_read(version: int, dtype: str, tmp_path: Path) -> None:
    array = (PLANE / 3).astype(dtype)
    options: Options = {}
    if version == 3 and dtype[0] == ">":
        options = {"serializer": codecs.BytesCodec(endian="big")}
        array = array.astype(dtype.replace(">", "<"))
    with opened(group(tmp_path / "a.zarr", [array], "yx", version=version, **options)) as source:
        found = full(source)[..., 0]
        assert np.array_equal(found, array)
        assert found.dtype == {"b1": "u1", "f2": "f4"}.get(array.dtype.str[1:], array.dtype.newbyteorder("="))
        wide = array.dtype.kind in "ui" and array.dtype.itemsize >= 4
        assert source.info.reduction is (Reduction.NEAREST if wide else Reduction.MEAN)


V2 = {
    "none": None, "zstd": Zstd(3), "zlib": Zlib(3), "gzip": GZip(3), "lz4": LZ4(), "bz2": BZ2(3),
    **{f"blosc-{name}": Blosc(name, shuffle=shuffle)
       for shuffle, name in enumerate(("zstd", "lz4", "zlib"))},
    "blosc-lz4hc": Blosc("lz4hc", shuffle=2),
}  # fmt: skip
V3: dict[str, list[Any]] = {
    "none": [], "zstd": [codecs.ZstdCodec(level=3)], "gzip": [codecs.GzipCodec(level=3)],
    "blosc": [codecs.BloscCodec(cname="zstd", shuffle="bitshuffle")],
    "two": [codecs.GzipCodec(level=1), codecs.ZstdCodec(level=1)],
}  # fmt: skip


@pytest.mark.parametrize("dtype", ["u1", "u2", "f4"])
@pytest.mark.parametrize("name", [*(f"2-{name}" for name in V2), *(f"3-{name}" for name in V3)])
def test_every_compression_is_read(name: str, dtype: str, tmp_path: Path) -> None:
    version, _, codec = name.partition("-")
    array = stack("cyx", dtype)
    compressors = V2[codec] if version == "2" else V3[codec]
    folder = group(tmp_path / "a.zarr", [array], "cyx", version=int(version), compressors=compressors)
    with opened(folder) as source:
        assert all(np.array_equal(full(source, c)[..., 0], array[c]) for c in range(3))


@pytest.mark.parametrize("chunks", [(1, 1, 64, 64), (2, 3, 100, 90), (1, 2, 301, 430), (2, 4, 999, 999)])
@pytest.mark.parametrize("options", [
    {"version": 2, "order": "C"}, {"version": 2, "order": "F"}, {"version": 3},
    {"version": 3, "filters": [codecs.TransposeCodec(order=(3, 1, 0, 2))]},
    {"version": 3, "filters": [codecs.TransposeCodec(order=(3, 1, 0, 2)),
                              codecs.TransposeCodec(order=(1, 2, 3, 0))]},
    {"version": 2, "chunk_key_encoding": {"name": "v2", "separator": "/"}},
    {"version": 3, "chunk_key_encoding": {"name": "default", "separator": "."}},
    {"version": 3, "chunk_key_encoding": {"name": "v2", "separator": "."}},
])  # fmt: skip
def test_chunks_of_every_shape_order_and_name_are_read(
    chunks: tuple[int, ...], options: Options, tmp_path: Path
) -> None:
    array = stack("czyx", "u2")
    folder = group(tmp_path / "a.zarr", [array], "czyx", chunks=chunks, **options)
    with opened(folder) as source:
        for number, frame in enumerate(source.info.frames):
            index = dict(frame.index)
            assert np.array_equal(full(source, number)[..., 0], array[index["C"], index["Z"]])


@pytest.mark.parametrize("version", [2, 3])
@pytest.mark.parametrize(
    ("dtype", "fill"), [("u2", 513), ("f4", float("nan")), ("f4", float("-inf")), ("bool", True)]
)
def test_chunks_that_are_missing_are_of_the_fill_value(
    version: int, dtype: str, fill: Any, tmp_path: Path
) -> None:
    folder = group(tmp_path / "a.zarr", [PLANE.astype(dtype)], "yx", version=version, fill_value=fill)
    array = zarr.open_array(folder / "0")
    (folder / "0" / ("1.2" if version == 2 else "c/1/2")).unlink()
    expected = np.asarray(array[:])
    assert np.array_equal(expected[200, 300], np.asarray(fill, dtype), equal_nan=dtype == "f4")
    with opened(folder) as source:
        assert np.array_equal(full(source)[..., 0], expected, equal_nan=dtype == "f4")


def test_an_array_of_which_nothing_is_stored_is_read(tmp_path: Path) -> None:
    folder = group(tmp_path / "a.zarr", [np.zeros((301, 430), "u1")], "yx")
    assert not (folder / "0" / "0.0").exists()
    with opened(folder) as source:
        assert not full(source).any()


# -- shards


@pytest.mark.parametrize("place", ["start", "end"])
@pytest.mark.parametrize("compressors", [[], [codecs.ZstdCodec()]])
@pytest.mark.parametrize(("chunks", "shards"), [
    ((1, 64, 64), (1, 128, 256)), ((2, 100, 90), (4, 400, 450)), ((1, 301, 430), (3, 301, 430)),
])  # fmt: skip
def test_chunks_in_shards_are_read(
    place: Any, compressors: Any, chunks: tuple[int, ...], shards: tuple[int, ...], tmp_path: Path
) -> None:
    array = stack("cyx", "u2")
    array[1, :150, :200] = 0  # chunks that a shard does not hold
    serializer = codecs.ShardingCodec(
        chunk_shape=chunks, codecs=[codecs.BytesCodec(), *compressors], index_location=place
    )
    options: Options = {"chunks": shards, "serializer": serializer, "compressors": None}
    with opened(group(tmp_path / "a.zarr", [array], "cyx", version=3, **options)) as source:
        assert all(np.array_equal(full(source, c)[..., 0], array[c]) for c in range(3))


def test_tiles_of_a_shard_are_as_large_as_its_chunks(tmp_path: Path) -> None:
    options: Options = {"chunks": (128, 128), "shards": (512, 512)}
    with opened(group(tmp_path / "a.zarr", [PLANE], "yx", version=3, **options)) as source:
        assert source.info.tile_width == 128
        assert source.info.unit(source.info.levels - 1, 1, 1).width == 1


@pytest.mark.parametrize(("at", "reason"), [(-3, "checksum"), (-20, "checksum")])
def test_a_shard_whose_index_is_spoiled_is_damaged(at: int, reason: str, tmp_path: Path) -> None:
    options: Options = {"chunks": (128, 128), "shards": (512, 512)}
    folder = group(tmp_path / "a.zarr", [PLANE], "yx", version=3, **options)
    shard = folder / "0" / "c" / "0" / "0"
    data = bytearray(shard.read_bytes())
    data[at] ^= 1
    shard.write_bytes(data)
    with opened(folder) as source, pytest.raises(Damaged, match=reason):
        full(source)
    shard.write_bytes(data[:50])
    with opened(folder) as source, pytest.raises(Damaged, match="the file ends"):
        full(source)


def test_the_checksum_is_castagnolis() -> None:
    assert crc32c(b"123456789") == 0xE3069283


# -- levels


def test_levels_are_stored_or_left_out_with_a_warning(tmp_path: Path) -> None:
    image = np.kron(PLANE, np.ones((4, 4), np.uint8))
    levels = [image, image[::2, ::2], image[::3, ::3], image[::4, ::4], image[::4, ::4].astype("u2")]
    with opened(group(tmp_path / "a.zarr", levels, "yx", version=3)) as source:
        info = source.info
        assert (info.tile_width, info.levels) == (128, 5)
        assert info.stored == (False, False, True, True, True)
        for z, level in ((4, 0), (3, 1), (2, 3)):
            assert np.array_equal(read_level(source, 0, z)[..., 0], levels[level])
        assert [warning.split(":")[0] for warning in info.warnings] == [
            "the level 2 was dropped", "the level 4 was dropped"
        ]  # fmt: skip


def test_a_level_that_is_rounded_down_repeats_its_last_row_and_column(tmp_path: Path) -> None:
    image = np.kron(PLANE, np.ones((2, 2), np.uint8))[:601, :859]
    half = image[::2, ::2][:300, :429]
    with opened(group(tmp_path / "a.zarr", [image, half], "yx")) as source:
        found = read_level(source, 0, source.info.levels - 2)[..., 0]
        assert found.shape == (301, 430)
        assert np.array_equal(found, np.pad(half, ((0, 1), (0, 1)), mode="edge"))


def test_a_level_whose_stack_is_smaller_is_left_out(tmp_path: Path) -> None:
    array = stack("zyx")
    with opened(group(tmp_path / "a.zarr", [array, array[::2, ::2, ::2]], "zyx")) as source:
        assert source.info.stored.count(True) == 1
        assert "the level 1 was dropped" in source.info.warnings[0]


def test_a_level_that_is_gone_is_left_out_but_full_resolution_is_needed(tmp_path: Path) -> None:
    folder = group(tmp_path / "a.zarr", [PLANE, PLANE[::2, ::2]], "yx")
    (folder / "1" / ".zarray").unlink()
    with opened(folder) as source:
        assert "the level 1 was dropped: 1: no array of Zarr" in source.info.warnings[0]
    (folder / "0" / ".zarray").unlink()
    with pytest.raises(Damaged, match=r"neither zarr\.json nor \.zarray"):
        open_source(folder)


@pytest.mark.parametrize(("chunk", "tile"), [(128, 128), (512, 512), (64, 256), (4096, 256)])
def test_tiles_are_the_chunks_where_those_are_of_a_usual_size(chunk: int, tile: int, tmp_path: Path) -> None:
    image = np.tile(PLANE, (3, 3))
    with opened(group(tmp_path / "a.zarr", [image], "yx", chunks=(chunk, chunk))) as source:
        assert (source.info.tile_width, source.info.tile_height) == (tile, tile)
        assert np.array_equal(full(source)[..., 0], image)


# -- what the attributes say

OMERO = {
    "channels": [
        {"label": "DAPI", "color": "0000FF", "window": {"start": 10, "end": 200.5, "min": 0, "max": 255}},
        {"color": "blue", "window": {"start": 9, "end": 9}, "active": False},
    ]
}


@pytest.mark.parametrize("version", [2, 3])
def test_channels_have_names_colours_and_windows(version: int, tmp_path: Path) -> None:
    folder = group(tmp_path / "a.zarr", [stack("cyx")], "cyx", version=version, attributes={"omero": OMERO})
    with opened(folder) as source:
        assert source.info.channels == (
            Channel("DAPI", "#0000ff", (10.0, 200.5)), Channel("Channel 1", active=False),
            Channel("Channel 2"),
        )  # fmt: skip


@pytest.mark.parametrize("omero", [[], {"channels": 3}, "x"])
def test_channels_that_make_no_sense_are_a_warning(omero: Any, tmp_path: Path) -> None:
    folder = group(tmp_path / "a.zarr", [stack("cyx")], "cyx", attributes={"omero": omero})
    with opened(folder) as source:
        assert source.info.channels == ()
        assert "omero" in source.info.warnings[0]


@pytest.mark.parametrize(("unit", "factor"), [
    ("micrometer", 1e-3), ("millimeter", 1.0), ("nanometer", 1e-6), (None, None), ("parsec", None),
])  # fmt: skip
def test_pixels_have_the_size_of_the_scale_in_its_unit(
    unit: str | None, factor: float | None, tmp_path: Path
) -> None:
    with opened(group(tmp_path / "a.zarr", [stack("cyx")], "cyx", unit=unit)) as source:
        found = source.info.mm_x, source.info.mm_y
        assert found == ((None, None) if factor is None else (0.25 * factor, 0.5 * factor))


def test_a_scale_of_all_levels_counts_as_well(tmp_path: Path) -> None:
    folder = group(tmp_path / "a.zarr", [PLANE], "yx", unit="micrometer")
    attributes = json.loads((folder / ".zattrs").read_text())
    attributes["multiscales"][0]["coordinateTransformations"] = [{"type": "scale", "scale": [2, 4]}]
    (folder / ".zattrs").write_text(json.dumps(attributes))
    with opened(folder) as source:
        assert (source.info.mm_x, source.info.mm_y) == (0.001, 0.001)


def test_label_images_are_reduced_to_the_nearest(tmp_path: Path) -> None:
    folder = group(tmp_path / "a.zarr", [PLANE], "yx", attributes={"image-label": {}})
    with opened(folder) as source:
        assert source.info.reduction is Reduction.NEAREST


@pytest.mark.parametrize("axes", [None, ["t", "c", "z", "y", "x"]])
def test_older_versions_name_axes_otherwise_or_not_at_all(axes: Any, tmp_path: Path) -> None:
    array = stack("tczyx")
    folder = group(tmp_path / "a.zarr", [array], "tczyx")
    attributes = json.loads((folder / ".zattrs").read_text())
    del attributes["multiscales"][0]["axes"]
    attributes["multiscales"][0] |= {} if axes is None else {"axes": axes}
    (folder / ".zattrs").write_text(json.dumps(attributes))
    with opened(folder) as source:
        assert source.info.axes == (("C", 3), ("Z", 4), ("T", 2))
        assert np.array_equal(full(source, 5)[..., 0], array[0, 2, 1])


def test_the_first_of_several_images_is_shown(tmp_path: Path) -> None:
    root = tmp_path / "a.zarr"
    zarr.create_group(root, zarr_format=2, attributes={"bioformats2raw.layout": 3})
    group(root / "0", [PLANE], "yx")
    group(root / "1", [PLANE], "yx")
    with opened(root) as source:
        assert np.array_equal(full(source)[..., 0], PLANE)
        assert source.info.warnings == ("only the first of several images, 0, is shown",)


@pytest.mark.parametrize("version", [2, 3])
@pytest.mark.parametrize(("attributes", "reason"), [
    ({"plate": {"wells": [{"path": "B/03"}]}}, "a.zarr/B/03/0"), ({"plate": {}}, "a.zarr/A/1/0"),
    ({"well": {"images": [{"path": "2"}]}}, "a.zarr/2"), ({"well": 3}, "a.zarr/0"),
    ({"other": 1}, "describes no image.*it has other"), ({}, "it has no attributes"),
])  # fmt: skip
def test_what_is_no_image_says_what_it_is(
    version: int, attributes: Options, reason: str, tmp_path: Path
) -> None:
    attributes = {"ome": attributes} if version == 3 else attributes
    zarr.create_group(tmp_path / "a.zarr", zarr_format=version, attributes=attributes)
    with pytest.raises(Unsupported, match=reason):
        open_source(tmp_path / "a.zarr")


# -- what is refused


@pytest.mark.parametrize(("changes", "error", "reason"), [
    ({"dtype": "<c8"}, Unsupported, "data type '<c8'"), ({"dtype": "|S4"}, Unsupported, "data type"),
    ({"dtype": [["a", "<u1"]]}, Unsupported, "data type"),
    ({"compressor": {"id": "lzma"}}, Unsupported, "compressor 'lzma' is not read; blosc"),
    ({"filters": [{"id": "delta"}]}, Unsupported, r"filters \['delta'\]"),
    ({"shape": [301]}, Damaged, "shape"), ({"shape": [0, 430]}, Damaged, "shape"),
    ({"shape": [1 << 40, 430]}, Damaged, "shape"), ({"shape": "x"}, Damaged, "shape"),
    ({"chunks": [128, 128, 128]}, Damaged, "chunks of 3 axes"), ({"chunks": [0, 128]}, Damaged, "chunks"),
    ({"chunks": [1 << 20, 1 << 20]}, LimitExceeded, "decode to 1099511627776 bytes"),
    ({"chunks": [1, 1]}, LimitExceeded, "made of 129430 chunks"),
    ({"fill_value": 256}, Damaged, "fill_value '256' is no uint8"),
    ({"fill_value": "x"}, Damaged, "fill_value"),
    ({"dimension_separator": "-"}, Damaged, "separator"),
    ({"shape": [2, 301, 430], "chunks": [1, 128, 128]}, Damaged, "an array of 3 axes; they are y,x"),
])  # fmt: skip
def test_arrays_of_version_2_that_are_not_read_say_why(
    changes: Options, error: type[GputilesError], reason: str, tmp_path: Path
) -> None:
    folder = group(tmp_path / "a.zarr", [PLANE], "yx")
    rewrite(folder / "0" / ".zarray", **changes)
    with pytest.raises(error, match=reason):
        open_source(folder)


@pytest.mark.parametrize(("changes", "error", "reason"), [
    ({"data_type": "complex64"}, Unsupported, "complex64"),
    ({"data_type": {"name": "x"}}, Unsupported, "data type"),
    ({"node_type": "group"}, Damaged, "expected an array"),
    ({"chunk_grid": {"name": "odd"}}, Unsupported, "odd"),
    ({"chunk_grid": 3}, Damaged, "chunk_grid"),
    ({"chunk_key_encoding": {"name": "x"}}, Unsupported, "chunk keys"),
    ({"codecs": 3}, Damaged, "codecs"),
    ({"codecs": [{"name": "zfpy"}]}, Unsupported, "codec 'zfpy' is not read"),
    ({"codecs": [{"name": "bytes", "configuration": {"endian": "middle"}}]}, Damaged, "'little' or 'big'"),
    ({"codecs": [{"name": "transpose", "configuration": {"order": [0, 0]}}]}, Damaged, "transpose"),
    ({"codecs": [{"name": "sharding_indexed"}]}, Damaged, "chunk_shape"),
    ({"codecs": [{"name": "sharding_indexed"}, {"name": "gzip"}]}, Unsupported, "other codecs around shards"),
    (sharding(chunk_shape=[100, 128]), Damaged, "chunk_shape"),
    (sharding(chunk_shape=[0, 128]), Damaged, "chunk_shape"),
    (sharding(codecs=3), Damaged, "codecs"), (sharding(index_location="middle"), Damaged, "'start' or 'end'"),
    (sharding(index_codecs=[{"name": "gzip"}]), Unsupported, "index_codecs"),
    (sharding(codecs=[{"name": "sharding_indexed"}]), Unsupported, "shards in shards"),
    ({"storage_transformers": [{"name": "x"}]}, Unsupported, "storage transformers"),
])  # fmt: skip
def test_arrays_of_version_3_that_are_not_read_say_why(
    changes: Options, error: type[GputilesError], reason: str, tmp_path: Path
) -> None:
    folder = group(tmp_path / "a.zarr", [PLANE], "yx", version=3)
    rewrite(folder / "0" / "zarr.json", **changes)
    with pytest.raises(error, match=reason):
        open_source(folder)


@pytest.mark.parametrize(("attributes", "error", "reason"), [
    ({"multiscales": []}, Damaged, "at least one"), ({"multiscales": 3}, Damaged, "a list of objects"),
    ({"multiscales": [{}]}, Damaged, "datasets"),
    ({"multiscales": [{"datasets": []}]}, Damaged, "1 to 64; got 0"),
    ({"multiscales": [{"datasets": [{}]}]}, Damaged, "path"),
    ({"multiscales": [{"datasets": [{"path": "../0"}]}]}, Damaged, "path"),
    ({"multiscales": [{"datasets": [{"path": "/etc"}]}]}, Damaged, "path"),
    ({"multiscales": [{"datasets": [{"path": "0"}], "axes": ["x", "y"]}]}, Unsupported, "axes 'x,y'"),
    ({"multiscales": [{"datasets": [{"path": "0"}], "axes": ["q", "y", "x"]}]}, Unsupported, "axes 'q,y,x'"),
])  # fmt: skip
def test_attributes_that_make_no_sense_are_refused(
    attributes: Options, error: type[GputilesError], reason: str, tmp_path: Path
) -> None:
    folder = group(tmp_path / "a.zarr", [PLANE], "yx")
    (folder / ".zattrs").write_text(json.dumps(attributes))
    with pytest.raises(error, match=reason):
        open_source(folder)


@pytest.mark.parametrize("text", ["", "[]", "{", "nan", "[" * 100_000, '{"multiscales": 1e999999}'])
def test_metadata_that_are_not_json_are_damaged(text: str, tmp_path: Path) -> None:
    folder = group(tmp_path / "a.zarr", [PLANE], "yx")
    (folder / ".zattrs").write_text(text)
    with pytest.raises(Damaged):
        open_source(folder)


def test_a_folder_that_is_no_zarr_is_damaged(tmp_path: Path) -> None:
    with pytest.raises(Damaged, match="without metadata of Zarr"):
        open_source(tmp_path)


def test_there_are_no_other_frames_levels_and_pictures(tmp_path: Path) -> None:
    folder = group(tmp_path / "a.zarr", [PLANE], "yx")
    with opened(folder) as source:
        z = source.info.levels - 1
        with pytest.raises(NotFound, match="Frame does not exist"):
            source.read(1, z, source.info.unit(z, 0, 0))
        with pytest.raises(NotFound, match="level 0 is not stored"):
            source.read(0, 0, source.info.unit(0, 0, 0))
        assert source.passthrough(0, z, 0, 0) is None
    with pytest.raises(NotFound, match="no picture 'label'"):
        open_source(folder, associated="label")


@pytest.mark.parametrize("place", ["0/0.0", "0/.zarray", "0", ".zattrs"])
def test_links_may_not_lead_out_of_the_root(place: str, tmp_path: Path) -> None:
    (tmp_path / "root").mkdir()
    inner, outer = (group(tmp_path / name / "a.zarr", [PLANE], "yx") for name in ("root", "outside"))
    target = inner / place
    if target.is_dir():
        target.rename(tmp_path / "away")
    else:
        target.unlink()
    target.symlink_to(outer / place)
    with (
        pytest.raises(Damaged, match="leads out of its root"),
        opened(inner, root=tmp_path / "root") as source,
    ):
        full(source)
    with opened(inner, root=tmp_path) as source:
        assert np.array_equal(full(source)[..., 0], PLANE)


def test_a_chunk_that_is_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    folder = group(tmp_path / "a.zarr", [PLANE], "yx")
    (folder / "0" / "0.0").unlink()
    os.mkfifo(folder / "0" / "0.0")
    with opened(folder) as source, pytest.raises(Damaged, match="neither a file nor a folder"):
        full(source)


@pytest.mark.parametrize("content", [b"", b"x", bytes(10_000_000)])
def test_a_spoiled_chunk_spoils_its_tile_alone(content: bytes, tmp_path: Path) -> None:
    folder = group(tmp_path / "a.zarr", [PLANE], "yx", chunks=(256, 256))
    (folder / "0" / "0.1").write_bytes(content)
    with opened(folder) as source:
        z = source.info.levels - 1
        jobs = {x: source.read(0, z, source.info.unit(z, x, 0)) for x in (0, 1)}
        (whole,), (spoiled,) = jobs[0].chunks, jobs[1].chunks
        assert isinstance(whole.data, bytes)
        if isinstance(spoiled.data, bytes):
            with pytest.raises(Damaged):
                spoiled.codec.decode(spoiled.data, 256, 256)
        else:
            assert isinstance(spoiled.data, Damaged)


@pytest.mark.parametrize(
    "name", ["2-blosc-zstd", "2-zlib", "2-lz4", "2-bz2", "3-zstd", "3-gzip", "3-none", "3-blosc", "3-sharded"]
)
def test_spoiled_files_are_refused_in_words(name: str, tmp_path: Path) -> None:
    rng = random.Random(name)
    version, _, codec = name.partition("-")
    if codec == "sharded":
        codec, more = "zstd", {"shards": (3, 64, 64), "chunks": (1, 32, 32)}
    else:
        more = {"chunks": (1, 64, 64)}
    compressors = V2[codec] if version == "2" else V3[codec]
    small = stack("cyx", "u2")[:, :60, :50]
    folder = group(
        tmp_path / "a.zarr", [small], "cyx", version=int(version), compressors=compressors,
        attributes={"omero": OMERO}, **more,
    )  # fmt: skip
    files = {path: path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}
    reasons = []
    for _ in range(300):
        path = rng.choice(list(files))
        path.write_bytes(mutate(files[path], rng))
        reasons.append(refusal(folder))
        path.write_bytes(files[path])
    assert sum(reason is not None for reason in reasons) > 50
    assert "" not in reasons
    assert refusal(folder) is None


def mutate(data: bytes, rng: random.Random) -> bytes:
    """Return a file cut off, or with a few bytes changed; numbers of JSON become odd ones."""
    spoiled = bytearray(data)
    if rng.random() < 0.2:
        return bytes(spoiled[: rng.randrange(len(spoiled))])
    digits = [at for at, byte in enumerate(spoiled) if chr(byte).isdigit()]
    for _ in range(rng.randint(1, 3)):
        if spoiled[:1] == b"{" and rng.random() < 0.7 and digits:
            odd = rng.choice(
                [b"-1", b"0", b"1e99", b"99999999999", b"null", b"{}", b'"x"', b"7", b"2147483647"]
            )
            at = rng.choice(digits)
            spoiled[at : at + 1] = odd
        else:
            at = rng.randrange(len(spoiled))
            spoiled[at] = rng.randrange(256)
    return bytes(spoiled)


def refusal(folder: Path) -> str | None:
    """Return the reason for which an image is refused, None where it is read; other errors are raised."""
    try:
        with opened(folder, chunk_limit=1 << 26) as source:
            json.dumps(source.internals(), allow_nan=False)
            if source.info.width * source.info.height <= 1 << 22:  # else it is long rather than wrong
                for frame in range(min(3, len(source.info.frames))):
                    full(source, frame)
    except GputilesError as error:
        return str(error)
    return None


# -- served


async def test_a_folder_is_one_item_whose_tiles_are_served(tmp_path: Path) -> None:
    group(
        tmp_path / "folder" / "Image.OME.zarr", [stack("cyx")], "cyx", version=3, attributes={"omero": OMERO}
    )
    async with serving(tmp_path) as client:
        (item,) = await (await client.get("/item")).json()
        assert item["name"] == "folder/Image.OME.zarr"
        tiles = await (await client.get(f"/item/{item['id']}/tiles")).json()
        assert (tiles["sizeX"], tiles["sizeY"], len(tiles["frames"])) == (430, 301, 3)
        told = await (await client.get(f"/item/{item['id']}/tiles/internal_metadata")).json()
        assert (told["tilesource"], told["attributes"]["omero"]) == ("zarr", OMERO)
        address = (
            f"/item/{item['id']}/tiles/zxy/2/1/0?encoding=PNG&frame=1&style=%7B%22min%22:0,%22max%22:255%7D"
        )
        assert np.array_equal(await pixels(client, address), stack("cyx")[1][:128, 128:256])
        assert "zarr" in (await (await client.get("/large_image/sources")).json())["zarr"]["extensions"]


def test_folders_are_opened_from_python_and_the_command_line(tmp_path: Path) -> None:
    folder = group(tmp_path / "a.zarr", [stack("cyx")], "cyx")
    with gputiles.open(folder, config=None) as image:
        assert np.array_equal(image.raster(2, 0, 0, frame=2)[..., 0], stack("cyx")[2][:128, :128])
    answer = CliRunner().invoke(info.command, [str(folder)])
    assert answer.exit_code == 0, answer.output
    assert "OME-Zarr" in answer.output


def test_a_root_may_be_such_a_folder_itself(tmp_path: Path) -> None:
    folder = group(tmp_path / "a.zarr", [PLANE], "yx")
    (item,) = walk([folder]).values()
    assert (item.name, item.ref) == ("a.zarr", FileRef(folder, folder))


async def test_other_metadata_are_another_version(tmp_path: Path) -> None:
    folder = group(tmp_path / "a.zarr", [PLANE], "yx")
    reference = FileRef(folder, tmp_path)
    async with Engine(Config(revalidate=0.0, workers=1)) as engine:
        before = await engine.image(reference)
        rewrite(folder / ".zattrs", omero=OMERO)
        after = await engine.image(reference)
        assert before.version != after.version
        assert after.info.channels[0].name == "DAPI"
        rewrite(folder / "0" / ".zarray", fill_value=7)
        assert (await engine.image(reference)).version != after.version
        (folder / "0" / ".zarray").unlink()
        with pytest.raises(NotFound):
            await engine.image(reference)


async def test_a_plate_is_refused_with_what_is_to_be_opened(tmp_path: Path) -> None:
    zarr.create_group(tmp_path / "a.zarr", zarr_format=2, attributes={"plate": {"wells": [{"path": "C/5"}]}})
    async with serving(tmp_path) as client:
        (item,) = await (await client.get("/item")).json()
        await assert_refused(await client.get(f"/item/{item['id']}/tiles"), 415, "a.zarr/C/5/0")
