"""I13: connections: none leaked, none held while waiting, and the refusal's given back."""

from __future__ import annotations

import gzip
import threading
from collections.abc import Callable
from typing import Any

import pytest
import requests
from urllib3.response import HTTPResponse

from requests_refresh import Bearer, RefreshTimeout, Token, TokenSource, anonymous, replay
from requests_refresh.testing import AuthServer, Fault

from .conftest import Mount
from .support import Crowd, Issuer, crowd
from .wire import OK, PATIENCE, PEM, REFUSED, Connection, Wire, reply, taking

CHALLENGE = 'WWW-Authenticate: Bearer error="invalid_token"'
CHUNKED = reply(
    401,
    b"3\r\nref\r\n4\r\nused\r\n0\r\n\r\n",
    CHALLENGE,
    "Transfer-Encoding: chunked",
    length=False,
)
GZIPPED = reply(401, gzip.compress(b"refused"), CHALLENGE, "Content-Encoding: gzip")
SMALL = {
    "small": REFUSED,
    "empty": reply(401),
    "chunked": CHUNKED,
    "gzip": GZIPPED,
    "64 KiB less one": reply(401, b"x" * 65535),
}
LARGE = {
    "64 KiB and one": reply(401, b"x" * 65537),
    "10 MB": reply(401, b"x" * 10_000_000),
    "until the end": reply(401, b"refused", "Connection: close", length=False),
    "closed": reply(401, b"refused", CHALLENGE, "Connection: close"),
}


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST"])
@pytest.mark.parametrize("refused", SMALL.values(), ids=SMALL.keys())
def test_a_small_401_gives_its_connection_back(refused: bytes, method: str, mount: Mount) -> None:
    """I13: the second send goes over the connection of the first, also with one and no more."""
    if method == "HEAD":
        refused = refused.partition(b"\r\n\r\n")[0] + b"\r\n\r\n"
    ok = reply(204, length=False) if method == "HEAD" else OK
    with Wire(taking("new-1", refused=refused, ok=ok)) as wire:
        session = mount(
            TokenSource(Issuer(), token="old"), wire.url, pool_block=True, pool_maxsize=1
        )
        for _ in range(2):
            assert session.request(method, wire.url, timeout=10).status_code in (200, 204)
        assert wire.connections == 1
        assert [request.token for request in wire.requests] == ["old", "new-1", "new-1"]


@pytest.mark.parametrize("refused", LARGE.values(), ids=LARGE.keys())
def test_a_large_401_is_not_read_to_its_end(
    refused: bytes, mount: Mount, monkeypatch: pytest.MonkeyPatch
) -> None:
    """I13: what is too long to read, or ends its connection, holds no place in the pool."""
    monkeypatch.setattr(replay, "_LONGEST_READ", 0.2)  # one of them does not end
    with Wire(taking("new-1", refused=refused)) as wire:
        session = mount(
            TokenSource(Issuer(), token="old"), wire.url, pool_block=True, pool_maxsize=1
        )
        for _ in range(2):
            assert session.get(wire.url, timeout=10).status_code == 200
        assert wire.connections == 2


def staying_silent(head: bytes) -> Callable[[Connection], None]:
    """Refuses the old token with `head`, and then says nothing until the test ends."""

    def serve(connection: Connection) -> None:
        while (request := connection.request()) is not None:
            if request.token == "new-1":
                connection.send(OK)
            else:
                connection.send(head)
                connection.wire.tired += not connection.wire.closing.wait(PATIENCE)
                return

    return serve


def dripping(head: bytes) -> Callable[[Connection], None]:
    """Refuses the old token with `head`, and then a byte at a time until the test ends."""

    def serve(connection: Connection) -> None:
        while (request := connection.request()) is not None:
            if request.token == "new-1":
                connection.send(OK)
                continue
            connection.send(head)
            while not connection.wire.closing.wait(0.01):
                connection.send(b"x")
            return

    return serve


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
@pytest.mark.parametrize("timeout", [None, 15.0])
@pytest.mark.parametrize("close", [(), ("Connection: close",)], ids=["keep", "close"])
@pytest.mark.parametrize("manner", [staying_silent, dripping])
def test_a_401_that_never_ends_is_left(
    manner: Callable[[bytes], Callable[[Connection], None]],
    close: tuple[str, ...],
    timeout: float | None,
    tls: bool,
    mount: Mount,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """I13: a 401 whose body drips, or never comes, is left, whatever the caller's timeout."""
    monkeypatch.setattr(replay, "_LONGEST_READ", 0.1)
    head = reply(401, b"", CHALLENGE, "Content-Length: 5000", *close, length=False)
    with Wire(manner(head), tls=tls) as wire:
        session = mount(
            TokenSource(Issuer(), token="old"), wire.url, pool_block=True, pool_maxsize=1
        )
        for _ in range(2):
            response = session.get(wire.url, timeout=timeout, verify=str(PEM))
            assert response.status_code == 200
        assert wire.connections == 2  # and the first is open yet
        assert not wire.closing.is_set()


def test_a_401_is_read_no_longer_than_the_budget(
    mount: Mount, monkeypatch: pytest.MonkeyPatch
) -> None:
    """I5: reading a refusal counts as waiting: both end at the source's timeout."""
    monkeypatch.setattr(replay, "_LONGEST_READ", 2 * PATIENCE)
    go = threading.Event()

    def slow(old: Token | None) -> str:
        assert go.wait(PATIENCE)
        return "new-1"

    head = reply(401, b"", CHALLENGE, "Content-Length: 5000", length=False)
    with Wire(staying_silent(head)) as wire:
        tokens = TokenSource(slow, token="old", timeout=0.1)
        session = mount(tokens, wire.url, pool_block=True, pool_maxsize=1)
        with pytest.raises(RefreshTimeout) as caught:
            session.get(wire.url)
        go.set()
        assert caught.value.response is not None
        assert caught.value.response.content == b""
        assert wire.tired == 0


def test_no_connection_is_held_while_waiting(server: AuthServer, mount: Mount) -> None:
    """I13: while a request waits for a round, the only connection of the pool is free."""
    tokens = server.source()
    session = mount(tokens, server.api, pool_block=True, pool_maxsize=1)
    server.revoke_access()
    go = threading.Event()
    server.faults("token", Fault(hold=go))
    waiting = Crowd(lambda i: session.get(server.api, timeout=10), 1)
    server.wait_for("refresh_calls")
    assert session.get(server.api, auth=anonymous, timeout=10).status_code == 401
    go.set()
    assert waiting.join()[0].status_code == 200
    assert server.counts.connections == 2  # one of them the refresh's own


def test_a_pool_of_one_serves_a_crowd(server: AuthServer, mount: Mount) -> None:
    """I13: 16 threads that share one connection go through an expiry."""
    session = mount(server.source(), server.api, pool_block=True, pool_maxsize=1)
    server.revoke_access()
    responses = crowd(lambda i: session.get(f"{server.api}{i}", timeout=10), 16)
    assert [response.status_code for response in responses] == [200] * 16
    assert server.counts.refreshes == 1
    assert server.counts.connections == 2


def test_the_untouched_401_of_a_one_shot_body_holds_its_connection_until_it_is_read(
    server: AuthServer, mount: Mount
) -> None:
    """I13: a streamed 401 that is handed on is like any streamed response."""
    session = mount(server.source(), server.api, pool_block=True, pool_maxsize=1)
    server.revoke_access()
    with session.post(server.api, data=iter([b"x"]), stream=True, timeout=10) as response:
        assert response.status_code == 401
        assert b"".join(response.iter_content(4)) == b'{"error": "invalid_token"}'
    assert session.get(server.api, timeout=10).status_code == 200


def test_a_connection_given_back_is_no_longer_touched(
    mount: Mount, monkeypatch: pytest.MonkeyPatch
) -> None:
    """I13: once the refusal's connection is in the pool, its timeout is another thread's."""
    given_back: list[Any] = []
    real = HTTPResponse.release_conn

    def release_conn(response: HTTPResponse) -> None:
        connection = response.connection
        real(response)
        if connection is not None and not given_back:
            connection.sock.settimeout(17.0)  # as the next thread would, that very moment
            given_back.append(connection)
            taken.append(connection.sock)

    taken: list[Any] = []
    monkeypatch.setattr(HTTPResponse, "release_conn", release_conn)
    with Wire(taking("new-1", refused=REFUSED)) as wire:
        session = mount(TokenSource(Issuer(), token="old"), wire.url)
        response = session.get(wire.url, stream=True, timeout=10, auth=anonymous)
        replay.release(response, 1.0)
        assert taken[0].gettimeout() == 17.0
        assert response.content == b"refused"


def test_ctrl_c_while_a_refusal_is_read_gives_the_connection_back(
    mount: Mount, monkeypatch: pytest.MonkeyPatch
) -> None:
    """I13: a KeyboardInterrupt in the middle of the 401 leaves no connection behind."""
    real = HTTPResponse.read1
    hits: list[bool] = []

    def read1(response: HTTPResponse, *args: Any, **kwargs: Any) -> bytes:
        if not hits:
            hits.append(True)
            raise KeyboardInterrupt
        return real(response, *args, **kwargs)

    monkeypatch.setattr(HTTPResponse, "read1", read1)
    with Wire(taking("new-1")) as wire:
        session = mount(
            TokenSource(Issuer(), token="old"), wire.url, pool_block=True, pool_maxsize=1
        )
        with pytest.raises(KeyboardInterrupt):
            session.get(wire.url, timeout=10)
        assert session.get(wire.url, timeout=10).status_code == 200


def test_a_predicate_that_fails_gives_the_connection_back(mount: Mount) -> None:
    """I13: what a `refused` of the user's raises reaches the caller, with no connection held."""
    answers = [ZeroDivisionError(), KeyboardInterrupt()]

    def refused(response: requests.Response) -> bool:
        if answers:
            raise answers.pop(0)
        return False

    with Wire(taking("old")) as wire:
        session = mount(
            TokenSource(Issuer(), token="old"),
            wire.url,
            scheme=Bearer(refused=refused),
            pool_block=True,
            pool_maxsize=1,
        )
        for expected in (ZeroDivisionError, KeyboardInterrupt):
            with pytest.raises(expected):
                session.get(wire.url, timeout=10)
        assert session.get(wire.url, timeout=10).status_code == 200


def test_a_response_without_a_connection_is_left_alone() -> None:
    """A refusal that no pool sent, as test tools make them, is not touched."""
    response = requests.Response()
    replay.release(response, 1.0)
    assert response.raw is None
