"""Which token is handed out: fresh, near its end, dead, stored, given first."""

from __future__ import annotations

import math
import time
from typing import Any

import pytest

from requests_refresh import (
    ConfigurationError,
    LoginRequired,
    MemoryStore,
    RefreshError,
    RefreshUnavailable,
    Token,
    TokenSource,
    remaining,
)

from ..adapter.support import Crowd, crowd, wait_until
from .conftest import Fickle, Hold, Make, Provider, dead, login


class NoLock:
    """A lock that nobody may take."""

    def __enter__(self) -> None:
        raise AssertionError("The fresh path took a lock.")

    def __exit__(self, *args: object) -> None:
        raise AssertionError("The fresh path took a lock.")

    acquire = release = __enter__


def test_the_fresh_path(make: Make) -> None:
    """I15: handing out a fresh token takes no lock and touches no store."""
    store = Fickle()
    source = make(Provider(), store, token=login())
    assert source.token().access_token == "a0"
    store.calls.clear()
    parts: list[Any] = [source, source._gate, source._jobs, source._strikes]
    locks = [part._lock for part in parts]
    for part in parts:
        part._lock = NoLock()
    tokens = [source.token() for _ in range(5)]
    for part, lock in zip(parts, locks, strict=True):
        part._lock = lock
    assert {token.access_token for token in tokens} == {"a0"}
    assert store.calls == []


def test_dead_by_the_clock(make: Make) -> None:
    """I1: a token that is dead by the clock is renewed before it is handed out, once for all."""
    provider = Provider(expires_in=100)
    source = make(provider, token=login(100))
    assert source.token().access_token == "a0"
    make.clock.now += 97.9
    assert source.token().access_token == "a0"
    make.settle()
    make.clock.now += 200
    assert {token.access_token for token in crowd(lambda i: source.token(), 8)} <= {"a1", "a2"}
    assert provider.calls in {1, 2}  # one of them was ahead
    assert source.token().access_token == f"a{provider.calls}"


def test_the_stored_token_is_adopted(make: Make) -> None:
    """I1: a living token in the store is used without a call."""
    store = MemoryStore()
    store.save("default", login())
    provider = Provider()
    source = make(provider, store)
    assert source.token() == store.load("default")
    assert provider.calls == 0
    assert make.refreshed == []


def test_a_newer_stored_token_is_adopted(make: Make) -> None:
    """I1: what another source has obtained is adopted in place of refreshing."""
    store = MemoryStore()
    provider = Provider()
    source = make(provider, store, token=login(100))
    stale = source.token()
    store.save("default", login(name="theirs"))
    assert source.renew(stale).access_token == "atheirs"
    assert source.renew(stale).access_token == "atheirs"
    assert provider.calls == 0
    assert source.stats.adoptions == 2


def test_a_dead_stored_token_is_refreshed_from(make: Make) -> None:
    """A stored token that is dead by the clock is what the grant gets."""
    store = MemoryStore()
    store.save("default", dead("9"))
    provider = Provider()
    assert make(provider, store).token().access_token == "a1"
    assert [old and old.refresh_token for old in provider.given] == ["r9"]


@pytest.mark.parametrize(
    ("first", "access"),
    [
        (login(), "a0"),
        ("plain", "plain"),
        ({"access_token": "x", "refresh_token": "y", "expires_in": "60"}, "x"),
        (Token(refresh_token="only"), "a1"),
    ],
    ids=["Token", "str", "reply", "a refresh token only"],
)
def test_a_first_token(first: Any, access: str, make: Make) -> None:
    """I6: `token=` is saved at the first use and not before, and handed out if it lives."""
    store = MemoryStore()
    source = make(Provider(), store, token=first)
    assert store.load("default") is None
    assert source.token().access_token == access
    stored = store.load("default")
    assert stored is not None
    assert stored.access_token == access


def test_a_first_token_yields_to_the_stored(make: Make) -> None:
    """I7: `token=` is not saved over what the store holds: the script's .env is older than it."""
    store = MemoryStore()
    store.save("default", login(name="stored"))
    source = make(Provider(), store, token=login(name="first"))
    assert source.token().access_token == "astored"
    source.logout()
    with pytest.raises(LoginRequired):
        source.token()
    assert store.load("default") is None


def test_a_first_token_that_loses_a_race(make: Make) -> None:
    """I7: where another saves between the look and the save, the other one's counts."""
    store = Fickle()
    source = make(Provider(), store, token=login(name="first"))

    def other() -> None:
        store.before.clear()
        MemoryStore.save(store, "default", login(name="other"))

    store.before["save"] = other
    assert source.token().access_token == "aother"


DEFAULTS = {  # life: (earliest, latest, dead), seconds before the end
    10.0: (1.0, 4 / 3, 0.2),
    100.0: (10.0, 40 / 3, 2.0),
    3600.0: (300.0, 400.0, 5.0),
    86400.0: (300.0, 400.0, 5.0),
}


@pytest.mark.parametrize("life", DEFAULTS)
def test_the_defaults(life: float, make: Make) -> None:
    """Ahead is a tenth, at most 300 s and up to a third earlier; leeway 2 %, at most 5 s."""
    shortest, longest, leeway = DEFAULTS[life]
    ahead = set()
    for _ in range(20):
        source = make(Provider(expires_in=life))
        source.token()
        current = source._gate.current
        assert current is not None
        end = make.clock.now + life
        assert current.dead_at == pytest.approx(end - leeway)
        assert shortest - 1e-6 <= end - current.ahead_at <= min(longest, life / 2) + 1e-6
        ahead.add(current.ahead_at)
    assert len(ahead) > 1, "without jitter a fleet refreshes at once"


@pytest.mark.parametrize(
    ("ahead", "leeway", "expected"),
    [(20, 3, (20, 3)), (90, 1, (50, 1)), (0, 0, (0, 0)), (1, 10, (10, 10)), (1e9, 0, (50, 0))],
)
def test_explicit_values(
    ahead: float, leeway: float, expected: tuple[float, float], make: Make
) -> None:
    """Explicit ahead and leeway hold as they are; ahead is never over half the life."""
    source = make(Provider(expires_in=100), ahead=ahead, leeway=leeway)
    source.token()
    current = source._gate.current
    assert current is not None
    end = make.clock.now + 100
    assert (end - current.ahead_at, end - current.dead_at) == pytest.approx(expected)


def test_ahead_grows_with_a_slow_provider(make: Make) -> None:
    """Ahead is at least four times what the last refresh took, and at most half the life."""

    def slow(old: Token | None) -> None:
        make.clock.now += 7

    source = make(Provider(slow, expires_in=100))
    source.token()
    current = source._gate.current
    assert current is not None
    left = make.clock.now - 7 + 100 - current.ahead_at  # its life began when it was asked for
    assert 28 <= left <= 28 * 4 / 3 + 1e-6


def test_in_the_background_nobody_waits(make: Make) -> None:
    """In its last part a token is handed out at once, and one round renews it meanwhile."""
    hold = Hold()
    provider = Provider(hold, expires_in=100)
    source = make(provider, token=login(100), ahead=20)
    source.token()
    waits = source.stats.waits
    make.clock.now += 85
    assert {token.access_token for token in crowd(lambda i: source.token(), 8)} == {"a0"}
    hold.wait()
    assert source.token().access_token == "a0"
    assert source.stats.waits == waits
    hold.release.set()
    make.settle()
    assert source.token().access_token == "a1"
    assert provider.calls == 1


def test_not_in_the_background_one_waits(make: Make) -> None:
    """background=False: the first caller in the last part refreshes, the others go on."""
    hold = Hold()
    source = make(Provider(hold, expires_in=100), token=login(100), ahead=20, background=False)
    source.token()
    make.clock.now += 85
    first = Crowd(lambda i: source.token(), 1)
    hold.wait()
    assert {token.access_token for token in crowd(lambda i: source.token(), 4)} == {"a0"}
    hold.release.set()
    assert [token.access_token for token in first.join()] == ["a1"]


def test_not_in_the_background_a_failure_is_not_noticed(make: Make) -> None:
    """I8: background=False: a provider that is down costs the first caller nothing either."""
    provider = Provider(RefreshUnavailable("down", retry_after=9), expires_in=100)
    source = make(provider, token=login(100), ahead=20, background=False)
    source.token()
    make.clock.now += 85
    assert source.token().access_token == "a0"
    assert source.token().access_token == "a0"
    assert provider.calls == 1


@pytest.mark.parametrize("hours", [-6, 6])
def test_the_wall_clock_moves(hours: int, make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """A token's life is counted by the monotonic clock, wherever the wall clock is set."""
    provider = Provider(expires_in=100)
    source = make(provider)
    source.token()
    really = time.time
    monkeypatch.setattr(time, "time", lambda: really() + hours * 3600)
    assert source.token().access_token == "a1"
    make.clock.now += 99
    assert source.token().access_token == "a2"
    assert source.token().access_token == "a2"
    assert provider.calls == 2


def test_a_store_of_another_clock(make: Make) -> None:
    """A stored token from a clock that is ahead lives as long as it said, and no longer."""
    now = time.time() + 6 * 3600
    store = MemoryStore()
    store.save("default", Token("a", refresh_token="r", issued_at=now, expires_at=now + 100))
    source = make(Provider(), store)
    assert source.token().access_token == "a"
    make.clock.now += 99
    assert source.token().access_token == "a1"


def test_a_life_of_nothing(make: Make) -> None:
    """I3: with `expires_in` 0 everybody gets the token that his round obtained."""
    hold = Hold()
    provider = Provider(hold, expires_in=0)
    source = make(provider)
    waiting = Crowd(lambda i: source.token(), 8)
    hold.wait()
    wait_until(lambda: source.stats.waits == 8)
    hold.release.set()
    assert {token.access_token for token in waiting.join()} == {"a1"}
    assert provider.calls == 1


def test_the_very_same_token_comes_back(make: Make) -> None:
    """A provider that answers with the token it had issued has renewed it; nobody hangs."""
    source = make(Provider({"access_token": "a0", "refresh_token": "r0"}), token=login())
    assert source.renew(source.token()).access_token == "a0"
    assert source.token().access_token == "a0"
    assert source.renew(source.token()).access_token == "a2"


BAD: dict[str, dict[str, Any]] = {
    "grant": {"grant": None},
    "a grant that is a text": {"grant": "https://x.example/"},
    "an empty identity": {"identity": ""},
    "identity": {"identity": 5},
    "ahead": {"ahead": -1},
    "ahead in words": {"ahead": "a minute"},
    "ahead is true": {"ahead": True},
    "leeway": {"leeway": math.nan},
    "endless leeway": {"leeway": math.inf},
    "no timeout": {"timeout": 0},
    "timeout None": {"timeout": None},
    "a negative timeout": {"timeout": -1},
    "an endless timeout": {"timeout": math.inf},
    "strikes": {"strikes": 3},
    "strikes of one": {"strikes": (3,)},
    "strikes of three": {"strikes": (3, 30, 1)},
    "no strikes": {"strikes": (0, 30)},
    "strikes in parts": {"strikes": (1.5, 30)},
    "a negative window": {"strikes": (3, -1)},
    "background": {"background": "yes"},
    "relogin": {"relogin": 5},
    "on_refresh": {"on_refresh": 5},
    "on_logout": {"on_logout": "x"},
    "store": {"store": object()},
    "a store URL": {"store": "nosuch://place"},
    "an empty token": {"token": Token()},
}


@pytest.mark.parametrize("options", BAD.values(), ids=BAD.keys())
def test_bad_settings(options: dict[str, Any]) -> None:
    """A setting that cannot be right is a ConfigurationError, and a ValueError, at once."""
    with pytest.raises(ConfigurationError) as caught:
        TokenSource(**{"grant": Provider(), **options})
    assert isinstance(caught.value, ValueError)


@pytest.mark.parametrize("token", ["", "a\r\nb", {"error": "x"}, 5, b"bytes"])
def test_bad_first_tokens(token: Any) -> None:
    """A first token that is none is a clear error at construction."""
    with pytest.raises(RefreshError):
        TokenSource(Provider(), token=token)


def test_bad_arguments(make: Make) -> None:
    """Calls that cannot be right are errors at once, and nothing has changed."""
    provider = Provider()
    source = make(provider, token=login())
    with pytest.raises(ConfigurationError):
        source.renew("a0")  # type: ignore[arg-type]  # is refused
    with pytest.raises(ConfigurationError):
        source.renew(login(), timeout=-1)
    with pytest.raises(RefreshError):
        source.login({"refresh_token": "r"})
    assert source.token().access_token == "a0"
    assert provider.calls == 0


def test_remaining(make: Make) -> None:
    """I5: a grant is told what is left of its round; outside of a round there is no end."""
    left: list[float] = []

    def look(old: Token | None) -> None:
        wait_until(lambda: source.stats.waits == 1)
        left.append(remaining())
        make.clock.now += 7
        left.append(remaining())
        make.clock.now += 70
        left.append(remaining())

    source = make(Provider(look), timeout=20)
    source.token(timeout=1000)
    assert left == [20, 13, 0]
    assert remaining() == math.inf


def test_stats(make: Make) -> None:
    """What a source has done is counted, and the counts do not change in the reader's hands."""
    source = make(Provider(None, RefreshUnavailable("down", retry_after=5)), token=login())
    source.renew(source.token())
    before = source.stats
    assert (before.refreshes, before.failures, before.waits) == (1, 0, 2)
    with pytest.raises(RefreshUnavailable):
        source.renew(source.token())
    make.settle()
    assert (source.stats.failures, source.stats.refreshes) == (1, 1)
    assert (before.failures, before.strikes, before.replays, before.unreplayable) == (0, 0, 0, 0)
    with pytest.raises(AttributeError):
        before.failures = 5  # type: ignore[misc]  # is refused
