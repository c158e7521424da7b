"""A whole `TokenSource` in a scheduled run: a store, a provider and an API that count, and callers.

What is real: the source, its gate, its rounds, what they ask and save, its
strikes and its jobs. What is the run's: threads, locks, clocks, the store.
"""

from __future__ import annotations

import functools
import types
from collections.abc import Callable
from typing import Any

from requests_refresh.errors import LoginRequired, RefreshError, RefreshLoop
from requests_refresh.gate import Round, _running
from requests_refresh.source import TokenSource
from requests_refresh.stores.saving import Holding
from requests_refresh.tokens import Current, Outcome, Token

from .pieces import Task
from .scheduler import Run
from .source_pieces import EPOCH, Leaf, Provider, SharedStore, _now, beside_others, peek
from .world import End

Check = Callable[[], None]
Scenario = Callable[[Run], Check]

TIMEOUT = 30.0  # seconds, of a source
LIFE = 100.0  # seconds, of a token that ends by the clock: worth renewing after 90, dead after 98


def _locks(source: TokenSource) -> tuple[Any, ...]:
    gate, jobs, strikes = source._gate, source._jobs, source._strikes
    return source._changing, gate._lock, source._lock, strikes._lock, jobs._lock


class SourceWorld:
    """A source whose stored token is "a0" with "r0". What is used of the outside, counts."""

    def __init__(
        self,
        run: Run,
        *,
        life: float | None = None,
        warm: bool = True,
        used: float = 0.0,
        strikes_matter: bool = False,
        **settings: Any,
    ) -> None:
        """life: of each token, in seconds; `used` of them are over. warm: it is in use already."""
        self.strikes_matter = strikes_matter
        _now[:] = [run]
        run.values = self
        self.run = run
        self.began = run.now
        self.ends: dict[str, list[End]] = {}
        self.kinds: dict[str, str] = {}
        self.sources: list[TokenSource] = []
        self.refused_since: list[float] = []  # what was issued before each, the API refuses then
        self.callers: set[str] = set()
        self.no_threads = False
        self.refreshed: list[str | None] = []  # what `on_refresh` was told
        self.ended: list[TokenSource] = []  # whose `on_logout` was called
        self.memory_only = False  # a token may be used that was never stored
        self.at_refresh: Callable[[TokenSource], object] = lambda source: None
        self.at_logout: Callable[[TokenSource], object] = lambda source: None
        self.events: list[object] = []  # whatever else a scenario notes
        self.store = SharedStore(self)
        self.provider = Provider(self)
        self.provider.life = life
        self.first = self.make(0, run.now - used - 1.0)
        self.store.put(self.first)
        self.settings = {"timeout": TIMEOUT, **settings}
        self.warm = warm
        self.source = self.another()

    def another(self) -> TokenSource:
        """One more source, as in another process."""
        source = TokenSource(
            self.provider,
            self.store,
            on_refresh=self._on_refresh,
            on_logout=self._on_logout,
            **self.settings,
        )
        if self.warm:
            known = source._renewal._lifetimes.current(self.first), None
            source.begin_with(known, lambda gate: None)
        source._lock = Leaf(self.run)  # type: ignore[assignment]  # over counts that nobody reads
        if not self.strikes_matter:
            source._strikes._lock = Leaf(self.run)  # type: ignore[assignment]  # likewise
        self.sources.append(source)
        return source

    def make(self, number: int | str, at: float | None = None) -> Token:
        issued = EPOCH + (self.run.now if at is None else at)
        end = None if self.provider.life is None else issued + self.provider.life
        return Token(f"a{number}", refresh_token=f"r{number}", issued_at=issued, expires_at=end)

    # ------------------------------------------------ what is true at this moment

    def refuses(self, token: Token) -> bool:
        """Whether the API does: it was revoked, or is over."""
        if token.access_token is None or self.provider.always_refused:
            return True
        now, issued = self.run.now, (token.issued_at or 0.0) - EPOCH
        over = token.expires_at is not None and EPOCH + now >= token.expires_at
        return over or any(issued < since <= now for since in self.refused_since)

    def needs_renewal(self, token: Token) -> bool:
        ahead = token.expires_at is not None and EPOCH + self.run.now >= token.expires_at - 10.0
        return ahead or self.refuses(token)

    def enter(self, what: str) -> None:
        """The store, the provider, the API or a callback is reached: no lock may be held."""
        run, me = self.run, self.run.now_runs
        if me is not None:
            for source in self.sources:
                # `_changing` is over a login and its store.
                if any(lock.owner is me for lock in _locks(source)[1:]):
                    run.fail(f"I4: {what} was reached with a lock held")
        if what in ("provider", "save") or beside_others(run):
            run.point(what)

    def _on_refresh(self, source: TokenSource, token: Token) -> None:
        self.enter("on_refresh")
        self._told()
        self.refreshed.append(token.access_token)
        self.at_refresh(source)

    def _on_logout(self, source: TokenSource, error: LoginRequired) -> None:
        self.enter("on_logout")
        self._told()
        self.ended.append(source)
        self.at_logout(source)

    def _told(self) -> None:
        round_ = _running.get()  # of this thread
        if round_ is not None and not peek(round_, "done"):
            self.run.fail("a callback ran before its outcome was public")

    # ------------------------------------------------------- what callers do

    def send(self, token: Token) -> bool:
        """A request to the API; whether it was answered."""
        if token.access_token not in self.store.ever and not self.memory_only:
            self.run.fail(f"I6: {token.access_token} was used before it was stored")
        self.run.point("api")
        return not self.refuses(token)

    def request(self, source: TokenSource, *, sure: bool = False, patience: float = TIMEOUT) -> str:
        """As the adapter does it; the token that was accepted, or "401"."""
        deadline = self.run.now + patience
        outcome = source._for_request(deadline, sure=sure)
        token, refreshed = outcome.token, outcome.refreshed
        for refusals in range(3):
            if self.send(token):
                if source._strikes.unproven is token:
                    source._strikes.prove(token)
                return str(token.access_token)
            if refreshed:
                source._strikes.strike(token)
            if refusals == 2 or not source._could_help(token, refreshed):
                break
            if sure:
                source._renew_without_waiting(token)
                break
            try:
                outcome = source._renew(token, deadline, may_start=not refreshed)
            except RefreshLoop:
                break
            token, refreshed = outcome.token, refreshed or outcome.refreshed
        return "401"

    def note(self, ends: list[End], ask: Callable[[], str], patience: float = TIMEOUT) -> str:
        """Ask, and note how it ended. Who asks must not sleep for longer than `patience`."""
        began, found, problem = self.run.now, None, None
        me = self.run.now_runs
        if me is not None and not self.no_threads:
            me.deadline = began + patience
        try:
            found = ask()
        except RefreshError as exc:
            problem = exc
        if me is not None:
            me.deadline = None
        ends.append(End(began, self.run.now, began + patience, found, problem))
        return found or ""

    def requests(
        self,
        *names: str,
        source: TokenSource | None = None,
        times: int = 1,
        gap: float = 0.0,
        after: float = 0.0,
        sure: bool = False,
        patience: float = TIMEOUT,
    ) -> list[Task]:
        """Threads that send so many requests, one after the other, with gaps of seconds."""
        which = source or self.source

        def sends(ends: list[End]) -> Callable[[], object]:
            def go() -> None:
                if after:
                    self.run.sleep(after)
                for number in range(times):
                    if number and gap:
                        self.run.sleep(gap)
                    ask = functools.partial(self.request, which, sure=sure, patience=patience)
                    self.note(ends, ask, patience)

            return go

        kind = f"{self.sources.index(which)} {times} {gap} {after} {sure} {patience}"
        self.callers |= set() if self.no_threads else set(names)
        return self.twins(kind, sends, *names)

    def tokens(self, *names: str, source: TokenSource | None = None, after: float = 0.0) -> None:
        """Threads that ask for the token and send nothing."""
        which = source or self.source

        def asks(ends: list[End]) -> Callable[[], object]:
            def ask() -> str:
                token = which.token()
                if token.access_token not in self.store.ever and not self.memory_only:
                    self.run.fail(f"I6: {token.access_token} was used before it was stored")
                return str(token.access_token)

            def go() -> None:
                if after:
                    self.run.sleep(after)
                self.note(ends, ask)

            return go

        self.callers |= set() if self.no_threads else set(names)
        self.twins(f"token {self.sources.index(which)} {after}", asks, *names)

    def twins(
        self, kind: str, work: Callable[[list[End]], Callable[[], object]], *names: str
    ) -> list[Task]:
        tasks = []
        for name in names:
            self.ends[name], self.kinds[name] = [], kind
            tasks.append(self.run.add(name, work(self.ends[name]), kind))
        return tasks

    def found(self, *names: str) -> list[str]:
        """How each question of these threads ended: a token's name, "401", or an error's."""
        ends = [end for name in names or self.ends for end in self.ends[name]]
        return [end.token or type(end.error).__name__ for end in ends]

    # --------------------------------------------------------- the rules for all

    def check(self, calls: int | None = None, *, logouts: int = 0, over: bool = False) -> None:
        """calls: of the provider. logouts: calls of `on_logout`. over: no login is left."""
        if calls is not None:
            assert self.provider.calls == calls, f"I1: {self.provider.calls} calls, not {calls}"
        late = self.run.rules.time  # time passed while a thread could have run
        errors: list[BaseException] = []
        for name, ends in self.ends.items():
            for end in ends:
                assert late or end.at <= end.deadline, f"I5: {name} waited until {end.at}"
                if end.error is not None:
                    errors.append(end.error)
        for source in self.sources:
            gate = source._gate
            assert peek(gate, "_round") is None, "a round was left behind"
            assert not source._jobs._until, "a job was left behind"
            assert all(lock.owner is None for lock in _locks(source)), "a lock was left behind"
            if (held := peek(gate, "held")) is not None:
                errors.append(held[1])
        assert len({id(error) for error in errors}) == len(errors), "I3: an error was shared"
        assert self.store.holder is None, "the store was left held"
        assert len(self.ended) == logouts, f"I8: {len(self.ended)} logouts"
        kept = [peek(source._place, "unsaved") for source in self.sources]
        here = [self.store.token, *(unsaved[0] for unsaved in kept if unsaved)]
        names = {token.refresh_token for token in here if token is not None}
        if over:
            assert not names, f"a login that is over came back: {names}"
        else:
            newest = self.provider.newest
            assert newest in names, f"I7: {newest} was lost, there is {names or None}"

    # ----------------------------------------- what makes a state, for pruning

    def name(self, value: object, refers: list[object]) -> object:
        if value is None or isinstance(value, (bool, int, float, str, bytes)):
            return value
        again = functools.partial(self.name, refers=refers)
        if isinstance(value, Token):
            return value.access_token, value.refresh_token, value.expires_at
        if isinstance(value, Current):
            return again(value.token), value.ahead_at, value.dead_at
        if isinstance(value, Outcome):
            return value.refreshed, again(value.current)
        if isinstance(value, End):
            return value.at, value.token, type(value.error)
        if isinstance(value, Round):
            refers.append(value)
            return Round
        if isinstance(value, BaseException):
            return type(value), str(value), getattr(value, "retry_after", None)
        if isinstance(value, Holding):
            return value.taken_over, len(vars(value)["_exit_callbacks"])
        if isinstance(value, (list, tuple)):
            return tuple(again(one) for one in value)
        if isinstance(value, TokenSource):
            return self.sources.index(value) if value in self.sources else -1
        if isinstance(value, functools.partial):
            return again(value.func), again(value.args)
        if isinstance(value, types.MethodType):
            return value.__name__, again(value.__self__)
        if isinstance(value, types.FunctionType):
            cells = value.__closure__ or ()
            inside = [cell.cell_contents for cell in cells]
            return value.__code__, *(again(one) for one in inside if one is not value)
        return type(value)

    def holds(self, thing: object) -> object:
        assert isinstance(thing, Round)
        mine = thing is peek(thing.gate, "_round"), thing.claimed, peek(thing, "done")
        told = (thing.outcome, thing.error, thing.held, thing.stale, thing.trouble, thing.fallback)
        times = thing.deadline, thing.until, thing.sure_until, thing.hold
        return *mine, thing.published, *times, *(self.name(one, []) for one in told)

    def shared(self, refers: list[object]) -> list[object]:
        parts: list[object] = []
        for source in self.sources:
            gate, renewal, strikes = source._gate, source._renewal, source._strikes
            asking, place = renewal._asking, source._place
            parts += (self.name(peek(gate, n), refers) for n in ("current", "held", "_round"))
            parts += (gate.patience, frozenset(gate.past._went.items()), renewal._leaving)
            values = (gate.trouble, renewal.first, renewal._over, peek(place, "unsaved"))
            parts += (self.name(value, refers) for value in (*values, strikes.unproven))
            parts += (asking.failures, asking.outcome_unknown, place.give_up_at)
            parts += (tuple(strikes._struck), strikes._since)
            parts.append(tuple(sorted(source._jobs._until.values())))
        store, provider = self.store, self.provider
        outside = (store.token, store.refuses_saves, provider.calls, provider.revoked)
        parts += (self.name(value, refers) for value in (*outside, self.refreshed, self.events))
        parts += [frozenset(provider.good), frozenset(provider.spent)]
        parts += [len(self.ended), frozenset(store.ever), store.holder is not None]
        parts += sorted((self.kinds[who], repr(self.name(e, []))) for who, e in self.ends.items())
        return parts
