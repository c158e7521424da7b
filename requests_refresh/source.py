"""Where a token comes from: fresh? near its end? dead? Then ask the gate.

`TokenSource` hands out the current token of one identity and renews it once
for all who use it: the threads of this process by its gate, other processes
and hosts by the store. While a token is fresh, handing it out is two attribute
reads and a look at the clock: no lock, no store.
"""

from __future__ import annotations

import math
import sys
import threading
import time
import uuid
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
from typing import Any

from . import lifecycle, telemetry
from .errors import ConfigurationError, LoginRequired, RefreshError, RefreshLoop, StoreError, scrub
from .gate import Gate, Round
from .grants.failures import failure_of
from .lifetimes import Lifetimes
from .logs import log
from .renewal import Renewal
from .settings import as_login, check_settings, is_seconds, patience, require
from .stats import Stats
from .stores import TokenStore
from .stores.saving import Holding, Place
from .strikes import Strikes
from .tokens import Current, Outcome, Token

Known = tuple[Current | None, tuple[float, RefreshError] | None]  # of a gate: current and held

Grant = Callable[[Token | None], Token | Mapping[str, Any] | str]
"""How a token is obtained: it gets the old one, or None where nothing is stored."""


class TokenSource:
    """Hands out the current token of one identity, and renews it once for all.

    grant: any callable `(Token or None) -> Token`, OAuth reply mapping or str.
        It runs in a thread of its own, one call at a time for each source.
    store: a TokenStore, a URL for `open_store`, or None for a MemoryStore.
    identity: whose token: the key in the store.
    token: a first Token, a str (an access token) or an OAuth reply. Saved at
        the first use, and only if the store holds none.
    relogin: a callable `() ->` what a grant may return; called when refreshing
        is impossible or refused for good.
    ahead: seconds before its end at which a token is renewed in the background,
        at most half its life. None: a tenth of its life, at most 300 s, at
        least four times what the last refresh took, and up to a third earlier
        at random, so that a fleet does not refresh at once.
    leeway: seconds before its end at which a token counts as dead. None: 2 %
        of its life, at most 5 s.
    background: False: the first caller in a token's last part refreshes it and
        waits; the others go on with it.
    timeout: seconds; the longest that a caller waits, and that a round works.
    strikes: (n, seconds): after n refusals of just-issued tokens within so
        many seconds, no 401 refreshes until they have passed. None: no limit.
    on_refresh: called as `on_refresh(source, token)` after each refresh.
    on_logout: called once as `on_logout(source, error)` when the login is over.
        Both run after the outcome is public and outside every lock, on the
        round's thread; what they raise is logged.

    Raises ConfigurationError for settings that cannot be right. All methods
    may be called from any thread. A copy is the same source; a pickle carries
    no secret, and in the same process it is the same source again.
    """

    def __init__(
        self,
        grant: Grant,
        store: TokenStore | str | None = None,
        *,
        identity: str = "default",
        token: Token | Mapping[str, Any] | str | None = None,
        relogin: Callable[[], Any] | None = None,
        ahead: float | None = None,
        leeway: float | None = None,
        background: bool = True,
        timeout: float = 30.0,
        strikes: tuple[int, float] | None = (3, 30.0),
        on_refresh: Callable[[TokenSource, Token], object] | None = None,
        on_logout: Callable[[TokenSource, LoginRequired], object] | None = None,
    ) -> None:
        self.identity = identity  # first of all, as a traceback may show the repr of `self`
        settings: dict[str, Any] = {  # what pickles carry; a first token is a secret and no part
            "grant": grant,
            "store": store,
            "identity": identity,
            "relogin": relogin,
            "ahead": ahead,
            "leeway": leeway,
            "background": background,
            "timeout": timeout,
            "strikes": strikes,
            "on_refresh": on_refresh,
            "on_logout": on_logout,
        }
        handled = sys.exc_info()[1]
        try:
            settings["store"] = self._store = check_settings(**settings)
            first = None if token is None else as_login(token)
        except RefreshError as exc:
            del settings
            scrub(exc, handled)  # a token is a secret, and a store's URL may hold a password
            raise
        finally:
            del store, token
        self._settings = settings
        self._timeout, self._background = float(timeout), background
        self._on_refresh, self._on_logout = on_refresh, on_logout
        self._clock: Callable[[], float] = time.monotonic
        self._lock = threading.Lock()
        self._changing = threading.Lock()  # over a login or logout, its store included
        self._counts = dict.fromkeys(("refreshes", "failures", "replays", "unreplayable"), 0)
        self._strikes = Strikes(strikes, lambda: self._clock())
        self._place = Place(self._store, identity, lambda: self._clock())
        self._renewal = Renewal(
            grant,
            self._place,
            identity,
            first=first,
            relogin=relogin,
            lifetimes=Lifetimes(ahead, leeway, lambda: self._clock()),
            timeout=self._timeout,
            issued=self._note_issued,
        )
        self._jobs = lifecycle.Jobs(lambda: self._clock(), self._timeout)
        self._gate = Gate(
            self._work,
            after=self._after,
            forbid=self._strikes.forbid,
            clock=lambda: self._clock(),
            spawn=self._jobs.spawn,
        )
        self._renewal.serve(self._gate)
        self._note: Callable[[], None] = lambda: None
        self._key = uuid.uuid4().hex
        lifecycle.watch_work(self._key, self)

    def token(self, timeout: float | None = None) -> Token:
        """The current token, renewed first if it is dead. Never blocks while it lives.

        timeout: seconds to wait at most; None: the source's own.

        Raises LoginRequired, RefreshRefused, RefreshUnavailable, InvalidReply,
        StoreError or RefreshTimeout. Thread-safe.
        """
        token = self._fresh()
        return self._settle(self._deadline(timeout)).token if token is None else token

    def renew(self, stale: Token, timeout: float | None = None) -> Token:
        """A token in place of `stale`, which the API has refused. Blocks.

        Never refreshes when a living token other than `stale` is current: then
        that one is adopted. timeout and errors as for `token`, and RefreshLoop
        when too many just-issued tokens were refused. Thread-safe.
        """
        if not isinstance(stale, Token):
            del stale  # tracebacks with locals show no secret
            raise ConfigurationError("renew needs the Token that was refused.")
        return self._renew(stale, self._deadline(timeout)).token

    def login(self, token: Token | Mapping[str, Any] | str) -> None:
        """Use and store `token` from now on: a Token, an OAuth reply or an access token.

        Ends backoff and dead logins; who waits for a round gets this one.
        Blocks for the store. Raises InvalidReply or StoreError, and then
        nothing has changed. Thread-safe.
        """
        try:
            issue = as_login(token)
        finally:
            del token  # tracebacks with locals show no secret
        with self._changing:
            self._gate.replace(lambda: self._renewal.save_login(issue), None)
            self._note()
        self._strikes.reset()

    def logout(self, revoke: bool = False) -> None:
        """Forget the token, here and in the store. Whoever asks for it gets LoginRequired.

        revoke: have the provider end what it issued, too (RFC 7009), by the
            grant's `revoke(token)`. A renewal that runs is let end before.

        Blocks for store and provider. Raises StoreError, or ConfigurationError
        for a grant that cannot revoke, and nothing has changed then; RefreshError
        if only the provider did not or that renewal did not end. Thread-safe.
        """
        revoker = getattr(self._settings["grant"], "revoke", None)
        if revoke and revoker is None:
            raise ConfigurationError(
                "This grant cannot revoke tokens, and nothing has changed. Give it a"
                " revocation_url or a revoke(token) method, or log out without revoke."
            )
        ended = LoginRequired("The login was ended by logout(). Log in again, with login().")
        waited = not revoke or self._gate.within_round()
        alone, last = Holding(), list[Token]()
        try:
            if not waited:
                with suppress(StoreError):  # no room for a renewal, but maybe to clear it
                    waited = self._place.enter_exclusive(alone, self._timeout)
            with self._changing:
                self._gate.replace(lambda: self._renewal.forget(last, revoke), ended)
                self._note()
        finally:
            alone.leave(self.identity)
        if (failure := failure_of(revoker, last)) or not waited or alone.taken_over:
            said = "The login is ended here; what the provider issued may live on there."
            raise RefreshError(f"{said} {failure or 'A renewal did not end.'}") from failure

    def close(self) -> None:
        """Let a running round and a pending save end; blocks for `timeout` seconds at most.

        For workers that leave by `os._exit`; an ordinary exit does it by
        itself. The source may be used again afterwards. Thread-safe.
        """
        self._let_work_end(0.0)

    def begin_with(self, last: Known, note: Callable[[Gate], None]) -> None:
        """For a TokenPool: go on from there, in a new source; tell `note` of what comes next."""
        self._gate.current, self._gate.held = last
        self._note = partial(note, self._gate)

    @property
    def stats(self) -> Stats:
        """What was done in this process so far. Does not block."""
        return Stats(
            adoptions=self._gate.adoptions,
            waits=self._gate.waits,
            wait_seconds=self._gate.wait_seconds,
            strikes=self._strikes.count,
            **self._counts,
        )

    def __repr__(self) -> str:
        return f"<TokenSource {self.identity!r}>"

    def _fresh(self) -> Token | None:  # what is neither dead nor near its end
        current = self._gate.current
        if current is not None and self._clock() < current.ahead_at:
            return current.token
        return None

    def _deadline(self, timeout: float | None) -> float:
        seconds = self._timeout if timeout is None else timeout
        require(is_seconds(seconds), "timeout is not a number of seconds")
        return self._clock() + patience(seconds)

    def _settle(self, deadline: float, *, sure: bool = False) -> Outcome:
        """A token for a request to begin with; sure: not one in its last part, if possible."""
        gate, current = self._gate, self._gate.current
        if current is None or self._clock() >= current.dead_at:
            outcome = gate.get(None, deadline, self._limit())
            current = outcome.current
            if outcome.refreshed:
                return outcome
        if self._clock() < current.ahead_at:  # else it is near its end
            return Outcome(current, refreshed=False)  # renewed since the caller looked, or adopted
        started = gate.start(current.token, self._limit(), refused=False)
        if not sure and (self._background or not started):
            return Outcome(current, refreshed=False)
        with suppress(RefreshError):
            return gate.get(current.token, deadline, self._limit(), refused=False, may_start=False)
        current = gate.current
        if current is None or self._clock() >= current.dead_at:  # over, refused or at its end
            return gate.get(None, deadline, self._limit())
        return Outcome(current, refreshed=False)  # it lives: nobody notices

    def _for_request(self, deadline: float, *, sure: bool) -> Outcome:
        """As `_settle`; a dead token rather than an error: let the API decide about it."""
        if self._gate.holding() and (last := self._in_use()) is not None:
            return last
        try:
            return self._settle(deadline, sure=sure)
        except LoginRequired:
            raise
        except RefreshError:
            if (last := self._in_use()) is None:
                raise
            return last

    def _in_use(self) -> Outcome | None:
        """The token in use, dead or alive, if it can be sent at all."""
        current = self._gate.current
        if current is None or current.token.access_token is None:
            return None
        return Outcome(current, refreshed=False)

    def _renew(self, stale: Token, deadline: float, *, may_start: bool = True) -> Outcome:
        try:
            return self._gate.get(stale, deadline, self._limit(), may_start=may_start)
        except RefreshLoop as exc:
            if may_start:
                self._strikes.warn(self.identity, exc)
            raise

    def _could_help(self, stale: Token, refreshed: bool) -> bool:
        """Whether `_renew` has a chance; refreshed: this request had its one refresh."""
        loop = self._gate.hopeless(stale, may_start=not refreshed)
        if loop is not None and not refreshed:
            self._strikes.warn(self.identity, loop)
        return loop is None

    def _renew_without_waiting(self, stale: Token) -> None:
        self._count("unreplayable")
        self._strikes.strike_if_young(stale)
        self._gate.start(stale, self._limit(), refused=True)

    @property
    def _idle(self) -> bool:
        return self._jobs.idle and self._place.unsaved is None

    def _let_work_end(self, waited: float) -> None:
        deadline = self._place.give_up_at = self._clock() + self._timeout - waited
        self._jobs.wait(deadline)
        self._place.go_on_saving()  # what no thread could be started for
        if self._place.give_up_at == deadline:  # else another close() goes on
            self._place.give_up_at = math.inf

    def _limit(self) -> float:
        return self._clock() + self._timeout

    def _count(self, name: str) -> None:
        with self._lock:
            self._counts[name] += 1

    def _work(self, round_: Round) -> Outcome | None:
        try:
            with self._jobs.counted():
                return self._renewal.work(round_)
        finally:  # whatever becomes of the round and its callbacks
            if self._place.unsaved is not None:
                with suppress(RuntimeError):  # no thread: close() and the exit see to it
                    self._jobs.spawn(self._go_on_saving)

    def _go_on_saving(self) -> None:
        self._jobs.extend()
        self._place.go_on_saving()

    def _note_issued(self, token: Token) -> None:
        self._strikes.issued(token)
        self._count("refreshes")

    def _after(self, round_: Round) -> None:
        """The outcome is public and the waiters are awake: log and call back."""
        outcome, error = round_.outcome, round_.error
        self._note()
        if outcome is not None and outcome.refreshed:
            telemetry.round_ended("refreshed")
            log.info("%s: token refreshed", self.identity)
            self._call_back(self._on_refresh, outcome.token)
        elif outcome is not None:
            telemetry.round_ended("adopted")
            log.debug("%s: token adopted", self.identity)
        elif error is not None and round_.held is None:
            self._count("failures")
            telemetry.round_ended("login_lost" if isinstance(error, LoginRequired) else "failed")
            if isinstance(error, LoginRequired):
                log.error("%s: the login is over: %s", self.identity, error)
                self._call_back(self._on_logout, error.own_copy())
            else:
                log.warning("%s: no new token: %s", self.identity, error)

    def _call_back(self, hook: Callable[..., object] | None, value: object) -> None:
        if hook is None:
            return
        try:
            hook(self, value)
        except Exception:
            log.exception("%s: a callback failed; the outcome stands", self.identity)

    def __deepcopy__(self, memo: object = None) -> TokenSource:
        return self

    __copy__ = __deepcopy__

    def __reduce__(self) -> tuple[Any, ...]:
        return _revive, (self._key, self._settings)

    def _after_fork_in_child(self) -> None:
        self._lock, self._changing = threading.Lock(), threading.Lock()
        self._gate.reset()
        self._jobs.reset()
        self._strikes.after_fork()
        self._renewal.after_fork()


def _revive(key: str, settings: dict[str, Any]) -> TokenSource:
    """The source of a pickle: the very same one in its own process, else a new one."""
    source: TokenSource | None = lifecycle.find(key)
    if source is None:
        source = TokenSource(**settings)
        source._key = key
        lifecycle.watch_work(key, source)
    return source
