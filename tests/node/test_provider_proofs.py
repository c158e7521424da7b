"""oidc-provider and the API behind it want proofs as RFC 9449 says, with nonces of their own.

No code of the package runs here. What is shown here, the tests of the package may rely on.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, NamedTuple

import pytest
import requests

from tests.node.oidc import DEVICE_GRANT, Oidc, new_key, prove, thumbprint

pytestmark = pytest.mark.node

JWK = dict[str, Any]


class Login(NamedTuple):
    """A bound login, and a nonce that the API takes."""

    key: JWK
    token: dict[str, Any]
    nonce: str

    @property
    def access(self) -> str:
        return str(self.token["access_token"])


@pytest.fixture
def login(oidc: Oidc) -> Login:
    """A login whose tokens are bound to a key, and counters at 0 again."""
    key = new_key()
    token = oidc.login(key)
    nonce = oidc.call("items", token["access_token"], jwk=key).headers["DPoP-Nonce"]
    oidc.reset()
    return Login(key, token, nonce)


def refusal(reply: requests.Response) -> str:
    """The error code of a challenge by the API."""
    assert reply.status_code == 401, reply.text
    challenge = reply.headers["WWW-Authenticate"]
    assert challenge.startswith("DPoP ")
    assert 'algs="' in challenge
    return challenge.partition('error="')[2].partition('"')[0]


def with_proof(oidc: Oidc, login: Login, proof: str, path: str = "items") -> requests.Response:
    """A GET at the API with this proof."""
    headers = {"Authorization": f"DPoP {login.access}", "DPoP": proof}
    return oidc.get(oidc.api + path, headers)


def refresh_with_proof(oidc: Oidc, token: dict[str, Any], proof: str) -> requests.Response:
    """A refresh with this proof."""
    form = {"grant_type": "refresh_token", "refresh_token": token["refresh_token"]}
    return oidc.post(oidc.token_url, {**form, "client_id": "public"}, {"DPoP": proof})


def provider_nonce(oidc: Oidc, key: JWK) -> str:
    """A nonce that the provider takes now."""
    reply = refresh_with_proof(oidc, {"refresh_token": "-"}, prove(key, "POST", oidc.token_url))
    return reply.headers["DPoP-Nonce"]


@pytest.mark.parametrize("client", ["basic", "post", "secret_jwt", "private_key_jwt", "public"])
def test_a_bound_login(oidc: Oidc, client: str) -> None:
    """With a proof each client gets a token bound to its key, and refreshes it (RFC 9449 5)."""
    key = new_key()
    token = oidc.login(key, client=client)
    assert token["token_type"] == "DPoP"
    token = oidc.refresh(token["refresh_token"], client=client, jwk=key).json()
    assert token["token_type"] == "DPoP"
    asked = oidc.call("items?page=2", token["access_token"], jwk=key)
    assert refusal(asked) == "use_dpop_nonce"
    nonce = asked.headers["DPoP-Nonce"]
    served = oidc.call("items?page=2", token["access_token"], jwk=key, nonce=nonce)
    assert served.json()["key"] == thumbprint(key)
    assert served.json()["url"] == "/api/items?page=2"
    assert "DPoP-Nonce" not in served.headers
    counts = oidc.counts()
    assert counts["token_nonce_refusals"] == 2
    assert counts["api_nonce_refusals"] == counts["api_served"] == 1
    assert counts["refused"] == counts["token_replays"] == counts["api_replays"] == 0


def test_bound_client_credentials(oidc: Oidc) -> None:
    """A token of a client's own is bound as well (RFC 9449 5)."""
    key = new_key()
    form = {"grant_type": "client_credentials", "scope": "read"}
    token = oidc.ask(form, client="private_key_jwt", jwk=key).json()
    assert token["token_type"] == "DPoP"
    assert refusal(oidc.call("items", token["access_token"], jwk=key)) == "use_dpop_nonce"


def test_a_bound_device_login(oidc: Oidc) -> None:
    """The poll for a device's token carries the proof (RFC 9449 5)."""
    key = new_key()
    given = oidc.ask({"scope": "read"}, url=oidc.device_url).json()
    form = {"grant_type": DEVICE_GRANT, "device_code": given["device_code"]}
    assert oidc.ask(form, jwk=key).json()["error"] == "authorization_pending"
    oidc.confirm(given["user_code"])
    assert oidc.ask(form, jwk=key).json()["token_type"] == "DPoP"


def test_the_code_is_bound(oidc: Oidc) -> None:
    """A code asked for with dpop_jkt is good for that key only (RFC 9449 10)."""
    with pytest.raises(AssertionError, match="invalid_grant"):
        oidc.login(new_key(), bound_to=new_key())


def test_nonces_of_the_provider(oidc: Oidc, login: Login) -> None:
    """A proof without a nonce of its own is refused by 400 use_dpop_nonce (RFC 9449 8)."""
    bare = refresh_with_proof(oidc, login.token, prove(login.key, "POST", oidc.token_url))
    assert bare.status_code == 400
    assert bare.json()["error"] == "use_dpop_nonce"
    old = bare.headers["DPoP-Nonce"]
    proof = prove(login.key, "POST", oidc.token_url, nonce=old)
    token = refresh_with_proof(oidc, login.token, proof).json()
    oidc.new_provider_nonce()
    proof = prove(login.key, "POST", oidc.token_url, nonce=old)
    refused = refresh_with_proof(oidc, token, proof)
    assert refused.json()["error"] == "use_dpop_nonce"
    assert refused.headers["DPoP-Nonce"] != old
    assert oidc.refresh(token["refresh_token"], jwk=login.key).status_code == 200
    assert oidc.counts()["reuses"] == 0  # a refusal for the nonce spends no refresh token


def test_the_apis_nonce_is_not_the_providers(oidc: Oidc, login: Login) -> None:
    """Each server takes its own nonces only (RFC 9449 9)."""
    foreign = prove(login.key, "POST", oidc.token_url, nonce=login.nonce)
    assert refresh_with_proof(oidc, login.token, foreign).json()["error"] == "use_dpop_nonce"
    nonce = provider_nonce(oidc, login.key)
    refused = oidc.call("items", login.access, jwk=login.key, nonce=nonce)
    assert refusal(refused) == "use_dpop_nonce"


def test_a_replay_at_the_provider(oidc: Oidc, login: Login) -> None:
    """A proof is good once at the provider (RFC 9449 11.1)."""
    nonce = provider_nonce(oidc, login.key)
    proof = prove(login.key, "POST", oidc.token_url, nonce=nonce)
    token = refresh_with_proof(oidc, login.token, proof).json()
    again = refresh_with_proof(oidc, token, proof)
    assert again.status_code == 400
    assert again.json()["error"] == "invalid_grant"
    assert oidc.counts()["token_replays"] == 1
    assert oidc.counts()["reuses"] == 0


def test_a_replay_is_seen_though_its_nonce_was_wrong(oidc: Oidc, login: Login) -> None:
    """A jti that comes again is counted even where the first proof was refused."""
    for _ in range(2):
        proof = prove(login.key, "POST", oidc.token_url, jti="the same")
        refresh_with_proof(oidc, login.token, proof)
        proof = prove(login.key, "GET", oidc.api + "items", token=login.access, jti="the same")
        with_proof(oidc, login, proof)
    assert oidc.counts()["token_replays"] == oidc.counts()["api_replays"] == 1


def test_an_assertion_is_spent_by_a_refusal_for_the_nonce(oidc: Oidc) -> None:
    """The client authenticates anew with each attempt: the first spent the assertion."""
    key = new_key()
    form = {"grant_type": "client_credentials", "scope": "read"}
    more, _ = oidc.authentication("private_key_jwt")
    bare = oidc.post(oidc.token_url, {**form, **more}, {"DPoP": prove(key, "POST", oidc.token_url)})
    assert bare.json()["error"] == "use_dpop_nonce"
    proof = prove(key, "POST", oidc.token_url, nonce=bare.headers["DPoP-Nonce"])
    again = oidc.post(oidc.token_url, {**form, **more}, {"DPoP": proof})
    assert again.json()["error"] == "invalid_client"
    assert oidc.counts()["assertion_replays"] == 1


def test_whose_key_refreshes(oidc: Oidc, login: Login) -> None:
    """A public client's refresh token is bound to its key; a secret one's is not (RFC 9449 5)."""
    other = new_key()
    refused = oidc.refresh(login.token["refresh_token"], jwk=other)
    assert refused.json()["error"] == "invalid_grant"
    assert oidc.refresh(login.token["refresh_token"], jwk=login.key).status_code == 200
    secret = oidc.login(login.key, client="post")
    moved = oidc.refresh(secret["refresh_token"], client="post", jwk=other).json()
    assert moved["token_type"] == "DPoP"


WRONG: dict[str, Callable[[Oidc], dict[str, Any]]] = {
    "method": lambda oidc: {"htm": "PUT"},
    "url": lambda oidc: {"htu": oidc.api + "others"},
    "query": lambda oidc: {"htu": oidc.api + "items?page=1"},
    "old": lambda oidc: {"iat": int(time.time()) - 600},
    "ahead": lambda oidc: {"iat": int(time.time()) + 600},
    "no time": lambda oidc: {"iat": None},
    "no jti": lambda oidc: {"jti": None},
    "no ath": lambda oidc: {"ath": None},
    "ath of another": lambda oidc: {"ath": "x" * 43},
}


@pytest.mark.parametrize("wrong", WRONG.values(), ids=WRONG)
def test_wrong_proofs_at_the_api(
    oidc: Oidc, login: Login, wrong: Callable[[Oidc], dict[str, Any]]
) -> None:
    """The API looks at every claim of a proof (RFC 9449 4.3)."""
    here = oidc.api + "items"
    claims = {"nonce": login.nonce, "token": login.access, **wrong(oidc)}
    assert refusal(with_proof(oidc, login, prove(login.key, "GET", here, **claims))) == (
        "invalid_dpop_proof"
    )
    good = prove(login.key, "GET", here, nonce=login.nonce, token=login.access)
    assert with_proof(oidc, login, good).status_code == 200


def test_a_broken_signature(oidc: Oidc, login: Login) -> None:
    """A proof that another key signed than it names is refused (RFC 9449 4.3)."""
    here = oidc.api + "items"
    mine = prove(login.key, "GET", here, nonce=login.nonce, token=login.access)
    theirs = prove(new_key(), "GET", here, nonce=login.nonce, token=login.access)
    mixed = ".".join([*mine.split(".")[:2], theirs.split(".")[2]])
    for proof in (mixed, "rubbish", f"{mine}, {mine}"):
        assert refusal(with_proof(oidc, login, proof)) == "invalid_dpop_proof"


def test_wrong_proofs_at_the_provider(oidc: Oidc, login: Login) -> None:
    """The provider looks at method and URL too: invalid_dpop_proof (RFC 9449 5)."""
    nonce = provider_nonce(oidc, login.key)
    for method, url in (("GET", oidc.token_url), ("POST", oidc.api)):
        reply = refresh_with_proof(oidc, login.token, prove(login.key, method, url, nonce=nonce))
        assert reply.status_code == 400
        assert reply.json()["error"] == "invalid_dpop_proof"


def test_a_replay_at_the_api(oidc: Oidc, login: Login) -> None:
    """A proof is good once at the API (RFC 9449 11.1)."""
    proof = prove(login.key, "GET", oidc.api + "items", nonce=login.nonce, token=login.access)
    assert with_proof(oidc, login, proof).status_code == 200
    assert refusal(with_proof(oidc, login, proof)) == "invalid_dpop_proof"
    assert oidc.counts()["api_replays"] == 1


def test_bound_means_bound(oidc: Oidc, login: Login) -> None:
    """A bound token is no bearer, nor good with another key; a bearer is not bound (RFC 9449 7)."""
    assert refusal(oidc.call("items", login.access)) == "invalid_token"
    other = oidc.call("items", login.access, jwk=new_key(), nonce=login.nonce)
    assert refusal(other) == "invalid_token"
    bearer = oidc.login()["access_token"]
    proved = oidc.call("items", bearer, jwk=login.key, nonce=login.nonce)
    assert refusal(proved) == "invalid_token"


def test_a_dead_token_and_an_old_nonce(oidc: Oidc, login: Login) -> None:
    """The nonce is looked at first, and only then the token."""
    oidc.expire()
    oidc.new_api_nonce()
    first = oidc.call("items", login.access, jwk=login.key, nonce=login.nonce)
    assert refusal(first) == "use_dpop_nonce"
    nonce = first.headers["DPoP-Nonce"]
    second = oidc.call("items", login.access, jwk=login.key, nonce=nonce)
    assert refusal(second) == "invalid_token"
    assert oidc.counts()["api_refused"] == 2


def test_the_api_changes_its_nonce(oidc: Oidc, login: Login) -> None:
    """A good answer tells the next nonce; the one before is good until the next (RFC 9449 8.2)."""
    oidc.settings(api_nonce_every=1)

    def ask(nonce: str) -> requests.Response:
        return oidc.call("items", login.access, jwk=login.key, nonce=nonce)

    second = ask(login.nonce).headers["DPoP-Nonce"]
    assert ask(login.nonce).status_code == 200
    assert refusal(ask(login.nonce)) == "use_dpop_nonce"
    assert ask(second).status_code == 200


def test_a_nonce_changes_and_nobody_is_told(oidc: Oidc, login: Login) -> None:
    """An API that does not announce lets its clients meet the refusal."""
    oidc.settings(api_nonce_every=1, api_announces=False)
    for _ in range(2):
        reply = oidc.call("items", login.access, jwk=login.key, nonce=login.nonce)
        assert reply.status_code == 200
        assert "DPoP-Nonce" not in reply.headers
    refused = oidc.call("items", login.access, jwk=login.key, nonce=login.nonce)
    assert refusal(refused) == "use_dpop_nonce"
    assert refused.headers["DPoP-Nonce"] != login.nonce


def test_without_nonces(oidc: Oidc) -> None:
    """Servers that want no nonces take proofs without, at the first attempt (RFC 9449 4.3)."""
    oidc.settings(provider_nonces=False, api_nonces=False)
    key = new_key()
    token = oidc.login(key)
    assert oidc.call("items", token["access_token"], jwk=key).status_code == 200
    assert oidc.counts()["token_requests"] == 1


def test_userinfo(oidc: Oidc, login: Login) -> None:
    """The provider's own endpoint for bound tokens has the provider's nonces (RFC 9449 7)."""
    here = oidc.userinfo_url

    def ask(nonce: str | None) -> requests.Response:
        proof = prove(login.key, "GET", here, nonce=nonce, token=login.access)
        headers = {"Authorization": f"DPoP {login.access}", "DPoP": proof}
        return oidc.get(here, headers)

    asked = ask(None)
    assert refusal(asked) == "use_dpop_nonce"
    assert ask(asked.headers["DPoP-Nonce"]).json() == {"sub": "alice"}
