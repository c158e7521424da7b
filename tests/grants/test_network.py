"""What the network and those in between can do to a refresh, and how long it may take."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from requests_refresh import RefreshRefused, RefreshTokenGrant, RefreshUnavailable, Token
from requests_refresh.errors import RefreshError, RefreshTimeout
from requests_refresh.grants import http
from tests.grants.endpoint import (
    PEM,
    Answer,
    Behaviour,
    EndpointServer,
    drip,
    flood,
    raw,
    reset,
    running,
    silence,
)

OLD = Token("old-access", refresh_token="old-refresh")
REPLY = (
    b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 138\r\n\r\n"
    + b'{"access_token": "new-access"}'.ljust(138)
)
HEAD = REPLY.index(b"\r\n\r\n") + 4


@pytest.fixture
def tls_server() -> Iterator[EndpointServer]:
    """A token endpoint over TLS."""
    with running(tls=True) as found:
        yield found


def grant_for(url: str, **settings: Any) -> RefreshTokenGrant:
    return RefreshTokenGrant(url, client_id="sync", client_secret="hush", **settings)


LOST: dict[str, Behaviour] = {
    "reset": reset,
    "closed": raw(b""),
    "cut in the head": raw(REPLY[:30]),
    "cut in the body": raw(REPLY[: HEAD + 30]),
    "cut in a chunk": raw(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n40\r\n{"),
    "a chunk of rubbish": raw(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n{"),
    "two lengths": raw(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\n{}"),
    "not HTTP": raw(b"SSH-2.0-OpenSSH\r\n"),
    "silence": silence,
    "a flood": flood,
    "a dripping status line": drip(REPLY, 0),
    "a dripping head": drip(REPLY, 20),
    "a dripping body": drip(REPLY, HEAD),
    "a dripping error": drip(REPLY.replace(b"200 OK", b"400 No"), HEAD),
    "dripping chunks": drip(
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n8a\r\n" + REPLY[HEAD:], 50
    ),
}


@pytest.mark.parametrize("behaviour", LOST.values(), ids=LOST.keys())
def test_the_answer_is_lost(server: EndpointServer, behaviour: Behaviour) -> None:
    """I5, I8: no drip outlasts the timeout, and an answer that is lost ends no login."""
    server.will(behaviour)
    with pytest.raises(RefreshUnavailable, match=r"was lost \(\w+\)") as caught:
        grant_for(server.url, timeout=(10, 0.4))(OLD)
    assert caught.value.outcome_unknown is True
    assert len(server.seen) == 1


@pytest.mark.parametrize("behaviour", [silence, drip(REPLY, HEAD)], ids=["silence", "drip"])
def test_the_answer_is_lost_over_tls(tls_server: EndpointServer, behaviour: Behaviour) -> None:
    """I5: the bound on the time holds over TLS too."""
    tls_server.will(behaviour)
    with pytest.raises(RefreshUnavailable, match="was lost") as caught:
        grant_for(tls_server.url, timeout=(10, 0.4), verify=str(PEM))(OLD)
    assert caught.value.outcome_unknown is True


def test_over_tls(tls_server: EndpointServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """`verify` is applied, and so is the CA bundle of the environment."""
    tls_server.will(Answer(), Answer(), Answer())
    assert grant_for(tls_server.url, verify=str(PEM))(OLD).access_token == "new-access"
    assert grant_for(tls_server.url, verify=str(PEM), cert=str(PEM))(OLD)
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(PEM))
    assert grant_for(tls_server.url)(OLD).access_token == "new-access"


def test_a_certificate_of_nobody(tls_server: EndpointServer) -> None:
    """A certificate that does not hold: nothing is sent, so the outcome is known."""
    with pytest.raises(RefreshUnavailable, match=r"SSLError.*certificates") as caught:
        grant_for(tls_server.url)(OLD)
    assert caught.value.outcome_unknown is False
    assert tls_server.seen == []


def test_no_tls_there(server: EndpointServer) -> None:
    """A handshake that fails: nothing was sent."""
    with pytest.raises(RefreshUnavailable, match="Nothing was sent") as caught:
        grant_for(server.url.replace("http:", "https:"))(OLD)
    assert caught.value.outcome_unknown is False


def test_nobody_listens(nobody: str) -> None:
    """A connection that never opened: nothing was sent, so the outcome is known."""
    with pytest.raises(RefreshUnavailable, match="NewConnectionError") as caught:
        grant_for(f"http://{nobody}/token")(OLD)
    assert caught.value.outcome_unknown is False


def test_a_name_that_is_none() -> None:
    """A host name that cannot be looked up: nothing was sent (RFC 6761: invalid never can be)."""
    with pytest.raises(RefreshUnavailable, match="could not be reached") as caught:
        grant_for("https://auth.invalid/token")(OLD)
    assert caught.value.outcome_unknown is False


def test_a_bundle_that_is_not_there(server: EndpointServer, tmp_path: Path) -> None:
    """A setting that stops the sending is named as such, not as an outage."""
    grant = grant_for("https://127.0.0.1:1/token", verify=str(tmp_path / "none.pem"))
    with pytest.raises(RefreshError, match=r"could not be sent \(OSError\).*verify") as caught:
        grant(OLD)
    assert type(caught.value) is RefreshError


@pytest.mark.parametrize("status", [300, 301, 302, 303, 304, 307, 308])
def test_no_redirect_is_followed(
    server: EndpointServer, other: EndpointServer, status: int
) -> None:
    """I9: the secrets follow no redirect, and the error names the status, not the target."""
    server.will(Answer(status, b"", headers=[("Location", other.url)]))
    with pytest.raises(RefreshRefused, match=f"answered {status}, a redirect") as caught:
        grant_for(server.url)(OLD)
    assert other.seen == []
    assert str(other.server_port) not in str(caught.value)


def test_the_body_of_a_redirect_is_not_awaited(server: EndpointServer) -> None:
    """I5: a redirect is refused by its head; a body that never comes changes nothing."""
    server.will(raw(b"HTTP/1.1 307 No\r\nLocation: /x\r\nContent-Length: 1000000\r\n\r\n"))
    with pytest.raises(RefreshRefused, match="307"):
        grant_for(server.url)(OLD)


def test_the_round_bounds_the_call(server: EndpointServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """I5: what remains of the round is the longest that a grant works."""
    monkeypatch.setattr(http, "remaining", lambda: 0.3)
    server.will(drip(REPLY, 0))
    with pytest.raises(RefreshUnavailable) as caught:
        grant_for(server.url)(OLD)
    assert caught.value.outcome_unknown is True


def test_a_round_that_is_over(server: EndpointServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where no time is left, the refresh token is not spent."""
    monkeypatch.setattr(http, "remaining", lambda: 0.0)
    with pytest.raises(RefreshTimeout, match="Nothing was sent") as caught:
        grant_for(server.url)(OLD)
    assert isinstance(caught.value, requests.Timeout)
    assert server.seen == []


def test_netrc_is_not_asked(
    server: EndpointServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A netrc entry for the provider's host neither adds nor replaces an Authorization."""
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login me password mine\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    server.will(Answer(), Answer())
    RefreshTokenGrant(server.url, client_id="sync")(OLD)
    grant_for(server.url)(OLD)
    assert "Authorization" not in server.seen[0].headers
    assert server.seen[1].headers["Authorization"] == "Basic c3luYzpodXNo"


def test_a_session_cookie_is_forgotten(server: EndpointServer) -> None:
    """No cookie of one refresh goes out with the next."""
    server.will(Answer(headers=[("Set-Cookie", "trace=1")]), Answer())
    grant = grant_for(server.url)
    grant(OLD)
    grant(OLD)
    assert "Cookie" not in server.seen[1].headers


def test_plain_http_avoids_the_environments_proxy(
    server: EndpointServer, other: EndpointServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """I9: a refresh to this host goes to this host, not in the clear through a proxy."""
    monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{other.server_port}")
    monkeypatch.setenv("ALL_PROXY", f"http://127.0.0.1:{other.server_port}")
    server.will(Answer())
    grant_for(server.url)(OLD)
    assert (len(server.seen), len(other.seen)) == (1, 0)


def test_a_proxy_that_was_given(server: EndpointServer, other: EndpointServer) -> None:
    """`proxies` is applied as requests does it."""
    other.will(Answer())
    grant_for(server.url, proxies={"http": f"http://127.0.0.1:{other.server_port}"})(OLD)
    assert other.only.path == server.url
    assert server.seen == []


def test_the_environments_proxy_for_https(
    other: EndpointServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """https goes through the environment's proxy; one that refuses has seen no secret."""
    monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{other.server_port}")
    other.will(Answer(502, b""))
    with pytest.raises(RefreshUnavailable, match="ProxyError") as caught:
        grant_for("https://auth.invalid/token")(OLD)
    assert caught.value.outcome_unknown is False
    assert (other.only.method, other.only.path) == ("CONNECT", "auth.invalid:443")
    assert "Authorization" not in other.only.headers


@pytest.mark.parametrize("behaviour", [silence, drip(REPLY, 0)], ids=["silent", "dripping"])
def test_a_proxy_that_drips(other: EndpointServer, behaviour: Behaviour) -> None:
    """I5: the answer to CONNECT is bounded too, and comes before any secret is sent."""
    proxies = {"https": f"http://127.0.0.1:{other.server_port}"}
    other.will(behaviour)
    with pytest.raises(RefreshUnavailable) as caught:
        grant_for("https://auth.invalid/token", proxies=proxies, timeout=(0.3, 10))(OLD)
    assert caught.value.outcome_unknown is False


def test_no_proxy_there(nobody: str) -> None:
    """A proxy that cannot be reached: nothing was sent."""
    grant = grant_for("https://auth.invalid/token", proxies={"https": f"http://{nobody}"})
    with pytest.raises(RefreshUnavailable, match="ProxyError") as caught:
        grant(OLD)
    assert caught.value.outcome_unknown is False


def test_no_retry_by_urllib3(server: EndpointServer) -> None:
    """A 503 with Retry-After is handed on at once, not slept on."""
    server.will(Answer(503, b"", headers=[("Retry-After", "3600")]))
    with pytest.raises(RefreshUnavailable) as caught:
        grant_for(server.url)(OLD)
    assert caught.value.retry_after == 3600
    assert len(server.seen) == 1
