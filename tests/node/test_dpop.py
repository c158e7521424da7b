"""Proofs against oidc-provider, with nonces of its own and of its API: one expiry, one refresh."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from requests_refresh import (
    ClientCredentialsGrant,
    DPoP,
    LoginRequired,
    MemoryStore,
    RefreshAdapter,
    RefreshTokenGrant,
    Token,
    TokenSource,
    open_store,
)
from tests.adapter.support import crowd
from tests.dpop import programs
from tests.node.oidc import JWK, Oidc, new_key
from tests.stores.conftest import _no_server_is_left
from tests.stores.processes import answer, process

__all__ = ["_no_server_is_left"]

pytestmark = pytest.mark.node

THREADS, EXPIRIES = 20, 5


class Caller:
    """A login at the provider, and a session that sends proofs to its API."""

    def __init__(self, oidc: Oidc, client: str, key: JWK | None, store: Any = None) -> None:
        known = oidc.clients[client]
        self.oidc = oidc
        self.grant = RefreshTokenGrant(
            oidc.token_url, client_id=known.client_id, client_secret=known.client_secret, dpop=True
        )
        self.store = store or MemoryStore()
        if key is not None:
            login = oidc.login(key, client=client)
            self.store.save("default", Token.from_reply({**login, "dpop_jwk": key}))
        self.tokens = TokenSource(self.grant, self.store)
        self.session = requests.Session()
        self.session.trust_env = False
        self.session.mount(
            oidc.api, RefreshAdapter(self.tokens, origins=oidc.api, scheme=DPoP(), pool_maxsize=20)
        )

    def get(self, path: object = "items", **options: Any) -> int:
        """The status of a request."""
        return self.session.get(f"{self.oidc.api}{path}", timeout=60, **options).status_code

    def storm(self) -> list[int]:
        """What twenty threads get that ask at once."""
        return crowd(self.get, THREADS)


@pytest.fixture(params=["public", "basic"])
def caller(oidc: Oidc, request: pytest.FixtureRequest) -> Iterator[Caller]:
    """A caller that has a nonce of either side; counters at 0."""
    caller = Caller(oidc, request.param, new_key())
    assert caller.get() == 200
    caller.tokens.renew(caller.tokens.token())
    assert caller.get() == 200
    oidc.reset()
    yield caller
    caller.session.close()
    caller.tokens.close()


def test_a_storm(oidc: Oidc, caller: Caller) -> None:
    """I1: five expiries, each met by twenty threads at once, are five refreshes and no reuse."""
    for expiry in range(EXPIRIES):
        oidc.expire()
        assert caller.storm() == [200] * THREADS
        assert oidc.counts()["refreshes"] == expiry + 1
    counts = oidc.counts()
    assert (counts["reuses"], counts["refused"], counts["token_replays"]) == (0, 0, 0)
    assert counts["api_replays"] == 0
    assert counts["api_served"] == EXPIRIES * THREADS
    assert caller.tokens.stats.strikes == 0


def test_nonces_that_change_in_a_storm(oidc: Oidc, caller: Caller) -> None:
    """I1: with new nonces on both sides in the middle of it, a storm is still one refresh."""

    def work(number: int) -> int:
        if number == 0:
            oidc.new_provider_nonce()
            oidc.new_api_nonce()
        return caller.get(number)

    oidc.expire()
    assert caller.get() == 200  # a nonce is known now: a call has one new one to learn at most
    for _ in range(EXPIRIES):
        oidc.expire()
        assert crowd(work, THREADS) == [200] * THREADS
    counts = oidc.counts()
    assert (counts["refreshes"], counts["reuses"], counts["refused"]) == (EXPIRIES + 1, 0, 0)
    assert counts["api_nonce_refusals"] > 0


def test_a_new_nonce_is_no_expiry(oidc: Oidc, caller: Caller) -> None:
    """I1: while the token lives, new nonces cost one more send and no word to the provider."""
    for turn in range(1, 4):
        oidc.new_api_nonce()
        oidc.new_provider_nonce()
        assert caller.get() == 200
        assert oidc.counts()["api_nonce_refusals"] == turn
    assert oidc.counts()["token_requests"] == 0


def test_nonces_that_the_api_announces(oidc: Oidc, caller: Caller) -> None:
    """The nonce that a 200 brings is used, so that none is ever asked for (RFC 9449 8.2)."""
    oidc.settings(api_nonce_every=3)
    assert [caller.get() for _ in range(20)] == [200] * 20
    assert oidc.counts()["api_nonce_refusals"] == 0
    oidc.settings(api_nonce_every=3, api_announces=False)
    assert [caller.get() for _ in range(20)] == [200] * 20
    counts = oidc.counts()
    assert counts["api_nonce_refusals"] > 0
    assert (counts["api_replays"], counts["token_requests"]) == (0, 0)


def test_a_new_provider_nonce(oidc: Oidc, caller: Caller) -> None:
    """I12: a refresh behind an old nonce is two requests and one refresh."""
    oidc.new_provider_nonce()
    oidc.expire()
    assert caller.get() == 200
    counts = oidc.counts()
    assert (counts["token_nonce_refusals"], counts["refreshes"]) == (1, 1)
    assert counts["refresh_requests"] == 2


def test_bodies_and_methods(oidc: Oidc, caller: Caller) -> None:
    """I11: after a nonce and a dead token the API gets the body to the byte, by each method."""
    oidc.new_api_nonce()
    oidc.expire()
    for method in ("POST", "PUT", "PATCH", "DELETE"):
        reply = caller.session.request(
            method, oidc.api + "items?page=2#x", data="a body", timeout=60
        )
        assert reply.status_code == 200
        assert reply.json()["sent"] == "a body"
        assert reply.json()["method"] == method
        oidc.new_api_nonce()
    head = caller.session.head(oidc.api + "items", timeout=60)
    assert head.status_code == 200
    assert oidc.counts()["refreshes"] == 1


def test_two_processes(oidc: Oidc, tmp_path: Path) -> None:
    """I1: two processes on one FileStore refresh a bound login once for each expiry."""
    place = f"file://{tmp_path / 'private' / 'tokens.json'}"
    store = open_store(place)
    key = new_key()
    store.save("default", Token.from_reply({**oidc.login(key), "dpop_jwk": key}))
    oidc.reset()
    where = (oidc.api, oidc.token_url, place, 8)
    with (
        process(programs.fetching, *where) as (_, one),
        process(programs.fetching, *where) as (_, two),
    ):
        assert (answer(one), answer(two)) == ("ready", "ready")
        for expiry in range(EXPIRIES + 1):
            if expiry:
                oidc.expire()
                oidc.new_provider_nonce()
            for child in (one, two):
                child.send("go")
            assert answer(one) + answer(two) == [200] * 16
            assert oidc.counts()["refreshes"] == expiry
    counts = oidc.counts()
    assert (counts["reuses"], counts["refused"]) == (0, 0)
    stored = store.load("default")
    assert stored is not None
    assert stored.extra["dpop_jwk"] == key
    store.close()


def test_the_login_ends(oidc: Oidc, caller: Caller) -> None:
    """I3: a login that the provider has ended is one LoginRequired for each of twenty threads."""
    oidc.end_logins()
    oidc.expire()

    def work(number: int) -> type[BaseException] | int:
        try:
            return caller.get(number)
        except LoginRequired as exc:
            return type(exc)

    assert crowd(work, THREADS) == [LoginRequired] * THREADS
    assert oidc.counts()["refresh_requests"] == 1


def test_client_credentials(oidc: Oidc) -> None:
    """A client's own tokens are bound to one key over all renewals, with no login at all."""
    known = oidc.clients["post"]
    grant = ClientCredentialsGrant(
        oidc.token_url,
        client_id=known.client_id,
        client_secret=known.client_secret,
        client_auth="client_secret_post",
        resource=oidc.api,
        scope="read",
        dpop=True,
    )
    tokens = TokenSource(grant)
    with requests.Session() as session:
        session.trust_env = False
        session.mount(oidc.api, RefreshAdapter(tokens, origins=oidc.api, scheme=DPoP()))
        keys = set()
        for _ in range(3):
            reply = session.get(oidc.api + "items", timeout=60)
            assert reply.status_code == 200
            keys.add(reply.json()["key"])
            oidc.expire()
    assert len(keys) == 1
    assert None not in keys
