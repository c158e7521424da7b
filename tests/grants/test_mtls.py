"""Clients that prove themselves by a certificate (RFC 8705), at a server that demands one."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from requests_refresh import (
    ConfigurationError,
    RefreshTokenGrant,
    RefreshUnavailable,
    Token,
    TokenSource,
)
from requests_refresh.errors import RefreshError
from requests_refresh.grants import discovery
from tests.grants.certificates import Authority, split
from tests.grants.endpoint import Answer, EndpointServer, Handler, running
from tests.grants.support import ASKED_ANEW, Make

OLD = Token("old-access", refresh_token="old-refresh", expires_at=1.0)
WAYS = ("tls_client_auth", "self_signed_tls_client_auth")


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("certificates"))


@contextmanager
def demanding(
    authority: Authority, trusted: Path, version: ssl.TLSVersion | None = None
) -> Iterator[EndpointServer]:
    """A server that takes no client without a certificate that `trusted` has signed."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(authority.issue("server"))
    context.load_verify_locations(trusted)
    context.verify_mode = ssl.CERT_REQUIRED
    if version is not None:
        context.maximum_version = version
    with running(tls=context) as server:
        yield server


@pytest.fixture
def strict(authority: Authority) -> Iterator[EndpointServer]:
    with demanding(authority, authority.path) as server:
        yield server


class WhoAsks:
    """An answer that notes whose certificate came."""

    def __init__(self) -> None:
        self.names: list[str] = []

    def __call__(self, handler: Handler) -> None:
        connection: Any = handler.connection
        ((attribute,),) = connection.getpeercert()["subject"]
        self.names.append(attribute[1])
        Answer()(handler)


def refresh_token(url: str, **settings: Any) -> RefreshTokenGrant:
    return RefreshTokenGrant(url, **{"client_id": "sync", **settings})


GRANTS: dict[str, Make] = {"refresh_token": refresh_token, **ASKED_ANEW}


@pytest.mark.parametrize("make", GRANTS.values(), ids=GRANTS.keys())
def test_the_certificate_proves_the_client(
    strict: EndpointServer, authority: Authority, make: Make
) -> None:
    """The server sees the client's certificate and its id, and no other proof."""
    who = WhoAsks()
    strict.will(who)
    grant = make(
        strict.url,
        client_id="sync",
        client_secret=None,
        client_auth="tls_client_auth",
        cert=str(authority.issue("sync")),
        verify=str(authority.path),
    )
    assert grant(OLD).access_token == "new-access"
    assert who.names == ["sync"]
    assert strict.only.form["client_id"] == "sync"
    assert not {"client_secret", "client_assertion"} & strict.only.form.keys()
    assert "Authorization" not in strict.only.headers


def test_a_self_signed_certificate(authority: Authority) -> None:
    """RFC 8705 section 2.2: the provider knows the certificate itself; files may be two."""
    own = authority.issue("alone", itself=True)
    who = WhoAsks()
    with demanding(authority, own) as server:
        server.will(who)
        grant = refresh_token(
            server.url,
            client_auth="self_signed_tls_client_auth",
            cert=split(own),
            verify=str(authority.path),
        )
        assert grant(OLD).access_token == "new-access"
    assert who.names == ["alone"]


@pytest.mark.parametrize(
    "version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3], ids=["1.2", "1.3"]
)
@pytest.mark.parametrize("given", ["none", "a stranger's"])
def test_without_the_right_certificate(
    authority: Authority, version: ssl.TLSVersion, given: str
) -> None:
    """A server that hangs up on a client with no certificate, or a strange one, is unavailable."""
    settings: dict[str, Any] = {"verify": str(authority.path)}
    if given != "none":
        stranger = authority.issue("stranger", itself=True)
        settings |= {"client_auth": "tls_client_auth", "cert": str(stranger)}
    with demanding(authority, authority.path, version) as server:
        with pytest.raises(RefreshUnavailable, match="login is"):
            refresh_token(server.url, **settings)(OLD)
        assert server.seen == []


def test_the_login_outlives_a_missing_certificate(
    strict: EndpointServer, authority: Authority
) -> None:
    """I8: what is stored stays, and is renewed once the certificate is there."""
    tokens = TokenSource(refresh_token(strict.url, verify=str(authority.path)), token=OLD)
    with pytest.raises(RefreshUnavailable):
        tokens.token()
    right = refresh_token(
        strict.url,
        client_auth="tls_client_auth",
        cert=str(authority.issue("sync")),
        verify=str(authority.path),
    )
    strict.will(Answer())
    assert TokenSource(right, store=tokens._place.store).token().access_token == "new-access"
    assert strict.only.form["refresh_token"] == "old-refresh"


def test_a_server_that_we_do_not_trust(strict: EndpointServer, authority: Authority) -> None:
    """I9: the server's own certificate is checked first, and nothing is sent to a stranger."""
    grant = refresh_token(
        strict.url, client_auth="tls_client_auth", cert=str(authority.issue("sync"))
    )
    with pytest.raises(RefreshUnavailable, match="could not be reached") as caught:
        grant(OLD)
    assert caught.value.outcome_unknown is False
    assert strict.seen == []


@pytest.mark.parametrize(
    "cert", ["missing.pem", ("missing.crt", "missing.key")], ids=["one", "two"]
)
def test_files_that_are_missing(strict: EndpointServer, authority: Authority, cert: Any) -> None:
    """A certificate that cannot be read is said to be what to look at; the login is intact."""
    grant = refresh_token(
        strict.url, client_auth="tls_client_auth", cert=cert, verify=str(authority.path)
    )
    with pytest.raises(RefreshError, match="Check verify, cert") as caught:
        grant(OLD)
    assert "login is intact" in str(caught.value)


@pytest.mark.parametrize("way", WAYS)
def test_a_certificate_must_be_given(way: str) -> None:
    """A certificate that is to prove the client is there from the start, and no secret beside."""
    with pytest.raises(ConfigurationError, match="needs the certificate, as cert="):
        refresh_token("https://a.example/token", client_auth=way)
    with pytest.raises(ConfigurationError, match="client_secret would not be used"):
        refresh_token(
            "https://a.example/token", client_auth=way, cert="c.pem", client_secret="hush"
        )


@pytest.mark.parametrize("with_cert", [True, False], ids=["with", "without"])
def test_endpoints_for_certificates(
    strict: EndpointServer, server: EndpointServer, authority: Authority, with_cert: bool
) -> None:
    """RFC 8705 section 5: with a certificate the aliases are asked, without one they are not."""
    discovery._known.clear()
    issuer = server.url.removesuffix("/token")
    aliases = {"token_endpoint": strict.url, "revocation_endpoint": strict.url + "/revoke"}
    metadata = {
        "issuer": issuer,
        "token_endpoint": server.url,
        "revocation_endpoint": server.url + "/revoke",
        "mtls_endpoint_aliases": aliases,
    }
    server.will(Answer(body=metadata))
    settings: dict[str, Any] = {"verify": str(authority.path), "client_id": "sync"}
    if with_cert:
        settings |= {"cert": str(authority.issue("sync")), "client_auth": "tls_client_auth"}
    grant = RefreshTokenGrant.discover(issuer, **settings)
    asked = strict if with_cert else server
    asked.will(Answer(), Answer(), Answer())
    grant(OLD)
    assert grant.revoke is not None
    grant.revoke(OLD)
    paths = [request.path for request in asked.seen if request.method == "POST"]
    assert paths == ["/token", "/token/revoke", "/token/revoke"]
