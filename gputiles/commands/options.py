"""Configuration options: every field of Config as an option, a variable, a line in a file."""

from __future__ import annotations

import dataclasses
import os
import re
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from gputiles.config import Config, parse_pictures, parse_size
from gputiles.errors import BadRequest
from gputiles.image import Reduction
from gputiles.places import normalise

F = TypeVar("F", bound=Callable[..., Any])


class Size(click.ParamType):  # type: ignore[type-arg]  # generic from click 8.5 on
    """A number of bytes, with or without a unit."""

    name = "size"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Return the bytes that ``value`` means; complain in the user's words."""
        try:
            return parse_size(str(value))
        except BadRequest as error:
            self.fail(str(error), param, ctx)


class Device(click.ParamType):  # type: ignore[type-arg]
    """The word for a compute device."""

    name = "auto|cpu|cuda[:N]"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Return ``value`` if it can be a device."""
        if re.fullmatch(r"auto|cpu|cuda(:\d+)?", str(value)) is None:
            self.fail(f"expected 'auto', 'cpu', 'cuda' or 'cuda:N'; got {value!r}", param, ctx)
        return str(value)


class Pictures(click.ParamType):  # type: ignore[type-arg]
    """Names of pictures with commas between them, or ``all``, or ``none``."""

    name = "none|all|name,…"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, ...]:
        """Return the names in ``value``: text, or a list of a file of settings."""
        names = value if isinstance(value, tuple | list) else str(value).split(",")
        try:
            return parse_pictures(map(str, names))
        except BadRequest as error:
            self.fail(str(error), param, ctx)


class Script(click.ParamType):  # type: ignore[type-arg]
    """The address of a script: on this server or another."""

    name = "URL"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Return ``value`` if a page can load a script from it."""
        if (
            re.fullmatch(r"(https?://[A-Za-z0-9._~:\[\]-]+)?/[A-Za-z0-9._~!$&()*+=:@/?%-]+", str(value))
            is None
        ):
            self.fail(
                f"expected an address such as https://host/openseadragon.min.js; got {value!r}", param, ctx
            )
        return str(value)


class Address(click.ParamType):  # type: ignore[type-arg]
    """The address of a remote file or folder."""

    name = "address"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Return the address in the spelling that is compared."""
        try:
            return normalise(str(value))
        except BadRequest as error:
            self.fail(str(error), param, ctx)


COUNT = click.IntRange(min=1)
SECONDS = click.FloatRange(min=0)

TYPES: dict[str, Any] = {
    "host": click.STRING,
    "port": click.IntRange(0, 65_535),
    "device": Device(),
    "tile_cache": Size(),
    "raw_cache": Size(),
    "spill_cache": Size(),
    "card_jpegs": COUNT,
    "workers": COUNT,
    "readers": COUNT,
    "sources": COUNT,
    "revalidate": SECONDS,
    "deadline": click.FloatRange(min=0, min_open=True),
    "queue_items": COUNT,
    "queue_bytes": Size(),
    "synthesis_limit": Size(),
    "chunk_limit": Size(),
    "max_age": click.IntRange(min=0),
    "style_store": click.Path(dir_okay=False, path_type=Path),
    "style_limit": COUNT,
    "associated_images": Pictures(),
    "internal_metadata": click.BOOL,
    "uploads": click.Path(exists=True, file_okay=False, path_type=Path, resolve_path=True),
    "upload_limit": Size(),
    "reduction": click.Choice(["auto", *(each.value for each in Reduction)]),
    "icc": click.BOOL,
    "openseadragon": Script(),
    "active_seconds": SECONDS,
    "remote": Address(),
    "girder": Address(),
    "remote_cache": Size(),
    "remote_timeout": click.FloatRange(min=0, min_open=True),
}
REPEATED = {"remote"}  # on the command line, or with spaces between in a variable


def settings(command: F) -> F:
    """Give ``command`` an option for each setting, and ``--config`` for a file of them.

    A setting is looked for on the command line, then in ``GPUTILES_<NAME>``, then in the
    file, then Config's own default holds. ``read_config`` collects them.
    """
    for name, kind in reversed(TYPES.items()):
        option = click.option(
            f"--{name.replace('_', '-')}",
            name,
            type=kind,
            multiple=name in REPEATED,
            envvar=f"GPUTILES_{name.upper()}",
            help=_help(name),
        )
        command = option(command)
    return click.option(
        "--config",
        type=click.Path(exists=True, dir_okay=False, path_type=Path),
        envvar="GPUTILES_CONFIG",
        callback=_load,
        expose_value=False,
        is_eager=True,
        help="TOML file of settings, named as these options.",
    )(command)


def read_config(values: dict[str, Any], **fixed: Any) -> Config:
    """Return the Config that the options ``values`` say; ``fixed`` overrules them."""
    said = {name: value for name, value in values.items() if name in TYPES and value is not None}
    token = os.environ.get("GPUTILES_GIRDER_TOKEN")  # no option: other users may read command lines
    return Config(**{"girder_token": token, **said, **fixed})


def _load(ctx: click.Context, _: click.Parameter, path: Path | None) -> None:
    """Make the settings in the file ``path`` the defaults of the command's options."""
    if path is None:
        return
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise click.BadParameter(f"{path}: {error}") from error
    values = {key.replace("-", "_"): value for key, value in values.items()}
    allowed = {"roots", *TYPES}
    if unknown := sorted(values.keys() - allowed):
        raise click.BadParameter(f"{path}: no such setting: {', '.join(unknown)}")
    ctx.default_map = {**(ctx.default_map or {}), **values}


def _help(name: str) -> str | None:
    """Return what Config's docstring says about the field ``name``, and its default."""
    match = re.search(rf"^\s*{name}: (.*)$", Config.__doc__ or "", re.MULTILINE)
    if match is None:
        return None
    text = match[1].replace("``", "").rstrip(".")
    default = next(field.default for field in dataclasses.fields(Config) if field.name == name)
    if default is dataclasses.MISSING or name in ("raw_cache", "card_jpegs"):
        return f"{text}  [default: from the machine]"
    return text if default in (None, ()) else f"{text}  [default: {_spelt(default)}]"


def _spelt(value: object) -> str:
    """Return a setting's value as it is written in a command line."""
    if isinstance(value, bool):
        return str(value).lower()
    return ",".join(map(str, value)) if isinstance(value, tuple) else str(value)
