"""Files that belong to one user alone: looking at them, locking them, writing them whole.

What `FileStore` does to the file system, apart from what it means by it. None
of this knows what is in a file, and none of it follows a link: not the last
component of a path, that is; a directory may be reached by one.
"""

from __future__ import annotations

import os
import shlex
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Final, NamedTuple

from filelock import lock_descriptor, unlock_descriptor

from ..errors import RefreshTimeout, StoreError

POLL: Final = 0.005  # seconds between two looks at a lock or at a file

# O_NONBLOCK: opening a planted FIFO would block for ever. 0 where a system has none.
FLAGS: Final[int] = (
    getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
)


class Held(NamedTuple):
    """A `Lease` that the kernel keeps for as long as its holder lives."""

    taken_over: bool

    def assure(self, seconds: float) -> bool:
        return True


class _LockFile:
    """A lock file: closed, or open and known to the fork hook, and then maybe held."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._fd = -1

    def acquire(self) -> bool | str:
        """Try once. Whether it is held now, or what is wrong with the file."""
        try:
            if self._fd < 0:
                self._open()
            info = os.fstat(self._fd)
            if (problem := unfit(info)) is not None:
                return problem
            if not lock_descriptor(self._fd, blocking=False):
                return False
            with suppress(FileNotFoundError):
                if os.path.samestat(info, os.stat(self._path, follow_symlinks=False)):
                    return True
        except OSError as error:
            return reason(self._path, error)
        self.release()  # somebody removed the file, and a lock on it keeps nobody out
        return False

    def _open(self) -> None:
        _open_locks.add(self)  # before there is a descriptor that a fork could take along
        try:
            self._fd = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_EXCL | FLAGS, 0o600)
        except FileExistsError:
            self._fd = os.open(self._path, os.O_RDWR | os.O_CREAT | FLAGS, 0o600)
        else:
            _make_private(self._fd)

    def release(self) -> None:
        fd, self._fd = self._fd, -1
        _open_locks.discard(self)
        if fd >= 0:
            with suppress(OSError):  # closing ends it too, unless a child has the descriptor
                unlock_descriptor(fd)
            os.close(fd)

    @contextmanager
    def marked(self) -> Iterator[bool]:
        """Have the file say that it is held; yields whether the last holder's mark was left in it.

        He was killed then. A hint: where it cannot be written, nothing is known.
        """
        left = False
        with suppress(OSError):
            left = os.fstat(self._fd).st_size > 0
            os.write(self._fd, b"held")
        try:
            yield left
        finally:
            with suppress(OSError):  # in the child of a fork, too, which does not hold it
                os.ftruncate(self._fd, 0)

    def disown(self) -> None:
        """In the child of a fork: let go of the parent's lock without unlocking it."""
        fd, self._fd = self._fd, -1
        with suppress(OSError):
            os.close(fd)


@contextmanager
def locked(path: str, deadline: float) -> Iterator[_LockFile]:
    """Hold the lock file `path`, against other threads and processes alike.

    deadline: on the monotonic clock; one try is made even if it is over.
    Entering raises RefreshTimeout then, and StoreError for a lock file that
    cannot be made or must not be used. The lock ends with the process.
    """
    lock = _LockFile(path)
    try:
        while (held := lock.acquire()) is not True:
            if held is not False:
                raise StoreError(refusal(path, held))
            left = deadline - time.monotonic()
            if left <= 0:
                raise RefreshTimeout(
                    f"Another process, or another store in this one, went on holding {path!r}."
                    " Nothing was changed; try again, or allow more time."
                )
            time.sleep(min(POLL, left))
        yield lock
    finally:
        lock.release()


def unfit(info: os.stat_result) -> str | None:
    """Why a file must not be used, or None."""
    if not stat.S_ISREG(info.st_mode):
        return "it is no regular file. Move it away"
    if info.st_nlink > 1:  # 0 is a file that a writer has just replaced
        return "it has another name, a hard link. Remove one of the two"
    if not hasattr(os, "geteuid"):
        return None
    if info.st_uid != os.geteuid():
        return "it belongs to another user. Move it away, or become that user"
    if info.st_mode & 0o077:
        return "others may read or write it. If its tokens are still secret, chmod 600 it"
    return None


def reason(path: str, error: OSError) -> str:
    """What the operating system has against `path`, in words."""
    if os.path.islink(path):
        return "it is a symbolic link. Name the file itself, or move the link away"
    return error.strerror or type(error).__name__


def refusal(path: str, problem: str) -> str:
    """The message for a file that must not be used."""
    return f"{path!r} was refused: {problem}. It is as it was."


def _make_private(fd: int) -> None:
    if hasattr(os, "fchmod"):
        os.fchmod(fd, 0o600)  # a umask may have taken from what os.open was asked for


def write_new(path: str, data: bytes) -> None:
    """Make the file `path`, 0600, with `data` in it, flushed to the disk. OSError if it exists."""
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | FLAGS, 0o600)
    try:
        _make_private(fd)
        rest = memoryview(data)
        while rest:
            rest = rest[os.write(fd, rest) :]
        os.fsync(fd)
    finally:
        os.close(fd)


def prepare_directory(path: str) -> None:
    """Make the directory where it is missing; StoreError if others may write in it."""
    problem = None
    try:
        _make_directory(path)
        info = os.stat(path)
        if hasattr(os, "geteuid") and info.st_uid != os.geteuid():
            problem = "it belongs to another user"
        elif hasattr(os, "geteuid") and info.st_mode & 0o022:
            problem = f"others may write in it (chmod go-w {shlex.quote(path)})"
    except OSError as error:
        problem = reason(path, error)
    if problem is not None:
        raise StoreError(
            f"The directory {path!r} cannot hold a token file: {problem}. Nothing was"
            " changed. Mend that, or choose another directory."
        )


def _make_directory(path: str) -> None:
    if os.path.isdir(path):
        return
    parent = os.path.dirname(path)
    _make_directory(parent)
    try:
        os.mkdir(path, 0o700)
    except FileExistsError:
        return  # another process was faster, or it is a file: what comes next tells
    os.chmod(path, 0o700)
    sync_directory(parent)


def sync_directory(path: str) -> None:
    """Flush what was made and renamed in a directory to the disk."""
    if hasattr(os, "O_DIRECTORY"):
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)


_open_locks: set[_LockFile] = set()


def _after_fork_in_child() -> None:
    for lock in list(_open_locks):
        lock.disown()
    _open_locks.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
