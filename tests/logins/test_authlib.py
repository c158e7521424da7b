"""Logins at Authlib's own authorization server, alone and as `relogin=` of a source."""

from __future__ import annotations

import threading
import time
from typing import Any

import pytest
import requests

from requests_refresh import (
    LoginRequired,
    MemoryStore,
    RefreshAdapter,
    RefreshRefused,
    RefreshTimeout,
    RefreshTokenGrant,
    Token,
    TokenSource,
)
from requests_refresh.logins import BrowserLogin, DeviceLogin, DevicePrompt
from tests.authorization.servers import AuthlibServer
from tests.grants.endpoint import PATIENCE
from tests.logins.support import Clock, in_threads

CODE = "urn:ietf:params:oauth:grant-type:device_code"
WAYS = ["client_secret_basic", "client_secret_post", "client_secret_jwt", "none"]


def client(server: AuthlibServer, way: str) -> dict[str, Any]:
    return {
        "client_id": server.client_id(way),
        "client_secret": server.client_secret(way),
        "client_auth": way,
    }


def on_device(server: AuthlibServer, way: str = "none", **settings: Any) -> DeviceLogin:
    """A login whose person says yes as soon as the code is shown, and whose time flies."""
    given = {"show": lambda prompt: server.confirm(prompt.user_code), **client(server, way)}
    login = DeviceLogin(server.token_url, device_url=server.device_url, **{**given, **settings})
    clock = Clock()
    login._clock, login._sleep = clock, clock.sleep
    return login


def opens(url: str) -> bool:
    """A browser whose person is logged in at the provider, and is asked nothing."""
    with requests.Session() as http:
        http.trust_env = False
        return http.get(url, timeout=PATIENCE).status_code == 200  # two redirects later


def in_browser(server: AuthlibServer, way: str = "none", **settings: Any) -> BrowserLogin:
    given = {"open": opens, "wait": PATIENCE, "issuer": server.issuer, **client(server, way)}
    return BrowserLogin(
        server.token_url, authorize_url=server.authorize_url, **{**given, **settings}
    )


LOGINS = [on_device, in_browser]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("make", LOGINS)
def test_a_login(authlib: AuthlibServer, make: Any, way: str) -> None:
    """Each kind of client logs in, gets what it asked for, and can refresh it."""
    token = make(authlib, way, scope="read", resource=authlib.api)()
    assert authlib.get(token.access_token).json()["scope"] == "read"
    assert authlib.get(token.access_token).json()["audience"] == [authlib.api]
    refreshed = RefreshTokenGrant(authlib.token_url, **client(authlib, way))(token)
    assert authlib.get(refreshed.access_token or "").status_code == 200
    assert authlib.counts().reuses == 0


def test_slow_down(authlib: AuthlibServer) -> None:
    """The server's `slow_down` makes the login slower, for good."""
    authlib.slow_down(2)

    def confirm(prompt: DevicePrompt) -> None:
        prompts.append(prompt)

    prompts: list[DevicePrompt] = []
    login = on_device(authlib, show=confirm)
    slept: list[float] = []
    clock = Clock()

    def sleep(seconds: float) -> None:
        clock.sleep(seconds)
        slept.append(seconds)
        if sum(slept) == 5 + 10 + 14.5:
            authlib.confirm(prompts[0].user_code)

    login._clock, login._sleep = clock, sleep
    login()
    assert sum(slept) == 5 + 10 + 15
    assert authlib.counts().requests[CODE] == 3
    assert prompts[0].verification_uri == f"{authlib.url}/device"


def test_a_person_who_denies(authlib: AuthlibServer) -> None:
    """No is no, on a device and in a browser."""
    no = on_device(authlib, show=lambda prompt: authlib.confirm(prompt.user_code, approve=False))
    with pytest.raises(LoginRequired) as caught:
        no()
    assert caught.value.error == "access_denied"
    authlib.deny()
    with pytest.raises(LoginRequired) as caught:
        in_browser(authlib)()
    assert caught.value.error == "access_denied"


def test_a_code_that_expires(authlib: AuthlibServer) -> None:
    """What the server calls expired is LoginRequired, though our clock says that it lives."""
    authlib.configure(device_lifetime=2, interval=1)

    def dawdle(prompt: DevicePrompt) -> None:
        while time.time() <= prompt.expires_at:
            time.sleep(0.05)

    with pytest.raises(LoginRequired) as caught:
        on_device(authlib, show=dawdle)()
    assert caught.value.error == "expired_token"


def test_a_wrong_client(authlib: AuthlibServer) -> None:
    """A wrong secret is RefreshRefused, before anything is shown, and at the exchange."""
    prompts: list[DevicePrompt] = []
    wrong = {**client(authlib, "client_secret_basic"), "client_secret": "wrong"}
    with pytest.raises(RefreshRefused, match="invalid_client"):
        on_device(authlib, show=prompts.append, **wrong)()
    assert prompts == []
    with pytest.raises(RefreshRefused, match="invalid_client"):
        in_browser(authlib, **wrong)()


def test_an_outage(authlib: AuthlibServer) -> None:
    """I8: 503 at the token endpoint costs the person nothing."""
    for make in LOGINS:
        authlib.answer("/token", 503)
        login = make(authlib)
        clock = Clock()
        login._clock, login._sleep = clock, clock.sleep
        assert login().refresh_token is not None
    assert sum(authlib.counts().issued.values()) == 2


def test_discovery(authlib: AuthlibServer) -> None:
    """Both find all their endpoints by the issuer's metadata."""
    known: dict[str, Any] = {"client_id": authlib.client_id("none")}
    device = DeviceLogin.discover(
        authlib.issuer, show=lambda prompt: authlib.confirm(prompt.user_code), **known
    )
    clock = Clock()
    device._clock, device._sleep = clock, clock.sleep
    browser = BrowserLogin.discover(authlib.issuer, open=opens, wait=PATIENCE, **known)
    for login in (device, browser):
        assert authlib.get(login().access_token or "").status_code == 200


def test_two_logins_at_once(authlib: AuthlibServer) -> None:
    """Two threads that use one object have a login each."""
    for make in LOGINS:
        one, two = in_threads(2, make(authlib))
        assert one.refresh_token != two.refresh_token
        for token in (one, two):
            assert authlib.get(token.access_token).status_code == 200


def test_a_round_that_is_too_short(authlib: AuthlibServer) -> None:
    """I8: where the source's timeout is no time for a person, nothing that is stored is lost."""
    prompts: list[DevicePrompt] = []
    store, dead = MemoryStore(), Token(refresh_token="dead")
    store.save("default", dead)
    grant = RefreshTokenGrant(authlib.token_url, **client(authlib, "none"))
    tokens = TokenSource(grant, store, relogin=on_device(authlib, show=prompts.append), timeout=4.0)
    with pytest.raises(RefreshTimeout, match="timeout of some minutes"):
        tokens.token()
    tokens.close()
    assert len(prompts) == 1
    assert store.load("default") == dead


@pytest.mark.parametrize("make", LOGINS)
def test_one_relogin_for_all(authlib: AuthlibServer, make: Any) -> None:
    """I1, I3: of eight threads whose login was revoked one person is asked, once, for all."""
    kept = Token.from_reply(authlib.login("none"))
    authlib.expire()
    with requests.Session() as http:
        http.trust_env = False
        sent = {"token": kept.refresh_token, "client_id": authlib.client_id("none")}
        http.post(authlib.revocation_url, data=sent, timeout=PATIENCE).raise_for_status()
        calls: list[Token] = []
        login = make(authlib)

        def relogin() -> Token:
            calls.append(login())
            return calls[-1]

        grant = RefreshTokenGrant(authlib.token_url, **client(authlib, "none"))
        tokens = TokenSource(grant, token=kept, relogin=relogin, timeout=PATIENCE)
        http.mount(authlib.api, RefreshAdapter(tokens, origins=authlib.api))
        met = threading.Barrier(8)

        def get() -> int:
            met.wait(PATIENCE)
            return http.get(authlib.api + "items", timeout=PATIENCE).status_code

        assert in_threads(8, get) == [200] * 8
        assert len(calls) == 1
        authlib.expire()  # and from here on it refreshes as ever
        assert http.get(authlib.api + "items", timeout=PATIENCE).status_code == 200
    tokens.close()
    assert len(calls) == 1
    assert (authlib.counts().refreshes, authlib.counts().reuses) == (1, 0)


def test_nothing_stored_yet(authlib: AuthlibServer) -> None:
    """A source with nothing in its store logs in at its first use."""
    grant = RefreshTokenGrant(authlib.token_url, **client(authlib, "none"))
    tokens = TokenSource(grant, relogin=in_browser(authlib), timeout=PATIENCE)
    assert authlib.get(tokens.token().access_token or "").status_code == 200
    tokens.close()


def test_a_relogin_that_nobody_completes(authlib: AuthlibServer) -> None:
    """I3: where nobody says yes every waiter gets LoginRequired, and one person was asked once."""
    asked: list[DevicePrompt] = []

    def deny(prompt: DevicePrompt) -> None:
        asked.append(prompt)
        authlib.confirm(prompt.user_code, approve=False)

    grant = RefreshTokenGrant(authlib.token_url, **client(authlib, "none"))
    tokens = TokenSource(grant, relogin=on_device(authlib, show=deny), timeout=PATIENCE)
    found = in_threads(4, tokens.token)
    tokens.close()
    assert [type(error) for error in found] == [LoginRequired] * 4
    assert {error.error for error in found} == {"access_denied"}
    assert len({id(error) for error in found}) == 4
    assert len(asked) == 1
