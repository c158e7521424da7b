"""Trouble with a provider, and at the same time something else: logins, forks, strikes, races."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from requests_refresh import (
    FileStore,
    LoginRequired,
    RefreshError,
    RefreshLoop,
    RefreshRefused,
    RefreshTimeout,
    RefreshUnavailable,
    TokenSource,
)
from requests_refresh.gate import Round

from ..adapter.support import Crowd, crowd, wait_until
from .conftest import Fickle, Hold, Make, Provider, dead, login
from .trouble import ask_sure, busy, in_trouble, lost, near_its_end, nudge


@pytest.fixture
def held(make: Make) -> Iterator[Hold]:
    """A call of the provider's that hangs until it is released, at last before `make` ends."""
    hold = Hold()
    yield hold
    hold.release.set()


def waits_for_it(source: TokenSource, count: int) -> None:
    """Block until so many wait for the round that runs."""

    def there() -> bool:
        round_ = source._gate._round
        return round_ is not None and round_.waiters == count

    wait_until(there)


def test_login_in_trouble(make: Make, held: Hold) -> None:
    """login() serves who waits, and its rounds know nothing of the trouble of the one before."""
    again = Hold()
    source, provider = in_trouble(make, held, again)
    waiting = Crowd(lambda i: source.token().access_token, 4)
    waits_for_it(source, 4)
    held.wait()
    source.login(login(name="new"))
    assert waiting.join() == ["anew"] * 4
    held.release.set()  # what the detached round gets is nobody's
    make.settle()
    stale = source.token()
    assert stale.access_token == "anew"
    waiting = Crowd(lambda i: source.renew(stale).access_token, 4)
    again.wait()
    waits_for_it(source, 4)
    make.clock.now += 5
    nudge(source)
    waits_for_it(source, 4)
    again.release.set()
    assert waiting.join() == ["a3"] * 4
    assert [old and old.refresh_token for old in provider.given] == ["r0", "r0", "rnew"]


def test_the_trouble_of_a_detached_round_is_nobodys(
    make: Make, held: Hold, naps: list[float]
) -> None:
    """I3: a call that fails, slowly, after login() releases nobody who waits for the new round."""
    old = Hold(lost())
    provider = Provider(old, held)
    source = make(provider, token=login(), timeout=60)
    stale = source.token()
    early = Crowd(lambda i: source.renew(stale).access_token, 2)
    old.wait()
    waits_for_it(source, 2)
    detached = source._gate._round
    assert isinstance(detached, Round)
    source.login(dead("new"))
    waits_for_it(source, 2)  # they ask again; `exclusive` is still the detached one's
    make.clock.now += 5
    old.release.set()
    held.wait()
    assert detached.trouble is not None
    nudge(source)
    waits_for_it(source, 2)
    held.release.set()
    results = early.join()
    assert not any(isinstance(result, BaseException) for result in results), results


def test_logout_in_trouble(make: Make, held: Hold) -> None:
    """After logout() in trouble all get LoginRequired, who waits too; a late answer is no login."""
    source, provider = in_trouble(make, held)
    waiting = Crowd(lambda i: source.token(), 4)
    waits_for_it(source, 4)
    held.wait()
    source.logout()
    assert [type(error) for error in waiting.join()] == [LoginRequired] * 4
    held.release.set()
    make.settle()
    assert [type(error) for error in crowd(lambda i: source.token(), 4)] == [LoginRequired] * 4
    assert provider.calls == 2
    assert source._place.load() is None


def test_fork_in_trouble(make: Make, held: Hold, tmp_path: Path) -> None:
    """I14: the child of a fork waits for no round of its parent's, knows the trouble, goes on."""
    source, provider = in_trouble(make, held, store=FileStore(tmp_path / "tokens.json"))
    waiting = Crowd(lambda i: source.token(), 2)
    waits_for_it(source, 2)
    held.wait()
    read, write = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # that there are threads is the point
        pid = os.fork()
    if pid == 0:
        try:  # the parent holds `exclusive`
            child = Crowd(lambda i: source.token(), 2)
            waits_for_it(source, 2)
            make.clock.now += 1.5
            nudge(source)
            names = [type(error).__name__ for error in child.join()]
            os.write(write, repr(names).encode())
        finally:
            os._exit(0)
    os.close(write)
    with os.fdopen(read, "rb") as answers:
        assert answers.read() == b"['RefreshUnavailable', 'RefreshUnavailable']"
    os.waitpid(pid, 0)
    held.release.set()
    assert [token.access_token for token in waiting.join()] == ["a2"] * 2
    assert provider.calls == 2


def test_strikes_after_trouble(make: Make) -> None:
    """I12: a failed call is no strike; a token issued after it that is refused is one, as ever."""
    source, provider = in_trouble(make, strikes=(1, 600.0))
    token = source.token()
    assert source.stats.strikes == 0
    waits = source.stats.waits
    with pytest.raises(RefreshLoop):
        source.renew(token)
    assert (provider.calls, source.stats.waits, source.stats.strikes) == (2, waits, 1)


def test_trouble_told_too_late(make: Make) -> None:
    """I3: trouble that is told of a round that is over changes nothing for those after it."""
    source = make(Provider(), token=login())
    rounds: list[Round] = []
    work = source._gate._work

    def noting(round_: Round) -> Any:
        rounds.append(round_)
        return work(round_)

    source._gate._work = noting
    token = source.renew(source.token())
    source._gate.tell_trouble(rounds[0], RefreshUnavailable("old"), slow=True)
    source._gate.tell_trouble(rounds[-1], RefreshUnavailable("old"), slow=True)
    assert (source._gate.trouble, source._gate.held) == (None, None)
    assert source.token() is token
    assert source.renew(token).access_token == "a2"
    assert source.stats.failures == 0


def test_the_deadline_in_a_round_without_trouble(make: Make, held: Hold) -> None:
    """token(timeout=...) ends as RefreshTimeout where no call has failed; the round goes on."""
    source = make(Provider(held), token=dead())
    with pytest.raises(RefreshTimeout):
        source.token(timeout=0)
    held.wait()
    held.release.set()
    assert source.token().access_token == "a1"


@pytest.mark.parametrize("within", [True, False], ids=["its own", "the one before's"])
def test_trouble_that_another_failure_followed_is_not_told(
    within: bool, make: Make, held: Hold, naps: list[float]
) -> None:
    """The last word was that a setting is wrong: nobody is told of an outage from before that."""
    refused = RefreshRefused("invalid_client")
    if within:
        source = make(Provider(busy(), refused, held), token=dead())
    else:
        source, _ = in_trouble(make, refused, held)
    with pytest.raises(RefreshRefused):
        source.token()
    make.clock.now += 60
    waiting = Crowd(lambda i: source.token().access_token, 1)
    waits_for_it(source, 1)
    held.wait()
    make.clock.now += 2
    nudge(source)
    held.release.set()
    result = waiting.join()
    assert result == ["a3"], result


# ------------------------------------------------------------------ found


@pytest.mark.parametrize("inherited", [True, False], ids=["the last round's", "a fast one"])
def test_the_callers_own_deadline_is_a_timeout(
    inherited: bool, make: Make, held: Hold, naps: list[float]
) -> None:
    """I5: RefreshTimeout where the caller's own deadline passed first, with trouble or not."""
    if inherited:
        source, _ = in_trouble(make, held)
    else:
        source = make(Provider(busy(), held), token=dead())
    waiting = Crowd(lambda i: source.token(timeout=0.5), 1)
    waits_for_it(source, 1)
    held.wait()
    make.clock.now += 0.5  # the round has twice that to show that the provider is back
    nudge(source)
    assert [type(error) for error in waiting.join()] == [RefreshTimeout]


def test_a_token_that_died_while_it_was_waited_is_not_handed_out(make: Make, held: Hold) -> None:
    """token() never returns a dead token: whose token dies in his wait waits as the others do."""
    source = make(Provider(held), token=login(10), ahead=5, leeway=0, background=False)
    source.token()
    make.clock.now += 9.5
    waits = source.stats.waits
    waiting = Crowd(lambda i: source.token().access_token, 1)
    wait_until(lambda: source.stats.waits == waits + 1)
    held.wait()
    make.clock.now += 1  # its patience, and more than the token has
    nudge(source)
    held.release.set()
    assert waiting.join() == ["a1"]


def test_a_token_that_was_refused_meanwhile_is_not_sent(
    make: Make, held: Hold, naps: list[float]
) -> None:
    """I11: who waits for a surer token with a one-shot body never gets a refused one."""
    first = Hold(busy())
    source = near_its_end(make, Provider(first, held))
    uploading = Crowd(lambda i: ask_sure(source), 1)
    first.wait()
    waits_for_it(source, 1)
    stale = source.token()
    refused = Crowd(lambda i: source.renew(stale).access_token, 1)
    waits_for_it(source, 2)
    first.release.set()
    held.wait()  # the second try, which works
    nudge(source)
    held.release.set()
    assert refused.join() == ["a2"]
    assert uploading.join() == ["a2"]


def test_nobody_queues_for_a_place_that_others_leave_too_late(make: Make, held: Hold) -> None:
    """Where a fleet takes turns at a dead provider, only the first of ours wait that long."""
    store = Fickle()
    source = make(Provider(), store, token=dead(), timeout=30)

    def late() -> None:
        make.clock.now += 25  # so long did another hold it; then it is ours, for 5 s more

    store.before["exclusive"] = late
    with pytest.raises(RefreshError):
        source.token()
    before = source.stats.wait_seconds
    store.before["exclusive"] = lambda: held(None)
    waiting = Crowd(lambda i: source.token(), 1)
    held.wait()
    make.clock.now += 2
    nudge(source)
    held.release.set()
    assert isinstance(waiting.join()[0], RefreshError)
    assert source.stats.wait_seconds - before <= 2
