"""I8: what a request sees of a provider that is down: nothing, while its token lives."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import requests

from requests_refresh import RefreshTokenGrant, RefreshUnavailable, TokenSource
from requests_refresh.testing import AuthServer, Fault

from .conftest import Mount
from .support import Crowd, advance, crowd, stop_clock, wait_until

Send = Callable[[int], int]
KINDS = ["503", "refused", "silent"]


@pytest.fixture
def go() -> Iterator[threading.Event]:
    """What a silent provider waits for; in the end it speaks."""
    event = threading.Event()
    yield event
    event.set()


def down(kind: str, server: AuthServer, go: threading.Event, **options: Any) -> TokenSource:
    """A source whose provider is out of order from its first refresh on."""
    options.setdefault("grant", server.grant())
    if kind == "refused":
        with socket.socket() as free:  # bound, and nobody listens
            free.bind(("127.0.0.1", 0))
            url = f"http://127.0.0.1:{free.getsockname()[1]}/token"
        options["grant"] = RefreshTokenGrant(url, client_id="test")
    elif kind == "503":
        server.faults("token", Fault(status=503, headers={"Retry-After": "20"}), times=None)
    else:
        server.faults("token", Fault(hold=go), times=None)
    return server.source(**options)


def sends(session: requests.Session, url: str) -> dict[str, Send]:
    """Ways to send a request; what comes is its status."""
    return {
        "plain": lambda i: session.get(f"{url}{i}", timeout=30).status_code,
        "one-shot": lambda i: session.post(f"{url}{i}", data=iter([b"a"])).status_code,
    }


def nudge(tokens: TokenSource) -> None:
    """Have who waits look at the clock."""
    with tokens._gate._changed:
        tokens._gate._changed.notify_all()


@pytest.mark.parametrize("background", [True, False])
@pytest.mark.parametrize("kind", KINDS)
def test_with_a_living_token_no_request_fails_and_none_waits(
    kind: str, background: bool, server: AuthServer, mount: Mount, go: threading.Event
) -> None:
    """Provider down, token alive: no error, no wait, one-shot bodies too, from the second on."""
    server.lifetime = 100.0
    tokens = down(kind, server, go, ahead=50, background=background)
    session = mount(tokens, server.api)
    ways = sends(session, server.api)
    assert ways["plain"](0) == 200
    stop_clock(tokens)
    advance(tokens, 55)
    first = Crowd(ways["one-shot"], 1)  # it is the one that finds out
    if kind == "silent":
        wait_until(lambda: repr(tokens._gate) == "<Gate renewing, 1 waiting>")
        advance(tokens, 1)
        nudge(tokens)
    assert first.join() == [200]
    if kind != "silent":
        tokens.close()  # it went on before the round had ended
    before = tokens.stats
    for _ in range(2):
        for way in ways.values():
            assert crowd(way, 6) == [200] * 6
    after = tokens.stats
    assert (after.waits, after.failures) == (before.waits, before.failures)
    assert after.replays == 0
    if kind != "refused":
        assert server.counts.refreshes == 0


def test_with_a_dead_token_all_are_let_go_by_the_first_slow_failure(
    server: AuthServer, mount: Mount, go: threading.Event
) -> None:
    """I3: each gets an error of its own, with its 401, while the second try is on its way."""
    slow, logouts = threading.Event(), list[object]()
    tokens = server.source(on_logout=lambda source, error: logouts.append(error))
    session = mount(tokens, server.api)
    send = sends(session, server.api)["plain"]
    assert send(0) == 200
    stop_clock(tokens)
    server.revoke_access()
    server.faults("token", Fault(hold=slow, reply="reset"), at=1)
    server.faults("token", Fault(hold=go), at=2)
    waits = tokens.stats.waits
    waiting = Crowd(send, 6)
    wait_until(lambda: tokens.stats.waits == waits + 6)
    advance(tokens, 5)
    slow.set()
    errors = waiting.join()
    assert [type(error) for error in errors] == [RefreshUnavailable] * 6
    assert len({id(error) for error in errors}) == 6
    assert all(error.response.status_code == 401 for error in errors)
    assert all(error.response.url == error.request.url for error in errors)
    for error in crowd(send, 6):  # who comes later does not wait
        assert isinstance(error, RefreshUnavailable)
        assert error.response is not None
        assert error.response.status_code == 401
    assert tokens.stats.waits == waits + 6
    assert server.counts.refreshes == 0
    go.set()
    tokens.close()
    assert crowd(send, 6) == [200] * 6
    assert (server.counts.refreshes, server.counts.refresh_calls) == (1, 2)
    assert (tokens.stats.refreshes, tokens.stats.failures) == (1, 0)
    assert logouts == []


def test_with_a_dead_token_later_rounds_hold_up_for_a_second_each(
    server: AuthServer, mount: Mount, go: threading.Event
) -> None:
    """In the round after a failure: one call, a short wait for the first, none for the others."""
    slow = threading.Event()
    fault = Fault(hold=slow, status=503, headers={"Retry-After": "20"})
    tokens = server.source()
    session = mount(tokens, server.api)
    ways = sends(session, server.api)
    assert ways["plain"](0) == 200
    stop_clock(tokens)
    server.revoke_access()
    server.faults("token", fault, at=1)
    server.faults("token", Fault(hold=go), times=None)
    waits = tokens.stats.waits
    waiting = Crowd(ways["plain"], 3)
    wait_until(lambda: tokens.stats.waits == waits + 3)
    advance(tokens, 5)
    slow.set()
    assert [type(error) for error in waiting.join()] == [RefreshUnavailable] * 3
    tokens.close()
    advance(tokens, 21)
    waits = tokens.stats.waits  # who began when the round was there has waited before his send too
    waiting = Crowd(ways["plain"], 3)
    wait_until(lambda: tokens.stats.waits == waits + 3)
    advance(tokens, 1)
    nudge(tokens)
    errors = waiting.join() + crowd(ways["plain"], 3)
    assert [type(error) for error in errors] == [RefreshUnavailable] * 6
    assert all(error.response.status_code == 401 for error in errors)
    assert crowd(ways["one-shot"], 3) == [401] * 3  # the API's own answer
    assert (tokens.stats.waits, server.counts.refresh_calls) == (waits + 3, 2)
    go.set()
    tokens.close()
    assert crowd(ways["one-shot"], 3) == [200] * 3
    assert (server.counts.refreshes, server.counts.reuses) == (1, 0)
