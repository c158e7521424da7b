"""I9: proxies: a token over plain http reaches none; over https it goes through a tunnel."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator

import pytest
import requests

from requests_refresh import TokenSource, anonymous

from .conftest import Mount
from .support import Issuer
from .wire import OK, PEM, Connection, Wire, answering, reply, taking


def proxying(connection: Connection) -> None:
    """A proxy: tunnels what asks for one by CONNECT, answers all else itself."""
    while (request := connection.request()) is not None:
        if request.method != "CONNECT":
            connection.send(reply(200, b"the proxy"))
            continue
        host, _, port = request.target.rpartition(":")
        with socket.create_connection((host, int(port)), 10) as far:
            connection.send(b"HTTP/1.1 200 Go\r\n\r\n")
            back = threading.Thread(target=pump, args=(far, connection.sock), daemon=True)
            back.start()
            pump(connection.sock, far)
            back.join(10)
        return


def pump(source: socket.socket, target: socket.socket) -> None:
    try:
        while data := source.recv(65536):
            target.sendall(data)
    except OSError:
        pass
    finally:
        for sock in (source, target):
            with contextlib.suppress(OSError):  # it is closed already
                sock.shutdown(socket.SHUT_RDWR)


@pytest.fixture
def proxy() -> Iterator[Wire]:
    with Wire(proxying) as wire:
        yield wire


@pytest.fixture(params=["environment", "session", "request"])
def proxied(
    request: pytest.FixtureRequest, proxy: Wire, monkeypatch: pytest.MonkeyPatch
) -> tuple[str, dict[str, str]]:
    """A proxy for everything, given in one of three ways."""
    found = {"http": proxy.url, "https": proxy.url}
    if request.param == "environment":
        for scheme in found:
            monkeypatch.setenv(f"{scheme}_proxy", proxy.url)
    return request.param, found


def apply(session: requests.Session, proxied: tuple[str, dict[str, str]]) -> dict[str, str] | None:
    way, proxies = proxied
    if way == "session":
        session.proxies = proxies
    return proxies if way == "request" else None


def test_plain_http_goes_past_every_proxy(
    proxied: tuple[str, dict[str, str]], proxy: Wire, mount: Mount
) -> None:
    """I9: a request to loopback over plain http, its refresh and resend too, uses no proxy."""
    with Wire(taking("new-1")) as api:
        session = mount(TokenSource(Issuer(), token="canary"), api.url)
        proxies = apply(session, proxied)
        response = session.get(api.url, proxies=proxies, timeout=10)
        assert response.content == b"fine"
        assert [request.token for request in api.requests] == ["canary", "new-1"]
    assert proxy.requests == []


def test_https_goes_through_a_tunnel(
    proxied: tuple[str, dict[str, str]], proxy: Wire, mount: Mount
) -> None:
    """I9: over https the proxy sees the name and the port, and no header of the request."""
    with Wire(taking("new-1"), tls=True) as api:
        session = mount(TokenSource(Issuer(), token="canary"), api.url)
        proxies = apply(session, proxied)
        response = session.get(api.url, proxies=proxies, verify=str(PEM), timeout=10)
        assert response.content == b"fine"
        assert [request.token for request in api.requests] == ["canary", "new-1"]
        session.close()
    assert {request.method for request in proxy.requests} == {"CONNECT"}
    assert "canary" not in str(proxy.requests)
    assert "new-1" not in str(proxy.requests)


def test_requests_that_are_none_of_ours_keep_their_proxies(
    proxied: tuple[str, dict[str, str]], proxy: Wire, mount: Mount
) -> None:
    """A request that goes without a token, by `anonymous` or to elsewhere, is left as it is."""
    with Wire(answering(lambda request: OK)) as api, Wire(answering(lambda r: OK)) as other:
        session = mount(TokenSource(Issuer(), token="canary"), api.url, everywhere=True)
        proxies = apply(session, proxied)
        for url, auth in ((api.url, anonymous), (other.url, None)):
            response = session.get(url, auth=auth, proxies=proxies, timeout=10)
            assert response.content == b"the proxy"
    assert "canary" not in str(proxy.requests)


def test_a_407_is_an_ordinary_response(mount: Mount) -> None:
    """A proxy's own refusal is no refusal of the token."""
    issuer = Issuer()
    with Wire(answering(lambda request: reply(407, b"who are you?"))) as api:
        session = mount(TokenSource(issuer, token="canary"), api.url)
        assert session.get(api.url, timeout=10).status_code == 407
    assert issuer.calls == 0
