"""Encodings: what a tile is turned into, and the turned tile."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class Format(Enum):
    """The file formats in which pixels are served, with their media types."""

    JPEG = "image/jpeg"
    PNG = "image/png"
    WEBP = "image/webp"
    TIFF = "image/tiff"
    NPY = "application/x-npy"
    JSON = "application/json"  # numbers about pixels

    @property
    def is_whole(self) -> bool:
        """Whether a file is made of the picture as a whole, not of parts by our own kernels."""
        return self not in (Format.JPEG, Format.PNG)

    @property
    def holds_values(self) -> bool:
        """Whether values of any dtype fit, so that without a style they are sent as stored."""
        return self in (Format.TIFF, Format.NPY)


LUMA = (19595, 38470, 7471)
"""The weights of red, green and blue in a grey, in 65536ths, as ITU-R 601 has them."""


class Tone(Enum):
    """What becomes of the colours of a picture."""

    COLOUR = "colour"
    GREY = "grey"
    BITONAL = "bitonal"


@dataclass(frozen=True, slots=True)
class Turn:
    """How a picture is turned before it is encoded: mirrored left to right, then clockwise.

    ``quarter`` is 0 … 3 quarter turns.
    """

    quarter: int = 0
    mirror: bool = False
    tone: Tone = Tone.COLOUR


UPRIGHT = Turn()
"""No turn at all."""


QUALITY, SUBSAMPLING = 95, 0  # where none are asked for


@dataclass(frozen=True, slots=True)
class Encoding:
    """A format with its parameters.

    ``quality``, of JPEG and WebP, is 1 … 100; ``subsampling``, of JPEG, is 0 (4:4:4), 1 (4:2:2)
    or 2 (4:2:0). They mean nothing for the other formats and are kept at their defaults there, so
    that equal encodings are equal values. ``explicit`` says that the caller named a quality or subsampling,
    which rules out passing stored bytes through. ``turn`` comes before all of it. ``shown``
    asks for the colours that a person sees, of a format that could hold the stored values.
    ``values`` asks for the stored values, of a format that otherwise shows colours: PNG.
    ``embed`` asks a JPEG or PNG to carry the file's ICC profile where its colours are as stored.
    """

    format: Format = Format.JPEG
    quality: int = QUALITY
    subsampling: int = SUBSAMPLING
    explicit: bool = False
    turn: Turn = UPRIGHT
    shown: bool = False
    values: bool = False
    embed: bool = False

    @property
    def takes_values(self) -> bool:
        """Whether the stored values are sent where no style says what to make of them."""
        return (self.format.holds_values or self.values) and not self.shown and self.turn == UPRIGHT


@dataclass(frozen=True, slots=True)
class Edge:
    """How a tile that the image does not fill is completed.

    ``crop`` cuts it to the image; otherwise it is filled up to the full tile with
    ``colour`` (RGBA), or with zeros (transparent where there is an alpha sample).
    """

    crop: bool = False
    colour: tuple[int, int, int, int] | None = None


@dataclass(frozen=True, slots=True)
class EncodedTile:
    """An encoded tile: its bytes, the media type to send them with, and its entity tag."""

    data: bytes
    media_type: str
    etag: str = ""
