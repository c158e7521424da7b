"""What counts as a wish for another nonce, and what only looks like one."""

from __future__ import annotations

from typing import Any

import pytest
import requests
from urllib3.util import Retry

from requests_refresh import DPoP, RefreshTokenGrant, Token, TokenSource
from tests.adapter.conftest import Mount
from tests.adapter.wire import OK, Request, Wire, answering, reply
from tests.dpop.conftest import grant_for, new_key, source_for
from tests.dpop.programs import claims
from tests.dpop.server import FIXED, ONCE, ROTATING, DPoPServer

KEY = new_key()

NONCE = "DPoP-Nonce: n-1"
WANTED = 'DPoP error="use_dpop_nonce"'
CHALLENGES: dict[str, tuple[str, ...]] = {
    "plain": (f"WWW-Authenticate: {WANTED}", NONCE),
    "with more": (f'WWW-Authenticate: DPoP realm="a, b", {WANTED[5:]}, algs="ES256"', NONCE),
    "small letters": ("www-authenticate: dpop ERROR=use_dpop_nonce", "dpop-nonce: n-1"),
    "beside Bearer": (f"WWW-Authenticate: Bearer, {WANTED}", NONCE),
    "after Bearer's error": (f'WWW-Authenticate: Bearer error="invalid_token", {WANTED}', NONCE),
    "in two headers": ("WWW-Authenticate: Bearer", f"WWW-Authenticate: {WANTED}", NONCE),
}
NO_CHALLENGES: dict[str, tuple[int, tuple[str, ...]]] = {
    "no nonce": (401, (f"WWW-Authenticate: {WANTED}",)),
    "no nonce that is one": (401, (f"WWW-Authenticate: {WANTED}", "DPoP-Nonce: a b")),
    "two nonces": (401, (f"WWW-Authenticate: {WANTED}", NONCE, "DPoP-Nonce: n-2")),
    "Bearer's": (401, ('WWW-Authenticate: Bearer error="use_dpop_nonce"', NONCE)),
    "another status": (400, (f"WWW-Authenticate: {WANTED}", NONCE)),
    "a bad proof": (401, ('WWW-Authenticate: DPoP error="invalid_dpop_proof"', NONCE)),
}


def source(issued: list[int]) -> TokenSource:
    """A source with a bound token, that notes when it refreshes."""

    def grant(old: Token | None) -> Token:
        issued.append(1)
        return Token("new", token_type="DPoP", extra={"dpop_jwk": KEY})

    return TokenSource(grant, token=Token("old", token_type="DPoP", extra={"dpop_jwk": KEY}))


def nonces(wire: Wire) -> list[Any]:
    return [claims(request.headers["DPoP"]).get("nonce") for request in wire.requests]


@pytest.mark.parametrize("headers", CHALLENGES.values(), ids=CHALLENGES.keys())
def test_a_wish_for_a_nonce(mount: Mount, headers: tuple[str, ...]) -> None:
    """However it is put, use_dpop_nonce is answered with the nonce and the same token."""
    issued: list[int] = []
    answers = iter([reply(401, b"", *headers)])
    with Wire(answering(lambda request: next(answers, OK))) as wire:
        session = mount(source(issued), wire.url, scheme=DPoP())
        assert session.get(wire.url, timeout=10).status_code == 200
        assert nonces(wire) == [None, "n-1"]
        assert {request.token for request in wire.requests} == {"old"}
    assert issued == []


@pytest.mark.parametrize(("status", "headers"), NO_CHALLENGES.values(), ids=NO_CHALLENGES.keys())
def test_no_wish_for_a_nonce(mount: Mount, status: int, headers: tuple[str, ...]) -> None:
    """I12: what is no such challenge is handed on: nothing is sent again, nothing refreshed."""
    issued: list[int] = []
    with Wire(answering(lambda request: reply(status, b"", *headers))) as wire:
        session = mount(source(issued), wire.url, scheme=DPoP())
        assert session.get(wire.url, timeout=10).status_code == status
        assert len(wire.requests) == 1
    assert issued == []


def test_cookies_of_a_challenge(mount: Mount) -> None:
    """What a challenge sets goes along when the request is sent again, and into the jar."""

    def answer(request: Request) -> bytes:
        if "Cookie" in request.headers:
            return OK
        return reply(401, b"", *CHALLENGES["plain"], "Set-Cookie: sticky=7; Path=/")

    with Wire(answering(answer)) as wire:
        session = mount(source([]), wire.url, scheme=DPoP())
        response = session.get(wire.url, timeout=10)
        assert response.status_code == 200
        assert len(wire.requests) == 2
        assert session.cookies["sticky"] == "7"


def test_who_looks_at_responses_by_himself(mount: Mount) -> None:
    """A `refused` of the user's is not asked about a challenge that is answered."""
    asked: list[int] = []

    def refused(response: requests.Response) -> bool:
        asked.append(response.status_code)
        return response.status_code == 419

    answers = iter([reply(401, b"", *CHALLENGES["plain"]), reply(419)])
    issued: list[int] = []
    with Wire(answering(lambda request: next(answers, OK))) as wire:
        session = mount(source(issued), wire.url, scheme=DPoP(refused))
        assert session.get(wire.url, timeout=10).status_code == 200
        assert [request.token for request in wire.requests] == ["old", "old", "new"]
        assert nonces(wire) == [None, "n-1", "n-1"]
    assert asked == [419, 200]
    assert issued == [1]


@pytest.mark.parametrize("policy", [FIXED, ROTATING, ONCE], ids=lambda policy: policy.name)
def test_the_providers_next_nonce_is_learnt(server: DPoPServer, policy: Any) -> None:
    """The provider's nonce is asked for once: what its replies announce is used (RFC 9449 8.2)."""
    server.wants(policy)
    tokens = source_for(server, strikes=None)
    for _ in range(10):
        tokens.renew(tokens.token())
    assert server.counts["refreshes"] == 10
    assert server.counts["provider_nonces"] == 1


def test_retries_of_urllib3_repeat_a_proof(server: DPoPServer, mount: Mount) -> None:
    """I12: max_retries sends the same proof again; that 401 is handed on without a refresh."""
    retries = Retry(2, status_forcelist=[503], backoff_factor=0, raise_on_status=False)
    session = mount(source_for(server), server.url, scheme=DPoP(), max_retries=retries)
    response = session.get(server.url + "?status=503", timeout=30)
    assert response.status_code == 401
    assert "invalid_dpop_proof" in response.headers["WWW-Authenticate"]
    assert (server.counts["replays"], server.counts["token_requests"]) == (1, 0)
    server.faults.clear()


def test_a_bound_login_in_a_grant_that_asks_for_none(server: DPoPServer) -> None:
    """I7: a login that has its key is refreshed with it, though dpop=True was forgotten."""
    grant: RefreshTokenGrant = grant_for(server, dpop=False)
    tokens = TokenSource(grant, token=server.login(KEY))
    tokens.renew(tokens.token())
    assert server.counts["refreshes"] == 1
    assert tokens.token().extra["dpop_jwk"] == KEY
