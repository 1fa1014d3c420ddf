"""One server and one browser for all tests of the viewer."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser

from tests.browser import SIZE, Visit, chromium, needed, plain_proxy, serving
from tests.viewer.scene import write_images


@pytest.fixture(scope="package")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    needed()
    folder = tmp_path_factory.mktemp("images")
    write_images(folder)
    return folder


@pytest.fixture(scope="package")
def server(folder: Path) -> Iterator[str]:
    with serving(folder) as base:
        yield base


@pytest.fixture(name="plain_proxy")
def plain_proxy_fixture(server: str) -> Iterator[str]:
    """The server behind a proxy that knows no WebSockets."""
    with plain_proxy(server) as base:
        yield base


@pytest.fixture(scope="package")
def browser() -> Iterator[Browser]:
    needed()
    with chromium() as browser:
        yield browser


@pytest.fixture
def visit(server: str, browser: Browser) -> Iterator[Visit]:
    """A visit that must neither complain nor leave the host."""
    context = browser.new_context(viewport=SIZE)  # type: ignore[arg-type]
    visit = Visit(context.new_page(), server)
    yield visit
    context.close()
    assert visit.complaints == []
    assert [url for url in visit.requests if not url.startswith((server, "blob:", "data:"))] == []
