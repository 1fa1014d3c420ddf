"""Sheets of frames, rendered: the frames one by one, then put together and encoded."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

from gputiles import arrays, frames
from gputiles.backends import RenderJob
from gputiles.encoded import EncodedTile, Encoding, Format
from gputiles.errors import LimitExceeded
from gputiles.frames import FramesRequest
from gputiles.images import Image
from gputiles.rasters import Work
from gputiles.recipe import Recipe
from gputiles.renderer import MOST_BYTES, Renderer
from gputiles.renderjobs import background
from gputiles.tasks import together
from gputiles.trace import Trace
from gputiles.transfers import uploaded

ABREAST = 4  # frames that are rendered side by side
SHOWN = Encoding(Format.NPY, shown=True)


async def sheet(renderer: Renderer, image: Image, request: FramesRequest, trace: Trace) -> EncodedTile:
    """Return the sheet, encoded. Raises as ``Renderer.region`` does for one of its frames."""
    return await renderer.answered(image, request, trace, partial(_render, renderer))


async def _render(renderer: Renderer, work: Work, request: FramesRequest) -> bytes:
    view = request.view
    if view.style is None and view.encoding.takes_values:
        _check(work, request)
        parts = await _each(request, partial(_values, renderer, work, request))
        sheet = await renderer.room.run(frames.values, request, parts)
        return await renderer.room.run(arrays.file_of, sheet, view.encoding.format)
    parts = await _each(request, partial(_picture, renderer, work, request))
    return await _encode(renderer, work, request, await renderer.room.run(frames.picture, request, parts))


def _check(work: Work, request: FramesRequest) -> None:
    """Raise LimitExceeded where the stored values of all frames are too many bytes."""
    info = work.image.info
    taken = request.width * request.height * info.samples * info.dtype.itemsize
    if taken > MOST_BYTES:
        raise LimitExceeded(
            f"tile_frames: {request.width} x {request.height} pixels are {taken} bytes; at most {MOST_BYTES}"
        )


async def _each(request: FramesRequest, make: Any) -> list[Any]:
    """Return what ``make`` makes of every frame, a few of them at a time."""
    return await together([partial(make, frame) for frame in request.frames], ABREAST)


async def _values(renderer: Renderer, work: Work, request: FramesRequest, frame: int) -> Any:
    return await renderer.values(work.image, frame, request.region, work.trace)


async def _picture(renderer: Renderer, work: Work, request: FramesRequest, frame: int) -> Any:
    """Return the colours that a person sees of one frame, (rows, columns, 1 … 4)."""
    view = replace(request.view, frame=frame, encoding=SHOWN)
    data = await renderer.render_region(work, replace(request.region, view=view))
    return await renderer.room.run(arrays.array_of, data)


async def _encode(renderer: Renderer, work: Work, request: FramesRequest, sheet: Any) -> bytes:
    """Encode a picture that is finished: as an image whose bytes are shown as they are."""
    raster = await uploaded(renderer.batcher, sheet, work.trace)
    recipe = await renderer.recipe(work, request.view)
    job = RenderJob(
        recipe=Recipe((0,)),
        rasters=(raster,),
        width=request.width,
        height=request.height,
        encoding=request.view.encoding,
        background=background(work.image.info, recipe),
    )
    data: bytes = await renderer.batcher.submit("render", job, work.trace)
    return data
