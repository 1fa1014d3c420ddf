"""Trial pictures of every kind of stream that nvImageCodec may decode, and what the host makes of them."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Any

import imagecodecs
import numpy as np
from numpy.typing import NDArray

from gputiles.backends.nvstreams import SAMPLINGS, SPREADS, Stream
from gputiles.sources import jpeg


def trials() -> list[tuple[Stream, NDArray[Any]]]:
    """Return a picture of every kind, and what the host decodes of it.

    It is smooth with a grain, and has patches at whose edges it shows how chroma is brought to full size.
    """
    y, x = np.mgrid[:64, :96]
    grain = np.random.default_rng(1).integers(0, 4, (64, 96, 1))
    pixels = (np.stack([40 + x, 60 + 2 * y, 200 - x], axis=-1) + grain).astype(np.uint8)
    pixels[11:30, 21:48], pixels[33:52, 50:81] = (200, 40, 60), (30, 90, 220)
    made = [
        (kind, imagecodecs.jpeg8_encode(pixels, level=90, subsampling=kind[-5:].replace(":", "")))
        for kind in SAMPLINGS.values()
    ]
    plain = imagecodecs.jpeg8_encode(pixels, level=90, colorspace="RGB", outcolorspace="RGB")
    made += [("RGB", plain[:2] + jpeg.ADOBE_RGB + plain[2:])]
    made += [("grey", imagecodecs.jpeg8_encode(np.ascontiguousarray(pixels[..., 0]), level=90))]
    for dtype in (np.uint8, np.uint16):
        for samples in (1, 3):
            values = np.ascontiguousarray(pixels[..., :samples].squeeze().astype(dtype))
            made += [(f"JPEG 2000 {values.dtype} {samples}", imagecodecs.jpeg2k_encode(values, level=0))]
    ycbcr = np.stack([pixels[..., 0], 60 + x, 220 - 2 * y], axis=-1).astype(np.uint8)
    for (across, down), kind in SPREADS.items():
        planes = [ycbcr[..., 0], *(ycbcr[::down, ::across, chroma] for chroma in (1, 2))]
        spreads = [(1, 1), (across, down), (across, down)]
        made += [(kind, subsampled_jpeg2000([np.ascontiguousarray(plane) for plane in planes], spreads))]
    return [_trial(kind, bytes(data)) for kind, data in made]


def _trial(kind: str, data: bytes) -> tuple[Stream, NDArray[Any]]:
    decode = imagecodecs.jpeg2k_decode if kind.startswith("JPEG 2000") else imagecodecs.jpeg8_decode
    expected = np.asarray(decode(data))
    expected = expected[..., np.newaxis] if expected.ndim == 2 else expected
    rows, columns, samples = expected.shape
    return Stream(kind, data, (rows, columns, samples), expected.dtype), expected.astype(np.int64)


def subsampled_jpeg2000(planes: Sequence[NDArray[np.uint8]], spreads: Sequence[tuple[int, int]]) -> bytes:
    """Return a codestream of components of which each sample stands for ``spreads`` (across, down) pixels.

    With one resolution, one layer and no precincts a component is one packet: those of streams of single
    components are put behind one header.
    """
    options: dict[str, Any] = {
        "codecformat": "j2k",
        "level": 0,
        "reversible": True,
        "resolutions": 1,
        "mct": False,
    }
    streams = [bytes(imagecodecs.jpeg2k_encode(plane, **options)) for plane in planes]
    packets = b"".join(stream[stream.index(_DATA) + 2 : -2] for stream in streams)
    head, at = b"\xff\x4f", 2
    while (marker := streams[0][at : at + 2]) != _DATA:
        length = int.from_bytes(streams[0][at + 2 : at + 4], "big")
        segment = streams[0][at + 4 : at + 2 + length]
        if marker == _SIZES:
            segment = segment[:34] + struct.pack(">H", len(planes))
            segment += b"".join(bytes([7, *spread]) for spread in spreads)
        elif marker == _TILE:
            segment = segment[:2] + struct.pack(">I", 14 + len(packets)) + segment[6:]
        if marker != _COMMENT:
            head += marker + struct.pack(">H", len(segment) + 2) + segment
        at += 2 + length
    return head + _DATA + packets + b"\xff\xd9"


_SIZES, _COMMENT, _TILE, _DATA = b"\xff\x51", b"\xff\x64", b"\xff\x90", b"\xff\x93"
