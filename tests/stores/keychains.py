"""Keychains for tests: keyrings.alt's plain file at a place of the test's, and one with limits.

All need arguments, so that keyring never chooses one of them by itself.
"""

from __future__ import annotations

import os
from collections.abc import Callable

from keyring.backend import KeyringBackend
from keyring.backends import SecretService, fail, null
from keyrings.alt.file import PlaintextKeyring

from requests_refresh.stores.keyring import KeyringStore
from requests_refresh.tokens import Token
from tests.stores.contract import CANARY

SECRET = Token(CANARY, refresh_token=f"{CANARY}-r", extra={"id": CANARY})
KEY = ("sync", "token:default")  # where it is, in the service "sync"

Entries = dict[tuple[str, str], str]

# Given a type here, because keyring does not give them one.
Discarding: Callable[[], KeyringBackend] = null.Keyring
Refusing: Callable[[], KeyringBackend] = fail.Keyring
OfSecretService: Callable[[], KeyringBackend] = SecretService.Keyring


class PlainFile(PlaintextKeyring):  # type: ignore[misc] # keyrings.alt is not typed
    """keyrings.alt's plain file, kept where the test wants it."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.file_path = os.fspath(path)


class Keychain(KeyringBackend):
    """A keychain in memory, where a test can put something in the place of each call."""

    priority = 0.1

    def __init__(self, entries: Entries) -> None:
        self.entries = entries
        self.calls: list[str] = []
        self.on_get: Callable[[tuple[str, str]], object] | None = None
        self.on_set: Callable[[tuple[str, str], str], None] | None = None
        self.on_delete: Callable[[tuple[str, str]], None] | None = None

    def get_password(self, service: str, username: str) -> str | None:
        self.calls.append("get")
        if self.on_get is not None:
            found: str | None = self.on_get((service, username))  # type: ignore[assignment] # may lie
            return found
        return self.entries.get((service, username))

    def set_password(self, service: str, username: str, password: str) -> None:
        self.calls.append("set")
        if self.on_set is not None:
            self.on_set((service, username), password)
        else:
            self.entries[service, username] = password

    def delete_password(self, service: str, username: str) -> None:
        self.calls.append("delete")
        if self.on_delete is not None:
            self.on_delete((service, username))
        else:
            del self.entries[service, username]


def entering(store: KeyringStore) -> None:
    with store.exclusive("default", 0.0):
        pass


USES: dict[str, Callable[[KeyringStore], object]] = {
    "load": lambda store: store.load("default"),
    "save": lambda store: store.save("default", SECRET),
    "delete": lambda store: store.delete("default"),
    "exclusive": entering,
}
