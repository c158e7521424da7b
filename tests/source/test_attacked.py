"""What a hostile reading of the renewal found, each as a test that failed before."""

from __future__ import annotations

import threading
from contextlib import suppress
from typing import Any

import pytest

from requests_refresh import (
    ConfigurationError,
    FileStore,
    LoginRequired,
    MemoryStore,
    RefreshError,
    RefreshLoop,
    RefreshUnavailable,
    StoreError,
    Token,
    TokenSource,
    TokenStore,
)
from requests_refresh.testing import AuthServer

from ..adapter.support import crowd, wait_until
from .conftest import Fickle, Hold, Make, Provider, dead, login


class Down:
    """Raises what a store does that is down."""

    def __call__(self) -> None:
        raise StoreError("down")


def test_no_refresh_token_is_spent_without_time_to_hear_the_answer(make: Make) -> None:
    """I7: with too little of a round left, the next one asks, and nobody notices."""
    provider, store = Provider(), Fickle()
    source = make(provider, store, token=dead(), timeout=30)
    left: list[float] = []

    def slow_to_enter() -> None:
        if not left:
            make.clock.now += 25
        left.append(source._clock())

    store.before["exclusive"] = slow_to_enter
    assert source.token(timeout=100).access_token == "a1"
    assert provider.calls == 1
    assert len(left) == 2  # entered twice: by the round that had no time, and by the next


def test_a_slow_sibling_does_not_cost_the_login(tmp_path: Any) -> None:
    """I1, I7: who gets `exclusive` just before its deadline does not throw an answer away."""
    with AuthServer(latency={"token": 0.5}) as server:
        store = FileStore(tmp_path / "t.json")
        source = server.source(store=store, timeout=2.0)
        stale = source.token()
        server.revoke_access()
        entered, leave = threading.Event(), threading.Event()

        def sibling() -> None:
            with FileStore(tmp_path / "t.json").exclusive("default", 5):
                entered.set()
                leave.wait(1.8)

        thread = threading.Thread(target=sibling)
        thread.start()
        assert entered.wait(5)
        with pytest.raises(RefreshError):
            source.renew(stale)  # its own time ends first
        thread.join()
        wait_until(lambda: source._idle)
        assert source.renew(stale, timeout=10).access_token
        assert server.counts.reuses == 0
        assert server.counts.refreshes == 1


def test_a_failed_login_in_the_middle_leaves_nothing_unsaved(make: Make) -> None:
    """I7: a round that was detached goes on saving what it got."""
    store, hold = Fickle(), Hold()
    source = make(Provider(hold), store, token=dead(), timeout=5)

    def ask() -> None:
        with suppress(RefreshError):
            source.token()

    crowd_of_one = threading.Thread(target=ask)
    crowd_of_one.start()
    hold.wait()
    store.before["save"] = Down()
    with pytest.raises(StoreError):
        source.login("other")
    make.clock.now += 4.9
    hold.release.set()
    wait_until(lambda: source._place.unsaved is not None)
    make.clock.now += 10
    crowd_of_one.join(10)
    store.before.clear()
    wait_until(lambda: source._place.unsaved is None)
    stored = store.load("default")
    assert stored is not None
    assert stored.refresh_token == "r1"


def test_a_callback_that_exits_leaves_nothing_unsaved(monkeypatch: pytest.MonkeyPatch) -> None:
    """I7: the save goes on whatever `on_refresh` raises."""
    monkeypatch.setattr(threading, "excepthook", lambda args: None)  # Python's own is silent too

    def leave(source: TokenSource, token: Token) -> None:
        raise SystemExit

    store = Fickle()
    source = TokenSource(Provider(), store, token=dead(), on_refresh=leave, timeout=0.3)
    store.after_save = lambda: store.before.__setitem__("save", Down())  # the first is the token=
    source.token(timeout=10)
    assert source._place.unsaved is not None
    store.before.clear()
    store.after_save = lambda: None
    wait_until(lambda: source._place.unsaved is None)
    stored = store.load("default")
    assert stored is not None
    assert stored.refresh_token == "r1"


def test_an_older_token_that_comes_back_is_replaced(make: Make) -> None:
    """I7: a pending save gives way to newer tokens only."""
    store = Fickle()
    source = make(Provider(), store, token=login())
    old = source.token()
    new = Token("new", refresh_token="newer")
    between = Token("between", refresh_token="b")
    store.save("default", old)
    source._place.unsaved = new, between, old.same_issue
    source._place.go_on_saving()
    assert store.load("default") == new


@pytest.mark.parametrize(
    ("reply", "options"),
    [
        ({"expires_in": 0}, {}),
        ({"expires_in": 60}, {"leeway": 60.0}),
        ({"expires_at": 1.0}, {}),
    ],
)
def test_a_token_that_is_dead_when_it_is_issued_is_used(
    make: Make, reply: dict[str, float], options: dict[str, Any]
) -> None:
    """I12: where a clock or a reply is wrong the API decides, and no request refreshes anew."""
    provider = Provider({"access_token": "a", "refresh_token": "r", **reply})
    source = make(provider, token=dead(), **options)
    assert [source.token().access_token for _ in range(20)] == ["a"] * 20
    assert provider.calls == 1


def test_a_provider_that_issues_the_same_token_again_is_a_loop_too(make: Make) -> None:
    """I12: strikes count issues, be it of one token."""
    same = {"access_token": "a", "refresh_token": "r"}
    provider = Provider(*[same] * 30)
    source = make(provider, token=login())
    stale = source.token()
    for _ in range(3):
        stale = source.renew(stale)
    with pytest.raises(RefreshLoop):
        source.renew(stale)
    assert provider.calls == 3


def test_two_logins_at_once_leave_one(make: Make) -> None:
    """I6: memory and store agree on who logged in last."""
    store = Fickle()
    source = make(Provider(), store)
    gate, once = threading.Event(), threading.Lock()

    def first_waits() -> None:
        if once.acquire(blocking=False):
            gate.wait(0.5)  # the second cannot come meanwhile, so this runs out

    store.before["save"] = first_waits
    names = ["A", "B"]
    crowd(lambda i: source.login(Token(names[i], refresh_token=f"r{names[i]}")), 2)
    assert store.load("default") == source.token()


@pytest.mark.parametrize("raised", [SystemExit(), KeyboardInterrupt(), ValueError()])
def test_whatever_a_grant_raises_is_backed_off_from(make: Make, raised: BaseException) -> None:
    """I8: unknown exceptions keep the login and hold the next call back."""
    provider = Provider(*[raised] * 50)
    source = make(provider, token=dead())
    for _ in range(20):
        with pytest.raises(RefreshError):
            source.token()
    assert provider.calls == 1


def test_a_stored_token_that_looks_dead_is_sent_during_an_outage() -> None:
    """I8: with the provider down and a clock that is wrong the API decides."""
    with AuthServer() as server:
        reply = server.login()
        store = MemoryStore()
        looks_dead = Token(reply["access_token"], refresh_token="r", expires_at=1, issued_at=0)
        store.save("default", looks_dead)
        source = TokenSource(Provider(ConnectionResetError()), store)
        with pytest.raises(RefreshError):
            source.token()
        outcome = source._for_request(source._deadline(None), sure=False)
        assert outcome.token.access_token == reply["access_token"]


def test_a_waiter_that_ctrl_c_catches_without_the_lock_gets_ctrl_c(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """I3, I14: no RuntimeError in its place, and the lock stays with who has it."""
    hold = Hold()
    source = make(Provider(hold), token=dead())
    changed = source._gate._changed

    def interrupted(timeout: float) -> bool:
        source._gate._lock.release()
        raise KeyboardInterrupt

    bystander = threading.Thread(target=source.token)
    bystander.start()
    hold.wait()
    monkeypatch.setattr(changed, "wait", interrupted)
    with pytest.raises(KeyboardInterrupt):
        source.token()
    monkeypatch.undo()
    hold.release.set()
    bystander.join(10)
    assert not bystander.is_alive()
    assert source.token().access_token == "a1"


class Careless(TokenStore):
    """Returns the row, as is easily done."""

    def load(self, identity: str) -> Any:
        return {"access_token": "a"}

    def save(self, identity: str, token: Token, *, replacing: object = None) -> None:
        raise AssertionError("Nothing is saved.")

    delete = save  # type: ignore[assignment]  # never called


def test_a_store_that_returns_no_token_is_named(make: Make) -> None:
    """The user's store is to blame, not the grant."""
    with pytest.raises(StoreError, match=r"Careless\.load returned dict"):
        make(Provider(), Careless()).token()


@pytest.mark.parametrize("rubbish", [5, None, b"x", ["a"]])
def test_a_login_that_is_none_is_a_wrong_setting(make: Make, rubbish: Any) -> None:
    """Bad input: the message speaks of the login, not of a grant."""
    source = make(Provider())
    with pytest.raises(ConfigurationError, match="A login is a Token"):
        source.login(rubbish)


@pytest.mark.parametrize("timeout", ["5", -1, float("nan"), 10**400, True])
def test_a_timeout_that_is_none_is_a_wrong_setting(make: Make, timeout: Any) -> None:
    """Bad input: an error at once, in each place that takes seconds."""
    source = make(Provider(), token=login())
    with pytest.raises(ConfigurationError):
        source.renew(login(), timeout)
    with pytest.raises(ConfigurationError):
        TokenSource(Provider(), timeout=timeout)


def test_a_failed_revocation_says_what_is_done(make: Make) -> None:
    """I9: logged out here, and the provider's error shows no secret."""

    class Revoking(Provider):
        def revoke(self, token: Token) -> None:
            secret = token.refresh_token
            raise ValueError(len(secret or ""))

    source = make(Revoking(), token=login())
    source.token()
    with pytest.raises(RefreshError, match="The login is ended here") as caught:
        source.logout(revoke=True)
    assert isinstance(caught.value.__cause__, RefreshError)
    with pytest.raises(LoginRequired):
        source.token()


def test_the_newest_token_is_what_is_revoked(make: Make) -> None:
    """What the store could not take, or was never asked to take, is revoked all the same."""
    revoked: list[Token] = []

    class Revoking(Provider):
        def revoke(self, token: Token) -> None:
            revoked.append(token)

    make(Revoking(), token="never used").logout(revoke=True)
    source = make(Revoking(), token=login())
    newest = Token("newest", refresh_token="r")
    source.token()
    source._place.unsaved = newest, login(), newest.same_issue
    source.logout(revoke=True)
    assert [token.access_token for token in revoked] == ["never used", "newest"]


def test_a_lost_answer_is_asked_for_once_more_after_other_trouble(make: Make) -> None:
    """I8: what could not be reached before does not use up the second try."""
    provider = Provider(RefreshUnavailable("1"), RefreshUnavailable("2", outcome_unknown=True))
    assert make(provider, token=dead()).token().access_token == "a3"


def test_a_callback_that_hangs_does_not_stop_the_save(make: Make) -> None:
    """I7: what is in memory only is saved as soon as the store is back."""
    store, hang = Fickle(), threading.Event()
    source = TokenSource(
        Provider(), store, token=dead(), on_refresh=lambda *_: hang.wait(10), timeout=0.3
    )
    store.after_save = lambda: store.before.__setitem__("save", Down())  # the first is the token=
    source.token(timeout=10)
    assert source._place.unsaved is not None
    store.before.clear()
    store.after_save = lambda: None
    wait_until(lambda: source._place.unsaved is None)
    assert not hang.is_set()
    hang.set()


def test_a_lone_surrogate_is_left_out() -> None:
    """I7: what a store that writes UTF-8 could not keep does not cost the token."""
    token = Token.from_reply({"access_token": "a", "bad": "\ud800", "good": "\u0416"})
    assert dict(token.extra) == {"good": "\u0416"}
