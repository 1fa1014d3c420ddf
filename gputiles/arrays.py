"""Files of arrays: values as they are, for programs that compute with them."""

from __future__ import annotations

import struct
from io import BytesIO
from typing import Any, TypeAlias

import numpy as np
from isal import isal_zlib
from numpy.typing import NDArray

from gputiles import png
from gputiles.encoded import Format
from gputiles.errors import BadRequest, LimitExceeded

_SHORT, _LONG = 3, 4  # TIFF types: 16 and 32 bits
_SAMPLE_FORMATS = {"u": 1, "i": 2, "f": 3}
_STRIP = 273  # the tag that says where the strip lies
_LARGEST_TIFF = 2**32 - 2**16

_Tag: TypeAlias = tuple[int, int, list[int]]
"""A tag's number, its type and its values."""


def file_of(array: NDArray[Any], format: Format) -> bytes:
    """Return (rows, columns, samples) of any dtype as an NPY or an uncompressed TIFF file.

    Of uint8 or uint16 and 1 to 4 samples also as a PNG; BadRequest of others.
    """
    if format is Format.PNG:
        return _png(array)
    return _npy(array) if format is Format.NPY else _tiff(array)


def array_of(file: bytes) -> NDArray[Any]:
    """Return what ``file_of`` made an NPY file of."""
    array: NDArray[Any] = np.lib.format.read_array(BytesIO(file), allow_pickle=False)
    return array


def _npy(array: NDArray[Any]) -> bytes:
    file = BytesIO()
    np.lib.format.write_array(file, array, allow_pickle=False)
    return file.getvalue()


def _png(array: NDArray[Any]) -> bytes:
    """Return a PNG whose rows are all filtered by what is above them."""
    height, width, samples = array.shape
    if array.dtype not in (np.uint8, np.uint16) or samples > 4:
        raise BadRequest(
            "encoding: PNG16 holds uint8 or uint16 of 1 to 4 samples; "
            f"the values are {array.dtype} of {samples}"
        )
    rows = array.astype(array.dtype.newbyteorder(">")).reshape(height, -1).view(np.uint8)
    filtered = np.full((height, 1 + rows.shape[1]), png.UP, np.uint8)
    filtered[0, 1:] = rows[0]
    np.subtract(rows[1:], rows[:-1], out=filtered[1:, 1:])
    stream = png.zlib_stream([png.searched(filtered.reshape(-1))], isal_zlib.adler32(filtered))
    return png.frame(stream, width, height, samples, bits=8 * array.dtype.itemsize)


def _tiff(array: NDArray[Any]) -> bytes:
    """Return a little-endian TIFF of one strip (TIFF 6.0). Raises LimitExceeded beyond 4 GiB."""
    if array.nbytes > _LARGEST_TIFF:
        raise LimitExceeded(f"TIFF: at most {_LARGEST_TIFF} bytes of pixels; got {array.nbytes}")
    tags = _tags(array)
    beyond = 8 + 2 + 12 * len(tags) + 4
    pixels = beyond + sum(len(values) * 4 for _, _, values in tags)
    entries, outside = bytearray(), bytearray()
    for tag, kind, values in tags:
        values = [pixels] if tag == _STRIP else values
        data = struct.pack(f"<{len(values)}{'H' if kind == _SHORT else 'I'}", *values)
        held = data.ljust(4, b"\0") if len(data) <= 4 else struct.pack("<I", beyond + len(outside))
        entries += struct.pack("<HHI", tag, kind, len(values)) + held
        if len(data) > 4:
            outside += data.ljust(len(data) + len(data) % 2, b"\0")
    head = struct.pack("<2sHIH", b"II", 42, 8, len(tags)) + entries + b"\0\0\0\0" + outside
    return head.ljust(pixels, b"\0") + array.astype(array.dtype.newbyteorder("<"), copy=False).tobytes()


def _tags(array: NDArray[Any]) -> list[_Tag]:
    """Return the tags of an array's page, but for where its strip will lie."""
    rows, columns, samples = array.shape
    extra = samples - (3 if samples in (3, 4) else 1)
    unassociated = samples in (2, 4)
    tags = [
        (256, _LONG, [columns]),
        (257, _LONG, [rows]),
        (258, _SHORT, [array.dtype.itemsize * 8] * samples),
        (259, _SHORT, [1]),
        (262, _SHORT, [2 if samples in (3, 4) else 1]),
        (_STRIP, _LONG, [0]),
        (277, _SHORT, [samples]),
        (278, _LONG, [rows]),
        (279, _LONG, [array.nbytes]),
        (284, _SHORT, [1]),
        (338, _SHORT, [2 if unassociated else 0] * extra),
        (339, _SHORT, [_SAMPLE_FORMATS[array.dtype.kind]] * samples),
    ]
    return [tag for tag in tags if tag[2]]
