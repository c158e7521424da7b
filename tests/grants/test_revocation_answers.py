"""Answers of revocation endpoints that say less, or more, than RFC 7009 has them say."""

from __future__ import annotations

from typing import Any

import pytest

from requests_refresh import RefreshRefused, RefreshTokenGrant, Token
from tests.grants.endpoint import Answer, EndpointServer

LOGIN = Token("a", refresh_token="r")
DONE = Answer(200, b"", None)
GONE = Answer(400, {"error": "invalid_token", "error_description": "Token expired or revoked"})
PAGE = Answer(200, "<!DOCTYPE html><html><body>Not here</body></html>", "text/html")


def grant_for(server: EndpointServer) -> Any:
    return RefreshTokenGrant(server.url, client_id="sync", revocation_url=server.url + "/revoke")


@pytest.mark.parametrize("first", [DONE, GONE], ids=["with its refresh token", "both before"])
def test_a_token_that_is_dead_already(server: EndpointServer, first: Answer) -> None:
    """A provider that ends access tokens with the refresh token, and then says so, did it."""
    server.will(first, GONE)
    grant_for(server).revoke(LOGIN)
    assert len(server.seen) == 2


def test_a_page_is_no_revocation(server: EndpointServer) -> None:
    """A web application that answers each path with its page has revoked nothing."""
    server.will(PAGE, PAGE)
    with pytest.raises(RefreshRefused, match="did not revoke"):
        grant_for(server).revoke(LOGIN)
