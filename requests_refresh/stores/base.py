"""The store contract: what a place for tokens promises to whoever shares it.

A subclass gives `load`, `save` and `delete`, and has exclusion between the
threads of its process from here. A store that several processes share
overrides `exclusive`, and `wait` where it can be told of a change.
"""

from __future__ import annotations

import enum
import functools
import os
import sys
import threading
import time
import weakref
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any, Final, Literal, Protocol, TypeVar, cast

from ..errors import ConfigurationError, RefreshTimeout, StoreError, scrub
from ..tokens import Token

_F = TypeVar("_F", bound=Callable[..., Any])


class _Anything(enum.Enum):
    ANY = "ANY"


ANY: Final = _Anything.ANY
Replacing = Token | Literal[_Anything.ANY] | None


def may_go(stored: Token | None, replacing: Replacing) -> bool:
    """Whether `stored` may be replaced or removed, by the rule of `save` and `delete`."""
    if replacing is ANY or stored is replacing:
        return True
    return stored is not None and stored.same_issue(replacing)


def checked(method: _F) -> _F:
    """For the methods of a store: refuse what cannot be meant, and let no frame out with a secret.

    A None in place of a token is no wish to delete, and what is no Token may be
    a secret. Ctrl-C and other signals come from anywhere, where values are at hand.
    """

    @functools.wraps(method)
    def call(self: TokenStore, identity: str, *args: Any, **settings: Any) -> Any:
        handled = sys.exc_info()[1]
        problem = _problem_of(method.__name__, identity, args, settings)
        if problem is not None:
            del args, settings  # tracebacks with locals show no secret
            raise ConfigurationError(f"{problem}. Nothing was changed.")
        try:
            return method(self, identity, *args, **settings)
        except BaseException as error:
            scrub(error, handled)
            raise

    return cast(_F, call)


def _problem_of(name: str, identity: object, args: Any, settings: Any) -> str | None:
    if not isinstance(identity, str):
        return f"identity is no text but of the type {type(identity).__name__}"
    given = args[0] if args else settings.get("token" if name == "save" else "timeout")
    if name == "save" and not isinstance(given, Token):
        return f"What was to be saved is no Token but of the type {type(given).__name__}"
    replacing = settings.get("replacing", ANY)
    if replacing is not ANY and not isinstance(replacing, Token | None):
        return "replacing is no Token, nor None or ANY"
    if name in ("exclusive", "wait") and (
        isinstance(given, bool) or not isinstance(given, (int, float)) or given != given
    ):
        return "timeout is no number of seconds"
    return None


class Lease(Protocol):
    """What `exclusive` may yield where a holder can lose his place while he lives.

    It may have an attribute `taken_over` as well: whether the last holder never
    gave his place back, because he was killed, or stopped for too long. What
    came of a refresh that he had begun is not known then.
    """

    def assure(self, seconds: float) -> bool:
        """Whether nobody else holds the identity, now and for the `seconds` to come.

        False: it was lost, and another may hold it. Raises StoreError where
        that cannot be found out. Asked before a refresh token is spent.
        """


class TokenStore(ABC):
    """Where tokens live, by identity. Every method may be called from any thread.

    Two tokens are the same when `Token.same_issue` says so. Every method may
    block for I/O and raises StoreError, never a backend's own exception, when
    the store is unreachable, corrupt, full or not private.
    """

    #: A sentence for the user that a source adds when it finds no usable login
    #: here, for example what became of it; empty where there is nothing to say.
    note: str = ""

    def __new__(cls, *args: Any, **kwargs: Any) -> TokenStore:
        # Here, not in __init__, so that a subclass need not call super().__init__().
        self = super().__new__(cls)
        self._exclusion = Exclusion()
        return self

    _exclusion: Exclusion

    @abstractmethod
    def load(self, identity: str) -> Token | None:
        """The token stored for `identity`, or None."""

    @abstractmethod
    def save(self, identity: str, token: Token, *, replacing: Replacing = ANY) -> None:
        """Store `token` for `identity`; when this returns it is durable.

        replacing: a token: only if that one is still there; None: only if
        nothing is there; ANY: whatever is there. Raises StoreConflict, with
        the stored token as it was, if something else is there.
        """

    @abstractmethod
    def delete(self, identity: str, *, replacing: Replacing = ANY) -> None:
        """Remove what is stored for `identity`; nothing there is no error.

        replacing: as in `save`; raises StoreConflict likewise.
        """

    def exclusive(self, identity: str, timeout: float) -> AbstractContextManager[Lease | None]:
        """Hold `identity` for oneself, over all that share the store.

        timeout: seconds to wait for it, 0 for a single try. Entering raises
        RefreshTimeout when the time is over, and StoreError when a `save`
        inside could not succeed. Not reentrant. Yields a Lease where it can be
        lost, else None. This one excludes threads of one process only.
        """
        return self._exclusion(identity, timeout)

    def wait(self, identity: str, timeout: float) -> None:
        """Block until the stored token may have changed, `timeout` seconds at most.

        May return at any time before, and does so soon where it would not hear
        that `exclusive` is free again. This one sleeps for 50 ms at most.
        """
        time.sleep(max(0.0, min(timeout, 0.05)))

    def identities(self) -> Iterable[str]:
        """The identities that are stored, in no order. Blocks.

        Raises StoreError where the store cannot list them, as this one does.
        """
        raise StoreError(
            f"A {type(self).__name__} cannot list what it holds. Nothing was changed. Name the"
            " identities."
        )

    def close(self) -> None:  # most stores hold nothing open
        """Release what the store holds open. It opens again at its next use."""


class Exclusion:
    """One holder for each identity among the threads of this process.

    Fork-safe: a child starts with nothing held. A pickle or copy of it is a
    new one.
    """

    def __init__(self) -> None:
        self._reset()
        _exclusions.add(self)

    def _reset(self) -> None:
        self._guard = threading.Lock()
        self._locks: dict[str, _Counted] = {}  # guarded by _guard; only those in use

    @contextmanager
    def __call__(self, identity: str, timeout: float) -> Iterator[None]:
        with self._guard:
            lock = self._locks.setdefault(identity, _Counted())
            lock.users += 1
        try:
            if not lock.acquire(timeout=max(0.0, min(timeout, threading.TIMEOUT_MAX))):
                raise RefreshTimeout(
                    f"Another thread went on holding {identity!r} in this store."
                    " Nothing was changed; try again, or allow more time."
                )
            try:
                yield
            finally:
                lock.release()
        finally:
            with self._guard:
                lock.users -= 1
                if not lock.users and self._locks.get(identity) is lock:
                    del self._locks[identity]

    def __reduce__(self) -> tuple[type[Exclusion], tuple[()]]:
        return Exclusion, ()


class _Counted:
    """A lock, and how many hold or await it."""

    def __init__(self) -> None:
        lock = threading.Lock()
        self.acquire = lock.acquire
        self.release = lock.release
        self.users = 0


_exclusions: weakref.WeakSet[Exclusion] = weakref.WeakSet()


def _after_fork_in_child() -> None:
    for exclusion in list(_exclusions):
        exclusion._reset()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
