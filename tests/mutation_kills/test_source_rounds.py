"""What a source does in single steps: what it hands out, counts, and waits for at its end."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

import pytest

import requests_refresh.source as source_module
from requests_refresh import RefreshError, RefreshRefused, Token, TokenSource
from requests_refresh.gate import Gate, Round
from requests_refresh.tokens import Current, Outcome

from ..source.conftest import Make, Provider, login, make

__all__ = ["make"]


def test_what_is_handed_out_near_its_end_was_not_refreshed_for_it(make: Make) -> None:
    """I12: such a request has its one refresh still before it, whether a round failed or not."""
    source = make(Provider(RefreshRefused("a setting")), token=login())
    old, now = source.token(), make.clock.now
    near = Current(old, now, now + 9.0)
    source._gate.current = near
    outcome = source._settle(now + 30.0, sure=True)
    assert (outcome.token, outcome.refreshed) == (old, False)
    source = make(Provider(), token=login())
    old = source.token()
    source._gate.current = Current(old, now, now + 9.0)
    assert source._settle(now + 30.0).refreshed is False


@pytest.mark.parametrize("over", [True, False])
def test_a_token_that_ends_while_a_surer_one_is_waited_for(
    over: bool, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """I2: one that is gone or at its end by then is not handed out: who waits asks anew."""
    source = make(Provider(), token=login())
    old, now = source.token(), make.clock.now
    source._gate.current = Current(old, now, now + 9.0)
    asked: list[Token | None] = []

    def get(stale: Token | None, *rest: object, **options: object) -> Outcome:
        asked.append(stale)
        if stale is None:
            return Outcome(Current(Token("other"), math.inf, math.inf), refreshed=True)
        source._gate.current = None if over else Current(old, now, now)
        raise RefreshError("in vain")

    monkeypatch.setattr(source._gate, "get", get)
    monkeypatch.setattr(source._gate, "start", lambda *rest, **options: True)
    assert source._settle(now + 30.0, sure=True).token.access_token == "other"
    assert asked == [old, None]


def test_a_loop_is_told_of_where_it_keeps_from_refreshing(
    make: Make, caplog: pytest.LogCaptureFixture
) -> None:
    """I12: the warning is for strikes that are used up, not for a request that had its refresh."""
    source = make(Provider(), token=login(), strikes=(1, 30.0))
    old = source.token()
    assert source._could_help(old, refreshed=False)
    assert not source._could_help(old, refreshed=True)
    assert caplog.records == []
    new = source.renew(old)
    make.settle()
    source._renew_without_waiting(new)  # a strike: the provider has just issued it
    assert (source.stats.strikes, source.stats.unreplayable) == (1, 1)
    assert not source._could_help(new, refreshed=False)
    warnings = [record for record in caplog.records if record.levelname == "WARNING"]
    assert len(warnings) == 1


def test_closing_goes_on_saving_for_what_is_left_of_its_time(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """I7: what was waited before counts; saving goes on; another close() may go on longer."""
    source = make(Provider(), timeout=7.0)
    until: list[float] = []
    monkeypatch.setattr(source._jobs, "wait", until.append)
    monkeypatch.setattr(
        source._place, "go_on_saving", lambda: until.append(source._place.give_up_at)
    )
    source._let_work_end(2.0)
    assert until == [make.clock.now + 5.0] * 2
    monkeypatch.setattr(source._place, "go_on_saving", other_closes(source))
    source.close()
    assert source._place.give_up_at == 4321.0


def other_closes(source: TokenSource) -> Callable[[], None]:
    return partial(setattr, source._place, "give_up_at", 4321.0)


def no_thread(work: Callable[[], None]) -> None:
    raise RuntimeError("no thread")


def test_work_in_the_callers_thread_is_waited_for(make: Make) -> None:
    """I7: a source is not idle while its caller works himself, nor while something is unsaved."""
    idle: list[bool] = []

    def step(old: Token | None) -> None:
        idle.append(source._idle)
        source._place.unsaved = Token("kept"), None, lambda there: False
        raise RefreshRefused("a setting")

    source = make(Provider(step), token=login())
    old = source.token()
    source._gate._spawn = source._jobs.spawn = no_thread  # type: ignore[method-assign]  # none
    assert source._idle
    with pytest.raises(RefreshRefused):  # no RuntimeError of the thread that was to save
        source.renew(old)
    assert idle == [False]
    assert source._jobs.idle
    assert not source._idle
    source._place.unsaved = None


def test_who_goes_on_saving_is_waited_for_until_he_ends(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """I7: such a thread has more time than a round."""
    source, seen = make(Provider()), list[float]()
    monkeypatch.setattr(
        source._place, "go_on_saving", lambda: seen.extend(source._jobs._until.values())
    )
    source._jobs.spawn(source._go_on_saving)
    source._jobs.wait(make.clock.now + 30.0)
    assert seen == [math.inf]


def test_a_round_that_asks_again_is_no_failure(make: Make) -> None:
    """I8: a round with neither outcome nor error is not counted; a pool hears of each."""
    source, noted = make(Provider(), token=login()), list[Gate]()
    source.begin_with((None, None), noted.append)
    source._after(Round(source._gate, None, make.clock.now + 30.0))
    assert source.stats.failures == 0
    assert noted == [source._gate]


def test_in_the_child_of_a_fork_no_lock_is_held(make: Make) -> None:
    """I14: what a thread of the parent held or ran is nothing to the child."""
    source = make(Provider(), token=login(), strikes=(1, 30.0))
    new = source.renew(source.token())
    make.settle()
    source._strikes.strike(new)
    lock = source._gate._lock
    for held in (source._lock, source._changing, source._strikes._lock):
        held.acquire()
    source._after_fork_in_child()
    assert not source._lock.locked()
    assert not source._changing.locked()
    assert source._gate._lock is not lock
    assert not source._strikes._lock.locked()
    assert source._strikes.forbid(new, alive=True) is None  # strikes are forgotten
    assert source.token().refresh_token is None  # the parent's


def test_a_source_that_was_revived_stays_the_same(make: Make) -> None:
    """I14: its own pickle leads back to it."""
    settings = make(Provider())._settings
    source = source_module._revive("some key", settings)
    assert source_module._revive("some key", settings) is source
    assert source.__reduce__()[1][0] == "some key"


def test_an_upload_that_is_refused_at_once_is_a_strike(make: Make) -> None:
    """I12: what cannot be sent again would renew for ever, though others' requests succeed."""
    source = make(Provider(), token=login())
    new = source.renew(source.token())
    make.settle()
    source._strikes.prove(new)
    source._renew_without_waiting(new)
    assert source.stats.strikes == 1
