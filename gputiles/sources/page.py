"""One page of a TIFF file: its sizes, sample layout and chunk table, checked once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gputiles.errors import Damaged, LimitExceeded, Unsupported
from gputiles.geometry import ceil_div
from gputiles.image import Alpha, Colour
from gputiles.sources.bytesource import ByteSource
from gputiles.sources.ifd import Directory
from gputiles.sources.ndpi import read_runs, run_offsets
from gputiles.sources.oldjpeg import OLD_JPEG, STREAM, STREAM_LENGTH, is_one_file

_MOST_SIDE = 1 << 30
_MOST_SAMPLES = 4096
_LSM = 34412
YCBCR_2000 = 33003
"""Aperio's JPEG 2000 of YCbCr without the component transform that would say so."""
_HEADING = 4096
_PLAIN_BITS = (8, 16, 32, 64)
COMPLEX = {"c": "f", "ci": "i"}
"""Kinds of complex samples, of which magnitudes are shown, and the kinds of their two halves."""


class Photometric(IntEnum):
    """Tag 262: what the sample values mean."""

    WHITE_IS_ZERO = 0
    BLACK_IS_ZERO = 1
    RGB = 2
    PALETTE = 3
    MASK = 4
    CMYK = 5
    YCBCR = 6
    CIELAB = 8
    ICCLAB = 9
    LOG_L = 32844
    LOG_LUV = 32845


_MIXED = (Photometric.YCBCR, Photometric.CMYK, Photometric.CIELAB, Photometric.ICCLAB)
"""Colours that are made of one another."""
LOGARITHMIC = (Photometric.LOG_L, Photometric.LOG_LUV)
"""Logarithms of light, which are decoded to 8 bits."""
_OTHER_PHOTOMETRIC = {
    10: "ITU L*a*b*", 32803: "colour filter array", 34892: "linear raw",
}  # fmt: skip

_KINDS = {
    "u": ("unsigned integer", (*range(1, 33), 64)), "i": ("signed integer", (8, 16, 32, 64)),
    "f": ("floating-point", (16, 24, 32, 64)), "ci": ("complex integer", (16, 32, 64)),
    "c": ("complex", (64, 128)),
}  # fmt: skip


@dataclass(frozen=True, eq=False)
class Page:
    """A page as its directory describes it.

    ``samples`` counts the values of a pixel; with ``separate`` each lies in chunks of its
    own. ``bits`` and ``kind`` (``u``, ``i``, ``f``, or of COMPLEX) describe one stored sample. A strip is a
    chunk as wide as the page. ``shift`` is added to all chunk offsets (ImageJ stacks).
    ``header`` goes before the bytes of every chunk (NDPI's runs of a JPEG stream). ``one_file``
    says that old-style JPEG is one JPEG file within the file.
    """

    source: ByteSource
    tags: Directory
    width: int
    height: int
    samples: int
    bits: int
    kind: str
    compression: int
    photometric: Photometric
    separate: bool
    predictor: int
    tiled: bool
    chunk_width: int
    chunk_height: int
    extra: tuple[int, ...] = ()
    shift: int = 0
    header: bytes = b""
    one_file: bool = False

    @cached_property
    def size(self) -> tuple[int, int]:
        """Width and height in pixels."""
        return self.width, self.height

    @property
    def dtype(self) -> np.dtype[np.generic]:
        """The type of decoded samples: the smallest native one that holds the stored ones."""
        if self.kind == "f":
            return np.dtype("f8" if self.bits == 64 else "f4")
        if self.kind in COMPLEX:
            return np.dtype("f8" if self.bits == (128 if self.kind == "c" else 64) else "f4")
        return np.dtype(f"{self.kind}{next(size for size in _PLAIN_BITS if size >= self.bits) // 8}")

    @property
    def swelling(self) -> int:
        """Bytes that are held while a chunk is decoded, for each that is left of it."""
        return 4 if self.photometric in LOGARITHMIC else 2 if self.kind in COMPLEX else 1

    @property
    def reduced(self) -> bool:
        """Whether the page says that it is a smaller version of another one."""
        return bool(self.tags.integer(254, 0) & 1) or self.tags.integer(255, 0) == 2

    @property
    def mask(self) -> bool:
        """Whether the page is a transparency mask of another one."""
        return bool(self.tags.integer(254, 0) & 4) or self.photometric is Photometric.MASK

    @property
    def macro(self) -> bool:
        """Whether the page is a macro picture (Aperio: subfile type 9)."""
        return bool(self.tags.integer(254, 0) & 8)

    @property
    def orientation(self) -> int:
        """Tag 274: 1 is upright."""
        return self.tags.integer(274, 1)

    @property
    def description(self) -> str:
        """Tag 270, the writer's free text."""
        return self.tags.text(270)

    @property
    def heading(self) -> str:
        """The beginning of tag 270: pages by the thousand may share one text of any length."""
        return self.tags.text(270, _HEADING)

    @property
    def colour(self) -> Colour:
        """What the decoded samples mean."""
        if self.photometric is Photometric.PALETTE:
            return Colour.PALETTE
        rgb = self.photometric in (Photometric.RGB, Photometric.LOG_LUV, *_MIXED)
        return Colour.RGB if rgb and self.samples >= 3 else Colour.GREY

    @property
    def decoded_samples(self) -> int:
        """Samples per pixel after decoding: CMYK becomes RGB."""
        return self.samples - (self.photometric is Photometric.CMYK)

    @property
    def alpha(self) -> Alpha:
        """What the last sample says about coverage after decoding."""
        if self.premultiplied:
            return Alpha.STRAIGHT
        kinds = {1: Alpha.PREMULTIPLIED, 2: Alpha.STRAIGHT}
        return kinds.get(self.last_extra, Alpha.NONE)

    @property
    def premultiplied(self) -> bool:
        """Whether decoding divides by alpha: planes of their own are decoded without each other."""
        together = not self.separate or self.bound
        return self.last_extra == 1 and together and self.kind in "uf" and self.bits >= 8

    @property
    def last_extra(self) -> int:
        """What tag 338 says of the last sample; 0 where no sample is left over from the colours."""
        inks = self.photometric is Photometric.CMYK
        colours = 4 if inks else 3 if self.colour is Colour.RGB else 1
        return self.extra[-1] if self.extra and self.samples > colours else 0

    @cached_property
    def columns(self) -> int:
        """Chunks side by side."""
        return ceil_div(self.width, self.chunk_width)

    @cached_property
    def rows(self) -> int:
        """Chunks one above the other."""
        return ceil_div(self.height, self.chunk_height)

    @cached_property
    def planes(self) -> int:
        """How many times the page's area is stored: once per sample where they are separate."""
        return self.samples if self.separate else 1

    @cached_property
    def bound(self) -> bool:
        """Whether planes of their own are decoded together: their colours are made of one another."""
        mixed = self.photometric in _MIXED or self.compression == YCBCR_2000
        return self.separate and mixed and self.colour is Colour.RGB

    @property
    def chunk_samples(self) -> int:
        """Samples per pixel inside one chunk."""
        return 1 if self.separate else self.samples

    def row_bytes(self, width: int) -> int:
        """Bytes of ``width`` uncompressed pixels of one chunk row: rows are padded to bytes."""
        return ceil_div(width * self.chunk_samples * self.bits, 8)

    @cached_property
    def rows_addressable(self) -> bool:
        """Whether any rows can be read by offset arithmetic: uncompressed strips."""
        plain = self.compression == 1 and self.predictor == 1 and not self.tiled
        whole = self.photometric is not Photometric.YCBCR or self.subsampling == (1, 1)
        return plain and whole and not self.bound

    @property
    def subsampling(self) -> tuple[int, int]:
        """How many pixels share a chroma sample, horizontally and vertically (tag 530)."""
        values = self.tags.integers(530, 2)
        return (values[0], values[1]) if len(values) >= 2 else (2, 2)

    @cached_property
    def offsets(self) -> NDArray[np.int64]:
        """Where every chunk starts; 0 is a chunk that is not stored. Read at first use."""
        if self.header:
            return run_offsets(self.tags)[:-1]
        if self.one_file:
            return self._table(STREAM)
        return self._table(324 if 324 in self.tags else 273) + self.shift

    @cached_property
    def counts(self) -> NDArray[np.int64]:
        """Stored bytes of every chunk; 0 is a chunk that is not stored. Read at first use."""
        if self.header:
            return np.diff(run_offsets(self.tags))
        if self.one_file:
            return self._table(STREAM_LENGTH)
        code = 325 if 325 in self.tags else 279
        counts = self._table(code) if code in self.tags else np.zeros(0, np.int64)
        if _LSM in self.tags and self.compression != 1:  # Zeiss tells what the strips decode to
            counts = np.minimum(counts, self.source.size - self.offsets[: len(counts)])
        full = self.row_bytes(self.chunk_width) * self.chunk_height
        if self.rows_addressable and self._is_short(counts, full):
            return np.array([full])
        if counts.any() or not self.offsets.any():  # of chunks that have places, not all are empty
            return counts
        if self.compression == 1:
            return np.full(len(self.offsets), full, np.int64)
        ends = np.append(np.sort(self.offsets)[1:], self.source.size)
        return (ends - np.sort(self.offsets))[np.argsort(np.argsort(self.offsets))]

    def _is_short(self, counts: NDArray[np.int64], full: int) -> bool:
        """Whether a page's only strip has more bytes than its count tells: all readers take what is there."""
        single = self.rows * self.planes == 1 and len(counts) == len(self.offsets) == 1
        return single and 0 < counts[0] < full and 0 < self.offsets[0] <= self.source.size - full

    def _table(self, code: int) -> NDArray[np.int64]:
        values = self.tags.numbers(code)
        if values is None or values.dtype.kind not in "ui":
            raise Damaged(
                f"{self.source.name}: the table of chunks (tag {code}) is missing or of the wrong type"
            )
        return values.astype(np.int64)

    def check_tables(self) -> None:
        """Raise Damaged unless the chunk tables have an entry for every chunk."""
        if self.header or self.one_file:
            return  # the index of runs was counted when they were found, and so was one file's chunk
        needed = self.columns * self.rows * self.planes
        for name, codes in (("offsets", (324, 273)), ("byte counts", (325, 279))):
            entry = next((self.tags.entries[code] for code in codes if code in self.tags), None)
            if entry is None and name == "byte counts":
                continue
            if entry is None or entry.count < needed:
                held = entry.count if entry else 0
                raise Damaged(f"{self.source.name}: {held} chunk {name} where the sizes ask for {needed}")
            if (
                entry.count
                and entry.size > self.tags.dialect.inline
                and entry.offset + entry.size > self.source.size
            ):
                raise Damaged(
                    f"{self.source.name}: the table of chunk {name} lies beyond the end of the file"
                )


def read_page(tags: Directory, chunk_limit: int) -> Page:
    """Make a page of a directory, or say why it cannot be served.

    Raises Damaged for impossible values, LimitExceeded for absurd ones, Unsupported for
    layouts that are not read. Compressions are judged by ``codec.choose``.
    """
    width, height = tags.integer(256, 0), tags.integer(257, 0)
    if width <= 0 or height <= 0:
        raise Damaged(f"{tags.source.name}: an image of {width}x{height} pixels has no pixels")
    if max(width, height) > _MOST_SIDE:
        raise LimitExceeded(f"{tags.source.name}: {width}x{height} pixels; most {_MOST_SIDE} a side")
    if tags.integer(32997, 1) > 1 or tags.integer(32998, 1) > 1:
        raise Unsupported(f"{tags.source.name}: a page with depth (tag 32997, volumetric tiles) is not read")
    page = Page(
        source=tags.source,
        tags=tags,
        width=width,
        height=height,
        **_samples(tags),
        **_chunks(tags, width, height),
    )
    page.check_tables()
    samples = page.samples if page.bound else page.chunk_samples
    size = page.chunk_width * page.chunk_height * samples * page.dtype.itemsize * page.swelling
    if size > chunk_limit and not page.rows_addressable:
        raise LimitExceeded(
            f"{tags.source.name}: a chunk of {page.chunk_width}x{page.chunk_height} pixels"
            f" decodes to {size} bytes; most {chunk_limit}"
        )
    return page


def _samples(tags: Directory) -> Mapping[str, Any]:
    name = tags.source.name
    samples = tags.integer(277, _told_samples(tags))
    if not 1 <= samples <= 65535:
        raise Damaged(f"{name}: {samples} samples per pixel")
    if samples > _MOST_SAMPLES:
        raise LimitExceeded(f"{name}: {samples} samples per pixel; most {_MOST_SAMPLES}")
    extra = tags.integers(338, samples)
    photometric = _photometric(tags, samples)
    bits, kind = (8, "u") if photometric in LOGARITHMIC else _type(tags, samples)
    return {
        "samples": samples,
        "bits": bits,
        "kind": kind,
        "compression": tags.integer(259, 1),
        "photometric": photometric,
        "separate": tags.integer(284, 1) == 2 and samples > 1,
        "predictor": tags.integer(317, 1),
        "extra": extra,
    }


def _type(tags: Directory, samples: int) -> tuple[int, str]:
    """Return the bits and the kind of stored samples."""
    bits = _one(tags, 258, 8 if tags.integer(259, 1) == OLD_JPEG else 1, samples, "BitsPerSample")
    return bits, _kind(tags.source.name, _one(tags, 339, 1, samples, "SampleFormat"), bits)


def _told_samples(tags: Directory) -> int:
    """Return how many samples a page without tag 277 has: of colours, as many as have bits."""
    coloured = tags.integer(262, 0) in (Photometric.RGB, Photometric.CMYK, Photometric.YCBCR)
    untold = 3 if tags.integer(259, 1) == OLD_JPEG else 1
    return max(1, tags.entries[258].count if 258 in tags else untold) if coloured else 1


def _one(tags: Directory, code: int, default: int, samples: int, what: str) -> int:
    """Return the value that all samples share."""
    values = tags.numbers(code, samples)
    if values is None or not len(values) or values.dtype.kind not in "uif" or not np.isfinite(values[0]):
        return default
    if (values != values[0]).any():
        raise Unsupported(f"{tags.source.name}: samples that differ in {what}: {tuple(values[:8].tolist())}")
    return int(values[0].item())


def _kind(name: str, sample_format: int, bits: int) -> str:
    kind = {1: "u", 2: "i", 3: "f", 4: "u", 5: "ci", 6: "c"}.get(sample_format)
    if kind is None:
        raise Unsupported(f"{name}: format {sample_format} samples are not read")
    word, allowed = _KINDS[kind]
    if bits not in allowed:
        raise Unsupported(f"{name}: {bits}-bit {word} samples are not read; {allowed} are")
    return kind


def _photometric(tags: Directory, samples: int) -> Photometric:
    value = tags.integer(262, Photometric.RGB if samples >= 3 else Photometric.BLACK_IS_ZERO)
    if value in _OTHER_PHOTOMETRIC:
        raise Unsupported(
            f"{tags.source.name}: {_OTHER_PHOTOMETRIC[value]} colours (tag 262 is {value}) are not read"
        )
    try:
        return Photometric(value)
    except ValueError:
        raise Unsupported(f"{tags.source.name}: photometric interpretation {value} is not known") from None


def _chunks(tags: Directory, width: int, height: int) -> Mapping[str, Any]:
    old = tags.integer(259, 1) == OLD_JPEG
    if old and is_one_file(tags, tags.integer(277, _told_samples(tags))):
        return {"tiled": False, "chunk_width": width, "chunk_height": height, "one_file": True}
    if 322 in tags or 324 in tags:
        chunk_width, chunk_height = tags.integer(322, 0), tags.integer(323, 0)
        if chunk_width <= 0 or chunk_height <= 0:
            raise Damaged(f"{tags.source.name}: tiles of {chunk_width}x{chunk_height} pixels")
        return {"tiled": True, "chunk_width": chunk_width, "chunk_height": chunk_height}
    runs = read_runs(tags, width, height)
    if runs is not None:
        return {"tiled": True, "chunk_width": runs.width, "chunk_height": runs.height, "header": runs.header}
    rows = tags.integer(278, height)
    rows = height if rows <= 0 else min(rows, height)
    return {"tiled": False, "chunk_width": width, "chunk_height": rows}
