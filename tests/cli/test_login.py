"""`requests-refresh login`: each way, what is kept, and what is not."""

from __future__ import annotations

import io
import json
import stat
from collections.abc import Callable
from typing import Any

import pytest
import requests
from rich.console import Console

from requests_refresh import DevicePrompt, Token, TokenSource
from requests_refresh.cli import login, main, settings
from requests_refresh.logins import BrowserLogin, DeviceLogin
from requests_refresh.testing import AuthServer
from tests.authorization.servers import AuthlibServer
from tests.grants.endpoint import PATIENCE
from tests.logins.support import Clock

from .support import Home


@pytest.fixture
def person(authlib_server: AuthlibServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody who says yes at once, on a device or in a browser; and time flies."""
    begin = DeviceLogin._begun

    def begun(self: DeviceLogin) -> Any:
        clock = Clock()
        monkeypatch.setattr(self, "_clock", clock)
        monkeypatch.setattr(self, "_sleep", clock.sleep)
        device = begin(self)
        authlib_server.confirm(device.prompt.user_code)
        return device

    def opens(url: str) -> bool:
        with requests.Session() as http:
            http.trust_env = False
            return http.get(url, timeout=PATIENCE).status_code == 200

    monkeypatch.setattr(DeviceLogin, "_begun", begun)
    monkeypatch.setattr("webbrowser.open", opens)


def test_by_a_code(
    home: Home, authlib_server: AuthlibServer, person: None, capsys: pytest.CaptureFixture[str]
) -> None:
    """By plain options: the code and the link are shown, the login is stored, the profile kept."""
    given = ["-p", "it", "--save", "--token-url", authlib_server.token_url]
    given += ["--device-url", authlib_server.device_url, "--scope", "read"]
    given += ["--client-id", authlib_server.client_id("none")]
    assert main(["login", *given]) == 0
    shown = capsys.readouterr().err
    assert "and enter" in shown
    assert "Logged in as 'default'" in shown
    assert stat.S_IMODE(home.config.stat().st_mode) == 0o600
    assert (home.tokens / "it.json").exists()
    assert main(["refresh", "-p", "it"]) == 0
    assert "Renewed" in capsys.readouterr().out


def test_in_a_browser(
    home: Home, authlib_server: AuthlibServer, person: None, capsys: pytest.CaptureFixture[str]
) -> None:
    """Where only the authorization endpoint is known it is in a browser, with PKCE."""
    given = ["--token-url", authlib_server.token_url, "--store", home.store]
    given += ["--authorize-url", authlib_server.authorize_url]
    given += ["--client-id", authlib_server.client_id("none")]
    assert main(["login", *given]) == 0
    with home.opened() as store:
        token = store.load("default")
    assert token is not None
    assert token.refresh_token is not None
    assert token.refresh_token not in capsys.readouterr().err


def test_as_the_program_itself(
    home: Home, authlib_server: AuthlibServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With client credentials nobody is asked; what is kept renews the same way."""
    monkeypatch.setenv(
        "REQUESTS_REFRESH_CLIENT_SECRET", authlib_server.client_secret("client_secret_post") or ""
    )
    given = ["-p", "robot", "--save", "--client-credentials"]
    given += ["--token-url", authlib_server.token_url, "--client-auth", "client_secret_post"]
    given += ["--client-id", authlib_server.client_id("client_secret_post")]
    assert main(["login", *given]) == 0
    assert 'grant = "client-credentials"' in home.config.read_text()
    assert "secret" not in home.config.read_text().replace("client_secret_post", "")
    assert main(["refresh", "-p", "robot"]) == 0
    assert main(["login", "-p", "robot"]) == 0  # the profile says how


@pytest.mark.parametrize("form", ["text", "reply", "stdin", "prompt", "refresh only"])
def test_with_a_token_at_hand(
    home: Home,
    auth: AuthServer,
    form: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A refresh token or a reply, by file, standard input or prompt, is tried and kept."""
    reply = auth.login()
    text = {
        "reply": json.dumps(reply),
        "refresh only": json.dumps({"refresh_token": reply["refresh_token"]}),
    }.get(form, reply["refresh_token"])
    given = ["--store", home.store, "--token-url", auth.token_url, "--client-id", "sync"]
    given += ["--client-secret-file", str(home.secret("client", "CANARY-client"))]
    if form == "prompt":
        monkeypatch.setattr("click.prompt", lambda *_, **__: text)
    elif form == "stdin":
        monkeypatch.setattr("sys.stdin", io.StringIO(text))
        given += ["--token-file", "-"]
    else:
        given += ["--token-file", str(home.secret("token", text))]
    assert main(["login", "--paste", *given]) == 0
    assert auth.counts.refreshes == (form != "reply")
    out = capsys.readouterr()
    assert reply["refresh_token"] not in out.out + out.err
    with home.opened() as store:
        assert store.load("default") is not None


def test_with_an_access_token(home: Home, capsys: pytest.CaptureFixture[str]) -> None:
    """An access token alone is kept as it is, and no provider is asked for."""
    path = str(home.secret("token", "an-access-token"))
    assert main(["login", "--store", home.store, "--access-token", "--token-file", path]) == 0
    assert "No refresh token came" in capsys.readouterr().err
    assert main(["status", "--store", home.store]) == 0


@pytest.mark.parametrize("text", ["{", '{"a": 1}', '{"refresh_token": 5}', '{"a":' * 9999])
def test_rubbish_is_no_token(
    home: Home, text: str, capsys: pytest.CaptureFixture[str], auth: AuthServer
) -> None:
    """What is no token is refused in words that do not quote it, and nothing is stored."""
    given = ["--store", home.store, "--token-url", auth.token_url, "--client-id", "sync"]
    given += ["--token-file", str(home.secret("token", text))]
    assert main(["login", *given]) == 1
    assert text not in capsys.readouterr().err
    with home.opened() as store:
        assert store.load("default") is None


def test_a_refused_refresh_token(
    home: Home, auth: AuthServer, capsys: pytest.CaptureFixture[str]
) -> None:
    """A refresh token that the provider refuses is no login: exit status 3."""
    given = ["--store", home.store, "--token-url", auth.token_url, "--client-id", "sync"]
    given += ["--client-secret-file", str(home.secret("client", "CANARY-client"))]
    assert main(["login", *given, "--token-file", str(home.secret("t", "nonsense"))]) == 3
    assert "nonsense" not in capsys.readouterr().err


class Known:
    """What a provider says of itself."""

    def __init__(self, *names: str) -> None:
        self.fields = dict.fromkeys(names, "https://x.test/")


@pytest.mark.parametrize(
    ("given", "known", "way"),
    [
        ({"grant": "client-credentials"}, (), "client-credentials"),
        ({"issuer": "https://x.test"}, ("device_authorization_endpoint",), "device"),
        ({"issuer": "https://x.test"}, ("authorization_endpoint",), "browser"),
        ({"issuer": "https://x.test"}, (), "paste"),
        ({"preset": "github"}, (), "device"),
        ({"preset": "spotify"}, (), "browser"),
        ({"preset": "simplejwt", "fill": {"domain": "x.test"}}, (), "paste"),
        ({"token_url": "https://x.test/token"}, (), "paste"),
    ],
)
def test_how_where_nobody_says(
    given: dict[str, Any], known: tuple[str, ...], way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a word the best way that the provider has is taken."""
    monkeypatch.setattr(login, "discovered", lambda issuer: Known(*known))
    assert login._way_of(settings.Settings(**given)) == way


def test_a_person_is_shown_the_whole_link(
    home: Home, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nothing in the provider's words is taken for markup of the terminal."""
    shown: list[Callable[[Any], object]] = []

    def made(self: settings.Settings, show: Callable[[Any], object]) -> Callable[[], Token]:
        shown.append(show)
        return lambda: Token("a")

    monkeypatch.setattr(settings.Settings, "device_login", made)
    monkeypatch.setattr(settings.Settings, "browser_login", made)
    given = settings.Settings(token_url="https://x.test/t", device_url="https://x.test/d")
    login._asked_for(given, "device", Console(stderr=True))
    shown[0](DevicePrompt("[bold]X[/bold]", "https://x.test/[red]", None, 0.0))
    said = capsys.readouterr().err
    assert "[bold]X[/bold]" in said
    assert "https://x.test/[red]" in said
    login._asked_for(given, "browser", Console(stderr=True))
    shown[1]("https://x.test/?state=[x]")
    assert "state=[x]" in capsys.readouterr().err


def test_options_that_do_not_go_together(home: Home, capsys: pytest.CaptureFixture[str]) -> None:
    """Wrong usage is told before anything is asked: exit status 2, or 1 for a missing setting."""
    assert main(["login", "--device", "--access-token"]) == 2
    assert main(["login", "--fill", "x"]) == 2
    assert main(["login", "--browser", "--token-url", "https://x.test/t", "--client-id", "x"]) == 1
    assert "authorize-url" in capsys.readouterr().err
    assert main(["login", "--token-url", "https://x.test/t", "--device"]) == 1
    assert main(["login", "--paste"]) == 1
    assert "Nothing says where the provider is" in capsys.readouterr().err
    assert main(["login", "--token-url", "https://x.test/t", "--paste"]) == 1
    assert "--client-id" in capsys.readouterr().err


def test_the_settings_become_what_they_say(home: Home) -> None:
    """Presets, discovery, other grants and audiences reach the library as they were given."""
    made = settings.Settings
    preset = made(preset="auth0", fill={"domain": "x.test"}, client_id="c", client_secret="s")
    grant: Any = preset.make_grant()
    assert grant._endpoint.shown == "https://x.test/oauth/token"
    assert grant.revoke is not None
    device: Any = preset.device_login(lambda prompt: None)
    assert device._device.shown == "https://x.test/oauth/device/code"
    simple = made(preset="simplejwt", fill={"domain": "x.test"}).make_grant()
    plain = made(grant="json", token_url="https://x.test/refresh").make_grant()
    assert type(simple).__name__ == type(plain).__name__ == "JSONGrant"
    full: Any = made(
        token_url="https://x.test/t",
        client_id="c",
        client_secret="s",
        audience="a",
        resource="https://x.test/",
        grant="client-credentials",
        scope="one",
        dpop=True,
    )
    assert full.make_grant()._targets
    assert (
        type(full.adapter(TokenSource(lambda token: "a"), "https://x.test/")._scheme).__name__
        == "DPoP"
    )
    browser: Any = made(preset="spotify", client_id="c", scope="s").browser_login(print)
    assert isinstance(browser, BrowserLogin)
