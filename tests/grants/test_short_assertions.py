"""Assertions that live for less than a second, or for a part of one."""

from __future__ import annotations

import pytest

from tests.grants.endpoint import Answer, EndpointServer
from tests.grants.support import jwt_bearer, read


@pytest.mark.parametrize("lifetime", [0.5, 1.5])
def test_an_assertion_lives_for_as_long_as_it_was_asked_to(
    server: EndpointServer, lifetime: float
) -> None:
    """`exp` is no sooner than `lifetime` after `iat`: what is above 0 is not made 0."""
    server.will(Answer())
    jwt_bearer(server.url, lifetime=lifetime)(None)
    claims = read(server.only.form["assertion"])[1]
    assert claims["exp"] - claims["iat"] >= lifetime
