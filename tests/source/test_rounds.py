"""One round for all who wait: its outcome, its errors, its callbacks, its deadlines."""

from __future__ import annotations

import logging
import threading
from typing import Any

import pytest

from requests_refresh import (
    InvalidReply,
    LoginRequired,
    MemoryStore,
    RefreshError,
    RefreshTimeout,
    RefreshUnavailable,
    Token,
    TokenSource,
    TokenStore,
    remaining,
)

from ..adapter.support import PATIENCE, Crowd, crowd, wait_until
from .conftest import Hold, Make, Provider, login


def test_a_crowd_of_refusals(make: Make) -> None:
    """I1: 32 threads with one refused token make one refresh, and each gets the new token."""
    hold = Hold()
    provider = Provider(hold)
    source = make(provider, token=login())
    stale = source.token()
    waiting = Crowd(lambda i: source.renew(stale), 32)
    hold.wait()
    wait_until(lambda: source.stats.waits == 33)
    hold.release.set()
    assert {token.access_token for token in waiting.join()} == {"a1"}
    assert source.renew(stale).access_token == "a1"  # I2: a refusal that comes late
    assert provider.calls == 1
    make.settle()
    assert len(make.refreshed) == 1


def test_a_refused_refresh(make: Make) -> None:
    """I3: 32 waiters of a refused refresh: one call, one logout, an exception for each."""
    hold = Hold(LoginRequired("over", error="invalid_grant", error_description="gone"))
    provider = Provider(hold)
    store = MemoryStore()
    source = make(provider, store, token=login())
    stale = source.token()
    waiting = Crowd(lambda i: source.renew(stale), 32)
    hold.wait()
    wait_until(lambda: source.stats.waits == 33)
    hold.release.set()
    errors = waiting.join()
    assert {type(error) for error in errors} == {LoginRequired}
    assert len({id(error) for error in errors}) == 32
    assert {(e.error, e.error_description) for e in errors} == {("invalid_grant", "gone")}
    make.settle()
    assert len(make.logouts) == 1
    assert store.load("default") is None
    for _ in range(3):
        with pytest.raises(LoginRequired, match="over"):
            source.token()
    make.settle()
    assert (provider.calls, len(make.logouts)) == (1, 1)
    assert source.stats.failures == 1


@pytest.mark.parametrize("good", [True, False])
def test_callbacks(good: bool) -> None:
    """I4: callbacks come when the waiters are awake, hold no lock, and may use the source."""
    seen: list[Any] = []
    hold, done = Hold(), threading.Event()

    def on_refresh(source: TokenSource, token: Token) -> None:
        assert done.wait(PATIENCE), "the waiters must wake before the callbacks are done"
        seen.append((source.token(), token))
        source.close()

    def on_logout(source: TokenSource, error: LoginRequired) -> None:
        assert done.wait(PATIENCE)
        with pytest.raises(LoginRequired):
            source.token()
        source.close()
        source.login("again")
        seen.append(source.token().access_token)

    provider = Provider(hold if good else LoginRequired("over"))
    source = TokenSource(provider, on_refresh=on_refresh, on_logout=on_logout)
    waiting = Crowd(lambda i: source.token(), 4)
    if good:
        hold.release.set()
    results = waiting.join()
    done.set()
    source.close()
    if good:
        assert seen == [(results[0], results[0])]
    else:
        assert {type(result) for result in results} == {LoginRequired}
        assert seen == ["again"]


def test_a_callback_that_fails(make: Make, caplog: pytest.LogCaptureFixture) -> None:
    """What a callback raises is logged, and the outcome stands."""

    def fail(source: TokenSource, token: Token) -> None:
        raise ZeroDivisionError

    source = make(Provider(), on_refresh=fail)
    assert source.token().access_token == "a1"
    make.settle()
    assert "a callback failed; the outcome stands" in caplog.text
    assert source.token().access_token == "a1"


def test_relogin_where_nothing_is_stored(make: Make) -> None:
    """relogin is called when the grant declines for lack of a login, and what it gives is saved."""
    store = MemoryStore()
    provider = Provider(LoginRequired("nothing to refresh"))
    source = make(provider, store, relogin=lambda: {"access_token": "re", "refresh_token": "rr"})
    assert source.token().access_token == "re"
    stored = store.load("default")
    assert stored is not None
    assert stored.refresh_token == "rr"
    make.settle()
    assert [token.access_token for token in make.refreshed] == ["re"]
    assert make.logouts == []


def test_relogin_after_a_refusal(make: Make) -> None:
    """relogin is called when the refresh was refused for good, once for all who wait."""
    logins: list[int] = []

    def relogin() -> str:
        logins.append(1)
        return "re"

    source = make(Provider(LoginRequired("over")), token=login(), relogin=relogin)
    stale = source.token()
    assert {t.access_token for t in crowd(lambda i: source.renew(stale), 8)} == {"re"}
    assert logins == [1]
    assert make.logouts == []


@pytest.mark.parametrize(
    ("problem", "kind", "logouts"),
    [
        (LoginRequired("wrong password"), LoginRequired, 1),
        (RefreshUnavailable("down", retry_after=5), RefreshUnavailable, 0),
        (KeyError("bug"), RefreshError, 0),
    ],
    ids=["refused", "down", "a bug"],
)
def test_relogin_fails(problem: Exception, kind: Any, logouts: int, make: Make) -> None:
    """I8: a relogin that is refused ends the login; one that finds nobody at home does not."""

    def relogin() -> Any:
        raise problem

    store = MemoryStore()
    source = make(Provider(LoginRequired("over")), store, token=login(), relogin=relogin)
    stale = source.token()
    with pytest.raises(kind) as caught:
        source.renew(stale)
    assert type(caught.value) is kind
    make.settle()
    assert len(make.logouts) == logouts
    assert (store.load("default") is None) is bool(logouts)


def test_an_impatient_caller(make: Make) -> None:
    """I5: a caller's deadline ends his wait and nothing else: the round goes on, and publishes."""
    hold = Hold()
    store = MemoryStore()
    provider = Provider(hold)
    source = make(provider, store, token=login())
    stale = source.token()
    with pytest.raises(RefreshTimeout, match="goes on"):
        source.renew(stale, timeout=0)
    hold.wait()
    with pytest.raises(RefreshTimeout):
        source.token(timeout=0)
    hold.release.set()
    assert source.token().access_token == "a1"
    assert store.load("default") == source.token()
    assert provider.calls == 1


def test_one_deadline(make: Make) -> None:
    """I5: everybody's wait ends with his own deadline, and nobody waits for an overdue round."""
    hold = Hold()
    source = make(Provider(hold), timeout=10)
    waiting = Crowd(lambda i: source.token(), 2)
    hold.wait()
    wait_until(lambda: source.stats.waits == 2)
    make.clock.now += 11
    with pytest.raises(RefreshTimeout):  # not ten seconds more
        source.token(timeout=1000)
    with source._gate._lock:
        source._gate._changed.notify_all()  # the clock moved, and they sleep by another
    assert [type(error) for error in waiting.join()] == [RefreshTimeout] * 2
    hold.release.set()
    wait_until(lambda: source.stats.refreshes == 1 and source._gate._round is None)
    assert source.token().access_token == "a1"


def test_the_store_is_held_by_somebody_else(make: Make, naps: list[float]) -> None:
    """I5: the deadline holds while the round waits for the store, and the provider is not asked."""
    store = MemoryStore()
    provider = Provider()
    source = make(provider, store, timeout=10)
    with store.exclusive("default", 0):
        waiting = Crowd(lambda i: source.token(timeout=100), 1)
        wait_until(lambda: source.stats.waits == 1)
        make.clock.now += 11
        assert [type(error) for error in waiting.join()] == [RefreshTimeout]
        make.settle()
    assert provider.calls == 0
    assert source.token().access_token == "a1"  # no backoff for that


def test_the_holder_publishes(make: Make) -> None:
    """I1: who waits for the store adopts what its holder saves, before the holder lets go."""
    store = MemoryStore()
    provider = Provider()
    source = make(provider, store)
    with store.exclusive("default", 0):
        waiting = Crowd(lambda i: source.token(), 3)
        wait_until(lambda: source.stats.waits == 3)
        store.save("default", login(name="theirs"))
        assert {token.access_token for token in waiting.join()} == {"atheirs"}
    assert provider.calls == 0


def test_a_grant_that_asks_its_own_source(make: Make) -> None:
    """I3: a grant that uses the source it works for is told at once."""
    sources: list[TokenSource] = []

    def ask(old: Token | None) -> str:
        with pytest.raises(RefreshError, match="that it is handed"):
            sources[0].renew(login())
        assert sources[0].token().access_token is None, "not reached"
        return "never"

    sources.append(make(Provider(ask)))
    with pytest.raises(RefreshError, match="that it is handed"):
        sources[0].token()


def test_a_grant_that_asks_another_source(make: Make) -> None:
    """A grant may use another source, with a round of its own; a ring of them is told at once."""
    outer: list[TokenSource] = []

    def ask_inner(old: Token | None) -> str:
        return f"{inner.token().access_token}+{remaining():g}"

    inner = make(Provider(), identity="inner")
    outer.append(make(Provider(ask_inner), timeout=20))
    assert outer[0].token().access_token == "a1+20"

    ring = make(Provider(lambda old: outer[1].token()), identity="ring")
    outer.append(make(Provider(lambda old: ring.token())))
    with pytest.raises(RefreshError, match="that it is handed"):
        outer[1].token()


@pytest.mark.parametrize("kind", [SystemExit, KeyboardInterrupt, GeneratorExit])
def test_a_grant_that_wants_to_leave(kind: Any, make: Make) -> None:
    """I3: SystemExit in a grant ends nobody but the round, and nobody waits for ever."""
    store = MemoryStore()
    source = make(Provider(kind("7")), store, token=login())
    stale = source.token()
    errors = crowd(lambda i: source.renew(stale) if i == 0 else None, 2)
    assert type(errors[0]) is RefreshError
    assert kind.__name__ in str(errors[0])
    assert store.load("default") == stale
    assert make.logouts == []


@pytest.mark.parametrize("given", [5, None, b"token", {}, {"access_token": ""}, "a\nb", Token()])
def test_a_grant_that_returns_rubbish(given: Any, make: Make) -> None:
    """I8: what is no token is an InvalidReply, and the login is kept."""
    store = MemoryStore()
    source = make(lambda old: given, store, token=login())
    stale = source.token()
    with pytest.raises(InvalidReply):
        source.renew(stale)
    assert store.load("default") == stale
    make.settle()
    assert make.logouts == []


def test_no_thread_can_be_started(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """I3: where no thread can be started the caller does the work, callbacks included."""
    workers: list[int] = []
    provider = Provider(lambda old: workers.append(threading.get_ident()), expires_in=100)
    source = make(provider, ahead=20)

    def start(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", start)
    assert source.token().access_token == "a1"
    assert workers == [threading.get_ident()]
    assert [token.access_token for token in make.refreshed] == ["a1"]
    make.clock.now += 85
    assert source.token().access_token == "a1"  # ahead of time nobody has to work
    assert provider.calls == 1
    make.clock.now += 85
    assert source.token().access_token == "a2"
    provider.script.append(LoginRequired("over"))
    with pytest.raises(LoginRequired):
        source.renew(source.token())
    assert len(make.logouts) == 1


def test_no_thread_and_ctrl_c(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """I3: Ctrl-C reaches the caller who does the work himself, and the source goes on."""
    source = make(Provider(KeyboardInterrupt()), token=login())
    stale = source.token()

    def start(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", start)
        with pytest.raises(KeyboardInterrupt):
            source.renew(stale)
    make.clock.now += 60
    assert source.renew(stale).access_token == "a2"


class Plain(TokenStore):
    """The simplest store that there can be; its files may fail."""

    def __init__(self) -> None:
        self.held: dict[str, Token] = {}
        self.broken: set[str] = set()

    def _check(self, name: str) -> None:
        if name in self.broken:
            raise OSError(5, "disk on fire")

    def load(self, identity: str) -> Token | None:
        self._check("load")
        return self.held.get(identity)

    def save(self, identity: str, token: Token, **options: Any) -> None:
        self._check("save")
        self.held[identity] = token

    def delete(self, identity: str, **options: Any) -> None:
        self._check("delete")
        self.held.pop(identity, None)


def test_a_store_in_twenty_lines(make: Make, caplog: pytest.LogCaptureFixture) -> None:
    """A store that knows no more than load, save and delete works, also in a crowd."""
    caplog.set_level(logging.DEBUG)
    store, provider = Plain(), Provider()
    source = make(provider, store, token=login())
    stale = source.token()
    assert {t.access_token for t in crowd(lambda i: source.renew(stale), 8)} == {"a1"}
    assert store.held["default"].refresh_token == "r1"
    source.logout()
    assert store.held == {}
    assert provider.calls == 1
