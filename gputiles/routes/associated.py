"""The other pictures of a file: thumbnail, label, macro.

Labels and macros show what is written on a slide, perhaps a patient's name: they exist only
where the setting ``associated-images`` names them.
"""

from __future__ import annotations

from typing import Any

from aiohttp import web

from gputiles.errors import NotFound
from gputiles.image import Alpha, Colour, ImageInfo
from gputiles.references import AssociatedRef
from gputiles.renderer import MOST_THUMBNAIL, Renderer
from gputiles.request import ThumbnailRequest
from gputiles.routes import ask, parameters
from gputiles.routes.answer import answer, in_time
from gputiles.routes.ask import Ask, image_of
from gputiles.routes.disposition import DISPOSITION, saved_as
from gputiles.routes.parameters import Parameter, integer, text
from gputiles.routes.respond import as_json
from gputiles.routes.route import PICTURES, Route, as_object
from gputiles.routes.schemas import TEXT, WHOLE, listed, one_of, record
from gputiles.state import STATE, State

NAME = text("name", "what the picture is called", example="thumbnail")
SIDES = tuple(
    integer(
        side,
        f"pixels of the answer, at most; more than {MOST_THUMBNAIL} counts as that",
        1,
        default=MOST_THUMBNAIL,
    )
    for side in ("width", "height")
)
NAMES = as_object(listed(TEXT), "the names")
KIND = as_object(
    record({"sizeX": WHOLE, "sizeY": WHOLE, "mode": one_of(("L", "LA", "RGB", "RGBA"))}), "its size and kind"
)


def routes() -> tuple[Route, ...]:
    """Return the routes of this room."""
    base, one = "/item/{item}/tiles/images", (ask.ITEM, NAME)
    takes: tuple[Parameter[Any], ...] = (*one, *SIDES, *ask.VIEW, *DISPOSITION)
    return (
        Route("GET", base, in_time(names), ask.IMAGE, NAMES),
        Route("GET", f"{base}/{{name}}", in_time(picture), takes, PICTURES),
        Route("GET", f"{base}/{{name}}/metadata", in_time(metadata), one, KIND),
    )


async def names(request: web.Request) -> web.Response:
    """``GET /item/{id}/tiles/images``: the names of the pictures that may be seen."""
    state = request.app[STATE]
    image = await image_of(state, ask.item_of(request, parameters.single(request.query)))
    return as_json([name for name in image.info.associated if _may_be_seen(state, name)])


async def picture(request: web.Request) -> web.Response:
    """``GET /item/{id}/tiles/images/{name}``: a picture, at most ``width`` × ``height``, never enlarged."""
    query = parameters.single(request.query)
    width, height = (min(side.of(query), MOST_THUMBNAIL) for side in SIDES)
    wanted = ThumbnailRequest(width, height, await ask.view(request, query, "JPEG"))
    saved = saved_as(query, NAME.of(request.match_info))
    return await answer(request, Ask(await _reference(request), wanted, saved), Renderer.thumbnail)


async def metadata(request: web.Request) -> web.Response:
    """``GET /item/{id}/tiles/images/{name}/metadata``: the size and the kind of a picture."""
    info = (await image_of(request.app[STATE], await _reference(request))).info
    return as_json({"sizeX": info.width, "sizeY": info.height, "mode": _mode(info)})


def _mode(info: ImageInfo) -> str:
    """Return Pillow's word for what is shown: grey or colours, and whether with alpha."""
    alpha = info.alpha is not Alpha.NONE
    grey = info.colour is Colour.GREY and info.samples - alpha == 1 and len(info.frames) == 1
    return ("L" if grey else "RGB") + ("A" if alpha else "")


async def _reference(request: web.Request) -> AssociatedRef:
    state, name = request.app[STATE], NAME.of(request.match_info)
    item = await state.library.item(ask.ITEM.of(request.match_info))
    if not _may_be_seen(state, name):
        raise NotFound(
            f"the picture {name[:64]!r} is not shown here: the setting 'associated-images' says which are"
        )
    return AssociatedRef(item.ref, name)


def _may_be_seen(state: State, name: str) -> bool:
    return name in state.config.associated_images
