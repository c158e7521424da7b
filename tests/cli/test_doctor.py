"""`requests-refresh doctor`: what is well, what is not, and what is tried only when asked for."""

from __future__ import annotations

from pathlib import Path

import pytest

from requests_refresh import Token, open_store
from requests_refresh.cli import doctor, main
from requests_refresh.cli.settings import Settings
from requests_refresh.testing import AuthServer
from tests.grants.endpoint import Answer, EndpointServer

from .support import Home


def lines(capsys: pytest.CaptureFixture[str]) -> str:
    return capsys.readouterr().out


def test_doctor(home: Home, auth: AuthServer, capsys: pytest.CaptureFixture[str]) -> None:
    """What is well is said to be; nothing is refreshed unless asked for."""
    home.log_in(auth)
    assert main(["doctor", "-p", "it"]) == 0
    said = lines(capsys)
    for words in (
        "private, and locked",
        "a refresh token is there",
        "answers (",
        "clock: ",
    ):
        assert words in said
    assert "rotation: not tried" in said
    assert auth.counts.refreshes == 0
    assert main(["doctor", "-p", "it", "--try-refresh"]) == 0
    assert "rotation: on" in (said := lines(capsys))
    assert "grace: not tried" in said
    assert auth.counts.refreshes == 1
    auth.rotation = False
    assert main(["doctor", "-p", "it", "--try-reuse"]) == 0
    assert "rotation: none" in lines(capsys)


@pytest.mark.parametrize(
    ("grace", "detects", "status", "said"),
    [
        (60.0, True, 0, "still works"),
        (0.0, False, 0, "the login lives on"),
        (0.0, True, 1, "ended the login"),
    ],
)
def test_doctor_tries_a_grace(
    home: Home,
    auth: AuthServer,
    grace: float,
    detects: bool,
    status: int,
    said: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """What a second use does is seen, and a login that outlives it is in the store."""
    auth.grace, auth.reuse_detection = grace, detects
    home.log_in(auth)
    assert main(["doctor", "-p", "it", "--try-reuse"]) == status
    assert said in lines(capsys)
    assert main(["refresh", "-p", "it"]) == (3 if status else 0)


def test_doctor_asks_before_it_tries(
    home: Home, auth: AuthServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who is there is asked, and a no is a no."""
    home.log_in(auth)
    asked: list[str] = []
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)

    def confirm(text: str, **_: object) -> bool:
        asked.append(text)
        return len(asked) == 1

    monkeypatch.setattr("click.confirm", confirm)
    assert main(["doctor", "-p", "it"]) == 0
    assert "ENDS THE LOGIN" in asked[1]
    assert (auth.counts.refreshes, auth.counts.reuses) == (1, 0)


def test_doctor_finds(
    home: Home, auth: AuthServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each thing that is bad is named with what to do, and ends with 1."""
    token = home.log_in(auth)
    Path(home.store.removeprefix("file://")).chmod(0o644)
    assert main(["doctor", "-p", "it"]) == 1
    assert "others may read" in lines(capsys)
    Path(home.store.removeprefix("file://")).chmod(0o600)
    with home.opened() as store:
        store.save("default", Token("a", expires_at=1.0))
    assert main(["doctor", "-p", "it", "--try-refresh"]) == 1
    assert "there is no refresh token" in (said := lines(capsys))
    assert "not tried, as there is" in said
    assert main(["doctor", "-p", "it", "--store", "memory:"]) == 1
    assert "forgets all" in lines(capsys)
    with home.opened() as store:
        store.delete("default")
        with store.exclusive("default", 1.0):
            doctor_patience, doctor._PATIENCE = doctor._PATIENCE, 0.01
            try:
                assert main(["doctor", "-p", "it"]) == 0
            finally:
                doctor._PATIENCE = doctor_patience
    assert "was held by another" in (said := lines(capsys))
    assert "none is stored" in said
    with home.opened() as store:
        store.save("default", token)
    auth.revoke_login()
    assert main(["doctor", "-p", "it", "--try-refresh"]) == 1
    assert "BAD  refresh:" in lines(capsys)
    auth.stop()
    assert main(["doctor", "-p", "it"]) == 1
    assert "cannot be reached (ConnectionError)" in lines(capsys)
    assert main(["doctor", "--store", home.store]) == 1
    assert "Nothing says where" in lines(capsys)
    given = ["--token-url", "http://example.com/t", "--client-id", "x", "--store", home.store]
    assert main(["doctor", *given]) == 1
    assert "BAD  provider" in lines(capsys)


def test_doctor_says_what_is_odd(
    home: Home, auth: AuthServer, capsys: pytest.CaptureFixture[str], server: EndpointServer
) -> None:
    """A token endpoint in trouble, plain TCP to a Redis and client credentials are told apart."""
    home.log_in(auth)
    server.will(Answer(503))
    given = ["--token-url", server.url, "--client-id", "x", "--grant", "client-credentials"]
    assert main(["doctor", *given, "--store", home.store]) == 0
    said = lines(capsys)
    assert "not as a token endpoint does" in said
    assert "rotation" not in said
    assert doctor._version("no-such-package") is None
    found = list(doctor._store(open_store(home.store), Settings(store="redis://x")))
    assert "over plain TCP" in found[1].said
    preset = Settings(preset="github")
    assert doctor._endpoint(preset).startswith("https://github.com/")


def test_the_clock() -> None:
    """A clock that is wrong by more than some seconds is told."""
    at = 1_700_000_000.0
    date = "Tue, 14 Nov 2023 22:13:20 GMT"
    assert doctor._clock(date, at + 0.9, 0.1).state == "ok"
    assert "by 59 s" in doctor._clock(date, at + 60, 0.1).said
    assert "by 60 s" in doctor._clock(date, at - 60, 0.0).said
    assert doctor._clock("rubbish", at, 0.0).state == doctor._clock(None, at, 0.0).state == "look"
