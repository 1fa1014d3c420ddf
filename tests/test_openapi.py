"""The document of the API tells the truth: about every route, every parameter and every answer."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, ClassVar, TypeAlias

import numpy as np
import pytest
import requests
import schemathesis
import tifffile
from aiohttp.test_utils import TestClient, TestServer
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as some
from openapi_spec_validator import OpenAPIV31SpecValidator
from schemathesis.checks import CHECKS
from schemathesis.generation import GenerationMode

from gputiles import style
from gputiles.app import ROUTES, create_app
from gputiles.config import Config
from gputiles.errors import BadStyle
from gputiles.routes import parameters
from gputiles.routes.openapi import describe
from gputiles.routes.parameters import single
from gputiles.routes.respond import CORS
from gputiles.routes.schemas import NAMED
from tests.test_cli import address, start, stop

Draw: TypeAlias = Callable[..., Any]

BASE = "http://127.0.0.1"
DOCUMENT = describe(ROUTES, BASE)
OPERATIONS = {
    (method.upper(), path): operation
    for path, item in DOCUMENT["paths"].items()
    for method, operation in item.items()
    if method != "servers"
}


def test_the_document_is_an_openapi_3_1_document() -> None:
    assert list(OpenAPIV31SpecValidator(DOCUMENT).iter_errors()) == []
    assert json.loads(json.dumps(DOCUMENT)) == DOCUMENT


def test_pages_of_other_hosts_may_read_every_header_that_answers_have() -> None:
    safe = {"Cache-Control", "Content-Type"}
    others = {"Vary", "Allow", "X-Accel-Buffering"}  # for caches, people and proxies
    told = {
        name
        for operation in OPERATIONS.values()
        for answer in operation["responses"].values()
        for name in answer.get("headers", ())
        if not name.startswith("Access-Control-") and name not in safe | others
    }
    assert {"ETag", "X-Total-Count", "Location"} <= told
    assert told - set(CORS["Access-Control-Expose-Headers"].split(", ")) == set()


def test_the_document_and_the_server_have_the_same_routes() -> None:
    expected = {("OPTIONS", "/{path}"), ("*", "/{path}")}
    for method, path in OPERATIONS:
        alone = "servers" in DOCUMENT["paths"][path]
        for prefix in [""] if alone else ["", "/api/v1"]:
            for word in ("tiles", "tile"):
                for end in {path, path.rstrip("/") or "/"}:
                    spelt = prefix + end.replace("/item/{item}/tiles", f"/item/{{item}}/{word}")
                    expected |= {
                        (verb, spelt) for verb in ([method, "HEAD"] if method == "GET" else [method])
                    }
    routes = create_app(Config()).router.routes()
    assert {(route.method, route.resource.canonical) for route in routes} == expected


@pytest.mark.parametrize(("method", "path"), sorted(OPERATIONS))
def test_every_operation_says_what_it_is(method: str, path: str) -> None:
    operation = OPERATIONS[method, path]
    assert operation["summary"].endswith(".")
    assert {tag["name"] for tag in DOCUMENT["tags"]} >= set(operation["tags"])
    assert all(parameter["description"] for parameter in operation.get("parameters", []))
    identities = [other["operationId"] for other in OPERATIONS.values()]
    assert identities.count(operation["operationId"]) == 1
    statuses = operation["responses"]
    assert [status for status in statuses if status < "300" or status == "303"], (
        "an answer that is no refusal"
    )
    assert ("304" in statuses) == any(
        parameter["name"] == "If-None-Match" for parameter in operation.get("parameters", [])
    )


# -- a real server, asked whatever the document allows, and what it does not

API = schemathesis.openapi.from_dict(DOCUMENT)
CONFORMANCE = CHECKS.get_by_names(
    [
        "status_code_conformance",
        "content_type_conformance",
        "response_headers_conformance",
        "response_schema_conformance",
    ]
)
SETTINGS = settings(
    max_examples=16,  # of each operation
    derandomize=True,
    database=None,
    deadline=None,
    phases=[Phase.generate],
    suppress_health_check=list(HealthCheck),
)


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("openapi")
    data = np.random.default_rng(3).integers(0, 4096, (3, 300, 500)).astype(np.uint16)
    names = {"axes": "CYX", "Channel": {"Name": ["DAPI", "CD3", "CD8"]}}
    tifffile.imwrite(folder / "multi.ome.tif", data, tile=(128, 128), compression="zlib", metadata=names)
    colours = np.stack([data[0] % 256] * 3, axis=-1).astype(np.uint8)
    with tifffile.TiffWriter(folder / "slide.svs") as file:
        head = "Aperio Image Library v12\r\n500x300 (128x128) |AppMag = 20|MPP = 0.5"
        file.write(colours, tile=(128, 128), photometric="rgb", description=head)
        file.write(colours[::5, ::5], photometric="rgb", description="Aperio Image Library v12\r\n500x300")
    tifffile.imwrite(folder / "float.tif", np.where(data[0] < 99, np.nan, data[0]).astype(np.float32))
    (folder / "broken.tif").write_bytes(b"II*\0nonsense")
    return folder


@pytest.fixture(scope="module")
def server(images: Path) -> Iterator[str]:
    uploads = images / "uploads"
    uploads.mkdir()
    process = start(
        *("serve", images, "--port", 0, "--workers", 1, "--uploads", uploads, "--upload-limit", 4096),
        *("--deadline", 5, "--synthesis-limit", 1 << 22, "--associated-images", "all"),
    )  # fmt: skip
    yield address(process, r"serves (http://\S+)")[1]
    _, errors = stop(process, 2)
    assert "internal error" not in errors


@pytest.fixture(scope="module")
def items(server: str) -> list[str]:
    """The items that there are, each as likely as an item that is not."""
    return [*(item["id"] for item in requests.get(f"{server}/item", timeout=30).json()), "test"]


def sensible(draw: Draw, case: schemathesis.Case, items: list[str]) -> None:
    """Make a case likelier to be understood: an item that there is, values as in the document's examples.

    Of the query at most three parameters are kept: of many random ones, one alone is refused.
    """
    described = case.operation.definition.raw["parameters"] if case.path_parameters or case.query else []
    examples = {each["name"]: each["example"] for each in described if "example" in each}
    for name in case.path_parameters:
        likely = some.sampled_from(items) if name in ("item", "identifier") else some.just(examples.get(name))
        value = draw(likely) if draw(some.integers(0, 4)) else None
        if value is not None:
            case.path_parameters[name] = str(value)
    needed = {each["name"] for each in described if each["in"] == "query" and each.get("required")}
    kept = draw(some.sets(some.sampled_from(sorted(case.query)), max_size=3)) if case.query else set()
    case.query = {
        name: examples[name] if name in examples and draw(some.booleans()) else case.query[name]
        for name in sorted(kept | needed & case.query.keys())
    }


@pytest.mark.parametrize(
    "operation", [found.ok() for found in API.get_all_operations()], ids=lambda each: each.label
)
def test_every_answer_is_one_that_the_document_names(
    server: str, items: list[str], operation: schemathesis.schemas.APIOperation
) -> None:
    takes = operation.definition.raw.get("parameters") or operation.definition.raw.get("requestBody")
    modes = [GenerationMode.POSITIVE, GenerationMode.NEGATIVE] if takes else [GenerationMode.POSITIVE]
    cases = some.one_of(*(operation.as_strategy(generation_mode=mode) for mode in modes))

    @SETTINGS
    @given(case=cases, data=some.data())
    def ask(case: schemathesis.Case, data: some.DataObject) -> None:
        sensible(data.draw, case, items)
        answer = case.call(base_url=server, timeout=30, allow_redirects=False)
        assert answer.status_code < 500 or answer.status_code == 503, (answer.status_code, answer.text)
        case.validate_response(answer, checks=CONFORMANCE)

    ask()


# -- the same server, asked in order


PATH_EXAMPLES = {
    each["name"]: str(each["example"])
    for operation in OPERATIONS.values()
    for each in operation.get("parameters", [])
    if each["in"] == "path" and "example" in each
}
READ = [
    (method, path)
    for (method, path), operation in sorted(OPERATIONS.items())
    if method == "GET" and "101" not in operation["responses"]  # a socket is no answer
]


def parameters_of(method: str, path: str) -> list[dict[str, Any]]:
    return OPERATIONS[method, path].get("parameters", [])


def needed(method: str, path: str) -> dict[str, Any]:
    """Return the parameters of a query without which a request is refused, as they are in examples."""
    given = {
        each["name"]: each.get("example") for each in parameters_of(method, path) if each.get("required")
    }
    more = {"tile": "0,0,0"} if "render_image_region" in path else {}
    return {name: value for name, value in given.items() if f"{{{name}}}" not in path} | more


@pytest.fixture(scope="module")
def known(server: str) -> dict[str, str]:
    """Return a value that is understood for every part of a path."""
    items = requests.get(f"{server}/item", timeout=30).json()
    item = next(item["id"] for item in items if item["name"] == "slide.svs")
    key = requests.post(f"{server}/styles", data="{}", timeout=30).json()["id"]
    requests.put(f"{server}/item/{item}/presets/mine", data='{"frame": 0}', timeout=30).raise_for_status()
    return {**PATH_EXAMPLES, "item": item, "identifier": item, "id": key, "width": "50", "height": "50"}


@pytest.mark.parametrize(("method", "path"), READ)
def test_every_example_is_understood(server: str, known: dict[str, str], method: str, path: str) -> None:
    url = server + path.format(**known)
    queries = [
        {each["name"]: value}
        for each in parameters_of(method, path)
        if each["in"] == "query"
        for value in [each.get("example"), *each["schema"].get("enum", []), each["schema"].get("default")]
        if value is not None
    ]
    for query in [{}, *queries]:
        answer = requests.get(url, needed(method, path) | query, timeout=30, allow_redirects=False)
        assert answer.status_code in (200, 303), (query, answer.text)
        API[path][method].Case(path_parameters=known).validate_response(answer, checks=CONFORMANCE)


def test_what_changes_the_server_answers_as_the_document_says(server: str) -> None:
    small = io.BytesIO()
    tifffile.imwrite(small, np.zeros((9, 9), np.uint8))
    for path, status, request in (
        ("/item", 201, {"params": {"name": "small.tif"}, "data": small.getvalue()}),
        ("/item/import", 200, {"json": {"path": "slide.svs"}}),
        ("/item/import", 404, {"json": {"path": "no.tif"}}),
        ("/styles", 200, {"json": {"bands": [{"band": 1, "palette": ["#000", "#f0f"]}]}}),
    ):
        answer = requests.post(server + path, timeout=30, **request)
        assert answer.status_code == status, (path, answer.text)
        API[path]["POST"].Case().validate_response(answer, checks=CONFORMANCE)


@pytest.mark.parametrize(("method", "path"), READ)
def test_what_is_beyond_a_limit_is_refused_and_the_limit_itself_is_not(
    server: str, known: dict[str, str], method: str, path: str
) -> None:
    for each in parameters_of(method, path):
        schema = each["schema"]
        for word, step in (("minimum", -1), ("maximum", 1)):
            if word not in schema:
                continue
            of_test = each["description"].startswith("of the item test")
            for value in [schema[word] + step] if of_test else [schema[word], schema[word] + step]:
                parts, query = dict(known, **({"item": "test"} if of_test else {})), needed(method, path)
                query |= {"alignment": "1"} if "quad_info" in path else {}
                (parts if each["in"] == "path" else query)[each["name"]] = str(value)
                answer = requests.get(server + path.format(**parts), query, timeout=30, allow_redirects=False)
                refused = answer.status_code in (400, 404, 413)
                assert refused == (value != schema[word]), (each["name"], value, answer.text[:200])


# -- the document itself, and the reading of what it declares


class Recording(dict[str, str]):
    """A query that remembers which parameters were looked for."""

    asked: ClassVar[set[str]] = set()

    def get(self, key: str, *default: Any) -> Any:
        self.asked.add(key)
        return super().get(key, *default)

    def __getitem__(self, key: str) -> str:
        self.asked.add(key)
        return super().__getitem__(key)

    def __contains__(self, key: object) -> bool:
        self.asked.add(str(key))
        return super().__contains__(key)


NOT_TAKEN = {
    "/item/{item}/tiles/tile_frames": {"frame"},  # the sheet's frames count
}


async def test_what_is_declared_is_read_and_what_is_read_is_declared(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parameters, "single", lambda query: Recording(single(query)))
    parts = {**PATH_EXAMPLES, "item": "test", "identifier": "0", "id": "0", "width": "50", "height": "50"}
    async with TestClient(TestServer(create_app(Config(roots=(tmp_path,), uploads=tmp_path)))) as client:
        for method, path in OPERATIONS:
            Recording.asked.clear()
            declared = {each["name"] for each in parameters_of(method, path) if each["in"] == "query"}
            small = {"maxLevel": "0"} if "maxLevel" in declared else {}
            none = dict.fromkeys(needed(method, path).keys() - {"name"}, "")  # what is empty was looked for
            await client.request(method, path.format(**parts), params={**small, **none})
            read = {name for name in Recording.asked if f"{{{name}}}" not in path}
            assert read - NOT_TAKEN.get(path, set()) == declared, path


async def test_the_server_tells_its_document_at_the_address_that_a_client_wrote(tmp_path: Path) -> None:
    async with TestClient(TestServer(create_app(Config(roots=(tmp_path,))))) as client:
        proxy = {"X-Forwarded-Host": "tiles.example.org", "X-Forwarded-Prefix": "/slides"}
        answer = await client.get("/openapi.json", headers=proxy)
        assert await answer.json() == describe(ROUTES, "http://tiles.example.org/slides")
        assert answer.headers["Vary"] == "X-Forwarded-Proto, X-Forwarded-Host, X-Forwarded-Prefix"
        assert (await client.head("/openapi.json")).status == 200
        assert (await client.get("/api/v1/openapi.json")).status == 404


@pytest.mark.parametrize("key", sorted(NAMED["Band"]["properties"]))
def test_every_key_of_a_band_is_one_that_styles_know(key: str) -> None:
    with pytest.raises(BadStyle, match=key):
        style.parse({"bands": [{key: {"no": "such value"}}]})
