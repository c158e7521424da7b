"""Logins begin and end: login, logout, a login that is over, one that ends with its token."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest

from requests_refresh import (
    ConfigurationError,
    LoginRequired,
    MemoryStore,
    RefreshError,
    Token,
)

from ..adapter.support import Crowd, crowd, wait_until
from .conftest import Fickle, Hold, Make, Provider, login


def no_relogin() -> str:
    raise AssertionError("This is not to be called.")


def test_login(make: Make) -> None:
    """A new login is stored, whatever was there, and used at once, without a round."""
    store, provider = MemoryStore(), Provider()
    store.save("default", login(name="old"))
    source = make(provider, store, token="first")
    source.login({"access_token": "a", "refresh_token": "r", "expires_in": 60})
    waits = source.stats.waits
    assert source.token().access_token == "a"
    assert store.load("default") == source.token()
    assert source.stats.waits == waits
    assert provider.calls == 0
    assert make.refreshed == []


def test_logout(make: Make) -> None:
    """After a logout nothing is stored, nobody is asked, and no relogin or callback comes."""
    store, provider = MemoryStore(), Provider()
    source = make(provider, store, token=login(), relogin=no_relogin)
    stale = source.token()
    source.logout()
    assert store.load("default") is None
    with pytest.raises(LoginRequired, match=r"ended by logout\(\)"):
        source.token()
    with pytest.raises(LoginRequired, match=r"ended by logout\(\)"):
        source.renew(stale)
    assert provider.calls == 0
    make.settle()
    assert make.logouts == []
    source.login("again")
    assert source.token().access_token == "again"


def test_logout_before_the_first_use(make: Make) -> None:
    """A first token that was never used is forgotten by a logout, too."""
    store = MemoryStore()
    source = make(Provider(), store, token=login())
    source.logout()
    with pytest.raises(LoginRequired):
        source.token()
    assert store.load("default") is None


def test_a_dead_login(make: Make) -> None:
    """A login that is over is answered without a call until somebody logs in, also elsewhere."""
    store = MemoryStore()
    provider = Provider(LoginRequired("over"), LoginRequired("over again"))
    source = make(provider, store, token=login())
    stale = source.token()
    with pytest.raises(LoginRequired):
        source.renew(stale)
    make.clock.now += 1e6
    for error in crowd(lambda i: source.token(), 8):
        assert isinstance(error, LoginRequired)
    assert provider.calls == 1

    store.save("default", login(name="elsewhere"))
    stale = source.token()
    assert stale.access_token == "aelsewhere"
    assert provider.calls == 1

    with pytest.raises(LoginRequired, match="over again"):
        source.renew(stale)
    source.login(login(name="here"))
    assert source.token().access_token == "ahere"
    assert source.renew(source.token()).access_token == "a3"
    make.settle()
    assert len(make.logouts) == 2


def test_a_dead_login_and_a_dead_token(make: Make) -> None:
    """A login elsewhere whose access token has died since is refreshed from."""
    store = MemoryStore()
    provider = Provider(LoginRequired("over"))
    source = make(provider, store, token=login())
    with pytest.raises(LoginRequired):
        source.renew(source.token())
    store.save("default", Token("x", refresh_token="y", issued_at=1, expires_at=2))
    assert source.token().access_token == "a2"
    assert [old and old.refresh_token for old in provider.given] == ["r0", "y"]


def test_logged_out_elsewhere(make: Make) -> None:
    """An emptied store means logged out: the next refresh finds nothing, and says so."""
    store = MemoryStore()
    source = make(Provider(LoginRequired("nothing to refresh")), store, token=login())
    stale = source.token()
    store.delete("default")
    assert source.token() == stale
    with pytest.raises(LoginRequired, match="nothing to refresh"):
        source.renew(stale)
    make.settle()
    assert len(make.logouts) == 1


def ends(source: Any, how: str) -> None:
    source.logout() if how == "logout" else source.login(login(name="new"))


LATE: dict[str, Any] = {
    "issued": None,
    "refused": LoginRequired("over"),
    "a bug": KeyError("bug"),
}


@pytest.mark.parametrize("how", ["login", "logout"])
@pytest.mark.parametrize("late", LATE.values(), ids=LATE.keys())
def test_a_late_result(how: str, late: Any, make: Make) -> None:
    """A round that a login or logout overtakes neither overwrites nor brings back anything."""
    hold = Hold(late)
    store = MemoryStore()
    provider = Provider(hold)
    source = make(provider, store, token=login())
    stale = source.token()
    waiting = Crowd(lambda i: source.renew(stale), 4)
    hold.wait()
    wait_until(lambda: source._gate._round is not None and source._gate._round.waiters == 4)
    changed = threading.Thread(target=ends, args=(source, how))
    changed.start()
    changed.join(30)
    results = waiting.join()  # they do not wait for the round that was overtaken
    hold.release.set()
    make.settle()
    stored = store.load("default")
    if how == "login":
        assert {token.access_token for token in results} == {"anew"}
        assert source.token().access_token == "anew"
        assert stored == source.token()
    else:
        assert {type(error) for error in results} == {LoginRequired}
        assert stored is None
        with pytest.raises(LoginRequired, match="logout"):
            source.token()
    make.settle()
    assert provider.calls == 1
    assert (make.refreshed, make.logouts) == ([], [])


def test_a_late_result_where_nothing_was(make: Make) -> None:
    """A first login that a logout overtakes is not brought back by its late token."""
    hold = Hold()
    store = MemoryStore()
    source = make(Provider(hold), store)
    waiting = Crowd(lambda i: source.token(), 2)
    hold.wait()
    source.logout()
    assert {type(error) for error in waiting.join()} == {LoginRequired}
    hold.release.set()
    make.settle()
    assert store.load("default") is None
    assert make.refreshed == []


def test_a_late_relogin(make: Make) -> None:
    """A logout while relogin works is not undone by what relogin gives."""
    hold = Hold("re")
    store = MemoryStore()
    source = make(Provider(LoginRequired("over")), store, token=login(), relogin=lambda: hold(None))
    stale = source.token()
    waiting = Crowd(lambda i: source.renew(stale), 1)
    hold.wait()
    source.logout()
    waiting.join()
    hold.release.set()
    make.settle()
    assert store.load("default") is None


def test_a_late_first_token(make: Make) -> None:
    """A first token that is being saved when a logout comes does not stay."""
    store, hold = Fickle(), Hold()
    source = make(Provider(), store, token=login())
    store.before["save"] = lambda: hold(None)
    waiting = Crowd(lambda i: source.token(), 2)
    hold.wait()
    store.before.clear()
    source.logout()
    hold.release.set()
    assert {type(error) for error in waiting.join()} == {LoginRequired}
    make.settle()
    assert store.load("default") is None


def test_who_asks_during_a_login_gets_it(make: Make) -> None:
    """Who asks while a login is being stored waits for it, and refreshes nothing."""
    store, hold, provider = Fickle(), Hold(), Provider()
    source = make(provider, store)
    store.before["save"] = lambda: hold(None)
    changing = Crowd(lambda i: source.login(login(name="new")), 1)
    hold.wait()
    waiting = Crowd(lambda i: source.token(), 4)
    wait_until(lambda: source.stats.waits == 4)
    hold.release.set()
    assert changing.join() == [None]
    assert {token.access_token for token in waiting.join()} == {"anew"}
    assert provider.calls == 0


# ------------------------------------- the last token of a login that is over


def test_a_refusal_ahead_of_time(make: Make, caplog: pytest.LogCaptureFixture) -> None:
    """A refresh ahead that is refused: an error at once, and the token is used to its end."""
    store = MemoryStore()
    provider = Provider(LoginRequired("over"), LoginRequired("nothing to refresh with"))
    source = make(provider, store, token=login(100), ahead=50)
    source.token()
    make.clock.now += 60
    assert source.token().access_token == "a0"
    make.settle()
    assert caplog.text.count("the login ends with its access token: over") == 1
    stored = store.load("default")
    assert stored is not None
    assert (stored.access_token, stored.refresh_token) == ("a0", None)
    for _ in range(5):
        assert source.token().access_token == "a0"
        make.settle()
    assert provider.calls == 1
    assert make.logouts == []

    second = make(no_call_but_login_required, store, identity="default")
    assert second.token().access_token == "a0"
    make.settle()

    make.clock.now += 60
    with pytest.raises(LoginRequired):
        source.token()
    make.settle()
    assert [old and old.refresh_token for old in provider.given] == ["r0", None]
    assert len(make.logouts) == 1
    assert store.load("default") is None


def no_call_but_login_required(old: Token | None) -> Any:
    assert old is None or old.refresh_token is None, "the refused one is not used again"
    raise LoginRequired("nothing to refresh with")


@pytest.mark.parametrize("kind", ["conflict", "broken"])
def test_a_refusal_ahead_and_a_store_that_differs(
    kind: str, make: Make, caplog: pytest.LogCaptureFixture
) -> None:
    """I8: another token that comes meanwhile is adopted; where the store fails, life goes on."""
    store = Fickle()
    theirs = login(name="theirs")
    provider = Provider(LoginRequired("over"))
    source = make(provider, store, token=login(100), ahead=50)
    source.token()

    def meanwhile() -> None:
        store.before.clear()
        if kind == "broken":
            raise OSError
        MemoryStore.save(store, "default", theirs)

    store.before["save"] = meanwhile
    make.clock.now += 60
    source.token()
    make.settle()
    assert source.token().access_token == ("atheirs" if kind == "conflict" else "a0")
    assert ("could not be stored" in caplog.text) is (kind == "broken")
    assert make.logouts == []


# ------------------------------------------------------------------- revoking


class Revoking(Provider):
    """A provider that can be told that a login is over."""

    def __init__(self, problem: Exception | None = None) -> None:
        super().__init__()
        self.revoked: list[Token] = []
        self.problem = problem

    def revoke(self, token: Token) -> None:
        self.revoked.append(token)
        if self.problem is not None:
            raise self.problem


def test_revoke(make: Make) -> None:
    """logout(revoke=True) tells the provider what was stored, when it is stored no more."""
    store, provider = MemoryStore(), Revoking()
    source = make(provider, store, token=login())
    token = source.token()
    source.logout(revoke=True)
    assert provider.revoked == [token]
    assert store.load("default") is None
    source.logout(revoke=True)
    assert len(provider.revoked) == 1


def test_a_revocation_that_fails(make: Make) -> None:
    """A provider that cannot be told keeps nobody logged in here."""
    source = make(Revoking(RefreshError("down")), token=login())
    source.token()
    with pytest.raises(RefreshError):
        source.logout(revoke=True)
    with pytest.raises(LoginRequired):
        source.token()


def test_a_grant_that_cannot_revoke(make: Make) -> None:
    """logout(revoke=True) without a way to revoke is an error, and nothing has changed."""
    source = make(Provider(), token=login())
    before = source.token()
    with pytest.raises(ConfigurationError, match="cannot revoke"):
        source.logout(revoke=True)
    assert source.token() is before


ENDS: dict[str, Callable[[Any, Any], object]] = {
    "login": lambda source, store: source.login(login(name="end")),
    "logout": lambda source, store: source.logout(),
    "elsewhere": lambda source, store: store.save("default", login(name="end")),
}


@pytest.mark.parametrize("end", ENDS)
def test_a_storm_of_changes(end: str, make: Make) -> None:
    """I3: whatever logins, logouts and refusals come at once, all end, and the last word counts."""
    store = MemoryStore()
    source = make(Provider(), store, token=login(), strikes=None)

    def work(number: int) -> None:
        for turn in range(15):
            if number == 0:
                source.login(login(name=f"-{turn}"))
            elif number == 1 and turn % 5 == 4:
                source.logout()
            else:
                with suppress(LoginRequired):
                    source.renew(source.token())

    assert crowd(work, 6) == [None] * 6
    make.settle()
    ENDS[end](source, store)
    if end == "logout":
        with pytest.raises(LoginRequired):
            source.token()
        assert store.load("default") is None
    elif end == "login":
        assert source.token().access_token == "aend"
        assert store.load("default") == source.token()
    else:
        assert source.renew(store.load("default") or login()) is not None
