"""Stores with one fault each, and the contract of each of them, for `test_contract.py` to run.

Each class tells in `caught_by` which tests of the contract must fail.
"""

from __future__ import annotations

import fcntl
import os
import threading
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Any, ClassVar

import pytest

from requests_refresh.errors import RefreshTimeout, StoreConflict
from requests_refresh.stores import ANY, FileStore, MemoryStore, TokenStore
from requests_refresh.stores.base import Replacing
from requests_refresh.testing import TokenStoreContract
from requests_refresh.testing.peer import Peer
from requests_refresh.tokens import Token


class InMemory(TokenStoreContract):
    patience = 1.0
    store_type: ClassVar[Any]  # of TokenStore
    caught_by: ClassVar[set[str]]

    def make_store(self) -> TokenStore:
        store: TokenStore = self.store_type()
        return store


@pytest.fixture(scope="module")
def running() -> Iterator[list[Peer]]:
    """Processes for all classes, because each takes a while to start."""
    started: list[Peer] = []
    yield started
    for peer in started:
        peer.stop(10.0)


class InFiles(InMemory):
    between_processes = True
    path: Path

    @pytest.fixture(scope="class")
    @staticmethod
    def _running(running: list[Peer]) -> list[Peer]:
        return running

    @pytest.fixture(autouse=True)
    def _place(self, tmp_path: Path) -> None:
        tmp_path.chmod(0o700)
        self.path = tmp_path / "tokens.json"

    def make_store(self) -> TokenStore:
        store: TokenStore = self.store_type(self.path)
        return store

    def share(self, store: TokenStore) -> TokenStore:
        return self.make_store()


class LastWriterWins(MemoryStore):
    def save(self, identity: str, token: Token, *, replacing: Replacing = ANY) -> None:
        super().save(identity, token)

    def delete(self, identity: str, *, replacing: Replacing = ANY) -> None:
        super().delete(identity)


class TestLastWriterWins(InMemory):
    store_type = LastWriterWins
    caught_by: ClassVar = {
        "test_save_where_nothing_was",
        "test_save_in_place_of_a_token",
        "test_save_in_place_of_a_token_that_is_gone",
        "test_delete_of_one_issue",
        "test_one_of_many_swaps_wins",
    }


class ComparesByEquality(MemoryStore):
    def save(self, identity: str, token: Token, *, replacing: Replacing = ANY) -> None:
        if isinstance(replacing, Token) and self.load(identity) != replacing:
            raise StoreConflict(f"something else is stored for {identity!r}")
        super().save(identity, token, replacing=replacing)


class TestComparesByEquality(InMemory):
    store_type = ComparesByEquality
    caught_by: ClassVar = {"test_save_in_place_of_a_token"}


class ChecksThenSaves(FileStore):
    def save(self, identity: str, token: Token, *, replacing: Replacing = ANY) -> None:
        found = self.load(identity)
        same = found is replacing or (found is not None and found.same_issue(_token(replacing)))
        if replacing is not ANY and not same:
            raise StoreConflict(f"something else is stored for {identity!r}")
        time.sleep(0.005)  # as a slow disk would make it
        super().save(identity, token)


def _token(replacing: Replacing) -> Token | None:
    return None if replacing is ANY else replacing


class TestChecksThenSaves(InFiles):
    store_type = ChecksThenSaves
    caught_by: ClassVar = {
        "test_one_of_many_swaps_wins",
        "test_one_of_many_processes_wins_a_swap",
    }


class NobodyIsKeptOut(MemoryStore):
    @contextmanager
    def exclusive(self, identity: str, timeout: float) -> Iterator[None]:
        yield


class TestNobodyIsKeptOut(InMemory):
    store_type = NobodyIsKeptOut
    caught_by: ClassVar = {"test_one_holder", "test_a_holder_does_not_enter_again"}


class OneInstanceOnly(FileStore):
    @contextmanager
    def exclusive(self, identity: str, timeout: float) -> Iterator[None]:
        with TokenStore.exclusive(self, identity, timeout):
            yield


class TestOneInstanceOnly(InFiles):
    store_type = OneInstanceOnly
    caught_by: ClassVar = {"test_one_holder", "test_a_holder_in_another_process"}


class Reentrant(MemoryStore):
    def __init__(self) -> None:
        super().__init__()
        self._again = threading.RLock()

    @contextmanager
    def exclusive(self, identity: str, timeout: float) -> Iterator[None]:
        if not self._again.acquire(timeout=timeout):
            raise RefreshTimeout("held")
        try:
            yield
        finally:
            self._again.release()


class TestReentrant(InMemory):
    store_type = Reentrant
    caught_by: ClassVar = {"test_a_holder_does_not_enter_again"}


class StaysHeldAfterAnError(MemoryStore):
    @contextmanager
    def exclusive(self, identity: str, timeout: float) -> Iterator[None]:
        lock = vars(self).setdefault("locks", {}).setdefault(identity, threading.Lock())
        if not lock.acquire(timeout=timeout):
            raise RefreshTimeout("held")
        yield
        lock.release()


class TestStaysHeldAfterAnError(InMemory):
    store_type = StaysHeldAfterAnError
    caught_by: ClassVar = {"test_an_error_inside_ends_the_holding"}


class GivesUpAtOnce(FileStore):
    @contextmanager
    def exclusive(self, identity: str, timeout: float) -> Iterator[None]:
        with super().exclusive(identity, 0.0):
            yield


class TestGivesUpAtOnce(InFiles):
    store_type = GivesUpAtOnce
    caught_by: ClassVar = {"test_a_holder_in_another_process"}


class SleepsThrough(FileStore):
    def wait(self, identity: str, timeout: float) -> None:
        time.sleep(max(0.0, timeout))


class TestSleepsThrough(InFiles):
    store_type = SleepsThrough
    caught_by: ClassVar = {
        "test_no_change_is_missed",
        "test_waiting_ends_with_a_change",
        "test_waiting_for_another_process",
    }


class LooksWhenItWaits(MemoryStore):
    def wait(self, identity: str, timeout: float) -> None:
        before = self.load(identity)  # forgets what came between the caller's load and this
        deadline = time.monotonic() + timeout
        while self.load(identity) == before and time.monotonic() < deadline:
            time.sleep(0.005)


class TestLooksWhenItWaits(InMemory):
    store_type = LooksWhenItWaits
    caught_by: ClassVar = {"test_no_change_is_missed"}


class FoldsCase(MemoryStore):
    def load(self, identity: str) -> Token | None:
        return super().load(identity.casefold())

    def save(self, identity: str, token: Token, *, replacing: Replacing = ANY) -> None:
        super().save(identity.casefold(), token, replacing=replacing)

    def delete(self, identity: str, *, replacing: Replacing = ANY) -> None:
        super().delete(identity.casefold(), replacing=replacing)


class TestFoldsCase(InMemory):
    store_type = FoldsCase
    caught_by: ClassVar = {"test_identities_are_apart"}


class CutsShort(MemoryStore):
    def save(self, identity: str, token: Token, *, replacing: Replacing = ANY) -> None:
        mapping = {
            name: value[:65535] if isinstance(value, str) else value
            for name, value in token.to_mapping().items()
        }
        super().save(identity, Token.from_mapping(mapping), replacing=replacing)


class TestCutsShort(InMemory):
    store_type = CutsShort
    caught_by: ClassVar = {"test_long_texts"}


class LosesByClose(MemoryStore):
    def close(self) -> None:
        self._reset()


class TestLosesByClose(InMemory):
    store_type = LosesByClose
    caught_by: ClassVar = {"test_closing"}


class Caches(FileStore):
    def load(self, identity: str) -> Token | None:
        cache: dict[str, Token | None] = vars(self).setdefault("cache", {})
        if identity not in cache:
            cache[identity] = super().load(identity)
        return cache[identity]

    def save(self, identity: str, token: Token, *, replacing: Replacing = ANY) -> None:
        super().save(identity, token, replacing=replacing)
        vars(self).setdefault("cache", {})[identity] = token


class TestCaches(InFiles):
    store_type = Caches
    caught_by: ClassVar = {"test_processes_see_the_same"}


class Tells(MemoryStore):
    def save(self, identity: str, token: Token, *, replacing: Replacing = ANY) -> None:
        text = token.to_mapping()
        super().save(identity, token, replacing=replacing)
        del text


class TestTells(InMemory):
    store_type = Tells
    caught_by: ClassVar = {"test_no_secret_is_shown"}


class Nameless(MemoryStore):
    def delete(self, identity: str, *, replacing: Replacing = ANY) -> None:
        try:
            super().delete(identity, replacing=replacing)
        except StoreConflict:
            raise StoreConflict("conflict") from None


class TestNameless(InMemory):
    store_type = Nameless
    caught_by: ClassVar = {"test_delete_of_one_issue"}


class NeverTakenOver(FileStore):
    """A file that marks an identity as held, and that nobody removes for a dead holder."""

    old = float("inf")  # seconds after which a mark is void

    @contextmanager
    def exclusive(self, identity: str, timeout: float) -> Iterator[None]:
        mark = f"{self._path}.{identity}.held"
        deadline = time.monotonic() + timeout
        while True:
            with suppress(FileExistsError):
                os.close(os.open(mark, os.O_CREAT | os.O_EXCL))
                break
            with suppress(FileNotFoundError):
                if time.time() - os.stat(mark).st_mtime > self.old:
                    os.unlink(mark)
                    continue
            if time.monotonic() >= deadline:
                raise RefreshTimeout("held")
            time.sleep(0.005)
        try:
            yield
        finally:
            os.unlink(mark)


class TestNeverTakenOver(InFiles):
    store_type = NeverTakenOver
    caught_by: ClassVar = {"test_a_killed_holder_is_replaced"}


class NeverRenewed(NeverTakenOver):
    old = 0.2


class TestNeverRenewed(InFiles):
    store_type = NeverRenewed
    takeover = 0.3
    caught_by: ClassVar = {"test_a_holder_in_another_process"}


class ForkFrees(FileStore):
    """A kernel's lock that the child of a fork shares with its parent, and undoes."""

    @contextmanager
    def exclusive(self, identity: str, timeout: float) -> Iterator[None]:
        deadline = time.monotonic() + timeout
        fd = os.open(f"{self._path}.{identity}.lock", os.O_CREAT | os.O_RDWR, 0o600)
        try:
            while True:
                with suppress(BlockingIOError):
                    fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                if time.monotonic() >= deadline:
                    raise RefreshTimeout("held")
                time.sleep(0.005)
            yield
            fcntl.flock(fd, fcntl.LOCK_UN)
        finally:
            os.close(fd)


class TestForkFrees(InFiles):
    store_type = ForkFrees
    caught_by: ClassVar = {"test_fork"}


class ForkHangs(FileStore):
    """A lock of its own, which another thread holds at the moment of a fork."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self._inside = threading.Lock()

    @contextmanager
    def exclusive(self, identity: str, timeout: float) -> Iterator[None]:
        with super().exclusive(identity, timeout), self._inside if identity == "thread" else _NONE:
            yield

    def save(self, identity: str, token: Token, *, replacing: Replacing = ANY) -> None:
        with self._inside if identity == "child" else _NONE:
            super().save(identity, token, replacing=replacing)


_NONE: AbstractContextManager[None] = nullcontext()


class TestForkHangs(InFiles):
    store_type = ForkHangs
    caught_by: ClassVar = {"test_fork"}


class DoesNotPickle(FileStore):
    def __reduce__(self) -> Any:
        raise TypeError("cannot pickle a connection")


class TestDoesNotPickle(InFiles):
    store_type = DoesNotPickle
    caught_by: ClassVar = {"test_processes_see_the_same"}
