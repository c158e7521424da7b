"""What may happen to a gate while its provider is down. As in `scenarios`."""

from __future__ import annotations

import math
from collections.abc import Callable

from requests_refresh.errors import RefreshError, RefreshUnavailable
from requests_refresh.gate import Gate, Round
from requests_refresh.tokens import Current, Token

from .scenarios import Check, Scenario
from .scheduler import Run
from .world import LONG, End, World, current

PATIENCE = 1.0  # a gate's own, where no refresh has shown yet how long it takes


class Outage(World):
    """A world that knows of trouble, and of callers whose token lives.

    Time passes only when nobody can run, so all who do not sleep first have
    asked by `began`, and each end is at one moment, whatever the schedule.
    """

    def holds(self, thing: object) -> object:
        assert isinstance(thing, Round)
        sure = getattr(thing, "sure_until", None)  # it may be just in the making
        return super().holds(thing), str(thing.trouble), thing.until, sure, thing.hold

    def shared(self, refers: list[object]) -> list[object]:
        held = self.gate.held and (self.gate.held[0], str(self.gate.held[1]))
        return [*super().shared(refers), held, str(self.gate.trouble)]

    def tells(self, *, after: float, pause: float, slow: bool, well: bool) -> None:
        """The first call fails `after` seconds, the next one `pause` later, or else brings T1."""

        def tell(round_: Round) -> None:
            self.run.sleep(after)
            self.run.touch("provider")
            self.gate.tell_trouble(round_, RefreshUnavailable("down"), slow=slow)
            self.run.sleep(pause)
            if not well:
                round_.hold = 60.0
                raise RefreshUnavailable("still down")

        self.fails = tell

    def failed_before(self) -> None:
        """As after a round that failed, with its backoff just over."""
        error = RefreshUnavailable("down")
        self.gate.held, self.gate.trouble = (self.run.now, error), error

    def living(self, *names: str) -> None:
        """Callers with a token near its end, who ask as a source does for a one-shot body."""

        def asks(ends: list[End]) -> Callable[[], object]:
            def ask() -> None:
                began, token, limit = self.run.now, Token("T0"), self.run.now + LONG
                self.gate.start(token, limit, refused=False)
                try:
                    found = self.gate.get(token, limit, limit, refused=False, may_start=False)
                    token = found.token
                except RefreshError:
                    pass  # it lives
                ends.append(End(began, self.run.now, limit, token.access_token))

            return ask

        self.twins("living", asks, *names)

    def later(self, name: str, seconds: float, *, stale: str = "T0") -> None:
        """A caller who asks so much later, with `stale` refused."""

        def asks(ends: list[End]) -> Callable[[], object]:
            return lambda: self.run.sleep(seconds) and self.ask(ends, stale)

        self.twins(f"later {stale}", asks, name)

    def expect(self, found: str, after: float, *names: str) -> None:
        """They ended with that token or that error's text, so many seconds from the beginning."""
        for name in names:
            end = self.ends[name][-1]
            assert (end.token or str(end.error)) == found, (
                f"{name} ended with {end.token or end.error!r}, not with {found}"
            )
            assert end.at == self.began + after, (
                f"I3: {name} ended after {end.at - self.began}, not after {after}"
            )

    def check(self, *, lost: int = 0) -> None:
        super().check(lost=lost)
        assert self.calls == 1, f"I1: {self.calls} calls"


def quick_trouble(
    run: Run, kind: type[Gate] = Gate, *, well: bool = True, slow: bool = False
) -> Check:
    """A call fails and the next one ends well or not; slow: it was no hiccup."""
    world = Outage(run, kind)
    after, pause = (3.0 if slow else 0.5), 4.0
    world.tells(after=after, pause=pause, slow=slow, well=well)
    world.living("living")
    world.callers("dead")
    world.later("late", after + 1.0)

    def check() -> None:
        world.check()
        world.expect("T0", min(after, PATIENCE), "living")
        end = "T1" if well else "still down"
        if slow:
            world.expect("down", after, "dead")
            world.expect("down", after + 1.0, "late")
        else:
            world.expect(end, after + pause, "dead", "late")
        assert world.published == world.begun, "the round was taken from who did its work"
        used = world.gate.current
        assert used is not None
        assert used.token.access_token == ("T1" if well else "T0")
        assert (world.gate.held is None) == well
        assert well or str(world.gate.trouble) == "down", "the next round will not know"

    return check


def quick_trouble_to_the_end(run: Run, kind: type[Gate] = Gate) -> Check:
    return quick_trouble(run, kind, well=False)


def slow_trouble(run: Run, kind: type[Gate] = Gate) -> Check:
    return quick_trouble(run, kind, slow=True)


def slow_trouble_to_the_end(run: Run, kind: type[Gate] = Gate) -> Check:
    return quick_trouble(run, kind, slow=True, well=False)


def back_in_time(run: Run, kind: type[Gate] = Gate, *, takes: float = PATIENCE / 2) -> Check:
    """The round after a failed one; it succeeds, in time or too late for who waits."""
    world = Outage(run, kind)
    world.failed_before()
    world.takes = takes
    world.living("living")
    world.callers("dead")
    world.later("late", 2.0)

    def check() -> None:
        world.check()
        if world.ends["living"][-1].at > world.began:
            raise AssertionError("I3: who has a living token waited for a provider in trouble")
        if takes < PATIENCE:
            world.expect("T1", takes, "dead")
            world.expect("T1", 2.0, "late")
        else:
            world.expect("down", PATIENCE, "dead")
            world.expect("down", 2.0, "late")
        assert world.gate.current == Current(Token("T1"), math.inf, math.inf)
        assert world.gate.held is None, "a success was held back from"

    return check


def back_too_late(run: Run, kind: type[Gate] = Gate) -> Check:
    return back_in_time(run, kind, takes=3.0)


def trouble_is_over(run: Run, kind: type[Gate] = Gate) -> Check:
    """After a round that succeeded, the next one is waited for to its end again."""
    world = Outage(run, kind)
    world.failed_before()

    def second_takes(round_: Round) -> None:
        if world.calls > 1:
            run.sleep(3 * PATIENCE)

    world.fails = second_takes
    world.callers("first")
    world.later("a", 2.0, stale="T1")
    world.later("b", 2.0, stale="T1")

    def check() -> None:
        World.check(world)
        assert world.calls == 2, f"I1: {world.calls} calls"
        world.expect("T1", 0.0, "first")
        world.expect("T2", 2.0 + 3 * PATIENCE, "a", "b")

    return check


def login_in_trouble(run: Run, kind: type[Gate] = Gate) -> Check:
    """A login at the very moment at which the others are told of the trouble."""
    world = Outage(run, kind)
    world.tells(after=0.5, pause=4.0, slow=True, well=False)
    world.living("living")
    world.callers("dead")

    def change() -> Current:
        run.touch("store")
        world.stored = Token("L")
        return current("L")

    def login() -> None:
        run.sleep(0.5)
        world.gate.replace(change, None)

    run.add("login", login)

    def check() -> None:
        world.check()
        world.expect(str(world.ends["dead"][-1].token or "down"), 0.5, "dead")
        assert world.tokens("dead") in (["L"], [None]), world.tokens("dead")
        assert world.tokens("living") in (["L"], ["T0"])
        assert world.ends["living"][-1].at == world.began + 0.5
        assert world.gate.current == current("L"), "a late result went over the login"
        assert world.gate.held is None, "trouble outlived the login"
        assert world.gate.trouble is None, "trouble outlived the login"

    return check


def ahead_in_trouble(run: Run, kind: type[Gate] = Gate) -> Check:
    """Many start a round ahead, looking without the lock; it fails and is held back from."""
    world = Outage(run, kind)

    def fail(round_: Round) -> None:
        round_.hold = 60.0
        raise RefreshUnavailable("down")

    world.fails = fail
    begun: list[bool] = []

    def starts(ends: list[End]) -> Callable[[], object]:
        return lambda: begun.append(world.gate.start(Token("T0"), run.now + LONG, refused=False))

    world.twins("ahead", starts, "a", "b")
    world.callers("dead")

    def check() -> None:
        world.check()
        world.expect("down", 0.0, "dead")
        # Who decides when the call has failed begins a round that only looks into the store.
        assert begun.count(True) <= 1 + len(world.begun) - world.calls, "begun beside a round"

    return check


TROUBLE: dict[Scenario, str] = {
    quick_trouble: "I3: who has a living token leaves at the first trouble, the others get T1.",
    quick_trouble_to_the_end: "I3: the others get what the round ended with.",
    slow_trouble: "I3: after a slow failure nobody waits, nor who comes later; the round goes on.",
    slow_trouble_to_the_end: "I3: the next round will know of the trouble.",
    back_in_time: "I3: a provider that is back in time serves all who have no living token.",
    back_too_late: "I3: nobody waits longer than patience in the round after a failed one.",
    trouble_is_over: "I3: trouble is forgotten after a success.",
    login_in_trouble: "A login beside the trouble counts, and ends it.",
    ahead_in_trouble: "I1: looks without the lock begin no second round.",
}
