"""Files of tifffile: axes that the description names, planes behind one directory."""

from __future__ import annotations

import io
import itertools
import math
from typing import Any

import numpy as np
import pytest
import tifffile

from gputiles.sources.open import open_source
from tests.reading import full
from tests.tiffs import page, tiff


def stack(axes: str, sizes: dict[str, int], *, samples: int = 1) -> np.ndarray[Any, Any]:
    """Return an array whose planes are filled with 100 t + 10 z + c."""
    lengths = [sizes[axis] for axis in axes]
    found = np.zeros((*lengths, 20, 30, samples), np.uint16)
    for place in itertools.product(*map(range, lengths)):
        at = dict(zip(axes, place, strict=True))
        found[place] = 100 * at.get("T", 0) + 10 * at.get("Z", 0) + at.get("C", 0)
    return found[..., 0] if samples == 1 else found


SIZES = {"C": 4, "Z": 3, "T": 2}
ORDERS = ["".join(order) for length in (1, 2, 3) for order in itertools.permutations("CZT", length)]


@pytest.mark.parametrize("axes", ORDERS)
@pytest.mark.parametrize("truncate", [False, True])
@pytest.mark.parametrize("samples", [1, 3])
@pytest.mark.parametrize("order", ["<", ">"])
def test_every_plane_lies_where_its_axes_say(axes: str, truncate: bool, samples: int, order: str) -> None:
    file = io.BytesIO()
    with tifffile.TiffWriter(file, byteorder=order, shaped=True) as writer:
        writer.write(
            stack(axes, SIZES, samples=samples),
            photometric="minisblack" if samples == 1 else "rgb",
            metadata={"axes": axes + ("YX" if samples == 1 else "YXS")},
            truncate=truncate,
        )
    source = open_source(file)
    assert dict(source.info.axes) == {axis: SIZES[axis] for axis in axes}
    assert "".join(axis for axis, _ in source.info.axes) == "".join(sorted(axes, key="CZT".index))
    for number, frame in enumerate(source.info.frames):
        at = dict(frame.index)
        expected = 100 * at.get("T", 0) + 10 * at.get("Z", 0) + at.get("C", 0)
        assert set(np.unique(full(source, number))) == {expected}
    assert source.info.warnings == ()


def test_levels_below_the_pages_are_kept() -> None:
    file, array = io.BytesIO(), np.stack([np.full((600, 700), value, np.uint8) for value in range(3)])
    with tifffile.TiffWriter(file) as writer:
        options: dict[str, Any] = {"photometric": "minisblack", "tile": (128, 128)}
        writer.write(array, subifds=1, metadata={"axes": "CYX"}, **options)
        writer.write(array[:, ::2, ::2], subfiletype=1, **options)
    info = open_source(file).info
    assert (info.axes, info.stored[-2:]) == ((("C", 3),), (True, True))


@pytest.mark.parametrize(("names", "axes"), [
    (None, (("Z", 6),)), ("QCYX", (("Z", 6),)), ("ZRYX", (("Z", 6),)), ("CCYX", (("Z", 6),)),
    ("XY", (("Z", 6),)), (7, (("Z", 6),)), ("TCYX", (("C", 3), ("T", 2))),
])  # fmt: skip
def test_axes_that_are_not_served_are_one_stack(names: Any, axes: Any) -> None:
    text = f'{{"shape": [2, 3, 6, 8], "axes": {"null" if names is None else repr(names)}}}'.replace("'", '"')
    file = tiff(page(8, 6, [b"".join(bytes([plane] * 48) for plane in range(6))], {270: (2, text)}))
    source = open_source(file)
    assert source.info.axes == axes
    assert [int(full(source, frame)[0, 0, 0]) for frame in range(6)] == list(range(6))


@pytest.mark.parametrize("text", [
    '{"shape": [9, 6, 8], "axes": "CYX"}', '{"shape": [1000000, 6, 8], "axes": "CYX"}', '{"shape": "x"}',
    '{"shape": [-3, 6, 8]}', '{"shape": [3.5, 6, 8]}', '{"shape": [6, 8]', '{"shape": null}', '{"shape": []}',
    '{"shape": ' + "[" * 3000 + "]" * 3000 + "}", '{"shape": [1e400, 6, 8]}', '["shape"]', '{"a": "shape"}',
])  # fmt: skip
def test_a_shape_that_makes_no_sense_leaves_the_pages_as_they_are(text: str) -> None:
    pages = [page(8, 6, [bytes([value] * 48)], {270: (2, text)} if value == 0 else {}) for value in range(3)]
    source = open_source(tiff(*pages))
    assert [int(full(source, frame)[0, 0, 0]) for frame in range(3)] == [0, 1, 2]
    assert math.prod(length for _, length in source.info.axes) == 3
