"""A test of the tests: each fault that is put into a source here is found by a schedule."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from typing import Any

import pytest

from requests_refresh.asking import Asking
from requests_refresh.errors import LoginRequired, RefreshError, RefreshRefused, StoreConflict
from requests_refresh.gate import Gate, Round
from requests_refresh.renewal import Renewal
from requests_refresh.source import TokenSource
from requests_refresh.stores import ANY
from requests_refresh.stores.saving import Holding, Place
from requests_refresh.strikes import Strikes
from requests_refresh.tokens import Outcome, Past, Token

from . import source_changes as changes
from . import source_scenarios as the
from .pieces import Rules
from .scheduler import Found
from .source_runs import explore
from .source_world import Scenario

Fault = Callable[[pytest.MonkeyPatch], None]


def renews_what_is_fresh_by_now(patch: pytest.MonkeyPatch) -> None:
    """Who looked once and found nothing takes what he finds then for near its end."""
    settle = TokenSource._settle

    def twice(self: TokenSource, deadline: float, *, sure: bool = False) -> Outcome:
        current = self._gate.current
        if current is not None and self._clock() < current.ahead_at:
            self._gate.start(current.token, self._limit(), refused=False)
        return settle(self, deadline, sure=sure)

    patch.setattr(TokenSource, "_settle", twice)


def adopts_anything(patch: pytest.MonkeyPatch) -> None:
    def adopted(self: Renewal, stored: Token | None, round_: Round) -> Outcome | None:
        current = stored and self._lifetimes.current(stored)
        alive = current and self.gate.clock() < current.dead_at
        return Outcome(current, refreshed=False) if current and alive else None

    patch.setattr(Renewal, "_adopted", adopted)


def looks_into_no_store(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Renewal, "_adopted", lambda self, stored, round_: None)


def publishes_before_it_saves(patch: pytest.MonkeyPatch) -> None:
    keep = Renewal._keep

    def early(self: Renewal, issued: Token, sent: float, *rest: Any) -> Outcome | None:
        self.gate.publish(rest[-1], Outcome(self._lifetimes.current(issued, sent), refreshed=True))
        return keep(self, issued, sent, *rest)

    patch.setattr(Renewal, "_keep", early)


def leaves_after_exceptions_only(patch: pytest.MonkeyPatch) -> None:
    """`exclusive` is not left where a BaseException passes."""
    leave = Holding.leave

    def left(self: Holding, identity: str) -> None:
        passing = sys.exc_info()[1]
        if passing is None or isinstance(passing, Exception):
            leave(self, identity)

    patch.setattr(Holding, "leave", left)


def restarts_the_deadline(patch: pytest.MonkeyPatch) -> None:
    renew = TokenSource._renew

    def again(self: TokenSource, stale: Token, deadline: float, **options: Any) -> Outcome:
        return renew(self, stale, self._deadline(None), **options)

    patch.setattr(TokenSource, "_renew", again)


def tries_again_what_failed(patch: pytest.MonkeyPatch) -> None:
    renew = Renewal._renew

    def twice(self: Renewal, round_: Round) -> Outcome | None:
        try:
            return renew(self, round_)
        except RefreshRefused:
            return renew(self, round_)

    patch.setattr(Renewal, "_renew", twice)


def backs_off_from_nothing(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Asking, "hold_back", lambda self, error, round_: 0.0)


def swaps_without_comparing(patch: pytest.MonkeyPatch) -> None:
    def swap(self: Place, token: Token, replacing: Any) -> Token | None:
        self.save(token, replacing=ANY)
        return token

    patch.setattr(Place, "_swap", swap)


def saves_where_nothing_is_left(patch: pytest.MonkeyPatch) -> None:
    """A save that comes after a logout is made all the same."""
    swap = Place._swap

    def anyway(self: Place, token: Token, replacing: Any) -> Token | None:
        there = swap(self, token, replacing)
        return swap(self, token, None) if there is None else there

    patch.setattr(Place, "_swap", anyway)


def forgets_what_went(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Past, "has", lambda self, token: False)
    patch.setattr(Past, "has_replaced", lambda self, token: False)


def calls_back_before_it_publishes(patch: pytest.MonkeyPatch) -> None:
    finish = Gate._finish

    def late(self: Gate, round_: Round, outcome: Any, error: RefreshError | None) -> bool:
        done = round_.done
        if not done:
            round_.outcome, round_.error = outcome, error
            self._after(round_)
        finished = finish(self, round_, outcome, error)
        return finished and done

    patch.setattr(Gate, "_finish", late)


def calls_back_under_a_lock(patch: pytest.MonkeyPatch) -> None:
    call_back = TokenSource._call_back

    def locked(self: TokenSource, *args: Any) -> None:
        with self._gate._lock:
            call_back(self, *args)

    patch.setattr(TokenSource, "_call_back", locked)


def saves_under_a_lock(patch: pytest.MonkeyPatch) -> None:
    save = Place.save

    def locked(self: Place, *args: Any, **options: Any) -> None:
        with self.gate_lock:  # type: ignore[attr-defined]  # put there below
            save(self, *args, **options)

    def serve(self: Renewal, gate: Gate) -> None:
        self.gate = self._asking.gate = gate
        self.place.gate_lock = gate._lock  # type: ignore[attr-defined]  # of this fault alone

    patch.setattr(Place, "save", locked)
    patch.setattr(Renewal, "serve", serve)


def goes_on_saving_nothing(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(TokenSource, "_go_on_saving", lambda self: None)
    patch.setattr(Place, "save_unsaved", lambda self: None)


def forgets_what_it_could_not_save(patch: pytest.MonkeyPatch) -> None:
    keep = Place.keep

    def forgetful(self: Place, *args: Any, **options: Any) -> bool:
        try:
            return keep(self, *args, **options)
        finally:
            self.unsaved = None

    patch.setattr(Place, "keep", forgetful)


def excludes_nobody(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Place, "enter_exclusive", lambda self, holding, timeout: True)


def looks_but_once(patch: pytest.MonkeyPatch) -> None:
    """The store is read before `exclusive` is entered, and not after."""
    renew = Renewal._renew

    def once(self: Renewal, round_: Round) -> Outcome | None:
        stored = self.place.load()
        patch.setattr(self.place, "load", lambda: stored)
        try:
            return renew(self, round_)
        finally:
            patch.delattr(self.place, "load")

    patch.setattr(Renewal, "_renew", once)


def hands_out_one_error(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(RefreshError, "own_copy", lambda self: self)


def takes_an_outage_for_the_end(patch: pytest.MonkeyPatch) -> None:
    ask = Renewal._ask

    def over(self: Renewal, *args: Any) -> tuple[Token, float]:
        try:
            return ask(self, *args)
        except RefreshError:
            raise LoginRequired("over") from None

    patch.setattr(Renewal, "_ask", over)


def counts_no_strikes(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Strikes, "forbid", lambda self, stale, alive: None)


def closes_at_once(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(TokenSource, "close", lambda self: None)


def takes_a_conflict_for_a_failure(patch: pytest.MonkeyPatch) -> None:
    """Somebody else's token was there at the save, and is overwritten."""
    swap = Place._swap

    def insists(self: Place, token: Token, replacing: Any) -> Token | None:
        try:
            self.save(token, replacing=replacing)
        except StoreConflict:
            there = self.load()
            return None if there is None else swap(self, token, there)
        return token

    patch.setattr(Place, "_swap", insists)


def a_logout_lets_rounds_go_on(patch: pytest.MonkeyPatch) -> None:
    """A login or logout takes the place of no round."""

    def beside(self: Gate, change: Any, error: RefreshError | None) -> None:
        current = change()
        with self._lock:
            self._use_locked(current)
            self.held, self.trouble = (math.inf, error) if error else None, None

    patch.setattr(Gate, "replace", beside)


FAULTS: list[tuple[Fault, Scenario, str]] = [
    (renews_what_is_fresh_by_now, the.first_looks, "I2"),
    (renews_what_is_fresh_by_now, the.only_tokens, "I2"),
    (adopts_anything, the.two_refusals, "a0|calls|401"),
    (looks_into_no_store, changes.sibling, "I2|I1"),
    (publishes_before_it_saves, the.only_tokens, "I6"),
    (leaves_after_exceptions_only, changes.save_is_interrupted, "held|holds|later|StoreError|a1"),
    (restarts_the_deadline, the.impatient, "goes to sleep until"),
    (tries_again_what_failed, the.refused, "I1"),
    (backs_off_from_nothing, the.refused, "I1"),
    (swaps_without_comparing, changes.sibling_saves, "I7: rL"),
    (swaps_without_comparing, changes.logout, "came back"),
    (saves_where_nothing_is_left, changes.logged_out_elsewhere, "came back"),
    (saves_where_nothing_is_left, changes.logout, "came back"),
    (forgets_what_went, changes.an_old_one_comes_back, "I1: r0"),
    (calls_back_before_it_publishes, the.two_refusals, "before its outcome"),
    (calls_back_before_it_publishes, the.callback_takes_long, "before its outcome"),
    (calls_back_under_a_lock, the.two_refusals, "I4"),
    (saves_under_a_lock, the.two_refusals, "I4"),
    (goes_on_saving_nothing, changes.save_fails_for_long, "I7"),
    (forgets_what_it_could_not_save, changes.save_fails_for_long, "I7"),
    (excludes_nobody, changes.sibling, "I1: r0"),
    (looks_but_once, changes.sibling, "I1: r0"),
    (hands_out_one_error, the.refused, "shared"),
    (takes_an_outage_for_the_end, the.unavailable, "I8|I7|LoginRequired|calls"),
    (counts_no_strikes, the.strikes, "I12"),
    (closes_at_once, changes.close_in_the_middle, "left it unsaved"),
    (takes_a_conflict_for_a_failure, changes.sibling_saves, "I7: rL"),
    (a_logout_lets_rounds_go_on, changes.login, "I2|late result|I8"),
]


@pytest.mark.parametrize(
    ("fault", "scenario", "how"),
    FAULTS,
    ids=[f"{fault.__name__}-{getattr(the_one, '__name__', '')}" for fault, the_one, _ in FAULTS],
)
def test_the_fault_is_found(fault: Fault, scenario: Scenario, how: str) -> None:
    """A source with this fault breaks a rule in a schedule of two preemptions or fewer."""
    with pytest.raises(Found, match=how):
        explore(scenario, Rules(2), fault=fault)
