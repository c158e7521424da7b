"""The five faults of the browser-interceptor pattern, none of which is here.

The pattern: on a 401, one request refreshes, the others queue, then all are
sent again. Each test names the fault that its well-known versions have.
"""

from __future__ import annotations

import threading

from requests_refresh import LoginRequired, RefreshUnavailable, TokenSource
from requests_refresh.testing import AuthServer, Fault

from .conftest import Mount
from .support import Crowd, Issuer, advance, crowd, wait_until
from .wire import OK, REFUSED, Connection, Wire


def test_fault_1_queued_requests_hang_for_ever_when_the_refresh_fails(
    server: AuthServer, mount: Mount
) -> None:
    """I3: when the refresh is refused, every queued request ends with an error of its own."""
    tokens = server.source()
    session = mount(tokens, server.api)
    go = threading.Event()
    tokens.token()
    before = tokens.stats.waits
    server.revoke_login()
    server.faults("token", Fault(hold=go))
    queued = Crowd(lambda i: session.get(f"{server.api}{i}"), 8)
    wait_until(lambda: tokens.stats.waits - before == 8)
    go.set()
    errors = queued.join()
    assert all(isinstance(error, LoginRequired) for error in errors)
    assert len({id(error) for error in errors}) == 8
    assert server.counts.refresh_calls == 1


def test_fault_2_a_retried_request_that_gets_401_again_loops(
    server: AuthServer, mount: Mount
) -> None:
    """I12: a request refused with a just-issued token gets that 401, after one refresh."""
    session = mount(server.source(), server.api)
    response = session.get(server.api + "always-401")
    assert response.status_code == 401
    assert response.json() == {"error": "invalid_token"}
    assert server.counts.refresh_calls == 1
    assert server.counts.api_requests == 2


def test_fault_3_a_401_just_after_the_refresh_finished_refreshes_again(mount: Mount) -> None:
    """I2: a 401 that arrives when the token has been renewed adopts, and refreshes nothing."""
    late = threading.Event()

    def serve(connection: Connection) -> None:
        while (request := connection.request()) is not None:
            if request.target == "/late" and request.token == "old":
                assert late.wait(20)
            connection.send(OK if request.token == "new-1" else REFUSED)

    issuer = Issuer()
    tokens = TokenSource(issuer, token="old")
    with Wire(serve) as wire:
        session = mount(tokens, wire.url)
        slow = Crowd(lambda i: session.get(wire.url + "late"), 1)
        wire.wait_for(lambda w: any(r.target == "/late" for r in w.requests))
        assert session.get(wire.url).status_code == 200
        late.set()
        (response,) = slow.join()
    assert response.status_code == 200
    assert issuer.calls == 1
    assert tokens.stats.adoptions == 1


def test_fault_4_a_network_error_on_the_refresh_wipes_a_good_login(
    server: AuthServer, mount: Mount
) -> None:
    """I8: a provider that resets the connection ends no login: the next refresh goes through."""
    logouts: list[object] = []
    tokens = server.source(on_logout=lambda source, error: logouts.append(error))
    session = mount(tokens, server.api)
    server.revoke_access()
    server.faults("token", Fault(reply="reset"), times=None)
    [error] = crowd(lambda i: session.get(server.api), 1)
    assert isinstance(error, RefreshUnavailable)
    assert error.response is not None
    assert error.response.status_code == 401
    server.clear_faults()
    advance(tokens, 60)  # the backoff is over
    assert session.get(server.api).status_code == 200
    assert logouts == []


def test_fault_5_requests_sent_while_a_refresh_runs_go_out_with_the_dead_token(
    server: AuthServer, mount: Mount
) -> None:
    """I1: from the start of a round on, no request leaves with the refused token."""
    tokens = server.source()
    dead = tokens.token().access_token
    before = tokens.stats.waits
    session = mount(tokens, server.api)
    server.revoke_access()
    go = threading.Event()
    server.faults("token", Fault(hold=go))
    first = Crowd(lambda i: session.get(server.api), 1)
    server.wait_for("refresh_calls")
    later = Crowd(lambda i: session.post(f"{server.api}{i}", data=b"x"), 12)
    wait_until(lambda: tokens.stats.waits - before == 13)
    go.set()
    assert [r.status_code for r in first.join() + later.join()] == [200] * 13
    calls = [seen.call for seen in server.log]
    after = server.log[calls.index("token") + 1 :]
    assert len(after) == 13
    assert not any(str(dead) in seen.headers["Authorization"] for seen in after)
    assert server.counts.refreshes == 1
