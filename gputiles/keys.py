"""The keys of answers: text, whose hash is computed once, and the entity tags made of it."""

from __future__ import annotations

from hashlib import blake2b

from gputiles.encoded import UPRIGHT, Edge
from gputiles.frames import FramesRequest
from gputiles.histograms import CountRequest
from gputiles.image import Reduction
from gputiles.images import Image
from gputiles.request import RegionRequest, ThumbnailRequest, TileRequest, View

# Part of every entity tag: other encoders, or other arithmetic, are other bytes.
CODECS = "jpeg1-dense1-isal2-webp1"
ICC = "icc1"  # likewise, of pictures in converted colours

Request = TileRequest | ThumbnailRequest | RegionRequest | FramesRequest | CountRequest


def key(image: Image, request: Request) -> str:
    """Return what tells an answer from all others."""
    look = shown(image, request.view)
    if isinstance(request, TileRequest):
        return tile_key(request.z, request.x, request.y, look, request.edge)
    if isinstance(request, RegionRequest):
        return f"region|{request.place}|{look}"
    if isinstance(request, ThumbnailRequest):
        return f"thumbnail|{request.width}|{request.height}|{look}"
    return f"{request.place}|{look}"


def shown(image: Image, view: View) -> str:
    """Return the part of a key that all places of a view share."""
    encoding, style = view.encoding, view.style.key if view.style is not None else "default"
    text = f"{image.identity}|{view.frame}|{style}|{view.single}"
    text += f"|{encoding.format.name}|{encoding.quality}|{encoding.subsampling}|{encoding.explicit}"
    if encoding.shown:
        text += "|shown"
    if encoding.values:
        text += "|values"
    if encoding.embed:
        text += "|embed"
    if view.projection is not None:
        text += f"|{view.projection.kind.value}|{view.projection.depth}|{view.projection.stride}"
    if encoding.turn != UPRIGHT:
        text += f"|{encoding.turn.quarter}|{encoding.turn.mirror}|{encoding.turn.tone.value}"
    return text


def tile_key(z: int, x: int, y: int, look: str, edge: Edge) -> str:
    """Return the key of a tile whose view has the key ``look``."""
    return f"tile|{z}|{x}|{y}|{look}|{edge.crop}|{edge.colour}"


def entity_tag(key: str, reduction: Reduction, intent: str | None, codecs: str) -> str:
    """Return the strong entity tag of an answer: content version, request, codecs (other than the host's)."""
    text = f"{CODECS}{codecs}|{reduction.value}|{ICC}-{intent}|{key}"
    return f'"{blake2b(text.encode(), digest_size=16).hexdigest()}"'
