"""Logging in, logging out and finding the way: what Authlib's server and the toolkit answer.

As in `test_servers_answer.py`, all with plain requests.
"""

from __future__ import annotations

import base64
import hashlib
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from tests.providers.conftest import Provider

from .asking import DEVICE, error, get, post, token
from .servers import AuthlibServer

REDIRECT = "http://127.0.0.1:49152/callback"
VERIFIER = "a-verifier-of-at-least-forty-three-characters-in-length"
OAUTH = "/.well-known/oauth-authorization-server"
OPENID = "/.well-known/openid-configuration"


def challenge(verifier: str) -> str:
    digest = hashlib.sha256(verifier.encode()).digest()
    return base64.urlsafe_b64encode(digest).rstrip(b"=").decode()


def authorize(server: AuthlibServer, method: str = "none", **changed: Any) -> dict[str, str]:
    """What the redirect tells the client, after the person said yes or no."""
    asked = {
        "response_type": "code",
        "client_id": server.client_id(method),
        "redirect_uri": REDIRECT,
        "state": "a state & more",
        "code_challenge": challenge(VERIFIER),
        "code_challenge_method": "S256",
    }
    reply = get(server.authorize_url, **{**asked, **changed})
    assert reply.status_code == 302
    location = urlsplit(reply.headers["Location"])
    assert location._replace(query="").geturl() == REDIRECT
    return {name: values[0] for name, values in parse_qs(location.query).items()}


def redeem(server: AuthlibServer, code: str, **changed: Any) -> Any:
    form = {"redirect_uri": REDIRECT, "code_verifier": VERIFIER, "method": "none", **changed}
    return token(server, grant_type="authorization_code", code=code, **form)


@pytest.mark.parametrize("method", ["none", "client_secret_basic", "private_key_jwt"])
def test_a_code_becomes_tokens(authlib: AuthlibServer, method: str) -> None:
    """The redirect has code, state and issuer; the code gets a login (RFC 6749 4.1, RFC 9207)."""
    told = authorize(authlib, method, scope="read")
    assert (told["state"], told["iss"]) == ("a state & more", authlib.issuer)
    reply = redeem(authlib, told["code"], method=method).json()
    assert (reply["scope"], "refresh_token" in reply) == ("read", True)
    assert authlib.get(reply["access_token"]).json()["user"] == authlib.user


def test_a_code_serves_once(authlib: AuthlibServer) -> None:
    """A second use is refused and ends the login (RFC 6749 section 4.1.2)."""
    code = authorize(authlib)["code"]
    reply = redeem(authlib, code).json()
    assert error(redeem(authlib, code)) == (400, "invalid_grant")
    assert authlib.get(reply["access_token"]).status_code == 401


@pytest.mark.parametrize(
    ("changed", "wanted"),
    [
        ({"code_verifier": VERIFIER + "x"}, "invalid_grant"),
        ({"code_verifier": ""}, "invalid_request"),
        ({"redirect_uri": REDIRECT + "/other"}, "invalid_grant"),
        ({"code": "unknown"}, "invalid_grant"),
        ({"method": "client_secret_basic"}, "invalid_grant"),
    ],
)
def test_a_code_is_for_who_asked_for_it(
    authlib: AuthlibServer, changed: dict[str, str], wanted: str
) -> None:
    """Verifier, redirect and client are those of the request (RFC 7636 section 4.6)."""
    code = authorize(authlib)["code"]
    assert error(redeem(authlib, **{"code": code, **changed})) == (400, wanted)


def test_a_bound_code_gives_bound_tokens(authlib: AuthlibServer) -> None:
    """The resource of the authorization request binds its tokens (RFC 8707 section 2.2)."""
    code = authorize(authlib, resource="https://b.example/")["code"]
    assert error(redeem(authlib, code, resource=authlib.api)) == (400, "invalid_target")
    reply = redeem(authlib, code).json()
    assert authlib.get(reply["access_token"]).status_code == 401


def test_a_refused_consent_is_told(authlib: AuthlibServer) -> None:
    """`access_denied` comes by the redirect, with the state (RFC 6749 section 4.1.2.1)."""
    authlib.deny()
    told = authorize(authlib)
    assert (told["error"], told["state"]) == ("access_denied", "a state & more")
    assert "code" in authorize(authlib)
    plain = authorize(authlib, code_challenge_method="plain")
    assert plain["error"] == "invalid_request"


def test_no_redirect_to_strangers(authlib: AuthlibServer) -> None:
    """A redirect URI that is not the client's is answered, not followed (RFC 6749 4.1.2.1)."""
    asked = {"response_type": "code", "client_id": authlib.client_id("none")}
    reply = get(authlib.authorize_url, **asked, redirect_uri="https://elsewhere.example/")
    assert error(reply) == (400, "invalid_request")


@pytest.mark.parametrize("method", ["none", "client_secret_post", "client_secret_jwt"])
def test_a_device_waits_for_its_person(authlib: AuthlibServer, method: str) -> None:
    """Pending, slow down, and then tokens, once (RFC 8628 section 3)."""
    authlib.configure(interval=7, device_lifetime=90)
    begun = post(authlib, authlib.device_url, method=method, scope="read").json()
    assert (begun["interval"], begun["expires_in"]) == (7, 90)
    assert begun["user_code"] in get(begun["verification_uri_complete"]).text
    poll = {"method": method, "grant_type": DEVICE, "device_code": begun["device_code"]}
    assert error(token(authlib, **poll)) == (400, "authorization_pending")
    authlib.slow_down(2)
    codes = [error(token(authlib, **poll))[1] for _ in range(3)]
    assert codes == ["slow_down", "slow_down", "authorization_pending"]
    authlib.confirm(begun["user_code"])
    reply = token(authlib, **poll).json()
    assert (reply["scope"], "refresh_token" in reply) == ("read", True)
    assert authlib.get(reply["access_token"]).json()["user"] == authlib.user
    assert error(token(authlib, **poll)) == (400, "invalid_grant")
    assert (authlib.counts().requests, authlib.counts().issued) == ({DEVICE: 6}, {DEVICE: 1})


def test_a_device_is_denied_or_too_late(authlib: AuthlibServer) -> None:
    """`access_denied` and `expired_token` (RFC 8628 section 3.5)."""
    begun = post(authlib, authlib.device_url, method="none").json()
    authlib.confirm(begun["user_code"], approve=False)
    poll = {"method": "none", "grant_type": DEVICE}
    denied = token(authlib, **poll, device_code=begun["device_code"])
    assert error(denied) == (400, "access_denied")
    authlib.configure(device_lifetime=0)
    late = post(authlib, authlib.device_url, method="none").json()
    expired = token(authlib, **poll, device_code=late["device_code"])
    assert error(expired) == (400, "expired_token")


@pytest.mark.parametrize("method", ["client_secret_basic", "private_key_jwt", "none"])
def test_a_revoked_refresh_token_ends_the_login(authlib: AuthlibServer, method: str) -> None:
    """Both tokens die, and a wrong hint does no harm (RFC 7009 section 2.1)."""
    login = authlib.login(method)
    form = {"token": login["refresh_token"], "token_type_hint": "access_token"}
    assert post(authlib, authlib.revocation_url, method=method, **form).status_code == 200
    assert authlib.get(login["access_token"]).status_code == 401
    again = token(
        authlib, method=method, grant_type="refresh_token", refresh_token=login["refresh_token"]
    )
    assert error(again) == (400, "invalid_grant")
    assert authlib.counts().revocations == 1
    assert authlib.last("/revoke")["token_type_hint"] == "access_token"


def test_a_revoked_access_token_leaves_the_refresh_token(authlib: AuthlibServer) -> None:
    """Only what was named dies, if the server will have it so (RFC 7009 section 2.1)."""
    login = authlib.login()
    assert post(authlib, authlib.revocation_url, token=login["access_token"]).status_code == 200
    assert authlib.get(login["access_token"]).status_code == 401
    form = {"grant_type": "refresh_token", "refresh_token": login["refresh_token"]}
    assert token(authlib, **form).status_code == 200


def test_revocation_of_what_is_not_ones_own(authlib: AuthlibServer) -> None:
    """Unknown: 200. Another's, an unknown hint or client: an error (RFC 7009 section 2.2)."""
    url, login = authlib.revocation_url, authlib.login()
    assert post(authlib, url, token="unknown").status_code == 200
    anothers = post(authlib, url, method="client_secret_post", token=login["refresh_token"])
    assert error(anothers) == (400, "invalid_grant")
    hinted = post(authlib, url, token=login["refresh_token"], token_type_hint="cookie")
    assert hinted.json()["error"] == "unsupported_token_type"  # with a 401, from Authlib
    assert error(post(authlib, url, method=None, token="x")) == (401, "invalid_client")
    assert authlib.get(login["access_token"]).status_code == 200
    assert authlib.counts().revocations == 0


def test_both_metadata_documents(authlib: AuthlibServer) -> None:
    """The same facts by RFC 8414 and by OpenID, for issuers with and without a path."""
    for issuer in (authlib.issuer, f"{authlib.issuer}/tenant"):
        path = issuer.removeprefix(authlib.url)
        oauth = get(authlib.url + OAUTH + path).json()
        assert get(issuer + OPENID).json() == oauth
        assert (oauth["issuer"], oauth["token_endpoint"]) == (issuer, authlib.token_url)
        assert oauth["revocation_endpoint"] == authlib.revocation_url
        assert oauth["device_authorization_endpoint"] == authlib.device_url
        assert oauth["authorization_endpoint"] == authlib.authorize_url


def test_metadata_that_is_missing_or_lies(authlib: AuthlibServer) -> None:
    """Issuers with one of the documents only, and one that names another issuer."""
    statuses = {
        name: (
            get(f"{authlib.url}{OAUTH}/{name}").status_code,
            get(f"{authlib.url}/{name}{OPENID}").status_code,
        )
        for name in ("oauth-only", "openid-only")
    }
    assert statuses == {"oauth-only": (200, 404), "openid-only": (404, 200)}
    assert get(f"{authlib.url}{OAUTH}/liar").json()["issuer"] == "https://elsewhere.example"


def test_the_api_wants_a_living_token_with_its_scope(authlib: AuthlibServer) -> None:
    """401 `invalid_token` once it is dead; 403 `insufficient_scope` (RFC 6750 section 3.1)."""
    access = authlib.login(scope="read")["access_token"]
    short = authlib.get(access, "admin")
    assert error(short) == (403, "insufficient_scope")
    assert get(authlib.api + "items").status_code == 401
    authlib.expire()
    dead = authlib.get(access)
    assert error(dead) == (401, "invalid_token")
    assert dead.headers["WWW-Authenticate"].startswith("Bearer ")
    assert (authlib.counts().served, authlib.counts().refused) == (0, 3)


def test_what_a_test_may_set_and_ask(authlib: AuthlibServer) -> None:
    """Lifetimes, planned failures, what came last, and a new beginning."""
    authlib.configure(lifetime=5)
    login = authlib.login()
    assert login["expires_in"] == 5
    authlib.answer("/token", 503, times=2, retry_after="7")
    form = {"grant_type": "refresh_token", "refresh_token": login["refresh_token"]}
    replies = [token(authlib, **form, scope="read") for _ in range(3)]
    assert [reply.status_code for reply in replies] == [503, 503, 200]
    assert replies[0].headers["Retry-After"] == "7"
    came = authlib.last()
    assert came["names"] == ["grant_type", "refresh_token", "scope"]
    assert (came["scope"], came["authorization"]) == ("read", "Basic")
    authlib.reset()
    assert error(token(authlib, **form)) == (400, "invalid_grant")
    assert authlib.login()["expires_in"] == 3600


def test_the_toolkit_gives_a_client_its_token(oauth: Provider) -> None:
    """django-oauth-toolkit: client credentials, and no refresh token."""
    client = {"client_id": oauth.service_id, "client_secret": oauth.service_secret}
    reply = oauth.post(oauth.refresh_url, {"grant_type": "client_credentials", **client})
    assert (reply.status_code, "refresh_token" in reply.json()) == (200, False)
    assert oauth.get(reply.json()["access_token"]).json()["user"] is None


def test_the_toolkit_serves_a_device(oauth: Provider) -> None:
    """django-oauth-toolkit: pending, then tokens; or denied."""
    client = {"client_id": oauth.device_client_id}
    for approve in (True, False):
        begun = oauth.post(oauth.device_url, client).json()
        poll = {**client, "grant_type": DEVICE, "device_code": begun["device_code"]}
        pending = oauth.post(oauth.refresh_url, poll)
        assert error(pending) == (400, "authorization_pending")
        oauth.confirm(begun["user_code"], approve)
        reply = oauth.post(oauth.refresh_url, poll)
        if approve:
            assert oauth.get(reply.json()["access_token"]).status_code == 200
        else:
            assert error(reply) == (400, "access_denied")


def test_the_toolkit_revokes(oauth: Provider) -> None:
    """django-oauth-toolkit: a revoked refresh token takes the access token with it."""
    login = oauth.login()
    client = {"client_id": oauth.client_id, "client_secret": oauth.client_secret}
    revoked = oauth.post(oauth.revocation_url, {"token": login["refresh_token"], **client})
    assert revoked.status_code == 200
    assert error(oauth.refresh(login["refresh_token"])) == (400, "invalid_grant")
    assert oauth.get(login["access_token"]).status_code == 401
    assert oauth.counters()["revocations"] == 1


def test_the_toolkit_tells_where_it_is(oauth: Provider) -> None:
    """django-oauth-toolkit: both documents, of an issuer with a path."""
    root = oauth.issuer.removesuffix("/o")
    for url in (f"{root}{OAUTH}/o", oauth.issuer + OPENID):
        told = get(url).json()
        assert (told["issuer"], told["token_endpoint"]) == (oauth.issuer, oauth.refresh_url)
    assert get(f"{root}{OAUTH}/o").json()["revocation_endpoint"] == oauth.revocation_url
