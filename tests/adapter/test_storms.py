"""Crowds: one expiry, one refresh, nobody notices; and what strikes and adoptions bound."""

from __future__ import annotations

import logging
import threading
from typing import Any

import pytest
import requests

from requests_refresh import LoginRequired, MemoryStore, Token, TokenSource
from requests_refresh.testing import AuthServer, Fault

from .conftest import Mount
from .support import Crowd, Issuer, advance, crowd, wait_until
from .wire import OK, REFUSED, Connection, Request, Wire, answering, taking


def test_300_threads_at_one_expiry(server: AuthServer, mount: Mount) -> None:
    """I1: 300 threads are refused at once; one refresh, and each of them has its answer."""
    tokens = server.source()
    session = mount(tokens, server.api, pool_maxsize=300)
    server.revoke_access()
    go = threading.Event()
    server.faults("token", Fault(hold=go))
    storm = Crowd(lambda i: session.post(f"{server.api}{i}", data=b"x%d" % i, timeout=30), 300)
    server.wait_for("refresh_calls")
    go.set()
    responses = storm.join()
    assert [getattr(response, "status_code", response) for response in responses] == [200] * 300
    assert server.counts.refreshes == server.counts.refresh_calls == 1
    assert server.counts.reuses == 0


def test_expiry_after_expiry(server: AuthServer, mount: Mount) -> None:
    """I1: through five expiries in the middle of the work, one refresh each and no failure."""
    tokens = server.source()
    session = mount(tokens, server.api, pool_maxsize=16)

    def expire() -> None:
        server.revoke_access()

    turn = threading.Barrier(16, action=expire)

    def work(number: int) -> list[int]:
        found = []
        for _ in range(5):
            turn.wait(30)
            found += [session.get(f"{server.api}{number}", timeout=30).status_code for _ in "ab"]
        return found

    results = crowd(work, 16)
    assert results == [[200] * 10] * 16
    assert server.counts.refreshes == 5
    assert server.counts.reuses == 0


def test_a_401_that_arrives_a_second_late(mount: Mount) -> None:
    """I2: a 401 held back until the next token is in use, and well used, refreshes nothing."""
    late = threading.Event()

    def serve(connection: Connection) -> None:
        while (request := connection.request()) is not None:
            if request.target.startswith("/late") and request.token == "old":
                assert late.wait(20)
            connection.send(OK if request.token == "new-1" else REFUSED)

    issuer = Issuer()
    tokens = TokenSource(issuer, token="old")
    with Wire(serve) as wire:
        session = mount(tokens, wire.url)
        slow = Crowd(lambda i: session.get(f"{wire.url}late{i}", timeout=30), 8)
        wire.wait_for(lambda w: len(w.requests) == 8)
        for _ in range(3):
            assert session.get(wire.url, timeout=10).status_code == 200
        advance(tokens, 1)
        late.set()
        assert [response.status_code for response in slow.join()] == [200] * 8
    assert issuer.calls == 1
    assert tokens.stats.adoptions == 8


def test_a_refused_refresh_with_32_waiters(server: AuthServer, mount: Mount) -> None:
    """I3: one call, one on_logout, and 32 exceptions of their own, each with its own 401."""
    logouts: list[BaseException] = []
    tokens = server.source(on_logout=lambda source, error: logouts.append(error))
    session = mount(tokens, server.api, pool_maxsize=32)
    tokens.token()
    before = tokens.stats.waits
    server.revoke_login()
    go, all_there = threading.Event(), threading.Event()
    server.faults("api", Fault(hold=all_there), times=32)
    server.faults("token", Fault(hold=go))
    waiting = Crowd(lambda i: session.get(f"{server.api}{i}", timeout=30), 32)
    server.wait_for("api_requests", 32)
    all_there.set()
    wait_until(lambda: tokens.stats.waits - before == 32)
    go.set()
    errors = waiting.join()
    assert all(isinstance(error, LoginRequired) for error in errors)
    assert len({id(error) for error in errors}) == 32
    assert len({error.response.url for error in errors}) == 32
    assert all(error.response.url == error.request.url for error in errors)
    assert server.counts.refresh_calls == 1
    wait_until(lambda: bool(logouts))
    assert len(logouts) == 1
    assert logouts[0] not in errors
    with pytest.raises(LoginRequired):  # a dead login is answered without a call
        session.get(server.api, timeout=10)
    assert server.counts.refresh_calls == 1
    tokens.login(server.login())
    assert session.get(server.api, timeout=10).status_code == 200


def test_one_path_that_always_says_401_beside_a_healthy_one(
    server: AuthServer, mount: Mount, caplog: pytest.LogCaptureFixture
) -> None:
    """I12: 16 threads on both: the healthy path has no failure; strikes bound the refreshes."""
    caplog.set_level(logging.WARNING)
    tokens = server.source(strikes=(3, 30.0))
    session = mount(tokens, server.api, pool_maxsize=16)

    def work(number: int) -> set[int]:
        path = "always-401" if number % 2 else f"healthy{number}"
        return {session.get(server.api + path, timeout=30).status_code for _ in range(12)}

    results = crowd(work, 16)
    assert results == [{200}, {401}] * 8
    assert server.counts.refreshes <= 3
    assert tokens.stats.strikes == 3
    warnings = [r for r in caplog.records if r.name == "requests_refresh"]
    assert [record.levelno for record in warnings] == [logging.WARNING]
    refreshes = server.counts.refreshes
    advance(tokens, 31)  # the window has passed
    assert session.get(server.api + "always-401", timeout=30).status_code == 401
    assert server.counts.refreshes == refreshes + 1


def test_an_adopted_token_that_is_refused_too(mount: Mount) -> None:
    """I12: three sends at most: old, adopted, refreshed; the third answer is the answer."""
    issuer = Issuer()
    store = MemoryStore()
    tokens = TokenSource(issuer, store, token="old")
    with Wire(answering(lambda request: REFUSED)) as wire:
        session = mount(tokens, wire.url)
        tokens.token()
        store.save("default", Token("adopted"))
        assert session.get(wire.url, timeout=10).status_code == 401
        assert [request.token for request in wire.requests] == ["old", "adopted", "new-1"]
    assert issuer.calls == 1
    assert tokens.stats.replays == 2


def test_three_sends_at_most(mount: Mount, monkeypatch: pytest.MonkeyPatch) -> None:
    """I12: also where somebody logs in anew during each wait, the third answer is the answer."""
    issuer = Issuer()
    tokens = TokenSource(issuer, token="old")
    real, logins = tokens._renew, iter(range(1, 9))

    def renew(stale: Token, deadline: float, *, may_start: bool = True) -> Any:
        tokens.login(f"login-{next(logins)}")
        return real(stale, deadline, may_start=may_start)

    monkeypatch.setattr(tokens, "_renew", renew)
    with Wire(answering(lambda request: REFUSED)) as wire:
        session = mount(tokens, wire.url)
        assert session.get(wire.url, timeout=10).status_code == 401
        assert [request.token for request in wire.requests] == ["old", "login-1", "login-2"]
    assert issuer.calls == 0


def test_an_adopted_token_that_is_refused_gets_one_refresh(mount: Mount) -> None:
    """The same with an API that takes the refreshed one."""
    store = MemoryStore()
    tokens = TokenSource(Issuer(), store, token="old")
    with Wire(taking("new-1")) as wire:
        session = mount(tokens, wire.url)
        tokens.token()
        store.save("default", Token("adopted"))
        assert session.post(wire.url, data=b"body", timeout=10).status_code == 200
        assert [request.body for request in wire.requests] == [b"body"] * 3


@pytest.mark.parametrize("path", ["token", "refresh"])
def test_refreshing_through_the_same_session(path: str, server: AuthServer, mount: Mount) -> None:
    """A callable that posts through the mounted session passes; its request has no token."""
    made: list[requests.Session] = []

    def grant(old: Token | None) -> dict[str, Any]:
        assert old is not None
        if path == "token":
            form = {"grant_type": "refresh_token", "refresh_token": old.refresh_token}
            reply = made[0].post(server.token_url, data=form, timeout=10)
        else:
            reply = made[0].post(
                server.refresh_url, json={"refresh": old.refresh_token}, timeout=10
            )
        reply.raise_for_status()
        found: dict[str, Any] = reply.json()
        return {**found, "access_token": found.get("access_token") or found.get("access")}

    tokens = TokenSource(grant, token=server.login())
    session = mount(tokens, server.url, pool_block=True, pool_maxsize=1)
    made.append(session)
    server.revoke_access()
    responses = crowd(lambda i: session.get(f"{server.api}{i}", timeout=30), 8)
    assert [response.status_code for response in responses] == [200] * 8
    assert server.counts.refreshes == 1
    (call,) = [seen for seen in server.log if seen.call == path]
    assert "Authorization" not in call.headers


def test_several_identities_in_one_process(server: AuthServer, mount: Mount) -> None:
    """Each source renews its own: one that is revoked does not touch the other."""
    anna, ben = server.source("anna"), server.source("ben")
    sessions = [mount(anna, server.api), mount(ben, server.api)]
    server.revoke_access("anna")
    names = crowd(lambda i: sessions[i % 2].get(server.api, timeout=10).json()["identity"], 8)
    assert names == ["anna", "ben"] * 4
    assert (anna.stats.refreshes, ben.stats.refreshes) == (1, 0)


def test_two_sessions_of_one_source(server: AuthServer, mount: Mount) -> None:
    """I1: the source is what is shared: sessions and adapters of it refresh once together."""
    tokens = server.source()
    sessions = [mount(tokens, server.api) for _ in range(4)]
    server.revoke_access()
    responses = crowd(lambda i: sessions[i % 4].get(server.api, timeout=10), 16)
    assert [response.status_code for response in responses] == [200] * 16
    assert server.counts.refreshes == 1


def test_stats_tell_what_was_done(server: AuthServer, mount: Mount) -> None:
    """Replays count what was sent again, waits who waited."""
    tokens = server.source()
    session = mount(tokens, server.api)
    session.get(server.api, timeout=10)
    before = tokens.stats
    server.revoke_access()
    session.get(server.api, timeout=10)
    session.get(server.api, timeout=10)
    assert tokens.stats.replays == before.replays + 1
    assert tokens.stats.refreshes == 1
    assert tokens.stats.waits == before.waits + 1
    assert tokens.stats.failures == 0


def test_a_token_proven_once_is_no_strike(mount: Mount) -> None:
    """I12: five honest revocations, each after the token was accepted, are no loop."""
    living = [0]

    def answer(request: Request) -> bytes:
        return OK if request.token == f"new-{living[0]}" else REFUSED

    issuer = Issuer()
    tokens = TokenSource(issuer, token="old", strikes=(3, 30.0))
    with Wire(answering(answer)) as wire:
        session = mount(tokens, wire.url)
        for number in range(1, 6):
            living[0] = number
            assert session.get(wire.url, timeout=10).status_code == 200
            assert session.get(wire.url, timeout=10).status_code == 200
    assert issuer.calls == 5
    assert tokens.stats.strikes == 0
