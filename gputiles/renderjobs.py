"""Render jobs: what a backend is asked for, to show a tile or a region of an image."""

from __future__ import annotations

from gputiles.backends import Raster, RenderJob, ResampleJob
from gputiles.encoded import Encoding
from gputiles.geometry import Rect
from gputiles.image import Alpha, Colour, ImageInfo
from gputiles.recipe import Recipe
from gputiles.request import TileRequest

WHITE = (255, 255, 255)


def render_job(
    info: ImageInfo,
    encoding: Encoding,
    recipe: Recipe,
    rasters: tuple[Raster, ...],
    size: tuple[int, int],
    fill: tuple[int, int, int, int] | None,
) -> RenderJob:
    """Return the job that makes a picture of ``size`` (width, height), one raster a frame of the recipe."""
    return RenderJob(
        recipe=recipe,
        rasters=rasters,
        width=size[0],
        height=size[1],
        encoding=encoding,
        fill=fill,
        background=background(info, recipe),
    )


def tile_size(info: ImageInfo, request: TileRequest) -> tuple[int, int]:
    """Return the (width, height) of a tile's picture."""
    if not request.edge.crop:
        return info.tile_width, info.tile_height
    rect = info.grid.rect(request.z, request.x, request.y)
    return rect.width, rect.height


def background(info: ImageInfo, recipe: Recipe) -> tuple[int, int, int] | None:
    """Return what shows through transparent pixels of a JPEG.

    White under an RGB picture that no style has recoloured; under a composite black,
    which is what a masked pixel's colour is.
    """
    return WHITE if recipe.bands is None and info.colour is Colour.RGB else None


def resample_job(
    info: ImageInfo, rect: Rect, cells: dict[tuple[int, int], Raster], width: int, height: int
) -> ResampleJob:
    """Return the job that makes ``rect`` of a level, which ``cells`` cover, in another size."""
    return ResampleJob(
        tiles=tuple((x * info.tile_width, y * info.tile_height, raster) for (x, y), raster in cells.items()),
        region=rect,
        width=width,
        height=height,
        reduction=info.reduction,
        nodata=info.nodata,
        alpha=info.alpha is Alpha.STRAIGHT,
    )
