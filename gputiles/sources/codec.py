"""The codec of a page, chosen once from its tags; codecs are frozen and equal where pages agree."""

from __future__ import annotations

import numpy as np

from gputiles.backends import ChunkCodec
from gputiles.errors import Damaged, Unsupported
from gputiles.sources import bytecodec, imagecodec
from gputiles.sources.bytecodec import ByteCodec
from gputiles.sources.colour import FULL_RANGE, CmykCodec, StraightAlphaCodec, SubsampledCodec, YCbCrCodec
from gputiles.sources.imagecodec import JPEG, JPEG2000, Frame, ImageCodec, JpegCodec
from gputiles.sources.page import Page, Photometric
from gputiles.sources.streamsize import jpeg2000_is_ycbcr

# JPEG XR: its library crashes the process on damaged streams
_UNREAD = {
    6: "old-style JPEG", 9: "JBIG", 10: "JBIG", 32766: "NeXT", 32809: "ThunderScan", 32908: "PixarFilm",
    32909: "PixarLog", 34661: "JBIG", 34676: "SGI LogL", 34677: "SGI LogLuv", 48124: "Jetraw",
    22610: "JPEG XR", 34934: "JPEG XR",
    50002: "JPEG XL", 52546: "JPEG XL", 65000: "EER", 65001: "EER", 65002: "EER",
}  # fmt: skip


def choose(page: Page) -> ChunkCodec:
    """Return the codec of the page's chunks.

    Raises Unsupported, naming what is not read.
    """
    codec = _choose(page)
    return StraightAlphaCodec(codec) if page.premultiplied else codec


def _choose(page: Page) -> ChunkCodec:
    name = page.source.name
    if page.photometric is Photometric.CMYK:
        _check_cmyk(page)
    if page.compression in JPEG:
        return _jpeg(page)
    if page.compression in imagecodec.COMPRESSIONS:
        return _image(page)
    if page.compression in bytecodec.COMPRESSIONS:
        return _bytes(page)
    what = _UNREAD.get(page.compression, "unknown")
    raise Unsupported(f"{name}: compression {page.compression} ({what}) is not read")


def _check_cmyk(page: Page) -> None:
    plain = page.samples == 4 and not page.separate and page.kind == "u" and page.bits in (8, 16)
    if not plain or page.compression in JPEG or page.tags.integer(332, 1) != 1:
        raise Unsupported(
            f"{page.source.name}: separated colours of {page.samples} {page.bits}-bit samples,"
            f" compression {page.compression}; only plain CMYK of 8 or 16 bits is converted"
        )


def _frame(page: Page) -> Frame:
    return Frame(page.chunk_samples, page.dtype, (page.chunk_width, page.chunk_height))


def _jpeg(page: Page) -> ChunkCodec:
    raw = page.separate or page.samples != 3 or page.photometric not in (Photometric.RGB, Photometric.YCBCR)
    said_rgb = page.photometric is Photometric.RGB
    tables = page.tags.raw(347)
    return JpegCodec(page.compression, _frame(page), tables, said_rgb, raw, page.header)


def _image(page: Page) -> ChunkCodec:
    if page.compression == imagecodec.PNG and (page.chunk_samples, page.bits) not in imagecodec.PNG_SAMPLES:
        raise Unsupported(
            f"{page.source.name}: PNG of {page.chunk_samples} {page.bits}-bit samples is not read;"
            f" (samples, bits) {imagecodec.PNG_SAMPLES} are"
        )
    codec = ImageCodec(page.compression, _frame(page), _lerc_packing(page))
    if page.compression not in JPEG2000:
        return _convert(page, codec) if page.photometric is Photometric.CMYK else codec
    # Aperio's 33003 holds YCbCr without the component transform that would say so
    ycbcr = page.compression == 33003 or page.photometric is Photometric.YCBCR
    if not ycbcr or page.samples != 3 or page.separate:
        return codec
    return YCbCrCodec(codec, done=jpeg2000_is_ycbcr)


def _lerc_packing(page: Page) -> int:
    """Return the compression that LERC's streams were put through (tag 50674), 1 for none."""
    parameters = page.tags.integers(50674, 2) if page.compression == imagecodec.LERC else ()
    packing = parameters[1] if len(parameters) > 1 else 0
    known = {0: 1, 1: bytecodec.DEFLATE[0], 2: bytecodec.ZSTD}
    if packing not in known:
        raise Unsupported(f"{page.source.name}: LERC packed in way {packing} is not read; 0, 1 and 2 are")
    return known[packing]


def _bytes(page: Page) -> ChunkCodec:
    name = page.source.name
    if page.predictor not in (1, 2, 3):
        raise Unsupported(f"{name}: predictor {page.predictor} is not read; 1, 2 and 3 are")
    if page.predictor == 3 and page.kind != "f":
        raise Damaged(f"{name}: the floating-point predictor on samples that are integers")
    if page.predictor != 1 and page.bits == 24:
        raise Unsupported(f"{name}: predictor {page.predictor} with 24-bit samples is not read")
    if page.compression in bytecodec.FAX and (page.bits, page.samples) != (1, 1):
        raise Damaged(f"{name}: CCITT compression of {page.samples} samples of {page.bits} bits")
    return _convert(page, _packed(page, page.chunk_samples))


def _packed(page: Page, samples: int) -> ByteCodec:
    options = page.tags.integer(292, 0) if page.compression == 3 else 0
    predictor = 1 if page.compression in bytecodec.FAX else page.predictor
    return ByteCodec(
        page.compression,
        samples,
        page.bits,
        page.kind,
        page.tags.dialect.order,
        predictor,
        page.tags.integer(266, 1) == 2,
        options,
    )


def _convert(page: Page, codec: ChunkCodec) -> ChunkCodec:
    """Put the conversion to RGB that the page's colour model needs around ``codec``."""
    if page.photometric is Photometric.CMYK:
        return CmykCodec(codec)
    if page.photometric is not Photometric.YCBCR:
        return codec
    across, down = page.subsampling
    if page.separate or page.samples != 3 or page.bits != 8:
        raise Unsupported(f"{page.source.name}: YCbCr other than three interleaved 8-bit samples is not read")
    if (across, down) != (1, 1):
        if page.predictor != 1 or across not in (1, 2, 4) or down not in (1, 2, 4):
            raise Unsupported(
                f"{page.source.name}: YCbCr subsampled {across}x{down} with a predictor is not read"
            )
        codec = SubsampledCodec(_packed(page, across * down + 2), across, down)
    return YCbCrCodec(codec, _reference(page), _luma(page))


def _reference(page: Page) -> tuple[float, ...]:
    """Return tag 532, or the full range where it is absent or would divide by zero."""
    values = page.tags.numbers(532, 7)
    if values is None or len(values) != 6 or not np.all(np.isfinite(values)):
        return FULL_RANGE
    reference = tuple(float(value) for value in values)
    return FULL_RANGE if any(reference[i] == reference[i + 1] for i in (0, 2, 4)) else reference


def _luma(page: Page) -> tuple[float, ...]:
    values = page.tags.numbers(529, 4)
    if values is None or len(values) != 3 or not np.all(np.isfinite(values)) or float(values[1]) <= 0:
        return (0.299, 0.587, 0.114)
    return tuple(float(value) for value in values)
