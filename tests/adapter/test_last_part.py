"""Requests in a token's last part, and after its end by the clock, with a provider up or down."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
import requests

from requests_refresh import LoginRequired, RefreshUnavailable, Token, TokenSource
from requests_refresh.testing import AuthServer, Fault

from .conftest import Mount
from .support import Crowd, Issuer, advance, wait_until
from .wire import REFUSED, Wire, answering, taking


def near_its_end() -> Token:
    """More than half its life is over, and 40 s are left: with `ahead=60` that is its end."""
    now = time.time()
    return Token("old", expires_at=now + 40, issued_at=now - 60)


class Gated(Issuer):
    """Issues when `go` is set."""

    def __init__(self) -> None:
        super().__init__()
        self.go = threading.Event()

    def __call__(self, old: Token | None) -> dict[str, Any]:
        assert self.go.wait(20)
        return super().__call__(old)


@pytest.fixture
def api() -> Iterator[Wire]:
    with Wire(taking("old", "new-1")) as wire:
        yield wire


def test_what_can_be_sent_again_goes_at_once(api: Wire, mount: Mount) -> None:
    """In the last part of a token's life, a request goes out with it and a round is started."""
    issuer = Gated()
    tokens = TokenSource(issuer, token=near_its_end(), ahead=60)
    session = mount(tokens, api.url)
    session.get(api.url, timeout=10)  # finds what is stored
    assert session.post(api.url, data=b"x", timeout=10).status_code == 200  # while the grant waits
    assert api.requests[-1].token == "old"
    issuer.go.set()
    wait_until(lambda: tokens.stats.refreshes == 1)
    tokens.close()
    session.post(api.url, data=b"x", timeout=10)
    assert api.requests[-1].token == "new-1"


@pytest.mark.parametrize("limit", [0, 100])
def test_a_one_shot_body_in_the_last_part_waits_for_the_round(
    limit: int, api: Wire, mount: Mount
) -> None:
    """I11: rather than risk a 401 it could not be sent again after, it waits for the new token."""
    issuer = Gated()
    tokens = TokenSource(issuer, token=near_its_end(), ahead=60)
    session = mount(tokens, api.url, replay_limit=limit)
    session.get(api.url, timeout=10)  # finds what is stored
    before = tokens.stats.waits
    waiting = Crowd(lambda i: session.post(api.url, data=iter([b"a", b"b"]), timeout=10), 4)
    wait_until(lambda: tokens.stats.waits - before == 4)
    assert len(api.requests) == 1
    issuer.go.set()
    assert [response.status_code for response in waiting.join()] == [200] * 4
    assert [request.token for request in api.requests[1:]] == ["new-1"] * 4
    assert issuer.calls == 1


def test_it_does_not_wait_while_the_provider_is_backed_off_from(api: Wire, mount: Mount) -> None:
    """I8: with the provider known to be down, a one-shot body goes with the token that lives."""
    calls: list[object] = []

    def down(old: Token | None) -> str:
        calls.append(old)
        raise requests.ConnectionError("down")

    tokens = TokenSource(down, token=near_its_end(), ahead=60)
    session = mount(tokens, api.url)
    session.get(api.url, timeout=10)  # finds what is stored
    session.post(api.url, data=iter([b"a"]), timeout=10)  # waits for the round, which fails
    made = len(calls)
    assert made > 0
    assert session.post(api.url, data=iter([b"b"]), timeout=10).status_code == 200
    assert len(calls) == made
    assert {request.token for request in api.requests} == {"old"}


def test_a_login_over_ahead_of_time_does_not_fail_a_one_shot_body(api: Wire, mount: Mount) -> None:
    """A refresh ahead that is refused leaves the living token to the requests that wait."""

    def over(old: Token | None) -> str:
        raise LoginRequired("over")

    tokens = TokenSource(over, token=near_its_end(), ahead=60)
    session = mount(tokens, api.url)
    session.get(api.url, timeout=10)  # finds what is stored
    for _ in range(2):
        assert session.post(api.url, data=iter([b"a"]), timeout=10).status_code == 200
    assert api.requests[-1].token == "old"


def test_dead_by_the_clock_and_the_provider_down_the_token_is_sent_all_the_same(
    server: AuthServer, mount: Mount
) -> None:
    """I8: the API decides about a token that our clock calls dead; a wrong clock costs nothing."""
    tokens = server.source()
    session = mount(tokens, server.api)
    assert session.get(server.api, timeout=10).status_code == 200
    server.faults("token", Fault(status=503), times=None)
    advance(tokens, 3600)
    for _ in range(3):
        assert session.get(server.api, timeout=10).status_code == 200
        assert session.post(server.api, data=iter([b"a"]), timeout=10).status_code == 200
    calls = server.counts.refresh_calls
    server.revoke_access()
    with pytest.raises(RefreshUnavailable) as caught:
        session.get(server.api, timeout=10)
    assert caught.value.response is not None
    assert caught.value.response.status_code == 401
    assert server.counts.refresh_calls == calls  # backed off from
    advance(tokens, 60)
    server.clear_faults()
    assert session.get(server.api, timeout=10).status_code == 200


def test_dead_by_the_clock_everyone_waits_for_one_round(mount: Mount) -> None:
    """I1: at an expiry that the clock tells, nobody sends the dead token; one refresh for all."""
    issuer = Gated()
    dead = Token("old", expires_at=time.time() - 1, issued_at=time.time() - 100)
    tokens = TokenSource(issuer, token=dead)
    with Wire(taking("new-1")) as wire:
        session = mount(tokens, wire.url)
        waiting = Crowd(lambda i: session.get(wire.url, timeout=10), 16)
        wait_until(lambda: tokens.stats.waits == 16)
        issuer.go.set()
        assert [response.status_code for response in waiting.join()] == [200] * 16
    assert {request.token for request in wire.requests} == {"new-1"}
    assert issuer.calls == 1


def test_a_request_that_has_waited_for_a_refresh_gets_no_other(mount: Mount) -> None:
    """I12: token()'s refresh counts: what it issued is refused, so the 401 is the answer."""
    issuer = Issuer()
    tokens = TokenSource(issuer, token=Token(refresh_token="r"))
    with Wire(answering(lambda request: REFUSED)) as wire:
        session = mount(tokens, wire.url)
        assert session.get(wire.url, timeout=10).content == b"refused"
    assert issuer.calls == 1
    assert len(wire.requests) == 1
    assert tokens.stats.strikes == 1


def test_an_error_before_the_first_send_has_the_callers_request(mount: Mount) -> None:
    """An error with no token to send carries the caller's request, and no response."""

    def down(old: Token | None) -> str:
        raise requests.ConnectionError("down")

    tokens = TokenSource(down, token=Token(refresh_token="r"))
    with Wire(taking("new-1")) as wire:
        session = mount(tokens, wire.url)
        for _ in range(2):  # the second while it is backed off from
            request = session.prepare_request(requests.Request("GET", wire.url))
            with pytest.raises(RefreshUnavailable) as caught:
                session.send(request)
            assert caught.value.request is request
            assert caught.value.response is None
    assert wire.requests == []


def test_a_login_without_an_access_token_sends_none(mount: Mount) -> None:
    """With only a refresh token and the provider down, no request goes out, however often."""

    def down(old: Token | None) -> str:
        raise requests.ConnectionError("down")

    tokens = TokenSource(down, token="old")
    with Wire(taking("old")) as wire:
        session = mount(tokens, wire.url)
        tokens.login(Token(refresh_token="r"))
        for _ in range(3):
            with pytest.raises(RefreshUnavailable):
                session.get(wire.url, timeout=10)
    assert wire.requests == []


def test_a_one_shot_body_as_the_first_request_waits_too(mount: Mount) -> None:
    """I11: also where the token near its end has only just come out of the store."""
    tokens = TokenSource(Issuer(), token=near_its_end(), ahead=60)
    with Wire(taking("old", "new-1")) as api:
        session = mount(tokens, api.url)
        session.post(api.url, data=iter([b"a"]), timeout=10)
        assert api.requests[0].token == "new-1"
