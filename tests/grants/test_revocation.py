"""`revoke` and `logout(revoke=True)`: the provider is told (RFC 7009); here it is over anyway."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from requests_refresh import (
    ConfigurationError,
    FileStore,
    JSONGrant,
    LoginRequired,
    MemoryStore,
    PrivateKeyJWT,
    RefreshRefused,
    RefreshTokenGrant,
    RefreshUnavailable,
    Token,
    TokenSource,
)
from requests_refresh.errors import RefreshError
from tests.adapter.support import PATIENCE, wait_until
from tests.grants.endpoint import TOKEN, Answer, Behaviour, EndpointServer, reset
from tests.grants.support import ASKED_ANEW, Held, Make, ec_key, opened, pem_of

TOP = Path(__file__).parents[2]
LOGIN = Token("CANARY-access", refresh_token="CANARY-refresh")
DONE = Answer(200, b"", None)
UNSUPPORTED = Answer(400, {"error": "unsupported_token_type"})


def grant_for(server: EndpointServer, **settings: Any) -> RefreshTokenGrant:
    given = {"client_id": "sync", "revocation_url": server.url + "/revoke", **settings}
    return RefreshTokenGrant(server.url, **given)


def revoke(grant: Any, token: Token = LOGIN) -> None:
    assert grant.revoke is not None
    grant.revoke(token)


def revoked(server: EndpointServer) -> list[tuple[str, str]]:
    """What was asked to be revoked: hint and token."""
    forms = [request.form for request in server.seen if request.path == "/token/revoke"]
    return [(form["token_type_hint"], form["token"]) for form in forms]


BOTH = [("refresh_token", "CANARY-refresh"), ("access_token", "CANARY-access")]


def test_both_tokens_are_revoked(server: EndpointServer) -> None:
    """The refresh token first, then the access token, each with its hint (RFC 7009 2.1)."""
    server.will(DONE, DONE)
    revoke(grant_for(server))
    assert revoked(server) == BOTH
    assert [request.method for request in server.seen] == ["POST", "POST"]
    assert server.seen[0].form == {
        "token": "CANARY-refresh",
        "token_type_hint": "refresh_token",
        "client_id": "sync",
    }


@pytest.mark.parametrize(
    ("token", "count"),
    [(Token("a"), 1), (Token(refresh_token="r"), 1), (LOGIN, 2)],
    ids=["access", "refresh", "both"],
)
def test_what_there_is(server: EndpointServer, token: Token, count: int) -> None:
    """A part that the token does not have is not asked for."""
    server.will(DONE, DONE)
    revoke(grant_for(server), token)
    assert len(server.seen) == count


def test_the_client_proves_itself_each_time(server: EndpointServer) -> None:
    """Authentication is as at the token endpoint, and no assertion is sent twice (RFC 7009 2.1)."""
    server.will(DONE, DONE, DONE)
    revoke(grant_for(server, client_auth=PrivateKeyJWT(pem_of(ec_key()))))
    claims = [opened(seen.form["client_assertion"], ec_key()).claims for seen in server.seen]
    assert claims[0]["jti"] != claims[1]["jti"]
    assert {one["aud"] for one in claims} == {server.url}
    revoke(grant_for(server, client_secret="hush"), Token("a"))
    assert server.seen[2].headers["Authorization"].startswith("Basic ")


@pytest.mark.parametrize("answer", [DONE, Answer(200, {}), Answer(204, b"", None)], ids=range(3))
def test_the_body_says_nothing(server: EndpointServer, answer: Answer) -> None:
    """Any success is one, for tokens that nobody knows too (RFC 7009 section 2.2)."""
    server.will(answer, answer)
    revoke(grant_for(server))
    assert len(server.seen) == 2


FAILURES: dict[str, tuple[Behaviour, type[RefreshError]]] = {
    "503": (Answer(503, "", headers=[("Retry-After", "7")]), RefreshUnavailable),
    "429": (Answer(429, ""), RefreshUnavailable),
    "reset": (reset, RefreshUnavailable),
    "invalid_client": (Answer(401, {"error": "invalid_client"}), RefreshRefused),
    "invalid_request": (Answer(400, {"error": "invalid_request"}), RefreshRefused),
    "error with 200": (Answer(200, {"error": "invalid_request"}), RefreshRefused),
    "HTML": (Answer(403, "<html>Blocked", "text/html"), RefreshRefused),
    "redirect": (Answer(302, "", headers=[("Location", "/login")]), RefreshRefused),
    "nothing there": (Answer(404, ""), RefreshRefused),
}
each_failure = pytest.mark.parametrize(
    ("behaviour", "kind"), FAILURES.values(), ids=FAILURES.keys()
)


@each_failure
@pytest.mark.parametrize("which", [0, 1], ids=["refresh", "access"])
def test_one_fails(
    server: EndpointServer, behaviour: Behaviour, kind: type[RefreshError], which: int
) -> None:
    """The other one is revoked all the same, and the failure is said, with no token in it."""
    answers: list[Behaviour] = [DONE, DONE]
    answers[which] = behaviour
    server.will(*answers)
    with pytest.raises(RefreshError) as caught:
        revoke(grant_for(server))
    assert type(caught.value) is kind
    assert "CANARY" not in str(caught.value) + repr(vars(caught.value))
    assert revoked(server) == BOTH


def test_access_tokens_that_cannot_be_revoked(server: EndpointServer) -> None:
    """RFC 7009 2.2.1: an access token that ends with its refresh token is no failure."""
    server.will(DONE, UNSUPPORTED)
    revoke(grant_for(server))
    assert revoked(server) == BOTH


def test_an_access_token_alone_that_cannot_be_revoked(server: EndpointServer) -> None:
    """Where it is all that there is, nothing was revoked, and that is said."""
    server.will(UNSUPPORTED)
    with pytest.raises(RefreshRefused, match="did not revoke the access token") as caught:
        revoke(grant_for(server), Token("a"))
    assert caught.value.error == "unsupported_token_type"


@pytest.mark.parametrize("second", [DONE, UNSUPPORTED], ids=["one", "both"])
def test_a_refresh_token_that_cannot_be_revoked(server: EndpointServer, second: Answer) -> None:
    """A refresh token that lives on is a failure: whoever has it goes on getting tokens."""
    server.will(UNSUPPORTED, second)
    with pytest.raises(RefreshRefused, match="did not revoke the refresh token"):
        revoke(grant_for(server))


def test_no_message_quotes_a_token(server: EndpointServer) -> None:
    """I9: what a provider echoes is not shown."""
    echoed = {
        "error": "bad CANARY-refresh",
        "error_description": "token=CANARY-refresh CANARY-access",
    }
    server.will(Answer(400, echoed), DONE)
    with pytest.raises(RefreshRefused) as caught:
        revoke(grant_for(server))
    assert "CANARY" not in str(caught.value) + repr(vars(caught.value))


@pytest.mark.parametrize(
    "url", ["http://a.example/revoke", "", 7, "https://a.example/#x"], ids=repr
)
def test_where_no_token_may_go(server: EndpointServer, url: Any) -> None:
    """I9: a revocation endpoint is fit for a secret, like any other."""
    with pytest.raises(ConfigurationError, match="revocation_url"):
        grant_for(server, revocation_url=url)


# ---------------------------------------------- logout


def test_logout_tells_the_provider(server: EndpointServer) -> None:
    """Both parts of what is stored are revoked, nothing is left here, and nobody gets a token."""
    store = MemoryStore()
    server.will(DONE, DONE)
    tokens = TokenSource(grant_for(server), store, token=LOGIN)
    assert tokens.token().access_token == "CANARY-access"
    tokens.logout(revoke=True)
    assert revoked(server) == BOTH
    assert store.load("default") is None
    with pytest.raises(LoginRequired, match=r"logout\(\)"):
        tokens.token()


def test_logout_before_the_first_use(server: EndpointServer) -> None:
    """A first token that was never used, or never stored, is revoked as well."""
    server.will(DONE, DONE)
    TokenSource(grant_for(server), token=LOGIN).logout(revoke=True)
    assert revoked(server) == BOTH


def test_nothing_to_revoke(server: EndpointServer) -> None:
    """Where nobody is logged in there is nothing to tell the provider."""
    tokens = TokenSource(grant_for(server))
    tokens.logout(revoke=True)
    assert server.seen == []


@each_failure
def test_logout_where_revocation_fails(
    server: EndpointServer, behaviour: Behaviour, kind: type[RefreshError]
) -> None:
    """It is over here whatever the provider says, and that it did not do it is said."""
    store = MemoryStore()
    server.will(behaviour, DONE)
    tokens = TokenSource(grant_for(server), store, token=LOGIN)
    tokens.token()
    with pytest.raises(RefreshError, match="The login is ended here") as caught:
        tokens.logout(revoke=True)
    assert type(caught.value.__cause__) is kind
    assert "CANARY" not in str(caught.value)
    assert store.load("default") is None
    with pytest.raises(LoginRequired):
        tokens.token()


def test_logout_with_no_network(nobody: str) -> None:
    """It is over here although nobody could be told."""
    store = MemoryStore()
    url = f"http://{nobody}/token"
    grant = RefreshTokenGrant(url, client_id="sync", revocation_url=url)
    tokens = TokenSource(grant, store, token=LOGIN)
    tokens.token()
    with pytest.raises(RefreshError, match="may live on there"):
        tokens.logout(revoke=True)
    assert store.load("default") is None


@pytest.mark.parametrize("kind", ["no URL", "JSON", "callable"])
def test_a_grant_that_cannot_revoke(server: EndpointServer, kind: str) -> None:
    """A ConfigurationError, and nothing has changed: the login goes on."""
    grants: dict[str, Any] = {
        "no URL": RefreshTokenGrant(server.url, client_id="sync"),
        "JSON": JSONGrant(server.url),
        "callable": lambda token: "x",
    }
    store = MemoryStore()
    tokens = TokenSource(grants[kind], store, token=LOGIN)
    token = tokens.token()
    with pytest.raises(ConfigurationError, match="nothing has changed"):
        tokens.logout(revoke=True)
    assert tokens.token() is token
    assert store.load("default") is not None
    tokens.logout()
    assert store.load("default") is None


@pytest.mark.parametrize("make", ASKED_ANEW.values(), ids=ASKED_ANEW.keys())
def test_logout_of_a_grant_with_no_refresh_token(server: EndpointServer, make: Make) -> None:
    """The access token is all there is, and it is revoked."""
    server.will(Answer(), DONE)
    tokens = TokenSource(make(server.url, revocation_url=server.url + "/revoke"))
    tokens.token()
    tokens.logout(revoke=True)
    assert revoked(server) == [("access_token", "new-access")]


def test_a_round_that_runs_meanwhile(server: EndpointServer) -> None:
    """I7: what a running renewal brings is what is revoked; nothing lives on at the provider."""
    held = Held(Answer(body={**TOKEN, "refresh_token": "new-refresh"}))
    server.will(held, DONE, DONE)
    store = MemoryStore()
    tokens = TokenSource(grant_for(server), store, token=Token("old", refresh_token="r1"))
    stale = tokens.token()
    with_result: list[Any] = []
    left = threading.Event()

    def renew() -> None:
        try:
            with_result.append(tokens.renew(stale))
        except RefreshError as exc:
            with_result.append(exc)

    def leave() -> None:
        tokens.logout(revoke=True)
        left.set()

    renewing = threading.Thread(target=renew, daemon=True)
    leaving = threading.Thread(target=leave, daemon=True)
    renewing.start()
    assert held.asked.wait(PATIENCE)
    leaving.start()
    held.release()
    renewing.join(PATIENCE)
    leaving.join(PATIENCE)
    assert left.is_set()
    assert len(with_result) == 1
    assert revoked(server) == [("refresh_token", "new-refresh"), ("access_token", "new-access")]
    assert store.load("default") is None
    with pytest.raises(LoginRequired):
        tokens.token()


def test_another_process_learns_it(server: EndpointServer, tmp_path: Path) -> None:
    """On a shared store the others find nothing when they next ask, and nobody refreshes."""
    path = tmp_path / "private" / "tokens.json"
    here = TokenSource(grant_for(server), FileStore(path), token=LOGIN)
    here.token()
    command = [sys.executable, "-m", "tests.grants.asker", "refresh_token", server.url, str(path)]
    with subprocess.Popen(
        command, cwd=TOP, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as there:
        assert there.stdout is not None
        assert there.stdout.readline() == "ready\n"
        server.will(DONE, DONE)
        here.logout(revoke=True)
        assert there.communicate("go on\n", timeout=PATIENCE)[0] == "LoginRequired\n"
    assert [request.path for request in server.seen] == ["/token/revoke"] * 2


def test_a_store_that_cannot_forget(server: EndpointServer) -> None:
    """Where the login cannot be cleared nothing has changed, and the provider is not told."""

    class Stuck(MemoryStore):
        def delete(self, identity: str, **replacing: Any) -> None:
            raise OSError("the disk is gone")

    tokens = TokenSource(grant_for(server), Stuck(), token=LOGIN)
    token = tokens.token()
    with pytest.raises(RefreshError, match="Stuck failed"):
        tokens.logout(revoke=True)
    assert server.seen == []
    assert tokens.token() is token
    wait_until(lambda: tokens.stats.failures == 0)
