"""The server of these tests refuses what RFC 9449 section 4.3 says must be refused.

No code of the package runs here.
"""

from __future__ import annotations

import hashlib
import time
from typing import Any

import pytest
import requests
from joserfc import jwt
from joserfc.jwk import ECKey, OctKey

from tests.dpop.conftest import new_key
from tests.dpop.server import FIXED, DPoPServer
from tests.dpop.verifier import BadProof, encoded, verified

KEY = ECKey.generate_key("P-256")
PUBLIC = KEY.as_dict(private=False)
SHARED = OctKey.import_key("a secret that both sides know, of a length that will do")
URL = "https://a.example/x"


def made(header: dict[str, Any], claims: dict[str, Any], key: Any = KEY) -> str:
    """A proof for a GET of URL with the token "t", but for what is given otherwise."""
    digest = encoded(hashlib.sha256(b"t").digest())
    said = {"jti": "x" * 16, "htm": "GET", "htu": URL, "iat": int(time.time()), "ath": digest}
    full = {"typ": "dpop+jwt", "alg": "ES256", "jwk": PUBLIC, **header}
    told = {name: value for name, value in {**said, **claims}.items() if value is not None}
    return jwt.encode(full, told, key, algorithms=[full["alg"]])


def test_a_good_proof_is_taken() -> None:
    """What the next test spoils is good."""
    assert verified(made({}, {}), "GET", URL, "t")[0] == KEY.thumbprint()


BAD: dict[str, str] = {
    "typ": made({"typ": "JWT"}, {}),
    "a shared key": made({"alg": "HS256", "jwk": SHARED.as_dict()}, {}, SHARED),
    "the private key": made({"jwk": KEY.as_dict(private=True)}, {}),
    "more in the key": made({"jwk": {**PUBLIC, "kid": "x"}}, {}),
    "more in the header": made({"kid": "x"}, {}),
    "another key": made({"jwk": ECKey.generate_key("P-256").as_dict(private=False)}, {}),
    "htm": made({}, {"htm": "POST"}),
    "htm in small letters": made({}, {"htm": "get"}),
    "htu": made({}, {"htu": URL + "/"}),
    "htu with a query": made({}, {"htu": URL + "?a=b"}),
    "an old one": made({}, {"iat": int(time.time()) - 3600}),
    "one of tomorrow": made({}, {"iat": int(time.time()) + 86400}),
    "iat as a text": made({}, {"iat": str(int(time.time()))}),
    "no ath": made({}, {"ath": None}),
    "another token's": made({}, {"ath": encoded(hashlib.sha256(b"u").digest())}),
    "a short jti": made({}, {"jti": "7"}),
    "cut off": made({}, {})[:-8],
    "nothing": "",
}


@pytest.mark.parametrize("proof", BAD.values(), ids=BAD.keys())
def test_a_bad_proof_is_refused(proof: str) -> None:
    """Each thing that a server has to look at is looked at."""
    with pytest.raises(BadProof):
        verified(proof, "GET", URL, "t")


def call(
    server: DPoPServer, token: str, proof: str | None, scheme: str = "DPoP"
) -> requests.Response:
    headers = {"Authorization": f"{scheme} {token}"}
    if proof is not None:
        headers["DPoP"] = proof
    with requests.Session() as session:
        return session.get(server.url, headers=headers, timeout=30)


def test_what_the_server_binds(server: DPoPServer) -> None:
    """A bound token needs its own key, a new `jti` and the nonce, and is no bearer token."""
    token = server.login(KEY.as_dict(private=True))["access_token"]
    here = {"htu": server.url, "ath": encoded(hashlib.sha256(token.encode()).digest())}
    proof = made({}, here)
    assert call(server, token, proof).status_code == 200
    assert call(server, token, proof).status_code == 401
    assert server.counts["replays"] == 1
    other = ECKey.import_key(new_key())
    stolen = made({"jwk": other.as_dict(private=False)}, {**here, "jti": "y" * 16}, other)
    assert "invalid_token" in call(server, token, stolen).headers["WWW-Authenticate"]
    assert call(server, token, None, "Bearer").status_code == 401
    assert server.counts["bindings"] == 2
    assert call(server, token, None).status_code == 401
    server.wants(api=FIXED)
    answer = call(server, token, made({}, {**here, "jti": "z" * 16}))
    assert "use_dpop_nonce" in answer.headers["WWW-Authenticate"]
    nonce = answer.headers["DPoP-Nonce"]
    again = made({}, {**here, "jti": "a" * 16, "nonce": nonce})
    assert call(server, token, again).status_code == 200
    server.revoke()
    dead = call(server, token, made({}, {**here, "jti": "b" * 16, "nonce": nonce}))
    assert "invalid_token" in dead.headers["WWW-Authenticate"]
    assert len(server.faults) == 2  # the replay, and the request without a proof
    server.faults.clear()
