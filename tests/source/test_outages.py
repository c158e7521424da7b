"""I8: a provider that is down, busy or refuses every token costs calls and time, and no login."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest
import requests
import urllib3

from requests_refresh import (
    ConfigurationError,
    InvalidReply,
    LoginRequired,
    MemoryStore,
    RefreshError,
    RefreshLoop,
    RefreshRefused,
    RefreshUnavailable,
    Token,
    TokenSource,
)

from ..adapter.support import crowd
from .conftest import Make, Provider, login


def down(retry_after: float | None = 30) -> RefreshUnavailable:
    """An outage for which the round does not try again."""
    return RefreshUnavailable("The provider is down.", retry_after=retry_after)


def fails(source: TokenSource, kind: type[RefreshError] = RefreshUnavailable) -> RefreshError:
    with pytest.raises(kind) as caught:
        source.token()
    assert type(caught.value) is kind
    return caught.value


@pytest.mark.parametrize("jitter", [0.0, 1.0])
@pytest.mark.parametrize(
    ("problem", "kind"),
    [
        (RefreshUnavailable("slow down", retry_after=1.1), RefreshUnavailable),
        (RefreshRefused("invalid_client"), RefreshRefused),
        ({"no": "token"}, InvalidReply),
        (KeyError("bug"), RefreshError),
        (ConfigurationError("a setting"), ConfigurationError),
    ],
    ids=["unavailable", "refused", "invalid", "unknown", "a setting"],
)
def test_backoff(
    problem: Any, kind: Any, jitter: float, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a failure nothing is asked for a while, longer each time, with jitter, up to 60 s."""
    monkeypatch.setattr(
        random.SystemRandom, "uniform", lambda self, low, high: low + jitter * (high - low)
    )
    provider = Provider(*[problem] * 12)
    source = make(provider)
    least = 1.1 if kind is RefreshUnavailable else 0.0
    for number in range(1, 13):
        fails(source, kind)
        assert provider.calls == number
        pause = max(least, min(60.0, 0.5 * 2.0 ** min(number, 10)) * (0.5 + 0.5 * jitter))
        make.clock.now += pause - 0.01
        fails(source, kind)
        assert provider.calls == number
        make.clock.now += 0.02
    assert source.token().access_token == "a13"
    assert make.logouts == []


def test_a_success_ends_the_backoff(make: Make) -> None:
    """After a success the backoff begins anew."""
    provider = Provider(*[RefreshRefused("x")] * 6, None, RefreshRefused("x"))
    source = make(provider)
    for _ in range(6):
        fails(source, RefreshRefused)
        make.clock.now += 60
    stale = source.token()
    with pytest.raises(RefreshRefused):
        source.renew(stale)
    make.clock.now += 1
    assert source.renew(stale).access_token == "a9"


def test_retry_after(make: Make) -> None:
    """Retry-After is told to each caller and kept: nobody asks before; the longest is an hour."""
    provider = Provider(down(90), down(1e6))
    source = make(provider)
    assert [error.retry_after for error in crowd(lambda i: source.token(), 4)] == [90] * 4
    make.clock.now += 89
    fails(source)
    assert provider.calls == 1
    make.clock.now += 1
    fails(source)
    make.clock.now += 3599
    fails(source)
    make.clock.now += 1
    assert source.token().access_token == "a3"


def test_a_failure_that_is_held_is_each_ones_own(make: Make) -> None:
    """I3: who fails at once while a failure is held back from gets an exception of his own."""
    source = make(Provider(down()))
    errors = [fails(source) for _ in range(5)]
    assert len({id(error) for error in errors}) == 5
    make.settle()
    assert source.stats.failures == 1


def test_login_ends_the_backoff(make: Make) -> None:
    """login() is used at once, and the next refresh waits for nothing."""
    provider = Provider(down(3000))
    source = make(provider)
    fails(source)
    source.login(login(name="new"))
    assert source.renew(source.token()).access_token == "a2"


def test_somebody_else_ends_the_backoff(make: Make) -> None:
    """While a failure is held back from, a token that somebody else stores is adopted."""
    store = MemoryStore()
    source = make(Provider(down(3000)), store)
    fails(source)
    store.save("default", login(name="theirs"))
    assert source.token().access_token == "atheirs"
    assert source.renew(source.token()).access_token == "a2"


def test_unavailable_while_the_token_lives(make: Make) -> None:
    """I8: an outage in a token's last part costs nobody anything, and few calls."""
    provider = Provider(down(30), down(30), expires_in=100)
    source = make(provider, token=login(100), ahead=50)
    source.token()
    waits = source.stats.waits
    make.clock.now += 55
    for _ in range(5):
        assert {token.access_token for token in crowd(lambda i: source.token(), 4)} == {"a0"}
        make.settle()
    assert (provider.calls, source.stats.waits) == (1, waits)
    make.clock.now += 35
    source.token()
    make.settle()
    assert provider.calls == 2
    make.clock.now += 20  # now it is dead, and backed off from
    fails(source)
    assert provider.calls == 2
    make.clock.now += 20
    assert source.token().access_token == "a3"


# ------------------------------------------------------------ within a round


def never_opened() -> requests.ConnectionError:
    pool: Any = None
    reason = urllib3.exceptions.ConnectTimeoutError(pool, "no")
    return requests.ConnectionError(urllib3.exceptions.MaxRetryError(pool, "/", reason))


def answer_lost() -> requests.ConnectionError:
    return requests.ConnectionError(urllib3.exceptions.ProtocolError("reset"))


RETRIES: dict[str, tuple[Callable[[], Exception], int]] = {
    "never opened": (never_opened, 4),
    "connect timeout": (requests.ConnectTimeout, 4),
    "503": (lambda: RefreshUnavailable("503"), 4),
    "a short Retry-After": (lambda: down(0.5), 4),
    "answer lost": (answer_lost, 2),
    "read timeout": (requests.ReadTimeout, 2),
    "a long Retry-After": (lambda: down(1.5), 1),
    "client refused": (lambda: RefreshRefused("x"), 1),
    "unknown": (lambda: KeyError("x"), 1),
}


@pytest.mark.parametrize(("problem", "most"), RETRIES.values(), ids=RETRIES.keys())
def test_retries(
    problem: Callable[[], Exception], most: int, make: Make, naps: list[float]
) -> None:
    """A round calls four times where nothing was sent, twice where an answer was lost."""
    provider = Provider(*(problem() for _ in range(8)))
    source = make(provider, token=login())
    stale = source.token()
    with pytest.raises(RefreshError):
        source.renew(stale)
    assert provider.calls == most
    assert {old and old.refresh_token for old in provider.given} == {"r0"}
    make.settle()
    pauses = [nap for nap in naps if nap > 0.05]
    assert len(pauses) == most - 1
    if most == 4 and 0.5 not in pauses:
        assert pauses[0] < pauses[1] < pauses[2] < 1


@pytest.mark.parametrize("problem", [never_opened, answer_lost, lambda: down(0.4)])
def test_a_retry_that_helps(problem: Any, make: Make, naps: list[float]) -> None:
    """I8: what a second call mends nobody notices; a short Retry-After is waited for."""
    source = make(Provider(problem()))
    assert source.token().access_token == "a2"
    assert source.stats.failures == 0


def test_no_time_for_a_retry(make: Make, naps: list[float]) -> None:
    """I5: a round that has no time left does not call again."""

    def slow(old: Token | None) -> None:
        make.clock.now += 9.99
        raise RefreshUnavailable("503")

    provider = Provider(slow)
    source = make(provider, timeout=10)
    fails(source)
    assert provider.calls == 1


def test_the_unknown_outcome_is_told(make: Make, naps: list[float]) -> None:
    """A refusal after a lost answer says that the refresh before may have been done."""
    provider = Provider(answer_lost(), answer_lost(), LoginRequired("over"))
    source = make(provider, token=login())
    stale = source.token()
    with pytest.raises(RefreshUnavailable) as caught:
        source.renew(stale)
    assert caught.value.outcome_unknown
    make.clock.now += 60
    with pytest.raises(LoginRequired, match=r"over .*was unknown"):
        source.renew(stale)


# ----------------------------------------------------------------- strikes


def test_strikes(make: Make, caplog: pytest.LogCaptureFixture) -> None:
    """I12: after three refusals of just-issued tokens nothing refreshes in the window."""
    provider = Provider()
    source = make(provider, token=login())
    token = source.token()
    for number in range(1, 4):
        token = source.renew(token)
        assert token.access_token == f"a{number}"
    for _ in range(5):
        with pytest.raises(RefreshLoop):
            source.renew(token)
    assert provider.calls == 3
    assert source.stats.strikes == 3
    assert source.token() is token, "it is not marked as refused"
    assert caplog.text.count("right after its issue") == 1
    make.clock.now += 30
    assert source.renew(token).access_token == "a4"


def test_login_forgets_the_strikes(make: Make) -> None:
    """A new login begins with no strikes."""
    source = make(Provider(), token=login())
    token = source.token()
    for _ in range(3):
        token = source.renew(token)
    with pytest.raises(RefreshLoop):
        source.renew(token)
    source.login(login(name="new"))
    assert source.renew(source.token()).access_token == "a4"


def test_honest_revocations(make: Make) -> None:
    """Five revocations in a minute, each of a token that had lived for a while, are no loop."""
    source = make(Provider(), token=login())
    token = source.token()
    for number in range(1, 6):
        make.clock.now += 12
        token = source.renew(token)
        assert token.access_token == f"a{number}"
    assert source.stats.strikes == 0


def test_no_limit_of_strikes(make: Make) -> None:
    """strikes=None: each refusal refreshes."""
    source = make(Provider(), strikes=None)
    token = source.token()
    for number in range(2, 12):
        token = source.renew(token)
        assert token.access_token == f"a{number}"


def test_strikes_do_not_keep_the_dead(make: Make) -> None:
    """A token that is dead by the clock is renewed, strikes or not."""
    source = make(Provider(expires_in=20), ahead=0)
    token = source.token()
    for _ in range(2):
        token = source.renew(token)
    with pytest.raises(RefreshLoop):
        source.renew(token)
    make.clock.now += 20
    assert source.token().access_token == "a4"
