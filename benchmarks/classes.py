"""The classes: what is measured. Each yields its contests for one picture, and tidies up after them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator
from math import ceil, sqrt
from pathlib import Path
from typing import Any, TypeAlias

import large_image
import large_image_source_ometiff
import large_image_source_tiff
import large_image_source_tifffile
import numpy as np

import gputiles
from benchmarks import inputs, restyle, viewport
from benchmarks.pairs import Contest
from benchmarks.scope import Scope
from gputiles.config import usable_cores
from gputiles.engine import Engine
from gputiles.walk import FileRef

JPEG = "JPEG q95 4:4:4"
OURS: dict[str, Any] = {"encoding": "JPEG", "quality": 95, "subsampling": 0}
OPTIONS = {"jpegQuality": 95, "jpegSubsampling": 0}  # the same of large_image
CODEC_NAMES = {"zlib": "deflated", "lzw": "LZW", "zstd": "zstd", None: "not compressed"}
CODECS = ("lzw", "zstd", None)  # beside deflate, which has a row of its own
ROUNDS = 4  # of cold tiles: as many pairs as others have would take half a second
STAIN = {
    "bands": [
        {"band": 1, "min": 30, "max": 240, "palette": "#ff0000"},
        {"band": 2, "min": 20, "max": 230, "palette": "#00ff00"},
        {"band": 3, "min": 40, "max": 250, "palette": "#0000ff"},
    ]
}
STORED = f"RGB {{side}}², JPEG q{inputs.JPEG_LEVEL} 4:2:0 256² tiles, full resolution only"


def threads() -> str:
    """Say how many threads either side may use."""
    return f"gputiles {usable_cores()}, large_image 1"


def resident(scope: Scope, picture: str) -> Iterator[Contest]:
    """Restyle a 6-channel 512² tile that both have read: a new style in every call."""
    path = inputs.multiplex(scope.folder / f"resident-{picture}.ome.tif", picture, 6, 512, 1, 1)
    with gputiles.open(path, config=scope.engine) as image:
        for output in (JPEG, "PNG"):
            encoding = output.split(" ")[0]
            yield Contest(
                kind="restyle",
                file="6 channels 512² uint16, one deflated tile, resident",
                picture=picture,
                output=output,
                threads=threads(),
                ours=_listed(restyle.product(image, encoding)),
                theirs=_listed(restyle.peer(path, encoding)),
                warm=restyle.WARM,
            )


def viewports(scope: Scope, picture: str, channels: int = viewport.CHANNELS) -> Iterator[Contest]:
    """Restyle 40 tiles of all channels (R1)."""
    top = inputs.BRIGHTEST if picture == "noise" else viewport.TOP  # else there is little of it but white
    path = scope.folder / f"viewport-{channels}-{picture}.ome.tif"
    inputs.multiplex(path, picture, channels, 256, viewport.COLUMNS, viewport.ROWS)
    reference = FileRef(path.resolve(), path.resolve().parent)
    with asyncio.Runner() as runner:
        engine = runner.run(_started())
        # Runner.run ends with signal.signal, which makes a repr of its task, all tiles included: 9 ms
        run = runner.get_loop().run_until_complete
        try:
            yield Contest(
                kind="viewport" if channels == viewport.CHANNELS else f"viewport of {channels} channels",
                file=f"{channels} channels 2048 × 1280 uint16, deflated 256² tiles, resident; 40 a call",
                picture=picture,
                output=JPEG,
                threads=threads(),
                ours=lambda number: run(
                    viewport.restyled(engine, reference, number, channels=channels, top=top)
                ),
                theirs=_their_viewport(path, channels, top),
                burst=1,
                warm=viewport.WARM,
            )
        finally:
            runner.run(engine.close())
    path.unlink()


async def _started() -> Engine:
    engine = Engine(restyle.few_answers())
    await engine.start()
    return engine


def _their_viewport(path: Path, channels: int, top: int) -> Callable[[int], list[bytes]]:
    def theirs(number: int) -> list[bytes]:
        source = large_image_source_ometiff.open(
            str(path), style=json.dumps(viewport.bands(number, channels, top)), encoding="JPEG", **OPTIONS
        )
        return [source.getTile(x, y, source.levels - 1) for x, y in viewport.PLACES]

    return theirs


def cold(scope: Scope, picture: str) -> Iterator[Contest]:
    """Render a 6-channel 512² tile that neither has read before, of an open file, in one style (R4)."""
    yield from _cold(scope, picture, "zlib", "cold")


def codecs(scope: Scope, picture: str) -> Iterator[Contest]:
    """Do the same of files that are compressed otherwise, or not at all."""
    for codec in CODECS:
        yield from _cold(scope, picture, codec, f"cold {CODEC_NAMES[codec]}")


def _cold(
    scope: Scope, picture: str, codec: str | None, kind: str, peer: Any = large_image_source_ometiff
) -> Iterator[Contest]:
    across = ceil(sqrt(1 + ROUNDS * scope.pairs))
    path = scope.folder / f"{kind}-{picture}.ome.tif"
    inputs.multiplex(path, picture, 6, 512, across, across, codec)
    look = restyle.style(0)
    source = peer.open(str(path), style=json.dumps(look), encoding="JPEG", **OPTIONS)
    with gputiles.open(path, config=scope.engine) as image:
        yield Contest(
            kind=kind,
            file=f"6 channels {across * 512}² uint16, 512² tiles, {CODEC_NAMES[codec]}; each call another",
            picture=picture,
            output=JPEG,
            threads=threads(),
            ours=_walk(across, lambda x, y: image.tile(image.info.levels - 1, x, y, style=look, **OURS)),
            theirs=_walk(across, lambda x, y: source.getTile(x, y, source.levels - 1)),
            burst=1,
            rounds=ROUNDS,
        )
    path.unlink()


def slides(scope: Scope, picture: str) -> Iterator[Contest]:
    """Fetch an unstyled tile of a slide that neither has read before (R3); gputiles passes it on."""
    yield from _slides(scope, picture, "slide", large_image_source_tiff)


def _slides(scope: Scope, picture: str, kind: str, peer: Any) -> Iterator[Contest]:
    across = scope.slide // 256
    path = inputs.slide(scope.folder / f"{kind}-{picture}.tif", picture, scope.slide)
    source = peer.open(str(path), encoding="JPEG", **OPTIONS)
    with gputiles.open(path, config=scope.engine) as image:
        yield Contest(
            kind=kind,
            file=f"{STORED.format(side=scope.slide)}; each call another tile",
            picture=picture,
            output="JPEG as stored (gputiles), q95 4:4:4 (large_image)",
            threads=threads(),
            ours=_walk(across, lambda x, y: image.tile(image.info.levels - 1, x, y, encoding="JPEG")),
            theirs=_walk(across, lambda x, y: source.getTile(x, y, source.levels - 1)),
            mean=4.0,  # large_image encodes once more
            worst=64,
            burst=min(16, (across * across - 1) // scope.pairs),
        )
    path.unlink()


def through_tifffile(scope: Scope, picture: str) -> Iterator[Contest]:
    """Do the same of both files against the source that large_image takes where the others fail (R3, R4)."""
    yield from _cold(scope, picture, "zlib", "cold against tifffile", large_image_source_tifffile)
    yield from _slides(scope, picture, "slide against tifffile", large_image_source_tifffile)


def styled_slides(scope: Scope, picture: str) -> Iterator[Contest]:
    """Do the same in a style, for which both decode (R3)."""
    across = scope.slide // 256
    path = inputs.slide(scope.folder / f"styled-{picture}.tif", picture, scope.slide)
    source = large_image_source_tiff.open(str(path), style=json.dumps(STAIN), encoding="JPEG", **OPTIONS)
    with gputiles.open(path, config=scope.engine) as image:
        yield Contest(
            kind="slide styled",
            file=f"{STORED.format(side=scope.slide)}; each call another tile, a window for each colour",
            picture=picture,
            output=JPEG,
            threads=threads(),
            ours=_walk(across, lambda x, y: image.tile(image.info.levels - 1, x, y, style=STAIN, **OURS)),
            theirs=_walk(across, lambda x, y: source.getTile(x, y, source.levels - 1)),
            burst=min(16, (across * across - 1) // scope.pairs),
        )
    path.unlink()


def overviews(scope: Scope, picture: str) -> Iterator[Contest]:
    """Make the one tile of the coarsest level of a file that stores full resolution only (R6)."""
    path = inputs.slide(scope.folder / f"overview-{picture}.tif", picture, scope.overview)

    yield _overview(
        scope,
        kind="overview",
        file=STORED.format(side=scope.overview),
        picture=picture,
        path=path,
        peer=large_image_source_tiff,
        exact=inputs.exact_overview(path),
    )


def wide_overviews(scope: Scope, picture: str) -> Iterator[Contest]:
    """Do the same of a file of 16 bits, whose high bytes are shown."""
    path, across = scope.folder / f"overview16-{picture}.ome.tif", scope.overview // 512
    inputs.multiplex(path, picture, 1, 512, across, across)

    yield _overview(
        scope,
        kind="overview of uint16",
        file=f"{scope.overview}² uint16, deflated 512² tiles, full resolution only",
        picture=picture,
        path=path,
        peer=large_image_source_ometiff,
        exact=np.dstack([inputs.exact_overview(path, 512) >> 8] * 3),
        style={},
    )
    path.unlink()


def _overview(
    scope: Scope, *, kind: str, file: str, picture: str, path: Path, peer: Any, exact: np.ndarray, **look: Any
) -> Contest:
    """Return the contest for the one tile of the coarsest level, in a ``look``, exact on our side."""

    def ours(_: int) -> list[bytes]:
        with gputiles.open(path, config=scope.engine) as image:
            return [image.tile(0, 0, 0, encoding="PNG", **look)]

    def theirs(_: int) -> list[bytes]:
        source = peer.open(str(path), encoding="PNG", noCache=True)
        return [source.getTile(0, 0, 0)]

    return Contest(
        kind=kind,
        file=f"{file}; opened anew in each call",
        picture=picture,
        output="PNG",
        threads=threads(),
        ours=ours,
        theirs=theirs,
        mean=64.0,  # large_image's reduction is another
        worst=255,
        exact=exact,
        burst=1,
    )


def _listed(call: Callable[[int], bytes]) -> Callable[[int], list[bytes]]:
    return lambda number: [call(number)]


def _walk(across: int, tile: Callable[[int, int], bytes]) -> Callable[[int], list[bytes]]:
    """Return a call that gets the tile of its number, row by row."""
    return lambda number: [tile(number % across, number // across)]


Class: TypeAlias = Callable[[Scope, str], Iterator[Contest]]

CLASSES: dict[str, Class] = {
    "restyle": resident,
    "viewport": viewports,
    "cold": cold,
    "slide": slides,
    "overview": overviews,
}
"""What every run measures, and the baseline holds."""

FURTHER: dict[str, Class] = {
    "viewport40": lambda scope, picture: viewports(scope, picture, 40),
    "codecs": codecs,
    "styled": styled_slides,
    "tifffile": through_tifffile,
    "overview16": wide_overviews,
}
"""What a full run measures beside them."""

# so that 40 channels of 40 tiles stay in large_image's cache too; it is half of what gputiles may take
large_image.config.setConfig("cache_python_memory_portion", 8)
