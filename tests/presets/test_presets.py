"""Presets are data: what they say, what is made of them, and what cannot be."""

from __future__ import annotations

import dataclasses
from typing import Any
from urllib.parse import urlsplit

import pytest

import requests_refresh.presets
from requests_refresh import ConfigurationError, JSONGrant, LoginRequired, RefreshTokenGrant
from requests_refresh.presets import (
    ALL,
    AUTH0,
    GITHUB,
    GOOGLE,
    KEYCLOAK,
    OKTA,
    QUICKBOOKS,
    SALESFORCE,
    SIMPLEJWT,
    ZOHO,
    Preset,
)
from tests.grants.endpoint import Answer, EndpointServer
from tests.presets.support import DEAD, SECRET

VALUES = {"domain": "id.example.com", "tenant": "common", "realm": "acme", "server": "default"}


def values_for(preset: Preset) -> dict[str, str]:
    return {name: VALUES[name] for name in preset.placeholders}


@pytest.mark.parametrize("preset", ALL, ids=lambda preset: str(preset.name))
def test_each_preset(preset: Preset) -> None:
    """Every preset cites its provider, has https URLs, and says something in a line."""
    assert preset.sources
    for source in preset.sources:
        parts = urlsplit(source)
        assert (parts.scheme, parts.username) == ("https", None)
        assert source.isascii()
        assert " " not in source
    assert len(set(preset.sources)) == len(preset.sources)
    for url in (preset.token_url, preset.revocation_url, preset.device_url, preset.authorize_url):
        assert url is None or url.startswith("https://")
    assert preset.notes.endswith(".")
    assert "\n" not in preset.notes
    assert "invalid_grant" not in preset.login_over


def test_all_are_exported() -> None:
    """Each preset is a constant of the package, under a name of its own."""
    package = requests_refresh.presets
    exported = [
        value for name in package.__all__ if isinstance(value := vars(package)[name], Preset)
    ]
    assert len(exported) == len(ALL)
    assert set(exported) == set(ALL)
    assert len({preset.name for preset in ALL}) == len(ALL) == 15


@pytest.mark.parametrize("preset", ALL, ids=lambda preset: str(preset.name))
def test_three_values_make_a_grant(preset: Preset) -> None:
    """client_id, client_secret and what names the server are all that a user fills in."""
    if preset.speaks == "json":
        grant: Any = preset.grant(**values_for(preset))
        assert isinstance(grant, JSONGrant)
    else:
        grant = preset.grant(client_id="sync", client_secret=SECRET, **values_for(preset))
        assert isinstance(grant, RefreshTokenGrant)
        assert f"client_auth={preset.client_auth!r}" in repr(grant)
    assert repr(preset.token_url.format(**VALUES)) in repr(grant)
    assert SECRET not in repr(grant)


def test_a_client_without_a_secret() -> None:
    """A public client sends its id alone, whatever the preset has for those with a secret."""
    assert "client_auth='none'" in repr(GITHUB.grant(client_id="sync"))


def test_settings_win() -> None:
    """What the user says goes before what the preset says."""
    grant = GOOGLE.grant(client_id="s", client_secret=SECRET, client_auth="client_secret_basic")
    assert "client_auth='client_secret_basic'" in repr(grant)
    assert grant.timeout == (5, 15)
    assert GOOGLE.grant(client_id="s", timeout=(1, 2)).timeout == (1, 2)


def test_where_a_login_is_revoked() -> None:
    """I9: the revocation endpoint is the preset's, but never beside a token_url of one's own."""

    def revokes(grant: Any) -> bool:
        return grant.revoke is not None

    assert revokes(GOOGLE.grant(client_id="s"))
    assert revokes(AUTH0.grant(client_id="s", domain="acme.eu.auth0.com"))
    assert not revokes(QUICKBOOKS.grant(client_id="s"))
    own = "https://id.example.com/token"
    assert not revokes(GOOGLE.grant(client_id="s", token_url=own))
    assert revokes(GOOGLE.grant(client_id="s", token_url=own, revocation_url=own + "/revoke"))


def test_the_revocation_goes_where_it_should(server: EndpointServer) -> None:
    """The filled-in revocation endpoint is the one that is told (RFC 7009)."""
    preset = dataclasses.replace(OKTA, token_url=server.url, revocation_url=server.url + "/revoke")
    server.will(Answer(), Answer())
    grant: Any = preset.grant(client_id="s", **values_for(OKTA))
    grant.revoke(DEAD)
    assert {request.path for request in server.seen} == {"/token/revoke"}
    assert "old-refresh" in [request.form["token"] for request in server.seen]


def test_what_ends_a_login(server: EndpointServer) -> None:
    """The preset's `login_over` reaches the grant; a code of the user's own replaces it."""
    preset = Preset("Mine", ("",), token_url=server.url, login_over=frozenset({"seat_gone"}))
    server.will(*[Answer(400, {"error": "seat_gone"})] * 2)
    with pytest.raises(LoginRequired, match="seat_gone"):
        preset.grant(client_id="s")(DEAD)
    with pytest.raises(requests_refresh.RefreshRefused):
        preset.grant(client_id="s", login_over_errors=())(DEAD)


def test_filling_in() -> None:
    """Every URL is filled in at once; a preset with no placeholder stays as it is."""
    filled = KEYCLOAK.filled(domain="id.example.com:8443", realm="acme")
    base = "https://id.example.com:8443/realms/acme"
    assert filled.token_url == f"{base}/protocol/openid-connect/token"
    assert filled.device_url == f"{base}/protocol/openid-connect/auth/device"
    assert filled.issuer == base
    assert filled.placeholders == frozenset()
    assert KEYCLOAK.placeholders == {"domain", "realm"}
    assert GITHUB.filled() == GITHUB


GOOD = ["a", "acme", "acme.eu.auth0.com", "11112222-bbbb-3333", "my_realm", "A1"]
BAD: list[Any] = [
    *("", ".", "..", "-a", "a-", "a.", "a b", " a", "a\n", "a\r\nX: y", "a\x00", "é", "a\u2024b"),
    *("a/b", "a\\b", "a@b", "user:pw@b", "a?b", "a#b", "a%2fb", "a;b", "{domain}", "{0}"),
    *("https://a", "//a", "[::1]", 7, None, b"a", ["a"]),
]


@pytest.mark.parametrize("value", GOOD)
def test_values_that_fit(value: str) -> None:
    """Names of hosts, tenants and realms are taken as they are."""
    assert OKTA.filled(domain=value, server=value).issuer == f"https://{value}/oauth2/{value}"


@pytest.mark.parametrize("value", BAD, ids=repr)
def test_values_that_could_move_the_url(value: Any) -> None:
    """I9: nothing that is filled in makes the secret go to another host or another path."""
    for values in ({"domain": value, "server": "a"}, {"domain": "a", "server": value}):
        with pytest.raises(ConfigurationError, match="cannot stand in https://"):
            OKTA.grant(client_id="s", client_secret=SECRET, **values)


@pytest.mark.parametrize("value", ["a:", "a:x", "a:1:2", "a:123456", ":80", "a:80/b"])
def test_ports_that_are_none(value: str) -> None:
    """A domain may have a port, if it is one; a realm has none."""
    with pytest.raises(ConfigurationError, match="domain cannot stand in"):
        ZOHO.filled(domain=value)
    with pytest.raises(ConfigurationError, match="realm cannot stand in"):
        KEYCLOAK.filled(domain="a", realm="b:80")


WRONG: dict[str, tuple[Preset, dict[str, Any], str]] = {
    "a value is missing": (KEYCLOAK, {"domain": "a"}, "Keycloak needs realm="),
    "all are missing": (SALESFORCE, {}, "Salesforce needs domain="),
    "one too many": (GITHUB, {"domain": "a"}, "GitHub cannot be set up.*'domain'"),
    "a slip": (OKTA, {"domian": "a", "server": "b"}, "Okta needs domain="),
    "an unknown setting": (GOOGLE, {"colour": "red"}, "Google cannot be set up.*'colour'"),
    "both": (AUTH0, {"domain": "a", "token_url": "https://b/"}, "beside token_url"),
    "a bad setting": (GOOGLE, {"client_auth": "magic"}, "client_auth must be"),
    "plain http": (GOOGLE, {"token_url": "http://id.example.com/"}, "https"),
    "a client where there is none": (SIMPLEJWT, {"domain": "a"}, "SimpleJWT cannot be.*client_"),
}


@pytest.mark.parametrize(("preset", "settings", "said"), WRONG.values(), ids=WRONG.keys())
def test_settings_that_cannot_be(preset: Preset, settings: dict[str, Any], said: str) -> None:
    """I9: a wrong setting is said at construction; no frame of the traceback holds the secret."""
    with pytest.raises(ConfigurationError, match=said) as caught:
        preset.grant(client_id="sync", client_secret=SECRET, **settings)
    frame = caught.tb.tb_next
    while frame is not None:
        assert SECRET not in repr(frame.tb_frame.f_locals)
        frame = frame.tb_next
    assert caught.value.__context__ is None
    assert SECRET not in str(caught.value)


def test_no_client_id() -> None:
    """Where the provider has clients, one without an id is a wrong setting."""
    with pytest.raises(ConfigurationError, match="client_id"):
        GITHUB.grant(client_secret=SECRET)


def test_what_no_url_has_a_place_for() -> None:
    """`filled` says so of a name that no URL has."""
    with pytest.raises(ConfigurationError, match="No URL of GitHub has a place for 'realm'"):
        GITHUB.filled(realm="a")


def test_a_preset_is_only_data() -> None:
    """Frozen, slotted, hashable, and equal to another with the same data."""
    with pytest.raises(dataclasses.FrozenInstanceError):
        GITHUB.name = "x"  # type: ignore[misc] # that is the point
    assert not hasattr(GITHUB, "__dict__")
    assert dataclasses.replace(GITHUB) == GITHUB
    assert hash(dataclasses.replace(GITHUB)) == hash(GITHUB)
