"""I9: a ConfigurationError of any grant can be shown with all locals, and shows no secret."""

from __future__ import annotations

import traceback
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

from requests_refresh import (
    ClientCredentialsGrant,
    ConfigurationError,
    JWTBearerGrant,
    RefreshTokenGrant,
    TokenExchangeGrant,
)
from tests.grants.support import ec_key, pem_of

URL = "https://auth.example.com/token"
KEY = pem_of(ec_key())
Make = Callable[..., Any]
GRANTS: dict[str, Make] = {
    "refresh_token": partial(RefreshTokenGrant, URL, client_secret="CANARY"),
    "client_credentials": partial(ClientCredentialsGrant, URL, client_secret="CANARY"),
    "jwt_bearer": partial(JWTBearerGrant, URL, key=KEY, issuer="robot", client_secret="CANARY"),
    "token_exchange": partial(
        TokenExchangeGrant,
        URL,
        subject_token="CANARY",
        actor_token="CANARY",
        client_secret="CANARY",
    ),
}
WRONG: list[dict[str, Any]] = [
    {"scope": ["a", ""]},
    {"timeout": 0},
    {"client_id": ""},
    {"revocation_url": "http://a.example/CANARY"},
    {"proxies": "http://u:CANARY@proxy"},
    {"extra": {"grant_type": "CANARY"}},
]


@pytest.mark.parametrize("number", range(len(WRONG)))
@pytest.mark.parametrize("name", GRANTS)
def test_what_a_traceback_shows(name: str, number: int) -> None:
    """Every local of every frame below the test has a repr, and none holds what was given."""
    settings = {"client_id": "sync", **WRONG[number]}
    with pytest.raises(ConfigurationError) as caught:
        GRANTS[name](**settings)
    assert caught.value.__traceback__ is not None
    below = caught.value.__traceback__.tb_next
    assert below is not None
    values = [value for frame, _ in traceback.walk_tb(below) for value in frame.f_locals.values()]
    shown = [str(caught.value), *map(repr, values)]
    assert not [text for text in shown if "CANARY" in text or "PRIVATE KEY" in text]
