"""What may happen to a gate. Each sets up a run and returns the check for its end."""

from __future__ import annotations

import math
from collections.abc import Callable

from requests_refresh.errors import (
    LoginRequired,
    RefreshTimeout,
    RefreshUnavailable,
    StoreError,
)
from requests_refresh.gate import Gate, Round
from requests_refresh.tokens import Current, Token

from .scheduler import Run
from .world import End, World, current

Check = Callable[[], None]
Scenario = Callable[..., Check]  # (run, kind of gate = Gate)


def one_expiry(run: Run, kind: type[Gate] = Gate, *, names: str = "abc") -> Check:
    world = World(run, kind)
    world.callers(*names)

    def check() -> None:
        world.check()
        assert world.calls == 1, f"I1: {world.calls} calls"
        world.expect_all_have("T1", *names)
        assert run.now == 1000.0, "somebody slept until a timeout"

    return check


def late_refusal(run: Run, kind: type[Gate] = Gate) -> Check:
    world = World(run, kind)
    world.callers("a", "b")

    def late(ends: list[End]) -> Callable[[], object]:
        return lambda: run.sleep(5) and world.ask(ends, "T0")

    world.twins("late", late, "late")

    def check() -> None:
        world.check()
        assert world.calls == 1, "I2: a late refusal refreshed"
        world.expect_all_have("T1", "a", "b", "late")

    return check


def two_expiries(run: Run, kind: type[Gate] = Gate) -> Check:
    world = World(run, kind)

    def twice(ends: list[End]) -> Callable[[], object]:
        return lambda: world.ask(ends, world.ask(ends, "T0"))

    world.twins("twice", twice, "a", "b")

    def check() -> None:
        world.check()
        for first, second in (world.ends["a"], world.ends["b"]):
            assert second.token != first.token, f"{first.token} came back to who refused it"
        assert 2 <= world.calls <= 3, f"{world.calls} calls"

    return check


def failing_round(run: Run, kind: type[Gate] = Gate, *, over: bool = False) -> Check:
    """The round fails. over: for good, else with a backoff."""
    world = World(run, kind)
    world.callers("a", "b", "c")

    def fail(round_: Round) -> None:
        round_.hold = math.inf if over else 60.0
        raise LoginRequired("over") if over else RefreshUnavailable("down")

    world.fails = fail

    def check() -> None:
        world.check()
        assert world.calls == 1, "a failure was not held back from"
        for error in world.errors("a", "b", "c"):
            assert type(error) is (LoginRequired if over else RefreshUnavailable), repr(error)
            assert error.__cause__ is not None
        assert (world.gate.current is None) == over

    return check


def dead_login(run: Run, kind: type[Gate] = Gate) -> Check:
    return failing_round(run, kind, over=True)


def no_thread(run: Run, kind: type[Gate] = Gate) -> Check:
    world = World(run, kind)

    def refuse(work: Callable[[], None]) -> None:
        run.point("spawn")
        raise RuntimeError("can't start new thread")

    world.spawn = refuse
    world.no_threads = True
    world.callers("a", "b", "c")

    def check() -> None:
        world.check()
        assert world.calls == 1, f"I1: {world.calls} calls"
        world.expect_all_have("T1", "a", "b", "c")

    return check


def no_thread_and_interrupted(run: Run, kind: type[Gate] = Gate) -> Check:
    """Where a caller does the work, his Ctrl-C ends the round, and nobody is stranded."""
    world = World(run, kind)

    def refuse(work: Callable[[], None]) -> None:
        raise RuntimeError("can't start new thread")

    world.spawn = refuse
    world.no_threads = True
    for task in world.callers("a"):
        task.interruptible, task.twin = True, None
    world.callers("b", "c")

    def check() -> None:
        world.check(lost=1)  # with the one who was told it
        assert world.calls <= 2, f"{world.calls} calls"
        found = [end.token or type(end.error).__name__ for [end] in world.ends.values()]
        assert "RefreshTimeout" not in found, found

    return check


def an_error_in_spite_of_a_thread(run: Run, kind: type[Gate] = Gate) -> Check:
    """A RuntimeError leaves the start of a thread that began all the same, as a signal's may."""
    world = World(run, kind)

    def start(work: Callable[[], None]) -> None:
        run.spawn(work)
        raise RuntimeError("from a signal handler")

    world.spawn = start
    world.no_threads = True
    world.callers("a", "b", "c")

    def check() -> None:
        world.check()
        assert world.calls == 1, f"I1: {world.calls} calls"
        world.expect_all_have("T1", "a", "b", "c")
        assert world.published == world.begun, "a round that had begun was taken back"

    return check


def too_late(run: Run, kind: type[Gate] = Gate) -> Check:
    """A round finds that too little of its time is left, and lets its waiters ask again."""
    world = World(run, kind)
    world.too_late = 1
    world.callers("a", "b", "c")

    def check() -> None:
        world.check()
        assert world.calls == 1, f"I1: {world.calls} calls"
        world.expect_all_have("T1", "a", "b", "c")

    return check


def _interrupted_start(run: Run, kind: type[Gate], *, begun: bool) -> Check:
    world = World(run, kind)
    spawned: list[bool] = []

    def spawn(work: Callable[[], None]) -> None:
        first = not spawned
        spawned.append(True)
        if begun or not first:
            run.spawn(work)
        if first:
            raise KeyboardInterrupt

    world.spawn = spawn
    world.callers("a", "b", "c")

    def check() -> None:
        world.check()
        ends = [end for [end] in world.ends.values()]
        found = sorted(end.token or type(end.error).__name__ for end in ends)
        assert found == ["KeyboardInterrupt", "T1", "T1"], found
        assert world.calls == 1, f"I1: {world.calls} calls"
        assert world.published == world.begun, "a round that had begun was taken back"
        assert run.now == 1000.0, "somebody slept until a timeout"

    return check


def interrupted_before_the_thread(run: Run, kind: type[Gate] = Gate) -> Check:
    return _interrupted_start(run, kind, begun=False)


def interrupted_after_the_thread(run: Run, kind: type[Gate] = Gate) -> Check:
    return _interrupted_start(run, kind, begun=True)


def interrupted_anywhere(run: Run, kind: type[Gate] = Gate) -> Check:
    """Ctrl-C at any switch point of one of three callers."""
    world = World(run, kind)
    for task in world.callers("a"):
        task.interruptible, task.twin = True, None
    world.callers("b", "c")

    def check() -> None:
        world.check()
        world.expect_all_have("T1", "b", "c")
        [error] = world.errors("a")
        assert error is None or isinstance(error, KeyboardInterrupt), repr(error)
        assert world.calls == 1, f"I1: {world.calls} calls"
        assert world.published == world.begun, "a round that had begun was taken back"

    return check


def impatient(run: Run, kind: type[Gate] = Gate) -> Check:
    """One caller's deadline passes while the round goes on."""
    world = World(run, kind)
    world.takes = 5.0
    world.callers("a", patience=2.0)
    world.callers("b", "c")

    def check() -> None:
        world.check()
        assert world.calls == 1, f"I1: {world.calls} calls"
        for token, error in zip(world.tokens("a"), world.errors("a"), strict=True):
            assert token == "T1" or isinstance(error, RefreshTimeout), repr(error)
        if not run.rules.time:  # else it may pass their deadlines, too
            world.expect_all_have("T1", "b", "c")
        assert world.gate.current == Current(Token("T1"), math.inf, math.inf)

    return check


def alone_and_impatient(run: Run, kind: type[Gate] = Gate) -> Check:
    """Nobody waits any more, and the token is published all the same."""
    world = World(run, kind)
    world.takes = 5.0
    world.callers("a", "b", patience=2.0)

    def check() -> None:
        world.check()
        assert world.calls == 1, f"I1: {world.calls} calls"
        for token, error in zip(world.tokens("a", "b"), world.errors("a", "b"), strict=True):
            late = run.rules.time and token == "T1"  # it asked only when all was over
            assert late or isinstance(error, RefreshTimeout), repr(error)
        assert world.gate.current == Current(Token("T1"), math.inf, math.inf)

    return check


def login(run: Run, kind: type[Gate] = Gate, *, dead: bool = False) -> Check:
    """A new login in the middle. dead: it has a refresh token only."""
    world = World(run, kind)
    world.callers("a", "b")

    def change() -> Current:
        world.expect_unlocked("a login's save")
        run.touch("store")
        world.stored = Token("L")
        return current("L", dead=dead)

    run.add("login", lambda: world.gate.replace(change, None))

    def check() -> None:
        world.check()
        assert None not in world.tokens("a", "b"), world.errors("a", "b")
        assert world.calls <= 1 + dead, f"I1: {world.calls} calls"
        used = world.gate.current
        assert used is not None
        assert used.token.same_issue(world.stored), "memory and store differ"
        if not dead:
            assert used.token.access_token == "L", "a late result went over the login"
        else:
            assert used.token.access_token == "L" or world.asked_for[-1].access_token == "L"

    return check


def login_of_a_dead_token(run: Run, kind: type[Gate] = Gate) -> Check:
    return login(run, kind, dead=True)


def failing_login(run: Run, kind: type[Gate] = Gate) -> Check:
    """The store does not take the login: nothing has changed."""
    world = World(run, kind)
    world.callers("a", "b")
    failures: list[StoreError] = []

    def change() -> Current:
        run.touch("store")
        raise StoreError("full")

    def attempt() -> None:
        try:
            world.gate.replace(change, None)
        except StoreError as exc:
            failures.append(exc)

    run.add("login", attempt)

    def check() -> None:
        world.check()
        assert len(failures) == 1
        assert world.calls == 1, f"I1: {world.calls} calls"
        world.expect_all_have("T1", "a", "b")

    return check


def logout(run: Run, kind: type[Gate] = Gate) -> Check:
    world = World(run, kind)
    world.callers("a", "b")

    def change() -> None:
        run.touch("store")
        world.stored = None

    run.add("logout", lambda: world.gate.replace(change, LoginRequired("logged out")))

    def check() -> None:
        world.check()
        assert world.gate.current is None, "a late result brought the login back"
        assert world.stored is None
        assert world.calls <= 1, f"I1: {world.calls} calls"
        for end in (*world.ends["a"], *world.ends["b"]):
            assert end.token == "T1" or isinstance(end.error, LoginRequired), end

    return check


def background(run: Run, kind: type[Gate] = Gate) -> Check:
    """A round ahead of time that nobody waits for, beside refusals of the same token."""
    world = World(run, kind)
    begun: list[bool] = []
    limit = run.now + 9
    run.add("ahead", lambda: begun.append(world.gate.start(Token("T0"), limit, refused=False)))
    world.callers("a", "b")

    def check() -> None:
        world.check()
        assert world.calls == 1, f"I1: {world.calls} calls"
        world.expect_all_have("T1", "a", "b")

    return check


def adopts_what_is_refused(run: Run, kind: type[Gate] = Gate) -> Check:
    """The round adopts another process's token, the very one that a waiter calls refused."""
    world = World(run, kind)
    world.gate.current = current("T0", dead=True)
    world.stored = Token("other")
    world.callers("a", "c")
    world.callers("b", stale="other")

    def check() -> None:
        world.check()
        assert world.tokens("b") == ["T1"], "it got what it had called refused"
        assert set(world.tokens("a", "c")) <= {"other", "T1"}
        assert world.calls == 1, f"I1: {world.calls} calls"

    return check


SCENARIOS: dict[Scenario, str] = {
    one_expiry: "I1: three callers refused with one token make one call, and all get its token.",
    late_refusal: "I2: a refusal that comes after the round adopts its token.",
    two_expiries: "I1: each of two expiries is refreshed once.",
    failing_round: "I3: a failed round ends all its waiters, each with an error of its own.",
    dead_login: "I3: a login that is over is asked about once.",
    no_thread: "Where no thread can be started, one of the callers does the work.",
    no_thread_and_interrupted: "I3: Ctrl-C in a caller who does the work strands nobody.",
    an_error_in_spite_of_a_thread: "I1: a round that two begin is worked on by one of them.",
    too_late: "I3: a round that gives up for lack of time makes its waiters ask again.",
    interrupted_before_the_thread: "I3: Ctrl-C before the thread is there strands nobody.",
    interrupted_after_the_thread: "I3: Ctrl-C after the thread began strands nobody.",
    interrupted_anywhere: "I14: Ctrl-C ends the wait of one caller and nothing else.",
    impatient: "I5: who gives up does so at his deadline; the others get the token.",
    alone_and_impatient: "I7: a token that nobody waits for any more is published.",
    login: "A login in the middle counts, and what the round before it issued does not.",
    login_of_a_dead_token: "A login with a refresh token only is refreshed once, from itself.",
    failing_login: "A login that cannot be stored changes nothing.",
    logout: "A logout in the middle stays: no late result brings the login back.",
    background: "I1: a round ahead of time serves the refusals beside it.",
    adopts_what_is_refused: "I3: a waiter that gets back what it had refused asks once more.",
}
