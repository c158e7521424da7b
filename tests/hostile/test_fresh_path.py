"""The copy that is signed, among inner adapters, requests and threads that make the worst of it."""

from __future__ import annotations

import io
import threading
from collections.abc import Callable
from contextlib import closing
from typing import Any

import pytest
import requests
from requests.adapters import BaseAdapter, HTTPAdapter

from requests_refresh import Bearer, RefreshAdapter, RefreshError, Token, TokenSource
from requests_refresh.testing import AuthServer
from tests.adapter.leaks import ACCESS, CANARY, assert_silent, in_error
from tests.adapter.support import crowd

URL = "https://api.test/"


class Inner(BaseAdapter):
    """Does to each request what it is told to, and answers with the next status."""

    def __init__(self, work: Callable[[requests.PreparedRequest], object], *statuses: int) -> None:
        super().__init__()
        self.work, self.statuses = work, [*statuses]
        self.sent: list[requests.PreparedRequest] = []

    def send(self, request: requests.PreparedRequest, **options: Any) -> requests.Response:  # type: ignore[override]  # as short as users write it
        self.sent.append(request)
        self.work(request)
        response = Closed()
        response.status_code = self.statuses.pop(0) if self.statuses else 200
        response.url, response.request = str(request.url), request
        response.raw = io.BytesIO(b"")
        return response

    def close(self) -> None:
        pass


class Closed(requests.Response):
    """Knows whether it was closed."""

    closed = False

    def close(self) -> None:
        self.closed = True


def issuing(old: Token | None) -> str:
    return f"{CANARY}-issued"


def mounted(inner: BaseAdapter, **options: Any) -> RefreshAdapter:
    tokens = TokenSource(issuing, token=ACCESS)
    tokens.token()
    return RefreshAdapter(tokens, origins=URL, inner=inner, **options)


def prepared(**options: Any) -> requests.PreparedRequest:
    return requests.Session().prepare_request(requests.Request("POST", URL, **options))


def rewrites(request: requests.PreparedRequest) -> None:
    """As an adapter might that signs, caches, or sends elsewhere."""
    request.headers["X-Added"] = "1"
    del request.headers["Content-Type"]
    request.headers = None  # type: ignore[assignment]  # the worst it can do
    request.method, request.url, request.body = "PATCH", "https://other.test/", b"other"
    request.hooks, request._body_position = {}, 7
    request._cookies = None


def test_what_an_inner_does_to_its_request_stays_there() -> None:
    """I10: neither the caller's request nor the second send knows of it."""
    request = prepared(data={"a": "b"}, cookies={"c": "1"})
    headers, held, lines = request.headers, dict(vars(request)), dict(request.headers)
    seen: list[dict[str, Any]] = []

    def work(signed: requests.PreparedRequest) -> None:
        seen.append({**vars(signed), "headers": dict(signed.headers)})
        rewrites(signed)

    inner = Inner(work, 401, 200)
    response = mounted(inner).send(request)
    assert vars(request) == held
    assert request.headers is headers
    assert dict(headers) == lines
    assert response.request is request
    first, second = seen
    assert first["headers"].pop("Authorization") == f"Bearer {ACCESS}"
    assert second["headers"].pop("Authorization") == f"Bearer {CANARY}-issued"
    assert first == second == {**held, "headers": lines}
    assert inner.sent[0] is not inner.sent[1]


def test_a_request_that_an_inner_keeps_is_not_the_callers() -> None:
    """I9, I10: changes to the one after the send do not reach the other, in either direction."""
    inner = Inner(lambda signed: None)
    adapter, request = mounted(inner), prepared()
    adapter.send(request)
    inner.sent[0].headers["X-Late"] = "1"
    request.headers["X-Mine"] = "1"
    assert "X-Late" not in request.headers
    assert "X-Mine" not in inner.sent[0].headers
    assert "Authorization" not in request.headers
    adapter.send(request)
    assert inner.sent[1].headers["X-Mine"] == "1"
    assert "X-Late" not in inner.sent[1].headers


def test_a_signed_request_that_comes_back() -> None:
    """An inner adapter that sends what it was given through the adapter again has the new token."""
    again: list[RefreshAdapter] = []

    def work(signed: requests.PreparedRequest) -> None:
        if len(inner.sent) == 1:
            assert again[0].send(signed).request is signed

    inner = Inner(work, 401, 200, 200)  # the one within is refused
    again.append(mounted(inner))
    request = prepared()
    assert again[0].send(request).request is request
    tokens = [one.headers["Authorization"].split()[1] for one in inner.sent]
    assert tokens == [ACCESS, ACCESS, f"{CANARY}-issued"]
    assert "Authorization" not in request.headers


def test_one_request_sent_by_many_threads_at_once() -> None:
    """I1, I10: one PreparedRequest in eight threads, refused in all: one refresh, and as it was."""
    with AuthServer() as server, closing(server.source()) as tokens, requests.Session() as session:
        session.mount(server.api, RefreshAdapter(tokens, origins=server.api, pool_maxsize=8))
        request = session.prepare_request(
            requests.Request("POST", server.api, json={"a": 1}, headers={"X-Mine": "1"})
        )
        headers, held, lines = request.headers, dict(vars(request)), dict(request.headers)
        assert session.send(request, timeout=10).status_code == 200
        server.revoke_access()
        before = server.counts.refreshes
        responses = crowd(lambda number: session.send(request, timeout=10), 8)
        assert [response.status_code for response in responses] == [200] * 8
        assert all(response.request is request for response in responses)
        assert server.counts.refreshes == before + 1
    assert vars(request) == held
    assert request.headers is headers
    assert dict(headers) == lines


def test_threads_see_no_token_of_each_others() -> None:
    """I10: while one send of a request is under way, another begins from what the caller wrote."""
    met = threading.Barrier(2)
    inner = Inner(lambda signed: met.wait(20))
    adapter, request = mounted(inner), prepared(headers={"X-Mine": "1"})
    crowd(lambda number: adapter.send(request), 2)
    one, other = inner.sent
    assert one.headers is not other.headers
    assert one.headers == other.headers
    assert one.headers["X-Mine"] == "1"
    assert "Authorization" not in request.headers


# --------------------------------------------------------------- no frame shows the token


class Full(requests.PreparedRequest):
    """A request that fails where it is copied."""

    __slots__ = ()

    def __new__(cls, *args: Any) -> Full:
        if not args:
            raise MemoryError("no room for a copy")
        return super().__new__(cls)

    def __init__(self, *args: Any) -> None:
        super().__init__()


def fails(signed: requests.PreparedRequest) -> None:
    kept = signed.headers["Authorization"]  # a local of the user's with the secret in it
    raise ZeroDivisionError(len(kept))


class FailingScheme(Bearer):
    def attach(self, request: requests.PreparedRequest, token: Token) -> None:
        value = token.access_token
        super().attach(request, token)
        raise ZeroDivisionError(len(str(value)))


def failing_request() -> requests.PreparedRequest:
    request = Full(1)
    vars(request).update(vars(prepared()))
    return request


def failing_headers() -> requests.PreparedRequest:
    request = prepared()
    request.headers = None  # type: ignore[assignment]  # made by hand, and not whole
    return request


@pytest.mark.parametrize(
    ("request_of", "inner", "scheme", "kind"),
    [
        (failing_request, Inner(lambda signed: None), None, MemoryError),
        (failing_headers, Inner(lambda signed: None), None, AttributeError),
        (prepared, Inner(fails), None, ZeroDivisionError),
        (prepared, Inner(lambda signed: None), FailingScheme(), ZeroDivisionError),
        (lambda: prepared(headers={"Authorization": "x"}), Inner(fails), None, ZeroDivisionError),
    ],
    ids=["copy", "headers", "inner", "scheme", "after the warning"],
)
def test_no_frame_of_a_failure_shows_the_token(
    request_of: Any, inner: Inner, scheme: Any, kind: type[BaseException]
) -> None:
    """I9: where the copy, the scheme, or what sends fails, the locals on the way are empty."""
    adapter, request = mounted(inner, scheme=scheme), request_of()
    with pytest.raises(kind) as caught:
        adapter.send(request)
    # Functions of this file are the user's code here, so none is passed over.
    trace = caught.value.__traceback__
    names = set()
    while trace is not None:
        frame = trace.tb_frame
        names.add(frame.f_code.co_name)
        if not frame.f_code.co_name.startswith("test_"):
            assert_silent(*(repr(value) for value in frame.f_locals.values()))
            held = [one for one in frame.f_locals.values() if hasattr(one, "headers")]
            assert_silent(*(str(one.headers) for one in held))
        trace = trace.tb_next
    assert "send" in names
    assert "_attempt" not in names, "its frame is left out"
    assert_silent(*in_error(caught.value))


def test_the_search_finds_what_there_is() -> None:
    """Without the adapter, the same failure does show it: the search is no sham."""
    request = prepared(headers={"Authorization": f"Bearer {ACCESS}"})
    with pytest.raises(ZeroDivisionError) as caught:
        Inner(fails).send(request)
    trace = caught.value.__traceback__
    shown = ""
    while trace is not None:
        shown += repr(trace.tb_frame.f_locals.get("kept"))
        trace = trace.tb_next
    assert CANARY in shown


@pytest.mark.parametrize("failure", [ZeroDivisionError("x"), KeyboardInterrupt(), SystemExit(1)])
@pytest.mark.parametrize("at", [0, 1])
def test_a_predicate_that_raises_closes_the_response(failure: BaseException, at: int) -> None:
    """I9, I13: at the first answer or the second, it is closed, and no frame shows the token."""
    seen: list[requests.Response] = []

    def refused(response: requests.Response) -> bool:
        seen.append(response)
        if len(seen) > at:
            raise failure
        return True

    adapter = mounted(Inner(lambda signed: None), scheme=Bearer(refused=refused))
    with pytest.raises(type(failure)) as caught:
        adapter.send(prepared())
    assert caught.value is failure
    assert len(seen) == at + 1
    assert isinstance(seen[-1], Closed)
    assert seen[-1].closed
    assert_silent(*in_error(caught.value))


def test_an_error_of_the_source_shows_no_token() -> None:
    """I9: a refusal whose refresh fails: what `send` raises, its frames and its 401."""

    def down(old: Token | None) -> str:
        known = old and old.access_token
        raise requests.ConnectionError(f"no {known}"[:2])

    with closing(TokenSource(down, token=ACCESS, timeout=2.0)) as tokens:
        adapter = RefreshAdapter(tokens, origins=URL, inner=Inner(lambda signed: None, 401))
        request = prepared()
        with pytest.raises(RefreshError) as caught:
            adapter.send(request)
        assert caught.value.request is request
        assert caught.value.response is not None
        assert caught.value.response.request is request
        assert_silent(*in_error(caught.value))


def test_a_request_elsewhere_is_the_callers_own() -> None:
    """I9: what is not for a declared origin goes on as it is: that very object, with no token."""
    inner = Inner(lambda signed: None)
    request = requests.Session().prepare_request(requests.Request("GET", "https://other.test/"))
    assert mounted(inner).send(request).request is request
    assert inner.sent == [request]
    assert inner.sent[0] is request
    assert "Authorization" not in request.headers


def test_a_subclass_that_sends_for_itself() -> None:
    """`super().send` of a subclass of RefreshAdapter is HTTPAdapter's, with keywords as options."""

    class Logging(RefreshAdapter):
        calls = 0

        def send(self, request: requests.PreparedRequest, *args: Any, **options: Any) -> Any:
            self.calls += 1
            return super().send(request, *args, **options)

    with AuthServer() as server, closing(server.source()) as tokens, requests.Session() as session:
        adapter = Logging(tokens, origins=server.api)
        session.mount(server.api, adapter)
        server.revoke_access()
        assert session.get(server.api, timeout=10).status_code == 200
        assert adapter.calls == 1, "its own sends went through the subclass again"
        assert isinstance(adapter, HTTPAdapter)
