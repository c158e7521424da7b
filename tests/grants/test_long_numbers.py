"""What a provider says with a number of thousands of digits in it means what its error says."""

from __future__ import annotations

import pytest

from requests_refresh import LoginRequired, RefreshTokenGrant, Token
from requests_refresh.grants.replies import quotable
from tests.grants.endpoint import Answer, EndpointServer

LONG = "&#" + "9" * 5000


def test_an_error_is_what_it_is(server: EndpointServer) -> None:
    """`invalid_grant` ends the login, whatever the description beside it holds."""
    server.will(Answer(400, {"error": "invalid_grant", "error_description": LONG}))
    with pytest.raises(LoginRequired):
        RefreshTokenGrant(server.url, client_id="sync")(Token(refresh_token="r"))


def test_a_secret_beside_it() -> None:
    """It hides no secret, and zeros before a number change nothing."""
    assert quotable(f"{LONG}; a%62c", ["abc"]) is None
    assert quotable(f"a&#{'0' * 5000}98;c", ["abc"]) is None


def test_a_secret_with_it() -> None:
    """A password may look like one: nothing is quoted then."""
    assert quotable(f"no {LONG}", [LONG]) is None
