"""A card's encoders, tried out when it is opened: what makes a wrong file there is left to others."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import product
from typing import TypeAlias

import imagecodecs
import numpy as np
from numpy.typing import NDArray

from gputiles import png
from gputiles.backends import Outcome, Raster, RenderJob
from gputiles.backends.arena import aligned
from gputiles.backends.card import Card
from gputiles.backends.device import Block
from gputiles.backends.encode import Run, encode_turned
from gputiles.encoded import Encoding, Format
from gputiles.recipe import Recipe

Pixels: TypeAlias = NDArray[np.uint8]
Render: TypeAlias = Callable[[Sequence[RenderJob]], list[Outcome[bytes]]]

JPEGS = [Encoding(Format.JPEG, quality, subsampling) for quality, subsampling in product((30, 95), range(3))]


def right_formats(card: Card, render: Render, run: Run) -> frozenset[Format]:
    """Return the formats of which the card makes right files, as trial pictures show.

    A JPEG must be byte for byte the host's, whose kernels ``run`` calls; a PNG must hold the pixels.
    Raises OutOfMemory where the card has no room for them.
    """
    found = set()
    with uploaded(card, trials()) as rasters:
        if _answers(render, rasters, [Encoding(Format.PNG)], lambda file, pixels, _: holds(file, pixels)):
            found.add(Format.PNG)
    opaque = [pixels for pixels in trials() if pixels.shape[2] in (1, 3)]
    with uploaded(card, opaque) as rasters:
        if _answers(render, rasters, JPEGS, lambda file, *given: file == _jpeg(run, *given)):
            found.add(Format.JPEG)
    return frozenset(found)


def _answers(
    render: Render,
    pictures: Sequence[tuple[Pixels, Raster]],
    encodings: Sequence[Encoding],
    is_right: Callable[[bytes, Pixels, Encoding], bool],
) -> bool:
    """Say whether all pictures become right files in all encodings, made as one batch."""
    cases = list(product(pictures, encodings))
    files = render(
        [
            RenderJob(Recipe((0,)), (raster,), raster.shape[1], raster.shape[0], encoding)
            for (_, raster), encoding in cases
        ]
    )
    return all(
        isinstance(file, bytes) and is_right(file, pixels, encoding)
        for file, ((pixels, _), encoding) in zip(files, cases, strict=True)
    )


def _jpeg(run: Run, pixels: Pixels, encoding: Encoding) -> bytes:
    return encode_turned(pixels, encoding, run, lambda _, size: np.empty(size, np.uint8))


@contextmanager
def uploaded(card: Card, pictures: Sequence[Pixels]) -> Iterator[list[tuple[Pixels, Raster]]]:
    """Bring pictures to the card for a while, outside of its memory for rasters."""
    block = card.device.allocate(sum(aligned(pixels.nbytes) for pixels in pictures))
    rasters, address = [], block.address
    try:
        for pixels in pictures:
            card.courier.up(pixels, address)
            rows, columns, samples = pixels.shape
            place = Block(address, pixels.nbytes)
            rasters.append((pixels, Raster(place, (rows, columns, samples), pixels.dtype, 0, None, address)))
            address += aligned(pixels.nbytes)
        card.courier.settle()
        yield rasters
    finally:
        card.device.free(block)


def trials() -> list[Pixels]:
    """Return pictures of noise, of one colour, smooth, grey, opaque: what takes every path of an encoder."""
    rng = np.random.default_rng(1)
    y, x = np.mgrid[:180, :97]
    smooth = np.stack([40 + x, 60 + y, 200 - x, x + y], axis=-1) + rng.integers(0, 3, (180, 97, 4))
    opaque, yellow, veiled = smooth.copy(), smooth[..., :3].copy(), np.repeat(smooth[..., :1], 4, axis=2)
    opaque[..., 3], yellow[..., 1], veiled[..., 3] = 255, yellow[..., 0], smooth[..., 3]
    made = [smooth[..., :samples] for samples in (1, 2, 3, 4)]
    made += [opaque, yellow, veiled, np.repeat(smooth[..., :1], 3, axis=2), np.full((180, 97, 3), 7)]
    made += [rng.integers(0, 256, (180, 97, 3)), rng.integers(0, 2, (1, 40_000, 1))]
    made += [rng.integers(0, 2, (900, 4, 1)), _steep(rng)]
    return [np.ascontiguousarray(pixels.astype(np.uint8)) for pixels in made]


def _steep(rng: np.random.Generator) -> NDArray[np.int64]:
    """Return values, each 1.7 times as often as the next: their best code is longer than deflate allows."""
    often = np.ceil(1.7 ** np.arange(19)).astype(int)
    return rng.permutation(np.repeat(np.arange(19), often[::-1]))[: 109 * 300].reshape(109, 300, 1)


def holds(file: bytes, pixels: Pixels) -> bool:
    """Say whether a PNG, whose checksums are right, is one of these pixels, as the host reads it."""
    try:
        png.check(file)
        return np.array_equal(colours_of(file), rgba(pixels))
    except (imagecodecs.PngError, ValueError):
        return False


def colours_of(file: bytes) -> Pixels:
    """Return the (rows, columns, 4) red, green, blue and alpha of a PNG of 8 bits, whatever it stores."""
    return rgba(np.asarray(imagecodecs.png_decode(file)))


def rgba(pixels: Pixels) -> Pixels:
    """Return (rows, columns[, 1 … 4]) grey or colours, perhaps with alpha, as four samples."""
    pixels = pixels[..., np.newaxis] if pixels.ndim == 2 else pixels
    samples = pixels.shape[2]
    colours = pixels[..., :3] if samples > 2 else np.repeat(pixels[..., :1], 3, axis=2)
    alpha = pixels[..., -1:] if samples % 2 == 0 else np.full_like(pixels[..., :1], 255)
    return np.concatenate([colours, alpha], axis=2)
