"""Logins with `dpop=True`: one key, made before, for all requests of a login (RFC 9449)."""

from __future__ import annotations

import base64
import json
from typing import Any

from requests_refresh.signing import signer_of
from tests.grants.endpoint import Answer, EndpointServer, Seen
from tests.logins.support import (
    DEVICE,
    ISSUED,
    Clock,
    Person,
    agrees,
    browser,
    device,
    query_of,
    says,
)

BOUND = {**ISSUED, "token_type": "DPoP"}


def thumbprint(key: Any) -> str:
    signer = signer_of(key)
    assert not isinstance(signer, str)
    return signer.thumbprint()


def proven_by(seen: Seen) -> dict[str, Any]:
    """The public key of the proof on a request."""
    head = seen.headers["Dpop"].split(".")[0]
    found: dict[str, Any] = json.loads(base64.urlsafe_b64decode(head + "==="))["jwk"]
    return found


def test_the_key_of_a_device_login(server: EndpointServer) -> None:
    """Every poll is proved with the same key, which is kept with the token; nonces are answered."""
    nonce = says("use_dpop_nonce")
    nonce.headers.append(("DPoP-Nonce", "n1"))
    server.will(Answer(200, DEVICE), nonce, says("authorization_pending"), Answer(200, BOUND))
    token = device(server, Clock(), dpop=True)()
    begun, *polls = server.seen
    assert "Dpop" not in begun.headers
    kept = token.extra["dpop_jwk"]
    public = {name: kept[name] for name in ("kty", "crv", "x", "y")}
    assert [proven_by(poll) for poll in polls] == [public] * 3


def test_the_key_of_a_browser_login(server: EndpointServer) -> None:
    """The code is bound to the key that will ask for the token: `dpop_jkt` (section 10)."""
    person = Person(agrees)
    server.will(Answer(200, BOUND), Answer(200, BOUND))
    login = browser(server, open=person, dpop=True)
    for number in range(2):
        token = login()
        assert query_of(person.urls[number])["dpop_jkt"] == thumbprint(token.extra["dpop_jwk"])
        assert proven_by(server.seen[number])["x"] == token.extra["dpop_jwk"]["x"]
    assert server.seen[0].headers["Dpop"] != server.seen[1].headers["Dpop"]
    assert proven_by(server.seen[0]) != proven_by(server.seen[1])
