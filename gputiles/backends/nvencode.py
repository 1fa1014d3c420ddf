"""JPEG files made by nvImageCodec of pixels on a card: for a card whose own JPEG kernel is not right.

A kind of file is made there only if trial pictures come out as the host's encoder has them.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from typing import Any, NamedTuple

import imagecodecs
import numpy as np
from numpy.typing import NDArray

from gputiles.backends.card import Card
from gputiles.backends.nvimage import UNFIT, Place
from gputiles.backends.nvstreams import sampling
from gputiles.backends.proving import trials, uploaded
from gputiles.errors import GputilesError

CHROMA = ("CSS_444", "CSS_422", "CSS_420")  # by Encoding.subsampling
# How much larger than libjpeg's of the same quality files may be, and what they lose (mean square of
# levels): other arithmetic rounds other coefficients, at the edge between two steps, up or down.
LARGER, WORSE, ROUNDED = 1.25, 1.25, 0.5
FIRST_ROOM = 1 << 17  # bytes of an output stream, which grows where it must
UINT8 = np.dtype(np.uint8)


class Kind(NamedTuple):
    """What tells JPEG files that may be made in one call; ``subsampling`` 0 for grey."""

    samples: int
    quality: int
    subsampling: int


class Drawn(NamedTuple):
    """A picture on the card: where its (rows, columns, samples) uint8 lie, and what file is wanted."""

    address: int
    shape: tuple[int, int, int]
    kind: Kind


class Writer:
    """The encoder of one card, for the card's thread only.

    ``kinds`` are the (samples, subsampling) of files that it may make. Its output streams are kept, and
    used again by the next batch.
    """

    def __init__(self, module: Any, number: int, stream: int, threads: int) -> None:
        self._module = module
        self._stream = stream
        backend, kind = module.Backend, module.BackendKind
        self._encoder = module.Encoder(
            device_id=number,
            max_num_cpu_threads=threads,
            backends=[backend(each) for each in (kind.GPU_ONLY, kind.HYBRID_CPU_GPU)],
        )
        self._pool: list[Any] = []
        self.kinds: frozenset[tuple[int, int]] = frozenset()

    def makes(self, kind: Kind) -> bool:
        """Say whether files of a kind may be made."""
        return (kind.samples, kind.subsampling) in self.kinds

    def encode(self, pictures: Sequence[Drawn]) -> list[bytes | None]:
        """Return the files of pictures whose pixels are there; None where one was not made."""
        files: list[bytes | None] = [None] * len(pictures)
        alike: dict[Kind, list[int]] = defaultdict(list)
        for at, picture in enumerate(pictures):
            alike[picture.kind].append(at)
        for kind, places in alike.items():
            made = self._encode(kind, [pictures[at] for at in places])
            for at, file in zip(places, made, strict=True):
                files[at] = file
        return files

    def _encode(self, kind: Kind, pictures: Sequence[Drawn]) -> list[bytes | None]:
        module, out = self._module, self._streams(len(pictures))
        places = [Place(picture.shape, UINT8, picture.address) for picture in pictures]
        try:
            images = [module.as_image(place, cuda_stream=self._stream) for place in places]
            made = self._encoder.encode(
                images, "jpeg", code_stream_s=out, params=self._params(kind), cuda_stream=self._stream
            )
        except UNFIT:  # nothing is known of any of them: the host encodes
            return [None] * len(pictures)
        return [None if stream is None else bytes(memoryview(stream)) for stream in made]

    def _streams(self, count: int) -> list[Any]:
        """Return as many output streams, new ones only where the pool has fewer."""
        while len(self._pool) < count:
            self._pool.append(self._module.CodeStream(FIRST_ROOM, pin_memory=True))
        return self._pool[:count]

    def _params(self, kind: Kind) -> Any:
        module = self._module
        grey = kind.samples == 1
        return module.EncodeParams(
            quality_type=module.QualityType.QUALITY,
            quality_value=kind.quality,
            color_spec=module.ColorSpec.GRAY if grey else module.ColorSpec.SYCC,
            chroma_subsampling=getattr(
                module.ChromaSubsampling, "CSS_GRAY" if grey else CHROMA[kind.subsampling]
            ),
        )

    def prove(self, card: Card) -> None:
        """Encode trial pictures on the card; trust the kinds that come out right."""
        for samples, subsampling in ((1, 0), (3, 0), (3, 1), (3, 2)):
            pictures = [pixels for pixels in trials() if pixels.shape[2] == samples and len(pixels) > 1]
            kind = Kind(samples, 80, subsampling)
            with uploaded(card, pictures) as rasters:
                files = self.encode([Drawn(raster.address, raster.shape, kind) for _, raster in rasters])
            if all(
                file is not None and is_like(file, pixels, kind)
                for file, pixels in zip(files, pictures, strict=True)
            ):
                self.kinds |= {(samples, subsampling)}


def is_like(file: bytes, pixels: NDArray[np.uint8], kind: Kind) -> bool:
    """Say whether a file is sampled as asked for, and neither much larger nor much worse than libjpeg's."""
    wanted = ("444", "422", "420")[kind.subsampling] if kind.samples == 3 else None
    known = bytes(imagecodecs.jpeg8_encode(pixels.squeeze(), level=kind.quality, subsampling=wanted))
    try:
        ours, theirs = (_loss(each, pixels) for each in (file, known))
        alike = kind.samples == 1 or sampling(file) == sampling(known)
    except (imagecodecs.Jpeg8Error, GputilesError):
        return False
    return alike and len(file) <= LARGER * len(known) and ours <= WORSE * theirs + ROUNDED


def _loss(file: bytes, pixels: NDArray[np.uint8]) -> float:
    """Return the mean square by which a file differs from (rows, columns, samples)."""
    found = np.asarray(imagecodecs.jpeg8_decode(file)).astype(np.float64)
    return float(np.square(found - pixels.squeeze()).mean()) if found.size == pixels.size else math.inf
