"""Nonces: `use_dpop_nonce` is answered with another proof, never with a refresh (RFC 9449 8, 9)."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable
from typing import Any

import pytest
import requests
from requests.adapters import HTTPAdapter

from requests_refresh import DPoP, RefreshError, RefreshRefused, Token, TokenSource
from tests.adapter.conftest import Mount
from tests.adapter.support import crowd
from tests.dpop.conftest import grant_for, new_key, source_for
from tests.dpop.server import (
    FIXED,
    NEVER,
    NONE,
    ONCE,
    ONCE_UNANNOUNCED,
    ROTATING,
    UNANNOUNCED,
    DPoPServer,
    Policy,
)

POLICIES = [NONE, FIXED, ROTATING, UNANNOUNCED, ONCE, ONCE_UNANNOUNCED]
PAIRS = [*zip(POLICIES, POLICIES, strict=True), (NONE, ONCE), (ONCE, NONE), (ROTATING, ONCE)]
THREADS = 20


def cases(*policies: tuple[Policy, ...]) -> list[Any]:
    """Each named after its policies."""
    return [
        pytest.param(*found, id="/".join(policy.name for policy in found)) for found in policies
    ]


@pytest.mark.parametrize(("provider", "api"), cases(*PAIRS))
def test_one_expiry_is_one_refresh(
    server: DPoPServer, session: requests.Session, provider: Policy, api: Policy
) -> None:
    """I1: twenty threads whose token is dead cause one refresh, whatever nonces are wanted."""
    server.wants(provider, api)
    for expiry in (1, 2):
        server.revoke()
        answers = crowd(lambda n: session.get(f"{server.url}{n}", timeout=30), THREADS)
        assert [answer.status_code for answer in answers] == [200] * THREADS
        assert server.counts["refreshes"] == expiry
    assert server.counts["token_requests"] == 2 + server.counts["provider_nonces"]
    assert server.counts["served"] == 2 * THREADS
    # Each request is sent for its answer, for its dead token, and for its nonces, and no more.
    sends = server.counts["served"] + server.counts["dead"] + server.counts["api_nonces"]
    assert server.counts["api_requests"] == sends
    assert (server.counts["reuses"], server.counts["bindings"]) == (0, 0)


@pytest.mark.parametrize("api", cases(*((policy,) for policy in POLICIES)))
def test_a_nonce_is_no_expiry(
    server: DPoPServer, tokens: TokenSource, session: requests.Session, api: Policy
) -> None:
    """I1: with a living token no challenge for a nonce causes a refresh, nor reaches a caller."""
    server.wants(ROTATING, api)
    waits = tokens.token() and tokens.stats.waits  # for the store

    def work(_: int) -> list[int]:
        return [session.get(server.url, timeout=30).status_code for _ in range(5)]

    assert crowd(work, THREADS) == [[200] * 5] * THREADS
    assert server.counts["token_requests"] == 0
    assert server.counts["api_requests"] == 5 * THREADS + server.counts["api_nonces"]
    assert (server.counts["api_nonces"] > 0) == api.wanted
    assert (tokens.stats.refreshes, tokens.stats.waits, tokens.stats.strikes) == (0, waits, 0)


@pytest.mark.parametrize("api", [FIXED, ROTATING, ONCE], ids=lambda policy: policy.name)
def test_the_next_nonce_is_learnt(
    server: DPoPServer, session: requests.Session, api: Policy
) -> None:
    """A nonce is asked for once: what 200s announce afterwards is used (RFC 9449 8.2)."""
    server.wants(api=api)
    for _ in range(10):
        assert session.get(server.url, timeout=30).status_code == 200
    assert server.counts["api_nonces"] == 1


def test_a_nonce_comes_with_any_response(server: DPoPServer, session: requests.Session) -> None:
    """Whatever its status, a response's nonce is in the next proof (RFC 9449 8.2)."""
    wanted: list[str | None] = [None]
    for status in (200, 201, 204, 403, 404, 500):
        session.get(f"{server.url}?status={status}&nonce=n-{status}", timeout=30)
        wanted.append(f"n-{status}")
    session.get(server.url, timeout=30)
    assert [seen.proof.get("nonce") for seen in server.seen] == wanted


@pytest.mark.parametrize("nonce", ["", "a b", 'a"b', "a\\b", "n" * 1025, "a, b"])
def test_what_is_no_nonce_is_not_taken(
    server: DPoPServer, session: requests.Session, nonce: str
) -> None:
    """A DPoP-Nonce that cannot be one (RFC 9449 8.1) is passed over, and nothing fails."""
    session.get(server.url + "?nonce=good", timeout=30)
    session.get(server.url, params={"nonce": nonce}, timeout=30)
    session.get(server.url, timeout=30)
    assert server.seen[-1].proof.get("nonce") == "good"


def test_no_nonce_is_ever_good_enough(
    server: DPoPServer, tokens: TokenSource, session: requests.Session
) -> None:
    """I12: an API that always says use_dpop_nonce is asked twice, and its 401 handed on."""
    server.wants(api=NEVER)
    for number in (1, 2, 3):
        response = session.get(server.url, timeout=30)
        assert response.status_code == 401
        assert "use_dpop_nonce" in response.headers["WWW-Authenticate"]
        assert server.counts["api_requests"] == 2 * number
    assert server.counts["token_requests"] == 0
    assert tokens.stats.strikes == 0


def test_no_nonce_is_ever_good_enough_for_twenty(
    server: DPoPServer, session: requests.Session
) -> None:
    """I3, I12: the same from twenty threads at once: forty sends, no refresh, all end."""
    server.wants(api=NEVER)
    answers = crowd(lambda _: session.get(server.url, timeout=30).status_code, THREADS)
    assert answers == [401] * THREADS
    assert server.counts["api_requests"] == 2 * THREADS
    assert server.counts["token_requests"] == 0


def test_the_provider_finds_no_nonce_good_enough(server: DPoPServer) -> None:
    """I12, I8: a provider that always says use_dpop_nonce is asked twice; the login is kept."""
    server.wants(NEVER)
    login = Token.from_reply(server.login(new_key()))
    with pytest.raises(RefreshError) as caught:
        grant_for(server, timeout=0.5)(login)
    assert server.counts["token_requests"] == 2
    assert isinstance(caught.value, RefreshRefused)
    assert caught.value.error == "use_dpop_nonce"


class Between(HTTPAdapter):
    """Does something before a request is sent, where a test has set it."""

    def __init__(self) -> None:
        super().__init__()
        self.before: list[Callable[[], object]] = []

    def send(self, *args: Any, **options: Any) -> requests.Response:
        """Send, and do the next thing first."""
        if self.before:
            self.before.pop(0)()
        return super().send(*args, **options)


def test_a_challenges_nonce_is_for_its_own_request(
    server: DPoPServer, tokens: TokenSource, mount: Mount
) -> None:
    """I1: a nonce that is good once is not taken from the request that it was given to."""
    server.wants(api=ONCE_UNANNOUNCED)
    scheme, inner = DPoP(), Between()
    others = mount(tokens, server.url, scheme=scheme)
    session = mount(tokens, server.url, scheme=scheme, inner=inner)
    statuses: list[int] = []

    def meanwhile() -> None:
        statuses.append(others.get(server.url, timeout=30).status_code)

    inner.before = [lambda: None, meanwhile]  # when the nonce is known and not yet used
    statuses.append(session.get(server.url, timeout=30).status_code)
    inner.close()
    assert statuses == [200, 200]


def test_a_challenges_nonce_is_for_its_own_refresh(server: DPoPServer) -> None:
    """The same at the token endpoint, for a grant that several sources share."""
    server.wants(ONCE_UNANNOUNCED)
    again, statuses = threading.local(), []

    def meanwhile() -> str:
        """Called for each attempt: before the second, another refresh runs as a whole."""
        again.count = getattr(again, "count", 0) + 1
        if again.count == 2:
            grant(Token.from_reply(server.login(new_key())))
        return "x"

    grant = grant_for(server, client_auth=lambda request: meanwhile() and request)
    grant(Token.from_reply(server.login(new_key())))
    statuses += [seen.status for seen in server.seen]
    assert statuses == [400, 400, 200, 200]


def test_a_dead_token_behind_an_old_nonce(
    server: DPoPServer, session: requests.Session, tokens: TokenSource
) -> None:
    """I12: nonce, dead token, nonce again: one refresh and four sends, and the answer is there."""
    server.wants(ONCE_UNANNOUNCED, ONCE_UNANNOUNCED)
    server.revoke()
    assert session.get(server.url, timeout=30).status_code == 200
    assert [seen.status for seen in server.seen if seen.path == "/"] == [401, 401, 401, 200]
    assert (server.counts["refreshes"], server.counts["api_nonces"]) == (1, 2)
    assert tokens.stats.replays == 1  # for a new token; what a nonce cost is not counted


def test_the_most_sends_of_one_request(server: DPoPServer, mount: Mount) -> None:
    """I12: three tokens, each refused behind an old nonce, are six sends and one refresh."""
    server.wants(api=ONCE_UNANNOUNCED)
    key = new_key()
    store_of_another = source_for(server)
    store = store_of_another._store
    tokens = TokenSource(grant_for(server), store, token=Token.from_reply(server.login(key)))
    session = mount(tokens, server.url, scheme=DPoP())
    assert session.get(server.url, timeout=30).status_code == 200
    server.seen.clear()
    before = server._issue

    def stillborn(*args: object, **options: object) -> dict[str, object]:
        reply = before(*args, **options)  # type: ignore[arg-type]  # handed through as they came
        server.issued.access.clear()
        return reply

    server._issue = stillborn  # type: ignore[method-assign]  # each token is born dead
    server.revoke()
    another = Token.from_reply({**server.login(key), "dpop_jwk": key})
    store.save("default", another)  # adopted first, and refused as well
    assert session.get(server.url, timeout=30).status_code == 401
    assert [seen.status for seen in server.seen if seen.path == "/"] == [401] * 6
    assert server.counts["refreshes"] == 1


def test_nonces_are_never_mixed(server: DPoPServer, session: requests.Session) -> None:
    """The API's nonces go to the API and the provider's to the provider (RFC 9449 8, 9)."""
    for provider, api in itertools.permutations([FIXED, ROTATING, ONCE], 2):
        server.wants(provider, api)
        for _ in range(3):
            server.revoke()
            assert session.get(server.url, timeout=30).status_code == 200
    assert server.counts["mixed"] == 0
    assert server.counts["provider_nonces"] > 0


def test_each_origin_has_nonces_of_its_own(
    server: DPoPServer, tokens: TokenSource, mount: Mount
) -> None:
    """A nonce is for the origin that gave it (RFC 9449 9): two APIs cost one challenge each."""
    with DPoPServer(server.issued) as other:
        session = mount(tokens, server.url, other.url, scheme=DPoP())
        for api in (server, other):
            api.wants(api=FIXED)
        for _ in range(3):
            for api in (server, other):
                assert session.get(api.url, timeout=30).status_code == 200
        for api, foreign in ((server, other), (other, server)):
            assert api.counts["api_nonces"] == 1
            said = {seen.proof.get("nonce") for seen in api.seen}
            assert said & api.apis.given
            assert not said & foreign.apis.given
        assert other.faults == []


def test_a_rotation_while_others_are_under_way(
    server: DPoPServer, session: requests.Session
) -> None:
    """I1: nonces on both sides that are all forgotten in a storm cost challenges, no refresh."""
    server.wants(FIXED, FIXED)
    refreshes = server.counts["refreshes"]

    def work(number: int) -> list[int]:
        found = []
        for _ in range(5):
            if number == 0:
                server.apis.forget()
                server.provider.forget()
            found.append(session.get(server.url, timeout=30).status_code)
        return found

    answers = crowd(work, THREADS)
    assert server.counts["refreshes"] == refreshes
    # Who met two of the five within one request was handed the second challenge.
    assert {status for found in answers for status in found} <= {200, 401}
    assert server.counts["token_requests"] == 0
    assert session.get(server.url, timeout=30).status_code == 200
