"""`MemoryStore`: the contract, its bound, and what becomes of it in copies, pickles and forks."""

from __future__ import annotations

import copy
import pickle

import pytest

from requests_refresh.errors import ConfigurationError, StoreConflict, StoreError
from requests_refresh.stores import MemoryStore, TokenStore
from requests_refresh.testing import TokenStoreContract
from requests_refresh.tokens import Token
from tests.stores import processes
from tests.stores.contract import NEW, OLD, SAFETY, in_threads


class TestContract(TokenStoreContract):
    def make_store(self) -> TokenStore:
        return MemoryStore()


def cheap(name: str) -> Token:
    return Token(f"access-{name}")


def dear(name: str) -> Token:
    return Token(f"access-{name}", refresh_token=f"refresh-{name}")


def test_the_least_recently_used_makes_room() -> None:
    """What can be asked for again is evicted, the least recently used first."""
    store = MemoryStore(maxsize=2)
    store.save("a", cheap("a"))
    store.save("b", cheap("b"))
    store.load("a")
    store.save("c", cheap("c"))
    assert [store.load(name) for name in "abc"] == [cheap("a"), None, cheap("c")]
    store.save("d", dear("d"))
    assert [store.load(name) for name in "acd"] == [None, cheap("c"), dear("d")]


def test_a_refresh_token_is_never_evicted() -> None:
    """I7: a store full of refresh tokens refuses another identity and keeps what it has."""
    store = MemoryStore(maxsize=2)
    store.save("a", dear("a"))
    store.save("b", dear("b"))
    for token in (cheap("c"), dear("c")):
        with pytest.raises(StoreError, match=r"full.*2 identities.*maxsize") as caught:
            store.save("c", token)
        assert not isinstance(caught.value, StoreConflict)
    with pytest.raises(StoreError, match="full"), store.exclusive("c", 0.0):
        pass
    store.save("a", dear("a2"), replacing=dear("a"))
    assert [store.load(name) for name in "abc"] == [dear("a2"), dear("b"), None]
    store.delete("b")
    with store.exclusive("c", 0.0):
        store.save("c", dear("c"))


def test_a_token_that_loses_its_refresh_token_can_be_evicted() -> None:
    """What was kept for its refresh token is not kept for ever."""
    store = MemoryStore(maxsize=1)
    store.save("a", dear("a"))
    store.save("a", cheap("a"))
    store.save("b", cheap("b"))
    assert [store.load(name) for name in "ab"] == [None, cheap("b")]


def test_exclusive_keeps_room() -> None:
    """I7: room that was found before a refresh token is spent is still there for the save."""
    store = MemoryStore(maxsize=2)
    store.save("a", dear("a"))
    with store.exclusive("b", 0.0):
        with pytest.raises(StoreError, match="full"):
            store.save("c", dear("c"))
        with pytest.raises(StoreError, match="full"), store.exclusive("c", 0.0):
            pass
        with store.exclusive("a", 0.0):
            store.save("a", dear("a2"))
        store.save("b", dear("b"))
    assert [store.load(name) for name in "ab"] == [dear("a2"), dear("b")]


def test_exclusive_gives_unused_room_back() -> None:
    """Room that was kept and not used is everybody's again."""
    store = MemoryStore(maxsize=1)
    with store.exclusive("a", 0.0):
        pass
    store.save("b", dear("b"))
    assert store.load("b") == dear("b")


def test_exclusive_keeps_what_could_be_evicted() -> None:
    """A token is not evicted between the load and the save of a round; afterwards it may be."""
    store = MemoryStore(maxsize=2)
    store.save("a", cheap("a"))
    with store.exclusive("a", 0.0):
        store.save("b", cheap("b"))
        store.save("c", cheap("c"))
        assert store.load("a") == cheap("a")
        store.save("a", cheap("a2"), replacing=cheap("a"))
        for name in "def":
            store.save(name, cheap(name))
        assert store.load("a") == cheap("a2")
    for name in "gh":
        store.save(name, cheap(name))
    assert store.load("a") is None


def test_the_bound_holds_under_threads() -> None:
    """Threads that save, load and delete at once never exceed the bound or break the store."""
    store = MemoryStore(maxsize=5)
    store.save("kept", NEW)

    def churn(number: int) -> None:
        for turn in range(200):
            store.save(f"{number}-{turn % 7}", cheap("x"))
            store.load(f"{turn % 6}-{turn % 7}")
            store.delete(f"{number}-{turn % 3}")
            assert int(repr(store).split()[-1].rstrip(">")) <= 5

    in_threads(6, churn)
    assert store.load("kept") == NEW


@pytest.mark.parametrize("maxsize", [0, -1, 1.5, None, True, "10"])
def test_a_bound_that_is_none(maxsize: int) -> None:
    """A bound that cannot be meant is an error at once."""
    with pytest.raises(ConfigurationError, match="maxsize"):
        MemoryStore(maxsize=maxsize)


def test_repr_counts() -> None:
    """I9: the repr of a store is a count, not its tokens."""
    store = MemoryStore()
    store.save("a", dear("a"))
    store.save("b", cheap("b"))
    store.save("b", dear("b"))
    assert repr(store) == "<MemoryStore of 2>"


def test_pickle() -> None:
    """I14: an unpickled store is empty, says why, and works; its bound is the same."""
    store = MemoryStore(maxsize=1)
    store.save("default", OLD)
    other = pickle.loads(pickle.dumps(store))  # noqa: S301 - the bytes are from the line itself
    assert other.load("default") is None
    assert "pickle" in other.note
    assert "FileStore" in other.note
    other.save("default", NEW)
    with pytest.raises(StoreError, match="full"):
        other.save("b", NEW)
    assert store.load("default") == OLD
    assert store.note == ""


def test_copy() -> None:
    """I14: a copy in the same process is the same store."""
    store = MemoryStore()
    assert copy.copy(store) is store
    assert copy.deepcopy({"store": store})["store"] is store


def test_fork() -> None:
    """I14: the child has the access tokens only, no lock held, and a note that says why."""
    with processes.process(processes.fork_memory) as (_, connection):
        found, note, text, saved = processes.answer(connection)
    both, access, refresh = found
    assert both == Token("a", expires_at=5.0, scope="s").to_mapping()
    assert access == Token("b").to_mapping()
    assert refresh is None
    assert "forked" in note
    assert "FileStore" in note
    assert text == "<MemoryStore of 3>"
    assert saved


def test_fork_of_a_store_that_holds_no_refresh_token() -> None:
    """I14: where the parent keeps no refresh token, the child lacks nothing and is told nothing."""
    store = MemoryStore()
    store.save("a", cheap("a"))
    store._after_fork_in_child()
    assert store.load("a") == cheap("a")
    assert store.note == ""


def test_fork_in_the_middle_of_a_change() -> None:
    """I14: a fork while another thread is inside the store leaves the child one that works."""
    store = MemoryStore()
    store.save("a", cheap("a"))
    store.save("b", dear("b"))
    # As another thread may leave it: the lock is taken, the cache is half changed.
    store._lock.acquire()
    store._evictable["b"] = store._kept["b"]
    vars(store._evictable)["_LRUCache__order"].clear()
    store._after_fork_in_child()
    assert [store.load(name) for name in "ab"] == [cheap("a"), Token("access-b")]
    store.save("c", cheap("c"))
    with store.exclusive("a", SAFETY):
        pass
