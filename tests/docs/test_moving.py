"""Moving from other libraries: what is before runs with the real one; its login is carried over."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import requests

from requests_refresh import FileStore, LoginRequired, RefreshUnavailable, TokenSource
from requests_refresh.testing import AuthServer, Fault

from .pages import blocks, run

OAUTHLIB, OAUTHLIB_AFTER, OAUTHLIB_CARRY = blocks("howto/from-requests-oauthlib.md")
AUTHLIB, AUTHLIB_AFTER, AUTHLIB_CARRY = blocks("howto/from-authlib.md")
GOOGLE, GOOGLE_AFTER, GOOGLE_CARRY = blocks("howto/from-google-auth.md")
QUEUE, QUEUE_AFTER, QUEUE_GRANT, QUEUE_CARRY = blocks("howto/from-interceptors.md")


@pytest.fixture
def login(server: AuthServer, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """A login whose access token died, as the others would have saved it."""
    for name in ("OAUTHLIB_INSECURE_TRANSPORT", "AUTHLIB_INSECURE_TRANSPORT"):
        monkeypatch.setenv(name, "1")
    server.client_id, server.client_secret = "sync", "hush"
    reply = server.login()
    server.revoke_access()
    return {**reply, "expires_at": 1}


@pytest.mark.parametrize(
    ("package", "before", "after", "carry"),
    [
        ("requests_oauthlib", OAUTHLIB, OAUTHLIB_AFTER, OAUTHLIB_CARRY),
        ("authlib", AUTHLIB, AUTHLIB_AFTER, AUTHLIB_CARRY),
    ],
    ids=["requests-oauthlib", "Authlib"],
)
def test_from_a_client_of_oauth(
    server: AuthServer,
    home: Path,
    login: dict[str, Any],
    package: str,
    before: str,
    after: str,
    carry: str,
) -> None:
    """The file that the old program wrote is all that the new one needs, and nobody logs in."""
    pytest.importorskip(package, reason=f"{package} is not installed")
    file = home / ".config/sync/token.json"
    file.parent.mkdir(parents=True, mode=0o700)
    file.write_text(json.dumps(login))
    old = run(before, server)
    assert old["items"]["path"] == "/api/items"
    saved = json.loads(file.read_text())
    assert saved["refresh_token"] != login["refresh_token"]
    old["session"].close()

    server.revoke_access()
    with pytest.raises(LoginRequired):
        run(after, server, names := {"SECRET": "hush"})
    run(carry, server, names)
    run(after, server, names)
    assert server.counts.refreshes == 2
    assert (server.counts.logins, server.counts.reuses) == (1, 0)


def test_from_google_auth(
    server: AuthServer, home: Path, login: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The file of google-auth, which it wrote itself, gives the client and the login."""
    pytest.importorskip("google.auth", reason="google-auth is not installed")
    from google.oauth2 import credentials

    monkeypatch.chdir(home)
    # It asks there whatever the file says.
    monkeypatch.setattr(credentials, "_GOOGLE_OAUTH2_TOKEN_ENDPOINT", server.token_url)
    server.rotation = False  # as Google
    written = credentials.Credentials(
        login["access_token"],
        refresh_token=login["refresh_token"],
        token_uri=server.token_url,
        client_id="sync",
        client_secret="hush",
    ).to_json()
    Path("token.json").write_text(written)
    old = run(GOOGLE, server)
    assert old["files"]["path"] == "/api/drive/v3/files"
    old["session"].close()
    server.revoke_access()
    names = run(GOOGLE_AFTER.replace(".grant(", f".grant(token_url={server.token_url!r}, "), server)
    run(GOOGLE_CARRY, server, names)
    assert names["files"]["path"] == "/api/drive/v3/files"
    assert set(json.loads(written)) >= {
        "token",
        "refresh_token",
        "token_uri",
        "client_id",
        "client_secret",
    }


@pytest.mark.usefixtures("home")
def test_from_an_interceptor(server: AuthServer) -> None:
    """A program of one's own: what it held is carried over, and its users see no difference."""
    reply = server.login()
    server.revoke_access()
    old = run(QUEUE, server)["Client"](reply["access_token"], reply["refresh_token"])
    assert old.get("items").status_code == 200
    server.revoke_access()
    names = run(QUEUE_AFTER, server)
    run(QUEUE_CARRY, server, names | {"old": old})
    assert names["client"].get("items").status_code == 200
    assert (server.counts.logins, server.counts.refreshes, server.counts.reuses) == (1, 2, 0)
    old.session.close()


def test_the_faults_of_the_interceptor(server: AuthServer) -> None:
    """I8: what the guide tells of a 502 is so: before, it ends a login; as a grant, it does not."""
    reply = server.login()
    server.revoke_access()
    old = run(QUEUE, server)["Client"](reply["access_token"], reply["refresh_token"])
    server.faults("token", Fault(status=502))
    with pytest.raises(PermissionError):
        old.get("items")
    assert old.refresh_token is None
    assert server.logged_in()
    old.session.close()


def test_the_call_as_it_is(server: AuthServer, home: Path) -> None:
    """I8: the refresh call of one's own as a grant: an outage keeps the login, a 400 ends it."""
    names = run(QUEUE_GRANT, server, {"requests": requests})
    store = FileStore(home / "tokens.json")
    tokens = TokenSource(names["refresh"], store, token=server.login())
    stale = tokens.renew(tokens.token())
    server.faults("token", Fault(status=502), times=None)
    with pytest.raises(RefreshUnavailable):
        tokens.renew(stale)
    server.clear_faults()
    assert store.load("default") == stale
    server.revoke_login()
    tokens = TokenSource(names["refresh"], store)
    with pytest.raises(LoginRequired):
        tokens.renew(stale)
    assert store.load("default") is None
