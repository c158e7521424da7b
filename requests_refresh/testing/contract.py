"""`TokenStoreContract`: what every store must do, whatever it keeps its tokens in.

One class of pytest tests, for stores of your own and for ours.
"""

from __future__ import annotations

import pickle
import threading
from collections.abc import Callable
from functools import partial

import pytest

from ..errors import StoreConflict, StoreError
from ..stores import TokenStore
from ..tokens import Token
from .contract_processes import ProcessContract
from .contract_support import (
    CANARY,
    FULL,
    NASTY,
    NEW,
    NEWER,
    OLD,
    aside,
    assure,
    at_once,
    conflict,
    enter,
    in_threads,
    kept_out,
    limited,
    random_texts,
    shown,
    word,
)
from .peer import changed, count


class TokenStoreContract(ProcessContract):
    """The contract of a `TokenStore`, as tests. A subclass whose name begins with Test runs them.

        from requests_refresh.testing import TokenStoreContract

        class TestMyStore(TokenStoreContract):
            def make_store(self):
                return MyStore(...)

    It needs pytest. A failure says in words what the store did wrong.

    make_store(): a new store that holds nothing, and that no other test uses.
        It is called once for each test, and the store is closed afterwards.
    share(store): another way into what `store` holds. For a store of which
        there can be several instances, give another one; else leave it.

    Attributes of the class:

    between_processes: whether processes share what the store holds. True adds
        the tests with other processes and with forks. The store must pickle;
        an unpickled one is another instance on the same tokens. Its class must
        be importable, so it may be in your package or in the module of tests.
    takeover: seconds for which the place of a holder that was killed stays
        held: the lease, if `exclusive` is one, or 0 if the operating system
        ends it. One test waits for one and a half of it, another for all of
        it; a store with a lease of a second is quick to test.
    patience: seconds after which what hangs is given up. No passing test
        takes longer for it.
    longest: characters of the longest value that the store must take, in each
        of a token's texts. Less for a store that says that it takes less.

    Covered: values and identities of every Unicode; compare-and-swap and its
    races; exclusion between threads, instances and processes; deadlines;
    waiting for a change; closing and opening again; errors, and that none of
    them and no repr or pickle shows a secret; and between processes a holder
    that lives, one that is killed, and forks. Not covered, because no test
    outside can force it: a store that is unreachable, full or corrupt.
    """

    longest: int = 100_000

    @limited
    def test_nothing_is_there_at_first(self, store: TokenStore) -> None:
        """A new store holds no token and has nothing to say."""
        assert store.load("default") is None, "A new store holds something, or `load` is not None."
        assert store.note == "", "`note` of a store that nothing has happened to is not empty."

    @pytest.mark.parametrize(
        "token",
        [FULL, Token("a"), Token(refresh_token="r"), Token("a", refresh_token="r", scope="")],
        ids=["full", "access", "refresh", "both"],
    )
    @limited
    def test_what_was_saved_is_loaded(self, store: TokenStore, token: Token) -> None:
        """Every field of a token comes back as it was."""
        store.save("default", token)
        found = self._another(store).load("default")
        assert found is not None, "What was saved is not there."
        wrong = [
            name for name, value in token.to_mapping().items() if found.to_mapping()[name] != value
        ]
        assert not wrong, f"These fields of the token came back otherwise: {wrong}"

    @limited
    def test_any_text(self, store: TokenStore) -> None:
        """Every Unicode text comes back, in an identity as well as in a token."""
        texts = [*NASTY, *random_texts(100)]
        tokens = {}
        for number in range(0, len(texts), 3):
            one, two, three = (texts[(number + step) % len(texts)] for step in range(3))
            tokens[one] = Token(
                word(two), refresh_token=word(three), scope=word(one), extra={word(two): [one]}
            )
            tokens[two + three] = Token(word(three), extra={"\u2028 '\"%": {two: three}})
        for identity, token in tokens.items():
            store.save(identity, token)
        other = self._another(store)
        wrong = [name for name, token in tokens.items() if other.load(name) != token]
        assert not wrong, f"Tokens of these identities did not come back as saved: {wrong!a:.2000}"
        for identity in NASTY:
            store.delete(identity)
        left = [name for name in NASTY if other.load(name) is not None]
        assert not left, f"These identities were deleted, and are still there: {left!a:.2000}"

    @limited
    def test_long_texts(self, store: TokenStore) -> None:
        """A token may be long: a JWT with many claims is."""
        long = "\u00e9x" * (self.longest // 2)
        token = Token(long, refresh_token=long[1:], extra={"id": long})
        store.save("default", token)
        assert self._another(store).load("default") == token, (
            f"Texts of {self.longest} characters came back otherwise. If the store has a limit,"
            " it has to raise StoreError; then say it in `longest`."
        )

    @limited
    def test_identities_are_apart(self, store: TokenStore) -> None:
        """Identities that look alike are different ones, and a save or delete touches one."""
        names = list(dict.fromkeys([*NASTY, "a/", "\u00e9", "e\u0301", "a" * 5000, "a" * 5001]))
        for number, name in enumerate(names):
            store.save(name, Token(f"access-{number}"))
        store.delete("a")
        load = self._another(store).load
        wrong = [
            name
            for number, name in enumerate(names)
            if load(name) != (None if name == "a" else Token(f"access-{number}"))
        ]
        assert not wrong, (
            f"These identities are taken for others that look alike: {wrong!a:.2000}. Identities"
            " are the same only if every character is: mind case, spaces, length and collations."
        )

    @limited
    def test_save_puts_the_new_token_in_place_of_the_old(self, store: TokenStore) -> None:
        """Without `replacing` a save always succeeds."""
        store.save("default", OLD)
        store.save("default", NEW)
        assert store.load("default") == NEW, "A second save did not take the first one's place."

    @limited
    def test_save_where_nothing_was(self, store: TokenStore) -> None:
        """`replacing=None` saves only if nothing is there."""
        store.save("default", OLD, replacing=None)
        with conflict("`save` with replacing=None succeeded where a token was"):
            store.save("default", NEW, replacing=None)
        assert store.load("default") == OLD, "A save that raised StoreConflict has written."

    @limited
    def test_save_in_place_of_a_token(self, store: TokenStore) -> None:
        """`replacing` a token saves only if that issue is still there, whatever else it says."""
        store.save("default", OLD)
        same = Token("access-0", refresh_token="refresh-0", scope="other", expires_at=1.0)
        try:
            store.save("default", NEW, replacing=same)
        except StoreConflict:
            pytest.fail("A token of the same issue was refused: compare by Token.same_issue.")
        for wrong in (OLD, Token("access-1"), Token("access-0", refresh_token="refresh-1")):
            with conflict("`save` replaced another token than the one it was to replace"):
                store.save("default", NEWER, replacing=wrong)
        assert store.load("default") == NEW, "A save that raised StoreConflict has written."

    @limited
    def test_save_in_place_of_a_token_that_is_gone(self, store: TokenStore) -> None:
        """A token that was deleted is not brought back by a late save: logged out stays so."""
        with conflict("`save` with replacing=a token succeeded where nothing was"):
            store.save("default", NEW, replacing=OLD)
        assert store.load("default") is None, "A save that raised StoreConflict has written."

    @limited
    def test_delete(self, store: TokenStore) -> None:
        """A delete removes what is there, and nothing there is no error."""
        store.delete("default")
        store.save("default", OLD)
        store.delete("default")
        store.delete("default", replacing=None)
        assert self._another(store).load("default") is None, "What was deleted is still there."

    @limited
    def test_delete_of_one_issue(self, store: TokenStore) -> None:
        """A delete that names a token never removes a newer one."""
        store.save("default", NEW)
        for wrong in (OLD, None):
            with conflict("`delete` removed another token than the one it was to remove"):
                store.delete("default", replacing=wrong)
        assert store.load("default") == NEW, "A delete that raised StoreConflict has removed."
        store.delete("default", replacing=NEW)
        with conflict("`delete` with replacing=a token succeeded where nothing was"):
            store.delete("default", replacing=NEW)
        assert store.load("default") is None, "What was deleted is still there."

    @limited
    def test_identities(self, store: TokenStore) -> None:
        """A store that can list its identities lists those that hold a token, as they are."""
        names = ["a", "A", "a ", "\u00e9/\U0001f511%", "gone"]
        for name in names:
            store.save(name, NEW)
        store.delete("gone")
        try:
            found = sorted(self._another(store).identities())
        except StoreError:
            pytest.skip("this store says that it cannot list its identities")
        assert found == sorted(names[:-1]), "`identities` tells of others than those stored."

    @limited
    def test_one_of_many_swaps_wins(self, store: TokenStore) -> None:
        """Of saves that replace the same token at the same time exactly one succeeds."""
        stores = [store, *(self._another(store) for _ in range(7))]
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

            winners = [name for name in in_threads(8, swap, self.patience) if name is not None]
            assert len(winners) == 1, (
                f"{len(winners)} of 8 threads replaced the same token. Comparing and saving has"
                " to be one step."
            )
            found = store.load("default")
            assert found == Token(winners[0]), (
                "The save that succeeded is not what is stored: one that failed has written."
            )

    @limited
    def test_no_save_is_lost(self, store: TokenStore) -> None:
        """Saves for many identities at once, through several ways in, are all there."""
        stores = [store, *(self._another(store) for _ in range(7))]

        def save(number: int) -> None:
            for turn in range(4):
                stores[number].save(f"{number}-{turn}", Token(f"access-{number}-{turn}"))
                stores[number].load(f"{7 - number}-{turn}")

        in_threads(8, save, self.patience)
        names = [f"{number}-{turn}" for number in range(8) for turn in range(4)]
        lost = [name for name in names if store.load(name) != Token(f"access-{name}")]
        assert not lost, f"Saves were lost while other identities were saved: {lost}"

    @limited
    def test_one_holder(self, store: TokenStore) -> None:
        """I1: while one thread holds an identity, nobody else gets it, however he comes in."""
        for other in (store, self._another(store)):
            with store.exclusive("default", self.patience) as held:
                assure(held, min(1.0, self.takeover / 2 or 1.0))
                for timeout in (0.0, 0.02):
                    with kept_out("Another thread entered what one thread holds"):
                        aside(partial(enter, other, "default", timeout), self.patience)
            enter(other, "default", 0.0)  # what nobody holds any more

    @limited
    def test_a_holder_does_not_enter_again(self, store: TokenStore) -> None:
        """`exclusive` is not reentrant: two rounds in one thread are two rounds."""
        with store.exclusive("default", self.patience):
            with kept_out("The thread that holds an identity entered it again"):
                enter(store, "default", 0.0)
            with kept_out("The thread that holds an identity left it by trying to enter again"):
                aside(partial(enter, store, "default", 0.0), self.patience)
        enter(store, "default", 0.0)

    @limited
    def test_holders_of_other_identities_do_not_meet(self, store: TokenStore) -> None:
        """Each identity has a lock of its own: one that is held keeps no other waiting."""
        with store.exclusive("a", 0.0), store.exclusive("b", 0.0), store.exclusive("A", 0.0):
            pass

    @limited
    def test_holding_is_for_one_at_a_time(self, store: TokenStore) -> None:
        """I1: reading, thinking and writing inside `exclusive` loses no step among threads."""
        stores = [self._another(store) for _ in range(6)]
        in_threads(6, lambda n: count(stores[n], "default", 5, self.patience), self.patience)
        assert store.load("default") == Token("a", extra={"steps": 30}), (
            "Of 30 steps taken inside `exclusive` some were lost: two threads were in it at once,"
            " or `load` inside it gave an older token."
        )

    @limited
    def test_an_error_inside_ends_the_holding(self, store: TokenStore) -> None:
        """What is raised inside `exclusive` comes out as it is, and frees the identity."""
        with pytest.raises(ZeroDivisionError), store.exclusive("default", 0.0):
            raise ZeroDivisionError
        enter(store, "default", 0.0)

    @limited
    def test_saving_while_holding(self, store: TokenStore) -> None:
        """Who holds an identity can load, save and delete it, and so can everybody else."""
        with store.exclusive("default", 0.0):
            store.save("default", OLD, replacing=None)
            self._another(store).save("default", NEW, replacing=OLD)
            assert store.load("default") == NEW, "Inside `exclusive` an old token is loaded."
            store.delete("default", replacing=NEW)

    @limited
    def test_waiting_ends_with_a_change(self, store: TokenStore) -> None:
        """A waiter learns of a save or delete before its time is over."""
        other = self._another(store)
        changes: list[Callable[[], None]] = [
            lambda: other.save("default", OLD),
            lambda: other.save("default", NEW, replacing=OLD),
            lambda: other.delete("default"),
        ]
        for change in changes:
            looked = threading.Event()
            watch, see = partial(self._watch, store, looked), partial(self._see, looked, change)
            at_once([watch, see], self.patience)

    def _watch(self, store: TokenStore, looked: threading.Event) -> None:
        before = store.load("default")
        looked.set()
        changed(store, "default", before, 10 * self.patience)

    def _see(self, looked: threading.Event, change: Callable[[], None]) -> None:
        assert looked.wait(self.patience), "`load` hangs."
        change()

    @limited
    def test_no_change_is_missed(self, store: TokenStore) -> None:
        """A change between the `load` and the `wait` ends the wait at once."""

        def look_away() -> None:
            store.load("default")
            self._another(store).save("default", NEW)
            store.wait("default", 10 * self.patience)

        aside(look_away, self.patience, "A `wait` after a change that came since `load`")

    @limited
    def test_waiting_has_an_end(self, store: TokenStore) -> None:
        """Where nothing changes, a wait ends with its time, loaded before or not."""
        store.wait("default", 0.0)
        store.wait("default", -1.0)
        store.load("default")
        store.wait("default", 0.01)

    @limited
    def test_closing(self, store: TokenStore) -> None:
        """A close loses nothing, and a closed store opens again at its next use."""
        store.save("default", NEW)
        store.close()
        store.close()
        assert store.load("default") == NEW, "What was saved before `close` is gone after it."
        store.close()
        assert self._another(store).load("default") == NEW, "Another instance lost it by `close`."
        store.save("default", NEWER, replacing=NEW)
        enter(store, "default", 0.0)
        assert store.load("default") == NEWER, "A store does not save after `close`."

    @limited
    def test_no_secret_is_shown(self, store: TokenStore) -> None:
        """I9: a store's repr, its pickle and its errors with all their locals show no secret."""
        secret = Token(CANARY, refresh_token=f"{CANARY}-r", extra={"id": CANARY})
        store.save("default", secret)
        places: list[str] = []
        with pytest.raises(StoreConflict) as caught:
            store.save("default", secret, replacing=None)
        places += shown(caught.value, CANARY)
        with pytest.raises(StoreConflict) as caught:
            store.delete("default", replacing=NEW)
        places += shown(caught.value, CANARY)
        assert not places, (
            f"A StoreConflict shows a token's secret in {places}: in its message, or in a local"
            " of a frame in its traceback. Keep what has seen the secret out of the way of the"
            " raise: a function that returns whether to raise."
        )
        assert CANARY not in f"{store!r} {store} {store.note}", "The store's repr shows a secret."
        try:
            pickled = pickle.dumps(store)
        except Exception:
            return  # what does not pickle shows nothing in a pickle
        assert CANARY.encode() not in pickled, (
            "The store's pickle has a secret in it. Let `__reduce__` raise TypeError, or return how"
            " to open the store anew."
        )
