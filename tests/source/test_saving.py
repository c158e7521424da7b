"""I6, I7: what the provider has issued is saved before it is used, and is never dropped."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from requests_refresh import (
    FileStore,
    LoginRequired,
    MemoryStore,
    RefreshRefused,
    StoreConflict,
    StoreError,
    Token,
    TokenSource,
)

from ..adapter.support import Crowd, crowd, wait_until
from .conftest import Fickle, Hold, Make, Provider, login


def breaks(kind: Callable[..., Exception] = OSError) -> Callable[[], object]:
    def fail() -> None:
        raise kind("The disk is on fire.")

    return fail


def test_saved_before_it_is_used(make: Make) -> None:
    """I6: the new token is stored, and `exclusive` is left, before anybody gets it."""
    store, hold = Fickle(), Hold()
    source = make(Provider(), store, token=login())
    stale = source.token()
    store.calls.clear()
    store.after_save = lambda: hold(None)
    waiting = Crowd(lambda i: source.renew(stale), 3)
    hold.wait()
    assert source._gate._round is not None
    assert waiting.results == [None] * 3
    hold.release.set()
    assert {token.access_token for token in waiting.join()} == {"a1"}
    assert [name for name in store.calls if name != "load"] == ["exclusive", "save", "leave"]


@pytest.mark.parametrize("kind", [OSError, StoreError, KeyError])
def test_exclusive_fails(kind: type[Exception], make: Make) -> None:
    """I7: where a save could not succeed the refresh token is not spent."""
    store, provider = Fickle(), Provider()
    source = make(provider, store, token=login())
    stale = source.token()
    store.before["exclusive"] = breaks(kind)
    errors = crowd(lambda i: source.renew(stale), 4)
    assert {type(error) for error in errors} == {StoreError}
    assert provider.calls == 0
    store.before.clear()
    make.clock.now += 2  # the longest that a store is backed off from
    assert source.renew(stale).access_token == "a1"
    assert make.logouts == []


@pytest.mark.parametrize("method", ["load", "save", "exclusive"])
def test_a_store_of_ones_own_fails(method: str, make: Make) -> None:
    """What a store raises becomes a StoreError with the store's own as its cause."""
    store = Fickle()
    store.before[method] = breaks()
    source = make(Provider(), store, token=login())
    with pytest.raises(StoreError) as caught:
        source.token()
    assert "Fickle failed with OSError" in str(caught.value)
    causes = [caught.value.__cause__]
    while causes[-1] is not None:
        causes.append(causes[-1].__cause__)
    assert isinstance(causes[-2], OSError)


def test_login_and_logout_on_a_broken_store(make: Make) -> None:
    """Where the store fails, login and logout say so, and nothing has changed."""
    store, provider = Fickle(), Provider()
    source = make(provider, store, token=login())
    before = source.token()
    store.before.update(save=breaks(), delete=breaks())
    with pytest.raises(StoreError):
        source.login(login(name="new"))
    with pytest.raises(StoreError):
        source.logout()
    assert source.token() is before
    assert store.load("default") == before


def test_a_save_that_fails_for_a_while(make: Make, naps: list[float]) -> None:
    """I7: the round stays in `exclusive` and tries on until the save succeeds."""
    store = Fickle()
    source = make(Provider(), store, token=login())
    stale = source.token()
    store.calls.clear()

    def fail() -> None:
        if store.calls.count("save") == 7:
            store.before.clear()
        raise OSError

    store.before["save"] = fail
    assert source.renew(stale).access_token == "a1"
    stored = store.load("default")
    assert stored is not None
    assert stored.refresh_token == "r1"
    assert store.calls.count("save") == 8
    assert store.calls.count("exclusive") == 1
    assert store.calls.index("leave") > max(i for i, n in enumerate(store.calls) if n == "save")


def in_memory_only(make: Make, store: Fickle, provider: Provider) -> TokenSource:
    """A source whose token a1 could not be stored within its round."""
    source = make(provider, store, token=login(), timeout=100)
    stale = source.token()
    over = make.clock.now + 97  # a little before the round's end

    def fail() -> None:
        make.clock.now = min(over, make.clock.now + 10)
        raise OSError

    store.before["save"] = fail
    assert source.renew(stale).access_token == "a1"
    return source


def test_a_save_that_fails_for_long(
    make: Make, naps: list[float], caplog: pytest.LogCaptureFixture
) -> None:
    """I7: then the token is used from memory, an error is logged, and it is stored later."""
    store, provider = Fickle(), Provider()
    source = in_memory_only(make, store, provider)
    assert caplog.text.count("could not be stored and is in memory only") == 1
    assert source.token().access_token == "a1"
    assert MemoryStore.load(store, "default") != source.token()
    assert not source._idle, "an exit waits for it"
    store.before.clear()
    wait_until(lambda: source._idle)
    assert MemoryStore.load(store, "default") == source.token()
    assert source.renew(source.token()).access_token == "a2"
    assert [old and old.refresh_token for old in provider.given] == ["r0", "r1"]


def test_close_waits_for_the_save(make: Make, naps: list[float]) -> None:
    """I7: close() lets a pending save end; when it is back the token is stored."""
    store = Fickle()
    source = in_memory_only(make, store, Provider())
    hold = Hold()
    store.before["save"] = lambda: hold(None)
    closing = Crowd(lambda i: source.close(), 2)
    hold.wait()
    hold.release.set()
    closing.join()
    assert MemoryStore.load(store, "default") == source.token()


def test_close_does_not_wait_for_ever(make: Make, naps: list[float]) -> None:
    """I3: close() on a store that stays dead ends with its time, and the token stays in memory."""
    store = Fickle()
    source = in_memory_only(make, store, Provider())

    def fail() -> None:
        make.clock.now += 1
        raise OSError

    store.before["save"] = fail
    assert crowd(lambda i: source.close(), 1) == [None]
    assert not source._idle
    store.before.clear()
    source.close()
    assert source._idle


def test_a_refresh_while_a_save_is_pending(make: Make, naps: list[float]) -> None:
    """I7: before the next refresh what is pending is saved, or no refresh token is spent."""
    store, provider = Fickle(), Provider()
    source = in_memory_only(make, store, provider)
    stale = source.token()
    with pytest.raises(StoreError):
        source.renew(stale)
    assert provider.calls == 1
    store.before.clear()
    wait_until(lambda: source._idle)
    make.clock.now += 2
    assert source.renew(stale).access_token == "a2"
    stored = store.load("default")
    assert stored is not None
    assert stored.refresh_token == "r2"


def test_an_older_saver_overwrites_nothing(
    make: Make, naps: list[float], caplog: pytest.LogCaptureFixture
) -> None:
    """I7: a pending save never puts an older token over a newer one."""
    store = Fickle()
    source = in_memory_only(make, store, Provider())
    newer = login(name="newer")
    old = MemoryStore.load(store, "default")
    MemoryStore.save(store, "default", newer, replacing=old)
    store.before.clear()
    wait_until(lambda: source._idle)
    assert store.load("default") == newer
    assert "another token was stored meanwhile" in caplog.text


@pytest.mark.parametrize("end", ["login", "logout"])
def test_a_pending_save_and_a_new_state(end: str, make: Make, naps: list[float]) -> None:
    """I7: what is pending brings nothing back that a login or a logout has replaced."""
    store = Fickle()
    source = in_memory_only(make, store, Provider())
    store.before.clear()
    if end == "login":
        source.login(login(name="new"))
    else:
        source.logout()
    make.settle()
    stored = store.load("default")
    assert (stored and stored.access_token) == ("anew" if end == "login" else None)


def test_somebody_saves_meanwhile(make: Make) -> None:
    """Another's token at the save is adopted, and ours is not put over it."""
    store = MemoryStore()
    theirs = login(name="theirs")
    provider = Provider(lambda old: store.save("default", theirs))
    source = make(provider, store, token=login())
    stale = source.token()
    assert source.renew(stale) == theirs
    assert store.load("default") == theirs
    assert provider.calls == 1
    assert (source.stats.refreshes, source.stats.adoptions) == (0, 1)


def test_nothing_is_there_at_the_save(make: Make) -> None:
    """A login that was ended elsewhere during the refresh is over, and is not brought back."""
    store = MemoryStore()
    source = make(Provider(lambda old: store.delete("default")), store, token=login())
    stale = source.token()
    with pytest.raises(LoginRequired, match="ended elsewhere"):
        source.renew(stale)
    assert store.load("default") is None
    make.settle()
    assert len(make.logouts) == 1


def test_a_save_whose_answer_was_lost(make: Make, naps: list[float]) -> None:
    """I7: a save that was done and yet failed is known again, and is no conflict."""
    store, provider = Fickle(), Provider()
    source = make(provider, store, token=login())
    stale = source.token()

    def lose() -> None:
        store.after_save = lambda: None
        raise OSError("the answer was lost")

    store.after_save = lose
    assert source.renew(stale).access_token == "a1"
    assert store.load("default") == source.token()
    assert source._idle
    assert provider.calls == 1


def test_leaving_exclusive_fails(make: Make, caplog: pytest.LogCaptureFixture) -> None:
    """I7: a store that fails when `exclusive` is left costs no token that it has saved."""
    store = Fickle()
    source = make(Provider(), store, token=login())
    stale = source.token()
    store.before["leave"] = breaks()
    assert source.renew(stale).access_token == "a1"
    source.close()  # nobody waits for it to be left
    assert "leaving exclusive failed" in caplog.text


def test_the_dead_login_cannot_be_cleared(make: Make, caplog: pytest.LogCaptureFixture) -> None:
    """A login that is over is over, also where the store cannot clear it; nobody asks again."""
    store, provider = Fickle(), Provider(LoginRequired("over"))
    source = make(provider, store, token=login())
    stale = source.token()
    store.before["delete"] = breaks()
    for _ in range(3):
        with pytest.raises(LoginRequired):
            source.renew(stale)
    assert provider.calls == 1
    assert "could not be cleared" in caplog.text
    make.settle()
    assert len(make.logouts) == 1


def test_a_refusal_while_somebody_saves(make: Make) -> None:
    """I8: a refusal is believed only after another look at the store: a newer token is adopted."""
    store = MemoryStore()
    theirs = login(name="theirs")

    def refuse(old: Token | None) -> None:
        store.save("default", theirs)
        raise LoginRequired("reused")

    source = make(Provider(refuse), store, token=login())
    stale = source.token()
    assert source.renew(stale) == theirs
    assert make.logouts == []


def test_a_refusal_and_a_conflict(make: Make) -> None:
    """I8: a token that comes between the second look and the clearing is adopted, too."""
    store = Fickle()
    theirs = login(name="theirs")
    source = make(Provider(LoginRequired("reused")), store, token=login())
    stale = source.token()

    def save() -> None:
        store.before.clear()
        MemoryStore.save(store, "default", theirs)

    store.before["delete"] = save
    assert source.renew(stale) == theirs
    assert make.logouts == []


def test_the_store_goes_on_changing(make: Make) -> None:
    """I3: a round whose store changes under every step ends with its time."""
    store = MemoryStore()
    numbers = iter(range(1000))

    def refuse(old: Token | None) -> None:
        make.clock.now += 5
        other = Token(f"x{next(numbers)}", refresh_token="x", issued_at=1, expires_at=2)
        store.save("default", other)
        raise LoginRequired("reused")

    source = make(Provider(*[refuse] * 50), store, timeout=30)
    [error] = crowd(lambda i: source.token(timeout=1000), 1)
    assert "went on changing" in str(error)
    assert make.logouts == []


@pytest.mark.parametrize("kind", ["memory", "file"])
def test_two_sources_on_one_store(kind: str, make: Make, tmp_path: Path) -> None:
    """I1: sources that share a store and an identity refresh once, and each tells its own user."""

    def store() -> Any:
        return shared if kind == "memory" else FileStore(tmp_path / "tokens" / "t.json")

    shared = MemoryStore()
    hold = Hold()
    provider = Provider(hold)
    first = make(provider, store(), token=login())
    second = make(provider, store())
    stale = first.token()
    assert second.token() == stale
    waiting = Crowd(lambda i: (first, second)[i % 2].renew(stale), 8)
    hold.wait()
    hold.release.set()
    assert {token.access_token for token in waiting.join()} == {"a1"}
    assert provider.calls == 1
    make.settle()
    assert len(make.refreshed) == 1
    assert first.stats.refreshes + second.stats.refreshes == 1


def test_an_old_token_comes_back(make: Make) -> None:
    """I7: a restored backup of the store is not adopted, nor is its spent refresh token used."""
    store, provider = MemoryStore(), Provider()
    source = make(provider, store, token=login())
    old = source.token()
    newer = source.renew(old)
    store.save("default", old)
    assert source.renew(newer).access_token == "a2"
    assert [given and given.refresh_token for given in provider.given] == ["r0", "r1"]


def test_a_wrong_setting_clears_nothing(make: Make, caplog: pytest.LogCaptureFixture) -> None:
    """I8: a client that the provider refuses costs no login, and is logged as a warning."""
    caplog.set_level(logging.WARNING)
    store = MemoryStore()
    source = make(Provider(RefreshRefused("invalid_client")), store, token=login())
    stale = source.token()
    with pytest.raises(RefreshRefused, match="invalid_client"):
        source.renew(stale)
    assert store.load("default") == stale
    make.settle()
    assert "no new token: invalid_client" in caplog.text


def test_a_conflict_is_a_store_error() -> None:
    """Who catches StoreError catches a conflict."""
    assert issubclass(StoreConflict, StoreError)
