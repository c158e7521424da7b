"""`TokenStore`: a store that gives `load`, `save` and `delete` only keeps the whole contract."""

from __future__ import annotations

import copy
import pickle
import threading

from requests_refresh.errors import StoreConflict
from requests_refresh.stores import ANY, TokenStore
from requests_refresh.stores.base import Exclusion, Replacing
from requests_refresh.testing import TokenStoreContract
from requests_refresh.tokens import Token


class DictStore(TokenStore):
    """What a user may write in twenty lines."""

    def __init__(self, tokens: dict[str, Token] | None = None) -> None:
        self._tokens = {} if tokens is None else tokens
        self._guard = threading.Lock()

    def load(self, identity: str) -> Token | None:
        return self._tokens.get(identity)

    def save(self, identity: str, token: Token, *, replacing: Replacing = ANY) -> None:
        with self._guard:
            self._compare(identity, replacing)
            self._tokens[identity] = token

    def delete(self, identity: str, *, replacing: Replacing = ANY) -> None:
        with self._guard:
            self._compare(identity, replacing)
            self._tokens.pop(identity, None)

    def _compare(self, identity: str, replacing: Replacing) -> None:
        token = self._tokens.get(identity)
        if replacing is ANY or token is replacing:
            return
        if token is None or not token.same_issue(replacing):
            raise StoreConflict(f"something else is stored for {identity!r}")

    def __reduce__(self) -> tuple[type[DictStore], tuple[()]]:
        return DictStore, ()


class TestContract(TokenStoreContract):
    def make_store(self) -> TokenStore:
        return DictStore()


def test_exclusion_is_made_anew_for_a_copy() -> None:
    """I14: a pickle or copy of what keeps threads apart is one that nobody holds."""
    exclusion = Exclusion()
    with exclusion("default", 0.0):
        for other in (pickle.loads(pickle.dumps(exclusion)), copy.copy(exclusion)):  # noqa: S301 - the bytes are from the line itself
            with other("default", 0.0):
                pass
