"""Items: one by one, imported, and uploaded."""

from __future__ import annotations

import os
from pathlib import Path
from typing import BinaryIO
from uuid import uuid4

from aiohttp import web

from gputiles.errors import BadRequest, LimitExceeded, NotFound, Unsupported
from gputiles.library import Item
from gputiles.metadata import describe
from gputiles.routes import ask, parameters, presets, viewer
from gputiles.routes.answer import in_time
from gputiles.routes.items import entry
from gputiles.routes.parameters import text
from gputiles.routes.respond import as_json
from gputiles.routes.route import Answer, Body, Route, as_object
from gputiles.routes.schemas import TEXT, WHOLE, named, record
from gputiles.state import STATE, State
from gputiles.walk import SUFFIXES, remote_item

LONGEST_BODY = 65_536  # bytes of an import request


PLACE = {"oneOf": [record({"path": TEXT}), record({"url": TEXT})]}
PATH = Body("where the file is: below a root, or at an allowed address", "application/json", PLACE)
FILE = Body("the file", "application/octet-stream", {})
NAME = text(
    "name",
    f"the file's name, without folders, that ends with one of {', '.join(SUFFIXES)}",
    example="slide.tif",
    required=True,
)
VARY = {"Vary": "Accept"}
LINKS = record(dict.fromkeys(("view", "metadata", "tile", "thumbnail", "region"), TEXT))
FACTS = record(
    {**dict.fromkeys(("id", "name"), TEXT), "size": WHOLE, "metadata": named("Metadata"), "links": LINKS},
    {"preset": presets.PRESET},
)
FOUND = Answer(200, "its facts, or a page of them", {"application/json": FACTS, "text/html": TEXT}, VARY)
STORED = Answer(
    201, "it is stored", {"application/json": named("Item")}, {"Location": "the path of the item"}
)


def routes() -> tuple[Route, ...]:
    """Return the routes of this room."""
    return (
        Route(
            "POST", "/item/import", in_time(import_item), (), as_object(named("Item"), "the item"), body=PATH
        ),
        Route("POST", "/item", upload, (NAME,), (STORED,), body=FILE),
        Route("GET", "/item/{item}", in_time(show), (ask.ITEM,), (FOUND,)),
    )


async def show(request: web.Request) -> web.Response:
    """``GET /item/{id}``: the item's facts and links as JSON; for browsers, a page of them.

    ``preset`` is the view to begin with, where large_image's configuration in its folder names one.
    """
    if "text/html" in request.headers.get("Accept", ""):
        return await viewer.page(request, "item.html", item=request.match_info["item"])
    state = request.app[STATE]
    item = await state.library.item(request.match_info["item"])
    image = await state.engine.image(item.ref)
    facts = {**entry(item), "metadata": describe(image.info), "links": _links(item)}
    first = [view for view in await presets.of_folder(state, item.id) if view.get("default")]
    return as_json({**facts, **({"preset": first[0]} if first else {})}, headers=VARY)


def _links(item: Item) -> dict[str, str]:
    base = f"/item/{item.id}/tiles"
    return {
        "view": f"/view/{item.id}",
        "metadata": base,
        "tile": f"{base}/zxy/{{z}}/{{x}}/{{y}}",
        "thumbnail": f"{base}/thumbnail",
        "region": f"{base}/region",
    }


async def import_item(request: web.Request) -> web.Response:
    """``POST /item/import`` with ``{"path": …}`` or ``{"url": …}``: open and check a file.

    A path lies below a root, an address below a prefix that the setting ``remote`` allows.

    It is not taken into any cache: that is left to the first view.
    """
    state = request.app[STATE]
    name, value = await _wanted(request)
    if name == "url":
        return as_json(entry(state.library.adopt(await _checked(state, await _remote(state, value)))))
    item = await state.library.named(value)
    return as_json(entry(await _checked(state, item)))


async def _remote(state: State, address: str) -> Item:
    return await state.engine.reading_room.run(remote_item, state.engine.remotes, address)


async def _checked(state: State, item: Item) -> Item:
    """Return an item that can be read; Unsupported with the reason where it cannot."""
    reason = await state.engine.validate(item.ref)
    state.library.note(item, reason)
    if reason is not None:
        raise Unsupported(reason)
    return item


async def _wanted(request: web.Request) -> tuple[str, str]:
    """Return ``path`` or ``url``, and which."""
    body = await ask.body(request, "import", LONGEST_BODY)
    value = parameters.parse_json(body, "import: expected a JSON object with a path")
    given = [name for name in ("path", "url") if isinstance(value, dict) and isinstance(value.get(name), str)]
    if len(given) != 1:
        allowed = '{"path": "folder/image.tif"} or {"url": "https://host/image.tif"}'
        raise BadRequest(f"import: expected a JSON object such as {allowed}")
    return given[0], value[given[0]]


async def upload(request: web.Request) -> web.Response:
    """``POST /item?name=…``: store the body as a new file in the folder for uploads, and open it."""
    state = request.app[STATE]
    folder = state.config.uploads
    if folder is None:
        raise NotFound("uploads are not allowed here; the setting 'uploads' names a folder for them")
    run = state.engine.reading_room.run
    target = await run(folder.resolve) / _file_name(NAME.of(parameters.single(request.query)))
    part = target.with_name(f".{uuid4().hex}.part")
    try:
        await _store(request, state, part)
        await run(_keep, part, target)
    finally:
        await run(part.unlink, True)
    item = await state.library.at(target)
    reason = await state.engine.validate(item.ref)
    if reason is not None:
        await run(target.unlink, True)
        raise Unsupported(reason)
    await state.engine.image(item.ref)
    return as_json(entry(item), 201, {"Location": f"/item/{item.id}"})


def _file_name(name: str) -> str:
    if not name or name != os.path.basename(name) or name.startswith(".") or "\0" in name:
        raise BadRequest(f"name: expected a file name without folders; got {name[:64]!r}")
    if not name.lower().endswith(SUFFIXES):
        raise BadRequest(f"name: expected one that ends with {', '.join(SUFFIXES)}; got {name[:64]!r}")
    return name


async def _store(request: web.Request, state: State, part: Path) -> None:
    """Write the body to a file, piece by piece; LimitExceeded where it is too long."""
    run, most = state.engine.reading_room.run, state.config.upload_limit
    file: BinaryIO = await run(open, part, "xb")
    try:
        size = 0
        async for piece in request.content.iter_chunked(1 << 20):
            size += len(piece)
            if size > most:
                raise LimitExceeded(f"upload: at most {most} bytes")
            await run(file.write, piece)
    finally:
        await run(file.close)


def _keep(part: Path, target: Path) -> None:
    """Give a stored file its name, unless there is such a file."""
    try:
        os.link(part, target)
    except FileExistsError as error:
        raise BadRequest(f"name: there is a file {target.name!r} already") from error
