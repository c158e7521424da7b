"""The adapter as an HTTPAdapter: its options, timeouts, `inner` adapters, close, bad settings."""

from __future__ import annotations

import importlib
import io
from typing import Any

import pytest
import requests
from requests.adapters import BaseAdapter, HTTPAdapter
from urllib3.util import Retry, Timeout

from requests_refresh import ConfigurationError, LoginRequired, RefreshAdapter, TokenSource
from requests_refresh.testing import AuthServer
from tests.adapter.support import name_of

from .conftest import Mount
from .support import Issuer
from .wire import OK, RESET, Connection, Wire, answering, reply, taking


def source() -> TokenSource:
    return TokenSource(Issuer(), token="old")


# ------------------------------------------------------- HTTPAdapter's options


def test_options_are_http_adapters(server: AuthServer, mount: Mount) -> None:
    """Every option of HTTPAdapter is taken and has its effect on the pool."""
    retry = Retry(2)
    session = mount(
        server.source(),
        server.api,
        pool_connections=3,
        pool_maxsize=4,
        max_retries=retry,
        pool_block=True,
    )
    adapter: Any = session.get_adapter(server.api)
    assert (adapter._pool_connections, adapter._pool_maxsize, adapter._pool_block) == (3, 4, True)
    assert adapter.max_retries is retry
    assert adapter.poolmanager.connection_pool_kw["maxsize"] == 4


def test_an_unknown_option_is_refused() -> None:
    """What HTTPAdapter does not know, this does not either."""
    with pytest.raises(TypeError):
        RefreshAdapter(source(), origins="https://a.test", pool_size=3)


@pytest.mark.parametrize(
    "settings",
    [
        {"tokens": "a token"},
        {"tokens": None},
        {"replay_limit": -1},
        {"replay_limit": 1.5},
        {"replay_limit": True},
        {"replay_limit": "1"},
        {"inner": "http"},
        {"inner": HTTPAdapter(), "pool_maxsize": 3},
        {"max_retries": Retry(1, status_forcelist=[500, 401])},
        {"max_retries": Retry(1, status_forcelist={401})},
        {"inner": HTTPAdapter(max_retries=Retry(1, status_forcelist=[401]))},
    ],
    ids=name_of,
)
def test_settings_that_cannot_be_right(settings: dict[str, Any]) -> None:
    """Each is a ConfigurationError at construction, which is a ValueError too."""
    given = {"tokens": source(), "origins": "https://a.test", **settings}
    with pytest.raises(ConfigurationError) as caught:
        RefreshAdapter(given.pop("tokens"), **given)
    assert isinstance(caught.value, ValueError)


def test_other_statuses_may_be_forced() -> None:
    """A status_forcelist without 401 is the user's own affair."""
    retry = Retry(1, status_forcelist=[500, 502])
    assert RefreshAdapter(source(), origins="https://a.test", max_retries=retry).max_retries


def test_urllib3s_retries_send_the_signed_request_again(mount: Mount) -> None:
    """max_retries goes on to work: a reset connection is tried again with the token."""
    answers = iter([RESET, reply(503)])
    retry = Retry(3, status_forcelist=[503], backoff_factor=0)
    with Wire(answering(lambda request: next(answers, OK))) as wire:
        session = mount(source(), wire.url, max_retries=retry)
        assert session.get(wire.url, timeout=10).status_code == 200
        assert [request.token for request in wire.requests] == ["old"] * 3


def test_a_connection_error_is_no_refusal(mount: Mount) -> None:
    """A connection that is reset starts no refresh."""
    issuer = Issuer()
    with Wire(answering(lambda request: RESET)) as wire:
        session = mount(TokenSource(issuer, token="old"), wire.url)
        with pytest.raises(requests.ConnectionError):
            session.get(wire.url, timeout=10)
    assert issuer.calls == 0


# ---------------------------------------------------------------------- timeouts

TIMEOUTS: list[Any] = [10, 10.0, (5, 10), (None, 10), Timeout(connect=5, read=10), None]


@pytest.mark.parametrize("timeout", TIMEOUTS, ids=repr)
def test_timeouts_of_every_kind(timeout: Any, server: AuthServer, mount: Mount) -> None:
    """A float, a tuple, urllib3's or none, on both sends."""
    session = mount(server.source(), server.api)
    server.revoke_access()
    assert session.get(server.api, timeout=timeout).status_code == 200


def test_a_bare_session_send_has_no_timeout(server: AuthServer, mount: Mount) -> None:
    """Session.send with nothing else: no timeout, no proxies, and it works."""
    session = mount(server.source(), server.api)
    server.revoke_access()
    request = requests.Request("GET", server.api).prepare()
    assert session.send(request).status_code == 200
    adapter: Any = session.get_adapter(server.api)
    assert adapter.send(request).status_code == 200  # not even what Session.send adds


@pytest.mark.parametrize("timeout", [0.2, (5, 0.2), Timeout(read=0.2)], ids=repr)
def test_each_send_keeps_the_callers_timeout(timeout: Any, mount: Mount) -> None:
    """I5: the resend has the timeout of the first send, and ends as a ReadTimeout."""

    def serve(connection: Connection) -> None:
        while (request := connection.request()) is not None:
            if request.token == "new-1":
                connection.wire.closing.wait(20)
                return
            connection.send(reply(401))

    with Wire(serve) as wire:
        session = mount(source(), wire.url)
        with pytest.raises(requests.ReadTimeout):
            session.get(wire.url, timeout=timeout)
        assert [request.token for request in wire.requests] == ["old", "new-1"]


# ------------------------------------------------------------------------- inner


class Minimal(BaseAdapter):
    """As little as an adapter can be: what it is given, it answers from a list."""

    def __init__(self, *statuses: int) -> None:
        super().__init__()
        self.statuses = list(statuses)
        self.sent: list[str | bytes | None] = []
        self.closed = False

    def send(
        self,
        request: requests.PreparedRequest,
        stream: bool = False,
        timeout: Any = None,
        verify: Any = True,
        cert: Any = None,
        proxies: Any = None,
    ) -> requests.Response:
        self.sent.append(request.headers.get("Authorization"))
        response = requests.Response()
        response.status_code = self.statuses.pop(0)
        response.url = str(request.url)
        response.raw = io.BytesIO(b"body")
        response.request = request
        return response

    def close(self) -> None:
        self.closed = True


def test_a_minimal_inner_does_the_sending(mount: Mount) -> None:
    """Any BaseAdapter sends, and has no pool, no urllib3 response, no headers to offer."""
    inner = Minimal(401, 200)
    session = mount(source(), "https://a.test/", inner=inner)
    response = session.get("https://a.test/x")
    assert response.content == b"body"
    assert inner.sent == ["Bearer old", "Bearer new-1"]
    assert "Authorization" not in response.request.headers


def test_the_refusal_of_a_minimal_inner_is_handed_on(mount: Mount) -> None:
    """The 401 of an inner that has no pool stays readable on the error."""

    def over(old: object) -> str:
        raise LoginRequired("over")

    session = mount(TokenSource(over, token="old"), "https://a.test/", inner=Minimal(401))
    with pytest.raises(LoginRequired) as caught:
        session.get("https://a.test/", stream=True)
    assert caught.value.response is not None
    assert caught.value.response.content == b"body"


def test_close_leaves_inner_open(server: AuthServer, mount: Mount) -> None:
    """close() closes the adapter's own pools; an inner may be shared."""
    inner = Minimal(200)
    session = mount(source(), "https://a.test/", inner=inner)
    session.close()
    assert not inner.closed
    pool = HTTPAdapter()
    for _ in range(2):
        other = mount(server.source(), server.api, inner=pool)
        assert other.get(server.api, timeout=10).status_code == 200
        other.close()
    assert server.counts.connections == 1  # the second went over the first one's connection
    pool.close()


def test_close_closes_what_is_its_own(server: AuthServer, mount: Mount) -> None:
    """close() ends the pooled connections; the adapter opens others when it is used again."""
    session = mount(server.source(), server.api)
    session.get(server.api, timeout=10)
    session.close()
    server.wait_for(lambda counts: counts.connections_open == 0)
    assert session.get(server.api, timeout=10).status_code == 200


def test_requests_elsewhere_go_through_inner_too(mount: Mount) -> None:
    """What is none of our origins is sent by inner, untouched."""
    inner = Minimal(401)
    session = mount(source(), "https://a.test/", everywhere=True, inner=inner)
    assert session.get("https://b.test/").status_code == 401
    assert inner.sent == [None]


def test_an_origin_of_inners_own_scheme(mount: Mount) -> None:
    """With inner, a scheme of its own is an origin: it knows where that leads to."""
    inner = Minimal(200, 200)
    tokens = source()
    adapter = RefreshAdapter(tokens, origins="http+unix://%2Frun%2Fapi.sock/", inner=inner)
    for url in ("http+unix://%2Frun%2Fapi.sock/x", "http+unix://%2Frun%2Fother.sock/x"):
        request = requests.PreparedRequest()
        request.prepare(method="GET", url="https://a.test/")
        request.url = url
        adapter.send(request)
    assert inner.sent == ["Bearer old", None]
    with pytest.raises(ConfigurationError):  # and http stays what it is
        RefreshAdapter(tokens, origins="http://a.test/", inner=inner)


def test_an_inner_http_adapter_works_as_a_pool_of_its_own(server: AuthServer, mount: Mount) -> None:
    """I13: another HTTPAdapter sends; its 401's connection is given back to its pool."""
    inner = HTTPAdapter(pool_maxsize=1, pool_block=True)
    session = mount(server.source(), server.api, inner=inner)
    server.revoke_access()
    assert session.get(server.api, timeout=10).status_code == 200
    assert server.counts.connections == 2  # one of them the refresh's
    inner.close()


def test_the_responses_library_sees_a_mounted_session(mount: Mount) -> None:
    """`responses`, which stands in for HTTPAdapter.send, answers below the adapter."""
    responses: Any = importlib.import_module("responses")
    session = mount(source(), "https://a.test/")
    with responses.RequestsMock() as mock:
        mock.add("GET", "https://a.test/x", status=401)
        mock.add("GET", "https://a.test/x", json={"a": 1})
        assert session.get("https://a.test/x").json() == {"a": 1}
        sent = [call.request.headers["Authorization"] for call in mock.calls]
        assert sent == ["Bearer old", "Bearer new-1"]


def test_a_session_without_a_token_says_login(mount: Mount) -> None:
    """With nothing stored and a grant that declines, the request is not sent."""

    def declines(old: object) -> str:
        raise LoginRequired("log in")

    with Wire(taking("old")) as wire:
        session = mount(TokenSource(declines), wire.url)
        with pytest.raises(LoginRequired):
            session.get(wire.url, timeout=10)
        assert wire.requests == []


@pytest.mark.parametrize("inner", [None, HTTPAdapter()], ids=["alone", "inner"])
def test_a_response_knows_its_adapter(
    inner: HTTPAdapter | None, server: AuthServer, mount: Mount
) -> None:
    """response.connection is the adapter, so that who sends again by it sends with a token."""
    session = mount(server.source(), server.api, inner=inner)
    response: Any = session.get(server.api, timeout=10)
    assert response.connection is session.get_adapter(server.api)
    again = response.connection.send(response.request.copy(), timeout=10)
    assert again.status_code == 200
    assert again.content
    if inner is not None:
        inner.close()
