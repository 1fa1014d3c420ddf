"""The codec of a page, chosen once from its tags; codecs are frozen and equal where pages agree."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from gputiles.backends import ChunkCodec
from gputiles.errors import Damaged, Unsupported
from gputiles.image import Colour
from gputiles.sources import bytecodec, imagecodec, logluv
from gputiles.sources.bytecodec import ByteCodec
from gputiles.sources.colour import (
    ConvertedCodec,
    SubsampledCodec,
    YCbCrCodec,
    cmyk_to_rgb,
    magnitudes,
    straighten,
)
from gputiles.sources.imagecodec import JPEG, JPEG2000, Frame, ImageCodec, JpegCodec
from gputiles.sources.lab import LabCodec
from gputiles.sources.logluv import LogLuvCodec
from gputiles.sources.oldjpeg import OLD_JPEG, OldJpegCodec, read_head
from gputiles.sources.page import COMPLEX, LOGARITHMIC, YCBCR_2000, Page, Photometric
from gputiles.sources.planes import PlanesCodec
from gputiles.sources.streamsize import jpeg2000_is_ycbcr

_UNREAD = {
    9: "JBIG", 10: "JBIG", 99: "JPEG of Leaf", 103: "ImPact J", 262: "Kodak DCR", 32766: "NeXT",
    32767: "Sony ARW", 32769: "packed raw data", 32770: "Samsung SRW", 32771: "CCITT RLE in words",
    32772: "Samsung SRW", 32809: "ThunderScan", 32895: "IT8", 32896: "IT8", 32897: "IT8", 32898: "IT8",
    32908: "PixarFilm", 32909: "PixarLog", 32947: "Kodak DCS", 34661: "JBIG", 34676: "SGI LogL",
    34677: "SGI LogLuv", 34692: "LuraDocument", 34713: "Nikon NEF", 34715: "JBIG2", 34718: "MDI",
    34719: "MDI", 34720: "MDI", 48124: "Jetraw",
    **dict.fromkeys((22610, 34934), "JPEG XR, whose decoder does not survive damaged streams"),
    **dict.fromkeys((65000, 65001, 65002), "EER, events of electrons instead of pixels"),
}  # fmt: skip


_FULL_RANGE = (0.0, 255.0, 128.0, 255.0, 128.0, 255.0)  # tag 532 that changes nothing
LAB = (Photometric.CIELAB, Photometric.ICCLAB)


def choose(page: Page) -> ChunkCodec:
    """Return the codec of the page's chunks.

    Raises Unsupported, naming what is not read.
    """
    if page.photometric is Photometric.CMYK:
        _check_cmyk(page)
    if page.photometric in LOGARITHMIC:
        return _logarithmic(page)
    stored = _planes(page) if page.bound else _stored(page, page.samples)
    if page.photometric is Photometric.CMYK:  # inks were multiplied with alpha, not what they mix to
        return ConvertedCodec(_straight(page, stored), cmyk_to_rgb)
    codec = _from_lab(page, stored) if page.photometric in LAB else _from_ycbcr(page, stored)
    return _straight(page, codec)


def _straight(page: Page, codec: ChunkCodec) -> ChunkCodec:
    return ConvertedCodec(codec, straighten) if page.premultiplied else codec


def _check_cmyk(page: Page) -> None:
    if page.samples < 4 or page.kind != "u" or page.bits not in (8, 16) or page.tags.integer(332, 1) != 1:
        raise Unsupported(
            f"{page.source.name}: separated colours of {page.samples} {page.bits}-bit samples, ink set"
            f" {page.tags.integer(332, 1)}; only CMYK of 8 or 16 bits is converted"
        )


def _logarithmic(page: Page) -> ChunkCodec:
    samples = 3 if page.photometric is Photometric.LOG_LUV else 1
    if page.compression not in logluv.COMPRESSIONS or page.samples != samples or page.separate:
        raise Unsupported(
            f"{page.source.name}: {page.photometric.name} of {page.samples} samples in compression"
            f" {page.compression} is not read; {samples} in {logluv.COMPRESSIONS} are"
        )
    return LogLuvCodec(page.compression, samples)


def _planes(page: Page) -> ChunkCodec:
    """Return what decodes the planes of a page together."""
    ycbcr = page.photometric is Photometric.YCBCR
    return PlanesCodec(_stored(page, 1), page.samples, page.subsampling if ycbcr else (1, 1))


def _stored(page: Page, samples: int) -> ChunkCodec:
    """Return what decodes ``samples`` that lie side by side, in the colours of the file."""
    samples = 1 if page.separate else samples
    if page.compression == OLD_JPEG:
        return _old_jpeg(page)
    if page.compression in JPEG:
        return _jpeg(page)
    if page.compression in imagecodec.COMPRESSIONS:
        return _image(page)
    if page.compression in bytecodec.COMPRESSIONS:
        return _bytes(page, samples)
    what = _UNREAD.get(page.compression, "unknown")
    raise Unsupported(f"{page.source.name}: compression {page.compression} ({what}) is not read")


def _frame(page: Page) -> Frame:
    return Frame(page.chunk_samples, page.dtype, (page.chunk_width, page.chunk_height))


def _jpeg(page: Page) -> JpegCodec:
    raw = page.separate or page.samples != 3
    # or three channels: nothing to convert either; old-style files call YCbCr RGB
    said_rgb = page.photometric is not Photometric.YCBCR and page.compression != OLD_JPEG
    tables = page.tags.raw(347)
    return JpegCodec(page.compression, _frame(page), tables, said_rgb, raw, page.header)


def _old_jpeg(page: Page) -> ChunkCodec:
    """Return what decodes old-style JPEG."""
    if page.separate:
        raise Unsupported(f"{page.source.name}: old-style JPEG (compression 6) in planes is not read")
    codec = _jpeg(page)
    if page.one_file:
        return codec
    spread = page.subsampling if page.photometric is Photometric.YCBCR else (1, 1)
    head = read_head(page.tags, page.samples, spread, (page.size, (page.chunk_width, page.chunk_height)))
    return OldJpegCodec(replace(codec, tables=head.tables), head)


def _image(page: Page) -> ChunkCodec:
    if page.kind in COMPLEX:
        raise Unsupported(
            f"{page.source.name}: complex samples in compression {page.compression} are not read"
        )
    if page.compression == imagecodec.PNG and (page.chunk_samples > 4 or page.bits not in (8, 16)):
        raise Unsupported(
            f"{page.source.name}: PNG of {page.chunk_samples} {page.bits}-bit samples is not read;"
            " 1 to 4 samples of 8 or 16 bits are"
        )
    return ImageCodec(page.compression, _frame(page), _lerc_packing(page))


def _lerc_packing(page: Page) -> int:
    """Return the compression that LERC's streams were put through (tag 50674), 1 for none."""
    parameters = page.tags.integers(50674, 2) if page.compression == imagecodec.LERC else ()
    packing = parameters[1] if len(parameters) > 1 else 0
    known = {0: 1, 1: bytecodec.DEFLATE[0], 2: bytecodec.ZSTD}
    if packing not in known:
        raise Unsupported(f"{page.source.name}: LERC packed in way {packing} is not read; 0, 1 and 2 are")
    return known[packing]


def _bytes(page: Page, samples: int) -> ChunkCodec:
    name = page.source.name
    known = (1, *bytecodec.DIFFERENCES, *bytecodec.FLOATING)
    if page.predictor not in known:
        raise Unsupported(f"{name}: predictor {page.predictor} is not read; {known} are")
    if page.predictor in bytecodec.FLOATING and page.kind not in "fc":
        raise Damaged(f"{name}: the floating-point predictor on samples that are integers")
    if page.chunk_width % bytecodec.FLOATING.get(page.predictor, 1):
        raise Unsupported(f"{name}: predictor {page.predictor} of {page.chunk_width} columns is not read")
    if page.predictor != 1 and (page.bits == 24 or page.kind in COMPLEX):
        what = "complex" if page.kind in COMPLEX else "24-bit"
        raise Unsupported(f"{name}: predictor {page.predictor} with {what} samples is not read")
    if page.compression in bytecodec.FAX and (page.bits, page.samples) != (1, 1):
        raise Damaged(f"{name}: CCITT compression of {page.samples} samples of {page.bits} bits")
    if page.photometric is Photometric.YCBCR and not page.separate and page.subsampling != (1, 1):
        return _subsampled(page)
    return _packed(page, samples)


def _packed(page: Page, samples: int) -> ChunkCodec:
    options = page.tags.integer(292, 0) if page.compression == 3 else 0
    parts = 2 if page.kind in COMPLEX else 1
    codec = ByteCodec(
        page.compression,
        samples * parts,
        page.bits // parts,
        COMPLEX.get(page.kind, page.kind),
        page.tags.dialect.order,
        1 if page.compression in bytecodec.FAX else page.predictor,
        page.tags.integer(266, 1) == 2,
        options,
    )
    return codec if parts == 1 else ConvertedCodec(codec, magnitudes)


def _subsampled(page: Page) -> ChunkCodec:
    """Return what decodes data units of pixels that share their chroma."""
    across, down = page.subsampling
    if page.samples != 3 or page.predictor != 1 or across not in (1, 2, 4) or down not in (1, 2, 4):
        raise Unsupported(
            f"{page.source.name}: YCbCr of {page.samples} samples subsampled {across}x{down}, with predictor"
            f" {page.predictor}, is not read"
        )
    return SubsampledCodec(_packed(page, across * down + 2), across, down)


def _from_ycbcr(page: Page, codec: ChunkCodec) -> ChunkCodec:
    """Put the conversion to RGB around ``codec`` where it decodes to YCbCr."""
    told = page.photometric is Photometric.YCBCR
    if page.compression in JPEG:
        whole = page.samples == 3 and not page.separate  # which its decoder converts
        return _converting(page, codec) if told and not whole else codec
    if page.compression in JPEG2000:
        done = None if page.bound else jpeg2000_is_ycbcr
        return _converting(page, codec, done=done) if told or page.compression == YCBCR_2000 else codec
    if not told or page.compression in imagecodec.OF_COLOURS:
        return codec
    return _converting(page, codec, reference=_reference(page), luma=_luma(page))


def _from_lab(page: Page, codec: ChunkCodec) -> ChunkCodec:
    """Put the conversion to RGB around ``codec``, which decodes to L*a*b*."""
    if page.colour is not Colour.RGB or page.kind != "u" or page.bits not in (8, 16):
        raise Unsupported(
            f"{page.source.name}: L*a*b* of {page.samples} {page.bits}-bit {page.dtype} samples is not read"
        )
    return LabCodec(codec, signed=page.photometric is Photometric.CIELAB)


def _converting(page: Page, codec: ChunkCodec, **how: Any) -> ChunkCodec:
    if page.colour is not Colour.RGB:  # grey that calls itself YCbCr
        return codec
    if page.kind != "u" or not 2 <= page.bits <= 16:
        raise Unsupported(f"{page.source.name}: YCbCr of {page.bits}-bit {page.dtype} samples is not read")
    return YCbCrCodec(codec, bits=page.bits, **how)


def _reference(page: Page) -> tuple[float, ...]:
    """Return tag 532, or nothing where it is absent or would divide by zero.

    Writers of more than 8 bits put down the values of 8 bits as well.
    """
    values = page.tags.numbers(532, 7)
    if values is None or len(values) != 6 or not np.all(np.isfinite(values)):
        return ()
    reference = tuple(float(value) for value in values)
    if reference == _FULL_RANGE or any(reference[i] == reference[i + 1] for i in (0, 2, 4)):
        return ()
    wider = 2 ** (page.bits - 8) if page.bits > 8 and max(reference) <= 255 else 1
    return tuple(value * wider for value in reference)


def _luma(page: Page) -> tuple[float, ...]:
    values = page.tags.numbers(529, 4)
    if values is None or len(values) != 3 or not np.all(np.isfinite(values)) or float(values[1]) <= 0:
        return (0.299, 0.587, 0.114)
    return tuple(float(value) for value in values)
