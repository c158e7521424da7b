"""`BrowserLogin`: the address that is opened, the answers that count, and the code's exchange."""

from __future__ import annotations

import base64
import hashlib
import io
import socket
import sys
import threading
import webbrowser
from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from requests_refresh import (
    ConfigurationError,
    LoginRequired,
    RefreshRefused,
    RefreshTimeout,
    RefreshUnavailable,
)
from requests_refresh.logins import BrowserLogin
from requests_refresh.logins import base as logins_base
from tests.grants.endpoint import PATIENCE, Answer, EndpointServer, reset
from tests.logins.support import ISSUED, Clock, Person, agrees, browser, fetch, query_of, says


def test_a_login(server: EndpointServer) -> None:
    """The code comes back to this host and is exchanged with the verifier, PKCE by S256."""
    person = Person(agrees)
    server.will(Answer(200, ISSUED))
    token = browser(server, open=person, scope="read", audience="api", extra={"tenant": "t"})()
    assert token.access_token == ISSUED["access_token"]
    assert token.refresh_token == ISSUED["refresh_token"]
    asked = query_of(person.urls[0])
    assert person.urls[0].startswith("https://auth.example.com/authorize?")
    redirect = asked["redirect_uri"]
    assert redirect.startswith("http://127.0.0.1:")
    assert redirect.endswith("/callback")
    sent = server.only.form
    digest = hashlib.sha256(sent["code_verifier"].encode()).digest()
    challenge = base64.urlsafe_b64encode(digest).rstrip(b"=").decode()
    assert 43 <= len(sent["code_verifier"]) <= 128
    assert len(asked.pop("state")) >= 43
    assert asked == {
        "response_type": "code",
        "client_id": "cli",
        "redirect_uri": redirect,
        "scope": "read",
        "audience": "api",
        "code_challenge": challenge,
        "code_challenge_method": "S256",
    }
    assert sent == {
        "grant_type": "authorization_code",
        "client_id": "cli",
        "code": "CANARY+code",
        "redirect_uri": redirect,
        "code_verifier": sent["code_verifier"],
        "audience": "api",
        "tenant": "t",
    }
    assert person.done.wait(PATIENCE)


def test_each_login_is_new(server: EndpointServer) -> None:
    """State, verifier and challenge are never used twice."""
    person = Person(agrees)
    server.will(Answer(200, ISSUED), Answer(200, ISSUED))
    login = browser(server, open=person)
    login()
    login()
    for name in ("state", "code_challenge"):
        assert len({query_of(url)[name] for url in person.urls}) == 2
    assert len({seen.form["code_verifier"] for seen in server.seen}) == 2


def test_more_parameters(server: EndpointServer) -> None:
    """Parameters, several resources and the endpoint's own query are kept; loopback http is too."""
    urls: list[str] = []

    def act(url: str) -> bool:
        urls.append(url)
        redirect = parse_qs(urlsplit(url).query)["redirect_uri"][0]
        fetch(f"{redirect}?code=c&state={parse_qs(urlsplit(url).query)['state'][0]}")
        return True

    authorize = server.url.replace("/token", "/authorize?tenant=t")
    server.will(Answer(200, ISSUED))
    BrowserLogin(
        server.url,
        authorize_url=authorize,
        client_id="cli",
        parameters={"prompt": "consent"},
        resource=["https://a.test/", "https://b.test/"],
        open=act,
        wait=PATIENCE,
    )()
    assert urls[0].startswith(f"{authorize}&resource=https%3A%2F%2Fa.test%2F&resource=")
    assert "&prompt=consent" in urls[0]
    assert server.only.body.count(b"resource=") == 2


def test_the_page(server: EndpointServer) -> None:
    """The person sees a page that runs nothing, is kept nowhere and quotes nothing."""
    person = Person(agrees)
    server.will(Answer(200, ISSUED))
    browser(server, open=person)()
    assert person.done.wait(PATIENCE)
    (answer,) = person.answers
    assert answer.status == 200
    assert answer.headers["Content-Type"] == "text/html; charset=utf-8"
    assert answer.headers["Cache-Control"] == "no-store"
    assert answer.headers["Referrer-Policy"] == "no-referrer"
    assert answer.headers["Content-Security-Policy"] == "default-src 'none'"
    assert "<script" not in answer.text
    assert "CANARY" not in answer.text


def test_a_code_that_is_refused(server: EndpointServer) -> None:
    """`invalid_grant` at the exchange is LoginRequired, and speaks of no refresh token."""
    server.will(says("invalid_grant", error_description="used"))
    with pytest.raises(LoginRequired, match=r"\(invalid_grant: used\)") as caught:
        browser(server, open=Person(agrees))()
    assert "refresh token" not in str(caught.value)


def test_a_client_that_is_refused_at_the_exchange(server: EndpointServer) -> None:
    """`invalid_client` at the exchange is RefreshRefused."""
    server.will(says("invalid_client", 401))
    with pytest.raises(RefreshRefused, match="invalid_client"):
        browser(server, open=Person(agrees))()


def clocked(login: BrowserLogin) -> Clock:
    clock = Clock()
    login._clock, login._sleep = clock, clock.sleep
    return clock


def test_an_outage_at_the_exchange(server: EndpointServer) -> None:
    """I8: the code is sent again while the network fails; the person is not asked again."""
    person = Person(agrees)
    server.will(
        reset, Answer(503), Answer(429, headers=[("Retry-After", "7")]), Answer(200, ISSUED)
    )
    login = browser(server, open=person)
    clock = clocked(login)
    login()
    assert sum(clock.slept) == 1 + 2 + 7
    assert len({seen.body for seen in server.seen}) == 1
    assert len(person.urls) == 1


def test_an_outage_that_lasts(server: EndpointServer) -> None:
    """I8: an exchange that cannot be done within a minute is RefreshUnavailable, for later."""
    server.will(*[Answer(503)] * 7)
    login = browser(server, open=Person(agrees))
    clocked(login)
    with pytest.raises(RefreshUnavailable, match="The person completed the login") as caught:
        login()
    assert caught.value.retry_after is not None
    assert len(server.seen) == 6


def test_nobody_comes(server: EndpointServer) -> None:
    """When `wait` is over it is LoginRequired, and nobody listens any more."""
    person = Person(lambda redirect, query: None)
    with pytest.raises(LoginRequired, match="in time"):
        browser(server, open=person, wait=0.05)()
    assert person.done.wait(PATIENCE)
    with pytest.raises(OSError, match="refused"):
        fetch(query_of(person.urls[0])["redirect_uri"])


def test_the_rounds_time_is_over(server: EndpointServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where only the round's time is over it is RefreshTimeout."""
    left = iter([1.0, 0.01, 0.0])
    monkeypatch.setattr(logins_base, "remaining", lambda: next(left, 0.0))
    with pytest.raises(RefreshTimeout, match="timeout of some minutes"):
        browser(server)()


def broken(url: str) -> bool:
    raise webbrowser.Error("no browser")


@pytest.mark.parametrize("open_", [lambda url: False, broken], ids=["none", "broken"])
def test_no_browser(
    server: EndpointServer, open_: Callable[[str], bool], capsys: pytest.CaptureFixture[str]
) -> None:
    """Where no browser opens, the address is shown once, by `show`."""
    shown: list[str] = []

    def show(url: str) -> None:
        shown.append(url)
        threading.Thread(target=Person(agrees), args=(url,), daemon=True).start()

    server.will(Answer(200, ISSUED))
    browser(server, open=open_, show=show)()
    assert len(shown) == 1
    assert capsys.readouterr() == ("", "")


class Screen(io.StringIO):
    """Whoever reads here does as it says."""

    def flush(self) -> None:
        url = self.getvalue().split()[-1]
        threading.Thread(target=Person(agrees), args=(url,), daemon=True).start()


def test_no_browser_and_no_show(server: EndpointServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without `show` the address goes to standard error, in two lines."""
    screen = Screen()
    server.will(Answer(200, ISSUED))
    with monkeypatch.context() as patch:
        patch.setattr(sys, "stderr", screen)
        browser(server, open=lambda url: False)()
    said = screen.getvalue().splitlines()
    assert said[0] == "To log in, open this address in a browser on this computer:"
    assert said[1].startswith("https://auth.example.com/authorize?response_type=code&")
    assert len(said) == 2


def test_the_browser_of_this_host(server: EndpointServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without `open` it is `webbrowser.open`; where no thread can be had, the address is shown."""
    person = Person(agrees)
    monkeypatch.setattr(webbrowser, "open", person)
    server.will(Answer(200, ISSUED), Answer(200, ISSUED))
    login = BrowserLogin(server.url, authorize_url="https://a.test/", client_id="cli", wait=30)
    login()
    assert len(person.urls) == 1

    def show(url: str) -> None:
        monkeypatch.undo()
        threading.Thread(target=Person(agrees), args=(url,), daemon=True).start()

    def start(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    login._show = show
    monkeypatch.setattr(threading.Thread, "start", start)
    # The server's own thread for the exchange comes after `show` has put things right.
    login()
    assert len(person.urls) == 1


def test_a_connection_that_hangs(server: EndpointServer) -> None:
    """Somebody on this host who connects and says nothing does not keep the browser out."""
    hung: list[socket.socket] = []

    def act(redirect: str, query: dict[str, str]) -> str:
        port = urlsplit(redirect).port
        hung.extend(socket.create_connection(("127.0.0.1", port or 0)) for _ in range(20))
        hung[0].sendall(b"GET /callback?code=evil&state=x HTTP/1.1\r\n")
        return agrees(redirect, query)

    server.will(Answer(200, ISSUED))
    assert browser(server, open=Person(act))().access_token == ISSUED["access_token"]
    for connection in hung:
        connection.close()


def test_two_logins_at_once(server: EndpointServer) -> None:
    """Each login has a port, a state and a verifier of its own; answers do not mix."""
    met = threading.Barrier(2)

    def act(redirect: str, query: dict[str, str]) -> str:
        met.wait(PATIENCE)
        return f"{redirect}?code={query['code_challenge']}&state={query['state']}"

    server.will(Answer(200, ISSUED), Answer(200, ISSUED))
    login = browser(server, open=Person(act))
    threads = [threading.Thread(target=login) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
    assert len(server.seen) == 2
    for seen in server.seen:
        digest = hashlib.sha256(seen.form["code_verifier"].encode()).digest()
        assert seen.form["code"] == base64.urlsafe_b64encode(digest).rstrip(b"=").decode()


def test_a_port_that_is_taken(server: EndpointServer) -> None:
    """Where nothing can listen it is said, before anything is opened; a port can be used again."""
    person = Person(lambda redirect, query: agrees(redirect, query))
    taken = server.server_port
    with pytest.raises(ConfigurationError, match=f"port {taken}"):
        browser(server, open=person, port=taken)()
    assert person.urls == []
    server.will(Answer(200, ISSUED), Answer(200, ISSUED))
    browser(server, open=person)()
    free = int(query_of(person.urls[0])["redirect_uri"].split(":")[2].split("/")[0])
    browser(server, open=person, port=free, path="/done/")()
    assert query_of(person.urls[1])["redirect_uri"] == f"http://127.0.0.1:{free}/done/"


@pytest.mark.parametrize(
    "wrong",
    [
        {"authorize_url": "http://auth.example.com/authorize"},
        {"issuer": ""},
        {"port": -1},
        {"port": True},
        {"port": 65536},
        {"path": "callback"},
        {"path": "/a?b"},
        {"path": "/é"},
        {"open": "firefox"},
        {"show": "loudly"},
        {"parameters": ["prompt"]},
        {"parameters": {"prompt": 1}},
        {"parameters": {"state": "x"}},
        {"wait": 0},
        {"wait": float("inf")},
        {"client_id": ""},
    ],
    ids=str,
)
def test_settings_that_cannot_be_right(wrong: dict[str, Any]) -> None:
    """A wrong setting is said at construction."""
    right: dict[str, Any] = {"authorize_url": "https://a.test/authorize", "client_id": "cli"}
    with pytest.raises(ConfigurationError, match=next(iter(wrong))):
        BrowserLogin("https://a.test/token", **{**right, **wrong})


def test_without_oauthlib(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where oauthlib is missing, the construction says what to install."""
    monkeypatch.setitem(sys.modules, "oauthlib.oauth2", None)
    with pytest.raises(ConfigurationError, match=r"requests_refresh\[login\]"):
        BrowserLogin("https://a.test/token", authorize_url="https://a.test/", client_id="c")
