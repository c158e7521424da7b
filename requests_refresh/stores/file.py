"""`FileStore`: tokens in one file of yours, shared by the processes of a host.

What it guarantees:

- **Private.** The file and the locks beside it have mode 0600, whatever the
  umask, in a directory that only you can write. What is not private, not
  yours, a link or no regular file is refused and left as it is. Checked is the
  file, its locks and its directory (a directory may be reached by a symbolic
  link); the directories above are yours to keep.
- **Whole.** A save writes a new file, flushes it to the disk and puts it in the
  place of the old one: a crash, a kill or a full disk leaves the old one or the
  new one, never a half. What cannot be read is never overwritten.
- **One after the other.** Changes compare and swap under a lock held for the
  milliseconds of one write. `exclusive` is another lock, one for each identity,
  that may be held while a provider is called. Both are the kernel's (`flock`,
  by way of filelock): they end with their process, by SIGKILL too. Lock files
  are never removed, because that lets a second holder in.

For local file systems: whether a network file system keeps these promises, and
`flock` across hosts, is up to it. On Windows the package imports, but there is
no owner or mode to look at, a directory is not flushed, and nothing of this
has been verified there.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import secrets
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any, Final, NamedTuple

from ..errors import ConfigurationError, RefreshTimeout, StoreConflict, StoreError
from ..tokens import Token
from . import private
from .base import ANY, Exclusion, Lease, Replacing, TokenStore, checked, may_go
from .values import Encryption, Values, unless_wrong

_SCHEMA: Final = 1
_LARGEST: Final = 16 * 2**20  # bytes; what is larger is not read and not written
_MARGIN: Final = 2**16  # bytes that a save may add, proved to fit before a refresh
_PATIENCE = 10.0  # seconds to wait for a lock that is held for milliseconds


class _Contents(NamedTuple):
    document: dict[str, Any]
    mark: tuple[int, ...]  # tells one state of the file from another; () is no file


class FileStore(TokenStore):
    """Tokens in one JSON file, for all threads and processes of a user on a host.

    path: of the file; `~` is expanded, and a relative path is taken from the
        directory that is current now. ConfigurationError if it names no file.
        Nothing is made until the first `save` or `exclusive`; directories that
        are missing are then made with mode 0700. One that exists must be yours
        and not writable by others. That others may list it is accepted, because
        `~/.config` is so on most hosts and the file itself is 0600.
    encryption: an Encryption, or None to store tokens as JSON that can be read.

    Safe for any thread, and after a fork. Everything reads or writes files and
    may block for that long; `exclusive` and `wait` up to their timeout. Every
    error of the operating system is a StoreError that names the file. Holds
    16 MiB, some thousands of logins. A pickle or copy holds the path and no key.
    """

    _path = ""

    def __init__(
        self, path: str | os.PathLike[str], *, encryption: Encryption | None = None
    ) -> None:
        encryption = unless_wrong(encryption)  # tracebacks with locals show no key
        self._values = Values(encryption)
        try:
            name = os.path.expanduser(os.fspath(path))
            usable = os.path.basename(name) and b"\0" not in os.fsencode(name)
            # Where no home is known, expanduser leaves the ~ as it is.
            self._path = "" if name.startswith("~") or not usable else os.path.abspath(name)
        except (TypeError, ValueError, OSError):
            self._path = ""
        if not self._path:
            raise ConfigurationError(
                f"A FileStore needs the path of a file, and {path!r} is none."
                " An example of one: ~/.config/sync/tokens.json"
            )
        self._writing = Exclusion()  # in front of the file's lock: threads queue, they don't poll
        self._seen = threading.local()  # .mark: of the file as this thread last loaded it

    @checked
    def load(self, identity: str) -> Token | None:
        self._seen.mark = None
        found = self._look(identity)
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
    def exclusive(self, identity: str, timeout: float) -> Iterator[Lease | None]:
        """Hold `identity` among all processes that use this file; see `TokenStore.exclusive`.

        Entering proves that a save can succeed: the file is read, and as many
        bytes as it has, and 64 KiB more, are written beside it and removed.
        """
        deadline = time.monotonic() + timeout
        with self._exclusion(identity, timeout):
            if (keyless := self._values.problem) is not None:
                raise StoreError(f"Nothing can be stored in {self._path!r}. {keyless}")
            private.prepare_directory(os.path.dirname(self._path))
            with private.locked(self._lock_name(identity), deadline) as lock:
                # A writer may hold the other lock just now; that it can be opened is enough.
                with suppress(RefreshTimeout), private.locked(self._path + ".lock", 0.0):
                    pass
                if (problem := self._prove_room(identity)) is not None:
                    raise problem
                with lock.marked() as taken_over:
                    yield private.Held(taken_over)

    @checked
    def wait(self, identity: str, timeout: float) -> None:
        """Block until the file has changed, 50 ms or `timeout` seconds at most.

        Compared with the file that this thread last loaded a token from, so
        that nothing which comes between the `load` and the `wait` is missed.
        """
        deadline = time.monotonic() + min(timeout, 0.05)  # `exclusive` may be free by then
        mark = getattr(self._seen, "mark", None)
        seen = self._mark() if mark is None else mark
        while self._mark() == seen and (left := deadline - time.monotonic()) > 0:
            time.sleep(min(private.POLL, left))

    # What touches the text of the file returns its errors, and a caller that
    # has never seen the text raises them: tracebacks show the values of locals.

    def _look(self, identity: str) -> Token | StoreError | None:
        contents = self._read()
        if isinstance(contents, StoreError):
            return contents
        self._seen.mark = contents.mark
        return self._entry(contents, identity)

    def _change(self, identity: str, token: Token | None, replacing: Replacing) -> None:
        deadline = time.monotonic() + _PATIENCE
        try:
            problem = self._swap(identity, token, replacing, deadline)
        except RefreshTimeout:
            problem = StoreError(
                f"The token file {self._path!r} stayed locked for {_PATIENCE:.0f} s, and a write"
                " takes milliseconds. It is as it was. Look for a process that was stopped"
                " while writing it, and end that."
            )
        if problem is not None:
            raise problem

    def _swap(
        self, identity: str, token: Token | None, replacing: Replacing, deadline: float
    ) -> StoreError | None:
        private.prepare_directory(os.path.dirname(self._path))
        with self._writing("", _PATIENCE), private.locked(self._path + ".lock", deadline):
            contents = self._read()
            if isinstance(contents, StoreError):
                return contents
            stored = self._entry(contents, identity)
            if isinstance(stored, StoreError):
                return stored
            if not may_go(stored, replacing):
                return StoreConflict(
                    f"Something else is stored for {identity!r} in {self._path!r} than what"
                    " was to be replaced. It is as it was; load it and go on from there."
                )
            tokens = contents.document["tokens"]
            if token is not None:
                tokens[identity] = self._values.wrap(identity, token)
                if tokens[identity] is None:
                    return StoreError(
                        f"Nothing can be stored in {self._path!r}. {self._values.why_not()}"
                    )
            elif tokens.pop(identity, None) is None:
                return None
            self._remove_leftovers()
            data = self._encoded(contents.document)
            return data if isinstance(data, StoreError) else self._put(data, replace=True)

    def _read(self) -> _Contents | StoreError:
        try:
            fd = os.open(self._path, os.O_RDONLY | private.FLAGS)
        except FileNotFoundError:
            return _Contents({"schema": _SCHEMA, "tokens": {}}, ())
        except OSError as error:
            return StoreError(private.refusal(self._path, private.reason(self._path, error)))
        try:
            info = os.fstat(fd)
            if (problem := private.unfit(info)) is not None:
                return StoreError(private.refusal(self._path, problem))
            if info.st_size > _LARGEST:
                return self._unreadable(f"it is larger than {_LARGEST // 2**20} MiB")
            with open(fd, "rb", closefd=False) as file:
                text = file.read(info.st_size).decode()
            document = json.loads(text)
        except (ValueError, RecursionError):
            return self._unreadable("it is no JSON in UTF-8, or nested too deeply")
        except OSError as error:
            return StoreError(private.refusal(self._path, private.reason(self._path, error)))
        finally:
            os.close(fd)
        if not isinstance(document, dict) or not isinstance(document.get("tokens"), dict):
            return self._unreadable("it is no token file")
        if document.get("schema") != _SCHEMA:
            return self._unreadable(f"its schema is not {_SCHEMA}, the only one known here")
        return _Contents(document, _mark_of(info))

    def _entry(self, contents: _Contents, identity: str) -> Token | StoreError | None:
        tokens = contents.document["tokens"]
        if identity not in tokens:
            return None
        found = self._values.unwrap(identity, tokens[identity])
        if isinstance(found, Token):
            return found
        return self._unreadable(f"of what it holds for {identity!r}, {found}")

    def _unreadable(self, problem: str) -> StoreError:
        return StoreError(
            f"The token file {self._path!r} cannot be used: {problem}. It is as it was, and is"
            " not written to either. Mend it or move it away, and log in again."
        )

    def _prove_room(self, identity: str) -> StoreError | None:
        contents = self._read()
        if isinstance(contents, StoreError):
            return contents
        stored = self._entry(contents, identity)
        if isinstance(stored, StoreError):
            return stored
        data = self._encoded(contents.document)
        if isinstance(data, StoreError):
            return data
        # Random bytes, because a file system that compresses has room for any number of zeros.
        return self._put(os.urandom(len(data) + _MARGIN), replace=False)

    def _encoded(self, document: dict[str, Any]) -> bytes | StoreError:
        try:
            return json.dumps(document, allow_nan=False).encode()
        except (TypeError, ValueError, RecursionError):
            return StoreError(f"Nothing can be stored in {self._path!r}. {self._values.why_not()}")

    def _put(self, data: bytes, *, replace: bool) -> StoreError | None:
        """Write `data` beside the file, durably; then put it in its place, or remove it."""
        if len(data) > _LARGEST:
            return StoreError(
                f"The token file {self._path!r} is full: it holds {_LARGEST // 2**20} MiB at most."
                " It is as it was. Log out of what is not used any more, or take another store."
            )
        temporary = f"{self._path}.{secrets.token_hex(8)}.tmp"
        try:
            private.write_new(temporary, data)
            if replace:
                os.replace(temporary, self._path)
                private.sync_directory(os.path.dirname(self._path))
        except OSError as error:
            return StoreError(
                f"The token file {self._path!r} cannot be written"
                f" ({private.reason(temporary, error)}). What is stored is whole. See to the disk"
                " and to the rights on the directory, and try again."
            )
        finally:
            with suppress(OSError):  # after os.replace there is none
                os.unlink(temporary)
        return None

    def _remove_leftovers(self) -> None:
        """Remove temporary files of writers that died: we hold the lock, so no writer lives.

        One that proves its room may live. It loses nothing but a name.
        """
        directory, name = os.path.split(self._path)
        ours = re.compile(re.escape(name) + r"\.[0-9a-f]{16}\.tmp")
        with suppress(OSError):
            for entry in filter(ours.fullmatch, os.listdir(directory)):
                with suppress(OSError):
                    os.unlink(os.path.join(directory, entry))

    def _lock_name(self, identity: str) -> str:
        # An identity may be any text, so it is no part of a path.
        digest = hashlib.sha256(identity.encode("utf-8", "surrogatepass")).hexdigest()
        return f"{self._path}.{digest[:32]}.lock"

    def identities(self) -> list[str]:
        """The identities that are stored, in no order. Reads the file."""
        contents = self._read()
        if isinstance(contents, StoreError):
            raise contents
        return [*contents.document["tokens"]]

    def _mark(self) -> tuple[int, ...]:
        try:
            return _mark_of(os.stat(self._path, follow_symlinks=False))
        except OSError:
            return ()

    def __repr__(self) -> str:
        return f"FileStore({self._path!r})"

    def __reduce__(self) -> tuple[Any, ...]:
        return partial(type(self), encryption=self._values.encryption), (self._path,)


def _mark_of(info: os.stat_result) -> tuple[int, ...]:
    return info.st_ino, info.st_mtime_ns, info.st_size
