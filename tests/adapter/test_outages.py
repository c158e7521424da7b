"""I8: a provider that is down, slow, cut off or over its limit ends no login and wedges nobody."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest
import requests

from requests_refresh import LoginRequired, RefreshTimeout, RefreshUnavailable, TokenSource
from requests_refresh.testing import AuthServer, Fault

from .conftest import Mount
from .support import Crowd, advance, crowd, wait_until

OUTAGES: dict[str, Fault] = {
    "503": Fault(status=503),
    "503 in HTML": Fault(status=503, body="<html>", headers={"Content-Type": "text/html"}),
    "429": Fault(status=429, headers={"Retry-After": "20"}),
    "reset": Fault(reply="reset"),
    "reset, with the work done": Fault(after_work=True, reply="reset"),
    "cut": Fault(status=200, body={"access_token": "x"}, reply="cut"),
}


@pytest.fixture
def forgiving() -> AuthServer:
    """A provider with grace: a lost answer can be asked for again."""
    return AuthServer(grace=60.0)


@pytest.mark.parametrize("fault", OUTAGES.values(), ids=OUTAGES.keys())
def test_an_outage_ends_no_login(fault: Fault, forgiving: AuthServer, mount: Mount) -> None:
    """I8: every waiter gets RefreshUnavailable with its 401; when it is over, all goes on."""
    logouts: list[object] = []
    with forgiving as server:
        tokens = server.source(
            on_logout=lambda source, error: logouts.append(error), grant=server.grant(timeout=5)
        )
        session = mount(tokens, server.api)
        server.revoke_access()
        server.faults("token", fault, times=None)
        errors = crowd(lambda i: session.get(f"{server.api}{i}", timeout=30), 4)
        for error in errors:
            assert isinstance(error, RefreshUnavailable), error
            assert error.response is not None
            assert error.request is not None
            assert error.request.url == error.response.url
            assert error.response.status_code == 401
        assert len({id(error) for error in errors}) == 4
        calls = server.counts.refresh_calls
        assert calls <= 4
        with pytest.raises(RefreshUnavailable):  # backed off from: at once, without a call
            session.get(server.api, timeout=10)
        assert server.counts.refresh_calls == calls
        server.clear_faults()
        advance(tokens, 60)
        assert session.get(server.api, timeout=10).status_code == 200
        assert logouts == []
        tokens.close()


def test_retry_after_is_told_and_kept(server: AuthServer, mount: Mount) -> None:
    """I8: a 429's Retry-After is on the error, and nobody asks before it has passed."""
    tokens = server.source()
    session = mount(tokens, server.api)
    server.revoke_access()
    server.faults("token", Fault(status=429, headers={"Retry-After": "90"}), times=None)
    with pytest.raises(RefreshUnavailable) as caught:
        session.get(server.api, timeout=10)
    assert caught.value.retry_after == 90
    calls = server.counts.refresh_calls
    server.clear_faults()
    advance(tokens, 80)
    with pytest.raises(RefreshUnavailable):
        session.get(server.api, timeout=10)
    assert server.counts.refresh_calls == calls
    advance(tokens, 11)
    assert session.get(server.api, timeout=10).status_code == 200


def test_a_short_outage_is_not_noticed(server: AuthServer, mount: Mount) -> None:
    """A 503 and a connection that is reset are tried again within the round."""
    session = mount(server.source(), server.api)
    server.revoke_access()
    server.faults("token", Fault(reply="reset"), at=1)
    server.faults("token", Fault(status=503), at=2)
    assert session.get(server.api, timeout=10).status_code == 200
    assert server.counts.refreshes == 1


def test_a_silent_provider_holds_nobody_beyond_the_timeout(
    server: AuthServer, mount: Mount
) -> None:
    """I3: with a provider that says nothing, each waiter ends at the source's timeout."""
    tokens = server.source(timeout=0.5)
    session = mount(tokens, server.api)
    server.revoke_access()
    server.faults("token", Fault(reply="silence"), times=None)
    errors = crowd(lambda i: session.get(f"{server.api}{i}", timeout=30), 8)
    assert all(isinstance(e, (RefreshTimeout, RefreshUnavailable)) for e in errors), errors
    assert all(error.response.status_code == 401 for error in errors)
    server.clear_faults()
    wait_until(lambda: tokens._idle)
    advance(tokens, 60)
    assert session.get(server.api, timeout=10).status_code == 200


def test_an_answer_that_came_too_late(server: AuthServer, mount: Mount) -> None:
    """I8: an answer later than the round's time costs the login here, and the error says why."""
    tokens = server.source(timeout=0.3)
    session = mount(tokens, server.api)
    server.revoke_access()
    go = threading.Event()
    server.faults("token", Fault(after_work=True, hold=go))
    with pytest.raises((RefreshTimeout, RefreshUnavailable)):
        session.get(server.api, timeout=10)
    wait_until(lambda: tokens._idle)
    go.set()
    advance(tokens, 60)
    with pytest.raises(LoginRequired, match="unknown"):  # the provider takes it for a reuse
        session.get(server.api, timeout=10)


def test_a_living_token_is_used_through_an_outage(server: AuthServer, mount: Mount) -> None:
    """I8: while the token lives, a provider that is down is noticed by nobody."""
    tokens = server.source(ahead=1800)
    session = mount(tokens, server.api)
    session.get(server.api, timeout=10)
    server.faults("token", Fault(status=503), times=None)
    advance(tokens, 2500)  # in its last part
    responses = crowd(lambda i: session.get(f"{server.api}{i}", timeout=10), 8)
    assert [response.status_code for response in responses] == [200] * 8
    tokens.close()
    server.clear_faults()
    assert tokens.stats.failures == 1


def test_login_ends_an_outage_for_those_who_wait(server: AuthServer, mount: Mount) -> None:
    """I3: a login in the middle of a round is what its waiters get."""
    tokens = server.source()
    session = mount(tokens, server.api)
    server.revoke_access()
    go = threading.Event()
    server.faults("token", Fault(hold=go, status=503), times=None)
    waiting = Crowd(lambda i: session.get(f"{server.api}{i}", timeout=30), 4)
    server.wait_for("refresh_calls")
    tokens.login(server.login())
    assert [response.status_code for response in waiting.join()] == [200] * 4
    go.set()


def test_logout_in_the_middle_of_a_round(server: AuthServer, mount: Mount) -> None:
    """I3: a logout in the middle of a round ends those who wait, and nothing comes back."""
    tokens = server.source()
    session = mount(tokens, server.api)
    server.revoke_access()
    go = threading.Event()
    server.faults("token", Fault(hold=go))
    waiting = Crowd(lambda i: session.get(f"{server.api}{i}", timeout=30), 4)
    server.wait_for("refresh_calls")
    tokens.logout()
    assert all(isinstance(error, LoginRequired) for error in waiting.join())
    go.set()
    tokens.close()
    with pytest.raises(LoginRequired):
        session.get(server.api, timeout=10)


KINDS: list[Callable[[], BaseException]] = [
    lambda: requests.ConnectionError("down"),
    lambda: requests.Timeout("slow"),
]


@pytest.mark.parametrize("kind", KINDS)
def test_a_callable_that_cannot_reach_its_provider(
    kind: Callable[[], BaseException], server: AuthServer, mount: Mount
) -> None:
    """I8: what requests raises in a callable of the user's is an outage, too."""

    def grant(old: object) -> str:
        raise kind()

    tokens = TokenSource(grant, token=server.login())
    session = mount(tokens, server.api)
    server.revoke_access()
    with pytest.raises(RefreshUnavailable) as caught:
        session.get(server.api, timeout=10)
    assert caught.value.response is not None
