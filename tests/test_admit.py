"""Whose token a request carries: sockets of pages of other hosts carry none that their page does not name."""

from __future__ import annotations

import pytest
from aiohttp.test_utils import make_mocked_request

from gputiles.routes.admit import token_of

COOKIE = {"Host": "tiles.org", "Cookie": "girderToken=mine"}
SOCKET = COOKIE | {"Upgrade": "websocket", "Connection": "Upgrade"}
BEHIND = {"Host": "10.0.0.7:8080", "X-Forwarded-Host": "tiles.org", "X-Forwarded-Prefix": "/a"}


@pytest.mark.parametrize(
    ("headers", "token"),
    [
        (COOKIE, "mine"),
        (COOKIE | {"Origin": "https://other.org"}, "mine"),  # CORS lets no page read what a cookie brings
        (SOCKET, "mine"),  # no browser
        (SOCKET | {"Origin": "http://tiles.org"}, "mine"),
        (SOCKET | {"Origin": "https://TILES.org"}, "mine"),  # a proxy may end TLS, and not say so
        (SOCKET | BEHIND | {"Origin": "https://tiles.org"}, "mine"),
        (SOCKET | {"Origin": "https://other.org"}, None),
        (SOCKET | {"Origin": "http://tiles.org:8080"}, None),
        (SOCKET | {"Origin": "http://tiles.org.other.org"}, None),
        (SOCKET | BEHIND | {"Origin": "http://10.0.0.7:8080"}, None),
        (SOCKET | {"Origin": "null"}, None),
        (SOCKET | {"Origin": "http://[bad"}, None),
        (SOCKET | {"Origin": ""}, None),
        (SOCKET | {"Origin": "https://other.org", "Girder-Token": "named"}, "named"),
    ],
)
def test_a_cookie_counts_for_requests_that_its_own_pages_make(
    headers: dict[str, str], token: str | None
) -> None:
    assert token_of(make_mocked_request("GET", "/item/abc/live", headers=headers)) == token


def test_an_address_that_names_a_token_is_its_own() -> None:
    headers = SOCKET | {"Origin": "https://other.org"}
    assert token_of(make_mocked_request("GET", "/item/abc/live?token=named", headers=headers)) == "named"
