"""One server and one browser for all tests of the viewer."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from playwright.sync_api import Browser

from tests.browser import SIZE, Visit, chromium, needed, plain_proxy, serving
from tests.viewer.scene import write_gallery, write_images


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


@contextmanager
def visiting(server: str, browser: Browser) -> Iterator[Visit]:
    """A visit that must neither complain nor leave the host; its page may read and write the clipboard."""
    rights = ["clipboard-read", "clipboard-write"]
    context = browser.new_context(viewport=SIZE, permissions=rights)  # type: ignore[arg-type]
    visit = Visit(context.new_page(), server)
    yield visit
    context.close()
    assert visit.complaints == []
    assert [url for url in visit.requests if not url.startswith((server, "blob:", "data:"))] == []


@pytest.fixture
def visit(server: str, browser: Browser) -> Iterator[Visit]:
    """A visit to the images that most tests look at."""
    with visiting(server, browser) as visit:
        yield visit


@pytest.fixture(scope="package")
def gallery(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A server of further images."""
    folder = tmp_path_factory.mktemp("gallery")
    write_gallery(folder)
    with serving(folder) as base:
        yield base


@pytest.fixture
def tour(gallery: str, browser: Browser) -> Iterator[Visit]:
    """A visit to further images."""
    with visiting(gallery, browser) as visit:
        yield visit
