"""What a caller sees: his own request, one final response, cookies as of one exchange."""

from __future__ import annotations

import threading
from typing import Any, cast

import pytest
import requests
from requests.cookies import RequestsCookieJar

from requests_refresh import TokenSource
from requests_refresh.testing import AuthServer, Fault

from .conftest import Mount
from .support import Crowd, Issuer
from .wire import OK, REFUSED, Request, Wire, answering, reply, taking


def facts(request: requests.PreparedRequest) -> dict[str, Any]:
    """All that a PreparedRequest holds, to compare."""
    held = dict(vars(request))
    held["headers"] = dict(request.headers)
    held["hooks"] = {name: list(hooks) for name, hooks in request.hooks.items()}
    held["_cookies"] = [vars(cookie) for cookie in cast(Any, request._cookies)]
    return held


@pytest.mark.parametrize("body", [None, b"bytes", "text", {"a": "form"}, [("a", "b")]], ids=repr)
def test_the_callers_request_is_as_it_was(body: Any, server: AuthServer, mount: Mount) -> None:
    """I10: headers, body, hooks and cookies are the same after a refresh and a resend."""
    session = mount(server.source(), server.api)
    session.cookies.set("mine", "1")
    server.revoke_access()
    request = session.prepare_request(
        requests.Request("POST", server.api, data=body, headers={"X-Mine": "1"})
    )
    headers, jar, hooks = request.headers, request._cookies, request.hooks
    before = facts(request)
    response = session.send(request, timeout=10)
    assert response.status_code == 200
    assert response.request is request
    assert facts(request) == before
    assert request.headers is headers
    assert request._cookies is jar
    assert request.hooks is hooks
    assert "Authorization" not in request.headers
    assert session.send(request, timeout=10).status_code == 200  # and it can be sent again


def test_the_callers_body_stays_on_his_request(server: AuthServer, mount: Mount) -> None:
    """I10: a body that is wrapped to be sent is the caller's own object on his request."""
    session = mount(server.source(), server.api, replay_limit=100)
    server.revoke_access()
    body = iter([b"a", b"b"])
    request = session.prepare_request(requests.Request("POST", server.api, data=body))
    assert session.send(request, timeout=10).status_code == 200
    assert request.body is body


def test_the_callers_own_authorization_stays_on_his_request(
    server: AuthServer, mount: Mount
) -> None:
    """I10: a header that the token replaces on the wire is still on the caller's request."""
    session = mount(server.source(), server.api)
    response = session.get(server.api, headers={"Authorization": "mine"}, timeout=10)
    assert response.status_code == 200
    assert response.request.headers["Authorization"] == "mine"


def test_hooks_see_the_final_response_only(server: AuthServer, mount: Mount) -> None:
    """Response hooks run once, with the answer, and not with the 401 before it."""
    seen: list[int] = []

    def hook(response: requests.Response, *args: Any, **kwargs: Any) -> None:
        seen.append(response.status_code)

    session = mount(server.source(), server.api)
    session.hooks["response"] = hook  # type: ignore[assignment]  # requests takes one alone, too
    server.revoke_access()
    response = session.get(server.api, timeout=10, hooks={"response": hook})
    assert response.history == []
    assert set(seen) == {200}


def test_elapsed_spans_the_wait(server: AuthServer, mount: Mount) -> None:
    """`elapsed` counts from the first send to the answer: the wait for the refresh is in it."""
    tokens = server.source()
    session = mount(tokens, server.api)
    server.revoke_access()
    go = threading.Event()
    server.faults("token", Fault(hold=go))
    waiting = Crowd(lambda i: session.get(server.api, timeout=10), 1)
    server.wait_for("refresh_calls")
    go.wait(0.2)
    go.set()
    (response,) = waiting.join()
    assert response.elapsed.total_seconds() >= 0.2


# ------------------------------------------------------------------ cookies


def with_cookies(refused: list[str], final: list[str]) -> Any:
    """An API whose 401 and whose answer set cookies."""

    def answer(request: Request) -> bytes:
        if request.token == "new-1":
            return reply(200, b"", *(f"Set-Cookie: {line}" for line in final))
        return reply(401, b"", *(f"Set-Cookie: {line}" for line in refused))

    return answering(answer)


COOKIES = [
    # the jar before, the 401's, the final response's -> sent again, the jar after
    ({}, ["a=1"], [], "a=1", {"a": "1"}),
    ({}, ["a=1"], ["a=2"], "a=1", {"a": "2"}),
    ({}, ["a=1"], ["b=2"], "a=1", {"a": "1", "b": "2"}),
    ({}, ["a=1; Path=/", "b=2"], [], "a=1; b=2", {"a": "1", "b": "2"}),
    ({}, ["a=1"], ["a=; Max-Age=0"], "a=1", {}),
    ({}, ["a=1; Path=/"], ["a=2; Max-Age=0; Path=/"], "a=1", {}),
    ({"a": "0"}, ["a=1"], [], "a=1", {"a": "1"}),
    ({"a": "0"}, ["a=; Max-Age=0"], [], None, {}),
    ({"a": "0"}, ["a=; Max-Age=0"], ["a=3"], None, {"a": "3"}),
    ({"a": "0", "c": "9"}, ["a=; Max-Age=0"], [], "c=9", {"c": "9"}),
    ({"a": "0"}, [], ["b=1"], "a=0", {"a": "0", "b": "1"}),
    ({}, ["a=1; Path=/elsewhere"], [], None, {"a": "1"}),
    ({}, ["a=1; Domain=elsewhere.test"], [], None, {}),
    ({}, [";", "; Path", ""], [], None, {}),
]


@pytest.mark.parametrize(("jar", "refused", "final", "again", "after"), COOKIES)
def test_cookies_of_a_refusal(
    jar: dict[str, str],
    refused: list[str],
    final: list[str],
    again: str | None,
    after: dict[str, str],
    mount: Mount,
) -> None:
    """A 401's cookies go with the resend and reach the session; the final response's win."""
    with Wire(with_cookies(refused, final)) as wire:
        session = mount(TokenSource(Issuer(), token="old"), wire.url)
        for name, value in jar.items():
            session.cookies.set(name, value, domain="127.0.0.1", path="/")
        assert session.get(wire.url, timeout=10).status_code == 200
        assert wire.requests[1].headers.get("Cookie") == again
        assert dict(session.cookies) == after


def test_cookies_of_two_refusals_add_up(mount: Mount) -> None:
    """A resend after the second 401 has the cookies of both."""
    refusals = iter([reply(401, b"", "Set-Cookie: a=1"), reply(401, b"", "Set-Cookie: b=2")])
    tokens = TokenSource(Issuer(), token="old")
    with Wire(answering(lambda request: next(refusals, OK))) as wire:
        session = mount(tokens, wire.url)
        tokens.token()
        real = tokens._renew
        adopted = iter([tokens.login])

        def renew(stale: Any, deadline: float, *, may_start: bool = True) -> Any:
            for login in adopted:
                login("adopted")  # somebody logs in while the first 401 is on its way
            return real(stale, deadline, may_start=may_start)

        tokens._renew = renew  # type: ignore[method-assign]  # the interleaving that is tested
        assert session.get(wire.url, timeout=10).status_code == 200
        assert [request.token for request in wire.requests] == ["old", "adopted", "new-1"]
        assert wire.requests[2].headers["Cookie"] == "a=1; b=2"
        assert dict(session.cookies) == {"a": "1", "b": "2"}


def test_a_cookie_header_by_hand_is_left_alone(mount: Mount) -> None:
    """A Cookie header that the caller wrote goes again as he wrote it; the session learns."""
    with Wire(with_cookies(["a=1"], [])) as wire:
        session = mount(TokenSource(Issuer(), token="old"), wire.url)
        session.cookies.set("a", "0", domain="127.0.0.1", path="/")
        session.get(wire.url, headers={"Cookie": "mine=1"}, timeout=10)
        assert [request.headers["Cookie"] for request in wire.requests] == ["mine=1"] * 2
        assert session.cookies["a"] == "1"


def test_cookies_without_a_session(mount: Mount) -> None:
    """A request that no session has prepared has no jar; the 401's cookie goes with its resend."""
    with Wire(with_cookies(["a=1"], [])) as wire:
        session = mount(TokenSource(Issuer(), token="old"), wire.url)
        request = requests.Request("GET", wire.url).prepare()
        request._cookies = None
        adapter: Any = session.get_adapter(wire.url)
        adapter.send(request, timeout=10)
        assert wire.requests[1].headers["Cookie"] == "a=1"


def test_the_cookies_of_one_request_stay_with_it(mount: Mount) -> None:
    """cookies= of one request goes again with it and does not enter the session."""
    with Wire(taking("new-1", refused=REFUSED)) as wire:
        session = mount(TokenSource(Issuer(), token="old"), wire.url)
        session.get(wire.url, cookies={"once": "1"}, timeout=10)
        assert [request.headers["Cookie"] for request in wire.requests] == ["once=1"] * 2
        assert dict(session.cookies) == {}
        assert isinstance(session.cookies, RequestsCookieJar)
