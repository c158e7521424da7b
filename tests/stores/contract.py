"""What every store must do, whatever it keeps its tokens in: one class of tests.

A store's own tests subclass `StoreContract` and give `make_store`.
"""

from __future__ import annotations

import os
import pickle
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

import requests_refresh
from requests_refresh.errors import RefreshTimeout, StoreConflict
from requests_refresh.stores import TokenStore
from requests_refresh.tokens import Token

SAFETY = 60.0  # seconds; no test takes this long unless something hangs
CANARY = "canary-5f3c"

OLD = Token("access-0", refresh_token="refresh-0")
NEW = Token("access-1", refresh_token="refresh-1")
NEWER = Token("access-2", refresh_token="refresh-2")
FULL = Token(
    "access",
    refresh_token="refresh",
    token_type="DPoP",
    expires_at=1735689600.25,
    issued_at=1735686000.125,
    scope="read write",
    extra={"id": "id-token", "nested": {"list": [1, 2.5, None, True, "x"]}, "empty": {}},
)

# What a Token takes: any Unicode but control characters.
WORDS = st.text(st.characters(exclude_categories=["Cc", "Cs"]), min_size=1)
SECRETS = WORDS.map(str.strip).filter(bool)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner) | st.dictionaries(WORDS, inner),
    max_leaves=5,
)  # fmt: skip
IDENTITIES = st.text(st.characters(exclude_categories=["Cs"]))


def shown(error: BaseException, secret: str) -> Iterator[str]:
    """Every place where an error, its chain or the package's frames show `secret`."""
    package = os.path.dirname(requests_refresh.__file__)
    chain: list[BaseException | None] = [error]
    for link in chain:
        if link is None:
            continue
        if secret in f"{link} {link!r} {link.args!r} {vars(link)!r}":
            yield repr(link)
        chain += [other for other in (link.__cause__, link.__context__) if other not in chain]
        trace = link.__traceback__
        while trace is not None:
            frame = trace.tb_frame
            if frame.f_code.co_filename.startswith(package):
                for name, value in frame.f_locals.items():
                    if secret in repr(value):
                        yield f"{frame.f_code.co_name}.{name}"
            trace = trace.tb_next


def in_threads(count: int, work: Callable[[int], object]) -> list[object]:
    """Run `work(0)` to `work(count - 1)` at the same time; what they returned."""
    barrier = threading.Barrier(count, timeout=SAFETY)

    def run(number: int) -> object:
        barrier.wait()
        return work(number)

    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(run, range(count)))


class StoreContract:
    """Subclass it, and give `make_store`."""

    def make_store(self) -> TokenStore:
        """A store that holds nothing, and that no other test uses."""
        raise NotImplementedError

    def share(self, store: TokenStore) -> TokenStore:
        """Another way into what `store` holds, where there is one."""
        return store

    @pytest.fixture
    def store(self) -> Iterator[TokenStore]:
        store = self.make_store()
        yield store
        store.close()

    def test_nothing_is_there_at_first(self, store: TokenStore) -> None:
        """A new store holds no token and has nothing to say."""
        assert store.load("default") is None
        assert store.note == ""

    @pytest.mark.parametrize(
        "token", [FULL, Token("a"), Token(refresh_token="r"), Token("a", refresh_token="r")]
    )
    def test_what_was_saved_is_loaded(self, store: TokenStore, token: Token) -> None:
        """Every field of a token comes back as it was."""
        store.save("default", token)
        assert self.share(store).load("default") == token

    @settings(
        max_examples=30,
        database=None,
        deadline=None,
        suppress_health_check=[
            HealthCheck.function_scoped_fixture,
            HealthCheck.differing_executors,
        ],
    )
    @given(IDENTITIES, SECRETS, SECRETS, WORDS.filter(str.strip), st.dictionaries(WORDS, JSON))
    @example("", "a", "\U0001f511 ключ", "é e\u0301", {"\u2028": "\x00\x7f\ufeff\uffff\U0010ffff"})
    @example("../../etc/passwd", "a", "r", "s", {})
    @example("a/b\\c:\x00\n", "a", "r", "s", {"{": '"}'})
    def test_any_text(
        self,
        store: TokenStore,
        identity: str,
        access: str,
        refresh: str,
        scope: str,
        extra: dict[str, object],
    ) -> None:
        """Every Unicode text comes back, in an identity as well as in a token."""
        token = Token(access, refresh_token=refresh, scope=scope, extra=extra)
        store.save(identity, token)
        assert self.share(store).load(identity) == token
        store.delete(identity)
        assert self.share(store).load(identity) is None

    def test_identities_are_apart(self, store: TokenStore) -> None:
        """Identities that look alike are different ones, and a save or delete touches one."""
        names = ["", "a", "A", "a ", "a/", "é", "e\u0301", ".", "..", "a" * 5000, "\x00", "null"]
        for number, name in enumerate(names):
            store.save(name, Token(f"access-{number}"))
        store.delete("a")
        found = [token and token.access_token for token in map(self.share(store).load, names)]
        assert found == ["access-0", None, *(f"access-{n}" for n in range(2, len(names)))]

    def test_save_puts_the_new_token_in_place_of_the_old(self, store: TokenStore) -> None:
        """Without `replacing` a save always succeeds."""
        store.save("default", OLD)
        store.save("default", NEW)
        assert store.load("default") == NEW

    def test_save_where_nothing_was(self, store: TokenStore) -> None:
        """`replacing=None` saves only if nothing is there."""
        store.save("default", OLD, replacing=None)
        with pytest.raises(StoreConflict, match="default"):
            store.save("default", NEW, replacing=None)
        assert store.load("default") == OLD

    def test_save_in_place_of_a_token(self, store: TokenStore) -> None:
        """`replacing` a token saves only if that issue is still there, whatever else it says."""
        store.save("default", OLD)
        same = Token("access-0", refresh_token="refresh-0", scope="other", expires_at=1.0)
        store.save("default", NEW, replacing=same)
        for wrong in (OLD, Token("access-1"), Token("access-0", refresh_token="refresh-1")):
            with pytest.raises(StoreConflict):
                store.save("default", NEWER, replacing=wrong)
        assert store.load("default") == NEW

    def test_save_in_place_of_a_token_that_is_gone(self, store: TokenStore) -> None:
        """A token that was deleted is not brought back by a late save: logged out stays so."""
        with pytest.raises(StoreConflict):
            store.save("default", NEW, replacing=OLD)
        assert store.load("default") is None

    def test_delete(self, store: TokenStore) -> None:
        """A delete removes what is there, and nothing there is no error."""
        store.delete("default")
        store.save("default", OLD)
        store.delete("default")
        store.delete("default", replacing=None)
        assert self.share(store).load("default") is None

    def test_delete_of_one_issue(self, store: TokenStore) -> None:
        """A delete that names a token never removes a newer one."""
        store.save("default", NEW)
        for wrong in (OLD, None):
            with pytest.raises(StoreConflict):
                store.delete("default", replacing=wrong)
        assert store.load("default") == NEW
        store.delete("default", replacing=NEW)
        with pytest.raises(StoreConflict):
            store.delete("default", replacing=NEW)
        assert store.load("default") is None

    def test_one_of_many_swaps_wins(self, store: TokenStore) -> None:
        """Of saves that replace the same token at the same time exactly one succeeds."""
        stores = [store, *(self.share(store) for _ in range(7))]
        for start in (None, OLD):
            if start is not None:
                store.save("default", start)

            def swap(number: int, start: Token | None = start) -> str | None:
                mine = f"access-{number}-{start}"
                try:
                    stores[number].save("default", Token(mine), replacing=start)
                except StoreConflict:
                    return None
                return mine

            winners = [name for name in in_threads(8, swap) if name is not None]
            found = store.load("default")
            assert found is not None
            assert winners == [found.access_token]

    def test_no_save_is_lost(self, store: TokenStore) -> None:
        """Saves for many identities at once, through several ways in, are all there."""
        stores = [store, *(self.share(store) for _ in range(7))]

        def save(number: int) -> None:
            for turn in range(4):
                stores[number].save(f"{number}-{turn}", Token(f"access-{number}-{turn}"))
                stores[number].load(f"{7 - number}-{turn}")

        in_threads(8, save)
        for number in range(8):
            for turn in range(4):
                assert store.load(f"{number}-{turn}") == Token(f"access-{number}-{turn}")

    def test_one_holder(self, store: TokenStore) -> None:
        """I1: while one thread holds an identity, nobody else gets it, however he comes in."""
        for other in (store, self.share(store)):
            with store.exclusive("default", SAFETY):
                for timeout in (0.0, 0.02):
                    with (
                        ThreadPoolExecutor(1) as pool,
                        pytest.raises(RefreshTimeout, match="try again"),
                    ):
                        pool.submit(self._enter, other, timeout).result(SAFETY)
            self._enter(other, 0.0)

    @staticmethod
    def _enter(store: TokenStore, timeout: float) -> None:
        with store.exclusive("default", timeout):
            pass

    def test_holders_of_other_identities_do_not_meet(self, store: TokenStore) -> None:
        """Each identity has a lock of its own: one that is held keeps no other waiting."""
        with store.exclusive("a", 0.0), store.exclusive("b", 0.0), store.exclusive("A", 0.0):
            pass

    def test_holding_is_for_one_at_a_time(self, store: TokenStore) -> None:
        """I1: reading, thinking and writing inside `exclusive` loses no step among threads."""
        stores = [self.share(store) for _ in range(6)]

        def count(number: int) -> None:
            for _ in range(5):
                with stores[number].exclusive("default", SAFETY):
                    before = stores[number].load("default")
                    steps = before.extra["steps"] if before else 0
                    stores[number].save("default", Token("a", extra={"steps": steps + 1}))

        in_threads(6, count)
        assert store.load("default") == Token("a", extra={"steps": 30})

    def test_an_error_inside_ends_the_holding(self, store: TokenStore) -> None:
        """What is raised inside `exclusive` comes out as it is, and frees the identity."""
        with pytest.raises(ZeroDivisionError), store.exclusive("default", 0.0):
            raise ZeroDivisionError
        self._enter(store, 0.0)

    def test_saving_while_holding(self, store: TokenStore) -> None:
        """Who holds an identity can load, save and delete it, and so can everybody else."""
        with store.exclusive("default", 0.0):
            store.save("default", OLD, replacing=None)
            self.share(store).save("default", NEW, replacing=OLD)
            assert store.load("default") == NEW
            store.delete("default", replacing=NEW)

    def test_waiting_ends_with_a_change(self, store: TokenStore) -> None:
        """A waiter learns of a save or delete before its time is over."""
        other = self.share(store)
        changes: list[Callable[[], None]] = [
            lambda: other.save("default", OLD),
            lambda: other.save("default", NEW, replacing=OLD),
            lambda: other.delete("default"),
        ]
        for change in changes:
            before = store.load("default")
            waiting = threading.Event()

            def wait(before: Token | None = before, waiting: threading.Event = waiting) -> None:
                store.load("default")
                waiting.set()
                while store.load("default") == before:
                    store.wait("default", 10 * SAFETY)

            waiter = threading.Thread(target=wait, daemon=True)
            waiter.start()
            assert waiting.wait(SAFETY)
            change()
            waiter.join(SAFETY)
            assert not waiter.is_alive()

    def test_no_change_is_missed(self, store: TokenStore) -> None:
        """A change between the `load` and the `wait` ends the wait at once."""
        done = threading.Event()

        def look_away() -> None:
            store.load("default")
            self.share(store).save("default", NEW)
            store.wait("default", 10 * SAFETY)
            done.set()

        threading.Thread(target=look_away, daemon=True).start()
        assert done.wait(SAFETY)

    def test_waiting_has_an_end(self, store: TokenStore) -> None:
        """Where nothing changes, a wait ends with its time, loaded before or not."""
        store.wait("default", 0.0)
        store.wait("default", -1.0)
        store.load("default")
        store.wait("default", 0.01)

    def test_closing(self, store: TokenStore) -> None:
        """A closed store opens again at its next use."""
        store.save("default", NEW)
        store.close()
        store.close()
        store.load("default")
        store.save("default", NEWER)
        assert store.load("default") == NEWER

    def test_no_secret_is_shown(self, store: TokenStore) -> None:
        """I9: a store's repr, its pickle and its errors with all their locals show no secret."""
        secret = Token(CANARY, refresh_token=f"{CANARY}-r", extra={"id": CANARY})
        store.save("default", secret)
        with pytest.raises(StoreConflict) as caught:
            store.save("default", secret, replacing=None)
        assert not list(shown(caught.value, CANARY))
        with pytest.raises(StoreConflict) as caught:
            store.delete("default", replacing=NEW)
        assert not list(shown(caught.value, CANARY))
        assert CANARY not in f"{store!r} {store} {store.note}"
        assert CANARY.encode() not in pickle.dumps(store)
