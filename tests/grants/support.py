"""What tests of several grants share: keys, one of each grant, a look into assertions."""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Callable
from functools import cache
from typing import Any
from urllib.parse import parse_qs

from joserfc import jwt
from joserfc.jwk import ECKey, RSAKey

from requests_refresh import ClientCredentialsGrant, JWTBearerGrant, TokenExchangeGrant
from tests.grants.endpoint import PATIENCE, Answer, Behaviour, Handler, Seen

ASSERTION_TYPE = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
JWT_BEARER = "urn:ietf:params:oauth:grant-type:jwt-bearer"
TOKEN_EXCHANGE = "urn:ietf:params:oauth:grant-type:token-exchange"
ACCESS_TOKEN = "urn:ietf:params:oauth:token-type:access_token"


@cache
def ec_key(curve: str = "P-256") -> ECKey:
    made: ECKey = ECKey.generate_key(curve)
    return made


@cache
def rsa_key() -> RSAKey:
    made: RSAKey = RSAKey.generate_key(2048)
    return made


def pem_of(key: ECKey | RSAKey) -> str:
    return key.as_pem(private=True).decode()


def opened(assertion: str, key: Any, algorithm: str = "ES256") -> jwt.Token:
    """The assertion, its signature checked: it has `header` and `claims`."""
    return jwt.decode(assertion, key, algorithms=[algorithm])


def read(assertion: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Header and claims of an assertion whose header joserfc would not know."""
    header, claims, _ = assertion.split(".")
    found = [json.loads(base64.urlsafe_b64decode(part + "==")) for part in (header, claims)]
    return found[0], found[1]


def fields_of(request: Seen) -> dict[str, list[str]]:
    """The form that was sent, with names that may repeat."""
    return parse_qs(request.body.decode(), keep_blank_values=True)


def client_credentials(url: str, **settings: Any) -> ClientCredentialsGrant:
    return ClientCredentialsGrant(url, **{"client_id": "sync", "client_secret": "hush", **settings})


def jwt_bearer(url: str, **settings: Any) -> JWTBearerGrant:
    return JWTBearerGrant(url, **{"key": pem_of(ec_key()), "issuer": "robot", **settings})


def token_exchange(url: str, **settings: Any) -> TokenExchangeGrant:
    return TokenExchangeGrant(url, **{"subject_token": "theirs", "client_id": "sync", **settings})


Make = Callable[..., Any]
ASKED_ANEW: dict[str, Make] = {
    "client_credentials": client_credentials,
    "jwt_bearer": jwt_bearer,
    "token_exchange": token_exchange,
}


class Held:
    """An answer that comes when `release` is called, and an event for when it is waited for."""

    def __init__(self, then: Behaviour | None = None) -> None:
        self.asked = threading.Event()
        self._go_on = threading.Event()
        self._then: Behaviour = then or Answer()

    def __call__(self, handler: Handler) -> None:
        self.asked.set()
        assert self._go_on.wait(PATIENCE)
        self._then(handler)

    def release(self) -> None:
        self._go_on.set()


def jwk_text(key: ECKey) -> str:
    return json.dumps(key.as_dict(private=True))
