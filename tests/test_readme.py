"""README tells the truth about settings, modules, commands, routes and its style."""

from __future__ import annotations

import dataclasses
import json
import re

import pytest
from click import Context

from gputiles import style
from gputiles.app import create_app
from gputiles.commands import COMMANDS, cli
from gputiles.commands.options import TYPES
from gputiles.config import Config
from tests.conftest import ROOT

README = (ROOT / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    "field",
    [
        field.name
        for field in dataclasses.fields(Config)
        if field.name not in ("roots", "urls", "girder_token")
    ],
)
def test_every_setting_is_in_the_table(field):
    assert f"`{field.replace('_', '-')}`" in README.split("### Settings")[1]


def test_every_module_is_in_the_plan_of_the_house():
    plan = README.split("## The house")[1].split("## HTTP")[0]
    names = {path.name for path in (ROOT / "gputiles").glob("*.py")} - {"__init__.py"}
    packages = {f"{path.parent.name}/" for path in (ROOT / "gputiles").glob("*/__init__.py")}
    assert [name for name in sorted(names | packages) if name not in plan] == []


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_is_named(name):
    assert f"gputiles {name} " in README


@pytest.mark.parametrize("name", COMMANDS)
def test_every_option_is_named(name):
    """Settings are in their table."""
    told = README.split("## Command line")[1].split("### Settings")[0] + "`--config FILE`"
    command = cli.get_command(Context(cli), name)
    options = {option for each in command.params if each.name not in TYPES for option in each.opts}
    words = set(re.findall(r"(?<![\w-])--?[a-z]+", told))
    assert {option for option in options if option.startswith("-")} - words <= {"--output"}  # -o


def test_the_routes_are_those_of_the_server():
    paths = {resource.canonical for resource in create_app(Config()).router.resources()}
    told = set(re.findall(r"(?:GET|POST|PUT) (/[^`?…]*)", README.split("## HTTP")[1].split("## Python")[0]))
    told = {
        path.replace("/{id}", "/{item}") if path.startswith(("/item", "/view", "/xyz")) else path
        for path in told
    }
    assert told - {"/item/test/tiles"} <= paths


def test_every_route_of_the_server_is_told_of():
    """Twins (``/api/v1``, ``tile``, IIIF 2.1) are told of by their rule, OMERO's routes by their names."""
    told = README.split("## HTTP")[1].split("## Python")[0].replace("{id}", "{item}")
    paths = {route.resource.canonical for route in create_app(Config()).router.routes() if route.resource}
    wanted = {as_told(path) for path in paths - {"/{path}"} if not path.startswith("/api/v1")}  # preflights
    assert {path for path in wanted if path not in told} == set()


def as_told(path: str) -> str:
    """Return what README has of a route's path."""
    path = re.sub(r"/tile(?=[/:])", "/tiles", path).replace("/iiif/2", "/iiif/3").replace("{id}", "{item}")
    if path.endswith("/images/{name}/metadata"):
        return "`…/metadata`"
    return re.sub(r"^/webgateway/(\w+).*", r"\1", path)


def test_the_style_is_the_pictures_and_all_its_keys_are_known():
    text = (ROOT / "docs" / "style.json").read_text(encoding="utf-8")
    assert re.sub(r"\s", "", text) in re.sub(r"\s", "", README)
    assert len(style.parse(json.loads(text)).bands or ()) == 4


def test_the_picture_is_small_enough_to_keep():
    assert (ROOT / "docs" / "style.png").stat().st_size <= 150_000
