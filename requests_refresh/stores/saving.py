"""One identity's place in a store, and what could not be saved there yet.

What a provider issues may be the only refresh token of a login. A `Place`
keeps it in mind until the store has it, and never puts it over a newer one.
Whatever a store raises leaves here as one of our errors, with no secret on it.
"""

from __future__ import annotations

import logging
import math
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from typing import Any, TypeVar

from ..errors import LoginRequired, RefreshTimeout, StoreConflict, StoreError, scrub
from ..tokens import Token
from .base import ANY, Lease, Replacing, TokenStore

log = logging.getLogger("requests_refresh")
_T = TypeVar("_T")

# Seconds between two tries to save. Short, because a store that is back is a race: whoever
# finds the old token there first spends it.
_FIRST_PAUSE, _LONGEST_PAUSE = 0.02, 0.1
_TAKES = 5  # tries to remove what others go on replacing; then it is removed unseen


class Holding(ExitStack):
    """Leaves `exclusive` when it is closed, and knows how to ask whether it still holds."""

    lease: Lease | None = None
    taken_over = False  # whether the last holder ended in the middle, so far as the store can tell

    def leave(self, identity: str) -> None:
        """Leave it. A failure is logged: what was done in there is done, so it counts."""
        try:
            self.close()
        except Exception as exc:
            log.warning("%s: leaving exclusive failed: %s", identity, type(exc))


class Place:
    """Where the token of one identity is stored. Any thread may use it.

    clock: a monotonic clock, in seconds.
    """

    def __init__(self, store: TokenStore, identity: str, clock: Callable[[], float]) -> None:
        self.store = store
        self._identity = identity
        self._clock = clock
        #: What was issued and is not stored yet, what it is to replace, and what is older.
        self.unsaved: tuple[Token, Token | None, Callable[[Token], bool]] | None = None
        self.give_up_at = math.inf  # when to stop trying to save that

    def load(self) -> Token | None:
        return self._call(self._load)

    def _load(self) -> Token | None:
        found: object = self.store.load(self._identity)
        if found is None or isinstance(found, Token):
            return found
        raise StoreError(
            f"{type(self.store).__name__}.load returned {type(found).__name__}, which is neither a"
            " Token nor None. Make one of it with Token.from_mapping."
        )

    def save(self, token: Token, *, replacing: Replacing = ANY) -> None:
        self._call(self.store.save, self._identity, token, replacing=replacing)

    def delete(self, *, replacing: Replacing = ANY) -> None:
        self._call(self.store.delete, self._identity, replacing=replacing)

    def take_out(self, look: bool) -> list[Token]:
        """Remove what is stored. If we `look`: what that was, as others may save until then."""
        found: list[Token] = []
        for _ in range(_TAKES * look):
            stored = self.load()
            if stored is not None:
                found.append(stored)
            with suppress(StoreConflict):
                self.delete(replacing=stored)
                return found
        self.delete()
        return found

    def wait(self, timeout: float) -> None:
        self._call(self.store.wait, self._identity, timeout)

    def enter_exclusive(self, holding: Holding, timeout: float) -> bool:
        """Enter it, to be left by `holding`; whether that could be done in `timeout` seconds."""

        def enter() -> bool:
            exclusive = self.store.exclusive(self._identity, timeout)
            try:
                holding.lease = holding.enter_context(exclusive)
                holding.taken_over = bool(getattr(holding.lease, "taken_over", False))
            except RefreshTimeout:
                return False
            return True

        return self._call(enter)

    def assure(self, holding: Holding, seconds: float) -> bool:
        """Whether `exclusive` was not lost, and will not be for so long; see `Lease`."""
        lease = holding.lease
        held = lease is None or bool(self._call(lambda: lease.assure(seconds)))
        if not held:
            time.sleep(_LONGEST_PAUSE)  # whoever loses it each time asks no more often than that
        return held

    def keep(
        self,
        issued: Token,
        replacing: Token | None,
        *,
        is_older: Callable[[Token], bool],
        give_up: float,
    ) -> bool:
        """Save what was just issued in place of `replacing`. False: there is a newer one.

        is_older: whether a token that is found there is older than `issued`.
        give_up: when to leave it in memory, in `unsaved`, if it cannot be saved.

        Raises LoginRequired if `replacing` held a refresh token and is gone.
        """
        ends_with_it = replacing is not None and replacing.refresh_token is not None
        self.unsaved = (
            issued,
            replacing,
            is_older,
        )  # whatever comes, Ctrl-C too, it is not forgotten
        pause = _FIRST_PAUSE
        while True:
            began = self._clock()
            try:
                there = self._swap(issued, replacing)
            except StoreError as exc:
                problem = exc
            else:
                if there is None and ends_with_it:
                    self.unsaved = None
                    raise LoginRequired(
                        "The login was ended elsewhere while it was being refreshed. Log in again."
                    )
                if there is issued or (there is not None and not is_older(there)):
                    self.unsaved = None
                    return there is issued
                problem = StoreConflict("What was to be replaced has changed.")
                self.unsaved, replacing = (issued, there, is_older), there
            now = self._clock()
            left = give_up - now - (now - began)  # the next try may hang for as long as this one
            if left <= 0:
                log.error(
                    "%s: a new token could not be stored and is in memory only; still trying."
                    " If this process ends before, the login may be lost: %s",
                    self._identity,
                    problem,
                )
                return True
            time.sleep(min(pause, left))
            pause = min(_LONGEST_PAUSE, pause * 2)

    def save_unsaved(self) -> None:
        """Try once to store what could not be stored before. Raises StoreError if it cannot."""
        pending = self.unsaved
        if pending is None:
            return
        token, replacing, is_older = pending
        there = self._swap(token, replacing)
        if there is not None and there is not token and is_older(there):
            if self.unsaved is pending:
                self.unsaved = token, there, is_older
            raise StoreConflict("An older token came back in the store; it will be replaced.")
        if there is None and replacing is not None and replacing.refresh_token is None:
            if self.unsaved is pending:
                self.unsaved = token, None, is_older
            raise StoreConflict("What was to be replaced has expired; it will be stored anew.")
        if there is not token:
            log.warning("%s: another token was stored meanwhile; it counts", self._identity)
        if self.unsaved is pending:
            self.unsaved = None

    def go_on_saving(self) -> None:
        """Block until what could not be stored is, or is the newest no longer."""
        pause = _FIRST_PAUSE
        while self.unsaved is not None and self._clock() < self.give_up_at:
            try:
                self.save_unsaved()
            except StoreError:
                time.sleep(pause)
                pause = min(_LONGEST_PAUSE, pause * 2)

    def _swap(self, token: Token, replacing: Replacing) -> Token | None:
        """Save it in place of `replacing`. What is there then: `token`, or what was in the way."""
        try:
            self.save(token, replacing=replacing)
        except StoreConflict:
            there = self.load()
            # A save whose answer was lost may have come through.
            return token if there is not None and there.same_issue(token) else there
        return token

    def _call(self, method: Callable[..., _T], *args: Any, **kwargs: Any) -> _T:
        """Call the store; what it raises that is not for us to see becomes a StoreError."""
        handled = sys.exc_info()[1]
        try:
            return method(*args, **kwargs)
        except StoreError as exc:
            error = exc
        except Exception as exc:
            error = StoreError(
                f"{type(self.store).__name__} failed with {type(exc).__name__}. What it holds is"
                " as it was. See whether it can be reached."
            )
            error.__cause__ = exc
        except BaseException as exc:  # Ctrl-C: the caller's own, and the values are not
            scrub(exc, handled)
            raise
        raise scrub(error, handled)
