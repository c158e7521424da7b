"""`SharedStore`: what the stores on a server have in common.

A backend reads one value, swaps one value, and keeps a lease; everything else
is here: comparing and swapping by issue, exclusion between threads, processes
and hosts, waiting for a change, and errors that hold no secret.

- A save compares what is stored by its issue, then swaps the very value that
  it looked at; it looks again if that has changed in between.
- `exclusive` is a lease that its holder renews (see leases.py); threads of one
  process queue for it in the process. Taking it writes to the server, and so
  proves that a save can succeed.
- What a driver raises holds parameters, and so tokens: it never gets out of
  here, only a StoreError that says in words what happened.
"""

from __future__ import annotations

import logging
import math
import threading
import time
from abc import abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, Final, NamedTuple, TypeVar

from .. import lifecycle
from ..errors import ConfigurationError, RefreshError, RefreshTimeout, StoreConflict, StoreError
from ..tokens import Token
from .base import ANY, Replacing, TokenStore, checked, may_go
from .leases import LOST, Held, new_owner
from .notices import LONG, Listener, Notices
from .values import Encryption, Values

log = logging.getLogger("requests_refresh")
_T = TypeVar("_T")

_SWAPS: Final = 100  # tries of one save among others', before it gives up
_LONG_WAIT: Final = 1.0  # seconds for an answer that does not come
_SETTLE: Final = 0.5  # seconds; several times what passes between two tries to save
LONGEST_LEASE: Final = 3600  # seconds


class Cell(NamedTuple):
    """What is stored for one identity."""

    text: str
    mark: str  # another one after every change


class SharedStore(TokenStore):
    """A base for stores on a server.

    lease: seconds for which `exclusive` outlives a holder who was killed.
    encryption: an Encryption, or None to store tokens as they are.
    listen: as `Notices` takes it.
    """

    def __init__(
        self,
        *,
        lease: float,
        encryption: Encryption | None,
        listen: Callable[[Listener], None] | None,
    ) -> None:
        if isinstance(lease, bool) or not isinstance(lease, (int, float)):
            raise ConfigurationError("lease must be a number of seconds.")
        if not 0.05 <= lease <= LONGEST_LEASE:
            raise ConfigurationError(
                f"A lease of {lease!r} s cannot be kept: give it seconds, enough for what the"
                f" provider may take to answer, {LONGEST_LEASE:.0f} at most."
            )
        self._lease = float(lease)
        self._values = Values(encryption)
        self._notices = Notices(listen)
        # Of each thread. last: identity and mark of its last load; silent: whether the server
        # let it wait for the last answer in vain.
        self._seen = threading.local()
        self._away, self._back_at = False, -math.inf  # the server; when it was back
        self._doubtful: dict[str, str] = {}  # owners of leases that may have been taken, unheard
        self._making = threading.Lock()  # over the making of what connects to the server
        lifecycle.watch(self)

    # ------------------------------------------- what a backend gives; each may
    # raise whatever its library raises

    @abstractmethod
    def _read(self, identity: str) -> Cell | None:
        """What is stored."""

    @abstractmethod
    def _swap(self, identity: str, old: Cell | None, new: str | None, life: float | None) -> bool:
        """Put `new` (None: nothing) in place of `old`, durably, and tell who listens.

        life: seconds after which it may be dropped, or None for never. False:
        something else is there than `old`, and it is as it was.
        """

    @abstractmethod
    def _acquire(self, identity: str, owner: str) -> int:
        """Take the lease if it is free, or `owner` has it already.

        0: another has it. 1: taken. 2: taken, and the last holder had not given it back.
        """

    @abstractmethod
    def _extend(self, identity: str, owner: str) -> bool:
        """Begin the lease anew if `owner` has it."""

    @abstractmethod
    def _release(self, identity: str, owner: str) -> bool:
        """Give the lease back and tell who listens. False: `owner` did not have it any more."""

    @abstractmethod
    def _key(self, identity: str) -> str:
        """What the server's notices call it."""

    @abstractmethod
    def _where(self, identity: str) -> str:
        """Where it is stored, for an error: "the key 'x' in Redis". No secret."""

    @abstractmethod
    def _reason(self, error: Exception) -> str:
        """What the library's error says, without any value that was sent."""

    @abstractmethod
    def _is_away(self, error: Exception) -> bool:
        """Whether it tells that the server could not be reached."""

    # --------------------------------------------------------- the contract

    @checked
    def load(self, identity: str) -> Token | None:
        found = self._look(identity)
        if isinstance(found, StoreError):
            raise found
        return found

    @checked
    def save(self, identity: str, token: Token, *, replacing: Replacing = ANY) -> None:
        if (problem := self._change(identity, token, replacing)) is not None:
            raise problem

    @checked
    def delete(self, identity: str, *, replacing: Replacing = ANY) -> None:
        if (problem := self._change(identity, None, replacing)) is not None:
            raise problem

    @checked
    @contextmanager
    def exclusive(self, identity: str, timeout: float) -> Iterator[Held]:
        """Hold `identity` among all that share the store; see `TokenStore.exclusive`.

        It is a lease, renewed while this process lives. What it yields can
        `assure` that it is still held.
        """
        deadline = time.monotonic() + timeout
        with self._exclusion(identity, timeout):
            if (problem := self._values.problem) is not None:
                raise StoreError(f"Nothing can be stored as {self._where(identity)}. {problem}")
            held = self._obtain(identity, deadline)
            try:
                held.keep()
                yield held
            finally:
                held.let_go()
                # A server that does not answer is not asked: whoever waits for us waits for that.
                silent = getattr(self._seen, "silent", False)
                if not (held.inherited or held.lost or silent):
                    self._give_back(held)

    @checked
    def wait(self, identity: str, timeout: float) -> None:
        """Block until the stored token may have changed, `timeout` seconds at most.

        Compared with what this thread last loaded, so that nothing which comes
        between the `load` and the `wait` is missed.
        """
        seen, mark = getattr(self._seen, "last", (None, None))
        if seen != identity:
            mark = self._mark(identity)
        self._notices.wait(self._key(identity), lambda: self._mark(identity) == mark, timeout)

    def close(self) -> None:
        """Release the connections. They are made again at the next use."""
        self._notices.close()

    # What touches a value returns its errors, and a caller that has never seen
    # the value raises them: tracebacks show the values of locals.

    def _look(self, identity: str) -> Token | StoreError | None:
        self._seen.last = (None, None)
        cell = self._try(identity, self._read, identity)
        if isinstance(cell, StoreError):
            return cell
        self._seen.last = identity, cell and cell.mark
        return None if cell is None else self._token_of(identity, cell)

    def _change(
        self, identity: str, token: Token | None, replacing: Replacing
    ) -> RefreshError | None:
        new, life = None, None
        if token is not None:
            new = self._values.pack(identity, token)
            if new is None:
                return StoreError(
                    f"Nothing can be stored as {self._where(identity)}. {self._values.why_not()}"
                )
            if token.refresh_token is None and token.expires_at is not None:
                life = max(0.0, token.expires_at - time.time())
        for tries in range(_SWAPS):
            cell = self._try(identity, self._read, identity)
            if isinstance(cell, StoreError):
                return cell
            if tries and (cell and cell.text) == new:
                return None  # an answer was lost on its way, and it had been done
            stored = None if cell is None else self._token_of(identity, cell)
            if isinstance(stored, StoreError):
                return stored
            if not may_go(stored, replacing):
                return StoreConflict(
                    f"Something else is stored as {self._where(identity)} than what was to be"
                    " replaced. It is as it was; load it and go on from there."
                )
            if cell is None and new is None:
                return None
            swapped = self._try(identity, self._swap, identity, cell, new, life)
            if isinstance(swapped, StoreError):
                return swapped
            if swapped:
                return None
        return StoreError(
            f"What is stored as {self._where(identity)} went on changing, {_SWAPS} times, while"
            " it was to be replaced. It is intact. Look for what writes there in a loop."
        )

    def _token_of(self, identity: str, cell: Cell) -> Token | StoreError:
        token = self._values.unpack(identity, cell.text)
        if isinstance(token, Token):
            return token
        return StoreError(
            f"What is stored as {self._where(identity)} cannot be used: {token}. It is as it was,"
            " and is not written to either. Mend that or move it away, and log in again."
        )

    def _mark(self, identity: str) -> str | None:
        """What tells one state of it from others; an error counts as a change."""
        cell = self._try(identity, self._read, identity)
        if isinstance(cell, StoreError):
            time.sleep(LONG / 10)  # whoever asks in a loop
            return "?"
        return cell and cell.mark

    def _obtain(self, identity: str, deadline: float) -> Held:
        owner, taken = self._doubtful.pop(identity, None) or new_owner(), 0

        def is_held() -> bool:
            nonlocal taken
            answer = self._try(identity, self._acquire, identity, owner)
            if isinstance(answer, StoreError):
                self._doubtful[identity] = owner
                raise answer
            taken = answer
            return not taken

        self._settle(identity, deadline)
        while is_held():
            left = deadline - time.monotonic()
            if left <= 0:
                raise RefreshTimeout(
                    f"Another process or host went on holding {self._where(identity)}. Nothing"
                    " was changed; try again, or allow more time."
                )
            # Tried once more when a release will be heard: one may have come just now.
            self._notices.wait(self._key(identity), is_held, left)
            if taken:
                break
        if taken == 2:  # who had it may be cut off only, and save as soon as he can
            time.sleep(min(_SETTLE, self._lease / 2))
        length, extend = self._lease, self._extend_or_raise
        return Held(identity, owner, length, extend, taken_over=taken == 2)

    def _settle(self, identity: str, deadline: float) -> None:
        """Let those whose leases ended while the server was away save what they hold first."""
        settled = self._back_at + _SETTLE
        if (pause := min(settled, deadline) - time.monotonic()) > 0:
            time.sleep(pause)
        if settled > deadline:
            raise RefreshTimeout(
                f"The server of {self._where(identity)} has just come back, and others may have to"
                " save there first. Nothing was changed; try again."
            )

    def _extend_or_raise(self, identity: str, owner: str) -> bool:
        kept = self._try(identity, self._extend, identity, owner)
        if isinstance(kept, StoreError):
            raise kept
        return kept

    def _give_back(self, held: Held) -> None:
        given = self._try(held.identity, self._release, held.identity, held.owner)
        if isinstance(given, StoreError):  # it ends by itself
            log.debug("%s: its lease could not be given back: %s", held.identity, given)
        elif not given:
            log.warning(LOST, held.identity)

    def _try(self, identity: str, work: Callable[..., _T], *args: Any) -> _T | StoreError:
        """What `work` returns, or its error in words that are fit to be seen."""
        began, self._seen.silent = time.monotonic(), False
        try:
            result = work(*args)
        except StoreError as error:
            return error.with_traceback(None)
        except RefreshError as error:
            return StoreError(str(error))
        except Exception as error:
            self._away = self._away or self._is_away(error)
            reason = self._reason(error)
        else:
            if self._away:
                self._away, self._back_at = False, time.monotonic()
            return result
        self._seen.silent = time.monotonic() - began > _LONG_WAIT
        return StoreError(
            f"{self._where(identity)} could not be reached or used ({reason}). What is stored is"
            " intact. See to the server and try again."
        )

    def _after_fork_in_child(self) -> None:
        self._doubtful = {}  # two processes must not be one owner
        self._notices.reset()
        self._making = threading.Lock()

    def _rebuild(self, *args: Any, **settings: Any) -> tuple[Any, ...]:
        """What a pickle holds: how to make the store anew."""
        return partial(type(self), **settings), args
