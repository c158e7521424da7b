"""Each grant with each client authentication, through the whole stack, at real servers.

The cells of the table in docs/grants.md are the parameters of the first test.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import requests

from requests_refresh import (
    ClientCredentialsGrant,
    InvalidReply,
    JWTBearerGrant,
    LoginRequired,
    PrivateKeyJWT,
    RefreshAdapter,
    RefreshRefused,
    RefreshTokenGrant,
    Token,
    TokenExchangeGrant,
    TokenSource,
)
from requests_refresh.grants import discovery
from tests.adapter.support import crowd
from tests.grants.support import JWT_BEARER, TOKEN_EXCHANGE
from tests.providers.conftest import Provider

from .servers import AuthlibServer

BASIC, POST, SECRET_JWT, KEY_JWT, NONE = (
    "client_secret_basic",
    "client_secret_post",
    "client_secret_jwt",
    "private_key_jwt",
    "none",
)
CELLS = [
    *(("refresh_token", way, "authlib") for way in (BASIC, POST, SECRET_JWT, KEY_JWT, NONE)),
    *(("client_credentials", way, "authlib") for way in (BASIC, POST, SECRET_JWT, KEY_JWT)),
    ("jwt_bearer", NONE, "authlib"),
    *(("token_exchange", way, "authlib") for way in (BASIC, POST, SECRET_JWT, KEY_JWT)),
    *(("refresh_token", way, "toolkit") for way in (BASIC, POST)),
    *(("client_credentials", way, "toolkit") for way in (BASIC, POST)),
]
WIRE = {
    "refresh_token": "refresh_token",
    "client_credentials": "client_credentials",
    "jwt_bearer": JWT_BEARER,
    "token_exchange": TOKEN_EXCHANGE,
}
# What each way puts into the form, beside what the grant puts there, and the header's scheme.
SIGNED = {"client_id", "client_assertion", "client_assertion_type"}
SENT: dict[str, tuple[set[str], str | None]] = {
    BASIC: (set(), "Basic"),
    POST: ({"client_id", "client_secret"}, None),
    SECRET_JWT: (SIGNED, None),
    KEY_JWT: (SIGNED, None),
    NONE: ({"client_id"}, None),
}


@pytest.fixture(autouse=True)
def nothing_known() -> None:
    """What one test has discovered is no help to another."""
    discovery._known.clear()


@dataclass
class Site:
    """A server as a grant sees it."""

    api: str
    client: Callable[[str], dict[str, Any]]  # by its way: the settings of a grant
    token_url: str
    login: Callable[[str], Any]  # by the client's way: a token reply
    key: str = ""


def authlib_site(server: AuthlibServer) -> Site:
    def client(way: str) -> dict[str, Any]:
        settings: dict[str, Any] = {"client_id": server.client_id(way)}
        if way == KEY_JWT:
            return {**settings, "client_auth": PrivateKeyJWT(server.private_key(), key_id="rsa")}
        return {**settings, "client_auth": way, "client_secret": server.client_secret(way)}

    return Site(server.api, client, server.token_url, server.login, server.private_key("ec"))


def toolkit_site(provider: Provider, service: bool) -> Site:
    pair = provider.client_id, provider.client_secret
    if service:
        pair = provider.service_id, provider.service_secret

    def client(way: str) -> dict[str, Any]:
        return {"client_id": pair[0], "client_secret": pair[1], "client_auth": way}

    return Site(provider.api, client, provider.refresh_url, lambda way: provider.login())


def site_of(request: pytest.FixtureRequest, server: str, grant: str = "") -> Site:
    if server == "authlib":
        return authlib_site(request.getfixturevalue("authlib"))
    return toolkit_site(request.getfixturevalue("oauth"), grant == "client_credentials")


def source_of(site: Site, grant: str, way: str, **settings: Any) -> TokenSource:
    client = site.client(way)
    if grant == "refresh_token":
        made = RefreshTokenGrant(site.token_url, **client, **settings)
        return TokenSource(made, token=site.login(way))
    if grant == "client_credentials":
        return TokenSource(ClientCredentialsGrant(site.token_url, **client, **settings))
    if grant == "token_exchange":
        theirs = TokenExchangeGrant(
            site.token_url,
            subject_token=lambda: str(site.login(way)["access_token"]),
            **client,
            **settings,
        )
        return TokenSource(theirs)
    issuer = site.client(KEY_JWT)["client_id"]
    signed = {"key": site.key, "key_id": "ec", "issuer": issuer, "subject": "alice"}
    return TokenSource(JWTBearerGrant(site.token_url, **signed, **settings))


def session_of(site: Site, tokens: TokenSource) -> requests.Session:
    session = requests.Session()
    session.trust_env = False
    session.mount(site.api, RefreshAdapter(tokens, origins=site.api, pool_maxsize=10))
    return session


@pytest.mark.parametrize(("grant", "way", "server"), CELLS, ids=["-".join(c) for c in CELLS])
def test_through_the_stack(
    request: pytest.FixtureRequest, grant: str, way: str, server: str
) -> None:
    """I1: a first request and a crowd after an expiry: 200 for all, one new token for each."""
    site = site_of(request, server, grant)
    tokens = source_of(site, grant, way)
    with session_of(site, tokens) as session:
        assert session.get(site.api + "items", timeout=30).status_code == 200
        first = tokens.token()
        before = tokens.stats.refreshes
        if server == "authlib":
            request.getfixturevalue("authlib").expire()
        else:
            tokens.renew(first)
        got = crowd(lambda _: session.get(site.api + "items", timeout=30).status_code, 10)
    assert got == [200] * 10
    assert tokens.stats.refreshes - before == 1
    last = tokens.token()
    assert last.access_token != first.access_token
    assert (last.refresh_token is None) == (grant != "refresh_token")


ON_THE_WIRE = [cell for cell in CELLS if cell[2] == "authlib"]


@pytest.mark.parametrize(
    ("grant", "way", "server"), ON_THE_WIRE, ids=["-".join(c) for c in ON_THE_WIRE]
)
def test_what_the_server_saw(authlib: AuthlibServer, grant: str, way: str, server: str) -> None:
    """The server names the fields that came: those of the grant and of the client, no others."""
    site = authlib_site(authlib)
    tokens = source_of(site, grant, way)
    tokens.renew(tokens.token())
    fields, scheme = SENT[way]
    own = {
        "refresh_token": {"refresh_token"},
        "client_credentials": set(),
        "jwt_bearer": {"assertion"},
        "token_exchange": {"subject_token", "subject_token_type"},
    }[grant]
    if grant == "jwt_bearer":
        fields = set()  # the assertion says who asks
    last = authlib.last()
    assert set(last["names"]) == {"grant_type"} | own | fields
    assert (last["query_names"], last["authorization"]) == ([], scheme)
    assert (last["method"], last["grant_type"]) == ("POST", WIRE[grant])
    assert last["content_type"] == "application/x-www-form-urlencoded"
    counts = authlib.counts()
    asked = 1 if grant == "refresh_token" else 2
    assert counts.requests == counts.issued == {WIRE[grant]: asked}
    signs = (way in (SECRET_JWT, KEY_JWT)) + (grant == "jwt_bearer")
    assert (counts.jtis, counts.repeated_jtis) == (asked * signs, 0)


CLIENTS = [(way, "authlib") for way in (BASIC, POST, SECRET_JWT, KEY_JWT)]
CLIENTS += [(way, "toolkit") for way in (BASIC, POST)]


@pytest.mark.parametrize(("way", "server"), CLIENTS, ids=["-".join(c) for c in CLIENTS])
def test_a_client_that_is_not_known(request: pytest.FixtureRequest, way: str, server: str) -> None:
    """I8: a wrong secret or key is RefreshRefused, and the login works once it is right again."""
    site = site_of(request, server)
    tokens = source_of(site, "refresh_token", way)
    right = site.client(way)
    wrong = {**right, "client_secret": "a secret that is long enough, and wrong"}
    if way == KEY_JWT:
        wrong = {**right, "client_auth": PrivateKeyJWT(site.key, key_id="rsa")}
    token = tokens.token()
    store = tokens._place.store
    bad = TokenSource(RefreshTokenGrant(site.token_url, **wrong), store)
    with pytest.raises(RefreshRefused) as caught:
        bad.renew(token)
    assert caught.value.error == "invalid_client"
    good = TokenSource(RefreshTokenGrant(site.token_url, **right), store)
    assert good.renew(token).access_token != token.access_token


ISSUERS = ["", "/tenant", "/oauth-only", "/openid-only"]


@pytest.mark.parametrize("path", ISSUERS)
def test_discovery(authlib: AuthlibServer, path: str) -> None:
    """The endpoints of an issuer, with a path or without, by either standard, serve a grant."""
    site = authlib_site(authlib)
    client = site.client(BASIC)
    del client["client_auth"]
    grant = RefreshTokenGrant.discover(authlib.issuer + path, **client)
    tokens = TokenSource(grant, token=authlib.login())
    with session_of(site, tokens) as session:
        authlib.expire()
        assert session.get(site.api + "items", timeout=30).status_code == 200
    tokens.logout(revoke=True)
    assert authlib.counts().revocations >= 1


def test_discovery_of_the_toolkit(oauth: Provider) -> None:
    """What django-oauth-toolkit says of itself serves a grant, its revocation included."""
    grant = RefreshTokenGrant.discover(
        oauth.issuer, client_id=oauth.client_id, client_secret=oauth.client_secret
    )
    tokens = TokenSource(grant, token=oauth.login())
    tokens.renew(tokens.token())
    assert oauth.counters()["refreshed"] == 1


def test_a_liar_is_not_believed(authlib: AuthlibServer) -> None:
    """RFC 8414 section 3.3: metadata of another issuer is of no use."""
    with pytest.raises(InvalidReply, match="another issuer's"):
        RefreshTokenGrant.discover(authlib.issuer + "/liar", client_id="sync")


REVOKING = [cell for cell in CELLS if cell[0] == "refresh_token"]


@pytest.mark.parametrize(("grant", "way", "server"), REVOKING, ids=["-".join(c) for c in REVOKING])
def test_revocation(request: pytest.FixtureRequest, grant: str, way: str, server: str) -> None:
    """RFC 7009: after the logout neither token is good at the server, by each client's way."""
    site = site_of(request, server)
    provider = request.getfixturevalue("authlib" if server == "authlib" else "oauth")
    tokens = source_of(site, grant, way, revocation_url=provider.revocation_url)
    token = tokens.token()
    tokens.logout(revoke=True)
    with pytest.raises(LoginRequired):
        tokens.token()
    again = TokenSource(RefreshTokenGrant(site.token_url, **site.client(way)), token=token)
    reply = requests.get(
        site.api + "items", headers={"Authorization": f"Bearer {token.access_token}"}, timeout=30
    )
    assert reply.status_code in (401, 403)
    with pytest.raises(LoginRequired) as caught:
        again.renew(token)
    assert caught.value.error == "invalid_grant"


TARGETS = [(grant, name) for grant in WIRE for name in ("resource", "audience")]


@pytest.mark.parametrize(("grant", "name"), TARGETS, ids=["-".join(c) for c in TARGETS])
def test_a_token_for_one_api(authlib: AuthlibServer, grant: str, name: str) -> None:
    """RFC 8707, RFC 8693: the token is for what was asked, and the API sees that it is."""
    site = authlib_site(authlib)
    target = site.api if name == "resource" else "items-api"
    tokens = source_of(site, grant, BASIC, **{name: [target, "https://other.example/"]})
    tokens.renew(tokens.token())
    assert authlib.last()[name] == [target, "https://other.example/"]
    with session_of(site, tokens) as session:
        reply = session.get(site.api + "items", timeout=30)
    assert set(reply.json()["audience"]) == {target, "https://other.example/"}


def test_a_target_that_was_not_granted(authlib: AuthlibServer) -> None:
    """`invalid_target` is a wrong setting: RefreshRefused, and the login works without it."""
    site = authlib_site(authlib)
    token = Token.from_reply(authlib.login(audience=[site.api]))
    tokens = TokenSource(
        RefreshTokenGrant(site.token_url, **site.client(BASIC), resource="https://other.example/"),
        token=token,
    )
    with pytest.raises(RefreshRefused, match="Check resource and audience") as caught:
        tokens.renew(token)
    assert caught.value.error == "invalid_target"
    right = RefreshTokenGrant(site.token_url, **site.client(BASIC), resource=site.api)
    assert TokenSource(right, tokens._place.store).renew(token).refresh_token


def test_a_token_for_another_api(authlib: AuthlibServer) -> None:
    """I12: a token that the API never takes is replaced once, and then the 401 is handed on."""
    site = authlib_site(authlib)
    tokens = source_of(site, "client_credentials", BASIC, resource="https://other.example/")
    with session_of(site, tokens) as session:
        assert session.get(site.api + "items", timeout=30).status_code == 401
    assert sum(authlib.counts().requests.values()) <= 2


@pytest.mark.parametrize("grant", ["refresh_token", "client_credentials", "token_exchange"])
def test_a_scope_that_nobody_knows(authlib: AuthlibServer, grant: str) -> None:
    """`invalid_scope` is a wrong setting: RefreshRefused, which says so."""
    tokens = source_of(authlib_site(authlib), grant, BASIC, scope="unheard-of")
    with pytest.raises(RefreshRefused, match="scope") as caught:
        tokens.renew(tokens.token()) if grant == "refresh_token" else tokens.token()
    assert caught.value.error == "invalid_scope"


def test_a_login_behind_an_exchange(authlib: AuthlibServer) -> None:
    """I1: a login that is dead by the clock is refreshed once, and then exchanged once."""
    site = authlib_site(authlib)
    login = TokenSource(
        RefreshTokenGrant(site.token_url, **site.client(BASIC)),
        token=Token(refresh_token=authlib.login()["refresh_token"]),
    )
    grant = TokenExchangeGrant(site.token_url, subject_token=login.token, **site.client(BASIC))
    tokens = TokenSource(grant)
    with session_of(site, tokens) as session:
        got = crowd(lambda _: session.get(site.api + "items", timeout=30).status_code, 10)
    assert got == [200] * 10
    assert authlib.counts().issued == {"refresh_token": 1, TOKEN_EXCHANGE: 1}


def test_a_login_that_died_before_its_time(authlib: AuthlibServer) -> None:
    """A dead subject token is `invalid_request` (RFC 8693 2.2.2) until its source renews it."""
    site = authlib_site(authlib)
    login = source_of(site, "refresh_token", BASIC)
    grant = TokenExchangeGrant(site.token_url, subject_token=login.token, **site.client(BASIC))
    stale = login.token()
    authlib.expire()
    with pytest.raises(RefreshRefused) as caught:
        TokenSource(grant).token()
    assert caught.value.error == "invalid_request"
    login.renew(stale)
    assert TokenSource(grant).token().access_token
