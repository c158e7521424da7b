"""The commands that use a login: refresh, get, run, logout, copy, status, doctor."""

from __future__ import annotations

import json
import subprocess
import sys
import time

import pytest

from requests_refresh import Encryption, Token, open_store
from requests_refresh.cli import main, shown
from requests_refresh.testing import AuthServer, Fault

from .support import Home

COMMAND = [sys.executable, "-m", "requests_refresh"]


def test_refresh(home: Home, auth: AuthServer, capsys: pytest.CaptureFixture[str]) -> None:
    """I1: one refresh each time; with --if-due none while the token has its life before it."""
    home.log_in(auth)
    assert main(["refresh", "-p", "it"]) == 0
    assert auth.counts.refreshes == 1
    assert main(["refresh", "-p", "it", "--if-due"]) == 0
    assert auth.counts.refreshes == 1
    assert "Not due" in capsys.readouterr().out
    with home.opened() as store:
        token = store.load("default")
        assert token is not None
        old = Token.from_mapping({**token.to_mapping(), "expires_at": 1.0})
        store.save("default", old)
    assert main(["refresh", "-p", "it", "--if-due"]) == 0
    assert auth.counts.refreshes == 2


@pytest.mark.parametrize(
    ("trouble", "status"),
    [("login", 3), ("nothing", 3), ("outage", 4), ("client", 1)],
)
def test_exit_statuses(
    home: Home, auth: AuthServer, trouble: str, status: int, capsys: pytest.CaptureFixture[str]
) -> None:
    """A script can tell a lost login from an outage from a wrong setting, and I8 holds."""
    home.log_in(auth)
    if trouble == "login":
        auth.revoke_login()
    elif trouble == "nothing":
        with home.opened() as store:
            store.delete("default")
    elif trouble == "outage":
        auth.faults("token", Fault(status=503, headers={"Retry-After": "60"}))
    else:
        auth.client_secret = "another"
    assert main(["refresh", "-p", "it"]) == status
    assert "CANARY" not in capsys.readouterr().err
    with home.opened() as store:
        assert (store.load("default") is None) == (status == 3)


def test_get(home: Home, auth: AuthServer, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    """The answer streams to standard output, with a token that is renewed if need be."""
    home.log_in(auth)
    auth.revoke_access()
    assert main(["get", "-p", "it", "-i", "-H", "X-A: b", auth.api + "items"]) == 0
    out, err = capfdbinary.readouterr()
    assert json.loads(out)["path"] == "/api/items"
    assert b"HTTP 200" in err
    assert auth.counts.refreshes == 1
    kept = home.top / "out.json"
    assert main(["get", "-p", "it", "-o", str(kept), auth.api + "items"]) == 0
    assert json.loads(kept.read_bytes())["identity"] == "default"
    assert capfdbinary.readouterr().out == b""


def test_get_tells_an_error(
    home: Home, auth: AuthServer, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    """An answer that is an error is printed, and ends with 1."""
    home.log_in(auth)
    assert main(["get", "-p", "it", auth.api + "forbidden"]) == 1
    assert b"HTTP 403" in capfdbinary.readouterr().err
    assert main(["get", "-p", "it", "-H", "nothing", auth.api]) == 2
    auth.stop()
    assert main(["get", "-p", "it", auth.api]) == 4


def test_get_goes_where_the_token_may(
    home: Home, auth: AuthServer, capsys: pytest.CaptureFixture[str]
) -> None:
    """I9: a URL on another origin is refused unsent; where none is named it is the URL's own."""
    home.log_in(auth)
    with AuthServer() as other:
        assert main(["get", "-p", "it", other.api]) == 1
        assert "--origin" in capsys.readouterr().err
        assert main(["get", "-p", "it", auth.api + f"redirect?to={other.api}x"]) == 1
        (seen,) = other.log
        assert "Authorization" not in seen.headers
    text = home.config.read_text()
    home.config.write_text(text[: text.index("origins")])
    assert main(["get", "-p", "it", auth.api + "items"]) == 0
    assert main(["get", "-p", "it", "http://example.com/"]) == 1


def test_output_that_nobody_reads(home: Home, auth: AuthServer) -> None:
    """`requests-refresh get … | head -c1` ends quietly."""
    home.log_in(auth)
    line = f"{' '.join(COMMAND)} get -p it {auth.api}items | true; echo ${{PIPESTATUS[0]}}"
    done = subprocess.run(
        ["bash", "-c", line],  # noqa: S607
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stderr == ""
    assert done.stdout.strip() in ("0", "1")


def test_run(home: Home, auth: AuthServer) -> None:
    """A command gets a fresh token in a variable, none of our own secrets, and gives its status."""
    home.log_in(auth)
    program = (
        "import os, sys; print(os.environ['TOKEN']);"
        "print([n for n in os.environ if n.startswith('REQUESTS_REFRESH')]); sys.exit(7)"
    )
    words = ["run", "-p", "it", "--variable", "TOKEN", "--at-least", "3700", "--"]
    done = subprocess.run(
        [*COMMAND, *words, sys.executable, "-c", program],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 7, done.stderr
    with home.opened() as store:
        token = store.load("default")
    assert token is not None
    assert done.stdout == f"{token.access_token}\n[]\n"
    assert auth.counts.refreshes == 1


def test_run_what_cannot_be_run(
    home: Home, auth: AuthServer, capsys: pytest.CaptureFixture[str]
) -> None:
    """What is no command ends as in a shell; a token that is bound to a key is not handed on."""
    home.log_in(auth)
    assert main(["run", "-p", "it", "--", "no-such-command-here"]) == 127
    text = home.top / "text"
    text.write_bytes(b"\x00\x01")
    text.chmod(0o755)
    assert main(["run", "-p", "it", "--", str(text)]) == 126
    assert main(["run", "-p", "it", "--variable", "A=B", "--", "true"]) == 2
    assert main(["run", "-p", "it"]) == 2
    with home.opened() as store:
        token = store.load("default")
        assert token is not None
        store.save("default", Token.from_mapping({**token.to_mapping(), "token_type": "DPoP"}))
    capsys.readouterr()
    assert main(["run", "-p", "it", "--", "true"]) == 1
    assert "bound to a key" in capsys.readouterr().err


def test_logout(home: Home, auth: AuthServer, capsys: pytest.CaptureFixture[str]) -> None:
    """The login is gone here, and with --revoke at the provider; twice is no error."""
    home.log_in(auth, "ann")
    home.log_in(auth, "ben")
    assert main(["logout", "-p", "it", "--identity", "ann"]) == 0
    assert auth.logged_in("ann")
    assert main(["logout", "-p", "it", "--identity", "ben", "--revoke"]) == 0
    assert not auth.logged_in("ben")
    assert main(["logout", "-p", "it", "--identity", "ben"]) == 0
    assert "No login of 'ben'" in capsys.readouterr().err
    with home.opened() as store:
        assert list(store.identities()) == []


def test_copy(home: Home, auth: AuthServer, capsys: pytest.CaptureFixture[str]) -> None:
    """Stores by URL or by profile; what is there already is not overwritten."""
    home.log_in(auth, "ann")
    home.log_in(auth, "ben")
    other = f"sqlite:///{home.top}/tokens.db"
    assert main(["copy", "it", other, "--identity", "ann"]) == 0
    assert main(["copy", "it", other, "--move"]) == 0
    assert capsys.readouterr().out == "1 copied\n2 moved\n"
    assert main(["status", "--store", other]) == 0
    home.log_in(auth, "ann")
    assert main(["copy", home.store, other]) == 1
    assert main(["copy", "missing", other]) == 1


def test_status(home: Home, auth: AuthServer, capsys: pytest.CaptureFixture[str]) -> None:
    """Identities, time left, scope, and no secret; the exit status tells if a login is over."""
    assert main(["status", "--store", home.store]) == 3
    assert "No login is stored" in capsys.readouterr().err
    tokens = [home.log_in(auth, "ann")]
    with home.opened() as store:
        now = time.time()
        tokens.append(
            Token("a\x1b[31m".replace("\x1b", "") + "x", refresh_token="CANARY", scope="")
        )
        tokens.append(Token("CANARY2", refresh_token="r", expires_at=now - 5, issued_at=now - 60))
        store.save("[bold]ben[/bold]", tokens[1])
        store.save("carl", tokens[2])
    assert main(["status", "-p", "it"]) == 0
    out = capsys.readouterr().out
    assert "[bold]ben[/bold]" in out
    assert "█" in out
    assert "renewable" in out
    assert "no end known" in out
    for token in tokens:
        assert token.refresh_token is not None
        assert token.refresh_token not in out or token.refresh_token == "r"
        assert str(token.access_token) not in out
    with home.opened() as store:
        store.save("dan", Token("a", expires_at=1.0))
    assert main(["status", "-p", "it", "--json"]) == 3
    found = json.loads(capsys.readouterr().out)
    rows = {row["identity"]: row for row in found["logins"]}
    assert rows["dan"]["state"] == "over"
    assert rows["ann"]["state"] == "alive"
    assert rows["ann"]["scope"] == "api"
    assert 3500 < rows["ann"]["seconds_left"] <= 3600
    assert main(["status", "-p", "it", "--identity", "ann"]) == 0


def test_encrypted_stores(home: Home, auth: AuthServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keys come from a file or from the variable, and only with them the login is read."""
    key = Encryption.new_key()
    store = open_store(home.store, encryption=Encryption(key))
    store.save("default", Token("a", refresh_token="r"))
    assert main(["status", "--store", home.store]) == 1
    keys = str(home.secret("keys", key))
    assert main(["status", "--store", home.store, "--keys-file", keys]) == 0
    monkeypatch.setenv("REQUESTS_REFRESH_KEYS", key)
    assert main(["status", "--store", home.store]) == 0


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-1, "0 s"),
        (0.5, "0 s"),
        (59, "59 s"),
        (60, "1 min"),
        (3599, "59 min 59 s"),
        (3600, "1 h"),
        (7265, "2 h 1 min"),
        (86400 * 3 + 5, "3 d"),
    ],
)
def test_spans(seconds: float, text: str) -> None:
    """A length of time is told in its two largest units."""
    assert shown.span(seconds) == text


def test_bars() -> None:
    """A bar is as long as the part of its life that a token has before it."""
    now = time.time()
    assert shown.bar(Token("a")) == ""
    assert shown.bar(Token("a", expires_at=now + 50, issued_at=now - 50)).count("█") == 10
    assert shown.bar(Token("a", expires_at=now - 50, issued_at=now)).count("█") == 0
    assert shown.bar(Token("a", expires_at=now + 50)).count("█") == 20
    assert "dead" in shown.lifetime_of(Token(refresh_token="r"))
    assert shown.printable("a\x1b[2J") == "a\N{REPLACEMENT CHARACTER}[2J"


def test_without_the_extra() -> None:
    """The command says which extra it needs, and no traceback."""
    program = (
        "import sys; sys.modules['rich'] = None; sys.modules['click'] = None\n"
        "from requests_refresh.cli import main; sys.exit(main(['demo']))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert "requests_refresh[cli]" in done.stderr
    assert "Traceback" not in done.stderr
