"""What may happen to a whole source. Each sets up a run and returns the check for its end."""

from __future__ import annotations

from collections.abc import Callable

from requests_refresh.errors import (
    LoginRequired,
    RefreshError,
    RefreshRefused,
    RefreshUnavailable,
)
from requests_refresh.source import TokenSource

from .scheduler import Run
from .source_pieces import peek
from .source_world import LIFE, Check, Scenario, SourceWorld

BEGIN = 1000.0  # of each run


def _raises(kind: type[RefreshError], first: int = 1, last: int = 10**9) -> Callable[[int], None]:
    def fail(number: int) -> None:
        if first <= number <= last:
            raise kind("seeded")

    return fail


# ------------------------------------------------------------------ expiries


def two_refusals(run: Run, *, names: str = "abc") -> Check:
    world = SourceWorld(run)
    world.refused_since = [BEGIN, BEGIN + 50.0]
    world.requests(*names, times=2, gap=50.0)

    def check() -> None:
        world.check(2)
        assert world.found() == ["a1", "a2"] * len(names), world.found()
        assert world.refreshed == ["a1", "a2"], f"callbacks: {world.refreshed}"
        assert run.now == BEGIN + 50.0, "somebody slept until a timeout"

    return check


def two_ends(run: Run, *, names: str = "abc", warm: bool = True) -> Check:
    """By the clock. Its first token is over; cold: nobody has looked at the store yet."""
    world = SourceWorld(run, life=LIFE, used=LIFE, warm=warm)
    world.requests(*names, times=2, gap=LIFE)

    def check() -> None:
        world.check(2)
        assert world.found() == ["a1", "a2"] * len(names), world.found()

    return check


def two_ends_of_an_unread_one(run: Run) -> Check:
    return two_ends(run, names="ab", warm=False)


def an_end_and_a_refusal(run: Run, *, names: str = "abc", warm: bool = True) -> Check:
    world = SourceWorld(run, life=LIFE, used=LIFE, warm=warm)
    world.refused_since = [BEGIN + 50.0]
    world.requests(*names, times=2, gap=50.0)

    def check() -> None:
        world.check(2)
        assert world.found() == ["a1", "a2"] * len(names), world.found()

    return check


def first_looks(run: Run, *, names: str = "abc", warm: bool = False) -> Check:
    """The stored token lives: nothing is to be renewed."""
    world = SourceWorld(run, life=LIFE, warm=warm)
    world.tokens(*names)

    def check() -> None:
        world.check(0)
        assert set(world.found()) == {"a0"}, world.found()

    return check


def only_tokens(run: Run) -> Check:
    """The stored token is over: who looks twice finds what another renewed in between."""
    world = SourceWorld(run, life=LIFE, used=LIFE, warm=False)
    world.tokens("a", "b", "c")

    def check() -> None:
        world.check(1)
        assert set(world.found()) == {"a1"}, world.found()

    return check


# ------------------------------------------------------------------ failures


def _failing(
    run: Run, kind: type[RefreshError], calls: int, *, logouts: int = 0, first: int = 1
) -> Check:
    world = SourceWorld(run)
    world.refused_since = [BEGIN]
    world.provider.fails = _raises(kind, first)
    world.requests("a", "b", "c")

    def check() -> None:
        over = kind is LoginRequired
        world.check(calls, logouts=logouts, over=over)
        assert world.found() == [kind.__name__] * 3, world.found()
        assert (peek(world.source._gate, "current") is None) == over

    return check


def unavailable(run: Run) -> Check:
    return _failing(run, RefreshUnavailable, 4)


def refused(run: Run) -> Check:
    return _failing(run, RefreshRefused, 1)


def invalid_grant(run: Run) -> Check:
    return _failing(run, LoginRequired, 1, logouts=1)


def back_after_an_outage(run: Run) -> Check:
    """The provider fails; later it is back. Who comes while it is backed off from makes no call."""
    world = SourceWorld(run)
    world.refused_since = [BEGIN]
    world.provider.fails = _raises(RefreshRefused, 1, 1)
    world.requests("a", "b", times=2, gap=0.25)
    world.requests("late", after=5.0)

    def check() -> None:
        world.check(2)
        assert world.found("a", "b") == ["RefreshRefused"] * 4, world.found()
        assert world.found("late") == ["a1" if world.provider.calls == 1 else "a2"]

    return check


def no_thread(run: Run) -> Check:
    world = SourceWorld(run)
    world.no_threads = True
    world.refused_since = [BEGIN]
    world.requests("a", "b", "c")

    def check() -> None:
        world.check(1)
        assert world.found() == ["a1"] * 3, world.found()

    return check


def impatient(run: Run) -> Check:
    world = SourceWorld(run)
    world.refused_since = [BEGIN]
    world.provider.takes[1] = 5.0
    world.requests("gives up", patience=2.0)
    world.requests("a", "b")

    def check() -> None:
        world.check(1)
        assert world.found("gives up") == ["RefreshTimeout"], world.found()
        assert world.found("a", "b") == ["a1", "a1"], world.found()
        assert world.ends["gives up"][0].at == BEGIN + 2.0

    return check


def deadline(run: Run) -> Check:
    """The provider takes longer than anybody waits; what it issues counts all the same."""
    world = SourceWorld(run)
    world.refused_since = [BEGIN]
    world.provider.takes[1] = 40.0
    world.requests("a", "b", times=2, gap=20.0)

    def check() -> None:
        world.check(1)
        for name in ("a", "b"):
            first, second = world.ends[name]
            assert (type(first.error).__name__, second.token) == ("RefreshTimeout", "a1"), name
            assert first.at == first.deadline

    return check


# ------------------------------------------------------------- the last part


def ahead_beside_a_refusal(run: Run, *, background: bool = True) -> Check:
    """The token is in its last part, and the API refuses it besides."""
    world = SourceWorld(run, life=LIFE, used=91.0, background=background)
    world.tokens("a", "b")
    world.refused_since = [BEGIN]
    world.requests("refused")

    def check() -> None:
        world.check(1)
        assert world.found("refused") == ["a1"], world.found()
        assert set(world.found("a", "b")) <= {"a0", "a1"}, world.found()

    return check


def in_the_foreground(run: Run) -> Check:
    return ahead_beside_a_refusal(run, background=False)


def ahead_in_an_outage(run: Run) -> Check:
    """A renewal ahead fails, and nobody notices: the token lives."""
    world = SourceWorld(run, life=LIFE, used=91.0)
    world.provider.fails = _raises(RefreshUnavailable)
    world.requests("a", "b", "c")

    def check() -> None:
        world.check(4)
        assert world.found() == ["a0"] * 3, world.found()
        assert run.now < BEGIN + 2.0

    return check


def one_shot(run: Run) -> Check:
    """A body that cannot be sent again begins with a token that was renewed first."""
    world = SourceWorld(run, life=LIFE, used=91.0)
    world.provider.takes[1] = 0.5
    world.requests("once", "too", sure=True)
    world.tokens("other")

    def check() -> None:
        world.check(1)
        assert world.found("once", "too") == ["a1"] * 2, world.found()
        assert set(world.found("other")) <= {"a0", "a1"}, world.found()

    return check


def one_shot_refused(run: Run) -> Check:
    """Its 401 is its own; the others get the new token, for one call."""
    world = SourceWorld(run)
    world.refused_since = [BEGIN]
    world.requests("once", sure=True)
    world.requests("a", "b")

    def check() -> None:
        world.check(1)
        assert set(world.found("once")) <= {"401", "a1"}, world.found()
        assert world.found("a", "b") == ["a1"] * 2, world.found()

    return check


# --------------------------------------------------------- strikes, callbacks


def strikes(run: Run) -> Check:
    """One path always says 401: a few refreshes, then its 401s go to their callers."""
    world = SourceWorld(run, strikes=(2, 30.0), strikes_matter=True)
    world.provider.always_refused = True
    world.requests("a", "b", times=2)

    def check() -> None:
        assert 2 <= world.provider.calls <= 3, f"I12: {world.provider.calls} calls"
        world.check()
        assert world.found() == ["401"] * 4, world.found()
        assert run.now == BEGIN, "somebody waited for what cannot help"

    return check


def callbacks_use_the_source(run: Run) -> Check:
    world = SourceWorld(run)
    world.refused_since = [BEGIN]

    def ask(source: TokenSource) -> None:
        world.events.append(source.token().access_token)

    world.at_refresh = ask
    world.requests("a", "b", "c")

    def check() -> None:
        world.check(1)
        assert world.found() == ["a1"] * 3, world.found()
        assert world.events == ["a1"], world.events
        assert run.now == BEGIN, "I3: a waiter waited for a callback"

    return check


def callback_takes_long(run: Run) -> Check:
    world = SourceWorld(run)
    world.refused_since = [BEGIN]
    world.at_refresh = lambda source: run.sleep(20.0)
    world.requests("a", "b", "c")

    def check() -> None:
        world.check(1)
        ends = [end for [end] in world.ends.values()]
        assert {(end.token, end.at) for end in ends} == {("a1", BEGIN)}, "I3: waited for a callback"

    return check


SCENARIOS: dict[Scenario, str] = {
    two_refusals: "I1: two 401s in a row cost two calls, whoever comes first.",
    two_ends: "I1: so do two ends by the clock.",
    an_end_and_a_refusal: "I1: so do one of each.",
    two_ends_of_an_unread_one: "I1: so they do where the store was not read before.",
    first_looks: "I2: a stored token that lives is adopted and not renewed.",
    only_tokens: "I1: one dead token, one call, however the looks without a lock fall.",
    unavailable: "I3, I8: an outage ends each wait with an error of its own, and no login.",
    refused: "I3, I8: so does a wrong setting.",
    invalid_grant: "I3: a login that is over ends each wait, and is told once.",
    back_after_an_outage: "I8: nobody calls while it is backed off from; then the login is there.",
    no_thread: "I1: where no thread starts, a caller does the work.",
    impatient: "I5: who gives up ends his own wait only.",
    deadline: "I5, I7: who waits ends in time; what comes later is stored and used.",
    ahead_beside_a_refusal: "I1: one call for a renewal ahead and a 401.",
    in_the_foreground: "I1: so without background renewals.",
    ahead_in_an_outage: "I8: a renewal ahead that fails is nobody's trouble.",
    one_shot: "A one-shot body waits in the last part, for the one call.",
    one_shot_refused: "I11: what cannot be sent again keeps its 401; one call for all.",
    strikes: "I12: no more refreshes than strikes.",
    callbacks_use_the_source: "I4: a callback may ask the source.",
    callback_takes_long: "I3: nobody waits for a callback.",
}
