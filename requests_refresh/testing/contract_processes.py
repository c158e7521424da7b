"""The part of `TokenStoreContract` that is about other processes: sharing, kills and forks."""

from __future__ import annotations

import json
import os
import pickle
import select
import signal
import threading
import time
import traceback
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from functools import partial
from typing import Any

import pytest

from ..errors import StoreConflict
from ..stores import TokenStore
from ..tokens import Token
from .contract_support import FULL, NEW, NEWER, OLD, aside, assure, enter, kept_out, limited
from .peer import Peer, changed, count

_START = 30.0  # seconds that another process may take to start


class ProcessContract:
    """What `TokenStoreContract` has from here is told there."""

    between_processes: bool = False
    takeover: float = 0.0
    patience: float = 30.0

    def make_store(self) -> TokenStore:
        """A store that holds nothing, and that no other test uses."""
        raise NotImplementedError("give the class a make_store(self) that returns a new store")

    def share(self, store: TokenStore) -> TokenStore:
        """Another way into what `store` holds: another instance, where there can be one."""
        return store

    @pytest.fixture
    def store(self) -> Iterator[TokenStore]:
        store = self.make_store()
        self._opened = [store]
        yield store
        for one in self._opened:
            aside(one.close, self.patience, "`close`")

    _opened: list[TokenStore]

    def _another(self, store: TokenStore) -> TokenStore:
        """`share`, and have it closed in the end."""
        other = self.share(store)
        self._opened.append(other)
        return other

    @pytest.fixture(scope="class")
    @staticmethod
    def _running() -> Iterator[list[Peer]]:
        running: list[Peer] = []
        yield running
        for peer in running:
            peer.stop(10.0)

    @pytest.fixture
    def peers(self, store: TokenStore, _running: list[Peer]) -> Iterator[list[Peer]]:
        """Two processes that have opened the store, each from a pickle of it."""
        self._only_between_processes()
        try:
            pickle.dumps(store)
        except Exception as error:
            pytest.fail(
                f"The store cannot be pickled ({error}), which is how it gets into another"
                " process here. Give it a __reduce__ that tells how to make another instance."
            )
        _running[:] = [peer for peer in _running if peer.alive]
        while len(_running) < 2:
            _running.append(Peer())
        peers = list(_running)
        for peer in peers:
            peer.open(store)
        for peer in peers:
            # Longer, because an interpreter starts and imports; that is not the store's doing.
            peer.answer(_START + self.patience, "The store's pickle cannot be opened elsewhere")
        yield peers
        for peer in peers:
            peer.rest(self.patience)

    def _only_between_processes(self) -> None:
        if not self.between_processes:
            pytest.skip("between_processes is False: this store is for one process")

    @limited
    def test_processes_see_the_same(self, store: TokenStore, peers: list[Peer]) -> None:
        """What one process saves or deletes is so for the others, whatever was closed."""
        peer, patience = peers[0], self.patience
        store.save("default", FULL)
        assert peer.call(patience, "load", "default") == FULL.to_mapping(), (
            "Another process does not find the token that was saved, as it was."
        )
        peer.call(patience, "close")
        peer.call(patience, "save", NEW.to_mapping(), "default", "other")
        assert store.load("default") == NEW, (
            "What another process saved over a token is not what is loaded here."
        )
        store.close()
        peer.call(patience, "delete", "default")
        assert store.load("default") is None, "What another process deleted is still loaded here."
        assert self._another(store).load("other") == NEW, "A delete took another identity's token."

    @limited
    def test_one_of_many_processes_wins_a_swap(self, store: TokenStore, peers: list[Peer]) -> None:
        """Of processes that replace the same token at the same time exactly one succeeds."""
        seen: Token | None = None
        for turn in range(10):
            tokens = [Token(f"access-{turn}-{number}") for number in range(len(peers) + 1)]
            before = seen and seen.to_mapping()
            for peer, token in zip(peers, tokens[1:], strict=True):
                peer.ask("swap", "default", before, token.to_mapping())
            try:
                store.save("default", tokens[0], replacing=seen)
                won = [True]
            except StoreConflict:
                won = [False]
            won += [peer.answer(self.patience) for peer in peers]
            assert won.count(True) == 1, (
                f"{won.count(True)} of {len(won)} processes replaced the same token. Comparing"
                " and saving has to be one step for all processes, such as a transaction."
            )
            seen = store.load("default")
            assert seen == tokens[won.index(True)], (
                "The save that succeeded is not what is stored: one that failed has written."
            )

    @limited
    def test_no_process_loses_a_save(self, store: TokenStore, peers: list[Peer]) -> None:
        """Saves for other identities by several processes at once are all there."""
        names = [[f"{number}-{turn}" for turn in range(8)] for number in range(len(peers) + 1)]
        for peer, own in zip(peers, names[1:], strict=True):
            peer.ask("save", NEW.to_mapping(), *own)
        for name in names[0]:
            store.save(name, NEW)
        for peer in peers:
            peer.answer(self.patience)
        lost = [name for own in names for name in own if store.load(name) != NEW]
        assert not lost, f"Saves were lost while another process saved another identity: {lost}"

    @limited
    def test_processes_take_turns(self, store: TokenStore, peers: list[Peer]) -> None:
        """I1: reading, thinking and writing inside `exclusive` loses no step among processes."""
        steps = 8
        for peer in peers:
            peer.ask("count", "default", steps, self.patience)
        count(store, "default", steps, self.patience)
        for peer in peers:
            peer.answer(self.patience, "A process could not count inside `exclusive`")
        found = store.load("default")
        expected = steps * (len(peers) + 1)
        assert found == Token("a", extra={"steps": expected}), (
            f"Of {expected} steps taken inside `exclusive` some were lost: two processes were in"
            " it at once, or `load` inside it gave an older token."
        )

    @limited
    def test_a_holder_in_another_process(self, store: TokenStore, peers: list[Peer]) -> None:
        """I1, I3: a holder keeps its place while it lives; who waits is told in time."""
        peer = peers[0]
        assert peer.call(self.patience, "enter", "default", self.patience), (
            "A process could not enter `exclusive` that nobody is in."
        )
        for other in (store, self._another(store)):
            with kept_out("An instance entered what another process holds"):
                enter(other, "default", 0.0)
        assert peers[1].call(self.patience, "enter", "default", 0.0) is False, (
            "Another process entered what a process holds."
        )
        # Longer than a lease lasts, so that one which is not renewed is found out.
        timeout = max(0.1, 1.5 * self.takeover)
        begin = time.monotonic()
        with kept_out(f"The place of a holder that lives was free within {timeout:g} s"):
            enter(store, "default", timeout)
        waited = time.monotonic() - begin
        assert waited > 0.9 * timeout, (
            f"`exclusive` gave up after {waited:.3f} s, and was given {timeout:g} s."
        )
        assert waited < timeout + self.patience, (
            f"`exclusive` gave up only after {waited:.1f} s, and was given {timeout:g} s."
        )
        enter(store, "other", 0.0)  # is free
        store.save("default", NEW)
        peer.call(self.patience, "leave")
        enter(store, "default", 0.0)
        assert peers[1].call(self.patience, "enter", "default", 0.0), (
            "What its holder has left is not free for another process."
        )

    @limited
    def test_a_killed_holder_is_replaced(self, store: TokenStore, peers: list[Peer]) -> None:
        """I3: the place of a process that was killed is free within `takeover` seconds."""
        assert peers[0].call(self.patience, "enter", "default", self.patience), (
            "A process could not enter `exclusive` that nobody is in."
        )
        with kept_out("An instance entered what another process holds"):
            enter(store, "default", 0.0)
        peers[0].kill()
        with ExitStack() as stack:
            try:
                held = stack.enter_context(
                    store.exclusive("default", self.takeover + self.patience)
                )
            except Exception as error:
                raise AssertionError(
                    "The place of a process that was killed stayed held for longer than"
                    f" takeover, which is {self.takeover:g} s, and {self.patience:g} s more."
                ) from error
            assure(held, min(1.0, self.takeover / 2 or 1.0))
            assert peers[1].call(self.patience, "enter", "default", 0.0) is False, (
                "After the holder was killed two processes are in its place."
            )
            store.save("default", NEW)

    @limited
    def test_waiting_for_another_process(self, store: TokenStore, peers: list[Peer]) -> None:
        """A `wait` ends when another process saves, replaces or deletes, whoever waits."""
        peer, patience = peers[0], self.patience
        changes: list[Callable[[], None]] = [
            lambda: store.save("default", OLD),
            lambda: store.save("default", NEW, replacing=OLD),
            lambda: store.delete("default"),
        ]
        for change in changes:
            peer.ask("watch", "default", 10 * patience)
            peer.answer(patience)
            change()
            found = peer.answer(patience, "`wait` missed a change that another process made")
            now = store.load("default")
            assert found == (now and now.to_mapping()), "`wait` ended, and `load` gave an old token"
        theirs: list[tuple[Any, ...]] = [
            ("save", NEWER.to_mapping(), "default"),
            ("delete", "default"),
        ]
        for command in theirs:
            before = store.load("default")
            peer.ask(*command)
            aside(
                partial(changed, store, "default", before, 10 * patience),
                patience,
                "A `wait` for a change that another process made",
            )
            peer.answer(patience)

    @limited
    def test_fork(self, store: TokenStore) -> None:
        """I14: after a fork both processes can use the store, and the child holds nothing."""
        self._only_between_processes()
        if not hasattr(os, "fork"):
            pytest.skip("this system has no fork")
        store.save("default", OLD)
        store.load("default")
        entered, leave = threading.Event(), threading.Event()

        def hold() -> None:
            with store.exclusive("thread", self.patience):
                entered.set()
                leave.wait(4 * self.patience)

        holder = threading.Thread(target=hold, daemon=True)
        holder.start()
        assert entered.wait(self.patience), "`exclusive` that nobody is in could not be entered."
        with ExitStack() as own:
            held = own.enter_context(store.exclusive("own", self.patience))
            child = _Fork(self.patience, lambda child: self._in_the_child(store, own, child))
            try:
                child.hear("used the store while its parent held two identities")
                for name in ("own", "thread"):
                    with kept_out(f"After a fork the parent's {name!r} was not held any more"):
                        aside(partial(enter, self._another(store), name, 0.0), self.patience)
                assure(held, min(1.0, self.takeover / 2 or 1.0))
                assert store.load("child") == NEW, "What the child of a fork saved is not there."
                own.close()
                leave.set()
                holder.join(self.patience)
                child.tell()
                child.hear("entered what its parent had left")
                store.save("default", NEW)
                child.hear("waited for a change that its parent made")
                before = store.load("child")
                child.tell()
                found = aside(
                    partial(changed, store, "child", before, 10 * self.patience),
                    self.patience,
                    "After a fork the parent's `wait` for a change that the child made",
                )
                assert found is None, "What the child of a fork deleted is still there."
                enter(store, "default", 0.0)
            finally:
                leave.set()
                child.end()

    def _in_the_child(self, store: TokenStore, own: ExitStack, parent: _Fork) -> None:
        assert store.load("default") == OLD, "it loads another token than its parent saved"
        for name in ("own", "thread"):
            with kept_out(f"it entered {name!r}, which its parent holds"):
                enter(store, name, 0.0)
        own.close()  # leaves the parent's block, which must not free it
        with kept_out("it left the block that it was forked in, and so freed it for its parent"):
            enter(store, "own", 0.0)
        with store.exclusive("child", self.patience):
            store.save("child", NEW, replacing=None)
        store.wait("child", 0.01)
        parent.tell()
        parent.hear("left")
        for name in ("own", "thread"):
            enter(store, name, self.patience)
        before = store.load("default")
        parent.tell()
        assert changed(store, "default", before, 10 * self.patience) == NEW, "it loads an old token"
        parent.tell()
        parent.hear("loaded")
        store.delete("child", replacing=NEW)


class _Fork:
    """The child of a fork, or in the child its parent: each tells the other how far it is."""

    def __init__(self, patience: float, work: Callable[[_Fork], None]) -> None:
        self._patience = patience
        from_child, to_parent = os.pipe()
        from_parent, to_child = os.pipe()
        with warnings.catch_warnings():
            # Python 3.12 and later: there are threads. That this works is what is tested.
            warnings.simplefilter("ignore", DeprecationWarning)
            self._pid = os.fork()
        if self._pid != 0:
            os.close(to_parent)
            os.close(from_parent)
            self._in, self._out = from_child, to_child
            return
        try:
            # Nobody waits for ever, should the parent die as well.
            signal.signal(signal.SIGALRM, signal.SIG_DFL)
            signal.setitimer(signal.ITIMER_REAL, 10 * patience)
            os.close(from_child)
            os.close(to_child)
            self._in, self._out = from_parent, to_parent
            work(self)
        except BaseException:
            self.tell(traceback.format_exc())
        finally:
            os._exit(0)

    def tell(self, failure: str = "") -> None:
        """Tell the other one that the next part is done, or what went wrong."""
        os.write(self._out, json.dumps(failure).encode() + b"\n")

    def hear(self, part: str) -> None:
        """Wait until the other one has told that it is done with `part`."""
        line = b""
        while not line.endswith(b"\n"):
            if not select.select([self._in], [], [], self._patience)[0]:
                raise AssertionError(f"The child of a fork hangs; it has not {part}.")
            read = os.read(self._in, 65536)
            if not read:
                raise AssertionError(f"The child of a fork has died; it has not {part}.")
            line += read
        failure: str = json.loads(line)
        if failure:
            last = failure.strip().splitlines()[-1]
            raise AssertionError(f"The child of a fork has not {part}. {last}\n{failure}")

    def end(self) -> None:
        """End the child, whatever it is at."""
        with suppress(ProcessLookupError):
            os.kill(self._pid, signal.SIGKILL)
        os.waitpid(self._pid, 0)
        os.close(self._in)
        os.close(self._out)
