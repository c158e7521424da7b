"""A gate in a scheduled run: a store and a provider that count, callers, and the rules for all."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from requests_refresh.errors import LoginRequired, RefreshError, RefreshTimeout
from requests_refresh.gate import Gate, Round
from requests_refresh.tokens import Current, Outcome, Token

from .pieces import Condition, Lock, Task
from .scheduler import Run

LONG = 1000.0  # virtual seconds; far beyond what any scenario takes


def current(name: str, *, dead: bool = False) -> Current:
    moment = -math.inf if dead else math.inf
    return Current(Token(name), moment, moment)


@dataclass(frozen=True)
class End:
    """How one question to the gate ended."""

    began: float
    at: float
    deadline: float
    token: str | None = None
    error: BaseException | None = None


class World:
    """A gate whose token in use, and stored one, is "T0". The provider's n-th call issues "Tn"."""

    def __init__(self, run: Run, kind: type[Gate] = Gate) -> None:
        self.run = run
        self.stored: Token | None = Token("T0")
        self.asked_for: list[Token] = []  # what each call of the provider refreshed
        self.at_work: list[Round] = []
        self.begun: list[Round] = []
        self.published: list[Round] = []
        self.ends: dict[str, list[End]] = {}  # of each thread that asks
        self.kinds: dict[str, str] = {}
        self.began = run.now
        self.no_threads = False  # the callers do the work
        self.too_late = 0  # how many rounds find no time to ask
        self.takes = 0.0  # virtual seconds that the provider takes
        self.fails: Callable[[Round], None] = lambda round_: None
        self.spawn: Callable[[Callable[[], None]], None] = run.spawn
        self._locks: list[Lock] = []
        self.gate = kind(
            self._work,
            after=self._after,
            clock=run.clock,
            lock=self._lock,
            condition=Condition,
            spawn=lambda work: self.spawn(work),
        )
        self.gate.current = current("T0")
        self.exclusive = run.lock()
        run.values = self

    # ----------------------------------------------- what makes a state, for pruning

    def name(self, value: object, refers: list[object]) -> object:
        if value is None or isinstance(value, (bool, int, float, str)):
            return value
        if isinstance(value, Token):
            return value.access_token
        if isinstance(value, Current):
            return value.token.access_token, value.dead_at
        if isinstance(value, Outcome):
            return value.refreshed, value.token.access_token
        if isinstance(value, End):
            return value.at, value.token, type(value.error).__name__
        if isinstance(value, Round):
            refers.append(value)
            return Round
        if isinstance(value, (list, tuple)):
            return tuple(self.name(one, refers) for one in value)
        return type(value)

    def holds(self, thing: object) -> object:
        assert isinstance(thing, Round)
        now = thing is self.gate._round, thing.claimed, thing.done, thing in self.at_work
        told = thing.outcome, type(thing.error), type(thing.held), thing.stale
        return (*now, thing.deadline, *(self.name(one, []) for one in told))

    def shared(self, refers: list[object]) -> list[object]:
        gate = self.gate
        values = (gate.current, gate.held, gate._round, self.stored, self.asked_for)
        ends = sorted((self.kinds[who], repr(self.name(e, []))) for who, e in self.ends.items())
        past = frozenset(gate.past._went.items())
        return [past, self.too_late, *(self.name(value, refers) for value in values), *ends]

    # ------------------------------------------------------ what the gate calls

    def _lock(self) -> Lock:
        self._locks.append(self.run.lock())
        return self._locks[-1]

    def _work(self, round_: Round) -> Outcome | None:
        """As a real round goes: look into the store, adopt, else refresh and save."""
        self.expect_unlocked("work")
        if any(not other.done for other in self.at_work):
            self.run.fail("I1: two rounds are at work at once")
        self.begun.append(round_)
        self.at_work.append(round_)
        try:
            if round_.held is not None:
                raise round_.held.own_copy()
            adopted = self._adopted(round_)
            if adopted is not None:
                return adopted
            with self.exclusive:
                if self.too_late:
                    self.too_late -= 1
                    return None
                return self._adopted(round_) or self._refreshed(round_)
        finally:
            self.at_work.remove(round_)

    def _adopted(self, round_: Round) -> Outcome | None:
        stored, used = self.stored, self.gate.current
        if stored is None or stored.same_issue(round_.stale) or self.gate.past.has(stored):
            return None
        if used is not None and stored.same_issue(used.token):
            return None
        return Outcome(current(stored.access_token or ""), refreshed=False)

    def _refreshed(self, round_: Round) -> Outcome:
        if round_.done:
            raise RefreshError("detached")
        stored = self.stored
        if stored is None:
            raise LoginRequired("nothing is stored")
        self.asked_for.append(stored)
        issued = Token(f"T{self.calls}")
        self.run.touch("provider")
        if self.takes:
            self.run.sleep(self.takes)
        self.fails(round_)
        if self.stored is not stored:
            raise RefreshError("something else is stored")
        self.stored = issued
        return Outcome(Current(issued, math.inf, math.inf), refreshed=True)

    def _after(self, round_: Round) -> None:
        self.expect_unlocked("a callback")
        if not round_.done:
            self.run.fail("a callback ran before its round was done")
        self.published.append(round_)

    def expect_unlocked(self, what: str) -> None:
        if self._locks[-1].owner is not None and self._locks[-1].owner is self.run.now_runs:
            self.run.fail(f"I4: {what} ran while the lock was held")

    # -------------------------------------------------------- what scenarios use

    @property
    def calls(self) -> int:
        return len(self.asked_for)

    def ask(self, ends: list[End], stale: str, patience: float = LONG) -> str:
        """Ask the gate and note how that ended; the token, or "" after an error."""
        began = self.run.now
        found, problem = None, None
        if self.run.now_runs is not None and not self.no_threads:
            self.run.now_runs.deadline = began + patience
        try:
            found = self.gate.get(Token(stale), began + patience, began + LONG).token.access_token
        except (RefreshError, KeyboardInterrupt) as exc:
            problem = exc
        ends.append(End(began, self.run.now, began + patience, found, problem))
        return found or ""

    def callers(self, *names: str, stale: str = "T0", patience: float = LONG) -> list[Task]:
        """Threads that do the same: ask once, with `stale` refused."""

        def asks(ends: list[End]) -> Callable[[], object]:
            return lambda: self.ask(ends, stale, patience)

        return self.twins(f"{stale} for {patience}", asks, *names)

    def twins(
        self, kind: str, work: Callable[[list[End]], Callable[[], object]], *names: str
    ) -> list[Task]:
        """Threads that do the same `work`, each with a list of its own for how it ended."""
        tasks = []
        for name in names:
            self.ends[name], self.kinds[name] = [], kind
            tasks.append(self.run.add(name, work(self.ends[name]), kind))
        return tasks

    def tokens(self, *names: str) -> list[str | None]:
        return [self.ends[name][-1].token for name in names]

    def expect_all_have(self, token: str, *names: str) -> None:
        for name in names:
            end = self.ends[name][-1]
            assert end.token == token, f"{name} ended with {end.token or end.error!r}"

    def errors(self, *names: str) -> list[BaseException | None]:
        return [self.ends[name][-1].error for name in names]

    def check(self, *, lost: int = 0) -> None:
        """The rules for every end, whatever happened. lost: how many answers may have been lost."""
        for name, ends in self.ends.items():
            for end in ends:
                late = self.run.rules.time  # time passed while it could have run
                assert late or end.at <= end.deadline, f"I5: {name} waited until {end.at}"
                if isinstance(end.error, RefreshTimeout):
                    least = min(end.deadline, self.began + LONG)  # its own, or that of the round
                    assert end.at >= least, f"I5: {name} gave up at {end.at}"
        assert self.gate._round is None, "a round was left behind"
        assert self._locks[-1].owner is None, "the lock was left behind"
        raised = [end.error for ends in self.ends.values() for end in ends if end.error]
        assert len({id(error) for error in raised}) == len(raised), "an error was shared"
        asked = [token.access_token for token in self.asked_for]
        assert len(set(asked)) + lost >= len(asked), f"I1: a token was refreshed twice: {asked}"
