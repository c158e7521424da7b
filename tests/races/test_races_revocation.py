"""`logout(revoke=True)` beside renewals and logins: nothing issued lives on unsaid."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from requests_refresh import (
    FileStore,
    LoginRequired,
    MemoryStore,
    RefreshError,
    RefreshTokenGrant,
    StoreError,
    Token,
    TokenSource,
)
from tests.grants.endpoint import PATIENCE, Answer, EndpointServer, Handler, running

TOP = Path(__file__).parents[2]
RENEWING = """
import sys
from requests_refresh import FileStore, RefreshTokenGrant, TokenSource
source = TokenSource(RefreshTokenGrant(sys.argv[1], client_id="sync"), FileStore(sys.argv[2]))
source.renew(source.token())
"""


class Provider:
    """Rotates refresh tokens, ends them when it is asked to, and knows which are alive."""

    def __init__(self, *alive: str) -> None:
        self.alive = set(alive)
        self.asked = threading.Event()
        self.go_on = threading.Event()
        self.go_on.set()

    def __call__(self, handler: Handler) -> None:
        form = handler.server.seen[-1].form
        if handler.path.endswith("/revoke"):
            self.alive.discard(form["token"])
            return Answer(200, b"", None)(handler)
        self.alive.remove(form["refresh_token"])
        new = form["refresh_token"] + "+"
        self.alive.add(new)
        self.asked.set()
        assert self.go_on.wait(PATIENCE)
        return Answer(body={"access_token": "a" + new, "refresh_token": new, "expires_in": 3600})(
            handler
        )


@pytest.fixture
def server() -> Iterator[EndpointServer]:
    with running() as found:
        yield found


@pytest.fixture
def sources() -> Iterator[list[TokenSource]]:
    """They are closed in the end: no round outlives its server."""
    made: list[TokenSource] = []
    yield made
    for source in made:
        source.close()


def grant_for(server: EndpointServer) -> RefreshTokenGrant:
    return RefreshTokenGrant(server.url, client_id="sync", revocation_url=server.url + "/revoke")


class Looked(MemoryStore):
    """Does something, once, after it was looked at and before that is told."""

    then: Callable[[], object] | None = None

    def load(self, identity: str) -> Token | None:
        found = super().load(identity)
        then, self.then = self.then, None
        if then is not None:
            then()
        return found


def failure_of(source: TokenSource) -> RefreshError | None:
    try:
        source.logout(revoke=True)
    except RefreshError as exc:
        return exc
    return None


def test_a_renewal_that_outlasts_the_wait(
    server: EndpointServer, sources: list[TokenSource], tmp_path: Path
) -> None:
    """Where another's renewal could not be waited for, it is over here and that is said."""
    provider, path = Provider("r"), tmp_path / "private" / "tokens.json"
    server.will(*[provider] * 9)
    here = TokenSource(grant_for(server), FileStore(path), timeout=0.3)
    there = TokenSource(grant_for(server), FileStore(path))
    sources += [here, there]
    here.login(Token("ar", refresh_token="r"))
    stale = there.token()
    provider.go_on.clear()
    renewing = threading.Thread(target=lambda: ends.append(outcome_of(there, stale)), daemon=True)
    ends: list[object] = []
    renewing.start()
    assert provider.asked.wait(PATIENCE)
    failure = failure_of(here)
    provider.go_on.set()
    renewing.join(PATIENCE)
    assert isinstance(ends[0], LoginRequired)
    assert provider.alive == {"r+"}  # issued, and nobody has it
    assert failure is not None
    assert "may live on" in str(failure)


def test_a_renewal_that_was_killed(
    server: EndpointServer, sources: list[TokenSource], tmp_path: Path
) -> None:
    """What a process had been issued when it was killed nobody can revoke, and that is said."""
    provider, path = Provider("r"), tmp_path / "private" / "tokens.json"
    server.will(*[provider] * 9)
    here = TokenSource(grant_for(server), FileStore(path))
    sources.append(here)
    here.login(Token("ar", refresh_token="r"))
    provider.go_on.clear()
    command = [sys.executable, "-c", RENEWING, server.url, str(path)]
    with subprocess.Popen(command, cwd=TOP) as there:
        asked = provider.asked.wait(PATIENCE)
        there.kill()
    provider.go_on.set()
    assert asked
    failure = failure_of(here)
    assert provider.alive == {"r+"}
    assert failure is not None
    assert "may live on" in str(failure)


def outcome_of(source: TokenSource, stale: Token) -> object:
    try:
        return source.renew(stale)
    except RefreshError as exc:
        return exc


@pytest.mark.parametrize("where", ["here", "elsewhere"])
def test_a_login_while_logout_looks(
    server: EndpointServer, sources: list[TokenSource], where: str
) -> None:
    """A login that comes while logout is under way is in force in the end, or was revoked too."""
    provider, store = Provider("r", "s"), Looked()
    server.will(*[provider] * 9)
    here = TokenSource(grant_for(server), store, token=Token("ar", refresh_token="r"))
    there = TokenSource(grant_for(server), store)
    sources += [here, there]
    here.token()
    source = here if where == "here" else there
    logging_in = threading.Thread(
        target=lambda: source.login(Token("as", refresh_token="s")), daemon=True
    )

    def begin() -> None:
        logging_in.start()
        logging_in.join(0.3)  # it may have to wait until the logout is over

    store.then = begin
    here.logout(revoke=True)
    logging_in.join(PATIENCE)
    stored = store.load("default")
    assert provider.alive == ({"s"} if stored is not None else set())


@pytest.mark.parametrize("how", ["a logout elsewhere", "a store that forgot"])
def test_a_token_in_use_that_is_stored_no_more(
    server: EndpointServer, sources: list[TokenSource], how: str
) -> None:
    """What this source goes on using is revoked, though the store has nothing any more."""
    provider, store = Provider("r"), MemoryStore()
    server.will(*[provider] * 9)
    here = TokenSource(grant_for(server), store, token=Token("ar", refresh_token="r"))
    sources.append(here)
    token = here.token()
    if how == "a logout elsewhere":
        TokenSource(grant_for(server), store).logout()
    else:
        store.delete("default")
    assert here.token() is token
    here.logout(revoke=True)
    assert provider.alive == set()


class Full(MemoryStore):
    """Has no room for another token, and says so to who would save one; it can delete."""

    @contextmanager
    def exclusive(self, identity: str, timeout: float) -> Iterator[None]:
        raise StoreError("There is no room left.")
        yield


def test_a_store_with_no_room(server: EndpointServer, sources: list[TokenSource]) -> None:
    """What can be cleared is, and the provider is told: neither takes any room."""
    provider, store = Provider("r"), Full()
    server.will(*[provider] * 9)
    store.save("default", Token("ar", refresh_token="r"))
    here = TokenSource(grant_for(server), store)
    sources.append(here)
    failure_of(here)
    assert store.load("default") is None
    assert provider.alive == set()
