"""Grants with no refresh token: single flight, stores and refusals are as for all others."""

from __future__ import annotations

import logging
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from requests_refresh import (
    FileStore,
    InvalidReply,
    LoginRequired,
    MemoryStore,
    RefreshRefused,
    RefreshUnavailable,
    Token,
    TokenSource,
)
from tests.adapter.support import Crowd, advance, wait_until
from tests.grants.endpoint import PATIENCE, TOKEN, Answer, EndpointServer, Handler, reset
from tests.grants.support import ASKED_ANEW, Held, Make

TOP = Path(__file__).parents[2]
WITH_REFRESH_TOKEN = {**TOKEN, "refresh_token": "unasked", "scope": "read"}

each_grant = pytest.mark.parametrize("make", ASKED_ANEW.values(), ids=ASKED_ANEW.keys())


def source(make: Make, server: EndpointServer, store: Any = None, **settings: Any) -> TokenSource:
    return TokenSource(make(server.url), store, **settings)


@each_grant
def test_one_request_for_a_crowd(server: EndpointServer, make: Make) -> None:
    """I1: twenty threads that find no token make one request, and share what comes of it."""
    held = Held()
    server.will(held)
    tokens = source(make, server)
    crowd = Crowd(lambda _: tokens.token().access_token, 20)
    wait_until(lambda: tokens.stats.waits == 20)
    held.release()
    assert crowd.join() == ["new-access"] * 20
    assert len(server.seen) == tokens.stats.refreshes == 1


@each_grant
def test_one_request_for_each_expiry(server: EndpointServer, make: Make) -> None:
    """I1, I2: the crowd's refused token is replaced once; late refusals adopt."""
    server.will(*(Answer(body={**TOKEN, "access_token": f"issue-{n}"}) for n in (1, 2)))
    tokens = source(make, server)
    first = tokens.token()
    got = Crowd(lambda _: tokens.renew(first).access_token, 20).join()
    assert got == ["issue-2"] * 20
    assert len(server.seen) == 2


@pytest.mark.parametrize("kind", ASKED_ANEW)
def test_one_request_for_two_processes(server: EndpointServer, kind: str, tmp_path: Path) -> None:
    """I1: of two processes on a file, one asks and the other takes what it stored."""
    held = Held()
    server.will(held)
    path = tmp_path / "private" / "tokens.json"
    command = [sys.executable, "-m", "tests.grants.asker", kind, server.url, str(path)]
    askers = [
        subprocess.Popen(command, cwd=TOP, stdout=subprocess.PIPE, text=True) for _ in range(2)
    ]
    for asker in askers:
        assert asker.stdout is not None
        assert asker.stdout.readline() == "ready\n"
    held.release()
    said = [asker.communicate(timeout=PATIENCE)[0] for asker in askers]
    assert said == ["new-access\n"] * 2
    assert len(server.seen) == 1


@each_grant
def test_nothing_is_stored_that_is_of_no_use(server: EndpointServer, make: Make) -> None:
    """A refresh token that comes unasked is not kept: not handed out, not stored."""
    store = MemoryStore()
    server.will(Answer(body=WITH_REFRESH_TOKEN))
    token = source(make, server, store).token()
    assert token.refresh_token is None
    stored = store.load("default")
    assert stored is not None
    assert stored.to_mapping() == token.to_mapping()
    assert stored.scope == "read"


@each_grant
def test_a_refresh_token_from_before_stays(server: EndpointServer, make: Make) -> None:
    """I7: a refresh token that another grant has left in the store is not ours to drop."""
    store = MemoryStore()
    store.save("default", Token("old", refresh_token="left", expires_at=1.0))
    server.will(Answer())
    assert source(make, server, store).token().access_token == "new-access"
    stored = store.load("default")
    assert stored is not None
    assert stored.refresh_token == "left"


@each_grant
def test_an_empty_store_is_no_logout(server: EndpointServer, make: Make) -> None:
    """Where nothing is stored the provider is simply asked, by a call with None too."""
    server.will(Answer(), Answer(), Answer())
    assert make(server.url)(None).access_token == "new-access"
    store = MemoryStore()
    source(make, server, store).token()
    store.delete("default")
    assert source(make, server, store).token().access_token == "new-access"
    assert len(server.seen) == 3


@each_grant
def test_invalid_grant_is_a_wrong_setting(server: EndpointServer, make: Make) -> None:
    """There is no login to end: `invalid_grant` is RefreshRefused and the stored token stays."""
    ended: list[Any] = []
    store = MemoryStore()
    old = Token("old", expires_at=1.0)
    store.save("default", old)
    server.will(Answer(400, {"error": "invalid_grant", "error_description": "clock"}))
    tokens = source(make, server, store, on_logout=lambda *args: ended.append(args))
    with pytest.raises(RefreshRefused, match=r"invalid_grant: clock") as caught:
        tokens.token()
    assert "this host's clock" in str(caught.value)
    assert (caught.value.error, caught.value.error_description) == ("invalid_grant", "clock")
    assert store.load("default") == old
    assert ended == []
    advance(tokens, 120)
    server.will(Answer())  # the setting is right again
    assert tokens.token().access_token == "new-access"


@each_grant
def test_more_errors_may_end_it(server: EndpointServer, make: Make) -> None:
    """Where the user says that an error ends the login it does, and a relogin is asked."""
    tokens = TokenSource(
        make(server.url, login_over_errors=["invalid_grant"]), relogin=lambda: "from-relogin"
    )
    server.will(Answer(400, {"error": "invalid_grant"}))
    assert tokens.token().access_token == "from-relogin"


@each_grant
def test_an_outage_ends_nothing(server: EndpointServer, make: Make) -> None:
    """I8: an unreachable provider is RefreshUnavailable, and what is stored stays."""
    store = MemoryStore()
    old = Token("old", expires_at=1.0)
    store.save("default", old)
    server.will(Answer(503, "", headers=[("Retry-After", "90")]))
    with pytest.raises(RefreshUnavailable) as caught:
        source(make, server, store).token()
    assert caught.value.retry_after == 90
    assert store.load("default") == old


@each_grant
def test_a_lost_answer_is_asked_for_again(server: EndpointServer, make: Make) -> None:
    """Nothing was spent by an answer that was lost, and the round asks once more."""
    server.will(reset, Answer())
    assert source(make, server).token().access_token == "new-access"
    assert len(server.seen) == 2


@each_grant
def test_rubbish_is_no_token(server: EndpointServer, make: Make) -> None:
    """A reply with no token is InvalidReply, and nothing is stored."""
    store = MemoryStore()
    server.will(Answer(200, {"token": "x"}))
    with pytest.raises(InvalidReply):
        source(make, server, store).token()
    assert store.load("default") is None


@each_grant
def test_a_logout_stays_one(server: EndpointServer, make: Make) -> None:
    """After `logout` nobody is asked for a token, though the provider would give one."""
    server.will(Answer())
    tokens = source(make, server)
    tokens.token()
    tokens.logout()
    with pytest.raises(LoginRequired, match=r"logout\(\)"):
        tokens.token()
    assert len(server.seen) == 1


@each_grant
def test_the_store_outlives_the_process(server: EndpointServer, make: Make, tmp_path: Path) -> None:
    """A second source on the same file uses what the first has stored, and asks nobody."""
    path = tmp_path / "private" / "tokens.json"
    server.will(Answer())
    assert source(make, server, FileStore(path)).token().access_token == "new-access"
    assert source(make, server, FileStore(path)).token().access_token == "new-access"
    assert len(server.seen) == 1


@each_grant
def test_no_secret_travels_or_shows(
    server: EndpointServer, make: Make, caplog: pytest.LogCaptureFixture
) -> None:
    """I9: no secret of a grant is in its pickle, its repr, or a log of its work."""
    caplog.set_level(logging.DEBUG)
    secrets: dict[str, Any] = {"extra": {"more": lambda: "CANARY-more"}}
    secrets |= {"client_id": "sync", "client_secret": "CANARY-secret"}
    if make is ASKED_ANEW["token_exchange"]:
        secrets |= {"subject_token": "CANARY-subject", "actor_token": "CANARY-actor"}

    def echo(handler: Handler) -> None:
        sent = handler.server.seen[-1].body.decode()
        Answer(400, {"error": "invalid_request", "error_description": sent})(handler)

    server.will(echo)
    grant = make(server.url, **secrets)
    with pytest.raises(RefreshRefused) as caught:
        TokenSource(grant).token()
    secret_free = pickle.dumps(make(server.url, **{**secrets, "extra": {}}))
    assert b"CANARY" not in secret_free
    assert b"PRIVATE KEY" not in secret_free
    shown = [repr(grant), caplog.text, str(caught.value), repr(vars(caught.value))]
    assert not [text for text in shown if "CANARY" in text or "PRIVATE KEY" in text]
