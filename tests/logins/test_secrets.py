"""I9: codes, verifiers, passwords and client secrets are in no error, log, repr or output."""

from __future__ import annotations

import base64
import logging
import pickle
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import unquote_plus

import oauthlib.oauth2  # type: ignore[import-untyped]  # it has no types
import pytest

from requests_refresh import ConfigurationError, RefreshError
from requests_refresh.logins import BrowserLogin, DeviceLogin, PasswordLogin
from requests_refresh.logins.loopback import Loopback
from tests.grants.endpoint import Answer, Behaviour, EndpointServer, Handler
from tests.grants.test_secrets import BAD, ENCODED, MARK, SECRET, assert_no_secret
from tests.logins.support import (
    DEVICE,
    ISSUED,
    Clock,
    Person,
    agrees,
    browser,
    device,
    fetch,
    says,
)

VERIFIER = "CANARY.verifier" * 4
NEW = {**ISSUED, "access": ISSUED["access_token"], "refresh": ISSUED["refresh_token"]}


@pytest.fixture(autouse=True)
def everything_is_searched(
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[None]:
    """All libraries log all they have, and nothing that is printed or logged is secret."""
    made = oauthlib.oauth2.WebApplicationClient
    monkeypatch.setattr(made, "create_code_verifier", lambda client, length: VERIFIER)
    caplog.set_level(logging.DEBUG)
    yield
    out, err = capfd.readouterr()
    for text in (caplog.text, out, err):
        assert MARK not in text
        assert not any(code in text for code in ENCODED)


def echo(status: int) -> Behaviour:
    """All that was sent comes back in the places that are quoted."""

    def behave(handler: Handler) -> None:
        seen = handler.server.seen[-1]
        is_json = "json" in seen.headers["Content-Type"]
        sent = [seen.body.decode()]
        sent += [] if is_json else [unquote_plus(sent[0])]
        sent += map(str, (seen.json if is_json else seen.form).values())
        sent += seen.headers.get("X-Api-Key", "").split()
        if "Authorization" in seen.headers:
            code = seen.headers["Authorization"].removeprefix("Basic ")
            sent += [code, base64.b64decode(code).decode(), SECRET]
        said = " ".join(sent)
        split = "\x00".join(said)  # what is taken out must not put a secret together
        body = {"error": said, "error_description": split, "code": split, "detail": said}
        Answer(status, body)(handler)

    return behave


HOSTILE = {**BAD, **{f"echo {status}": echo(status) for status in (200, 400, 401, 404, 429)}}


def on_device(server: EndpointServer) -> DeviceLogin:
    server.will(Answer(200, {**DEVICE, "expires_in": 60}))
    return device(server, Clock(), client_id="sync", client_secret=SECRET, show=None)


def before_the_device(server: EndpointServer) -> DeviceLogin:
    return device(server, Clock(), client_secret=SECRET, client_auth="client_secret_post")


def in_browser(server: EndpointServer, **settings: Any) -> BrowserLogin:
    given = {"client_id": "sync", "client_secret": SECRET, "open": Person(agrees), **settings}
    login = browser(server, **given)
    clock = Clock()
    login._clock, login._sleep = clock, clock.sleep
    return login


def by_password(server: EndpointServer) -> PasswordLogin:
    return PasswordLogin(
        server.url,
        username="alice",
        password='CANARY "pä\\ss"',
        extra={"otp": lambda: "CANARY+ö"},
        headers={"X-Api-Key": "CANARY+key"},
    )


LOGINS: list[Callable[[EndpointServer], Any]] = [
    on_device,
    before_the_device,
    in_browser,
    by_password,
]


@pytest.mark.parametrize("behaviour", HOSTILE.values(), ids=HOSTILE.keys())
@pytest.mark.parametrize("make", LOGINS)
def test_no_secret_comes_out(
    server: EndpointServer, make: Callable[[EndpointServer], Any], behaviour: Behaviour
) -> None:
    """I9: errors of each login, for each thing that can go wrong on the wire."""
    login = make(server)
    server.will(behaviour)
    with pytest.raises(RefreshError) as caught:
        login()
    assert (caught.value.__cause__, caught.value.__context__) == (None, None)
    assert (caught.value.request, caught.value.response) == (None, None)
    assert_no_secret(caught.value)


@pytest.mark.parametrize("make", [on_device, in_browser, by_password])
def test_no_secret_when_all_is_well(
    server: EndpointServer, make: Callable[[EndpointServer], Any]
) -> None:
    """I9: a login that works shows and logs no secret, nor do its reprs and pickles."""
    login = make(server)
    server.will(Answer(200, NEW))
    token = login()
    assert token.access_token == ISSUED["access_token"]
    assert MARK not in repr((login, token, getattr(login, "_texts", None)))


def test_pickles(server: EndpointServer) -> None:
    """I9, I14: a pickle has no secret, and the login that comes of it says so."""
    for login in (
        device(server, client_secret=SECRET, show=print),
        browser(server, client_secret=SECRET, open=print, show=print),
    ):
        pickled = pickle.dumps(login)
        assert MARK.encode() not in pickled
        again = pickle.loads(pickled)  # noqa: S301  # it is our own
        again._open = Person(agrees)
        with pytest.raises(ConfigurationError, match="left behind"):
            again()
    assert server.seen == []


def test_errors_that_the_browser_brings(server: EndpointServer) -> None:
    """I9: state, verifier and code are in no error, though the answer repeats them."""

    def act(redirect: str, query: dict[str, str]) -> str:
        fetch(f"{redirect}?state=wrong&code=CANARY")
        states.append(query["state"])
        said = f"{query['state']}%20{VERIFIER}%20CANARY%2Bcode"
        return (
            f"{redirect}?error=access_denied&error_description={said}"
            f"&code=CANARY%2Bcode&state={query['state']}"
        )

    states: list[str] = []
    with pytest.raises(RefreshError, match=r"access_denied: \*\*\* \*\*\* \*\*\*") as caught:
        in_browser(server, open=Person(act))()
    assert_no_secret(caught.value)
    assert states[0] not in str(caught.value)


def interrupt(*args: object) -> None:
    raise KeyboardInterrupt


def test_ctrl_c_in_the_middle(server: EndpointServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """I9, I14: KeyboardInterrupt passes as it is, and no frame that holds a secret with it."""
    waiting = on_device(server)
    waiting._sleep = interrupt
    with pytest.raises(KeyboardInterrupt) as caught:
        waiting()
    assert_no_secret(caught.value)
    monkeypatch.setattr(Loopback, "serve", interrupt)
    with pytest.raises(KeyboardInterrupt) as caught:
        in_browser(server)()
    assert_no_secret(caught.value)


def test_a_show_that_fails(server: EndpointServer) -> None:
    """I9: what `show` raises is the cause, and the frames around it hold no secret."""

    def show(prompt: object) -> None:
        raise LookupError("no screen")

    server.will(Answer(200, DEVICE))
    with pytest.raises(RefreshError) as caught:
        device(server, show=show)()
    assert isinstance(caught.value.__cause__, LookupError)
    assert_no_secret(caught.value)
    with pytest.raises(RefreshError) as caught:
        in_browser(server, open=lambda url: False, show=show)()
    assert isinstance(caught.value.__cause__, LookupError)
    assert_no_secret(caught.value)


WRONG: list[Callable[[], Any]] = [
    lambda: DeviceLogin("https://a.test/", device_url="x", client_id="c", client_secret=SECRET),
    lambda: DeviceLogin(
        "https://a.test/", device_url="https://a.test/", client_id="", client_secret=SECRET
    ),
    lambda: BrowserLogin("https://a.test/", authorize_url="x", client_id="", client_secret=SECRET),
    lambda: BrowserLogin(
        "https://a.test/", authorize_url="https://a.test/", client_id="", client_secret=SECRET
    ),
    lambda: PasswordLogin("https://a.test/", username="", password=SECRET),
]


@pytest.mark.parametrize("make", WRONG, ids=map(str, range(len(WRONG))))
def test_settings_that_cannot_be_right(make: Callable[[], Any]) -> None:
    """I9: a wrong setting beside a secret one does not bring that to light."""
    with pytest.raises(ConfigurationError) as caught:
        make()
    assert_no_secret(caught.value)


@pytest.mark.parametrize("kind", [BrowserLogin, DeviceLogin])
def test_a_provider_that_is_not_there(nobody: str, kind: Any) -> None:
    """I9: where there is no metadata to be had, no setting comes to light."""
    with pytest.raises(RefreshError) as caught:
        kind.discover(f"http://{nobody}", client_id="c", client_secret=SECRET)
    assert_no_secret(caught.value)


def test_what_is_shown_holds_no_device_code(
    server: EndpointServer, capfd: pytest.CaptureFixture[str]
) -> None:
    """The prompt has what the person needs; the device code is for the provider alone."""
    login = on_device(server)
    server.will(says("authorization_pending"), Answer(200, NEW))
    login()
    shown = capfd.readouterr().err
    assert DEVICE["user_code"] in shown
    assert DEVICE["device_code"] not in shown
