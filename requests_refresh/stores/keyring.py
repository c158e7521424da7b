"""`KeyringStore`: tokens in the operating system's keychain, by the `keyring` library.

What it guarantees:

- **Seen to be stored.** Each save and delete is read back. A keychain that
  discards, cuts or refuses what it is given is a StoreError that says so, and
  what was stored before is looked for, and put back where it is gone.
- **One after the other.** The KeyringStores of a user ask the keychain one at a
  time, under one file lock: changes compare and swap, keychains that write in
  place are never read half written, and GNOME Keyring (42), which fails now and
  then and may die where several ask at once, is asked by one. `exclusive` is
  another lock, one for each identity. Both are the kernel's and end with their
  process. They lie in a private directory, which all that share a keychain must
  share: with other `locks` or `XDG_STATE_HOME` a process excludes nobody.
- **Silent.** What a keychain raises is told by its type alone, because its
  message may quote what it was given.

Each identity is one entry, `token:` and the identity with all but `a-z0-9-._`
percent-encoded, or its SHA-256 where that is long. An entry `probe` comes and
goes. How safe a stored token is, and whether a crash in the middle of a write
leaves the old one, is up to the keychain: the Secret Service (GNOME Keyring,
KeePassXC) replaces an entry in one step; macOS deletes and then adds; plain
files of `keyrings.alt` are rewritten in place, unencrypted.

Verified with GNOME Keyring and with keyrings.alt. Nothing of it has been
verified on macOS, on Windows or with KWallet; Windows takes 1280 characters at
most, which is less than many a JWT has. keyring's Secret Service backend opens
a connection for each call and so survives a fork; libsecret's and KWallet's
keep one open, which a fork shares.
"""

from __future__ import annotations

import hashlib
import os
import re
import secrets
import string
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from typing import TYPE_CHECKING, Any, Final, TypeVar
from urllib.parse import unquote

from ..errors import ConfigurationError, RefreshTimeout, StoreConflict, StoreError
from ..tokens import Token
from . import private
from .base import ANY, Exclusion, Replacing, TokenStore, checked, may_go
from .values import Values

if TYPE_CHECKING:
    from keyring.backend import KeyringBackend

_T = TypeVar("_T")

_MARGIN: Final = 128  # characters that a save may add; more would shut out Windows' 1280
_PATIENCE = 10.0  # seconds to wait for a lock that is held for milliseconds
_LONGEST_WAIT = 0.25  # seconds; the holder may have been killed, or a user have changed an entry
_PROBE: Final = "probe"
# No capitals: there are keychains for which a and A are one name.
_PLAIN: Final = frozenset((string.ascii_lowercase + string.digits + "-._").encode())
_LONGEST_NAME: Final = 200  # characters; Windows takes 513

# Those that keyring's backends raise on purpose, by name, so that keyring is not needed here.
_TOLD: Final = {
    "NoKeyringError": "there is no keychain here. On Linux one needs a session with D-Bus and a"
    " Secret Service in it, such as gnome-keyring; where there is none, take another store",
    "KeyringLocked": "it is locked, and nobody unlocked it. Unlock it, and try again",
    "InitError": "it could not be opened. See whether it runs and is unlocked",
    "PasswordSetError": "it refused to store anything. See whether it is unlocked and has room",
    "PasswordDeleteError": "it refused to delete. See whether it is unlocked",
}


class KeyringStore(TokenStore):
    """Tokens in the keychain of the user, for all his processes on a host.

    service: the name under which the entries are found in the keychain, for
        example that of your program.
    backend: a keyring backend, an object and not its class; None takes the one
        that keyring chooses (`keyring.get_keyring()`), when it is first used.
    locks: a directory for the locks, made with mode 0700 where it is missing.
        One that exists must be yours and not writable by others. None takes
        platformdirs' `user_state_dir("requests_refresh")`.

    Raises ConfigurationError for wrong arguments, and where keyring is missing:
    pip install "requests_refresh[keyring]". Safe for any thread, and after a
    fork as far as the backend is. Everything may block: a keychain that is
    locked asks its user, and neither `timeout` nor anything else ends that.
    Made for the few logins of a user, not for thousands.

    A pickle or copy holds the arguments, so one with a `backend` pickles only
    if that does, and holds what that holds: none that keeps a password, please.
    """

    def __init__(
        self,
        service: str,
        *,
        backend: KeyringBackend | None = None,
        locks: str | os.PathLike[str] | None = None,
    ) -> None:
        try:
            import keyring.backend
            import platformdirs
        except ImportError:
            raise ConfigurationError(
                "A KeyringStore needs keyring and platformdirs:"
                ' pip install "requests_refresh[keyring]".'
            ) from None
        if not isinstance(service, str) or not service.strip() or not service.isprintable():
            raise ConfigurationError(
                "A KeyringStore needs the name of a service, a text that can be printed,"
                " such as KeyringStore('my-program')."
            )
        if backend is not None and not isinstance(backend, keyring.backend.KeyringBackend):
            raise ConfigurationError(
                "backend must be an object of a class of keyring's, such as"
                " keyring.backends.SecretService.Keyring(), or None for the one keyring chooses."
            )
        if locks is None:
            locks = platformdirs.user_state_dir("requests_refresh", appauthor=False)
        if not isinstance(locks, (str, os.PathLike)) or not os.fspath(locks):
            raise ConfigurationError("locks must be the path of a directory, or None.")
        self._service = service
        self._given = backend
        self._directory = os.path.abspath(os.path.expanduser(os.fspath(locks)))
        self._lock = os.path.join(self._directory, "keyring.lock")
        self._writing = Exclusion()  # in front of the file's lock: threads queue, they don't poll
        self._values = Values()
        self._seen = threading.local()  # .mark: of the last change before this thread's last load
        # What a failed write destroyed, by identity: still to be replaced. Under _lock.
        self._destroyed: dict[str, Token] = {}

    @checked
    def load(self, identity: str) -> Token | None:
        """The token stored for `identity`, or None; see `TokenStore.load`.

        Raises StoreError for an entry that is no token of this identity, and
        leaves it as it is.
        """
        self._seen.mark = self._mark()
        found = self._locked(lambda: self._look(identity)[0])
        if isinstance(found, StoreError):
            raise found
        return found

    @checked
    def save(self, identity: str, token: Token, *, replacing: Replacing = ANY) -> None:
        self._change(identity, token, replacing)

    @checked
    def delete(self, identity: str, *, replacing: Replacing = ANY) -> None:
        self._change(identity, None, replacing)

    @checked
    @contextmanager
    def exclusive(self, identity: str, timeout: float) -> Iterator[None]:
        """Hold `identity` among all processes of the user; see `TokenStore.exclusive`.

        Entering proves that a save can succeed: another entry, as long as the
        stored one and 128 characters more, is written, read back and removed.
        That may take up to 10 s beyond `timeout` where others are writing.
        """
        deadline = time.monotonic() + timeout
        with self._exclusion(identity, timeout):
            private.prepare_directory(self._directory)
            held = False
            try:
                with private.locked(self._lock_of(identity), deadline):
                    problem = self._locked(lambda: self._prove_room(identity))
                    if problem is not None:
                        raise problem
                    held = True
                    yield
            finally:
                if held:
                    self._tell()

    @checked
    def wait(self, identity: str, timeout: float) -> None:
        """Block until a KeyringStore of this user has changed an entry or left `exclusive`.

        250 ms at most. Looks at the file of the lock, which costs nothing; a
        keychain has milliseconds of work each time. See `TokenStore.wait`.
        """
        deadline = time.monotonic() + min(timeout, _LONGEST_WAIT)
        mark = getattr(self._seen, "mark", None)
        seen = self._mark() if mark is None else mark
        while self._mark() == seen and (left := deadline - time.monotonic()) > 0:
            time.sleep(min(private.POLL, left))

    # What touches the text of an entry returns its errors, and a caller that
    # has never seen the text raises them: tracebacks show the values of locals.

    def _change(self, identity: str, token: Token | None, replacing: Replacing) -> None:
        problem = self._locked(lambda: self._swap(identity, token, replacing))
        if problem is not None:
            raise problem

    def _locked(self, work: Callable[[], _T]) -> _T | StoreError:
        """Do it while nobody else asks the user's keychain for anything."""
        private.prepare_directory(self._directory)
        deadline = time.monotonic() + _PATIENCE
        try:
            with self._writing("", _PATIENCE), private.locked(self._lock, deadline):
                return work()
        except RefreshTimeout:
            return StoreError(
                f"Another process kept the keychain busy: {self._lock!r} stayed locked for"
                f" {_PATIENCE:.0f} s. Nothing was changed. Answer the keychain if it asks for a"
                " password, or end a process that was stopped, and try again."
            )

    def _look(self, identity: str) -> tuple[Token | StoreError | None, str | None]:
        """What is stored: the token, or what is wrong; and the text of the entry."""
        text, problem = self._get(_name_of(identity))
        if problem is not None:
            return self._failed(identity, "read", problem), None
        return (None if text is None else self._entry(identity, text)), text

    def _entry(self, identity: str, text: str) -> Token | StoreError:
        found = self._values.unpack(identity, text)
        if isinstance(found, Token):
            return found
        return StoreError(
            f"The entry {_name_of(identity)!r} of the service {self._service!r} in the keychain,"
            f" for {identity!r}, cannot be used: {found}. It is as it was, and is not written to"
            " either. Delete it with the keychain's own program, and log in again."
        )

    def _swap(self, identity: str, token: Token | None, replacing: Replacing) -> StoreError | None:
        name = _name_of(identity)
        stored, before = self._look(identity)
        if isinstance(stored, StoreError):
            return stored
        there = self._destroyed.get(identity) if stored is None else stored
        if not (may_go(stored, replacing) or may_go(there, replacing)):
            return StoreConflict(
                f"Something else is stored for {identity!r} in the keychain, service"
                f" {self._service!r}, than what was to be replaced. It is as it was; load it and"
                " go on from there."
            )
        wrong, gone = None, False
        if token is not None:
            text = self._values.pack(identity, token)
            if text is None:
                return StoreError(f"Nothing was stored for {identity!r}. {self._values.why_not()}")
            wrong, gone = self._put(name, text, before)
        elif before is not None:
            wrong = self._remove(name)
        if wrong is None:
            self._destroyed.pop(identity, None)
        elif gone and stored is not None:
            self._destroyed[identity] = stored
        self._tell()
        return None if wrong is None else self._failed(identity, "changed", wrong)

    def _prove_room(self, identity: str) -> StoreError | None:
        """What would keep a save from succeeding: a refresh token is spent only after this.

        In an entry of its own, because a write that fails may destroy what it
        should replace. As long as what will come, because there are keychains
        with a limit; random, and read back, because there are some that
        discard what they are given.
        """
        stored, text = self._look(identity)
        if isinstance(stored, StoreError):
            return stored
        size = len(text or "") + _MARGIN
        left_over, _ = self._get(_PROBE)
        wrong, _ = self._put(_PROBE, secrets.token_hex(size)[:size], left_over)
        wrong = wrong or self._remove(_PROBE)
        return None if wrong is None else self._failed(identity, "changed", wrong)

    def _put(self, name: str, text: str, before: str | None) -> tuple[str | None, bool]:
        """Write it in place of `before`, and read it back.

        What is wrong, in words that say what became of `before`; and whether that is gone.
        """
        _, problem = self._ask("set_password", name, text)
        found, unread = self._get(name)
        if unread is None and found == text:
            return None, False  # an error that came in spite of that is none
        wrong = problem or unread or "it discarded or changed what was stored"
        if unread is None and found != before:
            if before is None:
                self._ask("delete_password", name)
            else:
                self._ask("set_password", name, before)
            found, unread = self._get(name)
        if unread is not None:
            state = "What is stored could not be read afterwards"
        elif found == before:
            state = "What was stored before is intact"
        else:
            state = "What was stored before could not be put back"
        gone = unread is None and found is None
        return (
            f"{wrong}. {state}. The new value was {len(text)} characters long; Windows takes"
            " 1280, and a keychain that discards takes none. For longer ones take another store,"
            " such as a FileStore"
        ), gone

    def _remove(self, name: str) -> str | None:
        _, problem = self._ask("delete_password", name)
        found, unread = self._get(name)
        if found is None and unread is None:
            return None
        return problem or unread or "something is there still after a delete"

    def _get(self, name: str) -> tuple[str | None, str | None]:
        found, problem = self._ask("get_password", name)
        if problem is not None or found is None or isinstance(found, str):
            return found, problem
        return None, f"it returned a {type(found).__name__}, which is no text"

    def _ask(self, method: str, *args: str) -> tuple[Any, str | None]:
        """Call the backend. Whatever it raises is told without its message."""
        import keyring

        try:
            backend = keyring.get_keyring() if self._given is None else self._given
            return getattr(backend, method)(self._service, *args), None
        except Exception as error:
            kind = type(error).__name__
            if isinstance(error, keyring.errors.KeyringError) and kind in _TOLD:
                return None, f"{_TOLD[kind]} ({kind})"
            # Windows tells by a number what is wrong: 1783 is a value that is too long.
            number = next((f" {part}" for part in error.args[:1] if type(part) is int), "")
            return None, f"it failed with {kind}{number}. See whether it can be reached"

    def _failed(self, identity: str, done: str, wrong: str) -> StoreError:
        return StoreError(
            f"The keychain could not be {done} for {identity!r} of {self._service!r}: {wrong}."
        )

    def _lock_of(self, identity: str) -> str:
        # Both may be any text, so they are no part of a path. A service has no NUL in it.
        both = f"{self._service}\0{identity}".encode("utf-8", "surrogatepass")
        digest = hashlib.sha256(both).hexdigest()[:32]
        return os.path.join(self._directory, f"keyring.{digest}.lock")

    def _tell(self) -> None:
        """Let those that wait see that something has changed."""
        with suppress(OSError):  # then they see it a little later
            # Each time is another, also within one tick of the file system's clock.
            moment = max(time.time_ns(), os.stat(self._lock).st_mtime_ns + 1)
            os.utime(self._lock, ns=(moment, moment))

    def _mark(self) -> int:
        try:
            return os.stat(self._lock, follow_symlinks=False).st_mtime_ns
        except OSError:
            return 0

    def __repr__(self) -> str:
        return f"KeyringStore({self._service!r})"

    def __reduce__(self) -> tuple[Callable[..., KeyringStore], tuple[str]]:
        return partial(type(self), backend=self._given, locks=self._directory), (self._service,)


def open_url(url: str) -> KeyringStore:
    """The store that `keyring:service` names; the service is percent-encoded where needed.

    It has the backend that keyring chooses, and the locks of the user. Raises
    ConfigurationError for an empty service, for `keyring://`, and where keyring
    is missing. Does not block.
    """
    match = re.fullmatch("[^:]*:((?!//)(?:[^%?#]|%[0-9A-Fa-f]{2})+)", url)
    del url
    try:
        service = "" if match is None else unquote(match[1], errors="strict")
    except UnicodeDecodeError:
        service = ""
    del match
    if not service:
        raise ConfigurationError(
            "The URL of a KeyringStore is keyring:service, such as keyring:my-program. It has no"
            " // after the scheme; what is no letter, digit or one of -._~ is percent-encoded in"
            " UTF-8."
        )
    return KeyringStore(service)


def _name_of(identity: str) -> str:
    """The name of the entry. Different for each identity, ASCII, short and never empty."""
    data = identity.encode("utf-8", "surrogatepass")
    quoted = "".join(chr(byte) if byte in _PLAIN else f"%{byte:02x}" for byte in data)
    if len(quoted) > _LONGEST_NAME:
        return f"token-sha256:{hashlib.sha256(data).hexdigest()}"
    return f"token:{quoted}"
