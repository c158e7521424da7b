"""What is made of metadata: how long it is kept, and which settings follow from it."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from requests_refresh import (
    ClientCredentialsGrant,
    JWTBearerGrant,
    PrivateKeyJWT,
    RefreshTokenGrant,
    RefreshUnavailable,
    Token,
    TokenExchangeGrant,
)
from requests_refresh.grants import discovery
from tests.adapter.support import Crowd, wait_until
from tests.grants.endpoint import Answer, EndpointServer
from tests.grants.support import Held, ec_key, opened, pem_of
from tests.grants.test_discovery import found, issuer_of, metadata, nothing_known

__all__ = ["nothing_known"]
OLD = Token("old-access", refresh_token="old-refresh")
LONG = "a client secret that is long enough"


def test_one_question_for_many_grants(server: EndpointServer) -> None:
    """Metadata is kept: grants of every kind for one issuer ask for it once."""
    server.will(found(server))
    issuer = issuer_of(server)
    for _ in range(3):
        RefreshTokenGrant.discover(issuer, client_id="sync")
        ClientCredentialsGrant.discover(issuer, client_id="sync", client_secret="s")
        JWTBearerGrant.discover(issuer, key=pem_of(ec_key()), issuer="robot")
        TokenExchangeGrant.discover(issuer, subject_token="theirs")
    assert len(server.seen) == 1


def test_other_ways_there_ask_anew(server: EndpointServer) -> None:
    """What was learned by other certificates or proxies is not taken over."""
    server.will(*[found(server)] * 3)
    issuer = issuer_of(server)
    proxies = {"https": "http://127.0.0.1:1"}
    for settings in ({}, {"verify": False}, {"proxies": proxies}, {"verify": False}):
        RefreshTokenGrant.discover(issuer, client_id="sync", **settings)
    assert len(server.seen) == 3


def test_it_is_kept_for_an_hour(server: EndpointServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """After an hour it is asked for again, and what is new then counts."""
    now = [1000.0]
    monkeypatch.setattr(discovery, "time", SimpleNamespace(monotonic=lambda: now[0]))
    other_place = server.url + "/2"
    server.will(found(server), found(server, token_endpoint=other_place))
    for seconds, place in ((0.0, server.url), (3599.0, server.url), (3600.0, other_place)):
        now[0] = 1000.0 + seconds
        grant = RefreshTokenGrant.discover(issuer_of(server), client_id="sync")
        assert grant._endpoint.url == place
    assert len(server.seen) == 2


def test_an_outage_after_an_hour(server: EndpointServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is too old is not used where nothing newer can be had, and the failure is said."""
    now = [1000.0]
    monkeypatch.setattr(discovery, "time", SimpleNamespace(monotonic=lambda: now[0]))
    server.will(found(server), Answer(503, ""), found(server))
    RefreshTokenGrant.discover(issuer_of(server), client_id="sync")
    now[0] += 3600.0
    with pytest.raises(RefreshUnavailable):
        RefreshTokenGrant.discover(issuer_of(server), client_id="sync")
    assert RefreshTokenGrant.discover(issuer_of(server), client_id="sync")


def test_it_is_not_kept_for_everybody(server: EndpointServer) -> None:
    """However many issuers are asked, what is kept stays bounded."""
    for number in range(100):
        server.will(found(server, f"/{number}"))
        RefreshTokenGrant.discover(issuer_of(server, f"/{number}"), client_id="sync")
        assert len(discovery._known) <= 64


def test_many_threads_ask(server: EndpointServer) -> None:
    """Threads that discover at once all get their grant, and later ones ask no more."""
    held = [Held(found(server)) for _ in range(8)]
    server.will(*held)
    crowd = Crowd(lambda _: RefreshTokenGrant.discover(issuer_of(server), client_id="sync"), 8)
    wait_until(lambda: len(server.seen) == 8)
    for one in held:
        one.release()
    assert {grant._endpoint.url for grant in crowd.join()} == {server.url}
    RefreshTokenGrant.discover(issuer_of(server), client_id="sync")
    assert len(server.seen) == 8


WAYS: list[tuple[Any, str]] = [
    (None, "client_secret_basic"),
    ([], "client_secret_basic"),
    (["private_key_jwt"], "client_secret_basic"),
    ("client_secret_post", "client_secret_basic"),
    (["client_secret_basic", "client_secret_post"], "client_secret_basic"),
    (["client_secret_post", "client_secret_basic"], "client_secret_basic"),
    (["client_secret_post", "client_secret_jwt"], "client_secret_post"),
    (["private_key_jwt", "client_secret_jwt"], "client_secret_jwt"),
]


@pytest.mark.parametrize(("supported", "chosen"), WAYS, ids=range(len(WAYS)))
def test_the_way_that_the_provider_knows(
    server: EndpointServer, supported: Any, chosen: str
) -> None:
    """With a secret, the first of basic, post and jwt that the provider names is taken."""
    server.will(found(server, token_endpoint_auth_methods_supported=supported))
    grant = RefreshTokenGrant.discover(issuer_of(server), client_id="sync", client_secret=LONG)
    assert f"client_auth='{chosen}'" in repr(grant)


def test_without_a_secret_nothing_is_chosen(server: EndpointServer) -> None:
    """A public client stays one, whatever the provider knows."""
    server.will(found(server, token_endpoint_auth_methods_supported=["client_secret_post"]))
    grant = RefreshTokenGrant.discover(issuer_of(server), client_id="sync")
    assert "client_auth='none'" in repr(grant)


def test_settings_win(server: EndpointServer) -> None:
    """What the user says counts more than what the provider says of itself."""
    ways = ["client_secret_basic"]
    server.will(
        found(server, token_endpoint_auth_methods_supported=ways), Answer(), Answer(), Answer()
    )
    grant = RefreshTokenGrant.discover(
        issuer_of(server),
        client_id="sync",
        client_secret="s",
        client_auth="client_secret_post",
        token_url=server.url + "/mine",
        revocation_url=server.url + "/end",
    )
    grant(OLD)
    assert grant.revoke is not None
    grant.revoke(OLD)
    assert [request.path for request in server.seen[1:]] == ["/token/mine", *["/token/end"] * 2]
    assert server.seen[1].form["client_secret"] == "s"


def test_an_endpoint_of_ones_own_needs_no_other(server: EndpointServer) -> None:
    """Metadata that names no token endpoint, or a bad one, serves who has one already."""
    for value in (None, "http://a.example/"):
        discovery._known.clear()
        server.will(Answer(body=metadata(server, token_endpoint=value)))
        grant = RefreshTokenGrant.discover(
            issuer_of(server), client_id="sync", token_url=server.url
        )
        assert grant._endpoint.url == server.url


def test_no_revocation_endpoint(server: EndpointServer) -> None:
    """A provider that names none has none: the grant cannot revoke."""
    server.will(found(server, revocation_endpoint=None))
    assert RefreshTokenGrant.discover(issuer_of(server), client_id="sync").revoke is None


def test_assertions_are_for_the_endpoint_that_was_found(server: EndpointServer) -> None:
    """`aud` is the token endpoint of the metadata, in both kinds of assertions."""
    server.will(found(server), Answer())
    grant = JWTBearerGrant.discover(
        issuer_of(server),
        key=pem_of(ec_key()),
        issuer="robot",
        client_id="sync",
        client_auth=PrivateKeyJWT(pem_of(ec_key())),
    )
    grant(None)
    form = server.seen[-1].form
    for name in ("assertion", "client_assertion"):
        assert opened(form[name], ec_key()).claims["aud"] == server.url
